"""Value functions against their formulas in NumPy, and their gradients against finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mlp import forward, hidden_layers, linear_layers

from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import DiscreteQNetwork, QNetwork, TabularValue, TwinCritic, ValueNetwork


def test_a_table_gives_the_value_of_each_state():
    v, s = np.random.default_rng(0).normal(size=4), np.array([3, 0, 3])
    np.testing.assert_array_equal(TabularValue(v)(s).detach(), v[s])


def test_a_table_of_values_is_a_copy_in_double_precision():
    v = np.zeros(3)
    table = TabularValue(v)
    v[:] = 1
    assert table(np.arange(3)).tolist() == [0, 0, 0]
    assert table.v.dtype == torch.float64


def test_a_value_network_is_the_formula_of_its_docstring():
    rng = np.random.default_rng(0)
    network, s = ValueNetwork(5, (6,), seed=2), rng.normal(size=(7, 5))
    W1, b1, W2, b2 = (p.detach().numpy() for p in network.layers.parameters())
    expected = [sum(W2[0, j] * max(0, W1[j] @ s[i] + b1[j]) for j in range(6)) + b2[0] for i in range(7)]
    np.testing.assert_allclose(network(s).detach(), expected, rtol=1e-4, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    n=st.integers(0, 5),
    state_dim=st.integers(1, 4),
    n_actions=st.integers(2, 4),
    hidden_sizes=hidden_layers,
    seed=st.integers(0, 2**32),
)
def test_a_discrete_q_network_is_the_formula_in_numpy(n, state_dim, n_actions, hidden_sizes, seed):
    network = DiscreteQNetwork(state_dim, n_actions, hidden_sizes, seed=seed).double()
    s, layers = np.random.default_rng(seed).normal(size=(n, state_dim)), linear_layers(network)
    shapes = list(zip([*hidden_sizes, n_actions], [state_dim, *hidden_sizes], strict=True))
    assert [W.shape for W, _ in layers] == shapes
    np.testing.assert_allclose(network(s).detach(), forward(layers, s), rtol=1e-12, atol=1e-12, strict=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ValueNetwork(2)(np.zeros(2)), r"s must have shape \(N, 2\), got \(2,\)"),
        (lambda: DiscreteQNetwork(2, 3)(np.zeros((1, 3))), r"s must have shape \(N, 2\), got \(1, 3\)"),
        (lambda: DiscreteQNetwork(2, 1), "n_actions must be a whole number of at least 2, got 1"),
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
            lambda: TabularValue(np.zeros(2))([0.0]),
            r"s must hold integers in 0\.\.1, shape \(N,\), got tensor\(\[0\.\]\)",
        ),
        (lambda: QNetwork(1, 0), "action_dim must be a whole number of at least 1, got 0"),
        (
            lambda: QNetwork(1, 0, action_at_second_layer=True),
            "action_dim must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_errors_name_the_argument_and_its_value(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


class TestQNetwork:
    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 5),
        state_dim=st.integers(1, 4),
        D=st.integers(1, 3),
        hidden_sizes=hidden_layers,
        second=st.booleans(),
        scale=st.sampled_from([None, 0.1]),
        seed=st.integers(0, 2**32),
    )
    def test_it_is_the_formula_in_numpy(self, n, state_dim, D, hidden_sizes, second, scale, seed):
        rng = np.random.default_rng(seed)
        options = {"action_at_second_layer": second, "final_init_scale": scale, "seed": seed}
        critic = QNetwork(state_dim, D, hidden_sizes, **options).double()
        s, a, layers = rng.normal(size=(n, state_dim)), rng.normal(size=(n, D)), linear_layers(critic)
        inputs = [state_dim, *hidden_sizes]
        inputs[int(second)] += D
        assert [W.shape for W, _ in layers] == list(zip([*hidden_sizes, 1], inputs, strict=True))
        expected = forward(layers, s, a) if second else forward(layers, np.hstack([s, a]))
        q = critic(s, a)
        assert q.shape == (n,)
        np.testing.assert_allclose(q.detach(), expected[:, 0], rtol=1e-12, atol=1e-12)

    def test_by_hand(self):
        """In the first layer, a is rectified with s: max(0, s + 2 a − 1); in the second it stands beside
        max(0, s − 1)."""
        first, second = QNetwork(1, 1, (1, 1)), QNetwork(1, 1, (1, 1), action_at_second_layer=True)
        for critic, numbers in ((first, [[1, 2], -1, 3, 4, 5, 6]), (second, [1, -1, [3, 2], 4, 5, 6])):
            with torch.no_grad():
                for w, number in zip(critic.parameters(), numbers, strict=True):
                    w[...] = torch.tensor(number)
        s, a = [[0.0], [2], [2], [3]], [[0.0], [1], [-3], [-0.5]]
        assert first(s, a).tolist() == [5 * (3 * h + 4) + 6 for h in (0, 3, 0, 1)]
        assert second(s, a).tolist() == [5 * h + 6 for h in (4, 3 * 1 + 2 + 4, 3 * 1 - 6 + 4, 3 * 2 - 1 + 4)]

    def test_with_one_hidden_layer_the_second_is_the_last(self):
        """So q is linear in an action that enters there: it has the same gradient everywhere."""
        critic, rng = QNetwork(3, 2, (5,), action_at_second_layer=True), np.random.default_rng(0)
        s = torch.tensor(rng.normal(size=(6, 3)))
        a = torch.tensor(rng.normal(size=(6, 2)), requires_grad=True)
        [dq_da] = torch.autograd.grad(critic(s, a).sum(), a)
        torch.testing.assert_close(dq_da, critic.layers[2].weight[:, 5:].double().expand(6, 2))

    def test_it_has_two_layers_of_64_units_by_default(self):
        def shapes(critic):
            return [W.shape for W, _ in linear_layers(critic)]

        assert shapes(QNetwork(3, 2)) == [(64, 5), (64, 64), (1, 64)]
        assert shapes(QNetwork(3, 2, action_at_second_layer=True)) == [(64, 3), (64, 66), (1, 64)]

    @pytest.mark.parametrize("second", [False, True])
    def test_small_weights_of_the_last_layer_make_first_values_small(self, second):
        critic, default = (
            QNetwork(3, 2, (300, 400), action_at_second_layer=second, final_init_scale=scale, seed=1)
            for scale in (3e-4, None)
        )
        *before, (W, b) = linear_layers(critic)
        for one, other in zip(before, linear_layers(default)[:-1], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
        assert 0.9 * 3e-4 < abs(W).max() <= 3e-4  # 0.9⁴⁰⁰ ≈ 5 · 10⁻¹⁹
        assert abs(b).max() <= 3e-4
        rng = np.random.default_rng(0)
        s, a = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
        assert critic(s, a).abs().max() < default(s, a).abs().max() / 10

    @pytest.mark.parametrize("second", [False, True])
    @pytest.mark.parametrize("hidden_sizes", [(7,), (6, 5), (4, 5, 6)], ids=str)
    def test_its_action_gradient_is_that_of_finite_differences(self, hidden_sizes, second):
        """∂q/∂a, in double precision."""
        critic = QNetwork(3, 2, hidden_sizes, action_at_second_layer=second, seed=2).double()
        rng = np.random.default_rng(0)
        s, a = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
        a_tensor = torch.tensor(a, requires_grad=True)
        [dq_da] = torch.autograd.grad(critic(s, a_tensor).sum(), a_tensor)
        with torch.no_grad():
            steps = 1e-6 * np.eye(2)
            differences = [(critic(s, a + step) - critic(s, a - step)) / 2e-6 for step in steps]
        torch.testing.assert_close(dq_da, torch.stack(differences, dim=1), atol=1e-8, rtol=0)
        assert (dq_da != 0).any()

    @pytest.mark.parametrize("second", [False, True])
    def test_a_policys_gradient_through_it_is_the_chain_rule_of_slide_65(self, second):
        """∂q/∂w₂ = ∂q/∂a · ∂μ/∂w₂ with ∂q/∂a at a = μ(s): as a product, and by differences in each weight."""
        critic = QNetwork(3, 2, (6, 5), action_at_second_layer=second, seed=2).double()
        policy = DeterministicPolicy(3, [-1, 0], [1, 3], (4, 5)).double()
        s, weights = np.random.default_rng(0).normal(size=(10, 3)), list(policy.parameters())
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(critic(s, policy(s)).mean(), weights)])
        a = policy(s).detach().requires_grad_()
        [dq_da] = torch.autograd.grad(critic(s, a).mean(), a)
        product = torch.autograd.grad(policy(s), weights, dq_da)
        expected = torch.cat([part.flatten() for part in product])
        torch.testing.assert_close(gradient, expected, atol=1e-14, rtol=0)
        w = torch.nn.utils.parameters_to_vector(weights).detach()
        differences = torch.empty_like(w)
        with torch.no_grad():
            for k in range(len(w)):
                q = []
                for step in (1e-6, -1e-6):
                    moved = w.clone()
                    moved[k] += step
                    torch.nn.utils.vector_to_parameters(moved, weights)
                    q.append(critic(s, policy(s)).mean())
                differences[k] = (q[0] - q[1]) / 2e-6
        torch.testing.assert_close(gradient, differences, atol=1e-8, rtol=0)
        assert (gradient != 0).any()

    @pytest.mark.parametrize("second", [False, True])
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
    def test_errors_name_the_shapes_of_states_and_actions(self, s, a, second):
        critic = QNetwork(4, 2, action_at_second_layer=second)
        with pytest.raises(ValueError) as raised:
            critic(np.zeros(s), np.zeros(a))
        assert str(raised.value) == f"s and a must have shapes (N, 4) and (N, 2), got {s} and {a}"


def test_a_twin_critic_gives_the_values_of_both():
    first, second = (QNetwork(3, 2, (5, 4), seed=seed) for seed in (1, 2))
    twins, rng = TwinCritic(first, second), np.random.default_rng(0)
    s, a = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    q = twins(s, a)
    assert q.shape == (2, 20)
    assert q[0].equal(first(s, a))
    assert q[1].equal(second(s, a))
    assert [id(w) for w in twins.parameters()] == [id(w) for n in (first, second) for w in n.parameters()]
