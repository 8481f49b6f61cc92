"""Policy gradients of a tiny language model, by enumeration: the mean and the variance of each estimate.

State: prompt x and tokens so far.   Action: the next token.   Reward: r(x, y), once, for the whole output y.

J = 1/B Σₓ Σ_y π(y∣x) r(x, y)        π(y∣x) = Πₜ π(yₜ∣x, y₍<t₎)
ĝ = 1/B Σₓ 1/K Σᵢ Aᵢ ∂ log π(yᵢ∣x)/∂w        K outputs yᵢ to each prompt, a group

Estimates differ in the advantages Aᵢ, in what the sum over tokens is divided by, and in where a penalty on
the divergence from a reference policy enters. The order of a group does not matter, so there are few enough
groups to list them all.

Slide 41 with the baselines of slide 48; Kool, van Hoof & Welling (2019), leave-one-out; Ahmadian et al.
(2024), RLOO for language models; Shao et al. (2024), equations 3 and 4, GRPO; Liu et al. (2025), Dr. GRPO.
GRPO's standard deviation has K in the denominator; some programs have K − 1 there, and add 10⁻⁴.
"""

from __future__ import annotations

import itertools
from math import factorial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.maths.estimators import Episodes, EstimatorStatistics, estimator_statistics, score_function
from pgcourse.maths.groups import WEIGHTINGS, group_advantages
from pgcourse.maths.trust_region import kl_estimate

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Logits = Float[np.ndarray, "B O V"]  # of each token, after each of O prefixes, to each of B prompts
    PerOutput = Float[np.ndarray, "B N"]
    PerToken = Float[np.ndarray, "B N T"]
    Rewards = Float[np.ndarray, "B K"]

NORMALIZATIONS = ("sum", "output_mean", "token_mean")
KL_ESTIMATORS = ("k1", "k2", "k3")
RATIOS = ("token", "sequence", "geometric_mean")
MAX_GROUPS = 500_000


class Outputs(NamedTuple):
    """All N outputs of up to T tokens. The vocabulary's last token ends an output, and so does step T."""

    tokens: Int[np.ndarray, "N T"]  # the end token after the end
    prefix: Int[np.ndarray, "N T"]  # number of the tokens before, the row of the logits; 0 after the end
    mask: Bool[np.ndarray, "N T"]  # whether this token belongs to the output; its end token does

    @property
    def length(self) -> Int[np.ndarray, " N"]:
        return self.mask.sum(axis=1)


def enumerate_outputs(n_tokens: int, max_length: int) -> Outputs:
    """Return all outputs, in lexical order; prefixes are numbered from the empty one, by length.

    Args:
        n_tokens: size V of the vocabulary with the end token, V − 1; at least 2.
        max_length: T, at least 1, Vᵀ ≤ 100,000.
    """
    V, T = checks.count(2, 100, n_tokens=n_tokens), checks.count(1, 16, max_length=max_length)
    checks.at_most(100_000, **{"n_tokens to the power of max_length": V**T})
    tokens = np.array(list(itertools.product(range(V), repeat=T)))
    ended = np.cumsum(tokens == V - 1, axis=1) - (tokens == V - 1) > 0  # before this token
    tokens = tokens[(~ended | (tokens == V - 1)).all(axis=1)]
    mask = np.cumsum(tokens == V - 1, axis=1) - (tokens == V - 1) == 0
    prefix = np.zeros_like(tokens)
    for t in range(1, T):
        prefix[:, t] = (prefix[:, t - 1] * (V - 1) + tokens[:, t - 1] + 1) * mask[:, t]
    return Outputs(tokens, prefix, mask)


def token_log_probs(w: Logits, outputs: Outputs) -> PerToken:
    """Return log π(yₜ∣x, y₍<t₎) of each token of each output to each prompt; 0 after the end.

    Args:
        w: logits, finite, shape (B, n_prefixes, V).
        outputs: all of them, from ``enumerate_outputs``.
    """
    w = _logits(outputs, w=w)
    w = w - w.max(axis=2, keepdims=True)
    log_p = w - np.log(np.exp(w).sum(axis=2, keepdims=True))
    return log_p[:, outputs.prefix, outputs.tokens] * outputs.mask


