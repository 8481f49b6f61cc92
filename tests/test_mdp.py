"""MDPs whose values, state visitation, gradients and episodes are also found by loops and by acting."""

import dataclasses
import re
from collections import Counter
from functools import partial
from itertools import product
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_strategies import (
    assert_close,
    episodes_by_hand,
    logits,
    mdps,
    optimal_average_reward_by_linear_program,
    pi_by_hand,
    values_and_state_visitation_by_hand,
    zeros,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.stats import chi2

from pgcourse.algorithms.reinforce import Reinforce, ReinforceConfig
from pgcourse.environments.mdp import MDP
from pgcourse.environments.worlds import (
    aliased_gridworld,
    chain,
    hidden_fork,
    random_mdp,
    short_corridor,
    windy_grid,
)
from pgcourse.maths.returns import reward_to_go
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import TabularPolicy

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
small_mdps = partial(mdps, max_states=3, max_actions=2, max_horizon=4)  # at most some thousand episodes
NEVER = "w must let every episode end if gamma is 1, got a policy under which some never end"

MDPS = {
    "chain": chain(),
    "chain, discounted": chain(None, 0.9),
    "short corridor": short_corridor(),
    "short corridor, 5 steps": short_corridor(horizon=5),
    "windy grid": windy_grid(),
    "hidden fork": hidden_fork(),
    "aliased gridworld": aliased_gridworld(),
    "random": random_mdp(4, 3, np.random.default_rng(0), horizon=6, n_observations=2),
}


def keys(episodes):
    """The states and actions of each episode, up to its end."""
    length = episodes.mask.sum(axis=1)
    return [
        (tuple(s[: n + 1]), tuple(a[:n]))
        for s, a, n in zip(episodes.s.tolist(), episodes.a.tolist(), length, strict=True)
    ]


def assert_drawn_from(p, drawn):
    """Pearson's χ² test at the level 10⁻⁷. Outcomes expected less than 20 times are merged."""
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
    @given(mdps())
    def test_values_and_state_visitation_are_the_sums_over_time(self, drawn):
        mdp, w = drawn
        V, Q, d = values_and_state_visitation_by_hand(mdp, w)
        values = mdp.values(w)
        assert_close(values.V, V, 1e-11)
        assert_close(values.Q, Q, 1e-11)
        assert_close(values.A, Q - V[..., None], 1e-11)
        assert_close(mdp.state_visitation(w), d, 1e-11)
        assert_allclose(mdp.pi(w), pi_by_hand(mdp, w), rtol=1e-12)

    @reproducible
    @given(mdps())
    def test_the_identities_between_them_hold(self, drawn):
        """E[A] = 0; J = Σₛ d(s) r(s); and in a continuing task with γ < 1, Σₛ d(s) = 1 / (1 − γ)."""
        mdp, w = drawn
        pi, (V, _, A), d, J = mdp.pi(w), mdp.values(w), mdp.state_visitation(w), mdp.J(w)
        scale = 1 + abs(A).max() + abs(V).max() + d.sum()
        assert_allclose(pi.sum(axis=1), 1)
        assert_allclose((pi * A).sum(axis=-1), 0, atol=1e-13 * scale)
        assert_allclose(J, (d * (pi * mdp.r).sum(axis=1)).sum(), atol=1e-12 * scale)
        assert (d >= -1e-15).all()
        assert not d[..., mdp.absorbing].any()
        if not mdp.absorbing.any():
            if mdp.horizon:
                assert_allclose(d.sum(axis=1), mdp.gamma ** np.arange(mdp.horizon))
            else:
                assert_allclose(d.sum(), 1 / (1 - mdp.gamma))

    @reproducible
    @given(mdps())
    def test_three_ways_to_the_gradient_agree(self, drawn):
        mdp, w = drawn
        gradient = mdp.gradient(w)
        scale = 1 + abs(mdp.values(w).Q).max() * mdp.state_visitation(w).sum()
        assert_allclose(mdp.autograd_gradient(w), gradient, rtol=0, atol=1e-13 * scale, strict=True)
        assert_allclose(mdp.finite_difference_gradient(w), gradient, rtol=0, atol=1e-9 * scale, strict=True)
        assert_allclose(
            gradient.sum(axis=1), 0, atol=1e-13 * scale
        )  # π does not change if a row of w does as a whole

    @pytest.mark.parametrize("mdp", MDPS.values(), ids=MDPS)
    def test_they_agree_on_the_mdps_of_the_book(self, mdp):
        w = np.random.default_rng(1).normal(size=(mdp.n_observations, mdp.n_actions)) / 2
        gradient = mdp.gradient(w)
        assert_close(mdp.autograd_gradient(w), gradient, 1e-10)
        assert_close(mdp.finite_difference_gradient(w), gradient, 1e-8)
        V, Q, d = values_and_state_visitation_by_hand(mdp, w)
        assert_close(mdp.values(w).V, V, 1e-11)
        assert_close(mdp.values(w).Q, Q, 1e-11)
        assert_close(mdp.state_visitation(w), d, 1e-11)

    def test_finite_differences_are_of_sixth_order(self):
        mdp, w = short_corridor(), np.array([[0.3, -0.2]])
        errors = [
            abs(mdp.finite_difference_gradient(w, step) - mdp.gradient(w)).max() for step in (0.2, 0.1, 0.05)
        ]
        assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2**6, rtol=0.05)

    def test_a_row_of_w_for_an_observation_that_no_state_has_gets_no_gradient(self):
        mdp = dataclasses.replace(chain(), observation=[2, 0])
        assert mdp.n_observations == 3
        w = np.random.default_rng(0).normal(size=(3, 2))
        for gradient in (mdp.gradient(w), mdp.autograd_gradient(w), mdp.finite_difference_gradient(w)):
            assert_array_equal(gradient[1], 0)
            assert gradient[[0, 2]].all()

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
    def test_observations_may_be_integers_of_any_size(self, dtype):
        mdp, w = dataclasses.replace(chain(), observation=np.array([0, 0], dtype)), np.array([[0.5, 0]])
        assert_close(mdp.autograd_gradient(w), mdp.gradient(w), 1e-12)

    @pytest.mark.parametrize("horizon", [3, 3.0, np.int32(3), np.float64(3)])
    def test_a_horizon_may_be_any_whole_number(self, horizon):
        mdp = chain(horizon)
        assert mdp.values(np.zeros((2, 2))).V.shape == (3, 2)
        assert mdp.enumerate_episodes(np.zeros((2, 2))).a.shape == (64, 3)
        assert type(mdp.horizon) is int

    def test_gamma_zero_leaves_the_first_reward(self):
        w = np.random.default_rng(0).normal(size=(2, 2))
        for mdp in (chain(3, 0), chain(None, 0)):
            assert mdp.J(w) == pytest.approx(-0.2 * mdp.pi(w)[0, 1])

    def test_a_long_horizon_is_like_none(self):
        w = np.random.default_rng(0).normal(size=(2, 2))
        near, far = chain(None, 0.9), chain(400, 0.9)
        assert_close(far.values(w).V[0], near.values(w).V, 1e-12)
        assert_close(far.state_visitation(w).sum(axis=0), near.state_visitation(w), 1e-12)
        assert_close(far.gradient(w), near.gradient(w), 1e-12)
        assert_close(far.autograd_gradient(w), near.autograd_gradient(w), 1e-12)


