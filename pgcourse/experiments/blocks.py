"""Which runs of a sweep learn at once: a block of seeds, with one recipe, one budget and the same settings.

A block takes less time than its runs one after the other, and leaves the record of each that it would have
left alone (``algorithms.seeds``, ``training.train_seeds``). Rounding depends on how many learn together. So
the sessions in ``run.json`` name the block, and an interrupted one is continued by the same seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from pgcourse.experiments import checkpoints, recipes
from pgcourse.experiments.records import Record

if TYPE_CHECKING:
    from pgcourse.experiments.sweeps import RunSpec

    Runs: TypeAlias = Mapping[Path, RunSpec]


def obstacle(spec: RunSpec, seeds: Sequence[int]) -> str | None:
    """Return why these seeds cannot learn at once, and are run one after the other; None if they can."""
    from pgcourse.algorithms.seeds import n_seeds

    recipe = recipes.get(spec.recipe)
    if spec.budget.unit != "steps":
        return f"budget must be in steps, which all seeds take together, got {spec.budget}"
    if not recipe.task.is_classic:
        return f"environments must be of classic control, which step together, got {recipe.task.name}"
    try:
        algorithm = recipe.build(seeds, **spec.overrides)
    except (ValueError, TypeError) as error:
        return str(error)
    algorithm.env.close()
    rng = cast("np.random.Generator", getattr(algorithm, "_rng", None))
    if (n := n_seeds(rng)) != len(seeds):
        return f"{type(algorithm).__name__} must draw from one random stream a seed, got {n}"
    return None


def plan(runs: Runs, todo: Runs, n_jobs: int) -> list[list[Path]]:
    """Return the runs of a sweep that are still to do in groups: blocks that learn at once, and single runs.

    What has begun as a block is continued as that block. If that is not possible, because a run of it has
    finished or is missing, there is a warning. New blocks are made so that the whole sweep has work for
    ``n_jobs``; they are the same however much of it is done, so a killed sweep ends like an undisturbed one.
    """
    groups: list[list[Path]] = []
    sweep = list(_alike(runs))
    for every in sweep:
        alike = {seed: folder for seed, folder in every.items() if folder in todo}
        begun = {seed: block for seed, folder in alike.items() if (block := _begun_with(folder))}
        for block in {tuple(block): block for block in begun.values()}.values():
            members = [seed for seed in block if seed in alike and begun.get(seed, block) == block]
            if members == block:
                groups.append([alike.pop(seed) for seed in block])
            elif left := [alike.pop(seed) for seed in members if checkpoints.latest(alike[seed])]:
                others = ", ".join(str(seed) for seed in block if seed not in members)
                warnings.warn(f"{_names(left)} alone, without seed {others} of their block", stacklevel=4)
                groups += [[folder] for folder in left]
        n_parts = min(len(every), -(-n_jobs // len(sweep)))
        parts = [
            [seed for seed in part.tolist() if seed in alike] for part in np.array_split([*every], n_parts)
        ]
        new: list[list[int]] = [part for part in parts if part]
        largest = max(new, key=len, default=[])
        together = len(largest) > 1 and obstacle(runs[alike[largest[0]]], largest) is None
        groups += [[alike[k] for k in part] for part in (new if together else [[k] for k in alike])]
    order = {folder: k for k, folder in enumerate(runs)}
    return sorted(groups, key=lambda group: order[group[0]])


def _begun_with(folder: Path) -> list[int]:
    """Return the seeds of a run's last session, its own or those of a block; none if it has not begun."""
    if not (folder / "run.json").exists():
        return []
    record = Record(folder)
    blocks = [session.get("block", [record.seed]) for session in record.metadata["sessions"]]
    return blocks[-1] if blocks else []


def check(folders: Sequence[Path], seeds: Sequence[int]) -> None:
    """A block may begin or go on if none of its runs has finished, or has gone on without the others."""
    for folder, seed in zip(folders, seeds, strict=True):
        if Record(folder).finished:
            raise ValueError(f"seed {seed} has finished")
        if checkpoints.latest(folder) and _begun_with(folder) != list(seeds):
            raise ValueError(f"seed {seed} has gone on without the others")


def goes_on_alone(folders: Sequence[Path], error: Exception) -> str:
    """Return what is said where a block cannot go on."""
    return f"{_names(folders)} alone: {error}"


def _names(folders: Sequence[Path]) -> str:
    verb = "goes on" if len(folders) == 1 else "go on, each"
    return f"{folders[0].parent}: {', '.join(folder.name for folder in folders)} {verb}"


def _alike(runs: Runs) -> Iterator[dict[int, Path]]:
    """Yield the runs that differ by their seed only, and lie side by side, in order of their seeds."""
    groups: dict[str, dict[int, Path]] = {}
    for folder, spec in sorted(runs.items(), key=lambda run: run[1].seed):
        key = str((folder.parent, spec._replace(seed=0)))
        groups.setdefault(key, {})[int(spec.seed)] = folder
    yield from groups.values()
