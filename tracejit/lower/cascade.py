"""Reductions of long ranges as LLVM IR: blocks one after another, their results combined as a balanced tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.lower.llvm import FLOATS, Fn, Val, elem, i64, lanes

LEVELS = 48  # of the tree: there are never so many blocks
Part = Callable[[Val, Val], Sequence[Val]]


def _bytes(ty: str) -> int:
    e = elem(ty)
    bits = FLOATS[e] if e in FLOATS else int(e[1:])
    return max(64, lanes(ty) * max(bits, 8) // 8)


def _zeros(f: Fn, name: str, x: Val) -> Val:
    """How many zeros stand below the lowest or above the highest bit of a number that is not 0."""
    full = f.module.declare(f"llvm.{name}.i64", "i64", ["i64", "i1 immarg"])
    return f.pure(f"call i64 @{full}(i64 {x}, i1 true)", "i64")


class Tree:
    """Results of 1, 2, 4, … blocks that wait for one of their size, those of each level in a place of their own."""

    def __init__(self, f: Fn, ty: str, combine: Callable[[Val, Val], Val]) -> None:
        self.f, self.ty, self.combine = f, ty, combine
        self.room = f.alloca(LEVELS * _bytes(ty))

    def _at(self, level: Val) -> Val:
        return self.f.gep(self.room, self.f.mul(level, i64(_bytes(self.ty))))

    def _with(self, level: Val, acc: Val) -> list[Val]:
        return [self.combine(self.f.load(self.ty, self._at(level)), acc)]

    def push(self, blocks: Val, found: Val) -> None:
        """A block's result joins those of the blocks before it, of which there are so many."""
        level = _zeros(self.f, "cttz", self.f.add(blocks, i64(1)))
        self.f.store(self.f.loop(0, level, self._with, [found])[0], self._at(level))

    def whole(self, blocks: Val, last: Val) -> Val:
        """The last block's result with those of the blocks before it, one at least."""
        f = self.f

        def pop(k: Val, acc: Val) -> Sequence[Val]:
            there = f.and_(f.op("lshr", blocks, k), i64(1))
            return f.if_(f.cmp("ne", there, i64(0)), lambda: self._with(k, acc), lambda: [acc])

        return f.loop(0, f.sub(i64(64), _zeros(f, "ctlz", blocks)), pop, [last])[0]


def cascade(
    f: Fn, lo: Val, hi: Val, block: int, part: Part, trees: Sequence[Tree], neutral: Sequence[Val]
) -> list[Val]:
    """What `part(start, end)` gives for blocks of `block` indices, a power of two, of a range, combined by the trees.

    Rounding errors grow with the logarithm of the number of blocks, as in NumPy's pairwise sums: the bits of the number
    of blocks so far tell which results are waiting. `neutral` is the result of an empty range.
    """
    digits = i64(block.bit_length() - 1)

    def step(start: Val, *last: Val) -> Sequence[Val]:
        end = f.intrinsic("smin", f.add(start, i64(block)), hi)
        found = part(start, end)

        def push() -> None:
            blocks = f.op("lshr", f.sub(start, lo), digits)
            for tree, v in zip(trees, found, strict=True):
                tree.push(blocks, v)

        f.if_(f.cmp("slt", end, hi), push)
        return found

    last = f.loop(lo, hi, step, neutral, step=block)
    size = f.sub(hi, lo)

    def whole() -> Sequence[Val]:
        before = f.op("lshr", f.sub(size, i64(1)), digits)
        return [tree.whole(before, v) for tree, v in zip(trees, last, strict=True)]

    return f.if_(f.cmp("sgt", size, i64(block)), whole, lambda: last)


__all__ = ["Tree", "cascade"]
