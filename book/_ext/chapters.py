"""Every chapter and study without its solutions, as a notebook and as PDF:  make downloads

An exercise keeps the cell that checks an answer; the cells that check the book's own solutions go with them.
"""

import json

from bs4 import Tag
from pgcourse.teaching import grading, handouts

import pdf
import whole
from archives import DOWNLOADS, pages
from material import BOOK

HANDOUTS = DOWNLOADS / "handouts"


def has_solutions(name: str) -> bool:
    text = (BOOK / f"{name}.ipynb").read_text("utf-8")
    return "<summary>Solution</summary>" in text


def without_solutions(article: Tag) -> Tag:
    """Take solutions out of a page, and the cells that check them."""
    for tag in article.select(".solution"):
        tag.decompose()
    for cell in article.select("[id$='--exercises'] .cell"):
        if "exercises.check(" not in cell.get_text():
            cell.decompose()
    return article


def main():
    HANDOUTS.mkdir(parents=True, exist_ok=True)
    articles, printed = {article["id"]: article for article in whole.articles()}, {}
    for name in filter(has_solutions, pages()):
        stem = name.replace("/", "-")
        notebook = handouts.without_solutions(grading.read_notebook(BOOK / f"{name}.ipynb"))
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (HANDOUTS / f"{stem}.ipynb").write_text(text, "utf-8")
        article = articles[whole.key(f"book/{name}")]
        printed[HANDOUTS / f"{stem}.pdf"] = pdf.sheet(without_solutions(article))
    pdf.write(printed)
    print(f"{len(printed)} handouts are in {HANDOUTS.as_uri()}")


if __name__ == "__main__":
    main()
