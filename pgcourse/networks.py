"""Networks, linear functions and tables that turn a state into a policy π(·∣s) or an action μ(s), or into what is to be expected of it:
v(s), and q(s, a).

Slides 2, 3, 12–15, 24, 57–60 and 63–65.
"""

import contextlib
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextlib.contextmanager
def one_thread():
    """Run the block on one thread: small networks are no faster on two, and sums come out the same whatever the number of cores."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def gradient_norm(module: nn.Module) -> float:
    """Return the length of the gradient of all weights that have one."""
    return torch.cat([w.grad.flatten() for w in module.parameters() if w.grad is not None]).norm().item()


def flattened(network: nn.Module) -> nn.Parameter:
    """Return one vector with all weights of a network, and their slopes in its ``grad``.

    From then on the network's own are parts of it: what is done to the vector, in one call, is done to them all. (To forget a slope, use
    ``w.grad.zero_()``. ``zero_grad`` would put nothing in its place, and the network's part with the vector's.)
    """
    weights = list(network.parameters())
    w = nn.Parameter(torch.cat([part.detach().flatten() for part in weights]))
    w.grad = torch.zeros_like(w)
    sizes = [part.numel() for part in weights]
    for part, mine, slope in zip(weights, w.detach().split(sizes), w.grad.split(sizes), strict=True):
        part.data, part.grad = mine.view_as(part), slope.view_as(part)
    return w


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
            raise ValueError(f"a must have shape {tuple(logits.shape[:1])}, one action a state, got {tuple(a.shape)}")
        if a.is_floating_point() or (len(a) and not 0 <= a.min() <= a.max() < n_actions):
            raise ValueError(f"a must hold integers in 0..{n_actions - 1}, got {a.dtype} from {a.min()} to {a.max()}")
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

    def __init__(self, n_inputs: int, n_actions: int, n_hidden: int = 64, *, n_layers: int = 1, seed: int = 0):
        super().__init__()
        _at_least(n_inputs=(n_inputs, 1), n_actions=(n_actions, 2))
        self.layers = _network([n_inputs, *_hidden(n_hidden, n_layers), n_actions], seed)

    def logits(self, s) -> Tensor:
        """Return z, shape (N, K), for states of shape (N, n_inputs).

        Raises:
            ValueError: if the states have another shape.
        """
        return _through(self.layers, s)


class PixelPolicy(Policy):
    """The lecture's network for Pong: 80·80 pixels, 200 hidden units, one sigmoid.

    h = max(0, W₁x + b₁)        z = w₂·h + b₂        y = σ(z) = π(UP∣x)

    Hardly any pixel of a difference frame is not 0, so W₁x is the sum of a few columns of W₁, and is computed as that.

    Args:
        n_hidden: hidden units, at least 1.
        n_pixels: inputs, at least 1.
        seed: of the initial weights; these are normal with variance 1 / (number of inputs), as in Karpathy (2016).
        spread: factor on those of the first layer, positive.
        blind: pixels that it does not look at, boolean, shape (n_pixels,): their weights are and stay zero. None looks at all.

    Raises:
        ValueError: if ``n_hidden`` or ``n_pixels`` is below 1, ``spread`` is not positive, or ``blind`` has another shape.

    Slides 12–15.
    """

    def __init__(self, n_hidden: int = 200, *, n_pixels: int = 6400, seed: int = 0, spread: float = 1.0, blind=None):
        super().__init__()
        _at_least(n_hidden=(n_hidden, 1), n_pixels=(n_pixels, 1))
        if not 0 < spread < math.inf:
            raise ValueError(f"spread must be a positive number, got {spread}")
        blind = torch.as_tensor(np.zeros(n_pixels, bool) if blind is None else np.asarray(blind, bool))
        if blind.shape != (n_pixels,):
            raise ValueError(f"blind must have shape ({n_pixels},), got {tuple(blind.shape)}")
        generator = torch.Generator().manual_seed(seed)
        W1 = spread * torch.randn(n_pixels, n_hidden, generator=generator) / math.sqrt(n_pixels)
        self.W1 = nn.Parameter(W1.masked_fill(blind[:, None], 0))  # transposed: a pixel a row
        if blind.any():
            self.W1.register_hook(lambda slope: slope.masked_fill(blind[:, None], 0))
        self.b1 = nn.Parameter(torch.zeros(n_hidden))
        self.w2 = nn.Parameter(torch.randn(n_hidden, generator=generator) / math.sqrt(n_hidden))
        self.b2 = nn.Parameter(torch.zeros(()))

    def hidden(self, x) -> Tensor:
        """Return h, shape (N, n_hidden), for difference frames x, shape (N, n_pixels).

        Raises:
            ValueError: if the frames have another size or non-finite pixels.
        """
        x = torch.as_tensor(x)
        if x.ndim != 2 or x.shape[1] != len(self.W1):
            raise ValueError(f"x must have shape (N, {len(self.W1)}), got {tuple(x.shape)}")
        n, n_pixels = x.shape
        flat = x.numpy().reshape(-1)
        where = np.flatnonzero(flat != 0)
        sign = flat[where]
        if not np.isfinite(sign).all():
            raise ValueError(f"x must be finite, got {sign[~np.isfinite(sign)][0]}")
        first = np.searchsorted(where, np.arange(n) * n_pixels)  # where each frame's pixels begin
        index, first, sign = (torch.from_numpy(array) for array in (where % n_pixels, first, sign))
        W1x = F.embedding_bag(index, self.W1, first, mode="sum", per_sample_weights=sign.to(self.W1.dtype))
        return (W1x + self.b1).relu()

    def logit(self, x) -> Tensor:
        """Return z, shape (N,), for frames as for ``hidden``. Slide 15 calls it a log probability; it is the logarithm of the odds."""
        return self.hidden(x) @ self.w2 + self.b2

    def logits(self, s) -> Tensor:
        """Return (0, z), shape (N, 2)."""
        z = self.logit(s)
        return torch.stack([torch.zeros_like(z), z], dim=1)  # a softmax over (0, z) is the sigmoid of z


class PixelSoftmaxPolicy(PixelPolicy):
    """The same hidden layer, and a softmax over K actions where ``PixelPolicy`` has one sigmoid.

    h = max(0, W₁x + b₁)        z = W₂h + b₂        π(k∣x) = e^zₖ / Σⱼ e^zⱼ

    Args:
        n_actions: K, at least 2.
        n_hidden, n_pixels, seed: as for ``PixelPolicy``.

    Raises:
        ValueError: if a size is too small.

    Slide 24.
    """

    def __init__(self, n_actions: int, n_hidden: int = 200, *, n_pixels: int = 6400, seed: int = 0):
        super().__init__(n_hidden, n_pixels=n_pixels, seed=seed)
        _at_least(n_actions=(n_actions, 2))
        generator = torch.Generator().manual_seed(seed + 1)
        self.w2 = nn.Parameter(torch.randn(n_hidden, n_actions, generator=generator) / math.sqrt(n_hidden))  # transposed, as W₁
        self.b2 = nn.Parameter(torch.zeros(n_actions))

    def logits(self, s) -> Tensor:
        """Return z, shape (N, K)."""
        return self.hidden(s) @ self.w2 + self.b2


class PixelValue(PixelPolicy):
    """The same network again, whose one output is a value: v(x) = w₂·h + b₂.

    Args: as for ``PixelPolicy``.

    Slides 52 and 53.
    """

    def forward(self, s) -> Tensor:
        """Return v(s), shape (N,), for frames as for ``hidden``."""
        return self.logit(s)


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

    def __init__(self, n_inputs: int, n_outputs: int, n_hidden: int = 64, *, n_layers: int = 1, sigma: float = 1.0, seed: int = 0):
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


class TabularValue(nn.Module):
    """No network at all: a table of expected returns, one for each state, in double precision.

    Args:
        v: the first ones, shape (n_states,); copied.

    Raises:
        ValueError: if ``v`` has another shape or is not finite.
    """

    def __init__(self, v):
        super().__init__()
        v = torch.tensor(np.asarray(v, float))
        if v.ndim != 1 or not v.isfinite().all():
            raise ValueError(f"v must be finite, shape (n_states,), got shape {tuple(v.shape)}: {v}")
        self.v = nn.Parameter(v)

    def forward(self, s) -> Tensor:
        """Return v(s), shape (N,), for states s, integers of shape (N,).

        Raises:
            ValueError: if ``s`` holds anything but integers 0…n_states−1.
        """
        return self.v[_rows(s, len(self.v))]


class LinearValue(nn.Module):
    """A sum of features: v(s) = w·x(s), in double precision, w = 0 in the beginning.

    Args:
        x: the features of each state, shape (n_states, F); finite.

    Raises:
        ValueError: if ``x`` is no finite table.

    Slides 58–59; Sutton & Barto (2018), equation 9.8.
    """

    def __init__(self, x):
        super().__init__()
        x = torch.tensor(np.asarray(x, float))
        if x.ndim != 2 or not x.isfinite().all():
            raise ValueError(f"x must be finite, shape (n_states, n_features), got shape {tuple(x.shape)}: {x}")
        self.x: Tensor
        self.register_buffer("x", x)
        self.w = nn.Parameter(torch.zeros(x.shape[1], dtype=x.dtype))

    def forward(self, s) -> Tensor:
        """Return v(s), shape (N,), for states s, integers of shape (N,).

        Raises:
            ValueError: if ``s`` holds anything but integers 0…n_states−1.
        """
        return self.x[_rows(s, len(self.x))] @ self.w


class NetworkValue(nn.Module):
    """A hidden layer, or more: v(s) = w₂·max(0, W₁s + b₁) + b₂.

    Args:
        n_inputs: length of a state, at least 1.
        n_hidden: hidden units of a layer, at least 1.
        n_layers: hidden layers, each of as many units, at least 1.
        seed: of the initial weights, PyTorch's own choice.

    Raises:
        ValueError: if a size is too small.

    Slides 57 and 60.
    """

    def __init__(self, n_inputs: int, n_hidden: int = 64, *, n_layers: int = 1, seed: int = 0):
        super().__init__()
        _at_least(n_inputs=(n_inputs, 1))
        self.layers = _network([n_inputs, *_hidden(n_hidden, n_layers), 1], seed)

    def forward(self, s) -> Tensor:
        """Return v(s), shape (N,), for states of shape (N, n_inputs).

        Raises:
            ValueError: if the states have another shape.
        """
        return _through(self.layers, s)[:, 0]


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

    def __init__(self, n_inputs: int, low, high, n_hidden: Sequence[int] = (64, 64), *, last: float | None = None, seed: int = 0):
        super().__init__()
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if low.ndim != 1 or not len(low) or low.shape != high.shape or not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
            raise ValueError(f"low and high must be finite, low < high, of one shape (n_outputs,), got {low} and {high}")
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


class NetworkQ(nn.Module):
    """What an action is worth: q(s, a), a network of two hidden layers, or more or fewer, into which both go.

    Args:
        n_inputs: length of a state, at least 1.
        n_outputs: D, length of an action, at least 1.
        n_hidden: hidden units of each layer, as for ``DeterministicPolicy``.
        late: whether the action enters the second layer, not the first.
        last: as for ``DeterministicPolicy``; the first q are then near 0.
        seed: of the initial weights.

    Raises:
        ValueError: if a size is too small or ``last`` is not positive.

    Slides 64–65, where it is Network 1; Lillicrap et al. (2016), section 7 for ``late`` and ``last``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        n_hidden: Sequence[int] = (64, 64),
        *,
        late: bool = False,
        last: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        _at_least(n_outputs=(n_outputs, 1))
        sizes = _sizes(n_inputs, n_hidden, last)
        self.late, self.shapes = late, ((n_inputs,), (n_outputs,))
        self.layers = _network([sizes[0] + n_outputs * (not late), *sizes[1:], 1], seed, late=n_outputs * late, last=last)

    def forward(self, s, a) -> Tensor:
        """Return q(s, a), shape (N,), for states (N, n_inputs) and actions (N, n_outputs).

        Raises:
            ValueError: if a shape is another.
        """
        s, a = (torch.as_tensor(x, dtype=self.layers[0].weight.dtype) for x in (s, a))
        if (s.shape[1:], a.shape[1:]) != self.shapes or len(s) != len(a):
            [n], [d] = self.shapes
            raise ValueError(f"s and a must have shapes (N, {n}) and (N, {d}), got {tuple(s.shape)} and {tuple(a.shape)}")
        if not self.late:
            return _through(self.layers, torch.cat([s, a], dim=1)).squeeze(1)
        h = _through(self.layers[:2], s)
        return _through(self.layers[2:], torch.cat([h, a], dim=1)).squeeze(1)


