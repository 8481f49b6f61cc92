"""PPO against its equations written out, against the actor–critic, and against enumeration."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose
from rollouts import record_rollouts

from pgcourse.algorithms import ppo
from pgcourse.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from pgcourse.algorithms.ppo import PPO, Batch, PPOConfig
from pgcourse.environments.tasks import Task
from pgcourse.environments.worlds import access_control, chain, random_mdp, random_walk
from pgcourse.experiments.training import train
from pgcourse.networks.policies import GaussianPolicy, SoftmaxPolicy, TabularPolicy
from pgcourse.networks.values import TabularValue, ValueNetwork

ONCE = {"n_epochs": 1, "standardize": False, "max_norm": None}


def learner(mdp, *, n_envs=2, seed=0, **settings):
    """Return a tabular PPO with plain gradient steps, unless settings say otherwise."""
    env = SyncVectorEnv([mdp.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    policy = TabularPolicy(np.random.default_rng(0).normal(size=(mdp.n_observations, mdp.n_actions)))
    defaults = {"eta": 0.1, "eta_critic": 0.2, "rollout_length": 8, "minibatch_size": 4, "optimizer": "SGD"}
    config = PPOConfig(**(defaults | settings))
    return PPO(env, policy, TabularValue(np.zeros(mdp.n_observations)), config, seed=seed)


@pytest.mark.parametrize("surrogate", ppo.SURROGATES)
def test_one_step_per_rollout_is_the_actor_critics(surrogate):
    """At π₀ all three surrogates have one gradient."""
    mdp = random_mdp(4, 3, np.random.default_rng(3), horizon=6, gamma=0.9)
    settings = {"eta": 0.1, "eta_critic": 0.2, "gamma": 0.9, "rollout_length": 8, "optimizer": "SGD"}
    algorithm = learner(mdp, surrogate=surrogate, **settings, **ONCE, minibatch_size=16)
    policy, value = TabularPolicy(algorithm.policy.w.detach().numpy()), TabularValue(np.zeros(4))
    env = SyncVectorEnv([mdp.env] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    other = ActorCritic(env, policy, value, ActorCriticConfig(**settings))
    for _ in range(5):
        algorithm._rng.bit_generator.state = other._rng.bit_generator.state  # minibatches draw from it
        before = algorithm.policy.w.detach().clone()
        metrics, others = algorithm.update(), other.update()
        torch.testing.assert_close(algorithm.policy.w, other.policy.w, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(algorithm.critic.value.v, other.critic.value.v, rtol=1e-12, atol=1e-14)
        assert (algorithm.policy.w != before).any()
        assert (metrics.episode_returns == others.episode_returns).all()


def test_an_update_is_equation_7_by_hand(monkeypatch):
    """Three epochs of four minibatches in NumPy: GAE, importance weights, clipping, standardised advantages,
    entropy bonus, value steps and gradients of limited length, with rates that fall linearly."""
    mdp, rollouts = (
        random_mdp(4, 3, np.random.default_rng(3), horizon=6, gamma=0.9),
        record_rollouts(monkeypatch, ppo),
    )
    settings = {"gamma": 0.9, "lam": 0.8, "n_epochs": 3, "clip": 0.05, "entropy_coefficient": 0.1}
    algorithm = learner(mdp, **settings, eta=2.0, anneal_steps=64, max_norm=0.3)
    w, v, eye = algorithm.policy.w.detach().numpy().copy(), np.zeros(4), np.eye(3)
    fractions = []
    for update in range(4):
        draws = np.random.default_rng(0)
        rollout_rng = algorithm._rng.bit_generator.state
        metrics = algorithm.update()
        rollout = rollouts.pop()
        draws.bit_generator.state = rollout_rng
        draws.random((8, 2, 1))  # the actions of the rollout
        pi_0 = np.exp(w) / np.exp(w).sum(axis=1, keepdims=True)
        A, target = np.zeros((2, 8)), np.zeros((2, 8))
        for n in range(2):
            last = 0.0
            for t in reversed(range(8)):
                next_v = 0 if rollout.terminated[n, t] else v[rollout.s[n, t + 1]]
                delta = rollout.r[n, t] + 0.9 * next_v - v[rollout.s[n, t]]
                last = delta + 0.9 * 0.8 * last * (not rollout.terminated[n, t])
                A[n, t], target[n, t] = last, last + v[rollout.s[n, t]]
        A = ((A - A.mean()) / A.std()).ravel()
        s, a, target = rollout.s[:, :-1].ravel(), rollout.a.ravel(), target.ravel()
        decay = 1 - 16 * update / 64
        for _ in range(3):
            for i in np.array_split(draws.permutation(16), 4):
                dv = np.zeros(4)
                np.add.at(dv, s[i], (v[s[i]] - target[i]) / 4)
                v = v - 0.2 * decay * dv * min(1, 0.3 / (np.linalg.norm(dv) + 1e-6))
                pi = np.exp(w) / np.exp(w).sum(axis=1, keepdims=True)
                rho, g = (pi / pi_0)[s[i], a[i]], np.zeros_like(w)
                clipped = ((A[i] > 0) & (rho > 1.05)) | ((A[i] < 0) & (rho < 0.95))
                fractions.append(clipped.mean())
                for k, weight in zip(i, np.where(clipped, 0, rho * A[i]) / 4, strict=True):
                    H = -(pi[s[k]] * np.log(pi[s[k]])).sum()
                    g[s[k]] += weight * (eye[a[k]] - pi[s[k]])
                    g[s[k]] -= 0.1 / 4 * pi[s[k]] * (np.log(pi[s[k]]) + H)
                w = w + 2.0 * decay * g * min(1, 0.3 / (np.linalg.norm(g) + 1e-6))
        assert_allclose(algorithm.policy.w.detach(), w, atol=1e-9)
        assert_allclose(algorithm.critic(np.arange(4)), v, atol=1e-9)
        rho = (np.exp(w) / np.exp(w).sum(axis=1, keepdims=True) / pi_0)[s, a]
        assert metrics.kl == pytest.approx((rho - 1 - np.log(rho)).mean(), abs=1e-9)
        assert metrics.max_weight == pytest.approx(rho.max())
        assert metrics.n_gradient_steps == 12
    assert 0.1 < np.mean(fractions) < 0.9


def test_every_epoch_has_each_step_once_in_parts_of_nearly_one_size():
    column = np.arange(11)
    batch = Batch(column, column, column, torch.tensor(column), torch.tensor(column))
    rng = np.random.default_rng(0)
    parts = list(batch.minibatches(4, rng))
    assert sorted(len(part.s) for part in parts) == [3, 4, 4]
    assert sorted(np.concatenate([part.s for part in parts])) == list(range(11))
    for part in parts:
        assert (part.L.numpy() == part.s).all()
    assert len(list(batch.minibatches(11, rng))) == 1


def test_clipping_stops_single_steps_and_target_kl_the_update():
    """A hundred epochs over one rollout: without clipping they go far. Clipping bounds no divergence, though;
    that only ``target_kl`` does, by ending the update."""
    settings = {"n_epochs": 100, "minibatch_size": 16, "eta": 0.5, "max_norm": None, "gamma": 1}
    moved = {name: learner(chain(4), surrogate=name, **settings).update() for name in ppo.SURROGATES}
    assert moved["clipped"].kl < 0.5 * moved["weighted"].kl
    assert moved["clipped"].kl < 0.5 * moved["plain"].kl
    assert moved["clipped"].clipped_fraction > 0.2
    stopped = learner(chain(4), target_kl=0.005, **settings).update()
    assert stopped.n_gradient_steps < 30 < 100 == moved["clipped"].n_gradient_steps
    assert stopped.kl < moved["clipped"].kl
    assert stopped.kl > 0.005  # it was exceeded: that ended it


def test_with_whole_episodes_only_those_steps_count(monkeypatch):
    rollouts = record_rollouts(monkeypatch, ppo)
    algorithm = learner(random_walk(5), n_envs=4, rollout_length=None, minibatch_size=3, n_epochs=2)
    metrics = algorithm.update()
    n = int(rollouts[0].mask.sum())
    assert n < rollouts[0].r.size
    assert metrics.n_gradient_steps == 2 * -(-n // 3)
    assert len(metrics.episode_returns) == 4


def test_it_learns_the_average_reward_of_a_queue_without_end():
    mdp = access_control(2, 0.2)
    settings = {"eta": 2.0, "eta_critic": 2.0, "lam": 0.8, "gamma": 1, "eta_average_reward": 0.05}
    algorithm = learner(mdp, n_envs=16, rollout_length=16, minibatch_size=64, max_norm=None, **settings)
    with torch.no_grad():
        algorithm.policy.w[:] = 0
    random = mdp.average_reward(np.zeros((12, 2))).r_bar
    _, optimal = mdp.policy_iteration()
    while algorithm.n_steps < 30_000:
        algorithm.update()
    learnt = mdp.average_reward(algorithm.policy.w.detach().numpy()).r_bar
    assert learnt > random + 0.8 * (optimal.r_bar - random)
    assert algorithm.critic.r_bar == pytest.approx(learnt, rel=0.1)


class Target(gymnasium.Env):
    """A continuing task: shows x, then another; the reward is minus the squared distance of a from (x, ½)."""

    observation_space, action_space = Box(-1, 1, (1,)), Box(-4, 4, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, a):
        r = -float(((a - np.array([self.x[0], 0.5])) ** 2).sum())
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, r, False, False, {}


class Unbounded(Target):
    action_space = Box(-np.inf, np.inf, (2,))


def test_a_gaussian_policy_learns_to_hit_a_target():
    """The mean reward is about −3 at first, and near 0 with μ = (x, ½) and a small σ. Ignoring x costs ⅓."""
    env = SyncVectorEnv([Target] * 16, autoreset_mode=AutoresetMode.SAME_STEP)
    config = PPOConfig(eta=0.01, eta_critic=0.01, gamma=0, lam=1, rollout_length=16, minibatch_size=64)
    algorithm = PPO(env, GaussianPolicy(1, 2, (16,)), ValueNetwork(1, (16,)), config, seed=1)
    first, *_, last = [algorithm.update().reward for _ in range(60)]
    assert first < -1.5
    assert last > -0.15
    assert (algorithm.policy.log_sigma < -1).all()


def test_it_learns_to_balance():
    """From some 20 steps at random to more than 120, which an untrained policy's mean of 20 never reaches."""
    env = Task("CartPole-v1").make_vector_env(8)
    config = PPOConfig(rollout_length=32, n_epochs=10, gamma=0.98, lam=0.8)
    algorithm = PPO(env, SoftmaxPolicy(4, 2), ValueNetwork(4, (64,), seed=1), config)
    returns = np.concatenate([algorithm.update().episode_returns for _ in range(80)])
    assert returns[:50].mean() < 40
    assert returns[-20:].mean() > 120
    env.close()


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_state_continues_in_another_object_as_in_its_own(optimizer):
    settings = {"optimizer": optimizer, "gamma": 1, "eta_average_reward": 0.1, "anneal_steps": 1000}
    original, other = (learner(access_control(2), seed=seed, **settings) for seed in (1, 2))
    for _ in range(3):
        original.update()
    state, runs = original.state_dict(), []
    for algorithm in (original, other, original):
        algorithm.load_state_dict(state)
        metrics = [algorithm.update()._replace(episode_returns=None) for _ in range(3)]
        runs.append([*metrics, algorithm.critic.r_bar])
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0].n_steps == 64


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path):
    """Through ``train`` and its checkpoints on disk: weights and all columns of the curve but the seconds."""

    def fresh():
        return learner(chain(5), optimizer="Adam", anneal_steps=2000, gamma=1)

    options = {"checkpoint_interval": 200, "progress": False}
    undisturbed, interrupted = fresh(), fresh()
    curve = train(undisturbed, steps=1200, folder=tmp_path / "undisturbed", **options)
    train(interrupted, steps=600, folder=tmp_path / "interrupted", **options)
    resumed = fresh()
    again = train(resumed, steps=1200, folder=tmp_path / "interrupted", **options)
    assert torch.equal(undisturbed.policy.w, resumed.policy.w)
    assert torch.equal(undisturbed.critic.value.v, resumed.critic.value.v)
    assert {"kl", "clipped_fraction", "max_weight", "n_gradient_steps"} <= set(curve)
    for name in set(curve) - {"seconds"}:
        assert_allclose(again[name][-3:], curve[name][-3:], err_msg=name)


