"""Pixels as observations: each is the last few frames of the screen, stacked, and an action is repeated.

    sₜ = (oₜ₋₂, oₜ₋₁, oₜ), oₜ a grey frame of bytes; before the first step all three are the first frame

One frame shows where things are, and three show how they move: the velocity is in their differences. The
agent decides once for several steps of the environment, whose rewards are added.

The pendulum is drawn by arithmetic, many frames at once. Anything else is rendered without a screen.

Slide 62; Mnih et al. (2015) for stacked frames; Lillicrap et al. (2016), section 4, who stack the frames of
the repeated steps, in colour and of 64 × 64 pixels. Here it is one grey frame a decision, of 32 × 32.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Env, Wrapper
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from pgcourse import checks
from pgcourse.environments.classic import MAX_ENVS, ClassicVectorEnv
from pgcourse.environments.display import mujoco_without_screen, without_screen
from pgcourse.environments.tasks import Task

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    Frame = UInt8[np.ndarray, "size size"]
    Frames = UInt8[np.ndarray, "N size size"]
    Stacks = UInt8[np.ndarray, "N n_frames size size"]

MAX_SIZE = 1024  # pixels of a frame's side
MAX_FRAMES = 64  # in a stack
PENDULUM_STEPS = 200  # of an episode
HALF_WIDTH, VIEW = 0.1, 2.4  # of the rod, and the side of the picture, in lengths of the rod
GREY = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue: ITU-R BT.601
RENDERER = "sudo apt-get install libegl1 libgl1-mesa-dri"  # on Debian and Ubuntu


def draw_pendulum(
    cos: Float[np.ndarray, " N"], sin: Float[np.ndarray, " N"], size: int = 32
) -> UInt8[np.ndarray, "N size size"]:
    """Return frames of pendulums: a white rod on black, which covers the pixels at its border in part.

    Args:
        cos, sin: of the angles, 0 upright and positive to the left, as Gymnasium draws it; shape (N,).
        size: pixels of a side, from 1 to ``MAX_SIZE``.
    """
    size = checks.count(1, MAX_SIZE, size=size)
    cos, sin = (np.asarray(checks.numbers(name, x), np.float32) for name, x in (("cos", cos), ("sin", sin)))
    if cos.ndim != 1 or cos.shape != sin.shape:
        raise ValueError(f"cos and sin must have one shape (N,), got {cos.shape} and {sin.shape}")
    checks.finite(cos=cos, sin=sin)
    x, y = _pixel_centres(size)
    along = cos[:, None] * y - sin[:, None] * x  # from the pivot towards the tip
    across = cos[:, None] * x + sin[:, None] * y
    beyond = along - np.clip(along, 0, 1)  # either end
    distance = np.sqrt(across * across + beyond * beyond)
    covered = np.clip((HALF_WIDTH - distance) * np.float32(size / VIEW) + np.float32(0.5), 0, 1)
    return (255 * covered + np.float32(0.5)).astype(np.uint8).reshape(-1, size, size)


@functools.cache
def _pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of all pixels, row by row from the top, in lengths of the rod; shape (size²,)."""
    at = ((np.arange(size) + 0.5) / size - 0.5) * VIEW
    y, x = np.meshgrid(-at, at, indexing="ij")
    return x.ravel().astype(np.float32), y.ravel().astype(np.float32)


