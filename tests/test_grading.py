"""Submissions run in a process of their own: honest ones get points, hostile ones nothing and a sentence."""

import json
import os
import re
import time

import numpy as np
import pytest

from pgcourse.teaching import grading, sandbox
from pgcourse.teaching.sandbox import Limits, run_isolated

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs setrlimit")

SET = """
import numpy as np
from pgcourse.teaching.exercises.engine import Exercise

def double(x):
    '''Return twice x.'''
    return 2 * x

def square(x):
    '''Return x².'''
    return x**2

def cases(rng):
    for n in (2, 3, 4):
        yield (rng.normal(size=n),)

PROBLEMS = [
    Exercise("1A", double, cases, {"This is x.": lambda x: x}),
    Exercise("1B", square, cases, {"You double. Multiply x by itself.": lambda x: 2 * x}),
]
"""
CALLS = {"1A": ("f", [(np.arange(3.0),), (np.ones(2),)])}
RIGHT = "def double(x):\n    return 2 * x\n\ndef square(x):\n    return x * x\n"
FORGED = {"results": {n: [{"shape": [2], "array": [0, 0]}] * 3 for n in ("1A", "1B")}, "points": 10}
SMALL = Limits(cpu_seconds=1, function_seconds=0.3, seconds=120, memory=2**30)


