"""Which symptoms of book/curves a learning curve shows.

A rule is a function of a run that returns its evidence, or None. It measures in units of the curve itself:

    a change counts if it exceeds three standard errors, by chance once in 370 comparisons
    a loss counts if it exceeds half of what had been learnt

Where a rule has another threshold, it says why. A rule says what a curve resembles, not what caused it: that
is found by the check that comes with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.experiments import curves, recipes, records
from pgcourse.experiments.records import Record

if TYPE_CHECKING:
    from jaxtyping import Float

    Rows = Float[np.ndarray, " n_rows"]

MIN_POINTS = 8  # of a series: two in its last third, and six second differences to estimate the noise from
STANDARD_ERRORS = 3.0
NO_CHANGE = 2.0  # standard errors: a change is called none only if it is within its 95 % interval
LOST = 0.5  # of what had been learnt


class Series(NamedTuple):
    """What a run is measured by: the rows of one column that are not empty."""

    name: str
    steps: Rows
    values: Rows
    noise: float  # standard deviation of a value around the curve
    sampling: float  # the part of it that is known to come from the episodes drawn; else the same

    @property
    def first(self) -> float:
        """Level at the beginning: of the untrained policy, or nearly."""
        return float(self.values[0])

    @property
    def n_last(self) -> int:
        """Number of values in the last third."""
        return len(self.values) // 3

    @property
    def last(self) -> float:
        """Level at the end: mean of the last third."""
        return float(self.values[-self.n_last :].mean())

    @property
    def error(self) -> float:
        """Standard error of ``last - first``."""
        return self.noise * math.sqrt(1 + 1 / self.n_last)

    @property
    def largest_error(self) -> float:
        """What the difference of two values exceeds by sampling error in one of 370 curves of this length."""
        z = NormalDist().inv_cdf(1 - 1 / (740 * len(self.values)))
        return z * math.sqrt(2) * self.sampling

    @property
    def rise(self) -> float:
        """From the first level to the highest value."""
        return float(self.values.max()) - self.first

    def trend(self) -> tuple[float, float]:
        """Return the change over the last third by least squares, and its standard error."""
        k = self.n_last
        t = np.arange(k) - (k - 1) / 2
        slope = float(t @ self.values[-k:] / (t @ t))
        return slope * (k - 1), self.noise * (k - 1) / math.sqrt(t @ t)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A learning curve, and what else is known of the run.

    Raises:
        ValueError: also if the curve is too short to be read.
    """

    curve: Mapping[str, Rows]  # as ``curves.read`` returns it
    gamma: float | None = None
    goals: Mapping[str, float] = field(default_factory=dict)  # level that other runs reach, by column
    eval_error: float | None = None  # standard error of an evaluation, if it is known
    checkpoint_interval: float | None = None
    same_metric: bool = True  # whether return and eval_return measure the same

    def __post_init__(self) -> None:
        checks.fraction(**({} if self.gamma is None else {"gamma": self.gamma}))
        checks.at_least(0, eval_error=self.eval_error)
        checks.at_least(1, checkpoint_interval=self.checkpoint_interval)
        shapes = {name: checks.numbers(f"curve[{name!r}]", rows).shape for name, rows in self.curve.items()}
        if "n_steps" not in shapes or len(set(shapes.values())) != 1 or len(shapes["n_steps"]) != 1:
            got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ValueError(f"curve must have n_steps, and columns of one length, got {got or 'none'}")
        steps = checks.finite_floats("curve['n_steps']", self.curve["n_steps"])
        if (np.diff(steps) < 0).any():
            raise ValueError(f"curve['n_steps'] must not descend, got {steps}")
        if self.series("eval_return", "return", "reward") is None:
            counts = {name: int(np.isfinite(self.rows(name)).sum()) for name in ("eval_return", "return")}
            got = " and ".join(f"{n} of {name}" for name, n in counts.items())
            raise ValueError(f"curve must have at least {MIN_POINTS} values to be read, got {got}")

    def rows(self, name: str) -> Rows:
        """Return a column; NaN in every row if there is none."""
        return np.asarray(self.curve.get(name, np.full(len(self.curve["n_steps"]), math.nan)), float)

    def series(self, *names: str) -> Series | None:
        """Return the first of these columns that has ``MIN_POINTS`` values."""
        for name in names:
            rows = self.rows(name)
            there = np.isfinite(rows)
            if there.sum() >= MIN_POINTS:
                values = rows[there]
                steps, noise = np.asarray(self.curve["n_steps"], float)[there], _noise(values)
                known = self.eval_error if name == "eval_return" else None
                sampling = noise if known is None else known
                return Series(name, steps, values, max(noise, sampling), sampling)
        return None

    @property
    def main(self) -> Series:
        """Evaluations; where there are too few, returns in training, or rewards of a continuing task."""
        series = self.series("eval_return", "return", "reward")
        assert series is not None  # checked when the run was made
        return series

    @property
    def goal(self) -> float | None:
        """Level that other runs reach in the column of ``main``."""
        return self.goals.get(self.main.name)


