"""Checks of arguments. Each raises a ``ValueError`` that names the argument, the value and the range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from gymnasium.spaces import Box, Space
    from numpy.typing import ArrayLike
    from torch import Tensor

T = TypeVar("T")
MAX_EPISODE_LENGTH = 100_000  # steps after which the end of an episode is no longer waited for


class HasSpaces(Protocol):
    """What is asked of a vector environment here."""

    metadata: dict
    single_observation_space: Space
    single_action_space: Space


def positive(**numbers: float) -> None:
    """Each number must be positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be a positive number, got {number}")


def at_least(minimum: float, **numbers: float | None) -> None:
    """Each number must be at least ``minimum`` and finite; None is skipped."""
    for name, number in numbers.items():
        if number is not None and not minimum <= number < math.inf:
            raise ValueError(f"{name} must be at least {minimum}, got {number}")


def whole(minimum: int, **numbers: float | None) -> None:
    """Each number must be whole and at least ``minimum``; None is skipped."""
    for name, number in numbers.items():
        if number is not None and not (number >= minimum and number % 1 == 0):
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {number}")


def fraction(**numbers: float) -> None:
    """Each number must be from 0 to 1."""
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {number}")


def one_of(allowed: Iterable[object], **values: object) -> None:
    """Each value must be one of those allowed."""
    allowed = list(allowed)
    for name, value in values.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def finite(**arrays: ArrayLike) -> None:
    """Each array must hold finite numbers only."""
    for name, array in arrays.items():
        if not (ok := np.isfinite(array)).all():
            raise ValueError(f"{name} must be finite, got {np.asarray(array)[~ok][0]}")


def floats(name: str, values: ArrayLike) -> np.ndarray:
    """Return an array of finite floats with at least one axis, shape (..., T)."""
    array = np.asarray(values)
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
    array = np.full(shape, default) if values is None else np.asarray(values)
    if array.dtype != bool or array.shape != shape:
        got = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} must hold booleans, shape {shape}, got {got}")
    return array


def same_shape(**arrays: np.ndarray | Tensor) -> None:
    """All arrays or tensors must have the shape of the first."""
    (first, like), *others = arrays.items()
    for name, array in others:
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


def final_observations(info: dict, done: np.ndarray) -> np.ndarray:
    """Return the last observations of the episodes that ended; without them, the environment did not reset.

    Args:
        info: of a step of the vector environment.
        done: whether an episode ended with this step, shape (n_envs,).
    """
    if "final_obs" not in info:
        missing = "after an episode's end there is no info['final_obs']"
        raise ValueError(f"env must reset itself in the step that ends an episode, got one where {missing}")
    return info["final_obs"][done]


def array_spaces(env: HasSpaces) -> None:
    """Observations and actions must each be a number or an array of numbers."""
    for kind, space in (("observations", env.single_observation_space), ("actions", env.single_action_space)):
        if space.shape is None:
            raise ValueError(f"env must have {kind} that are a number or an array, got {space}")


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
