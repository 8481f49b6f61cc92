"""What importing the package costs, and what its files promise."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import pgcourse

ROOT = Path(__file__).parents[1]
FILES = [path for path in (ROOT / "pgcourse").rglob("*.py") if path != ROOT / "pgcourse" / "__init__.py"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "pgcourse").with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
)
READ_ONLY = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "student")}
HEAVY = ("torch", "matplotlib", "gymnasium", "ale_py", "ipywidgets", "IPython", "sklearn", "scipy", "numpy")


LOWEST = ["maths.statistics", "experiments.checkpoints", "experiments.curves", "teaching.video", "__main__"]
WITHOUT_NETWORKS = [
    "maths.logistic",
    "maths.returns",
    "maths.td",
    "maths.estimators",
    "maths.groups",
    "maths.preferences",
    "maths.sequences",
    "teaching.explore",
    "teaching.plots",
    "environments.pong",
    "environments.tasks",
    "experiments.recipes",
    "experiments.records",
    "experiments.sweeps",
]


@pytest.fixture(scope="module")
def loaded():
    """For the package and each module, what is loaded once it and those before it are, in one process."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    print(name, *{module.partition('.')[0] for module in sys.modules})"
    names = ["pgcourse", *(f"pgcourse.{module}" for module in LOWEST + WITHOUT_NETWORKS)]
    command = [sys.executable, "-c", code, *names]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    lines = [line.split() for line in printed.splitlines()]
    return {name.removeprefix("pgcourse."): set(modules) for name, *modules in lines}


def test_importing_the_package_imports_nothing_heavy(loaded):
    assert not loaded["pgcourse"] & set(HEAVY)


@pytest.mark.parametrize("module", LOWEST + WITHOUT_NETWORKS)
def test_modules_without_networks_do_not_import_torch(module, loaded):
    assert "torch" not in loaded[module]


@pytest.mark.parametrize("module", LOWEST)
def test_modules_of_the_lowest_storey_import_nothing_heavy_but_numpy(module, loaded):
    assert loaded[module] & {*HEAVY, "joblib", "safetensors", "pygame", "distributed"} <= {"numpy"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_documented(module):
    imported = __import__(f"pgcourse.{module}", fromlist=["_"])
    assert imported.__doc__
    for name, thing in vars(imported).items():
        if (
            callable(thing)
            and getattr(thing, "__module__", "") == imported.__name__
            and not name.startswith("_")
        ):
            assert thing.__doc__, f"{module}.{name}"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_method_that_raises_or_takes_something_is_documented(module):
    for name, thing in vars(__import__(f"pgcourse.{module}", fromlist=["_"])).items():
        if (
            inspect.isclass(thing)
            and thing.__module__ == f"pgcourse.{module}"
            and not getattr(thing, "_is_protocol", False)
        ):
            for method, function in vars(thing).items():
                if (
                    inspect.isfunction(function)
                    and not method.startswith("_")
                    and len(inspect.signature(function).parameters) > 1
                ):
                    inherited = any(
                        getattr(getattr(base, method, None), "__doc__", None) for base in thing.__mro__
                    )
                    assert inherited, f"{module}.{name}.{method}"


def test_every_package_and_every_record_ships():
    """What setuptools takes along, from the patterns in pyproject.toml."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert about["packages"]["find"] == {"include": ["pgcourse*"]}
    shipped = {
        path
        for name, patterns in about["package-data"].items()
        for p in patterns
        for path in (ROOT / name.replace(".", "/")).glob(p)
    }
    there = {
        path
        for path in (ROOT / "pgcourse").rglob("*.*")
        if path.suffix not in (".py", ".pyc") and path.is_file()
    }
    assert there == shipped


def test_the_command_is_installed():
    [command] = entry_points(group="console_scripts", name="pgcourse")
    assert command.value == "pgcourse.__main__:app"
    assert callable(command.load())
    installed = subprocess.run(
        [shutil.which("pgcourse", path=Path(sys.executable).parent), "list"], capture_output=True, text=True
    )
    assert installed.returncode == 0
    assert "reinforce/cartpole: " in installed.stdout


def test_a_read_only_installation_works(tmp_path):
    """No command writes beside the package; permissions would not stop a test that runs as root.

    All run in one process, and that of the first starts others.
    """
    commands = [
        "run reinforce/cartpole --seeds 2 --steps 2000 --n-jobs 2 --folder runs",
        "resume runs",
        "plot runs",
        "list",
        "evaluate reinforce/cartpole --episodes 5",
        "watch reinforce/cartpole",
    ]
    code = "import sys; from pgcourse.__main__ import app\nfor command in sys.argv[1:]:\n"
    code += "    if app(command.split(), standalone_mode=False):\n        sys.exit(command)"
    command = [sys.executable, "-c", code, *commands]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=READ_ONLY)
    assert done.returncode == 0, done.stderr


def test_a_write_beside_the_package_would_be_noticed():
    write = "import sys; open(sys.argv[1], 'w')"
    for place in (
        ROOT / "pgcourse" / "experiments.records" / "new",
        ROOT / "pgcourse" / ".." / "book" / "new",
    ):
        done = subprocess.run(
            [sys.executable, "-c", write, place], capture_output=True, text=True, env=READ_ONLY
        )
        assert "PermissionError" in done.stderr
    assert not (ROOT / "book" / "new").exists()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_version_is_the_installed_one():
    assert version("pgcourse") == pgcourse.__version__
