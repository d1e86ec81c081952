"""A program at one set of sizes: slots of the frame, places of buffers in the arena, and the steps of a plan."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.sizes import size_at
from tracejit.lower import compiler
from tracejit.lower.exhausted import LARGEST, exhausted, largest
from tracejit.lower.kernel import BLOCK, Instance
from tracejit.runtime import threads
from tracejit.runtime.program import Plan
from tracejit.runtime.records import (
    Argument,
    Capture,
    Copy,
    Host,
    Output,
    ParallelKernel,
    Returns,
    ScalarArg,
    StepRecord,
    moved,
)
from tracejit.runtime.records import Kernel as KernelStep
from tracejit.tensor import Tensor

if TYPE_CHECKING:
    from tracejit.lower.block import Block
    from tracejit.lower.program import Program
    from tracejit.lower.units import Unit

Size = int | Dim
PARALLEL_WORK = 40_000  # cheap element operations from which a second thread pays
GIL_WORK = 200_000
SIGNAL_WORK = 20_000_000  # after so many signals are seen to
CACHE_BYTES = 24 << 20  # results above this are written around the caches


def see_signals(frame: int) -> None:
    """Run Python's handlers for the signals that have come; an error of theirs ends the call."""
    ctypes.pythonapi.PyErr_CheckSignals()


@dataclass(frozen=True)
class Scratch:
    """Memory that one unit needs for itself."""

    unit: Unit
    name: str


class Held:
    """A slot for a reference that is dropped at the end of the call; its number is known when all others are."""

    slot = -1


class Loop:
    """A loop whose steps are being made: buffers whose addresses change in it, pointers into these, and the buffers
    that it writes."""

    def __init__(self, moving: set[Any], written: set[Value]) -> None:
        self.moving, self.written = moving, written
        self.offsets: list[tuple[int, Value, int]] = []


