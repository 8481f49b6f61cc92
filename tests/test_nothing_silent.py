"""A user's own environment, network or schedule teaches the right thing, or an error says why it cannot."""

import copy
import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_array_equal
from torch import nn

from pgcourse.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from pgcourse.algorithms.collect import (
    PartialEpisodes,
    RolloutState,
    collect_episodes,
    collect_rollout,
)
from pgcourse.algorithms.config import as_schedule
from pgcourse.algorithms.critics import PolicyEvaluation, PolicyEvaluationConfig
from pgcourse.algorithms.ddpg import DDPG, TD3, DDPGConfig, TD3Config
from pgcourse.algorithms.dqn import DQN, DQNConfig
from pgcourse.algorithms.ppo import PPO, PPOConfig
from pgcourse.algorithms.reinforce import Reinforce, ReinforceConfig
from pgcourse.algorithms.sac import SAC, SACConfig
from pgcourse.environments import tasks
from pgcourse.environments.pong import Pong
from pgcourse.environments.tasks import Task
from pgcourse.experiments.training import train
from pgcourse.maths.estimators import estimator_statistics
from pgcourse.maths.returns import (
    batch_mean_baseline,
    leave_one_out_baseline,
    reward_to_go,
    standardize,
    total_return,
)
from pgcourse.maths.statistics import Interval, bootstrap_interval
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    SoftmaxPolicy,
    SquashedGaussianPolicy,
)
from pgcourse.networks.values import DiscreteQNetwork, QNetwork, TwinCritic, ValueNetwork

SMALL = {"batch_size": 4, "learning_starts": 4}


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


