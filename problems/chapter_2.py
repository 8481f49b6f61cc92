"""Problem set 2: flipped labels, Newton's method, thinned-out data, and a curve that misleads."""

import numpy as np

from pgcourse.maths import logistic
from pgcourse.maths.logistic import sigmoid
from pgcourse.teaching.exercises.engine import Cases, Exercise


def _differences(function, w):
    """Return the derivatives of a function of w by central differences of sixth order."""
    h = 0.01 * np.eye(len(w))
    steps = [[function(w + n * e) - function(w - n * e) for n in (1, 2, 3)] for e in h]
    return np.tensordot(np.array(steps), [45, -9, 1], axes=(1, 0)) / 0.6


def noisy_label_gradient(w, x, t, epsilon):
    """Return ∂L/∂w by differences."""

    def L(v):
        p = epsilon + (1 - 2 * epsilon) * sigmoid(x @ v)
        return np.log(np.where(t == 1, p, 1 - p)).mean()

    return _differences(L, w)


def _examples(rng, n_weights=None):
    M, n = rng.integers(5, 9), n_weights or rng.integers(2, 4)
    return rng.normal(size=n) / 2, rng.normal(size=(M, n)), rng.integers(0, 2, M)


def _cases_2a(rng: np.random.Generator) -> Cases:
    yield np.zeros(1), np.array([[1.0], [3.0]]), np.array([1, 0]), 0.25
    for _ in range(6):
        yield *_examples(rng), rng.uniform(0.05, 0.4)


def _noisy(error):
    def wrong(w, x, t, epsilon):
        y = sigmoid(x @ w)
        return x.T @ error(t, y, epsilon + (1 - 2 * epsilon) * y, epsilon) / len(t)

    return wrong


def _chain(t, y, p, e):
    return (t - p) / (p * (1 - p)) * (1 - 2 * e) * y * (1 - y)


_MISCONCEPTIONS_2A = {
    "This is (2.6), as if no label had been flipped.": _noisy(lambda t, y, p, e: t - y),
    "t − p is what is left of the chain rule only if p is the sigmoid. The factors no longer cancel.": (
        _noisy(lambda t, y, p, e: t - p)
    ),
    "The factor ∂p/∂y = 1 − 2ε is missing.": _noisy(lambda t, y, p, e: _chain(t, y, p, e) / (1 - 2 * e)),
    "The factor ∂y/∂z = y (1 − y) is missing.": (
        _noisy(lambda t, y, p, e: (t - p) / (p * (1 - p)) * (1 - 2 * e))
    ),
    "∂y/∂z is y (1 − y), with the probability of the true label. You take p (1 − p), which cancels.": (
        _noisy(lambda t, y, p, e: (t - p) * (1 - 2 * e))
    ),
    "This is the gradient of −L.": _noisy(lambda t, y, p, e: -_chain(t, y, p, e)),
    "This is the sum over the examples, not the mean.": (
        lambda w, x, t, epsilon: noisy_label_gradient(w, x, t, epsilon) * len(t)
    ),
    "You divide y − t by y (1 − y): the likelihood of an observed label is made of p, not of y.": (
        _noisy(lambda t, y, p, e: (t - y) * (1 - 2 * e))
    ),
}


def newton_step(w, x, t):
    """Return the step with the second derivatives by differences of the gradient."""
    H = _differences(lambda v: logistic.gradient(v, x, t), w)
    return w - np.linalg.pinv(H) @ logistic.gradient(w, x, t)


def _cases_2b(rng: np.random.Generator) -> Cases:
    yield np.zeros(1), np.array([[1.0], [2.0], [1.0]]), np.array([1, 1, 0])
    for _ in range(6):
        w, x, t = _examples(rng, 2)
        yield w, x, t


def _newton(*, H=None, sign=1.0, g=None):
    def wrong(w, x, t):
        y = sigmoid(x @ w)
        matrix = (x.T * (y * (1 - y))) @ x / len(t) if H is None else H(x, y)
        gradient = x.T @ (t - y) / len(t) if g is None else g(x, t, y)
        return w + sign * np.linalg.solve(matrix, gradient)

    return wrong


_MISCONCEPTIONS_2B = {
    "H is negative: with w + H⁻¹g you go down.": _newton(sign=-1.0),
    "The factor y (1 − y) is missing in H. This would be least squares.": _newton(
        H=lambda x, y: x.T @ x / len(x)
    ),
    "You use the diagonal of H only, as if the weights did not interact.": (
        _newton(H=lambda x, y: np.diag(np.diag((x.T * (y * (1 - y))) @ x / len(x))))
    ),
    "This is a step along the gradient. Multiply by the inverse of −H.": (
        lambda w, x, t: w + logistic.gradient(w, x, t)
    ),
    "You divide by M in one of g and H only.": _newton(H=lambda x, y: (x.T * (y * (1 - y))) @ x),
    "You sum the gradient over the examples and take the mean for H.": _newton(
        g=lambda x, t, y: x.T @ (t - y)
    ),
    "1/H, number by number, is not the inverse of a matrix.": (
        lambda w, x, t: (
            w
            + (1 / ((x.T * (sigmoid(x @ w) * (1 - sigmoid(x @ w)))) @ x / len(t)))
            @ logistic.gradient(w, x, t)
        )
    ),
    "You return the step. Return the weights after it.": lambda w, x, t: newton_step(w, x, t) - w,
}


