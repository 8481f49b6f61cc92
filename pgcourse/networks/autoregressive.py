"""Answers of a language model: drawn token by token, and their log-probabilities.

π(answer∣prompt) = Πₜ π(aₜ∣sₜ)        sₜ = the prompt and the tokens a₁…aₜ₋₁

The model is a policy: its state is the text so far, its action the next token. An answer ends with the end
token, which is one of its actions, or at its greatest length. What stands behind the end token is padding:
``answer_mask`` is false there, and nothing that is padding has a log-probability or an entropy.

Temperature τ divides the logits, π_τ(k∣s) ∝ π(k∣s)^(1/τ). Log-probabilities must be taken at the
temperature with which the answers were drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pgcourse import checks
from pgcourse.arrays import Bool, Float, Int
from pgcourse.networks.mlp import MAX_UNITS, as_tensor, finite_output, is_integral


class NextTokenModel(Protocol):
    """Logits of the next token, at each of the T positions of N sequences.

    ``extend`` gives them for tokens that follow those in a cache, and the cache of all of them; None is the
    cache of no token.
    """

    def __call__(self, tokens: Tensor, /) -> Float[Tensor, "N T K"]: ...
    def extend(self, tokens: Tensor, cache: Any, /) -> tuple[Float[Tensor, "N T K"], Any]: ...


class Answers(NamedTuple):
    """What was drawn for N prompts. Behind an answer's end, tokens are end tokens and numbers are zero."""

    tokens: Int[np.ndarray, "N T"]
    mask: Bool[np.ndarray, "N T"]  # up to and with the end token
    L: Float[Tensor, "N T"]  # log π(aₜ∣sₜ), under the temperature they were drawn with


def as_tokens(name: str, tokens: object, n_tokens: int) -> Int[Tensor, "N T"]:
    """Return sequences of equal length, N, T ≥ 1, of integers 0…K−1, as a tensor of shape (N, T)."""
    try:
        t = as_tensor(name, tokens)
    except ValueError as error:
        raise ValueError(f"{name} must be sequences of one length, shape (N, T): {error!s:.200}") from error
    if t.ndim != 2 or not t.numel() or not is_integral(t):
        got = f"{t.dtype} of shape {tuple(t.shape)}"
        raise ValueError(f"{name} must hold integers, shape (N, T), sequences of one length, got {got}")
    if not 0 <= t.min() <= t.max() < n_tokens:
        raise ValueError(f"{name} must hold integers in 0..{n_tokens - 1}, got {t.min()} to {t.max()}")
    return t.long()


def answer_mask(answers: Int[np.ndarray, "N T"], end: int) -> Bool[np.ndarray, "N T"]:
    """Return which tokens belong to the answers: all up to the first end token, and it."""
    answers, end = checks.integers("answers", answers), checks.count(0, end=end)
    if answers.ndim != 2:
        raise ValueError(f"answers must have shape (N, T), got {answers.shape}")
    ends = answers == end
    return np.cumsum(ends, axis=1) - ends == 0


@torch.no_grad()
def generate(
    model: NextTokenModel,
    prompts: Int[np.ndarray, "N P"],
    length: int,
    end: int,
    rng: np.random.Generator | None,
    *,
    temperature: float = 1.0,
    cached: bool = True,
) -> Answers:
    """Draw an answer for each prompt, all at once, until all have ended.

    Args:
        model: whose answers they are.
        prompts: shape (N, P), all of one length, tokens 0…K−1.
        length: T, tokens of an answer, at most, at least 1.
        end: the end token.
        rng: draws the tokens; None takes the most probable ones.
        temperature: τ > 0.
        cached: whether each step computes the new tokens only, or all of the text again.

    Raises:
        ValueError: also if a logit is not finite, as after a diverged update.
    """
    length, end = checks.count(1, length=length), checks.count(0, end=end)
    checks.positive(temperature=temperature)
    text, cache = as_tokens("prompts", prompts, MAX_UNITS), None
    tokens, L = torch.full((len(text), length), end), []
    ended, new = torch.zeros(len(text), dtype=torch.bool), text
    for t in range(length):
        z, cache = model.extend(new if cached else text, cache if cached else None)
        finite_output("logits", z[:, -1].float().numpy(), prompts)
        log_pi = (z[:, -1] / float(temperature)).log_softmax(dim=1)
        a = log_pi.argmax(dim=1) if rng is None else _draw(log_pi, rng)
        a = torch.where(ended, end, a)
        L.append(torch.where(ended, 0, log_pi.gather(1, a[:, None])[:, 0]))
        tokens[:, t], new = a, a[:, None]
        text, ended = torch.cat([text, new], dim=1), ended | (a == end)
        if ended.all():
            break
    L += [torch.zeros_like(L[0])] * (length - len(L))
    return Answers(tokens.numpy(), answer_mask(tokens.numpy(), end), torch.stack(L, dim=1))


def log_prob_and_entropy(
    model: NextTokenModel,
    prompts: Int[np.ndarray, "N P"],
    answers: Int[np.ndarray, "N T"],
    end: int,
    *,
    temperature: float = 1.0,
) -> tuple[Float[Tensor, "N T"], Float[Tensor, "N T"]]:
    """Return log π(aₜ∣sₜ) of the tokens of given answers, and the entropies H(π(·∣sₜ)); zero behind an end.

    The logits at a position are those of the next token: those at the last token of the prompt are for the
    answer's first. Arguments as for ``generate``; answers of shape (N, T).
    """
    checks.positive(temperature=temperature)
    s, a = (as_tokens(name, x, MAX_UNITS) for name, x in (("prompts", prompts), ("answers", answers)))
    if len(s) != len(a):
        raise ValueError(f"answers must be one for each of {len(s)} prompts, got {len(a)}")
    z = model(torch.cat([s, a[:, :-1]], dim=1))[:, s.shape[1] - 1 :]
    log_pi = (z / float(temperature)).log_softmax(dim=2)
    mask = torch.from_numpy(answer_mask(a.numpy(), end))
    L = log_pi.gather(2, a[:, :, None])[:, :, 0]
    return L * mask, -(log_pi.exp() * log_pi).sum(dim=2) * mask


def _draw(log_pi: Float[Tensor, "N K"], rng: np.random.Generator) -> Int[Tensor, " N"]:
    cumulative = log_pi.double().exp().cumsum(dim=1)
    u = torch.from_numpy(rng.random((len(log_pi), 1)))
    return (cumulative[:, :-1] < u).sum(dim=1)
