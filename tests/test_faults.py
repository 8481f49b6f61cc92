"""The fault campaign, small: each kind of damage is made, noticed and counted, and what is bad is told."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pgcourse.experiments import sweeps


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import faults

    return faults


@pytest.fixture
def finished(faults, tmp_path):
    return sweeps.run(faults.RECIPE, folder=tmp_path / "runs", **faults.RUN)[0]


def test_no_damaged_file_gives_other_numbers_or_executes_code(faults, finished, tmp_path, capsys):
    counts = faults.files(tmp_path / "damaged", finished, 60, seed=0)
    assert faults.print_files(counts) == 0
    assert sum(count.total() for count in counts.values()) == 60
    assert all(count["error"] for count in counts.values())
    assert len(counts) == len(faults.DAMAGES)
    assert "other numbers" in capsys.readouterr().out


def test_other_numbers_and_executed_code_would_be_told(faults, finished, tmp_path, monkeypatch, capsys):
    """Here nothing checks the digest of weights, and one kind of damage springs the trap itself."""
    monkeypatch.setattr(faults.checkpoints, "_weights_digests", lambda data: ("", None))

    def springing(data, rng, path):
        (path.parent / "sprung").mkdir()
        return data

    monkeypatch.setattr(faults, "DAMAGES", {"bits flipped": faults.bits_flipped, "sprung": springing})
    counts = faults.files(tmp_path / "damaged", finished, 60, seed=0)
    assert counts["bits flipped"]["OTHER NUMBERS"] > 0
    assert counts["sprung"]["code run"] > 0
    assert faults.print_files(counts) > 0


def test_every_damage_changes_the_file(faults, finished):
    path = finished.folder / "policy.safetensors"
    data, rng = path.read_bytes(), random.Random(0)
    for name, damage in faults.DAMAGES.items():
        assert damage(data, rng, path) != data, name


def test_hostile_arguments_are_right_or_named(faults, capsys):
    counts, examples = faults.calls(45)
    silent = [
        example for example in examples if not example.endswith("RuntimeWarning")
    ]  # such as an overflow
    assert not silent, silent[:5]
    assert all(count["right"] and count["ValueError"] for count in counts.values())


def test_what_a_call_comes_to(faults):
    def function(x):
        if x is None:
            raise TypeError("unsupported operand")
        if np.ndim(x):
            raise ValueError("x must be a number" if len(x) else "bad")
        return np.float64(x) * np.inf if x else x

    came_to = [faults.called(function, {"x": x}, "x") for x in (0.0, 1.0, [1], [], None)]
    assert came_to == ["right", "NaN or infinite", "ValueError", "unnamed ValueError", "TypeError"]


def test_the_table_of_kills_counts_what_is_lost(faults, capsys):
    good = Counter(kills=3, resumes=3, finished=2, lost=0, same=2)
    assert faults.print_kills({"a run": good}) == 0
    assert faults.print_kills({"a run": good | {"lost": 1}}) == 1
    assert faults.print_kills({"a run": good, "a sweep": good | {"same": 1}}) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_that_is_killed_ends_as_if_not(faults, finished, tmp_path):
    """At full scale: ``python benchmarks/faults.py``."""
    command, rng = faults.run_command(1, 1), random.Random(0)
    expected = [faults.outcome(finished)]
    counts = faults.campaign(tmp_path / "killed", command, 2, rng, expected, hit_worker=False)
    assert counts["kills"] == 2
    assert counts["finished"] == counts["same"] > 0
    assert counts["lost"] == 0
