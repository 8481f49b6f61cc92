"""Credits of many episodes at once, and estimates made of them, against the obvious loops over steps, in one run, on the same numbers.

python benchmarks/returns.py
"""

import os
import timeit

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of them

import numpy as np
import report

from pgcourse.environments import worlds
from pgcourse.maths.estimators import score_function
from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import (
    batch_mean,
    leave_one_out,
    mean_by_state,
    reward_to_go,
    standardized,
    td_error,
    total_return,
)

GAMMA = 0.97


def to_go(r):
    G, later = np.zeros(len(r)), 0.0
    for i in reversed(range(len(r))):
        later = r[i] + GAMMA * later
        G[i] = later
    return G


def total(r):
    G = 0.0
    for i, r_i in enumerate(r):
        G += GAMMA**i * r_i
    return [G for _ in r]


def delta(r, v):
    return [r_i + GAMMA * v[i + 1] - v[i] for i, r_i in enumerate(r)]


def steps_of(G, but=None):
    return [G_i for f, row in enumerate(G) if f != but for G_i in row]


def mean(numbers):
    s = 0.0
    for number in numbers:
        s += number
    return s / len(numbers)


def by_state(G, x):
    sums, counts = {}, {}
    for row, seen in zip(G, x, strict=True):
        for G_i, x_i in zip(row, seen, strict=True):
            sums[x_i] = sums.get(x_i, 0.0) + G_i
            counts[x_i] = counts.get(x_i, 0) + 1
    return [[sums[x_i] / counts[x_i] for x_i in seen] for seen in x]


def whitened(G):
    all_steps = steps_of(G)
    b = mean(all_steps)
    deviation = mean([(G_i - b) ** 2 for G_i in all_steps]) ** 0.5
    return [[(G_i - b) / deviation for G_i in row] for row in G]


def estimates(w, G, x, a):
    pi, found = softmax(w), []
    for row, seen, done in zip(G, x, a, strict=True):
        g = np.zeros_like(w)
        for G_i, x_i, a_i in zip(row, seen, done, strict=True):
            score = -pi[x_i]
            score[a_i] += 1
            g[x_i] += G_i * score
        found.append(g)
    return found


def mean_time(f):
    n, seconds = timeit.Timer(f).autorange()
    return seconds / n


def main():
    world, w = worlds.grid(horizon=200), np.zeros((9, 4))
    e = world.sample(w, 100, np.random.default_rng(0))  # about as many steps as a batch of Pong
    live, G = e.live, reward_to_go(e.r, GAMMA)
    v = np.random.default_rng(1).normal(size=(e.r.shape[0], e.r.shape[1] + 1))

    def ragged(array):
        """The same numbers for the loops, an array for each episode."""
        return [row[:n] for row, n in zip(array, live.sum(axis=1), strict=True)]

    r, x, a, G_e = (ragged(array) for array in (e.r, e.x, e.a, G))
    v_e = [row[: n + 1] for row, n in zip(v, live.sum(axis=1), strict=True)]

    def same(baseline):
        return [[baseline] * len(row) for row in G_e]

    credits = {
        "total_return": (lambda: total_return(e.r, GAMMA), lambda: [total(row) for row in r]),
        "reward_to_go": (lambda: reward_to_go(e.r, GAMMA), lambda: [to_go(row) for row in r]),
        "td_error": (
            lambda: td_error(e.r, v, GAMMA),
            lambda: [delta(*both) for both in zip(r, v_e, strict=True)],
        ),
        "batch_mean": (lambda: batch_mean(G, live), lambda: same(mean(steps_of(G_e)))),
        "leave_one_out": (
            lambda: leave_one_out(G, live),
            lambda: [[mean(steps_of(G_e, i))] * len(row) for i, row in enumerate(G_e)],
        ),
        "mean_by_state": (lambda: mean_by_state(G, e.x, live), lambda: by_state(G_e, x)),
        "standardized": (lambda: standardized(G, live), lambda: whitened(G_e)),
    }
    report.about(report.made())
    print(
        f"\n{len(live)} episodes of 1 to {live.sum(axis=1).max()} steps, {live.sum():,} in all; padded, {live.size:,}"
    )
    report.head("", "at once", "loops", "loops/at once", "with the score function")
    for name, (at_once, loops) in credits.items():
        whole = (
            lambda at_once=at_once: score_function(w, e, at_once()),
            lambda loops=loops: estimates(w, loops(), x, a),
        )
        for row, other, taken in zip(at_once(), loops(), live, strict=True):
            np.testing.assert_allclose(row[taken], other, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(whole[0](), whole[1](), rtol=1e-9, atol=1e-9)
        fast, slow, fast_whole, slow_whole = (mean_time(f) for f in (at_once, loops, *whole))
        times = (f"{1e3 * seconds:.2f} ms" for seconds in (fast, slow))
        report.row(f"`{name}`", *times, f"{slow / fast:.0f}", f"{slow_whole / fast_whole:.0f}")


if __name__ == "__main__":
    main()