class TestEnumerateEpisodes:
    @settings(reproducible, max_examples=80)
    @given(small_mdps(("horizon", "both", "forward")) | mdps(("forward",)))
    def test_it_finds_every_episode_once_with_its_probability(self, drawn):
        mdp, w = drawn
        episodes, expected = mdp.enumerate_episodes(w), episodes_by_hand(mdp, w)
        found = keys(episodes)
        assert len(found) == len(set(found)) == len(expected)
        assert_allclose(episodes.P, [expected[key] for key in found], rtol=1e-12)
        assert episodes.P.sum() == pytest.approx(1, rel=1e-12)
        assert_consistent(mdp, episodes)

    @settings(reproducible, max_examples=60)
    @given(small_mdps(("horizon", "both", "forward")))
    def test_expectations_over_episodes_are_J_the_values_and_the_state_visitation(self, drawn):
        """V of the initial state and Q of the first action, without the Bellman equation."""
        mdp, w = drawn
        s, _, a, r, mask, P = mdp.enumerate_episodes(w)
        G = r @ mdp.gamma ** np.arange(r.shape[1])
        scale = 1 + abs(G).max()
        assert mdp.J(w) == pytest.approx(P @ G, abs=1e-12 * scale)
        V, Q, _ = (v if mdp.horizon is None else v[0] for v in mdp.values(w))
        for first in np.flatnonzero(mdp.initial_distribution):
            at = s[:, 0] == first
            assert V[first] == pytest.approx(P[at] @ G[at] / P[at].sum(), abs=1e-12 * scale)
            for k in range(mdp.n_actions):
                taken = at & (a[:, 0] == k)
                assert Q[first, k] == pytest.approx(P[taken] @ G[taken] / P[taken].sum(), abs=1e-11 * scale)
        d = np.zeros((r.shape[1], mdp.n_states))
        for t in range(r.shape[1]):
            np.add.at(d[t], s[mask[:, t], t], mdp.gamma**t * P[mask[:, t]])
        exact = mdp.state_visitation(w)
        assert_allclose(exact.sum(axis=0) if mdp.horizon else exact, d.sum(axis=0), atol=1e-12)
        if mdp.horizon:
            assert_allclose(exact[: len(d)], d, atol=1e-12)

    @settings(reproducible, max_examples=60)
    @given(small_mdps(("horizon", "both", "forward")))
    def test_the_gradient_is_the_expectation_of_return_times_score(self, drawn):
        """Slides 31–33, in plain loops: Σ P(τ) G(τ) Σₜ ([k = aₜ] − π(k∣sₜ)) in the row of the observation."""
        mdp, w = drawn
        pi, expected = pi_by_hand(mdp, w), zeros(mdp)
        for (s, a), p in episodes_by_hand(mdp, w).items():
            G = sum(mdp.gamma**t * mdp.r[s[t], a[t]] for t in range(len(a)))
            for s_t, a_t in zip(s, a, strict=False):
                for k in range(mdp.n_actions):
                    expected[mdp.observation[s_t], k] += p * G * ((k == a_t) - pi[s_t][k])
        assert_close(mdp.gradient(w), expected, 1e-12)

    def test_some_episodes_end_earlier_than_others(self):
        """One tile, three steps at most: forward at once, after one step back, after two, or never."""
        episodes = short_corridor((0,), (), horizon=3).enumerate_episodes([logits(0.25)])
        order = np.argsort(episodes.mask.sum(axis=1) + (episodes.s[:, -1] == 0))
        s, x, a, r, mask, P = (column[order] for column in episodes)
        assert s.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
        assert a.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
        assert mask.tolist() == [
            [True, False, False],
            [True, True, False],
            [True, True, True],
            [True, True, True],
        ]
        assert_array_equal(r, -1.0 * mask)
        assert not x.any()
        assert_allclose(P, [0.25, 0.75 * 0.25, 0.75**2 * 0.25, 0.75**3])

    def test_enumeration_stops_when_all_episodes_have_ended(self):
        mdp = dataclasses.replace(hidden_fork(), horizon=10)
        assert mdp.enumerate_episodes(np.zeros((2, 2))).a.shape == (4, 2)

    def test_actions_that_the_policy_never_takes_have_probability_zero(self):
        episodes = hidden_fork().enumerate_episodes([[-1000, 1000], [0, 0]])
        assert sorted(episodes.P) == [0, 0, 0.5, 0.5]


