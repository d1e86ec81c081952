"""Python values that hold traced tensors, as recipes that make them from the outputs of a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracejit.autograph.effects import Fill, container, known, output, perhaps, text
from tracejit.autograph.holders import Outside, parts_of
from tracejit.autograph.values import Optional, Stacked
from tracejit.context import tracing
from tracejit.errors import ConversionError, LeakedTensorError, Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import float64, int64
from tracejit.ops import host
from tracejit.tensor import Operand, Tensor, Variable, convert, strong
from tracejit.tracing import Trace, unborn


def refused(why: str, loc: Location | None) -> ConversionError:
    error = ConversionError(why, remedy="return the value, and do it where the function is called")
    error.where = [loc] if loc is not None else []
    return error


def python_kind(x: Operand) -> type | None:
    """The Python type of a traced number; None for tensors."""
    a = x._a
    if type(a) is not Value or not a.type.weak or a.shape:
        return None
    return {"f": float, "i": int, "u": int, "b": bool}.get(a.dtype.kind)


def exact(x: Operand) -> Tensor:
    """A traced number in the widest type of its kind."""
    kind = x._a.type.dtype.kind
    return OPS["cast"](x, dtype=float64 if kind == "f" else int64) if kind != "b" else strong(x)  # type: ignore[no-any-return,return-value]


class Recipes:
    """Python values that hold traced tensors, as recipes that make them from a call's outputs."""

    def __init__(self, trace: Trace, outside: Outside) -> None:
        self.trace, self.outside = trace, outside
        self.results: list[Value] = []
        self.loc: Location | None = None  # the line of the effect at hand
        self._doing: set[int] = set()

    def of(self, x: Any) -> Fill:
        if isinstance(x, Operand):
            return self._operand(x)
        if isinstance(x, Dim):
            return self._output(convert(x), int)
        kind = type(x)
        if kind is host.Text:
            return text(x, [self.of(t) for t in x.tensors()])
        if kind is Optional:
            return perhaps(self._output(x.flag, bool), self.of(x.value), x.none)
        if id(x) not in self.outside and id(x) not in self._doing and _rebuilt(x) and self._fresh(x):
            return self.inside(x)
        return known(x)

    def inside(self, x: Any) -> Fill:
        """A container made anew."""
        self._doing.add(id(x))
        try:
            if isinstance(x, dict):
                items = [(k, self.of(v)) for k, v in x.items()]
            elif isinstance(x, (list, tuple, set)):
                items = [(None, self.of(v)) for v in _expanded(x)]
            else:
                items = [(k, self.of(v)) for k, v in vars(x).items()]
            return container(x, items)
        finally:
            self._doing.discard(id(x))

    def _fresh(self, x: Any) -> bool:
        """Whether each call has to make it: containers always, other objects if they hold traced tensors."""
        return isinstance(x, (list, tuple, dict, set)) or self._holds_traced(x, set())

    def _holds_traced(self, x: Any, seen: set[int]) -> bool:
        if isinstance(x, Operand):
            return host.is_traced(x)
        if id(x) in seen or id(x) in self.outside:
            return False
        seen.add(id(x))
        return any(self._holds_traced(y, seen) for y in parts_of(x))

    def _operand(self, x: Operand) -> Fill:
        if isinstance(x, Variable) and x in unborn and id(x) not in self.trace.made:
            raise refused("a Variable made in a branch or loop is kept outside of it", self.loc)
        if not host.is_traced(x):
            return known(x)
        python = python_kind(x)
        return self._output(x if python is None else exact(x), python)

    def _output(self, x: Operand, python: type | None) -> Fill:
        try:
            with tracing(self.trace):
                v = self.trace.value(strong(x))  # type: ignore[arg-type]
        except LeakedTensorError:
            raise refused("a tensor of a branch or loop is kept outside of it", self.loc) from None
        self.results.append(v)
        return output(len(self.results) - 1, python)


def _rebuilt(x: Any) -> bool:
    if isinstance(x, (list, tuple, dict, set)):
        return True
    kind = type(x)
    return isinstance(getattr(x, "__dict__", None), dict) and kind.__flags__ & (1 << 9) != 0 and not callable(x)


def _expanded(x: Iterable[Any]) -> list[Any]:
    """The items, those that a loop has added among them."""
    out: list[Any] = []
    for y in x:
        out += y.items() if type(y) is Stacked else [y]
    return out
