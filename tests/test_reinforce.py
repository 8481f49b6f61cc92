"""REINFORCE against slides 35 and 36 written out, episode by episode."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose, assert_array_equal

from pgcourse.algorithms import reinforce
from pgcourse.algorithms.collect import Episode
from pgcourse.algorithms.reinforce import Reinforce, ReinforceConfig, TrainingData
from pgcourse.maths.returns import leave_one_out_baseline, reward_to_go, surrogate, total_return
from pgcourse.networks.policies import CategoricalPolicy


class Signal(gymnasium.Env):
    """Each of 3 steps shows 0 or 1; the reward is 1 for this action. A uniform policy's return is 1.5."""

    observation_space, action_space = Box(0, 1, (2,), np.float64), Discrete(2)

    def __init__(self, length=3):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, a):
        self.t += 1
        r = float(a == self.signal)
        return self._observation(), r, self.t == self.length, False, {}

    def _observation(self):
        self.signal = int(self.np_random.integers(2))
        return np.eye(2)[self.signal]


class LinearSoftmax(CategoricalPolicy):
    """A softmax policy whose logits are linear in s, uniform at first."""

    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))

    def logits(self, s):
        return torch.as_tensor(s) @ self.W


def signals(n=4, mode=AutoresetMode.SAME_STEP):
    return SyncVectorEnv([Signal] * n, autoreset_mode=mode)


def learner(env=None, *, training_data=None, seed=0, **settings):
    """Return REINFORCE with total returns, undiscounted, not standardised, unless settings say otherwise."""
    settings = {"eta": 0.05, "batch_size": 60, "gamma": 1.0, "standardize": False} | settings
    config = ReinforceConfig(**({"return_fn": total_return} | settings))
    return Reinforce(env or signals(), LinearSoftmax(), config, training_data=training_data, seed=seed)


def update_with(monkeypatch, algorithm, episodes):
    """Update from these episodes instead of the environment's."""
    monkeypatch.setattr(reinforce, "collect_episodes", lambda *_, **options: episodes)
    return algorithm.update()


def episode_of(length, n_off_policy=0):
    """The first steps of an episode with states 0, 1, 1, 0, actions 1, 0, 0, 1 and rewards 1, 2, 4, 8."""
    s, a, r = np.eye(2)[[0, 1, 1, 0]], np.array([1, 0, 0, 1]), np.array([1.0, 2.0, 4.0, 8.0])
    return Episode(s[:length], a[:length], r[:length], n_off_policy)


def score_of_uniform_policy(s, a):
    """∂ log π(a∣s)/∂W of a uniform policy: s on the weights of the action taken, minus half of s on both."""
    return np.outer(s, np.eye(2)[a] - 0.5)


def test_the_surrogate_has_the_gradient_of_slide_35():
    """1/ℰ Σₑ (Σₜ ∂Lₜ/∂w) Gₑ, summed by hand, episode by episode."""
    rng = np.random.default_rng(0)
    w = torch.tensor(rng.normal(size=3), requires_grad=True)
    episodes = [(torch.tensor(rng.normal(size=(T, 3))), rng.normal()) for T in (2, 5, 1)]
    by_hand = torch.zeros(3, dtype=torch.float64)
    for x, G in episodes:
        for x_t in x:
            by_hand += G * x_t * (1 - torch.sigmoid(x_t @ w.detach()))  # action 1 taken throughout
    x = torch.cat([x for x, _ in episodes])
    G = torch.cat([torch.full((len(x),), G, dtype=torch.float64) for x, G in episodes])
    surrogate(torch.nn.functional.logsigmoid(x @ w), G, len(episodes)).backward()
    torch.testing.assert_close(w.grad, by_hand / 3, atol=1e-12, rtol=0)


def test_it_learns():
    """From 1.5, a uniform policy's return, to above 2.9 of 3: by chance, 150 binary trials get there with
    p < 10⁻³⁰."""
    algorithm = learner()
    first = algorithm.update().episode_returns.mean()
    for _ in range(90):
        last = algorithm.update()
    assert first < 2.2
    assert last.episode_returns.mean() > 2.9
    assert last.entropy < 0.3 < np.log(2)


