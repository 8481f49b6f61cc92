"""Statistics of runs against direct sums, SciPy, and a bootstrap written out as a loop."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pgcourse.maths import statistics
from pgcourse.maths.statistics import (
    Band,
    Interval,
    bootstrap_band,
    bootstrap_interval,
    iqm,
    probability_of_improvement,
)

numbers = st.floats(-1e6, 1e6)
few_values = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=7)  # with ties


def by_sorting(results):
    results, cut = sorted(results), len(results) // 4
    kept = results[cut : len(results) - cut]
    return sum(kept) / len(kept)


def by_loop(tasks, statistic, n=20_000, seed=12345):
    """Return the sorted statistics of a stratified bootstrap, one resample after another."""
    rng = np.random.default_rng(seed)
    return np.sort(
        [statistic(np.concatenate([rng.choice(task, len(task)) for task in tasks])) for _ in range(n)]
    )


def random_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002 (the global generator is the one that is meant)


def normal(n, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, size=n)


@settings(derandomize=True, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=23))
def test_iqm_is_the_mean_of_the_middle_half_of_the_sorted_results(results):
    assert iqm(results) == pytest.approx(by_sorting(results), rel=1e-9, abs=1e-6)
    assert iqm(results) == stats.trim_mean(results, 0.25)


def test_iqm_of_several_tasks_trims_all_runs_of_all_tasks_together():
    """As rliable's ``aggregate_iqm`` does: ``trim_mean(results, 0.25, axis=None)`` over runs × tasks."""
    results = normal(21).reshape(7, 3) + np.array([0, 5, 50])
    assert iqm(results) == pytest.approx(by_sorting(results.ravel()))
    assert bootstrap_interval(*results.T).estimate == pytest.approx(by_sorting(results.ravel()))
    assert iqm(results) != pytest.approx(iqm(results, axis=0).mean())
    np.testing.assert_allclose(iqm(results, axis=0), [by_sorting(column) for column in results.T])


def test_one_outlier_does_not_move_the_iqm():
    assert iqm([1, 2, 3, 4, 5]) == iqm([1, 2, 3, 4, 1e9]) == 3


@pytest.mark.parametrize(
    ("statistic", "alone"), [(iqm, by_sorting), (np.mean, np.mean), (np.median, np.median)]
)
@pytest.mark.parametrize("level", [0.95, 0.6])
def test_the_interval_is_that_of_a_bootstrap_written_as_a_loop(statistic, alone, level):
    """The share of the loop's resamples below an end is compared with what it should be, p. Both have a Monte
    Carlo error of variance p(1−p)/20,000; six standard deviations of the difference are 0.0094 for 95 %,
    0.024 for 60 %: exceeded with a probability below 10⁻⁸.
    """
    tasks = normal(9), normal(6, seed=1, mean=3)
    found = bootstrap_interval(*tasks, statistic=statistic, level=level, n_resamples=20_000)
    tail = (1 - level) / 2
    loop = by_loop(tasks, alone)
    tolerance = 6 * np.sqrt(2 * tail * (1 - tail) / 20_000)
    # With so few runs, resamples repeat: hence two inequalities.
    for end, share in [(found.low, tail), (found.high, 1 - tail)]:
        assert (loop < end - 1e-12).mean() <= share + tolerance
        assert (loop <= end + 1e-12).mean() >= share - tolerance
    assert found.estimate == pytest.approx(alone(np.concatenate(tasks)))
    assert found.low < found.estimate < found.high


def test_each_task_is_resampled_by_itself():
    """Tasks without variance of their own: only a resample that mixed them could move the mean."""
    easy, hard = [100.0] * 5, [0.0] * 5
    assert bootstrap_interval(easy, hard, statistic=np.mean) == (50, 50, 50)
    mixed = bootstrap_interval([*easy, *hard], statistic=np.mean)
    assert mixed.high - mixed.low > 40
    unequal = bootstrap_interval([100.0] * 3, [0.0] * 9, statistic=np.mean)
    assert unequal == (25, 25, 25)


@pytest.mark.parametrize("n", [25, 100, 400])
def test_the_width_is_that_of_the_normal_approximation_and_shrinks_as_one_over_root_n(n):
    """With 10,000 resamples the ends are right to 0.06 standard errors, 5 % of the width: six times
    √(p(1−p)/10⁴)/φ(1.96), p = 0.025.
    """
    results = normal(n)
    found = bootstrap_interval(results, statistic=np.mean, n_resamples=10_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * results.std() / np.sqrt(n), rel=0.05)


