"""Against direct sums, SciPy's statistics, and a bootstrap written out as a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pgcourse.maths.statistics import Band, Interval, band, interval, iqm, probability_of_improvement

numbers = st.floats(-1e6, 1e6)
few = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=7)  # so few values that there are ties


def by_sorting(scores):
    scores, cut = sorted(scores), len(scores) // 4
    kept = scores[cut : len(scores) - cut]
    return sum(kept) / len(kept)


def by_loop(tasks, statistic, n=20_000, seed=12345):
    """A stratified bootstrap: each task's runs drawn anew from its own, one resample after another."""
    rng = np.random.default_rng(seed)
    return np.sort(
        [statistic(np.concatenate([rng.choice(task, len(task)) for task in tasks])) for _ in range(n)]
    )


def random_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002 (the global generator is the one that is meant)


def normal(n, seed=0, middle=0.0):
    return np.random.default_rng(seed).normal(middle, size=n)


@settings(derandomize=True, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=23))
def test_iqm_is_the_mean_of_what_sorting_leaves_in_the_middle(scores):
    assert iqm(scores) == pytest.approx(by_sorting(scores), rel=1e-9, abs=1e-6)
    assert iqm(scores) == stats.trim_mean(scores, 0.25)


def test_iqm_of_several_tasks_trims_all_runs_of_all_tasks_together():
    """As rliable's ``aggregate_iqm`` does: ``trim_mean(scores, 0.25, axis=None)`` over runs × tasks."""
    scores = normal(21).reshape(7, 3) + np.array([0, 5, 50])
    assert iqm(scores) == pytest.approx(by_sorting(scores.ravel()))
    assert interval(*scores.T).middle == pytest.approx(by_sorting(scores.ravel()))
    assert iqm(scores) != pytest.approx(iqm(scores, axis=0).mean())
    np.testing.assert_allclose(iqm(scores, axis=0), [by_sorting(column) for column in scores.T])


def test_one_run_that_went_astray_does_not_move_the_iqm():
    assert iqm([1, 2, 3, 4, 5]) == iqm([1, 2, 3, 4, 1e9]) == 3


@pytest.mark.parametrize(
    ("statistic", "alone"), [(iqm, by_sorting), (np.mean, np.mean), (np.median, np.median)]
)
@pytest.mark.parametrize("level", [0.95, 0.6])
def test_interval_is_that_of_a_bootstrap_written_as_a_loop(statistic, alone, level):
    """The share of the loop's resamples below an end is compared with what it should be, p. Both have their Monte Carlo error, of variance
    p(1−p)/20,000 each; six standard deviations of the difference are 0.0094 for 95 %, 0.024 for 60 %: exceeded less often than in 10⁻⁸.
    """
    tasks = normal(9), normal(6, seed=1, middle=3)
    found, tail = interval(*tasks, statistic=statistic, level=level, n_resamples=20_000), (1 - level) / 2
    loop = by_loop(tasks, alone)
    tolerance = 6 * np.sqrt(2 * tail * (1 - tail) / 20_000)
    for end, share in [
        (found.low, tail),
        (found.high, 1 - tail),
    ]:  # with so few runs, resamples repeat: hence below, and not above
        assert (loop < end - 1e-12).mean() <= share + tolerance
        assert (loop <= end + 1e-12).mean() >= share - tolerance
    assert found.middle == pytest.approx(alone(np.concatenate(tasks)))
    assert found.low < found.middle < found.high


def test_each_task_is_resampled_by_itself():
    """Tasks without spread of their own: only a resample that mixed them could move the mean."""
    easy, hard = [100.0] * 5, [0.0] * 5
    assert interval(easy, hard, statistic=np.mean) == (50, 50, 50)
    mixed = interval([*easy, *hard], statistic=np.mean)
    assert mixed.high - mixed.low > 40
    unequal = interval([100.0] * 3, [0.0] * 9, statistic=np.mean)  # as many runs of each as there were
    assert unequal == (25, 25, 25)


@pytest.mark.parametrize("n", [25, 100, 400])
def test_width_is_that_of_the_normal_approximation_and_shrinks_as_one_over_root_n(n):
    """With 10,000 resamples the ends are right to 0.06 standard errors (six times √(p(1−p)/10⁴)/φ(1.96), p = 0.025): 5 % of the width."""
    scores = normal(n)
    found = interval(scores, statistic=np.mean, n_resamples=10_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * scores.std() / np.sqrt(n), rel=0.05)