def output_probabilities(w: Logits, outputs: Outputs) -> PerOutput:
    """Return π(y∣x) of each output to each prompt, shape (B, N). Arguments as for ``token_log_probs``."""
    return np.exp(token_log_probs(w, outputs).sum(axis=2))


def output_scores(w: Logits, outputs: Outputs, G: PerToken | None = None) -> Float[np.ndarray, "B N O V"]:
    """Return Σₜ Gₜ ∂ log π(yₜ∣x, y₍<t₎)/∂w of each output to each prompt; its prompt's logits only.

    Args:
        w, outputs: as for ``token_log_probs``.
        G: weight of each token's score, finite, shape (B, N, T). None: 1, the score of the output.
    """
    w = _logits(outputs, w=w)
    shape = (len(w), *outputs.tokens.shape)
    G = np.ones(shape) if G is None else checks.finite_floats("G", G)
    if G.shape != shape:
        raise ValueError(f"G must have shape {shape}, got {G.shape}")
    tokens, prefix, mask = outputs
    episodes = Episodes(prefix, prefix, tokens, np.zeros(mask.shape), mask, None)
    return np.stack([score_function(w_x, episodes, G_x) for w_x, G_x in zip(w, G, strict=True)])


def objective(
    w: Logits, outputs: Outputs, r: PerOutput, *, beta: float = 0.0, w_ref: Logits | None = None
) -> float:
    """Return the expected reward, less a penalty on the divergence from a reference policy, exactly.

    J = 1/B Σₓ Σ_y π(y∣x) [r(x, y) − β log(π(y∣x)/π_ref(y∣x))] = E[r] − β KL(π ‖ π_ref)

    Args:
        w, outputs: as for ``token_log_probs``.
        r: reward of each output to each prompt, finite, shape (B, N).
        beta: β ≥ 0.
        w_ref: logits of the reference, like ``w``; needed for β > 0.

    Ziegler et al. (2019), equation 2.
    """
    p = output_probabilities(w, outputs)
    return float((p * _penalized(w, outputs, r, beta, w_ref)).sum(axis=1).mean())


def objective_gradient(
    w: Logits, outputs: Outputs, r: PerOutput, *, beta: float = 0.0, w_ref: Logits | None = None
) -> Logits:
    """Return ∂J/∂w = 1/B Σₓ E[(r − β log(π/π_ref)) ∂ log π/∂w]. Arguments as for ``objective``.

    The derivative of the penalty's own logarithm is a score, which is zero on average.
    """
    weight = output_probabilities(w, outputs) * _penalized(w, outputs, r, beta, w_ref)
    return np.einsum("bn,bnov->bov", weight, output_scores(w, outputs)) / len(weight)


class Groups(NamedTuple):
    """All groups of K out of N outputs, whatever their order, which changes no estimate."""

    outputs: Int[np.ndarray, "M K"]  # ascending
    n_orders: Float[np.ndarray, " M"]  # K! / Π nⱼ!, where nⱼ says how often output j is in the group


def enumerate_groups(n_outputs: int, K: int) -> Groups:
    """Return all groups; at most 500,000 are listed.

    Args:
        n_outputs: N ≥ 1.
        K: outputs to one prompt, from 1 to 16.
    """
    N, K = checks.count(1, n_outputs=n_outputs), checks.count(1, 16, K=K)
    M = int(np.prod([(N + k) / (k + 1) for k in range(K)]) + 0.5)
    checks.at_most(MAX_GROUPS, **{"the number of groups of K outputs": M})
    groups = np.array(list(itertools.combinations_with_replacement(range(N), K)))
    run, permutations = np.ones(M), np.ones(M)  # how often an output has been there so far; Π nⱼ!
    for k in range(1, K):
        run = np.where(groups[:, k] == groups[:, k - 1], run + 1, 1)
        permutations *= run
    return Groups(groups, factorial(K) / permutations)