def _noise(values: Rows) -> float:
    """Return the standard deviation of independent noise on a smooth curve, from second differences.

    Their standard deviation is √6 times as large, and a straight line leaves none. The lower quartile is
    used, which of a Gaussian's absolute values is 0.3186 standard deviations: so up to three quarters of the
    curve may jump for another reason than noise. Where the curve stands still, such as at the largest return
    that there is, it says nothing about the rest, and is left out.
    """
    second = abs(np.diff(values, 2))
    second = second[second > 0] if second.any() else second
    return float(np.quantile(second, 0.25)) / (0.3186 * math.sqrt(6))


class Symptom(NamedTuple):
    """A section of book/curves, and the rule that recognises it."""

    title: str
    causes: str
    check: str
    is_note: bool  # worth knowing, and no mistake
    find: Callable[..., str | None]

    @property
    def anchor(self) -> str:
        """The section's link in the book."""
        return re.sub(r"[^\w -]", "", self.title).lower().replace(" ", "-")


class Finding(NamedTuple):
    """A symptom that a run shows, with the numbers that show it."""

    symptom: Symptom
    evidence: str


SYMPTOMS: list[Symptom] = []  # of a run


def _symptom(title: str, causes: str, check: str, *, note: bool = False) -> Callable:
    def register(find: Callable[[Run], str | None]) -> Callable[[Run], str | None]:
        SYMPTOMS.append(Symptom(title, causes, check, note, find))
        return find

    return register


def diagnose(run: Run) -> list[Finding]:
    """Return the symptoms that a run shows, in the order of the book; none if nothing is wrong."""
    found = [(symptom, symptom.find(run)) for symptom in SYMPTOMS]
    return [Finding(symptom, evidence) for symptom, evidence in found if evidence is not None]


@_symptom(
    "Return flat",
    "η far too small or too large; weights that are all zero or not updated; rewards never met",
    "does the gradient norm differ from zero, and do the weights move? then η ten times larger and smaller",
)
def return_flat(run: Run) -> str | None:
    """The last third is not above the beginning and does not rise; nor do the returns in training."""
    s, training = run.main, run.series("return")
    change = s.last - s.first
    if abs(change) > NO_CHANGE * s.error or change > LOST * s.rise > 0 or _rising(s) or _falls(run):
        return None
    if training is not None and training.last - training.first > NO_CHANGE * training.error:
        return None  # learning shows in training: that is another symptom
    return f"{s.name} is {s.first:.4g} at first and {s.last:.4g} in the last third{_within(s)}"


@_symptom(
    "Return falls from the first step",
    "the sign of the gradient, of the advantage or of the reward",
    "one update with one rewarded action: its probability must grow",
)
def return_falls(run: Run) -> str | None:
    """The last third is below the beginning, and no value was clearly above it."""
    s = run.main
    if s.last - s.first >= -STANDARD_ERRORS * s.error or s.rise > s.largest_error:
        return None
    return f"{s.name} falls from {s.first:.4g} to {s.last:.4g} in the last third{_within(s)}"


def _rising(s: Series) -> bool:
    """Whether the last third rises, and by a tenth or more of the whole rise."""
    change, error = s.trend()
    return change > max(0.1 * s.rise, STANDARD_ERRORS * error)


def _within(s: Series) -> str:
    return f", a change of {s.last - s.first:.3g} ± {s.error:.2g} (standard error)"


