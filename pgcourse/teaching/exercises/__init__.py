"""Exercises that answer: what a student wrote is tried on cases that it has not seen, and is told what kind of mistake it makes.

Each exercise knows the mistakes that are often made in it, as functions that make them: if one of them gives what the student's function
gives in every case, that is what it looks like. Others, such as a sign or a factor, can be made anywhere.

On no slide.
"""

import inspect
import textwrap
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from pgcourse.maths.logistic import sigmoid, softmax
from pgcourse.maths.returns import leave_one_out, reward_to_go, total_return
from pgcourse.maths.statistics import iqm

Cases = Iterable[tuple]


class Exercise(NamedTuple):
    """A function that a student is asked to write."""

    answer: Callable  # what is right; its name and the names of its arguments are the student's too
    cases: Callable[
        [np.random.Generator], Cases
    ]  # arguments; the first are small enough to be followed with a pencil
    mistakes: list[tuple[str, Callable]]  # what is said of one, and a function that makes it


class Verdict(NamedTuple):
    """What is to be said of a function: shown as its text."""

    right: bool
    text: str

    def __repr__(self):
        return self.text


class _Odd(Exception):
    """What came instead of numbers, and what is to be said of it."""

    def __init__(self, shown: str, sentence: str):
        super().__init__(shown)
        self.sentence = sentence


def check(number: str, function: Callable) -> Verdict:
    """Return whether a function solves an exercise, and if not, on which case it does not, and what kind of mistake that looks like.

    Args:
        number: of the exercise, such as "4.4".
        function: what was written. One that returns nothing has not been written yet, which is no mistake.

    Raises:
        ValueError: if there is no such exercise, or ``function`` is none.
    """
    if number not in EXERCISES:
        raise ValueError(f"number must be one of {', '.join(EXERCISES)}, got {number!r}")
    if not callable(function):
        raise ValueError(
            f"function must be the function that you wrote, got {function!r}; without brackets behind its name"
        )
    answer, make_cases, mistakes = EXERCISES[number]
    cases = list(make_cases(np.random.default_rng(0)))
    expected = [np.asarray(answer(*case), float) for case in cases]
    tried = [_try(function, case) for case in cases]
    title = f"Exercise {number}, {answer.__name__}:"
    if all(_nothing(got) for got in tried):
        return Verdict(
            False, f"{title} returns nothing yet.\nWrite it, end it with `return`, and run this cell again."
        )
    good = [_same(got, right) for got, right in zip(tried, expected, strict=True)]
    if all(good):
        return Verdict(True, f"{title} right, in all of {len(cases)} cases.")
    k = good.index(False)
    about = [
        f"{name} = {_shown(value)}"
        for name, value in zip(inspect.signature(answer).parameters, cases[k], strict=True)
    ]
    about += [f"expected: {_shown(expected[k])}", f"returned: {_shown(tried[k])}"]
    lines = [f"{title} not yet; right in {sum(good)} of {len(cases)} cases. For"]
    lines += [textwrap.indent(one, "    ") for one in about]
    lines += [textwrap.fill(_looks_like(tried, expected, cases, mistakes, good), 80)]
    return Verdict(False, "\n".join(lines))


def _try(function, case):
    """Return what a function returns, as numbers where it can be; or the exception that it ended with."""
    given = [np.copy(x) if isinstance(x, np.ndarray) else x for x in case]
    try:
        with warnings.catch_warnings(action="ignore"):
            got = function(*given)
    except Exception as error:  # whatever it is, the student is told
        return error
    if not all(np.array_equal(x, y) for x, y in zip(given, case, strict=True)):
        return _Odd(
            "what it was given has changed",
            "The numbers may be right, but begin with a copy, such as `r = r.copy()`.",
        )
    try:
        return got if got is None else np.asarray(got, float)
    except (TypeError, ValueError):
        return _Odd(f"something of type {type(got).__name__}", "What is asked for is an array of numbers.")


def _nothing(got) -> bool:
    return got is None or isinstance(got, NotImplementedError)


def _same(got, other) -> bool:
    if not (isinstance(got, np.ndarray) and isinstance(other, np.ndarray)):
        return type(got) is type(other)  # both end with the same kind of error, or return nothing
    return got.shape == other.shape and np.allclose(got, other, rtol=1e-6, atol=1e-9, equal_nan=True)