def corrected_probability(y, k):
    """Return the probability by Bayes' rule, from the odds."""
    odds = y / (1 - y) * k
    return odds / (1 + odds)


def _cases_2c(rng: np.random.Generator) -> Cases:
    yield np.array([0.5, 0.8]), 0.5
    for _ in range(5):
        yield rng.uniform(0.05, 0.95, 3), rng.uniform(0.01, 0.6)


_MISCONCEPTIONS_2C = {
    "The wrong direction: label 0 was thinned out, so label 1 is rarer than y says.": (
        lambda y, k: y / (y + k * (1 - y))
    ),
    "k multiplies the odds y/(1 − y), not the probability.": lambda y, k: k * y,
    "k multiplies the probability of label 0, but then the two no longer sum to 1.": lambda y, k: (
        1 - k * (1 - y)
    ),
    "The logit moves by log k, not by k.": lambda y, k: sigmoid(np.log(y / (1 - y)) - k),
    "The logit is multiplied by k. It moves by log k.": lambda y, k: sigmoid(k * np.log(y / (1 - y))),
    "Thinning out one label changes its share, so it changes the probability.": lambda y, k: y,
    "This is the logit. Return the probability.": lambda y, k: np.log(y / (1 - y)) + np.log(k),
    "These are the odds. Return the probability.": lambda y, k: k * y / (1 - y),
}


def learning_curve(x, t, batches, eta):
    """Return the curve with the gradient written out."""
    w, L = np.zeros(x.shape[1]), []
    for j in batches:
        w = w + eta * sum((t[i] - sigmoid(x[i] @ w)) * x[i] for i in j) / len(j)
        y = sigmoid(x @ w)
        L.append(np.log(np.where(t == 1, y, 1 - y)).mean())
    return np.array(L)


def _cases_2d(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0], [2.0]]), np.array([1, 0]), np.array([[0], [0], [1]]), 0.5
    for batch_size in (2, 3, 5):
        _, x, t = _examples(rng)
        yield x, t, rng.integers(0, len(t), (8, batch_size)), rng.uniform(0.2, 0.8)


def _curve(*, scale=None, of=None, before=False, sign=1.0, restart=False):
    def wrong(x, t, batches, eta):
        w, L = np.zeros(x.shape[1]), []
        for j in batches:
            points = slice(None) if of is None else j
            old = logistic.log_likelihood(w, x[points], t[points])
            start = np.zeros(x.shape[1]) if restart else w
            size = 1.0 if scale is None else scale(len(j), len(t))
            w = start + sign * eta * size * logistic.gradient(start, x[j], t[j])
            L.append(old if before else logistic.log_likelihood(w, x[points], t[points]))
        return np.array(L)

    return wrong


_MISCONCEPTIONS_2D = {
    "This is the log-likelihood of each minibatch, before its step. Evaluate all examples after it.": (
        _curve(of="batch", before=True)
    ),
    "This is the log-likelihood of each minibatch. Evaluate all examples.": _curve(of="batch"),
    "You evaluate before the step. The curve begins after the first one.": _curve(before=True),
    "You sum the gradient over the minibatch, so a step grows with its size. Take the mean.": (
        _curve(scale=lambda B, M: B)
    ),
    "You divide by the number of all examples. The mean is over the minibatch.": (
        _curve(scale=lambda B, M: B / M)
    ),
    "You go down the gradient.": _curve(sign=-1.0),
    "Each step starts from 0. It should start where the last one ended.": _curve(restart=True),
    "This is the loss, −L. The curve of L rises.": lambda *case: -learning_curve(*case),
}

PROBLEMS = [
    Exercise("2A", noisy_label_gradient, _cases_2a, _MISCONCEPTIONS_2A),
    Exercise("2B", newton_step, _cases_2b, _MISCONCEPTIONS_2B),
    Exercise("2C", corrected_probability, _cases_2c, _MISCONCEPTIONS_2C),
    Exercise("2D", learning_curve, _cases_2d, _MISCONCEPTIONS_2D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("2A", "return x.T @ (dL_dp * dp_dz) / len(t)", "return x.T @ (t - p) / len(t)", "t − p is what is left"),
    ("2A", "(1 - 2 * epsilon) * y * (1 - y)", "y * (1 - y)", "The factor ∂p/∂y = 1 − 2ε is missing"),
    ("2B", "return w - np", "return w + np", "H is negative"),
    ("2C", "k * y / (k * y + 1 - y)", "y / (y + k * (1 - y))", "The wrong direction"),
    ("2D", "log_likelihood(w, x, t)", "log_likelihood(w, x[j], t[j])", "This is the log-likelihood of each"),
]
