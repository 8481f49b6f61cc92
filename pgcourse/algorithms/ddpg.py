"""DDPG, the deep deterministic policy gradient: ∂Q/∂a says how to improve the action. And TD3.

Slide 66, one iteration for each step of the environment:

1. take a = μ(s) + noise, get r and s'; add (s, a, s', r) to the replay buffer
2. sample a minibatch from it
3. y = r + γ Q'(s', μ'(s')), with the target networks Q' and μ'
4. w₁ ← w₁ − η' mean of (Q(s, a) − y) ∂Q(s, a)/∂w₁
5. w₂ ← w₂ + η mean of ∂Q(s, a)/∂a · ∂μ(s)/∂w₂, at a = μ(s)
6. w' ← w' + τ (w − w') for the target networks

w₁ are the critic's weights, w₂ the actor's, as on slide 65; slide 66 calls them φ and θ, and their learning
rates α and β.

Slides 62–66; Silver et al. (2014); Lillicrap et al. (2016), algorithm 1; Fujimoto, van Hoof & Meger (2018)
for ``TD3``.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.algorithms.compatibility import check_output, check_separate, repeated
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, make_optimizer
from pgcourse.algorithms.noise import OrnsteinUhlenbeckNoise
from pgcourse.algorithms.off_policy import OffPolicyAlgorithm, OffPolicyConfig, polyak_update
from pgcourse.algorithms.protocols import Actor, Environment
from pgcourse.algorithms.replay import ReplayBuffer, Transitions
from pgcourse.algorithms.seeds import Seeds
from pgcourse.arrays import Bool, Float
from pgcourse.maths.td import td_target, value_loss
from pgcourse.networks.stacked import n_seeds
from pgcourse.networks.values import TwinCritic


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(OffPolicyConfig):
    """Settings of ``DDPG``; η is the actor's learning rate."""

    eta_critic: float | Schedule = checks.setting(0.001, "learning rate η′ > 0 of the critic, likewise")
    tau: float = checks.setting(0.005, "step size τ of the target networks, 0 < τ ≤ 1; with 1 there are none")
    sigma: float = checks.setting(0.3, "standard deviation σ ≥ 0 of the exploration noise, in half ranges")
    theta: float = checks.setting(1.0, "θ of the noise, 0 < θ ≤ 1: 1 is Gaussian, less is correlated in time")
    weight_decay: float = checks.setting(0.0, "weight decay of the critic, at least 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(tau=self.tau)
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must be in (0, 1], got {self.tau}")


class DDPG(OffPolicyAlgorithm):
    """Slide 66's algorithm. Lines 1 and 2 are ``OffPolicyAlgorithm.update``, lines 3 to 6 ``learn``.

    Args:
        env: vector environment (``Environment``) whose actions are real numbers between bounds.
        policy: the actor, a network giving μ(s): ``policy(s)`` and, as an array, ``policy.greedy(s)``.
        critic: network giving q(s, a) as ``critic(s, a)``.
        config: settings.
        replay: empty replay buffer; None for a ``ReplayBuffer`` of real numbers.
        seed: of the environment, the noise and the minibatches; several learn at once (``seeds``).

    Networks may share what only one of them names among its ``parameters``; so do their targets.

    Raises:
        ValueError: also if the networks and the environment do not fit together.
    """

    networks = ("policy", "critic", "target_actor", "target_critic")
    stateful = (*networks, "optimizer", "critic_optimizer", "replay")
    _critic_axes: tuple[int, ...] = ()  # of q(s, a), before that of the states

    def __init__(
        self,
        env: Environment,
        policy: Actor,
        critic: nn.Module,
        config: DDPGConfig = DDPGConfig(),
        *,
        replay: ReplayBuffer | None = None,
        seed: Seeds = 0,
    ):
        space = checks.bounded_actions(env)
        check_separate(policy=policy, critic=critic)
        self.policy, self.critic, self.actor_q = policy, critic, critic
        self.target_actor, self.target_critic = copy.deepcopy((policy, critic))
        for target in (self.target_actor, self.target_critic):
            target.requires_grad_(False)
        self.eta = as_schedule("eta", config.eta, config.eta_decay_steps)
        self.eta_critic = as_schedule("eta_critic", config.eta_critic, config.eta_decay_steps)
        make, decay = functools.partial(make_optimizer, config.optimizer, fused=True), config.weight_decay
        self.optimizer = make(policy.parameters(), self.eta(0), maximize=True)
        self.critic_optimizer = make(critic.parameters(), self.eta_critic(0), weight_decay=decay)
        self.noise = OrnsteinUhlenbeckNoise(config.sigma, config.theta)
        self.low, self.high, self.tau = space.low.copy(), space.high.copy(), config.tau
        if replay is None:
            shapes = env.single_observation_space.shape or (), space.shape
            replay = ReplayBuffer(config.capacity, *shapes, n_seeds=n_seeds(policy))
        super().__init__(env, replay, config, seed, policy, critic)
        s = torch.from_numpy(repeated(self._s, policy).astype(replay.state_dtype))  # as it has them
        a = check_output("policy(s)", policy, (s,), (len(s), *space.shape))
        check_output("critic(s, a)", critic, (s, a), (*self._critic_axes, len(s)))

    def random_action(self) -> Float[np.ndarray, "n_envs D"]:
        """Return actions drawn uniformly between the bounds, shape (n_envs, D)."""
        a = self._rng.uniform(self.low, self.high, (self.env.num_envs, *self.low.shape))
        return a.astype(self.low.dtype).clip(self.low, self.high)  # rounding may exceed a bound

    def select_action(self, s: np.ndarray) -> Float[np.ndarray, "n_envs D"]:
        """Return μ(s) + noise, clipped to the bounds, shape (n_envs, D)."""
        noise = (self.high - self.low) / 2 * self.noise.sample(self._rng)
        return np.clip(self.policy.greedy(s) + noise, self.low, self.high)

    def learn(self, batch: Transitions) -> tuple[float, float]:
        """Do lines 3 to 6 with a minibatch of any policy; return the critic's loss and mean Q(s, a)."""
        s, a, r, next_s, terminated = (torch.from_numpy(column) for column in batch)
        y = td_target(r, self.next_q(next_s), terminated, self.config.gamma)  # 3
        q = self.critic(s, a)
        critic_loss = value_loss(q, y.expand_as(q))
        gradient_step(self.critic_optimizer, critic_loss, self.eta_critic(self.n_steps), self.critic)  # 4
        self.update_actor(s)  # 5
        self.update_targets()  # 6
        self.n_gradient_steps += 1
        return self._loss_and_q(critic_loss, q, y)

    @torch.no_grad()
    def next_q(self, next_s: Tensor) -> Float[Tensor, " N"]:
        """Return the target networks' Q'(s', μ'(s')), shape (N,)."""
        return self.target_critic(next_s, self.target_actor(next_s))

    def update_actor(self, s: Tensor) -> None:
        """Move μ(s) along ∂Q/∂a: slide 65's chain rule, one factor after the other."""
        mu = self.policy(s)
        a = mu.detach().requires_grad_()
        [dQ_da] = torch.autograd.grad(self.actor_q(s, a).mean(), a)
        J_hat = (mu * dQ_da).sum()  # whose gradient is ∂Q/∂a · ∂μ/∂w₂
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps), self.policy)

    def update_targets(self) -> None:
        """Move both target networks by Polyak averaging."""
        polyak_update(self.target_critic, self.critic, self.tau)
        polyak_update(self.target_actor, self.policy, self.tau)

    def _reset(self) -> None:
        super()._reset()
        self.noise.reset((self.env.num_envs, *self.low.shape))

    def _reset_noise(self, done: Bool[np.ndarray, " n_envs"]) -> None:
        self.noise.reset_where(done)


