"""Rows and elements of Variables that are changed by number: the `scatter_*` methods of Variables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.context import activity, context, reading
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.op import Op
from tracejit.ir.sizes import fit, product
from tracejit.ir.types import show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import operand
from tracejit.ops.check import require_index
from tracejit.ops.direct import POSITIONS
from tracejit.ops.flow import foldl
from tracejit.ops.select import coordinates, gather, gather_nd
from tracejit.publicnames import OTHERS
from tracejit.slices import IndexedSlices
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, wrap
from tracejit.variable import _assign

_FEW = 64  # numbers that Python looks at faster than NumPy
_REFERENCES = 3  # to an array that a Variable alone holds: its slot, a local name, and an argument


def _changed(v: Variable, f: Callable[[np.ndarray], Any]) -> Variable:
    """Eagerly: the value after `f` has written to it, in place where nobody else can see the array."""
    if context.told is not None:
        context.told(v)
    a = v._a
    if not (a.flags.owndata and a.flags.writeable and sys.getrefcount(a) == _REFERENCES):
        a = quietly(a.copy)
    quietly(f, a)
    v._a = a
    return v


def _each(op: Op) -> Callable[..., Tensor]:
    """Rows combined with what is there one after another, for operations that have no kernel for it."""

    def combine(x: Operand, i: Tensor, u: Tensor, axis: int) -> Tensor:
        def step(x: Any, row: Any) -> Tensor:
            at = S.reshape(row[0], shape=(1,))
            return I.put(x, at, op(I.gather(x, at, axis=0), S.reshape(row[1], shape=(1, *row[1].shape))), axis=0)

        return foldl(step, (i, u), initializer=E.identity(x))  # type: ignore[no-any-return]

    return combine


def _in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda a, i, u: I.combine_at(ufunc, a, i, u)


_UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
# method → how it combines arrays in place, and values in a trace
_HOW: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "update": (lambda a, i, u: a.__setitem__(i, u), I.put),
    "add": (_in_place(_UFUNCS["add"]), I.add_at),
    "sub": (_in_place(_UFUNCS["sub"]), lambda x, i, u, axis: I.add_at(x, i, E.neg(u), axis=axis)),
    "mul": (_in_place(_UFUNCS["mul"]), I.mul_at),
    "div": (_in_place(_UFUNCS["div"]), _each(E.div)),
    "min": (_in_place(_UFUNCS["min"]), I.min_at),
    "max": (_in_place(_UFUNCS["max"]), I.max_at),
}  # fmt: skip


def _apply(v: Variable, how: str, i: Operand, u: Operand) -> Variable:
    """Rows of the first axis combined with others of the Variable's dtype; the numbers are inside the axis."""
    if how == "div" and v.dtype.kind not in "fc":
        raise locate(DTypeError(f"{v._label()} holds integers, which a quotient is not"))
    eager, traced = _HOW[how]
    if context.trace is None:
        rows, values = i._value("an index"), u._value("updates")
        return _changed(v, lambda a: eager(a, rows, values))
    with reading(None):
        return v.assign(traced(v, i, u, axis=0))


def _at_once(v: Variable, how: str, i: Any, u: Any) -> bool:
    """Combine rows with others if it is simple: eager tensors of the right types and shapes."""
    if type(i) is not Tensor or type(u) is not Tensor or activity.busy or Variable.assign is not _assign:
        return False
    a, rows, values = v._a, i._a, u._a
    if values.dtype is not a.dtype or rows.ndim != 1 or rows.dtype.char not in POSITIONS or not a.ndim:
        return False
    if values.shape != rows.shape + a.shape[1:] or not rows.size or (how == "div" and a.dtype.kind not in "fc"):
        return False
    if how == "update" and (native := fast.put) is not None and values.size > 1:
        return native(v, i, u) is not NotImplemented
    if rows.size <= _FEW:
        numbers = rows.tolist()
        low, high = min(numbers), max(numbers)
    else:
        low, high = rows.min(), rows.max()
    if low < -len(a) or high >= len(a):
        return False
    line, ufunc = a.ndim == 1, _UFUNCS.get(how)
    del a
    if line and ufunc is not None:
        _changed(v, lambda a: ufunc.at(a, rows, values))
    else:
        _changed(v, lambda a: _HOW[how][0](a, rows, values))
    return True


def _flat(i: Operand, u: Operand) -> tuple[Operand, Operand]:
    """Positions of any number of axes, and their rows, as lists."""
    if i.ndim == 1:
        return i, u
    n = product(tuple(i.shape))
    return S.reshape(i, shape=(n,)), S.reshape(u, shape=(n, *u.shape[i.ndim :]))


