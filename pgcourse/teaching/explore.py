"""Sliders for figures: live where there is a kernel, among finished pictures on the published page.

``explore(draw, eta=[0.1, 1, 10], n_steps=range(1, 100, 10))`` calls ``draw(eta=…, n_steps=…)``, which returns
a matplotlib figure or a video. With a kernel it returns ipywidgets over the full ranges. While the book is
built, with the environment variable ``PGCOURSE_BAKE`` set, it draws every point of the grid once and returns
HTML sliders that choose among the frames. Without JavaScript only the frame where they start is shown. A live
slider at a point of the grid shows the same bytes as the published page.
"""

from __future__ import annotations

import html
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks
from pgcourse.teaching import figures

if TYPE_CHECKING:
    from IPython.display import HTML
    from ipywidgets import ValueWidget, interactive
    from matplotlib.figure import Figure

    Draw = Callable[..., Figure | HTML]

MAX_FRAMES = 100
LABELS = {
    "t": "step t",
    "K": "answers K",
    "n_pairs": "pairs",
    "beta": "β",
    "n_runs": "runs",
    "n_epochs": "epochs",
    "eta": "η",
    "eta_critic": "η′",
    "gamma": "γ",
    "lam": "λ",
    "tau": "τ",
    "sigma": "σ",
    "theta": "θ",
    "w_1": "w₁",
    "w_2": "w₂",
    "clip": "ε",
    "length": "step length",
    "n_steps": "steps",
    "n_episodes": "episodes ℰ",
}


def explore(draw: Draw, /, **grid: Iterable[object]) -> interactive | HTML:
    """Show what ``draw`` returns, with one slider for each of its parameters.

    The sliders start where the grid is nearest to the defaults in the signature of ``draw``, or in the middle
    if there are none. The first line of its docstring is the text alternative of the picture.

    Args:
        draw: called as ``draw(**point)``; returns a matplotlib figure, or a video as ``video.show`` does.
        **grid: for each parameter the values of its slider in order: finite numbers, strings or booleans; at
            most 100 points in all. With a kernel, ascending numbers range freely from the first to the last.
            Integers stay integers. The slider is logarithmic if that spaces its values more evenly.

    Returns:
        An ipywidgets box with a kernel, HTML while the book is built.

    Raises:
        ValueError: if ``draw`` fails at a point. Where a live slider meets one, it shows the message.
    """
    values = values_of(grid)
    n_frames = int(np.prod([len(sequence) for sequence in values.values()]))
    if n_frames > MAX_FRAMES:
        sizes = " × ".join(f"{len(sequence)} {name}" for name, sequence in values.items())
        allowed = f"at most {MAX_FRAMES} points, each is a frame in the page"
        raise ValueError(f"grid must have {allowed}, got {sizes} = {n_frames}")
    show = _baked if os.environ.get("PGCOURSE_BAKE", "0") != "0" else _live
    return show(draw, values, _start(draw, values))


def values_of(grid: Mapping[str, Iterable[object]]) -> dict[str, list]:
    """Return the values of each slider as a list of finite numbers, strings or booleans."""
    if not grid:
        raise ValueError("grid must name at least one parameter, got none")
    for name, sequence in grid.items():
        if not isinstance(sequence, Iterable) or getattr(sequence, "shape", None) == ():
            raise ValueError(f"{name} must be a sequence of values, got {sequence!r}")
    values = {name: _plain(sequence) for name, sequence in grid.items()}
    for name, sequence in values.items():
        if not sequence:
            raise ValueError(f"{name} must have at least one value, got an empty sequence")
        checks.finite(**{name: [v for v in sequence if isinstance(v, float)]})
        if wrong := [v for v in sequence if not isinstance(v, int | float | str)]:
            raise ValueError(f"{name} must hold numbers, strings or booleans, got {wrong[0]!r:.80}")
    return values


def _plain(sequence: Iterable[object]) -> list:
    """Return a list without NumPy's scalars, and of floats if any number in it is one."""
    values: list = [v.item() if isinstance(v, np.generic) else v for v in sequence]
    if all(map(_is_number, values)) and any(isinstance(v, float) for v in values):
        return [float(v) for v in values]
    return values


