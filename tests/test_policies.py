"""Policies against their formulas in NumPy, and the actions they draw against their probabilities."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, norm
from test_mlp import forward, hidden_layers, linear_layers

from pgcourse.networks.pixels import PixelQNetwork
from pgcourse.networks.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    GreedyQPolicy,
    SoftmaxPolicy,
    SquashedGaussianPolicy,
    TabularPolicy,
)
from pgcourse.networks.values import DiscreteQNetwork


def table(n_states, n_actions, seed=0):
    return TabularPolicy(np.random.default_rng(seed).normal(size=(n_states, n_actions)))


class QTable(torch.nn.Module):
    """Q(s, ·) is a row of a table."""

    def __init__(self, Q):
        super().__init__()
        self.Q = torch.nn.Parameter(torch.tensor(Q))

    def forward(self, s):
        return self.Q[torch.as_tensor(s)]


class TestCategoricalPolicy:
    def test_the_gradient_of_log_prob_is_input_times_error(self):
        """∂L/∂z = t − y, slides 22 and 39."""
        policy, s = table(5, 4), np.arange(5)
        a = np.array([3, 0, 1, 1, 2])
        policy.log_prob(s, a).sum().backward()
        np.testing.assert_allclose(policy.w.grad.numpy(), np.eye(4)[a] - policy.probabilities(s), atol=1e-12)

    def test_its_entropy_is_scipys_and_its_gradient_that_of_exercise_5_6(self):
        """∂H/∂zₖ = −πₖ (log πₖ + H); and the log-probabilities beside it are ``log_prob``'s."""
        policy, s, a = table(5, 4), np.arange(5), np.array([3, 0, 1, 1, 2])
        L, H = policy.log_prob_and_entropy(s, a)
        pi = policy.probabilities(s)
        np.testing.assert_allclose(H.detach(), entropy(pi, axis=1), rtol=1e-12)
        assert torch.equal(L, policy.log_prob(s, a))
        H.sum().backward()
        by_hand = -pi * (np.log(pi) + entropy(pi, axis=1)[:, None])
        np.testing.assert_allclose(policy.w.grad, by_hand, atol=1e-12)
        with pytest.raises(ValueError, match=r"^a must hold integers in 0\.\.3, got "):
            policy.log_prob_and_entropy(s, a + 1)

    def test_samples_follow_the_probabilities(self):
        """Chi-square with 3 degrees of freedom beyond 33 has a probability below 10⁻⁶."""
        policy, n = table(1, 4), 20_000
        drawn = policy.sample(np.zeros(n, int), np.random.default_rng(0))
        expected = n * policy.probabilities([0])[0]
        assert ((np.bincount(drawn, minlength=4) - expected) ** 2 / expected).sum() < 33

    def test_an_action_of_probability_one_is_always_drawn(self):
        policy = table(1, 3)
        with torch.no_grad():
            policy.w[:] = torch.tensor([-200.0, 200.0, -200.0])
        assert (policy.sample(np.zeros(1000, int), np.random.default_rng(0)) == 1).all()

    def test_greedy_takes_the_most_probable_action_and_of_equals_the_first(self):
        policy = table(4, 3)
        with torch.no_grad():
            policy.w[:] = torch.tensor([[0.0, 1, 2], [2, 1, 0], [1, 3, 3], [5, 5, 5]])
        assert policy.greedy([0, 1, 2, 3, 0]).tolist() == [2, 0, 1, 0, 2]

    @pytest.mark.parametrize("logit", [np.nan, np.inf])
    def test_a_diverged_policy_raises_an_error(self, logit):
        policy = table(1, 3)
        with torch.no_grad():
            policy.w[0, 1] = logit
        message = f"^the policy must give finite logits, got {logit}; a smaller eta may help$"
        for act in (
            policy.greedy,
            policy.probabilities,
            lambda s: policy.sample(s, np.random.default_rng(0)),
        ):
            with pytest.raises(ValueError, match=message):
                act(np.zeros(2, int))


