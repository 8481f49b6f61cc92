"""Collecting data: whole episodes for REINFORCE, rollouts of fixed length for actor–critics and critics.

Slides 19–21, 31 and 61, line 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
from gymnasium.spaces import Discrete

from pgcourse import checks
from pgcourse.algorithms.protocols import Environment, Policy
from pgcourse.algorithms.seeds import n_seeds, seeds_of_envs
from pgcourse.arrays import Bool, Float
from pgcourse.checks import MAX_EPISODE_LENGTH


class Episode(NamedTuple):
    """A finished episode of T steps."""

    s: np.ndarray  # (T, ...)
    a: np.ndarray  # (T, ...)
    r: Float[np.ndarray, " T"]
    n_off_policy: int = 0  # how many of its actions were drawn before the last update of the policy


def reset(env: Environment, rng: np.random.Generator) -> np.ndarray:
    """Reset with a seed drawn from ``rng``, or runs with seeds k and k + 1 would share environments."""
    first = rng.integers(2**30)  # several, where several seeds learn at once
    seeds = int(first) if n_seeds(rng) == 1 else seeds_of_envs(np.array(first), env.num_envs)
    s, _ = env.reset(seed=cast(int, seeds))
    return checks.observed(np.array(s), 0)  # a copy, since the environment may overwrite it


class Step(NamedTuple):
    """What a step of a vector environment returned, in arrays of our own."""

    next_s: np.ndarray  # (N, ...): where an episode ended, the first observation of the next one
    r: Float[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    final_observations: np.ndarray  # (M, ...): of the M episodes that ended, in order


def step(env: Environment, a: np.ndarray, n_steps: int) -> Step:
    """Take a step; what it returns is copied, since an environment may use its buffers again.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        a: actions, shape (N, ...); K numbered ones count from 0, also where the environment's do not.
        n_steps: taken before this one, for the message about a number that is not finite.
    """
    space = env.single_action_space
    first = space.start if isinstance(space, Discrete) else 0
    s, r, terminated, truncated, info = env.step(a + first if first else a)
    terminated, truncated = np.array(terminated), np.array(truncated)
    n_steps += len(a)
    s, r, final = checks.observed(np.array(s), n_steps), checks.rewarded(np.array(r), n_steps), np.empty(0)
    if (done := terminated | truncated).any():
        final = checks.observed(np.array([*checks.final_observations(info, done)]), n_steps)
    return Step(s, r, terminated, truncated, final)


def never_ends(n_steps: int) -> str:
    """Return the message of the error where an episode has had so many steps, and no end."""
    return (
        f"env must end every episode within {n_steps:,} steps, got one that did not; a time limit truncates "
        "it (gymnasium.make(…, max_episode_steps=…)), and tasks without an end are learnt by ActorCritic or "
        "PolicyEvaluation with rollout_length steps, or off-policy by DQN or DDPG"
    )


class PartialEpisodes:
    """The unfinished episodes of a vector environment between two calls of ``collect_episodes``.

    Args:
        env: vector environment, which is reset.
        rng: draws the seed of the reset.
        n_steps: environment steps so far.
        max_episode_length: steps of an episode, at least 1. A longer one raises a ``ValueError``: it might
            never end.
    """

    def __init__(
        self,
        env: Environment,
        rng: np.random.Generator,
        n_steps: int = 0,
        max_episode_length: int = MAX_EPISODE_LENGTH,
    ):
        self.n_steps = checks.count(0, math.inf, n_steps=n_steps)
        self.max_episode_length = checks.count(1, math.inf, max_episode_length=max_episode_length)
        if (n := n_seeds(rng)) > 1:
            raise ValueError(f"seed must be one number, since seeds differ in how many episodes end, got {n}")
        self.begin(env, rng)

    def begin(self, env: Environment, rng: np.random.Generator) -> None:
        """Drop them, and begin new ones."""
        self.s = reset(env, rng)
        self.steps: list[list[tuple]] = [[] for _ in range(env.num_envs)]
        self.n_off_policy = np.zeros(env.num_envs, int)
        self.awaiting_first_done = np.ones(env.num_envs, bool)
        self.interrupted = False


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
        partial: unfinished episodes to continue, updated in place; None resets the environment. After a call
            that was interrupted (by Ctrl-C, or by an error), new ones begin.

    Slides 19–21 and 31.
    """
    checks.real(n_steps=n_steps)
    checks.at_least(1, n_steps=n_steps)
    checks.at_most(checks.MAX_COUNT, n_steps=n_steps)
    partial = PartialEpisodes(env, rng) if partial is None else partial
    if partial.interrupted:
        partial.begin(env, rng)
    partial.interrupted = True  # until this call returns
    partial.n_off_policy[:] = [len(steps) for steps in partial.steps]
    finished: list[Episode] = []
    n_finished = 0
    while n_finished < n_steps or partial.awaiting_first_done.any():
        a = np.array(policy.sample(partial.s, rng))
        next_s, r, terminated, truncated, _ = step(env, a, partial.n_steps)
        for k, steps in enumerate(partial.steps):
            steps.append((partial.s[k], a[k], r[k]))
            if terminated[k] or truncated[k]:
                s_k, a_k, r_k = (np.array(column) for column in zip(*steps, strict=True))
                finished.append(Episode(s_k, a_k, r_k, int(partial.n_off_policy[k])))
                n_finished += len(steps)
                partial.steps[k], partial.n_off_policy[k], partial.awaiting_first_done[k] = [], 0, False
            elif len(steps) >= partial.max_episode_length:
                raise ValueError(never_ends(partial.max_episode_length))
        partial.s = next_s
        partial.n_steps += len(a)
    partial.interrupted = False
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
        self.n_steps = checks.count(0, math.inf, n_steps=n_steps)
        self.begin(env, rng)

    def begin(self, env: Environment, rng: np.random.Generator) -> None:
        """Begin new episodes."""
        self.s = reset(env, rng)
        self.returns = np.zeros(env.num_envs)  # so far, of the unfinished episodes
        self.interrupted = False


