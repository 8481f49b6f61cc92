"""Problem set 4: a learnt temperature, streams of episodes, a reference policy, premature convergence."""

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import reward_to_go, total_return
from pgcourse.teaching.exercises.engine import Cases, Exercise


def score_with_temperature(z, T, a):
    """Return the score by central differences of sixth order."""
    w = np.append(z, T)
    steps = [
        [np.log(softmax(v[:-1] / v[-1])[a]) for n in (1, 2, 3) for v in (w + n * e, w - n * e)]
        for e in 0.003 * np.eye(len(w))
    ]
    differences = np.array(steps).reshape(len(w), 3, 2)
    return (differences[..., 0] - differences[..., 1]) @ [45, -9, 1] / 0.18


def _cases_4a(rng: np.random.Generator) -> Cases:
    yield np.array([0.0, 1.0]), 1.0, 1
    yield np.array([0.0, 1.0]), 2.0, 0
    for _ in range(6):
        K = int(rng.integers(2, 5))
        yield rng.normal(size=K), rng.uniform(0.6, 3), int(rng.integers(K))


def _temperature(
    logits=lambda x, T: x / T, T_part=lambda mean, z_a, T: (mean - z_a) / T**2, mean=None, cold=True
):
    def wrong(z, T, a):
        pi = softmax(z / T if cold else z)
        average = pi @ z if mean is None else mean(z)
        return np.append(logits((np.arange(len(z)) == a) - pi, T), T_part(average, z[a], T))

    return wrong


_MISCONCEPTIONS_4A = {
    "The logits are divided by T, and so is their part of the score.": _temperature(lambda x, T: x),
    "The derivative of z/T with respect to T is −z/T².": (
        _temperature(T_part=lambda mean, z_a, T: (mean - z_a) / T)
    ),
    "The sign of the last number is wrong: a higher temperature makes the probable actions less probable.": (
        _temperature(T_part=lambda mean, z_a, T: (z_a - mean) / T**2)
    ),
    "The normalisation depends on T, too: the mean logit is missing.": (
        _temperature(T_part=lambda mean, z_a, T: -z_a / T**2)
    ),
    "The mean logit is taken with the policy's probabilities.": _temperature(mean=np.mean),
    "This is the derivative with respect to 1/T.": _temperature(T_part=lambda mean, z_a, T: z_a - mean),
    "The probabilities are those of z/T, not of z.": _temperature(cold=False),
    "This is minus the score.": lambda *case: -score_with_temperature(*case),
}


def stream_returns(r, done, gamma):
    """Return the reward-to-go of each episode, cut out of the stream."""
    G, first = np.zeros(len(r)), 0
    for last in np.flatnonzero(done):
        G[first : last + 1] = reward_to_go(r[first : last + 1], gamma)
        first = last + 1
    return G


def _cases_4b(rng: np.random.Generator) -> Cases:
    yield np.array([1.0, 2.0, 4.0]), np.array([False, True, False]), 0.5
    yield np.array([1.0, 0.0, 1.0, 1.0]), np.array([False, False, True, True]), 0.5
    for k in range(6):
        r, done = rng.integers(-2, 3, 12).astype(float), rng.random(12) < 0.25
        done[[3, 6]], done[-1] = True, k == 0
        yield r, done, rng.uniform(0.4, 0.95)


def _stream(*, keep_last=False, leak=False, gamma=None, by_reward=False, function=reward_to_go, shift=0):
    def wrong(r, done, discount):
        discount = discount if gamma is None else gamma
        ends = np.flatnonzero(r != 0 if by_reward else done)
        if leak:
            G, over = reward_to_go(r, discount), np.arange(len(r)) <= max(ends, default=-1)
            return G * over
        G, first = np.zeros(len(r)), 0
        for last in [*ends, len(r) - 1] if keep_last else ends:
            G[first : last + 1 + shift] = function(r[first : last + 1 + shift], discount)
            first = last + 1 + shift
        return G

    return wrong


