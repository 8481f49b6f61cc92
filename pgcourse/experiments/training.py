"""Train any algorithm: a budget, a progress bar, evaluations on the way, a learning curve and checkpoints.

Training that was stopped, or killed, continues from the last checkpoint. The result does not depend on
whether that happened: at every checkpoint new episodes begin, as they have to after a kill. So a recipe's
``checkpoint_interval`` is part of what is learnt from, and longer than an episode. When the policy is
evaluated, ``eval_interval``, is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from pgcourse import checks
from pgcourse.experiments import checkpoints
from pgcourse.experiments.curves import Curve, mean
from pgcourse.experiments.seeds import EpisodeReturns
from pgcourse.experiments.settings import fields_of

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from pgcourse.algorithms.protocols import Algorithm, Metrics, Player

ROWS_PER_CHECKPOINT = 10  # rows of the curve between two checkpoints, at most
UNITS = {"steps": "n_steps", "episodes": "n_episodes", "minutes": "seconds"}


class Budget(NamedTuple):
    """How long to train: a number of steps, episodes or minutes."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:,} {self.unit}"

    @classmethod
    def from_kwargs(cls, **amounts: float | None) -> Budget:
        """Return the one budget that is not None. It must be positive."""
        given = {unit: amount for unit, amount in amounts.items() if amount is not None}
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(UNITS)} must be given, got {given or 'none'}")
        checks.positive(**given)
        [(unit, amount)] = given.items()
        return cls(amount, unit)

    def spent(self, counters: Mapping[str, float]) -> float:
        """Return how much of it is spent, in its unit."""
        return counters[UNITS[self.unit]] / (60 if self.unit == "minutes" else 1)


