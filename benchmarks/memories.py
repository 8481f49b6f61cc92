"""What one learns who never acts: from all of another's memories, and only from the first of them.

python benchmarks/memories.py [--seeds 5] [--jobs 2]

A teacher trains by the recipe ``ddpg/pendulum``, and keeps what happened. Then pupils with other first weights get its first 1,500, 2,000,
4,000 transitions, or all 10,000, and make 4,500 turns of slide 66 without line 1; two for each. All, and the teacher when it had so many,
are judged by 100 fresh episodes. The scores are kept in ``pgcourse/comparisons/memories.json``, of which chapter 8 tells.
"""

import argparse
import copy
import json

import joblib
import numpy as np
import report
import torch

from pgcourse.algorithms.replay import Batch
from pgcourse.experiments import recipes, records

KEPT = records.COMPARED / "memories.json"
RECIPE = recipes.get("ddpg/pendulum")
FIRST = (1_500, 2_000, 4_000, 10_000)
TURNS, PUPILS = 4_500, 2


def judged(policy):
    return round(float(RECIPE.evaluate(policy, 100, seed=1).mean()), 1)


def lesson(seed):
    """Return for each number of transitions the scores of the teacher then, and of its pupils."""
    torch.set_num_threads(1)
    teacher, at_the_time = RECIPE.build(seed), {}
    while teacher.n_steps < FIRST[-1]:
        teacher.update()
        if teacher.n_steps in FIRST:
            at_the_time[teacher.n_steps] = copy.deepcopy(teacher.policy)
    memories, found = teacher.replay.state_dict(), []
    for n, policy in at_the_time.items():
        part, pupils = Batch(*(memories[name][:n] for name in Batch._fields)), []
        for k in range(PUPILS):
            pupil, rng = RECIPE.build(100 + PUPILS * seed + k), np.random.default_rng(k)
            pupil.replay.add(*part)
            for _ in range(TURNS):
                pupil.learn(pupil.replay.sample(pupil.batch_size, rng))
            pupils.append(judged(pupil.policy))
        found.append({"seed": seed, "n": n, "teacher": judged(policy), "pupils": pupils})
    return found


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=5, help="of teachers (default 5)")
    options.add_argument(
        "--jobs", type=int, default=-1, help="lessons at once; as many as there are cores, unless you say"
    )
    options = options.parse_args()
    lessons = joblib.Parallel(options.jobs, verbose=10)(
        joblib.delayed(lesson)(seed) for seed in range(options.seeds)
    )
    rows = [row for found in lessons for row in found]
    about = {"turns": TURNS, "made": report.made(), "rows": rows}
    KEPT.write_text(json.dumps(about) + "\n", encoding="utf-8")
    show(about)


def show(about):
    report.about(about["made"])
    report.head("transitions", "seed", "teacher then", *(f"pupil {k + 1}" for k in range(PUPILS)))
    for row in sorted(about["rows"], key=lambda row: row["n"]):
        report.row(
            f"{row['n']:,}",
            str(row["seed"]),
            f"{row['teacher']:.0f}",
            *(f"{score:.0f}" for score in row["pupils"]),
        )


if __name__ == "__main__":
    main()
