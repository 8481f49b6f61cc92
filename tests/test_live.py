"""The button that trains, in a kernel's place: what a click shows, and what the page shows without one."""

import re

import ipywidgets
import numpy as np
import pytest

from pgcourse.experiments import recipes
from pgcourse.experiments.seeds import evaluate_at_once, train_at_once
from pgcourse.maths.statistics import probability_of_improvement
from pgcourse.teaching import live
from pgcourse.teaching.live import compare, train_button

NAME, SHORT = "actor-critic/cartpole", {"n_seeds": 3, "steps": 1000}
GRID = {"eta": [0.0001, 0.001, 0.01], "rollout_length": [8, 16]}


def parts(box):
    """Return the sliders of both settings, the button and what is shown below it."""
    columns, button, output = box.children
    return [column.children[1:] for column in columns.children], button, output


def test_a_click_trains_both_settings_and_the_curves_grow():
    columns, button, output = parts(train_button(NAME, **SHORT, **GRID))
    assert [[slider.description for slider in one] for one in columns] == [["η", "rollout length"]] * 2
    assert [[slider.value for slider in one] for one in columns] == [[0.0001, 8], [0.01, 16]]
    seen = []
    output.observe(lambda change: seen.append((change["new"], button.disabled)), "value")
    columns[0][0].value = 0.001
    button.click()
    assert not button.disabled
    assert all(disabled for _, disabled in seen)
    texts = [text for text, _ in seen]
    assert len(texts) == len(set(texts)) == live.N_ROWS + 1
    assert "A: η = 0.001, rollout length = 8" not in texts[0]  # in the picture, whose text is drawn
    assert 'alt="Learning curves of 3 seeds each: η = 0.001, rollout length = 8 and η = 0.01' in texts[0]
    assert re.search(r"P\(B better than A\) = \d\.\d+ \[", texts[-1])
    assert "P(B" not in texts[-2]


def test_the_probability_of_improvement_is_that_of_the_final_policies():
    recipe = recipes.get(NAME)
    settings = [{"eta": 0.0001}, {"eta": 0.005}]
    *_, last = compare(recipe, settings, 3, 2000)
    finals = []
    for one in settings:
        *_, curves = train_at_once(recipe, range(3), steps=2000, n_rows=live.N_ROWS, **one)
        finals.append(evaluate_at_once(recipe, curves.policy, live.N_EVAL_EPISODES, seed=0).mean(axis=1))
    assert f"= {probability_of_improvement(finals[1], finals[0])}<" in last
    assert np.ptp(finals[1]) > 0


def test_the_page_shows_the_result_where_the_sliders_start(monkeypatch):
    monkeypatch.setenv("PGCOURSE_BAKE", "1")
    shown = train_button(NAME, **SHORT, **GRID).data
    *_, last = compare(
        recipes.get(NAME),
        [{"eta": 0.0001, "rollout_length": 8}, {"eta": 0.01, "rollout_length": 16}],
        3,
        1000,
    )
    assert shown == last


def test_an_error_at_a_click_is_shown_and_the_button_works_again(monkeypatch):
    columns, button, output = parts(train_button(NAME, **SHORT, eta=[0.001, 0.01]))

    def refuse(*_):
        raise ValueError("eta must be < 1")

    with monkeypatch.context() as patch:
        patch.setattr(live, "compare", refuse)
        button.click()
    assert output.value == "<pre>eta must be &lt; 1</pre>"
    assert not button.disabled
    button.click()
    assert "P(B better than A)" in output.value
    assert isinstance(columns[0][0], ipywidgets.FloatSlider | ipywidgets.FloatLogSlider)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("actor-critic/cartpol", {"eta": [0.1]}, "there is no recipe 'actor-critic/cartpol'"),
        (NAME, {}, "grid must name at least one parameter, got none"),
        (NAME, {"eta": []}, "eta must have at least one value, got an empty sequence"),
        (NAME, {"etta": [0.1]}, "actor-critic/cartpole has no setting 'etta'"),
        (NAME, {"eta": [0.1], "n_seeds": 1}, "n_seeds must be a whole number of at least 2, got 1"),
        (NAME, {"eta": [0.1], "n_seeds": 1001}, "n_seeds must be at most 1,000, got 1,001"),
        (NAME, {"eta": 0.1}, "eta must be a sequence of values, got 0.1"),
        (NAME, {"eta": [0.1], "steps": 0}, "steps must be a whole number of at least 1, got 0"),
        (NAME, {"eta": [0.1, -1.0]}, "eta must be a positive number, got -1.0"),
        ("reinforce/cartpole", {"eta": [0.1]}, "seed must be one number"),
    ],
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(name, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        train_button(name, **options)
