"""Public functions of ``pgcourse`` with good arguments, which ``faults.py`` makes hostile one by one.

An argument that is a function makes an object, such as an environment, anew for each call, and stays good.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from pgcourse.algorithms import (
    actor_critic,
    collect,
    config,
    critics,
    ddpg,
    dqn,
    frame_replay,
    language_model,
    noise,
    off_policy,
    ppo,
    reinforce,
    replay,
    sac,
)
from pgcourse.algorithms import seeds as several
from pgcourse.environments import addition, classic, court, frames, lqr, markov, mdp, pong, tasks, worlds
from pgcourse.experiments import architectures, diagnosis, recipes, records, settings, sweeps, training
from pgcourse.experiments import seeds as at_once
from pgcourse.maths import (
    estimators,
    groups,
    logistic,
    preferences,
    returns,
    rounding,
    sequences,
    statistics,
    td,
    trust_region,
)
from pgcourse.networks import autoregressive, encoders, mlp, pixels, policies, stacked, transformer, values
from pgcourse.teaching import diagrams, exercises, explore, laboratory, live, plots, sandbox, video

LEFT_OUT = {  # what the campaign does not call, and why: a name, or all else that begins with it
    "algorithms.collect.check_rollout_length": "check of a config",
    "algorithms.collect.reset": "takes an environment",
    "algorithms.collect.step": "inner loop: an algorithm checks its policy's actions when it is built",
    "algorithms.collect.never_ends": "text of an error",
    "algorithms.compatibility.": "checks of environments and networks, which fail by their purpose",
    "algorithms.config.checked_schedule": "takes a schedule",
    "algorithms.config.constant": "inner loop: ``as_schedule`` checks it",
    "algorithms.config.gradient_step": "inner loop: its η is a schedule's, which is checked",
    "algorithms.config.inverse_time_decay": "inner loop: ``as_schedule`` checks it",
    "algorithms.config.linear_anneal": "inner loop: ``PPO`` checks it",
    "algorithms.config.linear_decay": "inner loop: ``DQNConfig`` checks it",
    "algorithms.critics.check_standardize": "check of a config",
    "algorithms.frame_replay.as_stacks": "check of others' arguments",
    "algorithms.language_model.check_policy": "takes problems and a network",
    "algorithms.language_model.checked_rewards": "inner loop: of rewards that problems gave",
    "algorithms.off_policy.OffPolicy": "is DQN or DDPG",
    "algorithms.replay.converted": "check of others' arguments",
    "algorithms.resumable.": "takes what state_dict returns",
    "algorithms.seeds.each_seed": "inner loop: of arrays that an algorithm made",
    "algorithms.seeds.equal_blocks": "inner loop: of arrays that an algorithm made",
    "algorithms.seeds.join_states": "takes what state_dict returns",
    "algorithms.seeds.n_seeds": "takes a random stream",
    "algorithms.seeds.per_seed": "inner loop: of arrays that an algorithm made",
    "algorithms.seeds.seeds_of_envs": "inner loop: of numbers that were drawn",
    "algorithms.seeds.split_state": "takes what state_dict returns",
    "environments.classic.": "inner loop: ``ClassicVectorEnv`` checks the actions",
    "environments.markov.": "steps of what ``MDP`` computes, which has checked them",
    "environments.display.": "takes no number",
    "environments.frames.FrameEnv": "takes an environment, and a function of its observations",
    "environments.frames.next_stack": "inner loop: of frames that were drawn",
    "environments.tasks.ControlSuiteTask": "the suite checks its own names",
    "environments.court.replay": "takes a file",
    "experiments.architectures.Table": "takes no argument",
    "experiments.architectures.algorithm_options": "takes a config",
    "experiments.architectures.share_encoder": "takes networks",
    "experiments.blocks.": "takes runs",
    "experiments.checkpoints.": "files: the campaign above",
    "experiments.curves.Curve": "files: the campaign above",
    "experiments.curves.mean": "inner loop: of the numbers of a curve",
    "experiments.curves.parse": "files: the campaign above",
    "experiments.curves.read": "files: the campaign above",
    "experiments.diagnosis.": "takes a run, whose curve and numbers ``Run`` has checked, or a file",
    "experiments.language_models.": "trains for a minute; the algorithm checks its settings",
    "experiments.records.bands": "takes records",
    "experiments.records.find": "takes a folder",
    "experiments.records.pool": "takes records",
    "experiments.records.provenance": "takes no argument",
    "experiments.records.resume_command": "takes a folder",
    "experiments.records.write": "files: the campaign above",
    "experiments.seeds.EpisodeReturns": "takes an environment",
    "experiments.settings.as_json": "takes a config's value",
    "experiments.settings.fields_of": "takes a config",
    "experiments.settings.format_value": "text of anything",
    "experiments.settings.nearest": "text of an error",
    "experiments.training.explain_interruption": "takes a curve",
    "experiments.training.ProgressBar": "takes a budget",
    "experiments.training.settings_of": "takes an algorithm",
    "experiments.training.train_seeds": "files: the campaign above",
    "maths.groups.check_group_size": "check of a config",
    "networks.autoregressive.as_tokens": "check of others' arguments",
    "networks.encoders.PixelActor": "takes networks",
    "networks.encoders.PixelCritic": "takes networks",
    "networks.encoders.PixelTwinCritic": "takes networks",
    "networks.encoders.as_stacks": "check of others' arguments",
    "networks.hugging_face.": "takes a model of transformers: tests/test_language_model.py",
    "networks.mlp.as_tensor": "check of others' arguments",
    "networks.mlp.finite_output": "inner loop: of numbers that a network computed",
    "networks.mlp.gradient_norm": "takes parameters",
    "networks.mlp.is_integral": "takes a tensor",
    "networks.mlp.single_thread": "takes no argument",
    "networks.policies.GreedyQPolicy": "takes a network",
    "networks.stacked.": "takes networks, or their weights",
    "networks.transformer.Attention": "part of ``Transformer``",
    "networks.transformer.Block": "part of ``Transformer``",
    "networks.values.TwinCritic": "takes networks",
    "teaching.button.": "takes widgets",
    "teaching.diagrams.": "figures without arguments",
    "teaching.exercises.chapter_": "answers of exercises, called on their cases",
    "teaching.exercises.language_models.": "answers of exercises, called on their cases",
    "teaching.exercises.engine.": "takes an exercise, or a student's function",
    "teaching.exercises.measuring.": "answers of exercises, called on their cases",
    "teaching.exercises.pixels_and_sac.": "answers of exercises, called on their cases",
    "teaching.exercises.ppo.": "answers of exercises, called on their cases",
    "teaching.exercises.two_simulators.": "answers of exercises, called on their cases",
    "teaching.explore.describe": "text of anything",
    "teaching.explore.slider": "``explore`` checks its arguments",
    "teaching.explore.values_of": "``explore`` calls it with its arguments",
    "teaching.figures.": "takes a figure",
    "teaching.grading.": "takes files: tests/test_grading.py",
    "teaching.handouts.": "takes files: tests/test_handouts.py",
    "teaching.laboratory.train_in_turns": "``laboratory`` checks its arguments",
    "teaching.live.compare": "``train_button`` checks its arguments",
    "teaching.sandbox.main": "is the process of a submission",
    "teaching.sandbox.Outcome": "is what a submission sends: tests/test_grading.py",
    "teaching.sandbox.run_": "takes programs: tests/test_grading.py",
    "teaching.plots.draw_mujoco": "takes an environment",
    "teaching.plots.learning_curves": "takes bands",
    "teaching.plots.rollout": "takes steps of Pong",
    "teaching.plots.use_style": "takes no argument",
    "teaching.video.play_in_window": "opens a window",
}


@dataclasses.dataclass(frozen=True)
class Call:
    """A function, good arguments, and what is known about it."""

    name: str  # as in ``LEFT_OUT``
    call: Callable  # takes the arguments by name
    good: Mapping[str, object]
    optional: set[str]  # arguments that may be None
    also: tuple[str, ...]  # what errors call an argument, beside its name
    passes_on: bool  # whether what is not finite may come out as not finite: the inner loop of training
    slow: Mapping[str, range]  # numbers that are allowed and would take long

    def arguments(self) -> dict[str, object]:
        """Return good arguments that nothing has changed yet."""
        return {
            name: value() if inspect.isfunction(value) else _copied(value)
            for name, value in self.good.items()
        }

    def varied(self) -> list[str]:
        """Return the arguments that become hostile."""
        return [name for name, value in self.good.items() if not inspect.isfunction(value)]

    def is_slow(self, name: str, value: object) -> bool:
        """Return whether a value is one of the numbers that would take long."""
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return name in self.slow and np.ndim(value) == 0 and int(value) in self.slow[name]
        return False


def _copied(value):
    return (
        value.copy() if isinstance(value, np.ndarray) else value.clone() if torch.is_tensor(value) else value
    )


def good_calls() -> Iterator[Call]:
    """Yield the calls of all packages."""
    for calls in (
        of_maths,
        of_environments,
        of_networks,
        of_algorithms,
        of_configs,
        of_experiments,
        of_teaching,
    ):
        yield from calls()


def call(function, /, *, on=None, then=None, label=None, also=(), passes_on=False, slow=(), **good) -> Call:
    """Return a call of a function, a class or a method of what ``on()`` returns; ``then`` uses the result."""
    called = function if on is None else lambda **arguments: function(on(), **arguments)
    used = called if then is None else lambda **arguments: then(called(**arguments))
    name = label or f"{function.__module__}.{function.__qualname__}".removeprefix("pgcourse.")
    return Call(name, used, good, _optional(function), also, passes_on, dict(slow))


def _optional(function) -> set[str]:
    """Return the parameters that may be None, by their annotation or their default."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if "None" in str(p.annotation) or p.default is None}


