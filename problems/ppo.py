"""Problem set P: the longest Gaussian step, an update that stops, what is left of a batch, overfitting."""

import numpy as np

from pgcourse.maths.trust_region import importance_weight, is_clipped, kl_estimate
from pgcourse.teaching.exercises.engine import Cases, Exercise

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)  # for expectations over a standard Gaussian number


def gaussian_kl(shift, sigma):
    """Return KL by quadrature, component by component."""
    total = 0.0
    for d, sd in zip(shift, sigma, strict=True):
        x = sd * POINTS
        log_ratio = ((x - d) ** 2 - x**2) / (2 * sd**2)
        total += WEIGHTS @ log_ratio / WEIGHTS.sum()
    return total


def longest_step(g, sigma, delta):
    """Return the step: along g in units of σ, where the trust region is a ball; its length by bisection."""
    direction, low, high = sigma * (sigma * g), 0.0, 1.0
    while gaussian_kl(high * direction, sigma) < delta:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_kl(middle * direction, sigma) < delta else (low, middle)
    return high * direction


def _cases_a(rng: np.random.Generator) -> Cases:
    yield np.array([1.0]), np.array([2.0]), 0.5
    yield np.array([3.0, 4.0]), np.array([1.0, 1.0]), 0.02
    for _ in range(6):
        K = rng.integers(2, 5)
        yield rng.normal(size=K), rng.uniform(0.2, 2, K), rng.uniform(0.005, 0.1)


def _to_the_border(direction):
    """Return a step that has the divergence δ, in a direction."""

    def wrong(g, sigma, delta):
        d = direction(g, sigma)
        return np.sqrt(2 * delta / (d**2 / sigma**2).sum()) * d

    return wrong


_MISCONCEPTIONS_A = {
    "This is the step along g. Another direction gains more for the same divergence.": (
        _to_the_border(lambda g, sigma: g)
    ),
    "You multiply g by σ. The condition has σ² below Δ², so its Lagrange equation has σ², too.": (
        _to_the_border(lambda g, sigma: sigma * g)
    ),
    "You multiply by 1/σ², the Fisher information. The step is multiplied by its inverse.": (
        _to_the_border(lambda g, sigma: g / sigma**2)
    ),
    "The direction is right. Its length is measured in units of σ, not in units of the action.": (
        lambda g, sigma, delta: np.sqrt(2 * delta) * sigma**2 * g / np.linalg.norm(sigma**2 * g)
    ),
    "The divergence grows with the square of the step: a root is missing in its length.": (
        lambda g, sigma, delta: 2 * delta / (sigma**2 * g**2).sum() * sigma**2 * g
    ),
    "The divergence is half of the sum of Δ²/σ². You leave out the half.": (
        lambda g, sigma, delta: longest_step(g, sigma, delta / 2)
    ),
    "This is the natural gradient. Give it the length at which the divergence is δ.": (
        lambda g, sigma, delta: sigma**2 * g
    ),
    "Each component has the divergence δ. Together they may have it.": (
        lambda g, sigma, delta: np.sqrt(2 * delta) * sigma * np.sign(g)
    ),
}


def ppo_update(w, s, a, A, order, size, eta, clip, target_kl):
    """Return the weights, with the package's functions of the log-probabilities, sample by sample."""
    L_old = _log_prob(w, s, a)
    for epoch in order:
        for first in range(0, len(epoch), size):
            i = epoch[first : first + size]
            rho = importance_weight(_log_prob(w, s[i], a[i]), L_old[i])
            gradient = np.zeros(len(w))
            for k in np.flatnonzero(~is_clipped(rho, A[i], clip)):
                gradient += rho[k] * A[i[k]] * (a[i[k]] - s[i[k]] @ w) * s[i[k]]
            w = w + eta * gradient / len(i)
        if kl_estimate(_log_prob(w, s, a), L_old).mean() > target_kl:
            return w
    return w


def _log_prob(w, s, a):
    return -((a - s @ w) ** 2) / 2 - np.log(2 * np.pi) / 2


def _cases_b(rng: np.random.Generator) -> Cases:
    yield np.zeros(1), np.ones((1, 1)), np.ones(1), np.array([2.0]), np.array([[0], [0]]), 1, 0.1, 0.2, 1.0
    for last in (1, 2, 2, 3, 1, 2, 4):  # the epoch with which the update ends
        N, size, eta, clip = int(rng.integers(5, 9)), int(rng.integers(2, 4)), 0.4, rng.uniform(0.1, 0.3)
        s, w = rng.normal(size=(N, 2)), rng.normal(size=2)
        a, A = s @ w + rng.normal(size=N), rng.normal(size=N)
        order = np.array([rng.permutation(N) for _ in range(4)])
        ends = [ppo_update(w, s, a, A, order[:k], size, eta, clip, np.inf) for k in range(1, 5)]
        kl = [kl_estimate(_log_prob(v, s, a), _log_prob(w, s, a)).mean() for v in ends]
        before, then = max(kl[: last - 1], default=0.0), kl[last - 1]
        yield w, s, a, A, order, size, eta, clip, (before + then) / 2 if then > before else 2 * before


