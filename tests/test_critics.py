"""Critics against sums by hand, the exact V, and a trace of episodes that end in every way there is."""

import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.algorithms.critics import Critic, PolicyEvaluation, learn_by_td, learn_from_returns, loss
from pgcourse.environments.worlds import access_control, random_mdp, random_walk
from pgcourse.maths.returns import gae, reward_to_go, td_error
from pgcourse.networks.policies import TabularPolicy
from pgcourse.networks.values import LinearValue, NetworkValue, TabularValue

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
shares = st.floats(0, 1)


@st.composite
def episodes(draw):
    """An episode of T steps: weights, the features of T + 1 states, the last of which is the end or not, and rewards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    T, n_features = draw(st.integers(0, 6)), draw(st.integers(1, 4))
    x = rng.normal(size=(T + 1, n_features))
    x[-1] *= draw(st.booleans())
    return rng.normal(size=n_features), x, rng.normal(size=T)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


class TestLinear:
    @reproducible
    @given(episodes(), st.floats(0.01, 1))
    def test_returns_are_learnt_visit_after_visit(self, episode, eta):
        w, x, target = episode
        expected = list(w)
        for x_i, G in zip(x[:-1], target, strict=True):
            error = dot(expected, x_i) - G
            expected = [
                w_j - eta * x_ij * error for w_j, x_ij in zip(expected, x_i, strict=True)
            ]  # slide 58, sign by sign
        assert_allclose(learn_from_returns(w, x[:-1], target, eta), expected, atol=1e-9)

    @reproducible
    @given(episodes(), st.floats(0.01, 1), shares)
    def test_td_is_learnt_step_after_step(self, episode, eta, gamma):
        w, x, r = episode
        expected = list(w)
        for i in range(len(r)):
            error = dot(expected, x[i]) - (r[i] + gamma * dot(expected, x[i + 1]))
            expected = [
                w_j - eta * x_ij * error for w_j, x_ij in zip(expected, x[i], strict=True)
            ]  # slide 59
        assert_allclose(learn_by_td(w, x, r, eta, gamma), expected, atol=1e-9)

    @reproducible
    @given(episodes(), st.floats(0.01, 1), shares, shares)
    def test_with_traces_each_surprise_reaches_back(self, episode, eta, gamma, lam):
        """The surprise of step i moves w by η δᵢ Σ_j≤i (γλ)ⁱ⁻ʲ xⱼ: a double sum instead of a trace."""
        w, x, r = episode
        expected = w.copy()
        for i in range(len(r)):
            delta = r[i] + gamma * dot(expected, x[i + 1]) - dot(expected, x[i])
            expected = expected + eta * delta * sum((gamma * lam) ** (i - j) * x[j] for j in range(i + 1))
        assert_allclose(learn_by_td(w, x, r, eta, gamma, lam), expected, atol=1e-9)

    @reproducible
    @given(episodes(), shares, shares)
    def test_looking_back_with_traces_is_looking_ahead_with_lambda_returns(self, episode, gamma, lam):
        """As η goes to 0: both then move w in the same direction. λ = 1 and 0 make it Monte Carlo and TD."""
        w, x, r = episode
        v, eta = x @ w, 1e-6
        delta = td_error(r, v, gamma)
        forward = (learn_from_returns(w, x[:-1], v[:-1] + gae(delta, gamma, lam), eta) - w) / eta
        backward = (learn_by_td(w, x, r, eta, gamma, lam) - w) / eta
        assert_allclose(backward, forward, atol=1e-3)

    def test_many_side_by_side_learn_as_each_by_itself(self):
        """Three rates on two courses, the shorter of which is filled up with zeros."""
        rng = np.random.default_rng(0)
        w, x, r = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 5))
        x[:, 5], x[1, 3:], r[1, 3:], etas = 0, 0, 0, np.array([[0.1], [0.2], [0.5]])
        G = reward_to_go(r, 0.9)
        for many, one in [
            (
                learn_by_td(w, x, r, etas, 0.9, 0.5),
                lambda w, n, T, eta: learn_by_td(w, x[n, : T + 1], r[n, :T], eta, 0.9, 0.5),
            ),
            (
                learn_from_returns(w, x[:, :-1], G, etas),
                lambda w, n, T, eta: learn_from_returns(w, x[n, :T], G[n, :T], eta),
            ),
        ]:
            for k, n in np.ndindex(3, 2):
                assert_allclose(many[k, n], one(w[k, n], n, (5, 3)[n], float(etas[k, 0])), rtol=1e-12)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: learn_by_td(np.zeros(2), np.zeros((4, 3)), np.zeros(3), 0.1),
                "x must have shape (..., steps, 2), one number for each of w, got (4, 3)",
            ),
            (
                lambda: learn_by_td(np.zeros(3), np.zeros(3), np.zeros(3), 0.1),
                "x must have shape (..., steps, 3), one number for each of w, got (3,)",
            ),
            (
                lambda: learn_by_td(np.zeros(2), np.zeros((3, 2)), np.zeros(3), 0.1),
                "x must have one step more than r, 4, got 3",
            ),
            (
                lambda: learn_by_td(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 0),
                "eta must be positive, got 0.0",
            ),
            (
                lambda: learn_by_td(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1, 1.1),
                "gamma must be in [0, 1], got 1.1",
            ),
            (
                lambda: learn_by_td(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1, 1, -1),
                "lam must be in [0, 1], got -1",
            ),
            (
                lambda: learn_from_returns(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1),
                "target must have one number for each of 4 steps, got 3",
            ),
            (
                lambda: learn_from_returns(np.zeros(2), np.zeros((3, 2)), np.zeros(3), np.nan),
                "eta must be positive, got nan",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


class TestCritic:
    def test_a_step_is_the_slides_for_features_and_tables(self):
        """The mean over the batch of −η xⱼ (v − target); for a table, that is where the state is."""
        rng = np.random.default_rng(0)
        x, s, target = rng.normal(size=(5, 3)), np.array([4, 0, 4]), rng.normal(size=3)
        linear, table = Critic(LinearValue(x), eta=0.3), Critic(TabularValue(np.ones(5)), eta=0.3)
        for _ in range(2):
            w = linear.value.w.detach().numpy().copy()
            expected = w - 0.3 * np.mean(
                [x[k] * (x[k] @ w - t) for k, t in zip(s, target, strict=True)], axis=0
            )
            error = linear.learn(s, target)
            assert error == pytest.approx(
                np.mean([(x[k] @ w - t) ** 2 / 2 for k, t in zip(s, target, strict=True)])
            )
            assert_allclose(linear.value.w.detach(), expected, rtol=1e-12)
        table.learn(s, target)
        assert_allclose(
            table(np.arange(5)), [1 - 0.1 * (1 - target[1]), 1, 1, 1, 1 - 0.1 * (2 - target[0] - target[2])]
        )

    def test_no_gradient_flows_into_the_target(self):
        """Semi-gradient: with v = w and target = 2w, the whole slope of ½(v − target)² would be w; what is left is v − target = −w."""
        w = torch.tensor([3.0], requires_grad=True)
        loss(w, 2 * w).backward()
        assert w.grad.tolist() == [-3]

    def test_a_network_learns_what_it_is_told(self):
        rng = np.random.default_rng(0)
        s = rng.normal(size=(64, 2))
        target = np.sin(s[:, 0]) + s[:, 1]
        critic = Critic(NetworkValue(2, 32), eta=0.01, optimizer=torch.optim.Adam)
        errors = [critic.learn(s, target) for _ in range(300)]
        assert errors[-1] < 0.02 * errors[0]
        assert_allclose(0.5 * ((critic(s) - target) ** 2).mean(), errors[-1], rtol=0.2)
        assert critic(s).dtype == float

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: Critic(TabularValue([0.0]), eta=0), "eta must be a positive number, got 0"),
            (lambda: Critic(TabularValue([0.0]), eta=np.inf), "eta must be a positive number, got inf"),
            (
                lambda: Critic(TabularValue([0.0])).learn([0, 0], [1.0]),
                "target must have the shape of v, (2,), got (1,)",
            ),
            (
                lambda: Critic(TabularValue([0.0])).learn([0], [[1.0]]),
                "target must have the shape of v, (1,), got (1, 1)",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


class Script(gymnasium.Env):
    """Episodes of 2, 3, 2, 3, … steps, the short ones cut off, the long ones over. A state is 10·episode + step; an action pays itself."""

    observation_space, action_space = Box(0, 1000, (1,), np.float64), Discrete(10)

    def __init__(self):
        self.e = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.e = -1
        self.e, self.i = self.e + 1, 0
        return np.array([10.0 * self.e]), {}

    def step(self, a):
        self.i += 1
        last = self.i == 2 + self.e % 2
        return (
            np.array([10.0 * self.e + self.i]),
            float(a),
            last and self.e % 2 == 1,
            last and self.e % 2 == 0,
            {},
        )


class Counter:
    """Acts 1, 2, 3, …: one number a step."""

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


def script(n_envs=1, **options):
    env = SyncVectorEnv([Script] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    return PolicyEvaluation(env, Counter(), Critic(Identity(), eta=1e-9), **options)


class TestTrace:
    """Seven steps by hand: 0 → 1 → 2, cut off; 10 → 11 → 12 → 13, over; 20 → 21 → 22, cut off. v(s) = s, γ = ½, rewards 1, …, 7."""

    s = (0, 1, 10, 11, 12, 20, 21)
    led_to = (
        1,
        2,
        11,
        12,
        0,
        21,
        22,
    )  # what was to be expected there: of 2 and 22, where it was cut off, still 2 and 22; of the end, 0
    delta = tuple(r + 0.5 * after - v for r, after, v in zip(range(1, 8), led_to, s, strict=True))

    def test_errors_bootstrap_where_an_episode_was_cut_off_and_not_where_it_ended(self):
        algorithm = script(gamma=0.5, n_steps=7)
        rollout, returns = algorithm._act()
        assert rollout.s[0, :, 0].tolist() == [0, 1, 10, 11, 12, 20, 21, 30]
        assert rollout.a[0].tolist() == rollout.r[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert np.flatnonzero(rollout.terminated[0]).tolist() == [4]
        assert np.flatnonzero(rollout.truncated[0]).tolist() == [1, 6]
        assert rollout.last[:, 0].tolist() == [2, 22]
        assert returns.tolist() == [1 + 2, 3 + 4 + 5, 6 + 7]
        v, delta = algorithm.td_errors(rollout)
        assert v[0].tolist() == list(self.s)
        assert_allclose(delta[0], self.delta)

    def test_no_advantage_reaches_over_an_end(self):
        algorithm = script(gamma=0.5, lam=0.5, n_steps=7)
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
        assert_allclose(algorithm.advantage(algorithm._act()[0])[0], expected)

    def test_turns_go_on_where_the_last_one_stopped(self):
        algorithm = script(gamma=0.5, n_steps=3)
        rollouts = [algorithm._act() for _ in range(3)]
        assert [r.s[0, :, 0].tolist() for r, _ in rollouts] == [
            [0, 1, 10, 11],
            [11, 12, 20, 21],
            [21, 30, 31, 32],
        ]
        assert [returns.tolist() for _, returns in rollouts] == [[3], [12], [13]]
        assert algorithm.n_steps == 9

    def test_with_several_environments_each_last_state_goes_to_its_own(self):
        algorithm = script(2, gamma=0.5, n_steps=4)
        algorithm.env.envs[1].reset()  # one episode ahead: 10, 11, 12, 13
        algorithm._s = np.array([[0.0], [10.0]])
        rollout, _ = algorithm._act()
        assert rollout.s[..., 0].tolist() == [[0, 1, 10, 11, 12], [10, 11, 12, 20, 21]]
        assert rollout.last.tolist() == [[2]]
        _, delta = algorithm.td_errors(rollout)
        after = np.array([[1, 2, 11, 12], [11, 12, 0, 21]])
        assert_allclose(delta, [1, 2, 3, 4] + 0.5 * after - rollout.s[:, :-1, 0])

    def test_whole_episodes_are_one_of_each_environment_and_what_comes_later_does_not_count(self):
        """The one plays 30 → 31 → 32 → 33, over, the other 40 → 41 → 42, cut off; both are paid 4, 5 and, the one, 6."""
        algorithm = script(2, gamma=0.5, lam=1, n_steps=None)
        algorithm.update()
        algorithm.env.envs[1].reset()
        taught = []
        algorithm.critic.learn = lambda s, target: taught.append((s[:, 0], target)) or 0.0
        update = algorithm.update()
        [(s, target)] = taught
        assert s.tolist() == [30, 31, 32, 40, 41]
        assert_allclose(
            target,
            [4 + 0.5 * (5 + 0.5 * 6), 5 + 0.5 * 6, 6, 4 + 0.5 * (5 + 0.5 * 42), 5 + 0.5 * 42],
            rtol=1e-6,
        )
        assert sorted(update.returns) == [4 + 5, 4 + 5 + 6]

    def test_an_average_is_subtracted_from_every_reward_and_follows_the_errors(self):
        algorithm = script(gamma=1, lam=0, n_steps=7, eta_average=0.1)
        algorithm.r_bar = 2.0
        delta = [r - 2 + after - v for r, after, v in zip(range(1, 8), self.led_to, self.s, strict=True)]
        rollout, _ = algorithm._act()
        assert_allclose(algorithm.td_errors(rollout)[1][0], delta)
        algorithm._evaluate(rollout)
        assert algorithm.r_bar == pytest.approx(2 + 0.1 * np.mean(delta))


def evaluation(world, w, v=None, n_envs=8, eta=0.5, **options):
    env = SyncVectorEnv([world.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    table = TabularValue(np.zeros(world.n_states) if v is None else v)
    return PolicyEvaluation(env, TabularPolicy(w), Critic(table, eta=eta), **options)


class TestEvaluation:
    @pytest.mark.parametrize(
        "options",
        [{"n_steps": 1}, {"n_steps": 5, "lam": 0.7}, {"n_steps": None}, {"n_steps": None, "lam": 0.5}],
    )
    def test_every_way_arrives_at_the_exact_values(self, options):
        """A random walk of 5. The mean of the tables on the way, of a thousand visits and more, is within .08 of V: 6 standard errors."""
        world = random_walk(5)
        w = np.zeros((6, 2))
        algorithm, tables = evaluation(world, w, np.full(6, 0.5), gamma=1, eta=0.2, seed=1, **options), []
        while algorithm.n_steps < 30_000:
            algorithm.update()
            tables.append(algorithm.critic(np.arange(5)))
        assert_allclose(np.mean(tables[len(tables) // 4 :], axis=0), world.values(w).V[:5], atol=0.08)

    def test_with_the_exact_values_the_mean_error_is_zero(self):
        """δ has mean A(s,a), whose mean under π is 0: that of 20,000 steps is within 5.5 standard errors."""
        world = random_mdp(4, 2, np.random.default_rng(0), gamma=0.8)
        w = np.random.default_rng(1).normal(size=(4, 2))
        algorithm = evaluation(world, w, world.values(w).V, gamma=0.8, n_steps=2500)
        delta = algorithm.td_errors(algorithm._act()[0])[1].ravel()
        assert abs(delta.mean()) < 5.5 * delta.std() / len(delta) ** 0.5

    def test_the_average_reward_of_a_queue_and_what_is_better_than_it(self):
        world = access_control(3, 0.2)
        w = np.zeros((16, 2))
        algorithm = evaluation(world, w, gamma=1, n_steps=20, n_envs=20, eta=5, eta_average=0.05, lam=0)
        while algorithm.n_steps < 100_000:
            algorithm.update()
        exact = world.average(w)
        assert algorithm.r_bar == pytest.approx(exact.r_bar, rel=0.05)
        seen = exact.d > 0.02
        v = algorithm.critic(np.arange(16))
        assert np.corrcoef(v[seen], exact.V[seen])[0, 1] > 0.95

    def test_a_state_carries_on_in_another_object_as_in_its_own(self):
        world, w = random_walk(5), np.zeros((6, 2))
        ours, other = (
            evaluation(world, w, gamma=1, n_steps=3, eta_average=0.1, seed=seed) for seed in (1, 2)
        )
        ours.update()
        state = ours.state_dict()
        courses = []
        for algorithm in (ours, other, ours):
            algorithm.load_state_dict(state)
            courses.append(
                [algorithm.update().critic_loss for _ in range(4)] + [algorithm.r_bar, algorithm.n_steps]
            )
        assert courses[0] == courses[1] == courses[2]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: script(gamma=1.1), "gamma must be in [0, 1], got 1.1"),
            (lambda: script(lam=-0.1), "lam must be in [0, 1], got -0.1"),
            (lambda: script(n_steps=0), "n_steps must be a whole number of at least 1, or None, got 0"),
            (lambda: script(n_steps=1.5), "n_steps must be a whole number of at least 1, or None, got 1.5"),
            (lambda: script(eta_average=0, gamma=1), "eta_average must be a positive number, got 0"),
            (lambda: script(eta_average=0.1), "gamma must be 1 where an average is subtracted, got 0.99"),
            (
                lambda: PolicyEvaluation(SyncVectorEnv([Script]), Counter(), Critic(Identity())),
                "env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), got AutoresetMode.NEXT_STEP",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_the_same_seed_is_the_same_course_and_neighbours_share_nothing():
    world, w = access_control(3, 0.2), np.zeros((16, 2))
    seen = [evaluation(world, w, n_envs=40, n_steps=5, seed=seed)._act()[0].s for seed in (0, 0, 1)]
    assert_array_equal(seen[0], seen[1])
    assert (seen[0][1:] != seen[2][:-1]).any()
