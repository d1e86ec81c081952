"""Discrete Fourier transforms of long lines as LLVM IR: columns, then rows of a line that is taken as a matrix.

A line of n₁·n₂ elements, row after row, is transformed down the columns, several of them side by side in the lanes of
registers; multiplied by roots of unity; then transformed along the rows, which gives the columns of the result. What
comes before and after these two phases is for lines that lie apart, real ones, and convolutions with a chirp.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType
from tracejit.lower.butterflies import Pair, stages
from tracejit.lower.fourier import scale_of
from tracejit.lower.fourierlines import Lines, Moves
from tracejit.lower.fourierplan import FUSED, GAP, LONG, PIECE, LongForm, buffer_bytes
from tracejit.lower.gemm import operand
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.routine import Routine


class _Phase:
    """`void name(frame, idx, line, slot, g, lo, hi)`: pieces lo … hi − 1 of a phase for one line.

    The line's matrix, and the line between phases, are number `slot` of those that there is memory for; the buffers
    are those of task g.
    """

    def __init__(self, module: Module, name: str, dtype: DType, form: LongForm, width: int, transform: str) -> None:
        params = [("frame", "ptr"), ("idx", "ptr"), *[(n, "i64") for n in ("line", "slot", "g", "lo", "hi")]]
        self.fn = f = module.function(name, params, internal=True)
        frame, idx, self.number, slot, g, self.lo, self.hi = f.args
        names = [*LONG[0].split(), *LONG[1].split()]
        pointers = len(LONG[0].split())
        self.at = {n: operand(f, frame, idx, k, "ptr" if k < pointers else "i64") for k, n in enumerate(names)}
        self.dtype, self.form, self.transform = dtype, form, transform
        self.wide, self.single = Moves(f, dtype, width), Moves(f, dtype, 1)
        self.pitch = f.add(self["columns"], i64(GAP // (2 * dtype.size)))
        self.grid = f.gep(self["grid"], f.mul(slot, f.mul(self["rows"], self.pitch)), self.wide.pair)
        self.line = f.gep(self["line"], f.mul(slot, self["length"]), self.wide.pair)
        most = f.intrinsic("smax", self["rows"], self["columns"])
        bytes_ = f.add(f.mul(most, i64(2 * width * dtype.size)), i64(buffer_bytes(dtype, 0, width)))
        self.buffers = [f.gep(self["buffers"], f.mul(bytes_, f.add(f.mul(g, i64(2)), i64(k)))) for k in (0, 1)]
        self.kernel = f.gep(self["chirp"], self["count"], self.wide.pair)
        self.x = self.place(self["x"], self["outer_step"], self["inner_step"], form.kind != "of real")
        length = self["half"] if form.kind == "of real" else self["size"]
        self.out = self.place(self["out"], f.mul(length, self["inner"]), i64(1), form.kind != "to real")

    def __getitem__(self, name: str) -> Val:
        return self.at[name]

    def write(self, phase: str, how: str = "") -> None:
        """The code of the function."""
        if phase == "columns":
            self.columns(how == "x")
        elif phase == "rows":
            self.rows(how)
        else:
            (self.enter if phase == "enter" else self.leave)()
        self.fn.ret_()

    def place(self, p: Val, outer: Val, inner: Val, complex_: bool) -> Val:
        """Where the line begins in the operand or the result."""
        f = self.fn
        if self.form.alone:
            index = f.mul(self.number, outer)
        else:
            o = f.op("udiv", self.number, self["inner"])
            i = f.sub(self.number, f.mul(o, self["inner"]))
            index = f.add(f.mul(o, outer), f.mul(i, inner))
        return f.gep(p, index, self.wide.pair if complex_ else self.wide.ty)

    # --- transforms ---------------------------------------------------------------------------------------------------
    def sets(self, count: Val, each: Callable[[Val, Val], None]) -> None:
        """`each(k, first)` for the sets of lanes; the last one begins earlier where it would not be full."""
        f, w = self.fn, self.wide.width
        f.loop(self.lo, self.hi, lambda k: each(k, f.intrinsic("smin", f.mul(k, i64(w)), f.sub(count, i64(w)))))

    def columns(self, from_x: bool) -> None:
        f, p, (a, b) = self.fn, self.wide, self.buffers
        source = self.x if from_x else self.line
        sets_turns = f.gep(self["turns"], f.mul(self["rows"], i64(p.width)), p.pair)

        def each(k: Val, first: Val) -> None:
            def read(i: Val) -> None:
                v = p.read(source, f.add(f.mul(i, self["columns"]), first))
                p.put(a, i, self.swapped(v) if from_x else v)

            f.loop(0, self["rows"], read)
            result = f.call(self.transform, [a, b, self["first"]], "ptr")
            turns = f.gep(sets_turns, f.mul(k, self["rows"]), p.pair)

            def write(i: Val) -> None:
                v = p.times(p.get(result, i), p.times(p.get(self["turns"], i), p.turn(turns, i)))
                p.write(self.grid, f.add(f.mul(i, self.pitch), first), v)

            f.loop(0, self["rows"], write)

        self.sets(self["columns"], each)

    def rows(self, to: str) -> None:
        f, p, (a, b) = self.fn, self.wide, self.buffers
        how = Lines(True, True, False)
        scale = scale_of(p, self["scale"])

        def each(k: Val, first: Val) -> None:
            lines = [
                f.gep(self.grid, f.mul(f.add(first, i64(lane)), self.pitch), p.pair) for lane in range(p.width)
            ]
            p.read_lines("complex", self["columns"], a, lambda v: (v[0], v[1]), lines, i64(1), how)
            result = f.call(self.transform, [a, b, self["second"]], "ptr")

            def write(i: Val) -> None:
                v, at = p.get(result, i), f.add(f.mul(i, self["rows"]), first)
                if to == "out":
                    p.write(self.out, at, self.swapped(p.scaled(v, scale)))
                    return
                if to == "kernel":
                    v = p.times(v, p.read(self.kernel, at))
                p.write(self.line, at, v if to == "line" else v[::-1])

            f.loop(0, self["columns"], write)

        self.sets(self["rows"], each)

    def swapped(self, v: Pair) -> Pair:
        return (v[1], v[0]) if self.form.inverse else v

    # --- before and after ---------------------------------------------------------------------------------------------
    def spans(self, first: Val | int, end: Val, one: Callable[[Moves, Val], None], wide: bool) -> None:
        """`one` for the elements of the pieces that lie between, several at once where that is possible."""
        f, w = self.fn, self.wide.width
        lo = f.intrinsic("smax", f.mul(self.lo, i64(PIECE)), first if isinstance(first, Val) else i64(first))
        hi = f.intrinsic("smin", f.mul(self.hi, i64(PIECE)), end)
        main = lo
        if wide:
            left = f.intrinsic("smax", f.sub(hi, lo), i64(0))
            main = f.add(lo, f.and_(left, i64(-w)))
            f.loop(lo, main, lambda k: one(self.wide, k), step=w)
        f.loop(main, hi, lambda k: one(self.single, k))

    def read(self, p: Moves, k: Val) -> Pair:
        """Complex numbers k, k + 1, … of the operand."""
        return p.read(self.x, k if self.form.unit else self.fn.mul(k, self["step"]))

    def reals(self, p: Moves, k: Val) -> Pair:
        """Real numbers k, k + 1, … of the operand; of lines of even length, two by two."""
        if self.form.halved and self.form.unit:
            return p.read(self.x, k)
        if not self.form.halved:
            return p.parts([self.x], self["step"], "reals", k, True)[0], p.number(0.0)
        a, b = p.parts([self.x], self["step"], "pairs", k, False)
        return a, b

    def enter(self) -> None:
        """The line that is transformed, from the operand."""
        f, form, unit, count = self.fn, self.form, self.form.unit, self["count"]
        if form.kind != "to real":
            take = self.read if form.kind == "whole" else self.reals
            self.spans(0, count, lambda p, k: self.begin(p, k, take(p, k)), unit)
        elif form.halved:

            def one(p: Moves, k: Val) -> None:
                last = f.sub(f.sub(count, k), i64(p.width - 1))
                w = p.back(self.read(p, last))
                self.begin(p, k, p.parted_halves(self.read(p, k), w, p.read(self["halves"], k)))

            def ends() -> None:
                p = self.single
                a, b = self.read(p, i64(0))[0], self.read(p, count)[0]
                self.begin(p, i64(0), (f.add(a, b), f.sub(a, b)))

            f.if_(f.cmp("eq", self.lo, i64(0)), ends)
            self.spans(1, count, one, unit)
        else:
            self.spans(0, count, self.mirrored, False)
        if form.chirp:
            zero = self.wide.number(0.0), self.single.number(0.0)
            self.spans(count, self["length"], lambda p, k: p.write(self.line, k, (zero[p is self.single],) * 2), True)

    def mirrored(self, p: Moves, k: Val) -> None:
        """An element of a whole spectrum from the half."""
        f = self.fn
        own = f.cmp("slt", k, self["half"])
        a, b = self.read(p, f.select(own, k, f.sub(self["size"], k)))
        b = f.select(f.cmp("eq", k, i64(0)), p.number(0.0), b)
        self.begin(p, k, (a, f.select(own, b, f.fneg(b))))

    def begin(self, p: Moves, k: Val, v: Pair) -> None:
        v = self.swapped(v)
        p.write(self.line, k, p.times(v, p.read(self["chirp"], k)) if self.form.chirp else v)

    def result(self, p: Moves, k: Val) -> Pair:
        """Elements k, k + 1, … of the transform."""
        v = p.read(self.line, k)
        return p.times(v, p.read(self["chirp"], k)) if self.form.chirp else v

    def leave(self) -> None:
        """The result from the transformed line."""
        f, form, count = self.fn, self.form, self["count"]
        scale, alone = scale_of(self.wide, self["scale"]), form.alone
        if form.kind == "whole" or (form.kind == "of real" and not form.halved):
            end = self["size"] if form.kind == "whole" else self["half"]
            self.spans(0, end, lambda p, k: self.end(p, k, p.scaled(self.result(p, k), scale)), alone)
        elif form.kind == "to real":
            self.spans(0, count, lambda p, k: self.end_real(p, k, p.scaled(self.result(p, k), scale)), alone)
        else:
            half = f.mul(scale, self.single.number(0.5))

            def put(p: Moves, k: Val, v: Pair, w: Pair) -> None:
                self.end(p, k, p.scaled(p.joined_halves(v, w, p.read(self["halves"], k)), half))

            def ends() -> None:
                v = self.result(self.single, i64(0))
                put(self.single, i64(0), v, v)
                put(self.single, count, v, v)

            def one(p: Moves, k: Val) -> None:
                put(p, k, self.result(p, k), p.back(self.result(p, f.sub(f.sub(count, k), i64(p.width - 1)))))

            f.if_(f.cmp("eq", self.lo, i64(0)), ends)
            self.spans(1, count, one, alone)

    def end(self, p: Moves, k: Val, v: Pair) -> None:
        p.write(self.out, k if self.form.alone else self.fn.mul(k, self["inner"]), self.swapped(v))

    def end_real(self, p: Moves, k: Val, v: Pair) -> None:
        """Real numbers, of lines of even length two by two."""
        v = self.swapped(v)
        if self.form.halved and self.form.alone:
            p.write(self.out, k, v)
            return
        places = p.places(self.out, k, self["inner"], "pairs" if self.form.halved else "reals")
        for x, place in zip(v, places):
            self.fn.store(x, place, p.word)


class _Long(Routine):
    """`out[o, :, i]` is the transform of `x[o, :, i]`, in phases.

    Where `phase` is FUSED, task g of `groups` takes lines g, g + groups, … through all of them; else it takes pieces
    g, g + groups, … of that phase, of which each line has `pieces`.
    """

    def __init__(self, module: Module, name: str, dtype: DType, form: LongForm, width: int) -> None:
        super().__init__(module, name, dtype, *LONG)
        self.name, self.form, self.lanes = name, form, width
        self.chain = form.phases()
        transform = stages(module, dtype, width)
        for what in dict.fromkeys(self.chain):
            _Phase(module, self.named(what), dtype, form, width, transform).write(*what.split())
        self.run(self.task)

    def named(self, phase: str) -> str:
        return f"{self.name}_{phase.replace(' ', '_')}"

    def call(self, phase: str, line: Val, slot: Val, g: Val, lo: Val, hi: Val) -> None:
        frame, idx = self.fn.args[:2]
        self.fn.call(self.named(phase), [frame, idx, line, slot, g, lo, hi])

    def count(self, phase: str) -> Val:
        """The pieces of a phase."""
        f, (first, _, _) = self.fn, phase.partition(" ")
        most, per = {
            "enter": (self["length"], PIECE), "columns": (self["columns"], self.lanes),
            "rows": (self["rows"], self.lanes), "leave": (self["size"], PIECE),
        }[first]  # fmt: skip
        return f.op("udiv", f.add(most, i64(per - 1)), i64(per))

    def task(self, g: Val) -> None:
        f = self.fn

        def whole(line: Val) -> None:
            for phase in self.chain:
                self.call(phase, line, g, g, i64(0), self.count(phase))

        def choose(t: Val, k: int) -> None:
            line, piece = self.split(t, self["pieces"])

            def this() -> None:
                self.call(self.chain[k], line, line, g, piece, f.add(piece, i64(1)))

            if k == len(self.chain) - 1:
                this()
            else:
                f.if_(f.cmp("eq", self["phase"], i64(k)), this, lambda: choose(t, k + 1))

        f.if_(
            f.cmp("eq", self["phase"], i64(FUSED)),
            lambda: f.loop(g, self["lines"], whole, step=self["groups"]) and None,
            lambda: f.loop(
                g, f.mul(self["lines"], self["pieces"]), lambda t: choose(t, 0), step=self["groups"]
            ) and None,
        )


def emit(
    module: Module, name: str, dtype: DType, kind: str, inverse: bool, halved: bool, chirp: bool, alone: bool,
    unit: bool, width: int,
) -> None:  # fmt: skip
    """The transform of long lines."""
    _Long(module, name, dtype, LongForm(kind, inverse, halved, chirp, alone, unit), width)