def gradient_statistics(
    w: Logits,
    outputs: Outputs,
    r: PerOutput,
    K: int,
    weighting: str,
    *,
    normalization: str = "sum",
    beta: float = 0.0,
    w_ref: Logits | None = None,
) -> EstimatorStatistics:
    """Return mean, bias and variance of an estimate from K outputs to each prompt, over all possible groups.

    sum            ĝ = 1/B Σₓ 1/K Σᵢ Aᵢ Σₜ ∂ log π(yᵢₜ)/∂w
    output_mean    … 1/K Σᵢ Aᵢ/∣yᵢ∣ Σₜ …            each output divided by its length: GRPO
    token_mean     … Σᵢ Aᵢ Σₜ … / Σᵢ ∣yᵢ∣            by the number of tokens of the group

    The truth is ``objective_gradient``. A penalty is in the reward, r − β log(π/π_ref), before Aᵢ is formed.

    Args:
        w, outputs, r, beta, w_ref: as for ``objective``.
        K: outputs to one prompt, K ≥ 2 where the group has a mean.
        weighting: how Aᵢ is formed, one of ``groups.WEIGHTINGS``.
        normalization: one of ``NORMALIZATIONS``; with ``weighting="mean"`` it is "sum".

    Shao et al. (2024), equation 3; Liu et al. (2025), section 3.1.
    """
    checks.one_of(WEIGHTINGS, weighting=weighting)
    checks.one_of(NORMALIZATIONS if weighting != "mean" else ("sum",), normalization=normalization)
    truth = objective_gradient(w, outputs, r, beta=beta, w_ref=w_ref)
    R, p = _penalized(w, outputs, r, beta, w_ref), output_probabilities(w, outputs)
    scores, (B, N) = output_scores(w, outputs), R.shape
    groups, n_orders = enumerate_groups(N, K)
    length = outputs.length[groups]
    divisor = {"sum": np.array([[K]]), "output_mean": K * length}.get(normalization)
    divisor = length.sum(axis=1, keepdims=True) if divisor is None else divisor
    mean, variance = np.zeros_like(truth), np.zeros_like(truth)
    for x in range(B):
        A = _own_group(R[x, groups], weighting, B) / divisor
        P = n_orders * p[x, groups].prod(axis=1)
        g = _add_up(A, groups, N) @ scores[x].reshape(N, -1)
        if weighting == "mean":  # the other rewards are independent of this group: two moments suffice
            others = np.delete(np.arange(B), x)
            m, v = _moments(R[others], p[others], K) / np.array([B * K, (B * K) ** 2])
            s = _add_up(np.full(groups.shape, 1 / K), groups, N) @ scores[x].reshape(N, -1)
            g -= m * s
            variance[x] += (v * P @ s**2).reshape(truth.shape[1:])
        mean[x] = (P @ g).reshape(truth.shape[1:])
        variance[x] += (P @ (g - P @ g) ** 2).reshape(truth.shape[1:])
    mean, variance = mean / B, variance / B**2
    return EstimatorStatistics(mean, mean - truth, variance, float(variance.sum()), 0.0)


def kl_statistics(w: Logits, w_ref: Logits, outputs: Outputs, kind: str) -> list[EstimatorStatistics]:
    """Return mean, bias and variance of an estimate of KL(π ‖ π_ref) from one output, for each prompt.

    k1 = log(π/π_ref)        k2 = ½ log²(π/π_ref)        k3 = π_ref/π − 1 + log(π/π_ref)

    Of the whole output, y ~ π. k1 and k3 are unbiased, k2 and k3 never negative.

    Args:
        w, w_ref: logits of the policy and of the reference, as for ``token_log_probs``.
        outputs: all of them.
        kind: one of ``KL_ESTIMATORS``.

    Schulman (2020), *Approximating KL divergence*.
    """
    checks.one_of(KL_ESTIMATORS, kind=kind)
    L, L_ref = _log_probs(w, w_ref, outputs)
    L, L_ref = L.sum(axis=2), L_ref.sum(axis=2)
    k = {"k1": L - L_ref, "k2": (L - L_ref) ** 2 / 2, "k3": kl_estimate(L_ref, L)}[kind]
    p = np.exp(L)
    truth = (p * (L - L_ref)).sum(axis=1)
    return [estimator_statistics(*case) for case in zip(k, truth, p, strict=True)]


