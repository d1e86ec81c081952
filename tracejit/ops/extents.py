"""Sizes that may be tensors: of those that only the program computes it finds out the size, and checks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.intervals import least_of
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Node, Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import at_least, divide, is_unit, product
from tracejit.ir.types import int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops.args import LARGEST, Size, as_size, as_sizes, known
from tracejit.ops.check import check, named, require_room
from tracejit.ops.found import told
from tracejit.ops.shape import reshape, slice_
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap

Element = int | Dim | Value | None  # a number, a 0-d value that only the program computes, or what has no value yet
_VIEWS = {"identity", "stop_gradient", "cast"}
_RESULTS = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}


def computed(x: Any) -> bool:
    """Whether some number of a shape, a size or a bound is a tensor that a trace computes."""
    if context.trace is None:
        return False
    if isinstance(x, (list, tuple)):
        return any(map(computed, x))
    return isinstance(x, Variable) or (isinstance(x, Operand) and type(x._a) is Value)


def is_late(n: object) -> bool:
    """Whether a size is one that the program finds out."""
    return isinstance(n, Dim) and n.is_found


def extent(
    x: Any, what: str = "a size", most: Size | None = None, least: int = 0, error: str = "ShapeError"
) -> Size:
    """One size; of a tensor that only the program computes one that it finds out, and refuses outside its limits."""
    if not computed(x):
        return as_size(x, what)
    if any(not is_unit(d) for d in x.shape):
        raise locate(ShapeError(f"{what} is one integer, not a tensor {x.type}"))
    return _size(numbers(x, what)[0], what, most, least, error)


def extents(x: Any, what: str = "shape", error: str = "ShapeError") -> tuple[Size, ...]:
    """As `extent`, of a shape in any form."""
    if not computed(x):
        return as_sizes(x, what)
    if isinstance(x, Sequence):
        return tuple([extent(d, what, error=error) for d in x])
    return tuple([_size(e, what, error=error) for e in numbers(x, what)])


def whole_extents(x: Any) -> tuple[Size, ...]:
    """The shape of a new tensor. Raises `ShapeError` for negative sizes."""
    shape = extents(x)
    for d in shape:
        require_room(d, "ShapeError", f"shape {show_shape(shape)} has a negative size: {{}}", d)
        if not at_least(d, 0):
            raise locate(ShapeError(f"shape {show_shape(shape)} has a negative size"))
    return shape


def numbers(x: Operand, what: str, bound: bool = False) -> list[int | Dim | Tensor]:
    """The elements of an integer tensor: known ones as numbers, the others as 0-d tensors. `bound`: they are those of a
    slice, which can be left to the run where Python numbers have another value in each call."""
    if x.dtype.kind not in "iu":
        raise locate(DTypeError(f"{what} must hold integers, not {x.dtype.name}"))
    if isinstance(x, Variable):
        x = E.identity(x)
    trace: Any = context.trace
    if len(x.shape) > 1 or any(isinstance(d, Dim) or d > LARGEST for d in x.shape):
        as_sizes(x, what)  # raises
    out: list[int | Dim | Tensor] = []
    for i, e in enumerate(elements(trace.value(x))):
        if isinstance(e, (int, Dim)):
            out.append(e)
            continue
        if e is None:
            e = reshape(slice_(x, start=(i,), size=(1,), step=(1,)), shape=())._a
        trace.need_value(e, bound=bound)  # what follows from Python numbers alone becomes a constant
        out.append(trace.told.get(e, wrap(e)))
    return out


def listed_numbers(x: Any, what: str, bound: bool = False) -> list[Any]:
    """The integers of a tensor or of nested lists in order: known ones as numbers, the others as 0-d tensors."""
    if not computed(x):
        return [n for row in x for n in listed_numbers(row, what)] if _nested(x) else list(as_sizes(x, what))
    if isinstance(x, Operand):
        return numbers(x if len(x.shape) < 2 else reshape(x, shape=(product(tuple(x.shape)),)), what, bound)
    return [n for row in x for n in listed_numbers(row, what, bound)]


def _nested(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and any(isinstance(row, (list, tuple, Operand, np.ndarray)) for row in x)


def _size(
    n: int | Dim | Tensor, what: str, most: Size | None = None, least: int = 0, error: str = "ShapeError"
) -> Size:
    low = f"{what} is below {least}: {{}}" if least else f"{what} is negative: {{}}"
    if not isinstance(n, Tensor):
        require_room(n - least, error, low, n)
        if not isinstance(n, Dim) or not n.is_found or most is None or n.compare(most, "<=") is True:
            return n
        n = convert(number(n), int64)
    trace: Any = context.trace
    given = trace.value(n)
    if given in trace.told and most is None and not least:
        return trace.told[given]  # type: ignore[no-any-return]
    wide: Any = E.cast(n, dtype=int64)
    if least or not counts(wide._a):
        check(E.greater_equal(wide, least), wide, error=error, message=named(low))
    if most is not None:
        limit = convert(number(most), int64)
        check(E.less_equal(wide, limit), limit, wide, error=error, message=named(f"{what} is above {{}}: {{}}"))
    trace.told[given] = size = told(wide, most)
    return size


def number(n: Size) -> Any:
    """A size as a number to compute with: a symbol as a 0-d tensor."""
    return E.cast(OPS["dim"](size=n), dtype=int64) if isinstance(n, Dim) else n


def reshaped(total: Size, shape: Any) -> tuple[Size, ...]:
    """The shape that so many elements get, where the program computes some of it; −1 stands for what is left."""
    if not computed(shape):
        return as_sizes(shape)
    given = listed_numbers(shape, "shape")
    waiting = [i for i, n in enumerate(given) if isinstance(n, Tensor)]
    free = [i for i, n in enumerate(given) if type(n) is int and n == -1]
    rest = product(tuple([n for i, n in enumerate(given) if not isinstance(n, Tensor) and i not in free]))
    if len(waiting) == 1 and not free and not is_late(total) and not is_late(rest) and _divides(rest, total):
        (i,) = waiting
        n, left = given[i], divide(total, rest)
        ok = E.logical_or(E.equal(n, number(left)), E.equal(n, -1))
        check(ok, n, error="ShapeError", message=named(f"{total} elements do not fit a shape with a size of {{}}"))
        return tuple([left if k == i else n for k, n in enumerate(given)])
    if waiting and not free:
        every: Any = -1
        for n in given:
            every = E.mul(every, E.cast(n, dtype=int64) if isinstance(n, Tensor) else number(n))
        left = E.floordiv(number(total), E.maximum(every, 1))
        for i in waiting:
            n = E.cast(given[i], dtype=int64)
            given[i] = n if counts(n._a) else E.where(E.equal(n, -1), left, n)
    sizes = [_size(n, "a size of the shape") for n in given]
    if free and any(is_late(n) for n in (total, *sizes)):
        rest = product(tuple([n for i, n in enumerate(sizes) if i != free[0]]))
        sizes[free[0]] = _left(total, rest)
    return tuple(sizes)


def _divides(rest: Size, total: Size) -> bool:
    return not (type(rest) is int and (rest <= 0 or (type(total) is int and total % rest)))


def _left(total: Size, rest: Size) -> Size:
    """What −1 stands for beside other sizes, some of which the program finds out."""
    exact = total._quotient(rest) if isinstance(total, Dim) and isinstance(rest, Dim) else None
    if exact is not None:
        return exact
    all_, others = number(total), number(rest)
    ok = E.logical_and(E.greater(others, 0), E.equal(E.floormod(all_, E.maximum(others, 1)), 0))
    message = "cannot work out the -1 in a shape: {} elements for others of {}"
    check(ok, *[convert(n, int64) for n in (all_, others)], error="ShapeError", message=named(message))
    return told(E.floordiv(convert(all_, int64), E.maximum(others, 1)))


def counts(v: Value, done: dict[Value, bool] | None = None) -> bool:
    """Whether the operations that made an integer keep it from being negative."""
    done = {} if done is None else done
    if v not in done:
        done[v] = v.dtype.kind in "bu" if v.node is None else _counts(v.node, done)
    return done[v]


def _counts(n: Node, done: dict[Value, bool]) -> bool:
    name = n.op.name
    if name == "constant":
        return bool(np.all(n.attr("value").numpy() >= 0))
    if name in _VIEWS or name in ("reshape", "slice", "add", "mul", "minimum", "floordiv", "reduce_sum", "reduce_max"):
        return n.inputs[0].dtype.kind != "f" and all(counts(x, done) for x in n.inputs)
    if name == "maximum":
        return any(counts(x, done) for x in n.inputs)
    if name == "dim":
        return least_of(n.attr("size"), -1) >= 0
    return name in ("argmax", "argmin") or n.out.dtype.kind in "bu"


# --- what is known of the elements of a shape that the program computes -----------------------------------------------
def elements(v: Value, done: dict[Value, list[Element]] | None = None) -> list[Element]:
    """The elements of an integer value with no axis or one, as far as they are known."""
    done = {} if done is None else done
    if v not in done:
        done[v] = _elements(v, done)
    return done[v]


def _elements(v: Value, done: dict[Value, list[Element]]) -> list[Element]:
    a = known(v)
    if a is not None:
        return [d if isinstance(d, Dim) else int(d) for d in a.reshape(-1).tolist()]
    count = 1 if not v.shape else v.shape[0]
    own: list[Element] = [v] if not v.shape else [None] * int(count)
    n = v.node
    trace: Any = context.trace
    if v in trace.told:
        return [trace.told[v]]
    if n is None or any(len(i.shape) > 1 or isinstance(d, Dim) for i in n.inputs for d in i.shape):
        return own
    found = _told_by(n, own, done)
    return own if found is None or found == [None] else found


def _told_by(n: Node, own: list[Element], done: dict[Value, list[Element]]) -> list[Element] | None:
    name = n.op.name
    if name in _VIEWS:
        return elements(n.inputs[0], done) if n.inputs[0].dtype.kind in "iu" and n.out.dtype.bits >= 32 else None
    if name == "reshape":
        return elements(n.inputs[0], done)
    if name == "concat":
        return [e for i in n.inputs for e in elements(i, done)]
    if name == "slice" and n.inputs[0].shape:
        (start,), (size,), (step,) = n.attr("start"), n.attr("size"), n.attr("step")
        inside = elements(n.inputs[0], done)
        return [inside[start + k * step] for k in range(size)]
    if name == "broadcast_to" and all(is_unit(d) for d in n.inputs[0].shape):
        return elements(n.inputs[0], done) * len(own)
    if name == "gather" and (at := known(n.inputs[1])) is not None:
        inside = elements(n.inputs[0], done)
        return [inside[int(k)] for k in at.reshape(-1).tolist()]
    if name in _RESULTS:
        a, b = (elements(i, done) * (len(own) if all(map(is_unit, i.shape)) else 1) for i in n.inputs)
        both = [(x, y) for x, y in zip(a, b, strict=True)]
        return [
            _RESULTS[name](x, y) if isinstance(x, (int, Dim)) and isinstance(y, (int, Dim)) else z
            for (x, y), z in zip(both, own, strict=True)
        ]
    if name == "reduce_prod" and n.inputs[0].shape:
        inside = elements(n.inputs[0], done)
        return [product(tuple(inside))] if all(isinstance(e, (int, Dim)) for e in inside) else None  # type: ignore[arg-type]
    return None
