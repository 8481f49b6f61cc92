"""Collecting data: whole episodes for REINFORCE, rollouts of fixed length for actor–critics and critics.

Slides 19–21, 31 and 61, line 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.algorithms.protocols import Environment, Policy
from pgcourse.arrays import Bool, Float


class Episode(NamedTuple):
    """A finished episode of T steps."""

    s: np.ndarray  # (T, ...)
    a: np.ndarray  # (T, ...)
    r: Float[np.ndarray, " T"]
    n_off_policy: int = 0  # how many of its actions were drawn before the last update of the policy


def reset(env: Environment, rng: np.random.Generator) -> np.ndarray:
    """Reset with a seed drawn from ``rng``, or runs with seeds k and k + 1 would share environments."""
    s, _ = env.reset(seed=int(rng.integers(2**30)))
    return s


class PartialEpisodes:
    """The unfinished episodes of a vector environment between two calls of ``collect_episodes``."""

    def __init__(self, env: Environment, rng: np.random.Generator, n_steps: int = 0):
        self.s = reset(env, rng)
        self.steps: list[list[tuple]] = [[] for _ in range(env.num_envs)]
        self.n_off_policy = np.zeros(env.num_envs, int)
        self.awaiting_first_done = np.ones(env.num_envs, bool)
        self.n_steps = n_steps


def collect_episodes(
    env: Environment,
    policy: Policy,
    n_steps: int,
    rng: np.random.Generator,
    partial: PartialEpisodes | None = None,
) -> list[Episode]:
    """Act until the finished episodes hold ``n_steps`` steps; return them in the order in which they ended.

    The first call waits until every environment has finished an episode: the first to finish are short ones.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: draws the actions.
        n_steps: at least 1.
        rng: draws actions, and the seed of a reset.
        partial: unfinished episodes to continue, updated in place; None resets the environment.

    Slides 19–21 and 31.
    """
    checks.at_least(1, n_steps=n_steps)
    partial = PartialEpisodes(env, rng) if partial is None else partial
    partial.n_off_policy[:] = [len(steps) for steps in partial.steps]
    finished: list[Episode] = []
    n_finished = 0
    while n_finished < n_steps or partial.awaiting_first_done.any():
        a = policy.sample(partial.s, rng)
        next_s, r, terminated, truncated, _ = env.step(a)
        for k, steps in enumerate(partial.steps):
            steps.append((partial.s[k], a[k], r[k]))
            if terminated[k] or truncated[k]:
                s_k, a_k, r_k = (np.array(column) for column in zip(*steps, strict=True))
                finished.append(Episode(s_k, a_k, r_k, int(partial.n_off_policy[k])))
                n_finished += len(steps)
                partial.steps[k], partial.n_off_policy[k], partial.awaiting_first_done[k] = [], 0, False
        partial.s = next_s
        partial.n_steps += len(a)
    return finished


class Rollout(NamedTuple):
    """T steps of N environments. After the last step of an episode comes the first state of the next one."""

    s: np.ndarray  # (N, T+1, ...)
    a: np.ndarray  # (N, T, ...)
    r: Float[np.ndarray, "N T"]
    terminated: Bool[np.ndarray, "N T"]
    truncated: Bool[np.ndarray, "N T"]
    final_observations: np.ndarray  # (M, ...): where episodes were truncated, in the order of ``truncated``
    mask: Bool[np.ndarray, "N T"]  # which steps are learnt from
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes that ended

    @property
    def done(self) -> Bool[np.ndarray, "N T"]:
        """Whether an episode ended with this step, either way."""
        return self.terminated | self.truncated


class RolloutState:
    """The state of a vector environment between two calls of ``collect_rollout``."""

    def __init__(self, env: Environment, rng: np.random.Generator, n_steps: int = 0):
        self.s = reset(env, rng)
        self.returns = np.zeros(env.num_envs)  # so far, of the unfinished episodes
        self.n_steps = n_steps


def collect_rollout(
    env: Environment,
    policy: Policy,
    rollout_length: int | None,
    rng: np.random.Generator,
    state: RolloutState | None = None,
) -> Rollout:
    """Act for ``rollout_length`` steps in every environment.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: draws the actions.
        rollout_length: T, at least 1; None resets the environment and acts until each has finished an
            episode, and the mask selects these.
        rng: draws actions, and the seed of a reset.
        state: where the last rollout stopped, updated in place; None resets the environment.

    Slide 61, line 1.
    """
    checks.whole(1, rollout_length=rollout_length)
    state = RolloutState(env, rng) if state is None else state
    if rollout_length is None:
        state.s, _ = env.reset()
        state.returns[:] = 0
    states: list[np.ndarray] = [state.s]
    steps: list[tuple] = []
    truncations: list[tuple] = []  # environment, step and final observation
    returns: list[float] = []
    awaiting_first_done = np.ones(env.num_envs, bool)
    while len(steps) < rollout_length if rollout_length else awaiting_first_done.any():
        a = policy.sample(state.s, rng)
        state.s, r, terminated, truncated, info = env.step(a)
        truncated = truncated & ~terminated
        state.returns += r
        for k in np.flatnonzero(terminated | truncated):
            if rollout_length or awaiting_first_done[k]:
                returns.append(state.returns[k])
            state.returns[k], awaiting_first_done[k] = 0, False
            if truncated[k]:
                truncations.append((k, len(steps), info["final_obs"][k]))
        states.append(state.s)
        steps.append((a, r, terminated, truncated))
        state.n_steps += len(r)
    columns = (np.swapaxes(np.stack(x), 0, 1) for x in (states, *zip(*steps, strict=True)))
    s, a, r, terminated, truncated = columns
    final = np.array([s for *_, s in sorted(truncations, key=lambda x: x[:2])])
    done = terminated | truncated
    mask = np.ones(r.shape, bool) if rollout_length else np.cumsum(done, axis=1) - done == 0
    return Rollout(s, a, r, terminated, truncated, final, mask, np.array(returns))
