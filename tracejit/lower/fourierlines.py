"""Lines of elements that lie anywhere as registers with one line in each lane, and back, as LLVM IR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracejit.lower.butterflies import Pair, Pairs
from tracejit.lower.llvm import Val, i64, vec
from tracejit.lower.pack import transpose

Enter = Callable[[Sequence[Val]], Pair]  # what a buffer gets for the parts of an element


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


class Moves(Pairs):
    """Buffers filled from lines, and lines from buffers; `lines` are pointers to all lanes' lines, or to the first one
    where the others are beside it."""

    def places(self, p: Val, k: Val, step: Val, form: str) -> list[Val]:
        """Pointers to the parts of element k of a line; "pairs" are real elements two by two."""
        f = self.fn
        if form == "complex":
            first = f.gep(p, f.mul(k, step), self.pair)
            return [first, f.gep(first, 1, self.ty)]
        if form == "reals":
            return [f.gep(p, f.mul(k, step), self.ty)]
        twice = f.mul(k, i64(2))
        return [f.gep(p, f.mul(f.add(twice, i64(j)), step), self.ty) for j in (0, 1)]

    def block(self, how: Lines, form: str) -> int:
        """Elements of a line that fill a register of 64 bytes, where lines are read and written in such pieces."""
        return 64 // (2 * self.word) if how.unit and form != "reals" and self.width % 8 == 0 else 0

    def read_lines(
        self, form: str, count: Val, to: Val, enter: Enter, lines: list[Val], step: Val, how: Lines
    ) -> None:
        f, w = self.fn, self.width
        direct = len(lines) < w  # from the first lane's line on
        at_once = 0 if direct else self.block(how, form)
        whole = f.and_(count, i64(-at_once))
        if at_once:
            f.loop(0, whole, lambda k: self.read_block(lines, k, to, enter), step=at_once)

        def one(k: Val) -> None:
            self.put(to, k, enter(self.parts(lines, step, form, k, direct)))

        f.loop(whole, count, one)

    def parts(self, lines: list[Val], step: Val, form: str, k: Val, direct: bool) -> list[Val]:
        f, w = self.fn, self.width
        if direct:
            where = self.places(lines[0], k, step, form)
            if form == "complex":
                return [*self.deal(f.load(vec(self.ty, 2 * w), where[0], self.word))]
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

    def read_block(self, lines: list[Val], k: Val, to: Val, enter: Enter) -> None:
        f, narrow = self.fn, self.word == 4
        at = [f.gep(p, k, self.pair) for p in lines]
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
            self.put(to, f.add(k, i64(j)), enter(parts))

    def write_lines(
        self, form: str, count: Val, final: Callable[[Val], Pair], lines: list[Val], step: Val, how: Lines
    ) -> None:
        f, w = self.fn, self.width
        direct = len(lines) < w
        at_once = 0 if direct else self.block(how, form)
        whole = f.and_(count, i64(-at_once))
        if at_once:
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
                f.store(row, f.gep(p, k, self.pair), self.word)
