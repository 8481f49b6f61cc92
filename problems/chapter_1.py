"""Problem set 1: aliased cells, action values, chains of surrogates, an ε-greedy agent at a slot machine."""

import numpy as np

from pgcourse.environments.mdp import MDP
from pgcourse.teaching.exercises.engine import Cases, Exercise


def expected_return(p, c, gamma):
    """Return J by solving the MDP of the two cells and the end."""
    P = np.zeros((3, 2, 3))
    P[0, 1, 2] = P[0, 0, 1] = P[1, 0, 2] = P[1, 1, 0] = P[2, :, 2] = 1
    r = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    end, same = np.array([False, False, True]), np.array([0, 0, 1])
    env = MDP(P, r, np.array([c, 1 - c, 0]), gamma, absorbing=end, observation=same)
    return env.J(np.array([[np.log(1 - p), np.log(p)], [0.0, 0.0]]))


def _cases_1a(rng: np.random.Generator) -> Cases:
    yield 0.5, 1.0, 0.5
    yield 0.75, 0.0, 0.5
    for _ in range(6):
        yield rng.uniform(0.1, 0.9), rng.uniform(0, 1), rng.uniform(0.5, 0.95)


def _always(a, c, gamma):
    return c + (1 - c) * gamma if a else c * gamma + 1 - c


_MISCONCEPTIONS_1A = {
    "The discount is missing: without it every policy has J = 1.": lambda p, c, gamma: 1.0,
    "This is an agent that tosses its coin once, before the episode. It tosses it at every step.": (
        lambda p, c, gamma: p * _always(1, c, gamma) + (1 - p) * _always(0, c, gamma)
    ),
    "The initial cells are exchanged.": lambda p, c, gamma: expected_return(p, 1 - c, gamma),
    "In the second cell it is action 0 that ends the episode.": (
        lambda p, c, gamma: p / (1 - gamma * (1 - p))
    ),
    "You stop after the second step. The agent may go back and forth any number of times.": (
        lambda p, c, gamma: c * (p + gamma * (1 - p) ** 2) + (1 - c) * (1 - p + gamma * p**2)
    ),
    "This is the probability of ending at once. A longer episode has a return, too.": (
        lambda p, c, gamma: c * p + (1 - c) * (1 - p)
    ),
    "Going back and forth takes two steps: the loop has the factor γ², not γ.": (
        lambda p, c, gamma: (
            (c * (p + gamma * (1 - p) ** 2) + (1 - c) * (1 - p + gamma * p**2)) / (1 - gamma * p * (1 - p))
        )
    ),
    "The next cell's value is not discounted in the step that leads to it.": (
        lambda p, c, gamma: expected_return(p, c, gamma) / gamma
    ),
}


def action_values(P, r, pi, gamma):
    """Return Q by iterating the Bellman equation until nothing moves."""
    Q = np.zeros_like(r)
    for _ in range(1000):
        Q = r + gamma * P @ (pi * Q).sum(axis=1)
    return Q


def _cases_1b(rng: np.random.Generator) -> Cases:
    P = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    yield P, np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[0.5, 0.5], [1.0, 0.0]]), 0.5
    for _ in range(6):
        S, K = rng.integers(2, 5), rng.integers(2, 4)
        pi = rng.dirichlet(np.ones(K), S)
        yield rng.dirichlet(np.ones(S), (S, K)), rng.normal(size=(S, K)), pi, rng.uniform(0.5, 0.95)


def _bellman(P, r, pi, gamma, *, next_V=None, n=1000):
    Q = np.zeros_like(r)
    for _ in range(n):
        Q = r + gamma * P @ ((pi * Q).sum(axis=1) if next_V is None else next_V(pi, Q))
    return Q


_MISCONCEPTIONS_1B = {
    "These are the values of the optimal policy: the next action is the policy's, not the best one.": (
        lambda *case: _bellman(*case, next_V=lambda pi, Q: Q.max(axis=1))
    ),
    "The next action is drawn from the policy. You take the plain mean over the actions.": (
        lambda *case: _bellman(*case, next_V=lambda pi, Q: Q.mean(axis=1))
    ),
    "You look one step ahead. The values of the next states go on for ever.": (
        lambda *case: _bellman(*case, n=2)
    ),
    "This is V(s) in every column: the first action is given, and not drawn from the policy.": (
        lambda P, r, pi, gamma: (
            np.ones_like(r) * (pi * action_values(P, r, pi, gamma)).sum(axis=1, keepdims=True)
        )
    ),
    "These are the advantages. Leave out − V(s).": (
        lambda P, r, pi, gamma: (
            action_values(P, r, pi, gamma) - (pi * action_values(P, r, pi, gamma)).sum(axis=1, keepdims=True)
        )
    ),
    "P is transposed: the last axis is the next state.": (
        lambda P, r, pi, gamma: (
            r
            + gamma
            * P
            @ np.linalg.solve(np.eye(len(r)) - gamma * np.einsum("sk,skt->st", pi, P).T, (pi * r).sum(axis=1))
        )
    ),
    "The reward of the first step is discounted, too.": (
        lambda P, r, pi, gamma: gamma * action_values(P, r, pi, gamma)
    ),
}


def after_rounds(p0, r, n):
    """Return the probabilities after n rounds, one after the other."""
    p = p0
    for _ in range(n):
        p = p * r / (p @ r)
    return p