class Drift(gymnasium.Env):
    """Shows (t, position); truncated after ``length`` steps, or never. The reward is the position."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, action_space=None, length=5):
        self.action_space, self.length = action_space or Discrete(2), length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal()
        return self._observation(), {}

    def step(self, a):
        assert self.action_space.contains(np.asarray(a, self.action_space.dtype))
        self.t += 1
        self.x += float(np.sum(a)) - 0.5
        return self._observation(), self.x, False, self.t == self.length, {}

    def _observation(self):
        return np.array([self.t, self.x], np.float32)


def drifts(n_envs=2, *, mode=AutoresetMode.SAME_STEP, buffered=False, **options):
    make = [lambda: Drift(**options)] * n_envs
    return SyncVectorEnv(make, copy=not buffered, autoreset_mode=mode)


ONE_NUMBER = Box(-1, 1, (1,), np.float32)


def actor(**options):
    return DeterministicPolicy(2, [-1], [1], (4,), seed=1, **options)


def squashed():
    return SquashedGaussianPolicy(2, [-1], [1], (4,), seed=1)


def twins():
    return TwinCritic(*(QNetwork(2, 1, (4,), seed=seed) for seed in (2, 3)))


BUILD = {
    "reinforce": lambda env: Reinforce(env, SoftmaxPolicy(2, 2, (4,)), ReinforceConfig(batch_size=20)),
    "actor-critic": lambda env: ActorCritic(
        env, SoftmaxPolicy(2, 2, (4,)), ValueNetwork(2, (4,)), ActorCriticConfig(rollout_length=8)
    ),
    "ppo": lambda env: PPO(
        env,
        SoftmaxPolicy(2, 2, (4,)),
        ValueNetwork(2, (4,)),
        PPOConfig(rollout_length=8, minibatch_size=8),
    ),
    "policy evaluation": lambda env: PolicyEvaluation(
        env, SoftmaxPolicy(2, 2, (4,)), ValueNetwork(2, (4,)), PolicyEvaluationConfig(rollout_length=None)
    ),
    "dqn": lambda env: DQN(env, DiscreteQNetwork(2, 2, (4,)), DQNConfig(**SMALL)),
    "ddpg": lambda env: DDPG(env, actor(), QNetwork(2, 1, (4,)), DDPGConfig(**SMALL)),
    "sac": lambda env: SAC(env, squashed(), twins(), SACConfig(**SMALL)),
}
CONTINUOUS = ("ddpg", "sac")
EVERY_LEARNER = pytest.mark.parametrize("name", BUILD)


class OneByOne(Task):
    """Steps the environments that it makes one after the other, whatever its name."""


def build(name, **options):
    return BUILD[name](drifts(**({"action_space": ONE_NUMBER} if name in CONTINUOUS else {}) | options))


def metrics_of(algorithm, n_updates=6):
    return [[np.asarray(x) for x in algorithm.update()] for _ in range(n_updates)]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            assert_array_equal(x, y)


class TestObservationsAreCopied:
    @EVERY_LEARNER
    def test_an_environment_that_uses_its_buffer_again_teaches_the_same(self, name):
        """``copy=False`` returns one array in every step."""
        assert_same(metrics_of(build(name)), metrics_of(build(name, buffered=True)))

    def test_the_collected_states_are_those_of_their_steps(self):
        env, policy, rng = drifts(buffered=True), SoftmaxPolicy(2, 2, (4,)), np.random.default_rng(0)
        for episode in collect_episodes(env, policy, 10, rng):
            assert episode.s[:, 0].tolist() == [0, 1, 2, 3, 4]
        rollout = collect_rollout(env, policy, 7, rng)
        assert rollout.s[:, :, 0].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]] * 2
        assert rollout.final_observations[:, 0].tolist() == [5, 5]

    def test_a_replayed_transition_leads_from_one_state_to_another(self):
        algorithm = build("ddpg", buffered=True)
        algorithm.update()
        s, _, _, next_s, _ = algorithm.replay.stored()
        assert_array_equal(next_s[:, 0], s[:, 0] + 1)

    def test_the_last_state_of_an_episode_is_not_that_of_the_next_ones_start(self, monkeypatch):
        """``SyncVectorEnv`` itself loses it where a single environment uses its buffer again."""

        class Reused(Drift):
            def _observation(self):
                self.buffer = getattr(self, "buffer", np.zeros(2, np.float32))
                self.buffer[:] = self.t, self.x
                return self.buffer

        monkeypatch.setitem(gymnasium.registry, "Reused-v0", EnvSpec("Reused-v0", Reused))
        rollout = collect_rollout(
            Task("Reused-v0").make_vector_env(2), SoftmaxPolicy(2, 2, (4,)), 7, np.random.default_rng(0)
        )
        assert rollout.s[:, :, 0].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]] * 2
        assert rollout.final_observations[:, 0].tolist() == [5, 5]

    def test_frames_of_a_video_are_copied(self, monkeypatch):
        class Screen(Drift):
            metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
            picture = np.zeros((1, 1, 3), np.uint8)

            def render(self):
                self.picture[:] = self.t
                return self.picture

        task = OneByOne("CartPole-v1")
        monkeypatch.setattr(task, "_make_env", lambda **options: Screen())
        frames = list(task.render_episode(lambda s: np.zeros(len(s), int), 0))
        assert [int(frame.max()) for frame in frames] == [0, 1, 2, 3, 4, 5]


class TestRoundingErrors:
    ALMOST = np.array([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1])  # equal, were it not for rounding

    def test_credits_that_differ_by_rounding_are_equal(self):
        assert np.ptp(self.ALMOST) > 0
        assert_array_equal(standardize(self.ALMOST), 0)
        assert_array_equal(standardize(1e9 * self.ALMOST), 0)
        assert_array_equal(standardize(self.ALMOST.astype(np.float32)), 0)

    def test_credits_that_differ_by_more_are_not(self):
        for spread in (1e-9, 1e-12):
            G = 1 + spread * np.array([-1.0, 1.0])
            assert standardize(G) == pytest.approx([-1, 1], rel=1e-3)
            assert abs(standardize(G).mean()) < 1e-3

    def test_a_baseline_leaves_rounding_errors_of_the_size_of_the_returns(self):
        """0.6 less 0.6 is ±10⁻¹⁶: large against itself, and nothing against the returns."""
        G = np.tile(self.ALMOST[:, None], (1, 3))
        advantages = G - leave_one_out_baseline(G)
        assert abs(standardize(advantages)).max() > 0.9
        assert_array_equal(standardize(advantages, scale=0.6), 0)

    def test_an_update_does_not_learn_from_rounding_errors(self):
        class Rewards(Drift):
            """Pays .1, .2 and .3 in one order or the other."""

            def step(self, a):
                if self.t == 0:
                    self.order = (0.1, 0.2, 0.3) if self.x > 0 else (0.3, 0.2, 0.1)
                s, _, terminated, truncated, info = super().step(a)
                return s, self.order[self.t - 1], terminated, truncated, info

        env = SyncVectorEnv([lambda: Rewards(length=3)] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
        for baseline in (None, leave_one_out_baseline, batch_mean_baseline):
            config = ReinforceConfig(return_fn=total_return, gamma=1, baseline=baseline, batch_size=24)
            policy = SoftmaxPolicy(2, 2, (4,))
            before = copy.deepcopy(policy.state_dict())
            Reinforce(env, policy, config).update()
            for name, w in policy.state_dict().items():
                assert w.equal(before[name])

    def test_an_interval_without_width_is_printed_with_four_digits(self):
        assert str(Interval(0.3, 0.1 + 0.2 - 1e-16, 0.1 + 0.2)) == "0.3 [0.3, 0.3]"
        assert len(str(bootstrap_interval(np.full(7, 0.3)))) < 30

    def test_estimates_that_differ_by_rounding_have_no_noise(self):
        estimates = np.repeat(self.ALMOST, 2)[:, None]
        assert estimator_statistics(estimates, np.array([0.6])).signal_to_noise == np.inf


class Column(nn.Module):
    """A network whose output has an axis too many, (N, 1)."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs):
        return self.network(*inputs)[:, None]


