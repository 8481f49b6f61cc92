"""Our DDPG against that of Stable-Baselines3: updates per second, and what is learnt in equally many steps.

pip install stable-baselines3
python benchmarks/ddpg.py [--updates 1000] [--steps 10000] [--seeds 5]

First speed, on Pendulum: steps of the environment with one update each, for two sizes of network, two of mini-batch, and one or two
threads, the median over five times that they take turns. Beside it the share of what the arithmetic alone allows: the matrix products that
an update cannot do without, at the speed at which PyTorch multiplies two matrices of that network and mini-batch.

Then returns: both with the same networks, rates, γ, τ, mini-batches and noise, those of our recipe, on one thread; 100 fresh episodes each.
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
import report
import torch
from stable_baselines3 import DDPG as Peer
from stable_baselines3.common.noise import NormalActionNoise

from pgcourse.algorithms.ddpg import DDPG, Noise
from pgcourse.experiments import recipes
from pgcourse.maths.statistics import interval
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import NetworkQ

TASKS = {"ddpg/pendulum": 10_000, "ddpg/inverted-double-pendulum": 30_000}  # and steps
SIZES, BATCHES, THREADS, ROUNDS = ((64, 64), (400, 300)), (64, 256), (1, 2), 5
N_RANDOM, N_EPISODES = 1_000, 100


def ours(task, sizes, settings, seed=0):
    env = task.make(1)
    [n_inputs], space = env.single_observation_space.shape, env.single_action_space
    policy = DeterministicPolicy(n_inputs, space.low, space.high, sizes, seed=seed)
    critic = NetworkQ(n_inputs, len(space.low), sizes, seed=seed + 2**30)
    noise = Noise(settings.pop("sigma"))
    algorithm = DDPG(env, policy, critic, n_random=N_RANDOM, noise=noise, seed=seed, **settings)
    algorithm.update()

    def train(steps):
        for _ in range(steps):
            algorithm.update()

    return train, policy.greedy


def peer(task, sizes, settings, seed=0):
    env = gymnasium.make(task.spec, disable_env_checker=True)  # as ours
    d, sigma = len(env.action_space.low), settings.pop("sigma")
    rate = settings.pop("eta")
    assert rate == settings.pop("eta_critic")  # it has one for both
    settings |= {"learning_rate": rate, "action_noise": NormalActionNoise(np.zeros(d), np.full(d, sigma))}
    settings |= {
        "buffer_size": settings.pop("capacity"),
        "learning_starts": N_RANDOM,
        "train_freq": 1,
        "gradient_steps": 1,
    }
    model = Peer(
        "MlpPolicy", env, policy_kwargs={"net_arch": list(sizes)}, device="cpu", seed=seed, **settings
    )
    model.learn(N_RANDOM + 1)
    return functools.partial(model.learn, reset_num_timesteps=False), lambda s: model.predict(
        s, deterministic=True
    )[0]


def timed(train, steps):
    begin = time.perf_counter()
    train(steps)
    return steps / (time.perf_counter() - begin)


def limit(n_inputs, n_outputs, sizes, batch_size):
    """Return how many updates a second the products of matrices alone allow.

    Forwards there are μ', Q', Q of what was done, μ, and Q of what is to be done. Backwards, every layer costs one product for the slope
    of its weights and one for that of its inputs, except where nobody asks for them: the first layers' inputs, and Q's weights in ∂Q/∂a.
    """
    h1, h2 = sizes
    actor, critic = (n_inputs * h1, h1 * h2, h2 * n_outputs), ((n_inputs + n_outputs) * h1, h1 * h2, h2)
    forwards = 2 * sum(actor) + 3 * sum(critic)
    backwards = sum(actor) + sum(actor[1:]) + sum(critic) + sum(critic[1:]) + sum(critic)
    one, other = torch.randn(batch_size, h1), torch.randn(h1, h2)
    one @ other
    seconds = []
    for _ in range(200):
        begin = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - begin)
    return h1 * h2 / np.median(seconds) / (forwards + backwards)


def speeds(updates):
    recipe = recipes.get("ddpg/pendulum")
    report.head("steps with an update, a second", "ours", "SB3", "ours/SB3", "limit", "of the limit")
    for n_threads in THREADS:
        torch.set_num_threads(n_threads)
        for sizes in SIZES:
            for batch_size in BATCHES:
                settings = common(recipe) | {"batch_size": batch_size}
                learners = [make(recipe.task, sizes, dict(settings))[0] for make in (ours, peer)]
                rounds = [[timed(train, updates) for train in learners] for _ in range(ROUNDS)]
                mine, its = np.median(rounds, axis=0)
                most = limit(3, 1, sizes, batch_size)
                what = f"{sizes[0]}–{sizes[1]} units, {batch_size} transitions, {n_threads} thread{'s' * (n_threads > 1)}"
                report.row(
                    what,
                    f"{mine:,.0f}",
                    f"{its:,.0f}",
                    f"{mine / its:.2f}",
                    f"{most:,.0f}",
                    f"{mine / most:.0%}",
                )


def returns(wanted, n_seeds):
    report.head(f"return: IQM and 95 %, {n_seeds} seeds", "ours", "SB3")
    for name, usual in TASKS.items():
        recipe, scores, steps = recipes.get(name), {ours: [], peer: []}, wanted or usual
        sizes = (recipe.defaults["n_hidden"],) * 2
        for seed in range(n_seeds):
            for make, mine in scores.items():
                with one_thread():
                    train, act = make(recipe.task, sizes, common(recipe), seed)
                    train(steps - N_RANDOM - 1)
                    mine.append(recipe.task.play(act, N_EPISODES, seed=10_000 + seed).mean())
        report.row(f"{recipe.task.name}, {steps:,} steps", *(str(interval(mine)) for mine in scores.values()))


def common(recipe):
    return {
        name: recipe.defaults[name]
        for name in ("eta", "eta_critic", "gamma", "tau", "batch_size", "capacity", "sigma")
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=1_000, help="of each in each round (default 1,000)")
    parser.add_argument("--steps", type=int, help="of training for each (default 10,000 and 30,000)")
    parser.add_argument("--seeds", type=int, default=5, help="how many, at least 2 (default 5)")
    wanted = parser.parse_args()
    report.about(report.made("stable-baselines3"))
    speeds(wanted.updates)
    returns(wanted.steps, wanted.seeds)


if __name__ == "__main__":
    main()