def _cases_1c(rng: np.random.Generator) -> Cases:
    yield np.array([0.5, 0.5]), np.array([1.0, 2.0]), 1
    yield np.array([0.8, 0.2]), np.array([1.0, 2.0]), 2
    for _ in range(5):
        K = rng.integers(2, 5)
        yield rng.dirichlet(np.ones(K)), rng.uniform(0.5, 3, K), int(rng.integers(2, 6))
    yield np.array([0.5, 0.3, 0.2]), np.array([900.0, 1000.0, 999.0]), 200


def _normalized(p):
    return p / p.sum()


_MISCONCEPTIONS_1C = {
    "This is one round. Each of the n rounds multiplies by the rewards.": lambda p0, r, n: after_rounds(
        p0, r, 1
    ),
    "p⁰ is missing: the rewards multiply the probabilities of the round before.": (
        lambda p0, r, n: _normalized((r / r.max()) ** n)
    ),
    "This is a softmax of the rewards. The maximum of Σ p⁰ r log p is in proportion to p⁰ r.": (
        lambda p0, r, n: _normalized(p0 * np.exp(n * (r - r.max())))
    ),
    "p⁰ is multiplied in every round. From the second on, the probabilities are those of the last round.": (
        lambda p0, r, n: _normalized((p0 * r / (p0 * r).max()) ** n)
    ),
    "These are not probabilities: divide by their sum.": lambda p0, r, n: p0 * (r / r.max()) ** n,
    "The greedy policy is the limit of many rounds.": lambda p0, r, n: np.eye(len(r))[r.argmax()],
    "r is multiplied by n, and should be raised to the power of n.": lambda p0, r, n: _normalized(
        p0 * (1 + n * r)
    ),
    "A power of a large number overflows. Divide the rewards by the largest first: no ratio changes.": (
        lambda p0, r, n: _normalized(p0 * r**n)
    ),
}


def fraction_of_good_runs(p, u, epsilon):
    """Return the fraction, all runs at once."""
    return _bandit(p, u, epsilon)


def _bandit(p, u, epsilon, *, initial=0.0, explore=None, last=False, most_pulled=False, reward=2, rate=None):
    N, T, _ = u.shape
    runs, K = np.arange(N), len(p)
    counts, sums = np.zeros((N, K)), np.zeros((N, K))
    means = np.full((N, K), initial)
    for t in range(T):
        explores = (u[:, t, 0] < epsilon) if explore is None else explore(u[:, t, 0], epsilon)
        a = np.where(explores, (u[:, t, 1] * K).astype(int), means.argmax(axis=1))
        x = u[:, t, reward] < p[a]
        counts[runs, a] += 1
        sums[runs, a] += x
        means[runs, a] = x if last else sums[runs, a] / counts[runs, a]
        if rate is not None:
            means[runs, a] = sums[runs, a] / rate(t)
    return ((counts if most_pulled else means).argmax(axis=1) == p.argmax()).mean()


def _cases_1d(rng: np.random.Generator) -> Cases:
    for p, epsilon in (([0.5, 0.7], 0.0), ([0.5, 0.7], 0.1), ([0.6, 0.5, 0.4], 0.3), ([0.3, 0.4, 0.5], 0.2)):
        yield np.array(p), rng.random((60, 30, 3)), epsilon


_MISCONCEPTIONS_1D = {
    "ε is the probability of exploring: the first number must be below it.": (
        lambda *case: _bandit(*case, explore=lambda u, epsilon: u > epsilon)
    ),
    "The mean of an arm that was not tried is 0. You begin with 1, which makes the agent try all.": (
        lambda *case: _bandit(*case, initial=1.0)
    ),
    "You keep the last reward of each arm. Keep the mean.": lambda *case: _bandit(*case, last=True),
    "You look at the arm that was taken most often. Look at the largest mean.": (
        lambda *case: _bandit(*case, most_pulled=True)
    ),
    "The reward needs a random number of its own, the third: the second has chosen the arm.": (
        lambda *case: _bandit(*case, reward=1)
    ),
    "You divide by all steps. A mean is over the rewards of its own arm.": (
        lambda *case: _bandit(*case, rate=lambda t: t + 1)
    ),
    "This is the fraction of runs that end with a worse arm.": lambda *case: 1 - _bandit(*case),
    "This is the number of runs, not their fraction.": lambda p, u, epsilon: _bandit(p, u, epsilon) * len(u),
}

PROBLEMS = [
    Exercise("1A", expected_return, _cases_1a, _MISCONCEPTIONS_1A),
    Exercise("1B", action_values, _cases_1b, _MISCONCEPTIONS_1B),
    Exercise("1C", after_rounds, _cases_1c, _MISCONCEPTIONS_1C),
    Exercise("1D", fraction_of_good_runs, _cases_1d, _MISCONCEPTIONS_1D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    (
        "1A",
        "return c * V_1 + (1 - c) * V_2",
        "return (1 - c) * V_1 + c * V_2",
        "The initial cells are exchanged",
    ),
    ("1A", "1 - gamma**2 * p * (1 - p)", "1", "You stop after the second step"),
    ("1B", "return r + gamma * P @ V", "return np.ones_like(r) * V[:, None]", "This is V(s) in every column"),
    ("1C", "(r / r.max()) ** n", "r**n", "A power of a large number overflows"),
    ("1D", "u_0 < epsilon", "u_0 > epsilon", "ε is the probability of exploring"),
    ("1D", "u_2 < p[a]", "u_1 < p[a]", "The reward needs a random number of its own"),
]
