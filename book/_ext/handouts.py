"""Every chapter and study without its solutions, as a notebook and as PDF:  make downloads

An exercise keeps the cell that checks an answer; the cells that check the book's own solutions go with them.
"""

import json
import re

from bs4 import Tag

import pdf
import whole
from archives import DOWNLOADS, pages
from material import BOOK

HANDOUTS = DOWNLOADS / "handouts"
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>.*?</details>\n*", re.S)


def notebook(name: str) -> str | None:
    """Return a notebook without solutions and without outputs, or None if it has no exercises."""
    found = json.loads((BOOK / f"{name}.ipynb").read_text("utf-8"))
    if not any(SOLUTION.search("".join(cell["source"])) for cell in found["cells"]):
        return None
    section, cells = "", []
    for cell in found["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = (re.findall(r"^## (.*)$", source, re.M) or [section])[-1]
            source = SOLUTION.sub("", source).strip()
            cell["source"] = source.splitlines(keepends=True)
        elif section == "Exercises" and "exercises.check(" not in source:
            continue
        if source:
            cells.append(cell)
    return json.dumps(found | {"cells": cells}, indent=1, ensure_ascii=False) + "\n"


def without_solutions(article: Tag) -> Tag:
    """Take the same out of a page."""
    for tag in article.select(".solution"):
        tag.decompose()
    for cell in article.select("[id$='--exercises'] .cell"):
        if "exercises.check(" not in cell.get_text():
            cell.decompose()
    return article


def main():
    HANDOUTS.mkdir(parents=True, exist_ok=True)
    articles, printed = {article["id"]: article for article in whole.articles()}, {}
    for name in pages():
        if text := notebook(name):
            stem = name.replace("/", "-")
            (HANDOUTS / f"{stem}.ipynb").write_text(text, "utf-8")
            article = articles[whole.key(f"book/{name}")]
            printed[HANDOUTS / f"{stem}.pdf"] = pdf.sheet(without_solutions(article))
    pdf.write(printed)
    print(f"{len(printed)} handouts are in {HANDOUTS.as_uri()}")


if __name__ == "__main__":
    main()
