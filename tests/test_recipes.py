"""Every recipe builds and learns; what it says of itself is what it was made with."""

import functools
import random

import numpy as np
import pytest
import torch

from pgcourse.environments import pong
from pgcourse.environments.tasks import Task
from pgcourse.experiments import recipes
from pgcourse.maths.returns import batch_mean

SMALL = {"n_envs": 2, "batch_size": 5, "n_random": 6}  # of a recipe that has such settings
cartpole = recipes.get("reinforce/cartpole")


@functools.cache
def unchanged(recipe):
    return small(recipe)


def small(recipe, **changed):
    algorithm = recipe.build(
        0, **{name: value for name, value in SMALL.items() if name in recipe.defaults} | changed
    )
    algorithm.env.close()  # which the tests below do not step
    return algorithm


def function(recipe):
    """What builds it: of a partial, the function inside."""
    return getattr(recipe.builder, "func", recipe.builder)


@pytest.fixture
def none_registered(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {})


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_builds_and_learns_something(name):
    recipe = recipes.get(name)
    algorithm = recipe.build(0, **{name: value for name, value in SMALL.items() if name in recipe.defaults})
    before = [w.detach().clone() for w in algorithm.policy.parameters()]
    update = algorithm.update()
    algorithm.env.close()
    assert update.n_steps >= SMALL["batch_size"]
    if name.startswith(("actor-critic/", "ddpg", "dqn/")):  # which do not wait for the end of an episode
        assert np.isfinite(update.reward)
    else:
        assert len(update.returns)
    assert any((w != was).any() for w, was in zip(algorithm.policy.parameters(), before, strict=True))


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
def test_every_recipe_says_what_it_is_and_has_a_budget(recipe):
    assert recipe.about == function(recipe).__doc__.strip().splitlines()[0]
    assert recipe.about.endswith(".")
    assert 1 <= recipe.every <= recipe.steps
    assert recipe.n_episodes >= 1
    assert recipes.get(recipe.name) is recipe


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
def test_settings_are_exactly_the_keyword_only_arguments(recipe):
    code, other_defaults = function(recipe).__code__, getattr(recipe.builder, "keywords", {})
    assert recipe.defaults == recipe.settings() == (function(recipe).__kwdefaults__ or {}) | other_defaults
    assert set(recipe.defaults) == set(code.co_varnames[2 : 2 + code.co_kwonlyargcount])


@pytest.mark.parametrize(
    "recipe",
    [r for r in recipes.RECIPES.values() if r.name.startswith("reinforce/")],
    ids=lambda recipe: recipe.name,
)
@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("eta", 0.123, lambda a: a.optimizer.param_groups[0]["lr"]),
        ("gamma", 0.5, lambda a: a.credit(np.array([0.0, 1.0]))[0]),
        ("batch_size", 7, lambda a: a.batch_size),
        ("n_hidden", 3, lambda a: next(len(b) for b in a.policy.parameters() if b.ndim == 1)),
        ("n_envs", 3, lambda a: a.env.num_envs),
        (
            "credit",
            "total",
            lambda a: {"total_return": "total", "reward_to_go": "to-go"}[a.credit.func.__name__],
        ),
        ("baseline", "mean", lambda a: "mean" if a.baseline is batch_mean else str(a.baseline).lower()),
        ("standardize", False, lambda a: a.standardize),
    ],
)
def test_every_setting_of_reinforce_arrives(recipe, name, value, read):
    assert read(unchanged(recipe)) == SMALL.get(name, recipe.defaults[name])
    assert read(small(recipe, **{name: value})) == value


@pytest.mark.parametrize("name", ["reinforce/cartpole", "reinforce/acrobot"])
def test_layers_of_reinforce_arrive(name):
    assert [layers(small(recipes.get(name), n_layers=n).policy) for n in (1, 3)] == [1, 3]


ACTOR_CRITIC = [recipe for recipe in recipes.RECIPES.values() if recipe.name.startswith("actor-critic/")]
AVERAGE = [recipe for recipe in ACTOR_CRITIC if "eta_average" in recipe.defaults]


