"""Batched preconditioned conjugate gradients, for operators that cannot be diagonalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from tiltkit.errors import TiltkitError
from tiltkit.operators.inner import inner

if TYPE_CHECKING:
    from torch import Tensor

    from tiltkit.protocols import LinearOperator

__all__ = ["conjugate_gradient", "few_steps", "norm_squared"]

# Iterations between two looks at the residuals on a GPU, each of which waits for the device. Chosen
# by hand. Frozen items do not change, so that the solution does not depend on it.
GPU_CHECK_INTERVAL = 4
# Relative residual, in the norm of the preconditioner, that `few_steps` takes for rounding.
_FEW_STEPS_RTOL = 1e-6
# Steps of `few_steps` before it checks: the fewest that callers take.
_UNCHECKED = 3


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    b: Tensor,
    alpha: float,
    beta: float,
    *,
    rtol: float = 1e-5,
    max_iter: int = 200,
    precondition: Callable[[Tensor], Tensor] | None = None,
    energy: float = 0.0,
) -> tuple[Tensor, int]:
    """Solve ``(alpha I + beta A^H A) x = b`` for every item of a batch at once.

    Items that have converged are frozen, so an item's answer does not depend on its neighbours.

    Args:
        normal: ``A^H A`` on batches; any self-adjoint operator without negative eigenvalues.
        b: Right-hand sides (batch, ...), real or complex.
        alpha: Weight of the identity, positive.
        beta: Weight of ``A^H A``, nonnegative.
        rtol: Stop an item at ``|residual| <= rtol |b|``.
        max_iter: Iterations at most.
        precondition: Approximate inverse of the system, self-adjoint and positive.
        energy: Stop an item also where ``residual^H precondition(residual)`` is no larger: about
            the squared error in units of the system, ``e^H (alpha I + beta A^H A) e``; after one
            iteration at least.

    Returns:
        The solution, shaped as ``b``, and the number of iterations; on a GPU up to 3 more than were
        needed.

    Raises:
        TiltkitError: ``b`` is not finite, the solve did not converge, or the operator gave NaN.
    """
    if not bool(b.isfinite().all()):
        raise TiltkitError(
            "A linear solve was given values that are NaN or infinite.",
            "check that the prior and the measurement give finite values.",
        )
    inverse = precondition or (lambda r: r)

    def system(x: Tensor) -> Tensor:
        product = normal(x)
        return torch.add(product if beta == 1 else beta * product, x, alpha=alpha)

    x, r = torch.zeros_like(b), b.clone()
    z = inverse(r)
    p = z.clone()
    rz = _dot(r, z)
    limit = (rtol**2) * _dot(b, b)
    interval = check_interval(b.device)
    for iteration in range(max_iter + 1):
        # NaN keeps running, into the error below. All items take at least one step: otherwise some
        # items of a batch would keep their start, which is biased, beside solved ones.
        done = rz.abs() <= (energy if iteration > 0 else 0.0)
        if rtol > 0:
            done = done | (_dot(r, r) <= limit)
        if (iteration % interval == 0 or iteration == max_iter) and bool(done.all()):
            return x, iteration
        q = system(p)
        step = torch.where(done, 0.0, rz / _dot(p, q)).to(x.dtype)
        x.addcmul_(step, p)
        r.addcmul_(step, q, value=-1)
        z = inverse(r)
        rz_next = _dot(r, z)
        p = torch.addcmul(z, torch.where(done, 0.0, rz_next / rz).to(x.dtype), p)
        rz = torch.where(done, rz, rz_next)
    worst = float((_dot(r, r) / limit).max().sqrt()) * rtol
    raise TiltkitError(
        f"The linear solve reached a relative residual of {worst:.1e} after {max_iter} iterations,"
        f" not {rtol:.1e}.",
        "check that the adjoint fits the forward operator, or raise max_iter.",
    )


def check_interval(device: torch.device) -> int:
    """Iterations between two checks for convergence."""
    return 1 if device.type == "cpu" else GPU_CHECK_INTERVAL


def few_steps(
    system: Callable[[Tensor], Tensor], b: Tensor, precondition: Callable[[Tensor], Tensor], n: int
) -> Tensor:
    """Approximate solution of ``system x = b`` by ``n`` steps of conjugate gradients.

    On a CPU it ends earlier where all items have reached the accuracy of single precision, after
    `_UNCHECKED` steps or more. On a GPU nothing is checked, so that it is not waited for.

    Args:
        system: A self-adjoint operator without negative eigenvalues, on real batches.
        b: Right-hand sides (batch, ...), real.
        precondition: Approximate inverse of the system; may be 0 where ``b`` is 0.
        n: Number of steps, at least 1.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(tuple(range(1, b.ndim)), keepdim=True)

    r = b
    p = z = precondition(r)
    x, rz = torch.zeros_like(b), dot(r, z)
    enough = rz * _FEW_STEPS_RTOL**2
    for step in range(n):
        q = system(p)
        # 0 / 0 where the right-hand side is 0.
        length = rz / dot(p, q).clamp_min(1e-30)
        x = torch.addcmul(x, length, p)
        if step + 1 == n:
            break
        r = torch.addcmul(r, length, q, value=-1)
        z = precondition(r)
        new = dot(r, z)
        if step >= _UNCHECKED and b.device.type == "cpu" and bool((new <= enough).all()):
            break
        p = torch.addcmul(z, new / rz.clamp_min(1e-30), p)
        rz = new
    return x


def norm_squared(operator: LinearOperator, start: Tensor) -> float:
    """Largest eigenvalue of ``A^H A`` by power iteration from an image (1, channel, *space)."""
    x, norm = start, 1.0
    for _ in range(30):  # enough for 10 %, the margin below
        x = operator.normal(x / x.norm())
        norm = float(x.norm())
        if norm == 0:
            return 0.0
    # Power iteration approaches from below; the margin of 10 % gives an upper bound in practice.
    return 1.1 * norm


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product of each item, summed in float64, shaped (batch, 1, ...) to broadcast."""
    return inner(a, b).view(-1, *[1] * (a.ndim - 1))
