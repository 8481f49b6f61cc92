"""Several seeds at once against each of them alone."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pgcourse.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from pgcourse.algorithms.reinforce import Reinforce
from pgcourse.algorithms.replay import ReplayBuffer
from pgcourse.algorithms.seeds import RandomStreams, each_seed, equal_blocks, random_stream
from pgcourse.environments.tasks import Task
from pgcourse.experiments import recipes
from pgcourse.experiments.seeds import evaluate_at_once, train_at_once
from pgcourse.maths.returns import standardize
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import SoftmaxPolicy
from pgcourse.networks.stacked import stack, unstack
from pgcourse.networks.values import ValueNetwork

SEEDS = (5, 0, 9)


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


def in_double_precision(algorithm):
    names = (
        "policy",
        "critic",
        "q_network",
        "target_actor",
        "target_critic",
        "target_q_network",
        "temperature",
    )
    for network in (getattr(algorithm, name) for name in names if hasattr(algorithm, name)):
        if isinstance(network, torch.nn.Module):
            network.double()
        else:
            network.value.double()
    return algorithm


# Rollouts of 64 or 32 steps a seed in two or three parts; most gradients are longer than 0.1.
PPO_SETTINGS = {"rollout_length": 8, "minibatch_size": 30, "n_epochs": 2, "max_norm": 0.1}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("actor-critic/cartpole", {}),
        ("actor-critic/cartpole", {"standardize": True, "rollout_length": 8}),
        ("actor-critic/acrobot", {"rollout_length": 8}),
        ("ddpg/pendulum", {"learning_starts": 128}),
        ("ddpg/mountain-car", {"learning_starts": 128, "capacity": 200}),
        ("ddpg-paper/pendulum", {"learning_starts": 128, "hidden_sizes": (32, 16)}),
        ("td3/pendulum", {"learning_starts": 128}),
        ("sac/pendulum", {"learning_starts": 128, "batch_size": 64}),
        ("sac/pendulum", {"learning_starts": 64, "batch_size": 64, "learn_alpha": False, "sigma": 0.1}),
        ("dqn/cartpole", {"learning_starts": 128, "hidden_sizes": (32,)}),
        ("ppo/cartpole", PPO_SETTINGS | {"entropy_coefficient": 0.01}),
        ("ppo/cartpole", PPO_SETTINGS | {"surrogate": "weighted", "max_norm": None}),
        ("ppo/pendulum", PPO_SETTINGS | {"entropy_coefficient": 0.01}),
    ],
)
def test_each_seed_follows_its_single_run_for_a_hundred_updates(name, overrides):
    """In double precision, or rounding would hide mistakes; and it draws the same numbers."""
    recipe = recipes.get(name)
    together = in_double_precision(recipe.build(SEEDS, **overrides))
    for _ in range(100):
        metrics = together.update()
    states = together.state_dict()["rng"]
    returns = []
    for k, (seed, policy) in enumerate(zip(SEEDS, unstack(together.policy), strict=True)):
        alone = in_double_precision(recipe.build(seed, **overrides))
        for _ in range(100):
            expected = alone.update()
        assert_allclose(weights(policy), weights(alone.policy), rtol=1e-6, atol=1e-9)
        assert states[k] == alone.state_dict()["rng"]
        assert metrics.n_steps == expected.n_steps
        returns += list(expected.episode_returns)
    assert_allclose(sorted(metrics.episode_returns), sorted(returns), rtol=1e-6)


def test_truncated_episodes_bootstrap_from_their_own_final_states():
    """With four steps to an episode at most, each seed truncates another number in a rollout."""
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    def env(n):
        make = lambda: Task("CartPole-v1").make_env(max_episode_steps=11)  # noqa: E731
        return SyncVectorEnv([make] * n, autoreset_mode=AutoresetMode.SAME_STEP)

    def networks(seed):
        return SoftmaxPolicy(4, 2, (8,), seed=seed), ValueNetwork(4, (8,), seed=seed + 10)

    config = ActorCriticConfig(rollout_length=7, eta=0.01)
    policies, values = zip(*map(networks, SEEDS), strict=True)
    together = ActorCritic(env(6), stack(policies), stack(values), config, seed=SEEDS)
    for _ in range(40):
        together.update()
    for seed, policy, value in zip(
        SEEDS, unstack(together.policy), unstack(together.critic.value), strict=True
    ):
        alone = ActorCritic(env(2), *networks(seed), config, seed=seed)
        for _ in range(40):
            alone.update()
        assert_allclose(weights(policy), weights(alone.policy), rtol=1e-4, atol=2e-6)
        assert_allclose(weights(value), weights(alone.critic.value), rtol=1e-4, atol=2e-6)


def test_a_state_continues_in_another_object():
    recipe, overrides = recipes.get("ddpg/pendulum"), {"learning_starts": 128}
    original, other = recipe.build(SEEDS, **overrides), recipe.build((1, 2, 3), **overrides)
    original.update()
    state, runs = original.state_dict(), []
    for algorithm in (original, other):
        algorithm.load_state_dict(state)
        runs.append([algorithm.update()._replace(episode_returns=None) for _ in range(5)])
    assert runs[0] == runs[1]


def test_each_stream_draws_what_it_draws_alone():
    streams, alone = RandomStreams(SEEDS), [np.random.default_rng(seed) for seed in SEEDS]
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 5.0])
    calls = [
        lambda rng, n: rng.random(n),
        lambda rng, n: rng.random((n, 1)),
        lambda rng, n: rng.integers(7, size=n),
        lambda rng, n: rng.standard_normal((n, 2), np.float32),
        lambda rng, n: rng.uniform(low, high, (n, 2)),
    ]
    for call in calls:
        drawn, expected = call(streams, 12), np.concatenate([call(rng, 4) for rng in alone])
        assert drawn.dtype == expected.dtype
        assert (drawn == expected).all()
    blocks = streams.permutation(12).reshape(3, 4) - [[0], [4], [8]]
    assert blocks.tolist() == [rng.permutation(4).tolist() for rng in alone]
    assert streams.integers(2**30).tolist() == [rng.integers(2**30) for rng in alone]


def test_one_seed_is_an_ordinary_generator():
    env = Task("CartPole-v1").make_vector_env(2)
    for seed in (3, [3]):
        rng = random_stream(seed, env)
        assert isinstance(rng, np.random.Generator)
        assert rng.random() == np.random.default_rng(3).random()


def test_a_replay_buffer_keeps_the_seeds_apart():
    """Against one buffer a seed, through more transitions than there is room for."""
    together, rng = ReplayBuffer(7, (2,), (), n_seeds=3), np.random.default_rng(0)
    alone = [ReplayBuffer(7, (2,), ()) for _ in range(3)]
    for n in (2, 2, 3, 2, 20):
        s, next_s, a, r = (
            rng.normal(size=(3 * n, 2)),
            rng.normal(size=(3 * n, 2)),
            *rng.normal(size=(2, 3 * n)),
        )
        columns = (s, a, r, next_s, rng.random(3 * n) < 0.5)
        together.add(*columns)
        for buffer, *block in zip(alone, *(np.split(x, 3) for x in columns), strict=True):
            buffer.add(*block)
        assert len(together) == len(alone[0])
        drawn = together.sample(2, RandomStreams(SEEDS))
        each = [b.sample(2, np.random.default_rng(seed)) for b, seed in zip(alone, SEEDS, strict=True)]
        for x, *blocks in zip(drawn, *each, strict=True):
            assert (x == np.concatenate(blocks)).all()
    copied = ReplayBuffer(7, (2,), (), n_seeds=3)
    copied.load_state_dict(together.state_dict())
    assert all((x == y).all() for x, y in zip(copied.stored(), together.stored(), strict=True))


def test_advantages_are_standardised_seed_by_seed():
    A, mask = (
        np.random.default_rng(0).normal(size=(6, 4)) * np.repeat([1, 10, 100], 2)[:, None],
        np.ones((6, 4), bool),
    )
    z = each_seed(standardize, 3, A, mask).reshape(3, -1)
    assert_allclose(z.mean(axis=1), 0, atol=1e-12)
    assert_allclose(z.std(axis=1), 1)
    assert (each_seed(standardize, 1, A, mask) == standardize(A, mask)).all()


def test_unequal_blocks_are_filled_up():
    rows = np.arange(1.0, 7)[:, None]
    padded, real = equal_blocks(rows, np.array([1, 0, 3, 2]))
    assert padded[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 2, 3, 4, 5, 6, 0]
    assert (padded[real] == rows).all()


def test_curves_and_policies_of_ten_seeds():
    """Three times what chance earns on the cart, in 25,000 steps each; curves are those of the seeds."""
    recipe = recipes.get("actor-critic/cartpole")
    rows = list(train_at_once(recipe, range(10), steps=25_000, n_rows=5, eta=0.003, rollout_length=8))
    assert [row.returns.shape for row in rows] == [(10, k) for k in range(1, 6)]
    curves = rows[-1]
    assert all(np.array_equal(row.returns, curves.returns[:, :k]) for k, row in enumerate(rows, 1))
    assert (np.diff(curves.n_steps) > 0).all()
    assert curves.n_steps[-1] >= 25_000
    assert np.median(curves.returns[:, -1]) > 3 * 22  # random actions last 22 steps
    assert len(np.unique(curves.returns[:, -1])) > 5
    returns = evaluate_at_once(recipe, curves.policy, 5, seed=0)
    assert returns.shape == (10, 5)
    assert np.median(returns) > 3 * 22
    alone = unstack(curves.policy)[0]  # which draws first
    greedy = recipe.task.evaluate(curves.policy.greedy, 50, seed=0).reshape(10, 5)
    assert (greedy[0] == recipe.task.evaluate(alone.greedy, 5, seed=0)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("reinforce/cartpole"), "seed must be one number for REINFORCE, .*, got 3"),
        (
            lambda: build("ddpg/pendulum", seeds=(1, 1)),
            r"seed must be .* several different ones, got \(1, 1\)",
        ),
        (lambda: build("ddpg/pendulum", seeds=()), "seed must be from 1 to 1,000 numbers, got 0"),
        (
            lambda: build("ddpg/pendulum", seeds=range(1001)),
            "seed must be from 1 to 1,000 numbers, got 1,001",
        ),
        (
            lambda: build("ddpg/pendulum", seeds=(0, 0.5)),
            "seed must be a whole number of at least 0, got 0.5",
        ),
        (lambda: build("ddpg/pendulum", seeds="12"), "seed must be a number, got '12'"),
        (
            lambda: Reinforce(cartpoles(), stack([SoftmaxPolicy(4, 2)] * 2), seed=(0, 1)),
            "seed must be one number",
        ),
        (
            lambda: ReplayBuffer(9, (), (), n_seeds=2).add(*np.zeros((4, 3)), np.zeros(3, bool)),
            "r must hold as many rewards for each of 2 seeds, got 3",
        ),
        (lambda: ReplayBuffer(9, (), (), n_seeds=0), "n_seeds must be a whole number of at least 1, got 0"),
        (
            lambda: train_at_once(recipes.get("ppo/cartpole"), (0, 1), steps=0),
            "steps must be a whole number of at least 1, got 0",
        ),
        (
            lambda: train_at_once(recipes.get("actor-critic/pong"), (0, 1), steps=10),
            "networks must have their weights in linear layers with biases, got .*W1",
        ),
        (
            lambda: build("actor-critic/cartpole", rollout_length=None),
            "rollout_length must be a number",
        ),
        (lambda: build("ppo/cartpole", rollout_length=None), "rollout_length must be a number"),
        (lambda: build("ppo/cartpole", target_kl=0.01), "target_kl must be None where several .*, got 0.01"),
        (
            lambda: build("ppo/cartpole", rollout_length=16),
            "minibatch_size must be at most the steps of a rollout, 8 × 16 = 128, got 256",
        ),
        (lambda: RandomStreams(SEEDS).random(4), "size must be rows in 3 equal blocks, got 4"),
        (
            lambda: build("actor-critic/access-control"),
            "networks must have their weights in linear layers with biases, got w",
        ),
        (
            lambda: build("actor-critic/cartpole", gamma=1.0, eta_average_reward=0.1),
            "eta_average_reward must be None",
        ),
        (
            lambda: pair(seed=(1, 2, 3)),
            r"seed must have as many numbers as networks are stacked, 2, got \(1, 2, 3\)",
        ),
        (lambda: pair(seed=1), "seed must have as many numbers as networks are stacked, 2, got 1"),
        (lambda: pair(n_envs=3), "env must have as many environments for each of 2 seeds, got 3"),
    ],
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def build(name, seeds=SEEDS, **overrides):
    return recipes.get(name).build(seeds, **overrides)


def cartpoles(n_envs=4):
    return Task("CartPole-v1").make_vector_env(n_envs)


def pair(n_envs=4, seed=(1, 2)):
    policy, value = stack([SoftmaxPolicy(4, 2)] * 2), stack([ValueNetwork(4)] * 2)
    return ActorCritic(cartpoles(n_envs), policy, value, seed=seed)
