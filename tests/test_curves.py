"""Curves against means taken by hand, and against files as kills and power cuts leave them."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pgcourse.experiments.curves import Curve, read


class UpdateMetrics(NamedTuple):
    n_steps: int
    episode_returns: list
    loss: float
    entropy: float = 0.5


def grown(curve, *, first=1, last=6, interval=2):
    """Add updates of 10 steps and an episode each, whose return is the update's number, and append rows."""
    for i in range(first, last + 1):
        curve.add(UpdateMetrics(10 * i, [i], 0.1 * i), seconds=0.25)
        if i % interval == 0:
            curve.append_row(eval_return=100 + i if i % 4 == 0 else math.nan)
    return curve


HEADER = "n_updates,n_steps,n_episodes,seconds,return,eval_return,loss,entropy\n"
ROWS = [
    "0,0,0,0,,9.5,,\n",
    "2,20,2,0.5,1.5,,0.15,0.5\n",
    "4,40,4,1,3.5,104,0.35,0.5\n",
    "6,60,6,1.5,5.5,,0.55,0.5\n",
]  # by hand


def begun(folder):
    curve = Curve(folder)
    curve.append_row(eval_return=9.5)
    return curve


def test_a_row_is_the_mean_over_the_updates_since_the_one_before(tmp_path):
    curve = Curve(tmp_path)
    curve.add(UpdateMetrics(7, [1.0, 2.0], loss=1.0, entropy=0.25), seconds=0.5)
    curve.add(UpdateMetrics(9, [], loss=2.0, entropy=0.5), seconds=1.0)
    curve.add(UpdateMetrics(30, [6.0], loss=6.0, entropy=3.0), seconds=0.25)
    curve.append_row(eval_return=-2.5)
    curve.add(UpdateMetrics(31, [], loss=5.0, entropy=0.0), seconds=0.25)
    curve.append_row()
    expected = {"n_updates": [3, 4], "n_steps": [30, 31], "n_episodes": [3, 3], "seconds": [1.75, 2]}
    expected |= {
        "return": [3, math.nan],
        "eval_return": [-2.5, math.nan],
        "loss": [3, 5],
        "entropy": [1.25, 0],
    }
    for columns in (curve.columns(), read(tmp_path / "curve.csv")):
        assert list(columns) == list(expected)
        for name, column in columns.items():
            np.testing.assert_array_equal(column, np.array(expected[name], float), strict=True)


def test_the_file_has_a_header_and_empty_cells_and_its_first_row_waits_for_its_columns(tmp_path):
    curve, path = begun(tmp_path), tmp_path / "curve.csv"
    assert not path.exists()
    assert curve.columns()["eval_return"].tolist() == [9.5]
    grown(curve, last=2)
    assert path.read_text() == HEADER + "".join(ROWS[:2])
    grown(curve, first=3)
    assert path.read_text() == HEADER + "".join(ROWS)
    assert path.read_bytes().count(b"\r") == 0


def test_a_new_curve_begins_a_new_file_and_one_without_a_folder_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curve.csv").write_text("of an earlier run")
    assert grown(Curve()).columns()["return"].tolist() == [1.5, 3.5, 5.5]
    assert (tmp_path / "curve.csv").read_text() == "of an earlier run"
    Curve(tmp_path)
    assert not (tmp_path / "curve.csv").exists()


def test_in_memory_and_on_disk_it_is_the_same(tmp_path):
    curve, rng = begun(tmp_path), np.random.default_rng(0)
    for i in range(1, 20):
        numbers = (rng.normal() * 10.0 ** rng.integers(-12, 25) for _ in range(3))
        curve.add(UpdateMetrics(int(1e9) + i, [next(numbers)], *numbers), seconds=rng.random())
        curve.append_row(eval_return=math.inf)
    for name, column in read(tmp_path / "curve.csv").items():
        np.testing.assert_array_equal(curve.columns()[name], column, strict=True)
    assert column[1:].all()
    assert read(tmp_path / "curve.csv")["n_steps"][-1] == 1e9 + 19  # counts are not rounded


