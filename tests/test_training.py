"""Training that was stopped against training that was not, with a toy and with a real algorithm."""

import dataclasses
import errno
import io
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from test_checkpoints import same

from pgcourse.algorithms.reinforce import Reinforce, ReinforceConfig
from pgcourse.environments.tasks import Task
from pgcourse.experiments import checkpoints, recipes
from pgcourse.experiments.training import Budget, train
from pgcourse.maths.returns import total_return
from pgcourse.networks.policies import SoftmaxPolicy


class Stop(Exception):
    pass


class UpdateMetrics(NamedTuple):
    n_steps: int
    episode_returns: list
    loss: float


class Noise:
    """Adam after noise: 10 steps and 2 episodes an update. ``partial`` is carried over, but not saved."""

    def __init__(self, size=3, nan_at=None):
        self.policy = torch.nn.Linear(size, 1)
        with torch.no_grad():
            for w in self.policy.parameters():
                w.zero_()
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=0.1)
        self.rng = np.random.default_rng(0)
        self.n_steps, self.partial, self.nan_at = 0, 0.0, nan_at

    def update(self):
        self.n_steps += 10
        loss = (
            (
                self.policy(
                    torch.tensor(self.rng.normal(size=(4, self.policy.in_features)), dtype=torch.float32)
                )
                - 1
            )
            .square()
            .sum()
        )
        self.optimizer.zero_grad()
        (loss + self.partial * self.policy.bias.sum()).backward()
        self.optimizer.step()
        self.partial += self.rng.normal()
        return UpdateMetrics(
            self.n_steps,
            [self.partial, self.rng.normal()],
            math.nan if self.n_steps == self.nan_at else loss.item(),
        )

    def state_dict(self):
        states = {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
        return states | {"rng": self.rng.bit_generator.state, "n_steps": self.n_steps}

    def load_state_dict(self, state):
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.n_steps, self.partial = state["n_steps"], 0.0


class Balancing(Reinforce):
    """The real thing."""

    def __init__(self, hidden_size=4):
        env, policy = Task("CartPole-v1").make_vector_env(4), SoftmaxPolicy(4, 2, (hidden_size,), seed=1)
        config = ReinforceConfig(eta=0.02, gamma=1, return_fn=total_return, standardize=True, batch_size=60)
        super().__init__(env, policy, config, seed=2)


class Stopping:
    """Raises an error instead of one of its updates."""

    def __init__(self, *, stop_at=None, error=Stop, **options):
        super().__init__(**options)
        self.stop_at, self.error, self.n_updates = stop_at, error, 0

    def update(self):
        self.n_updates += 1
        if self.n_updates == self.stop_at:
            raise self.error
        return super().update()


class Toy(Stopping, Noise):
    pass


class CartPole(Stopping, Balancing):
    pass


def fake_returns(policy, n_updates):
    """Numbers that depend on every weight, and on the update."""
    return np.array([n_updates, sum(float(w.detach().double().sum()) for w in policy.parameters())])


def numbers(folder):
    """The names in a folder, and its curve without the column that a clock decides."""
    curve = [line.split(",") for line in (folder / "curve.csv").read_text().splitlines()]
    clock = curve[0].index("seconds")
    return sorted(p.name for p in folder.iterdir()), [row[:clock] + row[clock + 1 :] for row in curve]


def checkpoints_in(folder):
    return [int(p.stem.removeprefix("checkpoint-")) for p in sorted(folder.glob("*.pt"))]


class Training(NamedTuple):
    """What training leaves."""

    algorithm: object
    columns: dict
    folder: Path | None


def assert_same_end(one, other):
    assert numbers(one.folder) == numbers(other.folder)
    for a, b in zip(*(sorted(t.folder.glob("*.pt")) for t in (one, other)), strict=True):
        states = checkpoints.load(a), checkpoints.load(b)
        assert same(states[0]["algorithm"], states[1]["algorithm"])
        assert [states[i]["counters"] | {"seconds": 0} for i in (0, 1)] == [
            states[0]["counters"] | {"seconds": 0}
        ] * 2
    assert_same_in_memory(one, other)


def assert_same_in_memory(one, other):
    assert same(one.algorithm.state_dict(), other.algorithm.state_dict())
    assert one.columns.keys() == other.columns.keys()
    for name in one.columns.keys() - {"seconds"}:
        np.testing.assert_array_equal(one.columns[name], other.columns[name])


KINDS = {
    Toy: {"steps": 125, "checkpoint_interval": 35},
    CartPole: {"steps": 1500, "checkpoint_interval": 400},
}


def training(folder, algorithm, **options):
    options = (
        next(o for kind, o in KINDS.items() if isinstance(algorithm, kind))
        | {"evaluate": fake_returns, "progress": False}
        | options
    )
    return Training(algorithm, train(algorithm, folder=folder, **options), folder)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def uninterrupted(request, tmp_path_factory):
    """A training that was not stopped, and the updates of its checkpoints."""
    evaluated = []

    def evaluate(policy, n_updates):
        evaluated.append(n_updates)
        return fake_returns(policy, n_updates)

    done = training(tmp_path_factory.mktemp("uninterrupted") / "run", request.param(), evaluate=evaluate)
    return request.param, done, evaluated[1:-1]


def test_stopped_before_any_update_it_continues_to_the_same_result(uninterrupted, tmp_path):
    kind, done, at = uninterrupted
    n_updates = int(done.columns["n_updates"][-1])
    assert len(at) == 3
    assert (
        n_updates > at[-1] + 1
    )  # so there are stops before the first checkpoint, right after each, and after the last
    for stop_at in range(1, n_updates + 1):
        folder = tmp_path / str(stop_at)
        with pytest.raises(Stop):
            training(folder, kind(stop_at=stop_at))
        assert checkpoints_in(folder) == [n for n in at if n < stop_at][-2:]
        assert_same_end(training(folder, kind()), done)


def test_stopped_again_and_again_it_continues_to_the_same_result(uninterrupted, tmp_path):
    kind, done, at = uninterrupted
    for n_updates in (1, at[0] + 1, 1, 2, at[1] - at[0] + 1, at[2] - at[1], at[2] - at[1] + 2):
        with pytest.raises(Stop):
            training(tmp_path, kind(stop_at=n_updates))
    assert_same_end(training(tmp_path, kind()), done)


def test_stopped_in_an_evaluation_or_in_a_row_of_the_curve_it_continues_to_the_same_result(
    uninterrupted, tmp_path
):
    kind, done, at = uninterrupted
    for stop_at in (0, *at, int(done.columns["n_updates"][-1])):

        def evaluate(policy, n_updates, stop_at=stop_at):
            if n_updates == stop_at:
                raise Stop
            return fake_returns(policy, n_updates)

        folder = tmp_path / str(stop_at)
        with pytest.raises(Stop):
            training(folder, kind(), evaluate=evaluate)
        if stop_at:
            with (folder / "curve.csv").open("a") as file:
                file.write(f"{stop_at},123,4")
        assert_same_end(training(folder, kind()), done)


def test_trained_in_memory_the_result_is_the_same_and_nothing_is_written(
    uninterrupted, tmp_path, monkeypatch
):
    kind, done, _ = uninterrupted
    monkeypatch.chdir(tmp_path)
    assert_same_in_memory(training(None, kind()), done)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:an update has learnt nothing")  # when an episode fills the batch
def test_a_larger_budget_continues_from_the_last_checkpoint(uninterrupted, tmp_path):
    kind, _, _ = uninterrupted
    steps = KINDS[kind]["steps"] * 2
    once, twice = (
        training(tmp_path / name, kind(), steps=steps / 2 if name == "twice" else steps)
        for name in ("once", "twice")
    )
    assert_same_end(training(twice.folder, kind(), steps=steps), once)


def test_after_every_checkpoint_new_episodes_begin():
    starts = []

    class Watched(CartPole):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            starts.append(self._partial.s.tobytes())

    train(Watched(), **KINDS[CartPole], progress=False)
    assert len(starts) == len(set(starts)) == 3


@pytest.mark.parametrize(
    ("budget", "n_updates"),
    [
        ({"steps": 95}, 10),
        ({"steps": 100}, 10),
        ({"steps": 101}, 11),
        ({"episodes": 7}, 4),
        ({"episodes": 8}, 4),
        ({"steps": 0.5}, 1),
    ],
)
def test_it_stops_after_the_update_that_spends_the_budget(budget, n_updates):
    toy = Toy()
    curve = train(toy, **budget, progress=False)
    assert [column[-1] for column in curve.values()][:3] == [n_updates, 10 * n_updates, 2 * n_updates]
    assert toy.n_steps == 10 * n_updates


def test_minutes_are_those_of_training():
    curve = train(Toy(), minutes=1e-4, progress=False)
    assert curve["seconds"][-1] >= 60e-4


@pytest.mark.parametrize(
    ("interval", "evaluated"),
    [
        (30, [0, 3, 6, 9, 10]),
        (25, [0, 3, 5, 8, 10]),
        (50, [0, 5, 10]),
        (5, list(range(11))),
        (10, list(range(11))),
        (101, [0, 10]),
    ],
)
def test_it_is_evaluated_at_the_beginning_at_every_checkpoint_and_at_the_end(tmp_path, interval, evaluated):
    """A checkpoint is due in the update in which a multiple of ``checkpoint_interval`` is reached."""
    asked = []

    def evaluate(policy, n_updates):
        asked.append((n_updates, [p.name for p in tmp_path.glob("*.pt")]))
        return np.array([n_updates, n_updates + 1.0])

    curve = train(
        Toy(), steps=100, checkpoint_interval=interval, evaluate=evaluate, folder=tmp_path, progress=False
    )
    assert [n for n, _ in asked] == evaluated
    due = [n for n in range(1, 11) if any(10 * (n - 1) < k * interval <= 10 * n for k in range(1, 101))]
    assert due == evaluated[1:] if 10 in due else [*due, 10] == evaluated[1:]
    assert checkpoints_in(tmp_path) == due[-2:]
    means = dict(zip(curve["n_updates"], curve["eval_return"], strict=True))
    assert {n: mean for n, mean in means.items() if not math.isnan(mean)} == {n: n + 0.5 for n in evaluated}


def test_between_two_checkpoints_there_are_at_most_ten_rows():
    for interval, apart in [(100, 1), (200, 2), (1000, 10)]:
        curve = train(Toy(), steps=2000, checkpoint_interval=interval, progress=False)
        assert np.diff(curve["n_updates"]).tolist() == [apart] * (200 // apart)
    assert (
        len(train(Toy(), steps=50, checkpoint_interval=10_000, progress=False)["n_updates"]) == 2
    )  # before, and at the end


def test_it_uses_one_thread_and_restores_the_number():
    before = torch.get_num_threads()
    n_threads = []
    try:
        torch.set_num_threads(3)
        train(
            Toy(),
            steps=10,
            evaluate=lambda *_: n_threads.append(torch.get_num_threads()) or np.zeros(1),
            progress=False,
        )
        assert torch.get_num_threads() == 3
        with pytest.raises(Stop):
            train(Toy(stop_at=1), steps=10, progress=False)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert n_threads == [1, 1]


def test_a_number_that_is_not_finite_is_named_and_the_last_checkpoint_is_complete(tmp_path):
    folder = tmp_path / "run"
    options = {"steps": 100, "checkpoint_interval": 30, "evaluate": fake_returns, "progress": False}
    with pytest.raises(
        FloatingPointError,
        match=r"^loss is nan in update 2, at step 20; there is no checkpoint\. A smaller eta may help$",
    ):
        train(Toy(nan_at=20), folder=folder, **options)
    with pytest.raises(Stop):
        train(Toy(stop_at=8), folder=folder, **options)
    before = [(p, p.read_bytes()) for p in sorted(folder.glob("*.pt"))]
    for nan_at in (70, 90):
        last = rf"the last checkpoint is {folder}/checkpoint-000000006\.pt"
        message = rf"loss is nan in update {nan_at // 10}, at step {nan_at}; {last}"
        with pytest.raises(FloatingPointError, match=message):
            train(Toy(nan_at=nan_at), folder=folder, **options)
    assert [(p, p.read_bytes()) for p in sorted(folder.glob("*.pt"))] == before
    assert_same_end(
        training(folder, Toy(), **options), training(tmp_path / "uninterrupted", Toy(), **options)
    )


def test_ctrl_c_says_where_it_was_and_what_is_left(tmp_path):
    options = {"steps": 100, "checkpoint_interval": 30, "progress": False}
    with pytest.raises(KeyboardInterrupt, match=r"^stopped at step 10; there is no checkpoint$"):
        train(Toy(stop_at=2, error=KeyboardInterrupt), **options)
    with pytest.raises(
        KeyboardInterrupt,
        match=rf"^stopped at step 70; the last checkpoint is {tmp_path}/checkpoint-000000006\.pt$",
    ):
        train(Toy(stop_at=8, error=KeyboardInterrupt), folder=tmp_path, **options)


def test_a_damaged_checkpoint_is_named_and_without_it_training_continues_from_the_one_before(
    uninterrupted, tmp_path
):
    kind, done, at = uninterrupted
    with pytest.raises(Stop):
        training(tmp_path, kind(stop_at=at[1] + 2))
    last = checkpoints.latest(tmp_path)
    last.write_bytes(last.read_bytes()[:-1])
    advice = rf"delete it to continue from checkpoint-{at[0]:09d}\.pt"
    with pytest.raises(ValueError, match=rf"^{last} is damaged \(.* bytes\): .*; {advice}$"):
        training(tmp_path, kind())
    last.unlink()
    assert_same_end(training(tmp_path, kind()), done)


def test_if_the_only_checkpoint_is_damaged_training_must_begin_again(tmp_path):
    with pytest.raises(Stop):
        training(tmp_path, Toy(stop_at=5))
    checkpoints.latest(tmp_path).write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=rf"checkpoint-000000004\.pt is damaged .*; delete {tmp_path} to begin again$",
    ):
        training(tmp_path, Toy())


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (lambda: Toy(size=3), lambda: Toy(size=4)),
        (lambda: CartPole(hidden_size=4), lambda: CartPole(hidden_size=5)),
    ],
)
def test_a_checkpoint_of_another_network_does_not_fit(tmp_path, mine, other):
    training(tmp_path, mine())
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"^{checkpoints.latest(tmp_path)} does not fit this algorithm: "):
        training(tmp_path, other())
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files


