"""Against the console: frame by frame, and its field pixel by pixel; as a vector environment; its replay."""

import csv

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from pgcourse.environments import pong
from pgcourse.environments.court import Court, Rules, replay


def lasting(n_decisions, n_envs, seed, n_actions=2):
    """Random actions that last for eight decisions on average, or the paddle would hardly move."""
    rng = np.random.default_rng(seed)
    drawn, keep = (
        rng.integers(n_actions, size=(n_decisions, n_envs)),
        rng.random((n_decisions, n_envs)) < 7 / 8,
    )
    last = np.maximum.accumulate(np.where(keep, 0, np.arange(n_decisions)[:, None]), axis=0)
    return np.take_along_axis(drawn, last, axis=0)


def test_ball_paddles_and_points_are_the_consoles():
    """In every decision of one game, by the console's memory; between points it remembers the last ball."""
    steps, taken = [], lasting(600, 1, seed=0)[:, 0]
    for step in pong.iter_steps(lambda step: int(taken[len(steps)]), 600, screens=False):
        steps.append(step)
    idle = np.array([np.random.default_rng(0).integers(1, 31)])  # as iter_steps draws it
    court = Court(1)
    court.reset(seed=0, options={"idle": idle})
    n_balls = 0
    for step in steps:
        x, y = int(court.x[0]), int(court.y[0])
        assert step.ball == (None if y == 0 else ((x - 48) / 2, (y - 46) / 2))
        assert step.paddle == (court.right[0] - 40) / 2
        n_balls += y > 0
        _, [r], [terminated], *_ = court.step(np.array([step.a]))
        assert r == step.r
        assert terminated == step.done
    assert n_balls > 200


def test_fields_are_the_consoles_but_for_a_row_of_the_ball_on_the_right():
    """Pixel by pixel. The console switches the ball on and off while the picture is drawn: a line too early,
    or not, in the columns that the beam has not reached. How far it is depends on what else it draws there.
    """
    steps, taken = [], lasting(1500, 1, seed=1)[:, 0]
    for step in pong.iter_steps(lambda step: int(taken[len(steps)]), 1500, screens=False):
        steps.append(step)
    court = Court(1)
    court.reset(seed=0, options={"idle": np.array([np.random.default_rng(0).integers(1, 31)])})
    n_others = 0
    for step in steps:
        rows, columns = np.nonzero(step.field != court.fields[0])
        x, y = int(court.x[0]) - 48, int(court.y[0]) - 48  # the ball is drawn in columns x − 1 and x
        assert not rows.size or x > 125
        assert set(columns) <= {x - 1 >> 1, x >> 1}
        assert set(rows) <= {y - 1 >> 1, y + 3 >> 1}  # the line above it, and its last one
        n_others += rows.size > 0
        *_, info = court.step(np.array([step.a]))
        if info["done"][0]:  # the next game begins at random
            break
    assert n_others


def test_difference_frames_are_the_consoles_elsewhere():
    console, court = pong.Pong(4), Court(4)
    x, info = console.reset(seed=1)
    court.reset(options={"idle": info["frame_number"]})
    for a in lasting(250, 4, seed=1):
        x, r, terminated, _, info = console.step(a)
        ours, our_r, our_terminated, _, our_info = court.step(a)
        np.testing.assert_array_equal(our_r, r)
        np.testing.assert_array_equal(our_terminated, terminated)
        np.testing.assert_array_equal(our_info["score_difference"], info["score_difference"])
        differ = (x != ours).reshape(4, 80, 80)
        assert not differ[:, :, :62].any()
        assert (differ.sum(axis=(1, 2)) <= 8).all()  # two columns, two lines, two fields
    console.close()


def test_rewards_add_up_and_a_game_ends_at_21():
    court = Court(64)
    x, _ = court.reset(seed=0)
    assert not x.any()
    totals, finished = np.zeros(64), []
    for a in lasting(1500, 64, seed=2):
        x, r, terminated, truncated, info = court.step(a)
        assert ((r != 0) == terminated).all()
        assert not truncated.any()
        assert info["final_obs"] is x
        totals += r
        np.testing.assert_array_equal(info["score_difference"], totals)
        for k in np.flatnonzero(info["done"]):
            assert terminated[k]
            assert not x[k].any()
            finished.append(int(totals[k]))
            totals[k] = 0
    assert len(finished) >= 64
    assert court.score_differences == finished
    assert -21 <= min(finished) < max(finished) < 0  # the opponent wins against random actions


def test_it_is_a_vector_environment_that_keeps_nothing_it_has_returned():
    court = Court(3, n_actions=3)
    assert court.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    x, _ = court.reset(seed=0)
    assert x in court.observation_space
    kept = []
    for a in lasting(200, 3, seed=3, n_actions=3):
        assert a in court.action_space
        x, r, *_, info = court.step(a)
        assert x in court.observation_space
        assert (x.dtype, r.dtype) == (np.int8, float)
        kept.append((x, x.copy(), r, r.copy(), info["score_difference"], info["score_difference"].copy()))
    for step in kept:
        for returned, copied in zip(step[::2], step[1::2], strict=True):
            np.testing.assert_array_equal(returned, copied)


