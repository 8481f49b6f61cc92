"""Atari's Pong as the lecture plays it: 80×80 difference frames, two actions, many games in parallel.

A *screen* is the console's picture, 210×160 pixels. A *field* is its middle, halved and binary, 80×80: 1
where there is a paddle, a wall or the ball. An *observation* x is the field minus the field one decision ago,
flat, 6,400 numbers: +1 where something has appeared, −1 where it has vanished, 0 almost everywhere.

An *episode* is one point, from serve to serve, with return +1 or −1 (slides 20–23). A *game* ends when one
side has 21 points. Its *score difference* is our points minus the opponent's, from −21 to 21.

Slides 11–23; Bellemare et al. (2013) for the console; Karpathy (2016) for the difference frame.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from pgcourse import checks

if TYPE_CHECKING:
    from ale_py import ALEInterface
    from ale_py.vector_env import AtariVectorEnv
    from jaxtyping import Bool, Float, Int, Int8, Num, UInt8

SIZE = 80
N_PIXELS = SIZE * SIZE
DOWN, UP, NOOP = 0, 1, 2  # the first two are the label t of slide 17
ACTION_NAMES = ("DOWN", "UP")  # of the lecture
DEFAULT_GAME = "PongDeterministic-v4"
MAX_GAMES = 1000  # side by side; each is a console of its own
FRAME_SKIP = 4  # frames of the console per decision, at 60 frames per second
GAMES = {"PongDeterministic-v4": 0.0, "ALE/Pong-v5": 0.25}  # probability that the console repeats an action
_CONSOLE_ACTION = np.array([3, 2, 0])  # of its six actions for Pong; the others also press the unused trigger
_BACKGROUND = (87, 107)  # grey of the empty field; the second on the first two screens of a game
_BETWEEN = slice(10, 70)  # columns of the field between the paddles
_TOP, _BOTTOM = 34, 194  # rows of the screen that are field
_BALL_X, _PADDLE_Y, _BALL_Y = 49, 51, 54  # addresses in the console's 128 bytes of memory


def preprocess(screen: Num[np.ndarray, "*batch 210 160"]) -> Int8[np.ndarray, "*batch 80 80"]:
    """Return the playing field of a grey screen: cropped, downsampled, binary. Slide 12.

    fieldᵢⱼ = 1 if any of the four screen pixels behind it is not background, else 0
    """
    screen = checks.numbers("screen", screen)
    if screen.shape[-2:] != (210, 160):
        raise ValueError(f"screen must have shape (..., 210, 160), grey levels, got {screen.shape}")
    checks.finite(screen=screen)
    foreground = _foreground(screen[..., _TOP:_BOTTOM, :])
    blocks = foreground.reshape(*screen.shape[:-2], SIZE, 2, SIZE, 2)
    return np.asarray(blocks.any(axis=(-3, -1)), np.int8)


def _foreground(screen: np.ndarray) -> np.ndarray:
    return (screen != _BACKGROUND[0]) & (screen != _BACKGROUND[1])  # `isin` takes 200 times as long


def ball_approaching(x: Int8[np.ndarray, "N 6400"]) -> Bool[np.ndarray, " N"]:
    """Return for each difference frame whether the ball is moving towards us.

    Between the paddles only the ball moves. It approaches if the pixels that have appeared are, on average,
    right of those that have vanished. Before the serve, behind a wall and beyond the paddles the ball is
    not visible, and the result is False.
    """
    x = _frames("x", x)
    between = x.reshape(-1, SIZE, SIZE)[:, :, _BETWEEN]
    column = np.arange(between.shape[2])
    # Pixels per column
    appeared, vanished = ((between == sign).view(np.int8).sum(axis=1, dtype=np.int8) for sign in (1, -1))
    return np.asarray((appeared @ column) * vanished.sum(axis=1) > (vanished @ column) * appeared.sum(axis=1))


def _frames(name: str, x: np.ndarray) -> np.ndarray:
    x = checks.numbers(name, x)
    if x.ndim != 2 or x.shape[1] != N_PIXELS:
        raise ValueError(f"{name} must have shape (N, {N_PIXELS}), got {x.shape}")
    return x


def drop_idle_steps(
    s: Int8[np.ndarray, "T 6400"], a: Int[np.ndarray, " T"], r: Float[np.ndarray, " T"]
) -> tuple[Int8[np.ndarray, "N 6400"], Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return the observations, actions and rewards of the steps at which the ball is approaching.

    Rewards of other steps are added to the last kept step before them; without one, they are dropped.
    """
    s = _frames("s", s)
    checks.same_shape(s=s[:, 0], a=a, r=r)
    checks.finite(r=r)
    kept = np.flatnonzero(ball_approaching(s))
    return s[kept], a[kept], np.add.reduceat(r, kept)


