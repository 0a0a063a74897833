"""Datasets, samplers and loaders.

The built-in datasets are imported when they are first named: what they need to download and unpack
files costs more to import than all the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lazygrad.data.collate import default_collate
from lazygrad.data.dataset import (
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)
from lazygrad.data.loader import DataLoader
from lazygrad.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from lazygrad.errors import nearest

if TYPE_CHECKING:
    from lazygrad.data.handwritten import Digits, DigitsAsMNIST, digits, mnist_standin
    from lazygrad.data.idx import read_idx
    from lazygrad.data.images import CIFAR10, MNIST, FashionMNIST, ImageDataset
    from lazygrad.data.synthetic import make_moons, moons

# No module may bear the name of what it defines: importing it would hide the name.
_LATER = {
    "CIFAR10": "images",
    "Digits": "handwritten",
    "DigitsAsMNIST": "handwritten",
    "FashionMNIST": "images",
    "ImageDataset": "images",
    "MNIST": "images",
    "digits": "handwritten",
    "make_moons": "synthetic",
    "mnist_standin": "handwritten",
    "moons": "synthetic",
    "read_idx": "idx",
}

__all__ = [
    "Dataset",
    "IterableDataset",
    "TensorDataset",
    "ConcatDataset",
    "Subset",
    "random_split",
    "DataLoader",
    "default_collate",
    "Sampler",
    "SequentialSampler",
    "RandomSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
    "BatchSampler",
    "CIFAR10",
    "Digits",
    "DigitsAsMNIST",
    "FashionMNIST",
    "ImageDataset",
    "MNIST",
    "digits",
    "make_moons",
    "mnist_standin",
    "moons",
    "read_idx",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"lazygrad.data has no {name!r}{nearest(name, __all__)}")
    value = getattr(import_module(f"lazygrad.data.{_LATER[name]}"), name)
    globals()[name] = value
    return value
