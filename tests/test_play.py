"""The court and the network of the page *Play*, in a browser, against those of the package."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import find
from playwright.sync_api import sync_playwright

from pgcourse.environments.court import Court, replay
from pgcourse.environments.pong import ball_approaching
from pgcourse.experiments import records
from pgcourse.networks.pixels import PixelPolicy

ROOT = Path(__file__).parents[1]
SITE = "https://court.test/"

DECIDE = """([seed, right, left]) => {
  const court = new Court(seed), steps = right.map((a, t) => court.decide(a, left && left[t]));
  return Object.fromEntries(["reward", "done", "plus", "minus"].map(k => [k, steps.map(s => s[k])]));
}"""

THINK = """async ([url, frames]) => {
  const network = new Network(await (await fetch(url)).arrayBuffer());
  return frames.map(frame => network.probability(frame));
}"""

ON = """() => document.querySelector("[role=status]").textContent === "The game is on." """

# Decisions one after the other, without waiting for the screen; milliseconds for a frame with its picture.
HURRY = """n => {
  const {page} = document.querySelector(".court"), begin = performance.now();
  for (let frame = 0; frame < 4 * n; frame++) { page.step(); page.draw(); }
  return (performance.now() - begin) / (4 * n);
}"""


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """The folder of weights that the build puts beside the page."""
    folder = tmp_path_factory.mktemp("pong")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_ext")
        from selfcontained import write_policies

        write_policies(folder)
    return folder


def serve(policies, route):
    """Serve what the site has: the page's own HTML, the script, the policies."""
    name = route.request.url.removeprefix(SITE)
    if name == "book/play.html":
        text = (ROOT / "book" / "play.md").read_text(encoding="utf-8")
        html = re.search(r"```\{raw\} html\n(.*?)```", text, re.DOTALL)[1]
        route.fulfill(
            body=f"<!doctype html><title>Play</title>{html}", content_type="text/html; charset=utf-8"
        )
    elif name == "_static/court.js":
        route.fulfill(path=ROOT / "book" / name)
    elif (path := policies / name.removeprefix("_static/pong/")).exists():
        route.fulfill(path=path)
    else:
        route.fulfill(status=404)


@pytest.fixture(scope="module")
def page(policies):
    path = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(reduced_motion="reduce").new_page()
        page.asked, page.errors = [], []
        page.on("pageerror", lambda error: page.errors.append(error))
        page.on("request", lambda request: page.asked.append(request.url))
        page.route(f"{SITE}**", partial(serve, policies))
        page.goto(f"{SITE}book/play.html")
        yield page
        browser.close()


def played(seed, right, left=None):
    """Return what the court says of one game after another with these actions."""
    court, steps = Court(1, n_actions=3), []
    court.reset(seed=seed)
    for t, a in enumerate(right):
        x, r, _, _, info = court.step(np.array([a]), None if left is None else np.array([left[t]]))
        steps.append((x[0], r[0], bool(info["done"][0])))
    return steps


def lasting(rng, n, n_actions):
    """Actions that last for eight decisions on average, or the paddle would hardly move."""
    a = rng.integers(n_actions, size=n)
    keep = rng.random(n) < 7 / 8
    return a[np.maximum.accumulate(np.where(keep, 0, np.arange(n)))]


def test_weights_are_loaded_when_play_is_pressed_and_not_before(page):
    """Then the space bar is the pause, and whoever does not like things that move has half the speed."""
    assert not [url for url in page.asked if "policy" in url]
    assert page.get_by_label("half speed").is_checked()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(ON)
    assert len([url for url in page.asked if "policy" in url]) == 1
    assert page.evaluate("document.activeElement.localName") == "canvas"
    page.keyboard.press("Space")
    page.wait_for_selector("[role=status]:text('Paused.')")
    assert not page.errors
    assert page.get_by_role("button", name="Go on").is_visible()


def test_a_policy_that_cannot_be_loaded_is_said(page):
    page.evaluate("document.querySelector('option').value = '../_static/pong/none'")
    page.get_by_label("Trained for").select_option(index=0)
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector("[role=status]:text('could not be loaded')")
    page.get_by_label("Trained for").select_option(index=5)
    page.wait_for_function(ON)
    first = "../_static/pong/policy-000000000.safetensors"
    page.evaluate("value => { document.querySelector('option').value = value; }", first)


@pytest.mark.parametrize(("key", "at_the_end"), [("ArrowUp", 38), ("s", 204)])
def test_keys_move_the_paddle(page, key, at_the_end):
    page.get_by_label("Field of Pong").focus()
    page.keyboard.down(key)
    page.evaluate(HURRY, 40)
    page.keyboard.up(key)
    assert page.evaluate("document.querySelector('.court').page.court.left") == at_the_end


def test_the_paddle_follows_the_pointer(page):
    box = page.get_by_label("Field of Pong").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.evaluate(HURRY, 40)
    middle = page.evaluate("document.querySelector('.court').page.court.left") - 48 + 7
    assert abs(middle - 80) < 16
    page.mouse.move(0, 0)


