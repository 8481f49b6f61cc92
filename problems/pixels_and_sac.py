"""Problem set X: two most probable actions, the last frame of an episode, what entropy costs, an escape."""

import itertools
from collections import deque

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.teaching.exercises.engine import Cases, Exercise


def most_probable_action(sigma):
    """Return tanh u where the derivative of the log-density is 0, by bisection; 0 if u > 0 has none."""
    low, high = 1e-6, 2 * sigma**2 + 1
    if 2 * np.tanh(low) <= low / sigma**2:
        return 0.0
    for _ in range(80):
        u = (low + high) / 2
        low, high = (u, high) if 2 * np.tanh(u) > u / sigma**2 else (low, u)
    return np.tanh(low)


def _cases_a(rng: np.random.Generator) -> Cases:
    yield (1.2,)
    yield (0.5,)
    yield (2.0,)
    for low, high in ((0.1, 0.6), (0.8, 0.95), (1.05, 1.5), (1.5, 2.5)):
        yield (rng.uniform(low, high),)


def _root(factor):
    """Return the largest u with u = factor · tanh u, by iteration from above."""
    u = factor + 1.0
    for _ in range(2000):
        u = factor * np.tanh(u)
    return u


def _density(sigma, a):
    u = np.arctanh(a)
    return np.exp(-((u / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi) * (1 - a**2))


_MISCONCEPTIONS_A = {
    "This is the median. It is the most probable action only while σ is small.": lambda sigma: 0.0,
    "This is u. The action is tanh u.": lambda sigma: np.arctanh(most_probable_action(sigma)),
    "The derivative of log(1 − tanh² u) is −2 tanh u. You leave out the 2.": (
        lambda sigma: np.tanh(_root(sigma**2))
    ),
    "The derivative of the Gaussian's exponent is −u/σ², with the square of σ.": (
        lambda sigma: np.tanh(_root(2 * sigma))
    ),
    "At the bounds the density is 0: the Gaussian falls faster than the derivative of tanh.": (
        lambda sigma: float(2 * sigma**2 > 1)
    ),
    "This is the density at the most probable action. Return the action.": (
        lambda sigma: _density(sigma, most_probable_action(sigma))
    ),
    "This is the action one standard deviation out. The maximum is somewhere else.": (
        lambda sigma: np.tanh(sigma)
    ),
    "This is the other one of the two. Return the largest.": lambda sigma: -most_probable_action(sigma),
    "There the second derivative of the log-density is 0. At a maximum it is the first.": (
        lambda sigma: np.sqrt(max(1 - 1 / (2 * sigma**2), 0))
    ),
}


def transitions(frames, done, final, i, k):
    """Return s and s', from all stacks that the agent has seen, one step after the other."""
    pairs, recent = [], deque([frames[0]] * k, maxlen=k)
    for t in range(len(done)):
        s = list(recent)
        recent.append(final[t] if done[t] else frames[t + 1])
        pairs.append([s, list(recent)])
        if done[t]:
            recent = deque([frames[t + 1]] * k, maxlen=k)
    return np.array(pairs).swapaxes(0, 1)[:, i]


def _cases_b(rng: np.random.Generator) -> Cases:
    few, no_end = np.array([[10], [20], [30], [40]]), np.array([False, False, False])
    yield few, no_end, np.zeros((3, 1), int), np.array([2]), 2
    yield few, np.array([False, True, False]), np.array([[0], [25], [0]]), np.array([1]), 2
    yield few, np.array([False, True, False]), np.array([[0], [25], [0]]), np.array([2, 0]), 3
    for k in (3, 3, 2, 4):
        T = int(rng.integers(10, 16))
        done = rng.random(T) < 0.25
        done[[3, 4, 8]] = True
        frames, final = (rng.integers(1, 256, size=(n, 2)).astype(np.uint8) for n in (T + 1, T))
        yield frames, done, final * done[:, None], rng.permutation(T), k


def _transitions(*, starts=True, last="final", early="first", way=1, swapped=False, depth=None):
    """Return transitions with mistakes; ``early`` says what stands before an episode's first frame."""

    def wrong(frames, done, final, i, k):
        first = np.maximum.accumulate(np.where(np.r_[True, done], np.arange(len(frames)), 0))[i][:, None]
        at = i[:, None] - np.arange((depth or k) - 1, -1, -1)
        missing = (at < first) & starts
        s = frames[np.where(missing, i[:, None] if early == "newest" else first, at)]
        s = s * ~(missing & (early == "black"))[..., None]
        next_frame, ends = frames[i + 1][:, None], done[i][:, None, None]
        newest = np.where(ends & (last != "next"), final[i][:, None], next_frame)
        next_s = np.concatenate([s[:, 1:], newest], axis=1)
        ending = {"repeated": newest, "restart": next_frame, "stays": s, "none": 0 * s}.get(last, next_s)
        next_s = np.where(ends, ending, next_s)
        return np.stack([next_s, s] if swapped else [s, next_s])[:, :, ::way]

    return wrong


_MISCONCEPTIONS_B = {
    "At an episode's end s' has the first frame of the next one. Its newest frame stands in `final`.": (
        _transitions(last="next")
    ),
    "At an episode's end your s' is where the next one begins. An episode that is truncated needs its own.": (
        _transitions(last="restart")
    ),
    "At an episode's end your s' is s. Its newest frame stands in `final`.": _transitions(last="stays"),
    "At an episode's end your s' is black. An episode that is truncated has a value in s'.": (
        _transitions(last="none")
    ),
    "At an episode's end all of your s' is the last frame. Only its newest one is.": (
        _transitions(last="repeated")
    ),
    "A stack has frames of two episodes. None may be older than the episode's first.": (
        _transitions(starts=False)
    ),
    "Before an episode's first frame there are no black ones: the first is repeated.": (
        _transitions(early="black")
    ),
    "You repeat the newest frame where older ones are missing. Repeat the episode's first.": (
        _transitions(early="newest")
    ),
    "The order is reversed: the oldest frame is the first of a stack.": _transitions(way=-1),
    "You return s' and s. The state comes first.": _transitions(swapped=True),
    "A stack has k frames, not always three.": _transitions(depth=3),
}


def lost_return(P, r, gamma, alpha):
    """Return V* − V^π by soft policy iteration, and V* from the list of all deterministic policies."""
    return _optimal(P, r, gamma) - _evaluate(P, r, _soft_optimal(P, r, gamma, alpha), gamma)


def _optimal(P, r, gamma):
    S, K = r.shape
    policies = np.eye(K)[list(itertools.product(range(K), repeat=S))]
    return np.max([_evaluate(P, r, pi, gamma) for pi in policies], axis=0)


def _evaluate(P, r, pi, gamma, alpha=0.0):
    """Return V^π by solving the Bellman equation; with α > 0 the entropy is part of the reward."""
    entropy = -(pi * np.log(np.where(pi > 0, pi, 1))).sum(axis=1)
    P_pi = np.einsum("sk,skn->sn", pi, P)
    return np.linalg.solve(np.eye(len(r)) - gamma * P_pi, (pi * r).sum(axis=1) + alpha * entropy)


def _soft_optimal(P, r, gamma, alpha):
    pi = np.full(r.shape, 1 / r.shape[1])
    for _ in range(30):
        pi = softmax((r + gamma * P @ _evaluate(P, r, pi, gamma, alpha)) / alpha)
    return pi


def _cases_c(rng: np.random.Generator) -> Cases:
    yield np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), 0.0, 0.5
    yield np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), 0.5, 1.0
    for _ in range(5):
        S, K = rng.integers(2, 4), rng.integers(2, 4)
        P = rng.dirichlet(np.ones(S), size=(S, K))
        yield P, rng.normal(size=(S, K)), rng.uniform(0.6, 0.9), rng.uniform(0.2, 1)


