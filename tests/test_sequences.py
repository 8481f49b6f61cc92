"""A language model of three tokens: expectations against loops over all groups, autograd, closed forms."""

import re
from itertools import product
from math import comb, prod

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pgcourse.maths.groups import WEIGHTINGS, group_advantages
from pgcourse.maths.returns import leave_one_out_baseline, standardize
from pgcourse.maths.sequences import (
    KL_ESTIMATORS,
    NORMALIZATIONS,
    RATIOS,
    enumerate_groups,
    enumerate_outputs,
    gradient_statistics,
    importance_ratios,
    kl_loss_gradient,
    kl_statistics,
    objective,
    objective_gradient,
    output_probabilities,
    output_scores,
    reuse_statistics,
    token_log_probs,
)

OUTPUTS = enumerate_outputs(3, 3)
RNG = np.random.default_rng(0)
W, W_REF = RNG.normal(size=(2, 2, 7, 3))
R = RNG.normal(size=(2, 15))
RIGHT = (RNG.random((2, 15)) < 0.4).astype(float)
SMALL = enumerate_outputs(2, 3)  # four outputs of one to three tokens, so that all pairs of groups are few
W_SMALL, W_REF_SMALL = RNG.normal(size=(2, 2, 3, 2))
R_SMALL = RNG.normal(size=(2, 4))
TOLERANCE = 1e-11


def spelled(outputs):
    """Return each output as a tuple of its tokens."""
    return [tuple(y[m].tolist()) for y, m in zip(outputs.tokens, outputs.mask, strict=True)]


def by_recursion(n_tokens, max_length, prefix=()):
    """Return all outputs that begin like this."""
    if len(prefix) == max_length or (prefix and prefix[-1] == n_tokens - 1):
        return [prefix]
    return [y for k in range(n_tokens) for y in by_recursion(n_tokens, max_length, (*prefix, k))]


def log_prob(w, y, x, outputs):
    """Return log π(y∣x) as a tensor, with a dictionary of prefixes; and of each token."""
    rows = {
        s[:t]: int(p[t]) for s, p in zip(spelled(outputs), outputs.prefix, strict=True) for t in range(len(s))
    }
    terms = [w[x, rows[y[:t]]].log_softmax(dim=0)[y[t]] for t in range(len(y))]
    return torch.stack(terms)


def tensor(w):
    return torch.tensor(w, requires_grad=True)


def gradient_of(function, w):
    """Return the gradient by autograd."""
    w = tensor(w)
    function(w).backward()
    return w.grad.numpy()


def kl(w, w_ref, outputs):
    """Return KL(π ‖ π_ref), the mean over prompts."""
    total = 0.0
    for x, y in product(range(len(w)), spelled(outputs)):
        L, L_ref = (log_prob(v, y, x, outputs).sum() for v in (w, w_ref))
        total = total + L.exp() * (L - L_ref)
    return total / len(w)


# The outputs


@pytest.mark.parametrize(("n_tokens", "max_length"), [(2, 1), (2, 3), (3, 1), (3, 2), (3, 3), (3, 5), (4, 3)])
def test_all_outputs_are_there_once_and_each_prefix_has_its_row(n_tokens, max_length):
    outputs = enumerate_outputs(n_tokens, max_length)
    assert sorted(spelled(outputs)) == sorted(by_recursion(n_tokens, max_length))
    assert outputs.length.tolist() == [len(y) for y in spelled(outputs)]
    rows = {
        (y[:t], int(p[t]))
        for y, p in zip(spelled(outputs), outputs.prefix, strict=True)
        for t in range(len(y))
    }
    assert sorted(row for _, row in rows) == list(range(sum((n_tokens - 1) ** t for t in range(max_length))))
    assert len({prefix for prefix, _ in rows}) == len(rows)


