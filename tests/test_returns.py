"""Returns, baselines and the surrogate objective against sums written out term by term."""

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

from pgcourse.maths.returns import (
    batch_mean_baseline,
    ema_baseline,
    leave_one_out_baseline,
    pad_episodes,
    reward_to_go,
    standardize,
    state_mean_baseline,
    surrogate,
    total_return,
)

reproducible = settings(derandomize=True, deadline=None, max_examples=80)
close = partial(assert_allclose, rtol=1e-12, atol=1e-11)
rewards = arrays(
    float, array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=8), elements=st.floats(-10, 10)
)
gammas = st.floats(0, 1)


@reproducible
@given(rewards, gammas)
def test_reward_to_go_equals_the_double_sum(r, gamma):
    expected = np.empty_like(r)
    for *n, t in np.ndindex(r.shape):
        expected[*n, t] = math.fsum(gamma ** (k - t) * r[*n, k] for k in range(t, r.shape[-1]))
    close(reward_to_go(r, gamma), expected, strict=True)


@reproducible
@given(rewards, gammas)
def test_total_return_is_the_discounted_sum_at_each_step(r, gamma):
    expected = np.empty_like(r)
    for *n, t in np.ndindex(r.shape):
        expected[*n, t] = math.fsum(gamma**k * r[*n, k] for k in range(r.shape[-1]))
    close(total_return(r, gamma), expected, strict=True)


@reproducible
@given(rewards)
def test_without_gamma_nothing_is_discounted(r):
    assert_array_equal(total_return(r), total_return(r, gamma=1))
    assert_array_equal(reward_to_go(r), reward_to_go(r, gamma=1))


@reproducible
@given(rewards, gammas)
def test_the_reward_to_go_of_the_first_step_is_the_total_return(r, gamma):
    close(reward_to_go(r, gamma)[..., :1], total_return(r, gamma)[..., :1])


@reproducible
@given(rewards)
def test_gamma_zero_leaves_the_rewards_or_the_first_of_them(r):
    assert_array_equal(reward_to_go(r, gamma=0), r)
    assert_array_equal(total_return(r, gamma=0), np.broadcast_to(r[..., :1], r.shape) if r.size else r)


@reproducible
@given(rewards, gammas, st.integers(1, 5))
def test_padding_changes_no_earlier_step(r, gamma, n_zeros):
    padded = np.concatenate([r, np.zeros((*r.shape[:-1], n_zeros))], axis=-1)
    T = r.shape[-1]
    close(reward_to_go(padded, gamma)[..., :T], reward_to_go(r, gamma))
    assert_array_equal(reward_to_go(padded, gamma)[..., T:], 0)
    close(total_return(padded, gamma)[..., :T], total_return(r, gamma))


@reproducible
@given(st.integers(0, 2**32), gammas, st.floats(-3, 3))
def test_both_are_linear_in_the_rewards(seed, gamma, c):
    r, s = np.random.default_rng(seed).normal(size=(2, 3, 6))
    for return_fn in (partial(total_return, gamma=gamma), partial(reward_to_go, gamma=gamma)):
        close(return_fn(r + c * s), return_fn(r) + c * return_fn(s))


@reproducible
@given(rewards, gammas)
def test_discounted_from_the_start_it_is_the_rest_of_the_discounted_return(r, gamma):
    weighted = r * [gamma**k for k in range(r.shape[-1])]
    close(reward_to_go(r, gamma, discount_from_start=True), reward_to_go(weighted), strict=True)


@pytest.mark.parametrize("gamma", [0.5, 0.99, 1])
def test_a_negative_reward_at_the_end_is_discounted_backwards(gamma):
    r = [0.0] * 9 + [-1.0]
    close(reward_to_go(r, gamma), [-(gamma ** (9 - t)) for t in range(10)])
    close(total_return(r, gamma), [-(gamma**9)] * 10)


