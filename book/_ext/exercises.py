"""Exercises of the notebooks, which on the site are those of sphinx-exercise.

A notebook says **4.1** and folds its solution away in a <details>, as any viewer of
notebooks can show. Directives would be raw text there, and come in here: each exercise
is a box that can be linked to, and each solution names its exercise.
"""

import json
import re

FENCE = "`" * 6
EITHER = re.compile(
    r"^\*\*(?P<number>\d\.\d)\*\* (?P<exercise>.*?)(?=^\*\*\d\.\d\*\* |^<details>|\Z)"
    r"|^<details>\s*<summary>Solution</summary>(?P<solution>.*?)^</details>",
    re.S | re.M,
)


def translated(source: str, label: str = "") -> tuple[str, str]:
    """Return a cell with directives, and the label of the last exercise so far."""

    def directive(found):
        nonlocal label
        if number := found["number"]:
            label = f"exercise-{number.replace('.', '-')}"
            head = f"{{exercise}} {number}\n:label: {label}\n:nonumber:"
        else:
            head = f"{{solution}} {label}\n:class: dropdown"
        text = (found["exercise"] or found["solution"]).strip()
        return f"{FENCE}{head}\n\n{text}\n{FENCE}\n"

    return EITHER.sub(directive, source), label


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
    app.connect("source-read", translate)
    app.connect("html-page-context", without_twins)
    return {"parallel_read_safe": True}
