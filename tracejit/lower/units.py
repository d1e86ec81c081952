"""The steps of a program before sizes are known: fused loops, matrix products, copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from tracejit.errors import OutOfRangeError
from tracejit.frames import raiser
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit, product
from tracejit.ir.types import DType
from tracejit.lower import compiler, gemmplan, nested
from tracejit.lower import matmul as mm
from tracejit.lower.binding import Binding
from tracejit.lower.gemm import OPERANDS
from tracejit.lower.keptrows import kept_values
from tracejit.lower.kernel import BLOCK, ROW_BUFFER, Instance, Lowering, copy_kernel
from tracejit.lower.microkernel import tiles
from tracejit.lower.patchrows import ELEMENTS, PLACES
from tracejit.lower.windows import column_operands, window_operands
from tracejit.passes.groups import Group, accumulator, is_scalar_constant, whole_tiles
from tracejit.passes.layout import Layout, Layouts
from tracejit.passes.patches import Patches
from tracejit.passes.placing import around, parts, region
from tracejit.passes.products import walk
from tracejit.runtime.records import Host, StepRecord

Size = int | Dim
CHUNK_WORK = 32_768  # elements of a chunk of a kernel with late reductions
CHUNKS = 64
LONG, LONG_LEAST, MANY = 4, 2048, 192  # how much longer than wide, how long, how many columns are copied before use


class Unit(ABC):
    """One step of the program before sizes are known: what it reads and writes, and how it becomes steps."""

    def __init__(self, index: int, reads: Sequence[Value], writes: Sequence[Value]) -> None:
        self.index, self.reads, self.writes = index, list(reads), list(writes)

    def sources(self) -> list[compiler.Source]:
        return []

    @abstractmethod
    def steps(self, b: Binding) -> list[StepRecord]:
        """What the plan does for this unit at one set of sizes."""

    def may_raise(self) -> bool:
        """Whether a step may end the call with an error."""
        return False

    def describe(self) -> str:
        return ""


def _in_step(inst: Instance, v: Value, written: Value) -> bool:
    """Whether a loop reads `v` only at the element of `written` that it writes."""
    k, ops = inst.kernel, inst.operands
    store = next((a for i, a in k.stores if ops[a.operand] is written), None)
    return store is not None and all(
        s.kind != "gather" and (s.access.strides, s.access.offset) == (store.strides, store.offset)
        for s in k.stmts
        if s.access is not None and s.access.operand >= 0 and ops[s.access.operand] is v
    )


def _impossible(b: Binding, inst: Instance) -> list[StepRecord]:
    """The error of a loop that picks elements of an empty axis; nothing if it is none."""
    rows, inner = b.extent(inst)
    empty = [s for s in inst.kernel.stmts if s.kind == "gather" and b.size(inst.operands[s.value[1]]) == 0]
    if not empty or not rows * inner:
        return []
    source = empty[0].source

    where = [source.loc] if source is not None and source.loc is not None else []

    def made(frame: int) -> OutOfRangeError:
        error = OutOfRangeError("gather from an axis of size 0")
        error.where = where
        return error

    return [Host(raiser(where, made))]


class LoopUnit(Unit):
    """A fused loop, with the second stage of its late reductions."""

    def __init__(self, index: int, group: Group, outputs: list[Value], layouts: Layouts) -> None:
        self.group, self.layouts, self.outputs = group, layouts, outputs
        self.instance = Lowering(group, outputs, layouts).build()
        super().__init__(index, self.instance.reads, outputs)
        self._plain: Instance | None = None

    def plain(self) -> Instance:
        """The same without row buffers, for rows that are too long for the stack."""
        if self._plain is None:
            self._plain = Lowering(self.group, self.outputs, self.layouts, keep=False).build()
        return self._plain

    def sources(self) -> list[compiler.Source]:
        k = self.instance.kernel
        return [compiler.of_kernel(k)] + [self._combine(x.kind, k.stmts[x.stmt].dtype) for x in k.lates]

    @staticmethod
    def _combine(kind: str, dtype: DType) -> compiler.Source:
        return compiler.of_combine(kind, dtype, accumulator(dtype))

    def in_place(self, v: Value, written: Value) -> bool:
        """Whether the loop may write `written` over `v`: it reads v only where it writes, before it writes."""
        k = self.instance.kernel
        return not k.phases() and all(x.out is not written for x in k.lates) and _in_step(self.instance, v, written)

    def steps(self, b: Binding) -> list[StepRecord]:
        inst = self.instance
        k = inst.kernel
        if k.keep and kept_values(k):
            row = b.size(inst.domain[-1]) + 64
            if row * sum(max(s.dtype.size, 1) for s in kept_values(k)) > ROW_BUFFER:
                inst, k = self.plain(), self.plain().kernel
        if impossible := _impossible(b, inst):
            return impossible
        if k.lates:
            rows, inner = b.extent(inst)
            return self._with_lates(b, inst, rows, inner)
        return b.loop(inst, self.describe())

    def _with_lates(self, b: Binding, inst: Instance, rows: int, inner: int) -> list[StepRecord]:
        k = inst.kernel
        along = inner if k.flat and k.axes else rows
        per = 1 if k.flat and k.axes else max(inner, 1)
        whole = k.outer == 0 and not k.flat
        total = along * per
        chunks = min(CHUNKS, max(1, total // CHUNK_WORK), max(along, 1))
        columns = [x for x in k.lates if x.over == "columns"]
        if columns:
            chunks = min(chunks, max(1, along // 16))
        if whole:
            chunks = 1
        chunk = -(-max(along, 1) // chunks)
        if k.flat and chunk > 1 and chunks > 1:
            chunk = -(-chunk // 1024) * 1024
        chunks = max(1, -(-along // chunk))
        steps: list[StepRecord] = []
        operands = []
        after: list[StepRecord] = []
        for o in inst.operands:
            if isinstance(o, tuple) and o[0] == "chunk":
                operands.append(b.slot(chunk))
            elif isinstance(o, tuple):
                late = next(x for x in k.lates if x.out is o[1])
                d = k.stmts[late.stmt].dtype
                length = inner if late.over == "columns" else 1
                kept = accumulator(d)
                if chunks == 1 and kept is d:
                    operands.append(b.slot(late.out))
                    continue
                part = b.scratch(self, f"partial {late.partial}", chunks * length * kept.size)
                operands.append(part)
                code = b.code(self._combine(late.kind, d))
                args = [part, b.slot(late.out), b.slot(chunks), b.slot(length)]
                after.append(b.launch(code, args, -(-length // BLOCK), chunks * length, f"combine {late.kind}"))
            else:
                operands.append(b.slot(o))
        work = total * (k.weight() + 1)
        steps.append(b.launch(b.code(compiler.of_kernel(k)), operands, chunks, work, self.describe(), one=True))
        return steps + after

    def describe(self) -> str:
        return "+".join(n.op.name for n in self.group.nodes)


class BasesUnit(Unit):
    """A node whose operands are whole buffers."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.node = node
        self.bases: list[Value] = []
        for v in node.inputs:
            lay = layouts.of(v)
            assert lay is not None
            self.bases.append(lay.base)
        super().__init__(index, self.bases, list(node.outs))


