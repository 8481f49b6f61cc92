import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcourse.networks.mlp import flattened
from pgcourse.networks.pixels import PixelPolicy, PixelSoftmaxPolicy, PixelValue
from pgcourse.networks.policies import DeterministicPolicy, GaussianPolicy, SoftmaxPolicy, TabularPolicy
from pgcourse.networks.values import LinearValue, NetworkQ, NetworkValue, TabularValue


def frames(n, n_pixels=6400, n_on=30, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, n_pixels), np.int8)
    for row in x:
        row[rng.choice(n_pixels, n_on, replace=False)] = rng.choice([-1, 1], n_on)
    return x


def table(n_states, n_actions, seed=0):
    return TabularPolicy(np.random.default_rng(seed).normal(size=(n_states, n_actions)))


def dense_logit(policy, x):
    return (torch.as_tensor(x, dtype=policy.W1.dtype) @ policy.W1 + policy.b1).relu() @ policy.w2 + policy.b2


def test_sparse_first_layer_equals_the_dense_one_in_outputs_and_gradients():
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
def test_sparse_equals_dense_for_any_frames(n, n_pixels, n_hidden, data):
    x = np.array(
        data.draw(
            st.lists(
                st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=n_pixels, max_size=n_pixels),
                min_size=n,
                max_size=n,
            )
        )
    )
    policy = PixelPolicy(n_hidden, n_pixels=n_pixels).double()
    torch.testing.assert_close(policy.logit(x), dense_logit(policy, x), atol=1e-12, rtol=0)


def test_what_it_is_blind_to_changes_nothing_and_its_weights_stay_zero():
    blind = np.arange(6400) % 80 < 10
    policy, sighted, x = PixelPolicy(seed=1, blind=blind), PixelPolicy(seed=1), frames(20)
    assert (x[:, blind] != 0).any()
    torch.testing.assert_close(policy.logit(x), sighted.logit(np.where(blind, 0, x)))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        policy.logit(x).sum().backward()
        optimizer.step()
    assert (policy.W1[blind] == 0).all()
    assert (policy.W1[~blind] != sighted.W1[~blind]).any()


def test_the_slides_count_of_weights():
    assert (
        sum(w.numel() for w in PixelPolicy().parameters())
        == (80 * 80 * 200 + 200) + (200 * 1 + 1)
        == 1_280_401
    )


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
        sigmoid.w2.copy_(softmax.w2[:, 1] - softmax.w2[:, 0])
    np.testing.assert_allclose(softmax.probabilities(x), sigmoid.probabilities(x), atol=1e-6)
    for policy in (sigmoid, softmax):
        policy.log_prob(x, np.arange(20) % 2).sum().backward()
    torch.testing.assert_close(softmax.W1.grad, sigmoid.W1.grad, atol=1e-5, rtol=0)


def test_a_softmax_over_three_has_three_logits_made_of_the_same_hidden_units():
    policy, x = PixelSoftmaxPolicy(3, seed=1), frames(20)
    z = policy.logits(x)
    assert z.shape == (20, 3)
    torch.testing.assert_close(
        z, torch.stack([policy.hidden(x) @ policy.w2[:, k] + policy.b2[k] for k in range(3)], dim=1)
    )


def test_a_value_of_pixels_is_the_number_that_makes_the_probability():
    policy, value, x = PixelPolicy(seed=2), PixelValue(seed=2), frames(20)
    assert value(x).shape == (20,)
    np.testing.assert_allclose(torch.sigmoid(value(x)).detach(), policy.probabilities(x)[:, 1], atol=1e-6)


def test_gradient_of_log_prob_is_input_times_error():
    """∂L/∂z = t − y, slides 22 and 39."""
    policy, s = table(5, 4), np.arange(5)
    a = np.array([3, 0, 1, 1, 2])
    policy.log_prob(s, a).sum().backward()
    np.testing.assert_allclose(policy.w.grad.numpy(), np.eye(4)[a] - policy.probabilities(s), atol=1e-12)


def test_samples_follow_the_probabilities():
    """Chi-square with 3 degrees of freedom beyond 33 has a probability below 10⁻⁶."""
    policy, n = table(1, 4), 20_000
    drawn = policy.sample(np.zeros(n, int), np.random.default_rng(0))
    expected = n * policy.probabilities([0])[0]
    assert ((np.bincount(drawn, minlength=4) - expected) ** 2 / expected).sum() < 33


def test_a_certain_policy_never_draws_anything_else():
    policy = table(1, 3)
    with torch.no_grad():
        policy.w[:] = torch.tensor([-200.0, 200.0, -200.0])
    assert (policy.sample(np.zeros(1000, int), np.random.default_rng(0)) == 1).all()


def test_a_policy_that_has_diverged_says_so():
    policy = table(1, 3)
    with torch.no_grad():
        policy.w[0, 1] = torch.nan
    with pytest.raises(
        ValueError, match="the policy must give finite scores, got nan; a smaller eta may help"
    ):
        policy.sample(np.zeros(2, int), np.random.default_rng(0))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(2, 4), st.integers(1, 7), st.integers(0, 2**32))