def hidden(module):
    return next(len(b) for b in module.parameters() if b.ndim == 1 and len(b) > 1)


def layers(network):
    return (len(network.layers) - 1) // 2


@pytest.mark.parametrize("recipe", ACTOR_CRITIC, ids=lambda recipe: recipe.name)
def test_every_setting_of_an_actor_critic_arrives(recipe):
    settings = {
        "eta": (0.123, lambda a: a.optimizer.param_groups[0]["lr"]),
        "eta_critic": (0.234, lambda a: a.critic.optimizer.param_groups[0]["lr"]),
        "gamma": (0.5, lambda a: a.gamma),
        "lam": (0.6, lambda a: a.lam),
        "n_steps": (3, lambda a: a.length),
        "n_hidden": (5, lambda a: {hidden(a.policy), hidden(a.critic.value)}.pop()),
        "n_envs": (3, lambda a: a.env.num_envs),
        "eta_halved": (
            100,
            lambda a: next(
                n for n in (100, recipe.defaults["eta_halved"]) if a.eta(n) == recipe.defaults["eta"] / 2
            ),
        ),
        "n_layers": (3, lambda a: layers(a.policy)),
        "eta_average": (0.2, lambda a: a.eta_average),
        "sigma": (0.3, lambda a: round(a.policy.log_sigma.exp().item(), 6)),
    }
    for name, default in recipe.defaults.items():
        value, read = settings[name]
        assert read(unchanged(recipe)) == SMALL.get(name, default)
        assert read(small(recipe, **{name: value})) == value


def halved_after(algorithm):
    """Steps after which both rates of DDPG are a half of what they were; None if they never are."""
    rates = algorithm.eta, algorithm.eta_critic
    found = {None if rate(1000) == rate(0) else round(1000 / (rate(0) / rate(1000) - 1), 6) for rate in rates}
    return found.pop() if len(found) == 1 else found


DDPG = [recipe for recipe in recipes.RECIPES.values() if recipe.name.startswith("ddpg/")]


@pytest.mark.parametrize("recipe", DDPG, ids=lambda recipe: recipe.name)
def test_every_setting_of_ddpg_arrives(recipe):
    settings = {
        "eta": (0.123, lambda a: a.optimizer.param_groups[0]["lr"]),
        "eta_critic": (0.234, lambda a: a.critic_optimizer.param_groups[0]["lr"]),
        "eta_halved": (500.0, halved_after),
        "gamma": (0.5, lambda a: a.gamma),
        "tau": (0.6, lambda a: a.tau),
        "batch_size": (3, lambda a: a.batch_size),
        "capacity": (77, lambda a: a.replay.capacity),
        "n_random": (8, lambda a: a.n_random),
        "sigma": (0.7, lambda a: a.noise.sigma),
        "theta": (0.8, lambda a: a.noise.theta),
        "n_hidden": (
            9,
            lambda a: {
                len(b) for n in (a.policy, a.critic) for b in n.parameters() if b.ndim == 1 and len(b) > 6
            }.pop(),
        ),
        "td3": (True, lambda a: type(a).__name__ == "TD3"),
    }
    for name, default in recipe.defaults.items():
        value, read = settings[name]
        assert read(unchanged(recipe)) == SMALL.get(name, default)
        assert read(small(recipe, **{name: value})) == value


def test_both_rates_of_ddpg_fall_if_they_are_told_to():
    algorithm = small(recipes.get("ddpg/pendulum"), eta=0.3, eta_critic=0.1, eta_halved=100)
    assert [algorithm.eta(n) for n in (0, 100, 200)] == [0.3, 0.15, 0.3 / 3]
    assert [algorithm.eta_critic(n) for n in (0, 100, 200)] == [0.1, 0.05, 0.1 / 3]
    with pytest.raises(ValueError, match=r"^eta_halved must be positive, got 0.0$"):
        small(recipes.get("ddpg/pendulum"), eta_halved=0)


