"""The replay buffer against a deque of the same capacity, the draws against how often each should come."""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.stats import chi2

from pgcourse.algorithms.replay import ReplayBuffer, Transitions
from pgcourse.experiments import checkpoints

reproducible = settings(derandomize=True, deadline=None, max_examples=150)
shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
chunks = st.lists(st.integers(0, 25), max_size=8)


def transitions(first, n, state_shape=(2,), action_shape=(1,)):
    """Transitions first, first + 1, …, that show in each of their columns which they are."""
    k = np.arange(first, first + n)

    def numbered(numbers, shape):
        return np.arange(np.prod(shape, dtype=int)).reshape(shape) / 8 + numbers.reshape(
            -1, *[1] * len(shape)
        )

    s, a, next_s = numbered(k, state_shape), numbered(1000 + k, action_shape), numbered(k + 1, state_shape)
    return Transitions(s, a, 2000.0 + k, next_s, k % 3 == 0)


def rows(batch):
    """Each transition by itself, as nested tuples."""
    return list(zip(*(map(str, column.tolist()) for column in batch), strict=True))


def contents(replay):
    """What is stored, from the oldest to the newest."""
    return sorted(rows(replay.stored()), key=lambda row: float(row[2]))


def filled(capacity, n, **shapes):
    replay = ReplayBuffer(capacity, shapes.get("state_shape", (2,)), shapes.get("action_shape", (1,)))
    replay.add(*transitions(0, n, **shapes))
    return replay


class TestAdd:
    @reproducible
    @given(st.integers(1, 9), chunks, shapes, shapes)
    def test_it_stores_the_most_recent_transitions_and_nothing_else(
        self, capacity, sizes, state_shape, action_shape
    ):
        """However many are added at once, also more than the capacity."""
        replay, expected, n = ReplayBuffer(capacity, state_shape, action_shape), deque(maxlen=capacity), 0
        for size in sizes:
            new = transitions(n, size, state_shape, action_shape)
            replay.add(*new)
            expected.extend(rows(new))
            n += size
            assert len(replay) == len(expected)
            assert replay.n_added == n
            assert contents(replay) == list(expected)

    @pytest.mark.parametrize("state_shape", [(), (1,), (3,), (84,), (4, 4)], ids=str)
    @pytest.mark.parametrize("before", [0, 1, 700, 1000])
    @pytest.mark.parametrize("n", [1001, 2500, 10_000])
    def test_of_more_transitions_than_its_capacity_it_stores_the_last(self, state_shape, before, n):
        replay = filled(1000, before, state_shape=state_shape)
        replay.add(*transitions(before, n, state_shape))
        assert contents(replay) == rows(transitions(before + n - 1000, 1000, state_shape))

    @pytest.mark.parametrize(
        "kind",
        [
            np.asarray,
            np.ndarray.tolist,
            lambda x: np.asarray(x, np.float16),
            lambda x: np.asfortranarray(x)[:],
        ],
    )
    def test_arrays_may_be_of_any_kind(self, kind):
        replay = ReplayBuffer(4, (2,), (1,))
        replay.add(*(kind(column) for column in transitions(0, 3)))
        assert contents(replay) == rows(transitions(0, 3))

    def test_what_is_added_is_copied(self):
        replay, new = ReplayBuffer(4, (2,), (1,)), transitions(0, 3)
        replay.add(*new)
        for column in new:
            column[...] = 1
        assert contents(replay) == rows(transitions(0, 3))

    def test_dtypes_are_those_asked_for(self):
        replay = ReplayBuffer(4, (2, 2), (), state_dtype=np.uint8, action_dtype=np.int64)
        s = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) + 200
        replay.add(s, [1, 2], [0.5, -0.5], s + 10, [False, True])
        expected = Transitions(np.uint8, np.int64, np.float32, np.uint8, np.bool_)
        in_state = Transitions(*(replay.state_dict()[name] for name in Transitions._fields))
        for batch in (replay.sample(2, np.random.default_rng(0)), replay.stored(), in_state):
            assert tuple(column.dtype for column in batch) == expected
        state = replay.state_dict()
        assert_array_equal(state["s"], s)
        assert_array_equal(state["next_s"], s + 10)
        assert state["a"].tolist() == [1, 2]
        assert filled(3, 3).sample(1, np.random.default_rng(0)).s.dtype == np.float32
        assert filled(3, 3).sample(1, np.random.default_rng(0)).a.dtype == np.float32

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"s": [[0, np.nan], [0, 0]]}, "s must be finite, got nan"),
            ({"a": [[0], [np.inf]]}, "a must be finite, got inf"),
            ({"r": [0, np.nan]}, "r must be finite, got nan"),
            ({"r": [-np.inf, 0]}, "r must be finite, got -inf"),
            ({"next_s": [[0, 0], [np.nan, 0]]}, "next_s must be finite, got nan"),
            ({"s": np.zeros((2, 3))}, r"s must have shape \(2, 2\), got \(2, 3\)"),
            ({"s": np.zeros(2)}, r"s must have shape \(2, 2\), got \(2,\)"),
            ({"s": np.zeros((3, 2))}, r"s must have shape \(2, 2\), got \(3, 2\)"),
            ({"r": np.zeros(3)}, r"s must have shape \(3, 2\), got \(2, 2\)"),
            ({"a": np.zeros(2)}, r"a must have shape \(2, 1\), got \(2,\)"),
            ({"a": np.zeros((1, 1))}, r"a must have shape \(2, 1\), got \(1, 1\)"),
            ({"r": np.zeros((2, 1))}, r"r must have shape \(2,\), got \(2, 1\)"),
            ({"next_s": np.zeros((1, 2))}, r"next_s must have shape \(2, 2\), got \(1, 2\)"),
            ({"terminated": False}, r"terminated must have shape \(2,\), got \(\)"),
            ({"terminated": [False]}, r"terminated must have shape \(2,\), got \(1,\)"),
            ({"terminated": [[False], [True]]}, r"terminated must have shape \(2,\), got \(2, 1\)"),
        ],
    )
    @pytest.mark.parametrize("n", [3, 5, 7], ids=["with room", "full", "full, and overwritten"])
    def test_errors_name_what_is_wrong_and_nothing_is_stored(self, wrong, message, n):
        replay = filled(5, n)
        before = contents(replay)
        with pytest.raises(ValueError, match=f"^{message}$"):
            replay.add(**transitions(100, 2)._asdict() | wrong)
        assert (len(replay), replay.n_added) == (min(n, 5), n)
        assert contents(replay) == before
        replay.add(*transitions(n, 2))
        assert contents(replay)[-2:] == rows(transitions(n, 2))

    def test_no_reward_becomes_infinite_in_single_precision(self):
        replay = ReplayBuffer(3, (2,), (1,))
        with pytest.raises(ValueError, match="r must be finite"):
            replay.add(**transitions(0, 1)._asdict() | {"r": [1e300]})


