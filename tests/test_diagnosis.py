"""Symptoms of learning curves: in curves made up for them, in broken trainings, and in the book's records."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from pgcourse.experiments import checkpoints, curves, diagnosis, records, sweeps
from pgcourse.experiments.diagnosis import Run

ROOT = Path(__file__).parents[1]
BROKEN = json.loads((ROOT / "tests" / "curves" / "index.json").read_text(encoding="utf-8"))
N = 30


def titles(run, *, notes=True):
    return {found.symptom.title for found in diagnosis.diagnose(run) if notes or not found.symptom.is_note}


def made_up(values, *, noise=0.0, seed=0, **columns):
    """A run whose evaluations are these, with noise."""
    values = np.array(values, float) + noise * np.random.default_rng(seed).normal(size=len(values))
    known = {name: columns.pop(name) for name in list(columns) if name in Run.__dataclass_fields__}
    steps = np.linspace(0, 1000 * (len(values) - 1), len(values))
    return Run(curve={"n_steps": steps, "eval_return": values, **columns}, **known)


def learnt(n=N, low=20, high=500):
    """A curve that rises and has flattened in the last third."""
    return low + (high - low) / (1 + np.exp(-(np.arange(n) - n / 4) / (n / 20)))


@pytest.mark.parametrize("noise", [0, 5, 20, 40])
def test_a_curve_that_rises_and_flattens_is_healthy(noise):
    """Of 300 curves with independent noise, two may be called otherwise by chance."""
    found = [titles(made_up(learnt(), noise=noise, seed=seed)) for seed in range(300)]
    assert sum(map(bool, found)) <= 2 + (noise == 40)


def test_noise_without_a_trend_is_flat_and_nothing_else():
    """By chance, 5 % of such curves differ at their ends by more than two standard errors.

    The noise is estimated, too, so a few more are called something else: 4 % of those with 30 points.
    """
    found = [titles(made_up(np.full(N, 20.0), noise=3, seed=seed)) for seed in range(300)]
    assert sum(each == {"Return flat"} for each in found) > 0.85 * 300
    assert sum(bool(each - {"Return flat"}) for each in found) < 0.06 * 300


@pytest.mark.parametrize("curve", [np.zeros(2000), np.linspace(0, 500, 2000)], ids=["constant", "line"])
def test_noise_is_estimated_from_second_differences(curve):
    noisy = curve + 3 * np.random.default_rng(0).normal(size=2000)
    assert diagnosis._noise(noisy) == pytest.approx(3, rel=0.1)


def test_noise_is_not_mistaken_where_most_of_the_curve_stands_still():
    noisy = np.random.default_rng(0).normal(size=2000)
    noisy[500:] = 0
    assert diagnosis._noise(noisy) == pytest.approx(1, rel=0.2)


def test_the_trend_is_that_of_least_squares():
    run = made_up(learnt(), noise=10)
    change, error = run.main.trend()
    x, y = np.arange(10), run.main.values[-10:]
    assert change == pytest.approx(9 * np.polyfit(x, y, 1)[0])
    assert error == pytest.approx(9 * run.main.noise / math.sqrt(((x - x.mean()) ** 2).sum()))


up, down = np.linspace(20, 500, N // 2), np.linspace(500, 60, N - N // 2)
swings = np.concatenate([np.linspace(20, 500, 10), np.linspace(500, 100, 5), np.linspace(100, 480, 8)])
swings = np.concatenate([swings, np.linspace(480, 90, 7)])
rows = np.arange(N)
CASES = {
    "Return flat": made_up(np.full(N, 20.0), noise=1),
    "Return falls from the first step": made_up(np.linspace(25, 9, N), noise=0.5),
    "Good, then gone": made_up(np.concatenate([up, down]), noise=5),
    "Up and down": made_up(swings, noise=5),
    "Plateau below what is known": made_up(learnt(high=200), noise=5, goals={"eval_return": 500}),
    "Still rising at the end": made_up(np.linspace(20, 300, N), noise=5),
    "All returns equal": made_up(np.full(N, -500.0)),
    "Evaluation better than training": made_up(learnt(), noise=5, **{"return": np.full(N, 100.0) + rows % 3}),
    "Training better than evaluation": made_up(np.full(N, 20.0), noise=1, **{"return": learnt()}),
    "Saw-tooth at checkpoints": made_up(
        learnt(), checkpoint_interval=3000, **{"return": learnt() - 150 * (rows % 3 == 1)}
    ),
    "Too few episodes to tell": made_up(learnt(high=60), eval_error=30),
    "Entropy collapses": made_up(np.full(N, 10.0), noise=1, entropy=0.69 * np.exp(-rows / 2)),
    "Entropy does not fall": made_up(np.full(N, 20.0), noise=1, entropy=np.full(N, 0.69)),
    "Gradient norm zero": made_up(np.full(N, 20.0), noise=1, gradient_norm=np.exp(-rows.astype(float))),
    "Not a number": made_up(learnt(), surrogate=np.where(rows == 20, np.inf, 1.0)),
    "Value loss explodes": made_up(learnt(), critic_loss=np.full(N, 1e6)),
    "Q without bound": made_up(learnt(), q=1.5**rows, reward=np.ones(N), gamma=0.99),
}


@pytest.mark.parametrize("title", CASES)
def test_each_symptom_is_found_in_a_curve_made_up_for_it(title):
    assert title in titles(CASES[title])


def test_every_symptom_has_a_case_and_a_section_in_the_book():
    named = [symptom.title for symptom in diagnosis.SYMPTOMS]
    assert set(named) == set(CASES)
    cells = json.loads((ROOT / "book" / "curves.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for symptom in (*diagnosis.SYMPTOMS, diagnosis.SEEDS):
        assert f"\n## {symptom.title}\n" in f"\n{text}"
        assert symptom.anchor == symptom.title.lower().replace(",", "").replace(" ", "-")


@pytest.mark.parametrize("title", CASES)
def test_units_do_not_matter(title):
    """Returns in cents find the same as returns in euros, with a bonus of 7 for every episode or without."""
    run, scale = CASES[title], 100.0
    powers = {"eval_return": 1, "return": 1, "reward": 1, "q": 1, "critic_loss": 2}
    curve = {name: column * scale ** powers.get(name, 0) for name, column in run.curve.items()}
    goals = {name: goal * scale for name, goal in run.goals.items()}
    error = None if run.eval_error is None else run.eval_error * scale
    same = Run(
        curve=curve,
        goals=goals,
        eval_error=error,
        gamma=run.gamma,
        checkpoint_interval=run.checkpoint_interval,
    )
    assert titles(same) == titles(run)


def test_a_metric_that_begins_late_is_no_missing_number():
    late = np.where(rows < 5, np.nan, 1.0)
    assert titles(made_up(learnt(), critic_loss=late)) == set()
    assert titles(made_up(learnt(), critic_loss=late[::-1])) == {"Not a number"}


def test_a_single_dip_is_no_symptom():
    curve = learnt()
    curve[20] = 100
    assert titles(made_up(curve, noise=5)) == set()


def test_a_small_entropy_is_no_symptom_of_a_good_policy():
    run = made_up(learnt(), noise=5, entropy=0.69 * np.exp(-rows / 2), goals={"eval_return": 500})
    assert titles(run) == set()


def test_seeds_that_agree_and_seeds_that_do_not():
    good = [made_up(learnt(), noise=10, seed=seed) for seed in range(3)]
    assert diagnosis.compare(good) == []
    [found] = diagnosis.compare([*good, made_up(np.full(N, 20.0), noise=5)])
    assert found.symptom.title == "Seeds disagree"
    assert diagnosis.compare(good[:1]) == []


@pytest.mark.parametrize("name", BROKEN)
def test_recorded_broken_trainings(name):
    """``held-out`` were recorded before the rules were fixed, and looked at afterwards.

    A broken one must show one of the symptoms expected; a good one none, notes aside.
    """
    about = BROKEN[name]
    run = Run(
        curve=curves.read(ROOT / "tests" / "curves" / f"{name}.csv"),
        gamma=about["gamma"],
        goals=diagnosis.recorded_goals(about["recipe"]),
        checkpoint_interval=about["checkpoint_interval"],
    )
    found = titles(run) if about["symptoms"] else titles(run, notes=False)
    assert found & set(about["symptoms"]) or found == set(about["symptoms"])


# Of all runs in records, those in which something is wrong, and it is true of each.
WRONG = {
    ("ddpg/suite-pendulum-swingup", 2): {"Plateau below what is known"},  # 52, and the other seeds 600 to 850
    ("ddpg/walker", 1): {"Good, then gone"},  # 834 at step 45,000, and then about 330 to the end
    ("ppo/cartpole", 0): {"Up and down"},  # 474, 72, 176, 384, 144 before it stays at 500
    ("ppo/half-cheetah", 3): {"Plateau below what is known"},  # 1,017, and the other seeds 1,417 to 2,075
}


def test_every_record_of_the_book_is_healthy_or_known_not_to_be():
    names = {record.name for record in records.find()}
    goals = {name: diagnosis.recorded_goals(name) for name in names}
    found = {}
    for record in records.find():
        wrong = titles(diagnosis.of_record(record, goals[record.name]), notes=False)
        if wrong:
            found[record.name, record.seed] = wrong
    assert found == WRONG


def test_a_run_that_has_not_finished_is_read_and_said_to_be_so(tmp_path):
    [record] = sweeps.run(
        "reinforce/cartpole",
        steps=20_000,
        checkpoint_interval=5_000,
        settings={"batch_size": 500},
        folder=tmp_path,
        n_jobs=1,
        progress=False,
    )
    metadata = {name: value for name, value in record.metadata.items() if name not in ("result", "digests")}
    (record.folder / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    [[(name, run)]] = diagnosis.load(tmp_path).values()
    assert name == "reinforce/cartpole batch_size=500 seed 0 (not finished)"
    assert run.eval_error is None
    (record.folder / "curve.csv").unlink()
    with pytest.raises(ValueError, match=r"seed-0 holds a run that has no curve yet"):
        diagnosis.load(tmp_path)


def test_a_curve_alone_is_read(tmp_path):
    shutil.copy(next(records.find()).folder / "curve.csv", tmp_path)
    for source in (tmp_path, tmp_path / "curve.csv"):
        [[(name, run)]] = diagnosis.load(source).values()
        assert name == str(tmp_path / "curve.csv")
        assert run.goal is None


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run and no curve\.csv"):
        diagnosis.load(tmp_path)
    path = tmp_path / "curve.csv"
    path.write_text("n_steps,eval_return\n0,20\n1000,30\n", encoding="utf-8")
    with pytest.raises(
        ValueError,
        match=r"curve\.csv: curve must have at least 8 values .* got 2 of eval_return and 0 of return",
    ):
        diagnosis.load(path)
    checkpoints.atomic_write(path, b"n_steps,eval_return\n0,twenty\n")
    with pytest.raises(ValueError, match=r"curve\.csv is damaged"):
        diagnosis.load(path)
    with pytest.raises(ValueError, match=r"must have n_steps, .* got eval_return"):
        Run(curve={"eval_return": np.ones(9)})
    with pytest.raises(ValueError, match=r"of one length, got n_steps \(8,\), eval_return \(9,\)"):
        Run(curve={"n_steps": np.arange(8), "eval_return": np.ones(9)})
    with pytest.raises(ValueError, match="must not descend"):
        Run(curve={"n_steps": -np.arange(9), "eval_return": np.ones(9)})
