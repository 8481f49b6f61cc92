"""Exercise 6.4: advantages with the leave-one-out baseline."""

import numpy as np

from pgcourse.maths.returns import leave_one_out_baseline
from pgcourse.teaching.exercises.engine import Cases, Exercise


def leave_one_out_advantage(R):
    """Return each episode's return minus the mean return of the other episodes, for R of shape (E,)."""
    return R - leave_one_out_baseline(R[:, None])[:, 0]


def _cases_6_4(rng: np.random.Generator) -> Cases:
    yield (np.array([0.0, 1.0]),)
    yield (np.array([1.0, 2.0, 6.0]),)
    for _ in range(8):
        yield (rng.normal(size=rng.integers(3, 9)) + 5,)


_MISCONCEPTIONS_6_4 = {
    "The mean includes the episode's own return. Leave it out.": lambda R: R - R.mean(),
    "This is the baseline. Subtract it from the return.": lambda R: R - leave_one_out_advantage(R),
    "There are only E − 1 others, but you divide by E.": lambda R: R - (R.sum() - R) / len(R),
    "You standardise. Only subtract the mean of the others.": lambda R: (R - R.mean()) / R.std(),
    "The sign is wrong: better than the others should be positive.": lambda R: -leave_one_out_advantage(R),
    "You subtract the sum of the others. Subtract their mean.": lambda R: R - (R.sum() - R),
    "You standardise, with E − 1 in the variance. Only subtract the mean of the others.": (
        lambda R: (R - R.mean()) / R.std(ddof=1)
    ),
}

EXERCISES = [Exercise("6.4", leave_one_out_advantage, _cases_6_4, _MISCONCEPTIONS_6_4)]
