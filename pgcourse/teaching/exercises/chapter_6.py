"""Exercises 6.4 and 6.5: advantages with the leave-one-out baseline, and a test of the reward-to-go."""

from collections.abc import Callable

import numpy as np

from pgcourse.maths.returns import leave_one_out_baseline
from pgcourse.teaching.exercises.engine import Cases, Exercise


def leave_one_out_advantage(R):
    """Return each episode's return minus the mean return of the other episodes, for R of shape (E,)."""
    return R - leave_one_out_baseline(R[:, None])[:, 0]


def is_reward_to_go(function):
    """Return whether function(r) is the undiscounted reward-to-go of each row of r, shape (N, T)."""
    return _accepts(function, _distinct_rewards(), _definition)


def _cases_6_4(rng: np.random.Generator) -> Cases:
    yield (np.array([0.0, 1.0]),)
    yield (np.array([1.0, 2.0, 6.0]),)
    for _ in range(8):
        yield (rng.normal(size=rng.integers(3, 9)) + 5,)


def _cases_6_5(rng: np.random.Generator) -> Cases:
    for function in (_from_the_end, _total_minus_past, *_WRONG):
        yield (_Candidate(function),)


class _Candidate:
    """A function that a test is tried on, shown by its description."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]):
        self._function = function

    def __call__(self, r: object) -> np.ndarray:
        return self._function(np.array(r, float))

    def __repr__(self) -> str:
        return f"<{self._function.__doc__}>"


def _from_the_end(r):
    """right: adds up the rewards from the last one backwards"""
    return r[..., ::-1].cumsum(axis=-1)[..., ::-1]


def _total_minus_past(r):
    """right, up to rounding: the total minus what came before"""
    return r.sum(axis=-1, keepdims=True) - (r.cumsum(axis=-1) - r)


def _total(r):
    """wrong: the total return at every step"""
    return np.broadcast_to(r.sum(axis=-1, keepdims=True), r.shape).copy()


def _one_step_late(r):
    """wrong: leaves out the step's own reward"""
    return _from_the_end(r) - r


def _reset_at_rewards(r):
    """wrong: restarts the sum at every reward that is not 0"""
    G, next_G = np.zeros_like(r), np.zeros(r.shape[:-1])
    for t in reversed(range(r.shape[-1])):
        G[..., t] = next_G = np.where(r[..., t] != 0, r[..., t], next_G)
    return G


def _reversed(r):
    """wrong: the right numbers in reverse order"""
    return r[..., ::-1].cumsum(axis=-1)


def _discounted(r):
    """wrong: discounts with 0.999"""
    return _from_the_end(r * 0.999 ** np.arange(r.shape[-1])) / 0.999 ** np.arange(r.shape[-1])


def _across_episodes(r):
    """wrong: the sum runs on into the next episode"""
    return _from_the_end(r.ravel()).reshape(r.shape)


_WRONG = _total, _one_step_late, _reset_at_rewards, _reversed, _discounted, _across_episodes


def _distinct_rewards(n_episodes: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_episodes, 5))


def _definition(r):
    return np.array([[row[t:].sum() for t in range(len(row))] for row in r])


def _accepts(function, r, definition, steps=np.s_[:], **tolerance):
    return np.allclose(function(r)[:, steps], definition(r)[:, steps], **tolerance)


def _one_reward_at_the_end() -> np.ndarray:
    return np.eye(5)[[4, 4, 4]]


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

_MISCONCEPTIONS_6_5 = {
    "Your test accepts everything.": lambda function: True,
    "Your test accepts nothing, not even right functions.": lambda function: False,
    "It is the other way round: True for right functions, False for wrong ones.": (
        lambda function: not is_reward_to_go(function)
    ),
    "One episode is too few: a sum that runs on into the next episode passes.": (
        lambda function: _accepts(function, _distinct_rewards(1), _definition)
    ),
    "A single reward at the end is too special. Give every step a reward of its own.": (
        lambda function: _accepts(function, _one_reward_at_the_end(), _definition)
    ),
    "You compare the first step only, where the total return is right. Compare all steps.": (
        lambda function: _accepts(function, _distinct_rewards(), _definition, np.s_[:1])
    ),
    "You compare the last step only. Compare all steps.": (
        lambda function: _accepts(function, _distinct_rewards(), _definition, np.s_[-1:])
    ),
    "You compare sums or means. They do not see that the order is wrong.": (
        lambda function: np.allclose(
            function(_distinct_rewards()).sum(axis=1), _definition(_distinct_rewards()).sum(axis=1)
        )
    ),
    "Your tolerance is too large: a discount of 0.999 passes.": (
        lambda function: _accepts(function, _distinct_rewards(), _definition, atol=0.05)
    ),
    "You ask for equality to the last bit. Allow for rounding, as np.allclose does.": (
        lambda function: bool((function(_distinct_rewards()) == _from_the_end(_distinct_rewards())).all())
    ),
}

EXERCISES = [
    Exercise("6.4", leave_one_out_advantage, _cases_6_4, _MISCONCEPTIONS_6_4),
    Exercise("6.5", is_reward_to_go, _cases_6_5, _MISCONCEPTIONS_6_5),
]
