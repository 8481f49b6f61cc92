"""Recorded runs of a language model: what is written is what was run, and is run once."""

import json

import numpy as np
import pytest

from pgcourse.algorithms.language_model import SequenceReinforceConfig
from pgcourse.experiments import language_models
from pgcourse.experiments.language_models import COLUMNS, RUNS, load, record
from pgcourse.experiments.settings import fields_of

SMALL = {"accuracy": 0.0, "n_updates": 4, "n_rows": 2, "n_prompts": 4, "samples_per_prompt": 2}


@pytest.fixture(autouse=True)
def a_few_problems(monkeypatch):
    class Few(language_models.Addition):
        def __init__(self, split="train"):
            super().__init__(split)
            self.prompts = self.prompts[:20]

    monkeypatch.setattr(language_models, "Addition", Few)


def test_a_run_is_written_and_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "runs.json"
    one, other = (record(path, seed, **SMALL) for seed in (0, 1))
    assert one["course"] != other["course"]
    stored = json.loads(path.read_text())
    np.testing.assert_equal(stored["runs"], [one, other])
    assert "commit" in stored["made"]
    monkeypatch.setattr(language_models, "run", None)
    np.testing.assert_equal(record(path, 0, **SMALL), one)


def test_runs_are_found_by_their_options_in_the_order_of_their_seeds(tmp_path):
    path = tmp_path / "runs.json"
    for seed in (1, 0):
        record(path, seed, **SMALL)
    record(path, 0, **SMALL, given=True)
    assert [one["seed"] for one in load(path, **SMALL)] == [0, 1]
    [supervised] = load(path, **SMALL, given=True)
    assert supervised["settings"]["given"]
    with pytest.raises(
        ValueError, match=r"^options must be those of recorded runs, {.*}, got {'n_updates': 7}$"
    ):
        load(path, n_updates=7)


def test_as_many_answers_are_given_as_would_be_drawn(monkeypatch):
    seen = []
    update = language_models.SupervisedFineTuning.update
    monkeypatch.setattr(
        language_models.SupervisedFineTuning,
        "update",
        lambda self: seen.append(self.config.batch_size) or update(self),
    )
    run = language_models.run(0, **SMALL, given=True)
    assert seen == [64] * 10 + [4 * 2] * 4  # the start, and what follows
    assert np.isnan(run["course"]["entropy"]).all()


def test_the_course_has_the_start_and_the_end(tmp_path):
    run = language_models.run(0, **SMALL)
    assert set(run["course"]) == set(COLUMNS)
    assert [len(column) for column in run["course"].values()] == [3] * len(COLUMNS)
    assert run["course"]["n_steps"][0] == 0 < run["course"]["n_steps"][1]
    assert all(0 <= x <= y <= 1 for x, y in (run["start"]["pass"], run["end"]["pass"]))
    assert run["settings"]["n_prompts"] == 4
    again = language_models.run(0, **SMALL)
    np.testing.assert_equal(again, run)


def test_the_learning_rate_ends_near_zero():
    settings = language_models.run(0, **SMALL | {"weighting": "grpo"})["settings"]
    assert settings["anneal_steps"] == 4 * 8 * 3  # the first problems have answers of three tokens
    assert settings["weighting"] == "grpo"


# The runs that ship

SHIPPED = json.loads(RUNS.read_text())
EXPERIMENTS = list({json.dumps(one["options"]): one["options"] for one in SHIPPED["runs"]}.values())


@pytest.mark.parametrize("options", EXPERIMENTS, ids=json.dumps)
def test_a_shipped_experiment_has_ten_complete_runs_with_the_settings_of_today(options):
    runs = load(**options)
    assert [one["seed"] for one in runs] == list(range(10))
    config = SequenceReinforceConfig(
        eta=0.001, **{k: v for k, v in options.items() if k not in ("n_updates", "given")}
    )
    assert config.n_prompts * config.samples_per_prompt == 512
    wanted = fields_of(config) | {"accuracy": 0.4, "n_rows": 10, "given": False} | options
    for one in runs:
        anneal_steps = one["settings"]["anneal_steps"]
        assert one["settings"] == wanted | {"anneal_steps": anneal_steps}
        assert one["course"]["n_steps"][-1] == pytest.approx(anneal_steps, rel=0.01)
        assert set(one["course"]) == set(COLUMNS)
        assert [len(column) for column in one["course"].values()] == [11] * len(COLUMNS)
        assert one["course"]["sampled"][0] < 0.5 < one["course"]["sampled"][-1]


def test_runs_of_a_seed_have_the_same_start():
    for seed in range(10):
        starts = [one["start"] for one in SHIPPED["runs"] if one["seed"] == seed]
        assert len(starts) == len(EXPERIMENTS) >= 12
        assert all(start == starts[0] for start in starts)


def test_the_shipped_runs_were_made_from_a_commit():
    assert len(SHIPPED["made"]["commit"]) == 40
