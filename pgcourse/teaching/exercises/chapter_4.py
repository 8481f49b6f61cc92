"""Exercise 4.4: the discounted reward-to-go."""

import numpy as np

from pgcourse.maths.returns import reward_to_go, total_return
from pgcourse.teaching.exercises.engine import Cases, Exercise


def discounted_reward_to_go(r, gamma):
    """Return Gₜ = Σₖ≥ₜ γᵏ⁻ᵗ rₖ for the rewards r of an episode, shape (T,)."""
    return reward_to_go(r, gamma)


def _cases_4_4(rng: np.random.Generator) -> Cases:
    yield np.array([0.0, 0.0, 1.0]), 0.5
    yield np.array([1.0, 2.0, 3.0]), 0.5
    yield np.array([1.0, 0.0, -1.0]), 1.0
    for _ in range(7):
        yield rng.normal(size=rng.integers(2, 9)), rng.uniform(0.3, 0.95)


_MISCONCEPTIONS_4_4 = {
    "The discount is missing.": lambda r, gamma: reward_to_go(r),
    "Every step gets the whole return, earlier rewards included.": lambda r, gamma: total_return(r, gamma),
    "Off by one: step t's reward is missing.": lambda r, gamma: np.append(reward_to_go(r, gamma)[1:], 0.0),
    "Off by one: you discount the reward of step t, and should start with that of step t + 1.": (
        lambda r, gamma: gamma * reward_to_go(r, gamma)
    ),
    "You discount from the start of the episode, so late steps hardly count. Discount from step t.": (
        lambda r, gamma: reward_to_go(r, gamma, discount_from_start=True)
    ),
    "You sum the rewards up to step t. Sum those from step t on: start at the end of the episode.": (
        lambda r, gamma: reward_to_go(r[::-1], gamma)[::-1]
    ),
    "The values are right, but in reverse order.": lambda r, gamma: reward_to_go(r, gamma)[::-1],
    "You add only the next reward, rₜ + γ rₜ₊₁. Add the next reward-to-go, rₜ + γ Gₜ₊₁.": (
        lambda r, gamma: r + gamma * np.append(r[1:], 0.0)
    ),
}

EXERCISES = [Exercise("4.4", discounted_reward_to_go, _cases_4_4, _MISCONCEPTIONS_4_4)]
