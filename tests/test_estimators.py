"""The score-function estimator against autograd and loops, and its mean over every episode against the exact gradient."""

import math
import re
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from worlds import worlds

from pgcourse.algorithms.reinforce import objective
from pgcourse.maths.estimators import Episodes
from pgcourse.environments.worlds import chain, corridor, fog
from pgcourse.maths.estimators import optimal_baseline, quality, score_function
from pgcourse.maths.returns import (
    batch_mean,
    leave_one_out,
    mean_by_state,
    reward_to_go,
    standardized,
    td_error,
    total_return,
)
from pgcourse.networks.policies import TabularPolicy

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
few = partial(worlds, most_states=3, most_actions=2, longest=4)


@st.composite
def played(draw):
    """Logits, and episodes of many lengths."""
    world, w = draw(worlds())
    return w, world.sample(
        w,
        draw(st.integers(1, 6)),
        np.random.default_rng(draw(st.integers(0, 2**32))),
        n_steps=draw(st.integers(1, 9)),
    )


def by_loops(w, episodes, credit):
    """Σᵢ Gᵢ ([k = aᵢ] − π(k∣xᵢ)), each episode without what comes after its end."""
    estimates = np.zeros((len(episodes.a), *w.shape))
    for e, (x, a, r, live) in enumerate(zip(*episodes[1:5], strict=True)):
        n = live.sum()
        for x_i, a_i, G in zip(x[:n], a[:n], credit(r[:n]), strict=True):
            total = sum(math.exp(z) for z in w[x_i])
            for k in range(w.shape[1]):
                estimates[e, x_i, k] += G * ((k == a_i) - math.exp(w[x_i, k]) / total)
    return estimates


CREDITS = [
    total_return,
    partial(total_return, gamma=0.7),
    reward_to_go,
    partial(reward_to_go, gamma=0.7),
    np.ones_like,
]


@pytest.mark.parametrize(
    "credit", CREDITS, ids=["total", "discounted total", "to go", "discounted to go", "ones"]
)
class TestAnyCredit:
    @reproducible
    @given(played())
    def test_it_is_the_sum_of_its_docstring(self, credit, drawn):
        w, episodes = drawn
        expected = by_loops(w, episodes, credit)
        assert_allclose(
            score_function(w, episodes, credit(episodes.r)),
            expected,
            rtol=0,
            atol=1e-12 * (1 + abs(expected).max()),
            strict=True,
        )

    @settings(reproducible, max_examples=25)
    @given(played())
    def test_it_is_what_autograd_makes_of_the_objective(self, credit, drawn):
        """Of slide 35, one episode at a time."""
        w, episodes = drawn
        policy = TabularPolicy(w)
        for estimate, x, a, r, live in zip(
            score_function(w, episodes, credit(episodes.r)), *episodes[1:5], strict=True
        ):
            L = policy.log_prob(x[live], a[live])
            J = objective(L, torch.tensor(credit(r[live])), 1)
            assert_allclose(
                estimate, torch.autograd.grad(J, policy.w)[0], rtol=0, atol=1e-11 * (1 + abs(estimate).max())
            )

    def test_what_comes_after_an_end_contributes_nothing(self, credit):
        """More padding, and padding with anything but rewards."""
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        s, x, a, r, live, P = corridor((0, 1), ()).sample(w, 50, np.random.default_rng(0))
        assert (live.sum(axis=1) < live.shape[1]).any()
        expected = score_function(w, Episodes(s, x, a, r, live, P), credit(r))
        noise = np.random.default_rng(1).integers(2, size=(2, *live.shape))
        disturbed = Episodes(s, np.where(live, x, noise[0]), np.where(live, a, noise[1]), r, live, P)
        padded = Episodes(*(np.pad(column, ((0, 0), (0, 3))) for column in (s, x, a, r, live)), P)
        for other in (disturbed, padded):
            assert_allclose(score_function(w, other, credit(other.r)), expected, rtol=1e-12, atol=1e-12)

    def test_it_looks_at_no_state_and_no_probability(self, credit):
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        episodes = fog().sample(w, 20, np.random.default_rng(0))
        blind = episodes._replace(s=None, P=None)
        assert_array_equal(
            score_function(w, blind, credit(blind.r)), score_function(w, episodes, credit(episodes.r))
        )

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
    def test_no_episodes_and_no_steps_give_no_estimates_and_zeros(self, credit, shape):
        nothing = np.zeros(shape, int)
        episodes = Episodes(
            nothing, nothing, nothing, np.zeros(shape), np.zeros(shape, bool), np.ones(shape[0])
        )
        assert_array_equal(
            score_function(np.zeros((2, 3)), episodes, credit(episodes.r)),
            np.zeros((shape[0], 2, 3)),
            strict=True,
        )


