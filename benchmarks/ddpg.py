"""Our DDPG against that of Stable-Baselines3: updates per second, and returns after equally many steps.

pip install stable-baselines3
python benchmarks/ddpg.py [--updates 1000] [--steps 10000] [--seeds 5]

First speed, on the pendulum: environment steps with one update each, for two sizes of network, two of
minibatch, and one or two threads, the median over five rounds in which both take turns. Beside it stands an
upper limit: an update cannot do without certain matrix products, and PyTorch multiplies two matrices of that
network and minibatch at a certain speed.

Then returns: both have the networks, learning rates, γ, τ, minibatches and noise of our recipe, and one
thread; each policy is evaluated in 100 fresh episodes.
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
import report
import torch
from stable_baselines3 import DDPG as PeerDDPG
from stable_baselines3.common.noise import NormalActionNoise

from pgcourse.algorithms.ddpg import DDPG, DDPGConfig
from pgcourse.experiments import recipes
from pgcourse.maths.statistics import bootstrap_interval
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import QNetwork

STEPS = {"ddpg/pendulum": 10_000, "ddpg/inverted-double-pendulum": 30_000}  # of each recipe
HIDDEN_SIZES, BATCH_SIZES, N_THREADS, N_ROUNDS = ((64, 64), (400, 300)), (64, 256), (1, 2), 5
LEARNING_STARTS, N_EPISODES = 1_000, 100
SETTINGS = ("eta", "eta_critic", "gamma", "tau", "batch_size", "capacity", "sigma")  # that both have


def make_ours(task, hidden_sizes, settings, seed=0):
    """Return a function that trains for some steps, and one from observations to actions."""
    env = task.make_vector_env(1)
    [state_dim], space = env.single_observation_space.shape, env.single_action_space
    policy = DeterministicPolicy(state_dim, space.low, space.high, hidden_sizes, seed=seed)
    critic = QNetwork(state_dim, len(space.low), hidden_sizes, seed=seed + 2**30)
    config = DDPGConfig(learning_starts=LEARNING_STARTS, **settings)
    algorithm = DDPG(env, policy, critic, config, seed=seed)
    algorithm.update()

    def train(steps):
        for _ in range(steps):
            algorithm.update()

    return train, policy.greedy


def make_peer(task, hidden_sizes, settings, seed=0):
    """Return the same of the peer."""
    env = gymnasium.make(task.spec, disable_env_checker=True)  # as ours
    d, sigma = len(env.action_space.low), settings.pop("sigma")
    eta = settings.pop("eta")
    assert eta == settings.pop("eta_critic")  # it has one for both
    settings |= {"learning_rate": eta, "action_noise": NormalActionNoise(np.zeros(d), np.full(d, sigma))}
    settings |= {
        "buffer_size": settings.pop("capacity"),
        "learning_starts": LEARNING_STARTS,
        "train_freq": 1,
        "gradient_steps": 1,
    }
    policy = {"net_arch": list(hidden_sizes)}
    model = PeerDDPG("MlpPolicy", env, policy_kwargs=policy, device="cpu", seed=seed, **settings)
    model.learn(LEARNING_STARTS + 1)

    def act(s):
        return model.predict(s, deterministic=True)[0]

    return functools.partial(model.learn, reset_num_timesteps=False), act


def steps_per_second(train, steps):
    begin = time.perf_counter()
    train(steps)
    return steps / (time.perf_counter() - begin)


def upper_limit(state_dim, action_dim, hidden_sizes, batch_size):
    """Return how many updates a second the matrix products alone allow.

    The forward passes are those of μ'(s'), Q'(s', ·), Q(s, a), μ(s) and Q(s, μ(s)). In a backward pass, every
    layer costs one product for the gradient of its weights and one for that of its inputs. Those that nothing
    needs are left out: the gradients of the first layers' inputs, and of Q's weights in ∂Q/∂a.
    """
    h1, h2 = hidden_sizes
    actor = (state_dim * h1, h1 * h2, h2 * action_dim)
    critic = ((state_dim + action_dim) * h1, h1 * h2, h2)
    forward = 2 * sum(actor) + 3 * sum(critic)
    backward = sum(actor) + sum(actor[1:]) + sum(critic) + sum(critic[1:]) + sum(critic)
    h, W = torch.randn(batch_size, h1), torch.randn(h1, h2)
    h @ W
    seconds = []
    for _ in range(200):
        begin = time.perf_counter()
        h @ W
        seconds.append(time.perf_counter() - begin)
    return h1 * h2 / np.median(seconds) / (forward + backward)


def compare_speed(updates):
    recipe = recipes.get("ddpg/pendulum")
    columns = ("ours", "SB3", "ours/SB3", "limit", "of the limit")
    report.print_header("steps with an update, per second", *columns)
    for n_threads in N_THREADS:
        torch.set_num_threads(n_threads)
        for hidden_sizes in HIDDEN_SIZES:
            for batch_size in BATCH_SIZES:
                settings = common_settings(recipe) | {"batch_size": batch_size}
                learners = [
                    make(recipe.task, hidden_sizes, dict(settings)) for make in (make_ours, make_peer)
                ]
                rounds = [
                    [steps_per_second(train, updates) for train, _ in learners] for _ in range(N_ROUNDS)
                ]
                ours, peer = np.median(rounds, axis=0)
                limit = upper_limit(3, 1, hidden_sizes, batch_size)
                units, threads = "–".join(map(str, hidden_sizes)), f"thread{'s' * (n_threads > 1)}"
                report.print_row(
                    f"{units} units, {batch_size} transitions, {n_threads} {threads}",
                    f"{ours:,.0f}",
                    f"{peer:,.0f}",
                    f"{ours / peer:.2f}",
                    f"{limit:,.0f}",
                    f"{ours / limit:.0%}",
                )


def compare_returns(steps, n_seeds):
    report.print_header(f"return: IQM and 95 %, {n_seeds} seeds", "ours", "SB3")
    for name, default_steps in STEPS.items():
        recipe, returns, n_steps = recipes.get(name), {make_ours: [], make_peer: []}, steps or default_steps
        hidden_sizes = recipe.defaults["hidden_sizes"]
        for seed in range(n_seeds):
            for make in returns:
                with single_thread():
                    train, act = make(recipe.task, hidden_sizes, common_settings(recipe), seed)
                    train(n_steps - LEARNING_STARTS - 1)
                    returns[make].append(recipe.task.evaluate(act, N_EPISODES, seed=10_000 + seed).mean())
        intervals = (str(bootstrap_interval(x)) for x in returns.values())
        report.print_row(f"{recipe.task.name}, {n_steps:,} steps", *intervals)


def common_settings(recipe):
    return {name: recipe.defaults[name] for name in SETTINGS}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=1_000, help="of each in each round (default 1,000)")
    parser.add_argument("--steps", type=int, help="training steps of each (default 10,000 and 30,000)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default 5)")
    args = parser.parse_args()
    report.print_provenance(report.provenance("stable-baselines3"))
    compare_speed(args.updates)
    compare_returns(args.steps, args.seeds)


if __name__ == "__main__":
    main()
