"""Image datasets from files made here: IDX, plain and compressed, and CIFAR-10's records."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lazygrad.data import CIFAR10, MNIST, DataLoader, FashionMNIST, ImageDataset, read_idx
from lazygrad.data.files import RemoteFile
from lazygrad.errors import DataError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 28, 28), np.uint8)
LABELS = RNG.integers(0, 10, 7, np.uint8)
RECORD = 3073


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    sizes = np.array(array.shape, ">u4").tobytes()
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, images: bytes, labels: bytes, prefix: str = "train") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images)
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


# --- IDX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path, dtype, shape, compress) -> None:
    array = RNG.integers(0, 100, shape).astype(dtype)
    (tmp_path / "file").write_bytes(compress(idx(array)))
    found = read_idx(tmp_path / "file")
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not an IDX file: it begins with nothing"),
        (b"\x89PNG1234", "not an IDX file: it begins with 89 50 4e 47"),
        (idx(IMAGES)[:10], "expected a header of 16 bytes, the file has 10"),
        (
            idx(IMAGES)[:-1],
            r"truncated: expected 5504 bytes for shape \(7, 28, 28\), found 5503",
        ),
        (idx(IMAGES) + b"!", "too long: expected 5504 bytes .* found 5505"),
        (gzip.compress(idx(IMAGES))[:2000], r"truncated: expected 5504 bytes .* found \d+"),
        (gzip.compress(idx(IMAGES))[:-2], "the end of the gzip stream is missing"),
        (b"\x1f\x8b\xff\xff" + b"?" * 50, "damaged gzip stream"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "truncated: expected 79228162458924105385300197391"),
    ],
)
def test_bad_idx_files(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        read_idx(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


# --- MNIST -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_mnist_items(tmp_path: Path, folder: str, compress) -> None:
    write_mnist(tmp_path / folder, idx(IMAGES), idx(LABELS), "t10k")
    if compress is gzip.compress:
        for path in list((tmp_path / folder).glob("t10k*")):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    dataset = MNIST(tmp_path, train=False)
    image, label = dataset[3]
    assert isinstance(label, int)
    assert label == LABELS[3]
    np.testing.assert_array_equal(image, IMAGES[3])
    np.testing.assert_array_equal(dataset.data, IMAGES)
    assert dataset.targets.dtype == np.int64
    assert repr(dataset) == "MNIST(7 images of 28x28, 10 classes)"


def test_transforms_apply_in_items_and_batches(tmp_path: Path) -> None:
    write_mnist(tmp_path, idx(IMAGES), idx(LABELS))
    plain = MNIST(str(tmp_path))
    changed = MNIST(
        tmp_path, transform=lambda i: i.astype(np.float32) / 255, target_transform=lambda y: y + 0.5
    )
    for dataset, dtype in ((plain, np.uint8), (changed, np.float32)):
        (batch,) = DataLoader(dataset, 10)
        assert batch[0].numpy().dtype == dtype
        np.testing.assert_array_equal(batch[0].numpy(), [dataset[i][0] for i in range(7)])
        np.testing.assert_array_equal(batch[1].numpy(), [dataset[i][1] for i in range(7)])


def test_the_images_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    write_mnist(tmp_path, idx(IMAGES), idx(LABELS))
    image, _ = MNIST(tmp_path)[0]
    with pytest.raises(ValueError, match="read-only"):
        image += 1


def test_fashion_has_its_own_folder_and_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST/raw", idx(IMAGES), idx(LABELS))
    assert FashionMNIST(tmp_path).classes[9] == "Ankle boot"
    with pytest.raises(DataError, match="MNIST: neither train-images"):
        MNIST(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (idx(LABELS), idx(LABELS), "magic number 2049, expected 2051"),
        (idx(IMAGES), idx(IMAGES), "magic number 2051, expected 2049"),
        (idx(IMAGES), idx(LABELS[:6]), r"7 images but labels of shape \(6,\)"),
        (idx(IMAGES), idx(LABELS + np.uint8(10)), r"label \d\d in 10 classes"),
        (idx(IMAGES[:, :8, :8]), idx(LABELS), r"images of \(8, 8\), expected \(28, 28\)"),
        (idx(IMAGES[:0]), idx(LABELS[:0]), "MNIST: the dataset is empty"),
        (idx(IMAGES)[:-5], idx(LABELS), "truncated: expected 5504 bytes .* found 5499"),
    ],
)
def test_bad_mnist_files(tmp_path: Path, images: bytes, labels: bytes, text: str) -> None:
    write_mnist(tmp_path, images, labels)
    with pytest.raises(DataError, match=text):
        MNIST(tmp_path)


def test_missing_files_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"use download=True, or DigitsAsMNIST") as caught:
        MNIST(tmp_path)
    assert str(tmp_path / "MNIST" / "raw") in str(caught.value)


def served(folder: Path, name: str, content: bytes) -> RemoteFile:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest())


def test_mnist_downloads_what_is_missing_once(tmp_path, monkeypatch) -> None:
    mirror = tmp_path / "mirror"
    pair = tuple(
        served(mirror, f"train-{name}-ubyte.gz", gzip.compress(idx(array)))
        for name, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS))
    )
    monkeypatch.setattr(MNIST, "files", {True: pair})
    monkeypatch.setattr(MNIST, "mirrors", [mirror.as_uri() + "/"])
    np.testing.assert_array_equal(MNIST(tmp_path / "root", download=True).data, IMAGES)
    monkeypatch.setattr(MNIST, "mirrors", [])
    np.testing.assert_array_equal(MNIST(tmp_path / "root", download=True).targets, LABELS)


def test_a_refused_download_leaves_no_dataset(tmp_path, monkeypatch) -> None:
    mirror = tmp_path / "mirror"
    file = served(mirror, "train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES)))
    (mirror / file.name).write_bytes(b"?" * file.size)
    monkeypatch.setattr(MNIST, "files", {True: (file, file)})
    monkeypatch.setattr(MNIST, "mirrors", [mirror.as_uri() + "/"])
    with pytest.raises(DataError, match="checksum mismatch"):
        MNIST(tmp_path / "root", download=True)
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


# --- CIFAR-10 --------------------------------------------------------------------------------


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Six files' worth of three records each."""
    monkeypatch.setattr(CIFAR10, "images_per_file", 3)
    made = RNG.integers(0, 256, (6, 3, RECORD), np.uint8)
    made[:, :, 0] %= 10
    return made


