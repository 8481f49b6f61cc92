"""The score-function estimator against autograd and loops, and its mean over every episode against the exact gradient."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from worlds import worlds

from pgcourse.estimators import score_function
from pgcourse.mdp import Episodes, chain, corridor, fog
from pgcourse.networks import TabularPolicy
from pgcourse.reinforce import objective
from pgcourse.returns import reward_to_go, total_return

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
few = partial(worlds, most_states=3, most_actions=2, longest=4)


@st.composite
def played(draw):
    """Logits, and episodes of many lengths."""
    world, w = draw(worlds())
    return w, world.sample(w, draw(st.integers(1, 6)), np.random.default_rng(draw(st.integers(0, 2**32))), n_steps=draw(st.integers(1, 9)))


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


CREDITS = [total_return, partial(total_return, gamma=0.7), reward_to_go, partial(reward_to_go, gamma=0.7), np.ones_like]


@pytest.mark.parametrize("credit", CREDITS, ids=["total", "discounted total", "to go", "discounted to go", "ones"])
class TestAnyCredit:
    @reproducible
    @given(played())
    def test_it_is_the_sum_of_its_docstring(self, credit, drawn):
        w, episodes = drawn
        expected = by_loops(w, episodes, credit)
        assert_allclose(score_function(w, episodes, credit), expected, rtol=0, atol=1e-12 * (1 + abs(expected).max()), strict=True)

    @settings(reproducible, max_examples=25)
    @given(played())
    def test_it_is_what_autograd_makes_of_the_objective(self, credit, drawn):
        """Of slide 35, one episode at a time."""
        w, episodes = drawn
        policy = TabularPolicy(w)
        for estimate, x, a, r, live in zip(score_function(w, episodes, credit), *episodes[1:5], strict=True):
            L = policy.log_prob(x[live], a[live])
            J = objective(L, torch.tensor(credit(r[live])), 1)
            assert_allclose(estimate, torch.autograd.grad(J, policy.w)[0], rtol=0, atol=1e-11 * (1 + abs(estimate).max()))

    def test_what_comes_after_an_end_contributes_nothing(self, credit):
        """More padding, and padding with anything but rewards."""
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        s, x, a, r, live, P = corridor((0, 1), ()).sample(w, 50, np.random.default_rng(0))
        assert (live.sum(axis=1) < live.shape[1]).any()
        expected = score_function(w, Episodes(s, x, a, r, live, P), credit)
        noise = np.random.default_rng(1).integers(2, size=(2, *live.shape))
        disturbed = Episodes(s, np.where(live, x, noise[0]), np.where(live, a, noise[1]), r, live, P)
        padded = Episodes(*(np.pad(column, ((0, 0), (0, 3))) for column in (s, x, a, r, live)), P)
        for other in (disturbed, padded):
            assert_allclose(score_function(w, other, credit), expected, rtol=1e-12, atol=1e-12)

    def test_it_looks_at_no_state_and_no_probability(self, credit):
        w = np.array([[0.5, -0.2], [0.1, 0.3]])
        episodes = fog().sample(w, 20, np.random.default_rng(0))
        blind = episodes._replace(s=None, P=None)
        assert_array_equal(score_function(w, blind, credit), score_function(w, episodes, credit))

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
    def test_no_episodes_and_no_steps_give_no_estimates_and_zeros(self, credit, shape):
        nothing = np.zeros(shape, int)
        episodes = Episodes(nothing, nothing, nothing, np.zeros(shape), np.zeros(shape, bool), np.ones(shape[0]))
        assert_array_equal(score_function(np.zeros((2, 3)), episodes, credit), np.zeros((shape[0], 2, 3)), strict=True)


@reproducible
@given(few(("horizon", "both", "forward")))
def test_its_mean_over_every_episode_is_the_gradient(drawn):
    """Slides 31–35, exactly; discount is the credit's business."""
    world, w = drawn
    episodes, gradient = world.enumerate(w), world.gradient(w)
    estimates = score_function(w, episodes, partial(total_return, gamma=world.gamma))
    atol = 1e-12 * (1 + abs(estimates).max())
    assert_allclose(np.tensordot(episodes.P, estimates, 1), gradient, rtol=0, atol=atol, strict=True)
    scores = score_function(w, episodes, np.ones_like)
    assert_allclose(np.tensordot(episodes.P, scores, 1), 0, atol=atol)  # slide 48: any baseline leaves the mean


@reproducible
@given(few(("horizon", "forward")))
def test_reward_to_go_has_the_same_mean(drawn):
    """Slide 45: without discount, what came before an action is 0 on average. With discount, γⁱ Gᵢ is credited."""
    world, w = drawn
    episodes = world.enumerate(w)
    estimates = score_function(w, episodes, reward_to_go)
    assert_allclose(np.tensordot(episodes.P, estimates, 1), world.gradient(w), rtol=0, atol=1e-12 * (1 + abs(estimates).max()))


@reproducible
@given(few(("both",)))
def test_with_discount_so_has_what_is_to_go_discounted_from_the_beginning(drawn):
    world, w = drawn
    episodes = world.enumerate(w)
    estimates = score_function(w, episodes, lambda r: world.gamma ** np.arange(r.shape[1]) * reward_to_go(r, world.gamma))
    assert_allclose(np.tensordot(episodes.P, estimates, 1), world.gradient(w), rtol=0, atol=1e-12 * (1 + abs(estimates).max()))


@settings(reproducible, max_examples=30)
@given(few(("horizon", "both", "forward")))
def test_the_score_is_the_slope_of_the_logarithm_of_the_probability(drawn):
    """By differences of what ``enumerate`` says of the same episodes under other weights."""
    world, w = drawn
    scores = score_function(w, world.enumerate(w), np.ones_like)
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
    ("w", "credit", "message"),
    [
        (np.zeros(4), total_return, "w must be a table of finite numbers, got shape (4,)"),
        ([[0, 0], [0, np.nan]], total_return, "w must be a table of finite numbers, got shape (2, 2)"),
        (
            np.zeros((1, 2)),
            total_return,
            "w must have a row for each x and a column for each a, at least (2, 2), got (1, 2)",
        ),
        (
            np.zeros((2, 1)),
            total_return,
            "w must have a row for each x and a column for each a, at least (2, 2), got (2, 1)",
        ),
        (np.zeros((2, 2)), lambda r: r.sum(axis=1), "credit must return an array like r, (64, 3), got (64,)"),
        (np.zeros((2, 2)), lambda r: 1, "credit must return an array like r, (64, 3), got ()"),
    ],
)
def test_bad_input_is_named(w, credit, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_function(w, chain().enumerate(np.zeros((2, 2))), credit)
