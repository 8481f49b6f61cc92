"""Exercises L.2, the weights of GRPO's tokens, and L.3, the gradient of DPO's loss for a softmax policy."""

import numpy as np

from pgcourse.maths.groups import group_advantages
from pgcourse.maths.logistic import sigmoid, softmax
from pgcourse.maths.preferences import count_wins, dpo_gradient
from pgcourse.teaching.exercises.engine import Cases, Exercise


def token_weights(r, mask):
    """Return what the score of each token is multiplied by in GRPO, shape (B, K, T).

    Aᵢ / (B K ∣yᵢ∣)        Aᵢ standardised within the group; 0 for padding, and in a group of equal rewards
    """
    return _weights(group_advantages(r, "grpo"), mask)


def _weights(A, mask, length=None, *, shares=True, padded=False):
    """The mean over outputs and tokens of A, with mistakes."""
    length = mask.sum(axis=2) if length is None else length(mask)
    weight = A / length / (A.size if shares else 1)
    return weight[..., None] * (np.ones(mask.shape) if padded else mask)


def _cases_2(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 0.0]]), np.array([[[True, True, False], [True, False, False]]])
    yield np.array([[1.0, 1.0]]), np.array([[[True, True], [True, False]]])
    yield np.full((1, 3), 0.1), np.ones((1, 3, 2), bool)
    for _ in range(5):
        B, K, T = rng.integers(2, 4), rng.integers(3, 5), rng.integers(4, 7)
        length = rng.integers(1, T + 1, size=(B, K))
        length[0, 0] = 1
        yield rng.normal(1, rng.uniform(0.5, 2, size=(B, 1)), (B, K)), np.arange(T) < length[..., None]


def _divided(r, std, mean=None):
    """Rewards less their mean, divided by a standard deviation, in a naive way."""
    mean = r.mean(axis=1, keepdims=True) if mean is None else mean
    return (r - mean) / std


def _std(r, **options):
    return r.std(axis=1, keepdims=True, **options)


def _safe(r, std):
    """The same, with 0 for equal rewards."""
    equal = np.ptp(r, axis=1, keepdims=True) == 0
    return np.where(equal, 0, (r - r.mean(axis=1, keepdims=True)) / np.where(equal, 1, std))


_MISCONCEPTIONS_2 = {
    "In a group of equal rewards the standard deviation is 0. There every weight should be 0.": (
        lambda r, mask: _weights(_divided(r, _std(r)), mask)
    ),
    "Rounding leaves a tiny deviation where 0.1 stands three times. Compare the largest and the smallest.": (
        lambda r, mask: _weights(np.where(_std(r) == 0, 0, _divided(r, _std(r))), mask)
    ),
    "You standardise over the whole batch. Mean and deviation are those of the prompt's own group.": (
        lambda r, mask: _weights(_safe(r.reshape(1, -1), r.std()).reshape(r.shape), mask)
    ),
    "The mean is the group's, but the deviation is the batch's.": (
        lambda r, mask: _weights(_safe(r, r.std()), mask)
    ),
    "This is Dr. GRPO's advantage: the division by the deviation is missing.": (
        lambda r, mask: _weights(group_advantages(r, "dr_grpo"), mask)
    ),
    "The advantage is right. GRPO divides by the length of each output, and Dr. GRPO does not.": (
        lambda r, mask: _weights(group_advantages(r, "grpo"), mask, lambda mask: 1)
    ),
    "You divide by T. The length of an output is the number of its own tokens.": (
        lambda r, mask: _weights(group_advantages(r, "grpo"), mask, lambda mask: mask.shape[2])
    ),
    "You divide by the tokens of the whole group. In GRPO each output is divided by its own length.": (
        lambda r, mask: _weights(
            group_advantages(r, "grpo"), mask, lambda m: m.sum(axis=(1, 2))[:, None] / m.shape[1]
        )
    ),
    "Padding has a weight, too. It is no token of the output.": (
        lambda r, mask: _weights(group_advantages(r, "grpo"), mask, padded=True)
    ),
    "It is a mean over B prompts and K outputs: divide by their number.": (
        lambda r, mask: _weights(group_advantages(r, "grpo"), mask, shares=False)
    ),
    "The deviation has K in its denominator here, not K − 1.": (
        lambda r, mask: _weights(_safe(r, _std(r, ddof=1)), mask)
    ),
}


