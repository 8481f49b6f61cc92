"""Actor–critic: do not wait for the reward; ask the critic what is still to come.

Slide 61, one turn for each step of the environment:

1. take a ~ π(·∣s), get r and s'
2. v(s) ← towards r + γ v(s')
3. A = r + γ v(s') − v(s)
4. ∂J/∂w ≈ A ∂ log π(a∣s)/∂w
5. w ← w + η ∂J/∂w

What people run (Mnih et al., 2016, A2C) is the same with N environments at once, T steps of each before the turn is complete, and an
advantage that looks further than one step. Here these are arguments, and with N = T = 1 the class is the slide.

Slides 51–61; Sutton & Barto (2018), section 13.5; Schulman, Moritz, Levine, Jordan & Abbeel (2016).
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from pgcourse.algorithms.critics import Critic, PolicyEvaluation
from pgcourse.maths.returns import standardized
from pgcourse.networks.mlp import gradient_norm


def objective(L: Tensor, advantage: Tensor) -> Tensor:
    """Return the number whose gradient is slide 61's step 4, averaged over N steps. Its value measures nothing.

    1/N Σᵢ Aᵢ Lᵢ

    Args:
        L: log π(a∣s) of every step, shape (N,).
        advantage: how much better than expected each turned out, shape (N,); data, not a function of w: no gradient flows into it.

    Returns:
        A scalar, differentiable through L.

    Raises:
        ValueError: if L and the advantage differ in shape.

    Slides 55 and 61.
    """
    if L.shape != advantage.shape:
        raise ValueError(
            f"advantage must have the shape of L, {tuple(L.shape)}, got {tuple(advantage.shape)}"
        )
    return (advantage.detach() * L).mean()


class Update(NamedTuple):
    """What one turn of the loop saw and did."""

    n_steps: int  # since the beginning
    returns: np.ndarray  # total reward of each episode that ended
    reward: float  # mean reward of a step
    critic_loss: float
    objective: float
    gradient_norm: float  # of the actor
    entropy: float  # −mean log π(a∣s) of the actions taken, in nats: how undecided the policy was


class ActorCritic(PolicyEvaluation):
    """Slide 61's online actor–critic, and what it becomes with more environments, more steps, and λ.

    An update is ``PolicyEvaluation``'s, steps 1 and 2, and then one step of the actor by the critic as it is now, steps 3 to 5. The slide's
    γ weighs what is to come. Its steps do not get fewer as the episode goes on, as γⁱ would have it (chapter 6): the states are weighted as
    they are visited.

    Args:
        env: as for ``PolicyEvaluation``.
        policy: network giving ``log_prob(s, a)`` and ``sample(s, rng)``.
        critic: as for ``PolicyEvaluation``.
        eta: learning rate of the actor, η > 0; or a function that gives it for the number of steps so far.
        standardize: whether to subtract from the advantages their mean over the batch, and divide by their standard deviation.
        optimizer: what climbs, one of PyTorch's.
        **options: ``gamma``, ``lam``, ``n_steps``, ``eta_average`` and ``seed``, as for ``PolicyEvaluation``.

    Raises:
        ValueError: as ``PolicyEvaluation``, and if ``eta`` is out of range.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Any,
        critic: Critic,
        *,
        eta: float | Callable[[int], float] = 1e-3,
        standardize: bool = False,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        **options,
    ):
        self.eta = eta if callable(eta) else lambda _: eta
        if not (np.isfinite(self.eta(0)) and self.eta(0) > 0):
            raise ValueError(f"eta must be a positive number, got {self.eta(0)}")
        self.standardize = standardize
        self.optimizer = optimizer(policy.parameters(), lr=self.eta(0), maximize=True)
        super().__init__(env, policy, critic, **options)

    def update(self) -> Update:  # type: ignore[override]
        """Act, ask, improve both: one turn of slide 61's loop."""
        rollout, returns = self._act()
        critic_loss = self._evaluate(rollout)
        live = self._live(rollout)
        A = self.advantage(rollout)
        if self.standardize:
            A = standardized(A, live)

        L = self.policy.log_prob(rollout.s[:, :-1][live], rollout.a[live])
        J = objective(L, torch.as_tensor(A[live], dtype=L.dtype))
        self.optimizer.param_groups[0]["lr"] = self.eta(self.n_steps)
        self.optimizer.zero_grad()
        J.backward()
        self.optimizer.step()
        return Update(
            self.n_steps,
            returns,
            float(rollout.r.mean()),
            critic_loss,
            J.item(),
            gradient_norm(self.policy),
            -L.mean().item(),
        )

    def state_dict(self) -> dict:
        """Return a copy of all that the next updates depend on, except what the environments are in the middle of."""
        actor = {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
        return super().state_dict() | copy.deepcopy(actor)

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state, with new episodes; those that were under way are given up.

        Raises:
            RuntimeError: if the weights have other names or shapes.
        """
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        super().load_state_dict(state)
