"""Our actor–critic against A2C of Stable-Baselines3: steps per second, and what is learnt in equally many steps.

pip install stable-baselines3
python benchmarks/actor_critic.py [--steps 300000] [--seeds 5]

Both have the same network, environments, rollout, γ and λ, those of our recipe, on one thread; the peer keeps its own optimiser, RMSProp
with a learning rate of 0.0007 for actor and critic, or has ours, Adam, with the actor's first rate. For each seed all train one after the
other; then each policy plays 100 fresh episodes. Steps per second are the median over the seeds, with everything in them but making the
environments.
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
import report
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv

from pgcourse.experiments import recipes
from pgcourse.maths.statistics import interval
from pgcourse.networks.mlp import one_thread

TASKS = ("actor-critic/cartpole", "actor-critic/lunar-lander")
N_EPISODES = 100


def ours(recipe, steps, seed):
    algorithm = recipe.build(seed)
    begin = time.perf_counter()
    while algorithm.n_steps < steps:
        algorithm.update()
    elapsed = time.perf_counter() - begin
    algorithm.env.close()
    return algorithm.n_steps / elapsed, recipes.actor(algorithm.policy, seed)


def peer(recipe, steps, seed, **optimizer):
    settings = recipe.defaults
    layers = [settings["n_hidden"]] * settings.get("n_layers", 1)
    policy = {"net_arch": {"pi": layers, "vf": layers}, "activation_fn": torch.nn.ReLU}
    one = functools.partial(gymnasium.make, recipe.task.name, disable_env_checker=True)  # as ours
    env = DummyVecEnv([one] * settings["n_envs"])
    options = {
        "n_steps": settings["n_steps"],
        "gamma": settings["gamma"],
        "gae_lambda": settings["lam"],
    } | optimizer
    model = A2C("MlpPolicy", env, policy_kwargs=policy, seed=seed, device="cpu", **options)
    begin = time.perf_counter()
    model.learn(steps)
    elapsed = time.perf_counter() - begin
    env.close()
    return model.num_timesteps / elapsed, lambda s: model.predict(s)[0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300_000, help="of training for each (default 300,000)")
    parser.add_argument("--seeds", type=int, default=5, help="how many, at least 2 (default 5)")
    wanted = parser.parse_args()

    report.about(report.made("stable-baselines3"))
    report.head(
        f"{wanted.steps:,} steps, {wanted.seeds} seeds", "steps/s", "ours/this", "return: IQM and 95 %"
    )
    for name in TASKS:
        recipe = recipes.get(name)
        learners = {
            "ours": ours,
            "SB3, its optimiser": peer,
            "SB3, ours": lambda *run, eta=recipe.defaults["eta"]: peer(
                *run, use_rms_prop=False, learning_rate=eta
            ),
        }
        speeds, scores = ({learner: [] for learner in learners} for _ in range(2))
        for seed in range(wanted.seeds):
            for learner, train in learners.items():
                with one_thread():
                    speed, act = train(recipe, wanted.steps, seed)
                speeds[learner].append(speed)
                scores[learner].append(recipe.task.play(act, N_EPISODES, seed=10_000 + seed).mean())
        for learner in learners:
            speed = np.median(speeds[learner])
            times = np.median(speeds["ours"]) / speed
            report.row(
                f"{recipe.task.name}, {learner}",
                f"{speed:,.0f}",
                f"{times:.2f}",
                str(interval(scores[learner])),
            )


if __name__ == "__main__":
    main()