# Shared values: N = 2 episodes or environments, T = 4 steps, states of 3 numbers, 2 actions

_rng = np.random.default_rng(0)
R, V, G, DELTA = _rng.normal(size=(4, 2, 4))
DONE, MASK, GROUP = np.zeros((2, 4), bool), np.ones((2, 4), bool), np.array([[0, 1, 1, 0], [1, 0, 1, 1]])
W, X, LABELS = _rng.normal(size=(3, 2)), _rng.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
RUNS, OTHER_RUNS, CURVE = _rng.normal(size=6), _rng.normal(size=5), (np.arange(4.0), _rng.normal(size=4))
S, NEXT_S = _rng.normal(size=(2, 5, 3)).astype(np.float32)
A, CONTINUOUS_A = np.array([0, 1, 1, 0, 1]), _rng.normal(size=(5, 1)).astype(np.float32)
TENSOR, TARGET = torch.tensor(RUNS), torch.tensor(RUNS[::-1].copy())
FRAMES = np.zeros((2, 6400), np.int8)
FRAMES[:, 3000:3100:7] = 1
PICTURES = np.zeros((2, 32, 48, 3), np.uint8)
CHAIN, QUEUE = worlds.chain(horizon=3), worlds.access_control(2)
LOGITS, QUEUE_LOGITS = np.zeros((2, 2)), np.zeros((12, 2))
EPISODES = CHAIN.enumerate_episodes(LOGITS)
GAIN, POINTS, FORCES = np.array([[1.0, 1.5]]), _rng.normal(size=(5, 2)), _rng.normal(size=(5, 1))
OUTPUTS, TOKEN_LOGITS = sequences.enumerate_outputs(3, 2), _rng.normal(size=(2, 3, 3))
OUTPUT_REWARDS, TOKEN_WEIGHTS = _rng.normal(size=(2, 7)), _rng.normal(size=(2, 7, 2))
OLD_RUN = next(records.find())
ADDITION = addition.Addition("test")
PROMPTS = ADDITION.prompts[:3]
MANY_GAMES = dict.fromkeys(("n_envs", "n_games", "n_episodes"), range(100, pong.MAX_GAMES + 1))


def a_generator():
    return np.random.default_rng(0)


def a_torch_generator():
    return torch.Generator().manual_seed(0)


def nothing():
    """Return a function of a policy's evaluation."""
    return lambda *_: np.zeros(2)


def push_left():
    return lambda s: np.zeros(len(s), int)


def no_force():
    return lambda s: np.zeros((len(s), 1), np.float32)


def a_language_model():
    return transformer.Transformer(13, 10, width=8, n_layers=1, n_heads=2)


def a_network():
    return values.ValueNetwork(3, (4,))


def a_cartpole():
    return tasks.Task("CartPole-v1").make_vector_env(2)


def a_pendulum():
    return tasks.Task("Pendulum-v1").make_vector_env(2)


def a_policy():
    return policies.SoftmaxPolicy(4, 2, (4,))


def a_buffer():
    buffer = replay.ReplayBuffer(10, (3,), (1,))
    buffer.add(S, CONTINUOUS_A, RUNS[:5], NEXT_S, np.zeros(5, bool))
    return buffer


def a_noise():
    made = noise.OrnsteinUhlenbeckNoise(0.3, 0.5)
    made.reset((2, 1))
    return made