@pytest.mark.parametrize("return_fn", [total_return, reward_to_go])
class TestReturnFunctions:
    @pytest.mark.parametrize("shape", [(0,), (1,), (0, 3), (3, 0), (2, 1)])
    def test_empty_and_one_step_episodes_are_their_own_return(self, return_fn, shape):
        r = np.full(shape, 2.5)
        expected = r if shape[-1] < 2 else np.empty(shape)
        assert_array_equal(return_fn(r), expected, strict=True)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_result_is_a_float_array_like_r(self, return_fn, dtype):
        r = np.ones((2, 3), dtype)
        for gamma in (1.0, 0, 0.5, np.float64(0.5)):
            assert (return_fn(r, gamma).shape, return_fn(r, gamma).dtype) == ((2, 3), dtype)

    @pytest.mark.parametrize("shape", [(1,), (4,), (2, 3)])
    def test_the_result_is_a_new_array(self, return_fn, shape):
        r = np.ones(shape)
        G = return_fn(r)
        rest = G.flat[1:].copy()
        G.flat[0] = 99
        assert_array_equal(r, 1)
        assert_array_equal(G.flat[1:], rest)

    @pytest.mark.parametrize(
        ("r", "message"),
        [
            (
                [1, 0, -1],
                "r must be an array of floats (integers would truncate discounted returns), got int64",
            ),
            (
                np.ones(2, np.uint8),
                "r must be an array of floats (integers would truncate discounted returns), got uint8",
            ),
            (
                [True, False],
                "r must be an array of floats (integers would truncate discounted returns), got bool",
            ),
            (
                [1j],
                "r must be an array of floats (integers would truncate discounted returns), got complex128",
            ),
            (1.0, "r must have shape (T,) or (N, T), got a single number, 1.0"),
            ([0.0, np.nan], "r must be finite, got nan at (1,)"),
            ([np.inf], "r must be finite, got inf at (0,)"),
            ([[0.0, 1.0], [-np.inf, np.nan]], "r must be finite, got -inf at (1, 0)"),
        ],
    )
    def test_bad_rewards_are_named(self, return_fn, r, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            return_fn(r)

    @pytest.mark.parametrize("gamma", [-0.1, 1.1, np.nan, np.inf])
    def test_gamma_outside_0_to_1_is_named(self, return_fn, gamma):
        with pytest.raises(ValueError, match=f"^{re.escape(f'gamma must be in [0, 1], got {gamma}')}$"):
            return_fn([1.0], gamma)


@st.composite
def batches(draw, min_episodes=1, dtype=float):
    """Draw returns of episodes of many lengths, also 0, with arbitrary padding; observations; the mask."""
    shape = draw(st.tuples(st.integers(min_episodes, 5), st.integers(0, 6)))
    G = draw(arrays(dtype, shape, elements=st.floats(-10, 10, width=32)))
    lengths = draw(arrays(int, shape[0], elements=st.integers(0, shape[1])))
    observation = draw(arrays(int, shape, elements=st.integers(0, 3)))
    return G, observation, np.arange(shape[1]) < lengths[:, None]


def mean_of(numbers):
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


def steps(mask):
    return [(e, t) for e, t in np.ndindex(mask.shape) if mask[e, t]]


ALL_STEPS = np.ones((2, 2), bool)


class TestBaselines:
    @reproducible
    @given(batches())
    def test_the_batch_mean_is_the_mean_of_all_steps(self, drawn):
        G, _, mask = drawn
        expected = np.full(G.shape, mean_of([G[step] for step in steps(mask)]))
        close(batch_mean_baseline(G, mask), expected, strict=True)

    @reproducible
    @given(batches(), st.floats(-10, 10), st.floats(0.01, 1))
    def test_the_moving_average_goes_part_of_the_way_to_the_batch_mean(self, drawn, b, step_size):
        G, _, mask = drawn
        expected = b + step_size * (mean_of([G[step] for step in steps(mask)]) - b) if mask.any() else b
        close(ema_baseline(b, G, mask, step_size=step_size), expected)

    @pytest.mark.parametrize(
        ("b", "step_size", "message"),
        [
            (0.0, 0, "step_size must be in (0, 1], got 0"),
            (0.0, 1.1, "step_size must be in (0, 1], got 1.1"),
            (0.0, np.nan, "step_size must be in (0, 1], got nan"),
            (np.inf, 0.1, "b must be finite, got inf"),
        ],
    )
    def test_bad_input_of_the_moving_average_is_named(self, b, step_size, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            ema_baseline(b, np.ones(2), step_size=step_size)

    @reproducible
    @given(batches(min_episodes=2))
    def test_leave_one_out_is_the_mean_of_the_other_episodes(self, drawn):
        G, _, mask = drawn
        expected = np.empty(G.shape)
        for e in range(len(G)):
            expected[e] = mean_of([G[step] for step in steps(mask) if step[0] != e])
        close(leave_one_out_baseline(G, mask), expected, strict=True)

    @reproducible
    @given(batches(), st.booleans())
    def test_the_state_mean_is_over_steps_with_the_same_observation(self, drawn, exclude_own):
        G, observation, mask = drawn
        expected = np.zeros(G.shape)
        for e, t in steps(mask):
            same = [step for step in steps(mask) if observation[step] == observation[e, t]]
            expected[e, t] = mean_of([G[step] for step in same if not (exclude_own and step[0] == e)])
        found = state_mean_baseline(G, observation, mask, exclude_own_episode=exclude_own)
        close(found, expected, strict=True)

    @reproducible
    @given(batches())
    def test_standardized_returns_have_mean_zero_and_deviation_one(self, drawn):
        G, _, mask = drawn
        taken = [G[step] for step in steps(mask)]
        if not taken:
            message = f"G must hold at least one step, got none in shape {G.shape}"
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                standardize(G, mask)
            return
        b = mean_of(taken)
        deviation = math.sqrt(mean_of([(g - b) ** 2 for g in taken]))
        if min(taken) == max(taken):
            assert_array_equal(standardize(G, mask), 0)
        elif deviation > 1e-6:
            expected = [
                [(G[e, t] - b) / deviation * mask[e, t] for t in range(G.shape[1])] for e in range(len(G))
            ]
            assert_allclose(standardize(G, mask), expected, rtol=1e-6, atol=1e-8)

    @settings(reproducible, max_examples=20)
    @given(batches(min_episodes=2), st.integers(0, 2**32))
    def test_padding_does_not_matter(self, drawn, seed):
        G, observation, mask = drawn
        rng = np.random.default_rng(seed)
        H = np.where(mask, G, rng.normal(size=G.shape))
        other = np.where(mask, observation, rng.integers(9, size=observation.shape))
        assert_array_equal(batch_mean_baseline(H, mask), batch_mean_baseline(G, mask))
        close(leave_one_out_baseline(H, mask), leave_one_out_baseline(G, mask))
        for exclude_own in (False, True):
            close(
                state_mean_baseline(H, other, mask, exclude_own_episode=exclude_own),
                state_mean_baseline(G, observation, mask, exclude_own_episode=exclude_own),
            )
        if mask.any():
            assert_array_equal(standardize(H, mask), standardize(G, mask))

    @settings(reproducible, max_examples=20)
    @given(batches(min_episodes=2, dtype=np.float32))
    def test_the_result_is_a_new_float_array_like_the_returns(self, drawn):
        G, observation, mask = drawn
        before = G.copy()
        results = [
            batch_mean_baseline(G, mask),
            leave_one_out_baseline(G, mask),
            state_mean_baseline(G, observation, mask),
        ]
        results += [standardize(G, mask)] if mask.any() else []
        for result in results:
            assert (result.shape, result.dtype) == (G.shape, np.float32)
            result[:] = 99
        assert_array_equal(G, before)

    @pytest.mark.parametrize(
        "baseline",
        [
            batch_mean_baseline,
            leave_one_out_baseline,
            partial(ema_baseline, 0.0),
            lambda G, mask: state_mean_baseline(G, np.eye(2, dtype=int), mask),
            standardize,
        ],
    )
    @pytest.mark.parametrize(
        ("G", "mask", "message"),
        [
            (
                [[1, 2], [3, 4]],
                ALL_STEPS,
                "G must be an array of floats (integers would truncate discounted returns), got int64",
            ),
            ([[1.0, np.nan], [0.0, 0.0]], ALL_STEPS, "G must be finite, got nan at (0, 1)"),
            (
                np.ones((2, 2)),
                np.ones((2, 2)),
                "mask must hold booleans, shape (2, 2), got float64 of shape (2, 2)",
            ),
            (
                np.ones((2, 2)),
                np.ones(2, bool),
                "mask must hold booleans, shape (2, 2), got bool of shape (2,)",
            ),
        ],
    )
    def test_bad_input_is_named(self, baseline, G, mask, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            baseline(G, mask)

    @pytest.mark.parametrize("shape", [(3,), (1, 3)])
    def test_one_episode_has_no_others(self, shape):
        with pytest.raises(
            ValueError,
            match=rf"^G must hold at least 2 episodes, shape \(N, T\), got shape {re.escape(str(shape))}$",
        ):
            leave_one_out_baseline(np.ones(shape), np.ones(shape, bool))

    @pytest.mark.parametrize("observation", [np.zeros(3, int), np.zeros((2, 2)), np.full((2, 2), -1)])
    def test_observations_must_be_numbered(self, observation):
        message = r"^observation must hold integers from 0, shape \(2, 2\), got "
        with pytest.raises(ValueError, match=message):
            state_mean_baseline(np.ones((2, 2)), observation, ALL_STEPS)

    def test_one_episode_alone(self):
        G, observation = np.array([1.0, 2.0, 6.0]), np.array([0, 1, 0])
        assert_array_equal(batch_mean_baseline(G), [3, 3, 3])
        assert_array_equal(state_mean_baseline(G, observation), [3.5, 2, 3.5])
        assert_array_equal(state_mean_baseline(G, observation, exclude_own_episode=True), [0, 0, 0])
        close(standardize(G), (G - 3) / np.sqrt(14 / 3))

    def test_without_a_mask_all_steps_were_taken(self):
        G, observation = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0, 1], [1, 1]])
        for function in (
            batch_mean_baseline,
            leave_one_out_baseline,
            standardize,
            partial(ema_baseline, 0.0),
        ):
            assert_array_equal(function(G), function(G, ALL_STEPS))
        found = state_mean_baseline(G, observation, ALL_STEPS)
        assert_array_equal(state_mean_baseline(G, observation), found)


