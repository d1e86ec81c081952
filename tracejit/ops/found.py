"""Operations that tell sizes which are known only when the program runs, and the part of a program that needs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import DTypeError, ShapeError, TracedValueError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh, symbols_in
from tracejit.ir.graph import Graph
from tracejit.ir.hooks import hooks
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType, bool_, int64
from tracejit.tensor import Operand, Tensor, convert


def as_number(x: Any) -> Any:
    """A size that only the program finds out, as a Python number of its; anything else as it is."""
    if not (isinstance(x, Dim) and symbols_in(x)):
        return x
    return OPS["cast"](OPS["dim"](size=x), dtype=int64, weak=True)


def as_open_number(x: Any) -> Any:
    """As `as_number`; of a size, too, that a signature leaves open, so that no trace may be for one value of it."""
    return OPS["cast"](OPS["dim"](size=x), dtype=int64, weak=True) if is_open(x) else x


def is_open(x: Any) -> bool:
    """Whether `x` is a size that no trace may know."""
    return isinstance(x, Dim) and bool(symbols_in(x) or x.symbols & hooks.open)


def _require_number(n: TensorType) -> None:
    if n.shape:
        raise ShapeError(f"a size is a 0-d integer, not {n}")
    if n.dtype.kind not in "iu":
        raise DTypeError(f"a size is a 0-d integer, not {n}")


def _infer_count(n: TensorType, size: Dim) -> TensorType:
    _require_number(n)
    return TensorType(int64, (size,))


def _count(n: Any, size: Any = None) -> Any:
    return np.arange(max(0, int(n)), dtype=np.int64)


count_up = Op(
    "count_up", "control", _infer_count, _count, arity=1, dtypes="iu", special="tells",
    doc="0, 1, … n - 1 for a number that the program computes, which from then on is the size of an axis.",
)  # fmt: skip


def _infer_tell(n: TensorType, size: Dim) -> TensorType:
    _require_number(n)
    return TensorType(bool_, (size, 0))


tell = Op(
    "tell", "control", _infer_tell, lambda n, size=None: np.empty((max(0, int(n)), 0), np.bool_), arity=1, dtypes="iu",
    special="tells",
    doc="As many empty rows as a number says that the program computes: from then on the size of an axis.",
)  # fmt: skip


def told(n: Operand, most: int | Dim | None = None) -> Dim:
    """A 0-d integer tensor, which must be neither negative nor above `most`, as a size that the program finds out.

    The same number is the same size wherever it is told in a trace.
    """
    trace: Any = context.trace
    known = trace.told.get(trace.value(n))
    if known is None or not (most is None or (known.compare(most, "<="))):
        trace.told[trace.value(n)] = known = fresh(most)
        tell(n, size=known)
    return known  # type: ignore[no-any-return]


def _infer_positions(mask: TensorType, size: Dim) -> TensorType:
    if mask.dtype.kind != "b" or len(mask.shape) != 1:
        raise DTypeError(f"positions are those of a mask with one axis, not {mask}")
    return TensorType(int64, (size,))


positions = Op(
    "positions", "control", _infer_positions, lambda mask, size=None: np.flatnonzero(mask), arity=1, dtypes="b",
    special="tells", doc="Where a mask with one axis is true, in ascending order.",
)  # fmt: skip


def hits(mask: Operand) -> Tensor:
    """Where a mask is true, in row-major order; how often that is the program finds out."""
    flat = OPS["reshape"](mask, shape=(product(tuple(mask.shape)),)) if len(mask.shape) != 1 else mask
    return positions(flat, size=fresh())  # type: ignore[no-any-return]


def coordinates(mask: Operand) -> list[Tensor]:
    """The same as an index for each axis."""
    rest, out = hits(mask), []
    for d in reversed(tuple(mask.shape)[1:]):
        out.append(OPS["floormod"](rest, d))
        rest = OPS["floordiv"](rest, d)
    return [rest, *reversed(out)]


def _infer_sized(*xs: TensorType, body: Graph, numerics: str) -> Any:
    for p, t in zip(body.params, xs, strict=True):
        if p.dtype is not t.dtype or tuple(p.shape) != tuple(t.shape):
            raise ShapeError(f"the part takes {p.type}, the operand is {t}")
    types = tuple([v.type for v in body.results])
    return types[0] if len(types) == 1 else types


def _run_sized(*xs: Any, body: Graph, numerics: str) -> Any:
    ys = body.run(xs)
    return ys[0] if len(ys) == 1 else tuple(ys)


sized = Op(
    "sized", "control", _infer_sized, _run_sized, arity=None, dtypes="biufc",
    doc="The results of a part of the program that is made ready when the sizes of its operands are known.",
)  # fmt: skip


# --- decisions about such sizes while tracing -------------------------------------------------------------------------
_RELATIONS = {"==": "equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def checked_later(relation: str, d: Dim, answer: bool) -> bool:
    """Whether a decision was about a size that the program finds out. It is checked when it does.

    That two sizes differ is not: operations between them have been refused, and sizes of one are not repeated.
    """
    if not symbols_in(d):
        return False
    if relation == "==" and not answer:
        return True
    ok = OPS[_RELATIONS[relation]](convert(d), 0)
    trace: Any = context.trace
    if (relation, d, answer) in trace.checked:
        return True
    trace.checked.add((relation, d, answer))
    if relation == "==":
        sides = [Dim({m: abs(c) for m, c in d.terms.items() if (c > 0) is more}, 0, d.opaque) for more in (True, False)]
        values = [convert(x) if x.symbols else convert(x.terms.get((), 0)) for x in sides]
        names = " and ".join(["{}" + f" ({x})" * bool(x.symbols) for x in sides])
        message = f"sizes that were found when the function ran differ: {names}"
        OPS["check"](OPS["equal"](*values), *values, error="ShapeError", message=message)
        return True
    said = f"{d} {relation} 0" if answer else f"not {d} {relation} 0"
    message = f"a size that was found when the function ran does not fit its trace, which holds for {said}: {{}}"
    OPS["check"](ok if answer else OPS["logical_not"](ok), convert(d), error="ControlFlowError", message=message)
    return True


def refuse_found(d: Dim) -> None:
    """Raises `TracedValueError` for a size that the program finds out, where Python needs it."""
    if symbols_in(d):
        raise locate(TracedValueError("Python needs a size that is known only when the function runs"))
