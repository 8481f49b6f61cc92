"""Diagrams are legible on a phone, nothing overlaps, and what they say is what the package computes."""

import io
import itertools
import re

import matplotlib
import media
import numpy as np
import pytest
import torch

from pgcourse.environments import worlds
from pgcourse.networks.pixels import PixelPolicy
from pgcourse.teaching import diagrams, figures, plots

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from matplotlib.path import Path
from matplotlib.transforms import Bbox

PHONE = 340  # the width of a figure on a phone, in CSS pixels
LABELS = {
    "value_and_policy_network": ["Value-based:", "argmax", "softmax", "sample", "$Q(s, a_2) = 2.1$", "$a_2$"],
    "pong_network": ["80 × 80\npixels", "$x$: 6400", "$h$: 200", "$y$: 1", r"$\pi(\mathrm{UP} | x)$"],
    "k_action_network": ["softmax", r"$\pi_k$", "$t_k$", r"$t_k - \pi_k$", "sampled action: $t_k = 1$"],
    "rollout": ["environment", "sampled action", "reward $r_t$", "WIN", "LOSS", "UP", "DOWN"],
    "reinforce_loop": ["1. Sample episodes", "2. Differentiate the surrogate objective"],
    "imitation_and_reinforcement": ["Imitation learning", "expert", "always", "Reinforcement learning"],
    "episode_tree": ["step 1", "step 2", "step 3", "64 episodes", r"— $\pi(a | s)$", "— $P(s' | s, a)$"],
    "actor_critic_system": ["environment", r"$\delta = r + \gamma v(s') - v(s)$", "TD error\n$\\delta$"],
    "backup mc": ["Monte Carlo", "$s_t$", "$a_t$", "$r_t$", "$r_T$", r"$\mathrm{terminal}$"],
    "backup td": ["One-step TD", r"target for $v(s_t)$: $r_t + \gamma v(s_{t+1})$"],
    "backup n-step": ["n-step TD", "$s_{t+n}$", "$r_{t+n-1}$"],
    "backup q": ["Q-learning", "max", "$a'$"],
    "pixel_networks": ["3 frames\n32 × 32", "features\n50", "detached", "gradient of the critic's loss"],
    "ddpg_networks": [
        "environment",
        "noise",
        "actor\n$\\mu(s; w_2)$",
        "critic\n$Q(s, a; w_1)$",
        "target\n$y$",
    ],
    "transformer": ["tokens", "attention to earlier positions", "perceptron at each position", "twice"],
}


@pytest.fixture(autouse=True)
def style():
    plots.use_style()
    yield
    plt.close("all")


def draw(name):
    function, *kind = name.split()
    return getattr(diagrams, function)(*kind)


@pytest.fixture(params=LABELS)
def figure(request):
    return draw(request.param)


def test_a_diagram_can_be_saved_again(figure):
    """Its axes, which fill it, stay where they are; without the margins that other figures have."""
    for _ in range(2):
        figure.savefig(io.BytesIO())
        assert figure.axes[0].get_position().bounds == (0, 0, 1, 1)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def text_boxes(figure):
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def markers(line):
    """Return the boxes around the markers of a line, in pixels."""
    if line.get_marker() == "None":
        return []
    half = line.get_markersize() / 2 * line.get_figure().dpi / 72
    marked = line.get_xydata()[slice(None) if line.get_markevery() is None else line.get_markevery()]
    return [Bbox([point - half, point + half]) for point in line.get_transform().transform(marked)]


def pieces(artist):
    """Return the lines of which an arrow or a broken line consists, in pixels."""
    if getattr(artist, "get_linestyle", str)() == "None":
        return []
    path = artist.get_transform().transform_path(artist.get_path())
    return [Path(line) for line in path.to_polygons(closed_only=False)]


def inside(box, other):
    return other.x0 <= box.x0 and box.x1 <= other.x1 and other.y0 <= box.y0 and box.y1 <= other.y1


def test_every_diagram_is_tested():
    functions = {
        name
        for name, thing in vars(diagrams).items()
        if getattr(thing, "__module__", "") == diagrams.__name__
    }
    assert {name for name in functions if not name.startswith("_")} == {name.split()[0] for name in LABELS}


@pytest.mark.parametrize("name", LABELS)
def test_it_says_what_it_shows(name):
    missing = set(LABELS[name]) - set(texts(draw(name)))
    assert not missing


def test_no_text_overlaps_another(figure):
    for (text, box), (other, other_box) in itertools.combinations(text_boxes(figure), 2):
        assert not box.overlaps(other_box), (text, other)


def test_no_text_crosses_a_line_an_arrow_a_node_or_the_edge_of_a_box(figure):
    """A box may cover an arrow that runs below it."""
    ax = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    arrows = [patch for patch in ax.patches if not isinstance(patch, FancyBboxPatch)]
    lines = [piece for artist in (*arrows, *ax.lines) for piece in pieces(artist)]
    nodes = [box for line in ax.lines for box in markers(line)]
    for text, box in text_boxes(figure):
        assert not any(box.overlaps(node) for node in nodes), text
        around = [other for other in boxes if box.overlaps(other)]
        assert all(inside(box, other) for other in around), text
        assert around or not any(line.intersects_bbox(box, filled=False) for line in lines), text