class ColumnPolicy(SoftmaxPolicy):
    def log_prob(self, s, a):
        return super().log_prob(s, a)[:, None]


class TestShapes:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: DDPG(drifts(action_space=ONE_NUMBER), actor(), Column(QNetwork(2, 1))),
                "critic(s, a) must have shape (3,), got (3, 1)",
            ),
            (
                lambda: DDPG(drifts(action_space=ONE_NUMBER), Column(actor()), QNetwork(2, 1)),
                "policy(s) must have shape (3, 1), got (3, 1, 1)",
            ),
            (
                lambda: TD3(
                    drifts(action_space=ONE_NUMBER),
                    actor(),
                    TwinCritic(Column(QNetwork(2, 1)), Column(QNetwork(2, 1))),
                ),
                "critic(s, a) must have shape (2, 3), got (2, 3, 1)",
            ),
            (
                lambda: DQN(drifts(), DiscreteQNetwork(2, 3)),
                "q_network(s) must have shape (3, 2), got (3, 3)",
            ),
            (
                lambda: ActorCritic(drifts(), SoftmaxPolicy(2, 2), Column(ValueNetwork(2))),
                "value(s) must have shape (3,), got (3, 1)",
            ),
            (
                lambda: PolicyEvaluation(drifts(), SoftmaxPolicy(2, 2), Column(ValueNetwork(2))),
                "value(s) must have shape (3,), got (3, 1)",
            ),
            (
                lambda: Reinforce(drifts(), ColumnPolicy(2, 2)),
                "policy.log_prob(s, a) must have shape (2,), got (2, 1)",
            ),
            (
                lambda: ActorCritic(drifts(), ColumnPolicy(2, 2), ValueNetwork(2)),
                "policy.log_prob(s, a) must have shape (2,), got (2, 1)",
            ),
            (
                lambda: PPO(drifts(), ColumnPolicy(2, 2), ValueNetwork(2)),
                "policy.log_prob(s, a) must have shape (2,), got (2, 1)",
            ),
            (
                lambda: PPO(drifts(), SoftmaxPolicy(2, 2), Column(ValueNetwork(2))),
                "value(s) must have shape (3,), got (3, 1)",
            ),
        ],
    )
    def test_an_output_of_another_shape_is_refused_where_it_is_handed_over(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()

    def test_asking_a_network_changes_nothing_in_it(self):
        value = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Flatten(0))

        class Value(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = value

            def forward(self, s):
                return self.layers(torch.as_tensor(s))

        before = copy.deepcopy(value.state_dict())
        ActorCritic(drifts(), SoftmaxPolicy(2, 2), Value())
        assert all(w.equal(before[name]) for name, w in value.state_dict().items())


class TestSchedules:
    @pytest.mark.parametrize("late", [-0.04, np.nan, np.inf, None])
    def test_a_learning_rate_is_checked_at_every_step(self, late):
        schedule = as_schedule("eta", lambda n: 0.1 if n < 2000 else late)
        assert (schedule(0), schedule(1999)) == (0.1, 0.1)
        message = f"eta must be a number of at least 0 at every step, got {late} at step 2,000"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            schedule(2000)

    def test_it_may_fall_to_zero_and_is_a_plain_number(self):
        schedule = as_schedule("eta", lambda n: np.float32(max(0, 0.5 - n / 10)))
        assert [schedule(n) for n in (0, 10)] == [0.5, 0]
        assert type(schedule(0)) is float

    @pytest.mark.parametrize("late", [-1.3, 1.01, np.nan])
    def test_so_is_the_probability_of_a_random_action(self, late):
        config = DQNConfig(epsilon=lambda n: 0.5 if n < 8 else late, **SMALL)
        algorithm = DQN(drifts(), DiscreteQNetwork(2, 2), config)
        message = f"epsilon must be a number from 0 to 1 at every step, got {late} at step 8"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            metrics_of(algorithm)

    @pytest.mark.parametrize("name", ["reinforce", "actor-critic", "dqn", "ddpg", "sac"])
    def test_every_algorithm_checks_at_every_use(self, name):
        algorithm = build(name)
        algorithm.eta = as_schedule("eta", lambda n: 0.1 if n == 0 else -0.04)
        with pytest.raises(ValueError, match=r"^eta must be a number of at least 0 at every step, got -0.04"):
            algorithm.update()


class TestAutoreset:
    def test_pong_neither_lends_its_mode_nor_borrows_one(self):
        from ale_py.vector_env import AtariVectorEnv
        from gymnasium.vector import VectorEnv

        mine = Pong(1)
        assert "autoreset_mode" not in VectorEnv.metadata
        other = AtariVectorEnv(
            "pong", 1, autoreset_mode=AutoresetMode.NEXT_STEP
        )  # writes into what is shared
        try:
            assert mine.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
            assert Pong(1).metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
            other.metadata["autoreset_mode"] = AutoresetMode.SAME_STEP  # as another object might have done
            with pytest.raises(ValueError, match=r"^env must reset itself .*, got AutoresetMode.NEXT_STEP$"):
                DQN(other, DiscreteQNetwork(2, 6))
        finally:
            VectorEnv.metadata.pop("autoreset_mode", None)
            mine.close()
            other.close()

    @EVERY_LEARNER
    def test_metadata_that_lie_are_found_out_at_the_first_end_of_an_episode(self, name):
        env = drifts(
            mode=AutoresetMode.NEXT_STEP, **({"action_space": ONE_NUMBER} if name in CONTINUOUS else {})
        )
        env.autoreset_mode, mode = AutoresetMode.SAME_STEP, env.autoreset_mode
        algorithm = BUILD[name](_Lying(env, mode))
        message = r"^env must reset itself in the step that ends an episode and give info\['final_obs'\]"
        with pytest.raises(ValueError, match=message):
            metrics_of(algorithm, 9)


class _Lying(gymnasium.vector.VectorWrapper):
    """Says that it resets in the same step, and does in the next."""

    def __init__(self, env, mode):
        super().__init__(env)
        self.metadata, self.mode = env.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}, mode

    def step(self, actions):
        said, self.env.autoreset_mode = self.env.autoreset_mode, self.mode
        result = self.env.step(actions)
        self.env.autoreset_mode = said
        return result


