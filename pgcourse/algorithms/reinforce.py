"""REINFORCE, the Monte Carlo policy gradient: play whole episodes, then make each action more or less likely.

Ĵ(w) = 1/ℰ Σₑ Σₜ Gₑₜ Lₑₜ        Lₑₜ = log π(aₑₜ∣sₑₜ)        w ← w + η ∂Ĵ/∂w

With G = 1 it is maximum likelihood, and the actions taken are the labels; REINFORCE replaces the 1 by a
return. Slide 36 takes a step for every episode, this class one for a batch of episodes.

Slides 20–26 and 35–36; Williams (1992), theorem 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pgcourse import checks
from pgcourse.algorithms.collect import Episode, PartialEpisodes, collect_episodes
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, make_optimizer
from pgcourse.algorithms.protocols import Environment, Policy
from pgcourse.algorithms.resumable import Resumable
from pgcourse.arrays import Float
from pgcourse.maths.returns import pad_episodes, reward_to_go, standardize, surrogate
from pgcourse.networks.mlp import gradient_norm

ReturnFn = Callable[[np.ndarray, float], np.ndarray]
Baseline = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TrainingData(NamedTuple):
    """What is learnt from an episode: states and actions, and what each action's score is multiplied by."""

    s: np.ndarray  # (T, ...)
    a: np.ndarray  # (T, ...)
    G: Float[np.ndarray, " T"]


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """Settings of ``Reinforce``."""

    eta: float | Schedule = checks.setting(0.005, "learning rate η > 0, or a function of the steps so far")
    eta_decay_steps: float | None = checks.setting(
        None, "steps after which η has fallen to a half; None keeps it constant"
    )
    gamma: float = checks.setting(0.99, "discount γ per step, from 0 to 1")
    return_fn: ReturnFn = checks.setting(
        reward_to_go, "what multiplies the score: a function of an episode's rewards and γ"
    )
    baseline: Baseline | None = checks.setting(
        None, "subtracted from the returns: a function of returns and step mask"
    )
    standardize: bool = checks.setting(True, "whether to standardise the returns of a batch")
    batch_size: int = checks.setting(2000, "steps of finished episodes for each update, at least 1")
    optimizer: str = checks.setting("Adam", "Adam, RMSprop or SGD")

    def __post_init__(self) -> None:
        checks.at_least(1, batch_size=self.batch_size)
        checks.fraction(gamma=self.gamma)


class UpdateMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # environment steps so far
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes learnt from
    surrogate: float
    gradient_norm: float
    entropy: float  # estimate −mean log π(a∣s) over the actions taken, in nats
    off_policy_fraction: float  # of these actions, those drawn before the last update


class Reinforce(Resumable):
    """REINFORCE over many environments at once.

    Episodes that are unfinished at an update go on, and are learnt from when they have ended. Their first
    actions were then drawn by slightly older weights; ``UpdateMetrics.off_policy_fraction`` says how many.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: network with ``log_prob(s, a)`` and ``sample(s, rng)``.
        config: settings.
        training_data: from an episode to what is learnt from it; None learns from every step, with
            ``config.return_fn``.
        seed: of the environment and the actions.
    """

    stateful = ("policy", "optimizer")

    def __init__(
        self,
        env: Environment,
        policy: Policy,
        config: ReinforceConfig = ReinforceConfig(),
        *,
        training_data: Callable[[Episode], TrainingData] | None = None,
        seed: int = 0,
    ):
        checks.same_step_autoreset(env)
        self.env, self.policy, self.config = env, policy, config
        self.training_data = training_data or self._every_step
        self.eta = as_schedule("eta", config.eta, config.eta_decay_steps)
        self.optimizer = make_optimizer(config.optimizer, policy.parameters(), self.eta(0), maximize=True)
        self._rng = np.random.default_rng(seed)
        self.n_steps = 0
        self._reset()

    def update(self) -> UpdateMetrics:
        """One iteration of slide 36's loop, for a batch of episodes."""
        # for each episode {s₁, a₁, r₂, …} ~ π
        episodes = collect_episodes(self.env, self.policy, self.config.batch_size, self._rng, self._partial)
        self.n_steps = self._partial.n_steps
        data = [self.training_data(episode) for episode in episodes]
        s, a = np.concatenate([d.s for d in data]), np.concatenate([d.a for d in data])
        # G: what multiplies each step's score
        G, mask = pad_episodes([d.G for d in data])
        if self.config.baseline is not None:
            G = G - self.config.baseline(G, mask)
        if self.config.standardize:
            G = standardize(G, mask)
        # w ← w + η/ℰ Σₑ Σₜ G ∂L/∂w
        L = self.policy.log_prob(s, a)
        J_hat = surrogate(L, torch.as_tensor(G[mask], dtype=L.dtype), n=len(episodes))
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps))

        returns = np.array([e.r.sum() for e in episodes])
        off_policy = sum(e.n_off_policy for e in episodes) / sum(len(e.r) for e in episodes)
        norm = gradient_norm(self.policy.parameters())
        return UpdateMetrics(self.n_steps, returns, J_hat.item(), norm, -L.mean().item(), off_policy)

    def _every_step(self, episode: Episode) -> TrainingData:
        G = self.config.return_fn(episode.r, self.config.gamma)
        return TrainingData(episode.s, episode.a, G)

    def _reset(self) -> None:
        self._partial = PartialEpisodes(self.env, self._rng, self.n_steps)
