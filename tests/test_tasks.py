"""Against single environments, stepped one after the other."""

import itertools
import os
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from pgcourse.environments import pong
from pgcourse.environments.tasks import (
    MAX_VIDEO_SECONDS,
    AccessControlTask,
    ContinuingTask,
    ControlSuiteTask,
    PendulumTask,
    PongTask,
    Task,
)
from pgcourse.environments.worlds import access_control
from pgcourse.experiments import recipes


def upright(s):
    """Push the cart to where the pole falls: then CartPole-v1 lasts until it is truncated, or nearly so."""
    return (s[:, 2] + 0.3 * s[:, 3] > 0).astype(int)


def leaning(s):
    """Ignore the angular velocity: then it lasts some 40 steps."""
    return (s[:, 2] > 0).astype(int)


def swinging(s):
    return np.sign(s[:, 2:]).astype(np.float32)


def up(x):
    return np.full(len(x), pong.UP)


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(scope="module")
def game():
    return list(PongTask("PongDeterministic-v4").render_episode(up, seed=4))


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("CartPole-v1", leaning),
        ("CartPole-v1", upright),
        ("MountainCar-v0", lambda s: (s[:, 1] > 0) * 2),
        ("Pendulum-v1", swinging),
    ],
)
def test_evaluate_agrees_with_single_environments(name, act):
    """One whole episode each, whether it terminates (pole, car) or is truncated (pendulum)."""
    n, seed, alone = 12, 70, []
    for k in range(n):
        env = gymnasium.make(name)
        s, _ = env.reset(seed=seed + k)
        total = done = 0
        while not done:
            s, r, terminated, truncated, _ = env.step(act(s[None])[0])
            total, done = total + r, terminated or truncated
        alone.append(total)
        env.close()
    returns = Task(name).evaluate(act, n, seed)
    assert returns.shape == (n,)
    np.testing.assert_allclose(returns, alone, rtol=1e-12)
    assert len(set(alone)) > 1 or name.startswith("CartPole")


def test_actions_beyond_the_bounds_of_a_robot_are_clipped():
    """Its control costs are else those of the unclipped actions, in training and in evaluation."""
    task = Task("HalfCheetah-v5")
    one, ten = (
        task.evaluate(lambda s, size=size: np.full((len(s), 6), size, np.float32), 1, 0) for size in (1, 10)
    )
    assert one == ten
    env = task.make_vector_env(2)
    assert env.single_action_space.high.max() == 1  # it still says so
    env.close()


def test_evaluate_waits_for_the_longest_episode():
    assert (Task("CartPole-v1").evaluate(upright, 3, 0) == 500).all()
    returns = Task("CartPole-v1").evaluate(leaning, 50, 0)
    assert returns.min() < returns.mean() < returns.max()


def test_environments_reset_themselves_in_the_step_that_ends_an_episode():
    env = Task("CartPole-v1").make_vector_env(3)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    s, _ = env.reset(seed=0)
    ends = 0
    for _ in range(200):
        s, r, terminated, truncated, _ = env.step(leaning(s))
        done = terminated | truncated
        assert (np.abs(s[done]) <= 0.05).all()  # where episodes begin
        assert (r == 1).all()
        ends += done.sum()
    assert ends > 5
    env.close()


def test_each_environment_has_its_own_initial_state():
    env = Task("CartPole-v1").make_vector_env(4)
    s, _ = env.reset(seed=0)
    assert len(np.unique(s, axis=0)) == 4
    env.close()


def test_an_episode_is_rendered_from_its_first_state_to_its_last():
    frames = list(Task("CartPole-v1").render_episode(leaning, seed=7))
    [steps] = Task("CartPole-v1").evaluate(leaning, 1, seed=7)  # reward 1 per step
    assert len(frames) == steps + 1
    assert {frame.shape for frame in frames} == {(400, 600, 3)}
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint8)}
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    s, _ = env.reset(seed=7)
    for frame in frames[:5]:
        assert (frame == env.render()).all()
        s, *_ = env.step(leaning(s[None])[0])
    env.close()
    assert all((a != b).any() for a, b in itertools.pairwise(frames[::3]))


def test_the_same_seed_renders_the_same_episode_and_another_seed_another():
    episodes = [
        np.array(list(itertools.islice(Task("CartPole-v1").render_episode(leaning, seed), 10)))
        for seed in (1, 1, 2)
    ]
    assert (episodes[0] == episodes[1]).all()
    assert (episodes[0] != episodes[2]).any()


