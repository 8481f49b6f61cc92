"""Against single environments, stepped one after the other."""

import itertools
import os
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from pgcourse.environments import pong
from pgcourse.environments.tasks import (
    LONGEST,
    EndlessTask,
    PendulumTask,
    PongTask,
    QueueTask,
    SuiteTask,
    Task,
)
from pgcourse.environments.worlds import access_control
from pgcourse.experiments import recipes


def upright(s):
    """Push the cart to where the pole falls: CartPole-v1 then lasts until it is truncated, or nearly so."""
    return (s[:, 2] + 0.3 * s[:, 3] > 0).astype(int)


def leaning(s):
    """As before, but blind to how fast it falls: some 40 steps."""
    return (s[:, 2] > 0).astype(int)


def swinging(s):
    return np.sign(s[:, 2:]).astype(np.float32)


def up(x):
    return np.full(len(x), pong.UP)


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    monkeypatch.setenv(
        "SDL_VIDEODRIVER", "dummy"
    )  # for films draw with SDL; and what a test sets is taken back


@pytest.fixture(scope="module")
def game():
    return list(PongTask("PongDeterministic-v4").film(up, seed=4))


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("CartPole-v1", leaning),
        ("CartPole-v1", upright),
        ("MountainCar-v0", lambda s: (s[:, 1] > 0) * 2),
        ("Pendulum-v1", swinging),
    ],
)
def test_play_returns_what_single_environments_do_with_the_same_seeds_and_actions(name, act):
    """One whole episode each, whether it ends by itself (pole, car) or is truncated (pendulum), the short ones no more often."""
    n, seed, alone = 12, 70, []
    for k in range(n):
        env = gymnasium.make(name)
        s, _ = env.reset(seed=seed + k)
        total = over = 0
        while not over:
            s, r, terminated, truncated, _ = env.step(act(s[None])[0])
            total, over = total + r, terminated or truncated
        alone.append(total)
        env.close()
    played = Task(name).play(act, n, seed)
    assert played.shape == (n,)
    np.testing.assert_allclose(played, alone, rtol=1e-12)
    assert len(set(alone)) > 1 or name.startswith("CartPole")


def test_play_goes_on_until_the_last_is_over():
    assert (Task("CartPole-v1").play(upright, 3, 0) == 500).all()
    returns = Task("CartPole-v1").play(leaning, 50, 0)
    assert returns.min() < returns.mean() < returns.max()


def test_environments_begin_the_next_episode_in_the_step_that_ends_one():
    env = Task("CartPole-v1").make(3)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    s, _ = env.reset(seed=0)
    ends = 0
    for _ in range(200):
        s, r, terminated, truncated, _ = env.step(leaning(s))
        over = terminated | truncated
        assert (np.abs(s[over]) <= 0.05).all()  # where episodes begin
        assert (r == 1).all()
        ends += over.sum()
    assert ends > 5
    env.close()


def test_each_environment_is_its_own():
    env = Task("CartPole-v1").make(4)
    s, _ = env.reset(seed=0)
    assert len(np.unique(s, axis=0)) == 4
    env.close()


def test_a_film_shows_an_episode_from_its_first_state_to_its_last():
    frames = list(Task("CartPole-v1").film(leaning, seed=7))
    [steps] = Task("CartPole-v1").play(leaning, 1, seed=7)  # pays 1 a step
    assert len(frames) == steps + 1
    assert {frame.shape for frame in frames} == {(400, 600, 3)}
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint8)}
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    s, _ = env.reset(seed=7)
    for frame in frames[:5]:
        assert (frame == env.render()).all()
        s, *_ = env.step(leaning(s[None])[0])
    env.close()
    assert all((a != b).any() for a, b in itertools.pairwise(frames[::3]))


def test_films_of_a_seed_are_the_same_and_of_another_are_not():
    films = [
        np.array(list(itertools.islice(Task("CartPole-v1").film(leaning, seed), 10))) for seed in (1, 1, 2)
    ]
    assert (films[0] == films[1]).all()
    assert (films[0] != films[2]).any()


