"""The actor–critic against slide 61 written out, and its slope against enumeration."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose

from pgcourse.algorithms.actor_critic import ActorCritic, objective
from pgcourse.algorithms.critics import Critic
from pgcourse.environments.tasks import Task
from pgcourse.environments.worlds import access_control, chain, random_mdp
from pgcourse.networks.policies import GaussianPolicy, SoftmaxPolicy, TabularPolicy
from pgcourse.networks.values import NetworkValue, TabularValue

SGD = torch.optim.SGD


def learner(world, *, n_envs=1, eta=0.1, eta_critic=0.2, optimizer=SGD, **options):
    env = SyncVectorEnv([world.env] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    policy = TabularPolicy(np.random.default_rng(0).normal(size=(world.n_seen, world.n_actions)))
    critic = Critic(TabularValue(np.zeros(world.n_seen)), eta=eta_critic)
    return ActorCritic(env, policy, critic, eta=eta, optimizer=optimizer, **options)


@pytest.mark.parametrize("average", [False, True])
def test_with_one_environment_and_one_step_it_is_slide_61(average):
    """Its five steps in NumPy, for 300 transitions of a world whose episodes are six steps long, and one that never ends."""
    world = random_mdp(4, 3, np.random.default_rng(3), horizon=None if average else 6, gamma=0.9)
    options = {"gamma": 1, "eta_average": 0.05} if average else {"gamma": 0.9}
    algorithm = learner(world, lam=0, **options)
    w, v, r_bar, gamma = algorithm.policy.w.detach().numpy().copy(), np.zeros(4), 0.0, options["gamma"]
    ends = 0
    for _ in range(300):
        rollout, returns = algorithm._act()
        algorithm._act = lambda seen=(rollout, returns): seen
        algorithm.update()
        del algorithm._act
        s, after = rollout.s[0]  # 1. take an action, get (s, a, s', r)
        [a], [r], [over] = rollout.a[0], rollout.r[0], rollout.terminated[0]

        def led_to(v, after=after, over=over):
            return 0 if over else v[after]

        ends += over
        target = r - r_bar + gamma * led_to(v)
        error = target - v[s]
        v[s] += 0.2 * error  # 2. update v by its target
        r_bar += options.get("eta_average", 0) * error
        A = r - r_bar + gamma * led_to(v) - v[s]  # 3. evaluate the advantage
        pi = np.exp(w[s]) / np.exp(w[s]).sum()
        w[s] += 0.1 * A * ((np.arange(3) == a) - pi)  # 4. and 5.
        assert_allclose(algorithm.policy.w.detach(), w, rtol=1e-9)
        assert_allclose(algorithm.critic(np.arange(4)), v, rtol=1e-9)
        assert algorithm.r_bar == pytest.approx(r_bar)
    assert ends == (0 if average else 50)
    assert abs(v).max() > 0.5


def test_with_the_exact_advantage_the_slope_is_the_exact_gradient():
    """Every state and action once, weighted by how often it comes: by enumeration, Q and A give the same slope."""
    world = random_mdp(4, 3, np.random.default_rng(5), gamma=0.8)
    w = np.random.default_rng(6).normal(size=(4, 3))
    often = (world.visits(w)[:, None] * world.pi(w)).ravel()
    s, a = np.divmod(np.arange(12), 3)
    _, Q, A = world.values(w)
    for credit in (Q, A):
        policy = TabularPolicy(w)
        objective(policy.log_prob(s, a), torch.tensor(12 * often * credit.ravel())).backward()
        assert_allclose(policy.w.grad, world.gradient(w), atol=1e-12)
    average = world.average(w)
    policy = TabularPolicy(w)
    objective(
        policy.log_prob(s, a), torch.tensor(12 * ((average.d[:, None] * world.pi(w)) * average.A).ravel())
    ).backward()
    assert_allclose(policy.w.grad, world.average_gradient(w), atol=1e-12)


def test_the_mean_step_of_the_average_reward_form_is_the_exact_gradient():
    """r̄, d and V exact: the mean of A ∂log π over a long run of a world that never ends is ∂r̄/∂w, to within 6 standard errors of each."""
    world = chain(None, 0.9)
    algorithm = learner(world, n_envs=50, lam=0, gamma=1, n_steps=400, eta_average=1e-12)
    w = algorithm.policy.w.detach().numpy()
    exact = world.average(w)
    algorithm.r_bar = exact.r_bar
    with torch.no_grad():
        algorithm.critic.value.v[:] = torch.tensor(exact.V)
    algorithm._act()  # it begins in state 0, and has forgotten that after 400 steps
    rollout, _ = algorithm._act()
    A = algorithm.advantage(rollout)
    each = (A[..., None] * (np.eye(2)[rollout.a] - world.pi(w)[rollout.s[:, :-1]]))[..., None, :] * np.eye(2)[
        rollout.s[:, :-1]
    ][..., None]
    means = each.mean(axis=1)  # of each environment, so that what depends on each other is in one of 50
    error = means.std(axis=0, ddof=1) / 50**0.5
    assert (abs(means.mean(axis=0) - world.average_gradient(w)) < 6 * error).all()
    assert (abs(world.average_gradient(w)) > 6 * error).any()


class Target(gymnasium.Env):
    """Shows a number, wants it named, and shows the next: never ends, and pays less the further off one is, in two ways at once."""

    observation_space, action_space = Box(-1, 1, (1,)), Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, a):
        r = -float(((a - np.array([self.x[0], 0.5])) ** 2).sum())
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, r, False, False, {}


def test_a_gaussian_policy_learns_to_name_numbers():
    """At first it is paid about −3; an actor that knows x and is sure of it gets close to 0. Not knowing x costs a third."""
    env = SyncVectorEnv([Target] * 16, autoreset_mode=AutoresetMode.SAME_STEP)
    critic = Critic(NetworkValue(1, 16), eta=0.01, optimizer=torch.optim.Adam)
    algorithm = ActorCritic(env, GaussianPolicy(1, 2, 16), critic, eta=0.01, gamma=0, n_steps=16, seed=1)
    first, *_, last = [algorithm.update().reward for _ in range(400)]
    assert first < -1.5
    assert last > -0.15
    assert (algorithm.policy.log_sigma < -1).all()


def test_it_finds_a_better_way_to_run_a_queue_that_never_ends():
    """Two servers. It is to get nine tenths of the way from what random decisions earn to what the best do."""
    world = access_control(2, 0.2)
    algorithm = learner(
        world, n_envs=16, eta=1.0, eta_critic=2.0, lam=0.8, gamma=1, n_steps=8, eta_average=0.02
    )
    with torch.no_grad():
        algorithm.policy.w[:] = 0
    random = world.average(np.zeros((12, 2))).r_bar
    _, best = world.best_average()
    while algorithm.n_steps < 150_000:
        algorithm.update()
    found = world.average(algorithm.policy.w.detach().numpy()).r_bar
    assert found > random + 0.9 * (best.r_bar - random)
    assert algorithm.r_bar == pytest.approx(found, rel=0.1)


def test_it_learns_to_balance():
    """From some 20 steps at random to more than 80: no policy that chance leaves gets near, with 20 episodes a mean of 30."""
    env = Task("CartPole-v1").make(8)
    critic = Critic(NetworkValue(4, 64, seed=1), eta=5e-3, optimizer=torch.optim.Adam)
    algorithm = ActorCritic(env, SoftmaxPolicy(4, 2), critic, eta=5e-3, n_steps=32, lam=0.95)
    returns = np.concatenate([algorithm.update().returns for _ in range(200)])
    assert returns[:50].mean() < 40
    assert returns[-20:].mean() > 80
    env.close()


def test_standardized_advantages_have_no_mean_and_one_spread():
    options = {"n_envs": 4, "n_steps": 8, "gamma": 1, "eta_critic": 1e-9}
    plain, algorithm = learner(chain(5), **options), learner(chain(5), standardize=True, **options)
    rollout, _ = plain._act()  # the same seed, and so the same steps
    A = plain.advantage(rollout)
    with torch.no_grad():
        L = plain.policy.log_prob(rollout.s[:, :-1].ravel(), rollout.a.ravel()).numpy().reshape(A.shape)
    assert algorithm.update().objective == pytest.approx((((A - A.mean()) / A.std()) * L).mean(), rel=1e-5)


def test_eta_may_depend_on_the_steps_so_far():
    algorithm = learner(access_control(2), n_steps=8, eta=lambda n: 0.1 if n < 16 else 0.0)
    weights = [algorithm.policy.w.detach().clone()]
    for _ in range(3):
        algorithm.update()
        weights.append(algorithm.policy.w.detach().clone())
    assert not weights[0].equal(weights[1])  # after 8 steps
    assert weights[1].equal(weights[2])  # after 16
    assert weights[2].equal(weights[3])


def test_what_an_update_says_is_what_was_seen():
    algorithm = learner(chain(4), n_envs=3, n_steps=8, gamma=1)
    update = algorithm.update()
    assert update.n_steps == algorithm.n_steps == 24
    assert len(update.returns) == 6  # episodes of four steps
    assert update.returns.sum() == pytest.approx(24 * update.reward)
    assert 0 < update.entropy < 3
    assert update.gradient_norm == pytest.approx(algorithm.policy.w.grad.norm().item())


def test_a_state_carries_on_in_another_object_as_in_its_own():
    ours, other = (
        learner(access_control(2), n_steps=4, gamma=1, eta_average=0.1, seed=seed, optimizer=torch.optim.Adam)
        for seed in (1, 2)
    )
    for _ in range(3):
        ours.update()
    state, courses = ours.state_dict(), []
    for algorithm in (ours, other, ours):
        algorithm.load_state_dict(state)
        courses.append([algorithm.update()._replace(returns=None) for _ in range(3)] + [algorithm.r_bar])
    assert courses[0] == courses[1] == courses[2]


def test_a_state_of_another_network_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for w"):
        learner(chain(3)).load_state_dict(learner(access_control(2)).state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner(chain(3), eta=0), "eta must be a positive number, got 0"),
        (lambda: learner(chain(3), eta=lambda n: np.nan), "eta must be a positive number, got nan"),
        (lambda: learner(chain(3), eta_critic=-1), "eta must be a positive number, got -1"),
        (lambda: learner(chain(3), lam=2), r"lam must be in \[0, 1\], got 2"),
        (
            lambda: learner(chain(3), n_steps=0),
            "n_steps must be a whole number of at least 1, or None, got 0",
        ),
        (
            lambda: objective(torch.zeros(3), torch.zeros(3, 1)),
            r"advantage must have the shape of L, \(3,\), got \(3, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
