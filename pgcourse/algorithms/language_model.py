"""Policy gradients for language models: draw several answers to a prompt, make the better ones more likely.

Ĵ(w) = 1/n Σₖ Aₖ Σₜ Lₖₜ        Lₖₜ = log π(aₖₜ∣sₖₜ), of token t of answer k; n answers

The state is the prompt and the tokens so far, the action is the next token, and the reward comes at the end.
So an answer is an episode. With A = 1 and right answers that were given, Ĵ is the log-likelihood of
supervised fine-tuning (slide 40), ``SupervisedFineTuning``. ``SequenceReinforce`` draws answers itself and
multiplies by an advantage (slide 41), which compares an answer with others to the same prompt
(``maths.groups``). It is ``Reinforce`` whose episodes are sequences of tokens; RLOO, GRPO and Dr. GRPO are
values of an argument.

From ``Reinforce`` it differs in that answers are drawn in groups, all tokens of an answer have the same
advantage, and γ is 1. From ``PPO`` it has the clipped surrogate, for several epochs on the same answers: a
token's weight ρ is 1 at the first step, where the gradient is that of Ĵ.

KL penalty. A frozen reference policy, usually the one that learning began with, is kept near

in the reward:  r ← r − β Σₜ (Lₜ − L_ref,ₜ)       REINFORCE then estimates the gradient of −β KL(π ‖ π_ref)
in the loss:    Ĵ ← Ĵ − β Σₜ (ρ̃ₜ − 1 − log ρ̃ₜ)    ρ̃ = π_ref/π, differentiated as it stands

Both estimate the same number, but not the same gradient. The second's is Σ_a π (1 − ρ̃) ∂L/∂w, that of
KL(π_ref ‖ π), token by token, in the states that π visits.

Departures from the papers: one learning rate schedule, no entropy bonus, ε the same on both sides.

Slides 40 and 41; Ahmadian et al. (2024), section 3; Shao et al. (2024), equations 3 and 4.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from pgcourse import checks
from pgcourse.algorithms.config import Schedule, as_schedule, gradient_step, linear_anneal, make_optimizer
from pgcourse.algorithms.protocols import Network
from pgcourse.algorithms.resumable import Resumable
from pgcourse.arrays import Bool, Float, Int
from pgcourse.maths.groups import WEIGHTINGS, check_group_size, group_advantages
from pgcourse.maths.trust_region import clipped_surrogate, importance_weight, is_clipped, kl_estimate
from pgcourse.networks.autoregressive import (
    NextTokenModel,
    answer_mask,
    as_tokens,
    generate,
    log_prob_and_entropy,
)
from pgcourse.networks.mlp import gradient_norm


class LanguageModel(Network, NextTokenModel, Protocol):
    """A network that gives the logits of the next token, such as ``Transformer``."""

    def eval(self) -> Self: ...


class Problems(Protocol):
    """Prompts, all of one length, and what an answer is worth, such as ``Addition``."""

    n_tokens: int  # K, tokens are 0…K−1
    end: int  # the token that ends an answer
    answer_length: int  # tokens of an answer, at most

    def sample(self, n: int, rng: np.random.Generator) -> Int[np.ndarray, "n P"]: ...
    def reward(
        self, prompts: Int[np.ndarray, "n P"], answers: Int[np.ndarray, "n T"]
    ) -> Float[np.ndarray, " n"]: ...


class SolvedProblems(Problems, Protocol):
    """Problems whose right answers are known."""

    def solutions(self, prompts: Int[np.ndarray, "n P"]) -> Int[np.ndarray, "n T"]: ...


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Settings of ``SupervisedFineTuning``."""

    eta: float | Schedule = checks.setting(0.002, "learning rate η > 0, or a function of the tokens so far")
    batch_size: int = checks.setting(64, "problems of each update, at least 1")
    optimizer: str = checks.setting("Adam", "Adam, RMSprop or SGD")

    def __post_init__(self) -> None:
        checks.count(1, batch_size=self.batch_size)


class SupervisedMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # tokens learnt from so far
    log_likelihood: float  # Ĵ, mean over the answers, in nats
    gradient_norm: float


