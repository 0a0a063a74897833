"""The datasets that need no files: digits, the stand-in for MNIST, moons."""

import stat
from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.data import (
    DataLoader,
    Digits,
    DigitsAsMNIST,
    digits,
    handwritten,
    make_moons,
    mnist_standin,
    moons,
)
from lazygrad.errors import ConfigError, DataError


def distinct(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_digits_are_the_real_ones() -> None:
    whole = Digits(split=0)
    assert len(whole) == 1797
    assert whole.data.max() == 16
    # The counts of the classes are those that the data set's documentation states.
    assert np.bincount(whole.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_parts_are_disjoint_and_seeded() -> None:
    train, test = Digits(), Digits(train=False)
    whole = distinct(Digits(split=0).data)
    assert len(train) + len(test) == 1797
    assert distinct(train.data) | distinct(test.data) == whole
    assert not distinct(train.data) & distinct(test.data)
    np.testing.assert_array_equal(Digits().data, train.data)
    assert (Digits(seed=1).data != train.data).any()
    assert len(Digits(train=False, split=0.5)) == 898


def test_digits_for_a_network() -> None:
    x, y = next(iter(DataLoader(digits(train=False), batch_size=32)))
    assert (x.shape, y.shape) == ((32, 64), (32,))
    pixels = x.numpy()
    assert pixels.dtype == np.float32
    assert 0 <= pixels.min() < pixels.max() <= 1
    np.testing.assert_array_equal(
        pixels[0] * 16, Digits(train=False).data[0].ravel().astype(np.float32)
    )


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Digits(split=1.5), ConfigError, "split must lie between 0 and 1, got 1.5"),
        (lambda: Digits(train=False, split=0), DataError, "Digits: the dataset is empty"),
        (lambda: Digits(seed=-1), ConfigError, "seed must be a non-negative integer"),
        (lambda: DigitsAsMNIST(size=0), ConfigError, "size must be positive, got 0"),
        (lambda: make_moons(1), ConfigError, "n_samples must be at least 2"),
        (lambda: make_moons(10, noise=-1.0), ConfigError, "noise must not be negative"),
    ],
)
def test_bad_arguments(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()


def test_the_stand_in_looks_like_mnist() -> None:
    data = DigitsAsMNIST(size=4000)
    assert data.data.shape == (4000, 28, 28)
    assert data.data.dtype == np.uint8
    assert data.data.max() > 230
    assert data.data[:, 1:27, 1:27].mean() > 40
    assert data.data[:, 0].mean() < 6  # the frame is empty but for the noise
    assert np.bincount(data.targets).min() > 300
    image, label = data[0]
    assert image.shape == (28, 28)
    assert type(label) is int
    assert handwritten._SIZE == {True: 60_000, False: 10_000}


def test_the_stand_in_is_reproducible() -> None:
    first = DigitsAsMNIST(size=300, seed=4)
    handwritten._made.cache_clear()
    again = DigitsAsMNIST(size=300, seed=4)
    np.testing.assert_array_equal(first.data, again.data)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert (DigitsAsMNIST(size=300, seed=5).data != first.data).any()


def test_sources_are_split_before_jittering() -> None:
    """Whatever the seeds, no source serves both parts."""
    parts = {}
    for train in (True, False):
        images, labels = handwritten._divide(train, 1 / 6, handwritten._SPLIT_SEED)
        assert len(images) == len(labels)
        parts[train] = distinct(images)
    assert not parts[True] & parts[False]
    assert (len(parts[True]), len(parts[False])) == (1497, 300)


def test_an_image_is_its_enlarged_source() -> None:
    """Undone by averaging, an unjittered enlargement gives the source back."""
    sources = handwritten._sources()[0][:5]
    grid = (np.indices((28, 28)).reshape(2, -1) + 0.5) * 8 / 28 - 0.5
    rows, columns = (np.tile(axis, (5, 1)).astype(np.float32) for axis in grid)
    large = handwritten._bilinear(sources, np.arange(5), rows, columns).reshape(5, 28, 28)
    blocks = large[:, 1:27, 1:27]
    correlation = np.corrcoef(
        blocks.ravel(),
        np.kron(sources, np.ones((7, 7)))
        .reshape(5, 28, 2, 28, 2)
        .mean(axis=(2, 4))[:, 1:27, 1:27]
        .ravel(),
    )[0, 1]
    assert correlation > 0.9
    exact = np.tile(np.indices((8, 8)).reshape(2, -1), (5, 1, 1)).astype(np.float32)
    same = handwritten._bilinear(sources, np.arange(5), exact[:, 0], exact[:, 1])
    np.testing.assert_allclose(same, sources.reshape(5, -1), atol=0.02)
    outside = handwritten._bilinear(sources, np.arange(5), rows * 0 - 5, columns * 0 + 30)
    assert not outside.any()


def test_the_stand_in_for_a_network() -> None:
    x, y = mnist_standin(train=False, size=20)[3]
    assert (x.shape, y.shape) == ((784,), ())
    assert 0 <= x.numpy().min() < x.numpy().max() <= 1


def test_the_stand_in_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = DigitsAsMNIST(size=50, cache_file=True)
    (path,) = (tmp_path / "lazygrad").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stamp = path.stat().st_mtime_ns
    again = DigitsAsMNIST(size=50, cache_file=True)
    assert path.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(made.data, again.data)
    np.testing.assert_array_equal(made.targets, again.targets)
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(DigitsAsMNIST(size=50, cache_file=True).data, made.data)
    assert path.stat().st_size > 1000


def test_moons_are_those_of_scikit_learn() -> None:
    """Goldens: `sklearn.datasets.make_moons(6, noise=0.1, random_state=1337)` of 1.9."""
    points, labels = make_moons(6, noise=0.1, seed=1337)
    expected = [
        [-0.1722627690255963, 0.59618319872606],
        [-1.0919946290642557, -0.1096584897551003],
        [0.1335572972333839, 0.9242039936769164],
        [1.011049866427426, -0.010361361025905477],
        [0.774440688535025, -0.5690818124396763],
        [1.7717828318663016, 0.5359753244226229],
    ]
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-12)
    assert labels.tolist() == [1, 0, 0, 0, 1, 1]
    points, labels = make_moons(1000, noise=0.3, seed=7)
    np.testing.assert_allclose(
        points[-1], [0.09741928555004337, 1.2366084374728512], rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        (points.T @ labels).tolist(), [505.76418781794416, -62.40386865832749], rtol=0, atol=1e-9
    )


def test_moons_follow_manual_seed() -> None:
    lg.manual_seed(2)
    first = make_moons(10, noise=0.1)[0]
    assert (make_moons(10, noise=0.1)[0] != first).any()
    lg.manual_seed(2)
    np.testing.assert_array_equal(make_moons(10, noise=0.1)[0], first)


def test_moons_for_a_network() -> None:
    x, y = next(iter(DataLoader(moons(9, seed=1), batch_size=9)))
    assert (x.numpy().dtype, y.numpy().dtype) == (np.float32, np.int64)
    assert sorted(y.tolist()) == [0] * 4 + [1] * 5


def test_misspelt_names_get_a_hint() -> None:
    with pytest.raises(AttributeError, match="no 'MNITS'; did you mean 'MNIST'"):
        lg.data.MNITS  # noqa: B018