def _shown(value) -> str:
    if isinstance(value, Exception):
        return str(value) if isinstance(value, _Odd) else f"{type(value).__name__}: {value}"
    if not isinstance(value, np.ndarray):
        return str(value)
    text = np.array2string(value, precision=4, separator=", ", suppress_small=True, threshold=40)
    return text if "\n" not in text else "\n" + textwrap.indent(text, "    ")


def _looks_like(tried, expected, cases, mistakes, good) -> str:
    """Return a sentence on the kind of mistake."""
    made = {sentence: [_try(wrong, case) for case in cases] for sentence, wrong in mistakes}
    finite = [isinstance(got, np.ndarray) and bool(np.isfinite(got).all()) for got in tried]
    wrong_where_finite = any(ok and not right for ok, right in zip(finite, good, strict=True))
    for counts in (
        [True] * len(tried),
        finite if wrong_where_finite else [],
    ):  # some would be recognised but for an overflow
        for sentence, results in made.items():
            if counts and all(
                _same(got, other) for got, other, ok in zip(tried, results, counts, strict=True) if ok
            ):
                return sentence
    got, right = next((got, right) for got, right, ok in zip(tried, expected, good, strict=True) if not ok)
    if isinstance(got, _Odd):
        return got.sentence
    if isinstance(got, Exception):
        return "It does not get to its end: read the message above."
    if _nothing(got):
        return "Here it returns nothing: is there a `return` on every way through it?"
    if got.shape != right.shape:
        shapes = f"The shape should be {right.shape}, and is {got.shape}:"
        turned = got.shape == right.shape[::-1]
        return (
            f"{shapes} is it transposed?"
            if turned
            else f"{shapes} along which axis is there a sum, a mean, or too much broadcasting?"
        )
    if not np.isfinite(got).all():
        return "There are numbers that are none: is something divided by zero, or an exponential too large?"
    if all(_same(got, -right) for got, right in zip(tried, expected, strict=True)):
        return "The sign is the wrong way round, everywhere."
    if factor := _factor(tried, expected):
        return f"Everything is {factor:.4g} times what it should be."
    if 2 * sum(good) > len(good):
        return "Most cases are right. What is different in this one?"
    return "Follow this case with a pencil."


def _factor(tried, expected) -> float | None:
    """Return by what everything is too large, if it is the same in all cases."""
    if not all(
        isinstance(got, np.ndarray) and got.shape == right.shape
        for got, right in zip(tried, expected, strict=True)
    ):
        return None
    got, right = (np.concatenate([x.ravel() for x in all_of]) for all_of in (tried, expected))
    factor = float(got @ right / (right @ right))
    return factor if factor and np.allclose(got, factor * right, rtol=1e-6, atol=1e-9) else None


# Chapter 1


def probabilities(q, temperature):
    """Return the softmax of q over its last axis, made hotter or colder."""
    return softmax(q / temperature)


def _values(rng) -> Cases:
    yield np.array([[0.0, 1.0]]), 1.0
    yield np.array([[0.0, 1.0], [2.0, 2.0]]), 0.5
    yield np.array([[700.0, 900.0, 800.0]]), 0.1
    yield np.array([[0.0, 1.0], [2000.0, 2001.0]]), 1.0
    for _ in range(7):
        yield rng.normal(size=(rng.integers(2, 5), 3)), rng.uniform(0.2, 3)


def _divided(z, **kept):
    return np.exp(z) / np.exp(z).sum(axis=1, **kept)


_PROBABILITIES = [
    (
        "This multiplies by the temperature: a hot policy should be the more random one, and it is the cold one.",
        lambda q, T: softmax(q * T),
    ),
    ("The temperature does nothing here.", lambda q, T: softmax(q)),
    (
        "The sum goes over the states. Each row is a state of its own, and has to sum to 1.",
        lambda q, T: softmax(q.T / T).T,
    ),
    (
        "The sum goes over all states at once. Each row is a state of its own, and has to sum to 1.",
        lambda q, T: softmax(np.ravel(q / T)).reshape(q.shape),
    ),
    (
        "Exponentials of large numbers are infinite. Take the largest of each row away first, which changes no ratio.",
        lambda q, T: _divided(q / T, keepdims=True),
    ),
    (
        "The largest of all was taken away. In a row far below it every exponential is zero: take each row's own.",
        lambda q, T: _divided(q / T - np.max(q / T), keepdims=True),
    ),
    (
        "The sums have lost an axis, so that columns are divided by the sums of rows: `keepdims=True`.",
        lambda q, T: _divided(q / T - np.max(q / T, axis=1, keepdims=True)),
    ),
    ("These are in the right proportion, but do not sum to 1.", lambda q, T: np.exp(q / T)),
    (
        "This is the choice of the best, which only a temperature of zero would make.",
        lambda q, T: np.eye(q.shape[1])[q.argmax(axis=1)],
    ),
]


