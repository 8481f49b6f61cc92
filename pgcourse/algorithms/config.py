"""Schedules, optimisers and gradient steps: what all algorithms make of their configs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pgcourse import checks

Schedule = Callable[[int], float]
OPTIMIZERS = ("Adam", "RMSprop", "SGD")


def as_schedule(name: str, value: float | Schedule, decay_steps: float | None = None) -> Schedule:
    """Return a learning rate as a function of the environment steps so far.

    Args:
        name: of the setting, for the error.
        value: a positive number, or such a function.
        decay_steps: steps after which a number has fallen to a half (``inverse_time_decay``); None keeps it
            constant.
    """
    if decay_steps is not None:
        checks.positive(eta_decay_steps=decay_steps)
        if callable(value):
            raise ValueError(f"eta_decay_steps must be None where {name} is a schedule, got {decay_steps}")
        value = functools.partial(inverse_time_decay, value, decay_steps)
    schedule = value if callable(value) else functools.partial(constant, value)
    checks.positive(**{name: schedule(0)})
    return schedule


def inverse_time_decay(eta: float, decay_steps: float, n_steps: int) -> float:
    """Return η / (1 + n/n½): half of η after n½ steps, a third after twice as many, and never zero."""
    return eta / (1 + n_steps / decay_steps)


def linear_decay(epsilon: float, exploration_steps: int, n_steps: int) -> float:
    """Return a probability that falls linearly from 1 to ε over the first steps, and stays there."""
    return 1 - (1 - epsilon) * min(n_steps / exploration_steps, 1)


def make_optimizer(
    name: str, parameters: Iterable[Tensor], eta: float, *, fused: bool = False, **options: float
) -> torch.optim.Optimizer:
    """Return PyTorch's optimiser of that name, one of ``OPTIMIZERS``; ``fused`` Adam is faster."""
    checks.one_of(OPTIMIZERS, optimizer=name)
    options |= {"fused": True} if fused and name == "Adam" else {}
    return getattr(torch.optim, name)(parameters, lr=eta, **options)


def gradient_step(optimizer: torch.optim.Optimizer, objective: Tensor, eta: float) -> None:
    """Take one step of the optimiser with learning rate η along the gradient of an objective or a loss."""
    optimizer.param_groups[0]["lr"] = eta
    optimizer.zero_grad()
    objective.backward()
    optimizer.step()


def constant(value: float, n_steps: int) -> float:
    """Return the value, whatever the number of steps."""
    return value
