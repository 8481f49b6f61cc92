import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcourse.networks import PixelPolicy, Policy


def frames(n, n_pixels=6400, n_on=30, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, n_pixels), np.int8)
    for row in x:
        row[rng.choice(n_pixels, n_on, replace=False)] = rng.choice([-1, 1], n_on)
    return x


class Table(Policy):
    """Logits that are the weights themselves: one row a state."""

    def __init__(self, n_states, n_actions, seed=0):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(n_states, n_actions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))

    def logits(self, s):
        return self.w[torch.as_tensor(s)]


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
        torch.autograd.grad(sparse @ weights, policy.parameters()), torch.autograd.grad(dense @ weights, policy.parameters()), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.data())
def test_sparse_equals_dense_for_any_frames(n, n_pixels, n_hidden, data):
    x = np.array(
        data.draw(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=n_pixels, max_size=n_pixels), min_size=n, max_size=n))
    )
    policy = PixelPolicy(n_hidden, n_pixels=n_pixels).double()
    torch.testing.assert_close(policy.logit(x), dense_logit(policy, x), atol=1e-12, rtol=0)


def test_the_slides_count_of_weights():
    assert sum(w.numel() for w in PixelPolicy().parameters()) == (80 * 80 * 200 + 200) + (200 * 1 + 1) == 1_280_401


def test_two_logits_are_a_sigmoid():
    policy, x = PixelPolicy(seed=2), frames(20)
    z = policy.logit(x).detach()
    np.testing.assert_allclose(policy.probabilities(x)[:, 1], torch.sigmoid(z).numpy(), atol=1e-6)
    a = np.arange(20) % 2
    expected = torch.where(torch.as_tensor(a) == 1, torch.sigmoid(z), 1 - torch.sigmoid(z)).log()
    torch.testing.assert_close(policy.log_prob(x, a).detach(), expected, atol=1e-6, rtol=0)


def test_gradient_of_log_prob_is_input_times_error():
    """∂L/∂z = t − y, slides 22 and 39."""
    policy, s = Table(5, 4), np.arange(5)
    a = np.array([3, 0, 1, 1, 2])
    policy.log_prob(s, a).sum().backward()
    np.testing.assert_allclose(policy.w.grad.numpy(), np.eye(4)[a] - policy.probabilities(s), atol=1e-12)


def test_samples_follow_the_probabilities():
    """Chi-square with 3 degrees of freedom beyond 33 has a probability below 10⁻⁶."""
    policy, n = Table(1, 4), 20_000
    drawn = policy.sample(np.zeros(n, int), np.random.default_rng(0))
    expected = n * policy.probabilities([0])[0]
    assert ((np.bincount(drawn, minlength=4) - expected) ** 2 / expected).sum() < 33


def test_a_certain_policy_never_draws_anything_else():
    policy = Table(1, 3)
    with torch.no_grad():
        policy.w[:] = torch.tensor([-200.0, 200.0, -200.0])
    assert (policy.sample(np.zeros(1000, int), np.random.default_rng(0)) == 1).all()


def test_a_policy_that_has_diverged_says_so():
    policy = Table(1, 3)
    with torch.no_grad():
        policy.w[0, 1] = torch.nan
    with pytest.raises(ValueError, match="the policy must give finite scores, got nan; a smaller eta may help"):
        policy.sample(np.zeros(2, int), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: p.logit(x[:, :100]), r"x must have shape \(N, 6400\), got \(3, 100\)"),
        (lambda p, x: p.logit(np.where(np.arange(6400) == 3, np.nan, x)), "x must be finite, got nan"),
        (lambda p, x: p.log_prob(x, [0, 1, 2]), r"a must hold integers in 0\.\.1, got .* from 0 to 2"),
        (lambda p, x: p.log_prob(x, [-1, 0, 0]), r"a must hold integers in 0\.\.1, got .* from -1 to 0"),
        (lambda p, x: p.log_prob(x, [0.0, 1.0, 1.0]), r"a must hold integers in 0\.\.1, got torch.float32"),
        (lambda p, x: p.log_prob(x, [0, 1]), r"a must have shape \(3,\), one action a state, got \(2,\)"),
        (lambda p, x: PixelPolicy(0), "n_hidden must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(PixelPolicy(), frames(3))
