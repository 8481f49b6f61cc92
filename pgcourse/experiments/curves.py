"""A learning curve: a table with a row every few updates, each the mean over the updates since the last row.

``n_updates``, ``n_steps``, ``n_episodes`` and ``seconds`` count from the beginning; seeds that learn at once
share the seconds equally. ``return`` is the mean return of the training episodes that ended, ``eval_return``
that of fresh episodes where the policy was evaluated. The other columns are the algorithm's own metrics.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pgcourse.experiments import checkpoints

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Metrics


class Curve:
    """A learning curve as it grows: in memory and, if it has a folder, on disk, row by row."""

    def __init__(self, folder: Path | None = None):
        self.path = folder / "curve.csv" if folder else None
        if self.path:
            self.path.unlink(missing_ok=True)
        self.rows: list[dict[str, float]] = []
        self.counters: dict[str, float] = {"n_updates": 0, "n_steps": 0, "n_episodes": 0, "seconds": 0.0}
        self._n_written = 0
        self.checksum = 0  # CRC-32 of what is on disk
        self._metrics: list[dict[str, float]] = []  # of each update since the last row
        self._returns: list[float] = []  # of each episode since the last row

    @classmethod
    def resumed(cls, folder: Path, counters: Mapping[str, float], checksum: int | None = None) -> Curve:
        """Return the curve as it was at a checkpoint. Later rows, of which the last may be torn, are dropped.

        Args:
            folder: of the file.
            counters: as they were at the checkpoint.
            checksum: the same; None if it is not known.

        Raises:
            ValueError: if the row of the checkpoint is missing, or a row before it is damaged.
        """
        path = folder / "curve.csv"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        header, *rows = text.splitlines(keepends=True) or [""]
        rows = [row for row in rows if row.endswith("\n") and _n_updates(row) <= counters["n_updates"]]
        if not rows or _n_updates(rows[-1]) != counters["n_updates"]:
            missing = f"it has no row of update {counters['n_updates']}, where the last checkpoint is"
            raise ValueError(f"{path} is damaged: {missing}; delete {folder} to begin again")
        kept = "".join([header, *rows]).encode()
        if checksum not in (None, zlib.crc32(kept)):
            changed = "its rows are not those that the last checkpoint belongs to"
            raise ValueError(f"{path} is damaged: {changed}; delete {folder} to begin again")
        columns = parse(path, kept)
        checkpoints.atomic_write(path, kept)
        curve = cls()
        curve.checksum = zlib.crc32(kept)
        curve.path, curve.counters, curve._n_written = path, dict(counters), len(rows)
        table = zip(*(column.tolist() for column in columns.values()), strict=True)
        curve.rows = [dict(zip(columns, row, strict=True)) for row in table]
        return curve

    def add(self, metrics: Metrics, seconds: float) -> None:
        """Add an update, which took so many seconds, to the next row.

        Raises:
            FloatingPointError: if one of its numbers is not finite.
        """
        numbers = metrics._asdict()
        numbers = {name: numbers[name] for name in numbers if name not in ("n_steps", "episode_returns")}
        self.counters["n_updates"] += 1
        self.counters["n_steps"] = int(metrics.n_steps)
        self.counters["n_episodes"] += len(metrics.episode_returns)
        self.counters["seconds"] += seconds
        for name, value in [*numbers.items(), *(("a return", r) for r in metrics.episode_returns)]:
            if not math.isfinite(value):
                where = f"update {self.counters['n_updates']}, at step {metrics.n_steps:,}"
                raise FloatingPointError(f"{name} is {value} in {where}")
        self._metrics.append(numbers)
        self._returns += list(metrics.episode_returns)

    def append_row(self, eval_return: float = math.nan) -> None:
        """Append a row: the means over the updates since the last, and the mean return of an evaluation."""
        row = self.counters | {"return": mean(self._returns), "eval_return": eval_return}
        names = self._metrics[0] if self._metrics else {}
        row |= {name: mean([numbers[name] for numbers in self._metrics]) for name in names}
        self.rows.append({name: float(_cell(value) or "nan") for name, value in row.items()})  # as on disk
        if self.path and self._metrics:  # the row before any update waits for the next, which has all columns
            self._write(list(row))
        self._metrics, self._returns = [], []

    def _write(self, names: list[str]) -> None:
        """Append to the file what it does not have yet."""
        assert self.path is not None
        lines = [] if self._n_written else [",".join(names)]
        for row in self.rows[self._n_written :]:
            lines.append(",".join(_cell(row.get(name, math.nan)) for name in names))
        text = "\n".join(lines) + "\n"
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text)
        except OSError as error:
            reason = f"{error.strerror}; rows up to the last checkpoint are complete"
            raise OSError(error.errno, reason, str(self.path)) from error
        self._n_written = len(self.rows)
        self.checksum = zlib.crc32(text.encode(), self.checksum)

    def flush(self) -> None:
        """Make sure that all rows are on the disk."""
        if self.path:
            with self.path.open("rb+") as file:
                checkpoints.flush(file.fileno())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the curve as ``read`` does."""
        names = self.rows[-1]  # the first row has no metrics
        return {name: np.array([row.get(name, math.nan) for row in self.rows], float) for name in names}


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Return the mean, NaN if there are no values."""
    return float(np.mean(values)) if len(values) else math.nan


def _n_updates(row: str) -> float:
    """Return the first number of a row, infinity if it has none because it is incomplete."""
    number = row.partition(",")[0]
    return int(number) if number.isascii() and number.isdigit() else math.inf


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a curve, each of shape (n_rows,), NaN where a cell is empty.

    Raises:
        ValueError: if the file is damaged.
    """
    return parse(path, path.read_bytes())


def parse(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Return what ``read`` does of a file that holds this."""
    try:
        text = data.decode()
        names, *rows = [line.split(",") for line in text.splitlines()] or [[]]
        if not {"n_steps", "eval_return"} <= set(names):
            raise ValueError("its first line does not name the columns")
        if not rows or not text.endswith("\n"):
            raise ValueError("its last row is incomplete")
        table = np.array([[float(cell or "nan") for cell in row] for row in rows], float)
        return dict(zip(names, table.reshape(len(rows), len(names)).T, strict=True))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
