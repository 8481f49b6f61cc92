"""Exercises accept correct solutions, those of the chapters among them, and tell misconceptions apart."""

import ast
import inspect
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from pgcourse.teaching.exercises import EXERCISES, check

BOOK = Path(__file__).parents[1] / "book"
PAGES = {path.name[1]: path for path in BOOK.glob("0*.ipynb")}
PAGES |= {name[0].upper(): BOOK / "studies" / f"{name}.ipynb" for name in ("measuring", "two-simulators")}
BEYOND = BOOK / "beyond"
PAGES |= {"P": BEYOND / "ppo.ipynb", "L": BEYOND / "language-models.ipynb"}
PAGES |= {"X": BEYOND / "pixels-and-sac.ipynb"}
CHAPTERS = {number: nbformat.read(path, as_version=4).cells for number, path in PAGES.items()}
MISCONCEPTIONS = [
    (number, sentence, wrong)
    for number, exercise in EXERCISES.items()
    for sentence, wrong in exercise.misconceptions.items()
]


def advice(feedback):
    """What the feedback says after the case, in one line."""
    return " ".join(line for line in feedback.text.splitlines()[1:] if not line.startswith(" "))


@pytest.mark.parametrize(
    ("number", "sentence", "wrong"),
    MISCONCEPTIONS,
    ids=lambda x: x if isinstance(x, str) and len(x) == 3 else "",
)
def test_each_misconception_is_told_from_all_others(number, sentence, wrong):
    feedback = check(number, wrong)
    assert not feedback.correct
    assert advice(feedback) == sentence


def test_each_exercise_knows_several_misconceptions():
    for exercise in EXERCISES.values():
        assert len(exercise.misconceptions) >= 5


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
        f"Exercise {number}, {stub.name}: correct in all "
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
        (lambda r, gamma: -right(r, gamma), "The sign is wrong everywhere."),
        (lambda r, gamma: 3 * right(r, gamma), "Everything is 3 times what it should be."),
        (
            lambda r, gamma: right(r, gamma)[:, None],
            "The shape should be (3,), but it is (3, 1). Check the axes",
        ),
        (lambda r, gamma: right(r, gamma) / 0, "Some values are infinite or NaN."),
        (lambda r, gamma: r[7], "Your function raises an exception: read the message above."),
        (lambda r, gamma: "G", "Your function must return an array of numbers."),
        (in_place, "Your function changes its arguments. The numbers may be right, but work on a copy"),
        (
            lambda r, gamma: right(r, gamma) if gamma == 0.5 else None,
            "Your function returns nothing here. Does every branch end with a `return`?",
        ),
        (
            lambda r, gamma: right(r, min(gamma, 0.93)),
            "Most cases are correct. What is different in this one?",
        ),
        (lambda r, gamma: right(r, min(gamma, 0.5)), "Work through this case by hand."),
        (lambda r, gamma: right(r, gamma) + 1, "Work through this case by hand."),
    ],
)
def test_mistakes_that_can_be_made_anywhere(wrong, said):
    feedback = check("4.4", wrong)
    assert not feedback.correct
    assert advice(feedback).startswith(said)


def test_feedback_shows_the_first_case_that_fails():
    assert repr(check("4.4", lambda r, gamma: right(r, 1.0))).splitlines() == [
        "Exercise 4.4, discounted_reward_to_go: not yet, correct in 1 of 10 cases. The first that fails:",
        "    r = [0., 0., 1.]",
        "    gamma = 0.5",
        "    expected: [0.25, 0.5 , 1.  ]",
        "    returned: [1., 1., 1.]",
        "The discount is missing.",
    ]
    assert "returned: IndexError: index 7 is out of bounds" in check("4.4", lambda r, gamma: r[7]).text
    assert "returned: an object of type str" in check("4.4", lambda r, gamma: "G").text
    assert "returned: changed arguments" in check("4.4", in_place).text
    assert (
        "The shape should be (1, 2), but it is (2, 1). Is it transposed?"
        in check("8.5", lambda s, dQ_da: s.T @ dQ_da).text
    )


def test_a_misconception_is_recognised_beside_an_overflow():
    """Exponentials of 900 in one case, and in all the others the sum over the wrong axis."""
    feedback = check(
        "1.4", lambda q, temperature: np.exp(q / temperature) / np.exp(q / temperature).sum(axis=0)
    )
    assert advice(feedback) == "Each row should sum to 1, but the columns do."


def test_a_function_that_returns_nothing_is_not_written_yet():
    def unfinished(r, gamma):
        raise NotImplementedError

    for stub in (unfinished, lambda r, gamma: None):
        feedback = check("4.4", stub)
        assert not feedback.correct
        assert feedback.text.splitlines() == [
            "Exercise 4.4, discounted_reward_to_go: returns nothing yet.",
            "Write your lines, end them with `return`, and run this cell again.",
        ]


@pytest.mark.parametrize(
    ("number", "function", "message"),
    [
        ("4.9", right, "^number must be one of 1.4, 2.4, .* X.7, got '4.9'$"),
        (
            "4.4",
            np.zeros(3),
            r"^function must be your function, without \(\) after its name, got array.*$",
        ),
    ],
)
def test_bad_arguments(number, function, message):
    with pytest.raises(ValueError, match=message):
        check(number, function)
