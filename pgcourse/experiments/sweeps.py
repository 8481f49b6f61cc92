"""Recorded runs of recipes, over seeds and settings, in parallel; and on with those that were stopped.

Each run is a folder of its own, which one process at a time may work on. Killed at any moment, the same call does the rest.
"""

import contextlib
import functools
import itertools
import json
import os
import shlex
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pgcourse.experiments import checkpoints, recipes
from pgcourse.experiments.curves import mean, read
from pgcourse.experiments.records import Record, find, provenance
from pgcourse.experiments.training import Bar, Budget, train

N_EPISODES = 100  # that a finished policy is judged by


class Plan(NamedTuple):
    """One run: everything that decides what comes out of it."""

    recipe: str
    seed: int
    changed: dict[str, Any]  # settings that are not the recipe's own
    budget: Budget
    every: int

    def folder(self, root: Path) -> Path:
        """Return where in ``root`` it is kept."""
        changed = ",".join(f"{name}={value}" for name, value in self.changed.items())
        return root / self.recipe / changed / f"seed-{self.seed}"


def run(
    recipe: str,
    *,
    seeds: int | Iterable[int] = 1,
    settings: Mapping[str, Any] | None = None,
    steps: float | None = None,
    episodes: float | None = None,
    minutes: float | None = None,
    every: int | None = None,
    keep: bool = False,
    judge: int | None = None,
    folder: str | Path = "runs",
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Record]:
    """Run a recipe for every seed and every combination of settings, and return the records, in that order.

    What has finished is not run again, and what was stopped goes on, so the same call does the rest after whatever happened.

    Args:
        recipe: its name.
        seeds: how many, 0, 1, …; or which.
        settings: those to change, each to a value or a list of values to try.
        steps, episodes, minutes: the budget of each run, at most one of them; the recipe's, if none.
        every: steps between two checkpoints; the recipe's, if None.
        keep: whether to keep the policy at every checkpoint, in a quarter of full precision, for ``Record.policy``.
        judge: fresh episodes that judge a policy, at least 1; if None, the recipe's number of them on the way and 100 at the end.
        folder: where the runs are kept; on a cluster, one that all its machines see.
        jobs: how many at once, each on one thread; as many as there are cores, if None.
        scheduler: address of a Dask scheduler, such as "tcp://127.0.0.1:8786", whose workers do the work.
        progress: whether to show a bar with the running return and the time left.

    Raises:
        ValueError: if there is no such recipe or setting, a value is not allowed, or the folder holds a run with another budget.
        RuntimeError: if some of the runs failed, after all others have finished.
        OSError: if the folder cannot be written, or the scheduler be reached.
    """
    known = recipes.get(recipe)
    if all(amount is None for amount in (steps, episodes, minutes)):
        steps = known.steps
    budget, every = (
        Budget.of(steps=steps, episodes=episodes, minutes=minutes),
        known.every if every is None else every,
    )
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    seeds = list(range(seeds) if isinstance(seeds, int) else seeds)
    if not seeds or not all(isinstance(seed, int | np.integer) and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds must be at least 1, or a list of numbers from 0 on, got {seeds}")
    tried = {
        name: value if isinstance(value, list | tuple) else [value]
        for name, value in (settings or {}).items()
    }
    plans = []
    for values in itertools.product(*tried.values()):
        changed = dict(zip(tried, values, strict=True))
        complete = known.settings(**changed)
        changed = {name: complete[name] for name in sorted(changed) if complete[name] != known.defaults[name]}
        plans += [Plan(recipe, seed, changed, budget, every) for seed in seeds]
    plans = [plan for i, plan in enumerate(plans) if plan not in plans[:i]]
    return _run_all(
        {plan.folder(Path(folder)): plan for plan in plans}, keep, judge, jobs, scheduler, progress
    )


def resume(
    folder: str | Path,
    *,
    keep: bool = False,
    judge: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Record]:
    """Go on with every run in a folder that was stopped, and return the records of all.

    The arguments are those of ``run``.

    Raises:
        ValueError: if there is no run in the folder.
        RuntimeError, OSError: as ``run``.
    """
    plans = {}
    for record in find(folder):
        about = record.about
        plans[record.folder] = Plan(
            record.name, record.seed, record.changed, Budget(*about["budget"]), about["every"]
        )
    if not plans:
        raise ValueError(f"folder must hold a run, got {folder}, where there is none")
    return _run_all(plans, keep, judge, jobs, scheduler, progress)


def _run_all(plans: dict[Path, Plan], keep, judge, jobs, scheduler, progress) -> list[Record]:
    for name, number in {"jobs": jobs, "judge": judge}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    attempt = functools.partial(_attempt, keep=keep, judge=judge)
    todo = {folder: plan for folder, plan in plans.items() if "result" not in _about(folder, plan)}
    for folder in plans:
        if folder in todo:
            _announce(folder, todo[folder])
        else:
            checkpoints.clear(folder)  # which is not done if it was killed after the result
            with contextlib.suppress(OSError):
                (folder / ".lock").unlink(missing_ok=True)
    jobs = min(jobs or os.cpu_count() or 1, len(todo))
    try:
        if jobs <= 1 and not scheduler:
            failures = [attempt(folder, plan, progress=progress) for folder, plan in todo.items()]
        else:
            with _watched(plans, progress):
                failures = (
                    _on_cluster(attempt, todo, scheduler) if scheduler else _on_cores(attempt, todo, jobs)
                )
    except KeyboardInterrupt as stop:
        where = os.path.commonpath(plans)
        raise KeyboardInterrupt(
            f"{str(stop).strip() or 'stopped'}. Go on with the same call, or with: pgcourse resume {shlex.quote(where)}"
        ) from None
    if failed := [f"{folder}: {failure}" for folder, failure in zip(todo, failures, strict=True) if failure]:
        raise RuntimeError(
            "\n".join(failed if len(plans) == 1 else [f"{len(failed)} of {len(plans)} runs failed:", *failed])
        )
    records = [Record(folder) for folder in plans]
    if lost := [record for record in records if not record.finished]:
        raise RuntimeError(f"{lost[0].folder} has not finished here; folder must be one that all workers see")
    return records


def _announce(folder: Path, plan: Plan) -> None:
    """Say that there is to be a run, so that ``resume`` knows of it; and find out here, not in every worker, whether it can be written."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):  # else it is being run
        if not (folder / "run.json").exists():
            _write_json(folder / "run.json", _about(folder, plan))


def _attempt(folder: Path, plan: Plan, **options) -> str | None:
    """Make one run; return what went wrong, if anything did, because the others shall go on."""
    try:
        _run_one(folder, plan, **options)
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:  # the last are PyTorch's
        return str(error)
    return None


@contextlib.contextmanager
def _locked(folder: Path):
    """One process a run: another one waits. The system opens the lock when its holder dies."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"{folder} is being run by another process; waiting for it", stacklevel=2)
        lock.acquire()
    try:
        yield
    finally:
        if (folder / "run.json").exists() and Record(folder).finished:
            with contextlib.suppress(
                OSError
            ):  # Windows keeps files that are open; whoever waits for this one will see the result
                (folder / ".lock").unlink()
        lock.release()


def _run_one(folder: Path, plan: Plan, *, keep: bool, judge: int | None, progress: bool = False) -> None:
    import torch

    recipe = recipes.get(plan.recipe)
    with _locked(folder):
        about = _about(folder, plan)
        if "result" in about:  # made meanwhile, by another process
            return
        algorithm = recipe.build(plan.seed, **plan.changed)
        about["sessions"].append({"began": datetime.now(UTC).isoformat(timespec="seconds")} | provenance())
        _write_json(folder / "run.json", about)

        def evaluate(policy, n_updates):
            if keep:
                checkpoints.save_weights(
                    folder / f"policy-{algorithm.n_steps:09d}.safetensors", policy, torch.float8_e4m3fn
                )
            return recipe.evaluate(policy, judge or recipe.n_episodes, _own_seed(plan.seed, n_updates))

        try:
            curve = train(
                algorithm,
                evaluate=evaluate,
                every=plan.every,
                folder=folder,
                progress=progress,
                **{plan.budget.unit: plan.budget.amount},
            )
            checkpoints.save_weights(folder / "policy.safetensors", algorithm.policy)
            checkpoints.load_weights(
                folder / "policy.safetensors", algorithm.policy
            )  # judged as it is kept, in half precision
            n_episodes, fresh = judge or N_EPISODES, _own_seed(plan.seed, -1)
            scores = recipe.evaluate(algorithm.policy, n_episodes, fresh)
            drawn = getattr(algorithm.policy, "stochastic", True)
            greedy = recipe.evaluate(algorithm.policy, n_episodes, fresh, greedy=True) if drawn else scores
        finally:
            algorithm.env.close()
        counts = {name: int(curve[name][-1]) for name in ("n_updates", "n_steps", "n_episodes")}
        about["result"] = counts | {
            "seconds": round(float(curve["seconds"][-1]), 1),
            "scores": scores.tolist(),
            "greedy": greedy.tolist(),
        }
        _write_json(folder / "run.json", about)
        checkpoints.clear(folder)


def _about(folder: Path, plan: Plan) -> dict[str, Any]:
    """Return what is known of a run: what the folder says, if it says the same as the plan."""
    settings = recipes.get(plan.recipe).settings(**plan.changed)
    wanted = plan._asdict() | {"budget": list(plan.budget), "settings": settings}
    if not (folder / "run.json").exists():
        return wanted | {"sessions": []}
    about = Record(folder).about
    for name, value in wanted.items():
        if about.get(name) != value:
            raise ValueError(
                f"{folder} holds a run with {name} {about.get(name)}, not {value}; choose another folder, or delete this one"
            )
    return about


def _write_json(path: Path, about: dict) -> None:
    text = json.dumps(
        about, indent=1, ensure_ascii=False, default=lambda number: number.item()
    )  # NumPy's, as a seed or a budget
    checkpoints.write(path, f"{text}\n".encode())


def _own_seed(seed: int, n_updates: int) -> int:
    """Return a seed that neither training nor another evaluation has."""
    return int(np.random.SeedSequence([seed, n_updates + 1]).generate_state(1)[0] // 4)


def _on_cores(attempt, plans: dict[Path, Plan], jobs: int) -> list[str | None]:
    """Make the runs in local processes, one torch thread each."""
    from concurrent.futures.process import BrokenProcessPool

    import joblib
    from joblib.externals.loky import get_reusable_executor

    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        try:  # one by one, for joblib would put several into a batch after some that were quick
            return joblib.Parallel(batch_size=1)(
                joblib.delayed(attempt)(folder.resolve(), plan) for folder, plan in plans.items()
            )
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process was killed, perhaps for want of memory; the same call does the rest"
            ) from error
        except BaseException:
            get_reusable_executor().shutdown(
                kill_workers=True
            )  # checkpoints survive that, and Ctrl-C shall not wait
            raise


def _on_cluster(attempt, plans: dict[Path, Plan], scheduler: str) -> list[str | None]:
    """Make the runs on the workers of a Dask cluster, also on those that join later; the run of one that dies goes on at another."""
    try:
        from distributed import CancelledError, Client, KilledWorker
    except ModuleNotFoundError:
        raise ValueError("scheduler needs Dask; install it with: pip install distributed") from None

    def failure(future):
        try:
            return future.result()
        except (CancelledError, KilledWorker) as error:
            return str(error)

    with Client(scheduler, timeout="10s") as client:
        client.wait_for_workers(1, timeout=10)
        futures = client.map(
            attempt, [folder.resolve() for folder in plans], list(plans.values()), pure=False
        )
        return [failure(future) for future in futures]


@contextlib.contextmanager
def _watched(plans: dict[Path, Plan], shown: bool):
    """Show one bar for runs in other processes, by reading what they write."""
    budget = next(iter(plans.values())).budget
    done = threading.Event()

    def look(bar):
        spent, returns, finished = 0.0, [], 0
        for folder in plans:
            with contextlib.suppress(
                OSError, ValueError, IndexError
            ):  # nothing there yet, or a row half written
                curve = read(folder / "curve.csv")
                spent += min(
                    budget.amount, budget.spent({name: column[-1] for name, column in curve.items()})
                )
                finished += Record(folder).finished
                returns.append(mean(curve["return"][-3:]))
        bar.show(spent, returns, f"{finished}/{len(plans)} runs")

    def watch():
        with Bar(budget, shown, len(plans)) as bar:
            while not done.wait(0.5):
                look(bar)
            look(bar)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
