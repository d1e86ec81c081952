"""What Python asks of numbers, for those too that are known only when the program runs: float, math.sqrt, an item."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable
from typing import Any

from tracejit.autograph import chosen, growing, listops, picking, reads
from tracejit.autograph.branches import asks, decided, traced
from tracejit.autograph.calls import LOOKING, callee, own_method, replace
from tracejit.autograph.failures import may_be_known
from tracejit.autograph.owners import is_users
from tracejit.autograph.ranges import Counter
from tracejit.autograph.values import Optional
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_, float64, int64
from tracejit.ops.array import stack
from tracejit.ops.host import Text
from tracejit.ops.regions import as_test
from tracejit.pynumbers import as_integer
from tracejit.tensor import Operand, Tensor, convert


# --- conversions ------------------------------------------------------------------------------------------------------
def _tensor(x: Any) -> Tensor | None:
    """A traced tensor of which a Python number can be made; None where Python itself has to answer."""
    if isinstance(x, Optional):
        x = x.get()
    if isinstance(x, Text):
        str(x)  # which says that it is not known yet
    if not (isinstance(x, Operand) and traced(x)) or x._several() or x.dtype.kind == "c":
        return None
    t = convert(x)
    return OPS["stop_gradient"](OPS["reshape"](t, shape=()) if t.shape else t)  # type: ignore[no-any-return]


def _required(ok: Tensor, error: str, message: str, *shown: Any) -> None:
    OPS["check"](ok, *shown, error=error, message=message)


def _checked(kind: type, made: Any, x: Any) -> Any:
    """What an object of the user's says that it is as a number."""
    return made if isinstance(made, (kind, Operand, Optional, Dim)) else kind(x)  # which raises what Python does


def _float(*args: Any) -> Any:
    """Python's float."""
    if len(args) == 1 and (own := own_method(args[0], "__float__")) is not None:
        args = (_checked(float, callee(own)(args[0]), args[0]),)
    t = _tensor(args[0]) if len(args) == 1 else None
    return float(*args) if t is None else OPS["cast"](t, dtype=float64, weak=True)


def _int(*args: Any, **kwargs: Any) -> Any:
    """Python's int."""
    if len(args) == 1 and (own := own_method(args[0], "__int__") or own_method(args[0], "__index__")) is not None:
        args = (_checked(int, callee(own)(args[0]), args[0]),)
    t = _tensor(args[0]) if len(args) == 1 and not kwargs else None
    return int(*args, **kwargs) if t is None else as_integer(t)


def _truth(x: Any = False) -> Any:
    """Python's bool."""
    x = decided(x) if growing.is_grown(x) or growing.is_partial(x) else x
    if isinstance(x, Optional):
        x = x.get()
    if is_users(type(x)) and (own := asks["truth"](x)) is not x:
        return _truth(own)
    if not (isinstance(x, Operand) and traced(x)) or x._several():
        reads.length(reads.content(x))
        return bool(x)
    return OPS["cast"](as_test(x), dtype=bool_, weak=True)


# --- functions of numbers ---------------------------------------------------------------------------------------------
Domain = Callable[[Tensor], Any]


def _real(f: Callable[..., Any], name: str, domain: Domain | None, grows: bool) -> Callable[..., Any]:
    """A function of Python's `math`: numbers outside its domain, and results that are too large, are errors."""

    def real(*args: Any) -> Any:
        t = _tensor(args[0]) if len(args) == 1 else None
        if t is None:
            return f(*args)
        wide = OPS["cast"](t, dtype=float64)
        if domain is not None:
            ok = OPS["logical_or"](domain(wide), OPS["isnan"](wide))
            _required(ok, "ArgumentError", f"math.{f.__name__}: math domain error ({{}})", wide)
        y = OPS[name](wide)
        if grows:
            ok = OPS["logical_or"](OPS["logical_not"](OPS["isinf"](y)), OPS["isinf"](wide))
            _required(ok, "OverflowError", "math range error")
        return OPS["cast"](y, dtype=y.dtype, weak=True)

    return real


def _above(bound: float) -> Domain:
    return lambda t: OPS["greater"](t, bound)


def _from(bound: float) -> Domain:
    return lambda t: OPS["greater_equal"](t, bound)


def _finite(t: Tensor) -> Any:
    return OPS["isfinite"](t)


_MATH: tuple[tuple[str, str, Domain | None, bool], ...] = (
    ("exp", "exp", None, True), ("expm1", "expm1", None, True), ("log", "log", _above(0.0), False),
    ("log2", "log2", _above(0.0), False), ("log10", "log10", _above(0.0), False),
    ("log1p", "log1p", _above(-1.0), False),
    ("sqrt", "sqrt", _from(0.0), False), ("sin", "sin", _finite, False), ("cos", "cos", _finite, False),
    ("tan", "tan", _finite, False), ("asin", "asin", lambda t: OPS["less_equal"](OPS["abs"](t), 1.0), False),
    ("acos", "acos", lambda t: OPS["less_equal"](OPS["abs"](t), 1.0), False), ("atan", "atan", None, False),
    ("sinh", "sinh", None, True), ("cosh", "cosh", None, True), ("tanh", "tanh", None, False),
    ("asinh", "asinh", None, False), ("acosh", "acosh", _from(1.0), False),
    ("atanh", "atanh", lambda t: OPS["less"](OPS["abs"](t), 1.0), False), ("fabs", "abs", None, False),
    ("erf", "erf", None, False), ("erfc", "erfc", None, False), ("isnan", "isnan", None, False),
    ("isinf", "isinf", None, False), ("isfinite", "isfinite", None, False),
)  # fmt: skip

for _name, _op, _domain, _grows in _MATH:
    replace(getattr(math, _name), _real(getattr(math, _name), _op, _domain, _grows))
replace(itertools.count, Counter)
replace(builtins.float, _float)
replace(builtins.int, _int)
replace(builtins.bool, _truth)
LOOKING.append(_truth)


# --- items ------------------------------------------------------------------------------------------------------------
def picked(x: Any, key: Any) -> Any:
    """An item of a list, tuple or text at a traced position: tensors, numbers, or a few of what is neither. Else
    `...`."""
    if not picking.is_position(x, key):
        return ...
    kinds = {type(y) for y in x}
    if kinds in ({int}, {float}):
        (kind,) = kinds
        rows = stack([OPS["cast"](y, dtype=int64 if kind is int else float64) for y in reads.whole(x)])
        return OPS["cast"](rows[key], dtype=rows.dtype, weak=True)
    if chosen.can_be_picked(x):
        return _one_of(x, key)
    types = {y.type if isinstance(y, Operand) else None for y in x}
    if None in types or len(types) > 1 or next(iter(types)).weak:  # type: ignore[union-attr]
        return picking.joined(x, key)
    return stack(list(reads.whole(x)))[key]


def sliced(x: Any, key: Any) -> Any:
    """A slice of a list with traced bounds: of tensors of one type, or of numbers of one. Else `...`."""
    if type(x) is not list or not x or type(key) is not slice or may_be_known():
        return ...
    if not any(isinstance(k, Operand) and traced(k) for k in (key.start, key.stop, key.step)):
        return ...
    types = {y.type if isinstance(y, Operand) else None for y in x}
    if growing.kind_of(x) not in (int, float) and (None in types or len(types) > 1):
        return ...
    reads.whole(x)
    return listops.sliced(x, key)


def _one_of(x: Any, key: Any) -> Any:
    reads.length(x)
    for i in range(len(x)):
        reads.item(x, i)
    at = stack([OPS["cast"](i, dtype=int64) for i in range(len(x))])[key]
    return chosen.picked_at(x, at)