def _falls(run: Run) -> list[tuple[int, int]]:
    """Return peak and lowest point of each fall by half of the rise; between two, it has risen again.

    There is none unless something had been learnt: a quarter of what is known, or more.
    """
    s = run.main
    size = max(LOST * s.rise, s.largest_error)
    if s.rise <= s.largest_error or (run.goal is not None and s.rise < (run.goal - s.first) / 4):
        return []
    falls: list[tuple[int, int]] = []
    peak, trough, falling = 0, 0, False
    for i, value in enumerate(s.values):
        if falling:
            trough = i if value < s.values[trough] else trough
            falls[-1] = (falls[-1][0], trough)
            if value > s.values[trough] + size:
                peak, falling = i, False
        elif value > s.values[peak]:
            peak = i
        elif value < s.values[peak] - size:
            trough, falling = i, True
            falls.append((peak, i))
    return falls


@_symptom(
    "Good, then gone",
    "η too large once the policy is good; data of one kind only, such as a small buffer; Q values that drift",
    "the same run with η falling, or continued from its best policy with η a tenth",
)
def good_then_gone(run: Run) -> str | None:
    """Half of what had been learnt is lost, and is still lost in the last two values."""
    s, falls = run.main, _falls(run)
    if len(falls) != 1 or s.values[-2:].max() > s.values[falls[0][0]] - LOST * s.rise:
        return None
    peak = falls[0][0]
    best, end = f"{s.values[peak]:.4g} at step {s.steps[peak]:,.0f}", s.values[-2:].mean()
    return f"{s.name} rose from {s.first:.4g} to {best}, and is {end:.4g} at the end"


@_symptom(
    "Up and down",
    "η or η′ too large; target networks that move too fast; a small replay buffer",
    "η and η′ a third each, one at a time, with three seeds",
)
def up_and_down(run: Run) -> str | None:
    """At least twice half of what had been learnt is lost, with a recovery between."""
    s, falls = run.main, _falls(run)
    if len(falls) < 2:
        return None
    high, low = (s.values[[fall[k] for fall in falls]].mean() for k in (0, 1))
    return f"{s.name} falls {len(falls)} times, on average from {high:.4g} to {low:.4g}"


@_symptom(
    "Plateau below what is known",
    "a local optimum; exploration that ended too early; a network or an observation that lacks something",
    "more entropy or noise at first, another seed, a larger network: which of them goes higher?",
)
def plateau(run: Run) -> str | None:
    """The last third lacks a fifth or more of what other runs learn, and gains less than a tenth of it."""
    s, goal = run.main, run.goal
    if goal is None or return_flat(run) or return_falls(run) or _falls(run):
        return None
    middle = s.values[-2 * s.n_last : -s.n_last].mean()
    if goal - s.last < max(0.2 * (goal - s.first), STANDARD_ERRORS * s.error):
        return None
    if s.last - middle > 0.1 * (goal - s.first) or still_rising(run):
        return None
    return f"{s.name} stays at {s.last:.4g} in the last third; recorded runs of the recipe reach {goal:.4g}"


@_symptom(
    "Still rising at the end",
    "the budget",
    "a longer run, before settings are compared",
    note=True,
)
def still_rising(run: Run) -> str | None:
    """The last third rises by a tenth or more of the whole rise, and is not yet where others get.

    Not a rise back to where the run has been.
    """
    s, training, goal = run.main, run.series("return"), run.goal
    if _falls(run) or (goal is not None and s.values[-1] >= goal):
        return None
    for series in (s, training if run.same_metric else None):
        if series is not None and _rising(series):
            return f"{series.name} rises by {series.trend()[0]:.3g} in the last third of the run"
    return None


@_symptom(
    "All returns equal",
    "no reward is ever reached, so no action is better than another; a reward that is always the same",
    "the largest and the smallest return of 1,000 episodes with random actions",
)
def returns_equal(run: Run) -> str | None:
    """From the first row on, the returns in training are the same number, for half of the rows or more."""
    s = run.series("return", "eval_return")
    if s is None:
        return None
    same = int(np.argmax([*(s.values != s.values[0]), True]))
    if 2 * same < len(s.values):
        return None
    until = f"until step {s.steps[same - 1]:,.0f}" if same < len(s.values) else "to the end"
    return f"{s.name} is {s.values[0]:.4g} from the first row {until}"


