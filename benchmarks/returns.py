"""Returns, baselines and gradient estimates of many episodes at once, against the obvious loops over steps.

python benchmarks/returns.py

Both compute the same numbers, in the same run.
"""

import argparse
import os
import timeit

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of them

import numpy as np
import report

from pgcourse.environments import worlds
from pgcourse.maths.estimators import score_function
from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import (
    batch_mean_baseline,
    leave_one_out_baseline,
    reward_to_go,
    standardize,
    state_mean_baseline,
    total_return,
)
from pgcourse.maths.td import td_error

GAMMA = 0.97

# With loops: an episode is an array of T numbers, and several are a list of such arrays.


def loop_reward_to_go(r):
    G, next_G = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        next_G = r[t] + GAMMA * next_G
        G[t] = next_G
    return G


def loop_total_return(r):
    G = 0.0
    for t, r_t in enumerate(r):
        G += GAMMA**t * r_t
    return [G for _ in r]


def loop_td_error(r, v):
    return [r_t + GAMMA * v[t + 1] - v[t] for t, r_t in enumerate(r)]


def all_steps(G, excluded=None):
    return [G_t for e, row in enumerate(G) if e != excluded for G_t in row]


def loop_mean(numbers):
    total = 0.0
    for number in numbers:
        total += number
    return total / len(numbers)


def loop_state_mean(G, observation):
    sums, counts = {}, {}
    for row, observed in zip(G, observation, strict=True):
        for G_t, o_t in zip(row, observed, strict=True):
            sums[o_t] = sums.get(o_t, 0.0) + G_t
            counts[o_t] = counts.get(o_t, 0) + 1
    return [[sums[o_t] / counts[o_t] for o_t in observed] for observed in observation]


def loop_standardize(G):
    numbers = all_steps(G)
    b = loop_mean(numbers)
    deviation = loop_mean([(G_t - b) ** 2 for G_t in numbers]) ** 0.5
    return [[(G_t - b) / deviation for G_t in row] for row in G]


def loop_score_function(w, G, observation, a):
    pi, estimates = softmax(w), []
    for row, observed, actions in zip(G, observation, a, strict=True):
        g = np.zeros_like(w)
        for G_t, o_t, a_t in zip(row, observed, actions, strict=True):
            score = -pi[o_t]
            score[a_t] += 1
            g[o_t] += G_t * score
        estimates.append(g)
    return estimates


def mean_time(function):
    n, seconds = timeit.Timer(function).autorange()
    return seconds / n


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    mdp, w = worlds.windy_grid(horizon=200), np.zeros((9, 4))
    e = mdp.sample_episodes(w, 100, np.random.default_rng(0))  # about as many steps as a batch of Pong
    mask, G = e.mask, reward_to_go(e.r, GAMMA)
    v = np.random.default_rng(1).normal(size=(e.r.shape[0], e.r.shape[1] + 1))
    v_t, next_v, terminated = v[:, :-1], v[:, 1:], np.zeros(e.r.shape, bool)  # every step bootstraps

    def ragged(array):
        """Return the same numbers for the loops, an array for each episode."""
        return [row[:n] for row, n in zip(array, mask.sum(axis=1), strict=True)]

    r, observation, a, G_e = (ragged(array) for array in (e.r, e.observation, e.a, G))
    v_e = [row[: n + 1] for row, n in zip(v, mask.sum(axis=1), strict=True)]

    def everywhere(baseline):
        return [[baseline] * len(row) for row in G_e]

    functions = {
        "total_return": (lambda: total_return(e.r, GAMMA), lambda: [loop_total_return(row) for row in r]),
        "reward_to_go": (lambda: reward_to_go(e.r, GAMMA), lambda: [loop_reward_to_go(row) for row in r]),
        "td_error": (
            lambda: td_error(e.r, v_t, next_v, terminated, GAMMA),
            lambda: [loop_td_error(*episode) for episode in zip(r, v_e, strict=True)],
        ),
        "batch_mean_baseline": (
            lambda: batch_mean_baseline(G, mask),
            lambda: everywhere(loop_mean(all_steps(G_e))),
        ),
        "leave_one_out_baseline": (
            lambda: leave_one_out_baseline(G, mask),
            lambda: [[loop_mean(all_steps(G_e, k))] * len(row) for k, row in enumerate(G_e)],
        ),
        "state_mean_baseline": (
            lambda: state_mean_baseline(G, e.observation, mask),
            lambda: loop_state_mean(G_e, observation),
        ),
        "standardize": (lambda: standardize(G, mask), lambda: loop_standardize(G_e)),
    }
    report.print_provenance(report.provenance())
    steps = f"1 to {mask.sum(axis=1).max()} steps, {mask.sum():,} in all; padded, {mask.size:,}"
    print(f"\n{len(mask)} episodes of {steps}")
    report.print_header("", "at once", "loops", "loops/at once", "with the score function")
    for name, (at_once, loops) in functions.items():
        estimate = (
            lambda at_once=at_once: score_function(w, e, at_once()),
            lambda loops=loops: loop_score_function(w, loops(), observation, a),
        )
        for row, expected, taken in zip(at_once(), loops(), mask, strict=True):
            np.testing.assert_allclose(row[taken], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(estimate[0](), estimate[1](), rtol=1e-9, atol=1e-9)
        fast, slow, fast_estimate, slow_estimate = (mean_time(f) for f in (at_once, loops, *estimate))
        times = (f"{1e3 * seconds:.2f} ms" for seconds in (fast, slow))
        report.print_row(f"`{name}`", *times, f"{slow / fast:.0f}", f"{slow_estimate / fast_estimate:.0f}")


if __name__ == "__main__":
    main()
