"""SAC against its equations with PyTorch's own distributions, and its density against integrals."""

import copy
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest, norm
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from pgcourse.algorithms.sac import SAC, SACConfig, Temperature
from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints, recipes
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import SquashedGaussianPolicy
from pgcourse.networks.values import QNetwork, TwinCritic

LOW, HIGH = [-1.0, 2.0], [1.0, 6.0]


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


def a_policy(mu, sigma, low=LOW, high=HIGH):
    """Its u are N(μ, σ²) in every state, in double precision."""
    policy = SquashedGaussianPolicy(3, low, high, (4,)).double()
    with torch.no_grad():
        policy.layers[-1].weight.zero_()
        policy.layers[-1].bias.copy_(torch.tensor([*mu, *np.log(sigma)]))
    return policy


def networks(low=(-2,), high=(2,), state_dim=3):
    policy = SquashedGaussianPolicy(state_dim, low, high, (8, 8), seed=1)
    first, second = (QNetwork(state_dim, len(low), (8, 8), seed=seed) for seed in (2, 3))
    return policy, TwinCritic(first, second)


def config(**options):
    return SACConfig(**{"batch_size": 8, "learning_starts": 20} | options)


def pendulum(seed=0, **options):
    return SAC(Task("Pendulum-v1").make_vector_env(1), *networks(), config(**options), seed=seed)


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


class Target(gymnasium.Env):
    """Episodes of one step; r is minus the squared distance of x = a/scale from 0.5, ten times over."""

    observation_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, scale):
        self.scale, self.action_space = scale, Box(-scale, scale, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), -10 * (action[0] / self.scale - 0.5) ** 2, True, False, {}


def on_target(scale, **options):
    env = SyncVectorEnv([lambda: Target(scale)], autoreset_mode=AutoresetMode.SAME_STEP)
    policy, critic = networks([-scale], [scale], 1)
    return SAC(env, policy, _InHalfRanges(critic, scale), config(**options))


class _InHalfRanges(TwinCritic):
    def __init__(self, twins, scale):
        super().__init__(twins.first, twins.second)
        self.scale = scale

    def forward(self, s, a):
        return super().forward(s, torch.as_tensor(a) / self.scale)


