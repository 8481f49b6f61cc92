"""Named recipes: each the one place that says which environment, which network and which settings a result was made with.

A recipe is a function that builds an algorithm. The keyword-only arguments of its signature are its settings, their defaults the
settings of the recorded runs, and the first line of its docstring is what ``pgcourse list`` says. To add one, write it here::

    @recipe("algorithm/task", Task("CartPole-v1"), steps=500_000, every=25_000)
    def build(task, seed, *, eta=0.01):
        \"\"\"What it is.\"\"\"
        return Algorithm(task.make(8), network(seed=seed), eta=eta, seed=seed)
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pgcourse.environments.tasks import PendulumTask, PongTask, QueueTask, SuiteTask, Task
from pgcourse.maths.returns import batch_mean, leave_one_out, reward_to_go, total_return


class Recipe(NamedTuple):
    """How to build an algorithm for a task, and how long to run it."""

    name: str
    task: Task
    builder: Callable[..., Any]  # (task, seed, **settings) → algorithm
    steps: int  # budget in steps of the environment
    every: int  # steps between two checkpoints, with an evaluation at each
    n_episodes: int  # of each evaluation on the way

    @property
    def about(self) -> str:
        function = getattr(
            self.builder, "func", self.builder
        )  # a partial's own docstring says what a partial is
        return (inspect.getdoc(function) or "").partition("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def settings(self, **changed) -> dict[str, Any]:
        """Return the defaults with some of them changed.

        Raises:
            ValueError: if there is no such setting, or it has another type.
        """
        settings = self.defaults
        for name, value in changed.items():
            if name not in settings:
                raise ValueError(f"{self.name} has no setting {name!r}{_nearest(name, settings)}")
            settings[name] = _like(settings[name], value, name)
        return settings

    def build(self, seed: int, **changed):
        """Return the algorithm, at its beginning.

        Raises:
            ValueError: as ``settings``, and as the algorithm, the network and the environment do.
        """
        return self.builder(self.task, seed, **self.settings(**changed))

    def evaluate(self, policy, n_episodes: int, seed: int, *, greedy: bool = False) -> np.ndarray:
        """Play fresh episodes with a policy, drawing its actions or, if ``greedy``, taking the most probable; return their scores."""
        from pgcourse.networks.mlp import one_thread

        with one_thread():
            return self.task.play(actor(policy, seed, greedy=greedy), n_episodes, seed)


RECIPES: dict[str, Recipe] = {}
OPTIMIZERS = ("Adam", "RMSprop")
CREDITS = {"total": total_return, "to-go": reward_to_go}
BASELINES = {"none": None, "mean": batch_mean, "others": leave_one_out}


def recipe(name: str, task: Task, *, steps: int, every: int, n_episodes: int = 20):
    """Register the function below as a recipe."""

    def register(builder):
        RECIPES[name] = Recipe(name, task, builder, steps, every, n_episodes)
        return builder

    return register


def get(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ValueError: if there is none, naming those like it.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}{_nearest(name, RECIPES)}")
    return RECIPES[name]


def actor(policy, seed: int, *, greedy: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from observations to actions, whose draws depend on the seed alone.

    Raises:
        ValueError: if ``seed`` < 0.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    return policy.greedy if greedy else functools.partial(policy.sample, rng=np.random.default_rng([seed, 1]))


def _nearest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}"


def _like(default, value, name):
    """Return a value, which may be text, in the type of the default; where that is None, a number."""
    if default is None and value in (None, "None"):
        return None
    kind = float if default is None else type(default)
    if isinstance(value, str) and kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        converted = kind(value)
    except (TypeError, ValueError, OverflowError):
        converted = None
    whole = not isinstance(value, str) and kind is int and converted != value
    if converted is None or whole or (kind is bool) != isinstance(value, bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, as its default {default!r}, got {value!r}")
    return converted


@recipe("reinforce/cartpole", Task("CartPole-v1"), steps=1_000_000, every=50_000)
def _numbers(
    task,
    seed,
    *,
    eta=0.005,
    gamma=0.99,
    batch_size=2000,
    n_hidden=64,
    n_layers=1,
    n_envs=8,
    credit="to-go",
    baseline="none",
    standardize=True,
):
    """REINFORCE with discounted reward-to-go, numbers in and a choice out: one layer of 64 hidden units."""
    from pgcourse.networks.policies import SoftmaxPolicy

    policy = SoftmaxPolicy(*_sizes(task), n_hidden, n_layers=n_layers, seed=seed)
    return _reinforce(
        task,
        policy,
        seed,
        gamma,
        n_envs,
        credit,
        baseline,
        eta=eta,
        batch_size=batch_size,
        standardize=standardize,
    )


recipe("reinforce/acrobot", Task("Acrobot-v1"), steps=300_000, every=10_000)(_numbers)


def _sizes(task) -> tuple[int, int]:
    """Return how many numbers a state has, and how many actions there are."""
    env = task.make(1)
    env.close()
    [n_inputs] = env.single_observation_space.shape
    return n_inputs, int(env.single_action_space.n)


def _pong(
    task,
    seed,
    *,
    eta=0.012,
    eta_halved=250_000,
    gamma=0.97,
    batch_size=4096,
    n_hidden=200,
    n_envs=16,
    credit="to-go",
    baseline="none",
    standardize=True,
    approaching=True,
    optimizer="Adam",
    spread=1.0,
    crop=0,
):
    """REINFORCE with discounted reward-to-go, from pixels to UP or DOWN: the lecture's network of slides 12 to 15."""
    import torch

    from pgcourse.environments import pong
    from pgcourse.networks.pixels import PixelPolicy

    _one_of("optimizer", optimizer, OPTIMIZERS)
    if not 0 <= crop < pong.SIZE:
        raise ValueError(f"crop must be from 0 to {pong.SIZE - 1}, got {crop}")
    left = (
        np.arange(pong.N_PIXELS) % pong.SIZE < crop
    )  # columns of the field that are cut off, with the opponent's paddle in them
    policy = PixelPolicy(n_hidden, seed=seed, spread=spread, blind=left)
    options = {
        "eta": functools.partial(harmonic, eta, eta_halved),
        "matters": pong.approaching if approaching else None,
    }
    options |= {
        "optimizer": getattr(torch.optim, optimizer),
        "batch_size": batch_size,
        "standardize": standardize,
    }
    return _reinforce(task, policy, seed, gamma, n_envs, credit, baseline, **options)