def kl_loss_gradient(
    w: Logits, w_ref: Logits, outputs: Outputs, kind: str, *, by_token: bool = False
) -> Logits:
    """Return the expected gradient of a KL estimate that is put into the loss, E[∂k/∂w], over prompts.

    E[∂k₁/∂w] = E[∂ log π/∂w] = 0
    E[∂k₂/∂w] = E[log(π/π_ref) ∂ log π/∂w] = ∂ KL(π ‖ π_ref)/∂w
    E[∂k₃/∂w] = E[(1 − π_ref/π) ∂ log π/∂w] = ∂ KL(π_ref ‖ π)/∂w

    The estimate is differentiated, and not the probability with which its output was drawn. Token by token,
    the derivative leaves out that a token leads to other prefixes: k₂ is then the gradient of KL only where
    an output has one token.

    Args:
        w, w_ref, outputs, kind: as for ``kl_statistics``.
        by_token: whether the estimate is the sum of one for each token, as in GRPO.

    Shao et al. (2024), equation 4, with k3.
    """
    checks.one_of(KL_ESTIMATORS, kind=kind)
    checks.one_of((False, True), by_token=by_token)
    L, L_ref = _log_probs(w, w_ref, outputs)
    log_ratio = L - L_ref if by_token else (L - L_ref).sum(axis=2, keepdims=True)
    derivative = {"k1": np.ones_like(log_ratio), "k2": log_ratio, "k3": -np.expm1(-log_ratio)}[kind]
    scores = output_scores(w, outputs, np.broadcast_to(derivative, L.shape))
    return np.einsum("bn,bnov->bov", np.exp(L.sum(axis=2)), scores) / len(L)


def importance_ratios(L: PerToken, L_old: PerToken, mask: Bool[np.ndarray, "N T"], level: str) -> PerToken:
    """Return the importance weight that multiplies the score of each token; 0 after the end.

    token             ρₜ = π(yₜ∣x, y₍<t₎) / π₀(yₜ∣x, y₍<t₎)        PPO, GRPO
    sequence          ρ = Πₜ ρₜ, the same for each token            exact
    geometric_mean    ρ^(1/∣y∣)                                    GSPO

    Args:
        L, L_old: log-probabilities of the tokens under the policy and the one that drew them, shape (…, T).
        mask: whether a token belongs to the output, boolean, shape of the last axes of ``L``.
        level: one of ``RATIOS``.

    Shao et al. (2024), equation 3; Zheng et al. (2025), equation 7.
    """
    L, L_old = checks.floats("L", L), checks.floats("L_old", L_old)
    checks.same_shape(L=L, L_old=L_old)
    checks.one_of(RATIOS, level=level)
    mask = checks.booleans(L.shape[L.ndim - np.ndim(mask) :], default=True, mask=mask)
    log_ratio = (L - L_old) * mask
    if level == "token":
        return np.exp(log_ratio) * mask
    total = log_ratio.sum(axis=-1, keepdims=True)
    if level == "geometric_mean":
        total = total / np.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return np.exp(total) * mask