def test_the_interval_is_seeded_and_leaves_the_global_generator_alone():
    before = random_state()
    first, again, other = (bootstrap_interval(normal(20), seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    assert first.estimate == other.estimate
    assert (random_state() == before).all()


def test_a_higher_level_gives_a_wider_interval():
    widths = [
        found.high - found.low
        for found in (bootstrap_interval(normal(12), level=level) for level in (0.5, 0.8, 0.95, 0.99))
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] / 2


def test_95_percent_intervals_of_the_mean_of_30_runs_have_nearly_this_coverage():
    """The percentile bootstrap of n normal runs holds the mean where |t| < 1.96 √((n−1)/n), for n = 30 with a
    probability of 93.6 %. A binomial number of 1,000 trials leaves the bounds with a probability of 10⁻⁷.
    """
    n, trials = 30, 1000
    nominal = 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * np.sqrt((n - 1) / n), n - 1)
    assert nominal == pytest.approx(0.936, abs=0.001)
    intervals = [
        bootstrap_interval(normal(n, seed=seed), statistic=np.mean, n_resamples=1000, seed=seed)
        for seed in range(trials)
    ]
    held = sum(found.low <= 0 <= found.high for found in intervals)
    assert stats.binom.ppf(5e-8, trials, nominal) <= held <= stats.binom.isf(5e-8, trials, nominal)


@settings(derandomize=True, deadline=None)
@given(few_values, few_values)
def test_the_probability_of_improvement_is_the_mann_whitney_statistic_over_nm(x, y):
    found = probability_of_improvement(x, y, n_resamples=50)
    assert found.estimate == pytest.approx(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))
    assert found.estimate + probability_of_improvement(y, x, n_resamples=50).estimate == pytest.approx(1)
    assert 0 <= found.low <= found.high <= 1


def test_the_interval_of_the_probability_of_improvement_resamples_both():
    """Tolerance as for the interval above. x and y have no value in common."""
    x, y = normal(8, mean=0.5), normal(11, seed=1)
    found = probability_of_improvement(x, y, n_resamples=20_000)
    rng = np.random.default_rng(5)
    loop = np.array([(rng.choice(x, 8)[:, None] > rng.choice(y, 11)).mean() for _ in range(20_000)])
    for end, share in [(found.low, 0.025), (found.high, 0.975)]:
        assert (loop < end - 1e-12).mean() <= share + 0.0094
        assert (loop <= end + 1e-12).mean() >= share - 0.0094