def test_softmax_policy_is_the_formula_of_its_docstring(n, n_inputs, n_actions, n_hidden, seed):
    """In NumPy, with the same weights."""
    policy, s = (
        SoftmaxPolicy(n_inputs, n_actions, n_hidden, seed=seed).double(),
        np.random.default_rng(seed).normal(size=(n, n_inputs)),
    )
    W1, b1, W2, b2 = (w.detach().numpy() for w in policy.parameters())
    h = np.maximum(0, s @ W1.T + b1)
    z = h @ W2.T + b2
    y = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(policy.logits(s).detach().numpy(), z, atol=1e-12)
    np.testing.assert_allclose(policy.probabilities(s), y, atol=1e-12)
    a = np.arange(n) % n_actions
    np.testing.assert_allclose(policy.log_prob(s, a).detach().numpy(), np.log(y[np.arange(n), a]), atol=1e-12)


def test_softmax_policys_first_weights_are_uniform_within_one_over_the_root_of_the_inputs():
    """The largest of 20,000 is within 0.1 % of the bound, but for 0.999²⁰⁰⁰⁰ ≈ 10⁻⁹; the variance, to six standard errors."""
    W1, b1, W2, b2 = SoftmaxPolicy(100, 200, 200, seed=1).parameters()
    assert (W1.shape, b1.shape, W2.shape, b2.shape) == ((200, 100), (200,), (200, 200), (200,))
    for w, n_inputs in ((W1, 100), (W2, 200)):
        assert 0.999 / np.sqrt(n_inputs) < w.abs().max() <= 1 / np.sqrt(n_inputs) * (1 + 1e-6)
        assert w.var().item() == pytest.approx(1 / (3 * n_inputs), rel=6 * np.sqrt(0.8 / w.numel()))
    for b, n_inputs in ((b1, 100), (b2, 200)):
        assert b.abs().max() <= 1 / np.sqrt(n_inputs) * (1 + 1e-6)
    assert sum(w.numel() for w in SoftmaxPolicy(4, 2).parameters()) == (4 * 64 + 64) + (64 * 2 + 2)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32))
def test_tabular_policy_is_the_formula_of_its_docstring(n, n_states, n_actions, seed):
    rng = np.random.default_rng(seed)
    w, s, a = (
        rng.normal(size=(n_states, n_actions)),
        rng.integers(n_states, size=n),
        rng.integers(n_actions, size=n),
    )
    policy = TabularPolicy(w)
    y = np.exp(w) / np.exp(w).sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(policy.logits(s).detach().numpy(), w[s])
    np.testing.assert_allclose(policy.probabilities(s), y[s], rtol=1e-12)
    np.testing.assert_allclose(
        policy.log_prob(s, a).detach().numpy(), np.log(y[s, a]), rtol=1e-12, atol=1e-15, strict=True
    )


def test_its_gradient_is_the_error_in_the_rows_that_were_seen():
    """[k = a] − π(k∣s), summed where a state comes twice; no other row."""
    policy, s, a = table(4, 3), np.array([2, 0, 2, 2]), np.array([1, 0, 1, 2])
    policy.log_prob(s, a).sum().backward()
    expected = np.zeros((4, 3))
    np.add.at(expected, s, np.eye(3)[a] - policy.probabilities(s))
    np.testing.assert_allclose(policy.w.grad, expected, atol=1e-14)
    assert not expected[[1, 3]].any()


@pytest.mark.parametrize(
    "kind", [np.array, torch.tensor, np.ndarray.tolist, lambda w: np.broadcast_to(w, w.shape)]
)
def test_its_table_is_a_copy_in_double_precision(kind):
    w = kind(np.arange(6).reshape(2, 3))
    policy = TabularPolicy(w)
    with torch.no_grad():
        policy.w += 1
    assert policy.w.dtype == torch.float64
    assert policy.w.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert [list(row) for row in w] == [[0, 1, 2], [3, 4, 5]]
    assert [name for name, _ in policy.named_parameters()] == ["w"]
    floats = np.zeros((2, 3))
    policy = TabularPolicy(floats)
    floats[:] = 1
    assert not policy.w.any()


