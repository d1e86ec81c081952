"""Several steps of a loop in one passage through memory, where each step is one kernel over the rows of its states.

A step that reads only nearby rows of what the step before has written need not wait until that has written all of them.
So rows go through `levels` steps while they are in the caches. The rows are divided into pieces, and a passage has two
halves (known as split or trapezoidal tiling). In the first, "rise", each piece takes each step over as many of its rows
as it can know by itself: fewer from step to step at the edges that it shares with others. The second, "fall", takes the
steps over the rows that are left around these edges. Within a piece blocks of rows follow each other, each step behind
the one before it by as many rows as a step reaches. States lie in two buffers that change places after each step, and
what a step still needs in one of them is never written over by a later one.

Results are those of one step after another, bit by bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from tracejit.ir.graph import Value
from tracejit.lower.binding import PARALLEL_WORK, Binding
from tracejit.lower.block import Block
from tracejit.lower.engine import Library
from tracejit.lower.kernel import BLOCK, Access, Instance, Stride
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.units import LoopUnit
from tracejit.runtime import cache
from tracejit.runtime.records import Jump, JumpIfFalse, Kernel, ParallelKernel, StepRecord

NEAR_BYTES = 512 << 10  # of the rows in work, for the second-level cache
BLOCK_BYTES = 32 << 10  # of a block of rows
LEVELS = (16, 8, 4, 2)  # steps of a passage, even ones, after which each state is where it was
PARAMETERS = ("kernel", "rows", "size", "pieces", "levels", "reach", "block", "operands")


@dataclass(frozen=True)
class Passage:
    """How the steps of a loop are taken: see this module."""

    kernel: Kernel | ParallelKernel
    swapped: dict[int, int]  # slots that change places after each step
    rows: int
    pieces: int
    size: int  # rows of a piece
    levels: int
    reach: int  # rows away from the one that it writes, of which a step reads
    block: int
    work: int  # of a step

    def records(self, b: Binding, left: int, flag: int) -> list[StepRecord]:
        """Steps that take `levels` steps of the loop as long as there are so many, which the slot `left` counts."""
        code = library()
        again = [self.swapped.get(s, s) for s in self.kernel.operands]
        numbers = (self.kernel.function, self.rows, self.size, self.pieces, self.levels, self.reach, self.block)
        operands = [b.slot(n) for n in (*numbers, len(again))]
        operands += [*self.kernel.operands, *again]
        first = Kernel(code["begin"], [left, flag, b.slot(self.levels)], 1, "begin")
        halves: list[StepRecord] = []
        for name, n in (("rise", self.pieces), ("fall", self.pieces - 1)):
            what = f"{self.levels} steps at once, {name}: {self.kernel.name}"
            if n > 1 and b.threads > 1 and self.work * self.levels >= PARALLEL_WORK:
                b.used_pool = True
                halves.append(ParallelKernel(code[name], operands, n, 1, what))
            elif n:
                halves.append(Kernel(code[name], operands, n, what))
        return [first, JumpIfFalse(flag, len(halves) + 3), *halves, Jump(0)]


def passage(
    b: Binding, body: Block, pairs: Sequence[tuple[Value, Value]], step: Sequence[StepRecord]
) -> Passage | None:
    """How to take the steps of a loop several at a time; None if they are not made like that."""
    loops = [u for u in body.units if isinstance(u, LoopUnit)]
    if len(step) != 1 or len(loops) != 1 or not isinstance(step[0], Kernel | ParallelKernel):
        return None
    inst = loops[0].instance
    kept = [(b.place_of(p), b.place_of(r)) for p, r in pairs]
    reach = _reach(b, inst, kept, {b.place_of(p) for p in body.aliased.values()})
    if reach is None:
        return None
    rows, inner = b.extent(inst)
    k = inst.kernel
    work = rows * inner * (k.weight() + 1)
    if k.flat:
        rows, inner = -(-inner // BLOCK), BLOCK
    row = inner * sum(v.dtype.size for v in {*inst.reads, *inst.outputs})
    block = max(1, BLOCK_BYTES // max(row, 1), reach)
    levels = next((n for n in LEVELS if (n * reach + block) * row <= NEAR_BYTES and rows >= 4 * n * max(reach, 1)), 0)
    if not levels:
        return None
    pieces = max(1, min(2 * b.threads, rows // (4 * levels * max(reach, 1))))
    size = -(-rows // pieces)
    if rows - (pieces - 1) * size < 2 * levels * reach or rows <= (pieces - 1) * size:
        pieces, size = 1, rows
    swapped = {b.slot(x): b.slot(y) for p, r in kept for x, y in ((p, r), (r, p))}
    return Passage(step[0], swapped, rows, pieces, size, levels, reach, block, work)


def _reach(b: Binding, inst: Instance, pairs: Sequence[tuple[Value, Value]], same: set[Value]) -> int | None:
    """How many rows away from the row that it writes a kernel reads at most; None if there is more to it.

    `pairs`: where states lie before and after a step; `same`: where they are before and after it alike.
    """
    k = inst.kernel
    if k.lates or k.phases() or k.outer > 1 or (k.outer == 0 and not k.flat) or not k.axes:
        return None
    if any(s.kind not in ("load", "const", "op", "index") for s in k.stmts):
        return None
    before = {r: p for p, r in pairs}
    stores: dict[Value, tuple[int, ...]] = {}
    for _, a in k.stores:
        place = b.place_of(inst.operands[a.operand])
        if place in same:
            continue
        if place not in before or before[place] in stores:
            return None
        stores[before[place]] = _affine(b, inst, a)
    if len(stores) != len(pairs):
        return None
    reach = 0
    for a in [s.access for s in k.stmts if s.kind == "load" and s.access is not None]:
        place = b.place_of(inst.operands[a.operand])
        if place in stores:
            away = _away(b, inst, _affine(b, inst, a), stores[place])
            if away is None:
                return None
            reach = max(reach, away)
        elif place not in same and not b.lasts(place):
            return None
    return reach


def _affine(b: Binding, inst: Instance, a: Access) -> tuple[int, ...]:
    """An access's offset and strides, in elements."""
    known = {Stride.ZERO: 0, Stride.UNIT: 1, Stride.PAIR: 2}
    strides = [known[s] if s in known else b.size(inst.operands[s]) for s in a.strides]
    return (0 if a.offset == -2 else b.size(inst.operands[a.offset]), *strides)


