"""cond, while and scan as steps of a program: jumps around the steps of their regions, in the same frame."""

from __future__ import annotations

import ctypes
import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import product
from tracejit.ir.text import walk
from tracejit.lower import compiler, lanes, registers, sweeps
from tracejit.lower.binding import Binding, Held, Loop, Scratch
from tracejit.lower.block import CONTROL, Block, State
from tracejit.lower.checkunit import failure
from tracejit.lower.found import FoundUnit, hold, words_of
from tracejit.lower.hostunit import HostUnit, array_at
from tracejit.lower.rotations import roots, rotations
from tracejit.lower.units import BasesUnit, CopyUnit, Unit
from tracejit.passes.layout import Layouts
from tracejit.runtime.records import Copy, Host, Jump, JumpIfFalse, Kernel, StepRecord, Swap, moved

STEPS = 64  # of a loop whose length is not known, when its work is estimated


class ControlUnit(BasesUnit):
    """A node with regions, each of them a block. The regions' parameters lie where the operands lie."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.blocks = self.regions()

    @abstractmethod
    def regions(self) -> list[Block]:
        """The blocks of the regions."""

    def sources(self) -> list[compiler.Source]:
        return [s for block in self.blocks for s in block.sources()]

    def may_raise(self) -> bool:
        return any(block.may_raise() for block in self.blocks)

    def describe(self) -> str:
        inner = []
        for block in self.blocks:
            inner.append(f"{block.graph.name}:")
            inner += ["  " + line for u in block.units for line in u.describe().splitlines()]
        return "\n".join([self.node.op.name, *["   " + x for x in inner]])


class RegisterUnit(BasesUnit):
    """Branches and loops among single elements: one native function."""

    def __init__(self, index: int, node: Node, layouts: Layouts) -> None:
        super().__init__(index, node, layouts)
        self.checks = registers.checks(node)

    def sources(self) -> list[compiler.Source]:
        return [compiler.of_region(self.node)]

    def may_raise(self) -> bool:
        return bool(self.checks)

    def steps(self, b: Binding) -> list[StepRecord]:
        node = self.node
        operands = [b.slot(v) for v in (*self.bases, *node.outs)] + [b.slot(d) for d in registers.sizes(node)]
        first: list[StepRecord] = []
        for v, out in zip(self.bases[: node.attr("n") if node.op.name != "cond" else 0], node.outs, strict=False):
            if out.shape and (nbytes := _bytes(b, out)):
                first.append(Copy(b.slot(out), b.slot(v), nbytes))
        b.work += STEPS * 1000
        address = b.code(self.sources()[0]).addresses[""]
        if not self.checks:
            return [*first, Kernel(address, operands, 1, self.describe())]
        failed = b.scratch(self, "failed", 1)
        why = b.scratch(self, "why", 8 * max(len(c.inputs) for c in self.checks))
        run = Kernel(address, [*operands, failed, why], 1, self.describe())
        return [*first, run, JumpIfFalse(failed, len(first) + 3), Host(self.raiser(b, why))]

    def raiser(self, b: Binding, why: int) -> Callable[[int], None]:
        """A function of the frame's address that raises the error of the check that has failed."""
        failures = []
        for c in self.checks:
            kept = [functools.partial(_kept, why, i, v.dtype.np) for i, v in enumerate(c.inputs)]
            failures.append(failure(c, b.sizes, [_false, *kept[1:]]))

        def fail(frame: int) -> None:
            failures[int(_kept(why, 0, np.dtype(np.int64), frame))](frame)

        fail.__qualname__ = "a check that has failed"
        return fail

    def describe(self) -> str:
        early = ", ends early when its state repeats" if registers.ends_early(self.node) else ""
        return f"{self.node.op.name} in registers{early}"


def _false(frame: int) -> np.ndarray:
    return np.zeros((), bool)


def _kept(slot: int, i: int, dtype: np.dtype[Any], frame: int) -> np.ndarray:
    """Word i of what a function has left behind."""
    return array_at(int(words_of(frame)[slot]) + 8 * i, dtype, ())


