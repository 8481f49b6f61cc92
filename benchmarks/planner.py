"""What a planner with the true simulator gets, and what random actions get: the 1 and the 0 of chapter 8's table.

python benchmarks/planner.py [--episodes 3] [--only hopper walker] [--jobs 2]

Model-predictive control by the cross-entropy method (de Boer, Kroese, Mannor & Rubinstein, 2005). A plan is a few knots, each held for
some steps; plans are drawn around the last one, tried in a copy of the world from the state it is in, and the best of them say where the
next are drawn. Its first knot is done, and all begins again. It sees nothing beyond its horizon, so it is a good player, not a bound:
where rewards are rarer than the horizon is long, it fails, or has to be given a hint. The two inverted pendulums, which fall before such a
plan is made, are held by the best gain of the simulator's linear part around the upright.

The table is kept in ``pgcourse/comparisons/planner.json``; a task that is done is not done again.
"""

import argparse
import json
from collections.abc import Callable

import joblib
import mujoco
import numpy as np
import report
from tqdm import tqdm

from pgcourse.environments import lqr
from pgcourse.experiments import recipes, records

KEPT = records.COMPARED / "planner.json"
KNOTS, N_PLANS, N_BEST, N_ROUNDS = 12, 40, 6, 2
SECONDS, LONGEST = 2.0, 120  # that it looks ahead, and steps at most
KIND = mujoco.mjtState.mjSTATE_INTEGRATION
BALANCED = (
    "ddpg/inverted-pendulum",
    "ddpg/inverted-double-pendulum",
)  # plans drawn at random are too rough for these
HINTS: dict[
    str, Callable
] = {  # what a plan is paid besides, where rewards begin beyond what it sees; nobody is paid for it in the end
    "ddpg/suite-pendulum-swingup": lambda physics: physics.pole_vertical(),
    "ddpg/suite-finger-spin": lambda physics: min(
        max(0.0, -physics.hinge_velocity() / 15), 1.0
    ),  # paid from 15 radians a second on
}
N_RANDOM = 20  # episodes with random actions
TASKS = [name for name in recipes.RECIPES if name.startswith("ddpg/")]


class World:
    """An environment that can be put into a state that another is in. It knows no time limit."""

    def __init__(self, task):
        env = task._one()
        self.inner, space = env.unwrapped, env.action_space
        self.middle, self.reach = (space.high + space.low) / 2, (space.high - space.low) / 2
        self.length = (
            env.spec and env.spec.max_episode_steps
        ) or 1000  # the suite's tasks have no such entry, and 1,000 steps
        physics = getattr(self.inner, "physics", None)  # the suite's
        of = self.inner if physics is None else physics
        self.model, self.data = (
            getattr(getattr(of, name, None), "ptr", getattr(of, name, None)) for name in ("model", "data")
        )

    def reset(self, seed):
        self.inner.reset(seed=seed)
        self.seed, self.done = seed, []

    def state(self):
        if self.model is None:
            return np.array(self.inner.state) if hasattr(self.inner, "state") else list(self.done)
        state = np.empty(mujoco.mj_stateSize(self.model, KIND))
        mujoco.mj_getState(self.model, self.data, state, KIND)
        return state, self.model.geom_pos.copy()  # the suite puts its targets there

    def put(self, state):
        if self.model is None and hasattr(self.inner, "state"):
            self.inner.state = state.copy()
            return
        if self.model is None:  # Box2D's world cannot be set, but made again
            self.reset(self.seed)
            for u in state:
                self.step(u)
            return
        state, self.model.geom_pos[:] = state
        mujoco.mj_setState(self.model, self.data, state, KIND)
        mujoco.mj_forward(self.model, self.data)

    def step(self, u):
        """Take a step with an action in units of its reach; return its reward, and whether that was the end."""
        a = self.middle + self.reach * np.clip(u, -1, 1)
        if suite := getattr(
            self.inner, "_env", None
        ):  # most of its time goes into observations, at which nobody looks here
            suite.task.before_step(a, suite.physics)
            suite.physics.step(suite._n_sub_steps)
            suite.task.after_step(suite.physics)
            return float(suite.task.get_reward(suite.physics)), False
        self.done.append(u)
        _, r, terminated, *_ = self.inner.step(a)
        return float(r), terminated

    def follow(self, plan, hold, hint=None):
        """Return what a plan is paid, and nothing after an end; with a hint, what that says of each state besides."""
        total = 0.0
        for u in plan:
            for _ in range(hold):
                r, over = self.step(u)
                total += r + (hint(self.inner.physics) if hint else 0.0)
                if over:
                    return total
        return total