class Binding:
    """A program at one set of sizes: slots of the frame, memory offsets, steps."""

    def __init__(self, program: Program, sizes: Mapping[str, int]) -> None:
        self.p, self.sizes = program, sizes
        self.frame: list[int] = []
        self.numbers: dict[int, int] = {}
        self.places: dict[Any, int] = {}
        self.offsets: list[tuple[int, Value, int]] = []
        self.alias: dict[Value, Value] = dict(program.aliased)
        self.loops: list[Loop] = []
        self.moving: set[Any] = set()  # places outside the arena
        self.dynamic: dict[str, int] = {}  # sizes that the program finds out: the slots that hold them
        self.held: list[Held] = []
        self.kept: dict[Value, Held] = {}  # of values whose size the program finds out
        self.done: set[Instance] = set()  # copies that are made before the loop they are in
        self.life: dict[Any, list[int]] = {}
        self.bytes: dict[Any, int] = {}
        self.now = 0
        self.work = 0
        self.threads = threads.get_threads()
        self.used_pool = False
        self.tables: list[np.ndarray] = []  # memory outside the arena that slots point to

    # --- slots --------------------------------------------------------------------------------------------------------
    def size(self, d: Size) -> int:
        return size_at(d, self.sizes)

    def new_slot(self, value: int = 0) -> int:
        self.frame.append(value)
        return len(self.frame) - 1

    def slot(self, x: Any) -> int:
        """The slot of a size or of a value's buffer."""
        if isinstance(x, (int, Dim)):
            if isinstance(x, Dim) and str(x) in self.dynamic:
                return self.dynamic[str(x)]
            n = self.size(x)
            if n not in self.numbers:
                self.numbers[n] = self.new_slot(n)
            return self.numbers[n]
        v = self.place_of(x)
        if v not in self.places:
            self.places[v] = self.new_slot()
        self._touch(v)
        return self.places[v]

    def place_of(self, v: Value) -> Value:
        """The value in whose buffer `v` lies."""
        while v in self.alias:
            v = self.alias[v]
        return v

    def lasts(self, v: Value) -> bool:
        """Whether there is a loop around, in whose steps the buffer of `v` stays as it is."""
        place = self.place_of(v)
        return bool(self.loops) and place not in self.loops[-1].moving and place not in self.loops[-1].written

    def slot_at(self, base: Value, offset: Size, size: int) -> int:
        """The slot of a pointer into a buffer, behind `offset` elements of `size` bytes."""
        n = self.size(offset) * size if offset != 0 else 0
        if n == 0:
            return self.slot(base)
        v = self.place_of(base)
        self.slot(base)
        inside = next((x for x in reversed(self.loops) if v in x.moving), None)
        key = (v, n) if inside is None else (v, n, id(inside))
        if key not in self.places:
            self.places[key] = self.new_slot()
            pointers = self.offsets if inside is None else inside.offsets
            pointers.append((self.places[key], v, n))
        return self.places[key]

    def table(self, a: np.ndarray) -> int:
        """The slot of a pointer to an array that lives as long as the plan."""
        self.tables.append(a)
        return self.slot(a.ctypes.data)

    def scratch(self, unit: Unit, name: str, bytes_: int) -> int:
        key = Scratch(unit, name)
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
            each = work // (PARALLEL_WORK // 2) // self.threads
            parts = self.threads * (4 if each >= 4 else 2 if each >= 2 else 1)
            chunk = 1 if one else -(-n // parts)  # so threads have the same rows in all kernels of as many
            self.used_pool = True
            return ParallelKernel(address, operands, n, chunk, name)
        return KernelStep(address, operands, n, name)

    def launch_tasks(self, address: int, operands: list[int], tasks: int, grain: int, name: str) -> StepRecord:
        self.work += 65536 * tasks // max(grain, 1)
        if self.threads > 1 and tasks > grain:
            self.used_pool = True
            return ParallelKernel(address, operands, tasks, max(1, min(grain, tasks // self.threads)), name)
        return KernelStep(address, operands, tasks, name)

    def run(self, block: Block) -> list[StepRecord]:
        """The steps of a block's units, one after the other.

        A size that is known around it stays in the slot it has there: the block may be left out.
        """
        steps: list[StepRecord] = []
        known = dict(self.dynamic)
        for u in block.units:
            self.now += 1
            steps += moved(u.steps(self), len(steps))
        self.dynamic |= known
        return steps

    def run_all(self, p: Program, commit: Callable[[int], object] | None) -> list[StepRecord]:
        """The steps of the whole program. Signals are seen to once in a while until the first Variable gets its new
        value: after that the call does not fail any more."""
        steps: list[StepRecord] = []
        seen, committing = self.work, False
        for u in p.units:
            self.now += 1
            before = self.work
            own = u.steps(self)
            if not committing and before - seen > SIGNAL_WORK:
                seen = before
                steps.append(Host(see_signals))
            if not committing and not p.aliased.keys().isdisjoint(u.writes):
                committing = True
                steps += [Host(commit)] if commit is not None else []
            steps += moved(own, len(steps))
        writes = any(s.write is not None for s in p.states)
        return [*steps, Host(commit)] if commit is not None and writes and not committing else steps

    def finish(
        self,
        arguments: Callable[[Binding], list[Argument]],
        constants: Mapping[Value, int],
        returns: Callable[[Binding], Returns],
        unshare: Callable[[Any], object] | None,
        keep: object,
        commit: Callable[[int], object] | None = None,
    ) -> Plan:
        p = self.p
        most = largest([*p.results, *[v for u in p.units for v in u.writes]], self.sizes)
        if most is not None and most[0] > LARGEST:
            raise exhausted(p.graph, self.sizes)
        args = arguments(self)
        steps = self.run_all(p, commit)
        self.now += 1
        captures = []
        for s in p.states:
            shape = tuple(self.size(d) for d in s.read.shape)
            captures.append(Capture(self.slot(s.read), s.variable, s.read.dtype.np, shape, s.write is not None))
        for read, write in p.copied:
            nbytes = int(np.prod([self.size(d) for d in read.shape], dtype=np.int64)) * read.dtype.size
            steps.append(Copy(self.slot(read), self.slot(write), nbytes))
        found = [r for r in p.results if r in self.kept]
        outputs = [
            Output(self.slot(("handle", r)), np.dtype(np.int64), ()) if r in self.kept
            else Output(self.slot(r), r.dtype.np, tuple(self.size(d) for d in r.shape))
            for r in p.results
        ]  # fmt: skip
        if found:
            steps += moved(p.handed_over(self, found), len(steps))
        fixed = set(p.graph.params) | set(p.results) | set(p.aliased) | set(constants) | self.moving
        for v, address in constants.items():
            if v in self.places:
                self.frame[self.places[v]] = address
        total, arena = self._arena(fixed)
        if self.offsets:
            first = self.pointers(self.offsets)
            steps = first + moved(steps, len(first))
        scalars = sum(isinstance(a, ScalarArg) for a in args)
        for i, h in enumerate(self.held):  # last, since pointers need slots too
            h.slot = len(self.frame) + scalars + i
        return Plan(
            Tensor, args=args, captures=captures, frame=self.frame, arena_bytes=total, arena=arena, outputs=outputs,
            steps=steps, returns=returns(self), unshare=unshare, keep=(p, keep, self.tables),
            release_gil=self.work >= GIL_WORK, parallel=threads.address() if self.used_pool else 0, held=len(self.held),
        )  # fmt: skip

    def pointers(self, offsets: list[tuple[int, Value, int]]) -> list[StepRecord]:
        """Pointers into buffers are worked out by a small native step, since buffers are known only at the call."""
        out: list[StepRecord] = []
        code = compiler.pointer_code()
        for slot, v, nbytes in offsets:
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
