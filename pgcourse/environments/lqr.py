"""A linear world with quadratic costs, where actions are real numbers and all is known: what a gain is worth, its slope, and the best one.

s' = A s + B a + noise        r = −(s·C s + a·R a)        μ(s) = −K s

Such a world is to continuous actions what a small MDP is to a choice. V and Q are quadratic, J is exact, and the policy that is best of
all is a matrix. Control theory calls the costs Q and R; Q means another thing here.

Slides 64–65; Silver et al. (2014), theorem 1; Fazel, Ge, Kakade & Mesbahi (2018).
"""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box
from scipy import linalg


class Values(NamedTuple):
    """What is to be expected under a gain: V(s) = −s·P s − c."""

    P: np.ndarray  # (n, n)
    c: float


class LQR:
    """States of n numbers, actions of D, episodes that never end, and discounted rewards.

    Args:
        A: how a state leads to the next, shape (n, n).
        B: how an action changes it, shape (n, D).
        C: what states cost, shape (n, n), symmetric, no negative eigenvalue.
        R: what actions cost, shape (D, D), symmetric, positive eigenvalues.
        gamma: discount per step, 0 ≤ γ < 1.
        start: covariance of the first state, whose mean is 0, shape (n, n), no negative eigenvalue.
        noise: covariance of the noise, shape (n, n), likewise.

    Raises:
        ValueError: if a shape or a number is out of range.
    """

    def __init__(self, A, B, C, R, gamma: float, start, noise):
        self.A, self.B, self.C, self.R, self.start, self.noise = (
            np.array(x, float) for x in (A, B, C, R, start, noise)
        )
        if self.B.ndim != 2 or not self.B.size or not np.isfinite(self.B).all():
            raise ValueError(f"B must be finite, of shape (n, D), got shape {self.B.shape}: {self.B}")
        n, D = self.B.shape
        for name, size in {"A": n, "C": n, "R": D, "start": n, "noise": n}.items():
            matrix = getattr(self, name)
            if matrix.shape != (size, size) or not np.isfinite(matrix).all():
                raise ValueError(
                    f"{name} must be finite, of shape {(size, size)}, got shape {matrix.shape}: {matrix}"
                )
        for name in ("C", "R", "start", "noise"):
            matrix = getattr(self, name)
            smallest, rounding = np.linalg.eigvalsh(matrix).min(), 1e-12 * abs(matrix).max()
            allowed = smallest > rounding if name == "R" else smallest >= -rounding
            if abs(matrix - matrix.T).max() > rounding or not allowed:
                positive = "positive" if name == "R" else "no negative"
                raise ValueError(f"{name} must be symmetric with {positive} eigenvalues, got {matrix}")
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must be in [0, 1), got {gamma}")
        self.gamma = gamma

    def values(self, K) -> Values:
        """Return V of a gain.

        P = C + KᵀRK + γ (A − BK)ᵀ P (A − BK)        c = γ/(1 − γ) · trace(P noise)

        Raises:
            ValueError: if K has another shape, or lets states grow faster than the discount shrinks them.
        """
        K, closed = self._closed(K)
        P = linalg.solve_discrete_lyapunov(closed.T, self.C + K.T @ self.R @ K)
        return Values(P, self.gamma / (1 - self.gamma) * float(np.trace(P @ self.noise)))

    def V(self, K, s) -> np.ndarray:
        """Return V(s) of a gain, shape (N,), for states (N, n).

        Raises:
            ValueError: as ``values``.
        """
        P, c = self.values(K)
        return -_square(P, s) - c

    def Q(self, K, s, a) -> np.ndarray:
        """Return Q(s, a): action a once, and the gain from then on, shape (N,), for states (N, n) and actions (N, D).

        Q(s, a) = −(s·C s + a·R a) − γ s'·P s' − c,        s' = A s + B a

        Raises:
            ValueError: as ``values``.

        Slide 64: the best action is the one that maximises it.
        """
        P, c = self.values(K)
        s, a = np.asarray(s, float), np.asarray(a, float)
        return (
            -_square(self.C, s)
            - _square(self.R, a)
            - self.gamma * _square(P, s @ self.A.T + a @ self.B.T)
            - c
        )

    def Q_slope(self, K, s, a) -> np.ndarray:
        """Return ∂Q/∂a, shape (N, D), for states (N, n) and actions (N, D).

        ∂Q/∂a = −2 (R a + γ BᵀP s')

        Raises:
            ValueError: as ``values``.

        Slide 65.
        """
        P, _ = self.values(K)
        s, a = np.asarray(s, float), np.asarray(a, float)
        return -2 * (a @ self.R + self.gamma * (s @ self.A.T + a @ self.B.T) @ P @ self.B)

    def J(self, K) -> float:
        """Return the expected discounted return, −trace(P start) − c.

        Raises:
            ValueError: as ``values``.
        """
        P, c = self.values(K)
        return -float(np.trace(P @ self.start)) - c

    def visits(self, K) -> np.ndarray:
        """Return Σᵢ γⁱ E[sᵢ sᵢᵀ], shape (n, n): how far out, and how long, the gain lets states be.

        Raises:
            ValueError: as ``values``.
        """
        _, closed = self._closed(K)
        return linalg.solve_discrete_lyapunov(closed, self.start + self.gamma / (1 - self.gamma) * self.noise)

    def gradient(self, K) -> np.ndarray:
        """Return ∂J/∂K, shape (D, n): slide 65's product, summed over all states there will be, each weighed by γⁱ.

        ∂J/∂K = Σᵢ γⁱ E[∂Q/∂a · ∂a/∂K] = 2 (R K − γ BᵀP (A − BK)) · (−visits)

        Raises:
            ValueError: as ``values``.

        Silver et al. (2014), theorem 1.
        """
        K, _ = self._closed(K)
        P, _ = self.values(K)
        return -2 * (self.R @ K - self.gamma * self.B.T @ P @ (self.A - self.B @ K)) @ self.visits(K)

    def best(self) -> np.ndarray:
        """Return the best gain of all that keep the world from growing, shape (D, n), from the Riccati equation.

        Where all that grows costs something, no policy of any form surpasses it.

        Raises:
            ValueError: if there is none: something that costs cannot be held.
        """
        root = np.sqrt(self.gamma)
        try:
            P = linalg.solve_discrete_are(root * self.A, root * self.B, self.C, self.R)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"A, B and C must let some gain keep the costs finite, got A = {self.A}, B = {self.B}"
            ) from error
        return np.linalg.solve(
            self.R + self.gamma * self.B.T @ P @ self.B, self.gamma * self.B.T @ P @ self.A
        )

    def env(self, n_steps: int = 50, reach: float = 10.0) -> Env:
        """Return the world as an environment of Gymnasium, in which every episode is cut off after so many steps.

        Args:
            n_steps: at least 1.
            reach: the largest action, positive; what is larger is cut off.

        Raises:
            ValueError: if a number is out of range.
        """
        if not (n_steps >= 1 and n_steps % 1 == 0):
            raise ValueError(f"n_steps must be a whole number of at least 1, got {n_steps}")
        if not 0 < reach < np.inf:
            raise ValueError(f"reach must be a positive number, got {reach}")
        return _World(self, n_steps, reach)

    def _closed(self, K):
        K = np.asarray(K, float)
        if K.shape != self.B.T.shape or not np.isfinite(K).all():
            raise ValueError(f"K must be finite, of shape {self.B.T.shape}, got shape {K.shape}: {K}")
        closed = np.sqrt(self.gamma) * (self.A - self.B @ K)
        if (largest := abs(np.linalg.eigvals(closed)).max()) >= 1:
            raise ValueError(
                f"K must keep √γ (A − BK) below 1, or returns have no end, got {largest:.6g} with K = {K}"
            )
        return K, closed