def _update(
    *, old="rollout", weight=None, starts=None, at_once=False, stops="epoch", kl=None, over=None, part=None
):
    """Return an update with mistakes; weight is a function of ρ, and of whether ρ is clipped, A and ε."""

    def estimate(w, s, a, L_old):
        log_rho = _log_prob(w, s, a) - L_old
        return (np.exp(log_rho) - 1 - log_rho if kl is None else kl(log_rho)).mean()

    def wrong(w, s, a, A, order, size, eta, clip, target_kl):
        L_old = _log_prob(w, s, a)
        for epoch in order:
            if old == "epoch":
                L_old = _log_prob(w, s, a)
            before = w
            for first in starts(len(epoch), size) if starts else range(0, len(epoch), size):
                i = part(epoch, first, size) if part else epoch[first : first + size]
                v = before if at_once else w
                rho = np.exp(_log_prob(v, s[i], a[i]) - L_old[i])
                if old == "step":
                    rho = np.ones(len(i))
                flat = is_clipped(rho, A[i], clip)
                factor = (rho * ~flat if weight is None else weight(rho, flat, clip)) * A[i]
                w = w + eta * (factor * (a[i] - s[i] @ v)) @ s[i] / (over or len)(i)
                if stops == "minibatch" and estimate(w, s, a, L_old) > target_kl:
                    return w
            if stops == "last" and estimate(w, s[i], a[i], L_old[i]) > target_kl:
                return w
            if stops in ("epoch", "undo") and estimate(w, s, a, L_old) > target_kl:
                return before if stops == "undo" else w
        return w

    return wrong


_MISCONCEPTIONS_B = {
    "Every ρ is 1, because the old log-probabilities are those of the policy that moves.": (
        _update(old="step")
    ),
    "You compute the old log-probabilities in each epoch. Compute them once, before the first step.": (
        _update(old="epoch")
    ),
    "Nothing is clipped.": _update(weight=lambda rho, flat, clip: rho),
    "You clip on both sides. A good action that has become less probable keeps its gradient.": (
        _update(weight=lambda rho, flat, clip: rho * (abs(rho - 1) <= clip))
    ),
    "The importance weight is missing: the derivative of ρ is ρ times the score.": (
        _update(weight=lambda rho, flat, clip: 1.0 * ~flat)
    ),
    "The last minibatch of an epoch is missing if it is smaller. Each epoch uses every step.": (
        _update(starts=lambda n, size: range(0, n - size + 1, size))
    ),
    "You ignore `order`: the minibatches are the same in each epoch.": (
        _update(part=lambda epoch, first, size: np.arange(len(epoch))[first : first + size])
    ),
    "All gradients of an epoch are taken at its first weights. Each begins where the last step ended.": (
        _update(at_once=True)
    ),
    "You add up over a minibatch. Take the mean.": _update(over=lambda i: 1),
    "You never stop: `target_kl` ends the update.": _update(stops="never"),
    "You stop in the middle of an epoch. Estimate the divergence after each epoch.": (
        _update(stops="minibatch")
    ),
    "You undo the epoch after which the divergence is too large. It only is the last one.": (
        _update(stops="undo")
    ),
    "You estimate the divergence from the last minibatch. Take all steps of the rollout.": (
        _update(stops="last")
    ),
    "You estimate the divergence by the mean of −log ρ. Add ρ − 1.": _update(kl=lambda log_rho: -log_rho),
}


def effective_fraction(shift, sigma_0, sigma, T):
    """Return the inverse of E[ρ²] by the trapezoidal rule; 0 if its integrand does not vanish far away."""
    return 1 / _moment(shift, sigma_0, sigma) ** T


def _moment(shift, sigma_0, sigma, power=2):
    """Return ∫ π_w^p π₀^(1−p) dx."""
    x = np.linspace(-60, 60, 60_001) * sigma_0
    log_new = -(((x - shift) / sigma) ** 2) / 2 - np.log(sigma * np.sqrt(2 * np.pi))
    log_old = -((x / sigma_0) ** 2) / 2 - np.log(sigma_0 * np.sqrt(2 * np.pi))
    log_f = power * log_new + (1 - power) * log_old
    return np.inf if max(log_f[0], log_f[-1]) > -50 else np.exp(log_f).sum() * (x[1] - x[0])


