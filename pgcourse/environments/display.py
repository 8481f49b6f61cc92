"""Rendering environments with and without a screen."""

import contextlib
import ctypes.util
import logging
import os
import sys
from collections.abc import Iterator


def has_screen() -> bool:
    """Return whether a window can be opened."""
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@contextlib.contextmanager
def without_screen() -> Iterator[None]:
    """Let pygame render without a screen in this block, without complaints and without its greeting."""
    changed = {"PYGAME_HIDE_SUPPORT_PROMPT": "1"} | ({} if has_screen() else {"SDL_VIDEODRIVER": "dummy"})
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def mujoco_without_screen(name: str) -> Iterator[None]:
    """Let MuJoCo render where there is no screen, and do not show its warnings of deprecated models.

    Raises:
        RuntimeError: if the environment ``name``, made in this block, needs a package that is not installed.
    """
    if sys.platform == "linux" and not {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "off"
    try:
        import mujoco

        mujoco.set_mju_user_warning(
            lambda text: None if "deprecated" in text else logging.getLogger("mujoco").warning(text)
        )
        yield
    except ImportError as error:
        install = 'pip install "pgcourse[control]"'  # in quotes that every shell takes
        if sys.version_info >= (3, 13):
            install += ", and pip install --no-deps dm-control"
        raise RuntimeError(f"{name} needs more than pgcourse itself: {install} ({error})") from error