def test_probabilities_scores_and_the_gradient_are_autograds():
    p, scores = output_probabilities(W, OUTPUTS), output_scores(W, OUTPUTS)
    assert_allclose(p.sum(axis=1), 1, atol=1e-14)
    for x, n in product(range(2), range(15)):
        y = spelled(OUTPUTS)[n]
        L = log_prob(torch.tensor(W), y, x, OUTPUTS)
        assert_allclose(token_log_probs(W, OUTPUTS)[x, n, : len(y)], L, atol=1e-13)
        assert p[x, n] == pytest.approx(L.sum().exp().item(), abs=1e-14)
        score = gradient_of(lambda w, y=y, x=x: log_prob(w, y, x, OUTPUTS).sum(), W)
        assert_allclose(scores[x, n], score[x], atol=1e-13)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_objective_and_its_gradient_with_a_penalty_on_the_divergence(beta):
    def J(w):
        p = torch.stack([log_prob(w, y, x, OUTPUTS).sum().exp() for x in range(2) for y in spelled(OUTPUTS)])
        return (p * torch.tensor(R.ravel())).sum() / 2 - beta * kl(w, torch.tensor(W_REF), OUTPUTS)

    options = {"beta": beta, "w_ref": W_REF}
    assert objective(W, OUTPUTS, R, **options) == pytest.approx(J(torch.tensor(W)).item(), abs=TOLERANCE)
    assert_allclose(objective_gradient(W, OUTPUTS, R, **options), gradient_of(J, W), atol=TOLERANCE)


# Advantages


def test_advantages_are_those_of_the_chapters_group_by_group():
    r = RNG.normal(size=(5, 4))
    assert_allclose(group_advantages(r, "none"), r)
    assert_allclose(group_advantages(r, "mean"), r - r.mean())
    for row, by_mean, by_others, by_std in zip(
        r,
        *(group_advantages(r, kind) for kind in ("dr_grpo", "rloo", "grpo")),
        strict=True,
    ):
        assert_allclose(by_mean, row - row.mean())
        assert_allclose(by_others, row - leave_one_out_baseline(row[:, None])[:, 0])
        assert_allclose(by_std, standardize(row))


def test_leave_one_out_is_k_over_k_minus_1_times_the_group_mean():
    for K in (2, 3, 8):
        r = 100 * RNG.normal(size=(6, K))
        by_others, by_mean = (group_advantages(r, kind) for kind in ("rloo", "dr_grpo"))
        assert_allclose(by_others, K / (K - 1) * by_mean, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e-20, 1e20])
def test_equal_rewards_have_no_advantage_whatever_rounding_leaves(value):
    r = np.array([[value] * 6, [value, 0, 0, 0, 0, 1.0]])
    r[0, 3] = np.nextafter(value, 1) if value == 0.1 else value
    A = group_advantages(r, "grpo")
    assert (A[0] == 0).all()
    assert A[1].std() == pytest.approx(1)


# Estimates of the gradient


def joint_statistics(w, outputs, r, K, kind, normalization, beta, w_ref):
    """Return mean and variance of the estimate by a loop over all ordered groups of all prompts."""
    B, N = r.shape
    L, L_ref = (token_log_probs(v, outputs).sum(axis=2) for v in (w, w_ref))
    r, p, scores = r - beta * (L - L_ref), np.exp(L), output_scores(w, outputs)
    mean, square = np.zeros(w.shape), np.zeros(w.shape)
    for batch in product(product(range(N), repeat=K), repeat=B):
        chance = prod(p[x, n] for x in range(B) for n in batch[x])
        A = group_advantages(np.array([r[x, list(batch[x])] for x in range(B)]), kind)
        g = np.zeros(w.shape)
        for x in range(B):
            in_group = sum(outputs.length[n] for n in batch[x])
            for n, A_n in zip(batch[x], A[x], strict=True):
                by = {"sum": K, "output_mean": K * outputs.length[n], "token_mean": in_group}[normalization]
                g[x] += A_n / by * scores[x, n] / B
        mean += chance * g
        square += chance * g**2
    return mean, square - mean**2


CASES = [(kind, normalization, 0.0) for kind in WEIGHTINGS for normalization in NORMALIZATIONS]
CASES = [case for case in CASES if case[:2] not in (("mean", "output_mean"), ("mean", "token_mean"))]
CASES += [("rloo", "sum", 0.5), ("mean", "sum", 0.5), ("grpo", "output_mean", 0.5)]


