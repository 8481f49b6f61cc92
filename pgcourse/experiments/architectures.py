"""Networks as data: what a recipe says of its policy and its value functions, and how they are built."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pgcourse import checks

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from torch import nn


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptrons for states of numbers; policy and value function have the same hidden layers."""

    hidden_sizes: tuple[int, ...] = checks.setting((64,), "units of each hidden layer, such as 64x64")


@dataclass(frozen=True)
class GaussianMLP(MLP):
    """The same with a Gaussian policy."""

    initial_sigma: float = checks.setting(1.0, "initial standard deviation of the policy, positive")

    def __post_init__(self) -> None:
        checks.positive(initial_sigma=self.initial_sigma)


@dataclass(frozen=True)
class ActorAndQ:
    """Multilayer perceptrons for the actor and q(s, a) with the same hidden layers.

    The actor is μ(s), or a policy: a Gaussian squashed between the bounds of an action.
    """

    hidden_sizes: tuple[int, ...] = checks.setting((64, 64), "units of each hidden layer, such as 64x64")
    action_at_second_layer: bool = checks.setting(False, "whether actions enter the critic's second layer")
    final_init_scale: float | None = checks.setting(None, "bound of the last layers' initial weights")


@dataclass(frozen=True)
class PixelActorAndQ:
    """An encoder of stacked frames, and multilayer perceptrons for μ(s) and q(s, a) on its features."""

    channels: tuple[int, ...] = checks.setting((16, 16, 16), "channels of each convolution, like 16x16x16")
    n_features: int | None = checks.setting(50, "features, at least 1; None for what the convolutions give")
    layer_norm: bool = checks.setting(True, "whether features are normalised")
    encoder_trained_by: str = checks.setting(
        "critic", "critic or actor: whose gradient trains the shared encoder; each: there are two"
    )
    max_shift: int = checks.setting(2, "pixels by which sampled frames are shifted at random, at least 0")
    hidden_sizes: tuple[int, ...] = checks.setting((128, 128), "units of each hidden layer, such as 64x64")
    final_init_scale: float | None = checks.setting(None, "bound of the last layers' initial weights")

    def __post_init__(self) -> None:
        checks.one_of(("critic", "actor", "each"), encoder_trained_by=self.encoder_trained_by)
        checks.count(0, max_shift=self.max_shift)


@dataclass(frozen=True)
class Table:
    """Tables of logits and values for numbered states, all zero at first."""


@dataclass(frozen=True)
class Pixels:
    """The lecture's network for Pong (slides 12–15), for probabilities and for values."""

    hidden_size: int = checks.setting(200, "hidden units, at least 1")


@dataclass(frozen=True)
class PongEpisodes(Pixels):
    """The same, with what REINFORCE sees of Pong and learns from."""

    init_scale: float = checks.setting(1.0, "factor on the first layer's initial weights, positive")
    crop_columns: int = checks.setting(0, "columns at the left, with the opponent's paddle, that are ignored")
    skip_idle_steps: bool = checks.setting(True, "learn only from decisions while the ball approaches")


Architecture = MLP | ActorAndQ | PixelActorAndQ | Table | Pixels


def make_network(architecture: Architecture, role: str, env: VectorEnv, seed: int) -> nn.Module:
    """Return the network of that role, such as "policy" or "critic", for an environment."""
    from pgcourse.networks import pixels, policies, values

    checks.array_spaces(env)
    checks.text(role=role)
    seed = checks.seed(seed=seed)
    of_critic, of_twin = seed + 2**30, seed + 2**31  # seeds that no actor has
    n = sum(env.single_observation_space.shape or ())  # of vectors the length, of numbered states 0
    match architecture, role:
        case GaussianMLP(sizes, sigma), "policy":
            [action_dim] = env.single_action_space.shape or ()
            return policies.GaussianPolicy(n, action_dim, sizes, sigma=sigma, seed=seed)
        case MLP(sizes), "policy":
            return policies.SoftmaxPolicy(n, checks.discrete_actions(env), sizes, seed=seed)
        case MLP(sizes), "q_network":
            return values.DiscreteQNetwork(n, checks.discrete_actions(env), sizes, seed=seed)
        case MLP(sizes), "value":
            return values.ValueNetwork(n, sizes, seed=of_critic)
        case ActorAndQ(sizes, _, scale), "actor" | "policy":
            low, high = checks.bounded_actions(env).low, checks.bounded_actions(env).high
            of_role = {"actor": policies.DeterministicPolicy, "policy": policies.SquashedGaussianPolicy}
            return of_role[role](n, low, high, sizes, final_init_scale=scale, seed=seed)
        case ActorAndQ(sizes, late, scale), "critic" | "twin_critic":
            d = len(checks.bounded_actions(env).low)
            make = functools.partial(values.QNetwork, n, d, sizes, action_at_second_layer=late)
            first, second = (make(final_init_scale=scale, seed=one) for one in (of_critic, of_twin))
            return first if role == "critic" else values.TwinCritic(first, second)
        case PixelActorAndQ(), "actor" | "critic" | "twin_critic":
            return _pixel_network(architecture, role, env, seed)
        case Table(), "policy":
            return policies.TabularPolicy(np.zeros((_n_states(env), checks.discrete_actions(env))))
        case Table(), "value":
            return values.TabularValue(np.zeros(_n_states(env)))
        case PongEpisodes(hidden_size, scale), "policy":
            ignored = _first_columns(architecture.crop_columns)
            return pixels.PixelPolicy(hidden_size, init_scale=scale, ignored_pixels=ignored, seed=seed)
        case Pixels(hidden_size), "policy":
            return pixels.PixelPolicy(hidden_size, seed=seed)
        case Pixels(hidden_size), "q_network":
            return pixels.PixelQNetwork(checks.discrete_actions(env), hidden_size, seed=seed)
        case Pixels(hidden_size), "value":
            return pixels.PixelValue(hidden_size, seed=of_critic)
    raise ValueError(f"{type(architecture).__name__} has no network for the role {role!r}")