# Chapter 2


def uphill(w, x, t):
    """Return ∂L/∂w of the mean log-probability of the labels."""
    return x.T @ (t - sigmoid(x @ w)) / len(x)


def _bottles(rng) -> Cases:
    yield np.zeros(2), np.array([[1.0, 2.0]]), np.array([1])
    yield np.array([1.0, 0.0]), np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1, 0])
    for _ in range(8):
        m, n = rng.integers(3, 8), rng.integers(2, 5)
        yield rng.normal(size=n), rng.normal(size=(m, n)), rng.integers(0, 2, m)


_SLOPE = [
    (
        "This is the slope of −L, or y − t in place of t − y: climbing it makes the labels less probable.",
        lambda w, x, t: -uphill(w, x, t),
    ),
    ("This is the sum over the bottles, and L is their mean.", lambda w, x, t: uphill(w, x, t) * len(x)),
    (
        "The sigmoid is missing: x·w is a logit, and y is between 0 and 1.",
        lambda w, x, t: x.T @ (t - x @ w) / len(x),
    ),
    (
        "There is a factor y (1 − y) too many: this is the slope of the squared error. In L the logarithm takes it away.",
        lambda w, x, t: x.T @ ((t - sigmoid(x @ w)) * sigmoid(x @ w) * (1 - sigmoid(x @ w))) / len(x),
    ),
    (
        "These are the slopes of each bottle. What is asked for is their mean, an array like w.",
        lambda w, x, t: x * (t - sigmoid(x @ w))[:, None],
    ),
    (
        "This is the sum over the bottles and not their mean, and its sign is wrong.",
        lambda w, x, t: -uphill(w, x, t) * len(x),
    ),
    (
        "This divides by the number of weights. The mean is over the bottles.",
        lambda w, x, t: uphill(w, x, t) * len(x) / len(w),
    ),
]


# Chapter 3


def credit(r):
    """Return for each decision of a game what its point was worth; 0 if the point is still going on."""
    return _worth(r, 1.0)


def _points(rng) -> Cases:
    yield (np.array([0.0, 0.0, -1.0]),)
    yield (np.array([0.0, 1.0, 0.0, 0.0, -1.0]),)
    yield (np.array([-1.0, 0.0, 1.0, 0.0]),)
    for _ in range(7):
        yield (rng.choice([-1.0, 0, 0, 0, 1], 20),)


def _before(r):
    worth, last = np.zeros(len(r)), 0.0
    for i in range(len(r)):
        last = r[i] if r[i] else last
        worth[i] = last
    return worth


def _worth(r, gamma):
    worth, after = np.zeros(len(r)), 0.0
    for i in reversed(range(len(r))):
        worth[i] = after = r[i] or gamma * after
    return worth


_CREDIT = [
    (
        "Only the decision that ends a point is credited. Those before it have made the point, and should share in it.",
        lambda r: r,
    ),
    (
        "The sum runs on into the next points. What is decided now cannot help there: at the end of a point begin anew.",
        lambda r: reward_to_go(r),
    ),
    (
        "Every decision gets the result of the whole game. Here a point is an episode.",
        lambda r: total_return(r),
    ),
    (
        "Decisions get the result of the point before. It is the one that they are a part of that counts.",
        _before,
    ),
    (
        "It adds up from the beginning: a decision is credited with what came before it.",
        lambda r: np.cumsum(r),
    ),
    (
        "The decision that ends a point gets the next one. It belongs to the point that it ends.",
        lambda r: np.append(credit(r)[1:], 0.0),
    ),
    (
        "The decision that ends a point gets nothing. It belongs to the point that it ends.",
        lambda r: credit(r) * (r == 0),
    ),
    ("This is discounted. Here every decision of a point gets the same.", lambda r: _worth(r, 0.99)),
    (
        "The last decisions belong to a point that is still going on: 0.",
        lambda r: np.where(np.cumsum(r[::-1] != 0)[::-1] == 0, np.append(0, r[r != 0])[-1], credit(r)),
    ),
]


# Chapter 4


def to_go(r, gamma):
    """Return Gᵢ = Σⱼ≥ᵢ γʲ⁻ⁱ rⱼ."""
    return reward_to_go(r, gamma)


