"""Temporal-difference learning: TD errors, advantage estimates, and how a value function learns.

Monte Carlo  target = Gₜ                  known at the end of the episode     (slide 58)
TD           target = rₜ + γ v(sₜ₊₁)      known one step later                (slide 59)
n-step, λ    target = v(sₜ) + advantage   between the two

The value function moves towards its target, w ← w + η (target − v(s)) ∂v(s)/∂w. A target that contains v
depends on w, too. This is ignored: the target counts as data, which makes the step a *semi-gradient* step.

Slides 56–59; Sutton & Barto (2018), chapters 6, 7, 9 and 12.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks
from pgcourse.maths.returns import reward_to_go

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from pgcourse.maths.returns import Array, Mask, Steps

    Weights = Float[np.ndarray, "*batch F"]
    Features = Float[np.ndarray, "*batch T F"]
    Rate = float | Float[np.ndarray, "*batch"]


def td_target(r: Array, next_v: Array, terminated: Array, gamma: float) -> Array:
    """Return the one-step temporal-difference targets of a batch of transitions.

    yₜ = rₜ + γ (1 − terminatedₜ) v(sₜ₊₁)

    A truncated episode still bootstraps from its final observation; only a terminated one does not.

    Args:
        r: rewards, an array or tensor of any shape.
        next_v: values of the next states, like ``r``; finite, also where ``terminated``.
        terminated: whether the episode ended by itself at this step, boolean, like ``r``.
        gamma: discount per step, 0 ≤ γ ≤ 1.

    Slides 59, 61 and 66; Sutton & Barto (2018), equation 6.2.
    """
    checks.same_shape(r=r, next_v=next_v, terminated=terminated)
    if not str(terminated.dtype).endswith("bool"):  # of integers, ~ is no negation
        raise ValueError(f"terminated must hold booleans, got {terminated.dtype}")
    checks.fraction(gamma=gamma)
    return r + float(gamma) * (~terminated * next_v)


def td_error(r: Array, v: Array, next_v: Array, terminated: Array, gamma: float) -> Array:
    """Return the one-step temporal-difference errors of a batch of transitions.

    δₜ = rₜ + γ (1 − terminatedₜ) v(sₜ₊₁) − v(sₜ)

    With the exact value function its conditional expectation is the advantage A(sₜ, aₜ).

    Args:
        r, next_v, terminated, gamma: as for ``td_target``.
        v: values of the states, like ``r``.

    Slide 56; Sutton & Barto (2018), equation 6.5.
    """
    checks.same_shape(r=r, v=v)
    return td_target(r, next_v, terminated, gamma) - v


def n_step_advantage(delta: Steps, n: int, gamma: float = 1.0, *, done: Mask | None = None) -> Steps:
    """Return the n-step advantage estimates, discounted sums of n TD errors.

    δₜ + γ δₜ₊₁ + … + γⁿ⁻¹ δₜ₊ₙ₋₁ = rₜ + … + γⁿ⁻¹ rₜ₊ₙ₋₁ + γⁿ vₜ₊ₙ − vₜ        n = 1: δₜ;  n ≥ T: Gₜ − vₜ

    Each value in between is added by one TD error and subtracted by the next. Plus vₜ, the estimate is the
    n-step return, a target for v.

    Args:
        delta: TD errors, shape (T,) or (N, T); float.
        n: how many steps, at least 1; fewer where the episode or the array ends sooner.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        done: whether an episode ended at this step, boolean, like ``delta``; None for nowhere.

    Slides 58–59; Sutton & Barto (2018), equation 7.1 and exercise 7.1.
    """
    delta = checks.floats("delta", delta)
    checks.count(1, math.inf, n=n)
    checks.fraction(gamma=gamma)
    goes_on = ~checks.booleans(delta.shape, default=False, done=done)
    goes_on[..., -1:] = False  # no step follows the last one
    advantage, term = delta.copy(), delta
    for _ in range(min(int(n), delta.shape[-1]) - 1):
        term = float(gamma) * np.where(goes_on, np.roll(term, -1, axis=-1), 0)
        advantage += term
    return advantage


def gae(delta: Steps, gamma: float = 1.0, lam: float = 1.0, *, done: Mask | None = None) -> Steps:
    """Return the generalised advantage estimates, weighted averages of all n-step estimates Aₜ⁽ⁿ⁾.

    Aₜ = (1 − λ) Σₙ λⁿ⁻¹ Aₜ⁽ⁿ⁾ = Σₖ (γλ)ᵏ δₜ₊ₖ = δₜ + γλ Aₜ₊₁        λ = 0: δₜ;  λ = 1: Gₜ − vₜ

    Plus vₜ, the estimate is the λ-return, a target for v.

    Args:
        delta, gamma, done: as for ``n_step_advantage``.
        lam: λ, 0 ≤ λ ≤ 1.

    Schulman, Moritz, Levine, Jordan & Abbeel (2016), equation 16; Sutton & Barto (2018), equation 12.2.
    """
    delta = checks.floats("delta", delta)
    checks.fraction(gamma=gamma, lam=lam)
    if done is None:
        return reward_to_go(delta, float(gamma) * lam)
    decay = np.where(checks.booleans(delta.shape, default=False, done=done), 0, float(gamma) * lam)
    advantage = delta.copy()
    for t in reversed(range(delta.shape[-1] - 1)):
        advantage[..., t] += decay[..., t] * advantage[..., t + 1]
    return advantage


def value_loss(v: Float[Tensor, "..."], target: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Return half the mean squared error of the values.

    1/N Σₜ ½ (v(sₜ) − targetₜ)²        Its gradient is the step of slides 58, 59 and 66, (v − target) ∂v/∂w.

    Args:
        v: v(s) or q(s, a) of every step, any shape.
        target: like ``v``. It is data, not a function of w: no gradient flows into it.
    """
    from torch.nn import functional as F

    checks.same_shape(v=v, target=target)
    return 0.5 * F.mse_loss(v, target.detach())


