"""Exercises 7.4, the TD error at the two kinds of end, and 7.5, one iteration of a tabular actor–critic."""

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.maths.td import td_error
from pgcourse.teaching.exercises.engine import Cases, Exercise


def td_errors(r, v, next_v, terminated, truncated, gamma):
    """Return δ = r + γ v(s′) − v(s), shape (N,), without γ v(s′) where the episode terminated."""
    return td_error(r, v, next_v, terminated, gamma)


def _cases_7_4(rng: np.random.Generator) -> Cases:
    no, yes = np.array([False]), np.array([True])
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), yes, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, yes, 0.5
    for _ in range(7):
        n = rng.integers(3, 7)
        yield *rng.normal(size=(3, n)), rng.random(n) < 0.3, rng.random(n) < 0.3, rng.uniform(0.5, 0.99)


_MISCONCEPTIONS_7_4 = {
    "After termination there is no next state: leave out γ v(s′) there.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v - v
    ),
    "You leave out γ v(s′) at truncation too. A truncated episode would have gone on: keep it there.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~(term | trunc) - v
    ),
    "It is the other way round: leave out γ v(s′) where `terminated`, keep it where `truncated`.": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~trunc - v
    ),
    "The discount is missing.": lambda r, v, next_v, term, trunc, gamma: r + next_v * ~term - v,
    "This is the TD target. The TD error is the target minus v(s).": (
        lambda r, v, next_v, term, trunc, gamma: r + gamma * next_v * ~term
    ),
    "The sign is wrong: better than expected should be positive.": (
        lambda r, v, next_v, term, trunc, gamma: -td_errors(r, v, next_v, term, trunc, gamma)
    ),
    "You leave out v(s) at termination. The critic's prediction has to be subtracted there too.": (
        lambda r, v, next_v, term, trunc, gamma: r + (gamma * next_v - v) * ~term
    ),
    "You leave out the reward at termination. The last reward counts.": (
        lambda r, v, next_v, term, trunc, gamma: (r + gamma * next_v) * ~term - v
    ),
    "At termination the TD error is not 0 but r − v(s).": (
        lambda r, v, next_v, term, trunc, gamma: (r + gamma * next_v - v) * ~term
    ),
    "v(s) and v(s′) are exchanged.": lambda r, v, next_v, term, trunc, gamma: r + gamma * v * ~term - next_v,
    "Do not discount the reward.": lambda r, v, next_v, term, trunc, gamma: gamma * (r + next_v * ~term) - v,
}


def _step(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma, *, critic_first=False, scale=None):
    """One iteration, with the mistakes that need more than other arguments."""
    delta = td_error(r, v[s], v[next_s], terminated, gamma)
    scale = 1 / len(s) if scale is None else scale
    score = np.eye(w.shape[1])[a] - softmax(w[s])
    new_w, new_v = w.copy(), v.copy()
    np.add.at(new_v, s, eta_critic * scale * delta)
    if critic_first:
        delta = td_error(r, new_v[s], new_v[next_s], terminated, gamma)
    np.add.at(new_w, s, eta * scale * delta[:, None] * score)
    return np.column_stack([new_w, new_v])


def actor_critic_step(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma):
    """Return the new logits and values side by side after one step for N transitions, shape (S, K + 1).

    v ← v + η′ mean δ ∂v/∂v        w ← w + η mean δ ∂ log π/∂w        every δ from the old v

    Slide 61, with lines 2 and 3 exchanged.
    """
    return _step(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma)


def _cases_7_5(rng: np.random.Generator) -> Cases:
    w, v, no, yes = np.zeros((2, 2)), np.array([1.0, 3.0]), np.array([False]), np.array([True])
    yield w, v, np.array([0]), np.array([1]), np.array([2.0]), np.array([1]), no, 0.2, 0.5, 0.5
    yield w, v, np.array([0]), np.array([1]), np.array([2.0]), np.array([1]), yes, 0.2, 0.5, 0.5
    for _ in range(6):
        S, K, N = rng.integers(2, 4), rng.integers(2, 4), rng.integers(4, 8)
        s, next_s = rng.integers(S, size=(2, N))
        s[1] = s[0]  # a state that occurs twice
        terminated = rng.random(N) < 0.3
        rates = rng.uniform(0.1, 0.3), rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.95)
        tables = rng.normal(size=(S, K)), rng.normal(size=S)
        yield *tables, s, rng.integers(K, size=N), rng.normal(size=N), next_s, terminated, *rates


def _by_index(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma):
    delta = td_error(r, v[s], v[next_s], terminated, gamma) / len(s)
    w, v, score = w.copy(), v.copy(), np.eye(w.shape[1])[a] - softmax(w[s])
    w[s] += eta * delta[:, None] * score
    v[s] += eta_critic * delta
    return np.column_stack([w, v])


def _only_label(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma):
    delta = td_error(r, v[s], v[next_s], terminated, gamma) / len(s)
    new_w, new_v = w.copy(), v.copy()
    np.add.at(new_w, (s, a), eta * delta)
    np.add.at(new_v, s, eta_critic * delta)
    return np.column_stack([new_w, new_v])


def _target_as_weight(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma):
    actor = _step(w, np.zeros_like(v), s, a, r + gamma * v[next_s] * ~terminated, s, terminated, eta, 0, 0)
    critic = _step(w, v, s, a, r, next_s, terminated, eta, eta_critic, gamma)
    return np.column_stack([actor[:, :-1], critic[:, -1]])


def _with(case, changes):
    """Return the arguments of a case with some of them, by position, exchanged."""
    return [changes.get(k, argument) for k, argument in enumerate(case)]


_MISCONCEPTIONS_7_5 = {
    "The critic moves first, and the actor's TD errors are computed afterwards. Compute δ once, before.": (
        lambda *case: _step(*case, critic_first=True)
    ),
    "You add up over the transitions. Take the mean.": lambda *case: _step(*case, scale=1.0),
    "A state that occurs twice counts once: `w[s] += …` keeps one of them. Use `np.add.at`.": _by_index,
    "After termination there is no next state: leave out γ v(s′) there.": (
        lambda *case: _step(*_with(case, {6: np.zeros_like(case[6])}))
    ),
    "Only the logit of the action taken changes. The others get minus their probability.": _only_label,
    "The target multiplies the score. The TD error should: the target minus v(s).": _target_as_weight,
    "The learning rates are exchanged: η is the actor's, η′ the critic's.": (
        lambda *case: _step(*_with(case, {7: case[8], 8: case[7]}))
    ),
    "The actor goes down the gradient. Add η times δ times the score.": (
        lambda *case: _step(*_with(case, {7: -case[7]}))
    ),
    "The critic moves away from its target. Add η′ δ.": (lambda *case: _step(*_with(case, {8: -case[8]}))),
    "The discount is missing.": lambda *case: _step(*_with(case, {9: 1.0})),
}

EXERCISES = [
    Exercise("7.4", td_errors, _cases_7_4, _MISCONCEPTIONS_7_4),
    Exercise("7.5", actor_critic_step, _cases_7_5, _MISCONCEPTIONS_7_5),
]
