"""DDPG against slide 66 written out, and its gradient against an LQR where Q and the gradient are known."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from pgcourse.algorithms.ddpg import DDPG, TD3, DDPGConfig, TD3Config
from pgcourse.algorithms.noise import OrnsteinUhlenbeckNoise
from pgcourse.environments import lqr
from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import QNetwork, TwinCritic

CONFIGS = {DDPG: DDPGConfig, TD3: TD3Config}


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():  # two that wait for each other are many times slower on a machine with other work
        yield


class Gain(nn.Module):
    """μ(s) = −K s, in double precision."""

    def __init__(self, K):
        super().__init__()
        self.K = nn.Parameter(torch.tensor(np.asarray(K, float)))

    def forward(self, s):
        return -(torch.as_tensor(s, dtype=float) @ self.K.T)

    @torch.no_grad()
    def greedy(self, s):
        return self(s).numpy()


class QuadraticQ(nn.Module):
    """q(s, a) = x·M x + c with x = (s, a), in double precision."""

    def __init__(self, n, seed=0):
        super().__init__()
        self.M = nn.Parameter(0.1 * torch.tensor(np.random.default_rng(seed).normal(size=(n, n))))
        self.c = nn.Parameter(torch.zeros((), dtype=float))

    def forward(self, s, a):
        x = torch.cat([torch.as_tensor(s, dtype=float), torch.as_tensor(a, dtype=float)], dim=1)
        return (x @ self.M * x).sum(dim=1) + self.c


class ExactQ(nn.Module):
    """The Q of a gain in an LQR, in PyTorch."""

    def __init__(self, system, K):
        super().__init__()
        self.gamma, (P, self.c) = system.gamma, system.values(K)
        matrices = (system.A, system.B, system.C, system.R, P)
        self.matrices, self.unused = [torch.from_numpy(x) for x in matrices], nn.Parameter(torch.zeros(1))

    def forward(self, s, a):
        A, B, C, R, P = self.matrices
        s, a = s.double(), a.double()
        next_s = s @ A.T + a @ B.T
        r = -(s @ C * s).sum(1) - (a @ R * a).sum(1)
        return r - self.gamma * (next_s @ P * next_s).sum(1) - self.c


class Counter(gymnasium.Env):
    """Episodes of three steps, from 0 to 3, from 10 to 13 and so on, of which every second one is truncated,
    the others terminate; r is the action's first number."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(np.array([-1, 2], np.float32), np.array([1, 6], np.float32))

    def __init__(self):
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return self.observation(), {}

    def observation(self):
        return np.array([10 * self.episode + self.t], np.float32)

    def step(self, action):
        self.t += 1
        done, even = self.t == 3, self.episode % 2 == 0
        return self.observation(), float(action[0]), done and even, done and not even, {}


def vector_env(make, n_envs=1):
    return SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def networks(kind=DDPG):
    policy = DeterministicPolicy(3, [-2], [2], (8, 8), seed=1)
    first, second = (QNetwork(3, 1, (8, 8), seed=seed) for seed in (2, 3))
    return policy, TwinCritic(first, second) if kind is TD3 else first


def config(kind=DDPG, **options):
    return CONFIGS[kind](**{"batch_size": 8, "learning_starts": 20} | options)


def pendulum(kind=DDPG, seed=0, **options):
    env = Task("Pendulum-v1").make_vector_env(1)
    return kind(env, *networks(kind), config(kind, **options), seed=seed)


