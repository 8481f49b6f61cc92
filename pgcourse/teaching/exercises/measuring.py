"""Exercise M.4: a bootstrap interval of a difference of interquartile means."""

import numpy as np

from pgcourse.maths.statistics import iqm
from pgcourse.teaching.exercises.engine import Cases, Exercise


def bootstrap_interval_of_difference(x, y, resamples_x, resamples_y):
    """Return the ends of the 95 % interval of IQM(x) − IQM(y); the rows of resamples hold indices of runs."""
    return np.quantile(iqm(x[resamples_x], axis=1) - iqm(y[resamples_y], axis=1), [0.025, 0.975])


def _cases(rng: np.random.Generator) -> Cases:
    few = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    yield np.array([1.0, 2.0]), np.array([0.0, 4.0]), few, few[::-1]
    for n, m in ((4, 4), (5, 5), (8, 8), (5, 10), (10, 4), (20, 20)):
        resamples = (rng.integers(size, size=(50, size)) for size in (n, m))
        yield rng.normal(size=n) + 2, rng.normal(size=m) ** 3, *resamples


def _quantiles(statistic=iqm, ends=(0.025, 0.975), axis=1, sign=1):
    """Return the answer with another statistic, other ends, along another axis or with another sign."""

    def wrong(x, y, ix, iy):
        return np.quantile(sign * (statistic(x[ix], axis=axis) - statistic(y[iy], axis=axis)), ends)

    return wrong


def _interval(x, resamples):
    return np.quantile(iqm(x[resamples], axis=1), [0.025, 0.975])


_MISCONCEPTIONS = {
    "This is the interval of IQM(y) − IQM(x).": _quantiles(sign=-1),
    "You subtract means. The exercise asks for interquartile means.": _quantiles(np.mean),
    "You subtract medians. The exercise asks for interquartile means.": _quantiles(np.median),
    "This is a 90 % interval: it leaves out 5 % at each end.": _quantiles(ends=(0.05, 0.95)),
    "These are the quartiles. A 95 % interval leaves out 2.5 % at each end.": _quantiles(ends=(0.25, 0.75)),
    "These are the extremes. A 95 % interval leaves out 2.5 % at each end.": _quantiles(ends=(0, 1)),
    "The upper end comes first here.": _quantiles(ends=(0.975, 0.025)),
    "You subtract the ends of two intervals. This is not the interval of the difference; it may be empty.": (
        lambda x, y, ix, iy: _interval(x, ix) - _interval(y, iy)
    ),
    "You pair the low end of x with the high end of y, which is rarer than 2.5 %: it is too wide.": (
        lambda x, y, ix, iy: _interval(x, ix) - _interval(y, iy)[::-1]
    ),
    "This is the interval of x alone.": lambda x, y, ix, iy: _interval(x, ix),
    "Each row is one resample: take the interquartile mean along the rows.": _quantiles(axis=0),
}

EXERCISES = [Exercise("M.4", bootstrap_interval_of_difference, _cases, _MISCONCEPTIONS)]
