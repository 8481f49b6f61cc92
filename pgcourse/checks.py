"""Checks of arguments. Each raises a ``ValueError`` that names the argument, the value and the range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from gymnasium.spaces import Box, Space
    from numpy.typing import ArrayLike
    from torch import Tensor

T = TypeVar("T")
MAX_EPISODE_LENGTH = 100_000  # steps after which the end of an episode is no longer waited for
MAX_COUNT = 10_000_000  # of steps, episodes, resamples or units: more would not end, or not fit into memory
MAX_SEED = 2**30 - 1  # environments add to it, and ALE's seeds are 32 bits with a sign


@runtime_checkable
class HasItem(Protocol):
    """A number or an array of NumPy or PyTorch."""

    shape: tuple[int, ...]

    def item(self) -> object: ...


class HasSpaces(Protocol):
    """What is asked of a vector environment here."""

    metadata: dict
    single_observation_space: Space
    single_action_space: Space


def real(**numbers: object) -> None:
    """Each must be a single real number, of Python, NumPy or PyTorch."""
    for name, number in numbers.items():
        if isinstance(number, int | float):
            continue
        value = number.item() if isinstance(number, HasItem) and number.shape == () else number
        if is_time(number) or not isinstance(value, int | float | np.floating):
            raise ValueError(f"{name} must be a number, got {number!r:.80}")


def is_time(value: object) -> bool:
    """Return whether a value is a time of NumPy, which passes for an integer."""
    return getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M")


def _given(numbers: Mapping[str, T | None]) -> dict[str, T]:
    return {name: number for name, number in numbers.items() if number is not None}


def positive(**numbers: float) -> None:
    """Each number must be positive and finite."""
    real(**numbers)
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be a positive number, got {number}")


def at_least(minimum: float, **numbers: float | None) -> None:
    """Each number must be at least ``minimum`` and finite; None is skipped."""
    real(**_given(numbers))
    for name, number in numbers.items():
        if number is not None and not minimum <= number < math.inf:
            raise ValueError(f"{name} must be at least {minimum}, got {number}")


def at_most(maximum: float, **numbers: float) -> None:
    """Each number must be at most ``maximum``."""
    real(**numbers)
    for name, number in numbers.items():
        if not number <= maximum:
            got = f"{number:,}" if isinstance(number, int | float) else number
            raise ValueError(f"{name} must be at most {maximum:,}, got {got}")


def whole(minimum: int, **numbers: float | None) -> None:
    """Each number must be whole and at least ``minimum``; None is skipped."""
    real(**_given(numbers))
    for name, number in numbers.items():
        if number is not None and not (minimum <= number < math.inf and number % 1 == 0):
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {number}")


def count(minimum: int, maximum: float = MAX_COUNT, **number: float) -> int:
    """Return the one number given, which must be whole, from ``minimum`` to ``maximum``; None is refused."""
    real(**number)
    whole(minimum, **number)
    at_most(maximum, **number)
    return int(*number.values())


def seed(maximum: int = MAX_SEED, **number: float) -> int:
    """Return the one seed given, which must be whole, from 0 to ``maximum``."""
    return count(0, maximum, **number)


def fraction(**numbers: float) -> None:
    """Each number must be from 0 to 1."""
    real(**numbers)
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {number}")


def one_of(allowed: Iterable[object], **values: object) -> None:
    """Each value must be one of those allowed."""
    allowed = list(allowed)
    for name, value in values.items():
        if not is_one_of(allowed, value):
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def is_one_of(allowed: Iterable[object], value: object) -> bool:
    """Return whether a value is one of those allowed, which arrays are not."""
    return getattr(value, "shape", ()) == () and value in allowed


def text(**values: object) -> None:
    """Each value must be text."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {value!r:.80}")


def finite(**arrays: ArrayLike) -> None:
    """Each array must hold finite numbers only."""
    for name, values in arrays.items():
        array = numbers(name, values)
        if not (ok := np.isfinite(array)).all():
            raise ValueError(f"{name} must be finite, got {array[~ok][0]}")


def numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Return an array of real numbers of any shape, as it is."""
    array = _array(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    return array


def _array(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # the last is PyTorch's
        raise ValueError(f"{name} must be an array: {error}") from error


def finite_floats(name: str, values: ArrayLike) -> np.ndarray:
    """Return an array of any shape in double precision, which must hold finite numbers."""
    array = numbers(name, values).astype(float, copy=False)
    finite(**{name: array})
    return array


def integers(name: str, values: ArrayLike) -> np.ndarray:
    """Return an array of any shape that holds integers from 0; an empty one may have another type."""
    array = numbers(name, values)
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0):
        raise ValueError(f"{name} must hold integers from 0, got {array!s:.80}")
    return array.astype(int, copy=False)


def floats(name: str, values: ArrayLike) -> np.ndarray:
    """Return an array of finite floats with at least one axis, shape (..., T)."""
    array = _array(name, values)
    if not np.issubdtype(array.dtype, np.floating):
        reason = "integers would truncate discounted returns"
        raise ValueError(f"{name} must be an array of floats ({reason}), got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have shape (T,) or (N, T), got a single number, {array}")
    if not (ok := np.isfinite(array)).all():
        at = tuple(np.argwhere(~ok)[0].tolist())
        raise ValueError(f"{name} must be finite, got {array[~ok][0]} at {at}")
    return array


def booleans(shape: tuple[int, ...], *, default: bool, **arrays: ArrayLike | None) -> np.ndarray:
    """Return the one array given: booleans of this shape; None stands for ``default`` everywhere."""
    [(name, values)] = arrays.items()
    array = np.full(shape, default) if values is None else _array(name, values)
    if array.dtype != bool or array.shape != shape:
        got = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} must hold booleans, shape {shape}, got {got}")
    return array


def same_shape(**arrays: np.ndarray | Tensor) -> None:
    """All arrays or tensors must have the shape of the first."""
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise ValueError(f"{name} must be an array, got {array!r:.80}")
        if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    (first, like), *others = arrays.items()
    for name, array in others:
        if isinstance(array, np.ndarray) and hasattr(like, "detach"):
            raise ValueError(f"{name} must be a tensor, as {first} is, got an array")
        if array.shape != like.shape:
            raise ValueError(
                f"{name} must have the shape of {first}, {tuple(like.shape)}, got {tuple(array.shape)}"
            )


def same_step_autoreset(env: HasSpaces) -> None:
    """The vector environment must reset itself in the step that ends an episode.

    Metadata may be shared by a whole class, and so be another object's: what the environment itself says of
    its mode comes first. ``final_observations`` finds out by what it does.
    """
    from gymnasium.vector import AutoresetMode

    inner = getattr(env, "unwrapped", env)
    mode = getattr(inner, "autoreset_mode", None) or env.metadata.get("autoreset_mode")
    if getattr(env, "_metadata", None) is not None:  # a wrapper's own
        mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), got {mode}"
        )


def final_observations(info: Mapping[str, np.ndarray], done: np.ndarray) -> np.ndarray:
    """Return the last observations of the episodes that ended; without them, the environment did not reset.

    Args:
        info: of a step of the vector environment.
        done: whether an episode ended with this step, shape (n_envs,).
    """
    if "final_obs" not in info:
        allowed = "reset itself in the step that ends an episode and give info['final_obs'] with it"
        raise ValueError(f"env must {allowed}, got only {', '.join(map(str, info)) or 'an empty info'}")
    return info["final_obs"][done]


def array_spaces(env: HasSpaces) -> None:
    """Observations and actions must each be a number or an array of numbers: no dicts, tuples or text."""
    spaces = {"observations": env.single_observation_space, "actions": env.single_action_space}
    for kind, space in spaces.items():
        if space.shape is None:
            advice = "; gymnasium.wrappers.FlattenObservation makes an array of them"
            must = f"env must have {kind} that are a number or an array, got {space}"
            raise ValueError(must + (advice if kind == "observations" else ""))


def observed(s: np.ndarray, n_steps: int) -> np.ndarray:
    """Return observations, shape (n_envs, ...), which must be finite numbers."""
    if s.dtype.kind == "f" and not np.isfinite(s).all():
        bad = s[~np.isfinite(s)][0]
        raise ValueError(f"env must give finite observations, got {bad} after {n_steps:,} steps")
    return s


def rewarded(r: np.ndarray, n_steps: int) -> np.ndarray:
    """Return rewards, shape (n_envs,), which must be finite numbers."""
    if not np.isfinite(r).all():
        bad = r[~np.isfinite(r)][0]
        raise ValueError(f"env must give finite rewards, got {bad} after {n_steps:,} steps")
    return r


def bounded_actions(env: HasSpaces) -> Box:
    """Return the action space, which must be a box of real numbers between bounds, shape (D,)."""
    from gymnasium.spaces import Box

    space = env.single_action_space
    real = isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)
    if not (isinstance(space, Box) and real and space.is_bounded() and len(space.shape) == 1):
        raise ValueError(f"env must take actions of real numbers between bounds, shape (D,), got {space}")
    return space


def discrete_actions(env: HasSpaces) -> int:
    """Return the number K of actions, which must be consecutive integers."""
    from gymnasium.spaces import Discrete

    space = env.single_action_space
    if not isinstance(space, Discrete):
        raise ValueError(f"env must take one of K numbered actions (Discrete), got {space}")
    return int(space.n)


def setting(default: T, help: str) -> T:
    """Return a field of a frozen config: its default, and in its metadata what it means."""
    return dataclasses.field(default=default, metadata={"help": help})
