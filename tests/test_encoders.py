"""Encoders of frames, actors and critics on their features, and who trains what."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pgcourse.algorithms.ddpg import DDPG, TD3, DDPGConfig, TD3Config
from pgcourse.algorithms.frame_replay import FrameReplayBuffer
from pgcourse.environments.frames import PixelPendulum
from pgcourse.networks.encoders import PixelActor, PixelCritic, PixelEncoder, PixelTwinCritic
from pgcourse.networks.policies import DeterministicPolicy
from pgcourse.networks.values import QNetwork

SHAPE = (3, 16, 16)
S = np.random.default_rng(0).integers(256, size=(5, *SHAPE), dtype=np.uint8)
A = np.random.default_rng(1).uniform(-2, 2, (5, 1)).astype(np.float32)


def weights(network):
    return torch.cat([w.detach().flatten() for w in network.state_dict().values()])


def encoder(seed=0, **options):
    return PixelEncoder(SHAPE, (4, 5, 6), 7, seed=seed, **options)


def actor_of(phi, **options):
    return PixelActor(phi, DeterministicPolicy(phi.n_features, [-2], [2], (8,), seed=1), **options)


def critic_of(phi, seed=2, **options):
    return PixelCritic(phi, QNetwork(phi.n_features, 1, (8,), seed=seed), **options)


def twins_of(phi, **options):
    return PixelTwinCritic(
        critic_of(phi, 2, **options), critic_of(phi, 3, **options | {"owns_encoder": False})
    )


def learner(kind, shared=True, max_shift=2, seed=0):
    env = PixelPendulum(2, size=16)
    phi, config = encoder(), {"capacity": 60, "batch_size": 5, "learning_starts": 20}
    critic = (twins_of if kind is TD3 else critic_of)(phi)
    actor = actor_of(phi) if shared else actor_of(encoder(9), trains_encoder=True)
    replay = FrameReplayBuffer(60, SHAPE, (1,), n_envs=2, max_shift=max_shift)
    make = TD3Config if kind is TD3 else DDPGConfig
    return kind(env, actor, critic, make(**config), replay=replay, seed=seed)


def test_the_encoder_is_its_formula():
    """Convolutions written out as sums over windows."""
    phi = encoder()
    x = S.astype(float) / 255 - 0.5
    convolutions = [layer for layer in phi.layers if isinstance(layer, torch.nn.Conv2d)]
    for layer, stride in zip(convolutions, (2, 2, 1), strict=True):
        W, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        x = np.maximum(np.einsum("nchwij,ocij->nohw", windows, W) + b[:, None, None], 0)
    linear = phi.layers[-3]
    h = x.reshape(len(S), -1) @ linear.weight.detach().double().numpy().T + linear.bias.detach().numpy()
    h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(phi(S).detach(), np.tanh(h), atol=1e-5)


def test_variants_of_the_encoder():
    plain = encoder(layer_norm=False)
    assert "LayerNorm" not in str(plain)
    assert plain(S).shape == (5, 7)
    assert plain.layers[0].weight.equal(encoder().layers[0].weight)
    flat = PixelEncoder((3, 32, 32), (32, 32, 32), None, layer_norm=False)
    assert flat.n_features == 32 * 5 * 5
    assert flat(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2, 800)
    assert (flat(np.zeros((2, 3, 32, 32), np.uint8)) >= 0).all()
    assert (weights(encoder(1)) != weights(encoder(2))).any()


@pytest.mark.parametrize("make", [encoder, lambda: actor_of(encoder())])
@pytest.mark.parametrize(
    ("s", "message"),
    [
        (S.astype(np.float32) / 255, r"s must hold frames of bytes \(uint8\), .*, got float32"),
        (S.astype(int), r"s must hold frames of bytes \(uint8\), .*, got int64"),
        (S[:, :2], r"s must have shape \(N, 3, 16, 16\), N stacks of frames, got \(5, 2, 16, 16\)"),
        (S[0], r"s must have shape \(N, 3, 16, 16\), N stacks of frames, got \(3, 16, 16\)"),
        (S[:, :, :8], r"s must have shape \(N, 3, 16, 16\), .*, got \(5, 3, 8, 16\)"),
    ],
)
def test_wrong_frames_are_refused(make, s, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()(s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((32, 32),), r"stack_shape must be \(n_frames, height, width\), got \(32, 32\)"),
        (((3, 0, 32),), r"stack_shape must be \(n_frames, height, width\), got .*"),
        ((SHAPE, ()), r"channels must be a size of at least 1 for each layer, got \(\)"),
        ((SHAPE, (4, 0)), "channels must be a size of at least 1 for each layer, .*"),
        ((SHAPE, (4,) * 5), "channels must leave a pixel of stack_shape, got 5 .*"),
        ((SHAPE, (4,), 0), "n_features must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        PixelEncoder(*arguments)


def test_heads_are_the_networks_of_states_on_features():
    phi = encoder()
    actor, twins = actor_of(phi), twins_of(phi)
    assert actor(S).equal(actor.head(phi(S)))
    np.testing.assert_array_equal(actor.greedy(S), actor.head.greedy(phi(S)))
    np.testing.assert_array_equal(actor.sample(S, np.random.default_rng(0)), actor.greedy(S))
    expected = torch.stack([twins.first(S, A), twins.second(S, A)])
    torch.testing.assert_close(twins(S, A), expected, rtol=0, atol=0)
    assert not expected[0].equal(expected[1])
    with pytest.raises(ValueError, match=r"^second must share the encoder of first, and not own it$"):
        PixelTwinCritic(critic_of(phi), critic_of(phi))


def test_the_gradient_of_the_actor_ends_at_the_features_and_that_of_the_critic_does_not():
    phi = encoder()
    actor_of(phi)(S).sum().backward()
    assert all(w.grad is None for w in phi.parameters())
    twins_of(phi)(S, A).sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in phi.parameters() if w.ndim == 4)
    other = encoder()
    twins_of(other, trains_encoder=False)(S, A).sum().backward()
    assert all(w.grad is None for w in other.parameters())
    actor_of(other, trains_encoder=True)(S).sum().backward()
    assert other.layers[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_targets_share_an_encoder_as_the_networks_do_and_it_follows_by_polyak_averaging(kind):
    algorithm = learner(kind)
    assert algorithm.policy.encoder is algorithm.critic.encoder
    assert algorithm.target_actor.encoder is algorithm.target_critic.encoder
    assert algorithm.target_critic.encoder is not algorithm.critic.encoder
    assert not any(w.requires_grad for w in algorithm.target_critic.parameters())
    expected, tau, moved = weights(algorithm.target_critic.encoder), algorithm.config.tau, False
    for _ in range(4):
        algorithm.update()
        now = weights(algorithm.critic.encoder)
        if kind is DDPG or algorithm.n_gradient_steps % 2 == 1:
            expected, moved = expected + tau * (now - expected), True
        torch.testing.assert_close(weights(algorithm.target_actor.encoder), expected)
    assert moved


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_the_actors_step_leaves_a_shared_encoder_alone_and_moves_one_of_its_own(kind):
    for shared in (True, False):
        algorithm = learner(kind, shared)
        algorithm.update()
        before, head = weights(algorithm.policy.encoder), weights(algorithm.policy.head)
        s = torch.from_numpy(algorithm.replay.sample(5, np.random.default_rng(0)).s)
        DDPG.update_actor(algorithm, s)
        assert weights(algorithm.policy.encoder).equal(before) == shared
        assert not weights(algorithm.policy.head).equal(head)


def test_the_actor_of_ddpg_ascends_the_critic():
    """Against autograd through both networks, with the encoder constant."""
    algorithm = learner(DDPG)
    algorithm.update()
    s = torch.from_numpy(algorithm.replay.sample(5, np.random.default_rng(0)).s)
    phi = algorithm.critic.encoder(s).detach()
    J = algorithm.critic.head(phi, algorithm.policy.head(phi)).mean()
    expected = torch.autograd.grad(J, list(algorithm.policy.head.parameters()))
    DDPG.update_actor(algorithm, s)
    for w, gradient in zip(algorithm.policy.head.parameters(), expected, strict=True):
        torch.testing.assert_close(w.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [DDPG, TD3])
def test_resume_equals_no_interruption(kind):
    """With shifts, several environments and the ring written over."""
    one, two = learner(kind), learner(kind, seed=1)
    for _ in range(40):
        one.update()
    state = copy.deepcopy(one.state_dict())
    one.load_state_dict(state)
    two.load_state_dict(state)
    for _ in range(5):
        assert repr(one.update()) == repr(two.update())
    for name in ("policy", "critic", "target_actor", "target_critic"):
        assert weights(getattr(one, name)).equal(weights(getattr(two, name)))


def test_a_saved_policy_holds_the_encoder():
    actor, other = actor_of(encoder()), actor_of(encoder(5))
    other.load_state_dict(actor.state_dict())
    np.testing.assert_array_equal(actor.greedy(S), other.greedy(S))


def test_float_frames_are_refused_when_an_algorithm_is_built():
    """Without a buffer of frames, states are stored as real numbers, which the encoder refuses."""
    phi = encoder()
    with pytest.raises(ValueError, match=r"^s must hold frames of bytes \(uint8\)"):
        DDPG(PixelPendulum(1, size=16), actor_of(phi), critic_of(phi))
    replay = FrameReplayBuffer(10, (3, 32, 32), (1,))
    with pytest.raises(ValueError, match=r"^s must have shape \(N, 3, 16, 16\)"):
        DDPG(PixelPendulum(1), actor_of(phi), critic_of(phi), replay=replay)


def test_an_encoder_learns_the_angle_of_a_rod():
    """By regression on frames of random angles: the error falls below a tenth of the variance, 0.5."""
    from pgcourse.environments.frames import draw_pendulum

    rng = np.random.default_rng(0)
    theta = rng.uniform(-np.pi, np.pi, 512)
    s = draw_pendulum(np.cos(theta), np.sin(theta), 16)[:, None].repeat(3, axis=1)
    target = torch.tensor(np.stack([np.cos(theta), np.sin(theta)], axis=1), dtype=torch.float32)
    phi = encoder()
    head = torch.nn.Linear(7, 2)
    with torch.no_grad():
        for w in head.parameters():
            w.zero_()
    optimizer = torch.optim.Adam([*phi.parameters(), *head.parameters()], lr=0.01)
    for _ in range(60):
        index = rng.integers(512, size=64)
        loss = F.mse_loss(head(phi(s[index])), target[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert F.mse_loss(head(phi(s)), target).item() < 0.05
