"""Quick checks: what each chapter asks, whether the answers are right, and what the site makes of them."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import plain
import pytest
import torch
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from pgcourse.environments import lqr, worlds
from pgcourse.environments.frames import PixelPendulum
from pgcourse.environments.mdp import MDP
from pgcourse.maths import logistic, preferences, returns, sequences, trust_region
from pgcourse.maths.estimators import estimator_statistics, score_function
from pgcourse.maths.groups import group_advantages
from pgcourse.maths.td import td_error

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = [*sorted(BOOK.glob("0*.ipynb")), *sorted(BOOK.glob("beyond/*.ipynb"))]
QUICK_CHECK = re.compile(
    r"^\*\*Quick check\.\*\* (?P<question>.+)\n\n(?P<answers>(?:- .+\n)+)\n"
    r"<details>\n<summary>Answers</summary>\n\n(?P<explanations>(?:- .+\n)+)\n</details>(?P<rest>.*)",
    re.M,
)
ANSWER, EXPLANATION = r"- \((.)\) (.+)\n", r"- \((.)\) \*\*(Right|No)\.\*\* (.+)\n"


class QuickCheck(NamedTuple):
    question: str
    answers: list[str]
    verdicts: list[str]
    explanations: list[str]

    @property
    def right(self) -> str:
        return self.answers[self.verdicts.index("Right")]


def prose(path: Path) -> list[str]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def quick_checks(path: Path) -> list[QuickCheck]:
    found = []
    for match in QUICK_CHECK.finditer("\n\n".join(prose(path))):
        letters, answers = zip(*re.findall(ANSWER, match["answers"]), strict=True)
        explained, verdicts, explanations = zip(*re.findall(EXPLANATION, match["explanations"]), strict=True)
        assert letters == explained == tuple("abcd"[: len(letters)])
        found.append(QuickCheck(match["question"], [*answers], [*verdicts], [*explanations]))
    return found


ALL = {(path.stem, check.question): check for path in CHAPTERS for check in quick_checks(path)}


def n_words(text: str) -> int:
    """Count words; a formula or a piece of code is one."""
    return len(re.sub(r"\$[^$]*\$|`[^`]*`", "formula", text).split())


# What the chapters ask


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_three_to_six_each_at_the_end_of_a_section(path):
    """None is lost because it is written otherwise."""
    cells = prose(path)
    assert 3 <= len(quick_checks(path)) == "\n".join(cells).count("Quick check") <= 6
    for cell in cells:
        for match in QUICK_CHECK.finditer(cell):
            assert re.match(r"\n+##+ |\Z", cell[match.end() :]), match["question"]


@pytest.mark.parametrize("check", ALL.values(), ids=lambda check: check.question[:40])
def test_one_answer_is_right_and_each_is_explained(check):
    assert 3 <= len(check.answers) <= 4
    assert len(set(check.answers)) == len(check.answers)
    assert check.verdicts.count("Right") == 1
    assert n_words(check.question) <= 40
    assert max(map(n_words, check.answers)) <= 20
    assert max(map(n_words, check.explanations)) <= 34  # and the verdict


def test_the_right_answer_is_not_always_in_the_same_place_nor_the_longest():
    places = Counter(check.verdicts.index("Right") for check in ALL.values())
    assert min(places[k] for k in range(3)) > 0.15 * len(ALL)
    assert max(places.values()) < 0.4 * len(ALL)
    for path in CHAPTERS:
        assert len({check.verdicts.index("Right") for check in quick_checks(path)}) >= 3
    assert sum(check.right == max(check.answers, key=len) for check in ALL.values()) < 0.6 * len(ALL)


# Whether the answers are right


def find(chapter: int | str, words: str) -> QuickCheck:
    """The check of a chapter, by its number, or its name if it has none, and words of the question."""
    name = f"{chapter:02}-" if isinstance(chapter, int) else chapter
    [check] = [check for (stem, text), check in ALL.items() if stem.startswith(name) and words in text]
    return check


def numbers(text: str) -> list[float]:
    plain_digits = re.sub(r"(?<=\d),(?=\d{3})", "", text.replace("−", "-").replace("\\,", " "))
    fraction = re.fullmatch(r"(\d+)/(\d+)", plain_digits)
    return (
        [int(fraction[1]) / int(fraction[2])]
        if fraction
        else [float(number) for number in re.findall(r"-?\d+\.?\d*", plain_digits)]
    )


def target(terminated: bool, gamma: float) -> np.ndarray:
    """Return r + γ v(s') for a reward of 2 and a value of 5."""
    return td_error(np.full(1, 2.0), np.zeros(1), np.full(1, 5.0), np.array([terminated]), gamma)


R, X, Y = np.array([1.0, 2.0, 4.0]), np.array([2.0, -1.0]), np.array([0.6, 0.3, 0.1])
RHO = trust_region.importance_weight(np.log([0.5]), np.log([0.2]))[0]
NEW, OLD = np.array([10], np.uint8), np.array([20], np.uint8)
# By chapter and words of the question: what each answer is, as its explanation says that it comes about.
COMPUTED = {
    (1, "1, 2 and 4"): [
        R.sum(),
        0.5 * returns.total_return(R, 0.5)[0],
        returns.total_return(R, 0.5)[0],
        R @ [0.25, 0.5, 1],
    ],
    (2, r"$\log 3$"): [np.exp(-np.log(3)), logistic.sigmoid(np.log(3)), np.exp(np.log(3))],
    (2, "prediction $y = 0.8$"): [X * 0.8, X * (0 - 0.8) * 0.8 * (1 - 0.8), X * (1 - 0.8), X * (0 - 0.8)],
    (2, "third class is right"): [0 - Y[0], -(1 - Y[2]) / 2, 0, 1 - Y[0]],
    (3, "DOWN was sampled"): [0 - 0.3, -1 * (0 - 0.3), 1 - 0.3],
    (5, "error of the estimate is 0.2"): [100 * 0.2 / 0.02, 100 * 2, 100 * (0.2 / 0.02) ** 2],
    (6, "bias of length 0.3"): [(0.3**2 + 9) / 100, 0.3**2 + 9 / 100, 0.3 + 9 / 100, 0.3**2 + 9 / 10],
    (7, "two actions with the probabilities"): [1, None, 0.2 / 0.8, 0.8 / 0.2],
    (7, "A time limit stops"): [target(True, 0.8), target(False, 0.8), target(False, 1.0), None],
    ("ppo", "advantage 4"): [0.2 * 4, RHO * 4, 0.2 * RHO * 4, 0.5 * RHO * 4],
    ("ppo", "from 0.01 to 0.04"): [np.sqrt(0.04 / 0.01), 0.04 / 0.01, (0.04 / 0.01) ** 2],
    ("pixels", "A pixel was 20"): [NEW - OLD.astype(int), max(10 - 20, 0), NEW - OLD],
    ("pixels", "density is 0.2"): [0.2 * 0.5, 0.2, 0.2 / 0.5],
}


@pytest.mark.parametrize("key", COMPUTED, ids=str)
def test_numbers_are_what_their_explanations_say(key):
    for answer, value in zip(find(*key).answers, COMPUTED[key], strict=True):
        if value is not None:
            assert numbers(answer) == pytest.approx(np.ravel(value).tolist()), answer


CHAIN, W = worlds.chain(horizon=3), np.array([[-0.2, 0.3], [0.4, 0.0]])
EPISODES = CHAIN.enumerate_episodes(W)


def expectation(weight):
    return np.tensordot(EPISODES.P, score_function(W, EPISODES, weight), axes=1)


def test_logits_of_2_and_minus_2():
    first, second = logistic.softmax(np.array([2.0, -2.0]))
    assert second / first == pytest.approx(np.exp(-4))
    assert f"{second / first:.3f}" == "0.018"
    assert "e^{-4}" in find(1, "logits 2 and −2").right


def test_five_for_every_episode_is_no_gradient():
    assert expectation(np.full(EPISODES.r.shape, 5.0)) == pytest.approx(0, abs=1e-12)
    assert find(5, "return 5").right == "Zero."


def test_the_mean_of_a_row_times_a_column_is_the_product_of_means():
    L, G = np.random.default_rng(0).normal(size=(2, 7))
    assert (L * G[:, None]).mean() == pytest.approx(L.mean() * G.mean())
    assert find(5, "shape (N, 1)").right == "The product of the two means."


def test_a_discounted_reward_to_go_estimates_neither_gradient():
    discounted = worlds.chain(horizon=3, gamma=0.9).gradient(W)
    found = expectation(returns.reward_to_go(EPISODES.r, 0.9))
    for gradient in (CHAIN.gradient(W), discounted):
        assert abs(found - gradient).max() > 1e-3
    assert find(6, "(6.4)").right.startswith("Neither")


def test_what_may_be_subtracted_without_bias():
    """Also a wrong v; with Q nothing of the gradient is left."""
    values, t, G = CHAIN.values(W), np.arange(3), returns.reward_to_go(EPISODES.r)
    wrong_v = np.array([3.0, -1.0])[EPISODES.s[:, :-1]]
    assert expectation(G - wrong_v) == pytest.approx(CHAIN.gradient(W))
    Q = values.Q[t, EPISODES.s[:, :-1], EPISODES.a]
    assert expectation(G - Q) == pytest.approx(0, abs=1e-12)
    assert find(6, "without adding a bias").right.startswith("$v(s_t)$")


def batch_statistics(n, weights):
    """Statistics of the mean over n episodes of one step, from the list of all batches."""
    mdp = worlds.chain(horizon=1)
    e = mdp.enumerate_episodes(W)
    index = np.array(np.meshgrid(*[np.arange(len(e.P))] * n)).reshape(n, -1).T
    R, scores = e.r.sum(axis=1), score_function(W, e, np.ones_like(e.r))
    g = np.einsum("bk,bk...->b...", weights(R[index]), scores[index]) / n
    return estimator_statistics(g, mdp.gradient(W), e.P[index].prod(axis=1))


def test_of_four_episodes_the_batch_mean_leaves_three_quarters():
    f = batch_statistics(4, lambda R: R - R.mean(axis=1, keepdims=True))
    assert f.mean == pytest.approx(0.75 * f.truth)
    assert find(6, "four episodes").right == "Three quarters of the gradient."


def test_an_error_that_all_states_share_does_not_bias_delta():
    mdp = worlds.random_mdp(4, 2, np.random.default_rng(0), gamma=0.9)
    values = mdp.values(np.random.default_rng(1).normal(size=(4, 2)))
    v = values.V + 5
    delta = mdp.r + 0.9 * mdp.P @ v - v[:, None]
    assert delta - values.A == pytest.approx(0.9 * 5 - 5)
    assert find(7, "too high by 5").right.startswith("No: the error is the same")


def test_the_derivative_at_the_actor_s_own_action_is_the_gradient():
    """At an action that was taken by another policy it is not: here the sign changes."""
    line = lqr.LQR(*[np.eye(1)] * 4, 0.8, np.eye(1), np.zeros((1, 1)))
    K, s = np.array([[0.5]]), np.array([[1.0]])
    own, taken = line.dQ_da(K, s, -s @ K.T), line.dQ_da(K, s, np.array([[-1.0]]))
    assert (-own).item() == pytest.approx(0.25)  # times ∂μ/∂K = −s, as in chapter 8
    assert own * taken < 0
    assert r"at $\mu(s)$" in find(8, "At which action").right.lower()


def test_the_surrogate_is_exact_where_actions_do_not_influence_the_next_state():
    """Where they do, and each leads to one state with certainty, it is not."""
    rng = np.random.default_rng(0)
    P = np.repeat(rng.dirichlet(np.ones(3), size=(3, 1)), 2, axis=1)
    uninfluenced = MDP(P, rng.normal(size=(3, 2)), np.ones(3) / 3, horizon=4)
    certain = MDP(np.eye(2)[[[0, 1], [1, 0]]], rng.normal(size=(2, 2)), np.array([1.0, 0.0]), horizon=4)
    for mdp, exact in ((uninfluenced, True), (certain, False)):
        w, new_w = rng.normal(size=(2, mdp.n_states, 2))
        L = np.einsum("ts,sa,tsa->", mdp.state_visitation(w), mdp.pi(new_w), mdp.values(w).A)
        assert (abs(mdp.J(new_w) - mdp.J(w) - L) < 1e-10) == exact
    assert "no influence on the next state" in find("ppo", "the true gain").right


def test_twice_the_step_has_four_times_the_divergence():
    p, direction = logistic.softmax(W), np.array([[1.0, 0.0], [0.5, -0.5]])
    once, twice = (trust_region.kl_divergence(p, logistic.softmax(W + x * direction)) for x in (1e-3, 2e-3))
    assert twice == pytest.approx(4 * once, rel=1e-2)


def clipped_gradient(rho, A):
    """Derivative of L^clip with respect to three logits, all 0, for actions 0, 1 and so on in one state."""

    def L_clip(w):
        L = np.log(logistic.softmax(w)[: len(rho)])
        return trust_region.clipped_surrogate(trust_region.importance_weight(L, L_old), A, 0.2).mean()

    L_old = np.log(1 / 3) - np.log(rho)
    return np.array([L_clip(e) - L_clip(-e) for e in 1e-5 * np.eye(3)]) / 2e-5


def test_a_clipped_sample_does_nothing_and_others_move_its_action_either_way():
    alone = clipped_gradient(np.array([1.9]), np.array([1.0]))
    good, bad = (clipped_gradient(np.array([1.9, 1.0]), np.array([1.0, A])) for A in (1, -1))
    assert alone == pytest.approx(0)
    assert good[0] < -0.1
    assert bad[0] > 0.1
    assert find("ppo", "reached 1.9").right.startswith("Its own sample does nothing")


def test_before_the_first_step_ratio_and_clipping_change_nothing():
    L, A = np.log([0.2, 0.5, 0.9]), np.array([2.0, -1.0, 0.5])
    more, less = (trust_region.importance_weight(L + x, L) for x in (1e-6, -1e-6))
    change = trust_region.clipped_surrogate(more, A, 0.2) - trust_region.clipped_surrogate(less, A, 0.2)
    assert change / 2e-6 == pytest.approx(A)
    assert not trust_region.is_clipped(np.ones(3), A, 0.2).any()
    assert find("ppo", "One epoch").right == "Nothing."


def test_a_time_limit_leaves_the_state_that_the_last_action_led_to():
    env = PixelPendulum(1)
    next_s, _ = env.reset(seed=0)
    done = False
    while not done:
        s = next_s
        next_s, _, terminated, [done], info = env.step(np.zeros((1, 1)))
    assert not terminated.any()
    last = info["final_obs"]
    assert (last[:, :2] == s[:, 1:]).all()
    assert (next_s == next_s[:, :1]).all()  # of the next episode
    assert (last[:, 2] != next_s[:, 0]).any()
    assert find("pixels", "A time limit ends").right == "The last three frames of the old episode."


def test_a_detached_encoder_gets_no_gradient_from_the_actor():
    """And the critic's is not used."""
    encoder, actor, critic = (torch.nn.Linear(*sizes).double() for sizes in ((4, 3), (3, 1), (4, 1)))
    phi = encoder(torch.ones(5, 4).double()).detach()
    critic(torch.cat([phi, actor(phi)], dim=1)).mean().backward()
    assert encoder.weight.grad is None
    assert actor.weight.grad.abs().sum() > 0
    assert find("pixels", "The critic alone").right.startswith("Those of the actor's layers")


def test_two_zero_one_rewards_have_the_same_advantages_under_grpo_and_rloo():
    r = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert group_advantages(r, "grpo") == pytest.approx(group_advantages(r, "rloo"))
    assert find("language-models", "two answers to each prompt").right == "Not at all."


def test_k1_in_the_loss_has_no_gradient_on_average():
    w, w_ref = np.random.default_rng(0).normal(size=(2, 1, 7, 3))
    outputs = sequences.enumerate_outputs(3, 3)
    assert sequences.kl_loss_gradient(w, w_ref, outputs, "k1") == pytest.approx(0, abs=1e-12)
    assert find("language-models", "beta k_1").right == "Nothing."


def test_an_answer_that_always_wins_has_no_finite_ratio():
    wins = np.array([[0.0, 3, 2], [0, 0, 1], [0, 1, 0]])
    losses = [preferences.preference_loss(np.array([x, 0, 0]), wins) for x in (1, 10, 100, 1000)]
    assert (np.diff(losses) < 0)[:2].all()
    with pytest.raises(ValueError, match="always wins has an infinite reward"):
        preferences.fit_rewards(wins)
    assert find("language-models", "preferred in all of its pairs").right.startswith("There is no minimum")


def test_a_line_through_a_curve_is_the_same_line_for_ten_times_as_many_pairs():
    """Expected wins of 500 and of 5,000 pairs differ by a factor; the true reward bends, the line goes on."""
    steps = np.arange(13.0)
    true, p = 3 * (1 - 0.7 * 0.5**steps) - steps / 4, 0.35**steps / (0.35**steps).sum()
    fits = [
        preferences.fit_rewards(n * preferences.expected_wins(true, p), steps[:, None]) for n in (500, 5000)
    ]
    assert fits[0] == pytest.approx(fits[1])
    assert fits[0][12] > fits[0][3]
    assert true[12] < true[3]
    assert find("language-models", "ten times as many pairs").right.startswith("It stays")


# What the site makes of them


SOURCE = """Before.

**Quick check.** What is $2 + 2$?

- (a) 3
- (b) *Four.*
- (c) 5

<details>
<summary>Answers</summary>

- (a) **No.** One is missing.
- (b) **Right.** It is $2 \\cdot 2$.
- (c) **No.** One too many.

</details>

**Quick check.** And again?

- (a) Yes.
- (b) No.
- (c) Perhaps.

<details>
<summary>Answers</summary>

- (a) **Right.** Why not?
- (b) **No.** Say yes.
- (c) **No.** Say yes.

</details>

## After

**1.1** An exercise.

<details>
<summary>Solution</summary>

It is none.

</details>
"""


def test_plain_markdown_becomes_a_directive_and_nothing_else_changes():
    translated, _ = plain.translated(SOURCE)
    assert translated.count("{quick-check}") == 2
    assert translated.count("<details>") == 0
    assert "- (c) 5\n\n\n* (a) **No.** One" in translated
    assert translated.startswith("Before.\n")
    assert "{solution} exercise-1-1" in translated
    without = SOURCE.split("## After")[1]
    assert translated.endswith(plain.translated(without)[0])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with two quick checks, as Sphinx makes it."""
    folder = tmp_path_factory.mktemp("site")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\n\n" + SOURCE)])
    nbformat.write(notebook, folder / "index.ipynb")
    settings = {"extensions": ["myst_nb", "plain"], "nb_execution_mode": "off"}
    settings |= {"myst_enable_extensions": ["dollarmath"]}
    app = Sphinx(
        folder, None, folder / "html", folder / "trees", "html", settings, status=None, warningiserror=True
    )
    app.build()
    return BeautifulSoup((folder / "html" / "index.html").read_text("utf-8"), "html.parser")


def test_a_quick_check_is_a_form_with_a_name_for_each_part(page):
    forms = page.select("form.quick-check")
    assert [form["id"] for form in forms] == ["quick-check-index-1", "quick-check-index-2"]
    legends = [form.select_one("fieldset > legend").get_text() for form in forms]
    assert legends == ["Quick check. What is \\(2 + 2\\)?", "Quick check. And again?"]
    buttons = forms[0].select("fieldset > label > input[type=radio]")
    assert [button["name"] for button in buttons] == ["quick-check-index-1"] * 3
    assert [button["value"] for button in buttons] == ["0", "1", "2"]
    assert [button.parent.get_text().strip() for button in buttons] == ["(a) 3", "(b) Four.", "(c) 5"]


def test_without_script_there_are_no_buttons_and_the_explanations_are_folded_away(page):
    for form in page.select("form.quick-check"):
        assert all(part.has_attr("hidden") for part in form.select("input, button"))
        assert form.select_one("[role=status]").get_text() == ""
        assert form.select_one("details > summary").get_text() == "Answers"
        assert "open" not in form.details.attrs
        assert len(form.select("details > ul > li")) == 3
        assert len(form.select("details > ul > li.right")) == 1
    assert page.select("form details li.right")[0].get_text() == "(b) Right. It is \\(2 \\cdot 2\\)."


def test_the_script_is_the_site_s_own(page):
    [script] = [script for script in page.select("script[src]") if "quickcheck" in script["src"]]
    assert script["src"].startswith("_static/quickcheck.js")
    assert len((BOOK / "_static" / "quickcheck.js").read_text("utf-8").splitlines()) <= 60


def test_ten_times_the_rewards_and_the_temperature_are_the_same_policy():
    Q, alpha = np.array([[1.0, 0.3, -2.0]]), 0.4
    policies = [logistic.softmax(10 * Q / (factor * alpha)) for factor in (1, 10, 0.1)]
    same = [np.allclose(pi, logistic.softmax(Q / alpha)) for pi in policies]
    assert same == [False, True, False]
    assert find("pixels", "multiplied by ten").right == "Ten times the old one."
