"""Logistic regression against naive sums, finite differences, autograd, SciPy, mpmath and scikit-learn."""

import re
from functools import partial

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from pgcourse.maths.logistic import gradient, gradient_ascent, log_likelihood, predict, sigmoid, softmax

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
close = partial(assert_allclose, rtol=0, atol=1e-8)
rows = st.lists(st.floats(-300, 300), min_size=1, max_size=6)


def problem(seed, M=30, n=3, K=None):
    """Return random (w, x, target) with a bias in x; weights of shape (n,) for K=None, else (n, K)."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(M, n - 1)), np.ones(M)])
    return rng.normal(size=n if K is None else (n, K)), x, rng.integers(K or 2, size=M)


problems = st.builds(
    problem, st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 4), st.sampled_from([None, 1, 2, 3, 5])
)
two_class_problems = st.builds(problem, st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 4))


@pytest.mark.parametrize(("z", "y"), [(1e4, 1), (-1e4, 0), (0, 0.5), ([[1e4], [-1e4]], [[1], [0]])])
def test_sigmoid_does_not_overflow(z, y):
    np.testing.assert_array_equal(sigmoid(z), y)


@reproducible
@given(st.floats(-700, 700))
def test_sigmoid_equals_its_definition_and_keeps_tiny_probabilities(z):
    with mpmath.workdps(400):
        assert_allclose(sigmoid(z), float(1 / (1 + mpmath.exp(-mpmath.mpf(z)))), rtol=1e-14)


@reproducible
@given(rows)
def test_sigmoid_is_symmetric(z):
    close(sigmoid(z) + sigmoid(np.negative(z)), 1, atol=1e-15)


@pytest.mark.parametrize(
    ("z", "y"),
    [([1e4, -1e4], [1, 0]), ([-1e4, -1e4], [0.5, 0.5]), ([[0, 1e4, 1e4]], [[0, 0.5, 0.5]]), ([7], [1])],
)
def test_softmax_does_not_overflow(z, y):
    close(softmax(z), y, atol=1e-15)


@reproducible
@given(st.integers(0, 2**32), st.floats(-300, 300))
def test_softmax_equals_scipys_along_the_last_axis_and_ignores_a_shift(seed, shift):
    z = np.random.default_rng(seed).normal(size=(2, 3, 4), scale=10)
    expected = scipy.special.softmax(z, axis=-1)
    assert_allclose(softmax(z), expected, rtol=1e-12)
    assert_allclose(softmax(z + shift), expected, rtol=1e-11)


@reproducible
@given(rows)
def test_softmax_over_zero_and_z_is_the_sigmoid(z):
    assert_allclose(softmax(np.column_stack([np.zeros(len(z)), z]))[:, 1], sigmoid(z), rtol=1e-12)


@reproducible
@given(problems)
def test_log_likelihood_equals_the_naive_sum(case):
    w, x, target = case
    M, total = len(x), 0
    for j in range(M):
        if w.ndim == 1:
            y = 1 / (1 + np.exp(-(x[j] @ w)))
            total += target[j] * np.log(y) + (1 - target[j]) * np.log(1 - y)
        else:
            total += np.log(
                np.exp(x[j] @ w[:, target[j]]) / sum(np.exp(x[j] @ w[:, k]) for k in range(w.shape[1]))
            )
    close(log_likelihood(w, x, target), total / M, atol=1e-11)


@pytest.mark.parametrize("w", [np.array([1e4]), np.array([[0, 1e4]])], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize(("target", "L"), [([1, 0], 0), ([0, 1], -1e4), ([1, 1], -5e3)])
def test_huge_weights_leave_log_likelihood_finite(w, target, L):
    close(log_likelihood(w, [[1.0], [-1.0]], target), L, atol=0)


@reproducible
@given(problems)
def test_gradient_equals_central_differences(case):
    w, x, target = case
    expected = np.empty_like(w)
    for i in np.ndindex(w.shape):
        h = np.zeros_like(w)
        h[i] = 1e-5
        expected[i] = (log_likelihood(w + h, x, target) - log_likelihood(w - h, x, target)) / 2e-5
    close(gradient(w, x, target), expected)


@reproducible
@given(problems)
def test_gradient_equals_autograd_of_torchs_cross_entropy(case):
    w, x, target = case
    weights, t = torch.tensor(w, requires_grad=True), torch.tensor(target)
    z = torch.tensor(x) @ weights
    functional = torch.nn.functional
    loss = (
        functional.binary_cross_entropy_with_logits(z, t.double())
        if w.ndim == 1
        else functional.cross_entropy(z, t)
    )
    loss.backward()
    close(log_likelihood(w, x, target), -loss.item(), atol=1e-13)
    close(gradient(w, x, target), -weights.grad.numpy(), atol=1e-13)


@reproducible
@given(two_class_problems)
def test_two_classes_are_one_sigmoid(case):
    w, x, target = case
    W = np.column_stack([np.zeros_like(w), w])
    one, two = gradient(w, x, target), gradient(W, x, target)
    close(predict(W, x)[:, 1], predict(w, x), atol=1e-14)
    close(log_likelihood(W, x, target), log_likelihood(w, x, target), atol=1e-14)
    close(two, np.column_stack([-one, one]), atol=1e-14)


@reproducible
@given(st.integers(0, 2**32), st.floats(1e-3, 10))
def test_the_slides_minus_sign_is_an_ascent_step(seed, eta):
    w, x, target = problem(seed, M=1)
    y = scipy.special.expit(w @ x[0])
    close(
        gradient_ascent(w, x, target, eta=eta, n_steps=1).w[1], w - eta * x[0] * (y - target[0]), atol=1e-14
    )


@pytest.mark.parametrize("K", [None, 2, 3])
def test_ascent_reaches_scikit_learns_optimum(K):
    w, x, target = problem(1, M=40, K=K)  # labels independent of x: nothing separates them
    reference = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-10).fit(
        x, target
    )
    found = gradient_ascent(w, x, target, eta=2, n_steps=500)
    y = predict(found.w[-1], x)
    close(y if K else np.column_stack([1 - y, y]), reference.predict_proba(x))
    close(found.L[-1], np.log(reference.predict_proba(x)[np.arange(40), target]).mean(), atol=1e-12)
    if K is None:
        close(found.w[-1], reference.coef_[0])


@pytest.mark.parametrize("K", [None, 3])
def test_L_rises_at_each_step_when_eta_is_small(K):
    w, x, target = problem(2, K=K)
    curvature = np.linalg.eigvalsh(x.T @ x / len(x))[-1] / 2  # no second derivative of L exceeds it
    assert (np.diff(gradient_ascent(w, x, target, eta=0.1 / curvature, n_steps=50).L) > 0).all()


@pytest.mark.parametrize("K", [None, 3])
@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_the_path_follows_the_gradient(K, n_steps):
    start, x, target = problem(3, K=K)
    path, w = gradient_ascent(start, x, target, eta=0.5, n_steps=n_steps), start.copy()
    assert len(path.w) == len(path.L) == n_steps + 1
    for t in range(n_steps + 1):
        close(path.w[t], w, atol=1e-14)
        close(path.L[t], log_likelihood(w, x, target), atol=1e-14)
        w = w + 0.5 * gradient(w, x, target)
    np.testing.assert_array_equal(start, problem(3, K=K)[0])


def test_a_batch_of_all_examples_is_the_full_gradient():
    w, x, target = problem(4, M=7)
    full, batch = (gradient_ascent(w, x, target, eta=1, n_steps=20, batch_size=size) for size in (None, 7))
    close(batch.w, full.w, atol=1e-12)


def test_a_batch_of_one_follows_one_example_and_over_time_each_of_them():
    w, x, target = problem(5, M=4)
    path, L = gradient_ascent(w, x, target, eta=0.1, n_steps=100, batch_size=1)
    steps = [[0.1 * gradient(w, x[[j]], target[[j]]) for j in range(4)] for w in path[:-1]]
    taken = np.isclose(steps, np.diff(path, axis=0)[:, None], rtol=0, atol=1e-13).all(axis=-1)
    assert (taken.sum(axis=1) == 1).all()
    assert taken.any(axis=0).all()
    close(L, [log_likelihood(w, x, target) for w in path], atol=0)  # of all examples


def test_the_seed_decides_the_batches():
    w, x, target = problem(6)
    first, again, other = (
        gradient_ascent(w, x, target, eta=1, n_steps=5, batch_size=2, seed=seed).w for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[1] != other[1]).all()


GOOD = {"w": np.zeros(2), "x": np.ones((3, 2)), "target": [0, 1, 1]}
ascend = partial(gradient_ascent, eta=1, n_steps=1)


@pytest.mark.parametrize("function", [lambda w, x, target: predict(w, x), log_likelihood, gradient, ascend])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"x": np.ones(3)}, "x must have shape (M, n) with M ≥ 1 examples, got (3,)"),
        ({"x": np.ones((0, 2))}, "x must have shape (M, n) with M ≥ 1 examples, got (0, 2)"),
        ({"w": np.zeros(3)}, "w must have shape (2,) or (2, K), K ≥ 1, to fit x of shape (3, 2), got (3,)"),
        (
            {"w": np.zeros((3, 2))},
            "w must have shape (2,) or (2, K), K ≥ 1, to fit x of shape (3, 2), got (3, 2)",
        ),
        ({"w": 0.0}, "w must have shape (2,) or (2, K), K ≥ 1, to fit x of shape (3, 2), got ()"),
        (
            {"w": np.zeros((2, 2, 2))},
            "w must have shape (2,) or (2, K), K ≥ 1, to fit x of shape (3, 2), got (2, 2, 2)",
        ),
        ({"w": [0, np.nan]}, "w must be finite, got nan"),
        ({"x": np.full((3, 2), -np.inf)}, "x must be finite, got -inf"),
    ],
)
def test_weights_or_examples_that_do_not_fit_are_named(function, bad, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(**{**GOOD, **bad})


@pytest.mark.parametrize("function", [log_likelihood, gradient, ascend])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"target": [0, 1]}, "target must have shape (3,), one label per example, got (2,)"),
        ({"target": np.eye(2)[[0, 1, 1]]}, "target must have shape (3,), one label per example, got (3, 2)"),
        ({"target": [0, 1, 2]}, "target must hold integers in 0..1, got 2"),
        ({"target": [0, 1, -1]}, "target must hold integers in 0..1, got -1"),
        ({"target": [0, 1, 0.5]}, "target must hold integers in 0..1, got 0.5"),
        ({"w": np.zeros((2, 3)), "target": [0, 2, 3]}, "target must hold integers in 0..2, got 3"),
    ],
)
def test_labels_that_do_not_fit_are_named(function, bad, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(**{**GOOD, **bad})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *(({"eta": eta}, f"eta must be a positive number, got {eta}") for eta in (0, -0.1, np.nan, np.inf)),
        ({"n_steps": -1}, "n_steps must be a whole number of at least 0, got -1"),
        ({"n_steps": 2.5}, "n_steps must be a whole number of at least 0, got 2.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 4}, "batch_size must be at most 3, the number of examples, got 4"),
    ],
)
def test_bad_settings_of_the_ascent_are_named(bad, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ascend(**GOOD, **bad)


def test_small_integers_do_not_wrap_around():
    z = np.array([[0, 1, 200]])
    np.testing.assert_array_equal(softmax(z.astype(np.uint8)), softmax(z.astype(float)))
    np.testing.assert_array_equal(sigmoid(z.astype(np.uint8)), sigmoid(z.astype(float)))


def test_a_learning_rate_that_leaves_the_numbers_behind_is_named():
    x, target = np.array([[10.0, 20.0], [5.0, -10.0]]), np.array([0, 1])
    with pytest.raises(ValueError, match=r"^eta must leave the weights finite, .*, got 1e\+308$"):
        gradient_ascent(np.zeros(2), x, target, eta=1e308, n_steps=5)


@pytest.mark.parametrize("z", [1.0, np.zeros((2, 0)), [np.inf, 1], "text", [None]])
def test_a_softmax_is_of_finite_numbers(z):
    with pytest.raises(ValueError, match=r"^z must "):
        softmax(z)