class NodeUnit(Unit):
    """An op by itself, with the places of its operands."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.node = node
        self.inputs = [layouts.of(v) for v in node.inputs]
        reads = [x.base for x in self.inputs if x is not None and not is_scalar_constant(x.base)]
        super().__init__(index, reads, list(node.outs))


class ProductUnit(Unit):
    """A matrix product, with a fused loop over its tiles or a plain store."""

    def __init__(
        self,
        index: int,
        node: Node,
        group: Group | None,
        outputs: list[Value],
        layouts: Layouts,
        patches: Patches | None = None,
    ) -> None:
        self.node, self.group, self.patches = node, group, patches
        a, c = node.inputs
        la, lb, w = layouts.of(a), layouts.of(c), walk(node, layouts)
        assert la is not None and lb is not None and w is not None
        self.dtype = a.dtype
        flags = dict(node.attrs)
        self.a, self.b, self.walk = la, lb, w
        self.levels = w.levels()
        self.sa, self.sb = self.levels[-1][1:] if self.levels else (0, 0)
        self.ra, self.rb = w.rows, w.columns
        self.m, self.n = node.out.shape[-2:]
        self.k = a.shape[-2] if flags.get("ta") else a.shape[-1]
        self.batch = product(node.out.shape[:-2])
        tiled = group or (whole_tiles(node) if node.out in layouts.places else None)
        self.instance = Lowering(tiled, outputs, layouts).build() if tiled else None
        self.places_first = not flags.get("ta")
        reads = [la.base, lb.base, *([patches.image.base] if patches else [])]
        super().__init__(index, reads + (self.instance.reads if self.instance else []), outputs)

    @staticmethod
    def fits(n: Node, layouts: Layouts) -> bool:
        """Whether the product's batch takes two loops at most."""
        if n.op.name != "matmul" or n.inputs[0].dtype.kind != "f":
            return False
        w = walk(n, layouts)
        return w is not None and len(w.levels()) <= 2

    def sources(self) -> list[compiler.Source]:
        kernel = self.instance.kernel if self.instance else None
        return [compiler.of_product(self.dtype, kernel, len(self.levels) > 1)]

    def in_place(self, v: Value, written: Value) -> bool:
        if self.instance is None or v in self.reads[: 2 + (self.patches is not None)]:
            return False
        return _in_step(self.instance, v, written)

    def steps(self, b: Binding) -> list[StepRecord]:
        m, n, k, batch = b.size(self.m), b.size(self.n), b.size(self.k), b.size(self.batch)
        if m * n * batch == 0:
            return []
        nests = len(self.levels) > 1
        if self.instance is not None and (impossible := _impossible(b, self.instance)):
            return impossible
        left: tuple[Any, ...] = (self.a, self.sa, *self.ra)
        right: tuple[Any, ...] = (self.b, self.sb, *self.rb)
        told = None if nests else self._told(b, m, n, k, batch)
        seen = 0 if told is None else PLACES if self.patches is not None and self.places_first else ELEMENTS
        if told is not None:
            left = (None, 0, 0, int(seen == PLACES))
        elif self.instance is None and not nests:
            if n == 1:  # a matrix times a vector is fastest as the vector times the matrix
                left, right = (*right[:2], right[3], right[2]), (*left[:2], left[3], left[2])
                m, n = 1, m
            elif b.size(right[1]) == 0 and b.size(left[1]) == m * b.size(left[2]):
                m, batch = m * batch, 1  # one right operand for the whole batch: its rows follow each other
        elif self.walk.one:
            m, batch = m * batch, 1
        t = tiles(self.dtype)
        if not seen and not nests and batch == b.size(right[3]) == 1 and b.lasts(right[0].base):
            seen = gemmplan.kept(t, m, n, k)
        if not seen and not nests and b.size(left[3]) == 1:
            seen = gemmplan.in_rows(t, m, n, k)
        code = b.code(self.sources()[0])
        bytes_ = mm.scratch_bytes(self.dtype, m, n, k, batch, seen=seen)
        scratch = b.scratch(self, "product", bytes_) if bytes_ else b.slot(0)
        named = dict(  # noqa: C408 - braces and quotes would hide the table
            a=b.slot_at(left[0].base, left[0].offset, self.dtype.size) if left[0] is not None else b.slot(0),
            b=b.slot_at(right[0].base, right[0].offset, self.dtype.size),
            m=b.slot(m), n=b.slot(n), k=b.slot(k), batch=b.slot(batch),
            a_batch=b.slot(left[1]), a_m=b.slot(left[2]), a_k=b.slot(left[3]),
            b_batch=b.slot(right[1]), b_k=b.slot(right[2]), b_n=b.slot(right[3]), scratch=scratch,
            seen=b.slot(seen), windows=b.slot(0),
        )  # fmt: skip
        operands = [named[o] for o in OPERANDS]
        tasks = {step: gemmplan.tasks(t, step, m, n, k, batch, seen) for step in compiler.PRODUCT_STEPS}
        if nests:
            a, c = zip(*[(b.size(s), b.size(u)) for _, s, u in self.levels], strict=True)
            count = b.size(self.levels[0][0])
            operands += [b.slot(x) for x in nested.numbers(t, (m, n, k, batch), count, a, c)]
        if self.instance is not None:
            operands += [b.slot(o) for o in self.instance.operands]
        else:
            operands += [b.slot(self.writes[0]), b.slot(n), b.slot(m * n)]
        operands[OPERANDS.index("windows")] = b.slot(len(operands))
        operands += told or ()
        out: list[StepRecord] = []
        for step, count in tasks.items():
            if count:
                grain, name = gemmplan.grain(t, step, m, n, k, batch, seen), f"matmul.{step} {self.describe()}"
                out.append(b.launch_tasks(code.addresses[step], operands, count, grain, name))
        return out

    def _told(self, b: Binding, m: int, n: int, k: int, batch: int) -> list[int] | None:
        """What native code is told of the windows whose patches are the left operand; None if that is a matrix."""
        if self.patches is not None:
            return window_operands(b, self.patches, self.dtype.size)
        if self.dtype.bits == 16 or batch > 1 or b.size(self.ra[0]) != 1:
            return None
        if m < MANY or k < max(LONG * max(m, n), LONG_LEAST):
            return None
        return column_operands(b, self.a, self.dtype.size, m, k, b.size(self.ra[1]))

    def describe(self) -> str:
        return "matmul" + ("+" + "+".join(n.op.name for n in self.group.nodes) if self.group else "")


