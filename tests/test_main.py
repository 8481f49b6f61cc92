"""The command line as it is typed: what it prints, what it writes, how it fails. And every command that a page shows."""

import inspect
import json
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
from pgcourse.maths.statistics import interval

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
NAME, LABEL = "reinforce/cartpole", "reinforce/cartpole batch_size=501"
COMMANDS = ["list", "run", "resume", "evaluate", "watch", "plot"]
RUN = ["run", NAME, "--seeds", 2, "--set", "batch_size=501", "--steps", 4000, "--every", 2000, "--jobs", 1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "book").glob("*.md"),
        *(ROOT / "book").glob("*.ipynb"),
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


def process(*arguments, **options):
    command = [sys.executable, "-W", "error", "-m", "pgcourse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


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
        f"{LABEL} seed {r.seed}: {r.score:.4g} over 100 episodes, in {r.folder}" for r in (first, second)
    ]
    assert together.startswith(
        f"{LABEL}: interquartile mean of 2 seeds {interval([first.score, second.score])}"
    )
    assert "4,000 of 4,000 steps" in result.stderr  # the progress bar


def test_a_setting_is_tried_at_every_value_that_is_given_for_it(tmp_path):
    settings = ["--set", "eta=0.1,0.2", "--set", "batch_size=50", "--set", "eta=0.3"]
    said("run", NAME, *settings, "--steps", 100, "--jobs", 1)
    assert [r.changed for r in records.find("runs")] == [
        {"batch_size": 50, "eta": eta} for eta in (0.1, 0.2, 0.3)
    ]


def test_the_same_command_again_has_nothing_to_do(ran):
    result, folder = ran
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    assert said(*RUN, "--folder", folder) == result.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before


