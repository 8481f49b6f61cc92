"""How fast small worlds are sampled: ``MDP.sample`` against the same worlds as Gymnasium environments, in one run.

python benchmarks/mdp.py
"""

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of them

import numpy as np
import report
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgcourse.environments import worlds
from pgcourse.maths.estimators import score_function

SECONDS = 2.0  # of each measurement, at the least
WORLDS = {
    "chain, 3 steps": worlds.chain(),
    "corridor, 4 tiles": worlds.corridor(looks=(0, 0, 1, 1), swapped=(1, 3)),
    "grid, windy": worlds.grid(),
    "random, 30 states, 50 steps": worlds.random_mdp(30, 4, np.random.default_rng(0), horizon=50),
}


def rate(turn):
    """Return the steps per second of turn(), which returns how many it took."""
    turn()
    n_steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        n_steps += turn()
    return n_steps / (time.perf_counter() - begin)


def single(world, rng):
    env = world.env()
    env.reset(seed=0)

    def turn(n=2000):
        for a in rng.integers(world.n_actions, size=n):
            _, _, over, _, _ = env.step(a)
            if over:
                env.reset()
        return n

    return turn


def vector(world, rng, n_envs=64):
    envs = SyncVectorEnv([world.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)

    def turn(n=100):
        for a in rng.integers(world.n_actions, size=(n, n_envs)):
            envs.step(a)
        return n * n_envs

    return turn


def ours(world, rng, estimate):
    w = np.zeros((world.n_seen, world.n_actions))

    def turn():
        episodes = world.sample(w, 10_000, rng)
        if estimate:
            score_function(w, episodes)
        return int(episodes.live.sum())

    return turn


def main():
    report.about(report.made())
    report.head("steps/s", "one env", "64 at once", "sample", "and estimate", "sample/envs")
    for name, world in WORLDS.items():
        rng = np.random.default_rng(0)
        alone, many = rate(single(world, rng)), rate(vector(world, rng))
        sampled, estimated = (rate(ours(world, rng, estimate)) for estimate in (False, True))
        report.row(
            name,
            *(f"{speed:,.0f}" for speed in (alone, many, sampled, estimated, sampled / max(alone, many))),
        )


if __name__ == "__main__":
    main()
