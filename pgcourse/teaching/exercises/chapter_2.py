"""Exercise 2.4: the gradient of the mean log-likelihood of K classes."""

import numpy as np

from pgcourse.maths.logistic import sigmoid, softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def likelihood_gradient(W, x, t):
    """Return ∂L/∂W, shape (n, K), of the mean log-likelihood of labels t (M,), 0…K−1, given x (M, n)."""
    return x.T @ (_one_hot(W, t) - softmax(x @ W)) / len(x)


def _one_hot(W, t):
    return np.eye(W.shape[1])[t]


def _cases_2_4(rng: np.random.Generator) -> Cases:
    yield np.zeros((2, 3)), np.array([[1.0, 2.0]]), np.array([2])
    yield np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1, 0])
    for _ in range(8):
        m, n, K = rng.integers(3, 8), rng.integers(2, 5), rng.integers(3, 6)
        yield rng.normal(size=(n, K)), rng.normal(size=(m, n)), rng.integers(0, K, m)


_MISCONCEPTIONS_2_4 = {
    "This is the gradient of −L: y − t in place of t − y.": lambda W, x, t: -likelihood_gradient(W, x, t),
    "This is the sum over the examples, not the mean.": lambda W, x, t: likelihood_gradient(W, x, t) * len(x),
    "This is the sum over the examples, not the mean, and the sign is wrong.": (
        lambda W, x, t: -likelihood_gradient(W, x, t) * len(x)
    ),
    "You divide by the number of classes too. The mean is over the examples.": (
        lambda W, x, t: likelihood_gradient(W, x, t) / W.shape[1]
    ),
    "The softmax is missing: x·W are only the logits.": (
        lambda W, x, t: x.T @ (_one_hot(W, t) - x @ W) / len(x)
    ),
    "A sigmoid of each logit is not a softmax: the probabilities of the classes must sum to 1.": (
        lambda W, x, t: x.T @ (_one_hot(W, t) - sigmoid(x @ W)) / len(x)
    ),
    "Your softmax sums over the examples. It should sum over the classes, the last axis.": (
        lambda W, x, t: x.T @ (_one_hot(W, t) - softmax((x @ W).T).T) / len(x)
    ),
    "You use the labels as numbers. Turn each into a one-hot row first.": (
        lambda W, x, t: x.T @ (t[:, None] - softmax(x @ W)) / len(x)
    ),
    "Only the logit of the right class moves. All others are pushed down by their own probabilities.": (
        lambda W, x, t: x.T @ (_one_hot(W, t) * (1 - softmax(x @ W))) / len(x)
    ),
    "The factor y (1 − y) belongs to the gradient of the squared error. In that of L it cancels.": (
        lambda W, x, t: (
            x.T @ ((_one_hot(W, t) - softmax(x @ W)) * softmax(x @ W) * (1 - softmax(x @ W))) / len(x)
        )
    ),
    "This is transposed: the rows of W belong to the inputs, its columns to the classes.": (
        lambda W, x, t: likelihood_gradient(W, x, t).T
    ),
}

EXERCISES = [Exercise("2.4", likelihood_gradient, _cases_2_4, _MISCONCEPTIONS_2_4)]
