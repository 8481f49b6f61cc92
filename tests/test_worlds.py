"""The MDPs of the book against closed forms, hand calculations and the literature."""

import re
from itertools import product
from math import sqrt

import numpy as np
import pytest
from mdp_strategies import assert_close, logits, optimal_average_reward_by_linear_program, zeros
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.environments.worlds import (
    access_control,
    aliased_gridworld,
    chain,
    hidden_fork,
    random_mdp,
    random_walk,
    short_corridor,
    windy_grid,
)


class TestSmallMDPs:
    @pytest.mark.parametrize("p", [0.05, 0.3, 2 - sqrt(2), 0.95])
    def test_the_short_corridor_in_closed_form(self, p):
        """V₀ = −1 + pV₁ + (1−p)V₀, V₁ = −1 + pV₀ + (1−p)V₂ and V₂ = −1 + (1−p)V₁.

        They give V₁ = −(3−p) / p(1−p) and J = V₁ − 1/p.
        """
        mdp = short_corridor()
        assert mdp.J([logits(p)]) == pytest.approx(-(4 - 2 * p) / (p * (1 - p)), rel=1e-12)

    def test_its_optimal_and_greedy_policies_have_the_returns_of_sutton_and_barto(self):
        """Example 13.1: "a value of less than −44 and −82", "about 0.59", "about −11.6"."""
        mdp, w = short_corridor(), [logits(2 - sqrt(2))]
        assert mdp.J(w) == pytest.approx(-(6 + 4 * sqrt(2)), rel=1e-13)
        assert abs(mdp.gradient(w)).max() < 1e-12
        left, right = (mdp.J([logits(p)]) for p in (0.05, 0.95))
        assert (round(left), round(right)) == (-82, -44)
        for p, sign in ((0.5, 1), (0.7, -1)):
            back, forward = mdp.gradient([logits(p)])[0] * sign
            assert back < 0 < forward

    @pytest.mark.parametrize("n", [1, 2, 3, 5])
    def test_corridors_by_hand(self, n):
        """The uniform policy takes n(n+1) steps with any tiles swapped, the one that goes forward n."""
        for swapped in ((), (0,), tuple(range(n))):
            for observations in (np.arange(n), np.zeros(n, int)):
                mdp = short_corridor(observations, swapped)
                assert mdp.J(zeros(mdp)) == pytest.approx(-n * (n + 1))
        forward = np.array([[-9, 9] if tile else [9, -9] for tile in range(n)])
        assert short_corridor(range(n), (0,)).J(forward) == pytest.approx(-n, abs=1e-6)
        for p in (0.1, 0.8):
            assert short_corridor((0,), ()).J([logits(p)]) == pytest.approx(-1 / p)
            assert short_corridor((0,), (0,)).J([logits(p)]) == pytest.approx(-1 / (1 - p))
            assert short_corridor((0,), (), horizon=2).J([logits(p)]) == pytest.approx(-1 - (1 - p))
            assert short_corridor((0,), (), gamma=0.5).J([logits(p)]) == pytest.approx(
                -1 / (1 - 0.5 * (1 - p))
            )

    @pytest.mark.parametrize("wind", [0, 0.2, 0.7])
    def test_on_the_windy_grid_each_step_takes_1_over_1_minus_wind(self, wind):
        """South to the wall, then east. The wind leads to the same cell or to one a step further away."""
        mdp = windy_grid(wind)
        w = 50 * np.array([[0, 0, 1, 0]] * 6 + [[0, 1, 0, 0]] * 3)
        to_go = np.array([4, 3, 2, 3, 2, 1, 2, 1, 0])
        assert_allclose(mdp.values(w).V, -to_go / (1 - wind), atol=1e-12)
        if wind == 0:
            assert_allclose(mdp.state_visitation(w), [1, 0, 0, 1, 0, 0, 1, 1, 0], atol=1e-12)

    def test_the_transitions_of_the_windy_grid(self):
        """For each action, the next cell without and with wind. Cell 4 is in the middle, 0 in the corner."""
        moves = {
            4: [(1, 1), (5, 2), (7, 4), (3, 0)],
            0: [(0, 0), (1, 1), (3, 0), (0, 0)],
            6: [(3, 0), (7, 4), (6, 3), (6, 3)],
            5: [(2, 2), (5, 2), (8, 5), (4, 1)],
        }
        for s, of_s in moves.items():
            for a, (calm, windy) in enumerate(of_s):
                assert_allclose(windy_grid(0.3).P[s, a], 0.7 * np.eye(9)[calm] + 0.3 * np.eye(9)[windy])

    def test_the_aliased_gridworld_by_hand(self):
        """East in the aliased cells leads from the second one to the middle, and never from the fourth."""
        mdp, choose = aliased_gridworld(), 1000 * np.eye(3)
        forever = -1 / (1 - 0.9)
        east = choose[[1, 1, 2, 0]]  # between the fourth and the last cell for ever
        first, second = -1 - 0.9 + 0.81 * 10, -1 + 0.9 * 10
        assert mdp.J(east) == pytest.approx(0.4 * first + 0.2 * second + 0.4 * forever)
        assert mdp.J(choose[[2, 1, 2, 2]]) == pytest.approx(
            0.4 * -10 + 0.2 * second + 0.2 * (-1 + 0.9 * -10) + 0.2 * -10
        )
        assert mdp.J(choose[[2, 2, 2, 2]]) == pytest.approx(0.6 * -10 + 0.4 * forever)

    def test_the_hidden_fork_by_hand(self):
        """J = pq + 2(1−p)(1−q), with p and q the probabilities of left at the first and the second fork."""
        mdp = hidden_fork()
        for p, q in np.random.default_rng(0).random((5, 2)):
            w = np.log([[p, 1 - p], [q, 1 - q]])
            assert mdp.J(w) == pytest.approx(p * q + 2 * (1 - p) * (1 - q))
            derivatives = [p * (1 - p) * (3 * q - 2), q * (1 - q) * (3 * p - 2)]
            assert_close(mdp.gradient(w), np.outer(derivatives, [1, -1]).reshape(2, 2), 1e-12)
            assert_close(mdp.values(w).V, np.array([p * q + 2 * (1 - p) * (1 - q), q, 2 * (1 - q), 0]), 1e-12)

    def test_the_chain_by_hand(self):
        """The uniform policy changes state with (0.1 + 0.8) / 2, for (0 − 0.2) / 2 or (1 − 0.2) / 2."""
        mdp, w = chain(), np.zeros((2, 2))
        assert_allclose(mdp.state_visitation(w), [[1, 0], [0.55, 0.45], [0.55**2 + 0.45**2, 2 * 0.55 * 0.45]])
        assert mdp.J(w) == pytest.approx(-0.1 + (-0.055 + 0.18) + (-0.0505 + 0.198))
        assert_allclose(mdp.values(w).V[2], [-0.1, 0.4])
        assert_allclose(mdp.values(w).Q[1, 0], [0.9 * -0.1 + 0.1 * 0.4, -0.2 + 0.2 * -0.1 + 0.8 * 0.4])
        assert len(mdp.enumerate_episodes(w).P) == 64

    def test_random_mdps_are_of_the_size_asked_for(self):
        mdp = random_mdp(5, 3, np.random.default_rng(0), horizon=7, gamma=0.8, n_observations=2)
        assert (mdp.n_states, mdp.n_actions, mdp.n_observations, mdp.horizon, mdp.gamma) == (
            5,
            3,
            2,
            7,
            0.8,
        )
        assert sorted(mdp.observation) == [0, 0, 0, 1, 1]
        assert not mdp.absorbing.any()
        assert_array_equal(random_mdp(5, 3, np.random.default_rng(0)).observation, range(5))
        assert_array_equal(random_mdp(5, 3, np.random.default_rng(0)).P, mdp.P)
        assert (random_mdp(5, 3, np.random.default_rng(1)).P != mdp.P).all()

    def test_their_transition_probabilities_are_uniform_on_the_simplex(self):
        """Of 3, each is below t with probability 1 − (1−t)²; six standard errors of 6,000 draws."""
        P = random_mdp(3, 2000, np.random.default_rng(0)).P
        for t in (0.1, 0.3, 0.5, 0.9):
            expected = 1 - (1 - t) ** 2
            assert_allclose(
                (t > P).mean(axis=(0, 1)), expected, atol=6 * sqrt(expected * (1 - expected) / 6000)
            )


