"""Butterflies of Fourier transforms as LLVM IR: complex numbers as pairs of registers, stages by Stockham's way."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from tracejit.ir.types import DType
from tracejit.lower.engine import Library
from tracejit.lower.llvm import Fn, Module, Val, const, i64, vec
from tracejit.lower.roots import PRIMES, STAGE, root
from tracejit.runtime import modules

Pair = tuple[Val, Val]
RADICES = (4, *PRIMES)
RARE = (7, 11, 13)  # of which there is no shorter form for the last stage, whose roots are 1


class Pairs:
    """Arithmetic on complex numbers, a register of real and one of imaginary parts; buffers hold both in turn."""

    def __init__(self, fn: Fn, dtype: DType, width: int) -> None:
        self.fn, self.width, self.word = fn, width, dtype.size
        self.ty = "float" if dtype.bits == 32 else "double"
        self.vector, self.pair = vec(self.ty, width), f"[2 x {self.ty}]"

    # --- memory -------------------------------------------------------------------------------------------------------
    def _at(self, buffer: Val, k: Val) -> tuple[Val, Val]:
        place = self.fn.gep(buffer, self.fn.mul(k, i64(2 * self.width)), self.ty)
        return place, self.fn.gep(place, self.width * self.word)

    def get(self, buffer: Val, k: Val) -> Pair:
        """Element k of all lines in a buffer."""
        f, (a, b) = self.fn, self._at(buffer, k)
        return f.load(self.vector, a, self.width * self.word), f.load(self.vector, b, self.width * self.word)

    def put(self, buffer: Val, k: Val, v: Pair) -> None:
        for x, p in zip(v, self._at(buffer, k), strict=True):
            self.fn.store(x, p, self.width * self.word)

    def deal(self, both: Val) -> Pair:
        """The real and the imaginary parts of numbers that follow each other."""
        f, w = self.fn, self.width
        parts = [f.shuffle(both, both, range(j, 2 * w, 2)) for j in (0, 1)]
        return (parts[0], parts[1]) if w > 1 else (f.extract(parts[0], 0), f.extract(parts[1], 0))

    def read(self, p: Val, k: Val) -> Pair:
        """Numbers k, k + 1, … of those that follow each other, one in each lane."""
        f = self.fn
        place = f.gep(p, k, self.pair)
        if self.width == 1:
            return f.load(self.ty, place, self.word), f.load(self.ty, f.gep(place, 1, self.ty), self.word)
        return self.deal(f.load(vec(self.ty, 2 * self.width), place, self.word))

    def write(self, p: Val, k: Val, v: Pair) -> None:
        f, w = self.fn, self.width
        place = f.gep(p, k, self.pair)
        if w == 1:
            f.store(v[0], place, self.word)
            f.store(v[1], f.gep(place, 1, self.ty), self.word)
        else:
            f.store(f.shuffle(*v, [i // 2 + w * (i % 2) for i in range(2 * w)]), place, self.word)

    def back(self, v: Pair) -> Pair:
        """The lanes in the other order."""
        if self.width == 1:
            return v
        order = range(self.width - 1, -1, -1)
        return self.fn.shuffle(v[0], v[0], order), self.fn.shuffle(v[1], v[1], order)

    def turn(self, p: Val, k: Val | int = 0) -> Pair:
        """Number k of a table, in every lane."""
        f = self.fn
        place = f.gep(p, k, self.pair)
        c, s = (f.load(self.ty, f.gep(place, j, self.ty), self.word) for j in (0, 1))
        return f.splat(c, self.width), f.splat(s, self.width)

    # --- arithmetic ---------------------------------------------------------------------------------------------------
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

    def scaled(self, v: Pair, by: Val) -> Pair:
        by = self.fn.splat(by, self.width)
        return self.fn.mul(v[0], by), self.fn.mul(v[1], by)

    def turned(self, v: Pair) -> Pair:
        """−i·v."""
        return v[1], self.fn.fneg(v[0])

    def odd_of(self, v: Pair, w: Pair) -> Pair:
        """−i·(v − w*), twice the transform of the odd elements."""
        f = self.fn
        return f.add(v[1], w[1]), f.sub(w[0], v[0])

    def even_of(self, v: Pair, w: Pair) -> Pair:
        """v + w*, twice the transform of the even elements."""
        f = self.fn
        return f.add(v[0], w[0]), f.sub(v[1], w[1])

    def joined_halves(self, v: Pair, w: Pair, turn: Pair) -> Pair:
        """Twice element k of a real line's spectrum, from elements k and −k of that of the even and odd elements."""
        return self.add(self.even_of(v, w), self.times(self.odd_of(v, w), turn))

    def parted_halves(self, v: Pair, w: Pair, turn: Pair) -> Pair:
        """The way back: the spectrum of the even and odd elements from elements k and n / 2 − k of a real line's."""
        f = self.fn
        (a, b), (c, d) = v, w
        odd = self.times((f.sub(a, c), f.add(b, d)), (turn[0], f.fneg(turn[1])))
        return f.sub(f.add(a, c), odd[1]), f.add(f.sub(b, d), odd[0])

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

    def stage(self, x: Val, y: Val, r: int, m: Val, stride: Val, roots: Val) -> None:
        """y[q + s·(r·p + j)] = wʲᵖ·Σ ω_rʲᵏ·x[q + s·(p + m·k)], w the root of r·m; for each p there are wᵖ, w²ᵖ, …"""
        f, last = self.fn, m == "1"

        def at(p: Val) -> None:
            turns = [] if last else [self.turn(roots, f.add(f.mul(p, i64(r - 1)), i64(j))) for j in range(r - 1)]
            first = f.mul(p, stride)
            to, gap = f.mul(first, i64(r)), f.mul(stride, m)

            def one(q: Val) -> None:
                source, target = f.add(q, first), f.add(q, to)
                parts = [self.get(x, f.add(source, f.mul(gap, i64(k)))) for k in range(r)]
                for j, v in enumerate(self.butterfly(parts)):
                    place = f.add(target, f.mul(stride, i64(j)))
                    self.put(y, place, self.times(v, turns[j - 1]) if turns and j else v)

            f.loop(0, stride, one) if stride != "1" else one(i64(0))

        f.loop(0, m, at) if not last else at(i64(0))


