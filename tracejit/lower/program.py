"""Graph → program: units in order, buffers, and at each set of sizes a plan that native code carries out."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, OutOfRangeError, TracejitError
from tracejit.ir.dim import Dim, product, size_at
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.types import TensorType, as_dtype
from tracejit.lower import compiler, gemmplan
from tracejit.lower import matmul as mm
from tracejit.lower.gemm import OPERANDS
from tracejit.lower.kernel import BLOCK, ROW_BUFFER, Instance, Kernel, Lowering, Stride, copy_kernel, kept_values
from tracejit.lower.microkernel import tiles
from tracejit.passes.fuse import Fuser, Group, is_scalar_constant, is_view
from tracejit.passes.layout import Layouts, contiguous
from tracejit.runtime import threads
from tracejit.runtime.program import Plan
from tracejit.runtime.records import Argument, Capture, Copy, Host, Output, ParallelKernel, Returns, StepRecord
from tracejit.runtime.records import Kernel as KernelStep
from tracejit.tensor import Tensor
from tracejit.tracing import at_sizes

Size = int | Dim
PARALLEL_WORK = 40_000  # cheap element operations from which a second thread pays
CHUNK_WORK = 32_768  # elements of a chunk of a kernel with late reductions
CHUNKS = 64
GIL_WORK = 200_000
CACHE_BYTES = 24 << 20  # results above this are written around the caches


# --- where values lie -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scratch:
    """Memory that one unit needs for itself."""

    unit: int
    name: str


Place = Value | Scratch


class Unit:
    """One step of the program before sizes are known: what it reads and writes, and how it becomes steps."""

    def __init__(self, index: int, reads: Sequence[Value], writes: Sequence[Value]) -> None:
        self.index, self.reads, self.writes = index, list(reads), list(writes)

    def sources(self) -> list[compiler.Source]:
        return []

    def steps(self, b: Binding) -> list[StepRecord]:
        raise NotImplementedError

    def describe(self) -> str:
        return ""


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
        return [compiler.of_kernel(k)] + [compiler.of_combine(x.kind, k.stmts[x.stmt].dtype) for x in k.lates]

    def in_place(self, v: Value, written: Value) -> bool:
        """Whether the loop may write `written` over `v`: it reads v only where it writes, before it writes."""
        k, ops = self.instance.kernel, self.instance.operands
        if k.phases() or any(x.out is written for x in k.lates):
            return False
        store = next((a for i, a in k.stores if ops[a.operand] is written), None)
        return store is not None and all(
            (s.access.strides, s.access.offset) == (store.strides, store.offset)
            for s in k.stmts
            if s.access is not None and s.access.operand >= 0 and ops[s.access.operand] is v
        )

    def steps(self, b: Binding) -> list[StepRecord]:
        inst = self.instance
        k = inst.kernel
        if k.keep and kept_values(k):
            row = b.size(inst.domain[-1]) + 64
            if row * sum(max(s.dtype.size, 1) for s in kept_values(k)) > ROW_BUFFER:
                inst, k = self.plain(), self.plain().kernel
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
                if chunks == 1:
                    operands.append(b.slot(late.out))
                    continue
                part = b.scratch(self, f"partial {late.partial}", chunks * length * d.size)
                operands.append(part)
                code = b.code(compiler.of_combine(late.kind, d))
                args = [part, b.slot(late.out), b.slot(chunks), b.slot(length)]
                after.append(b.launch(code, args, -(-length // BLOCK), chunks * length, f"combine {late.kind}"))
            else:
                operands.append(b.slot(o))
        work = total * (k.weight() + 1)
        steps.append(b.launch(b.code(compiler.of_kernel(k)), operands, chunks, work, self.describe(), one=True))
        return steps + after

    def describe(self) -> str:
        return "+".join(n.op.name for n in self.group.nodes)


class ProductUnit(Unit):
    """A matrix product, with a fused loop over its tiles or a plain store."""

    def __init__(self, index: int, node: Node, group: Group | None, outputs: list[Value], layouts: Layouts) -> None:
        self.node, self.group = node, group
        a, c = node.inputs
        la, lb = layouts.of(a), layouts.of(c)
        assert la is not None and lb is not None
        self.dtype = a.dtype
        flags = dict(node.attrs)
        self.a, self.b = la, lb
        self.sa, self.sb = _batch(la.strides, a.shape, node.out.shape), _batch(lb.strides, c.shape, node.out.shape)
        ra, rb = la.strides[-2:], lb.strides[-2:]
        if flags.get("ta"):
            ra = ra[::-1]
        if flags.get("tb"):
            rb = rb[::-1]
        self.ra, self.rb = ra, rb
        self.m, self.n = node.out.shape[-2:]
        self.k = a.shape[-2] if flags.get("ta") else a.shape[-1]
        self.batch = product(node.out.shape[:-2])
        self.instance = Lowering(group, outputs, layouts).build() if group else None
        reads = [la.base, lb.base] + (self.instance.reads if self.instance else [])
        super().__init__(index, reads, outputs)

    @staticmethod
    def fits(n: Node, layouts: Layouts) -> bool:
        """Whether the product's batch axes can be walked with one stride per operand."""
        if n.op.name != "matmul" or n.inputs[0].dtype.kind != "f":
            return False
        for v in n.inputs:
            lay = layouts.of(v)
            if lay is None or _batch(lay.strides, v.shape, n.out.shape) is None:
                return False
        return True

    def sources(self) -> list[compiler.Source]:
        return [compiler.of_product(self.dtype, self.instance.kernel if self.instance else None)]

    def in_place(self, v: Value, written: Value) -> bool:
        if self.instance is None or v in (self.a.base, self.b.base):
            return False
        k, ops = self.instance.kernel, self.instance.operands
        store = next((a for i, a in k.stores if ops[a.operand] is written), None)
        return store is not None and all(
            (s.access.strides, s.access.offset) == (store.strides, store.offset)
            for s in k.stmts
            if s.access is not None and s.access.operand >= 0 and ops[s.access.operand] is v
        )

    def steps(self, b: Binding) -> list[StepRecord]:
        m, n, k, batch = b.size(self.m), b.size(self.n), b.size(self.k), b.size(self.batch)
        if m * n * batch == 0:
            return []
        left: tuple[Any, ...] = (self.a, self.sa, *self.ra)
        right: tuple[Any, ...] = (self.b, self.sb, *self.rb)
        if self.instance is None:
            if n == 1:  # a matrix times a vector is fastest as the vector times the matrix
                left, right = (*right[:2], right[3], right[2]), (*left[:2], left[3], left[2])
                m, n = 1, m
            elif b.size(right[1]) == 0 and b.size(left[1]) == m * b.size(left[2]):
                m, batch = m * batch, 1  # one right operand for the whole batch: its rows follow each other
        code = b.code(self.sources()[0])
        bytes_ = mm.scratch_bytes(self.dtype, m, n, k, batch)
        scratch = b.scratch(self, "product", bytes_) if bytes_ else b.slot(0)
        named = dict(  # noqa: C408 - braces and quotes would hide the table
            a=b.slot_at(left[0].base, left[0].offset), b=b.slot_at(right[0].base, right[0].offset),
            m=b.slot(m), n=b.slot(n), k=b.slot(k), batch=b.slot(batch),
            a_batch=b.slot(left[1]), a_m=b.slot(left[2]), a_k=b.slot(left[3]),
            b_batch=b.slot(right[1]), b_k=b.slot(right[2]), b_n=b.slot(right[3]), scratch=scratch,
        )  # fmt: skip
        operands = [named[o] for o in OPERANDS]
        if self.instance is not None:
            operands += [b.slot(o) for o in self.instance.operands]
        else:
            operands += [b.slot(self.writes[0]), b.slot(n), b.slot(m * n)]
        out: list[StepRecord] = []
        for step in compiler.PRODUCT_STEPS:
            t = tiles(self.dtype)
            tasks = gemmplan.tasks(t, step, m, n, k, batch)
            if tasks:
                grain = gemmplan.grain(t, step, m, n, k, batch)
                out.append(
                    b.launch_tasks(code.addresses[step], operands, tasks, grain, f"matmul.{step} {self.describe()}")
                )
        return out

    def describe(self) -> str:
        return "matmul" + ("+" + "+".join(n.op.name for n in self.group.nodes) if self.group else "")


