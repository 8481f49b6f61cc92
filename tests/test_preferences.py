"""Preferences against loops over pairs, SciPy's minimisers, autograd, and DPO minimised over token logits."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import expit

from pgcourse.maths.preferences import (
    count_wins,
    dpo_gradient,
    dpo_loss,
    expected_wins,
    fit_rewards,
    implicit_reward,
    optimal_policy,
    optimize_proxy,
    preference_gradient,
    preference_loss,
    preference_probability,
)
from pgcourse.maths.sequences import (
    enumerate_outputs,
    kl_statistics,
    objective,
    objective_gradient,
    output_probabilities,
    output_scores,
    token_log_probs,
)

RNG = np.random.default_rng(0)
OUTPUTS = enumerate_outputs(3, 3)
W_REF = RNG.normal(size=(2, 7, 3))
R = RNG.normal(size=(2, 15))
P_REF = output_probabilities(W_REF, OUTPUTS)
L_REF = token_log_probs(W_REF, OUTPUTS).sum(axis=2)
WINS = RNG.integers(0, 4, size=(6, 6)) * ~np.eye(6, dtype=bool) + 0.0


def test_the_probability_of_a_preference_depends_on_the_difference():
    r = RNG.normal(size=5)
    P = preference_probability(r)
    for y, z in product(range(5), repeat=2):
        assert P[y, z] == pytest.approx(np.exp(r[y]) / (np.exp(r[y]) + np.exp(r[z])))
    assert_allclose(preference_probability(r + 7), P)


def test_wins_are_counted_pair_by_pair_and_expected_ones_are_their_mean():
    r, p = RNG.normal(size=4), RNG.dirichlet(np.ones(4))
    y, z = RNG.choice(4, p=p, size=(2, 200_000))
    y, z = y[y != z], z[y != z]
    first = RNG.random(len(y)) < expit(r[y] - r[z])
    chosen, rejected = np.where(first, y, z), np.where(first, z, y)
    wins = count_wins(chosen, rejected, 4)
    assert wins.sum() == len(y)
    assert wins[1, 2] == ((chosen == 1) & (rejected == 2)).sum()
    expected = expected_wins(r, p)
    assert abs(wins / 200_000 - expected).max() < 6 * np.sqrt(0.25 / 200_000)  # fails for 12 × 2e-9 of seeds
    for a, b in product(range(4), repeat=2):
        assert expected[a, b] == pytest.approx((a != b) * 2 * p[a] * p[b] * expit(r[a] - r[b]))


def test_the_loss_and_its_gradient_by_a_loop_and_autograd():
    r = RNG.normal(size=6)
    pairs = [-WINS[y, z] * np.log(expit(r[y] - r[z])) for y, z in product(range(6), repeat=2)]
    assert preference_loss(r, WINS) == pytest.approx(sum(pairs) / WINS.sum(), abs=1e-13)
    r_t = torch.tensor(r, requires_grad=True)
    loss = -(torch.tensor(WINS) * torch.nn.functional.logsigmoid(r_t[:, None] - r_t)).sum() / WINS.sum()
    loss.backward()
    assert_allclose(preference_gradient(r, WINS), r_t.grad, atol=1e-13)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("features", [None, RNG.normal(size=(6, 3))])
def test_a_reward_model_is_scipys_minimum(features, weight_decay):
    x = np.eye(6) if features is None else features
    r = fit_rewards(WINS, features, weight_decay=weight_decay)
    found = minimize(
        lambda theta: preference_loss(x @ theta, WINS) + weight_decay / 2 * theta @ theta,
        np.zeros(x.shape[1]),
        jac=lambda theta: x.T @ preference_gradient(x @ theta, WINS) + weight_decay * theta,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    expected = x @ found.x
    assert_allclose(r, expected - expected.mean(), atol=1e-7)
    if not weight_decay:
        assert_allclose(x.T @ preference_gradient(r, WINS), 0, atol=1e-13)


@pytest.mark.parametrize(
    "wins", [[[0, 3], [0, 0]], [[0, 3, 2], [0, 0, 1], [0, 1, 0]], [[0, 9, 0], [0, 0, 9], [0, 2, 0]]]
)
def test_an_answer_that_always_wins_is_told_and_weight_decay_keeps_it_finite(wins):
    wins = np.array(wins, float)
    with pytest.raises(ValueError, match="always wins has an infinite reward"):
        fit_rewards(wins)
    assert fit_rewards(wins, weight_decay=1e-6).argmax() == 0


def test_a_long_chain_of_clear_preferences_is_finite():
    """Each wins 1,000 of 1,001 comparisons with the next: log 1,000 apart, 8 steps from end to end."""
    wins = np.diag(np.full(8, 1000.0), 1) + np.diag(np.ones(8), -1)
    assert_allclose(np.diff(fit_rewards(wins)), -np.log(1000), rtol=1e-8)


def test_infinitely_many_pairs_give_the_true_rewards_back():
    for r, p in zip(R, P_REF, strict=True):
        assert_allclose(fit_rewards(expected_wins(r, p)), r - r.mean(), atol=1e-10)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_the_optimal_policy_is_the_maximum_of_the_penalised_objective(beta):
    """Its gradient is zero there, every other policy has less, and the maximum is β log Z."""
    p = optimal_policy(P_REF, R, beta)
    direct = P_REF * np.exp(R / beta)
    assert_allclose(p, direct / direct.sum(axis=1, keepdims=True), rtol=1e-12)
    w = logits_of(p)
    options = {"beta": beta, "w_ref": W_REF}
    assert_allclose(objective_gradient(w, OUTPUTS, R, **options), 0, atol=1e-12)
    best = objective(w, OUTPUTS, R, **options)
    assert best == pytest.approx((beta * np.log(direct.sum(axis=1))).mean(), abs=1e-10)
    for size in (1e-2, 1, 10):
        other = w + size * RNG.normal(size=w.shape)
        assert objective(other, OUTPUTS, R, **options) < best


def logits_of(p):
    """Return logits whose outputs have these probabilities: logarithms of those of the next token."""
    w = np.zeros((len(p), 7, 3))
    for x, prefix, token in product(range(len(p)), range(7), range(3)):
        here = ((OUTPUTS.prefix == prefix) & (OUTPUTS.tokens == token) & OUTPUTS.mask).any(axis=1)
        w[x, prefix, token] = np.log(p[x, here].sum())
    return w


def test_rewards_are_read_off_the_optimal_policy():
    for beta in (0.2, 2.0):
        p = optimal_policy(P_REF, R, beta)
        difference = implicit_reward(np.log(p), L_REF, beta) - R
        assert_allclose(difference, difference[:, :1] + np.zeros(15), atol=1e-11)  # β log Z of the prompt


def test_dpos_loss_by_a_loop_and_its_gradient_by_autograd():
    w = RNG.normal(size=(2, 7, 3))
    L, wins, beta = token_log_probs(w, OUTPUTS).sum(axis=2)[0], expected_wins(R[0], P_REF[0]), 0.3
    total = 0.0
    for y, z in product(range(15), repeat=2):
        margin = beta * ((L[y] - L_REF[0, y]) - (L[z] - L_REF[0, z]))
        total -= wins[y, z] * np.log(expit(margin))
    assert dpo_loss(L, L_REF[0], wins, beta) == pytest.approx(total / wins.sum(), abs=1e-13)
    w_t = torch.tensor(w[0], requires_grad=True)
    torch_dpo(w_t, L_REF[0], wins, beta).backward()
    g = np.einsum("n,nov->ov", dpo_gradient(L, L_REF[0], wins, beta), output_scores(w, OUTPUTS)[0])
    assert_allclose(g, w_t.grad, atol=1e-13)


def torch_dpo(w, L_ref, wins, beta):
    """Return DPO's loss of token logits, of one prompt."""
    L_tokens = w.log_softmax(dim=1)[torch.tensor(OUTPUTS.prefix), torch.tensor(OUTPUTS.tokens)]
    r = beta * ((L_tokens * torch.tensor(OUTPUTS.mask)).sum(dim=1) - torch.tensor(L_ref))
    margins = torch.nn.functional.logsigmoid(r[:, None] - r)
    return -(torch.tensor(wins) * margins).sum() / wins.sum()


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_dpos_minimum_is_the_optimum_of_the_penalised_objective(beta):
    """Infinitely many pairs, token logits, Newton's method by autograd; and the way over a reward model."""
    for p_ref, L_ref, r in zip(P_REF, L_REF, R, strict=True):
        wins, optimum = expected_wins(r, p_ref), optimal_policy(p_ref, r, beta)
        w = torch.tensor(logits_of(optimum[None])[0] + 0.3 * RNG.normal(size=(7, 3)))

        def loss(w, L_ref=L_ref, wins=wins):
            return torch_dpo(w, L_ref, wins, beta)

        for _ in range(15):
            g = torch.autograd.functional.jacobian(loss, w).ravel()
            H = torch.autograd.functional.hessian(loss, w).reshape(21, 21)
            step = torch.linalg.pinv(H, rtol=1e-12, hermitian=True) @ g
            w = w - (step / max(1.0, step.abs().max().item())).reshape(7, 3)
        assert abs(g).max() < 1e-12
        assert_allclose(output_probabilities(w.numpy()[None], OUTPUTS)[0], optimum, atol=1e-10)
        assert_allclose(optimal_policy(p_ref, fit_rewards(wins), beta), optimum, atol=1e-10)


