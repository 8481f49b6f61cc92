"""Run the code of a stranger's notebook, and the functions that it defines, in a process of its own.

The process gets code and arguments and sends back numbers. No answer and no points are ever in it, so that it
has nothing to forge. Beside this, from the system:

limits      CPU time, memory, no byte into any file, no core dump                     (``setrlimit``)
namespaces  no network, and no process survives its end         (Linux, where users may ``unshare``)
Landlock    reads only Python and its libraries, changes only its own folder, no TCP          (Linux)

And an audit hook of Python, which can be evaded, names an attempt to change files, to use the network or to
stop another process, and ends the submission.

On no slide.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pgcourse import checks
from pgcourse.teaching.exercises.engine import InvalidResult, Result, run

Calls = Mapping[str, tuple[str, list[tuple[object, ...]]]]  # by number: a function's name, and its arguments
Results = dict[str, list[Result]]

MAX_ANSWER = 20_000_000  # bytes that a submission may send back
MAX_NOTES = 20
LIMITS_OF = {"RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 64}


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Args:
        cpu_seconds: CPU time in all, at least 1.
        function_seconds: CPU time of one function in all its cases, positive.
        seconds: time on the clock, positive.
        memory: bytes of address space, at least 256 MiB.
    """

    cpu_seconds: int = 20
    function_seconds: float = 5.0
    seconds: float = 120.0
    memory: int = 4 * 2**30

    def __post_init__(self) -> None:
        checks.count(1, 3600, cpu_seconds=self.cpu_seconds)
        checks.positive(function_seconds=self.function_seconds, seconds=self.seconds)
        checks.count(2**28, 2**50, memory=self.memory)


@dataclass
class Outcome:
    """What came back from a submission."""

    results: Results = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # on cells that fail
    violation: str = ""  # why it gets nothing, in a sentence; empty if it kept to the rules
    protection: list[str] | None = None  # what the system took from it: "network", "files"; None: not run


def run_here(cells: Iterable[str], calls: Calls) -> Outcome:
    """Run trusted code in this process, without limits. Arguments as for ``run_isolated``."""
    outcome = Outcome()
    namespace = _execute(cells, outcome.notes.append)
    for number, (name, cases) in calls.items():
        outcome.results[number] = [run(_function(namespace, name), case) for case in cases]
    return outcome


def run_isolated(cells: Iterable[str], calls: Calls, limits: Limits | None = None) -> Outcome:
    """Run code and call the functions that it defines, in a process of its own with limits.

    Args:
        cells: source of each code cell. One that raises an exception does not stop the others.
        calls: for each problem the name of a function, and the arguments of each case.
        limits: those of ``Limits()`` unless given.

    Raises:
        OSError: on a system without ``setrlimit``, such as Windows.
    """
    if os.name != "posix":
        raise OSError("grading needs Linux or macOS; on Windows, use the Windows Subsystem for Linux")
    limits = limits or Limits()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as task:
        pickle.dump((list(cells), dict(calls), limits), task)
        task.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", "-m", __name__],
            stdin=task,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            answer, reason = _read(process, limits.seconds)
        finally:
            _kill(process)
    return _decoded(answer, reason or _reason(process.returncode, limits), calls)


def _environment(folder: str) -> dict[str, str]:
    """Return a few variables and no secret of the user's own."""
    package = Path(__file__).parents[2]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return (
        kept | threads | {"HOME": folder, "TMPDIR": folder, "MPLBACKEND": "agg", "PYTHONPATH": str(package)}
    )


def _read(process: subprocess.Popen, seconds: float) -> tuple[bytes, str]:
    """Return what a process sends until it ends, and why it was not waited for, if it was not."""
    assert process.stdout is not None
    answer, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            if not (more := os.read(process.stdout.fileno(), 2**16)):
                process.wait()
                return answer, ""
            answer += more
            if len(answer) > MAX_ANSWER:
                return answer, "It sends back more than a solution would."
    return answer, f"It had not ended after {seconds:g} seconds."