class TestActions:
    @pytest.mark.parametrize("name", ["reinforce", "actor-critic", "ppo", "policy evaluation", "dqn"])
    def test_numbered_actions_may_begin_anywhere(self, name):
        """Actions 3 and 4 are 0 and 1 to the algorithm; ``Drift`` takes no others."""
        algorithm = build(name, action_space=Discrete(2, start=3))
        for _ in range(3):
            algorithm.update()
        if name == "dqn":
            s, a, _, next_s, _ = algorithm.replay.stored()
            assert set(a.tolist()) == {0, 1}
            np.testing.assert_allclose(next_s[:, 1] - s[:, 1], a + 3 - 0.5, rtol=1e-4)

    def test_a_task_counts_them_from_zero_in_evaluation_and_video(self, monkeypatch):
        task = OneByOne("CartPole-v1")
        monkeypatch.setattr(task, "_make_env", lambda **options: Drift(Discrete(2, start=3)))
        env = task.make_vector_env(1)
        assert env.single_action_space == Discrete(2)
        [x] = env.reset(seed=0)[0][:, 1]
        expected = sum(x + 3.5 * t for t in range(1, 6))
        assert task.evaluate(lambda s: np.ones(len(s), int), 1, 0) == pytest.approx([expected], rel=1e-5)

    @pytest.mark.parametrize(
        ("space", "policy", "message"),
        [
            (Discrete(2), SoftmaxPolicy(2, 3), r"policy.logits\(s\) must have shape \(2, 2\), got \(2, 3\)"),
            (Discrete(3), SoftmaxPolicy(2, 2), r"policy.logits\(s\) must have shape \(2, 3\), got \(2, 2\)"),
            (MultiDiscrete([2, 3]), SoftmaxPolicy(2, 2), r"policy must draw actions of shape \(2, 2\)"),
            (Box(-1, 1, (3,)), GaussianPolicy(2, 1), r"policy must draw actions of shape \(2, 3\)"),
            (Box(-1, 1, (3,)), SoftmaxPolicy(2, 2), r"policy must draw actions of shape \(2, 3\)"),
            (Box(-1, 1, (2, 2)), GaussianPolicy(2, 2), r"policy must draw actions of shape \(2, 2, 2\)"),
            (Discrete(2), GaussianPolicy(2, 1), r"policy must draw actions of shape \(2,\)"),
            (
                DictSpace({"a": Discrete(2)}),
                SoftmaxPolicy(2, 2),
                "env must have actions that are a number or",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_when_the_algorithm_is_built(self, space, policy, message):
        for kind in (Reinforce, ActorCritic, PPO, PolicyEvaluation):
            networks = (policy,) if kind is Reinforce else (policy, ValueNetwork(2))
            with pytest.raises(ValueError, match=f"^{message}"):
                kind(drifts(action_space=space), *networks)


class TestNothingLearnt:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"return_fn": total_return, "standardize": True}, "nothing is learnt"),
            ({"return_fn": total_return, "baseline": batch_mean_baseline}, "nothing is learnt"),
            ({"baseline": leave_one_out_baseline}, "leaves none for its baseline"),
        ],
    )
    def test_a_batch_that_is_always_one_episode_is_refused(self, settings, message):
        config = ReinforceConfig(**{"batch_size": 1, "standardize": False} | settings)
        with pytest.raises(ValueError, match=f"^batch_size must be larger than 1 .*{message}; got 1$"):
            Reinforce(drifts(1), SoftmaxPolicy(2, 2), config)

    @pytest.mark.parametrize(
        "settings",
        [
            {"return_fn": total_return, "standardize": True},
            {"return_fn": total_return, "baseline": batch_mean_baseline},
            {"return_fn": reward_to_go, "baseline": leave_one_out_baseline},
        ],
    )
    def test_a_batch_that_happens_to_be_one_episode_is_warned_of_once(self, settings):
        config = ReinforceConfig(**{"batch_size": 2, "standardize": False} | settings)
        algorithm = Reinforce(drifts(1), SoftmaxPolicy(2, 2), config)
        with pytest.warns(UserWarning, match=r"an update has .* a larger batch_size has more episodes"):
            algorithm.update()
        with warnings.catch_warnings(action="error"):
            algorithm.update()

    def test_slide_61s_single_sample_is_not_standardised(self):
        config = ActorCriticConfig(rollout_length=1, standardize=True)
        with pytest.raises(ValueError, match=r"^standardize must be False where .* nothing would be learnt"):
            ActorCritic(drifts(1), SoftmaxPolicy(2, 2), ValueNetwork(2), config)
        ActorCritic(drifts(2), SoftmaxPolicy(2, 2), ValueNetwork(2), config).update()

    @pytest.mark.parametrize(
        ("kind", "config"),
        [
            (ActorCritic, ActorCriticConfig(rollout_length=None, standardize=True)),
            (PPO, PPOConfig(rollout_length=None, minibatch_size=1)),
        ],
    )
    def test_a_whole_episode_of_one_step_is_warned_of_once(self, kind, config):
        algorithm = kind(drifts(1, length=1), SoftmaxPolicy(2, 2), ValueNetwork(2), config)
        with pytest.warns(UserWarning, match="an update has learnt nothing"):
            algorithm.update()
        with warnings.catch_warnings(action="error"):
            algorithm.update()


