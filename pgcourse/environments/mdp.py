"""Small Markov decision processes, solved exactly: values, state visitation, gradients, and every episode.

V(s) = Σₐ π(a∣s) Q(s,a)        Q(s,a) = r(s,a) + γ Σₛ' P(s'∣s,a) V(s')        A = Q − V        J = E[V(s₀)]

The policy is a softmax of a table of logits w, with a row for each observation x. Aliased states, with the
same x, share a row. The process is then partially observable, a POMDP.

π(k∣s) = exp w[x(s),k] / Σⱼ exp w[x(s),j]

Slides 28–34 and 53–56; Sutton & Barto (2018), chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from pgcourse import checks
from pgcourse.environments import markov
from pgcourse.maths.estimators import Episodes
from pgcourse.maths.logistic import softmax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Logits = Float[np.ndarray, "n_observations K"]

MAX_EPISODES = 1_000_000


class ValueFunctions(NamedTuple):
    """V, Q and A = Q − V of a policy. With a horizon, all have one more axis in front, the time step."""

    V: Float[np.ndarray, "*T S"]
    Q: Float[np.ndarray, "*T S K"]
    A: Float[np.ndarray, "*T S K"]


class AverageRewardValues(NamedTuple):
    """Average reward, stationary distribution and differential values of a policy in a continuing task.

    r̄ = Σₛ d(s) Σₐ π(a∣s) r(s,a)        Q(s,a) = r(s,a) − r̄ + Σₛ' P(s'∣s,a) V(s')        Σₛ d(s) V(s) = 0
    """

    r_bar: float  # average reward per step, r̄
    d: Float[np.ndarray, " S"]  # stationary distribution: share of all steps spent in each state
    V: Float[np.ndarray, " S"]  # differential value: how much more reward than average is expected from s on
    Q: Float[np.ndarray, "S K"]
    A: Float[np.ndarray, "S K"]


@dataclass(frozen=True, eq=False)
class MDP:
    """A Markov decision process with S states and K actions.

    An episode ends when it enters an absorbing state or has lasted ``horizon`` steps. The arrays are copied
    and read-only. The argument w of the methods is a finite table of logits, shape (n_observations, K).

    Args:
        P: transition probabilities P[s, a, s'], shape (S, K, S).
        r: reward of each action in each state, shape (S, K); finite.
        initial_distribution: probability of each initial state, shape (S,); 0 for absorbing states.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        horizon: number of steps after which an episode ends, at least 1; None for no limit.
        absorbing: whether a state ends the episode, shape (S,); by default none does.
        observation: what the agent observes in each state, integers from 0, shape (S,); by default the state.

    Raises:
        ValueError: if γ = 1 and episodes may never end. A method raises it if its policy never ends them.
    """

    P: Float[np.ndarray, "S K S"]
    r: Float[np.ndarray, "S K"]
    initial_distribution: Float[np.ndarray, " S"]
    gamma: float = 1.0
    horizon: int | None = None
    absorbing: Bool[np.ndarray, " S"] = cast("np.ndarray", None)  # __post_init__ fills in the defaults
    observation: Int[np.ndarray, " S"] = cast("np.ndarray", None)

    def __post_init__(self) -> None:
        P = markov.in_double_precision("P", self.P)
        initial_distribution = markov.in_double_precision("initial_distribution", self.initial_distribution)
        r = checks.finite_floats("r", self.r).copy()
        if P.ndim != 3 or P.shape[0] != P.shape[2] or 0 in P.shape:
            raise ValueError(f"P must have shape (S, K, S), got {P.shape}")
        n_states, n_actions, _ = P.shape
        observation = (
            np.arange(n_states)
            if self.observation is None
            else checks.integers("observation", self.observation)
        )
        _check_shape((n_states, n_actions), r=r)
        _check_shape((n_states,), initial_distribution=initial_distribution, observation=observation)
        markov.check_distributions("P", P)
        markov.check_distributions("initial_distribution", initial_distribution)
        absorbing = checks.booleans((n_states,), default=False, absorbing=self.absorbing).copy()
        checks.at_most(checks.MAX_COUNT, observation=int(observation.max()))
        if (p := initial_distribution[absorbing]).any():
            raise ValueError(f"initial_distribution must be 0 for absorbing states, got {p.max():.4g}")
        checks.fraction(gamma=self.gamma)
        if self.horizon is not None:
            checks.count(1, horizon=self.horizon)
        if self.gamma == 1 and self.horizon is None:
            condition = "gamma must be below 1 or horizon be given"
            markov.check_absorption(condition, P, absorbing, initial=np.ones(n_states, bool))
        arrays = {"P": P, "r": r, "initial_distribution": initial_distribution, "absorbing": absorbing}
        arrays["observation"] = observation.astype(int)  # a copy
        for array in arrays.values():
            array.flags.writeable = False
        vars(self).update(arrays, horizon=None if self.horizon is None else int(self.horizon))

    @property
    def n_states(self) -> int:
        return self.P.shape[0]

    @property
    def n_actions(self) -> int:
        return self.P.shape[1]

    @property
    def n_observations(self) -> int:
        """The number of rows of w."""
        return int(self.observation.max()) + 1

    # Exact solutions

    def pi(self, w: Logits) -> Float[np.ndarray, "S K"]:
        """Return the action probabilities π(a∣s)."""
        return softmax(self._logits(w))[self.observation]

    def J(self, w: Logits) -> float:
        """Return the expected return, J(w) = Σₛ P(s₀=s) V(s). Slide 30."""
        V = self.values(w).V
        return float(self.initial_distribution @ (V if self.horizon is None else V[0]))

    def values(self, w: Logits) -> ValueFunctions:
        """Return V, Q and A = Q − V of the policy, which solve the Bellman equation.

        Q(s,a) = r(s,a) + γ Σₛ' P(s'∣s,a) V(s')        V(s) = Σₐ π(a∣s) Q(s,a)

        Slides 53 and 55; Sutton & Barto (2018), equation 3.14.
        """
        pi, P = self.pi(w), self._transient_P
        r = self.r * ~self.absorbing[:, None]
        if self.horizon is None:
            V = markov.sum_over_time(self.gamma * markov.transition_matrix(pi, P), (pi * r).sum(axis=1))
            Q = r + self.gamma * P @ V
            return ValueFunctions(V, Q, Q - V[:, None])
        V, Q = np.zeros((self.horizon + 1, self.n_states)), np.zeros((self.horizon, *r.shape))
        for t in reversed(range(self.horizon)):
            Q[t] = r + self.gamma * P @ V[t + 1]
            V[t] = (pi * Q[t]).sum(axis=1)
        return ValueFunctions(V[:-1], Q, Q - V[:-1, :, None])

    def state_visitation(self, w: Logits) -> Float[np.ndarray, "*T S"]:
        """Return the discounted state visitation, not normalised; with a horizon, each term of the sum.

        d(s) = Σₜ γᵗ P(sₜ=s)

        Sutton & Barto (2018), section 9.2 and the box on page 199.
        """
        P = markov.transition_matrix(self.pi(w), self._transient_P)
        if self.horizon is None:
            return markov.sum_over_time(self.gamma * P.T, self.initial_distribution)
        d = [self.initial_distribution]
        for _ in range(self.horizon - 1):
            d.append(self.gamma * d[-1] @ P)
        return np.array(d)

    def gradient(self, w: Logits) -> Logits:
        """Return ∂J/∂w by the policy gradient theorem.

        ∂J/∂w = Σₛ d(s) Σₐ ∂π(a∣s)/∂w Q(s,a)

        For this policy ∂J/∂w[x,k] = Σ d(s) π(k∣s) A(s,k) over all states with observation x.

        Sutton, McAllester, Singh & Mansour (1999), theorem 1.
        """
        terms = self.state_visitation(w)[..., None] * self.pi(w) * self.values(w).A
        return self._sum_by_observation(terms if self.horizon is None else terms.sum(axis=0))

    def average_reward(self, w: Logits) -> AverageRewardValues:
        """Return the average reward of the policy and its differential values. The discount plays no part.

        Raises:
            ValueError: if episodes end, or if the average reward depends on the initial state.

        Sutton & Barto (2018), equations 10.6 and 13.17.
        """
        return self._average_reward(self.pi(w))

    def average_reward_gradient(self, w: Logits) -> Logits:
        """Return ∂r̄/∂w by the policy gradient theorem; d is the stationary distribution.

        ∂r̄/∂w = Σₛ d(s) Σₐ ∂π(a∣s)/∂w Q(s,a)

        Sutton, McAllester, Singh & Mansour (1999), theorem 1; Sutton & Barto (2018), the box on page 334.
        """
        pi = self.pi(w)
        average = self._average_reward(pi)
        return self._sum_by_observation(average.d[:, None] * pi * average.A)

    def policy_iteration(self) -> tuple[Float[np.ndarray, "S K"], AverageRewardValues]:
        """Return the policy with the highest average reward, as probabilities 0 and 1, and its values.

        Policy evaluation and policy improvement alternate until no action is better by more than rounding.
        The policy depends on the state, even where the agent does not observe it.

        Howard (1960); Sutton & Barto (2018), section 4.3.
        """
        a = self.r.argmax(axis=1)
        while True:
            pi = np.eye(self.n_actions)[a]
            average = self._average_reward(pi)
            better = average.A.max(axis=1) > 1e-9 * (1 + abs(average.Q).max())
            if not better.any():
                return pi, average
            a = np.where(better, average.A.argmax(axis=1), a)

    def autograd_gradient(self, w: Logits) -> Logits:
        """Return ∂J/∂w by PyTorch's reverse mode through J = Σₜ γᵗ Σₛ P(sₜ=s) r(s)."""
        import torch

        P, r, d = (torch.tensor(array) for array in (self._transient_P, self.r, self.initial_distribution))
        logits = torch.tensor(self._logits(w).copy(), requires_grad=True)
        pi = logits.softmax(dim=1)[torch.tensor(self.observation)]
        P, r = torch.einsum("sk,skt->st", pi, P), (pi * r).sum(dim=1)
        if self.horizon is None:
            self.state_visitation(w)  # raises if episodes never end
            J = torch.linalg.solve(torch.eye(self.n_states) - self.gamma * P.T, d) @ r
        else:
            J = d @ r
            for _ in range(self.horizon - 1):
                d = self.gamma * d @ P
                J = J + d @ r
        return torch.autograd.grad(J, logits)[0].numpy()

    def finite_difference_gradient(self, w: Logits, step: float = 0.01) -> Logits:
        """Return ∂J/∂w by central differences of sixth order, with error O(step⁶); ``step`` > 0."""
        checks.positive(step=step)
        w = self._logits(w)
        gradient = np.zeros_like(w)
        for k in np.ndindex(w.shape):
            h = np.zeros_like(w)
            h[k] = step
            differences = [self.J(w + n * h) - self.J(w - n * h) for n in (1, 2, 3)]
            gradient[k] = np.dot(differences, [45, -9, 1]) / (60 * step)
        return gradient

    # Episodes

    def enumerate_episodes(self, w: Logits) -> Episodes:
        """Return every possible episode once, with its probability.

        P(τ) = P(s₀) Πₜ π(aₜ∣sₜ) P(sₜ₊₁∣sₜ,aₜ)

        Raises:
            ValueError: if there are more than a million episodes.

        Slide 33.
        """
        paths = markov.reachable(self._transient_P)
        visited = paths[self.initial_distribution > 0].any(axis=0)
        if self.horizon is None and (visited & paths.diagonal()).any():
            raise ValueError("horizon must be given, because these episodes have no maximal length, got None")
        pi, possible = self.pi(w), self.P > 0
        stay = np.zeros_like(possible)
        stay[:, 0] = np.eye(self.n_states, dtype=bool)
        s = np.flatnonzero(self.initial_distribution)[:, None]  # (N, t + 1); a and mask are (N, t)
        p = self.initial_distribution[s[:, 0]]
        a, mask = (np.zeros((len(s), 0), dtype) for dtype in (int, bool))
        while True:
            s_t = s[:, -1]
            active = ~self.absorbing[s_t] & (a.shape[1] < (self.horizon or np.inf))
            if not active.any():
                return self._episodes(s, a, mask, p)
            branches = np.where(active[:, None, None], possible[s_t], stay[s_t])
            if (n := np.count_nonzero(branches)) > MAX_EPISODES:
                got = f"{n:,} after {a.shape[1] + 1} steps"
                raise ValueError(f"horizon must leave at most {MAX_EPISODES:,} episodes, got {got}")
            e, a_t, next_s = np.nonzero(branches)
            p = p[e] * np.where(active[e], pi[s_t[e], a_t] * self.P[s_t[e], a_t, next_s], 1.0)
            s, a, mask = map(np.column_stack, ((s[e], next_s), (a[e], a_t), (mask[e], active[e])))

    def sample_episodes(
        self, w: Logits, n_episodes: int, rng: np.random.Generator, n_steps: int | None = None
    ) -> Episodes:
        """Sample episodes in parallel. Slides 19 and 31.

        Args:
            w: logits of the policy.
            n_episodes: number of episodes, at least 1.
            rng: source of all random numbers.
            n_steps: length at which episodes are truncated, at least 1; required if some would never end.
        """
        checks.count(1, n_episodes=n_episodes)
        checks.whole(1, n_steps=n_steps)
        pi = self.pi(w)
        if n_steps is None and self.horizon is None:
            possible, initial = pi[..., None] * self.P, self.initial_distribution > 0
            markov.check_absorption("n_steps must be given", possible, self.absorbing, initial)
        n_episodes, max_steps = int(n_episodes), min(self.horizon or np.inf, n_steps or np.inf)
        initial_cdf, pi_cdf, P_cdf = map(markov.cumulative, (self.initial_distribution, pi, self.P))
        s = markov.draw(initial_cdf[None], rng.random(n_episodes))
        p, states = self.initial_distribution[s], [s]
        actions: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        active = np.arange(n_episodes)  # the episodes that have not ended
        while len(active) and len(actions) < max_steps:
            s_t = s[active]
            a_t = markov.draw(pi_cdf[s_t], rng.random(len(active)))
            next_s = markov.draw(P_cdf[s_t, a_t], rng.random(len(active)))
            p[active] *= pi[s_t, a_t] * self.P[s_t, a_t, next_s]
            s, a, mask = s.copy(), np.zeros(n_episodes, int), np.zeros(n_episodes, bool)
            s[active], a[active], mask[active] = next_s, a_t, True
            states.append(s)
            actions.append(a)
            masks.append(mask)
            active = active[~self.absorbing[next_s]]
        s, a, mask = (np.stack(columns, axis=1) for columns in (states, actions, masks))
        return self._episodes(s, a, mask, p)

    def env(self) -> MDPEnv:
        """Return a Gymnasium environment. The horizon is part of the problem, so reaching it terminates."""
        return MDPEnv(self)

    def _average_reward(self, pi: Float[np.ndarray, "S K"]) -> AverageRewardValues:
        if self.absorbing.any() or self.horizon is not None:
            got = "an MDP with absorbing states or a horizon"
            raise ValueError(f"the average reward needs a continuing task, got {got}")
        P, r = markov.transition_matrix(pi, self.P), (pi * self.r).sum(axis=1)
        I, one = np.eye(self.n_states), np.ones(self.n_states)
        if np.linalg.matrix_rank(I - P) < self.n_states - 1:
            got = "a policy with several recurrent classes"
            raise ValueError(f"the average reward must not depend on the initial state, got {got}")
        d = np.linalg.solve((I - P + one).T, one)
        r_bar = d @ r
        V = np.linalg.solve(I - P + one[:, None] * d, r - r_bar)
        Q = self.r - r_bar + self.P @ V
        return AverageRewardValues(float(r_bar), d, V, Q, Q - V[:, None])

    def _sum_by_observation(self, terms: Float[np.ndarray, "S K"]) -> Logits:
        sums = np.zeros((self.n_observations, self.n_actions))
        np.add.at(sums, self.observation, terms)
        return sums

    @property
    def _transient_P(self) -> Float[np.ndarray, "S K S"]:
        """P without the transitions that enter or leave an absorbing state."""
        return self.P * ~self.absorbing[:, None, None] * ~self.absorbing

    def _logits(self, w: Logits) -> Logits:
        w = checks.finite_floats("w", w)
        _check_shape((self.n_observations, self.n_actions), w=w)
        return w

    def _episodes(self, s: np.ndarray, a: np.ndarray, mask: np.ndarray, P: np.ndarray) -> Episodes:
        return Episodes(s, self.observation[s[:, :-1]], a, self.r[s[:, :-1], a] * mask, mask, P)


class MDPEnv(gymnasium.Env):
    """A Gymnasium environment of an MDP, with ``Discrete`` observations x(s) and actions."""

    def __init__(self, mdp: MDP):
        self.mdp = mdp
        self.observation_space, self.action_space = Discrete(mdp.n_observations), Discrete(mdp.n_actions)
        self._initial_cdf = markov.cumulative(mdp.initial_distribution)
        self._P_cdf = markov.cumulative(mdp.P)
        self._s: int | None = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self._s, self._t = self._draw(self._initial_cdf), 0
        return int(self.mdp.observation[self._s]), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        """Take an action in 0…K−1. Raises ``ResetNeeded`` if no episode is under way."""
        if self._s is None:
            raise gymnasium.error.ResetNeeded("reset() begins an episode; none is under way")
        if checks.is_time(action) or not self.action_space.contains(action):
            raise ValueError(f"action must be an integer in 0..{self.mdp.n_actions - 1}, got {action!r}")
        a = int(action)
        r = float(self.mdp.r[self._s, a])
        s, self._t = self._draw(self._P_cdf[self._s, a]), self._t + 1
        terminated = bool(self.mdp.absorbing[s]) or self._t == self.mdp.horizon
        self._s = None if terminated else s
        return int(self.mdp.observation[s]), r, terminated, False, {}

    def _draw(self, cdf: Float[np.ndarray, " n"]) -> int:
        return int(markov.draw(cdf[None], self.np_random.random(1))[0])


def _check_shape(shape: tuple[int, ...], **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
