"""Pong from pixels: our recipe against that of 2016, our recipe with a dense layer, and the console alone.

python benchmarks/pong.py [--minutes 3] [--games 32]

Each learner is trained for the same time, one after the other on the same machine, and is then evaluated in
fresh games. "Break-even" is when the mean score difference of the last 50 training games first reached 0. If
it did not, the table says so, and extrapolates for the recipe of 2016: how long the 8,000 games that its
author reports would take at the speed measured here.
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
from pgcourse.maths.returns import reward_to_go, standardize
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.pixels import PixelTrunk

GAMES_OF_2016 = 8_000  # "slightly better than the AI" after about as many; Karpathy (2016)


class DenseTrunk(PixelTrunk):
    """The same hidden layer, with W₁x computed as a dense matrix product, including all zeros."""

    def forward(self, x):
        return (torch.as_tensor(x, dtype=self.W1.dtype) @ self.W1 + self.b1).relu()


class Ours:
    """The recipe ``reinforce/pong``, one update at a time."""

    def __init__(self, dense: bool):
        self.algorithm = recipes.get("reinforce/pong").build(seed=0)
        if dense:
            self.algorithm.policy.trunk.__class__ = DenseTrunk  # the same weights, multiplied in another way

    def update(self):
        self.algorithm.update()
        return self.algorithm.n_steps, self.algorithm.env.score_differences

    def evaluate(self, n_games):
        return pong.evaluate(recipes.actor(self.algorithm.policy, seed=1), n_games, seed=1)


class Of2016:
    """One game, every second pixel, two dense matrices in NumPy, RMSProp after every ten games.

    Karpathy (2016).
    """

    eta, gamma, decay, n_games, hidden_size = 1e-4, 0.99, 0.99, 10, 200

    def __init__(self):
        import ale_py

        gymnasium.register_envs(ale_py)
        with warnings.catch_warnings(action="ignore"):  # it is out of date, which is the point
            self.env = gymnasium.make("Pong-v0")  # each decision lasts 2, 3 or 4 frames, as then
        self.rng = np.random.default_rng(0)
        self.screen, _ = self.env.reset(seed=0)
        self.W1 = self.rng.normal(size=(self.hidden_size, pong.N_PIXELS)) / np.sqrt(pong.N_PIXELS)
        self.w2 = self.rng.normal(size=self.hidden_size) / np.sqrt(self.hidden_size)
        self.mean_squares = [np.zeros_like(self.W1), np.zeros_like(self.w2)]  # of the gradient, for RMSProp
        self.n_steps, self.score_differences = 0, []

    @staticmethod
    def preprocess(screen):
        red = screen[35:195:2, ::2, 0]
        return ((red != 144) & (red != 109)).astype(float).ravel()  # 144 and 109: the two backgrounds

    def forward(self, x):
        """Return the hidden layer and the logit."""
        h = np.maximum(0, x @ self.W1.T)
        return h, h @ self.w2

    def play_game(self):
        """Play one game; return its gradient estimate for both layers, and its score difference."""
        frames, hidden, errors, rewards, done = [], [], [], [], False
        last_field = np.zeros(pong.N_PIXELS)
        while not done:
            field = self.preprocess(self.screen)
            x, last_field = field - last_field, field
            h, z = self.forward(x)
            y = 1 / (1 + np.exp(-z))
            up = self.rng.random() < y
            self.screen, r, terminated, truncated, _ = self.env.step(2 if up else 3)
            done = terminated or truncated
            for row, value in zip((frames, hidden, errors, rewards), (x, h, up - y, r), strict=True):
                row.append(value)
        self.screen, _ = self.env.reset()
        points = np.split(np.array(rewards), np.flatnonzero(rewards) + 1)
        G = np.concatenate([reward_to_go(r, self.gamma) for r in points])
        error = np.array(errors) * standardize(G)
        h = np.array(hidden)
        self.n_steps += len(rewards)
        return [(np.outer(error, self.w2) * (h > 0)).T @ np.array(frames), error @ h], sum(rewards)

    def update(self):
        sums = [np.zeros_like(self.W1), np.zeros_like(self.w2)]
        for _ in range(self.n_games):
            gradients, score_difference = self.play_game()
            self.score_differences.append(score_difference)
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient
        for w, gradient, mean_square in zip((self.W1, self.w2), sums, self.mean_squares, strict=True):
            mean_square *= self.decay
            mean_square += (1 - self.decay) * gradient**2
            w += self.eta * gradient / (np.sqrt(mean_square) + 1e-5)
        return self.n_steps, self.score_differences

    def evaluate(self, n_games):
        return np.array([self.play_game()[1] for _ in range(n_games)])


LEARNERS = {
    "ours": lambda: Ours(dense=False),
    "ours, dense": lambda: Ours(dense=True),
    "of 2016": Of2016,
}


def console_speed(n_games=16, seconds=20.0):
    """Return the steps per second of the console's own vector environment, with random actions.

    No policy is computed, and no screen is preprocessed.
    """
    console = pong.Pong(n_games)._console
    console.reset(seed=0)
    rng, n_steps, begin = np.random.default_rng(0), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        console.step(rng.integers(2, 4, size=n_games))
        n_steps += n_games
    console.close()
    return n_steps / elapsed


def train(learner, minutes):
    """Return steps per second, the minutes to break-even, or None, and games per second."""
    begin, break_even = time.perf_counter(), None
    while (elapsed := time.perf_counter() - begin) < 60 * minutes:
        n_steps, score_differences = learner.update()
        n_games = len(score_differences)
        if break_even is None and n_games >= 50 and np.mean(score_differences[-50:]) >= 0:
            break_even = (time.perf_counter() - begin) / 60
    return n_steps / elapsed, break_even, n_games / elapsed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of training for each learner (default 3)")
    parser.add_argument("--games", type=int, default=32, help="fresh games of each evaluation (default 32)")
    args = parser.parse_args()

    alone, minutes = console_speed(), f"{args.minutes:g} min"
    report.print_provenance(report.provenance())
    report.print_header("", "steps/s", "of the console's", f"score difference, {minutes}", "break-even")
    report.print_row("the console alone", f"{alone:,.0f}", f"{1:.0%}", "", "")
    for name, make in LEARNERS.items():
        with single_thread():
            learner = make()
            speed, break_even, games_per_second = train(learner, args.minutes)
            x = learner.evaluate(args.games)
        error = 2 * x.std(ddof=1) / np.sqrt(len(x))
        reached = f"{break_even:.1f} min" if break_even else f"not in {minutes}"
        if name == "of 2016" and not break_even:
            reached += f"; extrapolated {GAMES_OF_2016 / games_per_second / 3600:.0f} h"
        cells = (f"{speed:,.0f}", f"{speed / alone:.0%}", f"{x.mean():.1f} ± {error:.1f}", reached)
        report.print_row(name, *cells)


if __name__ == "__main__":
    main()
