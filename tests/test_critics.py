"""Critics against sums by hand, the exact V, and trajectories whose episodes end in every possible way."""

import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from rollouts import record_rollouts

from pgcourse.algorithms import critics
from pgcourse.algorithms.collect import RolloutState, collect_rollout
from pgcourse.algorithms.critics import Critic, CriticConfig, PolicyEvaluation, PolicyEvaluationConfig
from pgcourse.environments.worlds import access_control, random_mdp, random_walk
from pgcourse.networks.policies import TabularPolicy
from pgcourse.networks.values import TabularValue, ValueNetwork


class LinearValue(torch.nn.Module):
    """v(s) = w·x(s), w = 0 at first."""

    def __init__(self, x):
        super().__init__()
        self.x = torch.tensor(x)
        self.w = torch.nn.Parameter(torch.zeros(x.shape[1], dtype=self.x.dtype))

    def forward(self, s):
        return self.x[torch.as_tensor(s)] @ self.w


def critic_of(value, **settings):
    """Return a critic that learns by plain gradient descent, unless the settings say otherwise."""
    return Critic(value, CriticConfig(**({"optimizer": "SGD"} | settings)))


class TestCritic:
    def test_a_step_is_the_slides_for_features_and_tables(self):
        """The mean over the batch of −η x(s) (v − target); a table changes where the states are."""
        rng = np.random.default_rng(0)
        x, s, target = rng.normal(size=(5, 3)), np.array([4, 0, 4]), rng.normal(size=3)
        linear, table = (critic_of(v, eta_critic=0.3) for v in (LinearValue(x), TabularValue(np.ones(5))))
        for _ in range(2):
            w = linear.value.w.detach().numpy().copy()
            expected = w - 0.3 * np.mean(
                [x[k] * (x[k] @ w - y) for k, y in zip(s, target, strict=True)], axis=0
            )
            loss = linear.fit(s, target)
            assert loss == pytest.approx(
                np.mean([(x[k] @ w - y) ** 2 / 2 for k, y in zip(s, target, strict=True)])
            )
            assert_allclose(linear.value.w.detach(), expected, rtol=1e-12)
        table.fit(s, target)
        assert_allclose(
            table(np.arange(5)), [1 - 0.1 * (1 - target[1]), 1, 1, 1, 1 - 0.1 * (2 - target[0] - target[2])]
        )

    def test_a_network_fits_its_targets(self):
        rng = np.random.default_rng(0)
        s = rng.normal(size=(64, 2))
        target = np.sin(s[:, 0]) + s[:, 1]
        critic = critic_of(ValueNetwork(2, (32,)), eta_critic=0.01, optimizer="Adam")
        losses = [critic.fit(s, target) for _ in range(300)]
        assert losses[-1] < 0.02 * losses[0]
        assert_allclose(0.5 * ((critic(s) - target) ** 2).mean(), losses[-1], rtol=0.2)
        assert critic(s).dtype == float

    def test_a_state_continues_in_another_object_as_in_its_own(self):
        """Weights, Adam's moments and the average reward: the same rollouts then give the same losses."""
        mdp, policy = random_walk(5), TabularPolicy(np.zeros((6, 2)))
        env = SyncVectorEnv([mdp.env] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
        rng = np.random.default_rng(0)
        state = RolloutState(env, rng)
        rollouts = [collect_rollout(env, policy, 3, rng, state) for _ in range(6)]
        settings = {"gamma": 1.0, "eta_critic": 0.1, "eta_average_reward": 0.1, "optimizer": "Adam"}
        original, other = (critic_of(TabularValue(np.zeros(6)), **settings) for _ in range(2))
        original.update(rollouts[0])
        for rollout in rollouts[:2]:
            other.update(rollout)
        state, runs = original.state_dict(), []
        for critic in (original, other, original):
            critic.load_state_dict(state)
            losses = [critic.update(rollout) for rollout in rollouts[2:]]
            runs.append([*losses, critic.r_bar, *critic(np.arange(6))])
        assert runs[0] == runs[1] == runs[2]
        assert len(set(runs[0])) > 6

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: CriticConfig(eta_critic=0), "eta_critic must be a positive number, got 0"),
            (lambda: CriticConfig(eta_critic=np.inf), "eta_critic must be a positive number, got inf"),
            (
                lambda: critic_of(TabularValue([0.0]), optimizer="sgd"),
                "optimizer must be one of Adam, RMSprop, SGD, got 'sgd'",
            ),
            (
                lambda: critic_of(TabularValue([0.0])).fit([0, 0], [1.0]),
                "target must have the shape of v, (2,), got (1,)",
            ),
            (
                lambda: critic_of(TabularValue([0.0])).fit([0], [[1.0]]),
                "target must have the shape of v, (1,), got (1, 1)",
            ),
        ],
    )
    def test_errors_name_the_argument_the_value_and_the_range(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


class Script(gymnasium.Env):
    """Episodes of 2, 3, 2, 3, … steps, the short ones truncated, the long ones terminated.

    A state is 10·episode + step; the reward is the action.
    """

    observation_space, action_space = Box(0, 1000, (1,), np.float64), Discrete(10)

    def __init__(self):
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.episode = -1
        self.episode, self.t = self.episode + 1, 0
        return np.array([10.0 * self.episode]), {}

    def step(self, a):
        self.t += 1
        odd = self.episode % 2 == 1
        done = self.t == 2 + odd
        return np.array([10.0 * self.episode + self.t]), float(a), done and odd, done and not odd, {}


class Counter:
    """Acts 1, 2, 3, …: one number per step."""

    def __init__(self):
        self.n = 0

    def sample(self, s, rng):
        self.n += 1
        return np.full(len(s), self.n % 10)


class Identity(torch.nn.Module):
    """v(s) = w s, w = 1."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, s):
        return torch.as_tensor(s)[:, 0] * self.w


def script(n_envs=1, mode=AutoresetMode.SAME_STEP):
    return SyncVectorEnv([Script] * n_envs, autoreset_mode=mode)


def script_rollout(T, env=None):
    return collect_rollout(env or script(), Counter(), T, np.random.default_rng(0))


def script_evaluation(n_envs=1, mode=AutoresetMode.SAME_STEP, **settings):
    """Return the evaluation of ``Counter`` in ``Script``, with v(s) = s, which hardly changes."""
    config = PolicyEvaluationConfig(**({"eta_critic": 1e-9, "optimizer": "SGD"} | settings))
    return PolicyEvaluation(script(n_envs, mode), Counter(), Identity(), config)


class TestTrajectoryByHand:
    """Seven steps: 0 → 1 → 2, truncated; 10 → 11 → 12 → 13, terminated; 20 → 21 → 22, truncated.

    v(s) = s, γ = ½, rewards 1, …, 7.
    """

    s = (0, 1, 10, 11, 12, 20, 21)
    next_v = (1, 2, 11, 12, 0, 21, 22)  # a truncated episode's final observation has its value, 2 and 22
    delta = tuple(r + 0.5 * next_v - v for r, next_v, v in zip(range(1, 8), next_v, s, strict=True))

    def test_td_errors_bootstrap_where_an_episode_is_truncated_and_not_where_it_terminates(self):
        rollout = script_rollout(7)
        assert rollout.s[0, :, 0].tolist() == [0, 1, 10, 11, 12, 20, 21, 30]
        assert rollout.a[0].tolist() == rollout.r[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert np.flatnonzero(rollout.terminated[0]).tolist() == [4]
        assert np.flatnonzero(rollout.truncated[0]).tolist() == [1, 6]
        assert rollout.final_observations[:, 0].tolist() == [2, 22]
        assert rollout.episode_returns.tolist() == [1 + 2, 3 + 4 + 5, 6 + 7]
        v, delta = critic_of(Identity(), gamma=0.5).td_errors(rollout)
        assert v[0].tolist() == list(self.s)
        assert_allclose(delta[0], self.delta)

    def test_no_advantage_reaches_beyond_the_end_of_an_episode(self):
        d = self.delta
        expected = [
            d[0] + d[1] / 4,
            d[1],
            d[2] + d[3] / 4 + d[4] / 16,
            d[3] + d[4] / 4,
            d[4],
            d[5] + d[6] / 4,
            d[6],
        ]
        critic = critic_of(Identity(), gamma=0.5, lam=0.5)
        assert_allclose(critic.advantages(script_rollout(7))[0], expected)

    def test_updates_continue_where_the_last_one_stopped(self, monkeypatch):
        rollouts = record_rollouts(monkeypatch, critics)
        algorithm = script_evaluation(gamma=0.5, rollout_length=3)
        metrics = [algorithm.update() for _ in range(3)]
        assert [r.s[0, :, 0].tolist() for r in rollouts] == [
            [0, 1, 10, 11],
            [11, 12, 20, 21],
            [21, 30, 31, 32],
        ]
        assert [m.episode_returns.tolist() for m in metrics] == [[3], [12], [13]]
        assert [m.n_steps for m in metrics] == [3, 6, 9]
        assert [m.reward for m in metrics] == [2, 5, 8]

    def test_with_several_environments_each_has_its_own_final_observation(self):
        env, rng = script(2), np.random.default_rng(0)
        state = RolloutState(env, rng)
        env.envs[1].reset()  # one episode ahead: 10, 11, 12, 13
        state.s = np.array([[0.0], [10.0]])
        rollout = collect_rollout(env, Counter(), 4, rng, state)
        assert rollout.s[..., 0].tolist() == [[0, 1, 10, 11, 12], [10, 11, 12, 20, 21]]
        assert rollout.final_observations.tolist() == [[2]]
        _, delta = critic_of(Identity(), gamma=0.5).td_errors(rollout)
        next_v = np.array([[1, 2, 11, 12], [11, 12, 0, 21]])
        assert_allclose(delta, [1, 2, 3, 4] + 0.5 * next_v - rollout.s[:, :-1, 0])

    def test_whole_episodes_are_one_of_each_environment_and_later_steps_do_not_count(self):
        """One is 30 → 31 → 32 → 33, terminated, with rewards 4, 5, 6.

        The other is 40 → 41 → 42, truncated, with rewards 4, 5.
        """
        algorithm = script_evaluation(2, gamma=0.5, lam=1, rollout_length=None)
        algorithm.update()
        algorithm.env.envs[1].reset()
        fitted = []
        algorithm.critic.fit = lambda s, target: fitted.append((s[:, 0], target)) or 0.0
        metrics = algorithm.update()
        [(s, target)] = fitted
        assert s.tolist() == [30, 31, 32, 40, 41]
        assert_allclose(
            target,
            [4 + 0.5 * (5 + 0.5 * 6), 5 + 0.5 * 6, 6, 4 + 0.5 * (5 + 0.5 * 42), 5 + 0.5 * 42],
            rtol=1e-6,
        )
        assert sorted(metrics.episode_returns) == [4 + 5, 4 + 5 + 6]

    def test_the_average_reward_is_subtracted_from_every_reward_and_follows_the_td_errors(self):
        critic = critic_of(Identity(), gamma=1, lam=0, eta_critic=1e-9, eta_average_reward=0.1)
        critic.r_bar = 2.0
        steps = zip(range(1, 8), self.next_v, self.s, strict=True)
        delta = [r - 2 + next_v - v for r, next_v, v in steps]
        rollout = script_rollout(7)
        assert_allclose(critic.td_errors(rollout)[1][0], delta)
        critic.update(rollout)
        assert critic.r_bar == pytest.approx(2 + 0.1 * np.mean(delta))


def evaluation(mdp, w, v=None, n_envs=8, seed=0, **settings):
    """Return the evaluation of a policy: Monte Carlo with one step, unless the settings say otherwise."""
    env = SyncVectorEnv([mdp.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    table = TabularValue(np.zeros(mdp.n_states) if v is None else v)
    settings = {"eta_critic": 0.5, "lam": 1.0, "rollout_length": 1, "optimizer": "SGD"} | settings
    return PolicyEvaluation(env, TabularPolicy(w), table, PolicyEvaluationConfig(**settings), seed=seed)


class TestPolicyEvaluation:
    @pytest.mark.parametrize(
        "settings",
        [
            {"rollout_length": 1},
            {"rollout_length": 5, "lam": 0.7},
            {"rollout_length": None},
            {"rollout_length": None, "lam": 0.5},
        ],
    )
    def test_td_monte_carlo_and_all_between_converge_to_the_exact_values(self, settings):
        """A random walk of 5 states. The mean of the tables on the way, of a thousand visits and more, is
        within .08 of V: 6 standard errors."""
        mdp, w = random_walk(5), np.zeros((6, 2))
        algorithm = evaluation(mdp, w, np.full(6, 0.5), gamma=1, eta_critic=0.2, seed=1, **settings)
        tables, n_steps = [], 0
        while n_steps < 30_000:
            n_steps = algorithm.update().n_steps
            tables.append(algorithm.critic(np.arange(5)))
        assert_allclose(np.mean(tables[len(tables) // 4 :], axis=0), mdp.values(w).V[:5], atol=0.08)

    def test_with_the_exact_values_the_mean_td_error_is_zero(self):
        """δ has mean A(s,a), whose mean under π is 0: that of 20,000 steps is within 5.5 standard errors."""
        mdp = random_mdp(4, 2, np.random.default_rng(0), gamma=0.8)
        w = np.random.default_rng(1).normal(size=(4, 2))
        env = SyncVectorEnv([mdp.env] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
        rollout = collect_rollout(env, TabularPolicy(w), 2500, np.random.default_rng(0))
        critic = critic_of(TabularValue(mdp.values(w).V), gamma=0.8)
        delta = critic.td_errors(rollout)[1].ravel()
        assert abs(delta.mean()) < 5.5 * delta.std() / len(delta) ** 0.5

    def test_the_average_reward_of_a_queue_and_its_differential_values(self):
        mdp, w = access_control(3, 0.2), np.zeros((16, 2))
        settings = {"gamma": 1, "eta_critic": 5, "eta_average_reward": 0.05, "lam": 0}
        algorithm = evaluation(mdp, w, n_envs=20, rollout_length=20, **settings)
        while algorithm.update().n_steps < 100_000:
            pass
        exact = mdp.average_reward(w)
        assert algorithm.critic.r_bar == pytest.approx(exact.r_bar, rel=0.05)
        visited = exact.d > 0.02
        v = algorithm.critic(np.arange(16))
        assert np.corrcoef(v[visited], exact.V[visited])[0, 1] > 0.95

    def test_the_same_seed_gives_the_same_run_and_neighbours_share_no_environment(self, monkeypatch):
        mdp, w, rollouts = access_control(3, 0.2), np.zeros((16, 2)), record_rollouts(monkeypatch, critics)
        for seed in (0, 0, 1):
            evaluation(mdp, w, n_envs=40, rollout_length=5, seed=seed).update()
        one, same, neighbour = (rollout.s for rollout in rollouts)
        assert_array_equal(one, same)
        assert (one[1:] != neighbour[:-1]).any()

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: script_evaluation(gamma=1.1), "gamma must be in [0, 1], got 1.1"),
            (lambda: script_evaluation(lam=-0.1), "lam must be in [0, 1], got -0.1"),
            (
                lambda: script_evaluation(rollout_length=0),
                "rollout_length must be a whole number of at least 1, got 0",
            ),
            (
                lambda: script_evaluation(rollout_length=1.5),
                "rollout_length must be a whole number of at least 1, got 1.5",
            ),
            (
                lambda: script_evaluation(eta_average_reward=0, gamma=1),
                "eta_average_reward must be a positive number, got 0",
            ),
            (
                lambda: script_evaluation(eta_average_reward=0.1),
                "gamma must be 1 where an average reward is subtracted, got 0.99",
            ),
            (
                lambda: script_evaluation(mode=AutoresetMode.NEXT_STEP),
                "env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), "
                "got AutoresetMode.NEXT_STEP",
            ),
        ],
    )
    def test_errors_name_the_argument_the_value_and_the_range(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
