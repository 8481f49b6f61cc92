"""What a notebook or a test depends on, by the import graph, and digests of it.

A file depends on the modules that it imports, on what these import, on the data that lie
in their folders, and on the pinned environment.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ("requirements.txt",)
# Modules that import others by a name which they compute: what these may be.
DYNAMIC = {"pgcourse.experiments.recipes": "pgcourse.algorithms"}
# Data belong to the package in whose folder they lie, but these to those who read them.
DATA = {"pgcourse/experiments/comparisons": "pgcourse.experiments.records"}


def digest(files: Iterable[Path], *more: str) -> str:
    """Return a digest of files, their names, further texts, and the pinned environment."""
    state = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for file in sorted({*files, *(ROOT / name for name in ENVIRONMENT)}):
        state.update(_name(file).encode() + _content(file))
    for text in more:
        state.update(text.encode() + b"\0")
    return state.hexdigest()[:16]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _content(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def code(notebook: Path) -> list[str]:
    """Return the code cells of a notebook."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def of_notebook(notebook: Path) -> set[Path]:
    """Return the files of the package on which a notebook depends."""
    lines = "\n".join(code(notebook)).splitlines()
    python = [
        f"{line[: -len(line.lstrip())]}pass" if line.lstrip()[:1] in ("%", "!") else line for line in lines
    ]
    return _files(_imports("\n".join(python)))


def of_module(file: Path) -> set[Path]:
    """Return the files on which a Python file outside the package depends.

    Besides the package's, they are itself and those beside it which it imports.
    """
    found, todo = set(), [file]
    while todo:
        found.add(here := todo.pop())
        beside = [here.parent / f"{name.split('.')[0]}.py" for name in _names(here.read_text("utf-8"))]
        todo += [path for path in beside if path.exists() and path not in found]
    return found.union(*(_files(_imports(path.read_text("utf-8"))) for path in found))


def _names(python: str) -> set[str]:
    """Return the dotted names that a program imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _imports(python: str) -> set[str]:
    """Return the package's modules that a program imports itself."""
    modules = _graph().modules
    found = set()
    for name in _names(python):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found |= {name} - {""}
    return found


def _files(imported: set[str]) -> set[Path]:
    """Return the files of modules, of what they import, and of the packages around them."""
    graph, found, todo = _graph(), set(), set(imported)
    while todo:
        found |= todo
        new = {module.rpartition(".")[0] for module in todo} - {""}
        for module in todo:
            new |= graph.find_modules_directly_imported_by(module)
            new |= graph.find_descendants(DYNAMIC[module]) if module in DYNAMIC else set()
        todo = new - found
    return set().union(*(_owned()[module] for module in found))


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("pgcourse", exclude_type_checking_imports=True, cache_dir=None)


@cache
def _owned() -> dict[str, set[Path]]:
    """Return for each module its file, and for a package also the data in its folder."""
    owned: dict[str, set[Path]] = {}
    for module in _graph().modules:
        path = ROOT / module.replace(".", "/")
        owned[module] = {path / "__init__.py" if path.is_dir() else path.with_suffix(".py")}
    for file in (ROOT / "pgcourse").rglob("*.*"):
        if file.suffix in (".py", ".pyc") or ".ipynb_checkpoints" in file.parts or not file.is_file():
            continue
        folder = file.parent
        while not (folder / "__init__.py").exists() and _name(folder) not in DATA:
            folder = folder.parent
        owned[DATA.get(_name(folder), _name(folder).replace("/", "."))].add(file)
    return owned
