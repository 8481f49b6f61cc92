"""Importance weights, clipping and divergences against their definitions, autograd, SciPy and enumeration."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import entropy

from pgcourse.environments.worlds import chain
from pgcourse.maths.returns import surrogate
from pgcourse.maths.trust_region import (
    clipped_surrogate,
    importance_weight,
    is_clipped,
    kl_divergence,
    kl_estimate,
)

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
numbers = st.floats(-3, 3)
clips = st.floats(0.01, 2)


def paper(rho, A, clip):
    """Equation 7, one step at a time."""
    return [min(x * y, min(max(x, 1 - clip), 1 + clip) * y) for x, y in zip(rho, A, strict=True)]


@reproducible
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6), clips)
def test_the_clipped_surrogate_is_equation_7_for_arrays_and_tensors(steps, clip):
    L, L_old, A = np.array(steps).T
    rho = importance_weight(L, L_old)
    assert_allclose(rho, np.exp(L) / np.exp(L_old))
    assert_allclose(clipped_surrogate(rho, A, clip), paper(rho, A, clip), atol=1e-12)
    assert (clipped_surrogate(rho, A, clip) <= rho * A + 1e-12).all()
    tensors = [torch.tensor(x) for x in (L, L_old, A)]
    rho_t = importance_weight(*tensors[:2])
    assert_allclose(clipped_surrogate(rho_t, tensors[2], clip), clipped_surrogate(rho, A, clip), rtol=1e-12)
    assert_allclose(is_clipped(rho_t, tensors[2], clip), is_clipped(rho, A, clip))
    estimate = kl_estimate(L, L_old)
    assert_allclose(kl_estimate(*tensors[:2]), estimate, atol=1e-12)
    assert_allclose(estimate, rho - 1 - np.log(rho), atol=1e-12)
    assert (estimate >= 0).all()


@pytest.mark.parametrize(
    ("rho", "A", "derivative"),
    [
        (1.0, 2.0, 2.0),  # at π₀ it is the policy gradient: A ∂ log π/∂w
        (1.0, -2.0, -2.0),
        (1.1, 2.0, 2.2),  # inside: ρA ∂ log π/∂w
        (1.5, 2.0, 0.0),  # good and probable enough
        (0.5, 2.0, 1.0),  # good, but it has become improbable: not clipped
        (0.5, -2.0, 0.0),  # bad and improbable enough
        (1.5, -2.0, -3.0),  # bad, but it has become probable: not clipped
        (5.0, 0.0, 0.0),
    ],
)
def test_its_gradient_by_hand_is_autograds(rho, A, derivative):
    """With respect to log π, for ε = 0.2."""
    L = torch.tensor([np.log(rho)], requires_grad=True)
    weight = importance_weight(L, torch.zeros(1, dtype=L.dtype))
    clipped_surrogate(weight, torch.tensor([A], dtype=L.dtype), 0.2).sum().backward()
    assert L.grad.item() == pytest.approx(derivative, abs=1e-12)
    zero = bool(is_clipped(np.array([rho]), np.array([A]), 0.2)[0])
    assert zero == (derivative == 0 and A != 0)


@reproducible
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6), clips)
def test_its_gradient_is_rho_a_where_it_is_not_clipped_and_zero_where_it_is(steps, clip):
    L, L_old, A = (torch.tensor(x) for x in np.array(steps).T)
    L.requires_grad_()
    A.requires_grad_()
    rho = importance_weight(L, L_old.requires_grad_())
    clipped_surrogate(rho, A, clip).sum().backward()
    rho, A_n = rho.detach().numpy(), A.detach().numpy()
    on_the_edge = np.isclose(rho, 1 + clip) | np.isclose(rho, 1 - clip)
    expected = np.where(is_clipped(rho, A_n, clip), 0, rho * A_n)
    assert_allclose(L.grad[~on_the_edge], expected[~on_the_edge], atol=1e-12)
    assert A.grad is None
    assert L_old.grad is None


def test_at_the_old_policy_the_gradient_is_that_of_the_surrogate():
    rng = np.random.default_rng(0)
    values, A = rng.normal(size=7), torch.tensor(rng.normal(size=7))
    gradients = []
    for J_hat in (
        lambda L: surrogate(L, A, n=7),
        lambda L: clipped_surrogate(importance_weight(L, L), A, 0.1).mean(),
    ):
        L = torch.tensor(values, requires_grad=True)
        J_hat(L).backward()
        gradients.append(L.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_the_mean_of_the_estimates_is_the_divergence():
    """In expectation over π₀, which is a sum over all actions: Σₐ π₀(a) k₃(a) = KL(π₀ ‖ π_w)."""
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(4), size=(2, 5))
    estimate = (p * kl_estimate(np.log(q), np.log(p))).sum(axis=1)
    assert_allclose(kl_divergence(p, q), entropy(p, q, axis=1), atol=1e-12)
    assert_allclose(estimate, kl_divergence(p, q), atol=1e-12)
    assert_allclose(kl_divergence(p, p), 0, atol=1e-15)
    assert kl_divergence([1, 0], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert kl_divergence([0.5, 0.5], [1, 0]) == np.inf


def test_the_estimate_is_finite_where_the_weight_underflows():
    L, L_old = torch.tensor([-200.0, -0.5]), torch.tensor([-1.0, -0.5])
    assert importance_weight(L, L_old).tolist() == [0, 1]
    assert kl_estimate(L, L_old).tolist() == [198, 0]


def test_weighted_by_whole_episodes_old_data_give_the_new_return():
    """Σ_τ P₀(τ) Πₜ ρₜ R(τ) = J(w): the weights of one episode's actions multiply."""
    mdp, rng = chain(), np.random.default_rng(2)
    w_0, w = rng.normal(size=(2, 2, 2))
    e = mdp.enumerate_episodes(w_0)
    s = e.s[:, :-1]
    rho = importance_weight(np.log(mdp.pi(w)[s, e.a]), np.log(mdp.pi(w_0)[s, e.a]))
    assert e.P @ (rho.prod(axis=1) * e.r.sum(axis=1)) == pytest.approx(mdp.J(w), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clipped_surrogate(np.ones(2), np.ones(2), 0), "clip must be a positive number, got 0"),
        (lambda: is_clipped(np.ones(2), np.ones(2), -0.1), "clip must be a positive number, got -0.1"),
        (
            lambda: clipped_surrogate(np.ones(2), np.ones((2, 1)), 0.2),
            "A must have the shape of rho, (2,), got (2, 1)",
        ),
        (
            lambda: importance_weight(torch.zeros(2, 3), torch.zeros(2)),
            "L_old must have the shape of L, (2, 3), got (2,)",
        ),
        (
            lambda: kl_divergence([0.5, 0.6], [0.5, 0.5]),
            "p must hold probabilities, at least 0, sum 1, got [0.5 0.6]",
        ),
        (
            lambda: kl_divergence([0.5, 0.5], [1.5, -0.5]),
            "q must hold probabilities, at least 0, sum 1, got [ 1.5 -0.5]",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
