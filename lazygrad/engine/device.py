"""Devices, of which there is one: names are checked, and scripts that ask for more get an error."""

from __future__ import annotations

from typing import Any

from lazygrad.errors import DeviceError

_KNOWN = ("cpu", "cuda", "mps", "xpu", "hip", "meta", "gpu")  # what a device may be called


def check_device(device: Any) -> None:
    """Raise `DeviceError` unless `device` is the CPU, or None.

    >>> check_device("cuda:1")
    Traceback (most recent call last):
    lazygrad.errors.DeviceError: device 'cuda:1' is not available: this version computes on the CPU
    only
    """
    if device is None or str(device) in ("cpu", "cpu:0"):
        return
    raise DeviceError(
        f"device {str(device)!r} is not available: this version computes on the CPU only"
    )


def looks_like_device(value: Any) -> bool:
    """Whether `value` names a device rather than a dtype.

    >>> looks_like_device("cuda:0"), looks_like_device("float32")
    (True, False)
    """
    if isinstance(value, str):
        return value.split(":")[0] in _KNOWN
    return type(value).__name__ == "device"  # PyTorch's


class device(str):
    """A device; there is one: `device("cpu")`. Anything else raises `DeviceError`.

    >>> device("cpu").type
    'cpu'
    """

    __slots__ = ()

    def __new__(cls, name: Any = "cpu", index: int | None = None) -> device:
        """Check that it exists."""
        check_device(name if index is None else f"{name}:{index}")
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        """The kind of device."""
        return "cpu"

    @property
    def index(self) -> int | None:  # type: ignore[override]  # hides str.index: PyTorch's name
        """Which one of its kind: None, as PyTorch has it for the CPU."""
        return None

    def __repr__(self) -> str:
        return "device(type='cpu')"


CPU = device("cpu")


class cuda:
    """What scripts ask before they choose a device."""

    @staticmethod
    def is_available() -> bool:
        """False: this version computes on the CPU."""
        return False

    @staticmethod
    def device_count() -> int:
        """0."""
        return 0

    @staticmethod
    def manual_seed(seed: int) -> None:
        """Do nothing, as PyTorch without a GPU; `lg.manual_seed` seeds everything there is."""

    manual_seed_all = manual_seed

    @staticmethod
    def synchronize() -> None:
        """Raise `DeviceError`: there is no GPU."""
        raise DeviceError("no CUDA device: this version computes on the CPU only")
