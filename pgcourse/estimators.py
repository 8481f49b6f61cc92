"""Estimates of ∂J/∂w from episodes, each a pure function, for a policy that is a table of logits.

ĝₑ = Σᵢ Gₑᵢ ∂ log π(aₑᵢ∣xₑᵢ)/∂w        ∂J/∂w = E[ĝₑ] ≈ 1/ℰ Σₑ ĝₑ

The mean over episodes is left to the caller, since how they scatter around it is half of what there is to know.

Slides 32–35 and 42–50; Williams (1992), theorem 1.
"""

from collections.abc import Callable

import numpy as np

from pgcourse.logistic import softmax
from pgcourse.mdp import Episodes
from pgcourse.returns import total_return


def score_function(w, episodes: Episodes, credit: Callable[[np.ndarray], np.ndarray] = total_return) -> np.ndarray:
    """Return one estimate of ∂J/∂w for each episode. Of the world it uses nothing but what was seen, done and paid.

    ĝ = Σᵢ Gᵢ ∂ log π(aᵢ∣xᵢ)/∂w        ∂ log π(a∣x)/∂w[x,k] = [k = a] − π(k∣x)

    With ``np.ones_like`` as credit it is the score of the episode, ∂ log P(τ;w)/∂w.

    Args:
        w: logits of the policy that played, shape (n_seen, K).
        episodes: N of them; only ``x``, ``a``, ``r`` and ``live`` are looked at.
        credit: from rewards, shape (N, T), zero after an episode's end, to what each action is credited with, shape (N, T).

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
    if a.size and (x.max() >= n_seen or a.max() >= n_actions):
        least = (int(x.max()) + 1, int(a.max()) + 1)
        raise ValueError(f"w must have a row for each x and a column for each a, at least {least}, got {w.shape}")
    G = np.asarray(credit(r))
    if G.shape != a.shape:
        raise ValueError(f"credit must return an array like r, {r.shape}, got {G.shape}")
    which = (np.arange(n_episodes)[:, None] * n_seen + x) * n_actions + a  # one number for each episode, sight and action
    done = np.bincount(which.ravel(), (G * live).ravel(), n_episodes * w.size).reshape(n_episodes, n_seen, n_actions)
    return done - softmax(w) * done.sum(axis=2, keepdims=True)