def test_it_learns_the_opposite_from_negated_rewards():
    algorithm = learner(return_fn=lambda r, gamma: -reward_to_go(r, gamma))
    for _ in range(60):
        last = algorithm.update()
    assert last.episode_returns.mean() < 0.3  # a uniform policy's return is 1.5


def test_an_update_learns_from_whole_episodes_and_no_step_is_lost():
    collected = []

    def record(episode):
        collected.append(episode)
        return TrainingData(episode.s, episode.a, total_return(episode.r))

    algorithm, n_collected = learner(batch_size=7, training_data=record), 0
    for _ in range(5):
        collected.clear()
        metrics = algorithm.update()
        assert [len(e.r) for e in collected] == [3] * len(collected)
        assert 7 <= 3 * len(collected) < 7 + 3 * 4
        for e in collected:  # each reward belongs to its own state and action
            assert_array_equal(e.s.argmax(axis=1) == e.a, e.r)
        assert_array_equal(metrics.episode_returns, [e.r.sum() for e in collected])
        n_collected += 3 * len(collected)
        assert metrics.n_steps == algorithm.n_steps == n_collected  # all environments finish together


def test_training_data_decides_what_is_learnt_from(monkeypatch):
    """Only some steps, with rewards of the steps between added to the last one kept: slide 35 by hand.

    An episode of which nothing is learnt is still one of the ℰ.
    """
    expected = [  # mask, and the rewards of the steps that it keeps
        ([1, 1, 1, 1], [1.0, 2.0, 4.0, 8.0]),
        ([1, 0, 1, 0], [3.0, 12.0]),
        ([0, 0, 1, 1], [4.0, 8.0]),
        ([0, 1, 0, 0], [14.0]),
        ([0, 0, 0, 0], []),
    ]
    masks = iter([mask for mask, _ in expected])

    def training_data(episode):
        kept = np.flatnonzero(next(masks))
        r = np.add.reduceat(episode.r, kept)
        return TrainingData(episode.s[kept], episode.a[kept], reward_to_go(r, 0.5))

    episode, by_hand, total = episode_of(4), np.zeros((2, 2)), 0.0
    for mask, r in expected:
        for k, t in enumerate(np.flatnonzero(mask)):
            G = sum(0.5**m * reward for m, reward in enumerate(r[k:]))
            by_hand += G * score_of_uniform_policy(episode.s[t], episode.a[t])
            total += G * np.log(0.5)
    algorithm = learner(
        training_data=training_data, gamma=0.9
    )  # its own function decides, not the config's γ
    metrics = update_with(monkeypatch, algorithm, [episode] * 5)
    assert metrics.surrogate == pytest.approx(total / 5)
    assert_allclose(algorithm.policy.W.grad, by_hand / 5, rtol=1e-12)
    assert metrics.gradient_norm == pytest.approx(np.linalg.norm(by_hand / 5))
    assert_array_equal(metrics.episode_returns, [15.0] * 5)  # of all steps


def test_without_training_data_every_step_counts_with_the_configs_return_and_discount(monkeypatch):
    """G₁ = 1 + ½·2 + ¼·4, G₂ = 2 + ½·4, G₃ = 4."""
    by_hand = sum(
        G * score_of_uniform_policy(s, a)
        for G, s, a in zip([3.0, 4.0, 4.0], episode_of(3).s, episode_of(3).a, strict=True)
    )
    algorithm = learner(return_fn=reward_to_go, gamma=0.5)
    metrics = update_with(monkeypatch, algorithm, [episode_of(3)])
    assert metrics.surrogate == pytest.approx((3 + 4 + 4) * np.log(0.5))
    assert_allclose(algorithm.policy.W.grad, by_hand, rtol=1e-12)


def test_a_baseline_is_computed_from_the_returns_of_the_batch_and_subtracted(monkeypatch):
    """Episodes of three, two and one steps: the surrogate is that of the returns minus the baseline."""
    calls = []

    def baseline(G, mask):
        calls.append((G, mask))
        return np.full_like(G, 0.5)

    lengths = [3, 2, 1]
    algorithm = learner(return_fn=reward_to_go, baseline=baseline)
    metrics = update_with(monkeypatch, algorithm, [episode_of(T) for T in lengths])
    [(G, mask)] = calls
    assert_array_equal(G, [[7, 6, 4], [3, 2, 0], [1, 0, 0]])
    assert_array_equal(mask.sum(axis=1), lengths)
    assert metrics.surrogate == pytest.approx((7 + 6 + 4 + 3 + 2 + 1 - 6 * 0.5) * np.log(0.5) / 3)


