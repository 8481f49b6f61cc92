"""Films and figures: what is in the file is what was put in."""

import base64
import re
import subprocess

import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest

from pgcourse import logistic, plots, pong, video

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
    assert base64.b64decode(re.search(r'poster="data:image/webp;base64,([^"]+)"', page).group(1))[8:12] == b"WEBP"
    assert base64.b64decode(re.search(r'src="data:video/mp4;base64,([^"]+)"', page).group(1))[4:8] == b"ftyp"
    assert 'aria-label="a &quot;film&quot; &amp; more"' in page


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "frames must hold at least one frame, got none"),
        ([np.zeros((32, 48), np.uint8)], r"frames must all have one shape \(H, W, 3\).*got \(32, 48\), uint8 at 0"),
        ([np.zeros((31, 48, 3), np.uint8)], r"H and W even.*got \(31, 48, 3\)"),
        ([*colored(2), np.zeros((16, 48, 3), np.uint8)], r"got \(16, 48, 3\), uint8 at 2"),
        ([np.zeros((32, 48, 3))], "dtype uint8, got .* float64 at 0"),
    ],
)
def test_bad_frames_are_named(frames, message):
    with pytest.raises(ValueError, match=message):
        video.mp4(frames)


def test_surface_is_darkest_at_the_summit(axes):
    a = b = np.linspace(-1, 1, 21)
    plots.surface(axes, a, b, -np.add.outer((b - 0.5) ** 2, (a + 0.2) ** 2), path=[(0, 0), (0.1, 0.2)], best=(-0.2, 0.5))
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
