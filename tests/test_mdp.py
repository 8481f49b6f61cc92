"""Worlds whose values, visits, gradients and episodes are also found by loops, by closed forms, and by playing."""

import dataclasses
import re
from collections import Counter
from functools import partial
from itertools import product
from math import sqrt
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog, minimize
from scipy.stats import chi2
from worlds import episodes_by_hand, pi_by_hand, values_and_visits_by_hand, worlds

from pgcourse.algorithms.reinforce import Reinforce
from pgcourse.environments.mdp import MDP
from pgcourse.environments.worlds import (
    access_control,
    chain,
    corridor,
    fog,
    grid,
    random_mdp,
    random_walk,
    treasure,
)
from pgcourse.maths.returns import reward_to_go
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.policies import TabularPolicy

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
few = partial(
    worlds, most_states=3, most_actions=2, longest=4
)  # of which there are at most some thousand episodes
NEVER = "w must let every episode end where there is no discount and no horizon, got a policy under which some never do"

WORLDS = {
    "chain": chain(),
    "chain, discounted": chain(None, 0.9),
    "corridor": corridor(),
    "corridor, for 5 steps": corridor(horizon=5),
    "grid": grid(),
    "fog": fog(),
    "treasure": treasure(),
    "random": random_mdp(4, 3, np.random.default_rng(0), horizon=6, n_seen=2),
}


def logits(p):
    """Logits of two actions, of which the second has probability p."""
    return np.log([1 - p, p])


def zeros(world):
    return np.zeros((world.n_seen, world.n_actions))


def close(one, other, rtol):
    """Equal to within rtol, as measured by the largest number in either."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert_allclose(
        one, other, rtol=0, atol=rtol * max(1, np.abs(one).max(), np.abs(other).max()), strict=True
    )


def keys(episodes):
    """The states and actions of each episode, up to its end."""
    length = episodes.live.sum(axis=1)
    return [
        (tuple(s[: n + 1]), tuple(a[:n]))
        for s, a, n in zip(episodes.s.tolist(), episodes.a.tolist(), length, strict=True)
    ]


def assert_drawn_from(p, drawn):
    """Pearson's test: chi-square beyond this has a probability of 10⁻⁷. What is expected less than 20 times is put together."""
    assert set(drawn) <= set(p)
    expected = np.array(list(p.values())) * len(drawn) / sum(p.values())
    counts = Counter(drawn)
    observed = np.array([counts[key] for key in p])
    rare = expected < 20
    expected, observed = (np.append(n[~rare], n[rare].sum()) for n in (expected, observed))
    expected, observed = expected[expected > 0], observed[expected > 0]
    assert ((observed - expected) ** 2 / expected).sum() < chi2.isf(1e-7, max(1, len(expected) - 1))


class TestExact:
    @reproducible
    @given(worlds())
    def test_values_and_visits_are_the_sums_over_time(self, drawn):
        world, w = drawn
        V, Q, d = values_and_visits_by_hand(world, w)
        values = world.values(w)
        close(values.V, V, 1e-11)
        close(values.Q, Q, 1e-11)
        close(values.A, Q - V[..., None], 1e-11)
        close(world.visits(w), d, 1e-11)
        assert_allclose(world.pi(w), pi_by_hand(world, w), rtol=1e-12)

    @reproducible
    @given(worlds())
    def test_the_identities_between_them_hold(self, drawn):
        """Advantages are 0 on average; J is what is paid wherever one comes by; with no end and γ < 1, Σₛ d(s) = 1 / (1 − γ)."""
        world, w = drawn
        pi, (V, _, A), d, J = world.pi(w), world.values(w), world.visits(w), world.J(w)
        scale = 1 + abs(A).max() + abs(V).max() + d.sum()
        assert_allclose(pi.sum(axis=1), 1)
        assert_allclose((pi * A).sum(axis=-1), 0, atol=1e-13 * scale)
        assert_allclose(J, (d * (pi * world.r).sum(axis=1)).sum(), atol=1e-12 * scale)
        assert (d >= -1e-15).all()
        assert not d[..., world.absorbing].any()
        if not world.absorbing.any():
            if world.horizon:
                assert_allclose(d.sum(axis=1), world.gamma ** np.arange(world.horizon))
            else:
                assert_allclose(d.sum(), 1 / (1 - world.gamma))

    @reproducible
    @given(worlds())
    def test_three_ways_to_the_gradient_agree(self, drawn):
        world, w = drawn
        gradient = world.gradient(w)
        scale = 1 + abs(world.values(w).Q).max() * world.visits(w).sum()
        assert_allclose(world.gradient_by_autograd(w), gradient, rtol=0, atol=1e-13 * scale, strict=True)
        assert_allclose(world.gradient_by_differences(w), gradient, rtol=0, atol=1e-9 * scale, strict=True)
        assert_allclose(
            gradient.sum(axis=1), 0, atol=1e-13 * scale
        )  # π does not change if a row of w does as a whole

    @pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
    def test_they_agree_on_the_worlds_of_the_book(self, world):
        w = np.random.default_rng(1).normal(size=(world.n_seen, world.n_actions)) / 2
        gradient = world.gradient(w)
        close(world.gradient_by_autograd(w), gradient, 1e-10)
        close(world.gradient_by_differences(w), gradient, 1e-8)
        V, Q, d = values_and_visits_by_hand(world, w)
        close(world.values(w).V, V, 1e-11)
        close(world.values(w).Q, Q, 1e-11)
        close(world.visits(w), d, 1e-11)

    def test_the_error_of_the_differences_falls_with_step_to_the_sixth(self):
        world, w = corridor(), np.array([[0.3, -0.2]])
        errors = [
            abs(world.gradient_by_differences(w, step) - world.gradient(w)).max() for step in (0.2, 0.1, 0.05)
        ]
        assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2**6, rtol=0.05)

    def test_a_row_of_w_that_nothing_looks_like_has_no_gradient(self):
        world = dataclasses.replace(chain(), x=[2, 0])
        assert world.n_seen == 3
        w = np.random.default_rng(0).normal(size=(3, 2))
        for gradient in (world.gradient(w), world.gradient_by_autograd(w), world.gradient_by_differences(w)):
            assert_array_equal(gradient[1], 0)
            assert gradient[[0, 2]].all()

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
    def test_looks_may_be_integers_of_any_size(self, dtype):
        world, w = dataclasses.replace(chain(), x=np.array([0, 0], dtype)), np.array([[0.5, 0]])
        close(world.gradient_by_autograd(w), world.gradient(w), 1e-12)

    @pytest.mark.parametrize("horizon", [3, 3.0, np.int32(3), np.float64(3)])
    def test_a_horizon_may_be_any_whole_number(self, horizon):
        world = chain(horizon)
        assert world.values(np.zeros((2, 2))).V.shape == (3, 2)
        assert world.enumerate(np.zeros((2, 2))).a.shape == (64, 3)
        assert type(world.horizon) is int

    def test_gamma_zero_leaves_the_first_reward(self):
        w = np.random.default_rng(0).normal(size=(2, 2))
        for world in (chain(3, 0), chain(None, 0)):
            assert world.J(w) == pytest.approx(-0.2 * world.pi(w)[0, 1])

    def test_a_horizon_far_away_is_none(self):
        w = np.random.default_rng(0).normal(size=(2, 2))
        near, far = chain(None, 0.9), chain(400, 0.9)
        close(far.values(w).V[0], near.values(w).V, 1e-12)
        close(far.visits(w).sum(axis=0), near.visits(w), 1e-12)
        close(far.gradient(w), near.gradient(w), 1e-12)
        close(far.gradient_by_autograd(w), near.gradient_by_autograd(w), 1e-12)