def train(
    algorithm: Algorithm,
    *,
    steps: float | None = None,
    episodes: float | None = None,
    minutes: float | None = None,
    evaluate: Callable[[Player, int], np.ndarray] | None = None,
    checkpoint_interval: int = 25_000,
    eval_interval: int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Update an algorithm until the budget is spent, and return its learning curve.

    Args:
        algorithm: an object with the attributes and methods of ``Algorithm``.
        steps, episodes, minutes: the budget, exactly one of them; minutes count training, not evaluation.
        evaluate: called as ``evaluate(policy, n_updates)`` before the first update, every ``eval_interval``
            steps and at the end; gives the returns of fresh episodes.
        checkpoint_interval: steps between two checkpoints, at least 1. At each, new episodes begin, also
            without a folder: it must be longer than an episode, or none ends. Where none ended, there is a
            warning.
        eval_interval: steps between two evaluations, at least 1; None evaluates at every checkpoint. Training
            does not depend on it.
        folder: for ``curve.csv`` and checkpoints, where one process works at a time. If it holds checkpoints,
            training continues from the last. With None nothing is written.
        progress: whether to show a bar with the mean training return and the time left.

    Returns:
        The columns of the curve, as ``curves`` describes them, each of shape (n_rows,).

    Raises:
        ValueError: also if the folder holds training with other settings, if a checkpoint is damaged or
            belongs to another algorithm, or if the algorithm's state cannot be saved.
        FloatingPointError: if a number of an update is not finite.
        OSError: if the folder cannot be written. The last checkpoint stays complete, as it does after Ctrl-C.
    """
    if (n := _n_seeds(algorithm)) > 1:
        raise ValueError(f"algorithm must have one seed, got {n}; train_seeds trains several at once")
    budget = Budget.from_kwargs(steps=steps, episodes=episodes, minutes=minutes)
    checks.real(checkpoint_interval=checkpoint_interval)
    checks.at_least(1, checkpoint_interval=checkpoint_interval, eval_interval=eval_interval)
    eval_interval = checkpoint_interval if eval_interval is None else eval_interval
    if folder is None:
        [curve] = _train(algorithm, budget, [evaluate], checkpoint_interval, eval_interval, [None], progress)
        return curve
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.locked(folder):
        checkpoints.pickled(algorithm.state_dict())  # what cannot be saved is known here, not hours later
        settings = settings_of(algorithm) | {"checkpoint_interval": _as_json(checkpoint_interval)}
        checkpoints.check_settings(folder, settings)
        [curve] = _train(
            algorithm, budget, [evaluate], checkpoint_interval, eval_interval, [folder], progress
        )
        return curve


def train_seeds(
    algorithm: Algorithm,
    *,
    steps: float,
    evaluate: Sequence[Callable[[Player, int], np.ndarray]],
    folders: Sequence[Path],
    checkpoint_interval: int = 25_000,
    eval_interval: int | None = None,
    progress: bool = True,
) -> list[dict[str, np.ndarray]]:
    """Train an algorithm that learns with S seeds at once, and return the learning curve of each.

    Each seed has a folder, with a curve and checkpoints as ``train`` writes them for it alone: ``train`` may
    continue from them. Of the seconds of an update, each seed has an equal share.

    Args:
        algorithm: with S seeds (``algorithms.seeds``).
        steps: the budget of each seed.
        evaluate: for each seed, as for ``train``; called with a policy of ordinary layers.
        folders: one for each seed. Training continues from the last checkpoint that all of them hold, and
            later ones are removed; without any, it begins.
        checkpoint_interval, eval_interval, progress: as for ``train``.

    Raises:
        ValueError, FloatingPointError, OSError: as ``train``.
    """
    n = _n_seeds(algorithm)
    if not len(evaluate) == len(folders) == n:
        got = f"{len(evaluate)} and {len(folders)}"
        raise ValueError(f"evaluate and folders must have an entry for each of {n} seeds, got {got}")
    budget = Budget.from_kwargs(steps=steps)
    checks.real(checkpoint_interval=checkpoint_interval)
    checks.at_least(1, checkpoint_interval=checkpoint_interval, eval_interval=eval_interval)
    eval_interval = checkpoint_interval if eval_interval is None else eval_interval
    with contextlib.ExitStack() as stack:
        for k, folder in enumerate(folders):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(checkpoints.locked(folder))
            settings = settings_of(algorithm, k) | {"checkpoint_interval": _as_json(checkpoint_interval)}
            checkpoints.check_settings(folder, settings)
        return _train(algorithm, budget, evaluate, checkpoint_interval, eval_interval, folders, progress)


def _n_seeds(algorithm: Algorithm) -> int:
    from pgcourse.algorithms.seeds import n_seeds

    return n_seeds(cast(Any, getattr(algorithm, "_rng", None)))


class _Learners:
    """An algorithm as learners with a policy, metrics and a state each: one for each of its seeds."""

    def __init__(self, algorithm: Algorithm):
        self.algorithm, self.n = algorithm, _n_seeds(algorithm)
        if self.n > 1:
            self._log = EpisodeReturns(cast("VectorEnv", algorithm.env))
            cast(Any, algorithm).env = self._log

    def policies(self) -> Sequence[Player]:
        """Return their policies: the algorithm's own if there is one seed, else copies."""
        from pgcourse.networks.stacked import unstack

        return [self.algorithm.policy] if self.n == 1 else unstack(cast(Any, self.algorithm.policy))

    def update(self) -> list[Metrics]:
        """Update the algorithm, and return the metrics of each."""
        metrics = self.algorithm.update()
        if self.n == 1:
            return [metrics]
        numbers: dict[str, Any] = metrics._asdict()
        returns = self._log.take(self.n)
        lists = {name: x for name, x in numbers.items() if isinstance(x, list)}
        replace = cast(Any, metrics)._replace
        return [
            replace(**{name: x[k] for name, x in lists.items()}, episode_returns=returns[k])
            for k in range(self.n)
        ]

    def states(self) -> list[dict]:
        """Return the state of each."""
        from pgcourse.algorithms.seeds import split_state

        state = self.algorithm.state_dict()
        return [state] if self.n == 1 else split_state(state, self.n)

    def load_states(self, states: Sequence[dict]) -> None:
        """Continue from states that fit together, with new episodes."""
        from pgcourse.algorithms.seeds import join_states

        self.algorithm.load_state_dict(states[0] if self.n == 1 else join_states(states))


def _train(
    algorithm: Algorithm,
    budget: Budget,
    evaluate: Sequence[Callable[[Player, int], np.ndarray] | None],
    checkpoint_interval: int,
    eval_interval: int,
    folders: Sequence[Path | None],
    progress: bool,
) -> list[dict[str, np.ndarray]]:
    """Train one or several seeds, each with a curve, its evaluation and a folder; all take the same steps."""
    from pgcourse.networks.mlp import single_thread

    learners = _Learners(algorithm)
    curves = _begin_or_resume(learners, folders)
    counters = curves[0].counters  # whose steps, updates and seconds are those of all

    def append_rows(evaluated: bool) -> None:
        policies = learners.policies() if evaluated else [None] * learners.n
        for curve, policy, evaluate_one in zip(curves, policies, evaluate, strict=True):
            if evaluate_one is None or policy is None:
                curve.append_row()
            else:
                curve.append_row(float(np.mean(evaluate_one(policy, int(counters["n_updates"])))))

    with single_thread(), explain_interruption(curves[0], folders[0]), ProgressBar(budget, progress) as bar:
        if not curves[0].rows:
            append_rows(evaluated=True)
        n_episodes, warned = [-1.0] * learners.n, False  # at the last checkpoint, of which none is known yet
        while budget.spent(counters) < budget.amount:
            before, start = counters["n_steps"], time.perf_counter()
            metrics = learners.update()
            seconds = (time.perf_counter() - start) / learners.n
            for curve, own in zip(curves, metrics, strict=True):
                curve.add(own, seconds)
            n_steps = counters["n_steps"]
            checkpoint_due = n_steps // checkpoint_interval > before // checkpoint_interval
            evaluation_due = n_steps // eval_interval > before // eval_interval
            row_due = n_steps - curves[0].rows[-1]["n_steps"] >= checkpoint_interval / ROWS_PER_CHECKPOINT
            if evaluation_due or budget.spent(counters) >= budget.amount:
                append_rows(evaluated=True)
            elif checkpoint_due or row_due:
                append_rows(evaluated=False)
            if checkpoint_due:
                last, n_episodes = n_episodes, [curve.counters["n_episodes"] for curve in curves]
                if any(map(operator.eq, last, n_episodes)) and not warned:
                    warnings.warn(_no_episode(checkpoint_interval, n_steps), stacklevel=3)
                    warned = True
                states = learners.states()
                for curve, folder, state in zip(curves, folders, states, strict=True):
                    if folder:
                        curve.flush()
                        saved = {"algorithm": state, "counters": curve.counters, "curve": curve.checksum}
                        checkpoints.add(folder, int(counters["n_updates"]), saved)
                learners.load_states(states)  # continue as if resumed
            returns = [row["return"] for curve in curves for row in curve.rows[-3:]]
            bar.show(budget.spent(counters), returns)
    return [curve.columns() for curve in curves]


def _no_episode(checkpoint_interval: int, n_steps: float) -> str:
    return (
        "no episode has ended between the last two checkpoints, of which the second is at step "
        f"{n_steps:,}: new episodes begin at each, so late states are never seen; checkpoint_interval must "
        f"be longer than an episode, got {checkpoint_interval:,}"
    )


def _begin_or_resume(learners: _Learners, folders: Sequence[Path | None]) -> list[Curve]:
    """Return new curves, or put the learners and the curves back to the last checkpoint that all have."""
    paths = [list(folder.glob(checkpoints.PATTERN)) if folder else [] for folder in folders]
    common = sorted(set.intersection(*({path.name for path in found} for found in paths)))
    if not common:
        for path in itertools.chain(*paths):  # a kill came between the first checkpoints of several seeds
            path.unlink()
        return [Curve(folder) for folder in folders]
    *earlier, last = common
    saved = []
    for folder in filter(None, folders):
        try:
            saved.append(checkpoints.load(folder / last))
        except ValueError as error:
            before = f"delete it to continue from {earlier[-1]}" if earlier else None
            raise ValueError(f"{error}; {before or f'delete {folder} to begin again'}") from error
    try:
        learners.load_states([state["algorithm"] for state in saved])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / last} does not fit this algorithm: {error}") from error
    for path in itertools.chain(*paths):
        if path.name > last:  # likewise
            path.unlink()
    return [
        Curve.resumed(folder, state["counters"], state.get("curve"))
        for folder, state in zip(filter(None, folders), saved, strict=True)
    ]


