"""Networks for stacks of frames: a convolutional encoder, and heads for actors and critics on its features.

    φ(s) = tanh(LayerNorm(W · convolutions(s/255 − ½)))        μ(s) = μ(φ(s))        q(s, a) = q(φ(s), a)

The critic's loss moves the encoder, and the actor takes the features as they come: its gradient ends there.
So ``parameters`` of an actor that shares an encoder are those of its head alone. One network of those that
share an encoder owns it, and that network's optimiser moves it.

Slide 62; Lillicrap et al. (2016), section 7, whose actor and critic had encoders of their own, without a
layer of features; Yarats, Zhang et al. (2021) for convolutions that the critic trains. They train a decoder,
too, which is left out here, and their actor has a layer of features of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.arrays import Float, UInt8
from pgcourse.networks.mlp import MAX_SEED, MAX_UNITS, as_tensor
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import QNetwork, TwinCritic

STRIDES = (2, 2, 1)  # of the convolutions, 1 for further ones
KERNEL = 3


class PixelEncoder(nn.Module):
    """Convolutions of 3 × 3 pixels, with strides 2, 2, 1, …, and a linear layer: features φ(s).

    Args:
        stack_shape: (n_frames, H, W) of a state.
        channels: of each convolution, at least one.
        n_features: length of φ(s), with a tanh; None for the last convolution's outputs themselves.
        layer_norm: whether features are normalised, before the tanh.
        seed: of the initial weights, PyTorch's default: uniform in ±1/√(number of inputs).
    """

    def __init__(
        self,
        stack_shape: Sequence[int],
        channels: Sequence[int] = (16, 16, 16),
        n_features: int | None = 50,
        *,
        layer_norm: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        self.stack_shape = _sizes("stack_shape", stack_shape, length=3)
        n, height, width = self.stack_shape
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(checks.seed(MAX_SEED, seed=seed))
            for k, n_outputs in enumerate(_sizes("channels", channels)):
                stride = STRIDES[k] if k < len(STRIDES) else 1
                height, width = ((side - KERNEL) // stride + 1 for side in (height, width))
                if min(height, width) < 1:
                    got = f"{len(channels)} for {self.stack_shape}"
                    raise ValueError(f"channels must leave a pixel of stack_shape, got {got}")
                layers += [nn.Conv2d(n, n_outputs, KERNEL, stride), nn.ReLU()]
                n = n_outputs
            self.n_features = n * height * width
            layers.append(nn.Flatten())
            if n_features is not None:
                n_inputs, self.n_features = self.n_features, checks.count(1, MAX_UNITS, n_features=n_features)
                layers.append(nn.Linear(n_inputs, self.n_features))
            layers += [nn.LayerNorm(self.n_features)] if layer_norm else []
            layers += [nn.Tanh()] if n_features is not None else []
        self.layers = nn.Sequential(*layers)

    def forward(self, s: object) -> Float[Tensor, "N n_features"]:
        """Return φ(s), shape (N, n_features), for stacks of bytes, shape (N, n_frames, H, W)."""
        stacks = as_stacks(s, self.stack_shape)
        stacks = stacks.contiguous(memory_format=torch.channels_last)  # convolutions are a third faster
        return self.layers(stacks / 255 - 0.5)


def as_stacks(s: object, stack_shape: tuple[int, ...]) -> UInt8[Tensor, "N n_frames H W"]:
    """Return stacks of frames as a tensor; they must be bytes of this shape each."""
    stacks = as_tensor("s", s)
    if stacks.dtype != torch.uint8:
        allowed = "0 to 255, which the encoder divides for itself"
        got = str(stacks.dtype).removeprefix("torch.")
        raise ValueError(f"s must hold frames of bytes (uint8), {allowed}, got {got}")
    if tuple(stacks.shape[1:]) != stack_shape or stacks.ndim != 4:
        n, height, width = stack_shape
        expected = f"(N, {n}, {height}, {width})"
        raise ValueError(f"s must have shape {expected}, N stacks of frames, got {tuple(stacks.shape)}")
    return stacks


def _sizes(name: str, sizes: Sequence[int], length: int | None = None) -> tuple[int, ...]:
    array = checks.integers(name, () if isinstance(sizes, str) else sizes)
    if array.ndim != 1 or not array.size or not array.all() or length not in (None, len(array)):
        must = "(n_frames, height, width)" if length else "a size of at least 1 for each layer"
        raise ValueError(f"{name} must be {must}, got {sizes!s:.80}")
    checks.at_most(MAX_UNITS, **{name: array.max()})
    return tuple(array.tolist())


class _OnFeatures(nn.Module):
    """A head on an encoder's features; a subclass has it as ``head``.

    Args:
        encoder: gives φ(s); it may be shared.
        trains_encoder: whether the gradient goes on into the encoder.
        owns_encoder: whether the encoder's weights are among ``parameters``, for an optimiser to move; None
            if it trains it.
    """

    head: DeterministicPolicy | QNetwork

    def __init__(self, encoder: nn.Module, *, trains_encoder: bool, owns_encoder: bool | None = None):
        super().__init__()
        self.encoder, self.trains_encoder = encoder, bool(trains_encoder)
        self.owns_encoder = self.trains_encoder if owns_encoder is None else bool(owns_encoder)

    def features(self, s: object) -> Float[Tensor, "N n_features"]:
        """Return φ(s), detached unless this network trains the encoder."""
        with torch.set_grad_enabled(self.trains_encoder and torch.is_grad_enabled()):
            return self.encoder(s)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the weights that are this network's own; ``state_dict`` holds the encoder's in any case."""
        return super().parameters(recurse) if self.owns_encoder else self.head.parameters(recurse)