class TestKnown:
    @pytest.mark.parametrize("p", [0.05, 0.3, 2 - sqrt(2), 0.95])
    def test_the_corridor_of_sutton_and_barto(self, p):
        """V₀ = −1 + pV₁ + (1−p)V₀, V₁ = −1 + pV₀ + (1−p)V₂, V₂ = −1 + (1−p)V₁ give V₁ = −(3−p) / p(1−p) and J = V₁ − 1/p."""
        world = corridor()
        assert world.J([logits(p)]) == pytest.approx(-(4 - 2 * p) / (p * (1 - p)), rel=1e-12)

    def test_its_best_and_its_greedy_policies_pay_what_the_book_says(self):
        """Example 13.1: "a value of less than −44 and −82", "about 0.59", "about −11.6"."""
        world, w = corridor(), [logits(2 - sqrt(2))]
        assert world.J(w) == pytest.approx(-(6 + 4 * sqrt(2)), rel=1e-13)
        assert abs(world.gradient(w)).max() < 1e-12
        left, right = (world.J([logits(p)]) for p in (0.05, 0.95))
        assert (round(left), round(right)) == (-82, -44)
        for p, sign in ((0.5, 1), (0.7, -1)):
            back, forward = world.gradient([logits(p)])[0] * sign
            assert back < 0 < forward

    @pytest.mark.parametrize("n", [1, 2, 3, 5])
    def test_corridors_by_hand(self, n):
        """A random walk of n tiles with a wall behind takes n(n+1) steps, whatever is swapped; who is sure of his way takes n."""
        for swapped in ((), (0,), tuple(range(n))):
            for looks in (np.arange(n), np.zeros(n, int)):
                world = corridor(looks, swapped)
                assert world.J(zeros(world)) == pytest.approx(-n * (n + 1))
        sure = np.array([[-9, 9] if tile else [9, -9] for tile in range(n)])
        assert corridor(range(n), (0,)).J(sure) == pytest.approx(-n, abs=1e-6)
        for p in (0.1, 0.8):
            assert corridor((0,), ()).J([logits(p)]) == pytest.approx(-1 / p)
            assert corridor((0,), (0,)).J([logits(p)]) == pytest.approx(-1 / (1 - p))
            assert corridor((0,), (), horizon=2).J([logits(p)]) == pytest.approx(-1 - (1 - p))
            assert corridor((0,), (), gamma=0.5).J([logits(p)]) == pytest.approx(-1 / (1 - 0.5 * (1 - p)))

    @pytest.mark.parametrize("wind", [0, 0.2, 0.7])
    def test_against_the_wind_each_step_takes_1_over_1_minus_wind(self, wind):
        """South as far as it goes, then east: blown to the north one comes to a cell with one step more to go, or stays."""
        world = grid(wind)
        w = 50 * np.array([[0, 0, 1, 0]] * 6 + [[0, 1, 0, 0]] * 3)
        to_go = np.array([4, 3, 2, 3, 2, 1, 2, 1, 0])
        assert_allclose(world.values(w).V, -to_go / (1 - wind), atol=1e-12)
        if wind == 0:
            assert_allclose(world.visits(w), [1, 0, 0, 1, 0, 0, 1, 1, 0], atol=1e-12)

    def test_a_step_on_the_grid_goes_where_it_should(self):
        """Where one walks to, or stays for a wall; and where the wind takes one from there. 4 is in the middle, 0 in the corner."""
        moves = {
            4: [(1, 1), (5, 2), (7, 4), (3, 0)],
            0: [(0, 0), (1, 1), (3, 0), (0, 0)],
            6: [(3, 0), (7, 4), (6, 3), (6, 3)],
            5: [(2, 2), (5, 2), (8, 5), (4, 1)],
        }
        for s, of_s in moves.items():
            for a, (to, blown) in enumerate(of_s):
                assert_allclose(grid(0.3).P[s, a], 0.7 * np.eye(9)[to] + 0.3 * np.eye(9)[blown])

    def test_treasure_by_hand(self):
        """Who goes east where two places look alike gets to the middle from the west, and from the other never."""
        world, sure = treasure(), 1000 * np.eye(3)
        for_ever = -1 / (1 - 0.9)
        east = sure[[1, 1, 2, 0]]  # to the middle from the west; from the fourth place to the last and back
        first, second = -1 - 0.9 + 0.81 * 10, -1 + 0.9 * 10
        assert world.J(east) == pytest.approx(0.4 * first + 0.2 * second + 0.4 * for_ever)
        assert world.J(sure[[2, 1, 2, 2]]) == pytest.approx(
            0.4 * -10 + 0.2 * second + 0.2 * (-1 + 0.9 * -10) + 0.2 * -10
        )
        assert world.J(sure[[2, 2, 2, 2]]) == pytest.approx(0.6 * -10 + 0.4 * for_ever)

    def test_fog_by_hand(self):
        """J = pq + 2(1−p)(1−q), with p and q the probabilities of left at the first and the second fork."""
        world = fog()
        for p, q in np.random.default_rng(0).random((5, 2)):
            w = np.log([[p, 1 - p], [q, 1 - q]])
            assert world.J(w) == pytest.approx(p * q + 2 * (1 - p) * (1 - q))
            slopes = [p * (1 - p) * (3 * q - 2), q * (1 - q) * (3 * p - 2)]
            close(world.gradient(w), np.outer(slopes, [1, -1]).reshape(2, 2), 1e-12)
            close(world.values(w).V, np.array([p * q + 2 * (1 - p) * (1 - q), q, 2 * (1 - q), 0]), 1e-12)

    def test_chain_by_hand(self):
        """Undecided, it crosses over with (0.1 + 0.8) / 2, and earns (0 − 0.2) / 2 in state 0 and (1 − 0.2) / 2 in state 1."""
        world, w = chain(), np.zeros((2, 2))
        assert_allclose(world.visits(w), [[1, 0], [0.55, 0.45], [0.55**2 + 0.45**2, 2 * 0.55 * 0.45]])
        assert world.J(w) == pytest.approx(-0.1 + (-0.055 + 0.18) + (-0.0505 + 0.198))
        assert_allclose(world.values(w).V[2], [-0.1, 0.4])
        assert_allclose(world.values(w).Q[1, 0], [0.9 * -0.1 + 0.1 * 0.4, -0.2 + 0.2 * -0.1 + 0.8 * 0.4])
        assert len(world.enumerate(w).P) == 64

    def test_random_mdps_have_what_is_asked_for(self):
        world = random_mdp(5, 3, np.random.default_rng(0), horizon=7, gamma=0.8, n_seen=2)
        assert (world.n_states, world.n_actions, world.n_seen, world.horizon, world.gamma) == (
            5,
            3,
            2,
            7,
            0.8,
        )
        assert sorted(world.x) == [0, 0, 0, 1, 1]
        assert not world.absorbing.any()
        assert_array_equal(random_mdp(5, 3, np.random.default_rng(0)).x, range(5))
        assert_array_equal(random_mdp(5, 3, np.random.default_rng(0)).P, world.P)
        assert (random_mdp(5, 3, np.random.default_rng(1)).P != world.P).all()

    def test_their_probabilities_are_drawn_evenly(self):
        """From a simplex of 3 corners: each is below t with 1 − (1−t)². To six standard errors of 6,000 that are nearly independent."""
        P = random_mdp(3, 2000, np.random.default_rng(0)).P
        for t in (0.1, 0.3, 0.5, 0.9):
            expected = 1 - (1 - t) ** 2
            assert_allclose(
                (t > P).mean(axis=(0, 1)), expected, atol=6 * sqrt(expected * (1 - expected) / 6000)
            )


