"""Policy gradients of language models, against the enumeration of all answers, autograd and loops by hand."""

import copy
import itertools
import re
import sys
import types

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from pgcourse.algorithms.language_model import (
    Batch,
    SequenceReinforce,
    SequenceReinforceConfig,
    SupervisedConfig,
    SupervisedFineTuning,
    fine_tune,
    mean_reward,
)
from pgcourse.environments.addition import Addition
from pgcourse.maths.groups import WEIGHTINGS, group_advantages, pass_at_k
from pgcourse.networks.autoregressive import answer_mask, generate, log_prob_and_entropy
from pgcourse.networks.hugging_face import HuggingFaceModel
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.transformer import Transformer

END, LENGTH = 2, 2
ANSWERS = np.array([[END, END], *([a, b] for a in (0, 1) for b in (0, 1, END))])  # all there are


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


class Copying:
    """Prompts of two tokens 0…K−2; right is the answer that repeats the first one and ends."""

    def __init__(self, n_tokens=3, reward=None):
        self.n_tokens, self.end, self.answer_length = n_tokens, n_tokens - 1, LENGTH
        self._reward = reward

    def sample(self, n, rng):
        return rng.integers(self.n_tokens - 1, size=(n, 2))

    def solutions(self, prompts):
        return np.stack([prompts[:, 0], np.full(len(prompts), self.end)], axis=1)

    def reward(self, prompts, answers):
        if self._reward is not None:
            return self._reward(prompts, answers)
        return (answers == self.solutions(prompts)).all(axis=1).astype(float)


def graded(prompts, answers):
    """Return a reward for each answer, so that no two answers to a prompt have the same."""
    return np.sin(1.0 + answers @ [3, 1] + 2 * prompts[:, 0])


def a_policy(seed=0, n_tokens=3, *, double=True):
    policy = Transformer(n_tokens, 4, width=8, n_layers=1, n_heads=2, seed=seed)
    with torch.no_grad():
        policy.logits.weight *= 3
    return policy.double() if double else policy


def flat(tensors):
    return torch.cat([x.detach().flatten() for x in tensors]).numpy()


def gradient_of(objective, policy):
    return flat(torch.autograd.grad(objective, list(policy.parameters())))


def log_probs(policy, prompt, answer, temperature=1.0):
    """Log-probabilities of an answer's tokens up to its end, one call of the policy for each."""
    text, L = list(prompt), []
    for a in answer:
        z = policy(torch.tensor([text]))[0, -1] / temperature
        L.append(z.log_softmax(dim=0)[int(a)])
        text.append(int(a))
        if a == END:
            break
    return torch.stack(L)


def a_batch(policy, prompt, answers, A, reference=None):
    n = len(answers)
    s = np.repeat([prompt], n, axis=0)
    with torch.no_grad():
        L, L_ref = (log_prob_and_entropy(p, s, answers, END)[0] for p in (policy, reference or policy))
    mask = torch.from_numpy(answer_mask(answers, END))
    return Batch(s, answers, mask, torch.as_tensor(A)[:, None].expand_as(L), L, L_ref)


def expected_gradient(weighting, policy, prompt, K, **options):
    """The expectation of the algorithm's gradient over all groups of K answers to one prompt."""
    config = SequenceReinforceConfig(n_prompts=1, samples_per_prompt=K, weighting=weighting, **options)
    learner = SequenceReinforce(Copying(reward=graded), policy, config)
    P = [log_probs(policy, prompt, a).sum().exp().item() for a in ANSWERS]
    r, total = graded(np.repeat([prompt], len(ANSWERS), axis=0), ANSWERS), 0.0
    for group in itertools.product(range(len(ANSWERS)), repeat=K):
        A = group_advantages(r[None, list(group)], weighting)[0]
        batch = a_batch(policy, prompt, ANSWERS[list(group)], A)
        L, _ = learner.log_prob_and_entropy(policy, batch.s, batch.a)
        total = total + np.prod([P[k] for k in group]) * gradient_of(learner.surrogate(L, batch), policy)
    return total