def stages(module: Module, dtype: DType, width: int) -> str:
    """The name of a function `ptr (ptr a, ptr b, ptr table)`, declared in the module.

    It transforms all lines in buffer a, in the stages that the table tells; its result says where they are then.
    """
    return module.declare(_name(dtype, width), "ptr", ["ptr"] * 3)


def _name(dtype: DType, width: int) -> str:
    return f"tj_stages_{dtype.name}_{width}"


def library(dtype: DType, width: int) -> str:
    """The text of the module with that function."""
    module = Module()
    f = module.function(_name(dtype, width), [("a", "ptr"), ("b", "ptr"), ("table", "ptr")], "ptr")
    v = Pairs(f, dtype, width)
    a, b, table = f.args

    def step(k: Val, x: Val, y: Val) -> list[Val]:
        head = f.gep(table, f.add(f.mul(k, i64(8 * STAGE)), i64(8)))
        r, m, stride, at = (f.load("i64", f.gep(head, 8 * j), 8) for j in range(STAGE))
        roots = f.gep(table, at)

        def of(radix: int) -> None:
            turned = functools.partial(v.stage, x, y, radix, m, stride, roots)
            if radix in RARE:
                turned()
            else:
                f.if_(f.cmp("eq", m, i64(1)), lambda: v.stage(x, y, radix, i64(1), stride, roots), turned)

        def choose(which: Sequence[int]) -> None:
            if len(which) == 1:
                of(which[0])
            else:
                f.if_(f.cmp("eq", r, i64(which[0])), lambda: of(which[0]), lambda: choose(which[1:]))

        choose(RADICES)
        return [y, x]

    f.ret_(f.loop(0, f.load("i64", table, 8), step, [a, b])[0])
    return module.text()


def _recipe(dtype: DType, width: int) -> modules.Recipe:
    return modules.Recipe(library, (dtype, width), (_name(dtype, width),), quick=False)


@functools.cache
def _load(dtype: DType, width: int) -> Library:
    return modules.load(_recipe(dtype, width))


def symbols(dtype: DType, width: int) -> dict[str, int]:
    """The address for linking what calls the function."""
    return _load(dtype, width).addresses


def compile_ahead(kinds: Iterable[tuple[DType, int]]) -> None:
    """Let another thread compile what `symbols` is about to load, if it is not on disk."""
    modules.compile_ahead(_recipe(*k) for k in kinds if k not in _begun)
    _begun.update(kinds)


_begun: set[tuple[DType, int]] = set()
