"""Exercise 5.4: the score function of a tabular softmax policy."""

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def score_of_step(w, s, a):
    """Return ∂ log π(a∣s)/∂w, an array like the table w of logits, which has a row for each state."""
    return _in_row(w, s, np.eye(w.shape[1])[a] - softmax(w[s]))


def _cases_5_4(rng: np.random.Generator) -> Cases:
    yield np.zeros((2, 2)), 0, 1
    yield np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]]), 1, 0
    for _ in range(8):
        n, k = rng.integers(2, 5, 2)
        yield rng.normal(size=(n, k)), int(rng.integers(n)), int(rng.integers(k))


def _in_row(w, s, values):
    table = np.zeros_like(w)
    table[s] = values
    return table


_MISCONCEPTIONS_5_4 = {
    "The sign is wrong: this makes the action less probable.": lambda w, s, a: -score_of_step(w, s, a),
    "This is ∂π/∂w. For ∂ log π/∂w, divide by π.": lambda w, s, a: softmax(w[s])[a] * score_of_step(w, s, a),
    "The term −π is missing: raising one logit lowers the probabilities of all other actions.": (
        lambda w, s, a: _in_row(w, s, np.eye(w.shape[1])[a])
    ),
    "The rows of the other states should be 0: π(a|s) does not depend on them.": (
        lambda w, s, a: np.eye(w.shape[1])[a] - softmax(w)
    ),
    "This is only row s. Return an array like w, zero elsewhere.": lambda w, s, a: score_of_step(w, s, a)[s],
    "The softmax runs over the states. It should run over the actions, along a row of w.": (
        lambda w, s, a: _in_row(w, s, np.eye(w.shape[1])[a] - softmax(w.T).T[s])
    ),
    "Only the logit of action a has a derivative here. For those of the other actions it is −π.": (
        lambda w, s, a: score_of_step(w, s, a) * np.eye(w.shape[1])[a]
    ),
    "The softmax runs over the whole table. It should run over the actions of state s.": (
        lambda w, s, a: _in_row(w, s, np.eye(w.shape[1])[a] - softmax(w.ravel()).reshape(w.shape)[s])
    ),
}

EXERCISES = [Exercise("5.4", score_of_step, _cases_5_4, _MISCONCEPTIONS_5_4)]
