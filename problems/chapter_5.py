"""Problem set 5: the derivative of an environment, natural gradients, ratios by steps, improvements."""

import numpy as np

from pgcourse.environments import mdp
from pgcourse.maths.estimators import score_function
from pgcourse.maths.logistic import softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def make_chain(q, horizon):
    """Return the environment of the notebook."""
    P = np.array([[[q, 1 - q], [1 - q, q]], [[1 - q, q], [q, 1 - q]]])
    return mdp.MDP(P, np.array([[0.0, -0.2], [1.0, -0.2]]), np.array([1.0, 0.0]), horizon=horizon)


def motor_derivative(w, q, horizon):
    """Return ∂J/∂q by central differences of sixth order."""
    steps = [
        make_chain(q + n * 1e-3, horizon).J(w) - make_chain(q - n * 1e-3, horizon).J(w) for n in (1, 2, 3)
    ]
    return np.dot(steps, [45, -9, 1]) / 0.06


def _cases_5a(rng: np.random.Generator) -> Cases:
    yield np.array([[0.0, 1.0], [1.0, 0.0]]), 0.8, 2
    for horizon in (2, 3, 3, 4, 5):
        yield rng.normal(size=(2, 2)), rng.uniform(0.55, 0.95), horizon


def _motor(w, q, horizon, *, works=None, fails=None, weight=None, by_policy=False, by_change=False):
    e = make_chain(q, horizon).enumerate_episodes(w)
    changes = e.s[:, 1:] != e.s[:, :-1]
    success = changes if by_change else changes == (e.a == 1)
    score = np.where(success, 1 / q if works is None else works, -1 / (1 - q) if fails is None else fails)
    if by_policy:
        score = score + 1 - softmax(w)[e.s[:, :-1], e.a]
    if weight == "step":
        return e.P @ (score * e.r).sum(axis=1)
    estimates = score.sum(axis=1) * e.r.sum(axis=1)
    return estimates.mean() if weight == "plain" else e.P @ estimates


_MISCONCEPTIONS_5A = {
    "A transition in which the action did not work depends on q, too: its score is −1/(1 − q).": (
        lambda *case: _motor(*case, fails=0.0)
    ),
    "The score of an action that did not work is negative: its probability 1 − q falls with q.": (
        lambda w, q, horizon: _motor(w, q, horizon, fails=1 / (1 - q))
    ),
    "These are the derivatives of the probabilities, ±1. The score divides each by its probability.": (
        lambda *case: _motor(*case, works=1.0, fails=-1.0)
    ),
    "You take a change of the state for an action that worked. Action 0 works if the state stays.": (
        lambda *case: _motor(*case, by_change=True)
    ),
    "Each step's score is multiplied by that step's reward, which came before the transition.": (
        lambda *case: _motor(*case, weight="step")
    ),
    "You average over the list of episodes. Their probabilities are the weights of an expectation.": (
        lambda *case: _motor(*case, weight="plain")
    ),
    "The policy does not depend on q: its score has no place here.": lambda *case: _motor(
        *case, by_policy=True
    ),
}


def natural_gradient(z, r):
    """Return the solution of F x = ∂J/∂z of minimal length, by the pseudo-inverse."""
    pi = softmax(z)
    return np.linalg.pinv(np.diag(pi) - np.outer(pi, pi), rcond=1e-10) @ (pi * (r - pi @ r))


def _cases_5b(rng: np.random.Generator) -> Cases:
    yield np.array([0.0, 0.0]), np.array([0.0, 1.0])
    yield np.array([1.0, 0.0, 0.0]), np.array([3.0, 1.0, 2.0])
    for _ in range(6):
        K = rng.integers(2, 6)
        yield rng.normal(size=K), rng.normal(size=K)