class TestEnumerate:
    @settings(reproducible, max_examples=80)
    @given(few(("horizon", "both", "forward")) | worlds(("forward",)))
    def test_it_finds_every_episode_once_with_its_probability(self, drawn):
        world, w = drawn
        episodes, expected = world.enumerate(w), episodes_by_hand(world, w)
        found = keys(episodes)
        assert len(found) == len(set(found)) == len(expected)
        assert_allclose(episodes.P, [expected[key] for key in found], rtol=1e-12)
        assert episodes.P.sum() == pytest.approx(1, rel=1e-12)
        assert_consistent(world, episodes)

    @settings(reproducible, max_examples=60)
    @given(few(("horizon", "both", "forward")))
    def test_what_they_pay_and_where_they_come_by_is_J_values_and_visits(self, drawn):
        """Values as averages of returns, not from Bellman's equation: V of the first state, Q of the first action."""
        world, w = drawn
        s, _, a, r, live, P = world.enumerate(w)
        G = r @ world.gamma ** np.arange(r.shape[1])
        scale = 1 + abs(G).max()
        assert world.J(w) == pytest.approx(P @ G, abs=1e-12 * scale)
        V, Q, _ = (v if world.horizon is None else v[0] for v in world.values(w))
        for first in np.flatnonzero(world.start):
            at = s[:, 0] == first
            assert V[first] == pytest.approx(P[at] @ G[at] / P[at].sum(), abs=1e-12 * scale)
            for k in range(world.n_actions):
                done = at & (a[:, 0] == k)
                assert Q[first, k] == pytest.approx(P[done] @ G[done] / P[done].sum(), abs=1e-11 * scale)
        visits = np.zeros((r.shape[1], world.n_states))
        for i in range(r.shape[1]):
            np.add.at(visits[i], s[live[:, i], i], world.gamma**i * P[live[:, i]])
        assert_allclose(
            world.visits(w).sum(axis=0) if world.horizon else world.visits(w), visits.sum(axis=0), atol=1e-12
        )
        if world.horizon:
            assert_allclose(world.visits(w)[: len(visits)], visits, atol=1e-12)

    @settings(reproducible, max_examples=60)
    @given(few(("horizon", "both", "forward")))
    def test_the_gradient_is_the_average_of_return_times_score(self, drawn):
        """Slides 31–33, in plain loops: Σ P(τ) G(τ) Σᵢ ([k = aᵢ] − π(k∣sᵢ)) in the row of what was seen."""
        world, w = drawn
        pi, expected = pi_by_hand(world, w), zeros(world)
        for (s, a), p in episodes_by_hand(world, w).items():
            G = sum(world.gamma**i * world.r[s[i], a[i]] for i in range(len(a)))
            for s_i, a_i in zip(s, a, strict=False):
                for k in range(world.n_actions):
                    expected[world.x[s_i], k] += p * G * ((k == a_i) - pi[s_i][k])
        close(world.gradient(w), expected, 1e-12)

    def test_some_episodes_end_earlier_than_others(self):
        """One tile, three steps at most: forward at once, after one step back, after two, or never."""
        episodes = corridor((0,), (), horizon=3).enumerate([logits(0.25)])
        order = np.argsort(episodes.live.sum(axis=1) + (episodes.s[:, -1] == 0))
        s, x, a, r, live, P = (column[order] for column in episodes)
        assert s.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
        assert a.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
        assert live.tolist() == [
            [True, False, False],
            [True, True, False],
            [True, True, True],
            [True, True, True],
        ]
        assert_array_equal(r, -1.0 * live)
        assert not x.any()
        assert_allclose(P, [0.25, 0.75 * 0.25, 0.75**2 * 0.25, 0.75**3])

    def test_when_all_have_ended_before_the_horizon_it_stops(self):
        world = dataclasses.replace(fog(), horizon=10)
        assert world.enumerate(np.zeros((2, 2))).a.shape == (4, 2)

    def test_what_the_policy_never_does_has_probability_zero(self):
        episodes = fog().enumerate([[-1000, 1000], [0, 0]])
        assert sorted(episodes.P) == [0, 0, 0.5, 0.5]


