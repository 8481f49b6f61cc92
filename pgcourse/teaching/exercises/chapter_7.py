"""Exercise 7.4: the TD error where episodes terminate or are truncated."""

import numpy as np

from pgcourse.maths.td import td_error
from pgcourse.teaching.exercises.engine import Cases, Exercise


def td_errors(r, v, next_v, terminated, truncated, gamma):
    """Return δ = r + γ v(s′) − v(s), shape (N,), without γ v(s′) where the episode terminated."""
    return td_error(r, v, next_v, terminated, gamma)


def _cases_7_4(rng: np.random.Generator) -> Cases:
    no, yes = np.array([False]), np.array([True])
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), yes, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, yes, 0.5
    for _ in range(7):
        n = rng.integers(3, 7)
        yield *rng.normal(size=(3, n)), rng.random(n) < 0.3, rng.random(n) < 0.3, rng.uniform(0.5, 0.99)


_MISCONCEPTIONS_7_4 = {
    "After termination there is no next state: leave out γ v(s′) there.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v - v
    ),
    "You leave out γ v(s′) at truncation too. A truncated episode would have gone on: keep it there.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~(term | trunc) - v
    ),
    "It is the other way round: leave out γ v(s′) where `terminated`, keep it where `truncated`.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~trunc - v
    ),
    "The discount is missing.": lambda r, v, next_v, term, trunc, gamma: r + next_v * ~term - v,
    "This is the TD target. The TD error is the target minus v(s).": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~term
    ),
    "The sign is wrong: better than expected should be positive.": (
        lambda r, v, next_v, term, trunc, gamma: -td_errors(r, v, next_v, term, trunc, gamma)
    ),
    "You leave out v(s) at termination. The critic's prediction has to be subtracted there too.": (
        lambda r, v, next_v, term, trunc, gamma: r + (gamma * next_v - v) * ~term
    ),
    "You leave out the reward at termination. The last reward counts.": (
        lambda r, v, next_v, term, trunc, gamma: (r + gamma * next_v) * ~term - v
    ),
    "At termination the TD error is not 0 but r − v(s).": (
        lambda r, v, next_v, term, trunc, gamma: (r + gamma * next_v - v) * ~term
    ),
    "v(s) and v(s′) are exchanged.": lambda r, v, next_v, term, trunc, gamma: r + gamma * v * ~term - next_v,
    "Do not discount the reward.": lambda r, v, next_v, term, trunc, gamma: gamma * (r + next_v * ~term) - v,
}

EXERCISES = [Exercise("7.4", td_errors, _cases_7_4, _MISCONCEPTIONS_7_4)]
