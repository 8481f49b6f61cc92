"""Schedules, optimisers, gradient steps and the settings of the configs."""

import dataclasses
import importlib
import pkgutil
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pgcourse import algorithms
from pgcourse.algorithms.config import (
    OPTIMIZERS,
    as_schedule,
    gradient_step,
    inverse_time_decay,
    linear_anneal,
    linear_decay,
    make_optimizer,
)

reproducible = settings(derandomize=True, deadline=None, max_examples=60)
rates = st.floats(1e-6, 10)
steps = st.integers(0, 10**8)
lengths = st.floats(1, 1e8)

MODULES = [
    importlib.import_module(m.name) for m in pkgutil.iter_modules(algorithms.__path__, "pgcourse.algorithms.")
]
CONFIGS = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if name.endswith("Config") and dataclasses.is_dataclass(value)
}


class TestSchedules:
    @reproducible
    @given(rates, steps)
    def test_a_number_is_constant_and_a_function_stays_what_it_is(self, eta, n_steps):
        assert as_schedule("eta", eta)(n_steps) == eta

        def schedule(n):
            return eta / (1 + n)

        assert as_schedule("eta", schedule)(n_steps) == schedule(n_steps)

    @reproducible
    @given(rates, lengths, steps)
    def test_with_decay_steps_a_number_falls_inversely_with_time(self, eta, decay_steps, n_steps):
        """1/η(n) grows linearly, by 1/η(0) every ``decay_steps``."""
        schedule = as_schedule("eta", eta, decay_steps)
        assert schedule(n_steps) == inverse_time_decay(eta, decay_steps, n_steps)
        assert_allclose(1 / schedule(n_steps), (1 + n_steps / decay_steps) / eta, rtol=1e-12)

    def test_inverse_time_decay_is_a_half_then_a_third_and_never_zero(self):
        assert [inverse_time_decay(0.6, 50, n) for n in (0, 50, 100)] == pytest.approx([0.6, 0.3, 0.2])
        assert 0 < inverse_time_decay(0.6, 50, 10**12) < 1e-9

    @reproducible
    @given(rates, lengths, steps)
    def test_linear_anneal_interpolates_to_zero_and_then_stays(self, eta, anneal_steps, n_steps):
        expected = np.interp(n_steps, [0, anneal_steps], [eta, 0])
        assert linear_anneal(eta, anneal_steps, n_steps) == pytest.approx(expected, abs=1e-12)

    @reproducible
    @given(st.floats(0, 1), st.integers(1, 10**6), st.integers(0, 2 * 10**6))
    def test_linear_decay_interpolates_from_one_and_then_stays(self, epsilon, exploration_steps, n_steps):
        expected = np.interp(n_steps, [0, exploration_steps], [1, epsilon])
        assert linear_decay(epsilon, exploration_steps, n_steps) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: as_schedule("eta", 0), "eta must be a positive number, got 0"),
            (lambda: as_schedule("eta_actor", -0.1), "eta_actor must be a positive number, got -0.1"),
            (lambda: as_schedule("eta", np.nan), "eta must be a positive number, got nan"),
            (lambda: as_schedule("eta", np.inf), "eta must be a positive number, got inf"),
            (lambda: as_schedule("eta", lambda n: -1.0), "eta must be a positive number, got -1.0"),
            (lambda: as_schedule("eta", 0, 100), "eta must be a positive number, got 0.0"),
            (lambda: as_schedule("eta", 0.1, 0), "eta_decay_steps must be a positive number, got 0"),
            (
                lambda: as_schedule("eta", lambda n: 0.1, 100),
                "eta_decay_steps must be None where eta is a schedule, got 100",
            ),
        ],
    )
    def test_errors_name_the_argument_the_value_and_the_range(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def weights(*numbers):
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


class TestOptimizers:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_a_name_is_pytorchs_optimiser_with_its_learning_rate_and_options(self, name):
        w = weights(1.0, 2.0)
        optimizer = make_optimizer(name, [w], 0.3, maximize=True, weight_decay=0.01)
        assert type(optimizer) is getattr(torch.optim, name)
        [group] = optimizer.param_groups
        assert group["params"] == [w]
        assert (group["lr"], group["maximize"], group["weight_decay"]) == (0.3, True, 0.01)

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_only_adam_is_fused_and_takes_the_same_steps(self, name):
        plain, fused = weights(1.0, -2.0), weights(1.0, -2.0)
        optimizers = make_optimizer(name, [plain], 0.1), make_optimizer(name, [fused], 0.1, fused=True)
        assert bool(optimizers[1].param_groups[0].get("fused")) == (name == "Adam")
        for _ in range(5):
            for w, optimizer in zip((plain, fused), optimizers, strict=True):
                gradient_step(optimizer, ((w - 0.5) ** 4).sum(), 0.1)
        torch.testing.assert_close(plain, fused, rtol=1e-12, atol=0)
        assert (plain != weights(1.0, -2.0)).all()

    @pytest.mark.parametrize("name", ["adam", "LBFGS", ""])
    def test_other_names_are_rejected(self, name):
        with pytest.raises(ValueError, match=f"^optimizer must be one of Adam, RMSprop, SGD, got '{name}'$"):
            make_optimizer(name, [weights(1.0)], 0.1)


class TestGradientStep:
    @pytest.mark.parametrize(("maximize", "sign"), [(False, -1), (True, 1)])
    def test_it_is_a_step_along_the_gradient_with_the_learning_rate_given(self, maximize, sign):
        """w ← w ± η · 2cw: the gradient is that of this step alone, and η the one of this step."""
        w, expected = weights(1.0, -3.0), np.array([1.0, -3.0])
        optimizer = make_optimizer("SGD", [w], 100.0, maximize=maximize)
        for eta, c in [(0.1, 1.0), (0.02, 3.0), (0.3, -0.5)]:
            expected = expected + sign * eta * 2 * c * expected
            gradient_step(optimizer, c * (w**2).sum(), eta)
            assert_allclose(w.detach(), expected, rtol=1e-12)
            assert optimizer.param_groups[0]["lr"] == eta

    @pytest.mark.parametrize(("max_norm", "factor"), [(None, 1), (20.0, 1), (1.0, 0.1)])
    def test_a_long_gradient_is_shortened(self, max_norm, factor):
        """(6, −8) has length 10. PyTorch adds 10⁻⁶ to the length it divides by."""
        w = weights(3.0, -4.0)
        gradient_step(make_optimizer("SGD", [w], 1.0), (w**2).sum(), 0.1, max_norm=max_norm)
        assert_allclose(w.detach(), [3 - 0.6 * factor, -4 + 0.8 * factor], rtol=1e-6)

    def test_two_steps_of_adam_are_those_of_its_paper(self):
        """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², w ← w − η m̂ / (√v̂ + ε); Kingma & Ba (2015)."""
        w, expected = weights(1.0, -2.0), np.array([1.0, -2.0])
        optimizer = make_optimizer("Adam", [w], 0.5)
        m, v = np.zeros(2), np.zeros(2)
        for k, eta in enumerate([0.1, 0.05], start=1):
            g = 4 * expected**3
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            expected = expected - eta * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
            gradient_step(optimizer, (w**4).sum(), eta)
            assert_allclose(w.detach(), expected, rtol=1e-12)


class TestConfigs:
    def test_every_algorithm_has_one(self):
        assert {"ReinforceConfig", "ActorCriticConfig", "PolicyEvaluationConfig", "CriticConfig"} <= set(
            CONFIGS
        )
        assert {"DQNConfig", "DDPGConfig", "TD3Config", "SACConfig", "PPOConfig"} <= set(CONFIGS)

    @pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
    def test_every_setting_has_a_default_and_says_what_it_means(self, config):
        for field in dataclasses.fields(config):
            assert field.default is not dataclasses.MISSING, field.name
            text = field.metadata["help"]
            assert text == text.strip(), field.name
            assert len(text.split()) > 2, field.name

    @pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
    def test_a_config_does_not_change(self, config):
        settings = config()
        for field in dataclasses.fields(config):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(settings, field.name, 1)
        assert settings == config()
