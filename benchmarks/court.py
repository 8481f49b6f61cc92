"""Our own court against the console: where everything is, frame by frame, the rules behind it, and how fast.

python benchmarks/court.py [--decisions 5000] [--games 100]

Both sides play from the same start with the same actions: an action lasts for eight decisions on average, so
that the paddle gets about. Every frame of the console is read from its memory: the ball, both paddles, and
the points. The rules are then measured on each side, from these frames alone. A difference frame counts as
different if one of its 6,400 pixels is.

Then policies of the console play on the court, and those of the court on the console, and all on courts with
one rule changed. The means go to pgcourse/experiments/comparisons/court.json, for the study Between two
simulators; what the file has already is not played again.
"""

import argparse
import json
import time

import numpy as np
import report
from tqdm import tqdm

from pgcourse.environments import pong
from pgcourse.environments.court import Court, Rules
from pgcourse.environments.tasks import CourtTask
from pgcourse.experiments import recipes, records
from pgcourse.maths.statistics import iqm
from pgcourse.networks.mlp import single_thread

FIELDS = ("x", "y", "left", "right", "r")  # of a frame: the ball, the tops of the paddles, the point
_ADDRESSES = [49, 54, 50, 51]  # of the first four in the console's memory
IDLE = 16  # frames before the first decision
CONSOLE, COURT = "reinforce/pong", "reinforce/court"
CHANGES = {  # one rule of the court at a time
    "the console's rules": {},
    "no inertia": {"lag": 1},
    "twice the inertia": {"lag": 4},
    "a paddle of 12 lines": {"paddle": 12},
    "a paddle of 8 lines": {"paddle": 8},
    "a ball twice as fast": {"ball": 2},
    "an opponent that rests half as often": {"rest": 16},
    "an opponent that rests twice as often": {"rest": 4},
    "mirrored angles": {"angles": -1},
}
PLACES = ("console", *CHANGES)


def actions(n, seed):
    """Return ``n`` actions, DOWN or UP, each of which is drawn anew with probability 1/8."""
    rng = np.random.default_rng(seed)
    drawn, keep = rng.integers(2, size=n), rng.random(n) < 7 / 8
    return drawn[np.maximum.accumulate(np.where(keep, 0, np.arange(n)))]


def console_games(a):
    """Yield the frames of one game of the console after the other, integers of shape (n_frames, 5)."""
    console, frames = pong._make_console(0, 0.0), []
    codes = np.array(console.getMinimalActionSet())[pong._CONSOLE_ACTION]
    for one in a:
        if not frames:
            console.reset_game()
            for _ in range(IDLE):
                console.act(0)
        for _ in range(pong.FRAME_SKIP):
            r = console.act(codes[one])
            frames.append([*console.getRAM()[_ADDRESSES].astype(int), r])
            if console.game_over():
                yield np.array(frames)
                frames = []
                break
    yield np.array(frames)


def court_games(a):
    """Yield the same of the court."""
    court, frames = Court(1), []
    for one in a:
        if not frames:
            court.reset(options={"idle": np.array([IDLE])})
        for _ in range(pong.FRAME_SKIP):
            [r] = court._advance(np.array([1 if one == pong.DOWN else -1]))
            frames.append([*(int(v[0]) for v in (court.x, court.y, court.left, court.right)), int(r)])
            court.points[int(r > 0), 0] += abs(r)
            if court.points.max() == 21:
                yield np.array(frames)
                frames = []
                break
    yield np.array(frames)


def rules(games):
    """Return what can be measured on a side, by name; lengths in pixels of the console, times in frames."""
    spans, hits, climbs, waits = set(), {}, [], set()
    for frames in games:
        x, y, left, right, r = frames.T
        play = (y[:-1] > 0) & (y[1:] > 0) & (r[1:] == 0) & (np.abs(np.diff(x)) < 3)
        spans |= set(np.abs(np.diff(x))[play].tolist())
        turned = 1 + np.flatnonzero((np.diff(x[1:]) < 0) & (np.diff(x[:-1]) > 0) & (x[1:-1] > 150))
        for t in turned[turned < len(x) - 2]:
            hits.setdefault(int(y[t] - right[t]), set()).add(int(y[t + 2] - y[t + 1]))
        climbs.append(np.abs(np.diff(left))[play & (np.abs(y - left)[:-1] > 8)])
        served = np.flatnonzero((y[:-1] == 0) & (y[1:] > 0)) + 1
        waits |= {int(t - np.flatnonzero(r[:t])[-1]) for t in served if r[:t].any()}
    return {
        "ball: horizontal speed, pixels a frame": sorted(spans),
        "our paddle hits the ball at y − top from": min(hits),
        "to": max(hits),
        "vertical speeds after that": sorted(set().union(*hits.values())),
        "opponent far from the ball: pixels a frame": round(float(np.concatenate(climbs).mean()), 3),
        "frames from a point to the next serve": sorted(waits),
    }


def inertia(games, a):
    """Return how far our paddle goes in each decision, from rest at the bottom: medians, in pixels."""
    moves = [[] for _ in range(5)]
    right = np.concatenate([frames[:, 3] for frames in games])[pong.FRAME_SKIP - 1 :: pong.FRAME_SKIP]
    a = a[: len(right)]
    for t in np.flatnonzero((a[1:-5] == pong.UP) & (a[:-6] == pong.DOWN)) + 1:
        if right[t - 1] == 203 and (a[t : t + 5] == pong.UP).all():
            for k in range(5):
                moves[k].append(int(right[t + k - 1] - right[t + k]))
    return [float(np.median(one)) for one in moves if one]