def assert_consistent(world, episodes):
    """Each column of an Episodes fits the others and the world."""
    s, x, a, r, live, P = episodes
    n, T = a.shape
    assert [column.shape for column in episodes] == [(n, T + 1), (n, T), (n, T), (n, T), (n, T), (n,)]
    assert live.dtype == bool
    assert ((P >= 0) & (P <= 1)).all()
    assert_array_equal(x, world.x[s[:, :-1]])
    assert_array_equal(r, np.where(live, world.r[s[:, :-1], a], 0))
    assert live[:, 0].all()
    over = world.absorbing[s[:, 1:]]
    assert_array_equal(live[:, 1:], live[:, :-1] & ~over[:, :-1])
    assert (s[:, 1:] == s[:, :-1])[~live].all()


class TestSample:
    @pytest.mark.parametrize("name", ["chain", "fog", "forward", "ends early"])
    def test_episodes_come_as_often_as_they_should(self, name):
        rng = np.random.default_rng(5)
        world = {
            "chain": chain(4, 0.9),
            "fog": fog(),
            "treasure": treasure(),
            "forward": forward(5),
            "ends early": dataclasses.replace(
                random_mdp(3, 2, rng, horizon=3), absorbing=[False, False, True], start=[0.3, 0.7, 0]
            ),
        }[name]
        w = rng.normal(size=(world.n_seen, world.n_actions))
        assert_drawn_from(episodes_by_hand(world, w), keys(world.sample(w, 30_000, rng)))

    @settings(reproducible, max_examples=60)
    @given(worlds(), st.integers(1, 30), st.integers(0, 2**32))
    def test_sampled_episodes_fit_the_world_and_know_their_probability(self, drawn, n, seed):
        world, w = drawn
        needed = world.horizon is None and world.gamma < 1
        episodes = world.sample(w, n, np.random.default_rng(seed), n_steps=6 if needed else None)
        assert_consistent(world, episodes)
        pi = pi_by_hand(world, w)
        for (s, a), P, live in zip(keys(episodes), episodes.P, episodes.live, strict=True):
            p = world.start[s[0]]
            for i, k in enumerate(a):
                p *= pi[s[i]][k] * world.P[s[i], k, s[i + 1]]
            assert p == pytest.approx(P, rel=1e-11)
            assert p > 0
            if not needed:
                assert world.absorbing[s[-1]] or len(a) == world.horizon
            assert not world.absorbing[list(s[:-1])].any()
            assert live.sum() == len(a)

    def test_a_cut_is_a_horizon(self):
        """The same draws, and episodes that go on are live to the last."""
        world, w = corridor((0, 0), ()), np.zeros((1, 2))
        cut = world.sample(w, 500, np.random.default_rng(0), n_steps=3)
        for one, other in zip(
            cut, dataclasses.replace(world, horizon=3).sample(w, 500, np.random.default_rng(0)), strict=True
        ):
            assert_array_equal(one, other)
        assert cut.a.shape == (500, 3)
        assert (cut.live.all(axis=1) | world.absorbing[cut.s[:, -1]]).all()
        assert cut.live[~world.absorbing[cut.s[:, -1]]].all()
        for n_steps, length in ((1, 1), (4, 4), (5, 5), (9, 5)):
            assert chain(5).sample(np.zeros((2, 2)), 3, np.random.default_rng(0), n_steps).a.shape == (
                3,
                length,
            )

    def test_worlds_without_end_can_be_cut(self):
        episodes = chain(None, 0.9).sample(np.zeros((2, 2)), 7, np.random.default_rng(0), n_steps=11)
        assert episodes.live.all()
        assert episodes.s.shape == (7, 12)
        assert (
            world_that_may_stay().sample([[1000, -1000]], 2, np.random.default_rng(0), n_steps=4).live.all()
        )

    def test_the_same_seed_draws_the_same_episodes_and_others_others(self):
        one, two, three = (
            chain(9).sample(np.zeros((2, 2)), 20, np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        for a, b in zip(one, two, strict=True):
            assert_array_equal(a, b)
        assert (one.a != three.a).any()

    def test_one_policy_and_one_way_leave_nothing_to_chance(self):
        world = grid(0)
        w = 1000 * np.array([[0, 0, 1, 0]] * 6 + [[0, 1, 0, 0]] * 3)
        episodes = world.sample(w, 1000, np.random.default_rng(0))
        assert (episodes.s == [0, 3, 6, 7, 8]).all()
        assert (episodes.P == 1).all()

    @pytest.mark.parametrize("u", [0.0, np.nextafter(1, 0)])
    def test_the_least_and_the_greatest_number_draw_nothing_impossible(self, u):
        """Ten times 0.1 is summed to the greatest number below 1."""
        p = np.array([0, *[0.1] * 10, 0])
        world = MDP(np.tile(p, (12, 1, 1)), np.zeros((12, 1)), p, horizon=2)
        assert (
            world.sample(np.zeros((12, 1)), 3, SimpleNamespace(random=lambda n: np.full(n, u))).P > 0
        ).all()


def forward(n, n_actions=2):
    """To any state further on, with equal probability; the last one ends it."""
    P = np.triu(np.ones((n, n)), 1)
    P[-1, -1] = 1
    P = np.repeat((P / P.sum(axis=1, keepdims=True))[:, None], n_actions, axis=1)
    return MDP(P, np.zeros((n, n_actions)), np.eye(n)[0], absorbing=np.arange(n) == n - 1)


def end_or_pit(start):
    """0 → 1, which ends it, though from there a way leads on to 2; who is in 2 stays there."""
    return MDP(np.eye(3)[[[1], [2], [2]]], np.ones((3, 1)), start, 0.9, absorbing=[False, True, False])


def world_that_may_stay():
    """Action 0 stays, action 1 ends."""
    return corridor((0,), ())


def play(env, act, n_episodes, seed):
    """Return of each episode what was seen, done, and paid."""
    rng, (x, _) = np.random.default_rng(seed), env.reset(seed=seed)
    for _ in range(n_episodes):
        seen, done, paid, terminated = [x], [], [], False
        while not terminated:
            assert len(done) < 100
            done.append(act(x, rng))
            x, r, terminated, truncated, info = env.step(done[-1])
            assert (truncated, info) == (False, {})
            seen.append(x)
            paid.append(r)
        yield tuple(seen), tuple(done), tuple(paid)
        x, _ = env.reset()


class TestEnv:
    @pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
    def test_gymnasium_has_no_complaints(self, world):
        check_env(world.env(), skip_render_check=True)

    @pytest.mark.parametrize("name", ["chain", "fog", "ends early"])
    def test_episodes_come_as_often_as_they_should(self, name):
        rng = np.random.default_rng(6)
        world = {
            "chain": chain(),
            "fog": fog(),
            "treasure": treasure(),
            "ends early": dataclasses.replace(
                random_mdp(3, 2, rng, horizon=3), absorbing=[False, True, False], start=[0.3, 0, 0.7]
            ),
        }[name]
        w = rng.normal(size=(world.n_seen, 2))
        p_one = {x: pi[1] for x, pi in zip(world.x, pi_by_hand(world, w), strict=True)}
        expected, pays = Counter(), {}
        for (s, a), p in episodes_by_hand(world, w).items():
            key = tuple(world.x[list(s)].tolist()), a
            expected[key] += p
            pays.setdefault(key, set()).add(tuple(world.r[s_i, a_i] for s_i, a_i in zip(s, a, strict=False)))
        episodes = list(play(world.env(), lambda x, rng: int(rng.random() < p_one[x]), 8000, seed=0))
        assert_drawn_from(expected, [(x, a) for x, a, _ in episodes])
        assert all(paid in pays[x, a] for x, a, paid in episodes)

    def test_it_terminates_at_the_horizon_and_where_states_absorb(self):
        episodes = list(
            play(corridor((0, 0), (), horizon=4).env(), lambda x, rng: int(rng.integers(2)), 200, seed=0)
        )
        assert {a for _, a, _ in episodes if len(a) < 4} == {
            (1, 1),
            (0, 1, 1),
        }  # two tiles, and a wall behind
        assert {len(a) for _, a, _ in episodes} == {2, 3, 4}

    def test_it_shows_looks_and_not_states(self):
        env = corridor((2, 0, 1), ()).env()
        assert env.observation_space.n == 3
        assert env.reset(seed=0) == (2, {})
        assert [env.step(1) for _ in range(3)] == [
            (0, -1.0, False, False, {}),
            (1, -1.0, False, False, {}),
            (0, -1.0, True, False, {}),
        ]

    def test_two_views_of_one_world_do_not_meet(self):
        world = corridor((0, 1, 2), ())
        one, other = world.env(), world.env()
        one.reset(seed=0)
        other.reset(seed=0)
        assert one.step(1)[0] == 1
        assert (one.step(1)[0], other.step(1)[0]) == (2, 1)

    def test_the_same_seed_plays_the_same_game(self):
        games = [list(play(chain(20).env(), lambda x, rng: 1, 5, seed)) for seed in (3, 3, 4)]
        assert games[0] == games[1] != games[2]

    def test_it_wants_a_reset_before_an_episode_and_after_it(self):
        env = fog().env()
        message = re.escape("reset() begins an episode; none is under way")
        with pytest.raises(gymnasium.error.ResetNeeded, match=message):
            env.step(0)
        env.reset(seed=0)
        env.step(0)
        assert env.step(0)[2]
        with pytest.raises(gymnasium.error.ResetNeeded, match=message):
            env.step(0)

    @pytest.mark.parametrize("action", [2, -1, 1.0, None, "1", np.array([0])])
    def test_bad_actions_are_named_and_change_nothing(self, action):
        env = fog().env()
        env.reset(seed=0)
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'action must be an integer in 0..1, got {action!r}')}$"
        ):
            env.step(action)
        assert env.step(1)[2] is False
        assert env.step(1)[1:3] == (2.0, True)

    @pytest.mark.parametrize("action", [1, np.int64(1), np.array(1), True])
    def test_actions_may_be_any_integer(self, action):
        env = fog().env()
        env.reset(seed=0)
        env.step(action)
        assert env.step(action)[1] == 2

    @pytest.mark.parametrize("seed", [0, 1])
    def test_reinforce_learns_it(self, seed):
        """Undecided it takes 20 steps; the best policy for what can be seen, 17.6025; judged by the exact J."""
        world = corridor((0, 0, 1, 1), (1, 3))
        best = minimize(
            lambda w: -world.J(w.reshape(2, 2)),
            np.zeros(4),
            jac=lambda w: -world.gradient(w.reshape(2, 2)).ravel(),
        )
        assert best.fun == pytest.approx(17.6025, abs=1e-4)
        policy, env = (
            TabularPolicy(np.zeros((2, 2))),
            SyncVectorEnv([world.env] * 8, autoreset_mode=AutoresetMode.SAME_STEP),
        )
        algorithm = Reinforce(
            env, policy, eta=0.05, credit=reward_to_go, standardize=True, batch_size=500, seed=seed
        )
        J = [world.J(policy.w.detach())]
        with one_thread():
            for _ in range(20):
                algorithm.update()
                J.append(world.J(policy.w.detach()))
        assert J[0] == pytest.approx(-20)
        assert min(J[-5:]) > -18.5


