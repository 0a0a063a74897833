"""Methods of matrices: inverses, determinants, factorizations; `lazygrad.linalg` has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lazygrad.engine import linalg
from lazygrad.engine.methods.base import Methods

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class USV(NamedTuple):
    """U @ diag(S) @ V.mT: the older form, with V where `linalg.svd` has Vh."""

    U: Tensor
    S: Tensor
    V: Tensor


class DecomposeMethods(Methods):
    """The names that PyTorch has on tensors."""

    __slots__ = ()

    def inverse(self) -> Tensor:
        """`linalg.inv`."""
        return linalg.inv(self._self)

    def pinverse(self, rcond: float = 1e-15) -> Tensor:
        """`linalg.pinv` with `rtol=rcond`."""
        return linalg.pinv(self._self, rtol=rcond)

    def det(self) -> Tensor:
        """`linalg.det`."""
        return linalg.det(self._self)

    def slogdet(self) -> linalg.SLogDet:
        """`linalg.slogdet`."""
        return linalg.slogdet(self._self)

    def logdet(self) -> Tensor:
        """The logarithm of the determinant; NaN where that is negative."""
        sign, log = linalg.slogdet(self._self)
        return log.where(sign >= 0, float("nan"))

    def cholesky(self, upper: bool = False) -> Tensor:
        """`linalg.cholesky`."""
        return linalg.cholesky(self._self, upper=upper)

    def qr(self, some: bool = True) -> linalg.QR:
        """`linalg.qr`, complete when not `some`."""
        return linalg.qr(self._self, "reduced" if some else "complete")

    def svd(self, some: bool = True) -> USV:
        """`linalg.svd`, with V instead of Vh, full when not `some`."""
        u, s, vh = linalg.svd(self._self, not some)
        return USV(u, s, vh.mT)

    def matrix_power(self, n: int) -> Tensor:
        """`linalg.matrix_power`."""
        return linalg.matrix_power(self._self, n)

    def cross(self, other: Any, dim: int | None = None) -> Tensor:
        """`linalg.cross`, by default along the first dimension that has three elements."""
        if dim is None:
            dim = self.shape.index(3) if 3 in self.shape else -1
        return linalg.cross(self._self, self._lift(other), dim=dim)
