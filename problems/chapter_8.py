"""Problem set 8: the lag of a target network, a squashed actor, how many critics, correlated noise."""

import numpy as np

from pgcourse.teaching.exercises.engine import Cases, Exercise


def lag(c, tau, n):
    """Return the lag, update by update."""
    w = target = 0.0
    for _ in range(n):
        w += c
        target += tau * (w - target)
    return w - target


def _cases_8a(rng: np.random.Generator) -> Cases:
    yield 1.0, 0.5, 1
    yield 1.0, 0.25, 2
    for _ in range(6):
        yield rng.normal(), rng.uniform(0.02, 0.6), int(rng.integers(2, 40))


_MISCONCEPTIONS_8A = {
    "This is the limit of many updates.": lambda c, tau, n: c * (1 - tau) / tau,
    "Off by one: the copy moves after the weight in each update, also in the last one.": (
        lambda c, tau, n: c * (1 - (1 - tau) ** n) / tau
    ),
    "Off by one: n updates, not n − 1.": lambda c, tau, n: c * (1 - tau) / tau * (1 - (1 - tau) ** (n - 1)),
    "This is where the copy is. Return how far it lags behind.": lambda c, tau, n: c * n - lag(c, tau, n),
    "τ and 1 − τ are exchanged: the copy moves by the fraction τ of the gap.": (
        lambda c, tau, n: lag(c, 1 - tau, n)
    ),
    "As if the weight had moved once and then stood still.": lambda c, tau, n: c * (1 - tau) ** n,
    "As if the copy had never moved.": lambda c, tau, n: c * n,
    "The copy lags in proportion to the speed: c is missing.": lambda c, tau, n: lag(1.0, tau, n),
}


def actor_gradient(w, s, k, c, m):
    """Return the gradient by central differences of sixth order."""

    def mean_Q(v):
        return (-c / 2 * (m * np.tanh(s @ v) - s @ k) ** 2).mean()

    steps = [[mean_Q(w + n * e) - mean_Q(w - n * e) for n in (1, 2, 3)] for e in 0.003 * np.eye(len(w))]
    return np.array(steps) @ [45, -9, 1] / 0.18


def _cases_8b(rng: np.random.Generator) -> Cases:
    yield np.array([0.5]), np.array([[1.0], [2.0]]), np.ones(1), 3.0, 2.0
    for _ in range(6):
        N, n = rng.integers(3, 6), rng.integers(2, 4)
        w, k = rng.normal(size=(2, n))
        yield w, rng.normal(size=(N, n)), k, rng.uniform(0.5, 2), rng.uniform(1.2, 3)


def _actor(*, at=None, inner=None, product=True, total=False):
    def wrong(w, s, k, c, m):
        h = np.tanh(s @ w)
        dQ_da = -c * ((m * h if at is None else at(h, s, w, m)) - s @ k)
        dmu_dz = m * (1 - h**2) if inner is None else inner(h, m)
        if not product:
            return dQ_da.mean() * (np.broadcast_to(dmu_dz, h.shape)[:, None] * s).mean(axis=0)
        return (dQ_da * dmu_dz) @ s / (1 if total else len(s))

    return wrong


_MISCONCEPTIONS_8B = {
    "The derivative of the tanh, 1 − tanh², is missing.": _actor(inner=lambda h, m: m),
    "The factor m of μ = m tanh(·) is missing in ∂μ/∂w.": _actor(inner=lambda h, m: 1 - h**2),
    "The derivative of tanh is 1 − tanh². You take that of a sigmoid.": _actor(
        inner=lambda h, m: m * h * (1 - h)
    ),
    "∂Q/∂a is taken at the action of the actor, m tanh(s·w). You leave out the tanh.": (
        _actor(at=lambda h, s, w, m: s @ w)
    ),
    "∂Q/∂a is taken at the action of the actor, m tanh(s·w). You leave out m.": _actor(
        at=lambda h, s, w, m: h
    ),
    "∂Q/∂a is taken at a = 0. Take it at the action of the actor.": _actor(at=lambda h, s, w, m: 0 * h),
    "You multiply the means. Each state has its own product: multiply first, then take the mean.": (
        _actor(product=False)
    ),
    "This is the sum over the states, not the mean.": _actor(total=True),
    "The sign is wrong: this gradient goes away from the maximum of Q.": lambda *case: -actor_gradient(*case),
}

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(100)  # exact for these polynomials


def bias(K, n):
    """Return the expectation by integrating the distribution function."""
    return 1 - WEIGHTS @ (1 - ((1 - POINTS) / 2) ** n) ** K


