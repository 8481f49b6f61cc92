"""Learning from what is remembered, whoever did it: what DQN (slide 2) and DDPG (slide 66) have in common.

One turn of the loop: act in every environment, remember what happened, draw a mini-batch, learn from it.

Lin (1992); Mnih et al. (2015); Lillicrap et al. (2016).
"""

import copy
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from pgcourse.algorithms.replay import Batch, Replay

Optimizer = Callable[..., torch.optim.Optimizer]
ADAM: Optimizer = functools.partial(torch.optim.Adam, fused=True)  # the same in one call, sooner


class Update(NamedTuple):
    """What one turn of the loop saw and did."""

    n_steps: int  # since the beginning
    returns: np.ndarray  # total reward of each episode that ended
    reward: float  # mean reward of a step
    critic_loss: float  # half the mean square of Q(s, a) − y
    q: float  # mean Q(s, a) over the mini-batch


class OffPolicy:
    """The loop. An algorithm says how it explores, in ``explore`` and ``at_random``, and how it learns, in ``learn``.

    Args:
        env: a Gymnasium vector environment that resets itself in the step that ends an episode (``AutoresetMode.SAME_STEP``).
        replay: empty, with room for at least ``batch_size``.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        batch_size: transitions in a mini-batch, at least 1.
        n_random: steps with actions drawn evenly from all that are allowed, before the first turn, at least ``batch_size``.
        every: steps in each environment before each turn, at least 1.
        seed: of the environment, the exploration and the mini-batches.

    Raises:
        ValueError: if a number is out of range, or the environment resets itself otherwise.
    """

    _parts: tuple[str, ...]  # names of what has a state

    def __init__(
        self,
        env: VectorEnv,
        replay: Replay,
        *,
        gamma: float,
        batch_size: int,
        n_random: int,
        every: int = 1,
        seed: int,
    ):
        if (mode := env.metadata.get("autoreset_mode")) != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), got {mode}"
            )
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {gamma}")
        if not 1 <= batch_size <= min(n_random, replay.capacity):
            limits = f"n_random = {n_random:,} and capacity = {replay.capacity:,}"
            raise ValueError(
                f"batch_size must be at least 1, and no more than is remembered by then, {limits}, got {batch_size:,}"
            )
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.env, self.replay = env, replay
        self.gamma, self.batch_size, self.n_random, self.every = gamma, batch_size, n_random, every
        self.n_steps, self.n_learnt = 0, 0
        self._rng = np.random.default_rng(seed)
        self._begin()

    def explore(self, s) -> np.ndarray:
        """Return an action for the state of each environment, shape (n_envs, ...)."""
        raise NotImplementedError

    def at_random(self) -> np.ndarray:
        """Return an action for each environment, drawn evenly from all that are allowed."""
        raise NotImplementedError

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Learn from a mini-batch, wherever it comes from; return the critic's loss, and the mean of Q(s, a)."""
        raise NotImplementedError

    def update(self) -> Update:
        """Act, remember, learn: one turn of the loop. Before the first one come the steps with random actions."""
        returns: list[float] = []
        while self.n_steps < self.n_random:
            self._step(self.at_random(), returns)
        paid = [self._step(self.explore(self._s), returns) for _ in range(self.every)]
        critic_loss, q = self.learn(self.replay.sample(self.batch_size, self._rng))
        return Update(self.n_steps, np.array(returns), float(np.mean(paid)), critic_loss, q)

    def _begin(self):
        self._s, _ = self.env.reset(
            seed=int(self._rng.integers(2**30))
        )  # drawn, for seed and seed + 1 would share environments
        self._paid = np.zeros(self.env.num_envs)  # of each environment, in its unfinished episode

    def _step(self, a: np.ndarray, returns: list[float]) -> float:
        """Take a step in every environment, and remember it; return the mean reward, and add the returns of episodes that ended."""
        s = self._s
        self._s, r, terminated, truncated, info = self.env.step(a)
        after, over = self._s, terminated | truncated
        self._paid += r
        if over.any():
            after = after.copy()
            after[over] = np.stack(
                info["final_obs"][over]
            )  # not the first state of the next episode, which stands there
            returns += self._paid[over].tolist()
            self._paid[over] = 0
            self._forget(over)
        self.replay.add(s, a, r, after, terminated)
        self.n_steps += len(r)
        return float(r.mean())

    def _forget(self, over: np.ndarray) -> None:
        """Where an episode is over, boolean, shape (n_envs,), begin anew with what explores."""

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except what the environments are in the middle of."""
        state = {name: getattr(self, name).state_dict() for name in self._parts}
        numbers = {"rng": self._rng.bit_generator.state, "n_steps": self.n_steps, "n_learnt": self.n_learnt}
        return copy.deepcopy(state | numbers)

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state, with new episodes; those that were under way are given up.

        Raises:
            RuntimeError: if the weights have other names or shapes.
            ValueError: if the replay has.
        """
        for name in self._parts:
            getattr(self, name).load_state_dict(copy.deepcopy(state[name]))
        self.n_steps, self.n_learnt = state["n_steps"], state["n_learnt"]
        self._rng.bit_generator.state = state["rng"]
        self._begin()


def rate(name: str, eta: float | Callable[[int], float]) -> Callable[[int], float]:
    """Return a learning rate as a function of the steps so far, whether it is one or a number.

    Raises:
        ValueError: if it does not begin as a positive number.
    """
    of_steps = eta if callable(eta) else lambda _: eta
    if not 0 < of_steps(0) < np.inf:
        raise ValueError(f"{name} must be a positive number, got {of_steps(0)}")
    return of_steps
