"""Problem set 7: the bias of a critic, GAE with two kinds of end, where TD comes to rest, learning rates."""

import numpy as np

from pgcourse.environments import worlds
from pgcourse.maths import td
from pgcourse.maths.logistic import softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def gae_bias(c, p, gamma, lam):
    """Return the expectation over the length of an episode without rewards, where all true values are 0."""
    bias = 0.0
    for length in range(1, 400):
        delta = np.full(length, gamma * c - c)
        delta[-1] = -c
        bias += p ** (length - 1) * (1 - p) * td.gae(delta, gamma, lam)[0]
    return bias


def _cases_7a(rng: np.random.Generator) -> Cases:
    yield 1.0, 0.5, 1.0, 0.5
    yield 2.0, 0.5, 0.5, 1.0
    for _ in range(5):
        yield rng.normal(), rng.uniform(0.2, 0.9), rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)


_MISCONCEPTIONS_7A = {
    "This is λ = 0, the bias of one TD error. The later ones have one, too.": (
        lambda c, p, gamma, lam: c * (gamma * p - 1)
    ),
    "This is λ = 1, where only the value that is subtracted counts.": lambda c, p, gamma, lam: -c,
    "The episode goes on with probability p only: p is missing.": (
        lambda c, p, gamma, lam: c * (gamma - 1) / (1 - gamma * lam) if gamma < 1 else -1e300
    ),
    "A later TD error exists only if the episode has gone on: each has a factor p, too.": (
        lambda c, p, gamma, lam: c * (gamma * p - 1) / (1 - gamma * lam) if gamma * lam < 1 else -1e300
    ),
    "The discount is missing.": lambda c, p, gamma, lam: c * (p - 1) / (1 - lam * p),
    "This is the bias of the λ-return. The advantage subtracts v(s), which is wrong by c.": (
        lambda c, p, gamma, lam: c + c * (gamma * p - 1) / (1 - gamma * lam * p)
    ),
    "The factor 1 − λ belongs to n-step estimates. GAE is a sum of TD errors without it.": (
        lambda c, p, gamma, lam: (1 - lam) * c * (gamma * p - 1) / (1 - gamma * lam * p)
    ),
    "The sign is wrong: a critic that is too high makes the estimate too low.": (
        lambda c, p, gamma, lam: -gae_bias(c, p, gamma, lam)
    ),
}


def advantages(r, v, next_v, terminated, truncated, gamma, lam):
    """Return the package's GAE."""
    return td.gae(td.td_error(r, v, next_v, terminated, gamma), gamma, lam, done=terminated | truncated)


def _cases_7b(rng: np.random.Generator) -> Cases:
    one, no = np.ones((1, 3)), np.zeros((1, 3), bool)
    middle = np.array([[False, True, False]])
    yield one, 0 * one, 2 * one, no, no, 0.5, 0.5
    yield one, 0 * one, 2 * one, middle, no, 0.5, 0.5
    yield one, 0 * one, 2 * one, no, middle, 0.5, 0.5
    for _ in range(5):
        N, T = rng.integers(2, 4), rng.integers(4, 7)
        kind = rng.choice(3, p=[0.6, 0.2, 0.2], size=(N, T))
        r, v, next_v = rng.normal(size=(3, N, T))
        yield r, v, next_v, kind == 1, kind == 2, rng.uniform(0.5, 0.95), rng.uniform(0.3, 0.9)


def _gae(*, no_value=None, cut=None, gamma=None, lam=None, forwards=False, last=None, decay=None):
    def wrong(r, v, next_v, terminated, truncated, discount, decay_of_trace):
        g, l = discount if gamma is None else gamma, decay_of_trace if lam is None else lam
        gone = terminated if no_value is None else no_value(terminated, truncated)
        ends = terminated | truncated if cut is None else cut(terminated, truncated)
        delta = r + g * np.where(gone, 0.0, next_v) - v
        factor = g * l if decay is None else decay(g, l)
        A, later = np.zeros(r.shape), np.zeros(len(r))
        steps = range(r.shape[1])
        for t in steps if forwards else reversed(steps):
            A[:, t] = later = delta[:, t] + factor * ~ends[:, t] * later
        if last is not None:
            A[:, -1] = last
        return A

    return wrong


