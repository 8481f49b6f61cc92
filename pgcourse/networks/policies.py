"""Policies: π(a∣s) as a table, a softmax or a Gaussian, and deterministic ones, μ(s).

Slides 2, 3, 24 and 63–65.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgcourse.networks.mlp import _at_least, _finite, _hidden, _network, _rows, _sizes, _through


class Policy(nn.Module):
    """π(·∣s) over K actions. A network becomes a policy by giving ``logits``, shape (N, K).

    Where actions are not numbered 0…K−1, ``log_prob``, ``sample`` and ``greedy`` are what an algorithm asks for.
    """

    def logits(self, s) -> Tensor:
        """Return the scores z, shape (N, K), of which π is the softmax."""
        raise NotImplementedError

    def log_prob(self, s, a) -> Tensor:
        """Return L = Σₖ tₖ log yₖ = log π(a∣s), where the label t is the action taken.

        Args:
            s: states, shape (N, ...).
            a: actions, shape (N,), integers 0…K−1.

        Returns:
            Tensor of shape (N,).

        Raises:
            ValueError: if ``a`` holds anything but integers 0…K−1, or has another length than ``s``.

        Slides 5, 24 and 34.
        """
        logits, a = self.logits(s), torch.as_tensor(a)
        n_actions = logits.shape[1]
        if a.shape != logits.shape[:1]:
            raise ValueError(
                f"a must have shape {tuple(logits.shape[:1])}, one action a state, got {tuple(a.shape)}"
            )
        if a.is_floating_point() or (len(a) and not 0 <= a.min() <= a.max() < n_actions):
            raise ValueError(
                f"a must hold integers in 0..{n_actions - 1}, got {a.dtype} from {a.min()} to {a.max()}"
            )
        return -F.cross_entropy(logits, a.long(), reduction="none")

    @torch.no_grad()
    def probabilities(self, s) -> np.ndarray:
        """Return π(a∣s), shape (N, K), for states s, shape (N, ...).

        Raises:
            ValueError: if the network gives scores that are not finite.

        Slides 3 and 24.
        """
        logits = self.logits(s)
        _finite("scores", logits.numpy())
        return logits.softmax(dim=1).numpy()

    def sample(self, s, rng: np.random.Generator) -> np.ndarray:
        """Draw one action for each state: integers, shape (N,).

        Raises:
            ValueError: as ``probabilities``.

        Slide 19.
        """
        steps = self.probabilities(s).cumsum(axis=1)
        return (steps[:, :-1] < rng.random((len(steps), 1))).sum(axis=1)

    def greedy(self, s) -> np.ndarray:
        """Return the most probable action for each state, the first of equals: integers, shape (N,).

        Raises:
            ValueError: as ``probabilities``.
        """
        return self.probabilities(s).argmax(axis=1)


class TabularPolicy(Policy):
    """No network at all: a table of logits, one row for each state, in double precision.

    π(k∣s) = e^w[s,k] / Σⱼ e^w[s,j]

    Args:
        w: the first logits, shape (n_states, K); copied.

    Raises:
        ValueError: if ``w`` is no table.

    Slide 24; Sutton & Barto (2018), equation 13.2.
    """

    def __init__(self, w):
        super().__init__()
        w = torch.tensor(np.asarray(w, float))
        if w.ndim != 2:
            raise ValueError(f"w must have shape (n_states, n_actions), got {tuple(w.shape)}")
        self.w = nn.Parameter(w)

    def logits(self, s) -> Tensor:
        """Return the rows of the table, shape (N, K), for states s, integers of shape (N,).

        Raises:
            ValueError: if ``s`` holds anything but integers 0…n_states−1.
        """
        return self.w[_rows(s, len(self.w))]


class SoftmaxPolicy(Policy):
    """A hidden layer, or more, and a softmax: states of n numbers in, the probabilities of K actions out.

    h = max(0, W₁s + b₁)        z = W₂h + b₂        π(k∣s) = e^zₖ / Σⱼ e^zⱼ

    Args:
        n_inputs: length of a state, at least 1.
        n_actions: K, at least 2.
        n_hidden: hidden units of a layer, at least 1.
        n_layers: hidden layers, each of as many units, at least 1.
        seed: of the initial weights, which are PyTorch's own choice: uniform in ±1/√(number of inputs).

    Raises:
        ValueError: if a size is too small.

    Slides 3 and 24.
    """

    def __init__(
        self, n_inputs: int, n_actions: int, n_hidden: int = 64, *, n_layers: int = 1, seed: int = 0
    ):
        super().__init__()
        _at_least(n_inputs=(n_inputs, 1), n_actions=(n_actions, 2))
        self.layers = _network([n_inputs, *_hidden(n_hidden, n_layers), n_actions], seed)

    def logits(self, s) -> Tensor:
        """Return z, shape (N, K), for states of shape (N, n_inputs).

        Raises:
            ValueError: if the states have another shape.
        """
        return _through(self.layers, s)


class ValuePolicy(nn.Module):
    """Takes the action of which its network thinks most: Q(s, ·), shape (N, K), is what the network would give a softmax.

    So it is the same network as a policy's, with the same weights in the beginning. Only what its outputs mean is another.

    Args:
        network: a ``Policy``.

    Slide 2.
    """

    stochastic = False  # nothing is drawn

    def __init__(self, network: Policy):
        super().__init__()
        self.network = network

    def q(self, s) -> Tensor:
        """Return Q(s, ·), shape (N, K), for states s, shape (N, ...).

        Raises:
            ValueError: if the states have another shape.
        """
        return self.network.logits(s)

    @torch.no_grad()
    def greedy(self, s) -> np.ndarray:
        """Return the best action for each state, the first of equals: integers, shape (N,).

        Raises:
            ValueError: if the states have another shape, or the network gives values that are not finite.
        """
        return _finite("values", self.q(s).numpy()).argmax(axis=1)

    def sample(self, s, rng: np.random.Generator) -> np.ndarray:
        """Return the best action too: there is nothing to draw.

        Raises:
            ValueError: as ``greedy``.
        """
        return self.greedy(s)


class GaussianPolicy(nn.Module):
    """Actions of D real numbers: a hidden layer, or more, gives their means μ(s), and σ, the same in every state, is learnt with it.

    aₖ ~ N(μₖ(s), σₖ²)        log π(a∣s) = −Σₖ (½ ((aₖ − μₖ)/σₖ)² + log σₖ + ½ log 2π)

    What is drawn is not cut off. An environment that allows no more than so much cuts it for itself, and log π is that of what was drawn.

    Args:
        n_inputs: length of a state, at least 1.
        n_outputs: D, at least 1.
        n_hidden: hidden units of a layer, at least 1.
        n_layers: hidden layers, each of as many units, at least 1.
        sigma: every σₖ in the beginning, positive.
        seed: of the initial weights, PyTorch's own choice.

    Raises:
        ValueError: if a size is too small or ``sigma`` is not positive.

    On no slide; Sutton & Barto (2018), equations 13.19 and 13.20.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        n_hidden: int = 64,
        *,
        n_layers: int = 1,
        sigma: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be a positive number, got {sigma}")
        _at_least(n_inputs=(n_inputs, 1), n_outputs=(n_outputs, 1))
        self.layers = _network([n_inputs, *_hidden(n_hidden, n_layers), n_outputs], seed)
        self.log_sigma = nn.Parameter(torch.full((n_outputs,), math.log(sigma)))

    def log_prob(self, s, a) -> Tensor:
        """Return log π(a∣s), the sum over the D numbers of an action, shape (N,), for states (N, n_inputs) and actions (N, D).

        Raises:
            ValueError: if a shape is another.
        """
        mu = self._mu(s)
        a = torch.as_tensor(a, dtype=mu.dtype)
        if a.shape != mu.shape:
            raise ValueError(f"a must have shape {tuple(mu.shape)}, got {tuple(a.shape)}")
        return torch.distributions.Normal(mu, self.log_sigma.exp()).log_prob(a).sum(dim=1)

    @torch.no_grad()
    def sample(self, s, rng: np.random.Generator) -> np.ndarray:
        """Draw one action for each state, shape (N, D).

        Raises:
            ValueError: as ``greedy``.
        """
        mu = self.greedy(s)
        return mu + self.log_sigma.exp().numpy() * rng.standard_normal(mu.shape, dtype=mu.dtype)

    @torch.no_grad()
    def greedy(self, s) -> np.ndarray:
        """Return the most probable action for each state, μ(s), shape (N, D).

        Raises:
            ValueError: if the states have another shape, or the network gives means that are not finite.
        """
        return _finite("means", self._mu(s).numpy())

    def _mu(self, s) -> Tensor:
        return _through(self.layers, s)