def test_a_proxy_that_is_the_truth_is_never_over_optimised():
    betas = np.geomspace(10, 0.01, 40)
    found = optimize_proxy(P_REF, R, R, betas)
    assert (np.diff(found.true) > 0).all()
    assert_allclose(found.true, found.proxy)
    assert (np.diff(found.kl) > 0).all()
    for beta, kl, true in zip(betas[::13], found.kl[::13], found.true[::13], strict=True):
        w = logits_of(np.maximum(optimal_policy(P_REF, R, beta), 1e-300))
        assert kl == pytest.approx(
            np.mean([f.truth for f in kl_statistics(w, W_REF, OUTPUTS, "k1")]), abs=1e-10
        )
        assert true == pytest.approx(objective(w, OUTPUTS, R), abs=1e-10)


def test_a_wrong_proxy_rises_while_the_truth_falls():
    """Three outputs: the proxy is right about the second and wrong about the third, which is rare."""
    p_ref, true, proxy = np.array([0.6, 0.39, 0.01]), np.array([0.0, 1.0, -2.0]), np.array([0.0, 1.0, 2.0])
    found = optimize_proxy(p_ref, proxy, true, np.geomspace(10, 0.05, 50))
    assert (np.diff(found.proxy) > 0).all()
    best = found.true.argmax()
    assert 0 < best < 49
    assert found.true[best] > found.true[0] > found.true[-1]
    assert found.true[-1] == pytest.approx(-2, abs=1e-3)