@pytest.mark.parametrize(("name", "fps"), [("CartPole-v1", 50), ("Pendulum-v1", 30)])
def test_a_film_runs_as_fast_as_the_world(name, fps):
    """A step of the pole's equations of motion is 0.02 s; Gymnasium gives 30 for the others."""
    assert Task(name).fps == fps


def test_a_film_of_pong_is_one_game(game):
    """Its length and its end are those of the same game looked at point by point."""
    won = lost = n = 0
    for moment in pong.watch(lambda m: pong.UP, 10_000, seed=4, screens=False):
        won, lost, n = won + (moment.r > 0), lost + (moment.r < 0), n + 1
        if max(won, lost) == 21:
            break
    assert len(game) == n < LONGEST * PongTask.fps
    assert {(frame.shape, frame.dtype) for frame in game} == {((210, 160, 3), np.dtype(np.uint8))}
    assert (game[0] != game[-1]).any()
    assert PongTask.fps == 60 / pong.FRAME_SKIP


def test_a_rally_without_end_is_cut(monkeypatch):
    monkeypatch.setattr("pgcourse.environments.tasks.LONGEST", 2)
    assert len(list(PongTask("PongDeterministic-v4").film(up, seed=4))) == 2 * PongTask.fps


def test_pong_is_judged_by_whole_games():
    """Always UP loses every game, for the ball comes back to the same place only if it is lucky; scores as ``pong.play``'s."""
    task = PongTask("PongDeterministic-v4")
    scores = task.play(up, 2, seed=0)
    assert scores.dtype == float
    assert (scores == pong.play(up, 2, seed=0)).all()
    assert ((scores >= -21) & (scores < 0)).all()


def test_pong_is_trained_on_points():
    env = PongTask("ALE/Pong-v5").make(2)
    assert isinstance(env, pong.Pong)
    assert env.num_envs == 2
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    env.close()


def test_what_is_drawn_on_the_axis():
    tasks = [Task("CartPole-v1"), PongTask("ALE/Pong-v5"), EndlessTask("Pendulum-v1", 10), QueueTask(10)]
    assert [task.score for task in tasks] == ["return", "score", "average reward", "average reward"]


def test_nothing_ends_the_endless():
    """Pendulum-v1 itself is cut off after 200 steps. No state is jumped out of: the angle moves by its speed, a twentieth of a second's."""
    env = EndlessTask("Pendulum-v1", 1).make(2)
    s, _ = env.reset(seed=0)
    for _ in range(500):
        before = np.arctan2(s[:, 1], s[:, 0])
        s, _, terminated, truncated, _ = env.step(swinging(s))
        assert not (terminated | truncated).any()
        turned = np.angle(np.exp(1j * (np.arctan2(s[:, 1], s[:, 0]) - before)))
        np.testing.assert_allclose(turned, 0.05 * s[:, 2], atol=1e-4)
    env.close()


@pytest.mark.parametrize(("settled", "n_steps"), [(0, 30), (250, 7)])
def test_the_endless_is_judged_by_what_it_pays_on_average_once_it_has_settled(settled, n_steps):
    env, paid = gymnasium.make("Pendulum-v1", max_episode_steps=-1), []
    s, _ = env.reset(seed=6)
    for _ in range(settled + n_steps):
        s, r, *_ = env.step(swinging(s[None])[0])
        paid.append(r)
    env.close()
    played = EndlessTask("Pendulum-v1", n_steps, settled).play(swinging, 3, seed=5)
    assert played.shape == (3,)
    assert played[1] == pytest.approx(np.mean(paid[settled:]))


def test_the_endless_is_filmed_for_as_long_as_it_is_judged():
    assert len(list(EndlessTask("Pendulum-v1", 5).film(swinging, seed=0))) == 5
    with pytest.raises(ValueError, match="there are no pictures of access-control, only numbers"):
        QueueTask(10).film(swinging, seed=0)


