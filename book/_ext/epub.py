"""The book for an e-reader:  make downloads

Pandoc makes it from the pages of the site: formulas become MathML, and the parts its table of contents.
"""

import re
from pathlib import Path

import pypandoc
from bs4 import BeautifulSoup, NavigableString, Tag

import whole
from links import CONFIG
from material import SITE

EPUB = SITE / "downloads" / "pgcourse.epub"
TAG = re.compile(r"\\tag\{([^}]*)\}")
STYLE = Path(__file__).with_name("epub.css")


def formula(tag: Tag) -> None:
    """Leave the TeX, which Pandoc finds; the number of an equation stands behind it."""
    tex = tag.get_text().strip()
    if number := TAG.search(tex):
        tex = TAG.sub("", tex).replace(r"\]", rf"\qquad ({number[1]})\]")
    tag.replace_with(NavigableString(tex))


def code(tag: Tag, soup: BeautifulSoup) -> None:
    """Leave the text of a program or an output; Pandoc colours it."""
    pre, inner = soup.new_tag("pre"), soup.new_tag("code")
    pre["class"] = "python" if tag.find_parent(class_=re.compile("highlight-(ipython3|python)")) else "output"
    inner.string = tag.get_text()
    pre.append(inner)
    tag.replace_with(pre)


def flat(article: Tag, depth: int) -> Tag:
    """Leave headings instead of nested sections, so that Pandoc divides the book where they are."""
    first = article.find("section")
    for link in article.find_all("a", href=f"#{first['id']}"):
        link["href"] = f"#{article['id']}"
    first["id"] = article["id"]
    for section in article.find_all("section"):
        if (heading := section.find(re.compile("^h[1-6]$"), recursive=False)) and section.get("id"):
            heading["id"] = section["id"]
            heading.name = f"h{int(heading.name[1]) + depth}"
        section.unwrap()
    return article


def document() -> str:
    """Return the book as HTML for Pandoc: a part has level 1, a chapter level 2."""
    soup, depth = BeautifulSoup("", "html.parser"), 0
    for (_, part), article in zip(whole.pages(), whole.articles(), strict=True):
        for tag in article.select(".math"):
            formula(tag)
        for tag in article.select("pre"):
            code(tag, soup)
        if part:
            depth, heading = 1, soup.new_tag("h1")
            heading.string = part
            soup.append(heading)
        soup.extend(list(flat(article, depth).contents))
    return str(soup)


def main():
    EPUB.parent.mkdir(parents=True, exist_ok=True)
    about = {"title": CONFIG["title"], "author": CONFIG["author"], "lang": "en", "rights": "CC BY 4.0"}
    options = [f"--metadata={name}={value}" for name, value in about.items()]
    options += ["--toc", "--toc-depth=3", "--split-level=2", "--mathml", f"--css={STYLE}"]
    options += [f"--resource-path={SITE}", f"--epub-cover-image={SITE / '_static' / 'card.png'}"]
    reader = "html+tex_math_single_backslash"
    pypandoc.convert_text(document(), "epub3", format=reader, outputfile=str(EPUB), extra_args=options)
    print(f"The book for an e-reader is at {EPUB.as_uri()}, {EPUB.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