class _World(Env):
    metadata: Any = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, world, n_steps, reach):
        n, D = world.B.shape
        self.world, self.n_steps, self.reach, self.i = world, n_steps, reach, 0
        self.observation_space = Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = Box(-reach, reach, (D,), np.float64)
        self._start, self._noise = (_root(covariance) for covariance in (world.start, world.noise))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.i = 0
        self.s = self._start @ self.np_random.standard_normal(len(self._start))
        return self.s, {}

    def step(self, action):
        world = self.world
        a = np.clip(np.asarray(action, float), -self.reach, self.reach)
        r = -float(self.s @ world.C @ self.s + a @ world.R @ a)
        self.s = (
            world.A @ self.s + world.B @ a + self._noise @ self.np_random.standard_normal(len(self._noise))
        )
        self.i += 1
        return self.s, r, False, self.i >= self.n_steps, {}


def cart(*, gamma: float = 0.95, noise: float = 0.01) -> LQR:
    """Return a cart on a rail that is to stand still in the middle: s is its place and speed, a pushes it, ten times a second.

    Args:
        gamma: discount per step.
        noise: variance of the gusts that change its speed, at each step.

    Raises:
        ValueError: as ``LQR``.
    """
    return LQR(
        [[1, 0.1], [0, 1]],
        [[0.005], [0.1]],
        np.diag([1, 0.1]),
        [[0.1]],
        gamma,
        np.eye(2),
        np.diag([0, noise]),
    )


def _square(matrix, x):
    return np.einsum("...i,ij,...j->...", np.asarray(x, float), matrix, np.asarray(x, float))


def _root(covariance):
    """Return a matrix whose product with its transpose is the covariance, which may be singular."""
    size, axes = np.linalg.eigh(covariance)
    return axes * np.sqrt(size.clip(0))