def cartpole(seed=0, n_envs=2, **config):
    env, policy = Task("CartPole-v1").make_vector_env(n_envs), SoftmaxPolicy(4, 2, (4,))
    return Reinforce(env, policy, ReinforceConfig(**{"batch_size": 60} | config), seed=seed)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: cartpole(eta=0.1), "eta 0.005, not 0.1"),
        (lambda: cartpole(return_fn=total_return), "return_fn reward_to_go, not total_return"),
        (lambda: cartpole(seed=1), "seed 0, not 1"),
        (lambda: cartpole(n_envs=3), "n_envs 2, not 3"),
        (Toy, "algorithm Reinforce, not Toy"),
    ],
)
@pytest.mark.parametrize("interval", [100, 10_000])
def test_a_folder_holds_training_with_one_setting(tmp_path, other, message, interval):
    """Else the second would get the first's curve, or write over it where there is no checkpoint yet."""
    options = {"steps": 200, "checkpoint_interval": interval, "folder": tmp_path, "progress": False}
    first = train(cartpole(), **options)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    advice = "choose another folder, or delete this one"
    with pytest.raises(ValueError, match=f"^{tmp_path} holds training with {message}; {advice}$"):
        train(other(), **options)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files
    np.testing.assert_array_equal(train(cartpole(), **options)["return"], first["return"])


