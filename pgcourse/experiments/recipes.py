"""Named recipes. Each is data: an algorithm, a task, networks, and the settings of a recorded result.

A setting that a recipe does not name has its default from the algorithm's config. To add a recipe::

    register("dqn/cartpole", "What it is.", "dqn", CARTPOLE, MLP(), 50_000, 5_000, config={"eta": 0.01})

To add an algorithm, add its entry to ``ALGORITHMS``.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from pgcourse import checks
from pgcourse.environments.frames import PixelPendulumTask, RenderedTask
from pgcourse.environments.tasks import (
    AccessControlTask,
    ControlSuiteTask,
    CourtTask,
    PendulumTask,
    PongTask,
    Task,
)
from pgcourse.experiments.architectures import (
    MLP,
    ActorAndQ,
    Architecture,
    GaussianMLP,
    PixelActorAndQ,
    Pixels,
    PongEpisodes,
    Table,
    algorithm_options,
    make_network,
    share_encoder,
)
from pgcourse.experiments.settings import (
    Setting,
    as_json,
    converted_like,
    fields_of,
    from_json,
    nearest,
)

if TYPE_CHECKING:
    from pgcourse.algorithms.protocols import Algorithm, Player


class AlgorithmEntry(NamedTuple):
    """Where an algorithm is, and which networks it needs. Its config class is its name with ``Config``."""

    module: str
    name: str
    networks: tuple[str, ...]

    def load(self) -> tuple[type, type]:
        """Return the algorithm's class and its config's."""
        module = importlib.import_module(f"pgcourse.algorithms.{self.module}")
        return getattr(module, self.name), getattr(module, f"{self.name}Config")


ALGORITHMS = {
    "reinforce": AlgorithmEntry("reinforce", "Reinforce", ("policy",)),
    "actor-critic": AlgorithmEntry("actor_critic", "ActorCritic", ("policy", "value")),
    "ppo": AlgorithmEntry("ppo", "PPO", ("policy", "value")),
    "dqn": AlgorithmEntry("dqn", "DQN", ("q_network",)),
    "ddpg": AlgorithmEntry("ddpg", "DDPG", ("actor", "critic")),
    "td3": AlgorithmEntry("ddpg", "TD3", ("actor", "twin_critic")),
    "sac": AlgorithmEntry("sac", "SAC", ("policy", "twin_critic")),
}


@dataclass(frozen=True)
class Recipe:
    """How to build an algorithm for a task, and how long to train it."""

    name: str
    description: str
    algorithm: str  # a key of ALGORITHMS
    task: Task
    architecture: Architecture
    steps: int  # budget in environment steps
    checkpoint_interval: int  # steps between two checkpoints; at each an evaluation, and new episodes begin
    n_eval_episodes: int  # of each evaluation on the way
    n_envs: int  # side by side
    config: dict[str, object]  # what differs from the defaults of the algorithm's config

    def __post_init__(self) -> None:
        checks.one_of(ALGORITHMS, algorithm=self.algorithm)
        budget = {"steps": self.steps, "checkpoint_interval": self.checkpoint_interval}
        checks.real(**budget)
        checks.at_least(1, **budget)
        counts = {"n_eval_episodes": self.n_eval_episodes, "n_envs": self.n_envs}
        checks.real(**counts)
        checks.whole(1, **counts)

    @functools.cached_property
    def defaults(self) -> dict[str, Setting]:
        """The settings of the recorded runs, as JSON has them: functions by name, tuples as lists."""
        _, config_class = ALGORITHMS[self.algorithm].load()
        values = (
            fields_of(config_class(**self.config)) | fields_of(self.architecture) | {"n_envs": self.n_envs}
        )
        return {name: as_json(name, value) for name, value in values.items()}

    @property
    def setting_help(self) -> dict[str, str]:
        """What each setting means."""
        meanings = {f.name: f.metadata["help"] for f in self._setting_fields()}
        return meanings | {"n_envs": "environments side by side, at least 1"}

    def _setting_fields(self) -> list[dataclasses.Field]:
        _, config_class = ALGORITHMS[self.algorithm].load()
        return [*dataclasses.fields(config_class), *dataclasses.fields(self.architecture)]

    def settings(self, **overrides: object) -> dict[str, Setting]:
        """Return the defaults with some of them replaced, by values of the same type or by text.

        Raises:
            ValueError: if there is no such setting, or it has another type.
        """
        settings = copy.deepcopy(self.defaults)
        optional = {f.name for f in self._setting_fields() if "None" in str(f.type)}
        for name, value in overrides.items():
            if name not in settings:
                raise ValueError(f"{self.name} has no setting {name!r}{nearest(name, settings)}")
            settings[name] = converted_like(name, settings[name], value, optional=name in optional)
        return settings

    def build(self, seed: int | Sequence[int], **overrides: object) -> Algorithm:
        """Return the algorithm before its first update; with several seeds, they learn at once.

        Raises:
            ValueError: as ``settings``, and as the algorithm, the network and the environment do.
        """
        from pgcourse.algorithms.seeds import distinct
        from pgcourse.networks.stacked import stack

        entry = ALGORITHMS[self.algorithm]
        algorithm_class, config_class = entry.load()
        values = {name: from_json(name, value) for name, value in self.settings(**overrides).items()}
        config = config_class(**{f.name: values[f.name] for f in dataclasses.fields(config_class)})
        of_networks = {f.name: values[f.name] for f in dataclasses.fields(self.architecture)}
        architecture = type(self.architecture)(**cast(dict, of_networks))
        seeds = distinct(seed)
        if len(seeds) > 1 and self.algorithm == "reinforce":
            why = "whose batches of whole episodes differ in length from seed to seed"
            raise ValueError(f"seed must be one number for REINFORCE, {why}, got {len(seeds)}")
        env = self.task.make_vector_env(cast(int, values["n_envs"]) * len(seeds))
        networks = [
            stack([make_network(architecture, role, env, one) for one in seeds]) for role in entry.networks
        ]
        share_encoder(architecture, networks)
        options = algorithm_options(architecture, config, env)
        return algorithm_class(env, *networks, config, seed=seeds, **options)

    def evaluate(self, policy: Player, n_episodes: int, seed: int, *, greedy: bool = False) -> np.ndarray:
        """Return the returns of fresh episodes, with drawn or, if ``greedy``, most probable actions."""
        from pgcourse.networks.mlp import single_thread

        with single_thread():
            return self.task.evaluate(actor(policy, seed, greedy=greedy), n_episodes, seed)


RECIPES: dict[str, Recipe] = {}


def register(
    name: str,
    description: str,
    algorithm: str,
    task: Task,
    architecture: Architecture,
    steps: int,
    checkpoint_interval: int,
    *,
    n_eval_episodes: int = 20,
    n_envs: int = 1,
    config: Mapping[str, object] | None = None,
) -> Recipe:
    """Add a recipe to ``RECIPES``; the arguments are its fields."""
    budget = (steps, checkpoint_interval, n_eval_episodes, n_envs)
    RECIPES[name] = Recipe(name, description, algorithm, task, architecture, *budget, dict(config or {}))
    return RECIPES[name]


def get(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ValueError: if there is none, naming those like it.
    """
    checks.text(name=name)
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]


