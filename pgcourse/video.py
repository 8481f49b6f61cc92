"""Frames to a film that plays in the page: mp4 with controls, a poster and a text alternative."""

import base64
import html
import io
from collections.abc import Iterable

import numpy as np


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
        options = ["-crf", "26", "-preset", "slow", "-tune", "animation", "-movflags", "+faststart", "-threads", "1"]
        writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), fps=fps, codec="libx264", quality=None, macro_block_size=2, output_params=options
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
