"""Linear-quadratic regulators against sums over time, differences, autograd, closed forms and sampling."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm

from pgcourse.environments.lqr import LQR, cart

reproducible = settings(derandomize=True, deadline=None, max_examples=40)
N_STEPS = 160  # 0.8¹⁶⁰ is 3 · 10⁻¹⁶: later steps count for nothing here


def random_covariance(rng, n, rank):
    root = rng.normal(size=(n, rank))
    product = root @ root.T
    return (product + product.T) / 2


def spectral_radius(matrix):
    """The largest absolute value of an eigenvalue."""
    return abs(np.linalg.eigvals(matrix)).max()


@st.composite
def lqrs(draw):
    """Draw an LQR, a gain that keeps the discounted closed loop stable, and states and actions.

    The system itself may be unstable. The covariances and the cost of states may be of any rank.
    """
    n, D, rng = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        np.random.default_rng(draw(st.integers(0, 2**32))),
    )
    gamma = draw(st.floats(0.1, 0.8))
    ranks = [draw(st.integers(0, n)) for _ in range(3)]
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, D))
    A *= rng.uniform(0.2, 0.8) / spectral_radius(A) / np.sqrt(gamma)
    C, initial, noise = (random_covariance(rng, n, rank) for rank in ranks)
    lqr = LQR(A, B, C, random_covariance(rng, D, D) + np.eye(D) / 4, gamma, initial, noise)
    K = 2 * rng.normal(size=(D, n))
    while np.sqrt(gamma) * spectral_radius(A - B @ K) > 0.85:
        K /= 2
    return SimpleNamespace(lqr=lqr, K=K, s=rng.normal(size=(4, n)), a=rng.normal(size=(4, D)))


def unstable_lqr(seed, n, D):
    """A system that is unstable without control; every direction has a cost."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= 1.1 / spectral_radius(A) / np.sqrt(0.9)
    C, R = (random_covariance(rng, k, k) + np.eye(k) / 2 for k in (n, D))
    return LQR(
        A,
        rng.normal(size=(n, D)),
        C,
        R,
        0.9,
        random_covariance(rng, n, n) + np.eye(n) / 10,
        random_covariance(rng, n, n),
    )


def assert_close(one, other, rtol):
    """Equal to within rtol, relative to the largest number in either."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert_allclose(
        one, other, rtol=0, atol=rtol * max(1, np.abs(one).max(), np.abs(other).max()), strict=True
    )


def tensors(lqr):
    return SimpleNamespace(
        **{
            name: torch.tensor(getattr(lqr, name))
            for name in ("A", "B", "C", "R", "initial_covariance", "noise_covariance")
        }
    )


def mean_reward(t, mean, covariance, a, covariance_a):
    """E[r] for states and actions with these means, (N, n) and (N, D), and covariances."""
    return -(
        ((mean @ t.C) * mean).sum(1)
        + (t.C * covariance).sum()
        + ((a @ t.R) * a).sum(1)
        + (t.R * covariance_a).sum()
    )


def return_by_hand(lqr, K, mean, covariance):
    """Σₜ γᵗ E[rₜ] from the means, shape (N, n), and the covariance of s₀, propagated in time in PyTorch."""
    t = tensors(lqr)
    total = 0
    for step in range(N_STEPS):
        a = -mean @ K.T
        total = total + lqr.gamma**step * mean_reward(t, mean, covariance, a, K @ covariance @ K.T)
        closed = t.A - t.B @ K
        mean, covariance = mean @ t.A.T + a @ t.B.T, closed @ covariance @ closed.T + t.noise_covariance
    return total


def J_by_hand(lqr, K):
    t = tensors(lqr)
    return return_by_hand(lqr, K, torch.zeros(1, len(t.A), dtype=torch.float64), t.initial_covariance)[0]


def V_by_hand(lqr, K, s):
    return return_by_hand(lqr, K, s, torch.zeros_like(tensors(lqr).A))


def Q_by_hand(lqr, K, s, a):
    t = tensors(lqr)
    now = mean_reward(t, s, torch.zeros_like(t.C), a, torch.zeros_like(t.R))
    return now + lqr.gamma * return_by_hand(lqr, K, s @ t.A.T + a @ t.B.T, t.noise_covariance)


def sigma_points(covariance):
    """States, shape (2n, n), whose uniform distribution has mean 0 and this covariance."""
    sizes, axes = np.linalg.eigh(covariance)
    columns = np.sqrt(len(covariance)) * (axes * np.sqrt(sizes.clip(0))).T
    return np.concatenate([columns, -columns])


def trajectories(lqr, K, n_trajectories, n_steps, rng):
    """States under a = −K s, shape (n_steps, n_trajectories, n)."""
    n = len(lqr.A)
    draw = [
        rng.multivariate_normal(np.zeros(n), covariance, n_trajectories * times)
        for covariance, times in ((lqr.initial_covariance, 1), (lqr.noise_covariance, n_steps))
    ]
    s, noise = draw[0], draw[1].reshape(n_steps, n_trajectories, n)
    states = []
    for e in noise:
        states.append(s)
        s = s @ lqr.A.T - s @ K.T @ lqr.B.T + e
    return np.stack(states)


def assert_mean(samples, expected):
    """Each number is within six standard errors, rounding aside."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert (abs(samples.mean(axis=0) - expected) <= 6 * error + 1e-9).all()


