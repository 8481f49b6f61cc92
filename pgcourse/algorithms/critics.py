"""Critics: learning the value function V of a policy, by Monte Carlo, TD or anything in between.

w ← w + η (target − v(s)) ∂v(s)/∂w

Monte Carlo   target = Gₜ                         known at the end of the episode            (slide 58)
TD            target = rₜ + γ v(sₜ₊₁)             known one step later: bootstrapping        (slide 59)
n-step, λ     target = v(sₜ) + Σₗ (γλ)ˡ δₜ₊ₗ      in between, ``td.n_step_advantage`` and ``td.gae``

A target that contains v depends on w too. Its gradient is left out: a *semi-gradient* step.

Slides 57–59; Sutton & Barto (2018), chapters 6, 7, 9 and 12.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pgcourse import checks
from pgcourse.algorithms.collect import Rollout, RolloutState, check_rollout_length, collect_rollout
from pgcourse.algorithms.compatibility import check_actions, check_environment, check_output, repeated
from pgcourse.algorithms.config import gradient_step, make_optimizer
from pgcourse.algorithms.protocols import Environment, Policy, ValueFunction
from pgcourse.algorithms.seeds import Seeds, each_seed, equal_blocks, per_seed, random_stream
from pgcourse.arrays import Float
from pgcourse.maths.returns import standardize
from pgcourse.maths.td import gae, td_error, value_loss
from pgcourse.networks.mlp import as_tensor
from pgcourse.networks.stacked import n_seeds


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Settings of a ``Critic``."""

    eta_critic: float = checks.setting(0.01, "learning rate η′ of the critic, positive")
    gamma: float = checks.setting(0.99, "discount γ per step, from 0 to 1; slides 56 and 60 have none")
    lam: float = checks.setting(0.95, "λ of the λ-return and of GAE, from 0 to 1: 0 is TD, 1 Monte Carlo")
    eta_average_reward: float | None = checks.setting(
        None, "step size of the average reward r̄ in continuing tasks, with γ = 1; None has no average reward"
    )
    optimizer: str = checks.setting("Adam", "Adam, RMSprop or SGD")

    def __post_init__(self) -> None:
        checks.positive(eta_critic=self.eta_critic)
        checks.fraction(gamma=self.gamma, lam=self.lam)
        if self.eta_average_reward is not None:
            checks.positive(eta_average_reward=self.eta_average_reward)
            if self.gamma != 1:
                raise ValueError(f"gamma must be 1 where an average reward is subtracted, got {self.gamma}")


def check_standardize(standardize: bool, n: float) -> None:
    """The advantages of n steps may be standardised if they are more than one: a single one would be 0."""
    if standardize and n == 1:
        only = "one step of one environment, whose standardised advantage is 0: nothing would be learnt"
        raise ValueError(f"standardize must be False where an update has {only}, got True")