class TestDensity:
    @pytest.mark.parametrize("mu", [-1.5, 0.0, 0.7])
    @pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
    def test_it_integrates_to_one_and_has_the_distribution_function_of_the_gaussian(self, mu, sigma):
        """Trapezoids in u = artanh x, on which the density times dx/du is smooth."""
        policy = a_policy([mu], [sigma], [-2.0], [2.0])
        u = mu + sigma * np.linspace(-9, 9, 20_001)
        inside = abs(u) < 15  # farther out, tanh u is nearer to 1 than double precision can say
        u = u[inside]
        x = np.tanh(u)
        p = policy.log_prob(np.zeros((len(x), 3)), 2 * x[:, None]).detach().exp().numpy()
        within = norm.cdf(15, mu, sigma) - norm.cdf(-15, mu, sigma)
        assert np.trapezoid(p / np.cosh(u) ** 2, u) == pytest.approx(within, abs=1e-7)
        h, t = 1e-6, np.linspace(-0.95, 0.95, 39)
        cdf = [norm.cdf((np.arctanh(t + d) - mu) / sigma) for d in (-h, h)]
        p = policy.log_prob(np.zeros((39, 3)), 2 * t[:, None]).detach().exp().numpy()
        assert_allclose(p, (cdf[1] - cdf[0]) / (2 * h), rtol=1e-6, atol=1e-8)

    def test_in_two_dimensions_it_integrates_to_one_over_the_square_of_half_ranges(self):
        """Midpoint rule on a grid of 400 × 400 cells; bounds are not ±1."""
        policy = a_policy([0.3, -0.5], [0.6, 0.4])
        x = (np.arange(400) + 0.5) / 200 - 1
        grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
        a = np.array([0.0, 4.0]) + np.array([1.0, 2.0]) * grid
        p = policy.log_prob(np.zeros((len(a), 3)), a).detach().exp().numpy()
        assert p.mean() * 4 == pytest.approx(1, abs=1e-6)

    def test_it_is_that_of_pytorchs_transformed_distribution(self):
        policy, rng = SquashedGaussianPolicy(3, LOW, HIGH, (16,), seed=4).double(), np.random.default_rng(0)
        s = rng.normal(size=(50, 3))
        a, log_pi = policy.rsample_and_log_prob(s, rng)
        mu, log_sigma = policy.mean_and_log_sigma(s)
        squashed = TransformedDistribution(Independent(Normal(mu, log_sigma.exp()), 1), TanhTransform())
        expected = squashed.log_prob((a - policy.action_bias) / policy.action_scale)
        assert log_pi.shape == (50,)
        assert_allclose(log_pi.detach(), expected.detach(), atol=1e-8)
        assert_allclose(policy.log_prob(s, a.detach()).detach(), expected.detach(), atol=1e-8)

    @pytest.mark.parametrize("mu", [-300.0, -20.0, 20.0, 300.0])
    def test_it_is_exact_far_out_where_tanh_rounds_to_one(self, mu):
        """There log(1 − tanh² u) is 2 log 2 − 2|u|, and the gradient in μ is 2 sign μ; single precision."""
        policy, rng = a_policy([mu, mu], [0.1, 0.1]).float(), np.random.default_rng(0)
        a, log_pi = policy.rsample_and_log_prob(np.zeros((5, 3)), rng)
        assert (a >= torch.tensor(LOW)).all()
        assert (a <= torch.tensor(HIGH)).all()
        noise = np.random.default_rng(0).standard_normal((5, 2), np.float32)
        expected = norm.logpdf(noise) - math.log(0.1) - 2 * math.log(2) + 2 * abs(mu + 0.1 * noise)
        assert_allclose(log_pi.detach(), expected.sum(axis=1), rtol=1e-5)
        log_pi.mean().backward()
        assert_allclose(policy.layers[-1].bias.grad[:2], 2 * np.sign(mu), rtol=1e-5)
        assert policy.log_prob(np.zeros((5, 3)), a.detach()).isfinite().all()

    def test_draws_follow_it(self):
        """20,000 draws: Kolmogorov and Smirnov's p-value is below 1e-6 once in a million."""
        policy, rng = a_policy([0.4, -0.2], [0.5, 1.5]), np.random.default_rng(0)
        s = np.zeros((20_000, 3))
        drawn = policy.rsample_and_log_prob(s, rng)[0].detach().numpy()
        for a in (policy.sample(s, rng), drawn):
            x = (a - [0, 4]) / [1, 2]
            for k, (mu, sigma) in enumerate([(0.4, 0.5), (-0.2, 1.5)]):
                assert kstest(np.arctanh(x[:, k]), norm(mu, sigma).cdf).pvalue > 1e-6
        assert_allclose(policy.greedy(s[:1])[0], np.array([0, 4]) + [1, 2] * np.tanh([0.4, -0.2]))
        assert_allclose(np.median(drawn, axis=0), policy.greedy(s[:1])[0], atol=0.06)

    def test_reparameterised_gradients_are_those_of_differences(self):
        """Of −α log π + f(a), with the same noise for every weight."""
        policy = SquashedGaussianPolicy(3, LOW, HIGH, (4,), seed=2).double()
        s = np.random.default_rng(1).normal(size=(6, 3))

        def objective():
            a, log_pi = policy.rsample_and_log_prob(s, np.random.default_rng(5))
            return (a.sin().sum(dim=1) - 0.3 * log_pi).mean()

        objective().backward()
        for w in policy.parameters():
            for k in range(w.numel()):
                ends = []
                for h in (1e-6, -1e-6):
                    with torch.no_grad():
                        w.view(-1)[k] += h
                        ends.append(objective().item())
                        w.view(-1)[k] -= h
                assert w.grad.view(-1)[k].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)

    def test_actions_outside_the_bounds_and_of_other_shapes_are_refused(self):
        policy, s = SquashedGaussianPolicy(3, LOW, HIGH, (4,)), np.zeros((2, 3))
        for a in ([[0.0, 6.5], [0.0, 3.0]], [[0.0, np.nan], [0.0, 3.0]]):
            with pytest.raises(ValueError, match=r"^a must be from \[-1\.  2\.\] to \[1\. 6\.\], got "):
                policy.log_prob(s, a)
        with pytest.raises(ValueError, match=r"^a must have shape \(2, 2\), got \(2, 1\)"):
            policy.log_prob(s, np.zeros((2, 1)))
        with pytest.raises(ValueError, match=r"^low and high must be finite, low < high, of one shape"):
            SquashedGaussianPolicy(3, [1], [-1])


