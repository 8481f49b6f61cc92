"""Pictures and films get files of their own, load when a reader comes near, and have a dark twin.

In a notebook they are part of an output, as text. A page would carry all of them, also
the hundred pictures of a slider of which one is seen.
"""

import base64
import colorsys
import hashlib
import io
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

INLINE = re.compile(r'"data:(?:image|video)/(svg\+xml|webp|png|mp4);base64,([A-Za-z0-9+/=]+)"')
IMAGE = re.compile(  # one that has not been here before
    r'<img (?![^>]*loading=)(?=[^>]*src="([^"]*_images/[^"]+\.(?:png|webp|svg))")([^>]*)>'
)
SIZE = re.compile(rb'<svg[^>]* width="(\d+)" height="(\d+)"')
# Lightness in the dark: of what is white, as the page's; of what is black; of strong colours at least.
GROUND, INK, VIVID = 0.07, 0.93, 0.58


def apart(app, error):
    if error or app.builder.name != "html":  # the page that is printed keeps them
        return
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)
    for page in Path(app.outdir).rglob("*.html"):
        here = os.path.relpath(folder, page.parent)

        def file(found, here=here):
            kind, data = found[1].removesuffix("+xml"), base64.b64decode(found[2])
            name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
            (folder / name).write_bytes(data)
            return f'"{here}/{name}"'

        def lazy(found, page=page):
            source, rest = found[1], found[2]
            picture = page.parent / source
            if picture.suffix == ".png" and len(picture.stem) == 64:  # pixels of a notebook
                source, rest = (text.replace(source, f"{source[:-4]}.webp") for text in (source, rest))
                picture = as_webp(picture)
            if " width=" not in rest:  # so that nothing jumps
                rest = 'width="{}" height="{}" '.format(*size(picture)) + rest
            if picture.suffix != ".svg":
                return f'<img loading="lazy" {rest}>'
            rest = re.sub(r' ?class="[^"]*"', "", rest)
            other = rest.replace(picture.name, in_the_dark(picture).name)
            return (
                f'<img loading="lazy" class="only-light" {rest}>'
                f'<img loading="lazy" class="only-dark" {other}>'
            )

        text = INLINE.sub(file, page.read_text("utf-8"))
        page.write_text(IMAGE.sub(lazy, text), "utf-8")


def size(picture: Path) -> tuple[int, int]:
    if picture.suffix == ".svg":
        width, height = SIZE.search(picture.read_bytes()).groups()
        return int(width), int(height)
    with Image.open(picture) as image:
        return image.size


@cache
def as_webp(png: Path) -> Path:
    """Return a picture of a notebook as WebP, which is smaller."""
    webp = png.with_suffix(".webp")
    with Image.open(png) as image:
        image.convert("RGB").save(webp, quality=90, method=6)
    return webp


@cache
def in_the_dark(svg: Path) -> Path:
    """Return a figure for a dark ground: light is dark, and hues stay, also of pixels on a light ground."""
    text = svg.read_text("utf-8").replace("<svg ", '<svg fill="#000000" ', 1)  # what has no colour is black
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: dark(found[0]), text)
    twin = svg.with_name(f"{svg.stem}-dark.svg")
    twin.write_text(re.sub(r"data:image/png;base64,([^\"]+)", dark_pixels, text), "utf-8")
    return twin


def dark_pixels(found: re.Match) -> str:
    """Return the data of a picture in a figure, darkened if its most frequent colour is light."""
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        pixels = np.array(image.convert("RGBA")).reshape(-1, 4)
        width, height = image.size
    colors, where, counts = np.unique(pixels[:, :3], axis=0, return_inverse=True, return_counts=True)
    if colors[counts.argmax()].min() < 200:  # a screen of Pong, say
        return found[0]
    darkened = [tuple(bytes.fromhex(dark("#" + bytes(color).hex())[1:])) for color in colors]
    pixels[:, :3] = np.array(darkened, np.uint8)[where.ravel()]
    buffer = io.BytesIO()
    Image.fromarray(pixels.reshape(height, width, 4)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def dark(color: str) -> str:
    """Return a colour, #rrggbb, with its hue and the opposite lightness, but never a dim line."""
    rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    lightness = INK - (INK - GROUND) * lightness
    strong = min(max((max(rgb) - min(rgb)) / 0.15 - 1, 0), 1)  # a tint is not
    lightness += strong * max(VIVID - lightness, 0)
    return "#" + "".join(f"{round(255 * v):02x}" for v in colorsys.hls_to_rgb(hue, lightness, saturation))


def setup(app):
    app.connect("build-finished", apart)
    return {"parallel_read_safe": True}
