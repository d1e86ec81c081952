"""What a fusion group is: nodes, the axes of their common loop, and the axes that each value runs along.

Inside a group each value carries *tags*: for each of its axes the loop axis it runs along, or None where it has size 1.
Movement ops that only permute, insert or repeat axes are tags too and cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Node, Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import hint, is_unit
from tracejit.ir.types import DType, float32

Tags = tuple["int | None", ...]
VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "slice", "identity", "stop_gradient", "real", "imag"})
CHEAP = frozenset(
    """cast neg abs sign square relu less less_equal greater greater_equal equal not_equal logical_not logical_and
    logical_or bit_not identity floor ceil round trunc isnan isfinite isinf""".split()
)
UNLOWERED = frozenset({"c"})
EXACT = frozenset(
    """cast neg abs sign relu maximum minimum floor ceil round trunc copysign where clip identity stop_gradient copy
    reduce_max reduce_min""".split()
)
REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_all", "reduce_any"})


def rounds(op: Op, dtype: DType) -> bool:
    """Whether a result has to be rounded: 16-bit floats are computed as float32, and few ops stay within them."""
    return dtype.kind == "f" and dtype.bits == 16 and op.name not in EXACT


def accumulator(dtype: DType) -> DType:
    """How partial results of a reduction are kept: those of 16-bit floats as float32, in which they are computed."""
    return float32 if dtype.kind == "f" and dtype.bits == 16 else dtype


def fusible(n: Node) -> bool:
    """Whether a node can be part of a loop: an elementwise op with a scalar form, a gather, or a plain reduction."""
    if n.op.name == "complex":  # only stored: both parts next to each other
        return True
    if any(v.dtype.kind in UNLOWERED for v in (*n.inputs, *n.outs)):
        return False
    if n.op.family == "elementwise":
        return n.op.scalar is not None
    return n.op.name in REDUCTIONS or n.op.name == "gather" or is_index_source(n)


def at_will(n: Node, i: int) -> bool:
    """Whether a node reads its i-th operand at positions that are data, so that it must lie in memory."""
    return n.op.name == "gather" and i == 0


def is_index_source(n: Node) -> bool:
    """Sources whose elements follow from their position."""
    return n.op.family == "source" and (n.op.name == "iota" or (n.op.scalar is not None))


def is_view(n: Node) -> bool:
    return n.op.name in VIEWS


def joins(n: Node) -> bool:
    """Whether a node only puts its operands side by side in memory."""
    return n.op.name in ("concat", "place", "update") and n.out.dtype.kind != "c"


def is_scalar_constant(v: Value) -> bool:
    return v.node is not None and v.node.op.name == "constant" and v.node.attr("value").array is None


def strip_units(shape: Iterable[int | Dim]) -> list[int | Dim]:
    return [d for d in shape if not is_unit(d)]


def back_through(v: Value, tags: Tags) -> tuple[Value, Tags] | None:
    """The value behind a chain of tag-like views, with its own tags; None if a view is more than tags."""
    while v.node is not None and is_view(v.node):
        n = v.node
        x = n.inputs[0]
        name = n.op.name
        if name in ("identity", "stop_gradient"):
            pass
        elif name == "transpose":
            perm = n.attr("perm")
            new: list[int | None] = [None] * len(perm)
            for i, p in enumerate(perm):
                new[p] = tags[i]
            tags = tuple(new)
        elif name == "broadcast_to":
            lead = len(tags) - len(x.shape)
            tags = tuple(None if is_unit(d) else tags[lead + i] for i, d in enumerate(x.shape))
        elif name == "reshape":
            if strip_units(x.shape) != strip_units(v.shape):
                return None
            kept = [t for t, d in zip(tags, v.shape, strict=True) if not is_unit(d)]
            it = iter(kept)
            tags = tuple(None if is_unit(d) else next(it) for d in x.shape)
        else:
            return None
        v = x
    return v, tags


def along_rows(n: Node) -> bool:
    """Whether a reduction runs along the axis that is contiguous in memory."""
    shape = n.inputs[0].shape
    real = [i for i, d in enumerate(shape) if not is_unit(d)]
    return not real or real[-1] in n.attr("axis")


class Group:
    """Nodes that run in one kernel.

    domain   sizes of the loop axes
    rows     the axes that row reductions run along, or None while there are none
    tags     of each node's result
    inner    for a reduction, the tags of its operand
    anchor   the matmul whose tiles the loop follows, if any
    bits     its nodes, as a set; `near` what reads them, `far` all that depends on them
    """

    __slots__ = ("domain", "rows", "tags", "inner", "nodes", "anchor", "id", "bits", "near", "far")

    def __init__(self, id: int) -> None:
        self.id = id
        self.domain: list[int | Dim] = []
        self.rows: tuple[int, ...] | None = None
        self.tags: dict[Value, Tags] = {}
        self.inner: dict[Node, Tags] = {}
        self.nodes: list[Node] = []
        self.anchor: Node | None = None
        self.bits = self.near = self.far = 0

    def operand_tags(self, n: Node, i: int) -> Tags:
        """Tags of the i-th operand of a member."""
        if n in self.inner:
            return self.inner[n]
        out = self.tags[n.out]
        x = n.inputs[i]
        if n.op.name == "gather":
            axis, rank = n.attr("axis"), len(n.inputs[1].shape)
            out = out[axis : axis + rank] if i == 1 else (*out[:axis], None, *out[axis + rank :])
        lead = len(out) - len(x.shape)
        return tuple(None if is_unit(d) else out[lead + k] for k, d in enumerate(x.shape))

    def copy(self) -> Group:
        g = Group(self.id)
        g.domain, g.rows, g.tags = list(self.domain), self.rows, dict(self.tags)
        g.inner, g.nodes, g.anchor, g.bits = dict(self.inner), list(self.nodes), self.anchor, self.bits
        g.near, g.far = self.near, self.far
        return g

    def small(self) -> bool:
        """Whether the loop is short enough for one task."""
        n = 1
        for d in self.domain:
            n *= max(hint(d), 1)
        return n <= 4096

    def add_reduction(self, n: Node, tags: Tags) -> None:
        """Make a reduction a member; `tags`: those of its operand."""
        axis = n.attr("axis")
        self.inner[n] = tags
        self.tags[n.out] = tuple(t for i, t in enumerate(tags) if i not in axis)
        over = tuple(t for i, t in enumerate(tags) if i in axis and t is not None)
        if self.rows is None and over and len(over) < len(self.domain):
            last = len(self.domain) - 1
            self.rows = over if last in over else tuple(i for i in range(len(self.domain)) if i not in over)


def whole_tiles(n: Node) -> Group:
    """The group of a matmul whose tiles are stored as they are."""
    g = Group(0)
    g.anchor, g.domain = n, strip_units(n.out.shape)
    it = iter(range(len(g.domain)))
    g.tags[n.out] = tuple([None if is_unit(d) else next(it) for d in n.out.shape])
    return g


def kind_of(g: Group, n: Node) -> str | None:
    """How a reduction fits the group: "row" (its result is used in the row), "late" (known after the loop), or None."""
    s = {t for t in g.inner[n] if t is not None}
    axis = set(n.attr("axis"))
    over = {t for i, t in enumerate(g.inner[n]) if i in axis and t is not None}
    everything = set(range(len(g.domain)))
    rows = set(g.rows or ())
    outer = everything - rows
    if not over and everything:  # a sum of single elements is no loop
        return None
    if g.rows is not None and over == rows:
        return "row"
    if over == everything:
        return "late"
    if over == outer and g.rows is not None and s >= outer:
        left = [t for t in g.tags[n.out] if t is not None]
        return "late" if left == sorted(left) and set(left) in (set(), rows) else None
    return None
