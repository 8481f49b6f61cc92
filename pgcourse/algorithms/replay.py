"""Experience replay: store transitions, and learn from them many times.

Slide 66, lines 1 and 2; Lin (1992); Mnih et al. (2015).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from pgcourse import checks
from pgcourse.arrays import Bool, Float


class Transitions(NamedTuple):
    """N transitions (s, a, r, s')."""

    s: np.ndarray  # (N, ...)
    a: np.ndarray  # (N, ...)
    r: Float[np.ndarray, " N"]  # float32
    next_s: np.ndarray  # s', (N, ...): of the same episode, also where it was truncated
    terminated: Bool[np.ndarray, " N"]  # whether the episode terminated, so that s' has no value


class ReplayBuffer:
    """The most recent transitions, in preallocated arrays: a new one replaces the oldest.

    Args:
        capacity: how many, at least 1.
        state_shape, action_shape: of one state and of one action.
        state_dtype, action_dtype: of the arrays.

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
    ):
        checks.at_least(1, capacity=capacity)
        self.capacity, self.n_added = capacity, 0
        s, next_s = (np.zeros((capacity, *state_shape), state_dtype) for _ in range(2))
        a, r = np.zeros((capacity, *action_shape), action_dtype), np.zeros(capacity, np.float32)
        self._storage = Transitions(s, a, r, next_s, np.zeros(capacity, bool))

    def __len__(self) -> int:
        """Return how many transitions are stored."""
        return min(self.n_added, self.capacity)

    def add(
        self, s: np.ndarray, a: np.ndarray, r: np.ndarray, next_s: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Store N transitions, shapes (N, ...) as in ``Transitions``; all finite, or none is stored."""
        columns = (s, a, r, next_s, terminated)
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite, and is refused
            new = Transitions(
                *(np.asarray(x, kept.dtype) for x, kept in zip(columns, self._storage, strict=True))
            )
        self._check_shapes(new, np.size(r))
        checks.finite(**new._asdict())
        self.n_added += len(new.r)
        last = slice(-self.capacity, None)  # of more than there is room for
        where = np.arange(self.n_added - len(new.r), self.n_added)[last] % self.capacity
        for kept, column in zip(self._storage, new, strict=True):
            kept[where] = column[last]

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw a mini-batch uniformly and with replacement: from 1 to as many transitions as are stored."""
        if not 1 <= batch_size <= len(self):
            stored = f"the number of stored transitions, {len(self):,}"
            raise ValueError(f"batch_size must be from 1 to {stored}, got {batch_size}")
        index = rng.integers(len(self), size=batch_size)
        return Transitions(*(column.take(index, axis=0) for column in self._storage))

    def stored(self) -> Transitions:
        """Return a copy of all stored transitions."""
        return Transitions(*(column[: len(self)].copy() for column in self._storage))

    def state_dict(self) -> dict:
        """Return a copy of the stored transitions."""
        return {"n_added": self.n_added} | self.stored()._asdict()

    def load_state_dict(self, state: dict) -> None:
        """Replace the stored transitions by those of a state, which must fit the capacity and the shapes."""
        n = min(state["n_added"], self.capacity)
        self._check_shapes(Transitions(*(state[name] for name in Transitions._fields)), n)
        for name, column in self._storage._asdict().items():
            column[:n] = state[name]
        self.n_added = state["n_added"]

    def _check_shapes(self, transitions: Transitions, n: int) -> None:
        for name, kept, column in zip(Transitions._fields, self._storage, transitions, strict=True):
            if column.shape != (n, *kept.shape[1:]):
                raise ValueError(f"{name} must have shape {(n, *kept.shape[1:])}, got {column.shape}")
