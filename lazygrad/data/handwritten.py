"""The handwritten digits that come with lazygrad, and a stand-in for MNIST made from them.

`Digits` holds 1797 real images of 8x8 pixels. `DigitsAsMNIST` enlarges them to 28x28 and jitters
them (turn, size, place, brightness, noise) until there are as many as in MNIST, so that the same
script runs with no network and no files. It has MNIST's size, shape and number of classes, fewer
writers and less detail. The sources are split before they are jittered: no image of the test part
descends from a source of the training part.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.data.dataset import TensorDataset
from lazygrad.data.files import atomic_write, user_cache
from lazygrad.data.images import ImageDataset, Transform
from lazygrad.data.seeding import RandomSource
from lazygrad.errors import ConfigError

Images = NDArray[np.uint8]
Labels = NDArray[Any]

_BUNDLED = Path(__file__).parent / "bundled" / "digits.npz"
_SPLIT_SEED = 0  # the sources of the stand-in are divided once and for all
_SIZE = {True: 60_000, False: 10_000}
_SIDE = 28
_BLOCK = 2_000  # images made at a time: scratch of 6 MB per array, whatever the total


@cache
def _sources() -> tuple[Images, Labels]:
    """All 1797 images (N, 8, 8) with values 0 to 16, and their labels."""
    with np.load(_BUNDLED) as file:
        return file["images"].reshape(-1, 8, 8), file["labels"]


def _divide(train: bool, fraction: float, seed: int) -> tuple[Images, Labels]:
    """One part of the sources, in random order: the last `fraction` of them is for testing."""
    if not 0 <= fraction <= 1:
        raise ConfigError(f"split must lie between 0 and 1, got {fraction}")
    images, labels = _sources()
    order = next(RandomSource(seed)).permutation(len(images))
    cut = len(images) - round(fraction * len(images))
    chosen = order[:cut] if train else order[cut:]
    return images[chosen], labels[chosen]


class Digits(ImageDataset):
    """Handwritten digits of 8x8 pixels with values 0 to 16: 1438 to train, 359 to test.

    `split` is the fraction kept for testing, `seed` decides which.

    >>> len(Digits()), len(Digits(train=False)), Digits()[0][0].shape
    (1438, 359, (8, 8))
    """

    def __init__(
        self,
        train: bool = True,
        split: float = 0.2,
        seed: int = 0,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        super().__init__(*_divide(train, split, seed), transform, target_transform)


def digits(train: bool = True, split: float = 0.2, seed: int = 0) -> TensorDataset:
    """`Digits` ready for a network: rows of 64 float32 between 0 and 1, labels of int64.

    >>> x, y = digits()[0]
    >>> x.shape, y.shape
    ((64,), ())
    """
    source = Digits(train, split, seed)
    pixels = source.data.reshape(len(source), -1).astype(np.float32) / 16
    return TensorDataset(pixels, source.targets)


class DigitsAsMNIST(ImageDataset):
    """A stand-in for MNIST made from the real digits: 60 000 images to train, 10 000 to test.

    `size` asks for another number of images, `seed` for another jitter; the same `seed` gives the
    same images. `cache_file=True` keeps them in the user's cache folder, where later processes
    find them; within a process they are kept in memory.

    >>> data = DigitsAsMNIST(train=False, size=100)
    >>> data.data.shape, data.data.dtype
    ((100, 28, 28), dtype('uint8'))
    """

    def __init__(
        self,
        train: bool = True,
        size: int | None = None,
        seed: int = 0,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        cache_file: bool = False,
    ) -> None:
        size = _SIZE[train] if size is None else size
        if size < 1:
            raise ConfigError(f"DigitsAsMNIST: size must be positive, got {size}")
        images, labels = _stored(train, size, seed) if cache_file else _made(train, size, seed)
        super().__init__(images, labels, transform, target_transform)


def mnist_standin(train: bool = True, size: int | None = None, seed: int = 0) -> TensorDataset:
    """`DigitsAsMNIST` ready for a network: rows of 784 float32 between 0 and 1, labels of int64.

    >>> x, y = mnist_standin(train=False, size=10)[0]
    >>> x.shape, y.shape
    ((784,), ())
    """
    source = DigitsAsMNIST(train, size, seed)
    pixels = source.data.reshape(len(source), -1) / np.float32(255)
    return TensorDataset(pixels, source.targets)


def _stored(train: bool, size: int, seed: int) -> tuple[Images, Labels]:
    """The images from a file of the user's cache, made and written where it does not fit."""
    path = user_cache() / f"digits-as-mnist-v1-{'train' if train else 'test'}-{size}-{seed}.npz"
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            images, labels = file["images"], file["labels"]
        if images.shape == (size, _SIDE, _SIDE) and images.dtype == np.uint8:
            return images, labels
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # absent or damaged: made again below
    images, labels = _made(train, size, seed)
    with atomic_write(path, mode=0o600) as file:
        np.savez(file, images=images, labels=labels)
    return images, labels


