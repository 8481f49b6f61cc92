"""A game between the recorded network and a rule: python book/_ext/game.py makes the README's film and a CSV.

The network is that of chapter 4, trained on the console, and plays on the right. Its opponent in the film is
the court's own. In the CSV, which comes with the exercise of the study Between two simulators, a rule plays
on the left, against the network at 350,000 decisions: it follows the ball with its paddle, not always well.
"""

import csv
from pathlib import Path

import numpy as np
from pgcourse.environments.court import Court
from pgcourse.environments.pong import DOWN, FRAME_SKIP, NOOP, UP
from pgcourse.experiments import records
from pgcourse.teaching.exercises.two_simulators import GAME
from PIL import Image

FILM = Path(__file__).parents[1] / "_static" / "court.webp"
COLOURS = np.array([[34, 34, 34], [255, 255, 255], [230, 159, 0], [86, 180, 233]], np.uint8)


def picture(court, scale=4):
    """Return the field as the page draws it: the left paddle orange, the right one blue."""
    colour = court.fields[0].astype(int)
    colour[:, 8:10] *= 2
    colour[:, 70:72] *= 3
    return Image.fromarray(COLOURS[colour].repeat(scale, axis=0).repeat(scale, axis=1))


def film(policy, n_decisions=220, seed=1):
    """Let the policy play on the court, and return its pictures, one a decision."""
    court, rng, frames = Court(1), np.random.default_rng(seed), []
    x, _ = court.reset(seed=seed)
    for _ in range(n_decisions):
        x, *_ = court.step(policy.sample(x, rng))
        frames.append(picture(court))
    return frames


def rows(policy, n_points=6, seed=7):
    """Yield the lines of a CSV as the page writes it, of a game that ends after so many points."""
    court, rng = Court(1, n_actions=3), np.random.default_rng(seed)
    x, _ = court.reset(seed=seed, options={"idle": np.array([12])})
    while n_points:
        up = float(policy.probabilities(x)[0, UP])
        a = np.array([UP if rng.random() < up else DOWN])
        above = court.left[0] + 6 - court.y[0]
        left = NOOP if not court.y[0] or abs(above) < 5 else UP if above > 0 else DOWN
        x, r, *_ = court.step(a, np.array([left]))
        n_points -= int(r[0] != 0)
        yield 0, 12, a[0], left, f"{up:.6f}", int(-r[0])


def main():
    record = records.load("reinforce/pong")[0]
    frames = film(record.policy())
    duration = 1000 * FRAME_SKIP / 60
    frames[0].save(FILM, save_all=True, append_images=frames[1:], duration=duration, loop=0, lossless=True)
    with GAME.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["game", "idle", "right", "left", "p_up", "reward"])
        writer.writerows(rows(record.policy(record.policy_steps()[-1])))


if __name__ == "__main__":
    main()