def _rewards(rng) -> Cases:
    yield np.array([0.0, 0.0, 1.0]), 0.5
    yield np.array([1.0, 2.0, 3.0]), 0.5
    yield np.array([1.0, 0.0, -1.0]), 1.0
    for _ in range(7):
        yield rng.normal(size=rng.integers(2, 9)), rng.uniform(0.3, 0.95)


_TO_GO = [
    ("The discount is missing.", lambda r, gamma: reward_to_go(r)),
    (
        "Every step gets the return of the whole episode. Step i cannot have changed what was paid before it.",
        lambda r, gamma: total_return(r, gamma),
    ),
    (
        "Off by one: the reward of step i itself is missing.",
        lambda r, gamma: np.append(reward_to_go(r, gamma)[1:], 0.0),
    ),
    (
        "Off by one: the reward of step i is discounted once already, and should not be.",
        lambda r, gamma: gamma * reward_to_go(r, gamma),
    ),
    (
        "This is discounted from the beginning of the episode, γʲ in place of γʲ⁻ⁱ: late steps hardly count.",
        lambda r, gamma: reward_to_go(r, gamma, from_start=True),
    ),
    (
        "It looks back: step i is credited with what came before it. Begin at the end of the episode.",
        lambda r, gamma: reward_to_go(r[::-1], gamma)[::-1],
    ),
    (
        "The returns are right, but in the order in which they were found, the last one first.",
        lambda r, gamma: reward_to_go(r, gamma)[::-1],
    ),
    (
        "Only one further reward is counted, rᵢ + γ rᵢ₊₁. It is Gᵢ₊₁ that comes after γ.",
        lambda r, gamma: r + gamma * np.append(r[1:], 0.0),
    ),
]


# Chapter 5


def score_of_step(w, s, a):
    """Return ∂ log π(a|s)/∂w for a table of logits."""
    return _row(w, s, np.eye(w.shape[1])[a] - softmax(w[s]))


def _tables(rng) -> Cases:
    yield np.zeros((2, 2)), 0, 1
    yield np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]]), 1, 0
    for _ in range(8):
        n, k = rng.integers(2, 5, 2)
        yield rng.normal(size=(n, k)), int(rng.integers(n)), int(rng.integers(k))


def _row(w, s, values):
    table = np.zeros_like(w)
    table[s] = values
    return table


_SCORE = [
    (
        "The sign is the wrong way round: this makes what was done less probable.",
        lambda w, s, a: -score_of_step(w, s, a),
    ),
    (
        "This is ∂π/∂w. Divided by π it is ∂ log π/∂w.",
        lambda w, s, a: softmax(w[s])[a] * score_of_step(w, s, a),
    ),
    (
        "−π is missing: raising one logit lowers the probability of all others.",
        lambda w, s, a: _row(w, s, np.eye(w.shape[1])[a]),
    ),
    (
        "In other states than s nothing was done: their rows are zero.",
        lambda w, s, a: np.eye(w.shape[1])[a] - softmax(w),
    ),
    (
        "This is the row of s. What is asked for has the shape of w, with zeros in the other rows.",
        lambda w, s, a: score_of_step(w, s, a)[s],
    ),
    (
        "Probabilities are over the actions of one state, a row of w, and these are over the states.",
        lambda w, s, a: _row(w, s, np.eye(w.shape[1])[a] - softmax(w.T).T[s]),
    ),
    (
        "What was not done has no slope here. Its logits should go down: their slope is −π.",
        lambda w, s, a: score_of_step(w, s, a) * np.eye(w.shape[1])[a],
    ),
    (
        "The probabilities of one state sum to 1, and these are over the whole table.",
        lambda w, s, a: _row(w, s, np.eye(w.shape[1])[a] - softmax(w.ravel()).reshape(w.shape)[s]),
    ),
]


# Chapter 6


def less_the_others(R):
    """Return each episode's return less the mean of the others'."""
    return R - leave_one_out(R[:, None])[:, 0]


def _returns(rng) -> Cases:
    yield (np.array([0.0, 1.0]),)
    yield (np.array([1.0, 2.0, 6.0]),)
    for _ in range(8):
        yield (rng.normal(size=rng.integers(3, 9)) + 5,)


