"""Exercises X.2, stacks of frames that end where an episode does, and X.3, shifted frames."""

import numpy as np

from pgcourse.teaching.exercises.engine import Cases, Exercise


def stack_frames(frames, begins):
    """Return for each step its frame and the two before it, oldest first, shape (T, 3, H, W).

    Where an episode has had fewer, its first frame stands for those that are missing.
    """
    return _stacked(frames, begins)


def _first(begins):
    """Return the step at which the episode of each step began."""
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def _stacked(frames, begins, *, n=3):
    steps = np.arange(len(frames))[:, None] - np.arange(n - 1, -1, -1)
    return frames[np.maximum(steps, _first(begins)[:, None])]


def _cases_2(rng: np.random.Generator) -> Cases:
    yield np.arange(1.0, 5).reshape(4, 1, 1), np.array([True, False, False, False])
    yield np.arange(1.0, 6).reshape(5, 1, 1), np.array([True, False, False, True, False])
    for _ in range(6):
        T = rng.integers(6, 10)
        begins = rng.random(T) < 0.3
        begins[[0, 3]] = True
        begins[4:6] = False
        yield rng.integers(1, 256, size=(T, 2, 3)).astype(float), begins


def _across(frames, begins):
    return _stacked(frames, np.zeros(len(frames), bool))


def _with_zeros(frames, begins):
    steps = np.arange(len(frames))[:, None] - np.array([2, 1, 0])
    return np.where((steps >= _first(begins)[:, None])[..., None, None], frames[steps], 0)


def _present_frame(frames, begins):
    steps = np.arange(len(frames))[:, None] - np.array([2, 1, 0])
    inside = (steps >= _first(begins)[:, None])[..., None, None]
    return np.where(inside, frames[np.maximum(steps, 0)], frames[:, None])


_MISCONCEPTIONS_2 = {
    "Frames of two episodes are stacked: the border between them is ignored.": _across,
    "What is missing is black. Let the episode's first frame stand for it.": _with_zeros,
    "What is missing is the present frame. Let the episode's first frame stand for it.": _present_frame,
    "The order is reversed: the oldest frame comes first.": lambda f, b: _stacked(f, b)[:, ::-1],
    "The first step of an episode still has frames of the one before it.": (
        lambda f, b: _stacked(f, np.r_[False, b[:-1]])
    ),
    "The border is crossed after one step: the first frame stands for all that is older.": (
        lambda f, b: np.stack([f[_first(b)], f[_first(b)], f], axis=1)
    ),
}


def shift(stacks, dy, dx):
    """Return stacks, shape (N, C, H, W), each moved down by dy and to the right by dx pixels, shape (N,).

    What enters at a border repeats the border's pixels.
    """
    return _shifted(stacks, dy, dx)


def _shifted(stacks, dy, dx):
    _, _, height, width = stacks.shape
    y = np.clip(np.arange(height) - dy[:, None], 0, height - 1)
    x = np.clip(np.arange(width) - dx[:, None], 0, width - 1)
    n = np.arange(len(stacks))[:, None, None]
    return stacks.swapaxes(0, 1)[:, n, y[:, :, None], x[:, None, :]].swapaxes(0, 1)


def _cases_3(rng: np.random.Generator) -> Cases:
    picture = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    yield picture, np.array([1]), np.array([0])
    yield picture, np.array([0]), np.array([-1])
    for _ in range(6):
        n = rng.integers(2, 4)
        dy, dx = rng.permuted(np.arange(-2, 3))[:n], rng.permuted(np.arange(-2, 3))[:n]
        dy[0], dx[0] = 1, -2
        yield rng.integers(1, 256, size=(n, 2, 4, 5)).astype(float), dy, dx


def _each(function):
    """Return a mistaken answer from a function of one stack and its two shifts."""
    return lambda stacks, dy, dx: np.stack(
        [function(s, y, x) for s, y, x in zip(stacks, dy.tolist(), dx.tolist(), strict=True)]
    )


def _black(stack, dy, dx):
    _, height, width = stack.shape
    padded = np.pad(stack, ((0, 0), (2, 2), (2, 2)))
    return padded[:, 2 - dy : 2 - dy + height, 2 - dx : 2 - dx + width]


_MISCONCEPTIONS_3 = {
    "What leaves at one border enters at the other: np.roll. Repeat the border's pixels.": _each(
        lambda stack, dy, dx: np.roll(stack, (dy, dx), axis=(1, 2))
    ),
    "What enters is black. Repeat the border's pixels.": _each(_black),
    "The pictures move the other way.": lambda s, dy, dx: _shifted(s, -dy, -dx),
    "Rows and columns are exchanged.": lambda s, dy, dx: _shifted(s, dx, dy),
    "All pictures move by the first one's shift.": (
        lambda s, dy, dx: _shifted(s, np.full_like(dy, dy[0]), np.full_like(dx, dx[0]))
    ),
    "Only rows move. Move the columns, too.": lambda s, dy, dx: _shifted(s, dy, 0 * dx),
    "Only columns move. Move the rows, too.": lambda s, dy, dx: _shifted(s, 0 * dy, dx),
}

EXERCISES = [
    Exercise("X.2", stack_frames, _cases_2, _MISCONCEPTIONS_2),
    Exercise("X.3", shift, _cases_3, _MISCONCEPTIONS_3),
]