_MISCONCEPTIONS_7B = {
    "A truncated step still has a next value. You treat it as terminated.": (
        _gae(no_value=lambda terminated, truncated: terminated | truncated)
    ),
    "After a truncated step another episode begins: its TD errors do not belong to this one.": (
        _gae(cut=lambda terminated, truncated: terminated)
    ),
    "After a terminated step another episode begins: its TD errors do not belong to this one.": (
        _gae(cut=lambda terminated, truncated: truncated)
    ),
    "The sums run through all ends of episodes.": _gae(cut=lambda terminated, truncated: terminated & False),
    "After termination there is no next value.": _gae(
        no_value=lambda terminated, truncated: terminated & False
    ),
    "λ is missing: these are returns minus values.": _gae(lam=1.0),
    "These are single TD errors, λ = 0.": _gae(lam=0.0),
    "The discount is missing.": _gae(gamma=1.0),
    "The next advantage is multiplied by γλ, not by λ.": _gae(decay=lambda gamma, lam: lam),
    "You sum the TD errors so far. Go backwards.": _gae(forwards=True),
    "The last step of the array has an advantage, too: its TD error.": _gae(last=0.0),
}


def td_fixed_point(X, P, r, d, gamma):
    """Return the weights after 2⁶⁰ mean updates, by squaring the map of one."""
    A, b = X.T @ (d[:, None] * (X - gamma * P @ X)), X.T @ (d * r)
    eta = 0.5 / np.linalg.norm(A)
    M, w = np.eye(len(A)) - eta * A, eta * b
    for _ in range(60):
        M, w = M @ M, w + M @ w
    return w


def _cases_7c(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0], [2.0]]), np.full((2, 2), 0.5), np.array([1.0, 0.0]), np.full(2, 0.5), 0.5
    for _ in range(5):
        S = rng.integers(3, 6)
        P = rng.dirichlet(np.full(S, 0.7), S)
        d = np.linalg.matrix_power(P, 2000)[0]
        yield rng.normal(size=(S, 2)), P, rng.normal(size=S), d / d.sum(), rng.uniform(0.5, 0.9)


def _weighted(left, right, target, d):
    return np.linalg.solve(left.T @ (d[:, None] * right), left.T @ (d * target))


_MISCONCEPTIONS_7C = {
    "This is the best approximation to V, where Monte Carlo ends.": (
        lambda X, P, r, d, gamma: _weighted(X, X, np.linalg.solve(np.eye(len(r)) - gamma * P, r), d)
    ),
    "This minimises the TD errors, as if the target were not detached. TD multiplies the error by x(s).": (
        lambda X, P, r, d, gamma: _weighted(X - gamma * P @ X, X - gamma * P @ X, r, d)
    ),
    "d is missing: states that are seen more often count more.": (
        lambda X, P, r, d, gamma: _weighted(X, X - gamma * P @ X, r, np.ones(len(r)))
    ),
    "The discount is missing.": lambda X, P, r, d, gamma: _weighted(X, X - P @ X, r, d),
    "The next value is missing: this fits the rewards.": lambda X, P, r, d, gamma: _weighted(X, X, r, d),
    "P is transposed: row s holds the next states of s.": (
        lambda X, P, r, d, gamma: _weighted(X, X - gamma * P.T @ X, r, d)
    ),
    "The sign of the next value is wrong: v(s) − γ v(s′) = r.": (
        lambda X, P, r, d, gamma: _weighted(X, X + gamma * P @ X, r, d)
    ),
    "These are the values. Return the weights.": lambda X, P, r, d, gamma: (
        X @ td_fixed_point(X, P, r, d, gamma)
    ),
}


def late_reward(P, r, u, eta, eta_critic, gamma):
    """Return the mean reward, with the critic's and the actor's steps from the same TD error."""
    return _learn(P, r, u, eta, eta_critic, gamma)