DQN = [recipe for recipe in recipes.RECIPES.values() if recipe.name.startswith("dqn/")]


@pytest.mark.parametrize("recipe", DQN, ids=lambda recipe: recipe.name)
def test_every_setting_of_dqn_arrives(recipe):
    settings = {
        "eta": (0.123, lambda a: a.eta(0)),
        "eta_halved": (500, lambda a: round(1000 / (a.eta(0) / a.eta(1000) - 1), 6)),
        "gamma": (0.5, lambda a: a.gamma),
        "epsilon": (0.25, lambda a: a.epsilon(10**9)),
        "n_exploring": (500, lambda a: next(n for n in range(1000) if a.epsilon(n) == a.epsilon(10**9))),
        "copied": (7, lambda a: a.copied),
        "every": (3, lambda a: a.every),
        "batch_size": (3, lambda a: a.batch_size),
        "capacity": (777, lambda a: a.replay.capacity),
        "n_random": (99, lambda a: a.n_random),
        "n_hidden": (12, lambda a: hidden(a.policy.network)),
        "n_layers": (3, lambda a: layers(a.policy.network)),
        "n_envs": (3, lambda a: a.env.num_envs),
    }
    for name in recipe.defaults:
        value, read = settings[name]
        assert read(small(recipe, **{name: value})) == value


def test_the_odd_actions_become_rarer_in_a_straight_line():
    assert [recipes.linear(0.2, 100, n) for n in (0, 50, 100, 1000)] == pytest.approx([1, 0.6, 0.2, 0.2])
    with pytest.raises(ValueError, match=r"^n_exploring must be at least 1, got 0$"):
        recipes.get("dqn/cartpole").build(0, n_exploring=0)


def test_twins_have_different_first_weights():
    twins = small(DDPG[0], td3=True).critic
    assert (twins.first.layers[0].weight != twins.second.layers[0].weight).any()


def test_what_never_ends_is_learnt_by_its_average_and_what_ends_by_a_discount():
    assert {recipe.name for recipe in AVERAGE} == {"actor-critic/pendulum", "actor-critic/access-control"}
    for recipe in ACTOR_CRITIC:
        algorithm = unchanged(recipe)
        assert (
            (algorithm.eta_average is not None)
            == (algorithm.gamma == 1)
            == (recipe.task.score == "average reward")
        )


def test_an_actors_first_weights_are_not_its_critics():
    algorithm = unchanged(recipes.get("actor-critic/cartpole"))
    actor, critic = (module.layers[0].weight for module in (algorithm.policy, algorithm.critic.value))
    assert actor.shape == critic.shape
    assert not (actor == critic).any()


PONG = [recipe for recipe in recipes.RECIPES.values() if "approaching" in recipe.defaults]


@pytest.mark.parametrize("recipe", PONG, ids=lambda recipe: recipe.name)
def test_every_setting_of_pong_arrives(recipe):
    plain, weights = unchanged(recipe), unchanged(recipe).policy.W1.detach()
    assert type(plain.optimizer) is torch.optim.Adam
    assert type(small(recipe, optimizer="RMSprop").optimizer) is torch.optim.RMSprop
    assert small(recipe, approaching=True).matters is pong.approaching
    assert small(recipe, approaching=False).matters is None
    assert plain.matters is (pong.approaching if recipe.defaults["approaching"] else None)
    assert torch.equal(small(recipe, spread=8).policy.W1, 8 * weights)
    assert plain.eta(recipe.defaults["eta_halved"]) == recipe.defaults["eta"] / 2
    assert small(recipe, eta_halved=100).eta(100) == recipe.defaults["eta"] / 2
    cropped = small(recipe, crop=10).policy.W1.detach().reshape(80, 80, -1)
    assert (cropped[:, :10] == 0).all()
    assert torch.equal(cropped[:, 10:], weights.reshape(80, 80, -1)[:, 10:])
    assert (weights != 0).all()


