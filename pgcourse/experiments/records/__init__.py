"""Recorded runs: what was run, with which versions, its learning curve, its result and its policy.

A run is a folder. ``run.json`` holds recipe, seed, settings, budget, versions, machine and result,
``curve.csv`` the learning curve. A finished run has ``policy.safetensors`` (half precision), and perhaps
policies saved during training; an unfinished one has checkpoints. A session that had several seeds learn at
once names them as its ``block``. The book's runs lie beside this file.

Digests tell a file that was damaged from what was recorded: ``run.json`` holds its own and the curve's,
weights hold theirs. Records of earlier versions have none.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.arrays import Float
from pgcourse.experiments import checkpoints, curves, recipes
from pgcourse.experiments.settings import format_value
from pgcourse.maths.rounding import is_rounding_error
from pgcourse.maths.statistics import Band, bootstrap_band

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Player


RECORDS_DIR = Path(__file__).parent
COMPARISONS_DIR = RECORDS_DIR.parent / "comparisons"  # short runs with changed settings, without a policy
VERSIONS = ("pgcourse", "torch", "gymnasium", "ale-py", "numpy")


class ReplayCheck(NamedTuple):
    """A recorded policy evaluated again: both mean returns, 95 % interval of the difference, p-value."""

    recorded: float
    replayed: float
    low: float
    high: float
    p: float

    @property
    def agrees(self) -> bool:
        """Whether they agree. A true record fails once in a million."""
        return self.p > 1e-6

    def __str__(self) -> str:
        difference = f"difference {self.replayed - self.recorded:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
        conclusion = "agrees" if self.agrees else "DISAGREES"
        return f"recorded {self.recorded:.4g}, replayed {self.replayed:.4g}, {difference}: {conclusion}"


class Record:
    """One run, finished or not, in a folder of its own. ``metadata`` is what its run.json holds."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / "run.json"
        try:
            self.metadata = json.loads(path.read_text(encoding="utf-8"))
            _check_metadata(self.metadata)
            self.name, self.seed, self.overrides = (
                self.metadata[key] for key in ("recipe", "seed", "overrides")
            )
        except FileNotFoundError:
            raise ValueError(f"folder must hold a run, got {folder}, where there is no run.json") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error

    def __repr__(self) -> str:
        return f"Record({str(self.folder)!r})"

    @property
    def label(self) -> str:
        """The recipe and the overrides."""
        return _label(self.name, self.overrides)

    @property
    def recipe(self) -> recipes.Recipe:
        """The recipe as it is now.

        Raises:
            ValueError: if there is none of that name here.
        """
        try:
            return recipes.get(self.name)
        except ValueError:
            advice = "if a script or notebook registers it, work with its runs there"
            unknown = f"a run of {self.name!r}, a recipe that is not registered here"
            raise ValueError(f"{self.folder} holds {unknown}; {advice}") from None

    @property
    def finished(self) -> bool:
        """Whether the budget is spent and there is a result."""
        return "result" in self.metadata

    @property
    def returns(self) -> Float[np.ndarray, " n_episodes"]:
        """Returns of the final policy in fresh episodes, shape (n_episodes,)."""
        return self._result("returns")

    @property
    def greedy_returns(self) -> Float[np.ndarray, " n_episodes"]:
        """Returns in as many episodes with the same initial states, taking the most probable action."""
        return self._result("greedy_returns")

    def _result(self, key: str) -> np.ndarray:
        if not self.finished:
            advice = f"continue it with: {resume_command(self.folder)}"
            raise ValueError(f"{self.folder} holds a run that has not finished; {advice}")
        if key not in self.metadata["result"]:
            raise ValueError(f"{self.folder / 'run.json'} holds no {key} in its result")
        return np.array(self.metadata["result"][key], float)

    @property
    def identity(self) -> tuple:
        """What runs that differ only by their seed have in common: label, settings, budget, interval."""
        settings = json.dumps(self.metadata["settings"], sort_keys=True)
        return self.label, settings, *self.metadata["budget"], self.metadata["checkpoint_interval"]

    @property
    def mean_return(self) -> float:
        """Mean of ``returns``: this run's one number."""
        return float(self.returns.mean())

    def curve(self) -> dict[str, Float[np.ndarray, " n_rows"]]:
        """Return the columns of the learning curve, each of shape (n_rows,), NaN where a cell is empty.

        Raises:
            ValueError: if the file is damaged.
        """
        path = self.folder / "curve.csv"
        data, digests = path.read_bytes(), self.metadata.get("digests", {})
        if digests.get("curve.csv") not in (None, checkpoints.sha256(data)):
            raise ValueError(f"{path} is damaged: its digest is not the one in run.json")
        return curves.parse(path, data)

    def evaluations(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return the steps at which the policy was evaluated, and its mean returns in fresh episodes."""
        curve = self.curve()
        evaluated = np.isfinite(curve["eval_return"])
        return curve["n_steps"][evaluated], curve["eval_return"][evaluated]

    def policy_steps(self) -> list[int]:
        """Return the steps at which the policy was saved during training, ascending."""
        return sorted(int(path.stem.partition("-")[2]) for path in self.folder.glob("policy-*.safetensors"))

    def policy(self, n_steps: int | None = None) -> Player:
        """Return the final policy, or the one saved at a step of ``policy_steps()``.

        Raises:
            ValueError: also if the weights are damaged, or do not fit the recipe's network.
        """
        if n_steps is not None and not checks.is_one_of(saved := self.policy_steps(), n_steps):
            raise ValueError(f"n_steps must be one of {saved}, where the policy was saved, got {n_steps}")
        few = {"n_envs": 2, "minibatch_size": 1}  # the policy is the same for any numbers
        few = {name: number for name, number in few.items() if name in self.recipe.defaults}
        algorithm = self.recipe.build(self.seed, **self.overrides | few)
        algorithm.env.close()
        name = "policy" if n_steps is None else f"policy-{int(n_steps):09d}"
        checkpoints.load_weights(self.folder / f"{name}.safetensors", algorithm.policy)
        return algorithm.policy

    def changed_settings(self) -> list[str]:
        """Return which settings of the recipe have changed since the recording, and how."""
        recipe = self.recipe
        overrides = {name: value for name, value in self.overrides.items() if name in recipe.defaults}
        then, now = self.metadata["settings"], recipe.settings(**overrides)
        changed = [name for name in sorted(now | then) if now.get(name) != then.get(name)]
        return [f"{name}: {then.get(name)} recorded, {now.get(name)} now" for name in changed]

    def verify(self, n_episodes: int = 100, seed: int = 1) -> ReplayCheck:
        """Evaluate the recorded policy on other episodes, and compare with the recorded returns.

        Args:
            n_episodes: at least 2.
            seed: of these episodes.

        Returns:
            Student's (1908) test and interval with one variance for both samples, which have one distribution
            if the record is true. With two variances, a few equal returns would seem exact.

        Raises:
            ValueError: also if the run has not finished, or its weights are damaged.
        """
        from scipy.stats import t

        n_episodes = checks.count(2, n_episodes=n_episodes)
        recorded = self.returns
        replayed = self.recipe.evaluate(self.policy(), n_episodes, seed)
        difference = replayed.mean() - self.mean_return
        freedom = len(replayed) + len(recorded) - 2
        squares = sum(((x - x.mean()) ** 2).sum() for x in (replayed, recorded))
        error = float(np.sqrt(squares / freedom * (1 / len(replayed) + 1 / len(recorded))))
        scale = max(abs(recorded).max(), abs(replayed).max())
        if is_rounding_error(error, scale):  # all scores of each sample are equal
            low, high, p = difference, difference, float(is_rounding_error(abs(difference), scale))
        else:
            half = t.ppf(0.975, freedom) * error
            low, high = difference - half, difference + half
            p = 2 * t.sf(abs(difference) / error, freedom)
        return ReplayCheck(self.mean_return, replayed.mean(), low, high, p)


def find(folder: str | Path = RECORDS_DIR) -> Iterator[Record]:
    """Yield every run in a folder and its subfolders, in order of recipe, settings and seed.

    Links are followed, and what several of them lead to is found once.
    """
    found, visited = [], set()
    for path, subfolders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(path)) in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders.sort(key=lambda name: (os.path.islink(os.path.join(path, name)), name))
        if "run.json" in files:
            found.append(Record(path))
    yield from sorted(found, key=lambda record: (record.label, record.seed))


def load(name: str, folder: str | Path = RECORDS_DIR, **overrides: object) -> list[Record]:
    """Return the finished runs of a recipe, in order of their seeds.

    Args:
        name: of the recipe.
        folder: where to look; by default the package's own records.
        **overrides: settings that differ from the recipe's.

    Raises:
        ValueError: if there are none; the message names those there are. Also if some have another budget or
            other settings than the rest.
    """
    checks.text(name=name)
    overrides = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    finished = [record for record in find(folder) if record.finished]
    if found := [record for record in finished if record.name == name and record.overrides == overrides]:
        groups = pool(found)
        if len(groups) > 1:
            raise ValueError(
                f"{folder} holds runs that are not alike: {', '.join(groups)}; choose a subfolder"
            )
        return next(iter(groups.values()))
    others = ", ".join(sorted({record.label for record in finished})) or "none"
    raise ValueError(f"there is no record of {_label(name, overrides)} in {folder}; there are {others}")


def _label(name: str, overrides: Mapping[str, object]) -> str:
    texts = (f"{setting}={format_value(value)}" for setting, value in overrides.items())
    return " ".join([name, *texts])


def pool(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the runs that differ only by their seed together, in their order, one for each seed.

    The keys are labels; where runs of one label differ in budget or settings, these too. A second run of a
    seed, such as a copy, is left out with a warning.
    """
    groups: dict[tuple, dict[int, Record]] = {}
    for record in records:
        runs = groups.setdefault(record.identity, {})
        if (first := runs.setdefault(record.seed, record)) is not record:
            same = "has the same recipe, settings, budget and seed"
            warnings.warn(f"left out {record.folder}: {first.folder} {same}", stacklevel=2)
    by_label: dict[str, list[list[Record]]] = {}
    for runs in groups.values():
        by_label.setdefault(next(iter(runs.values())).label, []).append(list(runs.values()))
    return {
        label if len(alike) == 1 else f"{label} ({difference})": runs
        for label, alike in by_label.items()
        for runs, difference in zip(alike, _differences([runs[0] for runs in alike]), strict=True)
    }


def _differences(records: list[Record]) -> list[str]:
    """Return for each record of one label what it does not have in common with all others."""
    parts = [
        {"": f"{record.metadata['budget'][0]:,} {record.metadata['budget'][1]}"}
        | {"checkpoint_interval=": format_value(record.metadata["checkpoint_interval"])}
        | {f"{name}=": format_value(value) for name, value in record.metadata["settings"].items()}
        for record in records
    ]
    differing = [name for name in parts[0] if len({part.get(name) for part in parts}) > 1]
    return [", ".join(f"{name}{part.get(name)}" for name in differing) for part in parts]


def bands(records: Iterable[Record]) -> dict[str, Band]:
    """Return the band of the evaluations for each group of ``pool``; a single run's has no width."""
    curves_of = {label: [record.evaluations() for record in runs] for label, runs in pool(records).items()}
    return {
        label: bootstrap_band(found) if len(found) > 1 else Band(*found[0], *found[0][1:] * 2)
        for label, found in curves_of.items()
    }


def resume_command(folder: str | Path) -> str:
    """Return the command that continues the runs in a folder, quoted for the system's shell."""
    words = ["pgcourse", "resume", str(folder)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def write(folder: Path, metadata: Mapping[str, object]) -> None:
    """Write a run's run.json with its digest, and that of the curve if the run has finished."""
    digests = {}
    if "result" in metadata:
        digests["curve.csv"] = checkpoints.sha256((folder / "curve.csv").read_bytes())
    text = json.dumps({**metadata, "digests": digests}, default=lambda number: number.item())  # NumPy's
    sealed = json.loads(text)
    sealed["digests"]["run.json"] = _digest(sealed)
    text = json.dumps(sealed, indent=1, ensure_ascii=False)
    checkpoints.atomic_write(folder / "run.json", f"{text}\n".encode())


def _digest(metadata: dict) -> str:
    """Return the digest of what a run.json holds beside it."""
    digests = {name: value for name, value in metadata["digests"].items() if name != "run.json"}
    return checkpoints.sha256(json.dumps(metadata | {"digests": digests}, sort_keys=True).encode())


def _check_metadata(metadata: dict) -> None:
    """Raise an error if a run.json does not hold what a run leaves, or not what this one left."""
    number = int | float
    kinds = {"recipe": str, "seed": int, "overrides": dict, "settings": dict, "budget": list}
    for key, kind in (kinds | {"checkpoint_interval": number}).items():
        if not isinstance(metadata[key], kind):
            raise TypeError(f"{key} is {metadata[key]!r}")
    amount, unit = metadata["budget"]
    if not (isinstance(amount, number) and 0 < amount < math.inf and isinstance(unit, str)):
        raise TypeError(f"budget is {metadata['budget']!r}")
    result, digests = (metadata.get(key, {}) for key in ("result", "digests"))
    if not isinstance(result, dict) or not isinstance(digests, dict):
        raise TypeError("result or digests have no names")
    for name in {"returns", "greedy_returns"} & set(result):
        if not result[name] or not all(isinstance(value, number) for value in result[name]):
            raise TypeError(f"{name} are no list of numbers")
    if "run.json" in digests and digests["run.json"] != _digest(metadata):
        raise ValueError("its digest is wrong")


def provenance() -> dict[str, object]:
    """Return what a run is made with: commit, versions, Python, processor."""
    versions: dict[str, str | None] = {}
    for package in VERSIONS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    made_with: dict[str, object] = {"commit": _commit(), "versions": versions}
    return made_with | {"python": platform.python_version(), "processor": _processor()}


def _commit() -> str | None:
    """Return the commit of the checkout, with a + if a module has changed, or of what pip installed."""
    package = RECORDS_DIR.parents[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's

    def git(*arguments: str) -> str:
        # Without a lock, which a run that is killed meanwhile would leave behind
        command = ["git", "--no-optional-locks", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails in a repository of something else
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        origin = json.loads(distribution("pgcourse").read_text("direct_url.json") or "{}")
        return origin["vcs_info"]["commit_id"]
    except (PackageNotFoundError, KeyError):
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} × {models[0] if models else platform.processor() or platform.machine()}"
