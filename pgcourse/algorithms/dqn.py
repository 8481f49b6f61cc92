"""Deep Q-learning (DQN): learn Q*, and act greedily.

One iteration:

1. take a = argmaxₐ Q(s, a), or with probability ε a random action; add (s, a, s', r) to the replay buffer
2. sample a minibatch from it
3. y = r + γ maxₐ' Q'(s', a')
4. w ← w − η mean of clip(Q(s, a) − y) ∂Q(s, a)/∂w, clipped to ±1
5. every so many iterations: Q' ← Q

Slide 2; Mnih et al. (2015), algorithm 1. Slide 66 is the same with a policy network in place of the maximum.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pgcourse import checks
from pgcourse.algorithms.compatibility import check_output, repeated
from pgcourse.algorithms.config import (
    Schedule,
    as_schedule,
    checked_schedule,
    constant,
    gradient_step,
    linear_decay,
    make_optimizer,
)
from pgcourse.algorithms.off_policy import OffPolicyAlgorithm, OffPolicyConfig, polyak_update
from pgcourse.algorithms.protocols import Environment
from pgcourse.algorithms.replay import ReplayBuffer, Transitions
from pgcourse.algorithms.seeds import Seeds
from pgcourse.arrays import Int
from pgcourse.maths.td import td_target, value_loss
from pgcourse.networks.policies import GreedyQPolicy
from pgcourse.networks.stacked import n_seeds


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Settings of ``DQN``."""

    eta: float | Schedule = checks.setting(0.0023, "learning rate η > 0, or a function of the steps so far")
    eta_decay_steps: float | None = checks.setting(
        20_000, "steps after which η has fallen to a half; None keeps it constant"
    )
    epsilon: float | Schedule = checks.setting(
        0.04, "probability ε of a random action, or a function of the steps so far"
    )
    exploration_steps: int | None = checks.setting(
        8_000, "steps in which a number ε is approached from 1; None keeps it"
    )
    target_update_interval: int = checks.setting(
        128, "iterations between two copies to the target network, at least 1"
    )
    train_interval: int = checks.setting(2, "steps in each environment for each update, at least 1")
    batch_size: int = checks.setting(64, "transitions in a minibatch, at least 1")
    capacity: int = checks.setting(100_000, "transitions in the replay buffer, at least batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.count(1, target_update_interval=self.target_update_interval)
        checks.at_least(1, exploration_steps=self.exploration_steps)
        checks.fraction(epsilon=self.epsilon(0) if callable(self.epsilon) else self.epsilon)


class DQN(OffPolicyAlgorithm):
    """Q-learning with a network, a replay buffer and a target network.

    Args:
        env: vector environment with K numbered actions; ``Environment`` says what is asked of it.
        q_network: network giving Q(s, ·), shape (N, K).
        config: settings.
        seed: of the environment, the exploration and the minibatches; several learn at once (``seeds``).

    A truncated episode still bootstraps; only a terminated one has y = r.
    """

    stateful = ("q_network", "target_q_network", "optimizer", "replay")

    def __init__(
        self, env: Environment, q_network: nn.Module, config: DQNConfig = DQNConfig(), *, seed: Seeds = 0
    ):
        self.n_actions, states = checks.discrete_actions(env), env.single_observation_space
        self.eta = as_schedule("eta", config.eta, config.eta_decay_steps)
        self.epsilon = _exploration(config)
        self.target_update_interval = config.target_update_interval
        self.q_network, self.policy = q_network, GreedyQPolicy(q_network)
        self.target_q_network = copy.deepcopy(q_network).requires_grad_(False)
        self.optimizer = make_optimizer(config.optimizer, q_network.parameters(), self.eta(0), fused=True)
        shape = states.shape or ()
        make_replay = functools.partial(ReplayBuffer, config.capacity, shape, (), n_seeds=n_seeds(q_network))
        replay = make_replay(state_dtype=states.dtype or float, action_dtype=np.int64)
        super().__init__(env, replay, config, seed, q_network)
        s = torch.from_numpy(repeated(self._s, q_network).astype(states.dtype or float))  # as in the buffer
        check_output("q_network(s)", q_network, (s,), (len(s), self.n_actions))

    def random_action(self) -> Int[np.ndarray, " n_envs"]:
        """Return actions drawn uniformly from all K, shape (n_envs,)."""
        return self._rng.integers(self.n_actions, size=self.env.num_envs)

    def select_action(self, s: np.ndarray) -> Int[np.ndarray, " n_envs"]:
        """Return ε-greedy actions, shape (n_envs,), for states of shape (n_envs, ...)."""
        explores = self._rng.random(self.env.num_envs) < self.epsilon(self.n_steps)
        return np.where(explores, self.random_action(), self.policy.greedy(s))

    def learn(self, batch: Transitions) -> tuple[float, float]:
        """Do lines 3 to 5 with a minibatch of any policy; return ½ mean (Q(s, a) − y)², and mean Q(s, a)."""
        s, a, r, next_s, terminated = (torch.from_numpy(column) for column in batch)
        with torch.no_grad():
            next_q = self.target_q_network(next_s).amax(dim=1)
        y = td_target(r, next_q, terminated, self.config.gamma)  # 3
        q = self.q_network(s).gather(1, a[:, None]).squeeze(1)
        eta = self.eta(self.n_steps)
        gradient_step(self.optimizer, F.huber_loss(q, y), eta, self.q_network)  # 4, clipped
        self.n_gradient_steps += 1
        if self.n_gradient_steps % self.target_update_interval == 0:
            polyak_update(self.target_q_network, self.q_network, tau=1.0)  # 5
        return self._loss_and_q(value_loss(q, y), q, y)


def _exploration(config: DQNConfig) -> Schedule:
    if callable(config.epsilon):
        return checked_schedule("epsilon", config.epsilon, most=1)
    if config.exploration_steps is None:
        return functools.partial(constant, config.epsilon)
    return functools.partial(linear_decay, config.epsilon, config.exploration_steps)