@reproducible
@given(few(("horizon", "both", "forward")))
def test_its_mean_over_every_episode_is_the_gradient(drawn):
    """Slides 31–35, exactly; discount is the credit's business."""
    world, w = drawn
    episodes, gradient = world.enumerate(w), world.gradient(w)
    estimates = score_function(w, episodes, total_return(episodes.r, world.gamma))
    atol = 1e-12 * (1 + abs(estimates).max())
    assert_allclose(np.tensordot(episodes.P, estimates, 1), gradient, rtol=0, atol=atol, strict=True)
    scores = score_function(w, episodes, np.ones_like(episodes.r))
    assert_allclose(
        np.tensordot(episodes.P, scores, 1), 0, atol=atol
    )  # slide 48: any baseline leaves the mean


@reproducible
@given(few(("horizon", "forward")))
def test_reward_to_go_has_the_same_mean(drawn):
    """Slide 45: without discount, what came before an action is 0 on average. With discount, γⁱ Gᵢ is credited."""
    world, w = drawn
    episodes = world.enumerate(w)
    estimates = score_function(w, episodes, reward_to_go(episodes.r))
    assert_allclose(
        np.tensordot(episodes.P, estimates, 1),
        world.gradient(w),
        rtol=0,
        atol=1e-12 * (1 + abs(estimates).max()),
    )


@reproducible
@given(few(("both",)))
def test_with_discount_so_has_what_is_to_go_discounted_from_the_beginning(drawn):
    world, w = drawn
    episodes = world.enumerate(w)
    estimates = score_function(w, episodes, reward_to_go(episodes.r, world.gamma, from_start=True))
    assert_allclose(
        np.tensordot(episodes.P, estimates, 1),
        world.gradient(w),
        rtol=0,
        atol=1e-12 * (1 + abs(estimates).max()),
    )


@settings(reproducible, max_examples=30)
@given(few(("horizon", "both", "forward")))
def test_the_score_is_the_slope_of_the_logarithm_of_the_probability(drawn):
    """By differences of what ``enumerate`` says of the same episodes under other weights."""
    world, w = drawn
    episodes = world.enumerate(w)
    scores = score_function(w, episodes, np.ones_like(episodes.r))
    for at in np.ndindex(w.shape):
        aside = np.zeros_like(w)
        aside[at] = 1e-4
        rise = np.log(world.enumerate(w + aside).P) - np.log(world.enumerate(w - aside).P)
        assert_allclose(scores[:, *at], rise / 2e-4, atol=1e-7)


def test_the_mean_of_many_is_within_six_standard_errors():
    """Of four numbers, two and two opposite; by chance one is further off with 4·10⁻⁹."""
    world, w = chain(), np.array([[0.3, 0.1], [-0.5, 0.2]])
    estimates = score_function(w, world.sample(w, 20_000, np.random.default_rng(0)))
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (abs(estimates.mean(axis=0) - world.gradient(w)) < 6 * error).all()


def test_w_may_have_rows_for_what_was_not_seen():
    w = np.random.default_rng(0).normal(size=(2, 2))
    episodes = fog().sample(w, 10, np.random.default_rng(0))
    wider = score_function(np.vstack([w, [5, 6]]), episodes)
    assert_array_equal(wider[:, :2], score_function(w, episodes))
    assert_array_equal(wider[:, 2], 0)


