"""Schedules, optimisers and gradient steps: what all algorithms make of their configs."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pgcourse import checks
from pgcourse.networks.stacked import clip_gradients, n_seeds

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Network

Schedule = Callable[[int], float]
OPTIMIZERS = ("Adam", "RMSprop", "SGD")


def as_schedule(name: str, value: float | Schedule, decay_steps: float | None = None) -> Schedule:
    """Return a learning rate as a function of the environment steps so far, checked at every step.

    Args:
        name: of the setting, for the error.
        value: a positive number, or a function that begins with one and never falls below 0.
        decay_steps: steps after which a number has fallen to a half (``inverse_time_decay``); None keeps it
            constant.
    """
    if not callable(value):
        checks.real(**{name: value})
    if decay_steps is not None:
        checks.positive(eta_decay_steps=decay_steps)
        if callable(value):
            raise ValueError(f"eta_decay_steps must be None where {name} is a schedule, got {decay_steps}")
        value = functools.partial(inverse_time_decay, value, decay_steps)
    schedule = value if callable(value) else functools.partial(constant, value)
    checks.positive(**{name: schedule(0)})
    return checked_schedule(name, schedule)


def checked_schedule(name: str, schedule: Schedule, most: float = math.inf) -> Schedule:
    """Return a schedule that raises an error where it is not a finite number from 0 to ``most``."""
    return functools.partial(_checked, name, schedule, most)


def _checked(name: str, schedule: Schedule, most: float, n_steps: int) -> float:
    value = schedule(n_steps)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 <= number <= most and number < math.inf):
        allowed = "a number of at least 0" if most == math.inf else f"a number from 0 to {most}"
        raise ValueError(f"{name} must be {allowed} at every step, got {value} at step {n_steps:,}")
    return number


def inverse_time_decay(eta: float, decay_steps: float, n_steps: int) -> float:
    """Return η / (1 + n/n½): half of η after n½ steps, a third after twice as many, and never zero."""
    return eta / (1 + n_steps / decay_steps)


def linear_anneal(eta: float, anneal_steps: float, n_steps: int) -> float:
    """Return a learning rate that falls linearly from η to zero over the first steps, and stays there."""
    return eta * max(1 - n_steps / anneal_steps, 0)


def linear_decay(epsilon: float, exploration_steps: int, n_steps: int) -> float:
    """Return a probability that falls linearly from 1 to ε over the first steps, and stays there."""
    return 1 - (1 - epsilon) * min(n_steps / exploration_steps, 1)


def make_optimizer(
    name: str, parameters: Iterable[Tensor], eta: float, *, fused: bool = False, **options: float
) -> torch.optim.Optimizer:
    """Return PyTorch's optimiser of that name, one of ``OPTIMIZERS``; ``fused`` Adam is faster."""
    checks.one_of(OPTIMIZERS, optimizer=name)
    checks.real(eta=eta, **options)
    checks.at_least(0, eta=eta, **options)
    options |= {"fused": True} if fused and name == "Adam" else {}
    return getattr(torch.optim, name)(parameters, lr=eta, **options)


_last_optimizer = WeakTensorKeyDictionary()  # that stepped a weight
_has_stepped: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()


def gradient_step(
    optimizer: torch.optim.Optimizer,
    objective: Tensor,
    eta: float,
    network: Network | None = None,
    *,
    max_norm: float | None = None,
) -> None:
    """Take one step of the optimiser with learning rate η along the gradient of an objective or a loss.

    Args:
        optimizer: of ``make_optimizer``.
        objective: differentiable, a single number.
        eta: learning rate.
        network: whose weights are to be moved; None for those that the optimiser has.
        max_norm: a longer gradient is shortened to this norm, that of each seed that the network holds; None
            leaves it as it is.

    Raises:
        ValueError: if the optimiser has other weights than the network, or another optimiser has moved them
            between two of its steps.
    """
    _check_weights(optimizer, network)
    optimizer.param_groups[0]["lr"] = eta
    optimizer.zero_grad()
    objective.backward()
    if max_norm is not None:
        clip_gradients(optimizer.param_groups[0]["params"], n_seeds(network), max_norm)
    optimizer.step()


def _check_weights(optimizer: torch.optim.Optimizer, network: Network | None) -> None:
    """The optimiser must have the network's weights, with its state in their type, and alone."""
    weights = optimizer.param_groups[0]["params"]
    if network is not None:
        now = list(network.parameters())
        if len(now) != len(weights) or any(w is not was for w, was in zip(now, weights, strict=True)):
            raise ValueError(
                "the network must keep the weights that it had when the algorithm was built, got others, "
                "which the optimiser does not move; build the algorithm again"
            )
    for w in weights:
        for name, moment in optimizer.state.get(w, {}).items():
            if name != "step" and isinstance(moment, Tensor) and moment.dtype != w.dtype:
                raise ValueError(
                    f"the network's weights must keep their type, {moment.dtype}, got {w.dtype}; "
                    "convert it before the algorithm is built"
                )
    last = _last_optimizer.get(weights[0], lambda: None)()
    if last is not None and last is not optimizer and optimizer in _has_stepped:
        raise ValueError(
            "a network must be trained by one algorithm at a time, got one that another has changed "
            "meanwhile; give each a copy (copy.deepcopy)"
        )
    _last_optimizer[weights[0]] = weakref.ref(optimizer)
    _has_stepped.add(optimizer)


def constant(value: float, n_steps: int) -> float:
    """Return the value, whatever the number of steps."""
    return value