class TestPadEpisodes:
    @reproducible
    @given(st.lists(arrays(float, st.integers(0, 5), elements=st.floats(-10, 10)), max_size=5))
    def test_every_number_is_in_its_place_and_the_rest_is_zero(self, episodes):
        rows, mask = pad_episodes(episodes)
        assert rows.shape == mask.shape == (len(episodes), max(map(len, episodes), default=0))
        for row, taken, e in zip(rows, mask, episodes, strict=True):
            assert_array_equal(row, [*e, *[0] * (len(row) - len(e))])
            assert_array_equal(taken, [t < len(e) for t in range(len(row))])

    @pytest.mark.parametrize("gamma", [0.5, 1])
    def test_returns_of_the_padded_episodes_are_those_of_each(self, gamma):
        rng = np.random.default_rng(0)
        episodes = [rng.normal(size=n) for n in (3, 1, 0, 7)]
        rows, mask = pad_episodes(episodes)
        for return_fn in (partial(reward_to_go, gamma=gamma), partial(total_return, gamma=gamma)):
            for row, taken, e in zip(return_fn(rows), mask, episodes, strict=True):
                close(row[taken], return_fn(e))

    def test_it_keeps_single_precision(self):
        assert pad_episodes([np.ones(2, np.float32), np.ones(3, np.float32)])[0].dtype == np.float32

    @pytest.mark.parametrize(
        ("episodes", "message"),
        [
            (
                [[1, 2]],
                "episodes must be an array of floats (integers would truncate discounted returns), got int64",
            ),
            ([np.ones(2), np.ones((2, 1))], "episodes must be arrays of shape (T,), got one of shape (2, 1)"),
            ([np.ones(2), [np.nan]], "episodes must be finite, got nan at (0,)"),
        ],
    )
    def test_bad_input_is_named(self, episodes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            pad_episodes(episodes)


class TestSurrogate:
    @reproducible
    @given(batches(), st.integers(1, 9))
    def test_it_is_the_weighted_sum_over_n_for_arrays_and_tensors(self, drawn, n):
        G, _, _ = drawn
        L = -np.random.default_rng(n).exponential(size=G.shape)
        expected = math.fsum(G[step] * L[step] for step in np.ndindex(G.shape)) / n
        close(surrogate(L, G, n), expected)
        close(surrogate(torch.tensor(L), torch.tensor(G), n), expected)

    def test_its_gradient_is_the_weighted_sum_of_the_scores(self):
        """Of a Gaussian with mean w: ∂ log π/∂w = a − w. The weights depend on w, too, but are constants."""
        w, a = torch.tensor(0.5, requires_grad=True), torch.tensor([0.1, 1.2, -0.4])
        G = w * torch.tensor([2.0, -1.0, 4.0])
        surrogate(-((a - w) ** 2) / 2, G, 2).backward()
        assert w.grad.item() == pytest.approx((1.0 * -0.4 - 0.5 * 0.7 + 2.0 * -0.9) / 2)
        assert G.requires_grad

    @pytest.mark.parametrize(
        ("L", "G", "n", "message"),
        [
            (np.ones(2), np.ones(3), 1, "G must have the shape of L, (2,), got (3,)"),
            (torch.ones(2), torch.ones(2, 1), 1, "G must have the shape of L, (2,), got (2, 1)"),
            (np.ones(2), np.ones(2), 0, "n must be a whole number of at least 1, got 0"),
            (np.ones(2), np.ones(2), 1.5, "n must be a whole number of at least 1, got 1.5"),
        ],
    )
    def test_bad_input_is_named(self, L, G, n, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            surrogate(L, G, n)


def test_observations_of_8_bits_are_as_good_as_others():
    G, observation = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0, 255], [255, 0]])
    found = state_mean_baseline(G, observation.astype(np.uint8))
    np.testing.assert_array_equal(found, state_mean_baseline(G, observation))
