"""Films and figures: what is in the file is what was put in."""

import base64
import itertools
import re
import subprocess

import gymnasium
import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest

from pgcourse.environments import pong, tasks
from pgcourse.maths import logistic
from pgcourse.maths.statistics import Band
from pgcourse.teaching import plots, video

matplotlib.use("agg")
import matplotlib.pyplot as plt


@pytest.fixture
def axes():
    plots.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def colored(n, height=32, width=48):
    """Frames of one colour each, every one brighter than the one before."""
    return [np.full((height, width, 3), 20 + 200 * i // n, np.uint8) for i in range(n)]


def decode(film, path, height=32, width=48):
    path.write_bytes(film)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    return result.stderr.decode(), np.frombuffer(result.stdout, np.uint8).reshape(-1, height, width, 3)


def test_a_film_holds_its_frames_in_order(tmp_path):
    frames = colored(20)
    about, decoded = decode(video.mp4(frames, fps=10), tmp_path / "film.mp4")
    assert "Video: h264" in about
    assert " 10 fps" in about
    assert len(decoded) == len(frames)
    for was, now in zip(frames, decoded, strict=True):
        assert abs(was.mean() - now.mean()) < 6  # lossy


def test_the_same_frames_give_the_same_bytes():
    assert video.mp4(colored(10)) == video.mp4(colored(10))


def test_a_film_in_the_page_has_controls_a_poster_and_a_text():
    page = video.show(iter(colored(6)), 'a "film" & more').data
    assert re.search(r"<video [^>]*controls", page)
    assert (
        base64.b64decode(re.search(r'poster="data:image/webp;base64,([^"]+)"', page).group(1))[8:12]
        == b"WEBP"
    )
    assert base64.b64decode(re.search(r'src="data:video/mp4;base64,([^"]+)"', page).group(1))[4:8] == b"ftyp"
    assert 'aria-label="a &quot;film&quot; &amp; more"' in page


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "frames must hold at least one frame, got none"),
        (
            [np.zeros((32, 48), np.uint8)],
            r"frames must all have one shape \(H, W, 3\).*got \(32, 48\), uint8 at 0",
        ),
        ([np.zeros((31, 48, 3), np.uint8)], r"H and W even.*got \(31, 48, 3\)"),
        ([*colored(2), np.zeros((16, 48, 3), np.uint8)], r"got \(16, 48, 3\), uint8 at 2"),
        ([np.zeros((32, 48, 3))], "dtype uint8, got .* float64 at 0"),
    ],
)
def test_bad_frames_are_named(frames, message):
    with pytest.raises(ValueError, match=message):
        video.mp4(frames)


@pytest.fixture
def dummy_screen(monkeypatch):
    """SDL's own stand-in for a screen: windows, events and all, which nobody sees."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    return pygame


def watched(frames, pygame, event=None, at=3):
    """The frames; and what the window showed, and was called, when the next one was asked for. Before one, something happens."""
    shown, titles = [], []

    def play():
        for i, frame in enumerate(frames):
            if i == at and event is not None:
                pygame.event.post(event)
            yield frame
            shown.append(pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1))
            titles.append(pygame.display.get_caption()[0])

    return play(), shown, titles


def test_a_window_shows_every_frame_enlarged_and_closes(dummy_screen):
    frames = [np.random.default_rng(i).integers(256, size=(21, 31, 3), dtype=np.uint8) for i in range(6)]
    played, shown, titles = watched(frames, dummy_screen)
    video.window(played, "a title", fps=1000)
    assert titles == ["a title"] * 6
    for was, now in zip(frames, shown, strict=True):
        assert (now == was.repeat(480 // 21, axis=0).repeat(480 // 21, axis=1)).all()
    assert not dummy_screen.display.get_init()


def test_a_large_picture_is_shown_as_it_is(dummy_screen):
    frames = colored(3, 600, 801)
    played, shown, _ = watched(frames, dummy_screen)
    video.window(played, "large", fps=1000)
    assert (shown[0] == frames[0]).all()


@pytest.mark.parametrize(
    ("kind", "key", "n_frames"),
    [("QUIT", None, 4), ("KEYDOWN", "K_ESCAPE", 4), ("KEYDOWN", "K_a", 10), ("KEYUP", "K_ESCAPE", 10)],
)
def test_a_window_closes_on_escape_and_when_it_is_closed_and_on_nothing_else(
    dummy_screen, kind, key, n_frames
):
    event = dummy_screen.event.Event(
        getattr(dummy_screen, kind), {"key": getattr(dummy_screen, key)} if key else {}
    )
    asked = []
    played, *_ = watched(
        (asked.append(i) or frame for i, frame in enumerate(colored(10))), dummy_screen, event
    )
    video.window(played, "short", fps=1000)
    assert len(asked) == n_frames  # the rest has not been computed
    assert not dummy_screen.display.get_init()


def test_a_window_closes_when_its_frames_fail(dummy_screen):
    def failing():
        yield from colored(2)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        video.window(failing(), "failing", fps=1000)
    assert not dummy_screen.display.get_init()


def test_a_second_window_opens_after_the_first(dummy_screen):
    for _ in range(2):
        played, shown, _ = watched(colored(3), dummy_screen)
        video.window(played, "again", fps=1000)
        assert len(shown) == 3


def test_without_a_screen_there_is_no_window_but_advice(dummy_screen, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    with pytest.raises(
        RuntimeError, match=r"^no window can be opened: nonsense not available; write a film instead$"
    ):
        video.window(colored(3), "none")


@pytest.mark.parametrize(
    ("platform", "environment", "has_screen"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": "", "WAYLAND_DISPLAY": "wayland-0"}, True),
        ("win32", {}, True),
        ("darwin", {}, True),
    ],
)
def test_there_is_a_screen_where_the_environment_names_one(monkeypatch, platform, environment, has_screen):
    monkeypatch.setattr(video.sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert video.has_screen() is has_screen


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
        np.testing.assert_array_equal(line.get_xydata(), np.transpose([band.steps / 1000, band.middle]))
        corners = {tuple(corner) for corner in area.get_paths()[0].vertices}
        assert corners == {
            *zip(band.steps / 1000, band.low, strict=True),
            *zip(band.steps / 1000, band.high, strict=True),
        }
        assert labels[label].xy == (band.steps[-1] / 1000, band.middle[-1])
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


def test_labels_at_the_ends_are_not_cut_off(axes):
    """Where the layout may shrink the axes, as the book's style lets it."""
    band = Band(np.array([0.0, 1e6]), *[np.array([0.0, 500])] * 3)
    plots.learning_curves(axes, {"reinforce/cartpole batch_size=500 eta=0.01": band}, "return")
    axes.figure.canvas.draw()
    [label] = axes.texts
    box, whole = label.get_window_extent(), axes.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1