class TestAccessControl:
    def test_its_transitions_are_those_of_servers_that_become_free_independently(self):
        """Three servers: all 2ᵇ ways in which the busy ones can become free or not."""
        mdp, n, p = access_control(3, 0.2), 3, 0.2
        for f, kind, a in product(range(n + 1), range(4), range(2)):
            busy = n - f + (1 if a and f else 0)
            expected = np.zeros((n + 1, 4))
            for freed in product((0, 1), repeat=busy):
                expected[n - busy + sum(freed)] += np.prod([p if free else 1 - p for free in freed]) / 4
            assert_close(mdp.P[4 * f + kind, a], expected.ravel(), 1e-12)
            assert mdp.r[4 * f + kind, a] == (2**kind if a and f else 0)
        assert_close(mdp.initial_distribution.reshape(n + 1, 4), np.eye(n + 1)[-1:].T / 4 * np.ones(4), 1e-12)

    def test_the_optimal_policy_rejects_more_the_fewer_servers_are_free(self):
        """And a linear program agrees on its average reward."""
        mdp = access_control()
        pi, optimum = mdp.policy_iteration()
        accepts = pi[:, 1].reshape(11, 4)[1:]  # with no server free, both actions are the same
        assert (np.diff(accepts, axis=0) >= 0).all()
        assert (np.diff(accepts, axis=1) >= 0).all()
        assert optimum.r_bar == pytest.approx(optimal_average_reward_by_linear_program(mdp), rel=1e-6)
        assert (
            mdp.average_reward(zeros(mdp)).r_bar
            < mdp.average_reward(np.tile([-20, 20], (44, 1))).r_bar
            < optimum.r_bar
        )

    def test_one_server_that_is_always_free_accepts_every_customer(self):
        pi, optimum = access_control(1, 1).policy_iteration()
        assert optimum.r_bar == pytest.approx((1 + 2 + 4 + 8) / 4)
        assert (pi[4:] == [0, 1]).all()


