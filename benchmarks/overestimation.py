"""Overestimation bias: what critics predict for their actors, and the returns realised, of DDPG and TD3.

python benchmarks/overestimation.py [--steps 30000] [--seeds 5] [--n-jobs 2]

Runs of the recipes ``ddpg/pendulum`` and ``td3/pendulum``. Every 2,500 steps the actor plays fifty pendulums
from random angles, without noise. The means over 200 steps of Q(s, μ(s)) and of the discounted returns are
kept in ``pgcourse/experiments/comparisons/overestimation.json``, which chapter 8 draws.
"""

import argparse
import json

import joblib
import numpy as np
import report
import torch

from pgcourse.environments import tasks
from pgcourse.experiments import recipes, records
from pgcourse.maths.returns import reward_to_go

RESULTS = records.COMPARISONS_DIR / "overestimation.json"
ALGORITHMS = {"DDPG": "ddpg/pendulum", "TD3": "td3/pendulum"}
EVALUATION_INTERVAL = 2_500
PENDULUM = tasks.ContinuingTask("Pendulum-v1", n_steps=1)  # without a time limit


def predicted_and_realised_returns(learner, env, n_steps=200, n_more=900):
    """Return Q(s, μ(s)) along the actor's trajectories, and the discounted returns Gₜ that follow.

    Args:
        learner: DDPG or TD3; of twin critics the first is asked. Its γ discounts.
        env: vector environment whose episodes do not end, such as one of ``tasks.ContinuingTask``.
        n_steps: T, the steps at which both are returned.
        n_more: steps after these. What is missing of a return is less than a share γ^n_more.

    Returns:
        Predicted and realised returns, two arrays of shape (n_envs, T).

    Raises:
        ValueError: if an episode ends.

    On no slide; Fujimoto, van Hoof & Meger (2018), section 4.1.
    """
    s, _ = env.reset(seed=0)
    states, rewards = [], []
    for _ in range(n_steps + n_more):
        states.append(s)
        s, r, terminated, truncated, _ = env.step(learner.policy.greedy(s))
        rewards.append(r)
        if (terminated | truncated).any():
            raise ValueError(f"env must not end an episode, got one of {len(rewards)} steps")
    realised = reward_to_go(np.transpose(rewards), learner.config.gamma)[:, :n_steps]
    s = torch.from_numpy(np.stack(states[:n_steps], axis=1)).flatten(0, 1)
    with torch.no_grad():
        predicted = learner.actor_q(s, learner.policy(s))
    return predicted.reshape(realised.shape).numpy(), realised


def train(algorithm, seed, steps):
    """Return [n_steps, mean predicted return, mean realised return] every so many steps."""
    torch.set_num_threads(1)
    learner, env = recipes.get(ALGORITHMS[algorithm]).build(seed), PENDULUM.make_vector_env(50)
    course = []
    while learner.n_steps < steps:
        learner.update()
        if learner.n_steps % EVALUATION_INTERVAL == 0:
            means = (round(float(x.mean()), 2) for x in predicted_and_realised_returns(learner, env))
            course.append([learner.n_steps, *means])
    return course


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30_000, help="training steps of each (default 30,000)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default 5)")
    parser.add_argument(
        "--n-jobs", type=int, default=-1, help="parallel runs; one for each core, unless given"
    )
    args = parser.parse_args()
    runs = [(algorithm, seed) for algorithm in ALGORITHMS for seed in range(args.seeds)]
    courses = joblib.Parallel(args.n_jobs, verbose=10)(
        joblib.delayed(train)(*run, args.steps) for run in runs
    )
    rows = [
        {"algorithm": algorithm, "seed": seed, "course": course}
        for (algorithm, seed), course in zip(runs, courses, strict=True)
    ]
    columns = ["n_steps", "predicted", "realised"]
    results = {"columns": columns, "made": report.provenance(), "rows": rows}
    RESULTS.write_text(json.dumps(results) + "\n", encoding="utf-8")
    show(results)


def show(results):
    report.print_provenance(results["made"])
    report.print_header("predicted (realised), median over seeds", *ALGORITHMS)
    medians = [
        np.median([row["course"] for row in results["rows"] if row["algorithm"] == algorithm], axis=0)
        for algorithm in ALGORITHMS
    ]
    for evaluations in zip(*medians, strict=True):
        cells = (f"{predicted:.0f} ({realised:.0f})" for _, predicted, realised in evaluations)
        report.print_row(f"after {evaluations[0][0]:,.0f} steps", *cells)


if __name__ == "__main__":
    main()
