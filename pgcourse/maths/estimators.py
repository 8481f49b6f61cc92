"""Estimates of ∂J/∂w from episodes, for a policy that is a table of logits, and how good they are.

ĝₑ = Σᵢ Gₑᵢ ∂ log π(aₑᵢ∣xₑᵢ)/∂w        ∂J/∂w = E[ĝₑ] ≈ 1/ℰ Σₑ ĝₑ

Estimators differ in nothing but what each action is credited with, and ``returns`` has these credits. The mean over episodes is left to the
caller, since how they scatter around it is half of what there is to know.

Slides 32–35 and 42–50; Williams (1992), theorem 1.
"""

from typing import NamedTuple

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import total_return


class Episodes(NamedTuple):
    """N episodes of up to T steps. After an episode's end, ``live`` is false, its rewards are 0, and its state stays what it was."""

    s: np.ndarray  # (N, T+1): states, with the one after the last step
    x: np.ndarray  # (N, T): what was seen of them, all that an agent may use
    a: np.ndarray  # (N, T), 0 after the end
    r: np.ndarray  # (N, T)
    live: np.ndarray  # (N, T): whether this step was taken
    P: np.ndarray  # (N,): the probability of the episode, P(τ; w)


def score_function(w, episodes: Episodes, G=None) -> np.ndarray:
    """Return one estimate of ∂J/∂w for each episode. Of the world it uses nothing but what was seen, done and paid.

    ĝ = Σᵢ Gᵢ ∂ log π(aᵢ∣xᵢ)/∂w        ∂ log π(a∣x)/∂w[x,k] = [k = a] − π(k∣x)

    With 1 as the credit of every step it is the score of the episode, ∂ log P(τ;w)/∂w.

    Args:
        w: logits of the policy that played, shape (n_seen, K).
        episodes: N of them; only ``x``, ``a``, ``r`` and ``live`` are looked at.
        G: what each action is credited with, shape (N, T); anything after an episode's end. The total return, unless given.

    Returns:
        Float array of shape (N, n_seen, K).

    Raises:
        ValueError: if ``w`` is no finite table with a row for all that was seen and a column for all that was done, or the credits have
            another shape.

    Slides 32–34; Williams (1992), theorem 1.
    """
    w, (_, x, a, r, live, _) = np.asarray(w, float), episodes
    if w.ndim != 2 or not np.isfinite(w).all():
        raise ValueError(f"w must be a table of finite numbers, got shape {w.shape}")
    (n_episodes, _), (n_seen, n_actions) = a.shape, w.shape
    G = total_return(r) if G is None else np.asarray(G)
    if G.shape != a.shape:
        raise ValueError(f"G must have the shape of the rewards, {a.shape}, got {G.shape}")
    x, a, G, e = (
        x[live],
        a[live],
        G[live],
        np.repeat(np.arange(n_episodes), live.sum(axis=1)),
    )  # one after the other, without padding
    if a.size and (x.max() >= n_seen or a.max() >= n_actions):
        least = (int(x.max()) + 1, int(a.max()) + 1)
        raise ValueError(
            f"w must have a row for each x and a column for each a, at least {least}, got {w.shape}"
        )
    done = np.bincount((e * n_seen + x) * n_actions + a, G, n_episodes * w.size).reshape(
        n_episodes, n_seen, n_actions
    )
    return done - softmax(w) * done.sum(axis=2, keepdims=True)