def _away(b: Binding, inst: Instance, read: tuple[int, ...], written: tuple[int, ...]) -> int | None:
    """How many rows lie between the rows that are written at one time and read at another in the same places."""
    if read[1:] != written[1:] or written[-1] != 1:
        return None
    _, columns = b.extent(inst)
    row, columns = (BLOCK, BLOCK) if inst.kernel.flat else (written[1], columns)
    if row < columns:
        return None
    delta = read[0] - written[0]
    near = (delta // row, -(-delta // row))
    return max([abs(d) for d in near if abs(delta - d * row) < columns], default=0)


# --- native code -----------------------------------------------------------------------------------------------------
@functools.cache
def library() -> Library:
    """`rise` and `fall`, whose tasks are pieces and the edges between them; and `begin`.

    begin   frame[0] -= frame[2] if that leaves 0 or more; the bool at frame[1] says whether it did
    """
    m = Module()
    _begin(m)
    for name in ("rise", "fall"):
        f = m.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
        v = {n: f.load("i64", _slot(f, i)) for i, n in enumerate(PARAMETERS)}
        f.loop(f.args[2], f.args[3], functools.partial(_rise if name == "rise" else _fall, f, v))
        f.ret_()
    return cache.load_library(m.text(), ["begin", "rise", "fall"])


def _slot(f: Fn, i: int) -> Val:
    return f.gep(f.args[0], f.cast("zext", f.load("i32", f.gep(f.args[1], 4 * i)), "i64"), "i64")


def _begin(m: Module) -> None:
    f = m.function("begin", [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    left = f.sub(f.load("i64", _slot(f, 0)), f.load("i64", _slot(f, 2)))
    enough = f.cmp("sge", left, i64(0))
    f.if_(enough, lambda: f.store(left, _slot(f, 0)))
    f.store(f.cast("zext", enough, "i8"), f.load("ptr", _slot(f, 1)))
    f.ret_()


def _run(f: Fn, v: dict[str, Val], level: Val, first: Val, end: Val) -> None:
    """A step over some rows, from one buffer of each state into the other."""
    forth = f.gep(f.args[1], 4 * len(PARAMETERS))
    back = f.gep(forth, v["operands"], "i32")
    idx = f.select(f.cmp("eq", f.and_(level, i64(1)), i64(0)), forth, back)
    kernel = f.cast("inttoptr", v["kernel"], "ptr")

    def call() -> None:
        f.call(kernel, [f.args[0], idx, first, end])

    f.if_(f.cmp("slt", first, end), call)


def _rise(f: Fn, v: dict[str, Val], piece: Val) -> None:
    start = f.mul(piece, v["size"])
    stop = f.intrinsic("smin", v["rows"], f.add(start, v["size"]))
    left = f.select(f.cmp("sgt", piece, i64(0)), v["reach"], i64(0))
    right = f.select(f.cmp("slt", f.add(piece, i64(1)), v["pieces"]), v["reach"], i64(0))

    def block(at: Val) -> None:
        def level(s: Val) -> None:
            first, end = f.add(start, f.mul(s, left)), f.sub(stop, f.mul(s, right))
            here = f.sub(at, f.mul(s, v["reach"]))
            first = f.intrinsic("smax", first, here)
            _run(f, v, s, first, f.intrinsic("smin", end, f.add(here, v["block"])))

        f.loop(0, v["levels"], level)

    f.loop(start, f.add(stop, f.mul(v["levels"], v["reach"])), block, step=v["block"])


def _fall(f: Fn, v: dict[str, Val], edge: Val) -> None:
    at = f.mul(f.add(edge, i64(1)), v["size"])

    def level(s: Val) -> None:
        away = f.mul(s, v["reach"])
        _run(f, v, s, f.sub(at, away), f.intrinsic("smin", v["rows"], f.add(at, away)))

    f.loop(1, v["levels"], level)