def test_rare_and_impossible_outputs_overflow_nothing():
    p = optimal_policy(np.array([0.5, 0.5, 0.0]), np.array([0.0, 1.0, 50.0]), 1e-3)
    assert_allclose(p, [0, 1, 0])
    assert preference_loss(np.array([0.0, 5000.0]), np.array([[0, 1.0], [0, 0]])) == 5000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fit_rewards(np.array([[0, 3.0], [0, 0]])),
            "wins must have a finite maximum of the likelihood: an output that always wins has an infinite "
            "reward; weight_decay > 0 keeps it finite",
        ),
        (
            lambda: preference_loss(np.zeros(2), np.zeros((2, 2))),
            "wins must be counts of preferences, at least 0, shape (N, N), got shape (2, 2), sum 0, "
            "smallest 0",
        ),
        (lambda: preference_loss(np.zeros(3), np.ones((2, 2))), "r must have shape (2,), got (3,)"),
        (lambda: optimal_policy(np.ones(2) / 2, np.zeros(2), 0), "beta must be a positive number, got 0"),
        (
            lambda: optimal_policy(np.ones(2), np.zeros(2), 1),
            "p_ref must hold probabilities, at least 0, sum 1, got [1. 1.]",
        ),
        (
            lambda: count_wins(np.array([0, 3]), np.array([1, 1]), 3),
            "chosen must hold numbers of outputs below 3, shape (M,), got [0 3]",
        ),
        (lambda: fit_rewards(np.ones((2, 2)), np.ones((3, 1))), "x must have shape (2, n), got (3, 1)"),
        (
            lambda: dpo_loss(np.zeros(2), np.zeros(3), np.ones((2, 2)), 1),
            "L_ref must have the shape of L, (2,), got (3,)",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
