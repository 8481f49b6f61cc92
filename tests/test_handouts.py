"""What a lecturer hands out has no solutions in it, and is complete."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from pgcourse.teaching import grading, handouts

ROOT = Path(__file__).parents[1]
PROBLEMS, BOOK = ROOT / "problems", ROOT / "book"
SETS = handouts.sets_in(PROBLEMS)
CHAPTERS = handouts.chapters_in(BOOK)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    if not SETS:
        pytest.skip("the problem sets are kept elsewhere")
    target = tmp_path_factory.mktemp("handouts")
    return target, handouts.write(PROBLEMS, BOOK, target)


def test_each_set_has_four_files_and_each_chapter_one(written):
    target, paths = written
    assert {path for path in target.rglob("*") if path.is_file()} == set(paths)
    names = {path.relative_to(target).as_posix() for path in paths}
    for path in SETS:
        for name in (f"student/{path.name}", f"solutions/{path.name}", f"bundles/{path.stem}.zip"):
            assert name in names
    assert {f"chapters/{path.name}" for path in CHAPTERS} < names


def test_every_notebook_can_be_opened(written):
    import nbformat

    for path in written[1]:
        if path.suffix == ".ipynb":
            nbformat.validate(nbformat.read(path, as_version=4))


def test_a_bundle_grades_the_solutions(written):
    target, _ = written
    for path in (target / "bundles").iterdir():
        with zipfile.ZipFile(path) as bundle:
            assert set(bundle.namelist()) == {"set.json", "problems.py"}
        solutions = grading.read_notebook(target / "solutions" / f"{path.stem}.ipynb")
        assert grading.grade_trusted(grading.load(path), solutions).points == 20


def test_the_table_has_all_points(written):
    table = (written[0] / "points.md").read_text("utf-8")
    sums = re.findall(r"\| all \| \| (\d+) \| (\d+) \|", table)
    assert len(sums) == len(SETS)
    assert {points for points, _ in sums} == {"20"}


def test_handouts_are_the_same_bytes_each_time(written, tmp_path):
    for path, again in zip(written[1], handouts.write(PROBLEMS, BOOK, tmp_path), strict=True):
        assert path.read_bytes() == again.read_bytes(), path


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_keeps_all_but_its_solutions(path):
    chapter = grading.read_notebook(path)
    before, after = (
        "\n".join(map(grading.source, c["cells"])) for c in (chapter, handouts.without_solutions(chapter))
    )
    assert "<summary>Solution</summary>" in before
    assert "<summary>Solution</summary>" not in after
    assert after.count("<summary>Answers</summary>") == before.count("<summary>Answers</summary>")
    for kept in (r"^\*\*[\dLP]\.\d+\*\*.*$", "^#+ .*$", r"^exercises\.check.*$"):
        assert re.findall(kept, after, flags=re.M) == re.findall(kept, before, flags=re.M)
    exercises = after.split("## Exercises\n")[1].split("\n## ")[0]
    assert "assert " not in exercises


def test_sets_are_in_the_order_of_the_chapters(tmp_path):
    for name in ("ppo", "chapter_10", "chapter_9", "chapter_1"):
        (tmp_path / f"{name}.ipynb").touch()
    names = [path.stem for path in handouts.sets_in(tmp_path)]
    assert names == ["chapter_1", "chapter_9", "chapter_10", "ppo"]


def test_chapters_are_in_the_order_of_the_book():
    names = [path.stem for path in CHAPTERS]
    assert names[:8] == sorted(path.stem for path in BOOK.glob("0*.ipynb"))
    assert "ppo" in names[8:]


def test_no_folder_of_problems(tmp_path):
    with pytest.raises(ValueError, match=r"^problems must be a folder with problem sets, .*, got "):
        handouts.write(tmp_path, BOOK, tmp_path)


def test_make_handouts_is_this(tmp_path):
    said = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/ready", "handouts", f"PROBLEMS={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"python -m pgcourse.teaching.handouts {tmp_path} book _build/handouts" in said


def test_lines_of_a_cell_stay_lines():
    cell = {"cell_type": "code", "metadata": {}, "source": json.loads('["def f(x):\\n", "    return x"]')}
    [same] = handouts.with_solutions({"cells": [cell]})["cells"]
    assert same == cell
