"""A quick check: a question with radio buttons, and an explanation of the answer that the reader chose.

In a notebook it is plain Markdown: a question, a list of answers, and in a <details> an explanation of each.
plain.py makes a directive of it, and this module a form, in which quickcheck.js shows the buttons and, in a
live region, one explanation. Without script there are no buttons, and the explanations stay folded away.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class quick_check(nodes.General, nodes.Element):
    """A part of the form: an element of HTML."""


def element(tag: str, *children: nodes.Node, classes=(), ids=(), **attributes: str) -> quick_check:
    return quick_check("", *children, tag=tag, classes=[*classes], ids=[*ids], attributes=attributes)


class QuickCheck(SphinxDirective):
    """A paragraph, the question, and two lists: the answers and their explanations."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        parts = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parts)
        question, answers, explanations = parts
        number = self.env.new_serialno("quick check") + 1
        name = f"quick-check-{self.env.docname.split('/')[-1]}-{number}"  # also where all pages are one
        choices = [
            element(
                "label",
                element("input", type="radio", name=name, value=str(k), required="required", hidden="hidden"),
                element("span", *answer[0].children),
            )
            for k, answer in enumerate(answers)
        ]
        for explanation in explanations:
            explanation["classes"] += ["right"] if "Right." in explanation[0][1].astext() else []
        title = nodes.strong("", "Quick check.")
        parts = [
            element("fieldset", element("legend", title, nodes.Text(" "), *question.children), *choices),
            element("button", nodes.Text("Check"), hidden="hidden"),
            element("div", role="status"),
            element("details", element("summary", nodes.Text("Answers")), explanations),
        ]
        return [element("form", *parts, classes=["quick-check"], ids=[name])]


def enter(translator, node):
    make = translator.emptytag if node["tag"] == "input" else translator.starttag
    translator.body.append(make(node, node["tag"], "", **node["attributes"]))


def leave(translator, node):
    if node["tag"] != "input":
        translator.body.append(f"</{node['tag']}>\n")


def setup(app):
    app.add_directive("quick-check", QuickCheck)
    app.add_node(quick_check, html=(enter, leave))
    app.add_js_file("quickcheck.js", loading_method="defer")
    return {"parallel_read_safe": True}