def notebook(*cells):
    cells = [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def problem_set(tmp_path):
    """A set of two problems, worth 4 and 6 points, in a folder that a submission should not touch."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "chapter_1.py").write_text(SET)
    solved = notebook("double", "square")
    solved["cells"].insert(0, {"cell_type": "markdown", "metadata": {}, "source": "# Two problems\n\nText."})
    for cell, number, points in zip(solved["cells"][1:], ("1A", "1B"), (4, 6), strict=True):
        cell["metadata"] = {"nbgrader": {"grade_id": number, "points": points}, "pgcourse": {"minutes": 5}}
    (folder / "chapter_1.ipynb").write_text(json.dumps(solved))
    return grading.load(folder / "chapter_1.py")


@pytest.fixture
def graded(problem_set, tmp_path):
    def graded(*cells, limits=SMALL):
        path = tmp_path / "submission.ipynb"
        path.write_text(json.dumps(notebook(*cells)))
        return grading.grade(problem_set, path, limits)

    return graded


def test_honest_submissions_get_their_points_and_the_kind_of_mistake(graded):
    report = graded(RIGHT)
    assert (report.points, report.out_of, report.violation) == (10, 10, "")
    report = graded("%pip install nothing\n!ls", "1 / 0", "undefined(", RIGHT.replace("x * x", "2 * x"))
    assert [mark.points for mark in report.marks] == [4, 0]
    assert "You double. Multiply x by itself." in report.marks[1].text
    assert [note[:45] for note in report.notes] == [
        "Code cell 2 raises ZeroDivisionError: divisio",
        "Code cell 3 raises SyntaxError: '(' was never",
    ]
    assert str(report).startswith("Two problems: 4 of 10 points\nCode cell 2 raises")
    assert graded("").points == 0
    assert "returns nothing yet" in graded("double = 3").marks[0].text


def test_a_function_that_loops_costs_its_own_points_only(graded):
    report = graded(RIGHT.replace("return x * x", "while True: pass"))
    assert [mark.points for mark in report.marks] == [4, 0]
    assert "TimeoutError: it takes too long" in report.marks[1].text


HOSTILE = {
    "loops for ever": ("while True: pass", "It needs more than 1 s of CPU time."),
    "loops for ever, and ignores signals": (
        "import signal\nfor s in (signal.SIGXCPU, signal.SIGPROF): signal.signal(s, signal.SIG_IGN)\n"
        "while True: pass",
        "It needs more than 1 s of CPU time",
    ),
    "eats memory": (
        "eaten = []\nwhile True: eaten.append(bytes(10**7))",
        "It needs more than the 1 GiB of memory that it may have.",
    ),
    "deletes the tests": ("import shutil\nshutil.rmtree('FOLDER')", "It tries to delete or change FOLDER."),
    "overwrites the tests": ("open('FOLDER/chapter_1.py', 'w')", "It tries to write to FOLDER/chapter_1.py."),
    "prints a forged score and ends": (
        f"print('''{json.dumps(FORGED)}''')\nprint('10 of 10 points')\nimport os\nos._exit(0)",
        "It ended Python before it was graded.",
    ),
    "writes a forged score into every open file": (
        f"import os\nfor k in range(1, 20):\n  try: os.write(k, b'''{json.dumps(FORGED)}\\n''')\n"
        "  except OSError: pass\nos._exit(0)",
        "",
    ),
    "fills the channel": (
        "import os\nfor k in range(3, 20):\n  try:\n    while True: os.write(k, bytes(10**6))\n"
        "  except OSError: pass",
        "It sends back more than a solution would.",
    ),
    "uses the network": (
        "import socket\nsocket.create_connection(('127.0.0.1', 80))",
        "It tries to use the network.",
    ),
    "stops the grader": ("import os, signal\nos.kill(os.getppid(), 9)", "It tries to stop another process."),
    "crashes Python": ("import ctypes\nctypes.string_at(0)", "It ended Python with the code"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_submission_gets_nothing_and_a_sentence(kind, graded, tmp_path):
    folder = tmp_path / "tests"
    code, sentence = (text.replace("FOLDER", str(folder)) for text in HOSTILE[kind])
    report = graded(code, RIGHT.replace("2 * x", "0 * x").replace("x * x", "0 * x"))
    assert report.points == 0
    assert report.violation.startswith(sentence)
    assert report.violation.endswith(".") or all("not yet" in mark.text for mark in report.marks)
    assert {path.name for path in folder.iterdir()} == {"chapter_1.py", "chapter_1.ipynb"}
    assert (folder / "chapter_1.py").read_text() == SET
    assert "0 of 10 points" in str(report)


def test_a_submission_cannot_grade_itself(graded):
    """Whatever it changes in its own process, the comparison is made in another."""
    report = graded(
        "import numpy as np, pgcourse.teaching.grading as g, pgcourse.teaching.exercises.engine as e\n"
        "np.allclose = np.array_equal = lambda *_, **__: True\n"
        "e.compare = g.compare = lambda *_: e.Feedback(True, '10 of 10')\n"
        "class All:\n  def __eq__(self, other): return True\n"
        "  def __array__(self, *_, **__): return np.zeros(2)\n"
        "double = square = lambda x: All()"
    )
    assert report.points == 0
    assert "expected: " in report.marks[0].text


@pytest.fixture(scope="module")
def protection():
    return run_isolated([""], CALLS, SMALL).protection


def needs(name):
    def skip(protection):
        if name not in protection:
            pytest.skip(f"this system does not protect the {name}")

    return pytest.fixture(name=name)(skip)


network, files = needs("network"), needs("files")


def test_there_is_no_network_even_without_python(network):
    """Through the C library, which no audit hook sees, a connection to this machine finds no way."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = socket.htons(server.getsockname()[1])
        code = (
            "import ctypes, struct, numpy as np\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            f"address = struct.pack('=HHI8x', 2, {port}, 0x0100007F)\n"
            "failed = libc.connect(libc.socket(2, 1, 0), address, 16)\n"
            "def f(x): return np.array([failed])"
        )
        assert run_isolated([code], CALLS, SMALL).results["1A"][0].tolist() == [-1]


def test_files_cannot_be_read_or_deleted_even_without_python(files, tmp_path):
    answers = tmp_path / "answers.py"
    answers.write_text("42")
    code = (
        "import ctypes, numpy as np\nlibc = ctypes.CDLL(None)\n"
        f"done = [libc.open(b'{answers}', 0), libc.unlink(b'{answers}'), libc.open(b'/etc/passwd', 0)]\n"
        "def f(x): return np.array(done)"
    )
    assert run_isolated([code], CALLS, SMALL).results["1A"][0].tolist() == [-1, -1, -1]
    assert answers.read_text() == "42"


def test_not_a_byte_can_be_written_to_a_file():
    """Nor would ten thousand small files fill the disk."""
    [note] = run_isolated(["open('own', 'w').write('a' * 10000)"], CALLS, SMALL).notes
    assert "File too large" in note


def test_no_process_survives(network):
    """One that detached itself through the C library is gone when the submission is."""
    psutil = pytest.importorskip("psutil")
    code = "import ctypes, time\nlibc = ctypes.CDLL(None)\nif libc.fork() == 0:\n    libc.setsid()\n"
    code += "    time.sleep(1000 + 0.4711)\ndef f(x): return x"
    outcome = run_isolated([code], CALLS, SMALL)
    assert not outcome.violation
    time.sleep(0.2)
    mine = [p for p in psutil.process_iter(["cmdline"]) if sandbox.__name__ in (p.info["cmdline"] or [])]
    assert not [p for p in mine if p.status() != psutil.STATUS_ZOMBIE and p.ppid() == 1]


def test_a_submission_sees_no_secret_of_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "4711")
    code = "import os, numpy as np\ndef f(x): return np.array(['SECRET_TOKEN' in os.environ], float)"
    assert run_isolated([code], CALLS, SMALL).results["1A"][0].tolist() == [0]


