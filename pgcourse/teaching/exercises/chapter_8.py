"""Exercise 8.5: the deterministic policy gradient of a linear policy."""

import numpy as np

from pgcourse.teaching.exercises.engine import Cases, Exercise


def dpg_gradient(s, dQ_da):
    """Return the mean of ∂Q/∂a · ∂μ/∂K, shape (D, n), over the states s (M, n), for μ(s) = −K s."""
    return -dQ_da.T @ s / len(s)


def _cases_8_5(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 2.0]]), np.array([[3.0]])
    yield np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [2.0]])
    for _ in range(8):
        m, n, d = rng.integers(3, 6), rng.integers(2, 4), rng.integers(1, 4)
        yield rng.normal(size=(m, n)), rng.normal(size=(m, d))


_MISCONCEPTIONS_8_5 = {
    "The minus sign of μ(s) = −K s is lost.": lambda s, dQ_da: -dpg_gradient(s, dQ_da),
    "This is the sum over the states. Return the mean.": lambda s, dQ_da: dpg_gradient(s, dQ_da) * len(s),
    "This is transposed: K has a row for each action component and a column for each state component.": (
        lambda s, dQ_da: dpg_gradient(s, dQ_da).T
    ),
    "You multiply the means. Each state has its own gradient: multiply first, then take the mean.": (
        lambda s, dQ_da: -np.outer(dQ_da.mean(0), s.mean(0))
    ),
    "These are the products for the single states. Return their mean, an array like K.": (
        lambda s, dQ_da: -dQ_da[:, :, None] * s[:, None, :]
    ),
    "Divide by the number of states, not by the size of ∂Q/∂a.": lambda s, dQ_da: -dQ_da.T @ s / dQ_da.size,
    "Divide by the number of states, not by their dimension.": lambda s, dQ_da: -dQ_da.T @ s / s.shape[1],
}

EXERCISES = [Exercise("8.5", dpg_gradient, _cases_8_5, _MISCONCEPTIONS_8_5)]
