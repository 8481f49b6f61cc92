"""The command line: ``pgcourse``, or ``python -m pgcourse``."""

import functools
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Run, judge and look at the algorithms of the book.",
    epilog="Begin with: pgcourse list",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[str, typer.Argument(help="Name of a recipe, such as reinforce/cartpole.")]
What = Annotated[str, typer.Argument(help="A recipe, for its recorded runs, or a folder of your own runs.")]
Folder = Annotated[
    Path, typer.Option(help="Where runs are kept. A run that is there already goes on, or is done.")
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the policy at every checkpoint, not only the last.")]
Judge = Annotated[
    int | None,
    typer.Option(help="Fresh episodes that judge a policy; the recipe's own number, and 100 at the end."),
]
Jobs = Annotated[int | None, typer.Option(help="Runs at once; as many as there are cores, unless you say.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler whose workers do the runs.")]
Greedy = Annotated[
    bool, typer.Option("--greedy", help="Take the most probable action instead of drawing one.")
]


def command(function):
    """Add a command whose errors are one line each, without a traceback."""

    @functools.wraps(function)
    def clear(*args, **kwargs):
        try:
            warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"
            function(*args, **kwargs)
        except (ValueError, FloatingPointError, OSError, RuntimeError) as error:
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            said = str(stop) or "stopped"
            print(f"\n{said[0].upper()}{said[1:]}", file=sys.stderr)
            raise typer.Exit(130) from None

    return app.command(function.__name__.rstrip("_"))(clear)


@command
def list_(recipe: Annotated[str | None, typer.Argument(help="A recipe, to see its settings.")] = None):
    """Show what there is to run, or the settings of one recipe.

    \b
    pgcourse list
    pgcourse list reinforce/cartpole
    """
    from pgcourse.experiments import recipes, records
    from pgcourse.maths.statistics import interval

    for known in [recipes.get(recipe)] if recipe else recipes.RECIPES.values():
        print(f"{known.name}: {known.about}")
        print(f"    budget: {known.steps:,} steps of {known.task.name}, a checkpoint every {known.every:,}")
        if recipe:
            for name, value in known.defaults.items():
                print(f"    --set {name}={value}")
        if recorded := [r for r in records.find() if r.name == known.name and r.finished and not r.changed]:
            scores = [r.score for r in recorded]
            iqm = f", interquartile mean {interval(scores)}" if len(scores) > 1 else f", {scores[0]:.4g}"
            print(f"    recorded: {len(recorded)} {'seeds' if len(recorded) > 1 else 'seed'}{iqm}")


@command
def run(
    recipe: Recipe,
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, …")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE[,VALUE…]", help="A setting to change, or to try."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Budget of each run, in steps; the recipe's own, unless you say.")
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Budget in episodes instead.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes of training instead.")] = None,
    every: Annotated[int | None, typer.Option(help="Steps between two checkpoints.")] = None,
    keep: Keep = False,
    judge: Judge = None,
    folder: Folder = Path("runs"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
):
    """Run a recipe over seeds and settings, in parallel; or go on with what was stopped.

    \b
    pgcourse run reinforce/cartpole
    pgcourse run reinforce/cartpole --seeds 5
    pgcourse run reinforce/cartpole --seeds 5 --set eta=0.003,0.01,0.03 --steps 200000
    pgcourse run reinforce/pong --seeds 5 --scheduler tcp://127.0.0.1:8786
    """
    from pgcourse.experiments import sweeps

    changed: dict[str, list[str]] = {}
    for setting in settings or []:
        name, equals, values = setting.partition("=")
        if not (name and equals and values):
            raise ValueError(f"--set must be NAME=VALUE, such as eta=0.01, got {setting!r}")
        changed[name] = changed.get(name, []) + values.split(",")
    done = sweeps.run(
        recipe,
        seeds=seeds,
        settings=changed,
        steps=steps,
        episodes=episodes,
        minutes=minutes,
        every=every,
        keep=keep,
        judge=judge,
        folder=folder,
        jobs=jobs,
        scheduler=scheduler,
    )
    _report(done)


@command
def resume(
    folder: Annotated[Path, typer.Argument(help="Folder with runs that were stopped.")] = Path("runs"),
    keep: Keep = False,
    judge: Judge = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
):
    """Go on with every run in a folder that was stopped.

    \b
    pgcourse resume runs
    pgcourse resume runs/reinforce/pong/seed-0
    """
    from pgcourse.experiments import sweeps

    _report(sweeps.resume(folder, keep=keep, judge=judge, jobs=jobs, scheduler=scheduler))


@command
def evaluate(
    what: What,
    episodes: Annotated[int, typer.Option(help="Fresh episodes for each run.")] = 100,
    seed: Annotated[int, typer.Option(help="Of these episodes.")] = 1,
    greedy: Greedy = False,
):
    """Let trained policies play fresh episodes, and compare with their records.

    \b
    pgcourse evaluate reinforce/cartpole
    pgcourse evaluate runs/reinforce/cartpole --episodes 1000 --greedy
    """
    from pgcourse.experiments import recipes

    scores: dict[str, list[float]] = {}
    liars = 0
    for record in _records(what):
        if greedy:
            played = recipes.get(record.name).evaluate(record.policy(), episodes, seed, greedy=True)
            scores.setdefault(record.label, []).append(played.mean())
            print(
                f"{record.label} seed {record.seed}: {played.mean():.4g}, from {played.min():.4g} to {played.max():.4g}"
            )
        else:
            verdict = record.verify(episodes, seed)
            scores.setdefault(record.label, []).append(verdict.played)
            liars += not verdict.agrees
            print(f"{record.label} seed {record.seed}: {verdict}")
    for label, means in scores.items():
        _summarize(label, means)
    if liars:
        raise ValueError(f"{liars} of {sum(map(len, scores.values()))} runs do not play as recorded")


@command
def watch(
    what: What,
    seed: Annotated[int, typer.Option(help="Which of the runs.")] = 0,
    episode: Annotated[int, typer.Option(help="Seed of the episode.")] = 1,
    to: Annotated[
        Path | None, typer.Option(help="Write a film (mp4) here instead of opening a window.")
    ] = None,
    greedy: Greedy = False,
):
    """Watch a trained policy for an episode: in a window where there is a screen, else as a film.

    \b
    pgcourse watch reinforce/cartpole
    pgcourse watch runs/reinforce/pong --seed 2 --to pong.mp4
    """
    from pgcourse.experiments import checkpoints, recipes
    from pgcourse.teaching import video

    found = [record for record in _records(what) if record.seed == seed]
    if len(found) != 1:
        raise ValueError(
            f"{what} must hold one run with seed {seed}, got {', '.join(r.label for r in found) or 'none'}"
        )
    [record] = found
    task = recipes.get(record.name).task
    frames = task.film(recipes.actor(record.policy(), episode, greedy=greedy), episode)
    if to is None and video.has_screen():
        video.window(frames, f"{record.label}, seed {record.seed}", fps=task.fps)
        return
    to = to or Path(f"{record.name.replace('/', '-')}-{record.seed}.mp4")
    checkpoints.write(to, video.mp4(frames, fps=task.fps))
    print(f"Wrote {to}")


@command
def plot(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Recipes, or folders of your own runs: one line for each combination of settings."
        ),
    ],
    to: Annotated[Path, typer.Option(help="The picture: .png, .svg, .pdf …")] = Path("learning-curves.png"),
):
    """Draw learning curves: interquartile mean over the seeds, and its 95 % interval.

    \b
    pgcourse plot reinforce/cartpole
    pgcourse plot runs/reinforce/cartpole --to eta.svg
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from pgcourse.experiments import recipes
    from pgcourse.experiments.records import bands
    from pgcourse.teaching import plots

    found = [record for name in what for record in _records(name)]
    plots.use_style()
    fig, ax = plt.subplots()
    kinds = {recipes.get(record.name).task.score for record in found}
    plots.learning_curves(ax, bands(found), f"mean {' or '.join(sorted(kinds))} of fresh episodes")
    fig.savefig(to)
    print(f"Wrote {to}")


def _records(what: str):
    """Return the finished runs in a folder, or those recorded of a recipe."""
    from pgcourse.experiments import recipes, records

    if not Path(what).is_dir():
        try:
            recipes.get(what)
        except ValueError as error:
            raise ValueError(f"there is no folder {what!r}, and {error}") from None
        return records.load(what)
    found = list(records.find(what))
    if finished := [record for record in found if record.finished]:
        return finished
    raise ValueError(
        f"{what} holds {f'unfinished runs only; go on with: pgcourse resume {what}' if found else 'no run'}"
    )


def _report(done):
    labels = list(dict.fromkeys(record.label for record in done))
    for label in labels:
        group = [record for record in done if record.label == label]
        for record in group:
            print(
                f"{label} seed {record.seed}: {record.score:.4g} over {len(record.scores)} episodes, in {record.folder}"
            )
        _summarize(label, [record.score for record in group])


def _summarize(label, scores):
    from pgcourse.maths.statistics import interval

    if len(scores) > 1:
        print(f"{label}: interquartile mean of {len(scores)} seeds {interval(scores)}")


if __name__ == "__main__":
    app(prog_name="pgcourse")
