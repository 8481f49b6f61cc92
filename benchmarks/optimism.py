"""What critics say of their actors' own course, and what comes: DDPG and TD3 on the pendulum, over seeds.

python benchmarks/optimism.py [--steps 30000] [--seeds 5] [--jobs 2]

All runs are of the recipe ``ddpg/pendulum``. Every 2,500 steps the actor plays fifty pendulums without noise, from random angles. The
means of Q(s, μ(s)) and of the discounted returns, both over 200 steps, are kept in ``pgcourse/comparisons/optimism.json``, which chapter 8
draws.
"""

import argparse
import json

import joblib
import numpy as np
import report
import torch

from pgcourse.algorithms.ddpg import said_and_came
from pgcourse.environments import tasks
from pgcourse.experiments import recipes, records

KEPT = records.COMPARED / "optimism.json"
EVERY = 2_500
ENDLESS = tasks.EndlessTask("Pendulum-v1", 1)


def course(td3, seed, steps):
    """Return [n_steps, said, came] at each look."""
    torch.set_num_threads(1)
    learner, env, found = recipes.get("ddpg/pendulum").build(seed, td3=td3), ENDLESS.make(50), []
    while learner.n_steps < steps:
        learner.update()
        if learner.n_steps % EVERY == 0:
            found.append([learner.n_steps, *(round(float(x.mean()), 2) for x in said_and_came(learner, env))])
    return found


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=30_000, help="of training for each (default 30,000)")
    options.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    options.add_argument(
        "--jobs", type=int, default=-1, help="runs at once; as many as there are cores, unless you say"
    )
    options = options.parse_args()
    runs = [(td3, seed) for td3 in (False, True) for seed in range(options.seeds)]
    courses = joblib.Parallel(options.jobs, verbose=10)(
        joblib.delayed(course)(*run, options.steps) for run in runs
    )
    rows = [
        {"td3": td3, "seed": seed, "course": found} for (td3, seed), found in zip(runs, courses, strict=True)
    ]
    about = {"columns": ["n_steps", "said", "came"], "made": report.made(), "rows": rows}
    KEPT.write_text(json.dumps(about) + "\n", encoding="utf-8")
    show(about)


def show(about):
    report.about(about["made"])
    report.head("said (came), middle over seeds", "DDPG", "TD3")
    courses = [
        np.median([row["course"] for row in about["rows"] if row["td3"] == td3], axis=0)
        for td3 in (False, True)
    ]
    for looks in zip(*courses, strict=True):
        report.row(
            f"after {looks[0][0]:,.0f} steps", *(f"{said:.0f} ({came:.0f})" for _, said, came in looks)
        )


if __name__ == "__main__":
    main()
