"""The state of an algorithm between two updates, for checkpoints."""

from __future__ import annotations

import copy

import numpy as np


class Resumable:
    """What is saved and restored. A subclass names its networks, optimisers and the like in ``stateful``."""

    stateful: tuple[str, ...]
    n_steps: int
    _rng: np.random.Generator

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except the unfinished episodes."""
        state = {name: getattr(self, name).state_dict() for name in self.stateful}
        numbers = {"rng": self._rng.bit_generator.state, "n_steps": self.n_steps}
        return copy.deepcopy(state | numbers)  # PyTorch's are the live tensors

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state with new episodes; unfinished ones are dropped."""
        for name in self.stateful:
            getattr(self, name).load_state_dict(copy.deepcopy(state[name]))
        self.n_steps, self._rng.bit_generator.state = state["n_steps"], state["rng"]
        self._reset()

    def _reset(self) -> None:
        """Begin new episodes."""
        raise NotImplementedError