@lru_cache(maxsize=4)
def _made(train: bool, size: int, seed: int) -> tuple[Images, Labels]:
    sources, labels = _divide(train, 1 / 6, _SPLIT_SEED)
    rng = next(RandomSource(2 * seed + train))
    # Every source serves equally often, in an order that mixes them.
    origin = rng.permutation(np.arange(size) % len(sources))
    images = np.concatenate(list(_jittered(sources, origin, rng)))
    images.flags.writeable = False
    return images, labels[origin]


def _jittered(
    sources: Images, origin: NDArray[np.intp], rng: np.random.Generator
) -> Iterator[Images]:
    """Blocks of enlarged images, one for each entry of `origin`."""
    for start in range(0, len(origin), _BLOCK):
        chosen = origin[start : start + _BLOCK]
        rows, columns = _source_positions(len(chosen), rng)
        block = _bilinear(sources, chosen, rows, columns)
        block *= rng.uniform(0.7, 1.1, (len(chosen), 1)).astype(np.float32) * (255 / 16)
        block += rng.standard_normal(block.shape, np.float32) * 8
        yield block.clip(0, 255).astype(np.uint8).reshape(-1, _SIDE, _SIDE)


def _source_positions(
    count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of each image lies in its 8x8 source: rows and columns, (count, 784).

    An image is its source enlarged about 2.75 times, turned by up to ten degrees, and moved by up
    to one and a half pixels.
    """
    angle = rng.uniform(-0.17, 0.17, count)
    zoom = rng.uniform(2.5, 3.0, (2, count))
    shift = rng.uniform(-1.5, 1.5, (2, count))
    sine, cosine = np.sin(angle), np.cos(angle)
    # Output pixel -> source pixel: undo the shift, then the turn, then the zoom.
    turn = np.stack([cosine, sine, -sine, cosine]).reshape(2, 2, count) / zoom[:, None]
    offset = 3.5 - np.einsum("abn,bn->an", turn, shift)
    centred = np.indices((_SIDE, _SIDE)).reshape(2, -1) - (_SIDE - 1) / 2
    positions = np.einsum("abn,bp->anp", turn, centred) + offset[:, :, None]
    return positions[0].astype(np.float32), positions[1].astype(np.float32)


def _bilinear(
    sources: Images,
    chosen: NDArray[np.intp],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The sources' values between pixels, zero outside: (images, 784)."""
    padded = np.pad(sources, ((0, 0), (1, 2), (1, 2))).astype(np.float32)
    side = padded.shape[1]
    rows = np.clip(rows + 1, 0, side - 1.001, dtype=np.float32)
    columns = np.clip(columns + 1, 0, side - 1.001, dtype=np.float32)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - top, columns - left
    corner = chosen[:, None].astype(np.int32) * side**2 + top * side + left
    flat = padded.ravel()
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + side] * (1 - right) + flat[corner + side + 1] * right
    blended: NDArray[np.float32] = upper * (1 - down) + lower * down
    return blended