class TestValues:
    @reproducible
    @given(lqrs())
    def test_J_V_and_Q_are_the_sums_over_time(self, drawn):
        lqr, K = drawn.lqr, drawn.K
        t, s, a = torch.tensor(K), torch.tensor(drawn.s), torch.tensor(drawn.a)
        assert_close(lqr.J(K), J_by_hand(lqr, t), 1e-11)
        assert_close(lqr.V(K, drawn.s), V_by_hand(lqr, t, s), 1e-11)
        assert_close(lqr.Q(K, drawn.s, drawn.a), Q_by_hand(lqr, t, s, a), 1e-11)

    @reproducible
    @given(lqrs())
    def test_V_Q_and_J_agree(self, drawn):
        """V(s) = Q(s, −K s); Q(s, a) = r + γ E V(s'); J = E V(s₀)."""
        lqr, K, s, a = drawn.lqr, drawn.K, drawn.s, drawn.a
        V = lqr.V(K, s)
        assert V.shape == (4,)
        assert_close(lqr.Q(K, s, -s @ K.T), V, 1e-11)
        next_s, r = (
            s @ lqr.A.T + a @ lqr.B.T,
            [-(s_k @ lqr.C @ s_k + a_k @ lqr.R @ a_k) for s_k, a_k in zip(s, a, strict=True)],
        )
        expected = [
            r_k + lqr.gamma * lqr.V(K, s_k + sigma_points(lqr.noise_covariance)).mean()
            for s_k, r_k in zip(next_s, r, strict=True)
        ]
        assert_close(lqr.Q(K, s, a), expected, 1e-11)
        assert_close(lqr.J(K), lqr.V(K, sigma_points(lqr.initial_covariance)).mean(), 1e-11)

    @reproducible
    @given(lqrs())
    def test_the_value_function_is_a_matrix_and_the_cost_of_the_noise(self, drawn):
        lqr, K = drawn.lqr, drawn.K
        P, c = lqr.values(K)
        assert_close(P, P.T, 1e-12)
        assert np.linalg.eigvalsh(P).min() >= -1e-12 * abs(P).max()  # nothing but costs
        assert isinstance(c, float)
        assert isinstance(lqr.J(K), float)
        assert_close(lqr.V(K, np.zeros((1, len(P)))), [-c], 1e-12)
        assert_close(lqr.V(K, drawn.s), [-s @ P @ s - c for s in drawn.s], 1e-12)

    @reproducible
    @given(lqrs())
    def test_the_discounted_second_moment_is_the_sum_over_time(self, drawn):
        lqr, K = drawn.lqr, drawn.K
        closed, covariance, total = lqr.A - lqr.B @ K, lqr.initial_covariance, 0
        for i in range(N_STEPS):
            total = total + lqr.gamma**i * covariance
            covariance = closed @ covariance @ closed.T + lqr.noise_covariance
        assert_close(lqr.discounted_second_moment(K), total, 1e-11)

    @pytest.mark.parametrize(("A", "K"), [(0.5, 0.3), (1.2, 0.6), (-1.2, -0.1), (0.7, 0.0), (1.0, 2.9)])
    def test_in_one_dimension_it_is_a_geometric_series(self, A, K):
        """P = (C + R K²) / (1 − γ (A − B K)²), and likewise the second moment."""
        lqr = LQR([[A]], [[0.5]], [[2]], [[3]], 0.6, [[4]], [[5]])
        decay = 1 - 0.6 * (A - 0.5 * K) ** 2
        P, second_moment = (2 + 3 * K**2) / decay, (4 + 0.6 / 0.4 * 5) / decay
        assert lqr.values([[K]]).P.item() == pytest.approx(P)
        assert lqr.discounted_second_moment([[K]]).item() == pytest.approx(second_moment)
        assert lqr.J([[K]]) == pytest.approx(-P * 4 - 0.6 / 0.4 * P * 5)
        assert lqr.gradient([[K]]).item() == pytest.approx(
            -2 * (3 * K - 0.6 * 0.5 * P * (A - 0.5 * K)) * second_moment
        )

    def test_with_gamma_zero_only_the_first_step_counts(self):
        """Any gain is allowed, and doing nothing is optimal."""
        lqr, K = (
            LQR([[3, 1], [0, 2]], [[1], [1]], np.diag([1, 2]), [[3]], 0, np.diag([4, 5]), np.eye(2)),
            np.array([[7.0, -8.0]]),
        )
        s, a = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([[2.0], [-1.0]])
        assert lqr.J(K) == pytest.approx(-(4 + 2 * 5 + 3 * (7**2 * 4 + 8**2 * 5)))
        assert_allclose(lqr.Q(K, s, a), [-(1 + 2 + 3 * 4), -(4 + 2 * 0.25 + 3 * 1)])
        assert_allclose(lqr.dQ_da(K, s, a), -2 * 3 * a)
        assert_allclose(lqr.discounted_second_moment(K), lqr.initial_covariance)
        assert_allclose(lqr.optimal_gain(), [[0, 0]], atol=1e-12)

    def test_lists_of_integers_are_accepted(self):
        lqr = LQR([[1]], [[1]], [[1]], [[1]], 0.5, [[1]], [[0]])
        P = 1 + 1 + 0.5 * 0  # one step, and then it rests
        assert_allclose(lqr.V([[1]], [[3], [0]]), [-9 * P, 0])
        assert_allclose(lqr.Q([[1]], [[3]], [[-2]]), [-(9 + 4) - 0.5 * P])
        assert_allclose(lqr.dQ_da([[1]], [[3]], [[-2]]), [[-2 * (-2 + 0.5 * P * 1)]])


