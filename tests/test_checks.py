"""What the public boundary refuses: the error names the argument, the value and what is allowed."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgcourse import checks
from pgcourse.algorithms.actor_critic import ActorCritic
from pgcourse.algorithms.collect import collect_rollout
from pgcourse.algorithms.reinforce import Reinforce
from pgcourse.environments.mdp import MDP
from pgcourse.networks.policies import SoftmaxPolicy
from pgcourse.networks.values import ValueNetwork

NUMBERS = [1, 1.0, np.float32(1), np.int8(1), np.array(1), torch.tensor(1.0), True]
NO_NUMBERS = [None, "1", b"1", [1], (), {}, 1j, np.ones(2), np.array("1"), object()]


@pytest.mark.parametrize("check", [checks.positive, checks.fraction, checks.seed, checks.real])
def test_a_single_real_number_is_asked_for_and_nothing_else(check):
    for value in NUMBERS:
        check(eta=value)
    for value in NO_NUMBERS:
        with pytest.raises(ValueError, match=r"^eta must be a number, got "):
            check(eta=value)


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.5, -1])
def test_a_whole_number_is_finite(value):
    with pytest.raises(ValueError, match=f"^n must be a whole number of at least 0, got {value}$"):
        checks.whole(0, n=value)


@pytest.mark.parametrize("values", [None, "text", [1, [2, 3]], [None], 1j, object()])
def test_what_is_no_array_of_numbers_is_named(values):
    with pytest.raises(ValueError, match=r"^r must "):
        checks.finite(r=values)
    with pytest.raises(ValueError, match=r"^r must "):
        checks.floats("r", values)


class Few(gymnasium.Env):
    """An environment with any observations, truncated after three steps."""

    def __init__(self, space):
        self.observation_space, self.action_space, self.t = space, Discrete(2), 0

    def reset(self, **_):
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, a):
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t == 3, {}


def vector(space):
    return SyncVectorEnv([lambda: Few(space)], autoreset_mode=AutoresetMode.SAME_STEP)


BOX = Box(-1, 1, (4,))


@pytest.mark.parametrize("space", [Dict(x=BOX), Tuple((BOX, BOX))])
def test_observations_that_are_no_arrays_are_refused_with_what_helps(space):
    env, policy = vector(space), SoftmaxPolicy(4, 2)
    for make in (lambda: Reinforce(env, policy), lambda: ActorCritic(env, policy, ValueNetwork(4))):
        with pytest.raises(ValueError, match=r"^env must have observations that are .*FlattenObs"):
            make()


def test_a_final_observation_that_is_missing_is_named():
    class Silent(SyncVectorEnv):
        def step(self, actions):
            *rest, info = super().step(actions)
            return *rest, {name: value for name, value in info.items() if name != "final_obs"}

    env = Silent([lambda: Few(BOX)], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match=r"^env must reset itself .* info\['final_obs'\] .*, got only .*"):
        collect_rollout(env, SoftmaxPolicy(4, 2), 8, np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_probabilities_in_lower_precision_are_divided_by_their_sum(dtype):
    """Ten times 0.1 in float32 is not 1 to nine digits; in double precision its tenth is a tenth."""
    P = np.full((10, 1, 10), 0.1, dtype)
    mdp = MDP(P, np.zeros((10, 1)), np.full(10, 0.1, dtype), gamma=0.9)
    np.testing.assert_allclose(mdp.P, 0.1, rtol=1e-15)
    with pytest.raises(ValueError, match=r"^P must sum to 1, got 0\.9\d* for state 0, action 0$"):
        MDP(P * dtype(0.99), np.zeros((10, 1)), np.full(10, 0.1), gamma=0.9)


@pytest.mark.parametrize(
    "value", [None, "text", np.ones(2), 1j, np.timedelta64(3, "ns"), np.array(3, "m8[Y]"), object()]
)
def test_a_count_is_a_number_and_not_none(value):
    with pytest.raises(ValueError, match=r"^x must be a number, got "):
        checks.count(1, x=value)


def test_a_count_ends_where_memory_and_patience_do():
    counts = [checks.count(1, x=x) for x in (checks.MAX_COUNT, np.int64(1), np.array(2.0))]
    assert counts == [checks.MAX_COUNT, 1, 2]
    assert all(type(count) is int for count in counts)
    assert checks.count(1, math.inf, x=10**40) == 10**40
    for value in (10**40, np.array(1e300)):
        with pytest.raises(ValueError, match=r"^x must be at most 10,000,000, got "):
            checks.count(1, x=value)


def test_one_number_of_an_array_is_none_of_those_allowed():
    assert checks.is_one_of((2, 3), np.int64(2))
    assert not checks.is_one_of((2, 3), np.array([2]))
    with pytest.raises(ValueError, match=r"^x must be one of 2, 3, got array\(\[2\]\)$"):
        checks.one_of((2, 3), x=np.array([2]))


def test_tensors_and_arrays_are_not_mixed():
    with pytest.raises(ValueError, match=r"^v must be a tensor, as r is, got an array$"):
        checks.same_shape(r=torch.zeros(2), v=np.zeros(2))
    with pytest.raises(ValueError, match=r"^v must hold real numbers, got object$"):
        checks.same_shape(r=np.zeros(2), v=np.zeros(2, object))


def test_integers_are_from_0_and_none_of_them_may_have_any_type():
    assert checks.integers("x", []).dtype == checks.integers("x", np.zeros(2, np.uint8)).dtype == int
    for values in ([0.0], [-1], [True]):
        with pytest.raises(ValueError, match=r"^x must hold integers from 0, got \["):
            checks.integers("x", values)
