"""Small worlds of every kind that ``MDP`` allows, and what is true of them, found the slow way: by loops, term by term."""

from itertools import product
from math import exp

import numpy as np
from hypothesis import strategies as st

from pgcourse.environments.mdp import MDP

KINDS = ("horizon", "discount", "both", "proper", "forward")


@st.composite
def worlds(draw, kinds=KINDS, most_states=5, most_actions=3, longest=5):
    """Draw a world and logits for it: few ways or many, some states absorbing, some that look the same, looks that nothing has.

    What leads out of absorbing states and is paid there means nothing, and is drawn like the rest. In "proper" worlds every policy ends
    each episode sooner or later, in "forward" worlds no state comes twice; both go without discount and horizon.
    """
    kind = draw(st.sampled_from(kinds))
    ends = kind in ("proper", "forward")
    S, K = draw(st.integers(2 if ends else 1, most_states)), draw(st.integers(1, most_actions))
    n_absorbing, n_looks = draw(st.integers(int(ends), S - 1)), draw(st.integers(1, S + 1))
    share, scale = draw(st.sampled_from([0.2, 0.6, 1])), draw(st.sampled_from([0, 1, 3]))
    horizon = draw(st.integers(1, longest)) if kind in ("horizon", "both") else None
    gamma = draw(st.floats(0, 0.95)) if kind in ("discount", "both") else 1.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    goal = np.array([rng.integers(min(s + 1, S - 1), S) for s in np.repeat(np.arange(S), K)]).reshape(
        S, K
    )  # further on, if possible
    chances = rng.exponential(size=(S, K, S)) * (rng.random((S, K, S)) < share)
    absorbing = np.arange(S) >= S - n_absorbing
    if kind == "forward":
        chances[~absorbing] *= np.arange(S) > np.flatnonzero(~absorbing)[:, None, None]
    chances += np.eye(S)[goal] * (rng.exponential(size=(S, K, 1)) + 0.1)
    P = chances / chances.sum(axis=2, keepdims=True)
    if kind == "proper":
        P = 0.7 * P + 0.3 * np.eye(S)[goal]
    start = rng.exponential(size=S) * (rng.random(S) < share) * ~absorbing
    start[0] += 0.1
    order = rng.permutation(S)
    P, r, start = P[order][:, :, order], rng.normal(size=(S, K)), start[order] / start.sum()
    world = MDP(P, r, start, gamma, horizon, absorbing[order], rng.integers(n_looks, size=S))
    return world, rng.normal(size=(world.n_seen, K)) * scale


def pi_by_hand(world, w):
    """Return π(k∣s) as lists."""
    rows = [[exp(z) for z in w[x]] for x in world.x]
    return [[e / sum(row) for e in row] for row in rows]


def values_and_visits_by_hand(world, w):
    """Return V, Q and the visits: sums over time, with a horizon of as many terms, without one of as many as matter."""
    pi, S, K = pi_by_hand(world, w), world.n_states, world.n_actions
    goes_on = [not end for end in world.absorbing]
    P, r = np.zeros((S, S)), np.zeros(S)
    for s, a in product(range(S), range(K)):
        if goes_on[s]:
            r[s] += pi[s][a] * world.r[s, a]
            for t in range(S):
                P[s, t] += pi[s][a] * world.P[s, a, t] * goes_on[t]
    reward, visit = r, world.start
    V, d = [r], [visit]  # V with 1, 2, … steps to go; the visits up to step 1, 2, …
    while len(V) != world.horizon and (world.horizon or abs(reward).sum() + visit.sum() > 1e-14):
        reward, visit = world.gamma * (P @ reward), world.gamma * (visit @ P)
        V.append(V[-1] + reward)
        d.append(d[-1] + visit)

    def Q(V):
        return [
            [
                goes_on[s] * (world.r[s, a] + sum(world.gamma * world.P[s, a, t] * V[t] for t in range(S)))
                for a in range(K)
            ]
            for s in range(S)
        ]

    if world.horizon is None:
        return V[-1], np.array(Q(V[-1])), d[-1]
    return (
        np.array(V[::-1]),
        np.array([Q(V) for V in [*V[-2::-1], np.zeros(S)]]),
        np.diff([np.zeros(S), *d], axis=0),
    )


def episodes_by_hand(world, w):
    """Return {(states, actions): P(τ)}, grown step by step."""
    pi, found = pi_by_hand(world, w), {}

    def grow(s, a, p):
        if world.absorbing[s[-1]] or len(a) == world.horizon:
            assert (s, a) not in found
            found[s, a] = p
            return
        for k, t in product(range(world.n_actions), range(world.n_states)):
            if world.P[s[-1], k, t] > 0:
                grow((*s, t), (*a, k), p * pi[s[-1]][k] * world.P[s[-1], k, t])

    for s in range(world.n_states):
        if world.start[s] > 0:
            grow((s,), (), world.start[s])
    return found
