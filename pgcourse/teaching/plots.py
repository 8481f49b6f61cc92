"""Figures from arrays, in one style.

Functions draw into the axes they are given and return them; none computes what it draws.
"""

from pathlib import Path

import numpy as np

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito (2008), told apart by the colour-blind


def use_style():
    """Make this book's style sheet matplotlib's default."""
    import matplotlib.pyplot as plt

    plt.style.use(Path(__file__).with_name("pgcourse.mplstyle"))


def scatter_classes(ax, x, target, names):
    """Draw examples by their first two numbers, x of shape (M, ≥ 2), one colour and marker a class."""
    for k, (name, color, marker) in enumerate(zip(names, COLORS, "osD", strict=False)):
        ax.scatter(
            *x[target == k, :2].T,
            s=18,
            color=color,
            marker=marker,
            edgecolor="white",
            linewidth=0.5,
            label=name,
            zorder=2,
        )
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=len(names), handletextpad=0.1, columnspacing=1
    )
    return ax


def shade_probability(ax, predict, n=120):
    """Shade the plane by predict, which maps points (N, 2) to the probability of class 1, (N,), or of K classes, (N, K)."""
    from matplotlib.colors import to_rgb

    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    grid = np.stack(np.meshgrid(np.linspace(left, right, n), np.linspace(low, high, n)), axis=-1)
    y = predict(grid.reshape(-1, 2))
    y = np.column_stack([1 - y, y]) if y.ndim == 1 else y
    color = y @ np.array([to_rgb(c) for c in COLORS[: y.shape[1]]])
    ax.imshow(
        (0.35 * color + 0.65).reshape(n, n, 3),
        extent=(left, right, low, high),
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
    )
    for k in range(y.shape[1]):
        others = np.delete(y, k, axis=1).max(axis=1)
        ax.contour(
            grid[..., 0],
            grid[..., 1],
            (y[:, k] - others).reshape(n, n),
            levels=[0],
            colors="black",
            linewidths=1,
        )
    return ax


def surface(ax, a, b, values, path=None, best=None):
    """Draw values, shape (len(b), len(a)), as a landscape over two weights; a path (steps, 2) on it, and its summit."""
    below = np.geomspace(
        np.ptp(values), 0.002, 14
    )  # evenly spaced levels would show the slopes and hide the summit
    ax.contourf(
        a,
        b,
        -np.log(np.max(values) - values + 0.002),
        levels=-np.log(below + 0.002),
        cmap="Blues",
        extend="both",
        alpha=0.8,
    )
    ax.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), xlabel="$w_1$", ylabel="$w_2$")
    if path is not None:
        ax.plot(*np.transpose(path), ".-", color=COLORS[1], markersize=4, linewidth=1)
        ax.plot(*path[0], "o", color=COLORS[1], markersize=6)
    if best is not None:
        ax.plot(*best, "k+", markersize=12, markeredgewidth=2)
    return ax


def learning_curves(ax, bands, score):
    """Draw what ``score`` names against the steps: for each label of bands (steps, middle, low, high) a line, its interval, its name."""
    for steps, middle, low, high in bands.values():
        [line] = ax.plot(steps / 1000, middle)
        ax.fill_between(steps / 1000, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set(xlabel="thousands of steps", ylabel=score)
    ax.margins(x=0.02)
    gap, floor = (
        0.07 * np.ptp(ax.get_ylim()),
        -np.inf,
    )  # names of lines that end together stand one above the other
    for label, line in sorted(
        zip(bands, ax.lines[-len(bands) :], strict=True), key=lambda pair: pair[1].get_ydata()[-1]
    ):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        floor = max(y, floor + gap)
        ax.annotate(
            label,
            (x, floor),
            (4, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            annotation_clip=False,
        )
    return ax


def pixels(ax, image, title="", **options):
    """Show an image with square pixels and no axes."""
    ax.imshow(image, **options)
    ax.autoscale(False)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def difference(ax, x, title=""):
    """Show a difference frame: what arrived in one colour, what left in another."""
    return pixels(ax, np.reshape(x, (80, 80)), title, cmap="PuOr", vmin=-1.4, vmax=1.4)


def rollout(ax, moments, n_ticks=40):
    """Draw one point of Pong: the ball's path, from light to dark; over it a tick for each of the last actions, long and blue for UP."""
    balls = np.array([m.ball if m.ball else (np.nan, np.nan) for m in moments], float)
    ax.imshow(moments[-1].field, cmap="gray_r", vmax=4)
    ax.scatter(*balls.T, c=np.arange(len(balls)), s=5, cmap="viridis_r")
    up = np.array([m.a for m in moments[-n_ticks:]], bool)
    at = np.arange(len(up)) * 80 / n_ticks
    ax.vlines(at[up], -20, -6, color=COLORS[0], linewidth=1.2)
    ax.vlines(at[~up], -11, -6, color=COLORS[1], linewidth=1.2)
    won = moments[-1].r > 0
    ax.set_title(
        "WIN  $G=+1$" if won else "LOSS  $G=-1$", color=COLORS[2] if won else COLORS[1], loc="center"
    )
    ax.set(xlim=(-1, 80), ylim=(79, -21), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def body(ax, env, *, above=False, alpha=1.0):
    """Draw the body that a MuJoCo environment holds, from the side or from ``above``: balls as discs, all else, but the ground, as rods."""
    from matplotlib.patches import Circle

    world = getattr(env.unwrapped, "physics", env.unwrapped)  # the Control Suite's, or Gymnasium's
    model, data, seen = world.model, world.data, [0, 1] if above else [0, 2]
    for k, kind in enumerate(model.geom_type):
        at, size, axes = data.geom_xpos[k], model.geom_size[k], data.geom_xmat[k].reshape(3, 3).T
        if kind == 2:  # mujoco.mjtGeom.mjGEOM_SPHERE; 0 is a plane, 3 a capsule, 5 a cylinder, 6 a box
            ax.add_patch(Circle(at[seen], size[0], color=COLORS[1], alpha=alpha, linewidth=0))
        elif kind > 2:
            half = axes[size.argmax()] * size.max() if kind == 6 else axes[2] * size[1]
            ax.plot(
                *np.stack([at - half, at + half])[:, seen].T,
                color=COLORS[0],
                linewidth=3,
                solid_capstyle="round",
                alpha=alpha,
            )
    return ax