def _gap(run: Run) -> tuple[float, float, float] | None:
    """Return the means of evaluation and training in the last third of the steps, and three errors of both.

    None if they cannot be compared, or differ by less than half of what was learnt.
    """
    s, training = run.series("eval_return"), run.series("return")
    if not run.same_metric or s is None or training is None:
        return None
    late = training.values[training.steps > 2 / 3 * s.steps[-1]]
    if len(late) < 2:
        return None
    error = math.hypot(s.noise / math.sqrt(s.n_last), late.std(ddof=1) / math.sqrt(len(late)))
    gap, learnt = abs(s.last - late.mean()), max(s.rise, training.rise)
    if gap < max(LOST * learnt, STANDARD_ERRORS * error):
        return None
    return s.last, float(late.mean()), STANDARD_ERRORS * error


def _both(gap: tuple[float, float, float]) -> str:
    evaluation, training, error = gap
    return f"in the last third eval_return is {evaluation:.4g} and return {training:.4g}, ± {error:.2g}"


@_symptom(
    "Evaluation better than training",
    "exploration: noise or ε costs return in training; else training returns that leave out long episodes",
    "evaluate with the exploration left on: the difference must vanish",
    note=True,
)
def evaluation_better(run: Run) -> str | None:
    """By half of what was learnt, or more."""
    gap = _gap(run)
    return _both(gap) if gap and gap[0] > gap[1] else None


@_symptom(
    "Training better than evaluation",
    "another environment: wrappers, scaling of observations or of rewards, time limit; or greedy actions",
    "evaluate in the environment of the training, with the same wrappers and drawn actions",
)
def training_better(run: Run) -> str | None:
    """By half of what was learnt, or more."""
    gap = _gap(run)
    return _both(gap) if gap and gap[0] < gap[1] else None


