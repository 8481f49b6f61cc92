"""Frames to a video: in the page, as mp4 with controls, a poster and a text alternative, or in a window."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks
from pgcourse.environments.display import has_screen

if TYPE_CHECKING:
    from IPython.display import HTML
    from jaxtyping import UInt8

    Frame = UInt8[np.ndarray, "H W 3"]

UNSEEN = ("dummy", "offscreen")  # SDL's drivers without a screen, of which it takes one if no other works


MAX_FPS = 1000


def _listed(frames: Iterable[Frame]) -> list[Frame]:
    """Return at least one array."""
    if not isinstance(frames, Iterable) or (isinstance(frames, np.ndarray) and not frames.ndim):
        raise ValueError(f"frames must hold at least one frame, got {frames!r:.80}")
    frames = [checks.numbers("frames", frame) for frame in frames]
    if not frames:
        raise ValueError("frames must hold at least one frame, got none")
    return frames


def encode_mp4(frames: Iterable[Frame], *, fps: float = 30) -> bytes:
    """Return a video, H.264 in mp4, of one or more frames of one shape (H, W, 3), uint8, H and W even."""
    import tempfile
    from pathlib import Path

    import imageio_ffmpeg

    checks.positive(fps=fps)
    checks.at_most(MAX_FPS, fps=fps)
    frames = [np.ascontiguousarray(frame) for frame in _listed(frames)]
    height, width = frames[0].shape[:2] if frames[0].ndim == 3 else (0, 0)
    for i, frame in enumerate(frames):
        if (
            not frame.size
            or frame.shape != (height, width, 3)
            or frame.dtype != np.uint8
            or height % 2
            or width % 2
        ):
            allowed = "all have one shape (H, W, 3), H and W even, and dtype uint8"
            raise ValueError(f"frames must {allowed}, got {frame.shape}, {frame.dtype} at {i}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        options = ["-crf", "26", "-preset", "slow", "-tune", "animation"]
        options += ["-movflags", "+faststart", "-threads", "1"]
        codec = {"codec": "libx264", "quality": None, "macro_block_size": 2, "output_params": options}
        writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=float(fps), **codec)
        writer.send(None)
        for frame in frames:
            writer.send(frame)
        writer.close()
        return path.read_bytes()


def show(frames: Iterable[Frame], caption: str, *, fps: float = 30) -> HTML:
    """Return a video with controls, as HTML that contains everything.

    Args:
        frames: as for ``encode_mp4``.
        caption: what the video shows, below it and as its text alternative.
        fps: frames per second.
    """
    from IPython.display import HTML
    from PIL import Image

    checks.text(caption=caption)
    frames = _listed(frames)
    video = base64.b64encode(encode_mp4(frames, fps=fps)).decode()
    buffer = io.BytesIO()
    Image.fromarray(frames[len(frames) // 2]).save(buffer, format="WEBP", quality=80)
    poster = base64.b64encode(buffer.getvalue()).decode()
    height, width = frames[0].shape[:2]
    caption = html.escape(caption)
    return HTML(
        f'<figure class="video"><video controls loop muted playsinline width="{width}" height="{height}" '
        f'aria-label="{caption}" preload="metadata" poster="data:image/webp;base64,{poster}" '
        f'src="data:video/mp4;base64,{video}"></video><figcaption>{caption}</figcaption></figure>'
    )


def _screen_name() -> str:
    names = ("WAYLAND_DISPLAY", "DISPLAY")
    return (
        " or ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
        or "of this system"
    )


def play_in_window(frames: Iterable[Frame], title: str, *, fps: float = 30) -> None:
    """Play frames in a window until they end, Escape is pressed or the window is closed.

    Args:
        frames: at least one, as for ``encode_mp4``, but of any height and width. Small ones are enlarged.
        title: of the window.
        fps: frames per second.

    Raises:
        RuntimeError: if no window can be opened, also where the environment names a screen that is gone.
    """
    if not has_screen() and "SDL_VIDEODRIVER" not in os.environ:
        raise RuntimeError("no window can be opened because there is no screen; write a video file instead")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    try:
        pygame.display.init()
        if (driver := pygame.display.get_driver()) in UNSEEN and driver != os.environ.get("SDL_VIDEODRIVER"):
            raise pygame.error(f"the screen {_screen_name()} does not answer")
        clock, surface = pygame.time.Clock(), None
        for frame in frames:
            picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
            if surface is None:
                scale = max(1, 480 // frame.shape[0])
                surface = pygame.display.set_mode((frame.shape[1] * scale, frame.shape[0] * scale))
                pygame.display.set_caption(title)
            pygame.transform.scale(picture, surface.get_size(), surface)
            pygame.display.flip()
            clock.tick(fps)
            for event in pygame.event.get():
                escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
                if escape or event.type == pygame.QUIT:
                    return
        if surface is None:
            raise ValueError("frames must hold at least one frame, got none")
    except pygame.error as error:
        raise RuntimeError(f"no window can be opened: {error}; write a video file instead") from error
    finally:
        pygame.display.quit()
