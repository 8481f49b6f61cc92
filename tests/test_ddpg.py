"""DDPG against slide 66 written out, and its slope against a world where Q and the gradient are exact."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from pgcourse.algorithms.ddpg import DDPG, TD3, Noise, Twins, paper, said_and_came
from pgcourse.environments import lqr
from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import NetworkQ

SGD = torch.optim.SGD


@pytest.fixture(autouse=True)
def alone():
    with one_thread():  # two that wait for each other are many times slower on a machine with other work
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


class Quadratic(nn.Module):
    """q(s, a) = x·M x + c with x = (s, a), in double precision."""

    def __init__(self, n, seed=0):
        super().__init__()
        self.M = nn.Parameter(0.1 * torch.tensor(np.random.default_rng(seed).normal(size=(n, n))))
        self.c = nn.Parameter(torch.zeros((), dtype=float))

    def forward(self, s, a):
        x = torch.cat([torch.as_tensor(s, dtype=float), torch.as_tensor(a, dtype=float)], dim=1)
        return (x @ self.M * x).sum(dim=1) + self.c


class Exact(nn.Module):
    """The Q of a gain in a linear world, in torch."""

    def __init__(self, world, K):
        super().__init__()
        self.world, self.values, self.nothing = world, world.values(K), nn.Parameter(torch.zeros(1))

    def forward(self, s, a):
        A, B, C, R, P = (
            torch.from_numpy(x)
            for x in (self.world.A, self.world.B, self.world.C, self.world.R, self.values.P)
        )
        after = s @ A.T + a @ B.T
        return (
            -(s @ C * s).sum(1)
            - (a @ R * a).sum(1)
            - self.world.gamma * (after @ P * after).sum(1)
            - self.values.c
        )


class Counter(gymnasium.Env):
    """Episodes of three steps, from 0 to 3, from 10 to 13 and so on, cut off or, every other time, over; r is the action's first number."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(np.array([-1, 2], np.float32), np.array([1, 6], np.float32))

    def __init__(self):
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.i = 0
        return self.seen(), {}

    def seen(self):
        return np.array([10 * self.episode + self.i], np.float32)

    def step(self, action):
        self.i += 1
        over = self.i == 3
        return (
            self.seen(),
            float(action[0]),
            over and self.episode % 2 == 0,
            over and self.episode % 2 == 1,
            {},
        )


def vector(make, n_envs=1):
    return SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def pendulum(kind=DDPG, seed=0, **options):
    policy = DeterministicPolicy(3, [-2], [2], (8, 8), seed=1)
    first, second = (NetworkQ(3, 1, (8, 8), seed=seed) for seed in (2, 3))
    critic = Twins(first, second) if kind is TD3 else first
    return kind(
        Task("Pendulum-v1").make(1),
        policy,
        critic,
        **{"batch_size": 8, "n_random": 20, "seed": seed} | options,
    )


