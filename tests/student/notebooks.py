"""Write the notebooks that a student runs, with the outputs of the build to compare with.

Run as ``python notebooks.py EXECUTED STUDENT``, two folders. The cells of sliders and
buttons that train show a widget here, where the page has pictures. So behind each stands a cell
that moves the live sliders through all points of the page, or presses the button,
and expects the page's pictures.
"""

import sys
from pathlib import Path

import nbformat
from sliders import line, published

WIDGETS = {
    '<figure class="explore">': ("shown", published),
    '<div class="laboratory">': ("trained", lambda page: f"{line(page)}\n"),
}


def for_student(notebook):
    cells = [test_cell("import sliders\n\nsliders.watch()", "watch")]
    for cell in notebook.cells:
        cells.append(cell)
        outputs = cell.outputs if cell.cell_type == "code" else []
        pages = [output.get("data", {}).get("text/html", "") for output in outputs]
        pages = [page for page in pages if page.startswith(tuple(WIDGETS))]
        if pages:
            assert len(pages) == 1, "one widget in a cell"
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-ignore-output"]
            [(call, text)] = [WIDGETS[start] for start in WIDGETS if pages[0].startswith(start)]
            expected = nbformat.v4.new_output("stream", name="stdout", text=text(pages[0]))
            cells.append(test_cell(f"sliders.{call}()", f"{cell.id}-{call}", expected))
    notebook.cells = cells
    return notebook


def test_cell(source, name, *outputs):
    return nbformat.v4.new_code_cell(source, id=name, execution_count=1, outputs=[*outputs])


def main(executed, student):
    wanted = {path.relative_to(executed): path for path in executed.rglob("*.ipynb")}
    for old in [path for path in student.rglob("*.ipynb") if path.relative_to(student) not in wanted]:
        old.unlink()
    for name, path in wanted.items():
        (student / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(for_student(nbformat.read(path, 4)), student / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