def _iterated(P, r, gamma, alpha, value):
    """Return the policy of value iteration in which a state's value is computed from Q and π."""
    v = np.zeros(len(r))
    for _ in range(300):
        Q = r + gamma * P @ v
        v = value(Q, softmax(Q / alpha), alpha)
    return softmax((r + gamma * P @ v) / alpha)


def _loss_of(policy):
    return lambda P, r, gamma, alpha: (
        _optimal(P, r, gamma) - _evaluate(P, r, policy(P, r, gamma, alpha), gamma)
    )


def _soft_V(P, r, gamma, alpha):
    return _evaluate(P, r, _soft_optimal(P, r, gamma, alpha), gamma, alpha)


def _greedy(P, r, gamma, alpha):
    Q = r + gamma * P @ _soft_V(P, r, gamma, alpha)
    return np.eye(r.shape[1])[Q.argmax(axis=1)]


def _first_step(P, r, gamma, alpha):
    Q = r + gamma * P @ _optimal(P, r, gamma)
    return Q.max(axis=1) - (_soft_optimal(P, r, gamma, alpha) * Q).sum(axis=1)


_MISCONCEPTIONS_C = {
    "This is V of the soft problem minus V*. Count the policy's rewards without its entropy.": (
        lambda P, r, gamma, alpha: _soft_V(P, r, gamma, alpha) - _optimal(P, r, gamma)
    ),
    "This is what the policy's entropy is worth, not the reward that it loses.": (
        lambda P, r, gamma, alpha: (
            _soft_V(P, r, gamma, alpha) - _evaluate(P, r, _soft_optimal(P, r, gamma, alpha), gamma)
        )
    ),
    "Your policy is a softmax of Q*/α. In the soft problem later entropy is part of Q.": _loss_of(
        lambda P, r, gamma, alpha: softmax((r + gamma * P @ _optimal(P, r, gamma)) / alpha)
    ),
    "A state's value lacks its entropy: it is α log Σ exp(Q/α), not the mean of Q.": _loss_of(
        lambda *case: _iterated(*case, lambda Q, pi, alpha: (pi * Q).sum(axis=1))
    ),
    "Divide Q by the temperature. You multiply.": _loss_of(
        lambda P, r, gamma, alpha: softmax(alpha * (r + gamma * P @ _soft_V(P, r, gamma, alpha)))
    ),
    "You act greedily in the end. The optimal soft policy is a softmax.": _loss_of(_greedy),
    "You look at the loss of the first step only. The policy goes on with softmax actions.": _first_step,
    "Return the loss of each state, not the mean.": (
        lambda P, r, gamma, alpha: lost_return(P, r, gamma, alpha).mean()
    ),
    "This is the bound. Return the loss itself.": (
        lambda P, r, gamma, alpha: np.full(len(r), alpha * np.log(r.shape[1]) / (1 - gamma))
    ),
}


