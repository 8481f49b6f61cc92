"""Frames as observations: drawn, rendered, stacked, with repeated actions."""

import sys

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from pgcourse.environments import frames
from pgcourse.environments.classic import ClassicVectorEnv
from pgcourse.environments.frames import (
    FrameEnv,
    PixelPendulum,
    PixelPendulumTask,
    RenderedTask,
    draw_pendulum,
    next_stack,
    to_grey,
)
from pgcourse.environments.tasks import ControlSuiteTask, Task


def pushed(s):
    """Torques that depend on the frames."""
    return ((s.reshape(len(s), -1).astype(int).sum(axis=1) % 401) / 100 - 2)[:, None].astype(np.float32)


@pytest.mark.parametrize("size", [7, 16, 32])
def test_a_frame_is_how_much_of_a_pixel_the_rod_covers(size):
    """Against a loop over pixels, with the distance from a segment by its definition; rounding may differ by
    one, where single precision rounds to another byte."""
    for theta in np.random.default_rng(0).uniform(-np.pi, np.pi, 8):
        [frame] = draw_pendulum(np.cos([theta]), np.sin([theta]), size)
        tip = np.array([-np.sin(theta), np.cos(theta)])
        for i in range(size):
            for j in range(size):
                p = np.array([(j + 0.5) / size - 0.5, 0.5 - (i + 0.5) / size]) * 2.4
                nearest = np.clip(p @ tip, 0, 1) * tip
                covered = np.clip((0.1 - np.linalg.norm(p - nearest)) * size / 2.4 + 0.5, 0, 1)
                assert abs(int(frame[i, j]) - 255 * covered) <= 1.01


def test_frames_do_not_depend_on_how_many_are_drawn():
    theta = np.linspace(-4, 4, 50)
    together = draw_pendulum(np.cos(theta), np.sin(theta))
    assert (together.shape, together.dtype) == ((50, 32, 32), np.uint8)
    for k in range(50):
        alone = draw_pendulum(np.cos(theta[k : k + 1]), np.sin(theta[k : k + 1]))
        np.testing.assert_array_equal(together[k], alone[0])


def test_a_rod_points_where_gymnasiums_does():
    """Their centres of mass, of the rod's pixels, agree within a pixel; Gymnasium's rod is red."""
    env = Task("Pendulum-v1").make_env(render_mode="rgb_array")
    for theta in (0.0, 0.7, 2.0, -1.2):
        env.reset(seed=0)
        env.unwrapped.state = np.array([theta, 0.0])
        env.unwrapped.last_u = None
        picture = env.render()
        rod = (picture[:, :, 0].astype(int) - picture[:, :, 2]) > 60
        [frame] = draw_pendulum(np.cos([theta]), np.sin([theta]))
        y, x = (coordinate.mean() / len(picture) - 0.5 for coordinate in np.nonzero(rod))
        rows, columns = np.mgrid[:32, :32] + 0.5
        ours = [(c * frame).sum() / frame.sum() / 32 - 0.5 for c in (rows, columns)]
        np.testing.assert_allclose(ours, np.array([y, x]) * 4.4 / 2.4, atol=1.2 / 32)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0.0, 1.0]), r"cos and sin must have one shape \(N,\), got \(1,\) and \(2,\)"),
        (([np.nan], [0.0]), "cos must be finite, got nan"),
        (([1.0], [0.0], 0), "size must be a whole number of at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        draw_pendulum(*arguments)


@pytest.mark.parametrize(("action_repeat", "n_frames"), [(1, 1), (2, 3), (4, 2)])
def test_the_pixel_pendulum_is_the_pendulum_seen_in_frames(action_repeat, n_frames):
    """Rewards, ends and frames over two and a half episodes of three environments, against a loop."""
    options = {"size": 9, "n_frames": n_frames, "action_repeat": action_repeat}
    env, states = PixelPendulum(3, **options), ClassicVectorEnv("Pendulum-v1", 3)
    s, _ = env.reset(seed=4)
    x, _ = states.reset(seed=4)
    history = [draw_pendulum(x[:, 0], x[:, 1], 9)] * n_frames
    for _ in range(500 // action_repeat):
        np.testing.assert_array_equal(s, np.stack(history, axis=1))
        a, total = pushed(s), np.zeros(3)
        for _ in range(action_repeat):
            x, r, terminated, truncated, info = states.step(a)
            total += r
        last = info["final_obs"] if truncated.any() else x
        history = [*history[1:], draw_pendulum(last[:, 0], last[:, 1], 9)]
        s, r, *ends, info = env.step(a)
        np.testing.assert_array_equal(r, total)
        np.testing.assert_array_equal(ends, (terminated, truncated))
        if truncated.any():
            np.testing.assert_array_equal(info["final_obs"], np.stack(history, axis=1))
            history = [draw_pendulum(x[:, 0], x[:, 1], 9)] * n_frames
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.observation_space.contains(s)


def test_one_environment_is_one_of_many():
    """Alone as Gymnasium steps it, and with others; returns of whole episodes, to the last bit."""
    task = PixelPendulumTask(12)
    together = task.evaluate(pushed, 3, seed=2)
    for k in range(3):
        env, total, done = task.make_env(), 0.0, False
        s, _ = env.reset(seed=2 + k)
        while not done:
            s, r, terminated, truncated, _ = env.step(pushed(s[None])[0])
            total, done = total + r, terminated or truncated
        assert total == together[k]
        env.close()


def test_observations_are_copies():
    env = PixelPendulum(2, size=8)
    s, _ = env.reset(seed=0)
    kept = s.copy()
    s[...] = 7
    np.testing.assert_array_equal(env.step(np.zeros((2, 1)))[0][:, 0], kept[:, 1])


def test_a_stack_loses_its_oldest_frame():
    stacks, new = np.arange(6, dtype=np.uint8).reshape(1, 3, 1, 2), np.full((1, 1, 2), 9, np.uint8)
    np.testing.assert_array_equal(next_stack(stacks, new)[0, :, 0, 0], [2, 4, 9])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelPendulumTask(action_repeat=3), "action_repeat must divide 200, got 3"),
        (lambda: PixelPendulumTask(n_frames=0), "n_frames must be a whole number of at least 1, got 0"),
        (lambda: PixelPendulumTask(size=5000), "size must be at most 1,024, got 5,000"),
        (lambda: PixelPendulumTask().make_vector_env(0), "n_envs must be a whole number .*, got 0"),
        (lambda: RenderedTask("Pendulum-v1"), "task must be a Task, got 'Pendulum-v1'"),
        (
            lambda: to_grey(np.zeros((4, 4, 3)), 2),
            r"picture must hold bytes \(uint8\), shape \(H, W, 3\), got float64 of shape \(4, 4, 3\)",
        ),
        (
            lambda: to_grey(np.zeros((4, 4), np.uint8), 2),
            r"picture must hold bytes \(uint8\), .*, got uint8 of shape \(4, 4\)",
        ),
    ],
)
def test_errors_name_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("frame", [np.zeros((4, 4)), np.zeros((4, 5), np.uint8)])
def test_wrong_frames_of_ones_own_are_refused(frame):
    env = FrameEnv(Task("Pendulum-v1").make_env(), lambda s: frame, size=4, n_frames=3, action_repeat=1)
    with pytest.raises(ValueError, match=r"^frame\(s\) must give bytes \(uint8\) of shape \(4, 4\), got "):
        env.reset(seed=0)


