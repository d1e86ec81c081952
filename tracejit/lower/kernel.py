"""Kernel: loop axes, affine accesses and a scalar body, generic in all sizes; built from a fusion group.

The text of a kernel is its identity: two groups with the same text share machine code.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Attrs, Node, Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import is_unit
from tracejit.ir.types import DType
from tracejit.ops.forms import FORMS
from tracejit.passes.groups import Group, is_scalar_constant, is_view, kind_of
from tracejit.passes.layout import Layout, Layouts, across, contiguous
from tracejit.passes.products import walk

Size = int | Dim
SCALAR, ROW, FULL = 0, 1, 2  # a statement runs once, once per row, or once per element
BLOCK = 2048  # elements of a task of a kernel with one axis
ROW_BUFFER = 1 << 18  # bytes of kept row values above which a kernel must recompute instead
KINDS = {
    "reduce_sum": "sum", "reduce_prod": "prod", "reduce_max": "max", "reduce_min": "min",
    "reduce_all": "and", "reduce_any": "or",
}  # fmt: skip
HEAVY = frozenset(
    """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh sigmoid
    softplus erf erfc pow random_bits""".split()
)
LONG = frozenset("floordiv floormod truncdiv truncmod erfinv".split())  # long code too, of which little runs as a rule


class Stride:
    """A stride along a loop axis: 0, 1, 2 between parts of complex numbers, or the number of the operand with it."""

    ZERO, UNIT, PAIR = -2, -1, -3


def _code(stride: int) -> str:
    return {Stride.ZERO: "0", Stride.UNIT: "1", Stride.PAIR: "2"}.get(stride, f"${stride}")


class Access:
    """An operand's elements as a function of the loop indices. `offset` is an operand too, or −2 for none.

    Where the operand is complex, strides and offset count its parts; `part` tells which one is meant, None both.
    """

    __slots__ = ("operand", "offset", "strides", "part")

    def __init__(self, operand: int, offset: int, strides: tuple[int, ...], part: int | None = None) -> None:
        self.operand, self.offset, self.strides, self.part = operand, offset, strides, part

    def __str__(self) -> str:
        s = ",".join(map(_code, self.strides))
        of = "" if self.part is None else ".imag" if self.part else ".real"
        return f"${self.operand}{of}{'' if self.offset == -2 else f'+${self.offset}'}[{s}]"


class Stmt:
    """One scalar value: `load`, `const`, `index`, `gather`, `op` or `reduce`.

    `phase` counts the row reductions before it. A `gather` loads from `access` plus its argument times a stride, the
    argument being brought into 0 … size − 1 first, negative ones from the end; `value` is (stride, size).
    """

    __slots__ = ("id", "kind", "op", "args", "attrs", "dtype", "access", "value", "level", "phase", "source")

    def __init__(self, id: int, kind: str, dtype: DType, **fields: Any) -> None:
        self.id, self.kind, self.dtype = id, kind, dtype
        self.op: Op | None = fields.get("op")
        self.args: tuple[int, ...] = fields.get("args", ())
        self.attrs: Attrs = fields.get("attrs", ())
        self.access: Access | None = fields.get("access")
        self.value: Any = fields.get("value")
        self.level: int = fields.get("level", SCALAR)
        self.phase: int = fields.get("phase", 0)
        self.source: Node | None = fields.get("source")

    def __str__(self) -> str:
        head = f"%{self.id}:{self.dtype.short} = "
        if self.kind == "const":
            return head + repr(self.value)
        if self.kind in ("load", "index", "acc"):
            name = f" {self.op.name}{''.join(f' {k}={v}' for k, v in self.attrs)}" if self.op else ""
            return head + f"{self.kind}{name} {self.access or ''}"
        if self.kind == "gather":
            step, size = self.value
            return head + f"gather {self.access} at %{self.args[0]} * {_code(step)} below ${size}"
        attrs = "".join(f" {k}={v}" for k, v in self.attrs if self.kind != "reduce")
        return head + f"{self.value or (self.op and self.op.name)}({', '.join(f'%{a}' for a in self.args)}){attrs}"


class Late:
    """A reduction whose result is known after the loop: one partial result per chunk of rows, combined afterwards.

    over   "rows" (the elements of rows too), "outer" (one value of each row), or "columns" (rows onto each other)
    """

    __slots__ = ("stmt", "kind", "over", "partial", "out")

    def __init__(self, stmt: int, kind: str, over: str, partial: int, out: Value) -> None:
        self.stmt, self.kind, self.over, self.partial, self.out = stmt, kind, over, partial, out


class Kernel:
    """A loop nest. Tasks are blocks (one axis), rows (no late reductions) or chunks of rows.

    axes      operand numbers of the loop sizes, outer axes first
    outer     how many of them are outer
    rows      of a product's epilogue: how many of the outer axes its rows run along, those of its batch come before
    stmts     the body, in order
    stores    (statement, access)
    lates     reductions over the rows of a chunk
    """

    def __init__(self) -> None:
        self.axes: list[int] = []
        self.outer = 0
        self.rows = 1
        self.stmts: list[Stmt] = []
        self.stores: list[tuple[int, Access]] = []
        self.lates: list[Late] = []
        self.operands = 0
        self.chunk = -2  # operand with the rows of a chunk
        self.stream = False  # write around the caches: results that are larger than them
        self.keep = True  # heavy values that a later phase needs again are kept in a row buffer

    @property
    def flat(self) -> bool:
        """One loop axis only: tasks are blocks of it."""
        return self.outer == 0 and len(self.axes) <= 1 and not any(s.kind == "reduce" for s in self.stmts)

    def text(self) -> str:
        """Everything that decides the machine code."""
        lines = [f"kernel axes {self.axes} outer {self.outer} chunk {self.chunk}"]
        lines[0] += "" if self.keep else " recompute"
        lines[0] += " stream" if self.stream else ""
        lines[0] += f" rows {self.rows}" if self.rows != 1 else ""
        names = ("scalar", "row", "full")
        lines += [f"  {s}  @{names[s.level]}{s.phase}" for s in self.stmts]
        lines += [f"  store %{i} -> {a}" for i, a in self.stores]
        lines += [
            f"  late {x.kind} %{x.stmt} over {x.over} -> ${x.partial}" for x in self.lates
        ]
        return "\n".join(lines)

    def streaming(self) -> Kernel:
        """The same kernel with stores that bypass the caches."""
        k = copy.copy(self)
        k.stream = True
        return k

    def weight(self, only: Container[int] | None = None) -> int:
        """Rough cost of one element, in cheap operations; of `only` these statements, if they are given."""
        return sum(
            (10 if s.op.name in HEAVY else 40 if s.op.name in FORMS else 1)
            if s.op is not None
            else (3 if s.kind == "gather" else 1)
            for s in self.stmts
            if s.level == FULL and s.kind != "const" and (only is None or s.id in only)
        )

    def crowded(self) -> bool:
        """Whether there are too many operations for each of the long ones to have code of its own."""
        names = [s.op.name for s in self.stmts if s.op is not None]
        return (
            len(names) > 64
            or sum(n in HEAVY or n in LONG for n in names) > 24
            or any(n in FORMS for n in names)
        )

    def phases(self) -> int:
        return max([s.phase for s in self.stmts], default=0)


class Instance:
    """A kernel with what its operands are in one program: buffers (Value) and sizes (int | Dim)."""

    __slots__ = ("kernel", "operands", "domain", "outputs", "reads", "nodes", "factors")

    def __init__(
        self, kernel: Kernel, operands: list[Any], domain: list[Size], outputs: list[Value], nodes: list[Node]
    ) -> None:
        self.kernel, self.operands, self.domain, self.outputs, self.nodes = kernel, operands, domain, outputs, nodes
        self.factors: list[list[Size]] = []  # of an epilogue: both factors' strides along the outer axes
        written = {*outputs, *[operands[a.operand] for _, a in kernel.stores]}
        self.reads = [v for v in operands if isinstance(v, Value) and v not in written]


class _Operands:
    """Numbers operands; equal ones share a number."""

    def __init__(self) -> None:
        self.list: list[Any] = []
        self.number: dict[Any, int] = {}

    def add(self, x: Any) -> int:
        key = ("value", x) if isinstance(x, Value) else ("size", x)
        if key not in self.number:
            self.number[key] = len(self.list)
            self.list.append(x)
        return self.number[key]

    def fresh(self, x: Any) -> int:
        self.list.append(x)
        return len(self.list) - 1


class _Raw:
    """An access before axes are merged: strides as sizes, one per loop axis."""

    __slots__ = ("owner", "base", "offset", "strides", "part")

    def __init__(
        self, owner: Any, base: Value | None, offset: Size, strides: list[Size], part: int | None = None
    ) -> None:
        self.owner, self.base, self.offset, self.strides, self.part = owner, base, offset, strides, part


class Lowering:
    """Builds the kernel of one group. `outputs` are the values that others read."""

    def __init__(self, group: Group, outputs: Sequence[Value], layouts: Layouts, keep: bool = True) -> None:
        self.g, self.layouts = group, layouts
        rows = list(group.rows or ())
        self.order = [i for i in range(len(group.domain)) if i not in rows] + sorted(rows)
        if group.anchor is not None:
            self.order = [t for t in group.tags[group.anchor.out] if t is not None]
        self.sizes: list[Size] = [group.domain[i] for i in self.order]
        self.n_rows = len(rows)
        self.kernel = Kernel()
        self.kernel.keep = keep
        self.stmts: list[Stmt] = []
        self.of_value: dict[Value, int] = {}
        self.loads: dict[Any, int] = {}
        self.raws: list[_Raw] = []
        self.factors: list[_Raw] = []
        self.outputs = list(outputs)
        self.members = set(group.nodes)

    # --- statements -----------------------------------------------------------------------------------------------
    def _stmt(self, kind: str, dtype: DType, **fields: Any) -> int:
        s = Stmt(len(self.stmts), kind, dtype, **fields)
        self.stmts.append(s)
        return s.id

    def operand(self, n: Node, i: int) -> int:
        """The statement that gives the i-th operand of a node."""
        u = n.inputs[i]
        base = u
        while base.node is not None and is_view(base.node):
            base = base.node.inputs[0]
        if is_scalar_constant(base):
            return self._constant(base, u)
        inside = self._inside(u)
        if inside is not None:
            return inside
        lay = self.layouts.of(u)
        assert lay is not None
        strides = self._along_loops(self.g.operand_tags(n, i), lay.strides)
        key = (lay.base, lay.offset, tuple(strides))
        if key not in self.loads:
            raw = _Raw(None, lay.base, lay.offset - (lay.part or 0), strides, lay.part)
            self.raws.append(raw)
            self.loads[key] = self._stmt("load", u.dtype, value=raw)
        return self.loads[key]

    def _along_loops(self, tags: Sequence[int | None], strides: Sequence[Size]) -> list[Size]:
        """Strides along a value's axes as strides along the loops."""
        out: list[Size] = [0] * len(self.order)
        for t, s in zip(tags, strides, strict=True):
            if t is not None:
                k = self.order.index(t)
                out[k] = out[k] + s
        return out

    def _gather(self, n: Node) -> int:
        """A load at a position that another statement computes."""
        x, axis = n.inputs[0], n.attr("axis")
        lay = self.layouts.of(x)
        assert lay is not None
        strides = self._along_loops(self.g.operand_tags(n, 0), lay.strides)
        raw = _Raw(None, lay.base, lay.offset - (lay.part or 0), strides, lay.part)
        self.raws.append(raw)
        value = (raw, lay.strides[axis], x.shape[axis])
        return self._stmt("gather", x.dtype, args=(self.operand(n, 1),), value=value, op=n.op, source=n)

    def _constant(self, v: Value, seen: Value) -> int:
        """A constant's element, or the part of it that is seen through views."""
        assert v.node is not None
        c, lay = v.node.attr("value"), self.layouts.of(seen) if v.dtype.kind == "c" else None
        part = None if lay is None else lay.part
        x = c.splat if part is None else c.splat.imag if part else c.splat.real
        key = ("const", seen.dtype, c.key, part)
        if key not in self.loads:
            self.loads[key] = self._stmt("const", seen.dtype, value=x.item())
        return self.loads[key]

    def _inside(self, u: Value) -> int | None:
        """The statement of a value computed in this group, seen through views that are tags."""
        v = u
        while v not in self.of_value:
            if v.node is None or v.node in self.members or not _is_tag(v.node):
                return None
            v = v.node.inputs[0]
        return self.of_value[v]

    def build(self) -> Instance:
        g = self.g
        lates: list[tuple[Node, int]] = []
        if g.anchor is not None:
            v = g.anchor.out
            self.of_value[v] = self._stmt("acc", v.dtype, level=FULL)
        for n in g.nodes:
            if n.op.family == "source":
                self.of_value[n.out] = self._source(n)
                continue
            if n.op.name == "gather":
                self.of_value[n.out] = self._gather(n)
                continue
            args = tuple([self.operand(n, i) for i in range(len(n.inputs))])
            if n.op.family == "reduce":
                if kind_of(g, n) == "row":
                    self.of_value[n.out] = self._stmt(
                        "reduce", n.out.dtype, op=n.op, args=args, value=KINDS[n.op.name], source=n
                    )
                else:
                    lates.append((n, args[0]))
            else:
                self.of_value[n.out] = self._stmt("op", n.out.dtype, op=n.op, args=args, attrs=n.attrs, source=n)
        stores = []
        for v in self.outputs:
            if v in self.of_value:
                raw = self._output(v)
                stores.append((self.of_value[v], raw))
        self._merge_axes()
        return self._finish(stores, lates)

    def _source(self, n: Node) -> int:
        """A value that follows from the position: its strides say how."""
        tags = self.g.tags[n.out]
        shape = n.out.shape
        if n.op.name == "iota":
            axis = n.attr("axis")
            own: list[Size] = [1 if i == axis else 0 for i in range(len(shape))]
        else:
            own = list(contiguous(shape))
        raw = _Raw(None, None, 0, self._along_loops(tags, own))
        self.raws.append(raw)
        return self._stmt("index", n.out.dtype, value=raw, op=n.op, attrs=n.attrs, source=n)

    def _output(self, v: Value) -> _Raw:
        at = self.layouts.place(v)
        steps = self._along_loops(self.g.tags[v], at.strides)
        raw = _Raw(v, at.base, at.offset, [s * 2 for s in steps] if v.dtype.kind == "c" else steps)
        self.raws.append(raw)
        return raw

    # --- axes -----------------------------------------------------------------------------------------------------
    def _merge_axes(self) -> None:
        """Make two neighbouring axes one where every access steps through them evenly."""
        if self.g.anchor is not None:
            self._merge_tiles(self.g.anchor)
            return
        outer = len(self.order) - self.n_rows if self.n_rows else len(self.order)
        i = len(self.sizes) - 2
        while i >= 0:
            split = self.n_rows and i == outer - 1
            if not split and self._merge(i) and i < outer:
                outer -= 1
            i -= 1
        if not self.n_rows:
            outer = max(len(self.sizes) - 1, 0)
        self.outer = outer

    def _merge(self, i: int) -> bool:
        """Make axis i and the next one into one, if every access steps through them evenly."""
        if not all(r.strides[i] == across(r.strides[i + 1], self.sizes[i + 1]) for r in self.raws):
            return False
        for r in self.raws:
            del r.strides[i]
        self.sizes[i : i + 2] = [self.sizes[i] * self.sizes[i + 1]]
        return True

    def _merge_tiles(self, product: Node) -> None:
        """The same for the axes of a product's batch, and of its rows where it is one product."""
        w = walk(product, self.layouts)
        assert w is not None
        self.factors = [_Raw(None, None, 0, [*w.left, w.rows[0], 0]), _Raw(None, None, 0, [*w.right, 0, 0])]
        self.raws += self.factors
        i = len(self.sizes) - (3 if w.one else 4)
        while i >= 0:
            self._merge(i)
            i -= 1
        self.outer = len(self.sizes) - 1
        self.kernel.rows = self.outer if w.one else 1

    def _finish(self, stores: list[tuple[int, _Raw]], lates: list[tuple[Node, int]]) -> Instance:
        k, ops = self.kernel, _Operands()
        k.outer = self.outer
        k.axes = [ops.add(s) for s in self.sizes]

        def code(s: Size, parts: bool = False) -> int:
            if parts and s == 2:
                return Stride.PAIR
            return Stride.ZERO if s == 0 else Stride.UNIT if s == 1 else ops.add(s)

        def access(r: _Raw) -> Access:
            o = -1 if r.base is None else ops.add(r.base)
            parts = r.base is not None and r.base.dtype.kind == "c"
            strides = tuple([code(s, parts) for s in r.strides])
            return Access(o, -2 if r.offset == 0 else ops.add(r.offset), strides, r.part)

        for s in self.stmts:
            if s.kind in ("load", "index"):
                s.access, s.value = access(s.value), None
                s.level = self._level(s.access.strides)
            elif s.kind == "gather":
                raw, step, size = s.value
                s.access, s.value = access(raw), (code(step), ops.add(size))
                index = self.stmts[s.args[0]]
                s.level, s.phase = max(self._level(s.access.strides), index.level), index.phase
            elif s.kind != "acc":
                s.level = max([self.stmts[a].level for a in s.args], default=SCALAR)
                s.phase = max([self.stmts[a].phase for a in s.args], default=0)
                if s.kind == "reduce":
                    s.level, s.phase = ROW, s.phase + 1
        k.stmts = self.stmts
        k.stores = [(i, access(r)) for i, r in stores]
        for n, arg in lates:
            tags = {t for j, t in enumerate(self.g.inner[n]) if j in n.attr("axis") and t is not None}
            rows = set(self.g.rows or ())
            within = any(t in rows for t in self.g.inner[n] if t is not None)
            over = "rows" if rows <= tags else "columns" if within else "outer"
            k.lates.append(Late(arg, KINDS[n.op.name], over, ops.fresh(("partial", n.out)), n.out))
        if k.lates:
            k.chunk = ops.fresh(("chunk", self))
        k.operands = len(ops.list)
        inst = Instance(k, ops.list, list(self.sizes), self.outputs, self.g.nodes)
        inst.factors = [r.strides[: self.outer] for r in self.factors]
        return inst

    def _level(self, strides: tuple[int, ...]) -> int:
        if any(s != Stride.ZERO for s in strides[self.outer :]):
            return FULL
        return ROW if any(s != Stride.ZERO for s in strides) else SCALAR


def copy_kernel(
    out: Value, sizes: Sequence[Size], to: tuple[Size, Sequence[Size]], source: Layout | None, dtype: DType,
    fill: Any = 0,
) -> Instance:  # fmt: skip
    """A kernel that writes evenly spaced elements of `out`: from evenly spaced elements of a buffer, or one value.

    `to` gives offset and strides in elements, one stride for each of `sizes`.
    """
    g = Group(0)
    kept = [i for i, d in enumerate(sizes) if not is_unit(d)]
    g.domain = [sizes[i] for i in kept]
    low = Lowering(g, [], Layouts())
    low.outputs = [out]
    store = _Raw(out, out, to[0], [to[1][i] for i in kept])
    low.raws.append(store)
    if source is None:
        sid = low._stmt("const", dtype, value=dtype.np.type(fill).item())
    else:
        strides = [source.strides[i] for i in kept]
        load = _Raw(None, source.base, source.offset - (source.part or 0), strides, source.part)
        low.raws.append(load)
        sid = low._stmt("load", dtype, value=load)
    low._merge_axes()
    return low._finish([(sid, store)], [])


def _is_tag(n: Node) -> bool:
    return n.op.name in ("transpose", "broadcast_to", "reshape", "identity", "stop_gradient")
