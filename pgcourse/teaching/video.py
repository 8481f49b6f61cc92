"""Frames to a film that plays in the page: mp4 with controls, a poster and a text alternative."""

import base64
import html
import io
import os
from collections.abc import Iterable

import numpy as np

from pgcourse.environments.display import has_screen


def mp4(frames: Iterable[np.ndarray], *, fps: float = 30) -> bytes:
    """Return a film (H.264 in mp4) of frames of one shape, (H, W, 3), uint8; H and W even.

    Raises:
        ValueError: if there is no frame, or one of another shape or dtype.
    """
    import tempfile
    from pathlib import Path

    import imageio_ffmpeg

    frames = [np.ascontiguousarray(frame) for frame in frames]
    if not frames:
        raise ValueError("frames must hold at least one frame, got none")
    height, width = frames[0].shape[:2]
    for i, frame in enumerate(frames):
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8 or height % 2 or width % 2:
            raise ValueError(
                f"frames must all have one shape (H, W, 3), H and W even, and dtype uint8, got {frame.shape}, {frame.dtype} at {i}"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        options = [
            "-crf",
            "26",
            "-preset",
            "slow",
            "-tune",
            "animation",
            "-movflags",
            "+faststart",
            "-threads",
            "1",
        ]
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            output_params=options,
        )
        writer.send(None)
        for frame in frames:
            writer.send(frame)
        writer.close()
        return path.read_bytes()


def show(frames: Iterable[np.ndarray], text: str, *, fps: float = 30):
    """Return a film with controls, as HTML that holds everything.

    Args:
        frames: as for ``mp4``.
        text: what the film shows, for those who cannot see it, and below it for all.
        fps: frames per second.
    """
    from IPython.display import HTML
    from PIL import Image

    frames = list(frames)
    film = base64.b64encode(mp4(frames, fps=fps)).decode()
    buffer = io.BytesIO()
    Image.fromarray(frames[len(frames) // 2]).save(buffer, format="WEBP", quality=80)
    poster = base64.b64encode(buffer.getvalue()).decode()
    height, width = frames[0].shape[:2]
    text = html.escape(text)
    return HTML(
        f'<figure class="video"><video controls loop muted playsinline width="{width}" height="{height}" aria-label="{text}" '
        f'preload="metadata" poster="data:image/webp;base64,{poster}" src="data:video/mp4;base64,{film}"></video>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def window(frames: Iterable[np.ndarray], title: str, *, fps: float = 30) -> None:
    """Play frames in a window until they or the reader's patience end (Escape, or the window is closed).

    Args:
        frames: as for ``mp4``, of any even or odd size; shown enlarged if they are small.
        title: of the window.
        fps: frames per second.

    Raises:
        ValueError: if there is no frame.
        RuntimeError: if no window can be opened.
    """
    if not has_screen() and "SDL_VIDEODRIVER" not in os.environ:
        raise RuntimeError("no window can be opened, for there is no screen; write a film instead")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    try:
        pygame.display.init()
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
                if event.type == pygame.QUIT or (
                    event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
                ):
                    return
        if surface is None:
            raise ValueError("frames must hold at least one frame, got none")
    except pygame.error as error:
        raise RuntimeError(f"no window can be opened: {error}; write a film instead") from error
    finally:
        pygame.display.quit()
