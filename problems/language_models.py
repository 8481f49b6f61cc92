"""Problem set L: what GRPO weights, the gradient of a clipped group, three penalties, best of n."""

from itertools import product

import numpy as np

from pgcourse.maths.groups import group_advantages
from pgcourse.maths.trust_region import importance_weight, is_clipped
from pgcourse.teaching.exercises.engine import Cases, Exercise


def expected_weight(p, K):
    """Return the multiple by a sum over all 2ᴷ groups: the score of p is 1/p if right, −1/(1−p) if wrong."""
    total = np.zeros(len(p))
    for right in product((0.0, 1.0), repeat=K):
        r = np.array([right])
        chance = np.prod([p if x else 1 - p for x in right], axis=0)
        scores = np.array([1 / p if x else -1 / (1 - p) for x in right])
        total += chance * (group_advantages(r, "grpo")[0] @ scores) / K
    return total


def _cases_a(rng: np.random.Generator) -> Cases:
    yield np.array([0.5]), 2
    yield np.array([0.5, 0.1]), 3
    for K in (2, 4, 5, 6, 8):
        yield rng.uniform(0.02, 0.98, rng.integers(2, 5)), K


def _mean_root(p, K):
    """Return E[√(c(K−c))], where c of K are right."""
    c, total = 0, np.zeros(len(p))
    chance = (1 - p) ** K
    for c in range(K + 1):
        total += chance * np.sqrt(c * (K - c))
        chance = chance * (K - c) / (c + 1) * p / (1 - p)
    return total


_MISCONCEPTIONS_A = {
    "This is the limit of many outputs. Of K outputs, c are right: average over c.": (
        lambda p, K: 1 / np.sqrt(p * (1 - p))
    ),
    "You leave out groups of equal rewards. They count, with advantages of 0.": (
        lambda p, K: _mean_root(p, K) / K / p / (1 - p) / (1 - p**K - (1 - p) ** K)
    ),
    "The standard deviation has K in its denominator, not K − 1.": (
        lambda p, K: _mean_root(p, K) / K / p / (1 - p) * np.sqrt((K - 1) / K)
    ),
    "This is the multiple of Dr. GRPO, which does not divide by the standard deviation.": (
        lambda p, K: np.full(len(p), 1 - 1 / K)
    ),
    "This is the mean of the standard deviation. Mean scores of right and wrong have 1/p and 1/(1−p).": (
        lambda p, K: _mean_root(p, K) / K
    ),
    "These are the right outputs only. The wrong ones have negative advantages and opposite scores.": (
        lambda p, K: _mean_root(p, K) / K / p
    ),
    "These are the wrong outputs only. The right ones contribute, too.": (
        lambda p, K: _mean_root(p, K) / K / (1 - p)
    ),
    "The estimate is the mean over the K outputs. You add them up.": (
        lambda p, K: _mean_root(p, K) / p / (1 - p)
    ),
    "You divide by the variance p(1−p) of many outputs, but the group's own deviation varies.": (
        lambda p, K: (1 - 1 / K) / np.sqrt(p * (1 - p))
    ),
}


def clipped_gradient(w, w_old, prompt, y, r, clip):
    """Return the gradient, token by token, with the package's functions of the log-probabilities."""
    A, g = group_advantages(r[None], "rloo")[0], np.zeros(w.shape)
    for tokens, A_i in zip(y, A, strict=True):
        before = prompt
        for token in tokens:
            pi = _softmax(w[before])
            L, L_old = (np.log(_softmax(v[before])[[token]]) for v in (w, w_old))
            rho = importance_weight(L, L_old)
            if not is_clipped(rho, np.array([A_i]), clip)[0]:
                g[before] += rho[0] * A_i / len(r) * ((np.arange(len(pi)) == token) - pi)
            if token == 0:
                break
            before = token
    return g


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _cases_b(rng: np.random.Generator) -> Cases:
    yield np.zeros((2, 2)), np.zeros((2, 2)), 1, np.array([[1, 0], [0, 0]]), np.array([1.0, 0.0]), 0.2
    for _ in range(7):
        V, K, T = rng.integers(3, 5), rng.integers(3, 6), rng.integers(4, 7)
        y = rng.integers(V, size=(K, T))
        y[0, 1] = y[0, 2] = y[1, 1] = 1  # a token that occurs several times; and an end within
        y[1, 2] = 0
        w = rng.normal(size=(V, V))
        w_old = w + rng.normal(0, 0.5, size=(V, V))
        yield w, w_old, int(rng.integers(1, V)), y, rng.normal(size=K), rng.uniform(0.1, 0.3)


