"""Exercises L.2, the weights of GRPO's tokens, and L.3, the gradient of DPO's loss for a softmax policy."""

import numpy as np

from pgcourse.maths.groups import group_advantages
from pgcourse.maths.logistic import sigmoid, softmax
from pgcourse.maths.preferences import count_wins, dpo_gradient
from pgcourse.teaching.exercises.engine import Cases, Exercise


def token_weights(r, prompt, mask):
    """Return what the score of each token is multiplied by in GRPO, shape (N, T).

    Aᵢ / (N ∣yᵢ∣)        Aᵢ standardised over the answers to the same prompt, 0 if their rewards are equal
    """
    return _weights(_by_prompt(r, prompt), mask)


def _by_prompt(r, prompt, advantages=lambda r: group_advantages(r[None], "grpo")[0]):
    A = np.zeros(len(r))
    for x in np.unique(prompt):
        A[prompt == x] = advantages(r[prompt == x])
    return A


def _weights(A, mask, length=lambda mask: mask.sum(axis=1), *, n=len, padded=False):
    """The mean over answers of what their tokens get, with mistakes."""
    weight = (A / length(mask) / n(A))[:, None]
    return weight * (np.ones(mask.shape) if padded else mask)


def _cases_2(rng: np.random.Generator) -> Cases:
    yield np.array([1.0, 0.0]), np.zeros(2, int), np.array([[True, True, False], [True, False, False]])
    yield np.array([1.0, 1.0]), np.zeros(2, int), np.array([[True, True], [True, False]])
    yield np.full(3, 0.1), np.zeros(3, int), np.ones((3, 2), bool)
    for _ in range(5):
        B, T = rng.integers(2, 4), rng.integers(4, 7)
        prompt = rng.permutation(np.repeat(np.arange(B), rng.integers(3, 5, size=B)))
        length = rng.integers(1, T + 1, size=len(prompt))
        r = rng.normal(size=len(prompt)) * np.array([0.5, 1, 2])[prompt] + prompt
        yield r, prompt, np.arange(T) < length[:, None]


def _safe(r, std, mean=None):
    """Rewards less their mean, divided by a standard deviation; 0 where they are equal."""
    return np.zeros(len(r)) if np.ptp(r) == 0 else (r - (r.mean() if mean is None else mean)) / std


_MISCONCEPTIONS_2 = {
    "In a group of equal rewards the standard deviation is 0. There every weight should be 0.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt, lambda r: (r - r.mean()) / r.std()), mask)
    ),
    "Rounding leaves a tiny deviation where 0.1 stands three times. Compare the largest and the smallest.": (
        lambda r, prompt, mask: _weights(
            _by_prompt(r, prompt, lambda r: (r - r.mean()) / r.std() if r.std() > 0 else 0 * r), mask
        )
    ),
    "You standardise over the whole batch. Mean and deviation are those of the prompt's own answers.": (
        lambda r, prompt, mask: _weights(_safe(r, r.std()), mask)
    ),
    "The mean is the group's, but the deviation is the batch's.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt, lambda x: _safe(x, r.std())), mask)
    ),
    "This is Dr. GRPO's advantage: the division by the deviation is missing.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt, lambda r: _safe(r, 1)), mask)
    ),
    "The advantage is right. GRPO divides by the length of each answer, and Dr. GRPO does not.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt), mask, lambda mask: 1)
    ),
    "You divide by T. The length of an answer is the number of its own tokens.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt), mask, lambda mask: mask.shape[1])
    ),
    "You divide by the tokens of all answers. In GRPO each answer is divided by its own length.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt), mask, lambda mask: mask.sum(), n=lambda A: 1)
    ),
    "Padding has a weight, too. It is no token of the answer.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt), mask, padded=True)
    ),
    "It is a mean over all N answers: divide by their number.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt), mask, n=lambda A: 1)
    ),
    "The deviation has the number of answers in its denominator here, not one less.": (
        lambda r, prompt, mask: _weights(_by_prompt(r, prompt, lambda r: _safe(r, r.std(ddof=1))), mask)
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
