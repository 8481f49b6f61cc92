"""Find a Chromium that starts; where there is none, bring one. Serve a folder to it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
PLACES = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    *(
        rf"%{folder}%\Google\Chrome\Application\chrome.exe"
        for folder in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData")
    ),
]
HINT = (
    "No Chromium or Chrome was found, and none could be installed. "
    "Try: python -m playwright install --with-deps chromium"
)


def find() -> str:
    """Return the path of a browser: the system's, else Playwright's download, else Debian's package."""
    for browser in (system, downloaded, download, install):
        if path := browser():
            return path
    raise RuntimeError(HINT)


def system() -> str | None:
    candidates = [shutil.which(name) for name in NAMES] + [os.path.expandvars(place) for place in PLACES]
    return next((path for path in candidates if path and starts(path)), None)


def downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if starts(path) else None


def download() -> str | None:
    return downloaded() if succeeds(sys.executable, "-m", "playwright", "install", "chromium") else None


def install() -> str | None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    succeeds("apt-get", "update")
    return system() if succeeds("apt-get", "install", "-y", "chromium") else None


def starts(path: str) -> bool:
    """Return whether it is a browser: a snap's stub or a download without its libraries does not start.

    On Windows asking for the version would open a window, so there the file is enough.
    """
    return Path(path).exists() and (os.name == "nt" or succeeds(path, "--version"))


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder, and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