@pytest.mark.parametrize(("name", "fps"), [("CartPole-v1", 50), ("Pendulum-v1", 30)])
def test_a_video_runs_in_real_time(name, fps):
    """A step of the pole's equations of motion is 0.02 s; Gymnasium gives 30 for the others."""
    assert Task(name).fps == fps


def test_a_rendered_episode_of_pong_is_one_game(game):
    """Its length is that of the same game counted point by point."""
    won = lost = n = 0
    for step in pong.iter_steps(lambda step: pong.UP, 10_000, seed=4, screens=False):
        won, lost, n = won + (step.r > 0), lost + (step.r < 0), n + 1
        if max(won, lost) == 21:
            break
    assert len(game) == n < MAX_VIDEO_SECONDS * PongTask.fps
    assert {(frame.shape, frame.dtype) for frame in game} == {((210, 160, 3), np.dtype(np.uint8))}
    assert (game[0] != game[-1]).any()
    assert PongTask.fps == 60 / pong.FRAME_SKIP


def test_an_endless_rally_is_cut_short(monkeypatch):
    monkeypatch.setattr("pgcourse.environments.tasks.MAX_VIDEO_SECONDS", 2)
    assert len(list(PongTask("PongDeterministic-v4").render_episode(up, seed=4))) == 2 * PongTask.fps


def test_pong_is_evaluated_by_whole_games():
    """As ``pong.evaluate`` does. A policy that is always UP loses every game."""
    task = PongTask("PongDeterministic-v4")
    score_differences = task.evaluate(up, 2, seed=0)
    assert score_differences.dtype == float
    assert (score_differences == pong.evaluate(up, 2, seed=0)).all()
    assert ((score_differences >= -21) & (score_differences < 0)).all()


def test_pong_is_trained_on_points():
    env = PongTask("ALE/Pong-v5").make_vector_env(2)
    assert isinstance(env, pong.Pong)
    assert env.num_envs == 2
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    env.close()


def test_every_task_names_its_metric():
    tasks = [
        Task("CartPole-v1"),
        PongTask("ALE/Pong-v5"),
        ContinuingTask("Pendulum-v1", 10),
        AccessControlTask(10),
    ]
    metrics = ["return", "score difference", "average reward", "average reward"]
    assert [task.metric for task in tasks] == metrics


def test_a_continuing_task_never_ends():
    """Not after 200 steps as Pendulum-v1. Without a reset the angle moves by its velocity times 0.05 s."""
    env = ContinuingTask("Pendulum-v1", 1).make_vector_env(2)
    s, _ = env.reset(seed=0)
    for _ in range(500):
        before = np.arctan2(s[:, 1], s[:, 0])
        s, _, terminated, truncated, _ = env.step(swinging(s))
        assert not (terminated | truncated).any()
        turned = np.angle(np.exp(1j * (np.arctan2(s[:, 1], s[:, 0]) - before)))
        np.testing.assert_allclose(turned, 0.05 * s[:, 2], atol=1e-4)
    env.close()


@pytest.mark.parametrize(("burn_in", "n_steps"), [(0, 30), (250, 7)])
def test_a_continuing_task_is_evaluated_by_its_average_reward_after_burn_in(burn_in, n_steps):
    env, rewards = gymnasium.make("Pendulum-v1", max_episode_steps=-1), []
    s, _ = env.reset(seed=6)
    for _ in range(burn_in + n_steps):
        s, r, *_ = env.step(swinging(s[None])[0])
        rewards.append(r)
    env.close()
    averages = ContinuingTask("Pendulum-v1", n_steps, burn_in).evaluate(swinging, 3, seed=5)
    assert averages.shape == (3,)
    assert averages[1] == pytest.approx(np.mean(rewards[burn_in:]))


def test_a_continuing_task_is_rendered_for_as_long_as_it_is_evaluated():
    assert len(list(ContinuingTask("Pendulum-v1", 5).render_episode(swinging, seed=0))) == 5
    with pytest.raises(ValueError, match="access-control cannot be rendered"):
        AccessControlTask(10).render_episode(swinging, seed=0)