def test_a_knock_changes_the_speed_and_nothing_else():
    """Knocked in every step, and in one of four: as often as that, to within 5.5 standard deviations. A knock cannot be overlooked."""
    for chance, n in ((1.0, 50), (0.25, 2000)):
        knocked, quiet = (PendulumTask(1, knocks=p).make(1) for p in (chance, 0))
        s, _ = knocked.reset(seed=3)
        quiet.reset(seed=3)
        n_knocks = 0
        for _ in range(n):
            quiet.envs[0].unwrapped.state = knocked.envs[0].unwrapped.state.copy()
            (s, r, terminated, truncated, _), (expected, r_expected, *_) = (
                env.step(swinging(s)) for env in (knocked, quiet)
            )
            assert (s[:, :2] == expected[:, :2]).all()
            assert r == r_expected
            assert abs(s[0, 2]) <= 8
            assert s[0, 2] == pytest.approx(knocked.envs[0].unwrapped.state[1], abs=1e-6)
            assert not (terminated | truncated).any()
            n_knocks += s[0, 2] != expected[0, 2]
        assert abs(n_knocks - n * chance) <= 5.5 * (n * chance * (1 - chance)) ** 0.5
        for env in (knocked, quiet):
            env.close()


def test_who_lets_everybody_in_earns_what_the_queue_is_known_to_pay():
    """Of 100 queues over 1,000 steps: 6 standard errors of their own, which chance exceeds once in 10⁸."""
    paid = QueueTask(1000, settled=200).play(lambda s: np.ones(len(s), int), 100, seed=0)
    exact = access_control().average(np.tile([-50, 50], (44, 1))).r_bar
    assert abs(paid.mean() - exact) < 6 * paid.std(ddof=1) / 10


def pushed(s):
    return np.full((len(s), 1), 0.3, np.float32)


def test_the_control_suite_is_played_as_it_is():
    """One episode of 1,000 steps, as dm_control itself plays it with the same random numbers; it is cut off, never over."""
    from dm_control import suite

    world = suite.load("cartpole", "swingup", task_kwargs={"random": np.random.RandomState(5)})
    step, total, n = world.reset(), 0.0, 0
    while not step.last():
        step = world.step([0.3])
        total, n = total + step.reward, n + 1
    assert n == 1000
    assert step.discount == 1  # so it goes on
    task = SuiteTask("cartpole", "swingup")
    assert task.play(pushed, 1, seed=5) == pytest.approx(total)
    env = task.make(2)
    s, _ = env.reset(seed=5)
    assert s.shape == (2, 5)
    assert (s[0] != s[1]).any()
    ends = [env.step(pushed(s))[2:4] for _ in range(1000)]
    assert not any(terminated.any() for terminated, _ in ends)
    assert [i for i, (_, truncated) in enumerate(ends) if truncated.any()] == [999]
    env.close()
    assert (task.name, task.fps, SuiteTask("reacher", "easy").fps) == ("cartpole-swingup", 100, 50)


def test_states_of_the_suite_can_be_seen_otherwise():
    """As recipes do it with the reacher, whose shoulder a torque to one side turns round and round."""
    task = recipes.get("ddpg/suite-reacher-easy").task
    envs = [SuiteTask("reacher", "easy").make(2), task.make(2)]
    (bare, _), (seen, _) = (env.reset(seed=1) for env in envs)
    for _ in range(300):
        assert (seen.shape, seen.dtype) == ((2, *envs[1].single_observation_space.shape), bare.dtype)
        expected = np.column_stack(
            [np.cos(bare[:, 0]), np.sin(bare[:, 0]), bare[:, 1], 20 * bare[:, 2:4], bare[:, 4:] / 2]
        )
        np.testing.assert_allclose(seen, expected, rtol=1e-12)
        (bare, *_), (seen, *_) = (env.step(np.tile([0.3, 0.0], (2, 1))) for env in envs)
    assert (bare[:, 0] > 2 * np.pi).all()
    for env in envs:
        env.close()


def test_old_models_are_used_in_silence(capfd, caplog, tmp_path, monkeypatch):
    """MuJoCo's word on the cheetah's file goes neither to the screen nor into a file; on anything else it is heard."""
    import mujoco

    monkeypatch.chdir(tmp_path)
    for name in ("HalfCheetah-v5", "Hopper-v5"):
        Task(name).make(1).close()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    heard = mujoco.get_mju_user_warning()
    heard("an attribute is deprecated")
    assert not caplog.records
    heard("nan in qacc")
    assert caplog.messages == ["nan in qacc"]