def test_everything_is_inside_the_figure(figure):
    ax = figure.axes[0]
    drawn = [box for _, box in text_boxes(figure)] + [box for line in ax.lines for box in markers(line)]
    drawn += [artist.get_window_extent() for artist in (*ax.patches, *ax.lines)]
    assert all(inside(box, figure.bbox) for box in drawn)


def test_on_a_phone_all_text_is_at_least_nine_pixels_high(figure):
    width = figures.picture(figure, tight=True).width
    assert all(text.get_fontsize() * figures.DPI / 72 * PHONE / width >= 9 for text in figure.axes[0].texts)


def test_it_is_a_small_svg_and_always_the_same(figure, request):
    picture = figures.picture(figure, tight=True)
    assert picture.mime == "image/svg+xml"
    assert len(picture.data) < 60_000
    assert figures.picture(draw(request.node.callspec.params["figure"]), tight=True) == picture


def luminance(color):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


@pytest.mark.parametrize("twin", [str, media.dark])
def test_all_text_is_seen_on_a_light_and_on_a_dark_page(figure, twin):
    """WCAG asks for a contrast of 3 of large text. Black would be left out of the SVG."""
    svg = figures.picture(figure, tight=True).data.decode()
    colors = re.findall(r'<g id="text_\d+"><g style="fill: (#\w{6})', svg)
    assert len(colors) == len(figure.axes[0].texts)
    ground = luminance(twin("#ffffff"))
    for color in map(twin, colors):
        low, high = sorted((ground, luminance(color)))
        assert (high + 0.05) / (low + 0.05) > 3, color


def test_the_network_for_pong_has_the_shapes_and_the_parameters_of_the_policy():
    policy, said = PixelPolicy(), " ".join(texts(diagrams.pong_network()))
    W1, W2 = policy.trunk.W1.T, policy.head.w2[None]  # the package keeps them transposed
    (hidden, inputs), (outputs, _) = W1.shape, W2.shape
    assert f"$W_1$\n{hidden} × {inputs}" in said
    assert f"$W_2$\n{outputs} × {hidden}" in said
    assert f"$x$: {inputs} $h$: {hidden} $y$: {outputs}" in said
    assert f"{hidden} · {inputs} + {hidden} = {W1.numel() + policy.trunk.b1.numel():,}" in said
    assert f"{outputs} · {hidden} + {outputs} = {W2.numel() + policy.head.b2.numel():,}" in said
    assert f"{sum(w.numel() for w in policy.parameters()):,} parameters" in said


def test_the_greedy_action_has_the_largest_value_and_the_probabilities_sum_to_one():
    said = " ".join(texts(diagrams.value_and_policy_network()))
    values, probabilities = (
        [float(number) for number in re.findall(rf"\${letter}\S*(?: s\)| \| s\))? ?[^=]*= (-?[\d.]+)", said)]
        for letter in ("Q", r"\\pi")
    )
    assert np.argmax(values) == 1
    assert len(values) == len(probabilities) == 3
    assert sum(probabilities) == pytest.approx(1)


def test_the_gradient_of_the_softmax_is_label_minus_probability():
    """By automatic differentiation of log π of the second action."""
    z = torch.tensor(diagrams.PI).log().requires_grad_()
    z.log_softmax(0)[1].backward()
    drawn = [
        float(text.replace("−", "-")) for text in texts(diagrams.k_action_network()) if re.match("[+−]", text)
    ]
    np.testing.assert_allclose(drawn, z.grad, atol=1e-6)


def test_the_episode_in_the_tree_has_its_probability():
    """Of the 64 of the chain: cross, and stay twice, as most probable outcomes have it."""
    mdp, w = worlds.chain(), np.array([[-0.2, 0.3], [0.4, 0.0]])
    episodes, figure = mdp.enumerate_episodes(w), diagrams.episode_tree()
    [one] = np.flatnonzero((episodes.a == [1, 0, 0]).all(axis=1) & (episodes.s == [0, 1, 1, 1]).all(axis=1))
    s, a = episodes.s[one], episodes.a[one]
    factors = np.stack([mdp.pi(w)[s[:-1], a], mdp.P[s[:-1], a, s[1:]]], axis=1).ravel()
    drawn = [text for text in texts(figure) if re.fullmatch(r"0\.\d+", text)]
    np.testing.assert_allclose(np.array(drawn, float), factors, atol=0.005)
    [product] = (text for text in texts(figure) if "approx" in text)
    assert float(product.split("approx ")[1].strip("$")) == pytest.approx(episodes.P[one], abs=5e-4)
    assert r" \cdot ".join(drawn) in product
    assert max(len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "o") == len(
        episodes.P
    )


def test_a_won_rollout_returns_one_and_a_lost_one_minus_one():
    said = texts(diagrams.rollout())
    results = [(text, said[i + 1]) for i, text in enumerate(said) if text in ("WIN", "LOSS")]
    assert len(results) == 4
    assert set(results) == {("WIN", "$G = +1$"), ("LOSS", "$G = -1$")}


def test_an_unknown_backup_is_refused():
    with pytest.raises(ValueError, match="kind must be one of mc, td, n-step, q, got 'sarsa'"):
        diagrams.backup("sarsa")
