"""Against the console itself: two independent ways to its frames, and its screen."""

import itertools
import os

import numpy as np
import pytest

from pgcourse.environments import pong

GREEN, WHITE = (92, 186, 92), (236, 236, 236)  # our paddle and the ball, on the console's screen


def random_steps(n, seed=0, **options):
    rng = np.random.default_rng(seed)
    return list(pong.iter_steps(lambda step: rng.integers(2), n, seed=seed, **options))


@pytest.fixture(scope="module")
def steps():
    return random_steps(1200)


def test_preprocess_is_one_where_any_of_four_pixels_differs_from_the_background():
    screen = np.full((210, 160), 87)
    screen[34, 1] = screen[193, 158] = 236
    screen[33] = screen[194] = 236  # the walls, outside
    expected = np.zeros((80, 80))
    expected[0, 0] = expected[79, 79] = 1
    assert (pong.preprocess(screen) == expected).all()
    assert (pong.preprocess(np.stack([screen, screen])) == expected).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_vector_environment_agrees_with_a_single_console(seed):
    """`Pong` halves the screen in C++, `preprocess` in NumPy; frames and rewards must be the same."""
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
    before, rewards = pong.preprocess(console.getScreenGrayscale()), 0
    for _ in range(700):
        a = rng.integers(2)
        x, r, *_ = games.step(np.array([a]))
        expected_r = sum(console.act(actions[3 - a]) for _ in range(4))
        now = pong.preprocess(console.getScreenGrayscale())
        assert r[0] == expected_r
        assert (x[0] == (now - before).ravel()).all()
        before = now
        rewards += expected_r != 0
    assert rewards > 5
    games.close()


def test_up_goes_up_and_down_goes_down():
    for action, at_the_end in [(pong.UP, lambda row: row < 10), (pong.DOWN, lambda row: row > 70)]:
        rows = [
            step.paddle for step in pong.iter_steps(lambda step, action=action: action, 30, screens=False)
        ]
        assert at_the_end(rows[-1])


def test_ball_and_paddle_are_where_the_screen_shows_them(steps):
    balls = paddles = 0
    for step in steps:
        white = np.argwhere((step.screen[34:194] == WHITE).all(axis=2))
        green = np.argwhere((step.screen[34:194] == GREEN).all(axis=2))
        if len(white) == 8 and step.ball:  # whole, not touching anything
            row, column = (white.mean(axis=0) + 0.5) / 2
            assert step.ball == pytest.approx((column, row), abs=0.51)
            balls += 1
        if len(green) == 64:
            assert step.paddle == pytest.approx((green[:, 0].mean() + 0.5) / 2, abs=0.51)
            paddles += 1
    assert balls > 300
    assert paddles > 300


def test_difference_is_field_now_minus_field_before(steps):
    for before, now in itertools.pairwise(steps):
        new_game = not now.x.any()
        assert new_game or (now.x == (now.field - before.field).ravel()).all()
    assert sum(step.x.any() for step in steps) > 0.9 * len(steps)


def test_the_other_background_of_the_first_screens_is_background():
    """Of these games one begins with the console's first screen, whose background has another grey."""
    games = pong.Pong(16)
    for seed in (0, 5, 9, 21):
        games.reset(seed=seed)
        assert all(np.count_nonzero(x) < 200 for _ in range(3) for x in games.step(np.ones(16, int))[0])
    assert not pong.preprocess(np.full((210, 160), 107)).any()
    games.close()


def test_the_ball_approaches_when_the_console_says_so(steps):
    """While the ball has been between paddles and walls for three decisions, without turning round."""
    approaching = pong.ball_approaching(np.array([step.x for step in steps]))
    assert approaching.dtype == bool
    column, row = np.array([step.ball or (np.nan, np.nan) for step in steps]).T
    inside = (column > 14) & (column < 66) & (row > 2) & (row < 78)
    before, long_before = np.roll(column, 1), np.roll(column, 2)
    one_way = np.sign(column - before) == np.sign(before - long_before)
    steady = inside & np.roll(inside, 1) & np.roll(inside, 2) & one_way
    assert steady.sum() > 300
    np.testing.assert_array_equal(approaching[steady], (column > before)[steady])
    assert not approaching[np.isnan(column)].any()
    gone = (column > 72) & (before > 70)  # past our paddle
    assert gone.sum() > 30
    assert not approaching[gone].any()


def test_drop_idle_steps_moves_rewards_to_the_last_kept_step(steps):
    s, a, r = (np.array([getattr(step, name) for step in steps]) for name in ("x", "a", "r"))
    r += np.random.default_rng(0).integers(3, size=len(r))  # so that no order of summation matters
    kept, actions, rewards = [], [], []
    for t, approaching in enumerate(pong.ball_approaching(s)):
        if approaching:
            kept.append(t)
            actions.append(a[t])
            rewards.append(0.0)
        if kept:
            rewards[-1] += r[t]
    assert 100 < len(kept) < len(s) / 2
    for one, other in zip(pong.drop_idle_steps(s, a, r), (s[kept], actions, rewards), strict=True):
        np.testing.assert_array_equal(one, other)


