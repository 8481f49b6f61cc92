"""Tasks: environments to train in, to evaluate a policy in, and to render an episode of.

The vector environments of a task reset themselves in the step that ends an episode (same-step autoreset).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
from gymnasium import ActionWrapper, Env, ObservationWrapper, Wrapper
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from pgcourse import checks
from pgcourse.checks import MAX_EPISODE_LENGTH
from pgcourse.environments import pong
from pgcourse.environments.classic import CLASSIC, MAX_ENVS, ClassicVectorEnv
from pgcourse.environments.court import CONSOLE, Court, Rules
from pgcourse.environments.display import mujoco_without_screen, without_screen
from pgcourse.environments.worlds import access_control

if TYPE_CHECKING:
    from gymnasium.envs.classic_control import PendulumEnv
    from jaxtyping import Float, UInt8

    from pgcourse.environments.mdp import MDP

    Returns = Float[np.ndarray, " n_episodes"]
    Frame = UInt8[np.ndarray, "H W 3"]

MAX_VIDEO_SECONDS = 300  # of Pong, where a rally may last for ever
MAX_COURT_LENGTH = 10_000  # decisions of a game on the court that is evaluated, eleven minutes
Act = Callable[[np.ndarray], np.ndarray]  # maps observations, shape (n, ...), to n actions; K count from 0


class Task:
    """An environment of Gymnasium, by its id, such as "CartPole-v1".

    Those of classic control step together in NumPy, with the same numbers (``environments.classic``). A
    subclass that makes environments of its own steps them one after the other.
    """

    metric = "return"  # what ``evaluate`` returns, for axis labels
    time_limit = True  # whether episodes are truncated as Gymnasium says

    def __init__(self, name: str):
        checks.text(name=name)
        try:
            self.spec = gymnasium.spec(name)
        except gymnasium.error.Error as error:
            raise ValueError(f"name must be an environment of Gymnasium, got {name!r}: {error}") from error
        self.name = name

    def make_vector_env(self, n_envs: int) -> VectorEnv:
        """Return ``n_envs`` ≥ 1 environments in parallel."""
        n_envs = checks.count(1, MAX_ENVS, n_envs=n_envs)
        if self.is_classic:
            return ClassicVectorEnv(self.name, n_envs, time_limit=self.time_limit)
        return SyncVectorEnv([self.make_env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)

    @property
    def is_classic(self) -> bool:
        """Whether its environments step together: Gymnasium's own of classic control."""
        return self.name in CLASSIC and type(self) in (Task, ContinuingTask)

    @property
    def steps_together(self) -> bool:
        """Whether its environments step together, so that stepping those that are done costs nothing."""
        return self.is_classic

    def make_env(self, **options: Any) -> Env:
        """Return one environment, with options of ``gymnasium.make``.

        Its numbered actions count from 0, and its observations stay as they are. Gymnasium's own environments
        make a new observation in every step. Another may use its buffer again, and then ``SyncVectorEnv``
        loses the last observation of an episode: the next ``reset`` writes over it.
        """
        env = self._make_env(**options)
        if env.spec is not None and not str(env.spec.entry_point).startswith("gymnasium."):
            env = _CopyObservations(env)
        space = env.action_space
        return _CountFromZero(env) if isinstance(space, Discrete) and space.start else env

    def _make_env(self, **options: Any) -> Env:
        is_mujoco = "mujoco" in str(self.spec.entry_point)
        with mujoco_without_screen(self.name) if is_mujoco else contextlib.nullcontext():
            env = gymnasium.make(self.spec, disable_env_checker=True, **options)  # it would check every step
        return _ClipActions(env) if is_mujoco else env  # MuJoCo clips them, but charges for all

    def evaluate(self, act: Act, n_episodes: int, seed: int) -> Returns:
        """Return the undiscounted return of ``n_episodes`` ≥ 1 whole episodes; ``seed`` ≥ 0.

        Each environment plays one episode. The first to finish would include too many short ones. One whose
        episode has ended is not stepped any more, and ``act`` still sees its last observation.

        Raises:
            ValueError: also if an episode has not ended after ``MAX_EPISODE_LENGTH`` steps.
        """
        s, env = self._reset_vector_env(n_episodes, seed)
        step = _step_together if self.steps_together else _step_one_by_one
        returns, active = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
        for t in itertools.count():
            if not active.any():
                break
            self._check_length(t)
            a, s = act(s), s.copy()
            step(env, a, s, returns, active)
        env.close()
        return returns

    def _check_length(self, n_steps: int) -> None:
        if n_steps >= MAX_EPISODE_LENGTH:
            raise ValueError(
                f"{self.name} must end every episode within {n_steps:,} steps, got one that did not; a time "
                "limit truncates it (gymnasium.register(…, max_episode_steps=…)), and a task without an end "
                "is a ContinuingTask, evaluated by its average reward"
            )

    def _reset_vector_env(self, n_episodes: int, seed: int) -> tuple[np.ndarray, VectorEnv]:
        n_episodes, seed = checks.count(1, MAX_ENVS, n_episodes=n_episodes), checks.seed(seed=seed)
        env = self.make_vector_env(n_episodes)
        s, _ = env.reset(seed=int(seed))
        return s, env

    def render_episode(self, act: Act, seed: int) -> Iterator[Frame]:
        """Yield the frames of one episode; ``seed`` ≥ 0."""
        checks.seed(seed=seed)
        with without_screen():
            env = self.make_env(render_mode="rgb_array")
            s, _ = env.reset(seed=int(seed))
            frame = np.array(env.render())
        done = False
        for t in itertools.count():
            yield frame
            if done:
                break
            self._check_length(t)
            s, _, terminated, truncated, _ = env.step(act(np.array(s)[None])[0])
            done, frame = terminated or truncated, np.array(env.render())
        env.close()

    @property
    def fps(self) -> int:
        """Frames per second at which a video runs in real time."""
        env = self._make_env()
        env.close()
        return env.metadata.get("render_fps", 30)


