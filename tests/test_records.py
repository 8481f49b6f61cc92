"""Records are found, replayed, and say where they come from. At the end: every record that ships."""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from pgcourse.environments.tasks import Task
from pgcourse.environments.worlds import access_control
from pgcourse.experiments import checkpoints, recipes, records, sweeps
from pgcourse.experiments.records import Record
from pgcourse.experiments.settings import format_value
from pgcourse.maths.statistics import bootstrap_band, iqm
from pgcourse.networks.policies import SoftmaxPolicy

ROOT = Path(__file__).parents[1]
NAME, OVERRIDES = "reinforce/cartpole", {"batch_size": 501}
SHIPPED = list(records.find())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    sweeps.run(
        NAME,
        seeds=3,
        settings=OVERRIDES,
        steps=4000,
        checkpoint_interval=2000,
        folder=folder,
        n_jobs=1,
        progress=False,
    )
    return folder


@pytest.fixture
def record(runs, tmp_path):
    """A finished run, to be tampered with."""
    [first, *_] = records.find(runs)
    return Record(shutil.copytree(first.folder, tmp_path / "run"))


def rewritten(record, **changes):
    """The run with another run.json, without digests: its entries replaced, or removed where None."""
    changes = {"digests": None} | changes
    metadata = {name: value for name, value in (record.metadata | changes).items() if value is not None}
    (record.folder / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    return Record(record.folder)


def with_returns(record, returns):
    return rewritten(record, result=record.metadata["result"] | {"returns": list(returns)})


def balancing():
    """A policy by hand that keeps the pole up for all of 500 steps: push to where it falls."""
    policy = SoftmaxPolicy(4, 2)
    with torch.no_grad():
        for w in policy.parameters():
            w.zero_()
        policy.layers[0].weight[0, 2:] = torch.tensor([1.0, 0.3])
        policy.layers[0].weight[1, 2:] = -torch.tensor([1.0, 0.3])
        policy.layers[2].weight[1, 0] = policy.layers[2].weight[0, 1] = 10_000
    return policy


def test_finished_runs_are_found_by_name_and_settings(runs):
    loaded = records.load(NAME, runs, **OVERRIDES)
    assert [record.seed for record in loaded] == [0, 1, 2]
    assert [str(record.folder) for record in loaded] == [
        record.folder.as_posix() for record in records.find(str(runs))
    ]
    for record in loaded:
        assert record.finished
        assert record.label == "reinforce/cartpole batch_size=501"
        assert record.returns.shape == (100,)
        assert record.mean_return == record.returns.mean()
        assert repr(record) == f"Record({str(record.folder)!r})"


def test_runs_are_found_in_order_of_settings_and_seed(record, tmp_path):
    wanted = [("a", {}, 2), ("a", {}, 10), ("a", {"eta": 0.1}, 0), ("b", {}, 1)]
    for i, (name, changed, seed) in enumerate(reversed(wanted)):
        rewritten(
            Record(shutil.copytree(record.folder, tmp_path / "many" / str(i))),
            recipe=name,
            overrides=changed,
            seed=seed,
        )
    assert [(r.name, r.overrides, r.seed) for r in records.find(tmp_path / "many")] == wanted


def test_a_recorded_run_says_what_it_was_made_with(record):
    metadata = record.metadata
    assert metadata["settings"] == recipes.get(NAME).defaults | OVERRIDES
    assert (metadata["budget"], metadata["checkpoint_interval"]) == ([4000, "steps"], 2000)
    [session] = metadata["sessions"]
    assert session.pop("began")[:2] == "20"
    assert session == records.provenance()


def test_the_curve_is_what_training_reported(record):
    curve, result = record.curve(), record.metadata["result"]
    assert (np.diff(curve["n_steps"]) > 0).all()
    assert [curve[name][-1] for name in ("n_updates", "n_steps", "n_episodes")] == [
        result[n] for n in ("n_updates", "n_steps", "n_episodes")
    ]
    steps, means = record.evaluations()
    assert steps[0] == 0
    assert len(steps) == len(means) == 3  # before training, at 2,000 and at the end
    assert steps[-1] == curve["n_steps"][-1]


def test_the_replayed_policy_agrees_with_its_record(record):
    check = record.verify()
    assert check.agrees
    assert check.recorded == record.mean_return
    assert check.low < check.replayed - check.recorded < check.high
    replayed = recipes.get(NAME).evaluate(record.policy(), 100, seed=1)
    assert check.replayed == replayed.mean()
    assert str(check).startswith(
        f"recorded {record.mean_return:.4g}, replayed {replayed.mean():.4g}, difference "
    )
    assert str(check).endswith(": agrees")


def test_returns_of_another_policy_are_detected(record):
    """Half as much again, some 50 more by the pole's steps: ten standard errors."""
    check = with_returns(record, 2 * record.returns).verify()
    assert not check.agrees
    assert str(check).endswith(": DISAGREES")


def test_a_policy_of_other_returns_is_detected(record):
    """With noise as weights an episode has some 10 to 25 steps, with this policy twice as many."""
    policy = record.policy()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for w in policy.parameters():
            w.copy_(torch.randn(w.shape, generator=generator))
    checkpoints.save_weights(record.folder / "policy.safetensors", policy)
    assert not record.verify().agrees


@pytest.mark.parametrize("seed", range(6))
def test_the_replay_check_is_students_t_test(record, seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 40, size=2)
    record = with_returns(record, rng.normal(rng.uniform(20, 60), rng.uniform(1, 30), m))
    replayed = recipes.get(NAME).evaluate(record.policy(), int(n), seed)
    check, oracle = record.verify(int(n), seed), stats.ttest_ind(replayed, record.returns)
    assert check.p == pytest.approx(oracle.pvalue, rel=1e-9)
    assert (check.low, check.high) == pytest.approx(oracle.confidence_interval(0.95), rel=1e-9)
    assert (check.replayed, check.recorded) == pytest.approx(
        (replayed.mean(), record.returns.mean()), rel=1e-12
    )


def test_a_few_lucky_episodes_are_no_disagreement(record):
    """One in four falls over, and by chance, one in ten, none of eight does."""
    checkpoints.save_weights(record.folder / "policy.safetensors", balancing())
    assert with_returns(record, [500] * 75 + [10] * 25).verify(8).agrees
    assert not with_returns(record, [500] * 25 + [10] * 75).verify(20).agrees


def test_returns_that_do_not_vary_must_be_equal(record):
    checkpoints.save_weights(record.folder / "policy.safetensors", balancing())
    check = with_returns(record, [500] * 5).verify(5)
    assert check == (500, 500, 0, 0, 1)
    assert check.agrees
    check = with_returns(record, [499] * 5).verify(5)
    assert check == (499, 500, 1, 1, 0)
    assert not check.agrees
    assert with_returns(record, [499, 501] * 5).verify(5).agrees  # one that varies is enough for an interval


def test_returns_that_differ_by_rounding_are_equal(record, monkeypatch):
    """The mean of a hundred 0.3 is 0.3, that of twenty 0.29999999999999993."""
    assert np.full(100, 0.3).mean() != np.full(20, 0.3).mean()
    monkeypatch.setattr(recipes.Recipe, "evaluate", lambda self, policy, n, seed: np.full(n, 0.3))
    assert with_returns(record, [0.3] * 20).verify(100).agrees
    assert with_returns(record, [0.1 + 0.2] * 20).verify(100).agrees
    assert not with_returns(record, [0.3001] * 20).verify(100).agrees


def test_half_precision_is_enough(record):
    """The file holds 16 bits a weight, of which 11 count."""
    weights = [np.asarray(w.detach()) for w in record.policy().parameters()]
    assert all((w == w.astype(np.float16)).all() for w in weights)
    assert (record.folder / "policy.safetensors").stat().st_size < 2 * sum(w.size for w in weights) + 1000


def test_greedy_returns_are_recorded_from_the_same_initial_states(record):
    """An almost deterministic policy draws its most probable actions; a partially trained one does not."""
    assert record.greedy_returns.shape == record.returns.shape
    assert (record.greedy_returns != record.returns).any()
    fresh = sweeps._evaluation_seed(record.seed, -1)
    assert (
        recipes.get(NAME).evaluate(record.policy(), 100, fresh, greedy=True) == record.greedy_returns
    ).all()
    assert (recipes.get(NAME).evaluate(record.policy(), 100, fresh) == record.returns).all()
    result = {name: value for name, value in record.metadata["result"].items() if name != "greedy_returns"}
    with pytest.raises(ValueError, match=r"run\.json holds no greedy_returns in its result$"):
        _ = rewritten(record, result=result).greedy_returns


def test_a_policy_saved_during_training_is_found_by_its_steps(record):
    assert record.policy_steps() == []
    other = SoftmaxPolicy(4, 2, seed=9)
    checkpoints.save_weights(record.folder / "policy-000002016.safetensors", other)
    checkpoints.save_weights(record.folder / "policy-000000000.safetensors", balancing())
    assert record.policy_steps() == [0, 2016]
    assert torch.equal(record.policy(2016).layers[0].weight, other.layers[0].weight.half().float())
    assert not torch.equal(record.policy().layers[0].weight, record.policy(2016).layers[0].weight)
    with pytest.raises(
        ValueError, match=r"^n_steps must be one of \[0, 2016\], where the policy was saved, got 7$"
    ):
        record.policy(7)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ppo/cartpole", {"rollout_length": 4, "minibatch_size": 32}),
        ("actor-critic/cartpole", {"rollout_length": 1, "standardize": True}),
    ],
)
def test_a_policy_does_not_depend_on_how_many_environments_it_learnt_from(name, settings, tmp_path):
    """One environment would be too few for these settings, of eight."""
    budget = {"steps": 64, "checkpoint_interval": 64}
    [record] = sweeps.run(name, settings=settings, folder=tmp_path, n_jobs=1, progress=False, **budget)
    fresh = sweeps._evaluation_seed(record.seed, -1)
    assert (recipes.get(name).evaluate(record.policy(), 100, fresh) == record.returns).all()


