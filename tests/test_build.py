"""How the book is built: what is executed again and when, what a page gets of it, and what it may take."""

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import budgets
import dependencies
import execute
import media
import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]


def write(path, *cells, **about):
    """Write a notebook of code cells, and prose before each."""
    pairs = [(nbformat.v4.new_markdown_cell("Prose."), nbformat.v4.new_code_cell(cell)) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=[cell for pair in pairs for cell in pair])
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook.metadata |= {"pgcourse": about} if about else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


# What a notebook depends on


@pytest.mark.parametrize("stem", ["02-logistic-regression", "05-likelihood-ratio", "studies/measuring"])
def test_a_notebook_depends_on_all_modules_that_its_imports_load(stem):
    notebook = ROOT / "book" / f"{stem}.ipynb"
    imports = [
        ast.unparse(node)
        for cell in dependencies.code(notebook)[1:]
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    report = "import json, sys\nloaded = [m for n, m in sys.modules.items() if n.startswith('pgcourse')]\n"
    report += "print(json.dumps([module.__file__ for module in loaded]))"
    printed = subprocess.run(
        [sys.executable, "-c", "\n".join([*imports, report])], capture_output=True, text=True, check=True
    )
    loaded = {Path(file) for file in json.loads(printed.stdout)}
    assert len(loaded) > 5
    assert loaded <= dependencies.of_notebook(notebook)


def names(files):
    return {file.relative_to(ROOT / "pgcourse").as_posix() for file in files}


def test_a_notebook_does_not_depend_on_modules_that_it_does_not_import(tmp_path):
    cells = [
        "%matplotlib inline\nfrom pgcourse.maths import td",
        "def later():\n    !ls\n    import pgcourse.environments.lqr",
    ]
    found = names(dependencies.of_notebook(write(tmp_path / "page.ipynb", *cells)))
    assert {"__init__.py", "checks.py", "maths/__init__.py", "maths/td.py", "environments/lqr.py"} <= found
    assert not {"algorithms/ddpg.py", "environments/mdp.py", "teaching/explore.py"} & found
    assert not [name for name in found if not name.endswith(".py")]


def test_records_and_the_style_sheet_belong_to_those_who_read_them(tmp_path):
    records = names(
        dependencies.of_notebook(
            write(tmp_path / "page.ipynb", "from pgcourse.experiments.records import load")
        )
    )
    assert {
        "experiments/records/reinforce/cartpole/seed-0/curve.csv",
        "experiments/comparisons/planner.json",
    } <= records
    assert "algorithms/ddpg.py" in records  # which a recipe imports by its name
    curves = names(
        dependencies.of_notebook(write(tmp_path / "page.ipynb", "from pgcourse.experiments import curves"))
    )
    assert not [name for name in curves if not name.endswith(".py")]
    plots = names(
        dependencies.of_notebook(write(tmp_path / "page.ipynb", "from pgcourse.teaching import plots"))
    )
    assert "teaching/pgcourse.mplstyle" in plots


def test_who_imports_by_a_name_that_he_computes_says_what_it_may_be():
    calls = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "pgcourse").rglob("*.py")
        if re.search(r"import_module\(|__import__\(", path.read_text("utf-8"))
    }
    assert calls == set(dependencies.DYNAMIC)


def test_a_file_of_tests_depends_on_those_beside_it():
    found = dependencies.of_module(ROOT / "tests" / "test_mdp.py")
    assert {ROOT / "tests" / "mdp_strategies.py", ROOT / "pgcourse" / "environments" / "mdp.py"} <= found


def test_prose_does_not_change_a_digest_and_code_and_the_environment_do(tmp_path, monkeypatch):
    for name in dependencies.ENVIRONMENT:
        (tmp_path / name).write_text("torch==2.13.0\n")
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)
    page, module = tmp_path / "page.ipynb", tmp_path / "module.py"
    module.write_text("a = 1\n")

    def digest():
        dependencies._content.cache_clear()
        return dependencies.digest([module], *dependencies.code(page))

    write(page, "1 + 1", "2")
    first = digest()
    page.write_text(page.read_text().replace("Prose.", "Other prose."))
    assert digest() == first
    seen = [first]
    for change in (
        lambda: write(page, "1 + 1", "3"),
        lambda: write(page, "1 + 1\n3"),
        lambda: module.write_text("a = 2\n"),
        lambda: (tmp_path / "requirements.txt").write_text("torch==2.14.0\n"),
    ):
        change()
        seen.append(digest())
    assert len(set(seen)) == 5


