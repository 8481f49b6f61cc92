"""A test of the test of the notebooks: it finds where a student sees another page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import execute
import nbformat
import notebooks
import pytest

ROOT = Path(__file__).parents[1]

CELLS = {
    "setup": "import os\nimport matplotlib.pyplot as plt\nfrom pgcourse.teaching import plots\n"
    "from pgcourse.teaching.explore import explore\nplots.use_style()",
    "number": "print(2 + 2)",
    "figure": "plt.plot([1, 3, 2])\nplt.show()",
    "slider": "def draw(height, width=2):\n    figure, ax = plt.subplots(figsize=(width, 2))\n"
    "    ax.plot([0, height])\n    return figure\n\nexplore(draw, height=[1, 2], width=[1, 2, 3])",
    "last": "_ = 7  # hides IPython's own",
}
LIVE = '"PGCOURSE_BAKE" not in os.environ and height == 2 and width == 3'


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Return for each altered notebook the cells that failed, in one run over all, and what was printed."""
    folder = tmp_path_factory.mktemp("notebooks")

    def build(**other):
        sources = CELLS | other
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c, id=k) for k, c in sources.items()]
        )
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, folder / "source.ipynb")
        execute.execute(folder / "source.ipynb", folder / "executed.ipynb")
        return nbformat.read(folder / "executed.ipynb", 4)

    built = build()
    _, number, figure, slider, _ = built.cells
    cases = {"same": built}

    def alter(case, cell, key, old, new):
        cases[case] = copy = nbformat.from_dict(built)
        data = copy.cells[built.cells.index(cell)].outputs[0]
        data = data if key in data else data["data"]
        altered = data[key].replace(old, new, 1)
        assert altered != data[key], f"{case}: nothing to alter"
        data[key] = altered

    alter("a number on the page", number, "text", "4", "5")
    alter("a figure on the page", figure, "image/svg+xml", "L ", "L 1")
    frames = re.findall('src="([^"]+)"', slider.outputs[0].data["text/html"])
    alter("a frame on the page", slider, "text/html", frames[4], frames[4][:-4] + "AAA=")
    alter("a point on the page", slider, "text/html", "height = 2, width = 2", "height = 3, width = 2")
    raises = CELLS["slider"].replace("    ax.", f"    assert not ({LIVE})\n    ax.")
    cases["a slider that raises with a kernel"] = build(slider=raises)
    other = CELLS["slider"].replace("[0, height]", f"[0, height + ({LIVE})]")
    cases["a slider that draws something else with a kernel"] = build(slider=other)
    writes = "if 'PGCOURSE_BAKE' not in os.environ:\n    open('result.txt', 'w')"
    cases["a file beside the notebooks"] = build(last=writes)
    student = ROOT / "_build" / "student" / "tests"
    student.mkdir(parents=True, exist_ok=True)
    paths = {case: student / f"{i}.ipynb" for i, case in enumerate(cases)}
    try:
        for case, notebook in cases.items():
            nbformat.write(notebooks.for_student(nbformat.from_dict(notebook)), paths[case])
        options = ["-q", "--color=no", "-rfE", "--nbval", f"--nbval-sanitize-with={ROOT}/tests/sanitize.cfg"]
        environment = {key: value for key, value in os.environ.items() if key != "PGCOURSE_BAKE"}
        environment |= {"PYTHONPATH": str(ROOT / "tests" / "student"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *options, *map(str, paths.values())]
        printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
        return {
            c: re.findall(rf"FAILED \S*tests/{p.stem}\.ipynb::Cell (\d+)", printed) for c, p in paths.items()
        }, printed
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)
        student.rmdir()


# Before the cells stands one that watches, and behind the slider's the one that moves it.
@pytest.mark.parametrize(
    ("case", "cells"),
    [
        ("same", []),
        ("a number on the page", ["2"]),
        ("a figure on the page", ["3"]),
        ("a frame on the page", ["5"]),
        ("a point on the page", ["5"]),
        ("a slider that raises with a kernel", ["5"]),
        ("a slider that draws something else with a kernel", ["5"]),
        ("a file beside the notebooks", ["6"]),
    ],
)
def test_what_differs_is_found_in_its_cell(verdicts, case, cells):
    found, printed = verdicts
    assert found[case] == cells, printed[-5000:]


def test_a_frame_that_differs_is_named_by_its_point(verdicts):
    assert "height = 2, width = 2" in verdicts[1]


def test_a_figure_with_sliders_that_has_no_frames_is_refused():
    cell = nbformat.v4.new_code_cell("explore(draw)", id="slider")
    cell.outputs = [
        nbformat.v4.new_output("execute_result", {"text/html": '<figure class="explore"></figure>'})
    ]
    with pytest.raises(ValueError, match="has no frames"):
        notebooks.for_student(nbformat.v4.new_notebook(cells=[cell]))
