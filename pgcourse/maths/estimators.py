"""Likelihood-ratio estimates of ∂J/∂w for a tabular softmax policy, and their bias and variance.

ĝₑ = Σₜ Gₑₜ ∂ log π(aₑₜ∣oₑₜ)/∂w        ∂J/∂w = E[ĝₑ] ≈ 1/ℰ Σₑ ĝₑ

Estimators differ only in the weights Gₑₜ of the scores, which come from ``returns`` and ``td``. There is one
estimate for each episode, so that the variance can be seen. Slides 32–35, 42–50; Williams (1992), theorem 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks
from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import total_return
from pgcourse.maths.rounding import is_rounding_error

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from pgcourse.maths.returns import Indices, Steps

    PerEpisode = Float[np.ndarray, " N"]
    Table = Float[np.ndarray, "O K"]


class Episodes(NamedTuple):
    """N episodes of up to T steps. After an episode's end, rewards are 0 and the state stays the same."""

    s: Int[np.ndarray, "N T+1"]  # including the state after the last step
    observation: Int[np.ndarray, "N T"]
    a: Int[np.ndarray, "N T"]  # 0 after the end
    r: Float[np.ndarray, "N T"]
    mask: Bool[np.ndarray, "N T"]  # whether this step was taken
    P: PerEpisode | None  # probability of the episode, P(τ; w); None: each counts the same


def score_function(w: Table, episodes: Episodes, G: Steps | None = None) -> Float[np.ndarray, "N O K"]:
    """Return one estimate of ∂J/∂w for each episode, shape (N, n_observations, K) (slides 32–34).

    ĝ = Σₜ Gₜ ∂ log π(aₜ∣oₜ)/∂w        ∂ log π(a∣o)/∂w[o,k] = [k = a] − π(k∣o)

    With G = 1 it is the score of the episode, ∂ log P(τ; w)/∂w.

    Args:
        w: logits of the policy that took the actions, finite, shape (n_observations, K).
        episodes: N of them; their states and probabilities are not used.
        G: weight of each step's score, shape (N, T), arbitrary after an episode's end. None: total return.
    """
    w, (_, observation, a, r, mask, _) = checks.finite_floats("w", w), episodes
    if w.ndim != 2:
        raise ValueError(f"w must have shape (n_observations, K), got {w.shape}")
    n_episodes, (n_observations, n_actions) = len(a), w.shape
    G = total_return(r) if G is None else checks.numbers("G", G)
    checks.same_shape(r=r, G=G)
    e = np.repeat(np.arange(n_episodes), mask.sum(axis=1))
    observation, a, G = observation[mask], a[mask], G[mask]  # from here on without padding
    checks.finite(G=G)
    if a.size and (observation.max() >= n_observations or a.max() >= n_actions):
        shape = (int(observation.max()) + 1, int(a.max()) + 1)
        raise ValueError(f"w must hold all observations and actions, at least {shape}, got {w.shape}")
    cell = (e * n_observations + observation) * n_actions + a
    sums = np.bincount(cell, G, n_episodes * w.size).reshape(n_episodes, n_observations, n_actions)
    return sums - softmax(w) * sums.sum(axis=2, keepdims=True)