def same_frames(n_decisions, n_envs=16):
    """Return how many decisions were compared, and the shares of frames and of rewards that are the same."""
    console, court = pong.Pong(n_envs), Court(n_envs)
    _, info = console.reset(seed=0)
    court.reset(options={"idle": info["frame_number"]})
    active, n, frames, rewards = np.ones(n_envs, bool), 0, 0, 0
    for a in np.stack([actions(n_decisions // n_envs, k) for k in range(n_envs)], axis=1):
        x, r, _, _, info = console.step(a)
        ours, our_r, _, _, our_info = court.step(a)
        active &= ~(info["done"] | our_info["done"])  # the next games begin at random
        n += active.sum()
        frames += (x == ours).all(axis=1)[active].sum()
        rewards += (r == our_r)[active].sum()
    console.close()
    return n, frames / n, rewards / n


def speed(env, seconds=2.0):
    """Return decisions per second of processor time, with random actions."""
    env.reset(seed=0)
    a = np.random.default_rng(0).integers(2, size=(32, env.num_envs))
    for one in a:
        env.step(one)
    begin, n = time.process_time(), 0
    while (elapsed := time.process_time() - begin) < seconds:
        env.step(a[n // env.num_envs % 32])
        n += env.num_envs
    return n / elapsed


def training_speed(n_updates=8, n_repeats=4):
    """Return decisions per second of processor time of REINFORCE with the settings of reinforce/court.

    The fastest of several repetitions, which other programs have disturbed least.
    """
    algorithm, rates = recipes.get(COURT).build(seed=0), []
    with single_thread():
        algorithm.update()
        for _ in range(n_repeats):
            begin, first = time.process_time(), algorithm.n_steps
            for _ in range(n_updates):
                algorithm.update()
            rates.append((algorithm.n_steps - first) / (time.process_time() - begin))
    return max(rates)


def transfer(n_games):
    """Return a row for each policy and each place, with the mean score difference of ``n_games`` games.

    On the console its own policies have been evaluated when they were recorded, by 100 games.
    """
    path = records.COMPARISONS_DIR / "court.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    known = {(row["trained"], row["seed"], row["place"]) for row in rows if row["n_games"] in (n_games, 100)}
    runs = records.load(CONSOLE) + records.load(COURT)
    found = [(record, place) for record in runs for place in PLACES]
    for record, place in tqdm(found, unit=" evaluations"):
        if (record.name, record.seed, place) in known:
            continue
        row = {"trained": record.name, "seed": record.seed, "place": place, "n_games": n_games}
        act = recipes.actor(record.policy(), seed=1)
        if place != "console":
            with single_thread():
                score = CourtTask(Rules(**CHANGES[place])).evaluate(act, n_games, seed=1).mean()
        elif record.name == CONSOLE:
            row["n_games"], score = 100, record.mean_return
        else:
            with single_thread():
                score = pong.evaluate(act, n_games, seed=1).mean()
        rows.append(row | {"score": round(float(score), 3)})
        results = {"changes": CHANGES, "made": report.provenance(), "rows": rows}
        path.write_text(f"{json.dumps(results, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=5000, help="compared on both sides (default 5000)")
    parser.add_argument(
        "--games", type=int, default=100, help="of each recorded policy at each place (default 100)"
    )
    args = parser.parse_args()

    a = actions(args.decisions, seed=0)
    theirs, ours = list(console_games(a)), list(court_games(a))
    report.print_provenance(report.provenance())
    report.print_header("", "console", "court", "differ")
    pairs = list(zip(theirs, ours, strict=False))
    n = sum(min(len(one), len(other)) for one, other in pairs)
    for k, name in enumerate(FIELDS):
        shown = [(one[:m], other[:m]) for one, other in pairs for m in [min(len(one), len(other))]]
        differ = sum(int((one[:, k] != other[:, k])[(one[:, 1] > 0) | (k > 2)].sum()) for one, other in shown)
        report.print_row(f"{name}, frame by frame", n, n, differ)
    turn = "our paddle after UP, from rest: pixels a decision"
    found = [
        rules(games) | {turn: inertia(games[:1], a)} for games in (theirs, ours)
    ]  # of later games, a begins anew
    for name in found[0]:
        one, other = (side[name] for side in found)
        report.print_row(name, str(one), str(other), "no" if one == other else "yes")
    n, frames, rewards = same_frames(args.decisions)
    report.print_row("difference frames", n, n, f"{1 - frames:.1%}")
    report.print_row("rewards", n, n, f"{1 - rewards:.1%}")
    console, court = pong.Pong(16), Court(1024)
    report.print_row("decisions per second of one core", f"{speed(console):,.0f}", f"{speed(court):,.0f}", "")
    console.close()
    rate = training_speed()
    report.print_row("REINFORCE: decisions per second", "", f"{rate:,.0f}", "")
    rows = transfer(args.games)
    report.print_header("IQM of five seeds, trained on", "the console", "the court")
    for place in PLACES:
        scores = [
            [row["score"] for row in rows if (row["place"], row["trained"]) == (place, trained)]
            for trained in (CONSOLE, COURT)
        ]
        report.print_row(place, *(f"{iqm(one):+.1f}" for one in scores))


if __name__ == "__main__":
    main()
