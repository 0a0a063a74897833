"""The exception family.

Every error that lazygrad raises on purpose derives from `LazygradError` and from the built-in
that a user would expect (`ValueError`, `TypeError`, ...), so both `except` styles work. Errors
are raised where the mistake was made: as a node is appended, not when it is computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module


class LazygradError(Exception):
    """Base of every error that lazygrad raises on purpose."""


class ShapeError(LazygradError, ValueError):
    """Shapes that do not fit together, or a shape that cannot exist."""


class AxisError(ShapeError, IndexError):
    """An axis outside the dimensions of a tensor."""


class IndexOutOfRangeError(LazygradError, IndexError):
    """An index or a label outside its range."""


class DTypeError(LazygradError, TypeError):
    """An unknown dtype, or one that an operation does not take."""


class DeviceError(LazygradError, RuntimeError):
    """A device that does not exist or cannot be used."""


class DataError(LazygradError, ValueError):
    """A dataset or a file whose content is not what it must be."""


class GraphError(LazygradError, RuntimeError):
    """A graph was used in a way that it does not allow."""


class FrozenGraphError(GraphError):
    """A node was appended to a frozen graph."""


class GraphMismatchError(GraphError, ValueError):
    """Nodes of two different graphs met in one operation."""


class GraphReleasedError(GraphError):
    """A backward pass needs values that were released or overwritten."""


class GradientError(LazygradError, RuntimeError):
    """A gradient was asked for where there is none."""


class CaptureError(LazygradError, RuntimeError):
    """A captured function did something that a frozen graph cannot repeat."""


class StaleCaptureError(CaptureError):
    """A re-trace of a captured function gave another graph (`CHECK`)."""


class EscapedTensorError(CaptureError):
    """A tensor born inside a captured function was used outside of it."""


class ConfigError(LazygradError, ValueError):
    """A setting that does not exist or a value that it does not take."""


class ArgumentError(LazygradError, ValueError):
    """An argument whose value makes no sense: a NaN learning rate, an empty parameter list."""


class ArgumentTypeError(LazygradError, TypeError):
    """An argument of a type that is not taken there."""


class UnknownAttributeError(LazygradError, AttributeError):
    """An attribute that does not exist; the message names the nearest one."""


class UnknownSettingError(ConfigError, AttributeError):
    """A setting that does not exist."""


class StateDictError(LazygradError, RuntimeError, KeyError):
    """A state dict whose entries do not fit the module."""

    __str__ = Exception.__str__


class LinalgError(LazygradError, RuntimeError):
    """A matrix that is singular, not positive-definite, or whose factors did not converge."""


class AnomalyError(LazygradError, FloatingPointError):
    """`detect_anomaly()` found the first node that made a NaN or an infinity."""


class InternalError(LazygradError, AssertionError):
    """lazygrad broke one of its own rules: please report it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'x'?` for a misspelt name, or an empty string.

    >>> nearest("sze", ["size", "shape"])
    "; did you mean 'size'?"
    """
    difflib = import_module("difflib")  # only mistakes need it
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
