"""Multilayer perceptrons, and what all networks share.

Slides 12–15, 57 and 60.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pgcourse import checks
from pgcourse.arrays import Float, Int


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run the block on one thread.

    Small networks are no faster on two, and results do not depend on the number of cores.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of the gradient of all parameters that have one."""
    return torch.cat([w.grad.flatten() for w in parameters if w.grad is not None]).norm().item()


def mlp(
    sizes: Sequence[int],
    seed: int,
    *,
    second_layer_inputs: int = 0,
    final_init_scale: float | None = None,
) -> nn.Sequential:
    """Return a multilayer perceptron: linear layers with ReLUs between them.

    h₀ = s        hₖ = max(0, Wₖhₖ₋₁ + bₖ)        output = Wₙhₙ₋₁ + bₙ

    Args:
        sizes: numbers of units from the input to the output, at least 1 each.
        seed: of the initial weights, which are PyTorch's default, uniform in ±1/√(number of inputs).
        second_layer_inputs: inputs of the second layer beside the first layer's units.
        final_init_scale: the last layer's weights are uniform in ± this; None leaves the default.
    """
    if final_init_scale is not None:
        checks.positive(final_init_scale=final_init_scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for k, (n_inputs, n_outputs) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(n_inputs + second_layer_inputs * (k == 1), n_outputs), nn.ReLU()]
        if final_init_scale is not None:
            for w in layers[-2].parameters():
                nn.init.uniform_(w, -final_init_scale, final_init_scale)
        return nn.Sequential(*layers[:-1])


def layer_sizes(state_dim: int, hidden_sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the input and of the hidden layers, checked."""
    checks.at_least(1, state_dim=state_dim)
    if np.ndim(hidden_sizes) != 1 or not len(hidden_sizes) or min(hidden_sizes) < 1:
        got = tuple(hidden_sizes) if np.ndim(hidden_sizes) == 1 else hidden_sizes
        raise ValueError(f"hidden_sizes must hold a size of at least 1 for each hidden layer, got {got}")
    return [state_dim, *hidden_sizes]


def as_states(s: object, first_layer: nn.Module) -> Float[Tensor, "N state_dim"]:
    """Return states as a tensor of the layer's dtype, shape (N, state_dim)."""
    assert isinstance(first_layer, nn.Linear)
    s = torch.as_tensor(s, dtype=first_layer.weight.dtype)
    if s.ndim != 2 or s.shape[1] != first_layer.in_features:
        raise ValueError(f"s must have shape (N, {first_layer.in_features}), got {tuple(s.shape)}")
    return s


def as_indices(s: object, n_states: int) -> Int[Tensor, " N"]:
    """Return the states of a table, integers 0…n_states−1, as a tensor of shape (N,)."""
    s = torch.as_tensor(s)
    if s.ndim != 1 or s.is_floating_point() or (len(s) and not 0 <= s.min() <= s.max() < n_states):
        raise ValueError(f"s must hold integers in 0..{n_states - 1}, shape (N,), got {s}")
    return s.long()


def finite_output(name: str, x: np.ndarray) -> np.ndarray:
    """Return what a policy computed, if it is finite."""
    if not (ok := np.isfinite(x)).all():
        raise ValueError(f"the policy must give finite {name}, got {x[~ok][0]}; a smaller eta may help")
    return x
