"""Logistic regression: likelihood of the labels, gradient, gradient ascent (slides 8, 22–24 and 38–39).

Two classes:  y = σ(w·x)             L(w) = 1/M Σⱼ [tⱼ log yⱼ + (1−tⱼ) log(1−yⱼ)]
K classes:    y = softmax(Wᵀx)       L(W) = 1/M Σⱼ Σₖ tⱼₖ log yⱼₖ
Either way:   ∂L/∂w = 1/M Σⱼ xⱼ (tⱼ − yⱼ)          w ← w + η ∂L/∂w

Weights of shape (n,) mean two classes and a sigmoid; of shape (n, K), K classes and a softmax. A bias is a
column of ones in x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pgcourse import checks

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Weights = Float[np.ndarray, "n ..."]  # (n,) or (n, K)
    Examples = Float[np.ndarray, "M n"]
    Labels = Int[np.ndarray, " M"]


def sigmoid(z: float | Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return σ(z) = 1 / (1 + e⁻ᶻ), elementwise; no exponential overflows (slide 15)."""
    z = checks.numbers("z", z)
    return _sigmoid(z if z.dtype.kind == "f" else z.astype(float))


def _sigmoid(z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    e = np.exp(-np.abs(z))  # never above 1
    return np.where(z >= 0, 1, e) / (1 + e)


def softmax(z: Float[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch K"]:
    """Return yₖ = eᶻᵏ / Σⱼ eᶻʲ along the last axis, for finite z; no exponential overflows (slide 24)."""
    z = checks.numbers("z", z)
    if not z.ndim or not z.shape[-1]:
        raise ValueError(f"z must have shape (..., K), K ≥ 1, got {z.shape}")
    checks.finite(z=z)
    return np.exp(_log_softmax(z))


def _log_softmax(z: Float[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch K"]:
    z = z if z.dtype.kind == "f" else z.astype(float)  # differences of integers could wrap around
    z = z - np.max(z, axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def predict(w: Weights, x: Examples) -> Float[np.ndarray, "M ..."]:
    """Return the class probabilities of the examples: σ(x·w), shape (M,), or softmax(x·W), shape (M, K)."""
    w, x = _weights_and_examples(w, x)
    return sigmoid(x @ w) if w.ndim == 1 else softmax(x @ w)


def log_likelihood(w: Weights, x: Examples, target: Labels) -> float:
    """Return L(W) ≤ 0, the mean log-likelihood of the labels (slide 8).

    L = 1/M Σⱼ [tⱼ log yⱼ + (1−tⱼ) log(1−yⱼ)]        or        1/M Σⱼ Σₖ tⱼₖ log yⱼₖ

    Args:
        w: weights, shape (n,) or (n, K); finite.
        x: examples, shape (M, n); finite.
        target: labels t, shape (M,), integers 0…K−1 (0 or 1 for w of shape (n,)).
    """
    return _log_likelihood(*_with_labels(w, x, target))


def _log_likelihood(w: Weights, x: Examples, t: Labels) -> float:
    z = x @ w
    if w.ndim == 1:  # log σ(z) = −log(1 + e⁻ᶻ), and 1 − σ(z) = σ(−z)
        return -np.logaddexp(0, np.where(t == 1, -z, z)).mean()
    return np.take_along_axis(_log_softmax(z), t[:, None], axis=1).mean()


def gradient(w: Weights, x: Examples, target: Labels) -> Weights:
    """Return ∂L/∂w, an array like w (slides 8 and 22). Arguments as for ``log_likelihood``.

    ∂L/∂wᵢ = 1/M Σⱼ xⱼᵢ (tⱼ − yⱼ)        ∂L/∂wᵢₖ = 1/M Σⱼ xⱼᵢ (tⱼₖ − yⱼₖ)
    """
    return _gradient(*_with_labels(w, x, target))


def _gradient(w: Weights, x: Examples, t: Labels) -> Weights:
    z = x @ w
    error = t - _sigmoid(z) if w.ndim == 1 else np.eye(w.shape[1])[t] - np.exp(_log_softmax(z))
    return x.T @ error / len(x)


class AscentPath(NamedTuple):
    """The weights on the path of gradient ascent, before the first step and after each, and their L."""

    w: Float[np.ndarray, "n_steps+1 n ..."]
    L: Float[np.ndarray, " n_steps+1"]  # of all examples


def gradient_ascent(
    w: Weights,
    x: Examples,
    target: Labels,
    *,
    eta: float,
    n_steps: int,
    batch_size: int | None = None,
    seed: int = 0,
) -> AscentPath:
    """Maximise L by gradient ascent, and return the path (slides 8 and 22).

    w ← w + η ∂L/∂w

    Args:
        w, x, target: as for ``log_likelihood``; w are the initial weights.
        eta, n_steps: learning rate η > 0 and number of steps ≥ 0.
        batch_size: examples drawn without replacement for each step's gradient, 1…M; None for all of them.
        seed: of these draws.
    """
    w, x, t = _with_labels(w, x, target)
    checks.positive(eta=eta)
    checks.count(0, n_steps=n_steps)
    checks.seed(seed=seed)
    checks.whole(1, batch_size=batch_size)
    if batch_size is not None and batch_size > len(x):
        raise ValueError(f"batch_size must be at most {len(x)}, the number of examples, got {batch_size}")
    rng = np.random.default_rng(int(seed))
    path = [w]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(int(n_steps)):
            j = slice(None) if batch_size is None else rng.choice(len(x), int(batch_size), replace=False)
            w = w + eta * _gradient(w, x[j], t[j])
            path.append(w)
        L = np.array([_log_likelihood(w, x, t) for w in path])
    if not (np.isfinite(L).all() and np.isfinite(path).all()):
        raise ValueError(f"eta must leave the weights finite, at most {np.finfo(float).max:.2g}, got {eta}")
    return AscentPath(np.array(path), L)


def _weights_and_examples(w: Weights, x: Examples) -> tuple[Weights, Examples]:
    w, x = checks.finite_floats("w", w), checks.finite_floats("x", x)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"x must have shape (M, n) with M ≥ 1 examples, got {x.shape}")
    if w.ndim not in (1, 2) or len(w) != x.shape[1] or 0 in w.shape[1:]:
        shapes = f"({x.shape[1]},) or ({x.shape[1]}, K), K ≥ 1"
        raise ValueError(f"w must have shape {shapes}, to fit x of shape {x.shape}, got {w.shape}")
    return w, x


def _with_labels(w: Weights, x: Examples, target: Labels) -> tuple[Weights, Examples, Labels]:
    w, x = _weights_and_examples(w, x)
    t = checks.numbers("target", target)
    n_classes = 2 if w.ndim == 1 else w.shape[1]
    if t.shape != (len(x),):
        raise ValueError(f"target must have shape ({len(x)},), one label per example, got {t.shape}")
    if (wrong := ~np.isin(t, np.arange(n_classes))).any():
        raise ValueError(f"target must hold integers in 0..{n_classes - 1}, got {t[wrong][0]}")
    return w, x, t.astype(int)
