"""Ops without a loop form, as lines of NumPy in generated source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Const, Graph, Node
from tracejit.ir.types import DType
from tracejit.lower.numba_access import Size
from tracejit.lower.numba_expr import wrapped

SizeText = Callable[[Size], str]
REDUCTIONS = {
    "reduce_sum": "sum", "reduce_prod": "prod", "reduce_max": "max", "reduce_min": "min", "reduce_all": "all",
    "reduce_any": "any",
}  # fmt: skip


def tuple_text(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def numpy_type(d: DType) -> str:
    """NumPy's name of an element type."""
    return "ml_dtypes.bfloat16" if d.name == "bfloat16" else "np.bool_" if d.kind == "b" else f"np.{d.name}"


def array_text(a: np.ndarray, d: DType) -> str:
    """An array as a literal that reads back bit by bit."""
    values = a.astype(np.float32).tolist() if d.kind == "f" and d.bits == 16 else a.tolist()
    text = repr(values).replace("nan", "np.nan").replace("inf", "np.inf")
    return f"np.array({text}, {numpy_type(d)})"


def host_lines(n: Node, out: Sequence[str], args: Sequence[str], size: SizeText) -> list[str]:
    """The lines that compute a node's results, named `out`, from arrays."""
    attrs = dict(n.attrs)
    if not out:
        return _call("", n, args, size, "")
    name, y = n.op.name, out[0]
    if name in ("gather", "argmax", "argmin"):
        f = "take" if name == "gather" else name
        return [f"{y} = np.asarray(np.{f}({', '.join(args)}, axis={attrs['axis']}))"]
    if name == "concat":
        return [f"{y} = np.concatenate({tuple_text(args)}, axis={attrs['axis']})"]
    if name in REDUCTIONS:
        dtype = f", dtype={args[0]}.dtype" if name in ("reduce_sum", "reduce_prod") else ""
        return [f"{y} = np.asarray(np.{REDUCTIONS[name]}({args[0]}, axis={attrs['axis']}{dtype}))"]
    if name == "matmul":
        a, b = (f"np.swapaxes({x}, -1, -2)" if attrs.get(t) else x for x, t in zip(args, ("ta", "tb"), strict=True))
        cast = f".astype({args[0]}.dtype)" if n.out.dtype.name == "bfloat16" else ""  # NumPy computes it in float32
        return [f"{y} = np.matmul({a}, {b}){cast}"]
    if name == "place":
        shape = tuple_text([size(d) for d in attrs["shape"]])
        fill = f"np.full({shape}, {attrs['fill']!r}, {numpy_type(n.out.dtype)})"
        return [f"{y} = {fill}", f"{y}[{_slices(attrs, n.inputs[0].shape, size)}] = {args[0]}"]
    if name == "update":
        return [f"{y} = {args[0]}.copy()", f"{y}[{_slices(attrs, n.inputs[1].shape, size)}] = {args[1]}"]
    if name == "scatter_sum":
        shape = tuple_text([size(d) for d in n.out.shape])
        at = ", ".join([":"] * attrs["axis"] + [args[1]])
        return [f"{y} = np.zeros({shape}, {numpy_type(n.out.dtype)})", f"np.add.at({y}, np.s_[{at}], {args[0]})"]
    if len(out) > 1:
        return _call(f"{', '.join(out)} = ", n, args, size, "")
    return _call(f"{y} = np.asarray(", n, args, size, ")")


def _call(before: str, n: Node, args: Sequence[str], size: SizeText, after: str) -> list[str]:
    """A call of the op's own NumPy function."""
    given = [*args, *[f"{k}={attr_text(v, size)}" for k, v in n.attrs]]
    return wrapped("", f'{before}OPS["{n.op.name}"].numpy(', given, f"){after}")


def _slices(attrs: dict[str, Any], sizes: Sequence[Size], size: SizeText) -> str:
    parts = []
    for b, n, s in zip(attrs["start"], sizes, attrs["step"], strict=True):
        end = b + n * s
        last = "" if isinstance(end, int) and end < 0 else size(end)
        parts.append(f"{size(b)}:{last}" + ("" if isinstance(s, int) and s == 1 else f":{size(s)}"))
    return ", ".join(parts) or "()"


def attr_text(x: Any, size: SizeText) -> str:
    """An attribute as source. Raises `ArgumentError` for what has no such form, such as the body of a loop."""
    if isinstance(x, Dim):
        return size(x)
    if isinstance(x, DType):
        return f'as_dtype("{x.name}")'
    if isinstance(x, tuple):
        return tuple_text([attr_text(i, size) for i in x])
    if isinstance(x, (bool, int, float, complex, str, type(None), slice)):
        return repr(x)
    if isinstance(x, np.generic):
        return f"np.{x.dtype.name}({x.item()!r})"
    what = "regions" if isinstance(x, (Graph, Const)) else f"attributes of type {type(x).__name__}"
    raise ArgumentError(f"an op with {what} has no form as Numba source")
