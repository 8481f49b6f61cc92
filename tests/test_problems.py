"""The problem sets: solutions are right, each mistake is named, submissions get the points expected."""

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path

import links
import numpy as np
import pytest
from test_language import ALLOWED, OUR_WORDS

from pgcourse.teaching import grading, handouts
from pgcourse.teaching.exercises.engine import cases_of, give_feedback

ROOT = Path(__file__).parents[1]
SETS = handouts.sets_in(ROOT / "problems")
MAX_LINES = 25

if not SETS:
    pytest.skip("the problem sets are kept elsewhere", allow_module_level=True)


@cache
def load(path):
    return grading.load(path)


@cache
def solved(path):
    return grading.read_notebook(path)


MISCONCEPTIONS = [
    (exercise, sentence)
    for path in SETS
    for exercise, _, _ in load(path).problems
    for sentence in exercise.misconceptions
]
WRONG = [(path, *wrong) for path in SETS for wrong in load(path).module.WRONG]
by_set = pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)


def advice(text):
    """What the feedback says after the case, in one line."""
    return " ".join(line for line in text.splitlines()[1:] if line and not line.startswith(" "))


def code(notebook):
    return "\n\n".join(grading.code_cells(notebook))


def prose(notebook):
    return "\n\n".join(grading.source(c) for c in notebook["cells"] if c["cell_type"] == "markdown")


def changed(path, number, right, wrong):
    """A perfect submission with a mistake in one problem."""
    notebook = {"cells": [dict(cell) for cell in solved(path)["cells"]]}
    [cell] = [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == number]
    text = grading.source(cell)
    assert text.count(right) == 1, f"{right!r} must stand once in {number}"
    cell["source"] = text.replace(right, wrong)
    return notebook


@pytest.mark.parametrize(
    ("exercise", "sentence"), MISCONCEPTIONS, ids=[exercise.number for exercise, _ in MISCONCEPTIONS]
)
def test_each_misconception_is_told_from_all_others(exercise, sentence):
    feedback = give_feedback(exercise, exercise.misconceptions[sentence])
    assert not feedback.correct
    assert advice(feedback.text) == sentence


@by_set
def test_a_set_is_complete(path):
    problem_set = load(path)
    assert 4 <= len(problem_set.problems) <= 6
    assert problem_set.points == 20
    assert len(problem_set.module.WRONG) >= 5
    text, minutes = prose(solved(path)), sum(problem.minutes for problem in problem_set.problems)
    kinds = set()
    for exercise, points, minutes_of_one in problem_set.problems:
        assert len(exercise.misconceptions) >= 5
        [(m, p, kind)] = re.findall(
            rf"^\*\*{exercise.number}\*\* \*\((\d+) min, (\d+) points, (\w+)\)\*", text, flags=re.M
        )
        assert (int(m), int(p)) == (minutes_of_one, points)
        kinds.add(kind)
        assert len(cases_of(exercise)) >= 4
    assert kinds == {"derivation", "code", "experiment"}
    assert "Four problems" in text
    assert {75: "an hour and a quarter", 90: "an hour and a half", 105: "an hour and three quarters"}[
        15 * round(minutes / 15)
    ] in text


@by_set
def test_a_perfect_submission_gets_all_points(path):
    """And the solutions' notebook too, which has lost only the marks."""
    for notebook in (solved(path), handouts.with_solutions(solved(path))):
        report = grading.grade_trusted(load(path), notebook)
        assert report.points == report.out_of == 20, str(report)
        assert report.notes == []
    assert handouts.BEGIN not in code(handouts.with_solutions(solved(path)))


@by_set
def test_an_empty_submission_gets_nothing_and_is_told_so(path):
    report = grading.grade_trusted(load(path), handouts.for_students(solved(path)))
    assert report.points == 0
    assert all("returns nothing yet." in mark.text for mark in report.marks)


@pytest.mark.parametrize(
    ("path", "number", "right", "wrong", "sentence"),
    WRONG,
    ids=[f"{number}-{k}" for k, (_, number, *_) in enumerate(WRONG)],
)
def test_a_typically_wrong_submission_loses_its_points_and_is_told_why(path, number, right, wrong, sentence):
    report = grading.grade_trusted(load(path), changed(path, number, right, wrong))
    marks = {mark.number: mark for mark in report.marks}
    assert report.points == 20 - marks[number].out_of, str(report)
    assert advice(marks[number].text).startswith(sentence)


@by_set
def test_a_perfect_submission_gets_all_points_in_a_process_of_its_own(path, tmp_path):
    """With the default limits: all that a set needs can be sent there, read there and done in time."""
    resource = pytest.importorskip("resource")  # not on Windows, where nothing is graded
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = grading.grade(load(path), path)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert report.points == 20, str(report)
    assert report.notes == []
    assert used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime < 20


def test_the_page_for_lecturers_shows_what_is_said():
    if not (page := ROOT / "book" / "teaching.md").exists():
        pytest.skip("the book is elsewhere")
    [path] = [path for path in SETS if path.stem == "chapter_5"]
    report = grading.grade_trusted(load(path), changed(path, *load(path).module.WRONG[2][:3]))
    mark = next(mark for mark in report.marks if mark.number == "5C")
    shown = f"Problem 5C: 0 of 4 points\n{mark.text}\n"
    assert textwrap.indent(shown, "    ") in page.read_text("utf-8"), shown


@by_set
def test_the_example_under_a_function_is_what_it_returns(path):
    namespace = {}
    for cell in grading.code_cells(solved(path)):
        if not cell.startswith("try:"):
            exec(cell, namespace)
        lines = cell.splitlines()
        if handouts.BEGIN in cell:
            call, said = re.fullmatch(r"(.*\))  # ([\d.\-\[\], ]+?)(: .*)?", lines[-1]).groups()[:2]
            assert np.allclose(eval(call, namespace), ast.literal_eval(said), atol=6e-5), eval(
                call, namespace
            )


@by_set
def test_the_students_notebook_has_no_solution(path):
    notebook = handouts.for_students(solved(path))
    assert "Solution" not in prose(notebook)
    assert handouts.BEGIN not in code(notebook)
    assert code(notebook).count(handouts.STUB) == len(load(path).problems)
    functions = {
        node.name: [a.arg for a in node.args.args]
        for cell in grading.code_cells(notebook)[1:]
        for node in ast.parse(cell).body
        if isinstance(node, ast.FunctionDef)
    }
    for exercise, _, _ in load(path).problems:
        answer = exercise.answer
        assert functions[answer.__name__] == list(inspect.signature(answer).parameters)


@by_set
def test_a_notebook_keeps_the_conventions_of_all(path):
    cells = [cell for cell in solved(path)["cells"] if cell["cell_type"] == "code"]
    assert cells[0]["source"] == links.setup_cell()
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert len(grading.source(cell).splitlines()) <= MAX_LINES
    chapter = re.search(r"pgcourse/book/([\w/-]+)\.html", prose(solved(path)))[1]
    assert (ROOT / "book" / f"{chapter}.ipynb").exists()


@by_set
def test_no_word_of_our_own_comes_back(path):
    assert ALLOWED
    said = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", prose(solved(path)), flags=re.S)
    said += " ".join(
        sentence for problem in load(path).problems for sentence in problem.exercise.misconceptions
    )
    found = [
        f"{match[0]!r} ({good}): …{said[max(0, match.start() - 40) : match.end() + 40]!r}…"
        for ours, good in OUR_WORDS.items()
        for match in re.finditer(rf"\b(?:{ours})\b", said, re.I)
    ]
    assert not found, "\n".join(found)