def test_the_metrics_of_an_update_are_those_of_its_rollout():
    algorithm = learner(chain(4), n_envs=4, gamma=1)
    metrics = algorithm.update()
    assert metrics.n_steps == algorithm.n_steps == 32
    assert len(metrics.episode_returns) == 8  # episodes of four steps
    assert metrics.episode_returns.sum() == pytest.approx(32 * metrics.reward)
    assert 0 < metrics.entropy < np.log(2)
    assert metrics.gradient_norm == pytest.approx(algorithm.policy.w.grad.norm().item())
    assert metrics.n_gradient_steps == 4 * 8
    assert metrics.kl > 0


def test_nothing_is_learnt_any_more_once_the_rates_are_zero_and_this_is_said_once():
    algorithm = learner(chain(3), anneal_steps=32, gamma=1)
    with warnings.catch_warnings(action="error"):
        for _ in range(2):
            algorithm.update()
    before = algorithm.policy.w.detach().clone()
    with pytest.warns(UserWarning, match="^nothing is learnt any more: at step 32 the learning rate is 0; "):
        algorithm.update()
    with warnings.catch_warnings(action="error"):
        algorithm.update()
    assert torch.equal(algorithm.policy.w, before)


def with_actions(env):
    envs = SyncVectorEnv([env] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    return PPO(envs, GaussianPolicy(1, 2), ValueNetwork(1), PPOConfig(minibatch_size=8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner(chain(3), clip=0), "clip must be a positive number, got 0"),
        (lambda: learner(chain(3), clip=-0.2), "clip must be a positive number, got -0.2"),
        (lambda: learner(chain(3), n_epochs=0), "n_epochs must be a whole number of at least 1, got 0"),
        (
            lambda: learner(chain(3), minibatch_size=0),
            "minibatch_size must be a whole number of at least 1, got 0",
        ),
        (
            lambda: learner(chain(3), minibatch_size=17),
            "minibatch_size must be at most the steps of a rollout, 2 × 8 = 16, got 17",
        ),
        (lambda: learner(chain(3), eta=0), "eta must be a positive number, got 0"),
        (lambda: learner(chain(3), eta_critic=-1), "eta_critic must be a positive number, got -1"),
        (lambda: learner(chain(3), anneal_steps=0), "anneal_steps must be a positive number, got 0"),
        (
            lambda: learner(chain(3), eta=lambda n: 0.1, anneal_steps=10),
            "anneal_steps must be None where eta is a schedule, got 10",
        ),
        (
            lambda: learner(chain(3), n_envs=1, rollout_length=1, minibatch_size=1),
            "standardize must be False where an update has one step of one environment, whose standardised "
            "advantage is 0: nothing would be learnt, got True",
        ),
        (lambda: learner(chain(3), max_norm=0), "max_norm must be a positive number, got 0"),
        (lambda: learner(chain(3), target_kl=-1), "target_kl must be a positive number, got -1"),
        (
            lambda: learner(chain(3), entropy_coefficient=-0.1),
            "entropy_coefficient must be at least 0, got -0.1",
        ),
        (
            lambda: learner(chain(3), surrogate="none"),
            "surrogate must be one of clipped, weighted, plain, got 'none'",
        ),
        (
            lambda: with_actions(Unbounded),
            r"env must take actions of real numbers between bounds, shape \(D,\), got Box\(-inf.*",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