@pytest.mark.parametrize(("kind", "normalization", "beta"), CASES)
def test_mean_and_variance_are_those_over_all_batches(kind, normalization, beta):
    options = {"normalization": normalization, "beta": beta, "w_ref": W_REF_SMALL}
    f = gradient_statistics(W_SMALL, SMALL, R_SMALL, 2, kind, **options)
    mean, variance = joint_statistics(W_SMALL, SMALL, R_SMALL, 2, kind, normalization, beta, W_REF_SMALL)
    assert_allclose(f.mean, mean, atol=TOLERANCE)
    assert_allclose(f.variance, variance, atol=TOLERANCE)
    assert f.total_variance == pytest.approx(variance.sum(), abs=TOLERANCE)
    truth = objective_gradient(W_SMALL, SMALL, R_SMALL, beta=beta, w_ref=W_REF_SMALL)
    assert_allclose(f.truth, truth, atol=TOLERANCE)


def test_groups_of_three_and_one_prompt_alone():
    """Three samples of one prompt: a loop over 64 ordered groups."""
    w, w_ref, r = W_SMALL[:1], W_REF_SMALL[:1], R_SMALL[:1]
    for kind in WEIGHTINGS:
        f = gradient_statistics(w, SMALL, r, 3, kind)
        mean, variance = joint_statistics(w, SMALL, r, 3, kind, "sum", 0.0, w_ref)
        assert_allclose(f.mean, mean, atol=TOLERANCE)
        assert_allclose(f.variance, variance, atol=TOLERANCE)


def test_groups_and_how_many_orders_each_has():
    for N, K in ((1, 3), (3, 1), (3, 4), (15, 4)):
        groups, n_orders = enumerate_groups(N, K)
        assert len(groups) == comb(N + K - 1, K)
        assert n_orders.sum() == N**K
    ordered = [tuple(sorted(group)) for group in product(range(4), repeat=3)]
    for group, n in zip(*enumerate_groups(4, 3), strict=True):
        assert ordered.count(tuple(group.tolist())) == n


@pytest.mark.parametrize("K", [2, 3, 4])
def test_what_each_baseline_leaves_of_the_gradient(K):
    """All of it; all but 1/(BK) or 1/K; the same direction."""
    g = objective_gradient(W, OUTPUTS, R)
    for kind, factor in (
        ("none", 1),
        ("rloo", 1),
        ("mean", 1 - 1 / (2 * K)),
        ("dr_grpo", 1 - 1 / K),
    ):
        assert_allclose(gradient_statistics(W, OUTPUTS, R, K, kind).mean, factor * g, atol=TOLERANCE)
    f = gradient_statistics(W, OUTPUTS, R, K, "grpo")
    assert f.cosine < 0.999


def test_with_a_penalty_in_the_reward_leave_one_out_is_unbiased():
    for K in (2, 3):
        f = gradient_statistics(W, OUTPUTS, R, K, "rloo", beta=0.3, w_ref=W_REF)
        assert abs(f.bias).max() < TOLERANCE


@pytest.mark.parametrize("K", [2, 3, 4, 6])
def test_for_right_and_wrong_standardising_weights_the_prompts(K):
    """By E[√(c(K−c))] / (K p(1−p)), where c of K are right: 1 for K = 2, towards 1/√(p(1−p)) for many."""
    p, g = (output_probabilities(W, OUTPUTS) * RIGHT).sum(axis=1), objective_gradient(W, OUTPUTS, RIGHT)
    f = gradient_statistics(W, OUTPUTS, RIGHT, K, "grpo")
    for x in range(2):
        chances = [comb(K, c) * p[x] ** c * (1 - p[x]) ** (K - c) for c in range(K + 1)]
        weight = (
            sum(chance * np.sqrt(c * (K - c)) for c, chance in enumerate(chances)) / K / p[x] / (1 - p[x])
        )
        assert_allclose(f.mean[x], weight * g[x], atol=TOLERANCE)
        if K == 2:
            assert weight == pytest.approx(1)
    if K == 2:
        rloo = gradient_statistics(W, OUTPUTS, RIGHT, 2, "rloo")
        assert_allclose(f.variance, rloo.variance, atol=TOLERANCE)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_divided_by_the_length_it_is_the_gradient_of_another_objective(K):
    """Of E[(r − b)/∣y∣], where b = E[r] is held fixed; times 1 − 1/K for the group mean."""
    p = output_probabilities(W, OUTPUTS)
    b = (p * R).sum(axis=1, keepdims=True)
    changed = objective_gradient(W, OUTPUTS, (R - b) / OUTPUTS.length)
    for kind, factor in (("rloo", 1), ("dr_grpo", 1 - 1 / K)):
        f = gradient_statistics(W, OUTPUTS, R, K, kind, normalization="output_mean")
        assert_allclose(f.mean, factor * changed, atol=TOLERANCE)
        assert f.cosine < 0.999


