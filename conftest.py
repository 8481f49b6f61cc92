"""For pytest: ``--changed`` runs only what may have another result than when it last passed.

What passed is remembered in ``_build/passed.json`` with a digest of all that it depends on: for a file of
tests, itself and what it imports of the package, by the import graph, and what ``READS`` names; for a
notebook, itself; for the tests of a page, the page. Without ``--changed`` everything runs that was asked for,
and nothing is remembered.
"""

import json
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

ROOT = Path(__file__).parent
PASSED = ROOT / "_build" / "passed.json"

# What files of tests read beside what they import, or run in processes of their own.
BOOK = ("_config.yml", "_toc.yml", "book/**/*")
TEXTS = ("*.md", "CITATION.cff", "LICENSE*", "Makefile", ".ci/*", ".github/*/*", "benchmarks/*")
PACKAGE = ("pgcourse/**/*",)
STUDENT = ("tests/student/*",)
READS = {
    "test_benchmarks.py": ("benchmarks/*", "book/benchmarks.md"),
    "test_build.py": (*BOOK, *PACKAGE),
    "test_changed.py": ("book/_ext/*", "tests/*.py"),
    "test_diagnosis.py": ("book/curves.ipynb", "tests/curves/**/*", *PACKAGE),
    "test_downloads.py": ("book/**/*", "_toc.yml"),
    "test_exercises.py": ("book/**/*.ipynb",),
    "test_faults.py": ("benchmarks/*", *PACKAGE),
    "test_grading.py": ("problems/*", *PACKAGE),
    "test_handouts.py": ("problems/*", "book/*.ipynb", "book/beyond/*.ipynb", "Makefile", *PACKAGE),
    "test_language.py": (*BOOK, *PACKAGE),
    "test_main.py": (*BOOK, *TEXTS, *PACKAGE),
    "test_notebooks.py": (*BOOK, *TEXTS, *PACKAGE, *STUDENT, "tests/*.py"),
    "test_package.py": (*BOOK, *TEXTS, *PACKAGE, *STUDENT, "tests/*.py"),
    "test_play.py": ("book/play.md", "book/_static/court.js", "book/_ext/*", *PACKAGE),
    "test_problems.py": ("problems/*", *BOOK, *PACKAGE),
    "test_quick_checks.py": BOOK,
    "test_records.py": PACKAGE,
    "test_student.py": (*PACKAGE, *STUDENT, "book/_ext/*", "tests/sanitize.cfg"),
    "test_training.py": ("tests/*.py",),
}


def pytest_addoption(parser):
    parser.addoption("--changed", action="store_true", help="run only what changed since it last passed")
    parser.addoption(
        "--budgets", type=int, metavar="BEGAN", help="print what all took since then, in Unix seconds"
    )


def pytest_collectstart(collector):
    """Have nbval compare pictures as it does all else."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = tuple(key for key in collector.skip_compare if not key.startswith("image/"))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    sizes = Counter(map(_unit, items))  # before another option leaves some out
    yield
    if not config.option.changed:
        return
    passed = json.loads(PASSED.read_text("utf-8")) if PASSED.exists() else {}
    same = {item for item in items if passed.get(_unit(item)) == _digest(_unit(item))}
    config.hook.pytest_deselected(items=[*same])
    items[:] = sorted((item for item in items if item not in same), key=_rank)
    for item in items:
        unit = _unit(item)
        item.user_properties.append(("unit", [unit, _digest(unit), sizes[unit]]))


def _unit(item):
    """Return what an item belongs to: its file, or of the site's tests a page."""
    name = item.path.relative_to(ROOT).as_posix()
    page = item.callspec.params.get("name") if hasattr(item, "callspec") else None
    return f"{name} {page}" if page and item.path.name == "test_site.py" else name


def _rank(item):
    """Return a key that puts notebooks with two cores first, then the long ones."""
    about = _about(item)
    return (-about.get("cores", 1), -about["seconds"]) if about else (0, 0)


def _about(item):
    """Return what the build has written into a notebook, if the item is a cell of one."""
    return item.parent.nb.metadata.get("pgcourse") if hasattr(item.parent, "nb") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Before a notebook's first cell, wait until as many of the two cores are free as it needs."""
    about = _about(item)
    if about and not item.parent.kernel:
        locks = [FileLock(ROOT / "_build" / f"core-{i}.lock") for i in range(2)]
        with FileLock(ROOT / "_build" / "cores.lock"):  # in turn; else those that need both wait till the end
            missing = about.get("cores", 1)
            while missing:
                for lock in locks:
                    with suppress(Timeout):
                        if missing and not lock.is_locked:
                            lock.acquire(timeout=0.1)
                            missing -= 1
        item.parent.cores = locks
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    result = yield
    if nextitem is None or nextitem.parent is not item.parent:
        for core in getattr(item.parent, "cores", ()):
            core.release()
    return result


@cache
def _digest(unit):
    import dependencies

    file, _, page = unit.partition(" ")
    file = ROOT / file
    files, site = {file, Path(__file__), ROOT / "pyproject.toml"}, ROOT / "_build" / "html"
    if file.suffix == ".ipynb":
        files |= {*ROOT.glob(STUDENT[0]), ROOT / "tests" / "sanitize.cfg"}
    else:
        files |= dependencies.of_module(file)
        files |= {
            path for pattern in READS.get(file.name, ()) for path in ROOT.glob(pattern) if path.is_file()
        }
    if file.name == "test_downloads.py":
        files |= {path for path in site.rglob("*") if path.is_file()}
    if file.name == "test_site.py":
        files |= {site / f"{page}.html"} if page else set(site.rglob("*.html"))
        files |= {path for path in (site / "_static").rglob("*") if path.is_file()}
    return dependencies.digest(file for file in files if "__pycache__" not in file.parts)


class Memory:
    """Remembers the units of which every item passed."""

    def __init__(self):
        self.well, self.failed, self.seconds = Counter(), set(), Counter()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.nodeid.startswith("_build/student/"):
            notebook = report.nodeid.removeprefix("_build/student/").partition(".ipynb")[0]
            self.seconds[notebook] += report.duration
        for unit in (value for key, value in report.user_properties if key == "unit"):
            if report.failed:
                self.failed.add(tuple(unit))
            elif report.when == "teardown":
                self.well[tuple(unit)] += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        new = {
            unit: key
            for (unit, key, n), seen in self.well.items()
            if seen == n and (unit, key, n) not in self.failed
        }
        if new:
            old = json.loads(PASSED.read_text("utf-8")) if PASSED.exists() else {}
            PASSED.parent.mkdir(exist_ok=True)
            PASSED.write_text(json.dumps(old | new, indent=1, sort_keys=True), "utf-8")
        import budgets

        budgets.measured(**{name: round(seconds, 1) for name, seconds in self.seconds.items()})
        if session.config.option.budgets is not None:
            budgets.measured(test=round(time.time() - session.config.option.budgets))
            if budgets.culprits():
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK  # nothing changed

    def pytest_terminal_summary(self, terminalreporter, config):
        if config.option.budgets is None:
            return
        import budgets

        terminalreporter.section("budgets")
        terminalreporter.line("\n".join(budgets.report()[0]))
        if culprits := budgets.culprits():
            limit, names = budgets.BUDGETS["limit"] // 60, ", ".join(culprits)
            terminalreporter.line(
                f"Everything took more than {limit} minutes, and these are why: {names}", red=True
            )


def pytest_configure(config):
    if config.option.changed and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Memory())
