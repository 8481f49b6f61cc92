"""Several seeds at once: learning curves with an interval in about the time of one run.

Each seed learns what it would learn alone, up to rounding (``algorithms.seeds``). It is faster where the
networks are small and the environments step together (``environments.classic``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from pgcourse import checks
from pgcourse.arrays import Float
from pgcourse.experiments.curves import mean

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Algorithm, Player
    from pgcourse.experiments.recipes import Recipe


class SeedCurves(NamedTuple):
    """What S seeds have learnt so far, in R rows."""

    n_steps: Float[np.ndarray, " R"]  # of each seed, at the end of each row
    returns: Float[np.ndarray, "S R"]  # mean return of the episodes that ended in that row; NaN if none did
    policy: Player  # of all seeds, which goes on learning; ``networks.stacked.unstack`` gives one a seed


class EpisodeReturns(VectorWrapper):
    """Sums the rewards of each environment, and hands out those of the episodes that have ended."""

    def __init__(self, env: VectorEnv):
        super().__init__(env)
        self._begin()

    def _begin(self) -> None:
        self._sums = np.zeros(self.num_envs)
        self._ended: list[list[float]] = [[] for _ in range(self.num_envs)]

    def reset(self, **options: Any) -> tuple[Any, dict]:
        self._begin()
        return self.env.reset(**options)

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict]:
        s, r, terminated, truncated, info = self.env.step(actions)
        self._sums += r
        for k in np.flatnonzero(terminated | truncated):
            self._ended[k].append(self._sums[k])
            self._sums[k] = 0
        return s, r, terminated, truncated, info

    def take(self, n_seeds: int) -> list[list[float]]:
        """Return the returns of each seed's episodes that have ended since the last call."""
        blocks = np.split(np.arange(self.num_envs), n_seeds)
        ended = [[G for k in block for G in self._ended[k]] for block in blocks]
        self._ended = [[] for _ in range(self.num_envs)]
        return ended


def train_at_once(
    recipe: Recipe, seeds: Sequence[int], *, steps: int, n_rows: int = 20, **overrides: object
) -> Iterator[SeedCurves]:
    """Train a recipe with several seeds at once; yield their curves after each row, the last with all rows.

    Args:
        recipe: of an algorithm that has the seed axis: all but REINFORCE, whose batches of whole episodes
            differ in length from seed to seed.
        seeds: S different whole numbers, at least one.
        steps: of each seed, at least 1.
        n_rows: R, rows of the curves, at least 1.
        overrides: settings, the same for all seeds.

    Raises:
        ValueError: if the recipe cannot learn with several seeds at once, saying why.
    """
    from pgcourse.algorithms.seeds import distinct

    steps, n_rows, seeds = checks.count(1, steps=steps), checks.count(1, n_rows=n_rows), distinct(seeds)
    algorithm = recipe.build(seeds, **overrides)
    log = cast(Any, algorithm).env = EpisodeReturns(cast(VectorEnv, algorithm.env))
    return _rows(algorithm, log, len(seeds), steps * np.arange(1, n_rows + 1) / n_rows)


def _rows(
    algorithm: Algorithm, log: EpisodeReturns, n_seeds: int, ends: Float[np.ndarray, " R"]
) -> Iterator[SeedCurves]:
    from pgcourse.networks.mlp import single_thread

    n_steps, returns = [], []
    try:
        for end in ends:
            with single_thread():
                while algorithm.n_steps < end:
                    algorithm.update()
            n_steps.append(algorithm.n_steps)
            returns.append([mean(G) for G in log.take(n_seeds)])
            yield SeedCurves(np.array(n_steps, float), np.array(returns).T, algorithm.policy)
    finally:
        log.close()


def evaluate_at_once(
    recipe: Recipe, policy: Player, n_episodes: int, seed: int
) -> Float[np.ndarray, "S n_episodes"]:
    """Return the returns of ``n_episodes`` ≥ 1 fresh episodes with each of S stacked policies, seed ≥ 0."""
    from pgcourse.networks.stacked import n_seeds

    n_episodes = checks.count(1, n_episodes=n_episodes)
    return recipe.evaluate(policy, n_seeds(policy) * n_episodes, seed).reshape(-1, n_episodes)
