"""Train any algorithm: a budget, a progress bar, evaluations on the way, a learning curve and checkpoints.

Training that was stopped, or killed, continues from the last checkpoint. The result does not depend on
whether that happened: at every checkpoint new episodes begin, as they have to after a kill. So a recipe's
``checkpoint_interval`` is part of what is learnt from, and longer than an episode. When the policy is
evaluated, ``eval_interval``, is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.experiments import checkpoints
from pgcourse.experiments.curves import Curve, mean
from pgcourse.experiments.settings import fields_of

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Algorithm, Player

ROWS_PER_CHECKPOINT = 10  # rows of the curve between two checkpoints, at most
UNITS = {"steps": "n_steps", "episodes": "n_episodes", "minutes": "seconds"}


class Budget(NamedTuple):
    """How long to train: a number of steps, episodes or minutes."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:,} {self.unit}"

    @classmethod
    def from_kwargs(cls, **amounts: float | None) -> Budget:
        """Return the one budget that is not None. It must be positive."""
        given = {unit: amount for unit, amount in amounts.items() if amount is not None}
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(UNITS)} must be given, got {given or 'none'}")
        checks.positive(**given)
        [(unit, amount)] = given.items()
        return cls(amount, unit)

    def spent(self, counters: Mapping[str, float]) -> float:
        """Return how much of it is spent, in its unit."""
        return counters[UNITS[self.unit]] / (60 if self.unit == "minutes" else 1)


