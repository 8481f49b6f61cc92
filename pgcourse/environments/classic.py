"""Classic control in NumPy: many environments in one step, equal to Gymnasium's, which step one at a time.

A state is a column of ``s``, shape (d, N). An equation of motion is a function of all columns:

    s', r, terminated = dynamics(s, a)

The arithmetic is Gymnasium's, operation by operation, so that results are equal to the last bit, and every
environment draws its initial states from a random stream of its own. So N environments here are N of
Gymnasium's with the same seeds.

On no slide; Barto, Sutton & Anderson (1983) for the cart-pole, Sutton (1996) for the acrobot, Moore (1990)
for the mountain car.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from pgcourse import checks

if TYPE_CHECKING:
    from pgcourse.arrays import Bool, Float

    State = Float[np.ndarray, "d N"]
    Result = tuple[State, Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]  # s', r, whether it terminated

PI = math.pi
MAX_ENVS = 10_000  # side by side


class Classic(NamedTuple):
    """What distinguishes one environment from another."""

    dynamics: Callable[[State, np.ndarray], Result]  # of states (d, N) and actions (N,)
    observe: Callable[[State], Float[np.ndarray, "n N"]]  # the observations, as columns
    initial_state: Callable[[np.random.Generator], np.ndarray]  # one, shape (d,)


def cart_pole(s: State, a: np.ndarray) -> Result:
    """Push the cart by ∓10 N (a = 0, 1) for 0.02 s. The pole falls beyond 12°, the track ends at ±2.4 m."""
    x, v, theta, omega = s
    cos, sin = np.cos(theta), np.sin(theta)
    drive = (np.where(a == 1, 10.0, -10.0) + 0.05 * (omega * omega) * sin) / 1.1
    alpha = (9.8 * sin - cos * drive) / (0.5 * (4 / 3 - 0.1 * (cos * cos) / 1.1))
    next_s = s + 0.02 * np.array([v, drive - 0.05 * alpha * cos / 1.1, omega, alpha])
    terminated = (abs(next_s[0]) > 2.4) | (abs(next_s[2]) > 12 * 2 * PI / 360)
    return next_s, np.ones(len(x)), terminated


def pendulum(s: State, a: np.ndarray) -> Result:
    """Turn a rod of 1 kg and 1 m by the torque a, from −2 to 2 N m, for 0.05 s. The angle 0 is upright."""
    theta, omega = s
    u = np.clip(a[:, 0], -2.0, 2.0)
    from_top = (theta + PI) % (2 * PI) - PI
    cost = _square(from_top) + 0.1 * _square(omega) + 0.001 * _square(u)
    omega = np.clip(omega + (3 * 10.0 / 2 * np.sin(theta) + 3.0 * u) * 0.05, -8, 8)
    return np.array([theta + omega * 0.05, omega]), -cost, np.zeros(len(u), bool)


def mountain_car(s: State, a: np.ndarray) -> Result:
    """Push the car to the left, not at all, or to the right (a = 0, 1, 2). The goal is at 0.5."""
    x, v = s
    v = np.clip(v + ((a - 1) * 0.001 + _cos(3 * x) * -0.0025), -0.07, 0.07)
    x = np.clip(x + v, -1.2, 0.6)
    v = np.where((x == -1.2) & (v < 0), 0.0, v)
    return np.array([x, v]), np.full(len(x), -1.0), (x >= 0.5) & (v >= 0)


def continuous_mountain_car(s: State, a: np.ndarray) -> Result:
    """Push the car by the force a, from −1 to 1. The reward is −0.1 a², plus 100 at the goal, 0.45.

    Gymnasium keeps this state in single precision, except the first of an episode, and computes with the
    dtype of the actions.
    """
    x, v = s
    u, single = a[:, 0], x.astype(np.float32)
    slope = 0.0025 * _cos(np.where(x == single, 3 * single, 3 * x))
    v = v.astype(np.float32) + (np.clip(u, -1.0, 1.0) * 0.0015 - slope.astype(u.dtype))
    v = np.clip(v, -0.07, 0.07)
    x = np.clip((x + v).astype(v.dtype), -1.2, 0.6)
    v = np.where((x == v.dtype.type(-1.2)) & (v < 0), 0, v)
    terminated = (x >= v.dtype.type(0.45)) & (v >= 0)
    r = 100.0 * terminated - np.float_power(u, 2) * 0.1
    return np.array([x, v]).astype(np.float32), r, terminated


def acrobot(s: State, a: np.ndarray) -> Result:
    """Turn the elbow of a double pendulum by −1, 0 or 1 N m for 0.2 s; the goal is to swing the tip up.

    One step of the Runge–Kutta method of fourth order. The angle 0 hangs down.
    """
    torque, h = a - 1.0, 0.2
    k1 = _acrobot_derivative(s, torque)
    k2 = _acrobot_derivative(s + h / 2 * k1, torque)
    k3 = _acrobot_derivative(s + h / 2 * k2, torque)
    k4 = _acrobot_derivative(s + h * k3, torque)
    next_s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    angles = next_s[:2]
    while (over := angles > PI).any():
        angles[over] -= 2 * PI
    while (under := angles < -PI).any():
        angles[under] += 2 * PI
    np.clip(next_s[2], -4 * PI, 4 * PI, out=next_s[2])
    np.clip(next_s[3], -9 * PI, 9 * PI, out=next_s[3])
    terminated = -np.cos(angles[0]) - np.cos(angles[1] + angles[0]) > 1
    return next_s, terminated - 1.0, terminated


def _acrobot_derivative(s: State, torque: np.ndarray) -> State:
    """Return ds/dt, as in Sutton & Barto (1998), chapter 11, with masses and lengths of 1."""
    theta1, theta2, omega1, omega2 = s
    cos, sin = np.cos(theta2), np.sin(theta2)
    d1 = 0.25 + (1.25 + cos) + 1 + 1
    d2 = (0.25 + 0.5 * cos) + 1
    phi2 = 4.9 * np.cos(theta1 + theta2 - PI / 2)
    weight = (0.5 + 1) * 9.8 * np.cos(theta1 - PI / 2)
    phi1 = -0.5 * _square(omega2) * sin - omega2 * omega1 * sin + weight + phi2
    centrifugal = 0.5 * _square(omega1) * sin
    alpha2 = (torque + d2 / d1 * phi1 - centrifugal - phi2) / (1.25 - _square(d2) / d1)
    return np.array([omega1, omega2, -(d2 * alpha2 + phi1) / d1, alpha2])


def _square(x: np.ndarray) -> np.ndarray:
    """Return x² by the C library's power, as for single numbers; x·x differs in the last bit now and then."""
    return np.float_power(x, 2) if x.dtype == float else np.array([one**2 for one in x])