def test_the_interval_between_checkpoints_is_such_a_setting_and_the_budget_is_not(tmp_path):
    options = {"folder": tmp_path, "progress": False}
    train(cartpole(), steps=200, checkpoint_interval=100, **options)
    with pytest.raises(ValueError, match="holds training with checkpoint_interval 100, not 50; choose"):
        train(cartpole(), steps=200, checkpoint_interval=50, **options)
    longer = train(cartpole(), steps=400, checkpoint_interval=100, **options)
    assert longer["n_steps"][-1] >= 400


def test_settings_that_are_damaged_are_named(tmp_path):
    options = {"steps": 50, "folder": tmp_path, "progress": False}
    train(cartpole(), **options)
    for damage in ("", "[1]", "{"):
        (tmp_path / "training.json").write_text(damage)
        with pytest.raises(ValueError, match=f"^{tmp_path}/training.json is damaged "):
            train(cartpole(), **options)


def test_checkpoints_of_earlier_versions_have_no_settings_and_are_continued(tmp_path):
    options = {"checkpoint_interval": 100, "folder": tmp_path, "progress": False}
    train(cartpole(), steps=200, **options)
    state = checkpoints.load(checkpoints.latest(tmp_path))
    del state["curve"]
    checkpoints.save(checkpoints.latest(tmp_path), state)
    (tmp_path / "training.json").unlink()
    assert train(cartpole(), steps=400, **options)["n_steps"][-1] >= 400


TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_training import cartpole
from pgcourse.experiments.training import train
train(cartpole(), steps=6000, checkpoint_interval=1000, folder=sys.argv[1], progress=False)
"""


def test_two_processes_in_one_folder_take_turns(tmp_path):
    """The second continues from the first's last checkpoint, and ends as the first did."""
    command = [sys.executable, "-W", "ignore", "-c", TRAIN, tmp_path / "both", Path(__file__).parent]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    options = {"steps": 6000, "checkpoint_interval": 1000, "progress": False}
    train(cartpole(), folder=tmp_path / "alone", **options)
    assert numbers(tmp_path / "both") == numbers(tmp_path / "alone")
    assert checkpoints_in(tmp_path / "both") == checkpoints_in(tmp_path / "alone")


def test_a_curve_that_was_changed_behind_a_checkpoint_is_damaged(tmp_path):
    options = {"checkpoint_interval": 100, "folder": tmp_path, "progress": False}
    train(cartpole(), steps=400, **options)
    path = tmp_path / "curve.csv"
    header, first, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, first, rows[0].replace(",", ",1", 3), *rows[1:]]))
    changed = "its rows are not those that the last checkpoint belongs to"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"^{path} is damaged: {changed}; delete {tmp_path} to begin again$"):
        train(cartpole(), steps=600, **options)
    assert path.read_bytes() == before