def of_maths():
    yield call(estimators.score_function, w=LOGITS, episodes=lambda: EPISODES, G=EPISODES.r)
    yield call(
        estimators.optimal_baseline,
        w=LOGITS,
        episodes=lambda: EPISODES,
        G=EPISODES.r,
        baseline_group=EPISODES.observation,
    )
    yield call(estimators.estimator_statistics, estimates=G, truth=G[0], P=np.array([0.3, 0.7]))
    yield call(groups.group_advantages, r=R, weighting="rloo", also=("samples_per_prompt",))
    yield call(groups.pass_at_k, n_right=np.array([0, 2, 5]), n=6, k=3)
    yield call(logistic.sigmoid, z=X, passes_on=True)
    yield call(logistic.softmax, z=X, passes_on=True)
    yield call(logistic.predict, w=W, x=X)
    yield call(logistic.log_likelihood, w=W, x=X, target=LABELS)
    yield call(logistic.gradient, w=W, x=X, target=LABELS)
    yield call(logistic.gradient_ascent, w=W, x=X, target=LABELS, eta=0.1, n_steps=3, batch_size=2, seed=0)
    yield call(returns.total_return, r=R, gamma=0.9)
    yield call(returns.reward_to_go, r=R, gamma=0.9)
    yield call(returns.pad_episodes, episodes=[R[0], R[1, :2]])
    yield call(returns.batch_mean_baseline, G=G, mask=MASK)
    yield call(returns.ema_baseline, b=0.5, G=G, mask=MASK, step_size=0.1)
    yield call(returns.leave_one_out_baseline, G=G, mask=MASK)
    yield call(returns.state_mean_baseline, G=G, observation=GROUP, mask=MASK)
    yield call(returns.standardize, G=G, mask=MASK, scale=1.0)
    yield call(returns.surrogate, L=R, G=G, n=2, passes_on=True)
    yield call(returns.surrogate, L=TENSOR, G=TARGET, n=2, passes_on=True)
    yield call(rounding.is_rounding_error, spread=np.array(1e-17), scale=np.array(1.0))
    yield call(statistics.iqm, results=RUNS, axis=0)
    yield call(
        lambda results, **options: statistics.bootstrap_interval(results, **options),
        label="maths.statistics.bootstrap_interval",
        results=RUNS,
        level=0.9,
        n_resamples=20,
        seed=0,
    )
    yield call(statistics.probability_of_improvement, x=RUNS, y=OTHER_RUNS, level=0.9, n_resamples=20, seed=0)
    yield call(
        statistics.bootstrap_band, curves=[CURVE, CURVE], n_points=5, level=0.9, n_resamples=20, seed=0
    )
    yield call(td.td_target, r=R, next_v=V, terminated=DONE, gamma=0.9, passes_on=True)
    yield call(td.td_error, r=R, v=V, next_v=V, terminated=DONE, gamma=0.9, passes_on=True)
    yield call(
        td.td_error, r=TENSOR, v=TENSOR, next_v=TARGET, terminated=TENSOR > 0, gamma=0.9, passes_on=True
    )
    yield call(td.n_step_advantage, delta=DELTA, n=2, gamma=0.9, done=DONE)
    yield call(td.gae, delta=DELTA, gamma=0.9, lam=0.8, done=DONE)
    yield call(td.value_loss, v=TENSOR, target=TARGET, passes_on=True)
    yield call(td.gradient_monte_carlo, w=W[:, 0], x=X, target=RUNS[:5], eta=np.array(0.1))
    yield call(td.td_lambda, w=W[:, 0], x=X, r=RUNS[:4], eta=np.array(0.1), gamma=0.9, lam=0.8)
    for L, L_old in ((R, V), (TENSOR, TARGET)):
        yield call(trust_region.importance_weight, L=L, L_old=L_old, passes_on=True)
        yield call(trust_region.kl_estimate, L=L, L_old=L_old, passes_on=True)
        yield call(trust_region.clipped_surrogate, rho=L**2, A=L_old, clip=0.2, passes_on=True)
        yield call(trust_region.is_clipped, rho=L**2, A=L_old, clip=0.2, passes_on=True)
    distributions = np.array([[0.3, 0.7], [0.5, 0.5]])
    yield call(trust_region.kl_divergence, p=distributions, q=distributions[::-1])
    yield from of_outputs()
    yield from of_preferences()


def of_outputs():
    yield call(groups.group_advantages, r=R, weighting="grpo")
    yield call(groups.pass_at_k, n_right=A, n=2, k=1)
    yield call(sequences.enumerate_outputs, n_tokens=3, max_length=2)
    yield call(sequences.enumerate_groups, n_outputs=7, K=2)
    table = {"w": TOKEN_LOGITS, "outputs": lambda: OUTPUTS}
    reference = {"w_ref": TOKEN_LOGITS[::-1].copy()}
    yield call(sequences.token_log_probs, **table)
    yield call(sequences.output_probabilities, **table)
    yield call(sequences.output_scores, **table, G=TOKEN_WEIGHTS)
    for function in (sequences.objective, sequences.objective_gradient):
        yield call(function, **table, r=OUTPUT_REWARDS, beta=0.1, **reference)
    yield call(
        sequences.gradient_statistics,
        **table,
        r=OUTPUT_REWARDS,
        K=2,
        weighting="dr_grpo",
        also=("samples_per_prompt",),
        normalization="output_mean",
        beta=0.1,
        **reference,
    )
    yield call(sequences.kl_statistics, **table, **reference, kind="k3")
    yield call(sequences.kl_loss_gradient, **table, **reference, kind="k3", by_token=True)
    yield call(sequences.importance_ratios, L=R, L_old=V, mask=MASK, level="sequence", passes_on=True)
    yield call(
        sequences.reuse_statistics,
        **table,
        w_old=TOKEN_LOGITS[::-1].copy(),
        A=OUTPUT_REWARDS,
        level="sequence",
    )


def of_preferences():
    rewards, p, wins = RUNS[:3], np.array([0.2, 0.3, 0.5]), np.array([[0, 2.0, 1], [1, 0, 3], [1, 1, 0]])
    L = {"L": np.log(p), "L_ref": np.log(p[::-1])}
    yield call(preferences.preference_probability, r=rewards)
    yield call(preferences.expected_wins, r=rewards, p=p)
    yield call(preferences.count_wins, chosen=np.array([0, 1]), rejected=np.array([2, 0]), n_outputs=3)
    yield call(preferences.preference_loss, r=rewards, wins=wins)
    yield call(preferences.preference_gradient, r=rewards, wins=wins)
    yield call(preferences.fit_rewards, wins=wins, x=X[:3], weight_decay=0.1)
    yield call(preferences.optimal_policy, p_ref=p, r=rewards, beta=0.5)
    yield call(preferences.implicit_reward, **L, beta=0.5)
    yield call(preferences.dpo_loss, **L, wins=wins, beta=0.5)
    yield call(preferences.dpo_gradient, **L, wins=wins, beta=0.5)
    yield call(
        preferences.optimize_proxy, p_ref=p, proxy=rewards, true=rewards[::-1], betas=np.array([1.0, 0.1])
    )


