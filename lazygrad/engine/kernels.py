"""From the stages of a kernel to its IR: buffers, accesses, bodies.

Values that only one body reads are SSA; values that another stage reads go through scratch;
values that another kernel reads, or that have a home, go through a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from lazygrad.dtypes import DType
from lazygrad.engine.frozen import FNode
from lazygrad.engine.groups import CONTRACT, EXTERN, domain_of
from lazygrad.engine.layouts import Layouts, Parts, is_virtual, respread, spread
from lazygrad.engine.stages import Draft, Form
from lazygrad.ops.opdef import Kind, Strided, accumulator
from lazygrad.ops.scalar_math import Instr, Recorder, Ref
from lazygrad.ops.source import LITERAL
from lazygrad.runtime.kernel import (
    POSITIONS,
    Access,
    Body,
    Contract,
    Extern,
    Grid,
    Kernel,
    Map,
    Param,
    Reduce,
    Scratch,
    Stage,
    Store,
)
from lazygrad.shapes import Shape, contiguous_strides, numel


class _Builder:
    """Writes the kernel of one form."""

    def __init__(self, layouts: Layouts, form: Form, over: Mapping[int, int]) -> None:
        self.layouts, self.form = layouts, form
        self.nodes = layouts.frozen.nodes
        self.made = set(form.group.nodes)
        self.params: list[int] = []  # roots
        self.scratch: list[int] = []
        self.buffer: dict[int, int] = {}
        self.loaded: set[int] = set()
        self.stored: set[int] = set()
        self._buffers(over)

    def _buffers(self, over: Mapping[int, int]) -> None:
        """Number the parameters, then the scratch."""
        layouts = self.layouts
        read: dict[int, None] = {}
        between: dict[int, None] = {}
        for i in self.form.group.nodes:
            for j in self.nodes[i].inputs:
                root = layouts.root[j]
                if 0 in self.nodes[root].shape:
                    read[root] = None
                elif root not in self.made:
                    if not is_virtual(self.nodes[root]):
                        read[root] = None
                elif not self._same_stage(root, i):
                    between[root] = None
        self.params = list(read)
        out = [i for i in self.form.group.nodes if i in layouts.exported]
        for i in out:
            if i not in over:
                self.params.append(i)
        for k, root in enumerate(self.params):
            self.buffer[root] = k
        for new, old in over.items():
            self.buffer[new] = self.buffer[old]
        for root in between:
            if root not in self.buffer:
                self.buffer[root] = len(self.params) + len(self.scratch)
                self.scratch.append(root)

    def _same_stage(self, root: int, i: int) -> bool:
        form = self.form
        if root in form.inline:
            return True
        return form.stage.get(root, -1) == form.stage.get(i, -2) and root not in self._reducers()

    def _reducers(self) -> set[int]:
        return {d.reducer for d in self.form.drafts}

    # accesses

    def rowed(self, domain: Shape) -> Shape:
        """A domain with its rows merged into one leading axis."""
        return (self.form.rows, *domain[self.form.merged :])

    def strides(self, domain: Shape, strides: Sequence[int]) -> tuple[int, ...]:
        """The strides of an access over `rowed(domain)`."""
        merged = self.form.merged
        walked = [s for n, s in zip(domain[:merged], strides, strict=False) if n != 1]
        return (walked[-1] if walked else 0, *strides[merged:])

    def access(self, root: int, layout: Strided, domain: Shape) -> Access:
        """The access of an operand over a domain."""
        strides = self.strides(domain, spread(layout, domain))
        return Access(self.buffer[root], strides, layout.offset)

    def store(self, root: int, domain: Shape) -> Access:
        """The access that stores a value over its own domain."""
        self.stored.add(self.buffer[root])
        return Access(self.buffer[root], self.strides(domain, contiguous_strides(domain)))

    # bodies

    def body(
        self, members: list[int], domain: Shape, operand: int = -1, acc: int = -1
    ) -> tuple[Body, dict[int, int]]:
        """Record the nodes of one stage; returns the body and each node's value number.

        `operand` is an input to load beside (what a reduction without a body combines), `acc` the
        product whose accumulator is value 0.
        """
        order = [*self._inlined([*members, *([operand] if operand >= 0 else [])]), *members]
        inside = {*order, acc}
        loads: dict[Access, DType] = {}
        accesses: dict[tuple[int, Shape], Access] = {}  # by input and the shape of its reader
        flat = acc >= 0
        reads = [
            (j, self.nodes[i].shape if flat else domain)
            for i in order for j in self.nodes[i].inputs
        ]  # fmt: skip
        if operand >= 0:
            reads.append((operand, domain))
        for j, own in reads:
            root, layout = self.layouts.root[j], self.layouts.layout[j]
            if root in inside or is_virtual(self.nodes[root]) or (j, own) in accesses:
                continue
            access = (
                self._flat(root, layout, own, domain) if flat else self.access(root, layout, domain)
            )
            accesses[j, own] = access
            loads[access] = self.nodes[root].dtype
            self.loaded.add(access.buffer)
        first = [self._accumulator(acc)] if flat else []
        m = Recorder([*first, *loads.values()])
        numbers = {access: k + len(first) for k, access in enumerate(loads)}
        values: dict[int, Ref] = {}
        if flat:
            values[acc] = m.cast(m.inputs[0], self.nodes[acc].dtype)

        def value(j: int, own: Shape) -> Ref:
            root, layout = self.layouts.root[j], self.layouts.layout[j]
            if root in inside:
                return values[root]
            node = self.nodes[root]
            if node.op is LITERAL:
                return m.emit(Instr("const", (), node.dtype, node.attrs["value"]))
            if is_virtual(node):
                return self._position(m, node, layout, own, domain, flat)
            return m.inputs[numbers[accesses[j, own]]]

        for i in order:
            node = self.nodes[i]
            own = node.shape if flat else domain
            if node.op.kind is Kind.REDUCE:
                found = value(node.inputs[0], own)
            else:
                assert node.op.scalar is not None
                found = node.op.scalar(m, *[value(j, own) for j in node.inputs], **node.attrs)
            values[i] = m.cast(found, node.dtype)
        if operand >= 0:
            values[-1] = value(operand, domain)
        body = Body(tuple(loads), tuple(loads.values()), tuple(m.instrs))
        return body, {i: ref.index for i, ref in values.items()}

    def _inlined(self, readers: list[int]) -> list[int]:
        """The 0-d nodes that the bodies of these nodes compute themselves, in order."""
        if not self.form.inline:
            return []
        found: set[int] = set()
        stack = [self.layouts.root[j] for i in readers for j in (*self.nodes[i].inputs, i)]
        while stack:
            k = stack.pop()
            if k in self.form.inline and k not in found:
                found.add(k)
                stack.extend(self.layouts.root[j] for j in self.nodes[k].inputs)
        return sorted(found)

    def _accumulator(self, i: int) -> DType:
        """The dtype in which a product or a reduction adds up."""
        node = self.nodes[i]
        return accumulator(node.dtype) if node.op.accumulate_half else node.dtype

    def _flat(self, root: int, layout: Strided, own: Shape, domain: Shape) -> Access:
        """An access at the points of a product, of a reader that has them in the shape `own`."""
        strides = respread(layout, own, domain)
        assert strides is not None, "its reader is not behind the product"
        return Access(self.buffer[root], strides, layout.offset)

    def _position(
        self, m: Recorder, node: FNode, layout: Strided, own: Shape, domain: Shape, flat: bool
    ) -> Ref:
        """The positions that a (viewed) iota holds, from the positions in the domain."""
        spreads = respread(layout, own, domain) if flat else spread(layout, domain)
        assert spreads is not None, "its reader is not behind the product"
        strides = spreads if flat else self.strides(domain, spreads)
        extents = domain if flat else self.rowed(domain)
        total: Ref | None = None
        for axis, (n, s) in enumerate(zip(extents, strides, strict=True)):
            if n == 1 or s == 0:
                continue
            term = m.emit(Instr("index", (), node.dtype, axis))
            if s != 1:
                term = m.mul(term, m.const(s, term))
            total = term if total is None else m.add(total, term)
        offset = Instr("const", (), node.dtype, layout.offset)
        if total is None:
            return m.emit(offset)
        return m.add(total, m.emit(offset)) if layout.offset else total

    # stages

    def stages(self) -> Iterable[Stage]:
        """The stages in order."""
        group = self.form.group
        if group.form is EXTERN:
            yield self._extern(group.nodes[0])
            return
        for k, draft in enumerate(self.form.drafts):
            if k == 0 and group.form is CONTRACT:
                yield self._contract(group.nodes[0], draft)
            elif draft.reducer >= 0:
                yield self._reduce(draft)
            elif draft.nodes:
                yield self._map(draft)

    def _map(self, draft: Draft) -> Map:
        body, values = self.body(draft.nodes, draft.domain)
        stores = tuple(
            Store(self.store(i, draft.domain), values[i]) for i in draft.nodes if i in self.buffer
        )
        return Map(self.rowed(draft.domain), body, stores)

    def _reduce(self, draft: Draft) -> Reduce:
        node, domain = self.nodes[draft.reducer], draft.domain
        operand = node.inputs[0]
        body, values = self.body(draft.nodes, domain, operand)
        axes: tuple[int, ...] = node.attrs["axes"]
        kept = contiguous_strides(tuple(1 if a in axes else n for a, n in enumerate(domain)))
        over = tuple(0 if a in axes else s for a, s in enumerate(kept))
        self.stored.add(self.buffer[draft.reducer])
        combine = node.op.combine or ""
        source = self.nodes[operand].dtype
        shift = 1 - self.form.merged
        return Reduce(
            self.rowed(domain),
            tuple(a + shift for a in axes),
            combine,
            body,
            values[-1],
            source if combine in POSITIONS else self._accumulator(draft.reducer),
            Access(self.buffer[draft.reducer], self.strides(domain, over)),
        )

    def _contract(self, i: int, draft: Draft) -> Contract:
        node = self.nodes[i]
        *batch, m, n = node.shape
        left, right = node.inputs
        k = _inner(self.layouts, node)
        epilogue, values = self.body(draft.nodes, node.shape, acc=i)
        stores = tuple(
            Store(Access(self.buffer[j], contiguous_strides(node.shape)), values[j])
            for j in (i, *draft.nodes)
            if j in self.buffer
        )
        self.stored.update(store.access.buffer for store in stores)
        return Contract(
            tuple(batch), m, n, k,
            self._operand(left, (*batch, m, k)), self._operand(right, (*batch, k, n)),
            epilogue, stores, self._accumulator(i),
        )  # fmt: skip

    def _operand(self, j: int, domain: Shape) -> Body:
        root, layout = self.layouts.root[j], self.layouts.layout[j]
        parts = self.layouts.split.get(j)
        access = (
            self._flat(root, layout, domain, domain)
            if parts is None
            else self._split(root, layout, parts, domain)
        )
        self.loaded.add(access.buffer)
        return Body((access,), (self.nodes[root].dtype,))

    def _split(self, root: int, layout: Strided, parts: Parts, domain: Shape) -> Access:
        """An access in pieces, broadcast over the batch axes of the domain."""
        lead = len(domain) - len(parts)
        split: list[Shape] = [(n,) for n in domain[:lead]]
        strides = [0] * lead
        steps = iter(layout.strides)
        for n, part in zip(domain[lead:], parts, strict=True):
            own = list(islice(steps, len(part)))
            repeated = numel(part) != n
            split.append((n,) if repeated else part)
            strides += [0] if repeated else own
        return Access(self.buffer[root], tuple(strides), layout.offset, split=tuple(split))

    def _extern(self, i: int) -> Extern:
        node = self.nodes[i]
        inputs = []
        for j in node.inputs:
            layout = self.layouts.layout[j]
            access = Access(self.buffer[self.layouts.root[j]], layout.strides, layout.offset)
            self.loaded.add(access.buffer)
            inputs.append((access, self.nodes[j].shape, self.nodes[j].dtype))
        if i not in self.buffer:  # an effect: its result is its operand
            self.buffer[i] = len(self.params) + len(self.scratch)
            self.scratch.append(i)
        self.stored.add(self.buffer[i])
        output = Access(self.buffer[i], contiguous_strides(node.shape))
        return Extern(
            node.op, tuple(sorted(node.attrs.items())), tuple(inputs),
            (output, node.shape, node.dtype),
        )  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """The kernel."""
        stages = tuple(self.stages())
        form, nodes = self.form, self.nodes
        rows = form.rows
        flops = sum(_flops(self.layouts, nodes[i]) for i in form.group.nodes)
        return Kernel(
            name,
            tuple(
                Param(nodes[r].dtype, numel(nodes[r].shape), self._mode(k))
                for k, r in enumerate(self.params)
            ),
            tuple(Scratch(nodes[r].dtype, numel(nodes[r].shape) // rows) for r in self.scratch),
            Grid(rows, form.chunk),
            stages,
            nodes=tuple(form.group.nodes),
            reason=form.group.reason,
            flops=flops,
            nbytes=sum(nodes[r].nbytes for r in self.params),
        )

    def _mode(self, k: int) -> str:
        if k in self.stored:
            return "inout" if k in self.loaded else "out"
        return "in"


def _flops(layouts: Layouts, node: FNode) -> float:
    if node.op.work is not None:
        return node.op.work(*(layouts.frozen.nodes[i] for i in node.inputs), **node.attrs)
    if node.op.kind is Kind.CONTRACT:
        return node.op.flops * numel(node.shape) * _inner(layouts, node)
    return node.op.flops * numel(domain_of(layouts, node))


def _inner(layouts: Layouts, product: FNode) -> int:
    """The extent that a product sums over."""
    return layouts.frozen.nodes[product.inputs[0]].shape[-1]


def build_kernel(
    layouts: Layouts, form: Form, name: str, over: Mapping[int, int]
) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel of a form, and the root that each of its parameters is.

    `over` maps values to the values (read here for the last time) whose buffers they take.
    """
    builder = _Builder(layouts, form, over)
    return builder.kernel(name), tuple(builder.params)
