"""Our own Pong: the console's rules, measured, for thousands of games at once in NumPy.

The console's cartridge may not be put on a website, and it plays a few thousand decisions a second. The court
has the same field, paddles, ball, inertia and opponent: after the same start and the same actions everything
is where it is in ``Pong``. All numbers are integers, so that ``book/_static/court.js`` repeats every frame.

A *frame* is a sixtieth of a second; a decision holds for four. In frame t the ball is at (xₜ, yₜ), in pixels
of the console, of which 48 are left of the field and 48 above it; the tops of the paddles are at lₜ and rₜ::

    serve    from (128, 128), 63 frames after a point, one pixel a frame in either direction
    walls    vy ← −vy, and one pixel back, once the ball is drawn over a wall
    paddles  vx ← −vx and vy ← ⌊(y − top + 3) / 4⌋ − 2, from −2 to 2: the angle depends on where it was hit
    knob     k ← k ± 23,000, from 27,450 to 790,196: where the console believes its knob to be
    right    every other frame r ← ⌊(r + 2 ⌊(k + 31,400) / 7,990⌋) / 2⌋: half the way to where the knob points
    left     the opponent: l ← l + 2 sign(y − l), but not in every eighth frame

Slides 11–23. The rules were measured from games of ALE; ``benchmarks/court.py`` measures both sides and says
how often a difference frame differs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from pgcourse import checks
from pgcourse.environments.pong import FRAME_SKIP, N_PIXELS, SIZE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Int8

    Games = Int[np.ndarray, " n_envs"]

POINTS = 21  # of the side that wins a game
MAX_GAMES = 10_000  # side by side
_PUSH = np.array([1, -1, 0], np.int32)  # of DOWN, UP and NOOP: the knob's and the paddle's zero is at the top
_KNOB_MIN, _KNOB_MAX = 27_450, 790_196
_FIRST_KNOB, _FIRST_PADDLE, _FIRST_CLOCK = (_KNOB_MIN + _KNOB_MAX) // 2, 109, 71
_WAIT, _FIRST_WAIT = 63, 59  # frames until the serve, after a point and at the beginning of a game
_MAX_IDLE = 32  # fewer frames than these pass before the first decision of a game
_LEFT_X, _RIGHT_X = (64, 68), (188, 192)  # where the ball is drawn over the columns of a paddle
_LEFT_OUT, _RIGHT_OUT = 52, 205  # where it is out, and the point is scored
_TOP, _BOTTOM = 45, 206  # where it is drawn over a wall

# The pixels that are 1: nine rows of the left paddle, up to eight of the right one, up to three of the ball
_LEFT_ROWS, _RIGHT_ROWS = (np.repeat(np.arange(top, -16, dtype=np.int32), 2) for top in (-25, -24))
_COLUMNS = np.r_[np.tile([8, 9], 9), np.tile([70, 71], 8)].astype(np.int32)
_BALL_ROWS, _BALL_COLUMNS = np.repeat([-48, -47, -45], 2).astype(np.int32), np.tile([-49, -48], 3)
_EARLY = np.repeat([152, 160, 130], 2)  # the columns from which the console mostly draws these a line higher


@dataclass(frozen=True)
class Rules:
    """What can be changed about the court, with the console's numbers as defaults.

    Each is a whole number, or an array of one for each game, shape (n_envs,).
    """

    ball: int | Games = 1  # pixels that it moves to the side in a frame, 1 to 3
    lag: int | Games = 2  # a paddle goes one ``lag``-th of the way to where its knob points, 1 to 64
    paddle: int | Games = 16  # lines of our paddle, 2 to 16
    angles: int | Games = 1  # 1, or −1 for a ball that a paddle's upper half sends downwards
    rest: int | Games = 8  # the opponent moves in all frames but every ``rest``-th one, at least 2

    def check(self, n_envs: int) -> None:
        """Raise a ``ValueError`` unless these are rules for so many games."""
        allowed = {"ball": (1, 3), "lag": (1, 64), "paddle": (2, 16), "angles": (-1, 1), "rest": (2, 2**20)}
        for name, (low, high) in allowed.items():
            value = checks.numbers(name, getattr(self, name))
            if value.dtype.kind not in "iu" or value.shape not in ((), (n_envs,)):
                raise ValueError(
                    f"{name} must be a whole number, or one for each of {n_envs} games, got {value!r}"
                )
            if (wrong := value[(value < low) | (value > high) | (value == 0)]).size:
                raise ValueError(f"{name} must be from {low} to {high}, and not 0, got {wrong[0]}")

    @staticmethod
    def draw(n_envs: int, rng: np.random.Generator) -> Rules:
        """Draw rules for each game, around the console's; the angles stay (domain randomisation)."""
        ranges = {"ball": (1, 2), "lag": (1, 4), "paddle": (8, 16), "rest": (4, 16)}
        return Rules(
            **{name: rng.integers(*ends, n_envs, np.int32, endpoint=True) for name, ends in ranges.items()}
        )


