"""DQN against its five lines written out, and against a world whose best policy and Q are exact."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from pgcourse.algorithms.dqn import DQN
from pgcourse.algorithms.replay import Batch
from pgcourse.environments import worlds
from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.policies import Policy, SoftmaxPolicy, TabularPolicy, ValuePolicy

SGD = torch.optim.SGD


@pytest.fixture(autouse=True)
def alone():
    with one_thread():
        yield


class Linear(Policy):
    """Q(s, a) = s·W[:, a]."""

    def __init__(self, W):
        super().__init__()
        self.W = nn.Parameter(torch.tensor(np.asarray(W, np.float32)))

    def logits(self, s):
        return torch.as_tensor(s) @ self.W


def cartpole(seed=0, **options):
    policy = ValuePolicy(SoftmaxPolicy(4, 2, 16, seed=1))
    return DQN(
        Task("CartPole-v1").make(1), policy, **{"batch_size": 8, "n_random": 20, "seed": seed} | options
    )


def test_it_is_its_five_lines():
    """In NumPy, for 60 turns of a linear Q, some of whose errors are beyond 1 and some are not."""
    W = np.random.default_rng(0).normal(size=(4, 2))
    options = {"eta": 0.01, "gamma": 0.9, "batch_size": 5, "n_random": 6, "copied": 7, "optimizer": SGD}
    algorithm = DQN(Task("CartPole-v1").make(1), ValuePolicy(Linear(W)), **options)
    sample, drawn, errors = algorithm.replay.sample, [], []
    algorithm.replay.sample = lambda n, rng: drawn.append(sample(n, rng)) or drawn[-1]
    slow = W.copy()
    for turn in range(1, 61):
        update = algorithm.update()
        s, a, r, after, terminated = drawn[-1]
        y = r + 0.9 * ~terminated * (after @ slow).max(axis=1)
        error = (s @ W)[np.arange(5), a] - y
        assert update.critic_loss == pytest.approx(0.5 * np.mean(error**2), rel=1e-4)
        assert update.q == pytest.approx((s @ W)[np.arange(5), a].mean(), rel=1e-4, abs=1e-5)
        for k in range(5):
            W[:, a[k]] -= 0.01 * error[k].clip(-1, 1) * s[k] / 5
        if turn % 7 == 0:
            slow = W.copy()
        errors += abs(error).tolist()
        assert_allclose(algorithm.policy.network.W.detach(), W, rtol=1e-4, atol=1e-5)
        assert_allclose(algorithm.target_policy.network.W, slow, rtol=1e-4, atol=1e-5)
    assert 0.1 < np.mean(np.array(errors) > 1) < 0.9


def test_it_finds_what_everything_is_worth():
    """A table, told again and again what each step on a grid leads to: Q of the best policy, by value iteration."""
    world = worlds.grid(wind=0.0, gamma=0.9)
    going = ~world.absorbing
    V = np.zeros(world.n_states)
    for _ in range(100):
        Q = world.r + world.gamma * world.P @ V
        V = np.where(going, Q.max(axis=1), 0)
    env = SyncVectorEnv([world.env], autoreset_mode=AutoresetMode.SAME_STEP)
    policy = ValuePolicy(TabularPolicy(np.zeros(world.r.shape)))
    algorithm = DQN(env, policy, eta=16, gamma=world.gamma, copied=5, optimizer=SGD)
    s, a = np.nonzero(np.repeat(going[:, None], world.n_actions, axis=1))
    after = world.P[s, a].argmax(axis=1)
    batch = Batch(s, a, world.r[s, a].astype(np.float32), after, world.absorbing[after])
    for _ in range(200):
        algorithm.learn(batch)
    assert_allclose(policy.q(np.flatnonzero(going)).detach(), Q[going], atol=1e-3)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_how_often_it_does_something_odd(epsilon):
    """In 20,000 environments, within 6 standard errors: of two actions, an odd one is the worse every other time."""
    algorithm = cartpole(epsilon=epsilon)
    algorithm.env.num_envs = 20_000  # of which all are in the same state
    s = np.repeat(algorithm._s, 20_000, axis=0)
    others = (algorithm.explore(s) != algorithm.policy.greedy(s)).mean()
    assert others == pytest.approx(epsilon / 2, abs=6 * np.sqrt(epsilon / 2 * (1 - epsilon / 2) / 20_000))


def test_epsilon_and_eta_are_those_of_the_steps_so_far():
    asked = []
    algorithm = cartpole(epsilon=lambda n: asked.append(n) or 0.5, eta=lambda n: 1 / n if n else 1, every=3)
    for turn in range(1, 4):
        algorithm.update()
        assert algorithm.optimizer.param_groups[0]["lr"] == 1 / algorithm.n_steps
        assert algorithm.n_steps == 20 + 3 * turn
    assert asked == [0, *range(20, 29)]


def test_a_cut_off_episode_is_not_over():
    algorithm = cartpole(gamma=0.5, eta=1e-12)
    algorithm.update()
    batch = algorithm.replay.sample(8, np.random.default_rng(0))
    q = algorithm.policy.q(batch.s).detach().numpy()[np.arange(8), batch.a]
    best = algorithm.target_policy.q(batch.after).numpy().max(axis=1)
    for over in (False, True):
        y = batch.r + (0 if over else 0.5) * best
        loss, _ = algorithm.learn(batch._replace(terminated=np.full(8, over)))
        assert loss == pytest.approx(0.5 * np.mean((q - y) ** 2), rel=1e-5)


def test_a_resumed_run_is_as_if_it_had_not_stopped(tmp_path):
    """Through a file; the copy, the optimiser and the replay included."""
    going = cartpole(copied=10)
    for _ in range(33):
        going.update()
    checkpoints.save(tmp_path / "x.safetensors", going.state_dict())
    resumed = cartpole(seed=5, copied=10)
    resumed.load_state_dict(checkpoints.load(tmp_path / "x.safetensors"))
    going.load_state_dict(going.state_dict())  # new episodes, as at every checkpoint
    for _ in range(33):
        one, other = going.update(), resumed.update()
        assert (one[0], *one[2:]) == (other[0], *other[2:])
        assert_array_equal(one.returns, other.returns)
    for name, w in going.state_dict()["target_policy"].items():
        assert_array_equal(w, resumed.state_dict()["target_policy"][name])


def test_it_learns_from_what_another_did():
    actor, learner = cartpole(seed=0), cartpole(seed=1)
    for _ in range(30):
        actor.update()
    before = learner._w.detach().clone()
    learner.learn(actor.replay.sample(8, np.random.default_rng(0)))
    assert (learner.n_steps, learner.n_learnt, len(learner.replay)) == (0, 1, 0)
    assert (learner._w != before).any()


def test_a_network_of_values_takes_the_best():
    policy = ValuePolicy(TabularPolicy([[0.0, 2.0, 2.0], [3.0, -1.0, 2.0]]))
    assert_array_equal(policy.q([1]).detach(), [[3, -1, 2]])
    assert_array_equal(policy.greedy([0, 1]), [1, 0])
    assert_array_equal(policy.sample([0, 1], np.random.default_rng(0)), [1, 0])
    with pytest.raises(
        ValueError, match=r"^the policy must give finite values, got nan; a smaller eta may help$"
    ):
        ValuePolicy(TabularPolicy([[0.0, np.nan]])).greedy([0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0}, "eta must be a positive number, got 0"),
        ({"gamma": -0.1}, r"gamma must be in \[0, 1\], got -0.1"),
        ({"epsilon": 1.1}, r"epsilon must be in \[0, 1\], got 1.1"),
        ({"epsilon": lambda n: -1}, r"epsilon must be in \[0, 1\], got -1"),
        ({"copied": 0}, "copied must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"batch_size": 21}, "n_random = 20 and .* got 21"),
        ({"capacity": 7}, "capacity = 7, got 8"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        cartpole(**options)


def test_worlds_it_cannot_learn():
    with pytest.raises(ValueError, match=r"^env must take the actions 0 to K - 1, got Box"):
        DQN(Task("Pendulum-v1").make(1), ValuePolicy(SoftmaxPolicy(3, 2)))
    env = Task("CartPole-v1").make(1)
    env.single_action_space = Discrete(2, start=1)
    with pytest.raises(
        ValueError, match=r"^env must take the actions 0 to K - 1, got Discrete\(2, start=1\)"
    ):
        DQN(env, ValuePolicy(SoftmaxPolicy(4, 2)))
    env = Task("CartPole-v1").make(1)
    env.metadata = env.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}
    with pytest.raises(ValueError, match=r"^env must reset itself in the step that ends an episode"):
        DQN(env, ValuePolicy(SoftmaxPolicy(4, 2)))
