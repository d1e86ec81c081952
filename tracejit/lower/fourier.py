"""Discrete Fourier transforms as LLVM IR: several lines side by side, one in each lane, by Stockham's algorithm.

A line's elements are spread over registers: element k of all lines is a register of real and one of imaginary parts, so
that butterflies of any radix are plain arithmetic on registers and the roots of unity are the same for all lanes.
Real lines of even length are complex ones of half the length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracejit.ir.types import DType
from tracejit.lower.llvm import Module, Val, const, i64, vec
from tracejit.lower.pack import transpose
from tracejit.lower.routine import Routine

FOURIER = ("out x scratch", "lines inner outer_step step inner_step groups")
PRIMES = (2, 3, 5, 7)
LONGEST = 8192  # elements of a line: two copies of LANES lines should fit into a core's cache
Pair = tuple[Val, Val]


def radices(n: int) -> list[int] | None:
    """The sizes of the butterflies, those of 4 first; None if a prime factor is too large."""
    out = []
    for r in (4, *PRIMES):
        while n % r == 0:
            out.append(r)
            n //= r
    return out if n == 1 else None


def lanes_for(dtype: DType, lines: int | None) -> int:
    """How many lines are side by side, so that two threads have something to do; `lines` is None if not known."""
    most = 16 if dtype.bits == 32 else 8
    while lines is not None and most > 1 and 2 * most > lines:
        most //= 2
    return most


def root(k: int, n: int) -> tuple[float, float]:
    """e^(−2πi·k / n), from an angle within an eighth of a turn."""
    turns = (8 * (k % n) // n + 1) // 2  # quarters
    angle = 2 * math.pi * (4 * (k % n) - turns * n) / (4 * n)
    c, s = math.cos(angle), -math.sin(angle)
    for _ in range(turns):
        c, s = s, -c  # times −i, a quarter of a turn
    return c, s


@dataclass(frozen=True)
class Lines:
    """How lines lie in memory.

    alone    whether there is one line for each o
    unit     whether a line's elements lie next to each other
    beside   whether the lines of one o lie next to each other
    """

    alone: bool
    unit: bool
    beside: bool


class _Fourier(Routine):
    """`out[o, :, i]` is the transform of `x[o, :, i]`. Task g of `groups` takes sets of lines g, g + groups, …

    kind      "whole": complex to complex; "of real": the first half of a real line's; "to real": a real line from that
    size      of a whole line
    inverse   whether the roots are conjugate: then real and imaginary parts change places before and after
    scale     by which the result is multiplied
    source    how the operand's lines lie; those of the result follow each other
    """

    def __init__(
        self, module: Module, name: str, dtype: DType, kind: str, size: int, inverse: bool, scale: float, width: int,
        source: Lines,
    ) -> None:  # fmt: skip
        super().__init__(module, name, dtype, *FOURIER)
        self.kind, self.size, self.inverse, self.scale, self.width = kind, size, inverse, scale, width
        self.source, self.target = source, Lines(source.alone, source.alone, not source.alone)
        self.ty = "float" if dtype.bits == 32 else "double"
        self.vector, self.word = vec(self.ty, width), dtype.size
        self.halved = kind != "whole" and size % 2 == 0
        self.count = size // 2 if self.halved else size
        self.real_form = "pairs" if self.halved else "reals"
        self.stages = radices(self.count) or []
        self.roots = self._table(module, f"{name}_roots")
        self.run(self.task)

    def _table(self, module: Module, name: str) -> Val:
        """For each stage and p the powers 1, 2, … of its root, one behind the other; then those of the whole line's."""
        numbers, left = [0.0], self.count
        for r in self.stages:
            for p in range(left // r):
                for j in range(1, r):
                    numbers += root(j * p, left)
            left //= r
        self.own = len(numbers)
        for k in range(self.count + 1 if self.halved else 0):
            numbers += root(k, self.size)
        text = ", ".join(f"{self.ty} {const(self.ty, v)}" for v in numbers)
        return module.global_(name, f"internal constant [{len(numbers)} x {self.ty}] [{text}], align 64")

    def task(self, g: Val) -> None:
        f = self.fn
        bytes_ = buffer_bytes(self.dtype, self.size, self.width)
        buffers = f.gep(self["scratch"], f.mul(g, i64(2 * bytes_)))
        self.buffers = [buffers, f.gep(buffers, bytes_)]
        sets = f.op("udiv", f.add(self["lines"], i64(self.width - 1)), i64(self.width))
        f.loop(g, sets, lambda k: self.lines(f.mul(k, i64(self.width))), step=self["groups"])

    def lines(self, first: Val) -> None:
        """Transform the lines from `first` on."""
        self.first = first
        steps = (self["outer_step"], self["step"], self["inner_step"])
        half = self.size // 2 + 1
        if self.kind == "to real":
            read = functools.partial(self.read, "complex", half, self.buffers[1])
            self.moved(self["x"], steps, self.source, True, read)
            self.spread()
        else:
            form = "complex" if self.kind == "whole" else self.real_form
            read = functools.partial(self.read, form, self.count, self.buffers[0])
            self.moved(self["x"], steps, self.source, form == "complex", read)
        at, left, stride, roots = 0, self.count, 1, 1
        for r in self.stages:
            self.stage(self.buffers[at], self.buffers[1 - at], r, left // r, stride, roots)
            roots += 2 * (r - 1) * (left // r)
            at, left, stride = 1 - at, left // r, stride * r
        self.result = self.buffers[at]
        form, count, final = "complex", self.count, self.final
        if self.kind == "of real":
            count, final = half, self.final_half if self.halved else self.final
        elif self.kind == "to real":
            form = self.real_form
        length = half if self.kind == "of real" else self.size
        steps = (self.fn.mul(i64(length), self["inner"]), self["inner"], i64(1))
        write = functools.partial(self.write, form, count, final)
        self.moved(self["out"], steps, self.target, form == "complex", write)

    # --- butterflies --------------------------------------------------------------------------------------------------
    def stage(self, x: Val, y: Val, r: int, m: int, stride: int, roots: int) -> None:
        """y[q + s·(r·p + j)] = wʲᵖ·Σ ω_rʲᵏ·x[q + s·(p + m·k)], w the root of r·m."""
        f = self.fn

        def at(p: Val) -> None:
            turns = [self.turn(p, r, roots, j) for j in range(1, r)] if m > 1 else []

            def one(q: Val) -> None:
                source = f.add(q, f.mul(p, i64(stride)))
                parts = [self.element_at(x, f.add(source, i64(stride * m * k))) for k in range(r)]
                target = f.add(q, f.mul(p, i64(stride * r)))
                for j, v in enumerate(self.butterfly(parts)):
                    self.put(y, f.add(target, i64(stride * j)), self.times(v, turns[j - 1]) if turns and j else v)

            f.loop(0, stride, one) if stride > 1 else one(i64(0))

        f.loop(0, m, at) if m > 1 else at(i64(0))

    def turn(self, p: Val, r: int, roots: int, j: int) -> Pair:
        f = self.fn
        place = f.gep(self.roots, f.add(f.mul(p, i64(2 * (r - 1))), i64(roots + 2 * (j - 1))), self.ty)
        c, s = (f.load(self.ty, f.gep(place, k, self.ty), self.word) for k in (0, 1))
        return f.splat(c, self.width), f.splat(s, self.width)

    def element_at(self, buffer: Val, k: Val) -> Pair:
        f = self.fn
        place = f.gep(buffer, f.mul(k, i64(2 * self.width)), self.ty)
        align = self.width * self.word
        return f.load(self.vector, place, align), f.load(self.vector, f.gep(place, align), align)

    def put(self, buffer: Val, k: Val, v: Pair) -> None:
        f = self.fn
        place = f.gep(buffer, f.mul(k, i64(2 * self.width)), self.ty)
        align = self.width * self.word
        f.store(v[0], place, align)
        f.store(v[1], f.gep(place, align), align)

    def number(self, value: float) -> Val:
        return self.fn.splat(const(self.ty, value), self.width)

    def times(self, v: Pair, w: Pair) -> Pair:
        f = self.fn
        (a, b), (c, s) = v, w
        return f.fma(a, c, f.fneg(f.mul(b, s))), f.fma(a, s, f.mul(b, c))

    def add(self, v: Pair, w: Pair) -> Pair:
        return self.fn.add(v[0], w[0]), self.fn.add(v[1], w[1])

    def sub(self, v: Pair, w: Pair) -> Pair:
        return self.fn.sub(v[0], w[0]), self.fn.sub(v[1], w[1])

    def butterfly(self, x: Sequence[Pair]) -> list[Pair]:
        """The transform of a few numbers."""
        f = self.fn
        if len(x) == 2:
            return [self.add(*x), self.sub(*x)]
        if len(x) == 4:
            (even, gap), (odd, other) = [(self.add(x[i], x[i + 2]), self.sub(x[i], x[i + 2])) for i in (0, 1)]
            low = f.add(gap[0], other[1]), f.sub(gap[1], other[0])
            high = f.sub(gap[0], other[1]), f.add(gap[1], other[0])
            return [self.add(even, odd), low, self.sub(even, odd), high]
        r, half = len(x), len(x) // 2
        sums = [self.add(x[j], x[r - j]) for j in range(1, half + 1)]
        gaps = [self.sub(x[j], x[r - j]) for j in range(1, half + 1)]
        out: list[Pair] = [functools.reduce(self.add, sums, x[0])] * r
        for k in range(1, half + 1):
            near, far = x[0], None
            for j in range(half):
                c, s = (self.number(v) for v in root((j + 1) * k, r))
                near = f.fma(sums[j][0], c, near[0]), f.fma(sums[j][1], c, near[1])
                a, b = gaps[j]
                far = (f.mul(a, s), f.mul(b, s)) if far is None else (f.fma(a, s, far[0]), f.fma(b, s, far[1]))
            assert far is not None
            out[k] = f.sub(near[0], far[1]), f.add(near[1], far[0])
            out[r - k] = f.add(near[0], far[1]), f.sub(near[1], far[0])
        return out

    # --- halves of spectra --------------------------------------------------------------------------------------------
    def spread(self) -> None:
        """A real line's whole spectrum from the half in the second buffer; or that of its even and odd elements as
        real and imaginary parts.
        """
        f, half, n = self.fn, self.buffers[1], self.count

        def one(k: Val) -> None:
            v = self.element_at(half, k)
            self.put(self.buffers[0], k, self.swapped(v))
            self.put(self.buffers[0], f.sub(i64(n), k), self.swapped((v[0], f.fneg(v[1]))))

        def both(k: Val) -> None:
            (a, b), (c, d) = self.element_at(half, k), self.element_at(half, f.sub(i64(n), k))
            turn = self.turn_of_line(k)
            odd = self.times((f.sub(a, c), f.add(b, d)), (turn[0], f.fneg(turn[1])))
            whole = f.sub(f.add(a, c), odd[1]), f.add(f.sub(b, d), odd[0])
            self.put(self.buffers[0], k, self.swapped(whole))

        first, zero = self.element_at(half, i64(0))[0], self.number(0.0)
        if self.halved:
            last = self.element_at(half, i64(n))[0]
            self.put(self.buffers[0], i64(0), self.swapped((f.add(first, last), f.sub(first, last))))
            f.loop(1, n, both)
        else:
            self.put(self.buffers[0], i64(0), self.swapped((first, zero)))
            f.loop(1, n // 2 + 1, one)

    def turn_of_line(self, k: Val) -> Pair:
        f = self.fn
        place = f.gep(self.roots, f.add(f.mul(k, i64(2)), i64(self.own)), self.ty)
        c, s = (f.load(self.ty, f.gep(place, j, self.ty), self.word) for j in (0, 1))
        return f.splat(c, self.width), f.splat(s, self.width)

    def final(self, k: Val) -> Pair:
        return self.scaled(self.element_at(self.result, k), self.scale)

    def final_half(self, k: Val) -> Pair:
        """Element k of the half of a spectrum, from the transform of the even and the odd elements."""
        f, n = self.fn, i64(self.count)
        a, b = self.element_at(self.result, f.select(f.cmp("eq", k, n), i64(0), k))
        back = f.sub(n, k)
        c, d = self.element_at(self.result, f.select(f.cmp("eq", back, n), i64(0), back))
        odd = self.times((f.add(b, d), f.sub(c, a)), self.turn_of_line(k))
        return self.scaled((f.add(f.add(a, c), odd[0]), f.add(f.sub(b, d), odd[1])), 0.5 * self.scale)

    def scaled(self, v: Pair, by: float) -> Pair:
        a, b = v
        if by != 1.0:
            a, b = self.fn.mul(a, self.number(by)), self.fn.mul(b, self.number(by))
        return self.swapped((a, b))

    def swapped(self, v: Pair) -> Pair:
        return (v[1], v[0]) if self.inverse else v

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
            return f.gep(p, index, f"[2 x {self.ty}]" if is_complex else self.ty)

        def apart() -> None:
            last = f.sub(self["lines"], i64(1))
            each([place(self.min(f.add(self.first, i64(k)), last)) for k in range(self.width)], steps[1], how)

        if not how.beside or how.alone or self.width == 1:
            apart()
            return
        after = f.add(self.split(self.first, self["inner"])[1], i64(self.width))
        f.if_(f.cmp("sle", after, self["inner"]), lambda: each([place(self.first)], steps[1], how), apart)

    def places(self, p: Val, k: Val, step: Val, form: str) -> list[Val]:
        """Pointers to the parts of element k of a line; "pairs" are real elements two by two."""
        f = self.fn
        if form == "complex":
            first = f.gep(p, f.mul(k, step), f"[2 x {self.ty}]")
            return [first, f.gep(first, 1, self.ty)]
        if form == "reals":
            return [f.gep(p, f.mul(k, step), self.ty)]
        twice = f.mul(k, i64(2))
        return [f.gep(p, f.mul(f.add(twice, i64(j)), step), self.ty) for j in (0, 1)]

    def block(self, how: Lines, form: str) -> int:
        """Elements of a line that fill a register of 64 bytes, where lines are read and written in such pieces."""
        return 64 // (2 * self.word) if how.unit and form != "reals" and self.width % 8 == 0 else 0

    def read(self, form: str, count: int, to: Val, lines: list[Val], step: Val, how: Lines) -> None:
        f, w = self.fn, self.width
        direct = len(lines) < w  # from the first lane's line on
        at_once = 0 if direct else self.block(how, form)
        whole = count - count % at_once if at_once else 0
        if whole:
            f.loop(0, whole, lambda k: self.read_block(lines, k, to), step=at_once)

        def one(k: Val) -> None:
            self.put(to, k, self.entering(self.parts(lines, step, form, k, direct), form))

        if whole < count:
            f.loop(whole, count, one)

    def entering(self, parts: list[Val], form: str) -> Pair:
        """What a buffer gets; halves of spectra are spread before their parts change places."""
        v = (parts[0], parts[1] if len(parts) > 1 else self.number(0.0))
        return v if self.kind == "to real" else self.swapped(v)

    def parts(self, lines: list[Val], step: Val, form: str, k: Val, direct: bool) -> list[Val]:
        f, w = self.fn, self.width
        if direct:
            where = self.places(lines[0], k, step, form)
            if form == "complex":
                both = f.load(vec(self.ty, 2 * w), where[0], self.word)
                return [f.shuffle(both, both, range(j, 2 * w, 2)) for j in (0, 1)]
            return [f.load(self.vector, p, self.word) for p in where]
        each = [[f.load(self.ty, q, self.word) for q in self.places(p, k, step, form)] for p in lines]
        return [self.joined([x[j] for x in each]) for j in range(len(each[0]))]

    def joined(self, numbers: list[Val]) -> Val:
        if self.width == 1:
            return numbers[0]
        v = Val("poison", self.vector)
        for lane, x in enumerate(numbers):
            v = self.fn.pure(f"insertelement {v.ty} {v}, {x.ty} {x}, i32 {lane}", v.ty)
        return v

    def read_block(self, lines: list[Val], k: Val, to: Val) -> None:
        f, narrow = self.fn, self.word == 4
        at = [f.gep(p, k, f"[2 x {self.ty}]") for p in lines]
        squares = [
            transpose(f, [f.load("<8 x double>", p, self.word) for p in at[first : first + 8]])
            for first in range(0, self.width, 8)
        ]
        for j in range(64 // (2 * self.word)):
            if narrow:
                words = [f.cast("bitcast", s[j], "<16 x float>") for s in squares]
                parts = [f.shuffle(words[0], words[-1], range(part, 2 * self.width, 2)) for part in (0, 1)]
            else:
                parts = squares[0][2 * j : 2 * j + 2]
            self.put(to, f.add(k, i64(j)), self.entering(parts, "complex"))

    def write(
        self, form: str, count: int, final: Callable[[Val], Pair], lines: list[Val], step: Val, how: Lines
    ) -> None:
        f, w = self.fn, self.width
        direct = len(lines) < w
        at_once = 0 if direct else self.block(how, form)
        whole = count - count % at_once if at_once else 0
        if whole:
            f.loop(0, whole, lambda k: self.write_block(lines, k, final), step=at_once)

        def one(k: Val) -> None:
            parts = final(k)
            if direct and form == "complex":
                both = f.shuffle(*parts, [i // 2 + w * (i % 2) for i in range(2 * w)])
                f.store(both, self.places(lines[0], k, step, form)[0], self.word)
                return
            for lane, p in enumerate(lines):
                for v, q in zip(parts, self.places(p, k, step, form)):
                    f.store(v if direct or w == 1 else f.extract(v, lane), q, self.word)

        if whole < count:
            f.loop(whole, count, one)

    def write_block(self, lines: list[Val], k: Val, final: Callable[[Val], Pair]) -> None:
        f, w, narrow = self.fn, self.width, self.word == 4
        rows: list[list[Val]] = [[] for _ in range(0, w, 8)]
        for j in range(64 // (2 * self.word)):
            a, b = final(f.add(k, i64(j)))
            if not narrow:
                rows[0] += [a, b]
                continue
            for i, square in enumerate(rows):
                both = f.shuffle(a, b, [8 * i + lane // 2 + w * (lane % 2) for lane in range(16)])
                square.append(f.cast("bitcast", both, "<8 x double>"))
        for i, square in enumerate(rows):
            for p, row in zip(lines[8 * i : 8 * i + 8], transpose(f, square), strict=True):
                f.store(row, f.gep(p, k, f"[2 x {self.ty}]"), self.word)


def buffer_bytes(dtype: DType, size: int, width: int) -> int:
    """Memory for the registers of one set of lines; a set has two such buffers."""
    return -(-2 * (size + 1) * width * dtype.size // 64) * 64


def emit(
    module: Module, name: str, dtype: DType, kind: str, size: int, inverse: bool, scale: float, width: int, alone: bool,
    unit: bool, beside: bool,
) -> None:  # fmt: skip
    """The transform of lines of `size` elements."""
    _Fourier(module, name, dtype, kind, size, inverse, scale, width, Lines(alone, unit, beside))
