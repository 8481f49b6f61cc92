"""What an action is credited with: the return of its episode, or only what came after it; less a baseline, or not.

Total return         G  = Σⱼ γʲ rⱼ          the same for every step of the episode          (slides 23, 26)
Reward-to-go         Gᵢ = Σⱼ≥ᵢ γʲ⁻ⁱ rⱼ      what step i can still have influenced           (slides 45–47)
With a baseline      Gᵢ − b                 how much better than expected that was          (slides 48–50)
TD error             δᵢ = rᵢ + γ vᵢ₊₁ − vᵢ  the same, after one step instead of many        (slide 56)
n-step, λ            Σⱼ γʲ δᵢ₊ⱼ, Σⱼ (γλ)ʲ δᵢ₊ⱼ        and after anything between the two       (slides 58–59)

All take arrays of one episode, shape (T,), or of several, shape (N, T), where the shorter ones are padded; ``live`` then says which
steps were taken.
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

    Slides 23, 26 and 47; Williams (1992), section 4.
    """
    r = _floats("r", r)
    weights = _discount(gamma) ** np.arange(r.shape[-1], dtype=r.dtype)
    return np.broadcast_to((r * weights).sum(axis=-1, keepdims=True), r.shape).copy()


def reward_to_go(r, gamma=1.0, *, from_start=False):
    """Return the discounted reward from each step to the end of its episode.

    Gᵢ = rᵢ + γ Gᵢ₊₁ = Σⱼ≥ᵢ γʲ⁻ⁱ rⱼ        from the start: γⁱ Gᵢ = Σⱼ≥ᵢ γʲ rⱼ

    Args:
        r: rewards of one episode, shape (T,), or of several padded with zeros, shape (N, T); float.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        from_start: whether to discount from the beginning of the episode instead of from each step. This is what the slope of the
            expected discounted return Σⱼ γʲ rⱼ wants; the other way, late steps count as much as early ones.

    Returns:
        Float array like ``r``; ``G[..., i]`` counts rewards from step ``i`` on.

    Raises:
        ValueError: if ``r`` holds integers or non-finite values, or has no axis, or ``gamma`` is outside [0, 1].

    Slides 45–47; Sutton & Barto (2018), equation 3.9 and, for γⁱ, the box on page 328.
    """
    from scipy.signal import lfilter  # takes a second

    r, gamma = _floats("r", r), _discount(gamma)
    backwards = (
        lfilter([1.0], [1.0, -gamma], r[..., ::-1]) if r.size else r
    )  # the recursion is a filter that runs from the end
    G = backwards[..., ::-1].astype(r.dtype)
    return G * gamma ** np.arange(r.shape[-1], dtype=r.dtype) if from_start else G


def padded(episodes):
    """Return arrays of different lengths as one, the shorter ones filled up with zeros; and which of its steps there are.

    Args:
        episodes: for each episode an array of shape (T,); float.

    Returns:
        Two arrays of shape (N, longest T): the numbers, and ``live``, boolean.

    Raises:
        ValueError: if one holds integers or non-finite values, or has another shape.
    """
    episodes = [_floats("episodes", e) for e in episodes]
    if wrong := [e.shape for e in episodes if e.ndim != 1]:
        raise ValueError(f"episodes must be arrays of shape (T,), got one of shape {wrong[0]}")
    lengths = np.array([len(e) for e in episodes], int)
    live = np.arange(lengths.max(initial=0)) < lengths[:, None]
    rows = np.zeros(live.shape, np.result_type(*episodes) if episodes else float)
    rows[live] = np.concatenate(episodes) if episodes else 0
    return rows, live


def batch_mean(G, live=None):
    """Return the mean credit of all steps of the batch, a baseline that every step has a part in.

    b = 1/M Σₑ Σᵢ Gₑᵢ        M steps in all

    It is not independent of the action whose credit it is subtracted from, and so biases the slope; for N episodes that are each credited
    with one number per step, and last equally long, by the factor (N − 1)/N.

    Args:
        G: credits, shape (T,) or (N, T); float.
        live: which steps were taken, boolean, like ``G``; all, unless given.

    Returns:
        Float array like ``G``, the same number everywhere; 0 if there is no step.

    Raises:
        ValueError: if ``G`` holds integers or non-finite values, or has no axis, or ``live`` is not boolean or has another shape.

    Slides 48 and 50.
    """
    G, live = _steps(G, live)
    return np.full_like(G, G[live].mean() if live.any() else 0)


