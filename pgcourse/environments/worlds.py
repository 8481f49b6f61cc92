"""Small MDPs: a chain, a corridor, grids, a random walk, a queue.

Slides 7 and 53; Sutton & Barto (2018), chapters 6, 10 and 13.
"""

import numpy as np

from pgcourse.environments.mdp import MDP


def chain(horizon: int | None = 3, gamma: float = 1.0) -> MDP:
    """Return two states, two actions: action 1 crosses over with probability 0.8, action 0 stays with probability 0.9.

    Only being in state 1 and staying pays, 1 a step; crossing over costs 0.2. Episodes begin in state 0. Of three steps there are 64.
    """
    P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], [0.8, 0.2]]])
    return MDP(P, np.array([[0, -0.2], [1, -0.2]]), np.array([1, 0]), gamma, horizon)


def corridor(looks=(0, 0, 0), swapped=(1,), horizon: int | None = None, gamma: float = 1.0) -> MDP:
    """Return a corridor of tiles, with a wall before the first and the goal after the last; each step costs 1.

    Action 1 goes forward and action 0 back, but on swapped tiles it is the other way round, and tiles with one look cannot be told apart.
    With the defaults it is the corridor of Sutton & Barto (2018), example 13.1: best is to go forward with probability 2 − √2.

    Args:
        looks: what each tile looks like, integers from 0.
        swapped: indices of the tiles on which the actions are swapped.
        horizon, gamma: as for ``MDP``.

    Raises:
        ValueError: as ``MDP``, and if there is no tile or ``swapped`` names one that does not exist.
    """
    if not (n := len(looks)):
        raise ValueError("looks must have at least one tile, got none")
    P = np.zeros((n + 1, 2, n + 1))
    for tile in range(n):
        back, forward = (1, 0) if tile in swapped else (0, 1)
        P[tile, back, max(tile - 1, 0)] = P[tile, forward, tile + 1] = 1
    P[n, :, n] = 1
    if wrong := set(swapped) - set(range(n)):
        raise ValueError(f"swapped must name tiles 0..{n - 1}, got {min(wrong)}")
    return MDP(
        P,
        np.full((n + 1, 2), -1.0),
        np.eye(n + 1)[0],
        gamma,
        horizon,
        np.arange(n + 1) == n,
        np.array([*looks, 0]),
    )