def exact_gradient(policy, prompt, r):
    P = [log_probs(policy, prompt, a).sum().exp() for a in ANSWERS]
    return gradient_of(sum(p * x for p, x in zip(P, r, strict=True)), policy)


class TestExpectedGradients:
    """Seven answers to a prompt, so 49 groups of two and 343 of three."""

    PROMPT = (1, 0)

    @pytest.fixture
    def exact(self):
        r = graded(np.repeat([self.PROMPT], len(ANSWERS), axis=0), ANSWERS)
        return exact_gradient(a_policy(), self.PROMPT, r)

    def test_the_answers_are_all_there_are(self):
        assert_allclose(sum(log_probs(a_policy(), self.PROMPT, a).sum().exp().item() for a in ANSWERS), 1)

    @pytest.mark.parametrize(
        ("weighting", "K", "factor"),
        [
            ("none", 1, 1),
            ("none", 2, 1),
            ("rloo", 2, 1),
            ("rloo", 3, 1),
            ("dr_grpo", 2, 1 / 2),
            ("dr_grpo", 3, 2 / 3),
            ("mean", 2, 1 / 2),  # of one prompt
        ],
    )
    def test_it_is_the_gradient_up_to_a_factor(self, exact, weighting, K, factor):
        assert_allclose(expected_gradient(weighting, a_policy(), self.PROMPT, K), factor * exact, atol=1e-12)

    @pytest.mark.parametrize(
        "options", [{"weighting": "grpo"}, {"weighting": "rloo", "length_normalization": True}]
    )
    def test_division_by_the_deviation_or_the_length_bends_it(self, exact, options):
        g = expected_gradient(policy=a_policy(), prompt=self.PROMPT, K=3, **options)
        cosine = g @ exact / np.linalg.norm(g) / np.linalg.norm(exact)
        assert cosine < 0.999

    def test_the_penalty_in_the_reward_has_the_gradient_of_the_kl_divergence(self):
        policy, reference, beta = a_policy(), a_policy(1), 0.3
        L, L_ref = ([log_probs(p, self.PROMPT, a).sum() for a in ANSWERS] for p in (policy, reference))
        kl = sum(x.exp() * (x - y.detach()) for x, y in zip(L, L_ref, strict=True))
        penalty = [-beta * (x - y).item() for x, y in zip(L, L_ref, strict=True)]
        assert_allclose(
            exact_gradient(policy, self.PROMPT, penalty), gradient_of(-beta * kl, policy), atol=1e-12
        )

    def test_the_penalty_in_the_loss_has_that_of_the_reversed_divergence(self):
        """Of KL(π_ref ‖ π) of each token, in the states that π visits."""
        policy, reference, beta = a_policy(), a_policy(1), 0.3
        config = SequenceReinforceConfig(n_prompts=1, samples_per_prompt=1, weighting="none", kl_in_loss=beta)
        learner = SequenceReinforce(Copying(), policy, config, reference=reference)
        total, expected = 0.0, 0.0
        for answer in ANSWERS:
            p = log_probs(policy, self.PROMPT, answer).sum().exp().item()
            batch = a_batch(policy, self.PROMPT, answer[None], np.zeros(1), reference)
            L, _ = learner.log_prob_and_entropy(policy, batch.s, batch.a)
            total = total + p * gradient_of(learner.surrogate(L, batch), policy)
        for text, weight in [((), 1.0), *(((a,), None) for a in (0, 1))]:
            z, z_ref = (
                m(torch.tensor([[*self.PROMPT, *text]]))[0, -1].log_softmax(0) for m in (policy, reference)
            )
            if text:
                weight = log_probs(policy, self.PROMPT, text)[0].exp().item()
            kl = (z_ref.exp().detach() * (z_ref.detach() - z)).sum()
            expected = expected + weight * gradient_of(-beta * kl, policy)
        assert_allclose(total, expected, atol=1e-12)