def _kill(process: subprocess.Popen) -> None:
    """Stop the process and those it has started."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()  # type: ignore[union-attr]


def _reason(code: int, limits: Limits) -> str:
    """Return what the end of a process says, in a sentence; nothing if it ended as it should."""
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"It needs more than {limits.cpu_seconds} s of CPU time, or more memory than there is."
    return "" if code == 0 else f"It ended Python with the code {code} before it was graded."


def _decoded(answer: bytes, reason: str, calls: Calls) -> Outcome:
    """Return what a process has sent; nothing of it counts if there is a reason."""
    outcome = Outcome()
    try:
        for line in answer.splitlines():
            message = json.loads(line)
            if outcome.protection is None:  # said before the submission begins
                outcome.protection = list(map(_one_line, message["protection"]))
            outcome.notes += map(_one_line, message.get("notes", []))
            outcome.violation = outcome.violation or _one_line(message.get("violation", ""))
            for number, results in message.get("results", {}).items():
                outcome.results[number] = [_result(result) for result in results]
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
        reason = reason or "What it sends back are not the results of its functions."
    complete = {n: len(results) for n, results in outcome.results.items()} == {
        number: len(cases) for number, (_, cases) in calls.items()
    }
    if not complete:
        reason = reason or "It ended Python before it was graded."
    outcome.violation = outcome.violation or reason
    if outcome.violation:
        outcome.results = {}
    outcome.notes = outcome.notes[:MAX_NOTES]
    return outcome


def _one_line(text: object) -> str:
    """Return a text of a submission as one short line of letters, no commands of a terminal among them."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:300])


# What crosses from one process to the other: numbers, and the names and texts of exceptions


def _message(result: Result) -> dict:
    if result is None:
        return {}
    if isinstance(result, InvalidResult):
        return {"invalid": [str(result), result.feedback]}
    if isinstance(result, Exception):
        return {"exception": [type(result).__name__, str(result)[:500]]}
    return {"shape": result.shape, "array": result.ravel().tolist()}


def _result(message: dict) -> Result:
    if "array" in message:
        return np.array(message["array"], float).reshape(message["shape"])
    if "invalid" in message:
        return InvalidResult(*map(str, message["invalid"]))
    if "exception" in message:
        name, text = map(str, message["exception"])
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__init__ is Exception.__init__:
            return kind(text)
        return type(name, (Exception,), {})(text)
    return None


# In the process of the submission


def _execute(cells: Iterable[str], note: Callable[[str], object]) -> dict[str, object]:
    """Execute cells one after the other and return what they define."""
    namespace: dict[str, object] = {"__name__": "__main__", "display": print}
    for number, cell in enumerate(cells, 1):
        try:
            exec(compile(_python(cell), f"<cell {number}>", "exec"), namespace)
        except MemoryError:
            raise
        except BaseException as error:  # also one that would end Python
            note(f"Code cell {number} raises {type(error).__name__}: {error}")
    return namespace


def _python(cell: str) -> str:
    """Return a cell with its commands of IPython, such as ``%pip``, left out."""
    lines = cell.splitlines()
    if lines and lines[0].startswith("%%"):
        return ""
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    return "\n".join(
        f"{indent}pass" if line.lstrip()[:1] in ("%", "!", "?") and line.strip() else line
        for line, indent in zip(lines, indents, strict=True)
    )


def _function(namespace: Mapping[str, object], name: str) -> Callable[..., object]:
    function = namespace.get(name)
    return function if callable(function) else lambda *_: None


def _out_of_time(*_: object) -> None:
    raise TimeoutError("it takes too long")


def _run_all(namespace: Mapping[str, object], name: str, cases: list, seconds: float) -> list[Result]:
    """Run a function in all cases; once it has had its time, the others are not tried."""
    results: list[Result] = []
    signal.signal(signal.SIGPROF, _out_of_time)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    for case in cases:
        too_long = bool(results) and isinstance(results[-1], TimeoutError)
        results.append(results[-1] if too_long else run(_function(namespace, name), case))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return results


def main() -> None:
    """Be the process of a submission: read a task from standard input, write messages to standard output."""
    cells, calls, limits = pickle.load(sys.stdin.buffer)
    channel = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)

    def send(**message: object) -> None:
        print(json.dumps(message), file=channel, flush=True)

    send(protection=_isolate(limits))
    folder = os.path.realpath(os.getcwd())

    def violation(sentence: str) -> None:
        send(violation=sentence)
        os._exit(0)

    too_long = f"It needs more than {limits.cpu_seconds} s of CPU time."
    signal.signal(signal.SIGXCPU, lambda *_: violation(too_long))
    sys.addaudithook(_watch(folder, violation))
    try:
        namespace = _execute(cells, lambda text: send(notes=[text]))
    except MemoryError:
        violation(f"It needs more than the {limits.memory / 2**30:.3g} GiB of memory that it may have.")
    for number, (name, cases) in calls.items():
        results = _run_all(namespace, name, cases, limits.function_seconds)
        send(results={number: [_message(result) for result in results]})
    os._exit(0)  # what the submission has registered for the end is not waited for