def optimal_baseline(w: Table, episodes: Episodes, G: Steps, baseline_group: Indices | None = None) -> Steps:
    """Return the baseline of minimal variance: a constant, or a number for each group of steps.

    b* = argmin E‖Σₜ (Gₜ − b(groupₜ)) ∂ log π(aₜ∣oₜ)/∂w‖²

    A constant is E[A·B] / E[B·B], with A = Σₜ Gₜ ∂ log π/∂w and B the same for G = 1. None changes the mean
    (slide 49); the variance is summed over all weights. Greensmith, Bartlett & Baxter (2004).

    Args:
        w: as for ``score_function``.
        episodes: all possible ones and their probabilities (``MDP.enumerate_episodes``); or a sample, P None.
        G: weight of each step's score without the baseline, shape (N, T).
        baseline_group: which steps share a number, integers from 0, shape (N, T): ``episodes.observation``
            for a baseline b(s). None for one group.
    """
    G = np.asarray(checks.numbers("G", G), float)
    group = np.zeros(G.shape, int) if baseline_group is None else baseline_group
    group = checks.numbers("baseline_group", group)
    checks.same_shape(r=episodes.r, G=G)
    if group.shape != G.shape or group.dtype.kind not in "iu" or (group < 0).any():
        got = f"{group.dtype} of shape {group.shape}"
        raise ValueError(f"baseline_group must hold integers from 0, shape {G.shape}, got {got}")
    checks.at_most(checks.MAX_COUNT, baseline_group=int(group.max(initial=0)))
    weight = np.sqrt(np.ones(len(G)) if episodes.P is None else episodes.P)[:, None, None]
    A = score_function(w, episodes, G) * weight
    groups = range(group.max(initial=0) + 1)
    B = [score_function(w, episodes, (group == k).astype(float)) * weight for k in groups]
    b, *_ = np.linalg.lstsq(np.reshape(B, (len(B), -1)).T, A.ravel())
    return b[group]


class EstimatorStatistics(NamedTuple):
    """Mean, bias and variance of an estimator. Arrays have the shape of one estimate."""

    mean: Float[np.ndarray, "*w"]
    bias: Float[np.ndarray, "*w"]  # mean − truth
    variance: Float[np.ndarray, "*w"]
    total_variance: float  # over all weights: the trace of the covariance
    variance_stderr: float  # standard error of the total variance, 0 where it is exact

    @property
    def truth(self) -> Float[np.ndarray, "*w"]:
        return self.mean - self.bias

    @property
    def signal_to_noise(self) -> float:
        """‖mean‖² / total variance of one estimate; the mean of n estimates has n times as much."""
        squared_mean = float((self.mean**2).sum())
        if is_rounding_error(np.sqrt(self.total_variance), np.sqrt(squared_mean)):
            return np.inf
        return float(squared_mean / self.total_variance)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between mean and truth: 1 if a biased estimator has the right direction."""
        return float((self.mean * self.truth).sum() / np.linalg.norm(self.mean) / np.linalg.norm(self.truth))


def estimator_statistics(
    estimates: Float[np.ndarray, "N ..."], truth: Float[np.ndarray, "..."], P: PerEpisode | None = None
) -> EstimatorStatistics:
    """Return mean, bias and variance, exact (all possible estimates and their probabilities) or of a sample.

    bias = E[ĝ] − ∂J/∂w        variance = E[(ĝ − E[ĝ])²]        mean squared error = ‖bias‖² + Σ variance

    Args:
        estimates: shape (N, ...), finite; N ≥ 2 if they are a sample.
        truth: ∂J/∂w, shape (...), finite.
        P: probability of each estimate, shape (N,), sum 1; None for a sample.
    """
    g, truth = checks.finite_floats("estimates", estimates), checks.finite_floats("truth", truth)
    if g.ndim < 1 or g.shape[1:] != truth.shape or len(g) < (2 if P is None else 1):
        raise ValueError(f"estimates must be at least 2 arrays of shape {truth.shape}, got shape {g.shape}")
    n = len(g)
    p = np.full(n, 1 / n) if P is None else checks.finite_floats("P", P)
    if p.shape != (n,) or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"P must hold {n} probabilities, sum 1, got shape {p.shape}, sum {p.sum():.9g}")
    mean = np.tensordot(p, g, axes=1)
    squares = (g - mean) ** 2
    variance = np.tensordot(p, squares, axes=1)
    if P is not None:
        return EstimatorStatistics(mean, mean - truth, variance, float(variance.sum()), 0.0)
    distances = squares.reshape(n, -1).sum(axis=1)
    total, stderr = float(distances.sum() / (n - 1)), float(distances.std(ddof=1) / np.sqrt(n))
    return EstimatorStatistics(mean, mean - truth, variance * n / (n - 1), total, stderr)