class TestWeights:
    @pytest.mark.parametrize("name", ["reinforce", "actor-critic", "ppo", "ddpg", "sac"])
    def test_converted_weights_are_refused(self, name):
        algorithm = build(name)
        algorithm.update()
        algorithm.policy.double()
        with pytest.raises(ValueError, match=r"must keep their type, torch\.float32, got torch\.float64"):
            algorithm.update()

    def test_or_learnt_in_their_new_type_where_the_optimiser_has_no_state_yet(self):
        algorithm = build("actor-critic")
        algorithm.policy.double()
        algorithm.critic.value.double()
        before = [w.clone() for w in algorithm.policy.parameters()]
        algorithm.update()
        assert all((w != was).any() for w, was in zip(algorithm.policy.parameters(), before, strict=True))

    @EVERY_LEARNER
    def test_a_layer_that_was_replaced_is_refused(self, name):
        algorithm = build(name)
        network = {"policy evaluation": lambda: algorithm.critic.value, "dqn": lambda: algorithm.q_network}
        network = network.get(name, lambda: algorithm.policy)()
        network.layers[-1] = copy.deepcopy(network.layers[-1])
        with pytest.raises(ValueError, match="the network must keep the weights"):
            algorithm.update()

    def test_two_algorithms_cannot_take_turns_with_one_network(self):
        policy = SoftmaxPolicy(2, 2, (4,))
        one, other = (Reinforce(drifts(), policy, ReinforceConfig(batch_size=10)) for _ in range(2))
        one.update()
        other.update()  # has taken over
        other.update()
        with pytest.raises(ValueError, match="must be trained by one algorithm at a time"):
            one.update()

    def test_two_networks_do_not_share_weights(self):
        value = ValueNetwork(2)
        policy = SoftmaxPolicy(2, 2)
        policy.layers[0] = value.layers[0]
        with pytest.raises(ValueError, match=r"^policy and value must not share weights"):
            ActorCritic(drifts(), policy, value)
        with pytest.raises(ValueError, match=r"^policy and value must not share weights"):
            PPO(drifts(), policy, value, PPOConfig(minibatch_size=8))
        q = QNetwork(2, 1)
        with pytest.raises(ValueError, match=r"^first and second must not share weights"):
            TD3(drifts(action_space=ONE_NUMBER), actor(), TwinCritic(q, q), TD3Config(**SMALL))

    def test_a_copied_algorithm_moves_its_own_weights(self):
        algorithm = build("actor-critic")
        algorithm.update()
        other = copy.deepcopy(algorithm)
        before = copy.deepcopy(algorithm.policy.state_dict())
        other.update()
        assert all(w.equal(before[name]) for name, w in algorithm.policy.state_dict().items())
        assert not all(w.equal(before[name]) for name, w in other.policy.state_dict().items())
        algorithm.update()