# Divergences


@pytest.mark.parametrize("kind", KL_ESTIMATORS)
def test_estimates_of_the_divergence_as_sums_over_all_outputs(kind):
    for x, f in enumerate(kl_statistics(W, W_REF, OUTPUTS, kind)):
        mean = square = truth = 0.0
        for y in spelled(OUTPUTS):
            L, L_ref = (log_prob(torch.tensor(v), y, x, OUTPUTS).sum().item() for v in (W, W_REF))
            rho = np.exp(L_ref - L)
            k = {"k1": -np.log(rho), "k2": np.log(rho) ** 2 / 2, "k3": rho - 1 - np.log(rho)}[kind]
            mean, square, truth = (
                m + np.exp(L) * z for m, z in ((mean, k), (square, k**2), (truth, L - L_ref))
            )
        assert f.mean == pytest.approx(mean, abs=TOLERANCE)
        assert f.bias == pytest.approx(mean - truth, abs=TOLERANCE)
        assert f.total_variance == pytest.approx(square - mean**2, abs=TOLERANCE)
        assert (abs(f.bias) < TOLERANCE) == (kind != "k2")


def test_in_the_loss_they_have_three_different_gradients():
    """k1 none, k2 that of KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π)."""
    none, reverse, forward = (kl_loss_gradient(W, W_REF, OUTPUTS, kind) for kind in KL_ESTIMATORS)
    assert abs(none).max() < TOLERANCE
    w_ref = torch.tensor(W_REF)
    assert_allclose(reverse, gradient_of(lambda w: kl(w, w_ref, OUTPUTS), W), atol=TOLERANCE)
    assert_allclose(forward, gradient_of(lambda w: kl(w_ref, w, OUTPUTS), W), atol=TOLERANCE)
    in_the_reward = objective_gradient(W, OUTPUTS, R, beta=1.0, w_ref=W_REF) - objective_gradient(
        W, OUTPUTS, R
    )
    assert_allclose(-reverse, in_the_reward, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KL_ESTIMATORS)
def test_token_by_token_the_prefixes_are_held_fixed(kind):
    """Σ over prefixes: how often each occurs, times the gradient of the divergence of its next token."""
    chance = {}
    for x, y in product(range(2), spelled(OUTPUTS)):
        L = log_prob(torch.tensor(W), y, x, OUTPUTS)
        for t in range(len(y)):
            chance[x, y[:t]] = L[:t].sum().exp().item()
    rows = {
        y[:t]: int(p[t]) for y, p in zip(spelled(OUTPUTS), OUTPUTS.prefix, strict=True) for t in range(len(y))
    }

    def total(w):
        value = 0 * w.sum()
        for (x, prefix), often in chance.items():
            L, L_ref = (v[x, rows[prefix]].log_softmax(dim=0) for v in (w, torch.tensor(W_REF)))
            divergence = {
                "k1": 0 * L.sum(),
                "k2": (L.exp() * (L - L_ref)).sum(),
                "k3": (L_ref.exp() * (L_ref - L)).sum(),
            }[kind]
            value = value + often * divergence / 2
        return value

    by_token = kl_loss_gradient(W, W_REF, OUTPUTS, kind, by_token=True)
    assert_allclose(by_token, gradient_of(total, W), atol=TOLERANCE)
    if kind != "k1":
        assert abs(by_token - kl_loss_gradient(W, W_REF, OUTPUTS, kind)).max() > 1e-3


def test_when_the_penalties_are_equal():
    """For outputs of one token; and all vanish at the reference."""
    outputs = enumerate_outputs(4, 1)
    w, w_ref = RNG.normal(size=(2, 3, 1, 4))
    for kind in KL_ESTIMATORS:
        by_token, whole = (kl_loss_gradient(w, w_ref, outputs, kind, by_token=x) for x in (True, False))
        assert_allclose(by_token, whole, atol=TOLERANCE)
        for by_token in (True, False):
            assert_allclose(kl_loss_gradient(W, W, OUTPUTS, kind, by_token=by_token), 0, atol=TOLERANCE)


# Outputs of an older policy