FILE_EVENTS = {"chmod", "chown", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate", "utime"}
FILE_EVENTS = {f"os.{name}" for name in FILE_EVENTS} | {"shutil.rmtree", "shutil.move", "shutil.chown"}
PROGRAM_EVENTS = {"subprocess.Popen", "pty.spawn"}
PROGRAM_EVENTS |= {f"os.{name}" for name in ("system", "fork", "forkpty", "exec", "posix_spawn", "spawn")}
NETWORK_EVENTS = {f"socket.{name}" for name in ("connect", "bind", "sendto", "sendmsg", "getaddrinfo")}
NETWORK_EVENTS |= {"socket.gethostbyname", "socket.gethostbyaddr"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _watch(folder: str, violation: Callable[[str], None]) -> Callable[[str, tuple], None]:
    """Return an audit hook that reports what a submission has no business to do."""

    def is_own(path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # an open file
        name = os.path.realpath(os.fsdecode(path))
        return name == os.devnull or name == folder or name.startswith(f"{folder}{os.sep}")

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITING and not is_own(path):
                violation(f"It tries to write to {path}.")
        elif event in FILE_EVENTS:
            for path in args:
                if isinstance(path, str | bytes | os.PathLike) and not is_own(path):
                    violation(f"It tries to delete or change {os.fsdecode(path)}.")
        elif event in PROGRAM_EVENTS:
            raise PermissionError("no other programs here")  # which libraries that ask for fonts survive
        elif event in NETWORK_EVENTS:
            violation("It tries to use the network.")
        elif event in ("os.kill", "os.killpg") and args[0] != os.getpid():
            violation("It tries to stop another process.")

    return hook


def _isolate(limits: Limits) -> list[str]:
    """Give up what a submission does not need, and return what the system has taken."""
    protection = []
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None and _leave_network(libc):
        protection.append("network")
    if libc is not None and _leave_files(libc):
        protection.append("files")
    _limit(limits)
    return protection


def _limit(limits: Limits) -> None:
    import resource

    wanted = {"RLIMIT_CPU": limits.cpu_seconds, "RLIMIT_AS": limits.memory} | LIMITS_OF
    for name, value in wanted.items():
        kind = getattr(resource, name, None)  # not every system has all of them
        if kind is None:
            continue
        _, most = resource.getrlimit(kind)
        hard = value + 1 if name == "RLIMIT_CPU" else value  # a second in which SIGXCPU says why
        hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
        try:
            resource.setrlimit(kind, (min(value, hard), hard))
        except (ValueError, OSError):
            continue  # macOS refuses some


CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Go on in a child without a network; whatever it starts ends with it. False if users may not do this."""
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC):
        return False
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return True


# Landlock: https://docs.kernel.org/userspace-api/landlock.html
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ALL_FILES = (1 << 13) - 1  # version 1 of the interface
LATER_FILES = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # refer, truncate, control a device
NO_TCP, NO_SIGNALS = 3, 3  # from versions 4 and 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scope", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def _leave_files(libc: ctypes.CDLL) -> bool:
    """Keep Python and its libraries, to read, and this folder. False if the kernel does not know Landlock."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = ALL_FILES | sum(bit for since, bit in LATER_FILES.items() if version >= since)
    rules = _Ruleset(files, NO_TCP if version >= 4 else 0, NO_SIGNALS if version >= 6 else 0)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        return False
    allowed = dict.fromkeys(_libraries(), EXECUTE | READ_FILE | READ_DIR)
    allowed |= {os.getcwd(): files, os.devnull: READ_FILE | WRITE_FILE, "/dev/urandom": READ_FILE}
    for path, access in allowed.items():
        if os.path.exists(path):
            rule = _Rule(access, os.open(path, os.O_PATH | os.O_CLOEXEC))
            libc.syscall(ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
            os.close(rule.descriptor)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.syscall(RESTRICT_SELF, ruleset, 0) == 0


def _libraries() -> set[str]:
    """Return the folders of Python, of installed packages, of this one, and of the system's libraries."""
    own = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[1])} | set(sysconfig.get_paths().values())
    own |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    return {os.path.realpath(path) for path in own} | {"/usr", "/lib", "/lib64", "/etc/ld.so.cache"}


if __name__ == "__main__":
    main()