def assert_consistent(mdp, episodes):
    """The fields of ``Episodes`` are consistent with each other and with the MDP."""
    s, x, a, r, mask, P = episodes
    n, T = a.shape
    assert [column.shape for column in episodes] == [(n, T + 1), (n, T), (n, T), (n, T), (n, T), (n,)]
    assert mask.dtype == bool
    assert ((P >= 0) & (P <= 1)).all()
    assert_array_equal(x, mdp.observation[s[:, :-1]])
    assert_array_equal(r, np.where(mask, mdp.r[s[:, :-1], a], 0))
    assert mask[:, 0].all()
    ended = mdp.absorbing[s[:, 1:]]
    assert_array_equal(mask[:, 1:], mask[:, :-1] & ~ended[:, :-1])
    assert (s[:, 1:] == s[:, :-1])[~mask].all()


class TestSampleEpisodes:
    @pytest.mark.parametrize("name", ["chain", "hidden fork", "forward", "ends early"])
    def test_episodes_come_as_often_as_they_should(self, name):
        rng = np.random.default_rng(5)
        mdp = {
            "chain": chain(4, 0.9),
            "hidden fork": hidden_fork(),
            "forward": forward(5),
            "ends early": dataclasses.replace(
                random_mdp(3, 2, rng, horizon=3),
                absorbing=[False, False, True],
                initial_distribution=[0.3, 0.7, 0],
            ),
        }[name]
        w = rng.normal(size=(mdp.n_observations, mdp.n_actions))
        assert_drawn_from(episodes_by_hand(mdp, w), keys(mdp.sample_episodes(w, 30_000, rng)))

    @settings(reproducible, max_examples=60)
    @given(mdps(), st.integers(1, 30), st.integers(0, 2**32))
    def test_sampled_episodes_are_consistent_and_have_the_right_probability(self, drawn, n, seed):
        mdp, w = drawn
        needed = mdp.horizon is None and mdp.gamma < 1
        episodes = mdp.sample_episodes(w, n, np.random.default_rng(seed), n_steps=6 if needed else None)
        assert_consistent(mdp, episodes)
        pi = pi_by_hand(mdp, w)
        for (s, a), P, mask in zip(keys(episodes), episodes.P, episodes.mask, strict=True):
            p = mdp.initial_distribution[s[0]]
            for i, k in enumerate(a):
                p *= pi[s[i]][k] * mdp.P[s[i], k, s[i + 1]]
            assert p == pytest.approx(P, rel=1e-11)
            assert p > 0
            if not needed:
                assert mdp.absorbing[s[-1]] or len(a) == mdp.horizon
            assert not mdp.absorbing[list(s[:-1])].any()
            assert mask.sum() == len(a)

    def test_truncation_is_like_a_horizon(self):
        """The same draws; the mask of a truncated episode is True up to its last step."""
        mdp, w = short_corridor((0, 0), ()), np.zeros((1, 2))
        cut = mdp.sample_episodes(w, 500, np.random.default_rng(0), n_steps=3)
        for one, other in zip(
            cut,
            dataclasses.replace(mdp, horizon=3).sample_episodes(w, 500, np.random.default_rng(0)),
            strict=True,
        ):
            assert_array_equal(one, other)
        assert cut.a.shape == (500, 3)
        assert (cut.mask.all(axis=1) | mdp.absorbing[cut.s[:, -1]]).all()
        assert cut.mask[~mdp.absorbing[cut.s[:, -1]]].all()
        for n_steps, length in ((1, 1), (4, 4), (5, 5), (9, 5)):
            assert chain(5).sample_episodes(
                np.zeros((2, 2)), 3, np.random.default_rng(0), n_steps
            ).a.shape == (
                3,
                length,
            )

    def test_continuing_tasks_can_be_truncated(self):
        episodes = chain(None, 0.9).sample_episodes(np.zeros((2, 2)), 7, np.random.default_rng(0), n_steps=11)
        assert episodes.mask.all()
        assert episodes.s.shape == (7, 12)
        assert (
            mdp_that_may_stay()
            .sample_episodes([[1000, -1000]], 2, np.random.default_rng(0), n_steps=4)
            .mask.all()
        )

    def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(self):
        one, two, three = (
            chain(9).sample_episodes(np.zeros((2, 2)), 20, np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        for a, b in zip(one, two, strict=True):
            assert_array_equal(a, b)
        assert (one.a != three.a).any()

    def test_a_deterministic_policy_in_a_deterministic_mdp_gives_one_episode(self):
        mdp = windy_grid(0)
        w = 1000 * np.array([[0, 0, 1, 0]] * 6 + [[0, 1, 0, 0]] * 3)
        episodes = mdp.sample_episodes(w, 1000, np.random.default_rng(0))
        assert (episodes.s == [0, 3, 6, 7, 8]).all()
        assert (episodes.P == 1).all()

    @pytest.mark.parametrize("u", [0.0, np.nextafter(1, 0)])
    def test_the_smallest_and_the_largest_random_number_draw_nothing_impossible(self, u):
        """Ten times 0.1 is summed to the greatest number below 1."""
        p = np.array([0, *[0.1] * 10, 0])
        mdp = MDP(np.tile(p, (12, 1, 1)), np.zeros((12, 1)), p, horizon=2)
        assert (
            mdp.sample_episodes(np.zeros((12, 1)), 3, SimpleNamespace(random=lambda n: np.full(n, u))).P > 0
        ).all()


def forward(n, n_actions=2):
    """Every action leads to any later state with equal probability; the last state is absorbing."""
    P = np.triu(np.ones((n, n)), 1)
    P[-1, -1] = 1
    P = np.repeat((P / P.sum(axis=1, keepdims=True))[:, None], n_actions, axis=1)
    return MDP(P, np.zeros((n, n_actions)), np.eye(n)[0], absorbing=np.arange(n) == n - 1)


def end_or_pit(initial_distribution):
    """0 → 1, which is absorbing though its transition leads to 2; and 2 → 2."""
    return MDP(
        np.eye(3)[[[1], [2], [2]]], np.ones((3, 1)), initial_distribution, 0.9, absorbing=[False, True, False]
    )


def mdp_that_may_stay():
    """Action 0 stays, action 1 ends the episode."""
    return short_corridor((0,), ())


def sample_by_acting(env, act, n_episodes, seed):
    """Yield the observations, actions and rewards of each episode."""
    rng, (x, _) = np.random.default_rng(seed), env.reset(seed=seed)
    for _ in range(n_episodes):
        observations, actions, rewards, terminated = [x], [], [], False
        while not terminated:
            assert len(actions) < 100
            actions.append(act(x, rng))
            x, r, terminated, truncated, info = env.step(actions[-1])
            assert (truncated, info) == (False, {})
            observations.append(x)
            rewards.append(r)
        yield tuple(observations), tuple(actions), tuple(rewards)
        x, _ = env.reset()


class TestEnv:
    @pytest.mark.parametrize("mdp", MDPS.values(), ids=MDPS)
    def test_gymnasium_has_no_complaints(self, mdp):
        check_env(mdp.env(), skip_render_check=True)

    @pytest.mark.parametrize("name", ["chain", "hidden fork", "ends early"])
    def test_episodes_come_as_often_as_they_should(self, name):
        rng = np.random.default_rng(6)
        mdp = {
            "chain": chain(),
            "hidden fork": hidden_fork(),
            "ends early": dataclasses.replace(
                random_mdp(3, 2, rng, horizon=3),
                absorbing=[False, True, False],
                initial_distribution=[0.3, 0, 0.7],
            ),
        }[name]
        w = rng.normal(size=(mdp.n_observations, 2))
        p_one = {x: pi[1] for x, pi in zip(mdp.observation, pi_by_hand(mdp, w), strict=True)}
        expected, possible = Counter(), {}
        for (s, a), p in episodes_by_hand(mdp, w).items():
            key = tuple(mdp.observation[list(s)].tolist()), a
            expected[key] += p
            possible.setdefault(key, set()).add(
                tuple(mdp.r[s_i, a_i] for s_i, a_i in zip(s, a, strict=False))
            )
        episodes = list(
            sample_by_acting(mdp.env(), lambda x, rng: int(rng.random() < p_one[x]), 8000, seed=0)
        )
        assert_drawn_from(expected, [(x, a) for x, a, _ in episodes])
        assert all(rewards in possible[x, a] for x, a, rewards in episodes)

    def test_it_terminates_at_the_horizon_and_in_absorbing_states(self):
        episodes = list(
            sample_by_acting(
                short_corridor((0, 0), (), horizon=4).env(), lambda x, rng: int(rng.integers(2)), 200, seed=0
            )
        )
        assert {a for _, a, _ in episodes if len(a) < 4} == {
            (1, 1),
            (0, 1, 1),
        }  # two tiles, and a wall behind
        assert {len(a) for _, a, _ in episodes} == {2, 3, 4}

    def test_it_returns_observations_and_not_states(self):
        env = short_corridor((2, 0, 1), ()).env()
        assert env.observation_space.n == 3
        assert env.reset(seed=0) == (2, {})
        assert [env.step(1) for _ in range(3)] == [
            (0, -1.0, False, False, {}),
            (1, -1.0, False, False, {}),
            (0, -1.0, True, False, {}),
        ]

    def test_two_environments_of_one_mdp_are_independent(self):
        mdp = short_corridor((0, 1, 2), ())
        one, other = mdp.env(), mdp.env()
        one.reset(seed=0)
        other.reset(seed=0)
        assert one.step(1)[0] == 1
        assert (one.step(1)[0], other.step(1)[0]) == (2, 1)

    def test_the_same_seed_gives_the_same_episodes(self):
        runs = [list(sample_by_acting(chain(20).env(), lambda x, rng: 1, 5, seed)) for seed in (3, 3, 4)]
        assert runs[0] == runs[1] != runs[2]

    def test_it_needs_a_reset_before_an_episode_and_after_it(self):
        env = hidden_fork().env()
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
        env = hidden_fork().env()
        env.reset(seed=0)
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'action must be an integer in 0..1, got {action!r}')}$"
        ):
            env.step(action)
        assert env.step(1)[2] is False
        assert env.step(1)[1:3] == (2.0, True)

    @pytest.mark.parametrize("action", [1, np.int64(1), np.array(1), True])
    def test_actions_may_be_any_integer(self, action):
        env = hidden_fork().env()
        env.reset(seed=0)
        env.step(action)
        assert env.step(action)[1] == 2

    @pytest.mark.parametrize("seed", [0, 1])
    def test_reinforce_learns_it(self, seed):
        """By the exact J. The uniform policy takes 20 steps, the optimal one of its class 17.6025."""
        mdp = short_corridor((0, 0, 1, 1), (1, 3))
        optimum = minimize(
            lambda w: -mdp.J(w.reshape(2, 2)),
            np.zeros(4),
            jac=lambda w: -mdp.gradient(w.reshape(2, 2)).ravel(),
        )
        assert optimum.fun == pytest.approx(17.6025, abs=1e-4)
        policy, env = (
            TabularPolicy(np.zeros((2, 2))),
            SyncVectorEnv([mdp.env] * 8, autoreset_mode=AutoresetMode.SAME_STEP),
        )
        config = ReinforceConfig(
            eta=0.05, return_fn=reward_to_go, gamma=1.0, standardize=True, batch_size=500
        )
        algorithm = Reinforce(env, policy, config, seed=seed)
        J = [mdp.J(policy.w.detach())]
        with single_thread():
            for _ in range(20):
                algorithm.update()
                J.append(mdp.J(policy.w.detach()))
        assert J[0] == pytest.approx(-20)
        assert min(J[-5:]) > -18.5


