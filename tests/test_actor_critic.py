"""The actor–critic against slide 61 written out, and its gradient against enumeration."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose
from rollouts import record_rollouts

from pgcourse.algorithms import actor_critic
from pgcourse.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from pgcourse.algorithms.collect import RolloutState, collect_rollout
from pgcourse.environments.mdp import MDP
from pgcourse.environments.tasks import Task
from pgcourse.environments.worlds import access_control, chain, random_mdp, random_walk
from pgcourse.maths.returns import surrogate
from pgcourse.networks.policies import GaussianPolicy, SoftmaxPolicy, TabularPolicy
from pgcourse.networks.values import TabularValue, ValueNetwork


def learner(mdp, *, n_envs=1, seed=0, **settings):
    """Return a tabular actor–critic: one step, λ = 1, plain gradient steps, unless settings say otherwise."""
    env = SyncVectorEnv([mdp.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    policy = TabularPolicy(np.random.default_rng(0).normal(size=(mdp.n_observations, mdp.n_actions)))
    defaults = {"eta": 0.1, "eta_critic": 0.2, "lam": 1.0, "rollout_length": 1, "optimizer": "SGD"}
    config = ActorCriticConfig(**(defaults | settings))
    return ActorCritic(env, policy, TabularValue(np.zeros(mdp.n_observations)), config, seed=seed)


@pytest.mark.parametrize("critic_first", [False, True])
@pytest.mark.parametrize("average_reward", [False, True])
def test_with_one_environment_and_one_step_it_is_slide_61(average_reward, critic_first, monkeypatch):
    """Its five steps in NumPy, 300 times: with episodes of six steps, and in a continuing task.

    In the slide's order, and with the advantage of the critic before it moves.
    """
    mdp = random_mdp(4, 3, np.random.default_rng(3), horizon=None if average_reward else 6, gamma=0.9)
    settings = {"gamma": 1, "eta_average_reward": 0.05} if average_reward else {"gamma": 0.9}
    rollouts = record_rollouts(monkeypatch, actor_critic)
    algorithm = learner(mdp, lam=0, critic_first=critic_first, **settings)
    w, v, r_bar, gamma = algorithm.policy.w.detach().numpy().copy(), np.zeros(4), 0.0, settings["gamma"]
    n_episodes = 0
    for _ in range(300):
        algorithm.update()
        rollout = rollouts.pop()
        s, next_s = rollout.s[0]  # 1. take an action, get (s, a, s', r)
        [a], [r], [terminated] = rollout.a[0], rollout.r[0], rollout.terminated[0]

        def next_value(v, next_s=next_s, terminated=terminated):
            return 0 if terminated else v[next_s]

        n_episodes += terminated
        target = r - r_bar + gamma * next_value(v)
        delta = target - v[s]
        v[s] += 0.2 * delta  # 2. update v with its target
        r_bar += settings.get("eta_average_reward", 0) * delta
        # 3. evaluate the advantage
        A = r - r_bar + gamma * next_value(v) - v[s] if critic_first else delta
        pi = np.exp(w[s]) / np.exp(w[s]).sum()
        w[s] += 0.1 * A * ((np.arange(3) == a) - pi)  # 4. and 5.
        assert_allclose(algorithm.policy.w.detach(), w, rtol=1e-9)
        assert_allclose(algorithm.critic(np.arange(4)), v, rtol=1e-9)
        assert algorithm.critic.r_bar == pytest.approx(r_bar)
    assert n_episodes == (0 if average_reward else 50)
    assert abs(v).max() > 0.5


def mean_actor_step(mdp, v, eta_critic, critic_first):
    """Return Σₐ π(a∣0) · the actor's step for action a, over η, with an update for each action."""
    total = 0.0
    for a in range(mdp.n_actions):
        settings = {"lam": 0, "gamma": mdp.gamma, "eta_critic": eta_critic, "critic_first": critic_first}
        algorithm = learner(mdp, **settings)
        with torch.no_grad():
            algorithm.critic.value.v[:] = torch.tensor(v)
        w = algorithm.policy.w.detach().numpy().copy()
        algorithm.policy.sample = lambda s, rng, a=a: np.full(len(s), a)
        algorithm.update()
        total = total + mdp.pi(w)[0, a] * (algorithm.policy.w.detach().numpy() - w) / 0.1
    return total, w


