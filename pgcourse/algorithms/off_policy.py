"""Off-policy learning from a replay buffer: what DQN (slide 2) and DDPG (slide 66) have in common.

One iteration: act in every environment, store the transitions, sample a minibatch, learn from it. The
transitions may come from any policy, such as older versions of the one that is learnt.

Lin (1992); Mnih et al. (2015); Lillicrap et al. (2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgcourse import checks
from pgcourse.algorithms.collect import reset, step
from pgcourse.algorithms.compatibility import check_environment
from pgcourse.algorithms.config import Schedule
from pgcourse.algorithms.protocols import Environment, Network
from pgcourse.algorithms.replay import ReplayBuffer, Transitions
from pgcourse.algorithms.resumable import Resumable
from pgcourse.algorithms.seeds import Seeds, n_seeds, per_seed, random_stream
from pgcourse.arrays import Bool, Float


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig:
    """Settings that all off-policy algorithms have."""

    eta: float | Schedule = checks.setting(0.001, "learning rate η > 0, or a function of the steps so far")
    eta_decay_steps: float | None = checks.setting(
        None, "steps after which rates have fallen to a half; None keeps them"
    )
    gamma: float = checks.setting(0.99, "discount γ per step, from 0 to 1")
    batch_size: int = checks.setting(128, "transitions in a minibatch, at least 1")
    capacity: int = checks.setting(1_000_000, "transitions in the replay buffer, at least batch_size")
    learning_starts: int = checks.setting(
        1_000, "steps with random actions before the first update, at least batch_size"
    )
    train_interval: int = checks.setting(1, "steps in each environment for each update, at least 1")
    optimizer: str = checks.setting("Adam", "Adam, RMSprop or SGD")

    def __post_init__(self) -> None:
        checks.fraction(gamma=self.gamma)
        counts = {"capacity": self.capacity, "learning_starts": self.learning_starts}
        counts |= {"batch_size": self.batch_size, "train_interval": self.train_interval}
        checks.real(**counts)
        if not 1 <= self.batch_size <= min(self.learning_starts, self.capacity):
            limits = f"learning_starts = {self.learning_starts:,} and capacity = {self.capacity:,}"
            raise ValueError(f"batch_size must be at least 1, and at most {limits}, got {self.batch_size:,}")
        checks.whole(1, **counts)


class UpdateMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # environment steps so far
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes that ended
    reward: float  # mean reward per step
    critic_loss: float  # ½ mean (Q(s, a) − y)²
    q: float  # mean Q(s, a) over the minibatch


@torch.no_grad()
def polyak_update(target: Network, network: Network, tau: float) -> None:
    """Move a target network towards a network: w' ← w' + τ (w − w'). With τ = 1 it is a copy.

    Slide 66, line 6; Lillicrap et al. (2016).
    """
    checks.fraction(tau=tau)
    for w_target, w in zip(target.parameters(), network.parameters(), strict=True):
        w_target.lerp_(w, float(tau))


class OffPolicyAlgorithm(Resumable):
    """The loop. A subclass explores by ``select_action`` and ``random_action``, and learns by ``learn``.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        replay: empty replay buffer.
        config: settings.
        seed: of the environment, the exploration and the minibatches; several learn at once (``seeds``).
        networks: those that learn.
    """

    config: OffPolicyConfig
    _interrupted: bool  # whether an update stopped before all its steps were stored

    def __init__(
        self, env: Environment, replay: ReplayBuffer, config: OffPolicyConfig, seed: Seeds, *networks: Network
    ):
        check_environment(env)
        self.env, self.replay, self.config = env, replay, config
        self.n_steps, self.n_gradient_steps = 0, 0
        self._rng = random_stream(seed, env, *networks)
        self._reset()

    def select_action(self, s: np.ndarray) -> np.ndarray:
        """Return an exploring action for the state of each environment, shape (n_envs, ...)."""
        raise NotImplementedError

    def random_action(self) -> np.ndarray:
        """Return an action for each environment, drawn uniformly from all that are allowed."""
        raise NotImplementedError

    def learn(self, batch: Transitions) -> tuple[float, float]:
        """Learn from a minibatch of any policy; return the critic's loss and the mean of Q(s, a)."""
        raise NotImplementedError

    def update(self) -> UpdateMetrics:
        """One iteration. Before the first, ``learning_starts`` steps with random actions.

        After an update that was interrupted (by Ctrl-C, or by an error), new episodes begin.
        """
        if self._interrupted:
            self._reset()
        self._interrupted = True  # until all steps are stored
        returns: list[float] = []
        while self.n_steps < self.config.learning_starts:
            self._step(self.random_action(), returns)
        n = self.config.train_interval
        rewards = [self._step(self.select_action(self._s), returns) for _ in range(n)]  # 1
        self._interrupted = False
        batch = self.replay.sample(self.config.batch_size, self._rng)  # 2
        critic_loss, q = self.learn(batch)
        reward = np.mean(rewards, axis=0).tolist()
        return UpdateMetrics(self.n_steps, np.array(returns), reward, critic_loss, q)

    def _loss_and_q(self, loss: Tensor, q: Tensor, y: Tensor) -> tuple[float, float]:
        """Return a critic's loss and the mean of q, shape (N,) or (2, N), for the targets y, shape (N,)."""
        n = n_seeds(self._rng)
        own = loss.item() if n == 1 else per_seed(((q - y) ** 2 / 2).movedim(-1, 0), n)
        return own, per_seed(q.movedim(-1, 0), n)

    def _reset(self) -> None:
        self._s = reset(self.env, self._rng)
        self._returns = np.zeros(self.env.num_envs)  # so far, of the unfinished episodes
        self._interrupted = False

    def _step(self, a: np.ndarray, returns: list[float]) -> float:
        """Step all environments, store the transitions, collect finished returns; return the mean reward."""
        s = self._s
        self._s, r, terminated, truncated, final_observations = step(self.env, a, self.n_steps)
        next_s, done = self._s, terminated | truncated
        self._returns += r
        if done.any():
            next_s = next_s.copy()
            next_s[done] = final_observations  # not the next episode's first state
            returns += self._returns[done].tolist()
            self._returns[done] = 0
            self._reset_noise(done)
        self.replay.add(s, a, r, next_s, terminated)
        self.n_steps += len(r) // n_seeds(self._rng)
        return per_seed(r, n_seeds(self._rng))

    def _reset_noise(self, done: Bool[np.ndarray, " n_envs"]) -> None:
        """Reset the exploration noise of environments whose episode ended."""

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except the unfinished episodes."""
        return super().state_dict() | {"n_gradient_steps": self.n_gradient_steps}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state with new episodes; unfinished ones are dropped."""
        super().load_state_dict(state)
        self.n_gradient_steps = state["n_gradient_steps"]
