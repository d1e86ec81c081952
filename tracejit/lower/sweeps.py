"""Several steps of a loop in one passage through memory, where each step is one kernel over the rows of its states.

A step that reads only nearby rows of what the step before has written need not wait until that has written all of them.
So rows go through `levels` steps while they are in the caches. The rows are divided into pieces, and a passage has two
halves (known as split or trapezoidal tiling). In the first, "rise", each piece takes each step over as many of its rows
as it can know by itself: fewer from step to step at the edges that it shares with others. The second, "fall", takes the
steps over the rows that are left around these edges. Within a piece blocks of rows follow each other, each step behind
the one before it by as many rows as a step reaches. States lie in buffers that change places after each step, and what
a step still needs in one of them is never written over by a later one. Borders that each step writes anew, always the
same, are in all buffers after the first few steps, which are taken one by one.

Results are those of one step after another, bit by bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tracejit.ir.graph import Value
from tracejit.lower import compiler
from tracejit.lower.binding import PARALLEL_WORK, Binding
from tracejit.lower.block import Block
from tracejit.lower.engine import Library
from tracejit.lower.kernel import BLOCK, Access, Instance, Stride
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.rotations import roots
from tracejit.lower.units import CopyUnit, LoopUnit
from tracejit.runtime import cache
from tracejit.runtime.records import Jump, JumpIfFalse, Kernel, ParallelKernel, StepRecord, moved

NEAR_BYTES = 512 << 10  # of the rows in work, for the second-level cache
BLOCK_BYTES = 32 << 10  # of a block of rows
LEVELS = {1: (16, 8, 4, 2), 2: (16, 8, 4, 2), 3: (15, 9, 6, 3), 4: (16, 8, 4), 6: (12, 6)}  # steps of a passage, by
# the number of steps after which each state is where it was
PARAMETERS = ("kernel", "rows", "size", "pieces", "levels", "reach", "block", "turns", "operands")


@dataclass(frozen=True)
class Passage:
    """How the steps of a loop are taken: see this module."""

    kernel: Kernel | ParallelKernel
    moves: dict[int, int]  # of slots: where after a step lies what a step finds here
    turns: int  # after so many steps everything is where it was
    first: list[StepRecord]  # steps that write borders, to be taken one by one
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
        slots = list(self.kernel.operands)
        numbers = (self.kernel.function, self.rows, self.size, self.pieces, self.levels, self.reach, self.block)
        operands = [b.slot(n) for n in (*numbers, self.turns, len(slots))]
        for _ in range(self.turns):
            operands += slots
            slots = [self.moves.get(s, s) for s in slots]
        begin = Kernel(code["begin"], [left, flag, b.slot(self.levels)], 1, "begin")
        halves: list[StepRecord] = []
        for name, n in (("rise", self.pieces), ("fall", self.pieces - 1)):
            what = f"{self.levels} steps at once, {name}: {self.kernel.name}"
            if n > 1 and b.threads > 1 and self.work * self.levels >= PARALLEL_WORK:
                b.used_pool = True
                halves.append(ParallelKernel(code[name], operands, n, 1, what))
            elif n:
                halves.append(Kernel(code[name], operands, n, what))
        passages: list[StepRecord] = [begin, JumpIfFalse(flag, len(halves) + 3), *halves, Jump(0)]
        if not self.first:
            return passages
        once = Kernel(code["begin"], [left, flag, b.slot(self.turns)], 1, "begin")
        ahead = len(self.first) + 2
        return [once, JumpIfFalse(flag, ahead + len(passages)), *self.first, *moved(passages, ahead)]


def passage(
    b: Binding, body: Block, pairs: Sequence[tuple[Value, Value]], step: list[StepRecord], each: list[StepRecord]
) -> Passage | None:
    """How to take the steps of a loop several at a time; None if they are not made like that.

    `pairs`: where states lie before and after a step; `each`: what changes their places.
    """
    loops = [u for u in body.units if isinstance(u, LoopUnit)]
    if len(loops) != 1 or not step or not all(isinstance(s, Kernel | ParallelKernel) for s in step):
        return None
    inst = loops[0].instance
    moves = _moves(b, body, pairs)
    reach = _reach(b, inst, moves, {b.place_of(p) for p in body.aliased.values()})
    address = b.code(compiler.of_kernel(inst.kernel)).addresses[""]
    found = [s for s in step if isinstance(s, Kernel | ParallelKernel) and s.function == address]
    if reach is None or len(found) != 1 or not _borders(b, body, len(step) - 1, moves):
        return None
    rows, inner = b.extent(inst)
    k = inst.kernel
    work = rows * inner * (k.weight() + 1)
    if k.flat:
        rows, inner = -(-inner // BLOCK), BLOCK
    turns = _turns(moves)
    row = inner * sum(v.dtype.size for v in {*inst.reads, *inst.outputs})
    block = max(1, BLOCK_BYTES // max(row, 1), reach)
    fits = [n for n in LEVELS.get(turns, ()) if (n * reach + block) * row <= NEAR_BYTES and rows >= 4 * n * reach]
    if not fits or rows < 4:
        return None
    levels = fits[0]
    pieces = max(1, min(2 * b.threads, rows // (4 * levels * max(reach, 1))))
    size = -(-rows // pieces)
    if rows - (pieces - 1) * size < max(2 * levels * reach, 1):
        pieces, size = 1, rows
    slots = {b.slot(x): b.slot(y) for x, y in moves.items()}
    first = [*step, *each] * turns if len(step) > 1 else []
    return Passage(found[0], slots, turns, first, rows, pieces, size, levels, reach, block, work)


def _moves(b: Binding, body: Block, pairs: Sequence[tuple[Value, Value]]) -> dict[Value, Value]:
    """Where the values that a step finds in these buffers lie one step later, as seen from the buffers' slots."""
    out: dict[Value, Value] = {}
    last = {b.place_of(p): b.place_of(p) for p, _ in pairs}
    for x, root in roots(body.turned).items():
        root, x = b.place_of(root), b.place_of(x)
        out[x], last[root] = last[root], x
    for p, r in pairs:
        out[b.place_of(p)], out[b.place_of(r)] = b.place_of(r), last[b.place_of(p)]
    return out