@pytest.mark.parametrize("eta_critic", [0.1, 0.5])
def test_only_the_advantages_of_the_critic_before_it_moves_have_the_right_mean(eta_critic):
    """From state 0, action 0 stays, action 1 goes on, action 2 ends the episode, with rewards 1, 2 and 3.

    The mean step is Σₐ π(a∣0) δ(a) ∂log π(a∣0)/∂w, whatever the critic says. In the slide's order δ shrinks
    by the factor 1 − η′(1 − γ) where s' = s and by 1 − η′ elsewhere, which turns the step.
    """
    P = np.zeros((3, 3, 3))
    P[0, [0, 1, 2], [0, 1, 2]] = 1
    P[1, :, 2] = P[2, :, 2] = 1
    r, start = np.tile([1.0, 2.0, 3.0], (3, 1)), np.array([1.0, 0.0, 0.0])
    mdp = MDP(P, r, start, gamma=0.9, absorbing=np.array([False, False, True]))
    v = np.array([2.0, -1.0, 0.0])
    delta = r[0] + 0.9 * np.array([v[0], v[1], 0]) - v[0]
    (ours, w), (slides, _) = (mean_actor_step(mdp, v, eta_critic, first) for first in (False, True))
    pi = mdp.pi(w)[0]
    score = np.eye(3) - pi
    assert_allclose(ours[0], (pi * delta) @ score, atol=1e-12)
    factor = 1 - eta_critic * (1 - 0.9 * np.array([1, 0, 0]))
    assert_allclose(slides[0], (pi * factor * delta) @ score, atol=1e-12)
    cosine = ours[0] @ slides[0] / np.linalg.norm(ours[0]) / np.linalg.norm(slides[0])
    assert cosine < 1 - 1e-5


def test_with_the_exact_advantage_the_gradient_is_exact():
    """Every state and action once, weighted by its visitation: Q and A give the same gradient."""
    mdp = random_mdp(4, 3, np.random.default_rng(5), gamma=0.8)
    w = np.random.default_rng(6).normal(size=(4, 3))
    visitation = (mdp.state_visitation(w)[:, None] * mdp.pi(w)).ravel()
    s, a = np.divmod(np.arange(12), 3)
    _, Q, A = mdp.values(w)
    for weight in (Q, A):
        policy = TabularPolicy(w)
        weights = torch.tensor(12 * visitation * weight.ravel())
        surrogate(policy.log_prob(s, a), weights, n=12).backward()
        assert_allclose(policy.w.grad, mdp.gradient(w), atol=1e-12)
    average = mdp.average_reward(w)
    policy = TabularPolicy(w)
    weights = torch.tensor(12 * ((average.d[:, None] * mdp.pi(w)) * average.A).ravel())
    surrogate(policy.log_prob(s, a), weights, n=12).backward()
    assert_allclose(policy.w.grad, mdp.average_reward_gradient(w), atol=1e-12)


def test_the_mean_step_in_a_continuing_task_is_the_exact_gradient():
    """r̄, d and V exact: the mean of A ∂log π over a long run is ∂r̄/∂w, to within 6 standard errors."""
    mdp = chain(None, 0.9)
    algorithm = learner(mdp, n_envs=50, lam=0, gamma=1, eta_average_reward=1e-12)
    w = algorithm.policy.w.detach().numpy()
    exact = mdp.average_reward(w)
    algorithm.critic.r_bar = exact.r_bar
    with torch.no_grad():
        algorithm.critic.value.v[:] = torch.tensor(exact.V)
    rng = np.random.default_rng(0)
    state = RolloutState(algorithm.env, rng)
    # It begins in state 0, which no longer matters after 400 steps
    collect_rollout(algorithm.env, algorithm.policy, 400, rng, state)
    rollout = collect_rollout(algorithm.env, algorithm.policy, 400, rng, state)
    A, s = algorithm.critic.advantages(rollout), rollout.s[:, :-1]
    score = np.eye(2)[s][..., None] * (np.eye(2)[rollout.a] - mdp.pi(w)[s])[..., None, :]
    means = (A[..., None, None] * score).mean(axis=1)  # of each of the 50 independent environments
    stderr = means.std(axis=0, ddof=1) / 50**0.5
    assert (abs(means.mean(axis=0) - mdp.average_reward_gradient(w)) < 6 * stderr).all()
    assert (abs(mdp.average_reward_gradient(w)) > 6 * stderr).any()


