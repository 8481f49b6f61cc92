"""Multilayer perceptrons against their formula in NumPy, and what all networks share."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcourse.networks.mlp import gradient_norm, mlp, single_thread
from pgcourse.networks.pixels import PixelPolicy, PixelQNetwork, PixelSoftmaxPolicy, PixelValue
from pgcourse.networks.policies import DeterministicPolicy, GaussianPolicy, SoftmaxPolicy
from pgcourse.networks.values import DiscreteQNetwork, QNetwork, TwinCritic, ValueNetwork

hidden_layers = st.lists(st.integers(1, 6), min_size=1, max_size=3)
WITH_HIDDEN_LAYERS = {
    "softmax": lambda state_dim, sizes, **options: SoftmaxPolicy(state_dim, 2, sizes, **options),
    "Gaussian": lambda state_dim, sizes, **options: GaussianPolicy(state_dim, 2, sizes, **options),
    "μ": lambda state_dim, sizes, **options: DeterministicPolicy(
        state_dim, [-1, 0], [1, 2], sizes, **options
    ),
    "v": lambda state_dim, sizes, **options: ValueNetwork(state_dim, sizes, **options),
    "q(s, ·)": lambda state_dim, sizes, **options: DiscreteQNetwork(state_dim, 2, sizes, **options),
    "q(s, a)": lambda state_dim, sizes, **options: QNetwork(state_dim, 2, sizes, **options),
}


def linear_layers(network):
    """W and b of each layer, in NumPy."""
    linear = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    return [tuple(w.detach().numpy() for w in layer.parameters()) for layer in linear]


def forward(layers, x, second_layer_inputs=None):
    """The last layer's output, in NumPy; ``second_layer_inputs`` stand beside the first layer's units."""
    for k, (W, b) in enumerate(layers):
        if k == 1 and second_layer_inputs is not None:
            x = np.hstack([x, second_layer_inputs])
        x = x @ W.T + b
        if k < len(layers) - 1:
            x = np.maximum(0, x)
    return x


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.sampled_from([None, 0.1]),
    st.integers(0, 2**32),
)
def test_it_is_the_formula_of_its_docstring(sizes, final_init_scale, seed):
    network = mlp(sizes, seed, final_init_scale=final_init_scale).double()
    x = np.random.default_rng(seed).normal(size=(7, sizes[0]))
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(itertools.pairwise(sizes))
    layers = [tuple(w.detach().numpy() for w in layer.parameters()) for layer in linear]
    np.testing.assert_allclose(network(torch.tensor(x)).detach(), forward(layers, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", WITH_HIDDEN_LAYERS.values(), ids=WITH_HIDDEN_LAYERS)
@pytest.mark.parametrize("sizes", [(5,), (5, 6), (7, 5, 6), [5], np.array([5, 6])], ids=str)
def test_there_are_as_many_hidden_layers_as_asked_for(make, sizes):
    """One after the other, with a ReLU after each but the last."""
    network = make(4, sizes)
    layers = linear_layers(network)
    assert [len(b) for _, b in layers[:-1]] == list(sizes)
    assert [W.shape[1] for W, _ in layers[1:]] == list(sizes)
    x = np.random.default_rng(0).normal(size=(3, layers[0][0].shape[1])).astype(np.float32)
    np.testing.assert_allclose(
        network.layers(torch.from_numpy(x)).detach(), forward(layers, x), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("make", WITH_HIDDEN_LAYERS.values(), ids=WITH_HIDDEN_LAYERS)
@pytest.mark.parametrize(
    ("state_dim", "sizes", "message"),
    [
        (0, (4,), "state_dim must be a whole number of at least 1, got 0"),
        (3, (), r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \(\)"),
        (3, [4, 0], r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \(4, 0\)"),
        (3, (0, 4), r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \(0, 4\)"),
        (3, 64, "hidden_sizes must hold a size of at least 1 for each hidden layer, got 64"),
        (3, "64", "hidden_sizes must hold a size of at least 1 for each hidden layer, got 64"),
        (3, [[4]], r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \[\[4\]\]"),
    ],
)
def test_sizes_are_checked(make, state_dim, sizes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make(state_dim, sizes)


@pytest.mark.parametrize("kind", ["μ", "q(s, a)"])
@pytest.mark.parametrize("scale", [0, 0.0, -0.1, np.inf, np.nan])
def test_the_scale_of_the_last_layers_weights_is_positive(kind, scale):
    with pytest.raises(ValueError, match=f"^final_init_scale must be a positive number, got {scale}$"):
        WITH_HIDDEN_LAYERS[kind](3, (4,), final_init_scale=scale)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: SoftmaxPolicy(4, 2, seed=seed),
        lambda seed: GaussianPolicy(4, 2, seed=seed),
        lambda seed: DeterministicPolicy(4, [-1, 0], [1, 2], seed=seed),
        lambda seed: DeterministicPolicy(4, [-1, 0], [1, 2], final_init_scale=0.01, seed=seed),
        lambda seed: ValueNetwork(4, seed=seed),
        lambda seed: DiscreteQNetwork(4, 2, seed=seed),
        lambda seed: QNetwork(4, 2, seed=seed),
        lambda seed: QNetwork(4, 2, action_at_second_layer=True, final_init_scale=0.01, seed=seed),
        lambda seed: PixelPolicy(3, n_pixels=5, seed=seed),
        lambda seed: PixelSoftmaxPolicy(3, 4, n_pixels=5, seed=seed),
        lambda seed: PixelQNetwork(3, 4, n_pixels=5, seed=seed),
        lambda seed: PixelValue(3, n_pixels=5, seed=seed),
    ],
)
def test_initial_weights_depend_on_their_seed_alone(make):
    weights = []
    for disturbance, seed in [(1, 0), (2, 0), (2, 1)]:
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        weights.append(torch.cat([w.detach().flatten() for w in make(seed).parameters()]))
        assert torch.get_rng_state().equal(before)
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_the_gradients_norm_is_that_of_all_parameters_that_have_one():
    network = TwinCritic(QNetwork(3, 1, (4,), seed=1), QNetwork(3, 1, (4,), seed=2))
    s, a = np.ones((2, 3)), np.ones((2, 1))
    network.first(s, a).sum().backward()
    squares = sum((w.grad.numpy().astype(float) ** 2).sum() for w in network.first.parameters())
    assert gradient_norm(network.parameters()) == pytest.approx(math.sqrt(squares), rel=1e-6)
    assert squares > 0


def test_one_thread_in_the_block_and_as_many_as_before_after_it():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with single_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), single_thread():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sizes", [None, 3, [3], [3, 0], [3, 2.5], [3, np.inf], "text", [[3, 2]], [3, 10**9]])
def test_sizes_that_are_none_are_named(sizes):
    with pytest.raises(ValueError, match=r"^sizes must "):
        mlp(sizes, 0)


@pytest.mark.parametrize("seed", [None, -1, 0.5, "text", 2**63, [1]])
def test_a_seed_is_a_whole_number(seed):
    for make in (
        lambda: mlp([3, 2], seed),
        lambda: PixelPolicy(2, seed=seed),
        lambda: ValueNetwork(3, seed=seed),
    ):
        with pytest.raises(ValueError, match=r"^seed must be "):
            make()


def test_numbers_of_numpy_are_sizes_and_seeds():
    """The weights are those of Python's numbers."""
    one, two = mlp([3, 4, 1], 5), mlp(np.array([3.0, 4.0, 1.0]), np.int64(5))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