def differences_of_average(world, w, step=1e-5):
    """∂r̄/∂w from r̄ to either side of each weight."""
    gradient = np.zeros_like(w)
    for k in np.ndindex(w.shape):
        aside = np.zeros_like(w)
        aside[k] = step
        gradient[k] = (world.average(w + aside).r_bar - world.average(w - aside).r_bar) / (2 * step)
    return gradient


def average_by_hand(world, pi):
    """r̄ and d: where one is after 4,096 steps."""
    P = np.einsum("sk,skt->st", pi, world.P)
    far = np.linalg.matrix_power(
        0.5 * (P + np.eye(world.n_states)), 2**12
    )  # half the steps are rests, which change no share
    d = world.start @ far
    return float(d @ (pi * world.r).sum(axis=1)), d


class TestAverage:
    @reproducible
    @given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32))
    def test_it_is_what_is_paid_in_the_long_run(self, n_states, n_actions, seed):
        rng = np.random.default_rng(seed)
        world = random_mdp(n_states, n_actions, rng, n_seen=rng.integers(1, n_states + 1))
        w = rng.normal(size=(world.n_seen, n_actions))
        average, (r_bar, d) = world.average(w), average_by_hand(world, world.pi(w))
        close(average.d, d, 1e-9)
        close(average.r_bar, r_bar, 1e-9)

    @reproducible
    @given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32))
    def test_values_are_those_with_a_discount_close_to_one_less_what_is_common_to_all(
        self, n_states, n_actions, seed
    ):
        """V_γ(s) = r̄/(1 − γ) + V(s) + O(1 − γ), and ∂/∂w (1 − γ) J → ∂r̄/∂w."""
        rng = np.random.default_rng(seed)
        world = random_mdp(n_states, n_actions, rng, gamma=1 - 1e-6)
        w = rng.normal(size=(n_states, n_actions))
        average, discounted = world.average(w), world.values(w)
        near = {"rtol": 0, "atol": 1e-3 * (1 + abs(average.V).max())}
        assert_allclose(discounted.V - average.r_bar / 1e-6, average.V, **near)
        assert_allclose(discounted.A, average.A, **near)
        assert_allclose(1e-6 * world.gradient(w), world.average_gradient(w), **near)

    @reproducible
    @given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
    def test_what_is_said_of_the_values_holds(self, n_states, n_actions, seed):
        rng = np.random.default_rng(seed)
        world = random_mdp(n_states, n_actions, rng, n_seen=rng.integers(1, n_states + 1))
        w = rng.normal(size=(world.n_seen, n_actions))
        r_bar, d, V, Q, A = world.average(w)
        close(d @ V, 0, 1e-9)
        close((world.pi(w) * Q).sum(axis=1), V, 1e-9)
        close((world.pi(w) * A).sum(axis=1), np.zeros(n_states), 1e-9)
        close(Q, world.r - r_bar + world.P @ V, 1e-9)
        assert_allclose(world.average_gradient(w), differences_of_average(world, w), rtol=1e-5, atol=1e-7)

    @reproducible
    @given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
    def test_no_policy_is_better_than_the_best(self, n_states, n_actions, seed):
        """None of those that are sure of themselves, and so none; and the linear program over shares of steps finds the same."""
        world = random_mdp(n_states, n_actions, np.random.default_rng(seed))
        pi, best = world.best_average()
        assert set(np.unique(pi)) <= {0, 1}
        choices = product(range(n_actions), repeat=n_states)
        assert best.r_bar == pytest.approx(
            max(average_by_hand(world, np.eye(n_actions)[list(a)])[0] for a in choices), abs=1e-9
        )
        assert best.r_bar == pytest.approx(by_linear_program(world), abs=1e-7)

    def test_two_states_by_hand(self):
        """0 → 1 pays 3, 1 → 0 pays 1: 2 a step. What comes from 0 is 1 more than from 1, and both are the same on average."""
        world = MDP(np.eye(2)[[[1], [0]]], [[3], [1]], [1, 0], 0.5)
        r_bar, d, V, Q, A = world.average([[0], [0]])
        assert r_bar == pytest.approx(2)
        close(d, [0.5, 0.5], 1e-12)
        close(V, [0.5, -0.5], 1e-12)
        close(Q, np.reshape(V, (2, 1)), 1e-12)
        close(A, [[0], [0]], 1e-12)

    def test_states_that_are_left_for_good_do_not_count(self):
        world = MDP(np.eye(2)[[[1], [1]]], [[100], [1]], [1, 0], 0.5)
        r_bar, d, V, *_ = world.average([[0], [0]])
        assert r_bar == pytest.approx(1)
        close(d, [0, 1], 1e-12)
        close(V, [99, 0], 1e-12)

    @pytest.mark.parametrize(
        ("world", "message"),
        [
            (
                corridor(),
                "an average reward wants a world that never ends, got one with absorbing states or a horizon",
            ),
            (
                chain(),
                "an average reward wants a world that never ends, got one with absorbing states or a horizon",
            ),
            (
                MDP(np.eye(2)[[[0], [1]]], np.zeros((2, 1)), [0.5, 0.5], 0.9),
                "w must lead to one average from wherever one begins, got a policy that gets caught in different parts",
            ),
        ],
    )
    def test_where_there_is_no_such_thing(self, world, message):
        for call in (world.average, world.average_gradient):
            with pytest.raises(ValueError, match=f"^{message}$"):
                call(zeros(world))
        with pytest.raises(ValueError, match=f"^{message}$"):
            world.best_average()


