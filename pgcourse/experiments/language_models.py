"""Recorded runs of a language model: a supervised start, policy gradients, and how much is right on the way.

Recipes speak of environments and begin with random weights; these runs do neither. All runs of an experiment
are in one file, which holds for each the settings, the seed, the course and pass@k before and after. A run
that is there already is not repeated. For the ten recorded runs of an experiment, and to look at them::

    for seed in range(10):
        record(RUNS, seed, n_updates=200, weighting="grpo")
    load(n_updates=200, weighting="grpo")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgcourse import checks
from pgcourse.algorithms.language_model import (
    SequenceReinforce,
    SequenceReinforceConfig,
    SupervisedConfig,
    SupervisedFineTuning,
    SupervisedMetrics,
    fine_tune,
    mean_reward,
)
from pgcourse.environments.addition import Addition
from pgcourse.experiments import checkpoints
from pgcourse.experiments.records import COMPARISONS_DIR, provenance
from pgcourse.experiments.settings import fields_of
from pgcourse.maths.groups import pass_at_k
from pgcourse.networks.autoregressive import answer_mask, generate
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.transformer import Transformer

if TYPE_CHECKING:
    from pgcourse.algorithms.language_model import LanguageModel

RUNS = COMPARISONS_DIR / "language-models.json"
COLUMNS = ("n_steps", "reward", "entropy", "kl", "sampled", "greedy")
N_ANSWERS = 8  # to each unseen problem, for pass@k


def run(
    seed: int,
    *,
    accuracy: float = 0.4,
    n_updates: int = 300,
    n_rows: int = 10,
    given: bool = False,
    **config: Any,
) -> dict[str, Any]:
    """Return settings, course and pass@k of one run.

    Unless ``config`` says otherwise, the learning rate falls linearly to zero over the tokens that right
    answers would take.

    Args:
        seed: of weights, problems and answers.
        accuracy: of sampled answers, at which the supervised start ends.
        n_updates: of the policy gradient, at least 1.
        n_rows: of the course, at most; the first row is the start.
        given: whether the supervised start goes on, with as many right answers given in each update as
            the policy gradient draws.
        config: settings of ``SequenceReinforceConfig``; where answers are given, of their number and η.
    """
    n_updates, n_rows = checks.count(1, n_updates=n_updates), checks.count(1, n_rows=n_rows)
    problems, test = Addition(), Addition("test")
    policy = Transformer(problems.n_tokens, problems.prompt_length + problems.answer_length, seed=seed)
    rng, config = np.random.default_rng([seed, 1]), {"eta": 0.001} | config
    if "anneal_steps" not in config:
        settings = SequenceReinforceConfig(**config)
        length = answer_mask(problems.solutions(problems.prompts), problems.end).sum(axis=1).mean()
        config["anneal_steps"] = float(n_updates * settings.n_prompts * settings.samples_per_prompt * length)
    settings = SequenceReinforceConfig(**config)
    with single_thread():
        looks = fine_tune(SupervisedFineTuning(problems, policy, seed=seed), accuracy, seed=seed)
        learner = SequenceReinforce(problems, policy, settings, seed=seed)
        teacher = SupervisedFineTuning(problems, policy, _as_given(settings, learner), seed=seed + 1)
        start = {"n_updates": looks[-1][0], "pass": _pass_at_1_and_8(policy, test, rng)}
        rows = [(0, looks[-1][1], np.nan, 0.0, *_right(policy, test, rng))]
        for k in range(1, n_updates + 1):
            metrics = teacher.update() if given else learner.update()
            if k * n_rows % n_updates < n_rows:
                about = (
                    (np.nan, np.nan, np.nan)
                    if isinstance(metrics, SupervisedMetrics)
                    else (metrics.episode_returns.mean(), metrics.entropy, metrics.kl)
                )
                rows.append((metrics.n_steps, *about, *_right(policy, test, rng)))
        end = {"pass": _pass_at_1_and_8(policy, test, rng)}
    course = {name: [float(x) for x in xs] for name, xs in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    shown = fields_of(settings) | {"accuracy": accuracy, "n_updates": n_updates}
    shown |= {"n_rows": n_rows, "given": given}
    return {"seed": seed, "settings": shown, "start": start, "course": course, "end": end}


def record(path: Path, seed: int, **options: Any) -> dict[str, Any]:
    """Return a run from a file; it is run, and written there, if it is not in it. Options as for ``run``."""
    new: dict[str, Any] = {"made": provenance(), "runs": []}
    stored = json.loads(path.read_text("utf-8")) if path.exists() else new
    for one in stored["runs"]:
        if one["seed"] == seed and one["options"] == options:
            return one
    one = run(seed, **options) | {"options": options}
    stored["runs"].append(one)
    checkpoints.atomic_write(path, json.dumps(stored, indent=1).encode())
    return one


def load(path: Path = RUNS, **options: Any) -> list[dict[str, Any]]:
    """Return the recorded runs with exactly these options, in the order of their seeds.

    Raises:
        ValueError: if there is none.
    """
    runs = json.loads(path.read_text("utf-8"))["runs"]
    if found := [one for one in runs if one["options"] == options]:
        return sorted(found, key=lambda one: one["seed"])
    recorded = sorted({json.dumps(one["options"]) for one in runs})
    raise ValueError(f"options must be those of recorded runs, {', '.join(recorded)}, got {options}")


def _as_given(settings: SequenceReinforceConfig, learner: SequenceReinforce) -> SupervisedConfig:
    """Return the settings of supervised learning with the answers, η and optimiser of the policy gradient."""
    n = settings.n_prompts * settings.samples_per_prompt
    return SupervisedConfig(eta=learner.eta, batch_size=n, optimizer=settings.optimizer)


def _right(policy: LanguageModel, problems: Addition, rng: np.random.Generator) -> tuple[float, float]:
    """Return how many of the sampled and of the greedy answers to all problems are right."""
    s = problems.prompts
    return mean_reward(policy, problems, s, rng), mean_reward(policy, problems, s)


def _pass_at_1_and_8(policy: LanguageModel, problems: Addition, rng: np.random.Generator) -> list[float]:
    prompts = np.repeat(problems.prompts, N_ANSWERS, axis=0)
    answers = generate(policy, prompts, problems.answer_length, problems.end, rng).tokens
    n_right = problems.reward(prompts, answers).reshape(-1, N_ANSWERS).sum(axis=1).astype(int)
    return [float(pass_at_k(n_right, N_ANSWERS, k).mean()) for k in (1, N_ANSWERS)]
