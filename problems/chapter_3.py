"""Problem set 3: mistakes that add up, backpropagation by hand, one decision in a hundred, points."""

import itertools

import numpy as np

from pgcourse.maths.logistic import sigmoid
from pgcourse.teaching.exercises.engine import Cases, Exercise


def expected_mistakes(epsilon, T):
    """Return the expectation over the step of the first mistake."""
    return sum(epsilon * (1 - epsilon) ** (first - 1) * (T - first + 1) for first in range(1, T + 1))


def _cases_3a(rng: np.random.Generator) -> Cases:
    yield 0.5, 1
    yield 0.25, 2
    for _ in range(6):
        yield rng.uniform(0.02, 0.6), int(rng.integers(3, 30))


_MISCONCEPTIONS_3A = {
    "This is a policy that recovers from each mistake, ε T.": lambda epsilon, T: epsilon * T,
    "This is the probability of any mistake, not their number.": lambda epsilon, T: 1 - (1 - epsilon) ** T,
    "This is the limit of small ε T. The formula holds for all.": lambda epsilon, T: (
        epsilon * T * (T + 1) / 2
    ),
    "The first mistake counts, too: you count those after it.": (
        lambda epsilon, T: expected_mistakes(epsilon, T) - 1 + (1 - epsilon) ** T
    ),
    "With probability 1 − (1 − ε)ᵀ there is a mistake, but not all steps are: it comes at some step.": (
        lambda epsilon, T: T * (1 - (1 - epsilon) ** T)
    ),
    "This is the expected number of right steps.": lambda epsilon, T: T - expected_mistakes(epsilon, T),
}


def point_gradient(W_1, W_2, x, t, G):
    """Return the gradient by central differences of sixth order."""
    w = np.concatenate([W_1.ravel(), W_2])

    def J_hat(v):
        y = sigmoid(np.maximum(x @ v[: W_1.size].reshape(W_1.shape).T, 0) @ v[W_1.size :])
        return G * np.log(np.where(t == 1, y, 1 - y)).sum()

    steps = [[J_hat(w + n * e) - J_hat(w - n * e) for n in (1, 2, 3)] for e in 1e-3 * np.eye(len(w))]
    return np.array(steps) @ [45, -9, 1] / 0.06


def _cases_3b(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0], [-1.0]]), np.array([0.5, 2.0]), np.array([[2.0]]), np.array([1]), 1.0
    for k in range(6):
        H, n, T = rng.integers(2, 5, 3)
        while True:
            W_1, x = rng.normal(size=(H, n)), rng.normal(size=(T, n))
            if abs(x @ W_1.T).min() > 0.05:  # differences do not cross the corner of a hidden unit
                break
        yield W_1, rng.normal(size=H), x, rng.integers(0, 2, T), (-1.0, 1.0, 0.5)[k % 3]


def _backward(*, error=lambda t, y: t - y, active=None, use_G=True, back=True, h_of=None, mean=False):
    def wrong(W_1, W_2, x, t, G):
        a = x @ W_1.T
        h = np.maximum(a, 0)
        dz = (G if use_G else 1.0) * error(t, sigmoid(h @ W_2)) / (len(x) if mean else 1)
        da = dz[:, None] * (W_2 if back else 1.0) * ((a > 0) if active is None else active(a))
        return np.concatenate([(da.T @ x).ravel(), (h if h_of is None else h_of(a)).T @ dz])

    return wrong


_MISCONCEPTIONS_3B = {
    "A hidden unit that was 0 passes nothing back: the derivative of max(0, ·) is missing.": (
        _backward(active=np.ones_like)
    ),
    "A hidden unit passes back 1 where it was positive. You multiply by its value.": (
        _backward(active=lambda a: np.maximum(a, 0))
    ),
    "G is missing.": _backward(use_G=False),
    "The sign of the error is wrong: it is t − y.": _backward(error=lambda t, y: y - t),
    "The error is the label minus the probability. The probability is missing.": (
        _backward(error=lambda t, y: t - 0.0)
    ),
    "The factor y (1 − y) belongs to a squared error. In the gradient of L it cancels.": (
        _backward(error=lambda t, y: (t - y) * y * (1 - y))
    ),
    "On its way back to the hidden layer the error is multiplied by W₂.": _backward(back=False),
    "The output layer sees h, the hidden units after max(0, ·).": _backward(h_of=lambda a: a),
    "This is the mean over the decisions. The surrogate of a point is a sum.": _backward(mean=True),
}


def noise_to_signal(y, delta):
    """Return the ratio from all sequences of decisions, each with a point won and a point lost."""
    mean, square = np.zeros(len(y)), 0.0
    for t in itertools.product((0, 1), repeat=len(y)):
        for G in (-1, 1):
            P = np.prod(np.where(t, y, 1 - y)) * (0.5 + G * delta * (1 if t[-1] else -1))
            g = G * (np.array(t) - y)
            mean, square = mean + P * g, square + P * g @ g
    return (square - mean @ mean) / (mean @ mean)


def _cases_3c(rng: np.random.Generator) -> Cases:
    yield np.array([0.5]), 0.25
    yield np.array([0.5, 0.5]), 0.25
    for n in (2, 3, 4, 6):
        yield rng.uniform(0.1, 0.9, n), rng.uniform(0.05, 0.5)