def settings_of(algorithm: Algorithm, k: int = 0) -> dict[str, object]:
    """Return what tells one training from another, as JSON has it: algorithm, config, seed, environment.

    Of several seeds, that of the k-th, as if it were alone.
    """
    rng, env = getattr(algorithm, "_rng", None), getattr(algorithm, "env", None)
    streams, n_envs = getattr(rng, "streams", [rng]), getattr(env, "num_envs", None)
    settings = {"algorithm": type(algorithm).__name__, "env": getattr(getattr(env, "spec", None), "id", None)}
    settings |= {"n_envs": n_envs and n_envs // len(streams)}
    settings |= {"seed": _as_json(streams[k].bit_generator.seed_seq.entropy) if rng else None}
    config = getattr(algorithm, "config", None)
    of_config = fields_of(config) if dataclasses.is_dataclass(config) else {}
    return settings | {name: _as_json(value) for name, value in of_config.items()}


def _as_json(value: Any) -> object:
    """Return a setting as JSON has it: a function by its name, which is the same in every process."""
    match value:
        case functools.partial():
            return [_as_json(value.func), *map(_as_json, value.args), *map(_as_json, value.keywords.values())]
        case np.generic() | np.ndarray():
            return value.tolist()
        case list() | tuple():
            return [*map(_as_json, value)]
        case None | bool() | int() | float() | str():
            return value
    return getattr(value, "__qualname__", type(value).__qualname__)


@contextlib.contextmanager
def explain_interruption(curve: Curve, folder: Path | None) -> Iterator[None]:
    """Say in an error, and after Ctrl-C, where training was and which checkpoint is left."""

    def left() -> str:
        path = checkpoints.latest(folder) if folder else None
        return f"the last checkpoint is {path}" if path else "there is no checkpoint"

    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {left()}. A smaller eta may help") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped at step {curve.counters['n_steps']:,}; {left()}") from None