def test_surface_is_darkest_at_the_summit(axes):
    a = b = np.linspace(-1, 1, 21)
    plots.surface(
        axes, a, b, -np.add.outer((b - 0.5) ** 2, (a + 0.2) ** 2), path=[(0, 0), (0.1, 0.2)], best=(-0.2, 0.5)
    )
    axes.figure.canvas.draw()
    picture = np.asarray(axes.figure.canvas.buffer_rgba())[..., :3].astype(int)

    def brightness(x, y):
        column, row = axes.transData.transform((x, y)).astype(int)
        return picture[len(picture) - row - 12, column + 12].sum()  # beside the cross that marks the summit

    assert brightness(-0.2, 0.5) < brightness(0.3, 0.3) < brightness(0.8, -0.8)


def test_shaded_probability_has_its_boundary_where_the_model_cannot_tell(axes):
    x, t = np.array([[-1.0, -1], [1, 1], [1, -1], [-1, 1]]), np.array([0, 1, 1, 0])
    plots.scatter_classes(axes, x, t, ["left", "right"])
    w = np.array([2.0, 0.0])
    plots.shade_probability(axes, lambda x: logistic.predict(w, x))
    boundary = np.concatenate([path.vertices for c in axes.collections[-1:] for path in c.get_paths()])
    np.testing.assert_allclose(boundary[:, 0], 0, atol=1e-9)


def test_rollout_says_who_won_and_draws_every_action(axes):
    moments = [m for m in pong.watch(lambda m: 1, 60) if m.ball][:12]
    for r, word in [(1.0, "WIN"), (-1.0, "LOSS")]:
        axes.clear()
        plots.rollout(axes, [*moments[:-1], moments[-1]._replace(r=r, a=0)])
        assert word in axes.get_title()
    up, down = axes.collections[-2:]
    assert (len(up.get_segments()), len(down.get_segments())) == (11, 1)


def test_a_body_is_drawn_where_the_simulator_has_it(axes):
    """An arm of two rods on a table, from above; a rod with a ball at its end, from the side."""
    arm = gymnasium.make("Reacher-v5")
    arm.reset(seed=0)
    plots.body(axes, arm, above=True)
    rods = [line.get_xydata() for line in axes.lines]
    upper, lower = (rod for rod in rods if np.isclose(np.hypot(*np.diff(rod, axis=0)[0]), 0.1))
    shoulder, elbow = upper[np.hypot(*upper.T).argsort()]
    np.testing.assert_allclose(shoulder, [0, 0], atol=1e-9)
    assert np.hypot(*(lower - elbow).T).min() < 1e-9
    np.testing.assert_allclose(axes.patches[0].center, arm.unwrapped.get_body_com("fingertip")[:2], atol=1e-9)
    axes.clear()
    plots.body(axes, tasks.SuiteTask("pendulum", "swingup").make(1).envs[0])
    *_, rod = (line.get_xydata() for line in axes.lines)
    assert np.hypot(*(rod - axes.patches[0].center).T).min() < 1e-9