def running_mean(b, G, live=None, *, rate=0.1):
    """Return the baseline for the next batch: one that follows the mean credit of the batches so far.

    b ← b + ρ (1/M Σₑ Σᵢ Gₑᵢ − b)

    A batch whose credits it is subtracted from has no part in it, and so it biases nothing.

    Args:
        b: the baseline of this batch, finite.
        G: credits of this batch, shape (T,) or (N, T); float.
        live: which steps were taken, boolean, like ``G``; all, unless given.
        rate: ρ, how much of the way to this batch's mean it goes, 0 < ρ ≤ 1.

    Returns:
        A float; ``b`` if there is no step.

    Raises:
        ValueError: as ``batch_mean``; and if ``b`` is not finite or ``rate`` out of range.

    Slide 48; Williams (1992), after Sutton, who called it reinforcement comparison.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be in (0, 1], got {rate}")
    if not np.isfinite(b):
        raise ValueError(f"b must be finite, got {b}")
    G, live = _steps(G, live)
    return float(b + rate * (G[live].mean() - b)) if live.any() else float(b)


def leave_one_out(G, live=None):
    """Return for each episode the mean credit of all steps of the *other* episodes: a batch's mean that biases nothing.

    bₑ = 1/(M − Mₑ) Σ_f≠e Σᵢ G_fi        Mₑ steps in episode e, M in all

    Args:
        G: credits, shape (N, T), N ≥ 2; float.
        live: which steps were taken, boolean, shape (N, T); all, unless given.

    Returns:
        Float array like ``G``, constant along its last axis; 0 for an episode if all others are empty.

    Raises:
        ValueError: as ``batch_mean``; and if there are not at least two episodes.

    Slide 48; Kool, van Hoof & Welling (2019).
    """
    G, live = _steps(G, live)
    if G.ndim < 2 or len(G) == 1:
        raise ValueError(f"G must hold at least 2 episodes, shape (N, T), got shape {G.shape}")
    sums, counts = (G * live).sum(axis=1, keepdims=True), live.sum(axis=1, keepdims=True)
    others = counts.sum() - counts
    b = np.divide(sums.sum() - sums, others, out=np.zeros_like(sums), where=others > 0)
    return np.broadcast_to(b, G.shape).copy()


def mean_by_state(G, x, live=None, *, leave_out=False):
    """Return for each step the mean credit of all steps at which the same was seen: v(s), learnt from this batch.

    v(x) = mean of Gₑᵢ over all e, i with xₑᵢ = x

    Args:
        G: credits, shape (T,) or (N, T); float.
        x: what was seen, integers from 0, like ``G``.
        live: which steps were taken, boolean, like ``G``; all, unless given.
        leave_out: whether the mean is over the *other* episodes only (N ≥ 2), so that it biases nothing; 0 where they never saw it.

    Returns:
        Float array like ``G``; 0 after an episode's end.

    Raises:
        ValueError: as ``batch_mean``; and if ``x`` holds anything but integers from 0, or has another shape.

    Slide 50.
    """
    G, live = _steps(G, live)
    x = np.asarray(x)
    if x.shape != G.shape or not np.issubdtype(x.dtype, np.integer) or x.min(initial=0) < 0:
        raise ValueError(f"x must hold integers from 0, shape {G.shape}, got {x.dtype} of shape {x.shape}")
    taken = np.flatnonzero(live)
    seen, n_seen = x.take(taken), int(x.max(initial=-1)) + 1
    n_tables = len(G) if leave_out and G.ndim > 1 else 1  # one of each episode's own, or one of all
    where = seen if n_tables == 1 else seen + taken // G.shape[1] * n_seen
    sums, counts = (
        np.bincount(where, weights, n_tables * n_seen).reshape(n_tables, n_seen)
        for weights in (G.take(taken), None)
    )
    if leave_out:
        sums, counts = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
    v = np.zeros_like(G)
    v.put(taken, np.divide(sums, counts, out=np.zeros(sums.shape), where=counts > 0).take(where))
    return v


def standardized(G, live=None):
    """Return credits less their mean over the batch, divided by their standard deviation; zeros if they do not vary.

    (Gₑᵢ − b) / std(G)        b = mean(G), both over all steps

    Dividing by the standard deviation gives the slope another length, and more of it where credits vary little.

    Args:
        G: credits, shape (T,) or (N, T), of at least one step; float.
        live: which steps were taken, boolean, like ``G``; all, unless given.

    Returns:
        Float array like ``G``; 0 after an episode's end.

    Raises:
        ValueError: as ``batch_mean``; and if there is no step.

    Slide 48.
    """
    G, live = _steps(G, live)
    taken = G[live]
    if not taken.size:
        raise ValueError(f"G must hold the credit of at least one step, got none in shape {G.shape}")
    if not np.ptp(taken):
        return np.zeros_like(G)
    return (G - taken.mean()) / taken.std() * live


def td_error(r, v, gamma=1.0):
    """Return how much better each step turned out than was expected of it, judged by where it led.

    δᵢ = rᵢ + γ vᵢ₊₁ − vᵢ

    Args:
        r: rewards, shape (T,) or (N, T); float.
        v: expected returns, from before the first step to after the last, shape (T+1,) or (N, T+1); float. Where an episode has ended,
            nothing is to be expected: ``v`` must be 0 there.
        gamma: discount per step, 0 ≤ γ ≤ 1.

    Returns:
        Float array like ``r``. If v is V, its mean over what comes next is the advantage A(sᵢ, aᵢ) = Q − V.

    Raises:
        ValueError: if ``r`` or ``v`` holds integers or non-finite values, or has another shape, or ``gamma`` is outside [0, 1].

    Slide 56; Sutton & Barto (2018), equation 6.5.
    """
    r, v = _floats("r", r), _floats("v", v)
    if v.shape != (*r.shape[:-1], r.shape[-1] + 1):
        raise ValueError(
            f"v must have shape {(*r.shape[:-1], r.shape[-1] + 1)}, one more step than r, got {v.shape}"
        )
    return r + _discount(gamma) * v[..., 1:] - v[..., :-1]


def n_step_advantage(delta, n, gamma=1.0, *, over=None):
    """Return how much better n steps turned out than was expected of the first, judged by where they led: the sum of their TD errors.

    δᵢ + γ δᵢ₊₁ + … + γⁿ⁻¹ δᵢ₊ₙ₋₁ = rᵢ + … + γⁿ⁻¹ rᵢ₊ₙ₋₁ + γⁿ vᵢ₊ₙ − vᵢ        n = 1: δᵢ;  n ≥ T: Gᵢ − vᵢ

    What was expected on the way is added by one TD error and subtracted by the next. Plus vᵢ it is the n-step return, a target for v.

    Args:
        delta: TD errors, shape (T,) or (N, T); float.
        n: how many steps, at least 1; fewer where the episode, or the array, ends sooner.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        over: whether an episode ended with this step, boolean, like ``delta``: later steps are another episode's. Never, unless given.

    Returns:
        Float array like ``delta``.

    Raises:
        ValueError: if ``delta`` holds integers or non-finite values, or has no axis, ``n`` is no whole number of at least 1, ``gamma`` is
            outside [0, 1], or ``over`` is not boolean or has another shape.

    Slides 58–59; Sutton & Barto (2018), equation 7.1 and exercise 7.1.
    """
    if not (n >= 1 and n % 1 == 0):
        raise ValueError(f"n must be a whole number of at least 1, got {n}")
    delta, over, gamma = _floats("delta", delta), _over(delta, over), _discount(gamma)
    advantage, ahead, goes_on = delta.copy(), delta, ~over
    for _ in range(min(int(n), delta.shape[-1]) - 1):
        ahead = gamma * np.where(goes_on, _next(ahead), 0)
        advantage += ahead
    return advantage


def gae(delta, gamma=1.0, lam=1.0, *, over=None):
    """Return the mean of the n-step advantages over all n, each counting λ times what the one before does: the reward-to-go of TD errors.

    Aᵢ = Σⱼ (γλ)ʲ δᵢ₊ⱼ = δᵢ + γλ Aᵢ₊₁        λ = 0: δᵢ;  λ = 1: Gᵢ − vᵢ

    Plus vᵢ it is the λ-return, a target for v.

    Args:
        delta: TD errors, shape (T,) or (N, T); float.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        lam: λ, 0 ≤ λ ≤ 1.
        over: whether an episode ended with this step, boolean, like ``delta``: later steps are another episode's. Never, unless given.

    Returns:
        Float array like ``delta``.

    Raises:
        ValueError: if ``delta`` holds integers or non-finite values, or has no axis, ``gamma`` or ``lam`` is outside [0, 1], or ``over`` is
            not boolean or has another shape.

    Schulman, Moritz, Levine, Jordan & Abbeel (2016), equation 16; Sutton & Barto (2018), equation 12.2.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    if over is None:
        return reward_to_go(_floats("delta", delta), _discount(gamma) * lam)
    delta = _floats("delta", delta)
    decay = np.where(_over(delta, over), 0, _discount(gamma) * lam)
    advantage = delta.copy()
    for i in reversed(range(delta.shape[-1] - 1)):
        advantage[..., i] += decay[..., i] * advantage[..., i + 1]
    return advantage