def batch_stride(strides: tuple[Size, ...], shape: tuple[Size, ...], out: tuple[Size, ...]) -> Size | None:
    """One stride for all batch axes of a product's operand; None if they are not evenly spaced."""
    axes = list(zip(out[:-2], (0,) * (len(out) - len(shape)) + tuple(
        0 if type(d) is int and d == 1 else s for d, s in zip(shape[:-2], strides[:-2], strict=True)
    ), strict=True))  # fmt: skip
    axes = [(d, s) for d, s in axes if not (type(d) is int and d == 1)]
    if not axes:
        return 0
    for (_, s0), (d1, s1) in pairwise(axes):
        if s0 != s1 * d1:
            return None
    return axes[-1][1]


class CopyUnit(Unit):
    """concat, place and update: regions of a buffer, written one after the other, except what is computed there.

    kept    copies of a buffer's elements to the same places of another one: instance → source and destination
    filled  what writes the same in each step of a loop: instance → destination
    """

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.node, self.layouts = node, layouts
        self.whole = layouts.place(node.out)
        self.kept: dict[Instance, tuple[Value, Value]] = {}
        self.filled: dict[Instance, Value] = {}
        self.instances = list(self._regions())
        self.needed = True
        reads = [v for inst in self.instances for v in inst.reads]
        for v in node.inputs:
            if (node, v) in layouts.placed:
                lay = layouts.of(v)
                assert lay is not None
                reads.append(lay.base)
        super().__init__(index, reads, [node.out])

    def _regions(self) -> Iterator[Instance]:
        n, name = self.node, self.node.op.name
        ones = (1,) * len(n.out.shape)
        if name != "concat":
            ((v, start, _),) = parts(n)
            within: list[tuple[tuple[Size, ...], tuple[Size, ...]]] = [((0,) * len(ones), n.out.shape)]
            if (n, v) in self.layouts.placed:
                within = list(around(n.out.shape, start, v.shape))
            below = self.layouts.of(n.inputs[0]) if name == "update" else None
            for first, size in within:
                yield self._copied(below and region(below, first, ones), size, region(self.whole, first, ones))
        for v, start, step in parts(n):
            if (n, v) not in self.layouts.placed:
                yield self._copied(self.layouts.of(v), v.shape, region(self.whole, start, step))

    def _copied(self, lay: Layout | None, size: Sequence[Size], to: Layout) -> Instance:
        """A copy of what lies at `lay`, or if there is none, of what a `place` is filled with."""
        fill = dict(self.node.attrs).get("fill", 0)
        inst = copy_kernel(to.base, size, (to.offset, to.strides), lay, self.node.out.dtype, fill)
        if lay is None:
            self.filled[inst] = to.base
            return inst
        real = [i for i, d in enumerate(size) if not is_unit(d)]
        if lay.offset == to.offset and all(lay.strides[i] == to.strides[i] for i in real) and lay.part is None:
            self.kept[inst] = lay.base, to.base
        return inst

    def sources(self) -> list[compiler.Source]:
        return [compiler.of_kernel(i.kernel) for i in self.instances if self.needed]

    def steps(self, b: Binding) -> list[StepRecord]:
        if not self.needed:
            return []
        return [s for i in self.instances if i not in b.done for s in b.loop(i, self.describe())]

    def describe(self) -> str:
        return self.node.op.name
