"""Every recipe builds and learns; each of its settings arrives where it is used."""

import dataclasses
import functools
import inspect
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array

from pgcourse.environments import pong
from pgcourse.environments.tasks import Task
from pgcourse.experiments import recipes
from pgcourse.experiments.architectures import MLP
from pgcourse.experiments.settings import format_value
from pgcourse.maths.returns import batch_mean_baseline, leave_one_out_baseline, reward_to_go, total_return

SMALL = {"n_envs": 2, "batch_size": 5, "learning_starts": 6}  # for a recipe that has such settings
SMALL |= {"n_epochs": 2, "minibatch_size": 6}
CARTPOLE = recipes.get("reinforce/cartpole")
ALL = pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
WAITS_FOR_EPISODES = ("reinforce",)


class Unplayed(VectorEnv):
    """Has the spaces of a task's environments, which take their time to make, and cannot be stepped."""

    def __init__(self, task, n_envs):
        self.num_envs = n_envs
        self.single_observation_space, self.single_action_space, self.metadata = about(task)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)

    def reset(self, **options):
        return create_empty_array(self.single_observation_space, self.num_envs), {}


@functools.cache
def about(task):
    env = task.make_vector_env(1)
    env.close()
    return env.single_observation_space, env.single_action_space, env.metadata


def small(recipe, **overrides):
    options = {name: value for name, value in SMALL.items() if name in recipe.defaults}
    task = SimpleNamespace(make_vector_env=functools.partial(Unplayed, recipe.task))
    return dataclasses.replace(recipe, task=task).build(0, **options | overrides)


@functools.cache
def unchanged(name):
    return small(recipes.get(name))


def of_algorithm(*names):
    found = [recipe for recipe in recipes.RECIPES.values() if recipe.algorithm in names]
    return pytest.mark.parametrize("recipe", found, ids=lambda recipe: recipe.name)


@ALL
def test_every_recipe_builds_and_learns(recipe):
    few = SMALL | {"rollout_length": 4 if recipe.defaults.get("rollout_length") else None}
    algorithm = recipe.build(0, **{name: value for name, value in few.items() if name in recipe.defaults})
    before = [w.detach().clone() for w in algorithm.policy.parameters()]
    update = algorithm.update()
    algorithm.env.close()
    assert update.n_steps >= SMALL["batch_size"]
    if recipe.algorithm in WAITS_FOR_EPISODES:
        assert len(update.episode_returns)
    else:
        assert np.isfinite(update.reward)
    assert any((w != was).any() for w, was in zip(algorithm.policy.parameters(), before, strict=True))


@ALL
def test_every_recipe_has_a_description_and_a_budget(recipe):
    assert recipe.description.endswith(".")
    assert "\n" not in recipe.description
    assert 1 <= recipe.checkpoint_interval <= recipe.steps
    assert recipe.n_eval_episodes >= 1
    assert recipes.get(recipe.name) is recipe


@ALL
def test_the_class_of_its_algorithm_is_that_of_its_name(recipe):
    entry = recipes.ALGORITHMS[recipe.algorithm]
    algorithm_class, config_class = entry.load()
    algorithm = unchanged(recipe.name)
    assert type(algorithm) is algorithm_class
    assert type(algorithm.config) is config_class
    assert type(inspect.signature(algorithm_class).parameters["config"].default) is config_class


@ALL
def test_settings_are_the_fields_of_the_config_and_of_the_architecture_and_the_number_of_environments(recipe):
    _, config_class = recipes.ALGORITHMS[recipe.algorithm].load()
    fields = [*dataclasses.fields(config_class), *dataclasses.fields(recipe.architecture)]
    assert list(recipe.defaults) == [*(field.name for field in fields), "n_envs"]
    assert len(recipe.defaults) == len(fields) + 1  # no name means two things
    assert recipe.settings() == recipe.defaults
    config = config_class(**recipe.config)
    for name in recipe.config:
        if name not in ("return_fn", "baseline"):
            assert recipe.defaults[name] == getattr(config, name) == recipe.config[name]


@ALL
def test_every_setting_is_explained(recipe):
    assert set(recipe.setting_help) == set(recipe.defaults)
    for explanation in recipe.setting_help.values():
        assert isinstance(explanation, str)
        assert explanation == explanation.strip() != ""


