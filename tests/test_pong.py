"""Against the console itself: two independent ways to its frames, and what can be read off its screen."""

import itertools
import os

import numpy as np
import pytest

from pgcourse.environments import pong

GREEN, WHITE = (92, 186, 92), (236, 236, 236)  # our paddle and the ball, on the console's screen


def random_moments(n, seed=0, **options):
    rng = np.random.default_rng(seed)
    return list(pong.watch(lambda m: rng.integers(2), n, seed=seed, **options))


@pytest.fixture(scope="module")
def moments():
    return random_moments(1200)


def test_field_is_one_where_any_of_four_pixels_differs_from_the_background():
    screen = np.full((210, 160), 87)
    screen[34, 1] = screen[193, 158] = 236
    screen[33] = screen[194] = 236  # the walls, outside
    expected = np.zeros((80, 80))
    expected[0, 0] = expected[79, 79] = 1
    assert (pong.field(screen) == expected).all()
    assert (pong.field(np.stack([screen, screen])) == expected).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_many_games_see_what_a_single_console_shows(seed):
    """`Pong` halves the screen in C++, `field` in NumPy; the same start and actions must give the same frames and rewards."""
    from ale_py import ALEInterface, roms

    games = pong.Pong(1)
    x, info = games.reset(seed=seed)
    console = ALEInterface()
    console.setFloat("repeat_action_probability", 0.0)
    console.loadROM(roms.get_rom_path("pong"))
    console.reset_game()
    for _ in range(info["frame_number"][0]):
        console.act(0)
    actions = console.getMinimalActionSet()
    rng = np.random.default_rng(seed)
    before, rewards = pong.field(console.getScreenGrayscale()), 0
    for _ in range(700):
        a = rng.integers(2)
        x, r, *_ = games.step(np.array([a]))
        expected_r = sum(console.act(actions[3 - a]) for _ in range(4))
        now = pong.field(console.getScreenGrayscale())
        assert r[0] == expected_r
        assert (x[0] == (now - before).ravel()).all()
        before = now
        rewards += expected_r != 0
    assert rewards > 5
    games.close()


def test_up_goes_up_and_down_goes_down():
    for action, ends in [(pong.UP, lambda row: row < 10), (pong.DOWN, lambda row: row > 70)]:
        rows = [m.paddle for m in pong.watch(lambda m, action=action: action, 30, screens=False)]
        assert ends(rows[-1])


def test_ball_and_paddle_are_where_the_screen_shows_them(moments):
    balls = paddles = 0
    for m in moments:
        white = np.argwhere((m.screen[34:194] == WHITE).all(axis=2))
        green = np.argwhere((m.screen[34:194] == GREEN).all(axis=2))
        if len(white) == 8 and m.ball:  # whole, not touching anything
            row, column = (white.mean(axis=0) + 0.5) / 2
            assert m.ball == pytest.approx((column, row), abs=0.51)
            balls += 1
        if len(green) == 64:
            assert m.paddle == pytest.approx((green[:, 0].mean() + 0.5) / 2, abs=0.51)
            paddles += 1
    assert balls > 300
    assert paddles > 300


def test_difference_is_field_now_minus_field_before(moments):
    for before, now in itertools.pairwise(moments):
        new_game = not now.x.any()
        assert new_game or (now.x == (now.field - before.field).ravel()).all()
    assert sum(m.x.any() for m in moments) > 0.9 * len(moments)


def test_the_other_background_of_the_first_screens_is_no_object():
    """Of these games one begins with the console's first screen, whose background has another grey."""
    games = pong.Pong(16)
    for seed in (0, 5, 9, 21):
        games.reset(seed=seed)
        assert all(np.count_nonzero(x) < 200 for _ in range(3) for x in games.step(np.ones(16, int))[0])
    assert not pong.field(np.full((210, 160), 107)).any()
    games.close()


def test_the_ball_approaches_when_the_console_says_so(moments):
    """Where its memory has had the ball between paddles and walls for three decisions, on one way."""
    seen = pong.approaching(np.array([m.x for m in moments]))
    assert seen.dtype == bool
    column, row = np.array([m.ball or (np.nan, np.nan) for m in moments]).T
    inside = (column > 14) & (column < 66) & (row > 2) & (row < 78)
    before, long_before = np.roll(column, 1), np.roll(column, 2)
    one_way = np.sign(column - before) == np.sign(before - long_before)
    steady = inside & np.roll(inside, 1) & np.roll(inside, 2) & one_way
    assert steady.sum() > 300
    np.testing.assert_array_equal(seen[steady], (column > before)[steady])
    assert not seen[np.isnan(column)].any()
    gone = (column > 72) & (before > 70)  # past our paddle
    assert gone.sum() > 30
    assert not seen[gone].any()


