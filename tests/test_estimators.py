"""The score-function estimator against autograd and loops; its mean over all episodes, the exact gradient."""

import math
import re
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_strategies import mdps
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.environments.worlds import chain, hidden_fork, short_corridor
from pgcourse.maths.estimators import Episodes, estimator_statistics, optimal_baseline, score_function
from pgcourse.maths.returns import (
    batch_mean_baseline,
    leave_one_out_baseline,
    reward_to_go,
    standardize,
    state_mean_baseline,
    surrogate,
    total_return,
)
from pgcourse.maths.td import td_error
from pgcourse.networks.policies import TabularPolicy

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
small_mdps = partial(mdps, max_states=3, max_actions=2, max_horizon=4)


@st.composite
def sampled_episodes(draw):
    """Draw logits, and episodes of many lengths."""
    mdp, w = draw(mdps())
    n_episodes, n_steps = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return w, mdp.sample_episodes(w, n_episodes, rng, n_steps=n_steps)


def by_loops(w, episodes, weights):
    """Return Σₜ Gₜ ([k = aₜ] − π(k∣oₜ)) of each episode without its padding."""
    estimates = np.zeros((len(episodes.a), *w.shape))
    for e, (observation, a, r, mask) in enumerate(zip(*episodes[1:5], strict=True)):
        n = mask.sum()
        for o_t, a_t, G in zip(observation[:n], a[:n], weights(r[:n]), strict=True):
            total = sum(math.exp(z) for z in w[o_t])
            for k in range(w.shape[1]):
                estimates[e, o_t, k] += G * ((k == a_t) - math.exp(w[o_t, k]) / total)
    return estimates


