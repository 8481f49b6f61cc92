"""Deep Q-learning: a network says what every action is worth, and the policy takes the best.

One turn of the loop:

1. take a = argmaxₐ Q(s, a), or with probability ε any, get r and s'; add (s, a, s', r) to the replay
2. sample a mini-batch from it
3. y = r + γ maxₐ' Q'(s', a')
4. w ← w − η mean of c(Q(s, a) − y) ∂Q(s, a)/∂w, where c cuts off at ±1
5. every so many turns: Q' ← Q

Slide 2; Mnih et al. (2015), algorithm 1. Slide 66 is the same with a policy network where this has a maximum.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from gymnasium.vector import VectorEnv
from torch.nn import functional as F

from pgcourse.algorithms.off_policy import ADAM, OffPolicy, Optimizer, rate
from pgcourse.algorithms.replay import Batch, Replay
from pgcourse.networks.mlp import flattened
from pgcourse.networks.policies import ValuePolicy


class DQN(OffPolicy):
    """Q-learning with a network, a replay and a slow copy.

    Args:
        env: a Gymnasium vector environment whose actions are 0…K−1, and that resets itself in the step that ends an episode
            (``AutoresetMode.SAME_STEP``).
        policy: gives Q(s, ·), shape (N, K), as ``policy.q(s)``, and the best action as ``policy.greedy(s)``.
        eta: learning rate, η > 0, or a function that returns it for the steps so far.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        epsilon: probability ε, from 0 to 1, of an action drawn evenly from all, or a function that returns it for the steps so far.
        copied: turns between two copies, at least 1; with 1 there are none to speak of.
        every: steps in each environment before each turn, at least 1.
        batch_size: transitions in a mini-batch, at least 1.
        capacity: transitions that are remembered, at least ``batch_size``.
        n_random: steps with actions drawn evenly, before the first turn, at least ``batch_size``.
        optimizer: makes the optimiser, one of PyTorch's.
        seed: of the environment, the exploration and the mini-batches.

    Raises:
        ValueError: if a number is out of range, or the environment has other actions or resets itself otherwise.

    An episode that was cut off is not over: only where it ended by itself is y = r.

    Slide 2; Mnih et al. (2015), algorithm 1.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: ValuePolicy,
        *,
        eta: float | Callable[[int], float] = 1e-3,
        gamma: float = 0.99,
        epsilon: float | Callable[[int], float] = 0.1,
        copied: int = 100,
        every: int = 1,
        batch_size: int = 64,
        capacity: int = 100_000,
        n_random: int = 1_000,
        optimizer: Optimizer = ADAM,
        seed: int = 0,
    ):
        space: Any = env.single_action_space
        if not isinstance(space, Discrete) or space.start:
            raise ValueError(f"env must take the actions 0 to K - 1, got {space}")
        if copied < 1:
            raise ValueError(f"copied must be at least 1, got {copied}")
        self.epsilon: Callable[[int], float] = epsilon if callable(epsilon) else lambda _: epsilon
        if not 0 <= self.epsilon(0) <= 1:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon(0)}")
        self.policy, self.copied, self.eta, self.n_actions = policy, copied, rate("eta", eta), int(space.n)
        self.target_policy = copy.deepcopy(policy).requires_grad_(False)
        self._w, self._target_w = flattened(policy), flattened(self.target_policy)
        self.optimizer = optimizer([self._w], lr=self.eta(0))
        states: Any = env.single_observation_space
        replay = Replay(capacity, states.shape, (), state_type=states.dtype, action_type=np.int64)
        super().__init__(
            env, replay, gamma=gamma, batch_size=batch_size, n_random=n_random, every=every, seed=seed
        )

    def at_random(self) -> np.ndarray:
        """Return actions drawn evenly from all K, shape (n_envs,)."""
        return self._rng.integers(self.n_actions, size=self.env.num_envs)

    def explore(self, s) -> np.ndarray:
        """Return argmaxₐ Q(s, a) or, each with probability ε, an action drawn evenly from all K, shape (n_envs,)."""
        odd = self._rng.random(self.env.num_envs) < self.epsilon(self.n_steps)
        return np.where(odd, self.at_random(), self.policy.greedy(s))

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Do lines 3 to 5 with a mini-batch, wherever it comes from; return ½ mean (Q(s, a) − y)², and the mean of Q(s, a)."""
        self.optimizer.param_groups[0]["lr"] = self.eta(self.n_steps)
        s, a, r, after, terminated = (torch.from_numpy(column) for column in batch)
        with torch.no_grad():
            y = r + self.gamma * ~terminated * self.target_policy.q(after).amax(dim=1)  # 3
        q = self.policy.q(s).gather(1, a[:, None]).squeeze(1)
        self._w.grad.zero_()  # type: ignore[union-attr]
        F.huber_loss(q, y).backward()  # 4: its slope is Q(s, a) − y, cut off at ±1
        self.optimizer.step()
        self.n_learnt += 1
        if self.n_learnt % self.copied == 0:
            self._target_w.data.copy_(self._w)  # 5
        return 0.5 * (q - y).square().mean().item(), q.mean().item()

    _parts = ("policy", "target_policy", "optimizer", "replay")