class TestTabularPolicy:
    @settings(derandomize=True, deadline=None, max_examples=30)
    @given(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32))
    def test_it_is_the_formula_of_its_docstring(self, n, n_states, n_actions, seed):
        rng = np.random.default_rng(seed)
        w = rng.normal(size=(n_states, n_actions))
        s, a = rng.integers(n_states, size=n), rng.integers(n_actions, size=n)
        policy = TabularPolicy(w)
        y = np.exp(w) / np.exp(w).sum(axis=1, keepdims=True)
        np.testing.assert_array_equal(policy.logits(s).detach().numpy(), w[s])
        np.testing.assert_allclose(policy.probabilities(s), y[s], rtol=1e-12)
        L = policy.log_prob(s, a).detach().numpy()
        np.testing.assert_allclose(L, np.log(y[s, a]), rtol=1e-12, atol=1e-15, strict=True)

    def test_its_gradient_is_the_error_in_the_rows_of_the_states(self):
        """[k = a] − π(k∣s), summed where a state occurs twice; no other row."""
        policy, s, a = table(4, 3), np.array([2, 0, 2, 2]), np.array([1, 0, 1, 2])
        policy.log_prob(s, a).sum().backward()
        expected = np.zeros((4, 3))
        np.add.at(expected, s, np.eye(3)[a] - policy.probabilities(s))
        np.testing.assert_allclose(policy.w.grad, expected, atol=1e-14)
        assert not expected[[1, 3]].any()

    @pytest.mark.parametrize(
        "kind", [np.array, torch.tensor, np.ndarray.tolist, lambda w: np.broadcast_to(w, w.shape)]
    )
    def test_its_table_is_a_copy_in_double_precision(self, kind):
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
    def test_its_states_may_be_integers_of_any_kind(self, s):
        assert TabularPolicy([[1, 2], [3, 4]]).logits(s).tolist() == [[3, 4], [1, 2]]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: TabularPolicy([0.0, 1.0]), r"w must have shape \(n_states, n_actions\), got \(2,\)"),
            (
                lambda: TabularPolicy(np.zeros((1, 2, 3))),
                r"w must have shape \(n_states, n_actions\), got \(1, 2, 3\)",
            ),
            (
                lambda: table(2, 3).logits([0, 2]),
                r"s must hold .* 0\.\.1, shape \(N,\), got tensor\(\[0, 2\]\)",
            ),
            (
                lambda: table(2, 3).logits([-1, 0]),
                r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[-1,  0\]\)",
            ),
            (
                lambda: table(2, 3).logits([0.0, 1.0]),
                r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0\., 1\.\]\)",
            ),
            (lambda: table(2, 3).logits(1), r"s must hold integers in 0\.\.1, shape \(N,\), got 1"),
            (
                lambda: table(2, 3).logits([[1]]),
                r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[\[1\]\]\)",
            ),
            (
                lambda: table(2, 3).sample([5], np.random.default_rng(0)),
                r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[5\]\)",
            ),
        ],
    )
    def test_errors_name_the_argument_and_its_value(self, call, message):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


class TestSoftmaxPolicy:
    @settings(derandomize=True, deadline=None, max_examples=30)
    @given(st.integers(1, 6), st.integers(1, 5), st.integers(2, 4), st.integers(1, 7), st.integers(0, 2**32))
    def test_it_is_the_formula_of_its_docstring(self, n, state_dim, n_actions, hidden_size, seed):
        """In NumPy, with the same weights."""
        policy = SoftmaxPolicy(state_dim, n_actions, (hidden_size,), seed=seed).double()
        s = np.random.default_rng(seed).normal(size=(n, state_dim))
        W1, b1, W2, b2 = (w.detach().numpy() for w in policy.parameters())
        h = np.maximum(0, s @ W1.T + b1)
        z = h @ W2.T + b2
        y = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(policy.logits(s).detach().numpy(), z, atol=1e-12)
        np.testing.assert_allclose(policy.probabilities(s), y, atol=1e-12)
        a = np.arange(n) % n_actions
        np.testing.assert_allclose(policy.log_prob(s, a).detach(), np.log(y[np.arange(n), a]), atol=1e-12)

    def test_its_initial_weights_are_uniform_within_one_over_the_root_of_the_number_of_inputs(self):
        """The largest of 20,000 is within 0.1 % of the bound, but for 0.999²⁰⁰⁰⁰ ≈ 10⁻⁹; the variance is
        within six standard errors."""
        W1, b1, W2, b2 = SoftmaxPolicy(100, 200, (200,), seed=1).parameters()
        assert (W1.shape, b1.shape, W2.shape, b2.shape) == ((200, 100), (200,), (200, 200), (200,))
        for w, n_inputs in ((W1, 100), (W2, 200)):
            assert 0.999 / np.sqrt(n_inputs) < w.abs().max() <= 1 / np.sqrt(n_inputs) * (1 + 1e-6)
            assert w.var().item() == pytest.approx(1 / (3 * n_inputs), rel=6 * np.sqrt(0.8 / w.numel()))
        for b, n_inputs in ((b1, 100), (b2, 200)):
            assert b.abs().max() <= 1 / np.sqrt(n_inputs) * (1 + 1e-6)

    def test_it_has_one_layer_of_64_units_by_default(self):
        assert sum(w.numel() for w in SoftmaxPolicy(4, 2).parameters()) == (4 * 64 + 64) + (64 * 2 + 2)

    def test_it_has_at_least_two_actions(self):
        with pytest.raises(ValueError, match=r"^n_actions must be a whole number of at least 2, got 1$"):
            SoftmaxPolicy(4, 1)

    @pytest.mark.parametrize("s", [np.zeros((3, 5)), np.zeros(4), np.zeros((2, 3, 4))])
    def test_errors_name_the_shape_of_the_states(self, s):
        got = ", ".join(map(str, s.shape))
        with pytest.raises(ValueError, match=rf"^s must have shape \(N, 4\), got \({got},?\)$"):
            SoftmaxPolicy(4, 2).sample(s, np.random.default_rng(0))


