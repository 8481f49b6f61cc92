"""TD errors, advantage estimates and linear TD learning against sums written out term by term."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.maths.returns import reward_to_go
from pgcourse.maths.td import (
    gae,
    gradient_monte_carlo,
    n_step_advantage,
    td_error,
    td_lambda,
    td_target,
    value_loss,
)

reproducible = settings(derandomize=True, deadline=None, max_examples=80)
close = partial(assert_allclose, rtol=1e-12, atol=1e-11)
rewards = arrays(
    float, array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=8), elements=st.floats(-10, 10)
)
fractions = st.floats(0, 1)
seeds = st.integers(0, 2**32)


def values_of(r, seed):
    """Return values before each step and after it, of episodes that end with their last step."""
    v = np.random.default_rng(seed).normal(size=(*r.shape[:-1], r.shape[-1] + 1))
    terminated = np.zeros(r.shape, bool)
    terminated[..., -1:] = True
    return v[..., :-1], v[..., 1:], terminated


class TestTDError:
    @reproducible
    @given(rewards, fractions, seeds)
    def test_it_is_the_reward_plus_the_value_after_it_minus_the_value_before_it(self, r, gamma, seed):
        rng = np.random.default_rng(seed)
        v, next_v, terminated = rng.normal(size=r.shape), rng.normal(size=r.shape), rng.random(r.shape) < 0.3
        target, delta = np.empty_like(r), np.empty_like(r)
        for t in np.ndindex(r.shape):
            target[t] = r[t] if terminated[t] else r[t] + gamma * next_v[t]
            delta[t] = target[t] - v[t]
        close(td_target(r, next_v, terminated, gamma), target, strict=True)
        close(td_error(r, v, next_v, terminated, gamma), delta, strict=True)

    @reproducible
    @given(rewards, fractions, seeds)
    def test_discounted_they_add_up_to_the_return_minus_the_value(self, r, gamma, seed):
        v, next_v, terminated = values_of(r, seed)
        delta = td_error(r, v, next_v, terminated, gamma)
        close(reward_to_go(delta, gamma), reward_to_go(r, gamma) - v)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_tensors_and_arrays_give_the_same_numbers_of_the_same_type(self, dtype):
        rng = np.random.default_rng(0)
        r, v, next_v = rng.normal(size=(3, 4, 5)).astype(dtype)
        terminated = rng.random((4, 5)) < 0.5
        found = td_error(r, v, next_v, terminated, 0.99)
        tensors = [torch.tensor(array) for array in (r, v, next_v, terminated)]
        assert found.dtype == dtype
        assert_array_equal(td_error(*tensors, 0.99).numpy(), found, strict=True)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"v": np.ones(3)}, "v must have the shape of r, (2,), got (3,)"),
            ({"next_v": np.ones((2, 1))}, "next_v must have the shape of r, (2,), got (2, 1)"),
            ({"terminated": np.zeros(3, bool)}, "terminated must have the shape of r, (2,), got (3,)"),
            ({"terminated": np.zeros(2, int)}, "terminated must hold booleans, got int64"),
            ({"terminated": torch.zeros(2)}, "terminated must hold booleans, got torch.float32"),
            ({"gamma": 2}, "gamma must be in [0, 1], got 2"),
            ({"gamma": np.nan}, "gamma must be in [0, 1], got nan"),
        ],
    )
    def test_bad_input_is_named(self, changed, message):
        good = {"r": np.ones(2), "v": np.ones(2), "next_v": np.ones(2), "terminated": np.zeros(2, bool)}
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            td_error(**{**good, "gamma": 1, **changed})


@st.composite
def rollouts(draw):
    """Rewards, values before and after every step (0 or anything at an end), and where episodes end."""
    r = draw(rewards)
    rng = np.random.default_rng(draw(seeds))
    v = rng.normal(size=(*r.shape[:-1], r.shape[-1] + 1))
    done = rng.random(r.shape) < draw(st.sampled_from([0, 0.3, 0.8]))
    next_v = np.where(done, rng.normal(size=r.shape) * (rng.random(r.shape) < 0.5), v[..., 1:])
    return r, v[..., :-1], next_v, done


def n_step_returns(r, next_v, done, t, gamma):
    """Return the n-step returns of step t of one row, n = 1, 2, …, up to the end of its episode or row."""
    found, total = [], 0.0
    for k in range(t, len(r)):
        total += gamma ** (k - t) * r[k]
        found.append(total + gamma ** (k - t + 1) * next_v[k])
        if done[k]:
            break
    return found


class TestAdvantages:
    @reproducible
    @given(rollouts(), fractions, st.integers(1, 10))
    def test_the_n_step_advantage_is_the_n_step_return_minus_the_value(self, rollout, gamma, n):
        r, v, next_v, done = rollout
        delta = r + gamma * next_v - v
        expected = np.empty_like(r)
        for *row, t in np.ndindex(r.shape):
            returns = n_step_returns(r[*row], next_v[*row], done[*row], t, gamma)
            expected[*row, t] = returns[:n][-1] - v[*row, t]
        close(n_step_advantage(delta, n, gamma, done=done), expected, strict=True)

    @reproducible
    @given(rollouts(), fractions, fractions)
    def test_gae_is_the_weighted_mean_of_the_n_step_advantages(self, rollout, gamma, lam):
        """(1 − λ) Σₙ λⁿ⁻¹ of each, and the rest of the weight, λᴺ⁻¹, for the longest."""
        r, v, next_v, done = rollout
        delta = r + gamma * next_v - v
        expected = np.empty_like(r)
        for *row, t in np.ndindex(r.shape):
            returns = n_step_returns(r[*row], next_v[*row], done[*row], t, gamma)
            weights = [(1 - lam) * lam**n for n in range(len(returns) - 1)] + [lam ** (len(returns) - 1)]
            expected[*row, t] = math.fsum(w * (G - v[*row, t]) for w, G in zip(weights, returns, strict=True))
        close(gae(delta, gamma, lam, done=done), expected, strict=True)

    @reproducible
    @given(rewards, fractions, seeds)
    def test_the_limiting_cases(self, r, gamma, seed):
        """One step or λ = 0: the TD error. All steps or λ = 1: the return minus the value."""
        v, next_v, terminated = values_of(r, seed)
        delta, advantage = td_error(r, v, next_v, terminated, gamma), reward_to_go(r, gamma) - v
        assert_array_equal(n_step_advantage(delta, 1, gamma), delta)
        assert_array_equal(gae(delta, gamma, lam=0), delta)
        close(n_step_advantage(delta, max(1, r.shape[-1]), gamma), advantage)
        close(gae(delta, gamma, lam=1), advantage)

    @reproducible
    @given(rewards, fractions, fractions)
    def test_no_ends_given_are_no_ends(self, delta, gamma, lam):
        nowhere = np.zeros(delta.shape, bool)
        close(gae(delta, gamma, lam), gae(delta, gamma, lam, done=nowhere))
        assert_array_equal(n_step_advantage(delta, 3, gamma), n_step_advantage(delta, 3, gamma, done=nowhere))

    def test_arguments_are_not_changed(self):
        delta, done = np.ones(4), np.array([False, True, False, False])
        n_step_advantage(delta, 3, done=done)
        gae(delta, 0.9, 0.9, done=done)
        assert_array_equal(delta, 1)
        assert_array_equal(done, [False, True, False, False])

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: n_step_advantage(np.ones(3), 0), "n must be a whole number of at least 1, got 0"),
            (lambda: n_step_advantage(np.ones(3), 1.5), "n must be a whole number of at least 1, got 1.5"),
            (
                lambda: n_step_advantage(np.ones(3, int), 1),
                "delta must be an array of floats (integers would truncate discounted returns), got int64",
            ),
            (lambda: n_step_advantage(np.ones(3), 1, -1), "gamma must be in [0, 1], got -1"),
            (
                lambda: n_step_advantage(np.ones(3), 1, done=np.zeros(3)),
                "done must hold booleans, shape (3,), got float64 of shape (3,)",
            ),
            (lambda: gae(np.ones(3), 1, 1.1), "lam must be in [0, 1], got 1.1"),
            (lambda: gae(np.ones(3), 1.1, 1), "gamma must be in [0, 1], got 1.1"),
            (lambda: gae(np.array([1, np.nan])), "delta must be finite, got nan at (1,)"),
            (lambda: gae(np.float64(1)), "delta must have shape (T,) or (N, T), got a single number, 1.0"),
            (
                lambda: gae(np.ones(3), done=np.zeros(2, bool)),
                "done must hold booleans, shape (3,), got bool of shape (2,)",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


class TestValueLoss:
    @pytest.mark.parametrize("shape", [(1,), (7,), (2, 7)])
    def test_it_is_half_the_mean_squared_error_and_its_gradient_the_slides_step(self, shape):
        """The mean of N values has the gradient (v − target)/N; two critics, shape (2, N), have 2N values."""
        rng = np.random.default_rng(0)
        v, target = rng.normal(size=(2, *shape))
        tensor = torch.tensor(v, requires_grad=True)
        loss = value_loss(tensor, torch.tensor(target))
        loss.backward()
        errors = [v[i] - target[i] for i in np.ndindex(shape)]
        close(loss.item(), math.fsum(e * e / 2 for e in errors) / v.size)
        close(tensor.grad, (v - target) / v.size)

    def test_no_gradient_flows_into_the_target(self):
        """With v = w and target = 2w, the full gradient of ½(v − target)² is w; the semi-gradient is −w."""
        w = torch.tensor([3.0], requires_grad=True)
        value_loss(w, 2 * w).backward()
        assert w.grad.tolist() == [-3]

    @pytest.mark.parametrize(("shape", "other"), [((2,), (1,)), ((1,), (1, 1)), ((2, 3), (3,))])
    def test_shapes_that_differ_are_named(self, shape, other):
        message = f"target must have the shape of v, {shape}, got {other}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            value_loss(torch.zeros(shape), torch.zeros(other))


@st.composite
def episodes(draw):
    """Draw weights, features of T + 1 states, the last one terminal or not, and rewards of T steps."""
    rng = np.random.default_rng(draw(seeds))
    T, n_features = draw(st.integers(0, 6)), draw(st.integers(1, 4))
    x = rng.normal(size=(T + 1, n_features))
    x[-1] *= draw(st.booleans())
    return rng.normal(size=n_features), x, rng.normal(size=T)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


class TestLinearValueFunctions:
    @reproducible
    @given(episodes(), st.floats(0.01, 1))
    def test_gradient_monte_carlo_is_slide_58_visit_after_visit(self, episode, eta):
        w, x, target = episode
        expected = list(w)
        for x_t, G in zip(x[:-1], target, strict=True):
            error = dot(expected, x_t) - G
            expected = [w_j - eta * x_tj * error for w_j, x_tj in zip(expected, x_t, strict=True)]
        assert_allclose(gradient_monte_carlo(w, x[:-1], target, eta), expected, atol=1e-9)

    @reproducible
    @given(episodes(), st.floats(0.01, 1), fractions)
    def test_td_is_slide_59_step_after_step(self, episode, eta, gamma):
        w, x, r = episode
        expected = list(w)
        for t in range(len(r)):
            error = dot(expected, x[t]) - (r[t] + gamma * dot(expected, x[t + 1]))
            expected = [w_j - eta * x_tj * error for w_j, x_tj in zip(expected, x[t], strict=True)]
        assert_allclose(td_lambda(w, x, r, eta, gamma), expected, atol=1e-9)

    @reproducible
    @given(episodes(), st.floats(0.01, 1), fractions, fractions)
    def test_eligibility_traces_are_a_double_sum(self, episode, eta, gamma, lam):
        """The TD error of step t moves w by η δₜ Σ_k≤t (γλ)ᵗ⁻ᵏ xₖ."""
        w, x, r = episode
        expected = w.copy()
        for t in range(len(r)):
            delta = r[t] + gamma * dot(expected, x[t + 1]) - dot(expected, x[t])
            expected = expected + eta * delta * sum((gamma * lam) ** (t - k) * x[k] for k in range(t + 1))
        assert_allclose(td_lambda(w, x, r, eta, gamma, lam), expected, atol=1e-9)

    @reproducible
    @given(episodes(), fractions, fractions)
    def test_the_backward_view_is_the_forward_view(self, episode, gamma, lam):
        """Eligibility traces and λ-returns move w in the same direction as η goes to 0."""
        w, x, r = episode
        v, eta = x @ w, 1e-6
        delta = td_error(r, v[:-1], v[1:], np.zeros(len(r), bool), gamma)
        forward = (gradient_monte_carlo(w, x[:-1], v[:-1] + gae(delta, gamma, lam), eta) - w) / eta
        backward = (td_lambda(w, x, r, eta, gamma, lam) - w) / eta
        assert_allclose(backward, forward, atol=1e-3)

    def test_runs_that_are_broadcast_learn_as_each_by_itself(self):
        """Three learning rates on two episodes, the shorter one padded with zeros."""
        rng = np.random.default_rng(0)
        w, x, r = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 5))
        x[:, 5], x[1, 3:], r[1, 3:], etas = 0, 0, 0, np.array([[0.1], [0.2], [0.5]])
        G = reward_to_go(r, 0.9)
        for many, one in [
            (
                td_lambda(w, x, r, etas, 0.9, 0.5),
                lambda w, n, T, eta: td_lambda(w, x[n, : T + 1], r[n, :T], eta, 0.9, 0.5),
            ),
            (
                gradient_monte_carlo(w, x[:, :-1], G, etas),
                lambda w, n, T, eta: gradient_monte_carlo(w, x[n, :T], G[n, :T], eta),
            ),
        ]:
            for k, n in np.ndindex(3, 2):
                assert_allclose(many[k, n], one(w[k, n], n, (5, 3)[n], float(etas[k, 0])), rtol=1e-12)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: td_lambda(np.zeros(2), np.zeros((4, 3)), np.zeros(3), 0.1),
                "x must have shape (..., T, 2), like the weights, got (4, 3)",
            ),
            (
                lambda: td_lambda(np.zeros(3), np.zeros(3), np.zeros(3), 0.1),
                "x must have shape (..., T, 3), like the weights, got (3,)",
            ),
            (
                lambda: td_lambda(np.zeros(2), np.zeros((3, 2)), np.zeros(3), 0.1),
                "x must have one step more than r, 4, got 3",
            ),
            (
                lambda: td_lambda(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 0),
                "eta must be positive, got 0.0",
            ),
            (
                lambda: td_lambda(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1, 1.1),
                "gamma must be in [0, 1], got 1.1",
            ),
            (
                lambda: td_lambda(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1, 1, -1),
                "lam must be in [0, 1], got -1",
            ),
            (
                lambda: gradient_monte_carlo(np.zeros(2), np.zeros((4, 2)), np.zeros(3), 1),
                "target must have a number for each of 4 steps, got 3",
            ),
            (
                lambda: gradient_monte_carlo(np.zeros(2), np.zeros((3, 2)), np.zeros(3), np.nan),
                "eta must be positive, got nan",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