def test_difference_is_field_now_minus_field_before():
    court = Court(8)
    court.reset(seed=0)
    before = court.fields
    for a in lasting(300, 8, seed=4):
        x, *_, info = court.step(a)
        now = court.fields
        difference = (now - before).reshape(8, -1)
        np.testing.assert_array_equal(x[~info["done"]], difference[~info["done"]])
        before = now


def played(n_decisions=300, n_envs=8, **rules):
    """Positions of the ball, both paddles and rewards under other rules, after the same start and actions."""
    court, seen = Court(n_envs, rules=Rules(**rules)), []
    court.reset(options={"idle": np.arange(n_envs)})
    for a in lasting(n_decisions, n_envs, seed=8):
        _, r, *_ = court.step(a)
        seen.append([court.x.copy(), court.y.copy(), court.left.copy(), court.right.copy(), r])
    return np.array(seen).transpose(1, 0, 2)


def moves_of(v):
    """How far something moves in a decision, without the jumps between points."""
    return np.abs(np.diff(v, axis=0))


def test_the_ball_is_twice_as_fast():
    for ball in (1, 2):
        x, *_ = played(ball=ball)
        assert np.bincount(moves_of(x).astype(int).ravel())[1:].argmax() + 1 == 4 * ball


def test_the_paddle_follows_the_knob_with_a_lag():
    """Four frames turn the knob by 92,000, that is 23 lines; the console's paddle goes half of the rest."""
    for lag, expected in ((1, [14, 24, 24]), (2, [8, 18, 22]), (4, [4, 12, 18])):
        r = played(lag=lag, n_decisions=60)[3]
        starts = np.abs(np.diff(np.vstack([np.full(8, 109), r[:3]]), axis=0)).mean(axis=1)
        assert np.abs(starts - expected).max() < 5, (lag, starts)
        assert moves_of(r).max() <= 24


@pytest.mark.parametrize("paddle", [8, 16])
def test_a_paddle_is_drawn_as_long_as_it_is(paddle):
    court = Court(4, rules=Rules(paddle=paddle))
    court.reset(seed=0)
    for a in lasting(50, 4, seed=9):
        court.step(a)
        beside = (court.x < 180) | (court.y == 0)
        rows = court.fields[:, :, 70].sum(axis=1)
        inside = (court.right > 48) & (court.right < 190)
        assert (rows[beside & inside] == paddle // 2).all()


@pytest.mark.parametrize("paddle", [8, 16])
def test_a_paddle_hits_as_far_as_it_is_long(paddle):
    court, hits = Court(64, rules=Rules(paddle=paddle)), set()
    court.reset(seed=0)
    for a in lasting(400, 64, seed=9):
        for _ in range(pong.FRAME_SKIP):
            coming, y, top = court.vx > 0, court.y.copy(), court.right + (court.right & 1)
            court._advance(np.where(a == pong.UP, -1, 1))
            hits |= set((y - top)[coming & (court.vx < 0)].tolist())
    assert min(hits) >= -2
    assert paddle - 3 < max(hits) < paddle


def test_mirrored_angles_send_the_ball_to_the_other_side():
    """Until the first hit nothing differs; after it the ball goes up instead of down."""
    one, other = (played(angles=angles) for angles in (1, -1))
    k, game = np.argwhere((one[1] != other[1]) & (one[1] > 0) & (other[1] > 0))[0]
    np.testing.assert_array_equal(one[:, :k, game], other[:, :k, game])
    np.testing.assert_array_equal(one[0, k, game], other[0, k, game])
    speeds = [side[1, k + 1, game] - side[1, k, game] for side in (one, other)]
    assert speeds[0] * speeds[1] < 0


@pytest.mark.parametrize(("rest", "share"), [(4, 3 / 4), (2, 1 / 2)])
def test_the_opponent_rests_in_every_so_manieth_frame(rest, share):
    court, moved, n = Court(4, rules=Rules(rest=rest)), 0, 0
    court.reset(seed=0)
    for a in lasting(400, 4, seed=10):
        before = court.left.copy(), court.y.copy(), court.x.copy()
        court.step(a)
        far = (np.abs(before[0] - before[1]) > 24) & (before[1] > 0) & (court.y > 0)
        far &= np.abs(court.x - before[2]) <= 4
        moved, n = moved + np.abs(court.left - before[0])[far].sum(), n + 4 * far.sum()
    assert n > 100
    assert abs(moved / n / 2 - share) < 0.03


def test_rules_may_differ_from_game_to_game():
    names = {"ball": [1, 2, 1], "lag": [2, 1, 4], "paddle": [16, 12, 8], "rest": [8, 4, 16]}
    mixed = played(n_envs=3, **{name: np.array(values) for name, values in names.items()})
    for k in range(3):
        alone = played(n_envs=3, **{name: values[k] for name, values in names.items()})
        np.testing.assert_array_equal(mixed[:, :, k], alone[:, :, k])


def test_drawn_rules_are_around_the_consoles():
    rules = Rules.draw(1000, np.random.default_rng(0))
    Court(1000, rules=rules)
    for name, value in vars(Rules()).items():
        drawn = np.unique(getattr(rules, name))
        assert value in drawn
        assert (len(drawn) > 1) == (name != "angles")


def test_game_k_is_seeded_with_seed_plus_k():
    a = lasting(400, 6, seed=5)
    together, alone = Court(6), Court(1)
    together.reset(seed=10)
    frames = [together.step(one)[0] for one in a]
    for k in (0, 5):
        alone.reset(seed=10 + k)
        for one, x in zip(a, frames, strict=True):
            np.testing.assert_array_equal(alone.step(one[k : k + 1])[0][0], x[k])
    assert any((x[0] != x[5]).any() for x in frames[:10])


def test_a_second_player_takes_the_opponents_place():
    """The left side, which follows the ball, scores against a right side that stays at the bottom."""
    court, points = Court(4), np.zeros(4)
    court.reset(seed=0)
    for _ in range(600):
        above = court.left + 6 - court.y  # from the middle of the ball to the middle of the paddle
        left = np.where(
            (np.abs(above) < 6) | (court.y == 0), pong.NOOP, np.where(above > 0, pong.UP, pong.DOWN)
        )
        points -= court.step(np.full(4, pong.DOWN), left)[1]
    assert (points > 2).all()


@pytest.fixture
def recorded(tmp_path):
    """A file as the page writes it: two games, the second unfinished, in which both sides act at random."""
    court, rows = Court(1, n_actions=3), []
    court.reset(seed=3)
    game, idle = 0, 59 - int(court.wait[0])
    right, left = lasting(2500, 1, seed=6, n_actions=3), lasting(2500, 1, seed=7, n_actions=3)
    frames = []
    x = np.zeros((1, pong.N_PIXELS), np.int8)
    for a, b in zip(right, left, strict=True):
        frames.append(x[0])
        x, [r], *_, info = court.step(a, b)
        rows.append([game, idle, a[0], b[0], 0.5, int(-r)])
        if info["done"][0]:
            game, idle = game + 1, 59 - int(court.wait[0])
    path = tmp_path / "my-game.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["game", "idle", "right", "left", "p_up", "reward"], *rows]
        )
    return path, np.array(frames), np.array(rows)