def test_interval_is_seeded_and_leaves_the_global_generator_alone():
    before = random_state()
    first, again, other = (interval(normal(20), seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    assert first.middle == other.middle
    assert (random_state() == before).all()


def test_a_higher_level_gives_a_wider_interval():
    widths = [
        found.high - found.low
        for found in (interval(normal(12), level=level) for level in (0.5, 0.8, 0.95, 0.99))
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] / 2


def test_95_percent_intervals_of_the_mean_of_30_runs_hold_the_truth_nearly_as_often():
    """The percentile bootstrap of n normal runs holds the mean where |t| < 1.96 √((n−1)/n), a little too rarely: 93.6 % for n = 30.
    A binomial number of 1,000 trials leaves the bounds with a probability of 10⁻⁷.
    """
    n, trials = 30, 1000
    nominal = 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * np.sqrt((n - 1) / n), n - 1)
    assert nominal == pytest.approx(0.936, abs=0.001)
    intervals = [
        interval(normal(n, seed=seed), statistic=np.mean, n_resamples=1000, seed=seed)
        for seed in range(trials)
    ]
    held = sum(found.low <= 0 <= found.high for found in intervals)
    assert stats.binom.ppf(5e-8, trials, nominal) <= held <= stats.binom.isf(5e-8, trials, nominal)


@settings(derandomize=True, deadline=None)
@given(few, few)
def test_probability_of_improvement_is_mann_whitneys_statistic_over_nm(x, y):
    found = probability_of_improvement(x, y, n_resamples=50)
    assert found.middle == pytest.approx(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))
    assert found.middle + probability_of_improvement(y, x, n_resamples=50).middle == pytest.approx(1)
    assert 0 <= found.low <= found.high <= 1


def test_interval_of_the_probability_of_improvement_resamples_both():
    """Tolerance as for the interval above."""
    x, y = normal(8, middle=0.5), normal(11, seed=1)
    found = probability_of_improvement(x, y, n_resamples=20_000)
    rng = np.random.default_rng(5)
    loop = np.array(
        [(rng.choice(x, 8)[:, None] > rng.choice(y, 11)).mean() for _ in range(20_000)]
    )  # x and y have no value in common
    for end, share in [(found.low, 0.025), (found.high, 0.975)]:
        assert (loop < end - 1e-12).mean() <= share + 0.0094
        assert (loop <= end + 1e-12).mean() >= share - 0.0094


def test_band_is_the_interval_at_every_step():
    steps = np.linspace(0, 100, 7)
    values = np.random.default_rng(0).normal(size=(9, 7)).cumsum(axis=1)
    found = band([(steps, row) for row in values], n_points=7, level=0.8, n_resamples=500, seed=3)
    np.testing.assert_allclose(found.steps, steps)
    alone = [interval(column, level=0.8, n_resamples=500, seed=3) for column in values.T]
    np.testing.assert_allclose(np.transpose(found[1:]), alone, atol=1e-12)


def test_band_reads_curves_of_other_grids_off_their_straight_lines():
    """Lines v = c·x, whatever steps they are given at; from where the last begins to where the first ends."""
    rng = np.random.default_rng(0)
    slopes, grids = [1.0, 2.0, 3.0, 40.0], [np.sort(rng.uniform(5, 95, 20)) for _ in range(4)]
    grids = [
        np.array([first, *grid, last])
        for grid, first, last in zip(grids, (0, 1, 2, 3), (100, 99, 98, 97), strict=True)
    ]
    found = band([(x, c * x) for c, x in zip(slopes, grids, strict=True)])
    np.testing.assert_allclose(found.steps, np.linspace(3, 97, 100))
    np.testing.assert_allclose(
        found.middle, 2.5 * found.steps
    )  # the lowest and the highest quarter are left out
    assert (found.low >= found.steps - 1e-9).all()
    assert (found.high <= 40 * found.steps + 1e-9).all()


def test_equal_runs_have_no_width():
    assert interval([500.0] * 5) == Interval(500, 500, 500)
    assert probability_of_improvement([1, 1], [1, 1]) == (0.5, 0.5, 0.5)
    found = band([(np.arange(3), np.full(3, 7.0))] * 5, n_points=4)
    assert all((part == 7).all() for part in found[1:])


