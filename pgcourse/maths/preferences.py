"""Learning from preferences: Bradley–Terry rewards, the optimal policy of the penalised objective, and DPO.

P(y ≻ z) = σ(r(y) − r(z))        y is preferred to z
J_β(π) = E_π[r] − β KL(π ‖ π_ref)        π* = π_ref exp(r/β) / Z
DPO: r = β log(π*/π_ref) + β log Z, and Z cancels in a difference. So the likelihood of the preferences can be
maximised over policies, without a reward model and without sampling.

All outputs to one prompt are numbered 0 … N−1. Preferences are counts, ``wins[y, z]``: how often y was
preferred to z. With probabilities in their place, the counts are those of infinitely many pairs.

On no slide; Bradley & Terry (1952); Ziegler et al. (2019); Rafailov et al. (2023); Gao, Schulman & Hilton
(2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.maths.logistic import sigmoid

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    PerOutput = Float[np.ndarray, " N"]
    Wins = Float[np.ndarray, "N N"]

MAX_NEWTON_STEPS = 100
MAX_DIFFERENCE = 25.0  # of rewards that are compared: e⁻²⁵ is the chance of the other preference


def preference_probability(r: PerOutput) -> Wins:
    """Return the probability that y is preferred to z, shape (N, N): σ(r(y) − r(z)).

    Args:
        r: rewards, finite, shape (N,).

    Bradley & Terry (1952); Rafailov et al. (2023), equation 1.
    """
    r = _vector(r=r)
    return sigmoid(r[:, None] - r)


def expected_wins(r: PerOutput, p: PerOutput) -> Wins:
    """Return the wins of infinitely many pairs, as fractions: two outputs drawn from p, and compared.

    wins[y, z] = 2 p(y) p(z) σ(r(y) − r(z)) for y ≠ z        sum: the chance that the two differ

    Args:
        r: true rewards, shape (N,).
        p: probabilities with which outputs are drawn, at least 0, sum 1, like ``r``.
    """
    r, p = _vector(r=r), _distribution(p=p)
    checks.same_shape(r=r, p=p)
    return 2 * np.outer(p, p) * preference_probability(r) * ~np.eye(len(r), dtype=bool)


def count_wins(chosen: Int[np.ndarray, " M"], rejected: Int[np.ndarray, " M"], n_outputs: int) -> Wins:
    """Return how often each output was preferred to each other one.

    Args:
        chosen, rejected: the two outputs of each pair, integers from 0 to N − 1, shape (M,).
        n_outputs: N.
    """
    N = checks.count(1, 10_000, n_outputs=n_outputs)
    chosen, rejected = checks.integers("chosen", chosen), checks.integers("rejected", rejected)
    checks.same_shape(chosen=chosen, rejected=rejected)
    for name, y in (("chosen", chosen), ("rejected", rejected)):
        if y.ndim != 1 or y.max(initial=0) >= N:
            raise ValueError(f"{name} must hold numbers of outputs below {N}, shape (M,), got {y!s:.80}")
    return np.bincount(chosen * N + rejected, minlength=N * N).reshape(N, N).astype(float)


def preference_loss(r: PerOutput, wins: Wins) -> float:
    """Return minus the mean log-likelihood of the preferences, −1/M Σ log σ(r(y) − r(z)); convex in r.

    Args:
        r: rewards, finite, shape (N,).
        wins: how often y was preferred to z, or how probable that is, at least 0, shape (N, N), not all 0.

    Rafailov et al. (2023), equation 2.
    """
    r, wins = _preferences(r, wins)
    return float((wins * np.logaddexp(0, r - r[:, None])).sum() / wins.sum())


def preference_gradient(r: PerOutput, wins: Wins) -> PerOutput:
    """Return the derivative of ``preference_loss`` with respect to the rewards: label minus prediction.

    ∂loss/∂r(y) = −1/M Σ_z [wins(y, z) − n(y, z) σ(r(y) − r(z))]        n pairs of y and z
    """
    r, wins = _preferences(r, wins)
    return ((wins + wins.T) * sigmoid(r[:, None] - r) - wins).sum(axis=1) / wins.sum()


def fit_rewards(
    wins: Wins, x: Float[np.ndarray, "N n"] | None = None, *, weight_decay: float = 0.0
) -> PerOutput:
    """Return the rewards r = xθ that make the preferences most probable, by Newton's method.

    θ = argmin loss(xθ) + λ/2 ‖θ‖²        mean of r 0, as only differences are compared

    Args:
        wins: as for ``preference_loss``.
        x: features of each output, finite, shape (N, n). None for a table, one number for each output.
        weight_decay: λ ≥ 0. With λ = 0 there is no minimum where a reward would have to be infinite.

    Raises:
        ValueError: if there is no minimum.
    """
    wins = _wins(wins)
    x = np.eye(len(wins)) if x is None else checks.finite_floats("x", x)
    if x.ndim != 2 or len(x) != len(wins):
        raise ValueError(f"x must have shape ({len(wins)}, n), got {x.shape}")
    checks.real(weight_decay=weight_decay)
    checks.at_least(0, weight_decay=weight_decay)
    theta, n_pairs = np.zeros(x.shape[1]), wins + wins.T

    def loss(theta: Float[np.ndarray, " n"]) -> float:
        return preference_loss(x @ theta, wins) + weight_decay / 2 * theta @ theta

    for _ in range(MAX_NEWTON_STEPS):
        r = x @ theta
        curvature = n_pairs * sigmoid(r[:, None] - r) * sigmoid(r - r[:, None]) / wins.sum()
        H = x.T @ (np.diag(curvature.sum(axis=1)) - curvature) @ x + weight_decay * np.eye(len(theta))
        gradient = x.T @ preference_gradient(r, wins) + weight_decay * theta
        step = np.linalg.lstsq(H, gradient, rcond=1e-13)[0]
        if not weight_decay and (abs(r[:, None] - r)[n_pairs > 0] > MAX_DIFFERENCE).any():
            break  # on the way to infinity
        if abs(x @ step).max() < 1e-8 * max(1, abs(r).max()):
            r = x @ (theta - step)  # Newton's steps square the error: this one leaves rounding errors
            return r - r.mean()
        step = step / max(1, abs(x @ step).max())
        while loss(theta - step) > loss(theta) * (1 + 1e-14):
            step = step / 2
        theta = theta - step
    advice = "an output that always wins has an infinite reward; weight_decay > 0 keeps it finite"
    raise ValueError(f"wins must have a finite maximum of the likelihood: {advice}")


def optimal_policy(p_ref: PerOutput, r: PerOutput, beta: float) -> PerOutput:
    """Return the policy with the largest E[r] − β KL(π ‖ π_ref): π* = π_ref exp(r/β) / Z.

    Args:
        p_ref: probabilities of the reference, at least 0, sum 1, shape (..., N).
        r: rewards, finite, like ``p_ref``.
        beta: β > 0.

    Rafailov et al. (2023), equation 4.
    """
    p_ref, r = _distribution(p_ref=p_ref), checks.finite_floats("r", r)
    checks.same_shape(p_ref=p_ref, r=r)
    checks.positive(beta=beta)
    z = np.where(p_ref > 0, (r - r.max(axis=-1, keepdims=True)) / beta, -np.inf)
    p = p_ref * np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def implicit_reward(L: PerOutput, L_ref: PerOutput, beta: float) -> PerOutput:
    """Return β log(π/π_ref), the reward for which a policy is optimal, up to a number for each prompt.

    Args:
        L, L_ref: log-probabilities of whole outputs under the policy and the reference, finite, one shape.
        beta: β > 0.

    Rafailov et al. (2023), equation 5.
    """
    L, L_ref = checks.finite_floats("L", L), checks.finite_floats("L_ref", L_ref)
    checks.same_shape(L=L, L_ref=L_ref)
    checks.positive(beta=beta)
    return float(beta) * (L - L_ref)


def dpo_loss(L: PerOutput, L_ref: PerOutput, wins: Wins, beta: float) -> float:
    """Return DPO's loss: ``preference_loss`` of the implicit rewards.

    −1/M Σ log σ(β log(π(y)/π_ref(y)) − β log(π(z)/π_ref(z)))        y was preferred to z

    Args:
        L, L_ref, beta: as for ``implicit_reward``, shape (N,).
        wins: as for ``preference_loss``.

    Rafailov et al. (2023), equation 7.
    """
    return preference_loss(implicit_reward(L, L_ref, beta), wins)


def dpo_gradient(L: PerOutput, L_ref: PerOutput, wins: Wins, beta: float) -> PerOutput:
    """Return the weight of each output's score in the gradient of DPO's loss, ∂loss/∂L.

    ∂loss/∂w = Σ_y ∂loss/∂L(y) ∂ log π(y)/∂w        weights −β/M σ(r̂(z) − r̂(y)) for y, and the opposite for z

    Arguments as for ``dpo_loss``. Rafailov et al. (2023), section 4.
    """
    r = implicit_reward(L, L_ref, beta)
    return float(beta) * preference_gradient(r, wins)


class Optimized(NamedTuple):
    """Optimal policies for a proxy reward, one for each β; means over prompts."""

    beta: Float[np.ndarray, " n"]
    kl: Float[np.ndarray, " n"]  # KL(π ‖ π_ref)
    proxy: Float[np.ndarray, " n"]  # what the policy was optimised for
    true: Float[np.ndarray, " n"]


def optimize_proxy(
    p_ref: Float[np.ndarray, "*batch N"],
    proxy: Float[np.ndarray, "*batch N"],
    true: Float[np.ndarray, "*batch N"],
    betas: Float[np.ndarray, " n"],
) -> Optimized:
    """Return what the optimal policies for a proxy reward get of it, and of the true reward.

    With smaller β divergence and proxy grow; the true reward may rise and then fall: over-optimisation.

    Args:
        p_ref: probabilities of the reference, one row for each prompt, shape (..., N).
        proxy, true: rewards, finite, like ``p_ref``.
        betas: positive, shape (n,).

    Gao, Schulman & Hilton (2023), figure 1.
    """
    p_ref = _distribution(p_ref=p_ref)
    proxy, true = checks.finite_floats("proxy", proxy), checks.finite_floats("true", true)
    checks.same_shape(p_ref=p_ref, proxy=proxy, true=true)
    betas = _vector(betas=betas)
    if not (betas > 0).all():
        raise ValueError(f"betas must be positive, got {betas.min():g}")
    p = np.stack([optimal_policy(p_ref, proxy, beta) for beta in betas])
    log_ratio = np.log(np.divide(p, p_ref, out=np.ones_like(p), where=p > 0))
    sums = [
        (p * values).sum(axis=-1).reshape(len(betas), -1).mean(axis=1) for values in (log_ratio, proxy, true)
    ]
    return Optimized(betas, *sums)


def _vector(**r: PerOutput) -> PerOutput:
    [(name, values)] = r.items()
    vector = checks.finite_floats(name, values)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(f"{name} must have shape (N,), got {vector.shape}")
    return vector


def _distribution(**p: Float[np.ndarray, "*batch N"]) -> Float[np.ndarray, "*batch N"]:
    [(name, values)] = p.items()
    p_n = checks.finite_floats(name, values)
    if not (p_n.ndim and (p_n >= 0).all() and np.allclose(p_n.sum(axis=-1), 1)):
        raise ValueError(f"{name} must hold probabilities, at least 0, sum 1, got {p_n!s:.80}")
    return p_n


def _wins(wins: Wins) -> Wins:
    wins = checks.finite_floats("wins", wins)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or (wins < 0).any() or not wins.sum() > 0:
        got = f"shape {wins.shape}, sum {wins.sum():g}, smallest {wins.min(initial=0):g}"
        raise ValueError(f"wins must be counts of preferences, at least 0, shape (N, N), got {got}")
    return wins


def _preferences(r: PerOutput, wins: Wins) -> tuple[PerOutput, Wins]:
    r, wins = _vector(r=r), _wins(wins)
    if len(r) != len(wins):
        raise ValueError(f"r must have shape ({len(wins)},), got {r.shape}")
    return r, wins
