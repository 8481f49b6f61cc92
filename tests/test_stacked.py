"""Stacked networks against the networks that were stacked, one after the other."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from pgcourse.algorithms.config import OPTIMIZERS, gradient_step, make_optimizer
from pgcourse.networks.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    SoftmaxPolicy,
    SquashedGaussianPolicy,
    TabularPolicy,
)
from pgcourse.networks.stacked import clip_gradients, n_seeds, stack, unstack
from pgcourse.networks.values import DiscreteQNetwork, QNetwork, TwinCritic, ValueNetwork

S, N = 3, 5
NETWORKS = {
    "policy": lambda seed: SoftmaxPolicy(4, 3, (8, 7), seed=seed),
    "gaussian_policy": lambda seed: GaussianPolicy(4, 2, sigma=0.5 + seed, seed=seed),
    "value": lambda seed: ValueNetwork(4, seed=seed),
    "q_network": lambda seed: DiscreteQNetwork(4, 3, seed=seed),
    "actor": lambda seed: DeterministicPolicy(4, [-1, -2], [1, 3], seed=seed),
    "squashed_gaussian": lambda seed: SquashedGaussianPolicy(4, [-1, -2], [1, 3], seed=seed),
    "critic": lambda seed: QNetwork(4, 2, (8, 7), action_at_second_layer=True, seed=seed),
    "twin_critic": lambda seed: TwinCritic(QNetwork(4, 2, seed=seed), QNetwork(4, 2, seed=seed + 100)),
}


def outputs(network, s, a):
    if isinstance(network, SoftmaxPolicy):
        return network.logits(s)
    if isinstance(network, GaussianPolicy):
        return torch.stack(network.log_prob_and_entropy(s, a), dim=1)
    if isinstance(network, SquashedGaussianPolicy):
        return torch.cat(network.mean_and_log_sigma(s), dim=1)
    return network(s, a) if isinstance(network, QNetwork | TwinCritic) else network(s)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return [torch.tensor(rng.normal(size=(S * N, n)), dtype=torch.float32) for n in (4, 2)]


@pytest.mark.parametrize("role", NETWORKS)
def test_each_block_of_rows_meets_its_own_network(role, rows):
    networks = [NETWORKS[role](seed) for seed in range(S)]
    stacked = stack(networks)
    assert type(stacked) is type(networks[0])
    assert n_seeds(stacked) == n_seeds(copy.deepcopy(stacked)) == S
    blocks = zip(networks, *(x.split(N) for x in rows), strict=True)
    axis = 1 if role == "twin_critic" else 0
    expected = torch.cat([outputs(*block) for block in blocks], dim=axis)
    assert_allclose(outputs(stacked, *rows).detach(), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("role", NETWORKS)
def test_unstacked_they_are_what_they_were(role):
    networks = [NETWORKS[role](seed) for seed in range(S)]
    for before, after in zip(networks, unstack(stack(networks)), strict=True):
        assert n_seeds(after) == 1
        assert before.state_dict().keys() == after.state_dict().keys()
        assert all(x.equal(y) for x, y in zip(before.parameters(), after.parameters(), strict=True))
    [alone] = unstack(stack(networks[:1]))
    assert all(x.equal(y) for x, y in zip(networks[0].parameters(), alone.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_optimiser_does_what_one_a_seed_would(optimizer):
    """Ten steps along the gradient of a mean over all rows: each seed's weights follow its own mean."""
    networks = [ValueNetwork(4, (8,), seed=seed).double() for seed in range(S)]
    stacked, rng = stack(networks), np.random.default_rng(1)
    optimizers = [make_optimizer(optimizer, x.parameters(), 0.01) for x in [*networks, stacked]]
    for _ in range(10):
        s = torch.tensor(rng.normal(size=(S * N, 4)))
        for network, one, block in zip([*networks, stacked], optimizers, [*s.split(N), s], strict=True):
            gradient_step(one, ((network(block) - block.sum(dim=1)) ** 2).mean(), 0.01)
    for network, own in zip(networks, unstack(stacked), strict=True):
        for w, w_own in zip(network.parameters(), own.parameters(), strict=True):
            assert_allclose(w_own.detach(), w.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.01, 0.3, 100.0])
def test_each_seeds_gradient_is_shortened_by_its_own_norm(max_norm):
    """Against PyTorch's ``clip_grad_norm_`` for one network after the other."""
    networks = [GaussianPolicy(4, 2, (8,), sigma=0.2 + seed, seed=seed).double() for seed in range(S)]
    stacked, rng = stack(networks), np.random.default_rng(1)
    s, a = torch.tensor(rng.normal(size=(S * N, 4))), torch.tensor(rng.normal(size=(S * N, 2)))
    blocks = zip(networks, s.split(N), a.split(N), strict=True)
    for network, *rows in [*blocks, (stacked, s, a)]:
        L, H = network.log_prob_and_entropy(*rows)
        network.zero_grad()
        (0.01 * L.mean() + 0.1 * H.mean()).backward()
        clip_gradients(network.parameters(), n_seeds(network), max_norm)
    for w, *each in zip(stacked.parameters(), *(x.parameters() for x in networks), strict=True):
        assert_allclose(w.grad, np.stack([one.grad for one in each]), rtol=1e-9, atol=1e-12)
    norms = [torch.nn.utils.get_total_norm(w.grad for w in x.parameters()) for x in networks]
    assert max(norms) <= max_norm


def test_the_networks_that_are_stacked_stay_as_they_are():
    networks = [ValueNetwork(4, seed=seed) for seed in range(S)]
    before = copy.deepcopy(networks)
    stacked = stack(networks)
    with torch.no_grad():
        for w in stacked.parameters():
            w.zero_()
    for network, was in zip(networks, before, strict=True):
        assert all(x.equal(y) for x, y in zip(network.parameters(), was.parameters(), strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: stack([ValueNetwork(4), ValueNetwork(4, (8,))]),
            "networks must have the same layers, one network a seed",
        ),
        (
            lambda: stack([TabularPolicy(np.zeros((4, 2))), TabularPolicy(np.zeros((4, 2)))]),
            "networks must have their weights in linear layers with biases, got w",
        ),
        (
            lambda: stack([nn.Sequential(nn.Linear(4, 2, bias=False)) for _ in range(2)]),
            "networks must have their weights in linear layers with biases, got 0.weight",
        ),
        (
            lambda: stack([DeterministicPolicy(4, [-1], [high]) for high in (1, 2)]),
            "networks must differ in their weights only, got another class or other bounds",
        ),
        (lambda: stack([]), "networks must be at least one, got none"),
        (
            lambda: stack([ValueNetwork(4), ValueNetwork(4)])(np.zeros((5, 4))),
            "x must have as many rows for each of 2 seeds, got 5 in all",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def test_layers_without_a_seed_axis_are_untouched():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert type(stack([network])[0]) is nn.Linear
    assert [type(one[0]) for one in unstack(network)] == [nn.Linear]