def test_resume_goes_on_with_what_was_stopped(runs):
    """The second run, put back to its beginning, comes out as it did."""
    _, second = records.find(runs)
    before, about = second.scores, dict(second.about)
    del about["result"]
    (second.folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    (second.folder / "policy.safetensors").unlink()
    assert (
        error("evaluate", second.folder)
        == f"{second.folder} holds unfinished runs only; go on with: pgcourse resume {second.folder}"
    )
    printed = said("resume", runs, "--jobs", 1)
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        f"{LABEL} seed 0",
        f"{LABEL} seed 1",
        LABEL,
    ]
    _, second = records.find(runs)
    assert (second.scores == before).all()
    assert len(second.about["sessions"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for others")
def test_ctrl_c_says_how_to_go_on_and_that_is_true(tmp_path):
    """Capitals in the folder's name must survive, and a blank."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # pytest in the background would have it ignored
        "from pgcourse.__main__ import app; app(prog_name='pgcourse')"
    )
    arguments = [
        "run",
        NAME,
        "--steps",
        "8000",
        "--every",
        "2000",
        "--set",
        "batch_size=200",
        "--folder",
        "My Runs",
        "--jobs",
        "1",
    ]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.rglob("checkpoint-*.safetensors")):
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in stderr
    [advice] = re.findall(r"pgcourse (resume .+)\n", stderr)
    said(*shlex.split(advice), "--jobs", 1)
    [record] = records.find(tmp_path / "My Runs")
    assert record.finished
    assert record.about["result"]["n_steps"] >= 8000


def test_list_names_every_recipe_its_budget_and_what_is_recorded():
    printed = said("list")
    assert re.findall(r"^(\S+): ", printed, re.MULTILINE) == list(recipes.RECIPES)
    for recipe in recipes.RECIPES.values():
        budget = f"{recipe.steps:,} steps of {recipe.task.name}, a checkpoint every {recipe.every:,}"
        assert f"{recipe.name}: {recipe.about}\n    budget: {budget}\n" in printed
        if len(recorded := [r for r in records.find() if r.name == recipe.name and not r.changed]) > 1:
            assert (
                f"    recorded: {len(recorded)} seeds, interquartile mean {interval([r.score for r in recorded])}\n"
                in printed
            )


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_list_shows_settings_as_run_takes_them(name):
    printed = said("list", name)
    shown = dict(re.findall(r"^    --set (\w+)=(.+)$", printed, re.MULTILINE))
    assert recipes.get(name).settings(**shown) == recipes.get(name).defaults
    assert shown.keys() == recipes.get(name).defaults.keys()
    assert printed.startswith(f"{name}: ")
    assert not any(other in printed for other in recipes.RECIPES if other != name)


def test_evaluate_compares_with_the_records(runs):
    first, second, together = said("evaluate", runs / NAME, "--episodes", 20, "--seed", 5).splitlines()
    verdicts = [record.verify(20, 5) for record in records.find(runs)]
    assert [first, second] == [f"{LABEL} seed {seed}: {verdict}" for seed, verdict in enumerate(verdicts)]
    assert first.endswith("agrees")
    assert (
        together
        == f"{LABEL}: interquartile mean of 2 seeds {interval([verdict.played for verdict in verdicts])}"
    )
    [line] = said("evaluate", next(records.find(runs)).folder).splitlines()
    assert line == f"{LABEL} seed 0: {next(records.find(runs)).verify(100, 1)}"


def test_evaluate_greedy_plays_the_most_probable_actions(runs):
    record = next(records.find(runs))
    [line] = said("evaluate", record.folder, "--greedy", "--episodes", 10).splitlines()
    scores = recipes.get(NAME).evaluate(record.policy(), 10, 1, greedy=True)
    assert line == f"{LABEL} seed 0: {scores.mean():.4g}, from {scores.min():.4g} to {scores.max():.4g}"


def test_evaluate_tells_who_lied(runs):
    record = next(records.find(runs))
    about = record.about
    about["result"]["scores"] = [score + 400 for score in about["result"]["scores"]]
    (record.folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    result = pgcourse("evaluate", runs)
    assert result.exit_code == 1
    assert [line.rpartition(" ")[2] for line in result.stdout.splitlines()[:2]] == ["DISAGREES", "agrees"]
    assert result.stderr == "Error: 1 of 2 runs do not play as recorded\n"


def test_evaluate_does_not_average_over_different_things(runs):
    """An interquartile mean of one recipe's runs with other settings, or of two recipes', would be the mean of apples and pears."""
    _, second = records.find(runs)
    about = second.about | {"changed": {"batch_size": 501, "eta": 0.02}}
    (second.folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    assert "interquartile mean" not in said("evaluate", runs, "--episodes", 5)


@pytest.mark.skipif(not list(records.find()), reason="no record yet")
def test_evaluate_takes_a_recipe_for_its_records():
    shipped = records.load(NAME)
    lines = said("evaluate", NAME, "--episodes", 5).splitlines()
    assert [line.partition(":")[0] for line in lines[: len(shipped)]] == [
        f"{NAME} seed {record.seed}" for record in shipped
    ]


def film_in(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    [(width, height)] = set(
        re.findall(r"Video: .*?, (\d+)x(\d+)", result.stderr.decode().partition("Output")[0])
    )
    return result.stderr.decode(), np.frombuffer(result.stdout, np.uint8).reshape(
        -1, int(height), int(width), 3
    )


@pytest.mark.parametrize("greedy", [False, True])
def test_watch_writes_a_film_of_the_episode(runs, tmp_path, greedy):
    options = ["--seed", 1, "--episode", 3, "--to", tmp_path / "film.mp4", *(["--greedy"] if greedy else [])]
    assert said("watch", runs, *options) == f"Wrote {tmp_path / 'film.mp4'}\n"
    record = list(records.find(runs))[1]
    frames = list(recipes.get(NAME).task.film(recipes.actor(record.policy(), 3, greedy=greedy), 3))
    about, shown = film_in(tmp_path / "film.mp4")
    assert "Video: h264" in about
    assert " 50 fps" in about
    assert shown.shape == np.shape(frames)
    assert all(
        np.abs(was.astype(int) - now).mean() < 3 for was, now in zip(frames, shown, strict=True)
    )  # lossy
    assert not (tmp_path / ".film.mp4.part").exists()


def test_watch_without_a_screen_writes_a_film_named_after_the_run(runs, tmp_path):
    assert said("watch", runs, "--seed", 1) == "Wrote reinforce-cartpole-1.mp4\n"
    assert len(film_in(tmp_path / "reinforce-cartpole-1.mp4")[1])


def test_watch_opens_a_window_where_there_is_a_screen(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")  # and SDL's dummy driver draws it
    assert said("watch", runs) == ""
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_watch_says_so_where_the_screen_cannot_be_used(runs, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    assert re.match(r"no window can be opened: nonsense not available; .*film", error("watch", runs))


def test_plot_draws_the_curves_and_their_labels_within_the_picture(runs, tmp_path):
    assert said("plot", runs, "--to", "curves.png") == "Wrote curves.png\n"
    picture = (255 * plt.imread(tmp_path / "curves.png")[..., :3]).round().astype(int)
    blue = (np.abs(picture - [0, 0x72, 0xB2]).max(axis=2) < 10).sum()
    assert blue > 200  # a line from one side to the other
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edge == 255).all()


def test_plot_writes_other_formats_and_several_lines(runs, tmp_path):
    other = shutil.copytree(next(records.find(runs)).folder, tmp_path / "other")
    about = json.loads((other / "run.json").read_text(encoding="utf-8")) | {"changed": {"eta": 0.5}}
    (other / "run.json").write_text(json.dumps(about), encoding="utf-8")
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
        (["run", NAME, "--set", "eta=0.1,,0.2"], "eta must be of type float, as its default .*, got ''"),
        (["run", NAME, "--seeds", "0"], "seeds must be at least 1, .*"),
        (["run", NAME, "--jobs", "-1"], "jobs must be at least 1, got -1"),
        (["run", NAME, "--jobs", "0"], "jobs must be at least 1, got 0"),
        (["run", NAME, "--every", "0"], "every must be at least 1, got 0"),
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
        (["evaluate", "--episodes", "1"], "n_episodes must be at least 2, got 1"),
        (["evaluate", "--episodes", "0", "--greedy"], "n_episodes must be at least 1, got 0"),
        (["evaluate", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["evaluate", "--seed", "-1", "--greedy"], "seed must be at least 0, got -1"),
        (["watch", "--seed", "7"], "runs must hold one run with seed 7, got none"),
        (["watch", "--episode", "-1"], "seed must be at least 0, got -1"),
        (["watch", "--to", "nowhere/film.mp4"], r".*nowhere/film.mp4.*"),
        (["plot", "--to", "curves.xyz"], "Format 'xyz' is not supported .*"),
        (["plot", "--to", "nowhere/curves.png"], r".*nowhere/curves.png.*"),
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
        "--jobs",
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


def test_it_trains_in_several_processes(tmp_path):
    result = process(
        "run", NAME, "--seeds", 2, "--set", "batch_size=50", "--steps", 100, "--jobs", 2, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[:-1] == [
        f"{r.label} seed {r.seed}: {r.score:.4g} over 100 episodes, in {r.folder}"
        for r in records.find("runs")
    ]
    assert [r.seed for r in records.find("runs")] == [0, 1]


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
    code = "import sys; from pgcourse.__main__ import app; app(['list'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# What help and pages show


def parsed(line):
    """A command as it would be understood: the recipe or folder, the options. An error if it would not be."""
    name, *arguments = shlex.split(line, comments=True)
    assert name == "pgcourse"
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
    shown = options.get("recipe"), options.get("what")
    for name in [
        name for what in shown if what for name in (what if isinstance(what, list | tuple) else [what])
    ]:
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