def _ratio(variance, g=None):
    def wrong(y, delta):
        s = y * (1 - y)
        mean = 4 * delta * s[-1] if g is None else g(s, delta)
        return (variance(s, mean)) / mean**2

    return wrong


_MISCONCEPTIONS_3C = {
    "This is the second moment. The variance is less by |g|².": _ratio(lambda s, g: s.sum()),
    "This is the variance of the last component only. The others add theirs.": _ratio(
        lambda s, g: s[-1] - g**2
    ),
    "G is +1 or −1, so that its expectation is ±2δ, not ±δ.": (
        _ratio(lambda s, g: s.sum() - g**2, lambda s, delta: 2 * delta * s[-1])
    ),
    "Both decisions contribute: UP raises the chance to win and DOWN lowers it. You count one of them.": (
        _ratio(lambda s, g: s.sum() - 4 * g**2, lambda s, delta: 2 * delta * s[-1])
    ),
    "Every component has a gradient only if every decision matters.": (
        lambda y, delta: (
            ((y * (1 - y)).sum() - ((4 * delta * y * (1 - y)) ** 2).sum())
            / ((4 * delta * y * (1 - y)) ** 2).sum()
        )
    ),
    "This is signal to noise: the ratio is upside down.": lambda y, delta: 1 / noise_to_signal(y, delta),
    "This is the ratio of the lengths. The number of points is its square.": (
        lambda y, delta: np.sqrt(noise_to_signal(y, delta))
    ),
    "The variance of t − y is y (1 − y), also for decisions that are not fair coins.": (
        lambda y, delta: (
            (len(y) / 4 - (4 * delta * y[-1] * (1 - y[-1])) ** 2) / (4 * delta * y[-1] * (1 - y[-1])) ** 2
        )
    ),
}


def learn_from_points(u, k, eta):
    """Return the probabilities, decision by decision."""
    T = u.shape[1]
    z = [0.0] * T
    for point in u:
        y = [1 / (1 + np.exp(-x)) for x in z]
        t = [float(point[i] < y[i]) for i in range(T)]
        G = 1 if sum(t) >= k else -1
        z = [z[i] + eta * G * (t[i] - y[i]) for i in range(T)]
    return 1 / (1 + np.exp(-np.array(z)))


def _cases_3d(rng: np.random.Generator) -> Cases:
    yield np.array([[0.4, 0.6]]), 2, 1.0
    yield np.array([[0.4, 0.3], [0.9, 0.3]]), 2, 0.5
    for T, k in ((3, 2), (5, 2), (4, 3)):
        yield rng.random((20, T)), k, rng.uniform(0.1, 0.4)


def _points(*, lost=-1.0, label=None, push=None, won=None, sampled=None, online=False, sign=1.0, mean=False):
    def wrong(u, k, eta):
        z = np.zeros(u.shape[1])
        for u_e in u:
            y = sigmoid(z)
            t = (u_e < y if sampled is None else sampled(u_e, y)).astype(float)
            G = 1.0 if (t.sum() >= k if won is None else won(t, k)) else lost
            target = t if label is None else label(t)
            step = target - y if push is None else push(target, y)
            z = z + sign * eta * G * step / (len(t) if mean else 1)
        return sigmoid(z)

    return wrong


_MISCONCEPTIONS_3D = {
    "A lost point teaches, too: its return is −1, not 0.": _points(lost=0.0),
    "A lost point has the return −1. You treat it as won.": _points(lost=1.0),
    "The labels are the actions that were taken, not UP.": _points(label=np.ones_like),
    "The probability is missing: the error is t − y.": _points(push=lambda t, y: t),
    "Only the action's own error is used for UP. A DOWN moves the logit by −y.": (
        _points(push=lambda t, y: t * (1 - y))
    ),
    "A point with exactly k times UP is won.": _points(won=lambda t, k: t.sum() > k),
    "UP has the probability y: the random number must be below it.": _points(sampled=lambda u, y: u > y),
    "The logits go the wrong way.": _points(sign=-1.0),
    "You divide by the number of decisions. Each logit gets its own error.": _points(mean=True),
}

PROBLEMS = [
    Exercise("3A", expected_mistakes, _cases_3a, _MISCONCEPTIONS_3A),
    Exercise("3B", point_gradient, _cases_3b, _MISCONCEPTIONS_3B),
    Exercise("3C", noise_to_signal, _cases_3c, _MISCONCEPTIONS_3C),
    Exercise("3D", learn_from_points, _cases_3d, _MISCONCEPTIONS_3D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    (
        "3A",
        "return T - q * (1 - q**T) / epsilon",
        "return T * (1 - q**T)",
        "With probability 1 − (1 − ε)ᵀ there is",
    ),
    ("3B", " * (a > 0)", "", "A hidden unit that was 0 passes nothing back"),
    ("3B", "t - sigmoid(h @ W_2)", "sigmoid(h @ W_2) - t", "The sign of the error is wrong"),
    ("3C", "(spread.sum() - g**2)", "spread.sum()", "This is the second moment"),
    ("3D", "else -1.0", "else 0.0", "A lost point teaches, too"),
]