def test_a_random_kick_changes_the_velocity_and_nothing_else():
    """Kicked in every step, and in one of four: as often as that, to within 5.5 standard deviations."""
    for chance, n in ((1.0, 50), (0.25, 2000)):
        kicked, quiet = (PendulumTask(1, kick_probability=p).make_vector_env(1) for p in (chance, 0))
        s, _ = kicked.reset(seed=3)
        quiet.reset(seed=3)
        n_kicks = 0
        for _ in range(n):
            quiet.envs[0].unwrapped.state = kicked.envs[0].unwrapped.state.copy()
            (s, r, terminated, truncated, _), (expected, r_expected, *_) = (
                env.step(swinging(s)) for env in (kicked, quiet)
            )
            assert (s[:, :2] == expected[:, :2]).all()
            assert r == r_expected
            assert abs(s[0, 2]) <= 8
            assert s[0, 2] == pytest.approx(kicked.envs[0].unwrapped.state[1], abs=1e-6)
            assert not (terminated | truncated).any()
            n_kicks += s[0, 2] != expected[0, 2]
        assert abs(n_kicks - n * chance) <= 5.5 * (n * chance * (1 - chance)) ** 0.5
        for env in (kicked, quiet):
            env.close()


def test_accepting_every_customer_earns_the_exact_average_reward():
    """To within six standard errors of 100 queues over 1,000 steps, which chance exceeds once in 10⁸."""
    rewards = AccessControlTask(1000, burn_in=200).evaluate(lambda s: np.ones(len(s), int), 100, seed=0)
    exact = access_control().average_reward(np.tile([-50, 50], (44, 1))).r_bar
    assert abs(rewards.mean() - exact) < 6 * rewards.std(ddof=1) / 10


def pushed(s):
    return np.full((len(s), 1), 0.3, np.float32)


def test_the_control_suite_agrees_with_dm_control():
    """One episode of 1,000 steps with the same random numbers; it is truncated and never terminates."""
    from dm_control import suite

    expected = suite.load("cartpole", "swingup", task_kwargs={"random": np.random.RandomState(5)})
    step, total, n = expected.reset(), 0.0, 0
    while not step.last():
        step = expected.step([0.3])
        total, n = total + step.reward, n + 1
    assert n == 1000
    assert step.discount == 1  # not terminated
    task = ControlSuiteTask("cartpole", "swingup")
    assert task.evaluate(pushed, 1, seed=5) == pytest.approx(total)
    env = task.make_vector_env(2)
    for seed in (None, 5):
        s, _ = env.reset(seed=seed)
        assert s.shape == (2, 5)
        assert (s[0] != s[1]).any()
    ends = [env.step(pushed(s))[2:4] for _ in range(1000)]
    assert not any(terminated.any() for terminated, _ in ends)
    assert [i for i, (_, truncated) in enumerate(ends) if truncated.any()] == [999]
    env.close()
    assert (task.name, task.fps, ControlSuiteTask("reacher", "easy").fps) == ("cartpole-swingup", 100, 50)


def test_observations_of_the_suite_can_be_transformed():
    """As the recipes do with the reacher, whose shoulder turns round and round under a constant torque."""
    task = recipes.get("ddpg/suite-reacher-easy").task
    envs = [ControlSuiteTask("reacher", "easy").make_vector_env(2), task.make_vector_env(2)]
    (raw, _), (x, _) = (env.reset(seed=1) for env in envs)
    for _ in range(300):
        assert (x.shape, x.dtype) == ((2, *envs[1].single_observation_space.shape), raw.dtype)
        expected = np.column_stack(
            [np.cos(raw[:, 0]), np.sin(raw[:, 0]), raw[:, 1], 20 * raw[:, 2:4], raw[:, 4:] / 2]
        )
        np.testing.assert_allclose(x, expected, rtol=1e-12)
        (raw, *_), (x, *_) = (env.step(np.tile([0.3, 0.0], (2, 1))) for env in envs)
    assert (raw[:, 0] > 2 * np.pi).all()
    for env in envs:
        env.close()


def test_warnings_of_deprecated_models_are_not_shown(capfd, caplog, tmp_path, monkeypatch):
    """MuJoCo writes that of the cheetah neither to the screen nor into a file; other warnings are logged."""
    import mujoco

    monkeypatch.chdir(tmp_path)
    for name in ("HalfCheetah-v5", "Hopper-v5"):
        Task(name).make_vector_env(1).close()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    warn = mujoco.get_mju_user_warning()
    warn("an attribute is deprecated")
    assert not caplog.records
    warn("nan in qacc")
    assert caplog.messages == ["nan in qacc"]


