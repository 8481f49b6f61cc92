"""Against Gymnasium's environments, one after the other, to the last bit."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgcourse.environments.classic import CLASSIC, ClassicVectorEnv

ALL = pytest.mark.parametrize("name", CLASSIC)
CONTINUOUS = ("Pendulum-v1", "MountainCarContinuous-v0")


def gymnasiums(name, n_envs, **options):
    def make():
        return gymnasium.make(name, disable_env_checker=True, **options)

    return SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def held_actions(env, n_steps, rng):
    """Yield random actions, each for some steps, or the cars would not move and the rod would not swing."""
    for t in range(n_steps):
        if t % 60 == 0 or rng.random() < 0.05:
            space = env.single_action_space
            if isinstance(space, gymnasium.spaces.Discrete):
                a = rng.integers(space.n, size=env.num_envs)
            else:
                a = rng.uniform(space.low, space.high, (env.num_envs, 1)).astype(np.float32)
        yield a


def step_both(ours, theirs, a):
    """Step both and compare all that they return; return which episodes ended, and how."""
    s, r, terminated, truncated, info = ours.step(a)
    expected = theirs.step(a)
    for x, y in zip((s, r, terminated, truncated), expected, strict=False):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert (x == y).all()
    assert s.flags.c_contiguous
    done = terminated | truncated
    assert ("final_obs" in info) == done.any()
    if done.any():
        assert (info["_final_obs"] == done).all()
        assert (info["final_obs"][done] == np.stack(expected[4]["final_obs"][done])).all()
    return terminated, truncated


@ALL
def test_ten_environments_agree_with_gymnasiums_over_ten_thousand_steps(name):
    ours, theirs = ClassicVectorEnv(name, 10), gymnasiums(name, 10)
    (s, info), (expected, _) = (env.reset(seed=3) for env in (ours, theirs))
    assert info == {}
    assert s.dtype == expected.dtype
    assert (s == expected).all()
    ends = np.zeros(2, int)
    for a in held_actions(ours, 1000, np.random.default_rng(0)):
        ends += [x.sum() for x in step_both(ours, theirs, a)]
    assert ends.sum() >= 10
    assert ends[0] == 0 or name != "Pendulum-v1"


@pytest.mark.parametrize("name", CONTINUOUS)
def test_actions_in_double_precision_are_computed_with(name):
    """As DDPG's first, random ones are."""
    ours, theirs = ClassicVectorEnv(name, 3), gymnasiums(name, 3)
    for env in (ours, theirs):
        env.reset(seed=5)
    for a in held_actions(ours, 400, np.random.default_rng(1)):
        step_both(ours, theirs, a.astype(float) * 0.999)


STATES = {  # each an edge, or a step before it
    "CartPole-v1": [
        [2.4, 0, 0, 0],
        [-2.4, 0, 0, 0],
        [2.39, 1, 0, 0],
        [0, 0, 12 * 2 * np.pi / 360, 0],
        [0, 0, 0.2, 1],
    ],
    "Acrobot-v1": [
        [np.pi, 0, 0, 0],
        [3.1, -3.1, 4 * np.pi, -9 * np.pi],
        [-3.1, 3.1, -4 * np.pi, 9 * np.pi],
        [2, 0, 1, 0],
    ],
    "Pendulum-v1": [[np.pi, 8], [-np.pi, -8], [100, 8], [-100, -8], [0, 0]],
    "MountainCar-v0": [[-1.2, 0], [-1.19, -0.07], [0.5, 0], [0.49, 0.07], [0.6, 0.07], [0.5, -0.0001]],
    "MountainCarContinuous-v0": [[-1.2, 0], [-1.19, -0.07], [0.45, 0], [0.449, 0.07], [0.6, 0.07]],
}


@ALL
@pytest.mark.parametrize("extreme", ["low", "high"])
def test_the_edges_are_gymnasiums(name, extreme):
    """Walls, goals, bounds of velocities, angles of more than a turn, with the extreme actions."""
    states = np.array(STATES[name], np.float32 if name == "MountainCarContinuous-v0" else float)
    ours, theirs = ClassicVectorEnv(name, len(states)), gymnasiums(name, len(states))
    for env in (ours, theirs):
        env.reset(seed=0)
    ours._state = states.T.astype(float)
    for env, state in zip(theirs.envs, states, strict=True):
        env.unwrapped.state = state.copy()
    space = ours.single_action_space
    a = [0, space.n - 1] if isinstance(space, gymnasium.spaces.Discrete) else [space.low, space.high]
    for _ in range(5):
        step_both(ours, theirs, np.array([a[extreme == "high"]] * len(states)))