def _pixel_network(architecture: PixelActorAndQ, role: str, env: VectorEnv, seed: int) -> nn.Module:
    """Return an actor or a critic with an encoder of its own; ``share_encoder`` lets them share it."""
    from pgcourse.networks import encoders, policies, values

    shape, space, of_critic = (
        env.single_observation_space.shape or (),
        checks.bounded_actions(env),
        seed + 2**30,
    )
    encoder = encoders.PixelEncoder(
        shape,
        architecture.channels,
        architecture.n_features,
        layer_norm=architecture.layer_norm,
        seed=seed if role == "actor" else of_critic,
    )
    scale = architecture.final_init_scale
    n, sizes, by = encoder.n_features, architecture.hidden_sizes, architecture.encoder_trained_by
    if role == "actor":
        mu = policies.DeterministicPolicy(n, space.low, space.high, sizes, final_init_scale=scale, seed=seed)
        return encoders.PixelActor(encoder, mu, trains_encoder=by != "critic")
    make = functools.partial(values.QNetwork, n, len(space.low), sizes, final_init_scale=scale)
    trains = by != "actor"
    first = encoders.PixelCritic(encoder, make(seed=of_critic), trains_encoder=trains)
    if role == "critic":
        return first
    second = make(seed=seed + 2**31)
    return encoders.PixelTwinCritic(
        first, encoders.PixelCritic(encoder, second, trains_encoder=trains, owns_encoder=False)
    )


def share_encoder(architecture: Architecture, networks: Sequence[nn.Module]) -> None:
    """Give an actor and its critic one encoder, the critic's, where the architecture says so."""
    if isinstance(architecture, PixelActorAndQ) and architecture.encoder_trained_by != "each":
        actor, critic = cast("Sequence[Any]", networks)
        actor.encoder = critic.encoder


def algorithm_options(architecture: Architecture, config: object, env: VectorEnv) -> dict:
    """Return further arguments of the algorithm: what REINFORCE learns from, or where frames are stored."""
    from pgcourse.algorithms.frame_replay import FrameReplayBuffer
    from pgcourse.algorithms.off_policy import OffPolicyConfig
    from pgcourse.algorithms.reinforce import ReinforceConfig, TrainingData
    from pgcourse.environments.pong import drop_idle_steps

    if isinstance(architecture, PixelActorAndQ):
        assert isinstance(config, OffPolicyConfig)
        shapes = env.single_observation_space.shape or (), env.single_action_space.shape or ()
        make = functools.partial(FrameReplayBuffer, n_envs=env.num_envs, max_shift=architecture.max_shift)
        return {"replay": make(config.capacity, *shapes)}
    if not (isinstance(architecture, PongEpisodes) and architecture.skip_idle_steps):
        return {}
    assert isinstance(config, ReinforceConfig)
    return_fn, gamma = config.return_fn, config.gamma

    def training_data(episode) -> TrainingData:
        s, a, r = drop_idle_steps(episode.s, episode.a, episode.r)
        return TrainingData(s, a, return_fn(r, gamma))

    return {"training_data": training_data}


def _n_states(env: VectorEnv) -> int:
    from gymnasium.spaces import Discrete

    assert isinstance(env.single_observation_space, Discrete)
    return int(env.single_observation_space.n)


def _first_columns(n: int) -> np.ndarray:
    from pgcourse.environments import pong

    checks.real(crop_columns=n)
    if not (0 <= n < pong.SIZE and n % 1 == 0):
        raise ValueError(f"crop_columns must be from 0 to {pong.SIZE - 1}, got {n}")
    return np.arange(pong.N_PIXELS) % pong.SIZE < n