@_symptom(
    "Saw-tooth at checkpoints",
    "new episodes begin at a checkpoint, so the first to end are the short ones",
    "look at eval_return, which counts whole episodes; or make checkpoint_interval longer",
    note=True,
)
def saw_tooth(run: Run) -> str | None:
    """Just after checkpoints, returns in training differ from the rest by a tenth of the rise or more."""
    s, interval = run.series("return"), run.checkpoint_interval
    if s is None or interval is None:
        return None
    ends = np.asarray(run.curve["n_steps"], float)
    number = dict(zip(ends, np.append(0, ends[:-1]) // interval, strict=True))  # of the interval it begins in
    intervals: dict[float, list[float]] = {}
    for step, value in zip(s.steps, s.values, strict=True):
        intervals.setdefault(number[step], []).append(value)
    differences = [rows[0] - np.mean(rows[1:]) for rows in intervals.values() if len(rows) > 1]
    if len(differences) < 3:
        return None
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(len(differences))
    if abs(mean) <= max(0.1 * s.rise, STANDARD_ERRORS * error):
        return None
    after = f"in the first row after each of {len(differences)} checkpoints"
    return f"{after} return differs by {mean:.3g} from the next ones, ± {error:.2g} (standard error)"


@_symptom(
    "Too few episodes to tell",
    "evaluations of few episodes, whose returns differ much",
    "the same policy evaluated twice with other seeds: as different as two points of the curve?",
    note=True,
)
def too_few_episodes(run: Run) -> str | None:
    """The 95 % interval of one evaluation is as wide as all that was learnt."""
    s = run.main
    if s.name != "eval_return" or run.eval_error is None:
        return None
    half = 1.96 * run.eval_error
    if 2 * half < s.rise or return_flat(run) or return_falls(run):
        return None
    return f"an evaluation is known to ± {half:.3g}, and the whole rise is {s.rise:.3g}"


@_symptom(
    "Entropy collapses",
    "η too large, returns that are not centred or scaled, an entropy bonus that is missing",
    "the same run with η a tenth, and then with a baseline or standardised returns",
)
def entropy_collapses(run: Run) -> str | None:
    """The entropy falls to a tenth, and the policy stays below half of what is known or was reached.

    If an entropy is negative, it is that of a density: there, a standard deviation that falls to a tenth.
    """
    entropy, s = run.series("entropy"), run.main
    if entropy is None:
        return None
    first = entropy.values[:3].max()  # later estimates may have outliers
    limit = 0.1 * first if entropy.values.min() >= 0 else first - math.log(10)
    goal = max(s.first + s.rise, s.first if run.goal is None else run.goal)
    is_good = s.last > s.first + LOST * (goal - s.first) and not (return_flat(run) or return_falls(run))
    if np.median(entropy.values[-entropy.n_last :]) > limit or is_good:
        return None
    step = entropy.steps[np.argmax(entropy.values < limit)]
    below = f"entropy falls from {first:.3g} to below {limit:.2g} by step {step:,.0f}"
    return f"{below}, and {s.name} is {s.last:.4g} in the last third"


@_symptom(
    "Entropy does not fall",
    "η too small, advantages that are zero or noise, an entropy bonus that is too large",
    "the gradient norm, and the share of it that the entropy bonus has; then η ten times as large",
)
def entropy_stays(run: Run) -> str | None:
    """The entropy keeps 98 % of its first value while the return is flat: probabilities of two actions
    between 0.42 and 0.58."""
    entropy = run.series("entropy")
    if entropy is None or entropy.values.min() < 0 or not return_flat(run):
        return None
    if entropy.last < 0.98 * entropy.values[:3].max():
        return None
    return f"entropy is {entropy.first:.4g} at first and {entropy.last:.4g} in the last third"


@_symptom(
    "Gradient norm zero",
    "advantages that are all equal; units that are dead or saturated; a network that is detached",
    "the spread of the advantages in a batch, then the gradient of each layer",
)
def gradient_zero(run: Run) -> str | None:
    """In the last third the norm is below a thousandth of its first level, or zero in all rows.

    A policy that is as good as others has a reason for it.
    """
    norm = run.series("gradient_norm")
    if norm is None:
        return None
    first, last = float(np.median(norm.values[: norm.n_last])), float(norm.values[-norm.n_last :].max())
    if last > 1e-3 * first:
        return None
    if run.goal is not None and run.main.last >= run.goal - STANDARD_ERRORS * run.main.error:
        return None
    return f"gradient_norm is {first:.3g} in the first third and at most {last:.2g} in the last"


@_symptom(
    "Not a number",
    "η too large; a logarithm of 0 or a division by 0; an observation that is not finite",
    "the first row that is not finite: was the gradient norm already growing, or was it sudden?",
)
def not_finite(run: Run) -> str | None:
    """A metric is infinite, or NaN after it was a number."""
    for name in set(run.curve) - {"return", "eval_return"}:
        rows = run.rows(name)
        there = np.isfinite(rows)
        bad = np.isinf(rows) | (np.isnan(rows) & np.maximum.accumulate(there))
        if bad.any():
            at = int(np.argmax(bad))
            return f"{name} is {rows[at]} in the row of step {run.curve['n_steps'][at]:,.0f}"
    return None


def _largest_value(run: Run) -> float | None:
    """Return a bound of |V|: the largest return seen, or the largest reward that goes on for ever."""
    returns = [abs(run.rows(name)) for name in ("return", "eval_return")]
    seen = np.concatenate([column[np.isfinite(column)] for column in returns])
    bound = float(seen.max()) if seen.size and run.same_metric else 0.0
    rewards = abs(run.rows("reward"))
    if run.gamma is not None and run.gamma < 1 and np.isfinite(rewards).any():
        bound = max(bound, float(np.nanmax(rewards)) / (1 - run.gamma))
    return bound or None


@_symptom(
    "Value loss explodes",
    "η′ too large; rewards or returns of the order of thousands; a target that moves with the network",
    "the critic alone, with the policy kept as it is: does its loss fall with η′ a tenth?",
)
def value_loss_explodes(run: Run) -> str | None:
    """In a tenth of the rows the critic's error, √(2 loss), is larger than any value can be."""
    loss, bound = run.series("critic_loss"), _largest_value(run)
    if loss is None or bound is None:
        return None
    high = float(np.quantile(loss.values, 0.9))
    error = math.sqrt(2 * high)
    if error < bound:
        return None
    above = f"critic_loss exceeds {high:.3g} in a tenth of the rows, an error of {error:.3g}"
    return f"{above}; no value exceeds {bound:.3g}"


@_symptom(
    "Q without bound",
    "bootstrapping from values of actions that were never taken; no target networks; γ = 1; η′ too large",
    "the mean of Q(s, μ(s)) at first states, and the return that follows; then τ smaller, or two critics",
)
def q_without_bound(run: Run) -> str | None:
    """The mean of Q is larger than any value can be."""
    q, bound = run.series("q"), _largest_value(run)
    if q is None or bound is None or abs(q.values).max() < bound:
        return None
    at = int(np.argmax(abs(q.values)))
    return f"q is {q.values[at]:.4g} at step {q.steps[at]:,.0f}; no value exceeds {bound:.4g} in size"


def seeds_disagree(runs: Sequence[Run]) -> str | None:
    """Return the evidence that one seed ends at less than half of what another one has learnt, or None."""
    if len(runs) < 2:
        return None
    ends = np.array([run.main.last for run in runs])
    best, worst = (runs[i].main for i in (int(ends.argmax()), int(ends.argmin())))
    error = math.hypot(*(s.noise / math.sqrt(s.n_last) for s in (best, worst)))
    gap = best.last - worst.last
    if gap < max(LOST * (best.last - (best.first + worst.first) / 2), STANDARD_ERRORS * error):
        return None
    return f"in the last third {best.name} is {', '.join(f'{end:.4g}' for end in sorted(ends))}"


SEEDS = Symptom(
    "Seeds disagree",
    "settings at the edge of stability; rewards that some seeds never meet; a local optimum",
    "more seeds, and the curve of each: do they end at two levels, or anywhere?",
    False,
    seeds_disagree,
)


def compare(runs: Sequence[Run]) -> list[Finding]:
    """Return the symptoms of runs that differ only by their seed; none if nothing is wrong."""
    evidence = SEEDS.find(runs)
    return [] if evidence is None else [Finding(SEEDS, evidence)]


def load(source: str | Path) -> dict[str, list[tuple[str, Run]]]:
    """Return the runs of a source, those that differ only by their seed together, each with its name.

    Args:
        source: a recipe, for its recorded runs; a folder of runs, finished or not; a folder where ``train``
            left its curve; or a curve.csv.

    Raises:
        ValueError: if there are none, or if one cannot be read or is too short.
    """
    path = Path(source)
    if path.is_file():
        return {str(path): [(str(path), of_file(path))]}
    found = list(records.find(path) if path.is_dir() else records.load(str(source)))
    if not found and (path / "curve.csv").is_file():
        return load(path / "curve.csv")
    if not found:
        raise ValueError(f"{source} holds no run and no curve.csv")
    names = {record.name for record in found if record.name in recipes.RECIPES}
    goals = {name: recorded_goals(name) for name in names}
    return {
        label: [(_name(label, r), of_record(r, goals.get(r.name))) for r in runs]
        for label, runs in records.pool(found).items()
    }


def _name(label: str, record: Record) -> str:
    return f"{label} seed {record.seed}{'' if record.finished else ' (not finished)'}"


def of_file(path: Path) -> Run:
    """Return the curve in a file, of which nothing else is known."""
    return _read(path, curves.read(path))


def of_record(record: Record, goals: Mapping[str, float] | None = None) -> Run:
    """Return a record's curve, with what its run.json adds; ``goals`` as of ``recorded_goals``."""
    path, metadata, recipe = record.folder / "curve.csv", record.metadata, recipes.RECIPES.get(record.name)
    if not path.exists():
        raise ValueError(f"{record.folder} holds a run that has no curve yet")
    n_returns = len(record.returns) if record.finished else 0
    error = (
        record.returns.std(ddof=1) / math.sqrt(recipe.n_eval_episodes) if recipe and n_returns > 1 else None
    )
    return _read(
        path,
        record.curve(),
        gamma=metadata["settings"].get("gamma"),
        goals=goals or {},
        eval_error=error,
        checkpoint_interval=metadata["checkpoint_interval"],
        same_metric=recipe is None or recipe.task.metric == "return",
    )


def _read(path: Path, curve: Mapping[str, Rows], **known) -> Run:
    try:
        return Run(curve=curve, **known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def recorded_goals(name: str) -> dict[str, float]:
    """Return the levels that the shipped runs of a recipe reach, by column: medians over the seeds."""
    runs = [of_record(r) for r in records.find() if r.name == name and r.finished and not r.overrides]
    goals = {}
    for column in ("eval_return", "return", "reward"):
        if ends := [series.last for run in runs if (series := run.series(column)) is not None]:
            goals[column] = float(np.median(ends))
    return goals
