"""Several answers to one prompt: how much better was each than the others of its group?

A_k = r_k − b        r₁…r_K are the rewards of the K answers to one prompt, a group

"none"      A_k = r_k
"mean"      A_k = r_k − mean of all rewards of the batch
"rloo"      A_k = r_k − mean of the other K − 1 of the group = K/(K−1) (r_k − r̄)
"dr_grpo"   A_k = r_k − r̄
"grpo"      A_k = (r_k − r̄) / std(r)

"none" and "rloo" are unbiased. "dr_grpo" is (K−1)/K times "rloo", and "mean" has the same bias for all
answers of the batch together. The division of "grpo" weights a prompt by 1/std, which is greatest for those
that are nearly always, or hardly ever, answered right: it is no longer the gradient of the mean reward.

Slide 48; Kool, van Hoof & Welling (2019) and Ahmadian et al. (2024) for RLOO; Shao et al. (2024), equation 3
and section 4.1.2, for GRPO; Liu et al. (2025) for Dr. GRPO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pgcourse import checks
from pgcourse.maths.rounding import EPSILONS

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import ArrayLike

WEIGHTINGS = ("none", "mean", "rloo", "grpo", "dr_grpo")


def group_advantages(r: Float[np.ndarray, "B K"], weighting: str) -> Float[np.ndarray, "B K"]:
    """Return the advantage of each answer, what its score is multiplied by.

    Args:
        r: rewards, shape (B, K): of B prompts, K answers each; finite, at least one. "rloo" and "grpo" need
            two of each prompt at least, "mean" two in all.
        weighting: one of ``WEIGHTINGS``, as above. A group whose rewards are all equal has advantages of 0
            under "rloo", "dr_grpo" and "grpo".
    """
    checks.one_of(WEIGHTINGS, weighting=weighting)
    r = checks.finite_floats("r", r)
    if r.ndim != 2 or not r.size:
        raise ValueError(f"r must have shape (prompts, answers to each), at least 1 of each, got {r.shape}")
    check_group_size(weighting, *r.shape)
    if weighting == "none":
        return r.copy()
    if weighting == "mean":
        return r - r.mean()
    A, K = r - r.mean(axis=1, keepdims=True), r.shape[1]
    A[np.ptp(r, axis=1) <= EPSILONS * np.finfo(float).eps * abs(r).max(axis=1)] = 0  # rounding errors
    if weighting == "rloo":
        return A * (K / (K - 1))
    std = A.std(axis=1, keepdims=True)
    return A if weighting == "dr_grpo" else np.divide(A, std, out=np.zeros_like(A), where=std > 0)


def check_group_size(weighting: str, n_prompts: int, samples_per_prompt: int) -> None:
    """An answer must have others to be compared with."""
    if weighting == "none" or samples_per_prompt > 1 or (weighting == "mean" and n_prompts > 1):
        return
    reason = "an answer alone has nothing to be compared with"
    got = f"got {samples_per_prompt}"
    raise ValueError(f'samples_per_prompt must be at least 2 for "{weighting}": {reason}; {got}')


def pass_at_k(n_right: Int[ArrayLike, "..."], n: int, k: int) -> Float[np.ndarray, "..."]:
    """Return for each prompt an estimate of the probability that at least one of k answers is right.

    1 − C(n − c, k) / C(n, k)        c of n answers were right; unbiased for k ≤ n

    Args:
        n_right: c, integers from 0 to n, any shape.
        n, k: answers drawn and answers allowed, 1 ≤ k ≤ n.

    Chen et al. (2021), equation 1.
    """
    c, n, k = checks.integers("n_right", n_right), checks.count(1, n=n), checks.count(1, k=k)
    checks.at_most(n, k=k, n_right=c.max(initial=0))
    i = np.arange(k)
    return 1 - np.prod(np.clip(n - c[..., None] - i, 0, None) / (n - i), axis=-1)
