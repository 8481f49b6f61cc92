"""Exercises X.2, stacked frames, X.3, their shifts, X.6, a squashed Gaussian, and X.7, SAC's target."""

import numpy as np

from pgcourse.teaching.exercises.engine import Cases, Exercise


def stacked_frames(frames, t, i):
    """Return (o₋₂, o₋₁, o₀), shape (B, 3, P), whose newest frames are those at i; the buffer is a ring."""
    return frames[_from_the_start(i, t, np.array([2, 1, 0]))]


def _from_the_start(i, t, back):
    """Return the positions so many steps before i, or that of the episode's first frame."""
    return i[:, None] - np.minimum(back, t[i][:, None])


def _cases_2(rng: np.random.Generator) -> Cases:
    yield np.array([10, 20, 30, 40]).reshape(4, 1), np.arange(4), np.array([3])
    yield np.array([10, 20, 30, 40]).reshape(4, 1), np.array([0, 1, 0, 1]), np.array([3])
    yield np.array([10, 20, 30, 40]).reshape(4, 1), np.array([2, 3, 0, 1]), np.array([0])
    for n, shift in ((8, 3), (9, 1), (10, 4), (12, 7), (12, 10)):
        t = np.concatenate([np.arange(length) for length in rng.integers(2, 6, n)])[:n]
        frames = rng.integers(256, size=(n, 2)).astype(np.uint8)
        yield frames, np.roll(t, shift), rng.permutation(n)


def _picked(positions):
    """Return a mistaken answer from a function of i and t: the positions of the frames, newest last."""
    return lambda frames, t, i: frames[positions(i, t, np.array([2, 1, 0]), len(frames)) % len(frames)]


_MISCONCEPTIONS_2 = {
    "A stack has frames of two episodes. None may be older than the episode's first.": _picked(
        lambda i, t, back, n: i[:, None] - back
    ),
    "The order is reversed: the oldest frame is the first of a stack.": (
        lambda frames, t, i: stacked_frames(frames, t, i)[:, ::-1]
    ),
    "Before an episode's first frame there are no black frames: the first one is repeated.": (
        lambda frames, t, i: (
            stacked_frames(frames, t, i) * (t[i][:, None] >= np.array([2, 1, 0]))[:, :, None].astype(np.uint8)
        )
    ),
    "You repeat the newest frame. Where frames are missing, repeat the episode's first.": _picked(
        lambda i, t, back, n: i[:, None] - np.where(back > t[i][:, None], 0, back)
    ),
    "At the second step of an episode the newest frame is lost: only the missing ones are replaced.": _picked(
        lambda i, t, back, n: i[:, None] - np.where(t[i][:, None] < 2, t[i][:, None], back)
    ),
    "The buffer is a ring: the frame before position 0 is the last one.": _picked(
        lambda i, t, back, n: np.maximum(_from_the_start(i, t, back), 0)
    ),
    "You are one frame late: the newest frame of a stack is the one at i.": _picked(
        lambda i, t, back, n: _from_the_start(i, t, back + 1)
    ),
    "The frames of a stack lie on the second axis, before the pixels.": (
        lambda frames, t, i: np.moveaxis(stacked_frames(frames, t, i), 1, -1)
    ),
}


def shifted(stacks, dy, dx, pad):
    """Return the stacks, shape (B, k, H, W), padded with their border's pixels and cropped at (dy, dx)."""
    return _cropped(stacks, dy, dx, pad)


def _cropped(stacks, dy, dx, pad, inside=lambda x, n: np.clip(x, 0, n - 1)):
    """Return crops of padded stacks; ``inside`` is the pixel that is repeated at a place in the padding."""
    B, n_frames, H, W = stacks.shape
    y, x = (inside(np.arange(n) + d[:, None] - pad, n) for n, d in ((H, dy), (W, dx)))
    b, f = np.arange(B)[:, None, None, None], np.arange(n_frames)[:, None, None]
    return stacks[b, f, y[:, None, :, None], x[:, None, None, :]]


def _cases_3(rng: np.random.Generator) -> Cases:
    picture = np.arange(1, 10).reshape(1, 1, 3, 3)
    yield picture, np.array([1]), np.array([2]), 1
    yield picture, np.array([0]), np.array([1]), 1
    yield picture.repeat(2, axis=0), np.array([2, 1]), np.array([1, 0]), 1
    yield np.arange(8).reshape(1, 2, 1, 4).repeat(2, axis=0), np.array([1, 1]), np.array([0, 1]), 1
    for pad in (1, 2, 2, 3):
        B, H, W = rng.integers(3, 5), rng.integers(5, 7), rng.integers(5, 7)
        pictures = rng.integers(1, 256, (B, 3, H, W)).astype(np.uint8)
        yield pictures, *rng.integers(2 * pad + 1, size=(2, B)), pad


