"""Linear worlds against sums over time, term by term; against differences, autograd and closed forms; and against being played."""

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
N_STEPS = 160  # 0.8¹⁶⁰ is 3 · 10⁻¹⁶: what comes later counts for nothing in the worlds drawn here


def covariance(rng, n, rank):
    root = rng.normal(size=(n, rank))
    product = root @ root.T
    return (product + product.T) / 2


def widest(matrix):
    """The largest factor by which a matrix stretches what it maps onto itself."""
    return abs(np.linalg.eigvals(matrix)).max()


@st.composite
def linear_worlds(draw):
    """Draw a world, which may grow, but no faster than the discount shrinks it; a gain that lets it be so; states, actions.

    Start, noise and what states cost may be of any rank, so that some directions have none of it.
    """
    n, D, rng = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        np.random.default_rng(draw(st.integers(0, 2**32))),
    )
    gamma = draw(st.floats(0.1, 0.8))
    ranks = [draw(st.integers(0, n)) for _ in range(3)]
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, D))
    A *= rng.uniform(0.2, 0.8) / widest(A) / np.sqrt(gamma)
    C, start, noise = (covariance(rng, n, rank) for rank in ranks)
    world = LQR(A, B, C, covariance(rng, D, D) + np.eye(D) / 4, gamma, start, noise)
    K = 2 * rng.normal(size=(D, n))
    while np.sqrt(gamma) * widest(A - B @ K) > 0.85:
        K /= 2
    return SimpleNamespace(world=world, K=K, s=rng.normal(size=(4, n)), a=rng.normal(size=(4, D)))


def unstable_world(seed, n, D):
    """A world that grows if it is left alone; all states cost something, so that it has to be held."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= 1.1 / widest(A) / np.sqrt(0.9)
    C, R = (covariance(rng, k, k) + np.eye(k) / 2 for k in (n, D))
    return LQR(
        A, rng.normal(size=(n, D)), C, R, 0.9, covariance(rng, n, n) + np.eye(n) / 10, covariance(rng, n, n)
    )


def close(one, other, rtol):
    """Equal to within rtol, as measured by the largest number in either."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert_allclose(
        one, other, rtol=0, atol=rtol * max(1, np.abs(one).max(), np.abs(other).max()), strict=True
    )


def tensors(world):
    return SimpleNamespace(
        **{name: torch.tensor(getattr(world, name)) for name in ("A", "B", "C", "R", "start", "noise")}
    )


def mean_reward(t, mean, spread, a, spread_a):
    """E[r] for states and actions of these means, shapes (N, n) and (N, D), and covariances, shapes (n, n) and (D, D)."""
    return -(
        ((mean @ t.C) * mean).sum(1) + (t.C * spread).sum() + ((a @ t.R) * a).sum(1) + (t.R * spread_a).sum()
    )


def return_by_hand(world, K, mean, spread):
    """The sum of γⁱ E[rᵢ], from the means, shape (N, n), and the covariance of s₀: both are carried on from step to step, in PyTorch."""
    t = tensors(world)
    total = 0
    for i in range(N_STEPS):
        a = -mean @ K.T
        total = total + world.gamma**i * mean_reward(t, mean, spread, a, K @ spread @ K.T)
        closed = t.A - t.B @ K
        mean, spread = mean @ t.A.T + a @ t.B.T, closed @ spread @ closed.T + t.noise
    return total


def J_by_hand(world, K):
    t = tensors(world)
    return return_by_hand(world, K, torch.zeros(1, len(t.A), dtype=torch.float64), t.start)[0]


def V_by_hand(world, K, s):
    return return_by_hand(world, K, s, torch.zeros_like(tensors(world).A))


def Q_by_hand(world, K, s, a):
    t = tensors(world)
    now = mean_reward(t, s, torch.zeros_like(t.C), a, torch.zeros_like(t.R))
    return now + world.gamma * return_by_hand(world, K, s @ t.A.T + a @ t.B.T, t.noise)


def points(spread):
    """States, shape (2n, n), of mean 0 and of that covariance, all as probable: they stand for it wherever only squares are averaged."""
    sizes, axes = np.linalg.eigh(spread)
    columns = np.sqrt(len(spread)) * (axes * np.sqrt(sizes.clip(0))).T
    return np.concatenate([columns, -columns])


