"""Drawing environments with and without a screen."""

import os

import pytest

from pgcourse.environments import display


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
    monkeypatch.setattr(display.sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert display.has_screen() is has_screen


@pytest.mark.parametrize("before", [None, "x11"])
@pytest.mark.parametrize(("screen", "inside"), [(False, "dummy"), (True, None)])
def test_without_a_screen_pygame_draws_on_a_dummy_and_the_environment_is_restored(
    monkeypatch, screen, inside, before
):
    monkeypatch.setattr(display, "has_screen", lambda: screen)
    monkeypatch.delenv("PYGAME_HIDE_SUPPORT_PROMPT", raising=False)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    if before:
        monkeypatch.setenv("SDL_VIDEODRIVER", before)
    with display.without_screen():
        assert os.environ.get("SDL_VIDEODRIVER") == (inside or before)
        assert os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] == "1"
    assert os.environ.get("SDL_VIDEODRIVER") == before
    assert "PYGAME_HIDE_SUPPORT_PROMPT" not in os.environ