def _fitting(v: Variable, updates: Any, want: tuple[Any, ...]) -> Operand:
    u = v._fitting_dtype(updates if isinstance(updates, Operand) else convert(updates, v.dtype))
    if u.ndim != len(want) and not u.ndim:
        return S.broadcast_to(u, shape=want)
    if u.ndim != len(want) or not all(map(fit, u.shape, want)):
        raise locate(ShapeError(f"updates of shape {show_shape(u.shape)}, the indices need {show_shape(want)}"))
    return u


def _rows_method(how: str) -> Callable[..., Variable]:
    def method(self: Variable, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Variable:
        if type(sparse_delta) is IndexedSlices and _at_once(self, how, sparse_delta.indices, sparse_delta.values):
            return self
        if not isinstance(sparse_delta, IndexedSlices):
            raise locate(
                ArgumentError(
                    f"scatter_{how} takes tj.IndexedSlices, not {type(sparse_delta).__name__}",
                    remedy=f"v.scatter_{how}(tj.IndexedSlices(rows, indices))",
                )
            )
        i = sparse_delta.indices
        require_index(i, self.shape[0] if self.ndim else 0, 0)
        return _apply(self, how, *_flat(i, _fitting(self, sparse_delta.values, (*i.shape, *self.shape[1:]))))

    return method


def _elements_method(how: str) -> Callable[..., Variable]:
    def method(self: Variable, indices: Any, updates: Any, name: str | None = None) -> Variable:
        if type(indices) is Tensor and type(a := indices._a) is np.ndarray and a.ndim == 2 and a.shape[1] == 1:
            if not activity.busy and _at_once(self, how, wrap(a[:, 0]), updates):
                return self
        at, k = coordinates(indices, tuple(self.shape))
        u = _fitting(self, updates, (*at.shape, *self.shape[k:]))
        i, u = _flat(at, u)
        if k == 1:
            return _apply(self, how, i, u)
        lead, rest = product(tuple(self.shape[:k])), tuple(self.shape[k:])
        if context.trace is None:
            eager, numbers, values = _HOW[how][0], i._value("an index"), u._value("updates")
            return _changed(self, lambda a: eager(a.reshape((lead, *rest)), numbers, values))
        flat = S.reshape(E.cast(self, dtype=self.dtype), shape=(lead, *rest))
        return self.assign(S.reshape(_HOW[how][1](flat, i, u, axis=0), shape=tuple(self.shape)))

    return method


def _batch_scatter_update(
    self: Variable, sparse_delta: Any, use_locking: bool = False, name: str | None = None
) -> Variable:
    """`v[b, indices[b, k]] = values[b, k]` for each b, of as many axes as `indices` has before its last."""
    i, u = operand(sparse_delta.indices), sparse_delta.values
    b = i.ndim - 1
    lead = [S.reshape(S.iota(shape=(n,), axis=0, dtype=i.dtype), shape=tuple(n if j == k else 1 for j in range(b + 1)))
            for k, n in enumerate(i.shape[:b])]  # fmt: skip
    parts = [S.reshape(S.broadcast_to(x, shape=tuple(i.shape)), shape=(*i.shape, 1)) for x in (*lead, i)]
    return _elements_method("update")(self, S.concat(*parts, axis=b + 1), u)


def _sparse_read(self: Variable, indices: Any, name: str | None = None) -> Tensor:
    """The rows with these numbers."""
    return gather(self, indices, axis=0)


def _gather_nd(self: Variable, indices: Any, name: str | None = None) -> Tensor:
    """The elements or slices at the coordinates in the last axis of `indices`."""
    return gather_nd(self, indices)


_WORDS = {
    "update": "replaced by", "add": "increased by", "sub": "decreased by", "mul": "multiplied by", "div": "divided by",
    "min": "replaced by the smaller of them and", "max": "replaced by the larger of them and",
}  # fmt: skip
_METHODS: dict[str, Callable[..., Any]] = {
    "batch_scatter_update": _batch_scatter_update, "sparse_read": _sparse_read, "gather_nd": _gather_nd,
}  # fmt: skip
for _how, _words in _WORDS.items():
    _f = _METHODS[f"scatter_{_how}"] = _rows_method(_how)
    _f.__doc__ = f"The rows `sparse_delta.indices` are {_words} `sparse_delta.values`, one after another."
for _how in ("update", "add", "sub", "min", "max"):
    _f = _METHODS[f"scatter_nd_{_how}"] = _elements_method(_how)
    _f.__doc__ = f"What is at the coordinates in the last axis of `indices` is {_WORDS[_how]} `updates`."
for _name, _f in _METHODS.items():
    _f.__name__, _f.__qualname__ = _name, f"Variable.{_name}"
    setattr(Variable, _name, _f)
OTHERS += [(f"v.{_name}", _f) for _name, _f in _METHODS.items()]