def courses(world, K, n_courses, n_steps, rng):
    """States of that many courses under a = −K s, shape (n_steps, n_courses, n)."""
    n = len(world.A)
    draw = [
        rng.multivariate_normal(np.zeros(n), spread, n_courses * times)
        for spread, times in ((world.start, 1), (world.noise, n_steps))
    ]
    s, noise = draw[0], draw[1].reshape(n_steps, n_courses, n)
    states = []
    for e in noise:
        states.append(s)
        s = s @ world.A.T - s @ K.T @ world.B.T + e
    return np.stack(states)


def assert_mean(samples, expected):
    """Within six standard errors, each number of it, rounding aside."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert (abs(samples.mean(axis=0) - expected) <= 6 * error + 1e-9).all()


class TestWhatAGainIsWorth:
    @reproducible
    @given(linear_worlds())
    def test_J_V_and_Q_are_the_sums_over_time(self, drawn):
        world, K = drawn.world, drawn.K
        t, s, a = torch.tensor(K), torch.tensor(drawn.s), torch.tensor(drawn.a)
        close(world.J(K), J_by_hand(world, t), 1e-11)
        close(world.V(K, drawn.s), V_by_hand(world, t, s), 1e-11)
        close(world.Q(K, drawn.s, drawn.a), Q_by_hand(world, t, s, a), 1e-11)

    @reproducible
    @given(linear_worlds())
    def test_V_Q_and_J_say_the_same(self, drawn):
        """V(s) = Q(s, −K s); Q(s, a) = r + γ E V(s'); J = E V(s₀)."""
        world, K, s, a = drawn.world, drawn.K, drawn.s, drawn.a
        V = world.V(K, s)
        assert V.shape == (4,)
        close(world.Q(K, s, -s @ K.T), V, 1e-11)
        after, r = (
            s @ world.A.T + a @ world.B.T,
            [-(s_k @ world.C @ s_k + a_k @ world.R @ a_k) for s_k, a_k in zip(s, a, strict=True)],
        )
        expected = [
            r_k + world.gamma * world.V(K, s_k + points(world.noise)).mean()
            for s_k, r_k in zip(after, r, strict=True)
        ]
        close(world.Q(K, s, a), expected, 1e-11)
        close(world.J(K), world.V(K, points(world.start)).mean(), 1e-11)

    @reproducible
    @given(linear_worlds())
    def test_values_are_a_matrix_and_what_the_noise_costs(self, drawn):
        world, K = drawn.world, drawn.K
        P, c = world.values(K)
        close(P, P.T, 1e-12)
        assert np.linalg.eigvalsh(P).min() >= -1e-12 * abs(P).max()  # nothing but costs
        assert isinstance(c, float)
        assert isinstance(world.J(K), float)
        close(world.V(K, np.zeros((1, len(P)))), [-c], 1e-12)
        close(world.V(K, drawn.s), [-s @ P @ s - c for s in drawn.s], 1e-12)

    @reproducible
    @given(linear_worlds())
    def test_visits_are_the_sum_over_time(self, drawn):
        world, K = drawn.world, drawn.K
        closed, spread, total = world.A - world.B @ K, world.start, 0
        for i in range(N_STEPS):
            total = total + world.gamma**i * spread
            spread = closed @ spread @ closed.T + world.noise
        close(world.visits(K), total, 1e-11)

    @pytest.mark.parametrize(("A", "K"), [(0.5, 0.3), (1.2, 0.6), (-1.2, -0.1), (0.7, 0.0), (1.0, 2.9)])
    def test_one_number_is_a_geometric_series(self, A, K):
        """P = (C + R K²) / (1 − γ (A − B K)²), and likewise the visits."""
        world = LQR([[A]], [[0.5]], [[2]], [[3]], 0.6, [[4]], [[5]])
        left = 1 - 0.6 * (A - 0.5 * K) ** 2
        P, visits = (2 + 3 * K**2) / left, (4 + 0.6 / 0.4 * 5) / left
        assert world.values([[K]]).P.item() == pytest.approx(P)
        assert world.visits([[K]]).item() == pytest.approx(visits)
        assert world.J([[K]]) == pytest.approx(-P * 4 - 0.6 / 0.4 * P * 5)
        assert world.gradient([[K]]).item() == pytest.approx(
            -2 * (3 * K - 0.6 * 0.5 * P * (A - 0.5 * K)) * visits
        )

    def test_without_a_future_only_the_first_step_counts(self):
        """With γ = 0 any gain may be asked for, and to do nothing is best."""
        world, K = (
            LQR([[3, 1], [0, 2]], [[1], [1]], np.diag([1, 2]), [[3]], 0, np.diag([4, 5]), np.eye(2)),
            np.array([[7.0, -8.0]]),
        )
        s, a = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([[2.0], [-1.0]])
        assert world.J(K) == pytest.approx(-(4 + 2 * 5 + 3 * (7**2 * 4 + 8**2 * 5)))
        assert_allclose(world.Q(K, s, a), [-(1 + 2 + 3 * 4), -(4 + 2 * 0.25 + 3 * 1)])
        assert_allclose(world.Q_slope(K, s, a), -2 * 3 * a)
        assert_allclose(world.visits(K), world.start)
        assert_allclose(world.best(), [[0, 0]], atol=1e-12)

    def test_lists_of_integers_will_do(self):
        world = LQR([[1]], [[1]], [[1]], [[1]], 0.5, [[1]], [[0]])
        P = 1 + 1 + 0.5 * 0  # one step, and then it rests
        assert_allclose(world.V([[1]], [[3], [0]]), [-9 * P, 0])
        assert_allclose(world.Q([[1]], [[3]], [[-2]]), [-(9 + 4) - 0.5 * P])
        assert_allclose(world.Q_slope([[1]], [[3]], [[-2]]), [[-2 * (-2 + 0.5 * P * 1)]])


class TestSlopes:
    @reproducible
    @given(linear_worlds())
    def test_slope_of_Q_is_what_differences_and_autograd_say(self, drawn):
        """Q is quadratic in a, so that the difference is right with any step."""
        world, K, s, a = drawn.world, drawn.K, drawn.s, drawn.a
        slope = world.Q_slope(K, s, a)
        steps = np.eye(a.shape[1])
        close(
            slope,
            np.stack([(world.Q(K, s, a + step) - world.Q(K, s, a - step)) / 2 for step in steps], axis=1),
            1e-11,
        )
        t = torch.tensor(a, requires_grad=True)
        Q_by_hand(world, torch.tensor(K), torch.tensor(s), t).sum().backward()
        close(slope, t.grad, 1e-11)

    @reproducible
    @given(linear_worlds())
    def test_gradient_is_what_differences_and_autograd_say(self, drawn):
        world, K = drawn.world, drawn.K
        gradient = world.gradient(K)
        t = torch.tensor(K, requires_grad=True)
        J_by_hand(world, t).backward()
        close(gradient, t.grad, 1e-10)
        differences = np.empty_like(K)
        for k in np.ndindex(*K.shape):
            step = np.zeros_like(K)
            step[k] = 1e-5
            differences[k] = (world.J(K + step) - world.J(K - step)) / 2e-5
        close(gradient, differences, 1e-6)

    @reproducible
    @given(linear_worlds())
    def test_gradient_is_slide_65s_product_summed_over_all_states_there_will_be(self, drawn):
        """∂J/∂K = Σᵢ γⁱ E[∂Q/∂a · ∂a/∂K] at a = −K s, where ∂a/∂K is −s: theorem 1."""
        world, K = drawn.world, drawn.K
        closed, spread, states, weights = world.A - world.B @ K, world.start, [], []
        for i in range(N_STEPS):
            states.append(points(spread))
            weights += [world.gamma**i / len(states[-1])] * len(states[-1])
            spread = closed @ spread @ closed.T + world.noise
        s = np.concatenate(states)
        close(world.gradient(K), np.einsum("t,td,tn->dn", weights, world.Q_slope(K, s, -s @ K.T), -s), 1e-10)

    @pytest.mark.parametrize("seed", range(3))
    def test_gradient_and_visits_are_also_what_courses_show_on_average(self, seed):
        rng = np.random.default_rng(seed)
        world = LQR(
            [[0.9, 0.4], [-0.2, 0.8]],
            [[0, 0.5], [1, 0]],
            np.diag([1, 0.3]),
            np.diag([0.5, 0.2]),
            0.7,
            np.eye(2),
            np.eye(2) / 9,
        )
        K = 0.3 * rng.normal(size=(2, 2))
        assert widest(world.A - world.B @ K) < 1.1
        s = courses(world, K, 4000, 60, rng)  # 0.7⁶⁰ is 5 · 10⁻¹⁰
        weights = world.gamma ** np.arange(60)
        slope = world.Q_slope(K, s.reshape(-1, 2), -s.reshape(-1, 2) @ K.T).reshape(s.shape)
        assert_mean(np.einsum("i,ied,ien->edn", weights, slope, -s), world.gradient(K))
        assert_mean(np.einsum("i,iem,ien->emn", weights, s, s), world.visits(K))


class TestBest:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n", "D"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
    def test_it_is_where_value_iteration_ends(self, seed, n, D):
        """From P = 0, the costs of no step, of one, of two, …, each with the action that is best for what comes after."""
        world = unstable_world(seed, n, D)
        P = np.zeros((n, n))
        for _ in range(1000):
            ahead = world.gamma * world.B.T @ P
            K = np.linalg.inv(world.R + ahead @ world.B) @ ahead @ world.A
            closed = world.A - world.B @ K
            P = world.C + K.T @ world.R @ K + world.gamma * closed.T @ P @ closed
        close(world.best(), K, 1e-9)
        close(world.values(world.best()).P, P, 1e-9)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n", "D"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
    def test_no_gain_near_it_and_no_other_action_is_better(self, seed, n, D):
        """Where no single action would be better than the policy's own, in no state, no policy of any form is (Bellman)."""
        world, rng = unstable_world(seed, n, D), np.random.default_rng(seed)
        K = world.best()
        J = world.J(K)
        assert abs(world.gradient(K)).max() < 1e-9 * (1 + abs(J)) * (1 + abs(world.visits(K)).max())
        for size in (1e-3, 1e-2, 0.1):
            other = K + size * rng.normal(size=K.shape)
            if np.sqrt(world.gamma) * widest(world.A - world.B @ other) < 1:
                assert world.J(other) < J
        s = 3 * rng.normal(size=(200, n))
        V = world.V(K, s)
        for size in (1e-3, 0.1, 1, 10):
            a = -s @ K.T + size * rng.normal(size=(200, D))
            assert (world.Q(K, s, a) < V).all()
        close(world.Q_slope(K, s, -s @ K.T), np.zeros((200, D)), 1e-9 * (1 + abs(V).max()))

    @pytest.mark.parametrize(
        ("A", "B", "C", "R"),
        [(1.5, 1, 1, 1), (0.5, -2, 3, 0.1), (1.2, 0.1, 0.5, 4), (1, 1, 0, 1), (0, 1, 1, 1)],
    )
    def test_with_one_number_it_is_the_root_of_a_quadratic(self, A, B, C, R):
        """γ B² P² + (R − γ B² C − γ A² R) P − C R = 0, of which the larger root is P."""
        gamma = 0.8
        world = LQR([[A]], [[B]], [[C]], [[R]], gamma, [[1]], [[1]])
        P = max(np.roots([gamma * B**2, R - gamma * B**2 * C - gamma * A**2 * R, -C * R]))
        assert world.best().item() == pytest.approx(gamma * A * B * P / (R + gamma * B**2 * P), abs=1e-12)
        assert world.values(world.best()).P.item() == pytest.approx(P, abs=1e-12)

    @reproducible
    @given(linear_worlds())
    def test_no_gain_at_all_is_better(self, drawn):
        best = drawn.world.J(drawn.world.best())
        assert drawn.world.J(drawn.K) <= best + 1e-9 * (1 + abs(best))

    def test_it_depends_neither_on_the_noise_nor_on_the_start(self):
        A, B, C, R = [[1, 0.1], [0, 1]], [[0.005], [0.1]], np.eye(2), [[1]]
        quiet, loud = (LQR(A, B, C, R, 0.9, size * np.eye(2), size * np.eye(2)) for size in (0, 10))
        assert_array_equal(quiet.best(), loud.best())

    def test_gradient_ascent_gets_there(self):
        """From no gain at all."""
        world = LQR(
            [[1, 0.3], [0, 0.9]], [[0.1], [0.5]], np.diag([1, 0.1]), [[0.5]], 0.8, np.eye(2), np.eye(2) / 10
        )
        K = np.zeros((1, 2))
        for _ in range(1500):
            K = K + 0.02 * world.gradient(K)
        assert abs(world.best()).max() > 0.5
        assert_allclose(K, world.best(), atol=1e-6)

    def test_the_cart_is_held_best_by_it(self):
        world = cart()
        K = world.best()
        assert abs(world.gradient(K)).max() < 1e-8
        assert (K > 0).all()  # it is pushed back to the middle, and slowed down
        assert world.J(K) > max(world.J(K * share) for share in (0.5, 0.9, 1.1, 2))


def played(env, K, n_episodes, gamma, seed):
    """The discounted return of each episode with a = −K s."""
    returns = []
    for e in range(n_episodes):
        s, _ = env.reset(seed=seed if e == 0 else None)
        G, weight, over = 0.0, 1.0, False
        while not over:
            s, r, terminated, over, _ = env.step(-K @ s)
            assert not terminated
            G, weight = G + weight * r, weight * gamma
        returns.append(G)
    return np.array(returns)


class TestEnv:
    @pytest.mark.filterwarnings(
        "ignore:.*Box (action space|observation space m)"
    )  # it likes them to be small, and to have bounds
    @pytest.mark.parametrize("world", [cart(), unstable_world(0, 3, 2)], ids=["cart", "random"])
    def test_gymnasium_has_no_other_complaints(self, world):
        check_env(world.env(), skip_render_check=True)

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("kind", ["", "no noise", "no start", "start and noise of rank 1"])
    def test_its_mean_discounted_return_is_J(self, kind, seed):
        rng = np.random.default_rng(seed)
        start, noise = covariance(rng, 2, 2), covariance(rng, 2, 2)
        if kind == "no noise":
            noise = np.zeros((2, 2))
        elif kind == "no start":
            start = np.zeros((2, 2))
        elif kind:
            start, noise = covariance(rng, 2, 1), np.diag([0, 1])
        world = LQR([[1, 0.3], [-0.2, 1.1]], [[0.5], [1]], np.diag([1, 0.3]), [[0.4]], 0.6, start, noise)
        K = world.best() + 0.1 * rng.normal(size=(1, 2))
        G = played(world.env(40, reach=1e6), K, 500, 0.6, seed)  # 0.6⁴⁰ is 10⁻⁹
        assert_mean(G, world.J(K))

    @pytest.mark.parametrize("n_steps", [1, 2, 7])
    def test_episodes_are_cut_off_and_never_end(self, n_steps):
        env = cart().env(n_steps)
        for _ in range(3):
            env.reset(seed=0)
            ends = [env.step(np.zeros(1))[2:4] for _ in range(n_steps)]
            assert ends == [(False, False)] * (n_steps - 1) + [(False, True)]

    def test_they_are_of_fifty_steps_unless_asked_otherwise(self):
        env = cart().env()
        env.reset(seed=0)
        assert [env.step(np.zeros(1))[3] for _ in range(50)] == [False] * 49 + [True]
        assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-10], [10])

    def test_the_same_seed_gives_the_same_course(self):
        world = unstable_world(1, 3, 2)
        a = np.random.default_rng(0).normal(size=(8, 2))

        def course(env, seed):
            return [env.reset(seed=seed)[0], *(env.step(a_i)[0] for a_i in a)]

        env = world.env()
        assert_array_equal(course(env, 5), course(env, 5))
        assert_array_equal(course(env, 5), course(world.env(), 5))
        assert (np.array(course(env, 5)) != course(env, 6)).all()
        assert (np.array(course(env, None)) != course(env, None)).all()

    def test_a_step_is_the_formula_of_the_modules_docstring(self):
        """Without noise, to the last digit but one; and what a step returned is not changed by the next."""
        world = LQR(
            [[0.5, 1], [-1, 0.2]],
            [[1, 0], [2, 3]],
            [[2, 1], [1, 3]],
            [[1, 0.5], [0.5, 2]],
            0.9,
            np.eye(2),
            np.zeros((2, 2)),
        )
        env = world.env(5)
        s, _ = env.reset(seed=3)
        seen, kept = [s], [s.copy()]
        for a in np.random.default_rng(0).normal(size=(5, 2)):
            after, r, *_ = env.step(a)
            cost = sum(
                s[i] * world.C[i, j] * s[j] + a[i] * world.R[i, j] * a[j] for i in range(2) for j in range(2)
            )
            assert r == pytest.approx(-cost, rel=1e-12)
            assert isinstance(r, float)
            assert_allclose(
                after,
                [sum(world.A[i, j] * s[j] + world.B[i, j] * a[j] for j in range(2)) for i in range(2)],
                rtol=1e-12,
            )
            assert after.dtype == np.float64
            assert env.observation_space.contains(after)
            s = after
            seen.append(after)
            kept.append(after.copy())
        assert_array_equal(seen, kept)

    def test_what_is_beyond_reach_is_cut_off(self):
        world = LQR(np.eye(2), np.eye(2), np.eye(2), np.diag([1, 2]), 0.9, np.eye(2), np.eye(2))
        env = world.env(reach=0.5)
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

    def test_first_states_and_noise_have_the_covariances_asked_for(self):
        """Mean 0, and each entry within six standard errors, √((Σᵢᵢ Σⱼⱼ + Σᵢⱼ²) / N)."""
        start, noise = (
            np.array([[2, 1, 0], [1, 3, -1], [0, -1, 1.0]]),
            np.array([[0.5, -0.2, 0], [-0.2, 0.3, 0], [0, 0, 0]]),
        )
        env = LQR(np.eye(3) / 2, [[1], [0], [1]], np.eye(3), [[1]], 0.9, start, noise).env()
        n, first, drawn = 4000, [], []
        for e in range(n):
            s, _ = env.reset(seed=0 if e == 0 else None)
            first.append(s)
            drawn.append(env.step(np.array([2.0]))[0] - s / 2 - [2, 0, 2])
        for samples, expected in ((np.array(first), start), (np.array(drawn), noise)):
            sizes = np.diag(expected)
            assert (abs(samples.mean(axis=0)) <= 6 * np.sqrt(sizes / n) + 1e-12).all()
            assert (
                abs(samples.T @ samples / n - expected)
                <= 6 * np.sqrt((np.outer(sizes, sizes) + expected**2) / n) + 1e-12
            ).all()
        assert abs(np.mean([s @ e for s, e in zip(first, drawn, strict=True)])) < 6 * np.sqrt(
            (start * noise).sum() / n
        )

    def test_where_there_is_no_spread_there_is_no_chance(self):
        """A start of rank 1 lies on a line; without noise, all that follows is certain."""
        line = np.array([1.0, -2, 0.5])
        env = LQR(
            np.eye(3) / 2, np.ones((3, 1)), np.eye(3), [[1]], 0.9, np.outer(line, line), np.zeros((3, 3))
        ).env()
        for seed in range(20):
            s, _ = env.reset(seed=seed)
            assert_allclose(s, s[0] * line, atol=1e-7)
            assert_allclose(env.step(np.array([0.5]))[0], s / 2 + 0.5, rtol=1e-12)