class TestInterruptions:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    @EVERY_LEARNER
    def test_an_interrupted_update_leaves_no_half_episode(self, name, error):
        """The episodes after it begin at step 0, and no transition leads from one to the next."""
        algorithm = build(name)
        algorithm.update()
        step, calls = algorithm.env.step, []

        def interrupted(actions):
            calls.append(actions)
            if len(calls) == 3:
                step(actions)
                raise error
            return step(actions)

        algorithm.env.step = interrupted
        with pytest.raises(error):
            metrics_of(algorithm)
        algorithm.env.step = step
        for _ in range(3):
            algorithm.update()
        if name in ("dqn", "ddpg", "sac"):
            s, _, _, next_s, _ = algorithm.replay.stored()
            assert_array_equal(next_s[:, 0], s[:, 0] + 1)

    @pytest.mark.parametrize(
        ("kind", "collect", "first"),
        [
            (PartialEpisodes, collect_episodes, lambda episodes: [e.s[:, 0].tolist() for e in episodes]),
            (RolloutState, collect_rollout, lambda rollout: rollout.s[:, :6, 0].tolist()),
        ],
    )
    def test_after_it_collecting_begins_new_episodes(self, kind, collect, first):
        env, policy, rng = drifts(), SoftmaxPolicy(2, 2, (4,)), np.random.default_rng(0)
        state = kind(env, rng)
        collect(env, policy, 7, rng, state)
        sample, n = policy.sample, []

        def interrupted(s, rng):
            n.append(s)
            if len(n) == 2:
                raise KeyboardInterrupt
            return sample(s, rng)

        policy.sample = interrupted
        with pytest.raises(KeyboardInterrupt):
            collect(env, policy, 7, rng, state)
        policy.sample = sample
        found = first(collect(env, policy, 7, rng, state))
        assert all(s[:5] == [0, 1, 2, 3, 4] for s in found)


