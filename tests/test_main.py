"""The command line as it is typed: what it prints, writes, and how it fails. And commands shown on pages."""

import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pgcourse.__main__ import app
from pgcourse.experiments import recipes, records, sweeps
from pgcourse.experiments.settings import format_value
from pgcourse.maths.statistics import bootstrap_interval

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
NAME, LABEL = "reinforce/cartpole", "reinforce/cartpole batch_size=501"
COMMANDS = ["list", "run", "resume", "evaluate", "watch", "plot", "diagnose", "grade"]
RUN = ["run", NAME, "--seeds", 2, "--set", "batch_size=501", "--steps", 4000]
RUN += ["--checkpoint-interval", 2000, "--n-jobs", 1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "book").glob("*.md"),
        *(ROOT / "book").rglob("*.ipynb"),
    ]
)


def pgcourse(*arguments):
    """Type a command. Whatever happens must end in an exit code, not in an exception."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="pgcourse")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(*arguments):
    """What a command prints that succeeds."""
    result = pgcourse(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def error(*arguments):
    """What it says that fails: one line on stderr, nothing else."""
    result = pgcourse(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("Error: ").rstrip("\n")


unix = pytest.mark.skipif(os.name != "posix", reason="needs pipes and streams as Unix has them")


def process(*arguments, **options):
    command = [sys.executable, "-W", "error", "-m", "pgcourse", *map(str, arguments)]
    return subprocess.run(command, **({"capture_output": True, "text": True, "timeout": 120} | options))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the first ``run`` said, and where it ran."""
    folder = tmp_path_factory.mktemp("main")
    return pgcourse(*RUN, "--folder", folder), folder


@pytest.fixture
def runs(ran, tmp_path):
    """Two finished runs in a folder of the test's own, which is where it is."""
    return shutil.copytree(ran[1], tmp_path / "runs")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with matplotlib.rc_context():
        yield
    plt.close("all")


def test_run_says_how_each_seed_did_and_their_mean(ran):
    result, folder = ran
    assert result.exit_code == 0
    first, second = records.load(NAME, folder, batch_size=501)
    *each, together = result.stdout.splitlines()
    assert each == [
        f"{LABEL} seed {r.seed}: {r.mean_return:.4g} over 100 episodes, in {r.folder}"
        for r in (first, second)
    ]
    interval = bootstrap_interval([first.mean_return, second.mean_return])
    assert together == f"{LABEL}: interquartile mean of 2 seeds {interval}"
    assert "4,000 of 4,000 steps" in result.stderr  # the progress bar


def test_settings_with_several_values_span_a_grid(tmp_path):
    settings = ["--set", "eta=0.1,0.2", "--set", "batch_size=50", "--set", "eta=0.3"]
    said("run", NAME, *settings, "--steps", 100, "--n-jobs", 1)
    assert [r.overrides for r in records.find("runs")] == [
        {"batch_size": 50, "eta": eta} for eta in (0.1, 0.2, 0.3)
    ]


def test_the_same_command_again_has_nothing_to_do(ran):
    result, folder = ran
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    assert said(*RUN, "--folder", folder) == result.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before


