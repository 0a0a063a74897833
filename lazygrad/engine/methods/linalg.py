"""Products of vectors and matrices."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.engine.methods.base import OPERANDS, Methods, write_back
from lazygrad.engine.precision import HALF
from lazygrad.errors import ShapeError
from lazygrad.ops.contract import MATMUL, compact

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class LinalgMethods(Methods):
    """matmul and its forms of fixed rank."""

    __slots__ = ()

    def matmul(self, other: Any) -> Tensor:
        """The matrix product: vectors as row or column, leading dimensions broadcast."""
        a, b = self._self, self._lift(other)
        if a.ndim == 0 or b.ndim == 0:
            raise ShapeError(f"matmul: {compact(a.shape)} @ {compact(b.shape)}: no 0-d operands")
        if a.ndim == 1 or b.ndim == 1:
            return a._with_vector(b)
        if b.ndim == 2 and a.ndim > 2 and a.shape[-1] == b.shape[0]:
            rows = a.reshape((-1, a.shape[-1])) if a.shape[-1] else a
            if rows.ndim == 2:  # one product instead of one per leading index
                return rows.apply(MATMUL, b).reshape((*a.shape[:-1], b.shape[1]))
        return a.apply(MATMUL, b)

    def _with_vector(self, other: Tensor) -> Tensor:
        left, right = self.ndim == 1, other.ndim == 1
        a = self.unsqueeze(0) if left else self._self
        b = other.unsqueeze(1) if right else other
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul: {compact(self.shape)} @ {compact(other.shape)}:"
                f" inner {a.shape[-1]} != {b.shape[-2]}"
            )
        result = a.matmul(b)
        if right:
            result = result.squeeze(-1)
        return result.squeeze(-1 if right else -2) if left else result

    def __matmul__(self, other: Any) -> Tensor:
        return self.matmul(other) if isinstance(other, OPERANDS) else NotImplemented

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._lift(other).matmul(self) if isinstance(other, OPERANDS) else NotImplemented

    def __imatmul__(self, other: Any) -> Any:
        return write_back(self, self.matmul(other), "@=")

    def _of_rank(self, name: str, rank: int, other: Tensor, other_rank: int) -> None:
        if self.ndim != rank or other.ndim != other_rank:
            raise ShapeError(
                f"{name}: {compact(self.shape)} and {compact(other.shape)}: operands of {rank} and"
                f" {other_rank} dimensions are needed"
            )

    def mm(self, mat2: Tensor) -> Tensor:
        """The product of two matrices."""
        self._of_rank("mm", 2, mat2, 2)
        return self.matmul(mat2)

    def bmm(self, mat2: Tensor) -> Tensor:
        """The products of two batches of matrices."""
        self._of_rank("bmm", 3, mat2, 3)
        if self.shape[0] != mat2.shape[0]:
            raise ShapeError(
                f"bmm: {compact(self.shape)} and {compact(mat2.shape)}: batches differ"
            )
        return self.matmul(mat2)

    def mv(self, vec: Tensor) -> Tensor:
        """The product of a matrix and a vector."""
        self._of_rank("mv", 2, vec, 1)
        return self.matmul(vec)

    def dot(self, other: Any) -> Tensor:
        """The inner product of two vectors."""
        other = self._lift(other)
        self._of_rank("dot", 1, other, 1)
        return self.matmul(other)

    def outer(self, vec2: Any) -> Tensor:
        """All products of an element of one vector with one of another."""
        other = self._lift(vec2)
        self._of_rank("outer", 1, other, 1)
        return self.unsqueeze(1) * other.unsqueeze(0)

    @HALF
    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * (mat1 @ mat2)`."""
        return self._scaled_sum("addmm", mat1.mm(mat2), beta, alpha)

    @HALF
    def baddbmm(self, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * (mat1 @ mat2)` on batches."""
        return self._scaled_sum("baddbmm", mat1.bmm(mat2), beta, alpha)
