"""Mixed precision, with the names of `torch.amp`: `autocast` and `GradScaler`."""

from lazygrad.amp.grad_scaler import GradScaler
from lazygrad.engine.precision import autocast, is_autocast_available

__all__ = ["GradScaler", "autocast", "is_autocast_available"]