def actor(policy: Player, seed: int, *, greedy: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from observations to actions, whose draws depend on the seed alone."""
    checks.seed(seed=seed)
    return (
        policy.greedy
        if greedy
        else functools.partial(policy.sample, rng=np.random.default_rng([int(seed), 1]))
    )


CARTPOLE, ACROBOT, PONG = Task("CartPole-v1"), Task("Acrobot-v1"), PongTask("PongDeterministic-v4")
PENDULUM, MOUNTAIN_CAR = Task("Pendulum-v1"), Task("MountainCarContinuous-v0")
_with_8 = functools.partial(register, n_envs=8)
_with_16 = functools.partial(register, n_envs=16)
_on_pong = functools.partial(register, n_envs=16, n_eval_episodes=2)

_TEXT = "REINFORCE with standardised discounted reward-to-go; one hidden layer."
_with_8("reinforce/cartpole", _TEXT, "reinforce", CARTPOLE, MLP(), 1_000_000, 50_000)
_with_8("reinforce/acrobot", _TEXT, "reinforce", ACROBOT, MLP(), 300_000, 10_000)

_TEXT = "REINFORCE from pixels to UP or DOWN, with the lecture's network of slides 12 to 15."
_config = {"eta": 0.012, "eta_decay_steps": 250_000, "gamma": 0.97, "batch_size": 4096}
_on_pong("reinforce/pong", _TEXT, "reinforce", PONG, PongEpisodes(), 2_000_000, 50_000, config=_config)
_config = {"eta": 0.001, "eta_decay_steps": 10_000_000, "batch_size": 4096}
_game, _all_steps = PongTask("ALE/Pong-v5"), PongEpisodes(skip_idle_steps=False)
_on_pong("reinforce/sticky-pong", _TEXT, "reinforce", _game, _all_steps, 2_500_000, 100_000, config=_config)

_TEXT = "REINFORCE from pixels on our own court, with 64 hidden units; 64 games side by side."
_config = {"eta": 0.012, "eta_decay_steps": 250_000, "gamma": 0.97, "batch_size": 4096}
_on_court = functools.partial(register, n_envs=64, config=_config)
_small, _n = PongEpisodes(64), 2_000_000
_on_court("reinforce/court", _TEXT, "reinforce", CourtTask(), _small, _n, 500_000)
_TEXT = "The same with rules that differ from game to game: domain randomisation."
_on_court("reinforce/drawn-courts", _TEXT, "reinforce", CourtTask(None), _small, _n, 500_000)

_TEXT = "Actor–critic with one hidden layer each; an update every 32 steps of 8 environments."
_with_8("actor-critic/cartpole", _TEXT, "actor-critic", CARTPOLE, MLP(), 500_000, 25_000)
_with_8("actor-critic/acrobot", _TEXT, "actor-critic", ACROBOT, MLP(), 300_000, 25_000)

_TEXT = "Actor–critic on the lunar lander: two hidden layers each, a decaying learning rate."
_config = {"eta": 0.003, "eta_decay_steps": 1_000_000, "gamma": 0.995, "lam": 0.98}
_lander, _layers = Task("LunarLander-v3"), MLP((128, 128))
_with_8(
    "actor-critic/lunar-lander", _TEXT, "actor-critic", _lander, _layers, 3_000_000, 150_000, config=_config
)

_TEXT = "Actor–critic from pixels, with the network of slides 12 to 15 for probabilities and for values."
_config = {"eta": 0.005, "eta_critic": 0.003, "eta_decay_steps": 250_000, "gamma": 0.97, "lam": 0.99}
_config |= {"rollout_length": 128}
_on_pong("actor-critic/pong", _TEXT, "actor-critic", PONG, Pixels(), 600_000, 50_000, config=_config)

_TEXT = "Average-reward actor–critic with a Gaussian policy; random kicks, no resets."
_task, _n = PendulumTask(1000, burn_in=200), 600_000
_average = {"gamma": 1.0, "eta_average_reward": 0.01, "rollout_length": 16}
_config = _average | {"eta_critic": 0.003}
_with_16("actor-critic/pendulum", _TEXT, "actor-critic", _task, GaussianMLP(), _n, _n, config=_config)

_TEXT = "Average-reward actor–critic with two tables of 44 states, on the access-control queue."
_queue, _n = AccessControlTask(1000, burn_in=200), 1_500_000
_config = _average | {"eta": 0.01, "eta_critic": 0.1}
_with_16("actor-critic/access-control", _TEXT, "actor-critic", _queue, Table(), _n, _n, config=_config)

_TEXT = "PPO with one hidden layer each; every rollout is learnt from in several epochs."
_config = {"anneal_steps": 100_000, "gamma": 0.98, "lam": 0.8, "rollout_length": 32, "n_epochs": 20}
_with_8("ppo/cartpole", _TEXT, "ppo", CARTPOLE, MLP(), 100_000, 5_000, config=_config)
_config = {"anneal_steps": 300_000, "eta": 0.002, "eta_critic": 0.002, "lam": 0.94}
_with_8("ppo/acrobot", _TEXT, "ppo", ACROBOT, MLP(), 300_000, 10_000, config=_config)

_TEXT = "PPO on the lunar lander: two hidden layers each, long rollouts, an entropy bonus."
_config = {"anneal_steps": 1_000_000, "gamma": 0.999, "lam": 0.98, "rollout_length": 1024}
_config |= {"entropy_coefficient": 0.01}
_with_16("ppo/lunar-lander", _TEXT, "ppo", _lander, MLP((64, 64)), 1_000_000, 50_000, config=_config)

_TEXT = "PPO from pixels, with the network of slides 12 to 15 for probabilities and for values."
_config = {"anneal_steps": 1_000_000, "eta": 0.002, "eta_critic": 0.001, "gamma": 0.97, "lam": 0.99}
_config |= {"rollout_length": 256, "minibatch_size": 1024, "entropy_coefficient": 0.01}
_with_16("ppo/pong", _TEXT, "ppo", PONG, Pixels(), 1_000_000, 50_000, n_eval_episodes=4, config=_config)
_config |= {"anneal_steps": 3_000_000}
_on_pong("ppo/sticky-pong", _TEXT, "ppo", _game, Pixels(), 3_000_000, 100_000, config=_config)

_TEXT = "PPO with a Gaussian policy; an update every 1,024 steps of 4 environments."
_config = {"anneal_steps": 100_000, "gamma": 0.95, "lam": 0.9, "rollout_length": 1024}
_config |= {"minibatch_size": 64, "n_epochs": 10}
_gaussian = GaussianMLP((64, 64))
register("ppo/pendulum", _TEXT, "ppo", PENDULUM, _gaussian, 100_000, 10_000, n_envs=4, config=_config)

_TEXT = "PPO with a Gaussian policy, on one robot; neither states nor rewards are rescaled."
_config = {"anneal_steps": 300_000, "eta": 0.0005, "gamma": 0.98, "lam": 0.92, "rollout_length": 2048}
_config |= {"minibatch_size": 64, "n_epochs": 10}
_narrow = GaussianMLP((64, 64), initial_sigma=0.3)
_on_robot = functools.partial(register, n_eval_episodes=5)
_cheetah, _hopper = Task("HalfCheetah-v5"), Task("Hopper-v5")
_on_robot("ppo/half-cheetah", _TEXT, "ppo", _cheetah, _narrow, 300_000, 30_000, config=_config)
_config |= {"gamma": 0.99, "lam": 0.95}
_on_robot("ppo/hopper", _TEXT, "ppo", _hopper, _narrow, 300_000, 30_000, config=_config)

_TEXT = "DQN; ε and the learning rate decay."
register("dqn/cartpole", _TEXT, "dqn", CARTPOLE, MLP((256, 256)), 50_000, 5_000)
_every_step = {"train_interval": 1, "batch_size": 128}
_config = _every_step | {"eta": 0.001, "epsilon": 0.1, "exploration_steps": 10_000}
_config |= {"target_update_interval": 250}
register("dqn/acrobot", _TEXT, "dqn", ACROBOT, MLP(), 100_000, 5_000, config=_config)

_TEXT = "DQN from pixels, with the hidden layer of slides 12 to 15; an update for every step of 16 games."
_config = _every_step | {"eta": 0.0005, "eta_decay_steps": 500_000, "gamma": 0.97, "epsilon": 0.05}
_config |= {"exploration_steps": 100_000, "target_update_interval": 60}
_config |= {"capacity": 50_000, "learning_starts": 5_000}
_on_pong("dqn/pong", _TEXT, "dqn", PONG, Pixels(), 600_000, 50_000, config=_config)

_TEXT = "DDPG with the settings of Lillicrap et al. (2016), section 7, without batch normalisation."
_config = {"eta": 1e-4, "tau": 1e-3, "batch_size": 64, "sigma": 0.2, "theta": 0.15, "weight_decay": 1e-2}
_network = ActorAndQ((400, 300), action_at_second_layer=True, final_init_scale=0.003)
register("ddpg-paper/pendulum", _TEXT, "ddpg", PENDULUM, _network, 20_000, 2_000, config=_config)

_TEXT = "DDPG with two hidden layers each; an update for every step of one environment."
register("ddpg/pendulum", _TEXT, "ddpg", PENDULUM, ActorAndQ(), 10_000, 1_000)
register("td3/pendulum", _TEXT.replace("DDPG", "TD3"), "td3", PENDULUM, ActorAndQ(), 10_000, 1_000)
_config, _text = {"tau": 0.01}, _TEXT.replace("DDPG", "SAC")
register("sac/pendulum", _text, "sac", PENDULUM, ActorAndQ(), 10_000, 1_000, config=_config)
_config = {"sigma": 0.5, "theta": 0.05}
register("ddpg/mountain-car", _TEXT, "ddpg", MOUNTAIN_CAR, ActorAndQ(), 50_000, 5_000, config=_config)


def _rescaled_reacher(s: np.ndarray) -> np.ndarray:
    """Return a state of the suite's reacher on similar scales, the shoulder as cosine and sine."""
    return np.array([np.cos(s[0]), np.sin(s[0]), s[1], *20 * s[2:4], *s[4:] / 2])


def _long(
    algorithm: str, name: str, task: Task, thousands: int, n_eval_episodes: int = 5, **config: float
) -> None:
    """Register a longer task; all rates decay to a sixth, or what was learnt may be lost again."""
    config |= {"eta_decay_steps": 200.0 * thousands}
    budget, text = (1000 * thousands, 100 * thousands), _TEXT.replace("DDPG", algorithm.upper())
    whole_name, n = f"{algorithm}/{name}", n_eval_episodes
    register(whole_name, text, algorithm, task, ActorAndQ(), *budget, n_eval_episodes=n, config=config)


_long_ddpg = functools.partial(_long, "ddpg")
_REACHER = ControlSuiteTask("reacher", "easy", observe=_rescaled_reacher)
_long_ddpg("inverted-pendulum", Task("InvertedPendulum-v5"), 30)
_long_ddpg("reacher", Task("Reacher-v5"), 100, n_eval_episodes=20)
_long_ddpg("suite-cartpole-balance", ControlSuiteTask("cartpole", "balance"), 50)
_long_ddpg("suite-cartpole-swingup", ControlSuiteTask("cartpole", "swingup"), 100)
_long_ddpg("suite-pendulum-swingup", ControlSuiteTask("pendulum", "swingup"), 100)
_long_ddpg("suite-reacher-easy", _REACHER, 100, tau=0.001)
_long_ddpg("suite-ball-in-cup-catch", ControlSuiteTask("ball_in_cup", "catch"), 100)
_long_ddpg("suite-finger-spin", ControlSuiteTask("finger", "spin"), 100)
_long_ddpg("lunar-lander", Task("LunarLanderContinuous-v3"), 150)
for _algorithm in ("ddpg", "td3", "sac"):
    _long(_algorithm, "inverted-double-pendulum", Task("InvertedDoublePendulum-v5"), 50)
    _long(_algorithm, "half-cheetah", Task("HalfCheetah-v5"), 150)
    _long(_algorithm, "hopper", Task("Hopper-v5"), 150)
    _long(_algorithm, "walker", Task("Walker2d-v5"), 150)

_TEXT = "TD3 from pixels: three frames of 32 × 32, an encoder that the critic trains, random shifts."
_config = {"batch_size": 64, "tau": 0.01, "capacity": 100_000, "learning_starts": 500}
_with_encoder = functools.partial(register, architecture=PixelActorAndQ(), config=_config)
_frames, _n = PixelPendulumTask(), 10_000
_with_encoder("td3/pixel-pendulum", _TEXT, "td3", _frames, steps=_n, checkpoint_interval=1_000)
_text = _TEXT.replace("TD3", "DDPG")
_with_encoder("ddpg/pixel-pendulum", _text, "ddpg", _frames, steps=_n, checkpoint_interval=1_000)


def _pixel_pendulum_with_action_repeat(k: int) -> None:
    """Register the pendulum with k steps a decision, for as many steps of the environment."""
    task, text, steps = (
        PixelPendulumTask(action_repeat=k),
        f"{_TEXT[:-1]}; {k} steps a decision.",
        2 * _n // k,
    )
    _with_encoder(
        f"td3/pixel-pendulum-repeat-{k}", text, "td3", task, steps=steps, checkpoint_interval=steps // 10
    )


def _suite_from_pixels(name: str, domain: str, task: str, k: int) -> None:
    """Register a task of the Control Suite with k steps a decision."""
    frames, n = RenderedTask(ControlSuiteTask(domain, task), action_repeat=k), 50_000
    _with_encoder(
        f"td3/{name}-pixels", _TEXT, "td3", frames, steps=n, checkpoint_interval=n // 10, n_eval_episodes=5
    )


_pixel_pendulum_with_action_repeat(1)
_pixel_pendulum_with_action_repeat(4)
_suite_from_pixels("cartpole-swingup", "cartpole", "swingup", 8)
_suite_from_pixels("reacher-easy", "reacher", "easy", 4)
_suite_from_pixels("ball-in-cup", "ball_in_cup", "catch", 4)

_TEXT = (
    "DDPG from pixels with the settings of Lillicrap et al. (2016), section 7, without batch normalisation."
)
_of_paper = PixelActorAndQ((32, 32, 32), None, False, "each", 0, (200, 200), 3e-4)
_config = {"eta": 1e-4, "tau": 1e-3, "batch_size": 16, "sigma": 0.2, "theta": 0.15, "weight_decay": 1e-2}
_config |= {"capacity": 100_000}  # the paper's million is more than all steps
register("ddpg-paper/pixel-pendulum", _TEXT, "ddpg", _frames, _of_paper, _n, 1_000, config=_config)
