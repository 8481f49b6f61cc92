"""Rollouts that an algorithm collects, for tests to compute with."""

from pgcourse.algorithms.collect import collect_rollout


def record_rollouts(monkeypatch, module):
    """Return a list to which every rollout that a module collects is appended."""
    rollouts = []

    def record(*args):
        rollouts.append(collect_rollout(*args))
        return rollouts[-1]

    monkeypatch.setattr(module, "collect_rollout", record)
    return rollouts