def optimal_baseline(w, episodes: Episodes, G, group=None) -> np.ndarray:
    """Return the baseline that makes the variance of the estimate smallest: a constant, or one number for each group of steps.

    b* = argmin E‖Σᵢ (Gᵢ − b(groupᵢ)) ∂ log π(aᵢ∣xᵢ)/∂w‖²

    A constant is E[A·B] / E[B·B], with A = Σᵢ Gᵢ ∂ log π/∂w and B the same for G = 1.

    Whatever b is, the mean stays what it was (slide 49), so what is smallest is the variance, summed over all weights.

    Args:
        w: logits of the policy that played, shape (n_seen, K).
        episodes: all that there are, each weighted by its probability ``P``, as ``MDP.enumerate`` returns them; or, with ``P`` None, a
            sample, in which every episode counts the same.
        G: what each action is credited with, shape (N, T).
        group: which steps share a number, integers from 0, shape (N, T): ``episodes.x`` for a baseline b(s). All, unless given.

    Returns:
        Float array like ``G``.

    Raises:
        ValueError: as ``score_function``; and if ``group`` has another shape or holds anything but integers from 0.

    Greensmith, Bartlett & Baxter (2004).
    """
    G = np.asarray(G, float)
    group = np.zeros(G.shape, int) if group is None else np.asarray(group)
    if group.shape != G.shape or not np.issubdtype(group.dtype, np.integer) or (group < 0).any():
        raise ValueError(
            f"group must hold integers from 0, shape {G.shape}, got {group.dtype} of shape {group.shape}"
        )
    weight = np.sqrt(np.ones(len(G)) if episodes.P is None else episodes.P)[:, None, None]
    A = score_function(w, episodes, G) * weight
    B = [
        score_function(w, episodes, (group == k).astype(float)) * weight
        for k in range(group.max(initial=0) + 1)
    ]
    b, *_ = np.linalg.lstsq(np.reshape(B, (len(B), -1)).T, A.ravel())
    return b[group]


class Quality(NamedTuple):
    """How good estimates are. Arrays have the shape of one estimate; standard errors are 0 where every episode is known."""

    mean: np.ndarray
    bias: np.ndarray  # mean − truth
    variance: np.ndarray
    total_variance: float  # over all weights: the trace of the covariance
    error: float  # standard error of the total variance

    @property
    def mse(self) -> float:
        """Expected squared distance of an estimate from the truth, ‖bias‖² + total variance."""
        return float((self.bias**2).sum() + self.total_variance)

    @property
    def truth(self) -> np.ndarray:
        return self.mean - self.bias

    @property
    def signal_to_noise(self) -> float:
        """‖mean‖² / total variance: of one estimate; with n of them it is n times as much."""
        return float((self.mean**2).sum() / self.total_variance) if self.total_variance else np.inf

    @property
    def cosine(self) -> float:
        """Of the angle between mean and truth: 1 if a biased estimate still points the right way."""
        return float((self.mean * self.truth).sum() / np.linalg.norm(self.mean) / np.linalg.norm(self.truth))


def quality(estimates, truth, P=None) -> Quality:
    """Return mean, bias and variance of estimates: exactly, if they are all that can come out, with their probabilities; else of a sample.

    bias = E[ĝ] − ∂J/∂w        variance = E[(ĝ − E[ĝ])²]        mean squared error = ‖bias‖² + Σ variance

    Args:
        estimates: shape (N, ...), N ≥ 2 where they are a sample; finite.
        truth: ∂J/∂w, shape (...).
        P: the probability of each, shape (N,), sum 1; None for a sample.

    Raises:
        ValueError: if a shape or a number is not as described.
    """
    g, truth = np.asarray(estimates, float), np.asarray(truth, float)
    if g.ndim < 1 or g.shape[1:] != truth.shape or len(g) < (2 if P is None else 1):
        raise ValueError(
            f"estimates must have shape (N, {', '.join(map(str, truth.shape))}), N at least 2, got {g.shape}"
        )
    if not (np.isfinite(g).all() and np.isfinite(truth).all()):
        raise ValueError("estimates and truth must be finite, got a number that is not")
    n = len(g)
    p = np.full(n, 1 / n) if P is None else np.asarray(P, float)
    if p.shape != (n,) or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise ValueError(
            f"P must hold a probability for each estimate, shape ({n},), sum 1, got shape {p.shape}, sum {p.sum():.9g}"
        )
    mean = np.tensordot(p, g, axes=1)
    far = (g - mean) ** 2
    variance = np.tensordot(p, far, axes=1)
    if P is not None:
        return Quality(mean, mean - truth, variance, float(variance.sum()), 0.0)
    far = far.reshape(n, -1).sum(axis=1)
    return Quality(
        mean,
        mean - truth,
        variance * n / (n - 1),
        float(far.sum() / (n - 1)),
        float(far.std(ddof=1) / np.sqrt(n)),
    )
