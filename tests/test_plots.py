"""Figures show what they were given."""

import itertools

import gymnasium
import matplotlib
import numpy as np
import pytest

from pgcourse.environments import pong, tasks
from pgcourse.maths import logistic
from pgcourse.maths.statistics import Band
from pgcourse.teaching import plots

matplotlib.use("agg")
import matplotlib.pyplot as plt


@pytest.fixture
def axes():
    plots.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_a_learning_curve_is_the_line_and_the_band_it_is_given(axes):
    steps = np.array([0.0, 1000, 30_000])
    bands = {
        "reinforce": Band(
            steps, np.array([20.0, 100, 300]), np.array([18.0, 80, 250]), np.array([22.0, 130, 320])
        ),
        "other": Band(steps / 2, np.array([10.0, 20, 30]), np.array([9.0, 18, 27]), np.array([11.0, 22, 33])),
    }
    assert plots.learning_curves(axes, bands, "mean return") is axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("thousands of steps", "mean return")
    labels = {text.get_text(): text for text in axes.texts}
    assert len(labels) == len(axes.texts) == len(bands)
    for (label, band), line, area in zip(bands.items(), axes.lines, axes.collections, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose([band.steps / 1000, band.estimate]))
        corners = {tuple(corner) for corner in area.get_paths()[0].vertices}
        assert corners == {
            *zip(band.steps / 1000, band.low, strict=True),
            *zip(band.steps / 1000, band.high, strict=True),
        }
        assert labels[label].xy == (band.steps[-1] / 1000, band.estimate[-1])
        assert labels[label].get_color() == line.get_color()
        assert matplotlib.colors.to_rgb(line.get_color()) == tuple(area.get_facecolor()[0, :3])
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def test_labels_of_learning_curves_that_end_together_stand_apart_in_the_order_of_the_lines(axes):
    steps, ends = np.array([0.0, 1000]), [50.0, 49, 50, 0, 51, 48]
    plots.learning_curves(
        axes, {str(i): Band(steps, *[np.array([0, end])] * 3) for i, end in enumerate(ends)}, "return"
    )
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in sorted(axes.texts, key=lambda text: text.xy[1])]
    assert all(above.y0 >= below.y1 for below, above in itertools.pairwise(boxes))
    in_order = [ends[int(text.get_text())] for text in sorted(axes.texts, key=lambda text: text.xy[1])]
    assert in_order == sorted(ends)


def test_labels_at_the_ends_are_not_clipped(axes):
    """Where the layout may shrink the axes, as the book's style lets it."""
    band = Band(np.array([0.0, 1e6]), *[np.array([0.0, 500])] * 3)
    plots.learning_curves(axes, {"reinforce/cartpole batch_size=500 eta=0.01": band}, "return")
    axes.figure.canvas.draw()
    [label] = axes.texts
    box, whole = label.get_window_extent(), axes.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1


def test_contours_are_darkest_at_the_maximum(axes):
    a = b = np.linspace(-1, 1, 21)
    plots.contour(
        axes,
        a,
        b,
        -np.add.outer((b - 0.5) ** 2, (a + 0.2) ** 2),
        path=[(0, 0), (0.1, 0.2)],
        maximum=(-0.2, 0.5),
    )
    axes.figure.canvas.draw()
    picture = np.asarray(axes.figure.canvas.buffer_rgba())[..., :3].astype(int)

    def brightness(x, y):
        column, row = axes.transData.transform((x, y)).astype(int)
        return picture[len(picture) - row - 12, column + 12].sum()  # beside the cross that marks the maximum

    assert brightness(-0.2, 0.5) < brightness(0.3, 0.3) < brightness(0.8, -0.8)


def test_decision_regions_meet_where_both_classes_are_equally_probable(axes):
    x, t = np.array([[-1.0, -1], [1, 1], [1, -1], [-1, 1]]), np.array([0, 1, 1, 0])
    plots.scatter_classes(axes, x, t, ["left", "right"])
    w = np.array([2.0, 0.0])
    plots.decision_regions(axes, lambda x: logistic.predict(w, x))
    boundary = np.concatenate([path.vertices for c in axes.collections[-1:] for path in c.get_paths()])
    np.testing.assert_allclose(boundary[:, 0], 0, atol=1e-9)


def test_rollout_says_who_won_and_draws_every_action(axes):
    steps = [step for step in pong.iter_steps(lambda step: 1, 60) if step.ball][:12]
    for r, word in [(1.0, "WIN"), (-1.0, "LOSS")]:
        axes.clear()
        plots.rollout(axes, [*steps[:-1], steps[-1]._replace(r=r, a=0)])
        assert word in axes.get_title()
    up, down = axes.collections[-2:]
    assert (len(up.get_segments()), len(down.get_segments())) == (11, 1)


def test_mujoco_is_drawn_where_the_simulator_has_it(axes):
    """An arm of two rods on a table, from above; a rod with a ball at its end, from the side."""
    arm = gymnasium.make("Reacher-v5")
    arm.reset(seed=0)
    plots.draw_mujoco(axes, arm, above=True)
    rods = [line.get_xydata() for line in axes.lines]
    upper, lower = (rod for rod in rods if np.isclose(np.hypot(*np.diff(rod, axis=0)[0]), 0.1))
    shoulder, elbow = upper[np.hypot(*upper.T).argsort()]
    np.testing.assert_allclose(shoulder, [0, 0], atol=1e-9)
    assert np.hypot(*(lower - elbow).T).min() < 1e-9
    np.testing.assert_allclose(axes.patches[0].center, arm.unwrapped.get_body_com("fingertip")[:2], atol=1e-9)
    axes.clear()
    plots.draw_mujoco(axes, tasks.ControlSuiteTask("pendulum", "swingup").make_vector_env(1).envs[0])
    *_, rod = (line.get_xydata() for line in axes.lines)
    assert np.hypot(*(rod - axes.patches[0].center).T).min() < 1e-9