def test_an_unfinished_run_is_found_but_not_loaded_and_has_no_returns(record, tmp_path):
    record = rewritten(record, result=None)
    (record.folder / "policy.safetensors").unlink()
    assert not record.finished
    assert [r.folder for r in records.find(tmp_path)] == [record.folder]
    assert len(record.curve()["n_steps"])
    advice = f"continue it with: pgcourse resume {record.folder}"
    message = f"^{record.folder} holds a run that has not finished; {advice}$"
    for call in (
        lambda: record.returns,
        lambda: record.greedy_returns,
        lambda: record.mean_return,
        record.verify,
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(
        ValueError,
        match=f"^there is no record of reinforce/cartpole batch_size=501 in {tmp_path}; there are none$",
    ):
        records.load(NAME, tmp_path, **OVERRIDES)


def test_load_names_what_there_is_instead(runs):
    for call, wanted in [
        (lambda: records.load(NAME, runs), NAME),
        (lambda: records.load("nothing/here", runs), "nothing/here"),
        (lambda: records.load(NAME, runs, batch_size=502), f"{NAME} batch_size=502"),
        (lambda: records.load(NAME, runs, **OVERRIDES, eta=0.5), f"{NAME} batch_size=501 eta=0.5"),
    ]:
        with pytest.raises(
            ValueError, match=f"^there is no record of {wanted} in {runs}; there are {NAME} batch_size=501$"
        ):
            call()


def test_a_folder_without_a_run_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere", str(tmp_path)):
        with pytest.raises(
            ValueError, match=f"^folder must hold a run, got {folder}, where there is no run.json$"
        ):
            Record(folder)
    assert list(records.find(tmp_path)) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: '"text"',
        lambda text: "{}",
        *[
            lambda text, name=name: json.dumps(
                {key: value for key, value in json.loads(text).items() if key != name}
            )
            for name in ("recipe", "seed", "overrides", "settings", "budget", "checkpoint_interval")
        ],
    ],
)
def test_a_damaged_run_json_is_named(record, damage):
    path = record.folder / "run.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    for call in (lambda: Record(record.folder), lambda: list(records.find(record.folder))):
        with pytest.raises(ValueError, match=f"^{path} is damaged: (JSONDecodeError|KeyError|TypeError): "):
            call()