class SupervisedFineTuning(Resumable):
    """Maximum likelihood of the right answers. The prompt is given, so its tokens are not learnt.

    Args:
        problems: with their solutions.
        policy: the language model.
        config: settings.
        seed: of the problems drawn.
    """

    stateful = ("policy", "optimizer")

    def __init__(
        self,
        problems: SolvedProblems,
        policy: LanguageModel,
        config: SupervisedConfig = SupervisedConfig(),
        *,
        seed: int = 0,
    ):
        self.problems, self.policy, self.config = problems, policy, config
        self.eta = as_schedule("eta", config.eta)
        self.optimizer = make_optimizer(config.optimizer, policy.parameters(), self.eta(0), maximize=True)
        self._rng = np.random.default_rng(checks.seed(seed=seed))
        self.n_steps = 0
        check_policy(problems, policy)

    def update(self) -> SupervisedMetrics:
        """One step of slide 40."""
        s = self.problems.sample(self.config.batch_size, self._rng)
        a = self.problems.solutions(s)
        # w ← w + η 1/n Σₖ Σₜ ∂L/∂w
        L, _ = log_prob_and_entropy(self.policy, s, a, self.problems.end)
        J_hat = L.sum() / len(s)
        gradient_step(self.optimizer, J_hat, self.eta(self.n_steps), self.policy)

        self.n_steps += int(answer_mask(a, self.problems.end).sum())
        return SupervisedMetrics(self.n_steps, J_hat.item(), gradient_norm(self.policy.parameters()))

    def _reset(self) -> None: ...


def fine_tune(
    algorithm: SupervisedFineTuning,
    accuracy: float,
    *,
    interval: int = 10,
    n_prompts: int = 500,
    max_updates: int = 5000,
    seed: int = 0,
) -> list[tuple[int, float]]:
    """Learn until so many of the *sampled* answers are right; return the updates and accuracies on the way.

    Where a policy gradient begins matters much, and the number of updates to get there varies with the seed.

    Args:
        algorithm: to be updated.
        accuracy: mean reward of sampled answers at which learning ends, between 0 and 1.
        interval: updates between two looks.
        n_prompts: problems of each look, one answer each.
        max_updates: after which it is given up.
        seed: of the looks.

    Raises:
        ValueError: if the accuracy is not reached.
    """
    checks.fraction(accuracy=accuracy)
    interval, n_prompts = checks.count(1, interval=interval), checks.count(1, n_prompts=n_prompts)
    max_updates, rng = checks.count(1, max_updates=max_updates), np.random.default_rng(checks.seed(seed=seed))
    looks: list[tuple[int, float]] = []
    for n in range(interval, max_updates + 1, interval):
        for _ in range(interval):
            algorithm.update()
        s = algorithm.problems.sample(n_prompts, rng)
        looks.append((n, mean_reward(algorithm.policy, algorithm.problems, s, rng)))
        if looks[-1][1] >= accuracy:
            return looks
    best = max((reached for _, reached in looks), default=0)
    raise ValueError(f"max_updates must suffice for accuracy {accuracy}, got {best:.3f} in {max_updates:,}")


@dataclass(frozen=True, kw_only=True)
class SequenceReinforceConfig:
    """Settings of ``SequenceReinforce``."""

    eta: float | Schedule = checks.setting(0.001, "learning rate η > 0, or a function of the tokens so far")
    anneal_steps: float | None = checks.setting(
        None, "tokens over which η falls linearly to zero; None keeps it constant"
    )
    n_prompts: int = checks.setting(64, "prompts of each update, at least 1")
    samples_per_prompt: int = checks.setting(8, "answers drawn for each prompt, a group, at least 1")
    weighting: str = checks.setting("rloo", "what multiplies the score: none, mean, rloo, grpo or dr_grpo")
    length_normalization: bool = checks.setting(
        False, "whether an answer's tokens are averaged instead of summed, as in GRPO"
    )
    temperature: float = checks.setting(1.0, "τ > 0, by which logits are divided, in drawing and learning")
    n_epochs: int = checks.setting(1, "how many times an update goes through its answers, at least 1")
    minibatch_size: int | None = checks.setting(
        None, "answers of each minibatch, at least 1, at most all; None: all of them"
    )
    clip: float = checks.setting(0.2, "ε > 0: a weight is clipped where A has driven it out of 1 ± ε")
    kl_in_reward: float = checks.setting(0.0, "β ≥ 0 of the KL penalty in the reward")
    kl_in_loss: float = checks.setting(0.0, "β ≥ 0 of the KL penalty in the loss")
    max_norm: float | None = checks.setting(None, "longer gradients are shortened to this; None leaves them")
    optimizer: str = checks.setting("Adam", "Adam, RMSprop or SGD")

    def __post_init__(self) -> None:
        checks.count(1, n_prompts=self.n_prompts)
        checks.count(1, samples_per_prompt=self.samples_per_prompt)
        checks.one_of(WEIGHTINGS, weighting=self.weighting)
        check_group_size(self.weighting, self.n_prompts, self.samples_per_prompt)
        checks.positive(temperature=self.temperature, clip=self.clip)
        checks.count(1, n_epochs=self.n_epochs)
        checks.real(kl_in_reward=self.kl_in_reward, kl_in_loss=self.kl_in_loss)
        checks.at_least(0, kl_in_reward=self.kl_in_reward, kl_in_loss=self.kl_in_loss)
        n = self.n_prompts * self.samples_per_prompt
        if self.minibatch_size is not None:
            checks.count(1, minibatch_size=self.minibatch_size)
            if self.minibatch_size > n:
                raise ValueError(f"minibatch_size must be at most all {n} answers, got {self.minibatch_size}")
        optional = {name: getattr(self, name) for name in ("anneal_steps", "max_norm")}
        checks.positive(**{name: value for name, value in optional.items() if value is not None})


