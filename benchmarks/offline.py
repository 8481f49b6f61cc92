"""Offline reinforcement learning on the pendulum: DDPG learns from the transitions of another agent.

python benchmarks/offline.py [--seeds 5] [--n-jobs 2]

A behaviour policy is trained by the recipe ``ddpg/pendulum``, and its transitions are kept. Two learners with
other initial weights get its first 1,500, 2,000, 4,000 transitions, or all 10,000, and make 4,500 updates:
slide 66 without line 1. They, and the behaviour policy as it was after so many steps, are evaluated in 100
fresh episodes. The mean returns are kept in ``pgcourse/experiments/comparisons/offline.json``, which the
study Control suite shows.
"""

import argparse
import copy
import json

import joblib
import numpy as np
import report
import torch

from pgcourse.algorithms.replay import Transitions
from pgcourse.experiments import recipes, records

RESULTS = records.COMPARISONS_DIR / "offline.json"
RECIPE = recipes.get("ddpg/pendulum")
N_TRANSITIONS = (1_500, 2_000, 4_000, 10_000)
N_UPDATES, N_LEARNERS = 4_500, 2


def mean_return(policy):
    return round(float(RECIPE.evaluate(policy, 100, seed=1).mean()), 1)


def train_behaviour_policy(seed):
    """Return all transitions, and for each number of them a copy of the policy at that time."""
    algorithm, policies = RECIPE.build(seed), {}
    while algorithm.n_steps < N_TRANSITIONS[-1]:
        algorithm.update()
        if algorithm.n_steps in N_TRANSITIONS:
            policies[algorithm.n_steps] = copy.deepcopy(algorithm.policy)
    return algorithm.replay.stored(), policies


def train_offline(transitions, seed, rng):
    """Return the policy of a learner that never acts."""
    learner = RECIPE.build(seed)
    learner.replay.add(*transitions)
    for _ in range(N_UPDATES):
        learner.learn(learner.replay.sample(learner.config.batch_size, rng))
    return learner.policy


def compare(seed):
    """Return for each number of transitions the mean returns of the behaviour policy and of the learners."""
    torch.set_num_threads(1)
    transitions, behaviour_policies = train_behaviour_policy(seed)
    rows = []
    for n, behaviour_policy in behaviour_policies.items():
        first = Transitions(*(column[:n] for column in transitions))
        policies = [
            train_offline(first, 100 + N_LEARNERS * seed + k, np.random.default_rng(k))
            for k in range(N_LEARNERS)
        ]
        offline = [mean_return(policy) for policy in policies]
        rows.append({"seed": seed, "n": n, "behaviour": mean_return(behaviour_policy), "offline": offline})
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="behaviour policies (default 5)")
    parser.add_argument(
        "--n-jobs", type=int, default=-1, help="seeds in parallel; one for each core, unless given"
    )
    args = parser.parse_args()
    rows_by_seed = joblib.Parallel(args.n_jobs, verbose=10)(
        joblib.delayed(compare)(seed) for seed in range(args.seeds)
    )
    rows = [row for rows in rows_by_seed for row in rows]
    results = {"updates": N_UPDATES, "made": report.provenance(), "rows": rows}
    RESULTS.write_text(json.dumps(results) + "\n", encoding="utf-8")
    show(results)


def show(results):
    report.print_provenance(results["made"])
    learners = [f"offline {k + 1}" for k in range(N_LEARNERS)]
    report.print_header("transitions", "seed", "behaviour policy", *learners)
    for row in sorted(results["rows"], key=lambda row: row["n"]):
        returns = (row["behaviour"], *row["offline"])
        report.print_row(f"{row['n']:,}", str(row["seed"]), *(f"{G:.0f}" for G in returns))


if __name__ == "__main__":
    main()
