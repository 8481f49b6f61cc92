"""Signal and noise of gradient estimates for Pong, and their direction, by the weights of the scores.

python benchmarks/gradient_noise.py [--groups 32] [--decisions 8192]

The untrained policy of the first recorded run, and those saved during its training, play groups of points.
Every estimator is applied to the same points. They differ in what multiplies the score of each action:
"total" is the total return, "γ = 0.97" the discounted reward-to-go, without a baseline, minus the
leave-one-out baseline, or standardised. Only the gradient by the first layer's weights is looked at, which
are nearly all weights.

Let g and g' be the estimates of two groups. The mean of g·g' over pairs is the squared length of what they
have in common, the signal. The mean of g·g minus the signal is the noise. Intervals are jackknives over
groups. The table is kept in ``pgcourse/experiments/comparisons/gradient_noise.json``, which chapter 6 draws.
"""

import argparse
import json

import numpy as np
import report
import torch
from scipy.stats import t
from tqdm import tqdm

from pgcourse.algorithms.collect import collect_episodes
from pgcourse.environments import pong
from pgcourse.experiments import records
from pgcourse.maths.returns import (
    leave_one_out_baseline,
    pad_episodes,
    reward_to_go,
    standardize,
    surrogate,
    total_return,
)
from pgcourse.networks.mlp import single_thread
from pgcourse.networks.pixels import PixelPolicy

RESULTS = records.COMPARISONS_DIR / "gradient_noise.json"
GAMMA = 0.97


def less_leave_one_out(G, mask):
    return G - leave_one_out_baseline(G, mask)


ESTIMATORS = {  # from rewards and step mask to the weights of the scores
    "total": lambda r, mask: total_return(r),
    "total, leave-one-out": lambda r, mask: less_leave_one_out(total_return(r), mask),
    "γ = 0.97": lambda r, mask: reward_to_go(r, GAMMA),
    "γ = 0.97, leave-one-out": lambda r, mask: less_leave_one_out(reward_to_go(r, GAMMA), mask),
    "γ = 0.97, standardised": lambda r, mask: standardize(reward_to_go(r, GAMMA), mask),
}
UNBIASED = list(ESTIMATORS).index("total, leave-one-out")  # the others' directions are compared with its
WITHOUT_BASELINE = (0, 0, 2, 2, 4)  # of each estimator: which has the same returns, but no baseline


def estimates(policy, episodes):
    """Return the estimates of ∂J/∂W₁ from these episodes, shape (n_estimators, n_weights)."""
    s, a = (np.concatenate([getattr(episode, name) for episode in episodes]) for name in "sa")
    r, mask = pad_episodes([episode.r for episode in episodes])
    L, gradients = policy.log_prob(s, a), []
    for weights in ESTIMATORS.values():
        G = torch.as_tensor(weights(r, mask)[mask], dtype=L.dtype)
        J_hat = surrogate(L, G, n=len(episodes))
        [gradient] = torch.autograd.grad(J_hat, policy.trunk.W1, retain_graph=True)
        gradients.append(gradient.flatten().numpy())
    return np.array(gradients)


def inner_products(policy, n_groups, n_decisions, progress):
    """Return g·g' of all pairs of groups, and g·u' with the unbiased estimates u'.

    Both have shape (n_estimators, n_groups, n_groups).
    """
    games = pong.Pong(16)
    g = np.empty((len(ESTIMATORS), n_groups, policy.trunk.W1.numel()), np.float32)
    with single_thread():
        for seed in range(n_groups):
            episodes = collect_episodes(games, policy, n_decisions, np.random.default_rng(seed))
            g[:, seed] = estimates(policy, episodes)
            progress.update()
    games.close()
    return np.array([g_k @ g_k.T for g_k in g]), np.array([g_k @ g[UNBIASED].T for g_k in g])


def statistics(own, with_unbiased, of_unbiased, without_baseline, n_decisions):
    """Return what describes an estimator, from inner products of shape (n_groups, n_groups).

    These are its signal-to-noise ratio for 5,000 decisions, the cosine between its mean and that of the
    unbiased estimator, and its noise divided by that without a baseline.
    """
    pairs = ~np.eye(len(own), dtype=bool)
    signal, common, unbiased_signal = (x[pairs].mean() for x in (own, with_unbiased, of_unbiased))
    noise = np.diag(own).mean() - signal
    relative_noise = noise / (np.diag(without_baseline).mean() - without_baseline[pairs].mean())
    measurable = min(signal, unbiased_signal) > 0
    cosine = common / np.sqrt(signal * unbiased_signal) if measurable else np.nan
    return np.array([signal / noise * 5000 / n_decisions, cosine, relative_noise])


def jackknife(products, n_decisions):
    """Return each statistic and the half-width of its 95 % interval, leaving out one group at a time."""
    n = len(products[0])
    rest = [np.delete(np.arange(n), k) for k in range(n)]
    replicates = np.array([statistics(*(p[np.ix_(k, k)] for p in products), n_decisions) for k in rest])
    half_width = t.ppf(0.975, n - 1) * np.sqrt((n - 1) * replicates.var(axis=0))
    return np.transpose([statistics(*products, n_decisions), half_width])


def measure(n_groups, n_decisions):
    """Return a row for each policy and each estimator."""
    record = records.load("reinforce/pong")[0]
    policies = {0: PixelPolicy(seed=record.seed)} | {n: record.policy(n) for n in record.policy_steps()}
    rows = []
    with tqdm(total=n_groups * len(policies), unit=" groups") as progress:
        for n_steps, policy in policies.items():
            own, with_unbiased = inner_products(policy, n_groups, n_decisions, progress)
            for k, name in enumerate(ESTIMATORS):
                products = (own[k], with_unbiased[k], own[UNBIASED], own[WITHOUT_BASELINE[k]])
                rounded = [[float(f"{x:.4g}") for x in pair] for pair in jackknife(products, n_decisions)]
                columns = dict(zip(("signal_to_noise", "cosine", "noise"), rounded, strict=True))
                rows.append({"n_steps": n_steps, "estimator": name} | columns)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=32, help="groups of points of each policy (default 32)")
    parser.add_argument("--decisions", type=int, default=8192, help="least steps in a group (default 8,192)")
    args = parser.parse_args()
    rows = measure(args.groups, args.decisions)
    results = {
        "n_groups": args.groups,
        "n_decisions": args.decisions,
        "made": report.provenance(),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(results)


def show(results):
    report.print_provenance(results["made"])
    report.print_header("training steps; estimator", "signal to noise", "cosine", "noise")
    for row in results["rows"]:
        n_steps, estimator, *pairs = row.values()
        cells = ("" if np.isnan(x) else f"{x:.3f} ± {half_width:.3f}" for x, half_width in pairs)
        report.print_row(f"{n_steps:,}; {estimator}", *cells)


if __name__ == "__main__":
    main()