def test_returns_are_standardised_after_the_baseline_is_subtracted(monkeypatch):
    """Six rewards-to-go, each minus the mean over the steps of the other episodes."""
    G = np.array([7 - 6 / 3, 6 - 6 / 3, 4 - 6 / 3, 3 - 18 / 4, 2 - 18 / 4, 1 - 22 / 5])
    G = (G - G.mean()) / G.std()
    episodes = [episode_of(T) for T in (3, 2, 1)]
    s, a = np.concatenate([e.s for e in episodes]), np.concatenate([e.a for e in episodes])
    by_hand = sum(G[k] * score_of_uniform_policy(s[k], a[k]) for k in range(6)) / 3
    algorithm = learner(return_fn=reward_to_go, baseline=leave_one_out_baseline, standardize=True)
    update_with(monkeypatch, algorithm, episodes)
    assert_allclose(algorithm.policy.W.grad, by_hand, atol=1e-12)


def test_off_policy_actions_are_those_of_episodes_in_progress_at_the_last_update(monkeypatch):
    """Four environments in step, three steps an episode: 12 steps come, and no episode is in progress."""
    algorithm = learner(batch_size=7)
    assert [algorithm.update().off_policy_fraction for _ in range(3)] == [0, 0, 0]
    episodes = [episode_of(4, n_off_policy=3), episode_of(3), episode_of(1, n_off_policy=1)]
    assert update_with(monkeypatch, algorithm, episodes).off_policy_fraction == (3 + 1) / (4 + 3 + 1)