def _batch(strides: tuple[Size, ...], shape: tuple[Size, ...], out: tuple[Size, ...]) -> Size | None:
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
    """concat, place and update: regions of a new buffer, written one after the other."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.node = node
        self.instances = list(self._regions(node, layouts))
        reads = [v for inst in self.instances for v in inst.reads]
        super().__init__(index, reads, [node.out])

    @staticmethod
    def fits(n: Node, layouts: Layouts) -> bool:
        return n.op.name in ("concat", "place", "update") and n.out.dtype.kind != "c" and all(
            layouts.of(v) is not None for v in n.inputs
        )

    @staticmethod
    def _regions(n: Node, layouts: Layouts) -> Iterator[Instance]:
        out, d = n.out, n.out.dtype
        own = contiguous(out.shape)

        def region(v: Value, start: Sequence[Size], step: Sequence[Size]) -> Instance:
            lay = layouts.of(v)
            assert lay is not None
            at: Size = 0
            for b, s in zip(start, own, strict=True):
                at = at + b * s
            strides = [s * k for s, k in zip(own, step, strict=True)]
            return copy_kernel(out, v.shape, (at, strides), (lay.base, lay.offset, lay.strides), d)

        ones = (1,) * len(out.shape)
        if n.op.name == "concat":
            at: Size = 0
            axis = n.attr("axis")
            for v in n.inputs:
                yield region(v, [at if i == axis else 0 for i in range(len(ones))], ones)
                at = at + v.shape[axis]
            return
        if n.op.name == "place":
            yield copy_kernel(out, out.shape, (0, own), None, d, dict(n.attrs).get("fill", 0))
        else:
            yield region(n.inputs[0], (0,) * len(ones), ones)
        yield region(n.inputs[-1], n.attr("start"), n.attr("step"))

    def sources(self) -> list[compiler.Source]:
        return [compiler.of_kernel(i.kernel) for i in self.instances]

    def steps(self, b: Binding) -> list[StepRecord]:
        return [s for i in self.instances for s in b.loop(i, self.describe())]

    def describe(self) -> str:
        return self.node.op.name


class HostUnit(Unit):
    """An op without a native form: its NumPy function runs with the GIL held."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        self.node = node
        self.inputs = [layouts.of(v) for v in node.inputs]
        reads = [x.base for x in self.inputs if x is not None and not is_scalar_constant(x.base)]
        super().__init__(index, reads, list(node.outs))

    def steps(self, b: Binding) -> list[StepRecord]:
        n = self.node
        ins: list[Callable[[int], np.ndarray]] = []
        for v, lay in zip(n.inputs, self.inputs, strict=True):
            assert lay is not None
            shape = tuple(b.size(d) for d in v.shape)
            if lay.base.node is not None and is_scalar_constant(lay.base):
                fixed = np.broadcast_to(np.asarray(lay.base.node.attr("value").splat, v.dtype.np), shape)
                ins.append(functools.partial(_fixed, fixed))
            else:
                strides = tuple(b.size(s) * v.dtype.size for s in lay.strides)
                ins.append(functools.partial(_seen, b.slot_at(lay.base, lay.offset), v.dtype.np, shape, strides))
        outs = [(b.slot(o), o.dtype.np, tuple(b.size(d) for d in o.shape)) for o in n.outs]
        attrs = at_sizes(n.attrs, b.sizes)  # type: ignore[arg-type]
        op = n.op

        def run(frame: int) -> None:
            arrays = [read(frame) for read in ins]
            try:
                with np.errstate(all="ignore"):
                    r = op.numpy(*arrays, **attrs)
            except Exception as e:
                raise _located(n, arrays, e) from None
            for (s, d, shape), x in zip(outs, r if type(r) is tuple else (r,), strict=True):
                _at(_word(frame, s), d, shape, None)[...] = x

        return [Host(run)]

    def describe(self) -> str:
        return f"host {self.node.op.name}"


