"""Whether environment and networks fit together: found out once, when an algorithm is built.

What does not fit may be broadcast, and then trains without a word: a critic of shape (N, 1), a logit that no
action has, a number for an action of three.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from gymnasium.spaces import Discrete

from pgcourse import checks
from pgcourse.algorithms.protocols import Environment, Network
from pgcourse.networks.policies import CategoricalPolicy
from pgcourse.networks.stacked import n_seeds

T = TypeVar("T")


def check_environment(env: Environment) -> None:
    """The environment must reset itself in the step that ends an episode, and deal in arrays."""
    checks.same_step_autoreset(env)
    checks.array_spaces(env)


def check_actions(env: Environment, policy: object, s: np.ndarray) -> np.ndarray:
    """The policy must draw actions of the environment's shape and kind; return some, for the states s."""
    space, n = env.single_action_space, len(s)
    a = np.asarray(_copy(policy).sample(s, np.random.default_rng(0)))  # type: ignore[attr-defined]
    if a.shape != (n, *(space.shape or ())):
        expected = f"shape {(n, *(space.shape or ()))} for {n} states and {space}"
        raise ValueError(f"policy must draw actions of {expected}, got shape {a.shape}")
    if np.issubdtype(space.dtype, np.integer) and a.dtype.kind not in "iu":
        raise ValueError(f"policy must draw actions that are integers for {space}, got {a.dtype}")
    if isinstance(space, Discrete):
        if isinstance(policy, CategoricalPolicy):
            check_output("policy.logits(s)", policy.logits, (s,), (n, int(space.n)))
        if len(a) and not 0 <= a.min() <= a.max() < space.n:
            raise ValueError(f"policy must draw actions in 0..{space.n - 1}, got {a.min()} to {a.max()}")
    return a


@torch.no_grad()
def check_output(
    name: str, network: Callable[..., torch.Tensor], inputs: tuple[object, ...], shape: tuple[int, ...]
) -> torch.Tensor:
    """A network's output must have this shape for these inputs; return it."""
    output = _copy(network)(*inputs)
    if tuple(output.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(output.shape)}")
    return output


def check_separate(**networks: Network) -> None:
    """No two networks may share weights: each is moved by an optimiser of its own."""
    owner: dict[int, str] = {}
    for name, network in networks.items():
        for w in network.parameters():
            if owner.setdefault(id(w), name) != name:
                raise ValueError(
                    f"{owner[id(w)]} and {name} must not share weights; copy.deepcopy copies one"
                )


def repeated(s: np.ndarray, network: object) -> np.ndarray:
    """Return the first state three times, and so for each seed that the network holds.

    Shapes (N,), (N, 1) and (1, N) then differ, as for N = 1 they do not.
    """
    return np.repeat(s[:1], 3 * n_seeds(network), axis=0)


def _copy(network: T) -> T:
    """Return a copy, so that asking a network changes nothing in it; itself if it cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception:
        return network
