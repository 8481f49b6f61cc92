"""Networks that see the pixels of Pong.

Slides 12–15 and 24.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgcourse.networks.mlp import _at_least
from pgcourse.networks.policies import Policy


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

    def __init__(
        self, n_hidden: int = 200, *, n_pixels: int = 6400, seed: int = 0, spread: float = 1.0, blind=None
    ):
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
        self.w2 = nn.Parameter(
            torch.randn(n_hidden, n_actions, generator=generator) / math.sqrt(n_hidden)
        )  # transposed, as W₁
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