def average_reward_gradient_by_differences(mdp, w, step=1e-5):
    """∂r̄/∂w by central differences."""
    gradient = np.zeros_like(w)
    for k in np.ndindex(w.shape):
        h = np.zeros_like(w)
        h[k] = step
        gradient[k] = (mdp.average_reward(w + h).r_bar - mdp.average_reward(w - h).r_bar) / (2 * step)
    return gradient


def average_reward_by_hand(mdp, pi):
    """r̄ and d, the distribution of the state after 4,096 steps."""
    P = np.einsum("sk,skt->st", pi, mdp.P)
    far = np.linalg.matrix_power(
        0.5 * (P + np.eye(mdp.n_states)), 2**12
    )  # lazy chain: half of the steps stay, which leaves d the same
    d = mdp.initial_distribution @ far
    return float(d @ (pi * mdp.r).sum(axis=1)), d


class TestAverageReward:
    @reproducible
    @given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32))
    def test_it_is_the_reward_per_step_in_the_long_run(self, n_states, n_actions, seed):
        rng = np.random.default_rng(seed)
        mdp = random_mdp(n_states, n_actions, rng, n_observations=rng.integers(1, n_states + 1))
        w = rng.normal(size=(mdp.n_observations, n_actions))
        average, (r_bar, d) = mdp.average_reward(w), average_reward_by_hand(mdp, mdp.pi(w))
        assert_close(average.d, d, 1e-9)
        assert_close(average.r_bar, r_bar, 1e-9)

    @reproducible
    @given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32))
    def test_differential_values_are_the_limit_of_discounted_ones(self, n_states, n_actions, seed):
        """V_γ(s) = r̄/(1 − γ) + V(s) + O(1 − γ), and ∂/∂w (1 − γ) J → ∂r̄/∂w."""
        rng = np.random.default_rng(seed)
        mdp = random_mdp(n_states, n_actions, rng, gamma=1 - 1e-6)
        w = rng.normal(size=(n_states, n_actions))
        average, discounted = mdp.average_reward(w), mdp.values(w)
        near = {"rtol": 0, "atol": 1e-3 * (1 + abs(average.V).max())}
        assert_allclose(discounted.V - average.r_bar / 1e-6, average.V, **near)
        assert_allclose(discounted.A, average.A, **near)
        assert_allclose(1e-6 * mdp.gradient(w), mdp.average_reward_gradient(w), **near)

    @reproducible
    @given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
    def test_the_differential_values_solve_their_bellman_equation(self, n_states, n_actions, seed):
        rng = np.random.default_rng(seed)
        mdp = random_mdp(n_states, n_actions, rng, n_observations=rng.integers(1, n_states + 1))
        w = rng.normal(size=(mdp.n_observations, n_actions))
        r_bar, d, V, Q, A = mdp.average_reward(w)
        assert_close(d @ V, 0, 1e-9)
        assert_close((mdp.pi(w) * Q).sum(axis=1), V, 1e-9)
        assert_close((mdp.pi(w) * A).sum(axis=1), np.zeros(n_states), 1e-9)
        assert_close(Q, mdp.r - r_bar + mdp.P @ V, 1e-9)
        assert_allclose(
            mdp.average_reward_gradient(w),
            average_reward_gradient_by_differences(mdp, w),
            rtol=1e-5,
            atol=1e-7,
        )

    @reproducible
    @given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
    def test_policy_iteration_finds_an_optimal_policy(self, n_states, n_actions, seed):
        """No deterministic policy is better, and so none is; a linear program agrees."""
        mdp = random_mdp(n_states, n_actions, np.random.default_rng(seed))
        pi, optimum = mdp.policy_iteration()
        assert set(np.unique(pi)) <= {0, 1}
        choices = product(range(n_actions), repeat=n_states)
        assert optimum.r_bar == pytest.approx(
            max(average_reward_by_hand(mdp, np.eye(n_actions)[list(a)])[0] for a in choices), abs=1e-9
        )
        assert optimum.r_bar == pytest.approx(optimal_average_reward_by_linear_program(mdp), abs=1e-7)

    def test_two_states_by_hand(self):
        """0 → 1 gives 3 and 1 → 0 gives 1, so r̄ = 2, and V(0) − V(1) = 1 with Σₛ d(s) V(s) = 0."""
        mdp = MDP(np.eye(2)[[[1], [0]]], [[3], [1]], [1, 0], 0.5)
        r_bar, d, V, Q, A = mdp.average_reward([[0], [0]])
        assert r_bar == pytest.approx(2)
        assert_close(d, [0.5, 0.5], 1e-12)
        assert_close(V, [0.5, -0.5], 1e-12)
        assert_close(Q, np.reshape(V, (2, 1)), 1e-12)
        assert_close(A, [[0], [0]], 1e-12)

    def test_transient_states_do_not_count(self):
        mdp = MDP(np.eye(2)[[[1], [1]]], [[100], [1]], [1, 0], 0.5)
        r_bar, d, V, *_ = mdp.average_reward([[0], [0]])
        assert r_bar == pytest.approx(1)
        assert_close(d, [0, 1], 1e-12)
        assert_close(V, [99, 0], 1e-12)

    @pytest.mark.parametrize(
        ("mdp", "message"),
        [
            (
                short_corridor(),
                "the average reward needs a continuing task, got an MDP with absorbing states or a horizon",
            ),
            (
                chain(),
                "the average reward needs a continuing task, got an MDP with absorbing states or a horizon",
            ),
            (
                MDP(np.eye(2)[[[0], [1]]], np.zeros((2, 1)), [0.5, 0.5], 0.9),
                "the average reward must not depend on the initial state, "
                "got a policy with several recurrent classes",
            ),
        ],
    )
    def test_an_undefined_average_reward_is_an_error(self, mdp, message):
        for call in (mdp.average_reward, mdp.average_reward_gradient):
            with pytest.raises(ValueError, match=f"^{message}$"):
                call(zeros(mdp))
        with pytest.raises(ValueError, match=f"^{message}$"):
            mdp.policy_iteration()