@pytest.mark.parametrize(
    ("w", "G", "message"),
    [
        (np.zeros(4), None, "w must be a table of finite numbers, got shape (4,)"),
        ([[0, 0], [0, np.nan]], None, "w must be a table of finite numbers, got shape (2, 2)"),
        (
            np.zeros((1, 2)),
            None,
            "w must have a row for each x and a column for each a, at least (2, 2), got (1, 2)",
        ),
        (
            np.zeros((2, 1)),
            None,
            "w must have a row for each x and a column for each a, at least (2, 2), got (2, 1)",
        ),
        (np.zeros((2, 2)), np.zeros(64), "G must have the shape of the rewards, (64, 3), got (64,)"),
        (np.zeros((2, 2)), 1, "G must have the shape of the rewards, (64, 3), got ()"),
    ],
)
def test_bad_input_is_named(w, G, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_function(w, chain().enumerate(np.zeros((2, 2))), G)


# Credits and baselines: which of them leave the mean alone


def of_all(world, w, credit):
    """Quality of an estimator on every episode: exact."""
    episodes = world.enumerate(w)
    return quality(score_function(w, episodes, credit(episodes)), world.gradient(w), episodes.P)


def in_batches(world, w, credit, size=2):
    """Quality of the mean over a batch, on every batch: exact. ``credit(G, episodes)`` may mix what its episodes earned."""
    episodes, estimates, P = world.enumerate(w), [], []
    for which in product(range(len(episodes.P)), repeat=size):
        batch = Episodes(*(column[list(which)] for column in episodes))
        estimates.append(score_function(w, batch, credit(reward_to_go(batch.r), batch)).mean(axis=0))
        P.append(batch.P.prod())
    return quality(np.array(estimates), world.gradient(w), np.array(P))


def expected(world, w, episodes):
    """V at every step and after the last, shape (N, T+1); 0 where the episode is over."""
    V = world.values(w).V
    n_steps = episodes.a.shape[1]
    V = np.vstack([V[:n_steps], np.zeros(world.n_states)]) if world.horizon else np.tile(V, (n_steps + 1, 1))
    return V[np.arange(n_steps + 1), episodes.s] * np.pad(
        ~world.absorbing[episodes.s[:, 1:]], ((0, 0), (1, 0)), constant_values=True
    )


def less_V(world, w, e):
    return reward_to_go(e.r) - expected(world, w, e)[:, :-1]


UNBIASED = {
    "total": lambda world, w, e: total_return(e.r),
    "to go": lambda world, w, e: reward_to_go(e.r),
    "less 7": lambda world, w, e: reward_to_go(e.r) - 7,
    "less V": less_V,
    "less the best constant": lambda world, w, e: (
        reward_to_go(e.r) - optimal_baseline(w, e, reward_to_go(e.r))
    ),
    "less the best b(s)": lambda world, w, e: (
        reward_to_go(e.r) - optimal_baseline(w, e, reward_to_go(e.r), e.x)
    ),
    "TD": lambda world, w, e: td_error(e.r, expected(world, w, e)),
}


@pytest.mark.parametrize("credit", UNBIASED.values(), ids=UNBIASED)
@settings(reproducible, max_examples=30)
@given(few(("horizon", "forward")))
def test_credits_that_leave_the_mean_alone(credit, drawn):
    """Slides 45, 49, 50, 56: on every episode of any small world, to 1e-10."""
    world, w = drawn
    found = of_all(world, w, partial(credit, world, w))
    scale = 1 + abs(world.r).max() + np.sqrt(found.total_variance)
    assert_allclose(found.bias, 0, rtol=0, atol=1e-10 * scale)


@settings(reproducible, max_examples=30)
@given(few(("both",)))
def test_with_discount_from_the_start_or_in_the_total(drawn):
    world, w = drawn
    for credit in (
        partial(total_return, gamma=world.gamma),
        partial(reward_to_go, gamma=world.gamma, from_start=True),
    ):
        assert_allclose(of_all(world, w, lambda e, credit=credit: credit(e.r)).bias, 0, rtol=0, atol=1e-10)


CHAIN, W = chain(), np.array([[0.3, 0.1], [-0.5, 0.2]])


@pytest.mark.parametrize("size", [2, 3])
def test_the_others_mean_biases_nothing_and_the_batchs_own_shrinks_the_slope(size):
    """Episodes of one length, credited with their total: with N of them the batch's own mean leaves (N − 1)/N of the slope."""
    world = chain(horizon=2)

    def total(G, e):
        return total_return(e.r)

    true = world.gradient(W)
    assert abs(true).max() > 0.01
    own = in_batches(world, W, lambda G, e: total(G, e) - batch_mean(total(G, e), e.live), size)
    assert_allclose(own.mean, true * (size - 1) / size, rtol=0, atol=1e-12)
    others = in_batches(world, W, lambda G, e: total(G, e) - leave_one_out(total(G, e), e.live), size)
    assert_allclose(others.bias, 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("world", [CHAIN, corridor((0, 1), (), horizon=3)], ids=["chain", "corridor"])
class TestInPairs:
    """To go, on every pair of episodes; in the corridor they are of different lengths."""

    @pytest.mark.parametrize(
        "credit",
        [
            lambda G, e: G - leave_one_out(G, e.live),
            lambda G, e: G - mean_by_state(G, e.x, e.live, leave_out=True),
        ],
        ids=["leave one out", "mean by state of others"],
    )
    def test_what_others_say_biases_nothing(self, world, credit):
        assert_allclose(in_batches(world, W, credit).bias, 0, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "credit",
        [
            lambda G, e: G - batch_mean(G, e.live),
            lambda G, e: G - mean_by_state(G, e.x, e.live),
            lambda G, e: standardized(G, e.live),
            lambda G, e: reward_to_go(e.r, 0.5),
        ],
        ids=["batch mean", "mean by state", "standardized", "discounted"],
    )
    def test_what_the_same_episodes_say_does(self, world, credit):
        found, true = in_batches(world, W, credit), world.gradient(W)
        assert np.linalg.norm(found.bias) > 0.1 * np.linalg.norm(true)


# The best baseline


@reproducible
@given(few(("horizon", "forward")), st.booleans())
def test_no_other_baseline_has_less_variance(drawn, by_state):
    world, w = drawn
    e = world.enumerate(w)
    group, G = e.x if by_state else np.zeros_like(e.x), reward_to_go(e.r)
    b = optimal_baseline(w, e, G, group if by_state else None)
    assert all(len(set(b[e.live & (group == k)])) < 2 for k in range(group.max() + 1))
    least = of_all(world, w, lambda e: G - b).total_variance
    for k in range(group.max() + 1):
        for aside in (-0.1, 0.1):
            assert of_all(
                world, w, lambda e, k=k, aside=aside: G - b - aside * (group == k)
            ).total_variance >= least - 1e-10 * (1 + least)


def test_the_best_constant_is_the_quotient_of_two_means():
    e = CHAIN.enumerate(W)
    G = total_return(e.r)
    lengths = (score_function(W, e, np.ones_like(G)) ** 2).sum(axis=(1, 2))
    assert_allclose(
        optimal_baseline(W, e, G), (e.P * lengths * G[:, 0]).sum() / (e.P * lengths).sum(), rtol=1e-12
    )


def test_of_a_sample_it_is_that_of_its_frequencies():
    e = CHAIN.enumerate(W)
    often = np.random.default_rng(0).integers(1, 4, size=len(e.P))
    sample = Episodes(*(np.repeat(column, often, axis=0) for column in e))._replace(P=None)
    weighted = e._replace(P=often / often.sum())
    for group in (None, "x"):
        one = optimal_baseline(W, sample, reward_to_go(sample.r), group and sample.x)
        other = optimal_baseline(W, weighted, reward_to_go(e.r), group and e.x)
        assert_allclose(one, np.repeat(other, often, axis=0), rtol=1e-10)


def test_of_no_episodes_there_is_no_best_baseline():
    nothing = np.zeros((0, 3), int)
    e = Episodes(nothing, nothing, nothing, np.zeros((0, 3)), np.zeros((0, 3), bool), np.ones(0))
    assert_array_equal(optimal_baseline(W, e, e.r), np.zeros((0, 3)), strict=True)


@pytest.mark.parametrize("group", [np.zeros(3, int), np.zeros((64, 3)), np.full((64, 3), -1)])
def test_groups_must_be_numbered(group):
    e = CHAIN.enumerate(W)
    with pytest.raises(ValueError, match=r"^group must hold integers from 0, shape \(64, 3\), got "):
        optimal_baseline(W, e, e.r, group)


# How good an estimate is


@reproducible
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_quality_is_mean_and_scatter_term_by_term(n, size, seed):
    rng = np.random.default_rng(seed)
    g, truth, P = rng.normal(size=(n, size)), rng.normal(size=size), rng.dirichlet(np.ones(n))
    found = quality(g, truth, P)
    mean = [math.fsum(P[e] * g[e, k] for e in range(n)) for k in range(size)]
    variance = [math.fsum(P[e] * (g[e, k] - mean[k]) ** 2 for e in range(n)) for k in range(size)]
    assert_allclose(found.mean, mean, atol=1e-12)
    assert_allclose(found.bias, mean - truth, atol=1e-12)
    assert_allclose(found.truth, truth, atol=1e-12)
    assert_allclose(found.variance, variance, atol=1e-12)
    assert found.error == 0
    assert found.total_variance == pytest.approx(math.fsum(variance))
    assert found.mse == pytest.approx(
        math.fsum(P[e] * (g[e, k] - truth[k]) ** 2 for e in range(n) for k in range(size))
    )
    assert found.signal_to_noise == pytest.approx(math.fsum(m * m for m in mean) / math.fsum(variance))
    angle = (
        math.fsum(m * t for m, t in zip(mean, truth, strict=True)) / math.hypot(*mean) / math.hypot(*truth)
    )
    assert found.cosine == pytest.approx(angle)


def test_of_a_sample_it_is_numpys_and_within_six_standard_errors_of_what_is_exact():
    """Total variances of 10,000 episodes; by chance further off with 2·10⁻⁹."""
    e = CHAIN.enumerate(W)
    exact = quality(score_function(W, e), CHAIN.gradient(W), e.P)
    g = score_function(W, CHAIN.sample(W, 10_000, np.random.default_rng(0)))
    found = quality(g, CHAIN.gradient(W))
    assert_allclose(found.variance, g.var(axis=0, ddof=1))
    assert_allclose(found.mean, g.mean(axis=0))
    assert 0 < found.error < 0.1 * found.total_variance
    assert abs(found.total_variance - exact.total_variance) < 6 * found.error


def test_estimates_that_do_not_vary_are_all_signal():
    assert quality(np.ones((3, 2)), np.ones(2)).signal_to_noise == np.inf


@pytest.mark.parametrize(
    ("estimates", "truth", "P", "message"),
    [
        (np.ones((1, 2)), np.ones(2), None, "estimates must have shape (N, 2), N at least 2, got (1, 2)"),
        (np.ones((4, 2)), np.ones(3), None, "estimates must have shape (N, 3), N at least 2, got (4, 2)"),
        (
            np.full((4, 2), np.nan),
            np.ones(2),
            None,
            "estimates and truth must be finite, got a number that is not",
        ),
        (
            np.ones((2, 2)),
            np.ones(2),
            [0.5, 0.6],
            "P must hold a probability for each estimate, shape (2,), sum 1, got shape (2,), sum 1.1",
        ),
        (
            np.ones((2, 2)),
            np.ones(2),
            [1.0],
            "P must hold a probability for each estimate, shape (2,), sum 1, got shape (1,), sum 1",
        ),
    ],
)
def test_bad_estimates_are_named(estimates, truth, P, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quality(estimates, truth, P)