class _Stderr:
    """Standard error, where a pipe or terminal that is closed is no reason to stop training."""

    def write(self, text: str) -> None:
        """Write a text, if anything still takes it."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a closed file
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class ProgressBar:
    """A progress bar over a budget, for one run or several."""

    def __init__(self, budget: Budget, visible: bool, n_runs: int = 1):
        self._tqdm = None
        if visible and sys.stderr is not None:  # a program without a console has none
            from tqdm import tqdm

            number = ",.3g" if budget.unit == "minutes" else ",.0f"
            amounts = f"{{n:{number}}} of {{total:{number}}} {{unit}}"
            layout = f"{{l_bar}}{{bar}}| {amounts} [{{elapsed}}, {{remaining}} left{{postfix}}]"
            total = budget.amount * n_runs
            options = {"unit": budget.unit, "bar_format": layout, "dynamic_ncols": True}
            self._tqdm = tqdm(total=total, file=_Stderr(), **options)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()

    def show(self, spent: float, returns: Sequence[float], note: str = "") -> None:
        """Show how much is spent, and the mean of the last returns, without NaN."""
        if self._tqdm is None:
            return
        finite = [r for r in returns if math.isfinite(r)]
        text = [note, f"return {mean(finite):.4g}" if finite else ""]
        self._tqdm.set_postfix_str(", ".join(filter(None, text)), refresh=False)
        if not self._tqdm.n:
            self._tqdm.initial = spent  # an earlier session says nothing about the time that is left
        self._tqdm.update(min(spent, self._tqdm.total) - self._tqdm.n)