recipe("reinforce/pong", PongTask("PongDeterministic-v4"), steps=2_000_000, every=50_000, n_episodes=2)(_pong)
recipe("reinforce/sticky-pong", PongTask("ALE/Pong-v5"), steps=2_500_000, every=100_000, n_episodes=2)(
    functools.partial(_pong, eta=0.001, eta_halved=10_000_000, gamma=0.99, approaching=False)
)


def harmonic(eta: float, halved: float, n_steps: int) -> float:
    """Return a learning rate that falls as η / (1 + n/n½): to half after n½ steps, to a third after twice as many, and never to zero.

    Raises:
        ValueError: if ``halved``, which recipes call ``eta_halved``, is not positive.
    """
    if halved <= 0:
        raise ValueError(f"eta_halved must be positive, got {halved}")
    return eta / (1 + n_steps / halved)


def _discounted(task, seed, eta, eta_critic, gamma, lam, n_steps, n_hidden, n_layers, n_envs):
    """Return an actor–critic of two networks, for numbers in and a choice out."""
    from pgcourse.networks.policies import SoftmaxPolicy
    from pgcourse.networks.values import NetworkValue

    n_inputs, n_actions = _sizes(task)
    policy = SoftmaxPolicy(n_inputs, n_actions, n_hidden, n_layers=n_layers, seed=seed)
    value = NetworkValue(n_inputs, n_hidden, n_layers=n_layers, seed=_other(seed))
    return _actor_critic(
        task, policy, value, seed, eta_critic, n_envs, eta=eta, gamma=gamma, lam=lam, n_steps=n_steps
    )


def _averaged(task, policy, value, seed, eta_critic, n_envs, **options):
    """Return an actor–critic for what never ends: without discount, an average subtracted from every reward."""
    return _actor_critic(task, policy, value, seed, eta_critic, n_envs, gamma=1, **options)


