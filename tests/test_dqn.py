"""DQN against its five lines written out, and against an MDP whose optimal Q is known."""

import copy
import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from pgcourse.algorithms.dqn import DQN, DQNConfig
from pgcourse.algorithms.replay import Transitions
from pgcourse.environments.tasks import Task
from pgcourse.environments.worlds import windy_grid
from pgcourse.experiments import checkpoints
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.values import DiscreteQNetwork

CARTPOLE = Task("CartPole-v1")


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


class LinearQ(nn.Module):
    """Q(s, a) = s·W[:, a]."""

    def __init__(self, W):
        super().__init__()
        self.W = nn.Parameter(torch.tensor(np.asarray(W, np.float32)))

    def forward(self, s):
        return torch.as_tensor(s) @ self.W


class TabularQ(nn.Module):
    """Q(s, ·) is a row of a table, in double precision."""

    def __init__(self, Q):
        super().__init__()
        self.Q = nn.Parameter(torch.tensor(Q))

    def forward(self, s):
        return self.Q[torch.as_tensor(s)]


def config(**options):
    defaults = {"eta": 1e-3, "eta_decay_steps": None, "epsilon": 0.1, "exploration_steps": None}
    defaults |= {"target_update_interval": 100, "train_interval": 1, "batch_size": 8, "learning_starts": 20}
    return DQNConfig(**defaults | options)


def cartpole(seed=0, **options):
    q_network = DiscreteQNetwork(4, 2, (16,), seed=1)
    return DQN(CARTPOLE.make_vector_env(1), q_network, config(**options), seed=seed)


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_it_is_its_five_lines():
    """In NumPy, for 60 iterations of a linear Q, some of whose errors are beyond 1 and some are not."""
    W = np.random.default_rng(0).normal(size=(4, 2))
    options = {"eta": 0.01, "gamma": 0.9, "batch_size": 5, "learning_starts": 6, "optimizer": "SGD"}
    algorithm = DQN(CARTPOLE.make_vector_env(1), LinearQ(W), config(target_update_interval=7, **options))
    sample, drawn, errors = algorithm.replay.sample, [], []
    algorithm.replay.sample = lambda n, rng: drawn.append(sample(n, rng)) or drawn[-1]
    target_W = W.copy()
    for iteration in range(1, 61):
        update = algorithm.update()
        s, a, r, next_s, terminated = drawn[-1]
        y = r + 0.9 * ~terminated * (next_s @ target_W).max(axis=1)
        error = (s @ W)[np.arange(5), a] - y
        assert update.critic_loss == pytest.approx(0.5 * np.mean(error**2), rel=1e-4)
        assert update.q == pytest.approx((s @ W)[np.arange(5), a].mean(), rel=1e-4, abs=1e-5)
        for k in range(5):
            W[:, a[k]] -= 0.01 * error[k].clip(-1, 1) * s[k] / 5
        if iteration % 7 == 0:
            target_W = W.copy()
        errors += abs(error).tolist()
        assert_allclose(algorithm.q_network.W.detach(), W, rtol=1e-4, atol=1e-5)
        assert_allclose(algorithm.target_q_network.W, target_W, rtol=1e-4, atol=1e-5)
    assert 0.1 < np.mean(np.array(errors) > 1) < 0.9


def test_it_finds_the_optimal_action_values():
    """A table, fitted again and again to every transition of a grid: Q* by value iteration."""
    mdp = windy_grid(wind=0.0, gamma=0.9)
    active = ~mdp.absorbing
    V = np.zeros(mdp.n_states)
    for _ in range(100):
        Q = mdp.r + mdp.gamma * mdp.P @ V
        V = np.where(active, Q.max(axis=1), 0)
    env, q_network = SyncVectorEnv([mdp.env], autoreset_mode=AutoresetMode.SAME_STEP), TabularQ(0 * mdp.r)
    options = {"eta": 16, "gamma": mdp.gamma, "target_update_interval": 5, "optimizer": "SGD"}
    algorithm = DQN(env, q_network, config(**options))
    s, a = np.nonzero(np.repeat(active[:, None], mdp.n_actions, axis=1))
    next_s = mdp.P[s, a].argmax(axis=1)
    batch = Transitions(s, a, mdp.r[s, a].astype(np.float32), next_s, mdp.absorbing[next_s])
    for _ in range(200):
        algorithm.learn(batch)
    assert_allclose(q_network(np.flatnonzero(active)).detach(), Q[active], atol=1e-3)
    assert_array_equal(Q[s, algorithm.policy.greedy(s)], V[s])


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_it_explores_with_probability_epsilon(epsilon):
    """In 20,000 environments, within 6 standard errors: of two actions, a random one is the other every
    second time."""
    algorithm = cartpole(epsilon=epsilon)
    algorithm.env.num_envs = 20_000  # of which all are in the same state
    s = np.repeat(algorithm._s, 20_000, axis=0)
    others = (algorithm.select_action(s) != algorithm.policy.greedy(s)).mean()
    assert others == pytest.approx(epsilon / 2, abs=6 * np.sqrt(epsilon / 2 * (1 - epsilon / 2) / 20_000))


def test_epsilon_and_eta_are_those_of_the_steps_so_far():
    asked = []
    algorithm = cartpole(
        epsilon=lambda n: asked.append(n) or 0.5, eta=lambda n: 1 / n if n else 1, train_interval=3
    )
    for iteration in range(1, 4):
        algorithm.update()
        assert algorithm.optimizer.param_groups[0]["lr"] == 1 / algorithm.n_steps
        assert algorithm.n_steps == 20 + 3 * iteration
    assert asked == [0, *range(20, 29)]