def test_every_flipped_bit_of_run_json_is_noticed_or_changes_nothing(record):
    """Only a blank, and the name of the digests, may change."""
    path = record.folder / "run.json"
    whole, results = path.read_bytes(), record.metadata["result"]
    rng = np.random.default_rng(0)
    for i, bit in zip(rng.permutation(len(whole)), rng.integers(8, size=len(whole)), strict=True):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
        with contextlib.suppress(ValueError):
            found = Record(record.folder)
            assert found.metadata["result"] == results
            assert found.metadata["settings"] == record.metadata["settings"]


def test_a_curve_that_was_changed_is_damaged(record):
    path = record.folder / "curve.csv"
    text = path.read_text()
    path.write_text(text.replace("1", "2", 1))
    with pytest.raises(ValueError, match=f"^{path} is damaged: its digest is not the one in run.json$"):
        record.curve()
    path.write_text(text)
    record.curve()


def test_records_without_digests_are_read_as_before(record):
    old = rewritten(record)
    assert "digests" not in old.metadata
    assert (old.returns == record.returns).all()
    old.curve()


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": 3},
        {"seed": "0"},
        {"overrides": []},
        {"settings": "all"},
        {"budget": [4000]},
        {"budget": ["4000", "steps"]},
        {"budget": [float("nan"), "steps"]},
        {"checkpoint_interval": "2000"},
        {"result": []},
        {"result": {"returns": []}},
        {"result": {"returns": "many"}},
        {"result": {"returns": [1, "2"]}},
        {"digests": 3},
        {"digests": {"run.json": "0"}},
    ],
)
def test_values_of_other_types_in_run_json_are_damage(record, changes):
    with pytest.raises(ValueError, match=rf"^{record.folder}/run\.json is damaged: "):
        rewritten(record, **changes)


