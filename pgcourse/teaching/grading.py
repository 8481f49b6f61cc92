"""Problem sets that mark themselves: the points of a submission, and a sentence for each problem.

A set is two files with one name: a notebook with the problems, their points and solutions, and a Python file
with a list ``PROBLEMS`` of exercises, as in ``pgcourse.teaching.exercises``. A bundle is a zip archive with
what grading needs of the two.

On no slide.
"""

from __future__ import annotations

import json
import types
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pgcourse.teaching import sandbox
from pgcourse.teaching.exercises.engine import Exercise, cases_of, compare

MAX_NOTEBOOK = 10_000_000  # bytes


class Problem(NamedTuple):
    """A function that the student writes, what it is worth, and about how long it takes."""

    exercise: Exercise
    points: int
    minutes: int


class ProblemSet(NamedTuple):
    """The problems of a chapter."""

    name: str  # such as "chapter_5" or "ppo"
    title: str
    problems: list[Problem]
    module: types.ModuleType  # that of the Python file

    @property
    def points(self) -> int:
        """The points of a perfect submission."""
        return sum(problem.points for problem in self.problems)


class Mark(NamedTuple):
    """What a submission gets for a problem, and why."""

    number: str
    points: int
    out_of: int
    text: str


class Report(NamedTuple):
    """What a submission gets. Displayed as text for the student."""

    title: str
    marks: list[Mark]
    violation: str  # why it gets nothing at all, in a sentence, or ""
    notes: list[str]
    protection: list[str] | None  # what the system took from it: "network", "files"; None: it did not run

    @property
    def points(self) -> int:
        return sum(mark.points for mark in self.marks)

    @property
    def out_of(self) -> int:
        return sum(mark.out_of for mark in self.marks)

    @property
    def unprotected(self) -> str:
        """What of yours it could use, because this system does not take it from a process; or nothing."""
        missing = [] if self.protection is None else sorted({"network", "files"} - {*self.protection})
        return f" (with your {' and your '.join(missing)})" if missing else ""

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.points} of {self.out_of} points", *self.notes]
        if self.violation:
            return "\n".join([*lines, f"This submission was not graded. {self.violation}"])
        for mark in self.marks:
            lines += ["", f"Problem {mark.number}: {mark.points} of {mark.out_of} points", mark.text]
        return "\n".join(lines)


def load(path: str | Path) -> ProblemSet:
    """Return a problem set. Its Python file is executed: load only sets that you trust.

    Args:
        path: a bundle (.zip), or one of the two files of a set.

    Raises:
        ValueError: if the notebook and the Python file do not name the same problems.
    """
    path = Path(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as bundle:
            about, code = json.loads(bundle.read("set.json")), bundle.read("problems.py").decode()
    else:
        about = summary(path.with_suffix(".ipynb"))
        code = path.with_suffix(".py").read_text("utf-8")
    module = types.ModuleType(about["name"])
    exec(compile(code, f"{about['name']}.py", "exec"), vars(module))
    exercises = {exercise.number: exercise for exercise in module.PROBLEMS}
    if list(exercises) != list(about["problems"]):
        raise ValueError(f"{path} must grade {', '.join(about['problems'])}, got {', '.join(exercises)}")
    problems = [Problem(exercises[number], **worth) for number, worth in about["problems"].items()]
    return ProblemSet(about["name"], about["title"], problems, module)


def write_bundle(path: str | Path, target: str | Path) -> None:
    """Write the bundle of a set, all that grading needs. It is for those who grade: it has the answers.

    Args:
        path: one of the two files of a set.
        target: the archive to write.
    """
    path = Path(path)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in {
            "set.json": json.dumps(summary(path.with_suffix(".ipynb")), indent=1, ensure_ascii=False),
            "problems.py": path.with_suffix(".py").read_text("utf-8"),
        }.items():
            bundle.writestr(zipfile.ZipInfo(name), text)  # without a date: the same set, the same bytes


def summary(path: Path) -> dict:
    """Return name, title and problems of a set, with points and minutes, from its notebook."""
    notebook = read_notebook(path)
    cells = [(source(cell), cell.get("metadata", {})) for cell in notebook["cells"]]
    problems = {
        about["nbgrader"]["grade_id"]: {
            "points": about["nbgrader"]["points"],
            "minutes": about["pgcourse"]["minutes"],
        }
        for _, about in cells
        if "nbgrader" in about
    }
    return {"name": path.stem, "title": cells[0][0].splitlines()[0].lstrip("# "), "problems": problems}


def read_notebook(path: str | Path) -> dict:
    """Return a notebook as a dictionary.

    Raises:
        ValueError: if it is none, or larger than 10 MB.
    """
    path = Path(path)
    if (size := path.stat().st_size) > MAX_NOTEBOOK:
        raise ValueError(f"{path} must be a notebook of at most {MAX_NOTEBOOK:,} bytes, got {size:,}")
    try:
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            cell["cell_type"], source(cell)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ValueError(f"{path} must be a Jupyter notebook, version 4") from None
    return notebook


def source(cell: dict) -> str:
    """Return the text of a cell."""
    return "".join(cell["source"])


def find(submissions: Iterable[str | Path]) -> list[Path]:
    """Return the notebooks among files and in folders, without the copies that Jupyter keeps of them."""
    found: list[Path] = []
    for path in map(Path, submissions):
        found += sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def grade(problem_set: ProblemSet, path: str | Path, limits: sandbox.Limits | None = None) -> Report:
    """Return the report on a submission, which runs in a process of its own with limits.

    Args:
        problem_set: from ``load``.
        path: the student's notebook. One that cannot be read gets nothing, and a sentence.
        limits: of its process; None for the default.
    """
    try:
        cells = code_cells(read_notebook(path))
    except (ValueError, OSError) as error:
        return _report(problem_set, sandbox.Outcome(violation=f"{error}."))
    return _report(problem_set, sandbox.run_isolated(cells, _calls(problem_set), limits))


def grade_trusted(problem_set: ProblemSet, notebook: dict) -> Report:
    """Return the report on a notebook of your own, which runs in this process, at once and without limits.

    Args:
        problem_set: from ``load``.
        notebook: from ``read_notebook``.
    """
    return _report(problem_set, sandbox.run_here(code_cells(notebook), _calls(problem_set)))


def code_cells(notebook: dict) -> list[str]:
    """Return the code of a notebook, cell by cell."""
    return [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _calls(problem_set: ProblemSet) -> sandbox.Calls:
    exercises = [problem.exercise for problem in problem_set.problems]
    return {exercise.number: (exercise.answer.__name__, cases_of(exercise)) for exercise in exercises}


def _report(problem_set: ProblemSet, outcome: sandbox.Outcome) -> Report:
    marks = []
    for exercise, points, _ in problem_set.problems:
        returned = outcome.results.get(exercise.number)
        if returned is None:
            marks.append(Mark(exercise.number, 0, points, ""))
            continue
        correct, text = compare(exercise, cases_of(exercise), returned)
        marks.append(Mark(exercise.number, points if correct else 0, points, text))
    notes, protection = outcome.notes, outcome.protection
    return Report(problem_set.title, marks, outcome.violation, notes, protection)