@pytest.mark.parametrize(
    "task", [Task("HalfCheetah-v5"), ControlSuiteTask("cartpole", "swingup")], ids=lambda task: task.name
)
def test_a_missing_package_is_named(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    install = r'pip install "pgcourse\[control\]"' + (
        ", and pip install --no-deps dm-control" if sys.version_info >= (3, 13) else ""
    )
    with pytest.raises(RuntimeError, match=rf"^{task.name} needs more than pgcourse itself: {install} \("):
        task.make_vector_env(1)
    assert Task("Pendulum-v1").evaluate(swinging, 1, 0) < 0


@pytest.mark.parametrize(
    ("set_up", "found", "gl"),
    [({}, "libEGL.so.1", "egl"), ({}, None, "off"), ({"MUJOCO_GL": "osmesa"}, "x", "osmesa")],
)
def test_mujoco_renders_without_a_display(set_up, found, gl, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.util.find_library", {"EGL": found}.get)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_up.items():
        monkeypatch.setenv(name, value)
    Task("Reacher-v5").make_vector_env(1).close()
    assert os.environ["MUJOCO_GL"] == gl


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Task("CartPol-v1"),
            "^name must be an environment of Gymnasium, got 'CartPol-v1': .*CartPole",
        ),
        (
            lambda: Task("CartPole-v9"),
            "^name must be an environment of Gymnasium, got 'CartPole-v9': Environment version `v9`",
        ),
        (
            lambda: Task(""),
            "^name must be an environment of Gymnasium, got '': Malformed environment ID",
        ),
        (
            lambda: Task("CartPole-v1").make_vector_env(0),
            "^n_envs must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: Task("CartPole-v1").evaluate(leaning, 0, 0),
            "^n_episodes must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: Task("CartPole-v1").evaluate(leaning, 1, -1),
            "^seed must be a whole number of at least 0, got -1$",
        ),
        (
            lambda: next(Task("CartPole-v1").render_episode(leaning, -1)),
            "^seed must be a whole number of at least 0, got -1$",
        ),
        (lambda: ContinuingTask("Pendulum-v1", 0), "^n_steps must be a whole number of at least 1, got 0$"),
        (
            lambda: ContinuingTask("Pendulum-v1", 1, -1),
            "^burn_in must be a whole number of at least 0, got -1$",
        ),
        (
            lambda: ContinuingTask("Pendulum-v1", 1).make_vector_env(0),
            "^n_envs must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: ContinuingTask("Pendulum-v1", 1).evaluate(swinging, 0, 0),
            "^n_episodes must be a whole number of at least 1, got 0$",
        ),
        (lambda: PendulumTask(1, kick_probability=1.5), r"^kick_probability must be in \[0, 1\], got 1.5$"),
        (lambda: PendulumTask(0), "^n_steps must be a whole number of at least 1, got 0$"),
        (lambda: AccessControlTask(0), "^n_steps must be a whole number of at least 1, got 0$"),
        (
            lambda: AccessControlTask(1).evaluate(leaning, 1, -1),
            "^seed must be a whole number of at least 0, got -1$",
        ),
        (
            lambda: ControlSuiteTask("cartpole", "swingup").make_vector_env(0),
            "^n_envs must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: ControlSuiteTask("cartpole", "fly").make_vector_env(1),
            "'fly' does not exist in domain 'cartpole'",
        ),
        (lambda: ControlSuiteTask("cart", "swingup").make_vector_env(1), "'cart' does not exist"),
        (
            lambda: PongTask("ALE/Pong-v5").make_vector_env(0),
            "^n_envs must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: PongTask("ALE/Pong-v5").evaluate(up, 0, 0),
            "^n_episodes must be a whole number of at least 1, got 0$",
        ),
        (
            lambda: PongTask("ALE/Pong-v5").evaluate(up, 1, -1),
            "^seed must be a whole number of at least 0, got -1$",
        ),
        (
            lambda: next(PongTask("ALE/Pong-v5").render_episode(up, -1)),
            "^seed must be a whole number of at least 0, got -1$",
        ),
        (
            lambda: PongTask("Breakout").make_vector_env(1),
            "^game must be one of PongDeterministic-v4, ALE/Pong-v5, got 'Breakout'$",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