class TestGaussianPolicy:
    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(n=st.integers(1, 5), state_dim=st.integers(1, 4), D=st.integers(1, 3), seed=st.integers(0, 2**30))
    def test_it_is_the_formula_of_its_docstring(self, n, state_dim, D, seed):
        """Summed over the numbers of an action, term by term; and its gradient with respect to log σ."""
        rng = np.random.default_rng(seed)
        policy = GaussianPolicy(state_dim, D, (7,), sigma=0.5, seed=seed)
        s, a, sigma = rng.normal(size=(n, state_dim)), rng.normal(size=(n, D)), rng.uniform(0.3, 2, D)
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
                for k in range(D)
            )
            for i in range(n)
        ]
        L = policy.log_prob(s, a)
        np.testing.assert_allclose(L.detach(), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(policy.greedy(s), mu, rtol=1e-5, atol=1e-5)
        L.sum().backward()
        gradient = (((a - mu) / sigma) ** 2 - 1).sum(axis=0)
        np.testing.assert_allclose(policy.log_sigma.grad, gradient, rtol=1e-3, atol=1e-3)

    def test_its_entropy_is_scipys_and_grows_by_one_with_each_log_sigma(self):
        policy, s, a = GaussianPolicy(2, 3, sigma=0.7), np.zeros((4, 2)), np.ones((4, 3))
        L, H = policy.log_prob_and_entropy(s, a)
        np.testing.assert_allclose(H.detach(), np.full(4, 3 * norm(0, 0.7).entropy()), rtol=1e-6)
        assert torch.equal(L, policy.log_prob(s, a))
        H.mean().backward()
        assert policy.log_sigma.grad.tolist() == [1, 1, 1]

    def test_it_draws_from_its_gaussian(self):
        """Means and variances within 5.5 of their standard errors: by chance one in 10⁷ is not."""
        policy, n = GaussianPolicy(2, 3, sigma=0.7, seed=1), 40_000
        s = np.repeat([[0.3, -1.0]], n, axis=0)
        a = policy.sample(s, np.random.default_rng(0))
        assert a.shape == (n, 3)
        assert a.dtype == np.float32
        noise = a - policy.greedy(s)
        assert (abs(noise.mean(axis=0)) < 5.5 * 0.7 / n**0.5).all()
        assert (abs((noise**2).mean(axis=0) / 0.49 - 1) < 5.5 * (2 / n) ** 0.5).all()
        assert abs(np.corrcoef(noise.T) - np.eye(3)).max() < 5.5 / n**0.5

    def test_a_diverged_policy_raises_an_error(self):
        policy = GaussianPolicy(2, 1)
        with torch.no_grad():
            policy.layers[2].bias[:] = torch.inf
        with pytest.raises(
            ValueError, match=r"^the policy must give finite means, got inf; a smaller eta may help$"
        ):
            policy.sample(np.zeros((1, 2)), np.random.default_rng(0))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: GaussianPolicy(1, 0), "action_dim must be a whole number of at least 1, got 0"),
            (lambda: GaussianPolicy(1, 1, sigma=0), "sigma must be a positive number, got 0"),
            (
                lambda: GaussianPolicy(2, 1).greedy(np.zeros((3, 1))),
                r"s must have shape \(N, 2\), got \(3, 1\)",
            ),
            (
                lambda: GaussianPolicy(2, 1).log_prob(np.zeros((3, 2)), np.zeros(3)),
                r"a must have shape \(3, 1\), got \(3,\)",
            ),
        ],
    )
    def test_errors_name_the_argument_and_its_value(self, call, message):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


