"""Sliders baked into HTML, and live in a Jupyter kernel with ipywidgets 8 and with 7.7.1, Colab's."""

import ast
import base64
import itertools
import json
import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.output_widget import OutputWidget

from pgcourse.teaching import video
from pgcourse.teaching.explore import explore

TRICKY = '<b>"&lt;</b>'


def draw(red, rule=TRICKY):
    """A patch where 1 < 2 & "so on"."""
    return plt.figure(figsize=(0.5, 0.5), facecolor=(red / 255, 0.5, 0))


def plain(**point):
    return plt.figure(figsize=(0.2, 0.2))


def clip(red=200):
    return video.show([np.full((16, 16, 3), red, np.uint8)] * 3, f"{red} of red")


@pytest.fixture
def bake(monkeypatch):
    monkeypatch.setenv("PGCOURSE_BAKE", "1")


def page(draw, **grid):
    return BeautifulSoup(explore(draw, **grid).data, "html.parser")


def colour(image):
    """Return the colour of the ground of a figure that an <img> contains."""
    head, encoded = image["src"].split(",")
    assert head == "data:image/svg+xml;base64"
    ground = re.search(rb"fill: #(......)", base64.b64decode(encoded, validate=True))
    return tuple(bytes.fromhex(ground[1].decode()))


# Baked


GRID = {"red": [0, 100, 200], "rule": ["plain", TRICKY]}
POINTS = list(itertools.product(*GRID.values()))


@pytest.mark.usefixtures("bake")
class TestBaked:
    def test_each_parameter_has_one_slider_that_starts_at_its_default_or_in_the_middle(self):
        labels = page(draw, **GRID).select(".sliders label")
        found = [
            (label.span.text, *(label.input[key] for key in ("type", "min", "max", "value", "data-texts")))
            for label in labels
        ]
        assert found == [
            ("red", "range", "0", "2", "1", '["0", "100", "200"]'),
            ("rule", "range", "0", "1", "1", json.dumps(GRID["rule"])),
        ]
        assert [label.output.text for label in labels] == ["100", TRICKY]

    def test_only_the_picture_of_the_start_is_shown(self):
        images = page(draw, **GRID).find_all("img")
        assert [not image.parent.has_attr("hidden") for image in images] == [
            point == (100, TRICKY) for point in POINTS
        ]

    def test_alt_texts_name_the_points_in_the_order_of_the_grid_and_are_escaped(self):
        soup = page(draw, **GRID)
        title = 'A patch where 1 < 2 & "so on"'
        assert [image["alt"] for image in soup.find_all("img")] == [
            f"{title}: red = {red}, rule = {rule}" for red, rule in POINTS
        ]
        assert soup.find("b") is None

    def test_each_picture_is_that_of_its_point(self):
        colours = [colour(image) for image in page(draw, **GRID).find_all("img")]
        assert colours == [pytest.approx((red, 128, 0), abs=1) for red, _ in POINTS]

    def test_the_lectures_letters_label_the_sliders(self):
        letters = {
            "eta": "η",
            "gamma": "γ",
            "lam": "λ",
            "tau": "τ",
            "sigma": "σ",
            "theta": "θ",
            "batch_size": "batch size",
        }
        letters |= {"eta_critic": "η′", "n_steps": "steps", "n_episodes": "episodes ℰ", "t": "step t"}
        letters |= {"n_runs": "runs", "w_1": "w₁", "w_2": "w₂"}
        soup = page(plain, **{name: [0.5] for name in letters})
        assert [span.text for span in soup.find_all("span")] == list(letters.values())
        assert soup.img["alt"] == ", ".join(f"{letter} = 0.5" for letter in letters.values())

    @pytest.mark.parametrize(
        ("default", "start"),
        [(0.1, 0), (1, 1), (10, 2), (7, 2), (0.3, 0), (0.1 + 1e-17, 0), (None, 1), ("a", 1)],
    )
    def test_a_slider_starts_at_the_default_or_near_it_and_without_one_in_the_middle(self, default, start):
        soup = page(lambda eta=default: plain(), eta=[0.1, 1, 10])
        assert soup.input["value"] == str(start)
        images = soup.find_all("img")
        assert [image.parent.has_attr("hidden") for image in images] == [i != start for i in range(3)]

    def test_only_the_figures_it_drew_are_closed(self):
        mine = plt.figure()
        explore(draw, **GRID)
        assert plt.get_fignums() == [mine.number]
        plt.close(mine)

    def test_the_same_call_gives_the_same_bytes(self):
        assert explore(draw, **GRID).data == explore(draw, **GRID).data

    def test_videos_take_the_place_of_pictures(self):
        soup = page(clip, red=[0, 200])
        blocks = soup.select("figure.explore > div:not(.sliders)")
        assert [(block["aria-label"], block.has_attr("hidden")) for block in blocks] == [
            ("red = 0", True),
            ("red = 200", False),
        ]
        assert [video["aria-label"] for video in soup.select("video")] == ["0 of red", "200 of red"]
        assert soup.select("video")[0]["src"] != soup.select("video")[1]["src"]

    def test_a_hundred_points_are_allowed(self):
        assert len(page(plain, a=range(10), b=range(10)).find_all("img")) == 100

    @pytest.mark.parametrize(
        ("draw", "message"),
        [
            (
                lambda eta, red: plain() if red == 2 else 1 / 0,
                "draw failed at η = 0.25, red = 3: ZeroDivisionError: division by zero",
            ),
            (
                lambda eta, red: None,
                "draw must return a matplotlib figure or a video, got NoneType at η = 0.25, red = 2",
            ),
            (
                lambda eta, red: plain().gca(),
                "draw must return a matplotlib figure or a video, got Axes at η = 0.25, red = 2",
            ),
            (lambda eta: plain(), "draw failed at η = 0.25, red = 2: TypeError: "),
        ],
    )
    def test_a_draw_that_fails_is_named_with_its_point(self, draw, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            explore(draw, eta=[0.25], red=[2, 3])
        assert plt.get_fignums() == []


@pytest.mark.parametrize("environment", ["1", ""], ids=["baked", "live"])
@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "grid must name at least one parameter, got none"),
        ({"red": 5}, "red must be a sequence of values, got 5"),
        ({"red": [1], "rule": []}, "rule must have at least one value, got an empty sequence"),
        ({"red": [0.5, float("nan")]}, "red must be finite, got nan"),
        (
            {"red": range(101)},
            "grid must have at most 100 points, each is a frame in the page, got 101 red = 101",
        ),
        (
            {"red": range(17), "rule": "abcdef"},
            "grid must have at most 100 points, each is a frame in the page, got 17 red × 6 rule = 102",
        ),
    ],
)
def test_a_bad_grid_is_named_baked_and_live(monkeypatch, environment, grid, message):
    monkeypatch.setenv("PGCOURSE_BAKE", environment)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        explore(draw, **grid)


