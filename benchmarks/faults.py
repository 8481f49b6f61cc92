"""What becomes of runs that are killed, of files that are damaged, and of arguments that make no sense.

python benchmarks/faults.py
python benchmarks/faults.py --kills 4 --files 100 --calls 20

Three campaigns, each seeded. *Kills*: processes that run or sweep, and Dask workers, get SIGKILL at a random
moment, and the same command is given again, until all runs are finished; what they leave is compared with
what undisturbed runs leave. *Files*: a file of a finished run, or of a stopped one, is damaged, and all is
read that needs it. *Calls*: functions get hostile arguments, one at a time beside good ones. The exit code
is 1 if anything was lost, doubled or other than it should be, or if code in a file was executed.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import report
import torch
from good_calls import good_calls

from pgcourse.experiments import checkpoints, recipes, records, sweeps
from pgcourse.experiments.records import Record
from pgcourse.experiments.training import train

RECIPE = "reinforce/cartpole"
SETTINGS = {"eta": 0.0005, "gamma": 0.95, "batch_size": 200, "hidden_sizes": "8"}
BUDGET = {"steps": 10_000, "checkpoint_interval": 2_000}  # a second, with 5 checkpoints
RUN = {"settings": SETTINGS, **BUDGET, "n_jobs": 1, "progress": False}
SWEEP_SEEDS = 3
WAIT = 300  # seconds, for anything


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="processes killed: runs, sweeps, Dask workers")
    parser.add_argument("--files", type=int, default=1000, help="files damaged")
    parser.add_argument("--calls", type=int, default=200, help="hostile values for each argument")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report.print_provenance(report.provenance("safetensors", "filelock", "distributed", "hypothesis"))
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        undisturbed = sweeps.run(RECIPE, seeds=SWEEP_SEEDS, folder=root / "undisturbed", **RUN)
        if options.kills:
            bad += print_kills(kills(root, undisturbed, options.kills, options.seed))
        if options.files:
            bad += print_files(files(root / "damaged", undisturbed[0], options.files, options.seed))
    if options.calls:
        bad += print_calls(calls(options.calls))
    sys.exit(bool(bad))


# Kills


def kills(root, undisturbed, n, seed):
    """Return for each way to run how often it was killed, and what came out."""
    expected = [outcome(record) for record in undisturbed]
    rng, counts = random.Random(seed), {}
    ways = {"a run": run_command(1, 1), "a sweep in two processes": run_command(SWEEP_SEEDS, 2)}
    for way, command in ways.items():
        share = n - 2 * (n // 3) if way == "a run" else n // 3
        counts[way] = campaign(root / way.replace(" ", "-"), command, share, rng, expected, hit_worker=False)
    with cluster(root) as (address, start_worker):
        command = [*run_command(SWEEP_SEEDS, 1), "--scheduler", address]
        counts["a Dask worker"] = campaign(
            root / "dask", command, n // 3, rng, expected, hit_worker=True, start_worker=start_worker
        )
    return counts


def run_command(n_seeds, n_jobs):
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    budget = ["--steps", BUDGET["steps"], "--checkpoint-interval", BUDGET["checkpoint_interval"]]
    words = ["run", RECIPE, "--seeds", n_seeds, "--n-jobs", n_jobs, *budget, *sets]
    return [sys.executable, "-m", "pgcourse", *map(str, words)]


def campaign(root, command, n, rng, expected, *, hit_worker, start_worker=None):
    """Kill ``n`` times, in as many folders as it takes, and resume until all is finished."""
    counts, i = Counter(kills=0, resumes=0, finished=0, lost=0, same=0), 0
    n_runs = int(command[command.index("--seeds") + 1])
    while counts["kills"] < n:
        folder, i = root / f"runs-{i}", i + 1
        killed_here = 0
        while True:
            worker = start_worker() if hit_worker else None
            process = subprocess.Popen(
                [*command, "--folder", str(folder)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            counts["resumes"] += killed_here > 0
            # Three kills in a folder; the last time it may end. The time to import is no moment of interest.
            if counts["kills"] < n and killed_here < 3 and wait_for_work(folder, process):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0, 1.5))
                if process.poll() is None:
                    victim = worker if hit_worker else process
                    kill_group(victim)
                    counts["kills"], killed_here = counts["kills"] + 1, killed_here + 1
                    if hit_worker:
                        worker = start_worker()  # which joins later and does the rest
                        process.wait(WAIT)
                        counts["resumes"] += 1
                        kill_group(worker)
                        break
                    continue
            code = process.wait(WAIT)
            if worker:
                kill_group(worker)
            if code == 0:
                break
            counts["failed"] += 1
            if counts["failed"] > 3 + n:
                raise RuntimeError(f"{' '.join(command)} does not finish")
        found = list(records.find(folder))
        counts["finished"] += sum(record.finished for record in found)
        counts["lost"] += n_runs - len(found)
        counts["same"] += sum(
            outcome(record) == wanted for record, wanted in zip(found, expected[: len(found)], strict=True)
        )
        shutil.rmtree(folder)
    return counts


def wait_for_work(folder, process):
    """Wait until a run is announced; return whether the process is still at work."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end and process.poll() is None:
        if any(folder.rglob("run.json")):
            return True
        time.sleep(0.01)
    return False


def kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(WAIT)


@contextlib.contextmanager
def cluster(root):
    """Give the address of a Dask scheduler, and a function that starts a worker of it."""
    children, file = [], root / "scheduler.json"

    def start(*words):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        children.append(subprocess.Popen([sys.executable, "-m", "dask", *map(str, words)], **quiet))
        return children[-1]

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
        end = time.monotonic() + WAIT
        while not (file.exists() and file.read_text().endswith("}")):
            if time.monotonic() > end:
                raise RuntimeError("the scheduler does not start")
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        options = ["--host", "127.0.0.1", "--nthreads", 1, "--no-nanny", "--no-dashboard"]
        yield address, lambda: start("worker", address, *options, "--local-directory", root / "scratch")
    finally:
        for process in children:
            kill_group(process)


def outcome(record):
    """Return all that a run leaves, without what clocks decide; doubled rows are an error."""
    curve = record.curve()
    if (np.diff(curve["n_updates"]) <= 0).any():
        raise ValueError(f"{record.folder} has a row twice")
    result = {name: value for name, value in record.metadata["result"].items() if name != "seconds"}
    columns = {name: column.tobytes() for name, column in curve.items() if name != "seconds"}
    names = sorted(path.name for path in record.folder.iterdir())
    return names, result, columns, (record.folder / "policy.safetensors").read_bytes()


def print_kills(counts):
    report.print_header("killed", "kills", "resumes", "runs", "lost", "to the bit")
    for way, count in counts.items():
        cells = [count[name] for name in ("kills", "resumes", "finished", "lost", "same")]
        report.print_row(way, *(f"{cell:,}" for cell in cells))
    return sum(count["lost"] + count["finished"] - count["same"] for count in counts.values())


# Files


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def truncated(data, rng, _):
    return data[: rng.randrange(len(data))]


def bits_flipped(data, rng, _):
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(data, rng, _):
    begin, n = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
    return data[:begin] + bytes(len(data[begin : begin + n])) + data[begin + n :]


def of_other_shape(data, rng, path):
    """The same file of another network, or a table with another number of columns."""
    if path.suffix == ".safetensors":
        other = torch.nn.Sequential(torch.nn.Linear(4, rng.randint(9, 99)))
        checkpoints.save_weights(path, other)
    elif path.suffix == ".pt":
        state = checkpoints.load(path)
        name = rng.choice([name for name, w in state["algorithm"]["policy"].items() if w.ndim])
        state["algorithm"]["policy"][name] = torch.zeros(rng.randint(100, 200))
        checkpoints.save(path, state)
    elif path.suffix == ".csv":
        lines = data.decode().splitlines(keepends=True)
        k = rng.randrange(len(lines))
        return "".join([*lines[:k], "7," + lines[k], *lines[k + 1 :]]).encode()
    else:
        return json.dumps([json.loads(data)]).encode()
    return path.read_bytes()