@pytest.mark.parametrize("n", [1, 3, 5, 19])
@pytest.mark.parametrize("left", [0, -1, 0.5])
def test_the_values_of_the_random_walk_are_linear(n, left):
    """From the reward at the left exit to 1 at the right one."""
    mdp = random_walk(n, left)
    V = mdp.values(zeros(mdp)).V
    assert_close(V, [*(left + (1 - left) * np.arange(1, n + 1) / (n + 1)), 0], 1e-9)
    assert mdp.initial_distribution[n // 2] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: short_corridor((), ()), "observations must have at least one tile, got none"),
        (
            lambda: random_mdp(3, 2, np.random.default_rng(0), n_observations=0),
            "n_observations must be in 1..3, got 0",
        ),
        (
            lambda: random_mdp(3, 2, np.random.default_rng(0), n_observations=4),
            "n_observations must be in 1..3, got 4",
        ),
        (lambda: short_corridor(swapped=(3,)), "swapped must name tiles 0..2, got 3"),
        (lambda: short_corridor(swapped=(0, -1)), "swapped must name tiles 0..2, got -1"),
        (lambda: short_corridor((0, 0.5), ()), "observations must hold integers from 0, got [0.  0.5]"),
        (lambda: short_corridor((0, -2), ()), "observations must hold integers from 0, got [ 0 -2]"),
        *(
            (lambda n=n: random_walk(n), f"n_states must be an odd number of at least 1, got {n}")
            for n in (0, 2, -1, 2.5)
        ),
        (lambda: random_walk(3, np.inf), "left_reward must be finite, got inf"),
        (lambda: access_control(0), "n_servers must be a whole number of at least 1, got 0"),
        (lambda: access_control(free_probability=0), "free_probability must be in (0, 1], got 0"),
        (
            lambda: access_control(gamma=1),
            "gamma must be below 1 or horizon be given, because no absorbing state is reachable from state 0",
        ),
        *(
            (lambda wind=wind: windy_grid(wind), f"wind must be in [0, 1), got {wind}")
            for wind in (-0.1, 1, np.nan)
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
