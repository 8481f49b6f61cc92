"""The equations and figures of an executed chapter, each with its section and the lecture's slides."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup
from docutils.nodes import make_id

ROOT = Path(__file__).parents[2]
BOOK, EXECUTED, SITE = ROOT / "book", ROOT / "_build" / "executed", ROOT / "_build" / "html"
SLIDES = re.compile(r"\b[Ss]lides?\*{0,2} (\d+(?:[–-]\d+)?(?:(?:, | and )\d+(?:[–-]\d+)?)*)(?![\d.])")
NOT_SHOWN = re.compile(
    r"<details>.*?</details>|<aside>.*?</aside>|^\*\*Quick check\.\*\*.*?(?=^#|\Z)", re.S | re.M
)
LAST = (
    "Summary",
    "What we checked",
    "Exercises",
    "Further reading",
)  # nothing new is shown in these sections


class Figure(NamedTuple):
    """A picture, or of a slider or film the first one."""

    data: bytes
    kind: str  # svg, png, webp
    alt: str
    caption: str  # Markdown, may be empty
    is_slider: bool = False
    film: str = ""  # its source

    @property
    def source(self) -> str:
        """The picture as the source of an ``<img>``."""
        mime = "image/svg+xml" if self.kind == "svg" else f"image/{self.kind}"
        return f"data:{mime};base64,{base64.b64encode(self.data).decode()}"


class Item(NamedTuple):
    """An equation (Markdown) or a figure."""

    section: str
    address: str  # of the section, in the site: book/05-likelihood-ratio.html#the-expected-return
    slides: str  # of the lecture, such as "30" or "22–23 and 45"; "" if none has been named yet
    before: str  # the paragraph before it, Markdown
    what: str | Figure


def title(notebook: dict) -> str:
    """Return a chapter's title."""
    return "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")


def lecture_slides(notebook: dict) -> list[str]:
    """Return which slides of the lecture a chapter is about: one text, or none if it is a study."""
    return re.findall(r"^\*\*Slides\*\* ([\d–, and]+\d)", "".join(notebook["cells"][0]["source"]), re.M)


def numbers(slides: str) -> set[int]:
    """Return the numbers in a text such as 8, 22–23 and 45."""
    found = re.findall(r"(\d+)(?:[–-](\d+))?", slides)
    return {n for first, last in found for n in range(int(first), int(last or first) + 1)}


def read(name: str) -> dict:
    """Return an executed notebook, by its name in the book, such as studies/claims."""
    return json.loads((EXECUTED / f"{name}.ipynb").read_text("utf-8"))


def items(name: str) -> Iterator[Item]:
    """Yield the equations and figures of an executed notebook in reading order."""
    notebook = read(name)
    page, own = f"book/{name}.html", numbers(next(iter(lecture_slides(notebook)), ""))
    section, address, slides, before = title(notebook), page, "", ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for block in re.split(r"\n{2,}", NOT_SHOWN.sub("", source)):
                if block.startswith("#"):
                    section = block.lstrip("#").strip().splitlines()[0]
                    address, before = f"{page}#{make_id(section)}", ""
                if section in LAST:
                    break
                if block.startswith("$$"):
                    yield Item(section, address, slides, before, block.strip())
                elif not block.startswith(("#", "|", "```")):
                    before = block.strip()
                    slides = ([slides] + [named for named in SLIDES.findall(block) if numbers(named) <= own])[
                        -1
                    ]
        elif section not in LAST:
            for figure in figures(cell):
                yield Item(section, address, slides, before, figure)


def figures(cell: dict) -> Iterator[Figure]:
    """Yield the figures among the outputs of a cell."""
    about = cell["metadata"].get("mystnb", {})
    alt, caption = about.get("image", {}).get("alt", ""), about.get("figure", {}).get("caption", "")
    for output in cell.get("outputs", []):
        data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
        if svg := data.get("image/svg+xml"):
            yield Figure(svg.encode(), "svg", alt, caption)
        elif png := data.get("image/png"):
            yield Figure(base64.b64decode(png), "png", alt, caption)
        elif (markup := data.get("text/html", "")).startswith("<figure"):
            yield moving(BeautifulSoup(markup, "html.parser").figure)


def moving(figure: BeautifulSoup) -> Figure:
    """Return the picture of a slider that is shown first, or the poster of a film."""
    inner = figure.select_one(":scope > div:not([hidden]):not(.sliders) :is(img, video), :scope > video")
    source = inner.get("src") if inner.name == "img" else inner["poster"]
    kind, data = re.fullmatch(r"data:image/([a-z]+)(?:\+xml)?;base64,(.*)", source, re.S).groups()
    caption = figure.figcaption.get_text() if figure.figcaption else ""
    alt = inner.get("alt") or inner.get("aria-label") or caption
    film = inner["src"] if inner.name == "video" else ""
    is_slider = "explore" in figure["class"]
    return Figure(base64.b64decode(data), kind, alt, caption, is_slider, film)
