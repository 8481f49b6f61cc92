"""Exercises with feedback: ``check`` tries a student's function on unseen cases and names the mistake.

On no slide.
"""

from collections.abc import Callable

from pgcourse import checks
from pgcourse.teaching.exercises import (
    chapter_1,
    chapter_2,
    chapter_3,
    chapter_4,
    chapter_5,
    chapter_6,
    chapter_7,
    chapter_8,
    language_models,
    measuring,
    pixels_and_sac,
    ppo,
    two_simulators,
)
from pgcourse.teaching.exercises.engine import Feedback, give_feedback

_CHAPTERS = chapter_1, chapter_2, chapter_3, chapter_4, chapter_5, chapter_6, chapter_7, chapter_8
_OTHERS = measuring, two_simulators, ppo, language_models, pixels_and_sac
EXERCISES = {exercise.number: exercise for chapter in _CHAPTERS + _OTHERS for exercise in chapter.EXERCISES}


def check(number: str, function: Callable[..., object]) -> Feedback:
    """Return whether a function solves an exercise; if not, on which case it fails, and the likely mistake.

    Args:
        number: of the exercise, such as "4.4", or "M.4" in the study Measuring, "T.1" in Between two
            simulators, "P.2" in the chapter on PPO and "X.2" in that on pixels and SAC.
        function: the student's. One that only returns None counts as not written yet.
    """
    checks.one_of(EXERCISES, number=number)
    if not callable(function):
        raise ValueError(f"function must be your function, without () after its name, got {function!r}")
    return give_feedback(EXERCISES[number], function)
