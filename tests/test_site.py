"""The built site as its readers meet it: every page of the table of contents in a headless Chromium."""

import gzip
import json
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from browser import find, served
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
FLAGS = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
FLAGS += " disable-component-update disable-sync"


def files(toc):
    """Yield the page names of a table of contents, the root first, in reading order."""
    if isinstance(toc, dict):
        yield from (
            toc[key].removesuffix(".md").removesuffix(".ipynb") for key in ("root", "file") if key in toc
        )
    for branch in toc.values() if isinstance(toc, dict) else toc if isinstance(toc, list) else []:
        yield from files(branch)


PAGES = list(files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))

# Typeset, complete, nothing folded away and nothing fading.
READY = """async () => {
  const style = document.head.appendChild(document.createElement("style"));
  style.textContent = "* { transition: none !important; animation: none !important; }";
  await window.MathJax?.startup?.promise;
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const button of document.querySelectorAll("button.toggle-button-hidden")) button.click();
  for (const image of document.images) image.loading = "eager";
  await Promise.allSettled([...document.images].map(image => image.decode()));
}"""

# Formulas that are not typeset, and TeX left in the text.
MATHS = r"""() => {
  const bare = [...document.querySelectorAll(".math")].filter(e => !e.querySelector("mjx-container"));
  const bad = bare.map(e => e.textContent);
  const wrong = [...document.querySelectorAll("mjx-merror, [data-mjx-error]")];
  bad.push(...wrong.map(e => e.dataset.mjxError ?? e.textContent));
  const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const {data, parentElement} = nodes.currentNode;
    if (/\\[a-z([]|\$\$/i.test(data) && !parentElement.closest("pre, code, script, style")) bad.push(data);
  }
  return bad;
}"""

IMAGES = """() => [...document.images].filter(
  image => !image.naturalWidth || !image.alt.trim() || /\\.(png|svg|webp|jpe?g|gif)$/.test(image.alt)
).map(image => `${image.src.slice(0, 80)} alt="${image.alt}" width=${image.naturalWidth}`)"""

# How far the page can be scrolled sideways and what sticks out; formulas whose left end no scrolling reaches.
OVERFLOW = """() => {
  const formulas = [...document.querySelectorAll("mjx-container")];
  const hidden = formulas.filter(e => e.getBoundingClientRect().left < 0);
  if (hidden.length) return hidden.map(e => e.textContent);
  const excess = document.scrollingElement.scrollWidth - innerWidth;
  const name = e => `${e.localName}.${e.className}`;
  return excess > 0 ? [`${excess} px`, ...[...document.body.querySelectorAll("*")]
    .filter(e => e.getBoundingClientRect().right > innerWidth).slice(0, 5).map(name)] : [];
}"""

# Display equations that a column of this width cuts off.
CUT_OFF = """() => [...document.querySelectorAll("div.math")].filter(
  e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40))"""

# What a reader of a baked figure sees: its visible frames, and label, text and spoken text of its sliders.
LOOK = """figure => ({
  frames: [...figure.querySelectorAll(":scope > div > :is(img, figure)")].filter(
    f => f.checkVisibility()).map(
    f => [f.alt ?? f.parentElement.ariaLabel, f.src ?? f.querySelector("video").src]),
  sliders: [...figure.querySelectorAll("label")].map(l => [
    l.querySelector("span").innerText, l.querySelector("output").innerText,
    l.querySelector("input").ariaValueText]),
})"""

INTO_THE_GLOSSARY = "article a[href*='glossary.html#']"
SHOWN = ".definition:popover-open"
QUICK_CHECKS = "form.quick-check"

PLAY = """async video => {
  const poster = Object.assign(new Image(), {src: video.poster}), start = video.currentTime;
  video.muted = true;
  const failure = await poster.decode().then(() => video.play()).then(() => null, error => error.message);
  const later = () => new Promise(then => setTimeout(then, 50));
  for (let i = 0; i < 100 && !failure && video.currentTime === start; i++) await later();
  video.pause();
  const labelled = document.getElementById(video.getAttribute("aria-labelledby"))?.textContent;
  const label = labelled ?? video.ariaLabel ?? video.title;
  return {failure: failure ?? video.error?.message, controls: video.controls, label: label.trim(),
    poster: poster.naturalWidth, width: video.videoWidth, seconds: video.currentTime - start};
}"""