def _step_one_by_one(
    env: VectorEnv, a: np.ndarray, s: np.ndarray, returns: np.ndarray, active: np.ndarray
) -> None:
    """Step the active environments; write into observations, returns, and which are still active."""
    for k, (alone, a_k) in enumerate(zip(cast("SyncVectorEnv", env).envs, a, strict=True)):
        if active[k]:
            s[k], r, terminated, truncated, _ = alone.step(a_k)
            returns[k] += r
            active[k] = not (terminated or truncated)


def _step_together(
    env: VectorEnv, a: np.ndarray, s: np.ndarray, returns: np.ndarray, active: np.ndarray
) -> None:
    """The same where it costs nothing to step the others, too."""
    next_s, r, terminated, truncated, info = env.step(a)
    if (done := terminated | truncated).any():
        next_s[done] = info["final_obs"][done]
    s[active], returns[active] = next_s[active], (returns + r)[active]
    active &= ~done


class ContinuingTask(Task):
    """An environment of Gymnasium without episodes, in which a policy is evaluated by its average reward.

    Args:
        name: id of an environment that never terminates, such as "Pendulum-v1". Its time limit is removed.
        n_steps: number of steps that are evaluated, and rendered, at least 1.
        burn_in: number of steps before these, at least 0.
    """

    metric = "average reward"
    time_limit = False

    def __init__(self, name: str, n_steps: int, burn_in: int = 0):
        super().__init__(name)
        self._set_length(n_steps, burn_in)

    def _set_length(self, n_steps: int, burn_in: int) -> None:
        self.n_steps = checks.count(1, math.inf, n_steps=n_steps)
        self.burn_in = checks.count(0, math.inf, burn_in=burn_in)

    def _make_env(self, **options: Any) -> Env:
        return super()._make_env(max_episode_steps=-1, **options)  # no time limit

    def evaluate(self, act: Act, n_episodes: int, seed: int) -> Returns:
        """Return the average reward in each of ``n_episodes`` ≥ 1 environments; ``seed`` ≥ 0."""
        s, env = self._reset_vector_env(n_episodes, seed)
        rewards = np.zeros(env.num_envs)
        for t in range(self.burn_in + self.n_steps):
            s, r, *_ = env.step(act(s))
            rewards += r * (t >= self.burn_in)
        env.close()
        return rewards / self.n_steps

    def render_episode(self, act: Act, seed: int) -> Iterator[Frame]:
        """Yield the frames of the first ``n_steps`` steps; ``seed`` ≥ 0."""
        yield from itertools.islice(super().render_episode(act, seed), self.n_steps)


