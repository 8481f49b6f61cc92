"""Replay: what happened, remembered, and learnt from again and again.

Slide 66, lines 1 and 2; Lin (1992); Mnih et al. (2015).
"""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """N transitions (s, a, r, s')."""

    s: np.ndarray  # (N, ...)
    a: np.ndarray  # (N, ...)
    r: np.ndarray  # (N,), float32
    after: np.ndarray  # s', (N, ...): of the same episode, also where that was cut off
    terminated: (
        np.ndarray
    )  # (N,), boolean: whether the episode ended by itself, so that nothing comes after s'


class Replay:
    """The last so many transitions, in arrays that are made once; a new one takes the place of the oldest.

    Args:
        capacity: how many, at least 1.
        state_shape, action_shape: of one state and of one action.
        state_type, action_type: their dtypes.

    Raises:
        ValueError: if ``capacity`` is below 1.

    Slide 66, where it is ℬ.
    """

    def __init__(
        self,
        capacity: int,
        state_shape: tuple,
        action_shape: tuple,
        *,
        state_type=np.float32,
        action_type=np.float32,
    ):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity, self.n_seen = capacity, 0
        s, after = (
            np.zeros((capacity, *state_shape), state_type) for _ in range(2)
        )  # zeros take no memory until written to
        a, r = np.zeros((capacity, *action_shape), action_type), np.zeros(capacity, np.float32)
        self._all = Batch(s, a, r, after, np.zeros(capacity, bool))

    def __len__(self) -> int:
        """Return how many transitions are remembered."""
        return min(self.n_seen, self.capacity)

    def add(self, s, a, r, after, terminated) -> None:
        """Remember N transitions, shapes (N, ...) as in a ``Batch``.

        Raises:
            ValueError: if a reward, a state or an action is not finite, or a shape is another; nothing is remembered then.
        """
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite, and is refused
            new = Batch(
                *(
                    np.asarray(column, mine.dtype)
                    for column, mine in zip((s, a, r, after, terminated), self._all, strict=True)
                )
            )
        self._check(new, np.size(r))
        for name, column in new._asdict().items():
            if not np.isfinite(column).all():
                raise ValueError(f"{name} must be finite, got {column[~np.isfinite(column)][0]}")
        self.n_seen += len(new.r)
        last = slice(-self.capacity, None)  # of more than there is room for
        where = np.arange(self.n_seen - len(new.r), self.n_seen)[last] % self.capacity
        for mine, column in zip(self._all, new, strict=True):
            mine[where] = column[last]

    def sample(self, n: int, rng: np.random.Generator) -> Batch:
        """Draw n of them, each time any with the same probability, so that one may come twice.

        Raises:
            ValueError: if n is below 1, or more than are remembered.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"n must be from 1 to what is remembered, {len(self):,}, got {n}")
        which = rng.integers(len(self), size=n)
        return Batch(*(column.take(which, axis=0) for column in self._all))

    def state_dict(self) -> dict:
        """Return a copy of what is remembered."""
        return {"n_seen": self.n_seen} | {
            name: column[: len(self)].copy() for name, column in self._all._asdict().items()
        }

    def load_state_dict(self, state: dict) -> None:
        """Remember that instead.

        Raises:
            ValueError: if there is no room for it, or arrays have other shapes.
        """
        n = min(state["n_seen"], self.capacity)
        self._check(Batch(*(state[name] for name in Batch._fields)), n)
        for name, column in self._all._asdict().items():
            column[:n] = state[name]
        self.n_seen = state["n_seen"]

    def _check(self, batch, n):
        for name, mine, column in zip(Batch._fields, self._all, batch, strict=True):
            if column.shape != (n, *mine.shape[1:]):
                raise ValueError(f"{name} must have shape {(n, *mine.shape[1:])}, got {column.shape}")