class TestGradients:
    @reproducible
    @given(lqrs())
    def test_the_action_gradient_agrees_with_differences_and_autograd(self, drawn):
        """Q is quadratic in a, so that central differences are exact with any step."""
        lqr, K, s, a = drawn.lqr, drawn.K, drawn.s, drawn.a
        dQ = lqr.dQ_da(K, s, a)
        steps = np.eye(a.shape[1])
        assert_close(
            dQ,
            np.stack([(lqr.Q(K, s, a + step) - lqr.Q(K, s, a - step)) / 2 for step in steps], axis=1),
            1e-11,
        )
        t = torch.tensor(a, requires_grad=True)
        Q_by_hand(lqr, torch.tensor(K), torch.tensor(s), t).sum().backward()
        assert_close(dQ, t.grad, 1e-11)

    @reproducible
    @given(lqrs())
    def test_the_gradient_agrees_with_differences_and_autograd(self, drawn):
        lqr, K = drawn.lqr, drawn.K
        gradient = lqr.gradient(K)
        t = torch.tensor(K, requires_grad=True)
        J_by_hand(lqr, t).backward()
        assert_close(gradient, t.grad, 1e-10)
        differences = np.empty_like(K)
        for k in np.ndindex(*K.shape):
            step = np.zeros_like(K)
            step[k] = 1e-5
            differences[k] = (lqr.J(K + step) - lqr.J(K - step)) / 2e-5
        assert_close(gradient, differences, 1e-6)

    @reproducible
    @given(lqrs())
    def test_the_gradient_is_slide_65s_product_summed_over_time(self, drawn):
        """∂J/∂K = Σₜ γᵗ E[∂Q/∂a · ∂a/∂K] at a = −K s, where ∂a/∂K is −s: theorem 1."""
        lqr, K = drawn.lqr, drawn.K
        closed, covariance, states, weights = lqr.A - lqr.B @ K, lqr.initial_covariance, [], []
        for i in range(N_STEPS):
            states.append(sigma_points(covariance))
            weights += [lqr.gamma**i / len(states[-1])] * len(states[-1])
            covariance = closed @ covariance @ closed.T + lqr.noise_covariance
        s = np.concatenate(states)
        assert_close(lqr.gradient(K), np.einsum("t,td,tn->dn", weights, lqr.dQ_da(K, s, -s @ K.T), -s), 1e-10)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_gradient_and_the_second_moment_are_those_of_sampled_trajectories(self, seed):
        rng = np.random.default_rng(seed)
        lqr = LQR(
            [[0.9, 0.4], [-0.2, 0.8]],
            [[0, 0.5], [1, 0]],
            np.diag([1, 0.3]),
            np.diag([0.5, 0.2]),
            0.7,
            np.eye(2),
            np.eye(2) / 9,
        )
        K = 0.3 * rng.normal(size=(2, 2))
        assert spectral_radius(lqr.A - lqr.B @ K) < 1.1
        s = trajectories(lqr, K, 4000, 60, rng)  # 0.7⁶⁰ is 5 · 10⁻¹⁰
        weights = lqr.gamma ** np.arange(60)
        dQ = lqr.dQ_da(K, s.reshape(-1, 2), -s.reshape(-1, 2) @ K.T).reshape(s.shape)
        assert_mean(np.einsum("i,ied,ien->edn", weights, dQ, -s), lqr.gradient(K))
        assert_mean(np.einsum("i,iem,ien->emn", weights, s, s), lqr.discounted_second_moment(K))


