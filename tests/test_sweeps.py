"""Sweeps in processes that are killed, interrupted, out of space or many, against undisturbed runs."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints, recipes, sweeps
from pgcourse.experiments.records import find

resource = pytest.importorskip(
    "resource", reason="needs signals and limits on resources, which Windows has not"
)

WAIT = 120  # seconds, for anything; on a busy machine nothing here takes a quarter of that
SETTINGS = {"eta": 0.0005, "gamma": 0.95, "batch_size": 200, "hidden_sizes": "8", "standardize": True}
LONG = {"settings": SETTINGS, "steps": 10_000, "checkpoint_interval": 2_000}  # a second, with 5 checkpoints
SHORT = {"steps": 100, "checkpoint_interval": 100, "progress": False, "n_jobs": 1}
FILES = ["curve.csv", "policy.safetensors", "run.json"]


def command(folder, *more):
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    budget = ["--steps", 10_000, "--checkpoint-interval", 2_000]
    return ["run", "reinforce/cartpole", *budget, *sets, "--folder", folder, *more]


@contextlib.contextmanager
def processes():
    """Give a function that starts a process, with a group of its own; see that nothing is left of any."""
    children = []

    def start(*words, program=("-m", "pgcourse"), **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        heed = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # where pytest is in the background, children would ignore Ctrl-C
        children.append(
            subprocess.Popen(
                [sys.executable, *program, *map(str, words)], start_new_session=True, **(pipes | options)
            )
        )
        signal.signal(signal.SIGINT, heed)
        return children[-1]

    try:
        yield start
    finally:
        for process in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=WAIT)


@pytest.fixture
def start():
    with processes() as start:
        yield start


def until(condition, process, interval=0.003):
    """Wait for something to become true while a process is at work; return it."""
    end = time.monotonic() + WAIT
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(interval)
    return value


@contextlib.contextmanager
def meanwhile(look):
    """Call a function again and again in a thread, until it returns True or the block is left."""
    done = threading.Event()

    def loop():
        while not done.wait(0.003) and not look():
            pass

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def end(process):
    """Wait for a process to end; return its exit code, its output, and whether others of its group live."""
    out, err = process.communicate(timeout=WAIT)
    limit = time.monotonic() + 20
    while (
        left := any(map(functools.partial(belongs, process.pid), psutil.process_iter()))
    ) and time.monotonic() < limit:
        time.sleep(0.02)
    return process.returncode, out, err, left


def belongs(group, process):
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ProcessLookupError):
        return False


def started(folder):
    """The folders of unfinished runs that have a checkpoint."""
    return sorted(
        {p.parent for p in Path(folder).rglob("checkpoint-*.pt")}
        - {r.folder for r in find(folder) if r.finished}
    )


def outcome(record):
    """All that a finished run leaves, without what clocks decide."""
    assert sorted(p.name for p in record.folder.iterdir()) == FILES
    curve = record.curve()
    assert (np.diff(curve["n_updates"]) > 0).all()
    assert (np.diff(curve["n_steps"]) > 0).all()
    rows = [line.split(",") for line in (record.folder / "curve.csv").read_text().splitlines()]
    clock = rows[0].index("seconds")
    metadata = {name: value for name, value in record.metadata.items() if name not in ("sessions", "digests")}
    metadata["result"] = {name: value for name, value in metadata["result"].items() if name != "seconds"}
    return (
        metadata,
        [row[:clock] + row[clock + 1 :] for row in rows],
        (record.folder / "policy.safetensors").read_bytes(),
    )


def outcomes(folder):
    return [outcome(record) for record in find(folder)]


@pytest.fixture(scope="module")
def undisturbed_runs(tmp_path_factory):
    """Three runs that nothing happens to."""
    return sweeps.run(
        "reinforce/cartpole",
        seeds=3,
        **LONG,
        n_jobs=1,
        progress=False,
        folder=tmp_path_factory.mktemp("undisturbed"),
    )


@pytest.fixture(scope="module")
def expected(undisturbed_runs):
    results = [outcome(record) for record in undisturbed_runs]
    assert len(results[0][1]) > 30
    assert len({policy for _, _, policy in results}) == 3
    return results


@pytest.fixture(scope="module", autouse=True)
def no_workers_are_left():
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(kill_workers=True)


def test_killed_and_called_again_it_ends_as_if_not_killed(tmp_path, start, expected):
    process = start(*command(tmp_path))
    until(lambda: started(tmp_path), process)
    process.kill()
    assert process.wait(WAIT) == -signal.SIGKILL
    [record] = find(tmp_path)
    assert not record.finished
    code, out, err, some_left = end(start(*command(tmp_path)))
    assert code == 0, err
    assert not some_left
    assert str(record.folder) in out
    assert outcomes(tmp_path) == expected[:1]
    assert [len(record.metadata["sessions"]) for record in find(tmp_path)] == [2]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_after_ctrl_c_it_says_how_to_continue_and_leaves_no_process(tmp_path, start, expected, n_jobs):
    folder = tmp_path / "My Runs"  # capitals and a blank must survive
    process = start(*command(folder, "--seeds", n_jobs, "--n-jobs", n_jobs))
    until(lambda: started(folder), process)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err, some_left = end(process)
    assert code == 130
    assert not some_left
    for word in ("Traceback", "leaked", "Warning", "Exception"):
        assert word not in err
    said = re.split("[\r\n]+", err.rstrip())[-1]
    assert re.fullmatch(r"Stopped.*\. Continue with the same call, or with: pgcourse resume .*", said)
    program, verb, where = shlex.split(said.partition("or with: ")[2])
    assert (program, verb) == ("pgcourse", "resume")
    if n_jobs == 1:
        assert re.match(
            rf"Stopped at step [\d,]+; the last checkpoint is {checkpoints.latest(started(folder)[0])}\.",
            said,
        )
        assert [outcome(record) for record in sweeps.resume(where, n_jobs=1, progress=False)] == expected[:1]
    else:
        assert Path(where) in started(folder)[0].parents


def test_if_it_is_killed_with_workers_the_same_call_waits_for_what_they_still_do(tmp_path, start, expected):
    """One worker is killed too: its run is continued, and the other's, if it has begun, is waited for."""
    process = start(*command(tmp_path, "--seeds", 2, "--n-jobs", 2))
    [folder, *_] = until(lambda: started(tmp_path), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(WAIT)
    holder(folder, workers).kill()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "another process is working in .*; waiting for it")
        sweeps.run("reinforce/cartpole", seeds=2, **LONG, n_jobs=1, progress=False, folder=tmp_path)
    assert outcomes(tmp_path) == expected[:2]


