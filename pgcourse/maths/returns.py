"""Returns, baselines and the surrogate objective: what the score of each action is multiplied by.

Total return       G  = Σₖ γᵏ rₖ           the same for every step of the episode          (slides 23, 26)
Reward-to-go       Gₜ = Σₖ≥ₜ γᵏ⁻ᵗ rₖ       only rewards that the action can influence      (slides 45–47)
With a baseline    Gₜ − b                  how much better than expected the return was    (slides 48–50)

TD errors and the advantage estimates made of them are in ``td``. Every array holds one episode, shape (T,),
or several, shape (N, T), padded. ``mask`` is true for steps that were taken and false for padding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pgcourse import checks
from pgcourse.maths.rounding import is_rounding_error

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    Array = TypeVar("Array", np.ndarray, Tensor)
    Steps = Float[np.ndarray, "*batch T"]  # a number for each step
    Mask = Bool[np.ndarray, "*batch T"]
    Indices = Int[np.ndarray, "*batch T"]


def total_return(r: Steps, gamma: float = 1.0) -> Steps:
    """Return the discounted return of the episode, once for each of its steps.

    G = Σₖ γᵏ rₖ        k = 0, 1, …

    Args:
        r: rewards of one episode, shape (T,), or of several padded with zeros, shape (N, T); float.
        gamma: discount per step, 0 ≤ γ ≤ 1.

    Slides 23, 26 and 47; Williams (1992), section 4.
    """
    r = checks.floats("r", r)
    checks.fraction(gamma=gamma)
    weights = float(gamma) ** np.arange(r.shape[-1], dtype=r.dtype)
    return np.broadcast_to((r * weights).sum(axis=-1, keepdims=True), r.shape).copy()


def reward_to_go(r: Steps, gamma: float = 1.0, *, discount_from_start: bool = False) -> Steps:
    """Return the discounted sum of the rewards from each step to the end of its episode.

    Gₜ = rₜ + γ Gₜ₊₁ = Σₖ≥ₜ γᵏ⁻ᵗ rₖ        discounted from the start: γᵗ Gₜ = Σₖ≥ₜ γᵏ rₖ

    Args:
        r, gamma: as for ``total_return``.
        discount_from_start: whether to discount from the start of the episode instead of from each step. The
            gradient of the expected discounted return Σₖ γᵏ rₖ needs this factor γᵗ. Without it, late steps
            count as much as early ones.

    Slides 45–47; Sutton & Barto (2018), equation 3.9 and, for γᵗ, the box on page 328.
    """
    from scipy.signal import lfilter  # its import takes a second

    r = checks.floats("r", r)
    checks.fraction(gamma=gamma)
    gamma = float(gamma)
    # The recursion is a linear filter that runs backwards in time.
    backwards = lfilter([1.0], [1.0, -gamma], r[..., ::-1]) if r.size else r
    G = backwards[..., ::-1].astype(r.dtype)
    return G * float(gamma) ** np.arange(r.shape[-1], dtype=r.dtype) if discount_from_start else G


def pad_episodes(episodes: Iterable[Float[np.ndarray, " T"]]) -> tuple[Steps, Mask]:
    """Return float arrays of shape (T,) as one of shape (N, longest T), padded with zeros, and its mask."""
    if not isinstance(episodes, Iterable) or (isinstance(episodes, np.ndarray) and not episodes.ndim):
        raise ValueError(f"episodes must be several arrays of shape (T,), got {episodes!r:.80}")
    episodes = [checks.floats("episodes", e) for e in episodes]
    if wrong := [e.shape for e in episodes if e.ndim != 1]:
        raise ValueError(f"episodes must be arrays of shape (T,), got one of shape {wrong[0]}")
    lengths = np.array([len(e) for e in episodes], int)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    rows = np.zeros(mask.shape, np.result_type(*episodes) if episodes else float)
    rows[mask] = np.concatenate(episodes) if episodes else 0
    return rows, mask


def batch_mean_baseline(G: Steps, mask: Mask | None = None) -> Steps:
    """Return the mean return over all steps of the batch, the same number everywhere; 0 if there is no step.

    b = 1/M Σₑ Σₜ Gₑₜ        M steps in all

    This baseline depends on the action whose return it is subtracted from, and so biases the gradient
    estimate: by a factor of (N − 1)/N for the total returns of N equally long episodes (slides 48 and 50).

    Args:
        G: returns, shape (T,) or (N, T); float.
        mask: which steps were taken, boolean, like ``G``; None for all.
    """
    G, mask = _with_mask(G, mask)
    return np.full_like(G, G[mask].mean() if mask.any() else 0)


def ema_baseline(b: float, G: Steps, mask: Mask | None = None, *, step_size: float = 0.1) -> float:
    """Return the baseline for the next batch, an exponential moving average; ``b`` if there is no step.

    b ← b + ρ (1/M Σₑ Σₜ Gₑₜ − b)

    It does not depend on the batch that it is subtracted from, and so does not bias the gradient estimate
    (slide 48; Williams, 1992, after Sutton, who called it reinforcement comparison).

    Args:
        b: baseline of this batch, finite.
        G, mask: as for ``batch_mean_baseline``.
        step_size: ρ, 0 < ρ ≤ 1.
    """
    checks.real(b=b, step_size=step_size)
    if not 0 < step_size <= 1:
        raise ValueError(f"step_size must be in (0, 1], got {step_size}")
    checks.finite(b=b)
    G, mask = _with_mask(G, mask)
    return float(b + step_size * (G[mask].mean() - b)) if mask.any() else float(b)


def leave_one_out_baseline(G: Steps, mask: Mask | None = None) -> Steps:
    """Return for each episode the mean return over all steps of the *other* episodes, an unbiased baseline.

    bₑ = 1/(M − Mₑ) Σ_f≠e Σₜ G_ft        Mₑ steps in episode e, M in all; 0 if all others are empty

    Arguments as for ``batch_mean_baseline``, N ≥ 2. Slide 48; Kool, van Hoof & Welling (2019).
    """
    G, mask = _with_mask(G, mask)
    if G.ndim < 2 or len(G) == 1:
        raise ValueError(f"G must hold at least 2 episodes, shape (N, T), got shape {G.shape}")
    sums, counts = (G * mask).sum(axis=1, keepdims=True), mask.sum(axis=1, keepdims=True)
    others = counts.sum() - counts
    b = np.divide(sums.sum() - sums, others, out=np.zeros_like(sums), where=others > 0)
    return np.broadcast_to(b, G.shape).copy()


def state_mean_baseline(
    G: Steps, observation: Indices, mask: Mask | None = None, *, exclude_own_episode: bool = False
) -> Steps:
    """Return for each step the mean return over all steps with the same observation, as v(s) (slide 50).

    v(o) = mean of Gₑₜ over all e, t with oₑₜ = o        0 after an episode's end

    Args:
        G, mask: as for ``batch_mean_baseline``.
        observation: integers from 0, like ``G``.
        exclude_own_episode: whether the mean is over the *other* episodes only (N ≥ 2), which makes the
            baseline unbiased; 0 where no other episode has this observation.
    """
    G, mask = _with_mask(G, mask)
    observation = checks.numbers("observation", observation)
    if observation.shape != G.shape or observation.dtype.kind not in "iu" or observation.min(initial=0) < 0:
        got = f"{observation.dtype} of shape {observation.shape}"
        raise ValueError(f"observation must hold integers from 0, shape {G.shape}, got {got}")
    checks.at_most(checks.MAX_COUNT, observation=int(observation.max(initial=0)))
    observation = observation.astype(int)
    taken = np.flatnonzero(mask)
    observed, n_observations = observation.take(taken), int(observation.max(initial=-1)) + 1
    n_tables = len(G) if exclude_own_episode and G.ndim > 1 else 1  # a table per episode, or one for all
    cell = observed if n_tables == 1 else observed + taken // G.shape[1] * n_observations
    sums, counts = (
        np.bincount(cell, weights, n_tables * n_observations).reshape(n_tables, n_observations)
        for weights in (G.take(taken), None)
    )
    if exclude_own_episode:
        sums, counts = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
    v = np.zeros_like(G)
    v.put(taken, np.divide(sums, counts, out=np.zeros(sums.shape), where=counts > 0).take(cell))
    return v


def standardize(G: Steps, mask: Mask | None = None, *, scale: float | None = None) -> Steps:
    """Return returns or advantages minus their mean, divided by their standard deviation (slide 48).

    (Gₑₜ − mean(G)) / std(G)        over all steps; 0 after an episode's end, and everywhere if all are equal

    The division rescales the gradient estimate: it grows where returns vary little. Returns that differ only
    by rounding errors count as equal, or the division would make ±1 of these.

    Args:
        G, mask: as for ``batch_mean_baseline``, with at least one step.
        scale: size of the numbers whose differences ``G`` holds, such as the largest return before a baseline
            was subtracted, at least 0: their rounding errors are left in ``G``. None for the size of ``G``.
    """
    G, mask = _with_mask(G, mask)
    taken = G[mask]
    if not taken.size:
        raise ValueError(f"G must hold at least one step, got none in shape {G.shape}")
    size = abs(taken).max()
    if scale is not None:
        checks.at_least(0, scale=scale)
        size = max(size, float(scale))
    if is_rounding_error(np.ptp(taken), size):
        return np.zeros_like(G)
    return (G - taken.mean()) / taken.std() * mask


def surrogate(L: Array, G: Array, n: int) -> Array:
    """Return the surrogate objective. Its gradient estimates ∂J/∂w; its value does not estimate J.

    Ĵ = 1/n Σₜ Gₜ Lₜ        ∂Ĵ/∂w = 1/n Σₜ Gₜ ∂Lₜ/∂w

    Args:
        L: log π(aₜ∣sₜ) of every step, an array or tensor of any shape.
        G: weight of each step's score, a return or an advantage, like ``L``; no gradient flows into it.
        n: number of episodes (REINFORCE, slide 35) or of steps (actor–critic, slide 61), at least 1.
    """
    checks.same_shape(L=L, G=G)
    checks.count(1, n=n)
    weights = G.detach() if hasattr(G, "detach") else G
    return (weights * L).sum() / int(n)


def _with_mask(G: Steps, mask: Mask | None) -> tuple[Steps, Mask]:
    G = checks.floats("G", G)
    return G, checks.booleans(G.shape, default=True, mask=mask)
