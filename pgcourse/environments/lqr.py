"""The linear-quadratic regulator: continuous actions with exact values, gradients and an optimal policy.

s' = A s + B a + noise        r = −(s·C s + a·R a)        μ(s) = −K s

V and Q are quadratic in s and a, J(K) is exact, and the optimal policy is linear: a gain matrix K. Control
theory calls the cost matrices Q and R; here C stands for the first, because Q is the action value.

Slides 64–65; Silver et al. (2014), theorem 1; Fazel, Ge, Kakade & Mesbahi (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box
from scipy import linalg

from pgcourse import checks

if TYPE_CHECKING:
    from jaxtyping import Float

    Gain = Float[np.ndarray, "D n"]
    Matrix = Float[np.ndarray, "n n"]
    States = Float[np.ndarray, "N n"]
    Actions = Float[np.ndarray, "N D"]


class QuadraticValue(NamedTuple):
    """The value function of a gain, V(s) = −s·P s − c."""

    P: Matrix
    c: float


@dataclass(frozen=True, eq=False)
class LQR:
    """A continuing linear system with states of n numbers, actions of D, and discounted quadratic costs.

    The argument K of the methods is a gain, shape (D, n), that keeps the discounted closed loop stable: the
    spectral radius of √γ (A − BK) is below 1.

    Args:
        A: effect of the state on the next one, shape (n, n).
        B: effect of the action on the next state, shape (n, D).
        C: cost of the state, shape (n, n), symmetric positive semidefinite.
        R: cost of the action, shape (D, D), symmetric positive definite.
        gamma: discount per step, 0 ≤ γ < 1.
        initial_covariance: covariance of the initial state, whose mean is 0, shape (n, n).
        noise_covariance: covariance of the noise, whose mean is 0, shape (n, n).
    """

    A: Matrix
    B: Float[np.ndarray, "n D"]
    C: Matrix
    R: Float[np.ndarray, "D D"]
    gamma: float
    initial_covariance: Matrix
    noise_covariance: Matrix

    def __post_init__(self) -> None:
        for name in ("A", "B", "C", "R", "initial_covariance", "noise_covariance"):
            object.__setattr__(self, name, checks.numbers(name, getattr(self, name)).astype(float))
        if self.B.ndim != 2 or not self.B.size or not np.isfinite(self.B).all():
            raise ValueError(f"B must be finite, of shape (n, D), got shape {self.B.shape}: {self.B}")
        n, D = self.B.shape
        _check_finite("A", self.A, (n, n))
        for name, size in {"C": n, "R": D, "initial_covariance": n, "noise_covariance": n}.items():
            _check_finite(name, matrix := getattr(self, name), (size, size))
            smallest, rounding = np.linalg.eigvalsh(matrix).min(), 1e-12 * abs(matrix).max()
            allowed = smallest > rounding if name == "R" else smallest >= -rounding
            if abs(matrix - matrix.T).max() > rounding or not allowed:
                kind = "definite" if name == "R" else "semidefinite"
                raise ValueError(f"{name} must be symmetric positive {kind}, got {matrix}")
        checks.real(gamma=self.gamma)
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma must be in [0, 1), got {self.gamma}")

    def values(self, K: Gain) -> QuadraticValue:
        """Return the value function of a gain.

        P = C + KᵀRK + γ (A − BK)ᵀ P (A − BK)        c = γ/(1 − γ) · trace(P noise_covariance)
        """
        K, closed_loop = self._closed_loop(K)
        P = linalg.solve_discrete_lyapunov(closed_loop.T, self.C + K.T @ self.R @ K)
        return QuadraticValue(P, self.gamma / (1 - self.gamma) * float(np.trace(P @ self.noise_covariance)))

    def V(self, K: Gain, s: States) -> Float[np.ndarray, " N"]:
        """Return V(s) = −s·P s − c of a gain."""
        P, c = self.values(K)
        [s] = self._vectors(s=s)
        return _finite_value(-_quadratic_form(P, s) - c, s=s)

    def Q(self, K: Gain, s: States, a: Actions) -> Float[np.ndarray, " N"]:
        """Return Q(s, a), the value of action a now and of the gain from then on. Slide 64.

        Q(s, a) = −(s·C s + a·R a) − γ s'·P s' − c,        s' = A s + B a
        """
        P, c = self.values(K)
        s, a = self._vectors(s=s, a=a)
        next_s = s @ self.A.T + a @ self.B.T
        r = -_quadratic_form(self.C, s) - _quadratic_form(self.R, a)
        return _finite_value(r - self.gamma * _quadratic_form(P, next_s) - c, s=s, a=a)

    def dQ_da(self, K: Gain, s: States, a: Actions) -> Actions:
        """Return the action gradient ∂Q/∂a = −2 (R a + γ BᵀP s'). Slide 65."""
        P, _ = self.values(K)
        s, a = self._vectors(s=s, a=a)
        return -2 * (a @ self.R + self.gamma * (s @ self.A.T + a @ self.B.T) @ P @ self.B)

    def J(self, K: Gain) -> float:
        """Return the expected discounted return, J(K) = −trace(P initial_covariance) − c."""
        P, c = self.values(K)
        return -float(np.trace(P @ self.initial_covariance)) - c

    def discounted_second_moment(self, K: Gain) -> Matrix:
        """Return Σₜ γᵗ E[sₜ sₜᵀ], what the discounted state visitation amounts to here."""
        _, closed_loop = self._closed_loop(K)
        noise = self.gamma / (1 - self.gamma) * self.noise_covariance
        return linalg.solve_discrete_lyapunov(closed_loop, self.initial_covariance + noise)

    def gradient(self, K: Gain) -> Gain:
        """Return ∂J/∂K by the deterministic policy gradient theorem: slide 65's product, summed over time.

        ∂J/∂K = Σₜ γᵗ E[∂Q/∂a · ∂a/∂K] = −2 (R K − γ BᵀP (A − BK)) Σₜ γᵗ E[sₜ sₜᵀ]

        Silver et al. (2014), theorem 1.
        """
        K, _ = self._closed_loop(K)
        P, _ = self.values(K)
        factor = -2 * (self.R @ K - self.gamma * self.B.T @ P @ (self.A - self.B @ K))
        return factor @ self.discounted_second_moment(K)

    def optimal_gain(self) -> Gain:
        """Return the optimal stable gain, from the Riccati equation.

        If every unstable direction has a cost, no policy of any form is better.

        Raises:
            ValueError: if no gain keeps the costs finite.
        """
        root = np.sqrt(self.gamma)
        try:
            P = linalg.solve_discrete_are(root * self.A, root * self.B, self.C, self.R)
        except np.linalg.LinAlgError as error:
            got = f"A = {self.A}, B = {self.B}"
            raise ValueError(f"A, B and C must let some gain keep the costs finite, got {got}") from error
        BtP = self.gamma * self.B.T @ P
        return np.linalg.solve(self.R + BtP @ self.B, BtP @ self.A)

    def env(self, n_steps: int = 50, max_action: float = 10.0) -> LQREnv:
        """Return a Gymnasium environment that truncates episodes after ``n_steps`` ≥ 1 steps.

        Actions are clipped to ±max_action, a positive number.
        """
        return LQREnv(self, n_steps, max_action)

    def _closed_loop(self, K: Gain) -> tuple[Gain, Matrix]:
        K = checks.numbers("K", K).astype(float, copy=False)
        _check_finite("K", K, self.B.T.shape)
        closed_loop = np.sqrt(self.gamma) * (self.A - self.B @ K)
        largest = abs(np.linalg.eigvals(closed_loop)).max() if np.isfinite(closed_loop).all() else np.inf
        if largest >= 1:
            got = f"{largest:.6g} with K = {K}"
            raise ValueError(f"K must keep the spectral radius of √γ (A − BK) below 1, got {got}")
        return K, closed_loop

    def _vectors(self, **vectors: np.ndarray) -> list[np.ndarray]:
        """Return states and actions, finite, shapes (..., n) and (..., D), as many of each."""
        sizes = dict(zip("sa", self.B.shape, strict=True))
        arrays = {name: checks.finite_floats(name, vector) for name, vector in vectors.items()}
        for name, array in arrays.items():
            if array.shape[-1:] != (sizes[name],):
                raise ValueError(f"{name} must have shape (..., {sizes[name]}), got {array.shape}")
        try:
            np.broadcast_shapes(*(array.shape[:-1] for array in arrays.values()))
        except ValueError:
            shapes = " and ".join(str(array.shape) for array in arrays.values())
            raise ValueError(f"s and a must be as many states as actions, got shapes {shapes}") from None
        return list(arrays.values())


class LQREnv(Env):
    """A Gymnasium environment with ``Box`` observations s and actions; arguments as for ``LQR.env``."""

    def __init__(self, lqr: LQR, n_steps: int, max_action: float):
        n_steps = checks.count(1, math.inf, n_steps=n_steps)
        checks.positive(max_action=max_action)
        n, D = lqr.B.shape
        n_steps, max_action = int(n_steps), float(max_action)
        self.lqr, self.n_steps, self.max_action, self.t = lqr, n_steps, max_action, 0
        self.observation_space = Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = Box(-max_action, max_action, (D,), np.float64)
        self._initial_root, self._noise_root = map(_root, (lqr.initial_covariance, lqr.noise_covariance))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        self.s = self._initial_root @ self.np_random.standard_normal(len(self._initial_root))
        return self.s, {}

    def step(self, action: Float[np.ndarray, " D"]) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Take an action, which is clipped to ±max_action; an episode is only ever truncated."""
        lqr, action = self.lqr, checks.numbers("action", action)
        shape = (lqr.B.shape[1],)
        if action.shape != shape or np.isnan(action).any():
            expected = f"{shape[0]} numbers, shape {shape}"
            raise ValueError(f"action must be {expected}, got {action} of shape {action.shape}")
        a = np.clip(action.astype(float), -self.max_action, self.max_action)
        r = -float(self.s @ lqr.C @ self.s + a @ lqr.R @ a)
        noise = self._noise_root @ self.np_random.standard_normal(len(self._noise_root))
        self.s = lqr.A @ self.s + lqr.B @ a + noise
        self.t += 1
        return self.s, r, False, self.t >= self.n_steps, {}


def cart(*, gamma: float = 0.95, noise_variance: float = 0.01) -> LQR:
    """Return a cart that is to stand still in the middle of its rail, under random changes of its velocity.

    s is its position and velocity, a the force on it, ten times a second; γ is below 1 and ``noise_variance``
    at least 0.
    """
    checks.real(noise_variance=noise_variance)
    checks.at_least(0, noise_variance=noise_variance)
    noise_variance = float(noise_variance)
    A, B = np.array([[1, 0.1], [0, 1]]), np.array([[0.005], [0.1]])
    return LQR(A, B, np.diag([1, 0.1]), np.array([[0.1]]), gamma, np.eye(2), np.diag([0, noise_variance]))


def _check_finite(name: str, matrix: np.ndarray, shape: tuple[int, ...]) -> None:
    if matrix.shape != shape or not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be finite, of shape {shape}, got shape {matrix.shape}: {matrix}")


def _quadratic_form(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.einsum("...i,ij,...j->...", np.asarray(x, float), matrix, np.asarray(x, float))


def _finite_value(value: np.ndarray, **vectors: np.ndarray) -> np.ndarray:
    """Return values, which overflow only if the states or actions are too large."""
    if not np.isfinite(value).all():
        largest = max(abs(vector).max() for vector in vectors.values())
        raise ValueError(f"{' and '.join(vectors)} must have a finite value, got numbers up to {largest:.3g}")
    return value


def _root(covariance: Matrix) -> Matrix:
    """Return a matrix whose product with its transpose is the covariance, which may be singular."""
    size, axes = np.linalg.eigh(covariance)
    return axes * np.sqrt(size.clip(0))
