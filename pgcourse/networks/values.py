"""Value functions: v(s) and q(s, a).

Slides 57–60, 64 and 65.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse.networks.mlp import _at_least, _hidden, _network, _rows, _sizes, _through


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
            raise ValueError(
                f"x must be finite, shape (n_states, n_features), got shape {tuple(x.shape)}: {x}"
            )
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
        self.layers = _network(
            [sizes[0] + n_outputs * (not late), *sizes[1:], 1], seed, late=n_outputs * late, last=last
        )

    def forward(self, s, a) -> Tensor:
        """Return q(s, a), shape (N,), for states (N, n_inputs) and actions (N, n_outputs).

        Raises:
            ValueError: if a shape is another.
        """
        s, a = (torch.as_tensor(x, dtype=self.layers[0].weight.dtype) for x in (s, a))
        if (s.shape[1:], a.shape[1:]) != self.shapes or len(s) != len(a):
            [n], [d] = self.shapes
            raise ValueError(
                f"s and a must have shapes (N, {n}) and (N, {d}), got {tuple(s.shape)} and {tuple(a.shape)}"
            )
        if not self.late:
            return _through(self.layers, torch.cat([s, a], dim=1)).squeeze(1)
        h = _through(self.layers[:2], s)
        return _through(self.layers[2:], torch.cat([h, a], dim=1)).squeeze(1)
