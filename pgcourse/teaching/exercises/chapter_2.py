"""Exercise 2.4: the gradient of the mean log-likelihood."""

import numpy as np

from pgcourse.maths.logistic import sigmoid
from pgcourse.teaching.exercises.engine import Cases, Exercise


def likelihood_gradient(w, x, t):
    """Return ∂L/∂w, shape (n,), of the mean log-likelihood of labels t (M,), 0 or 1, given x (M, n)."""
    return x.T @ (t - sigmoid(x @ w)) / len(x)


def _cases_2_4(rng: np.random.Generator) -> Cases:
    yield np.zeros(2), np.array([[1.0, 2.0]]), np.array([1])
    yield np.array([1.0, 0.0]), np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1, 0])
    for _ in range(8):
        m, n = rng.integers(3, 8), rng.integers(2, 5)
        yield rng.normal(size=n), rng.normal(size=(m, n)), rng.integers(0, 2, m)


_MISCONCEPTIONS_2_4 = {
    "This is the gradient of −L: y − t in place of t − y.": lambda w, x, t: -likelihood_gradient(w, x, t),
    "This is the sum over the examples, not the mean.": lambda w, x, t: likelihood_gradient(w, x, t) * len(x),
    "The sigmoid is missing: x·w is only the logit.": lambda w, x, t: x.T @ (t - x @ w) / len(x),
    "The factor y (1 − y) belongs to the gradient of the squared error. In that of L it cancels.": (
        lambda w, x, t: x.T @ ((t - sigmoid(x @ w)) * sigmoid(x @ w) * (1 - sigmoid(x @ w))) / len(x)
    ),
    "These are the gradients of the single examples. Return their mean, an array like w.": (
        lambda w, x, t: x * (t - sigmoid(x @ w))[:, None]
    ),
    "This is the sum over the examples, not the mean, and the sign is wrong.": (
        lambda w, x, t: -likelihood_gradient(w, x, t) * len(x)
    ),
    "You divide by the number of weights. The mean is over the examples.": (
        lambda w, x, t: likelihood_gradient(w, x, t) * len(x) / len(w)
    ),
}

EXERCISES = [Exercise("2.4", likelihood_gradient, _cases_2_4, _MISCONCEPTIONS_2_4)]
