"""The whole book and its parts as files, beside the pages of the site:  make downloads

PDF and EPUB of the book, handouts, and archives of notebooks and figures. What has been made from the same
pages is not made again.
"""

from pathlib import Path

import archives
import chapters
import epub
import pdf
from dependencies import digest
from material import EXECUTED, SITE

MADE_FROM = SITE / "downloads" / "made-from.txt"


def sources() -> list[Path]:
    """Return all that the files depend on."""
    found = [
        *Path(__file__).parent.glob("*"),
        *(SITE / "book").rglob("*.html"),
        *(SITE / "_static").rglob("*.css"),
    ]
    found += [*archives.BOOK.rglob("*.ipynb"), *EXECUTED.rglob("*.ipynb")]
    return [path for path in found if path.is_file() and ".ipynb_checkpoints" not in path.parts]


def main():
    key = digest(sources())
    if MADE_FROM.exists() and MADE_FROM.read_text("utf-8") == key:
        return
    MADE_FROM.unlink(missing_ok=True)
    for part in (archives, chapters, epub, pdf):
        part.main()
    MADE_FROM.write_text(key, "utf-8")


if __name__ == "__main__":
    main()