def test_the_sticky_game_is_another_game_learnt_slowly_from_all_decisions():
    easy, sticky = recipes.get("reinforce/pong"), recipes.get("reinforce/sticky-pong")
    assert (easy.task.name, sticky.task.name) == ("PongDeterministic-v4", "ALE/Pong-v5")
    changed = {name for name, value in sticky.defaults.items() if value != easy.defaults[name]}
    assert changed == {"eta", "eta_halved", "gamma", "approaching"}


def test_the_seed_decides_the_weights_and_the_course():
    def course(seed):
        algorithm = cartpole.build(seed, batch_size=100)
        updates = [algorithm.update().objective for _ in range(2)]
        algorithm.env.close()
        return updates

    assert course(0) == course(0) != course(1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"batch_size": "500"}, 500),
        ({"batch_size": 500.0}, 500),
        ({"batch_size": np.int64(500)}, 500),
        ({"eta": "0.02"}, 0.02),
        ({"eta": "1e-3"}, 0.001),
        ({"eta": 1}, 1.0),
        ({"standardize": "false"}, False),
        ({"standardize": "True"}, True),
        ({"standardize": False}, False),
    ],
)
def test_text_becomes_what_the_default_is(text, value):
    [name] = text
    converted = cartpole.settings(**text)
    assert converted == cartpole.defaults | {name: value}
    assert type(converted[name]) is type(cartpole.defaults[name])


