"""Exercises 4.4, the discounted reward-to-go, and 4.5, the loop of REINFORCE."""

from collections.abc import Callable

import numpy as np

from pgcourse.maths.logistic import softmax
from pgcourse.maths.returns import reward_to_go, total_return
from pgcourse.teaching.exercises.engine import Cases, Exercise


def discounted_reward_to_go(r, gamma):
    """Return Gₜ = Σₖ≥ₜ γᵏ⁻ᵗ rₖ for the rewards r of an episode, shape (T,)."""
    return reward_to_go(r, gamma)


def _cases_4_4(rng: np.random.Generator) -> Cases:
    yield np.array([0.0, 0.0, 1.0]), 0.5
    yield np.array([1.0, 2.0, 3.0]), 0.5
    yield np.array([1.0, 0.0, -1.0]), 1.0
    for _ in range(7):
        yield rng.normal(size=rng.integers(2, 9)), rng.uniform(0.3, 0.95)


_MISCONCEPTIONS_4_4 = {
    "The discount is missing.": lambda r, gamma: reward_to_go(r),
    "Every step gets the whole return, earlier rewards included.": lambda r, gamma: total_return(r, gamma),
    "Off by one: step t's reward is missing.": lambda r, gamma: np.append(reward_to_go(r, gamma)[1:], 0.0),
    "Off by one: you discount the reward of step t, and should start with that of step t + 1.": (
        lambda r, gamma: gamma * reward_to_go(r, gamma)
    ),
    "You discount from the start of the episode, so late steps hardly count. Discount from step t.": (
        lambda r, gamma: reward_to_go(r, gamma, discount_from_start=True)
    ),
    "You sum the rewards up to step t. Sum those from step t on: start at the end of the episode.": (
        lambda r, gamma: reward_to_go(r[::-1], gamma)[::-1]
    ),
    "The values are right, but in reverse order.": lambda r, gamma: reward_to_go(r, gamma)[::-1],
    "You add only the next reward, rₜ + γ rₜ₊₁. Add the next reward-to-go, rₜ + γ Gₜ₊₁.": (
        lambda r, gamma: r + gamma * np.append(r[1:], 0.0)
    ),
}


class _Game:
    """Episodes of a small environment. Episode e draws from its own random numbers, so it can be repeated.

    Args:
        rewards: of each state and action, shape (n_states, n_actions).
        longest: steps of the longest episode, at least 2.
        seed: of all draws.
    """

    def __init__(self, rewards: np.ndarray, longest: int, seed: int):
        self.rewards, self.longest, self.seed = rewards, longest, seed

    def __repr__(self) -> str:
        n_states, n_actions = self.rewards.shape
        return f"a game with {n_states} states and {n_actions} actions, at most {self.longest} steps"

    def __call__(self, w: np.ndarray, e: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play episode e with the weights w; return its states, actions and rewards, each of shape (T,)."""
        rng = np.random.default_rng([self.seed, int(e)])
        s = rng.integers(len(self.rewards), size=rng.integers(2, self.longest + 1))
        pi = softmax(np.asarray(w, float))
        a = np.array([(pi[s_t].cumsum()[:-1] < rng.random()).sum() for s_t in s])
        return s, a, self.rewards[s, a]


def _labels_minus_probabilities(w, s_t, a_t):
    """Return ∂ log π(a∣s)/∂w, zero in all rows but that of the state."""
    score = np.zeros_like(w)
    score[s_t] = (np.arange(w.shape[1]) == a_t) - softmax(w[s_t])
    return score


def _only_labels(w, s_t, a_t):
    score = np.zeros_like(w)
    score[s_t, a_t] = 1.0
    return score


def _only_action_taken(w, s_t, a_t):
    return _labels_minus_probabilities(w, s_t, a_t) * _only_labels(w, s_t, a_t)


Weights = Callable[[np.ndarray], np.ndarray]  # of the scores, from an episode's rewards


def _reinforce(
    w, play, n_episodes, alpha, *, weights: Weights = total_return, score=_labels_minus_probabilities
):
    for e in range(n_episodes):
        s, a, r = play(w, e)
        w = w + alpha * sum(G * score(w, s_t, a_t) for s_t, a_t, G in zip(s, a, weights(r), strict=True))
    return w


def reinforce(w, play, n_episodes, alpha):
    """Return w after w ← w + α G Σₜ ∂Lₜ/∂w for the episodes ``play(w, e)``, e = 0, 1, …

    Slides 25 and 26, with the weights of each episode constant until it is over.
    """
    return _reinforce(w, play, n_episodes, alpha)


def _cases_4_5(rng: np.random.Generator) -> Cases:
    yield np.zeros((2, 2)), _Game(np.array([[1.0, 0.5], [0.5, 2.0]]), 2, 0), 1, 0.5
    yield np.zeros((2, 2)), _Game(np.array([[1.0, -1.0], [0.5, 2.0]]), 3, 1), 2, 0.5
    for seed in range(2, 8):
        shape = rng.integers(2, 5, size=2)
        game = _Game(rng.normal(size=shape), int(rng.integers(3, 6)), seed)
        yield rng.normal(size=shape), game, int(rng.integers(3, 9)), rng.uniform(0.2, 0.6)


def _inside_the_loop(w, play, n_episodes, alpha):
    for e in range(n_episodes):
        s, a, r = play(w, e)
        for s_t, a_t in zip(s, a, strict=True):
            w = w + alpha * r.sum() * _labels_minus_probabilities(w, s_t, a_t)
    return w


_MISCONCEPTIONS_4_5 = {
    "G is missing: multiply the gradients of an episode by its total return.": (
        lambda *case: _reinforce(*case, weights=np.ones_like)
    ),
    "You multiply each step's gradient by that step's reward. Multiply it by the sum over the episode.": (
        lambda *case: _reinforce(*case, weights=lambda r: r)
    ),
    "You divide by the number of steps. Add up the gradients of all steps of an episode.": (
        lambda *case: _reinforce(*case, weights=lambda r: total_return(r) / len(r))
    ),
    "All episodes are played with the initial weights. Play each with the present ones: on-policy.": (
        lambda w, play, n_episodes, alpha: _reinforce(w, lambda _, e: play(w, e), n_episodes, alpha)
    ),
    "You step after every action, as slide 26 prints it. Keep the weights until the episode is over.": (
        _inside_the_loop
    ),
    "You go down the gradient. Add α times the gradient.": (
        lambda w, play, n_episodes, alpha: _reinforce(w, play, n_episodes, -alpha)
    ),
    "The probabilities are missing: the gradient is label minus probability.": (
        lambda *case: _reinforce(*case, score=_only_labels)
    ),
    "Only the logit of the action taken changes. The others get minus their probability.": (
        lambda *case: _reinforce(*case, score=_only_action_taken)
    ),
    "You return how far the weights have moved. Return the weights.": (
        lambda w, *others: _reinforce(w, *others) - w
    ),
}

EXERCISES = [
    Exercise("4.4", discounted_reward_to_go, _cases_4_4, _MISCONCEPTIONS_4_4),
    Exercise("4.5", reinforce, _cases_4_5, _MISCONCEPTIONS_4_5),
]
