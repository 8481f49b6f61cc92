"""Exercises P.2, the clipped surrogate objective, and P.3, one gradient step of PPO with a table."""

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.maths.trust_region import clipped_surrogate, importance_weight, is_clipped
from pgcourse.teaching.exercises.engine import Cases, Exercise


def clipped_objective(L, L_old, A, clip):
    """Return what each step contributes, shape (N,): min(ρA, clip(ρ, 1−ε, 1+ε) A) with ρ = exp(L − L₀)."""
    return clipped_surrogate(importance_weight(L, L_old), A, clip)


def _cases_2(rng: np.random.Generator) -> Cases:
    yield np.log([0.65]), np.log([0.5]), np.array([2.0]), 0.2
    yield np.log([0.35]), np.log([0.5]), np.array([2.0]), 0.2
    yield np.log([0.65]), np.log([0.5]), np.array([-2.0]), 0.2
    yield np.log([0.35]), np.log([0.5]), np.array([-2.0]), 0.2
    for _ in range(6):
        n = rng.integers(4, 8)
        L_old = -rng.uniform(1, 2, n)
        yield L_old + rng.normal(size=n), L_old, rng.normal(size=n), rng.uniform(0.1, 0.3)


def _ratio(function):
    """Return a mistaken answer from a function of ρ, A and ε."""
    return lambda L, L_old, A, clip: function(np.exp(L - L_old), A, clip)


_MISCONCEPTIONS_2 = {
    "The minimum is missing: a step whose policy has moved the wrong way is clipped too.": _ratio(
        lambda rho, A, clip: rho.clip(1 - clip, 1 + clip) * A
    ),
    "Nothing is clipped: this is ρA.": _ratio(lambda rho, A, clip: rho * A),
    "Take the minimum, for bad actions too: with max a clipped step would count more, not less.": _ratio(
        lambda rho, A, clip: np.maximum(rho * A, rho.clip(1 - clip, 1 + clip) * A)
    ),
    "You take the minimum of the weights. With A < 0 the minimum of the products has the larger weight.": (
        _ratio(lambda rho, A, clip: np.minimum(rho, 1 + clip) * A)
    ),
    "The importance weight is upside down: the new policy's probability stands above.": _ratio(
        lambda rho, A, clip: clipped_surrogate(1 / rho, A, clip)
    ),
    "You divide log-probabilities. The weight is the exponential of their difference.": (
        lambda L, L_old, A, clip: clipped_surrogate(L / L_old, A, clip)
    ),
    "The exponential is missing: L − L₀ is the logarithm of the weight.": (
        lambda L, L_old, A, clip: clipped_surrogate(L - L_old, A, clip)
    ),
    "Return what each step contributes, not the mean.": _ratio(
        lambda rho, A, clip: clipped_surrogate(rho, A, clip).mean()
    ),
}


def ppo_step(w, s, a, A, L_old, eta, clip):
    """Return the logits, shape (S, K), after one step of ascent along the gradient of the clipped surrogate.

    w ← w + η mean [not clipped] ρ A ∂ log π/∂w        ρ = π_w(a∣s) / π₀(a∣s)
    """
    return _step(w, s, a, A, L_old, eta, clip)


def _step(w, s, a, A, L_old, eta, clip, *, weight=lambda rho, flat: rho * ~flat, n=len, score=None):
    """One step, with the mistakes that need more than other arguments."""
    pi, k = softmax(w[s]), np.arange(len(s))
    rho = importance_weight(np.log(pi[k, a]), L_old)
    factor = weight(rho, is_clipped(rho, A, clip)) * A
    score = np.eye(w.shape[1])[a] - pi if score is None else score(w, a)
    new_w = w.copy()
    np.add.at(new_w, s, eta / n(factor) * factor[:, None] * score)
    return new_w


def _cases_3(rng: np.random.Generator) -> Cases:
    w = np.zeros((2, 2))
    yield w, np.array([0]), np.array([1]), np.array([2.0]), np.log([0.5]), 0.2, 0.2
    yield w, np.array([0]), np.array([1]), np.array([2.0]), np.log([0.4]), 0.2, 0.2
    yield w, np.array([0]), np.array([1]), np.array([-2.0]), np.log([0.4]), 0.2, 0.2
    for _ in range(6):
        S, K, N = rng.integers(2, 4), rng.integers(2, 4), rng.integers(6, 10)
        s, a, w = rng.integers(S, size=N), rng.integers(K, size=N), rng.normal(size=(S, K))
        s[1] = s[0]  # a state that occurs twice
        L_old = np.log(softmax(w[s])[np.arange(N), a]) + rng.normal(0, 0.5, N)
        yield w, s, a, rng.normal(size=N), L_old, rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.3)


def _by_index(w, s, a, A, L_old, eta, clip):
    change = np.array([_step(w, s[[k]], a[[k]], A[[k]], L_old[[k]], eta, clip) - w for k in range(len(s))])
    new_w = w.copy()
    new_w[s] += change[np.arange(len(s)), s] / len(s)
    return new_w


def _weighted(weight, **options):
    return lambda *case: _step(*case, weight=weight, **options)


def _both_sides(w, s, a, A, L_old, eta, clip):
    return _step(w, s, a, A, L_old, eta, clip, weight=lambda rho, flat: rho * (abs(rho - 1) <= clip))


_MISCONCEPTIONS_3 = {
    "Nothing is clipped. The gradient of a clipped step is zero.": _weighted(lambda rho, flat: rho),
    "The importance weight is missing: the derivative of ρ is ρ times the score.": _weighted(
        lambda rho, flat: 1.0 * ~flat
    ),
    "Clipped steps get a constant weight. They have no gradient at all.": _weighted(
        lambda rho, flat: np.where(flat, 1, rho)
    ),
    "You clip on both sides. A good action that has become improbable keeps its gradient.": _both_sides,
    "You add up over the steps. Take the mean.": _weighted(lambda rho, flat: rho * ~flat, n=lambda f: 1),
    "You take the mean over the steps that are not clipped. Divide by the number of all steps.": _weighted(
        lambda rho, flat: rho * ~flat, n=lambda f: max((f != 0).sum(), 1)
    ),
    "A state that occurs twice counts once: `w[s] += …` keeps one of them. Use `np.add.at`.": _by_index,
    "Only the logit of the action taken changes. The others get minus their probability.": _weighted(
        lambda rho, flat: rho * ~flat, score=lambda w, a: np.eye(w.shape[1])[a]
    ),
    "The policy goes down the gradient. Add η times the mean.": (
        lambda w, s, a, A, L_old, eta, clip: 2 * w - ppo_step(w, s, a, A, L_old, eta, clip)
    ),
}

EXERCISES = [
    Exercise("P.2", clipped_objective, _cases_2, _MISCONCEPTIONS_2),
    Exercise("P.3", ppo_step, _cases_3, _MISCONCEPTIONS_3),
]