def test_replay_sees_every_frame_from_the_other_side(recorded):
    path, frames, rows = recorded
    games = replay(path)
    assert len(games) == rows[-1, 0] + 1 > 1
    mirrored = frames.reshape(-1, 80, 80)[:, :, ::-1].reshape(frames.shape)
    np.testing.assert_array_equal(np.concatenate([game.s for game in games]), mirrored)
    np.testing.assert_array_equal(np.concatenate([game.a for game in games]), rows[:, 3])
    np.testing.assert_array_equal(np.concatenate([game.r for game in games]), rows[:, 5])


def test_a_file_that_no_game_can_have_written_is_named(recorded, tmp_path):
    path, *_ = recorded
    path.write_text(path.read_text("utf-8").replace(",1\n", ",0\n").replace(",-1\n", ",0\n"), "utf-8")
    with pytest.raises(ValueError, match="must hold rewards that follow from the actions"):
        replay(path)
    path.write_text("game,idle\n0,1\n", "utf-8")
    with pytest.raises(ValueError, match="must hold the columns game, idle, right, left, reward"):
        replay(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Court(0), "n_envs must be a whole number of at least 1, got 0"),
        (lambda: Court(1, n_actions=6), "n_actions must be one of 2, 3, got 6"),
        (lambda: Court(2, rules=Rules(ball=4)), "ball must be from 1 to 3, and not 0, got 4"),
        (lambda: Court(2, rules=Rules(angles=0)), "angles must be from -1 to 1, and not 0, got 0"),
        (lambda: Court(2, rules=Rules(lag=1.5)), "lag must be a whole number, or one for each of 2 games"),
        (lambda: Court(2, rules=Rules(rest=np.array([8] * 3))), "rest must be a whole number, or one for"),
        (lambda: step_with([0, 2]), r"actions must be 2 integers in 0\.\.1, got 2"),
        (lambda: step_with([0]), r"actions must be 2 integers in 0\.\.1, got shape \(1,\)"),
        (lambda: step_with([0, 0.5]), r"actions must be 2 integers in 0\.\.1, got 0.5"),
        (lambda: step_with([0, 0], [0, 3]), r"left must be 2 integers in 0\.\.2, got 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def step_with(actions, left=None):
    court = Court(2)
    court.reset(seed=0)
    court.step(np.array(actions), None if left is None else np.array(left))