class TestSample:
    @reproducible
    @given(
        st.integers(1, 9),
        st.lists(st.integers(1, 12), min_size=1, max_size=5),
        shapes,
        shapes,
        st.integers(0, 2**32),
    )
    def test_it_draws_whole_transitions_of_those_stored(
        self, capacity, sizes, state_shape, action_shape, seed
    ):
        replay, rng = ReplayBuffer(capacity, state_shape, action_shape), np.random.default_rng(seed)
        n, batch_shapes = 0, (state_shape, action_shape, (), state_shape, ())
        for size in sizes:
            replay.add(*transitions(n, size, state_shape, action_shape))
            n += size
            batch_size = int(rng.integers(1, len(replay) + 1))
            batch = replay.sample(batch_size, rng)
            assert [column.shape for column in batch] == [(batch_size, *shape) for shape in batch_shapes]
            assert set(rows(batch)) <= set(contents(replay))

    @pytest.mark.parametrize("n", [30, 50, 80], ids=["with room", "full", "full, and overwritten"])
    def test_draws_are_uniform(self, n):
        """Within six standard errors; together, a chi-square beyond this has a probability of 10⁻⁸."""
        replay, rng, times, size = filled(50, n), np.random.default_rng(0), 4000, 20
        drawn = np.concatenate([replay.sample(size, rng).r for _ in range(times)]) - 2000
        stored = range(max(0, n - 50), n)
        assert set(drawn) == set(stored)
        counts, p = Counter(drawn.tolist()), 1 / len(stored)
        expected = times * size * p
        errors = np.array([counts[k] for k in stored]) - expected
        assert abs(errors).max() < 6 * np.sqrt(expected * (1 - p))
        assert (errors**2).sum() / expected < chi2.isf(1e-8, len(stored) - 1)

    def test_draws_are_with_replacement(self):
        """Of 10 transitions each is missing among 10 draws with probability 0.9¹⁰; two draws are
        independent."""
        replay, rng, times = filled(10, 10), np.random.default_rng(1), 4000
        drawn = np.array([replay.sample(10, rng).r for _ in range(times)])
        distinct = np.array([len(set(row)) for row in drawn])
        assert abs(distinct.mean() - 10 * (1 - 0.9**10)) < 6 * distinct.std() / np.sqrt(times)
        assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 0.1) < 6 * np.sqrt(0.1 * 0.9 / times)

    def test_the_same_generator_draws_the_same(self):
        replay = filled(50, 80)
        one, other, third = (replay.sample(20, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert rows(one) == rows(other) != rows(third)

    def test_a_batch_is_a_copy(self):
        replay = filled(5, 7)
        before = contents(replay)
        for column in replay.sample(5, np.random.default_rng(0)):
            column[...] = 1
        batch = replay.sample(5, np.random.default_rng(0))
        drawn = rows(batch)
        replay.add(*transitions(7, 5))
        assert rows(batch) == drawn
        assert set(drawn) <= set(before)

    @pytest.mark.parametrize(("n_added", "batch_size"), [(0, 1), (3, 0), (3, -1), (3, 4), (2000, 1001)])
    def test_no_more_are_drawn_than_are_stored(self, n_added, batch_size):
        replay = filled(1000, n_added)
        limit = f"the number of stored transitions, {min(n_added, 1000):,}"
        with pytest.raises(ValueError, match=f"^batch_size must be from 1 to {limit}, got {batch_size}$"):
            replay.sample(batch_size, np.random.default_rng(0))


class TestState:
    @reproducible
    @given(st.integers(1, 9), st.integers(0, 25), st.integers(0, 25), st.integers(0, 12), shapes, shapes)
    def test_a_restored_buffer_continues_as_if_there_had_been_no_interruption(
        self, capacity, n, later, other, state_shape, action_shape
    ):
        """Whatever was stored in it before."""
        one, two = (ReplayBuffer(capacity, state_shape, action_shape) for _ in range(2))
        one.add(*transitions(0, n, state_shape, action_shape))
        two.add(*transitions(500, other, state_shape, action_shape))
        two.load_state_dict(one.state_dict())
        for replay in (one, two):
            replay.add(*transitions(n, later, state_shape, action_shape))
        first, size = max(0, n + later - capacity), min(n + later, capacity)
        assert contents(two) == contents(one) == rows(transitions(first, size, state_shape, action_shape))
        assert len(two) == len(one)
        if len(one):
            batches = [replay.sample(len(one), np.random.default_rng(0)) for replay in (one, two)]
            assert rows(batches[0]) == rows(batches[1])

    @pytest.mark.parametrize("n", [0, 3, 5, 13])
    @pytest.mark.parametrize(
        "dtypes",
        [{}, {"state_dtype": np.uint8, "action_dtype": np.int64}, {"state_dtype": np.float64}],
        ids=str,
    )
    def test_it_is_restored_from_a_checkpoint(self, tmp_path, n, dtypes):
        one, two = (ReplayBuffer(5, (2,), (1,), **dtypes) for _ in range(2))
        new = transitions(0, n)
        one.add(new.s.astype(int), *new[1:3], new.next_s.astype(int), new.terminated)
        checkpoints.save(tmp_path / "state", one.state_dict())
        two.load_state_dict(checkpoints.load(tmp_path / "state"))
        assert (len(two), two.n_added) == (min(n, 5), n)
        for name, column in one.state_dict().items():
            assert_array_equal(two.state_dict()[name], column, strict=name != "n_added")
        for replay in (one, two):
            replay.add(*(column.astype(int) for column in transitions(n, 4)))
        assert contents(two) == contents(one)

    def test_its_state_is_no_larger_than_what_is_stored(self):
        state = filled(1_000_000, 3).state_dict()
        assert {name: column.shape for name, column in state.items() if name != "n_added"} == {
            "s": (3, 2),
            "a": (3, 1),
            "r": (3,),
            "next_s": (3, 2),
            "terminated": (3,),
        }
        assert state["n_added"] == 3

    def test_its_state_is_a_copy_both_ways(self):
        one, two = filled(5, 7), ReplayBuffer(5, (2,), (1,))
        expected = contents(one)
        state = one.state_dict()
        two.load_state_dict(state)
        for name in Transitions._fields:
            state[name][...] = 1
        assert contents(one) == contents(two) == expected
        state = one.state_dict()
        saved = {name: state[name].copy() for name in Transitions._fields}
        one.add(*transitions(7, 5))
        for name in Transitions._fields:
            assert_array_equal(state[name], saved[name])
        assert contents(two) == expected

    def test_what_is_stored_is_given_as_a_copy(self):
        replay = filled(5, 7)
        before = contents(replay)
        for column in replay.stored():
            column[...] = 1
        assert contents(replay) == before

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (filled(5, 5, state_shape=(3,)), r"s must have shape \(4, 2\), got \(5, 3\)"),
            (filled(4, 5, state_shape=(3,)), r"s must have shape \(4, 2\), got \(4, 3\)"),
            (filled(4, 5, state_shape=()), r"s must have shape \(4, 2\), got \(4,\)"),
            (filled(4, 2, action_shape=(2,)), r"a must have shape \(2, 1\), got \(2, 2\)"),
            (filled(4, 2, action_shape=()), r"a must have shape \(2, 1\), got \(2,\)"),
            (filled(3, 5), r"s must have shape \(4, 2\), got \(3, 2\)"),
            (filled(9, 7), r"s must have shape \(4, 2\), got \(7, 2\)"),
        ],
    )
    def test_a_state_of_other_shapes_or_capacity_raises_an_error(self, other, message):
        replay = filled(4, 7)
        before = contents(replay)
        with pytest.raises(ValueError, match=f"^{message}$"):
            replay.load_state_dict(other.state_dict())
        assert (len(replay), replay.n_added) == (4, 7)
        assert contents(replay) == before

    @pytest.mark.parametrize("name", Transitions._fields)
    def test_so_does_a_damaged_state(self, name):
        state = filled(4, 3).state_dict()
        state[name] = state[name][:-1]
        with pytest.raises(ValueError, match=f"^{name} must have shape "):
            ReplayBuffer(4, (2,), (1,)).load_state_dict(state)


