"""Policies: π(a∣s) as a table, a softmax or a Gaussian, squashed or not, and deterministic ones, μ(s).

Slides 3, 5, 19, 24, 34 and 63–65.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgcourse import checks
from pgcourse.arrays import Float, Int
from pgcourse.networks.mlp import (
    MAX_SCALE,
    MAX_UNITS,
    as_indices,
    as_states,
    as_tensor,
    finite_output,
    is_integral,
    layer_sizes,
    mlp,
)
from pgcourse.networks.stacked import per_row


class Policy(Protocol):
    """What policy-gradient algorithms ask of a stochastic policy: a network, or anything with these methods.

    ``log_prob`` is log π(a∣s), differentiable, shape (N,); ``sample`` draws an action for each of N states;
    ``greedy`` gives the most probable ones; the rest are those of ``nn.Module``.
    """

    def log_prob(self, s: np.ndarray, a: np.ndarray) -> Float[Tensor, " N"]: ...
    def sample(self, s: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...
    def greedy(self, s: np.ndarray) -> np.ndarray: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> object: ...


class CategoricalPolicy(nn.Module):
    """A softmax policy π(·∣s) over K actions. A network becomes one by giving ``logits``, shape (N, K).

    π(k∣s) = e^zₖ / Σⱼ e^zⱼ
    """

    def logits(self, s: object) -> Float[Tensor, "N K"]:
        """Return the logits z, shape (N, K), of which π is the softmax."""
        raise NotImplementedError

    def log_prob(self, s: object, a: object) -> Float[Tensor, " N"]:
        """Return L = Σₖ tₖ log πₖ = log π(a∣s), where the label t is the action taken.

        Args:
            s: states, shape (N, ...).
            a: actions, shape (N,), integers 0…K−1.

        Returns:
            Tensor of shape (N,).

        Slides 5, 24 and 34.
        """
        return self._log_prob(self.logits(s).log_softmax(dim=1), a)

    def log_prob_and_entropy(self, s: object, a: object) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Return ``log_prob`` and the entropies H = −Σₖ πₖ log πₖ of the states, both of shape (N,)."""
        log_pi = self.logits(s).log_softmax(dim=1)
        return self._log_prob(log_pi, a), -(log_pi.exp() * log_pi).sum(dim=1)

    def _log_prob(self, log_pi: Float[Tensor, "N K"], a: object) -> Float[Tensor, " N"]:
        a, n_actions = as_tensor("a", a), log_pi.shape[1]
        if a.shape != log_pi.shape[:1]:
            expected = tuple(log_pi.shape[:1])
            raise ValueError(f"a must have shape {expected}, one action a state, got {tuple(a.shape)}")
        labels = a.long()
        if not is_integral(a) or (len(a) and not 0 <= labels.min() <= labels.max() < n_actions):
            got = f"{a.dtype} from {labels.min()} to {labels.max()}"
            raise ValueError(f"a must hold integers in 0..{n_actions - 1}, got {got}")
        return -F.nll_loss(log_pi, labels, reduction="none")

    @torch.no_grad()
    def probabilities(self, s: object) -> Float[np.ndarray, "N K"]:
        """Return π(a∣s), shape (N, K), for states s, shape (N, ...).

        Raises:
            ValueError: if a logit is not finite, as after a diverged update.

        Slides 3 and 24.
        """
        logits = self.logits(s)
        finite_output("logits", logits.numpy(), s)
        return logits.softmax(dim=1).numpy()

    def sample(self, s: object, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        """Draw one action for each state: integers, shape (N,).

        Slide 19.
        """
        cumulative = self.probabilities(s).cumsum(axis=1)
        return (cumulative[:, :-1] < rng.random((len(cumulative), 1))).sum(axis=1)

    def greedy(self, s: object) -> Int[np.ndarray, " N"]:
        """Return the most probable action for each state, the first of equals: integers, shape (N,)."""
        return self.probabilities(s).argmax(axis=1)


class TabularPolicy(CategoricalPolicy):
    """A softmax policy whose logits are a table, one row for each state, in double precision.

    π(k∣s) = e^w[s,k] / Σⱼ e^w[s,j]

    Args:
        w: initial logits, shape (n_states, K); finite; copied.

    Slide 24; Sutton & Barto (2018), equation 13.2.
    """

    def __init__(self, w: object):
        super().__init__()
        table = torch.tensor(checks.finite_floats("w", cast("np.ndarray", w)).copy())
        if table.ndim != 2 or not table.numel():
            raise ValueError(f"w must have shape (n_states, n_actions), got {tuple(table.shape)}")
        self.w = nn.Parameter(table)

    def logits(self, s: object) -> Float[Tensor, "N K"]:
        """Return the rows of the table, shape (N, K), for states s, integers 0…n_states−1, shape (N,)."""
        return self.w[as_indices(s, len(self.w))]


class SoftmaxPolicy(CategoricalPolicy):
    """A multilayer perceptron with a softmax output: states of ``state_dim`` numbers, K actions.

    h = max(0, W₁s + b₁)        z = W₂h + b₂        π(k∣s) = e^zₖ / Σⱼ e^zⱼ

    Args:
        state_dim: length of a state, at least 1.
        n_actions: K, at least 2.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        seed: of the initial weights, PyTorch's default: uniform in ±1/√(number of inputs).

    Slides 3 and 24.
    """

    def __init__(self, state_dim: int, n_actions: int, hidden_sizes: Sequence[int] = (64,), *, seed: int = 0):
        super().__init__()
        n_actions = checks.count(2, MAX_UNITS, n_actions=n_actions)
        self.layers = mlp([*layer_sizes(state_dim, hidden_sizes), n_actions], seed)

    def logits(self, s: object) -> Float[Tensor, "N K"]:
        """Return z, shape (N, K), for states of shape (N, state_dim)."""
        return self.layers(as_states(s, self.layers[0]))


class GaussianPolicy(nn.Module):
    """A Gaussian policy over actions of D real numbers; its standard deviations are learnt, one per number.

    aₖ ~ N(μₖ(s), σₖ²)        log π(a∣s) = −Σₖ (½ ((aₖ − μₖ)/σₖ)² + log σₖ + ½ log 2π)

    Samples are not clipped. An environment with bounds clips for itself, and log π is that of the unclipped
    sample.

    Args:
        state_dim: length of a state, at least 1.
        action_dim: D, at least 1.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        sigma: initial standard deviations σₖ, positive.
        seed: of the initial weights, PyTorch's default.

    On no slide; Sutton & Barto (2018), equations 13.19 and 13.20.
    """

    vectors = ("log_sigma",)  # weights outside linear layers (``networks.stacked``)

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int] = (64,),
        *,
        sigma: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        checks.positive(sigma=sigma)
        if not 1 / MAX_SCALE <= sigma <= MAX_SCALE:
            raise ValueError(f"sigma must be from {1 / MAX_SCALE:g} to {MAX_SCALE:g}, got {sigma}")
        action_dim = checks.count(1, MAX_UNITS, action_dim=action_dim)
        self.layers = mlp([*layer_sizes(state_dim, hidden_sizes), action_dim], seed)
        self.log_sigma = nn.Parameter(torch.full((action_dim,), math.log(sigma)))

    def mean(self, s: object) -> Float[Tensor, "N D"]:
        """Return μ(s), shape (N, D), for states of shape (N, state_dim)."""
        return self.layers(as_states(s, self.layers[0]))

    def log_prob(self, s: object, a: object) -> Float[Tensor, " N"]:
        """Return log π(a∣s), summed over the D numbers of an action, shape (N,), for actions (N, D)."""
        mu = self.mean(s)
        a = as_tensor("a", a, mu.dtype)
        if a.shape != mu.shape:
            raise ValueError(f"a must have shape {tuple(mu.shape)}, got {tuple(a.shape)}")
        try:
            return torch.distributions.Normal(mu, self._log_sigma(mu).exp()).log_prob(a).sum(dim=1)
        except ValueError as error:  # PyTorch's, which looks for NaN
            raise ValueError(f"s, a and the weights must be finite: {error}") from error

    def log_prob_and_entropy(self, s: object, a: object) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Return ``log_prob`` and the differential entropies H = Σₖ (log σₖ + ½ log 2πe), shape (N,) each."""
        L = self.log_prob(s, a)
        H = (self._log_sigma(L) + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)
        return L, H.expand(len(L))

    def _log_sigma(self, rows: Tensor | np.ndarray) -> Tensor:
        return per_row(self.log_sigma, len(rows))

    @torch.no_grad()
    def sample(self, s: object, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
        """Draw one action for each state, shape (N, D)."""
        mu = self.greedy(s)
        return mu + self._log_sigma(mu).exp().numpy() * rng.standard_normal(mu.shape, dtype=mu.dtype)

    @torch.no_grad()
    def greedy(self, s: object) -> Float[np.ndarray, "N D"]:
        """Return the most probable action for each state, μ(s), shape (N, D)."""
        return finite_output("means", self.mean(s).numpy(), s)


class DeterministicPolicy(nn.Module):
    """A deterministic policy μ(s): actions of D real numbers between bounds.

    h₁ = max(0, W₁s + b₁)        h₂ = max(0, W₂h₁ + b₂)        μ(s) = bias + scale · tanh(W₃h₂ + b₃)

    Args:
        state_dim: length of a state, at least 1.
        low, high: bounds of an action, shape (D,), finite, low < high; bias = (low + high)/2, scale = (high −
            low)/2.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        final_init_scale: the last layer's initial weights are uniform in ± this, positive: the first actions
            are then near the middle. None keeps PyTorch's default, as in the other layers.
        seed: of the initial weights.

    Slides 63–65; Lillicrap et al. (2016), section 7, for ``final_init_scale``.
    """

    stochastic = False

    def __init__(
        self,
        state_dim: int,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        final_init_scale: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self._low, self._high = _bounds(low, high)
        sizes = [*layer_sizes(state_dim, hidden_sizes), len(self._low)]
        self.layers = mlp(sizes, seed, final_init_scale=final_init_scale)
        self.action_bias: Tensor
        self.action_scale: Tensor
        _register_range(self, self._low, self._high)

    def forward(self, s: object) -> Float[Tensor, "N D"]:
        """Return μ(s), shape (N, D), for states of shape (N, state_dim)."""
        return self.action_bias + self.action_scale * self.layers(as_states(s, self.layers[0])).tanh()

    @torch.no_grad()
    def greedy(self, s: object) -> Float[np.ndarray, "N D"]:
        """Return μ(s), shape (N, D)."""
        a = finite_output("actions", self(s).numpy(), s)
        return a.clip(self._low, self._high)  # rounding may exceed a bound

    def sample(self, s: object, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
        """Return μ(s): nothing is drawn."""
        return self.greedy(s)


class SquashedGaussianPolicy(nn.Module):
    """A Gaussian policy squashed between bounds by tanh: what it draws is an action of the environment.

    x = tanh(u)        u ~ N(μ(s), σ(s)²)        a = bias + scale · x
    log π = Σₖ (log N(uₖ; μₖ, σₖ²) − log(1 − tanh² uₖ))

    A network gives μ and log σ, the latter clipped to −20…2. log π is that of x, the action in half ranges,
    whatever the bounds are; that of a itself is less by Σₖ log scaleₖ. The logarithm of dx/du = 1 − tanh² u
    is computed as 2 (log 2 − u − log(1 + e^−2u)), which neither under- nor overflows.

    Args:
        state_dim: length of a state, at least 1.
        low, high: bounds of an action, as for ``DeterministicPolicy``.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        final_init_scale: the last layer's initial weights are uniform in ± this, positive: the first actions
            then have μ near 0 and σ near 1. None keeps PyTorch's default, as in the other layers.
        seed: of the initial weights.

    On no slide; Haarnoja, Zhou, Abbeel & Levine (2018), appendix C.
    """

    def __init__(
        self,
        state_dim: int,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        final_init_scale: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self._low, self._high = _bounds(low, high)
        sizes = [*layer_sizes(state_dim, hidden_sizes), 2 * len(self._low)]
        self.layers = mlp(sizes, seed, final_init_scale=final_init_scale)
        self.action_bias: Tensor
        self.action_scale: Tensor
        _register_range(self, self._low, self._high)

    def forward(self, s: object) -> Float[Tensor, "N D"]:
        """Return the medians of the actions, bias + scale · tanh μ(s), shape (N, D)."""
        return self.action_bias + self.action_scale * self.mean_and_log_sigma(s)[0].tanh()

    def mean_and_log_sigma(self, s: object) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Return μ and log σ of u, both of shape (N, D), for states of shape (N, state_dim)."""
        mu, log_sigma = self.layers(as_states(s, self.layers[0])).chunk(2, dim=1)
        return mu, log_sigma.clamp(*LOG_SIGMA_RANGE)

    def rsample_and_log_prob(
        self, s: object, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, " N"]]:
        """Draw reparameterised actions, shape (N, D); return them and their log π(a∣s), shape (N,).

        Both are differentiable in the weights: the noise is drawn first, and does not depend on them.
        """
        mu, log_sigma = self.mean_and_log_sigma(s)
        noise = torch.from_numpy(rng.standard_normal(mu.shape, mu.detach().numpy().dtype))
        u = mu + log_sigma.exp() * noise
        log_pi = _squashed_log_prob(u, noise, log_sigma)
        return self.action_bias + self.action_scale * u.tanh(), log_pi

    def log_prob(self, s: object, a: object) -> Float[Tensor, " N"]:
        """Return log π(a∣s) in half ranges, shape (N,), of actions between the bounds, shape (N, D).

        An action that rounding has put at a bound counts as the nearest number inside.
        """
        mu, log_sigma = self.mean_and_log_sigma(s)
        a = as_tensor("a", a, mu.dtype)
        if a.shape != mu.shape:
            raise ValueError(f"a must have shape {tuple(mu.shape)}, got {tuple(a.shape)}")
        x, eps = (a - self.action_bias) / self.action_scale, torch.finfo(mu.dtype).eps
        if not (x.abs() <= 1 + 4 * eps).all():
            raise ValueError(f"a must be from {self._low} to {self._high}, got {a!s:.80}")
        u = x.clamp(eps - 1, 1 - eps).atanh()
        return _squashed_log_prob(u, (u - mu) / log_sigma.exp(), log_sigma)

    @torch.no_grad()
    def sample(self, s: object, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
        """Draw one action for each state, shape (N, D)."""
        mu, log_sigma = self.mean_and_log_sigma(s)
        noise = rng.standard_normal(mu.shape, mu.numpy().dtype)
        return self._inside(mu + log_sigma.exp() * torch.from_numpy(noise), s)

    @torch.no_grad()
    def greedy(self, s: object) -> Float[np.ndarray, "N D"]:
        """Return the medians of the actions, the usual choice for evaluation, shape (N, D)."""
        return self._inside(self.mean_and_log_sigma(s)[0], s)

    def _inside(self, u: Tensor, s: object) -> Float[np.ndarray, "N D"]:
        a = (self.action_bias + self.action_scale * u.tanh()).numpy()
        return finite_output("actions", a, s).clip(self._low, self._high)  # rounding may exceed a bound


LOG_SIGMA_RANGE = -20.0, 2.0


def _squashed_log_prob(u: Tensor, noise: Tensor, log_sigma: Tensor) -> Float[Tensor, " N"]:
    """Return log π = Σₖ (log N(uₖ; μₖ, σₖ²) − log(1 − tanh² uₖ)), where noise is (u − μ)/σ."""
    log_normal = -0.5 * noise.square() - log_sigma - 0.5 * math.log(2 * math.pi)
    log_dx_du = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (log_normal - log_dx_du).sum(dim=1)


def _bounds(
    low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Return the bounds of an action in single precision, checked."""
    with np.errstate(over="ignore"):  # of what is too large for single precision
        low = np.asarray(checks.numbers("low", low), np.float32)
        high = np.asarray(checks.numbers("high", high), np.float32)
        ranges = high - low if low.shape == high.shape else low
    shapes_fit = low.ndim == 1 and len(low) and low.shape == high.shape
    if not shapes_fit or not (np.isfinite(low) & np.isfinite(ranges) & (low < high)).all():
        raise ValueError(
            f"low and high must be finite, low < high, of one shape (action_dim,), got {low} and {high}"
        )
    return low, high


def _register_range(policy: nn.Module, low: np.ndarray, high: np.ndarray) -> None:
    """Give a policy the middle and the half of the range as buffers, which are not saved."""
    policy.register_buffer("action_bias", torch.from_numpy((low + high) / 2), persistent=False)
    policy.register_buffer("action_scale", torch.from_numpy((high - low) / 2), persistent=False)


class GreedyQPolicy(nn.Module):
    """The greedy policy of a Q-network: a = argmaxₖ Q(s, k).

    Args:
        q_network: network giving Q(s, ·), shape (N, K), as ``q_network(s)``.

    Slide 2.
    """

    stochastic = False

    def __init__(self, q_network: nn.Module):
        super().__init__()
        self.q_network = q_network

    @torch.no_grad()
    def greedy(self, s: object) -> Int[np.ndarray, " N"]:
        """Return the action of the largest value for each state, the first of equals, shape (N,)."""
        return finite_output("values", self.q_network(s).numpy(), s).argmax(axis=1)

    def sample(self, s: object, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        """Return the greedy action: nothing is drawn."""
        return self.greedy(s)