def _group(*, A=None, mask=None, level="token", weight=None, by=None, before=None, at_once=False, score=None):
    """A gradient with mistakes."""

    def wrong(w, w_old, prompt, y, r, clip):
        K = len(y)
        A_i = (group_advantages(r[None], "rloo")[0] if A is None else A(r))[:, None]
        row = np.column_stack([np.full(K, prompt), y[:, :-1]]) if before is None else before(prompt, y)
        ended = np.cumsum(y == 0, axis=1)
        taken = ended - (y == 0) == 0 if mask is None else mask(y, ended)
        pi, pi_0 = _softmax(w), _softmax(w_old)
        rho = pi[row, y] / pi_0[row, y]
        if level == "sequence":
            rho = np.broadcast_to(np.where(taken, rho, 1).prod(axis=1, keepdims=True), y.shape)
        flat = np.where(A_i > 0, rho > 1 + clip, rho < 1 - clip)
        factor = taken * (~flat * rho if weight is None else weight(rho, flat, clip)) * A_i
        factor = factor / (K if by is None else by(taken))
        push = factor[..., None] * (np.eye(len(w))[y] - (pi[row] if score is None else score(pi[row])))
        g = np.zeros(w.shape)
        if at_once:
            g[row] += push
        else:
            np.add.at(g, row, push)
        return g

    return wrong


_MISCONCEPTIONS_B = {
    "Tokens after the end are counted. They are padding, which the policy has not chosen.": (
        _group(mask=lambda y, ended: np.ones(y.shape, bool))
    ),
    "The end token is missing. The policy has chosen to end there.": (
        _group(mask=lambda y, ended: ended == 0)
    ),
    "The mean of the group includes the output itself. Leave it out.": (_group(A=lambda r: r - r.mean())),
    "You standardise the rewards. RLOO subtracts the mean over the other answers, and divides by nothing.": (
        _group(A=lambda r: (r - r.mean()) / r.std())
    ),
    "No baseline is subtracted.": _group(A=lambda r: r),
    "You divide each output by its length. Divide by K only.": (
        _group(by=lambda taken: len(taken) * taken.sum(axis=1, keepdims=True))
    ),
    "You divide by the number of tokens of the group. Divide by K.": _group(by=lambda taken: taken.sum()),
    "You add up over the group. Divide by K.": _group(by=lambda taken: 1),
    "This is the ratio of whole outputs. Each token has its own.": _group(level="sequence"),
    "Nothing is clipped.": _group(weight=lambda rho, flat, clip: rho),
    "You clip on both sides. A good token that has become less probable keeps its gradient.": (
        _group(weight=lambda rho, flat, clip: rho * (abs(rho - 1) <= clip))
    ),
    "The importance weight is missing: the derivative of ρ is ρ times the score.": (
        _group(weight=lambda rho, flat, clip: 1.0 * ~flat)
    ),
    "The row is that of the token before, not of the token itself; before the first one it is the prompt.": (
        _group(before=lambda prompt, y: y)
    ),
    "The first token follows the prompt. You begin every output in the row of the end token.": (
        _group(before=lambda prompt, y: np.column_stack([np.zeros(len(y), int), y[:, :-1]]))
    ),
    "A row that occurs several times counts once: `g[rows] += …` keeps one. Use `np.add.at`.": (
        _group(at_once=True)
    ),
    "Only the logit of the token changes. The others get minus their probability.": (
        _group(score=lambda pi: 0 * pi)
    ),
}