def test_it_is_slide_66():
    """Its six lines in NumPy, for 60 steps of the cart, with the derivatives of a linear policy and a quadratic critic by hand."""
    world = lqr.cart()
    policy, critic = Gain([[0.5, 0.8]]), Quadratic(3)
    env = vector(lambda: world.env(n_steps=7, reach=1))
    options = {
        "eta": 0.02,
        "eta_critic": 0.005,
        "gamma": 0.9,
        "tau": 0.1,
        "batch_size": 5,
        "n_random": 6,
        "optimizer": SGD,
    }
    algorithm = DDPG(env, policy, critic, **options, noise=Noise(0.3))
    algorithm.update()
    K, M, c = policy.K.detach().numpy().copy(), critic.M.detach().numpy().copy(), critic.c.item()
    slow_K, slow_M, slow_c = (
        w.numpy().copy()
        for w in (algorithm.target_actor.K, algorithm.target_critic.M, algorithm.target_critic.c)
    )
    sample, drawn = algorithm.replay.sample, []
    algorithm.replay.sample = lambda n, rng: drawn.append(sample(n, rng)) or drawn[-1]
    for _ in range(60):
        update = algorithm.update()
        s, a, r, after, terminated = (np.asarray(column, float) for column in drawn[-1])  # 1. and 2.
        x_after = np.hstack([after, -after @ slow_K.T])
        y = r + 0.9 * (1 - terminated) * (np.einsum("ni,ij,nj->n", x_after, slow_M, x_after) + slow_c)  # 3
        x = np.hstack([s, a])
        q = np.einsum("ni,ij,nj->n", x, M, x) + c
        assert update.critic_loss == pytest.approx(0.5 * np.mean((q - y) ** 2), rel=1e-5)
        assert update.q == pytest.approx(q.mean(), rel=1e-5)
        M -= 0.005 * np.mean((q - y)[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)  # 4
        c -= 0.005 * np.mean(q - y)
        mu = -s @ K.T
        slope = np.hstack([s, mu]) @ (M + M.T)[:, 2:]  # ∂Q/∂a
        K += 0.02 * np.mean(slope[:, :, None] * -s[:, None, :], axis=0)  # 5
        slow_K += 0.1 * (K - slow_K)  # 6
        slow_M += 0.1 * (M - slow_M)
        slow_c += 0.1 * (c - slow_c)
        copies = algorithm.target_actor.K, algorithm.target_critic.M, algorithm.target_critic.c
        for its, mine in zip(
            [policy.K, critic.M, critic.c, *copies], [K, M, c, slow_K, slow_M, slow_c], strict=True
        ):
            assert_allclose(its.detach(), mine, rtol=1e-5, atol=1e-8)
    assert 0.1 < abs(M).max() < 2


def test_with_the_exact_Q_its_step_is_the_exact_gradient():
    """Four states whose mean of s sᵀ is what the world's visits are: the actor's slope is ∂J/∂K to the last digit."""
    world = lqr.cart()
    K = np.array([[0.6, 0.9]])
    size, axes = np.linalg.eigh(world.visits(K))
    s = np.vstack([axes.T * np.sqrt(size)[:, None] * k for k in (1, -1)]) * np.sqrt(2)
    assert_allclose(s.T @ s / 4, world.visits(K))

    algorithm = DDPG(vector(world.env), Gain(K), Exact(world, K), eta=1e-3, optimizer=SGD)
    algorithm._improve(torch.from_numpy(s))
    assert_allclose((algorithm.policy.K.detach().numpy() - K) / 1e-3, world.gradient(K), rtol=1e-9)


def test_it_finds_the_gain_of_the_riccati_equation():
    """A quadratic critic and a linear policy, 6,000 steps: within 5 % of the best gain, from half of it."""
    world = lqr.cart()
    best = world.best()
    algorithm = DDPG(
        vector(lambda: world.env(n_steps=20)),
        Gain(best / 2),
        Quadratic(3),
        eta=0.003,
        eta_critic=0.03,
        gamma=world.gamma,
        tau=0.05,
        batch_size=128,
        n_random=500,
        noise=Noise(0.1),
    )
    while algorithm.n_steps < 6_000:
        algorithm.update()
    assert_allclose(algorithm.policy.K.detach(), best, rtol=0.05)


def test_what_is_remembered_is_what_happened():
    """s' is of the same episode also at its end, and only what ended by itself counts as over."""
    policy = DeterministicPolicy(1, Counter.action_space.low, Counter.action_space.high, (4,))
    algorithm = DDPG(
        vector(Counter), policy, NetworkQ(1, 2, (4,)), batch_size=3, n_random=6, noise=Noise(0.5)
    )
    updates = [algorithm.update() for _ in range(20)]
    s, a, r, after, terminated = (column[:26] for column in algorithm.replay._all)
    first = s[0, 0]  # of the episode that began it
    i = np.arange(26)
    assert_array_equal(s[:, 0], first + 10 * (i // 3) + i % 3)
    assert_array_equal(after[:, 0], s[:, 0] + 1)
    assert_array_equal(terminated, (i % 3 == 2) & (s[:, 0] // 10 % 2 == 0))
    assert_array_equal(r, a[:, 0])
    assert (a >= Counter.action_space.low).all()
    assert (a <= Counter.action_space.high).all()
    assert [u.n_steps for u in updates] == list(range(7, 27))
    returns = np.concatenate([u.returns for u in updates])
    assert_allclose(returns, r[:24].reshape(8, 3).sum(axis=1), rtol=1e-6)


def test_a_cut_off_episode_is_not_over():
    algorithm = pendulum(gamma=0.5, eta=1e-12, eta_critic=1e-12)
    algorithm.update()
    batch = algorithm.replay.sample(8, np.random.default_rng(0))
    expected = algorithm._expected(torch.from_numpy(batch.after))
    q = algorithm.critic(batch.s, batch.a)
    for over in (False, True):
        y = torch.from_numpy(batch.r) + (0 if over else 0.5) * expected
        loss, _ = algorithm.learn(batch._replace(terminated=np.full(8, over)))
        assert loss == pytest.approx(0.5 * (q - y).square().mean().item(), rel=1e-5)


def test_before_the_first_turn_actions_are_drawn_evenly():
    """Over 4,000 steps, within 6 standard errors of the mean and spread of what is even between the bounds."""
    policy = DeterministicPolicy(1, Counter.action_space.low, Counter.action_space.high, (4,))
    algorithm = DDPG(vector(Counter, 4), policy, NetworkQ(1, 2, (4,)), batch_size=3, n_random=4_000)
    algorithm.update()
    a = algorithm.replay._all.a[:4_000]
    u = (a - algorithm._low) / (algorithm._high - algorithm._low)
    assert ((u >= 0) & (u <= 1)).all()
    assert_allclose(u.mean(axis=0), 0.5, atol=6 / np.sqrt(12 * 4_000))
    assert_allclose((u**2).mean(axis=0), 1 / 3, atol=6 * np.sqrt(4 / 45 / 4_000))
    assert algorithm.n_steps == 4_004


@pytest.mark.parametrize("theta", [1.0, 0.15])
def test_noise_is_spread_and_remembers_as_it_says(theta):
    """In 20,000 environments after 60 steps: spread and correlation of two steps within 6 standard errors."""
    noise, rng = Noise(0.2, theta), np.random.default_rng(0)
    noise.begin((20_000, 1))
    for _ in range(60):
        before = noise.draw(rng)
    after = noise.draw(rng)
    spread = 0.2 / np.sqrt(1 - (1 - theta) ** 2)
    assert after.std() == pytest.approx(spread, rel=6 / np.sqrt(2 * 20_000))
    assert np.mean(before * after) / spread**2 == pytest.approx(1 - theta, abs=6 * np.sqrt(2 / 20_000))
    noise.forget(np.arange(20_000) < 5)
    assert (noise.x[:5] == 0).all()
    assert_array_equal(noise.x[5:], after[5:])


def test_noise_is_in_units_of_half_the_range():
    """Without cutting off: 2,000 draws at μ in the middle, within 6 standard errors of 0.01 times 1 and times 2."""
    policy = DeterministicPolicy(1, Counter.action_space.low, Counter.action_space.high, (4,), last=1e-6)
    algorithm = DDPG(
        vector(Counter, 2_000), policy, NetworkQ(1, 2, (4,)), batch_size=3, n_random=3, noise=Noise(0.01)
    )
    a = algorithm.explore(algorithm._s)
    assert_allclose(a.std(axis=0), [0.01, 0.02], rtol=6 / np.sqrt(4_000))
    assert_allclose(a.mean(axis=0), [0, 4], atol=6 * 0.02 / np.sqrt(2_000) + 1e-3)


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_a_resumed_run_is_as_if_it_had_not_stopped(kind, tmp_path):
    """Through a file; the copies, both optimisers and the replay included."""
    going = pendulum(kind, noise=Noise(0.2, 0.15))
    for _ in range(31):
        going.update()
    checkpoints.save(tmp_path / "x.safetensors", going.state_dict())
    resumed = pendulum(kind, seed=5, noise=Noise(0.2, 0.15))
    resumed.load_state_dict(checkpoints.load(tmp_path / "x.safetensors"))
    going.load_state_dict(going.state_dict())  # new episodes, as at every checkpoint
    for _ in range(31):
        one, other = going.update(), resumed.update()
        assert one[0] == other[0]
        assert one[2:] == other[2:]
    for name, w in going.state_dict()["target_actor"].items():
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
    assert state["replay"]["n_seen"] == 21


def test_the_same_memories_teach_one_that_never_acted():
    """Off-policy: a learner whose environment nobody touches becomes what the other's memories make it."""
    actor, learner = pendulum(seed=0), pendulum(seed=1)
    for _ in range(30):
        actor.update()
    before = copy.deepcopy(learner.policy.state_dict())
    for _ in range(10):
        learner.learn(actor.replay.sample(8, np.random.default_rng(0)))
    assert (learner.n_steps, learner.n_learnt, len(learner.replay)) == (0, 10, 0)
    assert any((w != before[name]).any() for name, w in learner.policy.state_dict().items())


def test_td3_without_its_three_changes_is_ddpg():
    """Twins with the same weights, a turn of the actor at every turn, no noise on the next action."""
    actor, rng = pendulum(seed=1), np.random.default_rng(0)
    actor.update()
    plain, same = pendulum(), pendulum(TD3, delay=1, smoothing=0)
    w = plain.critic.state_dict()
    for critic in (same.critic, same.target_critic):
        critic.first.load_state_dict(w)
        critic.second.load_state_dict(w)
    for _ in range(30):
        batch = actor.replay.sample(8, rng)
        assert_allclose(same.learn(batch), plain.learn(batch), rtol=1e-4)
    for mine, its in zip(plain.policy.parameters(), same.policy.parameters(), strict=True):
        assert_allclose(mine.detach(), its.detach(), atol=1e-4)


def test_what_td3_expects():
    """The smaller of two opinions on an action that is at most so far from μ'(s')."""
    algorithm = pendulum(TD3, smoothing=5.0, most=0.1)
    s = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    seen = []
    copied = algorithm.target_critic.forward
    algorithm.target_critic.forward = lambda s, a: seen.append(np.asarray(a)) or copied(s, a)
    expected = algorithm._expected(s)
    [a] = seen
    mu = algorithm.target_actor(s).numpy()
    assert abs(a - mu).max() == pytest.approx(0.2, rel=1e-5)  # 0.1 of half the range, which is 2
    assert abs(abs(a - mu) - 0.2).max() > 0.01  # most are cut off, not all
    both = np.stack(
        [critic(s, a).numpy() for critic in (algorithm.target_critic.first, algorithm.target_critic.second)]
    )
    assert_allclose(expected, both.min(axis=0), rtol=1e-6)
    assert 0.02 < (both[0] < both[1]).mean() < 0.98


def test_td3_moves_the_actor_and_the_copies_every_other_turn():
    algorithm = pendulum(TD3)
    moved = []
    for _ in range(6):
        before = [algorithm._w2.clone(), algorithm._target_w1.clone(), algorithm._w1.clone()]
        algorithm.update()
        after = [algorithm._w2, algorithm._target_w1, algorithm._w1]
        moved.append([bool((one != other).any()) for one, other in zip(before, after, strict=True)])
    assert moved == [[True, True, True], [False, False, True]] * 3


def test_a_critic_that_says_the_truth_says_what_comes():
    """Without wind nothing is left to chance."""
    world, K = lqr.cart(noise=0.0), np.array([[1.0, 1.0]])
    learner = DDPG(vector(lambda: world.env(20)), Gain(K), Exact(world, K), gamma=world.gamma)
    said, came = said_and_came(learner, vector(lambda: world.env(1000), 3), n_steps=30, n_more=600)
    assert said.shape == came.shape == (3, 30)
    assert_allclose(said, came, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match=r"^env must not end, got an episode of 1000 steps$"):
        said_and_came(learner, vector(lambda: world.env(1000)), n_steps=30, n_more=971)


def test_the_papers_settings():
    algorithm = paper(Task("Pendulum-v1").make(1), seed=3)
    assert [tuple(w.shape) for w in algorithm.policy.parameters()][::2] == [(400, 3), (300, 400), (1, 300)]
    assert [tuple(w.shape) for w in algorithm.critic.parameters()][::2] == [(400, 3), (300, 401), (1, 300)]
    for network in (algorithm.policy, algorithm.critic):
        *_, w, b = network.parameters()
        assert max(abs(w).max(), abs(b).max()) <= 0.003
        assert abs(w).max() > 0.0025
    [actor], [critic] = algorithm.optimizer.param_groups, algorithm.critic_optimizer.param_groups
    assert (actor["lr"], critic["lr"], actor["weight_decay"], critic["weight_decay"]) == (1e-4, 1e-3, 0, 1e-2)
    assert (algorithm.tau, algorithm.gamma, algorithm.batch_size, algorithm.replay.capacity) == (
        1e-3,
        0.99,
        64,
        1_000_000,
    )
    assert (algorithm.noise.sigma, algorithm.noise.theta) == (0.2, 0.15)


def test_rates_are_those_of_the_steps_so_far():
    algorithm = pendulum(eta=lambda n: 1 / n if n else 1, eta_critic=lambda n: 2 / n if n else 2)
    for _ in range(3):
        algorithm.update()
        [actor], [critic] = algorithm.optimizer.param_groups, algorithm.critic_optimizer.param_groups
        assert (actor["lr"], critic["lr"]) == (1 / algorithm.n_steps, 2 / algorithm.n_steps)


def test_weight_decay_is_added_to_the_critics_slope():
    """One step of SGD with and without it differ by η' times the decay times the weights."""
    plain, decayed = (pendulum(optimizer=SGD, weight_decay=decay, eta_critic=0.1) for decay in (0.0, 0.5))
    w = plain._w1.detach().clone()
    for algorithm in (plain, decayed):
        algorithm.update()
    assert_allclose((plain._w1 - decayed._w1).detach(), 0.1 * 0.5 * w, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0}, "eta must be a positive number, got 0"),
        ({"eta_critic": float("nan")}, "eta_critic must be a positive number, got nan"),
        ({"eta_critic": lambda n: -1.0}, r"eta_critic must be a positive number, got -1.0"),
        ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
        ({"tau": 0}, r"tau must be in \(0, 1\], got 0"),
        ({"tau": 1.5}, r"tau must be in \(0, 1\], got 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, .* got 0"),
        ({"batch_size": 21}, "n_random = 20 and .* got 21"),
        ({"capacity": 7}, "capacity = 7, got 8"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        pendulum(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 0}, "delay must be at least 1, got 0"),
        ({"smoothing": -1}, "smoothing must be a number of at least 0, got -1"),
        ({"most": float("inf")}, "most must be a number of at least 0, got inf"),
    ],
)
def test_settings_of_td3_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        pendulum(TD3, **options)


@pytest.mark.parametrize(
    ("sigma", "theta", "message"),
    [(-1, 1, "sigma must"), (np.inf, 1, "sigma must"), (1, 0, "theta must"), (1, 2, "theta")],
)
def test_noise_that_makes_no_sense(sigma, theta, message):
    with pytest.raises(ValueError, match=message):
        Noise(sigma, theta)


def test_worlds_it_cannot_learn():
    """Discrete actions, actions without bounds, rewards that are no numbers, and another way to reset."""
    policy, critic = DeterministicPolicy(4, [-1], [1]), NetworkQ(4, 1)
    with pytest.raises(ValueError, match=r"env must take actions of real numbers between bounds.*Discrete"):
        DDPG(Task("CartPole-v1").make(1), policy, critic)

    class Odd(Counter):
        action_space = Box(-np.inf, np.inf, (2,), np.float32)

        def step(self, action):
            s, _, *rest = super().step(action)
            return s, float("nan"), *rest

    with pytest.raises(ValueError, match=r"env must take actions of real numbers between bounds.*inf"):
        DDPG(vector(Odd), policy, critic)
    Odd.action_space = Counter.action_space
    with pytest.raises(ValueError, match="env must reset itself"):
        DDPG(SyncVectorEnv([Odd]), policy, critic)
    algorithm = DDPG(vector(Odd), DeterministicPolicy(1, [-1, 2], [1, 6]), NetworkQ(1, 2))
    with pytest.raises(ValueError, match="r must be finite, got nan"):
        algorithm.update()