def gradient_monte_carlo(w: Weights, x: Features, target: Steps, eta: Rate) -> Weights:
    """Return the weights of a linear value function v = w·x after one episode, visit after visit (slide 58).

    w ← w + η (targetₜ − w·xₜ) xₜ        t = 1, 2, …, T

    Args:
        w: weights, shape (..., F).
        x: features of each step's state, shape (..., T, F), 0 after the end.
        target: shape (..., T); with the returns Gₜ it is Monte Carlo.
        eta: learning rate η > 0, a number or shape (...). Leading axes are broadcast: 20 learning rates on
            100 runs are ``eta`` of shape (20, 1).
    """
    w, x, eta = _linear(w, x, eta)
    target = checks.finite_floats("target", target)
    if target.shape[-1:] != x.shape[-2:-1]:
        got = target.shape[-1] if target.ndim else f"a single number, {target}"
        raise ValueError(f"target must have a number for each of {x.shape[-2]} steps, got {got}")
    _check_leading_axes(w=w.shape[:-1], x=x.shape[:-2], eta=eta.shape, target=target.shape[:-1])
    for t in range(x.shape[-2]):
        x_t = x[..., t, :]
        w = w + (eta * (target[..., t] - (w * x_t).sum(axis=-1)))[..., None] * x_t
    return w


def td_lambda(w: Weights, x: Features, r: Steps, eta: Rate, gamma: float = 1.0, lam: float = 0.0) -> Weights:
    """Return the weights of a linear value function v = w·x after one episode of TD(λ), step after step.

    zₜ = γλ zₜ₋₁ + xₜ        w ← w + η (rₜ + γ w·xₜ₊₁ − w·xₜ) zₜ        t = 1, 2, …, T

    Through the eligibility trace z, a TD error also changes the values of earlier states, each γλ times as
    much as the next. λ = 0 is TD (slide 59; Sutton & Barto, 2018, section 12.2).

    Args:
        w, eta: as for ``gradient_monte_carlo``.
        x: features of all states, also the one after the last step, shape (..., T+1, F), 0 from the end on.
        r: rewards, shape (..., T), 0 after the end.
        gamma, lam: discount γ per step, and λ, each from 0 to 1.
    """
    w, x, eta = _linear(w, x, eta)
    r = checks.finite_floats("r", r)
    if not r.ndim:
        raise ValueError(f"r must have shape (..., T), got a single number, {r}")
    if r.shape[-1] + 1 != x.shape[-2]:
        raise ValueError(f"x must have one step more than r, {r.shape[-1] + 1}, got {x.shape[-2]}")
    _check_leading_axes(w=w.shape[:-1], x=x.shape[:-2], eta=eta.shape, r=r.shape[:-1])
    checks.fraction(gamma=gamma, lam=lam)
    z = np.zeros(x.shape[:-2] + x.shape[-1:])
    for t in range(r.shape[-1]):
        z = gamma * lam * z + x[..., t, :]
        delta = r[..., t] + (w * (gamma * x[..., t + 1, :] - x[..., t, :])).sum(axis=-1)
        w = w + (eta * delta)[..., None] * z
    return w


def _linear(w: Weights, x: Features, eta: Rate) -> tuple[Weights, Features, np.ndarray]:
    w, x = checks.finite_floats("w", w), checks.finite_floats("x", x)
    eta = checks.numbers("eta", eta).astype(float, copy=False)
    if not w.ndim:
        raise ValueError(f"w must have shape (..., F), got a single number, {w}")
    if x.ndim < 2 or w.shape[-1] != x.shape[-1]:
        raise ValueError(f"x must have shape (..., T, {w.shape[-1]}), like the weights, got {x.shape}")
    if not ((eta > 0) & np.isfinite(eta)).all():
        raise ValueError(f"eta must be positive, got {eta}")
    return w, x, eta


def _check_leading_axes(**shapes: tuple[int, ...]) -> None:
    """The axes before those of steps and features must be broadcast together."""
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"{', '.join(shapes)} must have leading axes that are alike, got {shapes}") from None
