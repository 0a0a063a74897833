"""Hooks of tensors: they see a gradient on its way, and what they return replaces it."""

import lazygrad as lg


def test_a_hook_replaces_the_gradient_until_it_is_removed() -> None:
    x = lg.tensor([1.0, 2.0], requires_grad=True)
    handle = x.register_hook(lambda g: g * 10)
    (x * 3).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [30.0, 30.0]
    handle.remove()
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_hook_of_an_inner_tensor_changes_what_flows_on() -> None:
    x = lg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [180.0, 360.0]


def test_a_leaf_whose_write_is_pending_keeps_its_hooks() -> None:
    x = lg.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g * 10)
    with lg.no_grad():
        x.assign_(x * 2)
    (x * 3).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [30.0, 30.0]


def test_a_captured_call_runs_the_hooks_of_its_parameters() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)

    @lg.compute_graph
    def loss(x: lg.Tensor) -> lg.Tensor:
        return (w * x).sum()

    for hooked in (False, True, True):
        if hooked and not w._hooks:
            w.register_hook(lambda g: g * 10)
        w.grad = None
        loss(lg.ones(2)).backward()
        assert w.grad is not None and w.grad.tolist() == [10.0 if hooked else 1.0] * 2