def test_an_interval_reads_as_a_number_with_brackets():
    assert str(Interval(330.94, 323.8, 340.1)) == "331 [324, 340]"
    assert str(Interval(-0.36159, -0.4492, -0.02847)) == "-0.36 [-0.45, -0.03]"
    assert str(Interval(1234.5, 1234.5, 1234.5)) == "1234 [1234, 1234]"
    assert str(Interval(5, -np.inf, np.inf)) == "5 [-inf, inf]"


def test_a_band_is_four_arrays_of_one_length():
    found = band([(np.arange(5), normal(5, seed=seed)) for seed in range(3)], n_points=11)
    assert isinstance(found, Band)
    assert {part.shape for part in found} == {(11,)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([]), r"^scores must hold at least one number, and finite ones, got \[\]$"),
        (
            lambda: iqm([1, np.nan]),
            r"^scores must hold at least one number, and finite ones, got \[ 1. nan\]$",
        ),
        (
            lambda: iqm([1, np.inf]),
            r"^scores must hold at least one number, and finite ones, got \[ 1. inf\]$",
        ),
        (lambda: interval(), "^scores must be given for at least one task, got none$"),
        (
            lambda: interval([1]),
            r"^scores must have shape \(n_runs,\) with at least 2 runs, got shape \(1,\)$",
        ),
        (
            lambda: interval([1, 2], [3]),
            r"^scores must have shape \(n_runs,\) with at least 2 runs, got shape \(1,\)$",
        ),
        (
            lambda: interval([[1, 2], [3, 4]]),
            r"^scores must have shape \(n_runs,\) with at least 2 runs, got shape \(2, 2\)$",
        ),
        (
            lambda: interval([1, np.nan]),
            r"^scores must hold at least one number, and finite ones, got \[ 1. nan\]$",
        ),
        (lambda: interval([1, 2], level=0), "^level must be between 0 and 1, got 0$"),
        (lambda: interval([1, 2], level=1), "^level must be between 0 and 1, got 1$"),
        (lambda: interval([1, 2], level=95), "^level must be between 0 and 1, got 95$"),
        (lambda: interval([1, 2], level=np.nan), "^level must be between 0 and 1, got nan$"),
        (lambda: interval([1, 2], n_resamples=0), "^n_resamples must be at least 1, got 0$"),
        (
            lambda: probability_of_improvement([1], [1, 2]),
            r"^x must have shape \(n_runs,\) with at least 2 runs, got shape \(1,\)$",
        ),
        (
            lambda: probability_of_improvement([1, 2], [1]),
            r"^y must have shape \(n_runs,\) with at least 2 runs, got shape \(1,\)$",
        ),
        (
            lambda: probability_of_improvement([1, 2], [1, np.inf]),
            r"^y must hold at least one number, and finite ones, got \[ 1. inf\]$",
        ),
        (
            lambda: probability_of_improvement([1, 2], [1, 2], level=-1),
            "^level must be between 0 and 1, got -1$",
        ),
        (lambda: band([([0, 1], [0, 1])]), "^curves must be of at least 2 runs, got 1$"),
        (
            lambda: band([([0, 1], [0, 1]), ([1, 2], [0, 1])]),
            "^curves must overlap, got one that begins at 1 and one that ends at 1$",
        ),
        (
            lambda: band([([0, 1000], [0, 1]), ([2000, 3000], [0, 1])]),
            "begins at 2,000 and one that ends at 1,000$",
        ),
        (
            lambda: band([([0, 1], [0, np.nan])] * 2),
            r"^curves must hold at least one number, and finite ones, got \[ 0. nan\]$",
        ),
        (lambda: band([([0, 1], [0, 1])] * 2, level=2), "^level must be between 0 and 1, got 2$"),
        (
            lambda: band([([], []), ([0, 1], [0, 1])]),
            r"^curves must hold at least one number, and finite ones, got \[\]$",
        ),
        (
            lambda: band([([0, 1], [0]), ([0, 1], [0, 1])]),
            "^curves must be of steps and as many values, got 2 and 1$",
        ),
        (
            lambda: band([([2, 0], [0, 1]), ([0, 1], [0, 1])]),
            r"^curves must have ascending steps, got \[2. 0.\]$",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
