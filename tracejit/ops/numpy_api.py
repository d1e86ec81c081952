"""NumPy's functions on tensors: `np.sum(t, axis=0)` and its like come here through NumPy's protocols.

An argument that a function below does not take raises TypeError, upon which NumPy's own function runs on the values.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.types import as_dtype
from tracejit.ops import array as A
from tracejit.ops import creation, einsum, linalg
from tracejit.ops import elementwise as E
from tracejit.ops import math as M
from tracejit.ops import reduce as R
from tracejit.ops import reductions as D
from tracejit.ops import select as P
from tracejit.ops import shape as S
from tracejit.ops.args import as_axis, operand
from tracejit.ops.define import numpy_name
from tracejit.tensor import NUMPY_FUNCTIONS, NUMPY_UFUNCS, Tensor, convert

NUMPY_UFUNCS |= {
    "matmul": linalg.matmul, "matvec": linalg.matvec, "vecdot": linalg.vecdot, "conjugate": M.conj,
    "square": M.square, "sqrt": M.sqrt,
    "degrees": lambda x: x * (180.0 / np.pi), "rad2deg": lambda x: x * (180.0 / np.pi),
    "radians": lambda x: x * (np.pi / 180.0), "deg2rad": lambda x: x * (np.pi / 180.0),
}  # fmt: skip


# --- reductions -------------------------------------------------------------------------------------------------------
def _reduction(f: Callable[..., Tensor], *names: str) -> None:
    def g(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        return f(operand(a), axis, bool(keepdims))

    numpy_name(*names)(g)


def _sum_like(f: Callable[..., Tensor], name: str) -> None:
    def g(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
        x = operand(a) if dtype is None else operand(a, dtype)
        return f(x, axis, bool(keepdims))

    numpy_name(name)(g)


_sum_like(D.reduce_sum, "sum")
_sum_like(D.reduce_mean, "mean")
_sum_like(D.reduce_prod, "prod")
_reduction(D.reduce_max, "max", "amax")
_reduction(D.reduce_min, "min", "amin")
_reduction(D.reduce_all, "all")
_reduction(D.reduce_any, "any")
_reduction(D.count_nonzero, "count_nonzero")


@numpy_name("var")
def var(a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    y = D.reduce_variance(a, axis, bool(keepdims))
    if not ddof:
        return y
    n = builtins.int(D.count(operand(a), axis))
    return y * (n / (n - ddof))


@numpy_name("std")
def std(a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    return E.sqrt(var(a, axis, ddof=ddof, keepdims=keepdims))


def _position(f: Callable[..., Tensor], name: str) -> None:
    def g(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        x = operand(a)
        if axis is None:
            if keepdims:
                raise TypeError("keepdims needs an axis")
            return f(A.reshape(x, (-1,)), 0)
        y = f(x, axis)
        return A.expand_dims(y, as_axis(axis, x.ndim)) if keepdims else y

    numpy_name(name)(g)


_position(D.argmax, "argmax")
_position(D.argmin, "argmin")


def _running(f: Callable[..., Tensor], *names: str) -> None:
    def g(a: Any, axis: Any = None) -> Tensor:
        return f(A.reshape(a, (-1,)), 0) if axis is None else f(a, axis)

    numpy_name(*names)(g)


_running(D.cumsum, "cumsum")
_running(D.cumprod, "cumprod")


@numpy_name("sort")
def sort(a: Any, axis: Any = -1) -> Tensor:
    return P.sort(A.reshape(a, (-1,)), 0) if axis is None else P.sort(a, axis)


@numpy_name("argsort")
def argsort(a: Any, axis: Any = -1) -> Tensor:
    x, axis = (A.reshape(a, (-1,)), 0) if axis is None else (operand(a), axis)
    return R.argsort(x, axis=as_axis(axis, x.ndim), descending=False)


# --- shapes -----------------------------------------------------------------------------------------------------------
@numpy_name("reshape")
def reshape(a: Any, shape: Any = None, *, newshape: Any = None) -> Tensor:
    return A.reshape(a, newshape if shape is None else shape)


@numpy_name("ravel")
def ravel(a: Any) -> Tensor:
    return A.reshape(a, (-1,))


@numpy_name("transpose", "permute_dims")
def transpose(a: Any, axes: Any = None) -> Tensor:
    return A.transpose(a, axes)


@numpy_name("expand_dims")
def expand_dims(a: Any, axis: Any) -> Tensor:
    x = operand(a)
    if isinstance(axis, int):
        return A.expand_dims(x, axis)
    rank = x.ndim + len(axis)
    new = {as_axis(k, rank) for k in axis}
    old = iter(x.shape)
    return S.reshape(x, shape=tuple([1 if i in new else next(old) for i in builtins.range(rank)]))


@numpy_name("squeeze")
def squeeze(a: Any, axis: Any = None) -> Tensor:
    return A.squeeze(a, axis)


@numpy_name("swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Tensor:
    return A.swapaxes(operand(a), axis1, axis2)


@numpy_name("moveaxis")
def moveaxis(a: Any, source: Any, destination: Any) -> Tensor:
    return A.moveaxis(operand(a), source, destination)


@numpy_name("broadcast_to")
def broadcast_to(array: Any, shape: Any) -> Tensor:
    return A.broadcast_to(array, shape)


@numpy_name("flip")
def flip(m: Any, axis: Any = None) -> Tensor:
    return A.reverse(m, axis)


@numpy_name("roll")
def roll(a: Any, shift: Any, axis: Any = None) -> Tensor:
    x = operand(a)
    if axis is None:
        return A.reshape(A.roll(A.reshape(x, (-1,)), shift, 0), x.shape)
    return A.roll(x, shift, axis)


# --- joining, cutting, repeating --------------------------------------------------------------------------------------
@numpy_name("concatenate", "concat")
def concatenate(arrays: Any, axis: Any = 0) -> Tensor:
    return A.concat([A.reshape(a, (-1,)) for a in arrays] if axis is None else arrays, 0 if axis is None else axis)


@numpy_name("stack")
def stack(arrays: Any, axis: Any = 0) -> Tensor:
    return A.stack(arrays, axis)


def _at_least(a: Any, rank: int) -> Any:
    x = operand(a)
    return S.reshape(x, shape=(*(1,) * (rank - x.ndim), *x.shape)) if x.ndim < rank else x


@numpy_name("vstack")
def vstack(tup: Any) -> Tensor:
    return A.concat([_at_least(a, 2) for a in tup], 0)


@numpy_name("hstack")
def hstack(tup: Any) -> Tensor:
    parts = [_at_least(a, 1) for a in tup]
    return A.concat(parts, 0 if parts[0].ndim == 1 else 1)


@numpy_name("split")
def split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Tensor]:
    x = operand(ary)
    if isinstance(indices_or_sections, int):
        return A.split(x, indices_or_sections, axis)
    n = builtins.int(x.shape[as_axis(axis, x.ndim)])
    at = [0, *[min(builtins.int(i), n) for i in indices_or_sections], n]
    return A.split(x, [b - a for a, b in itertools.pairwise(at)], axis)


@numpy_name("tile")
def tile(array: Any, reps: Any) -> Tensor:
    x = operand(array)
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    return A.tile(x, (1,) * (x.ndim - len(times)) + times)


@numpy_name("repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tensor:
    return A.repeat(a, repeats, axis)


@numpy_name("pad")
def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    x = operand(array)
    if mode not in ("constant", "reflect", "symmetric") or not isinstance(constant_values, (int, float)):
        raise TypeError("left to NumPy")
    return A.pad(x, np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)), mode, constant_values)


# --- picking and the rest ---------------------------------------------------------------------------------------------
@numpy_name("where")
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        raise TypeError("left to NumPy, whose result is a tuple")
    return P.where(condition, x, y)


@numpy_name("take")
def take(a: Any, indices: Any, axis: Any = None) -> Tensor:
    return P.gather(A.reshape(a, (-1,)), indices, axis=0) if axis is None else P.gather(a, indices, axis=axis)


@numpy_name("take_along_axis")
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tensor:
    return P.take_along_axis(arr, indices, axis)


@numpy_name("clip")
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return M.clip_by_value(a, min if a_min is None else a_min, max if a_max is None else a_max)


@numpy_name("round", "around")
def round(a: Any, decimals: int = 0) -> Tensor:
    x = operand(a)
    if not decimals:
        return E.round_(x)
    return E.div(E.round_(E.mul(x, 10.0**decimals)), 10.0**decimals)


@numpy_name("dot")
def dot(a: Any, b: Any) -> Tensor:
    x, y = operand(a), operand(b)
    if not x.ndim or not y.ndim:
        return E.mul(x, y)
    if y.ndim <= 2 and x.ndim <= 2:
        return linalg.tensordot(x, y, 1)
    return linalg.tensordot(x, y, ([x.ndim - 1], [builtins.max(y.ndim - 2, 0)]))


@numpy_name("vdot")
def vdot(a: Any, b: Any) -> Tensor:
    return D.reduce_sum(E.mul(M.conj(A.reshape(a, (-1,))), A.reshape(b, (-1,))))


@numpy_name("inner")
def inner(a: Any, b: Any) -> Tensor:
    x, y = operand(a), operand(b)
    return E.mul(x, y) if not x.ndim or not y.ndim else linalg.tensordot(x, y, ([x.ndim - 1], [y.ndim - 1]))


@numpy_name("norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    t = operand(x)
    if axis is None and ord is not None and t.ndim == 2:
        axis = (0, 1)
    return linalg.norm(t, "euclidean" if ord is None else ord, axis, keepdims)


@numpy_name("meshgrid")
def meshgrid(*xi: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    return tuple(A.meshgrid(*xi, indexing=indexing))


@numpy_name("astype")
def astype(x: Any, dtype: Any) -> Tensor:
    return convert(x, as_dtype(dtype))


def _as_is(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of ours whose arguments are NumPy's, without TensorFlow's `name`."""

    @functools.wraps(f)
    def g(*args: Any) -> Any:
        return f(*args)

    return g