def of_environments():
    yield call(addition.Addition, split="test", test_fraction=0.2, seed=0, then=lambda made: made.prompts)
    yield call(addition.Addition.sample, on=lambda: ADDITION, n=3, rng=a_generator)
    yield call(addition.Addition.solutions, on=lambda: ADDITION, prompts=PROMPTS)
    answers = ADDITION.solutions(PROMPTS)
    yield call(addition.Addition.reward, on=lambda: ADDITION, prompts=PROMPTS, answers=answers)
    yield call(addition.Addition.decode, on=lambda: ADDITION, tokens=PROMPTS)
    yield call(
        lqr.LQR,
        A=np.eye(2),
        B=np.ones((2, 1)),
        C=np.eye(2),
        R=np.eye(1),
        gamma=0.9,
        initial_covariance=np.eye(2),
        noise_covariance=np.eye(2),
        then=lambda made: made.J(GAIN / 3),
    )
    for method in ("values", "J", "discounted_second_moment", "gradient"):
        yield call(getattr(lqr.LQR, method), on=lqr.cart, K=GAIN)
    yield call(lqr.LQR.V, on=lqr.cart, K=GAIN, s=POINTS)
    yield call(lqr.LQR.Q, on=lqr.cart, K=GAIN, s=POINTS, a=FORCES)
    yield call(lqr.LQR.dQ_da, on=lqr.cart, K=GAIN, s=POINTS, a=FORCES)
    yield call(lqr.LQR.env, on=lqr.cart, n_steps=3, max_action=2.0, then=lambda env: env.reset(seed=0)[0])
    yield call(lqr.LQREnv, lqr=lqr.cart, n_steps=3, max_action=2.0, then=lambda env: env.reset(seed=0)[0])
    yield call(lqr.LQREnv.step, on=_begun(lambda: lqr.cart().env()), action=np.array([0.5]))
    yield call(lqr.cart, gamma=0.9, noise_variance=0.01, then=lambda made: made.J(GAIN))
    P, pi = CHAIN.P, CHAIN.pi(LOGITS)
    yield call(markov.in_double_precision, name=lambda: "p", p=pi, passes_on=True)
    yield call(markov.check_distributions, name=lambda: "p", p=pi)
    yield call(
        mdp.MDP,
        P=P,
        r=CHAIN.r,
        initial_distribution=CHAIN.initial_distribution,
        gamma=0.9,
        horizon=3,
        absorbing=np.array([False, False]),
        observation=np.array([0, 1]),
        then=_J_if_small,
    )
    for method in ("pi", "J", "values", "state_visitation", "gradient", "autograd_gradient"):
        yield call(getattr(mdp.MDP, method), on=lambda: CHAIN, w=LOGITS)
    yield call(mdp.MDP.average_reward, on=lambda: QUEUE, w=QUEUE_LOGITS)
    yield call(mdp.MDP.average_reward_gradient, on=lambda: QUEUE, w=QUEUE_LOGITS)
    yield call(mdp.MDP.finite_difference_gradient, on=lambda: CHAIN, w=LOGITS, step=0.01)
    yield call(mdp.MDP.enumerate_episodes, on=lambda: CHAIN, w=LOGITS)
    yield call(mdp.MDP.sample_episodes, on=lambda: CHAIN, w=LOGITS, n_episodes=3, rng=a_generator, n_steps=2)
    yield call(mdp.MDPEnv.step, on=_begun(CHAIN.env), action=1)
    yield call(pong.preprocess, screen=np.full((2, 210, 160), 87, np.uint8))
    yield call(pong.ball_approaching, x=FRAMES)
    yield call(pong.drop_idle_steps, s=FRAMES, a=np.array([0, 1]), r=np.array([0.0, 1.0]))
    yield call(
        pong.Pong, n_envs=2, game="ALE/Pong-v5", n_actions=3, slow=MANY_GAMES, then=lambda env: env.close()
    )
    yield call(pong.Pong.reset, on=_pong_begun, seed=0, then=lambda begun: begun[0])
    yield call(pong.Pong.step, on=_pong_begun, actions=np.array([0, 1]), then=lambda step: step[0])
    yield call(pong.evaluate, act=push_left, n_games=1, seed=0, game=pong.DEFAULT_GAME, slow=MANY_GAMES)
    yield call(
        pong.iter_steps, act=lambda: lambda _: 0, n_steps=2, seed=0, game=pong.DEFAULT_GAME, then=_first_two
    )
    yield call(court.Court, n_envs=2, n_actions=3)
    yield call(court.Court.reset, on=_court_begun, seed=0, then=lambda begun: begun[0])
    yield call(
        court.Court.step,
        on=_court_begun,
        actions=np.array([0, 1]),
        left=np.array([2, 0]),
        then=lambda step: step[0],
    )
    yield call(_rules, label="environments.court.Rules", ball=2, lag=1, paddle=12, angles=-1, rest=4)
    yield call(classic.ClassicVectorEnv, name="CartPole-v1", n_envs=2)
    of_classic = {"on": lambda: classic.ClassicVectorEnv("CartPole-v1", 2), "then": lambda begun: begun[0]}
    yield call(classic.ClassicVectorEnv.reset, seed=[3, None], **of_classic)
    for name, actions in {"CartPole-v1": np.array([0, 1]), "Pendulum-v1": np.array([[0.5], [-2]])}.items():
        make = functools.partial(classic.ClassicVectorEnv, name, 2)
        yield call(
            classic.ClassicVectorEnv.step, on=_begun(make), actions=actions, then=lambda step: step[:2]
        )
    angles = np.array([0.0, 1.0])
    yield call(frames.draw_pendulum, cos=np.cos(angles), sin=np.sin(angles), size=9)
    yield call(frames.to_grey, picture=PICTURES[0], size=8)
    of_frames = {"size": 9, "n_frames": 3, "action_repeat": 2}
    yield call(frames.PixelPendulum, n_envs=2, **of_frames)
    two = functools.partial(frames.PixelPendulum, 2, size=9)
    yield call(frames.PixelPendulum.reset, on=two, seed=[3, None], then=lambda begun: begun[0])
    yield call(
        frames.PixelPendulum.step,
        on=_begun(two),
        actions=np.array([[0.5], [-2]]),
        then=lambda step: step[:2],
    )
    yield call(frames.PixelPendulumTask, **of_frames)
    yield call(frames.PixelPendulumTask.make_vector_env, on=frames.PixelPendulumTask, n_envs=2)
    yield call(frames.RenderedTask, task=lambda: tasks.Task("CartPole-v1"), **of_frames)
    yield call(tasks.Task, name="CartPole-v1")
    cartpole = tasks.Task("CartPole-v1")
    yield call(tasks.Task.make_vector_env, on=lambda: cartpole, n_envs=2)
    yield call(tasks.Task.evaluate, on=lambda: cartpole, act=push_left, n_episodes=2, seed=0)
    yield call(
        tasks.Task.render_episode,
        on=lambda: cartpole,
        act=push_left,
        seed=0,
        then=lambda frames: next(frames),
    )
    yield call(tasks.ContinuingTask, name="Pendulum-v1", n_steps=3, burn_in=1)
    pendulum = tasks.PendulumTask(3, 1)
    yield call(tasks.ContinuingTask.evaluate, on=lambda: pendulum, act=no_force, n_episodes=2, seed=0)
    yield call(tasks.PendulumTask, n_steps=3, burn_in=1, kick_probability=0.5)
    yield call(tasks.AccessControlTask, n_steps=3, burn_in=1)
    yield call(tasks.PongTask, game="ALE/Pong-v5")
    on_pong = tasks.PongTask(pong.DEFAULT_GAME)
    yield call(
        tasks.PongTask.make_vector_env,
        on=lambda: on_pong,
        n_envs=2,
        slow=MANY_GAMES,
        then=lambda env: env.close(),
    )
    yield call(
        tasks.PongTask.evaluate, on=lambda: on_pong, act=push_left, n_episodes=1, seed=0, slow=MANY_GAMES
    )
    on_court = tasks.CourtTask()
    yield call(tasks.CourtTask.make_vector_env, on=lambda: on_court, n_envs=2)
    yield call(tasks.CourtTask.evaluate, on=lambda: on_court, act=push_left, n_episodes=1, seed=0)
    yield call(worlds.chain, horizon=3, gamma=0.9)
    yield call(worlds.short_corridor, observations=(0, 1, 0), swapped=(1,), horizon=3, gamma=0.9)
    yield call(worlds.windy_grid, wind=0.2, horizon=3, gamma=0.9)
    yield call(worlds.hidden_fork)
    yield call(worlds.aliased_gridworld)
    yield call(worlds.random_walk, n_states=5, left_reward=0.0, then=lambda made: made.r)
    yield call(worlds.access_control, n_servers=2, free_probability=0.1, gamma=0.9, then=lambda made: made.P)
    yield call(
        worlds.random_mdp, n_states=3, n_actions=2, rng=a_generator, horizon=3, gamma=0.9, n_observations=2
    )