def test_two_that_are_started_at_once_make_one_record(tmp_path, start, expected):
    ends = [end(process) for process in [start(*command(tmp_path)) for _ in range(2)]]
    assert [code for code, *_ in ends] == [0, 0]
    assert ends[0][1] == ends[1][1] != ""
    assert outcomes(tmp_path) == expected[:1]
    assert [len(record.metadata["sessions"]) for record in find(tmp_path)] == [1]


def holder(folder, processes):
    """Return the process that has the lock of a run: it holds it open, others only look at it briefly."""
    for _ in range(1000):
        have = [
            p
            for p in processes
            if any(f.path == str(folder / ".lock") for f in psutil.Process(p.pid).open_files())
        ]
        if len(have) == 1:
            return have[0]
        time.sleep(0.003)
    raise AssertionError


def test_in_parallel_it_comes_out_the_same(tmp_path, expected, capsys):
    sweeps.run("reinforce/cartpole", seeds=3, **LONG, n_jobs=2, folder=tmp_path)
    assert outcomes(tmp_path) == expected
    out, err = capsys.readouterr()
    assert out == ""
    assert "30,000 of 30,000 steps" in err
    assert "3/3 runs" in err


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_saved_policies_change_nothing_and_are_those_that_were_evaluated(tmp_path, expected, n_jobs):
    """The last is the one that came out, in fewer bits; the others differ from it and from each other."""
    for record, undisturbed in zip(
        sweeps.run(
            "reinforce/cartpole",
            seeds=3,
            **LONG,
            save_policies=True,
            n_jobs=n_jobs,
            progress=False,
            folder=tmp_path,
        ),
        expected,
        strict=True,
    ):
        steps, _ = record.evaluations()
        assert record.policy_steps() == steps.tolist()
        policies = [
            np.concatenate([w.detach().numpy().ravel() for w in record.policy(n).parameters()])
            for n in [*record.policy_steps(), None]
        ]
        first, *_, last, final = policies
        np.testing.assert_allclose(last, final, rtol=2**-4, atol=2**-10)
        assert np.abs(first - final).max() > 0.02
        assert len({policy.tobytes() for policy in policies}) == len(policies)
        for path in record.folder.glob("policy-*.safetensors"):
            path.unlink()
        assert outcome(record) == undisturbed


