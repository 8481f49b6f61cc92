"""Settings between configs, JSON and text, there and back."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcourse.experiments.settings import (
    FUNCTIONS,
    as_json,
    converted_like,
    fields_of,
    format_value,
    from_json,
    nearest,
)
from pgcourse.maths.returns import batch_mean_baseline, leave_one_out_baseline, reward_to_go, total_return

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
layers = st.lists(st.integers(1, 2000), min_size=1, max_size=4)


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ((64, 64), "64x64"),
            ([400, 300, 1], "400x300x1"),
            ((64,), "64"),
            (0.001, "0.001"),
            (1_000_000, "1000000"),
            (True, "True"),
            (None, "None"),
            ("batch-mean", "batch-mean"),
        ],
    )
    def test_values_are_written_as_the_command_line_takes_them(self, value, text):
        assert format_value(value) == text

    @reproducible
    @given(layers)
    def test_sizes_are_read_as_they_are_written(self, sizes):
        assert converted_like("hidden_sizes", [1], format_value(sizes)) == sizes
        assert converted_like("hidden_sizes", [1], format_value(tuple(sizes))) == sizes

    @reproducible
    @given(st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.booleans())
    def test_so_is_every_number(self, value):
        """With a default of the same type."""
        read = converted_like("x", type(value)(1), format_value(value))
        assert (type(read), read) == (type(value), value)


class TestConversion:
    @pytest.mark.parametrize(
        ("default", "value", "expected"),
        [
            (2000, "500", 500),
            (2000, 500.0, 500),
            (2000, np.int64(500), 500),
            (2000, np.float64(500), 500),
            (0.5, "1e-3", 0.001),
            (0.5, 1, 1.0),
            (0.5, np.float32(0.25), 0.25),
            (True, "false", False),
            (True, "TRUE", True),
            (True, False, False),
            ("Adam", "SGD", "SGD"),
            (None, None, None),
            (None, "None", None),
            (None, "500", 500.0),
            (None, 500, 500.0),
            ([64, 64], "32", [32]),
            ([64], "32x16x8", [32, 16, 8]),
            ([64], (32, 16), [32, 16]),
            ([64], [32.0, 16], [32, 16]),
            ([64], np.array([32, 16]), [32, 16]),
            ([64], [], []),
        ],
    )
    def test_a_value_takes_the_type_of_the_default(self, default, value, expected):
        converted = converted_like("x", default, value)
        assert (type(converted), converted) == (type(expected), expected)
        if isinstance(converted, list):
            assert all(type(size) is int for size in converted)

    @pytest.mark.parametrize(
        ("default", "value", "message"),
        [
            (2000, "4.5", "x must be of type int, as its default 2000, got '4.5'"),
            (2000, 4.5, "x must be of type int, as its default 2000, got 4.5"),
            (2000, True, "x must be of type int, as its default 2000, got True"),
            (2000, float("inf"), "x must be of type int, as its default 2000, got inf"),
            (2000, float("nan"), "x must be of type int, as its default 2000, got nan"),
            (0.5, "fast", "x must be of type float, as its default 0.5, got 'fast'"),
            (0.5, [0.1], "x must be of type float, as its default 0.5, got [0.1]"),
            (0.5, None, "x must be of type float, as its default 0.5, got None"),
            (True, "maybe", "x must be of type bool, as its default True, got 'maybe'"),
            (True, 1, "x must be of type bool, as its default True, got 1"),
            (None, "never", "x must be of type float, as its default None, got 'never'"),
            (None, True, "x must be of type float, as its default None, got True"),
            ([64, 32], "64xlarge", "x must be sizes such as 64x32, one for each layer, got '64xlarge'"),
            ([64, 32], "64x", "x must be sizes such as 64x32, one for each layer, got '64x'"),
            ([64, 32], "", "x must be sizes such as 64x32, one for each layer, got ''"),
            ([64, 32], "64,32", "x must be sizes such as 64x32, one for each layer, got '64,32'"),
            ([64, 32], "64.5", "x must be sizes such as 64x32, one for each layer, got '64.5'"),
            ([64, 32], 64, "x must be sizes such as 64x32, one for each layer, got 64"),
            ([64, 32], None, "x must be sizes such as 64x32, one for each layer, got None"),
            ([64, 32], [[64]], "x must be sizes such as 64x32, one for each layer, got [[64]]"),
            ([64, 32], [64.5], "x must be sizes such as 64x32, one for each layer, got [64.5]"),
            ([64, 32], [True], "x must be sizes such as 64x32, one for each layer, got [True]"),
        ],
    )
    def test_a_value_of_another_type_is_named(self, default, value, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            converted_like("x", default, value)


class TestJSON:
    @pytest.mark.parametrize(
        ("name", "value", "stored"),
        [
            ("hidden_sizes", (64, 32), [64, 32]),
            ("eta", 0.01, 0.01),
            ("eta_decay_steps", None, None),
            ("standardize", True, True),
            ("optimizer", "Adam", "Adam"),
            ("return_fn", total_return, "total"),
            ("return_fn", reward_to_go, "reward-to-go"),
            ("baseline", None, "none"),
            ("baseline", batch_mean_baseline, "batch-mean"),
            ("baseline", leave_one_out_baseline, "leave-one-out"),
        ],
    )
    def test_there_and_back(self, name, value, stored):
        """Functions by name, tuples as lists."""
        assert as_json(name, value) == stored
        assert from_json(name, stored) == value
        assert type(from_json(name, stored)) is type(value)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_a_function_of_another_name_raises_an_error(self, name):
        allowed = ", ".join(FUNCTIONS[name])
        with pytest.raises(ValueError, match=f"^{name} must be one of {allowed}, got 'to-go'$"):
            from_json(name, "to-go")


def test_fields_of_a_config_are_its_values_by_name():
    @dataclasses.dataclass(frozen=True)
    class Config:
        eta: float = 0.5
        hidden_sizes: tuple[int, ...] = (3, 4)

    assert fields_of(Config(eta=2.0)) == {"eta": 2.0, "hidden_sizes": (3, 4)}


def test_a_wrong_name_is_answered_by_those_most_like_it():
    names = ["eta", "eta_critic", "gamma", "batch_size"]
    assert nearest("gama", names) == "; did you mean gamma?"
    assert nearest("eta_crtic", names).startswith("; did you mean eta_critic")
    assert nearest("xyz", names) == "; there are eta, eta_critic, gamma, batch_size"