def test_it_is_its_equations():
    """Twenty updates with gradients by autograd through everything, PyTorch's distributions and plain SGD."""
    rates = {"eta": 0.01, "eta_critic": 0.02, "eta_alpha": 0.05, "tau": 0.1, "alpha": 0.4, "gamma": 0.9}
    algorithm = pendulum(optimizer="SGD", **rates)
    for network in (algorithm.policy, algorithm.critic, algorithm.target_critic, algorithm.temperature):
        network.double()
    algorithm.update()
    policy, critic, target, log_alpha = (
        copy.deepcopy(x)
        for x in (
            algorithm.policy,
            algorithm.critic,
            algorithm.target_critic,
            algorithm.temperature.log_alpha,
        )
    )
    batches, noises = np.random.default_rng(0), np.random.default_rng(1)
    algorithm._rng = np.random.default_rng(1)

    def draw(s):
        mu, log_sigma = policy.mean_and_log_sigma(s)
        squashed = TransformedDistribution(
            Independent(Normal(mu, log_sigma.exp()), 1), TanhTransform(cache_size=1)
        )
        x = torch.tanh(mu + log_sigma.exp() * torch.from_numpy(noises.standard_normal(mu.shape)))
        return 2 * x, squashed.log_prob(x)  # torques are from −2 to 2

    def descend(network, loss, eta):
        gradients = torch.autograd.grad(loss, network)
        with torch.no_grad():
            for w, g in zip(network, gradients, strict=True):
                w -= eta * g

    for _ in range(20):
        batch = algorithm.replay.sample(8, batches)
        loss, _ = algorithm.learn(batch)
        s, a, r, next_s, terminated = (torch.from_numpy(np.asarray(x, float)) for x in batch)
        with torch.no_grad():
            next_a, log_pi = draw(next_s)
            next_v = target(next_s, next_a).min(dim=0).values - log_alpha.exp() * log_pi
            y = r + 0.9 * (1 - terminated) * next_v
        critic_loss = ((critic(s, a) - y) ** 2).mean() / 2
        assert loss == pytest.approx(critic_loss.item(), rel=1e-6)
        descend(list(critic.parameters()), critic_loss, 0.02)
        a, log_pi = draw(s)
        alpha_now = log_alpha.detach().exp()
        actor_loss = (alpha_now * log_pi - critic(s, a).min(dim=0).values).mean()
        descend(list(policy.parameters()), actor_loss, 0.01)
        descend([log_alpha], (log_alpha.exp() * (-log_pi.detach() + 1)).mean(), 0.05)  # H̄ = −1
        with torch.no_grad():
            for w, v in zip(target.parameters(), critic.parameters(), strict=True):
                w += 0.1 * (v - w)
    for ours, its in (
        (policy, algorithm.policy),
        (critic, algorithm.critic),
        (target, algorithm.target_critic),
    ):
        assert_allclose(weights(ours), weights(its), rtol=1e-5, atol=1e-8)
    assert log_alpha.item() == pytest.approx(algorithm.temperature.log_alpha.item(), rel=1e-5)
    assert abs(log_alpha.item() - math.log(0.4)) > 0.01


