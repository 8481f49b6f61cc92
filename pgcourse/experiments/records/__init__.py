"""Recorded runs: what was run, on what, how it went, and the policy that came out of it.

A run is a folder: ``run.json`` (recipe, seed, settings, budget, versions, machine, result), ``curve.csv`` (a row now and then) and, when it
has finished, ``policy.safetensors`` (half precision), perhaps with earlier ones beside it; checkpoints only while it has not. Runs that the
book shows stand beside this file and ship with the package; ``load`` finds those, and any other folder's.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pgcourse.experiments import curves, recipes
from pgcourse.maths.statistics import Band, band

SHIPPED = Path(__file__).parent
COMPARED = (
    SHIPPED.parent / "comparisons"
)  # short runs with one setting changed; what is kept of them is the curve
VERSIONS = ("pgcourse", "torch", "gymnasium", "ale-py", "numpy")


class Verdict(NamedTuple):
    """A recorded policy played again: the difference of the mean scores, its 95 % interval, and how probable one as large is."""

    recorded: float
    played: float
    low: float
    high: float
    p: float

    @property
    def agrees(self) -> bool:
        """False for one true record in a million."""
        return self.p > 1e-6

    def __str__(self):
        difference = f"difference {self.played - self.recorded:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
        return f"recorded {self.recorded:.4g}, played again {self.played:.4g}, {difference}: {'agrees' if self.agrees else 'DISAGREES'}"


class Record:
    """One run, finished or not.

    Args:
        folder: the run's own.

    Raises:
        ValueError: if it holds no run, or a damaged one.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        path = self.folder / "run.json"
        try:
            self.about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.name, self.seed, self.changed = (
                self.about["recipe"],
                self.about["seed"],
                self.about["changed"],
            )
            _ = self.about["settings"], self.about["budget"], self.about["every"]  # or it could not go on
        except FileNotFoundError:
            raise ValueError(f"folder must hold a run, got {folder}, where there is no run.json") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error

    def __repr__(self):
        return f"Record({str(self.folder)!r})"

    @property
    def label(self) -> str:
        """The recipe, and what was changed in it."""
        return _label(self.name, self.changed)

    @property
    def finished(self) -> bool:
        return "result" in self.about

    @property
    def scores(self) -> np.ndarray:
        """Scores of the fresh episodes that the finished policy played, shape (n_episodes,)."""
        return self._played("scores")

    @property
    def greedy(self) -> np.ndarray:
        """Scores of as many episodes, with the same beginnings, in which it always took the most probable action."""
        return self._played("greedy")

    def _played(self, how: str) -> np.ndarray:
        if not self.finished:
            raise ValueError(
                f"{self.folder} holds a run that has not finished; go on with: pgcourse resume {self.folder}"
            )
        if how not in self.about["result"]:
            raise ValueError(f"{self.folder / 'run.json'} holds no {how} in its result")
        return np.array(self.about["result"][how], float)

    @property
    def score(self) -> float:
        """Their mean: this run's one number."""
        return float(self.scores.mean())

    def curve(self) -> dict[str, np.ndarray]:
        """Return the columns of the learning curve, each of shape (n_rows,), NaN where there was nothing to say."""
        return curves.read(self.folder / "curve.csv")

    def evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps at which the policy was judged on fresh episodes, and the mean scores."""
        curve = self.curve()
        judged = np.isfinite(curve["score"])
        return curve["n_steps"][judged], curve["score"][judged]

    def kept(self) -> list[int]:
        """Return at which steps on the way the policy was kept, in order."""
        return sorted(int(path.stem.partition("-")[2]) for path in self.folder.glob("policy-*.safetensors"))

    def policy(self, n_steps: int | None = None):
        """Return the policy that came out, or the one kept after so many steps.

        Raises:
            ValueError: if none was kept then, or the weights are damaged or do not fit the recipe's network.
            OSError: if they are missing.
        """
        from pgcourse.experiments.checkpoints import load_weights

        if n_steps is not None and n_steps not in self.kept():
            raise ValueError(
                f"n_steps must be one of {self.kept()}, where the policy was kept, got {n_steps}"
            )
        algorithm = recipes.get(self.name).build(self.seed, **self.changed)
        algorithm.env.close()
        load_weights(
            self.folder / ("policy.safetensors" if n_steps is None else f"policy-{n_steps:09d}.safetensors"),
            algorithm.policy,
        )
        return algorithm.policy

    def stale(self) -> list[str]:
        """Return in what the recipe has changed since this was recorded; an empty list if in nothing."""
        recipe = recipes.get(self.name)
        now = recipe.settings(
            **{name: value for name, value in self.changed.items() if name in recipe.defaults}
        )
        then = self.about["settings"]
        names = sorted(now | then)
        return [
            f"{name}: {then.get(name)} recorded, {now.get(name)} now"
            for name in names
            if now.get(name) != then.get(name)
        ]

    def verify(self, n_episodes: int = 100, seed: int = 1) -> Verdict:
        """Play the recorded policy again, on other episodes, and compare with the recorded scores.

        Args:
            n_episodes: at least 2.
            seed: of these episodes.

        Returns:
            The difference and its interval by Student (1908), with one variance for both samples: if the record is true, they are of one
            distribution. A variance of its own would make a few episodes that happen to end alike too sure of themselves.

        Raises:
            ValueError: if ``n_episodes`` < 2, or the run has not finished or its weights are damaged.
        """
        from scipy.stats import t

        if n_episodes < 2:
            raise ValueError(f"n_episodes must be at least 2, got {n_episodes}")
        recorded = self.scores
        played = recipes.get(self.name).evaluate(self.policy(), n_episodes, seed)
        difference = played.mean() - self.score
        freedom = len(played) + len(recorded) - 2
        squares = sum(((x - x.mean()) ** 2).sum() for x in (played, recorded))
        error = float(np.sqrt(squares / freedom * (1 / len(played) + 1 / len(recorded))))
        if error == 0:
            return Verdict(self.score, played.mean(), difference, difference, float(difference == 0))
        half = t.ppf(0.975, freedom) * error
        return Verdict(
            self.score,
            played.mean(),
            difference - half,
            difference + half,
            2 * t.sf(abs(difference) / error, freedom),
        )


def find(folder: str | Path = SHIPPED) -> Iterator[Record]:
    """Yield every run in a folder and its subfolders, in order of recipe, settings and seed."""
    found = [Record(path.parent) for path in Path(folder).rglob("run.json")]
    yield from sorted(found, key=lambda record: (record.label, record.seed))


def load(name: str, folder: str | Path = SHIPPED, **changed) -> list[Record]:
    """Return the finished runs of a recipe, in order of their seeds.

    Args:
        name: of the recipe.
        folder: where to look; the package's own records, unless said otherwise.
        **changed: settings that were not the recipe's own.

    Raises:
        ValueError: if there are none; the message names those there are.
    """
    there = [record for record in find(folder) if record.finished]
    if found := [record for record in there if record.name == name and record.changed == changed]:
        return found
    others = ", ".join(sorted({record.label for record in there})) or "none"
    raise ValueError(f"there is no record of {_label(name, changed)} in {folder}; there are {others}")


def _label(name: str, changed: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{setting}={value}" for setting, value in changed.items())])


def bands(records: Iterable[Record]) -> dict[str, Band]:
    """Return for each combination of recipe and settings the band of its learning curves over fresh episodes, by its label.

    A single run is a band without width.
    """
    runs: dict[str, list] = {}
    for record in records:
        runs.setdefault(record.label, []).append(record.evaluations())
    return {
        label: band(curves) if len(curves) > 1 else Band(*curves[0], *curves[0][1:] * 2)
        for label, curves in runs.items()
    }


def provenance() -> dict[str, Any]:
    """Return what a run is made with: versions, commit, Python, processor."""
    versions: dict[str, str | None] = {}
    for package in VERSIONS:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "commit": _commit(),
        "versions": versions,
        "python": platform.python_version(),
        "processor": _processor(),
    }


def _commit() -> str | None:
    """Return the commit of a checkout, with a + if it was changed, or what pip installed from a repository."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # a hook's are of its own repository

    def git(*arguments):
        command = ["git", "-C", str(SHIPPED.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=clean).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not another's repository
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        return json.loads(metadata.distribution("pgcourse").read_text("direct_url.json") or "{}")["vcs_info"][
            "commit_id"
        ]
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _processor() -> str:
    models = []
    if Path("/proc/cpuinfo").exists():
        models = [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
    return f"{os.cpu_count()} × {models[0] if models else platform.processor() or platform.machine()}"
