"""What algorithms ask of an environment, a policy and a critic, and what training asks of an algorithm.

Anything with these methods will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
    ``info["final_obs"]`` holds the last of this one. What ``reset`` and ``step`` return may be used again: it
    is copied. K numbered actions are 0…K−1 to policies, also where ``single_action_space.start`` is not 0.
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


class Player(Network, Protocol):
    """Any policy that can be evaluated: for N states it draws N actions, or gives the most probable ones."""

    def sample(self, s: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...
    def greedy(self, s: np.ndarray) -> np.ndarray: ...


class Policy(Player, Protocol):
    """A stochastic policy: it can be evaluated, and log π(a∣s), shape (N,), is differentiable."""

    def log_prob(self, s: np.ndarray, a: np.ndarray) -> Float[Tensor, " N"]: ...


class PolicyWithEntropy(Policy, Protocol):
    """A stochastic policy that also gives its entropy in N states, shape (N,), differentiable."""

    def log_prob_and_entropy(
        self, s: np.ndarray, a: np.ndarray
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]: ...


class Actor(Player, Protocol):
    """A deterministic policy: it can be evaluated, and when called, μ(s), shape (N, D), is differentiable."""

    def __call__(self, s: Tensor, /) -> Float[Tensor, "N D"]: ...


class ValueFunction(Network, Protocol):
    """A state-value function: v(s), shape (N,)."""

    def __call__(self, s: np.ndarray, /) -> Float[Tensor, " N"]: ...


class Metrics(Protocol):
    """What an update returns: steps so far, returns of the episodes that ended, and any other numbers."""

    @property
    def n_steps(self) -> int: ...
    @property
    def episode_returns(self) -> Collection[float]: ...
    def _asdict(self) -> dict[str, float]: ...


class Algorithm(Protocol):
    """What training, sweeps and checkpoints ask of an algorithm."""

    @property
    def policy(self) -> Player: ...
    @property
    def env(self) -> Environment: ...
    @property
    def n_steps(self) -> int: ...
    def update(self) -> Metrics: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...
