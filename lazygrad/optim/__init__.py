"""Optimizers and learning-rate schedules, under PyTorch's names."""

from lazygrad.optim import lr_scheduler
from lazygrad.optim.adam import Adam, AdamW
from lazygrad.optim.optimizer import Optimizer
from lazygrad.optim.rmsprop import Adagrad, RMSprop
from lazygrad.optim.sgd import SGD

__all__ = ["Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "lr_scheduler"]