@pytest.mark.parametrize("capacity", [0, -1])
def test_the_capacity_is_at_least_one(capacity):
    with pytest.raises(ValueError, match=f"^capacity must be a whole number of at least 1, got {capacity}$"):
        ReplayBuffer(capacity, (1,), (1,))


def test_a_new_buffer_is_empty():
    replay = ReplayBuffer(3, (1,), (1,))
    assert len(replay) == replay.n_added == 0
    assert contents(replay) == []


def test_what_would_be_truncated_is_refused():
    """0.5 is no action, and no truth value either."""
    columns = dict(s=np.zeros((1, 2)), a=np.array([1]), r=np.ones(1), next_s=np.zeros((1, 2)))
    replay = ReplayBuffer(4, (2,), (), action_dtype=np.int64)
    replay.add(**columns, terminated=np.array([True]))
    with pytest.raises(ValueError, match=r"^a must hold integers, got float64$"):
        replay.add(**columns | {"a": np.array([0.5])}, terminated=np.array([True]))
    with pytest.raises(ValueError, match=r"^terminated must hold booleans, got float64$"):
        replay.add(**columns, terminated=np.array([0.5]))
    assert len(replay) == 1


def test_a_buffer_that_does_not_fit_into_memory_says_so():
    with pytest.raises(ValueError, match=r"^capacity and state_shape must fit into memory, got capacity "):
        ReplayBuffer(10**9, (10**9,), ())
    for wrong, name in ((("text",), "state_shape"), (None, "state_shape"), (3, "state_shape")):
        with pytest.raises(ValueError, match=f"^{name} must "):
            ReplayBuffer(4, wrong, ())
    with pytest.raises(ValueError, match=r"^state_dtype must be a type of number, got object$"):
        ReplayBuffer(4, (2,), (), state_dtype=object)
