"""Pycrograd's trainer with its optimizers, losses and data."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.compat import pycrograd as pg


def test_the_rate_of_sgd_variable() -> None:
    w = lg.nn.Parameter([10.0])
    optimizer = pg.SGDVariable({"l1": [w]}, learning_rate=0.25)

    @lg.compute_graph
    def step(x: lg.Tensor) -> None:
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    seen = []
    for _ in range(4):
        before = w.item()
        step(lg.ones(1))
        seen.append(before - w.item())
    np.testing.assert_allclose(seen, [0.25, 1.0, 0.991, 0.982], rtol=1e-5)


def test_moons(capsys: pytest.CaptureFixture[str]) -> None:
    lg.manual_seed(0)
    model = pg.MLP()
    optimizer = pg.SGD(learning_rate=0.1, parameters_dict=model.parameters())
    trainer = pg.Trainer(
        model=model,
        optimizer=optimizer,
        loss_function=pg.max_margin_loss,
        accuracy_function=pg.calculate_accuracy_binary,
    )
    data = pg.MoonsData(length=100)
    assert trainer.fit(epochs=20, batch_size=10, data=data).accuracy >= 0.9
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Training Epoch     0, loss ")
    assert lines[-2].startswith("Validation Epoch  19, loss ")
    assert lines[-1].startswith("Training took ")


@pytest.mark.parametrize(
    ("model", "data", "features"),
    [(pg.MLPDigits, pg.DigitsData, 64), (pg.MLPMnist, pg.MnistData, 784)],
    ids=["digits", "mnist"],
)
def test_classes(model: object, data: object, features: int) -> None:
    lg.manual_seed(0)
    net, examples = model(), data(length=400)  # type: ignore[operator]
    inputs, one_hot = examples.train.tensors
    assert inputs.shape == (320, features)
    assert (one_hot.sum(dim=1) == 1).all()
    assert len(examples.validation) == 80
    np.testing.assert_allclose(net(inputs).exp().sum(dim=1).numpy(), 1, rtol=1e-5)
    trainer = pg.Trainer(
        net, pg.SGD(net.parameters(), 0.1), pg.cross_entropy_loss, pg.calculate_accuracy
    )
    assert trainer.fit(epochs=10, batch_size=16, data=examples).accuracy > 0.5


def test_the_regularization_is_shown_but_not_followed() -> None:
    w = lg.nn.Parameter([[3.0], [4.0]])
    scores = lg.ones(2, 2) @ w
    loss = pg.max_margin_loss(scores, lg.tensor([1, 1]), {"l1": (w,)})
    assert loss.item() == pytest.approx(1e-4 * 25)
    loss.backward()
    assert w.grad.tolist() == [[0.0], [0.0]]
