"""Sliders that live twice: recomputing wherever there is a kernel, baked into the page wherever there is none.

``explore(draw, eta=[0.1, 1, 10], n_steps=range(1, 100, 10))`` calls ``draw(eta=…, n_steps=…)``, which returns a matplotlib figure, or a
film. With a kernel it returns ipywidgets over the full ranges. While the book is built (the environment variable ``PGCOURSE_BAKE`` is set)
it draws every point of the grid once and returns native HTML sliders that choose among the finished frames; without script the
reader sees the one where the sliders start.
"""

import base64
import html
import inspect
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

MAX_FRAMES = 100
LABELS = {
    "i": "step i",
    "n_runs": "runs",
    "eta": "η",
    "eta_critic": "η′",
    "gamma": "γ",
    "lam": "λ",
    "tau": "τ",
    "sigma": "σ",
    "theta": "θ",
    "w_1": "w₁",
    "w_2": "w₂",
    "n_steps": "steps",
    "n_episodes": "episodes ℰ",
}


def explore(draw: Callable[..., Any], /, **grid: Iterable) -> Any:
    """Show what ``draw`` returns, with one slider for each of its parameters.

    The sliders start where the grid is nearest to the defaults in the signature of ``draw``; in the middle, if there are none. The first
    line of its docstring describes the picture to those who cannot see it.

    Args:
        draw: called as ``draw(**point)``; returns a matplotlib figure, or a film as ``video.show`` does.
        **grid: for each parameter the values of the baked sliders, in order: numbers, strings or booleans. With a kernel, ascending
            numbers range freely between the first and the last. Integers stay integers. Where the values are spaced more evenly on a
            logarithmic scale, so is the slider.

    Returns:
        An ipywidgets box with a kernel, HTML while the book is built.

    Raises:
        ValueError: if the grid is empty, has more than 100 points or holds a number that is not finite, or if ``draw`` fails or returns
            neither figure nor film, naming the point. (When a live slider gets there, the message appears in place of the figure.)
    """
    if not grid:
        raise ValueError("grid must name at least one parameter of draw, got none")
    for name, sequence in grid.items():
        if not isinstance(sequence, Iterable):
            raise ValueError(f"{name} must be a sequence of values, got {sequence!r}")
    values = {name: _plain(sequence) for name, sequence in grid.items()}
    for name, sequence in values.items():
        if not sequence:
            raise ValueError(f"{name} must have at least one value, got an empty sequence")
        if not all(np.isfinite(v) for v in sequence if isinstance(v, float)):
            raise ValueError(f"{name} must hold finite numbers, got {sequence}")
    n_frames = int(np.prod([len(sequence) for sequence in values.values()]))
    if n_frames > MAX_FRAMES:
        sizes = " × ".join(f"{len(sequence)} {name}" for name, sequence in values.items())
        raise ValueError(
            f"grid must have at most {MAX_FRAMES} points, each is a frame in the page, got {sizes} = {n_frames}"
        )
    start = _start(draw, values)
    return (
        _baked(draw, values, start)
        if os.environ.get("PGCOURSE_BAKE", "0") != "0"
        else _live(draw, values, start)
    )


def _plain(sequence) -> list:
    """Return a list without NumPy's scalars, and of floats if any number in it is one."""
    values = [v.item() if isinstance(v, np.generic) else v for v in sequence]
    return (
        [float(v) for v in values]
        if all(map(_is_number, values)) and any(isinstance(v, float) for v in values)
        else values
    )


def _start(draw, values) -> dict[str, int]:
    """Return where on its axis of the grid each slider starts."""
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


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _figure(draw, point: Mapping):
    import matplotlib.pyplot as plt
    from IPython.display import HTML
    from matplotlib.figure import Figure

    where, others = _describe(point), plt.get_fignums()
    try:
        figure = draw(**point)
    except Exception as error:
        raise ValueError(f"draw failed at {where}: {type(error).__name__}: {error}") from error
    finally:  # closed figures can still be shown, but only where we show them
        for number in set(plt.get_fignums()) - set(others):
            plt.close(number)
    if not isinstance(figure, Figure | HTML):
        raise ValueError(
            f"draw must return a matplotlib figure or a film, got {type(figure).__name__} at {where}"
        )
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
    from IPython.display import display
    from ipywidgets import interactive

    point = {name: sequence[start[name]] for name, sequence in values.items()}
    first = [_figure(draw, point)]  # fails here and now, not inside a widget

    def show(**point):
        display(first.pop() if first else _figure(draw, point))

    return interactive(
        show, **{name: _slider(name, sequence, point[name]) for name, sequence in values.items()}
    )


def _slider(name, values, value):
    import ipywidgets as w

    form = {"description": _label(name), "continuous_update": False}
    ascending = all(map(_is_number, values)) and len(values) > 1 and all(np.diff(values) > 0)
    logarithmic = ascending and values[0] > 0 and _unevenness(np.log(values)) < _unevenness(values)
    if ascending and isinstance(values[0], int) and logarithmic:
        values = sorted({*values, *np.geomspace(values[0], values[-1], 60).round().astype(int).tolist()})
    elif ascending and isinstance(values[0], int):
        return w.IntSlider(min=values[0], max=values[-1], value=value, **form)
    elif ascending:
        kind = w.FloatLogSlider if logarithmic else w.FloatSlider
        low, high = np.log10([values[0], values[-1]]) if logarithmic else (values[0], values[-1])
        return kind(min=low, max=high, step=(high - low) / 200, value=value, readout_format=".3g", **form)
    return w.SelectionSlider(options=[(_text(v), v) for v in values], value=value, **form)


def _unevenness(values) -> float:
    steps = np.diff(values)
    return float(steps.std() / steps.mean())


# In the page


def _baked(draw, values, start):
    from IPython.display import HTML

    title = _title(draw)
    sliders, frames = [], []
    for name, sequence in values.items():
        texts = html.escape(json.dumps([_text(value) for value in sequence], ensure_ascii=False))
        sliders.append(
            f'<label><span>{html.escape(_label(name))}</span><input type="range" min="0" max="{len(sequence) - 1}" '
            f'value="{start[name]}" data-texts="{texts}"><output>{html.escape(_text(sequence[start[name]]))}</output></label>'
        )
    first = tuple(start.values())
    for index in itertools.product(*(range(len(sequence)) for sequence in values.values())):
        point = {name: sequence[i] for (name, sequence), i in zip(values.items(), index, strict=True)}
        alt = html.escape(f"{title}: {_describe(point)}" if title else _describe(point))
        shown = "" if index == first else " hidden"
        figure = _figure(draw, point)
        if isinstance(figure, HTML):
            frames.append(f'<div role="group" aria-label="{alt}"{shown}>{figure.data}</div>')
        else:
            frames.append(f'<img alt="{alt}" src="data:image/webp;base64,{_webp(figure)}"{shown}>')
    return HTML(
        f'<figure class="explore"><div class="sliders">{"".join(sliders)}</div>{"".join(frames)}</figure>'
    )


def _webp(figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=110, pil_kwargs={"quality": 75, "method": 6})
    return base64.b64encode(buffer.getvalue()).decode()
