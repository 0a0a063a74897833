"""The base class of everything that has parameters.

A module is a tree: parameters and buffers are its leaves, other modules its branches, all found by
assigning them as attributes. Registration happens in `__new__` and `__setattr__`, so a subclass
need not call `super().__init__()`; it defines `forward`, or `__call__` itself, as it likes. Every
assignment, mode switch and hook is counted in `config.epoch`: captured functions look there to
learn that something changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self

from lazygrad.config import config
from lazygrad.dtypes import DTypeLike, as_dtype, bfloat16, float16, float32, float64
from lazygrad.engine.capture import note_module
from lazygrad.engine.gradients import clear_gradients
from lazygrad.engine.modes import capturing
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    UnknownAttributeError,
    nearest,
)
from lazygrad.nn.backward_hooks import BackwardHooks
from lazygrad.nn.conversion import convert_leaf, target_dtype
from lazygrad.nn.hooks import Hook, HookRegistry, RemovableHandle, run_with_hooks
from lazygrad.nn.parameter import Parameter
from lazygrad.nn.state_dict import LoadReport, load_entries
from lazygrad.nn.tree import Tree

_MISSING = object()
_KINDS = ("_parameters", "_buffers", "_modules")
# The module whose own `__call__` is running: `super().__call__` inside of it is no second call.
_entered: ContextVar[Any] = ContextVar("_entered", default=None)


class Module(Tree):
    """Base class of models and layers.

    >>> import lazygrad as lg
    >>> class Net(lg.nn.Module):
    ...     def __init__(self):
    ...         self.fc = lg.nn.Linear(4, 2)
    ...
    ...     def forward(self, x):
    ...         return self.fc(x).relu()
    >>> net = Net()
    >>> [name for name, _ in net.named_parameters()]
    ['fc.weight', 'fc.bias']
    >>> net(lg.ones(3, 4)).shape
    (3, 2)
    >>> print(net)
    Net(
      (fc): Linear(in_features=4, out_features=2, bias=True)
    )
    """

    training: bool
    auto: bool | None = (
        None  # how functions with two gradients are differentiated; None: the better
    )
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: set[str]
    _conversions: int
    _forward_pre_hooks: HookRegistry
    _forward_hooks: HookRegistry
    _backward_pre_hooks: HookRegistry
    _backward_hooks: HookRegistry

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the registries, so that a subclass may forget `super().__init__()`."""
        self = super().__new__(cls)
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient=set(),
            _conversions=0,
            _forward_pre_hooks=HookRegistry(),
            _forward_hooks=HookRegistry(),
            _backward_pre_hooks=HookRegistry(),
            _backward_hooks=HookRegistry(),
        )
        return self

    def __init__(self) -> None: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a `__call__` that a subclass defines what the inherited one has."""
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("__call__")
        if own is not None:
            cls.__call__ = _with_hooks(own)  # type: ignore[method-assign]

    # --- calling -------------------------------------------------------------------------------

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines neither forward nor __call__")

    # An attribute rather than a method, so that under strict typing subclasses may take what they
    # like.
    forward: Callable[..., Any] = _forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` with the hooks around it."""
        if _entered.get() is self:
            return self.forward(*args, **kwargs)
        return self._enter(self.forward, args, kwargs)

    def _enter(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if capturing():
            note_module(self, moving=True)
        before, after = self._forward_pre_hooks, self._forward_hooks
        if not before and not after and not self._backward_hooks and not self._backward_pre_hooks:
            return call(*args, **kwargs)
        backward = None
        if self._backward_hooks or self._backward_pre_hooks:
            backward = BackwardHooks(
                self, [*self._backward_pre_hooks.values()], [*self._backward_hooks.values()]
            )
        return run_with_hooks(self, call, before, after, args, kwargs, backward)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before `forward`; what it returns replaces the arguments.

        With `with_kwargs` it is `hook(module, args, kwargs)` and returns None or both.
        """
        return self._forward_pre_hooks.add(Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`; what it returns replaces the output.

        With `with_kwargs` it is `hook(module, args, kwargs, output)`; with `always_call` it runs
        even when `forward` raises.
        """
        return self._forward_hooks.add(Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` in each backward pass, before it goes through `forward`.

        `grad_output` is a tuple with one gradient for each result (None for one that got none); a
        tuple that it returns replaces them.
        """
        return self._backward_pre_hooks.add(Hook(hook), prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` after the backward pass through `forward`.

        `grad_input` has one gradient for each positional argument, None for what is no tensor or
        if none requires grad; a tuple that it returns replaces them.

        >>> import lazygrad as lg
        >>> layer = lg.nn.Tanh()
        >>> handle = layer.register_full_backward_hook(lambda m, g_in, g_out: g_out)
        >>> x = lg.ones(2, requires_grad=True)
        >>> layer(x).sum().backward()
        >>> x.grad
        tensor([1., 1.])
        """
        return self._backward_hooks.add(Hook(hook), prepend)

    # --- registration --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._put("_modules", name, value)
        else:
            for kind in _KINDS:
                if name in self.__dict__[kind]:
                    if capturing():
                        note_module(self, moving=True)
                    self._replace(kind, name, value)
                    return
            before = self.__dict__.get(name, _MISSING)
            if before is value:
                return
            if before is not _MISSING and capturing():
                note_module(self, moving=True)
            object.__setattr__(self, name, value)
            config.bump()

    def _replace(self, kind: str, name: str, value: Any) -> None:
        """Assign to a registered name something that is neither a parameter nor a module."""
        if value is not None and not (kind == "_buffers" and isinstance(value, Tensor)):
            wanted = {"_parameters": "Parameter", "_buffers": "Tensor", "_modules": "Module"}[kind]
            raise ArgumentTypeError(
                f"{type(self).__name__}.{name} takes a {wanted} or None, "
                f"got {type(value).__name__}; delete the attribute first to give it another kind"
            )
        self.__dict__[kind][name] = value
        config.bump()

    def _put(self, kind: str, name: str, value: Any) -> None:
        """Register under one kind and forget the name under the others."""
        if not name or "." in name:
            raise ArgumentError(f"the name of an attribute of a module, got {name!r}")
        for other in _KINDS:
            if other != kind:
                self.__dict__[other].pop(name, None)
        self.__dict__.pop(name, None)
        self._transient.discard(name)
        self.__dict__[kind][name] = value
        config.bump()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter, as assigning it does; None reserves the name."""
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentTypeError(
                f"parameter {name!r} must be a Parameter or None, got {type(param).__name__}"
            )
        if param is not None and not param.is_leaf:
            raise ArgumentError(f"parameter {name!r} must be a leaf, not the result of operations")
        self._put("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that is state but no parameter; persistent ones are saved."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentTypeError(
                f"buffer {name!r} must be a Tensor or None, got {type(tensor).__name__}"
            )
        self._put("_buffers", name, tensor)
        if not persistent:
            self._transient.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Register a child module, as assigning it does; None reserves the name."""
        if module is not None and not isinstance(module, Module):
            raise ArgumentTypeError(
                f"module {name!r} must be a Module or None, got {type(module).__name__}"
            )
        self._put("_modules", name, module)

    add_module = register_module

    def __getattr__(self, name: str) -> Any:
        for kind in _KINDS:
            found = self.__dict__.get(kind, {}).get(name, _MISSING)
            if found is not _MISSING:
                if capturing():  # used without being called: `x @ model.w`
                    note_module(self, moving=True)
                return found
        hint = "" if name.startswith("__") else nearest(name, dir(self))
        raise UnknownAttributeError(f"{type(self).__name__!r} has no attribute {name!r}{hint}")

    def __delattr__(self, name: str) -> None:
        for kind in _KINDS:
            if name in self.__dict__[kind]:
                del self.__dict__[kind][name]
                self._transient.discard(name)
                config.bump()
                return
        super().__delattr__(name)
        config.bump()

    def __dir__(self) -> list[str]:
        registered = [name for kind in _KINDS for name in self.__dict__.get(kind, ())]
        return sorted({*super().__dir__(), *registered})

    # --- changing the whole tree ---------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on each module below, then on this one: `net.apply(init_weights)`."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode, here and below; captured functions keep a program for each mode."""
        if not isinstance(mode, bool):
            raise ArgumentTypeError(f"train(mode) takes a bool, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze or unfreeze every parameter; captured functions trace both variants."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        if set_to_none and not capturing():
            clear_gradients(self.parameters())
            return
        for param in self.parameters():
            param.grad = (
                None if set_to_none or param.grad is None else param.grad.new_zeros(param.shape)
            )

    def _convert(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """Put `fn` of each parameter and buffer in its place, keeping the tensors' identity."""
        for tensor in {id(t): t for t in (*self.parameters(), *self.buffers())}.values():
            convert_leaf(tensor, fn)
        for module in self.modules():  # a plain number, so captured functions see it change
            module.__dict__["_conversions"] += 1
        config.bump()
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert in place: `to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`.

        Only floating parameters and buffers take the dtype; it must be floating. Convert before
        making an optimizer, whose moments have the dtype of the parameters.
        """
        dtype = target_dtype(*args, **kwargs)
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise DTypeError(f"Module.to takes a floating dtype, got {dtype}")
        return self._convert(lambda t: t.to(dtype) if t.dtype.is_floating_point else t)

    def type(self, dst_type: DTypeLike) -> Self:
        """Cast all parameters and buffers to a dtype."""
        dtype = as_dtype(dst_type)
        return self._convert(lambda t: t.to(dtype))

    def float(self) -> Self:
        """Cast floating parameters and buffers to float32."""
        return self.to(float32)

    def double(self) -> Self:
        """Cast floating parameters and buffers to float64."""
        return self.to(float64)

    def half(self) -> Self:
        """Cast floating parameters and buffers to float16."""
        return self.to(float16)

    def bfloat16(self) -> Self:
        """Cast floating parameters and buffers to bfloat16."""
        return self.to(bfloat16)

    def cpu(self) -> Self:
        """Move to the CPU, where everything is."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move to a GPU; raises `DeviceError` where there is none."""
        return self.to("cuda" if device is None else device)

    # --- state dicts ---------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, as they are now.

        The tensors are copies, so later training does not change them: keeping the best state of a
        run is `best = model.state_dict()`.
        """
        targets = self._state_tensors()
        return {prefix + name: Tensor(tensor) for name, tensor in targets.items()}

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> LoadReport:
        """Copy values into parameters and buffers, in place; captured functions see them.

        Everything is checked first: on missing, unexpected or misshapen entries `StateDictError`
        lists all of them and nothing is loaded. With `strict=False` missing and unexpected ones
        are returned instead.
        """
        return load_entries(type(self).__name__, self._state_tensors(), state_dict, strict)

    def _state_tensors(self) -> dict[str, Tensor]:
        """What a state dict holds, by dotted name; a tensor used twice is there under both."""
        entries = self._entries("_parameters", "_buffers", every=True)
        return {e.name: getattr(e.module, e.key) for e in entries if e.persistent}

    # --- printing ------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` says about this module itself; subclasses define it."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr()
        extra = own.split("\n") if own else []
        children = [
            f"({name}): {repr(module).replace(chr(10), chr(10) + '  ')}"
            for name, module in self._modules.items()
        ]
        name = type(self).__name__
        if len(extra) == 1 and not children:
            return f"{name}({extra[0]})"
        lines = "".join(f"\n  {line}" for line in [*extra, *children])
        return f"{name}({lines}\n)" if lines else f"{name}()"


def _with_hooks(own: Callable[..., Any]) -> Callable[..., Any]:
    """A `__call__` defined by a subclass, with hooks and guards around it."""

    @functools.wraps(own)
    def __call__(self: Module, *args: Any, **kwargs: Any) -> Any:
        if _entered.get() is self:  # reached by super().__call__: part of the call in progress
            return own(self, *args, **kwargs)
        token = _entered.set(self)
        try:
            return self._enter(functools.partial(own, self), args, kwargs)
        finally:
            _entered.reset(token)

    return __call__