def test_drop_idle_steps_may_leave_nothing():
    s, a, r = pong.drop_idle_steps(np.zeros((5, pong.N_PIXELS), np.int8), np.zeros(5, int), np.ones(5))
    assert (s.shape, a.shape, r.shape) == ((0, pong.N_PIXELS), (0,), (0,))


def test_with_noop_the_paddle_does_not_move():
    games = pong.Pong(2, n_actions=3)
    games.reset(seed=0)
    assert games.single_action_space.n == 3
    ours = [
        games.step(np.array([pong.NOOP, pong.UP]))[0].reshape(2, 80, 80)[:, :, 70:72].any(axis=(1, 2))
        for _ in range(12)
    ]
    assert not np.array(ours[4:])[:, 0].any()  # after some inertia
    assert np.array(ours[4:8])[:, 1].any()
    games.close()


def test_score_differences_add_up_and_observations_start_blank():
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
        for k in np.flatnonzero(info["done"]):
            assert terminated[k]
            assert max(abs(totals[k]), 1) <= 21
            finished.append(int(totals[k]))
            assert not x[k].any()
            totals[k] = 0
    assert len(finished) >= 8
    assert games.score_differences == finished
    games.close()


def test_it_is_a_vector_environment_and_accepts_boolean_actions():
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


def test_the_same_seed_gives_the_same_games():
    def run(seed, n_steps=300):
        games = pong.Pong(4, game="ALE/Pong-v5")
        games.reset(seed=seed)
        rng = np.random.default_rng(1)
        frames = [games.step(rng.integers(2, size=4))[0] for _ in range(n_steps)]
        games.close()
        return np.array(frames)

    assert (run(5) == run(5)).all()
    assert (run(5) != run(6)).any()


@pytest.mark.parametrize("game", pong.GAMES)
def test_evaluate_plays_the_first_games_of_the_vector_environment_and_a_random_policy_loses(game):
    """Which begins others when these have ended."""

    def random_policy():
        rng = np.random.default_rng(0)
        return lambda x: (rng.integers(2, size=len(x)) + x.sum(axis=1, dtype=int)) % 2

    score_differences = pong.evaluate(random_policy(), 4, seed=7, game=game)
    assert score_differences.shape == (4,)
    assert score_differences.max() < 0  # 21 of 41 points at 1 in 30 each: below 10⁻¹⁰
    assert score_differences.min() >= -21
    games, act, first = pong.Pong(4, game=game), random_policy(), {}
    x, _ = games.reset(seed=7)
    while len(first) < 4:
        x, *_, info = games.step(act(x))
        for k in np.flatnonzero(info["done"]):
            first.setdefault(k, info["score_difference"][k])
    games.close()
    assert score_differences.tolist() == [first[k] for k in range(4)]


@pytest.mark.parametrize(
    ("cores", "allowed", "n_envs", "offset"),
    [
        (2, {0, 1}, 16, 0),
        (2, {0, 1}, 2, 0),
        (2, {1}, 16, -1),
        (64, set(range(64)), 16, -1),
        (16, set(range(16)), 16, 0),
    ],
)
def test_threads_are_pinned_only_where_every_core_is_ours_and_used(
    monkeypatch, cores, allowed, n_envs, offset
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    assert pong._thread_affinity_offset(n_envs) == offset
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows have none
    assert pong._thread_affinity_offset(n_envs) == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pong.preprocess(np.zeros((200, 160))),
            r"screen must have shape \(\.\.\., 210, 160\).*got \(200, 160\)",
        ),
        (lambda: pong.preprocess(np.full((210, 160), np.nan)), "screen must be finite, got nan"),
        *(
            (
                lambda a=a, r=r: pong.drop_idle_steps(np.zeros((3, 6400)), np.zeros(a), np.zeros(r)),
                rf"{name} must have the shape of s, \(3,\), got \(2,\)",
            )
            for name, a, r in (("a", 2, 3), ("r", 3, 2))
        ),
        (lambda: pong.Pong(0), "n_envs must be a whole number of at least 1, got 0"),
        (lambda: pong.Pong(1, n_actions=6), "n_actions must be one of 2, 3, got 6"),
        (lambda: pong.ball_approaching(np.zeros(6400)), r"x must have shape \(N, 6400\), got \(6400,\)"),
        (
            lambda: pong.Pong(2, game="Breakout"),
            "game must be one of PongDeterministic-v4, ALE/Pong-v5, got 'Breakout'",
        ),
        (lambda: next(pong.iter_steps(lambda step: 0, 1, game="pong")), "game must be one of .*, got 'pong'"),
        (lambda: pong.evaluate(lambda x: x, 0), "n_games must be a whole number of at least 1, got 0"),
        (
            lambda: pong.evaluate(lambda x: [1], 2),
            r"act must return an action for each of 2 games, got shape \(1,\)",
        ),
        (lambda: step_with(2), "actions must be 4 integers in 0..1, got 2"),
        (
            lambda: next(pong.iter_steps(lambda step: 0.7, 1)),
            r"act must return 0 \(DOWN\) or 1 \(UP\), got 0.7",
        ),
        (
            lambda: next(pong.iter_steps(lambda step: -1, 1)),
            r"act must return 0 \(DOWN\) or 1 \(UP\), got -1",
        ),
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
