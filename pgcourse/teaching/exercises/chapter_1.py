"""Exercise 1.4: the softmax policy."""

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def probabilities(q, temperature):
    """Return the softmax of q / temperature in each row of q, shape (N, K)."""
    return softmax(q / temperature)


def _cases_1_4(rng: np.random.Generator) -> Cases:
    yield np.array([[0.0, 1.0]]), 1.0
    yield np.array([[0.0, 1.0], [2.0, 2.0]]), 0.5
    yield np.array([[700.0, 900.0, 800.0]]), 0.1
    yield np.array([[0.0, 1.0], [2000.0, 2001.0]]), 1.0
    for _ in range(7):
        yield rng.normal(size=(rng.integers(2, 5), 3)), rng.uniform(0.2, 3)


def _normalized(z, **options):
    return np.exp(z) / np.exp(z).sum(axis=1, **options)


_MISCONCEPTIONS_1_4 = {
    "You multiply by the temperature, but a hot policy should be more random.": lambda q, T: softmax(q * T),
    "The temperature has no effect.": lambda q, T: softmax(q),
    "Each row should sum to 1, but the columns do.": lambda q, T: softmax(q.T / T).T,
    "Each row should sum to 1, not the whole table.": lambda q, T: softmax(np.ravel(q / T)).reshape(q.shape),
    "The exponential of a large number overflows. Subtract each row's maximum first: no ratio changes.": (
        lambda q, T: _normalized(q / T, keepdims=True)
    ),
    "You subtract the table's maximum: a row far below it underflows. Subtract each row's own maximum.": (
        lambda q, T: _normalized(q / T - np.max(q / T), keepdims=True)
    ),
    "The sums have lost an axis, so columns are divided by the sums of rows. Use `keepdims=True`.": (
        lambda q, T: _normalized(q / T - np.max(q / T, axis=1, keepdims=True))
    ),
    "The ratios are right, but the rows do not sum to 1.": lambda q, T: np.exp(q / T),
    "This is the greedy policy, the limit of T → 0.": lambda q, T: np.eye(q.shape[1])[q.argmax(axis=1)],
}

EXERCISES = [Exercise("1.4", probabilities, _cases_1_4, _MISCONCEPTIONS_1_4)]