def _floats(name, values):
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"{name} must be an array of floats (integers would cut off discounted returns), got {values.dtype}"
        )
    if values.ndim == 0:
        raise ValueError(f"{name} must have shape (T,) or (N, T), got a single number, {values}")
    if not (finite := np.isfinite(values)).all():
        raise ValueError(
            f"{name} must be finite, got {values[~finite][0]} at {tuple(np.argwhere(~finite)[0].tolist())}"
        )
    return values


def _steps(G, live):
    G = _floats("G", G)
    live = np.ones(G.shape, bool) if live is None else np.asarray(live)
    if live.dtype != bool or live.shape != G.shape:
        raise ValueError(f"live must hold booleans, shape {G.shape}, got {live.dtype} of shape {live.shape}")
    return G, live


def _over(delta, over):
    shape = np.shape(delta)
    over = np.zeros(shape, bool) if over is None else np.asarray(over)
    if over.dtype != bool or over.shape != shape:
        raise ValueError(f"over must hold booleans, shape {shape}, got {over.dtype} of shape {over.shape}")
    return over


def _next(values):
    """Return what stands one step later, 0 after the last."""
    later = np.zeros_like(values)
    later[..., :-1] = values[..., 1:]
    return later


def _discount(gamma):
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    return float(gamma)
