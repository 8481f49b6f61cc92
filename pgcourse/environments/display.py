"""Drawing environments with and without a screen."""

import contextlib
import os
import sys


def has_screen() -> bool:
    """Return whether a window could be opened."""
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@contextlib.contextmanager
def without_screen():
    """Let pygame draw in the block where there is no screen, without complaints; and without its greeting."""
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