# Execution


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A book of its own."""
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "BOOK", tmp_path / "book")
    monkeypatch.setattr(execute, "EXECUTED", tmp_path / "executed")
    return tmp_path / "book"


CLOCK = "import time\nfrom pathlib import Path\nstart = time.time()\n{}\nprint(start, time.time())"
MEET = "Path('{}').touch()\nwhile not Path('{}').exists():\n    assert time.time() < start + 99"


def test_two_at_a_time_but_those_that_need_both_cores_alone_and_all_despite_one_that_fails(shelf, capsys):
    """Two that wait for each other come to an end only if they run side by side."""
    paths = [write(shelf / "both.ipynb", CLOCK.format("time.sleep(0.5)"), cores=2)]
    paths += [write(shelf / f"{c}.ipynb", CLOCK.format(MEET.format(c, other))) for c, other in ("ab", "ba")]
    paths.append(write(shelf / "broken.ipynb", "1 + 1", "1 / 0", "'not reached'"))
    assert [execute.is_current(path) for path in paths] == [False] * 4
    errors = execute.execute_all(paths)
    assert list(errors) == [shelf / "broken.ipynb"]
    assert "division by zero" in errors[shelf / "broken.ipynb"]
    assert [execute.is_current(path) for path in paths] == [True] * 3 + [False]
    done = [nbformat.read(execute.executed(path), 4) for path in paths[:3]]
    both, a, b = ([float(t) for t in nb.cells[1].outputs[0].text.split()] for nb in done)
    assert both[1] < min(a[0], b[0])  # alone, and first
    assert all(nb.metadata.pgcourse.seconds > 0 for nb in done)
    assert sorted(line.split(":")[0] for line in capsys.readouterr().out.splitlines()) == [
        f"book/{stem}.ipynb" for stem in ("a", "b", "both", "broken")
    ]
    assert not [*execute.EXECUTED.rglob("*.part")]


def test_long_ones_begin_first(shelf, monkeypatch):
    """By what they took the last time, and before they ever ran by what they may take."""
    paths = [write(shelf / f"{stem}.ipynb", "1") for stem in ("03-pong", "short", "long", "new")]
    for path, seconds in zip(paths[1:3], (1, 200), strict=True):
        write(execute.executed(path), "1", seconds=seconds)
    began = []
    monkeypatch.setattr(
        execute.subprocess,
        "run",
        lambda c, **_: began.append(Path(c[2]).stem) or SimpleNamespace(returncode=0),
    )
    monkeypatch.setattr(execute, "ThreadPoolExecutor", lambda n: SerialPool())
    execute.execute_all(paths)
    assert began == ["long", "03-pong", "new", "short"]


class SerialPool:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


def test_a_page_has_its_new_prose_and_the_outputs_of_its_code(shelf):
    page = write(shelf / "page.ipynb", "1 + 1")
    done = nbformat.read(page, 4)
    done.cells[1] |= {"outputs": [nbformat.v4.new_output("stream", text="2")], "execution_count": 1}
    done.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    execute.executed(page).parent.mkdir()
    nbformat.write(done, execute.executed(page))
    noted = []
    env = SimpleNamespace(doc2path=lambda name: str(shelf / f"{name}.ipynb"), note_dependency=noted.append)
    source = [page.read_text().replace("Prose.", "New prose.")]
    execute.with_outputs(SimpleNamespace(env=env), "page", source)
    text, code = json.loads(source[0])["cells"]
    assert "".join(text["source"]) == "New prose."
    assert (code["outputs"][0]["text"], code["execution_count"]) == (["2"], 1)
    assert noted == [str(execute.executed(page))]  # so that new outputs make a new page
    other = write(shelf / "other.ipynb", "2 + 2")
    execute.with_outputs(SimpleNamespace(env=env), "other", source := [other.read_text()])
    assert source == [other.read_text()]
    with pytest.raises(ExtensionError, match="page was changed after it was executed"):
        execute.with_outputs(SimpleNamespace(env=env), "page", [other.read_text()])


# Pictures

PIXELS = '<image href="data:image/png;base64,{}"/>'
SVG = (
    '<svg width="30" height="20"><path style="fill: #ffffff"/><path style="stroke: #000000"/>'
    f'<path style="stroke: #0072b2"/><path d="M 0 0"/>{PIXELS}{PIXELS}</svg>'
)


def pixels(form, color="black"):
    """Return a picture of one colour, with one pixel of another."""
    buffer, image = io.BytesIO(), Image.new("RGB", (30, 20), color)
    image.putpixel((0, 0), (144, 72, 17))
    image.save(buffer, form)
    return buffer.getvalue()


def encoded(data):
    return base64.b64encode(data).decode()


def published(tmp_path, page_html):
    """Return what becomes of a page, which a second pass leaves as it is."""
    page = tmp_path / "book" / "page.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(page_html)
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name="html"))
    media.apart(app, None)
    once = page.read_text()
    media.apart(app, None)
    assert page.read_text() == once
    return once


def test_pixels_leave_a_page_and_keep_their_place(tmp_path):
    data = pixels("webp")
    html = published(tmp_path, f'<img alt="Its width = 3" src="data:image/webp;base64,{encoded(data)}">')
    [file] = (tmp_path / "_images").iterdir()
    assert file.read_bytes() == data
    assert (
        html
        == f'<img loading="lazy" width="30" height="20" alt="Its width = 3" src="../_images/{file.name}">'
    )


def test_a_figure_has_a_twin_for_the_dark(tmp_path):
    """Its ground is the page's. So is that of pixels on a light ground; others, as Pong's screen, stay."""
    svg = SVG.format(encoded(pixels("png", "white")), encoded(pixels("png", (144, 72, 17))))
    html = published(
        tmp_path,
        f'<div hidden><img alt="A line" src="data:image/svg+xml;base64,{encoded(svg.encode())}"></div>',
    )
    images = BeautifulSoup(html, "html.parser").select("div[hidden] > img")
    assert [image["class"] for image in images] == [["only-light"], ["only-dark"]]
    assert {(i["alt"], i["width"], i["height"], i["loading"]) for i in images} == {
        ("A line", "30", "20", "lazy")
    }
    light, dark = ((tmp_path / "book" / image["src"]).read_text() for image in images)
    assert light == svg
    default, ground, ink, _ = re.findall("#(......)", dark)
    assert ground == "121212"  # the theme's
    assert min(bytes.fromhex(ink)) > 200
    assert default == ink  # what has no colour is black, and would not be seen
    first, second = (base64.b64decode(data) for data in re.findall('base64,([^"]+)', dark))
    with Image.open(io.BytesIO(first)) as image:
        assert image.getpixel((5, 5))[:3] == (0x12, 0x12, 0x12)
        red, green, blue = image.getpixel((0, 0))[:3]
        assert red > green > blue
    assert second == pixels("png", (144, 72, 17))


def contrast(a, b):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    "colour", ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
)
def test_every_colour_of_a_line_is_seen_in_the_dark(colour):
    """WCAG asks for a contrast of 3 of graphics, and of 4.5 of text."""
    assert contrast(media.dark(colour), "#121212") > 4.5


def test_pixels_of_a_notebook_become_smaller(tmp_path):
    (tmp_path / "_images").mkdir()
    name = "0" * 64
    (tmp_path / "_images" / f"{name}.png").write_bytes(pixels("png"))
    html = published(tmp_path, f'<img alt="x" src="../_images/{name}.png" width="15">')
    assert html == f'<img loading="lazy" alt="x" src="../_images/{name}.webp" width="15">'
    with Image.open(tmp_path / "_images" / f"{name}.webp") as image:
        assert (image.format, image.size) == ("WEBP", (30, 20))


# Budgets


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "ROOT", tmp_path)
    monkeypatch.setattr(budgets, "TIMES", tmp_path / "_build" / "times.json")
    for stem, seconds in {"03-pong": 140, "studies/claims": 30, "07-actor-critic": 95}.items():
        write(tmp_path / "_build" / "executed" / f"{stem}.ipynb", "1", seconds=seconds, cpu_seconds=seconds)


@pytest.mark.usefixtures("ledger")
def test_what_is_over_its_budget_by_half_is_red():
    budgets.measured(**{"studies/claims": 70.0, "book": 700})
    lines, over = budgets.report()
    assert over == ["07-actor-critic", "studies/claims"]
    red = [line for line in lines if "\x1b[31m" in line]
    assert [re.sub(r"\x1b\[\d+m", "", line).split() for line in red] == [
        ["07-actor-critic", "60", "95"],
        ["studies/claims", "45", "30", "70"],
    ]
    assert [line.split() for line in lines if "03-pong" in line] == [["03-pong", "150", "140"]]
    assert ["make", "book", "720", "700"] in [line.split() for line in lines]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("ci", "seconds", "culprits"), [("true", 3700, ["07-actor-critic"]), ("true", 3500, []), ("", 3700, [])]
)
def test_only_notebooks_that_threaten_the_limit_fail_and_only_on_ci(monkeypatch, ci, seconds, culprits):
    monkeypatch.setenv("CI", ci)
    budgets.measured(test=seconds)
    assert budgets.culprits() == culprits


@pytest.mark.usefixtures("ledger")
def test_a_busy_machine_is_not_a_notebooks_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    budgets.measured(test=4000)
    write(tmp_path / "_build/executed/07-actor-critic.ipynb", "1", seconds=200, cpu_seconds=80)
    write(tmp_path / "_build/executed/03-pong.ipynb", "1", seconds=300, cpu_seconds=400, cores=2)
    assert budgets.report()[1] == ["03-pong", "07-actor-critic", "make test"]
    assert budgets.culprits() == []


def test_each_notebook_has_a_budget():
    limits = {
        "03-pong": 150,
        "04-reinforce": 150,
        "07-actor-critic": 60,
        "intro": 60,
        "studies/claims": 45,
        "beyond/ppo": 90,
        "beyond/pixels-and-sac": 90,
        "beyond/language-models": 90,
    }
    assert {name: budgets.budget(name) for name in limits} == limits