def test_the_cart_moves_as_newton_says():
    """Place and speed under a constant push for a tenth of a second, from the differential equation."""
    exact = expm(0.1 * np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    world = cart(gamma=0.8, noise=0.3)
    assert_allclose(np.hstack([world.A, world.B]), exact[:2], atol=1e-15)
    assert world.gamma == 0.8
    assert_array_equal(world.noise, [[0, 0], [0, 0.3]])
    assert cart().gamma == 0.95


GOOD = {
    "A": np.eye(2),
    "B": [[0], [1]],
    "C": np.eye(2),
    "R": [[1]],
    "gamma": 0.9,
    "start": np.eye(2),
    "noise": np.eye(2),
}
NOT_FINITE = [[1, np.nan], [np.nan, 1]]
LOPSIDED = [[1, 0.5], [0, 1]]
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
        ({"C": LOPSIDED}, "C must be symmetric with no negative eigenvalues, got [[1.  0.5]"),
        ({"C": NEGATIVE}, "C must be symmetric with no negative eigenvalues, got [[1. 2.]"),
        ({"R": 1}, "R must be finite, of shape (1, 1), got shape (): 1.0"),
        ({"R": np.eye(2)}, "R must be finite, of shape (1, 1), got shape (2, 2)"),
        ({"R": [[np.inf]]}, "R must be finite"),
        ({"R": [[-1]]}, "R must be symmetric with positive eigenvalues, got [[-1.]]"),
        ({"R": [[0]]}, "R must be symmetric with positive eigenvalues, got [[0.]]"),
        ({"R": np.diag([1, 0]), "B": np.eye(2)}, "R must be symmetric with positive eigenvalues"),
        ({"R": LOPSIDED, "B": np.eye(2)}, "R must be symmetric with positive eigenvalues"),
        ({"R": NEGATIVE, "B": np.eye(2)}, "R must be symmetric with positive eigenvalues"),
        ({"start": [[1]]}, "start must be finite, of shape (2, 2), got shape (1, 1)"),
        ({"start": NOT_FINITE}, "start must be finite"),
        ({"start": LOPSIDED}, "start must be symmetric with no negative eigenvalues"),
        ({"start": NEGATIVE}, "start must be symmetric with no negative eigenvalues"),
        ({"noise": 0.1}, "noise must be finite, of shape (2, 2), got shape ()"),
        ({"noise": NOT_FINITE}, "noise must be finite"),
        ({"noise": LOPSIDED}, "noise must be symmetric with no negative eigenvalues"),
        ({"noise": -np.eye(2)}, "noise must be symmetric with no negative eigenvalues"),
        ({"gamma": 1}, "gamma must be in [0, 1), got 1"),
        ({"gamma": -0.1}, "gamma must be in [0, 1), got -0.1"),
        ({"gamma": np.nan}, "gamma must be in [0, 1), got nan"),
    ],
)
def test_bad_worlds_are_named(wrong, message):
    LQR(**GOOD)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        LQR(**GOOD | wrong)