CONSOLE = Rules()


class Court(VectorEnv):
    """Games on the court in parallel, as a Gymnasium vector environment whose episodes are points.

    Observations, actions, rewards and ``info`` are those of ``Pong``: int8 difference frames of shape
    (n_envs, 6400); 0 = DOWN, 1 = UP and, if wanted, 2 = NOOP; +1 for a point won and −1 for one lost. The
    step that ends a point terminates the episode and returns the first observation of the next one (same-step
    autoreset), also as ``final_obs``. ``score_differences`` collects those of ended games.

    Args:
        n_envs: number of games, at least 1.
        n_actions: 2, or 3 with NOOP.
        rules: of the court.
    """

    def __init__(self, n_envs: int = 16, *, n_actions: int = 2, rules: Rules = CONSOLE):
        n_envs = checks.count(1, MAX_GAMES, n_envs=n_envs)
        checks.one_of((2, 3), n_actions=n_actions)
        rules.check(n_envs)
        self.rules = rules
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs, self._n_actions = n_envs, int(n_actions)
        self.single_observation_space = Box(-1, 1, (N_PIXELS,), np.int8)
        self.single_action_space = Discrete(self._n_actions)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.score_differences: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin new games and return blank observations; game k is seeded with ``seed`` + k.

        A seed stands for the numbers of frames, below 32, that pass before the first decision of each game;
        ``options={"idle": numbers}`` gives those of the first, shape (n_envs,).
        """
        super().reset(seed=None if seed is None else checks.seed(seed=seed))
        n = self.num_envs
        first = int(self.np_random.integers(2**30)) if seed is None else int(seed)
        self._random = ((first + np.arange(n)) % 2**32).astype(np.uint32)
        self.x, self.y, self.vx, self.vy = np.zeros((4, n), np.int32)
        self.left, self.right, self.wait, self.clock = np.zeros((4, n), np.int32)
        self._knobs, self._next, self.points = np.zeros((3, 2, n), np.int32)  # of the left and the right side
        self._begin(np.ones(n, bool), None if options is None else options.get("idle"))
        self._pixels = self._drawn()
        self.score_differences = []
        info = {"done": np.zeros(n, bool), "score_difference": np.zeros(n, int)}
        return np.zeros((n, N_PIXELS), np.int8), info

    def _begin(self, games: Bool[np.ndarray, " n_envs"], idle: Games | None = None) -> None:
        """Begin new games where ``games`` is True, ``idle`` < 32 frames ago, or a drawn number of them."""
        self._random[games] = self._random[games] * np.uint32(2_654_435_769) + np.uint32(1_013_904_223)
        idle = (self._random // (2**32 // _MAX_IDLE)).astype(np.int32) if idle is None else np.asarray(idle)
        self.x[games] = self.y[games] = self.left[games] = 0  # no ball, and the opponent above the field
        self.vx[games], self.vy[games] = -np.broadcast_to(self.rules.ball, games.shape)[games], 1
        self.right[games] = self._next[:, games] = _FIRST_PADDLE
        self._knobs[:, games], self.points[:, games] = _FIRST_KNOB, 0
        self.wait[games], self.clock[games] = (_FIRST_WAIT - idle)[games], (_FIRST_CLOCK + idle)[games]

    def step(
        self, actions: Int[np.ndarray, " n_envs"], left: Int[np.ndarray, " n_envs"] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Take one decision in each game; a point that ends is a terminated episode.

        ``left`` holds the actions of a second player, 0 to 2, whose paddle takes the place of the opponent's.
        """
        right = self._pushes(self._n_actions, actions=actions)
        pushes = right if left is None else np.stack([self._pushes(3, left=left), right])
        r = np.zeros(self.num_envs, np.int32)
        for _ in range(FRAME_SKIP):
            r += self._advance(pushes)
        self.points += np.stack([r < 0, r > 0])
        done, score_difference = self.points.max(axis=0) == POINTS, self.points[1] - self.points[0]
        self.score_differences += score_difference[done].tolist()
        before = self._pixels
        if done.any():
            self._begin(done)
        self._pixels = self._drawn()
        frames = np.zeros(self.num_envs * N_PIXELS + 1, np.int8)  # the last for pixels outside the field
        frames[self._pixels] = 1
        frames[before] -= 1  # a pixel named twice is written twice, and the same both times
        x = frames[:-1].reshape(self.num_envs, N_PIXELS)
        x[done] = 0
        info = {"done": done, "score_difference": score_difference.astype(int), "final_obs": x}
        return x, r.astype(float), r != 0, np.zeros(self.num_envs, bool), info

    def _pushes(self, n_actions: int, **actions: Int[np.ndarray, " n_envs"]) -> Games:
        [(name, given)] = actions.items()
        a = checks.numbers(name, given)
        wrong = a[~np.isin(a, range(n_actions))]
        if wrong.size or a.shape != (self.num_envs,):
            got = wrong[0] if wrong.size else f"shape {a.shape}"
            raise ValueError(f"{name} must be {self.num_envs} integers in 0..{n_actions - 1}, got {got}")
        return _PUSH[a.astype(int)]

    def _advance(self, pushes: Int[np.ndarray, "*sides n_envs"]) -> Games:
        """Move on by one frame and return the points, 1 for the right side and −1 for the left one."""
        x, y, left, right, rules = self.x, self.y, self.left, self.right, self.rules
        shown = right + (right & 1)  # the console draws every second line
        hit_left = (x >= _LEFT_X[0]) & (x <= _LEFT_X[1]) & (y >= left - 4) & (y <= left + 14)
        hit_right = (x >= _RIGHT_X[0]) & (x <= _RIGHT_X[1]) & (y >= shown - 2) & (y < shown + rules.paddle)
        self.vx = np.where(hit_left, rules.ball, np.where(hit_right, np.negative(rules.ball), self.vx))
        angle = rules.angles * ((y - np.where(hit_left, left, right) + 3) // 4 - 2)
        self.vy = np.where(hit_left | hit_right, angle, self.vy)
        waiting = self.wait > 0
        wall = ~waiting & ((y <= _TOP) | (y >= _BOTTOM))
        self.vy[wall] *= -1
        out = np.where(waiting, 0, (x <= _LEFT_OUT).view(np.int8) - (x >= _RIGHT_OUT).view(np.int8))
        self.wait = np.where(out != 0, _WAIT, self.wait - waiting)
        serve, moves = waiting & (self.wait == 0), self.wait == 0
        self.vy[serve] = np.where(self.vy[serve] < 0, -1, 1)
        x[serve] = y[serve] = left[serve] = 128
        x += self.vx * moves
        y += (self.vy + np.sign(self.vy) * wall) * moves
        y[waiting & ~moves] = 0
        self.clock += 1
        self._turn(pushes)
        if pushes.ndim == 1:
            left += 2 * np.sign(y - left) * (self.clock % rules.rest != 1)
        return out

    def _turn(self, pushes: Int[np.ndarray, "*sides n_envs"]) -> None:
        """Turn the knobs; every other frame the paddles go half the way, or less, to where these point."""
        sides = slice(2 - np.atleast_2d(pushes).shape[0], 2)
        knobs, paddles = self._knobs[sides], self._next[sides]
        if len(knobs) == 2:
            self.left = paddles[0] + (paddles[0] & 1)
        self.right = paddles[-1].copy()
        np.clip(knobs + 23_000 * pushes, _KNOB_MIN, _KNOB_MAX, out=knobs)
        target = np.clip(2 * ((knobs + 31_400) // 7_990), 38, 204)
        paddles[:] = np.where(self.clock % 2 == 0, paddles + (target - paddles) // self.rules.lag, paddles)

    def _drawn(self) -> Int[np.ndarray, "n_envs n_pixels"]:
        """Return the numbers of the pixels that are 1, counted through all fields; outside it is the last."""
        left = (self.left >> 1)[:, None] + _LEFT_ROWS
        right = (self.right + 1 >> 1)[:, None] + _RIGHT_ROWS
        x, y = self.x[:, None] + _BALL_COLUMNS, self.y[:, None] + _BALL_ROWS
        y -= x >= _EARLY
        columns = np.broadcast_to(_COLUMNS, (self.num_envs, len(_COLUMNS)))
        height = np.broadcast_to(self.rules.paddle, self.num_envs)[:, None] // 2
        right[height <= _RIGHT_ROWS + 24] = -1
        row = np.concatenate([left, right, y >> 1], axis=1)
        column = np.concatenate([columns, x >> 1], axis=1)
        pixel = row * SIZE + column + N_PIXELS * np.arange(self.num_envs)[:, None]
        return np.where((row >= 0) & (row < SIZE), pixel, N_PIXELS * self.num_envs)

    @property
    def fields(self) -> Int8[np.ndarray, "n_envs 80 80"]:
        """The playing fields as ``preprocess`` returns them: 1 for paddles and ball, else 0."""
        frames = np.zeros(self.num_envs * N_PIXELS + 1, np.int8)
        frames[self._pixels] = 1
        return frames[:-1].reshape(self.num_envs, SIZE, SIZE)


class Game(NamedTuple):
    """A game that was played on the left side: T decisions, seen from there."""

    s: Int8[np.ndarray, "T 6400"]  # difference frames, left and right exchanged
    a: Int[np.ndarray, " T"]  # DOWN, UP or NOOP
    r: Float[np.ndarray, " T"]  # 1 for a point won by the left side, −1 for one lost


def replay(file: str | Path) -> list[Game]:
    """Play the games of a CSV file of the page *Play against the network* again, and return them.

    The rules and both sides' actions determine every frame.

    Raises:
        ValueError: if the file is not such a table, or its rewards are not those of the actions.
    """
    with Path(file).open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    try:
        table = np.array(
            [[int(row[name]) for name in ("game", "idle", "right", "left", "reward")] for row in rows]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} must hold the columns game, idle, right, left, reward: {error!r}"
        ) from error
    court, games = Court(1, n_actions=3), []
    for _, group in groupby(table, key=lambda row: row[0]):
        _, idle, right, left, r = np.array(list(group)).T
        x, _ = court.reset(seed=0, options={"idle": idle[:1]})
        seen, rewards = [], []
        for t in range(len(r)):
            seen.append(x.reshape(SIZE, SIZE)[:, ::-1].ravel())
            x, points, *_ = court.step(right[t : t + 1], left[t : t + 1])
            rewards.append(-points[0])
        if rewards != r.tolist():
            raise ValueError(f"{file} must hold rewards that follow from the actions, got others")
        games.append(Game(np.array(seen), left, np.array(rewards)))
    return games
