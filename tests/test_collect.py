"""Collected episodes and rollouts against a plain Gymnasium loop over single environments."""

from itertools import pairwise
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_array_equal

from pgcourse.algorithms.collect import (
    Episode,
    PartialEpisodes,
    Rollout,
    RolloutState,
    collect_episodes,
    collect_rollout,
)
from pgcourse.environments.worlds import random_walk
from pgcourse.networks.policies import GaussianPolicy, SoftmaxPolicy, TabularPolicy

SEED = 3


class Walk(gymnasium.Env):
    """A random walk that is terminated or truncated now and then, also both at once."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float32), Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal()
        return self._observation(), {}

    def step(self, a):
        self.t += 1
        self.x += 0.3 * (a - 1) + self.np_random.normal()
        terminated, truncated = self.np_random.random(2) < 0.2
        return self._observation(), float(self.x * a), bool(terminated), bool(truncated), {}

    def _observation(self):
        return np.array([self.t, self.x], np.float32)


TASKS = {
    "terminated, truncated or both": (Walk, lambda: SoftmaxPolicy(2, 3, (8,))),
    "pole with a time limit": (
        lambda: gymnasium.make("CartPole-v1", max_episode_steps=14),
        lambda: SoftmaxPolicy(4, 2, (8,)),
    ),
    "real actions, only truncated": (
        lambda: gymnasium.make("Pendulum-v1", max_episode_steps=5),
        lambda: GaussianPolicy(3, 1, (8,)),
    ),
    "states that are integers": (
        lambda: random_walk(5).env(),
        lambda: TabularPolicy(np.random.default_rng(0).normal(size=(6, 2))),
    ),
}


class Transition(NamedTuple):
    s: np.ndarray
    a: np.ndarray
    r: float
    next_s: np.ndarray
    terminated: bool
    truncated: bool

    @property
    def done(self):
        return self.terminated or self.truncated


@pytest.fixture(params=TASKS.values(), ids=TASKS.keys())
def task(request):
    make_env, make_policy = request.param
    return make_env, make_policy()


def vector_env(make_env, n_envs):
    return SyncVectorEnv([make_env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


class PlainLoop:
    """Single environments, each reset by hand where its episode ends. Only the actions are drawn together.

    Attributes:
        trajectories: for each environment, its transitions one after the other.
    """

    def __init__(self, task, n_envs):
        make_env, self.policy = task
        self.envs, self.rng = [make_env() for _ in range(n_envs)], np.random.default_rng(SEED)
        self.reset_with_seed()

    def reset_with_seed(self):
        seed = int(self.rng.integers(2**30))
        self.s = [env.reset(seed=seed + k)[0] for k, env in enumerate(self.envs)]
        self.trajectories = [[] for _ in self.envs]

    def reset(self):
        self.s = [env.reset()[0] for env in self.envs]
        self.trajectories = [[] for _ in self.envs]

    def act(self, n_time_steps):
        for _ in range(n_time_steps):
            actions = self.policy.sample(np.stack(self.s), self.rng)
            for k, (env, a) in enumerate(zip(self.envs, actions, strict=True)):
                next_s, r, terminated, truncated, _ = env.step(a)
                self.trajectories[k].append(Transition(self.s[k], a, r, next_s, terminated, truncated))
                self.s[k] = env.reset()[0] if terminated or truncated else next_s

    def episodes(self):
        """Return the finished episodes, in order, as (time steps until the end, environment, transitions)."""
        finished = []
        for k, trajectory in enumerate(self.trajectories):
            ends = [t + 1 for t, transition in enumerate(trajectory) if transition.done]
            finished += [(end, k, trajectory[start:end]) for start, end in pairwise([0, *ends])]
        return sorted(finished, key=lambda episode: episode[:2])


def assert_is_episode(episode, transitions, n_off_policy):
    assert isinstance(episode, Episode)
    assert_array_equal(episode.s, np.stack([x.s for x in transitions]), strict=True)
    assert_array_equal(episode.a, np.stack([x.a for x in transitions]), strict=True)
    assert_array_equal(episode.r, np.array([x.r for x in transitions], float), strict=True)
    assert episode.n_off_policy == n_off_policy


class TestEpisodes:
    @pytest.mark.parametrize("n_envs", [1, 3])
    def test_they_are_those_of_a_plain_loop_call_after_call(self, task, n_envs):
        """A call ends when its finished episodes hold enough steps, the first call not before every
        environment has finished an episode. Off-policy steps are those before the call."""
        plain = PlainLoop(task, n_envs)
        plain.act(300)
        expected = plain.episodes()
        rng = np.random.default_rng(SEED)
        env, policy = vector_env(task[0], n_envs), task[1]
        partial, last_call, n_compared = PartialEpisodes(env, rng), 0, 0
        for n_steps in (1, 1, 25, 1, 60, 2):
            episodes, finished, n_finished, t = [], {k for _, k, _ in expected[:n_compared]}, 0, last_call
            while n_finished < n_steps or len(finished) < n_envs:
                t += 1
                assert t <= 300
                ended = [episode for episode in expected if episode[0] == t]
                episodes += ended
                finished |= {k for _, k, _ in ended}
                n_finished += sum(len(transitions) for *_, transitions in ended)
            collected = collect_episodes(env, policy, n_steps, rng, partial)
            assert partial.n_steps == n_envs * t
            for episode, (end, _, transitions) in zip(collected, episodes, strict=True):
                assert_is_episode(episode, transitions, max(0, last_call - (end - len(transitions))))
            n_compared, last_call = n_compared + len(episodes), t
        assert n_compared > 6

    def test_without_partial_episodes_each_call_begins_new_ones(self, task):
        """The second call does not know of the first one's unfinished episodes; the rng goes on."""
        env, policy, rng = vector_env(task[0], 2), task[1], np.random.default_rng(SEED)
        plain = PlainLoop(task, 2)
        for n_steps in (1, 20):
            collected = collect_episodes(env, policy, n_steps, rng)
            while True:
                plain.act(1)
                expected = plain.episodes()
                enough = sum(len(transitions) for *_, transitions in expected) >= n_steps
                if enough and {k for _, k, _ in expected} == {0, 1}:
                    break
            for episode, (*_, transitions) in zip(collected, expected, strict=True):
                assert_is_episode(episode, transitions, n_off_policy=0)
            plain.reset_with_seed()

    def test_the_first_call_waits_for_the_longest_episode(self):
        """Ten environments of one step each, and one of thirty: not only short episodes are collected."""
        lengths = [1] * 10 + [30]
        env = SyncVectorEnv(
            [lambda T=T: gymnasium.make("Pendulum-v1", max_episode_steps=T) for T in lengths],
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        rng = np.random.default_rng(SEED)
        partial, policy = PartialEpisodes(env, rng), GaussianPolicy(3, 1, (8,))
        first = collect_episodes(env, policy, 1, rng, partial)
        assert sorted(len(e.r) for e in first) == [1] * 300 + [30]
        second = collect_episodes(env, policy, 1, rng, partial)
        assert [len(e.r) for e in second] == [1] * 10

    @pytest.mark.parametrize("n_steps", [0, -1, np.nan])
    def test_errors_name_the_argument_the_value_and_the_range(self, n_steps):
        env = vector_env(Walk, 1)
        with pytest.raises(ValueError, match=f"^n_steps must be at least 1, got {n_steps}$"):
            collect_episodes(env, SoftmaxPolicy(2, 3, (8,)), n_steps, np.random.default_rng(0))


def assert_is_rollout(rollout, trajectories, next_states, mask, episode_returns):
    """Compare with the transitions of each environment, and the states in which they stopped."""
    assert isinstance(rollout, Rollout)
    rows = [np.stack([*(x.s for x in row), s]) for row, s in zip(trajectories, next_states, strict=True)]
    assert_array_equal(rollout.s, np.stack(rows), strict=True)
    assert_array_equal(rollout.a, np.array([[x.a for x in row] for row in trajectories]), strict=True)
    assert_array_equal(rollout.r, np.array([[x.r for x in row] for row in trajectories], float), strict=True)
    terminated = np.array([[bool(x.terminated) for x in row] for row in trajectories])
    truncated = np.array([[bool(x.truncated) and not x.terminated for x in row] for row in trajectories])
    assert_array_equal(rollout.terminated, terminated, strict=True)
    assert_array_equal(rollout.truncated, truncated, strict=True)
    assert_array_equal(rollout.done, np.array([[x.done for x in row] for row in trajectories]))
    final = [x.next_s for row in trajectories for x in row if x.truncated and not x.terminated]
    assert_array_equal(rollout.final_observations, np.array(final))
    assert_array_equal(rollout.mask, mask, strict=True)
    assert_array_equal(rollout.episode_returns, np.array(episode_returns))


def total(transitions):
    """Sum the rewards one after the other, as a running return does."""
    G = 0.0
    for x in transitions:
        G += x.r
    return G


class TestRollouts:
    @pytest.mark.parametrize("n_envs", [1, 3])
    def test_they_are_those_of_a_plain_loop_call_after_call(self, task, n_envs):
        """Returns are of whole episodes, also where these began before the rollout."""
        plain, rng = PlainLoop(task, n_envs), np.random.default_rng(SEED)
        env, policy = vector_env(task[0], n_envs), task[1]
        state, start, n_truncated = RolloutState(env, rng), 0, 0
        for T in (1, 7, 1, 30, 2, 12):
            end = start + T
            plain.act(T)
            rollout = collect_rollout(env, policy, T, rng, state)
            returns = [total(transitions) for t, _, transitions in plain.episodes() if start < t <= end]
            rows = [row[start:end] for row in plain.trajectories]
            assert_is_rollout(rollout, rows, plain.s, np.ones((n_envs, T), bool), returns)
            assert state.n_steps == n_envs * end
            start, n_truncated = end, n_truncated + len(rollout.final_observations)
        assert plain.episodes()
        assert n_truncated or task[0] is not Walk

    def test_a_step_that_terminates_and_truncates_counts_as_terminated(self):
        """``Walk`` has such steps, so that the comparison above is not an empty one."""
        plain = PlainLoop((Walk, SoftmaxPolicy(2, 3, (8,))), 3)
        plain.act(53)
        kinds = {(x.terminated, x.truncated) for row in plain.trajectories for x in row}
        assert kinds == {(False, False), (True, False), (False, True), (True, True)}

    @pytest.mark.parametrize("n_envs", [1, 3])
    def test_whole_episodes_are_the_first_of_each_environment(self, task, n_envs):
        """Every call resets the environments, without a seed, and ends with the last of these episodes."""
        plain, rng = PlainLoop(task, n_envs), np.random.default_rng(SEED)
        env, policy = vector_env(task[0], n_envs), task[1]
        state, n_steps = RolloutState(env, rng), 0
        for _ in range(4):
            rollout = collect_rollout(env, policy, None, rng, state)
            plain.reset()
            while {k for _, k, _ in plain.episodes()} != set(range(n_envs)):
                plain.act(1)
            first = {}
            for episode in plain.episodes():
                first.setdefault(episode[1], episode)
            T = len(plain.trajectories[0])
            mask = np.array([np.arange(T) < first[k][0] for k in range(n_envs)])
            returns = [total(transitions) for *_, transitions in sorted(first.values(), key=lambda e: e[:2])]
            assert_is_rollout(rollout, plain.trajectories, plain.s, mask, returns)
            n_steps += n_envs * T
            assert state.n_steps == n_steps

    def test_whole_episodes_begin_anew_in_the_middle_of_others(self, task):
        """And a rollout of fixed length after them continues the episodes that were going on."""
        plain, rng = PlainLoop(task, 2), np.random.default_rng(SEED)
        env, policy = vector_env(task[0], 2), task[1]
        state = RolloutState(env, rng)
        collect_rollout(env, policy, 3, rng, state)
        plain.act(3)
        whole = collect_rollout(env, policy, None, rng, state)
        plain.reset()
        T = whole.r.shape[1]
        plain.act(T)
        assert_array_equal(whole.r, np.array([[x.r for x in row] for row in plain.trajectories]))
        plain.act(25)
        rollout = collect_rollout(env, policy, 25, rng, state)
        returns = [total(transitions) for t, _, transitions in plain.episodes() if t > T]
        rows = [row[T:] for row in plain.trajectories]
        assert_is_rollout(rollout, rows, plain.s, np.ones((2, 25), bool), returns)

    @pytest.mark.parametrize("rollout_length", [6, None])
    def test_without_a_state_each_call_begins_new_episodes(self, task, rollout_length):
        plain, rng = PlainLoop(task, 2), np.random.default_rng(SEED)
        env, policy = vector_env(task[0], 2), task[1]
        for _ in range(3):
            rollout = collect_rollout(env, policy, rollout_length, rng)
            if rollout_length is None:
                plain.reset()
            plain.act(rollout.r.shape[1])
            assert_array_equal(rollout.s[:, 0], np.stack([row[0].s for row in plain.trajectories]))
            assert_array_equal(rollout.r, np.array([[x.r for x in row] for row in plain.trajectories]))
            plain.reset_with_seed()

    def test_collected_arrays_do_not_change_when_the_environments_go_on(self, task):
        env, policy, rng = vector_env(task[0], 2), task[1], np.random.default_rng(SEED)
        state = RolloutState(env, rng)
        rollout = collect_rollout(env, policy, 9, rng, state)
        copies = [np.array(x) for x in rollout]
        collect_rollout(env, policy, 20, rng, state)
        for x, copy in zip(rollout, copies, strict=True):
            assert_array_equal(x, copy)
