"""The words of random numbers in native code: it takes the place of NumPy's once a program has drawn many eagerly."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from tracejit.lower.engine import Library
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.ops import philox
from tracejit.runtime import layout
from tracejit.runtime.boundary import field, incref, sym
from tracejit.runtime.cfunctions import builtin, complete, keep, of_python
from tracejit.runtime.eager import unsupported
from tracejit.runtime.modules import Recipe, await_turn, load

_FUNCTIONS: Final = ("Py_IncRef",)
_PER: Final = (2, 4)  # elements that share one counter's words


def _rounds(f: Fn, counter: Val, stream: Val, key: Val) -> list[Val]:
    """The four words of a counter, as `philox.philox` computes them."""
    low, half = i64(0xFFFFFFFF), i64(32)

    def halves(x: Val) -> tuple[Val, Val]:
        return f.and_(x, low), f.op("lshr", x, half)

    (c0, c1), (c2, c3), (k0, k1) = halves(counter), halves(stream), halves(key)
    for _ in range(philox.ROUNDS):
        (l0, h0), (l1, h1) = halves(f.mul(c0, i64(philox.M0))), halves(f.mul(c2, i64(philox.M1)))
        c0, c1 = f.xor(f.xor(h1, c1), k0), l1
        c2, c3 = f.xor(f.xor(h0, c3), k1), l0
        k0, k1 = f.and_(f.add(k0, i64(philox.W0)), low), f.and_(f.add(k1, i64(philox.W1)), low)
    return [c0, c1, c2, c3]


def _define_words(m: Module, per: int) -> None:
    """`ptr words(self, args, nargs)` of four arrays of uint64 (the words, the elements' numbers, the key, the stream):
    a C function for Python that writes the first. Neighbours with one counter share what is computed of it."""
    f = m.function(f"words{per}", [("self", "ptr"), ("args", "ptr"), ("nargs", "i64")], "ptr")
    arrays = [f.load("ptr", f.gep(f.args[1], 8 * k)) for k in range(4)]
    out, numbers, key, stream = (field(f, a, layout.ARRAY_DATA) for a in arrays)
    count = f.load("i64", field(f, arrays[0], layout.ARRAY_DIMS))
    k, s = f.load("i64", key), f.load("i64", stream)

    def one(at: Val, last: Val, *words: Val) -> list[Val]:
        place = f.mul(at, i64(8))
        n = f.load("i64", f.gep(numbers, place))
        counter = f.op("lshr", n, i64(per.bit_length() - 1))
        words = tuple(f.if_(f.cmp("eq", counter, last), lambda: list(words), lambda: _rounds(f, counter, s, k)))
        f.store(_picked(f, n, words, per), f.gep(out, place))
        return [counter, *words]

    f.loop(0, count, one, [i64(-1), *[i64(0)] * 4])  # no counter has all bits
    incref(f, sym("tj_none"))
    f.ret_(sym("tj_none"))


def _picked(f: Fn, n: Val, words: tuple[Val, ...], per: int) -> Val:
    """The element's own part of its counter's words."""
    odd = f.cmp("ne", f.and_(n, i64(1)), i64(0))
    a, b, c, d = words
    if per == 2:
        return f.or_(f.select(odd, c, a), f.op("shl", f.select(odd, d, b), i64(32)))
    upper = f.cmp("ne", f.and_(n, i64(2)), i64(0))
    return f.select(upper, f.select(odd, d, c), f.select(odd, b, a))


def module_text() -> str:
    m = Module()
    m.declare("Py_IncRef", "void", ["ptr"])
    m.global_("tj_none", "external global i8")
    for per in _PER:
        _define_words(m, per)
    return m.text()


_RECIPE: Final = Recipe(module_text, (), tuple(f"words{per}" for per in _PER), optimize=2)


def _addresses() -> dict[str, int]:
    return complete(of_python(_FUNCTIONS) | {"tj_none": id(None)}, ("tj_none", *_FUNCTIONS))


def _install(library: Library) -> None:
    keep(library)  # calls may be in it for ever
    for per in _PER:
        philox.NATIVE[per] = _filling(builtin(f"words{per}", library[f"words{per}"]))


def _filling(write: Callable[..., Any]) -> philox.Words:
    def words(numbers: np.ndarray, key: np.ndarray, stream: np.ndarray) -> np.ndarray:
        out = np.empty(numbers.shape, np.uint64)
        if numbers.size <= philox.BLOCK:
            write(out, numbers, key, stream)
            return out
        for at in range(0, numbers.size, philox.BLOCK):  # between which other threads run
            write(out[at : at + philox.BLOCK], numbers[at : at + philox.BLOCK], key, stream)
        return out

    return words


def _improve(code: bytes) -> None:
    _install(Library(code, _RECIPE.exports, _addresses()))


def activate() -> bool:
    """Draw with native code from now on; False where that is not possible."""
    if unsupported() is not None or sys.byteorder != "little":
        return False
    try:
        _install(load(_RECIPE, _addresses(), _improve))
    except (RuntimeError, OSError, ImportError):
        return False  # NumPy computes the same
    return True


def _begin() -> None:
    def work() -> None:
        await_turn(_RECIPE)
        activate()

    try:
        # no daemon: it must not be inside LLVM while the process ends
        threading.Thread(target=work, name="tracejit random numbers").start()
    except RuntimeError:
        pass  # the process is ending, or has all the threads that it may have


philox.WHEN_FREQUENT.append(_begin)
