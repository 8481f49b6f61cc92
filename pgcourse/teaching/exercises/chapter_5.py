"""Exercise 5.4: the likelihood-ratio estimate of one episode with a Gaussian policy."""

import numpy as np

from pgcourse.teaching.exercises.engine import Cases, Exercise


def gaussian_estimate(w, s, a, r, sigma):
    """Return Σₜ ∂ log π(aₜ∣sₜ)/∂w · Σₜ rₜ, shape (n,), for actions a ~ N(w·s, σ²) of one episode.

    ∂ log π(a∣s)/∂w = (a − w·s) s/σ²
    """
    return (a - s @ w) @ s / sigma**2 * r.sum()


def _cases_5_4(rng: np.random.Generator) -> Cases:
    yield np.zeros(2), np.array([[1.0, 2.0]]), np.array([1.0]), np.array([3.0]), 0.5
    yield np.zeros(1), np.array([[1.0], [2.0]]), np.array([1.0, -0.5]), np.array([1.0, 3.0]), 2.0
    yield np.array([0.5]), np.array([[1.0], [2.0]]), np.array([1.5, 1.0]), np.array([1.0, -2.0]), 2.0
    for _ in range(7):
        n_steps, n = rng.integers(2, 5, 2)
        s, w, sigma = rng.normal(size=(n_steps, n)), rng.normal(size=n), rng.uniform(0.3, 0.9)
        yield w, s, rng.normal(s @ w, sigma), rng.normal(size=n_steps), sigma


def _density(w, s, a, sigma):
    return np.exp(-(((a - s @ w) / sigma) ** 2) / 2) / (np.sqrt(2 * np.pi) * sigma)


_MISCONCEPTIONS_5_4 = {
    "The sign is wrong: the score is (a − w·s) s/σ², positive for an action above the mean.": (
        lambda *case: -gaussian_estimate(*case)
    ),
    "You divide by σ. Differentiating (a − w·s)²/2σ² leaves σ².": (
        lambda w, s, a, r, sigma: sigma * gaussian_estimate(w, s, a, r, sigma)
    ),
    "σ is missing: divide the score by σ².": lambda w, s, a, r, sigma: gaussian_estimate(w, s, a, r, 1.0),
    "The mean is missing: the error is the action minus the mean w·s.": (
        lambda w, s, a, r, sigma: gaussian_estimate(0 * w, s, a, r, sigma)
    ),
    "The return is missing: this is the score of the episode.": (
        lambda w, s, a, r, sigma: gaussian_estimate(w, s, a, np.ones(1), sigma)
    ),
    "You multiply each step's score by that step's reward. Multiply it by the sum over the episode.": (
        lambda w, s, a, r, sigma: ((a - s @ w) * r) @ s / sigma**2
    ),
    "You divide by the number of steps. Add up the scores of all steps of the episode.": (
        lambda w, s, a, r, sigma: gaussian_estimate(w, s, a, r, sigma) / len(r)
    ),
    "This is built from ∂π/∂w. For ∂ log π/∂w, divide by π.": (
        lambda w, s, a, r, sigma: ((a - s @ w) * _density(w, s, a, sigma)) @ s / sigma**2 * r.sum()
    ),
    "These are the terms of all steps. Add them up.": (
        lambda w, s, a, r, sigma: (a - s @ w)[:, None] * s / sigma**2 * r.sum()
    ),
}

EXERCISES = [Exercise("5.4", gaussian_estimate, _cases_5_4, _MISCONCEPTIONS_5_4)]