def grid(wind: float = 0.2, horizon: int | None = None, gamma: float = 1.0) -> MDP:
    """Return 3×3 cells, numbered row by row, and actions north, east, south, west; each step costs 1 until the last cell ends it.

    Who walks into a wall stays. With probability ``wind``, a step is followed by one to the north that nobody asked for.

    Raises:
        ValueError: as ``MDP``, and if ``wind`` is outside [0, 1).
    """
    if not 0 <= wind < 1:
        raise ValueError(f"wind must be in [0, 1), got {wind}")
    P = np.zeros((9, 4, 9))
    for s in range(9):
        for a, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            row, column = np.clip([s // 3 + down, s % 3 + right], 0, 2)
            P[s, a, 3 * row + column] += 1 - wind
            P[s, a, 3 * max(row - 1, 0) + column] += wind
    return MDP(P, np.full((9, 4), -1.0), np.eye(9)[0], gamma, horizon, np.arange(9) == 8)


def fog() -> MDP:
    """Return two forks in the road, and fog at the second: nobody sees there which way he came.

    Left and left again (action 0) pays 1, right and right again pays 2, everything else nothing.
    """
    P = np.zeros((4, 2, 4))
    P[0, 0, 1] = P[0, 1, 2] = 1
    P[1:, :, 3] = 1
    r = np.array([[0, 0], [1, 0], [0, 2], [0, 0]])
    return MDP(P, r, np.eye(4)[0], absorbing=np.arange(4) == 3, x=np.array([0, 1, 1, 0]))


def treasure() -> MDP:
    """Return five places in a row, the second and the fourth of which look alike, and actions west, east, dig; γ is 0.9.

    Digging brings 10 in the middle and costs 10 at both ends, and ends the episode there; any other action costs 1, and so does digging
    where nothing is to be found. Episodes begin in the first place twice as often as in the second, the fourth or the last.

    After Silver (2015), lecture 7: the aliased grid world.
    """
    P, r = np.zeros((6, 3, 6)), np.full((6, 3), -1.0)
    for s in range(5):
        P[s, 0, max(s - 1, 0)] = P[s, 1, min(s + 1, 4)] = P[s, 2, s if s % 2 else 5] = 1
    P[5, :, 5] = 1
    r[[0, 2, 4], 2] = -10, 10, -10
    return MDP(
        P,
        r,
        np.array([2, 1, 0, 1, 1, 0]) / 5,
        0.9,
        absorbing=np.arange(6) == 5,
        x=np.array([0, 1, 2, 1, 3, 0]),
    )


def random_walk(n: int = 5, left: float = 0.0) -> MDP:
    """Return n states in a row with an end beyond each side; leaving by the right one pays 1, by the left one ``left``, nothing else.

    Episodes begin in the middle. Action 0 goes left and action 1 right; who does either as often has V(s) = (s + 1)/(n + 1) where leaving
    by the left pays nothing. Sutton & Barto (2018), examples 6.2 (n = 5) and 7.1 (n = 19, left = −1).

    Raises:
        ValueError: if ``n`` is no odd number of at least 1, or ``left`` is not finite.
    """
    if not (n >= 1 and n % 2 == 1):
        raise ValueError(f"n must be an odd number of at least 1, got {n}")
    P, r = np.zeros((n + 1, 2, n + 1)), np.zeros((n + 1, 2))
    for s in range(n):
        P[s, 0, s - 1] = P[s, 1, s + 1] = 1  # left of the first is the last, which is the end
    P[n, :, n] = 1
    r[0, 0], r[n - 1, 1] = left, 1
    return MDP(P, r, np.eye(n + 1)[n // 2], absorbing=np.arange(n + 1) == n)


PRIORITIES = (1, 2, 4, 8)  # what a customer of each kind pays


def access_control(n_servers: int = 10, freed: float = 0.06, gamma: float = 0.99) -> MDP:
    """Return a queue that never ends: at each step a customer of one of four kinds asks for a server, who is turned away or let in.

    Who is let in (action 1) pays 1, 2, 4 or 8, all as often, and keeps a server busy; at the end of each step, each busy one becomes free
    with probability ``freed``. With no server free, everybody is turned away. State 4f + k: f servers are free and kind k asks.

    Args:
        n_servers: at least 1.
        freed: 0 < freed ≤ 1.
        gamma: as for ``MDP``; the average reward does not depend on it.

    Raises:
        ValueError: as ``MDP``, and if a number is out of range.

    Sutton & Barto (2018), example 10.2.
    """
    from scipy.stats import binom

    if not (n_servers >= 1 and n_servers % 1 == 0):
        raise ValueError(f"n_servers must be a whole number of at least 1, got {n_servers}")
    if not 0 < freed <= 1:
        raise ValueError(f"freed must be in (0, 1], got {freed}")
    n_kinds, n_free = len(PRIORITIES), np.arange(n_servers + 1)
    P, r = (
        np.zeros((n_servers + 1, n_kinds, 2, n_servers + 1, n_kinds)),
        np.zeros((n_servers + 1, n_kinds, 2)),
    )
    for f in n_free:
        for a in (0, 1):
            let_in = a if f else 0
            busy = n_servers - f + let_in
            P[f, :, a] = binom.pmf(n_free - (n_servers - busy), busy, freed)[:, None] / n_kinds
            r[f, :, a] = np.multiply(PRIORITIES, let_in)
    S = (n_servers + 1) * n_kinds
    start = np.repeat(n_free == n_servers, n_kinds) / n_kinds
    return MDP(P.reshape(S, 2, S), r.reshape(S, 2), start, gamma)


def random_mdp(
    n_states: int,
    n_actions: int,
    rng: np.random.Generator,
    *,
    horizon: int | None = None,
    gamma: float = 0.9,
    n_seen: int | None = None,
) -> MDP:
    """Return an MDP with normal rewards, its probabilities drawn evenly from all there are; n_seen looks are dealt out at random.

    Raises:
        ValueError: as ``MDP``, and if ``n_seen`` is out of range.
    """
    if n_seen is not None and not 1 <= n_seen <= n_states:
        raise ValueError(f"n_seen must be in 1..{n_states}, got {n_seen}")
    P = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
    r, start = rng.normal(size=(n_states, n_actions)), rng.dirichlet(np.ones(n_states))
    x = rng.permutation(np.arange(n_states) % n_seen) if n_seen else np.arange(n_states)
    return MDP(P, r, start, gamma, horizon, x=x)