def _cos(x: np.ndarray) -> np.ndarray:
    """Return the C library's cosine, as Gymnasium does for the cars; NumPy's differs in the last bit."""
    return np.fromiter(map(math.cos, x.tolist()), float, len(x))


def _angle_and_velocity(s: State) -> np.ndarray:
    return np.array([np.cos(s[0]), np.sin(s[0]), s[1]])


def _two_angles_and_velocities(s: State) -> np.ndarray:
    return np.array([np.cos(s[0]), np.sin(s[0]), np.cos(s[1]), np.sin(s[1]), s[2], s[3]])


def _in_valley(rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.uniform(-0.6, -0.4), 0.0])


CLASSIC = {
    "CartPole-v1": Classic(cart_pole, np.asarray, lambda rng: rng.uniform(-0.05, 0.05, 4)),
    "Acrobot-v1": Classic(
        acrobot, _two_angles_and_velocities, lambda rng: rng.uniform(-0.1, 0.1, 4).astype(np.float32)
    ),
    "Pendulum-v1": Classic(
        pendulum, _angle_and_velocity, lambda rng: rng.uniform(np.array([-PI, -1]), np.array([PI, 1]))
    ),
    "MountainCar-v0": Classic(mountain_car, np.asarray, _in_valley),
    "MountainCarContinuous-v0": Classic(continuous_mountain_car, np.asarray, _in_valley),
}


