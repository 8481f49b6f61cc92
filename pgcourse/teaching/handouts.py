"""What a lecturer hands out: problem sets and chapters without their solutions, and what marks the sets.

For each problem set: the student's notebook, the solutions, the bundle for ``pgcourse grade``, and lines in a
table of points. For each chapter: a notebook without the solutions of its exercises.

On no slide.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path

from pgcourse.teaching.grading import load, read_notebook, source, write_bundle

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # as in nbgrader
STUB = "# your lines here"


def write(problems: Path, chapters: Path, target: Path) -> list[Path]:
    """Write all handouts into a folder, and return their paths.

    Args:
        problems: folder with the sets: for each a notebook and a Python file, with the same name.
        chapters: folder with the chapters, ``01-….ipynb`` and so on, and those in ``beyond``.
        target: folder for the handouts, which is made.

    Raises:
        ValueError: if there is no problem set, or if a set is not complete.
    """
    sets = sets_in(problems)
    if not sets:
        raise ValueError(f"problems must be a folder with problem sets, notebooks, got {problems}")
    written = []
    for name in ("student", "solutions", "bundles", "chapters"):
        (target / name).mkdir(parents=True, exist_ok=True)
    for path in sets:
        notebook = read_notebook(path)
        for name, version in {
            "student": for_students(notebook),
            "solutions": with_solutions(notebook),
        }.items():
            written.append(_write(target / name / path.name, version))
        written.append(target / "bundles" / f"{path.stem}.zip")
        write_bundle(path, written[-1])
    for path in chapters_in(chapters):
        written.append(_write(target / "chapters" / path.name, without_solutions(read_notebook(path))))
    written.append(target / "points.md")
    written[-1].write_text(points_table(sets), "utf-8")
    return written


def sets_in(folder: Path) -> list[Path]:
    """Return the notebooks of all problem sets in a folder: first those of the lecture, in its order."""

    def place(path: Path) -> tuple[bool, int, str]:
        return not path.stem.startswith("chapter_"), len(path.stem), path.stem

    return sorted(folder.glob("*.ipynb"), key=place)


def chapters_in(folder: Path) -> list[Path]:
    """Return the notebooks of all chapters in a folder: the lecture's in order, then those beyond it."""
    return [*sorted(folder.glob("[0-9]*.ipynb")), *sorted(folder.glob("beyond/*.ipynb"))]


def for_students(notebook: dict) -> dict:
    """Return a problem set without its solutions. Where one stood in a function, there is a comment."""
    return _with_cells(notebook, [_stub(cell) for cell in notebook["cells"] if not _is_solution(cell)])


def with_solutions(notebook: dict) -> dict:
    """Return a problem set with its solutions, and without the marks around them."""
    cells = []
    for cell in notebook["cells"]:
        lines = [line for line in source(cell).splitlines() if line.strip() not in (BEGIN, END)]
        cells.append(cell | {"source": "\n".join(lines).splitlines(keepends=True)})
    return _with_cells(notebook, cells)


def without_solutions(notebook: dict) -> dict:
    """Return a chapter without the solutions of its exercises, and without the cells that check these."""
    cells, in_exercises = [], False
    for cell in notebook["cells"]:
        text = source(cell)
        if cell["cell_type"] == "markdown":
            if headings := re.findall(r"^## (.*)$", text, flags=re.M):
                in_exercises = headings[-1] == "Exercises"
            text = re.sub(r"<details>\n<summary>Solution</summary>.*?</details>\n*", "", text, flags=re.S)
            if not text.strip():
                continue
        elif in_exercises and "exercises.check(" not in text:
            continue
        cells.append(cell | {"source": text.strip("\n").splitlines(keepends=True)})
    return _with_cells(notebook, cells)


def points_table(sets: list[Path]) -> str:
    """Return a table in Markdown: each problem's points and minutes, and their sums."""
    rows = ["| set | problem | function | points | minutes |", "| --- | --- | --- | ---: | ---: |"]
    for path in sets:
        problem_set = load(path)
        for exercise, points, minutes in problem_set.problems:
            name = exercise.answer.__name__
            rows.append(f"| {problem_set.title} | {exercise.number} | `{name}` | {points} | {minutes} |")
        minutes = sum(problem.minutes for problem in problem_set.problems)
        rows.append(f"| {problem_set.title} | all | | {problem_set.points} | {minutes} |")
    return "\n".join(rows) + "\n"


def _is_solution(cell: dict) -> bool:
    return "solution" in cell.get("metadata", {}).get("tags", [])


def _stub(cell: dict) -> dict:
    text = re.sub(rf"{BEGIN}.*?{END}", STUB, source(cell), flags=re.S)
    return cell | {"source": text.splitlines(keepends=True)}


def _with_cells(notebook: dict, cells: list[dict]) -> dict:
    return copy.deepcopy(notebook | {"cells": cells})


def _write(path: Path, notebook: dict) -> Path:
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


if __name__ == "__main__":
    for handout in write(*map(Path, sys.argv[1:4])):
        print(handout)