class TestDeterministicPolicy:
    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 5),
        state_dim=st.integers(1, 4),
        D=st.integers(1, 3),
        hidden_sizes=hidden_layers,
        seed=st.integers(0, 2**32),
    )
    def test_it_is_the_formula_of_its_docstring(self, n, state_dim, D, hidden_sizes, seed):
        """In NumPy, with the same weights."""
        rng = np.random.default_rng(seed)
        low = rng.normal(size=D).astype(np.float32)
        high = low + rng.uniform(0.1, 3, D).astype(np.float32)
        policy = DeterministicPolicy(state_dim, low, high, hidden_sizes, seed=seed).double()
        s = 3 * rng.normal(size=(n, state_dim))
        layers = linear_layers(policy)
        shapes = list(zip([*hidden_sizes, D], [state_dim, *hidden_sizes], strict=True))
        assert [W.shape for W, _ in layers] == shapes
        expected = (low + high) / 2 + (high - low) / 2 * np.tanh(forward(layers, s))
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

    def test_it_has_two_layers_of_64_units_by_default(self):
        policy = DeterministicPolicy(3, [-2], [2])
        assert [W.shape for W, _ in linear_layers(policy)] == [(64, 3), (64, 64), (1, 64)]
        assert not policy.stochastic
        names = [f"layers.{k}.{part}" for k in (0, 2, 4) for part in ("weight", "bias")]
        assert [name for name, _ in policy.named_parameters()] == names

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
        """In states of any size, as a ``Box`` of single precision decides, which is what Gymnasium asks; and
        both bounds are reached."""
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
        "bounds",
        [([-3, 0], [3, 10]), (np.array([-3.0, 0]), np.array([3.0, 10])), ((-3, 0), (3, 10))],
    )
    def test_bounds_may_be_of_any_kind_and_are_no_weights(self, bounds):
        policy = DeterministicPolicy(2, *bounds)
        assert policy.action_bias.tolist() == [0, 5]
        assert policy.action_scale.tolist() == [3, 5]
        assert not {"action_bias", "action_scale"} & set(policy.state_dict())
        assert {w.dtype for w in policy.state_dict().values()} == {torch.float32}
        other = DeterministicPolicy(2, *bounds, seed=1)
        other.load_state_dict(policy.state_dict())
        s = np.random.default_rng(0).normal(size=(5, 2))
        np.testing.assert_array_equal(other.greedy(s), policy.greedy(s))

    @pytest.mark.parametrize("scale", [3e-3, 0.02])
    def test_small_weights_of_the_last_layer_make_first_actions_near_the_middle(self, scale):
        """Of weights uniform in ±scale, and each no more than that, ∣z∣ ≤ scale (1 + Σ h₂); the other layers
        are as without."""
        policy, default = (
            DeterministicPolicy(3, [0, -2], [10, 2], (300, 400), final_init_scale=x, seed=1)
            for x in (scale, None)
        )
        s = 5 * np.random.default_rng(0).normal(size=(50, 3))
        *before, (W, b) = linear_layers(policy)
        for one, other in zip(before, linear_layers(default)[:-1], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
        for w in (W, b):
            assert abs(w).max() <= scale
        assert abs(W).max() > 0.97 * scale  # of 800, all are below but for 0.97⁸⁰⁰ ≈ 3 · 10⁻¹¹
        assert (W**2).mean() == pytest.approx(scale**2 / 3, rel=6 * np.sqrt(0.8 / W.size))
        h = np.maximum(0, forward(before, s))
        bound = np.array([5, 2]) * np.tanh(scale * (1 + h.sum(axis=1, keepdims=True)))
        assert (abs(policy.greedy(s) - [5, 0]) <= bound * (1 + 1e-5)).all()
        assert abs(policy.greedy(s) - [5, 0]).max() < abs(default.greedy(s) - [5, 0]).max()

    def test_nothing_is_drawn(self):
        policy, rng = DeterministicPolicy(2, [-1], [1]), np.random.default_rng(0)
        before = rng.bit_generator.state
        a = policy.sample(np.ones((3, 2)), rng)
        assert rng.bit_generator.state == before
        assert isinstance(a, np.ndarray)
        np.testing.assert_array_equal(a, policy.greedy(np.ones((3, 2))))

    def test_a_diverged_policy_raises_an_error(self):
        policy = DeterministicPolicy(2, [-1], [1])
        with torch.no_grad():
            policy.layers[4].bias[:] = torch.nan
        for act in (policy.greedy, lambda s: policy.sample(s, np.random.default_rng(0))):
            with pytest.raises(
                ValueError, match=r"^the policy must give finite actions, got nan; a smaller eta may help$"
            ):
                act(np.zeros((2, 2)))

    @pytest.mark.parametrize(
        ("low", "high", "got"),
        [
            ([1], [-1], r"\[1.\] and \[-1.\]"),
            ([0, 1], [1, 1], r"\[0. 1.\] and \[1. 1.\]"),
            ([0, 0], [1], r"\[0. 0.\] and \[1.\]"),
            ([0], [1, 1], r"\[0.\] and \[1. 1.\]"),
            (-1, 1, "-1.0 and 1.0"),
            ([[-1]], [[1]], r"\[\[-1.\]\] and \[\[1.\]\]"),
            ([-np.inf], [1], r"\[-inf\] and \[1.\]"),
            ([-1], [np.inf], r"\[-1.\] and \[inf\]"),
            ([np.nan], [1], r"\[nan\] and \[1.\]"),
            ([], [], r"\[\] and \[\]"),
        ],
    )
    def test_bounds_that_are_none(self, low, high, got):
        message = rf"^low and high must be finite, low < high, of one shape \(action_dim,\), got {got}$"
        with pytest.raises(ValueError, match=message):
            DeterministicPolicy(2, low, high)
        with pytest.raises(ValueError, match=message):
            SquashedGaussianPolicy(2, low, high)

    @pytest.mark.parametrize("shape", [(3, 1), (2,), (1, 2, 2)])
    def test_errors_name_the_shape_of_the_states(self, shape):
        policy, rng = DeterministicPolicy(2, [-1], [1]), np.random.default_rng(0)
        for act in (policy, policy.greedy, lambda s: policy.sample(s, rng)):
            with pytest.raises(ValueError) as raised:
                act(np.zeros(shape))
            assert str(raised.value) == f"s must have shape (N, 2), got {shape}"


class TestGreedyQPolicy:
    def test_it_takes_the_action_of_the_largest_value_and_of_equals_the_first(self):
        policy = GreedyQPolicy(QTable([[0.0, 2.0, 2.0], [3.0, -1.0, 2.0]]))
        np.testing.assert_array_equal(policy.greedy([0, 1, 0]), [1, 0, 1])
        assert not policy.stochastic

    @pytest.mark.parametrize(
        ("q_network", "s"),
        [
            (DiscreteQNetwork(3, 4, (5,), seed=1), np.random.default_rng(0).normal(size=(50, 3))),
            (PixelQNetwork(4, 5, n_pixels=3, seed=1), np.random.default_rng(0).normal(size=(50, 3))),
        ],
    )
    def test_it_is_the_argmax_of_a_network(self, q_network, s):
        a = GreedyQPolicy(q_network).greedy(s)
        np.testing.assert_array_equal(a, q_network(s).detach().numpy().argmax(axis=1))
        assert len(set(a.tolist())) > 1

    def test_nothing_is_drawn(self):
        policy, rng = GreedyQPolicy(QTable([[0.0, 2.0, 2.0], [3.0, -1.0, 2.0]])), np.random.default_rng(0)
        before = rng.bit_generator.state
        np.testing.assert_array_equal(policy.sample([0, 1], rng), [1, 0])
        assert rng.bit_generator.state == before

    def test_its_weights_are_the_networks_own(self):
        q_network = DiscreteQNetwork(3, 2, (5,))
        assert [id(w) for w in GreedyQPolicy(q_network).parameters()] == [
            id(w) for w in q_network.parameters()
        ]

    def test_a_diverged_network_raises_an_error(self):
        with pytest.raises(
            ValueError, match=r"^the policy must give finite values, got nan; a smaller eta may help$"
        ):
            GreedyQPolicy(QTable([[0.0, np.nan]])).greedy([0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_states_that_are_not_finite_are_blamed_and_not_eta(value):
    s = np.array([[value, 0.0]])
    rng = np.random.default_rng(0)
    for policy in (
        SoftmaxPolicy(2, 2),
        GaussianPolicy(2, 1),
        DeterministicPolicy(2, [-1], [1]),
        SquashedGaussianPolicy(2, [-1], [1]),
    ):
        with torch.no_grad():
            policy.layers[0].weight.fill_(1.0)
            policy.layers[2].weight[:] = torch.tensor([[1.0, -1.0] * 32])
        with pytest.raises(ValueError, match=r"^s must be finite in float32, got (nan|inf)$"):
            policy.sample(s, rng)


@pytest.mark.parametrize("sigma", [1e-40, 1e40])
def test_a_standard_deviation_fits_into_single_precision(sigma):
    with pytest.raises(ValueError, match=r"^sigma must be from 1e-30 to 1e\+30, got 1e"):
        GaussianPolicy(2, 1, sigma=sigma)
