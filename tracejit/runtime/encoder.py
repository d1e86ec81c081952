"""How a plan becomes a table."""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracejit.runtime import layout
from tracejit.runtime.records import (
    Argument,
    Capture,
    Constant,
    Copy,
    Fields,
    Form,
    Host,
    Jump,
    JumpIfFalse,
    Kernel,
    Output,
    ParallelKernel,
    ScalarArg,
    Shape,
    StaticArg,
    StepRecord,
    Swap,
)
from tracejit.runtime.table import Arg, Array, Format, Head, Item, Node, Op, Out, Result, Step

if TYPE_CHECKING:
    from tracejit.runtime.program import Plan

FORMATS = {
    (float, "float32"): Format.F32,
    (float, "float64"): Format.F64,
    (int, "int32"): Format.I32,
    (int, "int64"): Format.I64,
    (int, "float32"): Format.F32,
    (int, "float64"): Format.F64,
    (bool, "bool"): Format.BOOL,
}
_TOO_LARGE = 1 << 62  # bytes: fits a word, and no memory does
_NUMBERS = {float: Arg.FLOAT, int: Arg.INT, bool: Arg.BOOL}


@functools.lru_cache(64)
def payload_offset(cls: type) -> int:
    """Where the instances of a class keep their array."""
    hidden = isinstance(cls.__dict__.get("_a"), property)  # in front of what the class above it has (`ops/unnamed.py`)
    return layout.slot_offset(cls.__mro__[1] if hidden else cls, "_a")


def encode(plan: Plan) -> bytes:
    """The table of a plan. It holds addresses of what the plan refers to, and is valid while that lives."""
    return _Encoder(plan).table()

