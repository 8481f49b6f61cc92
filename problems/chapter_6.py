"""Problem set 6: weighted means of estimates, a baseline by time step, standardised steps, variances."""

import itertools
import math

import numpy as np

from pgcourse.maths import returns
from pgcourse.teaching.exercises.engine import Cases, Exercise


def best_weights(C):
    """Return the weights, from the equations with a Lagrange multiplier."""
    m = len(C)
    system = np.block([[2 * C, -np.ones((m, 1))], [np.ones((1, m)), np.zeros((1, 1))]])
    return np.linalg.solve(system, np.eye(m + 1)[m])[:m]


def _cases_6a(rng: np.random.Generator) -> Cases:
    yield (np.array([[1.0, 0.0], [0.0, 3.0]]),)
    yield (np.array([[1.0, 0.5], [0.5, 2.0]]),)
    for _ in range(6):
        m = rng.integers(2, 5)
        root = rng.normal(size=(m, m + 2))
        yield (root @ root.T,)


def _scaled(c):
    return c / c.sum()


_MISCONCEPTIONS_6A = {
    "You use the variances only. Correlated estimates need the inverse of the whole matrix.": (
        lambda C: _scaled(1 / np.diag(C))
    ),
    "1/C, number by number, is not the inverse of a matrix.": (
        lambda C: _scaled((1 / np.where(C == 0, np.inf, C)).sum(axis=1))
    ),
    "The weights do not sum to 1, so that the mean would be biased.": (
        lambda C: np.linalg.solve(C, np.ones(len(C)))
    ),
    "All weights are equal: that is best only if all variances and correlations are.": (
        lambda C: np.full(len(C), 1 / len(C))
    ),
    "A weight falls with the variance: multiply by the inverse of C.": lambda C: _scaled(C.sum(axis=1)),
    "You weight by standard deviations. The optimum has the inverse of the variances.": (
        lambda C: _scaled(1 / np.sqrt(np.diag(C)))
    ),
    "A negative weight is allowed, and here it is best.": (
        lambda C: _scaled(np.maximum(np.linalg.solve(C, np.ones(len(C))), 0))
    ),
    "You take the estimate with the smallest variance. The others know something, too.": (
        lambda C: np.eye(len(C))[np.diag(C).argmin()]
    ),
}


def time_step_baseline(G, mask):
    """Return the baseline, episode by episode and step by step."""
    b = np.zeros(G.shape)
    for e, t in np.argwhere(mask):
        others = [G[f, t] for f in range(len(G)) if f != e and mask[f, t]]
        b[e, t] = np.mean(others) if others else 0.0
    return b


def _cases_6b(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 4.0]]), np.array([[1, 1], [1, 0], [1, 1]]) > 0
    for k in range(6):
        N, T = rng.integers(3, 6), rng.integers(3, 6)
        lengths = rng.integers(1, T + 1, size=(N, 1))
        lengths[0], lengths[1:] = T, np.minimum(lengths[1:], T - 1)  # at the last step there is one
        mask = np.arange(T) < lengths
        yield np.where(mask, rng.normal(size=(N, T)) + 2, 9.0 if k >= 3 else 0.0), mask


def _other_baseline(
    *, own=False, all_steps=False, padding=False, everywhere=False, alone=0.0, by_episode=False
):
    def wrong(G, mask):
        clean = np.where(mask, G, 0.0)
        n = np.ones(mask.shape) if padding else mask
        sums, counts = clean.sum(axis=0) - clean * (not own), n.sum(axis=0) - n * (not own)
        if all_steps:
            sums = np.broadcast_to((clean.sum() - clean.sum(axis=1))[:, None], G.shape)
            counts = np.broadcast_to((mask.sum() - mask.sum(axis=1))[:, None], G.shape)
        if by_episode:
            sums, counts = clean.sum(axis=1, keepdims=True) - clean, mask.sum(axis=1, keepdims=True) - mask
        b = np.where(counts > 0, sums / np.maximum(counts, 1), alone)
        return b if everywhere else np.where(mask, b, 0.0)

    return wrong


def _unmasked(G, mask):
    counts = mask.sum(axis=0) - mask
    return np.where(mask & (counts > 0), (G.sum(axis=0) - G) / np.maximum(counts, 1), 0.0)


_MISCONCEPTIONS_6B = {
    "The own episode is part of the mean: such a baseline depends on the action.": _other_baseline(own=True),
    "You divide by the number of all other episodes. Those that have ended do not count.": (
        _other_baseline(padding=True)
    ),
    "This is the mean over all steps of the others. Take those at the same step t.": (
        _other_baseline(all_steps=True)
    ),
    "This is the mean over the other steps of the same episode. Take the same step of the other episodes.": (
        _other_baseline(by_episode=True)
    ),
    "After an episode's end the baseline is 0.": _other_baseline(everywhere=True),
    "Where no other episode goes on, the baseline is 0.": _other_baseline(alone=np.nan),
    "Padding may hold anything: set it to zero before you sum.": _unmasked,
    "This is the return minus the baseline. Return the baseline.": (
        lambda G, mask: np.where(mask, G - time_step_baseline(G, mask), 0.0)
    ),
}


def expected_step(y, N):
    """Return the expectation over all sequences of N actions, with returns 1 and 0."""
    total = 0.0
    for a in itertools.product((0, 1), repeat=int(N)):
        a = np.array(a, float)
        P = np.prod(np.where(a == 1, y, 1 - y))
        total += P * (returns.standardize(a) * (a - y)).mean()
    return total