@pytest.mark.parametrize(
    "s", [[1, 0], (1, 0), np.array([1, 0], np.uint8), np.array([1, 0], np.int32), torch.tensor([1, 0])]
)
def test_its_states_may_be_integers_of_any_kind(s):
    assert TabularPolicy([[1, 2], [3, 4]]).logits(s).tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: SoftmaxPolicy(4, 2, seed=seed),
        lambda seed: PixelPolicy(3, n_pixels=5, seed=seed),
        lambda seed: PixelSoftmaxPolicy(3, 4, n_pixels=5, seed=seed),
        lambda seed: GaussianPolicy(4, 2, seed=seed),
        lambda seed: NetworkValue(4, seed=seed),
        lambda seed: DeterministicPolicy(4, [-1, 0], [1, 2], seed=seed),
        lambda seed: DeterministicPolicy(4, [-1, 0], [1, 2], last=0.01, seed=seed),
        lambda seed: NetworkQ(4, 2, seed=seed),
        lambda seed: NetworkQ(4, 2, late=True, last=0.01, seed=seed),
    ],
)
def test_weights_depend_on_their_seed_alone(make):
    weights = []
    for disturbance, seed in [(1, 0), (2, 0), (2, 1)]:
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        weights.append(torch.cat([w.detach().flatten() for w in make(seed).parameters()]))
        assert torch.get_rng_state().equal(before)
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_greedy_takes_the_most_probable_action_and_of_equals_the_first():
    policy = table(4, 3)
    with torch.no_grad():
        policy.w[:] = torch.tensor([[0.0, 1, 2], [2, 1, 0], [1, 3, 3], [5, 5, 5]])
    assert policy.greedy([0, 1, 2, 3, 0]).tolist() == [2, 0, 1, 0, 2]
    pixels, x = PixelPolicy(seed=2), frames(20)
    assert (pixels.greedy(x) == (pixels.logit(x) > 0).numpy()).all()
    with torch.no_grad():
        policy.w[2] = torch.inf
    with pytest.raises(ValueError, match="the policy must give finite scores, got inf"):
        policy.greedy([2])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2), "^n_inputs must be at least 1, got 0$"),
        ((4, 1), "^n_actions must be at least 2, got 1$"),
        ((4, 2, 0), "^n_hidden must be at least 1, got 0$"),
    ],
)
def test_sizes_of_a_softmax_policy_are_checked(sizes, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxPolicy(*sizes)


@pytest.mark.parametrize("s", [np.zeros((3, 5)), np.zeros(4), np.zeros((2, 3, 4))])
def test_states_of_another_shape_are_named(s):
    with pytest.raises(
        ValueError, match=rf"^s must have shape \(N, 4\), got \({', '.join(map(str, s.shape))},?\)$"
    ):
        SoftmaxPolicy(4, 2).sample(s, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: p.logit(x[:, :100]), r"x must have shape \(N, 6400\), got \(3, 100\)"),
        (lambda p, x: p.logit(np.where(np.arange(6400) == 3, np.nan, x)), "x must be finite, got nan"),
        (lambda p, x: p.log_prob(x, [0, 1, 2]), r"a must hold integers in 0\.\.1, got .* from 0 to 2"),
        (lambda p, x: p.log_prob(x, [-1, 0, 0]), r"a must hold integers in 0\.\.1, got .* from -1 to 0"),
        (lambda p, x: p.log_prob(x, [0.0, 1.0, 1.0]), r"a must hold integers in 0\.\.1, got torch.float32"),
        (lambda p, x: p.log_prob(x, [0, 1]), r"a must have shape \(3,\), one action a state, got \(2,\)"),
        (lambda p, x: PixelSoftmaxPolicy(1), "n_actions must be at least 2, got 1"),
        (lambda p, x: PixelPolicy(0), "n_hidden must be at least 1, got 0"),
        (lambda p, x: PixelPolicy(spread=-1.0), "spread must be a positive number, got -1.0"),
        (lambda p, x: PixelPolicy(spread=np.nan), "spread must be a positive number, got nan"),
        (lambda p, x: PixelPolicy(blind=[True]), r"blind must have shape \(6400,\), got \(1,\)"),
        (lambda p, x: TabularPolicy([0.0, 1.0]), r"^w must have shape \(n_states, n_actions\), got \(2,\)$"),
        (
            lambda p, x: TabularPolicy(np.zeros((1, 2, 3))),
            r"^w must have shape \(n_states, n_actions\), got \(1, 2, 3\)$",
        ),
        (
            lambda p, x: table(2, 3).logits([0, 2]),
            r"^s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0, 2\]\)$",
        ),
        (
            lambda p, x: table(2, 3).logits([-1, 0]),
            r"^s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[-1,  0\]\)$",
        ),
        (
            lambda p, x: table(2, 3).logits([0.0, 1.0]),
            r"^s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0\., 1\.\]\)$",
        ),
        (lambda p, x: table(2, 3).logits(1), r"^s must hold integers in 0\.\.1, shape \(N,\), got 1$"),
        (
            lambda p, x: table(2, 3).logits([[1]]),
            r"^s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[\[1\]\]\)$",
        ),
        (lambda p, x: table(2, 3).sample([5], np.random.default_rng(0)), r"^s must hold integers in 0\.\.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(PixelPolicy(), frames(3))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    n=st.integers(1, 5), n_inputs=st.integers(1, 4), n_outputs=st.integers(1, 3), seed=st.integers(0, 2**30)
)
def test_gaussian_policy_is_the_formula_of_its_docstring(n, n_inputs, n_outputs, seed):
    """Summed over the numbers of an action, term by term; and its gradient reaches σ."""
    rng = np.random.default_rng(seed)
    policy = GaussianPolicy(n_inputs, n_outputs, 7, sigma=0.5, seed=seed)
    s, a, sigma = (
        rng.normal(size=(n, n_inputs)),
        rng.normal(size=(n, n_outputs)),
        rng.uniform(0.3, 2, n_outputs),
    )
    with torch.no_grad():
        assert policy.log_sigma.exp().numpy() == pytest.approx(0.5)
        policy.log_sigma[:] = torch.tensor(np.log(sigma))
    W1, b1, W2, b2 = (w.detach().numpy() for w in policy.layers.parameters())
    mu = np.maximum(0, s @ W1.T + b1) @ W2.T + b2
    expected = [
        sum(
            -((a[i, k] - mu[i, k]) ** 2) / (2 * sigma[k] ** 2)
            - math.log(sigma[k])
            - math.log(2 * math.pi) / 2
            for k in range(n_outputs)
        )
        for i in range(n)
    ]
    L = policy.log_prob(s, a)
    np.testing.assert_allclose(L.detach(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(policy.greedy(s), mu, rtol=1e-5, atol=1e-5)
    L.sum().backward()
    np.testing.assert_allclose(
        policy.log_sigma.grad, (((a - mu) / sigma) ** 2 - 1).sum(axis=0), rtol=1e-3, atol=1e-3
    )


def test_a_gaussian_policy_draws_from_its_gaussian():
    """Means within 5.5 standard errors, and variances within 5.5 of theirs: by chance one in 10⁷ is not."""
    policy, n = GaussianPolicy(2, 3, sigma=0.7, seed=1), 40_000
    s = np.repeat([[0.3, -1.0]], n, axis=0)
    a = policy.sample(s, np.random.default_rng(0))
    assert a.shape == (n, 3)
    assert a.dtype == np.float32
    far = a - policy.greedy(s)
    assert (abs(far.mean(axis=0)) < 5.5 * 0.7 / n**0.5).all()
    assert (abs((far**2).mean(axis=0) / 0.49 - 1) < 5.5 * (2 / n) ** 0.5).all()
    assert abs(np.corrcoef(far.T) - np.eye(3)).max() < 5.5 / n**0.5


def test_a_gaussian_policy_that_has_diverged_says_so():
    policy = GaussianPolicy(2, 1)
    with torch.no_grad():
        policy.layers[2].bias[:] = torch.inf
    with pytest.raises(
        ValueError, match="the policy must give finite means, got inf; a smaller eta may help"
    ):
        policy.sample(np.zeros((1, 2)), np.random.default_rng(0))


def test_values_are_the_formulas_of_their_docstrings():
    rng = np.random.default_rng(0)
    v, x, w, s = rng.normal(size=4), rng.normal(size=(4, 3)), rng.normal(size=3), np.array([3, 0, 3])
    np.testing.assert_array_equal(TabularValue(v)(s).detach(), v[s])
    linear = LinearValue(x)
    assert linear(s).tolist() == [0, 0, 0]
    with torch.no_grad():
        linear.w[:] = torch.tensor(w)
    np.testing.assert_allclose(
        linear(s).detach(), [sum(w[j] * x[k, j] for j in range(3)) for k in s], rtol=1e-12
    )
    assert [p.shape for p in linear.parameters()] == [(3,)]  # the features are not learnt
    network, s = NetworkValue(5, 6, seed=2), rng.normal(size=(7, 5))
    W1, b1, W2, b2 = (p.detach().numpy() for p in network.layers.parameters())
    expected = [sum(W2[0, j] * max(0, W1[j] @ s[i] + b1[j]) for j in range(6)) + b2[0] for i in range(7)]
    np.testing.assert_allclose(network(s).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_there_are_as_many_hidden_layers_as_asked_for(n_layers):
    """One after the other, with a ReLU after each but the last."""
    for module in (
        SoftmaxPolicy(4, 2, 5, n_layers=n_layers),
        GaussianPolicy(4, 2, 5, n_layers=n_layers),
        NetworkValue(4, 5, n_layers=n_layers),
    ):
        linear = [layer for layer in module.layers if isinstance(layer, torch.nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear[:-1]] == [(4, 5), (5, 5), (5, 5)][
            :n_layers
        ]
        h = s = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        for layer in linear[:-1]:
            h = torch.clamp(h @ layer.weight.T + layer.bias, min=0)
        torch.testing.assert_close(module.layers(s), h @ linear[-1].weight.T + linear[-1].bias)


def test_a_table_of_values_is_a_copy():
    v = np.zeros(3)
    table = TabularValue(v)
    v[:] = 1
    assert table(np.arange(3)).tolist() == [0, 0, 0]
    assert table.v.dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianPolicy(0, 1), "n_inputs must be at least 1, got 0"),
        (lambda: GaussianPolicy(1, 0), "n_outputs must be at least 1, got 0"),
        (lambda: GaussianPolicy(1, 1, 0), "n_hidden must be at least 1, got 0"),
        (lambda: GaussianPolicy(1, 1, sigma=0), "sigma must be a positive number, got 0"),
        (lambda: GaussianPolicy(2, 1).greedy(np.zeros((3, 1))), r"s must have shape \(N, 2\), got \(3, 1\)"),
        (
            lambda: GaussianPolicy(2, 1).log_prob(np.zeros((3, 2)), np.zeros(3)),
            r"a must have shape \(3, 1\), got \(3,\)",
        ),
        (lambda: NetworkValue(0), "n_inputs must be at least 1, got 0"),
        (lambda: NetworkValue(1, 0), "n_hidden must be at least 1, got 0"),
        (lambda: NetworkValue(1, n_layers=0), "n_layers must be at least 1, got 0"),
        (lambda: NetworkValue(2)(np.zeros(2)), r"s must have shape \(N, 2\), got \(2,\)"),
        (
            lambda: TabularValue(np.zeros((2, 2))),
            r"v must be finite, shape \(n_states,\), got shape \(2, 2\)",
        ),
        (lambda: TabularValue([0, np.nan]), r"v must be finite, shape \(n_states,\), got shape \(2,\)"),
        (
            lambda: TabularValue(np.zeros(2))([0, 2]),
            r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0, 2\]\)",
        ),
        (
            lambda: LinearValue(np.zeros(3)),
            r"x must be finite, shape \(n_states, n_features\), got shape \(3,\)",
        ),
        (
            lambda: LinearValue(np.eye(2))([0.0]),
            r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0\.\]\)",
        ),
    ],
)
def test_bad_input_of_values_and_gaussians_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def linear_layers(network):
    """W and b of each layer, in NumPy."""
    return [
        tuple(w.detach().numpy() for w in layer.parameters())
        for layer in network.layers
        if isinstance(layer, torch.nn.Linear)
    ]