def three_penalties(z, q, d_A, d_B):
    """Return the three derivatives by finite differences."""

    def kl(p, q):
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    def whole(z):
        p = _sigmoid(z)
        return kl(p, q) + p * d_A + (1 - p) * d_B

    penalties = (whole, lambda z: kl(_sigmoid(z), q), lambda z: kl(q, _sigmoid(z)))
    return np.array([(f(z + 1e-5) - f(z - 1e-5)) / 2e-5 for f in penalties])


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _cases_c(rng: np.random.Generator) -> Cases:
    yield 0.0, 0.5, 1.0, 0.0
    yield 0.0, 0.25, 0.0, 0.0
    for _ in range(6):
        yield rng.normal(), rng.uniform(0.1, 0.9), rng.uniform(0, 2), rng.uniform(0, 2)


def _three(whole=None, k2=None, k3=None):
    """The formulas, with mistakes in some."""

    def wrong(z, q, d_A, d_B):
        p = _sigmoid(z)
        log_odds = z - np.log(q / (1 - q))
        right = [p * (1 - p) * (log_odds + d_A - d_B), p * (1 - p) * log_odds, p - q]
        case = (p, q, log_odds, d_A, d_B)
        made = [f if f is None else f(*case) for f in (whole, k2, k3)]
        return np.array([x if y is None else y for x, y in zip(right, made, strict=True)])

    return wrong


_MISCONCEPTIONS_C = {
    "In the reward, the first token also answers for the divergence of the prefix to which it leads.": (
        _three(lambda p, q, log_odds, d_A, d_B: p * (1 - p) * log_odds)
    ),
    "Token by token, the second token's divergences have no derivative: they do not depend on z.": (
        _three(
            k2=lambda p, q, log_odds, d_A, d_B: p * (1 - p) * (log_odds + d_A - d_B),
            k3=lambda p, q, log_odds, d_A, d_B: p - q + p * (1 - p) * (d_A - d_B),
        )
    ),
    "More of A is less of B: the two divergences are subtracted.": (
        _three(lambda p, q, log_odds, d_A, d_B: p * (1 - p) * (log_odds + d_A + d_B))
    ),
    "The derivative of p with respect to z is p(1−p).": (
        _three(
            lambda p, q, log_odds, d_A, d_B: log_odds + d_A - d_B, lambda p, q, log_odds, d_A, d_B: log_odds
        )
    ),
    "You weight the two divergences with p and 1 − p. That is the penalty, not its derivative.": (
        _three(lambda p, q, log_odds, d_A, d_B: p * (1 - p) * log_odds + p * d_A + (1 - p) * d_B)
    ),
    "k₃ has the gradient of the reverse divergence, KL(π_ref ‖ π). Yours has that of KL(π ‖ π_ref).": (
        _three(k3=lambda p, q, log_odds, d_A, d_B: p * (1 - p) * log_odds)
    ),
    "The derivative of k₃ is (1 − π_ref/π) times the score, with a plus sign.": (
        _three(k3=lambda p, q, log_odds, d_A, d_B: q - p)
    ),
    "You differentiate k₂ like k₁, which gives 0. Its derivative is the logarithm times the score.": (
        _three(k2=lambda p, q, log_odds, d_A, d_B: 0.0)
    ),
    "The factor ½ of k₂ goes away in its derivative.": (
        _three(k2=lambda p, q, log_odds, d_A, d_B: p * (1 - p) * log_odds / 2)
    ),
    "Returned are the gradients of the penalties, not of the objective: the sign is plus.": (
        lambda z, q, d_A, d_B: -three_penalties(z, q, d_A, d_B)
    ),
}


def best_of_n(true, noise, n):
    """Return the means, prompt by prompt."""
    proxies, rewards = [], []
    for n_k in n:
        picked = [max(range(n_k), key=lambda j: t[j] + e[j]) for t, e in zip(true, noise, strict=True)]
        rewards.append(np.mean([t[j] for t, j in zip(true, picked, strict=True)]))
        proxies.append(np.mean([t[j] + e[j] for t, e, j in zip(true, noise, picked, strict=True)]))
    return np.array([proxies, rewards])


