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


def gradient_norm(parameters: Iterable[Tensor], n_seeds: int = 1) -> float:
    """Return the Euclidean norm of the gradient of all parameters that have one; of several seeds, a list."""
    gradients = [w.grad for w in parameters if w.grad is not None]
    if n_seeds == 1:
        return torch.cat([g.flatten() for g in gradients]).norm().item()
    return torch.cat([g.flatten(1) for g in gradients], dim=1).norm(dim=1).tolist()


MAX_UNITS = 1_000_000  # of a layer
MAX_SEED = 2**63 - 1  # of PyTorch's generators
MAX_SCALE = 1e30  # of initial weights and deviations, whose squares still fit into single precision


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
        checks.at_most(MAX_SCALE, final_init_scale=final_init_scale)
    second_layer_inputs = checks.count(0, MAX_UNITS, second_layer_inputs=second_layer_inputs)
    sizes = _sizes("sizes", sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold those of the input and the output, got {sizes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.seed(MAX_SEED, seed=seed))
        layers: list[nn.Module] = []
        for k, (n_inputs, n_outputs) in enumerate(itertools.pairwise(sizes)):
            try:
                layer = nn.Linear(n_inputs + second_layer_inputs * (k == 1), n_outputs)
            except RuntimeError as error:
                raise ValueError(
                    f"sizes must let the weights fit into memory, got {sizes}: {error}"
                ) from error
            layers += [layer, nn.ReLU()]
        if final_init_scale is not None:
            for w in layers[-2].parameters():
                nn.init.uniform_(w, -float(final_init_scale), float(final_init_scale))
        return nn.Sequential(*layers[:-1])


def layer_sizes(state_dim: int, hidden_sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the input and of the hidden layers, checked."""
    state_dim = checks.count(1, MAX_UNITS, state_dim=state_dim)
    return [state_dim, *_sizes("hidden_sizes", hidden_sizes)]


def _sizes(name: str, sizes: Sequence[int]) -> list[int]:
    array = np.zeros(0) if isinstance(sizes, str) else checks.numbers(name, sizes)
    if (
        array.ndim != 1
        or not array.size
        or not np.isfinite(array).all()
        or (array < 1).any()
        or (array % 1).any()
    ):
        got = tuple(sizes) if array.ndim == 1 and not isinstance(sizes, str) else sizes
        layer = "hidden layer" if name == "hidden_sizes" else "layer"
        raise ValueError(f"{name} must hold a size of at least 1 for each {layer}, got {got!s:.80}")
    checks.at_most(MAX_UNITS, **{name: array.max()})
    return [int(size) for size in array]


def as_tensor(name: str, values: object, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers as a tensor, without a copy where that is possible."""
    if getattr(getattr(values, "dtype", None), "kind", None) in ("c", "O", "U", "S"):
        raise ValueError(f"{name} must hold real numbers, got {values!r:.80}")
    try:
        return torch.as_tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error!s:.200}") from error


def as_states(s: object, first_layer: nn.Module) -> Float[Tensor, "N state_dim"]:
    """Return states as a tensor of the layer's dtype, shape (N, state_dim)."""
    assert isinstance(first_layer, nn.Linear)
    s = as_tensor("s", s, first_layer.weight.dtype)
    if s.ndim != 2 or s.shape[1] != first_layer.in_features:
        raise ValueError(f"s must have shape (N, {first_layer.in_features}), got {tuple(s.shape)}")
    return s


def as_indices(s: object, n_states: int) -> Int[Tensor, " N"]:
    """Return the states of a table, integers 0…n_states−1, as a tensor of shape (N,)."""
    s = as_tensor("s", s)
    fits = s.ndim == 1 and is_integral(s)
    if not fits or (len(s) and not 0 <= (long := s.long()).min() <= long.max() < n_states):
        raise ValueError(f"s must hold integers in 0..{n_states - 1}, shape (N,), got {s}")
    return s.long()


def is_integral(x: Tensor) -> bool:
    """Return whether a tensor holds integers or truth values."""
    return not (x.is_floating_point() or x.is_complex())


def finite_output(name: str, x: np.ndarray, s: object) -> np.ndarray:
    """Return what a policy computed for states s, if it is finite; else say why it is not."""
    if not (ok := np.isfinite(x)).all():
        with np.errstate(over="ignore"):
            states = np.asarray(s, x.dtype)
        if not (fine := np.isfinite(states)).all():
            raise ValueError(f"s must be finite in {x.dtype}, got {states[~fine][0]}")
        raise ValueError(f"the policy must give finite {name}, got {x[~ok][0]}; a smaller eta may help")
    return x