_MISCONCEPTIONS_4B = {
    "The last steps belong to an episode that is not over: they get 0.": _stream(keep_last=True),
    "The sums run on into the next episode.": _stream(leak=True),
    "You begin a new sum at each reward that is not 0. That is right in Pong; here `done` ends an episode.": (
        _stream(by_reward=True)
    ),
    "The discount is missing.": _stream(gamma=1.0),
    "All steps of an episode get its whole return. Return the reward-to-go.": _stream(function=total_return),
    "You discount from the start of the episode. Discount from each step.": (
        _stream(function=lambda r, gamma: reward_to_go(r, gamma, discount_from_start=True))
    ),
    "You sum the rewards so far. Return those from each step on.": (
        _stream(function=lambda r, gamma: reward_to_go(r[::-1], gamma)[::-1])
    ),
    "The reward of the step that is done belongs to the episode that it ends.": (
        lambda r, done, gamma: np.where(done, 0.0, stream_returns(np.where(done, 0.0, r), done, gamma))
    ),
}


def best_policy(r, pi_0, beta):
    """Return policy and objective, the objective from its definition."""
    pi = softmax(r / beta + np.log(pi_0))
    return np.append(pi, pi @ r - beta * pi @ np.log(pi / pi_0))


def _cases_4c(rng: np.random.Generator) -> Cases:
    yield np.array([0.0, 1.0]), np.array([0.5, 0.5]), 1.0
    yield np.array([0.0, 1.0]), np.array([0.8, 0.2]), 2.0
    for _ in range(5):
        K = rng.integers(2, 5)
        yield rng.normal(size=K), rng.dirichlet(np.full(K, 5.0)), rng.uniform(0.2, 2)
    yield np.array([900.0, 1000.0]), np.array([0.6, 0.4]), 0.5


def _objective(pi, r, pi_0, beta):
    return np.append(pi, pi @ r - beta * pi @ np.log(pi / pi_0))


def _with_value(value):
    return lambda r, pi_0, beta: np.append(best_policy(r, pi_0, beta)[:-1], value(r, pi_0, beta))


_MISCONCEPTIONS_4C = {
    "The reference is missing: this is the optimum with an entropy bonus.": (
        lambda r, pi_0, beta: np.append(
            softmax(r / beta), r.max() + beta * np.log(np.exp((r - r.max()) / beta).sum())
        )
    ),
    "r is multiplied by β. A large penalty should keep the policy at the reference: divide.": (
        lambda r, pi_0, beta: _objective(softmax(r * beta + np.log(pi_0)), r, pi_0, beta)
    ),
    "β is missing in the exponent.": lambda r, pi_0, beta: _objective(
        softmax(r + np.log(pi_0)), r, pi_0, beta
    ),
    "The policy is right. Its objective is not only the expected reward: subtract the penalty.": (
        _with_value(lambda r, pi_0, beta: best_policy(r, pi_0, beta)[:-1] @ r)
    ),
    "The policy is right. This is log Z; the objective is β log Z.": (
        _with_value(lambda r, pi_0, beta: best_policy(r, pi_0, beta)[-1] / beta)
    ),
    "The exponentials overflow for large rewards. Subtract the largest reward first.": (
        lambda r, pi_0, beta: np.append(
            pi_0 * np.exp(r / beta) / (pi_0 @ np.exp(r / beta)), beta * np.log(pi_0 @ np.exp(r / beta))
        )
    ),
    "The policy is right. The penalty has the wrong sign in the objective.": (
        _with_value(
            lambda r, pi_0, beta: 2 * best_policy(r, pi_0, beta)[:-1] @ r - best_policy(r, pi_0, beta)[-1]
        )
    ),
    "The probabilities do not sum to 1: divide by Z.": (
        lambda r, pi_0, beta: np.append(pi_0 * np.exp((r - r.max()) / beta), best_policy(r, pi_0, beta)[-1])
    ),
}


