"""A button that trains: two settings of a recipe side by side, several seeds each, while you watch.

``train_button("actor-critic/cartpole", eta=[0.0003, 0.003])`` returns sliders for settings A and B, and below
them a button. A click trains both. Their learning curves grow, and at the end the probability is printed that
a run with B is better than one with A. While the book is built, with the environment variable
``PGCOURSE_BAKE`` set, both are trained where the sliders start, and the result is shown without the button.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks
from pgcourse.algorithms.seeds import MAX_SEEDS
from pgcourse.experiments import recipes
from pgcourse.experiments.seeds import SeedCurves, evaluate_at_once, train_at_once
from pgcourse.maths.statistics import iqm, probability_of_improvement
from pgcourse.teaching import figures
from pgcourse.teaching.button import training_box
from pgcourse.teaching.explore import describe, slider, values_of
from pgcourse.teaching.plots import COLORS

if TYPE_CHECKING:
    from IPython.display import HTML
    from ipywidgets import VBox

    from pgcourse.experiments.recipes import Recipe

    Settings = Mapping[str, object]

N_ROWS = 10  # how often the curves grow
N_EVAL_EPISODES = 10  # of each run at the end


def train_button(
    name: str, /, *, n_seeds: int = 10, steps: int = 20_000, **grid: Iterable[object]
) -> VBox | HTML:
    """Return sliders for two settings of a recipe, and a button that trains both.

    The sliders of setting A start at the first values, those of setting B at the last.

    Args:
        name: of a recipe that learns with several seeds at once, such as "actor-critic/cartpole".
        n_seeds: of each setting, from 2 to ``MAX_SEEDS``.
        steps: of each seed, at least 1.
        **grid: for each setting of the recipe the values of its slider, as for ``explore``.

    Returns:
        An ipywidgets box with a kernel, HTML while the book is built.

    Raises:
        ValueError: also if there is no such recipe or setting, or it cannot learn with several seeds at once.
            Where a click meets an error, its message is shown.
    """
    recipe, values = recipes.get(name), values_of(grid)
    n_seeds, steps = checks.count(2, MAX_SEEDS, n_seeds=n_seeds), checks.count(1, steps=steps)
    starts = [{setting: sequence[end] for setting, sequence in values.items()} for end in (0, -1)]
    for settings in starts:  # what is refused is known before a click
        recipe.build(range(n_seeds), **settings).env.close()
    if os.environ.get("PGCOURSE_BAKE", "0") != "0":
        from IPython.display import HTML

        *_, last = compare(recipe, starts, n_seeds, steps)
        return HTML(last)
    columns = [{name: slider(name, values[name], value) for name, value in one.items()} for one in starts]
    return training_box(columns, lambda settings: compare(recipe, settings, n_seeds, steps))


def compare(recipe: Recipe, settings: Sequence[Settings], n_seeds: int, steps: int) -> Iterator[str]:
    """Train two settings in turns; yield the learning curves as HTML as they grow, and then the comparison.

    Runs are compared by one number each, the mean return of fresh episodes after the last update.
    """
    runs = [train_at_once(recipe, range(n_seeds), steps=steps, n_rows=N_ROWS, **one) for one in settings]
    shown = ""
    for both in zip(*runs, strict=True):
        shown = _picture(recipe, settings, both, steps)
        yield f'<div class="laboratory">{shown}</div>'
    a, b = (evaluate_at_once(recipe, run.policy, N_EVAL_EPISODES, seed=0).mean(axis=1) for run in both)
    means = f"interquartile mean of {n_seeds} runs: A {iqm(a):.4g}, B {iqm(b):.4g}"
    improvement = f"P(B better than A) = {probability_of_improvement(b, a)}"
    yield f'<div class="laboratory">{shown}<pre>{means}\n{improvement}</pre></div>'


def _picture(recipe: Recipe, settings: Sequence[Settings], both: Sequence[SeedCurves], steps: int) -> str:
    """Return the curves of all seeds, and where all are known their interquartile mean, as HTML."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, letter, one, curves, color in zip(axes, "AB", settings, both, COLORS, strict=False):
        for returns in curves.returns:
            known = np.isfinite(returns)
            ax.plot(curves.n_steps[known] / 1000, returns[known], color=color, linewidth=0.8, alpha=0.5)
        known = np.isfinite(curves.returns).all(axis=0)
        ax.plot(
            curves.n_steps[known] / 1000, iqm(curves.returns[:, known], axis=0), color=color, linewidth=2.5
        )
        ax.set(title=f"{letter}: {describe(one)}", xlabel="thousands of steps", xlim=(0, steps / 1000))
    axes[0].set_ylabel(f"training {recipe.task.metric}")
    title = f"Learning curves of {len(both[0].returns)} seeds each: " + " and ".join(map(describe, settings))
    return figures.as_html(figure, title)