def reuse_statistics(
    w: Logits, w_old: Logits, outputs: Outputs, A: PerOutput, level: str
) -> EstimatorStatistics:
    """Return statistics of an estimate from one output of an older policy to each prompt.

    ĝ = 1/B Σₓ A(x, y) Σₜ ρₜ ∂ log π(yₜ)/∂w,  y ~ π₀        truth: ∂/∂w 1/B Σₓ E_π[A(x, y)]

    Args:
        w, w_old: logits of the policy, and of the one that drew the outputs, as for ``token_log_probs``.
        outputs: all of them.
        A: what an output is worth, such as its reward less a constant, finite, shape (B, N).
        level: one of ``RATIOS``; for "geometric_mean" ∂ log π is divided by the length, as in GSPO.
    """
    L, L_old = _log_probs(w, w_old, outputs, "w_old")
    rho = importance_ratios(L, L_old, outputs.mask, level)
    A = _per_output(outputs, len(L), A=A)
    if level == "geometric_mean":
        rho = rho / outputs.length[:, None]
    g, p = output_scores(w, outputs, A[..., None] * rho), np.exp(L_old.sum(axis=2))
    truth = objective_gradient(w, outputs, A)
    mean = np.einsum("bn,bnov->bov", p, g) / len(g)
    variance = np.einsum("bn,bnov->bov", p, (g / len(g) - mean[:, None]) ** 2)
    return EstimatorStatistics(mean, mean - truth, variance, float(variance.sum()), 0.0)


def _own_group(R: Rewards, weighting: str, n_prompts: int) -> Rewards:
    """Return the advantages so far as they depend on the group itself."""
    if weighting == "mean":
        return R - R.mean(axis=1, keepdims=True) / n_prompts
    return group_advantages(R, weighting)


def _add_up(A: Rewards, groups: Int[np.ndarray, "M K"], N: int) -> Float[np.ndarray, "M N"]:
    """Return for each group the sum of the weights that each output has there."""
    M = len(groups)
    cell = np.arange(M)[:, None] * N + groups
    return np.bincount(cell.ravel(), np.broadcast_to(A, groups.shape).ravel(), M * N).reshape(M, N)


def _moments(R: PerOutput, p: PerOutput, K: int) -> Float[np.ndarray, "2"]:
    """Return mean and variance of the sum of K independent rewards of each prompt."""
    mean = (p * R).sum(axis=1, keepdims=True)
    return K * np.array([mean.sum(), (p * (R - mean) ** 2).sum()])


def _penalized(w: Logits, outputs: Outputs, r: PerOutput, beta: float, w_ref: Logits | None) -> PerOutput:
    """Return r − β log(π/π_ref)."""
    checks.real(beta=beta)
    checks.at_least(0, beta=beta)
    r = _per_output(outputs, len(_logits(outputs, w=w)), r=r)
    if w_ref is None and beta > 0:
        raise ValueError(f"w_ref must be the reference's logits for beta = {beta}, got None")
    if w_ref is None:
        return r
    L, L_ref = _log_probs(w, w_ref, outputs)
    return r - beta * (L - L_ref).sum(axis=2)


def _log_probs(w: Logits, w_ref: Logits, outputs: Outputs, name: str = "w_ref") -> tuple[PerToken, PerToken]:
    w, other = _logits(outputs, w=w), _logits(outputs, **{name: w_ref})
    checks.same_shape(w=w, **{name: other})
    return token_log_probs(w, outputs), token_log_probs(other, outputs)


def _logits(outputs: Outputs, **w: Logits) -> Logits:
    """Return the one table given, which must have a row for each prefix and a column for each token."""
    [(name, values)] = w.items()
    table = checks.finite_floats(name, values)
    n_prefixes, n_tokens = int(outputs.prefix.max()) + 1, int(outputs.tokens.max()) + 1
    if table.ndim != 3 or table.shape[1:] != (n_prefixes, n_tokens) or not len(table):
        raise ValueError(f"{name} must have shape (B, {n_prefixes}, {n_tokens}), got {table.shape}")
    return table


def _per_output(outputs: Outputs, n_prompts: int, **r: PerOutput) -> PerOutput:
    [(name, values)] = r.items()
    table = checks.finite_floats(name, values)
    if table.shape != (n_prompts, len(outputs.tokens)):
        raise ValueError(f"{name} must have shape {(n_prompts, len(outputs.tokens))}, got {table.shape}")
    return table
