"""Matrices in panels as LLVM IR: columns in strips of one register, rows of a strip one after the other.

A panel's row is 64 bytes, so that a walk down its rows is a walk through memory. What factors and solves is made of
tiles: HEIGHT rows of a panel in registers, from which products of what is above are subtracted, and which then may be
solved for by the square of the triangle that stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType
from tracejit.lower.llvm import Fn, Module, Val, const, i64, vec
from tracejit.lower.matrixplan import HEIGHT, ROW, lanes_of
from tracejit.lower.pack import transpose
from tracejit.lower.routine import Mask, Routine
from tracejit.lower.scalar import S

Rest = Callable[[Fn, list[Val]], list[Val]]


class Tile:
    """The rows of a tile in the registers of a function: row r lies at `c` + `step` bytes times r."""

    def __init__(self, fn: Fn, dtype: DType, c: Val, step: int) -> None:
        self.fn, self.ty, self.width, self.step, self.c = fn, dtype.llvm, lanes_of(dtype), step, c
        self.vector = vec(self.ty, self.width)
        self.rows = [fn.load(self.vector, self.at(r), ROW) for r in range(HEIGHT)]

    def at(self, r: int) -> Val:
        return self.fn.gep(self.c, r * self.step)

    def number(self, p: Val, index: Val | int) -> Val:
        """One element in every lane."""
        f = self.fn
        return f.splat(f.load(self.ty, f.gep(p, index, self.ty), ROW // self.width), self.width)

    def subtract(self, left: list[Val], along: int | Val, b: Val, first: Val, count: Val, offset: Val) -> None:
        """Subtract Σ left[r][offset + k·along] · b[first + k], k < count; rows of `b` are `step` bytes apart."""
        f = self.fn

        def one(k: Val, *rows: Val) -> list[Val]:
            x = f.load(self.vector, f.gep(b, f.mul(f.add(first, k), i64(self.step))), ROW)
            at, x = f.add(offset, f.mul(k, i64(along) if isinstance(along, int) else along)), f.fneg(x)
            return [f.fma(self.number(p, at), x, v) for p, v in zip(left, rows, strict=True)]

        self.rows = f.loop(0, count, one, self.rows)

    def solve(self, element: Callable[[int, int], Val], divide: bool) -> None:
        """Solve for the rows: `element(r, s)` of the lower triangle beside them, whose diagonal may count as 1."""
        f, rows = self.fn, self.rows
        for s in range(HEIGHT):
            if divide:
                rows[s] = f.fdiv(rows[s], element(s, s))
            below = f.fneg(rows[s])
            for r in range(s + 1, HEIGHT):
                rows[r] = f.fma(element(r, s), below, rows[r])

    def store(self) -> None:
        for r, v in enumerate(self.rows):
            self.fn.store(v, self.at(r), ROW)


def function(module: Module, dtype: DType, kind: str, params: str, body: Callable[[Fn], None], ret: str = "void") -> Fn:
    """A function of the module that several routines call; parameters that are single letters are pointers."""
    key = ("panels", kind, dtype.name)
    found = module.shared.get(key)
    if found is None:
        named = [(p, "ptr" if len(p) == 1 else "i64") for p in params.split()]
        found = module.function(f"panels.{dtype.name}.{len(module.shared)}", named, ret, internal=True)
        module.shared[key] = found
        body(found)
    return found


def within_panels(module: Module, dtype: DType, kind: str) -> Fn:
    """Tiles beside triangles that lie in panels of `size` bytes.

    "update"     subtract the product of `depth` elements beside the tile and rows from `b` on
    "forward"    then solve by the unit lower triangle beside the tile
    "backward"   the same by an upper triangle; rows go up and columns to the left
    """
    width = lanes_of(dtype)
    back = -1 if kind == "backward" else 1

    def body(f: Fn) -> None:
        c, a, b, depth, size = f.args
        tile = Tile(f, dtype, c, back * ROW)
        left = [f.gep(a, back * ROW * r) for r in range(HEIGHT)]
        panel = f.op("sdiv", size, i64(back * dtype.size))

        def chunk(first: Val, offset: Val, *rows: Val) -> list[Val]:
            tile.rows = list(rows)
            count = f.intrinsic("smin", f.sub(depth, first), i64(width))
            tile.subtract(left, back, b, first, count, offset)
            return [f.add(offset, panel), *tile.rows]

        _, *tile.rows = f.loop(0, depth, chunk, [i64(0), *tile.rows], step=width)
        if kind != "update":
            whole = f.op("udiv", depth, i64(width))
            rest = f.sub(depth, f.mul(whole, i64(width)))
            beside = f.add(f.mul(whole, panel), f.mul(rest, i64(back)))
            tile.solve(lambda r, s: tile.number(left[r], f.add(beside, i64(back * s))), kind == "backward")
        tile.store()
        f.ret_()

    return function(module, dtype, kind, "c a b depth size", body)


class Panels(Routine):
    """A routine on matrices that it keeps in panels."""

    def __init__(self, module: Module, name: str, dtype: DType, pointers: str, sizes: str) -> None:
        super().__init__(module, name, dtype, pointers, sizes)
        self.module, self.ty = module, dtype.llvm
        self.vector = vec(self.ty, self.width)
        self.ints = vec("i64", self.width)

    def number(self, value: float) -> Val:
        return const(self.ty, value)

    def read(self, p: Val) -> Val:
        return self.fn.load(self.ty, p, self.dtype.size)

    def place(self, panels: Val, size: Val, i: Val, j: Val) -> Val:
        """Pointer to element (i, j) of a matrix in panels of `size` bytes."""
        f = self.fn
        panel, lane = self.split(j, i64(self.width))
        row = f.gep(panels, f.add(f.mul(panel, size), f.mul(i, i64(ROW))))
        return f.gep(row, lane, self.ty)

    def row(self, p: Val, step: Val, unit: bool, mask: Mask) -> Val:
        """Elements from `p` on, `step` apart."""
        m = self.mv
        return (m.load(p, self.dtype, mask) if unit else m.gather(p, step, self.dtype, mask)).v

    def clear(self, panel: Val, first: Val, last: Val) -> None:
        """Rows of zeros."""
        f = self.fn
        f.loop(first, last, lambda i: f.store(const(self.vector, 0), f.gep(panel, f.mul(i, i64(ROW))), ROW))

    def columns(self, count: Val, body: Callable[[Val, Val, Mask], None]) -> None:
        """`body` for each panel of `count` columns: its number, its first column, and which lanes are columns."""
        f = self.fn

        def one(j: Val, mask: Mask) -> None:
            body(f.op("udiv", j, i64(self.width)), j, mask)

        self.vectors(i64(0), count, one)

    def block(self, p: Val, step: Val, rows: Val, mask: Val) -> list[Val]:
        """A square of elements, transposed: rows of memory `step` apart, of which those behind `rows` are not read."""
        f = self.fn
        lines = [self.min(i64(r), f.sub(rows, i64(1))) for r in range(self.width)]
        loaded = [self.mv.load(self.element(p, f.mul(r, step)), self.dtype, mask).v for r in lines]
        return transpose(f, loaded)

    def put(self, rows: Val, panel: Val, to: Val, step: Val, mask: Mask) -> None:
        """Write the rows of a panel to memory, `step` elements from row to row; all of them have to be finite."""
        f = self.fn
        zero = const(self.vector, 0)

        def one(i: Val, seen: Val) -> list[Val]:
            v = f.load(self.vector, f.gep(panel, f.mul(i, i64(ROW))), ROW)
            self.mv.store(S(v, self.dtype), self.element(to, f.mul(i, step)), mask)
            return [f.fma(v, zero, seen)]

        (seen,) = f.loop(0, rows, one, [zero])
        word = f"i{self.width}"
        self.refuse(f.cmp("ne", f.cast("bitcast", f.cmp("uno", seen, zero), word), const(word, 0)))

    def refuse(self, bad: Val) -> None:
        """Leave it to the host what becomes of this call."""
        f = self.fn
        f.if_(bad, lambda: f.store(const("i8", 0), self["flag"], 1))
