"""Figures as pictures: SVG while that is small, else pixels at twice the size, and the same in notebooks."""

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from PIL import Image

from pgcourse.teaching import figures, plots

matplotlib.use("agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def small():
    figure, ax = plt.subplots(figsize=(4, 2), facecolor="#ff8000")
    ax.plot([0, 1], [0, 1])
    return figure


def large():
    """Ten thousand points, which no SVG of 150 kB holds, on an orange ground."""
    figure, ax = plt.subplots(figsize=(4, 2), facecolor="#ff8000")
    ax.scatter(*np.random.default_rng(0).normal(size=(2, 10_000)), s=1, c="black")
    return figure


def pixels(data, form):
    image = Image.open(io.BytesIO(data))
    assert image.format == form
    return image


def test_a_small_figure_is_an_svg_of_its_size_in_css_pixels():
    mime, data, width, height = figures.picture(small())
    root = ElementTree.fromstring(data)
    assert mime == "image/svg+xml"
    assert (width, height) == (440, 220)
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("440", "220", "0 0 288 144")
    assert b"fill: #ff8000" in data


def test_its_coordinates_are_those_of_matplotlib_to_a_hundredth_of_a_point():
    figure = small()
    figure.draw_without_rendering()  # so that the layout is settled
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    ours = figures.picture(figure).data.decode()
    paths = [re.findall(r' d="([^"]*)"', text) for text in (buffer.getvalue(), ours)]
    numbers = [np.array(re.findall(r"-?\d+\.?\d*", " ".join(found)), float) for found in paths]
    np.testing.assert_allclose(*numbers, atol=0.02)
    scales = [re.findall(r"scale\([^)]*\)", text) for text in (buffer.getvalue(), ours)]
    assert scales[0] == scales[1] != []


@pytest.mark.parametrize(("raster", "tolerance"), [("webp", 4), ("png", 0)])
def test_a_large_figure_is_pixels_at_twice_its_size(raster, tolerance):
    mime, data, width, height = figures.picture(large(), raster=raster)
    image = pixels(data, raster.upper())
    assert mime == f"image/{raster}"
    assert (width, height) == (440, 220)
    assert image.size == (880, 440)
    assert image.convert("RGB").getpixel((2, 2)) == pytest.approx((255, 128, 0), abs=tolerance)


def test_what_sticks_out_is_kept_if_the_picture_is_tight():
    figure = small()
    figure.axes[0].annotate(
        "far to the right", (1, 1), (40, 0), textcoords="offset points", annotation_clip=False
    )
    figure.set_layout_engine("none")
    assert figures.picture(figure, tight=True).width > figures.picture(figure).width


@pytest.mark.parametrize("draw", [small, large])
def test_the_same_code_draws_the_same_bytes(draw):
    assert figures.picture(draw()) == figures.picture(draw())


def test_a_layout_that_rounds_otherwise_draws_the_same_bytes():
    """The hashes by which matplotlib names clip paths would show the last digit. Every name is somewhere."""
    pictures = []
    for shift in (0, 1e-13):
        figure = small()
        figure.set_layout_engine("none")
        figure.axes[0].set_position([0.2 + shift, 0.2, 0.7, 0.7])
        pictures.append(figures.picture(figure).data.decode())
    assert pictures[0] == pictures[1]
    used = re.findall(r'(?:url\(|href=")#([^")]+)', pictures[0])
    assert {"n0"} <= set(used) <= set(re.findall(r'id="([^"]+)"', pictures[0]))


def test_equal_pictures_in_a_figure_do_not_share_an_id():
    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        ax.imshow(np.eye(4))
    svg = figures.picture(figure).data.decode()
    plt.close(figure)
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert svg.count("<image") == 2
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("draw", [small, large])
def test_as_html_it_contains_itself_and_escapes_its_text(draw):
    image = BeautifulSoup(figures.as_html(draw(), 'a < b & "c"'), "html.parser").img
    mime, data, width, height = figures.picture(draw())
    assert image["alt"] == 'a < b & "c"'
    assert (image["width"], image["height"]) == (str(width), str(height))
    assert image["src"] == f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_notebooks_show_it_so_and_nothing_else():
    """With IPython's own display, after pyplot was imported and before a figure was made."""
    cells = [
        "import matplotlib.pyplot as plt, numpy as np",
        "from pgcourse.teaching import plots\nplots.use_style()",
        "plt.plot([0, 1])\nplt.show()",
        "plt.scatter(*np.random.default_rng(0).normal(size=(2, 10_000)))\nplt.show()",
        "plt.figure()\nplt.show()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    _, _, [vector], [raster], empty = (cell.outputs for cell in notebook.cells)
    assert set(vector.data) == {"text/plain", "image/svg+xml"}
    assert f'width="{vector.metadata["image/svg+xml"]["width"]}"' in vector.data["image/svg+xml"]
    assert set(raster.data) == {"text/plain", "image/png"}
    image = pixels(base64.b64decode(raster.data["image/png"]), "PNG")
    assert image.width == pytest.approx(2 * raster.metadata["image/png"]["width"], abs=2)
    assert [set(output.data) for output in empty] in ([], [{"text/plain"}])
