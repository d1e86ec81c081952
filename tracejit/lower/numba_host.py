"""Ops without a loop form, as lines of NumPy in generated source."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import Formatter
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError
from tracejit.ir.graph import Node
from tracejit.ir.types import DType
from tracejit.lower.numba_access import Size
from tracejit.lower.numba_expr import WIDTH, negated
from tracejit.lower.numba_matrices import MATRICES, matrix_lines
from tracejit.ops.check import ERRORS
from tracejit.ops.index import COMBINED

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
    """The lines that compute a node's result, named `out`, from arrays."""
    attrs = dict(n.attrs)
    name, y = n.op.name, out[0] if out else ""
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
    if name in ("fft", "rfft", "irfft"):
        return _transform(n, y, args[0], size)
    if name in MATRICES:
        return matrix_lines(n, out, args)
    if name in OPAQUE:
        return OPAQUE[name](n, y, *args)
    if name == "positions":
        return [f"{y} = np.flatnonzero({args[0]})"]
    if name == "count_up":
        return [f"{y} = np.arange(max(0, int({args[0]})))"]
    if name == "tell":
        return [f"{y} = np.empty((max(0, int({args[0]})), 0), np.bool_)"]
    if name == "top_k":
        return [*_order(n, y, _comparable(n, args[0]), True), f"{y} = {y}[..., :{size(n.out.shape[-1])}]"]
    raise ArgumentError(f"{name} has no form as Numba source")


# --- running sums, orders ---------------------------------------------------------------------------------------------
def _running(n: Node, y: str, x: str) -> list[str]:
    """cumsum and cumprod: exclusive ones begin with zeros or ones, reversed ones run over flipped axes."""
    axis, back, start = n.attr("axis"), n.attr("reverse"), "zeros" if n.op.name == "cumsum" else "ones"
    own = numpy_type(n.out.dtype)

    def run(x: str) -> str:
        text = f"np.{n.op.name}({f'np.flip({x}, {axis})' if back else x}, axis={axis}, dtype={own})"
        return f"np.flip({text}, {axis})" if back else text

    if not n.attr("exclusive"):
        return [f"{y} = {run(x)}"]
    all_but_last, all_but_first = _at(axis, ":-1"), _at(axis, "1:")
    to, of = (all_but_last, all_but_first) if back else (all_but_first, all_but_last)
    return [f"{y} = np.{start}_like({x})", f"{y}{to} = {run(x + of)}"]


def _at(axis: int, part: str) -> str:
    return f"[{', '.join([':'] * axis + [part])}]"


def _comparable(n: Node, x: str) -> str:
    """16-bit floats as float32, which NumPy puts in order where there are NaNs."""
    d = n.inputs[0].dtype
    return f"{x}.astype(np.float32)" if d.kind == "f" and d.bits == 16 else x


def _argsort(n: Node, y: str, x: str) -> list[str]:
    return _order(n, y, _comparable(n, x), n.attr("descending"))


def _order(n: Node, y: str, x: str, descending: bool) -> list[str]:
    axis = n.attr("axis")
    if not descending:
        return [f'{y} = np.argsort({x}, axis={axis}, kind="stable")']
    last = f"{x}.shape[{axis}] - 1"
    return [
        "# the reversed array in ascending order, read backwards, keeps equal elements in their order",
        f'{y} = {last} - np.flip(np.argsort(np.flip({x}, {axis}), axis={axis}, kind="stable"), {axis})',
    ]


def _sort(n: Node, y: str, x: str) -> list[str]:
    axis, given = n.attr("axis"), _comparable(n, x)
    text = f"np.sort({given}, axis={axis})"
    if n.attr("descending"):
        text = f"np.flip({text}, {axis})"
    return [f"{y} = {text}" if given == x else f"{y} = {text}.astype({numpy_type(n.out.dtype)})"]


def _put(n: Node, y: str, x: str, i: str, v: str) -> list[str]:
    return [f"{y} = {x}.copy()", f"{y}{_at(n.attr('axis'), i)} = {v}"]


def _search(n: Node, y: str, s: str, v: str) -> list[str]:
    side = '"right"' if n.attr("right") else '"left"'
    s, v = (x if _comparable(n, x) == x else f"{x}.astype(np.float32)" for x in (s, v))
    if len(n.inputs[0].shape) == 1:
        return [f"{y} = np.searchsorted({s}, {v}, {side})"]
    return [
        f"{y} = np.empty({v}.shape, np.int64)",
        f"for at in np.ndindex({y}.shape[:-1]):",
        f"    {y}[at] = np.searchsorted({s}[at], {v}[at], {side})",
    ]


def _bitcast(n: Node, y: str, x: str) -> list[str]:
    """Whole lines: the new last axis is split off, or the old one joined, afterwards."""
    have, want = n.inputs[0].dtype.size, n.out.dtype.size
    flat = f"np.ascontiguousarray({x}).reshape(-1).view({numpy_type(n.out.dtype)})"
    shape = f"{x}.shape" if have == want else f"(*{x}.shape, {have // want})" if have > want else f"{x}.shape[:-1]"
    return [f"{y} = {flat}.reshape({shape})"]


