"""Atari's Pong as the lecture plays it: 80×80 difference frames, two actions, many games at once.

A *screen* is what the console shows, 210×160 pixels. A *field* is its middle, halved and in two colours, 80×80: 1 where there is a
paddle, a wall or the ball. An *observation* x is the field now minus the field one decision ago, flat, 6,400 numbers in {−1, 0, 1}:
+1 where something has arrived, −1 where it has left, 0 almost everywhere.

An *episode* is one point, from serve to serve: its return is +1 or −1 (slides 20–23). That a game of Pong falls apart into points is
Pong's own; a game ends when one side has 21 of them. Its *score* is our points minus the opponent's, from −21 to 21.

Slides 11–23; Bellemare et al. (2013) for the console; Karpathy (2016) for the difference frame.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

SIZE = 80
N_PIXELS = SIZE * SIZE
DOWN, UP, STAY = 0, 1, 2  # the first two are the label t of slide 17
ACTION_NAMES = ("DOWN", "UP")  # of the lecture
DEFAULT_GAME = "PongDeterministic-v4"
FRAME_SKIP = 4  # frames of the console per decision, at 60 frames per second
GAMES = {
    "PongDeterministic-v4": 0.0,
    "ALE/Pong-v5": 0.25,
}  # probability that the console repeats the previous action
_CONSOLE_ACTION = np.array(
    [3, 2, 0]
)  # among the console's six actions for Pong; the other three press the trigger too, in vain
_BACKGROUND = (87, 107)  # grey of the empty field; the second on the first two screens of a game
_BETWEEN = slice(10, 70)  # columns of the field between the paddles
_TOP, _BOTTOM = 34, 194  # rows of the screen that are field
_BALL_X, _PADDLE_Y, _BALL_Y = 49, 51, 54  # addresses in the console's 128 bytes of memory


def field(screen: np.ndarray) -> np.ndarray:
    """Return the playing field of a screen: cropped, halved, in two colours.

    fieldᵢⱼ = 1 if any of the four screen pixels behind it is not background, else 0

    Args:
        screen: one grey screen, shape (210, 160); or several, shape (..., 210, 160); finite.

    Returns:
        int8 array of shape (..., 80, 80), holding 0 and 1.

    Raises:
        ValueError: if the screen has another size or non-finite pixels.

    Slide 12.
    """
    screen = np.asarray(screen)
    if screen.shape[-2:] != (210, 160):
        raise ValueError(f"screen must have shape (..., 210, 160), grey levels, got {screen.shape}")
    if not np.isfinite(screen).all():
        raise ValueError(f"screen must be finite, got {screen[~np.isfinite(screen)][0]}")
    object_ = _object(screen[..., _TOP:_BOTTOM, :])
    return np.asarray(object_.reshape(*screen.shape[:-2], SIZE, 2, SIZE, 2).any(axis=(-3, -1)), np.int8)


def _object(screen: np.ndarray) -> np.ndarray:
    return (screen != _BACKGROUND[0]) & (screen != _BACKGROUND[1])  # `isin` takes 200 times as long


def approaching(x: np.ndarray) -> np.ndarray:
    """Return for each observation whether the ball is on its way to us.

    Between the paddles nothing moves but the ball: it comes if the mean column where something has arrived is to the right of the mean
    column that something has left. Before the serve, when it has passed a paddle, and while it is behind a wall, there is nothing to see.

    Args:
        x: difference frames, shape (N, 6400).

    Returns:
        Boolean array of shape (N,).

    Raises:
        ValueError: if ``x`` has another shape.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != N_PIXELS:
        raise ValueError(f"x must have shape (N, {N_PIXELS}), got {x.shape}")
    between = x.reshape(-1, SIZE, SIZE)[:, :, _BETWEEN]
    column = np.arange(between.shape[2])
    arrived, left = (
        (between == sign).view(np.int8).sum(axis=1, dtype=np.int8) for sign in (1, -1)
    )  # pixels in each column
    return np.asarray((arrived @ column) * left.sum(axis=1) > (left @ column) * arrived.sum(axis=1))


def _sticky(game: str) -> float:
    if game not in GAMES:
        raise ValueError(f"game must be one of {', '.join(GAMES)}, got {game!r}")
    return GAMES[game]


