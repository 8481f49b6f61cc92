"""Our DQN against that of Stable-Baselines3, on CartPole: what is learnt in equally many steps, and how fast.

pip install stable-baselines3
python benchmarks/dqn.py [--steps 50000] [--seeds 10] [--jobs 2]

All have two hidden layers of 256, mini-batches of 64, γ = 0.99, and half as many turns as steps. The peer has the settings that its own
collection of tuned ones has for CartPole (RL Zoo: 128 turns after every 256 steps), or ours. Each run is on one thread; each policy plays
100 fresh episodes. Steps per second are the median over the seeds, with everything in them but making the environment.
"""

import argparse
import time

import gymnasium
import joblib
import numpy as np
import report
from stable_baselines3 import DQN as Peer

from pgcourse.experiments import recipes
from pgcourse.maths.statistics import interval
from pgcourse.networks.mlp import one_thread

RECIPE = recipes.get("dqn/cartpole")
N_EPISODES = 100


def ours(steps, seed):
    algorithm = RECIPE.build(seed)
    begin = time.perf_counter()
    while algorithm.n_steps < steps:
        algorithm.update()
    return steps / (time.perf_counter() - begin), algorithm.policy.greedy


def peer(steps, seed, **options):
    s = RECIPE.defaults
    options |= {
        "batch_size": s["batch_size"],
        "buffer_size": s["capacity"],
        "gamma": s["gamma"],
        "learning_starts": s["n_random"],
    }
    options |= {"exploration_fraction": s["n_exploring"] / steps, "exploration_final_eps": s["epsilon"]}
    env = gymnasium.make(RECIPE.task.name, disable_env_checker=True)  # as ours
    model = Peer(
        "MlpPolicy", env, policy_kwargs={"net_arch": [s["n_hidden"]] * 2}, seed=seed, device="cpu", **options
    )
    begin = time.perf_counter()
    model.learn(steps)
    return steps / (time.perf_counter() - begin), lambda s: model.predict(s, deterministic=True)[0]


def tuned(steps, seed):
    return peer(
        steps, seed, learning_rate=0.0023, train_freq=256, gradient_steps=128, target_update_interval=10
    )


def as_ours(steps, seed):
    s = RECIPE.defaults

    def falling(left):  # the peer counts down from 1 to 0
        return recipes.harmonic(s["eta"], s["eta_halved"], (1 - left) * steps)

    options = {
        "train_freq": s["every"],
        "gradient_steps": 1,
        "target_update_interval": s["copied"] * s["every"],
    }
    return peer(steps, seed, learning_rate=falling, **options)


LEARNERS = {"ours": ours, "SB3, tuned by its own": tuned, "SB3, our settings": as_ours}


def run(train, steps, seed):
    with one_thread():
        speed, act = train(steps, seed)
    return speed, RECIPE.task.play(act, N_EPISODES, seed=10_000 + seed).mean()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50_000, help="of training for each (default 50,000)")
    parser.add_argument("--seeds", type=int, default=10, help="how many, at least 2 (default 10)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at once; speeds are worth something with 1 only (default)"
    )
    wanted = parser.parse_args()

    jobs = [(name, seed) for seed in range(wanted.seeds) for name in LEARNERS]
    done = joblib.Parallel(wanted.jobs)(
        joblib.delayed(run)(LEARNERS[name], wanted.steps, seed) for name, seed in jobs
    )
    report.about(report.made("stable-baselines3"))
    report.head(
        f"{wanted.steps:,} steps, {wanted.seeds} seeds",
        "steps/s",
        "ours/this",
        "return: IQM and 95 %",
        "each",
    )
    speeds, scores = (
        {name: [r[k] for job, r in zip(jobs, done, strict=True) if job[0] == name] for name in LEARNERS}
        for k in (0, 1)
    )
    for name in LEARNERS:
        speed = np.median(speeds[name])
        each = " ".join(f"{score:.0f}" for score in sorted(scores[name]))
        report.row(
            name,
            f"{speed:,.0f}",
            f"{np.median(speeds['ours']) / speed:.2f}",
            str(interval(scores[name])),
            each,
        )


if __name__ == "__main__":
    main()