class LanesUnit(BasesUnit):
    """A loop over many rows, each with its own number of steps: one native function of vectors of rows."""

    def sources(self) -> list[compiler.Source]:
        return [compiler.of_rows(self.node)]

    def steps(self, b: Binding) -> list[StepRecord]:
        total = b.size(product(self.node.outs[0].shape))
        if not total:
            return []
        operands = [b.slot(v) for v in (*self.bases, *self.node.outs)] + [b.slot(total)]
        code = b.code(self.sources()[0])
        work = STEPS * total * len(self.node.attr("body").nodes)
        return [b.launch(code, operands, -(-total // lanes.width(self.node)), work, self.describe())]

    def describe(self) -> str:
        return "while by rows" + (", ends early when its state repeats" if lanes.ends_early(self.node) else "")


class CondUnit(ControlUnit):
    """A branch: both regions write to the node's results, one of them runs."""

    def regions(self) -> list[Block]:
        return [Block(self.node.attr(name), [], Layouts()) for name in ("then", "orelse")]

    def steps(self, b: Binding) -> list[StepRecord]:
        test = b.slot(self.bases[0])
        made = []
        for block in self.blocks:
            b.alias.update(zip(block.graph.params, self.bases[1:], strict=True))
            b.alias.update(zip(block.graph.results, self.node.outs, strict=True))
            made.append(b.run(block))
        then, orelse = made
        skip = len(then) + 2
        out: list[StepRecord] = [JumpIfFalse(test, skip), *moved(then, 1), Jump(skip + len(orelse))]
        return out + moved(orelse, skip)


class LoopControl(ControlUnit):
    """What loops share: states lie in the node's results, and change places with the new ones after each step."""

    def may_raise(self) -> bool:
        return True  # they see to signals

    def body(self, rows: int, states: int) -> Block:
        g, turned = rotations(self.node.attr("body"), states)
        same = {i for i, _ in turned}
        own = [State(None, g.params[i], None if i in same else g.results[i]) for i in range(states)]
        return Block(g, own, Layouts(), [(g.params[i], g.params[j]) for i, j in turned])

    def begin(self, b: Binding, block: Block, states: int) -> tuple[list[StepRecord], list[tuple[Value, Value]]]:
        """Steps that give the states their first values; the states that change places."""
        b.now += 1
        steps: list[StepRecord] = []
        g = block.graph
        for i in range(states):
            out = self.node.outs[i]
            b.alias[g.params[i]] = out
            if nbytes := _bytes(b, out):
                steps.append(Copy(b.slot(out), b.slot(self.bases[i]), nbytes))
        b.alias.update(block.aliased)
        return steps, [(p, r) for p, r in block.copied if _bytes(b, p)]

    def around(self, b: Binding, loop: Loop, first: int) -> None:
        """Buffers from outside, and those that last from step to step, are in use throughout the loop."""
        b.now += 1
        own = self.own()
        for key, times in b.life.items():
            if isinstance(key, Scratch) or not any(t >= first for t in times):
                continue
            if key not in own or key in loop.moving or min(times) < first:
                times += [first, b.now]
        for key in loop.moving:
            if key in b.life:
                b.life[key] += [first, b.now]

    def own(self) -> set[Value]:
        return {v for block in self.blocks for g in walk(block.graph) for n in g.nodes for v in n.outs}

    def written(self, b: Binding, states: int) -> set[Value]:
        """Buffers that the steps write."""
        return {b.place_of(v) for v in (*self.own(), *self.blocks[-1].graph.params[:states])}

    def swaps(
        self, b: Binding, block: Block, pairs: Sequence[tuple[Value, Value]]
    ) -> tuple[list[StepRecord], list[StepRecord], list[StepRecord]]:
        """Steps before the loop, after each of its steps, and after the loop, for states that change places."""
        before: list[StepRecord] = []
        each: list[StepRecord] = []
        after: list[StepRecord] = []
        followers: dict[Value, list[Value]] = {}
        for x, root in roots(block.turned).items():
            followers.setdefault(root, []).append(x)
        for u in block.units:
            for inst, way in u.kept.items() if isinstance(u, CopyUnit) else ():
                if way in pairs and way[0] not in followers:  # what every step would copy is there from the first on
                    before += b.loop(inst, u.describe())
                    b.done.add(inst)
        for p, r in pairs:
            homes = {x: b.new_slot() for x in (p, *followers.get(p, ()))}
            for x, home in homes.items():
                before.append(_madd(b, home, b.slot(x), b.slot(0), b.slot(0)))
                each.append(Swap(b.slot(x), b.slot(r)))
            ways = [s for x, home in homes.items() for s in (b.slot(x), home)]
            after.append(_call(b, "settle", b.slot(r), b.slot(len(homes)), b.slot(_bytes(b, p)), *ways))
        return before, each, after


class WhileUnit(LoopControl):
    """A loop with a condition."""

    def regions(self) -> list[Block]:
        return [Block(self.node.attr("cond"), [], Layouts()), self.body(0, self.node.attr("n"))]

    def steps(self, b: Binding) -> list[StepRecord]:
        n = self.node.attr("n")
        cond, body = self.blocks
        first = b.now
        out, pairs = self.begin(b, body, n)
        for g in (cond.graph, body.graph):
            b.alias.update(zip(g.params[n:], self.bases[n:], strict=True))
        b.alias.update(zip(cond.graph.params[:n], body.graph.params[:n], strict=True))
        moving = {b.place_of(v) for pair in (*pairs, *body.turned) for v in pair}
        loop = Loop(moving | self.rows_of(body), self.written(b, n))
        b.loops.append(loop)
        work = b.work
        before, each, after = self.swaps(b, body, pairs)
        test = b.run(cond)
        answer = b.slot(cond.graph.results[0])
        step = _joined(self.before_step(b), b.run(body))
        b.work = work + (b.work - work) * STEPS
        b.loops.pop()
        self.around(b, loop, first)
        turn = _joined(b.pointers(loop.offsets), test)
        end = len(turn) + 1 + len(step) + len(each) + 1
        turn = [*turn, JumpIfFalse(answer, end), *moved(step, len(turn) + 1), *each, Jump(0)]
        return _joined(out, before, turn, after)


    def rows_of(self, body: Block) -> set[Value]:
        """Values of a step whose buffers are rows of larger ones."""
        return set()

    def before_step(self, b: Binding) -> list[StepRecord]:
        return []


class SavingUnit(WhileUnit):
    """A loop with a condition whose steps fill rows of buffers that grow, and whose length the program finds out."""

    def rows_of(self, body: Block) -> set[Value]:
        return set(body.graph.results[self.node.attr("n") :])

    def steps(self, b: Binding) -> list[StepRecord]:
        n = self.node.attr("n")
        outs = self.node.outs
        results = self.blocks[1].graph.results
        self.rows = [(r, outs[n + 1 + i]) for i, r in enumerate(results[n:])]
        first = b.now
        self.count, self.space, self.flag = b.new_slot(), b.new_slot(), b.scratch(self, "full", 1)
        b.dynamic[str(self.node.attr("steps"))] = self.count
        b.moving |= set(outs[n + 1 :]) | set(results[n:])
        zero = b.slot(0)
        begin: list[StepRecord] = [_madd(b, s, zero, zero, zero) for s in (self.count, self.space)]
        inner = super().steps(b)
        b.life[Scratch(self, "full")] += [first, b.now]
        end: list[StepRecord] = [_call(b, "put", b.slot(outs[n]), self.count, zero, zero)]
        return _joined(begin, inner, end)

    def before_step(self, b: Binding) -> list[StepRecord]:
        """Room for one more row in each buffer, and pointers to it."""
        boxes = [(b.slot(whole), _bytes(b, v), Held()) for v, whole in self.rows]
        b.held += [h for _, _, h in boxes]
        b.kept.update((whole, box[2]) for (_, whole), box in zip(self.rows, boxes, strict=True))
        count, space = self.count, self.space

        def grow(frame: int) -> None:
            words = words_of(frame)
            used, room = words[count], max(16, 2 * words[space])
            for slot, nbytes, held in boxes:
                new = np.empty(room * nbytes, np.uint8)
                ctypes.memmove(new.ctypes.data, words[slot], used * nbytes)
                hold(words, held, new)
                words[slot] = new.ctypes.data
            words[space] = room

        full = _call(b, "full", self.flag, count, space, space)
        out: list[StepRecord] = [full, JumpIfFalse(self.flag, 3), Host(grow)]
        for v, whole in self.rows:
            out.append(_madd(b, b.slot(v), b.slot(whole), count, b.slot(_bytes(b, v))))
        return [*out, _madd(b, count, count, b.slot(1), b.slot(1))]


class ScanUnit(LoopControl):
    """A loop over rows: pointers to the rows that are read and written move on after each step."""

    def regions(self) -> list[Block]:
        return [self.body(self.node.attr("m"), self.node.attr("n"))]

    def steps(self, b: Binding) -> list[StepRecord]:
        node = self.node
        n, m, backwards = node.attr("n"), node.attr("m"), node.attr("reverse")
        (body,) = self.blocks
        g = body.graph
        first = b.now
        out, pairs = self.begin(b, body, n)
        b.alias.update(zip(g.params[n + m :], self.bases[n + m :], strict=True))
        rows = [*zip(g.params[n : n + m], self.bases[n : n + m], strict=True)]
        rows += [*zip(g.results[n:], node.outs[n:], strict=True)]
        length = node.attr("length")
        known = None if str(length) in b.dynamic else b.size(length)
        if known == 0:
            return out
        moving = {b.place_of(v) for pair in (*pairs, *body.turned) for v in pair}
        loop = Loop(moving | {v for v, _ in rows}, self.written(b, n))
        b.moving |= {v for v, _ in rows}
        last = b.new_slot()
        begin: list[StepRecord] = [_madd(b, last, b.slot(length), b.slot(-1), b.slot(1))]
        onward: list[StepRecord] = []
        if known is None:
            begin += self.allocate(b, [(v, whole) for v, whole in rows if whole in node.outs], b.slot(length))
        for v, whole in rows:
            stride = _bytes(b, v)
            begin.append(_madd(b, b.slot(v), b.slot(whole), last if backwards else b.slot(0), b.slot(stride)))
            onward.append(_madd(b, b.slot(v), b.slot(v), b.slot(1), b.slot(-stride if backwards else stride)))
        left, flag = b.new_slot(), b.scratch(self, "more", 1)
        begin.append(_madd(b, left, b.slot(length), b.slot(0), b.slot(0)))
        b.loops.append(loop)
        work = b.work
        before, each, after = self.swaps(b, body, pairs)
        step = b.run(body)
        passage = None if rows or node.outs[n:] else sweeps.passage(b, body, pairs, step, each)
        several = passage.records(b, left, flag) if passage is not None else []
        b.work = work + (b.work - work) * (STEPS if known is None else known)
        b.loops.pop()
        b.scratch(self, "more", 1)
        self.around(b, loop, first)
        head: list[StepRecord] = [_call(b, "count", left, flag, left, left)]
        end = 2 + len(loop.offsets) + len(step) + len(each) + len(onward) + 1
        inner = _joined(b.pointers(loop.offsets), step, each, onward)
        turn = [*head, JumpIfFalse(flag, end), *moved(inner, 2), Jump(0)]
        return _joined(out, begin, before, several, turn, after)


    def allocate(self, b: Binding, rows: Sequence[tuple[Value, Value]], length: int) -> list[StepRecord]:
        """Memory for stacked results whose length the program has found out."""
        boxes = [(b.slot(whole), _bytes(b, v), Held()) for v, whole in rows]
        b.held += [h for _, _, h in boxes]
        b.kept.update((whole, box[2]) for (_, whole), box in zip(rows, boxes, strict=True))
        b.moving |= {whole for _, whole in rows}

        def make(frame: int) -> None:
            words = words_of(frame)
            for slot, nbytes, held in boxes:
                new = np.empty(max(1, words[length]) * nbytes, np.uint8)
                hold(words, held, new)
                words[slot] = new.ctypes.data

        return [Host(make)] if boxes else []


def _joined(*parts: list[StepRecord]) -> list[StepRecord]:
    out: list[StepRecord] = []
    for p in parts:
        out += moved(p, len(out))
    return out


def _bytes(b: Binding, v: Value) -> int:
    return int(np.prod([b.size(d) for d in v.shape], dtype=np.int64)) * v.dtype.size


def _call(b: Binding, name: str, *slots: int) -> StepRecord:
    return Kernel(compiler.loop_code().addresses[name], list(slots), 1, name)


def _madd(b: Binding, to: int, a: int, x: int, y: int) -> StepRecord:
    return _call(b, "madd", to, a, x, y)


def unit_of(index: int, node: Node, layouts: Layouts) -> Unit:
    """The steps of a node of control flow: in registers where its values are single elements."""
    if registers.fits(node, layouts.told):
        return RegisterUnit(index, node, layouts)
    if lanes.fits(node):
        return LanesUnit(index, node, layouts)
    return _UNITS.get(node.op.name, HostUnit)(index, node, layouts)


_UNITS: dict[str, Callable[[int, Node, Layouts], Unit]] = {
    "cond": CondUnit, "while": WhileUnit, "while_saving": SavingUnit, "scan": ScanUnit,
    "sized": FoundUnit, "count_up": FoundUnit, "positions": FoundUnit, "tell": FoundUnit,
}  # fmt: skip
CONTROL.append(unit_of)