@ALL
def test_settings_pass_through_json_and_through_text(recipe):
    """As in run.json and on the command line: the same values, of the same types."""
    stored = json.loads(json.dumps(recipe.defaults))
    as_text = {name: format_value(value) for name, value in recipe.defaults.items()}
    for settings in (stored, recipe.settings(**stored), recipe.settings(**as_text)):
        assert settings == recipe.defaults
        assert list(map(type, settings.values())) == list(map(type, recipe.defaults.values()))


def test_settings_are_a_copy():
    """What is done to them changes no recipe."""
    recipe = dataclasses.replace(CARTPOLE)
    before = json.dumps(recipe.defaults)
    for settings in (recipe.settings(), recipe.settings(n_envs=3)):
        settings["hidden_sizes"].append(1)
        settings["eta"] = 7
    assert json.dumps(recipe.defaults) == before


def learning_rate(optimizer):
    return optimizer.param_groups[0]["lr"]


def decay_steps(*schedules):
    """Steps after which all of these learning rates have fallen to a half; None if they never do."""
    [found] = {None if f(1000) == f(0) else round(1000 / (f(0) / f(1000) - 1), 3) for f in schedules}
    return found


def anneal_steps(*schedules):
    """Steps after which all of these learning rates are zero; None if they never are."""
    [found] = {None if f(1) == f(0) else round(1 / (1 - f(1) / f(0)), 3) for f in schedules}
    return found


def kind(*optimizers):
    [name] = {type(optimizer).__name__ for optimizer in optimizers}
    return name


def head(network):
    """What follows the encoder of a network that has one."""
    return getattr(network, "head", network)


def hidden_sizes(*networks):
    """The units of each hidden layer, the same in all networks."""
    found = [
        [len(b) for name, b in head(network).layers.named_parameters() if name.endswith("bias")][:-1]
        for network in networks
    ]
    assert all(sizes == found[0] for sizes in found)
    return found[0]


def hidden_size(*networks):
    [size] = {len(network.trunk.b1) for network in networks}
    return size


def name_of(function):
    names = {total_return: "total", reward_to_go: "reward-to-go", None: "none"}
    return (names | {batch_mean_baseline: "batch-mean", leave_one_out_baseline: "leave-one-out"})[function]


def opposite(value):
    return not value


