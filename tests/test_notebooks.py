"""The conventions of every notebook and of every chapter. What they compute is checked by executing them."""

import ast
import importlib
import itertools
import json
import operator
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml
from pybtex.database import parse_file

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
STUDIES = [path for path in NOTEBOOKS if path.parent.name == "studies"]
BEYOND = [path for path in NOTEBOOKS if path.parent.name == "beyond"]
MAX_LINES = 15
FILES = (ROOT / "pgcourse").rglob("[a-z]*.py")
MODULES = {path.stem: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}
MODULES |= {"records": "pgcourse.experiments.records", "exercises": "pgcourse.teaching.exercises"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def prose(cells):
    return "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return load(request.param)


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return load(request.param)


def test_every_notebook_is_in_the_table_of_contents_and_every_page_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS} <= set(pages)
    for page in pages:
        assert any((ROOT / f"{page}{suffix}").exists() for suffix in (".md", ".ipynb")), page


def test_no_stored_outputs(cells):
    for cell in code(cells):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_short_cells(cells):
    for cell in code(cells):
        assert len(source(cell).splitlines()) <= MAX_LINES, source(cell)


def test_prose_before_every_result(cells):
    """Code cells may follow one another, but a figure, a slider or a print never begins a section."""
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code" and before["cell_type"] == "markdown":
            assert not source(before).splitlines()[-1].startswith("#"), source(cell)


def test_text_is_plain_markdown(cells):
    """Neither JupyterLab nor Colab knows directives; book/_ext/plain.py makes them from plain text."""
    assert re.findall(r"^(?:```|:::)+\{.*|\{[a-z:]+\}`.*", prose(cells), flags=re.M) == []


def test_links_to_the_bibliography_name_its_authors_and_years(cells):
    library = parse_file(ROOT / "book" / "references.bib").entries
    for text, key in re.findall(r"\[([^]]+)\]\((?:\.\./)?bibliography\.md#?(\w*)\)", prose(cells)):
        first = library[key].persons["author"][0].last_names[0]
        assert text.startswith(first), key
        assert re.findall(r"\d+", text) == (
            [library[key].fields["year"]] if "year" in library[key].fields else []
        ), text


def test_figures_have_captions_and_alternative_texts(cells):
    for cell in code(cells):
        if "plt.show()" in source(cell):
            about = cell["metadata"].get("mystnb", {})
            assert len(about.get("figure", {}).get("caption", "")) > 40, source(cell)
            assert len(about.get("image", {}).get("alt", "")) > 40, source(cell)


