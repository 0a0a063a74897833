"""How a kernel runs: its grid of rows, and its nodes sorted into stages.

Elementwise nodes of one domain share a stage where their order allows it; each reduction ends a
stage of its own, and an elementwise chain that only it reads becomes its body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from lazygrad.engine.frozen import FNode
from lazygrad.engine.groups import CACHE, CONTRACT, EXTERN, ROWS, Group, domain_of
from lazygrad.engine.layouts import Layouts, contiguous, spread
from lazygrad.ops.opdef import Kind
from lazygrad.shapes import Shape, numel


@dataclass(slots=True, eq=False)
class Draft:
    """A stage before buffers are known: nodes of one domain, and the reduction that ends it."""

    domain: Shape
    nodes: list[int]
    reducer: int = -1


@dataclass(slots=True)
class Form:
    """How a group runs: its grid (over the first `merged` axes) and its stages."""

    group: Group
    merged: int
    rows: int
    chunk: int
    drafts: list[Draft] = field(default_factory=list)
    stage: dict[int, int] = field(default_factory=dict)  # node -> the draft that computes it
    inline: set[int] = field(default_factory=set)  # 0-d nodes computed inside each body


def reduces(node: FNode) -> bool:
    """Whether it combines elements (over no axes at all it only converts)."""
    return node.op.kind is Kind.REDUCE and bool(node.attrs["axes"])


def form_stages(layouts: Layouts, group: Group) -> Form:
    """Cut a group into stages."""
    merged, rows = _grid(layouts, group)
    chunk = rows
    if group.nbytes > CACHE:
        chunk = min(rows, max(1, CACHE * rows // group.nbytes))
    form = Form(group, merged, rows, chunk)
    if group.form is not EXTERN:
        _draft(layouts, form)
    return form


def _grid(layouts: Layouts, group: Group) -> tuple[int, int]:
    """Over how many leading axes rows are counted, and how many rows that makes."""
    if group.form is not ROWS or prod(group.prefix) <= 1:
        return 0, 1
    nodes, merged = layouts.frozen.nodes, len(group.prefix)
    made = set(group.nodes)
    for i in group.nodes:
        domain = domain_of(layouts, nodes[i])
        if domain[: len(group.prefix)] != group.prefix:
            continue  # computed inside each body
        for j in nodes[i].inputs:
            if layouts.root[j] not in made:
                merged = _mergeable(domain, spread(layouts.layout[j], domain), merged)
    return merged, prod(group.prefix[:merged])


def _mergeable(domain: Shape, strides: Sequence[int], limit: int) -> int:
    """How many leading axes (at least one) an access can walk as a single one."""
    length, step, last = 1, strides[0], domain[0]
    while length < limit:
        n, s = domain[length], strides[length]
        if n != 1:
            if last != 1 and step != n * s:
                return length
            step, last = s, n
        length += 1
    return length


def _draft(layouts: Layouts, form: Form) -> None:
    """Sort the nodes of a group into stages, in order."""
    nodes, group = layouts.frozen.nodes, form.group
    made = set(group.nodes)
    places: dict[Shape, list[int]] = {}  # domain -> its Map stages, ascending
    for i in group.nodes:
        node = nodes[i]
        domain = domain_of(layouts, node)
        if form.rows > 1 and domain[: len(group.prefix)] != group.prefix:
            form.inline.add(i)
            continue
        if node.op.kind is Kind.CONTRACT:
            form.drafts.append(Draft(domain, []))
            form.stage[i] = 0
            continue
        if group.form is CONTRACT:  # its epilogue
            form.drafts[0].nodes.append(i)
            form.stage[i] = 0
            continue
        earliest = 0
        for j in node.inputs:
            root = layouts.root[j]
            if root in made and root not in form.inline:
                at = form.stage[root]
                direct = _is_plain(layouts, j, root, domain) and not reduces(nodes[root])
                earliest = max(earliest, at if direct else at + 1)
        if reduces(node):
            form.stage[i] = len(form.drafts)
            form.drafts.append(Draft(domain, [], i))
            continue
        at = next((p for p in places.get(domain, ()) if p >= earliest), -1)
        if at < 0:
            at = len(form.drafts)
            form.drafts.append(Draft(domain, []))
            places.setdefault(domain, []).append(at)
        form.drafts[at].nodes.append(i)
        form.stage[i] = at
    readers: dict[int, list[int]] = {}
    for i in group.nodes:
        for j in nodes[i].inputs:
            readers.setdefault(layouts.root[j], []).append(i)
    _sink(layouts, form, readers)
    _absorb(layouts, form, readers)


def _is_plain(layouts: Layouts, j: int, root: int, domain: Shape) -> bool:
    """Whether input j reads, at each point of the domain, what its root computed at that point."""
    return layouts.frozen.nodes[root].shape == domain and layouts.layout[j] == contiguous(domain)


def _sink(layouts: Layouts, form: Form, readers: Mapping[int, list[int]]) -> None:
    """Compute what is made of outside values alone where it is first read, not before."""
    nodes, made = layouts.frozen.nodes, set(form.group.nodes)
    free: set[int] = set()
    for i in form.group.nodes:
        inside = [r for j in nodes[i].inputs if (r := layouts.root[j]) in made]
        if i in form.stage and form.drafts[form.stage[i]].reducer != i and free.issuperset(inside):
            free.add(i)
    order = {i: k for k, i in enumerate(form.group.nodes)}
    for i in reversed(form.group.nodes):
        if i not in free or i in layouts.exported or nodes[i].op.kind is Kind.CONTRACT:
            continue
        first = min((form.stage.get(r, -1) for r in readers.get(i, ())), default=-1)
        target = form.drafts[first]
        if first <= form.stage[i] or target.domain != nodes[i].shape or target.reducer >= 0:
            continue
        reads = [j for r in readers[i] if form.stage[r] == first for j in nodes[r].inputs]
        if not all(layouts.root[j] != i or _is_plain(layouts, j, i, target.domain) for j in reads):
            continue
        form.drafts[form.stage[i]].nodes.remove(i)
        target.nodes.append(i)
        target.nodes.sort(key=order.__getitem__)
        form.stage[i] = first


def _absorb(layouts: Layouts, form: Form, readers: Mapping[int, list[int]]) -> None:
    """Move a map that only one reduction reads into the body of that reduction."""
    nodes = layouts.frozen.nodes
    for draft in form.drafts:
        if draft.reducer < 0:
            continue
        j = nodes[draft.reducer].inputs[0]
        root = layouts.root[j]
        at = form.stage.get(root, -1)
        if at < 0 or form.drafts[at].reducer >= 0 or nodes[root].op.kind is Kind.CONTRACT:
            continue
        body = form.drafts[at].nodes
        private = all(
            i not in layouts.homes
            and i not in layouts.exported
            and all(k == draft.reducer or form.stage.get(k) == at for k in readers.get(i, ()))
            for i in body
        )
        if private and _is_plain(layouts, j, root, draft.domain):
            draft.nodes, form.drafts[at].nodes = body, []
            for i in body:
                form.stage[i] = form.stage[draft.reducer]


def can_overwrite(layouts: Layouts, form: Form, old: int, new: int) -> bool:
    """Whether `new` can be stored over `old`, a value that the kernel reads.

    It can if every read happens at the point of the store, in the same stage or before.
    """
    nodes = layouts.frozen.nodes
    a, b = nodes[old], nodes[new]
    if a.dtype is not b.dtype or numel(a.shape) != numel(b.shape):
        return False
    if form.group.form is EXTERN:
        return _edits(layouts, old, new)
    last = form.stage.get(new, -1)
    if last >= 0 and form.drafts[last].reducer == new:
        last -= 1  # a reduction stores one point after it has read many
    for draft in form.drafts:
        for i in (*draft.nodes, draft.reducer):
            if i >= 0 and not _reads_at_point(layouts, form, i, old, b.shape, last):
                return False
    product = nodes[form.group.nodes[0]]
    return new in form.stage and not (
        product.op.kind is Kind.CONTRACT and any(layouts.root[j] == old for j in product.inputs)
    )


def _edits(layouts: Layouts, old: int, new: int) -> bool:
    """Whether an op without stages changes some elements of all of `old`, and reads no others."""
    node = layouts.frozen.nodes[new]
    if not node.op.edits or old in [layouts.root[j] for j in node.inputs[1:]]:
        return False
    first = node.inputs[0]
    return layouts.root[first] == old and layouts.layout[first] == contiguous(node.shape)


def _reads_at_point(
    layouts: Layouts, form: Form, i: int, old: int, shape: Shape, last: int
) -> bool:
    node = layouts.frozen.nodes[i]
    for j in node.inputs:
        if layouts.root[j] == old and (
            form.stage.get(i, last + 1) > last
            or domain_of(layouts, node) != shape
            or layouts.layout[j] != contiguous(shape)
        ):
            return False
    return True
