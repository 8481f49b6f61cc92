"""Several seeds at once: steps per second of all seeds together, beside Stable-Baselines3 run once a seed.

pip install stable-baselines3
python benchmarks/seeds.py [--seconds 3]

All on one thread of one process. A2C, PPO and DDPG of Stable-Baselines3 have our recipe's networks, numbers
of environments, rollouts and minibatches; with several seeds they run one after the other, at the speed of
one. Ours learns with S seeds at once. Then come the environments alone, 80 of them, with random actions; and
how the time of an update grows with the number of seeds and with the width of the networks. Each figure is
the median of three rounds, in which all take turns.
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
import report
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import A2C, DDPG, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from pgcourse.environments.classic import CLASSIC, ClassicVectorEnv
from pgcourse.experiments import recipes
from pgcourse.networks.mlp import single_thread

RECIPES = (
    "actor-critic/cartpole",
    "actor-critic/acrobot",
    "actor-critic/lunar-lander",
    "ppo/cartpole",
    "ddpg/pendulum",
)
N_SEEDS, N_ROUNDS, N_ENVS = (1, 10, 32), 3, 80
WIDTHS = ((64, 64), (128, 128), (256, 256), (400, 300))


def make_ours(recipe, n_seeds, **overrides):
    """Return a function that makes an update with all seeds, and returns its steps."""
    algorithm = recipe.build(range(n_seeds), **overrides)
    algorithm.update()

    def train():
        before = algorithm.n_steps
        algorithm.update()
        return n_seeds * (algorithm.n_steps - before)

    return train


def make_peer(recipe):
    """Return the same of Stable-Baselines3 for one seed, in parts so long that to begin one costs nothing."""
    settings = recipe.defaults
    layers, name = settings["hidden_sizes"], recipe.task.name
    make_env = functools.partial(gymnasium.make, name, disable_env_checker=True)  # as ours
    env = DummyVecEnv([make_env] * settings["n_envs"])
    if recipe.algorithm == "ddpg":
        options = {"batch_size": settings["batch_size"], "learning_starts": settings["learning_starts"]}
        options |= {"train_freq": 1, "gradient_steps": 1, "policy_kwargs": {"net_arch": layers}}
        model, steps = DDPG("MlpPolicy", env, device="cpu", **options), 200
        model.learn(settings["learning_starts"] + 1)
    else:
        layers = {"net_arch": {"pi": layers, "vf": layers}, "activation_fn": torch.nn.ReLU}
        options = {"n_steps": settings["rollout_length"], "policy_kwargs": layers}
        steps = settings["rollout_length"] * settings["n_envs"]
        if recipe.algorithm == "ppo":
            options |= {"batch_size": settings["minibatch_size"], "n_epochs": settings["n_epochs"]}
            model, steps = PPO("MlpPolicy", env, device="cpu", **options), 10 * steps
        else:
            model, steps = A2C("MlpPolicy", env, device="cpu", **options), 50 * steps

    def train():
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before

    return train


def make_env_loop(env):
    """Return a function that steps an environment with random actions."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]

    def step():
        for a in actions:
            env.step(a)
        return len(actions) * env.num_envs

    return step


def scalar_envs(name):
    """Return Gymnasium's environments, stepped one after the other."""
    make = functools.partial(gymnasium.make, name, disable_env_checker=True)
    return SyncVectorEnv([make] * N_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)


def per_second(loops, seconds):
    """Return what each loop does a second: the median of rounds in which they take turns."""
    rounds = []
    for _ in range(N_ROUNDS):
        rounds.append([])
        for loop in loops:
            begin, n = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - begin) < seconds:
                n += loop()
            rounds[-1].append(n / elapsed)
    return np.median(rounds, axis=0)


def compare_with_peer(seconds):
    columns = [f"S = {n}" for n in N_SEEDS]
    report.print_header(
        "steps a second, all seeds together", "SB3", *columns, *(f"{c} / S = 1" for c in columns[1:])
    )
    for name in RECIPES:
        recipe = recipes.get(name)
        peer, *ours = per_second([make_peer(recipe), *(make_ours(recipe, n) for n in N_SEEDS)], seconds)
        ratios = (f"{speed / ours[0]:.1f}" for speed in ours[1:])
        report.print_row(f"`{name}`", *(f"{speed:,.0f}" for speed in [peer, *ours]), *ratios)


def compare_environments(seconds):
    report.print_header(f"steps a second in {N_ENVS} environments", "Gymnasium", "NumPy", "NumPy/Gymnasium")
    for name in CLASSIC:
        loops = [make_env_loop(env) for env in (scalar_envs(name), ClassicVectorEnv(name, N_ENVS))]
        theirs, ours = per_second(loops, seconds)
        report.print_row(name, f"{theirs:,.0f}", f"{ours:,.0f}", f"{ours / theirs:.0f}")


def compare_widths(seconds):
    report.print_header("ms an update of DDPG, all seeds", *(f"S = {n}" for n in N_SEEDS))
    recipe = recipes.get("ddpg/pendulum")
    for sizes in WIDTHS:
        speeds = per_second([make_ours(recipe, n, hidden_sizes=sizes) for n in N_SEEDS], seconds)
        cells = (f"{1000 * n / speed:,.2f}" for n, speed in zip(N_SEEDS, speeds, strict=True))
        report.print_row("–".join(map(str, sizes)) + " units", *cells)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=3, help="of each measurement in each round (default 3)"
    )
    args = parser.parse_args()
    report.print_provenance(report.provenance("stable-baselines3", "gymnasium"))
    with single_thread():
        compare_with_peer(args.seconds)
        compare_environments(args.seconds)
        compare_widths(args.seconds)


if __name__ == "__main__":
    main()