TORN = [
    "",
    "5,50,5,1.2",
    "6",
    "6,60,6,1.5,5.5,,0.55,0.5",
    "\0\0\0\0",
    "\0\0\0,4\n\0\n",
    "\x1c\u2028\n,,,\n",
    b"\xff\xfe\xa0\n\xff",
    "-3,1\n",
]


@pytest.mark.parametrize("torn", TORN)
@pytest.mark.parametrize("n_rows", [3, 4])
def test_resumed_it_drops_rows_after_the_checkpoint_and_grows_as_if_never_stopped(tmp_path, torn, n_rows):
    path = tmp_path / "curve.csv"
    counters = dict(grown(begun(tmp_path), last=4).counters)
    path.write_bytes(
        (HEADER + "".join(ROWS[:n_rows])).encode() + (torn if isinstance(torn, bytes) else torn.encode())
    )
    curve = Curve.resumed(tmp_path, counters)
    assert path.read_text() == HEADER + "".join(ROWS[:3])
    grown(curve, first=5)
    assert path.read_text() == HEADER + "".join(ROWS)
    for name, column in grown(begun(None)).columns().items():
        np.testing.assert_array_equal(curve.columns()[name], column)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.csv"]


LACKING = [
    None,
    b"",
    b"\n",
    HEADER.encode(),
    (HEADER + ROWS[0] + ROWS[1]).encode(),
    (HEADER + "".join(ROWS[:3])).encode()[:-1],
    b"\0" * 99,
]


@pytest.mark.parametrize("content", LACKING)
def test_without_the_row_of_its_checkpoint_it_cannot_be_resumed(tmp_path, content):
    counters = dict(grown(begun(tmp_path), last=4).counters)
    path = tmp_path / "curve.csv"
    path.unlink() if content is None else path.write_bytes(content)
    missing = "it has no row of update 4, where the last checkpoint is"
    message = f"{path} is damaged: {missing}; delete {tmp_path} to begin again"
    with pytest.raises(ValueError, match=message):
        Curve.resumed(tmp_path, counters)
    assert not path.exists() if content is None else path.read_bytes() == content


def test_a_row_before_the_checkpoint_that_is_damaged_is_an_error_not_a_gap(tmp_path):
    counters = dict(grown(begun(tmp_path), last=4).counters)
    path = tmp_path / "curve.csv"
    for row in ("2,20,2\n", "2,20,2,0.5,1.5,,0.1x5,0.5\n"):
        path.write_text(HEADER + ROWS[0] + row + ROWS[2])
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            Curve.resumed(tmp_path, counters)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (UpdateMetrics(1234, [1.0], math.nan), "loss is nan in update 3, at step 1,234"),
        (UpdateMetrics(1234, [1.0], 0.0, -math.inf), "entropy is -inf in update 3, at step 1,234"),
        (UpdateMetrics(1234, [1.0, math.nan], 0.0), "a return is nan in update 3, at step 1,234"),
        (UpdateMetrics(1234, [np.float32(math.inf)], 0.0), "a return is inf in update 3, at step 1,234"),
    ],
)
def test_a_number_that_is_not_finite_is_named(tmp_path, metrics, message):
    curve = grown(begun(tmp_path), last=2)
    before = (tmp_path / "curve.csv").read_bytes()
    with pytest.raises(FloatingPointError, match=f"^{message}$"):
        curve.add(metrics, seconds=1.0)
    assert (tmp_path / "curve.csv").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", HEADER.encode() + b"2,20,2\n", HEADER.encode() + b"a,b,c,d,e,f,g,h\n", b"\xff\xfe", b"\0" * 40],
)
def test_reading_a_damaged_file_is_a_value_error_that_names_it(tmp_path, content):
    path = tmp_path / "curve.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        read(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_named_with_what_is_left(tmp_path):
    curve = begun(tmp_path)
    (tmp_path / "curve.csv").symlink_to("/dev/full")
    complete = "rows up to the last checkpoint are complete"
    with pytest.raises(OSError, match=rf"No space left on device; {complete}: '{tmp_path}/curve\.csv'"):
        grown(curve)
