"""Which browser the tests of the site use, on machines that differ in what is installed."""

from types import SimpleNamespace

import browser
import pytest

PLAYWRIGHTS, SYSTEMS = "/cache/chrome", "/usr/bin/chromium"
DOWNLOAD, UPDATE, INSTALL = "playwright install chromium", "apt-get update", "apt-get install -y chromium"


@pytest.fixture
def machine(monkeypatch):
    """A machine where only what is in ``has`` exists or succeeds; ``did`` lists the commands run there."""
    machine = SimpleNamespace(
        has=set(), did=[], brings={DOWNLOAD: PLAYWRIGHTS, INSTALL: SYSTEMS}, broken=set(), uid=0
    )

    def run(command, **_):
        line = " ".join(command).partition(" -m ")[2] or " ".join(command)
        if not line.endswith("--version"):
            machine.did.append(line)
            if line in machine.has and line in machine.brings:
                machine.has.add(machine.brings[line])
        return SimpleNamespace(
            returncode=0 if line.removesuffix(" --version") in machine.has - machine.broken else 1
        )

    def downloaded():
        return PLAYWRIGHTS if browser.starts(PLAYWRIGHTS) else None

    monkeypatch.setattr(
        browser.shutil,
        "which",
        lambda name: next((p for p in sorted(machine.has) if p.endswith(f"bin/{name}")), None),
    )
    monkeypatch.setattr(browser.subprocess, "run", run)
    monkeypatch.setattr(browser.Path, "exists", lambda path: path.as_posix() in machine.has)
    monkeypatch.setattr(browser.os, "geteuid", lambda: machine.uid, raising=False)
    monkeypatch.setattr(browser, "downloaded", downloaded)
    return machine


@pytest.mark.parametrize(
    ("has", "broken", "found", "did"),
    [
        ({SYSTEMS, "/usr/bin/google-chrome", PLAYWRIGHTS}, set(), SYSTEMS, []),
        ({"/usr/bin/google-chrome", PLAYWRIGHTS}, set(), "/usr/bin/google-chrome", []),
        ({browser.PLACES[0], PLAYWRIGHTS}, set(), browser.PLACES[0], []),
        ({"/usr/bin/chromium-browser", PLAYWRIGHTS}, {"/usr/bin/chromium-browser"}, PLAYWRIGHTS, []),
        ({DOWNLOAD, "/usr/bin/apt-get"}, set(), PLAYWRIGHTS, [DOWNLOAD]),
        (
            {DOWNLOAD, "/usr/bin/apt-get", UPDATE, INSTALL},
            {PLAYWRIGHTS},
            SYSTEMS,
            [DOWNLOAD, UPDATE, INSTALL],
        ),
        ({"/usr/bin/apt-get", INSTALL}, set(), SYSTEMS, [DOWNLOAD, UPDATE, INSTALL]),
    ],
    ids=["chromium", "chrome", "mac", "stub", "download", "download-misses-libraries", "debian"],
)
def test_a_browser_is_found_or_brought(machine, has, broken, found, did):
    machine.has, machine.broken = set(has), broken
    assert browser.find() == found
    assert machine.did == did


@pytest.mark.parametrize(
    ("has", "uid", "did"),
    [
        (set(), 0, [DOWNLOAD]),
        ({"/usr/bin/apt-get", INSTALL}, 1000, [DOWNLOAD]),
        ({"/usr/bin/apt-get"}, 0, [DOWNLOAD, UPDATE, INSTALL]),
    ],
    ids=["not-debian", "not-root", "package-fails"],
)
def test_without_any_it_says_how_to_get_one(machine, has, uid, did):
    machine.has, machine.uid = set(has), uid
    with pytest.raises(RuntimeError, match="python -m playwright install --with-deps chromium"):
        browser.find()
    assert machine.did == did