def rectified(layers, x, late=None):
    """What comes out of the last layer; ``late`` is put beside what goes into the second."""
    for k, (W, b) in enumerate(layers):
        if k == 1 and late is not None:
            x = np.hstack([x, late])
        x = x @ W.T + b
        if k < len(layers) - 1:
            x = np.maximum(0, x)
    return x


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=3)


class TestDeterministicPolicy:
    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 5),
        n_inputs=st.integers(1, 4),
        D=st.integers(1, 3),
        n_hidden=sizes,
        seed=st.integers(0, 2**32),
    )
    def test_it_is_the_formula_of_its_docstring(self, n, n_inputs, D, n_hidden, seed):
        """In NumPy, with the same weights."""
        rng = np.random.default_rng(seed)
        low = rng.normal(size=D).astype(np.float32)
        high = low + rng.uniform(0.1, 3, D).astype(np.float32)
        policy, s = (
            DeterministicPolicy(n_inputs, low, high, n_hidden, seed=seed).double(),
            3 * rng.normal(size=(n, n_inputs)),
        )
        layers = linear_layers(policy)
        assert [W.shape for W, _ in layers] == list(zip([*n_hidden, D], [n_inputs, *n_hidden], strict=True))
        expected = (low + high) / 2 + (high - low) / 2 * np.tanh(rectified(layers, s))
        np.testing.assert_allclose(policy(s).detach(), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(policy.greedy(s), policy(s).detach())
        np.testing.assert_array_equal(policy.sample(s, np.random.default_rng(0)), policy(s).detach())

    def test_by_hand(self):
        """μ = 1 + 2 tanh(3 · max(0, 2 · max(0, s − 1) − 1) − 4)."""
        policy = DeterministicPolicy(1, [-1], [3], (1, 1))
        with torch.no_grad():
            for w, number in zip(policy.parameters(), [1, -1, 2, -1, 3, -4], strict=True):
                w[...] = number
        expected = [1 + 2 * math.tanh(z) for z in (-4, -4, 3 * 1 - 4, 3 * 3 - 4)]
        np.testing.assert_allclose(policy.greedy([[0], [1.5], [2], [3]])[:, 0], expected, rtol=1e-6)

    def test_it_has_two_layers_of_64_units_unless_asked_otherwise(self):
        policy = DeterministicPolicy(3, [-2], [2])
        assert [W.shape for W, _ in linear_layers(policy)] == [(64, 3), (64, 64), (1, 64)]
        assert not policy.stochastic
        assert [name for name, _ in policy.named_parameters()] == [
            f"layers.{k}.{part}" for k in (0, 2, 4) for part in ("weight", "bias")
        ]

    @pytest.mark.parametrize(
        ("low", "high"),
        [
            ([-2], [2]),
            ([-1, -1.5], [1, 1.5]),
            ([0], [1]),
            ([-0.1], [0.7]),
            ([-0.98812675], [-0.6583651]),
        ],
        ids=str,
    )
    def test_no_action_is_out_of_bounds(self, low, high):
        """In states however far out, as a Box of single precision says, which is what Gymnasium asks; and both bounds are reached."""
        box, rng = Box(np.array(low, np.float32), np.array(high, np.float32)), np.random.default_rng(0)
        policy = DeterministicPolicy(4, box.low, box.high)
        for size in (1.0, 1e2, 1e4, 1e8, 1e30):
            mu = policy.greedy(size * rng.normal(size=(200, 4)))
            assert mu.dtype == np.float32
            assert all(map(box.contains, mu))
        for sign, bound in ((1, box.high), (-1, box.low)):
            with torch.no_grad():
                policy.layers[4].bias[:] = sign * 1000
            [mu] = policy.greedy(np.ones((1, 4)))
            np.testing.assert_allclose(mu, bound, rtol=1e-6)
            assert box.contains(mu)

    @pytest.mark.parametrize(
        "bounds", [([-3, 0], [3, 10]), (np.array([-3.0, 0]), np.array([3.0, 10])), ((-3, 0), (3, 10))]
    )
    def test_bounds_may_be_of_any_kind_and_are_no_weights(self, bounds):
        policy = DeterministicPolicy(2, *bounds)
        assert policy.middle.tolist() == [0, 5]
        assert policy.reach.tolist() == [3, 5]
        assert not {"middle", "reach"} & set(policy.state_dict())
        assert {w.dtype for w in policy.state_dict().values()} == {torch.float32}
        other = DeterministicPolicy(2, *bounds, seed=1)
        other.load_state_dict(policy.state_dict())
        s = np.random.default_rng(0).normal(size=(5, 2))
        np.testing.assert_array_equal(other.greedy(s), policy.greedy(s))

    @pytest.mark.parametrize("last", [3e-3, 0.02])
    def test_small_last_weights_make_first_actions_near_the_middle(self, last):
        """Of weights uniform in ±last, and each no more than that, ∣z∣ ≤ last (1 + Σ h₂); the other layers are as without."""
        policy, plain = (
            DeterministicPolicy(3, [0, -2], [10, 2], (300, 400), last=x, seed=1) for x in (last, None)
        )
        s = 5 * np.random.default_rng(0).normal(size=(50, 3))
        *before, (W, b) = linear_layers(policy)
        for one, other in zip(before, linear_layers(plain)[:-1], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
        for w in (W, b):
            assert abs(w).max() <= last
        assert abs(W).max() > 0.97 * last  # of 800, all are below but for 0.97⁸⁰⁰ ≈ 3 · 10⁻¹¹
        assert (W**2).mean() == pytest.approx(last**2 / 3, rel=6 * np.sqrt(0.8 / W.size))
        h = np.maximum(0, rectified(before, s))
        most = np.array([5, 2]) * np.tanh(last * (1 + h.sum(axis=1, keepdims=True)))
        assert (abs(policy.greedy(s) - [5, 0]) <= most * (1 + 1e-5)).all()
        assert abs(policy.greedy(s) - [5, 0]).max() < abs(plain.greedy(s) - [5, 0]).max()

    def test_nothing_is_drawn(self):
        policy, rng = DeterministicPolicy(2, [-1], [1]), np.random.default_rng(0)
        before = rng.bit_generator.state
        a = policy.sample(np.ones((3, 2)), rng)
        assert rng.bit_generator.state == before
        assert isinstance(a, np.ndarray)
        np.testing.assert_array_equal(a, policy.greedy(np.ones((3, 2))))

    def test_one_that_has_diverged_says_so(self):
        policy = DeterministicPolicy(2, [-1], [1])
        with torch.no_grad():
            policy.layers[4].bias[:] = torch.nan
        for act in (policy.greedy, lambda s: policy.sample(s, np.random.default_rng(0))):
            with pytest.raises(
                ValueError, match=r"^the policy must give finite actions, got nan; a smaller eta may help$"
            ):
                act(np.zeros((2, 2)))


class TestNetworkQ:
    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 5),
        n_inputs=st.integers(1, 4),
        D=st.integers(1, 3),
        n_hidden=sizes,
        late=st.booleans(),
        last=st.sampled_from([None, 0.1]),
        seed=st.integers(0, 2**32),
    )
    def test_it_is_the_formula_in_numpy(self, n, n_inputs, D, n_hidden, late, last, seed):
        rng = np.random.default_rng(seed)
        critic = NetworkQ(n_inputs, D, n_hidden, late=late, last=last, seed=seed).double()
        s, a, layers = rng.normal(size=(n, n_inputs)), rng.normal(size=(n, D)), linear_layers(critic)
        inputs = [n_inputs, *n_hidden]
        inputs[int(late)] += D
        assert [W.shape for W, _ in layers] == list(zip([*n_hidden, 1], inputs, strict=True))
        expected = rectified(layers, s, a) if late else rectified(layers, np.hstack([s, a]))
        q = critic(s, a)
        assert q.shape == (n,)
        np.testing.assert_allclose(q.detach(), expected[:, 0], rtol=1e-12, atol=1e-12)

    def test_by_hand(self):
        """Early, a is rectified with s: max(0, s + 2 a − 1); late, it goes beside max(0, s − 1) into the next layer."""
        early, late = NetworkQ(1, 1, (1, 1)), NetworkQ(1, 1, (1, 1), late=True)
        for critic, numbers in ((early, [[1, 2], -1, 3, 4, 5, 6]), (late, [1, -1, [3, 2], 4, 5, 6])):
            with torch.no_grad():
                for w, number in zip(critic.parameters(), numbers, strict=True):
                    w[...] = torch.tensor(number)
        s, a = [[0.0], [2], [2], [3]], [[0.0], [1], [-3], [-0.5]]
        assert early(s, a).tolist() == [5 * (3 * h + 4) + 6 for h in (0, 3, 0, 1)]
        assert late(s, a).tolist() == [5 * h + 6 for h in (4, 3 * 1 + 2 + 4, 3 * 1 - 6 + 4, 3 * 2 - 1 + 4)]

    def test_of_one_hidden_layer_the_second_is_the_last(self):
        """So that q is linear in a late action, with the same slope everywhere."""
        critic, rng = NetworkQ(3, 2, (5,), late=True), np.random.default_rng(0)
        s = torch.tensor(rng.normal(size=(6, 3)))
        a = torch.tensor(rng.normal(size=(6, 2)), requires_grad=True)
        [slope] = torch.autograd.grad(critic(s, a).sum(), a)
        torch.testing.assert_close(slope, critic.layers[2].weight[:, 5:].double().expand(6, 2))

    def test_it_has_two_layers_of_64_units_unless_asked_otherwise(self):
        assert [W.shape for W, _ in linear_layers(NetworkQ(3, 2))] == [(64, 5), (64, 64), (1, 64)]
        assert [W.shape for W, _ in linear_layers(NetworkQ(3, 2, late=True))] == [(64, 3), (64, 66), (1, 64)]

    @pytest.mark.parametrize("late", [False, True])
    def test_small_last_weights_make_first_values_small(self, late):
        critic, plain = (NetworkQ(3, 2, (300, 400), late=late, last=last, seed=1) for last in (3e-4, None))
        *before, (W, b) = linear_layers(critic)
        for one, other in zip(before, linear_layers(plain)[:-1], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
        assert 0.9 * 3e-4 < abs(W).max() <= 3e-4  # 0.9⁴⁰⁰ ≈ 5 · 10⁻¹⁹
        assert abs(b).max() <= 3e-4
        rng = np.random.default_rng(0)
        s, a = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
        assert critic(s, a).abs().max() < plain(s, a).abs().max() / 10

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("n_hidden", [(7,), (6, 5), (4, 5, 6)], ids=str)
    def test_its_slope_is_what_differences_say(self, n_hidden, late):
        """∂q/∂a, in double precision."""
        critic, rng = NetworkQ(3, 2, n_hidden, late=late, seed=2).double(), np.random.default_rng(0)
        s, a = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
        t = torch.tensor(a, requires_grad=True)
        [slope] = torch.autograd.grad(critic(s, t).sum(), t)
        with torch.no_grad():
            differences = torch.stack(
                [(critic(s, a + step) - critic(s, a - step)) / 2e-6 for step in 1e-6 * np.eye(2)], dim=1
            )
        torch.testing.assert_close(slope, differences, atol=1e-8, rtol=0)
        assert (slope != 0).any()

    @pytest.mark.parametrize("late", [False, True])
    def test_through_it_a_policy_has_a_slope(self, late):
        """Slide 65: ∂q/∂w₂ = ∂q/∂a · ∂μ/∂w₂, with ∂q/∂a at a = μ(s); by the product, and by differences in each weight."""
        critic, policy = (
            NetworkQ(3, 2, (6, 5), late=late, seed=2).double(),
            DeterministicPolicy(3, [-1, 0], [1, 3], (4, 5)).double(),
        )
        s, w = np.random.default_rng(0).normal(size=(10, 3)), flattened(policy)
        critic(s, policy(s)).mean().backward()
        a = policy(s).detach().requires_grad_()
        [slope] = torch.autograd.grad(critic(s, a).mean(), a)
        product = torch.autograd.grad(policy(s), policy.parameters(), slope)
        torch.testing.assert_close(
            w.grad, torch.cat([part.flatten() for part in product]), atol=1e-14, rtol=0
        )
        differences = torch.empty_like(w)
        with torch.no_grad():
            for k in range(len(w)):
                q = []
                for step in (1e-6, -2e-6):
                    w[k] += step
                    q.append(critic(s, policy(s)).mean())
                w[k] += 1e-6
                differences[k] = (q[0] - q[1]) / 2e-6
        torch.testing.assert_close(w.grad, differences, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DeterministicPolicy(0, [-1], [1]), "n_inputs must be at least 1, got 0"),
        (
            lambda: DeterministicPolicy(2, [1], [-1]),
            r"low and high must be finite, low < high, of one shape \(n_outputs,\), got \[1.\] and",
        ),
        (
            lambda: DeterministicPolicy(2, [0, 1], [1, 1]),
            r"low and high must be finite, low < high, .*, got \[0. 1.\] and \[1. 1.\]",
        ),
        (
            lambda: DeterministicPolicy(2, [0, 0], [1]),
            r"low and high must be finite, .* of one shape \(n_outputs,\)",
        ),
        (
            lambda: DeterministicPolicy(2, [0], [1, 1]),
            r"low and high must be finite, .* of one shape \(n_outputs,\)",
        ),
        (
            lambda: DeterministicPolicy(2, -1, 1),
            r"low and high must be finite, .* of one shape \(n_outputs,\), got -1.0 and 1.0",
        ),
        (
            lambda: DeterministicPolicy(2, [[-1]], [[1]]),
            r"low and high must be finite, .* of one shape \(n_outputs,\)",
        ),
        (
            lambda: DeterministicPolicy(2, [-np.inf], [1]),
            r"low and high must be finite, .*, got \[-inf\] and \[1.\]",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [np.inf]),
            r"low and high must be finite, .*, got \[-1.\] and \[inf\]",
        ),
        (
            lambda: DeterministicPolicy(2, [np.nan], [1]),
            r"low and high must be finite, .*, got \[nan\] and \[1.\]",
        ),
        pytest.param(
            lambda: DeterministicPolicy(2, [], []),
            "low and high must",
            marks=pytest.mark.filterwarnings("ignore:Init"),
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1], ()),
            r"n_hidden must hold a size of at least 1 for each of .* layers, got \(\)",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1], [4, 0]),
            r"n_hidden must hold a size of at least 1 for each of .* layers, got \(4, 0\)",
        ),
        (lambda: DeterministicPolicy(2, [-1], [1], last=0), "last must be a positive number or None, got 0"),
        (
            lambda: DeterministicPolicy(2, [-1], [1], last=-0.1),
            "last must be a positive number or None, got -0.1",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1], last=np.inf),
            "last must be a positive number or None, got inf",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1], last=np.nan),
            "last must be a positive number or None, got nan",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1])(np.zeros((3, 1))),
            r"s must have shape \(N, 2\), got \(3, 1\)",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1]).greedy(np.zeros(2)),
            r"s must have shape \(N, 2\), got \(2,\)",
        ),
        (
            lambda: DeterministicPolicy(2, [-1], [1]).sample(np.zeros((1, 2, 2)), None),
            r"s must have shape \(N, 2\), got \(1, 2, 2\)",
        ),
        (lambda: NetworkQ(0, 1), "n_inputs must be at least 1, got 0"),
        (lambda: NetworkQ(1, 0), "n_outputs must be at least 1, got 0"),
        (lambda: NetworkQ(1, 0, late=True), "n_outputs must be at least 1, got 0"),
        (
            lambda: NetworkQ(1, 1, []),
            r"n_hidden must hold a size of at least 1 for each of one or more layers, got \(\)",
        ),
        (
            lambda: NetworkQ(1, 1, (0, 4)),
            r"n_hidden must hold a size of at least 1 for each of one or more layers, got \(0, 4\)",
        ),
        (lambda: NetworkQ(1, 1, last=0.0), "last must be a positive number or None, got 0.0"),
    ],
)
def test_bad_input_of_deterministic_policies_and_q_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("s", "a"),
    [
        ((3, 1), (3, 2)),
        ((3, 4), (3, 1)),
        ((3, 2), (3, 4)),
        ((3, 4), (3,)),
        ((4,), (2,)),
        ((3, 4), (2, 2)),
        ((3, 4), (1, 2)),
        ((), ()),
    ],
    ids=str,
)
def test_states_and_actions_of_other_shapes_are_named(s, a, late):
    critic = NetworkQ(4, 2, late=late)
    with pytest.raises(ValueError) as raised:
        critic(np.zeros(s), np.zeros(a))
    assert str(raised.value) == f"s and a must have shapes (N, 4) and (N, 2), got {s} and {a}"