def test_bytes_that_are_no_text_are_damage(record):
    (record.folder / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"run.json is damaged: UnicodeDecodeError: "):
        Record(record.folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.splitlines()[0] + "\n",  # no row
        lambda text: text[:-30],  # torn in the middle of the last row
        lambda text: text[:-3],  # or of its last number
        lambda text: text.replace("\n0,", "\nzero,"),
        lambda text: text.replace(",eval_return,", ",returns,"),
        lambda text: text.partition("\n")[2],  # no names
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\x00" * 100,
    ],
)
def test_a_damaged_curve_is_named(record, damage):
    path = record.folder / "curve.csv"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{path} is damaged: "):
        record.evaluations()


def test_a_missing_curve_or_policy_is_named(record):
    (record.folder / "curve.csv").unlink()
    (record.folder / "policy.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"curve\.csv"):
        record.curve()
    with pytest.raises(FileNotFoundError, match=r"policy\.safetensors"):
        record.policy()


def test_weights_of_another_network_are_named(record):
    path = record.folder / "policy.safetensors"
    checkpoints.save_weights(path, SoftmaxPolicy(4, 2, (32,)))
    with pytest.raises(
        ValueError, match=rf"^{path} must hold weights layers.0.bias of shape \(64,\), got \(32,\)"
    ):
        record.policy()
    checkpoints.save_weights(path, torch.nn.Linear(4, 2))
    with pytest.raises(
        ValueError,
        match=rf"^{path} must hold weights bias of shape None, got \(2,\) \(None: there is no such weight\)$",
    ):
        record.policy()


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-100], lambda data: b"\xff" * len(data)]
)
def test_damaged_weights_are_named(record, damage):
    path = record.folder / "policy.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^{path} is damaged \([\d,]+ bytes\): "):
        record.verify()


def test_a_run_of_a_recipe_that_is_gone_is_named(record):
    with pytest.raises(
        ValueError, match=" holds a run of 'reinforce/cartpoles', a recipe that is not registered"
    ):
        rewritten(record, recipe="reinforce/cartpoles").verify()
    with pytest.raises(ValueError, match=r"^reinforce/cartpole has no setting 'momentum'"):
        rewritten(record, overrides={"momentum": 0.9}).policy()


def test_verify_needs_two_episodes(record):
    with pytest.raises(ValueError, match=r"^n_episodes must be a whole number of at least 2, got 1$"):
        record.verify(1)
    with pytest.raises(ValueError, match=r"^seed must be a whole number of at least 0, got -1$"):
        record.verify(seed=-1)


def recipe_now(monkeypatch, defaults):
    """Let the recipe have other defaults: as it was recorded it had ``eta=0.5, batch_size=4``."""
    recipe = dataclasses.replace(recipes.get(NAME))
    recipe.__dict__["defaults"] = defaults  # where the cached property has them
    monkeypatch.setitem(recipes.RECIPES, NAME, recipe)


@pytest.mark.parametrize(
    ("defaults", "changed"),
    [
        ({"eta": 0.5, "batch_size": 4}, []),
        ({"batch_size": 4, "eta": 0.5}, []),
        ({"eta": 0.25, "batch_size": 4}, ["eta: 0.5 recorded, 0.25 now"]),
        ({"eta": 0.5, "batch_size": 8}, []),  # this run has its own
        ({"eta": 0.5, "batch_size": 4, "clip": False}, ["clip: None recorded, False now"]),
        ({"batch_size": 4}, ["eta: 0.5 recorded, None now"]),
        ({"eta": 0.5}, ["batch_size: 501 recorded, None now"]),
        (
            {"rate": 0.5},
            [
                "batch_size: 501 recorded, None now",
                "eta: 0.5 recorded, None now",
                "rate: None recorded, 0.5 now",
            ],
        ),
    ],
)
def test_settings_of_the_recipe_that_have_changed_since_are_named(record, monkeypatch, defaults, changed):
    record = rewritten(record, settings={"eta": 0.5, "batch_size": 501}, overrides={"batch_size": 501})
    recipe_now(monkeypatch, defaults)
    assert record.changed_settings() == changed


def test_in_a_new_record_no_setting_has_changed(record):
    assert record.changed_settings() == []


def test_bands_are_those_of_the_evaluations(runs, record):
    found = records.bands(records.find(runs))
    assert list(found) == ["reinforce/cartpole batch_size=501"]
    oracle = bootstrap_band([r.evaluations() for r in records.find(runs)])
    np.testing.assert_array_equal(found["reinforce/cartpole batch_size=501"], oracle)
    other = rewritten(record, overrides={})
    found = records.bands([other, *records.find(runs)])
    assert list(found) == [NAME, "reinforce/cartpole batch_size=501"]
    steps, means = other.evaluations()
    np.testing.assert_array_equal(found[NAME], [steps, means, means, means])  # one run has no width


