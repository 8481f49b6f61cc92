"""A button that trains: sliders for the settings A and B, and below them what a click shows as it grows."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget


def training_box(
    columns: Sequence[Mapping[str, Widget]], train: Callable[[list[dict[str, object]]], Iterator[str]]
) -> VBox:
    """Return the widgets.

    Args:
        columns: for each setting its sliders, by name.
        train: called at a click with the sliders' values; yields HTML, each to be shown in place of the last.
            If it raises ``ValueError`` or ``ArithmeticError``, the message is shown.
    """
    import ipywidgets as w

    button, output = w.Button(description="Train"), w.HTML()

    def click(_: object) -> None:
        button.disabled = True
        try:
            values = [{name: slider.value for name, slider in column.items()} for column in columns]
            for output.value in train(values):
                pass
        except (ValueError, ArithmeticError) as error:
            output.value = f"<pre>{html.escape(str(error))}</pre>"
        finally:
            button.disabled = False

    button.on_click(click)
    titled = (w.VBox([w.Label(letter), *one.values()]) for letter, one in zip("AB", columns, strict=True))
    return w.VBox([w.HBox([*titled]), button, output])