def test_a_state_that_cannot_be_saved_is_known_before_the_first_update(tmp_path):
    algorithm = Toy()
    algorithm.rng = np.random.Generator(np.random.PCG64())
    algorithm.state_dict = lambda: {"rng": algorithm.rng}
    with pytest.raises(ValueError, match=r"^state must hold .*, got Generator$"):
        train(algorithm, steps=100, folder=tmp_path, progress=False)
    assert algorithm.n_steps == 0


def test_a_learning_rate_of_numpy_is_saved_and_continued(tmp_path):
    options = {"checkpoint_interval": 100, "progress": False}
    for eta, name in [(np.float32(0.125), "numpy"), (0.125, "python")]:
        train(cartpole(eta=eta), steps=200, folder=tmp_path / name, **options)
        train(cartpole(eta=eta), steps=400, folder=tmp_path / name, **options)
    assert numbers(tmp_path / "numpy") == numbers(tmp_path / "python")


class Poisoned(gymnasium.Wrapper):
    """CartPole with a broken sensor, or reward."""

    def __init__(self, kind):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.kind, self.n_steps = kind, 0

    def step(self, a):
        s, r, *rest = super().step(a)
        self.n_steps += 1
        if self.n_steps == 30 and self.kind == "observations":
            s = np.array([0, math.nan, 0, 0], np.float32)
        elif self.n_steps == 30:
            r = math.inf
        return s, r, *rest