def rewards_of_medians(mu, log_sigma, noise, alpha, eta):
    """Return the reward of each run, with the gradient as complex steps of the objective."""
    mu, log_sigma = mu.astype(float), np.full(len(mu), log_sigma)
    for eps, temperature in zip(noise, alpha, strict=True):
        d_mu = _objective(mu + 1e-30j, log_sigma, eps, temperature).imag / 1e-30
        d_log_sigma = _objective(mu, log_sigma + 1e-30j, eps, temperature).imag / 1e-30
        mu, log_sigma = mu + eta * d_mu, log_sigma + eta * d_log_sigma
    return _Q(np.tanh(mu))


def _Q(a):
    return 0.6 * np.exp(-25 * (a + 0.5) ** 2) + np.exp(-25 * (a - 0.5) ** 2)


def _dQ(a):
    return -50 * ((a + 0.5) * 0.6 * np.exp(-25 * (a + 0.5) ** 2) + (a - 0.5) * np.exp(-25 * (a - 0.5) ** 2))


def _objective(mu, log_sigma, eps, alpha):
    a = np.tanh(mu[:, None] + np.exp(log_sigma)[:, None] * eps)
    log_pi = -(eps**2) / 2 - log_sigma[:, None] - np.log(1 - a**2)
    return (_Q(a) - alpha * log_pi).mean(axis=1)


def _cases_d(rng: np.random.Generator) -> Cases:
    yield np.array([0.0]), 0.0, np.array([[[0.5, -1.0]]]), np.array([0.2]), 0.1
    yield np.array([-0.5]), -1.0, np.array([[[0.5, -1.0]], [[1.0, 0.2]]]), np.array([0.2, 0.1]), 0.1
    for n_updates, start in ((5, 0.0), (10, -0.5), (15, -1.0), (20, -1.5)):
        noise = rng.normal(size=(n_updates, 6, 4))
        yield rng.uniform(-1, 1, 6), start, noise, np.linspace(0.4, 0.1, n_updates), 0.05