def _cases_6c(rng: np.random.Generator) -> Cases:
    yield 0.5, 3
    for N in (2, 3, 4, 6, 8):
        yield rng.uniform(0.1, 0.9), N


def _binomial(function):
    def wrong(y, N):
        P = [math.comb(N, k) * y**k * (1 - y) ** (N - k) for k in range(N + 1)]
        return P @ function(np.arange(N + 1) / N, y, N)

    return wrong


_MISCONCEPTIONS_6C = {
    "This is the limit of large batches. The fraction f varies from batch to batch.": (
        lambda y, N: np.sqrt(y * (1 - y))
    ),
    "This is the gradient for rewards 1 and 0. Standardising changes the size.": lambda y, N: y * (1 - y),
    "This is the batch mean as a baseline, without the division by the standard deviation.": (
        _binomial(lambda f, y, N: f * (1 - f))
    ),
    "You take the root of the expectation of f (1 − f). Take the expectation of the root.": (
        lambda y, N: np.sqrt(y * (1 - y) * (N - 1) / N)
    ),
    "The mean over the episodes is missing: this is their sum.": (
        _binomial(lambda f, y, N: N * np.sqrt(f * (1 - f)))
    ),
    "A batch in which all take one action has the advantage 0. You leave such batches out.": (
        lambda y, N: expected_step(y, N) / (1 - y**N - (1 - y) ** N)
    ),
    "The standard deviation here has N in its denominator, not N − 1.": (
        _binomial(lambda f, y, N: np.sqrt(f * (1 - f) * (N - 1) / N))
    ),
    "The sequences of actions are not equally probable: the weights are binomial.": (
        lambda y, N: np.mean([np.sqrt(k / N * (1 - k / N)) for k in range(N + 1)])
    ),
}


def three_variances(scores, R, batch_size):
    """Return the variances, batch by batch and episode by episode."""
    estimates = []
    for first in range(0, len(R), batch_size):
        r, s = R[first : first + batch_size], scores[first : first + batch_size]
        others = np.array([np.delete(r, e).mean() for e in range(batch_size)])
        estimates.append([G @ s / batch_size for G in (r, r - r.mean(), r - others)])
    g = np.array(estimates)
    return ((g - g.mean(axis=0)) ** 2).sum(axis=(0, 2)) / (len(g) - 1)


def _cases_6d(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0], [-1.0], [1.0], [1.0]]), np.array([1.0, 2.0, 3.0, 5.0]), 2
    for batch_size in (2, 3, 5):
        n, n_batches = rng.integers(2, 4), rng.integers(4, 8)
        yield (
            rng.normal(size=(batch_size * n_batches, n)),
            rng.normal(size=batch_size * n_batches) + 2,
            batch_size,
        )


def _variances(*, ddof=1, total=np.mean, over=np.sum, spread=np.var, others=None, per_episode=False):
    def wrong(scores, R, batch_size):
        s, r = scores.reshape(-1, batch_size, scores.shape[1]), R.reshape(-1, batch_size)
        mean = r.mean(axis=1, keepdims=True)
        rest = (r.sum(axis=1, keepdims=True) - r) / (batch_size - 1) if others is None else others(r, mean)
        g = [s * G[:, :, None] for G in (r, r - mean, r - rest)]
        if per_episode:
            return np.array([over(spread(x.reshape(len(R), -1), axis=0, ddof=ddof)) for x in g])
        return np.array([over(spread(total(x, axis=1), axis=0, ddof=ddof)) for x in g])

    return wrong


_MISCONCEPTIONS_6D = {
    "This is the variance of one episode's estimate. Average over the batch first.": _variances(
        per_episode=True
    ),
    "The estimate is the mean over the batch, not the sum.": _variances(total=np.sum),
    "The denominator is the number of batches minus one.": _variances(ddof=0),
    "Sum the variances over the components. You take their mean.": _variances(over=np.mean),
    "These are standard deviations.": _variances(spread=np.std),
    "You divide the sum of the others by the size of the batch. They are one less.": (
        _variances(others=lambda r, mean: (r.sum(axis=1, keepdims=True) - r) / r.shape[1])
    ),
    "The others are those of the same batch, not of all episodes.": (
        _variances(others=lambda r, mean: (r.sum() - r) / (r.size - 1))
    ),
    "The last estimator has the leave-one-out baseline. You subtract the mean of all again.": (
        _variances(others=lambda r, mean: mean)
    ),
}

PROBLEMS = [
    Exercise("6A", best_weights, _cases_6a, _MISCONCEPTIONS_6A),
    Exercise("6B", time_step_baseline, _cases_6b, _MISCONCEPTIONS_6B),
    Exercise("6C", expected_step, _cases_6c, _MISCONCEPTIONS_6C),
    Exercise("6D", three_variances, _cases_6d, _MISCONCEPTIONS_6D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("6A", "np.linalg.solve(C, np.ones(len(C)))", "1 / np.diag(C)", "You use the variances only"),
    (
        "6B",
        "counts = mask.sum(axis=0) - mask",
        "counts = len(mask) - np.ones(mask.shape)",
        "You divide by the number",
    ),
    ("6B", "    G = np.where(mask, G, 0.0)\n", "", "Padding may hold anything"),
    ("6C", "np.sqrt(k / N * (1 - k / N))", "(k / N * (1 - k / N))", "This is the batch mean as a baseline"),
    ("6D", "ddof=1", "ddof=0", "The denominator is the number of batches"),
]
