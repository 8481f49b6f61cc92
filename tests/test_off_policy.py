"""Polyak averaging, weight by weight."""

import copy

import numpy as np
import pytest
import torch

from pgcourse.algorithms.off_policy import polyak_update
from pgcourse.networks.policies import DeterministicPolicy, GaussianPolicy
from pgcourse.networks.values import QNetwork, TwinCritic

NETWORKS = {
    "μ": lambda seed: DeterministicPolicy(3, [-1, 0], [1, 2], (5, 4), seed=seed),
    "q": lambda seed: QNetwork(3, 2, (5, 4), action_at_second_layer=True, seed=seed),
    "twin critic": lambda seed: TwinCritic(
        QNetwork(3, 2, (5,), seed=seed), QNetwork(3, 2, (5,), seed=seed + 9)
    ),
    "Gaussian policy": lambda seed: GaussianPolicy(3, 2, (5,), seed=seed),
    "in double precision": lambda seed: QNetwork(3, 2, (5, 4), seed=seed).double(),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("tau", [0.005, 0.25, 1.0])
def test_the_target_moves_by_tau_times_the_difference(make, tau):
    """w' ← w' + τ (w − w'), in NumPy, three times over; the network itself stays."""
    network, target = make(1), make(2).requires_grad_(False)
    w = [part.detach().numpy().copy() for part in network.parameters()]
    expected = [part.numpy().astype(float) for part in target.parameters()]
    for _ in range(3):
        polyak_update(target, network, tau)
        expected = [w_target + tau * (part - w_target) for part, w_target in zip(w, expected, strict=True)]
        for part, w_target in zip(target.parameters(), expected, strict=True):
            assert not part.requires_grad
            np.testing.assert_allclose(part, w_target, rtol=1e-6, atol=1e-7)
    for part, before in zip(network.parameters(), w, strict=True):
        np.testing.assert_array_equal(part.detach(), before)
        assert part.requires_grad
        assert part.grad is None


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_with_tau_1_it_is_a_copy(make):
    """To the bit, and one that shares no memory."""
    network, target = make(1), make(2)
    polyak_update(target, network, 1.0)
    pairs = list(zip(target.parameters(), network.parameters(), strict=True))
    assert all(one.equal(other) and one.data_ptr() != other.data_ptr() for one, other in pairs)


def test_a_target_follows_a_network_that_learns_to_the_same_weights():
    """After n updates towards a network that stays, (1 − τ)ⁿ of the difference is left."""
    network, target = NETWORKS["q"](1), copy.deepcopy(NETWORKS["q"](2))
    before = torch.nn.utils.parameters_to_vector(target.parameters())
    w = torch.nn.utils.parameters_to_vector(network.parameters())
    for _ in range(50):
        polyak_update(target, network, 0.1)
    after = torch.nn.utils.parameters_to_vector(target.parameters())
    torch.testing.assert_close(after - w, 0.9**50 * (before - w), rtol=1e-3, atol=1e-6)