def test_only_the_critics_update_touches_the_critics():
    algorithm = pendulum()
    algorithm.update()
    s = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    for w in algorithm.critic.parameters():
        w.grad = None
    before = weights(algorithm.critic), weights(algorithm.target_critic)
    algorithm.update_actor(s)
    assert all(w.grad is None for w in algorithm.critic.parameters())
    assert weights(algorithm.critic).equal(before[0])
    assert weights(algorithm.target_critic).equal(before[1])
    assert not hasattr(algorithm, "target_actor")


@pytest.mark.parametrize(("target_entropy", "sign"), [(-30.0, -1), (5.0, 1)])
def test_the_temperature_rises_while_the_entropy_is_below_its_target(target_entropy, sign):
    """The entropy over the half ranges is at most log 2."""
    algorithm = pendulum(target_entropy=target_entropy)
    for _ in range(30):
        before = algorithm.temperature.log_alpha.item()
        algorithm.update()
        assert sign * (algorithm.temperature.log_alpha.item() - before) > 0


def test_a_fixed_temperature_stays():
    algorithm = pendulum(learn_alpha=False, alpha=0.2)
    for _ in range(10):
        algorithm.update()
    assert algorithm.temperature(5).item() == pytest.approx(0.2, rel=1e-6)


def test_the_target_entropy_is_minus_the_number_of_dimensions():
    assert pendulum().target_entropy == -1
    assert pendulum(target_entropy=-0.3).target_entropy == -0.3


def test_the_temperature_of_several_seeds_is_one_a_row():
    temperature = Temperature(0.5, 3)
    with torch.no_grad():
        temperature.log_alpha.add_(torch.tensor([[0.0], [1.0], [2.0]]))
    assert_allclose(temperature(6).detach(), 0.5 * np.exp([0, 0, 1, 1, 2, 2]), rtol=1e-6)
    assert Temperature(0.5)(6).shape == ()


def test_nothing_depends_on_the_units_of_actions():
    """One task in units of 1 and of 8: the critics given actions in half ranges, all weights are the same."""
    one, eight = on_target(1.0), on_target(8.0)
    for _ in range(40):
        assert one.update()[3:] == pytest.approx(eight.update()[3:], rel=1e-4, abs=1e-5)
    assert_allclose(weights(one.policy), weights(eight.policy), atol=1e-4)
    assert one.temperature(1).item() == pytest.approx(eight.temperature(1).item(), rel=1e-4)
    assert_allclose(8 * one.replay.stored().a, eight.replay.stored().a, atol=1e-3)


def test_it_finds_the_best_action_with_the_entropy_asked_for():
    """Within 600 updates: the median within 0.15 of 0.5, the entropy within 0.3 of −1."""
    rates = {"eta": 0.01, "eta_critic": 0.01, "eta_alpha": 0.05, "alpha": 0.3}
    algorithm = on_target(3.0, batch_size=64, learning_starts=64, **rates)
    for _ in range(600):
        algorithm.update()
    s, rng = np.zeros((2000, 1)), np.random.default_rng(0)
    assert algorithm.policy.greedy(s[:1]).item() == pytest.approx(1.5, abs=0.45)
    with torch.no_grad():
        _, log_pi = algorithm.policy.rsample_and_log_prob(s, rng)
    assert -log_pi.mean().item() == pytest.approx(-1, abs=0.3)


def test_every_action_is_one_of_the_environments():
    """Also its type: in 1,000 environments, with noise added and without, before learning and after."""
    env = Task("Pendulum-v1").make_vector_env(1_000)
    for sigma in (0.0, 0.5):
        algorithm = SAC(env, *networks(), config(sigma=sigma))
        for a in (algorithm.random_action(), algorithm.select_action(algorithm._s)):
            assert a.dtype == np.float32
            assert all(env.single_action_space.contains(one) for one in a)


