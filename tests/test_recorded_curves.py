"""Short repetitions of recorded runs: recipe and seed give the first rows of the recorded learning curve."""

import numpy as np
import pytest

from pgcourse.experiments import recipes, records
from pgcourse.experiments.training import train

COLUMNS = {"n_updates", "n_steps", "n_episodes"}  # counts, which are equal; the rest to five digits
TIMES = {"seconds", "eval_return"}  # of another machine; and evaluations, which have other seeds here
ABLATIONS = records.COMPARISONS_DIR / "ablations"


@pytest.mark.parametrize(
    ("name", "folder", "steps"),
    [
        ("reinforce/cartpole", records.RECORDS_DIR, 12_000),
        ("reinforce/pong", records.RECORDS_DIR, 9_000),
        ("actor-critic/cartpole", records.RECORDS_DIR, 6_000),
        ("actor-critic/pendulum", records.RECORDS_DIR, 61_000),
        ("actor-critic/access-control", records.RECORDS_DIR, 151_000),
        ("ppo/cartpole", records.RECORDS_DIR, 2_300),
        ("ppo/acrobot", records.RECORDS_DIR, 9_000),
        ("dqn/cartpole", records.RECORDS_DIR, 2_100),
        ("ddpg/pendulum", records.RECORDS_DIR, 1_250),
        ("ddpg-paper/pendulum", records.RECORDS_DIR, 1_450),
        ("td3/pendulum", ABLATIONS, 1_250),
    ],
)
def test_a_repeated_run_gives_the_recorded_curve(name, folder, steps):
    """Other processors round differently, which five digits do not show in so few updates."""
    recipe, [record, *_] = recipes.get(name), records.load(name, folder)
    algorithm = recipe.build(record.seed)
    curve = train(algorithm, steps=steps, checkpoint_interval=recipe.checkpoint_interval, progress=False)
    algorithm.env.close()
    recorded = record.curve()
    n_rows = int((curve["n_steps"] < steps).sum())
    assert n_rows >= 2
    for column in recorded.keys() - TIMES:
        tolerance = 0 if column in COLUMNS else 1e-5
        np.testing.assert_allclose(
            curve[column][:n_rows], recorded[column][:n_rows], rtol=tolerance, err_msg=column
        )
