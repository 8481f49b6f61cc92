"""Exercises know what is right, tell typical mistakes apart, and are in the chapters with solutions that they accept."""

import ast
import inspect
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from pgcourse.teaching.exercises import EXERCISES, check

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = {path.name[1]: nbformat.read(path, as_version=4).cells for path in sorted(BOOK.glob("0*.ipynb"))}
MISTAKES = [
    (number, sentence, wrong)
    for number, exercise in EXERCISES.items()
    for sentence, wrong in exercise.mistakes
]


def end(verdict):
    """What it says after the case, in one line."""
    return " ".join(line for line in verdict.text.splitlines()[1:] if not line.startswith(" "))


@pytest.mark.parametrize(
    ("number", "sentence", "wrong"), MISTAKES, ids=lambda x: x if isinstance(x, str) and len(x) == 3 else ""
)
def test_each_mistake_is_told_from_all_others(number, sentence, wrong):
    verdict = check(number, wrong)
    assert not verdict.right
    assert end(verdict) == sentence


def test_no_two_mistakes_of_an_exercise_are_called_the_same():
    for exercise in EXERCISES.values():
        sentences = [sentence for sentence, _ in exercise.mistakes]
        assert len(sentences) == len(set(sentences)) >= 5


@pytest.mark.parametrize("number", EXERCISES)
def test_the_chapter_has_the_exercise_and_its_solution_is_right(number):
    cells = CHAPTERS[number[0]]
    [k] = [
        k for k, cell in enumerate(cells) if cell.cell_type == "code" and f'check("{number}"' in cell.source
    ]
    stub = next(node for node in ast.parse(cells[k].source).body if isinstance(node, ast.FunctionDef))
    answer = EXERCISES[number].answer
    assert stub.name == answer.__name__
    assert [a.arg for a in stub.args.args] == list(inspect.signature(answer).parameters)
    assert f"**{number}**" in cells[k - 1].source.split("\n\n")[-1]
    namespace = {"np": np}
    exec(cells[k].source.replace("exercises.check", "(lambda *_: None)"), namespace)
    assert check(number, namespace[stub.name]).text.startswith(
        f"Exercise {number}, {stub.name}: returns nothing yet."
    )
    [solution] = re.findall(
        r"^<details>\n<summary>Solution</summary>\n\n```python\n(.*?)```", cells[k + 1].source, flags=re.S
    )[:1]
    exec(solution, namespace)
    assert check(number, namespace[stub.name]).text.startswith(
        f"Exercise {number}, {stub.name}: right, in all of "
    )


def in_place(r, gamma):
    for i in range(len(r) - 2, -1, -1):
        r[i] += gamma * r[i + 1]
    return r


def right(r, gamma):
    return EXERCISES["4.4"].answer(r, gamma)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda r, gamma: -right(r, gamma), "The sign is the wrong way round, everywhere."),
        (lambda r, gamma: 3 * right(r, gamma), "Everything is 3 times what it should be."),
        (
            lambda r, gamma: right(r, gamma)[:, None],
            "The shape should be (3,), and is (3, 1): along which axis",
        ),
        (lambda r, gamma: right(r, gamma) / 0, "There are numbers that are none"),
        (lambda r, gamma: r[7], "It does not get to its end: read the message above."),
        (lambda r, gamma: "G", "What is asked for is an array of numbers."),
        (in_place, "The numbers may be right, but begin with a copy"),
        (
            lambda r, gamma: right(r, gamma) if gamma == 0.5 else None,
            "Here it returns nothing: is there a `return`",
        ),
        (lambda r, gamma: right(r, min(gamma, 0.93)), "Most cases are right. What is different in this one?"),
        (lambda r, gamma: right(r, min(gamma, 0.5)), "Follow this case with a pencil."),
        (lambda r, gamma: right(r, gamma) + 1, "Follow this case with a pencil."),
    ],
)
def test_mistakes_that_can_be_made_anywhere(wrong, said):
    verdict = check("4.4", wrong)
    assert not verdict.right
    assert end(verdict).startswith(said)


def test_a_verdict_shows_the_first_case_that_went_wrong():
    assert repr(check("4.4", lambda r, gamma: right(r, 1.0))).splitlines() == [
        "Exercise 4.4, to_go: not yet; right in 1 of 10 cases. For",
        "    r = [0., 0., 1.]",
        "    gamma = 0.5",
        "    expected: [0.25, 0.5 , 1.  ]",
        "    returned: [1., 1., 1.]",
        "The discount is missing.",
    ]
    assert "returned: IndexError: index 7 is out of bounds" in check("4.4", lambda r, gamma: r[7]).text
    assert "returned: something of type str" in check("4.4", lambda r, gamma: "G").text
    assert "returned: what it was given has changed" in check("4.4", in_place).text
    assert (
        "The shape should be (1, 2), and is (2, 1): is it transposed?"
        in check("8.5", lambda s, dQ_da: s.T @ dQ_da).text
    )


def test_a_mistake_is_recognised_beside_an_overflow():
    """Exponentials of 900 in one case, and in all the others the sum over the wrong axis."""
    verdict = check(
        "1.4", lambda q, temperature: np.exp(q / temperature) / np.exp(q / temperature).sum(axis=0)
    )
    assert (
        end(verdict) == "The sum goes over the states. Each row is a state of its own, and has to sum to 1."
    )


def test_what_returns_nothing_is_not_written_yet():
    def unfinished(r, gamma):
        raise NotImplementedError

    for stub in (unfinished, lambda r, gamma: None):
        verdict = check("4.4", stub)
        assert not verdict.right
        assert (
            verdict.text
            == "Exercise 4.4, to_go: returns nothing yet.\nWrite it, end it with `return`, and run this cell again."
        )


@pytest.mark.parametrize(
    ("number", "function", "message"),
    [
        ("4.9", right, "^number must be one of 1.4, 2.4, .* 9.4, got '4.9'$"),
        (
            "4.4",
            np.zeros(3),
            "^function must be the function that you wrote, got array.*; without brackets behind its name$",
        ),
    ],
)
def test_bad_arguments(number, function, message):
    with pytest.raises(ValueError, match=message):
        check(number, function)
