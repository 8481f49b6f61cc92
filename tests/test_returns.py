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

from pgcourse.maths.returns import (
    batch_mean,
    gae,
    leave_one_out,
    mean_by_state,
    n_step_advantage,
    padded,
    reward_to_go,
    running_mean,
    standardized,
    td_error,
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


@reproducible
@given(rewards, gammas)
def test_from_the_start_it_is_what_the_step_adds_to_the_discounted_return(r, gamma):
    weighted = r * [gamma**j for j in range(r.shape[-1])]
    close(reward_to_go(r, gamma, from_start=True), reward_to_go(weighted), strict=True)


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
            (
                [1, 0, -1],
                "r must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            (
                np.ones(2, np.uint8),
                "r must be an array of floats (integers would cut off discounted returns), got uint8",
            ),
            (
                [True, False],
                "r must be an array of floats (integers would cut off discounted returns), got bool",
            ),
            (
                [1j],
                "r must be an array of floats (integers would cut off discounted returns), got complex128",
            ),
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


@st.composite
def batches(draw, least=1, dtype=float):
    """Credits of episodes of many lengths, none among them, and padding that means nothing; what was seen; which steps were taken."""
    shape = draw(st.tuples(st.integers(least, 5), st.integers(0, 6)))
    G = draw(arrays(dtype, shape, elements=st.floats(-10, 10, width=32)))
    lengths = draw(arrays(int, shape[0], elements=st.integers(0, shape[1])))
    x = draw(arrays(int, shape, elements=st.integers(0, 3)))
    return G, x, np.arange(shape[1]) < lengths[:, None]


def mean_of(numbers):
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


def steps(live):
    return [(e, i) for e, i in np.ndindex(live.shape) if live[e, i]]


TAKEN = np.ones((2, 2), bool)


class TestBaselines:
    @reproducible
    @given(batches())
    def test_the_batch_mean_is_the_mean_of_all_steps(self, drawn):
        G, _, live = drawn
        close(batch_mean(G, live), np.full(G.shape, mean_of([G[at] for at in steps(live)])), strict=True)

    @reproducible
    @given(batches(), st.floats(-10, 10), st.floats(0.01, 1))
    def test_the_running_mean_goes_part_of_the_way_to_the_batchs(self, drawn, b, rate):
        G, _, live = drawn
        expected = b + rate * (mean_of([G[at] for at in steps(live)]) - b) if live.any() else b
        close(running_mean(b, G, live, rate=rate), expected)

    @pytest.mark.parametrize(
        ("b", "rate", "message"),
        [
            (0.0, 0, "rate must be in (0, 1], got 0"),
            (0.0, 1.1, "rate must be in (0, 1], got 1.1"),
            (0.0, np.nan, "rate must be in (0, 1], got nan"),
            (np.inf, 0.1, "b must be finite, got inf"),
        ],
    )
    def test_a_bad_running_mean_is_named(self, b, rate, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            running_mean(b, np.ones(2), rate=rate)

    @reproducible
    @given(batches(least=2))
    def test_leave_one_out_is_the_mean_of_the_others(self, drawn):
        G, _, live = drawn
        expected = np.empty(G.shape)
        for e in range(len(G)):
            expected[e] = mean_of([G[at] for at in steps(live) if at[0] != e])
        close(leave_one_out(G, live), expected, strict=True)

    @reproducible
    @given(batches(), st.booleans())
    def test_the_mean_by_state_is_over_steps_that_saw_the_same(self, drawn, leave_out):
        G, x, live = drawn
        expected = np.zeros(G.shape)
        for e, i in steps(live):
            expected[e, i] = mean_of(
                [G[at] for at in steps(live) if x[at] == x[e, i] and not (leave_out and at[0] == e)]
            )
        close(mean_by_state(G, x, live, leave_out=leave_out), expected, strict=True)

    @reproducible
    @given(batches())
    def test_standardized_credits_have_mean_zero_and_deviation_one(self, drawn):
        G, _, live = drawn
        taken = [G[at] for at in steps(live)]
        if not taken:
            with pytest.raises(
                ValueError,
                match=f"^G must hold the credit of at least one step, got none in shape {re.escape(str(G.shape))}$",
            ):
                standardized(G, live)
            return
        b = mean_of(taken)
        deviation = math.sqrt(mean_of([(g - b) ** 2 for g in taken]))
        if min(taken) == max(taken):
            assert_array_equal(standardized(G, live), 0)
        elif deviation > 1e-6:
            expected = [
                [(G[e, i] - b) / deviation * live[e, i] for i in range(G.shape[1])] for e in range(len(G))
            ]
            assert_allclose(standardized(G, live), expected, rtol=1e-6, atol=1e-8)

    @settings(reproducible, max_examples=20)
    @given(batches(least=2), st.integers(0, 2**32))
    def test_what_comes_after_an_end_does_not_matter(self, drawn, seed):
        G, x, live = drawn
        rng = np.random.default_rng(seed)
        H, y = np.where(live, G, rng.normal(size=G.shape)), np.where(live, x, rng.integers(9, size=x.shape))
        assert_array_equal(batch_mean(H, live), batch_mean(G, live))
        close(leave_one_out(H, live), leave_one_out(G, live))
        for leave_out in (False, True):
            close(
                mean_by_state(H, y, live, leave_out=leave_out), mean_by_state(G, x, live, leave_out=leave_out)
            )
        if live.any():
            assert_array_equal(standardized(H, live), standardized(G, live))

    @settings(reproducible, max_examples=20)
    @given(batches(least=2, dtype=np.float32))
    def test_the_result_is_a_new_float_array_like_the_credits(self, drawn):
        G, x, live = drawn
        before = G.copy()
        results = [batch_mean(G, live), leave_one_out(G, live), mean_by_state(G, x, live)]
        results += [standardized(G, live)] if live.any() else []
        for result in results:
            assert (result.shape, result.dtype) == (G.shape, np.float32)
            result[:] = 99
        assert_array_equal(G, before)

    @pytest.mark.parametrize(
        "of",
        [
            batch_mean,
            leave_one_out,
            partial(running_mean, 0.0),
            lambda G, live: mean_by_state(G, np.eye(2, dtype=int), live),
            standardized,
        ],
    )
    @pytest.mark.parametrize(
        ("G", "live", "message"),
        [
            (
                [[1, 2], [3, 4]],
                TAKEN,
                "G must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            ([[1.0, np.nan], [0.0, 0.0]], TAKEN, "G must be finite, got nan at (0, 1)"),
            (
                np.ones((2, 2)),
                np.ones((2, 2)),
                "live must hold booleans, shape (2, 2), got float64 of shape (2, 2)",
            ),
            (
                np.ones((2, 2)),
                np.ones(2, bool),
                "live must hold booleans, shape (2, 2), got bool of shape (2,)",
            ),
        ],
    )
    def test_bad_input_is_named(self, of, G, live, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            of(G, live)

    @pytest.mark.parametrize("shape", [(3,), (1, 3)])
    def test_one_episode_has_no_others(self, shape):
        with pytest.raises(
            ValueError,
            match=rf"^G must hold at least 2 episodes, shape \(N, T\), got shape {re.escape(str(shape))}$",
        ):
            leave_one_out(np.ones(shape), np.ones(shape, bool))

    @pytest.mark.parametrize("x", [np.zeros(3, int), np.zeros((2, 2)), np.full((2, 2), -1)])
    def test_what_was_seen_must_be_numbered(self, x):
        with pytest.raises(ValueError, match=r"^x must hold integers from 0, shape \(2, 2\), got "):
            mean_by_state(np.ones((2, 2)), x, TAKEN)

    def test_one_episode_alone(self):
        G, x = np.array([1.0, 2.0, 6.0]), np.array([0, 1, 0])
        assert_array_equal(batch_mean(G), [3, 3, 3])
        assert_array_equal(mean_by_state(G, x), [3.5, 2, 3.5])
        assert_array_equal(mean_by_state(G, x, leave_out=True), [0, 0, 0])
        close(standardized(G), (G - 3) / np.sqrt(14 / 3))

    def test_all_steps_were_taken_unless_it_is_said(self):
        G, x = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0, 1], [1, 1]])
        for of in (batch_mean, leave_one_out, standardized, partial(running_mean, 0.0)):
            assert_array_equal(of(G), of(G, TAKEN))
        assert_array_equal(mean_by_state(G, x), mean_by_state(G, x, TAKEN))


class TestPadded:
    @reproducible
    @given(st.lists(arrays(float, st.integers(0, 5), elements=st.floats(-10, 10)), max_size=5))
    def test_every_number_is_in_its_place_and_the_rest_is_zero(self, episodes):
        rows, live = padded(episodes)
        assert rows.shape == live.shape == (len(episodes), max(map(len, episodes), default=0))
        for row, taken, e in zip(rows, live, episodes, strict=True):
            assert_array_equal(row, [*e, *[0] * (len(row) - len(e))])
            assert_array_equal(taken, [i < len(e) for i in range(len(row))])

    @pytest.mark.parametrize("gamma", [0.5, 1])
    def test_credits_of_all_at_once_are_those_of_each(self, gamma):
        rng = np.random.default_rng(0)
        episodes = [rng.normal(size=n) for n in (3, 1, 0, 7)]
        rows, live = padded(episodes)
        for credit in (partial(reward_to_go, gamma=gamma), partial(total_return, gamma=gamma)):
            for row, taken, e in zip(credit(rows), live, episodes, strict=True):
                close(row[taken], credit(e))

    def test_it_keeps_single_precision(self):
        assert padded([np.ones(2, np.float32), np.ones(3, np.float32)])[0].dtype == np.float32

    @pytest.mark.parametrize(
        ("episodes", "message"),
        [
            (
                [[1, 2]],
                "episodes must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            ([np.ones(2), np.ones((2, 1))], "episodes must be arrays of shape (T,), got one of shape (2, 1)"),
            ([np.ones(2), [np.nan]], "episodes must be finite, got nan at (0,)"),
        ],
    )
    def test_bad_input_is_named(self, episodes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            padded(episodes)


class TestTDError:
    @reproducible
    @given(rewards, gammas, st.integers(0, 2**32))
    def test_it_is_reward_and_what_is_left_less_what_was_expected(self, r, gamma, seed):
        v = np.random.default_rng(seed).normal(size=(*r.shape[:-1], r.shape[-1] + 1))
        expected = np.empty_like(r)
        for *n, i in np.ndindex(r.shape):
            expected[*n, i] = r[*n, i] + gamma * v[*n, i + 1] - v[*n, i]
        close(td_error(r, v, gamma), expected, strict=True)

    @reproducible
    @given(rewards, gammas, st.integers(0, 2**32))
    def test_discounted_they_add_up_to_the_return_less_what_was_expected(self, r, gamma, seed):
        v = np.random.default_rng(seed).normal(size=(*r.shape[:-1], r.shape[-1] + 1))
        v[..., -1] = 0
        close(reward_to_go(td_error(r, v, gamma), gamma), reward_to_go(r, gamma) - v[..., :-1])

    @pytest.mark.parametrize(
        ("r", "v", "gamma", "message"),
        [
            ([1.0], [1.0], 1, "v must have shape (2,), one more step than r, got (1,)"),
            (
                np.ones((2, 3)),
                np.ones((3, 3)),
                1,
                "v must have shape (2, 4), one more step than r, got (3, 3)",
            ),
            (
                [1],
                [1.0, 0.0],
                1,
                "r must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            (
                [1.0],
                [1, 0],
                1,
                "v must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            ([1.0], [np.nan, 0], 1, "v must be finite, got nan at (0,)"),
            ([1.0], [1.0, 0.0], 2, "gamma must be in [0, 1], got 2"),
        ],
    )
    def test_bad_input_is_named(self, r, v, gamma, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            td_error(r, v, gamma)


@st.composite
def pieces(draw):
    """Rewards, what was expected before every step, what where it led (0 at an end, anything where it was cut), and where episodes end."""
    r = draw(rewards)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    v = rng.normal(size=(*r.shape[:-1], r.shape[-1] + 1))
    over = rng.random(r.shape) < draw(st.sampled_from([0, 0.3, 0.8]))
    after = np.where(over, rng.normal(size=r.shape) * (rng.random(r.shape) < 0.5), v[..., 1:])
    return r, v[..., :-1], after, over


def returns_by_hand(r, after, over, i, gamma):
    """All n-step returns of step i of one row, n = 1, 2, …, as far as its episode or the row goes: rewards, and what was expected then."""
    found, total = [], 0.0
    for j in range(i, len(r)):
        total += gamma ** (j - i) * r[j]
        found.append(total + gamma ** (j - i + 1) * after[j])
        if over[j]:
            break
    return found


class TestAdvantages:
    @reproducible
    @given(pieces(), gammas, st.integers(1, 10))
    def test_n_steps_are_their_rewards_and_what_was_expected_of_where_they_led(self, piece, gamma, n):
        r, v, after, over = piece
        delta = r + gamma * after - v
        expected = np.empty_like(r)
        for *row, i in np.ndindex(r.shape):
            expected[*row, i] = (
                returns_by_hand(r[*row], after[*row], over[*row], i, gamma)[:n][-1] - v[*row, i]
            )
        close(n_step_advantage(delta, n, gamma, over=over), expected, strict=True)

    @reproducible
    @given(pieces(), gammas, gammas)
    def test_gae_is_the_mean_of_the_n_step_advantages(self, piece, gamma, lam):
        """(1 − λ) Σₙ λⁿ⁻¹ of each, and the rest of the weight, λᴺ⁻¹, for the longest."""
        r, v, after, over = piece
        delta = r + gamma * after - v
        expected = np.empty_like(r)
        for *row, i in np.ndindex(r.shape):
            returns = returns_by_hand(r[*row], after[*row], over[*row], i, gamma)
            weights = [(1 - lam) * lam**n for n in range(len(returns) - 1)] + [lam ** (len(returns) - 1)]
            expected[*row, i] = math.fsum(w * (G - v[*row, i]) for w, G in zip(weights, returns, strict=True))
        close(gae(delta, gamma, lam, over=over), expected, strict=True)

    @reproducible
    @given(rewards, gammas, st.integers(0, 2**32))
    def test_the_ends_of_the_line(self, r, gamma, seed):
        """One step or λ = 0: the TD error. All steps or λ = 1: the return less what was expected."""
        v = np.random.default_rng(seed).normal(size=(*r.shape[:-1], r.shape[-1] + 1))
        v[..., -1] = 0
        delta, credit = td_error(r, v, gamma), reward_to_go(r, gamma) - v[..., :-1]
        assert_array_equal(n_step_advantage(delta, 1, gamma), delta)
        assert_array_equal(gae(delta, gamma, lam=0), delta)
        close(n_step_advantage(delta, max(1, r.shape[-1]), gamma), credit)
        close(gae(delta, gamma, lam=1), credit)

    @reproducible
    @given(rewards, gammas, gammas)
    def test_without_ends_it_is_the_same_as_with_ends_nowhere(self, delta, gamma, lam):
        nowhere = np.zeros(delta.shape, bool)
        close(gae(delta, gamma, lam), gae(delta, gamma, lam, over=nowhere))
        assert_array_equal(n_step_advantage(delta, 3, gamma), n_step_advantage(delta, 3, gamma, over=nowhere))

    def test_what_it_is_given_stays_as_it_was(self):
        delta, over = np.ones(4), np.array([False, True, False, False])
        n_step_advantage(delta, 3, over=over)
        gae(delta, 0.9, 0.9, over=over)
        assert_array_equal(delta, 1)
        assert_array_equal(over, [False, True, False, False])

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: n_step_advantage(np.ones(3), 0), "n must be a whole number of at least 1, got 0"),
            (lambda: n_step_advantage(np.ones(3), 1.5), "n must be a whole number of at least 1, got 1.5"),
            (
                lambda: n_step_advantage(np.ones(3, int), 1),
                "delta must be an array of floats (integers would cut off discounted returns), got int64",
            ),
            (lambda: n_step_advantage(np.ones(3), 1, -1), "gamma must be in [0, 1], got -1"),
            (
                lambda: n_step_advantage(np.ones(3), 1, over=np.zeros(3)),
                "over must hold booleans, shape (3,), got float64 of shape (3,)",
            ),
            (lambda: gae(np.ones(3), 1, 1.1), "lam must be in [0, 1], got 1.1"),
            (lambda: gae(np.ones(3), 1.1, 1), "gamma must be in [0, 1], got 1.1"),
            (lambda: gae(np.array([1, np.nan])), "delta must be finite, got nan at (1,)"),
            (lambda: gae(np.float64(1)), "delta must have shape (T,) or (N, T), got a single number, 1.0"),
            (
                lambda: gae(np.ones(3), over=np.zeros(2, bool)),
                "over must hold booleans, shape (3,), got bool of shape (2,)",
            ),
        ],
    )
    def test_bad_input_is_named(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
