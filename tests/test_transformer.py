"""The transformer and answers drawn from it, against loops over positions and tokens, and each other."""

import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from pgcourse.networks.autoregressive import answer_mask, generate, log_prob_and_entropy
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.transformer import Transformer

K, END = 5, 4


@pytest.fixture(autouse=True)
def on_a_single_thread():
    with single_thread():
        yield


def small(seed=0, *, double=True, scale=3.0, **options):
    model = Transformer(K, 8, width=8, n_heads=2, seed=seed, **options)
    with torch.no_grad():  # far from uniform
        model.logits.weight *= scale
    return model.double() if double else model


def some_tokens(n, length, seed=0):
    return np.random.default_rng(seed).integers(K, size=(n, length))


def layer_norm(x, norm):
    x = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
    return x * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def linear(x, layer):
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


def by_loops(model, row):
    """Logits of one sequence, position by position and head by head, in NumPy."""
    x = [
        model.tokens.weight[k].detach().numpy() + model.positions.weight[t].detach().numpy()
        for t, k in enumerate(row)
    ]
    for block in model.blocks:
        attention = block.attention
        qkv = [linear(layer_norm(x_t, block.norm_1), attention.qkv) for x_t in x]
        d = len(x[0]) // attention.n_heads
        for t in range(len(x)):
            gathered = []
            for head in range(attention.n_heads):
                q, k, v = (
                    [np.split(one, 3)[part][head * d : (head + 1) * d] for one in qkv] for part in range(3)
                )
                weights = special.softmax([q[t] @ k[u] / np.sqrt(d) for u in range(t + 1)])
                gathered.append(sum(w * v[u] for u, w in enumerate(weights)))
            x[t] = x[t] + linear(np.concatenate(gathered), attention.output)
        first, _, second = block.mlp
        for t in range(len(x)):
            h = linear(layer_norm(x[t], block.norm_2), first)
            x[t] = x[t] + linear(h * stats.norm.cdf(h), second)
    return np.array([linear(layer_norm(x_t, model.norm), model.logits) for x_t in x])


