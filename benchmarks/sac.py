"""Our SAC and TD3 against those of Stable-Baselines3: updates per second, and returns after as many steps.

pip install stable-baselines3
python benchmarks/sac.py [--updates 500] [--rounds 5] [--steps 10000] [--seeds 5] [--speed-only]

First speed, on the pendulum and one thread: environment steps with one update each, for two sizes of network,
the median over five rounds in which both take turns. The second size is the peer's default.

Then returns: both have the networks, learning rates, γ, τ, minibatches and noise of our recipe; each policy
is evaluated in 100 fresh episodes, without noise.
"""

import argparse
import functools

import gymnasium
import numpy as np
import report
import stable_baselines3
from ddpg import steps_per_second
from stable_baselines3.common.noise import NormalActionNoise

from pgcourse.experiments import recipes
from pgcourse.maths.statistics import bootstrap_interval
from pgcourse.networks.mlp import single_thread

NAMES = ("sac/pendulum", "td3/pendulum")
SIZES = (((64, 64), 128), ((256, 256), 256))  # hidden layers and minibatch
N_EPISODES = 100


def make_ours(recipe, settings, seed=0):
    """Return a function that trains for some steps, and one from observations to actions."""
    algorithm = recipe.build(seed, **settings)
    algorithm.update()

    def train(steps):
        for _ in range(steps):
            algorithm.update()

    return train, algorithm.policy.greedy


def make_peer(recipe, settings, seed=0):
    """Return the same of the peer."""
    env = gymnasium.make(recipe.task.spec, disable_env_checker=True)  # as ours
    of = recipe.settings(**settings)
    assert of["eta"] == of["eta_critic"]  # it has one for both
    options = {name: of[name] for name in ("gamma", "tau", "batch_size", "learning_starts")}
    options |= {"learning_rate": of["eta"], "buffer_size": of["capacity"], "train_freq": 1}
    if recipe.algorithm == "td3":
        d, sigma = len(env.action_space.low), of["sigma"]
        options["action_noise"] = NormalActionNoise(np.zeros(d), np.full(d, sigma))
    network = {"net_arch": list(of["hidden_sizes"])}
    kind = getattr(stable_baselines3, recipe.algorithm.upper())
    model = kind("MlpPolicy", env, policy_kwargs=network, device="cpu", seed=seed, **options)
    model.learn(of["learning_starts"] + 1)

    def act(s):
        return model.predict(s, deterministic=True)[0]

    return functools.partial(model.learn, reset_num_timesteps=False), act


def compare_speed(updates, n_rounds):
    report.print_header("steps with an update, per second", "ours", "SB3", "ours/SB3")
    for name in NAMES:
        recipe = recipes.get(name)
        for hidden_sizes, batch_size in SIZES:
            settings = {"hidden_sizes": hidden_sizes, "batch_size": batch_size}
            learners = [make(recipe, settings) for make in (make_ours, make_peer)]
            rounds = [[steps_per_second(train, updates) for train, _ in learners] for _ in range(n_rounds)]
            ours, peer = np.median(rounds, axis=0)
            units = "–".join(map(str, hidden_sizes))
            label = f"{recipe.algorithm.upper()}, {units} units, {batch_size} transitions"
            report.print_row(label, f"{ours:,.0f}", f"{peer:,.0f}", f"{ours / peer:.2f}")


def compare_returns(steps, n_seeds):
    report.print_header(f"return: IQM and 95 %, {n_seeds} seeds", "ours", "SB3")
    for name in NAMES:
        recipe, returns = recipes.get(name), {make_ours: [], make_peer: []}
        for seed in range(n_seeds):
            for make in returns:
                train, act = make(recipe, {}, seed)
                train(steps - recipe.defaults["learning_starts"] - 1)
                returns[make].append(recipe.task.evaluate(act, N_EPISODES, seed=10_000 + seed).mean())
        intervals = (str(bootstrap_interval(x)) for x in returns.values())
        report.print_row(f"{recipe.algorithm.upper()}, {recipe.task.name}, {steps:,} steps", *intervals)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=500, help="of each in each round (default 500)")
    parser.add_argument("--rounds", type=int, default=5, help="of the speed (default 5)")
    parser.add_argument("--steps", type=int, default=10_000, help="training steps of each (default 10,000)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default 5)")
    parser.add_argument("--speed-only", action="store_true", help="leave out the returns")
    args = parser.parse_args()
    report.print_provenance(report.provenance("stable-baselines3"))
    with single_thread():
        compare_speed(args.updates, args.rounds)
        if not args.speed_only:
            compare_returns(args.steps, args.seeds)


if __name__ == "__main__":
    main()