def _turns(moves: dict[Value, Value]) -> int:
    lengths = [1]
    for start in moves:
        v, n = moves[start], 1
        while v is not start:
            v, n = moves[v], n + 1
        lengths.append(n)
    return math.lcm(*lengths)


def _borders(b: Binding, body: Block, count: int, moves: dict[Value, Value]) -> bool:
    """Whether the other `count` kernels of a step write what all steps write, into the buffers of the states."""
    copies = [u for u in body.units if isinstance(u, CopyUnit) and u.needed]
    instances = [(u, i) for u in copies for i in u.instances if i not in b.done]
    for u, i in instances:
        written = u.filled.get(i) or (u.kept[i][1] if i in u.kept else None)
        if written is None or b.place_of(written) not in moves:
            return False
        if i in u.kept and moves.get(b.place_of(u.kept[i][0])) is not b.place_of(written):
            return False
    return count == sum(math.prod(b.extent(i)) > 0 for _, i in instances)


def _reach(b: Binding, inst: Instance, moves: dict[Value, Value], same: set[Value]) -> int | None:
    """How many rows away from the row that it writes a kernel reads at most; None if there is more to it.

    `same`: buffers of states that are written in place.
    """
    k = inst.kernel
    if k.lates or k.phases() or k.outer > 1 or (k.outer == 0 and not k.flat) or not k.axes:
        return None
    if any(s.kind not in ("load", "const", "op", "index") for s in k.stmts):
        return None
    circles = {x: _circle(moves, x) for x in moves}
    stores: dict[frozenset[Value], tuple[int, ...]] = {}
    for _, a in k.stores:
        place = b.place_of(inst.operands[a.operand])
        if place in same:
            continue
        if place not in circles or circles[place] in stores:
            return None
        stores[circles[place]] = _affine(b, inst, a)
    if len(stores) != len(set(circles.values())):
        return None
    reach = 0
    for a in [s.access for s in k.stmts if s.kind == "load" and s.access is not None]:
        place = b.place_of(inst.operands[a.operand])
        if place in circles:
            away = _away(b, inst, _affine(b, inst, a), stores[circles[place]])
            if away is None:
                return None
            reach = max(reach, away)
        elif place not in same and not b.lasts(place):
            return None
    return reach


def _circle(moves: dict[Value, Value], start: Value) -> frozenset[Value]:
    """The buffers among which a state's values go round."""
    out = {start}
    while (start := moves[start]) not in out:
        out.add(start)
    return frozenset(out)


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
    """A step over some rows, from some of the buffers of each state into another one."""
    turn = f.op("urem", level, v["turns"])
    idx = f.gep(f.gep(f.args[1], 4 * len(PARAMETERS)), f.mul(turn, v["operands"]), "i32")
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