def _actor_critic(task, policy, value, seed, eta_critic, n_envs, **options):
    import torch

    from pgcourse.algorithms.actor_critic import ActorCritic
    from pgcourse.algorithms.critics import Critic

    critic = Critic(value, eta=eta_critic, optimizer=torch.optim.Adam)
    return ActorCritic(task.make(n_envs), policy, critic, seed=seed, **options)


def _other(seed: int) -> int:
    """Return a seed for the critic's weights, which no actor has."""
    return seed + 2**30


@recipe("actor-critic/cartpole", Task("CartPole-v1"), steps=500_000, every=25_000)
def _choices(
    task,
    seed,
    *,
    eta=0.001,
    eta_critic=0.01,
    gamma=0.99,
    lam=0.95,
    n_steps=32,
    n_hidden=64,
    n_layers=1,
    n_envs=8,
):
    """Actor–critic, numbers in and a choice out: 64 hidden units each, a turn every 32 steps of 8 environments."""
    return _discounted(task, seed, eta, eta_critic, gamma, lam, n_steps, n_hidden, n_layers, n_envs)


recipe("actor-critic/acrobot", Task("Acrobot-v1"), steps=300_000, every=25_000)(_choices)


@recipe("actor-critic/pong", PongTask("PongDeterministic-v4"), steps=600_000, every=50_000, n_episodes=2)
def _(
    task,
    seed,
    *,
    eta=0.005,
    eta_critic=0.003,
    eta_halved=250_000,
    gamma=0.97,
    lam=0.99,
    n_steps=128,
    n_hidden=200,
    n_envs=16,
):
    """Actor–critic from pixels, with the network of slides 12 to 15 twice: once for probabilities, once for a value."""
    from pgcourse.networks.pixels import PixelPolicy, PixelValue

    policy, value = PixelPolicy(n_hidden, seed=seed), PixelValue(n_hidden, seed=_other(seed))
    rate = functools.partial(harmonic, eta, eta_halved)
    return _actor_critic(
        task, policy, value, seed, eta_critic, n_envs, eta=rate, gamma=gamma, lam=lam, n_steps=n_steps
    )


@recipe("actor-critic/lunar-lander", Task("LunarLander-v3"), steps=3_000_000, every=150_000)
def _(
    task,
    seed,
    *,
    eta=0.003,
    eta_halved=1_000_000,
    eta_critic=0.01,
    gamma=0.995,
    lam=0.98,
    n_steps=32,
    n_hidden=128,
    n_layers=2,
    n_envs=8,
):
    """Actor–critic, landing on the moon: 8 numbers in, 4 actions, two layers of 128 hidden units each, a falling learning rate."""
    falling = functools.partial(harmonic, eta, eta_halved)
    return _discounted(task, seed, falling, eta_critic, gamma, lam, n_steps, n_hidden, n_layers, n_envs)


@recipe("actor-critic/pendulum", PendulumTask(1000, settled=200), steps=600_000, every=600_000)
def _(
    task,
    seed,
    *,
    eta=0.001,
    eta_critic=0.003,
    eta_average=0.01,
    lam=0.95,
    n_steps=16,
    n_hidden=64,
    n_envs=16,
    sigma=1.0,
):
    """Average-reward actor–critic, on a pendulum that is knocked and never reset: 3 numbers in, a torque out, drawn from a Gaussian."""
    from pgcourse.networks.policies import GaussianPolicy
    from pgcourse.networks.values import NetworkValue

    policy, value = (
        GaussianPolicy(3, 1, n_hidden, sigma=sigma, seed=seed),
        NetworkValue(3, n_hidden, seed=_other(seed)),
    )
    return _averaged(
        task,
        policy,
        value,
        seed,
        eta_critic,
        n_envs,
        eta=eta,
        lam=lam,
        n_steps=n_steps,
        eta_average=eta_average,
    )