class TestNeverEnding:
    @pytest.mark.parametrize(
        "method",
        ["J", "values", "state_visitation", "gradient", "autograd_gradient", "finite_difference_gradient"],
    )
    @pytest.mark.parametrize("size", [16, 40, 1000, -1000])
    def test_a_policy_that_never_reaches_the_goal_is_an_error(self, method, size):
        """Also where rounding hides it: J would be −3·10¹⁴ for 16, and 0 for 40."""
        with pytest.raises(ValueError, match=f"^{NEVER}$"):
            getattr(short_corridor(), method)([[size, -size]])

    @settings(reproducible, max_examples=50)
    @given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([40, 1000]))
    def test_also_if_it_wanders_between_states(self, seed, n, size):
        """Action 0 leads everywhere but to the goal; I − P is singular, and rounding may hide it."""
        P = np.zeros((n + 1, 2, n + 1))
        P[:n, 0, :n], P[:, 1, n], P[n, 0, n] = np.random.default_rng(seed).dirichlet(np.ones(n), n), 1, 1
        mdp = MDP(P, -np.ones((n + 1, 2)), np.eye(n + 1)[0], absorbing=np.arange(n + 1) == n)
        w = np.tile([size, -size], (n + 1, 1))
        for method in (mdp.J, mdp.state_visitation, mdp.gradient, mdp.autograd_gradient):
            with pytest.raises(ValueError, match=f"^{NEVER}$"):
                method(w)

    def test_a_policy_that_takes_long_is_no_error(self):
        """Two thousand million steps; at least six digits survive rounding."""
        p = 1 / (1 + np.exp(20))
        assert short_corridor().J([[10, -10]]) == pytest.approx(-(4 - 2 * p) / (p * (1 - p)), rel=1e-6)
        assert short_corridor().state_visitation([[10, -10]]).sum() == pytest.approx(
            (4 - 2 * p) / (p * (1 - p)), rel=1e-6
        )

    def test_with_a_discount_or_a_horizon_it_is_no_error(self):
        for mdp, J in ((short_corridor(gamma=0.9), -10), (short_corridor(horizon=10), -10)):
            for method in (mdp.gradient, mdp.autograd_gradient, mdp.finite_difference_gradient):
                assert_allclose(method([[1000, -1000]]), 0, atol=1e-9)
            assert mdp.J([[1000, -1000]]) == pytest.approx(J)

    def test_sampling_episodes_that_never_end_is_an_error(self):
        with pytest.raises(
            ValueError, match=r"^n_steps must be given, because no absorbing state is reachable from state 0$"
        ):
            mdp_that_may_stay().sample_episodes([[1000, -1000]], 1, np.random.default_rng(0))

    def test_an_unreachable_pit_does_no_harm(self):
        mdp = end_or_pit([1, 0, 0])
        assert mdp.sample_episodes(np.zeros((3, 1)), 2, np.random.default_rng(0)).s.tolist() == [
            [0, 1],
            [0, 1],
        ]
        assert mdp.enumerate_episodes(np.zeros((3, 1))).s.tolist() == [[0, 1]]

    def test_transitions_out_of_an_absorbing_state_do_not_count(self):
        """0 → 1, which is absorbing, → 2 → 1."""
        mdp = MDP(np.eye(3)[[[1], [2], [1]]], np.ones((3, 1)), [1, 0, 0], absorbing=[False, True, False])
        assert_array_equal(mdp.values(np.zeros((3, 1))).V, [1, 0, 1])
        assert_array_equal(mdp.state_visitation(np.zeros((3, 1))), [1, 0, 0])
        assert mdp.enumerate_episodes(np.zeros((3, 1))).s.tolist() == [[0, 1]]


