"""REINFORCE, the Monte Carlo policy gradient: play whole episodes, then make each action more or less likely.

Ĵ(w) = 1/ℰ Σₑ Σₜ Gₑₜ Lₑₜ        Lₑₜ = log π(aₑₜ∣sₑₜ)        w ← w + η ∂Ĵ/∂w

With G = 1 it is maximum likelihood, and the actions taken are the labels; REINFORCE replaces the 1 by a
return. Slide 36 takes a step for every episode, this class one for a batch of episodes.

Slides 20–26 and 35–36; Williams (1992), theorem 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pgcourse import checks
from pgcourse.algorithms.collect import Episode, PartialEpisodes, collect_episodes
from pgcourse.algorithms.compatibility import check_actions, check_environment, check_output
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, make_optimizer
from pgcourse.algorithms.protocols import Environment, Policy
from pgcourse.algorithms.resumable import Resumable
from pgcourse.algorithms.seeds import random_stream
from pgcourse.arrays import Float
from pgcourse.checks import MAX_EPISODE_LENGTH
from pgcourse.maths.returns import (
    batch_mean_baseline,
    leave_one_out_baseline,
    pad_episodes,
    reward_to_go,
    standardize,
    surrogate,
    total_return,
)
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
        checks.count(1, batch_size=self.batch_size)
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
        max_episode_length: steps of an episode, at least 1. A longer one raises a ``ValueError`` in
            ``update``: it might never end.
        seed: of the environment and the actions.

    Raises:
        ValueError: also if policy and environment do not fit together, or nothing would ever be learnt.
    """

    stateful = ("policy", "optimizer")

    def __init__(
        self,
        env: Environment,
        policy: Policy,
        config: ReinforceConfig = ReinforceConfig(),
        *,
        training_data: Callable[[Episode], TrainingData] | None = None,
        max_episode_length: int = MAX_EPISODE_LENGTH,
        seed: int = 0,
    ):
        check_environment(env)
        if training_data is None:
            _check_batches(config, env.num_envs)
        self.env, self.policy, self.config = env, policy, config
        self.training_data, self.max_episode_length = training_data or self._every_step, max_episode_length
        self.eta = as_schedule("eta", config.eta, config.eta_decay_steps)
        self.optimizer = make_optimizer(config.optimizer, policy.parameters(), self.eta(0), maximize=True)
        self._rng = random_stream(seed, env, policy)
        self.n_steps, self._warned = 0, False
        self._reset()
        a = check_actions(env, policy, self._partial.s)
        if training_data is None:
            check_output("policy.log_prob(s, a)", policy.log_prob, (self._partial.s, a), (len(a),))

    def update(self) -> UpdateMetrics:
        """One iteration of slide 36's loop, for a batch of episodes."""
        # for each episode {s₁, a₁, r₂, …} ~ π
        episodes = collect_episodes(self.env, self.policy, self.config.batch_size, self._rng, self._partial)
        self.n_steps = self._partial.n_steps
        data = [self.training_data(episode) for episode in episodes]
        s, a = np.concatenate([d.s for d in data]), np.concatenate([d.a for d in data])
        # G: what multiplies each step's score
        returns, mask = pad_episodes([d.G for d in data])
        G = returns - self._baseline(returns, mask)
        if self.config.standardize:
            G = standardize(G, mask, scale=float(abs(returns).max(initial=0)))
        self._check_learnt(returns, G)
        # w ← w + η/ℰ Σₑ Σₜ G ∂L/∂w
        L = self.policy.log_prob(s, a)
        J_hat = surrogate(L, torch.as_tensor(G[mask], dtype=L.dtype), n=len(episodes))
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps), self.policy)

        episode_returns = np.array([e.r.sum() for e in episodes])
        off_policy = sum(e.n_off_policy for e in episodes) / sum(len(e.r) for e in episodes)
        norm = gradient_norm(self.policy.parameters())
        entropy = -L.mean().item()
        return UpdateMetrics(self.n_steps, episode_returns, J_hat.item(), norm, entropy, off_policy)

    def _baseline(self, G: np.ndarray, mask: np.ndarray) -> np.ndarray | float:
        if self.config.baseline is None:
            return 0.0
        if self.config.baseline is leave_one_out_baseline and len(G) == 1:
            self._warn("an update has no baseline: of one episode, none is left to be its baseline")
            return 0.0
        return self.config.baseline(G, mask)

    def _check_learnt(self, returns: np.ndarray, G: np.ndarray) -> None:
        if len(returns) == 1 and returns.any() and not G.any():
            self._warn("an update has learnt nothing: its one episode has nothing to be compared with")

    def _warn(self, message: str) -> None:
        """Warn, but only once."""
        if not self._warned:
            warnings.warn(f"{message}; a larger batch_size has more episodes", stacklevel=4)
        self._warned = True

    def _every_step(self, episode: Episode) -> TrainingData:
        G = self.config.return_fn(episode.r, self.config.gamma)
        return TrainingData(episode.s, episode.a, G)

    def _reset(self) -> None:
        self._partial = PartialEpisodes(self.env, self._rng, self.n_steps, self.max_episode_length)


def _check_batches(config: ReinforceConfig, n_envs: int) -> None:
    """A batch must not always be one episode that is compared with itself alone."""
    if config.batch_size > 1 or n_envs > 1:
        return
    alone = "batch_size must be larger than 1 with one environment, or every batch is one episode"
    got = f"got {config.batch_size}"
    if config.baseline is leave_one_out_baseline:
        raise ValueError(f"{alone} and leaves none for its baseline; {got}")
    if config.return_fn is total_return and (config.standardize or config.baseline is batch_mean_baseline):
        raise ValueError(f"{alone}, whose total return minus its mean is 0, and nothing is learnt; {got}")
