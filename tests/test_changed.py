"""pytest --changed, in a small repository of its own: what passed is not run again until it may fail."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "requirements.txt": "",
    "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['book/_ext']\n",
    "pgcourse/__init__.py": "",
    "pgcourse/a.py": "a = 1\n",
    "pgcourse/b.py": "from pgcourse import a\n",
    "pgcourse/c.py": "c = 1\n",
    "tests/test_a.py": "from pgcourse import b\n\ndef test_a():\n    assert b.a.a\n",
    "tests/test_c.py": "from pgcourse import c\ndef test_c():\n    assert c.c\ndef test_d():\n    assert c\n",
    "tests/test_site.py": "import pytest\n\n@pytest.fixture(params=['one', 'two'])\ndef name(request):\n"
    "    return request.param\n\ndef test_page(name):\n    pass\n\ndef test_all():\n    pass\n",
    "_build/html/one.html": "1",
    "_build/html/two.html": "2",
    "tests/sanitize.cfg": "",
}


@pytest.fixture
def repository(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    shutil.copytree(ROOT / "book" / "_ext", tmp_path / "book" / "_ext")
    return tmp_path


def ran(repository, *options):
    """Return the tests that ran, sorted, and the exit status."""
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1", "CI": ""}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others take most of the time
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    wanted = [name for name, option in {"xdist": "-n", "nbval": "--nbval"}.items() if option in options]
    plugins = ["-p", "no:cacheprovider", *(f"-p{name}.plugin" for name in wanted)]
    command = [sys.executable, "-m", "pytest", "-v", "--color=no", *plugins, *options]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert "INTERNALERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "PASSED" in line or "FAILED" in line]
    ran.printed = done.stdout
    return sorted({re.search(r"::(test_\w+(\[\w+\])?|Cell \d)", line)[1] for line in lines}), done.returncode


EVERYTHING = ["test_a", "test_all", "test_c", "test_d", "test_page[one]", "test_page[two]"]


def test_what_passed_runs_again_when_what_it_imports_has_changed(repository):
    assert ran(repository, "--changed") == (EVERYTHING, 0)
    assert ran(repository, "--changed") == ([], 0)  # and that is well
    (repository / "pgcourse" / "a.py").write_text("a = 2\n")
    assert ran(repository, "--changed") == (["test_a"], 0)
    (repository / "tests" / "test_c.py").write_text(FILES["tests/test_c.py"] + "\n")
    assert ran(repository, "--changed") == (["test_c", "test_d"], 0)
    assert ran(repository)[0] == EVERYTHING  # without the option, all of it


def test_a_file_that_failed_runs_again_until_it_passes(repository):
    (repository / "pgcourse" / "c.py").write_text("c = 0\n")
    assert ran(repository, "--changed", "-n", "2") == (EVERYTHING, 1)
    assert ran(repository, "--changed") == (["test_c", "test_d"], 1)
    (repository / "pgcourse" / "c.py").write_text("c = 1\n")
    assert ran(repository, "--changed") == (["test_c", "test_d"], 0)
    assert ran(repository, "--changed", "-n", "2") == ([], 0)


def test_what_a_run_left_out_has_not_passed(repository):
    """Neither by an option that selects, nor because the run stopped at a failure."""
    ran(repository, "--changed", "-k", "test_c and not test_d")
    assert ran(repository, "--changed", "tests/test_c.py") == (["test_c", "test_d"], 0)
    (repository / "pgcourse" / "a.py").write_text("a = 0\n")
    assert ran(repository, "--changed", "-x") == (["test_a"], 1)
    assert "test_page[one]" in ran(repository, "--changed")[0]


def test_a_changed_page_is_tested_again_and_what_looks_at_all_pages(repository):
    ran(repository, "--changed")
    (repository / "_build" / "html" / "two.html").write_text("3")
    assert ran(repository, "--changed") == (["test_all", "test_page[two]"], 0)


def test_a_notebook_runs_again_when_its_outputs_are_new(repository):
    """And its time is kept."""
    page = repository / "_build" / "student" / "page.ipynb"
    page.parent.mkdir()

    def write(text):
        cell = nbformat.v4.new_code_cell("import time\ntime.sleep(0.1)\nprint(4)", execution_count=1)
        cell.outputs = [nbformat.v4.new_output("stream", text=text)]
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"pgcourse": {"seconds": 1.0}}), page)

    options = ["--changed", "--nbval", "--nbval-current-env", "_build/student"]
    write("4\n")
    assert ran(repository, *options) == (["Cell 0"], 0)
    assert ran(repository, *options) == ([], 0)
    write("5\n")
    assert ran(repository, *options) == (["Cell 0"], 1)
    assert json.loads((repository / "_build" / "times.json").read_text())["page"] > 0


def test_the_budgets_close_the_report_before_its_last_line(repository):
    assert ran(repository, "--changed", "--budgets", "0")[1] == 0
    lines = ran.printed.splitlines()
    assert "make test" in "".join(lines[-4:])
    assert re.fullmatch(r"=+ 6 passed in .* =+", lines[-1])


def test_a_file_of_tests_that_reads_more_than_it_imports_says_so():
    """Or has its reason not to: the site is known to conftest.py, and a path in the build is no source."""
    text = (ROOT / "conftest.py").read_text("utf-8")
    named = set(re.findall(r'"(test_\w+)\.py": ', text)) | {"test_site", "test_explore"}
    reading = {
        path.stem for path in (ROOT / "tests").glob("test_*.py") if "__file__" in path.read_text("utf-8")
    }
    assert reading <= named