def test_epsilon_falls_linearly_from_1_and_eta_by_inverse_time_decay():
    algorithm = cartpole(epsilon=0.2, exploration_steps=100, eta=0.3, eta_decay_steps=50)
    assert [algorithm.epsilon(n) for n in (0, 50, 100, 1000)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert [algorithm.eta(n) for n in (0, 50, 100)] == pytest.approx([0.3, 0.15, 0.1])
    constant = cartpole(epsilon=0.2)
    assert [(constant.epsilon(n), constant.eta(n)) for n in (0, 10**6)] == [(0.2, 1e-3)] * 2


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    algorithm = cartpole(gamma=0.5, eta=1e-12)
    algorithm.update()
    batch = algorithm.replay.sample(8, np.random.default_rng(0))
    q = algorithm.q_network(batch.s).detach().numpy()[np.arange(8), batch.a]
    next_q = algorithm.target_q_network(batch.next_s).numpy().max(axis=1)
    for terminated in (False, True):
        y = batch.r + (0 if terminated else 0.5) * next_q
        loss, _ = algorithm.learn(batch._replace(terminated=np.full(8, terminated)))
        assert loss == pytest.approx(0.5 * np.mean((q - y) ** 2), rel=1e-5)


def test_a_resumed_run_is_as_if_it_had_not_stopped(tmp_path):
    """Through a file; the target network, the optimiser and the replay buffer included."""
    running = cartpole(target_update_interval=10)
    for _ in range(33):
        running.update()
    checkpoints.save(tmp_path / "state", running.state_dict())
    resumed = cartpole(seed=5, target_update_interval=10)
    resumed.load_state_dict(checkpoints.load(tmp_path / "state"))
    running.load_state_dict(running.state_dict())  # new episodes, as at every checkpoint
    for _ in range(33):
        one, other = running.update(), resumed.update()
        assert (one[0], *one[2:]) == (other[0], *other[2:])
        assert_array_equal(one.episode_returns, other.episode_returns)
    for name, w in running.state_dict()["target_q_network"].items():
        assert_array_equal(w, resumed.state_dict()["target_q_network"][name])


def test_it_learns_off_policy_from_the_data_of_another():
    actor, learner = cartpole(seed=0), cartpole(seed=1)
    for _ in range(30):
        actor.update()
    before = weights(learner.q_network)
    learner.learn(actor.replay.sample(8, np.random.default_rng(0)))
    assert (learner.n_steps, learner.n_gradient_steps, len(learner.replay)) == (0, 1, 0)
    assert (weights(learner.q_network) != before).any()


def test_the_users_network_stays_usable():
    """It learns; it can be copied, restored from its weights, and trained by other means."""
    q_network, s = DiscreteQNetwork(4, 2, (16,), seed=1), np.random.default_rng(0).normal(size=(7, 4))
    algorithm = DQN(CARTPOLE.make_vector_env(1), q_network, config(target_update_interval=10**6))
    before = weights(q_network)
    for _ in range(5):
        algorithm.update()
    assert algorithm.q_network is algorithm.policy.q_network is q_network
    assert (weights(q_network) != before).any()
    assert weights(algorithm.target_q_network).equal(before)

    other, restored = copy.deepcopy(q_network), DiscreteQNetwork(4, 2, (16,), seed=9)
    restored.load_state_dict(q_network.state_dict())
    now, outputs = weights(q_network), q_network(s).detach()
    for network in (other, restored):
        assert network(s).equal(outputs)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        network(s).square().sum().backward()
        optimizer.step()
        assert (weights(network) != now).any()
    assert weights(q_network).equal(now)

    q_network.load_state_dict(restored.state_dict())
    assert_array_equal(algorithm.policy.greedy(s), restored(s).detach().numpy().argmax(axis=1))
    algorithm.update()
    assert (weights(q_network) != weights(restored)).any()
    assert all(w.requires_grad for w in q_network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -0.1}, r"gamma must be in \[0, 1\], got -0.1"),
        ({"epsilon": 1.1}, r"epsilon must be in \[0, 1\], got 1.1"),
        ({"epsilon": lambda n: -1}, r"epsilon must be in \[0, 1\], got -1"),
        ({"exploration_steps": 0}, "exploration_steps must be at least 1, got 0"),
        ({"target_update_interval": 0}, "target_update_interval must be a whole number of at least 1, got 0"),
        ({"train_interval": 0}, "train_interval must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, .* got 0"),
        ({"batch_size": 21}, "batch_size must be .* learning_starts = 20 and .* got 21"),
        ({"capacity": 7}, "batch_size must be .* capacity = 7, got 8"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0}, "eta must be a positive number, got 0"),
        ({"eta": lambda n: -1}, "eta must be a positive number, got -1"),
        ({"eta_decay_steps": 0}, "eta_decay_steps must be a positive number, got 0"),
        (
            {"eta": lambda n: 0.1, "eta_decay_steps": 10},
            "eta_decay_steps must be None where eta is a schedule, got 10",
        ),
        ({"optimizer": "adam"}, "optimizer must be one of Adam, RMSprop, SGD, got 'adam'"),
    ],
)
def test_settings_of_the_optimiser_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        cartpole(**options)


def test_environments_it_cannot_learn():
    q_network = DiscreteQNetwork(4, 2)
    with pytest.raises(ValueError, match=r"^env must take one of K numbered actions \(Discrete\), got Box"):
        DQN(Task("Pendulum-v1").make_vector_env(1), q_network)
    make_env = functools.partial(gymnasium.make, "CartPole-v1")
    env = SyncVectorEnv([make_env], autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match=r"^env must reset itself in the step that ends an episode"):
        DQN(env, q_network)