_LESS_THE_OTHERS = [
    (
        "The mean is that of all episodes, and should be that of the others: a baseline must not know what was drawn.",
        lambda R: R - R.mean(),
    ),
    (
        "This is the baseline, the mean of the others. What is asked for is the return less it.",
        lambda R: R - less_the_others(R),
    ),
    (
        "The sum of the others is divided by the number of all: there is one less.",
        lambda R: R - (R.sum() - R) / len(R),
    ),
    ("Standardised: the mean of all, and a division by the spread.", lambda R: (R - R.mean()) / R.std()),
    (
        "The sign is the wrong way round: better than the others should be positive.",
        lambda R: -less_the_others(R),
    ),
    ("This takes away the sum of the others, not their mean.", lambda R: R - (R.sum() - R)),
    (
        "Standardised, with n − 1: the mean of all, and a division by the spread.",
        lambda R: (R - R.mean()) / R.std(ddof=1),
    ),
]


# Chapter 7


def surprises(r, v, v_after, terminated, truncated, gamma):
    """Return δ = r + γ v(s') − v(s), where nothing comes after an end."""
    return r + gamma * v_after * ~terminated - v


def _steps(rng) -> Cases:
    no, yes = np.array([False]), np.array([True])
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), yes, no, 0.5
    yield np.array([1.0]), np.array([2.0]), np.array([4.0]), no, yes, 0.5
    for _ in range(7):
        n = rng.integers(3, 7)
        yield *rng.normal(size=(3, n)), rng.random(n) < 0.3, rng.random(n) < 0.3, rng.uniform(0.5, 0.99)


_SURPRISES = [
    (
        "After an end nothing comes: where an episode terminated, v(s') must not count.",
        lambda r, v, after, end, cut, gamma: r + gamma * after - v,
    ),
    (
        "Where an episode was only cut off, something would have come: v(s') counts there.",
        lambda r, v, after, end, cut, gamma: r + gamma * after * ~(end | cut) - v,
    ),
    (
        "It is the other way round: `terminated` is an end, after which nothing comes; `truncated` is not.",
        lambda r, v, after, end, cut, gamma: r + gamma * after * ~cut - v,
    ),
    ("The discount is missing.", lambda r, v, after, end, cut, gamma: surprises(r, v, after, end, cut, 1.0)),
    (
        "This is the target. The surprise is the target less what was expected, v(s).",
        lambda r, v, after, end, cut, gamma: r + gamma * after * ~end,
    ),
    (
        "The sign is the wrong way round: better than expected should be positive.",
        lambda r, v, after, end, cut, gamma: -surprises(r, v, after, end, cut, gamma),
    ),
    (
        "At an end v(s) must be taken away too: the critic expected something, and it did not come.",
        lambda r, v, after, end, cut, gamma: r + (gamma * after - v) * ~end,
    ),
    (
        "At an end the last reward is still paid.",
        lambda r, v, after, end, cut, gamma: (r + gamma * after) * ~end - v,
    ),
    (
        "At an end there is a surprise too: r − v(s).",
        lambda r, v, after, end, cut, gamma: (r + gamma * after - v) * ~end,
    ),
    (
        "v(s) and v(s') have changed places.",
        lambda r, v, after, end, cut, gamma: surprises(r, after, v, end, cut, gamma),
    ),
    (
        "The reward is discounted too. It is paid now.",
        lambda r, v, after, end, cut, gamma: gamma * (r + after * ~end) - v,
    ),
]


# Chapter 8


def actor_slope(s, dQ_da):
    """Return the mean of ∂Q/∂a · ∂μ/∂K for μ(s) = −K s."""
    return -dQ_da.T @ s / len(s)


def _slopes(rng) -> Cases:
    yield np.array([[1.0, 2.0]]), np.array([[3.0]])
    yield np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [2.0]])
    for _ in range(8):
        m, n, d = rng.integers(3, 6), rng.integers(2, 4), rng.integers(1, 4)
        yield rng.normal(size=(m, n)), rng.normal(size=(m, d))