def test_a_policy_is_evaluated_on_as_many_episodes_as_given(tmp_path):
    [record] = sweeps.run(
        "reinforce/cartpole", **SHORT, settings=SETTINGS, n_eval_episodes=3, folder=tmp_path
    )
    assert len(record.returns) == 3
    total = record.evaluations()[1][-1] * 3  # of three whole numbers, whose mean the curve rounds
    assert total == pytest.approx(round(total), abs=0.01)


def test_how_often_a_policy_is_evaluated_does_not_change_what_is_learnt(tmp_path):
    call = {"steps": 3_000, "settings": SETTINGS, "progress": False}
    [seldom] = sweeps.run("reinforce/cartpole", **call, folder=tmp_path / "seldom")
    [often] = sweeps.run("reinforce/cartpole", **call, eval_interval=1, folder=tmp_path / "often")
    n_updates = often.metadata["result"]["n_updates"]
    assert len(often.evaluations()[0]) == n_updates + 1 > len(seldom.evaluations()[0])
    weights = [(record.folder / "policy.safetensors").read_bytes() for record in (seldom, often)]
    assert weights[0] == weights[1]
    assert seldom.returns.tolist() == often.returns.tolist()


def test_after_many_finished_runs_the_rest_is_done_in_parallel(tmp_path, undisturbed_runs):
    """Joblib, left alone, may put what follows on quick tasks into one batch, for one worker."""
    for seed in range(40):
        folder = (
            tmp_path
            / undisturbed_runs[0].folder.parent.relative_to(undisturbed_runs[0].folder.parents[3])
            / f"seed-{seed}"
        )
        shutil.copytree(undisturbed_runs[0].folder, folder)
        metadata = undisturbed_runs[0].metadata | {"seed": seed, "digests": {}}
        (folder / "run.json").write_text(json.dumps(metadata))
    at_once = set()
    with meanwhile(lambda: at_once.add(len(started(tmp_path)))):
        sweeps.run("reinforce/cartpole", seeds=44, **LONG, n_jobs=2, progress=False, folder=tmp_path)
    assert max(at_once) == 2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_if_some_runs_fail_the_others_are_finished_first(tmp_path, n_jobs):
    """With two settings, the weights overflow."""
    call = (
        {"settings": {"eta": [1e38, 0.001, 1e39]}, "seeds": 2, "folder": tmp_path}
        | SHORT
        | {"steps": 5000, "n_jobs": n_jobs}
    )
    for _ in range(2):
        with pytest.raises(RuntimeError) as error:
            sweeps.run("reinforce/cartpole", **call)
        failed = [
            f"{tmp_path}/reinforce/cartpole/eta={eta}/seed-{seed}: "
            for eta in (1e38, 1e39)
            for seed in (0, 1)
        ]
        title, *lines = str(error.value).splitlines()
        assert title == "4 of 6 runs failed:"
        assert all(line.startswith(start) for line, start in zip(lines, failed, strict=True))
        finished = [record for record in find(tmp_path) if record.finished]
        assert [(record.overrides, record.seed) for record in finished] == [
            ({"eta": 0.001}, 0),
            ({"eta": 0.001}, 1),
        ]
        for record in finished:
            outcome(record)
    with pytest.raises(RuntimeError, match=r"^4 of 6 runs failed:\n"):
        sweeps.resume(tmp_path, n_jobs=n_jobs, progress=False)


def test_if_a_worker_is_killed_it_is_an_error_and_the_same_call_does_the_rest(tmp_path, expected):
    call = {"seeds": 2, **LONG, "progress": False, "folder": tmp_path}

    def kill():
        for folder in started(tmp_path):
            holder(folder, psutil.Process().children(recursive=True)).kill()
            return True

    message = "a worker process was killed, perhaps for lack of memory; the same call does the rest"
    with meanwhile(kill), pytest.raises(RuntimeError, match=message):
        sweeps.run("reinforce/cartpole", n_jobs=2, **call)
    sweeps.run("reinforce/cartpole", n_jobs=1, **call)
    assert outcomes(tmp_path) == expected[:2]