def _cases_c(rng: np.random.Generator) -> Cases:
    yield 1.0, 1.0, 1.0, 1
    yield 0.5, 1.0, 1.0, 2
    yield 0.0, 1.0, 0.5, 1
    yield 0.0, 1.0, 1.5, 1
    for wider in (0.6, 0.8, 1.2, 1.1, 1.6):
        sigma_0 = rng.uniform(0.3, 2)
        yield rng.uniform(0.1, 0.5) * sigma_0, sigma_0, wider * sigma_0, int(rng.integers(2, 5))


def _formula(shift, sigma_0, sigma, T):
    rest = 2 * sigma_0**2 - sigma**2
    return (sigma * np.sqrt(rest) / sigma_0**2 * np.exp(-(shift**2) / rest)) ** T


_MISCONCEPTIONS_C = {
    "For σ² ≥ 2σ₀² the integral diverges. Then nothing is left: return 0.": _formula,
    "This is E[ρ²]. The fraction is its inverse.": (
        lambda shift, sigma_0, sigma, T: _moment(shift, sigma_0, sigma) ** T
    ),
    "This is one step. The weight of an episode is a product of T ratios.": (
        lambda shift, sigma_0, sigma, T: 1 / _moment(shift, sigma_0, sigma)
    ),
    "You divide by the number of steps. Ratios are multiplied, so the step's result has the power T.": (
        lambda shift, sigma_0, sigma, T: 1 / _moment(shift, sigma_0, sigma) / T
    ),
    "You put the logarithm inside the expectation: E[ρ²] is larger than the exponential of a divergence.": (
        lambda shift, sigma_0, sigma, T: np.exp(
            -T * (np.log(sigma_0 / sigma) + (sigma**2 + shift**2) / (2 * sigma_0**2) - 0.5)
        )
    ),
    "This holds if the standard deviations are the same. Complete the square with both.": (
        lambda shift, sigma_0, sigma, T: np.exp(-T * shift**2 / sigma_0**2)
    ),
    "The factor in front of the exponential is missing: the Gaussians' normalisation does not cancel.": (
        lambda shift, sigma_0, sigma, T: (
            np.exp(-T * shift**2 / (2 * sigma_0**2 - sigma**2)) if sigma**2 < 2 * sigma_0**2 else 0.0
        )
    ),
    "The policies are exchanged: the new one stands above in ρ, and the old one has drawn the actions.": (
        lambda shift, sigma_0, sigma, T: effective_fraction(shift, sigma, sigma_0, T)
    ),
    "The expectation is over actions of the old policy. You take it over those of the new one.": (
        lambda shift, sigma_0, sigma, T: 1 / _moment(shift, sigma_0, sigma, power=3) ** T
    ),
    "You invert the variance of ρ, E[ρ²] − 1. The effective sample size has E[ρ²] itself.": (
        lambda shift, sigma_0, sigma, T: 1 / (_moment(shift, sigma_0, sigma) ** T - 1)
    ),
}


def reward_after_reuse(u, noise, r, n_epochs, eta, clip):
    """Return the mean, run by run, with a batch summed up by action and sign of the advantage."""
    rewards = []
    for draws, disturbances in zip(u, noise, strict=True):
        z = 0.0
        for x, e in zip(draws, disturbances, strict=True):
            y_0 = _sigmoid(z)
            R = [r[int(x_i < y_0)] + e_i for x_i, e_i in zip(x, e, strict=True)]
            sums = dict.fromkeys([(action, good) for action in (0, 1) for good in (False, True)], 0.0)
            for x_i, R_i in zip(x, R, strict=True):
                advantage = R_i - sum(R) / len(R)
                sums[int(x_i < y_0), advantage > 0] += advantage / len(R)
            for _ in range(n_epochs):
                y, dJ_dy = _sigmoid(z), 0.0
                for (action, good), total in sums.items():
                    rho = y / y_0 if action else (1 - y) / (1 - y_0)
                    if rho <= 1 + clip if good else rho >= 1 - clip:
                        dJ_dy += total / y_0 if action else -total / (1 - y_0)
                z += eta * dJ_dy * y * (1 - y)
        rewards.append(r[0] * (1 - _sigmoid(z)) + r[1] * _sigmoid(z))
    return sum(rewards) / len(rewards)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _cases_d(rng: np.random.Generator) -> Cases:
    yield np.array([[[0.2, 0.7]]]), np.zeros((1, 1, 2)), np.array([0.0, 1.0]), 2, 1.0, 0.2
    for n_epochs, eta, clip in ((1, 1.0, 0.2), (8, 0.5, 0.2), (12, 1.0, 0.1), (10, 1.0, np.inf)):
        shape = (12, 4, 5)
        yield rng.random(shape), rng.normal(size=shape), rng.normal(size=2), n_epochs, eta, clip


