"""Blocks of seeds that learn at once in a sweep, against the same seeds alone, and undisturbed blocks."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pgcourse.algorithms.actor_critic import ActorCritic
from pgcourse.algorithms.seeds import join_states, split_state
from pgcourse.experiments import blocks, checkpoints, recipes, records, sweeps, training
from pgcourse.experiments.training import Budget
from pgcourse.networks.mlp import single_thread

NAME = "actor-critic/cartpole"
SETTINGS = {"rollout_length": 8, "hidden_sizes": (8,)}
CALL = {"seeds": 3, "settings": SETTINGS, "steps": 3000, "checkpoint_interval": 1000}
CALL |= {"n_eval_episodes": 2, "n_jobs": 1, "progress": False}


def outcome(record):
    """All that a finished run leaves, without what clocks decide."""
    assert sorted(p.name for p in record.folder.iterdir()) == ["curve.csv", "policy.safetensors", "run.json"]
    metadata = {name: value for name, value in record.metadata.items() if name not in ("sessions", "digests")}
    metadata["result"] = {name: value for name, value in metadata["result"].items() if name != "seconds"}
    rows = [line.split(",") for line in (record.folder / "curve.csv").read_text().splitlines()]
    clock = rows[0].index("seconds")
    policy = (record.folder / "policy.safetensors").read_bytes()
    return metadata, [row[:clock] + row[clock + 1 :] for row in rows], policy


def named_blocks(record):
    return [session.get("block") for session in record.metadata["sessions"]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    found = sweeps.run(NAME, folder=tmp_path_factory.mktemp("undisturbed"), **CALL)
    assert [named_blocks(record) for record in found] == [[[0, 1, 2]]] * 3
    return [outcome(record) for record in found]


OFF_POLICY = {"learning_starts": 128, "hidden_sizes": (8, 8)}
PPO = SETTINGS | {"minibatch_size": 30, "n_epochs": 2}


@pytest.mark.parametrize(
    ("name", "settings", "steps"),
    [
        (NAME, SETTINGS, 1500),
        ("ppo/cartpole", PPO | {"entropy_coefficient": 0.01}, 1500),
        ("ppo/cartpole", PPO | {"surrogate": "plain"}, 500),
        ("ppo/pendulum", PPO | {"surrogate": "weighted"}, 1500),
        ("dqn/cartpole", OFF_POLICY, 300),
        ("ddpg/pendulum", OFF_POLICY, 300),
        ("td3/pendulum", OFF_POLICY, 300),
        ("sac/pendulum", OFF_POLICY | {"batch_size": 64}, 300),
    ],
)
def test_a_block_leaves_the_records_that_its_seeds_leave_alone(tmp_path, name, settings, steps):
    """One-step evaluations would hide an exchange of seeds; rounding hides nothing in so few updates."""
    seeds = (4, 0, 7)
    options = {"settings": settings, "steps": steps, "n_eval_episodes": 2, "n_jobs": 1, "progress": False}
    options |= {"checkpoint_interval": steps // 2 if "cartpole" in name else 10 * steps}
    together = sweeps.run(name, seeds=seeds, folder=tmp_path / "together", **options)
    for record, seed in zip(together, seeds, strict=True):
        [alone] = sweeps.run(name, seeds=[seed], folder=tmp_path / "alone", **options)
        assert named_blocks(record) == [[0, 4, 7]]
        assert named_blocks(alone) == [None]
        (metadata, rows, _), (expected, rows_alone, _) = outcome(record), outcome(alone)
        returns = [
            found["result"].pop(key)
            for found in (metadata, expected)
            for key in ("returns", "greedy_returns")
        ]
        assert metadata == expected
        assert_allclose(returns[:2], returns[2:], rtol=1e-3)
        assert rows[0] == rows_alone[0]
        curve, curve_alone = record.curve(), alone.curve()
        for column in curve.keys() - {"seconds"}:
            atol = 2e-5 * np.nanmax(np.abs(curve_alone[column]), initial=0)
            assert_allclose(curve[column], curve_alone[column], rtol=1e-3, atol=atol, err_msg=column)
        assert record.verify(20).agrees


@pytest.mark.parametrize("name", ["ppo/pendulum", "dqn/cartpole", "td3/pendulum", "sac/pendulum"])
@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop", "SGD"])
def test_the_state_of_a_seed_is_that_of_an_algorithm_of_its_own(name, optimizer):
    recipe = recipes.get(name)
    settings = {"optimizer": optimizer} | (PPO if "ppo" in name else OFF_POLICY | {"batch_size": 64})
    with single_thread():
        together = recipe.build((4, 0), **settings)
        together.update()
        states = split_state(together.state_dict(), 2)
        joined = recipe.build((4, 0), **settings)
        joined.load_state_dict(join_states(states))
        assert flat(joined.state_dict()) == flat(together.state_dict())
        for seed, state in zip((4, 0), states, strict=True):
            alone = recipe.build(seed, **settings)
            alone.update()
            expected = alone.state_dict()
            assert flat(state).keys() == flat(expected).keys()
            for key, value in flat(expected).items():
                assert_allclose(flat(state)[key], value, rtol=1e-3, atol=1e-5, err_msg=key)
            alone.load_state_dict(state)
            assert flat(alone.state_dict()) | {"rng": 0} == flat(state) | {"rng": 0}


def flat(state, name=""):
    """The numbers of a state as lists, by their paths."""
    if isinstance(state, dict | list):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        of_items = (flat(value, f"{name}/{key}") for key, value in items if key != "rng")
        return {key: value for found in of_items for key, value in found.items()}
    if isinstance(state, torch.Tensor | np.ndarray):
        return {name: state.tolist()}
    return {} if state is None or isinstance(state, str) else {name: state}


class Stop(BaseException):
    """What a kill is to the process that is killed: nothing is done any more."""


@contextlib.contextmanager
def stopped(monkeypatch, owner, name, at, error=Stop):
    """Instead of the ``at``-th call of a function, an error."""
    function, calls = getattr(owner, name), itertools.count(1)

    def stop(*args, **kwargs):
        if next(calls) == at:
            raise error
        return function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(error):
            yield


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 8])
def test_after_a_kill_between_its_checkpoints_a_block_goes_on_from_those_that_all_have(
    tmp_path, monkeypatch, undisturbed, at
):
    """Three files a checkpoint, of which some are missing."""
    with stopped(monkeypatch, checkpoints, "save", at):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    folders = [record.folder for record in records.find(tmp_path)]
    names = [{path.name for path in folder.glob("*.pt")} for folder in folders]
    assert [len(found) for found in names] == [min((at + 1 - k) // 3, 2) for k in range(3)]
    found = []
    resume = training._begin_or_resume

    def spy(learners, of_all):
        curves = resume(learners, of_all)
        found.extend(curve.counters["n_updates"] for curve in curves)
        return curves

    monkeypatch.setattr(training, "_begin_or_resume", spy)
    again = sweeps.run(NAME, folder=tmp_path, **CALL)
    common = max((int(name[11:20]) for name in set.intersection(*names)), default=0)
    assert found == [common] * 3
    assert (common > 0) == (at > 3)
    assert [outcome(record) for record in again] == undisturbed
    assert [named_blocks(record) for record in again] == [[[0, 1, 2]] * 2] * 3


@pytest.mark.parametrize("at", [2, 5, 9, 14])
def test_after_ctrl_c_a_block_resumed_is_a_block_undisturbed(tmp_path, monkeypatch, undisturbed, at):
    with stopped(monkeypatch, recipes.Recipe, "evaluate", at, KeyboardInterrupt):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    assert len(list(records.find(tmp_path))) == 3
    again = sweeps.resume(tmp_path, n_eval_episodes=2, n_jobs=1, progress=False)
    assert [outcome(record) for record in again] == undisturbed


@pytest.mark.parametrize("at", [2, 3])
def test_if_only_some_sessions_are_written_the_block_begins_all_the_same(
    tmp_path, monkeypatch, undisturbed, at
):
    """Three of the calls are those that announce the runs."""
    with stopped(monkeypatch, records, "write", 3 + at):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    assert [outcome(record) for record in sweeps.run(NAME, folder=tmp_path, **CALL)] == undisturbed


def test_where_a_seed_has_finished_the_others_go_on_alone_and_it_is_said(tmp_path, monkeypatch, undisturbed):
    with stopped(monkeypatch, records, "write", 3 + 3 + 2):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    said = r"seed-1, seed-2 go on, each alone, without seed 0 of their block$"
    with pytest.warns(UserWarning, match=said):
        again = sweeps.run(NAME, folder=tmp_path, **CALL)
    assert outcome(again[0]) == undisturbed[0]
    assert [named_blocks(record) for record in again[1:]] == [[[0, 1, 2], None]] * 2
    for record, (metadata, rows, _) in zip(again, undisturbed, strict=True):
        found = outcome(record)
        assert found[0]["result"]["n_updates"] == metadata["result"]["n_updates"]
        assert len(found[1]) == len(rows)


def test_where_a_checkpoint_is_damaged_the_others_go_on_alone_and_it_is_said(tmp_path, monkeypatch):
    with stopped(monkeypatch, checkpoints, "save", 7):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    folder = next(records.find(tmp_path)).folder.with_name("seed-1")
    damaged = checkpoints.latest(folder)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    said = f"seed-0, seed-1, seed-2 go on, each alone: {damaged} is damaged"
    with (
        pytest.warns(UserWarning, match=said),
        pytest.raises(
            RuntimeError, match=rf"^1 of 3 runs failed:\n{folder}: {damaged} is damaged .*; delete it"
        ),
    ):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    assert [record.finished for record in records.find(tmp_path)] == [True, False, True]
    damaged.unlink()
    again = sweeps.run(NAME, folder=tmp_path, **CALL)
    assert all(map(outcome, again))


def test_where_a_seed_fails_the_others_finish_alone(tmp_path, monkeypatch):
    """Its number is not finite from the 40th update on, alone as in the block."""
    update = training._Learners.update

    def failing(learners):
        metrics = update(learners)
        for k, seed in enumerate(getattr(learners.algorithm._rng, "streams", [learners.algorithm._rng])):
            if seed.bit_generator.seed_seq.entropy == 1 and metrics[k].n_steps > 2500:
                metrics[k] = metrics[k]._replace(surrogate=np.nan)
        return metrics

    monkeypatch.setattr(training._Learners, "update", failing)
    with (
        pytest.warns(UserWarning, match="go on, each alone: surrogate is nan in update 40, at step 2,560"),
        pytest.raises(RuntimeError, match=r"^1 of 3 runs failed:\n.*seed-1: surrogate is nan in update 40"),
    ):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    assert [record.finished for record in records.find(tmp_path)] == [True, False, True]


def test_a_run_that_began_alone_goes_on_alone_to_the_bit(tmp_path, monkeypatch):
    alone = CALL | {"seeds": [1]}
    expected = outcome(*sweeps.run(NAME, folder=tmp_path / "undisturbed", **alone))
    with stopped(monkeypatch, checkpoints, "save", 2):
        sweeps.run(NAME, folder=tmp_path / "runs", **alone)
    again = sweeps.run(NAME, folder=tmp_path / "runs", **CALL)
    assert outcome(again[1]) == expected
    assert [named_blocks(record) for record in again] == [[[0, 2]], [None, None], [[0, 2]]]


def test_a_worker_killed_is_continued_by_the_same_call(tmp_path):
    """Two blocks of two seeds, in two processes, all killed at the first checkpoint."""
    sets = ["--set", "rollout_length=8", "--set", "hidden_sizes=8", "--seeds", 4, "--n-jobs", 2]
    budget = ["--steps", 6000, "--checkpoint-interval", 1000, "--folder", tmp_path / "killed"]
    words = ["run", NAME, *sets, *budget, "--eval-episodes", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "pgcourse", *map(str, words)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 120
        while len(list(tmp_path.rglob("training.json"))) < 4 or not list(tmp_path.rglob("*.pt")):
            assert time.monotonic() < end  # a block that has not begun is made anew
            assert process.poll() is None
            time.sleep(0.003)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    call = CALL | {"seeds": 4, "n_jobs": 2, "steps": 6000}
    done = [sweeps.run(NAME, folder=tmp_path / name, **call) for name in ("undisturbed", "killed")]
    expected, again = ([outcome(record) for record in found] for found in done)
    assert again == expected
    assert [named_blocks(record)[0] for record in done[1]] == [[0, 1], [0, 1], [2, 3], [2, 3]]


def specs(name=NAME, settings=1, seeds=10, unit="steps"):
    """Runs of so many settings, in folders where nothing is."""
    found = [
        sweeps.RunSpec(name, seed, {"eta": 0.001 * (k + 1)}, Budget(100, unit), 100)
        for k in range(settings)
        for seed in range(seeds)
    ]
    return lambda root: {spec.folder(root): spec for spec in found}


@pytest.mark.parametrize(
    ("runs", "n_jobs", "sizes"),
    [
        (specs(), 1, [10]),
        (specs(), 2, [5, 5]),
        (specs(), 3, [4, 3, 3]),
        (specs(), 10, [1] * 10),
        (specs(), 64, [1] * 10),
        (specs(settings=3), 2, [10] * 3),
        (specs(settings=3), 4, [5] * 6),
        (specs(settings=2, seeds=1), 2, [1, 1]),
        (specs("reinforce/cartpole"), 2, [1] * 10),
        (specs("actor-critic/lunar-lander", seeds=2), 1, [1, 1]),
        (specs(unit="minutes", seeds=2), 1, [1, 1]),
        (specs(unit="episodes", seeds=2), 1, [1, 1]),
    ],
)
def test_every_core_has_a_block_and_what_cannot_learn_at_once_runs_alone(tmp_path, runs, n_jobs, sizes):
    runs = runs(tmp_path)
    groups = blocks.plan(runs, runs, n_jobs)
    assert [len(group) for group in groups] == sizes
    assert list(itertools.chain(*groups)) == list(runs)


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_blocks_are_the_same_however_much_of_the_sweep_is_done(tmp_path, n_jobs):
    runs = specs(settings=2)(tmp_path)
    groups = blocks.plan(runs, runs, n_jobs)
    for k in range(len(groups) + 1):
        todo = {folder: runs[folder] for folder in itertools.chain(*groups[k:])}
        assert blocks.plan(runs, todo, n_jobs) == groups[k:]
    others = [*runs][1:]  # seed 0 was done before the sweep asked for ten seeds
    rest = blocks.plan(runs, {folder: runs[folder] for folder in others}, n_jobs)
    assert rest == [groups[0][1:], *groups[1:]]


@pytest.mark.parametrize(
    ("name", "settings", "unit", "message"),
    [
        (NAME, {}, "minutes", "budget must be in steps, which all seeds take together, got 9 minutes"),
        ("actor-critic/pendulum", {}, "steps", "environments must be of classic control, .* got Pendulum-v1"),
        ("ppo/pong", {}, "steps", "environments must be of classic control, .* got PongDeterministic-v4"),
        ("reinforce/cartpole", {}, "steps", "seed must be one number for REINFORCE, "),
        (NAME, {"rollout_length": None}, "steps", "rollout_length must be a number where several seeds"),
        ("ppo/cartpole", {"target_kl": 0.01}, "steps", "target_kl must be None where several seeds"),
    ],
)
def test_what_cannot_learn_at_once_says_why(name, settings, unit, message):
    spec = sweeps.RunSpec(name, 0, settings, Budget(9, unit), 100)
    assert re.match(message, blocks.obstacle(spec, [0, 1]))


def test_an_algorithm_without_the_seed_axis_runs_seed_by_seed(tmp_path, monkeypatch):
    """It would take a list of seeds for one seed."""

    class Mine(ActorCritic):
        def __init__(self, *args, seed, **kwargs):
            super().__init__(*args, seed=seed, **kwargs)
            self._rng = np.random.default_rng(seed)

    monkeypatch.setattr("pgcourse.algorithms.actor_critic.ActorCritic", Mine)
    spec = sweeps.RunSpec(NAME, 0, SETTINGS, Budget(9, "steps"), 100)
    assert blocks.obstacle(spec, [0, 1]) == "Mine must draw from one random stream a seed, got 1"
    assert [named_blocks(record) for record in sweeps.run(NAME, folder=tmp_path, **CALL)] == [[None]] * 3


def test_training_of_several_seeds_needs_a_folder_and_an_evaluation_each(tmp_path):
    algorithm = recipes.get(NAME).build([0, 1], **SETTINGS)
    with pytest.raises(ValueError, match=r"^algorithm must have one seed, got 2; train_seeds trains several"):
        training.train(algorithm, steps=10)
    with pytest.raises(
        ValueError, match="evaluate and folders must have an entry for each of 2 seeds, got 1 and 2"
    ):
        training.train_seeds(
            algorithm, steps=10, evaluate=[None], folders=[tmp_path / "0", tmp_path / "1"], progress=False
        )
    with pytest.raises(ValueError, match="states must have the same numbers"):
        join_states([{"n_steps": 1}, {"n_steps": 2}])
    with pytest.raises(ValueError, match="states must have the same names"):
        join_states([{"n_steps": 1}, {"n": 1}])


def test_a_block_without_a_checkpoint_begins_again_with_the_seeds_that_are_wanted(tmp_path, monkeypatch):
    with stopped(monkeypatch, checkpoints, "save", 1):
        sweeps.run(NAME, folder=tmp_path, **CALL)
    again = sweeps.run(NAME, folder=tmp_path, **(CALL | {"seeds": 2}))
    assert [named_blocks(record) for record in again] == [[[0, 1, 2], [0, 1]]] * 2
