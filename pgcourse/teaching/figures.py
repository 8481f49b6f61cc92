"""A figure as a picture that is crisp everywhere: SVG where that is small, else pixels at twice the size.

Figures drawn by the same code are the same bytes.
"""

from __future__ import annotations

import base64
import html
import io
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SVG_BYTES = 150_000
DPI = 110  # CSS pixels per inch
HASHES = re.compile(r'(?<=["#])[A-Za-z]+[0-9a-f]{10}(?=[")])')  # names of clip paths and markers
PLACES = re.compile(r' (?:d|x|y)="[^"]*"|translate\([^)]*\)')  # not a scale, which may be 0.015625


class Picture(NamedTuple):
    """An encoded figure: its MIME type, its bytes, and its size in CSS pixels."""

    mime: str
    data: bytes
    width: int
    height: int


def picture(figure: Figure, *, raster: str = "webp", tight: bool = False) -> Picture:
    """Return a figure as SVG if that takes less than 150 kB, else as pixels at twice the resolution.

    Args:
        figure: stays open.
        raster: the format of pixels, ``"webp"`` or ``"png"``.
        tight: cut the margins off, and keep what sticks out of the figure.
    """
    box = "tight" if tight else None
    buffer = io.BytesIO()
    about = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", bbox_inches=box, metadata=about, dpi=2 * DPI)  # of pixels within
    svg, width, height = _compact(buffer.getvalue().decode())
    if len(svg) < MAX_SVG_BYTES:
        return Picture("image/svg+xml", svg, width, height)
    buffer = io.BytesIO()
    options = {"quality": 85, "method": 4} if raster == "webp" else {}
    figure.savefig(buffer, format=raster, bbox_inches=box, dpi=2 * DPI, pil_kwargs=options)
    return Picture(f"image/{raster}", buffer.getvalue(), width, height)


def as_html(figure: Figure, alt: str) -> str:
    """Return a figure as an HTML ``<img>`` that contains it, with an alternative text."""
    mime, data, width, height = picture(figure)
    size = f'width="{width}" height="{height}"'
    return f'<img alt="{html.escape(alt)}" {size} src="data:{mime};base64,{base64.b64encode(data).decode()}">'


def show_in_notebooks() -> None:
    """In a Jupyter kernel, have figures shown as ``picture`` encodes them."""
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    import matplotlib_inline.backend_inline  # noqa: F401  sets its own format, but only once
    from matplotlib.figure import Figure

    for formatter in shell.display_formatter.formatters.values():
        formatter.pop(Figure, None)
    shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(figure: Figure, **_: object) -> tuple[dict, dict]:
    if not figure.axes and not figure.lines:  # as Jupyter does without us
        return {}, {}
    found = picture(figure, raster="png", tight=True)
    text = found.data.decode() if "svg" in found.mime else base64.b64encode(found.data).decode()
    return {found.mime: text}, {found.mime: {"width": found.width}}


def _compact(svg: str) -> tuple[bytes, int, int]:
    """Return an SVG with coordinates in hundredths of a point, sized in CSS pixels, and this size."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>", "", svg, flags=re.S)
    svg = PLACES.sub(lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), svg)
    names: dict[str, str] = {}  # a hash is that of unrounded coordinates
    svg = HASHES.sub(lambda name: names.setdefault(name[0], f"n{len(names)}"), svg)
    svg = re.sub(r'(<image\b[^>]*) id="[^"]*"', r"\1", svg)  # equal pictures share an id, which nothing uses
    svg = re.sub(r">\s+<", "><", svg).strip()
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    assert size, "matplotlib writes the size of an SVG in points"
    width, height = (round(float(points) * DPI / 72) for points in size.groups())
    return svg.replace(size[0], f'width="{width}" height="{height}"', 1).encode(), width, height