# For each setting: another value (or a function of the default), and how to read it from the algorithm.
N_ENVS = {"n_envs": (3, lambda a: a.env.num_envs)}
REINFORCE = N_ENVS | {
    "eta": (0.123, lambda a: learning_rate(a.optimizer)),
    "eta_decay_steps": (500, lambda a: decay_steps(a.eta)),
    "gamma": (0.5, lambda a: a.config.return_fn(np.array([0.0, 1.0]), a.config.gamma)[0]),
    "return_fn": ("total", lambda a: name_of(a.config.return_fn)),
    "baseline": ("batch-mean", lambda a: name_of(a.config.baseline)),
    "standardize": (opposite, lambda a: a.config.standardize),
    "batch_size": (7, lambda a: a.config.batch_size),
    "optimizer": ("RMSprop", lambda a: kind(a.optimizer)),
    "hidden_sizes": ([5, 3], lambda a: hidden_sizes(a.policy)),
    "hidden_size": (3, lambda a: hidden_size(a.policy)),
    "init_scale": (8.0, lambda a: round(80 * a.policy.trunk.W1.std().item(), 1)),  # √(number of inputs) = 80
    "crop_columns": (10, lambda a: n_zero_columns(a.policy) if n_zero_columns(a.policy) < 80 else None),
    "skip_idle_steps": (opposite, lambda a: learns_from(a, [LEFT, RIGHT, LEFT]) == 1),
}
ACTOR_CRITIC = N_ENVS | {
    "eta": (0.123, lambda a: learning_rate(a.optimizer)),
    "eta_decay_steps": (500, lambda a: decay_steps(a.eta)),
    "eta_critic": (0.234, lambda a: learning_rate(a.critic.optimizer)),
    "gamma": (0.5, lambda a: a.critic.config.gamma),
    "lam": (0.6, lambda a: a.critic.config.lam),
    "rollout_length": (3, lambda a: a.config.rollout_length),
    "eta_average_reward": (0.2, lambda a: a.critic.config.eta_average_reward),
    "standardize": (opposite, lambda a: a.config.standardize),
    "critic_first": (opposite, lambda a: a.config.critic_first),
    "optimizer": ("RMSprop", lambda a: kind(a.optimizer, a.critic.optimizer)),
    "hidden_sizes": ([5, 3], lambda a: hidden_sizes(a.policy, a.critic.value)),
    "hidden_size": (5, lambda a: hidden_size(a.policy, a.critic.value)),
    "initial_sigma": (0.7, lambda a: round(a.policy.log_sigma.exp().mean().item(), 6)),
}
PPO = {name: read for name, read in ACTOR_CRITIC.items() if name != "eta_decay_steps"} | {
    "eta_critic": (0.234, lambda a: a.eta_critic(0)),
    "anneal_steps": (500.0, lambda a: anneal_steps(a.eta, a.eta_critic)),
    "n_epochs": (3, lambda a: a.config.n_epochs),
    "minibatch_size": (4, lambda a: a.config.minibatch_size),
    "surrogate": ("weighted", lambda a: a.config.surrogate),
    "clip": (0.4, lambda a: a.config.clip),
    "entropy_coefficient": (0.07, lambda a: a.config.entropy_coefficient),
    "max_norm": (0.7, lambda a: a.config.max_norm),
    "target_kl": (0.02, lambda a: a.config.target_kl),
}
OFF_POLICY = N_ENVS | {
    "gamma": (0.5, lambda a: a.config.gamma),
    "batch_size": (3, lambda a: a.config.batch_size),
    "capacity": (777, lambda a: a.replay.capacity),
    "learning_starts": (8, lambda a: a.config.learning_starts),
    "train_interval": (3, lambda a: a.config.train_interval),
}
DQN = OFF_POLICY | {
    "eta": (0.123, lambda a: a.eta(0)),
    "eta_decay_steps": (500, lambda a: decay_steps(a.eta)),
    "epsilon": (0.25, lambda a: round(a.epsilon(10**9), 12)),
    "exploration_steps": (500, lambda a: round(100 * (1 - a.epsilon(10**9)) / (1 - a.epsilon(100)))),
    "target_update_interval": (7, lambda a: a.target_update_interval),
    "optimizer": ("RMSprop", lambda a: kind(a.optimizer)),
    "hidden_sizes": ([12, 7, 5], lambda a: hidden_sizes(a.q_network)),
    "hidden_size": (12, lambda a: hidden_size(a.q_network)),
}
DDPG = OFF_POLICY | {
    "eta": (0.123, lambda a: learning_rate(a.optimizer)),
    "eta_critic": (0.234, lambda a: learning_rate(a.critic_optimizer)),
    "eta_decay_steps": (500.0, lambda a: decay_steps(a.eta, a.eta_critic)),
    "tau": (0.6, lambda a: a.tau),
    "sigma": (0.7, lambda a: a.noise.sigma),
    "theta": (0.8, lambda a: a.noise.theta),
    "weight_decay": (0.03, lambda a: a.critic_optimizer.param_groups[0]["weight_decay"]),
    "optimizer": ("RMSprop", lambda a: kind(a.optimizer, a.critic_optimizer)),
    "hidden_sizes": ([9, 8, 7], lambda a: hidden_sizes(a.policy, *critics(a))),
    "action_at_second_layer": (opposite, lambda a: action_at_second_layer(a)),
    "final_init_scale": (1e-6, lambda a: final_init_scale(a)),
    "channels": ([7, 6, 5], lambda a: [w.shape[0] for w in a.critic.encoder.parameters() if w.ndim == 4]),
    "n_features": (60, lambda a: n_features(a.critic.encoder)),
    "layer_norm": (opposite, lambda a: "LayerNorm" in str(a.critic.encoder)),
    "encoder_trained_by": ("actor", lambda a: encoder_trained_by(a)),
    "max_shift": (4, lambda a: a.replay.max_shift),
    "policy_delay": (5, lambda a: a.config.policy_delay),
    "target_policy_noise": (0.4, lambda a: a.config.target_policy_noise),
    "target_noise_clip": (0.7, lambda a: a.config.target_noise_clip),
}
SETTINGS = {
    "reinforce": REINFORCE,
    "actor-critic": ACTOR_CRITIC,
    "ppo": PPO,
    "dqn": DQN,
    "ddpg": DDPG,
    "td3": DDPG,
}


