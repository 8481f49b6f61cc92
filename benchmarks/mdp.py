"""How fast small MDPs are sampled: ``MDP.sample_episodes`` against the same MDPs as Gymnasium environments.

python benchmarks/mdp.py
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of them

import numpy as np
import report
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgcourse.environments import worlds
from pgcourse.maths.estimators import score_function

SECONDS = 2.0  # of each measurement, at least
MDPS = {
    "chain, 3 steps": worlds.chain(),
    "short corridor, 4 tiles": worlds.short_corridor(observations=(0, 0, 1, 1), swapped=(1, 3)),
    "windy grid": worlds.windy_grid(),
    "random, 30 states, 50 steps": worlds.random_mdp(30, 4, np.random.default_rng(0), horizon=50),
}


def steps_per_second(play):
    """Return the steps per second of ``play()``, which returns how many steps it took."""
    play()
    n_steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        n_steps += play()
    return n_steps / (time.perf_counter() - begin)


def single_env(mdp, rng):
    env = mdp.env()
    env.reset(seed=0)

    def play(n=2000):
        for a in rng.integers(mdp.n_actions, size=n):
            _, _, terminated, _, _ = env.step(a)
            if terminated:
                env.reset()
        return n

    return play


def vector_env(mdp, rng, n_envs=64):
    envs = SyncVectorEnv([mdp.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)

    def play(n=100):
        for a in rng.integers(mdp.n_actions, size=(n, n_envs)):
            envs.step(a)
        return n * n_envs

    return play


def sampling(mdp, rng, estimate):
    w = np.zeros((mdp.n_observations, mdp.n_actions))

    def play():
        episodes = mdp.sample_episodes(w, 10_000, rng)
        if estimate:
            score_function(w, episodes)
        return int(episodes.mask.sum())

    return play


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    report.print_provenance(report.provenance())
    report.print_header("steps/s", "one env", "64 envs", "sampled", "and estimates", "sampled/envs")
    for name, mdp in MDPS.items():
        rng = np.random.default_rng(0)
        single, vector = steps_per_second(single_env(mdp, rng)), steps_per_second(vector_env(mdp, rng))
        sampled, estimated = (steps_per_second(sampling(mdp, rng, estimate)) for estimate in (False, True))
        speeds = (single, vector, sampled, estimated, sampled / max(single, vector))
        report.print_row(name, *(f"{speed:,.0f}" for speed in speeds))


if __name__ == "__main__":
    main()
