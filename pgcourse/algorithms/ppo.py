"""Proximal policy optimisation: learn from each rollout several times, with clipped importance weights.

Ĵ(w) = 1/n Σₜ min(ρₜAₜ, clip(ρₜ, 1−ε, 1+ε) Aₜ) + β/n Σₜ H(π_w(·∣sₜ))        ρ = π_w(a∣s) / π₀(a∣s)

Slide 61's loop, with lines 2, 4 and 5 repeated for the minibatches of several epochs. After the first step
the policy is no longer π₀, which took the actions: the importance weight ρ corrects the probability of the
action, and clipping takes the gradient of a sample away once its weight has moved far enough. A and the
targets of v are estimated once, before anything moves, as in ``ActorCritic``. With one epoch, one minibatch,
the "plain" surrogate, ``max_norm=None`` and the same settings otherwise it is ``ActorCritic``.

Departures from the paper: actor and critic never share weights, so the value loss has a learning rate
instead of a coefficient; ε is constant. From published programs and not from the paper: advantages are
standardised, here over the rollout, there over a minibatch; long gradients are shortened; ``target_kl``.

On no slide; Schulman, Wolski, Dhariwal, Radford & Klimov (2017), equations 7 and 9 and algorithm 1.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from pgcourse import checks
from pgcourse.algorithms.collect import Rollout, RolloutState, check_rollout_length, collect_rollout
from pgcourse.algorithms.compatibility import (
    check_actions,
    check_environment,
    check_output,
    check_separate,
    repeated,
)
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, linear_anneal, make_optimizer
from pgcourse.algorithms.critics import Critic, PolicyEvaluationConfig, check_standardize
from pgcourse.algorithms.protocols import Environment, PolicyWithEntropy, ValueFunction
from pgcourse.algorithms.resumable import Resumable
from pgcourse.algorithms.seeds import Seeds, n_seeds, per_seed, random_stream
from pgcourse.arrays import Float
from pgcourse.maths.td import gae
from pgcourse.maths.trust_region import clipped_surrogate, importance_weight, is_clipped, kl_estimate
from pgcourse.networks.mlp import gradient_norm

SURROGATES = ("clipped", "weighted", "plain")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyEvaluationConfig):
    """Settings of ``PPO``: the actor's, and those of its critic and of the rollouts."""

    eta: float | Schedule = checks.setting(
        0.001, "learning rate η of the actor, positive, or a function of the steps so far"
    )
    eta_critic: float = checks.setting(0.001, "learning rate η′ of the critic, positive")
    anneal_steps: float | None = checks.setting(
        None, "steps over which both learning rates fall linearly to zero; None keeps them constant"
    )
    rollout_length: int | None = checks.setting(
        128, "steps T in each environment for each update, at least 1; None waits for a whole episode of each"
    )
    n_epochs: int = checks.setting(4, "how many times an update goes through its rollout, at least 1")
    minibatch_size: int = checks.setting(
        256, "steps of each minibatch, at least 1, at most those of a rollout"
    )
    surrogate: str = checks.setting(
        "clipped", "clipped, weighted (importance weights only) or plain (neither)"
    )
    clip: float = checks.setting(0.2, "ε > 0: a weight is clipped where A has driven it out of 1 ± ε")
    entropy_coefficient: float = checks.setting(0.0, "β, coefficient of the policy's entropy, at least 0")
    standardize: bool = checks.setting(True, "whether to standardise the advantages of a rollout")
    max_norm: float | None = checks.setting(
        0.5, "longer gradients of the actor, and of the critic, are shortened to this; None leaves them"
    )
    target_kl: float | None = checks.setting(
        None, "an update ends with the epoch whose estimated KL divergence exceeds this; None: with the last"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.count(1, n_epochs=self.n_epochs)
        checks.count(1, minibatch_size=self.minibatch_size)
        checks.one_of(SURROGATES, surrogate=self.surrogate)
        checks.positive(clip=self.clip)
        checks.real(entropy_coefficient=self.entropy_coefficient)
        checks.at_least(0, entropy_coefficient=self.entropy_coefficient)
        optional = {name: getattr(self, name) for name in ("anneal_steps", "max_norm", "target_kl")}
        checks.positive(**{name: value for name, value in optional.items() if value is not None})


class UpdateMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # environment steps so far
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes that ended
    reward: float  # mean reward per step
    critic_loss: float  # mean over the minibatches, as is the surrogate
    surrogate: float  # with the entropy bonus
    gradient_norm: float  # of the actor, in the last minibatch, at most max_norm
    entropy: float  # mean of H(π(·∣s)) in the last minibatch, in nats
    kl: float  # estimate of KL(π₀ ‖ π_w) after the update, mean over the rollout's states, in nats
    clipped_fraction: float  # of the steps whose gradient clipping has set to zero, after the update
    max_weight: float  # largest importance weight ρ after the update
    n_gradient_steps: int  # fewer than planned where the KL divergence ended the update


class Batch(NamedTuple):
    """The n steps of a rollout that are learnt from, and what was estimated before anything moved."""

    s: np.ndarray  # (n, ...)
    a: np.ndarray  # (n, ...)
    target: Float[np.ndarray, " n"]  # for v(s)
    A: Float[Tensor, " n"]
    L: Float[Tensor, " n"]  # log π₀(a∣s)

    def minibatches(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the steps of each seed in random order, in parts of at most ``size``, all but equal."""
        steps = rng.permutation(len(self.L)).reshape(n_seeds(rng), -1)
        for part in np.array_split(steps, -(-steps.shape[1] // size), axis=1):
            i = part.ravel()
            k = torch.from_numpy(i)
            yield Batch(self.s[i], self.a[i], self.target[i], self.A[k], self.L[k])


class PPO(Resumable):
    """Proximal policy optimisation.

    States are not weighted by γᵗ, as in ``ActorCritic``.

    Args:
        env: vector environment; ``Environment`` says what is asked of it. Actions of real numbers must have
            bounds, to which the environment clips them; log π is that of the unclipped action.
        policy: the actor, a network with ``log_prob_and_entropy(s, a)`` and ``sample(s, rng)``.
        value: the critic's network, from N states to v, shape (N,).
        config: settings.
        seed: of the environment, the actions and the minibatches; several learn at once (``seeds``).

    Raises:
        ValueError: also if the networks and the environment do not fit together, or nothing would be learnt.
    """

    stateful = ("policy", "optimizer", "critic")

    def __init__(
        self,
        env: Environment,
        policy: PolicyWithEntropy,
        value: ValueFunction,
        config: PPOConfig = PPOConfig(),
        *,
        seed: Seeds = 0,
    ):
        check_environment(env)
        check_separate(policy=policy, value=value)
        self._rng = random_stream(seed, env, policy, value)
        check_rollout_length(config.rollout_length, self._rng)
        n_envs = env.num_envs // n_seeds(self._rng)
        n = n_envs * (config.rollout_length or np.inf)
        if config.minibatch_size > n:
            steps = f"the steps of a rollout, {n_envs} × {config.rollout_length} = {n}"
            raise ValueError(f"minibatch_size must be at most {steps}, got {config.minibatch_size}")
        if config.target_kl is not None and n_seeds(self._rng) > 1:
            got = config.target_kl
            raise ValueError(f"target_kl must be None where several seeds learn at once, got {got}")
        check_standardize(config.standardize, n)
        self.env, self.policy, self.config = env, policy, config
        self.critic = Critic(value, config, fused=True)
        self.eta = self._annealed("eta", config.eta)
        self.eta_critic = self._annealed("eta_critic", config.eta_critic)
        self.optimizer = make_optimizer(
            config.optimizer, policy.parameters(), self.eta(0), fused=True, maximize=True
        )
        self.n_steps, self._warned = 0, False
        self._reset()
        s = self._state.s
        a = check_actions(env, policy, s)
        check_output("policy.log_prob(s, a)", policy.log_prob, (s, a), (len(a),))
        check_output("policy's entropy", functools.partial(_entropy, policy), (s, a), (len(a),))
        s = repeated(s, value)
        check_output("value(s)", value, (s,), (len(s),))
        if isinstance(env.single_action_space, Box):
            checks.bounded_actions(env)

    def update(self) -> UpdateMetrics:
        """One iteration of slide 61's loop, whose lines 2, 4 and 5 are repeated."""
        length, beta, n = self.config.rollout_length, self.config.entropy_coefficient, n_seeds(self._rng)
        eta, eta_critic = self._rates()
        rollout = collect_rollout(self.env, self.policy, length, self._rng, self._state)  # 1
        self.n_steps = self._state.n_steps
        batch, losses, surrogates = self._batch(rollout), [], []  # 3
        for _ in range(self.config.n_epochs):
            for s, a, target, A, L_old in batch.minibatches(self.config.minibatch_size, self._rng):
                losses.append(self.critic.fit(s, target, eta=eta_critic, max_norm=self.config.max_norm))  # 2
                L, H = self.policy.log_prob_and_entropy(s, a)
                terms = self.surrogate(L, L_old, A) + (beta * H if beta else 0)
                J_hat = terms.mean()  # 4
                gradient_step(self.optimizer, J_hat, eta, self.policy, max_norm=self.config.max_norm)  # 5
                surrogates.append(J_hat.item() if n == 1 else per_seed(terms, n))
            if self.config.target_kl is not None and self._moved(batch)[0] > self.config.target_kl:
                break

        return self._metrics(rollout, batch, losses, surrogates, per_seed(H, n))

    def surrogate(self, L: Tensor, L_old: Tensor, A: Tensor) -> Tensor:
        """Return what each step adds to Ĵ, without the entropy bonus: tensors of shape (N,)."""
        if self.config.surrogate == "plain":
            return A * L  # as ``returns.surrogate``
        rho = importance_weight(L, L_old)
        return clipped_surrogate(rho, A, self.config.clip) if self.config.surrogate == "clipped" else rho * A

    def _rates(self) -> tuple[float, float]:
        """Return both learning rates at the beginning of an update; warn once if nothing will be learnt."""
        eta, eta_critic = self.eta(self.n_steps), self.eta_critic(self.n_steps)
        if eta == 0 and not self._warned:
            self._warned = True
            warnings.warn(
                f"nothing is learnt any more: at step {self.n_steps:,} the learning rate is 0; "
                "a larger anneal_steps lasts longer",
                stacklevel=3,
            )
        return eta, eta_critic

    @torch.no_grad()
    def _batch(self, rollout: Rollout) -> Batch:
        """Estimate targets and advantages with the critic, and log π₀ with the actor, before either moves."""
        mask, (v, delta) = rollout.mask, self.critic.td_errors(rollout)
        A = gae(delta, self.config.gamma, self.config.lam, done=rollout.done)
        target = (v + A)[mask]
        self.critic.update_average_reward(delta[mask])
        if self.config.standardize:
            A = self.critic.standardize(A, rollout)
        s, a = rollout.s[:, :-1][mask], rollout.a[mask]
        L = self.policy.log_prob(s, a)
        return Batch(s, a, target, torch.as_tensor(A[mask], dtype=L.dtype), L)

    @torch.no_grad()
    def _moved(self, batch: Batch) -> tuple[float, float, float]:
        """Return the estimated KL divergence, the clipped fraction and the largest weight of a rollout."""
        n, L = n_seeds(self._rng), self.policy.log_prob(batch.s, batch.a)
        rho = importance_weight(L, batch.L)
        clipped = per_seed(is_clipped(rho, batch.A, self.config.clip).double(), n)
        return per_seed(kl_estimate(L, batch.L), n), clipped, per_seed(rho, n, "amax")

    def _metrics(
        self, rollout: Rollout, batch: Batch, losses: list[float], surrogates: list[float], entropy: float
    ) -> UpdateMetrics:
        n, (kl, clipped_fraction, max_weight) = n_seeds(self._rng), self._moved(batch)
        return UpdateMetrics(
            self.n_steps,
            rollout.episode_returns,
            per_seed(rollout.r, n),
            np.mean(losses, axis=0).tolist(),
            np.mean(surrogates, axis=0).tolist(),
            gradient_norm(self.policy.parameters(), n),
            entropy,
            kl,
            clipped_fraction,
            max_weight,
            len(losses),
        )

    def _annealed(self, name: str, eta: float | Schedule) -> Schedule:
        anneal_steps = self.config.anneal_steps
        if anneal_steps is None:
            return as_schedule(name, eta)
        if callable(eta):
            raise ValueError(f"anneal_steps must be None where {name} is a schedule, got {anneal_steps}")
        checks.positive(**{name: eta})
        return as_schedule(name, functools.partial(linear_anneal, eta, anneal_steps))

    def _reset(self) -> None:
        self._state = RolloutState(self.env, self._rng, self.n_steps)


def _entropy(policy: PolicyWithEntropy, s: np.ndarray, a: np.ndarray) -> Tensor:
    return policy.log_prob_and_entropy(s, a)[1]
