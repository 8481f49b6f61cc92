"""Small Markov decision processes, of which everything is known exactly: values, visits, gradients, and every episode there can be.

V(s) = Σₐ π(a∣s) Q(s,a)        Q(s,a) = r(s,a) + γ Σₛ' P(s'∣s,a) V(s')        A = Q − V        J = Σₛ P(s₁=s) V(s)

The policy is a table of logits w, a row for each thing there is to see: π(k∣s) = exp w[x(s),k] / Σⱼ exp w[x(s),j]. Where two states look
the same, x(s) = x(s'), they share a row, and what the agent sees is not Markov any more.

Slides 28–34 and 53–56; Sutton & Barto (2018), chapter 3.
"""

from dataclasses import dataclass
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from pgcourse.maths.estimators import Episodes
from pgcourse.maths.logistic import softmax

MOST_EPISODES = 1_000_000
LONGEST = 1e12  # steps that an episode takes on average, where nothing bounds it: with more, 16 digits leave less than 4


class Values(NamedTuple):
    """V, Q and A = Q − V, of shape (S,), (S, K), (S, K); with a horizon, all with one more axis in front, the step."""

    V: np.ndarray
    Q: np.ndarray
    A: np.ndarray


class Average(NamedTuple):
    """What never ends, looked at without discount: the average reward of a policy, where it is how often, and what is better than average.

    r̄ = Σₛ d(s) Σₐ π(a∣s) r(s,a)        Q(s,a) = r(s,a) − r̄ + Σₛ' P(s'∣s,a) V(s')        Σₛ d(s) V(s) = 0
    """

    r_bar: float  # average reward per step, r̄
    d: np.ndarray  # (S,): share of all steps spent in each state
    V: np.ndarray  # (S,): how much more than the average is still to come from here
    Q: np.ndarray  # (S, K)
    A: np.ndarray  # (S, K)


