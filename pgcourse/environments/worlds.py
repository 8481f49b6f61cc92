"""Small MDPs: a chain, a corridor, gridworlds, a random walk, a queue, and random ones.

Slides 7 and 53; Sutton & Barto (2018), chapters 6, 10 and 13. ``horizon`` and ``gamma`` are those of ``MDP``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgcourse import checks
from pgcourse.environments.mdp import MDP

MAX_STATES = 1000  # of a world: P has a number for each pair of them and each action


def chain(horizon: int | None = 3, gamma: float = 1.0) -> MDP:
    """Return two states and two actions: action 0 stays with probability 0.9, action 1 changes with 0.8.

    The reward is 1 for action 0 in state 1, and −0.2 for action 1. Episodes begin in state 0. There are 64
    episodes of three steps.
    """
    P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], [0.8, 0.2]]])
    return MDP(P, np.array([[0, -0.2], [1, -0.2]]), np.array([1, 0]), gamma, horizon)


def short_corridor(
    observations: Sequence[int] = (0, 0, 0),
    swapped: Sequence[int] = (1,),
    horizon: int | None = None,
    gamma: float = 1.0,
) -> MDP:
    """Return a corridor of tiles, with a wall before the first and a goal after the last; a step costs 1.

    Action 1 goes forward and action 0 back; on swapped tiles it is the other way round. The defaults are
    those of Sutton & Barto (2018), example 13.1, where the optimal probability of going forward is 2 − √2.

    Args:
        observations: observation on each tile, at least one, integers from 0; equal ones alias the tiles.
        swapped: indices of the tiles on which the actions are swapped.
    """
    observations = checks.integers("observations", observations).ravel().tolist()
    swapped = checks.numbers("swapped", swapped).ravel().tolist()
    if not (n := len(observations)):
        raise ValueError("observations must have at least one tile, got none")
    checks.at_most(MAX_STATES - 1, observations=n)
    checks.at_most(checks.MAX_COUNT, observations=max(observations))
    if wrong := set(swapped) - set(range(n)):
        raise ValueError(f"swapped must name tiles 0..{n - 1}, got {min(wrong)}")
    P = np.zeros((n + 1, 2, n + 1))
    for tile in range(n):
        back, forward = (1, 0) if tile in swapped else (0, 1)
        P[tile, back, max(tile - 1, 0)] = P[tile, forward, tile + 1] = 1
    P[n, :, n] = 1
    goal, observation = np.arange(n + 1) == n, np.array([*observations, 0])
    return MDP(P, np.full((n + 1, 2), -1.0), np.eye(n + 1)[0], gamma, horizon, goal, observation)


def windy_grid(wind: float = 0.2, horizon: int | None = None, gamma: float = 1.0) -> MDP:
    """Return 3×3 cells, numbered row by row, and actions north, east, south, west; each step costs 1.

    Episodes begin in the first cell and end in the last. A step into a wall stays. After each step, the wind
    moves the agent one cell north with probability ``wind``, 0 ≤ wind < 1.
    """
    checks.real(wind=wind)
    if not 0 <= wind < 1:
        raise ValueError(f"wind must be in [0, 1), got {wind}")
    P = np.zeros((9, 4, 9))
    for s in range(9):
        for a, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            row, column = np.clip([s // 3 + down, s % 3 + right], 0, 2)
            P[s, a, 3 * row + column] += 1 - wind
            P[s, a, 3 * max(row - 1, 0) + column] += wind
    return MDP(P, np.full((9, 4), -1.0), np.eye(9)[0], gamma, horizon, np.arange(9) == 8)


def hidden_fork() -> MDP:
    """Return a fork after which there is a second one, where the agent does not observe which way it came.

    The return is 1 for left (action 0) twice, 2 for right (action 1) twice, and 0 otherwise.
    """
    P = np.zeros((4, 2, 4))
    P[0, 0, 1] = P[0, 1, 2] = 1
    P[1:, :, 3] = 1
    r = np.array([[0, 0], [1, 0], [0, 2], [0, 0]])
    return MDP(P, r, np.eye(4)[0], absorbing=np.arange(4) == 3, observation=np.array([0, 1, 1, 0]))


def aliased_gridworld() -> MDP:
    """Return five cells in a row, the second and fourth of them aliased, with actions west, east and dig.

    Digging ends the episode in the middle, with reward 10, and at both ends, with −10. Other steps cost 1; γ
    is 0.9. Episodes begin in the first cell with probability 0.4, in the second, fourth or last with 0.2.

    After Silver (2015), lecture 7: the aliased gridworld.
    """
    P, r = np.zeros((6, 3, 6)), np.full((6, 3), -1.0)
    for s in range(5):
        P[s, 0, max(s - 1, 0)] = P[s, 1, min(s + 1, 4)] = P[s, 2, s if s % 2 else 5] = 1
    P[5, :, 5] = 1
    r[[0, 2, 4], 2] = -10, 10, -10
    initial_distribution, observation = np.array([2, 1, 0, 1, 1, 0]) / 5, np.array([0, 1, 2, 1, 3, 0])
    return MDP(P, r, initial_distribution, 0.9, absorbing=np.arange(6) == 5, observation=observation)


def random_walk(n_states: int = 5, left_reward: float = 0.0) -> MDP:
    """Return an odd number of states in a row; leaving to the right gives 1, to the left ``left_reward``.

    Episodes begin in the middle. Action 0 goes left and action 1 right. If both are equally probable and
    ``left_reward`` is 0, then V(s) = (s + 1)/(n_states + 1).

    Sutton & Barto (2018), examples 6.2 (n_states = 5) and 7.1 (n_states = 19, left_reward = −1).
    """
    checks.real(n_states=n_states, left_reward=left_reward)
    checks.finite(left_reward=left_reward)
    if not (n_states >= 1 and n_states % 2 == 1):
        raise ValueError(f"n_states must be an odd number of at least 1, got {n_states}")
    checks.at_most(MAX_STATES, n_states=n_states)
    n = int(n_states)
    P, r = np.zeros((n + 1, 2, n + 1)), np.zeros((n + 1, 2))
    for s in range(n):
        P[s, 0, s - 1] = P[s, 1, s + 1] = 1  # left of state 0 is state −1, the last, which ends the episode
    P[n, :, n] = 1
    r[0, 0], r[n - 1, 1] = left_reward, 1
    return MDP(P, r, np.eye(n + 1)[n // 2], absorbing=np.arange(n + 1) == n)


PRIORITIES = (1, 2, 4, 8)  # reward for accepting a customer of each kind


def access_control(n_servers: int = 10, free_probability: float = 0.06, gamma: float = 0.99) -> MDP:
    """Return the access-control queue, a continuing task: at each step a customer is accepted or rejected.

    The customer is of one of four kinds, equally probable. Action 1 accepts, with reward 1, 2, 4 or 8, and
    occupies a server; if none is free, every customer is rejected. At the end of a step, busy servers become
    free with probability 0 < free_probability ≤ 1. State 4f + k: f of the servers, at least one in all, are
    free and the customer is of kind k. The average reward does not depend on γ.

    Sutton & Barto (2018), example 10.2.
    """
    from scipy.stats import binom

    n_servers = checks.count(1, MAX_STATES // len(PRIORITIES) - 1, n_servers=n_servers)
    checks.real(free_probability=free_probability)
    if not 0 < free_probability <= 1:
        raise ValueError(f"free_probability must be in (0, 1], got {free_probability}")
    n_kinds, n_free = len(PRIORITIES), np.arange(n_servers + 1)
    P = np.zeros((n_servers + 1, n_kinds, 2, n_servers + 1, n_kinds))
    r = np.zeros((n_servers + 1, n_kinds, 2))
    for f in n_free:
        for a in (0, 1):
            accepted = a if f else 0
            busy = n_servers - f + accepted
            chances = binom.pmf(n_free - (n_servers - busy), busy, free_probability)
            P[f, :, a] = chances[:, None] / n_kinds
            r[f, :, a] = np.multiply(PRIORITIES, accepted)
    S = (n_servers + 1) * n_kinds
    initial_distribution = np.repeat(n_free == n_servers, n_kinds) / n_kinds
    return MDP(P.reshape(S, 2, S), r.reshape(S, 2), initial_distribution, gamma)


def random_mdp(
    n_states: int,
    n_actions: int,
    rng: np.random.Generator,
    *,
    horizon: int | None = None,
    gamma: float = 0.9,
    n_observations: int | None = None,
) -> MDP:
    """Return an MDP with Gaussian rewards and transition probabilities drawn uniformly from the simplex.

    With ``n_observations``, from 1 to n_states, the states get one of them at random; otherwise all differ.
    """
    n_states = checks.count(1, MAX_STATES, n_states=n_states)
    n_actions = checks.count(1, 10 * MAX_STATES, n_actions=n_actions)
    n_states, n_actions = int(n_states), int(n_actions)
    if n_observations is not None:
        checks.real(n_observations=n_observations)
        if not (1 <= n_observations <= n_states and n_observations % 1 == 0):
            raise ValueError(f"n_observations must be in 1..{n_states}, got {n_observations}")
    P = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
    r, initial_distribution = rng.normal(size=(n_states, n_actions)), rng.dirichlet(np.ones(n_states))
    states = np.arange(n_states)
    observation = rng.permutation(states % int(n_observations)) if n_observations else states
    return MDP(P, r, initial_distribution, gamma, horizon, observation=observation)