def hostile_pickle(data, rng, path):
    """A file that executes code where it is unpickled, with a right checksum."""
    trap = {"algorithm": Trap(path.parent / "sprung"), "counters": {}}
    kind = rng.randrange(3)
    if kind == 0:
        changed = pickle.dumps(trap)
    elif kind == 1:
        torch.save(trap, path)
        changed = path.read_bytes()
    else:
        changed = data[: len(data) // 2] + pickle.dumps(trap)
    return changed + zlib.crc32(changed).to_bytes(4, "little")


def other_json(data, rng, path):
    """A value of another type or another number somewhere in it; in other files the text of one."""
    if path.suffix != ".json":
        return json.dumps({"returns": [1, 2, 3]}).encode()
    tree = json.loads(data)
    places = [(tree, key) for key in tree]
    for node, key in places:
        if isinstance(node[key], dict):
            places += [(node[key], inner) for inner in node[key]]
        elif isinstance(node[key], list):
            places += [(node[key], inner) for inner in range(len(node[key]))]
    node, key = rng.choice(places)
    node[key] = rng.choice([None, "text", -1, 1e300, [], {}, [[1]], True, 12345])
    return json.dumps(tree, indent=1).encode()


DAMAGES = {
    "truncated": truncated,
    "bits flipped": bits_flipped,
    "zeroed in part": zeroed,
    "of other shapes": of_other_shape,
    "hostile pickle": hostile_pickle,
    "other JSON": other_json,
}


def files(root, finished, n, seed):
    """Return for each kind of damage how often reading was an error, the same, other, or executed code."""
    root.mkdir()
    [saved] = sweeps.run(RECIPE, folder=root / "saved", save_policies=True, **RUN)
    stopped = root / "stopped"
    train(built(), folder=stopped, progress=False, **BUDGET)
    folders = (saved.folder, stopped)
    sources = [path for folder in folders for path in sorted(folder.iterdir()) if path.name != ".lock"]
    wanted = {saved.folder: read_record(saved.folder), stopped: read_checkpoint(stopped)}
    rng, counts = random.Random(seed), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(n):
            source = rng.choice(sources)
            kind = rng.choice(list(DAMAGES))
            folder = root / f"{i}"
            shutil.copytree(source.parent, folder)
            path = folder / source.name
            before = path.read_bytes()
            path.write_bytes(after := DAMAGES[kind](before, rng, path))
            read = read_record if source.parent == saved.folder else read_checkpoint
            what = "same" if after == before else told(read, folder, path, wanted[source.parent])
            if (folder / "sprung").exists():
                what = "code run"
            counts.setdefault(kind, Counter())[what] += 1
            shutil.rmtree(folder)
    return counts


def built():
    return recipes.get(RECIPE).build(0, **SETTINGS)


def told(read, folder, path, wanted):
    """Return what reading a folder with a damaged file comes to."""
    try:
        got = read(folder)
    except (ValueError, FileNotFoundError) as error:
        return "error" if path.name in str(error) or str(folder) in str(error) else "unclear error"
    except Exception as error:
        return f"crash ({type(error).__name__})"
    return "same" if got == wanted else "OTHER NUMBERS"


def read_record(folder):
    """Return all numbers of a finished run."""
    record = Record(folder)
    policies = [record.policy(n) for n in (None, *record.policy_steps())]
    weights = [w.detach().numpy().tobytes() for policy in policies for w in policy.parameters()]
    columns = {name: column.tobytes() for name, column in record.curve().items()}
    metadata = {name: value for name, value in record.metadata.items() if name != "digests"}
    return metadata, record.returns.tobytes(), record.greedy_returns.tobytes(), columns, weights


def read_checkpoint(folder):
    """Return all that training continues with."""
    algorithm = built()
    curve = train(algorithm, folder=folder, progress=False, **BUDGET | {"steps": 1})
    state = algorithm.state_dict()
    weights = [state["policy"], *state["optimizer"]["state"].values()]
    tensors = [w.numpy().tobytes() for group in weights for w in group.values()]
    return tensors, state["n_steps"], state["rng"], {name: x.tobytes() for name, x in curve.items()}


def print_files(counts):
    columns = ["error", "same", "unclear error", "OTHER NUMBERS", "code run"]
    others = sorted({what for count in counts.values() for what in count} - set(columns))
    names = ["clear errors", "same numbers", "unclear", "other numbers", "code run"]
    report.print_header("damage", "files", *names, *others)
    for kind in DAMAGES:
        count = counts.get(kind, Counter())
        numbers = (count.total(), *(count[what] for what in (*columns, *others)))
        report.print_row(kind, *(f"{n:,}" for n in numbers))
    return sum(count.total() - count["error"] - count["same"] for count in counts.values())


# Calls

NAN, INF = float("nan"), float("inf")
HOSTILE = [None, True, "text", b"bytes", -1, 0, 0.5, 1e300, -1e300, 10**40, NAN, INF, 1j, object()]
HOSTILE += [np.array(0, "m8[D]")]
HOSTILE += [[], [[]], {}, (), [None], ["a"], [1, [2, 3]], [NAN], [INF], [1e300, -1e300], np.zeros(0)]
HOSTILE += [np.zeros((0, 3)), np.zeros((3, 0)), np.ones((3, 1)), np.ones((1, 3)), np.ones((2, 2, 2, 2))]
HOSTILE += [np.arange(3), np.array([True, False, True]), np.array(["a", "b"]), np.array([1j, 2])]
HOSTILE += [np.array([None, 1]), np.array(3.0), np.float32(2), np.array([1, np.nan, 2]), np.array([[np.inf]])]
HOSTILE += [np.ones(3, np.float16), np.ones((2, 4), np.float32), np.ones((4, 2)), np.ones((2, 4), int)]


def calls(n):
    """Return for each function what hostile values came to, and what was neither right nor a ValueError.

    ``n`` values for each argument: those that are almost right, those of ``HOSTILE``, and arrays that
    hypothesis draws; without numbers that would take long.
    """
    drawn = list(itertools.islice(arrays(), n))
    counts, examples = {}, []
    for call in good_calls():
        counter = counts.setdefault(call.name, Counter())
        if (what := called(call, call.arguments())) != "right":
            examples.append(f"{call.name} with good arguments: {what}")
        for name in call.varied():
            good = call.good[name]
            for value in itertools.islice(itertools.chain(almost(good), HOSTILE, drawn), n):
                if call.is_slow(name, value):
                    continue
                what = called(call, call.arguments() | {name: value}, name)
                if what == "right" and accepted(good, value, optional=name in call.optional):
                    what = "accepted"
                counter[what] += 1
                if what not in ("right", "ValueError", "warned"):
                    examples.append(f"{call.name}({name}={' '.join(repr(value).split()):.60}): {what}")
    return counts, examples


def almost(good):
    """Return arrays with the shape of a good one and something wrong or unusual in them."""
    if not isinstance(good, np.ndarray) or not good.ndim:
        return []
    values = [with_first(good.astype(float), number) for number in (NAN, INF, -INF, 1e300, -1e300, 0.5, -1)]
    kinds = (object, complex, str, bool, int, np.float16, np.float32, np.uint8)
    with np.errstate(all="ignore"):
        values += [good.astype(kind) for kind in kinds]
    return [
        *values,
        good[::-1],
        good.T,
        good[:0],
        good[..., None],
        good.tolist(),
        with_first(good, good.flat[-1]),
    ]


def with_first(array, number):
    array = array.copy()
    array.flat[0] = number
    return array


def arrays():
    """Yield arrays of hostile shapes, types and values without end, the same each time."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

    found = []
    shapes = array_shapes(min_dims=0, min_side=0, max_side=4)
    numbers = scalar_dtypes().flatmap(lambda dtype: arrays(dtype, shapes))
    options = {"derandomize": True, "database": None, "max_examples": 2000, "phases": [Phase.generate]}

    @settings(suppress_health_check=list(HealthCheck), **options)
    @given(numbers | st.lists(st.floats(), max_size=4))
    def collect(value):
        found.append(value)

    collect()
    yield from itertools.cycle(found)


def called(call, arguments, name=""):
    """Return what a call comes to: right, a ValueError that names the argument, or something else."""

    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 5)  # of the processor's time: other programs may be running
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call.call(**arguments)
    except ValueError as error:
        names = {*arguments, *call.also, *(value for value in arguments.values() if isinstance(value, str))}
        named = any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", str(error)) for one in names)
        return "ValueError" if named else f"unnamed ValueError: {error!s:.90}"
    except RuntimeWarning as warning:
        return "warned" if "overflow" in str(warning) else f"RuntimeWarning: {warning!s:.90}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.90}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if call.passes_on and name and not finite_in_single_precision(arguments[name]):
        return "right"
    return "right" if all(np.isfinite(part).all() for part in floats(result)) else "NaN or infinite"


def floats(result):
    """Yield the floating-point arrays in a result."""
    if isinstance(result, tuple | list):
        for part in result:
            yield from floats(part)
    elif isinstance(result, torch.Tensor):
        yield from floats(result.detach().numpy())
    elif isinstance(result, float | complex | np.ndarray | np.generic):
        array = np.asarray(result)
        if array.dtype.kind in "fc":
            yield array


def finite_in_single_precision(value):
    """Return whether networks, whose numbers have 32 bits, take a value for finite ones."""
    with contextlib.suppress(TypeError, ValueError), np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.asarray(value, np.float32)).all())
    return True


def accepted(good, value, *, optional):
    """Return whether a value was taken for a number, or for a whole one, and is none."""
    if isinstance(good, bool) or not isinstance(good, int | float) or (optional and value is None):
        return False
    if isinstance(value, np.ndarray | np.generic) and value.shape == ():
        value = value.item()
    if not isinstance(value, int | float):
        return True
    return not math.isfinite(value) or (isinstance(good, int) and value % 1 != 0)


def print_calls(found):
    counts, examples = found
    report.print_header("module", "functions", "calls", "right", "named", "warned", "other")
    modules = {}
    for name, count in counts.items():
        module = re.match(r"\w+\.[a-z_]+", name)[0]
        modules.setdefault(module, []).append(count)
    for module, of_functions in {**modules, "all": list(counts.values())}.items():
        count = sum(of_functions, Counter())
        columns = [len(of_functions), count.total(), *(count[k] for k in ("right", "ValueError", "warned"))]
        report.print_row(module, *(f"{n:,}" for n in (*columns, count.total() - sum(columns[2:]))))
    for example in examples[:500]:
        print(example, file=sys.stderr)
    return len(examples)


if __name__ == "__main__":
    main()
