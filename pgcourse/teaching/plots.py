"""Figures from arrays, in one style.

Functions draw into the axes they are given and return them. None computes what it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pgcourse import checks
from pgcourse.teaching import figures

if TYPE_CHECKING:
    from gymnasium import Env
    from jaxtyping import Float, Int
    from matplotlib.axes import Axes

    from pgcourse.environments.pong import PongStep
    from pgcourse.maths.statistics import Band

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito (2008), safe for the colour-blind


MAX_POINTS = 10_000  # along an axis


def use_style() -> None:
    """Make this book's style sheet matplotlib's default, and figures in notebooks crisp."""
    import matplotlib.pyplot as plt

    figures.show_in_notebooks()
    plt.style.use(Path(__file__).with_name("pgcourse.mplstyle"))


def scatter_classes(
    ax: Axes, x: Float[np.ndarray, "M n"], target: Int[np.ndarray, " M"], names: Sequence[str]
) -> Axes:
    """Draw examples by their first two features, with a colour and a marker for each class."""
    x, target = checks.finite_floats("x", x), checks.numbers("target", target)
    if x.ndim != 2 or x.shape[1] < 2 or target.shape != x.shape[:1]:
        got = f"{x.shape} and {target.shape}"
        raise ValueError(f"x and target must have shapes (M, n), n ≥ 2, and (M,), got {got}")
    for k, (name, color, marker) in enumerate(zip(names, COLORS, "osD", strict=False)):
        a, b = x[target == k, :2].T
        ax.scatter(a, b, s=18, c=color, marker=marker, edgecolor="white", linewidth=0.5, label=name, zorder=2)
    ncols, top = len(names), (0.5, 1.14)
    ax.legend(loc="upper center", bbox_to_anchor=top, ncols=ncols, handletextpad=0.1, columnspacing=1)
    return ax


def decision_regions(
    ax: Axes, predict: Callable[[Float[np.ndarray, "N 2"]], Float[np.ndarray, "N ..."]], n: int = 200
) -> Axes:
    """Colour the plane by the predicted probabilities and draw the decision boundaries.

    Args:
        ax: within its limits.
        predict: maps points (N, 2) to the probability of class 1, (N,), or to those of K classes, (N, K).
        n: points of the grid along each axis.
    """
    from matplotlib.colors import to_rgb

    n = checks.count(2, MAX_POINTS, n=n)

    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    grid = np.stack(np.meshgrid(np.linspace(left, right, n), np.linspace(low, high, n)), axis=-1)
    y = predict(grid.reshape(-1, 2))
    y = np.column_stack([1 - y, y]) if y.ndim == 1 else y
    color = y @ np.array([to_rgb(c) for c in COLORS[: y.shape[1]]])
    tint = np.insert(color, 3, 0.35, axis=1)  # of the ground, whichever that is
    picture, extent = tint.reshape(n, n, 4), (left, right, low, high)
    ax.imshow(picture, extent=extent, origin="lower", aspect="auto")
    for k in range(y.shape[1]):
        margin = (y[:, k] - np.delete(y, k, axis=1).max(axis=1)).reshape(n, n)
        ax.contour(grid[..., 0], grid[..., 1], margin, levels=[0], colors="black", linewidths=1)
    return ax


def contour(
    ax: Axes,
    a: Float[np.ndarray, " A"],
    b: Float[np.ndarray, " B"],
    values: Float[np.ndarray, "B A"],
    path: Float[np.ndarray, "steps 2"] | None = None,
    maximum: Sequence[float] | None = None,
) -> Axes:
    """Draw contours of a function of two weights; on them, the path of an optimiser and the maximum."""
    a, b, values = (checks.finite_floats(*item) for item in (("a", a), ("b", b), ("values", values)))
    if a.ndim != 1 or b.ndim != 1 or values.shape != (len(b), len(a)) or min(values.shape) < 2:
        got = f"{values.shape} for {a.shape} and {b.shape}"
        raise ValueError(f"values must have shape (B, A) for a of shape (A,) and b of shape (B,), got {got}")
    if (np.diff(a) <= 0).any() or (np.diff(b) <= 0).any():
        raise ValueError(f"a and b must ascend, got {a} and {b}")
    if not np.ptp(values):
        raise ValueError(f"values must differ, got {values.flat[0]} everywhere")
    path = None if path is None else checks.finite_floats("path", path)
    if path is not None and (path.ndim != 2 or path.shape[1] != 2 or not len(path)):
        raise ValueError(f"path must have shape (steps, 2), got {path.shape}")
    maximum = None if maximum is None else checks.finite_floats("maximum", maximum).tolist()
    if maximum is not None and np.shape(maximum) != (2,):
        raise ValueError(f"maximum must be two numbers, got {maximum!s:.80}")
    below = np.geomspace(np.ptp(values), 0.002, 14)  # evenly spaced levels would hide the maximum
    heights, levels = -np.log(np.max(values) - values + 0.002), -np.log(below + 0.002)
    ax.contourf(a, b, heights, levels=levels, cmap="Blues", extend="both", alpha=0.8)
    ax.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), xlabel="$w_1$", ylabel="$w_2$")
    if path is not None:
        ax.plot(*np.transpose(path), ".-", color=COLORS[1], markersize=4, linewidth=1)
        ax.plot(*path[0], "o", color=COLORS[1], markersize=6)
    if maximum is not None:
        ax.plot(*maximum, "k+", markersize=12, markeredgewidth=2)
    return ax


def learning_curves(ax: Axes, bands: Mapping[str, Band], metric: str) -> Axes:
    """Draw the metric against the steps: for each label a line, its interval and the label at its end."""
    ends = []
    for label, (steps, estimate, low, high) in bands.items():
        [line] = ax.plot(steps / 1000, estimate)
        ax.fill_between(steps / 1000, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        ends.append((steps[-1] / 1000, estimate[-1], label, line.get_color()))
    ax.set(xlabel="thousands of steps", ylabel=metric)
    ax.margins(x=0.02)
    gap, height = 0.07 * np.ptp(ax.get_ylim()), -np.inf
    for x, y, label, color in sorted(ends, key=lambda end: end[1]):
        height = max(y, height + gap)  # labels of lines that end together stand one above the other
        text = ax.annotate(label, (x, height), (4, 0), textcoords="offset points", color=color, va="center")
        text.set_annotation_clip(False)
    return ax


def image(
    ax: Axes,
    pixels: Float[np.ndarray, "H W *RGB"],
    title: str = "",
    *,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Show an image with square pixels and no axes."""
    pixels = checks.numbers("pixels", pixels)
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ValueError(f"pixels must have shape (H, W) or (H, W, 3 or 4), got {pixels.shape}")
    for name, bound in {"vmin": vmin, "vmax": vmax}.items():
        if bound is not None:
            checks.real(**{name: bound})
            checks.finite(**{name: bound})
    ax.imshow(pixels, cmap=cmap, vmin=vmin, vmax=vmax)
    ax.autoscale(False)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def difference_frame(ax: Axes, x: Float[np.ndarray, " 6400"], title: str = "") -> Axes:
    """Show a difference frame of Pong: what appeared in one colour, what disappeared in another."""
    x = checks.numbers("x", x)
    if x.size != 6400:
        raise ValueError(f"x must hold 6,400 numbers, got shape {x.shape}")
    return image(ax, np.reshape(x, (80, 80)), title, cmap="PuOr", vmin=-1.4, vmax=1.4)


