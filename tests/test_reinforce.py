import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgcourse.algorithms.reinforce import Episode, Reinforce, objective
from pgcourse.maths.returns import reward_to_go
from pgcourse.networks.policies import Policy


class Signal(gymnasium.Env):
    """An episode of 3 steps; each shows 0 or 1, and pays 1 for naming it. Playing at random earns 1.5, the best policy 3."""

    observation_space, action_space = Box(0, 1, (2,), np.float64), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.i = 0
        return self._show(), {}

    def step(self, a):
        self.i += 1
        r = float(a == self.shown)
        return self._show(), r, self.i == 3, False, {}

    def _show(self):
        self.shown = int(self.np_random.integers(2))
        return np.eye(2)[self.shown]


class Linear(Policy):
    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))

    def logits(self, s):
        return torch.as_tensor(s) @ self.W


def signals(n=4, mode=AutoresetMode.SAME_STEP):
    return SyncVectorEnv([Signal] * n, autoreset_mode=mode)


def learner(**options):
    return Reinforce(signals(), Linear(), **({"eta": 0.05, "batch_size": 60} | options))


def test_objective_has_the_gradient_of_slide_35():
    """1/ℰ Σₑ (Σᵢ ∂Lᵢ/∂w) Gₑ, summed by hand, episode by episode."""
    rng = np.random.default_rng(0)
    w = torch.tensor(rng.normal(size=3), requires_grad=True)
    episodes = [(torch.tensor(rng.normal(size=(T, 3))), rng.normal()) for T in (2, 5, 1)]
    by_hand = torch.zeros(3, dtype=torch.float64)
    for x, G in episodes:
        for x_i in x:
            by_hand += G * x_i * (1 - torch.sigmoid(x_i @ w.detach()))  # action 1 taken throughout
    x = torch.cat([x for x, _ in episodes])
    G = torch.cat([torch.full((len(x),), G, dtype=torch.float64) for x, G in episodes])
    objective(torch.nn.functional.logsigmoid(x @ w), G, len(episodes)).backward()
    torch.testing.assert_close(w.grad, by_hand / 3, atol=1e-12, rtol=0)


def test_it_learns():
    """From 1.5, what chance earns, to above 2.9 of 3. A policy that has not learnt passes 150 binary trials this well with p < 10⁻³⁰."""
    algorithm = learner()
    first = algorithm.update().returns.mean()
    for _ in range(90):
        last = algorithm.update()
    assert first < 2.2
    assert last.returns.mean() > 2.9
    assert last.entropy < 0.3 < np.log(2)


def test_it_unlearns_when_rewards_are_turned_around():
    algorithm = learner(credit=lambda r: -reward_to_go(r))
    for _ in range(60):
        last = algorithm.update()
    assert last.returns.mean() < 0.3  # chance earns 1.5


def test_update_takes_whole_episodes_and_loses_no_step():
    algorithm = learner(batch_size=7)
    for _ in range(5):
        seen = algorithm._collect()
        assert [len(e.r) for e in seen] == [3] * len(seen)
        assert 7 <= 3 * len(seen) < 7 + 3 * 4
        for e in seen:
            assert (
                (e.s.argmax(axis=1) == e.a) == e.r
            ).all()  # each reward belongs to its own state and action


@pytest.mark.parametrize(
    ("mask", "rewards"),
    [
        ([1, 1, 1, 1], [1.0, 2.0, 4.0, 8.0]),
        ([1, 0, 1, 0], [3.0, 12.0]),
        ([0, 0, 1, 1], [4.0, 8.0]),  # what comes before the first that matters is nobody's
        ([0, 1, 0, 0], [14.0]),
        ([0, 0, 0, 0], []),
    ],
)
def test_steps_that_do_not_matter_are_not_learnt_from(mask, rewards):
    """Their rewards go to the step before, and the discount counts only steps that matter."""
    credit = functools.partial(reward_to_go, gamma=0.5)
    algorithm = learner(credit=credit, matters=lambda s: np.array(mask, bool))
    episode = Episode(np.arange(4), np.array([1, 0, 0, 1]), np.array([1.0, 2.0, 4.0, 8.0]), 0)
    s, a, G = algorithm._lesson(episode)
    np.testing.assert_array_equal(s, episode.s[np.array(mask, bool)])
    np.testing.assert_array_equal(a, episode.a[np.array(mask, bool)])
    np.testing.assert_array_equal(G, credit(np.array(rewards)))
    algorithm.matters = None
    np.testing.assert_array_equal(algorithm._lesson(episode)[2], credit(episode.r))


