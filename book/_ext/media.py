"""Pictures and films get files of their own, and load when a reader comes near them.

In a notebook they are part of an output, as text. A page would carry all of them, also
the hundred pictures of a slider of which one is seen.
"""

import base64
import hashlib
import io
import re
from pathlib import Path

from PIL import Image

INLINE = re.compile(r'"data:(?:image|video)/(webp|png|mp4);base64,([A-Za-z0-9+/=]+)"')


def apart(app, pagename, templatename, context, doctree):
    if doctree is None:
        return
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)

    def file(found):
        kind, text = found.groups()
        data = base64.b64decode(text)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        (folder / name).write_bytes(data)
        address = f'"{app.builder.imgpath}/{name}"'
        if (
            kind == "mp4"
            or "poster=" in found.string[found.start() - 7 : found.start()]
        ):
            return address
        width, height = Image.open(io.BytesIO(data)).size
        return (
            f'{address} width="{width}" height="{height}"'  # the page keeps the place
        )

    body = INLINE.sub(file, context["body"])
    context["body"] = re.sub(r"<img (?![^>]*loading=)", '<img loading="lazy" ', body)


def setup(app):
    app.connect("html-page-context", apart)
    return {"parallel_read_safe": True}