def cifar_files(records: np.ndarray) -> dict[str, bytes]:
    names = (*CIFAR10.files[True], *CIFAR10.files[False])
    return {name: record.tobytes() for name, record in zip(names, records, strict=True)}


def test_cifar_items(tmp_path: Path, records: np.ndarray) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, content in cifar_files(records).items():
        (folder / name).write_bytes(content)
    train, test = CIFAR10(tmp_path), CIFAR10(folder, train=False)
    assert (len(train), len(test)) == (15, 3)
    image, label = train[4]
    assert image.shape == (32, 32, 3)
    assert label == records[1, 1, 0]
    for channel in range(3):
        plane = records[1, 1, 1 + 1024 * channel : 1025 + 1024 * channel]
        np.testing.assert_array_equal(image[:, :, channel], plane.reshape(32, 32))
    assert train.classes[0] == "airplane"


@pytest.mark.parametrize("change", [-1, 1, -RECORD])
def test_cifar_files_of_the_wrong_length(tmp_path, records, change) -> None:
    content = (records[5].tobytes() + b"!")[: 3 * RECORD + change]
    (tmp_path / "test_batch.bin").write_bytes(content)
    expected = rf"test_batch.bin: expected 9219 bytes, found {9219 + change}"
    with pytest.raises(DataError, match=expected):
        CIFAR10(tmp_path, train=False)


def test_cifar_label_outside_the_classes(tmp_path: Path, records: np.ndarray) -> None:
    records[5, 1, 0] = 10
    (tmp_path / "test_batch.bin").write_bytes(records[5].tobytes())
    with pytest.raises(DataError, match="CIFAR10: label 10 in 10 classes"):
        CIFAR10(tmp_path, train=False)


def test_cifar_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data_batch_1\.bin in .*; use download=True"):
        CIFAR10(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"is the Python version.*the binary version is needed"):
        CIFAR10(tmp_path)


def tarball(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def serve_archive(monkeypatch: pytest.MonkeyPatch, mirror: Path, content: bytes) -> None:
    monkeypatch.setattr(CIFAR10, "archive", served(mirror, "cifar-10-binary.tar.gz", content))
    monkeypatch.setattr(CIFAR10, "mirrors", [mirror.as_uri() + "/"])


def test_cifar_download(tmp_path, monkeypatch, records) -> None:
    serve_archive(monkeypatch, tmp_path / "mirror", tarball(cifar_files(records)))
    root = tmp_path / "root"
    assert len(CIFAR10(root, download=True)) == 15
    assert len(CIFAR10(root, train=False)) == 3
    names = {path.name for path in (root / "cifar-10-batches-bin").iterdir()}
    assert names == set(cifar_files(records))


def test_cifar_damaged_archive(tmp_path, monkeypatch, records) -> None:
    whole = cifar_files(records)
    for number, content in enumerate(
        [tarball(whole)[:5000], tarball({"readme.html": b""}), b"no archive"]
    ):
        serve_archive(monkeypatch, tmp_path / f"mirror{number}", content)
        with pytest.raises(DataError, match=r"damaged archive .* delete it and retry"):
            CIFAR10(tmp_path / f"root{number}", download=True)


def test_own_image_datasets() -> None:
    dataset = ImageDataset(IMAGES, LABELS)
    assert len(dataset) == 7
    assert IMAGES.flags.writeable  # only the dataset's view is read-only