def _J_if_small(made):
    return made.J(np.zeros((made.n_observations, made.n_actions))) if made.n_observations < 100 else made.r


def _down(step):
    return 0


def _first_two(steps):
    return [step.r for step in itertools.islice(steps, 2)]


def _begun(make):
    """Return a function that makes an environment and begins its episodes."""

    def begun():
        env = make()
        env.reset(seed=0)
        return env

    return begun


def _court_begun():
    env = court.Court(2)
    env.reset(seed=0)
    return env


def _rules(**rules):
    return court.Court(2, rules=court.Rules(**rules))


@functools.cache  # to make one takes a tenth of a second
def _pong_begun():
    env = pong.Pong(2)
    env.reset(seed=0)
    return env


def of_networks():
    sizes = {"n_tokens": 13, "max_length": 10, "width": 8, "n_layers": 1, "n_heads": 2}
    yield call(
        transformer.Transformer,
        seed=0,
        **sizes,
        slow={"width": range(200, 10_001), "n_layers": range(10, 1001)},
        then=lambda made: made([[0]]),
    )
    yield call(autoregressive.answer_mask, answers=ADDITION.solutions(PROMPTS), end=12)
    answered = {"model": a_language_model, "prompts": PROMPTS, "end": 12, "temperature": 0.5}
    yield call(
        autoregressive.generate,
        **answered,
        length=4,
        rng=a_generator,
        also=("tokens",),
        then=lambda drawn: drawn.tokens,
    )
    yield call(
        autoregressive.log_prob_and_entropy,
        **answered,
        answers=ADDITION.solutions(PROMPTS),
        also=("tokens",),
    )
    yield call(mlp.mlp, sizes=(3, 4, 1), seed=0, second_layer_inputs=0, final_init_scale=0.1, then=_weights)
    of_encoder = {"stack_shape": (3, 9, 9), "channels": (2,), "n_features": 4, "seed": 0}
    yield call(encoders.PixelEncoder, **of_encoder, then=_weights)
    yield call(mlp.layer_sizes, state_dim=3, hidden_sizes=(4,))
    yield call(mlp.as_states, s=S, first_layer=lambda: torch.nn.Linear(3, 2), passes_on=True)
    yield call(mlp.as_indices, s=A, n_states=lambda: 2)
    trunk = {"hidden_size": 4, "init_scale": 0.5, "ignored_pixels": np.arange(6400) < 80}
    yield call(pixels.PixelTrunk, n_pixels=6400, generator=a_torch_generator, **trunk, then=_weights)
    yield call(pixels.PixelHead, hidden_size=4, n_outputs=2, generator=a_torch_generator, then=_weights)
    yield call(pixels.PixelPolicy, n_pixels=6400, seed=0, **trunk, then=_greedy)
    yield call(pixels.PixelPolicy.logit, on=lambda: pixels.PixelPolicy(4), x=FRAMES, passes_on=True)
    of_pixels = {"hidden_size": 4, "n_pixels": 6400, "seed": 0}
    yield call(pixels.PixelSoftmaxPolicy, n_actions=3, **of_pixels, then=_greedy)
    yield call(pixels.PixelQNetwork, n_actions=3, **of_pixels, then=_value_of)
    yield call(pixels.PixelQNetwork.forward, on=_of_pixels, s=FRAMES, also="x", passes_on=True)
    yield call(pixels.PixelValue, **of_pixels, then=_value_of)
    yield call(policies.TabularPolicy, w=LOGITS, then=lambda p: p.probabilities([0]))
    yield call(policies.TabularPolicy.logits, on=lambda: policies.TabularPolicy(LOGITS), s=A)
    of_mlp = {"state_dim": 3, "hidden_sizes": (4,), "seed": 0}
    yield call(policies.SoftmaxPolicy, n_actions=2, **of_mlp, then=_greedy)

    def softmax():
        return policies.SoftmaxPolicy(3, 2, (4,))

    def gaussian():
        return policies.GaussianPolicy(3, 1, (4,))

    def deterministic():
        return policies.DeterministicPolicy(3, [-1], [1], (4,))

    def squashed():
        return policies.SquashedGaussianPolicy(3, [-1], [1], (4,))

    yield call(policies.SoftmaxPolicy.logits, on=softmax, s=S, passes_on=True)
    yield call(policies.CategoricalPolicy.log_prob, on=softmax, s=S, a=A, passes_on=True)
    yield call(policies.CategoricalPolicy.log_prob_and_entropy, on=softmax, s=S, a=A, passes_on=True)
    yield call(policies.CategoricalPolicy.probabilities, on=softmax, s=S)
    yield call(policies.CategoricalPolicy.sample, on=softmax, s=S, rng=a_generator)
    yield call(policies.CategoricalPolicy.greedy, on=softmax, s=S)
    yield call(policies.GaussianPolicy, action_dim=1, sigma=0.5, **of_mlp, then=_of_gaussian)
    yield call(policies.GaussianPolicy.mean, on=gaussian, s=S, passes_on=True)
    yield call(policies.GaussianPolicy.log_prob, on=gaussian, s=S, a=CONTINUOUS_A, passes_on=True)
    yield call(policies.GaussianPolicy.log_prob_and_entropy, on=gaussian, s=S, a=CONTINUOUS_A, passes_on=True)
    yield call(policies.GaussianPolicy.sample, on=gaussian, s=S, rng=a_generator)
    yield call(policies.GaussianPolicy.greedy, on=gaussian, s=S)
    yield call(
        policies.DeterministicPolicy,
        low=np.array([-1.0, -2.0]),
        high=np.array([1.0, 2.0]),
        final_init_scale=0.1,
        **of_mlp,
        then=_greedy,
    )
    yield call(policies.DeterministicPolicy.forward, on=deterministic, s=S, passes_on=True)
    yield call(policies.DeterministicPolicy.greedy, on=deterministic, s=S)
    yield call(policies.DeterministicPolicy.sample, on=deterministic, s=S, rng=a_generator)
    yield call(
        policies.SquashedGaussianPolicy,
        low=np.array([-1.0, -2.0]),
        high=np.array([1.0, 2.0]),
        final_init_scale=0.1,
        **of_mlp,
        then=_greedy,
    )
    yield call(policies.SquashedGaussianPolicy.forward, on=squashed, s=S, passes_on=True)
    yield call(policies.SquashedGaussianPolicy.mean_and_log_sigma, on=squashed, s=S, passes_on=True)
    yield call(
        policies.SquashedGaussianPolicy.log_prob, on=squashed, s=S, a=np.tanh(CONTINUOUS_A), passes_on=True
    )
    yield call(
        policies.SquashedGaussianPolicy.rsample_and_log_prob,
        on=squashed,
        s=S,
        rng=a_generator,
        passes_on=True,
    )
    yield call(policies.SquashedGaussianPolicy.greedy, on=squashed, s=S)
    yield call(policies.SquashedGaussianPolicy.sample, on=squashed, s=S, rng=a_generator)
    yield call(values.TabularValue, v=R[0], then=lambda v: v([0]))
    yield call(values.TabularValue.forward, on=lambda: values.TabularValue(R[0]), s=A)
    yield call(values.ValueNetwork, **of_mlp, then=_value_of)
    yield call(values.ValueNetwork.forward, on=a_network, s=S, passes_on=True)
    yield call(values.DiscreteQNetwork, n_actions=2, **of_mlp, then=_value_of)
    q_network = values.DiscreteQNetwork(3, 2, (4,))
    yield call(values.DiscreteQNetwork.forward, on=lambda: q_network, s=S, passes_on=True)
    yield call(values.QNetwork, action_dim=1, final_init_scale=0.1, **of_mlp, then=_value_of)
    critic = values.QNetwork(3, 1, (4,))
    yield call(values.QNetwork.forward, on=lambda: critic, s=S, a=CONTINUOUS_A, passes_on=True)