WEIGHTS = {
    "total return": total_return,
    "discounted total return": partial(total_return, gamma=0.7),
    "reward-to-go": reward_to_go,
    "discounted reward-to-go": partial(reward_to_go, gamma=0.7),
    "ones": np.ones_like,
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
class TestScoreFunction:
    @reproducible
    @given(sampled_episodes())
    def test_it_is_the_sum_of_its_docstring(self, weights, drawn):
        w, episodes = drawn
        expected = by_loops(w, episodes, weights)
        found = score_function(w, episodes, weights(episodes.r))
        assert_allclose(found, expected, rtol=0, atol=1e-12 * (1 + abs(expected).max()), strict=True)

    @settings(reproducible, max_examples=25)
    @given(sampled_episodes())
    def test_it_is_the_gradient_of_the_surrogate_objective(self, weights, drawn):
        """Of slide 35, one episode at a time."""
        w, episodes = drawn
        policy = TabularPolicy(w)
        estimates = score_function(w, episodes, weights(episodes.r))
        for estimate, observation, a, r, mask in zip(estimates, *episodes[1:5], strict=True):
            L = policy.log_prob(observation[mask], a[mask])
            J_hat = surrogate(L, torch.tensor(weights(r[mask])), 1)
            expected = torch.autograd.grad(J_hat, policy.w)[0]
            assert_allclose(estimate, expected, rtol=0, atol=1e-11 * (1 + abs(estimate).max()))

    def test_padding_contributes_nothing(self, weights):
        """More padding, and padding of any observations and actions, with rewards 0."""
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        s, observation, a, r, mask, P = short_corridor((0, 1), ()).sample_episodes(
            w, 50, np.random.default_rng(0)
        )
        assert (mask.sum(axis=1) < mask.shape[1]).any()
        expected = score_function(w, Episodes(s, observation, a, r, mask, P), weights(r))
        noise = np.random.default_rng(1).integers(2, size=(2, *mask.shape))
        disturbed = np.where(mask, observation, noise[0]), np.where(mask, a, noise[1])
        longer = (np.pad(column, ((0, 0), (0, 3))) for column in (s, observation, a, r, mask))
        for other in (Episodes(s, *disturbed, r, mask, P), Episodes(*longer, P)):
            assert_allclose(score_function(w, other, weights(other.r)), expected, rtol=1e-12, atol=1e-12)

    def test_it_uses_no_state_and_no_probability(self, weights):
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        episodes = hidden_fork().sample_episodes(w, 20, np.random.default_rng(0))
        G = weights(episodes.r)
        found = score_function(w, episodes._replace(s=None, P=None), G)
        assert_array_equal(found, score_function(w, episodes, G))

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
    def test_no_episodes_and_no_steps_give_no_estimates_and_zeros(self, weights, shape):
        empty, mask = np.zeros(shape, int), np.zeros(shape, bool)
        episodes = Episodes(empty, empty, empty, np.zeros(shape), mask, np.ones(shape[0]))
        found = score_function(np.zeros((2, 3)), episodes, weights(episodes.r))
        assert_array_equal(found, np.zeros((shape[0], 2, 3)), strict=True)


def assert_mean_is(gradient, P, estimates):
    atol = 1e-12 * (1 + abs(estimates).max())
    assert_allclose(np.tensordot(P, estimates, 1), gradient, rtol=0, atol=atol, strict=True)


@reproducible
@given(small_mdps(("horizon", "both", "forward")))
def test_its_expectation_is_the_gradient(drawn):
    """Slides 31–35, exactly, with any discount; and slide 48: the expectation of the score is zero."""
    mdp, w = drawn
    episodes, gradient = mdp.enumerate_episodes(w), mdp.gradient(w)
    estimates = score_function(w, episodes, total_return(episodes.r, mdp.gamma))
    assert_mean_is(gradient, episodes.P, estimates)
    scores = score_function(w, episodes, np.ones_like(episodes.r))
    atol = 1e-12 * (1 + abs(estimates).max())
    assert_allclose(np.tensordot(episodes.P, scores, 1), 0, atol=atol)


@reproducible
@given(small_mdps(("horizon", "forward")))
def test_reward_to_go_has_the_same_expectation(drawn):
    """Slide 45: without discount, earlier rewards contribute 0 on average."""
    mdp, w = drawn
    episodes = mdp.enumerate_episodes(w)
    assert_mean_is(mdp.gradient(w), episodes.P, score_function(w, episodes, reward_to_go(episodes.r)))


@reproducible
@given(small_mdps(("both",)))
def test_with_discount_so_has_the_reward_to_go_discounted_from_the_start(drawn):
    mdp, w = drawn
    episodes = mdp.enumerate_episodes(w)
    G = reward_to_go(episodes.r, mdp.gamma, discount_from_start=True)
    assert_mean_is(mdp.gradient(w), episodes.P, score_function(w, episodes, G))


@settings(reproducible, max_examples=30)
@given(small_mdps(("horizon", "both", "forward")))
def test_the_score_is_the_gradient_of_the_log_probability(drawn):
    """By finite differences of the probabilities of the same episodes under other weights."""
    mdp, w = drawn
    episodes = mdp.enumerate_episodes(w)
    scores = score_function(w, episodes, np.ones_like(episodes.r))
    for i in np.ndindex(w.shape):
        h = np.zeros_like(w)
        h[i] = 1e-4
        difference = np.log(mdp.enumerate_episodes(w + h).P) - np.log(mdp.enumerate_episodes(w - h).P)
        assert_allclose(scores[:, *i], difference / 2e-4, atol=1e-7)


def test_the_mean_of_many_is_within_six_standard_errors():
    """Of four numbers, two and two opposite; by chance one deviates more with probability 4·10⁻⁹."""
    mdp, w = chain(), np.array([[0.3, 0.1], [-0.5, 0.2]])
    estimates = score_function(w, mdp.sample_episodes(w, 20_000, np.random.default_rng(0)))
    stderr = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (abs(estimates.mean(axis=0) - mdp.gradient(w)) < 6 * stderr).all()


def test_w_may_have_rows_for_observations_that_do_not_occur():
    w = np.random.default_rng(0).normal(size=(2, 2))
    episodes = hidden_fork().sample_episodes(w, 10, np.random.default_rng(0))
    wider = score_function(np.vstack([w, [5, 6]]), episodes)
    assert_array_equal(wider[:, :2], score_function(w, episodes))
    assert_array_equal(wider[:, 2], 0)


@pytest.mark.parametrize(
    ("w", "G", "message"),
    [
        (np.zeros(4), None, "w must have shape (n_observations, K), got (4,)"),
        ([[0, 0], [0, np.nan]], None, "w must be finite, got nan"),
        (
            np.zeros((1, 2)),
            None,
            "w must hold all observations and actions, at least (2, 2), got (1, 2)",
        ),
        (
            np.zeros((2, 1)),
            None,
            "w must hold all observations and actions, at least (2, 2), got (2, 1)",
        ),
        (np.zeros((2, 2)), np.zeros(64), "G must have the shape of r, (64, 3), got (64,)"),
        (np.zeros((2, 2)), 1, "G must have the shape of r, (64, 3), got ()"),
    ],
)
def test_bad_input_is_named(w, G, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_function(w, chain().enumerate_episodes(np.zeros((2, 2))), G)


# Returns and baselines: which of them are unbiased


def exact_statistics(mdp, w, weights):
    """Return the exact statistics of an estimator, over all episodes."""
    episodes = mdp.enumerate_episodes(w)
    return estimator_statistics(score_function(w, episodes, weights(episodes)), mdp.gradient(w), episodes.P)


def batch_statistics(mdp, w, weights, size=2):
    """Return the exact statistics of the mean over a batch, whose G the episodes may have in common."""
    episodes, estimates, P = mdp.enumerate_episodes(w), [], []
    for indices in product(range(len(episodes.P)), repeat=size):
        batch = Episodes(*(column[list(indices)] for column in episodes))
        estimates.append(score_function(w, batch, weights(reward_to_go(batch.r), batch)).mean(axis=0))
        P.append(batch.P.prod())
    return estimator_statistics(np.array(estimates), mdp.gradient(w), np.array(P))


def exact_values(mdp, w, episodes):
    """Return V(sₜ) and V(sₜ₊₁) of every step, and whether the episode ends with it."""
    V, s = mdp.values(w).V, episodes.s
    n_steps = episodes.a.shape[1]
    if mdp.horizon is None:
        V = np.tile(V, (n_steps + 1, 1))
    else:
        V = np.vstack([V[:n_steps], np.zeros(mdp.n_states)])
    v = V[np.arange(n_steps + 1), s]
    terminated = mdp.absorbing[s[:, 1:]] | (np.arange(n_steps) + 1 == mdp.horizon)
    return v[:, :-1], v[:, 1:], terminated


def minus_V(mdp, w, e):
    return reward_to_go(e.r) - exact_values(mdp, w, e)[0]


UNBIASED = {
    "total return": lambda mdp, w, e: total_return(e.r),
    "reward-to-go": lambda mdp, w, e: reward_to_go(e.r),
    "minus 7": lambda mdp, w, e: reward_to_go(e.r) - 7,
    "minus V": minus_V,
    "minus the optimal constant": lambda mdp, w, e: (
        reward_to_go(e.r) - optimal_baseline(w, e, reward_to_go(e.r))
    ),
    "minus the optimal b(s)": lambda mdp, w, e: (
        reward_to_go(e.r) - optimal_baseline(w, e, reward_to_go(e.r), e.observation)
    ),
    "TD error": lambda mdp, w, e: td_error(e.r, *exact_values(mdp, w, e), 1.0),
}


@pytest.mark.parametrize("weights", UNBIASED.values(), ids=UNBIASED)
@settings(reproducible, max_examples=30)
@given(small_mdps(("horizon", "forward")))
def test_these_weights_are_unbiased(weights, drawn):
    """Slides 45, 49, 50, 56: on all episodes of any small MDP, to 1e-10."""
    mdp, w = drawn
    found = exact_statistics(mdp, w, partial(weights, mdp, w))
    scale = 1 + abs(mdp.r).max() + np.sqrt(found.total_variance)
    assert_allclose(found.bias, 0, rtol=0, atol=1e-10 * scale)


@settings(reproducible, max_examples=30)
@given(small_mdps(("both",)))
def test_with_discount_from_the_start_or_in_the_total_return(drawn):
    mdp, w = drawn
    for return_fn in (
        partial(total_return, gamma=mdp.gamma),
        partial(reward_to_go, gamma=mdp.gamma, discount_from_start=True),
    ):
        found = exact_statistics(mdp, w, lambda e, return_fn=return_fn: return_fn(e.r))
        assert_allclose(found.bias, 0, rtol=0, atol=1e-10)


CHAIN, W = chain(), np.array([[0.3, 0.1], [-0.5, 0.2]])


@pytest.mark.parametrize("size", [2, 3])
def test_leave_one_out_is_unbiased_and_the_batch_mean_shrinks_the_gradient(size):
    """Total returns of N episodes of one length: the batch mean leaves (N − 1)/N of the gradient."""
    mdp = chain(horizon=2)
    gradient = mdp.gradient(W)
    assert abs(gradient).max() > 0.01

    def minus(baseline):
        def weights(_, e):
            G = total_return(e.r)
            return G - baseline(G, e.mask)

        return batch_statistics(mdp, W, weights, size)

    assert_allclose(minus(batch_mean_baseline).mean, gradient * (size - 1) / size, rtol=0, atol=1e-12)
    assert_allclose(minus(leave_one_out_baseline).bias, 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "mdp", [CHAIN, short_corridor((0, 1), (), horizon=3)], ids=["chain", "short corridor"]
)
class TestPairsOfEpisodes:
    """Rewards-to-go of all pairs of episodes; in the corridor they have different lengths."""

    @pytest.mark.parametrize(
        "weights",
        [
            lambda G, e: G - leave_one_out_baseline(G, e.mask),
            lambda G, e: G - state_mean_baseline(G, e.observation, e.mask, exclude_own_episode=True),
        ],
        ids=["leave-one-out", "state mean of other episodes"],
    )
    def test_baselines_of_other_episodes_are_unbiased(self, mdp, weights):
        assert_allclose(batch_statistics(mdp, W, weights).bias, 0, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "weights",
        [
            lambda G, e: G - batch_mean_baseline(G, e.mask),
            lambda G, e: G - state_mean_baseline(G, e.observation, e.mask),
            lambda G, e: standardize(G, e.mask),
            lambda G, e: reward_to_go(e.r, 0.5),
        ],
        ids=["batch mean", "state mean", "standardized", "discounted"],
    )
    def test_baselines_of_the_same_episodes_are_biased(self, mdp, weights):
        found = batch_statistics(mdp, W, weights)
        assert np.linalg.norm(found.bias) > 0.1 * np.linalg.norm(mdp.gradient(W))


# The optimal baseline


@reproducible
@given(small_mdps(("horizon", "forward")), st.booleans())
def test_no_other_baseline_has_less_variance(drawn, by_state):
    mdp, w = drawn
    e = mdp.enumerate_episodes(w)
    group, G = e.observation if by_state else np.zeros_like(e.observation), reward_to_go(e.r)
    b = optimal_baseline(w, e, G, group if by_state else None)
    assert all(len(set(b[e.mask & (group == k)])) < 2 for k in range(group.max() + 1))
    minimum = exact_statistics(mdp, w, lambda e: G - b).total_variance
    for k in range(group.max() + 1):
        for h in (-0.1, 0.1):
            other = exact_statistics(mdp, w, lambda e, k=k, h=h: G - b - h * (group == k))
            assert other.total_variance >= minimum - 1e-10 * (1 + minimum)


def test_the_optimal_constant_is_the_quotient_of_two_expectations():
    e = CHAIN.enumerate_episodes(W)
    G = total_return(e.r)
    squares = (score_function(W, e, np.ones_like(G)) ** 2).sum(axis=(1, 2))
    expected = (e.P * squares * G[:, 0]).sum() / (e.P * squares).sum()
    assert_allclose(optimal_baseline(W, e, G), expected, rtol=1e-12)


def test_of_a_sample_it_is_that_of_its_frequencies():
    e = CHAIN.enumerate_episodes(W)
    counts = np.random.default_rng(0).integers(1, 4, size=len(e.P))
    sample = Episodes(*(np.repeat(column, counts, axis=0) for column in e))._replace(P=None)
    weighted = e._replace(P=counts / counts.sum())
    for by_state in (False, True):
        one = optimal_baseline(W, sample, reward_to_go(sample.r), sample.observation if by_state else None)
        other = optimal_baseline(W, weighted, reward_to_go(e.r), e.observation if by_state else None)
        assert_allclose(one, np.repeat(other, counts, axis=0), rtol=1e-10)


def test_of_no_episodes_it_is_empty():
    empty = np.zeros((0, 3), int)
    e = Episodes(empty, empty, empty, np.zeros((0, 3)), np.zeros((0, 3), bool), np.ones(0))
    assert_array_equal(optimal_baseline(W, e, e.r), np.zeros((0, 3)), strict=True)


@pytest.mark.parametrize("group", [np.zeros(3, int), np.zeros((64, 3)), np.full((64, 3), -1)])
def test_groups_must_be_numbered(group):
    e = CHAIN.enumerate_episodes(W)
    message = r"^baseline_group must hold integers from 0, shape \(64, 3\), got "
    with pytest.raises(ValueError, match=message):
        optimal_baseline(W, e, e.r, group)


# Mean, bias and variance


@reproducible
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_statistics_are_sums_over_all_estimates(n, size, seed):
    rng = np.random.default_rng(seed)
    g, truth, P = rng.normal(size=(n, size)), rng.normal(size=size), rng.dirichlet(np.ones(n))
    found = estimator_statistics(g, truth, P)
    mean = [math.fsum(P[e] * g[e, k] for e in range(n)) for k in range(size)]
    variance = [math.fsum(P[e] * (g[e, k] - mean[k]) ** 2 for e in range(n)) for k in range(size)]
    assert_allclose(found.mean, mean, atol=1e-12)
    assert_allclose(found.bias, mean - truth, atol=1e-12)
    assert_allclose(found.truth, truth, atol=1e-12)
    assert_allclose(found.variance, variance, atol=1e-12)
    assert found.variance_stderr == 0
    assert found.total_variance == pytest.approx(math.fsum(variance))
    squared_error = math.fsum(P[e] * (g[e, k] - truth[k]) ** 2 for e in range(n) for k in range(size))
    assert (found.bias**2).sum() + found.total_variance == pytest.approx(squared_error)
    assert found.signal_to_noise == pytest.approx(math.fsum(m * m for m in mean) / math.fsum(variance))
    dot = math.fsum(m * t for m, t in zip(mean, truth, strict=True))
    assert found.cosine == pytest.approx(dot / math.hypot(*mean) / math.hypot(*truth))


def test_of_a_sample_they_are_numpys_and_within_six_standard_errors_of_the_exact_ones():
    """Total variances of 10,000 episodes; by chance they deviate more with probability 2·10⁻⁹."""
    e = CHAIN.enumerate_episodes(W)
    exact = estimator_statistics(score_function(W, e), CHAIN.gradient(W), e.P)
    g = score_function(W, CHAIN.sample_episodes(W, 10_000, np.random.default_rng(0)))
    found = estimator_statistics(g, CHAIN.gradient(W))
    assert_allclose(found.variance, g.var(axis=0, ddof=1))
    assert_allclose(found.mean, g.mean(axis=0))
    assert 0 < found.variance_stderr < 0.1 * found.total_variance
    assert abs(found.total_variance - exact.total_variance) < 6 * found.variance_stderr


def test_estimates_without_variance_have_an_infinite_signal_to_noise_ratio():
    assert estimator_statistics(np.ones((3, 2)), np.ones(2)).signal_to_noise == np.inf


@pytest.mark.parametrize(
    ("estimates", "truth", "P", "message"),
    [
        (
            np.ones((1, 2)),
            np.ones(2),
            None,
            "estimates must be at least 2 arrays of shape (2,), got shape (1, 2)",
        ),
        (
            np.ones((4, 2)),
            np.ones(3),
            None,
            "estimates must be at least 2 arrays of shape (3,), got shape (4, 2)",
        ),
        (np.full((4, 2), np.nan), np.ones(2), None, "estimates must be finite, got nan"),
        (np.ones((4, 2)), np.full(2, np.inf), None, "truth must be finite, got inf"),
        (
            np.ones((2, 2)),
            np.ones(2),
            [0.5, 0.6],
            "P must hold 2 probabilities, sum 1, got shape (2,), sum 1.1",
        ),
        (np.ones((2, 2)), np.ones(2), [1.0], "P must hold 2 probabilities, sum 1, got shape (1,), sum 1"),
    ],
)
def test_bad_estimates_are_named(estimates, truth, P, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimator_statistics(estimates, truth, P)
