"""Matrix products with epilogues: C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n] for any sizes and strides.

Sums are kept in the operands' type, float32 for the 16-bit types, and rounded at every addition; k is summed in blocks
whose size depends on m, n, k and the batch only. A product with one column is better given as its transpose, with one
row; a batch that shares one B is better given as more rows, where the rows of A are evenly spaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from tracejit.ir.types import DType
from tracejit.lower import gemmplan, nested
from tracejit.lower.engine import Library
from tracejit.lower.gemm import OPERANDS, STEPS, exports, library, operand
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.microkernel import Tiles, column_mask, tiles
from tracejit.runtime import memory, modules

FINISH = ("frame", "idx", "tile", "tile_row", "rows", "cols", "batch", "row", "col")  # what finishes tiles is given


@dataclass(frozen=True)
class StepInfo:
    """A kernel of a product; the steps run one after another, and one without tasks is skipped.

    `tasks` and `grain` take (m, n, k, batch), perhaps `seen`: the number of tasks, and how many together are enough
    work for a thread.
    """

    name: str
    tasks: Callable[..., int]
    grain: Callable[..., int]


class Epilogue(Protocol):
    """What becomes of the sums; it is called while the function that finishes tiles is generated.

    `fn.args[0]` and `fn.args[1]` are the kernel's frame and idx. `prepare` is called once at the start of a function.
    `emit` gets the complete sums of C[batch, row, col : col + width]; of a ragged end only the lanes in `mask` count.
    `destination` gives (pointer, row stride, batch stride), strides in elements, if all that the epilogue does is
    storing rows of the product's own type: tiles are then written there without calling it. Else it gives None.
    """

    def prepare(self, fn: Fn) -> None: ...

    def emit(self, fn: Fn, acc: Val, batch: Val, row: Val, col: Val, mask: Val | None, width: int) -> None: ...

    def destination(self, fn: Fn) -> tuple[Val, Val, Val] | None: ...


class StoreEpilogue:
    """Stores the product. Its operands, from `first` on: pointer, row stride, batch stride (in elements)."""

    def __init__(self, dtype: DType, first: int = len(OPERANDS)) -> None:
        self.dtype, self.first = dtype, first

    def prepare(self, fn: Fn) -> None:
        self.out, self.row, self.batch = self._load(fn)

    def _load(self, fn: Fn) -> tuple[Val, Val, Val]:
        frame, idx = fn.args[:2]
        out = operand(fn, frame, idx, self.first, "ptr")
        return out, operand(fn, frame, idx, self.first + 1), operand(fn, frame, idx, self.first + 2)

    def emit(self, fn: Fn, acc: Val, batch: Val, row: Val, col: Val, mask: Val | None, width: int) -> None:
        at = fn.add(fn.add(fn.mul(batch, self.batch), fn.mul(row, self.row)), col)
        p = fn.gep(self.out, at, self.dtype.llvm)
        if self.dtype.bits == 16:
            acc = fn.cast("fptrunc", acc, f"<{width} x {self.dtype.llvm}>")
        if mask is None:
            fn.store(acc, p, self.dtype.size)
        else:
            fn.masked_store(acc, p, mask, self.dtype.size)

    def destination(self, fn: Fn) -> tuple[Val, Val, Val] | None:
        return None if self.dtype.bits == 16 else self._load(fn)


def emit(
    module: Module, name: str, dtype: DType, epilogue: Epilogue, first_operand: int = 0, level: str | None = None,
    two_loops: bool = False,
) -> list[StepInfo]:  # fmt: skip
    """Add the kernels of a product of `dtype` to `module`. The module must be linked with `symbols(dtype, level)`.

    Operands from `first_operand` on: see `OPERANDS`; strides in elements, `scratch` of `scratch_bytes(…)`. With
    `two_loops` the batch takes two loops, and what is in `nested.OUTER` follows.
    """
    t = tiles(dtype, level)
    _finish(module, f"{name}_finish", t, epilogue)
    if two_loops:
        nested.inside(module, name, FINISH)
    for kind in STEPS:
        _entry(module, name, kind, t, epilogue, first_operand, two_loops)
    return [
        StepInfo(f"{name}_{kind}", partial(gemmplan.tasks, t, kind), partial(gemmplan.grain, t, kind))
        for kind in STEPS
    ]


def scratch_bytes(
    dtype: DType, m: int, n: int, k: int, batch: int, level: str | None = None, seen: int = 0
) -> int:
    """Bytes that the operand `scratch` must have, aligned to 64; 0 for most sizes."""
    return gemmplan.scratch_bytes(tiles(dtype, level), m, n, k, batch, seen)


@cache
def symbols(dtype: DType, level: str | None = None) -> dict[str, int]:
    """Addresses for linking the kernels of `dtype`: of the library, which is compiled once and kept on disk."""
    return _load(dtype, level).addresses


def compile_ahead(dtype: DType) -> None:
    """Let another thread compile the library that `symbols` is about to load, if it is not on disk."""
    if dtype not in _begun:
        _begun.add(dtype)
        modules.compile_ahead([_recipe(dtype, None)])


_begun: set[DType] = set()


def _recipe(dtype: DType, level: str | None) -> modules.Recipe:
    t = tiles(dtype, level)
    return modules.Recipe(library, (t,), tuple(exports(t)), quick=False)


@cache
def _load(dtype: DType, level: str | None) -> Library:
    return modules.load(_recipe(dtype, level), imports())


def imports() -> dict[str, int]:
    """Addresses of what the library calls."""
    return {"tj_alloc": memory.address_alloc(), "tj_free": memory.address_free()}


def _entry(module: Module, name: str, kind: str, t: Tiles, epilogue: Epilogue, first: int, two_loops: bool) -> None:
    """A kernel that hands its tasks to the library's step, with the function that finishes tiles."""
    fn = module.function(f"{name}_{kind}", [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    frame, idx, lo, hi = fn.args
    own, dest = fn.gep(idx, 4 * first), epilogue.destination(fn) if kind == "compute" else None
    if dest is not None:
        size = i64(t.size)
        dest = dest[0], fn.mul(dest[1], size), fn.mul(dest[2], size)
    if two_loops:
        nested.entry(module, name, kind, t, dest, first)
        return
    nested.hand_on(fn, t, kind, [frame, own, lo, hi], (Val(f"@{name}_finish", "ptr"), idx), dest)
    fn.ret_()


def _finish(module: Module, name: str, t: Tiles, epilogue: Epilogue) -> None:
    """The function that runs the epilogue over a tile of complete sums."""
    pointers = ("frame", "idx", "tile")
    fn = module.function(name, [(n, "ptr" if n in pointers else "i64") for n in FINISH], internal=True)
    _, _, tile, tile_row, rows, cols, batch, row, col = fn.args
    epilogue.prepare(fn)

    def column(j: Val, mask: Val | None) -> None:
        def body(r: Val, p: Val) -> list[Val]:
            acc = fn.load(t.vector, p, t.size)
            epilogue.emit(fn, acc, batch, fn.add(row, r), fn.add(col, j), mask, t.width)
            return [fn.gep(p, tile_row)]

        fn.loop(0, rows, body, [fn.gep(tile, j, t.compute)])

    whole = fn.and_(cols, i64(-t.width))
    fn.loop(0, whole, lambda j: column(j, None), step=t.width)
    fn.if_(fn.cmp("slt", whole, cols), lambda: column(whole, column_mask(fn, fn.sub(cols, whole), 0, t.width)))
    fn.ret_()