_MISCONCEPTIONS_5B = {
    "You subtract J, the mean with the policy's probabilities. That solves F x = g; its sum is not zero.": (
        lambda z, r: r - softmax(z) @ r
    ),
    "This is the gradient itself, π (r − J).": lambda z, r: softmax(z) * (r - softmax(z) @ r),
    "You multiply by F. The natural gradient is multiplied by its inverse.": (
        lambda z, r: (
            (np.diag(softmax(z)) - np.outer(softmax(z), softmax(z))) @ (softmax(z) * (r - softmax(z) @ r))
        )
    ),
    "A constant may be subtracted from r, but none is: the components should sum to zero.": lambda z, r: r,
    "The probabilities drop out: F x = g divides g by them.": (
        lambda z, r: softmax(z) * r - (softmax(z) * r).mean()
    ),
    "The sign is wrong: better actions should become more probable.": lambda z, r: r.mean() - r,
    "You divide g by its length. The natural gradient has a length of its own.": (
        lambda z, r: (r - r.mean()) / np.linalg.norm(r - r.mean())
    ),
}


def per_decision_return(r, rho, mask):
    """Return the estimate, episode by episode and step by step."""
    total = 0.0
    for rewards, ratios, taken in zip(r, rho, mask, strict=True):
        weight = 1.0
        for reward, ratio in zip(rewards[taken], ratios[taken], strict=True):
            weight *= ratio
            total += weight * reward
    return total / len(r)


def _cases_5c(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 2.0, 4.0]]), np.array([[0.5, 2.0, 3.0]]), np.ones((1, 3), bool)
    yield (
        np.array([[1.0, 2.0], [1.0, 0.0]]),
        np.array([[0.5, 2.0], [2.0, 7.0]]),
        np.array([[1, 1], [1, 0]]) > 0,
    )
    for k in range(6):
        n, T = rng.integers(2, 6, 2)
        mask = np.arange(T) < rng.integers(1, T + 1, size=(n, 1))
        rho = np.where(mask, rng.uniform(0.3, 2.5, (n, T)), np.nan if k >= 3 else 5.0)
        yield rng.normal(size=(n, T)) * mask, rho, mask


def _with_weights(weights):
    """Return an estimate with other weights of the rewards, from clean ratios."""

    def wrong(r, rho, mask):
        return (weights(np.where(mask, rho, 1.0)) * r).sum() / len(r)

    return wrong


_MISCONCEPTIONS_5C = {
    "Each reward is weighted by the ratios of the whole episode, later steps included.": (
        _with_weights(lambda rho: rho.prod(axis=1, keepdims=True))
    ),
    "Each reward is weighted by the ratio of its own step only. The steps before led to it.": (
        _with_weights(lambda rho: rho)
    ),
    "Off by one: the action of step t has its reward, so its ratio belongs to the product.": (
        _with_weights(lambda rho: np.cumprod(rho, axis=1) / rho)
    ),
    "You multiply the ratios from each step on. Multiply those up to it.": (
        _with_weights(lambda rho: np.cumprod(rho[:, ::-1], axis=1)[:, ::-1])
    ),
    "The ratios are added up, and should be multiplied.": _with_weights(lambda rho: np.cumsum(rho, axis=1)),
    "The ratios are inverted: π′ stands above, the policy that played stands below.": (
        _with_weights(lambda rho: 1 / np.cumprod(rho, axis=1))
    ),
    "This is the sum over the episodes, not their mean.": (
        lambda r, rho, mask: per_decision_return(r, rho, mask) * len(r)
    ),
    "You divide by the number of steps. J is an expectation over episodes.": (
        lambda r, rho, mask: per_decision_return(r, rho, mask) * len(r) / mask.sum()
    ),
    "The ratios after an episode's end may be NaN, and NaN times 0 is NaN. Choose with `np.where`.": (
        lambda r, rho, mask: (np.cumprod(rho, axis=1) * r * mask).sum(axis=1).mean()
    ),
}


