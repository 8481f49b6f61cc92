"""The lecture's network for Pong: a hidden layer on 6,400 pixels, and heads for policies and values.

Slides 12–15, 24, 52 and 53.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgcourse import checks
from pgcourse.arrays import Bool, Float
from pgcourse.networks.mlp import MAX_SCALE, MAX_SEED, MAX_UNITS, as_tensor
from pgcourse.networks.policies import CategoricalPolicy


class PixelTrunk(nn.Module):
    """The hidden layer: h = max(0, W₁x + b₁).

    Only a few pixels of a difference frame are not 0, so W₁x is computed as a sum of a few columns of W₁.

    Args:
        hidden_size: hidden units, at least 1.
        n_pixels: inputs, at least 1.
        init_scale: factor on the initial weights, positive. Their variance is else 1 / (number of inputs), as
            in Karpathy (2016).
        ignored_pixels: pixels whose weights are and stay zero, boolean, shape (n_pixels,); None uses all.
        generator: draws the initial weights.

    Slides 12–14.
    """

    def __init__(
        self,
        hidden_size: int,
        n_pixels: int,
        *,
        init_scale: float = 1.0,
        ignored_pixels: Bool[np.ndarray, " n_pixels"] | None = None,
        generator: torch.Generator,
    ):
        super().__init__()
        hidden_size = checks.count(1, MAX_UNITS, hidden_size=hidden_size)
        n_pixels = checks.count(1, MAX_UNITS, n_pixels=n_pixels)
        checks.positive(init_scale=init_scale)
        checks.at_most(MAX_SCALE, init_scale=init_scale)
        ignored = checks.booleans((n_pixels,), default=False, ignored_pixels=ignored_pixels).copy()
        self.ignored = ignored if ignored.any() else None
        rows = torch.from_numpy(ignored)[:, None]
        W1 = float(init_scale) * torch.randn(n_pixels, hidden_size, generator=generator) / math.sqrt(n_pixels)
        self.W1 = nn.Parameter(W1.masked_fill(rows, 0))  # transposed: a pixel a row
        self.b1 = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: object) -> Float[Tensor, "N hidden_size"]:
        """Return h, shape (N, hidden_size), for difference frames x, finite, shape (N, n_pixels)."""
        frames = as_tensor("x", x)
        if frames.ndim != 2 or frames.shape[1] != len(self.W1):
            raise ValueError(f"x must have shape (N, {len(self.W1)}), got {tuple(frames.shape)}")
        n, n_pixels = frames.shape
        flat = frames.numpy().reshape(-1)
        where = np.flatnonzero(flat != 0)
        checks.finite(x=flat[where])
        if self.ignored is not None:
            where = where[~self.ignored[where % n_pixels]]
        starts = torch.from_numpy(np.searchsorted(where, np.arange(n) * n_pixels))  # of each frame in where
        index, sign = torch.from_numpy(where % n_pixels), torch.from_numpy(flat[where]).to(self.W1.dtype)
        W1x = F.embedding_bag(index, self.W1, starts, mode="sum", per_sample_weights=sign)
        return (W1x + self.b1).relu()


class PixelHead(nn.Module):
    """The output layer: z = w₂·h + b₂, shape (N,), or z = W₂h + b₂, shape (N, n_outputs).

    Args:
        hidden_size: inputs, at least 1.
        n_outputs: outputs; None for a single one, without an axis of its own.
        generator: draws the initial weights, normal with variance 1 / (number of inputs).

    Slides 14, 15 and 24.
    """

    def __init__(self, hidden_size: int, n_outputs: int | None, generator: torch.Generator):
        super().__init__()
        hidden_size = checks.count(1, MAX_UNITS, hidden_size=hidden_size)
        outputs = () if n_outputs is None else (checks.count(1, MAX_UNITS, n_outputs=n_outputs),)
        w2 = torch.randn((hidden_size, *outputs), generator=generator) / math.sqrt(hidden_size)
        self.w2 = nn.Parameter(w2)  # transposed, as W₁
        self.b2 = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Float[Tensor, "N hidden_size"]) -> Float[Tensor, "..."]:
        """Return z, shape (N,) or (N, n_outputs)."""
        return h @ self.w2 + self.b2


class PixelPolicy(CategoricalPolicy):
    """The lecture's network for Pong: 80·80 pixels, 200 hidden units, one sigmoid.

    h = max(0, W₁x + b₁)        z = w₂·h + b₂        y = σ(z) = π(UP∣x)

    Args:
        hidden_size: hidden units, at least 1.
        n_pixels: inputs, at least 1.
        init_scale, ignored_pixels: as for ``PixelTrunk``.
        seed: of the initial weights.

    Slides 12–15.
    """

    def __init__(
        self,
        hidden_size: int = 200,
        *,
        n_pixels: int = 6400,
        init_scale: float = 1.0,
        ignored_pixels: Bool[np.ndarray, " n_pixels"] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        generator = torch.Generator().manual_seed(checks.seed(MAX_SEED, seed=seed))
        self.trunk = PixelTrunk(
            hidden_size, n_pixels, init_scale=init_scale, ignored_pixels=ignored_pixels, generator=generator
        )
        self.head = PixelHead(hidden_size, None, generator)

    def logit(self, x: object) -> Float[Tensor, " N"]:
        """Return z, shape (N,), for frames (N, n_pixels): the log-odds; slide 15 says log probability."""
        return self.head(self.trunk(x))

    def logits(self, s: object) -> Float[Tensor, "N 2"]:
        """Return (0, z), shape (N, 2): a softmax over them is the sigmoid of z."""
        z = self.logit(s)
        return torch.stack([torch.zeros_like(z), z], dim=1)


class PixelSoftmaxPolicy(CategoricalPolicy):
    """The same hidden layer with a softmax over K actions.

    h = max(0, W₁x + b₁)        z = W₂h + b₂        π(k∣x) = e^zₖ / Σⱼ e^zⱼ

    Args:
        n_actions: K, at least 2.
        hidden_size, n_pixels, seed: as for ``PixelPolicy``.

    Slide 24.
    """

    def __init__(self, n_actions: int, hidden_size: int = 200, *, n_pixels: int = 6400, seed: int = 0):
        super().__init__()
        self.trunk, self.head = _trunk_and_outputs(n_actions, hidden_size, n_pixels, seed)

    def logits(self, s: object) -> Float[Tensor, "N K"]:
        """Return z, shape (N, K), for frames of shape (N, n_pixels)."""
        return self.head(self.trunk(s))


class PixelQNetwork(nn.Module):
    """The same hidden layer with a value for each of K actions: q(x, ·) = W₂h + b₂.

    Args: as for ``PixelSoftmaxPolicy``.

    Slide 2.
    """

    def __init__(self, n_actions: int, hidden_size: int = 200, *, n_pixels: int = 6400, seed: int = 0):
        super().__init__()
        self.trunk, self.head = _trunk_and_outputs(n_actions, hidden_size, n_pixels, seed)

    def forward(self, s: object) -> Float[Tensor, "N K"]:
        """Return q(s, ·), shape (N, K), for frames of shape (N, n_pixels)."""
        return self.head(self.trunk(s))


class PixelValue(nn.Module):
    """The same hidden layer with a value: v(x) = w₂·h + b₂.

    Args:
        hidden_size, n_pixels, seed: as for ``PixelPolicy``.

    Slides 52 and 53.
    """

    def __init__(self, hidden_size: int = 200, *, n_pixels: int = 6400, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(checks.seed(MAX_SEED, seed=seed))
        self.trunk = PixelTrunk(hidden_size, n_pixels, generator=generator)
        self.head = PixelHead(hidden_size, None, generator)

    def forward(self, s: object) -> Float[Tensor, " N"]:
        """Return v(s), shape (N,), for frames of shape (N, n_pixels)."""
        return self.head(self.trunk(s))


def _trunk_and_outputs(
    n_actions: int, hidden_size: int, n_pixels: int, seed: int
) -> tuple[PixelTrunk, PixelHead]:
    n_actions, seed = checks.count(2, MAX_UNITS, n_actions=n_actions), checks.seed(MAX_SEED, seed=seed)
    first, second = (torch.Generator().manual_seed(seed + k) for k in (0, 1))
    trunk = PixelTrunk(hidden_size, n_pixels, generator=first)
    return trunk, PixelHead(hidden_size, n_actions, second)