def _cases_d(rng: np.random.Generator) -> Cases:
    yield np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]]), np.array([1, 2])
    for _ in range(5):
        N, n = rng.integers(3, 8), rng.integers(4, 9)
        yield rng.normal(size=(N, n)), rng.standard_t(2, size=(N, n)), np.array([1, 2, int(n) - 1, int(n)])


def _picked(proxy=None, pick=np.argmax, part=None, total=np.mean, value=None):
    def wrong(true, noise, n):
        both = []
        for n_k in n:
            t, e = (x[:, :n_k] if part is None else part(x, n_k) for x in (true, noise))
            j = pick(t + e if proxy is None else proxy(t, e), axis=1)[:, None]
            found = [np.take_along_axis(x, j, axis=1)[:, 0] for x in (t + e, t)]
            both.append([total(x) for x in (found if value is None else value(t, e, j, found))])
        return np.array(both).T

    return wrong


_MISCONCEPTIONS_D = {
    "You pick the output whose true reward is best. Only the proxy is known when it is picked.": (
        _picked(proxy=lambda t, e: t)
    ),
    "You pick by the noise alone. The proxy is the true reward plus the noise.": _picked(
        proxy=lambda t, e: e
    ),
    "This is the best true reward of the n, not that of the output picked.": (
        _picked(value=lambda t, e, j, found: [found[0], t.max(axis=1)])
    ),
    "This is the mean of all n outputs. Take the one picked.": (
        _picked(value=lambda t, e, j, found: [(t + e).mean(axis=1), t.mean(axis=1)])
    ),
    "You pick the worst.": _picked(pick=np.argmin),
    "You pick from all outputs, whatever n is.": _picked(part=lambda x, n: x),
    "You pick from the last n. Take the first n outputs of each prompt.": (
        _picked(part=lambda x, n: x[:, -n:])
    ),
    "One output is picked for all prompts. Each prompt has its own best.": (
        _picked(proxy=lambda t, e: np.broadcast_to((t + e).mean(axis=0), t.shape))
    ),
    "This is the noise of the output picked. Its proxy is the true reward plus the noise.": (
        _picked(value=lambda t, e, j, found: [found[0] - found[1], found[1]])
    ),
    "The first row is the proxy, the second the true reward.": _picked(
        value=lambda t, e, j, found: found[::-1]
    ),
    "Take the mean over the prompts, not the sum.": _picked(total=np.sum),
}

PROBLEMS = [
    Exercise("LA", expected_weight, _cases_a, _MISCONCEPTIONS_A),
    Exercise("LB", clipped_gradient, _cases_b, _MISCONCEPTIONS_B),
    Exercise("LC", three_penalties, _cases_c, _MISCONCEPTIONS_C),
    Exercise("LD", best_of_n, _cases_d, _MISCONCEPTIONS_D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("LA", " / p / (1 - p)", "", "This is the mean of the standard deviation"),
    ("LA", "/ p / (1 - p)", "/ p", "These are the right outputs only"),
    ("LB", "(y == 0).cumsum(axis=1) - (y == 0) == 0", "(y == 0).cumsum(axis=1) == 0", "The end token"),
    ("LB", "K / (K - 1) * (r - r.mean())", "r - r.mean()", "The mean of the group includes"),
    (
        "LB",
        "np.add.at(g, before, factor[..., None] * score)",
        "g[before] += factor[..., None] * score",
        "A row that occurs",
    ),
    ("LC", "log_odds + d_A - d_B", "log_odds", "In the reward, the first token"),
    ("LC", "p - q]", "p * (1 - p) * log_odds]", "k₃ has the gradient of the reverse"),
    ("LD", "(t + e).argmax(axis=1)", "t.argmax(axis=1)", "You pick the output whose true"),
]
