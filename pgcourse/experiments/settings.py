"""Settings of recipes as JSON and the command line have them: functions by name, layers as lists or 64x64."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

from pgcourse import checks
from pgcourse.maths.returns import batch_mean_baseline, leave_one_out_baseline, reward_to_go, total_return

Setting: TypeAlias = "float | bool | str | list[int] | None"
RETURN_FNS = {"total": total_return, "reward-to-go": reward_to_go}
BASELINES = {"none": None, "batch-mean": batch_mean_baseline, "leave-one-out": leave_one_out_baseline}
FUNCTIONS: dict[str, dict[str, Callable | None]] = {"return_fn": {**RETURN_FNS}, "baseline": {**BASELINES}}


def format_value(value: object) -> str:
    """Return a setting as text, as the command line takes it: layers as 64x64."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def fields_of(settings: object) -> dict[str, object]:
    """Return the fields of a config by name."""
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(cast(Any, settings))}


def as_json(name: str, value: object) -> Setting:
    """Return a config's value as JSON has it."""
    if name in FUNCTIONS:
        return next((key for key, fn in FUNCTIONS[name].items() if fn is value), str(value))
    return cast(Setting, list(value) if isinstance(value, tuple) else value)


def from_json(name: str, value: Setting) -> object:
    """Return a config's value from JSON's."""
    if name in FUNCTIONS:
        checks.one_of(FUNCTIONS[name], **{name: value})
        return FUNCTIONS[name][str(value)]
    return tuple(value) if isinstance(value, list) else value


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of an error message: the names most like a wrong one, or all."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}"


def converted_like(name: str, default: Setting, value: object, *, optional: bool = False) -> Setting:
    """Return a value, which may be text, in the type of the default; where that is None, a number."""
    if getattr(value, "shape", ()) != ():
        value = cast(Any, value).tolist()  # of several layers
    if (optional or default is None) and value in (None, "None"):
        return None
    kind: type = float if default is None else type(default)
    if kind is list:
        return _sizes(name, default, value)
    if isinstance(value, str) and kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        converted = kind(cast(str, value))
    except (TypeError, ValueError, OverflowError):
        converted = None
    not_whole = not isinstance(value, str) and kind is int and converted != value
    if converted is None or not_whole or (kind is bool) != isinstance(value, bool):
        expected = f"{kind.__name__}, as its default {default!r}"
        raise ValueError(f"{name} must be of type {expected}, got {value!r}")
    return converted


def _sizes(name: str, default: Setting, value: object) -> list[int]:
    parts = value.split("x") if isinstance(value, str) else cast(list, value)
    try:
        return [int(part) if isinstance(part, str) else _whole(part) for part in parts]
    except (TypeError, ValueError, OverflowError):
        expected = f"sizes such as {format_value(default)}"
        raise ValueError(f"{name} must be {expected}, one for each layer, got {value!r}") from None


def _whole(value: object) -> int:
    """Return a whole number, which is no truth value."""
    if isinstance(value, bool) or int(cast(float, value)) != value:
        raise TypeError
    return int(cast(float, value))