def _cases_7d(rng: np.random.Generator) -> Cases:
    env = worlds.chain()
    yield env.P, env.r, rng.random((2, 2)), 0.5, 0.5, 0.5
    for gamma in (0.9, 0.8, 0.95, 0.9):
        yield env.P, env.r + rng.normal(size=(2, 2)) / 2, rng.random((300, 2)), 0.3, 0.6, gamma


def _learn(
    P,
    r,
    u,
    eta,
    eta_critic,
    gamma,
    *,
    order="same",
    weight=None,
    push=None,
    all_steps=False,
    sign=1.0,
    flip=False,
):
    w, v, s, rewards = np.zeros((2, 2)), np.zeros(2), 0, []
    for u_a, u_s in u:
        pi = softmax(w[s])
        a = int(u_a < pi[0]) if flip else int(u_a < pi[1])
        next_s = int(u_s < P[s, a, 1])
        delta = r[s, a] + gamma * v[next_s] - v[s]
        G = delta if weight is None else weight(r[s, a], v[s], gamma * v[next_s])
        v[s] += eta_critic * delta
        if order == "critic first":
            G = r[s, a] + gamma * v[next_s] - v[s]
        one = (np.arange(2) == a).astype(float)
        w[s] += sign * eta * G * (one - pi if push is None else push(one, pi))
        rewards.append(r[s, a])
        s = next_s
    return np.mean(rewards if all_steps else rewards[len(u) // 2 :])


def _mistake(**options):
    return lambda *case: _learn(*case, **options)


_MISCONCEPTIONS_7D = {
    "The learning rates are exchanged: η is the actor's, η′ the critic's.": (
        lambda P, r, u, eta, eta_critic, gamma: _learn(P, r, u, eta_critic, eta, gamma)
    ),
    "The actor's δ is computed after the critic has moved. Compute it once, before.": (
        _mistake(order="critic first")
    ),
    "The weight of the score is the target. It should be the target minus v(s).": (
        _mistake(weight=lambda r, v, next_v: r + next_v)
    ),
    "The weight of the score is the reward. It should be the TD error.": (
        _mistake(weight=lambda r, v, next_v: r)
    ),
    "The sign of the TD error is wrong for the actor.": _mistake(sign=-1.0),
    "The discount is missing.": (
        lambda P, r, u, eta, eta_critic, gamma: _learn(P, r, u, eta, eta_critic, 1.0)
    ),
    "Only the logit of the action taken changes. The other one falls by its probability.": (
        _mistake(push=lambda one, pi: one * (1 - pi))
    ),
    "This is the mean over all steps. Take the second half.": _mistake(all_steps=True),
    "Action 1 has the probability π(1∣s): it is taken if the random number is below it.": _mistake(flip=True),
}

PROBLEMS = [
    Exercise("7A", gae_bias, _cases_7a, _MISCONCEPTIONS_7A),
    Exercise("7B", advantages, _cases_7b, _MISCONCEPTIONS_7B),
    Exercise("7C", td_fixed_point, _cases_7c, _MISCONCEPTIONS_7C),
    Exercise("7D", late_reward, _cases_7d, _MISCONCEPTIONS_7D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("7A", "c * (gamma * p - 1) / (1 - gamma * lam * p)", "c * (gamma * p - 1)", "This is λ = 0"),
    ("7B", "np.where(terminated, 0.0", "np.where(terminated | truncated, 0.0", "A truncated step still has"),
    ("7B", "~(terminated[:, t] | truncated[:, t])", "~terminated[:, t]", "After a truncated step another"),
    (
        "7C",
        "(X - gamma * P @ X), DX.T @ r",
        "X, DX.T @ np.linalg.solve(np.eye(len(r)) - gamma * P, r)",
        "This is the best",
    ),
    (
        "7D",
        "eta_critic * delta\n        w[s] += eta * delta",
        "eta * delta\n        w[s] += eta_critic * delta",
        "The learning rates are",
    ),
]
