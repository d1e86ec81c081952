"""What native code is told of NumPy: the loops of its ufuncs, the element types, and which types meet in which."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tracejit.conversion import _floating
from tracejit.ir.op import Op
from tracejit.ir.types import ALL, DType, promote, promote_weak
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import TYPES, Element, Number, Promote, Row
from tracejit.runtime.loops import FLOATING, KINDS, PROMOTIONS, UNKNOWN, WEAK
from tracejit.runtime.recast import HALF, PAIRS, TAKEN, recasts
from tracejit.tensor import NUMPY_UFUNCS

# Ops whose kernels are functions around a ufunc: all but that of `matmul` for floats only.
WRAPPED: Final[dict[str, np.ufunc]] = {
    "pow": np.power, "matmul": np.matmul, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc,
}  # fmt: skip
MADE: Final[dict[str, np.ufunc]] = {}  # ufuncs of our own, of ops that have been frequent
_ROUNDED: Final = {"pow", "atan2", "logaddexp"}  # the other ops on two operands are exact or rounded correctly
# PyUFuncObject
_NIN, _NOUT, _LOOPS, _LOOP_DATA, _LOOP_COUNT, _LOOP_TYPES = 16, 20, 32, 40, 48, 64


# --- NumPy's loops ----------------------------------------------------------------------------------------------
def ufunc_of(op: Op) -> np.ufunc | None:
    """The ufunc that computes an op, if one does."""
    if (found := WRAPPED.get(op.name) or MADE.get(op.name)) is not None:
        return found
    return op.numpy if isinstance(op.numpy, np.ufunc) else None


def _number_of(char: str) -> int:
    return int(np.dtype(char).num)


def loops(ufunc: np.ufunc) -> dict[int, tuple[int, int, int]]:
    """For type numbers that all operands may have: the loop, its data, and the type number of the result."""
    at, n = id(ufunc), ufunc.ntypes
    if (layout.half(at + _NIN), layout.half(at + _NOUT), layout.half(at + _LOOP_COUNT)) != (ufunc.nin, ufunc.nout, n):
        return {}
    if ufunc.nout != 1:
        return {}
    numbers = ctypes.string_at(layout.word(at + _LOOP_TYPES), n * ufunc.nargs)
    expected = [_number_of(c) for t in ufunc.types for c in t.replace("->", "")]
    if list(numbers) != expected:
        return {}
    functions, data = layout.word(at + _LOOPS), layout.word(at + _LOOP_DATA)
    found: dict[int, tuple[int, int, int]] = {}
    for k in range(n):
        *inputs, result = numbers[k * ufunc.nargs : (k + 1) * ufunc.nargs]
        if len(set(inputs)) == 1 and inputs[0] < TYPES and result < TYPES:
            loop = layout.word(functions + 8 * k)
            found.setdefault(inputs[0], (loop, layout.word(data + 8 * k) if data else 0, result))
    return found


def elements() -> list[DType]:
    """The element types whose loops are taken, of those that NumPy itself has."""
    return [d for d in ALL if d.np.num < TYPES and d.np.isbuiltin == 1]


def types_table() -> Any:
    table = (ctypes.c_int64 * (Element.WORDS * TYPES))()
    for d in elements():
        at = Element.WORDS * d.np.num
        table[at + Element.DESCR] = id(d.np)
        table[at + Element.SIZE] = d.size
        table[at + Element.DTYPE] = id(d)
        if d.kind in "iu":
            table[at + Element.NUMBER] = Number.INTEGER
            table[at + Element.LOW], table[at + Element.HIGH] = int(d.min), min(int(d.max), 2**63 - 1)
        elif d.name in ("float32", "float64"):
            table[at + Element.NUMBER] = Number.FLOAT if d.bits == 32 else Number.DOUBLE
        elif d.kind == "c":
            table[at + Element.NUMBER] = Number.COMPLEX_FLOAT if d.bits == 64 else Number.COMPLEX_DOUBLE
    return table


def fill_row(table: Any, number: int, op: Op, kinds: str) -> None:
    """Write the loops of an op for types of these kinds into its row."""
    at = Row.WORDS * number
    table[at + Row.ROUNDED] = op.name in _ROUNDED
    table[at + Row.PROMOTE] = {"common": Promote.COMMON, "float": Promote.FLOAT}.get(op.promote, Promote.NEVER)
    table[at + Row.COMPARES] = op.result == "bool"
    ufunc = ufunc_of(op)
    found = {} if ufunc is None else loops(ufunc)
    kind = {int(d.np.num): d.kind for d in elements()}
    for n, (loop, data, result) in found.items():
        if n in kind and kind[n] in kinds and result in kind:
            at = Row.WORDS * number + Row.LOOPS + 3 * n
            table[at : at + 3] = [loop, data, result]


def promotions() -> Any:
    """The table of promotions, for types that native code can convert where it must."""
    table = (ctypes.c_uint8 * PROMOTIONS)(*[UNKNOWN] * PROMOTIONS)
    types = elements()

    def put(at: int, to: DType, *given: DType) -> None:
        if all(d is to or recasts(d.name, to.name) for d in given):
            table[at] = int(to.np.num)

    for a in types:
        n = int(a.np.num)
        for b in types:
            put(TYPES * n + int(b.np.num), promote(a, b), a, b)
        for k, kind in enumerate(KINDS):
            put(WEAK + TYPES * k + n, promote_weak(a, kind), a)
        put(FLOATING + n, _floating(a, False), a)
    return table


def dtype_names() -> tuple[Any, list[object]]:
    """Objects that stand for the types that native code converts to, each with its number; and what holds them."""
    kept: list[object] = []
    words: list[int] = []
    types = [d for d in elements() if d.name in (*TAKEN, *PAIRS, HALF)]
    for objects in zip(*[(d, sys.intern(d.name), d.np.type, d.np) for d in types], strict=True):
        for d, x in zip(types, objects, strict=True):
            kept.append(x)
            words += [id(x), int(d.np.num)]
    return (ctypes.c_int64 * (len(words) + 1))(*words, 0), kept


def ufuncs_table(rows: Mapping[Op, int]) -> Any:
    """NumPy's ufuncs that stand for operations, each with the address of the operation's row and its operands."""
    words: list[int] = []
    for name, op in NUMPY_UFUNCS.items():
        ufunc = getattr(np, name, None)
        if isinstance(op, Op) and op in rows and isinstance(ufunc, np.ufunc) and ufunc.__name__ == name:
            words += [id(ufunc), rows[op], op.arity or 0]
    return (ctypes.c_int64 * (len(words) + 1))(*words, 0)
