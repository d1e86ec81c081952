"""Native ufuncs for functions that NumPy has none for, compiled from their scalar forms once a program uses them."""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Final

import numpy as np

from tracejit.ir.op import OPS, Op
from tracejit.ir.types import DType, as_dtype, float64
from tracejit.lower.engine import Library
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.ops import frequent
from tracejit.runtime import eager
from tracejit.runtime.background import Background
from tracejit.runtime.cfunctions import keep
from tracejit.runtime.modules import Recipe, await_turn, load

_WIDTH: Final = 8  # elements at a time
_TYPES: Final = ("float32", "float64")
_NO_IDENTITY: Final = -1  # PyUFunc_None
_MAKE: Final = 1  # where PyUFunc_FromFuncAndData is in NumPy's table of the functions of ufuncs


# --- loops ------------------------------------------------------------------------------------------------------
def _types(op: Op) -> list[DType]:
    """The types that an op has loops for; those of single precision are the first, as NumPy wants it."""
    return [d for d in map(as_dtype, _TYPES) if op.result in ("same", d.name)]


def _define_loop(m: Module, op: Op, d: DType) -> None:
    """`loop(args, count, steps, data)`: NumPy's loop over elements that lie anywhere."""
    f = m.function(f"loop_{d.name}", [("args", "ptr"), ("count", "ptr"), ("steps", "ptr"), ("data", "ptr")])
    args, count, steps, _ = f.args
    arity = op.arity or 0
    n, scalar, size = f.load("i64", count), LLVMScalar(f, _WIDTH), i64(d.size)
    places = [f.load("ptr", f.gep(args, 8 * k)) for k in range(arity + 1)]
    apart = [f.load("i64", f.gep(steps, 8 * k)) for k in range(arity + 1)]
    buffers = [f.alloca(_WIDTH * d.size) for _ in range(arity + 1)]
    ty = scalar.memory(d)

    def lines(i: Val) -> None:
        left = f.sub(n, i)
        whole = f.cmp("sge", left, i64(_WIDTH))
        here = []
        for place, step, buffer in zip(places, apart, buffers, strict=True):
            start = f.gep(place, f.mul(i, step))
            here.append((start, step, buffer, f.and_(whole, f.cmp("eq", step, size))))
        for start, step, buffer, direct in here[:arity]:
            f.if_(f.not_(direct), functools.partial(_gather, f, ty, start, step, buffer, left))
        values = [scalar.load(f.select(c, a, b), d, align=d.size) for a, _, b, c in here[:arity]]
        # with twice the digits, as NumPy's steps are: both round to the same number
        result = op.scalar(scalar, *[scalar.cast(v, float64) for v in values])  # type: ignore[misc]
        start, step, buffer, direct = here[arity]
        scalar.store(scalar.cast(result, d), f.select(direct, start, buffer), align=d.size)
        f.if_(f.not_(direct), lambda: _scatter(f, ty, start, step, buffer, left))

    f.loop(0, n, lines, step=_WIDTH)
    f.ret_()


def _gather(f: Fn, ty: str, start: Val, step: Val, buffer: Val, left: Val) -> None:
    """A vector's elements side by side; those beyond the last are that one."""
    last = f.sub(left, i64(1))

    def one(k: Val) -> None:
        at = f.intrinsic("smin", k, last)
        f.store(f.load(ty, f.gep(start, f.mul(at, step)), align=1), f.gep(buffer, k, ty))

    f.loop(0, i64(_WIDTH), one)


def _scatter(f: Fn, ty: str, start: Val, step: Val, buffer: Val, left: Val) -> None:
    def one(k: Val) -> None:
        f.store(f.load(ty, f.gep(buffer, k, ty)), f.gep(start, f.mul(k, step)), align=1)

    f.loop(0, f.intrinsic("smin", left, i64(_WIDTH)), one)


def module_text(name: str) -> str:
    m = Module()
    for d in _types(OPS[name]):
        _define_loop(m, OPS[name], d)
    return m.text()


def recipe(op: Op) -> Recipe:
    return Recipe(module_text, (op.name,), tuple(f"loop_{d.name}" for d in _types(op)), optimize=2, quick=False)


# --- ufuncs -----------------------------------------------------------------------------------------------------
def make_ufunc(op: Op, library: Library) -> np.ufunc:
    """A ufunc of the loops in a module, which live as long as the process."""
    types, count = _types(op), op.arity or 0
    loops = (ctypes.c_void_p * len(types))(*[library[f"loop_{d.name}"] for d in types])
    data = (ctypes.c_void_p * len(types))()
    numbers = b"".join(bytes([d.np.num]) * (count + 1) for d in types)
    texts = ctypes.create_string_buffer(numbers), ctypes.create_string_buffer(op.name.encode())
    held = (library, loops, data, texts)
    keep(held)
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    capsule = importlib.import_module("numpy._core._multiarray_umath")._UFUNC_API
    table = get(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, None)
    address = (ctypes.c_void_p * (_MAKE + 1)).from_address(table)[_MAKE] or 0
    integers, pointers = [ctypes.c_int] * 4, [ctypes.c_void_p] * 2
    kinds = [*[ctypes.c_void_p] * 3, *integers, *pointers, ctypes.c_int]
    make = ctypes.PYFUNCTYPE(ctypes.py_object, *kinds)(address)
    places = [ctypes.addressof(x) for x in (loops, data, texts[0])]
    name = ctypes.addressof(texts[1])
    made: np.ufunc = make(*places, len(types), count, 1, _NO_IDENTITY, name, name, 0)
    expected = [d.np.char * count + "->" + d.np.char for d in types]
    if not isinstance(made, np.ufunc) or made.types != expected:
        raise RuntimeError(f"NumPy makes no ufunc of {op.name}")
    return made


def activate(op: Op) -> bool:
    """Compute an op with native code from now on; False where that is not possible."""
    if eager.unsupported() is not None:
        return False
    try:
        ufunc = make_ufunc(op, load(recipe(op)))
    except (RuntimeError, OSError, ImportError, AttributeError):
        return False  # NumPy computes the same
    frequent.REPLACE[op](ufunc, "".join(d.np.char for d in _types(op)))
    eager.take_ufunc(op, ufunc)
    return True


# --- loading ----------------------------------------------------------------------------------------------------
_background = Background[Op]("formulas", activate, first=lambda op: await_turn(recipe(op)))


def _begin(op: Op) -> None:
    _background.begin(op)


frequent.WHEN_FREQUENT.append(_begin)
