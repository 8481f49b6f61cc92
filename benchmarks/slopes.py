"""How good estimates of Pong's slope are, by each way of crediting: their signal against their noise, and where their mean points.

python benchmarks/slopes.py [--groups 24] [--decisions 8192]

Every policy that was kept of the first recorded run plays groups of points, and each way credits the same points. Of the slope only that of
the first layer is looked at, which has nearly all weights. With g and g' the estimates of two groups, the mean of g·g' over pairs is the
squared length of what they have in common, the signal; what the mean of g·g has in excess of it is noise. Intervals are jackknives over
groups. The table is kept in ``pgcourse/comparisons/slopes.json``, which chapter 6 draws.
"""

import argparse
import json

import numpy as np
import torch
from scipy.stats import t
from tqdm import tqdm

from pgcourse import pong, records
from pgcourse.networks import one_thread
from pgcourse.reinforce import Reinforce, objective
from pgcourse.returns import leave_one_out, padded, reward_to_go, standardized, total_return

KEPT = records.COMPARED / "slopes.json"
WAYS = {
    "total": lambda r, live: total_return(r),
    "total, less others": lambda r, live: total_return(r) - leave_one_out(total_return(r), live),
    "γ = 0.97": lambda r, live: reward_to_go(r, 0.97),
    "γ = 0.97, less others": lambda r, live: reward_to_go(r, 0.97) - leave_one_out(reward_to_go(r, 0.97), live),
    "γ = 0.97, whitened": lambda r, live: standardized(reward_to_go(r, 0.97), live),
}
UNBIASED = list(WAYS).index("total, less others")  # the less noisy of the two, against which the directions of the others are judged


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
            g[:, seed] = estimates(policy, Reinforce(games, policy, batch_size=n_decisions, seed=seed)._collect())
            bar.update()
    games.close()
    return np.array([way @ way.T for way in g]), np.array([way @ g[UNBIASED].T for way in g])


def statistics(own, across, unbiased, n_decisions):
    """Return signal to noise for 5,000 decisions, and the cosine between this way's mean and the unbiased one's."""
    apart = ~np.eye(len(own), dtype=bool)
    signal, common, slope = (products[apart].mean() for products in (own, across, unbiased))
    noise = np.diag(own).mean() - signal
    cosine = common / np.sqrt(signal * slope) if min(signal, slope) > 0 else np.nan  # nothing in common, as far as one can see
    return np.array([signal / noise * 5000 / n_decisions, cosine])


def jackknife(own, across, unbiased, n_decisions):
    """Return for each of the statistics its value and the half-width of its 95 % interval, from leaving out one group after the other."""
    n = len(own)
    rest = [np.delete(np.arange(n), k) for k in range(n)]
    parts = np.array([statistics(*(products[np.ix_(k, k)] for products in (own, across, unbiased)), n_decisions) for k in rest])
    half = t.ppf(0.975, n - 1) * np.sqrt((n - 1) * parts.var(axis=0))
    return np.transpose([statistics(own, across, unbiased, n_decisions), half])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--groups", type=int, default=24, help="groups of points that each policy plays")
    options.add_argument("--decisions", type=int, default=8192, help="decisions in a group, at least")
    options = options.parse_args()
    record = records.load("reinforce/pong")[0]
    rows = []
    with tqdm(total=options.groups * len(record.kept()), unit=" groups") as bar:
        for n_steps in record.kept():
            own, across = products(record.policy(n_steps), options.groups, options.decisions, bar)
            for k, way in enumerate(WAYS):
                found = jackknife(own[k], across[k], own[UNBIASED], options.decisions)
                signal_to_noise, cosine = [[float(f"{x:.4g}") for x in pair] for pair in found]
                rows.append({"n_steps": n_steps, "way": way, "signal_to_noise": signal_to_noise, "cosine": cosine})
    about = {"n_groups": options.groups, "n_decisions": options.decisions, "made": records.provenance(), "rows": rows}
    KEPT.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for row in rows:
        (signal, half), (cosine, half_cosine) = row["signal_to_noise"], row["cosine"]
        print(f"{row['n_steps']:8} {row['way']:22} {signal:8.4f} ± {half:.4f}   cosine {cosine:6.3f} ± {half_cosine:.3f}")


if __name__ == "__main__":
    main()