def test_off_policy_fraction_of_environments_out_of_step():
    """Episodes of 2 and 3 steps, an update as soon as one has ended; at first, as soon as both have.

    At the updates, after steps 3, 4, 6, 8 and 9, these many steps of the two environments' episodes are in
    progress: (1, 0), (0, 1), (0, 0), (0, 2), (1, 0).
    """
    env = SyncVectorEnv([lambda: Signal(2), lambda: Signal(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    algorithm = learner(env, batch_size=1)
    metrics = [algorithm.update() for _ in range(5)]
    assert [m.n_steps for m in metrics] == [2 * t for t in (3, 4, 6, 8, 9)]
    assert [m.off_policy_fraction for m in metrics] == [0, 1 / 2, 1 / (3 + 2), 0, 2 / 3]


def test_eta_may_depend_on_the_steps_so_far():
    calls = []

    def eta(n_steps):
        calls.append(n_steps)
        return 0.01 if n_steps < 100 else 0.0

    algorithm = learner(return_fn=reward_to_go, eta=eta)
    first = algorithm.update()
    W = algorithm.policy.W.detach().clone()
    assert_allclose(W.abs(), 0.01, rtol=1e-4)
    second = algorithm.update()
    assert [n for n in calls if n] == [first.n_steps, second.n_steps]
    assert algorithm.policy.W.equal(W)


def test_the_step_is_adams_on_the_surrogate():
    algorithm = learner(return_fn=reward_to_go, eta=0.01)
    algorithm.update()
    # Adam's first step is η in the direction of the sign of each derivative
    assert_allclose(algorithm.policy.W.detach().abs(), 0.01, rtol=1e-4)


def test_with_sgd_the_step_is_slide_36s_with_a_learning_rate_that_decays():
    """w ← w + η ∂Ĵ/∂w, η = 0.3 / (1 + n/100) after n environment steps."""
    algorithm = learner(optimizer="SGD", eta=0.3, eta_decay_steps=100)
    for _ in range(3):
        W = algorithm.policy.W.detach().clone()
        metrics = algorithm.update()
        gradient = algorithm.policy.W.grad
        expected = W + 0.3 / (1 + metrics.n_steps / 100) * gradient
        assert_allclose(algorithm.policy.W.detach(), expected, rtol=1e-12)
        assert metrics.gradient_norm == pytest.approx(gradient.norm().item())


def test_the_same_seed_gives_the_same_run():
    runs = [[learner(seed=seed).update().surrogate for _ in range(2)] for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_a_state_continues_in_another_object_as_in_its_own():
    """Weights, Adam's moments, random numbers and steps; both begin new episodes. Nothing of the other
    object's past remains."""
    original, other = learner(seed=1), learner(seed=2, eta=0.05)
    original.update()
    other.update()
    state = original.state_dict()
    for algorithm in (original, other):
        algorithm.load_state_dict(state)
    for _ in range(3):
        one, two = original.update(), other.update()
        assert one._replace(episode_returns=None) == two._replace(episode_returns=None)
        assert_array_equal(one.episode_returns, two.episode_returns)
    assert original.policy.W.equal(other.policy.W)


def test_a_state_does_not_change_when_training_goes_on():
    algorithm = learner()
    algorithm.update()
    state = algorithm.state_dict()
    runs = []
    for _ in range(2):
        algorithm.load_state_dict(state)
        runs.append([algorithm.update().surrogate for _ in range(2)])
    assert runs[0] == runs[1]


def test_episodes_in_progress_are_dropped_when_a_state_is_loaded():
    """Of episodes of 2 and 3 steps, the shorter is one step in; after loading, both start anew."""
    collected = []

    def record(episode):
        collected.append(episode)
        return TrainingData(episode.s, episode.a, total_return(episode.r))

    env = SyncVectorEnv([lambda: Signal(2), lambda: Signal(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    algorithm = learner(env, batch_size=1, training_data=record)
    algorithm.update()
    n_steps = algorithm.n_steps
    algorithm.load_state_dict(algorithm.state_dict())
    assert algorithm.n_steps == n_steps == 6
    collected.clear()
    assert algorithm.update().n_steps == n_steps + 6
    assert [(len(e.r), e.n_off_policy) for e in collected] == [(2, 0), (3, 0)]
    for e in collected:
        assert_array_equal(e.s.argmax(axis=1) == e.a, e.r)


def test_neighbouring_seeds_share_no_environment():
    """Signal's first states are bits. 64 of them are equal by chance with 2⁻⁶⁴, also shifted by one."""

    def first_states(seed):
        observed = []

        def record(episode):
            observed.append(episode.s[0].argmax())
            return TrainingData(episode.s, episode.a, episode.r)

        learner(signals(65), batch_size=1, training_data=record, seed=seed).update()
        return np.array(observed)  # in the order of the environments, which finish together

    first = [first_states(seed) for seed in (0, 1)]
    assert first[0].shape == first[1].shape == (65,)
    assert (first[0][1:] != first[1][:-1]).any()
    assert (first[0] != first[1]).any()


def test_a_state_of_another_network_is_rejected():
    state = learner().state_dict()
    state["policy"] = {"W": torch.zeros(3, 2, dtype=torch.float64)}
    with pytest.raises(RuntimeError, match=r"size mismatch for W"):
        learner().load_state_dict(state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner(eta=0), "eta must be a positive number, got 0"),
        (lambda: learner(eta=float("nan")), "eta must be a positive number, got nan"),
        (lambda: learner(eta_decay_steps=0), "eta_decay_steps must be a positive number, got 0"),
        (lambda: learner(batch_size=0), "batch_size must be a whole number of at least 1, got 0"),
        (lambda: learner(gamma=1.1), r"gamma must be in \[0, 1\], got 1.1"),
        (lambda: learner(optimizer="LBFGS"), "optimizer must be one of Adam, RMSprop, SGD, got 'LBFGS'"),
        (
            lambda: learner(signals(mode=AutoresetMode.NEXT_STEP)),
            "env must reset itself in the step that ends an episode",
        ),
        (
            lambda: surrogate(torch.zeros(3), torch.zeros(3), 0),
            "n must be a whole number of at least 1, got 0",
        ),
        (
            lambda: surrogate(torch.zeros(3), torch.zeros(3, 1), 1),
            r"G must have the shape of L, \(3,\), got \(3, 1\)",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