def test_with_whole_episodes_and_values_of_zero_it_is_reinforce_with_rewards_to_go(monkeypatch):
    """Only the first episode of each environment counts: 1/n Σ Gₜ ∂Lₜ/∂w over its steps, by hand."""
    mdp, rollouts = random_walk(5), record_rollouts(monkeypatch, actor_critic)
    algorithm = learner(mdp, n_envs=6, gamma=0.9, rollout_length=None, eta_critic=1e-12)
    w = algorithm.policy.w.detach().numpy().copy()
    metrics = algorithm.update()
    [rollout] = rollouts
    gradient, returns, n, total = np.zeros((6, 2)), [], 0, 0.0
    for k in range(6):
        T = int(np.flatnonzero(rollout.terminated[k])[0]) + 1
        r = rollout.r[k, :T]
        returns.append(r.sum())
        for t in range(T):
            s, a = rollout.s[k, t], rollout.a[k, t]
            G = sum(0.9**m * r[t + m] for m in range(T - t))
            gradient[s] += G * (np.eye(2)[a] - mdp.pi(w)[s])
            total += G * np.log(mdp.pi(w)[s, a])
            n += 1
    assert n < rollout.r.size  # other environments went on
    assert_allclose(algorithm.policy.w.detach(), w + 0.1 * gradient / n, atol=1e-9)
    assert metrics.surrogate == pytest.approx(total / n, abs=1e-9)
    assert sorted(metrics.episode_returns) == sorted(returns)


class Target(gymnasium.Env):
    """A continuing task: shows x, then another; the reward is minus the squared distance of a from (x, ½)."""

    observation_space, action_space = Box(-1, 1, (1,)), Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, a):
        r = -float(((a - np.array([self.x[0], 0.5])) ** 2).sum())
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, r, False, False, {}


def test_a_gaussian_policy_learns_to_hit_a_target():
    """The mean reward is about −3 at first, and near 0 with μ = (x, ½) and a small σ. Ignoring x costs ⅓."""
    env = SyncVectorEnv([Target] * 16, autoreset_mode=AutoresetMode.SAME_STEP)
    config = ActorCriticConfig(eta=0.01, eta_critic=0.01, gamma=0, lam=1, rollout_length=16, optimizer="Adam")
    algorithm = ActorCritic(env, GaussianPolicy(1, 2, (16,)), ValueNetwork(1, (16,)), config, seed=1)
    first, *_, last = [algorithm.update().reward for _ in range(400)]
    assert first < -1.5
    assert last > -0.15
    assert (algorithm.policy.log_sigma < -1).all()


def test_it_finds_a_better_policy_for_a_queue_without_end():
    """Two servers: nine tenths of the way from the average reward of random decisions to the optimal one."""
    mdp = access_control(2, 0.2)
    settings = {"eta": 1.0, "eta_critic": 2.0, "lam": 0.8, "gamma": 1, "eta_average_reward": 0.02}
    algorithm = learner(mdp, n_envs=16, rollout_length=8, **settings)
    with torch.no_grad():
        algorithm.policy.w[:] = 0
    random = mdp.average_reward(np.zeros((12, 2))).r_bar
    _, optimal = mdp.policy_iteration()
    while algorithm.n_steps < 150_000:
        algorithm.update()
    learnt = mdp.average_reward(algorithm.policy.w.detach().numpy()).r_bar
    assert learnt > random + 0.9 * (optimal.r_bar - random)
    assert algorithm.critic.r_bar == pytest.approx(learnt, rel=0.1)


def test_it_learns_to_balance():
    """From some 20 steps at random to more than 80, which an untrained policy's mean of 20 never reaches."""
    env = Task("CartPole-v1").make_vector_env(8)
    config = ActorCriticConfig(
        eta=5e-3, eta_critic=5e-3, gamma=0.99, lam=0.95, rollout_length=32, optimizer="Adam"
    )
    algorithm = ActorCritic(env, SoftmaxPolicy(4, 2), ValueNetwork(4, (64,), seed=1), config)
    returns = np.concatenate([algorithm.update().episode_returns for _ in range(200)])
    assert returns[:50].mean() < 40
    assert returns[-20:].mean() > 80
    env.close()