@dataclass(frozen=True, eq=False)
class MDP:
    """A Markov decision process with S states and K actions.

    An episode ends when it enters an absorbing state or has lasted ``horizon`` steps; without either it never ends, and wants γ < 1.

    Args:
        P: P[s, a, s'] is the probability of getting from s to s' by a, shape (S, K, S).
        r: reward for doing a in s, shape (S, K); finite.
        start: probability of each first state, shape (S,).
        gamma: discount per step, 0 ≤ γ ≤ 1.
        horizon: steps after which an episode is over, at least 1; None if there is no such limit.
        absorbing: which states end the episode, shape (S,); none unless given.
        x: what the agent sees in each state, integers from 0, shape (S,); the state itself unless given.

    Raises:
        ValueError: if a shape or a number is not as described, probabilities do not sum to 1, or episodes may never end and γ = 1.
    """

    P: np.ndarray
    r: np.ndarray
    start: np.ndarray
    gamma: float = 1.0
    horizon: int | None = None
    absorbing: np.ndarray = None  # type: ignore[assignment]  # an array as soon as it is built, and so is x
    x: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self):
        P = np.array(self.P, float)
        if P.ndim != 3 or P.shape[0] != P.shape[2] or 0 in P.shape:
            raise ValueError(f"P must have shape (S, K, S), got {P.shape}")
        n_states, n_actions, _ = P.shape
        absorbing = np.zeros(n_states, bool) if self.absorbing is None else np.array(self.absorbing)
        x = np.arange(n_states) if self.x is None else np.array(self.x)
        arrays = {
            "P": P,
            "r": np.array(self.r, float),
            "start": np.array(self.start, float),
            "absorbing": absorbing,
            "x": x,
        }
        for name, shape in (
            ("r", (n_states, n_actions)),
            ("start", (n_states,)),
            ("absorbing", (n_states,)),
            ("x", (n_states,)),
        ):
            if arrays[name].shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {arrays[name].shape}")
        _check_distributions("P", P)
        _check_distributions("start", arrays["start"])
        if not np.isfinite(arrays["r"]).all():
            raise ValueError(f"r must be finite, got {arrays['r'][~np.isfinite(arrays['r'])][0]}")
        if absorbing.dtype != bool:
            raise ValueError(f"absorbing must hold booleans, got {absorbing.dtype}")
        if not np.issubdtype(x.dtype, np.integer) or x.min() < 0:
            raise ValueError(f"x must hold integers from 0, got {x}")
        if arrays["start"][absorbing].any():
            raise ValueError(
                f"start must not be in an absorbing state, got {arrays['start'][absorbing].max():.4g} for one"
            )
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        if self.horizon is not None:
            if not (self.horizon >= 1 and self.horizon % 1 == 0):
                raise ValueError(f"horizon must be a whole number of at least 1, or None, got {self.horizon}")
            object.__setattr__(self, "horizon", int(self.horizon))
        arrays["x"] = x.astype(int)
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if (
            self.gamma == 1
            and self.horizon is None
            and (stuck := self._stuck(P, np.ones(n_states, bool))) is not None
        ):
            raise ValueError(
                f"gamma must be below 1 or horizon be given, for from state {stuck} no absorbing state is ever reached, got gamma 1"
            )

    @property
    def n_states(self) -> int:
        return self.P.shape[0]

    @property
    def n_actions(self) -> int:
        return self.P.shape[1]

    @property
    def n_seen(self) -> int:
        """How many things there are to see: the rows of w."""
        return int(self.x.max()) + 1

    # What is exact

    def pi(self, w) -> np.ndarray:
        """Return π(a∣s), shape (S, K), for logits w, shape (n_seen, K).

        Raises:
            ValueError: if ``w`` has another shape or is not finite. So do all methods that take it.
        """
        return softmax(self._logits(w))[self.x]

    def J(self, w) -> float:
        """Return the expected return, J(w) = Σₛ P(s₁=s) V(s). Slide 30."""
        V = self.values(w).V
        return float(self.start @ (V if self.horizon is None else V[0]))

    def values(self, w) -> Values:
        """Return V, Q and A = Q − V of the policy; with a horizon, for each step.

        Q(s,a) = r(s,a) + γ Σₛ' P(s'∣s,a) V(s')        V(s) = Σₐ π(a∣s) Q(s,a)

        Raises:
            ValueError: as ``pi``; and if under this policy an episode never ends, without discount or horizon.

        Slides 53 and 55; Sutton & Barto (2018), equation 3.14.
        """
        pi, P = self.pi(w), self._going_on
        r = self.r * ~self.absorbing[:, None]
        if self.horizon is None:
            V = _solve(np.eye(self.n_states) - self.gamma * _under(pi, P), (pi * r).sum(axis=1))
            Q = r + self.gamma * P @ V
            return Values(V, Q, Q - V[:, None])
        V, Q = np.zeros((self.horizon + 1, self.n_states)), np.zeros((self.horizon, *r.shape))
        for i in reversed(range(self.horizon)):
            Q[i] = r + self.gamma * P @ V[i + 1]
            V[i] = (pi * Q[i]).sum(axis=1)
        return Values(V[:-1], Q, Q - V[:-1, :, None])

    def visits(self, w) -> np.ndarray:
        """Return how often each state is visited, discounted; shape (S,), or (horizon, S) for each step.

        d(s) = Σᵢ γⁱ⁻¹ P(sᵢ=s)        i = 1, 2, …

        Raises:
            ValueError: as ``values``.

        Sutton & Barto (2018), section 9.2 and the box on page 199.
        """
        P = _under(self.pi(w), self._going_on)
        if self.horizon is None:
            return _solve(np.eye(self.n_states) - self.gamma * P.T, self.start)
        d = [self.start]
        for _ in range(self.horizon - 1):
            d.append(self.gamma * d[-1] @ P)
        return np.array(d)

    def gradient(self, w) -> np.ndarray:
        """Return ∂J/∂w, shape like w, by the policy gradient theorem.

        ∂J/∂w = Σₛ d(s) Σₐ ∂π(a∣s)/∂w Q(s,a)        for this policy ∂J/∂w[x,k] = Σ d(s) π(k∣s) A(s,k) over all s that look like x

        Raises:
            ValueError: as ``values``.

        Sutton, McAllester, Singh & Mansour (1999), theorem 1.
        """
        of_each = self.visits(w)[..., None] * self.pi(w) * self.values(w).A
        return self._by_looks(of_each if self.horizon is None else of_each.sum(axis=0))

    def average(self, w) -> Average:
        """Return the average reward of the policy, and its values without discount, which say how much better than average; γ has no part.

        Raises:
            ValueError: as ``pi``; and if there is an end, or which average it is depends on where one begins.

        Sutton & Barto (2018), equations 10.6 and 13.17.
        """
        return self._average(self.pi(w))

    def average_gradient(self, w) -> np.ndarray:
        """Return ∂r̄/∂w, shape like w, by the policy gradient theorem: the discount and the sum over visits are gone.

        ∂r̄/∂w = Σₛ d(s) Σₐ ∂π(a∣s)/∂w Q(s,a)

        Raises:
            ValueError: as ``average``.

        Sutton, McAllester, Singh & Mansour (1999), theorem 1; Sutton & Barto (2018), the box on page 334.
        """
        pi = self.pi(w)
        average = self._average(pi)
        return self._by_looks(average.d[:, None] * pi * average.A)

    def best_average(self) -> tuple[np.ndarray, Average]:
        """Return the policy with the highest average reward, as a table of the probabilities 0 and 1, and what it achieves.

        It knows the state, also where the agent does not. Policy iteration: values of a policy, then the best action by these, until none
        is better by more than rounding.

        Raises:
            ValueError: as ``average``, of a policy on the way.

        Howard (1960); Sutton & Barto (2018), section 4.3.
        """
        a = self.r.argmax(axis=1)
        while True:
            pi = np.eye(self.n_actions)[a]
            average = self._average(pi)
            better = average.A.max(axis=1) > 1e-9 * (1 + abs(average.Q).max())
            if not better.any():
                return pi, average
            a = np.where(better, average.A.argmax(axis=1), a)

    def gradient_by_autograd(self, w) -> np.ndarray:
        """Return ∂J/∂w, shape like w, by PyTorch's reverse mode through J, pushed forward in time: J = Σᵢ γⁱ⁻¹ Σₛ P(sᵢ=s) r(s).

        Raises:
            ValueError: as ``values``.
        """
        import torch

        P, r, start = (torch.tensor(array) for array in (self._going_on, self.r, self.start))
        logits = torch.tensor(self._logits(w), requires_grad=True)
        pi = logits.softmax(dim=1)[torch.tensor(self.x)]
        P, r, d = torch.einsum("sk,skt->st", pi, P), (pi * r).sum(dim=1), start
        if self.horizon is None:
            self.visits(w)  # raises where episodes never end
            J = torch.linalg.solve(torch.eye(self.n_states) - self.gamma * P.T, start) @ r
        else:
            J = d @ r
            for _ in range(self.horizon - 1):
                d = self.gamma * d @ P
                J = J + d @ r
        return torch.autograd.grad(J, logits)[0].numpy()

    def gradient_by_differences(self, w, step: float = 0.01) -> np.ndarray:
        """Return ∂J/∂w, shape like w, from J at three points to either side of each weight; the error falls with ``step`` ⁶.

        Raises:
            ValueError: as ``values``; and if ``step`` is not positive.
        """
        if not 0 < step < np.inf:
            raise ValueError(f"step must be a positive number, got {step}")
        w = self._logits(w)
        gradient = np.zeros_like(w)
        for k in np.ndindex(w.shape):
            aside = np.zeros_like(w)
            aside[k] = step
            rise = [self.J(w + n * aside) - self.J(w - n * aside) for n in (1, 2, 3)]
            gradient[k] = np.dot(rise, [45, -9, 1]) / (60 * step)
        return gradient

    # Episodes

    def enumerate(self, w) -> Episodes:
        """Return every episode that can happen, each once, with its probability.

        P(τ) = P(s₁) Πᵢ π(aᵢ∣sᵢ) P(sᵢ₊₁∣sᵢ,aᵢ)

        Raises:
            ValueError: as ``pi``; and if there are more than a million, or infinitely many.

        Slide 33.
        """
        ways = _ways(self._going_on)
        if self.horizon is None and (ways[self.start > 0].any(axis=0) & ways.diagonal()).any():
            raise ValueError(
                "horizon must be given, for without one these episodes can be of any length, and infinitely many, got None"
            )
        pi, possible = self.pi(w), self.P > 0
        stay = np.zeros_like(possible)
        stay[:, 0] = np.eye(self.n_states, dtype=bool)
        s = np.flatnonzero(self.start)
        p, states = self.start[s], [s]
        actions: list[np.ndarray] = []
        live: list[np.ndarray] = []
        while (going := ~self.absorbing[s] & (len(actions) < (self.horizon or np.inf))).any():
            branches = np.where(going[:, None, None], possible[s], stay[s])
            if (n := np.count_nonzero(branches)) > MOST_EPISODES:
                raise ValueError(
                    f"horizon must leave at most {MOST_EPISODES:,} episodes, got {n:,} after {len(actions) + 1} steps"
                )
            before, a, after = np.nonzero(branches)
            p = p[before] * np.where(going[before], pi[s[before], a] * self.P[s[before], a, after], 1.0)
            states, actions, live = (
                [column[before] for column in columns] for columns in (states, actions, live)
            )
            states, actions, live, s = [*states, after], [*actions, a], [*live, going[before]], after
        return self._episodes(states, actions, live, p)

    def sample(self, w, n_episodes: int, rng: np.random.Generator, n_steps: int | None = None) -> Episodes:
        """Draw episodes, side by side.

        Args:
            w: logits, shape (n_seen, K).
            n_episodes: how many, at least 1.
            rng: from which all is drawn.
            n_steps: cuts episodes off, which are then ``live`` to the last; needed where they never end.

        Raises:
            ValueError: as ``pi``; and if a number is below 1, or ``n_steps`` is needed and not given.

        Slides 19 and 31.
        """
        for name, number in (("n_episodes", n_episodes), ("n_steps", n_steps)):
            if number is not None and not (number >= 1 and number % 1 == 0):
                raise ValueError(f"{name} must be a whole number of at least 1, got {number}")
        pi = self.pi(w)
        if (
            n_steps is None
            and self.horizon is None
            and (stuck := self._stuck(pi[..., None] * self.P, self.start > 0)) is not None
        ):
            raise ValueError(f"n_steps must be given, for from state {stuck} an episode never ends, got None")
        n_episodes, limit = int(n_episodes), min(self.horizon or np.inf, n_steps or np.inf)
        to_first, to_a, to_s = (_cumulated(p) for p in (self.start, pi, self.P))
        s = _draw(to_first[None], rng.random(n_episodes))
        p, states = self.start[s], [s]
        actions: list[np.ndarray] = []
        live: list[np.ndarray] = []
        going = np.arange(n_episodes)  # those that have not ended
        while len(going) and len(actions) < limit:
            before = s[going]
            a = _draw(to_a[before], rng.random(len(going)))
            after = _draw(to_s[before, a], rng.random(len(going)))
            p[going] *= pi[before, a] * self.P[before, a, after]
            s, all_a, is_live = s.copy(), np.zeros(n_episodes, int), np.zeros(n_episodes, bool)
            s[going], all_a[going], is_live[going] = after, a, True
            states.append(s)
            actions.append(all_a)
            live.append(is_live)
            going = going[~self.absorbing[after]]
        return self._episodes(states, actions, live, p)

    def env(self) -> gymnasium.Env:
        """Return it as a Gymnasium environment, which shows x(s). The horizon is part of the problem: it terminates."""
        return Env(self)

    # Below the surface

    def _average(self, pi) -> Average:
        if self.absorbing.any() or self.horizon is not None:
            raise ValueError(
                "an average reward wants a world that never ends, got one with absorbing states or a horizon"
            )
        P, r, one = _under(pi, self.P), (pi * self.r).sum(axis=1), np.ones(self.n_states)
        if np.linalg.matrix_rank(np.eye(self.n_states) - P) < self.n_states - 1:
            raise ValueError(
                "w must lead to one average from wherever one begins, got a policy that gets caught in different parts"
            )
        d = np.linalg.solve((np.eye(self.n_states) - P + one).T, one)
        r_bar = d @ r
        V = np.linalg.solve(np.eye(self.n_states) - P + one[:, None] * d, r - r_bar)
        Q = self.r - r_bar + self.P @ V
        return Average(float(r_bar), d, V, Q, Q - V[:, None])

    def _by_looks(self, of_each) -> np.ndarray:
        """Return the sums over states that look the same, shape (n_seen, K)."""
        sums = np.zeros((self.n_seen, self.n_actions))
        np.add.at(sums, self.x, of_each)
        return sums

    @property
    def _going_on(self) -> np.ndarray:
        """P without what enters or leaves an absorbing state."""
        return self.P * ~self.absorbing[:, None, None] * ~self.absorbing

    def _logits(self, w) -> np.ndarray:
        w = np.asarray(w, float)
        if w.shape != (self.n_seen, self.n_actions):
            raise ValueError(f"w must have shape {(self.n_seen, self.n_actions)}, got {w.shape}")
        if not np.isfinite(w).all():
            raise ValueError(f"w must be finite, got {w[~np.isfinite(w)][0]}")
        return w

    def _stuck(self, P, first) -> int | None:
        """Return a state that P leads to from the first ones, and from there to no absorbing state; None if there is none."""
        ways = _ways(P * ~self.absorbing[:, None, None]) | np.eye(self.n_states, dtype=bool)
        stuck = ways[first].any(axis=0) & ~ways[:, self.absorbing].any(axis=1)
        return int(np.argmax(stuck)) if stuck.any() else None

    def _episodes(self, states, actions, live, p) -> Episodes:
        s, a, live = (np.stack(columns, axis=1) for columns in (states, actions, live))
        return Episodes(s, self.x[s[:, :-1]], a, self.r[s[:, :-1], a] * live, live, p)


