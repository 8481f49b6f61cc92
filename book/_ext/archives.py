"""The notebooks and the figures as archives, beside the site's pages:  make downloads

Both are reproducible: the same book makes the same bytes.
"""

import csv
import io
import zipfile
from pathlib import Path

import material
from links import REPOSITORY
from links import SITE as ADDRESS
from material import BOOK, ROOT, SITE, Figure

DOWNLOADS = SITE / "downloads"
NOTEBOOKS = f"""The notebooks of "Policy gradients, executed", as they are before they are run.

    pip install jupyterlab git+{REPOSITORY}
    jupyter lab

Begin with intro.ipynb. Text and figures: CC BY 4.0 (LICENSE-content). Code: MIT (LICENSE).
"""
FIGURES = f"""The figures of "Policy gradients, executed". index.csv says what each shows and where it stands.

Creative Commons Attribution 4.0 (LICENSE-content): use and change them, and name
"The pgcourse authors, Policy gradients, executed, {ADDRESS}".
"""


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive whose bytes depend on nothing but its files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{folder}/{name}")  # of 1980
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)


def pages() -> list[str]:
    """Return the names of the notebooks, such as studies/claims."""
    found = BOOK.rglob("*.ipynb")
    names = (
        p.relative_to(BOOK).with_suffix("").as_posix() for p in found if ".ipynb_checkpoints" not in p.parts
    )
    return sorted(names)


def notebooks() -> dict[str, bytes]:
    """Return the files of the notebooks' archive."""
    files = {f"{name}.ipynb": (BOOK / f"{name}.ipynb").read_bytes() for name in pages()}
    return files | {"README.txt": NOTEBOOKS.encode()} | licences("LICENSE", "LICENSE-content")


def figures() -> dict[str, bytes]:
    """Return the files of the figures' archive: of a slider the first picture, of a film none."""
    files, table = {}, io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "section", "slides of the lecture", "shows", "caption", "address"])
    for name in pages():
        shown = [i for i in material.items(name) if isinstance(i.what, Figure) and not i.what.film]
        for k, item in enumerate(shown, 1):
            file = f"{name.replace('/', '-')}-{k:02d}.{item.what.kind}"
            files[file] = item.what.data
            address = ADDRESS + item.address
            rows.writerow([file, item.section, item.slides, item.what.alt, item.what.caption, address])
    files["index.csv"] = table.getvalue().encode()
    return files | {"README.txt": FIGURES.encode()} | licences("LICENSE-content")


def licences(*names: str) -> dict[str, bytes]:
    return {name: (ROOT / name).read_bytes() for name in names}


def main():
    write(DOWNLOADS / "pgcourse-notebooks.zip", notebooks())
    write(DOWNLOADS / "pgcourse-figures.zip", figures())


if __name__ == "__main__":
    main()
