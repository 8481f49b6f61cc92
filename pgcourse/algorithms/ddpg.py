"""Deterministic policy gradient: a network names the action itself, and the slope of Q says how to better it.

Slide 66, one turn for each step of the environment:

1. take a = μ(s) + noise, get r and s'; add (s, a, s', r) to the replay
2. sample a mini-batch from it
3. y = r + γ Q'(s', μ'(s'))
4. w₁ ← w₁ − η' mean of (Q(s, a) − y) ∂Q(s, a)/∂w₁
5. w₂ ← w₂ + η mean of ∂Q(s, a)/∂a · ∂μ(s)/∂w₂, at a = μ(s)
6. w' ← w' + τ (w − w') for the copies Q' and μ'

w₁ are the critic's weights, w₂ the actor's, as on slide 65; slide 66 calls them φ and θ, and their learning rates α and β.

Slides 62–66; Silver et al. (2014); Lillicrap et al. (2016); Fujimoto, van Hoof & Meger (2018) for ``TD3``.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from pgcourse.algorithms.off_policy import ADAM, OffPolicy, Optimizer, rate
from pgcourse.algorithms.replay import Batch, Replay
from pgcourse.maths.returns import reward_to_go
from pgcourse.networks.mlp import flattened
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import NetworkQ


class Noise:
    """What is added to actions, so that others than μ(s) are tried: x ← (1 − θ) x + σ N(0, 1), from 0 in every episode.

    With θ = 1 it is drawn anew at every step. With less it is an Ornstein–Uhlenbeck process: a push lasts for about 1/θ steps, and all of
    them are spread by σ / √(1 − (1 − θ)²).

    Args:
        sigma: σ ≥ 0, in units of half the range of an action.
        theta: what of x is forgotten in a step, 0 < θ ≤ 1.

    Raises:
        ValueError: if a number is out of range.

    Lillicrap et al. (2016), section 7: σ = 0.2, θ = 0.15.
    """

    def __init__(self, sigma: float = 0.1, theta: float = 1.0):
        if not 0 <= sigma < np.inf:
            raise ValueError(f"sigma must be a number of at least 0, got {sigma}")
        if not 0 < theta <= 1:
            raise ValueError(f"theta must be in (0, 1], got {theta}")
        self.sigma, self.theta = sigma, theta

    def begin(self, shape: tuple) -> None:
        """Begin anew everywhere: shape is (n_envs, D)."""
        self.x = np.zeros(shape, np.float32)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the noise of the next step, shape (n_envs, D)."""
        self.x = (1 - self.theta) * self.x + self.sigma * rng.standard_normal(self.x.shape, np.float32)
        return self.x

    def forget(self, over: np.ndarray) -> None:
        """Begin anew where an episode is over, boolean, shape (n_envs,)."""
        self.x = self.x * ~over[:, None]