def test_every_combination_runs_once_and_not_again(tmp_path):
    default = recipes.get("reinforce/cartpole").defaults
    grid = {"hidden_sizes": [(8,), "64"], "eta": default["eta"], "batch_size": [50, 60]}
    call = {"seeds": [3, 0, 3], "settings": grid, "folder": tmp_path} | SHORT
    done = sweeps.run("reinforce/cartpole", **call)
    assert default["hidden_sizes"] == [64]
    assert [(r.overrides, r.seed) for r in done] == [
        (overrides | {"batch_size": size}, seed)
        for overrides in ({"hidden_sizes": [8]}, {})
        for size in (50, 60)
        for seed in (3, 0)
    ]
    assert done[0].folder == tmp_path / "reinforce/cartpole/batch_size=50,hidden_sizes=8/seed-3"
    assert done[-1].folder == tmp_path / "reinforce/cartpole/batch_size=60/seed-0"
    assert len(list(find(tmp_path))) == 8
    for record in done:
        outcome(record)
        assert record.metadata["settings"] == default | record.overrides
        assert len(record.returns) == sweeps.N_FINAL_EVAL_EPISODES
        assert [list(session) for session in record.metadata["sessions"]] == [
            ["began", "commit", "versions", "python", "processor"]
        ]
    files = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    again = sweeps.run("reinforce/cartpole", **call)
    assert [r.metadata for r in again] == [r.metadata for r in done]
    assert [r.metadata for r in sweeps.resume(tmp_path, n_jobs=1, progress=False)] == [
        r.metadata for r in find(tmp_path)
    ]
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_list_spans_a_grid_and_a_tuple_is_one_value(tmp_path):
    for sizes in ((8, 4), "8x4", ["8x4"], [(8, 4)], [[8, 4]]):
        call = {"settings": {"hidden_sizes": sizes}, "folder": tmp_path} | SHORT
        [record] = sweeps.run("reinforce/cartpole", **call)
        assert record.label == "reinforce/cartpole hidden_sizes=8x4"
        assert record.folder == tmp_path / "reinforce/cartpole/hidden_sizes=8x4/seed-0"
        assert record.metadata["settings"]["hidden_sizes"] == record.overrides["hidden_sizes"] == [8, 4]
    assert len(list(find(tmp_path))) == 1
    with pytest.raises(ValueError, match="hidden_sizes must be sizes such as 64, one for each layer, got 8"):
        sweeps.run("reinforce/cartpole", settings={"hidden_sizes": [8, 4]}, folder=tmp_path)


def test_the_recipes_own_settings_have_a_folder_without_a_name(tmp_path):
    [record] = sweeps.run(
        "reinforce/cartpole", seeds=np.arange(1, 2), steps=np.int64(50), progress=False, folder=tmp_path
    )
    assert record.folder == tmp_path / "reinforce/cartpole/seed-1"
    assert record.overrides == {}
    assert record.metadata["budget"] == [50, "steps"]
    assert record.metadata["checkpoint_interval"] == recipes.get("reinforce/cartpole").checkpoint_interval


def test_what_it_left_when_killed_after_the_result_is_cleared_by_the_next_call(tmp_path):
    [record] = sweeps.run("reinforce/cartpole", folder=tmp_path, **SHORT)
    checkpoints.add(record.folder, 3, {})
    (record.folder / ".lock").touch()
    sweeps.run("reinforce/cartpole", folder=tmp_path, **SHORT)
    outcome(record)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 200}, r"budget \[100, 'steps'\], not \[200, 'steps'\]"),
        ({"steps": None, "episodes": 100}, r"budget \[100, 'steps'\], not \[100, 'episodes'\]"),
        ({"checkpoint_interval": 50}, "checkpoint_interval 100, not 50"),
    ],
)
def test_a_folder_holds_a_run_with_one_budget(tmp_path, other, message):
    [record] = sweeps.run("reinforce/cartpole", folder=tmp_path, **SHORT)
    before = outcome(record)
    with pytest.raises(
        ValueError,
        match=f"^{record.folder} holds a run with {message}; choose another folder, or delete this one$",
    ):
        sweeps.run("reinforce/cartpole", folder=tmp_path, **(SHORT | other))
    assert outcome(record) == before