def counter(n_envs=1, final_init_scale=None, **options):
    low, high = Counter.action_space.low, Counter.action_space.high
    policy = DeterministicPolicy(1, low, high, (4,), final_init_scale=final_init_scale)
    env, critic = vector_env(Counter, n_envs), QNetwork(1, 2, (4,))
    return DDPG(env, policy, critic, DDPGConfig(**{"batch_size": 3, "learning_starts": 6} | options))


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_it_is_slide_66():
    """Its six lines in NumPy, for 60 steps of the cart, with the derivatives of a linear policy and a
    quadratic critic by hand."""
    system = lqr.cart()
    policy, critic = Gain([[0.5, 0.8]]), QuadraticQ(3)
    env = vector_env(lambda: system.env(n_steps=7, max_action=1))
    rates = {"eta": 0.02, "eta_critic": 0.005, "gamma": 0.9, "tau": 0.1, "sigma": 0.3}
    settings = DDPGConfig(**rates, batch_size=5, learning_starts=6, optimizer="SGD")
    algorithm = DDPG(env, policy, critic, settings)
    algorithm.update()
    K, M, c = policy.K.detach().numpy().copy(), critic.M.detach().numpy().copy(), critic.c.item()
    targets = algorithm.target_actor.K, algorithm.target_critic.M, algorithm.target_critic.c
    target_K, target_M, target_c = (w.numpy().copy() for w in targets)
    sample, drawn = algorithm.replay.sample, []
    algorithm.replay.sample = lambda n, rng: drawn.append(sample(n, rng)) or drawn[-1]
    for _ in range(60):
        update = algorithm.update()
        s, a, r, next_s, terminated = (np.asarray(column, float) for column in drawn[-1])  # 1. and 2.
        next_x = np.hstack([next_s, -next_s @ target_K.T])
        next_q = np.einsum("ni,ij,nj->n", next_x, target_M, next_x) + target_c
        y = r + 0.9 * (1 - terminated) * next_q  # 3
        x = np.hstack([s, a])
        q = np.einsum("ni,ij,nj->n", x, M, x) + c
        assert update.critic_loss == pytest.approx(0.5 * np.mean((q - y) ** 2), rel=1e-5)
        assert update.q == pytest.approx(q.mean(), rel=1e-5)
        M -= 0.005 * np.mean((q - y)[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)  # 4
        c -= 0.005 * np.mean(q - y)
        mu = -s @ K.T
        dQ_da = np.hstack([s, mu]) @ (M + M.T)[:, 2:]
        K += 0.02 * np.mean(dQ_da[:, :, None] * -s[:, None, :], axis=0)  # 5
        target_K += 0.1 * (K - target_K)  # 6
        target_M += 0.1 * (M - target_M)
        target_c += 0.1 * (c - target_c)
        computed = [policy.K, critic.M, critic.c]
        computed += [algorithm.target_actor.K, algorithm.target_critic.M, algorithm.target_critic.c]
        for its, ours in zip(computed, [K, M, c, target_K, target_M, target_c], strict=True):
            assert_allclose(its.detach(), ours, rtol=1e-5, atol=1e-8)
    assert 0.1 < abs(M).max() < 2


def test_with_the_exact_Q_its_step_is_the_exact_gradient():
    """Four states whose mean of s sᵀ is the discounted second moment: the actor's gradient is ∂J/∂K, to the
    last digit."""
    system = lqr.cart()
    K = np.array([[0.6, 0.9]])
    moment = system.discounted_second_moment(K)
    size, axes = np.linalg.eigh(moment)
    s = np.vstack([axes.T * np.sqrt(size)[:, None] * k for k in (1, -1)]) * np.sqrt(2)
    assert_allclose(s.T @ s / 4, moment)

    settings = DDPGConfig(eta=1e-3, optimizer="SGD")
    algorithm = DDPG(vector_env(system.env), Gain(K), ExactQ(system, K), settings)
    algorithm.update_actor(torch.from_numpy(s))
    assert_allclose((algorithm.policy.K.detach().numpy() - K) / 1e-3, system.gradient(K), rtol=1e-9)


def test_it_finds_the_gain_of_the_riccati_equation():
    """A quadratic critic and a linear policy: in 6,000 steps from half of the optimal gain to within 5 %."""
    system = lqr.cart()
    optimal = system.optimal_gain()
    rates = {"eta": 0.003, "eta_critic": 0.03, "gamma": system.gamma, "tau": 0.05, "sigma": 0.1}
    settings = DDPGConfig(**rates, batch_size=128, learning_starts=500)
    env = vector_env(lambda: system.env(n_steps=20))
    algorithm = DDPG(env, Gain(optimal / 2), QuadraticQ(3), settings)
    while algorithm.n_steps < 6_000:
        algorithm.update()
    assert_allclose(algorithm.policy.K.detach(), optimal, rtol=0.05)


def test_the_stored_transitions_are_those_of_the_environment():
    """s' is of the same episode also at its end, and only an episode that ended by itself counts as
    terminated."""
    algorithm = counter(sigma=0.5)
    updates = [algorithm.update() for _ in range(20)]
    s, a, r, next_s, terminated = algorithm.replay.stored()
    first = s[0, 0]  # of the first episode
    t = np.arange(26)
    assert_array_equal(s[:, 0], first + 10 * (t // 3) + t % 3)
    assert_array_equal(next_s[:, 0], s[:, 0] + 1)
    assert_array_equal(terminated, (t % 3 == 2) & (s[:, 0] // 10 % 2 == 0))
    assert_array_equal(r, a[:, 0])
    assert (a >= Counter.action_space.low).all()
    assert (a <= Counter.action_space.high).all()
    assert [u.n_steps for u in updates] == list(range(7, 27))
    returns = np.concatenate([u.episode_returns for u in updates])
    assert_allclose(returns, r[:24].reshape(8, 3).sum(axis=1), rtol=1e-6)
    assert [u.reward for u in updates] == pytest.approx(r[6:].tolist())


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    algorithm = pendulum(gamma=0.5, eta=1e-12, eta_critic=1e-12)
    algorithm.update()
    batch = algorithm.replay.sample(8, np.random.default_rng(0))
    next_q = algorithm.next_q(torch.from_numpy(batch.next_s))
    q = algorithm.critic(batch.s, batch.a)
    for terminated in (False, True):
        y = torch.from_numpy(batch.r) + (0 if terminated else 0.5) * next_q
        loss, _ = algorithm.learn(batch._replace(terminated=np.full(8, terminated)))
        assert loss == pytest.approx(0.5 * (q - y).square().mean().item(), rel=1e-5)


def test_before_the_first_update_actions_are_drawn_uniformly():
    """Over 4,000 steps, within 6 standard errors of the moments of a uniform distribution."""
    algorithm = counter(4, learning_starts=4_000)
    algorithm.update()
    a = algorithm.replay.stored().a[:4_000]
    u = (a - algorithm.low) / (algorithm.high - algorithm.low)
    assert ((u >= 0) & (u <= 1)).all()
    assert_allclose(u.mean(axis=0), 0.5, atol=6 / np.sqrt(12 * 4_000))
    assert_allclose((u**2).mean(axis=0), 1 / 3, atol=6 * np.sqrt(4 / 45 / 4_000))
    assert algorithm.n_steps == 4_004


@pytest.mark.parametrize("act", [DDPG.random_action, lambda a: a.select_action(a._s)])
def test_every_action_is_one_of_the_environments(act):
    """Also its type: in 1,000 environments, before learning and after."""
    algorithm = counter(1_000)
    space = algorithm.env.single_action_space
    assert all(space.contains(a) for a in act(algorithm))


def test_there_are_as_many_steps_between_two_updates_as_asked_for():
    algorithm = counter(2, train_interval=5)
    assert [algorithm.update().n_steps for _ in range(3)] == [16, 26, 36]


class TestNoise:
    @pytest.mark.parametrize("theta", [1.0, 0.15])
    def test_its_standard_deviation_and_correlation_are_those_of_its_docstring(self, theta):
        """In 20,000 environments after 60 steps: both within 6 standard errors."""
        noise, rng = OrnsteinUhlenbeckNoise(0.2, theta), np.random.default_rng(0)
        noise.reset((20_000, 1))
        for _ in range(60):
            x = noise.sample(rng)
        next_x = noise.sample(rng)
        std = 0.2 / np.sqrt(1 - (1 - theta) ** 2)
        assert next_x.std() == pytest.approx(std, rel=6 / np.sqrt(2 * 20_000))
        assert np.mean(x * next_x) / std**2 == pytest.approx(1 - theta, abs=6 * np.sqrt(2 / 20_000))
        noise.reset_where(np.arange(20_000) < 5)
        assert (noise.x[:5] == 0).all()
        assert_array_equal(noise.x[5:], next_x[5:])

    def test_it_is_in_units_of_half_the_range(self):
        """Without clipping: 2,000 draws at μ in the middle, within 6 standard errors of 0.01 times 1 and
        times 2."""
        algorithm = counter(2_000, final_init_scale=1e-6, sigma=0.01)
        a = algorithm.select_action(algorithm._s)
        assert_allclose(a.std(axis=0), [0.01, 0.02], rtol=6 / np.sqrt(4_000))
        assert_allclose(a.mean(axis=0), [0, 4], atol=6 * 0.02 / np.sqrt(2_000) + 1e-3)

    def test_it_starts_at_zero_in_every_episode(self):
        """Episodes have three steps: after each third, and after a reset, it is 0."""
        algorithm = counter(2, sigma=0.3, theta=0.15)
        at_zero = [(algorithm.update(), not algorithm.noise.x.any())[1] for _ in range(9)]
        assert at_zero == [False, False, True] * 3
        algorithm.update()
        algorithm.load_state_dict(algorithm.state_dict())
        assert not algorithm.noise.x.any()

    @pytest.mark.parametrize(
        ("sigma", "theta", "message"),
        [
            (-1, 1, "sigma must be at least 0, got -1"),
            (np.inf, 1, "sigma must be at least 0, got inf"),
            (np.nan, 1, "sigma must be at least 0, got nan"),
            (1, 0, r"theta must be in \(0, 1\], got 0"),
            (1, 2, r"theta must be in \(0, 1\], got 2"),
        ],
    )
    def test_settings_out_of_range(self, sigma, theta, message):
        with pytest.raises(ValueError, match=f"^{message}$"):
            OrnsteinUhlenbeckNoise(sigma, theta)
        with pytest.raises(ValueError, match=f"^{message}$"):
            pendulum(sigma=sigma, theta=theta)


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_a_resumed_run_is_as_if_it_had_not_stopped(kind, tmp_path):
    """Through a file; the target networks, both optimisers and the replay buffer included."""
    running = pendulum(kind, sigma=0.2, theta=0.15)
    for _ in range(31):
        running.update()
    checkpoints.save(tmp_path / "state", running.state_dict())
    resumed = pendulum(kind, seed=5, sigma=0.2, theta=0.15)
    resumed.load_state_dict(checkpoints.load(tmp_path / "state"))
    running.load_state_dict(running.state_dict())  # new episodes, as at every checkpoint
    for _ in range(31):
        one, other = running.update(), resumed.update()
        assert one[0] == other[0]
        assert one[2:] == other[2:]
    for name, w in running.state_dict()["target_actor"].items():
        assert_array_equal(w, resumed.state_dict()["target_actor"][name])


def test_a_state_is_a_copy():
    algorithm = pendulum()
    algorithm.update()
    state = algorithm.state_dict()
    before = copy.deepcopy(state)
    for _ in range(5):
        algorithm.update()
    for name in ("policy", "critic", "target_critic"):
        for key, w in state[name].items():
            assert_array_equal(w, before[name][key])
    assert state["replay"]["n_added"] == 21


def test_two_that_are_restored_from_one_state_share_nothing():
    """Of two, one learns on; the other is as the state was."""
    one, other = pendulum(), pendulum()
    one.update()
    state = one.state_dict()
    one.load_state_dict(state)
    other.load_state_dict(state)
    before = copy.deepcopy(other.state_dict())
    for _ in range(3):
        one.update()
    for name in ("policy", "critic", "target_actor", "target_critic"):
        for key, w in before[name].items():
            assert_array_equal(w, other.state_dict()[name][key])
            assert_array_equal(w, state[name][key])
    for name in ("optimizer", "critic_optimizer"):
        for k, moments in before[name]["state"].items():
            for key, x in moments.items():
                assert_array_equal(x, other.state_dict()[name]["state"][k][key])


def test_it_learns_off_policy_from_the_data_of_another():
    """A learner whose environment is never stepped learns from the other's transitions."""
    actor, learner = pendulum(seed=0), pendulum(seed=1)
    for _ in range(30):
        actor.update()
    before = weights(learner.policy)
    for _ in range(10):
        learner.learn(actor.replay.sample(8, np.random.default_rng(0)))
    assert (learner.n_steps, learner.n_gradient_steps, len(learner.replay)) == (0, 10, 0)
    assert (weights(learner.policy) != before).any()


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_the_users_networks_stay_usable(kind):
    """They learn; they can be copied, restored from their weights, and trained by other means."""
    env, rng = Task("Pendulum-v1").make_vector_env(1), np.random.default_rng(0)
    policy, critic = networks(kind)
    algorithm = kind(env, policy, critic, config(kind, tau=0.001))
    assert algorithm.policy is policy
    assert algorithm.critic is critic
    s, a = rng.normal(size=(7, 3)), rng.normal(size=(7, 1))
    for network, fresh, inputs in ((policy, networks(kind)[0], (s,)), (critic, networks(kind)[1], (s, a))):
        assert all(w.requires_grad for w in network.parameters())
        before = weights(network)
        for _ in range(5):
            algorithm.update()
        assert (weights(network) != before).any()
        now, output = weights(network), network(*inputs).detach()
        other, restored = copy.deepcopy(network), fresh
        restored.load_state_dict(network.state_dict())
        for one in (other, restored):
            assert one(*inputs).equal(output)
            optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
            one(*inputs).square().sum().backward()
            optimizer.step()
            assert (weights(one) != now).any()
        assert weights(network).equal(now)
        network.load_state_dict(restored.state_dict())
        assert network(*inputs).equal(restored(*inputs))
        for _ in range(2):
            algorithm.update()
        assert (weights(network) != weights(restored)).any()
    assert_array_equal(algorithm.policy.greedy(s), policy(s).detach())


def test_target_networks_are_copies_that_learn_nothing_by_themselves():
    for kind in (DDPG, TD3):
        algorithm = pendulum(kind)
        pairs = (algorithm.policy, algorithm.target_actor), (algorithm.critic, algorithm.target_critic)
        for network, target in pairs:
            assert weights(network).equal(weights(target))
            addresses = {w.data_ptr() for w in network.parameters()}
            assert not addresses & {w.data_ptr() for w in target.parameters()}
            assert not any(w.requires_grad for w in target.parameters())


def test_td3_without_its_three_changes_is_ddpg():
    """Two critics with the same weights, an update of the actor every time, no noise on the next action."""
    actor, rng = pendulum(seed=1), np.random.default_rng(0)
    actor.update()
    plain, same = pendulum(), pendulum(TD3, policy_delay=1, target_policy_noise=0)
    w = plain.critic.state_dict()
    for critic in (same.critic, same.target_critic):
        critic.first.load_state_dict(w)
        critic.second.load_state_dict(w)
    for _ in range(30):
        batch = actor.replay.sample(8, rng)
        assert_allclose(same.learn(batch), plain.learn(batch), rtol=1e-4)
    for ours, its in zip(plain.policy.parameters(), same.policy.parameters(), strict=True):
        assert_allclose(ours.detach(), its.detach(), atol=1e-4)


def test_the_target_of_td3():
    """The smaller of two values of an action whose distance from μ'(s') is bounded."""
    algorithm = pendulum(TD3, target_policy_noise=5.0, target_noise_clip=0.1)
    next_s = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    actions, forward = [], algorithm.target_critic.forward
    algorithm.target_critic.forward = lambda s, a: actions.append(np.asarray(a)) or forward(s, a)
    next_q = algorithm.next_q(next_s)
    [a] = actions
    mu = algorithm.target_actor(next_s).numpy()
    assert abs(a - mu).max() == pytest.approx(0.2, rel=1e-5)  # 0.1 of half the range, which is 2
    assert abs(abs(a - mu) - 0.2).max() > 0.01  # most are clipped, not all
    first, second = algorithm.target_critic.first, algorithm.target_critic.second
    both = np.stack([critic(next_s, a).numpy() for critic in (first, second)])
    assert_allclose(next_q, both.min(axis=0), rtol=1e-6)
    assert 0.02 < (both[0] < both[1]).mean() < 0.98


def test_td3_moves_the_actor_and_the_target_networks_at_every_second_update():
    algorithm = pendulum(TD3)
    moved = []
    for _ in range(6):
        parts = algorithm.policy, algorithm.target_actor, algorithm.target_critic, algorithm.critic
        before = [weights(network) for network in parts]
        algorithm.update()
        moved.append([bool((weights(n) != w).any()) for n, w in zip(parts, before, strict=True)])
    assert moved == [[True, True, True, True], [False, False, False, True]] * 3


def test_the_actor_of_td3_follows_the_first_critic():
    """Whatever the second one says."""
    one, other = pendulum(TD3), pendulum(TD3)
    with torch.no_grad():
        for w in other.critic.second.parameters():
            w += 1
    s = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    before = weights(one.policy)
    for algorithm in (one, other):
        algorithm.update_actor(s)
    assert weights(one.policy).equal(weights(other.policy))
    assert (weights(one.policy) != before).any()


def test_learning_rates_are_those_of_the_steps_so_far():
    algorithm = pendulum(eta=lambda n: 1 / n if n else 1, eta_critic=lambda n: 2 / n if n else 2)
    for _ in range(3):
        algorithm.update()
        [actor], [critic] = algorithm.optimizer.param_groups, algorithm.critic_optimizer.param_groups
        assert (actor["lr"], critic["lr"]) == (1 / algorithm.n_steps, 2 / algorithm.n_steps)


def test_both_learning_rates_decay_if_asked_for():
    algorithm = pendulum(eta=0.3, eta_critic=0.1, eta_decay_steps=100)
    assert [algorithm.eta(n) for n in (0, 100, 200)] == pytest.approx([0.3, 0.15, 0.1])
    assert [algorithm.eta_critic(n) for n in (0, 100, 200)] == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_weight_decay_is_added_to_the_critics_gradient():
    """One step of SGD with and without it differ by η' times the decay times the weights."""
    plain, decayed = (pendulum(optimizer="SGD", weight_decay=x, eta_critic=0.1) for x in (0.0, 0.5))
    w = weights(plain.critic)
    for algorithm in (plain, decayed):
        algorithm.update()
    assert_allclose(weights(plain.critic) - weights(decayed.critic), 0.1 * 0.5 * w, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
        ({"tau": 0}, r"tau must be in \(0, 1\], got 0"),
        ({"tau": 1.5}, r"tau must be in \(0, 1\], got 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, .* got 0"),
        ({"batch_size": 21}, "batch_size must be .* learning_starts = 20 and .* got 21"),
        ({"capacity": 7}, "batch_size must be .* capacity = 7, got 8"),
        ({"train_interval": 0}, "train_interval must be a whole number of at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_settings_out_of_range(kind, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(kind, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0}, "eta must be a positive number, got 0"),
        ({"eta_critic": float("nan")}, "eta_critic must be a positive number, got nan"),
        ({"eta_critic": lambda n: -1.0}, "eta_critic must be a positive number, got -1.0"),
        ({"eta_decay_steps": 0}, "eta_decay_steps must be a positive number, got 0"),
        (
            {"eta_critic": lambda n: 1.0, "eta_decay_steps": 5},
            "eta_decay_steps must be None where eta_critic is a schedule, got 5",
        ),
        ({"weight_decay": -1.0}, ".*weight_decay.*"),
        ({"optimizer": "sgd"}, "optimizer must be one of Adam, RMSprop, SGD, got 'sgd'"),
    ],
)
def test_settings_of_the_optimisers_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        pendulum(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy_delay": 0}, "policy_delay must be a whole number of at least 1, got 0"),
        ({"target_policy_noise": -1}, "target_policy_noise must be at least 0, got -1"),
        ({"target_noise_clip": float("inf")}, "target_noise_clip must be at least 0, got inf"),
    ],
)
def test_settings_of_td3_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(TD3, **options)


def test_environments_it_cannot_learn():
    """Discrete actions, actions without bounds, rewards that are no numbers, and another way to reset."""
    policy, critic = DeterministicPolicy(4, [-1], [1]), QNetwork(4, 1)
    with pytest.raises(ValueError, match=r"env must take actions of real numbers between bounds.*Discrete"):
        DDPG(Task("CartPole-v1").make_vector_env(1), policy, critic)

    class NaNReward(Counter):
        action_space = Box(-np.inf, np.inf, (2,), np.float32)

        def step(self, action):
            s, _, *rest = super().step(action)
            return s, float("nan"), *rest

    with pytest.raises(ValueError, match=r"env must take actions of real numbers between bounds.*inf"):
        DDPG(vector_env(NaNReward), policy, critic)
    NaNReward.action_space = Counter.action_space
    with pytest.raises(ValueError, match="env must reset itself"):
        DDPG(SyncVectorEnv([NaNReward]), policy, critic)
    algorithm = DDPG(vector_env(NaNReward), DeterministicPolicy(1, [-1, 2], [1, 6]), QNetwork(1, 2))
    with pytest.raises(ValueError, match="env must give finite rewards, got nan after 1 steps"):
        algorithm.update()
