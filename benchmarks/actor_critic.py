"""Our actor–critic against A2C of Stable-Baselines3: steps per second, and returns after equally many steps.

pip install stable-baselines3
python benchmarks/actor_critic.py [--steps 300000] [--seeds 5]

All have eight environments and one thread. The peer has the settings of RL Zoo, a collection of tuned
hyperparameters: rollouts of 5 steps, λ = 1, RMSProp, two hidden layers of 64 units. Or it has the networks,
rollout length, γ and λ of our recipe, with its own optimiser, RMSProp with a learning rate of 0.0007 for
actor and critic, or ours, Adam with the initial learning rate of our actor. For each seed all are trained one
after the other; then each policy is evaluated in 100 fresh episodes. Steps per second are the median over the
seeds. They include everything but making the environments.
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
from pgcourse.maths.statistics import bootstrap_interval
from pgcourse.networks.mlp import single_thread

RECIPES = ("actor-critic/cartpole", "actor-critic/lunar-lander")
N_EPISODES = 100
RL_ZOO = {  # https://github.com/DLR-RM/rl-baselines3-zoo/blob/02846e4/hyperparams/a2c.yml
    "CartPole-v1": {"ent_coef": 0.0},
    "LunarLander-v3": {"gamma": 0.995, "learning_rate": lambda left: 0.00083 * left, "ent_coef": 1e-5},
}


def train_ours(recipe, steps, seed):
    """Return steps per second, and a function from observations to actions."""
    algorithm = recipe.build(seed)
    begin = time.perf_counter()
    while algorithm.n_steps < steps:
        algorithm.update()
    elapsed = time.perf_counter() - begin
    algorithm.env.close()
    return algorithm.n_steps / elapsed, recipes.actor(algorithm.policy, seed)


def train_peer(recipe, steps, seed, **options):
    """Return the same of A2C."""
    settings = recipe.defaults
    make_env = functools.partial(gymnasium.make, recipe.task.name, disable_env_checker=True)  # as ours
    env = DummyVecEnv([make_env] * settings["n_envs"])
    model = A2C("MlpPolicy", env, seed=seed, device="cpu", **options)
    begin = time.perf_counter()
    model.learn(steps)
    elapsed = time.perf_counter() - begin
    env.close()
    return model.num_timesteps / elapsed, lambda s: model.predict(s)[0]


def train_peer_as_in_rl_zoo(recipe, steps, seed):
    """Return the same of A2C with the settings of RL Zoo; where it names none, they are A2C's defaults."""
    return train_peer(recipe, steps, seed, **RL_ZOO[recipe.task.name])


def train_peer_as_ours(recipe, steps, seed, **optimizer):
    """Return the same of A2C with the networks and settings of our recipe."""
    settings = recipe.defaults
    layers = settings["hidden_sizes"]
    options = {
        "n_steps": settings["rollout_length"],
        "gamma": settings["gamma"],
        "gae_lambda": settings["lam"],
        "policy_kwargs": {"net_arch": {"pi": layers, "vf": layers}, "activation_fn": torch.nn.ReLU},
    }
    return train_peer(recipe, steps, seed, **options, **optimizer)


def train_peer_with_adam(recipe, steps, seed):
    """Return the same of A2C with our optimiser."""
    return train_peer_as_ours(recipe, steps, seed, use_rms_prop=False, learning_rate=recipe.defaults["eta"])


LEARNERS = {
    "ours": train_ours,
    "SB3, settings of RL Zoo": train_peer_as_in_rl_zoo,
    "SB3, our settings, RMSProp": train_peer_as_ours,
    "SB3, our settings, Adam": train_peer_with_adam,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300_000, help="training steps of each (default 300,000)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default 5)")
    args = parser.parse_args()

    report.print_provenance(report.provenance("stable-baselines3"))
    report.print_header(
        f"{args.steps:,} steps, {args.seeds} seeds", "steps/s", "ours/this", "return: IQM and 95 %"
    )
    for name in RECIPES:
        recipe = recipes.get(name)
        speeds, returns = ({learner: [] for learner in LEARNERS} for _ in range(2))
        for seed in range(args.seeds):
            for learner, train in LEARNERS.items():
                with single_thread():
                    speed, act = train(recipe, args.steps, seed)
                speeds[learner].append(speed)
                returns[learner].append(recipe.task.evaluate(act, N_EPISODES, seed=10_000 + seed).mean())
        for learner in LEARNERS:
            speed = np.median(speeds[learner])
            ratio = np.median(speeds["ours"]) / speed
            report.print_row(
                f"{recipe.task.name}, {learner}",
                f"{speed:,.0f}",
                f"{ratio:.2f}",
                str(bootstrap_interval(returns[learner])),
            )


if __name__ == "__main__":
    main()