class Critic:
    """A value network and its optimiser. Called with states it gives v(s); ``update`` fits it to its targets.

    δₜ = rₜ + γ v(sₜ₊₁) − v(sₜ)        target = v(sₜ) + Σₗ (γλ)ˡ δₜ₊ₗ

    A terminated episode has no next value. A truncated one bootstraps from its final observation. In a
    continuing task without discount, the value is relative to the average reward r̄ (slide 52's first
    question):

    δₜ = rₜ − r̄ + v(sₜ₊₁) − v(sₜ)        r̄ ← r̄ + η · mean of these δₜ

    Args:
        value: network from N states to v, shape (N,).
        config: settings.
        fused: whether Adam moves all weights in one call, which is faster and rounds differently.

    Slides 57–59; Sutton & Barto (2018), section 13.6 for the average reward.
    """

    def __init__(self, value: ValueFunction, config: CriticConfig = CriticConfig(), *, fused: bool = False):
        if config.eta_average_reward is not None and n_seeds(value) > 1:
            got = config.eta_average_reward
            raise ValueError(f"eta_average_reward must be None where several seeds learn at once, got {got}")
        self.value, self.config, self.r_bar, self._warned = value, config, 0.0, False
        self.optimizer = make_optimizer(config.optimizer, value.parameters(), config.eta_critic, fused=fused)

    @torch.no_grad()
    def __call__(self, s: np.ndarray) -> Float[np.ndarray, " N"]:
        """Return v(s) for N states, shape (N,)."""
        v = self.value(s)
        if v.shape != (len(s),):
            raise ValueError(f"value(s) must have shape {(len(s),)}, got {tuple(v.shape)}")
        return v.numpy().astype(float)

    def td_errors(self, rollout: Rollout) -> tuple[Float[np.ndarray, "N T"], Float[np.ndarray, "N T"]]:
        """Return v(s) and the TD error δ of every step, both of shape (N, T)."""
        s = rollout.s
        v = self(s.reshape(-1, *s.shape[2:])).reshape(s.shape[:2])
        next_v = v[:, 1:].copy()
        if len(rollout.final_observations):
            counts = rollout.truncated.reshape(n_seeds(self.value), -1).sum(axis=1)
            final, real = equal_blocks(rollout.final_observations, counts)
            next_v[rollout.truncated] = self(final)[real]  # not the next episode's first state
        v = v[:, :-1]
        return v, td_error(rollout.r - self.r_bar, v, next_v, rollout.terminated, self.config.gamma)

    def advantages(self, rollout: Rollout) -> Float[np.ndarray, "N T"]:
        """Return the generalised advantage estimate of every step, shape (N, T)."""
        _, delta = self.td_errors(rollout)
        return gae(delta, self.config.gamma, self.config.lam, done=rollout.done)

    def standardize(self, A: Float[np.ndarray, "N T"], rollout: Rollout) -> Float[np.ndarray, "N T"]:
        """Return the standardised advantages of a rollout; warn once if it has a single step."""
        n = n_seeds(self.value)
        if rollout.mask.sum() == n and not self._warned:
            self._warned = True
            warnings.warn(
                "an update has learnt nothing: the standardised advantage of its one step is 0; "
                "more environments or longer rollouts have more steps",
                stacklevel=3,
            )
        return each_seed(_standardize, n, A, rollout.mask, rollout.r)

    def update(self, rollout: Rollout) -> float:
        """Move v, and r̄ if there is one, towards the targets of a rollout; return the loss before it."""
        v, delta = self.td_errors(rollout)
        target = v + gae(delta, self.config.gamma, self.config.lam, done=rollout.done)
        self.update_average_reward(delta[rollout.mask])
        return self.fit(rollout.s[:, :-1][rollout.mask], target[rollout.mask])

    def update_average_reward(self, delta: Float[np.ndarray, " N"]) -> None:
        """Move r̄, if there is one, by the mean of N TD errors."""
        if self.config.eta_average_reward is not None:
            self.r_bar += self.config.eta_average_reward * float(delta.mean())

    def fit(
        self, s: np.ndarray, target: np.ndarray, *, eta: float | None = None, max_norm: float | None = None
    ) -> float:
        """Take a step towards targets, shape (N,), for N states; return the loss before it.

        Its learning rate is ``eta``, or the config's; a gradient longer than ``max_norm`` is shortened to it.
        """
        v, n = self.value(s), n_seeds(self.value)
        loss = value_loss(v, y := as_tensor("target", target, v.dtype))
        eta = self.config.eta_critic if eta is None else eta
        gradient_step(self.optimizer, loss, eta, self.value, max_norm=max_norm)
        return loss.item() if n == 1 else per_seed((v - y) ** 2 / 2, n)

    def state_dict(self) -> dict:
        """Return a copy of the weights, the optimiser's state and the average reward."""
        state = {"value": self.value.state_dict(), "optimizer": self.optimizer.state_dict()}
        return copy.deepcopy(state) | {"r_bar": self.r_bar}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state."""
        self.value.load_state_dict(state["value"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.r_bar = state["r_bar"]


def _standardize(A: np.ndarray, mask: np.ndarray, r: np.ndarray) -> np.ndarray:
    return standardize(A, mask, scale=float(abs(r).max()))


@dataclass(frozen=True, kw_only=True)
class PolicyEvaluationConfig(CriticConfig):
    """Settings of ``PolicyEvaluation``."""

    rollout_length: int | None = checks.setting(
        32, "steps T in each environment for each update, at least 1; None waits for a whole episode of each"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole(1, rollout_length=self.rollout_length)


class EvaluationMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # environment steps so far
    episode_returns: Float[np.ndarray, " n_episodes"]  # undiscounted, of the episodes that ended
    reward: float  # mean reward per step
    critic_loss: float


class PolicyEvaluation:
    """Policy evaluation: learn V of a policy that does not change, as slides 58 and 59 do.

    Args:
        env: vector environment; ``Environment`` says what is asked of it.
        policy: draws the actions.
        value: network from N states to v, shape (N,).
        config: settings. One step is TD; whole episodes with λ = 1 are Monte Carlo.
        seed: of the environment and the actions; several learn at once (``seeds``).
    """

    def __init__(
        self,
        env: Environment,
        policy: Policy,
        value: ValueFunction,
        config: PolicyEvaluationConfig = PolicyEvaluationConfig(),
        *,
        seed: Seeds = 0,
    ):
        check_environment(env)
        self.env, self.policy, self.critic, self.config = env, policy, Critic(value, config), config
        self._rng = random_stream(seed, env, value)
        check_rollout_length(config.rollout_length, self._rng)
        self._state = RolloutState(env, self._rng)
        check_actions(env, policy, self._state.s)
        s = repeated(self._state.s, value)
        check_output("value(s)", value, (s,), (len(s),))

    def update(self) -> EvaluationMetrics:
        """Collect a rollout and update the critic: one iteration of slide 58's or 59's loop."""
        rollout = collect_rollout(self.env, self.policy, self.config.rollout_length, self._rng, self._state)
        loss, reward = self.critic.update(rollout), per_seed(rollout.r, n_seeds(self.critic.value))
        return EvaluationMetrics(self._state.n_steps, rollout.episode_returns, reward, loss)
