"""Critics: learning V of a policy from what it was paid.

w ← w + η (target − v(s)) ∂v(s)/∂w

Monte Carlo   target = Gᵢ                  known at the end of the episode                            (slide 58)
TD            target = rᵢ + γ v(sᵢ₊₁)      known one step later                                       (slide 59)
n-step, λ     target = v(sᵢ) + Σⱼ (γλ)ʲ δᵢ₊ⱼ    between the two, ``returns.n_step_advantage`` and ``returns.gae``

A target in which v appears depends on w too. Its slope is left out: the target is data, the step a *semi-gradient* one.

Slides 57–59; Sutton & Barto (2018), chapters 6, 7, 9 and 12.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor, nn
from torch.nn import functional as F

from pgcourse.maths.returns import gae

# Linear critics, many side by side: for experiments that take hundreds of them


def learn_from_returns(w, x, target, eta):
    """Return the weights after one episode, whose targets are given: at its end, visit after visit.

    w ← w + η (targetᵢ − w·xᵢ) xᵢ        i = 1, 2, …, T

    Args:
        w: weights, shape (..., F).
        x: features of each step's state, shape (..., T, F), 0 after the end.
        target: what v is to come closer to, shape (..., T): with Gᵢ it is Monte Carlo.
        eta: learning rate, positive, shape (...) or a number. All are broadcast: 20 rates on 100 courses are ``eta`` of shape (20, 1).

    Returns:
        Float array of shape (..., F).

    Raises:
        ValueError: if shapes do not fit or ``eta`` is not positive.

    Slide 58.
    """
    w, x, eta = _linear(w, x, eta)
    target = np.asarray(target, float)
    if target.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"target must have one number for each of {x.shape[-2]} steps, got {target.shape[-1]}"
        )
    for i in range(x.shape[-2]):
        x_i = x[..., i, :]
        w = w + (eta * (target[..., i] - (w * x_i).sum(axis=-1)))[..., None] * x_i
    return w


def learn_by_td(w, x, r, eta, gamma=1.0, lam=0.0):
    """Return the weights after one episode, learning at every step, with eligibility traces: TD(λ).

    zᵢ = γλ zᵢ₋₁ + xᵢ        w ← w + η (rᵢ + γ w·xᵢ₊₁ − w·xᵢ) zᵢ        i = 1, 2, …, T

    A surprise is learnt from not only where it came, but λ times as much in the state before, and so on backwards. With λ = 0 it is TD.

    Args:
        w: weights, shape (..., F).
        x: features of the states, from the first to the one after the last step, shape (..., T+1, F), 0 from the end on.
        r: rewards, shape (..., T), 0 after the end.
        eta: learning rate, as for ``learn_from_returns``.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        lam: λ, 0 ≤ λ ≤ 1.

    Returns:
        Float array of shape (..., F).

    Raises:
        ValueError: if shapes do not fit or a number is out of range.

    Slide 59; Sutton & Barto (2018), section 12.2.
    """
    w, x, eta = _linear(w, x, eta)
    r = np.asarray(r, float)
    if r.shape[-1] + 1 != x.shape[-2]:
        raise ValueError(f"x must have one step more than r, {r.shape[-1] + 1}, got {x.shape[-2]}")
    _shares(gamma=gamma, lam=lam)
    z = np.zeros(x.shape[:-2] + x.shape[-1:])
    for i in range(r.shape[-1]):
        z = gamma * lam * z + x[..., i, :]
        delta = r[..., i] + (w * (gamma * x[..., i + 1, :] - x[..., i, :])).sum(axis=-1)
        w = w + (eta * delta)[..., None] * z
    return w


# Critics of any kind


def loss(v: Tensor, target: Tensor) -> Tensor:
    """Return half the mean squared distance to the targets, whose slope is the slides' step: (v − target) ∂v/∂w.

    1/N Σᵢ ½ (v(sᵢ) − targetᵢ)²

    Args:
        v: v(s) of every step, shape (N,).
        target: shape (N,); data, not a function of w: no gradient flows into it.

    Raises:
        ValueError: if the shapes differ.

    Slides 58–59.
    """
    if v.shape != target.shape:
        raise ValueError(f"target must have the shape of v, {tuple(v.shape)}, got {tuple(target.shape)}")
    return 0.5 * F.mse_loss(v, target.detach())


class Critic:
    """A value function, and what makes it better: called with states it says what is to be expected, ``learn`` moves it towards targets.

    Args:
        value: module that maps N states to v, shape (N,): ``TabularValue``, ``LinearValue``, ``NetworkValue`` or another.
        eta: learning rate η > 0.
        optimizer: what descends, one of PyTorch's.

    Raises:
        ValueError: if ``eta`` is not a positive number.
    """

    def __init__(
        self,
        value: nn.Module,
        *,
        eta: float = 1e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    ):
        _positive(eta=eta)
        self.value = value
        self.optimizer = optimizer(value.parameters(), lr=eta)
        self._kind = next(value.parameters()).dtype

    @torch.no_grad()
    def __call__(self, s) -> np.ndarray:
        """Return v(s) for N states, shape (N,)."""
        return self.value(s).numpy().astype(float)

    def learn(self, s, target) -> float:
        """Take one step towards the targets, shape (N,), of N states; return the loss before it."""
        error = loss(self.value(s), torch.as_tensor(target, dtype=self._kind))
        self.optimizer.zero_grad()
        error.backward()
        self.optimizer.step()
        return error.item()

    def state_dict(self) -> dict:
        """Return a copy of the weights and of what the optimiser remembers."""
        return copy.deepcopy({"value": self.value.state_dict(), "optimizer": self.optimizer.state_dict()})

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state.

        Raises:
            RuntimeError: if the weights have other names or shapes.
        """
        self.value.load_state_dict(state["value"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


class Rollout(NamedTuple):
    """T steps of N environments. Where an episode is over, the next state in the row is the first of another."""

    s: np.ndarray  # (N, T+1, ...)
    a: np.ndarray  # (N, T, ...)
    r: np.ndarray  # (N, T)
    terminated: np.ndarray  # (N, T): whether the episode ended with this step, by itself
    truncated: np.ndarray  # (N, T): or was cut off
    last: np.ndarray  # (M, ...): the states in which episodes were cut off, in the order of ``truncated``

    @property
    def over(self) -> np.ndarray:
        return self.terminated | self.truncated


class Evaluation(NamedTuple):
    """What one turn of the loop saw and did."""

    n_steps: int  # since the beginning
    returns: np.ndarray  # total reward of each episode that ended
    reward: float  # mean reward of a step
    critic_loss: float


class PolicyEvaluation:
    """Learn V of a policy that stays what it is, by TD, by Monte Carlo or by what is between them.

    Every ``update()`` takes ``n_steps`` steps in every environment and one step of the critic with what these show:

    δᵢ = rᵢ + γ v(sᵢ₊₁) − v(sᵢ)        target = v(sᵢ) + Σⱼ (γλ)ʲ δᵢ₊ⱼ

    With one step it is TD, with whole episodes and λ = 1 Monte Carlo. An episode that ended by itself leaves nothing to expect; of one that
    was cut off, what its last state lets expect is counted, for nothing ended but our patience.

    Without discount and without end there is no V to learn, but how much better than average a state is (slide 52's first question):

    δᵢ = rᵢ − r̄ + v(sᵢ₊₁) − v(sᵢ)        r̄ ← r̄ + η · mean of these δᵢ

    Args:
        env: a Gymnasium vector environment that resets itself in the step that ends an episode (``AutoresetMode.SAME_STEP``).
        policy: what acts, by ``sample(s, rng)``.
        critic: what learns.
        gamma: discount per step, 0 ≤ γ ≤ 1; slides 56 and 60 have none, slides 59 and 61 do.
        lam: λ, 0 ≤ λ ≤ 1; makes a difference if there is more than one step.
        n_steps: T, at least 1; None waits for one whole episode of every environment.
        eta_average: learning rate of the average reward r̄, which is then subtracted from all rewards (γ must be 1); None subtracts nothing.
        seed: of the environment and of the actions drawn.

    Raises:
        ValueError: if a number is out of range, or the environment resets itself otherwise.

    Slides 58–59; Sutton & Barto (2018), section 13.6 for the average.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Any,
        critic: Critic,
        *,
        gamma: float = 0.99,
        lam: float = 1.0,
        n_steps: int | None = 1,
        eta_average: float | None = None,
        seed: int = 0,
    ):
        _shares(gamma=gamma, lam=lam)
        if n_steps is not None and not (n_steps >= 1 and n_steps % 1 == 0):
            raise ValueError(f"n_steps must be a whole number of at least 1, or None, got {n_steps}")
        if eta_average is not None:
            _positive(eta_average=eta_average)
            if gamma != 1:
                raise ValueError(f"gamma must be 1 where an average is subtracted, got {gamma}")
        if (mode := env.metadata.get("autoreset_mode")) != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), got {mode}"
            )
        self.env, self.policy, self.critic = env, policy, critic
        self.gamma, self.lam, self.length, self.eta_average = gamma, lam, n_steps, eta_average
        self.n_steps, self.r_bar = 0, 0.0
        self._rng = np.random.default_rng(seed)
        self._begin()

    def _begin(self):
        self._s, _ = self.env.reset(
            seed=int(self._rng.integers(2**30))
        )  # drawn, for seed and seed + 1 would share environments
        self._paid = np.zeros(self.env.num_envs)  # of each environment, in its unfinished episode

    def update(self) -> Evaluation:
        """Act, and learn from it: one turn of slide 58's or 59's loop."""
        rollout, returns = self._act()
        error = self._evaluate(rollout)
        return Evaluation(self.n_steps, returns, float(rollout.r.mean()), error)

    def td_errors(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Return v(s) and δ of every step, shape (N, T), as the critic is now."""
        s = rollout.s
        v = self.critic(s.reshape(-1, *s.shape[2:])).reshape(s.shape[:2])
        after = v[:, 1:].copy()
        if len(rollout.last):
            after[rollout.truncated] = self.critic(
                rollout.last
            )  # not the first state of the next episode, which stands there
        after[rollout.terminated] = 0
        return v[:, :-1], rollout.r - self.r_bar + self.gamma * after - v[:, :-1]

    def advantage(self, rollout: Rollout) -> np.ndarray:
        """Return how much better than expected each step was, shape (N, T), as the critic is now."""
        return gae(self.td_errors(rollout)[1], self.gamma, self.lam, over=rollout.over)

    def _evaluate(self, rollout: Rollout) -> float:
        """Move the critic, and the average, by what the rollout shows; return the critic's loss."""
        v, delta = self.td_errors(rollout)
        target = v + gae(delta, self.gamma, self.lam, over=rollout.over)
        live = self._live(rollout)
        if self.eta_average is not None:
            self.r_bar += self.eta_average * float(delta[live].mean())
        return self.critic.learn(rollout.s[:, :-1][live], target[live])

    def _live(self, rollout: Rollout) -> np.ndarray:
        """Return which steps count: all, or those of each environment's first episode."""
        if self.length is not None:
            return np.ones(rollout.r.shape, bool)
        return np.cumsum(rollout.over, axis=1) - rollout.over == 0

    def _act(self) -> tuple[Rollout, np.ndarray]:
        """Take the steps of one turn; return them, and the returns of the episodes that ended."""
        if self.length is None:
            self._s, _ = self.env.reset()
            self._paid[:] = 0
        states: list[np.ndarray] = [self._s]
        steps: list[tuple] = []
        last: list[tuple] = []  # where and when an episode was cut off, and in which state
        returns: list[float] = []
        waiting = np.ones(self.env.num_envs, bool)  # environments that have not finished an episode yet
        while len(steps) < self.length if self.length else waiting.any():
            a = self.policy.sample(self._s, self._rng)
            self._s, r, terminated, truncated, info = self.env.step(a)
            truncated = truncated & ~terminated
            self._paid += r
            for k in np.flatnonzero(terminated | truncated):
                if self.length or waiting[k]:
                    returns.append(self._paid[k])
                self._paid[k], waiting[k] = 0, False
                if truncated[k]:
                    last.append((k, len(steps), info["final_obs"][k]))
            states.append(self._s)
            steps.append((a, r, terminated, truncated))
            self.n_steps += len(r)
        s, a, r, terminated, truncated = (
            np.swapaxes(np.stack(column), 0, 1) for column in (states, *zip(*steps, strict=True))
        )
        in_order = np.array([s for *_, s in sorted(last, key=lambda cut: cut[:2])])
        return Rollout(s, a, r, terminated, truncated, in_order), np.array(returns)

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except what the environments are in the middle of."""
        return {
            "critic": self.critic.state_dict(),
            "r_bar": self.r_bar,
            "rng": copy.deepcopy(self._rng.bit_generator.state),
            "n_steps": self.n_steps,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state, with new episodes; those that were under way are given up.

        Raises:
            RuntimeError: if the weights have other names or shapes.
        """
        self.critic.load_state_dict(state["critic"])
        self.r_bar, self.n_steps = state["r_bar"], state["n_steps"]
        self._rng.bit_generator.state = state["rng"]
        self._begin()


def _linear(w, x, eta):
    w, x, eta = np.asarray(w, float), np.asarray(x, float), np.asarray(eta, float)
    if w.shape[-1] != x.shape[-1] or x.ndim < 2:
        raise ValueError(
            f"x must have shape (..., steps, {w.shape[-1]}), one number for each of w, got {x.shape}"
        )
    if not ((eta > 0) & np.isfinite(eta)).all():
        raise ValueError(f"eta must be positive, got {eta}")
    return w, x, eta


def _positive(**named):
    for name, number in named.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, got {number}")


def _shares(**named):
    for name, number in named.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {number}")
