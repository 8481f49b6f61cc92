"""Pictures and films get files of their own, and load when a reader comes near them.

In a notebook they are part of an output, as text. A page would carry all of them, also
the hundred pictures of a slider of which one is seen.
"""

import base64
import hashlib
import os
import re
from pathlib import Path

from PIL import Image

INLINE = re.compile(r'"data:(?:image|video)/(webp|png|mp4);base64,([A-Za-z0-9+/=]+)"')
IMAGE = re.compile(  # one that has not been here before
    r'<img (?![^>]*loading=)(?=[^>]*src="([^"]*_images/[^"]+\.(?:png|webp))")([^>]*)>'
)


def apart(app, error):
    if error or app.builder.name != "html":  # the page that is printed keeps them
        return
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)
    for page in Path(app.outdir).rglob("*.html"):
        here = os.path.relpath(folder, page.parent)

        def file(found, here=here):
            kind, data = found[1], base64.b64decode(found[2])
            name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
            (folder / name).write_bytes(data)
            return f'"{here}/{name}"'

        def lazy(found, page=page):
            with Image.open(page.parent / found[1]) as image:
                width, height = image.size
            size = f'width="{width}" height="{height}" '  # so that nothing jumps
            size = "" if " width=" in found[0] else size
            return f'<img loading="lazy" {size}{found[2]}>'

        text = INLINE.sub(file, page.read_text("utf-8"))
        page.write_text(IMAGE.sub(lazy, text), "utf-8")


def setup(app):
    app.connect("build-finished", apart)
    return {"parallel_read_safe": True}
