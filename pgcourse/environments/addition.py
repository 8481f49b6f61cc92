"""Two-digit addition as a language task: the prompt "37+48=" wants the answer "85.".

Both numbers are from 10 to 99, so a prompt has 6 tokens and an answer 3 or 4, of which the last, ".", ends
it. The reward is 1 for the right answer and 0 for anything else. A problem and its reverse, 37+48 and 48+37,
are either both for training or both for testing.

On no slide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgcourse import checks
from pgcourse.arrays import Float, Int

TOKENS = "0123456789+=."
SPLITS = ("train", "test")
NUMBERS = range(10, 100)


class Addition:
    """Problems of one split, their answers, and what an answer is worth.

    Args:
        split: "train" or "test", which have no problem in common.
        test_fraction: of the 4,095 pairs of numbers, those that are for testing, between 0 and 1.
        seed: of the split.
    """

    n_tokens, end = len(TOKENS), TOKENS.index(".")
    prompt_length, answer_length = 6, 4

    def __init__(self, split: str = "train", *, test_fraction: float = 0.1, seed: int = 0):
        checks.one_of(SPLITS, split=split)
        checks.fraction(test_fraction=test_fraction)
        pairs = [(x, y) for x in NUMBERS for y in NUMBERS if x <= y]
        order = np.random.default_rng(checks.seed(seed=seed)).permutation(len(pairs))
        n_test = round(float(test_fraction) * len(pairs))
        if not 0 < n_test < len(pairs):
            raise ValueError(f"test_fraction must leave problems for both splits, got {test_fraction}")
        chosen = [pairs[k] for k in (order[:n_test] if split == "test" else order[n_test:])]
        both = sorted({(x, y) for pair in chosen for x, y in (pair, pair[::-1])})
        self.prompts: Int[np.ndarray, "n 6"] = self.encode([f"{x}+{y}=" for x, y in both])

    def sample(self, n: int, rng: np.random.Generator) -> Int[np.ndarray, "n 6"]:
        """Draw n prompts, with replacement."""
        return self.prompts[rng.integers(len(self.prompts), size=checks.count(1, n=n))]

    def solutions(self, prompts: Int[np.ndarray, "n 6"]) -> Int[np.ndarray, "n 4"]:
        """Return the right answers, with end tokens behind their end."""
        x = self._checked(prompts)
        total = 10 * (x[:, 0] + x[:, 3]) + x[:, 1] + x[:, 4]
        digits = np.stack([total // 100, total // 10 % 10, total % 10, np.full(len(x), self.end)], axis=1)
        shorter = np.concatenate([digits[:, 1:], digits[:, -1:]], axis=1)
        return np.where((total < 100)[:, None], shorter, digits)

    def reward(
        self, prompts: Int[np.ndarray, "n 6"], answers: Int[np.ndarray, "n 4"]
    ) -> Float[np.ndarray, " n"]:
        """Return 1 for each answer that is right up to its end token, else 0; padding is not read."""
        right = self.solutions(prompts)
        answers = checks.integers("answers", answers)
        if answers.shape != right.shape:
            raise ValueError(f"answers must have shape {right.shape}, got {answers.shape}")
        before = np.cumsum(right == self.end, axis=1) - (right == self.end) == 0  # and the end token itself
        return ((answers == right) | ~before).all(axis=1).astype(float)

    def encode(self, texts: Sequence[str]) -> Int[np.ndarray, "n T"]:
        """Return texts of one length as tokens."""
        for text in texts:
            checks.text(texts=text)
            if unknown := set(text) - set(TOKENS):
                raise ValueError(f"texts must consist of {TOKENS}, got {min(unknown)!r} in {text!r:.80}")
        lengths = {len(text) for text in texts}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"texts must have one length, at least 1, got lengths {sorted(lengths)}")
        return np.array([[TOKENS.index(c) for c in text] for text in texts])

    def decode(self, tokens: Int[np.ndarray, "n T"]) -> list[str]:
        """Return tokens as texts, each up to its end token."""
        tokens = checks.integers("tokens", tokens)
        if tokens.ndim != 2 or tokens.max(initial=0) >= len(TOKENS):
            raise ValueError(
                f"tokens must hold integers in 0..{len(TOKENS) - 1}, shape (n, T), got {tokens!s:.80}"
            )
        texts = ["".join(TOKENS[k] for k in row) for row in tokens]
        return [text[: text.index(".") + 1] if "." in text else text for text in texts]

    def _checked(self, prompts: Int[np.ndarray, "n 6"]) -> Int[np.ndarray, "n 6"]:
        x = checks.integers("prompts", prompts)
        digits = np.delete(x, (2, 5), axis=1) if x.ndim == 2 and x.shape[1] == self.prompt_length else None
        if digits is None or digits.max(initial=0) > 9 or (x[:, [2, 5]] != self.encode(["+="])).any():
            raise ValueError(f'prompts must be as "37+48=", shape (n, {self.prompt_length}), got {x!s:.80}')
        return x