def _start(draw: Draw, values: Mapping[str, list]) -> dict[str, int]:
    """Return the index in the grid at which each slider starts."""
    parameters = inspect.signature(draw).parameters
    start = {}
    for name, sequence in values.items():
        default = parameters[name].default if name in parameters else None
        if default in sequence:
            start[name] = sequence.index(default)
        elif _is_number(default) and all(map(_is_number, sequence)):
            start[name] = int(np.argmin([abs(v - default) for v in sequence]))
        else:
            start[name] = len(sequence) // 2
    return start


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _frame(draw: Draw, point: Mapping[str, object]) -> str:
    """Return what ``draw`` draws at a point, as HTML: a block around an image or a video."""
    import matplotlib.pyplot as plt
    from IPython.display import HTML
    from matplotlib.figure import Figure

    title = (inspect.getdoc(draw) or "").partition("\n")[0].rstrip(".")
    alt = f"{title}: {describe(point)}" if title else describe(point)
    where, others = describe(point), plt.get_fignums()
    try:
        figure = draw(**point)
    except Exception as error:
        raise ValueError(f"draw failed at {where}: {type(error).__name__}: {error}") from error
    finally:  # closed figures can still be shown, but only where we show them
        for number in set(plt.get_fignums()) - set(others):
            plt.close(number)
    if not isinstance(figure, Figure | HTML):
        got = f"{type(figure).__name__} at {where}"
        raise ValueError(f"draw must return a matplotlib figure or a video, got {got}")
    if isinstance(figure, HTML):
        return f'<div role="group" aria-label="{html.escape(alt)}">{figure.data}</div>'
    return f"<div>{figures.as_html(figure, alt)}</div>"


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(point: Mapping[str, object]) -> str:
    """Return a point as text, such as "η = 0.01, steps = 100"."""
    return ", ".join(f"{_label(name)} = {_text(value)}" for name, value in point.items())


# With a kernel


def _live(draw: Draw, values: Mapping[str, list], start: Mapping[str, int]) -> interactive:
    from IPython.display import HTML, display
    from ipywidgets import interactive

    point = {name: sequence[start[name]] for name, sequence in values.items()}
    first = [_frame(draw, point)]  # fails here and now, not inside a widget

    def show(**point: object) -> None:
        display(HTML(first.pop() if first else _frame(draw, point)))

    box = interactive(show, **{name: slider(name, values[name], value) for name, value in point.items()})
    box.grid = values  # the points that the published page shows
    return box


def slider(name: str, values: list, value: object) -> ValueWidget:
    """Return a slider of ipywidgets over the values of a parameter, logarithmic if that suits them."""
    import ipywidgets as w

    options = {"description": _label(name), "continuous_update": False, "value": value}
    ascending = all(map(_is_number, values)) and len(values) > 1 and all(np.diff(values) > 0)
    logarithmic = ascending and values[0] > 0 and _unevenness(np.log(values)) < _unevenness(values)
    if ascending and isinstance(values[0], int):
        if not logarithmic:
            return w.IntSlider(min=values[0], max=values[-1], **options)
        values = sorted({*values, *np.geomspace(values[0], values[-1], 60).round().astype(int).tolist()})
    elif ascending:
        kind = w.FloatLogSlider if logarithmic else w.FloatSlider
        low, high = np.log10([values[0], values[-1]]) if logarithmic else (values[0], values[-1])
        return kind(min=low, max=high, step=(high - low) / 200, readout_format=".3g", **options)
    return w.SelectionSlider(options=[(_text(v), v) for v in values], **options)


def _unevenness(values) -> float:
    steps = np.diff(values)
    return float(steps.std() / steps.mean())


# In the page


def _baked(draw: Draw, values: Mapping[str, list], start: Mapping[str, int]) -> HTML:
    from IPython.display import HTML

    sliders, frames = [], []
    for name, sequence in values.items():
        texts = [_text(value) for value in sequence]
        data = html.escape(json.dumps(texts, ensure_ascii=False))
        sliders.append(
            f"<label><span>{html.escape(_label(name))}</span>"
            f'<input type="range" min="0" max="{len(texts) - 1}" value="{start[name]}" data-texts="{data}">'
            f"<output>{html.escape(texts[start[name]])}</output></label>"
        )
    for index in itertools.product(*(range(len(sequence)) for sequence in values.values())):
        point = {name: sequence[i] for (name, sequence), i in zip(values.items(), index, strict=True)}
        block = "<div" if index == tuple(start.values()) else "<div hidden"
        frames.append(_frame(draw, point).replace("<div", block, 1))
    content = f'<div class="sliders">{"".join(sliders)}</div>{"".join(frames)}'
    return HTML(f'<figure class="explore">{content}</figure>')
