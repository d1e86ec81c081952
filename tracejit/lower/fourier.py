"""Discrete Fourier transforms as LLVM IR: several lines side by side, one in each lane, by Stockham's algorithm.

A line's elements are spread over registers: element k of all lines is a register of real and one of imaginary parts, so
that butterflies of any radix are plain arithmetic on registers and the roots of unity are the same for all lanes.
Real lines of even length are complex ones of half the length. Lengths with large prime factors are convolutions with a
chirp (Bluestein), which take two transforms of a length that has none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracejit.ir.types import DType
from tracejit.lower.butterflies import Pair, Pairs, stages
from tracejit.lower.fourierlines import Lines, Moves
from tracejit.lower.fourierplan import FOURIER, buffer_bytes
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.roots import STAGE, radices
from tracejit.lower.routine import Routine


@dataclass(frozen=True)
class Form:
    """What lines are transformed, and how.

    kind      "whole": complex to complex; "of real": the first half of a real line's; "to real": a real line from that
    inverse   whether the roots are conjugate: then real and imaginary parts change places before and after
    halved    whether real lines are of even length
    chirp     whether the transform is a convolution
    size      of a whole line, where it is known and its prime factors are small; None where tables say what to do
    """

    kind: str
    inverse: bool
    halved: bool
    chirp: bool
    size: int | None

    def swapped(self, v: Pair) -> Pair:
        return (v[1], v[0]) if self.inverse else v


class _Fourier(Routine):
    """`out[o, :, i]` is the transform of `x[o, :, i]`. Task g of `groups` takes sets of lines g, g + groups, …

    The operands `count` and `length` are how long the lines are that are transformed, without and with the zeros of a
    convolution; `half` is how long halves of spectra are; `scale`, by which the result is multiplied, holds the bits
    of a float64. `source` is how the operand's lines lie; those of the result follow each other.
    """

    def __init__(self, module: Module, name: str, dtype: DType, form: Form, width: int, source: Lines) -> None:
        super().__init__(module, name, dtype, *FOURIER)
        self.form, self.width, self.source = form, width, source
        self.target = Lines(source.alone, source.alone, not source.alone)
        self.moves = Moves(self.fn, dtype, width)
        self.word = dtype.size
        n = form.size
        sizes = (n, n // 2 if form.halved else n, n // 2 + 1) if n is not None else (None,) * 3
        self.size, self.count, self.half = (
            self[k] if v is None else i64(v) for k, v in zip(("size", "count", "half"), sizes, strict=True)
        )
        self.real_form = "pairs" if form.halved else "reals"
        self.scale = scale_of(self.moves, self["scale"])
        self.stages = stages(module, dtype, width) if n is None else None
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        bytes_ = f.mul(self["length"], i64(2 * self.width * self.word))
        bytes_ = f.add(bytes_, i64(buffer_bytes(self.dtype, 0, self.width)))
        buffers = f.gep(self["scratch"], f.mul(g, f.mul(bytes_, i64(2))))
        self.buffers = [buffers, f.gep(buffers, bytes_)]
        sets = f.op("udiv", f.add(self["lines"], i64(self.width - 1)), i64(self.width))
        f.loop(g, sets, lambda k: self.lines(f.mul(k, i64(self.width))), step=self["groups"])

    def lines(self, first: Val) -> None:
        """Transform the lines from `first` on."""
        self.first = first
        kind, halved = self.form.kind, self.form.halved
        steps = (self["outer_step"], self["step"], self["inner_step"])
        if kind == "to real":
            read = functools.partial(self.moves.read_lines, "complex", self.half, self.buffers[1], self.entering)
            self.moved(self["x"], steps, self.source, True, read)
            self.spread()
        else:
            form = "complex" if kind == "whole" else self.real_form
            read = functools.partial(self.moves.read_lines, form, self.count, self.buffers[0], self.entering)
            self.moved(self["x"], steps, self.source, form == "complex", read)
        self.result = self.convolved() if self.form.chirp else self.transformed(*self.buffers)
        form, count, final = "complex", self.count, self.final
        if kind == "of real":
            count, final = self.half, self.final_half if halved else self.final
        elif kind == "to real":
            form = self.real_form
        length = self.half if kind == "of real" else self.size
        steps = (self.fn.mul(length, self["inner"]), self["inner"], i64(1))
        write = functools.partial(self.moves.write_lines, form, count, final)
        self.moved(self["out"], steps, self.target, form == "complex", write)

    # --- transforms ---------------------------------------------------------------------------------------------------
    def transformed(self, a: Val, b: Val) -> Val:
        """The transform of what is in buffer a; the result says where it is."""
        f = self.fn
        if self.stages is not None:
            return f.call(self.stages, [a, b, self["table"]], "ptr")
        left, stride, turns = int(self.count), 1, 0
        numbers = radices(left) or []
        roots = f.gep(self["table"], -(-8 * (1 + STAGE * len(numbers)) // 64) * 64)
        for r in numbers:
            left //= r
            self.moves.stage(a, b, r, i64(left), i64(stride), f.gep(roots, i64(turns), self.moves.pair))
            turns += left * (r - 1)
            a, b, stride = b, a, stride * r
        return a

    def convolved(self) -> Val:
        """The transform by way of a convolution with a chirp."""
        f, p = self.fn, self.moves
        chirp, (a, b) = self["chirp"], self.buffers
        kernel = f.gep(chirp, self.count, p.pair)
        f.loop(0, self.count, lambda k: p.put(a, k, p.times(p.get(a, k), p.turn(chirp, k))))
        f.loop(self.count, self["length"], lambda k: p.put(a, k, (p.number(0.0), p.number(0.0))))
        a = self.transformed(a, b)
        b = f.select(f.cmp("eq", a, self.buffers[0]), self.buffers[1], self.buffers[0])

        def multiply(k: Val) -> None:  # the way back is the way there with the parts in each other's places
            p.put(a, k, p.times(p.get(a, k), p.turn(kernel, k))[::-1])

        f.loop(0, self["length"], multiply)
        a = self.transformed(a, b)
        f.loop(0, self.count, lambda k: p.put(a, k, p.times(p.get(a, k)[::-1], p.turn(chirp, k))))
        return a

    # --- halves of spectra --------------------------------------------------------------------------------------------
    def spread(self) -> None:
        """A real line's whole spectrum from the half in the second buffer; or that of its even and odd elements as
        real and imaginary parts.
        """
        f, p, n, swapped = self.fn, self.moves, self.count, self.form.swapped
        to, half = self.buffers

        def one(k: Val) -> None:
            v = p.get(half, k)
            p.put(to, k, swapped(v))
            p.put(to, f.sub(n, k), swapped((v[0], f.fneg(v[1]))))

        def both(k: Val) -> None:
            v = p.parted_halves(p.get(half, k), p.get(half, f.sub(n, k)), p.turn(self["halves"], k))
            p.put(to, k, swapped(v))

        first = p.get(half, i64(0))[0]
        if self.form.halved:
            last = p.get(half, n)[0]
            p.put(to, i64(0), swapped((f.add(first, last), f.sub(first, last))))
            f.loop(1, n, both)
        else:
            p.put(to, i64(0), swapped((first, p.number(0.0))))
            f.loop(1, self.half, one)

    def final(self, k: Val) -> Pair:
        return self.form.swapped(self.moves.scaled(self.moves.get(self.result, k), self.scale))

    def final_half(self, k: Val) -> Pair:
        """Element k of the half of a spectrum, from the transform of the even and the odd elements."""
        f, p, n = self.fn, self.moves, self.count
        v = p.get(self.result, f.select(f.cmp("eq", k, n), i64(0), k))
        back = f.sub(n, k)
        w = p.get(self.result, f.select(f.cmp("eq", back, n), i64(0), back))
        half = f.mul(self.scale, Pairs(f, self.dtype, 1).number(0.5))
        return self.form.swapped(p.scaled(p.joined_halves(v, w, p.turn(self["halves"], k)), half))

    # --- from lines to lanes, and back --------------------------------------------------------------------------------
    def moved(
        self, p: Val, steps: tuple[Val, Val, Val], how: Lines, is_complex: bool, each: Callable[..., None]
    ) -> None:
        """`each` with pointers to all lanes' lines, or with that to the first one where the others are beside it.

        Lanes behind the last line do what its lane does.
        """
        f = self.fn

        def place(line: Val) -> Val:
            index = f.mul(line, steps[0])
            if not how.alone:
                o, i = self.split(line, self["inner"])
                index = f.add(f.mul(o, steps[0]), f.mul(i, steps[2]))
            return f.gep(p, index, self.moves.pair if is_complex else self.moves.ty)

        def apart() -> None:
            last = f.sub(self["lines"], i64(1))
            each([place(self.min(f.add(self.first, i64(k)), last)) for k in range(self.width)], steps[1], how)

        if not how.beside or how.alone or self.width == 1:
            apart()
            return
        after = f.add(self.split(self.first, self["inner"])[1], i64(self.width))
        f.if_(f.cmp("sle", after, self["inner"]), lambda: each([place(self.first)], steps[1], how), apart)

    def entering(self, parts: Sequence[Val]) -> Pair:
        """What a buffer gets; halves of spectra are spread before their parts change places."""
        v = (parts[0], parts[1] if len(parts) > 1 else self.moves.number(0.0))
        return v if self.form.kind == "to real" else self.form.swapped(v)


def scale_of(p: Pairs, bits: Val) -> Val:
    """A factor of the type of the numbers from the bits of a float64."""
    wide = p.fn.cast("bitcast", bits, "double")
    return wide if p.ty == "double" else p.fn.cast("fptrunc", wide, p.ty)


def emit(
    module: Module, name: str, dtype: DType, kind: str, inverse: bool, halved: bool, chirp: bool, size: int | None,
    width: int, alone: bool, unit: bool, beside: bool,
) -> None:  # fmt: skip
    """The transform of lines."""
    _Fourier(module, name, dtype, Form(kind, inverse, halved, chirp, size), width, Lines(alone, unit, beside))