def rollout(ax: Axes, steps: Sequence[PongStep], n_ticks: int = 40) -> Axes:
    """Draw one point of Pong: the ball's path, from light to dark, and above it the last actions.

    Each of the last ``n_ticks`` actions is a tick, long and blue for UP, short and orange for DOWN.
    """
    x, y = np.array([step.ball if step.ball else (np.nan, np.nan) for step in steps], float).T
    ax.imshow(steps[-1].field, cmap="gray_r", vmax=4)
    ax.scatter(x, y, c=np.arange(len(steps)), s=5, cmap="viridis_r")
    up = np.array([step.a for step in steps[-n_ticks:]], bool)
    at = np.arange(len(up)) * 80 / n_ticks
    ax.vlines(at[up], -20, -6, color=COLORS[0], linewidth=1.2)
    ax.vlines(at[~up], -11, -6, color=COLORS[1], linewidth=1.2)
    title, color = ("WIN  $G=+1$", COLORS[2]) if steps[-1].r > 0 else ("LOSS  $G=-1$", COLORS[1])
    ax.set_title(title, color=color, loc="center")
    ax.set(xlim=(-1, 80), ylim=(79, -21), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def draw_mujoco(ax: Axes, env: Env, *, above: bool = False, alpha: float = 1.0) -> Axes:
    """Draw a MuJoCo environment, from the side or from ``above``: spheres as discs, other bodies as rods."""
    from matplotlib.patches import Circle

    physics: Any = getattr(env.unwrapped, "physics", env.unwrapped)  # the Control Suite's, or Gymnasium's
    model, data, plane = physics.model, physics.data, [0, 1] if above else [0, 2]
    for k, kind in enumerate(model.geom_type):
        at, size, axes = data.geom_xpos[k], model.geom_size[k], data.geom_xmat[k].reshape(3, 3).T
        if kind == 2:  # mujoco.mjtGeom.mjGEOM_SPHERE; 0 is a plane, 3 a capsule, 5 a cylinder, 6 a box
            ax.add_patch(Circle(at[plane], size[0], color=COLORS[1], alpha=alpha, linewidth=0))
        elif kind > 2:
            half = axes[size.argmax()] * size.max() if kind == 6 else axes[2] * size[1]
            x, y = np.stack([at - half, at + half])[:, plane].T
            ax.plot(x, y, color=COLORS[0], linewidth=3, solid_capstyle="round", alpha=alpha)
    return ax
