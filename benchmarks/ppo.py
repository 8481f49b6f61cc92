"""Our PPO against that of Stable-Baselines3, steps per second and returns after equally many steps; and Pong.

pip install stable-baselines3
python benchmarks/ppo.py [--tasks cartpole lunar-lander half-cheetah] [--steps 100000] [--seeds 5]

The peer has the settings of RL Zoo, its own collection of tuned hyperparameters, or those of our recipe, with
our networks; all have one thread. What our recipe does and the peer cannot, is left out of its settings: two
optimisers, and gradients whose norms are limited for each network. RL Zoo's settings of HalfCheetah normalise
states and rewards, and so does the peer with them. For each seed all are trained one after the other; then
each policy is evaluated in 100 fresh episodes. Steps per second are the median over the seeds. They include
everything but making the environments. The difference is ours minus the peer's, seed by seed. Learning rates
fall to zero over the steps of the benchmark.

The second table has the speeds at which REINFORCE, actor–critic and PPO train on Pong, in turns of some
seconds; with it chapters convert decisions to seconds.
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
import report
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pgcourse.experiments import recipes
from pgcourse.maths.statistics import bootstrap_interval
from pgcourse.networks.mlp import single_thread

N_EPISODES = 100
STEPS = {"cartpole": 100_000, "lunar-lander": 200_000, "half-cheetah": 100_000}
RELU_256 = {
    "log_std_init": -2,
    "ortho_init": False,
    "activation_fn": torch.nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}
RL_ZOO = {  # hyperparams/ppo.yml; CartPole-v1, LunarLander-v2, HalfCheetah-v3
    "cartpole": {
        "n_envs": 8,
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": lambda remaining: 0.001 * remaining,  # from 1 to 0
        "clip_range": lambda remaining: 0.2 * remaining,
    },
    "lunar-lander": {
        "n_envs": 16,
        "n_steps": 1024,
        "batch_size": 64,
        "gae_lambda": 0.98,
        "gamma": 0.999,
        "n_epochs": 4,
        "ent_coef": 0.01,
    },
    "half-cheetah": {
        "normalize": True,
        "n_envs": 1,
        "n_steps": 512,
        "batch_size": 64,
        "gae_lambda": 0.92,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.000401762,
        "learning_rate": 2.0633e-05,
        "clip_range": 0.1,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58096,
        "policy_kwargs": RELU_256,
    },
}


def train_ours(task, steps, seed):
    """Return steps per second, and a function from observations to actions."""
    recipe = recipes.get(f"ppo/{task}")
    algorithm = recipe.build(seed, anneal_steps=steps)
    begin = time.perf_counter()
    while algorithm.n_steps < steps:
        algorithm.update()
    elapsed = time.perf_counter() - begin
    algorithm.env.close()
    return algorithm.n_steps / elapsed, recipes.actor(algorithm.policy, seed)


def train_peer(task, steps, seed, *, n_envs, normalize=False, **settings):
    """Return the same of the peer."""
    name = recipes.get(f"ppo/{task}").task.name
    make_env = functools.partial(gymnasium.make, name, disable_env_checker=True)  # as ours
    env = DummyVecEnv([make_env] * n_envs)
    if normalize:
        env = VecNormalize(env, gamma=settings["gamma"])
    model = PPO("MlpPolicy", env, seed=seed, device="cpu", **settings)
    begin = time.perf_counter()
    model.learn(steps)
    elapsed = time.perf_counter() - begin
    env.close()

    def act(s):
        return model.predict(env.normalize_obs(s) if normalize else s)[0]

    return model.num_timesteps / elapsed, act


def train_peer_as_in_rl_zoo(task, steps, seed):
    """Return the same of the peer with its own tuned settings."""
    return train_peer(task, steps, seed, **RL_ZOO[task])


def train_peer_as_ours(task, steps, seed):
    """Return the same of the peer with our networks and settings."""
    ours = recipes.get(f"ppo/{task}").defaults
    layers = ours["hidden_sizes"]
    policy = {"net_arch": {"pi": layers, "vf": layers}, "activation_fn": torch.nn.ReLU}
    if "initial_sigma" in ours:
        policy["log_std_init"] = np.log(ours["initial_sigma"])
    return train_peer(
        task,
        steps,
        seed,
        n_envs=ours["n_envs"],
        n_steps=ours["rollout_length"],
        batch_size=ours["minibatch_size"],
        gae_lambda=ours["lam"],
        gamma=ours["gamma"],
        n_epochs=ours["n_epochs"],
        ent_coef=ours["entropy_coefficient"],
        learning_rate=lambda remaining: ours["eta"] * remaining,
        clip_range=ours["clip"],
        max_grad_norm=ours["max_norm"],
        policy_kwargs=policy,
    )


PONG = {"reinforce": "REINFORCE", "actor-critic": "actor–critic", "ppo": "PPO"}
LEARNERS = {
    "ours": train_ours,
    "SB3, settings of RL Zoo": train_peer_as_in_rl_zoo,
    "SB3, our settings": train_peer_as_ours,
}


def pong_speeds(n_turns=9, seconds=10.0):
    """Return the decisions per second of each algorithm, of three, on Pong: medians over turns."""
    algorithms = {name: recipes.get(f"{name}/pong").build(seed=0) for name in PONG}
    speeds = {name: [] for name in PONG}
    for _ in range(n_turns + 1):  # the first turn warms up
        for name, algorithm in algorithms.items():
            before, begin = algorithm.n_steps, time.perf_counter()
            while (elapsed := time.perf_counter() - begin) < seconds:
                algorithm.update()
            speeds[name].append((algorithm.n_steps - before) / elapsed)
    for algorithm in algorithms.values():
        algorithm.env.close()
    return {name: np.median(of[1:]) for name, of in speeds.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=RL_ZOO, default=[*RL_ZOO], help="which (default all)")
    parser.add_argument("--steps", type=int, help="of training (default 100,000; the lander has 200,000)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default 5)")
    args = parser.parse_args()

    report.print_provenance(report.provenance("stable-baselines3"))
    columns = ("steps/s", "ours/this", "return: IQM and 95 %", "ours minus this")
    report.print_header(f"{args.seeds} seeds", *columns)
    for task in args.tasks:
        recipe = recipes.get(f"ppo/{task}")
        steps = args.steps or STEPS[task]
        speeds, returns = ({learner: [] for learner in LEARNERS} for _ in range(2))
        for seed in range(args.seeds):
            for learner, train in LEARNERS.items():
                with single_thread():
                    speed, act = train(task, steps, seed)
                speeds[learner].append(speed)
                returns[learner].append(recipe.task.evaluate(act, N_EPISODES, seed=10_000 + seed).mean())
        for learner in LEARNERS:
            speed = np.median(speeds[learner])
            difference = np.subtract(returns["ours"], returns[learner])
            report.print_row(
                f"{recipe.task.name}, {steps:,} steps, {learner}",
                f"{speed:,.0f}",
                f"{np.median(speeds['ours']) / speed:.2f}",
                str(bootstrap_interval(returns[learner])),
                "" if learner == "ours" else str(bootstrap_interval(difference)),
            )

    report.print_header("Pong, 16 games", "decisions/s")
    with single_thread():
        for name, speed in pong_speeds().items():
            report.print_row(PONG[name], f"{speed:,.0f}")


if __name__ == "__main__":
    main()
