"""A smooth loss whose attack is computed by PGD and differentiated implicitly: the problem of Lemmas 1, 4 and 5.

    l(x', theta) = b . x' - 1/2 x'^T Q x' - kappa sum_i log cosh x'_i,    b = c + sin(A theta),    ||x'|| <= eps

Q is symmetric and positive definite, kappa >= 0, and the clean x is 0. l is concave in x', so the attack is unique:
inside the ball if c is small, on its surface if c is large.

Every method takes theta (..., k) and x' (..., d). Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rb_smooth.analysis.theory.numeric import Array


class ConcaveLossConstants(NamedTuple):
    """Constants of Assumption 1 and of Lemmas 4 and 5, for every theta and every x' in the ball."""

    C_theta_theta: float
    """Lipschitz constant of the gradient by theta, in theta: eps ||A||^2."""
    C_theta_x: float
    """Lipschitz constant of the gradient by theta in x', and of that by x' in theta: ||A||."""
    C_xx: float
    """Lower bound of the absolute eigenvalues of the Hessian by x': the smallest eigenvalue of Q."""
    C_H: float
    """Lower bound of the bordered Hessian's singular values, if every attack is on the surface; 0 if unknown.

    [[0, delta^T], [delta, P]] with m <= P <= M and ||delta|| = eps has no eigenvalue closer to 0 than
    min(m, (sqrt(M^2 + 4 eps^2) - M) / 2) (Rusten and Winther, "A preconditioned iterative method for saddlepoint
    problems", 1992). Here P = nu I minus the Hessian by x', and b = nu x' + Q x' + kappa tanh x' bounds nu.
    """