class TestArrays:
    def test_they_are_copies_and_read_only(self):
        given = {
            "P": np.full((2, 1, 2), 0.5),
            "r": np.zeros((2, 1)),
            "initial_distribution": np.array([1.0, 0]),
            "absorbing": np.array([False, True]),
        }
        given["observation"] = np.array([0, 0])
        mdp = MDP(**given)
        for name, array in given.items():
            before = array.copy()
            array[:] = 7
            assert_array_equal(getattr(mdp, name), before)
            with pytest.raises(ValueError, match="read-only"):
                getattr(mdp, name)[0] = 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            mdp.gamma = 0.5

    def test_lists_are_accepted_and_defaults_are_filled_in(self):
        mdp = MDP([[[0, 1]], [[1, 0]]], [[1], [2]], [1, 0], 0.5)
        assert [
            array.dtype for array in (mdp.P, mdp.r, mdp.initial_distribution, mdp.absorbing, mdp.observation)
        ] == [
            float,
            float,
            float,
            bool,
            int,
        ]
        assert_array_equal(mdp.absorbing, [False, False])
        assert_array_equal(mdp.observation, [0, 1])
        assert mdp.J([[0], [0]]) == pytest.approx((1 + 0.5 * 2) / (1 - 0.25))

    def test_no_method_changes_its_argument(self):
        w = np.zeros((2, 2))
        w.flags.writeable = False
        mdp = chain()
        for method in (
            mdp.J,
            mdp.gradient,
            mdp.autograd_gradient,
            mdp.finite_difference_gradient,
            mdp.enumerate_episodes,
        ):
            method(w)
        mdp.state_visitation(w)[:] = 0
        assert mdp.state_visitation(w).any()


