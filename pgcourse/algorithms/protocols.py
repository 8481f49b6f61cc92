"""What algorithms ask of an environment, a policy and a critic. Anything with these methods will do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from torch import Tensor, nn

from pgcourse.arrays import Bool, Float

if TYPE_CHECKING:
    from gymnasium import Space

    PerEnv = Float[np.ndarray, " n_envs"]
    Flags = Bool[np.ndarray, " n_envs"]


class Environment(Protocol):
    """A Gymnasium vector environment that resets itself in the step that ends an episode.

    ``AutoresetMode.SAME_STEP``: the observation returned with that step is the first of the next episode, and
    ``info["final_obs"]`` holds the last of this one.
    """

    num_envs: int
    metadata: dict
    single_observation_space: Space
    single_action_space: Space

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict]: ...
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, PerEnv, Flags, Flags, dict]: ...
    def close(self) -> object: ...


class Network(Protocol):
    """What an optimiser and a checkpoint ask of a network; ``nn.Module`` has it."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def requires_grad_(self, requires_grad: bool = True) -> Self: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state_dict: dict, /) -> object: ...


class Policy(Network, Protocol):
    """A stochastic policy: log π(a∣s), shape (N,), differentiable, and samples of an action per state."""

    def log_prob(self, s: np.ndarray, a: np.ndarray) -> Float[Tensor, " N"]: ...
    def sample(self, s: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...


class Actor(Network, Protocol):
    """A deterministic policy: μ(s), shape (N, D), differentiable when called, and as an array to act with."""

    def __call__(self, s: Tensor, /) -> Float[Tensor, "N D"]: ...
    def greedy(self, s: np.ndarray) -> Float[np.ndarray, "N D"]: ...


class ValueFunction(Network, Protocol):
    """A state-value function: v(s), shape (N,)."""

    def __call__(self, s: np.ndarray, /) -> Float[Tensor, " N"]: ...