def test_ranks_give_the_bits_of_all_pairs_and_need_little_memory():
    """The first is written as the definition says; it needs n·m numbers a resample."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(5, size=7).astype(float), rng.integers(5, size=9).astype(float)

    def by_pairs(x, y, axis):
        difference = np.moveaxis(x, axis, -1)[..., :, None] - np.moveaxis(y, axis, -1)[..., None, :]
        return ((np.sign(difference) + 1) / 2).mean(axis=(-1, -2))

    got = probability_of_improvement(x, y, n_resamples=300)
    expected = stats.bootstrap(
        [x, y], by_pairs, n_resamples=300, vectorized=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert got == (by_pairs(x, y, -1), *expected)
    x, y = rng.normal(size=(2, 400))
    tracemalloc.start()
    probability_of_improvement(x, y)
    assert tracemalloc.get_traced_memory()[1] < 200e6  # bytes; 5 GB before
    tracemalloc.stop()


def test_a_band_of_many_runs_needs_little_memory_and_is_the_same_to_the_bit(monkeypatch):
    rng = np.random.default_rng(0)
    curves = [(np.arange(5.0), rng.normal(size=5)) for _ in range(6)]
    whole = bootstrap_band(curves, n_resamples=300)
    monkeypatch.setattr(statistics, "MAX_RESAMPLED", 1000)  # numbers, so ten resamples a part
    for one, other in zip(whole, bootstrap_band(curves, n_resamples=300), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_band_is_the_interval_at_every_step():
    steps = np.linspace(0, 100, 7)
    values = np.random.default_rng(0).normal(size=(9, 7)).cumsum(axis=1)
    found = bootstrap_band([(steps, row) for row in values], n_points=7, level=0.8, n_resamples=500, seed=3)
    np.testing.assert_allclose(found.steps, steps)
    alone = [bootstrap_interval(column, level=0.8, n_resamples=500, seed=3) for column in values.T]
    np.testing.assert_allclose(np.transpose(found[1:]), alone, atol=1e-12)


def test_curves_of_different_steps_are_interpolated_linearly():
    """Lines v = c·x of any steps, from where the last begins to where the first ends."""
    rng = np.random.default_rng(0)
    factors, grids = [1.0, 2.0, 3.0, 40.0], [np.sort(rng.uniform(5, 95, 20)) for _ in range(4)]
    grids = [
        np.array([first, *grid, last])
        for grid, first, last in zip(grids, (0, 1, 2, 3), (100, 99, 98, 97), strict=True)
    ]
    found = bootstrap_band([(x, c * x) for c, x in zip(factors, grids, strict=True)])
    np.testing.assert_allclose(found.steps, np.linspace(3, 97, 100))
    np.testing.assert_allclose(found.estimate, 2.5 * found.steps)  # without the lowest and the highest
    assert (found.low >= found.steps - 1e-9).all()
    assert (found.high <= 40 * found.steps + 1e-9).all()


def test_equal_runs_have_no_width():
    assert bootstrap_interval([500.0] * 5) == Interval(500, 500, 500)
    assert probability_of_improvement([1, 1], [1, 1]) == (0.5, 0.5, 0.5)
    found = bootstrap_band([(np.arange(3), np.full(3, 7.0))] * 5, n_points=4)
    assert all((part == 7).all() for part in found[1:])


def test_an_interval_is_printed_as_a_number_with_brackets():
    assert str(Interval(330.94, 323.8, 340.1)) == "331 [324, 340]"
    assert str(Interval(-0.36159, -0.4492, -0.02847)) == "-0.36 [-0.45, -0.03]"
    assert str(Interval(1234.5, 1234.5, 1234.5)) == "1234 [1234, 1234]"
    assert str(Interval(5, -np.inf, np.inf)) == "5 [-inf, inf]"
    assert str(Interval(-0.4, -17, 26)) == "0 [-17, 26]"


def test_a_band_is_four_arrays_of_one_length():
    found = bootstrap_band([(np.arange(5), normal(5, seed=seed)) for seed in range(3)], n_points=11)
    assert isinstance(found, Band)
    assert {part.shape for part in found} == {(11,)}


ONE = "must have shape (n_runs,) with at least 2 runs, got (1,)"
CURVE = ([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([]), "results must hold at least one number, got none"),
        (lambda: iqm([1, np.nan]), "results must be finite, got nan"),
        (lambda: iqm([1, np.inf]), "results must be finite, got inf"),
        (lambda: bootstrap_interval(), "results must be given for at least one task, got none"),
        (lambda: bootstrap_interval([1]), f"results {ONE}"),
        (lambda: bootstrap_interval([1, 2], [3]), f"results {ONE}"),
        (
            lambda: bootstrap_interval([[1, 2], [3, 4]]),
            "results must have shape (n_runs,) with at least 2 runs, got (2, 2)",
        ),
        (lambda: bootstrap_interval([1, np.nan]), "results must be finite, got nan"),
        (lambda: bootstrap_interval([1, 2], level=0), "level must be between 0 and 1, got 0"),
        (lambda: bootstrap_interval([1, 2], level=1), "level must be between 0 and 1, got 1"),
        (lambda: bootstrap_interval([1, 2], level=95), "level must be between 0 and 1, got 95"),
        (lambda: bootstrap_interval([1, 2], level=np.nan), "level must be between 0 and 1, got nan"),
        (
            lambda: bootstrap_interval([1, 2], n_resamples=0),
            "n_resamples must be a whole number of at least 2, got 0",
        ),
        (lambda: probability_of_improvement([1], [1, 2]), f"x {ONE}"),
        (lambda: probability_of_improvement([1, 2], [1]), f"y {ONE}"),
        (lambda: probability_of_improvement([1, 2], [1, np.inf]), "y must be finite, got inf"),
        (
            lambda: probability_of_improvement([1, 2], [1, 2], level=-1),
            "level must be between 0 and 1, got -1",
        ),
        (lambda: bootstrap_band([CURVE]), "curves must be of at least 2 runs, got 1"),
        (
            lambda: bootstrap_band([CURVE, ([1, 2], [0, 1])]),
            "curves must overlap, got one from 1 on and one up to 1",
        ),
        (
            lambda: bootstrap_band([([0, 1000], [0, 1]), ([2000, 3000], [0, 1])]),
            "curves must overlap, got one from 2,000 on and one up to 1,000",
        ),
        (lambda: bootstrap_band([([0, 1], [0, np.nan])] * 2), "curves must be finite, got nan"),
        (lambda: bootstrap_band([CURVE] * 2, level=2), "level must be between 0 and 1, got 2"),
        (lambda: bootstrap_band([([], []), CURVE]), "curves must hold at least one number, got none"),
        (
            lambda: bootstrap_band([([0, 1], [0]), CURVE]),
            "values must have the shape of steps, (2,), got (1,)",
        ),
        (
            lambda: bootstrap_band([([2, 0], [0, 1]), CURVE]),
            "curves must have ascending steps, got [2. 0.]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