@cache
def parse(file: Path) -> BeautifulSoup:
    return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(file: Path) -> set[str]:
    return {tag.get("id") or tag["name"] for tag in parse(file).select("[id], a[name]")}


@pytest.fixture(scope="session", autouse=True)
def site():
    if not (SITE / "index.html").exists():
        pytest.fail("There is no site in _build/html; run `make book` first", pytrace=False)
    with served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    path = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[f"--{flag}" for flag in FLAGS.split()]
        )
        yield browser
        browser.close()


# One process has all tests of a page, which it opens once.
EACH = [pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in PAGES]


@pytest.fixture(scope="module", params=EACH)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def visit(name, site, chromium):
    """A page, opened once for all its checks, and the list of what has gone wrong in it so far."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page, trouble = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    page.on(
        "request",
        lambda r: r.url.startswith((site, "data:", "blob:")) or trouble.append(f"third party: {r.url}"),
    )
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url[:200]} {request.failure}"))
    page.on(
        "response",
        lambda response: response.status >= 400 and trouble.append(f"{response.status}: {response.url}"),
    )
    page.goto(f"{site}{name}.html")
    page.evaluate(READY)
    yield SimpleNamespace(page=page, trouble=trouble)
    context.close()


def resize(page, width):
    """Give the window a width and wait until the page has been laid out for it."""
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function("width => innerWidth === width", arg=width)
    page.evaluate("() => new Promise(then => requestAnimationFrame(() => requestAnimationFrame(then)))")


def test_every_link_leads_somewhere(name):
    file = SITE / f"{name}.html"
    dead = []
    for link in parse(file).find_all("a", href=True):
        url = urlsplit(link["href"])
        if url.scheme or url.netloc:
            continue
        target = file.parent / unquote(url.path) if url.path else file
        target = (target / "index.html" if target.is_dir() else target).resolve()
        if (
            not target.is_relative_to(SITE)
            or not target.is_file()
            or (url.fragment and unquote(url.fragment) not in anchors(target))
        ):
            dead.append(link["href"])
    assert dead == []


def test_maths_is_typeset(visit):
    assert visit.page.evaluate(MATHS) == []


def test_every_image_loads_and_says_what_it_shows(visit):
    assert visit.page.evaluate(IMAGES) == []


def test_every_exercise_of_a_notebook_is_a_box_with_its_solution(name):
    """Five of a notebook are five boxes, each with an address, and five solutions that lead to them."""
    notebook, page = ROOT / f"{name}.ipynb", parse(SITE / f"{name}.html")
    text = (
        "".join("".join(cell["source"]) + "\n" for cell in json.loads(notebook.read_text("utf-8"))["cells"])
        if notebook.exists()
        else ""
    )
    addresses = [
        f"exercise-{number.replace('.', '-')}"
        for number in re.findall(r"^\*\*([\dA-Z]\.\d+)\*\* ", text, flags=re.M)
    ]
    assert [box["id"] for box in page.select(".exercise")] == addresses
    assert [link["href"] for link in page.select(".solution > .admonition-title > a")] == [
        f"#{address}" for address in addresses
    ]


@pytest.mark.parametrize("width", [375, 1000, 1200, 1280])
def test_nothing_sticks_out(visit, width):
    resize(visit.page, width)
    assert visit.page.evaluate(OVERFLOW) == []


def test_no_equation_is_cut_off_on_a_desktop(visit):
    resize(visit.page, 1280)
    assert visit.page.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(visit, scheme):
    resize(visit.page, 1280)
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    violations = Axe().run(visit.page, options={"preload": False}).response["violations"]
    found = [
        f"{violation['id']}: {' '.join(map(str, node['target']))}\n"
        f"{node['html'][:200]}\n{node['failureSummary']}"
        for violation in violations
        for node in violation["nodes"]
        if node["impact"] in ("serious", "critical")
    ]
    assert not found, "\n\n".join(found)


def look(figure, scripted=True):
    """Return the one visible frame, having made sure that it is the one its sliders name."""
    seen = figure.evaluate(LOOK)
    assert len(seen["frames"]) == 1, f"{len(seen['frames'])} frames are visible"
    [(alt, source)] = seen["frames"]
    assert alt.endswith(", ".join(f"{label} = {text}" for label, text, _ in seen["sliders"]))
    assert not scripted or all(spoken == text for _, text, spoken in seen["sliders"])
    return alt, source


def test_every_slider_changes_its_figure(visit):
    for figure in visit.page.locator("figure.explore").all():
        for slider in figure.locator("input[type=range]").all():
            last = int(slider.get_attribute("max"))
            press_through(visit.page.keyboard, figure, slider, last)
            drag_across(figure, slider)


def press_through(keyboard, figure, slider, last):
    slider.focus()
    keyboard.press("Home")
    seen = [look(figure)]
    for _ in range(last):
        keyboard.press("ArrowRight")
        seen.append(look(figure))
    assert len({alt for alt, _ in seen}) == last + 1, "a step does not move the slider"
    assert len({source for _, source in seen}) > 1, "the slider does not change the picture"
    for key, index in {"ArrowLeft": last - 1, "End": last, "Home": 0}.items():
        keyboard.press(key)
        assert look(figure) == seen[index], key


def drag_across(figure, slider):
    first, box = look(figure), slider.bounding_box()
    left, right = ({"x": box["width"] * where, "y": box["height"] / 2} for where in (0.03, 0.97))
    slider.click(position=right)
    assert look(figure)[0] != first[0], "a click does not move the slider"
    slider.drag_to(slider, source_position=right, target_position=left)
    assert look(figure) == first, "the slider cannot be dragged"


def definition(link):
    """Return what a link names as its description."""
    return link.page.locator(f"[id='{link.get_attribute('aria-describedby')}']")


@pytest.mark.parametrize("width", [375, 1280])
def test_with_the_focus_a_link_shows_its_definition(visit, width):
    """All of it within the window; Escape takes it away and leaves the focus where it is."""
    page = visit.page
    resize(page, width)
    page.keyboard.press("Tab")  # from here on, the focus is the keyboard's
    for link in page.locator(INTO_THE_GLOSSARY).all():
        link.focus()
        assert page.locator(SHOWN).count() == 1
        assert definition(link).get_attribute("role") == "tooltip"
        box = definition(link).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.keyboard.press("Escape")
        assert definition(link).is_hidden()
        assert link.evaluate("link => link === document.activeElement")


def test_under_the_pointer_a_link_shows_its_definition(visit):
    """It stays while it is pointed at, and goes with the pointer."""
    for link in visit.page.locator(INTO_THE_GLOSSARY).all()[:2]:
        link.hover()
        definition(link).wait_for()
        definition(link).hover()
        visit.page.wait_for_timeout(300)
        assert definition(link).is_visible()
        visit.page.mouse.move(0, 0)
        definition(link).wait_for(state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_definition_can_be_read(visit, scheme):
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    for link in visit.page.locator(INTO_THE_GLOSSARY).all()[:1]:
        visit.page.keyboard.press("Tab")
        link.focus()
        violations = Axe().run(visit.page, context=SHOWN, options={"preload": False}).response["violations"]
        assert violations == []
        visit.page.keyboard.press("Escape")


def test_a_quick_check_says_why_an_answer_is_right_or_wrong(visit):
    """With the keyboard alone, when asked to, and of one answer at a time."""
    page = visit.page
    forms = page.locator(QUICK_CHECKS).all()
    assert page.get_by_role("group", name="Quick check.").count() == len(forms)
    for form in forms:
        assert form.locator("details").is_hidden()
        said, answers, seen = form.get_by_role("status"), form.get_by_role("radio"), []
        answers.first.focus()
        page.keyboard.press("Space")
        for letter in "abcd"[: answers.count()]:
            assert said.text_content() == ""
            assert form.get_by_role("radio", checked=True).count() == 1
            page.keyboard.press("Enter")
            seen.append(said.text_content())
            assert seen[-1].startswith(f"({letter}) ")
            page.keyboard.press("ArrowDown")
        assert sum("Right." in text for text in seen) == 1
        page.keyboard.press("Tab")
        page.keyboard.press("Space")  # on the button
        assert said.text_content() == seen[0]  # behind the last answer comes the first


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_answered_quick_check_is_accessible_and_fits_a_phone(visit, scheme):
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    resize(visit.page, 375)
    for form in visit.page.locator(QUICK_CHECKS).all():
        form.scroll_into_view_if_needed()
        for formula in form.locator("label mjx-container").all():
            box = formula.bounding_box()
            visit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            assert formula.evaluate("formula => formula.closest('label').control.checked")
        form.get_by_role("radio").last.check()
        form.get_by_role("button", name="Check").click()
        assert form.get_by_role("status").is_visible()
    assert visit.page.evaluate(OVERFLOW) == []
    if visit.page.locator(QUICK_CHECKS).count():
        options = {"preload": False}
        assert Axe().run(visit.page, context=QUICK_CHECKS, options=options).response["violations"] == []


def test_every_video_plays(visit):
    for video in visit.page.locator("video").all():
        state = video.evaluate(PLAY)
        assert state.pop("failure") is None, state
        assert all(state.values()), state


def test_nothing_went_wrong_meanwhile(visit):
    visit.page.wait_for_load_state("networkidle")
    assert visit.trouble == []


def test_it_is_light(name, site, chromium):
    """All that it loads before anybody moves, as small as servers make it: under 1.5 MB."""
    with chromium.new_context() as context:
        page, paths = context.new_page(), set()
        page.on(
            "request",
            lambda request: (
                request.url.startswith(site) and paths.add(unquote(urlsplit(request.url).path).lstrip("/"))
            ),
        )
        page.goto(f"{site}{name}.html", wait_until="networkidle")
    assert 200_000 < sum(len(gzip.compress((SITE / path).read_bytes())) for path in paths) < 1_500_000


def test_it_has_a_card_for_those_who_share_it(name):
    """At the address at which GitHub publishes the repository."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    *_, owner, project = config["repository"]["url"].split("/")
    address = parse(SITE / f"{name}.html").find("meta", property="og:image")["content"]
    assert address.startswith(f"https://{owner}.github.io/{project}/")
    assert (SITE / address.split(f".io/{project}/")[1]).stat().st_size < 100_000


