"""The whole book as one document, from the pages of the site: what is printed, and what becomes an EPUB."""

import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from links import SITE as ADDRESS
from material import ROOT, SITE

ONLY_ON_THE_SITE = (
    "script, .headerlink, .definition, .only-dark, .sliders, [hidden], button, [role=status], "
    "fieldset input, .quick-check > details > summary, details.hide > summary"
)


def pages() -> list[tuple[str, str]]:
    """Return the pages in reading order, such as book/intro, and the part that begins with each, or ""."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    found = [(toc["root"], "")]
    for part in toc["parts"]:
        titles = [part["caption"]] + [""] * len(part["chapters"])
        found += [(chapter["file"], title) for chapter, title in zip(part["chapters"], titles, strict=False)]
    return [(name.removesuffix(".md"), title) for name, title in found]


def articles() -> Iterator[Tag]:
    """Yield the body of each page: addresses of sections are unique in the book, files count from the site.

    What moves stands still: of a slider the first picture is left, of a film the poster, with a link to the
    page. A quick check is a question and a list. A link to another page leads to its place in the document, a
    link to anything else of the site to the site.
    """
    names = {name for name, _ in pages()}
    for name, _ in pages():
        page = BeautifulSoup((SITE / f"{name}.html").read_text("utf-8"), "html.parser")
        article = page.find("article")
        article["id"] = key(name)
        for tag in article.select(ONLY_ON_THE_SITE):
            tag.decompose()
        for tag in article.select(".quick-check"):
            tag.name = "div"
        for tag in article.select(".quick-check :is(fieldset, legend, label)"):
            tag.name = "p" if tag.name != "fieldset" else "div"
        for video in article.find_all("video"):
            still(video, f"{ADDRESS}{name}.html")
        for game in article.select(".court"):
            game.replace_with(link("On the site, the game is here.", f"{ADDRESS}{name}.html"))
        for tag in article.select("details"):
            tag.name = "div"
        for tag in article.select("summary"):
            tag.name = "p"
        for tag in article.select("[id]"):
            if tag is not article:
                tag["id"] = key(name, tag["id"])
        for tag in article.select("a[href]"):
            del tag["aria-describedby"]  # the definitions are in the glossary
            tag["href"] = target(name, tag["href"], names)
        for tag in article.select("img[src]"):
            if not tag["src"].startswith("data:"):
                tag["src"] = beside(name, tag["src"])
            del tag["loading"]
        yield article


def key(name: str, fragment: str = "") -> str:
    """Return the address of a page, or of a place in it, in the document."""
    page = PurePosixPath(name).name
    return f"{page}--{fragment.replace('/', '-')}" if fragment else page


def beside(name: str, path: str) -> str:
    """Return a file, seen from a page, as seen from the site's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def target(name: str, link: str, names: set[str]) -> str:
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return link
    page = beside(name, url.path).removesuffix(".html") if url.path else name
    if page in names:
        return f"#{key(page, url.fragment)}"
    return ADDRESS + beside(name, url.path)


def still(video: Tag, page: str) -> None:
    """Put a film's poster in its place, with a link to the film."""
    size = {side: video[side] for side in ("width", "height") if side in video.attrs}
    label = video.get("aria-label") or "A film"
    picture = BeautifulSoup("", "html.parser").new_tag("img", src=video["poster"], alt=label, **size)
    video.replace_with(link(picture, page))


def link(what: str | Tag, address: str) -> Tag:
    tag = BeautifulSoup("", "html.parser").new_tag("a", href=address)
    tag.append(what)
    return tag