class PendulumTask(ContinuingTask):
    """The pendulum as a continuing task. Random kicks make sure that a policy does not forget to swing up.

    Args:
        n_steps, burn_in: as for ``ContinuingTask``.
        kick_probability: probability of a kick per step. A kick draws the velocity uniformly from its range.
    """

    def __init__(self, n_steps: int, burn_in: int = 0, kick_probability: float = 1 / 200):
        super().__init__("Pendulum-v1", n_steps, burn_in)
        checks.fraction(kick_probability=kick_probability)
        self.kick_probability = kick_probability

    def _make_env(self, **options: Any) -> Env:
        return _RandomKicks(super()._make_env(**options), self.kick_probability)


class _CopyObservations(ObservationWrapper):
    def observation(self, observation: np.ndarray) -> np.ndarray:
        return np.array(observation)


class _CountFromZero(ActionWrapper):
    def __init__(self, env: Env):
        super().__init__(env)
        self.first = int(cast("Discrete", env.action_space).start)
        self.action_space = Discrete(int(cast("Discrete", env.action_space).n))

    def action(self, action: np.integer) -> np.integer:
        return action + self.first


class _ClipActions(ActionWrapper):
    """Clips actions to their bounds, as Gymnasium's pendulum does for itself."""

    def action(self, action: np.ndarray) -> np.ndarray:
        space = cast("Box", self.action_space)
        return np.clip(action, space.low, space.high)


class _RandomKicks(Wrapper):
    def __init__(self, env: Env, kick_probability: float):
        super().__init__(env)
        self.kick_probability = kick_probability

    def step(self, action: np.ndarray) -> tuple:
        s, r, terminated, truncated, info = self.env.step(action)
        if self.np_random.random() < self.kick_probability:
            pendulum = cast("PendulumEnv", self.unwrapped)
            velocity = self.np_random.uniform(-pendulum.max_speed, pendulum.max_speed)
            pendulum.state[1] = velocity
            s = np.array([*s[:2], velocity], s.dtype)
        return s, r, terminated, truncated, info


class AccessControlTask(ContinuingTask):
    """The access-control queue ``worlds.access_control``, with arguments as for ``ContinuingTask``."""

    name = "access-control"

    def __init__(self, n_steps: int, burn_in: int = 0):
        self._set_length(n_steps, burn_in)

    def _make_env(self, **options: Any) -> Env:
        return self._mdp.env()

    @functools.cached_property
    def _mdp(self) -> MDP:
        return access_control()  # shared by all environments

    def render_episode(self, act: Act, seed: int) -> Iterator[Frame]:
        """Raise a ``ValueError``: the queue cannot be rendered."""
        raise ValueError(f"{self.name} cannot be rendered")


class ControlSuiteTask(Task):
    """A task of the DeepMind Control Suite: 1,000 steps with rewards from 0 to 1, and then truncation.

    Args:
        domain: such as "cartpole".
        task: such as "swingup".
        observe: function from the suite's observation, one array, to the agent's; by default the identity.

    Making an environment raises a ``ValueError`` if the suite has no such task, and a ``RuntimeError`` if it
    is not installed. On no slide; Tassa et al. (2018). Lillicrap et al. (2016) used its forerunners.
    """

    def __init__(self, domain: str, task: str, observe: Callable[[np.ndarray], np.ndarray] | None = None):
        self.domain, self.task, self.observe = domain, task, observe
        self.name = f"{domain}-{task}"

    def _make_env(self, **options: Any) -> Env:
        from gymnasium.wrappers import FlattenObservation, TransformObservation

        with mujoco_without_screen(self.name):
            from shimmy import DmControlCompatibilityV0

            env = DmControlCompatibilityV0(copy.deepcopy(self._loaded), **options)
        env.np_random = np.random.RandomState()  # the copies' are in one state
        flat: Env = FlattenObservation(env)
        if self.observe is None:
            return flat
        space = cast("Box", flat.observation_space)
        shape = self.observe(np.zeros(space.shape)).shape
        return TransformObservation(flat, self.observe, Box(-np.inf, np.inf, shape, space.dtype))

    @functools.cached_property
    def _loaded(self) -> Any:
        """The suite's own environment, to be copied: to compile its model takes several times as long."""
        from dm_control import suite

        return suite.load(self.domain, self.task)

    @property
    def fps(self) -> int:
        env = self._make_env()
        seconds_per_step = env.get_wrapper_attr("dt")
        env.close()
        return round(1 / seconds_per_step)


