"""Print the whole book, from the one page that Sphinx makes of it:  make pdf

Of films the poster is seen, of sliders the first picture, and solutions are open.
"""

import shutil
from pathlib import Path

from browser import find
from playwright.sync_api import sync_playwright

BUILD = Path(__file__).parents[2] / "_build"
READY = """async () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const film of document.querySelectorAll("video")) film.controls = false;
  for (const image of document.images) image.loading = "eager";
  for (const start of document.querySelectorAll("article [id^='document-']"))
    Object.assign(start.style, {display: "block", breakBefore: "page"});
  await window.MathJax?.startup?.promise;
  await Promise.allSettled([...document.images].map(image => image.decode()));
}"""
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


def main():
    everything, pdf = BUILD / "singlehtml" / "all.html", BUILD / "pgcourse.pdf"
    # Its links count from the folder above the one in which Sphinx puts it.
    shutil.copy(BUILD / "singlehtml" / "book" / "intro.html", everything)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--allow-file-access-from-files"]
        browser = playwright.chromium.launch(executable_path=find(), args=flags)
        page = browser.new_page(reduced_motion="reduce", color_scheme="light")
        page.set_default_timeout(600_000)
        page.goto(everything.as_uri())
        page.evaluate(READY)
        page.pdf(path=pdf, **PAPER)
        browser.close()
    print(f"The book is at {pdf.as_uri()}, {pdf.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