def _of_pixels():
    return pixels.PixelQNetwork(2, 4)


def _weights(network):
    return tuple(w.detach() for w in network.parameters())


def _states_of(network):
    """Return two states, or frames, as a network takes them."""
    trunk = getattr(network, "trunk", None)
    return np.zeros((2, len(trunk.W1) if trunk else network.layers[0].in_features), np.float32)


def _greedy(policy):
    return policy.greedy(_states_of(policy))


def _value_of(network):
    if isinstance(network, values.QNetwork):
        return network(*(np.ones((2, *shape)) for shape in network.shapes))
    return network(_states_of(network))


def _of_gaussian(policy):
    s = _states_of(policy)
    a = policy.sample(s, a_generator())
    return a, policy.log_prob(s, a)


def of_algorithms():
    yield call(collect.PartialEpisodes, env=a_cartpole, rng=a_generator, n_steps=0, max_episode_length=600)
    yield call(collect.RolloutState, env=a_cartpole, rng=a_generator, n_steps=0)
    acting = {"env": a_cartpole, "policy": a_policy, "rng": a_generator}
    yield call(collect.collect_episodes, n_steps=5, **acting)
    yield call(collect.collect_rollout, rollout_length=5, max_episode_length=600, **acting)
    yield call(
        config.as_schedule,
        also=("eta_decay_steps",),
        name=lambda: "value",
        value=0.1,
        decay_steps=10.0,
        then=_rates,
    )
    yield call(
        config.make_optimizer,
        also=("optimizer",),
        name="Adam",
        parameters=lambda: a_network().parameters(),
        eta=0.1,
        weight_decay=0.1,
    )
    yield call(noise.OrnsteinUhlenbeckNoise, sigma=0.3, theta=0.5, then=_a_draw)
    yield call(noise.OrnsteinUhlenbeckNoise.reset, on=a_noise, shape=(2, 1))
    yield call(noise.OrnsteinUhlenbeckNoise.reset_where, on=a_noise, done=np.array([True, False]))
    yield call(noise.OrnsteinUhlenbeckNoise.sample, on=a_noise, rng=a_generator)
    yield call(off_policy.polyak_update, target=a_network, network=a_network, tau=0.1)
    yield call(
        replay.ReplayBuffer,
        capacity=10,
        state_shape=(3,),
        action_shape=(1,),
        state_dtype="float32",
        action_dtype="float32",
        n_seeds=2,
        then=lambda buffer: buffer.stored(),
    )
    transitions = {
        "s": S,
        "a": CONTINUOUS_A,
        "r": RUNS[:5],
        "next_s": NEXT_S,
        "terminated": np.zeros(5, bool),
    }
    yield call(replay.ReplayBuffer.add, on=a_buffer, **transitions)
    yield call(
        frame_replay.FrameReplayBuffer,
        capacity=10,
        stack_shape=(3, 4, 4),
        action_shape=(1,),
        n_envs=2,
        max_shift=1,
        n_seeds=2,
        then=lambda buffer: buffer.stored(),
    )
    stacks = np.zeros((1, 3, 4, 4), np.uint8)
    begun = {"s": stacks, "a": np.ones((1, 1)), "r": np.ones(1), "next_s": stacks}
    yield call(frame_replay.FrameReplayBuffer.add, on=_frame_buffer, **begun, terminated=np.zeros(1, bool))
    yield call(frame_replay.FrameReplayBuffer.sample, on=_frame_buffer, batch_size=1, rng=a_generator)
    yield call(frame_replay.random_shift, stacks=stacks, max_shift=1, rng=a_generator)
    yield call(replay.ReplayBuffer.sample, on=a_buffer, batch_size=3, rng=a_generator)
    yield call(critics.Critic, value=a_network, then=lambda critic: critic(S))
    yield call(critics.Critic.__call__, on=lambda: critics.Critic(a_network()), s=S, passes_on=True)
    yield call(
        critics.Critic.fit, on=lambda: critics.Critic(a_network()), s=S, target=RUNS[:5], passes_on=True
    )
    learner = {
        "env": a_cartpole,
        "policy": a_policy,
        "value": lambda: values.ValueNetwork(4, (4,)),
        "seed": [0],  # or a number
    }
    yield call(several.RandomStreams, seeds=[0, 1], also=("seed",), then=lambda made: made.integers(9))
    yield call(several.distinct, seed=[0, 1])
    yield call(several.random_stream, seed=[0], env=a_cartpole, then=lambda made: made.random(4))
    yield call(critics.PolicyEvaluation, **learner)
    yield call(actor_critic.ActorCritic, **learner)
    yield call(ppo.PPO, **learner)
    yield call(reinforce.Reinforce, env=a_cartpole, policy=a_policy, max_episode_length=600, seed=[0])
    on_addition = {"problems": lambda: ADDITION, "policy": a_language_model, "seed": 0}
    yield call(language_model.SupervisedFineTuning, **on_addition, then=lambda made: made.n_steps)
    yield call(language_model.SequenceReinforce, **on_addition, then=lambda made: made.n_steps)
    yield call(
        language_model.fine_tune,
        algorithm=lambda: language_model.SupervisedFineTuning(ADDITION, a_language_model()),
        accuracy=0.0,
        interval=1,
        n_prompts=3,
        max_updates=2,
        seed=0,
        slow=dict.fromkeys(("interval", "n_prompts", "max_updates"), range(10, 10_000_001)),
    )
    yield call(
        language_model.mean_reward,
        policy=a_language_model,
        problems=lambda: ADDITION,
        prompts=PROMPTS,
        rng=a_generator,
        temperature=0.5,
    )
    small = {"capacity": 100, "batch_size": 5, "learning_starts": 5}
    yield call(
        dqn.DQN,
        env=a_cartpole,
        q_network=_q_network,
        config=lambda: dqn.DQNConfig(**small),
        seed=[0],
    )
    of_pendulum = {
        "env": a_pendulum,
        "policy": _actor,
        "seed": [0],
    }
    yield call(ddpg.DDPG, critic=_critic, config=lambda: ddpg.DDPGConfig(**small), **of_pendulum)
    yield call(
        ddpg.TD3,
        critic=_twins,
        config=lambda: ddpg.TD3Config(**small),
        **of_pendulum,
    )
    yield call(
        sac.SAC,
        critic=_twins,
        config=lambda: sac.SACConfig(**small),
        **of_pendulum | {"policy": _squashed},
    )
    yield call(sac.Temperature, alpha=0.5, n_seeds=2, then=lambda made: made(4))


