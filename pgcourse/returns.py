"""What an action is credited with: the return of its episode, or only what came after it.

Total return    G  = Σⱼ γʲ rⱼ           the same for every step of the episode   (slides 23, 26)
Reward-to-go    Gᵢ = Σⱼ≥ᵢ γʲ⁻ⁱ rⱼ       what step i can still have influenced    (slide 45)

Both take the rewards of one episode, shape (T,), or of several of one length, shape (N, T), and return an array like it.
"""

import numpy as np


def total_return(r, gamma=1.0):
    """Return the episode's total reward, once for each of its steps.

    G = Σⱼ γʲ rⱼ        j = 0, 1, …

    Args:
        r: rewards of one episode, shape (T,), or of several padded with zeros, shape (N, T); float.
        gamma: discount per step, 0 ≤ γ ≤ 1.

    Returns:
        Float array like ``r``, constant along its last axis.

    Raises:
        ValueError: if ``r`` holds integers or non-finite values, or has no axis, or ``gamma`` is outside [0, 1].

    Slides 23 and 26; Williams (1992), section 4.
    """
    r = _rewards(r)
    weights = _discount(gamma) ** np.arange(r.shape[-1], dtype=r.dtype)
    return np.broadcast_to((r * weights).sum(axis=-1, keepdims=True), r.shape).copy()


def reward_to_go(r, gamma=1.0):
    """Return the discounted reward from each step to the end of its episode.

    Gᵢ = rᵢ + γ Gᵢ₊₁ = Σⱼ≥ᵢ γʲ⁻ⁱ rⱼ

    Args:
        r: rewards of one episode, shape (T,), or of several padded with zeros, shape (N, T); float.
        gamma: discount per step, 0 ≤ γ ≤ 1.

    Returns:
        Float array like ``r``; ``G[..., i]`` counts rewards from step ``i`` on.

    Raises:
        ValueError: if ``r`` holds integers or non-finite values, or has no axis, or ``gamma`` is outside [0, 1].

    Slides 45–47; Sutton & Barto (2018), equation 3.9.
    """
    from scipy.signal import lfilter  # takes a second

    r, gamma = _rewards(r), _discount(gamma)
    backwards = lfilter([1.0], [1.0, -gamma], r[..., ::-1]) if r.size else r  # the recursion is a filter that runs from the end
    return backwards[..., ::-1].astype(r.dtype)


def _rewards(r):
    r = np.asarray(r)
    if not np.issubdtype(r.dtype, np.floating):
        raise ValueError(f"r must be an array of floats (integers would cut off discounted returns), got dtype {r.dtype}")
    if r.ndim == 0:
        raise ValueError(f"r must have shape (T,) or (N, T), got a single number, {r}")
    if not np.isfinite(r).all():
        raise ValueError(f"r must be finite, got {r[~np.isfinite(r)][0]} at {tuple(np.argwhere(~np.isfinite(r))[0].tolist())}")
    return r


def _discount(gamma):
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    return float(gamma)