class TestIntervals:
    def test_how_often_a_policy_is_evaluated_does_not_change_what_is_learnt(self):
        """Every 3 steps, or once in all, with checkpoints every 40 steps."""
        weights = []
        for eval_interval in (3, 1000, None):
            algorithm = build("actor-critic")
            returns = []
            train(
                algorithm,
                steps=120,
                evaluate=lambda policy, n, returns=returns: returns.append(n) or np.zeros(1),
                checkpoint_interval=40,
                eval_interval=eval_interval,
                progress=False,
            )
            weights.append(torch.nn.utils.parameters_to_vector(algorithm.policy.parameters()))
            assert len(returns) == {3: 9, 1000: 2, None: 4}[eval_interval]
        assert weights[0].equal(weights[1])
        assert weights[0].equal(weights[2])

    def test_a_checkpoint_interval_shorter_than_an_episode_is_warned_of_once(self):
        config = ActorCriticConfig(rollout_length=4)
        env = drifts(length=50)
        algorithm = ActorCritic(env, SoftmaxPolicy(2, 2, (4,)), ValueNetwork(2, (4,)), config)
        message = "no episode has ended between the last two checkpoints, of which the second is at step 32"
        with pytest.warns(UserWarning, match=message) as caught:
            train(algorithm, steps=160, checkpoint_interval=16, progress=False)
        assert len(caught) == 1


class TestNoEnd:
    def test_episodes_that_never_end_are_not_waited_for(self):
        message = r"^env must end every episode within 30 steps, .*truncates .*ActorCritic"
        policy, rng = SoftmaxPolicy(2, 2, (4,)), np.random.default_rng(0)
        with pytest.raises(ValueError, match=message):
            Reinforce(drifts(length=None), policy, max_episode_length=30).update()
        env = drifts(length=None)
        with pytest.raises(ValueError, match=message):
            collect_episodes(env, policy, 1, rng, PartialEpisodes(env, rng, max_episode_length=30))
        with pytest.raises(ValueError, match=message):
            collect_rollout(drifts(length=None), policy, None, rng, max_episode_length=30)
        env = drifts(length=30)
        assert collect_episodes(env, policy, 1, rng, PartialEpisodes(env, rng, max_episode_length=30))
        assert collect_rollout(drifts(length=30), policy, None, rng, max_episode_length=30)
        assert collect_rollout(drifts(length=None), policy, 40, rng, max_episode_length=30)

    def test_nor_in_an_evaluation_or_a_video(self, monkeypatch):
        monkeypatch.setattr(tasks, "MAX_EPISODE_LENGTH", 30)
        task = OneByOne("CartPole-v1")
        monkeypatch.setattr(Drift, "render", lambda self: np.zeros((1, 1, 3), np.uint8), raising=False)
        for length in (30, None):
            monkeypatch.setattr(task, "_make_env", lambda length=length, **options: Drift(length=length))
            calls = (
                lambda: task.evaluate(lambda s: np.zeros(len(s), int), 2, 0),
                lambda: list(task.render_episode(lambda s: np.zeros(len(s), int), 0)),
            )
            for call in calls:
                if length:
                    assert len(call())
                else:
                    message = r"^CartPole-v1 must end every episode within 30 steps, .* ContinuingTask"
                    with pytest.raises(ValueError, match=message):
                        call()