def test_resume_continues_stopped_runs(runs):
    """The second run, put back to its beginning, comes out as it did."""
    _, second = records.find(runs)
    before, metadata = second.returns, dict(second.metadata)
    del metadata["result"], metadata["digests"]
    (second.folder / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    (second.folder / "policy.safetensors").unlink()
    assert (
        error("evaluate", second.folder)
        == f"{second.folder} holds only unfinished runs; continue them with: pgcourse resume {second.folder}"
    )
    printed = said("resume", runs, "--n-jobs", 1)
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        f"{LABEL} seed 0",
        f"{LABEL} seed 1",
        LABEL,
    ]
    _, second = records.find(runs)
    assert (second.returns == before).all()
    assert len(second.metadata["sessions"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for others")
def test_ctrl_c_says_how_to_continue_and_that_is_true(tmp_path):
    """Capitals in the folder's name must survive, and a blank."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # if pytest ignores it
        "from pgcourse.__main__ import app; app(prog_name='pgcourse')"
    )
    arguments = [
        "run",
        NAME,
        "--steps",
        "8000",
        "--checkpoint-interval",
        "2000",
        "--set",
        "batch_size=200",
        "--folder",
        "My Runs",
        "--n-jobs",
        "1",
    ]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.rglob("checkpoint-*.pt")):
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in stderr
    [advice] = re.findall(r"pgcourse (resume .+)\n", stderr)
    said(*shlex.split(advice), "--n-jobs", 1)
    [record] = records.find(tmp_path / "My Runs")
    assert record.finished
    assert record.metadata["result"]["n_steps"] >= 8000


def test_list_names_every_recipe_its_budget_and_what_is_recorded():
    printed = said("list")
    assert re.findall(r"^(\S+): ", printed, re.MULTILINE) == list(recipes.RECIPES)
    for recipe in recipes.RECIPES.values():
        interval = f"a checkpoint every {recipe.checkpoint_interval:,}"
        budget = f"{recipe.steps:,} steps of {recipe.task.name}, {interval}"
        assert f"{recipe.name}: {recipe.description}\n    budget: {budget}\n" in printed
        means = [r.mean_return for r in records.find() if r.name == recipe.name and not r.overrides]
        if len(means) > 1:
            result = f"interquartile mean {bootstrap_interval(means)}"
            assert f"    recorded: {len(means)} seeds, {result}\n" in printed


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_list_and_help_show_settings_as_run_takes_them_with_their_meanings(name, monkeypatch):
    """Reading the two columns of an 80 columns wide terminal again gives what the recipe says."""
    monkeypatch.setenv("COLUMNS", "80")
    recipe = recipes.get(name)
    listed, helped = said("list", name), said("run", name, "--help")
    heading = f"Settings of {name} (--set NAME=VALUE):\n"
    table = listed.partition(heading)[2]
    assert table.rstrip() == helped.partition(heading)[2].rstrip()
    assert max(map(len, helped.splitlines())) <= 80
    width = re.search(r"=\S+ +", table).end()
    shown, meanings = {}, {}
    for line in table.rstrip().splitlines():
        if left := line[:width].strip():
            setting, _, shown[setting] = left.partition("=")
        meanings[setting] = f"{meanings.get(setting, '')} {line[width:]}".strip()
    assert shown == {setting: format_value(value) for setting, value in recipe.defaults.items()}
    assert recipe.settings(**shown) == recipe.defaults
    assert meanings == {setting: recipe.setting_help[setting] for setting in recipe.defaults}
    assert listed.startswith(f"{name}: ")
    assert not any(re.search(rf"{other}(?![\w-])", listed) for other in recipes.RECIPES if other != name)


def test_help_of_run_lists_settings_only_after_the_name_of_a_recipe():
    for arguments in (["run", "-h"], ["run", "--seeds", "3", "--help"], ["resume", "--help", NAME]):
        assert "Settings of" not in said(*arguments)
    shown = said("run", NAME, "--help")
    assert said("run", "--help", NAME) == said("run", "--folder", "dqn/pong", NAME, "-h") == shown
    message = "there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole"
    result = pgcourse("run", "reinforce/cartpol", "--help")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")


def test_evaluate_compares_with_the_records(runs):
    first, second, together = said("evaluate", runs / NAME, "--episodes", 20, "--seed", 5).splitlines()
    checks = [record.verify(20, 5) for record in records.find(runs)]
    assert [first, second] == [f"{LABEL} seed {seed}: {check}" for seed, check in enumerate(checks)]
    assert first.endswith("agrees")
    interval = bootstrap_interval([check.replayed for check in checks])
    assert together == f"{LABEL}: interquartile mean of 2 seeds {interval}"
    [line] = said("evaluate", next(records.find(runs)).folder).splitlines()
    assert line == f"{LABEL} seed 0: {next(records.find(runs)).verify(100, 1)}"


def test_evaluate_greedy_takes_the_most_probable_actions(runs):
    record = next(records.find(runs))
    [line] = said("evaluate", record.folder, "--greedy", "--episodes", 10).splitlines()
    returns = recipes.get(NAME).evaluate(record.policy(), 10, 1, greedy=True)
    assert line == f"{LABEL} seed 0: {returns.mean():.4g}, from {returns.min():.4g} to {returns.max():.4g}"


def test_evaluate_names_records_that_are_not_reproduced(runs):
    record = next(records.find(runs))
    metadata = record.metadata
    metadata["result"]["returns"] = [r + 400 for r in metadata["result"]["returns"]]
    del metadata["digests"]
    (record.folder / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    result = pgcourse("evaluate", runs)
    assert result.exit_code == 1
    assert [line.rpartition(" ")[2] for line in result.stdout.splitlines()[:2]] == ["DISAGREES", "agrees"]
    assert result.stderr == "Error: 1 of 2 policies do not reproduce their recorded returns\n"


def test_evaluate_does_not_average_over_different_things(runs):
    """An interquartile mean over runs of different recipes or settings would mean nothing."""
    _, second = records.find(runs)
    metadata = second.metadata | {"overrides": {"batch_size": 501, "eta": 0.02}, "digests": {}}
    (second.folder / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    assert "interquartile mean" not in said("evaluate", runs, "--episodes", 5)


@pytest.mark.skipif(not list(records.find()), reason="no record yet")
def test_evaluate_takes_a_recipe_for_its_records():
    shipped = records.load(NAME)
    lines = said("evaluate", NAME, "--episodes", 5).splitlines()
    assert [line.partition(":")[0] for line in lines[: len(shipped)]] == [
        f"{NAME} seed {record.seed}" for record in shipped
    ]


def frames_in(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    [(width, height)] = set(
        re.findall(r"Video: .*?, (\d+)x(\d+)", result.stderr.decode().partition("Output")[0])
    )
    return result.stderr.decode(), np.frombuffer(result.stdout, np.uint8).reshape(
        -1, int(height), int(width), 3
    )


@pytest.mark.parametrize("greedy", [False, True])
def test_watch_writes_a_video_of_the_episode(runs, tmp_path, greedy):
    options = ["--seed", 1, "--episode", 3, "--to", tmp_path / "video.mp4", *(["--greedy"] if greedy else [])]
    assert said("watch", runs, *options) == f"Wrote {tmp_path / 'video.mp4'}\n"
    record = list(records.find(runs))[1]
    frames = list(recipes.get(NAME).task.render_episode(recipes.actor(record.policy(), 3, greedy=greedy), 3))
    log, shown = frames_in(tmp_path / "video.mp4")
    assert "Video: h264" in log
    assert " 50 fps" in log
    assert shown.shape == np.shape(frames)
    assert all(
        np.abs(was.astype(int) - now).mean() < 3 for was, now in zip(frames, shown, strict=True)
    )  # lossy
    assert not (tmp_path / ".video.mp4.part").exists()


def test_watch_without_a_screen_writes_a_video_named_after_the_run(runs, tmp_path):
    assert said("watch", runs, "--seed", 1) == "Wrote reinforce-cartpole-1.mp4\n"
    assert len(frames_in(tmp_path / "reinforce-cartpole-1.mp4")[1])


def test_watch_opens_a_window_where_there_is_a_screen(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")  # and SDL's dummy driver draws it
    assert said("watch", runs) == ""
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_watch_says_so_where_the_screen_is_gone(runs, monkeypatch):
    """As after a connection was lost: SDL would draw for nobody."""
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("SDL_VIDEODRIVER")
    message = "no window can be opened: the screen DISPLAY=:77 does not answer; write a video file instead"
    assert error("watch", runs) == message


@pytest.mark.parametrize("target", ["nowhere/video.mp4", "video.gif"])
def test_a_target_that_cannot_be_written_is_known_before_anything_is_played(runs, monkeypatch, target):
    def play(*_):
        raise AssertionError

    monkeypatch.setattr(type(recipes.get(NAME).task), "render_episode", play)
    error("watch", runs, "--to", target)


def test_watch_says_so_where_the_screen_cannot_be_used(runs, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    assert re.match(r"no window can be opened: nonsense not available; .*video", error("watch", runs))


def test_plot_draws_the_curves_and_their_labels_within_the_picture(runs, tmp_path):
    assert said("plot", runs, "--to", "curves.png") == "Wrote curves.png\n"
    picture = (255 * plt.imread(tmp_path / "curves.png")[..., :3]).round().astype(int)
    blue = (np.abs(picture - [0, 0x72, 0xB2]).max(axis=2) < 10).sum()
    assert blue > 200  # a line from one side to the other
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edge == 255).all()


def test_plot_and_evaluate_leave_out_copies_and_keep_budgets_apart(runs, tmp_path):
    first = next(records.find(runs))
    copy, longer = (shutil.copytree(first.folder, runs / name) for name in ("x-backup", "x-longer"))
    metadata = {name: value for name, value in first.metadata.items() if name != "digests"}
    (longer / "run.json").write_text(json.dumps(metadata | {"budget": [8000, "steps"]}), encoding="utf-8")
    note = f"^left out runs/x-backup: {first.folder.relative_to(tmp_path)} has the same recipe, "
    with pytest.warns(UserWarning, match=note):  # which the program prints in a line
        said("plot", "runs", "--to", "curves.svg")
    text = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert f"<!-- {LABEL} (4,000 steps) -->" in text
    assert f"<!-- {LABEL} (8,000 steps) -->" in text
    with pytest.warns(UserWarning, match=note):
        printed = said("evaluate", "runs", "--episodes", 2)
    assert [line.partition(": ")[0] for line in printed.splitlines()] == [
        f"{LABEL} (4,000 steps) seed 0",
        f"{LABEL} (4,000 steps) seed 1",
        f"{LABEL} (8,000 steps) seed 0",
        f"{LABEL} (4,000 steps)",
    ]
    assert copy.exists()


def test_plot_writes_other_formats_and_several_lines(runs, tmp_path):
    other = shutil.copytree(next(records.find(runs)).folder, tmp_path / "other")
    metadata = json.loads((other / "run.json").read_text(encoding="utf-8"))
    metadata |= {"overrides": {"eta": 0.5}, "digests": {}}
    (other / "run.json").write_text(json.dumps(metadata), encoding="utf-8")
    said("plot", runs, other, "--to", "curves.svg")
    text = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert f"<!-- {LABEL} -->" in text
    assert "<!-- reinforce/cartpole eta=0.5 -->" in text
    assert "<!-- mean return of fresh episodes -->" in text
    assert said("plot", runs) == "Wrote learning-curves.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["list", "reinforce/cartpol"],
            "there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole.*",
        ),
        (
            ["run", "reinforce/cartpol"],
            "there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole.*",
        ),
        (["evaluate", "reinforce/cartpol"], ".*'reinforce/cartpol'.*did you mean reinforce/cartpole.*"),
        (["watch", "reinforce/cartpol"], ".*'reinforce/cartpol'.*did you mean reinforce/cartpole.*"),
        (["plot", "reinforce/cartpol"], ".*'reinforce/cartpol'.*did you mean reinforce/cartpole.*"),
        (
            ["evaluate", "runs/nowhere"],
            "there is no folder 'runs/nowhere', and there is no recipe 'runs/nowhere'; .*",
        ),
        (["run", NAME, "--set", "eta"], "--set must be NAME=VALUE, such as eta=0.01, got 'eta'"),
        (["run", NAME, "--set", "eta="], "--set must be NAME=VALUE, such as eta=0.01, got 'eta='"),
        (["run", NAME, "--set", "=3"], "--set must be NAME=VALUE, such as eta=0.01, got '=3'"),
        (["run", NAME, "--set", "etta=3"], "reinforce/cartpole has no setting 'etta'; did you mean eta.*"),
        (["run", NAME, "--set", "eta=fast"], "eta must be of type float, as its default .*, got 'fast'"),
        (
            ["run", NAME, "--set", "eta=0,01"],
            "--set must have a decimal point, eta=0.01, or eta=0.0,01 for two values, got eta=0,01",
        ),
        (["run", NAME, "--set", "eta=0,003,0,01"], r"--set must have a decimal point, eta=0\.003, or .*"),
        (["run", NAME, "--set", "eta=0.01,-1"], "eta must be a positive number, got -1.0"),
        (["run", NAME, "--set", "eta=0.1,,0.2"], "eta must be of type float, as its default .*, got ''"),
        (["run", NAME, "--seeds", "0"], "seeds must be at least 1, .*"),
        (["run", NAME, "--n-jobs", "-1"], "n_jobs must be a whole number of at least 1, got -1"),
        (["run", NAME, "--n-jobs", "0"], "n_jobs must be a whole number of at least 1, got 0"),
        (["run", NAME, "--checkpoint-interval", "0"], "checkpoint_interval must be at least 1, got 0"),
        (["run", NAME, "--steps", "0"], "steps must be a positive number, got 0"),
        (
            ["run", NAME, "--steps", "5", "--episodes", "5"],
            "exactly one of steps, episodes, minutes must be given, got .*",
        ),
        (["resume", "nowhere"], "folder must hold a run, got nowhere, where there is none"),
        (["evaluate", "."], ". holds no run"),
        (["watch", "."], ". holds no run"),
        (["plot", "."], ". holds no run"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    assert re.fullmatch(message, error(*arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--episodes", "1"], "n_episodes must be a whole number of at least 2, got 1"),
        (
            ["evaluate", "--episodes", "0", "--greedy"],
            "n_episodes must be (a whole number of )?at least 1, got 0",
        ),
        (["evaluate", "--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["evaluate", "--seed", "-1", "--greedy"], "seed must be a whole number of at least 0, got -1"),
        (["watch", "--seed", "7"], "runs must hold one run with seed 7, got none"),
        (["watch", "--episode", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["watch", "--to", "nowhere/video.mp4"], r".*nowhere/video.mp4.*"),
        (["plot", "--to", "curves.xyz"], r"--to must end in \..* or .*, got curves\.xyz"),
        (["plot", "--to", "nowhere/curves.png"], "--to must be in a folder that exists, got nowhere/.*"),
        (["watch", "--to", "video.gif"], r"--to must end in \.mp4, got video\.gif"),
        (["watch", "--to", "video"], r"--to must end in \.mp4, got video"),
        (["watch", "--episode", str(2**31)], "seed must be at most 1,073,741,823, got 2,147,483,648"),
        (["evaluate", "--seed", str(2**31)], "seed must be at most 1,073,741,823, got 2,147,483,648"),
        (["evaluate", "--seed", str(10**30)], "seed must be at most 1,073,741,823, got 1,000,.*"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_mistakes_about_runs_are_one_line(arguments, message):
    command, *options = arguments
    assert re.fullmatch(message, error(command, "runs", *options))


def test_damage_is_one_line(runs):
    record = next(records.find(runs))
    for name, damage in [("curve.csv", "n_updates"), ("policy.safetensors", ""), ("run.json", "{")]:
        (record.folder / name).write_text(damage, encoding="utf-8")
        commands = {
            "curve.csv": ["plot"],
            "policy.safetensors": ["evaluate", "watch"],
            "run.json": ["plot", "evaluate", "watch", "resume"],
        }
        for command in commands[name]:
            assert f"{record.folder / name} is damaged" in error(command, runs)


def test_what_failed_in_some_runs_is_told_for_each(tmp_path):
    result = pgcourse(
        "run",
        NAME,
        "--seeds",
        2,
        "--set",
        "eta=1e30",
        "--set",
        "batch_size=200",
        "--steps",
        1000,
        "--n-jobs",
        1,
    )
    assert result.exit_code == 1
    first, *each = result.stderr.rpartition("Error: ")[2].splitlines()
    assert first == "2 of 2 runs failed:"
    assert [line.partition(":")[0][-6:] for line in each] == ["seed-0", "seed-1"]
    assert "Traceback" not in result.stderr


# As a program


def test_it_runs_as_a_module_and_fails_without_a_traceback():
    assert process("list").stdout == said("list")
    result = process("run", "reinforce/cartpol")
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(
        "Error: there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole.*\n", result.stderr
    )


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "latin-1", "ascii", "utf-8"])
def test_letters_that_a_terminal_or_file_does_not_know_are_replaced(encoding):
    command = [sys.executable, "-W", "error", "-m", "pgcourse", "list"]
    options = {"env": os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}, "timeout": 120}
    result = subprocess.run(command, capture_output=True, **options)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode(encoding).splitlines() == [
        line.encode(encoding, "replace").decode(encoding) for line in said("list").splitlines()
    ]


@unix
@pytest.mark.parametrize("arguments", [["list"], ["list", NAME], ["run", NAME, "--help"]])
def test_a_pipe_that_is_closed_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    result = process(*arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert result.stderr == ""
    assert result.returncode in ((0,) if "--help" not in arguments else (0, 1))  # help is click's


@unix
@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "1>&- 2>&-"])
def test_closed_streams_are_no_error_and_nothing_is_written_into_files_instead(tmp_path, closed):
    budget = "--set batch_size=50 --steps 100 --n-jobs 1"
    command = f"{shlex.quote(sys.executable)} -m pgcourse run {NAME} {budget} {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=120).returncode == 0
    [record] = records.find(tmp_path)
    assert record.finished
    record.curve()
    assert subprocess.run(["sh", "-c", command.replace(NAME, "no/recipe")], timeout=120).returncode == 1


def test_it_trains_in_several_processes(tmp_path):
    result = process(
        "run", NAME, "--seeds", 2, "--set", "batch_size=50", "--steps", 100, "--n-jobs", 2, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[:-1] == [
        f"{r.label} seed {r.seed}: {r.mean_return:.4g} over 100 episodes, in {r.folder}"
        for r in records.find("runs")
    ]
    assert [r.seed for r in records.find("runs")] == [0, 1]


def test_diagnose_says_nothing_wrong_of_good_runs():
    label = "ddpg-paper/pendulum"
    each = [f"{label} seed {seed}: nothing wrong" for seed in range(5)]
    assert said("diagnose", label).splitlines() == [*each, f"{label}, 5 seeds: nothing wrong"]


def test_diagnose_names_the_symptoms_their_evidence_the_causes_and_the_section():
    path = ROOT / "tests" / "curves" / "development" / "wrong-sign-reinforce.csv"
    named, evidence, _, *explained = said("diagnose", path).splitlines()
    title = "Return falls from the first step"
    assert named == f"{path}: {title}"
    assert re.fullmatch(
        rf"    {title}: eval_return falls from 21\.75 to 9\.\d+ in the last third, .*", evidence
    )
    assert explained[0] == title
    assert explained[1].startswith("    likely causes: the sign of the gradient")
    assert explained[2].startswith("    check: one update")
    assert explained[3:] == ["    read: book/curves.ipynb#return-falls-from-the-first-step"]


def test_diagnose_compares_seeds_and_explains_each_symptom_once():
    folder = records.COMPARISONS_DIR / "sample-efficiency" / "reinforce" / "acrobot" / "return_fn=total"
    lines = said("diagnose", folder).splitlines()
    label = "reinforce/acrobot return_fn=total"
    assert sum(line.endswith(": nothing wrong") for line in lines) == 7
    assert f"{label}, 10 seeds: Seeds disagree" in lines
    assert lines.count("All returns equal") == 1


def test_diagnose_says_what_it_cannot_read(runs):
    assert error("diagnose", "no/recipe") == error("evaluate", "no/recipe")
    _, second = records.find(runs)
    few = "curve must have at least 8 values to be read, got 1 of eval_return and 0 of return"
    Path("short.csv").write_text("n_steps,eval_return\n0,20\n", encoding="utf-8")
    assert error("diagnose", "short.csv") == f"short.csv: {few}"
    (second.folder / "curve.csv").write_text("not a curve\n", encoding="utf-8")
    assert "is damaged" in error("diagnose", second.folder)


def test_without_a_command_it_shows_what_there_is():
    result = pgcourse()
    assert result.exit_code == 2
    assert all(f"\n  {command} " in result.stdout + result.stderr for command in COMMANDS)
    assert "pgcourse list" in result.stdout + result.stderr


@pytest.mark.parametrize(
    "arguments", [["--bogus"], ["run"], ["run", NAME, "--bogus"], ["run", NAME, "--seeds", "two"], ["walk"]]
)
def test_what_cannot_be_parsed_is_told_with_the_usage(arguments):
    result = pgcourse(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: pgcourse")


@pytest.mark.parametrize(
    "code",
    [
        "import pgcourse.__main__",
        *[
            f"import sys, runpy; sys.argv = {['pgcourse', *arguments]}; runpy.run_module('pgcourse')"
            for arguments in (["--help"], ["run", "-h"])
        ],
    ],
)
def test_help_is_quick_because_nothing_heavy_is_imported(code):
    code = (
        "import atexit, sys; atexit.register(lambda: print('\\n', *sys.modules, file=sys.stderr))\n"
        + code.replace("run_module('pgcourse')", "run_module('pgcourse', run_name='__main__')")
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = result.stderr.split()
    assert "pgcourse" in modules
    assert not {
        "torch",
        "gymnasium",
        "matplotlib",
        "numpy",
        "scipy",
        "pygame",
        "joblib",
        "distributed",
    } & set(modules)


def test_listing_does_not_import_torch():
    code = "import sys; from pgcourse.__main__ import app; app(['list'], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# What help and pages show


def parsed(line):
    """A command as it would be understood: the recipe or folder, the options. An error if it would not be."""
    name, *arguments = shlex.split(line, comments=True)
    assert name == "pgcourse"
    arguments = [word for word in arguments if word not in ("-h", "--help")]  # which would be shown and exit
    group = typer.main.get_command(app)
    context = group.make_context("pgcourse", list(arguments))
    _, command, rest = group.resolve_command(context, arguments)
    return command.name, command.make_context(command.name, rest).params


def examples():
    """The commands in the help texts and the pages of this repository."""
    for command in COMMANDS:
        for line in re.findall(r"^  (pgcourse .+)$", said(command, "--help"), re.MULTILINE):
            yield f"{command} --help", line
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        for line in re.findall(
            rf"(?:^\s*[!%]?|`)(pgcourse (?:{'|'.join(COMMANDS)})\b[^`\n]*)", text, re.MULTILINE
        ):
            yield path.name, line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example_of_it(command):
    lines = [line for where, line in examples() if where == f"{command} --help"]
    assert lines
    assert {parsed(line)[0] for line in lines} == {command}
    assert said(command, "-h") == said(command, "--help")


@pytest.mark.parametrize(("where", "line"), list(examples()))
def test_every_command_that_is_shown_exists_as_do_its_recipe_and_settings(where, line):
    command, options = parsed(line.replace("RECIPE", NAME))
    shown = [options.get("recipe"), options.get("source"), *(options.get("sources") or [])]
    for name in filter(None, shown):
        if "/" in name:
            recipes.get(name.removeprefix("runs/").partition(" ")[0])
    if command == "run":
        settings = dict(setting.split("=") for setting in options["settings"] or [])
        for name, values in settings.items():
            for value in values.split(","):
                recipes.get(options["recipe"]).settings(**{name: value})


def test_the_help_names_every_parameter_of_a_sweep():
    missing = set(inspect.signature(sweeps.run).parameters) - set(parsed(f"pgcourse run {NAME}")[1])
    assert missing == {"progress"}
