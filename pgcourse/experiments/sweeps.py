"""Recorded runs of recipes, over seeds and settings, in parallel. Runs that were stopped are continued.

Each run has a folder of its own, where one process works at a time. After a kill the same call does the rest.
Where seeds can learn at once, they do, in blocks, and each has its own record all the same (``blocks``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from filelock import FileLock, Timeout

from pgcourse import checks
from pgcourse.experiments import blocks, checkpoints, recipes, records
from pgcourse.experiments.curves import mean, read
from pgcourse.experiments.records import Record, find, provenance
from pgcourse.experiments.settings import format_value
from pgcourse.experiments.training import Budget, ProgressBar, train, train_seeds

N_FINAL_EVAL_EPISODES = 100


class RunSpec(NamedTuple):
    """One run: everything that its result depends on."""

    recipe: str
    seed: int
    overrides: Mapping[str, object]  # settings that differ from the recipe's
    budget: Budget
    checkpoint_interval: int

    def folder(self, root: Path) -> Path:
        """Return the run's place in ``root``."""
        overrides = (f"{name}={format_value(value)}" for name, value in self.overrides.items())
        return root / self.recipe / ",".join(overrides) / f"seed-{self.seed}"


def run(
    recipe: str,
    *,
    seeds: int | Iterable[int] = 1,
    settings: Mapping[str, object] | None = None,
    steps: float | None = None,
    episodes: float | None = None,
    minutes: float | None = None,
    checkpoint_interval: int | None = None,
    save_policies: bool = False,
    eval_interval: int | None = None,
    n_eval_episodes: int | None = None,
    folder: str | Path = "runs",
    n_jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Record]:
    """Run a recipe for every seed and every combination of settings, and return the records, in that order.

    Finished runs are not repeated, and stopped runs are continued: after an interruption the same call does
    the rest. Before the first run begins, an algorithm is built with every combination of settings.

    Args:
        recipe: its name. A recipe that a script or notebook registers is sent to other processes.
        seeds: how many, 0, 1, …; or a list of them, from 0.
        settings: overrides of the recipe's settings, each a value (a tuple for several layers) or a list of
            values. Lists span a grid.
        steps, episodes, minutes: the budget of each run, at most one of them; the recipe's if all are None.
        checkpoint_interval: steps between two checkpoints, at least 1; the recipe's if None. At each, new
            episodes begin.
        save_policies: whether to save the policy at every evaluation too, in 8 bits a weight.
        eval_interval: steps between two evaluations, at least 1; at every checkpoint if None. What is learnt
            does not depend on it.
        n_eval_episodes: fresh episodes in an evaluation, at least 1; if None, the recipe's number during
            training and 100 at the end.
        folder: root of the runs; on a cluster, one that all its machines share.
        n_jobs: parallel runs, or blocks of seeds that learn at once, at least 1, each on one thread; as many
            as there are cores if None.
        scheduler: address of a Dask scheduler, such as "tcp://127.0.0.1:8786", whose workers do the runs, one
            by one.
        progress: whether to show a bar with the mean training return and the time left.

    Raises:
        ValueError: also if there is no such recipe or setting, if the algorithm does not take a value, or the
            folder holds a run with another budget.
        RuntimeError: if some of the runs failed, after all others have finished.
        OSError: if the folder cannot be written, or the scheduler cannot be reached.
    """
    checks.text(recipe=recipe)
    known = recipes.get(recipe)
    if all(amount is None for amount in (steps, episodes, minutes)):
        steps = known.steps
    budget = Budget.from_kwargs(steps=steps, episodes=episodes, minutes=minutes)
    interval = known.checkpoint_interval if checkpoint_interval is None else checkpoint_interval
    checks.at_least(1, checkpoint_interval=interval)
    if isinstance(seeds, int):
        checks.at_most(checks.MAX_SEED, seeds=seeds)
        seeds = range(seeds)
    if not isinstance(seeds, Iterable) or (isinstance(seeds, np.ndarray) and not seeds.ndim):
        raise ValueError(f"seeds must be at least 1, or a list of whole numbers from 0, got {seeds!r:.80}")
    seeds = list(seeds)
    if not seeds or not all(isinstance(seed, int | np.integer) and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds must be at least 1, or a list of whole numbers from 0, got {seeds!s:.80}")
    checks.seed(seeds=max(seeds))
    if not isinstance(settings, Mapping | None):
        raise ValueError(f"settings must be a dict of names and values, got {settings!r:.80}")
    grid = {name: value if isinstance(value, list) else [value] for name, value in (settings or {}).items()}
    specs = []
    for values in itertools.product(*grid.values()):
        complete = known.settings(**dict(zip(grid, values, strict=True)))
        changed = [name for name in sorted(grid) if complete[name] != known.defaults[name]]
        overrides = {name: complete[name] for name in changed}
        specs += [RunSpec(recipe, seed, overrides, budget, interval) for seed in seeds]
    runs = {spec.folder(Path(folder)): spec for spec in specs}
    options = _options(save_policies, eval_interval, n_eval_episodes)
    return _run_all(runs, options, n_jobs, scheduler, progress, build_first=True)


def resume(
    folder: str | Path,
    *,
    save_policies: bool = False,
    eval_interval: int | None = None,
    n_eval_episodes: int | None = None,
    n_jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Record]:
    """Continue every stopped run in a folder, and return the records of all its runs.

    The arguments and errors are those of ``run``.
    """
    runs = {}
    for record in find(folder):
        _ = record.recipe  # which must be known here
        budget, interval = Budget(*record.metadata["budget"]), record.metadata["checkpoint_interval"]
        runs[record.folder] = RunSpec(record.name, record.seed, record.overrides, budget, interval)
    if not runs:
        raise ValueError(f"folder must hold a run, got {folder}, where there is none")
    options = _options(save_policies, eval_interval, n_eval_episodes)
    return _run_all(runs, options, n_jobs, scheduler, progress)


def _options(save_policies: bool, eval_interval: int | None, n_eval_episodes: int | None) -> dict[str, Any]:
    """Return what of a run may differ when it is continued: nothing that is learnt depends on it."""
    checks.whole(1, eval_interval=eval_interval, n_eval_episodes=n_eval_episodes)
    intervals = {"eval_interval": eval_interval, "n_eval_episodes": n_eval_episodes}
    return {"save_policies": save_policies, **intervals}


def _run_all(
    runs: dict[Path, RunSpec],
    options: Mapping[str, Any],
    n_jobs: int | None,
    scheduler: str | None,
    progress: bool,
    build_first: bool = False,
) -> list[Record]:
    checks.whole(1, n_jobs=n_jobs)
    attempt: Callable[..., list[str | None]] = functools.partial(_attempt, **options)
    todo = {folder: spec for folder, spec in runs.items() if "result" not in _metadata(folder, spec)}
    if build_first:  # a value that is refused is known before hours of other runs
        for spec in {str(spec.overrides): spec for spec in todo.values()}.values():
            recipes.get(spec.recipe).build(spec.seed, **spec.overrides).env.close()
    for folder in runs:
        if folder in todo:
            _announce(folder, todo[folder])
        else:
            checkpoints.clear(folder)  # they are still there if it was killed right after the result
            with contextlib.suppress(OSError):
                (folder / ".lock").unlink(missing_ok=True)
    n_jobs = int(n_jobs or os.cpu_count() or 1)
    plan = [[folder] for folder in todo] if scheduler else blocks.plan(runs, todo, n_jobs)
    groups = [{folder: todo[folder] for folder in group} for group in plan]
    n_jobs = min(n_jobs, len(groups))
    try:
        if scheduler or n_jobs > 1:
            with _overall_progress(runs, progress):
                attempts = (
                    _on_cluster(attempt, groups, scheduler)
                    if scheduler
                    else _on_cores(attempt, groups, n_jobs)
                )
        else:
            attempts = [attempt(*arguments, progress=progress) for arguments in _arguments(groups)]
    except KeyboardInterrupt as stop:
        reason = str(stop).strip() or "stopped"
        command = records.resume_command(os.path.commonpath(runs))
        raise KeyboardInterrupt(f"{reason}. Continue with the same call, or with: {command}") from None
    failures = dict(zip(itertools.chain(*groups), itertools.chain(*attempts), strict=True))
    failed = [f"{folder}: {failures[folder]}" for folder in todo if failures[folder]]
    if failed:
        title = [f"{len(failed)} of {len(runs)} runs failed:"] if len(runs) > 1 else []
        raise RuntimeError("\n".join(title + failed))
    done = [Record(folder) for folder in runs]
    if lost := [record for record in done if not record.finished]:
        raise RuntimeError(f"{lost[0].folder} has not finished here; all workers must share the folder")
    return done


def _announce(folder: Path, spec: RunSpec) -> None:
    """Write run.json, so that ``resume`` finds the run, and so that an unwritable folder is known here."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):  # else another process runs it
        if not (folder / "run.json").exists():
            records.write(folder, _metadata(folder, spec))


def _attempt(runs: dict[Path, RunSpec], recipe: recipes.Recipe, **options) -> list[str | None]:
    """Do one run, or a block, and return the error of each, if any, because the other runs shall continue.

    The recipe comes along, because another process may not have registered it, or not as it is now.
    """
    recipes.RECIPES[recipe.name] = recipe
    try:
        _run_together(runs, **options)
    except OSError as error:
        return [str(error)] * len(runs)
    except (ValueError, ArithmeticError, RuntimeError) as error:  # the last are PyTorch's
        if len(runs) == 1:
            return [str(error)]
        warnings.warn(blocks.goes_on_alone([*runs], error), stacklevel=2)
        return [_attempt({folder: spec}, recipe, **options)[0] for folder, spec in runs.items()]
    return [None] * len(runs)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process work in a folder while others wait, and remove the lock of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.locked(folder):
        try:
            yield
        finally:
            if (folder / "run.json").exists() and Record(folder).finished:
                with contextlib.suppress(OSError):  # Windows keeps open files; who waits sees the result
                    (folder / ".lock").unlink()


def _run_together(
    runs: dict[Path, RunSpec],
    *,
    save_policies: bool,
    eval_interval: int | None,
    n_eval_episodes: int | None,
    progress: bool = False,
) -> None:
    """Do one run, or those of several seeds at once."""
    import torch

    from pgcourse.networks.stacked import unstack

    folders, specs, seeds = [*runs], [*runs.values()], [int(spec.seed) for spec in runs.values()]
    [first, *others], together = specs, {"block": seeds} if len(seeds) > 1 else {}
    recipe = recipes.get(first.recipe)
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_locked(folder))
        metadata = [_metadata(folder, spec) for folder, spec in runs.items()]
        if all("result" in of_run for of_run in metadata):  # another process has finished them meanwhile
            return
        if others:
            blocks.check(folders, seeds)
        algorithm = recipe.build(seeds, **first.overrides)
        stack.callback(algorithm.env.close)
        began = {"began": datetime.now(UTC).isoformat(timespec="seconds")} | provenance() | together
        for folder, of_run in zip(folders, metadata, strict=True):
            of_run["sessions"].append(began)
            records.write(folder, of_run)

        def evaluate(folder, seed, policy, n_updates):
            if save_policies:
                path = folder / f"policy-{algorithm.n_steps:09d}.safetensors"
                checkpoints.save_weights(path, policy, torch.float8_e4m3fn)
            n_episodes = n_eval_episodes or recipe.n_eval_episodes
            return recipe.evaluate(policy, n_episodes, _evaluation_seed(seed, n_updates))

        def result(folder, seed, policy, curve):
            final_policy = folder / "policy.safetensors"
            checkpoints.save_weights(final_policy, policy)
            checkpoints.load_weights(final_policy, policy)  # evaluated as saved, in half precision
            fresh = n_eval_episodes or N_FINAL_EVAL_EPISODES, _evaluation_seed(seed, -1)
            returns = recipe.evaluate(policy, *fresh)
            stochastic = getattr(policy, "stochastic", True)
            greedy_returns = recipe.evaluate(policy, *fresh, greedy=True) if stochastic else returns
            return {
                **{name: int(curve[name][-1]) for name in ("n_updates", "n_steps", "n_episodes")},
                "seconds": round(float(curve["seconds"][-1]), 1),
                "returns": returns.tolist(),
                "greedy_returns": greedy_returns.tolist(),
            }

        evaluations = [functools.partial(evaluate, *run) for run in zip(folders, seeds, strict=True)]
        intervals: dict[str, Any] = {"checkpoint_interval": first.checkpoint_interval}
        intervals |= {"eval_interval": eval_interval, "progress": progress}
        if others:
            steps = first.budget.amount
            curves = train_seeds(algorithm, steps=steps, evaluate=evaluations, folders=folders, **intervals)
            policies = unstack(cast(Any, algorithm.policy))
        else:
            intervals |= {first.budget.unit: first.budget.amount}
            curves = [train(algorithm, evaluate=evaluations[0], folder=folders[0], **intervals)]
            policies = [algorithm.policy]
        results = [result(*run) for run in zip(folders, seeds, policies, curves, strict=True)]
        for folder, of_run, found in zip(folders, metadata, results, strict=True):
            of_run["result"] = found
            records.write(folder, of_run)
        for folder in folders:
            checkpoints.clear(folder)


def _metadata(folder: Path, spec: RunSpec) -> dict:
    """Return the contents of run.json, which must agree with the spec; those to write if there is none."""
    settings = recipes.get(spec.recipe).settings(**spec.overrides)
    wanted = spec._asdict() | {"budget": list(spec.budget), "settings": settings}
    if not (folder / "run.json").exists():
        return wanted | {"sessions": []}
    metadata = Record(folder).metadata
    for name, value in wanted.items():
        if metadata.get(name) != value:
            found = f"{folder} holds a run with {name} {metadata.get(name)}, not {value}"
            raise ValueError(f"{found}; choose another folder, or delete this one")
    return metadata


def _evaluation_seed(seed: int, n_updates: int) -> int:
    """Return a seed that neither training nor another evaluation has."""
    return int(np.random.SeedSequence([seed, n_updates + 1]).generate_state(1)[0] // 4)


def _on_cores(attempt: Callable, groups: list[dict[Path, RunSpec]], n_jobs: int) -> list[list[str | None]]:
    """Do the runs in local processes, one torch thread each."""
    from concurrent.futures.process import BrokenProcessPool

    import joblib
    from joblib.externals.loky import get_reusable_executor

    with joblib.parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        try:  # batch_size=1: after some quick runs joblib would give several to one worker
            tasks = (joblib.delayed(attempt)(*arguments) for arguments in _arguments(_resolved(groups)))
            return joblib.Parallel(batch_size=1)(tasks)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise RuntimeError(_not_sent(error)) from error
        except BrokenProcessPool as error:
            if "serialize" in str(error):
                raise RuntimeError(_not_sent(error.__cause__ or error)) from error
            reason = "a worker process was killed, perhaps for lack of memory"
            raise RuntimeError(f"{reason}; the same call does the rest") from error
        except BaseException:  # Ctrl-C shall not wait for the workers, whose checkpoints survive
            get_reusable_executor().shutdown(kill_workers=True)
            raise


def _on_cluster(
    attempt: Callable, groups: list[dict[Path, RunSpec]], scheduler: str
) -> list[list[str | None]]:
    """Do the runs on a Dask cluster, also on workers that join later. If one dies, another continues."""
    try:
        from distributed import CancelledError, Client, KilledWorker
    except ModuleNotFoundError:
        raise ValueError("scheduler needs Dask; install it with: pip install distributed") from None

    def failure(future):
        try:
            return future.result()
        except (CancelledError, KilledWorker) as error:
            return [str(error)]
        except (ImportError, AttributeError) as error:  # the worker has not what the recipe is made of
            return [_not_sent(error)]

    with Client(scheduler, timeout="10s") as client:
        client.wait_for_workers(1, timeout=10)
        futures = client.map(attempt, *zip(*_arguments(_resolved(groups)), strict=True), pure=False)
        return [failure(future) for future in futures]


def _resolved(groups: list[dict[Path, RunSpec]]) -> list[dict[Path, RunSpec]]:
    """Return the runs with folders that mean the same in a process with another working directory."""
    return [{folder.resolve(): spec for folder, spec in runs.items()} for runs in groups]


def _arguments(groups: list[dict[Path, RunSpec]]) -> list[tuple[dict[Path, RunSpec], recipes.Recipe]]:
    """Return the arguments of each attempt."""
    return [(runs, recipes.get(next(iter(runs.values())).recipe)) for runs in groups]


def _not_sent(error: BaseException) -> str:
    advice = "define its classes and functions in a module that they can import, or use n_jobs=1"
    return f"the recipe cannot be sent to the processes that do the runs: {error}; {advice}"


@contextlib.contextmanager
def _overall_progress(runs: dict[Path, RunSpec], visible: bool) -> Iterator[None]:
    """Show one bar for runs in other processes, by reading what they write."""
    budget = next(iter(runs.values())).budget
    done = threading.Event()

    def refresh(bar):
        spent, returns, n_finished = 0.0, [], 0
        for folder in runs:
            with contextlib.suppress(OSError, ValueError, IndexError):  # no row yet, or an incomplete one
                curve = read(folder / "curve.csv")
                last = {name: column[-1] for name, column in curve.items()}
                spent += min(budget.amount, budget.spent(last))
                n_finished += Record(folder).finished
                returns.append(mean(curve["return"][-3:]))
        bar.show(spent, returns, f"{n_finished}/{len(runs)} runs")

    def watch():
        with ProgressBar(budget, visible, len(runs)) as bar:
            while not done.wait(0.5):
                refresh(bar)
            refresh(bar)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