def test_sliders_describe_their_picture(cells):
    """explore(draw, …) takes the alternative text from the first line of draw's docstring."""
    described = set()
    for cell in code(cells)[1:]:
        nodes = list(ast.walk(ast.parse(source(cell))))
        described |= {
            node.name for node in nodes if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
        }
        assert {
            node.args[0].id
            for node in nodes
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "explore"
        } <= described


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_setup_cell_is_not_stale(path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from links import setup_cell

    first = code(load(path))[0]
    assert first["source"] == setup_cell(), f"run: {Path(sys.executable).name} book/_ext/links.py"
    assert first["metadata"]["tags"] == ["remove-cell"]


def test_a_chapter_opens_and_closes_as_all_do(chapter):
    text = prose(chapter)
    for opening in ("**The question.**", "**Slides**", "**Afterwards you can**", "**It takes**"):
        assert opening in text.split("\n## ")[0]
    endings = re.findall(r"^## (.*)$", text, flags=re.M)[-4:]
    assert endings == ["What we checked", "Exercises", "Where we depart from the slides", "Further reading"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_opens_with_what_it_found_and_closes_as_all_do(path):
    text = prose(load(path))
    for opening in ("**The question.**", "**Follows**", "**What we found.**", "**It takes**"):
        assert opening in text.split("\n## ")[0]
    endings = re.findall(r"^## (.*)$", text, flags=re.M)
    assert endings[-1] == "Further reading"
    assert "What we checked" in endings[-3:]


@pytest.mark.parametrize("path", BEYOND, ids=lambda path: path.stem)
def test_what_is_beyond_the_lecture_opens_and_closes_as_chapters_do_without_slides(path):
    text = prose(load(path))
    for opening in ("**The question.**", "**Follows**", "**Afterwards you can**", "**It takes**"):
        assert opening in text.split("\n## ")[0]
    endings = re.findall(r"^## (.*)$", text, flags=re.M)
    assert endings[-3:] == ["What we checked", "Exercises", "Further reading"]
    numbers = re.findall(r"^\*\*([A-Z]\.\d+)\*\* \*", text.split("## Exercises")[1], flags=re.M)
    assert len(numbers) >= 6
    assert text.count("<summary>Solution</summary>") == len(numbers)
    n_words = len(re.sub(r"(?s)<details>.*?</details>", "", text).split())
    assert n_words <= (5000 if path.stem == "language-models" else 4500)
    assert sum("assert " in source(cell) for cell in code(load(path))) >= 5


def test_exercises_have_solutions(chapter):
    exercises = prose(chapter).split("## Exercises")[1].split("\n## ")[0]
    numbers = re.findall(r"^\*\*(\d+\.\d+)\*\*", exercises, flags=re.M)
    assert len(numbers) >= 3
    assert exercises.count("<summary>Solution</summary>") == len(
        numbers
    )  # folds here, in JupyterLab and in Colab


def test_equations_are_numbered_in_order_and_references_point_at_them(chapter):
    text = prose(chapter)
    numbers = re.findall(r"\\tag\{(\d+\.\d+)\}", text)
    first = numbers[0].split(".")[0]
    assert numbers == [f"{first}.{i}" for i in range(1, len(numbers) + 1)]
    for reference in re.findall(rf"\(({first}\.\d+)\)", text):
        assert reference in numbers


def test_claims_are_asserted(chapter):
    assert sum("assert " in source(cell) for cell in code(chapter)) >= 5


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_slides_named_by_a_chapter_are_on_the_slide_map(path):
    """The chapter's head says which slides it follows; the map leads from each of them to the chapter."""
    head = re.search(r"^\*\*Slides\*\* (.*?)[:.]", prose(load(path)), flags=re.M).group(1)
    slides = set()
    for first, last in re.findall(r"(\d+)(?:–(\d+))?", head):
        slides |= set(range(int(first), int(last or first) + 1))
    assert slides <= {i for i, row in slide_map().items() if path.stem in row}


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "book").glob("*.md")), *NOTEBOOKS], ids=lambda page: page.name
)
def test_a_link_into_a_chapter_names_one_of_its_sections(page):
    """Sooner than the build, which takes minutes. A section with a formula in its name has no link."""
    for chapter, section in re.findall(r"\]\(([\w/.-]+\.ipynb)#([^)]*)\)", page.read_text(encoding="utf-8")):
        names = re.findall(r"^##+ ([^$]+?)$", prose(load(page.parent / chapter)), flags=re.M)
        assert section in [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in names]


def slide_map():
    """Return the rows of the slide map by slide."""
    return {
        int(i): row
        for row, i in re.findall(
            r"^(\| (\d+) \|.*)$", (ROOT / "book/slides.md").read_text(encoding="utf-8"), flags=re.M
        )
    }


def test_the_slide_map_has_every_slide_and_names_functions_and_tests_that_exist():
    assert list(slide_map()) == list(range(1, 67))
    assert all("](" in row for row in slide_map().values())
    named = 0
    for row in slide_map().values():
        functions, tests = row.split(" | ")[-2:]
        for module, name in re.findall(r"`(\w+)\.([\w.]+)`", functions):
            assert operator.attrgetter(name)(importlib.import_module(MODULES[module]))
            named += 1
        for test in re.findall(r"`(\w+)`", tests):
            assert (ROOT / "tests" / f"{test}.py").exists()
    assert named > 20


TRAINING = """import tempfile
from pgcourse.experiments import sweeps
with tempfile.TemporaryDirectory() as folder:
    runs = sweeps.run("reinforce/cartpole", seeds=2, steps=3000, folder=folder)
"""


def test_a_notebook_that_was_killed_in_the_middle_runs_again(tmp_path):
    """One that writes files while it runs, with its kernel and the processes that this trains with."""
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT / "tests" / "student"),
        "PGCOURSE_BAKE": "1",
    }
    page = tmp_path / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRAINING)]), page)
    command = [Path(sys.executable).with_name("jupyter-execute"), page]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not [*tmp_path.rglob("run.json")]:
        assert first.poll() is None, "it was over before it trained"
        time.sleep(0.1)
    for process in (*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)):
        process.kill()
    assert first.wait() != 0
    assert [*tmp_path.rglob("run.json")]  # what it had begun still lies there
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