def _cases_8c(rng: np.random.Generator) -> Cases:
    yield from ((1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (10, 2), (10, 5), (4, 3))


_MISCONCEPTIONS_8C = {
    "This is one critic. The smallest of n is lower.": lambda K, n: 1 - 2 / (K + 1),
    "This is the smallest of n for one action. The actor takes the best of K.": lambda K, n: 2 / (n + 1) - 1,
    "You add the two expectations. The largest is taken of numbers that are smallest ones already.": (
        lambda K, n: 1 - 2 / (K + 1) + 2 / (n + 1) - 1
    ),
    "The order is exchanged: this is the smallest, over the critics, of each critic's largest value.": (
        lambda K, n: -1 + WEIGHTS @ (1 - ((1 + POINTS) / 2) ** K) ** n
    ),
    "K and n are exchanged.": lambda K, n: bias(n, K),
    "The errors are uniform between −1 and 1, not between 0 and 1.": lambda K, n: (1 + bias(K, n)) / 2,
    "This is the largest of all errors: the target takes the smallest of the critics.": (
        lambda K, n: 1 - 2 / (K * n + 1)
    ),
    "This is the integral. The expectation is 1 minus twice the integral over u.": (
        lambda K, n: (1 - bias(K, n)) / 2
    ),
}


def mean_reach(z, theta, sigma):
    """Return the mean, run by run, with the noise as a weighted sum of the Gaussian numbers."""
    N, T = z.shape
    b, reach = sigma * np.sqrt(1 - (1 - theta) ** 2), []
    for run in z:
        scaled = np.append(sigma * run[0], b * run[1:])
        x = [sum((1 - theta) ** (t - j) * scaled[j] for j in range(t + 1)) for t in range(T)]
        reach.append(max(abs(np.cumsum(x))))
    return sum(reach) / N


def _cases_8d(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 1.0, -1.0]]), 0.5, 1.0
    for theta in (1.0, 0.15, 0.4, 0.05):
        yield rng.normal(size=(5, 12)), theta, rng.uniform(0.1, 0.8)


def _reach(*, b=None, first=None, decay=None, integrate=True, measure=None, average=np.mean):
    def wrong(z, theta, sigma):
        scale = np.sqrt(theta * (2 - theta)) if b is None else b(theta)
        x = sigma * z[:, 0] * (1 if first is None else first(theta))
        noise = [x]
        for t in range(1, z.shape[1]):
            x = (1 - theta if decay is None else decay(theta)) * x + sigma * scale * z[:, t]
            noise.append(x)
        path = np.cumsum(noise, axis=0) if integrate else np.array(noise)
        return average(abs(path).max(axis=0) if measure is None else measure(path))

    return wrong


_MISCONCEPTIONS_8D = {
    "b = σ: then correlated noise is larger than σ, and the comparison is not fair.": (
        _reach(b=lambda theta: 1.0)
    ),
    "b = σ √θ is the limit of small θ. Let the variance reproduce itself.": _reach(b=np.sqrt),
    "b = σ θ keeps the mean where it is. Variances add, not standard deviations.": _reach(
        b=lambda theta: theta
    ),
    "The first number has the standard deviation σ, not b.": (
        _reach(first=lambda theta: np.sqrt(theta * (2 - theta)))
    ),
    "θ is the part that decays: the noise keeps 1 − θ of itself.": _reach(decay=lambda theta: theta),
    "The noise is the velocity. Add it up to get the position.": _reach(integrate=False),
    "This is the distance at the end. Take the largest on the way.": _reach(
        measure=lambda path: abs(path[-1])
    ),
    "A car that went to the left has got somewhere, too: take the absolute value.": (
        _reach(measure=lambda path: path.max(axis=0))
    ),
    "This is the farthest run. Take the mean over the runs.": _reach(average=np.max),
}

PROBLEMS = [
    Exercise("8A", lag, _cases_8a, _MISCONCEPTIONS_8A),
    Exercise("8B", actor_gradient, _cases_8b, _MISCONCEPTIONS_8B),
    Exercise("8C", bias, _cases_8c, _MISCONCEPTIONS_8C),
    Exercise("8D", mean_reach, _cases_8d, _MISCONCEPTIONS_8D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("8A", "c * (1 - tau) / tau", "c / tau", "Off by one: the copy moves after the weight"),
    ("8B", "m * (1 - squashed**2)", "m", "The derivative of the tanh"),
    ("8B", "(dQ_da * dmu_dz) @ s / len(s)", "dQ_da.mean() * (dmu_dz @ s) / len(s)", "You multiply the means"),
    ("8C", "n * j / (n * j + 1) for", "j / (j + 1) for", "This is one critic"),
    ("8D", "b = sigma * np.sqrt(theta * (2 - theta))", "b = sigma", "b = σ: then correlated noise is larger"),
]
