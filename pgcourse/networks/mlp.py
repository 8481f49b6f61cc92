"""Multilayer perceptrons, and what all networks share.

Slides 12–15 and 57–60.
"""

import contextlib
import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn


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


def _finite(name, x) -> np.ndarray:
    """Return what a policy gave, if it is finite."""
    if not np.isfinite(x).all():
        raise ValueError(
            f"the policy must give finite {name}, got {x[~np.isfinite(x)][0]}; a smaller eta may help"
        )
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
