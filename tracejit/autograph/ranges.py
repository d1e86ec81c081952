"""What converted loops go through: ranges with tensor bounds, tensors by rows, and several of them side by side."""

from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.autograph import chosen, growing, piles
from tracejit.autograph.branches import traced
from tracejit.autograph.values import forward_operators
from tracejit.errors import ArgumentError, ConversionError, UnsupportedError, locate
from tracejit.ir.found import fresh
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import DType, as_dtype, int32, int64, uint64
from tracejit.ops import creation, found
from tracejit.ops.args import known
from tracejit.ops.counted import limit, range_limits
from tracejit.publicnames import OTHERS
from tracejit.tensor import Operand, Tensor, common_dtype, convert


class TensorRange:
    """A `range` whose bounds are tensors. What it gives are Python's integers, or tensors if it is `tj.range`: those of
    `narrow`, if the bounds have been made wider."""

    def __init__(self, start: Any, stop: Any, step: Any, python: bool = False, narrow: DType | None = None) -> None:
        self.start, self.stop, self.step, self.python, self.narrow = start, stop, step, python, narrow
        self.tensor: Tensor | None = None
        self.given: Sequence[Any] = (start, stop, step)

    def __iter__(self) -> Iterator[int]:
        """Outside a loop that is converted the bounds have to be known: tensors that are not say so."""
        return iter(builtins.range(*map(operator.index, self.given)))

    def __len__(self) -> int:
        return len(builtins.range(*map(operator.index, self.given)))

    def count_of_numbers(self) -> Any:
        """What `len` gives in converted code."""
        return as_python(length_of(self))

    def __tensor__(self) -> Any:
        return counted(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(counted(self), name)

    def __getitem__(self, key: Any) -> Any:
        made = counted(self)[key]
        if not self.python:
            return made
        made = OPS["cast"](made, dtype=int64)
        return piles.listed(growing.Stacked([made], None, int)) if type(key) is slice else as_python(made)


def as_python(x: Operand) -> Tensor:
    return OPS["cast"](x, dtype=int64, weak=True)  # type: ignore[no-any-return]


forward_operators(TensorRange, lambda r: counted(r))


class Rows:
    """Several things to loop over together, at least one of them a tensor."""

    def __init__(self, parts: Sequence[Any], make: Callable[..., Any]) -> None:
        self.parts, self.make = list(parts), make

    def __iter__(self) -> Iterator[Any]:
        return (row_of(self, i) for i in builtins.range(int(length_of(self))))


def items_of(x: list[Any]) -> Any:
    """What to go through in the place of a list that has grown: its rows, Python's numbers as such."""
    kind = growing.kind_of(x)
    rows = growing.exact_rows(x)
    return rows if kind is None else Rows([rows], lambda y: growing.one_of_kind(y, kind))


def range_(*args: Any) -> Any:
    given, args = args, tuple([found.as_open_number(a) for a in args])
    if any(isinstance(a, Operand) and traced(a) for a in args):
        start, stop, step = (0, args[0], 1) if len(args) == 1 else (args[0], args[1], args[2] if len(args) > 2 else 1)
        _not_zero(step)
        r = TensorRange(start, stop, step, python=True)
        r.given = given
        return r
    return builtins.range(*args)


def _not_zero(step: Any) -> None:
    if isinstance(step, Operand):
        OPS["check"](OPS["not_equal"](step, 0), error="ArgumentError", message="range() arg 3 must not be zero")
    elif step == 0:
        raise locate(ArgumentError("range() arg 3 must not be zero"))


def zip_(*parts: Any, strict: bool = False) -> Any:
    if not any(is_many(p) for p in parts):
        return builtins.zip(*parts, strict=strict)
    lengths = {i: length_of(p) for i, p in enumerate(parts) if is_many(p) or hasattr(type(p), "__len__")}
    uneven = strict and len({n for n in lengths.values() if isinstance(n, int)}) > 1
    if uneven or not all(is_many(p) or isinstance(p, (*_INDEXED, Counter)) for p in parts):
        return builtins.zip(*[_rows(p, lengths[i]) if is_many(p) else p for i, p in enumerate(parts)], strict=strict)
    if strict:
        _must_agree([*lengths.values()])
    return Rows([p.taken() if isinstance(p, Counter) else p for p in parts], lambda *rows: rows)


def _rows(x: Any, n: Any) -> Iterator[Any]:
    return (row_of(x, i) for i in builtins.range(int(n)))


def _must_agree(lengths: Sequence[Any]) -> None:
    first, *rest = [convert(n) for n in lengths]
    for n, other in builtins.zip(rest, lengths[1:], strict=True):
        if str(other) != str(lengths[0]):
            same = OPS["equal"](first, n)
            OPS["check"](same, error="ArgumentError", message="zip() has arguments of different lengths")


def enumerate_(iterable: Any, start: int = 0) -> Any:
    if is_many(iterable):
        return Rows([Counter(start), iterable], lambda i, row: (i, row))
    return builtins.enumerate(iterable, start)


_INDEXED = (list, tuple, builtins.range, str, bytes, np.ndarray)


class Counter:
    """Numbers from a start on, without an end: `itertools.count` in converted code."""

    def __init__(self, start: Any = 0, step: Any = 1) -> None:
        self.start, self.step, self.known = start, step, True

    def __iter__(self) -> Counter:
        return self

    def __next__(self) -> Any:
        now = self.taken(False)
        self.start = now.start + self.step
        return now.start

    def taken(self, on: bool = True) -> Counter:
        """The numbers from here on, for a loop that ends where only the program knows."""
        if not self.known:
            said = "how far a loop has gone through itertools.count() is known only when the function runs"
            raise locate(ConversionError(said))
        self.known = not on
        return Counter(self.start, self.step)


def is_many(x: Any) -> bool:
    return isinstance(x, (TensorRange, Rows)) or (isinstance(x, Operand) and traced(x))


def length_of(x: Any) -> Any:
    """How many rows there are: a number, a size or a tensor; None for as many as are asked for."""
    if isinstance(x, Counter):
        return None
    if isinstance(x, TensorRange):
        n = OPS["floordiv"](OPS["sub"](OPS["add"](OPS["sub"](x.stop, x.start), x.step), _sign(x.step)), x.step)
        return OPS["maximum"](n, 0)
    if isinstance(x, Rows):
        known = [n for n in map(length_of, x.parts) if n is not None]
        if all(isinstance(n, int) for n in known):
            return min(known)
        if len({str(n) for n in known}) == 1:
            return known[0]
        return functools.reduce(lambda a, b: OPS["minimum"](a, b), [convert(n) for n in known])
    if isinstance(x, Operand):
        if not x.shape:
            raise locate(UnsupportedError(f"a loop over {x.type}, which has no axis", remedy="loop over tj.range(n)"))
        return x.shape[0]
    return len(x)


def _sign(step: Any) -> Any:
    return OPS["sign"](step) if isinstance(step, Operand) else (1 if step > 0 else -1)


def row_of(x: Any, i: Any) -> Any:
    if isinstance(x, Counter):
        at = i if isinstance(x.step, int) and x.step == 1 else i * x.step
        return at if isinstance(x.start, int) and x.start == 0 else x.start + at
    if isinstance(x, TensorRange) and x.python:
        return _within(x, _number_of(x, i))
    if isinstance(x, TensorRange) and x.narrow is not None:
        return OPS["cast"](x.start + OPS["cast"](i, dtype=int64) * x.step, dtype=x.narrow)
    if isinstance(x, (TensorRange, builtins.range)):
        return _within(x, x.start + i * x.step)
    if isinstance(x, Rows):
        return x.make(*[row_of(p, i) for p in x.parts])
    if isinstance(i, int):
        return x[i]
    if isinstance(x, (list, tuple, str)) and chosen.can_be_picked(x):
        return chosen.picked_at(x, i)
    return OPS["gather"](x, i, axis=0)  # a row number of the loop's own is never outside


def _within(r: TensorRange | builtins.range, at: Any) -> Any:
    """A number of a range, of which it is entered between which sizes it lies."""
    if isinstance(at, Operand):
        limit(at, sorted((r[0], r[-1])) if isinstance(r, builtins.range) else range_limits(r.start, r.stop, r.step))
    return at


def _number_of(r: TensorRange, i: Any) -> Any:
    """A number of Python's range, which lies between bounds that int64 holds."""
    start, i, step = [OPS["cast"](x, dtype=int64) if isinstance(x, Operand) else x for x in (r.start, i, r.step)]
    at = i if isinstance(step, int) and step == 1 else OPS["mul"](i, step)
    at = at if isinstance(start, int) and start == 0 else OPS["add"](start, at)
    return as_python(at) if isinstance(at, Operand) else at


def tensors_of(it: Any) -> list[Tensor]:
    """The tensors whose rows a loop goes through."""
    if isinstance(it, Operand):
        return [convert(it)]
    if isinstance(it, Rows):
        return [t for p in it.parts for t in tensors_of(p)]
    return []


def with_rows(it: Any, rows: list[Any], i: Any) -> Any:
    """What the loop's body is given, with these rows of the tensors."""
    rest = iter(rows)

    def one(x: Any) -> Any:
        if isinstance(x, Operand):
            return next(rest)
        return x.make(*[one(p) for p in x.parts]) if isinstance(x, Rows) else row_of(x, i)

    return one(it)


def tensor_range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Any:
    """`tj.range`, whose bounds may be tensors where it is only looped over."""
    args = (0, start, delta) if limit is None else (start, limit, delta)
    of_numbers = all(not isinstance(a, Operand) or (not a.ndim and a.dtype.kind in "iuf") for a in args)
    if of_numbers and any(isinstance(a, Operand) and not _is_known(a) and traced(a) for a in args):
        weak = all(not isinstance(a, Operand) or (type(a._a) is Value and a._a.type.weak) for a in args)
        d = as_dtype(dtype) if dtype is not None else None if weak else common_dtype(args)[0]
        if d is not None and d.kind not in "iu":
            return creation.range(start, limit, delta, dtype, name)
        first, last, step = [a if isinstance(a, Operand) and d in (None, a.dtype) else convert(a, d) for a in args]
        if d is uint64:  # whose differences are those of int64 where they are not negative
            last = OPS["maximum"](first, last)
        narrow = d is not None and d not in (int32, int64)  # numbers of steps may be above the largest of them
        bounds = [OPS["cast"](a, dtype=int64) for a in (first, last, step)] if narrow else [first, last, step]
        r = TensorRange(bounds[0], bounds[1], bounds[2], narrow=d if narrow else None)
        r.tensor = counted(r)  # of one size wherever it is used; nothing is computed if it is only looped over
        return r
    return creation.range(start, limit, delta, dtype, name)


OTHERS.append(("tj.range", tensor_range))


def _is_known(x: Operand) -> bool:
    """Whether a number or size can be told while tracing."""
    return type(x._a) is Value and known(x._a) is not None


def counted(r: TensorRange) -> Tensor:
    """A range whose bounds are traced, as a tensor: the program finds out its length."""
    if r.tensor is not None:
        return r.tensor
    n = convert(length_of(r))
    numbers = OPS["count_up"](n, size=fresh())
    if n.dtype is not numbers.dtype:
        numbers = OPS["cast"](numbers, dtype=n.dtype)
    if (known_number(r.start), known_number(r.step)) != (0, 1):
        numbers = OPS["add"](r.start, OPS["mul"](numbers, r.step))
    return numbers if r.narrow is None else OPS["cast"](numbers, dtype=r.narrow)


def known_number(x: Any) -> int | None:
    """The value of a number or of a 0-d tensor, if it is known while tracing."""
    if isinstance(x, int):
        return x
    value = known(x._a) if type(x._a) is Value else x._a
    return None if value is None else int(value)