def by_linear_program(world):
    """The highest average reward: max Σ x(s,a) r(s,a) over shares x ≥ 0 that sum to 1 and of which as many enter each state as leave it."""
    S, K = world.r.shape
    leave = np.repeat(np.eye(S), K, axis=0) - world.P.reshape(S * K, S)
    flow = np.vstack([leave.T, np.ones(S * K)])
    return -linprog(-world.r.ravel(), A_eq=flow, b_eq=np.eye(S + 1)[-1]).fun


class TestQueue:
    def test_its_chances_are_those_of_servers_that_become_free_one_by_one(self):
        """Three servers: all 2ᵇ ways in which the busy ones can become free or not."""
        world, n, p = access_control(3, 0.2), 3, 0.2
        for f, kind, a in product(range(n + 1), range(4), range(2)):
            busy = n - f + (1 if a and f else 0)
            expected = np.zeros((n + 1, 4))
            for freed in product((0, 1), repeat=busy):
                expected[n - busy + sum(freed)] += np.prod([p if free else 1 - p for free in freed]) / 4
            close(world.P[4 * f + kind, a], expected.ravel(), 1e-12)
            assert world.r[4 * f + kind, a] == (2**kind if a and f else 0)
        close(world.start.reshape(n + 1, 4), np.eye(n + 1)[-1:].T / 4 * np.ones(4), 1e-12)

    def test_the_best_policy_is_pickier_the_fewer_servers_are_free(self):
        """And the linear program agrees on what it earns."""
        world = access_control()
        pi, best = world.best_average()
        accepts = pi[:, 1].reshape(11, 4)[1:]  # with no server free, both actions are the same
        assert (np.diff(accepts, axis=0) >= 0).all()
        assert (np.diff(accepts, axis=1) >= 0).all()
        assert best.r_bar == pytest.approx(by_linear_program(world), rel=1e-6)
        assert (
            world.average(zeros(world)).r_bar < world.average(np.tile([-20, 20], (44, 1))).r_bar < best.r_bar
        )

    def test_one_server_that_is_always_freed_takes_everybody(self):
        pi, best = access_control(1, 1).best_average()
        assert best.r_bar == pytest.approx((1 + 2 + 4 + 8) / 4)
        assert (pi[4:] == [0, 1]).all()