def ball(column, direction):
    """A difference frame of a ball that moves one pixel to the right (1) or to the left (−1)."""
    frame = np.zeros((80, 80), np.int8)
    frame[40, column], frame[40, column - direction] = 1, -1
    return frame.ravel()


LEFT, RIGHT = ball(30, -1), ball(50, 1)


def episode(algorithm, frames, r=None):
    """What the algorithm learns from an episode of Pong."""
    from pgcourse.algorithms.collect import Episode

    r = np.zeros(len(frames)) if r is None else np.array(r, float)
    return algorithm.training_data(Episode(np.array(frames), np.arange(len(frames)) % 2, r))


def learns_from(algorithm, frames):
    return len(episode(algorithm, frames).a)


def n_zero_columns(policy):
    zero = (policy.trunk.W1 == 0).reshape(80, 80, -1)
    return int(zero.all(dim=2).all(dim=0).sum())


def critics(algorithm):
    """The one critic of DDPG, the two of TD3."""
    twins = algorithm.critic
    return [twins.first, twins.second] if hasattr(twins, "first") else [twins]


def n_features(encoder):
    return encoder.n_features if "Tanh" in str(encoder) else None


def encoder_trained_by(algorithm):
    actor, critic = algorithm.policy, critics(algorithm)[0]
    if actor.encoder is not critic.encoder:
        return "each"
    return {(True, False): "actor", (False, True): "critic"}[actor.trains_encoder, critic.trains_encoder]


def action_at_second_layer(algorithm):
    [late] = {critic.layers[2].in_features > critic.layers[0].out_features for critic in critics(algorithm)}
    return late


def final_init_scale(algorithm):
    """The bound of ±x, of the values that are tried here, that all last layers are within; None if there is
    none."""
    largest = max(
        w.abs().max().item()
        for network in (algorithm.policy, *critics(algorithm))
        for w in head(network).layers[-1].parameters()
    )
    return next(
        (scale for scale in (1e-6, 0.0003, 0.003) if 0.5 * scale < largest <= scale * (1 + 1e-6)), None
    )


@ALL
def test_every_setting_arrives(recipe):
    """Where it is used; the default, and another value."""
    for name, default in recipe.defaults.items():
        value, read = SETTINGS[recipe.algorithm][name]
        value = value(default) if callable(value) else value
        assert read(unchanged(recipe.name)) == SMALL.get(name, default), name
        assert value != SMALL.get(name, default)
        if name == "gamma" and recipe.defaults.get("eta_average_reward") is not None:
            with pytest.raises(ValueError, match=r"^gamma must be 1 where an average reward is subtracted"):
                small(recipe, gamma=value)
            continue
        together = {"eta_average_reward": {"gamma": 1.0}, "critic_first": {"rollout_length": 1}}.get(name, {})
        assert read(small(recipe, **{name: value} | together)) == value, name


@of_algorithm("actor-critic")
def test_continuing_tasks_are_learnt_by_their_average_reward_and_episodes_by_a_discount(recipe):
    config = unchanged(recipe.name).config
    is_average = config.eta_average_reward is not None
    assert is_average == (config.gamma == 1) == (recipe.task.metric == "average reward")
    assert is_average == (recipe.name in ("actor-critic/pendulum", "actor-critic/access-control"))


@of_algorithm("ddpg", "td3")
def test_weight_decay_is_the_critics_alone(recipe):
    [actor] = small(recipe, weight_decay=0.03).optimizer.param_groups
    assert actor["weight_decay"] == 0


