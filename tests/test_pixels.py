"""The lecture's network for Pong: the sparse first layer against a dense one, outputs against each other."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcourse.networks.pixels import PixelPolicy, PixelQNetwork, PixelSoftmaxPolicy, PixelValue

IGNORED = np.arange(6400) % 80 < 10


def frames(n, n_pixels=6400, n_on=30, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, n_pixels), np.int8)
    for row in x:
        row[rng.choice(n_pixels, n_on, replace=False)] = rng.choice([-1, 1], n_on)
    return x


def dense_logit(policy, x):
    trunk, head = policy.trunk, policy.head
    return (torch.as_tensor(x, dtype=trunk.W1.dtype) @ trunk.W1 + trunk.b1).relu() @ head.w2 + head.b2


def test_the_sparse_first_layer_equals_the_dense_one_in_outputs_and_gradients():
    policy, x = PixelPolicy(seed=1), frames(50)
    x[7] = 0  # an empty frame, as between points
    x[-1] = 0
    sparse, dense = policy.logit(x), dense_logit(policy, x)
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=0)
    weights = torch.randn(50, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(
        torch.autograd.grad(sparse @ weights, policy.parameters()),
        torch.autograd.grad(dense @ weights, policy.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.data())
def test_sparse_equals_dense_for_any_frames(n, n_pixels, hidden_size, data):
    pixel = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
    frame = st.lists(pixel, min_size=n_pixels, max_size=n_pixels)
    x = np.array(data.draw(st.lists(frame, min_size=n, max_size=n)))
    policy = PixelPolicy(hidden_size, n_pixels=n_pixels).double()
    torch.testing.assert_close(policy.logit(x), dense_logit(policy, x), atol=1e-12, rtol=0)


def copied(policy):
    return copy.deepcopy(policy)


def pickled(policy):
    return pickle.loads(pickle.dumps(policy))


def restored(policy):
    other = PixelPolicy(seed=2, ignored_pixels=IGNORED)
    other.load_state_dict(policy.state_dict())
    return other


@pytest.mark.parametrize("through", [lambda policy: policy, copied, pickled, restored])
def test_ignored_pixels_change_nothing_and_their_weights_stay_zero(through):
    """Also in a copy of the policy, and in one that is restored from its weights."""
    policy, all_pixels = through(PixelPolicy(seed=1, ignored_pixels=IGNORED)), PixelPolicy(seed=1)
    x = frames(20)
    assert (x[:, IGNORED] != 0).any()
    torch.testing.assert_close(policy.logit(x), all_pixels.logit(np.where(IGNORED, 0, x)))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        policy.logit(x).sum().backward()
        optimizer.step()
    assert (policy.trunk.W1[IGNORED] == 0).all()
    assert (policy.trunk.W1[~IGNORED] != all_pixels.trunk.W1[~IGNORED]).any()


def test_the_slides_count_of_weights():
    n_weights = sum(w.numel() for w in PixelPolicy().parameters())
    assert n_weights == (80 * 80 * 200 + 200) + (200 * 1 + 1) == 1_280_401


def test_the_parts_of_the_network_by_name():
    """The trunk's W₁ and b₁, the head's w₂ and b₂."""
    shapes = {name: tuple(w.shape) for name, w in PixelPolicy(4, n_pixels=5).named_parameters()}
    assert shapes == {"trunk.W1": (5, 4), "trunk.b1": (4,), "head.w2": (4,), "head.b2": ()}
    shapes = {name: tuple(w.shape) for name, w in PixelQNetwork(3, 4, n_pixels=5).named_parameters()}
    assert shapes == {"trunk.W1": (5, 4), "trunk.b1": (4,), "head.w2": (4, 3), "head.b2": (3,)}


def test_initial_weights_are_normal_with_variance_one_over_the_number_of_inputs():
    """Karpathy (2016). The sample variance of n numbers is within six of its standard errors, √(2/n)."""
    policy = PixelPolicy(seed=1)
    W1, w2 = policy.trunk.W1.detach(), policy.head.w2.detach()
    assert W1.var().item() == pytest.approx(1 / 6400, rel=6 * np.sqrt(2 / W1.numel()))
    assert w2.var().item() == pytest.approx(1 / 200, rel=6 * np.sqrt(2 / 200))
    assert not policy.trunk.b1.any()
    assert not policy.head.b2.any()
    torch.testing.assert_close(PixelPolicy(seed=1, init_scale=3.0).trunk.W1, 3 * policy.trunk.W1)


def test_two_logits_are_a_sigmoid():
    policy, x = PixelPolicy(seed=2), frames(20)
    z = policy.logit(x).detach()
    np.testing.assert_allclose(policy.probabilities(x)[:, 1], torch.sigmoid(z).numpy(), atol=1e-6)
    a = np.arange(20) % 2
    expected = torch.where(torch.as_tensor(a) == 1, torch.sigmoid(z), 1 - torch.sigmoid(z)).log()
    torch.testing.assert_close(policy.log_prob(x, a).detach(), expected, atol=1e-6, rtol=0)


def test_a_softmax_over_two_is_the_sigmoid_of_the_difference():
    """Probabilities, and ∂L/∂W₁ for actions taken."""
    sigmoid, softmax, x = PixelPolicy(seed=2), PixelSoftmaxPolicy(2, seed=2), frames(20)
    with torch.no_grad():
        sigmoid.head.w2.copy_(softmax.head.w2[:, 1] - softmax.head.w2[:, 0])
    np.testing.assert_allclose(softmax.probabilities(x), sigmoid.probabilities(x), atol=1e-6)
    for policy in (sigmoid, softmax):
        policy.log_prob(x, np.arange(20) % 2).sum().backward()
    torch.testing.assert_close(softmax.trunk.W1.grad, sigmoid.trunk.W1.grad, atol=1e-5, rtol=0)


def test_a_softmax_over_three_has_three_logits_made_of_the_same_hidden_units():
    policy, x = PixelSoftmaxPolicy(3, seed=1), frames(20)
    z, h = policy.logits(x), policy.trunk(x)
    assert z.shape == (20, 3)
    each = [h @ policy.head.w2[:, k] + policy.head.b2[k] for k in range(3)]
    torch.testing.assert_close(z, torch.stack(each, dim=1))


def test_the_q_network_of_pixels_gives_the_numbers_that_are_logits_of_the_softmax():
    policy, q_network, x = PixelSoftmaxPolicy(3, seed=1), PixelQNetwork(3, seed=1), frames(20)
    assert q_network(x).shape == (20, 3)
    assert q_network(x).equal(policy.logits(x))


def test_the_value_of_pixels_is_the_number_that_is_the_logit_of_the_policy():
    policy, value, x = PixelPolicy(seed=2), PixelValue(seed=2), frames(20)
    assert value(x).shape == (20,)
    np.testing.assert_allclose(torch.sigmoid(value(x)).detach(), policy.probabilities(x)[:, 1], atol=1e-6)


def test_the_greedy_action_is_up_where_the_logit_is_positive():
    policy, x = PixelPolicy(seed=2), frames(20)
    assert (policy.greedy(x) == (policy.logit(x) > 0).numpy()).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: p.logit(x[:, :100]), r"x must have shape \(N, 6400\), got \(3, 100\)"),
        (lambda p, x: p.logit(x[0]), r"x must have shape \(N, 6400\), got \(6400,\)"),
        (lambda p, x: p.logit(np.where(np.arange(6400) == 3, np.nan, x)), "x must be finite, got nan"),
        (lambda p, x: p.log_prob(x, [0, 1, 2]), r"a must hold integers in 0\.\.1, got .* from 0 to 2"),
        (lambda p, x: p.log_prob(x, [-1, 0, 0]), r"a must hold integers in 0\.\.1, got .* from -1 to 0"),
        (lambda p, x: p.log_prob(x, [0.0, 1.0, 1.0]), r"a must hold integers in 0\.\.1, got torch.float32"),
        (lambda p, x: p.log_prob(x, [0, 1]), r"a must have shape \(3,\), one action a state, got \(2,\)"),
        (lambda p, x: PixelSoftmaxPolicy(1), "n_actions must be a whole number of at least 2, got 1"),
        (lambda p, x: PixelQNetwork(1), "n_actions must be a whole number of at least 2, got 1"),
        (lambda p, x: PixelPolicy(0), "hidden_size must be a whole number of at least 1, got 0"),
        (lambda p, x: PixelSoftmaxPolicy(2, 0), "hidden_size must be a whole number of at least 1, got 0"),
        (lambda p, x: PixelQNetwork(2, 0), "hidden_size must be a whole number of at least 1, got 0"),
        (lambda p, x: PixelValue(0), "hidden_size must be a whole number of at least 1, got 0"),
        (lambda p, x: PixelPolicy(n_pixels=0), "n_pixels must be a whole number of at least 1, got 0"),
        (lambda p, x: PixelPolicy(init_scale=-1.0), "init_scale must be a positive number, got -1.0"),
        (lambda p, x: PixelPolicy(init_scale=np.nan), "init_scale must be a positive number, got nan"),
        (
            lambda p, x: PixelPolicy(ignored_pixels=[True]),
            r"ignored_pixels must hold booleans, shape \(6400,\), got bool of shape \(1,\)",
        ),
    ],
)
def test_errors_name_the_argument_and_its_value(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(PixelPolicy(), frames(3))