_UFUNCS = {"add": "add", "mul": "multiply", "max": "maximum", "min": "minimum"}


def _combined_at(n: Node, y: str, x: str, i: str, v: str) -> list[str]:
    f = _UFUNCS[COMBINED[n.op.name]]
    return [f"{y} = {x}.copy()", f"np.{f}.at({y}, np.s_{_at(n.attr('axis'), i)}, {v})"]


OPAQUE: dict[str, Callable[..., list[str]]] = {
    "cumsum": _running, "cumprod": _running, "argsort": _argsort, "sort": _sort, "put": _put, "search": _search,
    "bitcast": _bitcast,
    **dict.fromkeys(COMBINED, _combined_at),
}  # fmt: skip


# --- Fourier transforms -----------------------------------------------------------------------------------------------
def _transform(n: Node, y: str, x: str, size: SizeText) -> list[str]:
    """A function of np.fft; they refuse to transform nothing."""
    axes, norm = n.attr("axes"), n.attr("norm")
    name = f"i{n.op.name}" if dict(n.attrs).get("inverse") else n.op.name
    length = [size(n.attr("n"))] if n.op.name == "irfft" else []
    if len(axes) > 1:
        name = f"{name}n"
        length = [f"[{', '.join([*[size(n.inputs[0].shape[a]) for a in axes[:-1]], *length])}]"] if length else []
    at = f"axes={tuple_text([str(a) for a in axes])}" if len(axes) > 1 else f"axis={axes[0]}"
    text = f"np.fft.{name}({', '.join([x, *length, at])}, norm=\"{norm}\")"
    sizes = [*n.inputs[0].shape, *n.out.shape]
    if all(type(d) is int and d > 0 for d in sizes):
        return [f"{y} = {text}"]
    nothing = f"np.zeros({tuple_text([size(d) for d in n.out.shape])}, {numpy_type(n.out.dtype)})"
    some = f"{x}.size and {size(n.attr('n'))} > 0" if n.op.name == "irfft" else f"{x}.size"
    return [f"{y} = {nothing}", f"if {some}:", f"    {y} = {text}"]


# --- checks -----------------------------------------------------------------------------------------------------------
def check_lines(n: Node, ok: str, data: Sequence[str], size: SizeText) -> list[str]:
    """The error, as one of Python's own, that a check raises where its condition is false."""
    attrs = dict(n.attrs)
    kind = next(c.__name__ for c in ERRORS[attrs["error"]].__mro__ if c.__module__ == "builtins")
    shown = list(data)
    low, high = [size(b) for b in attrs.get("bounds") or (0, 0)]
    if attrs.get("bounds") and n.inputs[1].shape:
        shown[0] = f"{data[0]}[({data[0]} < {low}) | ({data[0]} >= {high})][0]"
    text = _message(attrs["message"], shown, {"low": low, "high": high})
    head = [] if ok == "False" else [f"if {negated(ok)}:"]
    indent = "    " if head else ""
    if len(text) == 1:
        return [*head, f"{indent}raise {kind}({text[0]})"]
    return [*head, f"{indent}raise {kind}(", *[f"{indent}    {x}" for x in text], f"{indent})"]


def _message(message: str, data: Sequence[str], named: dict[str, str]) -> list[str]:
    """A message with its fields as string literals, one per line."""
    waiting = iter(data)
    words: list[str] = [""]  # what must stay together
    for literal, field, _, _ in Formatter().parse(message):
        parts = re.findall(r"\S*\s*", literal.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        words[-1] += parts[0]
        words += parts[1:]
        if field is not None:
            value = named[field] if field else next(waiting, "…")
            words[-1] += value if value.lstrip("-").isdigit() else f"\0{value}\1"
    lines = [""]
    for w in words:
        if lines[-1] and len(lines[-1]) + len(w) > WIDTH - 20:
            lines.append("")
        lines[-1] += w
    return [_literal(x) for x in lines if x]


def _literal(text: str) -> str:
    """A string literal; what stands between the marks is an expression."""
    if "\0" not in text:
        return f'"{text}"'
    return 'f"' + text.replace("{", "{{").replace("}", "}}").replace("\0", "{").replace("\1", "}") + '"'


def _slices(attrs: dict[str, Any], sizes: Sequence[Size], size: SizeText) -> str:
    parts = []
    for b, n, s in zip(attrs["start"], sizes, attrs["step"], strict=True):
        end = b + n * s
        last = "" if isinstance(end, int) and end < 0 else size(end)
        parts.append(f"{size(b)}:{last}" + ("" if isinstance(s, int) and s == 1 else f":{size(s)}"))
    return ", ".join(parts) or "()"