@pytest.mark.parametrize(
    "task", [Task("HalfCheetah-v5"), SuiteTask("cartpole", "swingup")], ids=lambda task: task.name
)
def test_what_is_missing_is_named(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    install = r"pip install 'pgcourse\[control\]'" + (
        ", and pip install --no-deps dm-control" if sys.version_info >= (3, 13) else ""
    )
    with pytest.raises(RuntimeError, match=rf"^{task.name} needs more than pgcourse itself: {install} \("):
        task.make(1)
    assert Task("Pendulum-v1").play(swinging, 1, 0) < 0


@pytest.mark.parametrize(
    ("set_up", "found", "gl"),
    [({}, "libEGL.so.1", "egl"), ({}, None, "off"), ({"MUJOCO_GL": "osmesa"}, "x", "osmesa")],
)
def test_mujoco_draws_without_a_display(set_up, found, gl, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.util.find_library", {"EGL": found}.get)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_up.items():
        monkeypatch.setenv(name, value)
    Task("Reacher-v5").make(1).close()
    assert os.environ["MUJOCO_GL"] == gl


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Task("CartPol-v1"),
            "^name must be that of an environment of Gymnasium, got 'CartPol-v1': .*CartPole",
        ),
        (
            lambda: Task("CartPole-v9"),
            "^name must be that of an environment of Gymnasium, got 'CartPole-v9': Environment version `v9`",
        ),
        (
            lambda: Task(""),
            "^name must be that of an environment of Gymnasium, got '': Malformed environment ID",
        ),
        (lambda: Task("CartPole-v1").make(0), "^n_envs must be at least 1, got 0$"),
        (lambda: Task("CartPole-v1").play(leaning, 0, 0), "^n_episodes must be at least 1, got 0$"),
        (lambda: Task("CartPole-v1").play(leaning, 1, -1), "^seed must be at least 0, got -1$"),
        (lambda: next(Task("CartPole-v1").film(leaning, -1)), "^seed must be at least 0, got -1$"),
        (lambda: EndlessTask("Pendulum-v1", 0), "^n_steps must be at least 1, got 0$"),
        (lambda: EndlessTask("Pendulum-v1", 1, -1), "^settled must be at least 0, got -1$"),
        (lambda: EndlessTask("Pendulum-v1", 1).make(0), "^n_envs must be at least 1, got 0$"),
        (
            lambda: EndlessTask("Pendulum-v1", 1).play(swinging, 0, 0),
            "^n_episodes must be at least 1, got 0$",
        ),
        (lambda: PendulumTask(1, knocks=1.5), r"^knocks must be in \[0, 1\], got 1.5$"),
        (lambda: PendulumTask(0), "^n_steps must be at least 1, got 0$"),
        (lambda: QueueTask(0), "^n_steps must be at least 1, got 0$"),
        (lambda: QueueTask(1).play(leaning, 1, -1), "^seed must be at least 0, got -1$"),
        (lambda: SuiteTask("cartpole", "swingup").make(0), "^n_envs must be at least 1, got 0$"),
        (lambda: SuiteTask("cartpole", "fly").make(1), "'fly' does not exist in domain 'cartpole'"),
        (lambda: SuiteTask("cart", "swingup").make(1), "'cart' does not exist"),
        (lambda: PongTask("ALE/Pong-v5").make(0), "^n_envs must be at least 1, got 0$"),
        (lambda: PongTask("ALE/Pong-v5").play(up, 0, 0), "^n_episodes must be at least 1, got 0$"),
        (lambda: PongTask("ALE/Pong-v5").play(up, 1, -1), "^seed must be at least 0, got -1$"),
        (lambda: next(PongTask("ALE/Pong-v5").film(up, -1)), "^seed must be at least 0, got -1$"),
        (
            lambda: PongTask("Breakout").make(1),
            "^game must be one of PongDeterministic-v4, ALE/Pong-v5, got 'Breakout'$",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