class PongTask(Task):
    """Pong from pixels, trained on points and evaluated by whole games; ``game`` as for ``pong.Pong``."""

    metric = "score difference"
    fps = 60 // pong.FRAME_SKIP

    def __init__(self, game: str):
        checks.one_of(pong.GAMES, game=game)
        self.name = game

    def make_vector_env(self, n_envs: int) -> pong.Pong:
        return pong.Pong(n_envs, game=self.name)

    def evaluate(self, act: Act, n_episodes: int, seed: int) -> Returns:
        """Return the score difference of ``n_episodes`` ≥ 1 whole games; ``seed`` ≥ 0."""
        n_episodes = checks.count(1, pong.MAX_GAMES, n_episodes=n_episodes)
        return pong.evaluate(act, n_episodes, seed=seed, game=self.name).astype(float)

    def render_episode(self, act: Act, seed: int) -> Iterator[Frame]:
        """Yield the screens of one game, or of its first five minutes; ``seed`` ≥ 0."""
        checks.seed(seed=seed)

        def act_once(step: pong.PongStep) -> int:
            return int(act(step.x[None])[0])

        points = [0, 0]  # the opponent's and ours
        for step in pong.iter_steps(act_once, MAX_VIDEO_SECONDS * self.fps, seed=seed, game=self.name):
            yield cast("np.ndarray", step.screen)
            if step.r:
                points[step.r > 0] += 1
            if 21 in points:
                return


class CourtTask(Task):
    """Pong on our own court, trained on points and evaluated by whole games.

    Args:
        rules: of the court; None draws them for each game (``Rules.draw``), the same ones every time.
    """

    metric = "score difference"
    fps = 60 // pong.FRAME_SKIP

    def __init__(self, rules: Rules | None = CONSOLE):
        self.rules, self.name = rules, "court" if rules else "court, with drawn rules"

    def make_vector_env(self, n_envs: int) -> Court:
        n_envs = checks.count(1, MAX_ENVS, n_envs=n_envs)
        return Court(n_envs, rules=self.rules or Rules.draw(n_envs, np.random.default_rng(0)))

    def evaluate(self, act: Act, n_episodes: int, seed: int) -> Returns:
        """Return the score difference of ``n_episodes`` ≥ 1 whole games; ``seed`` ≥ 0.

        A game of more than ``MAX_COURT_LENGTH`` decisions ends there, with the score as it stands.
        """
        s, env = self._reset_vector_env(n_episodes, seed)
        score_differences, active = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
        for _ in range(MAX_COURT_LENGTH):
            s, *_, info = env.step(act(s))
            score_differences[active] = info["score_difference"][active]
            active &= ~info["done"]
            if not active.any():
                break
        return score_differences

    def render_episode(self, act: Act, seed: int) -> Iterator[Frame]:
        """Yield the fields of one game, four times as large, or of its first five minutes; ``seed`` ≥ 0."""
        s, env = self._reset_vector_env(1, seed)
        court = cast("Court", env)
        for _ in range(MAX_VIDEO_SECONDS * self.fps):
            white = 255 * court.fields[0].view(np.uint8)
            yield np.kron(white, np.ones((4, 4), np.uint8))[:, :, None].repeat(3, axis=2)
            s, *_, info = env.step(act(s))
            if info["done"][0]:
                return