class Disturbed(Task):
    """CartPole, where something happens in one evaluation."""

    def __init__(self, at, happen):
        super().__init__("CartPole-v1")
        self.at, self.happen, self.n_evaluations = at, happen, 0

    def evaluate(self, act, n_episodes, seed):
        self.n_evaluations += 1
        if self.at == (self.n_evaluations if n_episodes < sweeps.N_FINAL_EVAL_EPISODES else "end"):
            self.happen()
        return super().evaluate(act, n_episodes, seed)


@contextlib.contextmanager
def disturbed(monkeypatch, at, happen):
    with monkeypatch.context() as patch:
        recipe = recipes.get("reinforce/cartpole")
        disturbed_recipe = dataclasses.replace(recipe, task=Disturbed(at, happen))
        patch.setitem(recipes.RECIPES, "reinforce/cartpole", disturbed_recipe)
        yield


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's limits on another process")
def test_when_the_disk_becomes_full_the_command_says_so_and_with_space_continues(tmp_path, start, expected):
    process = start(*command(tmp_path))
    until(lambda: started(tmp_path), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (500, 500))
    code, out, err, _ = end(process)
    [folder] = started(tmp_path)
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert re.search(rf"Error: .*\[Errno 27\] File too large; .* complete: '{folder}/.*'\n$", err, re.DOTALL)
    assert checkpoints.load(checkpoints.latest(folder))["counters"]["n_steps"] >= 2000
    sweeps.run("reinforce/cartpole", **LONG, n_jobs=1, progress=False, folder=tmp_path)
    assert outcomes(tmp_path) == expected[:1]


