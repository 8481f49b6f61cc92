"""Exercise 3.4: the return of each point of Pong, which multiplies the score of its steps."""

import numpy as np

from pgcourse.maths.returns import reward_to_go, total_return
from pgcourse.teaching.exercises.engine import Cases, Exercise


def point_return(r):
    """Return for each step of a game, r (T,), the return of its point; 0 if the point has not ended."""
    return _discounted(r, 1.0)


def _cases_3_4(rng: np.random.Generator) -> Cases:
    yield (np.array([0.0, 0.0, -1.0]),)
    yield (np.array([0.0, 1.0, 0.0, 0.0, -1.0]),)
    yield (np.array([-1.0, 0.0, 1.0, 0.0]),)
    for _ in range(7):
        yield (rng.choice([-1.0, 0, 0, 0, 1], 20),)


def _discounted(r, gamma):
    G, next_G = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        G[t] = next_G = r[t] or gamma * next_G
    return G


def _previous_point(r):
    G, last = np.zeros(len(r)), 0.0
    for t in range(len(r)):
        G[t] = last = r[t] or last
    return G


_MISCONCEPTIONS_3_4 = {
    "Only the last step of a point gets its return. The steps before it should get it too.": lambda r: r,
    "The sum runs on into later points. A point is an episode of its own.": lambda r: reward_to_go(r),
    "Every step gets the return of the whole game. Here a point is an episode.": lambda r: total_return(r),
    "Steps get the return of the previous point. They should get that of their own.": _previous_point,
    "You sum the rewards so far. A step should get the reward that ends its point.": lambda r: np.cumsum(r),
    "The step that ends a point gets the return of the next one. It belongs to the point that it ends.": (
        lambda r: np.append(point_return(r)[1:], 0.0)
    ),
    "The step that ends a point gets 0. It belongs to that point.": lambda r: point_return(r) * (r == 0),
    "You discount. Here all steps of a point get the same return.": lambda r: _discounted(r, 0.99),
    "The last steps belong to a point that has not ended yet: they get 0.": (
        lambda r: np.where(np.cumsum(r[::-1] != 0)[::-1] == 0, np.append(0, r[r != 0])[-1], point_return(r))
    ),
}

EXERCISES = [Exercise("3.4", point_return, _cases_3_4, _MISCONCEPTIONS_3_4)]
