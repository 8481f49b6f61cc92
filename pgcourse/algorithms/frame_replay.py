"""Experience replay of stacked frames: each frame is stored once, and stacked again when it is sampled.

    s = (o₋₂, o₋₁, o₀)        s' = (o₋₁, o₀, o₁)

So a transition adds one frame, o₁, to those of the transition before it, and the first of an episode adds
o₀, too. There is room for two frames a transition, so that episodes may have one step: a third of the six
frames of whole stacks s and s' of three.

Sampled stacks may be shifted by a few pixels, at random: data augmentation.

Slide 62 and slide 66, line 1; Mnih et al. (2015); Yarats, Kostrikov & Fergus (2021) for shifts.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np

from pgcourse import checks
from pgcourse.algorithms.replay import ReplayBuffer, Transitions, converted
from pgcourse.arrays import Bool, Float, Int, UInt8

MAX_SHIFT = 1000  # pixels


def random_shift(
    stacks: UInt8[np.ndarray, "N n_frames H W"], max_shift: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "N n_frames H W"]:
    """Shift each stack by up to ``max_shift`` pixels vertically and horizontally; all its frames alike.

    What enters at a border repeats the border's pixels: pad the picture with them, and crop it at random.

    Yarats, Kostrikov & Fergus (2021).
    """
    max_shift = checks.count(0, MAX_SHIFT, max_shift=max_shift)
    stacks = checks.numbers("stacks", stacks)
    if stacks.ndim != 4:
        raise ValueError(f"stacks must have shape (N, n_frames, H, W), got {stacks.shape}")
    if not max_shift or not stacks.size:
        return stacks
    n, n_frames, height, width = stacks.shape
    dy, dx = (rng.integers(2 * max_shift + 1, size=(n, 2)) - max_shift).T
    y = np.clip(np.arange(height) + dy[:, None], 0, height - 1)
    x = np.clip(np.arange(width) + dx[:, None], 0, width - 1)
    pixel = (y[:, :, None] * width + x[:, None, :]).reshape(n, 1, -1)
    first = np.arange(n * n_frames).reshape(n, n_frames, 1) * (height * width)
    return stacks.take(first + pixel).reshape(stacks.shape)


class Columns(NamedTuple):
    """What is stored of R transitions of each of S seeds."""

    frames: UInt8[np.ndarray, "S R 2 H W"]  # o₁, and o₀ where the episode begins
    age: Int[np.ndarray, "S R"]  # transitions of the same episode before this one, n_frames for more
    a: np.ndarray  # (S, R, ...)
    r: Float[np.ndarray, "S R"]
    terminated: Bool[np.ndarray, "S R"]


class FrameReplayBuffer(ReplayBuffer):
    """``ReplayBuffer`` for stacks of frames, equal to the bit, in a third of the memory.

    Transitions come from ``n_envs`` environments in order, one of each at a time, and the first stack of an
    episode is its first frame ``n_frames`` times, as in ``environments.frames``. The p-th transition that is
    added is at p mod R, and the one before it in its environment is the (p − n_envs)-th.

    Args:
        capacity: transitions, at least 1.
        stack_shape: (n_frames, H, W).
        action_shape: of one action.
        n_envs: environments of each seed.
        max_shift: pixels by which sampled stacks are shifted, s and s' independently; 0 for none.
        n_seeds: as for ``ReplayBuffer``.

    Slide 66, where it is ℬ.
    """

    def __init__(
        self,
        capacity: int,
        stack_shape: tuple[int, ...],
        action_shape: tuple[int, ...],
        *,
        n_envs: int = 1,
        max_shift: int = 0,
        n_seeds: int = 1,
    ):
        sizes = checks.integers("stack_shape", stack_shape)
        if sizes.shape != (3,) or not sizes.all():
            raise ValueError(f"stack_shape must be (n_frames, height, width), got {stack_shape!s:.80}")
        self.n_envs, self.n_seeds = checks.count(1, n_envs=n_envs), checks.count(1, n_seeds=n_seeds)
        self.max_shift = checks.count(0, MAX_SHIFT, max_shift=max_shift)
        self.stack_shape = self.n_frames, *picture = tuple(sizes.tolist())
        self.n_added = 0
        self._last: np.ndarray | None = None  # stacks s' of the last transitions, one an environment
        self.capacity = checks.count(1, math.inf, capacity=capacity)
        self.n_rows = self.capacity + self.n_frames * self.n_envs  # younger stacks have frames of older rows
        frames = self._zeros(np.uint8, stack_shape=(2, *picture))
        a, r = self._zeros(np.float32, action_shape=action_shape), self._zeros(np.float32, shape=())
        self._columns = Columns(frames, self._zeros(np.uint8, shape=()), a, r, self._zeros(bool, shape=()))

    @property
    def state_dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(column.nbytes for column in self._columns)

    def add(
        self, s: np.ndarray, a: np.ndarray, r: np.ndarray, next_s: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Store a transition of each environment, shapes (n_seeds · n_envs, ...); all valid, or none."""
        n = self.n_seeds * self.n_envs
        s, next_s = as_stacks("s", s, self.stack_shape, n), as_stacks("next_s", next_s, self.stack_shape, n)
        begins = np.ones(n, bool) if self._last is None else (s != self._last).any(axis=(1, 2, 3))
        if (s[begins] != s[begins, :1]).any():
            raise ValueError(
                "s must be next_s of the step before, or, where an episode begins, one frame repeated"
            )
        if (next_s[:, :-1] != s[:, 1:]).any():
            raise ValueError("next_s must be s without its oldest frame, and one new frame")
        others, columns = zip(("a", "r", "terminated"), (a, r, terminated), strict=True), self._columns[2:]
        with np.errstate(over="ignore"):
            new = [converted(name, x, kept) for (name, x), kept in zip(others, columns, strict=True)]
        for name, x, kept in zip(Columns._fields[2:], new, columns, strict=True):
            if x.shape != (n, *kept.shape[2:]):
                raise ValueError(f"{name} must have shape {(n, *kept.shape[2:])}, got {x.shape}")
            checks.finite(**{name: x})
        where = np.arange(self.n_added, self.n_added + self.n_envs) % self.n_rows
        age = self._columns.age[:, where - self.n_envs].ravel() + 1
        age = np.where(begins, 0, np.minimum(age, self.n_frames))
        frames = np.stack([next_s[:, -1], s[:, -1]], axis=1)
        for column, x in zip(self._columns, (frames, age, *new), strict=True):
            column[:, where] = x.reshape(self.n_seeds, self.n_envs, *column.shape[2:])
        self.n_added, self._last = self.n_added + self.n_envs, next_s.copy()

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw a minibatch for each seed, as ``ReplayBuffer`` draws it, and shift its stacks at random."""
        index = self._draw(batch_size, rng).reshape(self.n_seeds, -1)
        batch = self._transitions(index)
        s, next_s = (random_shift(x, self.max_shift, rng) for x in (batch.s, batch.next_s))
        return batch._replace(s=s, next_s=next_s)

    def stored(self) -> Transitions:
        """Return a copy of all stored transitions, seed after seed, as ``ReplayBuffer`` has them."""
        return self._transitions(np.arange(len(self)) + np.zeros((self.n_seeds, 1), int))

    def _transitions(self, index: Int[np.ndarray, "S N"]) -> Transitions:
        """Return those at these places of a ``ReplayBuffer``, which are their positions mod capacity."""
        newest = self.n_added - 1
        position = newest - (newest - index) % self.capacity if self.n_added > self.capacity else index
        row = position % self.n_rows + self.n_rows * np.arange(self.n_seeds)[:, None]
        row, position = row.ravel(), position.ravel()
        frames, age, a, r, terminated = (self._rows(column) for column in self._columns)
        back = np.arange(self.n_frames, -1, -1)  # from the newest frame, o₁, to each
        steps = np.minimum(back, age[row][:, None])
        seed = (row // self.n_rows * self.n_rows)[:, None]
        frame = 2 * (seed + (position[:, None] - steps * self.n_envs) % self.n_rows) + (back > steps)
        stacks = frames.reshape(-1, *self.stack_shape[1:]).take(frame, axis=0)
        s, next_s = stacks[:, :-1].copy(), stacks[:, 1:].copy()
        return Transitions(s, a[row], r[row], next_s, terminated[row])

    def state_dict(self) -> dict:
        """Return a copy of what is stored."""
        n = min(self.n_added, self.n_rows)
        rows = (self._rows(column[:, :n]).copy() for column in self._columns)
        return {"n_added": self.n_added} | dict(zip(Columns._fields, rows, strict=True))

    def load_state_dict(self, state: dict) -> None:
        """Replace the stored transitions by those of a state, which must fit the capacity and the shapes."""
        n = min(state["n_added"], self.n_rows)
        for name, column in self._columns._asdict().items():
            if state[name].shape != (expected := (self.n_seeds * n, *column.shape[2:])):
                raise ValueError(f"{name} must have shape {expected}, got {state[name].shape}")
        for name, column in self._columns._asdict().items():
            column[:, :n] = state[name].reshape(self.n_seeds, n, *column.shape[2:])
        self.n_added, self._last = state["n_added"], None
        if self.n_added:
            last = np.arange(self.n_added - self.n_envs, self.n_added) % self.capacity
            self._last = self._transitions(last + np.zeros((self.n_seeds, 1), int)).next_s


def as_stacks(name: str, stacks: object, shape: tuple[int, ...], n: int) -> UInt8[np.ndarray, "N C H W"]:
    """Return n stacks of frames, which must be bytes of this shape each."""
    array = checks.numbers(name, cast("np.ndarray", stacks))
    if array.shape != (n, *shape):
        raise ValueError(f"{name} must have shape {(n, *shape)}, got {array.shape}")
    if array.dtype != np.uint8:
        raise ValueError(f"{name} must hold frames of bytes (uint8), got {array.dtype}")
    return array
