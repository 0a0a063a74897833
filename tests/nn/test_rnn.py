"""Recurrent layers: names, packing, dropout, errors, what a captured step sees."""

from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, CaptureError, ShapeError
from lazygrad.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)


def test_parameters_have_the_names_and_order_of_pytorch() -> None:
    names = [name for name, _ in nn.LSTM(2, 3, bidirectional=True, proj_size=1).named_parameters()]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    assert names == [k + "_l0" + end for end in ("", "_reverse") for k in kinds]


def test_a_packed_sequence_is_each_sequence_alone() -> None:
    layer = nn.LSTM(2, 3, bidirectional=True).double()
    rng = np.random.default_rng(0)
    sequences = [lg.tensor(rng.normal(size=(n, 2))) for n in (2, 3, 1)]
    packed, (h, c) = layer(pack_sequence(sequences, enforce_sorted=False))
    padded, lengths = pad_packed_sequence(packed, batch_first=True, total_length=4)
    assert lengths.tolist() == [2, 3, 1]
    assert padded.shape == (3, 4, 6)
    for i, sequence in enumerate(sequences):
        alone, (h1, c1) = layer(sequence)
        np.testing.assert_allclose(padded[i, : len(sequence)].numpy(), alone.numpy(), rtol=1e-12)
        np.testing.assert_allclose(h[:, i].numpy(), h1.numpy(), rtol=1e-12)
        np.testing.assert_allclose(c[:, i].numpy(), c1.numpy(), rtol=1e-12)
    assert (padded[2, 1:] == 0).all()


def test_padding_and_packing_undo_each_other() -> None:
    x = pad_sequence([lg.tensor([1.0, 2.0]), lg.tensor([3.0])], batch_first=True, padding_value=9.0)
    assert x.tolist() == [[1, 2], [3, 9]]
    packed = pack_padded_sequence(x, lg.tensor([2, 1]), batch_first=True)
    back, _ = pad_packed_sequence(packed, batch_first=True, padding_value=9.0)
    assert back.tolist() == x.tolist()


def test_dropout_is_between_layers_only() -> None:
    lg.manual_seed(0)
    x = lg.ones(2, 1, 3)
    for layers in (1, 2):
        layer = nn.GRU(3, 4, layers, dropout=0.5)
        same = np.array_equal(layer(x)[0].numpy(), layer(x)[0].numpy())
        assert same == (layers == 1)
        layer.eval()
        assert np.array_equal(layer(x)[0].numpy(), layer(x)[0].numpy())


def test_state_goes_from_one_captured_step_to_the_next() -> None:
    def run(wrap) -> list[float]:
        lg.manual_seed(0)
        layer, optimizer_of = nn.LSTM(2, 3), lg.optim.Adam
        optimizer = optimizer_of(layer.parameters(), lr=0.05)
        x = lg.tensor(np.random.default_rng(0).normal(size=(2, 4, 2))).float()

        def step(h: lg.Tensor, c: lg.Tensor) -> tuple[lg.Tensor, ...]:
            optimizer.zero_grad()
            output, (h, c) = layer(x, (h, c))
            loss = (output - 0.3).square().mean()
            loss.backward()
            optimizer.step()
            return loss, h.detach(), c.detach()

        step = wrap(step)
        losses, state = [], (lg.zeros(1, 4, 3), lg.zeros(1, 4, 3))
        for _ in range(4):
            loss, *state = step(*state)
            losses.append(loss.item())
        return losses

    assert run(lg.compute_graph) == run(lambda step: step)


def test_lengths_of_a_captured_function_are_integers() -> None:
    layer = nn.GRU(2, 3)

    @lg.compute_graph
    def last(x: lg.Tensor, lengths: Any) -> lg.Tensor:
        return layer(pack_padded_sequence(x, lengths))[1]

    x, lengths = lg.ones(3, 2, 2), lg.tensor([3, 1])
    with pytest.raises(CaptureError, match=r"lengths shape the program: .*lengths\.tolist\(\)"):
        last(x, lengths)
    expected = layer(pack_padded_sequence(x, lengths))[1]
    assert last(x, lengths.tolist()).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.LSTM(2, 3)(lg.ones(4, 1, 3)), r"LSTM: input must be \(time, batch, 2\)"),
        (lambda: nn.GRU(2, 3)(lg.ones(4, 1, 2), lg.ones(1, 2, 3)), r"must be \(1, 1, 3\)"),
        (lambda: nn.LSTM(2, 3, proj_size=3), "proj_size 3 must be smaller than hidden_size 3"),
        (lambda: nn.RNN(2, 3, nonlinearity="gelu"), "'tanh' or 'relu'"),
        (lambda: nn.RNN(2, 3, dropout=1.5), "dropout must be a probability"),
        (lambda: nn.LSTMCell(2, 3)(lg.ones(1, 3)), r"LSTMCell: input must be \(batch, 2\)"),
        (lambda: nn.GRUCell(2, 3)(lg.ones(1, 2), lg.ones(2, 3)), r"the state must be \(1, 3\)"),
        (lambda: pack_padded_sequence(lg.ones(3, 2), [1, 2]), "lengths must fall"),
        (lambda: pack_padded_sequence(lg.ones(3, 2), [4, 2]), "lengths are from 1 to 3"),
        (lambda: pack_padded_sequence(lg.ones(3, 2), [1]), "must be 2 integers"),
    ],
)
def test_errors_name_the_layer_and_the_shapes(call, text) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=text):
        call()
