"""Arrays whose single elements a native loop reads and writes: which operations pick them, and where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.intervals import Interval
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Node, Value
from tracejit.ir.sizes import is_unit
from tracejit.ir.types import DType, int64
from tracejit.lower.inplace import PICKS
from tracejit.lower.llvm import Fn, Val, i64
from tracejit.lower.scalar import S
from tracejit.lower.scalarcast import literal
from tracejit.lower.scalarmath import LLVMScalar

Size = int | Dim
SizeOf = Callable[[Size], Any]
_HALVES = ("float16", "bfloat16")  # kept wider in registers than between steps of a loop


def plain(v: Value) -> bool:
    """Whether a value's elements are of a type that has one form in registers and in memory, and there may be some."""
    some = not any(type(d) is int and d == 0 for d in v.shape)
    return some and v.dtype.kind in "biuf" and v.dtype.name not in _HALVES


def picks(n: Node, dense: set[Value]) -> bool:
    """Whether a node picks elements of an array by their places. `dense` are those without gaps; it joins if it is."""
    x, out = n.inputs[0], n.out
    name = n.op.name
    if name == "gather":
        if n.inputs[1].shape or not x.shape:
            return False
        if x in dense and n.attr("axis") == 0:
            dense.add(out)
    elif name == "reshape":
        if x in dense:
            dense.add(out)
        elif _beside_units(x.shape) != _beside_units(out.shape):
            return False
    elif name == "broadcast_to":
        return not out.shape
    return name in PICKS


def _beside_units(shape: Sequence[Size]) -> list[Size]:
    return [d for d in shape if not is_unit(d)]


class View:
    """An array in memory: a pointer to its first element, and sizes and strides in elements."""

    __slots__ = ("pointer", "shape", "strides", "dtype")

    def __init__(self, pointer: Val, shape: Sequence[Val], strides: Sequence[Val], dtype: DType) -> None:
        self.pointer, self.shape, self.strides, self.dtype = pointer, list(shape), list(strides), dtype


class Elements:
    """The code for reading and writing elements."""

    def __init__(self, f: Fn, m: LLVMScalar, size: SizeOf) -> None:
        self.f, self.m, self.size = f, m, size

    def whole(self, pointer: Val, v: Value) -> View:
        """A buffer. In one that may have no elements all places lead to a zero that is always there."""
        f = self.f
        shape = [self.size(d) for d in v.shape]
        strides = self._strides(shape)
        if None not in shape and any(isinstance(d, Dim) for d in v.shape):
            total = i64(1)
            for d in shape:
                total = f.mul(total, d)
            none = f.cmp("eq", total, i64(0))
            zero = f.alloca(8, 8)
            f.store(i64(0), zero)
            pointer = f.select(none, zero, pointer)
            strides = [f.select(none, i64(0), s) for s in strides]
        return View(pointer, shape, strides, v.dtype)

    def _strides(self, shape: Sequence[Val]) -> list[Val]:
        out = [i64(1)]
        for d in reversed(shape[1:]):
            out.append(_product(self.f, out[-1], d))
        return out[::-1]

    def pick(self, n: Node, x: Any, rest: Sequence[S], known: Interval) -> Any:
        """What a node that picks elements gives: one element, or an array of them. `known`: where positions lie."""
        if not isinstance(x, View):
            return x  # a single element under another shape
        name = n.op.name
        if name == "gather":
            return self.at(x, n.attr("axis"), self._within(rest[0], x.shape[n.attr("axis")], known))
        if name == "transpose":
            perm = n.attr("perm")
            return View(x.pointer, [x.shape[p] for p in perm], [x.strides[p] for p in perm], x.dtype)
        if name == "slice":
            return self._sliced(n, x)
        return self._reshaped(n, x)

    def at(self, x: View, axis: int, i: Val) -> Any:
        """Position i of an axis: the element, if there is no other axis."""
        p = self.f.gep(x.pointer, _product(self.f, i, x.strides[axis]), self.m.memory(x.dtype))
        rest = [k for k in range(len(x.shape)) if k != axis]
        return self._seen(View(p, [x.shape[k] for k in rest], [x.strides[k] for k in rest], x.dtype))

    def _seen(self, x: View) -> Any:
        return x if x.shape else self.m.load(x.pointer, x.dtype, None)

    def _sliced(self, n: Node, x: View) -> View:
        f, p = self.f, x.pointer
        strides = []
        for b, s, stride in zip(n.attr("start"), n.attr("step"), x.strides, strict=True):
            p = f.gep(p, _product(f, self.size(b), stride), self.m.memory(x.dtype))
            strides.append(_product(f, self.size(s), stride))
        return View(p, [self.size(d) for d in n.attr("size")], strides, x.dtype)

    def _reshaped(self, n: Node, x: View) -> Any:
        before, after = n.inputs[0].shape, n.out.shape
        shape = [self.size(d) for d in after]
        if _beside_units(before) == _beside_units(after):
            kept = iter([s for d, s in zip(before, x.strides, strict=True) if not is_unit(d)])
            strides = [i64(0) if is_unit(d) else next(kept) for d in after]
        else:
            strides = self._strides(shape)
        return self._seen(View(x.pointer, shape, strides, x.dtype))

    def _from_the_front(self, i: S, size: Val, known: Interval) -> Val:
        """A position that is data: a negative one counts from the end."""
        f, at = self.f, self.m.cast(i, int64).v
        if i.dtype.kind == "i" and known[0] < 0:
            at = f.select(f.cmp("slt", at, i64(0)), f.add(at, size), at)
        return at

    def _within(self, i: S, size: Val, known: Interval) -> Val:
        """The same, brought into the axis."""
        f, at = self.f, self._from_the_front(i, size, known)
        if _is_inside(known, size):
            return at
        return f.intrinsic("smax", f.intrinsic("smin", at, f.add(size, i64(-1))), i64(0))

    def put(self, x: View, i: S, v: S, known: Interval) -> View:
        """Write an element, if there is one at this position."""
        f, at = self.f, self._from_the_front(i, x.shape[0], known)
        if _is_inside(known, x.shape[0]):
            self.store(v, x, at)
        else:
            f.if_(f.cmp("ult", at, x.shape[0]), lambda: self.store(v, x, at))
        return x

    def update(self, x: View, v: Any, start: Sequence[Size]) -> View:
        """Write the one element that is at known places of all axes."""
        p = x.pointer
        for b, stride in zip(start, x.strides, strict=True):
            p = self.f.gep(p, _product(self.f, self.size(b), stride), self.m.memory(x.dtype))
        self.m.store(self.m.load(v.pointer, v.dtype, None) if isinstance(v, View) else v, p, None)
        return x

    def store(self, v: S, x: View, i: Val) -> None:
        """Write element i of an array with one axis."""
        p = self.f.gep(x.pointer, _product(self.f, i, x.strides[0]), self.m.memory(x.dtype))
        self.m.store(v, p, None)


def _is_inside(known: Interval, size: Val) -> bool:
    """Whether positions lie on an axis, those that count from its end included."""
    n = literal(size)
    return n is not None and -n <= known[0] and known[1] < n


def _product(f: Fn, a: Val, b: Val) -> Val:
    return b if a == "1" else a if b == "1" else i64(0) if "0" in (a, b) else f.mul(a, b)