class _Encoder:
    """Builds a plan's table: the head, then the sections it points to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.words: list[int] = [0] * Head.WORDS
        slots = len(plan.frame)
        self.values = itertools.count(slots)  # frame words for the values of scalar arguments
        self.refs_at = slots + sum(isinstance(a, ScalarArg) for a in plan.args)
        self.refs = plan.held  # references that a call drops at its end

    def here(self) -> int:
        return 8 * len(self.words)

    def ref(self) -> int:
        self.refs += 1
        return self.refs_at + self.refs - 1

    def section(self, count: Head, at: Head, records: list[list[int]], words: int) -> None:
        """Append records of equal length."""
        self.words[count], self.words[at] = len(records), self.here()
        for r in records:
            self.words += r + [0] * (words - len(r))

    def table(self) -> bytes:
        p, w = self.plan, self.words
        args = [self.argument(a) for a in p.args]
        captures = [self.capture(c) for c in p.captures]
        outputs = [self.output(o) for o in p.outputs]
        steps = [self.step(s) for s in p.steps]
        items = [[id(i.value), 0] if isinstance(i, Constant) else [0, outputs[i][Out.REF]] for i in p.returns.items]
        self.section(Head.ARGS, Head.ARGS_AT, args, Array.WORDS)
        self.section(Head.CAPTURES, Head.CAPTURES_AT, captures, Array.WORDS)
        self.section(Head.ARENA_SLOTS, Head.ARENA_AT, [[s, at] for s, at in p.arena], 2)
        self.section(Head.OUTPUTS, Head.OUTPUTS_AT, outputs, Out.WORDS)
        self.section(Head.ITEMS, Head.ITEMS_AT, items, Item.WORDS)
        self.section(Head.STEPS, Head.STEPS_AT, steps, Step.WORDS)
        w[Head.ARENA_BYTES], w[Head.RESULT] = p.arena_bytes, Result[p.returns.kind.upper()]
        w[Head.FINISH] = id(p.returns.finish) if p.returns.finish is not None else 0
        w[Head.UNSHARE], w[Head.RELEASE_GIL], w[Head.PARALLEL] = id(p.unshare), p.release_gil, p.parallel
        w[Head.TENSOR], w[Head.TENSOR_SLOT] = id(p.tensor), payload_offset(p.tensor)
        w[Head.REFS], w[Head.REFS_AT], w[Head.ARENA_WORD] = self.refs, self.refs_at, self.refs_at + self.refs
        w[Head.POSITIONAL], w[Head.KEYWORDS] = len(p.args), 0
        w[Head.GUARDS] = p.guards.address if p.guards is not None else 0
        if p.form is not None:
            self.form(p.form)
        w[Head.FRAME_AT] = self.here()
        frame = [*p.frame, *[0] * (w[Head.ARENA_WORD] + 1 - len(p.frame))]
        w[Head.FRAME_BYTES] = 8 * len(frame)
        return struct.pack(f"<{len(w) + len(frame)}q", *w, *frame)

    def form(self, form: Form) -> None:
        """The names of keyword arguments, then every argument in prefix order; and the leaves that calls leave out."""
        w = self.words
        w[Head.POSITIONAL], w[Head.KEYWORDS], w[Head.FORM_AT] = len(form.args), len(form.kwargs), self.here()
        w += map(id, form.kwargs)
        for pattern in (*form.args, *form.kwargs.values()):
            self.pattern(pattern)
        w[Head.LEAVES_AT] = self.here()
        w += [id(a.object) if isinstance(a, StaticArg) else 0 for a in self.plan.args]

    def pattern(self, p: Any) -> None:
        w = self.words
        if isinstance(p, int):
            w += [Node.LEAF, p]
        elif isinstance(p, Fields):
            w += [Node.FIELDS, len(p.items), id(p.cls), p.version, -1 if p.own is None else p.own, *map(id, p.items)]
            for x in p.items.values():
                self.pattern(x)
        elif isinstance(p, dict):
            w += [Node.DICT, len(p), *map(id, p)]
            for x in p.values():
                self.pattern(x)
        else:
            kind = Node.LIST if isinstance(p, list) else Node.TUPLE if type(p) is tuple else Node.NAMED
            w += [kind, len(p), id(type(p))] if kind is Node.NAMED else [kind, len(p)]
            for x in p:
                self.pattern(x)

    def dims(self, shape: Shape) -> int:
        at = self.here()
        self.words += shape
        return at

    def argument(self, a: Argument) -> list[int]:
        if isinstance(a, StaticArg):
            return [Arg.STATIC, a.by_value, id(a.object)]
        if isinstance(a, ScalarArg):
            if a.low is not None and a.high is not None:
                return [_NUMBERS[a.python], a.slot, Format.WITHIN, next(self.values), a.low, a.high]
            return [_NUMBERS[a.python], a.slot, FORMATS[a.python, a.dtype.name], next(self.values)]
        return [Arg.ARRAY, a.slot, id(a.dtype), len(a.shape), self.dims(a.shape), self.ref()]

    def capture(self, c: Capture) -> list[int]:
        cls: type = type(c.variable)
        place = id(c.variable) + payload_offset(cls)
        dims = self.dims(c.shape)
        return [0, c.slot, id(c.dtype), len(c.shape), dims, self.ref(), c.written, place, id(c.variable)]

    def output(self, o: Output) -> list[int]:
        size = min(max(1, o.dtype.itemsize * math.prod(o.shape)), _TOO_LARGE)
        return [id(o.dtype), len(o.shape), self.dims(o.shape), o.slot, size, self.ref(), o.wrap]

    def step(self, s: StepRecord) -> list[int]:
        match s:
            case Kernel():
                return [Op.KERNEL, s.function, self.operands(s.operands), s.n]
            case ParallelKernel():
                return [Op.PARALLEL, s.function, self.operands(s.operands), s.n, s.chunk]
            case Host():
                return [Op.HOST, id(s.function)]
            case Jump():
                return [Op.JUMP, s.target]
            case JumpIfFalse():
                return [Op.JUMP_IF_FALSE, s.slot, s.target]
            case Copy():
                return [Op.COPY, s.target, s.source, s.nbytes]
            case Swap():
                return [Op.SWAP, s.a, s.b]

    def operands(self, slots: Sequence[int]) -> int:
        """Two 32-bit slot numbers to a word."""
        at = self.here()
        even = [*slots, 0][: len(slots) + len(slots) % 2]
        self.words += [a | b << 32 for a, b in zip(even[::2], even[1::2])]
        return at