def _rounds(*, weight=None, A=None, below=True, total=False, end=None, old="batch", push=None, sign=1.0):
    def wrong(u, noise, r, n_epochs, eta, clip):
        z, first = np.zeros((len(u), 1)), np.full((len(u), 1), 0.5)
        for k in range(u.shape[1]):
            y_0 = _sigmoid(z)
            a = u[:, k] < y_0 if below else u[:, k] >= y_0
            R = np.where(a, r[1], r[0]) + noise[:, k]
            G = R - R.mean(axis=1, keepdims=True) if A is None else A(R, a, y_0, r)
            for _ in range(n_epochs):
                y, p = _sigmoid(z), {"batch": y_0, "first": first, "step": _sigmoid(z)}[old]
                rho = np.where(a, y / p, (1 - y) / (1 - p))
                flat = np.where(G > 0, rho > 1 + clip, rho < 1 - clip)
                factor = (~flat * rho if weight is None else weight(rho, flat, clip)) * G
                terms = factor * (a - y if push is None else push(a, y))
                z = z + sign * eta * (terms.sum if total else terms.mean)(axis=1, keepdims=True)
        return (r[0] + (r[1] - r[0]) * _sigmoid(z)).mean() if end is None else end(R, z)

    return wrong


_MISCONCEPTIONS_D = {
    "Nothing is clipped.": _rounds(weight=lambda rho, flat, clip: rho),
    "The importance weight is missing: the derivative of ρ is ρ times the score.": (
        _rounds(weight=lambda rho, flat, clip: 1.0 * ~flat)
    ),
    "Every ρ is 1: the old probabilities are those with which the batch was drawn.": _rounds(old="step"),
    "The old policy is that of the present batch, not the first one.": _rounds(old="first"),
    "You clip on both sides. A good action that has become less probable keeps its gradient.": (
        _rounds(weight=lambda rho, flat, clip: rho * (abs(rho - 1) <= clip))
    ),
    "Clipped samples have no gradient at all. Yours keep that of a weight at the border.": (
        _rounds(weight=lambda rho, flat, clip: rho.clip(1 - clip, 1 + clip))
    ),
    "The mean reward of the batch is not subtracted.": _rounds(A=lambda R, a, y, r: R),
    "You subtract the expected reward, which the agent does not know. Take the mean of the batch.": (
        _rounds(A=lambda R, a, y, r: R - r[0] - (r[1] - r[0]) * y)
    ),
    "Action 1 has the probability y: it is taken if the random number is below it.": _rounds(below=False),
    "The score of action 0 is −y: it makes action 1 less probable.": (
        _rounds(push=lambda a, y: np.where(a, 1 - y, 0.0))
    ),
    "You add up over a batch. Take the mean.": _rounds(total=True),
    "This is the mean reward of the last batch. Return the expected reward after it.": (
        _rounds(end=lambda R, z: R.mean())
    ),
    "This is the probability of action 1. Return the expected reward.": (
        _rounds(end=lambda R, z: _sigmoid(z).mean())
    ),
    "You go down the gradient.": _rounds(sign=-1.0),
}

PROBLEMS = [
    Exercise("PA", longest_step, _cases_a, _MISCONCEPTIONS_A),
    Exercise("PB", ppo_update, _cases_b, _MISCONCEPTIONS_B),
    Exercise("PC", effective_fraction, _cases_c, _MISCONCEPTIONS_C),
    Exercise("PD", reward_after_reuse, _cases_d, _MISCONCEPTIONS_D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("PA", "2 * delta", "delta", "The divergence is half of the sum"),
    (
        "PB",
        "mu_0 = s @ w\n    for epoch in order:\n",
        "for epoch in order:\n        mu_0 = s @ w\n",
        "You compute the old",
    ),
    ("PB", "range(0, len(epoch), size)", "range(0, len(epoch) - size + 1, size)", "The last minibatch"),
    ("PB", "(np.exp(log_rho) - 1 - log_rho)", "(-log_rho)", "You estimate the divergence by the mean"),
    ("PC", "if rest <= 0:", "if False:", "For σ² ≥ 2σ₀² the integral diverges"),
    ("PC", "of_a_step**T", "of_a_step", "This is one step"),
    ("PD", "~clipped * rho * A", "rho * A", "Nothing is clipped"),
    ("PD", "rho > 1 + clip, rho < 1 - clip", "abs(rho - 1) > clip, abs(rho - 1) > clip", "You clip on both"),
]