def fraction_of_improvements(q, w, scores, R, batch_size, eta):
    """Return the fraction, batch by batch and episode by episode."""
    env, better = make_chain(q, 3), []
    for first in range(0, len(R), batch_size):
        g = np.zeros((2, 2))
        for e in range(first, first + batch_size):
            g += scores[e] * R[e] / batch_size
        better.append(env.J(w + eta * g) > env.J(w))
    return np.mean(better)


def _cases_5d(rng: np.random.Generator) -> Cases:
    for batch_size, n_batches, eta in ((1, 20, 0.5), (4, 50, 3.0), (10, 40, 2.0), (5, 60, 4.0)):
        q, w = rng.uniform(0.6, 0.9), rng.normal(size=(2, 2))
        episodes = make_chain(q, 3).sample_episodes(w, batch_size * n_batches, rng)
        scores = score_function(w, episodes, np.ones(episodes.r.shape))
        yield q, w, scores, episodes.r.sum(axis=1), batch_size, eta


def _batches(scores, R, batch_size, total=np.mean):
    return total((scores * R[:, None, None]).reshape(-1, batch_size, 2, 2), axis=1)


def _improvements(*, total=np.mean, sign=1.0, weighted=True):
    def wrong(q, w, scores, R, batch_size, eta):
        env, G = make_chain(q, 3), R if weighted else np.ones_like(R)
        steps = sign * eta * _batches(scores, G, batch_size, total)
        return np.mean([env.J(w + step) > env.J(w) for step in steps])

    return wrong


def _chained(q, w, scores, R, batch_size, eta):
    env, better = make_chain(q, 3), []
    for g_hat in _batches(scores, R, batch_size):
        better.append(env.J(w + eta * g_hat) > env.J(w))
        w = w + eta * g_hat
    return np.mean(better)


def _by_batch_return(q, w, scores, R, batch_size, eta):
    return (R.reshape(-1, batch_size).mean(axis=1) > make_chain(q, 3).J(w)).mean()


def _by_direction(q, w, scores, R, batch_size, eta):
    return ((_batches(scores, R, batch_size) * make_chain(q, 3).gradient(w)).sum(axis=(1, 2)) > 0).mean()


_MISCONCEPTIONS_5D = {
    "You add up over the episodes of a batch. The estimate is their mean, else steps grow with the batch.": (
        _improvements(total=np.sum)
    ),
    "You go down the gradient.": _improvements(sign=-1.0),
    "The returns are missing: each episode's score is multiplied by its return.": _improvements(
        weighted=False
    ),
    "You go on from the last step. Every batch starts from the same w, with which it was sampled.": _chained,
    "The return of a batch is one of the old weights. Compute J after the step.": _by_batch_return,
    "You ask whether the estimate points along the gradient. A step may also be too long: compute J.": (
        _by_direction
    ),
    "This is the fraction of steps that do not make J larger.": (
        lambda *case: 1 - fraction_of_improvements(*case)
    ),
}

PROBLEMS = [
    Exercise("5A", motor_derivative, _cases_5a, _MISCONCEPTIONS_5A),
    Exercise("5B", natural_gradient, _cases_5b, _MISCONCEPTIONS_5B),
    Exercise("5C", per_decision_return, _cases_5c, _MISCONCEPTIONS_5C),
    Exercise("5D", fraction_of_improvements, _cases_5d, _MISCONCEPTIONS_5D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("5A", "-1 / (1 - q)", "0.0", "A transition in which the action did not work"),
    ("5B", "r.mean()", "np.exp(z) @ r / np.exp(z).sum()", "You subtract J"),
    (
        "5C",
        "np.cumprod(np.where(mask, rho, 1.0), axis=1)",
        "np.where(mask, rho, 1.0)",
        "Each reward is weighted by",
    ),
    ("5C", "np.where(mask, rho, 1.0), axis=1", "rho, axis=1", "The ratios after an episode's end may be NaN"),
    ("5D", ".mean(axis=1)\n", ".sum(axis=1)\n", "You add up over the episodes of a batch"),
]