@pytest.mark.parametrize(("name", "a"), [("CartPole-v1", 0), ("MountainCar-v0", 1), ("Pendulum-v1", [1.0])])
def test_an_episode_may_end_in_both_ways_at_once(name, a):
    limit = gymnasium.spec(name).max_episode_steps
    ours, theirs = ClassicVectorEnv(name, 1), gymnasiums(name, 1)
    for env in (ours, theirs):
        env.reset(seed=0)
    ours._steps[:] = theirs.envs[0]._elapsed_steps = limit - 1
    if name != "Pendulum-v1":
        state = np.array([3.0, 0, 0, 0] if name == "CartPole-v1" else [0.55, 0.0])
        ours._state[:, 0], theirs.envs[0].unwrapped.state = state, state.copy()
    terminated, truncated = step_both(ours, theirs, np.array([a], np.float32 if name in CONTINUOUS else int))
    assert truncated
    assert terminated == (name != "Pendulum-v1")


def test_without_a_time_limit_nothing_is_truncated():
    ours, theirs = (
        ClassicVectorEnv("Pendulum-v1", 2, time_limit=False),
        gymnasiums("Pendulum-v1", 2, max_episode_steps=-1),
    )
    for env in (ours, theirs):
        env.reset(seed=1)
    for a in held_actions(ours, 450, np.random.default_rng(2)):
        assert not np.any(step_both(ours, theirs, a))


@ALL
def test_seeds_may_be_a_list_and_streams_go_on_without_one(name):
    ours, theirs = ClassicVectorEnv(name, 3), gymnasiums(name, 3)
    for seed in ([7, 1, 7], None, 4, [9, None, 2]):
        (s, _), (expected, _) = (env.reset(seed=seed) for env in (ours, theirs))
        assert (s == expected).all()
        for a in held_actions(ours, 30, np.random.default_rng(3)):
            step_both(ours, theirs, a)
    assert (ours.reset()[0] != ours.reset()[0]).any()


@ALL
def test_it_is_a_vector_environment(name):
    """Spaces, metadata and shapes as Gymnasium asks for; what is returned is not changed afterwards."""
    ours, theirs = ClassicVectorEnv(name, 4), gymnasiums(name, 4)
    for space in ("single_observation_space", "observation_space", "single_action_space", "action_space"):
        assert getattr(ours, space) == getattr(theirs, space)
    assert ours.metadata == theirs.metadata
    assert ours.spec == theirs.spec  # a checkpoint says in which environment it was
    assert ours.num_envs == 4
    s, _ = ours.reset(seed=0)
    ours.action_space.seed(0)
    before = [s]
    copies = [s.copy()]
    for _ in range(30):
        s, r, terminated, truncated, _ = ours.step(ours.action_space.sample())
        assert s in ours.observation_space
        assert r.shape == terminated.shape == truncated.shape == (4,)
        assert (r.dtype, terminated.dtype, truncated.dtype) == (float, bool, bool)
        before.append(s)
        copies.append(s.copy())
    assert all((x == y).all() for x, y in zip(before, copies, strict=True))
    ours.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassicVectorEnv("LunarLander-v3", 1), "name must be one of CartPole-v1, .*, got 'Lunar"),
        (lambda: ClassicVectorEnv("CartPole-v1", 0), "n_envs must be a whole number of at least 1, got 0"),
        (lambda: ClassicVectorEnv("CartPole-v1", 10_001), "n_envs must be at most 10,000, got 10,001"),
        (lambda: ClassicVectorEnv("CartPole-v1", 2).step(np.zeros(2, int)), "reset must be called before"),
        (lambda: ready("CartPole-v1").reset(seed=[1]), "seed must have 2 entries, one an environment, got 1"),
        (lambda: ready("CartPole-v1").reset(options={"low": 0}), "options must be None"),
        (lambda: ready("CartPole-v1").step(np.zeros(3, int)), r"actions must have shape \(2,\), got \(3,\)"),
        (
            lambda: ready("CartPole-v1").step(np.array([0, 2])),
            r"actions must be integers in 0\.\.1, got int64 from 0",
        ),
        (
            lambda: ready("Acrobot-v1").step(np.array([-1, 2])),
            r"actions must be integers in 0\.\.2, got int64 from -1",
        ),
        (
            lambda: ready("Acrobot-v1").step(np.array([0.5, 1])),
            r"actions must be integers in 0\.\.2, got float64",
        ),
        (lambda: ready("Pendulum-v1").step(np.array([[np.nan], [0]])), "actions must be finite, got nan"),
        (lambda: ready("Pendulum-v1").reset(seed=-1), "seed must be a whole number of at least 0, got -1"),
        (lambda: ready("Pendulum-v1").reset(seed="ab"), "seed must be a number, got 'ab'"),
        (lambda: ready("Pendulum-v1").step(np.zeros(2)), r"actions must have shape \(2, 1\), got \(2,\)"),
    ],
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def ready(name):
    env = ClassicVectorEnv(name, 2)
    env.reset(seed=0)
    return env
