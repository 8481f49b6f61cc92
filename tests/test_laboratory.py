"""The laboratory: live widgets whose picture grows at a click, and the finished picture on the page."""

import html
import re

import numpy as np
import pytest

from pgcourse.experiments import recipes
from pgcourse.teaching import laboratory as lab
from pgcourse.teaching.laboratory import A, laboratory, train_in_turns

SHORT = {"batch_size": 512, "hidden_size": 5}


def parts(box):
    """Return the sliders of both settings, the button and what is shown below it."""
    columns, button, output = box.children
    return [column.children[1:] for column in columns.children], button, output


def test_the_one_that_is_behind_has_the_next_update_and_learns_as_if_alone():
    settings = [SHORT, SHORT | {"batch_size": 2048}]
    *_, last = train_in_turns(settings, 12_000)
    assert len(last[0].n_steps) > len(last[1].n_steps)
    for one, progress in zip(settings, last, strict=True):
        assert progress.n_steps[-2] < 12_000 <= progress.n_steps[-1]
        alone = recipes.get("reinforce/court").build(0, **one)
        updates = [alone.update() for _ in progress.n_steps]
        assert [metrics.n_steps for metrics in updates] == progress.n_steps.tolist()
        np.testing.assert_array_equal(
            [metrics.episode_returns.mean() for metrics in updates], progress.reward
        )
        np.testing.assert_array_equal(alone.env.fields[0], progress.field)


def test_a_click_trains_both_settings_and_the_picture_grows():
    columns, button, output = parts(laboratory(SHORT, SHORT | {"gamma": 0.9}, steps=20_000))
    described = ["η", "γ", "batch size", "baseline", "hidden units"]
    assert [[slider.description for slider in one] for one in columns] == [described] * 2
    assert [slider.value for slider in columns[0]] == [A["eta"], A["gamma"], 512, "none", 5]
    seen = []
    output.observe(lambda change: seen.append((change["new"], button.disabled)), "value")
    columns[0][0].value = 0.001
    columns[1][3].value = "leave-one-out"
    button.click()
    assert not button.disabled
    assert all(disabled for _, disabled in seen)
    texts = [html.unescape(re.search('alt="([^"]*)"', text)[1]) for text, _ in seen]
    assert 3 < len(texts) <= lab.N_PICTURES + 2
    decisions = [int(re.findall(r"after ([\d,]+) decisions", text)[0].replace(",", "")) for text in texts]
    assert decisions == sorted(decisions)
    assert "A, η = 0.001, γ = 0.97, batch size = 512, baseline = none, hidden units = 5:" in texts[-1]
    assert "B, η = 0.012, γ = 0.9, batch size = 512, baseline = leave-one-out" in texts[-1]


def test_the_page_shows_the_finished_picture_without_a_button(monkeypatch):
    monkeypatch.setenv("PGCOURSE_BAKE", "1")
    shown = laboratory(SHORT, SHORT | {"gamma": 0.9}, steps=4000).data
    settings = [A | SHORT, A | SHORT | {"gamma": 0.9}]
    *_, last = train_in_turns(settings, 4000)
    assert shown == lab._picture(settings, last, 4000)
    assert shown.startswith('<div class="laboratory"><img alt="Reward per point')


def test_an_error_at_a_click_is_shown_and_the_button_works_again(monkeypatch):
    _, button, output = parts(laboratory(SHORT, SHORT, steps=2000))

    def refuse(*_):
        raise ValueError("eta must be < 1")

    with monkeypatch.context() as patch:
        patch.setattr(lab, "train_in_turns", refuse)
        button.click()
    assert output.value == "<pre>eta must be &lt; 1</pre>"
    assert not button.disabled
    button.click()
    assert output.value.startswith('<div class="laboratory"><img')


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (({"etta": 0.1},), {}, "reinforce/court has no setting 'etta'"),
        (({"eta": -1.0},), {}, "eta must be a positive number, got -1.0"),
        ((), {"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ],
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        laboratory(*arguments, **options)
