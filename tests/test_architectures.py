"""The networks of recipes: of the shapes that the environment asks for, and as their settings say."""

import pytest
import torch

from pgcourse.algorithms.ddpg import DDPGConfig
from pgcourse.algorithms.reinforce import ReinforceConfig
from pgcourse.environments.frames import PixelPendulumTask
from pgcourse.environments.tasks import AccessControlTask, PongTask, Task
from pgcourse.experiments import recipes
from pgcourse.experiments.architectures import (
    MLP,
    ActorAndQ,
    GaussianMLP,
    PixelActorAndQ,
    Pixels,
    PongEpisodes,
    Table,
    algorithm_options,
    make_network,
    share_encoder,
)
from pgcourse.networks.pixels import PixelPolicy, PixelQNetwork, PixelValue
from pgcourse.networks.policies import DeterministicPolicy, GaussianPolicy, SoftmaxPolicy, TabularPolicy
from pgcourse.networks.values import DiscreteQNetwork, QNetwork, TabularValue, TwinCritic, ValueNetwork

TASKS = {
    "discrete": Task("Acrobot-v1"),  # 6 numbers, 3 actions
    "continuous": Task("Pendulum-v1"),  # 3 numbers, one action between -2 and 2
    "numbered": AccessControlTask(10),  # 44 states, 2 actions
    "pong": PongTask("PongDeterministic-v4"),
    "frames": PixelPendulumTask(16),
}
ROLES = {  # of each architecture: an environment for it, and the networks that it has
    MLP: ("discrete", ("policy", "value", "q_network")),
    GaussianMLP: ("continuous", ("policy", "value")),
    ActorAndQ: ("continuous", ("actor", "critic", "twin_critic")),
    PixelActorAndQ: ("frames", ("actor", "critic", "twin_critic")),
    Table: ("numbered", ("policy", "value")),
    Pixels: ("pong", ("policy", "value", "q_network")),
    PongEpisodes: ("pong", ("policy", "value", "q_network")),
}


@pytest.fixture(scope="module")
def envs():
    envs = {name: task.make_vector_env(1) for name, task in TASKS.items()}
    yield envs
    for env in envs.values():
        env.close()


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def shapes(network):
    return [tuple(w.shape) for w in network.parameters() if w.ndim == 2]


def test_multilayer_perceptrons_for_discrete_actions(envs):
    roles = ROLES[MLP][1]
    networks = [make_network(MLP((5, 4)), role, envs["discrete"], seed=1) for role in roles]
    assert [type(network) for network in networks] == [SoftmaxPolicy, ValueNetwork, DiscreteQNetwork]
    assert [shapes(network)[:-1] for network in networks] == [[(5, 6), (4, 5)]] * 3
    assert [shapes(network)[-1] for network in networks] == [(3, 4), (1, 4), (3, 4)]
    assert shapes(make_network(MLP(), "policy", envs["discrete"], 0)) == [(64, 6), (3, 64)]


def test_a_gaussian_policy_has_the_initial_standard_deviation_asked_for(envs):
    architecture, env = GaussianMLP((5,), initial_sigma=0.25), envs["continuous"]
    policy, value = (make_network(architecture, role, env, seed=1) for role in ("policy", "value"))
    assert (type(policy), type(value)) == (GaussianPolicy, ValueNetwork)
    assert shapes(policy) == shapes(value) == [(5, 3), (1, 5)]
    assert policy.log_sigma.exp().tolist() == pytest.approx([0.25])
    assert make_network(GaussianMLP(), "policy", env, 0).log_sigma.tolist() == [0]


@pytest.mark.parametrize("second", [False, True])
def test_actor_and_critic_for_continuous_actions(envs, second):
    architecture = ActorAndQ((5, 4), action_at_second_layer=second, final_init_scale=1e-4)
    env = envs["continuous"]
    actor, critic = (make_network(architecture, role, env, seed=1) for role in ("actor", "critic"))
    assert (type(actor), type(critic)) == (DeterministicPolicy, QNetwork)
    assert shapes(actor) == [(5, 3), (4, 5), (1, 4)]
    assert shapes(critic) == ([(5, 3), (4, 6), (1, 4)] if second else [(5, 4), (4, 5), (1, 4)])
    assert (actor.action_bias.tolist(), actor.action_scale.tolist()) == ([0], [2])
    for network in (actor, critic):
        assert all(w.abs().max() <= 1e-4 for w in network.layers[-1].parameters())
        assert network.layers[0].weight.abs().max() > 1e-2
    assert shapes(make_network(ActorAndQ(), "actor", env, 0)) == [(64, 3), (64, 64), (1, 64)]


@pytest.mark.parametrize("options", [{}, {"action_at_second_layer": True, "final_init_scale": 1e-4}])
def test_a_twin_critic_is_the_critic_and_another_one(envs, options):
    architecture, env = ActorAndQ((5, 4), **options), envs["continuous"]
    twins, critic = (make_network(architecture, role, env, seed=1) for role in ("twin_critic", "critic"))
    assert type(twins) is TwinCritic
    assert weights(twins.first).equal(weights(critic))
    assert shapes(twins.second) == shapes(critic)
    assert all((v != w).any() for v, w in zip(twins.second.parameters(), critic.parameters(), strict=True))


