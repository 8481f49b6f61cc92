"""Print the whole book, from the pages of the site:  make pdf

Of films the poster is seen, of sliders the first picture, and solutions are open.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from browser import find, served
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

import whole
from material import SITE

logging.getLogger("pypdf").setLevel(logging.ERROR)  # it finds fault with what Chromium writes, and reads it

PDF = SITE / "downloads" / "pgcourse.pdf"
STYLE = """
  article { break-before: page; }
  article:first-of-type { break-before: auto; }
  h1.part { break-before: page; margin-top: 40vh; text-align: center; }
  .bd-main .bd-content .bd-article h1 { display: block !important; }
  figure, .exercise, .admonition, tr { break-inside: avoid; }
  .margin { float: none; width: auto; margin: 1em 0; }
"""
READY = """async () => {
  for (const image of document.images) image.loading = "eager";
  await window.MathJax?.startup?.promise;
  await Promise.allSettled([...document.images].map(image => image.decode()));
}"""
TITLES = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(h => h.textContent.trim())"""
NUMBER = """<div style="width: 100%; text-align: center; font-size: 8px">
  <span class="pageNumber"></span></div>"""
PAPER = {
    "format": "A4",
    "scale": 0.8,
    "margin": dict.fromkeys(("top", "bottom", "left", "right"), "16mm"),
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": NUMBER,
    "print_background": True,
    "outline": True,
    "tagged": True,
}


def sheet(*parts: Tag) -> str:
    """Return parts of pages as one page, which lies in the site's root and looks as its pages do."""
    page = BeautifulSoup((SITE / "book" / "intro.html").read_text("utf-8"), "html.parser")
    for tag in page.select("[src^='../'], link[href^='../']"):
        name = "src" if tag.has_attr("src") else "href"
        tag[name] = tag[name].removeprefix("../")
    page.head.append(page.new_tag("style", string=STYLE))
    page.html["data-theme"] = page.html["data-mode"] = "light"
    page.body.clear()
    body = page.body
    for classes in ("bd-container", "bd-main", "bd-content", "bd-article-container"):
        inner = page.new_tag("div", attrs={"class": classes})
        body.append(inner)
        body = inner
    body.extend(parts)
    return str(page)


def book() -> str:
    """Return the whole book as one page."""
    parts = []
    for (_, part), article in zip(whole.pages(), whole.articles(), strict=True):
        if part:
            parts.append(BeautifulSoup("", "html.parser").new_tag("h1", attrs={"class": "part"}, string=part))
        parts.append(article)
    return sheet(*parts)


def with_titles_once(pdf: Path, titles: list[str]) -> None:
    """Write the outline's titles anew: Chromium doubles those of headings that begin a page."""
    writer = PdfWriter(clone_from=pdf)
    entries = list(_entries(writer.root_object["/Outlines"]["/First"]))
    for entry, title in zip(entries, titles, strict=True):
        entry[NameObject("/Title")] = TextStringObject(title)
    writer.write(pdf)


def _entries(first: DictionaryObject) -> Iterator[DictionaryObject]:
    """Yield an entry of the outline, its children, and those that follow it."""
    entry = first
    while entry is not None:
        entry = entry.get_object()
        yield entry
        if "/First" in entry:
            yield from _entries(entry["/First"])
        entry = entry.get("/Next")


def write(pages: dict[Path, str]) -> None:
    """Print pages that lie in the site's root."""
    with served(SITE) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        page = browser.new_page(reduced_motion="reduce", color_scheme="light")
        page.set_default_timeout(600_000)
        for path, text in pages.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            printed = SITE / f"{path.stem}-printed.html"
            printed.write_text(text, "utf-8")
            page.goto(site + printed.name)
            page.evaluate(READY)
            titles = page.evaluate(TITLES)
            page.pdf(path=path, **PAPER)
            printed.unlink()
            with_titles_once(path, titles)
        browser.close()


def main():
    write({PDF: book()})
    print(f"The book is at {PDF.as_uri()}, {PDF.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
