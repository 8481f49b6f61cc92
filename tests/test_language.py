"""The language of the book: a term is defined where the glossary says, and no word of our own comes back."""

import ast
import importlib
import json
import operator
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from glossary import anchor
from test_notebooks import MODULES

BOOK = Path(__file__).parents[1] / "book"
NOTEBOOKS = sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
PAGES = [*NOTEBOOKS, *sorted(BOOK.glob("*.md"))]

# What this book once called things, as regular expressions, and what the field calls them.
OUR_WORDS = {
    "slopes?": "gradient, derivative",
    "stand-ins?": "surrogate objective",
    "tops|(its|another|reach(es)? the) top|summits?|hills?": "maximum, optimum",
    "climb(ed|ing)?": "gradient ascent",
    "climbers?": "optimiser",
    "pay|pays|paid|paying": "reward, return",
    "(still )?to come": "value, expected return",
    "undecided|sure of itself": "high or low entropy, premature convergence",
    "luck|lucky": "p-value, sampling error",
    "look(s|ed)? alike": "aliased states, the same observation",
    "teachers?|pupils?": "expert, imitation learning",
    "somebody|whoever|nobody": "you, we, or the thing's name",
    "same dice": "common random numbers",
    "pushing all weights at once": "SPSA, evolution strategies",
    "through the rules": "pathwise gradient",
    "from top to top": "expectation–maximisation, minorise–maximise",
    "bells?|bell curves?": "Gaussian",
    "names the action": "deterministic policy",
    "mean of the others": "leave-one-out baseline",
    "whiten(s|ed|ing)?": "standardised",
    "clouds?": "variance, covariance, standard error",
    "how often visited": "state-visitation distribution",
    "surprises?": "TD error",
    "from one step to all": "n-step returns, λ-return, GAE",
    "believes? itself": "bootstrapping",
    "cuts? off": "truncated, or clipped",
    "never ends?|endless": "continuing task",
    "knock(s|ed)?": "random kicks, perturbations",
    "slow copies|copies that follow": "target networks",
    "memories|remember(s|ed)?": "transitions, replay buffer",
    "noise with a memory": "Ornstein–Uhlenbeck noise",
    "any action now and then|odd action": "exploration, ε-greedy",
    "said and came|too good to be true": "predicted and realised return, overestimation bias",
    "lower of (the )?twins|blurred": "clipped double Q-learning, target-policy smoothing",
    "take a part away": "ablation",
    "knobs?": "hyperparameters",
    "newborns?": "untrained policy",
    "beginners?": "partially trained policy, checkpoint",
    "by heart": "memorised, overfitted",
    "turns? of the loop": "iteration, update",
    "judge(s|d)?|judging": "evaluate, evaluation",
    "worlds?": "environment",
    "knows half": "value-function error",
    "in the mean": "on average",
    "rightly labelled": "accuracy",
    "middle (of the )?runs?": "median, interquartile mean",
    "beats the other": "probability of improvement",
}

# Where such a word is the right one: the page, what stands there, and why.
ALLOWED = {
    ("03-pong", "Each turn of the loop is an"): "says what an iteration is",
    ("glossary", "*teacher*"): "what other books call an expert",
    ("glossary", "*whitening*"): "what other books call standardised advantages",
}


class Entry(NamedTuple):
    term: str
    definition: str
    about: str

    @property
    def anchor(self) -> str:
        return anchor(self.term)

    @property
    def chapter(self) -> tuple[str, str]:
        """The name and the page of the chapter or study that defines the term."""
        return re.match(r"\[([^]]+)\]\(([\w/-]+)\.ipynb\)", self.about).groups()

    @property
    def code(self) -> list[str]:
        fields = [field for field in self.about.split(" · ") if field.startswith("code: ")]
        return re.findall("`([^`]+)`", "".join(fields))


def text(path: Path) -> str:
    return path.read_text("utf-8")


ENTRIES = [
    Entry(*parts) for parts in re.findall(r"^### (.+)\n\n(.+)\n\n(.+)$", text(BOOK / "glossary.md"), re.M)
]
BOLD = re.compile(r"\*\*\[[^]]+\]\((?:\.\./)?glossary\.md#([^)]+)\)\*\*")


def name(page: Path) -> str:
    return page.relative_to(BOOK).with_suffix("").as_posix()


@cache
def prose(page: Path) -> str:
    """Return what a reader reads of a page: text, captions, and alternative texts, also those of sliders."""
    if page.suffix == ".md":
        return text(page)
    parts = []
    for cell in json.loads(text(page))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            about = cell["metadata"].get("mystnb", {})
            parts += [about.get("figure", {}).get("caption", ""), about.get("image", {}).get("alt", "")]
            parts += docstrings(source)
    return "\n\n".join(parts)


def docstrings(source: str) -> list[str]:
    if re.search(r"^\s*[%!]", source, re.M):  # a line of IPython
        return []
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [ast.get_docstring(function) or "" for function in functions]


def words(page: Path) -> str:
    """Return the prose without formulas, code and addresses."""
    return re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|(?<=\])\([^)]*\)", " ", prose(page), flags=re.S)


def sort_key(term: str) -> str:
    spelt = term.lower().replace("ε", "epsilon").replace("λ", "lambda")
    return re.sub("[^a-z0-9]", "", spelt)


def test_the_glossary_is_complete_and_in_order():
    glossary = text(BOOK / "glossary.md")
    assert len(ENTRIES) == len(re.findall("^### ", glossary, re.M)), (
        "an entry is a heading and two paragraphs"
    )
    terms = [entry.term for entry in ENTRIES]
    assert terms == sorted(terms, key=sort_key)
    for letter, section in re.findall(r"^## (.)\n(.*?)(?=^## |\Z)", glossary, re.M | re.S):
        assert {sort_key(term)[0].upper() for term in re.findall("^### (.+)$", section, re.M)} == {letter}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.anchor)
class TestEntry:
    def test_its_names_exist(self, entry):
        for code in entry.code:
            module, _, attribute = code.partition(".")
            operator.attrgetter(attribute)(importlib.import_module(MODULES[module]))

    def test_it_names_a_chapter_or_a_study(self, entry):
        label, page = entry.chapter
        assert (BOOK / f"{page}.ipynb").exists()
        number = re.match(r"(\d+)-", page)
        title = re.match("# ([^:\n]+)", prose(BOOK / f"{page}.ipynb"))[1]
        assert label == (f"Chapter {int(number[1])}" if number else title)

    def test_its_chapter_defines_it_and_no_other_page_does(self, entry):
        """Once: in bold, with a link to the entry."""
        _, chapter = entry.chapter
        found = [
            name(page) for page in NOTEBOOKS for link in BOLD.findall(prose(page)) if link == entry.anchor
        ]
        assert found == [chapter]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_into_the_glossary_lead_to_an_entry(page):
    anchors = {entry.anchor for entry in ENTRIES}
    for link in re.findall(r"\]\((?:\.\./)?glossary\.md#([^)]*)\)", prose(page)):
        assert link in anchors


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_word_of_our_own_comes_back(page):
    said = words(page)
    for _, allowed in (key for key in ALLOWED if key[0] == name(page)):
        assert allowed in said, f"no longer needed: {allowed}"
        said = said.replace(allowed, " ")
    found = [
        f"{match[0]!r} ({good}): …{said[max(0, match.start() - 40) : match.end() + 40]!r}…"
        for ours, good in OUR_WORDS.items()
        for match in re.finditer(rf"\b(?:{ours})\b", said, re.I)
    ]
    assert not found, "\n".join(found)