@pytest.mark.parametrize(("kind", "value"), [("observations", "nan"), ("rewards", "inf")])
@pytest.mark.parametrize("name", ["reinforce", "actor-critic", "dqn"])
def test_what_the_environment_did_is_not_blamed_on_the_learning_rate(tmp_path, kind, value, name):
    task = type("OneByOne", (Task,), {})("CartPole-v1")
    task._make_env = lambda: Poisoned(kind)
    recipe = dataclasses.replace(recipes.get(f"{name}/cartpole"), task=task, n_envs=1)
    with pytest.raises(ValueError, match=f"^env must give finite {kind}, got {value} after 30 steps$"):
        train(recipe.build(0), steps=2000, folder=tmp_path, progress=False)


@pytest.mark.parametrize("stderr", [None, "closed", "broken"])
def test_without_anyone_who_reads_the_bar_training_goes_on(monkeypatch, stderr):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    streams = {None: None, "closed": io.StringIO(), "broken": Broken()}
    if stderr == "closed":
        streams[stderr].close()
    monkeypatch.setattr(sys, "stderr", streams[stderr])
    assert train(Toy(), steps=100)["n_steps"][-1] == 100


@pytest.mark.parametrize("folder", [True, False])
def test_the_bar_is_on_stderr_or_nowhere(tmp_path, capsys, folder):
    folder = tmp_path if folder else None
    train(Toy(), steps=100, folder=folder, progress=False)
    assert capsys.readouterr() == ("", "")
    train(Toy(), steps=100, folder=None, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err
    assert "100 of 100 steps" in err
    assert "return" in err


def test_the_bar_of_a_resumed_training_begins_where_that_was(tmp_path, capsys):
    with pytest.raises(Stop):
        train(Toy(stop_at=10), steps=100, checkpoint_interval=30, folder=tmp_path, progress=False)
    train(Toy(), steps=100, checkpoint_interval=30, folder=tmp_path)
    assert "100 of 100 steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of steps, episodes, minutes must be given, got none"),
        (
            {"steps": 1, "minutes": 2},
            "exactly one of steps, episodes, minutes must be given, got {'steps': 1, 'minutes': 2}",
        ),
        ({"steps": 0}, "steps must be a positive number, got 0"),
        ({"episodes": -1}, "episodes must be a positive number, got -1"),
        ({"minutes": math.nan}, "minutes must be a positive number, got nan"),
        ({"minutes": math.inf}, "minutes must be a positive number, got inf"),
        ({"steps": 1, "checkpoint_interval": 0}, "checkpoint_interval must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        train(Toy(), folder=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"'{tmp_path}/file'"):
        train(Toy(), steps=1, folder=tmp_path / "file", progress=False)


def test_a_budget_says_what_it_is_and_how_much_is_spent():
    row = {"n_steps": 3000, "n_episodes": 7, "seconds": 90.0}
    for budget, text, spent in [
        ({"steps": 5000}, "5,000 steps", 3000),
        ({"episodes": 9}, "9 episodes", 7),
        ({"minutes": 2.5}, "2.5 minutes", 1.5),
    ]:
        assert (str(Budget.from_kwargs(**budget)), Budget.from_kwargs(**budget).spent(row)) == (text, spent)