def check_rollout_length(rollout_length: int | None, rng: np.random.Generator) -> None:
    """Several seeds cannot wait for whole episodes, which are longer for one than for another."""
    if rollout_length is None and n_seeds(rng) > 1:
        raise ValueError("rollout_length must be a number where several seeds learn at once, got None")


def collect_rollout(
    env: Environment,
    policy: Policy,
    rollout_length: int | None,
    rng: np.random.Generator,
    state: RolloutState | None = None,
    *,
    max_episode_length: int = MAX_EPISODE_LENGTH,
) -> Rollout:
    """Act for ``rollout_length`` steps in every environment.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: draws the actions.
        rollout_length: T, at least 1; None resets the environment and acts until each has finished an
            episode, and the mask selects these.
        rng: draws actions, and the seed of a reset.
        state: where the last rollout stopped, updated in place; None resets the environment. After a call
            that was interrupted (by Ctrl-C, or by an error), new episodes begin.
        max_episode_length: steps, at least 1, after which ``rollout_length=None`` no longer waits for an
            episode that may never end, and raises a ``ValueError``.

    Slide 61, line 1.
    """
    checks.real(max_episode_length=max_episode_length)
    checks.whole(1, rollout_length=rollout_length, max_episode_length=max_episode_length)
    if rollout_length is not None:
        checks.at_most(checks.MAX_COUNT, rollout_length=rollout_length)
    check_rollout_length(rollout_length, rng)
    state = RolloutState(env, rng) if state is None else state
    if state.interrupted:
        state.begin(env, rng)
    state.interrupted = True  # until this call returns
    if rollout_length is None:
        state.s = checks.observed(np.array(env.reset()[0]), state.n_steps)
        state.returns[:] = 0
    states: list[np.ndarray] = [state.s]
    steps: list[tuple] = []
    truncations: list[tuple] = []  # environment, step and final observation
    returns: list[float] = []
    awaiting_first_done = np.ones(env.num_envs, bool)
    while len(steps) < rollout_length if rollout_length else awaiting_first_done.any():
        if rollout_length is None and len(steps) >= max_episode_length:
            raise ValueError(never_ends(max_episode_length))
        a = np.array(policy.sample(state.s, rng))
        state.s, r, terminated, truncated, final_observations = step(env, a, state.n_steps)
        state.returns += r
        ended = np.flatnonzero(terminated | truncated) if len(final_observations) else ()
        for k, final in zip(ended, final_observations, strict=True):
            if rollout_length or awaiting_first_done[k]:
                returns.append(state.returns[k])
            state.returns[k], awaiting_first_done[k] = 0, False
            if not terminated[k]:
                truncations.append((k, len(steps), final))
        states.append(state.s)
        steps.append((a, r, terminated, truncated))
        state.n_steps += len(r) // n_seeds(rng)
    columns = (np.swapaxes(np.array(x), 0, 1) for x in (states, *zip(*steps, strict=True)))
    s, a, r, terminated, truncated = columns
    truncated = truncated & ~terminated
    final = np.array([s for *_, s in sorted(truncations, key=lambda x: x[:2])])
    done = terminated | truncated
    mask = np.ones(r.shape, bool) if rollout_length else np.cumsum(done, axis=1) - done == 0
    state.interrupted = False
    return Rollout(s, a, r, terminated, truncated, final, mask, np.array(returns))