# Live


IPYWIDGETS7 = Path(__file__).parents[1] / "_build/ipywidgets7"
SETUP = """
import ipywidgets, matplotlib.pyplot as plt, numpy as np
from pgcourse.teaching.explore import explore

calls = []

def draw(**point):
    calls.append(point)
    return plt.figure(figsize=(0.5, 0.5), facecolor=(0, 0, len(calls) / 255))  # n-th picture: n/255 blue

def show(draw=draw, **grid):
    global box, sliders, output
    calls.clear()
    box = explore(draw, **grid)
    *sliders, output = box.children
    display(box)

def ends(slider):
    if hasattr(slider, "options"):
        return [slider.options[0][1], slider.options[-1][1]]
    return [10**slider.min, 10**slider.max] if hasattr(slider, "base") else [slider.min, slider.max]
"""


@pytest.fixture(scope="module", params=["ipywidgets 8", "ipywidgets 7.7.1"])
def kernel(request, tmp_path_factory):
    """Return a function that executes a cell in a Jupyter kernel and returns its last value.

    Its ``shown()`` returns what the widget shows.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PGCOURSE_BAKE", "PYTHONPATH", "MPLBACKEND")
    }
    env["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    if request.param == "ipywidgets 7.7.1":
        if not (IPYWIDGETS7 / "ipywidgets").is_dir():
            pytest.fail(f"{IPYWIDGETS7} is missing: run make _build/ipywidgets7/ready")
        env["PYTHONPATH"] = str(IPYWIDGETS7)
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(notebook, timeout=60)

    def execute(code):
        notebook.cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": ["raises-exception"]}))
        outputs = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1).outputs
        wrong = [
            out.get("text") or "\n".join(out["traceback"])
            for out in outputs
            if out.get("name") == "stderr" or "traceback" in out
        ]
        assert not wrong, "\n".join(wrong)
        results = [out["data"]["text/plain"] for out in outputs if out["output_type"] == "execute_result"]
        return ast.literal_eval(results[0]) if results else None

    execute.shown = lambda: client.widget_state[execute("output.model_id")]["outputs"]
    with pytest.MonkeyPatch.context() as patch, client.setup_kernel(env=env):
        patch.setattr(
            OutputWidget, "sync_state", lambda self: None
        )  # where nbclient may stall: its issue 312
        execute(SETUP)
        assert f"ipywidgets {execute('ipywidgets.__version__')}".startswith(request.param)
        yield execute


def assert_shows_picture(kernel, n):
    """Assert that the widget shows one picture, the n-th that was drawn."""
    (picture,) = kernel.shown()
    assert colour(BeautifulSoup(picture["data"]["text/html"], "html.parser").img) == (0, 0, n)


@pytest.mark.parametrize(
    ("values", "kind", "ends", "start"),
    [
        ("range(1, 100, 10)", "IntSlider", [1, 91], 51),
        ("np.arange(3)", "IntSlider", [0, 2], 1),
        ("[0.1, 1, 10]", "FloatLogSlider", [0.1, 10], 1.0),
        ("np.geomspace(0.001, 0.4, 7)", "FloatLogSlider", [0.001, 0.4], 0.02),
        ("[0.01, 0.03, 0.1, 0.3, 1]", "FloatLogSlider", [0.01, 1], 0.1),
        ("[10, 30, 100, 300]", "SelectionSlider", [10, 300], 100),
        ("np.linspace(-1, 1, 5)", "FloatSlider", [-1, 1], 0.0),
        ("[10, 5, 1]", "SelectionSlider", [10, 1], 5),
        ("[0, 0.1, 1]", "FloatSlider", [0, 1], 0.1),
        ("np.float32([0.5, 1])", "FloatSlider", [0.5, 1], 1.0),
        ("['a', 'b', 'c']", "SelectionSlider", ["a", "c"], "b"),
        ("np.array(['a', 'b'])", "SelectionSlider", ["a", "b"], "b"),
        ("[False, True]", "SelectionSlider", [False, True], True),
        ("np.array([True, False])", "SelectionSlider", [True, False], False),
        ("[0.5]", "SelectionSlider", [0.5, 0.5], 0.5),
        ("[3, 1, 2]", "SelectionSlider", [3, 2], 1),
    ],
)
def test_the_grid_decides_the_kind_of_slider_and_it_starts_in_the_middle(kernel, values, kind, ends, start):
    found_kind, found_ends, (call,) = kernel(
        f"show(a={values})\ntype(sliders[0]).__name__, ends(sliders[0]), calls"
    )
    assert found_kind == kind
    assert found_ends == pytest.approx(ends)
    assert call == {"a": pytest.approx(start)}
    assert type(call["a"]) is type(start)
    assert_shows_picture(kernel, 1)


@pytest.mark.parametrize(
    ("values", "moved"),
    [
        ("range(1, 100, 10)", 42),
        ("[10, 30, 100, 300]", 20),
        ("[0.1, 1, 10]", 0.37),
        ("np.linspace(-1, 1, 5)", 0.123),
        ("'abc'", "c"),
        ("[False, True]", False),
    ],
)
def test_a_moved_slider_draws_again_with_any_value_between_the_ends(kernel, values, moved):
    kernel(f"show(a={values})")
    calls, open_figures = kernel(f"sliders[0].value = {moved!r}\ncalls[1:], plt.get_fignums()")
    assert calls == [{"a": moved}]
    assert open_figures == []
    assert_shows_picture(kernel, 2)


def test_sliders_start_at_the_defaults_and_one_moves_without_the_other(kernel):
    draw = "lambda eta=10, n_steps=1: draw(eta=eta, n_steps=n_steps)"
    kernel(f"show({draw}, eta=[0.1, 1, 10], n_steps=range(1, 100, 10))")
    kernel("sliders[1].value = 7")
    assert kernel("calls") == [{"eta": 10, "n_steps": 1}, {"eta": 10, "n_steps": 7}]
    assert kernel("[slider.description for slider in sliders]") == ["η", "steps"]
    assert_shows_picture(kernel, 2)


def test_a_slider_draws_when_it_is_let_go(kernel):
    kernel("show(eta=[0.1, 1, 10], n=range(3), p=[0.0, 1.0], rule='abc')")
    assert kernel("[slider.continuous_update for slider in sliders]") == [False] * 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "draw failed at η = {}: ZeroDivisionError: division by zero"),
        ("None", "draw must return a matplotlib figure or a video, got NoneType at η = {}"),
    ],
)
def test_a_live_draw_that_fails_is_named_with_its_point_and_can_recover(kernel, body, message):
    message_at_start = kernel(f"""
try:
    show(lambda eta: {body}, eta=[1, 2, 3])
except ValueError as error:
    message = str(error)
message""")
    assert message_at_start == message.format(2)
    kernel(f"show(lambda eta: draw() if eta > 1 else {body}, eta=[1, 2, 3])")
    kernel("sliders[0].value = 1")
    assert [(out["ename"], out["evalue"]) for out in kernel.shown()] == [("ValueError", message.format(1))]
    kernel("sliders[0].value = 3")
    assert_shows_picture(kernel, 2)