@recipe("actor-critic/access-control", QueueTask(1000, settled=200), steps=1_500_000, every=1_500_000)
def _(task, seed, *, eta=0.01, eta_critic=0.1, eta_average=0.01, lam=0.95, n_steps=16, n_envs=16):
    """Average-reward actor–critic, two tables of 44 states, letting customers into a queue that never ends."""
    from pgcourse.networks.policies import TabularPolicy
    from pgcourse.networks.values import TabularValue

    policy, value = TabularPolicy(np.zeros((44, 2))), TabularValue(np.zeros(44))
    return _averaged(
        task,
        policy,
        value,
        seed,
        eta_critic,
        n_envs,
        eta=eta,
        lam=lam,
        n_steps=n_steps,
        eta_average=eta_average,
    )


def _ddpg(
    task,
    seed,
    *,
    eta=0.001,
    eta_critic=0.001,
    eta_halved=None,
    gamma=0.99,
    tau=0.005,
    batch_size=128,
    capacity=1_000_000,
    n_random=1000,
    sigma=0.3,
    theta=1.0,
    n_hidden=64,
    td3=False,
):
    """DDPG, numbers in and numbers out: two hidden layers each, a mini-batch at every step of one environment."""
    from pgcourse.algorithms.ddpg import DDPG, TD3, Noise, Twins
    from pgcourse.networks.policies import DeterministicPolicy
    from pgcourse.networks.values import NetworkQ

    env, sizes = task.make(1), (n_hidden, n_hidden)
    [n_inputs], bounds = env.single_observation_space.shape, env.single_action_space
    policy = DeterministicPolicy(n_inputs, bounds.low, bounds.high, sizes, seed=seed)
    critic, twin = (
        NetworkQ(n_inputs, len(bounds.low), sizes, seed=one) for one in (_other(seed), _other(_other(seed)))
    )
    if eta_halved is not None:
        eta, eta_critic = (functools.partial(harmonic, rate, eta_halved) for rate in (eta, eta_critic))
    options = {
        "eta": eta,
        "eta_critic": eta_critic,
        "gamma": gamma,
        "tau": tau,
        "batch_size": batch_size,
        "capacity": capacity,
    }
    options |= {"n_random": n_random, "noise": Noise(sigma, theta), "seed": seed}
    return TD3(env, policy, Twins(critic, twin), **options) if td3 else DDPG(env, policy, critic, **options)


recipe("ddpg/pendulum", Task("Pendulum-v1"), steps=10_000, every=1_000)(_ddpg)
recipe("ddpg/mountain-car", Task("MountainCarContinuous-v0"), steps=50_000, every=5_000)(
    functools.partial(_ddpg, sigma=0.5, theta=0.05)
)


def _longer(name, task, thousands, n_episodes=5, **settings):
    """Register a task that takes so many thousand steps; both rates fall to a sixth, or what was learnt may be lost again."""
    budget = {"steps": 1000 * thousands, "every": 100 * thousands, "n_episodes": n_episodes}
    recipe(f"ddpg/{name}", task, **budget)(functools.partial(_ddpg, eta_halved=200.0 * thousands, **settings))


def _near(s):
    """Return a state of the suite's reacher in numbers of like sizes: a shoulder that turns without end, a wrist, two ways, two speeds."""
    return np.array([np.cos(s[0]), np.sin(s[0]), s[1], *20 * s[2:4], *s[4:] / 2])


_longer("inverted-pendulum", Task("InvertedPendulum-v5"), 30)
_longer("inverted-double-pendulum", Task("InvertedDoublePendulum-v5"), 50)
_longer("reacher", Task("Reacher-v5"), 100, n_episodes=20)
_longer("suite-cartpole-balance", SuiteTask("cartpole", "balance"), 50)
_longer("suite-cartpole-swingup", SuiteTask("cartpole", "swingup"), 100)
_longer("suite-pendulum-swingup", SuiteTask("pendulum", "swingup"), 100)
_longer("suite-reacher-easy", SuiteTask("reacher", "easy", seen=_near), 100, tau=0.001)
_longer("suite-ball-in-cup-catch", SuiteTask("ball_in_cup", "catch"), 100)
_longer("suite-finger-spin", SuiteTask("finger", "spin"), 100)
_longer("lunar-lander", Task("LunarLanderContinuous-v3"), 150)
_longer("half-cheetah", Task("HalfCheetah-v5"), 150)
_longer("hopper", Task("Hopper-v5"), 150)
_longer("walker", Task("Walker2d-v5"), 150)


