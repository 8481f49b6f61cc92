"""Logistic regression: the likelihood of the labels, its slope, and the way up.

Two classes:  y = σ(w·x)             L(w) = 1/M Σⱼ [tⱼ log yⱼ + (1−tⱼ) log(1−yⱼ)]
K classes:    y = softmax(Wᵀx)       L(W) = 1/M Σⱼ Σₖ tⱼₖ log yⱼₖ
Either way:   ∂L/∂w = 1/M Σⱼ xⱼ (tⱼ − yⱼ)          w ← w + η ∂L/∂w

Weights of shape (n,) mean two classes and a sigmoid; of shape (n, K), K classes and a softmax. A bias is a column of ones in x.

Slides 8, 22–24, 38–39.
"""

from typing import NamedTuple

import numpy as np


def sigmoid(z):
    """Return σ(z) = 1 / (1 + e⁻ᶻ), elementwise, for numbers or an array of any shape; no exponential overflows.

    Slide 15.
    """
    e = np.exp(-np.abs(z))  # never above 1
    return np.where(np.asarray(z) >= 0, 1, e) / (1 + e)


def softmax(z):
    """Return yₖ = eᶻᵏ / Σⱼ eᶻʲ along the last axis of an array of shape (..., K); no exponential overflows.

    Slide 24.
    """
    return np.exp(_log_softmax(z))


def _log_softmax(z):
    z = z - np.max(z, axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def predict(w, x):
    """Return the output probabilities y: σ(x·w), shape (M,), for w of shape (n,); softmax(x·W), shape (M, K), for (n, K).

    Args:
        w: weights, shape (n,) or (n, K); finite.
        x: examples, shape (M, n); finite.

    Raises:
        ValueError: if shapes do not fit or a number is not finite.
    """
    w, x = _weights_and_examples(w, x)
    return sigmoid(x @ w) if w.ndim == 1 else softmax(x @ w)


def log_likelihood(w, x, target):
    """Return L(W), the mean log-probability of the labels.

    L = 1/M Σⱼ [tⱼ log yⱼ + (1−tⱼ) log(1−yⱼ)]        or        1/M Σⱼ Σₖ tⱼₖ log yⱼₖ

    Args:
        w: weights, shape (n,) or (n, K); finite.
        x: examples, shape (M, n); finite.
        target: labels t, shape (M,), integers 0…K−1 (0 or 1 for w of shape (n,)).

    Returns:
        A number ≤ 0.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, or a label is outside 0…K−1.

    Slide 8.
    """
    w, x = _weights_and_examples(w, x)
    return _log_likelihood(w, x, _labels(target, w, x))


def _log_likelihood(w, x, t):
    z = x @ w
    if w.ndim == 1:
        return -np.logaddexp(
            0, np.where(t == 1, -z, z)
        ).mean()  # log σ(z) = −log(1 + e⁻ᶻ), and 1 − σ(z) = σ(−z)
    return np.take_along_axis(_log_softmax(z), t[:, None], axis=1).mean()


def gradient(w, x, target):
    """Return ∂L/∂w, an array like w.

    ∂L/∂wᵢ = 1/M Σⱼ xⱼᵢ (tⱼ − yⱼ)        ∂L/∂wᵢₖ = 1/M Σⱼ xⱼᵢ (tⱼₖ − yⱼₖ)

    Arguments and errors as for ``log_likelihood``.

    Slides 8 and 22.
    """
    w, x = _weights_and_examples(w, x)
    return _gradient(w, x, _labels(target, w, x))


def _gradient(w, x, t):
    z = x @ w
    error = t - sigmoid(z) if w.ndim == 1 else np.eye(w.shape[1])[t] - softmax(z)
    return x.T @ error / len(x)


class Ascent(NamedTuple):
    """What gradient ascent went through."""

    w: np.ndarray  # (n_steps + 1, n) or (n_steps + 1, n, K): the weights, from the start to the end
    L: np.ndarray  # (n_steps + 1,): L of all examples at each of them


def gradient_ascent(w, x, target, *, eta, n_steps, batch_size=None, seed=0):
    """Climb L from w, and keep the path.

    w ← w + η ∂L/∂w

    Args:
        w, x, target: as for ``log_likelihood``; w is where the climb starts.
        eta: learning rate η > 0.
        n_steps: number of steps ≥ 0.
        batch_size: examples drawn without repetition for each step's gradient, 1…M; None for all of them.
        seed: of the draws.

    Returns:
        ``Ascent(w, L)``, the weights and L before the first step and after each.

    Raises:
        ValueError: as ``log_likelihood``, or if ``eta``, ``n_steps`` or ``batch_size`` is out of range.

    Slides 8 and 22.
    """
    w, x = _weights_and_examples(w, x)
    t = _labels(target, w, x)
    if not (isinstance(eta, (int, float, np.number)) and np.isfinite(eta) and eta > 0):
        raise ValueError(f"eta must be a positive number, got {eta!r}")
    if not (isinstance(n_steps, (int, np.integer)) and n_steps >= 0):
        raise ValueError(f"n_steps must be an integer, at least 0, got {n_steps!r}")
    if batch_size is not None and not (
        isinstance(batch_size, (int, np.integer)) and 1 <= batch_size <= len(x)
    ):
        raise ValueError(
            f"batch_size must be an integer in 1..{len(x)}, the number of examples, or None, got {batch_size!r}"
        )
    rng = np.random.default_rng(seed)
    path = [w]
    j: slice | np.ndarray = slice(None)
    for _ in range(n_steps):
        if batch_size is not None:
            j = rng.choice(len(x), batch_size, replace=False)
        w = w + eta * _gradient(w, x[j], t[j])
        path.append(w)
    return Ascent(np.array(path), np.array([_log_likelihood(w, x, t) for w in path]))


def _weights_and_examples(w, x):
    w, x = np.asarray(w, float), np.asarray(x, float)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"x must have shape (M, n) with M ≥ 1 examples, got {x.shape}")
    if w.ndim not in (1, 2) or len(w) != x.shape[1] or 0 in w.shape[1:]:
        raise ValueError(
            f"w must have shape ({x.shape[1]},) or ({x.shape[1]}, K), K ≥ 1, to fit x of shape {x.shape}, got {w.shape}"
        )
    for name, values in (("w", w), ("x", x)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
    return w, x


def _labels(target, w, x):
    t = np.asarray(target)
    n_classes = 2 if w.ndim == 1 else w.shape[1]
    if t.shape != (len(x),):
        raise ValueError(f"target must have shape ({len(x)},), one label an example, got {t.shape}")
    wrong = ~np.isin(t, np.arange(n_classes))
    if wrong.any():
        raise ValueError(f"target must hold integers in 0..{n_classes - 1}, got {t[wrong][0]}")
    return t.astype(int)
