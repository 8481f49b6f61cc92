"""What there is to learn: worlds to train in, to be judged in, and to be filmed in.

A task makes vector environments that reset themselves in the step that ends an episode, plays a policy for a number of whole episodes,
and films one.
"""

import contextlib
import ctypes.util
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import Env, Wrapper
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from pgcourse.environments.display import without_screen
from pgcourse.environments.pong import GAMES
from pgcourse.environments.worlds import access_control

LONGEST = 300  # seconds of a film of Pong, where a rally may go on for ever
Act = Callable[[np.ndarray], np.ndarray]  # from observations (n, ...) to as many actions


class Task:
    """An environment of Gymnasium, named by its id.

    Args:
        name: such as "CartPole-v1".

    Raises:
        ValueError: if Gymnasium knows no such environment.
    """

    score = "return"  # what ``play`` returns, for the labels of figures

    def __init__(self, name: str):
        import gymnasium

        try:
            self.spec = gymnasium.spec(name)
        except gymnasium.error.Error as error:
            raise ValueError(
                f"name must be that of an environment of Gymnasium, got {name!r}: {error}"
            ) from error
        self.name = name

    def make(self, n_envs: int) -> VectorEnv:
        """Return that many environments side by side.

        Raises:
            ValueError: if ``n_envs`` < 1.
        """
        _at_least(1, n_envs=n_envs)
        return SyncVectorEnv([self._one] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)

    def _one(self, **options) -> Env:
        import gymnasium

        with _mujoco(self.name) if "mujoco" in str(self.spec.entry_point) else contextlib.nullcontext():
            return gymnasium.make(
                self.spec, disable_env_checker=True, **options
            )  # the checker looks at every step

    def play(self, act: Act, n_episodes: int, seed: int) -> np.ndarray:
        """Return the undiscounted return of each of ``n_episodes`` fresh episodes, shape (n_episodes,).

        Each environment plays one, for among the first to finish the short ones would be too many.

        Raises:
            ValueError: if ``n_episodes`` < 1 or ``seed`` < 0.
        """
        _at_least(1, n_episodes=n_episodes)
        _at_least(0, seed=seed)
        env = self.make(n_episodes)
        s, _ = env.reset(seed=seed)
        returns, going = np.zeros(n_episodes), np.ones(n_episodes, bool)
        while going.any():
            s, r, terminated, truncated, _ = env.step(act(s))
            returns += r * going
            going &= ~(terminated | truncated)
        env.close()
        return returns

    def film(self, act: Act, seed: int) -> Iterator[Any]:
        """Yield the pictures of one episode, each of shape (H, W, 3), uint8.

        Raises:
            ValueError: if ``seed`` < 0.
        """
        _at_least(0, seed=seed)
        with without_screen():
            env = self._one(render_mode="rgb_array")
            s, _ = env.reset(seed=seed)
            picture = env.render()
        over = False
        while not over:
            yield picture
            s, _, terminated, truncated, _ = env.step(act(s[None])[0])
            over, picture = terminated or truncated, env.render()
        yield picture
        env.close()

    @property
    def fps(self) -> int:
        """Pictures per second at which a film runs as fast as the world does."""
        env = self._one()
        env.close()
        return env.metadata.get("render_fps", 30)


class EndlessTask(Task):
    """An environment of Gymnasium that nobody resets and nothing ends, judged by what it pays on average.

    Args:
        name: such as "Pendulum-v1", whose time limit is taken away. It must not terminate.
        n_steps: for how long a policy is judged, and filmed, at least 1.
        settled: steps before that, which do not count, at least 0.

    Raises:
        ValueError: if Gymnasium knows no such environment or a number is too small.
    """

    score = "average reward"

    def __init__(self, name: str, n_steps: int, settled: int = 0):
        super().__init__(name)
        _at_least(1, n_steps=n_steps)
        _at_least(0, settled=settled)
        self.n_steps, self.settled = n_steps, settled

    def _one(self, **options):
        return super()._one(max_episode_steps=-1, **options)  # Gymnasium's way to say never

    def play(self, act, n_episodes, seed):
        """Return the average reward in each of ``n_episodes`` worlds, shape (n_episodes,).

        Raises:
            ValueError: if ``n_episodes`` < 1 or ``seed`` < 0.
        """
        _at_least(1, n_episodes=n_episodes)
        _at_least(0, seed=seed)
        env = self.make(n_episodes)
        s, _ = env.reset(seed=seed)
        paid = np.zeros(n_episodes)
        for i in range(self.settled + self.n_steps):
            s, r, *_ = env.step(act(s))
            paid += r * (i >= self.settled)
        env.close()
        return paid / self.n_steps

    def film(self, act, seed):
        yield from itertools.islice(super().film(act, seed), self.n_steps)