class UpdateMetrics(NamedTuple):
    """What one update did."""

    n_steps: int  # tokens drawn so far
    episode_returns: Float[np.ndarray, " n_answers"]  # rewards of the answers, without the KL penalty
    surrogate: float  # mean over the minibatches, with the KL penalty in the loss
    gradient_norm: float  # in the last minibatch, at most max_norm
    entropy: float  # mean of H(π(·∣s)) over the tokens of the last minibatch, in nats
    kl: float  # estimate of KL(π ‖ π_ref) of an answer, before the update, in nats
    clipped_fraction: float  # of the tokens whose gradient clipping has set to zero, in the last minibatch
    answer_length: float  # mean, in tokens, with the end token


class Batch(NamedTuple):
    """The n answers that are learnt from, and what was known of them before anything moved."""

    s: Int[np.ndarray, "n P"]
    a: Int[np.ndarray, "n T"]
    mask: Bool[Tensor, "n T"]
    A: Float[Tensor, "n T"]  # the same for all tokens of an answer
    L: Float[Tensor, "n T"]  # log π₀(a∣s)
    L_ref: Float[Tensor, "n T"]

    def minibatches(self, size: int | None, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield all answers in random order, in parts of at most ``size``, all but equal."""
        if size is None:
            yield self
            return
        for i in np.array_split(rng.permutation(len(self.s)), -(-len(self.s) // size)):
            k = torch.from_numpy(i)
            yield Batch(self.s[i], self.a[i], *(x[k] for x in self[2:]))


class SequenceReinforce(Resumable):
    """REINFORCE on answers of a language model, with the advantages of RLOO, GRPO or Dr. GRPO.

    Args:
        problems: prompts and rewards.
        policy: the language model, without dropout or in evaluation mode: an answer is drawn in one pass and
            weighted in another.
        config: settings.
        reference: policy of the KL penalty, of which a copy is frozen; None for ``policy`` as it is now.
        seed: of the prompts, the answers and the minibatches.

    Raises:
        ValueError: also if policy and problems do not fit together; in ``update``, if a reward is not finite.
    """

    stateful = ("policy", "optimizer", "reference")

    def __init__(
        self,
        problems: Problems,
        policy: LanguageModel,
        config: SequenceReinforceConfig = SequenceReinforceConfig(),
        *,
        reference: LanguageModel | None = None,
        seed: int = 0,
    ):
        self.problems, self.policy, self.config = problems, policy, config
        reference = policy if reference is None else reference
        self.reference = copy.deepcopy(reference).requires_grad_(False).eval()
        self.eta = self._schedule()
        self.optimizer = make_optimizer(config.optimizer, policy.parameters(), self.eta(0), maximize=True)
        self._rng = np.random.default_rng(checks.seed(seed=seed))
        self.n_steps = 0
        for network in (self.policy, self.reference):
            check_policy(problems, network)

    def update(self) -> UpdateMetrics:
        """One iteration of slide 36's loop, for a batch of answers."""
        # for each answer {a₁, a₂, …} ~ π
        batch, r, kl = self._collect()
        self.n_steps += int(batch.mask.sum())
        # w ← w + η 1/n Σₖ Σₜ A ∂L/∂w
        eta, surrogates = self.eta(self.n_steps), []
        for _ in range(self.config.n_epochs):
            for part in batch.minibatches(self.config.minibatch_size, self._rng):
                L, H = self.log_prob_and_entropy(self.policy, part.s, part.a)
                J_hat = self.surrogate(L, part)
                gradient_step(self.optimizer, J_hat, eta, self.policy, max_norm=self.config.max_norm)
                surrogates.append(J_hat.item())

        rho = importance_weight(L.detach(), part.L)
        clipped = is_clipped(rho, part.A, self.config.clip)[part.mask].double().mean().item()
        norm, entropy = gradient_norm(self.policy.parameters()), H[part.mask].mean().item()
        length = batch.mask.sum(dim=1).double().mean().item()
        return UpdateMetrics(self.n_steps, r, float(np.mean(surrogates)), norm, entropy, kl, clipped, length)

    def surrogate(self, L: Float[Tensor, "n T"], batch: Batch) -> Tensor:
        """Return Ĵ of a minibatch of n answers, a single number."""
        terms = clipped_surrogate(importance_weight(L, batch.L), batch.A, self.config.clip)
        if self.config.kl_in_loss:
            difference = batch.L_ref - L
            terms = terms - self.config.kl_in_loss * (difference.expm1() - difference)
        terms = terms * batch.mask
        if self.config.length_normalization:
            terms = terms / batch.mask.sum(dim=1, keepdim=True)
        return terms.sum() / len(terms)

    def log_prob_and_entropy(
        self, model: LanguageModel, s: Int[np.ndarray, "n P"], a: Int[np.ndarray, "n T"]
    ) -> tuple[Float[Tensor, "n T"], Float[Tensor, "n T"]]:
        """Return log π and entropies of the tokens, under the temperature that answers are drawn with."""
        return log_prob_and_entropy(model, s, a, self.problems.end, temperature=self.config.temperature)

    def _collect(self) -> tuple[Batch, Float[np.ndarray, " n"], float]:
        """Draw a group of answers to each prompt; return them, their rewards, and the estimated KL."""
        config, problems = self.config, self.problems
        shape = config.n_prompts, config.samples_per_prompt
        prompts = as_tokens("prompts", problems.sample(config.n_prompts, self._rng), problems.n_tokens)
        s = np.repeat(prompts.numpy(), config.samples_per_prompt, axis=0)
        drawn = generate(
            self.policy, s, problems.answer_length, problems.end, self._rng, temperature=config.temperature
        )
        r = checked_rewards(problems.reward(s, drawn.tokens), len(s), self.n_steps)
        with torch.no_grad():
            L_ref, _ = self.log_prob_and_entropy(self.reference, s, drawn.tokens)
        to_reference = (drawn.L - L_ref).sum(dim=1).double().numpy()
        penalized = r - config.kl_in_reward * to_reference if config.kl_in_reward else r
        A = group_advantages(penalized.reshape(shape), config.weighting).reshape(-1, 1)
        A_t = torch.as_tensor(A, dtype=drawn.L.dtype).expand_as(drawn.L)
        kl = kl_estimate(L_ref, drawn.L).sum(dim=1).mean().item()
        return Batch(s, drawn.tokens, torch.from_numpy(drawn.mask), A_t, drawn.L, L_ref), r, kl

    def _schedule(self) -> Schedule:
        eta, anneal_steps = self.config.eta, self.config.anneal_steps
        if anneal_steps is None:
            return as_schedule("eta", eta)
        if callable(eta):
            raise ValueError(f"anneal_steps must be None where eta is a schedule, got {anneal_steps}")
        checks.positive(eta=eta)
        return as_schedule("eta", functools.partial(linear_anneal, eta, anneal_steps))

    def _reset(self) -> None: ...


def mean_reward(
    policy: LanguageModel,
    problems: Problems,
    prompts: Int[np.ndarray, "n P"],
    rng: np.random.Generator | None = None,
    *,
    temperature: float = 1.0,
) -> float:
    """Return the mean reward of one answer to each prompt; without ``rng``, of the greedy answers."""
    drawn = generate(policy, prompts, problems.answer_length, problems.end, rng, temperature=temperature)
    return float(checked_rewards(problems.reward(prompts, drawn.tokens), len(prompts), 0).mean())


def checked_rewards(r: Float[np.ndarray, " n"], n: int, n_steps: int) -> Float[np.ndarray, " n"]:
    """Return the rewards of n answers, which must be finite numbers, one for each."""
    r = checks.numbers("reward", r).astype(float)
    if r.shape != (n,):
        raise ValueError(f"problems must give a reward for each answer, shape ({n},), got shape {r.shape}")
    if not (ok := np.isfinite(r)).all():
        raise ValueError(f"problems must give finite rewards, got {r[~ok][0]} after {n_steps:,} tokens")
    return r


@torch.no_grad()
def check_policy(problems: Problems, policy: LanguageModel) -> None:
    """The policy must give a logit for each token, at all positions of a prompt and the longest answer."""
    prompts = as_tokens("prompts", problems.sample(1, np.random.default_rng(0)), problems.n_tokens)
    end = torch.full((1, problems.answer_length - 1), problems.end)
    text = torch.cat([prompts, end], dim=1)
    shape, z = (*text.shape, problems.n_tokens), policy(text)
    if tuple(z.shape) != shape:
        raise ValueError(f"policy(tokens) must have shape {shape}, got {tuple(z.shape)}")