@pytest.mark.parametrize("value", ["500", 500, 500.0])
def test_where_nothing_is_the_default_a_number_is_wanted(value):
    pendulum = recipes.get("ddpg/pendulum")
    assert pendulum.defaults["eta_halved"] is None
    assert all(pendulum.settings(eta_halved=nothing)["eta_halved"] is None for nothing in (None, "None"))
    converted = pendulum.settings(eta_halved=value)["eta_halved"]
    assert (type(converted), converted) == (float, 500)
    with pytest.raises(
        ValueError, match=r"^eta_halved must be of type float, as its default None, got 'never'$"
    ):
        pendulum.settings(eta_halved="never")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": "4.5"}, "batch_size must be of type int, as its default {batch_size}, got '4.5'"),
        ({"batch_size": 4.5}, "batch_size must be of type int, as its default {batch_size}, got 4.5"),
        ({"batch_size": True}, "batch_size must be of type int, as its default {batch_size}, got True"),
        (
            {"batch_size": float("inf")},
            "batch_size must be of type int, as its default {batch_size}, got inf",
        ),
        ({"batch_size": None}, "batch_size must be of type int, as its default {batch_size}, got None"),
        ({"eta": "fast"}, "eta must be of type float, as its default {eta}, got 'fast'"),
        ({"eta": True}, "eta must be of type float, as its default {eta}, got True"),
        ({"eta": [0.1]}, r"eta must be of type float, as its default {eta}, got \[0.1\]"),
        ({"eta": 10**400}, "eta must be of type float, as its default {eta}, got 1000*"),
        (
            {"standardize": "maybe"},
            "standardize must be of type bool, as its default {standardize}, got 'maybe'",
        ),
        ({"standardize": 1}, "standardize must be of type bool, as its default {standardize}, got 1"),
        ({"btch_size": 1}, "reinforce/cartpole has no setting 'btch_size'; did you mean batch_size.*"),
        ({"c": 1}, "reinforce/cartpole has no setting 'c'; there are {names}"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changed, message):
    wanted = message.format(names=", ".join(cartpole.defaults), **cartpole.defaults)
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        cartpole.build(0, **changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recipes.get("reinforce/cartpol"),
            "^there is no recipe 'reinforce/cartpol'; did you mean reinforce/cartpole",
        ),
        (
            lambda: recipes.get("reinforce/pogn"),
            "^there is no recipe 'reinforce/pogn'; did you mean reinforce/pong",
        ),
        (lambda: recipes.get("xyz"), f"^there is no recipe 'xyz'; there are {', '.join(recipes.RECIPES)}$"),
        (lambda: cartpole.build(0, eta=-1), "^eta must be a positive number, got -1.0$"),
        (lambda: cartpole.build(0, eta="nan"), "^eta must be a positive number, got nan$"),
        (lambda: cartpole.build(0, n_envs=0), "^n_envs must be at least 1, got 0$"),
        (lambda: cartpole.build(0, n_hidden=0), "^n_hidden must be at least 1, got 0$"),
        (lambda: recipes.actor(None, -1), "^seed must be at least 0, got -1$"),
        (lambda: recipes.actor(cartpole, -1, greedy=True), "^seed must be at least 0, got -1$"),
        (
            lambda: recipes.get("reinforce/pong").build(0, eta_halved=0),
            "^eta_halved must be positive, got 0$",
        ),
        (
            lambda: recipes.get("reinforce/pong").build(0, optimizer="adam"),
            "^optimizer must be one of Adam, RMSprop, got 'adam'$",
        ),
        (lambda: cartpole.build(0, credit="to go"), "^credit must be one of total, to-go, got 'to go'$"),
        (lambda: cartpole.build(0, baseline="v"), "^baseline must be one of none, mean, others, got 'v'$"),
        (
            lambda: recipes.get("reinforce/pong").build(0, spread=0),
            "^spread must be a positive number, got 0.0$",
        ),
        (lambda: recipes.get("reinforce/pong").build(0, crop=80), "^crop must be from 0 to 79, got 80$"),
        (lambda: recipes.get("reinforce/pong").build(0, crop=-1), "^crop must be from 0 to 79, got -1$"),
        (lambda: recipes.get("reinforce/pong").build(0, n_envs=0), "^n_envs must be at least 1, got 0$"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def global_state():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
def test_an_evaluation_is_repeatable_whatever_the_global_generators_are_at_and_leaves_them_there(recipe):
    policy, scores = small(recipe).policy, []
    for disturbance in (1, 2):
        random.seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002 (the global generators are those that are meant)
        torch.manual_seed(disturbance)
        before = global_state()
        scores.append(recipe.evaluate(policy, 2, seed=3))
        assert global_state() == before
    assert (scores[0] == scores[1]).all()
    assert scores[0].shape == (2,)


def test_another_seed_gives_other_episodes_and_greedy_ones_are_others_again():
    policy = small(cartpole).policy
    scores = [
        cartpole.evaluate(policy, 20, seed=3),
        cartpole.evaluate(policy, 20, seed=4),
        cartpole.evaluate(policy, 20, seed=3, greedy=True),
    ]
    assert all((a != b).any() for a, b in [(scores[0], scores[1]), (scores[0], scores[2])])


def test_greedy_actions_are_the_most_probable_and_others_follow_the_probabilities():
    """Chi-square with 1 degree of freedom beyond 24 has a probability below 10⁻⁶."""
    policy, s = small(cartpole).policy, np.random.default_rng(0).normal(size=(50, 4))
    probabilities = policy.probabilities(s)
    assert (recipes.actor(policy, 0, greedy=True)(s) == probabilities.argmax(axis=1)).all()
    drawn = recipes.actor(policy, 0)(np.repeat(s[:1], 10_000, axis=0)).sum()
    p = probabilities[0, 1]
    assert (drawn - 10_000 * p) ** 2 / (10_000 * p * (1 - p)) < 24


@pytest.mark.usefixtures("none_registered")
def test_a_recipe_is_a_function_that_registers_under_its_name():
    task = Task("CartPole-v1")

    @recipes.recipe("nothing/cartpole", task, steps=10, every=5)
    def build(task, seed, *, eta=0.5):
        """Nothing at all.

        And more of it.
        """
        return task, seed, eta

    known = recipes.get("nothing/cartpole")
    assert known.about == "Nothing at all."
    assert (known.steps, known.every, known.n_episodes) == (10, 5, 20)
    assert known.build(3) == (task, 3, 0.5)
    assert known.build(3, eta="2") == (task, 3, 2.0)
