"""Videos: what is in the file, the page and the window is what was put in."""

import base64
import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from pgcourse.teaching import video


def colored(n, height=32, width=48):
    """Frames of one colour each, every one brighter than the one before."""
    return [np.full((height, width, 3), 20 + 200 * i // n, np.uint8) for i in range(n)]


def decode(data, path, height=32, width=48):
    path.write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    return result.stderr.decode(), np.frombuffer(result.stdout, np.uint8).reshape(-1, height, width, 3)


def test_a_video_holds_its_frames_in_order(tmp_path):
    frames = colored(20)
    about, decoded = decode(video.encode_mp4(frames, fps=10), tmp_path / "video.mp4")
    assert "Video: h264" in about
    assert " 10 fps" in about
    assert len(decoded) == len(frames)
    for was, now in zip(frames, decoded, strict=True):
        assert abs(was.mean() - now.mean()) < 6  # lossy


def test_the_same_frames_give_the_same_bytes():
    assert video.encode_mp4(colored(10)) == video.encode_mp4(colored(10))


def test_a_video_in_the_page_has_controls_a_poster_and_a_text():
    page = video.show(iter(colored(6)), 'a "video" & more').data
    assert re.search(r"<video [^>]*controls", page)
    assert (
        base64.b64decode(re.search(r'poster="data:image/webp;base64,([^"]+)"', page).group(1))[8:12]
        == b"WEBP"
    )
    assert base64.b64decode(re.search(r'src="data:video/mp4;base64,([^"]+)"', page).group(1))[4:8] == b"ftyp"
    assert 'aria-label="a &quot;video&quot; &amp; more"' in page


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
        video.encode_mp4(frames)


@pytest.fixture
def dummy_screen(monkeypatch):
    """SDL's dummy screen: windows and events as on a real one."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    return pygame


def played_in_window(frames, pygame, event=None, at=3):
    """Return an iterator of the frames, and lists of what the window shows and its titles after each."""
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
    played, shown, titles = played_in_window(frames, dummy_screen)
    video.play_in_window(played, "a title", fps=1000)
    assert titles == ["a title"] * 6
    for was, now in zip(frames, shown, strict=True):
        assert (now == was.repeat(480 // 21, axis=0).repeat(480 // 21, axis=1)).all()
    assert not dummy_screen.display.get_init()


def test_a_large_picture_is_shown_as_it_is(dummy_screen):
    frames = colored(3, 600, 801)
    played, shown, _ = played_in_window(frames, dummy_screen)
    video.play_in_window(played, "large", fps=1000)
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
    played, *_ = played_in_window(
        (asked.append(i) or frame for i, frame in enumerate(colored(10))), dummy_screen, event
    )
    video.play_in_window(played, "short", fps=1000)
    assert len(asked) == n_frames  # the rest has not been computed
    assert not dummy_screen.display.get_init()


def test_a_window_closes_when_its_frames_fail(dummy_screen):
    def failing():
        yield from colored(2)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        video.play_in_window(failing(), "failing", fps=1000)
    assert not dummy_screen.display.get_init()


def test_a_second_window_opens_after_the_first(dummy_screen):
    for _ in range(2):
        played, shown, _ = played_in_window(colored(3), dummy_screen)
        video.play_in_window(played, "again", fps=1000)
        assert len(shown) == 3


def test_without_a_screen_there_is_no_window_but_advice(dummy_screen, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    with pytest.raises(
        RuntimeError, match=r"^no window can be opened: nonsense not available; write a video file instead$"
    ):
        video.play_in_window(colored(3), "none")


@pytest.mark.parametrize("fps", [0, np.nan, 1e300, "text", None])
def test_frames_per_second_are_a_positive_number(fps):
    with pytest.raises(ValueError, match=r"^fps must be "):
        video.encode_mp4([np.zeros((2, 2, 3), np.uint8)], fps=fps)