class TestAnUpdate:
    def by_hand(self, config, policy, reference, problems, rng):
        """What a learner draws, and its gradient: sums over answers and tokens, one by one."""
        K = config.samples_per_prompt
        s = np.repeat(problems.sample(config.n_prompts, rng), K, axis=0)
        a = generate(policy, s, LENGTH, END, rng, temperature=config.temperature).tokens
        r, J = problems.reward(s, a), 0.0
        L = [log_probs(policy, *pair, config.temperature) for pair in zip(s, a, strict=True)]
        L_ref = [log_probs(reference, *pair, config.temperature).detach() for pair in zip(s, a, strict=True)]
        penalized = r - [config.kl_in_reward * (x - y).sum().item() for x, y in zip(L, L_ref, strict=True)]
        for k in range(len(s)):
            others = [j for j in range(len(s)) if j // K == k // K and j != k]
            A = penalized[k] - np.mean(penalized[others])
            term = A * L[k]
            if config.kl_in_loss:
                rho = (L_ref[k] - L[k]).exp()
                term = term - config.kl_in_loss * (rho - 1 - rho.log())
            J = J + (term.mean() if config.length_normalization else term.sum()) / len(s)
        return r, gradient_of(J, policy)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"temperature": 0.7},
            {"length_normalization": True},
            {"kl_in_reward": 0.2},
            {"kl_in_loss": 0.2, "length_normalization": True},
        ],
        ids=lambda options: "-".join(options) or "rloo",
    )
    def test_it_moves_along_the_gradient_by_hand(self, options):
        problems, policy, reference = Copying(reward=graded), a_policy(), a_policy(1)
        config = SequenceReinforceConfig(
            n_prompts=5, samples_per_prompt=3, optimizer="SGD", eta=0.1, **options
        )
        r, g = self.by_hand(config, policy, reference, problems, np.random.default_rng(7))
        before = flat(policy.parameters())
        learner = SequenceReinforce(problems, policy, config, reference=reference, seed=7)
        metrics = learner.update()
        assert_allclose(flat(policy.parameters()), before + 0.1 * g, atol=1e-12)
        assert_allclose(metrics.gradient_norm, np.linalg.norm(g), rtol=1e-9)
        assert_array_equal(metrics.episode_returns, r)

    def test_reused_answers_have_the_clipped_surrogate(self):
        """Two epochs of two minibatches, by hand."""
        problems, policy = Copying(reward=graded), a_policy()
        config = SequenceReinforceConfig(
            n_prompts=6,
            samples_per_prompt=2,
            n_epochs=2,
            minibatch_size=6,
            clip=0.02,
            optimizer="SGD",
            eta=0.3,
        )
        other, rng = copy.deepcopy(policy), np.random.default_rng(3)
        s = np.repeat(problems.sample(6, rng), 2, axis=0)
        a = generate(other, s, LENGTH, END, rng).tokens
        A = group_advantages(problems.reward(s, a).reshape(6, 2), "rloo").ravel()
        L_old = [log_probs(other, *pair).detach() for pair in zip(s, a, strict=True)]
        n_clipped = 0
        for _ in range(2):
            for part in np.split(rng.permutation(12), 2):
                J = 0.0
                for k in part:
                    rho = (log_probs(other, s[k], a[k]) - L_old[k]).exp()
                    J = J + torch.minimum(rho * A[k], rho.clip(0.98, 1.02) * A[k]).sum() / 6
                    n_clipped += int(((rho > 1.02) if A[k] > 0 else (rho < 0.98)).sum())
                g = gradient_of(J, other)
                nn.utils.vector_to_parameters(
                    torch.from_numpy(flat(other.parameters()) + 0.3 * g), other.parameters()
                )
        metrics = SequenceReinforce(problems, policy, config, seed=3).update()
        assert_allclose(flat(policy.parameters()), flat(other.parameters()), atol=1e-12)
        assert n_clipped > 0
        assert metrics.clipped_fraction > 0

    def test_its_numbers_are_those_of_the_answers(self):
        problems, policy = Copying(reward=graded), a_policy()
        config = SequenceReinforceConfig(n_prompts=4, samples_per_prompt=3)
        rng = np.random.default_rng(5)
        s = np.repeat(problems.sample(4, rng), 3, axis=0)
        drawn = generate(policy, s, LENGTH, END, rng)
        _, H = log_prob_and_entropy(policy, s, drawn.tokens, END)
        learner = SequenceReinforce(problems, policy, config, seed=5)
        metrics = learner.update()
        assert metrics.n_steps == drawn.mask.sum() == learner.n_steps
        assert_allclose(metrics.entropy, H.detach().numpy()[drawn.mask].mean(), rtol=1e-12)
        assert_allclose(metrics.answer_length, drawn.mask.sum() / 12)
        assert metrics.clipped_fraction == 0
        assert abs(metrics.kl) < 1e-12
        assert learner.update().kl > 0

    def test_the_reference_stays(self):
        policy = a_policy()
        learner = SequenceReinforce(Copying(reward=graded), policy, SequenceReinforceConfig(n_prompts=4))
        before = flat(policy.parameters())
        learner.update()
        assert_array_equal(flat(learner.reference.parameters()), before)
        assert not np.array_equal(flat(policy.parameters()), before)

    def test_the_reference_has_no_dropout(self):
        policy = a_policy()
        assert policy.training
        learner = SequenceReinforce(Copying(), policy, SequenceReinforceConfig(n_prompts=4))
        assert not any(module.training for module in learner.reference.modules())
        assert policy.training

    def test_it_learns_to_copy(self):
        """Chance is below a quarter; ten learners with this rate had 0.98 or more."""
        problems, policy = Copying(4), a_policy(1, 4, double=False)
        rng = np.random.default_rng(0)
        prompts = problems.sample(200, rng)
        before = mean_reward(policy, problems, prompts, rng)
        config = SequenceReinforceConfig(n_prompts=16, samples_per_prompt=4, eta=0.01)
        learner = SequenceReinforce(problems, policy, config, seed=1)
        for _ in range(80):
            learner.update()
        assert before < 0.25
        assert mean_reward(policy, problems, prompts, rng) > 0.9

    def test_with_an_interruption_it_is_the_same(self):
        problems, config = (
            Copying(reward=graded),
            SequenceReinforceConfig(
                n_prompts=4, n_epochs=2, minibatch_size=8, kl_in_loss=0.1, anneal_steps=500
            ),
        )
        learner = SequenceReinforce(problems, a_policy(), config, seed=2)
        learner.update()
        other = SequenceReinforce(problems, a_policy(3), config, seed=9)
        other.load_state_dict(learner.state_dict())
        for _ in range(3):
            for x, y in zip(learner.update(), other.update(), strict=True):
                assert_array_equal(x, y)
        assert_array_equal(flat(learner.policy.parameters()), flat(other.policy.parameters()))


