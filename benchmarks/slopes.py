"""How good estimates of Pong's slope are, by each way of crediting: their signal against their noise, and where their mean points.

python benchmarks/slopes.py [--groups 32] [--decisions 8192]

The newborn policy of the first recorded run, and those that were kept while it learnt, play groups of points, and each way credits the same
points. Of the slope only that of the first layer is looked at, which has nearly all weights. With g and g' the estimates of two groups, the
mean of g·g' over pairs is the squared length of what they have in common, the signal; what the mean of g·g has in excess of it is noise.
Intervals are jackknives over groups. The table is kept in ``pgcourse/comparisons/slopes.json``, which chapter 6 draws.
"""

import argparse
import json

import numpy as np
import report
import torch
from scipy.stats import t
from tqdm import tqdm

from pgcourse.algorithms.reinforce import Reinforce, objective
from pgcourse.environments import pong
from pgcourse.experiments import records
from pgcourse.maths.returns import leave_one_out, padded, reward_to_go, standardized, total_return
from pgcourse.networks.mlp import one_thread
from pgcourse.networks.pixels import PixelPolicy

KEPT = records.COMPARED / "slopes.json"
WAYS = {
    "total": lambda r, live: total_return(r),
    "total, less others": lambda r, live: total_return(r) - leave_one_out(total_return(r), live),
    "γ = 0.97": lambda r, live: reward_to_go(r, 0.97),
    "γ = 0.97, less others": lambda r, live: (
        reward_to_go(r, 0.97) - leave_one_out(reward_to_go(r, 0.97), live)
    ),
    "γ = 0.97, whitened": lambda r, live: standardized(reward_to_go(r, 0.97), live),
}
UNBIASED = list(WAYS).index("total, less others")  # against its direction those of the others are judged
PLAIN = (0, 0, 2, 2, 4)  # of each way, the same credits without a baseline, or itself


def estimates(policy, points):
    """Return the slope by W₁ that these points suggest, by each way of crediting, shape (n_ways, n_weights)."""
    s, a = (np.concatenate([getattr(point, name) for point in points]) for name in "sa")
    r, live = padded([point.r for point in points])
    L, found = policy.log_prob(s, a), []
    for way in WAYS.values():
        J = objective(L, torch.as_tensor(way(r, live)[live], dtype=L.dtype), len(points))
        found.append(torch.autograd.grad(J, policy.W1, retain_graph=True)[0].flatten().numpy())
    return np.array(found)


def products(policy, n_groups, n_decisions, bar):
    """Return g·g' of all pairs of groups, shape (n_ways, n_groups, n_groups); and the same where g' is the unbiased way's."""
    games, g = pong.Pong(16), np.empty((len(WAYS), n_groups, policy.W1.numel()), np.float32)
    with one_thread():
        for seed in range(n_groups):
            g[:, seed] = estimates(
                policy, Reinforce(games, policy, batch_size=n_decisions, seed=seed)._collect()
            )
            bar.update()
    games.close()
    return np.array([way @ way.T for way in g]), np.array([way @ g[UNBIASED].T for way in g])


def statistics(own, across, unbiased, plain, n_decisions):
    """Return signal to noise for 5,000 decisions, the cosine of this way's mean and the unbiased one's, and what is left of the noise."""
    apart = ~np.eye(len(own), dtype=bool)
    signal, common, slope = (products[apart].mean() for products in (own, across, unbiased))
    noise = np.diag(own).mean() - signal
    share = noise / (np.diag(plain).mean() - plain[apart].mean())
    cosine = (
        common / np.sqrt(signal * slope) if min(signal, slope) > 0 else np.nan
    )  # nothing in common, as far as one can see
    return np.array([signal / noise * 5000 / n_decisions, cosine, share])


def jackknife(products, n_decisions):
    """Return for each of the statistics its value and the half-width of its 95 % interval, from leaving out one group after the other."""
    n = len(products[0])
    rest = [np.delete(np.arange(n), k) for k in range(n)]
    parts = np.array([statistics(*(p[np.ix_(k, k)] for p in products), n_decisions) for k in rest])
    half = t.ppf(0.975, n - 1) * np.sqrt((n - 1) * parts.var(axis=0))
    return np.transpose([statistics(*products, n_decisions), half])


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--groups", type=int, default=32, help="groups of points that each policy plays")
    options.add_argument("--decisions", type=int, default=8192, help="decisions in a group, at least")
    options = options.parse_args()
    record = records.load("reinforce/pong")[0]
    agents = {0: PixelPolicy(seed=record.seed)} | {
        n_steps: record.policy(n_steps) for n_steps in record.kept()
    }
    rows = []
    with tqdm(total=options.groups * len(agents), unit=" groups") as bar:
        for n_steps, policy in agents.items():
            own, across = products(policy, options.groups, options.decisions, bar)
            for k, way in enumerate(WAYS):
                found = jackknife((own[k], across[k], own[UNBIASED], own[PLAIN[k]]), options.decisions)
                pairs = ([float(f"{x:.4g}") for x in pair] for pair in found)
                rows.append(
                    {"n_steps": n_steps, "way": way}
                    | dict(zip(("signal_to_noise", "cosine", "noise"), pairs, strict=True))
                )
    about = {
        "n_groups": options.groups,
        "n_decisions": options.decisions,
        "made": report.made(),
        "rows": rows,
    }
    KEPT.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(about)


def show(about):
    report.about(about["made"])
    report.head("decisions learnt from, way of crediting", "signal to noise", "cosine", "noise")
    for row in about["rows"]:
        n_steps, way, *pairs = row.values()
        cells = (f"{middle:.3f} ± {half:.3f}" if middle == middle else "" for middle, half in pairs)
        report.row(f"{n_steps:,}; {way}", *cells)


if __name__ == "__main__":
    main()