def test_a_baseline_sees_the_credits_of_the_batch_and_is_subtracted():
    """Episodes of three steps, two and one: what is climbed is the objective of the credits less the baseline."""
    seen = []

    def baseline(G, live):
        seen.append((G, live))
        return np.full_like(G, 0.5)

    lengths = [3, 2, 1]
    episodes = [
        Episode(np.eye(2)[[0, 1, 1]][:n], np.array([1, 0, 1])[:n], np.array([1.0, 2.0, 4.0])[:n], 0)
        for n in lengths
    ]
    algorithm = learner(credit=reward_to_go, baseline=baseline)
    algorithm._collect = lambda: episodes
    update = algorithm.update()
    [(G, live)] = seen
    np.testing.assert_array_equal(G, [[7, 6, 4], [3, 2, 0], [1, 0, 0]])
    np.testing.assert_array_equal(live.sum(axis=1), lengths)
    assert update.objective == pytest.approx((7 + 6 + 4 + 3 + 2 + 1 - 6 * 0.5) * np.log(0.5) / 3)


def test_stale_actions_are_those_under_way_at_the_last_update():
    """Four environments in step, three steps an episode: of 7 wanted, 12 come; nothing is under way. Out of step, it is."""
    algorithm = learner(batch_size=7)
    assert [algorithm.update().stale for _ in range(3)] == [0, 0, 0]
    algorithm._open[0] = (
        algorithm._open[0] + [(algorithm._s[0], 0, 0.0)] * 5
    )  # as if one were five steps into an episode
    update = algorithm.update()
    assert update.stale == 5 / (12 + 5)
    assert algorithm.update().stale == 0


def test_eta_may_depend_on_the_steps_so_far():
    asked = []

    def eta(n_steps):
        asked.append(n_steps)
        return 0.01 if n_steps < 100 else 0.0

    algorithm = learner(credit=reward_to_go, eta=eta)
    first = algorithm.update()
    W = algorithm.policy.W.detach().clone()
    np.testing.assert_allclose(W.abs(), 0.01, rtol=1e-4)
    second = algorithm.update()
    assert [n for n in asked if n] == [first.n_steps, second.n_steps]
    assert algorithm.policy.W.equal(W)


def test_the_step_is_adams_on_the_objective():
    algorithm = learner(credit=reward_to_go, eta=0.01)
    algorithm.update()
    # Adam's first step is η in the direction of each slope's sign
    steps = algorithm.policy.W.detach().abs().numpy()
    np.testing.assert_allclose(steps, 0.01, rtol=1e-4)


def test_same_seed_same_course():
    courses = [[learner(seed=seed).update().objective for _ in range(2)] for seed in (3, 3, 4)]
    assert courses[0] == courses[1] != courses[2]


def test_a_state_carries_on_in_another_object_as_in_its_own():
    """Weights, Adam's moments, draws and steps; both begin new episodes. The other one has another past, which is gone."""
    ours, other = learner(seed=1), learner(seed=2, eta=0.05)
    ours.update()
    other.update()
    state = ours.state_dict()
    for algorithm in (ours, other):
        algorithm.load_state_dict(state)
    for _ in range(3):
        one, two = ours.update(), other.update()
        assert one._replace(returns=None) == two._replace(returns=None)
        assert (one.returns == two.returns).all()
    assert ours.policy.W.equal(other.policy.W)


def test_a_state_stays_what_it_was_when_training_goes_on():
    algorithm = learner()
    algorithm.update()
    state = algorithm.state_dict()
    courses = []
    for _ in range(2):
        algorithm.load_state_dict(state)
        courses.append([algorithm.update().objective for _ in range(2)])
    assert courses[0] == courses[1]


def test_what_was_under_way_is_given_up_with_a_state():
    algorithm = learner(batch_size=1)
    algorithm.update()
    algorithm._s, *_ = algorithm.env.step(np.zeros(4, int))
    algorithm._open = [[("s", "a", "r")]] * 4
    n_steps = algorithm.n_steps
    algorithm.load_state_dict(algorithm.state_dict())
    assert algorithm.n_steps == n_steps
    assert [len(e.r) for e in algorithm._collect()] == [3] * 4


def test_neighbouring_seeds_share_no_environment():
    """Signal's first states are bits: 64 of them are the same by chance with 2⁻⁶⁴, shifted by one with as much."""
    first = [Reinforce(signals(65), Linear(), seed=seed)._s.argmax(axis=1) for seed in (0, 1)]
    assert (first[0][1:] != first[1][:-1]).any()
    assert (first[0] != first[1]).any()


def test_a_state_of_another_network_is_refused():
    state = learner().state_dict()
    state["policy"] = {"W": torch.zeros(3, 2, dtype=torch.float64)}
    with pytest.raises(RuntimeError, match=r"size mismatch for W"):
        learner().load_state_dict(state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner(eta=0), "eta must be a positive number, got 0"),
        (lambda: learner(eta=float("nan")), "eta must be a positive number, got nan"),
        (lambda: learner(batch_size=0), "batch_size must be at least 1, got 0"),
        (
            lambda: Reinforce(signals(mode=AutoresetMode.NEXT_STEP), Linear()),
            "env must reset itself in the step that ends an episode",
        ),
        (lambda: objective(torch.zeros(3), torch.zeros(3), 0), "n_episodes must be at least 1, got 0"),
        (
            lambda: objective(torch.zeros(3), torch.zeros(3, 1), 1),
            r"G must have the shape of L, \(3,\), got \(3, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