def _first_core(n_games: int) -> int:
    """Return 0, so that each of ALE's threads stays on a core of its own, if all cores are ours and all will be used; else -1.

    Left to itself, the system now and then puts two of them on one core and none on another.
    """
    cores = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0  # not on macOS and Windows
    return 0 if mine == cores <= n_games else -1


class Pong(VectorEnv):
    """Many games of Pong at once, as a Gymnasium vector environment whose episodes are points.

    Observations are int8 arrays of shape (n_games, 6400); actions 0 = DOWN, 1 = UP and, if wanted, 2 = STAY; rewards float, +1 for a
    point won and −1 for one lost. ``terminated`` is true on the step that ends a point, and the observation returned with it already
    belongs to the next one (same-step autoreset), as does ``final_obs``, for after a point nobody asks what else there was to see.
    ``info`` says which games are ``over``, and the ``score`` of all; the scores of games that are over gather in ``scores``.

    Args:
        n_games: how many games run side by side, at least 1.
        game: "PongDeterministic-v4" (the console obeys) or "ALE/Pong-v5" (it repeats the previous action with probability 0.25).
        n_actions: 2, or 3 with STAY.

    Raises:
        ValueError: if ``game`` is unknown, ``n_games`` < 1, or ``n_actions`` is neither 2 nor 3.
    """

    def __init__(self, n_games: int = 16, *, game: str = DEFAULT_GAME, n_actions: int = 2):
        sticky = _sticky(game)
        if n_games < 1:
            raise ValueError(f"n_games must be at least 1, got {n_games}")
        if n_actions not in (2, 3):
            raise ValueError(f"n_actions must be 2 or 3, got {n_actions}")
        from ale_py.vector_env import AtariVectorEnv

        self._console = AtariVectorEnv(
            "pong",
            n_games,
            img_height=105,
            img_width=80,  # halved by ALE itself, in C++
            stack_num=1,
            maxpool=False,
            reward_clipping=False,
            frameskip=FRAME_SKIP,
            repeat_action_probability=sticky,
            autoreset_mode=AutoresetMode.SAME_STEP,
            thread_affinity_offset=_first_core(n_games),
        )
        self.metadata = self._console.metadata
        self.num_envs = n_games
        self.single_observation_space = Box(-1, 1, (N_PIXELS,), np.int8)
        self._n_actions = n_actions
        self.single_action_space = Discrete(n_actions)
        self.observation_space = batch_space(self.single_observation_space, n_games)
        self.action_space = batch_space(self.single_action_space, n_games)
        self.scores: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Begin new games and return blank observations; game k is seeded with ``seed`` + k."""
        screen, info = self._console.reset(seed=seed)
        self._field = self._halved(screen)
        self._score = np.zeros(self.num_envs, int)
        self.scores = []
        return np.zeros((self.num_envs, N_PIXELS), np.int8), self._info(info, np.zeros(self.num_envs, bool))

    def step(self, actions: np.ndarray):
        """Take one decision in each game; return x, r, terminated (the point is over), truncated and info.

        Raises:
            ValueError: if ``actions`` is anything but one integer below ``n_actions`` for each game.
        """
        actions, n_actions = np.asarray(actions), self._n_actions
        wrong = [a for a in actions.ravel().tolist() if a not in range(n_actions)]
        if wrong or actions.shape != (self.num_envs,):
            got = wrong[0] if wrong else f"shape {actions.shape}"
            raise ValueError(f"actions must be {self.num_envs} integers in 0..{n_actions - 1}, got {got}")
        screen, r, over, truncated, info = self._console.step(_CONSOLE_ACTION[actions.astype(int)])
        field = self._halved(screen)
        x = field - self._field
        self._field = field
        self._score += r
        over = over | truncated
        info = self._info(info, over) | {"final_obs": x}
        self.scores += self._score[over].tolist()
        self._score[over] = 0
        x[over] = 0  # what we see there is the next game already
        return x, r.astype(float), r != 0, truncated, info

    def _info(self, info: dict, over: np.ndarray) -> dict[str, np.ndarray]:
        return info | {"over": over, "score": self._score.copy()}

    def close_extras(self, **kwargs):
        if hasattr(self, "_console"):  # else the constructor failed, and older Gymnasiums close all the same
            self._console.close()

    @staticmethod
    def _halved(screen: np.ndarray) -> np.ndarray:
        object_ = _object(screen[:, 0, _TOP // 2 : _BOTTOM // 2])
        return object_.reshape(len(screen), N_PIXELS).view(np.int8)


def play(
    act: Callable[[np.ndarray], np.ndarray], n_games: int, *, seed: int = 0, game: str = DEFAULT_GAME
) -> np.ndarray:
    """Play whole games, side by side, and return their scores.

    Args:
        act: is given observations, shape (n_games, 6400), and returns as many actions.
        n_games: number of games, at least 1.
        seed: of the console.
        game: as for ``Pong``.

    Returns:
        Integer array of shape (n_games,), each between −21 and 21.

    Raises:
        ValueError: if ``game`` is unknown or ``n_games`` < 1.
    """
    games = Pong(n_games, game=game)
    x, _ = games.reset(seed=seed)
    scores: dict[int, int] = {}
    while len(scores) < n_games:
        x, _, _, _, info = games.step(act(x))
        for k in np.flatnonzero(
            info["over"]
        ):  # a console's second game would favour those whose first was short
            scores.setdefault(int(k), int(info["score"][k]))
    games.close()
    return np.array([scores[k] for k in range(n_games)])


class Moment(NamedTuple):
    """One decision of one game: what the console shows, what the agent sees of it, what it did, what followed."""

    screen: np.ndarray | None  # (210, 160, 3) uint8, before the action
    field: np.ndarray  # (80, 80) int8
    x: np.ndarray  # (6400,) int8
    ball: (
        tuple[float, float] | None
    )  # column and row on the 80×80 field, from the console's memory; None between points
    paddle: float  # row of our paddle's centre, likewise
    a: int  # 0 = DOWN, 1 = UP
    r: float
    end: bool  # this decision ended a point


def watch(
    act: Callable[[Moment], int],
    n_steps: int,
    *,
    seed: int = 0,
    game: str = DEFAULT_GAME,
    screens: bool = True,
) -> Iterator[Moment]:
    """Play one game after another, slowly and with the console's lid off, and yield every moment.

    Args:
        act: is shown a moment whose ``a``, ``r`` and ``end`` are still to come, and returns 0 (DOWN) or 1 (UP).
        n_steps: number of decisions.
        seed: for the console, and for the length of its random start (up to 30 frames).
        game: as for ``Pong``.
        screens: whether moments hold the console's screen; each takes 100 kB, so do without where many are kept.

    Yields:
        One ``Moment`` a decision. The same frames and rewards as ``Pong`` gives for the same start and actions.

    Raises:
        ValueError: if ``game`` is unknown or ``act`` returns anything but 0 or 1.
    """
    return _moments(act, n_steps, _console(seed, _sticky(game)), seed, screens)


def _moments(act, n_steps, console, seed, screens) -> Iterator[Moment]:
    actions, start = console.getMinimalActionSet(), np.random.default_rng(seed)
    for i in range(n_steps):
        if i == 0 or console.game_over():
            console.reset_game()
            for _ in range(start.integers(1, 31)):
                console.act(0)
            before = field(console.getScreenGrayscale())
        now, memory = field(console.getScreenGrayscale()), console.getRAM().astype(int)
        paddle = _row(memory[_PADDLE_Y], 16)
        screen = console.getScreenRGB() if screens else None
        moment = Moment(screen, now, (now - before).ravel(), _ball(memory), paddle, DOWN, 0.0, False)
        a, before = act(moment), now
        if a not in (DOWN, UP):
            raise ValueError(f"act must return 0 (DOWN) or 1 (UP), got {a!r}")
        a = int(a)
        r = float(sum(console.act(actions[_CONSOLE_ACTION[a]]) for _ in range(FRAME_SKIP)))
        yield moment._replace(a=a, r=r, end=r != 0)


def _console(seed: int, sticky: float):
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    console = ALEInterface()
    console.setInt("random_seed", seed)
    console.setFloat("repeat_action_probability", sticky)
    console.loadROM(roms.get_rom_path("pong"))  # type: ignore[arg-type]
    return console


def _row(y: int, height: int) -> float:
    return (y - 48 + height / 2) / 2  # the console counts from 48 screen rows above the field


def _ball(memory: np.ndarray) -> tuple[float, float] | None:
    if memory[_BALL_Y] == 0:
        return None
    return (memory[_BALL_X] - 48) / 2, _row(memory[_BALL_Y], 4)