@pytest.mark.parametrize("n", [1, 3, 5, 19])
@pytest.mark.parametrize("left", [0, -1, 0.5])
def test_a_random_walks_values_rise_in_a_straight_line(n, left):
    """From what leaving by the left pays to the 1 of the right, both one step beyond."""
    world = random_walk(n, left)
    V = world.values(zeros(world)).V
    close(V, [*(left + (1 - left) * np.arange(1, n + 1) / (n + 1)), 0], 1e-9)
    assert world.start[n // 2] == 1


class TestNeverEnding:
    @pytest.mark.parametrize(
        "method", ["J", "values", "visits", "gradient", "gradient_by_autograd", "gradient_by_differences"]
    )
    @pytest.mark.parametrize("size", [16, 40, 1000, -1000])
    def test_a_policy_that_never_arrives_is_named(self, method, size):
        """Also where rounding leaves something of it: J would be −3·10¹⁴ for 16, and 0 for 40."""
        with pytest.raises(ValueError, match=f"^{NEVER}$"):
            getattr(corridor(), method)([[size, -size]])

    @settings(reproducible, max_examples=50)
    @given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([40, 1000]))
    def test_also_where_it_wanders_about(self, seed, n, size):
        """Action 0 leads from everywhere to everywhere but the goal; I − P is singular, and rounding may hide it."""
        P = np.zeros((n + 1, 2, n + 1))
        P[:n, 0, :n], P[:, 1, n], P[n, 0, n] = np.random.default_rng(seed).dirichlet(np.ones(n), n), 1, 1
        world = MDP(P, -np.ones((n + 1, 2)), np.eye(n + 1)[0], absorbing=np.arange(n + 1) == n)
        w = np.tile([size, -size], (n + 1, 1))
        for method in (world.J, world.visits, world.gradient, world.gradient_by_autograd):
            with pytest.raises(ValueError, match=f"^{NEVER}$"):
                method(w)

    def test_a_policy_that_takes_long_is_none(self):
        """Of two thousand million steps; rounding leaves them six digits at least."""
        p = 1 / (1 + np.exp(20))
        assert corridor().J([[10, -10]]) == pytest.approx(-(4 - 2 * p) / (p * (1 - p)), rel=1e-6)
        assert corridor().visits([[10, -10]]).sum() == pytest.approx((4 - 2 * p) / (p * (1 - p)), rel=1e-6)

    def test_with_discount_or_horizon_nothing_is_extreme(self):
        for world, J in ((corridor(gamma=0.9), -10), (corridor(horizon=10), -10)):
            for method in (world.gradient, world.gradient_by_autograd, world.gradient_by_differences):
                assert_allclose(method([[1000, -1000]]), 0, atol=1e-9)
            assert world.J([[1000, -1000]]) == pytest.approx(J)

    def test_sampling_says_so_instead_of_going_on_forever(self):
        with pytest.raises(
            ValueError, match=r"^n_steps must be given, for from state 0 an episode never ends, got None$"
        ):
            world_that_may_stay().sample([[1000, -1000]], 1, np.random.default_rng(0))

    def test_a_pit_beyond_reach_is_no_obstacle(self):
        world = end_or_pit([1, 0, 0])
        assert world.sample(np.zeros((3, 1)), 2, np.random.default_rng(0)).s.tolist() == [[0, 1], [0, 1]]
        assert world.enumerate(np.zeros((3, 1))).s.tolist() == [[0, 1]]

    def test_what_leads_out_of_an_absorbing_state_leads_nowhere(self):
        """0 → 1, which absorbs, → 2, which stays; once 2 ends as well, there is nothing to complain of."""
        world = MDP(np.eye(3)[[[1], [2], [1]]], np.ones((3, 1)), [1, 0, 0], absorbing=[False, True, False])
        assert_array_equal(world.values(np.zeros((3, 1))).V, [1, 0, 1])
        assert_array_equal(world.visits(np.zeros((3, 1))), [1, 0, 0])
        assert world.enumerate(np.zeros((3, 1))).s.tolist() == [[0, 1]]


class TestArrays:
    def test_they_are_copies_and_read_only(self):
        given = {
            "P": np.full((2, 1, 2), 0.5),
            "r": np.zeros((2, 1)),
            "start": np.array([1.0, 0]),
            "absorbing": np.array([False, True]),
        }
        given["x"] = np.array([0, 0])
        world = MDP(**given)
        for name, array in given.items():
            before = array.copy()
            array[:] = 7
            assert_array_equal(getattr(world, name), before)
            with pytest.raises(ValueError, match="read-only"):
                getattr(world, name)[0] = 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            world.gamma = 0.5

    def test_lists_will_do_and_what_is_not_given_is_filled_in(self):
        world = MDP([[[0, 1]], [[1, 0]]], [[1], [2]], [1, 0], 0.5)
        assert [array.dtype for array in (world.P, world.r, world.start, world.absorbing, world.x)] == [
            float,
            float,
            float,
            bool,
            int,
        ]
        assert_array_equal(world.absorbing, [False, False])
        assert_array_equal(world.x, [0, 1])
        assert world.J([[0], [0]]) == pytest.approx((1 + 0.5 * 2) / (1 - 0.25))

    def test_nothing_changes_what_it_is_given(self):
        w = np.zeros((2, 2))
        w.flags.writeable = False
        world = chain()
        for method in (
            world.J,
            world.gradient,
            world.gradient_by_autograd,
            world.gradient_by_differences,
            world.enumerate,
        ):
            method(w)
        world.visits(w)[:] = 0
        assert world.visits(w).any()


HALF = np.full((2, 2, 2), 0.5)


def make(**changes):
    return MDP(**({"P": HALF, "r": np.zeros((2, 2)), "start": [0.5, 0.5], "gamma": 0.9} | changes))


def at(array, index, value):
    changed = np.array(array, float)
    changed[index] = value
    return changed