NUMPY_FUNCTIONS |= {
    "einsum": _as_is(einsum.einsum),
    "outer": _as_is(linalg.outer),
    "tensordot": lambda a, b, axes=2: linalg.tensordot(a, b, axes),
    "matmul": _as_is(linalg.matmul),
    "matrix_transpose": _as_is(linalg.matrix_transpose),
    "real": _as_is(M.real),
    "imag": _as_is(M.imag),
    "zeros_like": lambda a, dtype=None: creation.zeros_like(a, dtype),
    "ones_like": lambda a, dtype=None: creation.ones_like(a, dtype),
    "full_like": lambda a, fill_value, dtype=None: creation.full_like(a, fill_value, dtype),
    "copy": _as_is(creation.identity),
}  # fmt: skip

# Functions of matrices, whose file is read when one of them is first called
_OF_MATRICES = """
    cholesky cond cross det diag diagonal eig eigh eigvals eigvalsh inv kron linalg.diagonal linalg.matmul linalg.outer
    linalg.trace linalg.vecdot matrix_norm matrix_power matrix_rank multi_dot pinv qr slogdet solve svd svdvals trace
    tril triu vector_norm
"""


def _later(name: str) -> Callable[..., Any]:
    def f(*args: Any, **kwargs: Any) -> Any:
        importlib.import_module("tracejit.ops.numpy_linalg")
        return NUMPY_FUNCTIONS[name](*args, **kwargs)

    return f


NUMPY_FUNCTIONS |= {name: _later(name) for name in _OF_MATRICES.split()}