def test_tables_of_zeros_for_numbered_states(envs):
    policy, value = (make_network(Table(), role, envs["numbered"], seed=1) for role in ("policy", "value"))
    assert (type(policy), type(value)) == (TabularPolicy, TabularValue)
    assert policy.w.shape == (44, 2)
    assert value.v.shape == (44,)
    assert not policy.w.any()
    assert not value.v.any()


def test_networks_for_pixels(envs):
    networks = [make_network(Pixels(7), role, envs["pong"], 1) for role in ROLES[Pixels][1]]
    assert [type(network) for network in networks] == [PixelPolicy, PixelValue, PixelQNetwork]
    assert all(network.trunk.W1.shape == (6400, 7) for network in networks)
    assert networks[2].head.w2.shape == (7, 2)


def test_the_policy_of_reinforce_on_pong_is_scaled_and_ignores_columns_at_the_left(envs):
    def policy(architecture):
        return make_network(architecture, "policy", envs["pong"], 1)

    plain = policy(PongEpisodes(7))
    assert weights(plain).equal(weights(policy(Pixels(7))))
    W1 = policy(PongEpisodes(7, init_scale=2.0, crop_columns=3)).trunk.W1.reshape(80, 80, 7)
    assert not W1[:, :3].any()
    torch.testing.assert_close(W1[:, 3:], 2 * plain.trunk.W1.reshape(80, 80, 7)[:, 3:])
    for crop_columns in (-1, 80):
        with pytest.raises(ValueError, match=f"^crop_columns must be from 0 to 79, got {crop_columns}$"):
            policy(PongEpisodes(crop_columns=crop_columns))


def test_only_pong_without_its_idle_steps_tells_reinforce_what_to_learn_from(envs):
    config, env = ReinforceConfig(), envs["pong"]
    assert list(algorithm_options(PongEpisodes(), config, env)) == ["training_data"]
    for architecture in (PongEpisodes(skip_idle_steps=False), Pixels(), MLP(), ActorAndQ(), Table()):
        assert algorithm_options(architecture, config, env) == {}


def test_frames_are_stored_in_a_buffer_of_frames(envs):
    options = algorithm_options(PixelActorAndQ(max_shift=3), DDPGConfig(capacity=1_000), envs["frames"])
    replay = options.pop("replay")
    assert options == {}
    assert (replay.capacity, replay.stack_shape, replay.n_envs, replay.max_shift) == (
        1_000,
        (3, 16, 16),
        1,
        3,
    )


@pytest.mark.parametrize("by", ["critic", "actor", "each"])
@pytest.mark.parametrize("role", ["critic", "twin_critic"])
def test_one_network_owns_a_shared_encoder(envs, by, role):
    architecture = PixelActorAndQ((4, 4), 5, encoder_trained_by=by, hidden_sizes=(6,))
    actor, critic = (make_network(architecture, one, envs["frames"], seed=1) for one in ("actor", role))
    share_encoder(architecture, (actor, critic))
    assert (actor.encoder is critic.encoder) == (by != "each")
    encoder, n_heads = len(list(critic.encoder.parameters())), 2 if role == "twin_critic" else 1
    assert len(list(actor.parameters())) == 4 + encoder * (by != "critic")
    assert len(list(critic.parameters())) == 4 * n_heads + encoder * (by != "actor")
    with pytest.raises(
        ValueError, match=r"^encoder_trained_by must be one of critic, actor, each, got 'both'$"
    ):
        PixelActorAndQ(encoder_trained_by="both")


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
def test_every_architecture_has_the_networks_that_its_algorithm_needs(recipe):
    _, roles = ROLES[type(recipe.architecture)]
    assert set(recipes.ALGORITHMS[recipe.algorithm].networks) <= set(roles)


@pytest.mark.parametrize(
    "architecture", [MLP((4,)), GaussianMLP((4,)), ActorAndQ((4,)), PixelActorAndQ(), Pixels(3)]
)
def test_initial_weights_depend_on_the_seed(envs, architecture):
    kind, roles = ROLES[type(architecture)]
    for role in roles:
        one, same, other = (weights(make_network(architecture, role, envs[kind], seed)) for seed in (1, 1, 2))
        assert one.equal(same)
        assert (one != other).any()


@pytest.mark.parametrize(
    ("architecture", "roles"), [(MLP((4,)), ("policy", "value")), (Pixels(3), ("policy", "value"))]
)
def test_a_critic_has_no_weights_of_an_actor(envs, architecture, roles):
    """The first layers have the same shape."""
    kind, _ = ROLES[type(architecture)]
    networks = [make_network(architecture, role, envs[kind], seed=1) for role in roles]
    one, other = (next(network.parameters()) for network in networks)
    assert one.shape == other.shape
    assert not (one == other).any()


@pytest.mark.parametrize("architecture", [MLP, ActorAndQ, PixelActorAndQ, Table, Pixels, PongEpisodes])
def test_a_role_that_an_architecture_lacks_is_named(envs, architecture):
    kind, roles = ROLES[architecture]
    every = {role for _, of_this in ROLES.values() for role in of_this}
    for role in every - set(roles):
        message = f"^{architecture.__name__} has no network for the role '{role}'$"
        with pytest.raises(ValueError, match=message):
            make_network(architecture(), role, envs[kind], 0)