class PendulumTask(EndlessTask):
    """A pendulum that nobody resets, but that is knocked now and then: one that never fell again would forget how to get up.

    Args:
        n_steps, settled: as for ``EndlessTask``.
        knocks: how probable that is in a step, 0 ≤ knocks ≤ 1. Its speed is then anything between the largest to the left and to the right.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, n_steps: int, settled: int = 0, knocks: float = 1 / 200):
        super().__init__("Pendulum-v1", n_steps, settled)
        if not 0 <= knocks <= 1:
            raise ValueError(f"knocks must be in [0, 1], got {knocks}")
        self.knocks = knocks

    def _one(self, **options):
        return _Knocked(super()._one(**options), self.knocks)


class _Knocked(Wrapper):
    def __init__(self, env, knocks):
        super().__init__(env)
        self.knocks = knocks

    def step(self, action):
        s, r, *over, info = self.env.step(action)
        if self.np_random.random() < self.knocks:
            pendulum: Any = self.unwrapped
            pendulum.state[1] = self.np_random.uniform(-pendulum.max_speed, pendulum.max_speed)
            s = np.array([*s[:2], pendulum.state[1]], s.dtype)
        return s, r, *over, info


class QueueTask(EndlessTask):
    """The access-control queue, which never ends; ``worlds.access_control`` knows all about it.

    Args:
        n_steps, settled: as for ``EndlessTask``.

    Raises:
        ValueError: if a number is too small.
    """

    name = "access-control"

    def __init__(self, n_steps: int, settled: int = 0):
        _at_least(1, n_steps=n_steps)
        _at_least(0, settled=settled)
        self.n_steps, self.settled = n_steps, settled

    def _one(self, **options):
        return self._world.env()

    @functools.cached_property
    def _world(self):
        return access_control()  # one for all environments

    def film(self, act, seed):
        raise ValueError(f"there are no pictures of {self.name}, only numbers")


class SuiteTask(Task):
    """A task of the DeepMind Control Suite: 1,000 steps, each of which pays from 0 to 1, and only our patience ends it.

    Args:
        world: such as "cartpole".
        goal: such as "swingup".
        seen: what is made of a state before anybody sees it, a function of its numbers; nothing, unless given.

    Whoever makes it is told by a ``ValueError`` if the suite has no such task, by a ``RuntimeError`` if the suite is not installed.

    On no slide; Tassa et al. (2018). Lillicrap et al. (2016) had its forerunners.
    """

    def __init__(self, world: str, goal: str, seen: Callable[[np.ndarray], np.ndarray] | None = None):
        self.world, self.goal, self.seen = world, goal, seen
        self.name = f"{world}-{goal}"

    def _one(self, **options):
        from gymnasium.wrappers import FlattenObservation, TransformObservation

        with _mujoco(self.name):
            from dm_control import suite
            from shimmy import DmControlCompatibilityV0

            env = FlattenObservation(DmControlCompatibilityV0(suite.load(self.world, self.goal), **options))
        if self.seen is None:
            return env
        space: Any = env.observation_space
        shape = self.seen(np.zeros(space.shape)).shape
        return TransformObservation(env, self.seen, Box(-np.inf, np.inf, shape, space.dtype))

    @property
    def fps(self):
        env: Any = self._one()
        step = env.unwrapped.dt
        env.close()
        return round(1 / step)


class PongTask(Task):
    """Pong from pixels: trained on points, judged by the scores of whole games.

    Args:
        game: "PongDeterministic-v4" or "ALE/Pong-v5", as for ``pong.Pong``.

    Raises:
        ValueError: if ``game`` is unknown.
    """

    score = "score"
    fps = 15  # 60 frames a second, a decision every 4

    def __init__(self, game: str):
        if game not in GAMES:
            raise ValueError(f"game must be one of {', '.join(GAMES)}, got {game!r}")
        self.name = game

    def make(self, n_envs):
        from pgcourse.environments.pong import Pong

        _at_least(1, n_envs=n_envs)
        return Pong(n_envs, game=self.name)

    def play(self, act, n_episodes, seed):
        from pgcourse.environments.pong import play

        _at_least(1, n_episodes=n_episodes)
        _at_least(0, seed=seed)
        return play(act, n_episodes, seed=seed, game=self.name).astype(float)

    def film(self, act, seed):
        from pgcourse.environments.pong import watch

        _at_least(0, seed=seed)
        points = [0, 0]
        for moment in watch(
            lambda moment: int(act(moment.x[None])[0]), LONGEST * self.fps, seed=seed, game=self.name
        ):
            yield moment.screen
            if moment.r:
                points[moment.r > 0] += 1
            if 21 in points:
                return


@contextlib.contextmanager
def _mujoco(name):
    """Let MuJoCo draw without a display where there is none, overhear what it says of old models, and name what is not installed."""
    if sys.platform == "linux" and not {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "off"
    try:
        import mujoco

        mujoco.set_mju_user_warning(
            lambda text: None if "deprecated" in text else logging.getLogger("mujoco").warning(text)
        )
        yield
    except ImportError as error:
        install = "pip install 'pgcourse[control]'" + (
            ", and pip install --no-deps dm-control" if sys.version_info >= (3, 13) else ""
        )
        raise RuntimeError(f"{name} needs more than pgcourse itself: {install} ({error})") from error


def _at_least(least, **named):
    for name, number in named.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