class Env(gymnasium.Env):
    """A Gymnasium view of an MDP: ``Discrete`` observations x(s) and actions."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own form)

    def __init__(self, world: MDP):
        self.world = world
        self.observation_space, self.action_space = Discrete(world.n_seen), Discrete(world.n_actions)
        self._to_first, self._to_s = _cumulated(world.start), _cumulated(world.P)
        self._s: int | None = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._s, self._i = self._draw(self._to_first), 0
        return int(self.world.x[self._s]), {}

    def step(self, action):
        """Do an action.

        Raises:
            gymnasium.error.ResetNeeded: if no episode has begun, or it has ended.
            ValueError: if ``action`` is not one of 0…K−1.
        """
        if self._s is None:
            raise gymnasium.error.ResetNeeded("reset() begins an episode; none is under way")
        if not self.action_space.contains(action):
            raise ValueError(f"action must be an integer in 0..{self.world.n_actions - 1}, got {action!r}")
        a = int(action)
        r = float(self.world.r[self._s, a])
        s, self._i = self._draw(self._to_s[self._s, a]), self._i + 1
        terminated = bool(self.world.absorbing[s]) or self._i == self.world.horizon
        self._s = None if terminated else s
        return int(self.world.x[s]), r, terminated, False, {}

    def _draw(self, steps) -> int:
        return int(_draw(steps[None], self.np_random.random(1))[0])


_NEVER = "w must let every episode end where there is no discount and no horizon, got a policy under which some never do"


def _under(pi, P):
    """Return the probability of getting from s to s' under the policy, shape (S, S)."""
    return np.einsum("sk,skt->st", pi, P)