@pytest.mark.parametrize("rank", [1, 3])
def test_rounding_makes_no_world_bad(rank):
    """Covariances in another unit: large numbers, of which the last digit may be wrong, and with it an eigenvalue of 0 or a symmetry."""
    rng = np.random.default_rng(0)
    root = 1000 * rng.normal(size=(3, rank))
    covariance = root @ np.diag(rng.uniform(1, 2, rank)) @ root.T
    world = LQR(np.eye(3) / 2, np.eye(3), np.eye(3), np.eye(3), 0.9, covariance, covariance)
    s, _ = world.env().reset(seed=0)
    assert np.isfinite(s).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda world, K: world.values(K),
        lambda world, K: world.V(K, np.zeros((1, 2))),
        lambda world, K: world.Q(K, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda world, K: world.Q_slope(K, np.zeros((1, 2)), np.zeros((1, 1))),
        lambda world, K: world.J(K),
        lambda world, K: world.visits(K),
        lambda world, K: world.gradient(K),
    ],
    ids=["values", "V", "Q", "Q_slope", "J", "visits", "gradient"],
)
@pytest.mark.parametrize(
    ("K", "message"),
    [
        ([[1], [1]], "K must be finite, of shape (1, 2), got shape (2, 1)"),
        ([1, 1], "K must be finite, of shape (1, 2), got shape (2,)"),
        ([[0, 0]], "K must keep √γ (A − BK) below 1, or returns have no end, got 1 with K = [[0. 0.]]"),
        ([[0, 9]], "K must keep √γ (A − BK) below 1, or returns have no end, got 3.5 with K = [[0. 9.]]"),
        ([[0, np.nan]], "K must "),
        ([[np.inf, 0]], "K must "),
    ],
)
def test_bad_gains_are_named(call, K, message):
    """√γ A is diag(½, 1): that of exactly 1 is too much, too."""
    world = LQR(**GOOD | {"A": np.diag([1, 2]), "gamma": 0.25})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call(world, K)


