"""Experience replay: store transitions, and learn from them many times.

Slide 66, lines 1 and 2; Lin (1992); Mnih et al. (2015).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from pgcourse import checks
from pgcourse.arrays import Bool, Float, Int


class Transitions(NamedTuple):
    """N transitions (s, a, r, s')."""

    s: np.ndarray  # (N, ...)
    a: np.ndarray  # (N, ...)
    r: Float[np.ndarray, " N"]  # float32
    next_s: np.ndarray  # s', (N, ...): of the same episode, also where it was truncated
    terminated: Bool[np.ndarray, " N"]  # whether the episode terminated, so that s' has no value


def converted(name: str, values: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return numbers in the type in which they are stored, where whole ones stay whole."""
    array, kind = checks.numbers(name, values), stored.dtype.kind
    with np.errstate(invalid="ignore"):
        converted = array.astype(stored.dtype, copy=False)
    if kind != "f" and array.dtype.kind != kind and (converted != array).any():
        must = "booleans" if kind == "b" else "integers"
        raise ValueError(f"{name} must hold {must}, got {array.dtype}")
    return converted


class ReplayBuffer:
    """The most recent transitions, in preallocated arrays: a new one replaces the oldest.

    Args:
        capacity: how many, at least 1.
        state_shape, action_shape: of one state and of one action.
        state_dtype, action_dtype: of the arrays.
        n_seeds: S buffers in one: rows come and go in S blocks of equal length, one a seed, and the capacity
            is that of each.

    Slide 66, where it is ℬ.
    """

    def __init__(
        self,
        capacity: int,
        state_shape: tuple[int, ...],
        action_shape: tuple[int, ...],
        *,
        state_dtype: DTypeLike = np.float32,
        action_dtype: DTypeLike = np.float32,
        n_seeds: int = 1,
    ):
        self.capacity, self.n_added = checks.count(1, math.inf, capacity=capacity), 0
        self.n_rows = self.capacity
        self.n_seeds = checks.count(1, n_seeds=n_seeds)
        s, next_s = (self._zeros(state_dtype, state_shape=state_shape) for _ in range(2))
        a, r = self._zeros(action_dtype, action_shape=action_shape), self._zeros(np.float32, shape=())
        self._storage = Transitions(s, a, r, next_s, self._zeros(bool, shape=()))

    @property
    def state_dtype(self) -> np.dtype:
        """The type of number of a sampled state."""
        return self._storage.s.dtype

    def _zeros(self, dtype: DTypeLike, **shapes: tuple[int, ...]) -> np.ndarray:
        """Return the array of a column, shape (S, capacity, ...), for the one shape given."""
        [(name, shape)] = shapes.items()
        sizes = checks.integers(name, shape)
        if sizes.ndim != 1:
            raise ValueError(f"{name} must be the sizes of an array's axes, got {shape!s:.80}")
        try:
            column = np.zeros((self.n_seeds, self.n_rows, *sizes.tolist()), dtype)
        except TypeError as error:
            raise ValueError(f"{name.replace('shape', 'dtype')} must be a type of number: {error}") from error
        except (MemoryError, ValueError, OverflowError) as error:
            got = f"capacity {self.capacity:,} and {name} {tuple(sizes.tolist())}"
            raise ValueError(f"capacity and {name} must fit into memory, got {got}: {error}") from error
        if column.dtype.kind not in "biuf":
            raise ValueError(f"{name.replace('shape', 'dtype')} must be a type of number, got {column.dtype}")
        return column

    def __len__(self) -> int:
        """Return how many transitions are stored for each seed."""
        return min(self.n_added, self.capacity)

    def add(
        self, s: np.ndarray, a: np.ndarray, r: np.ndarray, next_s: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Store N transitions, shapes (N, ...) as in ``Transitions``; all finite, or none is stored."""
        columns = (s, a, r, next_s, terminated)
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite, and is refused
            new = Transitions(*map(converted, Transitions._fields, columns, self._storage))
        self._check_shapes(new, np.size(r))
        checks.finite(**new._asdict())
        if len(new.r) % self.n_seeds:
            got = f"got {len(new.r)}"
            raise ValueError(f"r must hold as many rewards for each of {self.n_seeds} seeds, {got}")
        n = len(new.r) // self.n_seeds
        self.n_added += n
        last = slice(-self.capacity, None)  # of more than there is room for
        where = np.arange(self.n_added - n, self.n_added)[last] % self.capacity
        for kept, column in zip(self._storage, new, strict=True):
            kept[:, where] = column.reshape(self.n_seeds, n, *column.shape[1:])[:, last]

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw a minibatch for each seed, uniformly and with replacement, of at most what it has stored."""
        index = self._draw(batch_size, rng)
        index += np.repeat(self.capacity * np.arange(self.n_seeds), batch_size)
        return Transitions(*(self._rows(column).take(index, axis=0) for column in self._storage))

    def _draw(self, batch_size: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        """Return where the transitions of a minibatch are, in the block of each seed."""
        if type(batch_size) is not int:
            checks.count(0, batch_size=batch_size)
            batch_size = int(batch_size)
        if not 1 <= batch_size <= len(self):
            stored = f"the number of stored transitions, {len(self):,}"
            raise ValueError(f"batch_size must be from 1 to {stored}, got {batch_size}")
        return rng.integers(len(self), size=self.n_seeds * batch_size)

    def stored(self) -> Transitions:
        """Return a copy of all stored transitions, seed after seed."""
        return Transitions(*(self._rows(column[:, : len(self)]).copy() for column in self._storage))

    def state_dict(self) -> dict:
        """Return a copy of the stored transitions."""
        return {"n_added": self.n_added} | self.stored()._asdict()

    def load_state_dict(self, state: dict) -> None:
        """Replace the stored transitions by those of a state, which must fit the capacity and the shapes."""
        n = min(state["n_added"], self.capacity)
        self._check_shapes(Transitions(*(state[name] for name in Transitions._fields)), n * self.n_seeds)
        for name, column in self._storage._asdict().items():
            column[:, :n] = state[name].reshape(self.n_seeds, n, *column.shape[2:])
        self.n_added = state["n_added"]

    def _check_shapes(self, transitions: Transitions, n: int) -> None:
        for name, kept, column in zip(Transitions._fields, self._storage, transitions, strict=True):
            if column.shape != (n, *kept.shape[2:]):
                raise ValueError(f"{name} must have shape {(n, *kept.shape[2:])}, got {column.shape}")

    @staticmethod
    def _rows(column: np.ndarray) -> np.ndarray:
        """Return a column without the axis of the seeds."""
        n_seeds, n, *shape = column.shape
        return column.reshape(n_seeds * n, *shape)