class DDPG(OffPolicy):
    """Slide 66's algorithm, its six lines in their order: 1 and 2 are ``OffPolicy.update``, 3 to 6 are ``learn``.

    Args:
        env: a Gymnasium vector environment whose actions are real numbers between bounds, and that resets itself in the step that ends an
            episode (``AutoresetMode.SAME_STEP``).
        policy: network giving μ(s) as ``policy(s)``, and for acting ``policy.greedy(s)``.
        critic: network giving q(s, a) as ``critic(s, a)``.
        eta: learning rate of the actor, η > 0, or a function that returns it for the steps so far.
        eta_critic: learning rate of the critic, η' > 0, likewise.
        gamma: discount per step, 0 ≤ γ ≤ 1.
        tau: how far the copies follow at a turn, 0 < τ ≤ 1; with 1 there are none to speak of.
        batch_size: transitions in a mini-batch, at least 1.
        capacity: transitions that are remembered, at least ``batch_size``.
        n_random: steps with actions drawn evenly from all that are allowed, before the first turn, at least ``batch_size``.
        noise: what is added to actions; ``Noise()`` unless given.
        weight_decay: factor, at least 0, on ½ ∣w₁∣², which is added to the critic's loss.
        optimizer: makes the two optimisers, one of PyTorch's.
        seed: of the environment, the noise and the mini-batches.

    Raises:
        ValueError: if a number is out of range, or the environment has other actions or resets itself otherwise.

    An episode that was cut off is not over: only where it ended by itself is y = r.

    Slides 62–66; Lillicrap et al. (2016), algorithm 1.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Any,
        critic: nn.Module,
        *,
        eta: float | Callable[[int], float] = 1e-3,
        eta_critic: float | Callable[[int], float] = 1e-3,
        gamma: float = 0.99,
        tau: float = 0.005,
        batch_size: int = 128,
        capacity: int = 1_000_000,
        n_random: int = 1_000,
        noise: Noise | None = None,
        weight_decay: float = 0.0,
        optimizer: Optimizer = ADAM,
        seed: int = 0,
    ):
        space: Any = env.single_action_space
        if not (
            isinstance(space, Box)
            and np.issubdtype(space.dtype, np.floating)
            and space.is_bounded()
            and len(space.shape) == 1
        ):
            raise ValueError(f"env must take actions of real numbers between bounds, shape (D,), got {space}")
        if not 0 < tau <= 1:
            raise ValueError(f"tau must be in (0, 1], got {tau}")
        self.policy, self.critic, self.tau = policy, critic, tau
        self.target_actor, self.target_critic = (
            copy.deepcopy(network).requires_grad_(False) for network in (policy, critic)
        )
        self.eta, self.eta_critic = rate("eta", eta), rate("eta_critic", eta_critic)
        networks = (critic, policy, self.target_critic, self.target_actor)
        self._w1, self._w2, self._target_w1, self._target_w2 = (flattened(network) for network in networks)
        self.optimizer = optimizer([self._w2], lr=self.eta(0), maximize=True)
        self.critic_optimizer = optimizer([self._w1], lr=self.eta_critic(0), weight_decay=weight_decay)
        self.noise = Noise() if noise is None else noise
        self._low, self._high = space.low, space.high
        replay = Replay(capacity, env.single_observation_space.shape or (), space.shape)
        super().__init__(env, replay, gamma=gamma, batch_size=batch_size, n_random=n_random, seed=seed)

    def _begin(self):
        super()._begin()
        self.noise.begin((self.env.num_envs, *self._low.shape))

    def _forget(self, over):
        self.noise.forget(over)

    def at_random(self) -> np.ndarray:
        """Return actions drawn evenly from between the bounds, shape (n_envs, D)."""
        return self._rng.uniform(self._low, self._high, (self.env.num_envs, *self._low.shape))

    def explore(self, s) -> np.ndarray:
        """Return μ(s) + noise, cut off at the bounds, shape (n_envs, D), for the states of all environments, shape (n_envs, ...)."""
        a = self.policy.greedy(s)
        return np.clip(a + (self._high - self._low) / 2 * self.noise.draw(self._rng), self._low, self._high)

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Do lines 3 to 6 with a mini-batch, wherever it comes from; return the critic's loss, and the mean of Q(s, a)."""
        self.optimizer.param_groups[0]["lr"] = self.eta(self.n_steps)
        self.critic_optimizer.param_groups[0]["lr"] = self.eta_critic(self.n_steps)
        s, a, r, after, terminated = (torch.from_numpy(column) for column in batch)
        y = r + self.gamma * ~terminated * self._expected(after)  # 3
        seen = self._evaluate(s, a, y)  # 4
        self._improve(s)  # 5
        self._follow()  # 6
        self.n_learnt += 1
        return seen

    @torch.no_grad()
    def _expected(self, s: Tensor) -> Tensor:
        """Return Q'(s, μ'(s)), shape (N,)."""
        return self.target_critic(s, self.target_actor(s))

    def _evaluate(self, s: Tensor, a: Tensor, y: Tensor) -> tuple[float, float]:
        """Move Q(s, a) towards y; return the loss, and the mean of Q(s, a)."""
        q = self.critic(s, a)
        loss = 0.5 * (q - y).square().mean()
        self._w1.grad.zero_()  # type: ignore[union-attr]
        loss.backward()
        self.critic_optimizer.step()
        return loss.item(), q.mean().item()

    def _improve(self, s: Tensor) -> None:
        """Move μ(s) up the slope of Q: slide 65's chain rule, its two factors one after the other."""
        mu = self.policy(s)
        a = mu.detach().requires_grad_()
        [slope] = torch.autograd.grad(
            self._worth(s, a).mean(), a
        )  # ∂Q/∂a, of each of the mini-batch, over its size
        self._w2.grad.zero_()  # type: ignore[union-attr]
        mu.backward(slope)  # times ∂μ/∂w₂, and summed
        self.optimizer.step()

    def _worth(self, s: Tensor, a: Tensor) -> Tensor:
        """Return what the actor climbs, shape (N,)."""
        return self.critic(s, a)

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the copies follow by Polyak averaging."""
        self._target_w1.lerp_(self._w1, self.tau)
        self._target_w2.lerp_(self._w2, self.tau)

    _parts = ("policy", "critic", "target_actor", "target_critic", "optimizer", "critic_optimizer", "replay")


class Twins(nn.Module):
    """Two critics that differ in nothing but their first weights: q(s, a), shape (2, N).

    Args:
        first, second: networks giving q(s, a), shape (N,).
    """

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, s, a) -> Tensor:
        return torch.stack([self.first(s, a), self.second(s, a)])


class TD3(DDPG):
    """DDPG that does not believe its critic's best news: three changes, a few lines each.

    y = r + γ min over both critics of Q'(s', μ'(s') + noise, cut off)

    Args:
        env, policy: as for ``DDPG``.
        critic: ``Twins``.
        delay: turns of the critics to one of the actor and the copies, at least 1.
        smoothing: σ ≥ 0 of the noise on the next action, in units of half the range of an action.
        most: where that noise is cut off, in the same units, at least 0.
        **options: as for ``DDPG``.

    Raises:
        ValueError: as ``DDPG``, and if a number is out of range.

    On no slide; Fujimoto, van Hoof & Meger (2018), algorithm 1.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Any,
        critic: Twins,
        *,
        delay: int = 2,
        smoothing: float = 0.2,
        most: float = 0.5,
        **options,
    ):
        super().__init__(env, policy, critic, **options)
        if delay < 1:
            raise ValueError(f"delay must be at least 1, got {delay}")
        for name, number in {"smoothing": smoothing, "most": most}.items():
            if not 0 <= number < np.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {number}")
        self.delay, self.smoothing, self.most = delay, smoothing, most

    @torch.no_grad()
    def _expected(self, s):
        noise = self.smoothing * self._rng.standard_normal((len(s), *self._low.shape), np.float32)
        noise = (self._high - self._low) / 2 * noise.clip(-self.most, self.most)
        a = np.clip(self.target_actor(s).numpy() + noise, self._low, self._high)
        return self.target_critic(s, a).amin(dim=0)

    def _improve(self, s):
        if self.n_learnt % self.delay == 0:
            super()._improve(s)

    def _worth(self, s, a):
        twins: Any = self.critic
        return twins.first(s, a)

    def _follow(self):
        if self.n_learnt % self.delay == 0:
            super()._follow()


