"""Several seeds at once: S independent runs as S blocks of environments, networks and random numbers.

An algorithm with N environments and S seeds has S·N environments, the first N of the first seed, and one
network that holds S (``networks.stacked``). What it computes row by row needs no change. What is drawn comes
from one random stream a seed, so that each seed draws what it would draw alone.

Settings are those of each seed, and ``n_steps`` counts its steps. Where an update's metrics have a number,
they then have a list with one for each seed (``per_seed``); ``episode_returns`` holds the episodes of all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from pgcourse import checks
from pgcourse.networks import stacked

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from pgcourse.algorithms.protocols import Environment

Seeds = int | Sequence[int]
MAX_SEEDS = 1000


class RandomStreams:
    """What algorithms use of NumPy's ``Generator``, with one for each seed, which draws its block of rows."""

    def __init__(self, seeds: Sequence[int]):
        self.streams = [np.random.default_rng(seed) for seed in distinct(seeds)]

    def random(self, size: int | tuple[int, ...]) -> np.ndarray:
        """Return numbers uniform in [0, 1)."""
        return self._blocks(size, lambda rng, block: rng.random(block))

    def uniform(self, low: np.ndarray, high: np.ndarray, size: int | tuple[int, ...]) -> np.ndarray:
        """Return numbers uniform between bounds."""
        return self._blocks(size, lambda rng, block: rng.uniform(low, high, block))

    def standard_normal(self, size: int | tuple[int, ...], dtype: DTypeLike = float) -> np.ndarray:
        """Return standard normal numbers."""
        return self._blocks(size, lambda rng, block: rng.standard_normal(block, cast(type, dtype)))

    def integers(self, high: int, size: int | tuple[int, ...] | None = None) -> np.ndarray:
        """Return integers below ``high``; without a size, one for each seed, shape (S,)."""
        size = len(self.streams) if size is None else size
        return self._blocks(size, lambda rng, block: rng.integers(high, size=block))

    def permutation(self, n: int) -> np.ndarray:
        """Return 0…n−1 with the numbers of each block in random order."""
        blocks = np.split(np.arange(n), len(self.streams))
        return np.concatenate(
            [rng.permutation(block) for rng, block in zip(self.streams, blocks, strict=True)]
        )

    def _blocks(
        self, size: int | tuple[int, ...], draw: Callable[[np.random.Generator, tuple], np.ndarray]
    ) -> np.ndarray:
        rows, *rest = (size,) if isinstance(size, int) else size
        if rows % len(self.streams):
            raise ValueError(f"size must be rows in {len(self.streams)} equal blocks, got {rows}")
        block = (rows // len(self.streams), *rest)
        return np.concatenate([draw(rng, block) for rng in self.streams])

    @property
    def bit_generator(self) -> RandomStreams:
        """Itself: ``rng.bit_generator.state`` is the state, as of a ``Generator``."""
        return self

    @property
    def state(self) -> list[dict]:
        return [cast(dict, rng.bit_generator.state) for rng in self.streams]

    @state.setter
    def state(self, states: list[dict]) -> None:
        for rng, state in zip(self.streams, states, strict=True):
            rng.bit_generator.state = state


def distinct(seed: Seeds) -> list[int]:
    """Return a seed, or several, as a list: from 1 to ``MAX_SEEDS`` different whole numbers of at least 0."""
    several = isinstance(seed, list | tuple | range) or (isinstance(seed, np.ndarray) and seed.ndim == 1)
    given = list(cast("Sequence[int]", seed)) if several else [cast(int, seed)]
    if not 1 <= len(given) <= MAX_SEEDS:
        raise ValueError(f"seed must be from 1 to {MAX_SEEDS:,} numbers, got {len(given):,}")
    seeds = [checks.seed(seed=one) for one in given]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seed must be a whole number or several different ones, got {seed!s:.80}")
    return seeds


def random_stream(seed: Seeds, env: Environment, *networks: object) -> np.random.Generator:
    """Return the random stream of a seed, or those of several, in which case networks must hold as many."""
    seeds = distinct(seed)
    for network in networks:
        if (n := stacked.n_seeds(network)) != len(seeds):
            raise ValueError(f"seed must have as many numbers as networks are stacked, {n}, got {seed}")
    if env.num_envs % len(seeds):
        raise ValueError(
            f"env must have as many environments for each of {len(seeds)} seeds, got {env.num_envs}"
        )
    if len(seeds) == 1:
        return np.random.default_rng(seeds[0])
    return cast("np.random.Generator", RandomStreams(seeds))


def n_seeds(rng: np.random.Generator) -> int:
    """Return how many seeds draw from it."""
    return len(rng.streams) if isinstance(rng, RandomStreams) else 1


def seeds_of_envs(first: np.ndarray, n_envs: int) -> list[int]:
    """Return a seed for each environment: k, k + 1, … in the block of a seed that has drawn k."""
    return [int(k) + j for k in first for j in range(n_envs // len(first))]


def per_seed(x: np.ndarray | torch.Tensor, n: int, of: str = "mean") -> float:
    """Return the mean of all rows, or what the method ``of`` gives; for n > 1 seeds, a list, one each."""
    if n == 1:
        return getattr(x, of)().item()
    return getattr(x.reshape(n, -1), of)(1).tolist()


def each_seed(function: Callable[..., np.ndarray], n: int, *arrays: np.ndarray) -> np.ndarray:
    """Return a function of the block of rows of each of n seeds, block after block."""
    blocks = zip(*(np.split(x, n) for x in arrays), strict=True)
    return np.concatenate([function(*block) for block in blocks])


def split_state(state: Any, n: int) -> list:
    """Return the states that n seeds would have alone, copies of parts of the state of an algorithm with all.

    A tensor with an axis has the seeds first (``networks.stacked``), an array has blocks of rows, the random
    streams are a list. The rest, such as counts and learning rates, is the same for all.
    """
    if isinstance(state, dict):
        parts = {
            name: copy.deepcopy(x) if name == "rng" and n > 1 else split_state(x, n)
            for name, x in state.items()
        }
        return [{name: part[k] for name, part in parts.items()} for k in range(n)]
    if isinstance(state, np.ndarray):
        return [part.copy() for part in np.split(state, n)]
    if n > 1 and isinstance(state, torch.Tensor) and state.ndim:
        return [part.clone() for part in state]
    return [copy.deepcopy(state) for _ in range(n)]


def join_states(states: Sequence[Any]) -> Any:
    """Return the state of an algorithm with several seeds, of which each has one of these states.

    Raises:
        ValueError: if they differ in what must be the same for all, such as the number of steps.
    """
    first, n = states[0], len(states)
    if isinstance(first, dict):
        _same("names", [list(state) for state in states])
        columns = {name: [state[name] for state in states] for name in first}
        return {name: xs if name == "rng" and n > 1 else join_states(xs) for name, xs in columns.items()}
    if isinstance(first, np.ndarray):
        return np.concatenate(states)
    if n > 1 and isinstance(first, torch.Tensor) and first.ndim:
        return torch.stack(list(states))
    _same("numbers", states)
    return first


def _same(what: str, values: Sequence[Any]) -> None:
    if any(value != values[0] for value in values):
        raise ValueError(f"states must have the same {what}, got {values!s:.80}")


def equal_blocks(rows: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in blocks of equal length, filled up with zeros, and which are not filled up.

    Args:
        rows: shape (Σ counts, ...), block after block.
        counts: rows of each block, shape (S,).
    """
    real = (np.arange(counts.max()) < counts[:, None]).ravel()
    padded = np.zeros((len(real), *rows.shape[1:]), rows.dtype)
    padded[real] = rows
    return padded, real