def test_the_papers_settings():
    """Lillicrap et al. (2016), section 7."""
    algorithm = recipes.get("ddpg-paper/pendulum").build(3)
    actor_shapes = [tuple(w.shape) for w in algorithm.policy.parameters()][::2]
    critic_shapes = [tuple(w.shape) for w in algorithm.critic.parameters()][::2]
    assert actor_shapes == [(400, 3), (300, 400), (1, 300)]
    assert critic_shapes == [(400, 3), (300, 401), (1, 300)]
    for network in (algorithm.policy, algorithm.critic):
        *_, w, b = network.parameters()
        assert max(abs(w).max(), abs(b).max()) <= 0.003
        assert abs(w).max() > 0.0025
    [actor], [critic] = algorithm.optimizer.param_groups, algorithm.critic_optimizer.param_groups
    assert (actor["lr"], critic["lr"]) == (1e-4, 1e-3)
    assert (actor["weight_decay"], critic["weight_decay"]) == (0, 1e-2)
    assert (algorithm.tau, algorithm.config.gamma, algorithm.config.batch_size) == (1e-3, 0.99, 64)
    assert algorithm.replay.capacity == 1_000_000
    assert (algorithm.noise.sigma, algorithm.noise.theta) == (0.2, 0.15)


def test_td3_on_the_pendulum_is_ddpg_with_two_critics_and_the_settings_of_fujimoto_et_al():
    ddpg, td3 = recipes.get("ddpg/pendulum"), recipes.get("td3/pendulum")
    assert (ddpg.task.name, ddpg.steps) == (td3.task.name, td3.steps)
    only_td3 = {"policy_delay": 2, "target_policy_noise": 0.2, "target_noise_clip": 0.5}
    assert td3.defaults == ddpg.defaults | only_td3
    one, other = small(ddpg), small(td3)
    for network, same in ((one.policy, other.policy), (one.critic, other.critic.first)):
        assert all(v.equal(w) for v, w in zip(network.parameters(), same.parameters(), strict=True))
    assert (other.critic.first.layers[0].weight != other.critic.second.layers[0].weight).any()


def test_an_actors_initial_weights_are_not_its_critics():
    algorithm = unchanged("actor-critic/cartpole")
    actor, critic = (module.layers[0].weight for module in (algorithm.policy, algorithm.critic.value))
    assert actor.shape == critic.shape
    assert not (actor == critic).any()


PONG = [recipe for recipe in recipes.RECIPES.values() if "skip_idle_steps" in recipe.defaults]


@pytest.mark.parametrize("recipe", PONG, ids=lambda recipe: recipe.name)
def test_the_policy_of_pong_is_scaled_and_cropped_as_asked_for(recipe):
    weights = unchanged(recipe.name).policy.trunk.W1.detach()
    assert (weights != 0).all()
    assert torch.equal(small(recipe, init_scale=8).policy.trunk.W1, 8 * weights)
    cropped = small(recipe, crop_columns=10).policy.trunk.W1.detach().reshape(80, 80, -1)
    assert (cropped[:, :10] == 0).all()
    assert torch.equal(cropped[:, 10:], weights.reshape(80, 80, -1)[:, 10:])


