"""What a planner with the true simulator gets, and what random actions get: 1 and 0 in a study of the book.

python benchmarks/planner.py [--episodes 3] [--only hopper walker] [--n-jobs 2]

Model-predictive control by the cross-entropy method (de Boer, Kroese, Mannor & Rubinstein, 2005). A plan is
a sequence of actions, each repeated for some steps. Plans are drawn around the last one and rolled out in a
copy of the simulator, from its present state; the elite, the best of them, give mean and standard deviation
of the next ones. The first action of the final plan is taken, and planning begins again.

Nothing beyond the horizon counts, so this is a good player, not an upper bound. Where rewards are rarer than
the horizon is long it fails, unless a shaping reward helps. The two inverted pendulums, which fall before
such a plan is made, are balanced by the optimal gain of the dynamics linearised around the upright state.

The results are kept in ``pgcourse/experiments/comparisons/planner.json``. A task that is in there is not
measured again.
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

RESULTS = records.COMPARISONS_DIR / "planner.json"
PLAN_LENGTH, N_PLANS, N_ELITE, N_ITERATIONS = 12, 40, 6, 2
HORIZON_SECONDS, MAX_HORIZON = 2.0, 120  # in seconds, and at most so many steps
MUJOCO_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
BALANCED = ("ddpg/inverted-pendulum", "ddpg/inverted-double-pendulum")  # random plans are too rough for these
SHAPING_REWARDS: dict[str, Callable] = {  # added while planning, where the rewards begin beyond the horizon
    "ddpg/suite-pendulum-swingup": lambda physics: physics.pole_vertical(),
    "ddpg/suite-finger-spin": lambda physics: min(  # the reward begins at 15 radians a second
        max(0.0, -physics.hinge_velocity() / 15), 1.0
    ),
}
N_RANDOM = 20  # episodes with random actions
TASKS = [name for name in recipes.RECIPES if name.startswith("ddpg/")]


class Simulator:
    """An environment whose state can be saved and restored. It has no time limit."""

    def __init__(self, task):
        env = task.make_env()
        self.env, space = env.unwrapped, env.action_space
        self.action_bias, self.action_scale = (space.high + space.low) / 2, (space.high - space.low) / 2
        self.max_steps = (env.spec and env.spec.max_episode_steps) or 1000  # the suite's tasks have no entry
        physics = getattr(self.env, "physics", None)  # the suite's
        owner = self.env if physics is None else physics
        self.model, self.data = (
            getattr(getattr(owner, name, None), "ptr", getattr(owner, name, None))
            for name in ("model", "data")
        )

    def reset(self, seed):
        self.env.reset(seed=seed)
        self.seed, self.actions = seed, []

    def state(self):
        if self.model is None:
            return np.array(self.env.state) if hasattr(self.env, "state") else list(self.actions)
        state = np.empty(mujoco.mj_stateSize(self.model, MUJOCO_STATE))
        mujoco.mj_getState(self.model, self.data, state, MUJOCO_STATE)
        return state, self.model.geom_pos.copy()  # where the suite has its targets

    def restore(self, state):
        if self.model is None and hasattr(self.env, "state"):
            self.env.state = state.copy()
            return
        if self.model is None:  # Box2D's state cannot be set, but its episode can be repeated
            self.reset(self.seed)
            for u in state:
                self.step(u)
            return
        state, self.model.geom_pos[:] = state
        mujoco.mj_setState(self.model, self.data, state, MUJOCO_STATE)
        mujoco.mj_forward(self.model, self.data)

    def step(self, u):
        """Take an action in units of half its range; return the reward and whether that ended the episode."""
        a = self.action_bias + self.action_scale * np.clip(u, -1, 1)
        if suite := getattr(self.env, "_env", None):  # without observations, which take most of its time
            suite.task.before_step(a, suite.physics)
            suite.physics.step(suite._n_sub_steps)
            suite.task.after_step(suite.physics)
            return float(suite.task.get_reward(suite.physics)), False
        self.actions.append(u)
        _, r, terminated, *_ = self.env.step(a)
        return float(r), terminated

    def roll_out(self, plan, repeat, shaping_reward=None):
        """Return the return of a plan, up to where the episode terminates, with the shaping rewards."""
        total = 0.0
        for u in plan:
            for _ in range(repeat):
                r, terminated = self.step(u)
                total += r + (shaping_reward(self.env.physics) if shaping_reward else 0.0)
                if terminated:
                    return total
        return total


def planned_return(name, seed):
    """Return the return of an episode in which every action is planned."""
    task, rng = recipes.get(name).task, np.random.default_rng(seed)
    real, copy = Simulator(task), Simulator(task)
    for simulator in (real, copy):
        simulator.reset(seed)
    seconds_per_step = getattr(real.env, "dt", HORIZON_SECONDS / MAX_HORIZON)  # the mountain car has no dt
    horizon = min(HORIZON_SECONDS / seconds_per_step, MAX_HORIZON)
    repeat = max(1, round(horizon / PLAN_LENGTH))
    plan, total = np.zeros((PLAN_LENGTH, len(real.action_scale))), 0.0
    for t in range(real.max_steps):
        if t % repeat == 0:
            state, sigma = real.state(), np.full(plan.shape, 0.5)
            for _ in range(N_ITERATIONS):
                plans = np.clip(plan + sigma * rng.normal(size=(N_PLANS, *plan.shape)), -1, 1)
                plans[0] = plan
                returns = []
                for candidate in plans:
                    copy.restore(state)
                    returns.append(copy.roll_out(candidate, repeat, SHAPING_REWARDS.get(name)))
                elite = plans[np.argsort(returns)[-N_ELITE:]]
                plan, sigma = elite.mean(axis=0), elite.std(axis=0) + 0.02
            copy.restore(state)
        r, terminated = real.step(plan[0])
        expected, _ = copy.step(plan[0])
        same = abs(r - expected) < 1e-6 * (1 + abs(r))
        assert same, f"{name}: the copy of the simulator differs, {r} and {expected}"
        total += r
        if terminated:
            break
        if t % repeat == repeat - 1:
            plan = np.vstack([plan[1:], plan[-1:]])
    return total


def balanced_return(name, seed):
    """Return the return of an episode with the optimal gain of the dynamics linearised at rest, upright."""
    simulator = Simulator(recipes.get(name).task)
    n, D, h = simulator.model.nq + simulator.model.nv, len(simulator.action_scale), 1e-5

    def position_and_velocity():
        return np.concatenate([simulator.data.qpos, simulator.data.qvel])

    def next_state(xu):
        simulator.reset(seed)
        simulator.data.qpos[:], simulator.data.qvel[:], u = np.split(xu, [simulator.model.nq, n])
        mujoco.mj_forward(simulator.model, simulator.data)
        simulator.step(u)
        return position_and_velocity()

    AB = np.transpose([(next_state(d) - next_state(-d)) / (2 * h) for d in h * np.eye(n + D)])
    linearised = lqr.LQR(AB[:, :n], AB[:, n:], np.eye(n), np.eye(D), 0.99, np.eye(n), np.zeros((n, n)))
    K = linearised.optimal_gain()
    return total_return(simulator, seed, lambda: -K @ position_and_velocity())


def random_return(name, seed):
    """Return the return of an episode with actions drawn uniformly from all that are allowed."""
    simulator, rng = Simulator(recipes.get(name).task), np.random.default_rng(seed)
    return total_return(simulator, seed, lambda: rng.uniform(-1, 1, len(simulator.action_scale)))


def total_return(simulator, seed, act):
    """Return the return of an episode with the actions of ``act()``."""
    simulator.reset(seed)
    total = 0.0
    for _ in range(simulator.max_steps):
        r, terminated = simulator.step(act())
        total += r
        if terminated:
            break
    return total


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=3, help="planned episodes of each task (default 3)")
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of the names of recipes; all recipes, unless given"
    )
    parser.add_argument(
        "--n-jobs", type=int, default=-1, help="parallel episodes; one for each core, unless given"
    )
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"tasks": {}}
    names = [
        name
        for name in TASKS
        if name not in results["tasks"] and any(part in name for part in args.only or [""])
    ]
    for name in tqdm(names, unit=" tasks"):
        planned = joblib.Parallel(args.n_jobs)(
            joblib.delayed(balanced_return if name in BALANCED else planned_return)(name, seed)
            for seed in range(args.episodes)
        )
        random = [random_return(name, seed) for seed in range(N_RANDOM)]
        returns = {"plan": np.round(planned, 3).tolist(), "random": np.round(random, 3).tolist()}
        results["tasks"][name] = returns | {"made": report.provenance("mujoco", "dm-control")}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(results["tasks"])


def show(tasks):
    report.print_provenance(list(tasks.values())[-1]["made"])
    report.print_header("mean return", "random", "planned", "episodes", "measured", "commit")
    for name, result in tasks.items():
        means = (f"{np.mean(result[key]):,.1f}" for key in ("random", "plan"))
        made, n_episodes = result["made"], str(len(result["plan"]))
        report.print_row(f"`{name}`", *means, n_episodes, made["date"], made["commit"][:7])


if __name__ == "__main__":
    main()