class PixelActor(_OnFeatures):
    """A deterministic policy of frames: μ(φ(s)), where φ(s) is detached.

    Args:
        encoder, owns_encoder: as in the module's docstring; the critic's, if it is shared.
        head: μ of features.
        trains_encoder: whether ∂μ/∂w goes on into the encoder.
    """

    stochastic = False
    head: DeterministicPolicy

    def __init__(
        self,
        encoder: nn.Module,
        head: DeterministicPolicy,
        *,
        trains_encoder: bool = False,
        owns_encoder: bool | None = None,
    ):
        super().__init__(encoder, trains_encoder=trains_encoder, owns_encoder=owns_encoder)
        self.head = head

    def forward(self, s: object) -> Float[Tensor, "N D"]:
        """Return μ(s), shape (N, D), for stacks of bytes, shape (N, n_frames, H, W)."""
        return self.head(self.features(s))

    @torch.no_grad()
    def greedy(self, s: object) -> Float[np.ndarray, "N D"]:
        """Return μ(s), shape (N, D)."""
        return self.head.greedy(self.features(s))

    def sample(self, s: object, rng: np.random.Generator) -> Float[np.ndarray, "N D"]:
        """Return μ(s): nothing is drawn."""
        return self.greedy(s)


class PixelCritic(_OnFeatures):
    """A critic of frames and actions: q(φ(s), a).

    Args:
        encoder, owns_encoder: as in the module's docstring.
        head: q of features and actions.
        trains_encoder: whether the critic's loss moves the encoder.
    """

    head: QNetwork

    def __init__(
        self,
        encoder: nn.Module,
        head: QNetwork,
        *,
        trains_encoder: bool = True,
        owns_encoder: bool | None = None,
    ):
        super().__init__(encoder, trains_encoder=trains_encoder, owns_encoder=owns_encoder)
        self.head = head

    def forward(self, s: object, a: object) -> Float[Tensor, " N"]:
        """Return q(s, a), shape (N,), for stacks of bytes and actions (N, D)."""
        return self.head(self.features(s), a)


class PixelTwinCritic(TwinCritic):
    """Two critics with one encoder, which is applied once: q(s, a), shape (2, N).

    Args:
        first, second: critics with the same encoder, of which the second does not own it.

    On no slide; Fujimoto, van Hoof & Meger (2018).
    """

    first: PixelCritic
    second: PixelCritic

    def __init__(self, first: PixelCritic, second: PixelCritic):
        if second.encoder is not first.encoder or second.owns_encoder:
            raise ValueError("second must share the encoder of first, and not own it")
        super().__init__(first, second)

    @property
    def encoder(self) -> nn.Module:
        """The encoder of both."""
        return cast(nn.Module, self.first.encoder)

    @encoder.setter
    def encoder(self, encoder: nn.Module) -> None:
        self.first.encoder = self.second.encoder = encoder

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the weights that are these networks' own."""
        return itertools.chain(self.first.parameters(recurse), self.second.parameters(recurse))

    def forward(self, s: object, a: object) -> Float[Tensor, "2 N"]:
        """Return both values, shape (2, N), for stacks of bytes and actions (N, D)."""
        phi = self.first.features(s)
        return torch.stack([self.first.head(phi, a), self.second.head(phi, a)])
