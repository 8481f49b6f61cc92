"""S networks in one: their weights on a leading axis, so that S seeds learn in one pass.

Rows of the input come in S blocks of equal length, one a seed, and block k meets the weights of network k:

    yₖ = xₖ Wₖᵀ + bₖ        x: (S·N, n_inputs), y: (S·N, n_outputs)

A loss is a mean over all rows. Each seed's own is the mean over its block, S times its part in that. So the
gradient of every weight is multiplied by S: it is then the gradient of its seed's own loss, and an optimiser
that treats weights one by one (Adam, RMSprop, SGD) does with them what S optimisers would. A norm has to be
that of one seed's weights: ``clip_gradients``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from pgcourse.arrays import Float

Module = TypeVar("Module", bound=nn.Module)


class StackedLinear(nn.Linear):
    """Linear layers of S networks: W of shape (S, n_outputs, n_inputs) and b of shape (S, n_outputs).

    Args:
        layers: S linear layers of one shape and dtype, whose weights are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layers[0].in_features, layers[0].out_features
        self.n_seeds = len(layers)
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Float[Tensor, "S*N n_inputs"]) -> Float[Tensor, "S*N n_outputs"]:
        """Return the outputs, shape (S·N, n_outputs), for inputs of shape (S·N, n_inputs)."""
        if len(x) % self.n_seeds:
            raise ValueError(
                f"x must have as many rows for each of {self.n_seeds} seeds, got {len(x)} in all"
            )
        W, b = self.weight, self.bias
        if torch.is_grad_enabled():
            W, b = _OwnLoss.apply(W, self.n_seeds), _OwnLoss.apply(b, self.n_seeds)
        return torch.baddbmm(b[:, None], x.reshape(self.n_seeds, -1, self.in_features), W.mT).flatten(0, 1)

    def layer(self, k: int) -> nn.Linear:
        """Return a copy of the layer of seed k."""
        layer = nn.Linear(self.in_features, self.out_features, dtype=self.weight.dtype)
        layer.load_state_dict({"weight": self.weight[k], "bias": self.bias[k]})
        return layer


class _OwnLoss(torch.autograd.Function):
    """The identity; backwards, the gradient of the mean over S seeds becomes that of each seed's own loss."""

    @staticmethod
    def forward(ctx, w: Tensor, n_seeds: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.n_seeds = n_seeds
        return w.view_as(w)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return ctx.n_seeds * gradient, None


def per_row(w: Tensor, n: int) -> Tensor:
    """Return a vector of weights for n rows: itself, (D,); of S stacked ones, each for its block, (n, D)."""
    if w.ndim == 1:
        return w
    if torch.is_grad_enabled():
        w = _OwnLoss.apply(w, len(w))
    return w.repeat_interleave(n // len(w), dim=0)


@torch.no_grad()
def clip_gradients(weights: Iterable[Tensor], n_seeds: int, max_norm: float) -> None:
    """Shorten the gradient of each seed to this norm where it is longer, all its weights taken together."""
    gradients = [w.grad for w in weights if w.grad is not None]
    if n_seeds == 1:
        norm = math.hypot(*map(float, torch._foreach_norm(gradients)))
        if norm > max_norm:  # as torch.nn.utils.clip_grad_norm_, with fewer calls
            torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))
        return
    norms = torch.cat([g.flatten(1) for g in gradients], dim=1).norm(dim=1)
    factors = (max_norm / (norms + 1e-6)).clamp(max=1)  # as PyTorch does
    for g in gradients:
        g *= factors.view(-1, *[1] * (g.ndim - 1))


def stack(networks: Sequence[Module]) -> Module:
    """Return one network of the class of the given ones, which holds the weights of all of them.

    Args:
        networks: S ≥ 1 networks that differ in their weights only. All weights are in linear layers, or are
            vectors that the network names in ``vectors`` and hands to ``per_row``. They are copied; of one, a
            copy with ordinary layers is returned.
    """
    if not networks:
        raise ValueError("networks must be at least one, got none")
    stacked = copy.deepcopy(networks[0])
    if len(networks) == 1:
        return stacked
    shapes = [{name: w.shape for name, w in network.named_parameters()} for network in networks]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("networks must have the same layers, one network a seed")
    for other in networks[1:]:
        buffers = zip(networks[0].buffers(), other.buffers(), strict=True)
        if type(other) is not type(stacked) or not all(torch.equal(x, y) for x, y in buffers):
            raise ValueError("networks must differ in their weights only, got another class or other bounds")
    linear = [
        name
        for name, module in stacked.named_modules()
        if type(module) is nn.Linear and module.bias is not None
    ]
    vectors = getattr(stacked, "vectors", ())
    others = set(shapes[0]) - {f"{name}.{w}" for name in linear for w in ("weight", "bias")} - set(vectors)
    if others:
        raise ValueError(
            f"networks must have their weights in linear layers with biases, got {', '.join(sorted(others))}"
        )
    for name in linear:
        layers = [network.get_submodule(name) for network in networks]
        stacked.set_submodule(name, StackedLinear([x for x in layers if isinstance(x, nn.Linear)]))
    for name in vectors:
        weights = [network.get_parameter(name).detach() for network in networks]
        setattr(stacked, name, nn.Parameter(torch.stack(weights)))
    return stacked


def unstack(network: Module) -> list[Module]:
    """Return the networks of all seeds, copies with ordinary layers."""
    networks = [copy.deepcopy(network) for _ in range(n_seeds(network))]
    for name, module in network.named_modules():
        if isinstance(module, StackedLinear):
            for k, one in enumerate(networks):
                one.set_submodule(name, module.layer(k))
    for name in getattr(network, "vectors", ()) if len(networks) > 1 else ():
        for one, w in zip(networks, network.get_parameter(name).detach(), strict=True):
            setattr(one, name, nn.Parameter(w.clone()))
    return networks


def n_seeds(network: object) -> int:
    """Return how many networks are stacked in one; 1 if none are."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return next((module.n_seeds for module in modules if isinstance(module, StackedLinear)), 1)
