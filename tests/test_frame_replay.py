"""A replay buffer of frames, against one that stores whole stacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pgcourse.algorithms.frame_replay import FrameReplayBuffer, random_shift
from pgcourse.algorithms.replay import ReplayBuffer, Transitions
from pgcourse.experiments import checkpoints

reproducible = settings(derandomize=True, deadline=None, max_examples=60)


class Play:
    """Random frames, rewards and ends of several environments, as an algorithm stores them."""

    def __init__(self, n_envs, n_frames, seed, p_end=0.3, size=(2, 3)):
        self.rng, self.n, self.n_frames, self.p_end, self.size = (
            np.random.default_rng(seed),
            n_envs,
            n_frames,
            p_end,
            size,
        )
        self.s = self.first(n_envs)

    def frames(self, n):
        return self.rng.integers(256, size=(n, *self.size), dtype=np.uint8)

    def first(self, n):
        return self.frames(n)[:, None].repeat(self.n_frames, axis=1)

    def begin(self):
        """New episodes, as after a checkpoint."""
        self.s = self.first(self.n)

    def step(self):
        s, n = self.s, self.n
        next_s = np.concatenate([s[:, 1:], self.frames(n)[:, None]], axis=1)
        done = self.rng.random(n) < self.p_end
        terminated = done & (self.rng.random(n) < 0.5)  # the others are truncated
        a, r = self.rng.normal(size=(n, 2)).astype(np.float32), self.rng.normal(size=n).astype(np.float32)
        self.s = next_s.copy()
        self.s[done] = self.first(done.sum())
        return Transitions(s, a, r, next_s, terminated)


def pair(capacity, n_frames, n_envs, n_seeds=1, size=(2, 3), **options):
    shape = (n_frames, *size)
    whole = ReplayBuffer(capacity, shape, (2,), state_dtype=np.uint8, n_seeds=n_seeds)
    return whole, FrameReplayBuffer(capacity, shape, (2,), n_envs=n_envs, n_seeds=n_seeds, **options)


def assert_equal(one, other):
    for name, x, y in zip(Transitions._fields, one, other, strict=True):
        assert_array_equal(x, y, err_msg=name, strict=True)


@reproducible
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 60),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2**32),
)
def test_it_equals_a_buffer_of_whole_stacks_to_the_bit(capacity, n_frames, n_envs, n_seeds, n, p_end, seed):
    """Also where the ring is written over, where every step ends an episode, and where new ones begin."""
    whole, frames = pair(capacity, n_frames, n_envs, n_seeds)
    play = Play(n_envs * n_seeds, n_frames, seed, p_end)
    for t in range(n):
        if t % 17 == 16:
            play.begin()
        new = play.step()
        for replay in (whole, frames):
            replay.add(*new)
        assert (len(whole), whole.n_added) == (len(frames), frames.n_added)
        if t % 7 == 0:
            assert_equal(whole.stored(), frames.stored())
            size = min(3, len(whole))
            assert_equal(*(replay.sample(size, np.random.default_rng(seed)) for replay in (whole, frames)))
    assert_equal(whole.stored(), frames.stored())


@pytest.mark.parametrize("n", [0, 3, 9, 40])
@pytest.mark.parametrize("same_episode", [False, True])
def test_a_restored_buffer_continues_as_if_there_had_been_no_interruption(n, same_episode, tmp_path):
    whole, one = pair(8, 3, 2)
    play = Play(2, 3, seed=n)
    for _ in range(n):
        new = play.step()
        whole.add(*new), one.add(*new)
    _, two = pair(8, 3, 2)
    two.add(*Play(2, 3, seed=99).step())
    checkpoints.save(tmp_path / "state", one.state_dict())
    two.load_state_dict(checkpoints.load(tmp_path / "state"))
    if not same_episode:
        play.begin()
    for _ in range(20):
        new = play.step()
        for replay in (whole, one, two):
            replay.add(*new)
        assert_equal(whole.stored(), two.stored())
        assert_equal(one.stored(), two.stored())


def test_its_memory_and_its_state_are_no_larger_than_they_say():
    """A worst case, in which every transition begins an episode: two frames each, and no more."""
    replay = FrameReplayBuffer(100_000, (3, 32, 32), (1,))
    whole = 100_000 * 2 * 3 * 32 * 32
    assert replay.nbytes <= 100_003 * (2 * 32 * 32 + 10)
    assert replay.nbytes < 0.34 * whole
    assert replay.nbytes < 350e6 < whole
    replay.add(*Play(1, 3, 0, size=(32, 32)).step()._replace(a=np.zeros((1, 1))))
    state = replay.state_dict()
    assert sum(x.nbytes for name, x in state.items() if name != "n_added") == 2 * 32 * 32 + 10


def test_what_it_gives_is_a_copy():
    _, replay = pair(5, 3, 1)
    play = Play(1, 3, 0)
    for _ in range(7):
        replay.add(*play.step())
    before = replay.stored()
    for given_out in (replay.stored(), replay.sample(5, np.random.default_rng(0))):
        for column in given_out:
            column[...] = 1
    for x in replay.state_dict().values():
        if isinstance(x, np.ndarray):
            x[...] = 1
    assert_equal(before, replay.stored())
    batch = replay.sample(5, np.random.default_rng(0))
    next_s = batch.next_s.copy()
    batch.s[...] = 1
    assert_array_equal(batch.next_s, next_s)


WRONG = [
    ({"s": np.zeros((2, 3, 2, 3))}, r"s must hold frames of bytes \(uint8\), got float64"),
    ({"next_s": np.zeros((2, 3, 2, 3), int)}, r"next_s must hold frames of bytes \(uint8\), got int64"),
    ({"s": np.zeros((2, 3, 3, 2), np.uint8)}, r"s must have shape \(2, 3, 2, 3\), got \(2, 3, 3, 2\)"),
    ({"next_s": np.zeros((1, 3, 2, 3), np.uint8)}, r"next_s must have shape \(2, 3, 2, 3\), got .*"),
    ({"a": np.zeros((2, 1))}, r"a must have shape \(2, 2\), got \(2, 1\)"),
    ({"a": [[0, 1], [np.nan, 0]]}, "a must be finite, got nan"),
    ({"r": [0, np.inf]}, "r must be finite, got inf"),
    ({"terminated": [0.5, 1]}, "terminated must hold booleans, got float64"),
    ({"terminated": [True]}, r"terminated must have shape \(2,\), got \(1,\)"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_name_what_is_wrong_and_nothing_is_stored(wrong, message):
    _, replay = pair(4, 3, 2)
    play = Play(2, 3, 0, p_end=0)
    replay.add(*play.step())
    before, new = replay.stored(), play.step()
    with pytest.raises(ValueError, match=f"^{message}$"):
        replay.add(**new._asdict() | wrong)
    assert_equal(before, replay.stored())
    replay.add(*new)
    assert len(replay) == 4


def test_a_stack_that_fits_neither_the_step_before_nor_a_beginning_is_refused():
    _, replay = pair(9, 3, 1)
    play = Play(1, 3, 0, p_end=0)
    first, second, third = (play.step() for _ in range(3))
    replay.add(*first)
    with pytest.raises(ValueError, match=r"^s must be next_s of the step before, or"):
        replay.add(*third)
    with pytest.raises(ValueError, match=r"^next_s must be s without its oldest frame"):
        replay.add(*second._replace(next_s=third.next_s))
    assert replay.n_added == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (3, 2, 2), ()), "capacity must be a whole number of at least 1, got 0"),
        ((5, (2, 2), ()), r"stack_shape must be \(n_frames, height, width\), got \(2, 2\)"),
        ((5, (3, 0, 2), ()), r"stack_shape must be \(n_frames, height, width\), got \(3, 0, 2\)"),
        ((10**9, (3, 10**5, 10**5), ()), "capacity and stack_shape must fit into memory, .*"),
    ],
)
def test_shapes_and_capacity_are_checked(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FrameReplayBuffer(*arguments)


def test_a_state_of_another_shape_is_refused():
    _, one = pair(5, 3, 1)
    one.add(*Play(1, 3, 0).step())
    _, two = pair(5, 3, 1, size=(4, 4))
    with pytest.raises(ValueError, match=r"^frames must have shape \(1, 2, 4, 4\), got \(1, 2, 2, 3\)$"):
        two.load_state_dict(one.state_dict())


@pytest.mark.parametrize("max_shift", [1, 2, 5])
def test_a_shift_pads_with_the_border_and_crops(max_shift):
    """Against numpy.pad, sample by sample. All shifts occur: one of 25 is missing among 2,000 with
    probability 25 · 0.96²⁰⁰⁰ < 10⁻³⁴."""
    n = 2000 if max_shift == 2 else 60
    stacks = np.random.default_rng(0).integers(256, size=(n, 3, 7, 9), dtype=np.uint8)
    shifted = random_shift(stacks, max_shift, np.random.default_rng(1))
    assert (shifted.shape, shifted.dtype) == (stacks.shape, stacks.dtype)
    m, seen = max_shift, set()
    for stack, moved in zip(stacks, shifted, strict=True):
        padded = np.pad(stack, ((0, 0), (m, m), (m, m)), mode="edge")
        crops = {(i, j): padded[:, i : i + 7, j : j + 9] for i in range(2 * m + 1) for j in range(2 * m + 1)}
        [at] = [key for key, crop in crops.items() if np.array_equal(crop, moved)]
        seen.add(at)
    if max_shift == 2:
        assert len(seen) == 25


def test_shifts_are_those_of_the_generator_and_none_of_zero():
    stacks = np.random.default_rng(0).integers(256, size=(9, 3, 7, 7), dtype=np.uint8)
    one, same, other = (random_shift(stacks, 2, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert_array_equal(one, same)
    assert (one != other).any()
    rng = np.random.default_rng(5)
    assert_array_equal(random_shift(stacks, 0, rng), stacks)
    assert rng.random() == np.random.default_rng(5).random()


def test_sampled_states_are_shifted_and_next_states_otherwise():
    _, replay = pair(50, 3, 1, size=(9, 9), max_shift=2)
    _, plain = pair(50, 3, 1, size=(9, 9))
    play = Play(1, 3, 0, size=(9, 9))
    for _ in range(30):
        new = play.step()
        replay.add(*new), plain.add(*new)
    batch, same = replay.sample(30, np.random.default_rng(1)), plain.sample(30, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    rng.integers(30, size=30)
    assert_array_equal(batch.s, random_shift(same.s, 2, rng))
    assert_array_equal(batch.next_s, random_shift(same.next_s, 2, rng))
    assert_array_equal(batch.r, same.r)
