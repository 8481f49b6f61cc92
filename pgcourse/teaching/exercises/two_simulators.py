"""Exercise T.1: the policy gradient from a game of one's own. ``GAME`` is one for those who do not play."""

from pathlib import Path

import numpy as np

from pgcourse.maths.logistic import sigmoid
from pgcourse.maths.returns import reward_to_go
from pgcourse.teaching.exercises.engine import Cases, Exercise

GAME = Path(__file__).with_name("game.csv")  # as the page Play against the network writes it


def gradient_of_a_point(x, a, r, w, gamma):
    """Return Σₜ Gₜ ∂Lₜ/∂w, shape (n,), of a point with frames x (T, n), actions 0 or 1, and y = σ(w·x)."""
    return ((a - sigmoid(x @ w)) * reward_to_go(r, gamma)) @ x


def _cases(rng: np.random.Generator) -> Cases:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    yield x, np.array([1, 0, 1]), np.array([0.0, 0.0, 1.0]), np.zeros(2), 0.5
    yield x, np.array([1, 0, 0]), np.array([0.0, 0.0, -1.0]), np.array([1.0, -1.0]), 1.0
    for _ in range(6):
        T, n = rng.integers(3, 9, size=2)
        r = np.append(np.zeros(T - 1), rng.choice([-1.0, 1.0]))
        yield (
            rng.integers(-1, 2, (T, n)),
            rng.integers(2, size=T),
            r,
            rng.normal(size=n),
            rng.uniform(0.5, 0.95),
        )


def _gradient(weights=reward_to_go, labels=lambda a: a, mean=False):
    """Return the answer with other weights of the score, other labels, or divided by the number of steps."""

    def wrong(x, a, r, w, gamma):
        gradient = ((labels(a) - sigmoid(x @ w)) * weights(r, gamma)) @ x
        return gradient / len(r) if mean else gradient

    return wrong


_MISCONCEPTIONS = {
    "The discount is missing: Gₜ = Σₖ≥ₜ γᵏ⁻ᵗ rₖ.": _gradient(lambda r, gamma: reward_to_go(r)),
    "Only the step with the reward is learnt from. Multiply each score by its reward-to-go.": (
        _gradient(lambda r, gamma: r)
    ),
    "This is the gradient of the log-likelihood: imitation. The returns are missing.": (
        _gradient(lambda r, gamma: np.ones(len(r)))
    ),
    "You discount from the first step on. The steps before the reward should count most.": (
        _gradient(lambda r, gamma: gamma ** np.arange(len(r)) * r.sum())
    ),
    "You divide by the number of steps. The sum over a point is asked for.": _gradient(mean=True),
    "The label is 1 for UP and 0 for DOWN; yours are the other way round.": _gradient(labels=lambda a: 1 - a),
    "The probabilities are missing: ∂L/∂w = (a − σ(w·x)) x.": (
        lambda x, a, r, w, gamma: (a * reward_to_go(r, gamma)) @ x
    ),
    "You subtract w·x itself. π(UP∣x) is its sigmoid.": (
        lambda x, a, r, w, gamma: ((a - x @ w) * reward_to_go(r, gamma)) @ x
    ),
}

EXERCISES = [Exercise("T.1", gradient_of_a_point, _cases, _MISCONCEPTIONS)]