def test_noise_is_added_to_what_the_policy_draws():
    """Two with the same random numbers: with σ the actions differ, by σ in half ranges."""
    env = Task("Pendulum-v1").make_vector_env(4_000)
    plain, noisy = (SAC(env, *networks(), config(sigma=sigma), seed=3) for sigma in (0.0, 0.01))
    noisy._s = plain._s
    difference = noisy.select_action(plain._s) - plain.select_action(plain._s)
    assert difference.std() == pytest.approx(0.02, rel=6 / math.sqrt(8_000) + 0.05)  # few are clipped


def test_a_resumed_run_is_as_if_it_had_not_stopped(tmp_path):
    """Through a file; the temperature and its optimiser included."""
    running = pendulum()
    for _ in range(31):
        running.update()
    checkpoints.save(tmp_path / "state", running.state_dict())
    resumed = pendulum(seed=5)
    resumed.load_state_dict(checkpoints.load(tmp_path / "state"))
    running.load_state_dict(running.state_dict())  # new episodes, as at every checkpoint
    for _ in range(31):
        one, other = running.update(), resumed.update()
        assert one[0] == other[0]
        assert one[2:] == other[2:]
    for name in ("policy", "target_critic", "temperature"):
        for key, w in running.state_dict()[name].items():
            assert_array_equal(w, resumed.state_dict()[name][key])


def test_a_list_of_one_seed_is_that_seed_to_the_bit():
    recipe, options = recipes.get("sac/pendulum"), {"learning_starts": 64, "batch_size": 64}
    one, other = recipe.build(3, **options), recipe.build([3], **options)
    for _ in range(20):
        assert one.update()[2:] == other.update()[2:]
    assert weights(one.policy).equal(weights(other.policy))
    assert weights(one.temperature).equal(weights(other.temperature))


def test_learning_rates_are_those_of_the_steps_so_far():
    algorithm = pendulum(eta_alpha=lambda n: 3 / n if n else 3)
    for _ in range(3):
        algorithm.update()
        assert algorithm.alpha_optimizer.param_groups[0]["lr"] == 3 / algorithm.n_steps
    assert pendulum(eta_alpha=0.3, eta_decay_steps=100).eta_alpha(100) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha must be a positive number, got 0"),
        ({"alpha": math.nan}, "alpha must be a positive number, got nan"),
        ({"alpha": 1e40}, r"alpha must be from 1e-30 to 1e\+30, got 1e\+40"),
        ({"alpha": "auto"}, "alpha must be a number, got 'auto'"),
        ({"eta_alpha": 0}, "eta_alpha must be a positive number, got 0"),
        ({"target_entropy": math.inf}, "target_entropy must be finite, got inf"),
        ({"target_entropy": "auto"}, "target_entropy must be a number, got 'auto'"),
        ({"tau": 0}, r"tau must be in \(0, 1\], got 0"),
        ({"sigma": -1}, "sigma must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        pendulum(**options)


def test_networks_and_environments_that_do_not_fit():
    env = Task("Pendulum-v1").make_vector_env(1)
    policy, critic = networks()
    with pytest.raises(ValueError, match=r"env must take actions of real numbers between bounds.*Discrete"):
        SAC(Task("CartPole-v1").make_vector_env(1), policy, critic)
    with pytest.raises(ValueError, match=r"^first and second must not share weights"):
        SAC(env, policy, TwinCritic(critic.first, critic.first))
    with pytest.raises(ValueError, match=r"^policy\(s\) must have shape \(3, 1\), got \(3, 2\)"):
        SAC(env, networks(LOW, HIGH)[0], critic)

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = critic.first, critic.second

        def forward(self, s, a):
            return self.first(s, a)

    with pytest.raises(ValueError, match=r"^critic\(s, a\) must have shape \(2, 3\), got \(3,\)"):
        SAC(env, policy, One())