def test_only_runs_with_the_same_settings_and_budget_are_pooled_and_one_of_each_seed(runs, tmp_path):
    """Three runs, a copy of one, one with another budget and one of a recipe whose default was another."""
    first, second, third = records.find(runs)
    copies = [Record(shutil.copytree(first.folder, tmp_path / name)) for name in "abc"]
    longer = rewritten(copies[1], budget=[8000, "steps"])
    other = rewritten(copies[2], settings=first.metadata["settings"] | {"eta": 0.5})
    with pytest.warns(UserWarning, match=f"^left out {copies[0].folder}: {first.folder} has"):
        pooled = records.pool([first, second, third, copies[0], longer, other])
    label, eta = first.label, first.metadata["settings"]["eta"]
    assert {name: [r.folder for r in group] for name, group in pooled.items()} == {
        f"{label} (4,000 steps, eta={eta})": [first.folder, second.folder, third.folder],
        f"{label} (8,000 steps, eta={eta})": [longer.folder],
        f"{label} (4,000 steps, eta=0.5)": [other.folder],
    }
    with pytest.warns(UserWarning, match="^left out "):
        assert len(records.bands([first, second, copies[0]])) == 1
    shutil.copytree(runs, tmp_path / "all")
    shutil.copytree(longer.folder, tmp_path / "all" / "longer")
    with pytest.raises(ValueError, match=r"holds runs that are not alike: .*; choose a sub"):
        records.load(NAME, tmp_path / "all", **OVERRIDES)


def test_the_advice_is_quoted_for_the_shell_of_the_system(monkeypatch):
    assert records.resume_command("My Runs") == "pgcourse resume 'My Runs'"
    monkeypatch.setattr(records.os, "name", "nt")
    assert records.resume_command("My Runs") == 'pgcourse resume "My Runs"'


def test_overrides_that_are_tuples_are_found_and_labelled_as_on_the_command_line(record, tmp_path):
    rewritten(record, overrides={"hidden_sizes": [8, 4]})
    [found] = records.load(NAME, tmp_path, hidden_sizes=(8, 4))
    assert found.label == "reinforce/cartpole hidden_sizes=8x4"
    with pytest.raises(ValueError, match=r"no record of reinforce/cartpole hidden_sizes=8x8 in .*=8x4$"):
        records.load(NAME, tmp_path, hidden_sizes=(8, 8))


# Where it comes from


def git(folder, *arguments):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = [
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.org",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    ]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=clean).stdout.strip()


def copied(folder):
    shutil.copytree(
        ROOT / "pgcourse",
        folder / "pgcourse",
        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.csv", "*.json"),
    )
    return folder


def repository(folder):
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "__init__.py").touch()
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def commit(folder, **environment):
    """The commit that the copy of the package in a folder finds, in a process of its own."""
    code = "import pgcourse; from pgcourse.experiments.records import provenance as p; "
    code += "print(pgcourse.__file__, p()['commit'])"
    options = {
        "cwd": folder,
        "env": os.environ | environment,
        "capture_output": True,
        "text": True,
        "check": True,
    }
    where, found = subprocess.run([sys.executable, "-c", code], **options).stdout.split()
    assert Path(where).parents[1] == folder
    return None if found == "None" else found


def test_provenance_is_of_this_environment():
    found = records.provenance()
    assert found["versions"] == {
        name: version(name) for name in ("pgcourse", "torch", "gymnasium", "ale-py", "numpy")
    }
    assert found["python"] == platform.python_version() == sys.version.split()[0]
    assert found["processor"].startswith(f"{os.cpu_count()} × ")
    assert len(found["processor"]) > len(f"{os.cpu_count()} × ")
    json.dumps(found)


def test_provenance_has_the_commit_of_this_checkout():
    changed = [
        line
        for line in git(ROOT, "status", "--porcelain", "-uall", "pgcourse").splitlines()
        if line.endswith(".py")
    ]
    assert records.provenance()["commit"] == git(ROOT, "rev-parse", "HEAD") + ("+" if changed else "")


def test_a_commit_has_a_plus_when_a_module_is_changed_or_new(tmp_path):
    checkout = copied(repository(tmp_path / "checkout"))
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "second")
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.py").touch()  # no part of the package
    (checkout / "pgcourse" / "experiments" / "records" / "run.json").touch()  # what the runs themselves leave
    assert commit(checkout) == head
    new = checkout / "pgcourse" / "extra" / "new.py"
    new.parent.mkdir()
    new.touch()
    assert commit(checkout) == f"{head}+"
    new.unlink()
    with (checkout / "pgcourse" / "environments" / "pong.py").open("a") as file:
        file.write("# changed\n")
    assert commit(checkout) == f"{head}+"
    git(checkout, "add", ".")
    assert commit(checkout) == f"{head}+"


def test_a_copy_that_is_no_checkout_has_no_commit(tmp_path):
    assert commit(copied(tmp_path)) is None