class TestSupervised:
    def test_it_moves_along_the_log_likelihood_of_the_answers_alone(self):
        problems, policy = Copying(), a_policy()
        s = problems.sample(6, np.random.default_rng(4))
        a = problems.solutions(s)
        J = sum(log_probs(policy, *pair).sum() for pair in zip(s, a, strict=True)) / 6
        g, before = gradient_of(J, policy), flat(policy.parameters())
        config = SupervisedConfig(batch_size=6, optimizer="SGD", eta=0.1)
        metrics = SupervisedFineTuning(problems, policy, config, seed=4).update()
        assert_allclose(flat(policy.parameters()), before + 0.1 * g, atol=1e-12)
        assert_allclose(metrics.log_likelihood, J.item(), rtol=1e-12)
        assert metrics.n_steps == 12

    def test_it_stops_at_the_accuracy(self):
        problems, policy = Copying(4), a_policy(0, 4, double=False)
        learner = SupervisedFineTuning(problems, policy, SupervisedConfig(eta=0.01), seed=0)
        looks = fine_tune(learner, 0.5, interval=5)
        accuracies = [accuracy for _, accuracy in looks]
        assert max(accuracies[:-1]) < 0.5 <= accuracies[-1]
        assert [n for n, _ in looks] == [5 * (k + 1) for k in range(len(looks))]
        message = r"^max_updates must suffice for accuracy 1, got 0\.\d+ in 5$"
        with pytest.raises(ValueError, match=message):
            fine_tune(learner, 1, interval=5, max_updates=5)

    def test_with_an_interruption_it_is_the_same(self):
        learner, other = (SupervisedFineTuning(Copying(), a_policy(k), seed=k) for k in (0, 1))
        learner.update()
        other.load_state_dict(learner.state_dict())
        for _ in range(3):
            assert learner.update() == other.update()


