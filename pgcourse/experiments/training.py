"""Drive any algorithm: a budget, a progress bar, evaluation on the way, a learning curve, checkpoints.

Whoever stops, or is killed, goes on from the last checkpoint. What is computed does not depend on whether that happened, because at every
checkpoint training begins new episodes, as it would have to after a kill.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from pgcourse.experiments import checkpoints
from pgcourse.experiments.curves import Curve, mean

ROWS = (
    10  # of a curve between two checkpoints, at most; each is the mean over the updates since the one before
)
UNITS = {"steps": "n_steps", "episodes": "n_episodes", "minutes": "seconds"}


class Algorithm(Protocol):
    """What can be driven. ``update()`` returns a named tuple: ``n_steps`` so far, ``returns`` of finished episodes, any other numbers."""

    policy: Any
    n_steps: int

    def update(self) -> Any: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


class Budget(NamedTuple):
    """How long to train: a number of steps, episodes or minutes."""

    amount: float
    unit: str

    def __str__(self):
        return f"{self.amount:,} {self.unit}"

    @classmethod
    def of(cls, **amounts: float | None) -> "Budget":
        """Return the one that is not None.

        Raises:
            ValueError: if not exactly one is given, or it is not positive.
        """
        given = {unit: amount for unit, amount in amounts.items() if amount is not None}
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(UNITS)} must be given, got {given or 'none'}")
        [(unit, amount)] = given.items()
        if not 0 < amount < math.inf:
            raise ValueError(f"{unit} must be a positive number, got {amount}")
        return cls(amount, unit)

    def spent(self, row: Mapping[str, float]) -> float:
        """Return how much of it is gone, in its unit, at a row of the curve."""
        return row[UNITS[self.unit]] / (60 if self.unit == "minutes" else 1)


def train(
    algorithm: Algorithm,
    *,
    steps: float | None = None,
    episodes: float | None = None,
    minutes: float | None = None,
    evaluate: Callable[[Any, int], np.ndarray] | None = None,
    every: int = 25_000,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Update an algorithm until the budget is spent, and return its learning curve.

    Args:
        algorithm: object with ``policy``, ``update()``, ``state_dict()`` and ``load_state_dict()``.
        steps, episodes, minutes: the budget, exactly one of them; minutes count training only, not evaluation.
        evaluate: called as ``evaluate(policy, n_updates)`` before the first update, at every checkpoint and at the end; returns the scores
            of fresh episodes.
        every: steps between two checkpoints, at least 1.
        folder: where ``curve.csv`` and checkpoints go. If there are some, training goes on from the last. None keeps nothing.
        progress: whether to show a bar with the running return and the time left.

    Returns:
        The columns of the curve, as ``curves`` describes them, each of shape (n_rows,).

    Raises:
        ValueError: if the budget or ``every`` is out of range, or a checkpoint is damaged or belongs to something else.
        FloatingPointError: if a number of an update is not finite.
        OSError: if the disk is full or may not be written. After these two, and after Ctrl-C, the last checkpoint is whole.
    """
    from pgcourse.networks.mlp import one_thread

    budget = Budget.of(steps=steps, episodes=episodes, minutes=minutes)
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    if folder is not None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
    curve = _resumed(algorithm, folder) if folder and checkpoints.latest(folder) else Curve(folder)

    def judge() -> float:
        return (
            float(np.mean(evaluate(algorithm.policy, int(curve.now["n_updates"])))) if evaluate else math.nan
        )

    with one_thread(), _told(curve, folder), Bar(budget, progress) as bar:
        if not curve.rows:
            curve.close_row(judge())
        while budget.spent(curve.now) < budget.amount:
            before, began = curve.now["n_steps"], time.perf_counter()
            update = algorithm.update()
            curve.add(update, time.perf_counter() - began)
            due = curve.now["n_steps"] // every > before // every
            if due or budget.spent(curve.now) >= budget.amount:
                curve.close_row(judge())
            elif curve.now["n_steps"] - curve.rows[-1]["n_steps"] >= every / ROWS:
                curve.close_row()
            if due:
                state = {"algorithm": algorithm.state_dict(), "now": curve.now}
                if folder:
                    curve.flush()
                    checkpoints.add(folder, int(curve.now["n_updates"]), state)
                algorithm.load_state_dict(state["algorithm"])  # go on as if resumed
            bar.show(budget.spent(curve.now), [row["return"] for row in curve.rows[-3:]])
    return curve.columns()


def _resumed(algorithm: Algorithm, folder: Path) -> Curve:
    path = checkpoints.latest(folder)
    assert path is not None
    try:
        state = checkpoints.load(path)
    except ValueError as error:
        others = sorted(folder.glob("checkpoint-*.safetensors"))[:-1]
        advice = (
            f"delete it, and training goes on from {others[-1].name}"
            if others
            else f"delete {folder}, and training begins anew"
        )
        raise ValueError(f"{error}; {advice}") from error
    try:
        algorithm.load_state_dict(state["algorithm"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} does not fit this algorithm: {error}") from error
    return Curve.resumed(folder, state["now"])


@contextlib.contextmanager
def _told(curve: Curve, folder: Path | None):
    """Say in an error, or after Ctrl-C, what is left."""

    def left() -> str:
        path = checkpoints.latest(folder) if folder else None
        return f"the last checkpoint is {path}" if path else "there is no checkpoint"

    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {left()}. A smaller eta may help") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped at step {curve.now['n_steps']:,}; {left()}") from None


class Bar:
    """A progress bar over a budget, for one run or several."""

    def __init__(self, budget: Budget, shown: bool, n_runs: int = 1):
        self._budget, self._tqdm = budget, None
        if shown:
            from tqdm import tqdm

            number = ",.3g" if budget.unit == "minutes" else ",.0f"
            form = f"{{l_bar}}{{bar}}| {{n:{number}}} of {{total:{number}}} {{unit}} [{{elapsed}}, {{remaining}} left{{postfix}}]"
            self._tqdm = tqdm(
                total=budget.amount * n_runs, unit=budget.unit, bar_format=form, dynamic_ncols=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._tqdm is not None:
            self._tqdm.close()

    def show(self, spent: float, returns: Sequence[float], note: str = "") -> None:
        """Say how much is spent, and the mean of some last returns."""
        if self._tqdm is None:
            return
        finite = [r for r in returns if math.isfinite(r)]
        self._tqdm.set_postfix_str(
            ", ".join(filter(None, [note, f"return {mean(finite):.4g}" if finite else ""])), refresh=False
        )
        if not self._tqdm.n:
            self._tqdm.initial = spent  # what an earlier session did says nothing about the time that is left
        self._tqdm.update(min(spent, self._tqdm.total) - self._tqdm.n)
