"""A learning curve, in memory and on disk: a table with a row now and then, each the mean over the updates since the row before.

``n_updates``, ``n_steps``, ``n_episodes`` and ``seconds`` count from the beginning; ``return`` is the mean return of the episodes that
ended, ``score`` that of fresh ones, where the policy was judged; the rest is what the algorithm tells of its updates.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from pgcourse.experiments import checkpoints


class Curve:
    """The learning curve as it grows: in memory and, if it has a folder, on disk, row by row."""

    def __init__(self, folder: Path | None = None):
        self.path = folder / "curve.csv" if folder else None
        if self.path:
            self.path.unlink(missing_ok=True)
        self.rows: list[dict[str, float]] = []
        self.now: dict[str, float] = {"n_updates": 0, "n_steps": 0, "n_episodes": 0, "seconds": 0.0}
        self._n_written = 0
        self._updates: list[dict[str, float]] = []  # since the last row
        self._returns: list[float] = []  # of the episodes since the last row

    @classmethod
    def resumed(cls, folder: Path, now: dict[str, float]) -> "Curve":
        """Return the curve as it was at a checkpoint. What was written after it, perhaps torn, is to be done again.

        Raises:
            ValueError: if rows are missing.
        """
        path = folder / "curve.csv"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        names, *rows = text.splitlines(keepends=True) or [""]
        rows = [row for row in rows if row.endswith("\n") and _update_of(row) <= now["n_updates"]]
        if not rows or _update_of(rows[-1]) != now["n_updates"]:
            raise ValueError(
                f"{path} is damaged: it has no row of update {now['n_updates']}, where the last checkpoint is; "
                f"delete {folder}, and training begins anew"
            )
        checkpoints.write(path, "".join([names, *rows]).encode())
        columns = read(path)
        curve = cls()
        curve.path, curve.now, curve._n_written = path, dict(now), len(rows)
        curve.rows = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]
        return curve

    def add(self, update: Any, seconds: float) -> None:
        """Take note of an update.

        Raises:
            FloatingPointError: if one of its numbers is not finite.
        """
        numbers = {
            name: value for name, value in update._asdict().items() if name not in ("n_steps", "returns")
        }
        self.now["n_updates"] += 1
        self.now["n_steps"] = int(update.n_steps)
        self.now["n_episodes"] += len(update.returns)
        self.now["seconds"] += seconds
        for name, value in [*numbers.items(), *(("a return", r) for r in update.returns)]:
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} in update {self.now['n_updates']}, at step {update.n_steps:,}"
                )
        self._updates.append(numbers)
        self._returns += list(update.returns)

    def close_row(self, score: float = math.nan) -> None:
        """Add a row: the means over the updates since the one before, and the score if the policy was judged here."""
        row = dict(self.now) | {"return": mean(self._returns), "score": score}
        row |= {
            name: mean([numbers[name] for numbers in self._updates]) for name in (self._updates or [{}])[0]
        }
        self.rows.append(
            {name: float(_cell(value) or "nan") for name, value in row.items()}
        )  # as one who resumes will read it
        if (
            self.path and self._updates
        ):  # the row before any update waits for the next one, which has all columns
            table = ["" if self._n_written else ",".join(row)]
            table += [
                ",".join(_cell(r.get(name, math.nan)) for name in row) for r in self.rows[self._n_written :]
            ]
            try:
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    file.write("\n".join(filter(None, table)) + "\n")
            except OSError as error:
                raise OSError(
                    error.errno, f"{error.strerror}; rows up to the last checkpoint are whole", str(self.path)
                ) from error
            self._n_written = len(self.rows)
        self._updates, self._returns = [], []

    def flush(self) -> None:
        """See that all rows are on the disk."""
        if self.path:
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the curve as ``Record.curve`` does."""
        return {
            name: np.array([row.get(name, math.nan) for row in self.rows], float) for name in self.rows[-1]
        }


def mean(values) -> float:
    """Return the mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def _update_of(row: str) -> float:
    number = row.partition(",")[0]
    return int(number) if number.isascii() and number.isdigit() else math.inf  # no number: torn


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a curve, each of shape (n_rows,), NaN where there was nothing to say.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        names, *rows = [line.split(",") for line in text.splitlines()] or [[]]
        if not {"n_steps", "score"} <= set(names):
            raise ValueError("its first line does not name the columns")
        if not rows or not text.endswith("\n"):
            raise ValueError("its last row is not whole")
        table = np.array([[float(cell or "nan") for cell in row] for row in rows], float).reshape(
            len(rows), len(names)
        )
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return dict(zip(names, table.T, strict=True))
