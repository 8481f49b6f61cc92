"""What the notebooks, the build and the tests may take, printed against what they took.

The measured times of a notebook stand in its executed copy (the build) and in
_build/times.json (the tests). Run as  python book/_ext/budgets.py STAGE SECONDS.
"""

import fnmatch
import json
import os
import sys
from pathlib import Path

import click
import yaml

ROOT = Path(__file__).parents[2]
BUDGETS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text("utf-8"))
TIMES = ROOT / "_build" / "times.json"  # seconds of stages, and of notebooks in the tests
STAGES = {"book": "make book", "test": "make test"}


def budget(notebook: str) -> int:
    """Return how many seconds a notebook may take, by its name in the book, such as studies/claims."""
    patterns = BUDGETS["notebooks"].items()
    return next(seconds for pattern, seconds in patterns if fnmatch.fnmatch(notebook, pattern))


def times() -> dict[str, float]:
    return json.loads(TIMES.read_text("utf-8")) if TIMES.exists() else {}


def measured(**seconds: float) -> None:
    """Keep what was measured, by a stage or a notebook of the tests."""
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps(times() | seconds, indent=1, sort_keys=True), "utf-8")


def _executed() -> dict[str, dict]:
    """Return what the executed notebooks say of themselves, by their names."""
    folder = ROOT / "_build" / "executed"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text("utf-8"))["metadata"][
            "pgcourse"
        ]
        for path in sorted(folder.rglob("*.ipynb"))
    }


def report() -> tuple[list[str], list[str]]:
    """Return the lines of the table, and what of it is over its budget by half, which is red."""
    tested, over = times(), []
    lines = [f"{'seconds':28}{'budget':>8}{'build':>8}{'tests':>8}"]

    def line(name: str, allowed: int, *found: float | None) -> None:
        texts = [f"{seconds:8.0f}" if seconds else f"{'':8}" for seconds in found]
        text = f"{name:28}{allowed:8}{''.join(texts)}".rstrip()
        if max(seconds or 0 for seconds in found) > 1.5 * allowed:
            over.append(name)
            text = click.style(text, fg="red")
        lines.append(text)

    for name, about in _executed().items():
        line(name, budget(name), about["seconds"], tested.get(name))
    for stage, name in STAGES.items():
        line(name, BUDGETS[stage], tested.get(stage))
    return lines, over


def culprits() -> list[str]:
    """Return the notebooks that fail a test on CI: everything takes longer than the limit, and they are why.

    They are those that need half as much again as their budget also by the processor's
    clock, which does not go faster when the machine has other things to do.
    """
    if not os.environ.get("CI") or times().get("test", 0) <= BUDGETS["limit"]:
        return []
    return [
        name
        for name, about in _executed().items()
        if about["cpu_seconds"] / about.get("cores", 1) > 1.5 * budget(name)
    ]


if __name__ == "__main__":
    measured(**{sys.argv[1]: float(sys.argv[2])})
    click.echo("\n".join(report()[0]), color=True)