SOLITARY = np.eye(3)[[[1, 1], [1, 2], [2, 2]]]  # 0 → 1, and from 1 by action 1 to 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(P=np.ones((2, 2))), "P must have shape (S, K, S), got (2, 2)"),
        (lambda: make(P=np.ones((2, 2, 3))), "P must have shape (S, K, S), got (2, 2, 3)"),
        (lambda: make(P=np.ones((2, 0, 2))), "P must have shape (S, K, S), got (2, 0, 2)"),
        (lambda: random_mdp(0, 2, np.random.default_rng(0)), "P must have shape (S, K, S), got (0, 2, 0)"),
        (lambda: make(P=at(HALF, (1, 0, 1), 0.4)), "P must sum to 1, got 0.9 for state 1, action 0"),
        (lambda: make(P=at(HALF, (0, 1), [1.5, -0.5])), "P must hold probabilities, got -0.5"),
        (lambda: make(P=at(HALF, (0, 1, 0), np.nan)), "P must hold probabilities, got nan"),
        (lambda: make(P=at(HALF, (0, 1, 0), np.inf)), "P must hold probabilities, got inf"),
        (lambda: make(r=np.zeros(2)), "r must have shape (2, 2), got (2,)"),
        (lambda: make(r=[[0, 0], [np.nan, 0]]), "r must be finite, got nan"),
        (lambda: make(r=[[0, 0], [0, -np.inf]]), "r must be finite, got -inf"),
        (lambda: make(start=[1]), "start must have shape (2,), got (1,)"),
        (lambda: make(start=[0.5, 0.4]), "start must sum to 1, got 0.9"),
        (lambda: make(start=[2, 0]), "start must sum to 1, got 2"),
        (lambda: make(start=[-1, 2]), "start must hold probabilities, got -1.0"),
        (lambda: make(start=[np.nan, 1]), "start must hold probabilities, got nan"),
        (lambda: make(absorbing=[True]), "absorbing must have shape (2,), got (1,)"),
        (lambda: make(absorbing=[0, 1]), "absorbing must hold booleans, got int64"),
        (lambda: make(absorbing=[False, True]), "start must not be in an absorbing state, got 0.5 for one"),
        (lambda: make(x=[0]), "x must have shape (2,), got (1,)"),
        (lambda: make(x=[0.0, 1.0]), "x must hold integers from 0, got [0. 1.]"),
        (lambda: make(x=[0, -1]), "x must hold integers from 0, got [ 0 -1]"),
        (lambda: make(x=[True, False]), "x must hold integers from 0, got [ True False]"),
        *((lambda g=g: make(gamma=g), f"gamma must be in [0, 1], got {g}") for g in (-0.1, 1.01, np.nan)),
        *(
            (lambda h=h: make(horizon=h), f"horizon must be a whole number of at least 1, or None, got {h}")
            for h in (0, -1, 1.5, np.nan, np.inf)
        ),
        (
            lambda: chain(None),
            "gamma must be below 1 or horizon be given, for from state 0 no absorbing state is ever reached, got gamma 1",
        ),
        (
            lambda: MDP(SOLITARY, np.zeros((3, 2)), [1, 0, 0], absorbing=[False, True, False]),
            "gamma must be below 1 or horizon be given, for from state 2 no absorbing state is ever reached, got gamma 1",
        ),
        (lambda: chain().J(np.zeros((2, 3))), "w must have shape (2, 2), got (2, 3)"),
        (lambda: fog().gradient(np.zeros((4, 2))), "w must have shape (2, 2), got (4, 2)"),
        (lambda: chain().pi(np.zeros(4)), "w must have shape (2, 2), got (4,)"),
        (lambda: chain().gradient_by_autograd([[0, 0], [0, np.nan]]), "w must be finite, got nan"),
        (lambda: chain().gradient_by_differences([[0, 0], [0, np.inf]]), "w must be finite, got inf"),
        (lambda: chain().enumerate([[0, 0], [0, -np.inf]]), "w must be finite, got -inf"),
        (
            lambda: chain().sample([[0, 0]], 1, np.random.default_rng(0)),
            "w must have shape (2, 2), got (1, 2)",
        ),
        (
            lambda: chain().gradient_by_differences(np.zeros((2, 2)), 0),
            "step must be a positive number, got 0",
        ),
        (
            lambda: chain().gradient_by_differences(np.zeros((2, 2)), np.nan),
            "step must be a positive number, got nan",
        ),
        (
            lambda: chain(30).enumerate(np.zeros((2, 2))),
            "horizon must leave at most 1,000,000 episodes, got 1,048,576 after 10 steps",
        ),
        *(
            (
                lambda world=world: world.enumerate(zeros(world)),
                "horizon must be given, for without one these episodes can be of any length, and infinitely many, got None",
            )
            for world in (chain(None, 0.9), corridor(), corridor((0,), ()), end_or_pit([0.9, 0, 0.1]))
        ),
        (
            lambda: chain().gradient_by_differences(np.zeros((2, 2)), np.inf),
            "step must be a positive number, got inf",
        ),
        (
            lambda: chain().sample(np.zeros((2, 2)), 1, np.random.default_rng(0), 1.5),
            "n_steps must be a whole number of at least 1, got 1.5",
        ),
        (lambda: corridor((), ()), "looks must have at least one tile, got none"),
        (lambda: random_mdp(3, 2, np.random.default_rng(0), n_seen=0), "n_seen must be in 1..3, got 0"),
        (lambda: random_mdp(3, 2, np.random.default_rng(0), n_seen=4), "n_seen must be in 1..3, got 4"),
        (
            lambda: chain().sample(np.zeros((2, 2)), 0, np.random.default_rng(0)),
            "n_episodes must be a whole number of at least 1, got 0",
        ),
        (
            lambda: chain().sample(np.zeros((2, 2)), 1, np.random.default_rng(0), 0),
            "n_steps must be a whole number of at least 1, got 0",
        ),
        (
            lambda: chain(None, 0.9).sample(np.zeros((2, 2)), 1, np.random.default_rng(0)),
            "n_steps must be given, for from state 0 an episode never ends, got None",
        ),
        (
            lambda: MDP(
                SOLITARY, np.zeros((3, 2)), [0.5, 0.5, 0], 0.9, absorbing=[True, False, False][::-1]
            ).sample([[0, 0], [1000, 0], [0, 0]], 1, np.random.default_rng(0)),
            "n_steps must be given, for from state 0 an episode never ends, got None",
        ),
        (lambda: corridor(swapped=(3,)), "swapped must name tiles 0..2, got 3"),
        (lambda: corridor(swapped=(0, -1)), "swapped must name tiles 0..2, got -1"),
        (lambda: corridor((0, 0.5), ()), "x must hold integers from 0, got [0.  0.5 0. ]"),
        (lambda: corridor((0, -2), ()), "x must hold integers from 0, got [ 0 -2  0]"),
        *(
            (lambda n=n: random_walk(n), f"n must be an odd number of at least 1, got {n}")
            for n in (0, 2, -1, 2.5)
        ),
        (lambda: random_walk(3, np.inf), "r must be finite, got inf"),
        (lambda: access_control(0), "n_servers must be a whole number of at least 1, got 0"),
        (lambda: access_control(freed=0), "freed must be in (0, 1], got 0"),
        (
            lambda: access_control(gamma=1),
            "gamma must be below 1 or horizon be given, for from state 0 no absorbing state is ever reached, got gamma 1",
        ),
        *(
            (lambda wind=wind: grid(wind), f"wind must be in [0, 1), got {wind}")
            for wind in (-0.1, 1, np.nan)
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