class TestOptimalGain:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n", "D"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
    def test_it_is_the_limit_of_value_iteration(self, seed, n, D):
        """From P = 0: the optimal costs of no step, of one, of two, …"""
        lqr = unstable_lqr(seed, n, D)
        P = np.zeros((n, n))
        for _ in range(1000):
            ahead = lqr.gamma * lqr.B.T @ P
            K = np.linalg.inv(lqr.R + ahead @ lqr.B) @ ahead @ lqr.A
            closed = lqr.A - lqr.B @ K
            P = lqr.C + K.T @ lqr.R @ K + lqr.gamma * closed.T @ P @ closed
        assert_close(lqr.optimal_gain(), K, 1e-9)
        assert_close(lqr.values(lqr.optimal_gain()).P, P, 1e-9)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n", "D"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
    def test_no_gain_near_it_and_no_other_action_is_better(self, seed, n, D):
        """If in no state another action is better, no policy of any form is (Bellman)."""
        lqr, rng = unstable_lqr(seed, n, D), np.random.default_rng(seed)
        K = lqr.optimal_gain()
        J = lqr.J(K)
        assert abs(lqr.gradient(K)).max() < 1e-9 * (1 + abs(J)) * (
            1 + abs(lqr.discounted_second_moment(K)).max()
        )
        for size in (1e-3, 1e-2, 0.1):
            other = K + size * rng.normal(size=K.shape)
            if np.sqrt(lqr.gamma) * spectral_radius(lqr.A - lqr.B @ other) < 1:
                assert lqr.J(other) < J
        s = 3 * rng.normal(size=(200, n))
        V = lqr.V(K, s)
        for size in (1e-3, 0.1, 1, 10):
            a = -s @ K.T + size * rng.normal(size=(200, D))
            assert (lqr.Q(K, s, a) < V).all()
        assert_close(lqr.dQ_da(K, s, -s @ K.T), np.zeros((200, D)), 1e-9 * (1 + abs(V).max()))

    @pytest.mark.parametrize(
        ("A", "B", "C", "R"),
        [(1.5, 1, 1, 1), (0.5, -2, 3, 0.1), (1.2, 0.1, 0.5, 4), (1, 1, 0, 1), (0, 1, 1, 1)],
    )
    def test_in_one_dimension_it_is_the_root_of_a_quadratic(self, A, B, C, R):
        """γ B² P² + (R − γ B² C − γ A² R) P − C R = 0, of which the larger root is P."""
        gamma = 0.8
        lqr = LQR([[A]], [[B]], [[C]], [[R]], gamma, [[1]], [[1]])
        P = max(np.roots([gamma * B**2, R - gamma * B**2 * C - gamma * A**2 * R, -C * R]))
        assert lqr.optimal_gain().item() == pytest.approx(
            gamma * A * B * P / (R + gamma * B**2 * P), abs=1e-12
        )
        assert lqr.values(lqr.optimal_gain()).P.item() == pytest.approx(P, abs=1e-12)

    @reproducible
    @given(lqrs())
    def test_no_gain_is_better(self, drawn):
        optimum = drawn.lqr.J(drawn.lqr.optimal_gain())
        assert drawn.lqr.J(drawn.K) <= optimum + 1e-9 * (1 + abs(optimum))

    def test_it_depends_neither_on_the_noise_nor_on_the_initial_state(self):
        A, B, C, R = [[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2), [[1]]
        quiet, loud = (LQR(A, B, C, R, 0.9, size * np.eye(2), size * np.eye(2)) for size in (0, 10))
        assert_array_equal(quiet.optimal_gain(), loud.optimal_gain())

    def test_gradient_ascent_converges_to_it(self):
        """From a gain of zero."""
        lqr = LQR(
            [[1, 0.3], [0, 0.9]], [[0.1], [0.5]], np.diag([1, 0.1]), [[0.5]], 0.8, np.eye(2), np.eye(2) / 10
        )
        K = np.zeros((1, 2))
        for _ in range(1500):
            K = K + 0.02 * lqr.gradient(K)
        assert abs(lqr.optimal_gain()).max() > 0.5
        assert_allclose(K, lqr.optimal_gain(), atol=1e-6)

    def test_it_is_optimal_for_the_cart(self):
        lqr = cart()
        K = lqr.optimal_gain()
        assert abs(lqr.gradient(K)).max() < 1e-8
        assert (K > 0).all()  # the force is towards the middle and against the velocity
        assert lqr.J(K) > max(lqr.J(K * share) for share in (0.5, 0.9, 1.1, 2))


def sampled_returns(env, K, n_episodes, gamma, seed):
    """The discounted return of each episode with a = −K s."""
    returns = []
    for e in range(n_episodes):
        s, _ = env.reset(seed=seed if e == 0 else None)
        G, weight, truncated = 0.0, 1.0, False
        while not truncated:
            s, r, terminated, truncated, _ = env.step(-K @ s)
            assert not terminated
            G, weight = G + weight * r, weight * gamma
        returns.append(G)
    return np.array(returns)


class TestEnv:
    @pytest.mark.filterwarnings(
        "ignore:.*Box (action space|observation space m)"
    )  # it likes them to be small, and to have bounds
    @pytest.mark.parametrize("lqr", [cart(), unstable_lqr(0, 3, 2)], ids=["cart", "random"])
    def test_gymnasium_has_no_other_complaints(self, lqr):
        check_env(lqr.env(), skip_render_check=True)

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("kind", ["", "no noise", "initial state 0", "covariances of rank 1"])
    def test_its_mean_discounted_return_is_J(self, kind, seed):
        rng = np.random.default_rng(seed)
        initial, noise = random_covariance(rng, 2, 2), random_covariance(rng, 2, 2)
        if kind == "no noise":
            noise = np.zeros((2, 2))
        elif kind == "initial state 0":
            initial = np.zeros((2, 2))
        elif kind:
            initial, noise = random_covariance(rng, 2, 1), np.diag([0, 1])
        lqr = LQR([[1, 0.3], [-0.2, 1.1]], [[0.5], [1]], np.diag([1, 0.3]), [[0.4]], 0.6, initial, noise)
        K = lqr.optimal_gain() + 0.1 * rng.normal(size=(1, 2))
        G = sampled_returns(lqr.env(40, max_action=1e6), K, 500, 0.6, seed)  # 0.6⁴⁰ is 10⁻⁹
        assert_mean(G, lqr.J(K))

    @pytest.mark.parametrize("n_steps", [1, 2, 7])
    def test_episodes_are_truncated_and_never_terminate(self, n_steps):
        env = cart().env(n_steps)
        for _ in range(3):
            env.reset(seed=0)
            ends = [env.step(np.zeros(1))[2:4] for _ in range(n_steps)]
            assert ends == [(False, False)] * (n_steps - 1) + [(False, True)]

    def test_the_defaults_are_fifty_steps_and_actions_up_to_ten(self):
        env = cart().env()
        env.reset(seed=0)
        assert [env.step(np.zeros(1))[3] for _ in range(50)] == [False] * 49 + [True]
        assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-10], [10])

    def test_the_same_seed_gives_the_same_trajectory(self):
        lqr = unstable_lqr(1, 3, 2)
        a = np.random.default_rng(0).normal(size=(8, 2))

        def trajectory(env, seed):
            return [env.reset(seed=seed)[0], *(env.step(a_i)[0] for a_i in a)]

        env = lqr.env()
        assert_array_equal(trajectory(env, 5), trajectory(env, 5))
        assert_array_equal(trajectory(env, 5), trajectory(lqr.env(), 5))
        assert (np.array(trajectory(env, 5)) != trajectory(env, 6)).all()
        assert (np.array(trajectory(env, None)) != trajectory(env, None)).all()

    def test_a_step_is_the_formula_of_the_modules_docstring(self):
        """Without noise, to the last digit but one. The next step does not change a returned observation."""
        lqr = LQR(
            [[0.5, 1], [-1, 0.2]],
            [[1, 0], [2, 3]],
            [[2, 1], [1, 3]],
            [[1, 0.5], [0.5, 2]],
            0.9,
            np.eye(2),
            np.zeros((2, 2)),
        )
        env = lqr.env(5)
        s, _ = env.reset(seed=3)
        returned, copies = [s], [s.copy()]
        for a in np.random.default_rng(0).normal(size=(5, 2)):
            next_s, r, *_ = env.step(a)
            cost = sum(
                s[i] * lqr.C[i, j] * s[j] + a[i] * lqr.R[i, j] * a[j] for i in range(2) for j in range(2)
            )
            assert r == pytest.approx(-cost, rel=1e-12)
            assert isinstance(r, float)
            assert_allclose(
                next_s,
                [sum(lqr.A[i, j] * s[j] + lqr.B[i, j] * a[j] for j in range(2)) for i in range(2)],
                rtol=1e-12,
            )
            assert next_s.dtype == np.float64
            assert env.observation_space.contains(next_s)
            s = next_s
            returned.append(next_s)
            copies.append(next_s.copy())
        assert_array_equal(returned, copies)

    def test_actions_are_clipped(self):
        lqr = LQR(np.eye(2), np.eye(2), np.eye(2), np.diag([1, 2]), 0.9, np.eye(2), np.eye(2))
        env = lqr.env(max_action=0.5)
        assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-0.5, -0.5], [0.5, 0.5])
        outcomes = []
        for a in ([7.0, -0.3], [0.5, -0.3], [0.4, -0.3]):
            env.reset(seed=1)
            s, r, *_ = env.step(np.array(a))
            outcomes.append((*s, r))
        assert outcomes[0] == outcomes[1] != outcomes[2]
        env.reset(seed=1)
        low = env.step(np.array([-100.0, -0.5]))
        env.reset(seed=1)
        assert_array_equal(low[0], env.step(np.array([-0.5, -100.0]))[0])

    def test_initial_states_and_noise_have_their_covariances(self):
        """Mean 0, and each entry within six standard errors, √((Σᵢᵢ Σⱼⱼ + Σᵢⱼ²) / N)."""
        initial, noise = (
            np.array([[2, 1, 0], [1, 3, -1], [0, -1, 1.0]]),
            np.array([[0.5, -0.2, 0], [-0.2, 0.3, 0], [0, 0, 0]]),
        )
        env = LQR(np.eye(3) / 2, [[1], [0], [1]], np.eye(3), [[1]], 0.9, initial, noise).env()
        n, first, drawn = 4000, [], []
        for e in range(n):
            s, _ = env.reset(seed=0 if e == 0 else None)
            first.append(s)
            drawn.append(env.step(np.array([2.0]))[0] - s / 2 - [2, 0, 2])
        for samples, expected in ((np.array(first), initial), (np.array(drawn), noise)):
            sizes = np.diag(expected)
            assert (abs(samples.mean(axis=0)) <= 6 * np.sqrt(sizes / n) + 1e-12).all()
            assert (
                abs(samples.T @ samples / n - expected)
                <= 6 * np.sqrt((np.outer(sizes, sizes) + expected**2) / n) + 1e-12
            ).all()
        assert abs(np.mean([s @ e for s, e in zip(first, drawn, strict=True)])) < 6 * np.sqrt(
            (initial * noise).sum() / n
        )

    def test_without_noise_the_next_state_is_certain(self):
        """And an initial covariance of rank 1 puts the initial states on a line."""
        line = np.array([1.0, -2, 0.5])
        env = LQR(
            np.eye(3) / 2, np.ones((3, 1)), np.eye(3), [[1]], 0.9, np.outer(line, line), np.zeros((3, 3))
        ).env()
        for seed in range(20):
            s, _ = env.reset(seed=seed)
            assert_allclose(s, s[0] * line, atol=1e-7)
            assert_allclose(env.step(np.array([0.5]))[0], s / 2 + 0.5, rtol=1e-12)


