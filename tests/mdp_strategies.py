"""Small MDPs of every kind that ``MDP`` allows, and oracles for them: loops, term by term."""

from itertools import product
from math import exp

import numpy as np
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from pgcourse.environments.mdp import MDP

KINDS = ("horizon", "discount", "both", "proper", "forward")


@st.composite
def mdps(draw, kinds=KINDS, max_states=5, max_actions=3, max_horizon=5):
    """Draw an MDP and logits: sparse or dense, with absorbing or aliased states and unused observations.

    Transitions and rewards out of absorbing states mean nothing and are drawn like the others. In "proper"
    MDPs every policy ends each episode sooner or later; in "forward" ones no state recurs. Both have neither
    discount nor horizon.
    """
    kind = draw(st.sampled_from(kinds))
    ends = kind in ("proper", "forward")
    S, K = draw(st.integers(2 if ends else 1, max_states)), draw(st.integers(1, max_actions))
    n_absorbing, n_observations = draw(st.integers(int(ends), S - 1)), draw(st.integers(1, S + 1))
    density, scale = draw(st.sampled_from([0.2, 0.6, 1])), draw(st.sampled_from([0, 1, 3]))
    horizon = draw(st.integers(1, max_horizon)) if kind in ("horizon", "both") else None
    gamma = draw(st.floats(0, 0.95)) if kind in ("discount", "both") else 1.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    goal = np.array([rng.integers(min(s + 1, S - 1), S) for s in np.repeat(np.arange(S), K)]).reshape(
        S, K
    )  # further on, if possible
    weights = rng.exponential(size=(S, K, S)) * (rng.random((S, K, S)) < density)
    absorbing = np.arange(S) >= S - n_absorbing
    if kind == "forward":
        weights[~absorbing] *= np.arange(S) > np.flatnonzero(~absorbing)[:, None, None]
    weights += np.eye(S)[goal] * (rng.exponential(size=(S, K, 1)) + 0.1)
    P = weights / weights.sum(axis=2, keepdims=True)
    if kind == "proper":
        P = 0.7 * P + 0.3 * np.eye(S)[goal]
    initial = rng.exponential(size=S) * (rng.random(S) < density) * ~absorbing
    initial[0] += 0.1
    order = rng.permutation(S)
    P, r, initial = P[order][:, :, order], rng.normal(size=(S, K)), initial[order] / initial.sum()
    observation = rng.integers(n_observations, size=S)
    mdp = MDP(P, r, initial, gamma, horizon, absorbing[order], observation)
    return mdp, rng.normal(size=(mdp.n_observations, K)) * scale


def pi_by_hand(mdp, w):
    """Return π(k∣s) as lists."""
    rows = [[exp(z) for z in w[x]] for x in mdp.observation]
    return [[e / sum(row) for e in row] for row in rows]


def values_and_state_visitation_by_hand(mdp, w):
    """Return V, Q and the state visitation, as sums over all steps that matter."""
    pi, S, K = pi_by_hand(mdp, w), mdp.n_states, mdp.n_actions
    continues = [not end for end in mdp.absorbing]
    P, r = np.zeros((S, S)), np.zeros(S)
    for s, a in product(range(S), range(K)):
        if continues[s]:
            r[s] += pi[s][a] * mdp.r[s, a]
            for next_s in range(S):
                P[s, next_s] += pi[s][a] * mdp.P[s, a, next_s] * continues[next_s]
    reward, visit = r, mdp.initial_distribution
    V, d = [r], [visit]  # V with 1, 2, … steps to go; the state visitation up to step 1, 2, …
    while len(V) != mdp.horizon and (mdp.horizon or abs(reward).sum() + visit.sum() > 1e-14):
        reward, visit = mdp.gamma * (P @ reward), mdp.gamma * (visit @ P)
        V.append(V[-1] + reward)
        d.append(d[-1] + visit)

    def Q(V):
        return [
            [
                continues[s] * (mdp.r[s, a] + sum(mdp.gamma * mdp.P[s, a, t] * V[t] for t in range(S)))
                for a in range(K)
            ]
            for s in range(S)
        ]

    if mdp.horizon is None:
        return V[-1], np.array(Q(V[-1])), d[-1]
    return (
        np.array(V[::-1]),
        np.array([Q(V) for V in [*V[-2::-1], np.zeros(S)]]),
        np.diff([np.zeros(S), *d], axis=0),
    )


def episodes_by_hand(mdp, w):
    """Return {(states, actions): P(τ)}, extended step by step."""
    pi, found = pi_by_hand(mdp, w), {}

    def extend(s, a, p):
        if mdp.absorbing[s[-1]] or len(a) == mdp.horizon:
            assert (s, a) not in found
            found[s, a] = p
            return
        for k, next_s in product(range(mdp.n_actions), range(mdp.n_states)):
            if mdp.P[s[-1], k, next_s] > 0:
                extend((*s, next_s), (*a, k), p * pi[s[-1]][k] * mdp.P[s[-1], k, next_s])

    for s in range(mdp.n_states):
        if mdp.initial_distribution[s] > 0:
            extend((s,), (), mdp.initial_distribution[s])
    return found


def optimal_average_reward_by_linear_program(mdp):
    """Return max Σ x(s,a) r(s,a) over the stationary distributions x of states and actions."""
    S, K = mdp.r.shape
    leave = np.repeat(np.eye(S), K, axis=0) - mdp.P.reshape(S * K, S)
    flow = np.vstack([leave.T, np.ones(S * K)])
    return -linprog(-mdp.r.ravel(), A_eq=flow, b_eq=np.eye(S + 1)[-1]).fun


def logits(p):
    """Logits of two actions, the second with probability p."""
    return np.log([1 - p, p])


def zeros(mdp):
    """Logits of the uniform policy."""
    return np.zeros((mdp.n_observations, mdp.n_actions))


def assert_close(one, other, rtol):
    """Equal to within rtol, relative to the largest number in either."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert_allclose(
        one, other, rtol=0, atol=rtol * max(1, np.abs(one).max(), np.abs(other).max()), strict=True
    )
