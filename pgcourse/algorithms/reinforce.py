"""REINFORCE: act, wait for the reward, and make what was done more likely or less.

J(w) ≈ 1/ℰ Σₑ Σᵢ Gₑᵢ Lₑᵢ        Lₑᵢ = log π(aₑᵢ∣sₑᵢ)        w ← w + η ∂J/∂w

With G = 1 this is maximum likelihood, and the actions taken are the labels. REINFORCE replaces the 1 by a reward.

Slides 20–26 and 35–36; Williams (1992), theorem 1.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from pgcourse.maths.returns import padded, standardized, total_return
from pgcourse.networks.mlp import gradient_norm
from pgcourse.networks.policies import Policy


def objective(L: Tensor, G: Tensor, n_episodes: int) -> Tensor:
    """Return the number whose gradient estimates ∂J/∂w. Its value measures nothing.

    1/ℰ Σₑ Σᵢ Gₑᵢ Lₑᵢ

    Args:
        L: log π(a∣s) of every step of every episode, one after the other, shape (T,).
        G: what each of these actions is credited with, shape (T,); data, not a function of w.
        n_episodes: how many episodes ℰ these are, at least 1.

    Returns:
        A scalar, differentiable through L.

    Raises:
        ValueError: if L and G differ in shape, or ``n_episodes`` < 1.

    Slides 34–35.
    """
    if L.shape != G.shape:
        raise ValueError(f"G must have the shape of L, {tuple(L.shape)}, got {tuple(G.shape)}")
    if n_episodes < 1:
        raise ValueError(f"n_episodes must be at least 1, got {n_episodes}")
    return (G * L).sum() / n_episodes


class Episode(NamedTuple):
    """States (T, ...), actions (T,) and rewards (T,) of a finished episode."""

    s: np.ndarray
    a: np.ndarray
    r: np.ndarray
    n_stale: int  # how many of its actions were drawn with older weights than the last were


class Update(NamedTuple):
    """What one turn of the loop saw and did."""

    n_steps: int  # decisions since the beginning
    returns: np.ndarray  # (ℰ,): total reward of each episode that it learnt from
    objective: float
    gradient_norm: float
    entropy: float  # −mean log π(a∣s) of the actions taken, in nats: how undecided the policy was
    stale: float  # share of these actions that were drawn with older weights


class Reinforce:
    """Monte Carlo policy gradient over many environments at once.

    Every ``update()`` plays until at least ``batch_size`` decisions belong to finished episodes, and takes one step with these. What is
    unfinished goes on, and counts when it has ended; its first actions were then drawn with slightly older weights (``stale`` in the
    ``Update`` says what part of the batch they were). The first update waits until every environment has finished an episode: the first to
    finish are the short ones.

    Args:
        env: a Gymnasium vector environment that resets itself in the step that ends an episode (``AutoresetMode.SAME_STEP``).
        policy: network giving ``log_prob(s, a)`` and ``sample(s, rng)``.
        eta: learning rate η > 0; or a function that gives it for the number of steps so far.
        credit: from the rewards of one episode, shape (T,), to what each action is credited with, shape (T,).
        matters: from the states of one episode, shape (T, ...), to whether what is done there makes a difference, shape (T,). The other
            steps are not learnt from, nor do they count in a discount: what they are paid goes to the last before them that matters.
            None learns from all.
        baseline: from the credits of a batch, shape (ℰ, T), and which of these steps were taken, to what is subtracted from them, such as
            ``returns.leave_one_out``. None subtracts nothing.
        standardize: whether to subtract from the credits their mean over the batch, and divide by their standard deviation.
        batch_size: decisions per update, at least 1.
        optimizer: what climbs, one of PyTorch's.
        seed: of the environment and of the actions drawn.

    Raises:
        ValueError: if ``eta`` or ``batch_size`` is out of range, or the environment resets itself otherwise.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        *,
        eta: float | Callable[[int], float] = 4e-3,
        credit: Callable[[np.ndarray], np.ndarray] = total_return,
        matters: Callable[[np.ndarray], np.ndarray] | None = None,
        baseline: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        standardize: bool = False,
        batch_size: int = 4096,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        seed: int = 0,
    ):
        self.eta = eta if callable(eta) else lambda _: eta
        if not (np.isfinite(self.eta(0)) and self.eta(0) > 0):
            raise ValueError(f"eta must be a positive number, got {self.eta(0)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if (mode := env.metadata.get("autoreset_mode")) != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env must reset itself in the step that ends an episode (AutoresetMode.SAME_STEP), got {mode}"
            )
        self.env, self.policy = env, policy
        self.credit, self.matters, self.baseline, self.standardize, self.batch_size = (
            credit,
            matters,
            baseline,
            standardize,
            batch_size,
        )
        self.optimizer = optimizer(policy.parameters(), lr=self.eta(0), maximize=True)
        self.n_steps = 0
        self._rng = np.random.default_rng(seed)
        self._begin()

    def _begin(self):
        self._s, _ = self.env.reset(
            seed=int(self._rng.integers(2**30))
        )  # drawn, for seed and seed + 1 would share environments
        self._open: list[list] = [
            [] for _ in range(self.env.num_envs)
        ]  # of each environment, the steps of its unfinished episode
        self._first = np.ones(self.env.num_envs, bool)  # whether that is the first
        self._n_stale = np.zeros(
            self.env.num_envs, int
        )  # how many of its steps were taken before the last update

    def update(self) -> Update:
        """Play, credit, take one step: one turn of slide 36's loop."""
        episodes = self._collect()
        lessons = [self._lesson(e) for e in episodes]
        s, a = (np.concatenate([lesson[i] for lesson in lessons]) for i in (0, 1))
        G, live = padded([G for *_, G in lessons])
        if self.baseline is not None:
            G = G - self.baseline(G, live)
        if self.standardize:
            G = standardized(G, live)

        L = self.policy.log_prob(s, a)
        J = objective(L, torch.as_tensor(G[live], dtype=L.dtype), len(episodes))
        self.optimizer.param_groups[0]["lr"] = self.eta(self.n_steps)
        self.optimizer.zero_grad()
        J.backward()
        self.optimizer.step()

        returns = np.array([e.r.sum() for e in episodes])
        stale = sum(e.n_stale for e in episodes) / sum(len(e.r) for e in episodes)
        return Update(self.n_steps, returns, J.item(), gradient_norm(self.policy), -L.mean().item(), stale)

    def _lesson(self, e: Episode):
        """Return the states, actions and credits of an episode, of the steps that matter."""
        if self.matters is None:
            return e.s, e.a, self.credit(e.r)
        matter = np.flatnonzero(self.matters(e.s))
        return (
            e.s[matter],
            e.a[matter],
            self.credit(np.add.reduceat(e.r, matter)),
        )  # from each of them to the next

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except what the environments are in the middle of."""
        state = {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "n_steps": self.n_steps,
        }
        return copy.deepcopy(state)  # PyTorch's are the tensors themselves, which the next update changes

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state, with new episodes; those that were under way are given up.

        Raises:
            RuntimeError: if the weights have other names or shapes.
        """
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(
            copy.deepcopy(state["optimizer"])
        )  # else two that load it would share Adam's moments
        self._rng.bit_generator.state = state["rng"]
        self.n_steps = state["n_steps"]
        self._begin()

    def _collect(self) -> list[Episode]:
        """Play until the finished episodes hold enough steps, and return them."""
        self._n_stale[:] = [len(steps) for steps in self._open]
        finished: list[Episode] = []
        n_finished = 0
        while n_finished < self.batch_size or self._first.any():
            a = self.policy.sample(self._s, self._rng)
            s, r, terminated, truncated, _ = self.env.step(a)
            for k, steps in enumerate(self._open):
                steps.append((self._s[k], a[k], r[k]))
                if terminated[k] or truncated[k]:
                    s_k, a_k, r_k = (np.array(column) for column in zip(*steps, strict=True))
                    finished.append(Episode(s_k, a_k, r_k, int(self._n_stale[k])))
                    n_finished += len(steps)
                    self._open[k], self._first[k], self._n_stale[k] = [], False, 0
            self._s = s
            self.n_steps += len(a)
        return finished
