"""Record the broken and the good trainings that tests/test_diagnosis.py reads.

    python tests/curves/record.py development 0
    python tests/curves/record.py held-out 3

The rules of pgcourse/experiments/diagnosis.py were made from the first, and from some of the records that
ship; the second were looked at when the rules were fixed. A case names the recipe, the steps, the symptoms of
which one must be found (none, if nothing is broken or if a curve cannot show it), and what is broken.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium import ObservationWrapper, RewardWrapper, Wrapper

from pgcourse.environments.tasks import Task
from pgcourse.experiments import recipes, training

HERE = Path(__file__).parent
FLAT, FALLS, GONE = "Return flat", "Return falls from the first step", "Good, then gone"
EQUAL, BETTER, SAW = "All returns equal", "Training better than evaluation", "Saw-tooth at checkpoints"
COLLAPSE, STAYS, ZERO = "Entropy collapses", "Entropy does not fall", "Gradient norm zero"
PLATEAU, LOSS = "Plateau below what is known", "Value loss explodes"
EXPLORES, UNBOUNDED = "Evaluation better than training", "Q without bound"


class LimitTakenForEnd(Wrapper):
    def step(self, a):
        s, r, terminated, truncated, info = self.env.step(a)
        return s, r, terminated or truncated, False, info


class NoReward(RewardWrapper):
    def reward(self, r):
        return 0.0


class LargeReward(RewardWrapper):
    def reward(self, r):
        return 1000 * float(r)


NOISE = np.random.default_rng(0)  # of all environments


class NoiseForReward(RewardWrapper):
    def reward(self, r):
        return float(NOISE.normal())


class Blind(ObservationWrapper):
    def observation(self, s):
        return np.zeros_like(s)


class Wrapped(Task):
    def __init__(self, name, wrapper):
        super().__init__(name)
        self.wrapper = wrapper

    def _make_env(self, **options):
        env = super()._make_env(**options)
        return self.wrapper(env) if self.wrapper else env


class Case(NamedTuple):
    recipe: str
    steps: int
    symptoms: tuple[str, ...] = ()
    settings: dict = {}  # noqa: RUF012
    wrong_sign: bool = False
    train_in: type | None = None
    evaluate_in: type | None = None
    checkpoints: int = 10
    n_eval_episodes: int = 20


R, A = "reinforce/cartpole", "actor-critic/cartpole"
NO_TARGETS = {"gamma": 1.0, "tau": 1.0, "eta_critic": 0.01}
DEVELOPMENT = {
    "good-reinforce": Case(R, 150_000),
    "wrong-sign-reinforce": Case(R, 60_000, (FALLS,), wrong_sign=True),
    "eta-times-100-reinforce": Case(R, 80_000, (FLAT, COLLAPSE, GONE, PLATEAU), {"eta": 0.5}),
    "eta-tiny-reinforce": Case(R, 60_000, (FLAT, STAYS), {"eta": 1e-6}),
    "noise-for-reward-reinforce": Case(R, 80_000, (FLAT,), train_in=NoiseForReward),
    "no-reward-reinforce": Case(R, 40_000, (EQUAL, ZERO, FLAT), train_in=NoReward),
    "evaluated-blind-reinforce": Case(R, 150_000, (BETTER,), evaluate_in=Blind),
    "good-actor-critic": Case(A, 120_000),
    "wrong-sign-actor-critic": Case(A, 60_000, (FALLS,), wrong_sign=True),
    "eta-times-100-actor-critic": Case(A, 60_000, (FLAT, COLLAPSE), {"eta": 0.1}),
    "eta-critic-times-1000": Case(A, 60_000, (LOSS,), {"eta_critic": 10.0}),
    "evaluated-without-scaling": Case(A, 60_000, (BETTER,), train_in=LargeReward),
    "limit-taken-for-end": Case(A, 200_000, train_in=LimitTakenForEnd),
    "good-ddpg": Case("ddpg/pendulum", 5_000, n_eval_episodes=10),
    "eta-critic-times-100-ddpg": Case("ddpg/pendulum", 2_500, (), {"eta_critic": 0.1}, n_eval_episodes=5),
    "no-targets-ddpg": Case(
        "ddpg/pendulum",
        3_000,
        (UNBOUNDED,),
        NO_TARGETS,
        n_eval_episodes=5,
    ),
}
R, A, Q = "reinforce/acrobot", "actor-critic/acrobot", "dqn/cartpole"
SMALL = {"hidden_sizes": (64,)}
HELD_OUT = {
    name: case._replace(n_eval_episodes=10)
    for name, case in {
        "wrong-sign-reinforce": Case(R, 50_000, (FALLS, FLAT, EQUAL), wrong_sign=True),
        "eta-times-100-reinforce": Case(R, 50_000, (FLAT, COLLAPSE, GONE, EQUAL), {"eta": 0.5}),
        "eta-tiny-reinforce": Case(R, 50_000, (FLAT, STAYS), {"eta": 1e-6}),
        "no-reward-reinforce": Case(R, 30_000, (EQUAL, ZERO, FLAT), train_in=NoReward),
        "wrong-sign-actor-critic": Case(A, 40_000, (FALLS, FLAT, EQUAL), wrong_sign=True),
        "eta-times-1000-actor-critic": Case(A, 40_000, (FLAT, COLLAPSE, EQUAL), {"eta": 1.0}),
        "eta-critic-times-1000": Case(A, 40_000, (LOSS,), {"eta_critic": 10.0}),
        "many-checkpoints": Case("actor-critic/cartpole", 80_000, (SAW,), checkpoints=25),
        "noise-for-reward-actor-critic": Case(A, 40_000, (FLAT,), train_in=NoiseForReward),
        "evaluated-blind-reinforce": Case(R, 60_000, (BETTER,), evaluate_in=Blind),
        "good-actor-critic": Case(A, 60_000),
        "wrong-sign-dqn": Case(Q, 5_000, (UNBOUNDED, FLAT), SMALL, wrong_sign=True),
        "eta-times-100-dqn": Case(Q, 5_000, (FLAT, LOSS, UNBOUNDED), SMALL | {"eta": 0.23}),
        "much-exploration-dqn": Case(Q, 10_000, (EXPLORES,), SMALL | {"epsilon": 0.8}),
    }.items()
}
HELD_OUT |= {
    "no-targets-ddpg": Case("ddpg/inverted-pendulum", 2_500, (UNBOUNDED,), NO_TARGETS, n_eval_episodes=5),
    "no-exploration-ddpg": Case(
        "ddpg/mountain-car", 3_000, (FLAT, PLATEAU), {"sigma": 0.0}, n_eval_episodes=3
    ),
    "too-short-to-tell-td3": Case("td3/pendulum", 2_000, (), {"eta_critic": 0.1}, n_eval_episodes=5),
}


def record(path: Path, case: Case, seed: int) -> dict:
    """Train, leave the curve at a path, and return what the index says of it."""
    recipe = recipes.get(case.recipe)
    task = Wrapped(recipe.task.name, case.evaluate_in)
    algorithm = dataclasses.replace(recipe, task=Wrapped(recipe.task.name, case.train_in)).build(
        seed, **case.settings
    )
    if case.wrong_sign:
        group = algorithm.optimizer.param_groups[0]
        group["maximize"] = not group["maximize"]

    def evaluate(policy, n):
        return task.evaluate(recipes.actor(policy, 10_000 + n), case.n_eval_episodes, 1000 + n)

    interval = case.steps // case.checkpoints
    options = {"checkpoint_interval": interval, "eval_interval": case.steps // 10}
    folder = path.with_suffix("")
    training.train(algorithm, steps=case.steps, evaluate=evaluate, folder=folder, **options)
    (folder / "curve.csv").replace(path)
    shutil.rmtree(folder)  # its checkpoints
    known = {"recipe": case.recipe, "gamma": algorithm.config.gamma, "checkpoint_interval": interval}
    return known | {"symptoms": case.symptoms}


def main(kind: str, seed: int) -> None:
    """Record all of a kind."""
    index = json.loads((HERE / "index.json").read_text(encoding="utf-8"))
    for name, case in {"development": DEVELOPMENT, "held-out": HELD_OUT}[kind].items():
        index[f"{kind}/{name}"] = record(HERE / kind / f"{name}.csv", case, seed)
    text = json.dumps(index, indent=1, ensure_ascii=False)
    (HERE / "index.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
