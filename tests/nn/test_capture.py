"""Modules inside captured functions: every switch is noticed, nothing is traced in vain."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn

F = nn.functional


def small(*layers: nn.Module) -> nn.Sequential:
    lg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))


def test_switching_modes_a_thousand_times_makes_two_programs() -> None:
    model = small(nn.BatchNorm1d(4), nn.Dropout(0.5))
    twin = small(nn.BatchNorm1d(4), nn.Dropout(0.5))
    forward = lg.compute_graph(lambda x: model(x))
    x = lg.randn(5, 3)
    for k in range(1000):
        model.train(k % 2 == 0)
        if k < 8 or k == 999:
            twin.train(k % 2 == 0)
            lg.manual_seed(k)
            y = forward(x).numpy()
            lg.manual_seed(k)
            np.testing.assert_array_equal(y, twin(x).numpy())
    assert forward.cache_info().misses == 2


def test_dropout_draws_the_same_stream_captured_or_not() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.3))
    forward = lg.compute_graph(lambda x: model(x))
    x = lg.ones(40)
    lg.manual_seed(1)
    plain = [model(x).numpy() for _ in range(4)]
    lg.manual_seed(1)
    for wanted in plain:
        np.testing.assert_array_equal(forward(x).numpy(), wanted)
    assert not np.array_equal(plain[0], plain[1])


def test_running_statistics_advance_on_every_replay_and_not_in_evaluation() -> None:
    plain, captured = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    forward = lg.compute_graph(lambda x: captured(x))
    rng = np.random.default_rng(0)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(5):
        x = rng.normal(size=(6, 3)) * 2 + 1
        plain(lg.tensor(x))
        forward(lg.tensor(x))
        mean = 0.9 * mean + 0.1 * x.mean(0)
        var = 0.9 * var + 0.1 * x.var(0, ddof=1)
    for module in (plain, captured):
        np.testing.assert_allclose(module.running_mean.numpy(), mean, rtol=1e-12)
        np.testing.assert_allclose(module.running_var.numpy(), var, rtol=1e-12)
        assert module.num_batches_tracked.item() == 5
        module.eval()
    forward(lg.tensor(x)).numpy()
    plain(lg.tensor(x)).numpy()
    for module in (plain, captured):
        np.testing.assert_allclose(module.running_mean.numpy(), mean, rtol=1e-12)
        assert module.num_batches_tracked.item() == 5


def test_freezing_and_unfreezing_between_replays() -> None:
    results = []
    for wrap in (lambda fn: fn, lg.compute_graph):
        model = small(nn.Tanh())
        optimizer = lg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        x, y = lg.tensor(np.eye(3), dtype=lg.float32), lg.ones(3, 2)
        losses = []
        for k in range(12):
            model[0].requires_grad_(k % 2 == 0)
            losses.append(step(x, y).item())
        results.append((losses, [p.numpy(copy=True) for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert step.cache_info().misses <= 3  # frozen, not frozen, and the first one without gradients


def test_hooks_are_part_of_the_captured_graph() -> None:
    model = small(nn.ReLU())
    forward = lg.compute_graph(lambda x: model(x))
    x = lg.ones(1, 3)
    plain = forward(x).numpy(copy=True)
    handle = model[1].register_forward_hook(lambda m, args, out: out * 0)
    np.testing.assert_array_equal(forward(x).numpy(), model[2](lg.zeros(1, 4)).numpy())
    handle.remove()
    np.testing.assert_array_equal(forward(x).numpy(), plain)


def test_plain_attributes_are_guarded() -> None:
    model = small(nn.LeakyReLU(0.1))
    forward = lg.compute_graph(lambda x: model(x))
    x = lg.randn(4, 3)
    forward(x)
    model[1].negative_slope = 0.9
    np.testing.assert_array_equal(forward(x).numpy(), model(x).numpy())
    model[0] = nn.Linear(3, 4)
    np.testing.assert_array_equal(forward(x).numpy(), model(x).numpy())
    model[0].weight = nn.Parameter(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(forward(x).numpy(), model(x).numpy())


def test_parameters_used_without_a_call_are_guarded() -> None:
    model = nn.Module()
    model.w = nn.Parameter([1.0, 2.0])
    forward = lg.compute_graph(lambda x: x * model.w)
    assert forward(lg.ones(2)).tolist() == [1, 2]
    model.w = nn.Parameter([3.0, 4.0])
    assert forward(lg.ones(2)).tolist() == [3, 4]


def test_models_with_their_own_call_are_guarded_too() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.factor = nn.Linear(2, 2), 2.0

        def __call__(self, x: lg.Tensor) -> lg.Tensor:
            return self.layer(x) * self.factor

    model = Model()
    forward = lg.compute_graph(lambda x: model(x))
    x = lg.ones(1, 2)
    forward(x)
    model.factor = 3.0
    np.testing.assert_array_equal(forward(x).numpy(), model(x).numpy())


def test_micro_batches_accumulate_as_one_batch() -> None:
    x, y = lg.randn(8, 3), lg.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    grads = []
    for wrap in (lambda fn: fn, lg.compute_graph):
        model = small(nn.Tanh())

        @wrap
        def accumulate(x, y, model=model):
            loss = F.cross_entropy(model(x), y, reduction="sum")
            loss.backward()
            return loss

        for k in range(4):
            accumulate(x[2 * k : 2 * k + 2], y[2 * k : 2 * k + 2])
        grads.append([p.grad.numpy(copy=True) for p in model.parameters()])
    model = small(nn.Tanh())
    F.cross_entropy(model(x), y, reduction="sum").backward()
    for plain, captured, whole in zip(*grads, model.parameters(), strict=True):
        np.testing.assert_array_equal(plain, captured)
        np.testing.assert_allclose(plain, whole.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["norm", "value"])
def test_clipping_works_between_backward_and_step(name: str) -> None:
    results = []
    for wrap in (lambda fn: fn, lg.compute_graph):
        model = small(nn.Tanh())
        optimizer = lg.optim.SGD(model.parameters(), lr=0.1)
        forward = wrap(lambda x, model=model: (model(x) ** 2).sum() * 10)
        norms = []
        for _ in range(3):
            optimizer.zero_grad()
            forward(lg.ones(2, 3)).backward()
            if name == "norm":
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
                total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
                assert total.item() == pytest.approx(min(0.5, norms[-1]), rel=1e-4)
            else:
                nn.utils.clip_grad_value_(model.parameters(), 0.1)
                assert max(abs(p.grad.numpy()).max() for p in model.parameters()) <= 0.1 + 1e-7
            optimizer.step()
        results.append((norms, [p.numpy(copy=True) for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_bound_of_clipping_may_be_an_argument_of_the_captured_function() -> None:
    w = nn.Parameter([1.0])
    optimizer = lg.optim.SGD([w], lr=1.0)

    @lg.compute_graph
    def step(bound: float) -> lg.Tensor:
        optimizer.zero_grad()
        (w * 10).sum().backward()
        norm = nn.utils.clip_grad_norm_([w], bound)
        optimizer.step()
        return norm

    value = 1.0
    for bound in (0.5, 0.25, 2.0):
        assert step(bound).item() == 10
        value -= bound
        assert w.item() == pytest.approx(value, rel=1e-6)
    assert step.cache_info().misses == 1


def test_clipping_reports_what_is_not_finite_and_checks_its_arguments() -> None:
    w = nn.Parameter([1.0])
    assert nn.utils.clip_grad_norm_([w], 1.0).item() == 0
    (w * np.inf).sum().backward()
    with pytest.raises(lg.errors.GradientError, match="norm of the gradients is inf; nothing was"):
        nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    assert w.grad.item() == np.inf
    with pytest.raises(ValueError, match="clipped to a number >= 0, got nan"):
        nn.utils.clip_grad_norm_([w], float("nan"))
    with pytest.raises(ValueError, match="norm_type must be a number above 0 or inf, got -1"):
        nn.utils.clip_grad_norm_([w], 1.0, norm_type=-1)


def test_vectors_of_parameters() -> None:
    model = small()
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    nn.utils.vector_to_parameters(vector * 0 + 1, model.parameters())
    assert all((p.numpy() == 1).all() for p in model.parameters())
    with pytest.raises(ValueError, match=r"have 26 elements, the vector \(3,\)"):
        nn.utils.vector_to_parameters(lg.ones(3), model.parameters())
