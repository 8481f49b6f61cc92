"""Finite Markov chains: transition matrices, sums over time, reachability and sampling.

A policy turns a Markov decision process into such a chain. Sutton & Barto (2018), section 9.2.
"""

from __future__ import annotations

import numpy as np

from pgcourse import checks
from pgcourse.arrays import Bool, Float, Int

MAX_EXPECTED_LENGTH = 1e12  # of an episode: with more steps, fewer than 4 of a float's 16 digits are left


def in_double_precision(name: str, p: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """Return a copy in double precision; divide what sums to 1 as well as float32 or float16 can by its sum.

    The rounding errors would otherwise be taken for a mistake, or multiply over the steps of an episode.
    """
    p = checks.numbers(name, p)
    if p.dtype not in (np.float32, np.float16) or not p.ndim or not np.isfinite(p).all():
        return np.array(p, float)
    tolerance, p = p.shape[-1] * float(np.finfo(p.dtype).eps), p.astype(float)
    total = p.sum(axis=-1, keepdims=True)
    return np.where(abs(total - 1) <= tolerance, p / np.where(total, total, 1), p)


def check_distributions(name: str, p: Float[np.ndarray, "*batch n"]) -> None:
    """Along the last axis, the array must hold probabilities that sum to 1."""
    p = checks.numbers(name, p)
    if not p.ndim:
        raise ValueError(f"{name} must have shape (..., n), got a single number, {p}")
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(f"{name} must hold probabilities, got {p[~(p >= 0) | np.isinf(p)][0]}")
    total = p.sum(axis=-1)
    if len(wrong := np.argwhere(abs(total - 1) > 1e-9)):
        at = tuple(wrong[0].tolist())
        where = f" for state {at[0]}, action {at[1]}" if len(at) == 2 else ""
        raise ValueError(f"{name} must sum to 1, got {total[at]:.9g}{where}")


def transition_matrix(
    pi: Float[np.ndarray, "S K"], P: Float[np.ndarray, "S K S"]
) -> Float[np.ndarray, "S S"]:
    """Return the transition probabilities under a policy, P(s'∣s) = Σₐ π(a∣s) P(s'∣s,a)."""
    return np.einsum("sk,skt->st", pi, P)


def sum_over_time(M: Float[np.ndarray, "S S"], b: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Return Σₜ Mᵗ b = (1 − M)⁻¹ b, with M = γP (or its transpose) between non-absorbing states.

    For b = 1 and γ = 1 this is the expected length of an episode, by which rounding errors grow. An episode
    that never ends raises a ``ValueError``.
    """
    never = "w must let every episode end if gamma is 1, got a policy under which some never end"
    try:
        length, total = np.linalg.solve(np.eye(len(M)) - M, np.stack([np.ones_like(b), b], axis=1)).T
    except np.linalg.LinAlgError as error:
        raise ValueError(never) from error
    if not (length.min() > 0 and length.max() < MAX_EXPECTED_LENGTH):  # rounding may turn ∞ into −10¹⁶
        raise ValueError(never)
    return total


def reachable(P: Float[np.ndarray, "S K S"]) -> Bool[np.ndarray, "S S"]:
    """Return whether some actions may lead from s to s' in one step or more."""
    paths = P.sum(axis=1) > 0
    for _ in range(len(paths).bit_length()):
        paths = paths | (paths @ paths)  # twice as long
    return paths


def check_absorption(
    condition: str, P: Float[np.ndarray, "S K S"], absorbing: Bool[np.ndarray, " S"], initial: np.ndarray
) -> None:
    """An absorbing state must be reachable from every state that is reachable from an initial one."""
    paths = reachable(P * ~absorbing[:, None, None]) | np.eye(len(P), dtype=bool)
    trapped = paths[initial].any(axis=0) & ~paths[:, absorbing].any(axis=1)
    if trapped.any():
        s = np.argmax(trapped)
        raise ValueError(f"{condition}, because no absorbing state is reachable from state {s}")


def cumulative(p: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """Return the cumulative probabilities along the last axis; the last of them is exactly 1."""
    cdf = p.cumsum(axis=-1)
    return cdf / cdf[..., -1:]


def draw(cdf: Float[np.ndarray, "N n"], u: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Return for each row of cumulative probabilities the outcome that the number u in [0, 1) falls into."""
    return (cdf[:, :-1] <= u[:, None]).sum(axis=1)
