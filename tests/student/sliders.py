"""What a live widget shows, to be compared with the published page.

A notebook's kernel calls ``watch()`` before its first cell, ``shown()`` after one that makes sliders, and
``trained()`` after one that makes a button that trains.
"""

import hashlib
import itertools
import re

FRAME = re.compile(r'<div(?: hidden)?(?: role="group" aria-label="[^"]*")?><(?:img|figure) .*?</div>', re.S)


boxes = []


def watch():
    """Remember each live widget that is made from now on."""
    from pgcourse.teaching import explore, laboratory, live

    def remember(make):
        return lambda *arguments: boxes.append(make(*arguments)) or boxes[-1]

    explore._live = remember(explore._live)
    laboratory.training_box = live.training_box = remember(live.training_box)


def shown():
    """Move the sliders of the last widget through all points of the page, and print what each shows."""
    from IPython import get_ipython

    def keep(message):
        if "data" in message["content"]:  # or it clears what was shown before
            frames.append(message["content"]["data"]["text/html"])  # and is not sent

    box, frames = boxes.pop(), []
    *sliders, _ = box.children
    publisher = get_ipython().display_pub
    publisher.register_hook(keep)
    try:
        for point in itertools.product(*box.grid.values()):
            frames.clear()
            for slider, value in zip(sliders, point, strict=True):
                slider.value = value
            if not frames:  # they stood there
                box.update()
            print(line(frames[-1]))
    finally:
        publisher.unregister_hook(keep)


def trained():
    """Press the button of the last widget that trains, and print what it shows in the end."""
    _, button, output = boxes.pop().children
    button.click()
    print(line(output.value))


def published(page):
    """Return, of the HTML of a figure with sliders, what ``shown`` prints where both show the same."""
    frames = [frame.replace("<div hidden", "<div", 1) for frame in FRAME.findall(page)]
    if not frames:
        raise ValueError(f"a figure with sliders has no frames: {page[:200]}")
    return "".join(f"{line(frame)}\n" for frame in frames)


def line(frame):
    """Return the text alternative of a frame, which names its point, and a digest of the frame."""
    alt = re.search(r'(?:alt|aria-label)="([^"]*)"', frame)[1]
    return f"{hashlib.sha256(frame.encode()).hexdigest()[:16]} {alt}"
