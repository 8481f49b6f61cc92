"""A transformer: logits of the next token, for every prefix of a sequence at once.

x ← E[token] + P[position]    x ← x + attention(norm(x))    x ← x + W₂ gelu(W₁ norm(x))    z = W norm(x)

attention(x)ₜ = Σ_u≤t softmax_u(qₜ·k_u / √d) v_u        q, k, v = W_q x, W_k x, W_v x        for each head

Position t sees no later token, and z at t are the logits of token t+1. Keys and values of a prefix stay when
the sequence grows: ``extend`` keeps them in a cache, and computes the new tokens only.

Departures: a decoder alone; norms before the sublayers, learnt positions and GELU, as in GPT-2; no dropout.

On no slide; Vaswani et al. (2017), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.arrays import Float
from pgcourse.networks.autoregressive import as_tokens
from pgcourse.networks.mlp import MAX_SEED, MAX_UNITS

Cache = tuple[tuple[Tensor, Tensor], ...]  # keys and values of each layer, each (N, n_heads, T, d)


class Attention(nn.Module):
    """Causal self-attention with several heads, each of width d = width / n_heads."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "N T width"], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "N T width"], tuple[Tensor, Tensor]]:
        """Return what each position gathers, and keys and values of the sequence so far."""
        n, length, width = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        scores = q @ k.mT / q.shape[-1] ** 0.5  # (N, n_heads, T, T of the whole sequence)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + k.shape[2] - length)
        gathered = scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
        return self.output(gathered.transpose(1, 2).reshape(n, length, width)), (k, v)


class Block(nn.Module):
    """A layer: attention, then a multilayer perceptron at each position, both added to their input."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Float[Tensor, "N T width"], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "N T width"], tuple[Tensor, Tensor]]:
        """Return the output of the layer, and keys and values of the sequence so far."""
        gathered, present = self.attention(self.norm_1(x), past)
        x = x + gathered
        return x + self.mlp(self.norm_2(x)), present


class Transformer(nn.Module):
    """A causal transformer over sequences of tokens, 0…K−1.

    Args:
        n_tokens: K, size of the vocabulary, at least 2.
        max_length: tokens of the longest sequence, at least 1.
        width, n_layers, n_heads: at least 1; the width is a multiple of ``n_heads``.
        seed: of the initial weights: PyTorch's default, and 0.02 times standard normal for E and P.
    """

    def __init__(
        self,
        n_tokens: int,
        max_length: int,
        *,
        width: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        seed: int = 0,
    ):
        super().__init__()
        self.n_tokens = checks.count(2, MAX_UNITS, n_tokens=n_tokens)
        self.max_length = checks.count(1, MAX_UNITS, max_length=max_length)
        width, n_heads = checks.count(1, 10**4, width=width), checks.count(1, 10**4, n_heads=n_heads)
        if width % n_heads:
            raise ValueError(f"width must be a multiple of n_heads, {n_heads}, got {width}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(checks.seed(MAX_SEED, seed=seed))
            self.tokens = nn.Embedding(self.n_tokens, width)
            self.positions = nn.Embedding(self.max_length, width)
            n_layers = checks.count(1, 1000, n_layers=n_layers)
            self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))
            self.norm, self.logits = nn.LayerNorm(width), nn.Linear(width, self.n_tokens)
            for embedding in (self.tokens, self.positions):
                nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: object) -> Float[Tensor, "N T K"]:
        """Return at each position the logits of the next token, for sequences of shape (N, T)."""
        return self.extend(tokens, None)[0]

    def extend(self, tokens: object, cache: Cache | None) -> tuple[Float[Tensor, "N T K"], Cache]:
        """Return the same for tokens that follow those in the cache, and the cache of all; None is empty."""
        t = as_tokens("tokens", tokens, self.n_tokens)
        start = cache[0][0].shape[2] if cache else 0
        if (length := start + t.shape[1]) > self.max_length:
            raise ValueError(f"tokens must be at most {self.max_length} with the cache, got {length}")
        x = self.tokens(t) + self.positions.weight[start:length]
        past, presents = cache or (None,) * len(self.blocks), []
        for block, layer in zip(self.blocks, past, strict=True):
            x, present = block(x, layer)
            presents.append(present)
        return self.logits(self.norm(x)), tuple(presents)
