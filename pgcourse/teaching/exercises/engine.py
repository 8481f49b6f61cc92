"""The feedback on an exercise: run the student's function on unseen cases and recognise the kind of mistake.

Each exercise brings its typical misconceptions, written as functions. If one of them returns the same as the
student's function in every case, the feedback is about that misconception. A wrong sign, scale or shape is
recognised in every exercise.

On no slide.
"""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

Cases = Iterator[tuple[object, ...]]
Result = np.ndarray | Exception | None  # of a function in one case: what it returns or raises


class Exercise(NamedTuple):
    """A function that the student is asked to write, in a chapter or in a problem set."""

    number: str  # such as "4.4" or "P.2"; of a problem "4A" or "PA"
    answer: Callable[..., np.ndarray]  # the student's function has its name and its arguments' names
    cases: Callable[[np.random.Generator], Cases]  # arguments; the first are small enough to follow by hand
    misconceptions: dict[str, Callable[..., np.ndarray]]  # feedback, and a function that makes this mistake


class Feedback(NamedTuple):
    """What the student is told, displayed as its text."""

    correct: bool
    text: str

    def __repr__(self) -> str:
        return self.text


class InvalidResult(Exception):
    """A result that cannot be compared with the expected one: a description, and the feedback."""

    def __init__(self, description: str, feedback: str):
        super().__init__(description)
        self.feedback = feedback


def give_feedback(exercise: Exercise, function: Callable[..., object]) -> Feedback:
    """Compare the student's function with the answer in every case."""
    cases = cases_of(exercise)
    return compare(exercise, cases, [run(function, case) for case in cases])


def cases_of(exercise: Exercise) -> list[tuple[object, ...]]:
    """Return the arguments of all cases, the same ones each time."""
    return list(exercise.cases(np.random.default_rng(0)))


def compare(exercise: Exercise, cases: list[tuple[object, ...]], returned: list[Result]) -> Feedback:
    """Compare what the student's function returned in each case with the answer."""
    expected = [np.asarray(exercise.answer(*case), float) for case in cases]
    kind = "Exercise" if "." in exercise.number else "Problem"
    title = f"{kind} {exercise.number}, {exercise.answer.__name__}:"
    if all(map(_is_nothing, returned)):
        hint = "Write your lines, end them with `return`, and run this cell again."
        return Feedback(False, f"{title} returns nothing yet.\n{hint}")
    correct = [_equal(got, right) for got, right in zip(returned, expected, strict=True)]
    if all(correct):
        return Feedback(True, f"{title} correct in all {len(cases)} cases.")
    k = correct.index(False)
    names = inspect.signature(exercise.answer).parameters
    case = [f"{name} = {_format(value)}" for name, value in zip(names, cases[k], strict=True)]
    case += [f"expected: {_format(expected[k])}", f"returned: {_format(returned[k])}"]
    advice = _misconception(exercise, cases, returned, correct)
    advice = advice or _other_mistake(returned, expected, correct)
    lines = [f"{title} not yet, correct in {sum(correct)} of {len(cases)} cases. The first that fails:"]
    lines += [textwrap.indent(line, "    ") for line in case]
    return Feedback(False, "\n".join([*lines, textwrap.fill(advice, 80, break_on_hyphens=False)]))


def run(function: Callable[..., object], case: tuple[object, ...]) -> Result:
    """Return what a function returns as an array of floats, or the exception it raises."""
    arguments = [np.copy(x) if isinstance(x, np.ndarray) else x for x in case]
    try:
        with warnings.catch_warnings(action="ignore"):
            result = function(*arguments)
    except Exception as error:  # shown to the student, whatever it is
        return error
    if not all(map(_same, arguments, case)):
        advice = "The numbers may be right, but work on a copy, such as `r = r.copy()`."
        return InvalidResult("changed arguments", f"Your function changes its arguments. {advice}")
    try:
        return None if result is None else np.asarray(result, float)
    except (TypeError, ValueError):
        description = f"an object of type {type(result).__name__}"
        return InvalidResult(description, "Your function must return an array of numbers.")


def _same(x: object, y: object) -> bool:
    """Return whether an argument is as it was; NaN is as NaN."""
    floats = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return np.array_equal(x, y, equal_nan=floats)  # type: ignore[arg-type]


def _is_nothing(result: Result) -> bool:
    return result is None or isinstance(result, NotImplementedError)


def _equal(a: Result, b: Result) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return type(a) is type(b)  # both raise the same kind of exception, or return nothing
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)


def _format(value: object) -> str:
    if isinstance(value, Exception):
        return str(value) if isinstance(value, InvalidResult) else f"{type(value).__name__}: {value}"
    if not isinstance(value, np.ndarray):
        return str(value)
    text = np.array2string(value, precision=4, separator=", ", suppress_small=True, threshold=40)
    text = "\n".join(line for line in text.splitlines() if line)  # no gaps between the blocks of three axes
    return text if "\n" not in text else "\n" + textwrap.indent(text, "    ")


def _misconception(exercise, cases, returned, correct) -> str | None:
    """Return the feedback on the misconception that gives the same results, if there is one."""
    every = [True] * len(cases)
    finite = [isinstance(result, np.ndarray) and bool(np.isfinite(result).all()) for result in returned]
    fails_where_finite = any(f and not c for f, c in zip(finite, correct, strict=True))
    made = {text: [run(wrong, case) for case in cases] for text, wrong in exercise.misconceptions.items()}
    # An overflow in some cases may hide what is wrong in all: then only the finite cases are compared.
    for compared in (every, finite) if fails_where_finite else (every,):
        for text, results in made.items():
            if all(_equal(a, b) for a, b, c in zip(returned, results, compared, strict=True) if c):
                return text
    return None


def _other_mistake(returned, expected, correct) -> str:
    """Return feedback on a mistake that can occur in any exercise."""
    result, right = (results[correct.index(False)] for results in (returned, expected))
    if isinstance(result, InvalidResult):
        return result.feedback
    if isinstance(result, Exception):
        return "Your function raises an exception: read the message above."
    if _is_nothing(result):
        return "Your function returns nothing here. Does every branch end with a `return`?"
    if result.shape != right.shape:
        question = "Check the axes of sums and means, and broadcasting."
        if result.shape == right.shape[::-1]:
            question = "Is it transposed?"
        return f"The shape should be {right.shape}, but it is {result.shape}. {question}"
    if not np.isfinite(result).all():
        return "Some values are infinite or NaN. Do you divide by zero, or does an exponential overflow?"
    if all(_equal(x, -y) for x, y in zip(returned, expected, strict=True)):
        return "The sign is wrong everywhere."
    if factor := _common_factor(returned, expected):
        return f"Everything is {factor:.4g} times what it should be."
    if 2 * sum(correct) > len(correct):
        return "Most cases are correct. What is different in this one?"
    return "Work through this case by hand."


def _common_factor(returned, expected) -> float | None:
    """Return the factor by which all results differ from the expected ones, if there is one."""
    for x, y in zip(returned, expected, strict=True):
        if not isinstance(x, np.ndarray) or x.shape != y.shape:
            return None
    x, y = (np.concatenate([array.ravel() for array in arrays]) for arrays in (returned, expected))
    factor = float(x @ y / (y @ y))
    return factor if factor and np.allclose(x, factor * y, rtol=1e-6, atol=1e-9) else None
