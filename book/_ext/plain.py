"""What is plain Markdown in a notebook becomes on the site what a site can do.

JupyterLab and Colab would show a directive of Sphinx as raw text. So a notebook says
**4.1** and folds a solution away in a <details>, asks in a list what it explains in
another, puts an aside into an <aside>, and links to the bibliography. Here an exercise
becomes a box with an address and a solution names its exercise (sphinx-exercise), a
quick check has radio buttons (quickcheck.py), an aside stands in the margin, and a link
to the bibliography is a citation.
"""

import json
import re

FENCE = "`" * 6
EXERCISES = re.compile(
    r"^\*\*(?P<number>[\dA-Z]\.\d+)\*\* (?P<exercise>.*?)(?=^\*\*[\dA-Z]\.\d+\*\* |^<details>|\Z)"
    r"|^<details>\s*<summary>Solution</summary>(?P<solution>.*?)^</details>",
    re.S | re.M,
)
QUICK_CHECK = re.compile(
    r"^\*\*Quick check\.\*\* (?P<question_and_answers>.*?)^<details>\n<summary>Answers</summary>\n"
    r"(?P<explanations>.*?)^</details>",
    re.S | re.M,
)
ASIDE = re.compile(r"^<aside>\n(.*?)\n</aside>", re.S | re.M)
IN_BRACKETS = re.compile(r"\(\[[^\]]+\]\((?:\.\./)*bibliography\.md#(\w+)\)\)")
IN_TEXT = re.compile(r"\[[^\]]+\]\((?:\.\./)*bibliography\.md#(\w+)\)")


def translated(source: str, label: str = "") -> tuple[str, str]:
    """Return a cell in MyST, and the label of the last exercise so far."""

    def directive(found):
        nonlocal label
        if number := found["number"]:
            label = f"exercise-{number.replace('.', '-')}"
            head = f"{{exercise}} {number}\n:label: {label}\n:nonumber:"
        else:
            head = f"{{solution}} {label}\n:class: dropdown"
        text = (found["exercise"] or found["solution"]).strip()
        return f"{FENCE}{head}\n\n{text}\n{FENCE}\n"

    source = EXERCISES.sub(directive, source)
    source = QUICK_CHECK.sub(quick_check, source)
    source = ASIDE.sub(rf"{FENCE}{{margin}}\n\1\n{FENCE}", source)
    source = IN_TEXT.sub(r"{cite:t}`\1`", IN_BRACKETS.sub(r"{cite}`\1`", source))
    return source, label


def quick_check(found: re.Match) -> str:
    """Return the directive: other bullets begin the second list."""
    explanations = re.sub("^- ", "* ", found["explanations"], flags=re.M)
    return f"{FENCE}{{quick-check}}\n{found['question_and_answers']}{explanations}{FENCE}\n"


def translate(app, docname, source):
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook, label = json.loads(source[0]), ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"], label = translated("".join(cell["source"]), label)
    source[0] = json.dumps(notebook)


def without_twins(app, pagename, templatename, context, doctree):
    """Take away the ids that sphinx-exercise gives to all exercises alike."""
    body = context.get("body", "")
    context["body"] = re.sub(r' id="(exercise|solution)-content"', "", body)


def setup(app):
    app.setup_extension("sphinx_exercise")
    app.setup_extension("quickcheck")
    app.connect("source-read", translate)
    app.connect("html-page-context", without_twins)
    return {"parallel_read_safe": True}
