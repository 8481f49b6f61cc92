"""Each benchmark has its table beside it, the table says how to repeat it, and the book shows them all."""

import datetime
import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "report")
PAGE = (ROOT / "book" / "benchmarks.md").read_text(encoding="utf-8")


def tables(text):
    """The rows of each table, as lists of cells."""
    groups = itertools.groupby(text.splitlines(), lambda line: line.startswith("|"))
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        for is_table, lines in groups
        if is_table
    ]


def is_sound(text, script):
    command, empty, about, *_ = text.splitlines()
    python, file, *arguments = shlex.split(command.strip("`"))
    assert (python, file, empty) == ("python", f"benchmarks/{script.name}", "")
    options = set(re.findall(r'add_argument\("(--\w+)"', script.read_text(encoding="utf-8")))
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    date, machine = about.split(", commit ")
    assert datetime.date.fromisoformat(date) > datetime.date(2026, 1, 1)
    assert re.fullmatch(r"[0-9a-f]{7}, \d+ × .+; Python 3\.\d+\.\d+, torch \S+, .*numpy \S+.*", machine)
    for head, rule, *rows in tables(text):
        assert set("".join(rule)) <= set(":- ")
        assert rows
        assert all(len(row) == len(head) for row in rows)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_table_says_how_to_repeat_it(script):
    text = script.with_suffix(".md").read_text(encoding="utf-8")
    is_sound(text, script)
    assert tables(text)


def test_the_page_shows_all_of_them_and_nothing_else():
    assert sorted(re.findall(r"\{include\} \.\./benchmarks/(\w+)\.md", PAGE)) == [
        script.stem for script in SCRIPTS
    ]
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.md")} == {script.stem for script in SCRIPTS}


def test_what_is_printed_is_such_a_table(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "dqn.py"), "--seeds", "5"])
    import report

    made = report.made("ruff")
    assert "ruff" in made["versions"]
    made["commit"] = "0123456789abcdef"  # installed without a repository there is none
    report.about(made)
    report.head("what", "first", "second")
    report.row("one", "1", "2")
    printed = capsys.readouterr().out
    is_sound(printed, ROOT / "benchmarks" / "dqn.py")
    assert printed.startswith("`python benchmarks/dqn.py --seeds 5`\n")
    assert tables(printed) == [[["what", "first", "second"], [":---", "---:", "---:"], ["one", "1", "2"]]]
