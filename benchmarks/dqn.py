"""Our DQN against that of Stable-Baselines3, on CartPole: returns after equally many steps, and speed.

pip install stable-baselines3
python benchmarks/dqn.py [--steps 50000] [--seeds 10] [--n-jobs 2]

All have two hidden layers of 256 units, minibatches of 64, γ = 0.99, and half as many updates as steps. The
peer has the settings of RL Zoo, its own collection of tuned hyperparameters, for CartPole (128 updates after
every 256 steps), or ours. Each run has one thread; each policy is evaluated in 100 fresh episodes. Steps per
second are the median over the seeds. They include everything but making the environment.
"""

import argparse
import time

import gymnasium
import joblib
import numpy as np
import report
from stable_baselines3 import DQN as PeerDQN

from pgcourse.algorithms.config import inverse_time_decay
from pgcourse.experiments import recipes
from pgcourse.maths.statistics import bootstrap_interval
from pgcourse.networks.mlp import single_thread

RECIPE = recipes.get("dqn/cartpole")
N_EPISODES = 100


def train_ours(steps, seed):
    """Return steps per second, and a function from observations to actions."""
    algorithm = RECIPE.build(seed)
    begin = time.perf_counter()
    while algorithm.n_steps < steps:
        algorithm.update()
    return steps / (time.perf_counter() - begin), algorithm.policy.greedy


def train_peer(steps, seed, **options):
    """Return the same of the peer."""
    settings = RECIPE.defaults
    options |= {
        "batch_size": settings["batch_size"],
        "buffer_size": settings["capacity"],
        "gamma": settings["gamma"],
        "learning_starts": settings["learning_starts"],
        "exploration_fraction": settings["exploration_steps"] / steps,
        "exploration_final_eps": settings["epsilon"],
    }
    env = gymnasium.make(RECIPE.task.name, disable_env_checker=True)  # as ours
    policy = {"net_arch": settings["hidden_sizes"]}
    model = PeerDQN("MlpPolicy", env, policy_kwargs=policy, seed=seed, device="cpu", **options)
    begin = time.perf_counter()
    model.learn(steps)
    return steps / (time.perf_counter() - begin), lambda s: model.predict(s, deterministic=True)[0]


def train_peer_as_in_rl_zoo(steps, seed):
    options = {"train_freq": 256, "gradient_steps": 128, "target_update_interval": 10}
    return train_peer(steps, seed, learning_rate=0.0023, **options)


def train_peer_as_ours(steps, seed):
    settings = RECIPE.defaults

    def eta(remaining):  # the peer counts down from 1 to 0
        n_steps = (1 - remaining) * steps
        return inverse_time_decay(settings["eta"], settings["eta_decay_steps"], n_steps)

    options = {
        "train_freq": settings["train_interval"],
        "gradient_steps": 1,
        "target_update_interval": settings["target_update_interval"] * settings["train_interval"],
    }
    return train_peer(steps, seed, learning_rate=eta, **options)


LEARNERS = {
    "ours": train_ours,
    "SB3, settings of RL Zoo": train_peer_as_in_rl_zoo,
    "SB3, our settings": train_peer_as_ours,
}


def run(train, steps, seed):
    """Return steps per second, and the mean return of the policy."""
    with single_thread():
        speed, act = train(steps, seed)
    return speed, RECIPE.task.evaluate(act, N_EPISODES, seed=10_000 + seed).mean()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50_000, help="training steps of each (default 50,000)")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, at least 2 (default 10)")
    parser.add_argument(
        "--n-jobs", type=int, default=1, help="parallel runs (default 1; with more, speeds mean little)"
    )
    args = parser.parse_args()

    runs = [(name, seed) for seed in range(args.seeds) for name in LEARNERS]
    results = joblib.Parallel(args.n_jobs)(
        joblib.delayed(run)(LEARNERS[name], args.steps, seed) for name, seed in runs
    )
    speeds, returns = ({name: [] for name in LEARNERS} for _ in range(2))
    for (name, _), (speed, mean_return) in zip(runs, results, strict=True):
        speeds[name].append(speed)
        returns[name].append(mean_return)
    report.print_provenance(report.provenance("stable-baselines3"))
    columns = ("steps/s", "ours/this", "return: IQM and 95 %", "each run")
    report.print_header(f"{args.steps:,} steps, {args.seeds} seeds", *columns)
    for name in LEARNERS:
        speed = np.median(speeds[name])
        report.print_row(
            name,
            f"{speed:,.0f}",
            f"{np.median(speeds['ours']) / speed:.2f}",
            str(bootstrap_interval(returns[name])),
            " ".join(f"{mean_return:.0f}" for mean_return in sorted(returns[name])),
        )


if __name__ == "__main__":
    main()
