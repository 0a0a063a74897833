"""Labelled images: the base of the image datasets, MNIST, FashionMNIST and CIFAR-10.

Items are `(image, label)`, an array of uint8 and an int, as torchvision's are before a transform;
`data` and `targets` hold all of them. A loader without transforms takes whole batches from the
arrays.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygrad.data.collate import stack
from lazygrad.data.dataset import Dataset
from lazygrad.data.files import RemoteFile, atomic_write
from lazygrad.data.idx import read_idx
from lazygrad.errors import DataError

Transform = Callable[[Any], Any]


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Images and labels in two read-only arrays.

    `data` is (N, height, width) or (N, height, width, channels) of uint8, `targets` (N,) of int64
    below `len(classes)`. `transform` and `target_transform` are applied to each item as it is read.
    """

    classes: Sequence[str] = tuple("0123456789")

    def __init__(
        self,
        data: NDArray[np.uint8],
        targets: NDArray[Any],
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        name = type(self).__name__
        if len(data) == 0:
            raise DataError(f"{name}: the dataset is empty")
        if targets.shape != (len(data),):
            raise DataError(f"{name}: {len(data)} images but labels of shape {targets.shape}")
        wrong = targets[(targets < 0) | (targets >= len(self.classes))]
        if wrong.size:
            raise DataError(f"{name}: label {wrong[0]} in {len(self.classes)} classes")
        self.data = data.view()
        self.targets = targets.astype(np.int64)
        self.data.flags.writeable = self.targets.flags.writeable = False
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.data[index], int(self.targets[index])
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def get_batch(self, indices: Sequence[int]) -> Any:
        """The items at `indices`, stacked."""
        if self.transform is None and self.target_transform is None:
            return self.data.take(indices, axis=0), self.targets.take(indices)
        return stack([self[i] for i in indices])

    def __repr__(self) -> str:
        size = "x".join(str(n) for n in self.data.shape[1:])
        return f"{type(self).__name__}({len(self)} images of {size}, {len(self.classes)} classes)"


def _find(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first of the named files in the first folder that has one."""
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _idx_files(
    prefix: str, images: tuple[int, str], labels: tuple[int, str]
) -> tuple[RemoteFile, RemoteFile]:
    """The two files of a split, each with its size and SHA-256."""
    return (
        RemoteFile(f"{prefix}-images-idx3-ubyte.gz", *images),
        RemoteFile(f"{prefix}-labels-idx1-ubyte.gz", *labels),
    )


class MNIST(ImageDataset):
    """Handwritten digits, 60 000 to train and 10 000 to test, 28x28.

    Reads the IDX files, plain or `.gz`, in `root/MNIST/raw` (where torchvision puts them) or in
    `root`. With `download=True` the missing ones are fetched and their checksums verified.

    Raises `DataError` where files are missing, damaged or cannot be downloaded; `DigitsAsMNIST`
    needs no files.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """

    mirrors: ClassVar[Sequence[str]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    files: ClassVar[dict[bool, tuple[RemoteFile, RemoteFile]]] = {
        True: _idx_files(
            "train",
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ),
        False: _idx_files(
            "t10k",
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    }

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        images_file, labels_file = self.files[train]
        images = self._read(images_file, Path(root), download, magic=2051)
        labels = self._read(labels_file, Path(root), download, magic=2049)
        if images.shape[1:] != (28, 28):
            raise DataError(
                f"{type(self).__name__}: images of {images.shape[1:]}, expected (28, 28)"
            )
        super().__init__(images, labels, transform, target_transform)

    @classmethod
    def _read(cls, file: RemoteFile, root: Path, download: bool, magic: int) -> NDArray[Any]:
        folder = root / cls.__name__ / "raw"
        names = (file.name.removesuffix(".gz"), file.name)
        path = _find((folder, root), names)
        if path is None and download:
            file.download(cls.mirrors, folder)
            path = folder / file.name
        if path is None:
            raise DataError(
                f"{cls.__name__}: neither {names[0]} nor {names[1]} in {folder} or {root}; "
                "use download=True, or DigitsAsMNIST, which needs no files"
            )
        return read_idx(path, magic)


class FashionMNIST(MNIST):
    """Articles of clothing in MNIST's format: 60 000 to train and 10 000 to test, 28x28.

    Files are looked for in `root/FashionMNIST/raw` and `root`, as for `MNIST`.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747, 2017.
    """

    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    files: ClassVar[dict[bool, tuple[RemoteFile, RemoteFile]]] = {
        True: _idx_files(
            "train",
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ),
        False: _idx_files(
            "t10k",
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    }


class CIFAR10(ImageDataset):
    """Small photographs in ten classes: 50 000 to train and 10 000 to test, 32x32x3.

    Reads the files of the binary version (`data_batch_1.bin` ... and `test_batch.bin`) in
    `root/cifar-10-batches-bin` or `root`. With `download=True` the archive is fetched, verified
    and unpacked where they are missing. `data` is (N, 32, 32, 3), as torchvision's.

    Raises `DataError` where files are missing, damaged or cannot be downloaded.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    mirrors: ClassVar[Sequence[str]] = ("https://www.cs.toronto.edu/~kriz/",)
    archive: ClassVar[RemoteFile] = RemoteFile(
        "cifar-10-binary.tar.gz",
        170052171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )
    folder: ClassVar[str] = "cifar-10-batches-bin"
    python_folder: ClassVar[str] = "cifar-10-batches-py"  # torchvision's
    files: ClassVar[dict[bool, Sequence[str]]] = {
        True: tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        False: ("test_batch.bin",),
    }
    images_per_file: ClassVar[int] = 10_000

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        root = Path(root)
        if download and any(self._path(root, name) is None for name in self.files[train]):
            self._download(root)
        records = np.concatenate([self._read(root, name) for name in self.files[train]])
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        super().__init__(np.ascontiguousarray(images), records[:, 0], transform, target_transform)

    @classmethod
    def _path(cls, root: Path, name: str) -> Path | None:
        return _find((root / cls.folder, root), (name,))

    @classmethod
    def _read(cls, root: Path, name: str) -> NDArray[np.uint8]:
        """The records of a file: a byte for the label, then the three planes of the image."""
        path = cls._path(root, name)
        if path is None:
            python = root / cls.python_folder
            hint = f" ({python} is the Python version, pickles; the binary version is needed)"
            raise DataError(
                f"{cls.__name__}: no {name} in {root / cls.folder} or {root}"
                f"{hint if python.is_dir() else ''}; use download=True"
            )
        record = 1 + 3 * 32 * 32
        expected, found = cls.images_per_file * record, path.stat().st_size
        if found != expected:
            raise DataError(f"{path}: expected {expected} bytes, found {found}")
        return np.fromfile(path, np.uint8).reshape(-1, record)

    @classmethod
    def _download(cls, root: Path) -> None:
        path = root / cls.archive.name
        if not path.is_file():
            cls.archive.download(cls.mirrors, root)
        (root / cls.folder).mkdir(exist_ok=True)
        try:
            with tarfile.open(path, "r:gz") as archive:
                for name in (*cls.files[True], *cls.files[False]):
                    cls._unpack(archive, name, root / cls.folder / name)
        except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged archive ({error}); delete it and retry") from error

    @classmethod
    def _unpack(cls, archive: tarfile.TarFile, name: str, path: Path) -> None:
        """Write one member, asked for by name: no path that the archive holds is followed."""
        member = archive.extractfile(f"{cls.folder}/{name}")
        if member is None:
            raise tarfile.ReadError(f"{name} is not a file")
        with atomic_write(path) as file:
            shutil.copyfileobj(member, file)