def _with_zeros(stacks, dy, dx, pad):
    _, _, H, W = stacks.shape
    padded = np.pad(stacks, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.array([s[:, y : y + H, x : x + W] for s, y, x in zip(padded, dy, dx, strict=True)])


def _one_by_one(stacks, dy, dx, pad):
    crops = [_cropped(stacks[:, [k]], np.roll(dy, -k), np.roll(dx, -k), pad) for k in range(stacks.shape[1])]
    return np.concatenate(crops, axis=1)


_MISCONCEPTIONS_3 = {
    "All stacks are shifted as the first one. Each has a shift of its own.": (
        lambda stacks, dy, dx, pad: shifted(stacks, 0 * dy + dy[0], 0 * dx + dx[0], pad)
    ),
    "What leaves the picture at one side comes back at the other. Repeat the border's pixels.": (
        lambda stacks, dy, dx, pad: _cropped(stacks, dy, dx, pad, lambda x, n: x % n)
    ),
    "You pad with zeros, which draws a black bar. Repeat the border's pixels.": _with_zeros,
    "You mirror the picture at its border. Repeat the border's pixels.": (
        lambda stacks, dy, dx, pad: _cropped(stacks, dy, dx, pad, lambda x, n: n - 1 - abs(n - 1 - abs(x)))
    ),
    "Rows and columns are exchanged: dy is the row in which the crop begins.": (
        lambda stacks, dy, dx, pad: shifted(stacks, dx, dy, pad)
    ),
    "The picture moves the wrong way: a crop that begins further down shows what is further down.": (
        lambda stacks, dy, dx, pad: shifted(stacks, 2 * pad - dy, 2 * pad - dx, pad)
    ),
    "You count from the picture's corner. The crop at (pad, pad) is the picture itself.": (
        lambda stacks, dy, dx, pad: shifted(stacks, dy + pad, dx + pad, pad)
    ),
    "You shift each frame of a stack otherwise, so that things seem to move.": _one_by_one,
}


def squashed_log_prob(u, mu, sigma):
    """Return log π(a∣s) of a = tanh u, u ~ N(μ, σ²) in each of D components, shape (N,)."""
    return (_log_normal(u, mu, sigma) - _log_derivative(u)).sum(axis=1)


def _log_normal(u, mu, sigma):
    return -(((u - mu) / sigma) ** 2) / 2 - np.log(sigma) - np.log(2 * np.pi) / 2


def _log_derivative(u):
    """log(1 − tanh² u) = log 4 − 2|u| − 2 log(1 + e^(−2|u|))."""
    return np.log(4) - 2 * abs(u) - 2 * np.log1p(np.exp(-2 * abs(u)))


def _cases_6(rng: np.random.Generator) -> Cases:
    yield np.array([[0.0]]), np.array([[0.0]]), np.array([[1.0]])
    yield np.array([[0.5]]), np.array([[0.0]]), np.array([[1.0]])
    yield np.array([[0.5, -1.0]]), np.array([[0.0, 0.5]]), np.array([[1.0, 2.0]])
    for _ in range(5):
        N, D = rng.integers(2, 5), rng.integers(2, 4)
        mu, sigma = rng.normal(size=(N, D)), rng.uniform(0.2, 2, (N, D))
        yield mu + sigma * rng.normal(size=(N, D)), mu, sigma
    yield np.array([[25.0, -0.3]]), np.array([[24.0, 0.1]]), np.array([[1.0, 0.5]])


def _by_component(term):
    return lambda u, mu, sigma: term(u, mu, sigma).sum(axis=1)


_MISCONCEPTIONS_6 = {
    "The tanh is missing: this is the log-probability of u. Subtract log(1 − tanh² u).": _by_component(
        _log_normal
    ),
    "You add the logarithm of the derivative. Where tanh is flat, actions lie close: subtract it.": (
        _by_component(lambda u, mu, sigma: _log_normal(u, mu, sigma) + _log_derivative(u))
    ),
    "You sum over the batch. Sum over the components of an action.": (
        lambda u, mu, sigma: (_log_normal(u, mu, sigma) - _log_derivative(u)).sum(axis=0)
    ),
    "Everything is summed up. Each action of the batch has its own log-probability.": (
        lambda u, mu, sigma: squashed_log_prob(u, mu, sigma).sum()
    ),
    "Components are independent: their log-probabilities add up. You take the mean.": (
        lambda u, mu, sigma: (_log_normal(u, mu, sigma) - _log_derivative(u)).mean(axis=1)
    ),
    "For a large |u| tanh rounds to 1, and log(1 − tanh² u) is infinite. Rewrite it with |u|.": (
        _by_component(lambda u, mu, sigma: _log_normal(u, mu, sigma) - np.log(1 - np.tanh(u) ** 2))
    ),
    "A small number in the logarithm changes every result, and most for a large |u|. Rewrite it with |u|.": (
        _by_component(lambda u, mu, sigma: _log_normal(u, mu, sigma) - np.log(1 - np.tanh(u) ** 2 + 1e-6))
    ),
    "The derivative of tanh is 1 − tanh². The square is missing.": _by_component(
        lambda u, mu, sigma: _log_normal(u, mu, sigma) - np.log(1 - np.tanh(abs(u)))
    ),
    "The derivative is taken at u, where the action is, not at μ.": _by_component(
        lambda u, mu, sigma: _log_normal(u, mu, sigma) - _log_derivative(mu)
    ),
    "The Gaussian is over u. You put tanh u into its density.": _by_component(
        lambda u, mu, sigma: _log_normal(np.tanh(u), mu, sigma) - _log_derivative(u)
    ),
    "The Gaussian's normalisation lacks σ: subtract log σ.": _by_component(
        lambda u, mu, sigma: _log_normal(u, mu, sigma) - _log_derivative(u) + np.log(sigma)
    ),
    "The Gaussian's normalisation lacks 2π: subtract ½ log 2π for each component.": _by_component(
        lambda u, mu, sigma: _log_normal(u, mu, sigma) - _log_derivative(u) + np.log(2 * np.pi) / 2
    ),
    "This is the probability density. Return its logarithm.": (
        lambda u, mu, sigma: np.exp(squashed_log_prob(u, mu, sigma))
    ),
}


def soft_target(r, terminated, next_q, next_log_pi, gamma, alpha):
    """Return y = r + γ (1 − terminated) (min Q'(s', a') − α log π(a'∣s')), over both critics; shape (N,)."""
    return _target(r, terminated, next_q, next_log_pi, gamma, alpha)


def _target(r, terminated, next_q, next_log_pi, gamma, alpha, *, of_both=np.min, sign=-1, ends=True):
    value = of_both(next_q, axis=0) + sign * alpha * next_log_pi
    return r + gamma * np.where(terminated & ends, 0, value)


def _cases_7(rng: np.random.Generator) -> Cases:
    yield np.array([1.0]), np.array([False]), np.array([[2.0], [3.0]]), np.array([-1.0]), 0.5, 0.2
    yield np.array([1.0]), np.array([True]), np.array([[2.0], [3.0]]), np.array([-1.0]), 0.5, 0.2
    for _ in range(6):
        n = rng.integers(4, 8)
        terminated = rng.permutation(np.arange(n) < 2)
        next_q, next_log_pi = rng.normal(size=(2, n)) + 5, rng.normal(size=n)
        yield rng.normal(size=n), terminated, next_q, next_log_pi, rng.uniform(0.8, 1), rng.uniform(0.1, 1)


def _with(**mistake):
    return lambda *case: _target(*case, **mistake)


_MISCONCEPTIONS_7 = {
    "The entropy is missing: the value of s' is Q − α log π.": _with(sign=0),
    "The sign is wrong: an improbable action has a negative log π, and is worth more.": _with(sign=1),
    "A terminated episode has no s': there y is the reward alone.": _with(ends=False),
    "After termination there is no entropy either: y is the reward alone.": (
        lambda r, terminated, next_q, next_log_pi, gamma, alpha: (
            r + gamma * (~terminated * next_q.min(axis=0) - alpha * next_log_pi)
        )
    ),
    "Take the smaller of both critics' values: the larger one is overestimated.": _with(of_both=np.max),
    "Take the smaller of both critics' values, not their mean.": _with(of_both=np.mean),
    "You use one critic only. Take the smaller of both values.": _with(of_both=lambda q, axis: q[0]),
    "You use the second critic only. Take the smaller of both values.": _with(of_both=lambda q, axis: q[1]),
    "You take one minimum for the whole batch. Take the smaller value of each transition.": _with(
        of_both=lambda q, axis: q.min()
    ),
    "The entropy of the next action is discounted, too: it belongs in the value of s'.": (
        lambda r, terminated, next_q, next_log_pi, gamma, alpha: (
            r + ~terminated * (gamma * next_q.min(axis=0) - alpha * next_log_pi)
        )
    ),
    "The temperature is missing.": (
        lambda r, terminated, next_q, next_log_pi, gamma, alpha: soft_target(
            r, terminated, next_q, next_log_pi, gamma, 1
        )
    ),
    "The discount is missing.": (
        lambda r, terminated, next_q, next_log_pi, gamma, alpha: soft_target(
            r, terminated, next_q, next_log_pi, 1, alpha
        )
    ),
    "You use `terminated` the wrong way round: 1 means that there is no s'.": (
        lambda r, terminated, next_q, next_log_pi, gamma, alpha: soft_target(
            r, ~terminated, next_q, next_log_pi, gamma, alpha
        )
    ),
}

EXERCISES = [
    Exercise("X.2", stacked_frames, _cases_2, _MISCONCEPTIONS_2),
    Exercise("X.3", shifted, _cases_3, _MISCONCEPTIONS_3),
    Exercise("X.6", squashed_log_prob, _cases_6, _MISCONCEPTIONS_6),
    Exercise("X.7", soft_target, _cases_7, _MISCONCEPTIONS_7),
]