_ACTOR_SLOPE = [
    ("The sign of μ is lost: ∂μ/∂K is −s.", lambda s, dQ_da: -actor_slope(s, dQ_da)),
    (
        "This is the sum over the states. What is asked for is the mean.",
        lambda s, dQ_da: actor_slope(s, dQ_da) * len(s),
    ),
    (
        "This is transposed: K has a row for each number of an action, and a column for each number of a state.",
        lambda s, dQ_da: actor_slope(s, dQ_da).T,
    ),
    (
        "Means first, product afterwards. Each state has its own slope, and the product comes first.",
        lambda s, dQ_da: -np.outer(dQ_da.mean(0), s.mean(0)),
    ),
    (
        "These are the products of each state. What is asked for is their mean, an array like K.",
        lambda s, dQ_da: -dQ_da[:, :, None] * s[:, None, :],
    ),
    (
        "This divides by all numbers of ∂Q/∂a. The mean is over the states alone.",
        lambda s, dQ_da: -dQ_da.T @ s / dQ_da.size,
    ),
    (
        "This divides by the length of a state. The mean is over the states.",
        lambda s, dQ_da: -dQ_da.T @ s / s.shape[1],
    ),
]


# Chapter 9


def interval_of_difference(x, y, of_x, of_y):
    """Return the ends of the 95 % bootstrap interval of IQM(x) − IQM(y); row b of of_x and of_y says which runs are drawn the b-th time."""
    return np.quantile(iqm(x[of_x], axis=1) - iqm(y[of_y], axis=1), [0.025, 0.975])


def _runs(rng) -> Cases:
    few = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    yield np.array([1.0, 2.0]), np.array([0.0, 4.0]), few, few[::-1]
    for n, m in ((4, 4), (5, 5), (8, 8), (5, 10), (10, 4), (20, 20)):
        picks = (rng.integers(size, size=(50, size)) for size in (n, m))
        yield rng.normal(size=n) + 2, rng.normal(size=m) ** 3, *picks


def _quantiles(means, ends=(0.025, 0.975), statistic=iqm):
    """The same mistake in all cases: other means than those of what was drawn, other ends, or another statistic."""
    return lambda x, y, of_x, of_y: np.quantile(means(x, y, of_x, of_y, statistic), ends)


def _drawn(x, y, of_x, of_y, statistic):
    return statistic(x[of_x], axis=1) - statistic(y[of_y], axis=1)


def _ends(scores, picks):
    return np.quantile(iqm(scores[picks], axis=1), [0.025, 0.975])


_INTERVAL_OF_DIFFERENCE = [
    ("This is the interval of the second less the first.", _quantiles(lambda *drawn: -_drawn(*drawn))),
    (
        "These are the differences of means. What is asked for are interquartile means.",
        _quantiles(_drawn, statistic=np.mean),
    ),
    (
        "These are the differences of medians. What is asked for are interquartile means.",
        _quantiles(_drawn, statistic=np.median),
    ),
    ("This is a 90 % interval: it leaves out 5 % at each end.", _quantiles(_drawn, ends=(0.05, 0.95))),
    (
        "These are the quartiles of the differences. An interval of 95 % leaves out 2.5 % at each end.",
        _quantiles(_drawn, ends=(0.25, 0.75)),
    ),
    (
        "These are the smallest and the largest difference. 2.5 % are to be left out at each end.",
        _quantiles(_drawn, ends=(0, 1)),
    ),
    ("The upper end comes first here.", _quantiles(_drawn, ends=(0.975, 0.025))),
    (
        "Two intervals were subtracted, end from end: that is not the interval of the difference, and it may even be empty.",
        lambda x, y, of_x, of_y: _ends(x, of_x) - _ends(y, of_y),
    ),
    (
        "This takes the worst of the one against the best of the other. Both at once are rarer than 2.5 %, so that it is too wide.",
        lambda x, y, of_x, of_y: _ends(x, of_x) - _ends(y, of_y)[::-1],
    ),
    ("This is the interval of the first alone.", lambda x, y, of_x, of_y: _ends(x, of_x)),
    (
        "The rows are the draws: the mean goes over the runs in a row.",
        _quantiles(lambda x, y, of_x, of_y, _: iqm(x[of_x], axis=0) - iqm(y[of_y], axis=0)),
    ),
]

EXERCISES = {
    "1.4": Exercise(probabilities, _values, _PROBABILITIES),
    "2.4": Exercise(uphill, _bottles, _SLOPE),
    "3.4": Exercise(credit, _points, _CREDIT),
    "4.4": Exercise(to_go, _rewards, _TO_GO),
    "5.4": Exercise(score_of_step, _tables, _SCORE),
    "6.4": Exercise(less_the_others, _returns, _LESS_THE_OTHERS),
    "7.4": Exercise(surprises, _steps, _SURPRISES),
    "8.5": Exercise(actor_slope, _slopes, _ACTOR_SLOPE),
    "9.4": Exercise(interval_of_difference, _runs, _INTERVAL_OF_DIFFERENCE),
}
