"""Exploration noise for continuous actions.

Slide 66, line 1; Uhlenbeck & Ornstein (1930); Lillicrap et al. (2016), section 7.
"""

from __future__ import annotations

import numpy as np

from pgcourse import checks
from pgcourse.arrays import Bool, Float


class OrnsteinUhlenbeckNoise:
    """Temporally correlated noise: x ← (1 − θ) x + σ N(0, 1), from 0 in every episode.

    With θ = 1 it is Gaussian noise, independent at every step. With less, a push lasts for about 1/θ steps,
    and the standard deviation is σ / √(1 − (1 − θ)²).

    Args:
        sigma: σ ≥ 0, in units of half the range of an action.
        theta: fraction of x that is forgotten in a step, 0 < θ ≤ 1.
    """

    def __init__(self, sigma: float, theta: float):
        checks.real(sigma=sigma, theta=theta)
        checks.at_least(0, sigma=sigma)
        if not 0 < theta <= 1:
            raise ValueError(f"theta must be in (0, 1], got {theta}")
        self.sigma, self.theta = sigma, theta

    def reset(self, shape: tuple[int, ...]) -> None:
        """Start at 0 in all environments: shape is (n_envs, D)."""
        sizes = checks.integers("shape", shape)
        if sizes.ndim != 1 or sizes.prod() > checks.MAX_COUNT:
            raise ValueError(f"shape must be (n_envs, D), got {shape!s:.80}")
        self.x = np.zeros(tuple(sizes.tolist()), np.float32)

    def reset_where(self, done: Bool[np.ndarray, " n_envs"]) -> None:
        """Start again at 0 where an episode ended."""
        done = checks.booleans(self.x.shape[:1], default=False, done=done)
        self.x = self.x * ~done[:, None]

    def sample(self, rng: np.random.Generator) -> Float[np.ndarray, "n_envs D"]:
        """Return the noise of the next step, shape (n_envs, D)."""
        self.x = (1 - self.theta) * self.x + self.sigma * rng.standard_normal(self.x.shape, np.float32)
        return self.x