@dataclass(frozen=True)
class ConcaveLoss:
    """The loss above. c: (d,); A: (d, k); Q: (d, d)."""

    c: Array
    A: Array
    Q: Array
    kappa: float
    eps: float

    def value(self, x_adv: ArrayLike, theta: ArrayLike) -> Array:
        """l(x', theta), (...)."""
        x_adv = np.asarray(x_adv, float)
        quadratic = 0.5 * (x_adv * (x_adv @ self.Q)).sum(-1)
        log_cosh = np.logaddexp(x_adv, -x_adv) - np.log(2)
        return (self._b(theta) * x_adv).sum(-1) - quadratic - self.kappa * log_cosh.sum(-1)

    def input_gradient(self, x_adv: Array, theta: ArrayLike) -> Array:
        """The gradient by x', (..., d)."""
        return self._b(theta) - self._centering_term(x_adv)

    def input_hessian(self, x_adv: Array) -> Array:
        """The Hessian by x', (..., d, d), the same for every theta."""
        return -self.Q - self.kappa * (1 - np.tanh(x_adv) ** 2)[..., None] * np.eye(len(self.Q))

    def mixed_derivative(self, theta: ArrayLike) -> Array:
        """The derivative by theta of the gradient by x', (..., d, k)."""
        return np.cos(np.asarray(theta, float) @ self.A.T)[..., None] * self.A

    def attack(self, theta: ArrayLike) -> Array:
        """x'(theta), (..., d), by PGD: x' <- project(x' + step * gradient).

        With -M <= Hessian by x' <= -m and a step of 2 / (m + M), each step multiplies the distance to the attack by at
        most (M - m) / (M + m); the number of steps brings it down to rounding.
        """
        (m, M), b = self._concavity, self._b(theta)
        step, share = 2 / (m + M), (M - m) / (M + m)
        x_adv = np.zeros_like(b)
        for _ in range(2 + int(np.log(1e-17) / np.log(share)) if share > 0 else 2):
            x_adv = x_adv + step * (b - self._centering_term(x_adv))
            x_adv *= self.eps / np.maximum(np.linalg.norm(x_adv, axis=-1, keepdims=True), self.eps)
        return x_adv

    def gradient(self, theta: ArrayLike) -> Array:
        """The gradient by theta of the adversarial loss l(x'(theta), theta), (..., k), at constant x' (Danskin)."""
        return (self.mixed_derivative(theta) * self.attack(theta)[..., None]).sum(-2)

    def jacobian_inside(self, theta: ArrayLike) -> Array:
        """The derivative of x' by theta where x' is inside the ball, (..., d, k): Lemma 4's."""
        return np.asarray(np.linalg.solve(-self.input_hessian(self.attack(theta)), self.mixed_derivative(theta)), float)

    def jacobian_on_surface(self, theta: ArrayLike) -> Array:
        """The derivative of x' by theta where x' is on the ball's surface, (..., d, k): Lemma 5's."""
        return implicit_jacobian(self.bordered_hessian(theta), self.mixed_derivative(theta))

    def bordered_hessian(self, theta: ArrayLike) -> Array:
        """The bordered Hessian of Lemma 5 at x'(theta), (..., d + 1, d + 1)."""
        x_adv = self.attack(theta)
        return build_bordered_hessian(self.input_hessian(x_adv), x_adv, self.input_gradient(x_adv, theta))

    @cached_property
    def constants(self) -> ConcaveLossConstants:
        """The constants of this loss in closed form."""
        of_A = float(np.linalg.norm(self.A, 2))
        m, M = self._concavity
        length, shift = float(np.linalg.norm(self.c)), len(self.c) ** 0.5  # of c, and at most of sin(A theta)
        low, high = (length - shift) / self.eps - (M - m), (length + shift) / self.eps + (M - m)  # of P
        C_H = max(0.0, min(low, ((high**2 + 4 * self.eps**2) ** 0.5 - high) / 2))
        return ConcaveLossConstants(self.eps * of_A**2, of_A, m, C_H)

    @property
    def _concavity(self) -> tuple[float, float]:
        """m and M, with -M <= Hessian by x' <= -m."""
        eigenvalues = np.linalg.eigvalsh(self.Q)
        return float(eigenvalues[0]), float(eigenvalues[-1]) + self.kappa

    def _centering_term(self, x_adv: Array) -> Array:
        """The part of the gradient by x' that pulls x' to 0, with sign reversed, (..., d)."""
        return x_adv @ self.Q + self.kappa * np.tanh(x_adv)

    def _b(self, theta: ArrayLike) -> Array:
        return self.c + np.sin(np.asarray(theta, float) @ self.A.T)


def build_bordered_hessian(curvature: ArrayLike, delta: ArrayLike, slope: ArrayLike) -> Array:
    """The bordered Hessian of Lemma 5, Eq. (22), with g = (||delta||^2 - eps^2) / 2:

        H = [[0, -delta^T], [-delta, curvature - nu I]],    nu = slope . delta / eps^2

    curvature: the loss's Hessian by x', (..., d, d), at a maximum x' = x + delta on the surface; slope: its gradient,
    (..., d), which there is nu delta. Returns (..., d + 1, d + 1).
    """
    delta, slope, curvature = np.asarray(delta, float), np.asarray(slope, float), np.asarray(curvature, float)
    d = delta.shape[-1]
    nu = (slope * delta).sum(-1) / (delta**2).sum(-1)
    H = np.zeros((*delta.shape[:-1], d + 1, d + 1))
    H[..., 0, 1:] = H[..., 1:, 0] = -delta
    H[..., 1:, 1:] = curvature - nu[..., None, None] * np.eye(d)
    return H


def implicit_jacobian(H: Array, mixed: ArrayLike) -> Array:
    """The derivative of x' by theta, (..., d, k): all but the first row of -H^-1 [0; mixed] (Lemma 5)."""
    mixed = np.asarray(mixed, float)
    lowered = np.concatenate([np.zeros_like(mixed[..., :1, :]), mixed], axis=-2)
    return -np.linalg.solve(H, lowered)[..., 1:, :]