HALF = np.full((2, 2, 2), 0.5)


def make(**changes):
    return MDP(
        **({"P": HALF, "r": np.zeros((2, 2)), "initial_distribution": [0.5, 0.5], "gamma": 0.9} | changes)
    )


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
        (
            lambda: random_mdp(0, 2, np.random.default_rng(0)),
            "n_states must be a whole number of at least 1, got 0",
        ),
        (lambda: make(P=at(HALF, (1, 0, 1), 0.4)), "P must sum to 1, got 0.9 for state 1, action 0"),
        (lambda: make(P=at(HALF, (0, 1), [1.5, -0.5])), "P must hold probabilities, got -0.5"),
        (lambda: make(P=at(HALF, (0, 1, 0), np.nan)), "P must hold probabilities, got nan"),
        (lambda: make(P=at(HALF, (0, 1, 0), np.inf)), "P must hold probabilities, got inf"),
        (lambda: make(r=np.zeros(2)), "r must have shape (2, 2), got (2,)"),
        (lambda: make(r=[[0, 0], [np.nan, 0]]), "r must be finite, got nan"),
        (lambda: make(r=[[0, 0], [0, -np.inf]]), "r must be finite, got -inf"),
        (lambda: make(initial_distribution=[1]), "initial_distribution must have shape (2,), got (1,)"),
        (lambda: make(initial_distribution=[0.5, 0.4]), "initial_distribution must sum to 1, got 0.9"),
        (lambda: make(initial_distribution=[2, 0]), "initial_distribution must sum to 1, got 2"),
        (
            lambda: make(initial_distribution=[-1, 2]),
            "initial_distribution must hold probabilities, got -1.0",
        ),
        (
            lambda: make(initial_distribution=[np.nan, 1]),
            "initial_distribution must hold probabilities, got nan",
        ),
        (lambda: make(absorbing=[True]), "absorbing must hold booleans, shape (2,), got bool of shape (1,)"),
        (lambda: make(absorbing=[0, 1]), "absorbing must hold booleans, shape (2,), got int64 of shape (2,)"),
        (
            lambda: make(absorbing=[False, True]),
            "initial_distribution must be 0 for absorbing states, got 0.5",
        ),
        (lambda: make(observation=[0]), "observation must have shape (2,), got (1,)"),
        (lambda: make(observation=[0.0, 1.0]), "observation must hold integers from 0, got [0. 1.]"),
        (lambda: make(observation=[0, -1]), "observation must hold integers from 0, got [ 0 -1]"),
        (lambda: make(observation=[True, False]), "observation must hold integers from 0, got [ True False]"),
        *((lambda g=g: make(gamma=g), f"gamma must be in [0, 1], got {g}") for g in (-0.1, 1.01, np.nan)),
        *(
            (lambda h=h: make(horizon=h), f"horizon must be a whole number of at least 1, got {h}")
            for h in (0, -1, 1.5, np.nan, np.inf)
        ),
        (
            lambda: chain(None),
            "gamma must be below 1 or horizon be given, because no absorbing state is reachable from state 0",
        ),
        (
            lambda: MDP(SOLITARY, np.zeros((3, 2)), [1, 0, 0], absorbing=[False, True, False]),
            "gamma must be below 1 or horizon be given, because no absorbing state is reachable from state 2",
        ),
        (lambda: chain().J(np.zeros((2, 3))), "w must have shape (2, 2), got (2, 3)"),
        (lambda: hidden_fork().gradient(np.zeros((4, 2))), "w must have shape (2, 2), got (4, 2)"),
        (lambda: chain().pi(np.zeros(4)), "w must have shape (2, 2), got (4,)"),
        (lambda: chain().autograd_gradient([[0, 0], [0, np.nan]]), "w must be finite, got nan"),
        (lambda: chain().finite_difference_gradient([[0, 0], [0, np.inf]]), "w must be finite, got inf"),
        (lambda: chain().enumerate_episodes([[0, 0], [0, -np.inf]]), "w must be finite, got -inf"),
        (
            lambda: chain().sample_episodes([[0, 0]], 1, np.random.default_rng(0)),
            "w must have shape (2, 2), got (1, 2)",
        ),
        (
            lambda: chain().finite_difference_gradient(np.zeros((2, 2)), 0),
            "step must be a positive number, got 0",
        ),
        (
            lambda: chain().finite_difference_gradient(np.zeros((2, 2)), np.nan),
            "step must be a positive number, got nan",
        ),
        (
            lambda: chain(30).enumerate_episodes(np.zeros((2, 2))),
            "horizon must leave at most 1,000,000 episodes, got 1,048,576 after 10 steps",
        ),
        *(
            (
                lambda mdp=mdp: mdp.enumerate_episodes(zeros(mdp)),
                "horizon must be given, because these episodes have no maximal length, got None",
            )
            for mdp in (
                chain(None, 0.9),
                short_corridor(),
                short_corridor((0,), ()),
                end_or_pit([0.9, 0, 0.1]),
            )
        ),
        (
            lambda: chain().finite_difference_gradient(np.zeros((2, 2)), np.inf),
            "step must be a positive number, got inf",
        ),
        (
            lambda: chain().sample_episodes(np.zeros((2, 2)), 1, np.random.default_rng(0), 1.5),
            "n_steps must be a whole number of at least 1, got 1.5",
        ),
        (
            lambda: chain().sample_episodes(np.zeros((2, 2)), 0, np.random.default_rng(0)),
            "n_episodes must be a whole number of at least 1, got 0",
        ),
        (
            lambda: chain().sample_episodes(np.zeros((2, 2)), 1, np.random.default_rng(0), 0),
            "n_steps must be a whole number of at least 1, got 0",
        ),
        (
            lambda: chain(None, 0.9).sample_episodes(np.zeros((2, 2)), 1, np.random.default_rng(0)),
            "n_steps must be given, because no absorbing state is reachable from state 0",
        ),
        (
            lambda: MDP(
                SOLITARY, np.zeros((3, 2)), [0.5, 0.5, 0], 0.9, absorbing=[True, False, False][::-1]
            ).sample_episodes([[0, 0], [1000, 0], [0, 0]], 1, np.random.default_rng(0)),
            "n_steps must be given, because no absorbing state is reachable from state 0",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