def test_who_stays_does_not_move():
    games = pong.Pong(2, n_actions=3)
    games.reset(seed=0)
    assert games.single_action_space.n == 3
    ours = [
        games.step(np.array([pong.STAY, pong.UP]))[0].reshape(2, 80, 80)[:, :, 70:72].any(axis=(1, 2))
        for _ in range(12)
    ]
    assert not np.array(ours[4:])[:, 0].any()  # after a moment's inertia
    assert np.array(ours[4:8])[:, 1].any()
    games.close()


def test_scores_add_up_and_observations_start_blank():
    games = pong.Pong(8)
    x, _ = games.reset(seed=0)
    assert not x.any()
    rng = np.random.default_rng(0)
    totals, finished = np.zeros(8), []
    for _ in range(1600):
        x, r, terminated, truncated, info = games.step(rng.integers(2, size=8))
        assert ((r != 0) == terminated).all()
        assert not truncated.any()
        assert info["final_obs"] is x
        totals += r
        for k in np.flatnonzero(info["over"]):
            assert terminated[k]
            assert max(abs(totals[k]), 1) <= 21
            finished.append(int(totals[k]))
            assert not x[k].any()
            totals[k] = 0
    assert len(finished) >= 8
    assert games.scores == finished
    games.close()


def test_it_is_a_vector_environment_and_takes_booleans_for_what_they_say():
    frames = []
    for dtype in (int, bool):
        games = pong.Pong(3)
        x, _ = games.reset(seed=0)
        assert x in games.observation_space
        for a in ([1, 1, 1], [0, 0, 0], [0, 1, 1]) * 5:
            assert np.array(a) in games.action_space
            x, *_ = games.step(np.array(a, dtype))
        assert x in games.observation_space
        frames.append(x)
        games.close()
    assert (frames[0] == frames[1]).all()


def test_same_seed_same_games():
    def run(seed, n_steps=300):
        games = pong.Pong(4, game="ALE/Pong-v5")
        games.reset(seed=seed)
        rng = np.random.default_rng(1)
        frames = [games.step(rng.integers(2, size=4))[0] for _ in range(n_steps)]
        games.close()
        return np.array(frames)

    assert (run(5) == run(5)).all()
    assert (run(5) != run(6)).any()


def test_play_returns_one_score_a_game_and_random_play_loses():
    rng = np.random.default_rng(0)
    scores = pong.play(lambda x: rng.integers(2, size=len(x)), 6, seed=0)
    assert scores.shape == (6,)
    assert scores.max() < 0  # to win a game at random takes 21 points of 41 at 1 in 30 each: below 10⁻¹⁰
    assert scores.min() >= -21


@pytest.mark.parametrize(
    ("cores", "allowed", "n_games", "first"),
    [
        (2, {0, 1}, 16, 0),
        (2, {0, 1}, 2, 0),
        (2, {1}, 16, -1),
        (64, set(range(64)), 16, -1),
        (16, set(range(16)), 16, 0),
    ],
)
def test_threads_are_pinned_only_where_every_core_is_ours_and_used(
    monkeypatch, cores, allowed, n_games, first
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    assert pong._first_core(n_games) == first
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows have none
    assert pong._first_core(n_games) == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pong.field(np.zeros((200, 160))),
            r"screen must have shape \(\.\.\., 210, 160\).*got \(200, 160\)",
        ),
        (lambda: pong.field(np.full((210, 160), np.nan)), "screen must be finite, got nan"),
        (lambda: pong.Pong(0), "n_games must be at least 1, got 0"),
        (lambda: pong.Pong(1, n_actions=6), "n_actions must be 2 or 3, got 6"),
        (lambda: pong.approaching(np.zeros(6400)), r"x must have shape \(N, 6400\), got \(6400,\)"),
        (
            lambda: pong.Pong(2, game="Breakout"),
            "game must be one of PongDeterministic-v4, ALE/Pong-v5, got 'Breakout'",
        ),
        (lambda: pong.watch(lambda m: 0, 1, game="pong"), "game must be one of .*, got 'pong'"),
        (lambda: pong.play(lambda x: x, 0), "n_games must be at least 1"),
        (lambda: step_with(2), "actions must be 4 integers in 0..1, got 2"),
        (lambda: next(pong.watch(lambda m: 0.7, 1)), r"act must return 0 \(DOWN\) or 1 \(UP\), got 0.7"),
        (lambda: next(pong.watch(lambda m: -1, 1)), r"act must return 0 \(DOWN\) or 1 \(UP\), got -1"),
        (lambda: step_with(-1), "actions must be 4 integers in 0..1, got -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def step_with(action):
    games = pong.Pong(4)
    games.reset(seed=0)
    games.step(np.array([0, 1, 1, action]))