def _ascent(
    *,
    spread=1.0,
    through_tanh=1.0,
    da=True,
    own=True,
    total=False,
    sign=1.0,
    learn=True,
    order=False,
    end=None,
):
    """Return an ascent with mistakes: factors of the entropy's two parts, and of all; and how it ends."""

    def wrong(mu, log_sigma, noise, alpha, eta):
        log_sigma = np.full(len(mu), log_sigma)
        for eps, temperature in zip(noise, alpha if own else np.full(len(alpha), alpha[0]), strict=True):
            for part in ("mu", "sigma") if order else ("both",):
                sigma = np.exp(log_sigma)[:, None]
                a = np.tanh(mu[:, None] + sigma * eps)
                d_u = _dQ(a) * (1 - a**2 if da else 1) - through_tanh * temperature * 2 * a
                average = np.sum if total else np.mean
                d_log = average(d_u * (eps if learn == "sigma" else sigma * eps), axis=1)
                d_log = d_log + spread * temperature * (noise.shape[2] if total else 1)
                if part != "sigma":
                    new_mu = mu + sign * eta * average(d_u, axis=1)
                if part != "mu" and learn:
                    log_sigma = log_sigma + sign * eta * d_log
                mu = new_mu
        return _Q(np.tanh(mu)) if end is None else end(mu, log_sigma, noise)

    return wrong


_MISCONCEPTIONS_D = {
    "The entropy is missing from the gradient.": _ascent(spread=0, through_tanh=0),
    "The entropy's gradient lacks what the tanh does: log π contains −log(1 − a²).": _ascent(through_tanh=0),
    "The entropy's gradient lacks the −log σ of log π, which gives +α.": _ascent(spread=0),
    "The sign of the entropy is wrong: it is −α log π that is to become larger.": _ascent(
        spread=-1, through_tanh=-1
    ),
    "The derivative of tanh is missing: Q'(a) is multiplied by 1 − a².": _ascent(da=False),
    "The derivative of u with respect to log σ is σ times the noise, not the noise.": _ascent(learn="sigma"),
    "The standard deviation is learnt, too.": _ascent(learn=False),
    "The temperature changes: update k has `alpha[k]`.": _ascent(own=False),
    "You add up over the actions of an update. Take the mean.": _ascent(total=True),
    "You go down the gradient.": _ascent(sign=-1.0),
    "Both derivatives are taken at the same policy. You move the mean first.": _ascent(order=True),
    "The median action is tanh μ.": _ascent(end=lambda mu, log_sigma, noise: _Q(mu)),
    "This is the median action. Return its reward.": _ascent(end=lambda mu, log_sigma, noise: np.tanh(mu)),
    "This is the reward of actions that are drawn. Return that of the median action.": _ascent(
        end=lambda mu, log_sigma, noise: _Q(
            np.tanh(mu[:, None] + np.exp(log_sigma)[:, None] * noise[-1])
        ).mean(axis=1)
    ),
    "Return the reward of each run, not the mean.": lambda *case: rewards_of_medians(*case).mean(),
}

PROBLEMS = [
    Exercise("XA", most_probable_action, _cases_a, _MISCONCEPTIONS_A),
    Exercise("XB", transitions, _cases_b, _MISCONCEPTIONS_B),
    Exercise("XC", lost_return, _cases_c, _MISCONCEPTIONS_C),
    Exercise("XD", rewards_of_medians, _cases_d, _MISCONCEPTIONS_D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("XA", "2 * sigma**2 * np.tanh(u)", "sigma**2 * np.tanh(u)", "The derivative of log(1 − tanh² u)"),
    ("XA", "return np.tanh(u)", "return u", "This is u."),
    (
        "XB",
        "np.where(done[i][:, None], final[i], frames[i + 1])",
        "frames[i + 1]",
        "At an episode's end s' has the first frame",
    ),
    (
        "XB",
        "np.maximum(i[:, None] - back, first[i][:, None])",
        "i[:, None] - back",
        "A stack has frames of two",
    ),
    ("XC", "P @ soft", "P @ best", "Your policy is a softmax of Q*/α."),
    ("XC", "return best - v", "return soft - best", "This is V of the soft problem"),
    ("XD", "- 2 * temperature * a", "", "The entropy's gradient lacks what the tanh does"),
    ("XD", " + temperature)", ")", "The entropy's gradient lacks the −log σ"),
]
