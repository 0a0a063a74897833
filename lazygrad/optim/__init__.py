"""Optimizers and learning-rate schedules, under PyTorch's names."""

from lazygrad.optim import lr_scheduler, swa_utils
from lazygrad.optim.adam import Adam, AdamW
from lazygrad.optim.adamax import Adamax, RAdam
from lazygrad.optim.lbfgs import LBFGS
from lazygrad.optim.lion import Lion
from lazygrad.optim.nadam import NAdam
from lazygrad.optim.optimizer import Optimizer
from lazygrad.optim.rmsprop import Adadelta, Adagrad, RMSprop
from lazygrad.optim.rprop import ASGD, Rprop
from lazygrad.optim.sgd import SGD

__all__ = [
    "Optimizer", "SGD", "Adam", "AdamW", "NAdam", "Adamax", "RAdam", "RMSprop", "Adagrad",
    "Adadelta", "Rprop", "ASGD", "Lion", "LBFGS", "lr_scheduler", "swa_utils",
]  # fmt: skip
