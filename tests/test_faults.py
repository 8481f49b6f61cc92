"""The fault campaign, small: each kind of damage is made, noticed and counted, and what is bad is told."""

import importlib
import inspect
import pkgutil
import random
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import pgcourse
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


@pytest.mark.parametrize("early", [True, False], ids=["to_environments", "from_networks"])
def test_hostile_arguments_are_right_or_named(faults, capsys, monkeypatch, early):
    chosen = [
        call for call in faults.good_calls() if call.name.startswith(("maths.", "environments.")) == early
    ]
    monkeypatch.setattr(faults, "good_calls", lambda: chosen)
    counts, examples = faults.calls(30)
    assert not examples, examples[:5]
    assert all(count["ValueError"] for count in counts.values() if count.total())
    assert faults.print_calls((counts, examples)) == 0
    assert ("maths.returns" if early else "networks.mlp") in capsys.readouterr().out


def public_names():
    """The functions and classes of the package; not what only holds results, nor protocols."""
    for module in pkgutil.walk_packages(pgcourse.__path__, "pgcourse."):
        if module.name in ("pgcourse.__main__", "pgcourse.checks", "pgcourse.arrays"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            is_class = inspect.isclass(value) and not issubclass(value, tuple)
            is_class = is_class and not getattr(value, "_is_protocol", False)
            ours = getattr(value, "__module__", None) == module.name and not name.startswith("_")
            if ours and (is_class or inspect.isfunction(value)):
                yield f"{module.name}.{name}".removeprefix("pgcourse.")


def test_every_public_function_is_called_or_left_out_for_a_reason(faults):
    from good_calls import LEFT_OUT

    called, public = {call.name for call in faults.good_calls()}, set(public_names())
    in_table = {name for name in public if name in called or any(c.startswith(f"{name}.") for c in called)}
    left_out = {name for name in public if name.startswith(tuple(LEFT_OUT))}
    assert public - in_table - left_out == set()
    assert [prefix for prefix in LEFT_OUT if not any(name.startswith(prefix) for name in public)] == []
    exact = {
        prefix for prefix in LEFT_OUT if not prefix.endswith((".", "_"))
    }  # the others leave out the rest
    assert in_table & exact == set()


def test_what_is_almost_right_has_its_shape_or_type_or_values_changed(faults):
    good = np.arange(6.0).reshape(2, 3)
    values = faults.almost(good)
    assert not any(
        np.array_equal(value, good) and value.dtype == float for value in map(np.asarray, values[:7])
    )
    assert {np.asarray(value).dtype.kind for value in values} >= set("fiubcOU")
    assert {np.shape(value) for value in values} == {(2, 3), (3, 2), (0, 3), (2, 3, 1)}
    assert faults.almost(0.5) == []


@pytest.mark.parametrize(
    ("good", "value", "optional", "bad"),
    [
        (1.0, 2, False, False),
        (1.0, np.float32(2), False, False),
        (1.0, np.array(2.0), False, False),
        (1.0, np.nan, False, True),
        (1.0, "text", False, True),
        (1.0, np.ones(3), False, True),
        (1.0, None, True, False),
        (1.0, None, False, True),
        (1, 0.5, False, True),
        (np.ones(2), "text", False, False),  # of arrays, functions say more themselves
    ],
)
def test_what_is_no_number_must_not_be_accepted_for_one(faults, good, value, optional, bad):
    assert faults.accepted(good, value, optional=optional) == bad


def test_what_a_call_comes_to(faults):
    def function(x):
        if x is None:
            raise TypeError("unsupported operand")
        if np.ndim(x):
            raise ValueError("x must be a number" if len(x) else "bad")
        return np.float64(x) * np.inf if x else x

    def came_to(x, **options):
        from good_calls import call

        return faults.called(call(function, x=0.0, **options), {"x": x}, "x")

    assert [came_to(x) for x in (0.0, 1.0, [1])] == ["right", "NaN or infinite", "ValueError"]
    assert came_to([]) == "unnamed ValueError: bad"
    assert came_to([], also=("bad",)) == "ValueError"
    assert came_to(None) == "TypeError: unsupported operand"
    assert came_to(np.inf) == "NaN or infinite"
    assert came_to(np.inf, passes_on=True) == "right"
    assert came_to(0.0, then=lambda x: np.float64(1e300) * 1e300) == "warned"
    odd = {"message": "odd", "category": RuntimeWarning, "stacklevel": 1}
    assert came_to(0.0, then=lambda x: warnings.warn(**odd)) == "RuntimeWarning: odd"


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