@dataclass(frozen=True, kw_only=True)
class TD3Config(DDPGConfig):
    """Settings of ``TD3``."""

    policy_delay: int = checks.setting(2, "critic updates for each of the actor and the targets, at least 1")
    target_policy_noise: float = checks.setting(
        0.2, "standard deviation ≥ 0 of the target actor's noise, in half ranges"
    )
    target_noise_clip: float = checks.setting(0.5, "bound ≥ 0 of that noise, in half ranges")

    def __post_init__(self) -> None:
        super().__post_init__()
        noise = {"target_policy_noise": self.target_policy_noise, "target_noise_clip": self.target_noise_clip}
        checks.real(**noise)
        checks.count(1, policy_delay=self.policy_delay)
        checks.at_least(0, target_policy_noise=self.target_policy_noise)
        checks.at_least(0, target_noise_clip=self.target_noise_clip)


class TD3(DDPG):
    """Twin delayed DDPG: DDPG with three changes against overestimated values.

    y = r + γ min over both critics of Q'(s', μ'(s') + clipped noise)

    Clipped double Q-learning and target-policy smoothing change the target, line 3; delayed policy updates
    change how often lines 5 and 6 are done. Arguments as for ``DDPG``; the first critic teaches the actor.

    On no slide; Fujimoto, van Hoof & Meger (2018), algorithm 1.
    """

    config: TD3Config
    _critic_axes = (2,)

    def __init__(
        self,
        env: Environment,
        policy: Actor,
        critic: TwinCritic,
        config: TD3Config = TD3Config(),
        *,
        replay: ReplayBuffer | None = None,
        seed: Seeds = 0,
    ):
        check_separate(first=critic.first, second=critic.second)
        super().__init__(env, policy, critic, config, replay=replay, seed=seed)
        self.actor_q = critic.first

    @torch.no_grad()
    def next_q(self, next_s: Tensor) -> Float[Tensor, " N"]:
        """Return the smaller of both critics' Q'(s', μ'(s') + clipped noise), shape (N,)."""
        sigma, bound = self.config.target_policy_noise, self.config.target_noise_clip
        noise = sigma * self._rng.standard_normal((len(next_s), *self.low.shape), np.float32)
        clipped = (self.high - self.low) / 2 * noise.clip(-bound, bound)
        next_a = np.clip(self.target_actor(next_s).numpy() + clipped, self.low, self.high)
        return self.target_critic(next_s, next_a).amin(dim=0)

    def update_actor(self, s: Tensor) -> None:
        if self.n_gradient_steps % self.config.policy_delay == 0:
            super().update_actor(s)

    def update_targets(self) -> None:
        if self.n_gradient_steps % self.config.policy_delay == 0:
            super().update_targets()