NETWORKS = {
    "μ": lambda: DeterministicPolicy(3, [-1, 0], [1, 2], (5, 4), seed=1),
    "late q": lambda: NetworkQ(3, 2, (5, 4), late=True, seed=1),
    "Gaussian": lambda: GaussianPolicy(3, 2, 5, seed=1),
    "in double precision": lambda: NetworkQ(3, 2, (5, 4), seed=1).double(),
}


def output(network, seed=0):
    """A number that depends on all weights."""
    rng = np.random.default_rng(seed)
    s, a = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    if isinstance(network, NetworkQ):
        return (network(s, a) ** 2).mean()
    return network.log_prob(s, a).mean() if isinstance(network, GaussianPolicy) else (network(s) ** 2).mean()


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
class TestFlattened:
    def test_it_holds_all_weights_one_after_the_other(self, make):
        network, plain = make(), make()
        w = flattened(network)
        assert isinstance(w, torch.nn.Parameter)
        assert w.requires_grad
        assert w.equal(torch.nn.utils.parameters_to_vector(plain.parameters()))
        assert w.grad.equal(torch.zeros_like(w))
        for (name, one), (other_name, other) in zip(
            network.named_parameters(), plain.named_parameters(), strict=True
        ):
            assert name == other_name
            assert one.equal(other)
        assert output(network).equal(output(plain))

    def test_what_is_done_to_it_is_done_to_them(self, make):
        network, plain = make(), make()
        w = flattened(network)
        numbers = torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(0)) / 2
        with torch.no_grad():
            w.copy_(numbers)
        torch.nn.utils.vector_to_parameters(numbers, plain.parameters())
        for one, other in zip(network.parameters(), plain.parameters(), strict=True):
            assert one.equal(other)
        assert output(network).equal(output(plain))
        with torch.no_grad():  # and the other way round
            for part in network.parameters():
                part.fill_(3)
        assert (w == 3).all()

    def test_their_slopes_are_in_its_grad(self, make):
        """Added to what is there, until that is made 0."""
        network, plain = make(), make()
        w = flattened(network)
        for times in (1, 2):
            output(network).backward()
            expected = torch.autograd.grad(output(plain), plain.parameters())
            torch.testing.assert_close(w.grad, times * torch.cat([part.flatten() for part in expected]))
        w.grad.zero_()
        assert all((part.grad == 0).all() for part in network.parameters())
        output(network).backward()
        torch.testing.assert_close(w.grad, torch.cat([part.flatten() for part in expected]))

    def test_loading_weights_keeps_the_link(self, make):
        network, other = make(), make()
        w = flattened(network)
        with torch.no_grad():
            for part in other.parameters():
                part += 1
        network.load_state_dict(other.state_dict())
        assert w.equal(torch.nn.utils.parameters_to_vector(other.parameters()))
        with torch.no_grad():
            w -= 1
        assert all(
            one.equal(two - 1) for one, two in zip(network.parameters(), other.parameters(), strict=True)
        )
        output(network).backward()
        assert (w.grad != 0).any()

    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("weight_decay", [0, 0.1])
    def test_steps_of_adam_are_those_of_the_parts(self, make, fused, weight_decay):
        """To rounding, ten times over."""
        network, plain = make(), make()
        w = flattened(network)
        kwargs = {"lr": 0.01, "fused": fused, "weight_decay": weight_decay}
        optimizer, plain_optimizer = (
            torch.optim.Adam([w], **kwargs),
            torch.optim.Adam(plain.parameters(), **kwargs),
        )
        before = w.detach().clone()
        for i in range(10):
            w.grad.zero_()
            plain_optimizer.zero_grad()
            for module, steps in ((network, optimizer), (plain, plain_optimizer)):
                output(module, seed=i).backward()
                steps.step()
        torch.testing.assert_close(
            w, torch.nn.utils.parameters_to_vector(plain.parameters()), atol=1e-7, rtol=1e-6
        )
        assert (w - before).abs().max() > 0.01

    def test_a_copy_that_learns_nothing_can_follow(self, make):
        """w' ← w' + τ (w − w'), weight by weight."""
        network, slow = make(), make().requires_grad_(False)
        w, slow_w = flattened(network), flattened(slow)
        before = [part.clone() for part in slow.parameters()]
        with torch.no_grad():
            w += 1
            slow_w.lerp_(w, 0.25)
        for part, old in zip(slow.parameters(), before, strict=True):
            assert not part.requires_grad
            torch.testing.assert_close(part, old + 0.25)