class TestTransformer:
    def test_logits_are_those_of_loops_over_positions_and_heads(self):
        model, tokens = small(), some_tokens(3, 6)
        z = model(tokens).detach().numpy()
        for row, expected in zip(z, tokens, strict=True):
            assert_allclose(row, by_loops(model, expected), atol=1e-12)

    def test_no_position_sees_a_later_token(self):
        model, tokens = small(), some_tokens(4, 8)
        other = tokens.copy()
        other[:, 5:] = (other[:, 5:] + 1) % K
        assert_allclose(model(tokens)[:, :5].detach(), model(other)[:, :5].detach(), atol=1e-14)
        assert (model(tokens)[:, 5:] - model(other)[:, 5:]).abs().min() > 1e-6

    @pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-12), (False, 1e-6)])
    def test_with_a_cache_the_logits_are_the_same(self, double, tolerance):
        model, tokens = small(double=double, scale=1.0), some_tokens(5, 8)
        cache, parts = None, []
        for part in np.split(tokens, [3, 4, 6], axis=1):
            z, cache = model.extend(part, cache)
            parts.append(z)
        assert_allclose(torch.cat(parts, dim=1).detach(), model(tokens).detach(), atol=tolerance, rtol=0)

    def test_it_has_the_weights_that_one_counts(self):
        model = Transformer(13, 10)
        layer = 4 * 64 * 65 + (64 * 256 + 256) + (256 * 64 + 64) + 4 * 64
        expected = (13 + 10) * 64 + 2 * layer + 2 * 64 + 65 * 13
        assert sum(w.numel() for w in model.parameters()) == expected == 102_413

    def test_weights_depend_on_the_seed_alone(self):
        torch.manual_seed(1)
        one, other, third = small(3), small(3), small(4)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert not torch.equal(one.tokens.weight, third.tokens.weight)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": 10, "n_heads": 4}, "width must be a multiple of n_heads, 4, got 10"),
            ({"n_tokens": 1}, "n_tokens must be a whole number of at least 2, got 1"),
            ({"max_length": 0}, "max_length must be a whole number of at least 1, got 0"),
            ({"n_layers": 0.5}, "n_layers must be a whole number of at least 1, got 0.5"),
        ],
    )
    def test_sizes_that_make_no_sense_are_refused(self, options, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Transformer(**{"n_tokens": 5, "max_length": 8} | options)

    def test_tokens_that_do_not_fit_are_refused(self):
        model = small()
        with pytest.raises(ValueError, match=r"^tokens must be at most 8 with the cache, got 9$"):
            model(some_tokens(1, 9))
        _, cache = model.extend(some_tokens(1, 6), None)
        with pytest.raises(ValueError, match=r"^tokens must be at most 8 with the cache, got 9$"):
            model.extend(some_tokens(1, 3), cache)
        with pytest.raises(ValueError, match=r"^tokens must hold integers in 0\.\.4, got 0 to 5$"):
            model([[0, 5]])
        with pytest.raises(ValueError, match=r"^tokens must hold integers, shape \(N, T\)"):
            model([[0.5]])
        with pytest.raises(ValueError, match=r"^tokens must be sequences of one length"):
            model([[0, 1], [2]])


class TestAnswers:
    def test_the_mask_ends_with_the_end_token(self):
        answers = np.array([[1, 4, 4], [4, 1, 4], [1, 2, 3], [1, 2, 4]])
        assert answer_mask(answers, END).tolist() == [
            [True, True, False],
            [True, False, False],
            [True, True, True],
            [True, True, True],
        ]

    def test_the_most_probable_tokens_are_those_of_a_loop(self):
        model, prompts = small(), some_tokens(20, 3)
        drawn = generate(model, prompts, 4, END, None)
        for row, answer in zip(prompts, drawn.tokens, strict=True):
            text = list(row)
            for _ in range(4):
                text.append(int(model([text])[0, -1].argmax()))
                if text[-1] == END:
                    break
            text += [END] * (7 - len(text))
            assert text[3:] == answer.tolist()
        assert_array_equal(drawn.mask, answer_mask(drawn.tokens, END))

    @pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
    def test_with_and_without_a_cache_the_same_is_drawn(self, temperature):
        model, prompts = small(), some_tokens(50, 3)
        one, other = (
            generate(model, prompts, 5, END, np.random.default_rng(1), temperature=temperature, cached=cached)
            for cached in (True, False)
        )
        assert_array_equal(one.tokens, other.tokens)
        assert_allclose(one.L, other.L, atol=1e-12)
        L, _ = log_prob_and_entropy(model, prompts, one.tokens, END, temperature=temperature)
        assert_allclose(one.L, L.detach(), atol=1e-12)
        assert not one.mask.all()

    def test_log_probabilities_and_entropies_are_those_of_a_loop(self):
        model, prompts, answers = small(), some_tokens(30, 3), some_tokens(30, 4, seed=1)
        L, H = log_prob_and_entropy(model, prompts, answers, END, temperature=0.7)
        for row, answer, L_row, H_row in zip(prompts, answers, L, H, strict=True):
            text, ended = list(row), False
            for t, a in enumerate(answer):
                pi = special.softmax(model([text])[0, -1].detach().numpy() / 0.7)
                assert_allclose(L_row[t].item(), 0 if ended else np.log(pi[a]), atol=1e-12)
                assert_allclose(H_row[t].item(), 0 if ended else stats.entropy(pi), atol=1e-12)
                ended = ended or a == END
                text.append(int(a))
        assert (answers == END)[:, :-1].any()

    def test_what_stands_behind_the_end_does_not_count(self):
        model, prompts = small(), some_tokens(30, 3)
        answers = some_tokens(30, 4, seed=1)
        answers[:, 1] = END
        other = answers.copy()
        other[:, 2:] = (other[:, 2:] + 1) % K
        gradients = []
        for a in (answers, other):
            model.zero_grad()
            L, H = log_prob_and_entropy(model, prompts, a, END)
            assert not L[:, 2:].any()
            assert not H[:, 2:].any()
            (L.sum() + H.sum()).backward()
            gradients.append(torch.cat([w.grad.flatten() for w in model.parameters()]))
        assert_allclose(*gradients, atol=1e-12)

    def test_tokens_are_drawn_with_their_probabilities(self):
        """A χ² test of 20,000 answers of two tokens, at a level of 1e-7."""
        model, prompt = small(scale=1.0), [[1, 2]]
        drawn = generate(model, np.repeat(prompt, 20_000, axis=0), 2, END, np.random.default_rng(0))
        answers = np.array([(a, b) for a in range(K) for b in range(K) if a != END or b == END])
        L, _ = log_prob_and_entropy(model, np.repeat(prompt, len(answers), axis=0), answers, END)
        P = L.sum(dim=1).exp().detach().numpy()
        assert_allclose(P.sum(), 1, atol=1e-12)
        counts = [(drawn.tokens == answer).all(axis=1).sum() for answer in answers]
        assert stats.chisquare(counts, 20_000 * P).pvalue > 1e-7

    def test_a_low_temperature_draws_the_most_probable(self):
        model, prompts = small(), some_tokens(20, 3)
        cold = generate(model, prompts, 4, END, np.random.default_rng(0), temperature=1e-6)
        assert_array_equal(cold.tokens, generate(model, prompts, 4, END, None).tokens)

    def test_what_makes_no_sense_is_refused(self):
        model, rng = small(), np.random.default_rng(0)
        with pytest.raises(ValueError, match=r"^temperature must be a positive number, got 0$"):
            generate(model, some_tokens(2, 3), 4, END, rng, temperature=0)
        with pytest.raises(ValueError, match=r"^prompts must be sequences of one length"):
            generate(model, [[1, 2], [3]], 4, END, rng)
        with pytest.raises(ValueError, match=r"^prompts must hold integers, shape \(N, T\)"):
            generate(model, np.zeros((0, 3), int), 4, END, rng)
        with pytest.raises(ValueError, match=r"^answers must be one for each of 2 prompts, got 3$"):
            log_prob_and_entropy(model, some_tokens(2, 3), some_tokens(3, 3), END)
        with torch.no_grad():
            model.logits.bias[0] = torch.nan
        with pytest.raises(ValueError, match=r"^the policy must give finite logits, got nan"):
            generate(model, some_tokens(2, 3), 4, END, rng)