@pytest.mark.parametrize(
    ("at", "n_bytes", "message", "n_checkpoints"),
    [
        (2, 1000, "what was written before is complete: '{}/checkpoint-0000000..\\.pt'", 0),
        (3, 500, "rows up to the last checkpoint are complete: '{}/curve\\.csv'", 1),
        (3, 3000, "what was written before is complete: '{}/checkpoint-0000000..\\.pt'", 1),
        ("end", 500, "what was written before is complete: '{}/run\\.json'", 2),
    ],
)
def test_whatever_is_being_written_when_the_disk_is_full_nothing_is_lost(
    tmp_path, monkeypatch, expected, at, n_bytes, message, n_checkpoints
):
    call = LONG | {"n_jobs": 1, "progress": False, "folder": tmp_path}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limit[1]))

    try:
        with disturbed(monkeypatch, at, fill), pytest.raises(RuntimeError) as error:
            sweeps.run("reinforce/cartpole", **call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    [record] = find(tmp_path)
    assert re.search(message.format(record.folder), str(error.value))
    found = [checkpoints.load(path).keys() for path in record.folder.glob("*.pt")]
    assert found == [{"algorithm", "counters", "curve"}] * n_checkpoints
    assert not list(record.folder.glob(".*.part"))
    sweeps.run("reinforce/cartpole", **call)
    assert outcomes(tmp_path) == expected[:1]


@contextlib.contextmanager
def unwritable(folder):
    folder.chmod(0o555)
    root = os.geteuid() == 0  # root may write everywhere
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_where_it_may_not_write_it_says_so_and_loses_nothing(monkeypatch, expected):
    call = LONG | {"n_jobs": 1, "progress": False}

    def stop():
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        with (
            unwritable(folder),
            pytest.raises(PermissionError, match=f"Permission denied: '{folder}/reinforce'"),
        ):
            sweeps.run("reinforce/cartpole", **call, folder=folder)
        assert not list(folder.iterdir())
        with (
            disturbed(monkeypatch, 3, stop),
            pytest.raises(KeyboardInterrupt, match=r"^stopped at step 4,.* Continue with the same call"),
        ):
            sweeps.run("reinforce/cartpole", **call, folder=folder)
        [record] = find(folder)
        before = {p: p.read_bytes() for p in record.folder.iterdir()}
        with (
            unwritable(record.folder),
            pytest.raises(PermissionError, match=f"Permission denied: '{record.folder}/"),
        ):
            sweeps.run("reinforce/cartpole", **call, folder=folder)
        assert {p: p.read_bytes() for p in record.folder.iterdir()} == before
        sweeps.run("reinforce/cartpole", **call, folder=folder)
        assert outcomes(folder) == expected[:1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_folder_that_is_a_file_is_an_error(tmp_path, n_jobs):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match=f"'{path}.*'"):
        sweeps.run("reinforce/cartpole", seeds=2, folder=path, **(SHORT | {"n_jobs": n_jobs}))
    with pytest.raises(ValueError, match=f"folder must hold a run, got {path}, where there is none"):
        sweeps.resume(path)
    assert path.read_text() == "mine"


@pytest.fixture(scope="module")
def unreachable():
    """Two that look for a scheduler in vain, started early because that takes ten seconds."""
    with processes() as start, tempfile.TemporaryDirectory() as folder:
        yield [
            start(*command(folder, "--scheduler", address)) for address in ("tcp://127.0.0.1:1", "nonsense")
        ]


@pytest.fixture
def cluster(tmp_path, start):
    """The address of a Dask scheduler, and its two workers."""

    def dask(*words, log):
        with log.open("w") as stderr:
            return start(
                *words, "--no-dashboard", program=("-m", "dask"), stdout=subprocess.DEVNULL, stderr=stderr
            )

    file = tmp_path / "scheduler.json"
    scheduler = dask(
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        0,
        "--scheduler-file",
        file,
        log=tmp_path / "scheduler.log",
    )
    address = json.loads(
        until(lambda: file.exists() and (text := file.read_text()).endswith("}") and text, scheduler)
    )["address"]
    logs = [tmp_path / "worker-0.log", tmp_path / "worker-1.log"]
    options = [
        "--host",
        "127.0.0.1",
        "--nthreads",
        1,
        "--no-nanny",
        "--local-directory",
        tmp_path / "scratch",
    ]
    workers = [dask("worker", address, *options, log=log) for log in logs]
    for worker, log in zip(workers, logs, strict=True):
        until(lambda log=log: "Registered to" in log.read_text(), worker, interval=0.05)
    return address, workers


def test_on_a_cluster_a_worker_is_killed_and_another_does_its_run(
    tmp_path, start, unreachable, cluster, expected
):
    address, workers = cluster
    process = start(*command(tmp_path / "runs", "--seeds", 3, "--scheduler", address))
    [folder, *_] = until(lambda: started(tmp_path / "runs"), process)
    holder(folder, workers).kill()
    code, out, err, some_left = end(process)
    assert code == 0, err
    assert "Traceback" not in err
    assert not some_left
    assert outcomes(tmp_path / "runs") == expected
    assert sum(len(record.metadata["sessions"]) for record in find(tmp_path / "runs")) == 4
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == [
        f"{record.label} seed {record.seed}" for record in find(tmp_path / "runs")
    ]


def test_where_no_scheduler_listens_it_is_an_error(unreachable):
    for process, reason in zip(
        unreachable,
        ["Timed out trying to connect to tcp://127.0.0.1:1 after 10 s", "missing port"],
        strict=True,
    ):
        code, out, err, some_left = end(process)
        assert (code, out) == (1, "")
        assert f"Error: {reason}" in err
        assert "Traceback" not in err
        assert not some_left


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": [0.01, -1]}, "eta must be a positive number, got -1.0"),
        ({"gamma": [0.9, 99]}, r"gamma must be in \[0, 1\], got 99.0"),
        ({"batch_size": [50, 0]}, "batch_size must be a whole number of at least 1, got 0"),
        ({"hidden_sizes": ["8", "0"]}, "hidden_sizes must .*, got "),
        ({"n_envs": [1, 0]}, "n_envs must be a whole number of at least 1, got 0"),
        ({"optimizer": ["Adam", "adam"]}, "optimizer must be one of Adam, RMSprop, SGD, got 'adam'"),
    ],
)
def test_a_value_that_the_algorithm_refuses_is_named_before_the_first_run_begins(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        sweeps.run("reinforce/cartpole", settings=settings, folder=tmp_path, **SHORT)
    assert not list(tmp_path.rglob("run.json"))


SCRIPT = """
import sys
from pgcourse.environments.tasks import Task
from pgcourse.experiments import recipes, sweeps
from pgcourse.experiments.architectures import MLP

class Mine(Task):
    def evaluate(self, act, n_episodes, seed):
        return super().evaluate(act, n_episodes, seed) + 1000

if __name__ == "__main__":
    config = {"batch_size": 50}
    recipes.register("mine", "My own.", "reinforce", Mine("CartPole-v1"), MLP((4,)), 100, 100, config=config)
    records = sweeps.run("mine", seeds=2, n_jobs=int(sys.argv[1]), folder=sys.argv[2], progress=False)
    print(*(record.mean_return > 1000 for record in records))
"""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_recipe_that_a_script_registers_is_run_in_other_processes_too(tmp_path, start, n_jobs):
    (tmp_path / "script.py").write_text(SCRIPT)
    code, out, err, _ = end(start(n_jobs, tmp_path / "runs", program=(tmp_path / "script.py",)))
    assert (code, out) == (0, "True True\n"), err
    message = rf"^{tmp_path}/runs/mine/seed-0 holds a run of 'mine', .* not registered here; if a script"
    with pytest.raises(ValueError, match=message):
        sweeps.resume(tmp_path / "runs")


def test_a_recipe_that_cannot_be_sent_to_other_processes_is_an_error_that_says_what_to_do(
    tmp_path, monkeypatch
):
    task = Task("CartPole-v1")
    task.lock = threading.Lock()
    recipe = dataclasses.replace(recipes.get("reinforce/cartpole"), name="mine", task=task)
    monkeypatch.setitem(recipes.RECIPES, "mine", recipe)
    advice = "define its classes and functions in a module that they can import, or use n_jobs=1"
    with pytest.raises(RuntimeError, match=f"^the recipe cannot be sent to .*; {advice}$"):
        sweeps.run("mine", seeds=2, folder=tmp_path, **(SHORT | {"n_jobs": 2}))
    sweeps.run("mine", folder=tmp_path, **SHORT)


def test_links_to_folders_of_recipes_are_followed_as_by_run(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs" / "reinforce").mkdir(parents=True)
    (tmp_path / "runs" / "reinforce" / "cartpole").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "around").symlink_to(tmp_path / "runs", target_is_directory=True)  # a circle
    [record] = sweeps.run("reinforce/cartpole", folder=tmp_path / "runs", **SHORT)
    assert [r.folder for r in find(tmp_path / "runs")] == [record.folder]
    [again] = sweeps.resume(tmp_path / "runs", n_jobs=1, progress=False)
    assert again.metadata == record.metadata


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": [0, 2**31]}, "seeds must be at most 1,073,741,823, got 2,147,483,648"),
        ({"seeds": 0}, r"seeds must be at least 1, or a list of whole numbers from 0, got \[\]"),
        ({"seeds": [0, -1]}, r"seeds must be at least 1, or a list of whole numbers from 0, got \[0, -1\]"),
        ({"seeds": [0.5]}, r"seeds must be at least 1, or a list of whole numbers from 0, got \[0\.5\]"),
        ({"steps": 1, "episodes": 1}, "exactly one of steps, episodes, minutes must be given, got "),
        ({"steps": -1}, "steps must be a positive number, got -1"),
        ({"checkpoint_interval": 0}, "checkpoint_interval must be at least 1, got 0"),
        ({"n_jobs": 0}, "n_jobs must be a whole number of at least 1, got 0"),
        ({"eval_interval": 0}, "eval_interval must be a whole number of at least 1, got 0"),
        ({"n_eval_episodes": 0}, "n_eval_episodes must be a whole number of at least 1, got 0"),
        ({"settings": {"etta": 1}}, "reinforce/cartpole has no setting 'etta'; did you mean eta"),
        (
            {"settings": {"batch_size": [10, 0.5]}},
            "batch_size must be of type int, as its default .*, got 0.5",
        ),
    ],
)
def test_bad_input_is_named_before_anything_runs(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        sweeps.run("reinforce/cartpole", **({"folder": tmp_path} | options))
    assert not list(tmp_path.rglob("run.json"))


def test_there_is_no_such_recipe(tmp_path):
    with pytest.raises(
        ValueError, match=r"^there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole"
    ):
        sweeps.run("reinforce/cartpol", folder=tmp_path)
    with pytest.raises(ValueError, match=f"^folder must hold a run, got {tmp_path}, where there is none$"):
        sweeps.resume(tmp_path)


def test_a_cluster_without_dask_names_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"^scheduler needs Dask; install it with: pip install distributed$"):
        sweeps.run(
            "reinforce/cartpole", steps=1000, folder=tmp_path, scheduler="tcp://127.0.0.1:1", progress=False
        )
