"""What importing the package costs, and what the extension of the book sees of it."""

import base64
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_cache import get_cache
from PIL import Image

import pgcourse

ROOT = Path(__file__).parents[1]
FILES = [path for path in (ROOT / "pgcourse").rglob("*.py") if path != ROOT / "pgcourse" / "__init__.py"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "pgcourse").with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
)
READ_ONLY = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "readonly")}
HEAVY = ("torch", "matplotlib", "gymnasium", "ale_py", "ipywidgets", "IPython", "sklearn", "scipy", "numpy")


def imported_by(statement):
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split()
    )


def test_importing_the_package_imports_nothing_heavy():
    assert not imported_by("import pgcourse") & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "maths.logistic",
        "maths.returns",
        "maths.td",
        "maths.estimators",
        "teaching.explore",
        "teaching.plots",
        "teaching.video",
        "maths.statistics",
        "experiments.checkpoints",
        "experiments.curves",
        "environments.pong",
        "environments.tasks",
        "experiments.recipes",
        "experiments.records",
        "experiments.sweeps",
    ],
)
def test_modules_without_networks_do_not_import_torch(module):
    assert "torch" not in imported_by(f"import pgcourse.{module}")


@pytest.mark.parametrize(
    "module",
    ["maths.statistics", "experiments.checkpoints", "experiments.curves", "teaching.video", "__main__"],
)
def test_modules_of_the_lowest_storey_import_nothing_heavy_but_numpy(module):
    assert imported_by(f"import pgcourse.{module}") & {
        *HEAVY,
        "joblib",
        "safetensors",
        "pygame",
        "distributed",
    } <= {"numpy"}


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
    """No command writes beside the package; permissions would not stop a test that runs as root."""
    run = "run reinforce/cartpole --seeds 2 --steps 2000 --n-jobs 2 --folder runs"
    for command in (
        "list",
        run,
        "resume runs",
        "plot runs",
        "evaluate reinforce/cartpole --episodes 5",
        "watch reinforce/cartpole",
    ):
        arguments = [sys.executable, "-m", "pgcourse", *command.split()]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=READ_ONLY)
        assert done.returncode == 0, done.stderr
    write = "import sys; open(sys.argv[1], 'w')"
    for place in (
        ROOT / "pgcourse" / "experiments.records" / "new",
        ROOT / "pgcourse" / ".." / "book" / "new",
    ):  # this is how it would be noticed
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


def test_a_change_of_the_package_changes_the_digest_that_the_cache_is_kept_under(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import selfcontained

    (tmp_path / "pgcourse").mkdir()
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\n")
    module = tmp_path / "pgcourse" / "returns.py"
    module.write_text("a = 1\n")
    monkeypatch.setattr(selfcontained, "ROOT", tmp_path)
    digests = [selfcontained.digest()]
    for change in (
        lambda: (
            (tmp_path / "pgcourse" / "__pycache__").mkdir()
            or (tmp_path / "pgcourse/__pycache__/returns.cpython-311.pyc").write_text("")
        ),
        lambda: (tmp_path / "pgcourse" / ".ipynb_checkpoints").mkdir(),
        lambda: module.write_text("a = 2\n"),
        lambda: module.rename(module.with_name("return_.py")),
        lambda: (tmp_path / "requirements.txt").write_text("torch==2.14.0\n"),
    ):
        change()
        digests.append(selfcontained.digest())
    assert digests[0] == digests[1] == digests[2]  # compiled files and checkpoints do not count
    assert len(set(digests[2:])) == 4


def test_pictures_leave_a_page_once_and_keep_their_place(tmp_path, monkeypatch):
    """A page that a second build does not write anew stays as it is, whatever its alternative text says."""
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import media

    picture = io.BytesIO()
    Image.new("RGB", (30, 20)).save(picture, "webp")
    text = base64.b64encode(picture.getvalue()).decode()
    page = tmp_path / "book" / "page.html"
    page.parent.mkdir()
    page.write_text(f'<img alt="Its width = 3" src="data:image/webp;base64,{text}" hidden>')
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name="html"))
    media.apart(app, None)
    [file] = (tmp_path / "_images").iterdir()
    assert file.read_bytes() == picture.getvalue()
    once = page.read_text()
    assert (
        once == '<img loading="lazy" width="30" height="20" alt="Its width = 3" '
        f'src="../_images/{file.name}" hidden>'
    )
    media.apart(app, None)
    assert page.read_text() == once


def test_notebooks_have_their_outputs_also_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import selfcontained

    executed = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")])]
    )
    nbformat.write(executed, tmp_path / "page.ipynb")
    get_cache(tmp_path / "cache").cache_notebook_file(tmp_path / "page.ipynb", check_validity=False)
    page = tmp_path / "jupyter_execute" / "book" / "page.ipynb"
    page.parent.mkdir(parents=True)
    code = nbformat.v4.new_code_cell("1 + 1")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("A sentence that is new."), code]), page
    )
    other = page.with_name("other.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("2 + 2")]), other)
    config = SimpleNamespace(nb_execution_cache_path=str(tmp_path / "cache"))
    selfcontained.with_outputs(SimpleNamespace(outdir=tmp_path / "html", config=config), None)
    cells = nbformat.read(page, 4).cells
    assert cells[0].source == "A sentence that is new."
    assert cells[1].outputs[0].text == "2"
    assert nbformat.read(other, 4).cells[0].outputs == []