def test_a_copy_inside_of_another_repository_does_not_report_its_commit(tmp_path):
    outer = repository(tmp_path / "outer")
    assert commit(copied(outer)) is None
    (outer / ".gitignore").write_text(".venv/\n")
    assert commit(copied(outer / ".venv" / "lib")) is None


def test_a_hook_of_another_repository_does_not_lend_its_commit(tmp_path):
    """Git sets GIT_DIR for hooks, and what they run."""
    outer = repository(tmp_path / "outer")
    copy = copied(tmp_path / "copy")
    assert commit(copy, GIT_DIR=str(outer / ".git")) is None
    assert commit(ROOT, GIT_DIR=str(outer / ".git")) == records.provenance()["commit"]


def test_what_pip_installed_from_a_repository_has_its_commit(tmp_path):
    site = copied(tmp_path)
    about = site / "pgcourse-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pgcourse\nVersion: 0.1.0\n")
    origin = {"url": "https://example.org/pgcourse", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
    (about / "direct_url.json").write_text(json.dumps(origin))
    assert commit(site) == "0123abc"


def test_without_git_there_is_no_commit(tmp_path):
    assert commit(copied(tmp_path), PATH=str(tmp_path)) is None


# The records that ship


def test_five_seeds_of_cartpole_are_shipped():
    assert [record.seed for record in records.load(NAME)][:5] == [0, 1, 2, 3, 4]


shipped = pytest.mark.parametrize(
    "record", SHIPPED, ids=lambda record: record.folder.relative_to(records.RECORDS_DIR).as_posix()
)


@shipped
def test_a_shipped_record_is_finished_and_of_the_recipe_as_it_is(record):
    assert record.finished
    assert record.changed_settings() == []
    recipe = recipes.get(record.name)
    assert record.metadata["budget"] == [recipe.steps, "steps"]
    assert record.metadata["checkpoint_interval"] == recipe.checkpoint_interval
    for returns in (record.returns, record.greedy_returns):
        assert np.isfinite(returns).sum() == len(returns) == sweeps.N_FINAL_EVAL_EPISODES
    assert record.overrides == {
        n: v for n, v in record.metadata["settings"].items() if v != recipe.defaults[n]
    }


@shipped
def test_a_shipped_record_was_made_from_a_commit(record):
    """Which has the code that made it."""
    assert record.metadata["sessions"]
    for session in record.metadata["sessions"]:
        assert len(session["commit"]) == 40
        assert set(session["commit"]) <= set("0123456789abcdef")
        assert session["versions"].keys() == set(records.VERSIONS)


@shipped
def test_a_shipped_curve_is_complete(record):
    curve, result, interval = (
        record.curve(),
        record.metadata["result"],
        record.metadata["checkpoint_interval"],
    )
    amount, unit = record.metadata["budget"]
    assert unit == "steps"
    assert (np.diff(curve["n_steps"]) > 0).all()
    assert curve["n_steps"][-1] >= amount > curve["n_steps"][-2]
    assert [curve[name][-1] for name in ("n_updates", "n_steps", "n_episodes")] == [
        result[n] for n in ("n_updates", "n_steps", "n_episodes")
    ]
    steps, means = record.evaluations()
    assert steps[0] == 0
    assert steps[-1] == curve["n_steps"][-1]
    assert (np.unique(steps // interval) == np.arange(amount // interval + 1)).all()  # at every checkpoint
    assert np.isfinite(means).all()


@shipped
def test_a_shipped_record_lies_in_its_place_and_nothing_beside_it(record):
    texts = (f"{name}={format_value(value)}" for name, value in record.overrides.items())
    assert record.folder == records.RECORDS_DIR / record.name / ",".join(texts) / f"seed-{record.seed}"
    saved = {f"policy-{n_steps:09d}.safetensors" for n_steps in record.policy_steps()}
    files = {"run.json", "curve.csv", "policy.safetensors"} | saved
    assert {path.name for path in record.folder.iterdir()} == files


@shipped
def test_a_shipped_policy_agrees_with_its_record(record):
    """A true record fails once in a million. A game of Pong takes its time, and so does a robot."""
    task = recipes.get(record.name).task
    quick = type(task) is Task and "mujoco" not in str(task.spec.entry_point)
    check = record.verify(100 if quick else 8)
    assert check.agrees, check


@pytest.mark.parametrize(
    ("name", "n_seeds", "least"),
    [
        ("reinforce/cartpole", 5, 490),
        ("actor-critic/cartpole", 10, 490),
        ("actor-critic/lunar-lander", 5, 150),
        ("actor-critic/acrobot", 5, -100),
        ("actor-critic/pendulum", 5, -1.2),
        ("reinforce/court", 5, 15),
        ("reinforce/sticky-pong", 5, 3),
        ("ddpg/pendulum", 10, -160),
        ("ddpg/mountain-car", 5, 90),
        ("ddpg/inverted-pendulum", 5, 990),
        ("ddpg/inverted-double-pendulum", 5, 9000),
        ("ddpg/suite-cartpole-balance", 5, 850),
        ("ddpg/suite-cartpole-swingup", 5, 690),
        ("ddpg/suite-pendulum-swingup", 5, 660),
        ("ddpg/suite-reacher-easy", 5, 600),
        ("ddpg/suite-ball-in-cup-catch", 5, 450),
        ("ddpg/suite-finger-spin", 3, 200),
        ("ddpg/reacher", 5, -6.5),
        ("ddpg/half-cheetah", 3, 3000),
        ("ddpg/hopper", 3, 450),
        ("ddpg/walker", 3, 250),
        ("ddpg/lunar-lander", 3, 0),
        ("ddpg-paper/pendulum", 5, -200),
        ("dqn/cartpole", 10, 475),
    ],
)
def test_recorded_policies_are_as_good_as_the_book_says(name, n_seeds, least):
    found = records.load(name)
    assert len(found) == n_seeds
    assert iqm([record.mean_return for record in found]) >= least


def test_nine_pendulums_of_ten_always_swing_up_and_the_tenth_mostly():
    """An episode in which it swings up returns at least −400, and one in which it does not at most −850."""
    failed = sorted((record.returns < -500).mean() for record in records.load("ddpg/pendulum"))
    assert failed[:9] == [0] * 9
    assert failed[9] <= 0.2


def test_recorded_access_control_is_within_one_per_cent_of_the_optimum():
    """Exactly: of the policies, not of the rewards in some episodes."""
    mdp = access_control()
    _, optimal = mdp.policy_iteration()
    found = records.load("actor-critic/access-control")
    assert len(found) == 10
    r_bars = [mdp.average_reward(record.policy().w.detach().numpy()).r_bar for record in found]
    assert iqm(r_bars) >= 0.99 * optimal.r_bar


COMPARISONS = list(records.find(records.COMPARISONS_DIR))
BUDGETS = {"settings": 300_000, "returns": 300_000, "critics": 200_000, "discounts": 200_000}
BUDGETS |= {
    "drawn-courts": 2_000_000,
    "layers": 3_000_000,
    "ablations": 10_000,
    "hyperparameters": 10_000,
    "double-pendulum": 50_000,
}
BY_RECIPE = {"dqn/cartpole": 100_000, "actor-critic/cartpole": 300_000, "reinforce/cartpole": 300_000}
BY_RECIPE |= {"dqn/acrobot": 100_000, "actor-critic/acrobot": 200_000, "reinforce/acrobot": 200_000}
BY_RECIPE |= {"dqn/pong": 600_000, "actor-critic/pong": 600_000}
BY_RECIPE |= {"ppo/cartpole": 100_000, "ppo/acrobot": 300_000}


def seeds(folder):
    groups = {}
    for record in records.find(records.COMPARISONS_DIR / folder):
        groups.setdefault(record.label, []).append(record.seed)
    return groups


def test_settings_are_compared_over_three_seeds_and_one_at_a_time():
    assert all(len(record.overrides) == 1 for record in records.find(records.COMPARISONS_DIR / "settings"))
    groups = seeds("settings")
    assert len(groups) >= 8
    assert all(group == [0, 1, 2] for group in groups.values()), groups


@pytest.mark.parametrize(
    ("name", "n_ways", "n_seeds"), [("reinforce/cartpole", 6, 10), ("reinforce/pong", 5, 5)]
)
def test_weights_of_the_score_are_compared_and_nothing_else(name, n_ways, n_seeds):
    groups = {label: group for label, group in seeds("returns").items() if label.split()[0] == name}
    assert len(groups) == n_ways
    assert all(group == list(range(n_seeds)) for group in groups.values()), groups
    changed = {
        setting
        for record in records.find(records.COMPARISONS_DIR / "returns")
        for setting in record.overrides
    }
    assert changed == {"return_fn", "gamma", "baseline", "standardize"}


@pytest.mark.parametrize(
    ("folder", "changed", "n_points"),
    [
        ("critics", {"eta", "eta_critic"}, 25),
        ("discounts", {"gamma", "lam"}, 20),
        ("layers", {"hidden_sizes"}, 1),
    ],
)
def test_actor_critics_are_compared_over_grids_and_three_seeds(folder, changed, n_points):
    groups = seeds(folder)
    assert len(groups) == n_points
    assert all(group == [0, 1, 2] for group in groups.values()), groups
    assert {
        setting for record in records.find(records.COMPARISONS_DIR / folder) for setting in record.overrides
    } == changed


@pytest.mark.parametrize(
    ("folder", "n_ways", "n_seeds"),
    [("ablations", 4, 5), ("hyperparameters", 25, 3), ("double-pendulum", 1, 5)],
)
def test_ddpg_is_compared_with_td3_ablations_and_other_hyperparameters(folder, n_ways, n_seeds):
    groups = seeds(folder)
    assert len(groups) == n_ways
    assert all(group == list(range(n_seeds)) for group in groups.values()), groups
    rates = {"eta", "eta_critic"}
    for record in records.find(records.COMPARISONS_DIR / folder):
        one_change = len(record.overrides) == 1 or set(record.overrides) == rates
        assert one_change or record.label == "td3/pendulum"


def test_algorithms_compared_with_dqn_are_evaluated_as_often_and_have_equal_networks():
    """Five algorithms on two tasks, ten seeds each; two on Pong, five seeds each, beside REINFORCE's runs."""
    groups = seeds("sample-efficiency")
    assert len(groups) == 5 + 5 + 2
    assert all(group == list(range(5 if "/pong" in label else 10)) for label, group in groups.items()), groups
    found = [*records.find(records.COMPARISONS_DIR / "sample-efficiency"), *records.load("reinforce/pong")]
    hidden = {"cartpole": [64, 64], "acrobot": [64], "pong": 200}
    for record in found:
        task, settings = record.name.split("/")[1], record.metadata["settings"]
        assert record.metadata["checkpoint_interval"] == (50_000 if task == "pong" else 5000)
        assert settings["hidden_size" if task == "pong" else "hidden_sizes"] == hidden[task]


@pytest.mark.parametrize(
    "record", COMPARISONS, ids=lambda record: record.folder.relative_to(records.COMPARISONS_DIR).as_posix()
)
def test_a_comparison_is_a_short_run_of_the_recipe_as_it_is(record):
    assert record.finished
    assert record.changed_settings() == []
    folder = record.folder.relative_to(records.COMPARISONS_DIR).parts[0]
    steps = BUDGETS.get(folder) or BY_RECIPE[record.name]
    assert record.metadata["budget"] == [steps, "steps"]
    assert all(len(session["commit"]) == 40 for session in record.metadata["sessions"])
    assert {path.name for path in record.folder.iterdir()} == {"run.json", "curve.csv"}


def test_ppo_is_compared_over_all_settings_and_seeds():
    reuse, clip, details = (seeds(f"ppo-{name}") for name in ("reuse", "clip", "details"))
    assert (len(reuse), len(clip), len(details)) == (2 * 9, 12, 21)
    assert all(group == list(range(10)) for group in (*reuse.values(), *details.values()))
    assert all(group == list(range(5)) for group in clip.values())


def test_gradient_noise_is_of_an_untrained_policy_and_of_the_saved_ones():
    noise = json.loads((records.COMPARISONS_DIR / "gradient_noise.json").read_text("utf-8"))
    assert list(dict.fromkeys(row["n_steps"] for row in noise["rows"])) == [
        0,
        *records.load("reinforce/pong")[0].policy_steps(),
    ]
    assert len(noise["made"]["commit"]) == 40


def test_ten_policies_play_at_ten_places_and_where_they_were_trained_as_recorded():
    """On the court, with other games than those of the record: Welch's test would not tell them apart."""
    result = json.loads((records.COMPARISONS_DIR / "court.json").read_text("utf-8"))
    assert len(result["made"]["commit"]) == 40
    scores = {(row["trained"], row["seed"], row["place"]): row["score"] for row in result["rows"]}
    names, places = ("reinforce/pong", "reinforce/court"), ("console", *result["changes"])
    assert set(scores) == {(name, seed, place) for name in names for seed in range(5) for place in places}
    for record in records.load("reinforce/pong"):
        assert scores[record.name, record.seed, "console"] == record.mean_return
    for record in records.load("reinforce/court"):
        error = record.returns.std(ddof=1) * np.sqrt(1 / 40 + 1 / 100)
        assert abs(scores[record.name, record.seed, "the console's rules"] - record.mean_return) < 4 * error


@pytest.mark.parametrize(("name", "n_rows"), [("offline", 20), ("overestimation", 10)])
def test_predicted_returns_are_measured_over_five_seeds(name, n_rows):
    result = json.loads((records.COMPARISONS_DIR / f"{name}.json").read_text("utf-8"))
    assert len(result["rows"]) == n_rows
    assert {row["seed"] for row in result["rows"]} == set(range(5))
    assert len(result["made"]["commit"]) == 40


def test_every_task_of_ddpg_has_a_plan_that_is_better_than_chance():
    tasks = json.loads((records.COMPARISONS_DIR / "planner.json").read_text("utf-8"))["tasks"]
    assert set(tasks) == {record.name for record in SHIPPED if record.name.startswith("ddpg/")}
    for name, played in tasks.items():
        assert np.mean(played["plan"]) > np.mean(played["random"]), name
        assert len(played["made"]["commit"]) == 40
