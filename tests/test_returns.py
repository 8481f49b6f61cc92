"""Returns against sums written out term by term."""

import math
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.returns import reward_to_go, total_return

reproducible = settings(derandomize=True, deadline=None, max_examples=80)
close = partial(assert_allclose, rtol=1e-12, atol=1e-11)
rewards = arrays(float, array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=8), elements=st.floats(-10, 10))
gammas = st.floats(0, 1)


@reproducible
@given(rewards, gammas)
def test_reward_to_go_equals_the_double_sum(r, gamma):
    expected = np.empty_like(r)
    for *n, i in np.ndindex(r.shape):
        expected[*n, i] = math.fsum(gamma ** (j - i) * r[*n, j] for j in range(i, r.shape[-1]))
    close(reward_to_go(r, gamma), expected, strict=True)


@reproducible
@given(rewards, gammas)
def test_total_return_is_the_discounted_sum_at_each_step(r, gamma):
    expected = np.empty_like(r)
    for *n, i in np.ndindex(r.shape):
        expected[*n, i] = math.fsum(gamma**j * r[*n, j] for j in range(r.shape[-1]))
    close(total_return(r, gamma), expected, strict=True)


@reproducible
@given(rewards)
def test_without_gamma_nothing_is_discounted(r):
    assert_array_equal(total_return(r), total_return(r, gamma=1))
    assert_array_equal(reward_to_go(r), reward_to_go(r, gamma=1))


@reproducible
@given(rewards, gammas)
def test_the_first_step_is_credited_with_everything(r, gamma):
    close(reward_to_go(r, gamma)[..., :1], total_return(r, gamma)[..., :1])


@reproducible
@given(rewards)
def test_gamma_zero_leaves_the_rewards_or_the_first_of_them(r):
    assert_array_equal(reward_to_go(r, gamma=0), r)
    assert_array_equal(total_return(r, gamma=0), np.broadcast_to(r[..., :1], r.shape) if r.size else r)


@reproducible
@given(rewards, gammas, st.integers(1, 5))
def test_zeros_after_the_end_change_no_earlier_step(r, gamma, n_zeros):
    padded = np.concatenate([r, np.zeros((*r.shape[:-1], n_zeros))], axis=-1)
    T = r.shape[-1]
    close(reward_to_go(padded, gamma)[..., :T], reward_to_go(r, gamma))
    assert_array_equal(reward_to_go(padded, gamma)[..., T:], 0)
    close(total_return(padded, gamma)[..., :T], total_return(r, gamma))


@reproducible
@given(st.integers(0, 2**32), gammas, st.floats(-3, 3))
def test_both_are_linear_in_the_rewards(seed, gamma, c):
    r, s = np.random.default_rng(seed).normal(size=(2, 3, 6))
    for credit in (partial(total_return, gamma=gamma), partial(reward_to_go, gamma=gamma)):
        close(credit(r + c * s), credit(r) + c * credit(s))


@pytest.mark.parametrize("gamma", [0.5, 0.99, 1])
def test_one_lost_point_at_the_end_fades_backwards(gamma):
    r = [0.0] * 9 + [-1.0]
    close(reward_to_go(r, gamma), [-(gamma ** (9 - i)) for i in range(10)])
    close(total_return(r, gamma), [-(gamma**9)] * 10)


@pytest.mark.parametrize("credit", [total_return, reward_to_go])
class TestBoth:
    @pytest.mark.parametrize("shape", [(0,), (1,), (0, 3), (3, 0), (2, 1)])
    def test_empty_and_one_step_episodes_are_their_own_return(self, credit, shape):
        r = np.full(shape, 2.5)
        expected = r if shape[-1] < 2 else np.empty(shape)
        assert_array_equal(credit(r), expected, strict=True)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_result_is_a_float_array_like_r(self, credit, dtype):
        r = np.ones((2, 3), dtype)
        for gamma in (1.0, 0, 0.5, np.float64(0.5)):
            assert (credit(r, gamma).shape, credit(r, gamma).dtype) == ((2, 3), dtype)

    @pytest.mark.parametrize("shape", [(1,), (4,), (2, 3)])
    def test_the_result_is_a_new_array(self, credit, shape):
        r = np.ones(shape)
        G = credit(r)
        rest = G.flat[1:].copy()
        G.flat[0] = 99
        assert_array_equal(r, 1)
        assert_array_equal(G.flat[1:], rest)

    @pytest.mark.parametrize(
        ("r", "message"),
        [
            ([1, 0, -1], "r must be an array of floats (integers would cut off discounted returns), got dtype int64"),
            (np.ones(2, np.uint8), "r must be an array of floats (integers would cut off discounted returns), got dtype uint8"),
            ([True, False], "r must be an array of floats (integers would cut off discounted returns), got dtype bool"),
            ([1j], "r must be an array of floats (integers would cut off discounted returns), got dtype complex128"),
            (1.0, "r must have shape (T,) or (N, T), got a single number, 1.0"),
            ([0.0, np.nan], "r must be finite, got nan at (1,)"),
            ([np.inf], "r must be finite, got inf at (0,)"),
            ([[0.0, 1.0], [-np.inf, np.nan]], "r must be finite, got -inf at (1, 0)"),
        ],
    )
    def test_bad_rewards_are_named(self, credit, r, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            credit(r)

    @pytest.mark.parametrize("gamma", [-0.1, 1.1, np.nan, np.inf])
    def test_gamma_outside_0_to_1_is_named(self, credit, gamma):
        with pytest.raises(ValueError, match=f"^{re.escape(f'gamma must be in [0, 1], got {gamma}')}$"):
            credit([1.0], gamma)
