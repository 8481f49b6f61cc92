"""The actor–critic: replace the return by the critic's estimate of the advantage.

Slide 61, one iteration for each step of the environment:

1. take a ~ π(·∣s), get r and s'
2. update v(s) with the target r + γ v(s')
3. A = r + γ v(s') − v(s)
4. ∂J/∂w ≈ A ∂ log π(a∣s)/∂w
5. w ← w + η ∂J/∂w

Lines 2 and 3 change places: the critic that line 2 has moved has seen the action, and a baseline that depends
on the action biases the gradient. With one environment, ``rollout_length=1``, ``lam=0`` and
``critic_first=True``, the class below is the slide. A2C (Mnih et al., 2016) has N environments, rollouts of T
steps, and the generalised advantage estimate of Schulman, Moritz, Levine, Jordan & Abbeel (2016).

Slides 51–61; Sutton & Barto (2018), section 13.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pgcourse import checks
from pgcourse.algorithms.collect import RolloutState, check_rollout_length, collect_rollout
from pgcourse.algorithms.compatibility import (
    check_actions,
    check_environment,
    check_output,
    check_separate,
    repeated,
)
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, make_optimizer
from pgcourse.algorithms.critics import Critic, PolicyEvaluationConfig, check_standardize
from pgcourse.algorithms.protocols import Environment, Policy, ValueFunction
from pgcourse.algorithms.resumable import Resumable
from pgcourse.algorithms.seeds import Seeds, n_seeds, per_seed, random_stream
from pgcourse.arrays import Float
from pgcourse.maths.returns import surrogate
from pgcourse.networks.mlp import gradient_norm


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(PolicyEvaluationConfig):
    """Settings of ``ActorCritic``: the actor's, and those of its critic and of the rollouts."""

    eta: float | Schedule = checks.setting(
        0.001, "learning rate η of the actor, positive, or a function of the steps so far"
    )
    eta_decay_steps: float | None = checks.setting(
        None, "steps after which η has fallen to a half; None keeps it constant"
    )
    standardize: bool = checks.setting(False, "whether to standardise the advantages of a rollout")
    critic_first: bool = checks.setting(
        False, "whether the critic moves before it is asked for the advantage, as on slide 61: biased"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_first and self.rollout_length != 1:
            form = "slide 61's form, one step an update"
            raise ValueError(f"rollout_length must be 1 with critic_first, {form}, got {self.rollout_length}")


class UpdateMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # environment steps so far
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes that ended
    reward: float  # mean reward per step
    critic_loss: float
    surrogate: float
    gradient_norm: float  # of the actor
    entropy: float  # estimate −mean log π(a∣s) over the actions taken, in nats


class ActorCritic(Resumable):
    """Slide 61's online actor–critic, and A2C.

    The slide's γ discounts the value of the next state. States are not weighted by γᵗ as the gradient of the
    discounted return would have it (chapter 5): they count as often as they are visited.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: the actor, a network with ``log_prob(s, a)`` and ``sample(s, rng)``.
        value: the critic's network, from N states to v, shape (N,).
        config: settings.
        seed: of the environment and the actions; several learn at once, each as if alone (``seeds``).

    Raises:
        ValueError: also if the networks and the environment do not fit together, or nothing would be learnt.
    """

    stateful = ("policy", "optimizer", "critic")

    def __init__(
        self,
        env: Environment,
        policy: Policy,
        value: ValueFunction,
        config: ActorCriticConfig = ActorCriticConfig(),
        *,
        seed: Seeds = 0,
    ):
        check_environment(env)
        check_separate(policy=policy, value=value)
        self._rng = random_stream(seed, env, policy, value)
        check_rollout_length(config.rollout_length, self._rng)
        n_envs = env.num_envs // n_seeds(self._rng)
        check_standardize(config.standardize, n_envs * (config.rollout_length or np.inf))
        self.env, self.policy, self.critic, self.config = env, policy, Critic(value, config), config
        self.eta = as_schedule("eta", config.eta, config.eta_decay_steps)
        self.optimizer = make_optimizer(config.optimizer, policy.parameters(), self.eta(0), maximize=True)
        self.n_steps = 0
        self._reset()
        s = self._state.s
        a = check_actions(env, policy, s)
        check_output("policy.log_prob(s, a)", policy.log_prob, (s, a), (len(a),))
        s = repeated(s, value)
        check_output("value(s)", value, (s,), (len(s),))

    def update(self) -> UpdateMetrics:
        """One iteration of slide 61's loop, with line 3 before line 2 unless ``critic_first``."""
        length = self.config.rollout_length
        rollout = collect_rollout(self.env, self.policy, length, self._rng, self._state)  # 1
        self.n_steps = self._state.n_steps
        if self.config.critic_first:
            critic_loss = self.critic.update(rollout)  # 2
            A = self.critic.advantages(rollout)  # 3
        else:
            A = self.critic.advantages(rollout)  # 3
            critic_loss = self.critic.update(rollout)  # 2
        if self.config.standardize:
            A = self.critic.standardize(A, rollout)
        L = self.policy.log_prob(rollout.s[:, :-1][rollout.mask], rollout.a[rollout.mask])
        weights = torch.as_tensor(A[rollout.mask], dtype=L.dtype)
        J_hat = surrogate(L, weights, n=len(L))  # 4
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps), self.policy)  # 5

        n, returns = n_seeds(self._rng), rollout.episode_returns
        reward, norm = per_seed(rollout.r, n), gradient_norm(self.policy.parameters(), n)
        value = J_hat.item() if n == 1 else per_seed(weights * L, n)
        return UpdateMetrics(self.n_steps, returns, reward, critic_loss, value, norm, per_seed(-L, n))

    def _reset(self) -> None:
        self._state = RolloutState(self.env, self._rng, self.n_steps)