@pytest.mark.parametrize("recipe", PONG, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_reinforce_on_pong_learns_from_the_steps_at_which_the_ball_approaches(recipe, gamma):
    """A reward goes to the last such step before it, and is discounted by such steps only."""
    frames, r = [LEFT, RIGHT, LEFT, RIGHT, LEFT], [7.0, 1, 2, 3, 4]
    assert pong.ball_approaching(np.array(frames)).tolist() == [False, True, False, True, False]
    s, a, G = episode(small(recipe, skip_idle_steps=True, gamma=gamma), frames, r)
    assert (s == RIGHT).all()
    assert a.tolist() == [1, 1]
    assert G.tolist() == [1 + 2 + gamma * (3 + 4), 3 + 4]
    assert learns_from(small(recipe, skip_idle_steps=True), [LEFT, LEFT]) == 0
    s, a, G = episode(small(recipe, skip_idle_steps=False, gamma=gamma), frames, r)
    assert (s == frames).all()
    assert a.tolist() == [0, 1, 0, 1, 0]
    assert G.tolist() == [sum(gamma**k * x for k, x in enumerate(r[t:])) for t in range(5)]


def test_the_sticky_game_is_another_game_learnt_slowly_from_all_steps():
    easy, sticky = recipes.get("reinforce/pong"), recipes.get("reinforce/sticky-pong")
    assert (easy.task.name, sticky.task.name) == ("PongDeterministic-v4", "ALE/Pong-v5")
    changed = {name for name, value in sticky.defaults.items() if value != easy.defaults[name]}
    assert changed == {"eta", "eta_decay_steps", "gamma", "skip_idle_steps"}


def test_the_seed_decides_the_weights_and_the_course():
    def course(seed):
        algorithm = CARTPOLE.build(seed, batch_size=100)
        updates = [algorithm.update().surrogate for _ in range(2)]
        algorithm.env.close()
        return updates

    assert course(0) == course(0) != course(1)


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        ({"batch_size": "500"}, 500),
        ({"batch_size": 500.0}, 500),
        ({"batch_size": np.int64(500)}, 500),
        ({"eta": "0.02"}, 0.02),
        ({"eta": "1e-3"}, 0.001),
        ({"eta": 1}, 1.0),
        ({"standardize": "false"}, False),
        ({"standardize": "True"}, True),
        ({"standardize": False}, False),
        ({"return_fn": "total"}, "total"),
        ({"hidden_sizes": "64x32"}, [64, 32]),
        ({"hidden_sizes": "64"}, [64]),
        ({"hidden_sizes": (64, 32)}, [64, 32]),
    ],
)
def test_values_and_text_are_converted_to_the_type_of_the_default(overrides, value):
    [name] = overrides
    converted = CARTPOLE.settings(**overrides)
    assert converted == CARTPOLE.defaults | {name: value}
    assert type(converted[name]) is type(CARTPOLE.defaults[name])


@pytest.mark.parametrize("value", ["500", 500, 500.0])
def test_where_none_is_the_default_a_number_is_expected(value):
    pendulum = recipes.get("ddpg/pendulum")
    assert pendulum.defaults["eta_decay_steps"] is None
    assert all(pendulum.settings(eta_decay_steps=x)["eta_decay_steps"] is None for x in (None, "None"))
    converted = pendulum.settings(eta_decay_steps=value)["eta_decay_steps"]
    assert (type(converted), converted) == (float, 500)
    message = r"^eta_decay_steps must be of type float, as its default None, got 'never'$"
    with pytest.raises(ValueError, match=message):
        pendulum.settings(eta_decay_steps="never")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": "4.5"}, "batch_size must be of type int, as its default {batch_size}, got '4.5'"),
        ({"batch_size": 4.5}, "batch_size must be of type int, as its default {batch_size}, got 4.5"),
        ({"batch_size": True}, "batch_size must be of type int, as its default {batch_size}, got True"),
        (
            {"batch_size": float("inf")},
            "batch_size must be of type int, as its default {batch_size}, got inf",
        ),
        ({"batch_size": None}, "batch_size must be of type int, as its default {batch_size}, got None"),
        ({"eta": "fast"}, "eta must be of type float, as its default {eta}, got 'fast'"),
        ({"eta": True}, "eta must be of type float, as its default {eta}, got True"),
        ({"eta": [0.1]}, r"eta must be of type float, as its default {eta}, got \[0.1\]"),
        ({"eta": 10**400}, "eta must be of type float, as its default {eta}, got 1000*"),
        (
            {"standardize": "maybe"},
            "standardize must be of type bool, as its default {standardize}, got 'maybe'",
        ),
        ({"standardize": 1}, "standardize must be of type bool, as its default {standardize}, got 1"),
        (
            {"hidden_sizes": "64xlarge"},
            "hidden_sizes must be sizes such as 64, one for each layer, got '64xlarge'",
        ),
        ({"hidden_sizes": 64}, "hidden_sizes must be sizes such as 64, one for each layer, got 64"),
        ({"btch_size": 1}, "reinforce/cartpole has no setting 'btch_size'; did you mean batch_size.*"),
        ({"c": 1}, "reinforce/cartpole has no setting 'c'; there are {names}"),
    ],
)
def test_a_wrong_setting_is_named(overrides, message):
    expected = message.format(names=", ".join(CARTPOLE.defaults), **CARTPOLE.defaults)
    with pytest.raises(ValueError, match=f"^{expected}$"):
        CARTPOLE.build(0, **overrides)


