"""Confidence intervals for results that differ from run to run, slide 7's "high variance".

The unit is the run: 100 episodes of one trained policy say much about this policy, and count as one number
about the algorithm. Results are kept as one array of shape (n_runs,) for each task. Agarwal et al. (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.maths.rounding import is_rounding_error

if TYPE_CHECKING:
    from jaxtyping import Float

    Results = Float[np.ndarray, " n_runs"]
    Points = Float[np.ndarray, " n_points"]
    Curves = Sequence[tuple[Points, Points]]
    Statistic = Callable[..., float | np.ndarray]


MAX_COUNT = 1_000_000  # of resamples, and of points of a band
MAX_RESAMPLED = 4_000_000  # numbers in memory at once, where they need not be there all


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        width = self.high - self.low  # shown with two digits, the numbers with as many decimals; z: no -0
        if is_rounding_error(width, max(abs(self.low), abs(self.high))) or not width < math.inf:
            digits = "z.4g"
        else:
            digits = f"z.{max(0, 1 - math.floor(math.log10(width)))}f"
        return f"{self.estimate:{digits}} [{self.low:{digits}}, {self.high:{digits}}]"


class Band(NamedTuple):
    """An interval at every step: four arrays of one length."""

    steps: Points
    estimate: Points
    low: Points
    high: Points


def iqm(results: Float[np.ndarray, "..."], axis: int | None = None) -> float | Float[np.ndarray, "..."]:
    """Return the interquartile mean, the mean without the ⌊n/4⌋ lowest and the ⌊n/4⌋ highest of n numbers.

    A single outlier does not move it, as it would the mean. It uses twice as many runs as the median (Agarwal
    et al., 2021, section 4.3).

    Args:
        results: any shape, at least one number, finite; of several tasks, on one scale.
        axis: the axis to average over; None for all.
    """
    from scipy.stats import trim_mean

    results = _finite("results", results)
    if axis is not None:
        checks.real(axis=axis)
        if not (-results.ndim <= axis < results.ndim and axis % 1 == 0):
            raise ValueError(f"axis must be one of the {results.ndim} of results, got {axis}")
        axis = int(axis)
    return trim_mean(results, 0.25, axis=axis)


def bootstrap_interval(
    *results: Results, statistic: Statistic = iqm, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return a statistic of the results and its stratified percentile-bootstrap interval.

    Each resample draws, with replacement, as many runs of each task as there are. The interval holds the
    middle 95 % of the statistics of these resamples. It is too narrow for few runs, which show few outliers
    (Agarwal et al., 2021, section 4.1; Efron & Tibshirani, 1993, chapter 13).

    Args:
        results: for each task one array of shape (n_runs,), at least two runs each; finite.
        statistic: called as ``statistic(results, axis=-1)``.
        level: share of the resamples that the interval holds, between 0 and 1.
        n_resamples, seed: number of resamples, at least 2, and seed of their draws.
    """
    if not results:
        raise ValueError("results must be given for at least one task, got none")
    samples = [_runs("results", sample) for sample in results]

    def pooled(*tasks: np.ndarray, axis: int) -> float | np.ndarray:
        return statistic(np.concatenate(tasks, axis=axis), axis=axis)

    return Interval(float(pooled(*samples, axis=-1)), *_bootstrap(samples, pooled, level, n_resamples, seed))


def probability_of_improvement(
    x: Results, y: Results, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the probability that a run of one algorithm beats a run of another, and its bootstrap interval.

    P(X > Y) = 1/(nm) Σᵢ Σⱼ ([xᵢ > yⱼ] + ½ [xᵢ = yⱼ])

    This is the statistic of Mann & Whitney (1947) divided by nm. It says how often, not by how much (Agarwal
    et al., 2021, section 4.3).

    Args:
        x, y: results of the two on the same task, shapes (n,) and (m,), at least two runs each; finite.
        level, n_resamples, seed: as for ``bootstrap_interval``.
    """
    from scipy.stats import rankdata

    x, y = _runs("x", x), _runs("y", y)

    def win_rate(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        n, m = x.shape[axis], y.shape[axis]  # ranks need n + m numbers a resample, pairs would need n·m
        ranks = rankdata(np.concatenate([x, y], axis), axis=axis)
        rank_sum = np.take(ranks, range(n), axis).sum(axis)
        return (rank_sum - n * (n + 1) / 2) / (n * m)

    return Interval(float(win_rate(x, y, -1)), *_bootstrap([x, y], win_rate, level, n_resamples, seed))


def bootstrap_band(
    curves: Curves, n_points: int = 100, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Band:
    """Return the interquartile mean of several learning curves and its bootstrap interval at every step.

    Curves are interpolated linearly. The intervals hold for each step separately, not for all steps at once.

    Args:
        curves: of at least two runs, each its steps, ascending, and as many values; finite.
        n_points: number of evenly spaced steps, from where the last curve begins to where the first ends.
        level, n_resamples, seed: as for ``bootstrap_interval``.
    """
    n_points = checks.count(2, n_points=n_points)
    try:
        curves = [(steps, values) for steps, values in curves]
    except (TypeError, ValueError):
        raise ValueError(f"curves must be pairs of steps and values, got {curves!r:.80}") from None
    if len(curves) < 2:
        raise ValueError(f"curves must be of at least 2 runs, got {len(curves)}")
    curves = [(_finite("curves", steps), _finite("curves", values)) for steps, values in curves]
    for x, y in curves:
        checks.same_shape(steps=x, values=y)
        if x.ndim != 1:
            raise ValueError(f"curves must have shape (n_points,) each, got {x.shape}")
        if (np.diff(x) <= 0).any():
            raise ValueError(f"curves must have ascending steps, got {x}")
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not first < last:
        raise ValueError(f"curves must overlap, got one from {first:,.0f} on and one up to {last:,.0f}")
    steps = np.linspace(first, last, int(n_points))
    values = np.array([np.interp(steps, x, y) for x, y in curves])
    low, high = _bootstrap([values.T], iqm, level, n_resamples, seed)
    return Band(steps, np.asarray(iqm(values, axis=0)), low, high)


def _bootstrap(samples: list, statistic: Statistic, level: float, n_resamples: int, seed: int) -> tuple:
    """Return low and high of ``statistic(*samples, axis=-1)``; each sample is resampled separately."""
    from scipy.stats import bootstrap

    checks.real(level=level)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    n_resamples, seed = checks.count(2, n_resamples=n_resamples), checks.seed(seed=seed)
    options = {"n_resamples": int(n_resamples), "confidence_level": level, "method": "percentile", "axis": -1}
    if len(samples) == 1:  # a part at a time; of several samples that would change the order of the draws
        options["batch"] = max(1, MAX_RESAMPLED // samples[0].size)
    rng = np.random.default_rng(int(seed))
    return bootstrap(samples, statistic, vectorized=True, rng=rng, **options).confidence_interval


def _finite(name: str, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    values = np.asarray(checks.numbers(name, values), float)
    if not values.size:
        raise ValueError(f"{name} must hold at least one number, got none")
    checks.finite(**{name: values})
    return values


def _runs(name: str, values: Results) -> Results:
    array = checks.numbers(name, values)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name} must have shape (n_runs,) with at least 2 runs, got {array.shape}")
    return _finite(name, array)