def test_the_cart_obeys_newtons_law():
    """Position and velocity after 0.1 s of constant force, from the differential equation."""
    exact = expm(0.1 * np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    lqr = cart(gamma=0.8, noise_variance=0.3)
    assert_allclose(np.hstack([lqr.A, lqr.B]), exact[:2], atol=1e-15)
    assert lqr.gamma == 0.8
    assert_array_equal(lqr.noise_covariance, [[0, 0], [0, 0.3]])
    assert cart().gamma == 0.95


GOOD = {
    "A": np.eye(2),
    "B": [[0], [1]],
    "C": np.eye(2),
    "R": [[1]],
    "gamma": 0.9,
    "initial_covariance": np.eye(2),
    "noise_covariance": np.eye(2),
}
NOT_FINITE = [[1, np.nan], [np.nan, 1]]
ASYMMETRIC = [[1, 0.5], [0, 1]]
NEGATIVE = [[1, 2], [2, 1]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"B": [0, 1]}, "B must be finite, of shape (n, D), got shape (2,)"),
        ({"B": np.zeros((2, 1, 1))}, "B must be finite, of shape (n, D), got shape (2, 1, 1)"),
        ({"B": np.zeros((3, 1))}, "A must be finite, of shape (3, 3), got shape (2, 2)"),
        ({"A": np.eye(3)}, "A must be finite, of shape (2, 2), got shape (3, 3)"),
        ({"A": np.zeros((2, 1))}, "A must be finite, of shape (2, 2), got shape (2, 1)"),
        ({"A": NOT_FINITE}, "A must be finite, of shape (2, 2), got shape (2, 2): [[ 1. nan]"),
        ({"A": [[1, 0], [0, np.inf]]}, "A must be finite, of shape (2, 2), got shape (2, 2)"),
        ({"C": [1, 1]}, "C must be finite, of shape (2, 2), got shape (2,)"),
        ({"C": NOT_FINITE}, "C must be finite"),
        ({"C": ASYMMETRIC}, "C must be symmetric positive semidefinite, got [[1.  0.5]"),
        ({"C": NEGATIVE}, "C must be symmetric positive semidefinite, got [[1. 2.]"),
        ({"R": 1}, "R must be finite, of shape (1, 1), got shape (): 1.0"),
        ({"R": np.eye(2)}, "R must be finite, of shape (1, 1), got shape (2, 2)"),
        ({"R": [[np.inf]]}, "R must be finite"),
        ({"R": [[-1]]}, "R must be symmetric positive definite, got [[-1.]]"),
        ({"R": [[0]]}, "R must be symmetric positive definite, got [[0.]]"),
        ({"R": np.diag([1, 0]), "B": np.eye(2)}, "R must be symmetric positive definite"),
        ({"R": ASYMMETRIC, "B": np.eye(2)}, "R must be symmetric positive definite"),
        ({"R": NEGATIVE, "B": np.eye(2)}, "R must be symmetric positive definite"),
        (
            {"initial_covariance": [[1]]},
            "initial_covariance must be finite, of shape (2, 2), got shape (1, 1)",
        ),
        ({"initial_covariance": NOT_FINITE}, "initial_covariance must be finite"),
        ({"initial_covariance": ASYMMETRIC}, "initial_covariance must be symmetric positive semidefinite"),
        ({"initial_covariance": NEGATIVE}, "initial_covariance must be symmetric positive semidefinite"),
        ({"noise_covariance": 0.1}, "noise_covariance must be finite, of shape (2, 2), got shape ()"),
        ({"noise_covariance": NOT_FINITE}, "noise_covariance must be finite"),
        ({"noise_covariance": ASYMMETRIC}, "noise_covariance must be symmetric positive semidefinite"),
        ({"noise_covariance": -np.eye(2)}, "noise_covariance must be symmetric positive semidefinite"),
        ({"gamma": 1}, "gamma must be in [0, 1), got 1"),
        ({"gamma": -0.1}, "gamma must be in [0, 1), got -0.1"),
        ({"gamma": np.nan}, "gamma must be in [0, 1), got nan"),
    ],
)
def test_bad_systems_are_named(wrong, message):
    LQR(**GOOD)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        LQR(**GOOD | wrong)