def _located(node: Node, arrays: list[np.ndarray], error: Exception) -> TracejitError:
    """The error of an op's NumPy function, with the operands and the line that the op came from."""
    shown = ", ".join(str(TensorType(as_dtype(a.dtype), a.shape)) for a in arrays)
    kind = OutOfRangeError if isinstance(error, IndexError) else ArgumentError
    located = kind(f"{node.op.name}({shown}): {error}")
    located.where = [node.loc] if node.loc is not None else []
    return located


def _fixed(a: np.ndarray, frame: int) -> np.ndarray:
    return a


def _seen(slot: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...], frame: int) -> np.ndarray:
    """The operand in a frame's buffer."""
    return np.lib.stride_tricks.as_strided(_at(_word(frame, slot), dtype, shape, strides), shape, strides)


def _word(frame: int, slot: int) -> int:
    return ctypes.c_int64.from_address(frame + 8 * slot).value


def _at(address: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> np.ndarray:
    """The array at an address: as large as its last element needs."""
    if 0 in shape:
        return np.empty(shape, dtype)
    if strides is None:
        count = int(np.prod(shape, dtype=np.int64))
        whole: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        flat: np.ndarray[Any, Any] = np.frombuffer(whole, dtype)
        return flat.reshape(shape)
    low = sum(min(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True))
    high = sum(max(0, (d - 1) * s) for d, s in zip(shape, strides, strict=True)) + dtype.itemsize
    part: Any = (ctypes.c_char * (high - low)).from_address(address + low)
    return np.ndarray(shape, dtype, part, -low, strides)


# --- the program ------------------------------------------------------------------------------------------------------
@dataclass
class State:
    """A Variable's place in the graph: the parameter that reads it, and the result that it is set to, if any."""

    variable: Any
    read: Value
    write: Value | None


class Program:
    """A graph lowered once, for all sizes of its symbols.

    graph      prepared: every result is a value of its own, made by a node
    results    how many results are the caller's; the rest are new values of Variables
    """

    def __init__(self, graph: Graph, results: int, states: Sequence[State]) -> None:
        self.graph, self.states = graph, list(states)
        self.results = graph.results[:results]
        self.layouts = Layouts()
        self.units = self._units()
        self.aliased: dict[Value, Value] = {}  # new value of a Variable → the parameter whose buffer it is written to
        self.copied: list[tuple[Value, Value]] = []
        self._schedule()
        sources = [s for u in self.units for s in u.sources()]
        self.compiled = compiler.compile_all(sources)

    # --- units --------------------------------------------------------------------------------------------------------
    def _units(self) -> list[Unit]:
        fuser = Fuser(self.graph)
        units: list[Unit] = []
        for item in fuser.run():
            i = len(units)
            if isinstance(item, Node):
                if ProductUnit.fits(item, self.layouts):
                    units.append(ProductUnit(i, item, None, list(item.outs), self.layouts))
                elif CopyUnit.fits(item, self.layouts):
                    units.append(CopyUnit(i, item, self.layouts))
                else:
                    units.append(HostUnit(i, item, self.layouts))
                continue
            outputs = self._outputs(fuser, item)
            if item.anchor is not None:
                units.append(ProductUnit(i, item.anchor, item, outputs, self.layouts))
            else:
                units.append(LoopUnit(i, item, outputs, self.layouts))
        return units

    def _outputs(self, fuser: Fuser, g: Group) -> list[Value]:
        """Values of a group that others read."""
        out = []
        for n in g.nodes:
            if not g.bits >> fuser.index[n] & 1:
                continue
            v = n.out
            if fuser.is_result(v) or any(not self._inside(fuser, g, v, u, x) for u, x in fuser.uses(v)):
                out.append(v)
        return out

    @staticmethod
    def _inside(fuser: Fuser, g: Group, v: Value, u: Node, x: Value) -> bool:
        """Whether a use of `v` is served within the group by the value itself."""
        return fuser.member.get(u) == [g.id] and u is not g.anchor

    def _schedule(self) -> None:
        """Order the units; let Variables be written in place where their old value is no longer read."""
        needs: dict[int, set[int]] = {u.index: set() for u in self.units}
        maker = {v: u for u in self.units for v in u.writes}
        for u in self.units:
            needs[u.index] |= {maker[v].index for v in u.reads if v in maker and maker[v] is not u}
        for s in self.states:
            if s.write is None:
                continue
            u = maker[s.write]
            # what may raise comes first, so that a failed call leaves every Variable as it was
            others = [r for r in self.units if r is not u and (isinstance(r, HostUnit) or s.read in r.reads)]
            fits = isinstance(u, (LoopUnit, ProductUnit)) and (
                u.in_place(s.read, s.write) if s.read in u.reads else True
            )
            if fits and not any(self._before(needs, u.index, r.index) for r in others):
                needs[u.index] |= {r.index for r in others}
                self.aliased[s.write] = s.read
            else:
                self.copied.append((s.read, s.write))
        order: list[int] = []
        done: set[int] = set()
        todo = [u.index for u in self.units]
        while todo:
            i = next(i for i in todo if needs[i] <= done)
            todo.remove(i)
            done.add(i)
            order.append(i)
        by_index = {u.index: u for u in self.units}
        self.units = [by_index[i] for i in order]

    @staticmethod
    def _before(needs: dict[int, set[int]], first: int, then: int) -> bool:
        """Whether unit `then` needs unit `first`, directly or through others."""
        stack, seen = [then], set()
        while stack:
            i = stack.pop()
            if i == first:
                return True
            if i not in seen:
                seen.add(i)
                stack += needs[i]
        return False

    # --- what it says of itself ---------------------------------------------------------------------------------------
    def describe(self) -> str:
        lines = []
        for i, u in enumerate(self.units):
            lines.append(f"{i}: {u.describe()}")
        return "\n".join(lines)

    @property
    def kernels(self) -> int:
        return len(self.units)

    def bind(
        self,
        sizes: Mapping[str, int],
        arguments: Callable[[Binding], list[Argument]],
        constants: Mapping[Value, int],
        returns: Callable[[Binding], Returns],
        unshare: Callable[[Any], object] | None = None,
        keep: object = None,
    ) -> Plan:
        """The plan for these sizes. `constants` gives the addresses of parameters that are captured arrays."""
        return Binding(self, sizes).finish(arguments, constants, returns, unshare, keep)


class Binding:
    """A program at one set of sizes: slots of the frame, memory offsets, steps."""

    def __init__(self, program: Program, sizes: Mapping[str, int]) -> None:
        self.p, self.sizes = program, sizes
        self.frame: list[int] = []
        self.numbers: dict[int, int] = {}
        self.places: dict[Any, int] = {}
        self.offsets: list[tuple[int, Value, int]] = []
        self.life: dict[Any, list[int]] = {}
        self.bytes: dict[Any, int] = {}
        self.now = 0
        self.work = 0
        self.threads = threads.get_threads()
        self.used_pool = False

    # --- slots --------------------------------------------------------------------------------------------------------
    def size(self, d: Size) -> int:
        return size_at(d, self.sizes)

    def new_slot(self, value: int = 0) -> int:
        self.frame.append(value)
        return len(self.frame) - 1

    def slot(self, x: Any) -> int:
        """The slot of a size or of a value's buffer."""
        if isinstance(x, (int, Dim)):
            n = self.size(x)
            if n not in self.numbers:
                self.numbers[n] = self.new_slot(n)
            return self.numbers[n]
        v = self.p.aliased.get(x, x)
        if v not in self.places:
            self.places[v] = self.new_slot()
        self._touch(v)
        return self.places[v]

    def slot_at(self, base: Value, offset: Size) -> int:
        """The slot of a pointer into a buffer."""
        n = self.size(offset)
        if n == 0:
            return self.slot(base)
        v = self.p.aliased.get(base, base)
        self.slot(base)
        key = (v, n)
        if key not in self.places:
            self.places[key] = self.new_slot()
            self.offsets.append((self.places[key], v, n * base.dtype.size))
        return self.places[key]

    def scratch(self, unit: Unit, name: str, bytes_: int) -> int:
        key = Scratch(unit.index, name)
        if key not in self.places:
            self.places[key] = self.new_slot()
            self.bytes[key] = bytes_
        self._touch(key)
        return self.places[key]

    def _touch(self, key: Any) -> None:
        self.life.setdefault(key, []).append(self.now)

    # --- steps --------------------------------------------------------------------------------------------------------
    def code(self, s: compiler.Source) -> compiler.Code:
        known = self.p.compiled.code
        if s.text not in known:
            known.update(compiler.compile_all([s]).code)
        return known[s.text]

    def extent(self, inst: Instance) -> tuple[int, int]:
        """Rows and elements of a row."""
        sizes = [self.size(s) for s in inst.domain]
        k = inst.kernel
        return int(np.prod(sizes[: k.outer], dtype=np.int64)), int(np.prod(sizes[k.outer :], dtype=np.int64))

    def loop(self, inst: Instance, name: str) -> list[StepRecord]:
        """The step for a kernel without late reductions."""
        k = inst.kernel
        rows, inner = self.extent(inst)
        n = -(-inner // BLOCK) if k.flat and k.axes else rows
        operands = [self.slot(o) for o in inst.operands]
        work = rows * inner * (k.weight() + 1)
        if k.flat and k.axes and self._larger_than_caches(inst, inner):
            k = k.streaming()
        return [self.launch(self.code(compiler.of_kernel(k)), operands, n, work, name)] if n else []

    def _larger_than_caches(self, inst: Instance, n: int) -> bool:
        """Whether a loop's results go straight to the caller and are larger than the caches."""
        out = sum(v.dtype.size for v in inst.outputs) * n
        return out > CACHE_BYTES and all(
            v in self.p.results and v not in self.p.aliased for v in inst.outputs
        ) and all(a.offset < 0 for _, a in inst.kernel.stores)  # fmt: skip

    def launch(
        self, code: compiler.Code, operands: list[int], n: int, work: int, name: str, one: bool = False
    ) -> StepRecord:
        """Run `n` tasks, on several threads if the work is worth it."""
        self.work += work
        address = code.addresses[""]
        if self.threads > 1 and n > 1 and work >= PARALLEL_WORK:
            parts = min(self.threads * 4, max(self.threads, work // (PARALLEL_WORK // 2)))
            chunk = 1 if one else max(1, n // parts)
            self.used_pool = True
            return ParallelKernel(address, operands, n, chunk, name)
        return KernelStep(address, operands, n, name)

    def launch_tasks(self, address: int, operands: list[int], tasks: int, grain: int, name: str) -> StepRecord:
        self.work += 65536 * tasks // max(grain, 1)
        if self.threads > 1 and tasks > grain:
            self.used_pool = True
            return ParallelKernel(address, operands, tasks, max(1, min(grain, tasks // self.threads)), name)
        return KernelStep(address, operands, tasks, name)

    def finish(
        self,
        arguments: Callable[[Binding], list[Argument]],
        constants: Mapping[Value, int],
        returns: Callable[[Binding], Returns],
        unshare: Callable[[Any], object] | None,
        keep: object,
    ) -> Plan:
        p = self.p
        args = arguments(self)
        steps: list[StepRecord] = []
        for i, u in enumerate(p.units):
            self.now = i
            steps += u.steps(self)
        self.now = len(p.units)
        captures = []
        for s in p.states:
            shape = tuple(self.size(d) for d in s.read.shape)
            captures.append(Capture(self.slot(s.read), s.variable, s.read.dtype.np, shape, s.write is not None))
        for read, write in p.copied:
            nbytes = int(np.prod([self.size(d) for d in read.shape], dtype=np.int64)) * read.dtype.size
            steps.append(Copy(self.slot(read), self.slot(write), nbytes))
        outputs = [Output(self.slot(r), r.dtype.np, tuple(self.size(d) for d in r.shape)) for r in p.results]
        fixed = set(p.graph.params) | set(p.results) | set(p.aliased) | set(constants)
        for v, address in constants.items():
            if v in self.places:
                self.frame[self.places[v]] = address
        total, arena = self._arena(fixed)
        if self.offsets:
            steps = self._pointers() + steps
        return Plan(
            Tensor, args=args, captures=captures, frame=self.frame, arena_bytes=total, arena=arena, outputs=outputs,
            steps=steps, returns=returns(self), unshare=unshare, keep=(p, keep), release_gil=self.work >= GIL_WORK,
            parallel=threads.address() if self.used_pool else 0,
        )  # fmt: skip

    def _pointers(self) -> list[StepRecord]:
        """Pointers into buffers are worked out by a small native step, since buffers are known only at the call."""
        out: list[StepRecord] = []
        code = compiler.pointer_code()
        for slot, v, nbytes in self.offsets:
            source = self.places[v]
            out.append(KernelStep(code.addresses[""], [slot, source, self.slot(nbytes)], 1, "offset"))
        return out

    def _arena(self, fixed: set[Value]) -> tuple[int, list[tuple[int, int]]]:
        """Offsets for the buffers between units: the lowest place that is free during a buffer's life."""
        items = []
        for key, slot in self.places.items():
            if isinstance(key, tuple) or key in fixed:
                continue
            if isinstance(key, Value):
                size = int(np.prod([self.size(d) for d in key.shape], dtype=np.int64)) * key.dtype.size
            else:
                size = self.bytes[key]
            times = self.life[key]
            items.append((max(size, 1), min(times), max(times), slot))
        items.sort(key=lambda t: (-t[0], t[1]))
        placed: list[tuple[int, int, int, int]] = []
        out = []
        total = 0
        for size, first, last, slot in items:
            need = -(-size // 64) * 64
            if need >= 4096:
                need += 64 * (len(placed) % 8 + 1)  # so that large buffers do not start at equal offsets modulo 4 KiB
            at = 0
            for start, end, born, dead in sorted(placed):
                if born <= last and first <= dead:
                    if at + need <= start:
                        break
                    at = max(at, end)
            placed.append((at, at + need, first, last))
            out.append((slot, at))
            total = max(total, at + need)
        return total, out


__all__ = ["Binding", "Kernel", "Program", "State", "Stride", "is_view"]