def test_a_recorded_game_can_be_downloaded_and_played_again(page, tmp_path):
    """A line for each decision, whose rewards are those of the actions; without a record there is no file."""
    assert page.get_by_role("button", name="Download").is_hidden()
    page.get_by_label("record my game").check()
    page.wait_for_function(ON)
    page.keyboard.press("Space")
    for key in ("ArrowUp", "ArrowDown", "ArrowUp"):
        page.keyboard.down(key)
        assert page.evaluate(HURRY, 100) < 1000 / 60
        page.keyboard.up(key)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "my-game.csv")
    [game] = replay(tmp_path / "my-game.csv")
    assert len(game.a) >= 300
    assert {0, 1} <= set(game.a.tolist())
    assert -1 in game.r
    score = page.locator("[data-court=score]").inner_text().split(" : ")
    assert [(game.r == sign).sum() for sign in (1, -1)] == [int(points) for points in score]


@pytest.mark.parametrize("two_players", [False, True])
def test_10_000_decisions_are_the_same_in_javascript(page, two_players):
    rng = np.random.default_rng(two_players)
    right, left = lasting(rng, 10_000, 3), lasting(rng, 10_000, 3) if two_players else None
    theirs = page.evaluate(DECIDE, [7, right.tolist(), left.tolist() if two_players else None])
    steps = played(7, right, left)
    assert [r for _, r, _ in steps] == theirs["reward"]
    assert [done for *_, done in steps] == theirs["done"]
    assert sum(theirs["done"]) > 3
    for sign, key in ((1, "plus"), (-1, "minus")):
        for (x, *_), pixels in zip(steps, theirs[key], strict=True):
            assert np.flatnonzero(x == sign).tolist() == sorted(pixels)
    assert {1, -1} <= set(theirs["reward"]) or not two_players


def test_each_age_has_its_weights_and_no_more_than_2_6_mb(page, policies):
    options = page.locator("[data-court=age] option").all()
    assert options[0].inner_text() == "0 decisions"
    said = [int(option.inner_text().split()[0].replace(",", "")) for option in options]
    values = [option.evaluate("option => option.getAttribute('value')") for option in options]
    names = [value.rpartition("/")[2] for value in values]
    [record, *_] = records.load("reinforce/pong")
    steps = [0, *record.policy_steps(), record.metadata["result"]["n_steps"]]
    assert names == [*(f"policy-{n:09d}.safetensors" for n in steps[:-1]), "policy.safetensors"]
    assert all(abs(n - rounded) < 0.02 * n or n == 0 for n, rounded in zip(steps, said, strict=True))
    assert {path.name for path in policies.iterdir()} == set(names)
    assert all(path.stat().st_size < 2_600_000 for path in policies.iterdir())


@pytest.mark.parametrize("n_steps", [0, 100976, None])
def test_the_forward_pass_is_that_of_pytorch(page, policies, n_steps):
    """π(UP∣x) in double precision in JavaScript and in single precision in PyTorch, same weights: to 1e-5."""
    frames = np.array([x for x, *_ in played(0, lasting(np.random.default_rng(0), 500, 2))])
    [record, *_] = records.load("reinforce/pong")
    untrained = PixelPolicy(seed=record.seed).half().float()
    policy = untrained if n_steps == 0 else record.policy(n_steps)
    name = "policy" if n_steps is None else f"policy-{n_steps:09d}"
    sparse = [{k: np.flatnonzero(x == s).tolist() for k, s in (("plus", 1), ("minus", -1))} for x in frames]
    with torch.no_grad():
        expected = policy.logit(frames).sigmoid().double().numpy()
    found = page.evaluate(THINK, [f"../_static/pong/{name}.safetensors", sparse])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert expected.std() > (0.1 if n_steps != 0 else 0.001)


def test_the_script_is_short():
    assert len((ROOT / "book" / "_static" / "court.js").read_text("utf-8").splitlines()) <= 200


def test_what_the_page_says_of_the_network():
    """Untrained near one half; trained certain, wins with the steepest balls only, and loses to a rule."""
    [record, *_] = records.load("reinforce/pong")
    untrained, trained = PixelPolicy(seed=record.seed), record.policy()
    court, rng = Court(16, n_actions=3), np.random.default_rng(1)
    for policy, has_rule in ((untrained, False), (trained, False), (trained, True)):
        x, _ = court.reset(seed=1)
        y, certain, speeds, points = [], [], [], []
        for _ in range(500):
            vy, p = court.vy.copy(), policy.probabilities(x)[:, 1]
            above = court.left + 6 - court.y
            rule = np.where((abs(above) < 5) | (court.y == 0), 2, above > 0)
            certain += (abs(p - 0.5) > 0.45)[ball_approaching(x)].tolist()
            x, r, *_ = court.step((rng.random(16) < p).astype(int), rule if has_rule else None)
            y.append(p)
            speeds += abs(vy[r > 0]).tolist()
            points += r[r != 0].tolist()
        if policy is untrained:
            assert 0.45 < np.min(y) < np.max(y) < 0.55
        elif has_rule:
            assert np.mean(np.array(points) < 0) > 0.9
        else:
            assert np.mean(certain) > 0.9
            assert len(speeds) > 30
            assert set(speeds) == {2}