@pytest.mark.parametrize("rank", [1, 3])
def test_rounding_errors_in_covariances_are_tolerated(rank):
    """In large numbers the last digit may be wrong, and with it a symmetry or an eigenvalue of 0."""
    rng = np.random.default_rng(0)
    root = 1000 * rng.normal(size=(3, rank))
    covariance = root @ np.diag(rng.uniform(1, 2, rank)) @ root.T
    lqr = LQR(np.eye(3) / 2, np.eye(3), np.eye(3), np.eye(3), 0.9, covariance, covariance)
    s, _ = lqr.env().reset(seed=0)
    assert np.isfinite(s).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda lqr, K: lqr.values(K),
        lambda lqr, K: lqr.V(K, np.zeros((1, 2))),
        lambda lqr, K: lqr.Q(K, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda lqr, K: lqr.dQ_da(K, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda lqr, K: lqr.J(K),
        lambda lqr, K: lqr.discounted_second_moment(K),
        lambda lqr, K: lqr.gradient(K),
    ],
    ids=["values", "V", "Q", "dQ_da", "J", "discounted_second_moment", "gradient"],
)
@pytest.mark.parametrize(
    ("K", "message"),
    [
        ([[1], [1]], "K must be finite, of shape (1, 2), got shape (2, 1)"),
        ([1, 1], "K must be finite, of shape (1, 2), got shape (2,)"),
        ([[0, 0]], "K must keep the spectral radius of √γ (A − BK) below 1, got 1 with K = [[0. 0.]]"),
        ([[0, 9]], "K must keep the spectral radius of √γ (A − BK) below 1, got 3.5 with K = [[0. 9.]]"),
        ([[0, np.nan]], "K must "),
        ([[np.inf, 0]], "K must "),
    ],
)
def test_bad_gains_are_named(call, K, message):
    """√γ A is diag(½, 1); an eigenvalue of exactly 1 is too much already."""
    lqr = LQR(**GOOD | {"A": np.diag([1, 2]), "gamma": 0.25})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call(lqr, K)