def _finite(name, x) -> np.ndarray:
    """Return what a policy gave, if it is finite."""
    if not np.isfinite(x).all():
        raise ValueError(f"the policy must give finite {name}, got {x[~np.isfinite(x)][0]}; a smaller eta may help")
    return x


def _at_least(**sizes):
    for name, (size, least) in sizes.items():
        if size < least:
            raise ValueError(f"{name} must be at least {least}, got {size}")


def _sizes(n_inputs, n_hidden, last):
    _at_least(n_inputs=(n_inputs, 1))
    if np.ndim(n_hidden) != 1 or not len(n_hidden) or min(n_hidden) < 1:
        raise ValueError(
            f"n_hidden must hold a size of at least 1 for each of one or more layers, got {tuple(np.ravel(n_hidden).tolist())}"
        )
    if last is not None and not 0 < last < math.inf:
        raise ValueError(f"last must be a positive number or None, got {last}")
    return [n_inputs, *n_hidden]


def _hidden(n_hidden, n_layers):
    _at_least(n_hidden=(n_hidden, 1), n_layers=(n_layers, 1))
    return [n_hidden] * n_layers


def _network(sizes, seed, *, late=0, last=None):
    """Return linear layers with rectifiers between them, their weights dependent on the seed alone.

    The second has ``late`` inputs more than the first has outputs; the weights of the last are uniform in ±last, if that is given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(before + late * (k == 1), after), nn.ReLU()]
        if last is not None:
            for w in layers[-2].parameters():
                nn.init.uniform_(w, -last, last)
        return nn.Sequential(*layers[:-1])


def _through(layers, s) -> Tensor:
    first = layers[0]
    s = torch.as_tensor(s, dtype=first.weight.dtype)
    if s.ndim != 2 or s.shape[1] != first.in_features:
        raise ValueError(f"s must have shape (N, {first.in_features}), got {tuple(s.shape)}")
    for layer in layers:
        s = layer.forward(s)  # a call would look for hooks, which takes its time where states are few
    return s


def _rows(s, n_states) -> Tensor:
    s = torch.as_tensor(s)
    if s.ndim != 1 or s.is_floating_point() or (len(s) and not 0 <= s.min() <= s.max() < n_states):
        raise ValueError(f"s must hold integers in 0..{n_states - 1}, shape (N,), got {s}")
    return s.long()
