"""Value functions: v(s), q(s, ·) and q(s, a), as tables and networks.

Slides 2, 57, 60, 64 and 65.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.arrays import Float
from pgcourse.networks.mlp import MAX_UNITS, as_indices, as_states, as_tensor, layer_sizes, mlp


class TabularValue(nn.Module):
    """A table of values, one for each state, in double precision.

    Args:
        v: initial values, shape (n_states,); finite; copied.
    """

    def __init__(self, v: object):
        super().__init__()
        table = torch.tensor(checks.numbers("v", cast("np.ndarray", v)).astype(float))
        if table.ndim != 1 or not table.numel() or not table.isfinite().all():
            got = f"shape {tuple(table.shape)}: {table}"
            raise ValueError(f"v must be finite, shape (n_states,), got {got}")
        self.v = nn.Parameter(table)

    def forward(self, s: object) -> Float[Tensor, " N"]:
        """Return v(s), shape (N,), for states s, integers 0…n_states−1, shape (N,)."""
        return self.v[as_indices(s, len(self.v))]


class ValueNetwork(nn.Module):
    """A multilayer perceptron: v(s) = w₂·max(0, W₁s + b₁) + b₂.

    Args:
        state_dim: length of a state, at least 1.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        seed: of the initial weights, PyTorch's default.

    Slides 57 and 60.
    """

    def __init__(self, state_dim: int, hidden_sizes: Sequence[int] = (64,), *, seed: int = 0):
        super().__init__()
        self.layers = mlp([*layer_sizes(state_dim, hidden_sizes), 1], seed)

    def forward(self, s: object) -> Float[Tensor, " N"]:
        """Return v(s), shape (N,), for states of shape (N, state_dim)."""
        return self.layers(as_states(s, self.layers[0]))[:, 0]


class DiscreteQNetwork(nn.Module):
    """A multilayer perceptron with an output for each of K actions: q(s, ·).

    Args:
        state_dim: length of a state, at least 1.
        n_actions: K, at least 2.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        seed: of the initial weights, PyTorch's default.

    Slide 2.
    """

    def __init__(self, state_dim: int, n_actions: int, hidden_sizes: Sequence[int] = (64,), *, seed: int = 0):
        super().__init__()
        n_actions = checks.count(2, MAX_UNITS, n_actions=n_actions)
        self.layers = mlp([*layer_sizes(state_dim, hidden_sizes), n_actions], seed)

    def forward(self, s: object) -> Float[Tensor, "N K"]:
        """Return q(s, ·), shape (N, K), for states of shape (N, state_dim)."""
        return self.layers(as_states(s, self.layers[0]))


class QNetwork(nn.Module):
    """A multilayer perceptron that takes state and action: q(s, a).

    Args:
        state_dim: length of a state, at least 1.
        action_dim: D, length of an action, at least 1.
        hidden_sizes: units of each hidden layer, at least one layer, at least 1 unit each.
        action_at_second_layer: whether the action enters the second layer instead of the first.
        final_init_scale: the last layer's initial weights are uniform in ± this, positive: the first q are
            then near 0. None keeps PyTorch's default.
        seed: of the initial weights.

    Slides 64 and 65, where it is Network 1; Lillicrap et al. (2016), section 7, for the last two.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        action_at_second_layer: bool = False,
        final_init_scale: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        state_dim, *hidden = layer_sizes(state_dim, hidden_sizes)
        action_dim = checks.count(1, MAX_UNITS, action_dim=action_dim)
        self.action_at_second_layer, self.shapes = action_at_second_layer, ((state_dim,), (action_dim,))
        early, late = (0, action_dim) if action_at_second_layer else (action_dim, 0)
        sizes = [state_dim + early, *hidden, 1]
        self.layers = mlp(sizes, seed, second_layer_inputs=late, final_init_scale=final_init_scale)

    def forward(self, s: object, a: object) -> Float[Tensor, " N"]:
        """Return q(s, a), shape (N,), for states (N, state_dim) and actions (N, action_dim)."""
        dtype = next(self.parameters()).dtype
        s, a = as_tensor("s", s, dtype), as_tensor("a", a, dtype)
        if (s.shape[1:], a.shape[1:]) != self.shapes or len(s) != len(a):
            [n], [d] = self.shapes
            got = f"{tuple(s.shape)} and {tuple(a.shape)}"
            raise ValueError(f"s and a must have shapes (N, {n}) and (N, {d}), got {got}")
        if not self.action_at_second_layer:
            return self.layers(torch.cat([s, a], dim=1)).squeeze(1)
        h = self.layers[:2](s)
        return self.layers[2:](torch.cat([h, a], dim=1)).squeeze(1)


class TwinCritic(nn.Module):
    """Two critics with different initial weights: q(s, a), shape (2, N).

    Args:
        first, second: networks giving q(s, a), shape (N,).

    On no slide; Fujimoto, van Hoof & Meger (2018).
    """

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, s: object, a: object) -> Float[Tensor, "2 N"]:
        """Return both values, shape (2, N), for states (N, ...) and actions (N, D)."""
        return torch.stack([self.first(s, a), self.second(s, a)])