def test_standardised_advantages_have_mean_0_and_standard_deviation_1(monkeypatch):
    settings = {"n_envs": 4, "rollout_length": 8, "gamma": 1, "eta_critic": 1e-9}
    plain, rollouts = learner(chain(5), **settings), record_rollouts(monkeypatch, actor_critic)
    metrics = learner(chain(5), standardize=True, **settings).update()
    [rollout] = rollouts
    A = plain.critic.advantages(rollout)
    with torch.no_grad():
        L = plain.policy.log_prob(rollout.s[:, :-1].ravel(), rollout.a.ravel()).numpy().reshape(A.shape)
    assert metrics.surrogate == pytest.approx((((A - A.mean()) / A.std()) * L).mean(), rel=1e-5)
    assert plain.update().surrogate == pytest.approx(
        (A * L).mean(), rel=1e-5
    )  # the same seed, the same steps


def test_eta_may_depend_on_the_steps_so_far():
    algorithm = learner(access_control(2), rollout_length=8, eta=lambda n: 0.1 if n < 16 else 0.0)
    weights = [algorithm.policy.w.detach().clone()]
    for _ in range(3):
        algorithm.update()
        weights.append(algorithm.policy.w.detach().clone())
    assert not weights[0].equal(weights[1])  # after 8 steps
    assert weights[1].equal(weights[2])  # after 16
    assert weights[2].equal(weights[3])


def test_only_the_actors_learning_rate_decays():
    """η = 0.1 / (1 + n/16) after n environment steps; the critic's stays 0.2."""
    algorithm = learner(access_control(2), rollout_length=8, eta_decay_steps=16)
    for n_steps in (8, 16, 24):
        w = algorithm.policy.w.detach().clone()
        algorithm.update()
        step = 0.1 / (1 + n_steps / 16) * algorithm.policy.w.grad
        assert_allclose(algorithm.policy.w.detach(), w + step, rtol=1e-12)
        assert algorithm.critic.optimizer.param_groups[0]["lr"] == 0.2


def test_the_metrics_of_an_update_are_those_of_its_rollout():
    algorithm = learner(chain(4), n_envs=3, rollout_length=8, gamma=1)
    metrics = algorithm.update()
    assert metrics.n_steps == algorithm.n_steps == 24
    assert len(metrics.episode_returns) == 6  # episodes of four steps
    assert metrics.episode_returns.sum() == pytest.approx(24 * metrics.reward)
    assert 0 < metrics.entropy < 3
    assert metrics.gradient_norm == pytest.approx(algorithm.policy.w.grad.norm().item())


def test_a_state_continues_in_another_object_as_in_its_own():
    settings = {"rollout_length": 4, "gamma": 1, "eta_average_reward": 0.1, "optimizer": "Adam"}
    original, other = (learner(access_control(2), seed=seed, **settings) for seed in (1, 2))
    for _ in range(3):
        original.update()
    state, runs = original.state_dict(), []
    for algorithm in (original, other, original):
        algorithm.load_state_dict(state)
        metrics = [algorithm.update()._replace(episode_returns=None) for _ in range(3)]
        runs.append([*metrics, algorithm.critic.r_bar])
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0].n_steps == 16


def test_a_state_of_another_network_is_rejected():
    with pytest.raises(RuntimeError, match="size mismatch for w"):
        learner(chain(3)).load_state_dict(learner(access_control(2)).state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner(chain(3), eta=0), "eta must be a positive number, got 0"),
        (lambda: learner(chain(3), eta=lambda n: np.nan), "eta must be a positive number, got nan"),
        (lambda: learner(chain(3), eta_critic=-1), "eta_critic must be a positive number, got -1"),
        (
            lambda: learner(chain(3), rollout_length=2, critic_first=True),
            "rollout_length must be 1 with critic_first, slide 61's form, one step an update, got 2",
        ),
        (lambda: learner(chain(3), lam=2), r"lam must be in \[0, 1\], got 2"),
        (
            lambda: learner(chain(3), rollout_length=0),
            "rollout_length must be a whole number of at least 1, got 0",
        ),
        (
            lambda: learner(chain(3), optimizer="Adagrad"),
            "optimizer must be one of Adam, RMSprop, SGD, got 'Adagrad'",
        ),
        (
            lambda: surrogate(torch.zeros(3), torch.zeros(3, 1), 3),
            r"G must have the shape of L, \(3,\), got \(3, 1\)",
        ),
    ],
)
def test_errors_name_the_argument_the_value_and_the_range(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