def _thread_affinity_offset(n_envs: int) -> int:
    """Return 0 to pin each of ALE's threads to a core, if all cores are ours and will be used; else −1.

    Without pinning, the system now and then puts two threads on one core and none on another.
    """
    cores = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0  # not on macOS and Windows
    return 0 if ours == cores <= n_envs else -1


class Pong(VectorEnv):
    """Games of Pong in parallel, as a Gymnasium vector environment whose episodes are points.

    Observations are int8 arrays of shape (n_envs, 6400); actions are 0 = DOWN, 1 = UP and, if wanted, 2 =
    NOOP; rewards are floats, +1 for a point won and −1 for one lost. The step that ends a point terminates
    the episode and returns the first observation of the next one (same-step autoreset), also as
    ``final_obs``, since nothing bootstraps from a terminated episode. ``info`` holds ``done``, whether each
    game has ended, and its ``score_difference``. Those of ended games are collected in ``score_differences``.

    Args:
        n_envs: number of games, from 1 to 1,000.
        game: "PongDeterministic-v4", or "ALE/Pong-v5" with sticky actions: repeated with probability 0.25.
        n_actions: 2, or 3 with NOOP.
    """

    def __init__(self, n_envs: int = 16, *, game: str = DEFAULT_GAME, n_actions: int = 2):
        checks.one_of(GAMES, game=game)
        checks.one_of((2, 3), n_actions=n_actions)
        n_envs, n_actions = checks.count(1, MAX_GAMES, n_envs=n_envs), int(n_actions)

        self._console = _vector_console()(
            "pong",
            n_envs,
            img_height=105,
            img_width=80,  # halved by ALE itself, in C++
            stack_num=1,
            maxpool=False,
            reward_clipping=False,
            frameskip=FRAME_SKIP,
            repeat_action_probability=GAMES[game],
            autoreset_mode=AutoresetMode.SAME_STEP,
            thread_affinity_offset=_thread_affinity_offset(n_envs),
        )
        self.metadata = dict(self._console.metadata)
        self.num_envs = n_envs
        self._n_actions = n_actions
        self.single_observation_space = Box(-1, 1, (N_PIXELS,), np.int8)
        self.single_action_space = Discrete(n_actions)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.score_differences: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin new games and return blank observations; game k is seeded with ``seed`` + k."""
        if seed is not None:
            seed = checks.seed(seed=seed)
        screen, info = self._console.reset(seed=seed)
        self._field = self._foreground_of(screen)
        self._score_difference = np.zeros(self.num_envs, int)
        self.score_differences = []
        info = info | {
            "done": np.zeros(self.num_envs, bool),
            "score_difference": self._score_difference.copy(),
        }
        return np.zeros((self.num_envs, N_PIXELS), np.int8), info

    def step(
        self, actions: Int[np.ndarray, " n_envs"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Take one decision in each game; a point that ends is a terminated episode."""
        self.send(actions)
        return self.recv()

    def send(self, actions: Int[np.ndarray, " n_envs"]) -> None:
        """Begin a step, which ``recv`` ends: meanwhile the games are played in threads of their own."""
        actions, n_actions = checks.numbers("actions", actions), self._n_actions
        wrong = [a for a in actions.ravel().tolist() if a not in range(n_actions)]
        if wrong or actions.shape != (self.num_envs,):
            got = wrong[0] if wrong else f"shape {actions.shape}"
            raise ValueError(f"actions must be {self.num_envs} integers in 0..{n_actions - 1}, got {got}")
        self._console.send(_CONSOLE_ACTION[actions.astype(int)])

    def recv(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """End a step and return what ``step`` does."""
        screen, r, done, truncated, info = self._console.recv()
        field = self._foreground_of(screen)
        x = field - self._field
        self._field = field
        self._score_difference += r
        done = done | truncated
        info = info | {"done": done, "score_difference": self._score_difference.copy(), "final_obs": x}
        self.score_differences += self._score_difference[done].tolist()
        self._score_difference[done] = 0
        x[done] = 0  # the field there belongs to the next game
        return x, r.astype(float), r != 0, truncated, info

    def close_extras(self, **kwargs: object) -> None:
        if hasattr(self, "_console"):  # else the constructor failed, and older Gymnasiums close all the same
            self._console.close()

    @staticmethod
    def _foreground_of(screen: np.ndarray) -> np.ndarray:
        foreground = _foreground(screen[:, 0, _TOP // 2 : _BOTTOM // 2])
        return foreground.reshape(len(screen), N_PIXELS).view(np.int8)


def evaluate(
    act: Callable[[np.ndarray], np.ndarray], n_games: int, *, seed: int = 0, game: str = DEFAULT_GAME
) -> Int[np.ndarray, " n_games"]:
    """Play whole games in parallel and return their score differences, each between −21 and 21.

    ``act`` maps observations, shape (n_games, 6400), to as many actions. ``game`` and ``seed`` are as for
    ``Pong``, ``n_games`` is from 1 to 1,000.
    """
    n_games, seed = checks.count(1, MAX_GAMES, n_games=n_games), checks.seed(seed=seed)
    games = [Pong(1, game=game) for _ in range(n_games)]  # each is played to its end and no further
    x = np.concatenate([env.reset(seed=seed + k)[0] for k, env in enumerate(games)])
    score_differences, active = np.zeros(n_games, int), dict(enumerate(games))
    while active:
        a, x = np.asarray(act(x)), x.copy()
        if a.shape != (n_games,):
            raise ValueError(f"act must return an action for each of {n_games} games, got shape {a.shape}")
        for k, env in active.items():
            env.send(a[k : k + 1])
        for k, env in list(active.items()):
            [x[k]], *_, info = env.recv()
            if info["done"][0]:
                score_differences[k] = env.score_differences[0]
                active.pop(k).close()
    return score_differences


class PongStep(NamedTuple):
    """One decision in one game: the console's screen, the agent's observation, its action and the outcome."""

    screen: UInt8[np.ndarray, "210 160 3"] | None  # before the action
    field: Int8[np.ndarray, "80 80"]
    x: Int8[np.ndarray, " 6400"]  # observation
    ball: tuple[float, float] | None  # column and row, by the console's memory; None between points
    paddle: float  # row of our paddle's centre, by the console's memory
    a: int  # 0 = DOWN, 1 = UP
    r: float
    done: bool  # whether this decision ended a point


def iter_steps(
    act: Callable[[PongStep], int],
    n_steps: int,
    *,
    seed: int = 0,
    game: str = DEFAULT_GAME,
    screens: bool = True,
) -> Iterator[PongStep]:
    """Play one game after another and yield every step, with the console's screen and memory.

    The frames and rewards are those of ``Pong`` after the same start and the same actions.

    Args:
        act: maps a step whose ``a``, ``r`` and ``done`` are still unknown to 0 (DOWN) or 1 (UP).
        n_steps: number of decisions, at least 0.
        seed: of the console, and of the length of its random start, up to 30 frames.
        game: as for ``Pong``.
        screens: whether steps hold the screen, 100 kB each.
    """
    checks.one_of(GAMES, game=game)
    n_steps, seed = checks.count(0, math.inf, n_steps=n_steps), checks.seed(seed=seed)
    console = _make_console(seed, GAMES[game])
    console_actions, rng = console.getMinimalActionSet(), np.random.default_rng(seed)
    for t in range(n_steps):
        if t == 0 or console.game_over():
            console.reset_game()
            for _ in range(rng.integers(1, 31)):
                console.act(0)
            last_field = preprocess(console.getScreenGrayscale())
        field, memory = preprocess(console.getScreenGrayscale()), console.getRAM().astype(int)
        screen = console.getScreenRGB() if screens else None
        x, paddle = (field - last_field).ravel(), _field_row(memory[_PADDLE_Y], 16)
        step = PongStep(screen, field, x, _ball_position(memory), paddle, DOWN, 0.0, False)
        a, last_field = act(step), field
        if a not in (DOWN, UP):
            raise ValueError(f"act must return 0 (DOWN) or 1 (UP), got {a!r}")
        a = int(a)
        r = float(sum(console.act(console_actions[_CONSOLE_ACTION[a]]) for _ in range(FRAME_SKIP)))
        yield step._replace(a=a, r=r, done=r != 0)


@functools.cache
def _vector_console() -> type[AtariVectorEnv]:
    """Return ALE's vector environment with metadata of its own.

    ALE's writes its autoreset mode into metadata that all classes of vector environments share.
    """
    from ale_py.vector_env import AtariVectorEnv

    return type("Console", (AtariVectorEnv,), {"metadata": dict(AtariVectorEnv.metadata)})


def _make_console(seed: int, repeat_probability: float) -> ALEInterface:
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    console = ALEInterface()
    console.setInt("random_seed", seed)
    console.setFloat("repeat_action_probability", repeat_probability)
    console.loadROM(str(roms.get_rom_path("pong")))
    return console


def _field_row(y: int, height: int) -> float:
    return (y - 48 + height / 2) / 2  # the console counts from 48 screen rows above the field


def _ball_position(memory: np.ndarray) -> tuple[float, float] | None:
    if memory[_BALL_Y] == 0:
        return None
    return (memory[_BALL_X] - 48) / 2, _field_row(memory[_BALL_Y], 4)
