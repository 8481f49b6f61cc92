"""Write the setup cell, which Colab needs, into every notebook.

It holds the repository's address as a literal, because Colab has only the notebook.
After the address has changed in _config.yml, run:  python book/_ext/setup_cell.py
"""

import json
from pathlib import Path

import yaml

BOOK = Path(__file__).parents[1]


def setup_cell() -> list[str]:
    """Return the cell's lines: install the package where it is missing, no more."""
    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    return [
        "try:\n",
        "    import pgcourse  # noqa: F401\n",
        "except ModuleNotFoundError:\n",
        f"    %pip install --quiet --no-deps git+{config['repository']['url']}",
    ]


def main():
    for path in sorted(BOOK.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        first["source"], first["metadata"] = setup_cell(), {"tags": ["remove-cell"]}
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