def said_and_came(
    learner: DDPG, env: VectorEnv, n_steps: int = 200, n_more: int = 900
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the critic says of the actor's own course, and what then comes: Q(s, μ(s)) and Gᵢ, both (n_envs, n_steps).

    Args:
        learner: whose critic is asked (of twins the first), and whose γ counts.
        env: in which nothing ends, as of ``tasks.EndlessTask``.
        n_steps: of which both are returned.
        n_more: steps after these; of a return less than γ to this power is missing, as a share.

    Raises:
        ValueError: if an episode ends.

    On no slide; Fujimoto, van Hoof & Meger (2018), section 4.1.
    """
    s, _ = env.reset(seed=0)
    states, paid = [], []
    for _ in range(n_steps + n_more):
        states.append(s)
        s, r, terminated, truncated, _ = env.step(learner.policy.greedy(s))
        paid.append(r)
        if (terminated | truncated).any():
            raise ValueError(f"env must not end, got an episode of {len(paid)} steps")
    came = reward_to_go(np.transpose(paid), learner.gamma)[:, :n_steps]
    course = torch.from_numpy(np.stack(states[:n_steps], axis=1))
    with torch.no_grad():
        said = learner._worth(course.flatten(0, 1), learner.policy(course.flatten(0, 1)))
    return said.reshape(came.shape).numpy(), came


def paper(env: VectorEnv, seed: int = 0) -> DDPG:
    """Return DDPG with the settings of Lillicrap et al. (2016), section 7, for states of numbers.

    What the paper leaves open is as in ``DDPG``.

    Raises:
        ValueError: as ``DDPG``.
    """
    space: Any = env.single_action_space
    [n_inputs] = env.single_observation_space.shape or ()
    shape: dict[str, Any] = {"n_hidden": (400, 300), "last": 0.003}
    policy = DeterministicPolicy(n_inputs, space.low, space.high, **shape, seed=seed)
    critic = NetworkQ(n_inputs, len(space.low), **shape, late=True, seed=seed + 2**30)
    rates: dict[str, Any] = {
        "eta": 1e-4,
        "eta_critic": 1e-3,
        "weight_decay": 1e-2,
        "tau": 1e-3,
        "gamma": 0.99,
    }
    return DDPG(
        env,
        policy,
        critic,
        **rates,
        batch_size=64,
        capacity=10**6,
        noise=Noise(sigma=0.2, theta=0.15),
        seed=seed,
    )