def test_importance_ratios_by_hand_and_their_expectations():
    L, L_old = (token_log_probs(w, OUTPUTS) for w in (W, W_REF))
    p_old = output_probabilities(W_REF, OUTPUTS)
    token, sequence, mean = (importance_ratios(L, L_old, OUTPUTS.mask, level) for level in RATIOS)
    for x, n in product(range(2), range(15)):
        T = OUTPUTS.length[n]
        ratios = [np.exp(L[x, n, t]) / np.exp(L_old[x, n, t]) for t in range(T)]
        assert_allclose(token[x, n, :T], ratios)
        assert_allclose(sequence[x, n, :T], prod(ratios))
        assert_allclose(mean[x, n, :T], prod(ratios) ** (1 / T))
        assert (token[x, n, T:] == 0).all()
    assert_allclose((p_old * sequence[..., 0]).sum(axis=1), 1, atol=TOLERANCE)
    assert_allclose((p_old[..., None] * (token - OUTPUTS.mask)).sum(axis=1), 0, atol=TOLERANCE)
    assert (abs((p_old * mean[..., 0]).sum(axis=1) - 1) > 0.01).all()


def test_only_the_ratio_of_the_whole_sequence_gives_the_new_policys_gradient():
    statistics = {level: reuse_statistics(W, W_REF, OUTPUTS, R, level) for level in RATIOS}
    for f in statistics.values():
        assert_allclose(f.truth, objective_gradient(W, OUTPUTS, R), atol=TOLERANCE)
    assert abs(statistics["sequence"].bias).max() < TOLERANCE
    assert all(abs(statistics[level].bias).max() > 1e-3 for level in ("token", "geometric_mean"))


@pytest.mark.parametrize("level", RATIOS)
def test_reuse_by_a_loop_over_outputs_with_autograd(level):
    mean, square = np.zeros(W.shape), np.zeros(W.shape)
    for x, n in product(range(2), range(15)):
        y = spelled(OUTPUTS)[n]
        L_old = log_prob(torch.tensor(W_REF), y, x, OUTPUTS)

        def surrogate(w, x=x, n=n, y=y, L_old=L_old):
            log_rho = log_prob(w, y, x, OUTPUTS) - L_old
            log_rho = {"token": log_rho, "sequence": log_rho.sum(), "geometric_mean": log_rho.mean()}[level]
            return log_rho.exp().sum() * R[x, n]

        g = gradient_of(surrogate, W) / 2
        mean += L_old.sum().exp().item() * g
        square += L_old.sum().exp().item() * g**2
    f = reuse_statistics(W, W_REF, OUTPUTS, R, level)
    assert_allclose(f.mean, mean, atol=TOLERANCE)
    assert_allclose(f.variance, square - mean**2, atol=TOLERANCE)


def test_without_a_move_the_ratios_change_nothing():
    for level in ("token", "sequence"):
        assert abs(reuse_statistics(W, W, OUTPUTS, R, level).bias).max() < TOLERANCE


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gradient_statistics(W, OUTPUTS, R, 1, "rloo"),
            'samples_per_prompt must be at least 2 for "rloo": an answer alone has nothing to be compared '
            "with; got 1",
        ),
        (
            lambda: gradient_statistics(W, OUTPUTS, R, 2, "leave one out"),
            "weighting must be one of none, mean, rloo, grpo, dr_grpo, got 'leave one out'",
        ),
        (lambda: enumerate_outputs(1, 3), "n_tokens must be a whole number of at least 2, got 1"),
        (
            lambda: enumerate_outputs(10, 6),
            "n_tokens to the power of max_length must be at most 100,000, got 1,000,000",
        ),
        (
            lambda: enumerate_groups(15, 12),
            "the number of groups of K outputs must be at most 500,000, got 9,657,700",
        ),
        (lambda: token_log_probs(W[0], OUTPUTS), "w must have shape (B, 7, 3), got (7, 3)"),
        (lambda: objective(W, OUTPUTS, R[:1]), "r must have shape (2, 15), got (1, 15)"),
        (
            lambda: objective(W, OUTPUTS, R, beta=0.1),
            "w_ref must be the reference's logits for beta = 0.1, got None",
        ),
        (lambda: objective(W, OUTPUTS, R, beta=-1), "beta must be at least 0, got -1"),
        (
            lambda: gradient_statistics(W, OUTPUTS, R, 2, "mean", normalization="output_mean"),
            "normalization must be one of sum, got 'output_mean'",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
