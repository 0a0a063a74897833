"""The methods of `Tensor`, by topic: mixins over the core in `engine/tensor.py`."""

from lazygrad.engine.methods.arithmetic import ArithmeticMethods
from lazygrad.engine.methods.convert import ConvertMethods
from lazygrad.engine.methods.decompose import DecomposeMethods
from lazygrad.engine.methods.elementary import ElementaryMethods
from lazygrad.engine.methods.gradient import GradientMethods
from lazygrad.engine.methods.index import IndexMethods
from lazygrad.engine.methods.linalg import LinalgMethods
from lazygrad.engine.methods.masks import MaskMethods
from lazygrad.engine.methods.pieces import PieceMethods
from lazygrad.engine.methods.random import RandomMethods
from lazygrad.engine.methods.reduce import ReduceMethods
from lazygrad.engine.methods.scatter import ScatterMethods
from lazygrad.engine.methods.shape import ShapeMethods
from lazygrad.engine.methods.show import ShowMethods
from lazygrad.engine.methods.statistics import StatisticsMethods

__all__ = [
    "ArithmeticMethods", "ConvertMethods", "DecomposeMethods", "GradientMethods", "IndexMethods",
    "LinalgMethods", "MaskMethods", "RandomMethods", "ReduceMethods", "ScatterMethods",
    "ShapeMethods", "ShowMethods", "StatisticsMethods", "PieceMethods", "ElementaryMethods",
]  # fmt: skip