def _solve(a, b):
    """Return a⁻¹ b for a = 1 − γP. Summed, a⁻¹ = 1 + γP + (γP)² + … is how long episodes last, and by how much errors grow."""
    try:
        length, solution = np.linalg.solve(a, np.stack([np.ones_like(b), b], axis=1)).T
    except np.linalg.LinAlgError as error:
        raise ValueError(_NEVER) from error
    if not (
        length.min() > 0 and length.max() < LONGEST
    ):  # for rounding, never to end may look like −10¹⁶ steps
        raise ValueError(_NEVER)
    return solution


def _ways(P):
    """Return whether there is a way from s to s', of one step or more, shape (S, S)."""
    ways = P.sum(axis=1) > 0
    for _ in range(len(ways).bit_length()):
        ways = ways | (ways @ ways)  # twice as long
    return ways


def _cumulated(p):
    steps = p.cumsum(axis=-1)
    return steps / steps[..., -1:]


def _draw(steps, u):
    """Return for each row of cumulated probabilities, shape (N, n), what the number u, shape (N,), in [0, 1), falls to."""
    return (steps[:, :-1] <= u[:, None]).sum(axis=1)


def _check_distributions(name, p):
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(f"{name} must hold probabilities, got {p[~(p >= 0) | np.isinf(p)][0]}")
    total = p.sum(axis=-1)
    if len(wrong := np.argwhere(abs(total - 1) > 1e-9)):
        at = tuple(wrong[0].tolist())
        where = f" for state {at[0]}, action {at[1]}" if at else ""
        raise ValueError(f"{name} must sum to 1, got {total[at]:.6g}{where}")