def test_a_gain_that_just_holds_is_taken():
    world = LQR([[2]], [[1]], [[1]], [[1]], 0.25, [[1]], [[0]])
    K = 2e-6
    assert world.J([[K]]) == pytest.approx(-(1 + K**2) / (1 - 0.25 * (2 - K) ** 2))


@pytest.mark.parametrize("gamma", [0.9, 0.25])
def test_where_nothing_holds_what_costs_there_is_no_best(gamma):
    """The first number doubles at each step, costs, and cannot be pushed; with γ = ¼ it is √γ · 2 = 1, which is too much, too."""
    world = LQR(**GOOD | {"A": np.diag([2, 0.5]), "gamma": gamma})
    with pytest.raises(ValueError, match="A, B and C must let some gain keep the costs finite, got A"):
        world.best()
    assert np.isfinite(LQR(**GOOD | {"A": np.diag([1.9, 0.5]), "gamma": 0.25}).best()).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_steps": 0}, "n_steps must be a whole number of at least 1, got 0"),
        ({"n_steps": -3}, "n_steps must be a whole number of at least 1, got -3"),
        ({"reach": 0}, "reach must be a positive number, got 0"),
        ({"reach": -1.0}, "reach must be a positive number, got -1.0"),
        ({"reach": np.inf}, "reach must be a positive number, got inf"),
        ({"reach": np.nan}, "reach must be a positive number, got nan"),
    ],
)
def test_bad_environments_are_named(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        cart().env(**wrong)


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"noise": -0.01}])
def test_bad_carts_are_named(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be "):
        cart(**wrong)
