"""Write what leads into the book, from the addresses in _config.yml:  python book/_ext/links.py

The setup cell, which Colab needs, stands in every notebook, because Colab has only the notebook. README has
the site's address and the badges. Run this after an address has changed; a test says when it is needed.
"""

import json
import re
from pathlib import Path

import yaml

BOOK = Path(__file__).parents[1]
CONFIG = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY, BRANCH = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]
SITE = CONFIG["sphinx"]["config"]["ogp_site_url"]
COLAB, BINDER = (CONFIG["launch_buttons"][name] for name in ("colab_url", "binderhub_url"))
BLOCK = re.compile(r"(?<=<!-- links -->\n).*?(?=<!-- end of links -->)", re.S)


def setup_cell() -> list[str]:
    """Return the cell's lines: install the package where it is missing, no more."""
    return [
        "try:\n",
        "    import pgcourse  # noqa: F401\n",
        "except ModuleNotFoundError:\n",
        f"    %pip install --quiet --no-deps git+{REPOSITORY}",
    ]


def readme_block() -> str:
    """Return the lines of README that lead to the book."""
    name = REPOSITORY.removeprefix("https://github.com/")
    first = "book/intro.ipynb"
    badges = {
        "tests": (
            f"{REPOSITORY}/actions/workflows/tests.yml/badge.svg",
            f"{REPOSITORY}/actions/workflows/tests.yml",
        ),
        "Open in Colab": (f"{COLAB}/assets/colab-badge.svg", f"{COLAB}/github/{name}/blob/{BRANCH}/{first}"),
        "Launch Binder": (
            f"{BINDER}/badge_logo.svg",
            f"{BINDER}/v2/gh/{name}/{BRANCH}?urlpath=lab/tree/{first}",
        ),
        "Open in Codespaces": ("https://github.com/codespaces/badge.svg", f"https://codespaces.new/{name}"),
    }
    return (
        f"**Read it at <{SITE}>**, or take it with you: "
        f"[PDF]({SITE}downloads/pgcourse.pdf), [EPUB]({SITE}downloads/pgcourse.epub), "
        f"[notebooks]({SITE}downloads/pgcourse-notebooks.zip), "
        f"[slides for teaching and handouts]({SITE}book/downloads.html).\n\n"
        + " ".join(f"[![{text}]({picture})]({address})" for text, (picture, address) in badges.items())
        + "\n"
    )


def main():
    for path in sorted(BOOK.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        first["source"], first["metadata"] = setup_cell(), {"tags": ["remove-cell"]}
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    readme = BOOK.parent / "README.md"
    readme.write_text(BLOCK.sub(lambda _: readme_block(), readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
