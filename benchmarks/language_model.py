"""How many tokens a second are drawn, in batches and with a cache, against the plain loop and transformers.

python benchmarks/language_model.py [--peers]

The model is the transformer of the chapter, with 102,413 weights; that of transformers is a GPT-2 of the same
layers, widths and heads. No answer ends early. With --peers, transformers must be installed.
"""

import argparse
import os
import timeit

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of them

import numpy as np
import report
import torch

from pgcourse.environments.addition import Addition
from pgcourse.networks.autoregressive import generate
from pgcourse.networks.transformer import Transformer

N_TOKENS = Addition.n_tokens
NEVER = N_TOKENS  # an end token that is never drawn
TEXTS = {"512 sums, 4 tokens each": (512, 4), "64 texts, 120 tokens each": (64, 120)}


def tokens_per_second(draw, n_tokens, n_repeats):
    return n_tokens / min(timeit.repeat(draw, number=1, repeat=n_repeats))


def ours(model, prompts, length, *, cached, batched):
    rng = np.random.default_rng(0)
    parts = [prompts] if batched else np.split(prompts, len(prompts))
    return lambda: [generate(model, part, length, NEVER, rng, cached=cached) for part in parts]


def theirs(length, prompts):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=N_TOKENS,
        n_positions=prompts.shape[1] + length,
        n_embd=64,
        n_layer=2,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model, s = GPT2LMHeadModel(config).eval(), torch.from_numpy(prompts)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": length, "min_new_tokens": length}
    return lambda: model.generate(s, attention_mask=torch.ones_like(s), **options)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", action="store_true", help="measure transformers' generate, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report.print_provenance(report.provenance(*(["transformers"] if arguments.peers else [])))
    report.print_header("tokens a second", *TEXTS)
    kinds = {
        "one text at a time, without a cache": {"cached": False, "batched": False},
        "one text at a time, with a cache": {"cached": True, "batched": False},
        "in a batch, without a cache": {"cached": False, "batched": True},
        "in a batch, with a cache": {"cached": True, "batched": True},
    }
    cases = []
    for n, length in TEXTS.values():
        prompts = Addition().sample(n, np.random.default_rng(0))
        cases.append((n * length, length, prompts, Transformer(N_TOKENS, prompts.shape[1] + length)))
    speeds = {}
    for name, kind in kinds.items():
        speeds[name] = [
            tokens_per_second(ours(model, prompts, length, **kind), n, 5 if kind["batched"] else 1)
            for n, length, prompts, model in cases
        ]
        report.print_row(name, *(f"{speed:,.0f}" for speed in speeds[name]))
    if arguments.peers:
        row = [tokens_per_second(theirs(length, s), n, 5) for n, length, s, _ in cases]
        report.print_row("`generate` of transformers", *(f"{speed:,.0f}" for speed in row))
    plain, *_, fast = speeds.values()
    report.print_row(
        "batch and cache / plain loop", *(f"{x / y:.0f}" for x, y in zip(fast, plain, strict=True))
    )


if __name__ == "__main__":
    main()
