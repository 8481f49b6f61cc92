"""The command line: ``pgcourse``, or ``python -m pgcourse``."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from pgcourse.experiments.diagnosis import Finding, Symptom
    from pgcourse.experiments.records import Record

app = typer.Typer(
    help="Train, evaluate and watch the algorithms of the book.",
    epilog="Begin with: pgcourse list",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[str, typer.Argument(help="A recipe, such as reinforce/cartpole.")]
Source = Annotated[str, typer.Argument(help="A recipe, for its recorded runs, or a folder of your own runs.")]
Sources = Annotated[list[str], typer.Argument(help="Recipes, or folders of your own runs.")]
Folder = Annotated[Path, typer.Option(help="Root of the runs. Stopped runs in it continue.")]
SavePolicies = Annotated[bool, typer.Option("--save-policies", help="Save the policy at every evaluation.")]
EvalInterval = Annotated[
    int | None, typer.Option(help="Steps between two evaluations; at every checkpoint, unless given.")
]
EvalEpisodes = Annotated[int | None, typer.Option("--eval-episodes", help="Episodes in an evaluation.")]
Jobs = Annotated[int | None, typer.Option(help="Parallel runs or blocks; one for each core, unless given.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler whose workers do the runs.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the most probable action.")]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error or a warning in one line, without a traceback, and exit with a code.

    A letter that the terminal or file cannot show is replaced. A pipe that is closed, as by ``head``, ends
    the output and is no error.
    """
    try:
        warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"
        _prepare_streams()
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # so that a closed pipe is known here
    except BrokenPipeError:
        _silence(sys.stdout)
        raise typer.Exit(0) from None
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        _say(f"Error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stop:
        reason = str(stop) or "stopped"
        _say(f"\n{reason[0].upper()}{reason[1:]}")
        raise typer.Exit(130) from None


def _prepare_streams() -> None:
    """Have unknown letters replaced, and standard streams that are closed not be mistaken for files."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.stdout is None or sys.stderr is None:  # else the next file opened is where libraries write errors
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)


def _say(text: str) -> None:
    """Print to standard error, if there is one that is read."""
    if sys.stderr is not None:
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            _silence(sys.stderr)


def _silence(stream) -> None:
    """Send to nowhere what a stream still holds, or Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def command(function: Callable[..., None], cls: type[TyperCommand] = TyperCommand) -> Callable[..., None]:
    """Add a command to the program."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with one_line_errors():
            function(*args, **kwargs)

    return app.command(function.__name__.rstrip("_"), cls=cls)(wrapper)


class RecipeCommand(TyperCommand):
    """A command whose help, after the name of a recipe, lists the recipe's settings."""

    def parse_args(self, ctx, args):
        """Remember the recipe, because help is shown before arguments are processed."""
        ctx.meta["recipe"] = self.make_parser(ctx).parse_args(list(args))[0].get("recipe")
        return super().parse_args(ctx, args)

    def format_options(self, ctx, formatter):
        """Write the options and the settings."""
        super().format_options(ctx, formatter)
        if isinstance(ctx.meta["recipe"], str):
            with one_line_errors():
                _write_settings(formatter, ctx.meta["recipe"])


def _write_settings(formatter, name: str) -> None:
    from pgcourse.experiments import recipes
    from pgcourse.experiments.settings import format_value

    recipe = recipes.get(name)
    meaning = recipe.setting_help
    with formatter.section(f"Settings of {name} (--set NAME=VALUE)"):
        formatter.write_dl([(f"{key}={format_value(v)}", meaning[key]) for key, v in recipe.defaults.items()])


@command
def list_(
    ctx: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe, to see its settings.")] = None,
):
    """List the recipes, or the settings of one recipe.

    \b
    pgcourse list
    pgcourse list reinforce/cartpole
    """
    from pgcourse.experiments import blocks, recipes, records, sweeps

    recorded = [record for record in records.find() if record.finished and not record.overrides]
    for known in [recipes.get(recipe)] if recipe else recipes.RECIPES.values():
        print(f"{known.name}: {known.description}")
        interval = f"a checkpoint every {known.checkpoint_interval:,}"
        print(f"    budget: {known.steps:,} steps of {known.task.name}, {interval}")
        if means := [record.mean_return for record in recorded if record.name == known.name]:
            result = f"interquartile mean {_interval(means)}" if len(means) > 1 else f"{means[0]:.4g}"
            print(f"    recorded: {len(means)} {'seeds' if len(means) > 1 else 'seed'}, {result}")
    if recipe:
        why_not = blocks.obstacle(sweeps.RunSpec(recipe, 0, {}, sweeps.Budget(1, "steps"), 1), [0, 1])
        how = f"one after the other ({why_not})" if why_not else "learn at once"
        print(f"    several seeds, on one core: {how}")
        formatter = ctx.make_formatter()
        _write_settings(formatter, recipe)
        print(f"\n{formatter.getvalue().strip()}")


@functools.partial(command, cls=RecipeCommand)
def run(
    ctx: typer.Context,
    recipe: Recipe,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, …")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE[,VALUE…]", help="A setting; several values span a grid."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps; the recipe's, unless given.")] = None,
    episodes: Annotated[int | None, typer.Option(help="Budget in episodes instead.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes of training instead.")] = None,
    checkpoint_interval: Annotated[
        int | None, typer.Option(help="Steps between two checkpoints; new episodes begin at each.")
    ] = None,
    save_policies: SavePolicies = False,
    eval_interval: EvalInterval = None,
    n_eval_episodes: EvalEpisodes = None,
    folder: Folder = Path("runs"),
    n_jobs: Jobs = None,
    scheduler: Scheduler = None,
):
    """Run a recipe over seeds and settings, in parallel, and continue stopped runs.

    Where its seeds can learn at once (pgcourse list RECIPE says so), they do, in blocks.

    After the name of a recipe, --help also lists its settings.

    \b
    pgcourse run reinforce/cartpole
    pgcourse run reinforce/cartpole --seeds 5
    pgcourse run reinforce/cartpole --seeds 5 --set eta=0.003,0.01,0.03
    pgcourse run reinforce/cartpole --set hidden_sizes=64x64 --steps 200000
    pgcourse run reinforce/pong --seeds 5 --scheduler tcp://127.0.0.1:8786
    """
    from pgcourse.experiments import sweeps

    grid: dict[str, list[str]] = {}
    for setting in settings or []:
        name, equals, values = setting.partition("=")
        if not (name and equals and values):
            raise ValueError(f"--set must be NAME=VALUE, such as eta=0.01, got {setting!r}")
        _refuse_decimal_comma(recipe, name, values.split(","))
        grid[name] = grid.get(name, []) + values.split(",")
    _report(sweeps.run(**ctx.params | {"settings": grid}))  # whose parameters these are


def _refuse_decimal_comma(recipe: str, name: str, values: list[str]) -> None:
    """Raise an error for a list such as 0,01 where a real number is meant."""
    from pgcourse.experiments import recipes

    is_real = isinstance(recipes.get(recipe).defaults.get(name, ""), float | None)
    for whole, decimals in itertools.pairwise(values):
        if is_real and whole in ("0", "-0") and decimals.isdigit():
            allowed = f"{name}={whole}.{decimals}, or {name}={whole}.0,{decimals} for two values"
            raise ValueError(f"--set must have a decimal point, {allowed}, got {name}={','.join(values)}")


@command
def resume(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder with stopped runs.")] = Path("runs"),
    save_policies: SavePolicies = False,
    eval_interval: EvalInterval = None,
    n_eval_episodes: EvalEpisodes = None,
    n_jobs: Jobs = None,
    scheduler: Scheduler = None,
):
    """Continue every stopped run in a folder.

    \b
    pgcourse resume runs
    pgcourse resume runs/reinforce/pong/seed-0
    """
    from pgcourse.experiments import sweeps

    _report(sweeps.resume(**ctx.params))


@command
def evaluate(
    source: Source,
    episodes: Annotated[int, typer.Option(help="Fresh episodes for each run.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of these episodes.")] = 1,
    greedy: Greedy = False,
):
    """Evaluate trained policies on fresh episodes, and compare with their records.

    \b
    pgcourse evaluate reinforce/cartpole
    pgcourse evaluate runs/reinforce/cartpole --episodes 1000 --greedy
    """
    from pgcourse.experiments.records import pool

    means: dict[str, list[float]] = {}
    n_disagreeing = 0
    for label, runs in pool(_finished_runs(source)).items():
        for record in runs:
            if greedy:
                returns = record.recipe.evaluate(record.policy(), episodes, seed, greedy=True)
                mean = returns.mean()
                text = f"{mean:.4g}, from {returns.min():.4g} to {returns.max():.4g}"
            else:
                check = record.verify(episodes, seed)
                mean, text = check.replayed, str(check)
                n_disagreeing += not check.agrees
            means.setdefault(label, []).append(mean)
            print(f"{label} seed {record.seed}: {text}")
    _summarize(means)
    if n_disagreeing:
        n_runs = sum(map(len, means.values()))
        raise ValueError(f"{n_disagreeing} of {n_runs} policies do not reproduce their recorded returns")


@command
def watch(
    source: Source,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    episode: Annotated[int, typer.Option(help="Seed of the episode.")] = 1,
    to: Annotated[Path | None, typer.Option(help="Write a video (mp4) instead of opening a window.")] = None,
    greedy: Greedy = False,
):
    """Watch a trained policy for an episode: in a window if there is a screen, else as a video.

    \b
    pgcourse watch reinforce/cartpole
    pgcourse watch runs/reinforce/pong --seed 2 --to pong.mp4
    """
    from pgcourse.environments.display import has_screen
    from pgcourse.experiments import checkpoints, recipes
    from pgcourse.teaching import video

    if to is not None:
        _check_target(to, [".mp4"])
    found = [record for record in _finished_runs(source) if record.seed == seed]
    if len(found) != 1:
        labels = ", ".join(record.label for record in found) or "none"
        raise ValueError(f"{source} must hold one run with seed {seed}, got {labels}")
    [record] = found
    task = record.recipe.task
    frames = task.render_episode(recipes.actor(record.policy(), episode, greedy=greedy), episode)
    if to is None and has_screen():
        video.play_in_window(frames, f"{record.label}, seed {record.seed}", fps=task.fps)
        return
    to = to or Path(f"{record.name.replace('/', '-')}-{record.seed}.mp4")
    checkpoints.atomic_write(to, video.encode_mp4(frames, fps=task.fps))
    print(f"Wrote {to}")


@command
def plot(
    sources: Sources,
    to: Annotated[Path, typer.Option(help="The figure: .png, .svg, .pdf …")] = Path("learning-curves.png"),
):
    """Plot learning curves: interquartile mean over the seeds, and its 95 % interval.

    \b
    pgcourse plot reinforce/cartpole
    pgcourse plot runs/reinforce/cartpole --to eta.svg
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureCanvasBase

    from pgcourse.experiments.records import bands
    from pgcourse.teaching import plots

    _check_target(to, [f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes()])
    found = [record for source in sources for record in _finished_runs(source)]
    plots.use_style()
    fig, ax = plt.subplots()
    metrics = {record.recipe.task.metric for record in found}
    plots.learning_curves(ax, bands(found), f"mean {' or '.join(sorted(metrics))} of fresh episodes")
    fig.savefig(to)
    print(f"Wrote {to}")


@command
def diagnose(
    sources: Annotated[
        list[str], typer.Argument(help="Recipes, folders of your own runs, finished or not, or a curve.csv.")
    ],
):
    """Say which symptoms of the chapter "Reading your curves" a run shows, and how to find the cause.

    \b
    pgcourse diagnose runs
    pgcourse diagnose runs/reinforce/cartpole reinforce/cartpole
    """
    from pgcourse.experiments import diagnosis

    found = []
    for source in sources:
        _check_source(source)
        for label, runs in diagnosis.load(source).items():
            for name, run in runs:
                found += _print_findings(name, diagnosis.diagnose(run))
            if len(runs) > 1:
                seeds = f"{label}, {len(runs)} seeds"
                found += _print_findings(seeds, diagnosis.compare([run for _, run in runs]))
    for symptom in dict.fromkeys(found):
        print(f"\n{symptom.title}\n    likely causes: {symptom.causes}\n    check: {symptom.check}")
        print(f"    read: book/curves.ipynb#{symptom.anchor}")


def _print_findings(name: str, findings: list[Finding]) -> list[Symptom]:
    wrong = [finding.symptom.title for finding in findings if not finding.symptom.is_note]
    print(f"{name}: {'; '.join(wrong) or 'nothing wrong'}")
    for symptom, evidence in findings:
        print(f"    {'note, ' if symptom.is_note else ''}{symptom.title}: {evidence}")
    return [finding.symptom for finding in findings]


@command
def grade(
    problem_set: Annotated[
        Path, typer.Argument(metavar="SET", help="A bundle, or one of the files of a set.")
    ],
    submissions: Annotated[list[Path], typer.Argument(help="Notebooks, or folders of them.")],
    to: Annotated[Path | None, typer.Option(help="Also write a table (csv) of the points.")] = None,
    cpu_seconds: Annotated[int, typer.Option(help="CPU time that a submission may take.")] = 20,
):
    """Grade submissions of a problem set, each in a process of its own with limits.

    Each report goes to a text file beside its notebook.

    \b
    pgcourse grade problems/chapter_5.ipynb submissions
    pgcourse grade chapter_5.zip ada.ipynb grace.ipynb --to points.csv
    """
    import csv
    import io

    from pgcourse.experiments import checkpoints
    from pgcourse.teaching import grading, sandbox

    if to is not None:
        _check_target(to, [".csv"])
    loaded, limits, rows = grading.load(problem_set), sandbox.Limits(cpu_seconds), []
    for path in grading.find(submissions):
        report = grading.grade(loaded, path, limits)
        checkpoints.atomic_write(path.with_suffix(".txt"), f"{report}\n".encode())
        said = f"{path}: {report.points} of {report.out_of} points{report.unprotected}"
        print(f"{said} {report.violation}".rstrip())
        rows.append([path, report.points, *(mark.points for mark in report.marks), report.violation])
    if to is not None:
        table, numbers = io.StringIO(), [problem.exercise.number for problem in loaded.problems]
        csv.writer(table).writerows([["submission", "points", *numbers, "not graded because"], *rows])
        checkpoints.atomic_write(to, table.getvalue().encode())
        print(f"Wrote {to}")


def _check_target(path: Path, suffixes: list[str]) -> None:
    """Raise an error, before anything is computed, if a file of this name cannot be written."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"--to must end in {' or '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"--to must be in a folder that exists, got {path}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"--to must be a file that may be written, got {path}")


def _check_source(source: str) -> None:
    """Raise an error if a source is no folder, no file and no recipe."""
    from pgcourse.experiments import recipes

    if not Path(source).exists():
        try:
            recipes.get(source)
        except ValueError as error:
            raise ValueError(f"there is no folder {source!r}, and {error}") from None


def _finished_runs(source: str) -> list[Record]:
    """Return the finished runs in a folder, or those recorded of a recipe."""
    from pgcourse.experiments import records

    _check_source(source)
    if not Path(source).is_dir():
        return records.load(source)
    found = list(records.find(source))
    if finished := [record for record in found if record.finished]:
        return finished
    unfinished = f"only unfinished runs; continue them with: {records.resume_command(source)}"
    raise ValueError(f"{source} holds {unfinished if found else 'no run'}")


def _report(done: list[Record]) -> None:
    from pgcourse.experiments.records import pool

    for record in done:
        n_episodes = len(record.returns)
        result = f"{record.mean_return:.4g} over {n_episodes} episodes, in {record.folder}"
        print(f"{record.label} seed {record.seed}: {result}")
    _summarize({label: [record.mean_return for record in runs] for label, runs in pool(done).items()})


def _summarize(means: dict[str, list[float]]) -> None:
    for label, runs in means.items():
        if len(runs) > 1:
            print(f"{label}: interquartile mean of {len(runs)} seeds {_interval(runs)}")


def _interval(means: list[float]) -> str:
    import numpy as np

    from pgcourse.maths.statistics import bootstrap_interval

    return str(bootstrap_interval(np.array(means)))


if __name__ == "__main__":
    app(prog_name="pgcourse")
