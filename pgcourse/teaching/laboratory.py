"""A laboratory for REINFORCE on the court: two settings learn side by side while you watch.

``laboratory()`` returns sliders for the settings A and B, and below them a button. A click trains both from
pixels, in turns, and the picture grows: above, the reward per point so far; below, the field of one of the
games that are being played. While the book is built, with the environment variable ``PGCOURSE_BAKE`` set,
both are trained where the sliders start, and the finished picture is shown without the button.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from pgcourse import checks
from pgcourse.experiments import recipes
from pgcourse.experiments.settings import BASELINES
from pgcourse.teaching import figures
from pgcourse.teaching.button import training_box
from pgcourse.teaching.plots import COLORS

if TYPE_CHECKING:
    from IPython.display import HTML
    from ipywidgets import VBox, Widget
    from jaxtyping import Float, Int, Int8

    from pgcourse.algorithms.protocols import Algorithm
    from pgcourse.environments.court import Court

    Settings = Mapping[str, object]

RECIPE = "reinforce/court"
A = {"eta": 0.012, "gamma": 0.97, "batch_size": 4096, "baseline": "none", "hidden_size": 200}
B = A | {"hidden_size": 10}
LABELS = {"eta": "η", "gamma": "γ", "batch_size": "batch size", "hidden_size": "hidden units"}
SIZES = {"batch_size": (512, 1024, 2048, 4096, 8192, 16_384), "hidden_size": (1, 2, 5, 10, 20, 50, 100, 200)}
N_PICTURES = 20  # of one training
MAX_STEPS = 100_000_000


class Progress(NamedTuple):
    """How far one setting has come."""

    n_steps: Int[np.ndarray, " n_updates"]
    reward: Float[np.ndarray, " n_updates"]  # mean reward of the points of each update
    field: Int8[np.ndarray, "80 80"]  # of the first of the games side by side


def laboratory(a: Settings = A, b: Settings = B, *, steps: int = 250_000) -> VBox | HTML:
    """Return sliders for two settings of REINFORCE on the court, and a button that trains both.

    Args:
        a, b: where the sliders start; what is missing is as in ``A``. Any setting of the recipe
            reinforce/court is allowed, and has a slider if ``A`` names it.
        steps: decisions of each training, at least 1.

    Returns:
        An ipywidgets box with a kernel, HTML while the book is built.

    Raises:
        ValueError: also if there is no such setting. Where a click meets an error, its message is shown.
    """
    steps = checks.count(1, MAX_STEPS, steps=steps)
    starts = [A | {**one} for one in (a, b)]
    for settings in starts:  # what is refused is known before a click
        recipes.get(RECIPE).build(0, **settings)
    if os.environ.get("PGCOURSE_BAKE", "0") != "0":
        from IPython.display import HTML

        *_, last = train_in_turns(starts, steps)
        return HTML(_picture(starts, last, steps))

    def train(values: list[dict[str, object]]) -> Iterator[str]:
        settings = [{**start, **one} for start, one in zip(starts, values, strict=True)]
        return (_picture(settings, progress, steps) for progress in train_in_turns(settings, steps))

    return training_box([_sliders(one) for one in starts], train)


def train_in_turns(settings: Sequence[Settings], steps: int, seed: int = 0) -> Iterator[list[Progress]]:
    """Train with each of the settings for at least ``steps`` decisions; yield how far all have come.

    The one that is behind has the next update.
    """
    from pgcourse.networks.mlp import single_thread

    learners = [recipes.get(RECIPE).build(seed, **one) for one in settings]
    curves: list[list[tuple[int, float]]] = [[] for _ in learners]
    next_picture = 0.0
    while min(n_steps := [learner.n_steps for learner in learners]) < steps:
        k = n_steps.index(min(n_steps))
        with single_thread():
            metrics = learners[k].update()
        curves[k].append((metrics.n_steps, float(np.mean(cast("np.ndarray", metrics.episode_returns)))))
        if min(learner.n_steps for learner in learners) >= min(next_picture, steps):
            next_picture += steps / N_PICTURES
            yield [_progress(*both) for both in zip(curves, learners, strict=True) if both[0]]


def _progress(curve: list[tuple[int, float]], learner: Algorithm) -> Progress:
    n_steps, reward = (np.array(column) for column in zip(*curve, strict=True))
    return Progress(n_steps, reward, cast("Court", learner.env).fields[0].copy())


def _describe(settings: Settings) -> str:
    return ", ".join(
        f"{LABELS.get(name, name)} = {value:.4g}"
        if isinstance(value, float)
        else f"{LABELS.get(name, name)} = {value}"
        for name, value in settings.items()
    )


def _picture(settings: Sequence[Settings], progress: Sequence[Progress], steps: int) -> str:
    """Return curves and fields as HTML."""
    from matplotlib.figure import Figure

    differing = [name for name in settings[0] if len({str(one.get(name)) for one in settings}) > 1]
    titles = [_describe({name: one[name] for name in differing if name in one}) for one in settings]
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="row", sharey="row", height_ratios=(3, 2))
    columns = zip(axes.T, "AB", titles, progress, COLORS, strict=False)
    for (above, below), letter, title, one, color in columns:
        above.axhline(0, color="0.8", linewidth=1)
        above.plot(one.n_steps / 1000, one.reward, color=color)
        above.set_title(textwrap.fill(f"{letter}: {title}" if title else letter, 44))
        above.set(xlim=(0, steps / 1000), ylim=(-1.05, 1.05), xlabel="thousands of decisions")
        below.imshow(one.field, cmap="gray", vmin=0, vmax=1)
        below.set_axis_off()
    axes[0, 0].set_ylabel("reward per point")
    now = "; ".join(
        f"{letter}, {_describe(one)}: {done.reward[-5:].mean():+.2f} after {done.n_steps[-1]:,} decisions"
        for letter, one, done in zip("AB", settings, progress, strict=False)
    )
    shown = figures.as_html(figure, f"Reward per point while two settings learn. {now}")
    return f'<div class="laboratory">{shown}</div>'


def _sliders(settings: Settings) -> dict[str, Widget]:
    import ipywidgets as w

    def choice(name: str) -> Widget:
        start = cast("int", settings[name])
        return w.SelectionSlider(value=start, options=sorted({*SIZES[name], start}))

    rates = {"min": -3.5, "max": -1, "step": 0.05, "readout_format": ".3g"}
    sliders = {
        "eta": w.FloatLogSlider(value=settings["eta"], **rates),
        "gamma": w.FloatSlider(value=settings["gamma"], min=0.8, max=1, step=0.01),
        "batch_size": choice("batch_size"),
        "baseline": w.Dropdown(value=settings["baseline"], options=list(BASELINES)),
        "hidden_size": choice("hidden_size"),
    }
    for name, slider in sliders.items():
        slider.description = LABELS.get(name, name)
    return sliders