def to_grey(picture: np.ndarray, size: int) -> UInt8[np.ndarray, "size size"]:
    """Return a picture in colour, bytes of shape (H, W, 3), as a grey frame: means over areas of pixels."""
    size = checks.count(1, MAX_SIZE, size=size)
    picture = checks.numbers("picture", picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        got = f"{picture.dtype} of shape {picture.shape}"
        raise ValueError(f"picture must hold bytes (uint8), shape (H, W, 3), got {got}")
    grey = picture @ GREY
    height, width = grey.shape
    if height % size == width % size == 0:
        means = grey.reshape(size, height // size, size, width // size).mean(axis=(1, 3))
        return (means + 0.5).astype(np.uint8)
    from PIL import Image

    whole = Image.fromarray((grey + 0.5).astype(np.uint8))
    return np.asarray(whole.resize((size, size), Image.Resampling.BOX))


def _frame_space(n_frames: int, size: int) -> Box:
    """Return the space of stacks of frames."""
    return Box(0, 255, (n_frames, size, size), np.uint8)


def next_stack(stacks: Stacks, frames: Frames) -> Stacks:
    """Return stacks, shape (N, n_frames, …), without their oldest frames and with new ones, shape (N, …)."""
    return np.concatenate([stacks[:, 1:], frames[:, None]], axis=1)


class PixelPendulum(VectorEnv):
    """``n_envs`` pendulums whose observations are stacks of frames; they step and are drawn together.

    Seeds, rewards and ends are those of ``ClassicVectorEnv``, over ``action_repeat`` steps with one action.

    Args:
        n_envs: from 1 to ``MAX_ENVS``.
        size, n_frames, action_repeat: as for ``PixelPendulumTask``.
    """

    def __init__(self, n_envs: int, *, size: int = 32, n_frames: int = 3, action_repeat: int = 2):
        self.size, self.n_frames, self.action_repeat = _checked(size, n_frames, action_repeat)
        if PENDULUM_STEPS % self.action_repeat:
            raise ValueError(f"action_repeat must divide {PENDULUM_STEPS}, got {action_repeat}")
        self._states = ClassicVectorEnv("Pendulum-v1", n_envs)
        self.num_envs, self.render_mode = self._states.num_envs, None
        self.metadata = self._states.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = _frame_space(self.n_frames, self.size)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space = self._states.single_action_space
        self.action_space = self._states.action_space

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode in every environment; the seeds are those of ``ClassicVectorEnv``."""
        s, info = self._states.reset(seed=seed, options=options)
        self._stacks = self._first(s)
        return self._stacks.copy(), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step every environment ``action_repeat`` times with its action, shape (n_envs, 1)."""
        total = np.zeros(self.num_envs)
        for _ in range(self.action_repeat):
            s, r, terminated, truncated, inner = self._states.step(actions)
            total += r
        done, info = terminated | truncated, {}
        if done.any():
            last = np.where(done[:, None], inner["final_obs"], s)
            self._stacks = next_stack(self._stacks, self._draw(last))
            info = {"final_obs": self._stacks.copy(), "_final_obs": done}
            self._stacks[done] = self._first(s[done])
        else:
            self._stacks = next_stack(self._stacks, self._draw(s))
        return self._stacks.copy(), total, terminated, truncated, info

    def _draw(self, s: np.ndarray) -> Frames:
        return draw_pendulum(s[:, 0], s[:, 1], self.size)

    def _first(self, s: np.ndarray) -> Stacks:
        return self._draw(s)[:, None].repeat(self.n_frames, axis=1)


class FrameEnv(Wrapper):
    """An environment whose observations are stacks of frames, and whose actions are repeated.

    Args:
        env: any environment of Gymnasium.
        frame: gives the present frame for the environment's own observation, uint8, shape (size, size).
        size, n_frames, action_repeat: as for ``RenderedTask``. An episode that ends ends the repetition.
    """

    def __init__(
        self, env: Env, frame: Callable[[np.ndarray], Frame], *, size: int, n_frames: int, action_repeat: int
    ):
        super().__init__(env)
        self._frame = frame
        self.size, self.n_frames, self.action_repeat = _checked(size, n_frames, action_repeat)
        self.observation_space = _frame_space(self.n_frames, self.size)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict]:
        s, info = self.env.reset(**options)
        self._stack = self._present(s)[None].repeat(self.n_frames, axis=0)
        return self._stack.copy(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        total = 0.0
        for _ in range(self.action_repeat):
            s, r, terminated, truncated, info = self.env.step(action)
            total += float(r)
            if terminated or truncated:
                break
        self._stack = next_stack(self._stack[None], self._present(s)[None])[0]
        return self._stack.copy(), total, bool(terminated), bool(truncated), info

    def _present(self, s: np.ndarray) -> Frame:
        frame, shape = np.asarray(self._frame(s)), (self.size, self.size)
        if frame.shape != shape or frame.dtype != np.uint8:
            got = f"{frame.dtype} of shape {frame.shape}"
            raise ValueError(f"frame(s) must give bytes (uint8) of shape {shape}, got {got}")
        return frame


class PixelPendulumTask(Task):
    """The pendulum from pixels: ``PixelPendulum`` to train in and to evaluate in.

    Args:
        size: pixels of a frame's side, from 1 to ``MAX_SIZE``.
        n_frames: in a stack, from 1 to ``MAX_FRAMES``.
        action_repeat: steps of the environment for each decision, a divisor of 200.
    """

    def __init__(self, size: int = 32, n_frames: int = 3, action_repeat: int = 2):
        super().__init__("Pendulum-v1")
        self.options = {"size": size, "n_frames": n_frames, "action_repeat": action_repeat}
        PixelPendulum(1, **self.options)  # checks them
        self.name = f"pixel pendulum, {action_repeat} steps a decision"

    @property
    def steps_together(self) -> bool:
        return True

    def make_vector_env(self, n_envs: int) -> PixelPendulum:
        return PixelPendulum(checks.count(1, MAX_ENVS, n_envs=n_envs), **self.options)

    def _make_env(self, **options: Any) -> Env:
        env, size = super()._make_env(**options), self.options["size"]
        return FrameEnv(env, lambda s: draw_pendulum(s[:1], s[1:2], size)[0], **self.options)

    @property
    def fps(self) -> int:
        return super().fps // self.options["action_repeat"]


class RenderedTask(Task):
    """Any task with frames as observations, rendered without a screen.

    MuJoCo's are drawn without shadows and reflections, which takes a fifteenth of the time.

    Args:
        task: a task of single environments, such as ``Task("HalfCheetah-v5")`` or ``ControlSuiteTask``.
        size: pixels of a frame's side, from 1 to ``MAX_SIZE``.
        n_frames: in a stack, from 1 to ``MAX_FRAMES``.
        action_repeat: steps of the environment for each decision, at least 1.

    Making an environment raises a ``RuntimeError`` where there is no library that renders, with the line that
    installs it.
    """

    def __init__(self, task: Task, size: int = 32, n_frames: int = 3, action_repeat: int = 2):
        if not isinstance(task, Task):
            raise ValueError(f"task must be a Task, got {task!r:.80}")
        size, n_frames, action_repeat = _checked(size, n_frames, action_repeat)
        self.task, self.metric, self.time_limit = task, task.metric, task.time_limit
        self.options = {"size": size, "n_frames": n_frames, "action_repeat": action_repeat}
        self.name = f"{task.name} from pixels, {action_repeat} steps a decision"

    @property
    def is_classic(self) -> bool:
        return False

    def make_env(self, **options: Any) -> Env:
        with without_screen():
            env = self.task.make_env(**options or {"render_mode": "rgb_array"})
        physics = getattr(env.unwrapped, "physics", env.unwrapped)  # the Control Suite's, or Gymnasium's own
        draw = functools.partial(_draw_mujoco if hasattr(physics, "data") else _render, self.task.name, env)
        return FrameEnv(env, lambda s: draw(self.options["size"]), **self.options)

    def make_vector_env(self, n_envs: int) -> VectorEnv:
        n_envs = checks.count(1, MAX_ENVS, n_envs=n_envs)
        return SyncVectorEnv([self.make_env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)

    @property
    def fps(self) -> int:
        return max(1, self.task.fps // self.options["action_repeat"])


def _checked(size: int, n_frames: int, action_repeat: int) -> tuple[int, int, int]:
    return (
        checks.count(1, MAX_SIZE, size=size),
        checks.count(1, MAX_FRAMES, n_frames=n_frames),
        checks.count(1, action_repeat=action_repeat),
    )


def _render(name: str, env: Env, size: int) -> Frame:
    with without_screen():
        return to_grey(np.asarray(env.render()), size)


def _draw_mujoco(name: str, env: Env, size: int) -> Frame:
    physics: Any = getattr(env.unwrapped, "physics", env.unwrapped)
    model, data = (getattr(x, "ptr", x) for x in (physics.model, physics.data))
    return to_grey(_screen(name, model, 2 * size).draw(model, data), size)


class _MujocoScreen:
    """Draws MuJoCo's environments of one kind into memory, from their first camera.

    Args:
        model: of one of them: the others' shapes and places may differ, as the target of the reacher does.
        size: pixels of a side.
    """

    def __init__(self, model: Any, size: int):
        import mujoco as mj

        self.picture = np.empty((size, size, 3), np.uint8)
        vis = model.vis
        offscreen, quality = (vis.global_.offwidth, vis.global_.offheight), vis.quality.offsamples
        vis.global_.offwidth = vis.global_.offheight = size
        vis.quality.offsamples = 0
        self.gl = mj.GLContext(size, size)
        self.gl.make_current()
        atexit.register(self.gl.free)
        self.context = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_100)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        (vis.global_.offwidth, vis.global_.offheight), vis.quality.offsamples = offscreen, quality
        self.scene, self.option, self.camera = mj.MjvScene(model, 1000), mj.MjvOption(), mj.MjvCamera()
        for flag in (mj.mjtRndFlag.mjRND_SHADOW, mj.mjtRndFlag.mjRND_REFLECTION):
            self.scene.flags[flag] = 0
        if model.ncam:
            self.camera.type, self.camera.fixedcamid = mj.mjtCamera.mjCAMERA_FIXED, 0
        else:
            mj.mjv_defaultFreeCamera(model, self.camera)
        self.rectangle = mj.MjrRect(0, 0, size, size)

    def draw(self, model: Any, data: Any) -> np.ndarray:
        """Return the picture, bytes of shape (size, size, 3), valid until the next one."""
        import mujoco as mj

        self.gl.make_current()
        everything = mj.mjtCatBit.mjCAT_ALL
        mj.mjv_updateScene(model, data, self.option, None, self.camera, everything, self.scene)
        mj.mjr_render(self.rectangle, self.scene, self.context)
        mj.mjr_readPixels(self.picture, None, self.rectangle, self.context)
        return self.picture[::-1]


_screens: dict[tuple[str, int], _MujocoScreen] = {}  # of this process, by environment and size


def _screen(name: str, model: Any, size: int) -> _MujocoScreen:
    if (name, size) not in _screens:
        with mujoco_without_screen(name):
            try:
                _screens[name, size] = _MujocoScreen(model, size)
            except Exception as error:  # of several kinds, one for each library that may be missing
                raise RuntimeError(
                    f"{name} needs a library that renders without a screen: {RENDERER}, and then begin a new "
                    f"Python process ({type(error).__name__}: {error})"
                ) from error
    return _screens[name, size]
