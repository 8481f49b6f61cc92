"""SAC, soft actor–critic: TD3 with a stochastic actor, whose entropy is rewarded.

One iteration is slide 66's, with these lines changed:

1. take a ~ π(·∣s), get r and s'; add (s, a, s', r) to the replay buffer
3. y = r + γ (min over both critics of Q'(s', a') − α log π(a'∣s')), a' ~ π(·∣s')
5. w₂ ← w₂ + η mean of ∂/∂w₂ (min over both critics of Q(s, a) − α log π(a∣s)), where a is a differentiable
   function of w₂ and of noise; and log α ← log α − η" mean of ∂/∂log α (−α (log π(a∣s) + H̄))

So α, the temperature, rises while the entropy is below its target H̄. Densities and H̄ are those of actions
in half ranges, so nothing depends on the units of an action. There is no target actor.

On no slide; Haarnoja, Zhou, Abbeel & Levine (2018), equations 12 and 13 for line 5; Haarnoja, Zhou,
Hartikainen et al. (2018) for the rest: no network for V, and equation 18 for the temperature.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.algorithms.compatibility import check_separate
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, make_optimizer
from pgcourse.algorithms.ddpg import DDPG, DDPGConfig
from pgcourse.algorithms.off_policy import polyak_update
from pgcourse.algorithms.protocols import Environment
from pgcourse.algorithms.seeds import Seeds
from pgcourse.arrays import Float
from pgcourse.networks.mlp import MAX_SCALE
from pgcourse.networks.policies import SquashedGaussianPolicy
from pgcourse.networks.stacked import n_seeds, per_row
from pgcourse.networks.values import TwinCritic


@dataclass(frozen=True, kw_only=True)
class SACConfig(DDPGConfig):
    """Settings of ``SAC``; the policy explores by itself, so σ is 0."""

    sigma: float = checks.setting(0.0, "standard deviation σ ≥ 0 of noise added to a ~ π, in half ranges")
    alpha: float = checks.setting(1.0, "temperature α > 0, the first one where it is learnt")
    learn_alpha: bool = checks.setting(True, "whether the temperature is learnt")
    eta_alpha: float | Schedule = checks.setting(0.001, "learning rate η″ > 0 of log α, likewise")
    target_entropy: float | None = checks.setting(
        None, "entropy H̄ of π for which α is learnt, of actions in half ranges; None is −D"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive(alpha=self.alpha)
        if self.target_entropy is not None:
            checks.real(target_entropy=self.target_entropy)
            checks.finite(target_entropy=self.target_entropy)


class Temperature(nn.Module):
    """The temperature α; its logarithm is learnt, so it stays positive; one for each of S seeds.

    Args:
        alpha: the first one, positive.
        n_seeds: S.
    """

    def __init__(self, alpha: float, n_seeds: int = 1):
        super().__init__()
        checks.positive(alpha=alpha)
        if not 1 / MAX_SCALE <= alpha <= MAX_SCALE:
            raise ValueError(f"alpha must be from {1 / MAX_SCALE:g} to {MAX_SCALE:g}, got {alpha}")
        n_seeds = checks.count(1, n_seeds=n_seeds)
        self.log_alpha = nn.Parameter(torch.full((n_seeds, 1) if n_seeds > 1 else (1,), math.log(alpha)))

    def forward(self, n: int) -> Tensor:
        """Return α for n rows: one number, or for several seeds one a row, shape (n,)."""
        return per_row(self.log_alpha, n)[..., 0].exp()


class SAC(DDPG):
    """DDPG's loop with TD3's two critics and a stochastic policy.

    Args:
        env: as for ``DDPG``.
        policy: a squashed Gaussian between the bounds of the environment's actions.
        critic: two networks giving q(s, a).
        config: settings.
        seed: of the environment, the policy's noise and the minibatches; several learn at once (``seeds``).

    Raises:
        ValueError: also if the networks and the environment do not fit together.
    """

    config: SACConfig
    policy: SquashedGaussianPolicy
    networks = ("policy", "critic", "target_critic", "temperature")
    stateful = (*networks, "optimizer", "critic_optimizer", "alpha_optimizer", "replay")
    _critic_axes = (2,)

    def __init__(
        self,
        env: Environment,
        policy: SquashedGaussianPolicy,
        critic: TwinCritic,
        config: SACConfig = SACConfig(),
        *,
        seed: Seeds = 0,
    ):
        check_separate(first=critic.first, second=critic.second)
        super().__init__(env, policy, critic, config, seed=seed)
        del self.target_actor  # a' is drawn from π itself
        self.temperature = Temperature(config.alpha, n_seeds(policy))
        self.eta_alpha = as_schedule("eta_alpha", config.eta_alpha, config.eta_decay_steps)
        make = functools.partial(make_optimizer, config.optimizer, fused=True)
        self.alpha_optimizer = make(self.temperature.parameters(), self.eta_alpha(0))
        given = config.target_entropy
        self.target_entropy = -float(self.low.size) if given is None else float(given)

    def select_action(self, s: np.ndarray) -> Float[np.ndarray, "n_envs D"]:
        """Return a ~ π(·∣s), shape (n_envs, D), between the bounds; σ > 0 adds noise to it."""
        noise = (self.high - self.low) / 2 * self.noise.sample(self._rng)
        return np.clip(self.policy.sample(s, self._rng) + noise, self.low, self.high)

    @torch.no_grad()
    def next_q(self, next_s: Tensor) -> Float[Tensor, " N"]:
        """Return the smaller of both critics' Q'(s', a') less α log π(a'∣s'), a' ~ π(·∣s'), shape (N,)."""
        next_a, log_pi = self.policy.rsample_and_log_prob(next_s, self._rng)
        return self.target_critic(next_s, next_a).amin(dim=0) - self.temperature(len(next_s)) * log_pi

    def update_actor(self, s: Tensor) -> None:
        """Move the actions drawn along ∂Q/∂a and the policy towards more entropy; then the temperature."""
        a, log_pi = self.policy.rsample_and_log_prob(s, self._rng)
        alpha, drawn = self.temperature(len(s)), a.detach().requires_grad_()
        [dQ_da] = torch.autograd.grad(self.actor_q(s, drawn).amin(dim=0).mean(), drawn)
        J_hat = (a * dQ_da).sum() - (alpha.detach() * log_pi).mean()
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps), self.policy)
        if self.config.learn_alpha:
            alpha_loss = -(alpha * (log_pi.detach() + self.target_entropy)).mean()
            gradient_step(self.alpha_optimizer, alpha_loss, self.eta_alpha(self.n_steps), self.temperature)

    def update_targets(self) -> None:
        """Move the target critics by Polyak averaging."""
        polyak_update(self.target_critic, self.critic, self.tau)
