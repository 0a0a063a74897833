"""Convolution and pooling: second order, indices, sizes to choose, errors, captured steps."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.testing import gradcheck, gradgradcheck

F = nn.functional


def normal(*shape: int, seed: int = 0) -> lg.Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return lg.tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda x, w, b: F.conv1d(x, w, b, 2, 1), [(2, 2, 4), (2, 2, 3), (2,)]),
        (lambda x, w: F.conv2d(x, w, groups=2, padding="same"), [(1, 2, 3, 2), (4, 1, 2, 2)]),
        (lambda x, w: F.conv_transpose2d(x, w, stride=2), [(1, 1, 2, 2), (1, 2, 3, 2)]),
        (lambda x: F.max_pool2d(x, 2, 1), [(1, 1, 3, 3)]),
        (lambda x: F.avg_pool2d(x, 2, 1, 1) ** 2, [(1, 1, 3, 3)]),
        (lambda x: F.adaptive_avg_pool1d(x, 2) ** 2, [(1, 2, 3)]),
        (lambda x: F.fold(F.unfold(x, 2) ** 2, (3, 3), 2), [(1, 1, 3, 3)]),
    ],
)
def test_first_and_second_order(fn, shapes) -> None:
    inputs = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


def test_windows_compute_nothing() -> None:
    x = lg.tensor(np.arange(20.0))
    windows = x.unfold(0, 4, 2)
    np.testing.assert_array_equal(
        windows.numpy(), np.lib.stride_tricks.sliding_window_view(np.arange(20.0), 4)[::2]
    )
    assert windows._node.op.kind.value == "view"


def test_the_first_of_equal_elements_gets_the_gradient() -> None:
    x = lg.zeros(1, 1, 2, 4, requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("padding", [0, 1])
def test_indices_of_pooling_say_where_the_maxima_were(padding) -> None:
    x = normal(2, 3, 5, 6)
    for values, where in (
        F.max_pool2d(x, 3, 2, padding, return_indices=True),
        F.adaptive_max_pool2d(x, (3, 4), return_indices=True),
    ):
        found = x.reshape(2, 3, -1).gather(2, where.reshape(2, 3, -1))
        np.testing.assert_array_equal(found.reshape(values.shape).numpy(), values.numpy())
    line, where = F.max_pool1d(lg.tensor([[1.0, 3.0, 3.0]]), 3, return_indices=True)
    assert (line.item(), where.item()) == (3, 1)


def test_nan_wins_the_maximum_and_integers_can_be_pooled() -> None:
    x = lg.tensor([[[[1.0, np.nan], [3.0, 2.0]]]])
    assert np.isnan(F.max_pool2d(x, 2).item())
    assert F.max_pool2d(lg.arange(16).reshape(1, 1, 4, 4), 2, padding=1).dtype is lg.int64


def test_a_transposed_convolution_can_be_told_its_size() -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = normal(1, 2, 4, 5).float()
    assert layer(x).shape == (1, 3, 7, 9)
    assert layer(x, output_size=(8, 9)).shape == (1, 3, 8, 9)
    with pytest.raises(ShapeError, match="9 is not between 7 and 8"):
        layer(x, output_size=(9, 9))


def test_half_precision_is_computed_in_single() -> None:
    x, w = normal(1, 2, 5, 5).half(), normal(3, 2, 3, 3).half()
    wanted = F.conv2d(x.float(), w.float()).half()
    np.testing.assert_array_equal(F.conv2d(x, w).numpy(), wanted.numpy())


def test_a_captured_step_of_a_small_network_is_an_uncaptured_one() -> None:
    def losses(wrap) -> list[float]:
        lg.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout2d(0.2), nn.Conv2d(4, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        optimizer = lg.optim.AdamW(net.parameters(), lr=0.01)
        x, y = lg.tensor(np.random.default_rng(0).normal(size=(6, 1, 8, 8))).float(), [0, 1] * 3

        def step() -> lg.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), lg.tensor(y))
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        return [run().item() for _ in range(4)]

    assert losses(lg.compute_graph) == losses(lambda step: step)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.Conv2d(3, 4, 3)(lg.ones(1, 2, 5, 5)), r"input \(1, 2, 5, 5\) has 2 channels"),
        (lambda: nn.Conv2d(1, 4, 3)(lg.ones(5, 5)), "conv2d: input must be"),
        (lambda: nn.Conv2d(1, 4, 3)(lg.ones(1, 1, 2, 5)), "does not fit into the padded input"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels 3 is no multiple of groups 2"),
        (lambda: nn.Conv2d(2, 4, 3, stride=2, padding="same"), "needs stride 1"),
        (lambda: nn.Conv2d(2, 4, 3, padding="full"), "'same' or 'valid', got 'full'"),
        (lambda: nn.Conv2d(2, 4, (3, 3, 3)), "kernel_size must be an integer >= 1, or 2 of them"),
        (lambda: nn.Conv1d(2, 4, 3, padding_mode="mirror"), "padding_mode is one of"),
        (lambda: F.conv1d(lg.ones(1, 1, 4), lg.ones(2, 1, 2), lg.ones(3)), r"bias must be \(2,\)"),
        (lambda: nn.ConvTranspose1d(1, 1, 2, output_padding=1)(lg.ones(1, 1, 4)), "smaller than"),
        (lambda: nn.MaxPool2d(2, padding=2)(lg.ones(1, 1, 4, 4)), "more than half of the kernel"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3))(lg.ones(1, 1, 4, 4)), "takes 2 numbers"),
        (lambda: nn.Fold((4, 4), 2)(lg.ones(1, 4, 8)), r"must be \(batch, channels \* 4, 9\)"),
        (lambda: lg.ones(3).unfold(0, 4, 1), "size 4, step 1 of 3 elements"),
    ],
)
def test_errors_name_the_layer_and_the_shapes(call, text) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=text):
        call()