def planned(name, seed):
    """Return the return of an episode in which every action was planned."""
    task, rng = recipes.get(name).task, np.random.default_rng(seed)
    world, dream = World(task), World(task)
    for one in (world, dream):
        one.reset(seed)
    ahead = min(
        SECONDS / getattr(world.inner, "dt", SECONDS / LONGEST), LONGEST
    )  # the car on its mountain has no clock
    hold = max(1, round(ahead / KNOTS))
    plan, total = np.zeros((KNOTS, len(world.reach))), 0.0
    for i in range(world.length):
        if i % hold == 0:
            here, sigma = world.state(), np.full(plan.shape, 0.5)
            for _ in range(N_ROUNDS):
                tried = np.clip(plan + sigma * rng.normal(size=(N_PLANS, *plan.shape)), -1, 1)
                tried[0] = plan
                paid = []
                for one in tried:
                    dream.put(here)
                    paid.append(dream.follow(one, hold, HINTS.get(name)))
                best = tried[np.argsort(paid)[-N_BEST:]]
                plan, sigma = best.mean(axis=0), best.std(axis=0) + 0.02
            dream.put(here)
        r, over = world.step(plan[0])
        expected, _ = dream.step(plan[0])
        assert abs(r - expected) < 1e-6 * (1 + abs(r)), (
            f"{name}: the copy of the world is another, {r} and {expected}"
        )
        total += r
        if over:
            break
        if i % hold == hold - 1:
            plan = np.vstack([plan[1:], plan[-1:]])
    return total


def balanced(name, seed):
    """Return the return of an episode with the gain that is best for the simulator's linear part around the upright, at rest."""
    world = World(recipes.get(name).task)
    n, D, h = world.model.nq + world.model.nv, len(world.reach), 1e-5

    def place():
        return np.concatenate([world.data.qpos, world.data.qvel])

    def after(xu):
        world.reset(seed)
        world.data.qpos[:], world.data.qvel[:], u = np.split(xu, [world.model.nq, n])
        mujoco.mj_forward(world.model, world.data)
        world.step(u)
        return place()

    AB = np.transpose([(after(d) - after(-d)) / (2 * h) for d in h * np.eye(n + D)])
    K = lqr.LQR(AB[:, :n], AB[:, n:], np.eye(n), np.eye(D), 0.99, np.eye(n), np.zeros((n, n))).best()
    world.reset(seed)
    total = 0.0
    for _ in range(world.length):
        r, over = world.step(-K @ place())
        total += r
        if over:
            break
    return total


def at_random(name, seed):
    """Return the return of an episode with actions drawn evenly from all that are allowed."""
    world, rng = World(recipes.get(name).task), np.random.default_rng(seed)
    world.reset(seed)
    total = 0.0
    for _ in range(world.length):
        r, over = world.step(rng.uniform(-1, 1, len(world.reach)))
        total += r
        if over:
            break
    return total


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=3, help="that are planned of each task (default 3)")
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of the names of recipes; all, unless you say"
    )
    parser.add_argument(
        "--jobs", type=int, default=-1, help="episodes at once; as many as there are cores, unless you say"
    )
    wanted = parser.parse_args()
    done = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {"tasks": {}}
    names = [
        name
        for name in TASKS
        if name not in done["tasks"] and any(part in name for part in wanted.only or [""])
    ]
    for name in tqdm(names, unit=" tasks"):
        scores = joblib.Parallel(wanted.jobs)(
            joblib.delayed(balanced if name in BALANCED else planned)(name, seed)
            for seed in range(wanted.episodes)
        )
        chance = [at_random(name, seed) for seed in range(N_RANDOM)]
        about = {"plan": np.round(scores, 3).tolist(), "random": np.round(chance, 3).tolist()}
        done["tasks"][name] = about | {"made": report.made("mujoco", "dm-control")}
        KEPT.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(done["tasks"])


def show(tasks):
    report.about(list(tasks.values())[-1]["made"])
    report.head("mean return", "random", "planned", "episodes", "measured", "commit")
    for name, about in tasks.items():
        means = (f"{np.mean(about[way]):,.1f}" for way in ("random", "plan"))
        report.row(
            f"`{name}`", *means, str(len(about["plan"])), about["made"]["date"], about["made"]["commit"][:7]
        )


if __name__ == "__main__":
    main()
