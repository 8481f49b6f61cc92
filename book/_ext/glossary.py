"""A link into the glossary shows the definition, when a reader points at it or comes to it with a key.

The glossary is plain Markdown, a heading for each term. Its address is the term in lower case, with hyphens
for spaces and dashes: glossary.md#actor-critic. A page carries the definitions that it links to, each once
and hidden, and the link names its own as its description; glossary.js shows it.
"""

import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

GLOSSARY = "book/glossary"
LINK = re.compile(r'<a class="reference internal" href="[^"]*\bglossary\.html#([^"]+)"')


def anchor(term: str) -> str:
    return re.sub("[ –]", "-", re.sub("['’]", "", term.lower()))


def terms(doctree: nodes.document) -> list[nodes.section]:
    """Return the sections that hold a term each."""
    return [
        section
        for section in doctree.findall(nodes.section)
        if section.parent.parent and section.parent.parent.parent is doctree
    ]


def give_addresses(app, doctree):
    """Name each term's section after it, before tables of contents do."""
    if app.env.docname != GLOSSARY:
        return
    slugs = app.env.metadata[GLOSSARY]["myst_slugs"] = {}
    for section in terms(doctree):
        term = section[0].astext()
        section["ids"] = [anchor(term)]
        slugs[anchor(term)] = (section.line, anchor(term), term)


def note_dependency(app, docname, source):
    """Read a page again when a definition that it shows may have changed."""
    if "glossary.md#" in source[0] and docname != GLOSSARY:
        app.env.note_dependency(str(Path(app.env.doc2path(GLOSSARY))))


@cache
def definitions(app) -> dict[str, nodes.paragraph]:
    """Return the first paragraph of each entry, without its links: a tooltip holds nothing to click."""
    found = {}
    for section in terms(app.env.get_doctree(GLOSSARY)):
        paragraph = section[1].deepcopy()
        for link in [*paragraph.findall(addnodes.pending_xref), *paragraph.findall(nodes.reference)]:
            link.replace_self(link.children)
        found[section["ids"][0]] = paragraph
    return found


def describe_links(app, pagename, templatename, context, doctree):
    used = {}

    def described(found):
        start, name = found[0], found[1]
        if name not in definitions(app):
            return start  # of which Sphinx has warned
        used[name] = definitions(app)[name]
        return f'{start} aria-describedby="definition-{name}"'

    if pagename == GLOSSARY or "body" not in context:
        return
    body = LINK.sub(described, context["body"])
    for name, paragraph in used.items():
        html = app.builder.render_partial(paragraph)["fragment"]
        about = f'id="definition-{name}" class="definition" role="tooltip" popover="manual"'
        body += f"<div {about}>{html}</div>\n"
        if next(paragraph.findall(nodes.math), None):  # the page needs MathJax, if only for this
            app.env.get_domain("math").data["has_equations"][pagename] = True
    context["body"] = body


def setup(app):
    app.connect("source-read", note_dependency)
    app.connect("doctree-read", give_addresses, priority=400)
    app.connect("html-page-context", describe_links, priority=400)
    app.add_js_file("glossary.js", loading_method="defer")
    return {"parallel_read_safe": True}