def test_grey_is_a_mean_over_areas_of_the_luminance():
    picture = np.random.default_rng(0).integers(256, size=(6, 9, 3), dtype=np.uint8)
    light = picture @ [0.299, 0.587, 0.114]
    expected = [[light[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean() for j in range(3)] for i in range(3)]
    assert abs(to_grey(picture, 3) - np.array(expected)).max() <= 0.5
    assert to_grey(np.full((84, 84, 3), 90, np.uint8), 32).tolist() == [[90] * 32] * 32  # 84 is no multiple


def test_a_task_that_is_drawn_on_a_screen_is_rendered_without_one():
    task = RenderedTask(Task("CartPole-v1"), action_repeat=1)
    env = task.make_vector_env(1)
    s, _ = env.reset(seed=0)
    assert (s.shape, s.dtype) == ((1, 3, 32, 32), np.uint8)
    assert s.std() > 5
    next_s, *_ = env.step(np.array([1]))
    np.testing.assert_array_equal(next_s[:, :-1], s[:, 1:])
    env.close()
    assert task.fps == 50


def test_the_control_suite_is_rendered():
    """Needs a library that renders without a screen: CONTRIBUTING.md. The cart moves, and so do pixels; two
    environments take turns in one context, and each has its own picture."""
    task = RenderedTask(ControlSuiteTask("cartpole", "swingup"), action_repeat=4)
    env = task.make_vector_env(2)
    s, _ = env.reset(seed=0)
    assert s.shape == (2, 3, 32, 32)
    assert (s[0] != s[1]).any()
    for _ in range(3):
        s, *_ = env.step(np.ones((2, 1)))
    assert (s[:, 0] != s[:, 2]).any(axis=(1, 2)).all()
    again, _ = env.reset(seed=0)
    env.close()
    alone = task.make_vector_env(1)
    np.testing.assert_array_equal(alone.reset(seed=0)[0][0], again[0])
    alone.close()
    frame = next(task.render_episode(lambda s: np.zeros((1, 1)), seed=0))
    assert frame.ndim == 3


def test_without_a_renderer_the_error_says_what_to_install(monkeypatch):
    import mujoco

    def no_library(*size):
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(mujoco, "GLContext", no_library)
    monkeypatch.setattr(frames, "_screens", {})
    env = RenderedTask(ControlSuiteTask("cartpole", "swingup")).make_vector_env(1)
    install = "sudo apt-get install libegl1 libgl1-mesa-dri"
    message = rf"^cartpole-swingup needs a library that renders without a screen: {install}, and then "
    with pytest.raises(RuntimeError, match=message):
        env.reset(seed=0)
    env.close()


def test_drawing_needs_no_mujoco(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert PixelPendulumTask().make_vector_env(1).reset(seed=0)[0].shape == (1, 3, 32, 32)
