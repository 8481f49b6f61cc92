"""Execute the notebooks, two at a time, before Sphinx reads them.

An executed notebook lies in _build/executed, with the digest of what it depends on: its
code cells and the part of the package that it imports. It is executed again when that
changes, and not when its prose does. Long ones begin first. A notebook that keeps both
cores busy by itself says so in its metadata, ``"pgcourse": {"cores": 2}``, and runs alone.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from sphinx.errors import ExtensionError
from sphinx.util import logging

from budgets import budget
from dependencies import ROOT, code, digest, of_notebook

logger = logging.getLogger(__name__)
BOOK, EXECUTED = ROOT / "book", ROOT / "_build" / "executed"
TIMEOUT = 600  # seconds that a cell may take
# Sliders draw all their frames. Each notebook computes on one thread, so that two can share
# two cores, and no digit depends on how many cores there are.
SETTINGS = {"PGCOURSE_BAKE": "1", "OMP_NUM_THREADS": "1"}


def notebooks() -> list[Path]:
    return sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def name(notebook: Path) -> str:
    return notebook.relative_to(BOOK).with_suffix("").as_posix()


def executed(notebook: Path) -> Path:
    """Return where a notebook lies with its outputs."""
    return EXECUTED / notebook.relative_to(BOOK)


def about(notebook: Path) -> dict:
    """Return what a notebook says of itself: cores, and once it is executed, digest and seconds."""
    metadata = json.loads(notebook.read_text("utf-8"))["metadata"] if notebook.exists() else {}
    return {"cores": 1, "digest": "", "seconds": 0.0} | metadata.get("pgcourse", {})


def is_current(notebook: Path) -> bool:
    return about(executed(notebook))["digest"] == digest_of(notebook)


def digest_of(notebook: Path) -> str:
    return digest(of_notebook(notebook), *code(notebook))


def execute(source: Path, target: Path) -> None:
    """Execute one notebook and write it with its outputs, its digest and its times."""
    notebook, key = nbformat.read(source, 4), digest_of(source)
    client = NotebookClient(notebook, timeout=TIMEOUT, record_timing=False)
    start = time.perf_counter()
    client.execute(cwd=str(source.parent), env=os.environ | SETTINGS)
    used = psutil.Process().cpu_times()  # the kernel's, and of the processes it waited for
    notebook.metadata["pgcourse"] = notebook.metadata.get("pgcourse", {}) | {
        "digest": key,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used.children_user + used.children_system, 1),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    nbformat.write(notebook, unfinished)
    unfinished.replace(target)


def execute_all(todo: list[Path]) -> dict[Path, str]:
    """Execute notebooks in processes of their own; return what those that failed have said."""

    def run(notebook: Path) -> str:
        command = [sys.executable, __file__, str(notebook), str(executed(notebook))]
        result = subprocess.run(command, capture_output=True, text=True)
        seconds = f"{about(executed(notebook))['seconds']:.0f} s"
        print(
            f"{notebook.relative_to(ROOT)}: {'failed' if result.returncode else seconds}",
            flush=True,
        )
        return result.stderr if result.returncode else ""

    expected = {n: about(executed(n))["seconds"] or budget(name(n)) for n in todo}
    long_first = sorted(todo, key=expected.__getitem__, reverse=True)
    alone = [notebook for notebook in long_first if about(notebook)["cores"] > 1]
    paired = [notebook for notebook in long_first if notebook not in alone]
    errors = [run(notebook) for notebook in alone]
    with ThreadPoolExecutor(2) as pool:
        errors += pool.map(run, paired)
    return {notebook: error for notebook, error in zip(alone + paired, errors, strict=True) if error}


def execute_anew(app):
    """Execute what changed before any page is read; a failure is a warning, which ends the build."""
    todo = [notebook for notebook in notebooks() if not is_current(notebook)]
    if todo:
        print(f"executing {len(todo)} of {len(notebooks())} notebooks", flush=True)
    kept = {executed(notebook) for notebook in notebooks()}
    for old in {*EXECUTED.rglob("*.*")} - kept:  # logs of failures, and of notebooks that are gone
        old.unlink()
    for notebook, error in execute_all(todo).items():
        executed(notebook).unlink(missing_ok=True)
        log = executed(notebook).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(error, "utf-8")
        logger.warning("executing %s failed:\n%s", notebook.relative_to(ROOT), error)


def with_outputs(app, docname, source):
    """Give a notebook that Sphinx is about to read its outputs."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb" or not (found := executed(path)).exists():
        return
    app.env.note_dependency(str(found))  # the page is stale when the outputs are new
    notebook, done = json.loads(source[0]), json.loads(found.read_text("utf-8"))
    cells, executed_cells = ([c for c in n["cells"] if c["cell_type"] == "code"] for n in (notebook, done))
    if ["".join(c["source"]) for c in cells] != ["".join(c["source"]) for c in executed_cells]:
        raise ExtensionError(f"{docname} was changed after it was executed; build again")
    for cell, executed_cell in zip(cells, executed_cells, strict=True):
        cell |= {key: executed_cell[key] for key in ("outputs", "execution_count")}
    notebook["metadata"]["language_info"] = done["metadata"]["language_info"]
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("builder-inited", execute_anew)
    app.connect("source-read", with_outputs, priority=400)
    return {"version": "1", "parallel_read_safe": True}


if __name__ == "__main__":
    execute(*map(Path, sys.argv[1:]))