def _frame_buffer():
    buffer, stacks = frame_replay.FrameReplayBuffer(10, (3, 4, 4), (1,)), np.zeros((1, 3, 4, 4), np.uint8)
    buffer.add(stacks, np.ones((1, 1)), np.ones(1), stacks, np.zeros(1, bool))
    return buffer


def _value():
    return values.ValueNetwork(4, (4,))


def _actor():
    return policies.DeterministicPolicy(3, [-2], [2], (4,))


def _squashed():
    return policies.SquashedGaussianPolicy(3, [-2], [2], (4,))


def _critic():
    return values.QNetwork(3, 1, (4,))


def _parameters():
    return a_network().parameters()


def _rates(schedule):
    return schedule(0), schedule(10)


def _a_draw(made):
    made.reset((2, 1))
    return made.sample(a_generator())


def of_configs():
    """Yield a call of each config and architecture, with a good value for each field that is no flag."""
    numbers = {"eta_decay_steps": 10.0, "rollout_length": 4, "exploration_steps": 10, "final_init_scale": 0.1}
    numbers |= {"anneal_steps": 10.0, "minibatch_size": 4, "target_kl": 0.1, "target_entropy": -1.5}
    for config_class in (
        reinforce.ReinforceConfig,
        language_model.SupervisedConfig,
        language_model.SequenceReinforceConfig,
        critics.CriticConfig,
        critics.PolicyEvaluationConfig,
        actor_critic.ActorCriticConfig,
        ppo.PPOConfig,
        dqn.DQNConfig,
        ddpg.DDPGConfig,
        ddpg.TD3Config,
        sac.SACConfig,
        architectures.MLP,
        architectures.GaussianMLP,
        architectures.ActorAndQ,
        architectures.PixelActorAndQ,
        architectures.Pixels,
        architectures.PongEpisodes,
    ):
        defaults = {f.name: f.default for f in dataclasses.fields(config_class)} | {"batch_size": 5}
        good = {
            name: numbers.get(name, value)
            for name, value in defaults.items()
            if name in {f.name for f in dataclasses.fields(config_class)}
            and (name in numbers or isinstance(value, int | float | str | tuple))
            and not isinstance(value, bool)
        }
        yield call(config_class, **good, also=("sigma",), then=_users.get(config_class.__name__, _network_of))


def _network_of(architecture):
    if isinstance(architecture, architectures.PixelActorAndQ):
        return _weights(architectures.make_network(architecture, "actor", frames.PixelPendulum(1), 0))
    role = "actor" if isinstance(architecture, architectures.ActorAndQ) else "policy"
    continuous = isinstance(architecture, architectures.ActorAndQ | architectures.GaussianMLP)
    return _weights(
        architectures.make_network(architecture, role, (a_pendulum if continuous else a_cartpole)(), 0)
    )


def _on_cartpole(algorithm, *networks):
    return lambda config: algorithm(a_cartpole(), *(network() for network in networks), config).config.eta


def _on_pendulum(algorithm, critic, actor=_actor):
    return lambda config: algorithm(a_pendulum(), actor(), critic(), config).config.eta


def _q_network():
    return values.DiscreteQNetwork(4, 2, (4,))


def _twins():
    return values.TwinCritic(_critic(), _critic())


_users = {  # what checks the rest of a config: the algorithm that is built with it
    "ReinforceConfig": _on_cartpole(reinforce.Reinforce, a_policy),
    "SupervisedConfig": lambda config: (
        language_model.SupervisedFineTuning(ADDITION, a_language_model(), config).n_steps
    ),
    "SequenceReinforceConfig": lambda config: (
        language_model.SequenceReinforce(ADDITION, a_language_model(), config).n_steps
    ),
    "CriticConfig": lambda config: critics.Critic(a_network(), config).r_bar,
    "PolicyEvaluationConfig": lambda config: critics.Critic(a_network(), config).r_bar,
    "ActorCriticConfig": _on_cartpole(actor_critic.ActorCritic, a_policy, _value),
    "PPOConfig": _on_cartpole(ppo.PPO, a_policy, _value),
    "DQNConfig": _on_cartpole(dqn.DQN, _q_network),
    "DDPGConfig": _on_pendulum(ddpg.DDPG, _critic),
    "TD3Config": _on_pendulum(ddpg.TD3, _twins),
    "SACConfig": _on_pendulum(sac.SAC, _twins, _squashed),
}


def diagnosed(n_steps, eval_return, gamma=None, eval_error=None, checkpoint_interval=None):
    known = {"gamma": gamma, "eval_error": eval_error, "checkpoint_interval": checkpoint_interval}
    return diagnosis.diagnose(diagnosis.Run(curve={"n_steps": n_steps, "eval_return": eval_return}, **known))


