"""The diagrams of the book, in one visual language.

Blue is a policy, green a value function, orange what is learnt from: rewards, returns, labels, TD errors.
Solid arrows carry data forwards, dashed ones learning signals and gradients backwards. A unit of length is a
tenth of an inch, so text of ten points is 1.4 high. Each function draws into a new figure and returns it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import ArrayLike

from pgcourse import checks
from pgcourse.teaching.plots import COLORS

POLICY, SIGNAL, VALUE, _ = COLORS
INK, GREY, PALE = "#1f1f1f", "#6b6b6b", "#b8b8b8"  # not black, which an SVG leaves out and a dark page needs
SIZE, WIDTH = 10, 50  # points and units: on a phone, where a figure is 340 pixels wide, text is 9 high
PI = (0.2, 0.5, 0.3)
TWO = r"s_t a_t:r_t s_{t+1} a_{t+1}:r_{t+1} \cdots:"
BACKUPS = {  # title; nodes, some with the reward that follows; target
    "mc": ("Monte Carlo", TWO + r"r_T \mathrm{terminal}", r"r_t + \gamma r_{t+1} + \dots + \gamma^{T-t} r_T"),
    "td": ("One-step TD", "s_t a_t:r_t s_{t+1}", r"r_t + \gamma v(s_{t+1})"),
    "n-step": ("n-step TD", TWO + "r_{t+n-1} s_{t+n}", r"r_t + \gamma r_{t+1} + \dots + \gamma^n v(s_{t+n})"),
    "q": ("Q-learning", "s_t,a_t:r_t s_{t+1} a'", r"r_t + \gamma\,\max_{a'}\,Q(s_{t+1}, a')"),
}


def value_and_policy_network() -> Figure:
    """Draw one body with two heads: action values and an argmax; a softmax and a sampled action.

    Slides 2 and 3.
    """
    figure, ax = _canvas(34.6)
    for y, title, about, name, numbers, color, operation in [
        (25.6, "Value-based:", "a head of Q values", "Q(s, a_%d)", (1.3, 2.1, -0.4), VALUE, "argmax"),
        (7.1, "Policy-based:", "the same body, softmax head", r"\pi(a_%d | s)", PI, POLICY, "sample"),
    ]:
        _label(ax, 0, y + 8, title, color, weight="bold", ha="left")
        _label(ax, 14, y + 8, about, ha="left")
        outputs = _network(ax, 20.5, y, color)
        if color == POLICY:
            _box(ax, 25, y, 2.8, 12.4, "softmax", color, rotation=90)
        for k, ((x, row), number) in enumerate(zip(outputs, numbers, strict=True), start=1):
            _arrow(ax, (x + 1.1, row), (29, row))
            _label(ax, 29.7, row, f"${name % k} = {number:.1f}$", ha="left")
            _arrow(ax, (40.4, row), (42.6, row))
        _box(ax, 44, y, 2.8, 12.4, operation, color, rotation=90)
        _arrow(ax, (45.4, y), (47.8, y))
        _label(ax, 49, y, "$a$" if color == POLICY else "$a_2$", size=12)
    return figure


def pong_network() -> Figure:
    """Draw the network for Pong with its shapes: 80 × 80 pixels, 200 hidden units, one sigmoid.

    Slides 12 to 15.
    """
    figure, ax = _canvas(35)
    _label(ax, 5.7, 31.6, "80 × 80\npixels")
    ax.add_patch(Rectangle((0.2, 18.5), 11, 11, facecolor="#f1f1f1", edgecolor=GREY))
    ax.plot([1.4, 9.8, 6.9], [26.2, 22.4, 24.2], "s", color=INK, markersize=3.5)  # what appeared
    ax.plot([1.4, 9.8, 6.1], [24.3, 24.3, 24.9], "s", color=PALE, markersize=3.5)  # what disappeared
    _arrow(ax, (11.6, 24), (15, 24))
    x = _nodes(ax, 16.5, 24 + np.array([4.8, 2.4, 0, -4.8]))
    h = _nodes(ax, 29.5, 24 + np.array([3.6, 1.2, -3.6]), POLICY)
    _edges(ax, x, h, _nodes(ax, 40.5, [24], POLICY))
    for at, dots in [(16.5, 21.6), (29.5, 22.8)]:
        ax.plot([at] * 3, dots + np.array([-0.6, 0, 0.6]), "o", color=INK, markersize=1.5)
    _label(ax, 42.2, 24, r"$\pi(\mathrm{UP} | x)$", POLICY, ha="left")
    for at, vector in [(16.5, "$x$: 6400"), (29.5, "$h$: 200"), (40.5, "$y$: 1")]:
        _label(ax, at, 16.2, vector)
    for at, matrix in [(23, "$W_1$\n200 × 6400"), (35, "$W_2$\n1 × 200")]:
        _label(ax, at, 31.6, matrix)
    _label(ax, 0.2, 10.6, r"$h = \max(0,\ W_1 x + b_1)$", POLICY, ha="left")
    _label(ax, 0.2, 7, r"$y = \sigma(W_2 h + b_2)$", POLICY, ha="left")
    _label(ax, 49.8, 10.6, "200 · 6400 + 200 = 1,280,200", ha="right")
    _label(ax, 49.8, 7, "1 · 200 + 1 = 201", ha="right")
    ax.plot([22, 49.8], [4.8, 4.8], color=INK, linewidth=1)
    _label(ax, 49.8, 2.6, "1,280,401 parameters", weight="bold", ha="right")
    return figure


def k_action_network() -> Figure:
    """Draw a softmax over three actions, the label that the sampled action makes, and their difference.

    Slide 24.
    """
    figure, ax = _canvas(27)
    _box(ax, 24, 15.4, 2.8, 12.4, "softmax", POLICY, rotation=90)
    _box(ax, 38.5, 15.4, 22.6, 3.4, color=SIGNAL)
    for (x, row), p, t in zip(_network(ax, 19.5, 15.4, POLICY), PI, (0, 1, 0), strict=True):
        _arrow(ax, (x + 1.1, row), (27 if t else 28.4, row))
        _label(ax, 31, row, f"{p:.1f}", POLICY)
        _label(ax, 38, row, f"{t}", SIGNAL)
        _label(ax, 45, row, f"{t - p:+.1f}".replace("-", "−"), SIGNAL, weight="bold")
    heads = [(19.5, "z_k", INK), (31, r"\pi_k", POLICY), (38, "t_k", SIGNAL), (45, r"t_k - \pi_k", SIGNAL)]
    for x, name, color in heads:
        _label(ax, x, 24.4, f"${name}$", color, size=12)
    _label(ax, 38.5, 7.2, "sampled action: $t_k = 1$", SIGNAL)
    _label(ax, 25, 2.4, r"$\dfrac{\partial \hat{J}}{\partial z_k} = G\,(t_k - \pi_k)$", size=12)
    return figure


def rollout() -> Figure:
    """Draw the loop of policy and environment, and four rollouts of Pong with their results.

    Slides 19 to 21.
    """
    figure, ax = _canvas(40)
    _box(ax, 8.5, 36, 16, 6.5, "policy network\n$\\pi_w(a | s)$", POLICY)
    _box(ax, 41.5, 36, 16, 6.5, "environment")
    _arrow(ax, (16.7, 36), (33.3, 36), text="sampled action", below=r"$a_t \sim \pi_w(\,\cdot\, | s_t)$")
    _arrow(ax, (41.5, 32.6), (41.5, 28.5), (8.5, 28.5), (8.5, 32.6))
    _label(ax, 25, 30.1, "next state $s_{t+1}$")
    _label(ax, 25, 26.7, "reward $r_t$", SIGNAL)
    _label(ax, 0.2, 21.6, "Four rollouts", weight="bold", ha="left")
    for x, marker, name in [(19.5, "^", "UP"), (26.5, "v", "DOWN")]:
        ax.plot(x, 21.6, marker, color=GREY, markersize=9)
        _label(ax, x + 1.2, 21.6, name, GREY, ha="left")
    games = [("^v^^vvv^", 1), ("v^^v^^", -1), ("^^vvvv^", -1), ("v^^v^^", 1)]
    for y, (actions, G) in zip((16.2, 11.2, 6.2, 1.2), games, strict=True):
        color, end = VALUE if G > 0 else SIGNAL, 1 + 3.8 * len(actions)
        ax.plot([1, end], [y, y], "-s", color=color, linewidth=1, markersize=6, markevery=[1])
        for t, marker in enumerate(actions):
            ax.plot(1 + 3.8 * t, y, marker, color=color, markersize=9)
        _label(ax, 35.5, y, "WIN" if G > 0 else "LOSS", color, weight="bold", ha="left")
        _label(ax, 49.8, y, f"$G = {G:+d}$", color, ha="right")
    return figure


def reinforce_loop() -> Figure:
    """Draw REINFORCE as a loop: sample episodes, differentiate the surrogate objective, take a step.

    Slides 28 and 31.
    """
    figure, ax = _canvas(46)
    surrogate = r"$\hat{J}(w) = \dfrac{1}{\mathcal{E}}\,\sum_{e}\, G_e\, \sum_t\, \log \pi_w(a_t | s_t)$"
    step = r"$w \leftarrow w + \eta\,\dfrac{\partial \hat{J}}{\partial w}$"
    for y, height, title, formula, color in [
        (41.5, 8.4, "1. Sample episodes", r"$\tau_1, \dots, \tau_{\mathcal{E}} \sim \pi_w$", POLICY),
        (24.2, 11.6, "2. Differentiate the surrogate objective", surrogate, SIGNAL),
        (6, 10.5, "3. Take a step of gradient ascent", step, POLICY),
    ]:
        _box(ax, 21, y, 41.6, height, color=color)
        _label(ax, 21, y + height / 2 - 2.2, title, weight="bold")
        _label(ax, 21, y - 1.4, formula, size=12)
    _arrow(ax, (21, 37.2), (21, 30.2), text="states, actions, returns $G_e$")
    _arrow(ax, (21, 18.3), (21, 11.4), text=r"an estimate of $\partial J/\partial w$")
    _arrow(ax, (41.9, 6), (45.6, 6), (45.6, 41.5), (42, 41.5))
    _label(ax, 48, 23.7, "new policy, new episodes", rotation=90)
    return figure


def imitation_and_reinforcement() -> Figure:
    """Draw the same update twice: labels from an expert, weight 1; labels from our own actions, weight G.

    Slides 16 to 23.
    """
    figure, ax = _canvas(46)
    for x, title, source, label, weight, when in [
        (11.5, "Imitation learning", "expert", "expert’s action", "1", "always"),
        (38.5, "Reinforcement learning", "own policy", "sampled action", "G", "+1 WIN, −1 LOSS"),
    ]:
        _label(ax, x, 44.5, title, weight="bold")
        _box(ax, x, 39.3, 17, 4.6, source, POLICY if "own" in source else GREY)
        _arrow(ax, (x, 36.9), (x, 32.9))
        _box(ax, x, 29, 22.6, 7.4, f"label $t$ for $x$\n{label}", SIGNAL)
        _arrow(ax, (x, 25.2), (x, 21.7))
        _label(ax, x, 19.9, rf"weight $\mathbf{{{weight}}}$", SIGNAL, weight="bold")
        _label(ax, x, 17.2, when, SIGNAL)
        _arrow(ax, (x, 15.4), (x, 11.5))
    _box(ax, 25, 5.9, 49.6, 11, color=POLICY)
    _label(ax, 25, 9.2, "the same update of the policy network", weight="bold")
    update = r"$w \leftarrow w + \eta \cdot \mathrm{weight} \cdot \dfrac{\partial L}{\partial w},"
    _label(ax, 25, 4.2, update + r" \qquad L = \log \pi_w(t | x)$", size=12)
    return figure


def episode_tree() -> Figure:
    """Draw all 64 episodes of three steps with two actions and two outcomes, and the probability of one.

    Slide 33. The one crosses and stays twice, in ``worlds.chain`` with the policy of chapter 5.
    """
    figure, ax = _canvas(50)
    factors = ("0.62", "0.8", "0.60", "0.9", "0.60", "0.9")
    columns = (4, 13.5, 22, 30, 37, 43.5, 49)
    rows = [np.linspace(43.5, 11, 64)]
    for _ in factors:
        rows.insert(0, rows[0].reshape(-1, 2).mean(axis=1))
    for depth, (x, ys, size) in enumerate(zip(columns, rows, (14, 10, 10, 7, 5, 3, 3), strict=True)):
        state = depth % 2 == 0
        if depth:
            left, before = columns[depth - 1], rows[depth - 1]
            fan = np.stack([np.repeat(before, 2), ys, np.full(len(ys), np.nan)], axis=1).ravel()
            color, pale = (INK, PALE) if state else (POLICY, "#8fb8d6")
            ax.plot(np.tile([left, x, np.nan], len(ys)), fan, color=pale, linewidth=0.8)
            ax.plot([left, x], [before[0], ys[0]], color=SIGNAL, linewidth=2.2)
            middle = (left + x) / 2 - (2.4, 1, 0.4, 0, 0, 0)[depth - 1]
            _label(ax, middle, (before[0] + ys[0]) / 2 + 1.5, factors[depth - 1], color)
        face = "white" if state else INK
        ax.plot(np.full(len(ys), x), ys, "o", color=INK, mfc=face, markersize=size, mew=1, zorder=3)
    for step in (1, 2, 3):
        _label(ax, columns[2 * step - 1], 48.7, f"step {step}", GREY)
    _label(ax, 0.2, 12, r"— $\pi(a | s)$", POLICY, ha="left")
    _label(ax, 0.2, 8, "— $P(s' | s, a)$", ha="left")
    _label(ax, 49.8, 8, "64 episodes", ha="right")
    product = r" \cdot ".join(factors)
    _label(ax, 0.2, 2.2, rf"$P(\tau) = {product} \approx 0.145$", SIGNAL, size=12, ha="left")
    return figure


def actor_critic_system() -> Figure:
    """Draw actor, critic and environment, and the TD error that goes to both.

    Slide 60.
    """
    figure, ax = _canvas(42)
    _label(ax, 25, 40.3, r"$\delta = r + \gamma v(s') - v(s)$", SIGNAL, size=12)
    _box(ax, 6.5, 31, 12.6, 9, "actor\n$\\pi_w(a | s)$", POLICY)
    _box(ax, 25, 31, 11, 9, "TD error\n$\\delta$", SIGNAL)
    _box(ax, 43.5, 31, 12.6, 9, "critic\n$v(s; w')$", VALUE)
    _box(ax, 25, 13, 49.6, 5.4, "environment")
    _arrow(ax, (3.5, 26.4), (3.5, 15.9), text="$a$")
    _arrow(ax, (9.5, 15.8), (9.5, 26.3), text="$s$")
    _arrow(ax, (25, 15.8), (25, 26.3), text="$r$", color=SIGNAL)
    _arrow(ax, (43.5, 15.8), (43.5, 26.3), text="$s, s'$")
    _arrow(ax, (37.1, 33.6), (30.7, 33.6))
    _label(ax, 34, 36.8, "$v(s), v(s')$")
    _arrow(ax, (30.6, 29), (37, 29), below=r"$\delta$", color=SIGNAL, dashed=True)
    _arrow(ax, (19.4, 31), (13, 31), below=r"$\delta$", color=SIGNAL, dashed=True)
    actor = r"$w \leftarrow w + \eta\,\delta\,\dfrac{\partial \log \pi_w(a | s)}{\partial w}$"
    _label(ax, 0.2, 4, actor, POLICY, ha="left")
    critic = r"$w' \leftarrow w' + \eta'\,\delta\,\dfrac{\partial v(s; w')}{\partial w'}$"
    _label(ax, 49.8, 4, critic, VALUE, ha="right")
    return figure


def backup(kind: str) -> Figure:
    """Draw a backup diagram: states are open circles, actions filled ones, the terminal state is a square.

    Args:
        kind: ``"mc"``, ``"td"``, ``"n-step"`` or ``"q"``.

    Slides 57 to 59; Sutton & Barto (2018), chapters 5 to 7. Green is updated, or used to do so.
    """
    checks.one_of(BACKUPS, kind=kind)
    title, chain, target = BACKUPS[kind]
    q, nodes = kind == "q", chain.split()
    figure, ax = _canvas(20 if q else 15)
    y, gap = (9.4, 12) if q else (8, 8.6)
    xs = 25 + gap * (np.arange(len(nodes)) - (len(nodes) - 1) / 2)
    _label(ax, 0.2, 18.6 if q else 13.6, title, weight="bold", ha="left")
    for k, (x, node) in enumerate(zip(xs, nodes, strict=True)):
        name, _, reward = node.partition(":")
        rows = [y + 4.4, y, y - 4.4] if name == "a'" else [y]
        for row in rows if k else []:
            _arrow(ax, (xs[k - 1] + 1.1, y), (x - 1.1, row))
        if "terminal" in name:
            ax.plot(x, y, "s", color=INK, markersize=12)
        elif "dots" not in name:
            _nodes(ax, x, rows, VALUE if k in (0, len(nodes) - 1) else INK, filled="a" in name)
        _label(ax, x + 3 * (name == "a'"), y - 3.2 * (len(rows) == 1 and "dots" not in name), f"${name}$")
        if reward:
            _label(ax, x + gap / 2, y + 1.6, f"${reward}$", SIGNAL)
    if q:
        ax.add_patch(Arc((xs[1], y), 9, 9, theta1=-20, theta2=20, color=VALUE, linewidth=1.3))
        _label(ax, xs[1] + 3.4, y + 4.8, "max", VALUE)
    _label(ax, 25, 1.4, f"target for {'$Q(s_t, a_t)$' if q else '$v(s_t)$'}: ${target}$")
    return figure


def ddpg_networks() -> Figure:
    """Draw the data and gradient flow of DDPG: act and store; improve the critic; improve the actor.

    Slides 65 and 66, whose lines are numbered.
    """
    figure, ax = _canvas(73)
    titles = ("1. Act and store", "2–4. Improve the critic", "5. Improve the actor", "6. Target networks")
    for y, title in zip((71.5, 58.8, 27, 1.6), titles, strict=True):
        _label(ax, 0.2, y, title, size=12, ha="left")
    for y, prime in [(65.6, ""), (50, "'"), (18, "")]:
        target, w_1, w_2 = ("target ", "", "") if prime else ("", "; w_1", "; w_2")
        _label(ax, 1.2, y, f"$s{prime}$", size=12)
        _arrow(ax, (2.8, y), (5, y))
        _box(ax, 11.6, y, 12.9, 6, f"{target}actor\n$\\mu{prime}(s{prime}{w_2})$", POLICY)
        end, noise = (23.2, "noise") if y > 60 else (24.2, "")
        _arrow(ax, (18.1, y), (end, y), text=f"$a{prime}$", below=noise)
        if y < 60:
            _box(ax, 31, y, 13.2, 6, f"{target}critic\n$Q{prime}(s{prime}, a{prime}{w_1})$", VALUE)
            _arrow(ax, (1.3, y + 1.6), (1.3, y + 5.4), (31, y + 5.4), (31, y + 3.2))
            _arrow(ax, (37.7, y), (41, y))
    _box(ax, 28.9, 65.6, 11.2, 6, "environment")
    _arrow(ax, (34.6, 65.6), (36.5, 65.6))
    _box(ax, 43.3, 65.6, 13, 6, "replay buffer\n$(s, a, r, s')$", GREY)
    _box(ax, 45.5, 50, 8.6, 6, "target\n$y$", SIGNAL)
    _arrow(ax, (45.5, 46.9), (45.5, 42.8))
    _box(ax, 45.5, 39.5, 8.6, 6, "error\n$y - Q$", SIGNAL)
    _label(ax, 18.8, 39.5, "$s, a$", size=12)
    _arrow(ax, (21.6, 39.5), (24.2, 39.5))
    _box(ax, 31, 39.5, 13.2, 6, "critic\n$Q(s, a; w_1)$", VALUE)
    _arrow(ax, (37.7, 41.1), (41, 41.1))
    _arrow(ax, (41.1, 37.9), (37.8, 37.9), color=SIGNAL, dashed=True)
    _arrow(ax, (24.2, 16), (18.3, 16), color=SIGNAL, dashed=True)
    _arrow(ax, (41.1, 16), (37.8, 16), color=SIGNAL, dashed=True)
    _label(ax, 21.2, 12.5, r"$\dfrac{\partial Q}{\partial a}$", SIGNAL)
    _label(ax, 42.6, 18, "$Q$", size=12)
    actor = r"$w_2 \leftarrow w_2 + \eta\,\dfrac{\partial Q}{\partial a}\,\dfrac{\partial \mu}{\partial w_2}$"
    critic = r"$w_1 \leftarrow w_1 + \eta'\,(y - Q)\,\dfrac{\partial Q}{\partial w_1}$"
    _label(ax, 0.2, 44.5, r"$y = r + \gamma\,Q'(s', a')$", SIGNAL, ha="left")
    _label(ax, 0.2, 33, critic, VALUE, ha="left")
    _label(ax, 0.2, 7.5, actor, POLICY, ha="left")
    _label(ax, 49.8, 1.6, r"$w' \leftarrow w' + \tau\,(w - w')$", ha="right")
    return figure


def pixel_networks() -> Figure:
    """Draw an encoder of three frames whose features go to a critic, and detached to an actor.

    Slide 62, with what was learnt since.
    """
    figure, ax = _canvas(31)
    for k in range(3):
        corner = (1 + 0.9 * k, 15.5 - 0.9 * k)
        ax.add_patch(Rectangle(corner, 6.4, 6.4, ec=INK, fc=_tint(GREY), linewidth=1.3, zorder=2 + 0.1 * k))
    _label(ax, 6.2, 16.9, "$s$", size=12, zorder=3)
    _label(ax, 5, 9.6, "3 frames\n32 × 32")
    _arrow(ax, (9.6, 18), (12, 18))
    _box(ax, 17.6, 18, 11, 6, "encoder\n$\\varphi(s; w_1)$", VALUE)
    _arrow(ax, (23.2, 18), (26.4, 18))
    _box(ax, 30, 18, 7, 6, "features\n50", GREY)
    _arrow(ax, (30, 21.1), (30, 25), (35.4, 25))
    _box(ax, 41.9, 25, 12.8, 6, "critic\n$Q(\\varphi, a; w_1)$", VALUE)
    _arrow(ax, (30, 14.9), (30, 9), (35.4, 9))
    _box(ax, 41.9, 9, 12.8, 6, "actor\n$\\mu(\\varphi; w_2)$", POLICY)
    ax.plot([31.6, 33.4], [7.4, 10.6], color=POLICY, linewidth=1.8, zorder=3)
    _label(ax, 32.4, 4.4, "detached", POLICY)
    _arrow(ax, (41.9, 12.1), (41.9, 21.9), text="$a$")
    ax.plot([35.4, 17.6, 17.6], [27, 27, 22.2], "--", color=SIGNAL, linewidth=1.3)
    _arrow(ax, (17.6, 22.2), (17.6, 21.1), color=SIGNAL)
    _label(ax, 0.2, 29, "gradient of the critic's loss", SIGNAL, ha="left")
    return figure


def transformer() -> Figure:
    """Draw a transformer on a prompt: embeddings, attention and a perceptron twice, logits of next tokens."""
    figure, ax = _canvas(45)
    xs = np.linspace(6, 38, 7)
    _label(ax, 43, 1.6, "tokens", ha="left")
    _box(ax, 22, 8, 40, 4.6, "embedding of token + of position", POLICY)
    _box(ax, 22, 35.5, 40, 4.6, "logits, softmax", POLICY)
    for x, token, answer in zip(xs, "37+48=8", ["", "", "", "", "", "8", "5"], strict=True):
        _label(ax, x, 1.6, token, weight="bold", size=12)
        _arrow(ax, (x, 3.4), (x, 5.6))
        _arrow(ax, (x, 10.4), (x, 12.4))
        _arrow(ax, (x, 30.9), (x, 33.1))
        if answer:
            _arrow(ax, (x, 37.9), (x, 41.2))
            _label(ax, x, 43, answer, SIGNAL, weight="bold", size=12)
    for y, text in [(15, "attention to earlier positions"), (27.6, "perceptron at each position")]:
        _box(ax, 22, y, 40, 5, text)
    for x in xs:
        _arrow(ax, (x, 17.6), (x, 25))
    _label(ax, 43, 21, "twice", ha="left")
    _label(ax, 31, 43, "next tokens, sampled:", SIGNAL, ha="right")
    return figure


def _canvas(height: float) -> tuple[Figure, Axes]:
    # An engine that does nothing. After a figure without one is saved, it has the default one.
    layout = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
    figure = plt.figure(figsize=(WIDTH / 10, height / 10), layout=layout, facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height), autoscale_on=False)
    ax.set_axis_off()
    return figure, ax


def _label(ax: Axes, x: float, y: float, text: str, color: str = INK, size: int = SIZE, **style: Any) -> None:
    """Write around (x, y); a single line on a common baseline."""
    line = "\n" not in text and not style.get("rotation")
    style = {"ha": "center", "va": "baseline" if line else "center", "linespacing": 1.35} | style
    ax.text(x, y - 0.05 * size * line, text, color=color, fontsize=size, **style)


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, text: str = "", color: str = INK, **style: Any
) -> None:
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.8"
    box = FancyBboxPatch(corner, width, height, shape, ec=color, fc=_tint(color), linewidth=1.3, zorder=2.5)
    ax.add_patch(box)
    if text:
        _label(ax, x, y, text, **style)


def _nodes(ax: Axes, x: float, ys: ArrayLike, color: str = INK, *, filled: bool = False) -> np.ndarray:
    """Draw circles one below the other and return their centres."""
    centres = np.stack(np.broadcast_arrays(x, ys), axis=1)
    face = color if filled else _tint(color)
    ax.plot(*centres.T, "o", color=color, mfc=face, markersize=14, markeredgewidth=1.3, zorder=3)
    return centres


def _edges(ax: Axes, *layers: np.ndarray) -> None:
    lines = [(p, q, (np.nan, np.nan)) for left, right in pairwise(layers) for p in left for q in right]
    ax.plot(*np.concatenate(lines).T, color=PALE, linewidth=0.8, zorder=1)


def _network(ax: Axes, x: float, y: float, color: str) -> np.ndarray:
    """Draw a state, a body and three outputs at x, and return their centres."""
    _label(ax, 1.2, y, "$s$", size=12)
    _arrow(ax, (2.6, y), (5.2, y))
    body = [_nodes(ax, at, y + 1.9 * np.arange(n - 1, -n, -2)) for at, n in ((6.5, 3), (x / 2 + 3.25, 4))]
    outputs = _nodes(ax, x, y + np.array([4.2, 0, -4.2]), color)
    _edges(ax, *body, outputs)
    return outputs


def _arrow(
    ax: Axes,
    *points: tuple[float, float],
    text: str = "",
    below: str = "",
    color: str = INK,
    dashed: bool = False,
) -> None:
    """Draw a straight arrow with a label above it or at its right, and one below; or one with corners."""
    (x, y), *_, (end_x, end_y) = points
    if text and x == end_x:
        _label(ax, x + 1, (y + end_y) / 2, text, color, ha="left")
    elif text:
        _label(ax, (x + end_x) / 2, y + 1.7, text, color)
    if below:
        _label(ax, (x + end_x) / 2, y - 1.9, below, color)
    if dashed:  # all but the head
        back = np.sign(x - end_x)
        ax.plot([x, end_x + back], [y, y], "--", color=color, linewidth=1.3)
        points = ((end_x + 0.1 * back, y), (end_x, y))
    arrow = FancyArrowPatch(path=Path(points), color=color, linewidth=1.3, mutation_scale=13, zorder=2)
    arrow.set_arrowstyle("-|>", head_length=0.4, head_width=0.18)
    ax.add_patch(arrow)


def _tint(color: str) -> tuple[float, float, float]:
    r, g, b = to_rgb(color)
    return 1 - 0.12 * (1 - r), 1 - 0.12 * (1 - g), 1 - 0.12 * (1 - b)