def build(name, **overrides):
    return recipes.get(name).build(0, **{"n_envs": 1} | overrides)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recipes.get("reinforce/cartpol"),
            "there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole.*",
        ),
        (
            lambda: recipes.get("reinforce/pogn"),
            "there is no recipe 'reinforce/pogn'; did you mean reinforce/pong.*",
        ),
        (lambda: recipes.get("xyz"), f"there is no recipe 'xyz'; there are {', '.join(recipes.RECIPES)}"),
        (lambda: CARTPOLE.build(0, eta=-1), "eta must be a positive number, got -1.0"),
        (lambda: CARTPOLE.build(0, eta="nan"), "eta must be a positive number, got nan"),
        (lambda: CARTPOLE.build(0, n_envs=0), "n_envs must be a whole number of at least 1, got 0"),
        (
            lambda: CARTPOLE.build(0, hidden_sizes="64x0"),
            r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \(64, 0\)",
        ),
        (
            lambda: CARTPOLE.build(0, hidden_sizes=[]),
            r"hidden_sizes must hold a size of at least 1 for each hidden layer, got \(\)",
        ),
        (lambda: recipes.actor(None, -1), "seed must be a whole number of at least 0, got -1"),
        (lambda: recipes.actor(CARTPOLE, 0.5, greedy=True), "seed must be a whole number .*, got 0.5"),
        (lambda: recipes.actor(None, 2**31), "seed must be at most 1,073,741,823, got 2,147,483,648"),
        (
            lambda: build("reinforce/pong", eta_decay_steps=0),
            "eta_decay_steps must be a positive number, got 0",
        ),
        (
            lambda: build("ddpg/pendulum", eta_decay_steps=0),
            "eta_decay_steps must be a positive number, got 0.0",
        ),
        (
            lambda: build("reinforce/pong", optimizer="adam"),
            "optimizer must be one of Adam, RMSprop, SGD, got 'adam'",
        ),
        (
            lambda: CARTPOLE.build(0, return_fn="to go"),
            "return_fn must be one of total, reward-to-go, got 'to go'",
        ),
        (
            lambda: CARTPOLE.build(0, baseline="v"),
            "baseline must be one of none, batch-mean, leave-one-out, got 'v'",
        ),
        (lambda: build("reinforce/pong", init_scale=0), "init_scale must be a positive number, got 0.0"),
        (lambda: build("reinforce/pong", crop_columns=80), "crop_columns must be from 0 to 79, got 80"),
        (lambda: build("reinforce/pong", crop_columns=-1), "crop_columns must be from 0 to 79, got -1"),
        (lambda: build("reinforce/pong", n_envs=0), "n_envs must be .*at least 1, got 0"),
        (lambda: build("reinforce/pong", hidden_size=0), "hidden_size must be .*at least 1, got 0"),
        (
            lambda: build("dqn/cartpole", exploration_steps=0),
            "exploration_steps must be at least 1, got 0",
        ),
    ],
)
def test_errors_name_the_argument_and_its_value(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def global_state():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@ALL
def test_an_evaluation_depends_on_its_seed_alone_and_leaves_the_global_generators_as_they_are(recipe):
    policy, returns = small(recipe).policy, []
    for disturbance in (1, 2):
        random.seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002 (the global generators are those that are meant)
        torch.manual_seed(disturbance)
        before = global_state()
        returns.append(recipe.evaluate(policy, 2, seed=3))
        assert global_state() == before
    assert (returns[0] == returns[1]).all()
    assert returns[0].shape == (2,)


def test_another_seed_gives_other_episodes_and_greedy_actions_others_again():
    policy = small(CARTPOLE).policy
    returns = [
        CARTPOLE.evaluate(policy, 20, seed=3),
        CARTPOLE.evaluate(policy, 20, seed=4),
        CARTPOLE.evaluate(policy, 20, seed=3, greedy=True),
    ]
    assert all((a != b).any() for a, b in [(returns[0], returns[1]), (returns[0], returns[2])])


def test_greedy_actions_are_the_most_probable_and_others_follow_the_probabilities():
    """Chi-square with 1 degree of freedom beyond 24 has a probability below 10⁻⁶."""
    policy, s = small(CARTPOLE).policy, np.random.default_rng(0).normal(size=(50, 4))
    probabilities = policy.probabilities(s)
    assert (recipes.actor(policy, 0, greedy=True)(s) == probabilities.argmax(axis=1)).all()
    drawn = recipes.actor(policy, 0)(np.repeat(s[:1], 10_000, axis=0)).sum()
    p = probabilities[0, 1]
    assert (drawn - 10_000 * p) ** 2 / (10_000 * p * (1 - p)) < 24


class TestRegister:
    @pytest.fixture(autouse=True)
    def none_registered(self, monkeypatch):
        monkeypatch.setattr(recipes, "RECIPES", {})

    def test_a_recipe_is_data_registered_under_its_name(self):
        """What it does not name has the defaults of the algorithm's config."""
        task, config = Task("CartPole-v1"), {"eta": 0.5, "learning_starts": 6, "batch_size": 5}
        registered = recipes.register("dqn/tiny", "A tiny one.", "dqn", task, MLP((4,)), 10, 5, config=config)
        config["eta"] = 7  # the recipe has a copy
        recipe = recipes.get("dqn/tiny")
        assert recipe is registered
        assert list(recipes.RECIPES) == ["dqn/tiny"]
        assert (recipe.name, recipe.description, recipe.task) == ("dqn/tiny", "A tiny one.", task)
        assert (recipe.steps, recipe.checkpoint_interval, recipe.n_eval_episodes) == (10, 5, 20)
        expected = {"eta": 0.5, "learning_starts": 6, "batch_size": 5, "hidden_sizes": [4], "n_envs": 1}
        assert {name: recipe.defaults[name] for name in expected} == expected
        assert (recipe.defaults["gamma"], recipe.defaults["train_interval"]) == (0.99, 2)
        algorithm = recipe.build(3, eta="2", hidden_sizes="5x6")
        assert algorithm.config.eta == 2.0
        assert hidden_sizes(algorithm.q_network) == [5, 6]
        assert algorithm.update().n_steps == 8
        assert recipe.evaluate(algorithm.policy, 3, seed=0).shape == (3,)

    def test_number_of_environments_and_of_evaluation_episodes(self):
        task = Task("CartPole-v1")
        recipe = recipes.register(
            "reinforce/tiny", "Tiny.", "reinforce", task, MLP(), 10, 5, n_eval_episodes=3, n_envs=4
        )
        assert (recipe.n_eval_episodes, recipe.defaults["n_envs"]) == (3, 4)
        assert recipe.build(0).env.num_envs == 4
        assert recipe.build(0, n_envs=2).env.num_envs == 2

    def test_functions_are_registered_by_themselves_and_given_by_name(self):
        config = {"return_fn": total_return, "baseline": leave_one_out_baseline}
        recipe = recipes.register(
            "reinforce/tiny", "Tiny.", "reinforce", Task("CartPole-v1"), MLP(), 10, 5, config=config
        )
        assert (recipe.defaults["return_fn"], recipe.defaults["baseline"]) == ("total", "leave-one-out")
        built = recipe.build(0).config
        assert (built.return_fn, built.baseline) == (total_return, leave_one_out_baseline)
        built = recipe.build(0, return_fn="reward-to-go", baseline="none").config
        assert (built.return_fn, built.baseline) == (reward_to_go, None)

    def test_an_unknown_algorithm_is_named(self):
        names = ", ".join(recipes.ALGORITHMS)
        with pytest.raises(ValueError, match=f"^algorithm must be one of {names}, got 'qdn'$"):
            recipes.register("qdn/tiny", "Tiny.", "qdn", Task("CartPole-v1"), MLP(), 10, 5)
        assert not recipes.RECIPES


@pytest.mark.parametrize("field", ["steps", "checkpoint_interval", "n_eval_episodes", "n_envs"])
@pytest.mark.parametrize("value", [None, 0, np.nan, "text", [1]])
def test_the_numbers_of_a_recipe_are_checked_when_it_is_made(field, value):
    recipe = recipes.get("dqn/cartpole")
    with pytest.raises(ValueError, match=f"^{field} must be "):
        dataclasses.replace(recipe, **{field: value})
