"""A deck of slides for each chapter, made of its equations and figures:  make slides

Each says which of the lecture's slides it belongs to, and links to its section. The paragraph that leads to
it is a speaker's note (key S). nbconvert makes the deck with reveal.js, of which sphinx-revealjs has a copy,
and with the site's MathJax: nothing is loaded from elsewhere.
"""

import html
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from nbconvert.exporters import SlidesExporter
from nbformat.v4 import new_markdown_cell, new_notebook

import material
from material import SITE, Figure, Item

DECKS = SITE / "decks"
SENTENCE = re.compile(r"(?<=[.?!:]) (?=[A-Z*])")
PAGE = re.compile(r"\]\((?:\.\./)*(?:studies/)?([\w-]+)\.(?:md|ipynb)(#[\w-]+)?\)")


def chapters() -> list[str]:
    """Return the names of the chapters that follow the lecture."""
    sources = {path.stem: json.loads(path.read_text("utf-8")) for path in material.BOOK.glob("*.ipynb")}
    return sorted(name for name, notebook in sources.items() if material.lecture_slides(notebook))


def plain(markdown: str) -> str:
    """Return a text without links: the words stay."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown)


def lead(before: str) -> str:
    """Return a short paragraph, and of a longer one the last sentence."""
    text = plain(before)
    if text.startswith(("-", "1.", "*")):
        return ""
    return text if len(text) < 240 else SENTENCE.split(text)[-1]


def slides(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Put up to three equations of a section on one slide, as space allows, and each figure on its own."""
    group: list[Item] = []
    for item in items:
        together = group and group[0].section == item.section and isinstance(item.what, str)
        together = together and isinstance(group[0].what, str) and len(group) < 3
        if group and not (together and sum(80 + len(lead(i.before)) for i in [*group, item]) < 420):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def seen(what: str | Figure) -> str:
    """Return an equation, or a figure as HTML."""
    if not isinstance(what, Figure):
        return what
    alt = html.escape(what.alt)
    if what.film:
        return f'<figure><video controls loop muted src="{what.film}" aria-label="{alt}"></video></figure>'
    return f'<figure><img src="{what.source}" alt="{alt}"></figure>'


def cells(group: list[Item]) -> Iterator:
    """Yield the cells of a slide: what is seen, and the speaker's note."""
    parts = [f"## {group[0].section}"]
    for item in group:
        caption = getattr(item.what, "caption", "")
        parts += [seen(item.what), caption] if caption else [lead(item.before), seen(item.what)]
    named = list(dict.fromkeys(item.slides for item in group if item.slides))
    several = len(material.numbers(" ".join(named))) > 1
    number = f"Lecture, slide{'s' if several else ''} {', '.join(named)}" if named else ""
    link = "Move the slider" if getattr(group[0].what, "is_slider", False) else "In the book"
    parts.append(f'<footer><span>{number}</span><a href="../{group[0].address}">{link}</a></footer>')
    yield new_markdown_cell("\n\n".join(filter(None, parts)), metadata={"slideshow": {"slide_type": "slide"}})
    if note := "\n\n".join(dict.fromkeys(plain(item.before) for item in group if item.before)):
        yield new_markdown_cell(note, metadata={"slideshow": {"slide_type": "notes"}})


def deck(name: str) -> str:
    """Return a chapter's deck, as HTML."""
    notebook = material.read(name)
    title, question = material.title(notebook), "".join(notebook["cells"][0]["source"]).split("\n\n")[1]
    first = [
        f"# {title}",
        plain(question),
        f"<footer><span>Lecture, slides {material.lecture_slides(notebook)[0]}</span>"
        f'<a href="../book/{name}.html">In the book</a></footer>',
    ]
    all_cells = [new_markdown_cell("\n\n".join(first), metadata={"slideshow": {"slide_type": "slide"}})]
    for group in slides(material.items(name)):
        all_cells += cells(group)
    for index, cell in enumerate(all_cells):
        cell["id"] = f"cell-{index}"  # not a random one: the same chapter makes the same deck
    exporter = SlidesExporter(template_file="deck.html.j2", extra_template_paths=[str(Path(__file__).parent)])
    body, _ = exporter.from_notebook_node(new_notebook(cells=all_cells, metadata={"title": title}))
    return body


def main():
    shutil.rmtree(DECKS, ignore_errors=True)
    reveal = resources.files("sphinx_revealjs") / "_static" / "revealjs"
    for part in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE"):
        target = DECKS / "reveal.js" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((reveal / part).read_bytes())
    shutil.copy(Path(__file__).with_name("deck.css"), DECKS)
    for name in chapters():
        (DECKS / f"{name}.html").write_text(deck(name), "utf-8")
    print(f"The decks are in {DECKS.as_uri()}")


if __name__ == "__main__":
    main()