def dpo_step(z, p_ref, chosen, rejected, beta):
    """Return the gradient of DPO's loss with respect to the logits z of a policy π = softmax(z), shape (N,).

    ∂loss/∂z = −β/M Σ σ(−margin) (e_chosen − e_rejected)
    """
    wins = count_wins(chosen, rejected, len(z))
    return dpo_gradient(np.log(softmax(z)), np.log(p_ref), wins, beta)  # the score's π cancels in a pair


def _pairs(weight, *, margin=None, over=len, only_chosen=False, at_once=False, minus_pi=False):
    """A gradient of DPO's loss with mistakes; weight is a function of the margin and β."""

    def wrong(z, p_ref, chosen, rejected, beta):
        r_hat = beta * np.log(softmax(z) / p_ref)
        m = r_hat[chosen] - r_hat[rejected] if margin is None else margin(z, p_ref, chosen, rejected, beta)
        factor, g = weight(m, beta) / over(m), np.zeros(len(z))
        if at_once:
            g[chosen] -= factor
            g[rejected] += factor
            return g
        np.add.at(g, chosen, -factor)
        if minus_pi:
            g += factor.sum() * softmax(z)
        if not only_chosen:
            np.add.at(g, rejected, factor)
        return g

    return wrong


def _right(m, beta):
    return beta * sigmoid(-m)


def _log_ratios(z, p_ref):
    return np.log(softmax(z) / p_ref)


_MISCONCEPTIONS_3 = {
    "The reference is missing: a margin compares log(π/π_ref), not log π.": _pairs(
        _right, margin=lambda z, p_ref, y, x, beta: beta * (z[y] - z[x])
    ),
    "β is missing inside the sigmoid: the implicit reward is β log(π/π_ref).": _pairs(
        _right, margin=lambda z, p_ref, y, x, beta: _log_ratios(z, p_ref)[y] - _log_ratios(z, p_ref)[x]
    ),
    "β is missing in front: the derivative of the margin has it.": _pairs(lambda m, beta: sigmoid(-m)),
    "You weight a pair by how right it already is. The weight is σ(−margin): wrong pairs count most.": _pairs(
        lambda m, beta: beta * sigmoid(m)
    ),
    "Every pair has the same weight. It should be σ(−margin).": _pairs(
        lambda m, beta: beta * np.ones(len(m))
    ),
    "The derivative of log σ is σ(−margin). Yours has another factor σ(margin).": _pairs(
        lambda m, beta: beta * sigmoid(m) * sigmoid(-m)
    ),
    "You add up over the pairs. Take the mean.": _pairs(_right, over=lambda m: 1),
    "Only the chosen outputs have a gradient. The rejected ones are to become less probable.": _pairs(
        _right, only_chosen=True
    ),
    "This is supervised learning of the chosen outputs with weights. The rejected ones are missing.": _pairs(
        _right, only_chosen=True, minus_pi=True
    ),
    "An output that occurs in several pairs counts once: `g[chosen] -= …` keeps one. Use `np.add.at`.": (
        _pairs(_right, at_once=True)
    ),
    "You compare ratios of probabilities. The implicit reward is β times their logarithm.": _pairs(
        _right,
        margin=lambda z, p_ref, y, x, beta: beta * ((softmax(z) / p_ref)[y] - (softmax(z) / p_ref)[x]),
    ),
}


def _cases_3(rng: np.random.Generator) -> Cases:
    half = np.array([0.5, 0.5])
    yield np.zeros(2), half, np.array([0]), np.array([1]), 1.0
    yield np.log([0.8, 0.2]), half, np.array([0]), np.array([1]), 1.0
    yield np.log([0.8, 0.2]), half, np.array([1]), np.array([0]), 0.5
    for _ in range(6):
        N, M = rng.integers(3, 6), rng.integers(5, 9)
        chosen = rng.integers(N, size=M)
        chosen[1] = chosen[0]  # an output that is chosen twice
        rejected = (chosen + rng.integers(1, N, size=M)) % N
        yield rng.normal(size=N), rng.dirichlet(np.ones(N)), chosen, rejected, rng.uniform(0.2, 2)


EXERCISES = [
    Exercise("L.2", token_weights, _cases_2, _MISCONCEPTIONS_2),
    Exercise("L.3", dpo_step, _cases_3, _MISCONCEPTIONS_3),
]