@recipe("ddpg-paper/pendulum", Task("Pendulum-v1"), steps=20_000, every=2_000)
def _(task, seed):
    """DDPG as Lillicrap et al. (2016) have it, without batch normalisation: 400 and 300 units, slower copies, a slower actor."""
    from pgcourse.algorithms.ddpg import paper

    return paper(task.make(1), seed)


@recipe("dqn/cartpole", Task("CartPole-v1"), steps=50_000, every=5_000)
def _dqn(
    task,
    seed,
    *,
    eta=0.0023,
    eta_halved=20_000,
    gamma=0.99,
    epsilon=0.04,
    n_exploring=8_000,
    copied=128,
    every=2,
    batch_size=64,
    capacity=100_000,
    n_random=1000,
    n_hidden=256,
    n_layers=2,
):
    """DQN, numbers in and a value for each action out: a turn every few steps, ε and the learning rate falling."""
    from pgcourse.networks.policies import SoftmaxPolicy

    network = SoftmaxPolicy(*_sizes(task), n_hidden, n_layers=n_layers, seed=seed)
    memory = {"batch_size": batch_size, "capacity": capacity, "n_random": n_random}
    return _learner(
        task.make(1),
        network,
        seed,
        eta,
        eta_halved,
        epsilon,
        n_exploring,
        gamma=gamma,
        copied=copied,
        every=every,
        **memory,
    )


recipe("dqn/acrobot", Task("Acrobot-v1"), steps=100_000, every=5_000)(
    functools.partial(
        _dqn,
        eta=0.001,
        epsilon=0.1,
        n_exploring=10_000,
        copied=250,
        every=1,
        batch_size=128,
        n_hidden=64,
        n_layers=1,
    )
)


@recipe("dqn/pong", PongTask("PongDeterministic-v4"), steps=600_000, every=50_000, n_episodes=2)
def _(
    task,
    seed,
    *,
    eta=0.0005,
    eta_halved=500_000,
    gamma=0.97,
    epsilon=0.05,
    n_exploring=100_000,
    copied=60,
    batch_size=128,
    capacity=50_000,
    n_random=5_000,
    n_hidden=200,
    n_envs=16,
):
    """DQN from pixels, with the hidden layer of slides 12 to 15: a mini-batch for every step of 16 games."""
    from pgcourse.networks.pixels import PixelSoftmaxPolicy

    network = PixelSoftmaxPolicy(2, n_hidden, seed=seed)
    memory = {"batch_size": batch_size, "capacity": capacity, "n_random": n_random}
    return _learner(
        task.make(n_envs),
        network,
        seed,
        eta,
        eta_halved,
        epsilon,
        n_exploring,
        gamma=gamma,
        copied=copied,
        **memory,
    )


def _learner(env, network, seed, eta, eta_halved, epsilon, n_exploring, **options):
    from pgcourse.algorithms.dqn import DQN
    from pgcourse.networks.policies import ValuePolicy

    options |= {
        "eta": functools.partial(harmonic, eta, eta_halved),
        "epsilon": functools.partial(linear, epsilon, n_exploring),
    }
    return DQN(env, ValuePolicy(network), seed=seed, **options)


def linear(epsilon: float, n_exploring: int, n_steps: int) -> float:
    """Return a probability that falls in a straight line from 1 to ε in the first so many steps, and stays there.

    Raises:
        ValueError: if ``n_exploring`` is below 1.
    """
    if n_exploring < 1:
        raise ValueError(f"n_exploring must be at least 1, got {n_exploring}")
    return 1 - (1 - epsilon) * min(n_steps / n_exploring, 1)


def _reinforce(task, policy, seed, gamma, n_envs, credit, baseline, **options):
    from pgcourse.algorithms.reinforce import Reinforce

    _one_of("credit", credit, CREDITS)
    _one_of("baseline", baseline, BASELINES)
    options |= {"credit": functools.partial(CREDITS[credit], gamma=gamma), "baseline": BASELINES[baseline]}
    return Reinforce(task.make(n_envs), policy, seed=seed, **options)


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
