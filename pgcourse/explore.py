"""Sliders that live twice: recomputing wherever there is a kernel, baked into the page wherever there is none.

``explore(draw, eta=[0.1, 1, 10], n_steps=range(1, 100, 10))`` calls ``draw(eta=…, n_steps=…)``, which returns a matplotlib figure.
With a kernel it returns ipywidgets over the full ranges. While the book is built (the environment variable ``PGCOURSE_BAKE`` is set)
it draws every point of the grid once and returns native HTML sliders that choose among the finished frames; without script the
reader sees the first one.
"""

import base64
import html
import inspect
import io
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

MAX_FRAMES = 100
LABELS = {
    "i": "step i",
    "eta": "η",
    "gamma": "γ",
    "lam": "λ",
    "tau": "τ",
    "sigma": "σ",
    "theta": "θ",
    "n_steps": "steps",
    "n_episodes": "episodes ℰ",
}


def explore(draw: Callable[..., Any], **grid: Sequence) -> Any:
    """Show what ``draw`` returns, with one slider for each of its parameters.

    The sliders start at the defaults in the signature of ``draw``, where it has any, else in the middle. The first line of its docstring
    describes the picture to those who cannot see it.

    Args:
        draw: called as ``draw(**point)``; returns a matplotlib figure.
        **grid: for each parameter the values of the baked sliders, in order: at least two numbers, or strings or booleans. With a kernel
            numbers range freely between the first and the last: integers stay integers, geometric sequences get a logarithmic slider.

    Returns:
        An ipywidgets box with a kernel, HTML while the book is built.

    Raises:
        ValueError: if the grid is empty or has more than 100 points, or if ``draw`` fails or returns no figure, naming the point.
    """
    if not grid:
        raise ValueError("grid must name at least one parameter of draw, got none")
    values = {name: [v.item() if isinstance(v, np.generic) else v for v in sequence] for name, sequence in grid.items()}
    for name, sequence in values.items():
        if not sequence:
            raise ValueError(f"{name} must have at least one value, got an empty sequence")
    n_frames = int(np.prod([len(sequence) for sequence in values.values()]))
    if n_frames > MAX_FRAMES:
        sizes = " × ".join(f"{len(sequence)} {name}" for name, sequence in values.items())
        raise ValueError(f"grid must have at most {MAX_FRAMES} points, each is a frame in the page, got {sizes} = {n_frames}")
    start = _start(draw, values)
    return _baked(draw, values, start) if os.environ.get("PGCOURSE_BAKE") else _live(draw, values, start)


def _start(draw, values) -> dict[str, int]:
    """Return where on its axis of the grid each slider starts."""
    parameters = inspect.signature(draw).parameters
    start = {}
    for name, sequence in values.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        start[name] = sequence.index(default) if default in sequence else len(sequence) // 2
    return start


def _figure(draw, point: Mapping):
    from matplotlib.figure import Figure

    where = _describe(point)
    try:
        figure = draw(**point)
    except Exception as error:
        raise ValueError(f"draw failed at {where}: {type(error).__name__}: {error}") from error
    if not isinstance(figure, Figure):
        raise ValueError(f"draw must return a matplotlib figure, got {type(figure).__name__} at {where}")
    return figure


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _describe(point: Mapping) -> str:
    return ", ".join(f"{_label(name)} = {_text(value)}" for name, value in point.items())


def _title(draw) -> str:
    return (inspect.getdoc(draw) or "").partition("\n")[0].rstrip(".")


# With a kernel


def _live(draw, values, start):
    import matplotlib.pyplot as plt
    from IPython.display import display
    from ipywidgets import interactive

    def show(**point):
        figure = _figure(draw, point)
        display(figure)
        plt.close(figure)

    return interactive(show, **{name: _slider(name, sequence, sequence[start[name]]) for name, sequence in values.items()})


def _slider(name, values, value):
    import ipywidgets as w

    form = {"description": _label(name), "continuous_update": False}
    low, high = values[0], values[-1]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) < 2 or sorted(values) != values:
        return w.SelectionSlider(options=[(_text(v), v) for v in values], value=value, **form)
    if all(isinstance(v, int) for v in values):
        return w.IntSlider(min=low, max=high, value=value, **form)
    if low > 0 and len(values) > 2 and np.allclose(np.diff(np.log(values), 2), 0):
        return w.FloatLogSlider(
            min=np.log10(low), max=np.log10(high), step=np.log10(high / low) / 200, value=value, readout_format=".3g", **form
        )
    return w.FloatSlider(min=low, max=high, step=(high - low) / 200, value=value, readout_format=".3g", **form)


# In the page


def _baked(draw, values, start):
    from IPython.display import HTML

    title = _title(draw)
    sliders, frames = [], []
    for name, sequence in values.items():
        texts = html.escape("|".join(_text(value) for value in sequence))
        sliders.append(
            f'<label><span>{html.escape(_label(name))}</span><input type="range" min="0" max="{len(sequence) - 1}" '
            f'value="{start[name]}" data-texts="{texts}"><output>{html.escape(_text(sequence[start[name]]))}</output></label>'
        )
    first = tuple(start.values())
    for index in itertools.product(*(range(len(sequence)) for sequence in values.values())):
        point = {name: sequence[i] for (name, sequence), i in zip(values.items(), index, strict=True)}
        alt = html.escape(f"{title}: {_describe(point)}" if title else _describe(point))
        shown = "" if index == first else " hidden"
        frames.append(f'<img alt="{alt}" src="data:image/webp;base64,{_webp(_figure(draw, point))}"{shown}>')
    return HTML(f'<figure class="explore"><div class="sliders">{"".join(sliders)}</div>{"".join(frames)}</figure>')


def _webp(figure) -> str:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=110, pil_kwargs={"quality": 75, "method": 6})
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
