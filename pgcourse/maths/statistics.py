"""How sure a result is, when each run of a learning algorithm comes out differently.

The unit is the run: 100 episodes of one trained policy say much about that policy, and count as one number about the algorithm.
A *score* is such a number; scores are kept as one array of shape (n_runs,) for each task.

Slide 7's "high variance"; Agarwal et al. (2021).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A number, and the interval around it."""

    middle: float
    low: float
    high: float

    def __str__(self):
        width = self.high - self.low  # of which two digits are told, and of the numbers no more than that
        digits = f".{max(0, 1 - math.floor(math.log10(width)))}f" if 0 < width < math.inf else ".4g"
        return f"{self.middle:{digits}} [{self.low:{digits}}, {self.high:{digits}}]"


class Band(NamedTuple):
    """An interval at every step: four arrays of one length."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores, axis=None):
    """Return the interquartile mean: the mean of what is left without the lowest and the highest quarter.

    A single run that went astray does not move it, as it would the mean; it uses twice as many runs as the median. Of n numbers, the
    ⌊n/4⌋ lowest and highest are left out.

    Args:
        scores: any shape, finite; of several tasks, on one scale.
        axis: the axis to average over; None for all.

    Raises:
        ValueError: if there is no score, or one that is not finite.

    Agarwal et al. (2021), section 4.3.
    """
    from scipy.stats import trim_mean

    return trim_mean(_scores("scores", scores), 0.25, axis=axis)


def interval(
    *scores, statistic: Callable = iqm, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return a statistic of the scores, and its stratified bootstrap interval.

    As many runs as there are are drawn anew, with repetition, from each task's own; the statistic of all these is taken; and so
    2,000 times. The interval holds the middle 95 % of what came out. With few runs it is too narrow, because they do not show how far
    astray a run can go.

    Args:
        scores: for each task one array of shape (n_runs,), at least two runs each.
        statistic: called as ``statistic(scores, axis=-1)``.
        level: share of the resamples that the interval holds, between 0 and 1.
        n_resamples: how often the runs are drawn.
        seed: of these draws.

    Raises:
        ValueError: if there are fewer than two runs of a task, a score is not finite, or ``level`` is not between 0 and 1.

    Agarwal et al. (2021), section 4.1; Efron & Tibshirani (1993), chapter 13.
    """
    if not scores:
        raise ValueError("scores must be given for at least one task, got none")
    scores = tuple(_runs("scores", s, at_least=2) for s in scores)

    def of_all(*tasks, axis):
        return statistic(np.concatenate(tasks, axis=axis), axis=axis)

    return Interval(float(of_all(*scores, axis=-1)), *_bootstrap(scores, of_all, level, n_resamples, seed))


def probability_of_improvement(
    x, y, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return how probable it is that a run of one algorithm beats a run of another, and the bootstrap interval.

    P(X > Y) = 1/(nm) Σᵢ Σⱼ ([xᵢ > yⱼ] + ½ [xᵢ = yⱼ])

    which is the statistic of Mann and Whitney over nm. It says how often, not by how much.

    Args:
        x: scores of the one, shape (n,), n ≥ 2.
        y: scores of the other on the same task, shape (m,), m ≥ 2.
        level, n_resamples, seed: as for ``interval``.

    Raises:
        ValueError: as ``interval``.

    Agarwal et al. (2021), section 4.3; Mann & Whitney (1947).
    """
    x, y = _runs("x", x, at_least=2), _runs("y", y, at_least=2)

    def wins(x, y, axis):
        difference = np.moveaxis(x, axis, -1)[..., :, None] - np.moveaxis(y, axis, -1)[..., None, :]
        return ((np.sign(difference) + 1) / 2).mean(axis=(-1, -2))

    return Interval(float(wins(x, y, -1)), *_bootstrap((x, y), wins, level, n_resamples, seed))


def band(curves: Sequence[tuple], n_points: int = 100, **options) -> Band:
    """Return the interquartile mean of several curves and its bootstrap interval, at every step.

    Between two of its points a curve is a straight line. The intervals hold for each step by itself, not for all at once.

    Args:
        curves: for each run its steps, ascending, and the values there, two arrays of shape (n_points_of_it,); at least two runs.
        n_points: evenly spaced steps, from where the last curve begins to where the first ends.
        **options: ``level``, ``n_resamples`` and ``seed`` as for ``interval``.

    Raises:
        ValueError: if there are fewer than two curves, they have no step in common, or one is not of ascending steps and as many values.
    """
    if len(curves) < 2:
        raise ValueError(f"curves must be of at least 2 runs, got {len(curves)}")
    curves = [(_scores("curves", steps), _scores("curves", values)) for steps, values in curves]
    for x, y in curves:
        if x.shape != y.shape:
            raise ValueError(f"curves must be of steps and as many values, got {len(x)} and {len(y)}")
        if (np.diff(x) <= 0).any():
            raise ValueError(f"curves must have ascending steps, got {x}")
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not first < last:
        raise ValueError(
            f"curves must overlap, got one that begins at {first:,.0f} and one that ends at {last:,.0f}"
        )
    steps = np.linspace(first, last, n_points)
    values = np.array([np.interp(steps, x, y) for x, y in curves])
    options = {"level": 0.95, "n_resamples": 2000, "seed": 0} | options
    low, high = _bootstrap((values.T,), iqm, **options)
    return Band(steps, iqm(values, axis=0), low, high)


def _bootstrap(samples, statistic, level, n_resamples, seed):
    """Return low and high of a statistic that is called as statistic(*samples, axis=-1); every sample is resampled by itself."""
    from scipy.stats import bootstrap

    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    options = {
        "n_resamples": n_resamples,
        "confidence_level": level,
        "method": "percentile",
        "vectorized": True,
        "axis": -1,
    }
    return bootstrap(samples, statistic, rng=np.random.default_rng(seed), **options).confidence_interval


def _scores(name, values):
    values = np.asarray(values, float)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} must hold at least one number, and finite ones, got {values}")
    return values


def _runs(name, values, at_least):
    values = _scores(name, values)
    if values.ndim != 1 or len(values) < at_least:
        raise ValueError(
            f"{name} must have shape (n_runs,) with at least {at_least} runs, got shape {values.shape}"
        )
    return values
