"""Each benchmark has its table beside it, the table says how to repeat it, and the book shows them all."""

import datetime
import itertools
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.testing import assert_allclose
from torch import nn

from pgcourse.algorithms.ddpg import DDPG, DDPGConfig
from pgcourse.environments import lqr

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in ("good_calls", "report")
)
PAGE = (ROOT / "book" / "benchmarks.md").read_text(encoding="utf-8")


def tables(text):
    """The rows of each table, as lists of cells."""
    groups = itertools.groupby(text.splitlines(), lambda line: line.startswith("|"))
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        for is_table, lines in groups
        if is_table
    ]


def is_sound(text, script):
    command, empty, provenance, *_ = text.splitlines()
    python, file, *arguments = shlex.split(command.strip("`"))
    assert (python, file, empty) == ("python", f"benchmarks/{script.name}", "")
    options = set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', script.read_text(encoding="utf-8")))
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    date, machine = provenance.split(", commit ")
    assert datetime.date.fromisoformat(date) > datetime.date(2026, 1, 1)
    assert re.fullmatch(r"[0-9a-f]{7}, \d+ × .+; Python 3\.\d+\.\d+, torch \S+, .*numpy \S+.*", machine)
    for header, rule, *rows in tables(text):
        assert set("".join(rule)) <= set(":- ")
        assert rows
        assert all(len(row) == len(header) for row in rows)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_table_says_how_to_repeat_it(script):
    text = script.with_suffix(".md").read_text(encoding="utf-8")
    is_sound(text, script)
    assert tables(text)


def test_the_page_shows_all_of_them_and_nothing_else():
    assert sorted(re.findall(r"\{include\} \.\./benchmarks/(\w+)\.md", PAGE)) == [
        script.stem for script in SCRIPTS
    ]
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.md")} == {script.stem for script in SCRIPTS}


def test_what_is_printed_is_such_a_table(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "dqn.py"), "--seeds", "5", "--n-jobs", "1"])
    import report

    made = report.provenance("ruff")
    assert "ruff" in made["versions"]
    made["commit"] = "0123456789abcdef"  # installed without a repository there is none
    report.print_provenance(made)
    report.print_header("what", "first", "second")
    report.print_row("one", "1", "2")
    printed = capsys.readouterr().out
    is_sound(printed, ROOT / "benchmarks" / "dqn.py")
    assert printed.startswith("`python benchmarks/dqn.py --seeds 5 --n-jobs 1`\n")
    assert tables(printed) == [[["what", "first", "second"], [":---", "---:", "---:"], ["one", "1", "2"]]]


class LinearPolicy(nn.Module):
    """μ(s) = −K s, in double precision."""

    def __init__(self, K):
        super().__init__()
        self.K = nn.Parameter(torch.tensor(K))

    def forward(self, s):
        return -(torch.as_tensor(s, dtype=self.K.dtype) @ self.K.T)

    @torch.no_grad()
    def greedy(self, s):
        return self(s).numpy()


class ExactQ(nn.Module):
    """The Q of a gain in an LQR, in torch."""

    def __init__(self, problem, K):
        super().__init__()
        self.problem, self.values, self.unused = problem, problem.values(K), nn.Parameter(torch.zeros(1))

    def forward(self, s, a):
        names = ("A", "B", "C", "R")
        A, B, C, R, P = map(torch.from_numpy, [*(getattr(self.problem, x) for x in names), self.values.P])
        s, a = s.to(A.dtype), a.to(A.dtype)
        next_s = s @ A.T + a @ B.T
        future = self.problem.gamma * (next_s @ P * next_s).sum(1)
        return -(s @ C * s).sum(1) - (a @ R * a).sum(1) - future - self.values.c


def vector(make, n_envs=1):
    return SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def test_the_exact_q_predicts_the_realised_returns(monkeypatch):
    """Without noise the returns are not random."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from overestimation import predicted_and_realised_returns

    problem, K = lqr.cart(noise_variance=0.0), np.array([[1.0, 1.0]])
    policy, critic, config = LinearPolicy(K), ExactQ(problem, K), DDPGConfig(gamma=problem.gamma)
    learner = DDPG(vector(lambda: problem.env(20)), policy, critic, config)
    env = vector(lambda: problem.env(1000), 3)
    predicted, realised = predicted_and_realised_returns(learner, env, n_steps=30, n_more=600)
    assert predicted.shape == realised.shape == (3, 30)
    assert_allclose(predicted, realised, rtol=1e-6, atol=1e-9)
    env = vector(lambda: problem.env(1000))
    with pytest.raises(ValueError, match=r"^env must not end an episode, got one of 1000 steps$"):
        predicted_and_realised_returns(learner, env, n_steps=30, n_more=971)