class TestWhatMakesNoSense:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"samples_per_prompt": 1},
                'samples_per_prompt must be at least 2 for "rloo": '
                "an answer alone has nothing to be compared with; got 1",
            ),
            ({"samples_per_prompt": 0}, "samples_per_prompt must be a whole number of at least 1, got 0"),
            ({"n_prompts": 0}, "n_prompts must be a whole number of at least 1, got 0"),
            ({"weighting": "ppo"}, "weighting must be one of none, mean, rloo, grpo, dr_grpo, got 'ppo'"),
            ({"temperature": 0.0}, "temperature must be a positive number, got 0.0"),
            ({"clip": 0.0}, "clip must be a positive number, got 0.0"),
            ({"kl_in_loss": -1.0}, "kl_in_loss must be at least 0, got -1.0"),
            ({"minibatch_size": 513}, "minibatch_size must be at most all 512 answers, got 513"),
        ],
    )
    def test_settings_are_refused(self, options, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            SequenceReinforceConfig(**options)

    def test_one_sample_a_prompt_is_enough_without_a_group(self):
        for weighting in ("none", "mean"):
            config = SequenceReinforceConfig(samples_per_prompt=1, n_prompts=4, weighting=weighting)
            SequenceReinforce(Copying(), a_policy(), config).update()

    def test_rewards_that_are_no_numbers_are_refused(self):
        def update(reward):
            SequenceReinforce(Copying(reward=reward), a_policy(), SequenceReinforceConfig()).update()

        with pytest.raises(ValueError, match=r"^problems must give finite rewards, got nan after 0 tokens$"):
            update(lambda s, a: np.where(np.arange(len(s)) == 3, np.nan, 1.0))
        message = r"^problems must give a reward for each answer, shape \(512,\), got shape \(512, 1\)$"
        with pytest.raises(ValueError, match=message):
            update(lambda s, a: np.ones((len(s), 1)))

    def test_a_policy_that_does_not_fit_is_refused(self):
        with pytest.raises(
            ValueError, match=r"^policy\(tokens\) must have shape \(1, 3, 3\), got \(1, 3, 4\)"
        ):
            SequenceReinforce(Copying(), a_policy(n_tokens=4))
        short = Transformer(3, 2, width=4, n_heads=1)
        with pytest.raises(ValueError, match=r"^tokens must be at most 2 with the cache, got 3$"):
            SupervisedFineTuning(Copying(), short)

    def test_prompts_of_several_lengths_are_refused(self):
        class Ragged(Copying):
            def sample(self, n, rng):
                return [[0, 1], [0]][:n]

        learner = SequenceReinforce(Ragged(), a_policy(), SequenceReinforceConfig(n_prompts=2))
        with pytest.raises(ValueError, match=r"^prompts must be sequences of one length, shape \(N, T\)"):
            learner.update()

    def test_a_decay_of_a_schedule_is_refused(self):
        config = SequenceReinforceConfig(eta=lambda n: 0.1, anneal_steps=10.0)
        with pytest.raises(ValueError, match=r"^anneal_steps must be None where eta is a schedule, got 10"):
            SequenceReinforce(Copying(), a_policy(), config)


class TestGroups:
    @pytest.mark.parametrize("weighting", WEIGHTINGS)
    def test_advantages_are_those_of_loops(self, weighting):
        r = np.random.default_rng(0).normal(size=(4, 5))
        A = group_advantages(r, weighting)
        for i, row in enumerate(r):
            for k, x in enumerate(row):
                others = [y for j, y in enumerate(row) if j != k]
                deviation = np.sqrt(sum((y - sum(row) / 5) ** 2 for y in row) / 5)
                expected = {
                    "none": x,
                    "mean": x - sum(r.ravel()) / 20,
                    "rloo": x - sum(others) / 4,
                    "dr_grpo": x - sum(row) / 5,
                    "grpo": (x - sum(row) / 5) / deviation,
                }[weighting]
                assert_allclose(A[i, k], expected, atol=1e-12)

    @pytest.mark.parametrize("weighting", ["rloo", "dr_grpo", "grpo"])
    def test_equal_rewards_teach_nothing(self, weighting):
        r = np.array([[0.1 + 0.2, 0.3, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        A = group_advantages(r, weighting)
        assert not A[[0, 2]].any()
        assert A[1].any()

    def test_groups_that_make_no_sense_are_refused(self):
        for r in (np.zeros((2, 0)), np.zeros((0, 2)), np.zeros(3)):
            with pytest.raises(ValueError, match=r"^r must have shape \(prompts, answers to each\)"):
                group_advantages(r, "rloo")
        with pytest.raises(ValueError, match=r"^r must be finite, got nan$"):
            group_advantages([[0.0, np.nan]], "rloo")

    def test_pass_at_k_is_the_fraction_of_subsets_with_a_right_answer(self):
        right = [True, False, True, False, False, False]
        for k in range(1, 7):
            subsets = list(itertools.combinations(right, k))
            expected = np.mean([any(subset) for subset in subsets])
            assert_allclose(pass_at_k(2, 6, k), expected, atol=1e-12)
        assert_allclose(pass_at_k([0, 6], 6, 3), [0, 1])


class TestAddition:
    def test_the_splits_share_no_sum(self):
        train, test = (
            {frozenset((text[:2], text[3:5])) for text in Addition(split).decode(Addition(split).prompts)}
            for split in ("train", "test")
        )
        assert not train & test
        assert len(train | test) == 4095
        assert len(Addition().prompts) + len(Addition("test").prompts) == 8100

    def test_solutions_are_the_sums(self):
        problems = Addition()
        texts = problems.decode(problems.prompts)
        answers = problems.decode(problems.solutions(problems.prompts))
        assert all(f"{eval(text[:-1])}." == answer for text, answer in zip(texts, answers, strict=True))

    @pytest.mark.parametrize(
        ("answer", "reward"),
        [("85..", 1), ("85.3", 1), ("85.=", 1), ("8.5.", 0), ("085.", 0), ("8555", 0), ("86..", 0)],
    )
    def test_right_is_what_is_right_up_to_the_end(self, answer, reward):
        problems = Addition()
        assert problems.reward(problems.encode(["37+48="]), problems.encode([answer])) == [reward]

    def test_an_answer_that_does_not_end_is_wrong(self):
        problems = Addition()
        prompts = problems.encode(["99+99=", "99+99="])
        assert problems.reward(prompts, problems.encode(["198.", "1980"])).tolist() == [1, 0]

    def test_what_makes_no_sense_is_refused(self):
        problems = Addition()
        with pytest.raises(ValueError, match=r"^split must be one of train, test, got 'all'$"):
            Addition("all")
        with pytest.raises(ValueError, match=r"^test_fraction must leave problems for both splits, got 0$"):
            Addition(test_fraction=0)
        with pytest.raises(ValueError, match=r"^texts must consist of 0123456789\+=\., got '-' in '37-48='$"):
            problems.encode(["37-48="])
        with pytest.raises(
            ValueError, match=r"^texts must have one length, at least 1, got lengths \[5, 6\]$"
        ):
            problems.encode(["37+48=", "7+48="])
        with pytest.raises(ValueError, match=r'^prompts must be as "37\+48=", shape \(n, 6\), got'):
            problems.solutions(problems.encode(["7+48="]))
        with pytest.raises(ValueError, match=r"^answers must have shape \(1, 4\), got \(1, 3\)$"):
            problems.reward(problems.encode(["37+48="]), problems.encode(["85."]))
        with pytest.raises(ValueError, match=r"^tokens must hold integers in 0\.\.12"):
            problems.decode([[13]])


class TestHuggingFace:
    @pytest.fixture
    def stand_in(self, monkeypatch):
        """A module called transformers, whose one model is ours behind their signature."""

        class PreTrainedModel(nn.Module):
            def __init__(self, ours):
                super().__init__()
                self.ours, self.dropout = ours, nn.Dropout(0.5)
                self.config = types.SimpleNamespace(vocab_size=ours.n_tokens)

            def can_generate(self):
                return True

            def forward(self, *, input_ids, past_key_values=None, use_cache):
                z, cache = self.ours.extend(input_ids, past_key_values)
                return types.SimpleNamespace(
                    logits=self.dropout(z), past_key_values=cache if use_cache else None
                )

        module = types.ModuleType("transformers")
        module.PreTrainedModel = PreTrainedModel
        monkeypatch.setitem(sys.modules, "transformers", module)
        return PreTrainedModel

    def test_the_same_is_learnt_through_the_adapter(self, stand_in):
        config = SequenceReinforceConfig(n_prompts=4, n_epochs=2)
        one = SequenceReinforce(Copying(reward=graded), a_policy(), config)
        other = SequenceReinforce(
            Copying(reward=graded), HuggingFaceModel(stand_in(a_policy()).train()), config
        )
        for _ in range(3):
            for x, y in zip(one.update(), other.update(), strict=True):
                assert_array_equal(x, y)

    def test_it_stays_in_evaluation_mode(self, stand_in):
        model = HuggingFaceModel(stand_in(a_policy()).train())
        assert not model.train().model.dropout.training

    def test_without_transformers_the_error_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        message = r'^HuggingFaceModel needs transformers: pip install "pgcourse\[transformers\]"$'
        with pytest.raises(ImportError, match=message):
            HuggingFaceModel(a_policy())

    def test_another_model_is_refused(self, stand_in):
        message = r"^model must be a causal language model of transformers, got Transformer$"
        with pytest.raises(ValueError, match=message):
            HuggingFaceModel(a_policy())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
class TestTransformers:
    """With the library itself, where it is installed; tiny models with random weights."""

    @pytest.fixture
    def model(self, family, request):
        scale = 0.2 if "learns" in request.node.name else 1.0  # far from uniform
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        ends = {"bos_token_id": None, "eos_token_id": END}
        if family == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=3, n_positions=8, n_embd=8, n_layer=2, n_head=2, initializer_range=scale, **ends
            )
            return HuggingFaceModel(transformers.GPT2LMHeadModel(config).double())
        config = transformers.LlamaConfig(
            vocab_size=3,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=scale,
            **ends,
        )
        return HuggingFaceModel(transformers.LlamaForCausalLM(config).double())

    def test_with_a_cache_the_same_is_drawn(self, model):
        prompts = Copying().sample(40, np.random.default_rng(0))
        one, other = (
            generate(model, prompts, 3, END, np.random.default_rng(1), cached=cached)
            for cached in (True, False)
        )
        assert_array_equal(one.tokens, other.tokens)
        assert_allclose(one.L, other.L, atol=1e-6)
        L, _ = log_prob_and_entropy(model, prompts, one.tokens, END)
        assert_allclose(one.L, L.detach(), atol=1e-6)

    def test_greedy_answers_are_those_of_its_own_generate(self, model):
        prompts = Copying().sample(20, np.random.default_rng(0))
        ours = generate(model, prompts, 4, END, None).tokens
        theirs = model.model.generate(
            torch.from_numpy(prompts),
            attention_mask=torch.ones(prompts.shape, dtype=torch.long),
            max_new_tokens=4,
            do_sample=False,
            pad_token_id=END,
        )[:, 2:].numpy()
        assert_array_equal(ours[:, : theirs.shape[1]], theirs)
        assert (ours[:, theirs.shape[1] :] == END).all()

    def test_it_learns(self, model):
        problems, rng = Copying(), np.random.default_rng(0)
        prompts = problems.sample(200, rng)
        before = mean_reward(model, problems, prompts, rng)
        config = SequenceReinforceConfig(n_prompts=16, samples_per_prompt=4, eta=0.02)
        learner = SequenceReinforce(problems, model, config)
        metrics = [learner.update() for _ in range(40)]
        assert abs(metrics[0].kl) < 1e-6
        assert mean_reward(model, problems, prompts, rng) > before + 0.3
