"""Pong from pixels: our recipe against the one of 2016, against itself with a dense first layer, and against the console alone.

python benchmarks/pong.py [--minutes 3] [--games 32]

Each learner trains for the same time, one after the other on the same machine, and then plays fresh games. "Break-even" is when the mean
of the last 50 training games first reached 0; if it did not within the minutes, the table says so, and says for the recipe of 2016 how
long the 8,000 games that its author reports would take at the speed measured here (an extrapolation).
"""

import argparse
import time
import warnings

import gymnasium
import numpy as np
import report
import torch

from pgcourse.environments import pong
from pgcourse.experiments import recipes
from pgcourse.maths.returns import reward_to_go, standardized
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.pixels import PixelPolicy

GAMES_OF_2016 = 8_000  # "slightly better than the AI" after about as many; Karpathy (2016)


class Dense(PixelPolicy):
    """The same network, with W₁x computed as a product of matrices, zeros and all."""

    def hidden(self, x):
        return (torch.as_tensor(x, dtype=self.W1.dtype) @ self.W1 + self.b1).relu()


class Ours:
    """The recipe ``reinforce/pong``, driven update by update."""

    def __init__(self, dense: bool):
        self.algorithm = recipes.get("reinforce/pong").build(seed=0)
        if dense:
            self.algorithm.policy.__class__ = Dense  # the same weights, another way to multiply

    def turn(self):
        self.algorithm.update()
        return self.algorithm.n_steps, self.algorithm.env.scores

    def play(self, n_games):
        return pong.play(recipes.actor(self.algorithm.policy, seed=1), n_games, seed=1)


class Of2016:
    """One game, every second pixel, two dense matrices in NumPy, RMSProp after every ten games; Karpathy (2016)."""

    eta, gamma, decay, n_games, n_hidden = 1e-4, 0.99, 0.99, 10, 200

    def __init__(self):
        import ale_py

        gymnasium.register_envs(ale_py)
        with warnings.catch_warnings(action="ignore"):  # it is out of date, which is the point
            self.env = gymnasium.make("Pong-v0")  # each decision lasts 2, 3 or 4 frames, as then
        self.rng = np.random.default_rng(0)
        self.screen, _ = self.env.reset(seed=0)
        self.W1 = self.rng.normal(size=(self.n_hidden, pong.N_PIXELS)) / np.sqrt(pong.N_PIXELS)
        self.W2 = self.rng.normal(size=self.n_hidden) / np.sqrt(self.n_hidden)
        self.squares = [np.zeros_like(self.W1), np.zeros_like(self.W2)]
        self.n_steps, self.scores = 0, []

    @staticmethod
    def field(screen):
        red = screen[35:195:2, ::2, 0]
        return ((red != 144) & (red != 109)).astype(float).ravel()  # 144 and 109: the two backgrounds

    def logit(self, x):
        h = np.maximum(0, x @ self.W1.T)
        return h, h @ self.W2

    def game(self):
        """Play one game; return the slope of J it gives, and its score."""
        xs, hs, errors, rewards, over = [], [], [], [], False
        before = np.zeros(pong.N_PIXELS)
        while not over:
            now = self.field(self.screen)
            x, before = now - before, now
            h, z = self.logit(x)
            y = 1 / (1 + np.exp(-z))
            up = self.rng.random() < y
            self.screen, r, terminated, truncated, _ = self.env.step(2 if up else 3)
            over = terminated or truncated
            for row, value in zip((xs, hs, errors, rewards), (x, h, up - y, r), strict=True):
                row.append(value)
        self.screen, _ = self.env.reset()
        points = np.split(np.array(rewards), np.flatnonzero(rewards) + 1)
        G = np.concatenate([reward_to_go(r, self.gamma) for r in points])
        error = np.array(errors) * standardized(G)
        h = np.array(hs)
        self.n_steps += len(rewards)
        return [(np.outer(error, self.W2) * (h > 0)).T @ np.array(xs), error @ h], sum(rewards)

    def turn(self):
        sums = [np.zeros_like(self.W1), np.zeros_like(self.W2)]
        for _ in range(self.n_games):
            slopes, score = self.game()
            self.scores.append(score)
            for total, slope in zip(sums, slopes, strict=True):
                total += slope
        for w, slope, square in zip((self.W1, self.W2), sums, self.squares, strict=True):
            square *= self.decay
            square += (1 - self.decay) * slope**2
            w += self.eta * slope / (np.sqrt(square) + 1e-5)
        return self.n_steps, self.scores

    def play(self, n_games):
        return np.array([self.game()[1] for _ in range(n_games)])


def ceiling(n_games=16, seconds=20.0):
    """Return the decisions per second of the console's own vector environment, with random actions and nobody looking."""
    console = pong.Pong(n_games)._console
    console.reset(seed=0)
    rng, n_steps, begin = np.random.default_rng(0), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        console.step(rng.integers(2, 4, size=n_games))
        n_steps += n_games
    console.close()
    return n_steps / elapsed


def trained(learner, minutes):
    """Train for some minutes; return steps per second and the minutes to break-even, or None."""
    begin, even = time.perf_counter(), None
    while (elapsed := time.perf_counter() - begin) < 60 * minutes:
        n_steps, scores = learner.turn()
        if even is None and len(scores) >= 50 and np.mean(scores[-50:]) >= 0:
            even = (time.perf_counter() - begin) / 60
    return n_steps / elapsed, even, len(scores) / elapsed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of training for each learner (default 3)")
    parser.add_argument("--games", type=int, default=32, help="fresh games to judge each by (default 32)")
    wanted = parser.parse_args()

    top = ceiling()
    report.about(report.made())
    report.head("", "steps/s", "of the console's", f"score, {wanted.minutes:g} min", "break-even")
    report.row("the console alone", f"{top:,.0f}", f"{1:.0%}", "", "")
    learners = {"ours": lambda: Ours(dense=False), "ours, dense": lambda: Ours(dense=True), "of 2016": Of2016}
    for name, build in learners.items():
        with one_thread():
            learner = build()
            speed, even, games_a_second = trained(learner, wanted.minutes)
            scores = learner.play(wanted.games)
        error = 2 * scores.std(ddof=1) / np.sqrt(len(scores))
        after = f"{even:.1f} min" if even else f"not in {wanted.minutes:g} min"
        if name == "of 2016" and not even:
            after += f"; extrapolated {GAMES_OF_2016 / games_a_second / 3600:.0f} h"
        report.row(name, f"{speed:,.0f}", f"{speed / top:.0%}", f"{scores.mean():.1f} ± {error:.1f}", after)


if __name__ == "__main__":
    main()