def fraction_right(u, r, eta):
    """Return the fraction, run by run, with a sigmoid of the difference of the logits."""
    right = 0
    for run in u:
        d = 0.0  # the logit of action 1 minus that of action 0
        for x in run:
            y = 1 / (1 + np.exp(-d))
            d += 2 * eta * (r[1] * (1 - y) if x < y else -r[0] * y)
        right += (d > 0) == (r[1] > r[0])
    return right / len(u)


def _cases_4d(rng: np.random.Generator) -> Cases:
    for r, eta in (([0.8, 1.0], 3.0), ([1.0, 0.5], 1.0), ([0.7, 1.0], 2.0), ([0.2, 0.4], 4.0)):
        yield rng.random((100, 12)), np.array(r), eta


def _runs(*, baseline=0.0, push=None, reward=None, below=True, sign=1.0, ends=None, frozen=False):
    def wrong(u, r, eta):
        z, first = np.zeros((len(u), 2)), softmax(np.zeros((len(u), 2)))
        for u_t in u.T:
            pi = first if frozen else softmax(z)
            a = (u_t < pi[:, 1]).astype(int) if below else (u_t < pi[:, 0]).astype(int)
            G = (r[a] if reward is None else reward(r, a)) - baseline * r.mean()
            z = z + sign * eta * G[:, None] * (np.eye(2)[a] - pi if push is None else push(np.eye(2)[a], pi))
        best = z.argmax(axis=1) == r.argmax()
        return (best if ends is None else ends(a, r, z)).mean()

    return wrong


_MISCONCEPTIONS_4D = {
    "The probabilities are missing: the score is [k = a] − πₖ.": _runs(push=lambda one, pi: one),
    "Only the logit of the action taken changes. The other one falls by its probability.": (
        _runs(push=lambda one, pi: one * (1 - pi))
    ),
    "You subtract the mean reward. That is chapter 6; here the reward itself is the weight.": _runs(
        baseline=1.0
    ),
    "The reward is missing.": _runs(reward=lambda r, a: np.ones(len(a))),
    "The weight is the reward of the action that was taken, not that of the other.": (
        _runs(reward=lambda r, a: r[1 - a])
    ),
    "Action 1 has the probability π₁: it is taken if the random number is below it.": _runs(below=False),
    "You go down the gradient.": _runs(sign=-1.0),
    "The probabilities have to be computed anew at each step.": _runs(frozen=True),
    "You look at the last action. Look at the probabilities.": _runs(ends=lambda a, r, z: a == r.argmax()),
    "You look at action 1. The better action may be action 0.": _runs(
        ends=lambda a, r, z: z.argmax(axis=1) == 1
    ),
}

PROBLEMS = [
    Exercise("4A", score_with_temperature, _cases_4a, _MISCONCEPTIONS_4A),
    Exercise("4B", stream_returns, _cases_4b, _MISCONCEPTIONS_4B),
    Exercise("4C", best_policy, _cases_4c, _MISCONCEPTIONS_4C),
    Exercise("4D", fraction_right, _cases_4d, _MISCONCEPTIONS_4D),
]

# Typical wrong submissions: what stands in the solution, what instead, and how the feedback begins.
WRONG = [
    ("4A", "pi @ z - z[a]", "-z[a]", "The normalisation depends on T"),
    ("4B", "after = np.zeros(len(r)), None", "after = np.zeros(len(r)), 0.0", "The last steps belong to"),
    ("4B", "if done[t]:", "if r[t]:", "You begin a new sum at each reward"),
    ("4C", "pi_0 * np.exp((r - highest) / beta)", "np.exp((r - highest) / beta)", "The reference is missing"),
    ("4D", "np.eye(2)[a] - pi)", "np.eye(2)[a])", "The probabilities are missing"),
]
