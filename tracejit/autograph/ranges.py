"""What converted loops go through: ranges with tensor bounds, tensors by rows, and several of them side by side."""

from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracejit.autograph.branches import traced
from tracejit.autograph.values import forward_operators
from tracejit.errors import ControlFlowError, locate
from tracejit.ir.found import fresh
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ops import creation, found  # noqa: F401 - enters its operations
from tracejit.ops.args import known
from tracejit.tensor import Operand, Tensor, convert


class TensorRange:
    """A `range` whose bounds are tensors."""

    def __init__(self, start: Any, stop: Any, step: Any) -> None:
        self.start, self.stop, self.step = start, stop, step
        self.tensor: Tensor | None = None

    def __iter__(self) -> Iterator[int]:
        """Outside a loop that is converted the bounds have to be known: tensors that are not say so."""
        return iter(builtins.range(*[operator.index(x) for x in (self.start, self.stop, self.step)]))

    def __len__(self) -> int:
        return len(builtins.range(*[operator.index(x) for x in (self.start, self.stop, self.step)]))

    def __tensor__(self) -> Any:
        return counted(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(counted(self), name)

    def __getitem__(self, key: Any) -> Any:
        return counted(self)[key]


forward_operators(TensorRange, lambda r: counted(r))


class Rows:
    """Several things to loop over together, at least one of them a tensor."""

    def __init__(self, parts: Sequence[Any], make: Callable[..., Any]) -> None:
        self.parts, self.make = list(parts), make

    def __iter__(self) -> Iterator[Any]:
        return (row_of(self, i) for i in builtins.range(int(length_of(self))))


def range_(*args: Any) -> Any:
    if any(isinstance(a, Operand) and traced(a) for a in args):
        start, stop, step = (0, args[0], 1) if len(args) == 1 else (args[0], args[1], args[2] if len(args) > 2 else 1)
        return TensorRange(start, stop, step)
    return builtins.range(*args)


def zip_(*parts: Any, strict: bool = False) -> Any:
    if any(is_many(p) for p in parts):
        return Rows(parts, lambda *rows: rows)
    return builtins.zip(*parts, strict=strict)


def enumerate_(x: Any, start: int = 0) -> Any:
    if is_many(x):
        return Rows([Counter(start), x], lambda i, row: (i, row))
    return builtins.enumerate(x, start)


class Counter:
    """0, 1, 2 … from a start."""

    def __init__(self, start: Any) -> None:
        self.start = start


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
            raise locate(ControlFlowError(f"a loop over {x.type}, which has no axis", remedy="loop over tj.range(n)"))
        return x.shape[0]
    return len(x)


def _sign(step: Any) -> Any:
    return OPS["sign"](step) if isinstance(step, Operand) else (1 if step > 0 else -1)


def row_of(x: Any, i: Any) -> Any:
    if isinstance(x, Counter):
        return i if x.start == 0 else x.start + i
    if isinstance(x, (TensorRange, builtins.range)):
        return x.start + i * x.step
    if isinstance(x, Rows):
        return x.make(*[row_of(p, i) for p in x.parts])
    if isinstance(i, int):
        return x[i]
    return OPS["gather"](x, i, axis=0)  # a row number of the loop's own is never outside


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
    if any(isinstance(a, Operand) and not _is_known(a) and traced(a) for a in args):
        r = TensorRange(*[a if isinstance(a, Operand) else convert(a, dtype) for a in args])
        r.tensor = counted(r)  # of one size wherever it is used; nothing is computed if it is only looped over
        return r
    return creation.range(start, limit, delta, dtype, name)


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
    if (known_number(r.start), known_number(r.step)) == (0, 1):
        return numbers
    return OPS["add"](r.start, OPS["mul"](numbers, r.step))


def known_number(x: Any) -> int | None:
    """The value of a number or of a 0-d tensor, if it is known while tracing."""
    if isinstance(x, int):
        return x
    value = known(x._a) if type(x._a) is Value else x._a
    return None if value is None else int(value)
