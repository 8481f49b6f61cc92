"""Learning from actions that an older policy took: importance weights, clipping, and the distance moved.

ρ(w) = π_w(a∣s) / π₀(a∣s)        Ĵ(w) = 1/n Σₜ ρₜ(w) Aₜ        ∂ρ/∂w = ρ ∂ log π_w(a∣s)/∂w

π₀ is the policy that acted. At its weights ρ is 1, and the gradient is that of ``returns.surrogate``. Further
away, Ĵ holds for the states that π₀ visits, which are no longer those of π_w. Two remedies: a bound
on the Kullback–Leibler divergence, the trust region, which keeps w near; and clipping, which only stops the
gradient of a sample whose weight has moved far enough in the direction that its advantage asks for.

On no slide; Schulman, Levine, Abbeel, Jordan & Moritz (2015); Schulman, Wolski, Dhariwal, Radford & Klimov
(2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks

if TYPE_CHECKING:
    from jaxtyping import Float

    from pgcourse.maths.returns import Array


def importance_weight(L: Array, L_old: Array) -> Array:
    """Return how much more probable each action is than when it was taken.

    ρ = π_w(a∣s) / π₀(a∣s) = exp(L − L₀)

    Args:
        L: log π_w(a∣s) of every step, an array or tensor of any shape. For an action of several numbers it is
            one number, the sum of their log-probabilities.
        L_old: log π₀(a∣s), like ``L``, from before the first step away from π₀; no gradient flows into it.

    Schulman et al. (2017), section 3, where it is r(θ).
    """
    difference = _log_ratio(L, L_old)
    return np.exp(difference) if isinstance(difference, np.ndarray) else difference.exp()


def clipped_surrogate(rho: Array, A: Array, clip: float) -> Array:
    """Return what each step adds to PPO's surrogate objective; their mean is Ĵ.

    min(ρA, clip(ρ, 1−ε, 1+ε) A) = A · min(ρ, 1+ε) if A ≥ 0,  A · max(ρ, 1−ε) if A < 0

    It is never above ρA. The gradient is that of ρA, except that it is zero for a good action that has become
    more probable, A > 0 and ρ > 1+ε, and for a bad one that has become less probable, A < 0 and ρ < 1−ε.

    Args:
        rho: importance weights ρ, an array or tensor of any shape.
        A: advantages, like ``rho``; no gradient flows into them.
        clip: ε > 0. From 1 on, the weights of bad actions are not clipped.

    Schulman et al. (2017), equation 7.
    """
    _check(rho=rho, A=A)
    checks.positive(clip=clip)
    A, low, high = A.detach() if hasattr(A, "detach") else A, 1 - float(clip), 1 + float(clip)
    return A.clip(0.0, None) * rho.clip(None, high) + A.clip(None, 0.0) * rho.clip(low, None)


def is_clipped(rho: Array, A: Array, clip: float) -> Array:
    """Return for each step whether clipping has set its gradient to zero, as booleans. Arguments as above."""
    _check(rho=rho, A=A)
    checks.positive(clip=clip)
    return ((A > 0) & (rho > 1 + float(clip))) | ((A < 0) & (rho < 1 - float(clip)))


def kl_estimate(L: Array, L_old: Array) -> Array:
    """Return for each step an estimate of KL(π₀ ‖ π_w) that is never negative; their mean is unbiased.

    E[ρ − 1 − log ρ] = KL(π₀ ‖ π_w)        since E[ρ] = 1 over the actions of π₀

    Args:
        L, L_old: as for ``importance_weight``, of actions that π₀ drew.

    Schulman (2020), *Approximating KL divergence*, where it is k₃.
    """
    difference = _log_ratio(L, L_old)  # finite also where ρ underflows
    return (np.expm1(difference) if isinstance(difference, np.ndarray) else difference.expm1()) - difference


def kl_divergence(
    p: Float[np.ndarray, "*batch K"], q: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "*batch"]:
    """Return the Kullback–Leibler divergence of distributions over K actions, exactly, in nats.

    KL(p ‖ q) = Σₖ pₖ log(pₖ / qₖ) ≥ 0        0 · log 0 = 0;  ∞ where pₖ > 0 = qₖ

    Args:
        p, q: probabilities, shape (..., K), at least 0, sum 1.
    """
    from scipy.special import rel_entr

    p, q = (checks.numbers(name, x).astype(float) for name, x in (("p", p), ("q", q)))
    checks.same_shape(p=p, q=q)
    for name, x in (("p", p), ("q", q)):
        if not (x.ndim and (x >= 0).all() and np.allclose(x.sum(axis=-1), 1)):
            raise ValueError(f"{name} must hold probabilities, at least 0, sum 1, got {x!s:.80}")
    return rel_entr(p, q).sum(axis=-1)


def _log_ratio(L: Array, L_old: Array) -> Array:
    """Return log ρ."""
    _check(L=L, L_old=L_old)
    return np.subtract(L, L_old, dtype=float) if isinstance(L, np.ndarray) else L - L_old.detach()


def _check(**arrays: Array) -> None:
    """All must have one shape; arrays must be finite, tensors are looked at where they end in an update."""
    checks.same_shape(**arrays)
    checks.finite(**{name: array for name, array in arrays.items() if isinstance(array, np.ndarray)})