def of_experiments():
    yield call(
        architectures.make_network,
        architecture=lambda: architectures.MLP((4,)),
        role="policy",
        env=a_cartpole,
        seed=0,
    )
    rows = np.arange(9.0)
    yield call(
        diagnosed,
        label="experiments.diagnosis.Run",
        also=("curve",),
        **{"n_steps": rows, "eval_return": rows, "gamma": 0.9, "eval_error": 1.0, "checkpoint_interval": 100},
    )
    yield call(recipes.get, name="dqn/cartpole")
    yield call(recipes.actor, policy=a_policy, seed=0)
    recipe = {
        "description": lambda: "for the campaign",
        "algorithm": "reinforce",
        "task": lambda: tasks.Task("CartPole-v1"),
        "architecture": lambda: architectures.MLP((4,)),
        "steps": 1000,
        "checkpoint_interval": 100,
        "n_eval_episodes": 2,
        "n_envs": 2,
    }
    yield call(recipes.Recipe, name=lambda: "faults", config=lambda: {}, **recipe)
    yield call(
        recipes.register, name=lambda: "faults", then=lambda _: recipes.RECIPES.pop("faults"), **recipe
    )
    cartpole = recipes.get("reinforce/cartpole")
    changed = {
        "eta": "0.1",
        "gamma": "0.9",
        "batch_size": 5,
        "hidden_sizes": "8x8",
        "return_fn": "total",
        "n_envs": 2,
    }
    yield call(recipes.Recipe.settings, on=lambda: cartpole, **changed)
    yield call(
        recipes.Recipe.build, on=lambda: cartpole, seed=[0], **changed, then=lambda made: made.config.eta
    )
    yield call(recipes.Recipe.evaluate, on=lambda: cartpole, policy=a_policy, n_episodes=2, seed=0)
    learner = {"recipe": lambda: recipes.get("actor-critic/cartpole"), "also": ("seed",)}
    budget = {"steps": 1000, "n_rows": 2}
    yield call(at_once.train_at_once, seeds=[0, 1], eta=0.1, **budget, **learner, then=_close)
    yield call(at_once.evaluate_at_once, policy=_two_policies, n_episodes=2, seed=0, **learner)
    yield call(records.Record.verify, on=lambda: OLD_RUN, n_episodes=2, seed=0, slow=MANY_GAMES)
    yield call(records.Record.policy, on=lambda: OLD_RUN, n_steps=None)
    yield call(records.load, name="reinforce/cartpole")
    yield call(settings.from_json, name=lambda: "return_fn", value="total")
    yield call(settings.converted_like, name=lambda: "eta", default=lambda: 0.1, value="0.2", then=_close)
    yield call(settings.converted_like, name=lambda: "batch_size", default=lambda: 8, value=4)
    yield call(settings.converted_like, name=lambda: "hidden_sizes", default=lambda: [64], value=[8])
    run = {"recipe": "reinforce/cartpole", "seeds": [0, 1], "settings": {"eta": 0.1}, "steps": 1000.0}
    run |= {"checkpoint_interval": 100, "n_eval_episodes": 2, "n_jobs": 1, "progress": lambda: False}
    yield call(_nothing_runs(sweeps.run), folder=tempfile.mkdtemp, **run)
    yield call(
        _nothing_runs(sweeps.resume), folder=_stopped_run, n_eval_episodes=2, n_jobs=1, progress=lambda: False
    )
    yield call(training.Budget.from_kwargs, label="experiments.training.Budget.from_kwargs", steps=5.0)
    budget = {"steps": 1.0, "checkpoint_interval": 100, "eval_interval": 50}
    yield call(
        _nothing_runs(training.train),
        algorithm=lambda: cartpole.build(0, batch_size=2, hidden_sizes="4"),
        progress=lambda: False,
        **budget,
    )


def _two_policies():
    return stacked.stack([a_policy(), a_policy()])


def _forget(recipe):
    del recipes.RECIPES[recipe.name]


def _eta(algorithm):
    return algorithm.config.eta


def _reinforce():
    return recipes.get("reinforce/cartpole").build(0, batch_size=2, hidden_sizes="4")


def _nothing_runs(function):
    """Return a function that trains or runs, without that: only its checks are left."""

    @functools.wraps(function)
    def checked(**arguments):
        no_training = mock.patch.object(training, "_train", return_value=[None])
        with no_training, mock.patch.multiple(sweeps, **_STUBS):
            try:
                function(**arguments)
            except RuntimeError as error:
                if _NOT_RUN not in str(error):
                    raise

    return checked


def _stopped_run():
    """Return a folder with a run that has not begun."""
    recipe = recipes.get("reinforce/cartpole")
    spec = sweeps.RunSpec(recipe.name, 0, {}, training.Budget(10, "steps"), 100)
    folder = Path(tempfile.mkdtemp(), "run")
    folder.mkdir()
    records.write(folder, sweeps._metadata(folder, spec))
    return folder


_NOT_RUN = "the campaign runs nothing"
_STUBS = {
    "_attempt": lambda runs, *_, **__: [_NOT_RUN] * len(runs),
    "_on_cores": lambda _, groups, __: [[_NOT_RUN] * len(runs) for runs in groups],
}


def of_teaching():
    yield call(diagrams.backup, kind="td", then=_close)
    yield call(exercises.check, number="4.4", function=lambda: returns.reward_to_go)
    yield call(_explore, label="teaching.explore.explore", eta=(0.1, 1.0), then=_close)
    yield call(laboratory.laboratory, steps=1000)
    of_button = {"n_seeds": 2, "steps": 1000, "eta": (0.1, 1.0)}
    yield call(_train_button, label="teaching.live.train_button", **of_button, also=("seed",), then=_close)
    yield call(plots.scatter_classes, ax=_axes, x=X, target=LABELS, names=lambda: ("no", "yes"), then=_close)
    yield call(plots.decision_regions, ax=_axes, predict=lambda: _prediction, n=5, then=_close)
    yield call(
        plots.contour,
        ax=_axes,
        a=np.arange(3.0),
        b=np.arange(4.0),
        values=_rng.normal(size=(4, 3)),
        path=POINTS,
        maximum=(1.0, 1.0),
        then=_close,
    )
    yield call(plots.image, ax=_axes, pixels=PICTURES[0], vmin=0.0, vmax=1.0, then=_close)
    yield call(plots.difference_frame, ax=_axes, x=FRAMES[0], then=_close)
    yield call(sandbox.Limits, cpu_seconds=5, function_seconds=1.0, seconds=10.0, memory=2**30)
    yield call(video.encode_mp4, frames=PICTURES, fps=30.0)
    yield call(video.show, frames=PICTURES, caption="a video", fps=30.0)


def _prediction(x):
    return np.full(len(x), 0.3)


def _axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def _close(_):
    """Return nothing: a figure is no number."""


def _explore(eta):
    with contextlib.redirect_stdout(io.StringIO()):  # where IPython shows the figure
        return explore.explore(_draw, eta=eta)


def _train_button(**options):
    return live.train_button("actor-critic/cartpole", **options)


def _draw(eta):
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))