def test_without_script_each_figure_shows_one_frame(name, site, chromium):
    if not parse(SITE / f"{name}.html").select("figure.explore"):
        return
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site}{name}.html")
        page.evaluate(READY)
        for figure in page.locator("figure.explore").all():
            look(figure, scripted=False)


def test_without_script_a_quick_check_has_its_explanations_folded_away(name, site, chromium):
    if not parse(SITE / f"{name}.html").select(QUICK_CHECKS):
        return
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site}{name}.html")
        for form in page.locator(QUICK_CHECKS).all():
            assert form.locator("input:visible, button:visible").count() == 0
            assert form.locator("label:visible").count() == form.locator("li").count()
            assert form.locator("li:visible").count() == 0
            form.locator("summary").click()
            assert form.locator("li:visible").count() == form.locator("li").count()


@pytest.mark.parametrize(
    "what",
    [
        "figure.explore input[type=range]",
        "video",
        ".math",
        "img",
        ".exercise",
        INTO_THE_GLOSSARY,
        QUICK_CHECKS,
    ],
)
def test_the_checks_above_saw_at_least_one(what):
    assert any(parse(SITE / f"{name}.html").select(what) for name in PAGES)


def test_the_front_door_leads_to_the_first_page(site, chromium):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(site)
        page.wait_for_url(f"{site}{PAGES[0]}.html")


def test_on_a_touch_screen_the_first_tap_shows_the_definition_and_the_second_follows_the_link(site, chromium):
    phone = {"viewport": {"width": 375, "height": 800}, "has_touch": True, "is_mobile": True}
    with chromium.new_context(**phone) as context:
        page = context.new_page()
        page.goto(f"{site}book/01-policies.html")
        link = page.locator(INTO_THE_GLOSSARY).first
        link.tap()
        definition(link).wait_for()
        link.tap()
        page.wait_for_url("**/glossary.html#*")
        assert page.locator("section:target > h3").count() == 1


def test_search_finds_the_page_of_a_word(site, chromium):
    page = chromium.new_page()
    page.goto(f"{site}book/intro.html")
    page.keyboard.press("Control+K")
    page.keyboard.type("offline reinforcement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=offline*")
    page.wait_for_selector("#search-results li a")
    found = page.eval_on_selector_all("#search-results li > a", "all => all.map(a => a.href)")
    assert any("control-suite.html" in address for address in found)
    with page.expect_navigation():  # until it has loaded
        page.click(f"#search-results li > a[href*='{urlsplit(found[0]).path.split('/')[-1]}']")
    assert "offline" in page.inner_text("article").lower()
    page.close()
