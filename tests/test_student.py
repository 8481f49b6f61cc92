"""A test of the test of the notebooks: it finds where a student sees another page."""

import os
import re
import shutil
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
}
# With a kernel, the first raises at a point, the second draws something else, and the last writes a file.
LIVE = '"PGCOURSE_BAKE" not in os.environ and height == 2 and width == 3'
OTHERWISE = {
    "slider": CELLS["slider"].replace("    ax.", f"    assert not ({LIVE})\n    ax."),
    "second": CELLS["slider"].replace("[0, height]", f"[0, height + ({LIVE})]"),
    "last": "if 'PGCOURSE_BAKE' not in os.environ:\n    open('result.txt', 'w')",
}


def built(folder, cells):
    """Return a notebook as the build leaves it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c, id=k) for k, c in cells.items()])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "source.ipynb")
    execute.execute(folder / "source.ipynb", folder / "executed.ipynb")
    return nbformat.read(folder / "executed.ipynb", 4)


def altered(notebook):
    """Return a notebook with another number, another figure, another frame and another point on its page."""
    _, number, figure, slider, second, _ = (copy := nbformat.from_dict(notebook)).cells
    frame = re.findall('src="([^"]+)"', slider.outputs[0].data["text/html"])[4]
    for data, key, old, new in [
        (number.outputs[0], "text", "4", "5"),
        (figure.outputs[0].data, "image/svg+xml", "L ", "L 1"),
        (slider.outputs[0].data, "text/html", frame, frame[:-4] + "AAA="),
        (second.outputs[0].data, "text/html", "height = 2, width = 2", "height = 3, width = 2"),
    ]:
        assert old in data[key], f"{key}: nothing to alter"
        data[key] = data[key].replace(old, new, 1)
    return copy


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Return for each notebook the cells that failed, in one run over all, and what was printed."""
    folder = tmp_path_factory.mktemp("notebooks")
    same = built(folder, CELLS | {"second": CELLS["slider"], "last": "1"})
    cases = {"same": same, "page": altered(same), "student": built(folder, CELLS | OTHERWISE)}
    student = ROOT / "_build" / "student" / "tests"
    student.mkdir(parents=True, exist_ok=True)
    try:
        for case, notebook in cases.items():
            nbformat.write(notebooks.for_student(nbformat.from_dict(notebook)), student / f"{case}.ipynb")
        options = ["-vv", "--color=no", "-rfE", "--nbval", f"--nbval-sanitize-with={ROOT}/tests/sanitize.cfg"]
        environment = {key: value for key, value in os.environ.items() if key != "PGCOURSE_BAKE"}
        environment |= {"PYTHONPATH": str(ROOT / "tests" / "student"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *options, str(student)]
        printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
        return {c: re.findall(rf"FAILED \S*tests/{c}\.ipynb::Cell (\d+)", printed) for c in cases}, printed
    finally:
        shutil.rmtree(student)


# Before the cells stands one that watches, and behind each slider's the one that moves it.
def test_the_page_and_the_student_agree(verdicts):
    found, printed = verdicts
    assert "Cell 7 PASSED" in printed
    assert found["same"] == []


def test_an_altered_number_figure_frame_and_point_of_the_page_are_each_found(verdicts):
    found, printed = verdicts
    assert found["page"] == ["2", "3", "5", "7"], printed[-5000:]
    assert "height = 3, width = 2" in printed  # the point is named


def test_a_slider_that_raises_or_draws_otherwise_with_a_kernel_and_a_file_left_behind_are_each_found(
    verdicts,
):
    found, printed = verdicts
    assert found["student"] == ["5", "7", "8"], printed[-5000:]
    assert "draw failed at height = 2, width = 3: AssertionError" in printed
    assert "which is to be left as it is" in printed


def test_a_figure_with_sliders_that_has_no_frames_is_refused():
    cell = nbformat.v4.new_code_cell("explore(draw)", id="slider")
    cell.outputs = [
        nbformat.v4.new_output("execute_result", {"text/html": '<figure class="explore"></figure>'})
    ]
    with pytest.raises(ValueError, match="has no frames"):
        notebooks.for_student(nbformat.v4.new_notebook(cells=[cell]))


def test_behind_a_laboratory_stands_a_cell_that_presses_its_button():
    page = '<div class="laboratory"><img alt="Reward per point" src="x"></div>'
    cell = nbformat.v4.new_code_cell("laboratory()", id="lab")
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/html": page})]
    _, lab, pressed = notebooks.for_student(nbformat.v4.new_notebook(cells=[cell])).cells
    assert lab.metadata["tags"] == ["nbval-ignore-output"]
    assert pressed.source == "sliders.trained()"
    assert pressed.outputs[0].text == f"{notebooks.line(page)}\n"