class DeterministicPolicy(nn.Module):
    """The action itself, D real numbers between bounds, where other policies give probabilities.

    h₁ = max(0, W₁s + b₁)        h₂ = max(0, W₂h₁ + b₂)        μ(s) = middle + reach · tanh(W₃h₂ + b₃)

    Args:
        n_inputs: length of a state, at least 1.
        low, high: what an action may be, shape (D,), finite, low < high; middle and reach are half their sum and half their difference.
        n_hidden: hidden units of each layer, at least one layer, at least 1 unit each.
        last: weights of the last layer are uniform in ±last in the beginning, so that all actions are near the middle; None leaves them, as
            all others are, PyTorch's own choice.
        seed: of the initial weights.

    Raises:
        ValueError: if a size is too small, a bound is missing, or ``last`` is not positive.

    Slides 63–65; Lillicrap et al. (2016), section 7 for ``last``.
    """

    stochastic = False  # nothing is drawn

    def __init__(
        self,
        n_inputs: int,
        low,
        high,
        n_hidden: Sequence[int] = (64, 64),
        *,
        last: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if (
            low.ndim != 1
            or not len(low)
            or low.shape != high.shape
            or not (np.isfinite(low) & np.isfinite(high) & (low < high)).all()
        ):
            raise ValueError(
                f"low and high must be finite, low < high, of one shape (n_outputs,), got {low} and {high}"
            )
        self._low, self._high = low, high
        self.layers = _network([*_sizes(n_inputs, n_hidden, last), len(low)], seed, last=last)
        self.middle: Tensor
        self.reach: Tensor
        self.register_buffer("middle", torch.from_numpy((low + high) / 2), persistent=False)
        self.register_buffer("reach", torch.from_numpy((high - low) / 2), persistent=False)

    def forward(self, s) -> Tensor:
        """Return μ(s), shape (N, D), for states of shape (N, n_inputs).

        Raises:
            ValueError: if the states have another shape.
        """
        return self.middle + self.reach * _through(self.layers, s).tanh()

    @torch.no_grad()
    def greedy(self, s) -> np.ndarray:
        """Return μ(s), shape (N, D).

        Raises:
            ValueError: if the states have another shape, or the network gives actions that are not finite.
        """
        return _finite("actions", self(s).numpy()).clip(self._low, self._high)  # which rounding may pass

    def sample(self, s, rng: np.random.Generator) -> np.ndarray:
        """Return μ(s) too: there is nothing to draw.

        Raises:
            ValueError: as ``greedy``.
        """
        return self.greedy(s)