def test_a_gain_that_is_just_stable_is_accepted():
    lqr = LQR([[2]], [[1]], [[1]], [[1]], 0.25, [[1]], [[0]])
    K = 2e-6
    assert lqr.J([[K]]) == pytest.approx(-(1 + K**2) / (1 - 0.25 * (2 - K) ** 2))


@pytest.mark.parametrize("gamma", [0.9, 0.25])
def test_without_a_stable_gain_there_is_no_optimal_one(gamma):
    """The first state variable doubles and cannot be controlled; with γ = ¼, √γ · 2 = 1 is too much."""
    lqr = LQR(**GOOD | {"A": np.diag([2, 0.5]), "gamma": gamma})
    with pytest.raises(ValueError, match="A, B and C must let some gain keep the costs finite, got A"):
        lqr.optimal_gain()
    assert np.isfinite(LQR(**GOOD | {"A": np.diag([1.9, 0.5]), "gamma": 0.25}).optimal_gain()).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_steps": 0}, "n_steps must be a whole number of at least 1, got 0"),
        ({"n_steps": -3}, "n_steps must be a whole number of at least 1, got -3"),
        ({"max_action": 0}, "max_action must be a positive number, got 0"),
        ({"max_action": -1.0}, "max_action must be a positive number, got -1.0"),
        ({"max_action": np.inf}, "max_action must be a positive number, got inf"),
        ({"max_action": np.nan}, "max_action must be a positive number, got nan"),
    ],
)
def test_bad_environments_are_named(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        cart().env(**wrong)


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"noise_variance": -0.01}])
def test_bad_carts_are_named(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be "):
        cart(**wrong)


@pytest.mark.parametrize("action", [[np.nan], 1.0, [1.0, 2.0], "text", None])
def test_an_action_that_is_none_is_named(action):
    env = cart().env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action must "):
        env.step(action)


def test_an_infinite_action_is_clipped_as_any_large_one():
    env = cart().env(max_action=2)
    rewards = []
    for action in (np.inf, 2.0):
        env.reset(seed=0)
        rewards.append(env.step([action])[1])
    assert rewards[0] == rewards[1]


def test_states_whose_value_would_overflow_are_named():
    K = cart().optimal_gain()
    with pytest.raises(ValueError, match=r"^s must have a finite value, got numbers up to 1e\+300$"):
        cart().V(K, np.array([[1e300, 0.0]]))
    with pytest.raises(ValueError, match=r"^s and a must be as many states as actions"):
        cart().Q(K, np.zeros((3, 2)), np.zeros((2, 1)))