UNREADABLE = [b"{", b"[]\n", b'{"results": {"1A": 3}}\n', b"[" * 100_000 + b"\n"]
UNREADABLE += [
    b'{"results": {"1A": [{"array": [%s], "shape": [%d]}]}}\n' % (x, n)
    for x, n in ((b"1", 7), (b"9" * 400, 1))
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_is_nothing(answer):
    outcome = sandbox._decoded(answer, "", CALLS)
    assert outcome.results == {}
    assert outcome.violation


@pytest.mark.parametrize("result", [np.array([[1.0, np.nan]]), np.zeros((0, 2)), np.array(0.1), None])
def test_numbers_cross_as_they_are(result):
    message = json.loads(json.dumps(sandbox._message(result)))
    back = sandbox._result(message)
    assert back is None if result is None else np.array_equal(back, result, equal_nan=True)


def test_exceptions_cross_with_their_names():
    for error in (
        ValueError("x"),
        TimeoutError("y"),
        np.linalg.LinAlgError("z"),
        UnicodeDecodeError("utf8", b"", 0, 1, "r"),
    ):
        back = sandbox._result(json.loads(json.dumps(sandbox._message(error))))
        assert (type(back).__name__, str(back)) == (type(error).__name__, str(error))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "must be a Jupyter notebook"),
        ("", "must be a Jupyter notebook"),
        ("[" * 99999, "must be a Jupyter"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_notebook_gets_nothing_and_a_sentence(problem_set, tmp_path, content, said):
    path = tmp_path / "s.ipynb"
    if content is not None:
        path.write_text(content)
    report = grading.grade(problem_set, path)
    assert report.points == 0
    assert said in report.violation


def test_a_large_file_is_not_read(problem_set, tmp_path, monkeypatch):
    path = tmp_path / "s.ipynb"
    path.write_text(json.dumps(notebook(RIGHT)))
    monkeypatch.setattr(grading, "MAX_NOTEBOOK", 10)
    assert "at most 10 bytes" in grading.grade(problem_set, path).violation


def test_a_bundle_grades_as_its_set_does(problem_set, tmp_path):
    grading.write_bundle(tmp_path / "tests" / "chapter_1.ipynb", tmp_path / "chapter_1.zip")
    bundle = grading.load(tmp_path / "chapter_1.zip")
    assert (bundle.title, bundle.points) == (problem_set.title, problem_set.points) == ("Two problems", 10)
    assert grading.grade_trusted(bundle, notebook(RIGHT)).points == 10
    assert grading.grade_trusted(bundle, notebook("")).points == 0


def test_what_a_submission_says_is_one_line_of_letters(graded):
    report = graded("raise ValueError('\\x1b[2J\\n' + 'x' * 1000)", *["1 / 0"] * 50)
    assert len(report.notes) == sandbox.MAX_NOTES
    assert report.notes[0].startswith("Code cell 1 raises ValueError:  [2J xxx")
    assert len(report.notes[0]) == 300


@pytest.mark.parametrize(
    ("protection", "said"),
    [
        (["network", "files"], ""),
        (["files"], " (with your network)"),
        ([], " (with your files and your network)"),
        (None, ""),
    ],
)
def test_what_is_not_protected_is_said(problem_set, protection, said):
    report = grading._report(problem_set, sandbox.Outcome(protection=protection, violation="It."))
    assert report.unprotected == said


def test_checkpoints_of_jupyter_are_no_submissions(tmp_path):
    for name in ("a.ipynb", "b/c.ipynb", ".ipynb_checkpoints/a-checkpoint.ipynb", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in grading.find([tmp_path, tmp_path / "a.ipynb"])]
    assert names == ["a.ipynb", "b/c.ipynb", "a.ipynb"]


def test_a_set_whose_files_disagree_is_refused(problem_set, tmp_path):
    path = tmp_path / "tests" / "chapter_1.py"
    path.write_text(SET.replace('"1B"', '"1C"'))
    with pytest.raises(ValueError, match=re.escape(f"{path} must grade 1A, 1B, got 1A, 1C")):
        grading.load(path)


def test_without_setrlimit_nothing_is_run(monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(OSError, match="Windows Subsystem for Linux"):
        run_isolated([], CALLS)


def test_the_command_writes_reports_and_a_table(problem_set, tmp_path):
    from typer.testing import CliRunner

    from pgcourse.__main__ import app

    folder = tmp_path / "submissions"
    folder.mkdir()
    (folder / "ada.ipynb").write_text(json.dumps(notebook(RIGHT)))
    (folder / "bob.ipynb").write_text(json.dumps(notebook("import os\nos._exit(0)")))
    arguments = ["grade", tmp_path / "tests" / "chapter_1.py", folder, "--to", tmp_path / "points.csv"]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    ada, bob, wrote = done.stdout.splitlines()
    assert ada.startswith(f"{folder / 'ada.ipynb'}: 10 of 10 points")
    assert bob.startswith(f"{folder / 'bob.ipynb'}: 0 of 10 points")
    assert bob.endswith(" It ended Python before it was graded.")
    assert wrote == f"Wrote {tmp_path / 'points.csv'}"
    assert (folder / "ada.txt").read_text().startswith("Two problems: 10 of 10 points\n")
    assert (tmp_path / "points.csv").read_text().splitlines() == [
        "submission,points,1A,1B,not graded because",
        f"{folder / 'ada.ipynb'},10,4,6,",
        f"{folder / 'bob.ipynb'},0,0,0,It ended Python before it was graded.",
    ]