class ClassicVectorEnv(VectorEnv):
    """``n_envs`` environments of classic control, which reset in the step that ends an episode.

    As ``SyncVectorEnv`` of Gymnasium's own in mode ``SAME_STEP``, to the last bit, for actions that the space
    contains: with the seeds k, k + 1, …, or one for each in a list, the same initial states, observations
    (float32), rewards (float64), ends and final observations. These are in ``info["final_obs"]``, an array
    whose rows count where ``info["_final_obs"]``. Nothing is rendered.

    Args:
        name: a key of ``CLASSIC``.
        n_envs: from 1 to ``MAX_ENVS``.
        time_limit: whether episodes are truncated after the environment's maximum of steps.
    """

    def __init__(self, name: str, n_envs: int, *, time_limit: bool = True):
        checks.one_of(CLASSIC, name=name)
        n_envs = checks.count(1, MAX_ENVS, n_envs=n_envs)
        single = gymnasium.make(name, disable_env_checker=True)
        self.num_envs, self.render_mode = n_envs, None
        self.metadata = dict(single.metadata) | {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = (
            single.observation_space,
            single.action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        steps = gymnasium.spec(name).max_episode_steps
        self.max_steps = steps if time_limit and steps else math.inf
        self._dynamics, self._observe, self._initial_state = CLASSIC[name]
        self._streams = [seeding.np_random()[0] for _ in range(n_envs)]
        self._n_actions = int(single.action_space.n) if isinstance(single.action_space, Discrete) else None
        self._state: np.ndarray | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begin an episode in every environment; seeds are whole numbers of at least 0, and None keeps on."""
        if options:
            raise ValueError(f"options must be None: there are none, got {options}")
        for k, one in enumerate(self._seeds(seed)):
            if one is not None:
                self._streams[k], _ = seeding.np_random(one)
        first = self._draw(range(self.num_envs))
        self._state, self._steps = first.astype(float), np.zeros(self.num_envs, int)
        return self._observations(first), {}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """Return a seed for each environment, or None."""
        if seed is None:
            return [None] * self.num_envs
        if not isinstance(seed, Sequence) or isinstance(seed, str):
            first = checks.seed(seed=seed)
            return [first + k for k in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed must have {self.num_envs} entries, one an environment, got {len(seed)}")
        return [None if one is None else checks.seed(seed=one) for one in seed]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step every environment with its action: shape (n_envs,), or (n_envs, 1) for forces and torques."""
        if self._state is None:
            raise ValueError("reset must be called before the first step")
        actions = self._checked(actions)
        self._state, r, terminated = self._dynamics(self._state, actions)
        self._steps += 1
        s, truncated = self._observations(self._state), self._steps >= self.max_steps
        if not (done := terminated | truncated).any():
            return s, r, terminated, truncated, {}
        info = {"final_obs": s.copy(), "_final_obs": done}
        first = self._draw(np.flatnonzero(done))
        self._state = self._state.astype(float)
        self._state[:, done], s[done], self._steps[done] = first, self._observations(first), 0
        return s, r, terminated, truncated, info

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        a, shape = checks.numbers("actions", actions), self.action_space.shape
        if a.shape != shape:
            raise ValueError(f"actions must have shape {shape}, got {a.shape}")
        if self._n_actions is None:
            checks.finite(actions=a)
            return a if a.dtype.kind == "f" else a.astype(float)
        if a.dtype.kind not in "iu" or not 0 <= a.min() <= a.max() < self._n_actions:
            got = f"{a.dtype} from {a.min()} to {a.max()}"
            raise ValueError(f"actions must be integers in 0..{self._n_actions - 1}, got {got}")
        return a

    def _draw(self, envs: Sequence[int] | np.ndarray) -> State:
        """Return initial states of these environments, each from its own stream."""
        return np.array([self._initial_state(self._streams[k]) for k in envs]).T

    def _observations(self, s: State) -> Float[np.ndarray, "N n"]:
        return np.array(self._observe(s).T, np.float32, order="C")