def train(
    algorithm: Algorithm,
    *,
    steps: float | None = None,
    episodes: float | None = None,
    minutes: float | None = None,
    evaluate: Callable[[Player, int], np.ndarray] | None = None,
    checkpoint_interval: int = 25_000,
    eval_interval: int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Update an algorithm until the budget is spent, and return its learning curve.

    Args:
        algorithm: an object with the attributes and methods of ``Algorithm``.
        steps, episodes, minutes: the budget, exactly one of them; minutes count training, not evaluation.
        evaluate: called as ``evaluate(policy, n_updates)`` before the first update, every ``eval_interval``
            steps and at the end; gives the returns of fresh episodes.
        checkpoint_interval: steps between two checkpoints, at least 1. At each, new episodes begin, also
            without a folder: it must be longer than an episode, or none ends. Where none ended, there is a
            warning.
        eval_interval: steps between two evaluations, at least 1; None evaluates at every checkpoint. Training
            does not depend on it.
        folder: for ``curve.csv`` and checkpoints, where one process works at a time. If it holds checkpoints,
            training continues from the last. With None nothing is written.
        progress: whether to show a bar with the mean training return and the time left.

    Returns:
        The columns of the curve, as ``curves`` describes them, each of shape (n_rows,).

    Raises:
        ValueError: also if the folder holds training with other settings, if a checkpoint is damaged or
            belongs to another algorithm, or if the algorithm's state cannot be saved.
        FloatingPointError: if a number of an update is not finite.
        OSError: if the folder cannot be written. The last checkpoint stays complete, as it does after Ctrl-C.
    """
    budget = Budget.from_kwargs(steps=steps, episodes=episodes, minutes=minutes)
    checks.real(checkpoint_interval=checkpoint_interval)
    checks.at_least(1, checkpoint_interval=checkpoint_interval, eval_interval=eval_interval)
    eval_interval = checkpoint_interval if eval_interval is None else eval_interval
    if folder is None:
        return _train(algorithm, budget, evaluate, checkpoint_interval, eval_interval, None, progress)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.locked(folder):
        checkpoints.pickled(algorithm.state_dict())  # what cannot be saved is known here, not hours later
        settings = settings_of(algorithm) | {"checkpoint_interval": _as_json(checkpoint_interval)}
        checkpoints.check_settings(folder, settings)
        return _train(algorithm, budget, evaluate, checkpoint_interval, eval_interval, folder, progress)


def _train(
    algorithm: Algorithm,
    budget: Budget,
    evaluate: Callable[[Player, int], np.ndarray] | None,
    checkpoint_interval: int,
    eval_interval: int,
    folder: Path | None,
    progress: bool,
) -> dict[str, np.ndarray]:
    from pgcourse.networks.mlp import single_thread

    curve = _resume(algorithm, folder) if folder and checkpoints.latest(folder) else Curve(folder)

    def mean_return() -> float:
        if evaluate is None:
            return math.nan
        return float(np.mean(evaluate(algorithm.policy, int(curve.counters["n_updates"]))))

    with single_thread(), explain_interruption(curve, folder), ProgressBar(budget, progress) as bar:
        if not curve.rows:
            curve.append_row(mean_return())
        n_episodes, warned = -1.0, False  # at the last checkpoint, of which none is known yet
        while budget.spent(curve.counters) < budget.amount:
            before, start = curve.counters["n_steps"], time.perf_counter()
            metrics = algorithm.update()
            curve.add(metrics, time.perf_counter() - start)
            n_steps = curve.counters["n_steps"]
            checkpoint_due = n_steps // checkpoint_interval > before // checkpoint_interval
            evaluation_due = n_steps // eval_interval > before // eval_interval
            if evaluation_due or budget.spent(curve.counters) >= budget.amount:
                curve.append_row(mean_return())
            elif checkpoint_due or (
                n_steps - curve.rows[-1]["n_steps"] >= checkpoint_interval / ROWS_PER_CHECKPOINT
            ):
                curve.append_row()
            if checkpoint_due:
                if curve.counters["n_episodes"] == n_episodes and not warned:
                    warnings.warn(_no_episode(checkpoint_interval, n_steps), stacklevel=3)
                    warned = True
                n_episodes = curve.counters["n_episodes"]
                state: dict[str, Any] = {"algorithm": algorithm.state_dict(), "counters": curve.counters}
                if folder:
                    curve.flush()
                    state["curve"] = curve.checksum
                    checkpoints.add(folder, int(curve.counters["n_updates"]), state)
                algorithm.load_state_dict(state["algorithm"])  # continue as if resumed
            bar.show(budget.spent(curve.counters), [row["return"] for row in curve.rows[-3:]])
    return curve.columns()


def _no_episode(checkpoint_interval: int, n_steps: float) -> str:
    return (
        "no episode has ended between the last two checkpoints, of which the second is at step "
        f"{n_steps:,}: new episodes begin at each, so late states are never seen; checkpoint_interval must "
        f"be longer than an episode, got {checkpoint_interval:,}"
    )


def _resume(algorithm: Algorithm, folder: Path) -> Curve:
    """Put the algorithm and the curve back to the last checkpoint."""
    *earlier, path = sorted(folder.glob(checkpoints.PATTERN))
    try:
        state = checkpoints.load(path)
    except ValueError as error:
        advice = (
            f"delete it to continue from {earlier[-1].name}" if earlier else f"delete {folder} to begin again"
        )
        raise ValueError(f"{error}; {advice}") from error
    try:
        algorithm.load_state_dict(state["algorithm"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit this algorithm: {error}") from error
    return Curve.resumed(folder, state["counters"], state.get("curve"))


def settings_of(algorithm: Algorithm) -> dict[str, object]:
    """Return what tells one training from another, as JSON has it: algorithm, config, seed, environment."""
    rng, spec = getattr(algorithm, "_rng", None), getattr(getattr(algorithm, "env", None), "spec", None)
    settings = {"algorithm": type(algorithm).__name__, "env": getattr(spec, "id", None)}
    settings |= {"n_envs": getattr(getattr(algorithm, "env", None), "num_envs", None)}
    settings |= {"seed": _as_json(rng.bit_generator.seed_seq.entropy) if rng else None}
    config = getattr(algorithm, "config", None)
    of_config = fields_of(config) if dataclasses.is_dataclass(config) else {}
    return settings | {name: _as_json(value) for name, value in of_config.items()}


def _as_json(value: Any) -> object:
    """Return a setting as JSON has it: a function by its name, which is the same in every process."""
    match value:
        case functools.partial():
            return [_as_json(value.func), *map(_as_json, value.args), *map(_as_json, value.keywords.values())]
        case np.generic() | np.ndarray():
            return value.tolist()
        case list() | tuple():
            return [*map(_as_json, value)]
        case None | bool() | int() | float() | str():
            return value
    return getattr(value, "__qualname__", type(value).__qualname__)


@contextlib.contextmanager
def explain_interruption(curve: Curve, folder: Path | None) -> Iterator[None]:
    """Say in an error, and after Ctrl-C, where training was and which checkpoint is left."""

    def left() -> str:
        path = checkpoints.latest(folder) if folder else None
        return f"the last checkpoint is {path}" if path else "there is no checkpoint"

    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {left()}. A smaller eta may help") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped at step {curve.counters['n_steps']:,}; {left()}") from None


class _Stderr:
    """Standard error, where a pipe or terminal that is closed is no reason to stop training."""

    def write(self, text: str) -> None:
        """Write a text, if anything still takes it."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a closed file
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class ProgressBar:
    """A progress bar over a budget, for one run or several."""

    def __init__(self, budget: Budget, visible: bool, n_runs: int = 1):
        self._tqdm = None
        if visible and sys.stderr is not None:  # a program without a console has none
            from tqdm import tqdm

            number = ",.3g" if budget.unit == "minutes" else ",.0f"
            amounts = f"{{n:{number}}} of {{total:{number}}} {{unit}}"
            layout = f"{{l_bar}}{{bar}}| {amounts} [{{elapsed}}, {{remaining}} left{{postfix}}]"
            total = budget.amount * n_runs
            options = {"unit": budget.unit, "bar_format": layout, "dynamic_ncols": True}
            self._tqdm = tqdm(total=total, file=_Stderr(), **options)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()

    def show(self, spent: float, returns: Sequence[float], note: str = "") -> None:
        """Show how much is spent, and the mean of the last returns, without NaN."""
        if self._tqdm is None:
            return
        finite = [r for r in returns if math.isfinite(r)]
        text = [note, f"return {mean(finite):.4g}" if finite else ""]
        self._tqdm.set_postfix_str(", ".join(filter(None, text)), refresh=False)
        if not self._tqdm.n:
            self._tqdm.initial = spent  # an earlier session says nothing about the time that is left
        self._tqdm.update(min(spent, self._tqdm.total) - self._tqdm.n)
