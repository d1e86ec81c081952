"""Python values that hold traced tensors, as recipes that make them from the outputs of a call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from tracejit.autograph.chosen import Chosen, parts_called
from tracejit.autograph.effects import (
    Fill,
    Moving,
    Path,
    container,
    either,
    given,
    known,
    one_of,
    output,
    perhaps,
    piled,
    spliced,
    text,
)
from tracejit.autograph.growing import Pile, Stacked
from tracejit.autograph.holders import MANY, Outside, parts_of
from tracejit.autograph.lasts import as_one
from tracejit.autograph.origins import Leaf, Origin
from tracejit.autograph.places import age
from tracejit.autograph.results import kept_key
from tracejit.autograph.values import Either, Optional
from tracejit.context import tracing
from tracejit.errors import ConversionError, LeakedTensorError, Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ops import host
from tracejit.ops.host import exact, python_kind
from tracejit.tensor import Operand, Variable, convert, strong
from tracejit.tracing import Trace, unborn
from tracejit.tree import attributes_of, own_slots

_CALLED = (FunctionType, MethodType, partial)


def refused(why: str, loc: Location | None) -> ConversionError:
    error = ConversionError(why, remedy="return the value, and do it where the function is called")
    error.where = [loc] if loc is not None else []
    return error


class Recipes:
    """Python values that hold traced tensors, as recipes that make them from a call's outputs."""

    def __init__(
        self, trace: Trace, outside: Outside, given: dict[int, Path], used: set[Path],
        origins: dict[int, Origin],
    ) -> None:  # fmt: skip
        self.trace, self.outside = trace, outside
        self.given, self.used = given, used  # containers among the arguments, and those of them that recipes take
        self.origins = origins  # of containers that stand for one of several, which one is meant
        self.results: list[Value] = []
        self.loc: Location | None = None  # the line of the effect at hand
        self._doing: set[int] = set()
        self._outputs: dict[int, tuple[Operand, Fill]] = {}
        self.inputs: dict[Value, Moving] = {}  # those that stand for tensors at places
        self.kept: list[Moving] = []  # of these the ones that are kept elsewhere

    def of(self, x: Any) -> Fill:
        if isinstance(x, Operand):
            return self._operand(x)
        if isinstance(x, Dim):
            return self._output(convert(x), int)
        kind = type(x)
        if id(x) in self.given:
            self.used.add(self.given[id(x)])
            return given(self.given[id(x)])
        if kind is host.Text:
            return text(x, [self.of(t) for t in x.tensors()])
        if kind is Either:
            with tracing(self.trace):
                one = as_one(x)
            return x.fail() if one is x else self.of(one)  # type: ignore[no-any-return]
        if kind is Stacked:
            with tracing(self.trace):
                return spliced(self._output(x.exact_rows(), None), x.kind)
        if kind is Pile:
            return self._pile(x)
        if kind is Chosen:
            return one_of(self._output(x.index, int), [self.of(v) for v in x.values])
        if kind is Optional:
            return perhaps(self._output(x.flag, bool), self.of(x.value), x.none)
        if id(x) in self.origins:
            return self._one_of(self.origins[id(x)], x)
        if id(x) not in self.outside and id(x) not in self._doing and rebuilt(x) and self._fresh(x):
            return self.inside(x)
        check_kept(x, self.given, self.loc)
        return known(x)

    def _pile(self, x: Pile) -> Fill:
        with tracing(self.trace):
            x = x.straight()
        parts = [spliced(self._output(r, None), k) for r, k in zip(x.rows, x.kinds, strict=True)]
        return piled(self._output(x.count, int), parts, x.structure)

    def _one_of(self, o: Origin | Leaf, x: Any) -> Fill:
        """The container that is meant by one that stands in its place."""
        if isinstance(o, Leaf):
            return self.inside(x, o.container) if o.fresh else self.of(o.container)
        return either(self._output(o.flag, bool), self._one_of(o.one, x), self._one_of(o.two, x))

    def inside(self, x: Any, known_as: Any = None) -> Fill:
        """A container made anew, once in the place of each that is known as this one."""
        self._doing.add(id(x))
        try:
            items = self._items(x)
            return container(x, items, x if known_as is None else known_as)
        finally:
            self._doing.discard(id(x))

    def _items(self, x: Any) -> list[tuple[Any, Fill]]:
        if isinstance(x, dict):
            return [(self.key(k), self.of(v)) for k, v in x.items()]
        if isinstance(x, (list, tuple, set, deque)):
            return [(None, self.of(v)) for v in x]
        return [(k, self.of(v)) for k, v in attributes_of(x).items()]

    def key(self, k: Any) -> Any:
        return kept_key(k, self.loc)

    def _fresh(self, x: Any) -> bool:
        """Whether each call has to make it: containers always, other objects if they hold traced tensors."""
        return isinstance(x, (list, tuple, dict, set, deque)) or self._holds_traced(x, set())

    def _holds_traced(self, x: Any, seen: set[int]) -> bool:
        if isinstance(x, Operand):
            return host.is_traced(x)
        if id(x) in self.given:
            return True
        if id(x) in seen or id(x) in self.outside:
            return False
        seen.add(id(x))
        return any(self._holds_traced(y, seen) for y in self._parts(x))

    def _parts(self, x: Any) -> Iterable[Any]:
        for y in parts_of(x):
            own: Any = y
            if type(y) is dict and id(y) in self.outside and getattr(x, "__dict__", None) is y:
                yield from own.values()  # an object gets its dict when it is asked for it, which may be later
            else:
                yield y

    def _operand(self, x: Operand) -> Fill:
        if isinstance(x, Variable) and x in unborn and id(x) not in self.trace.made:
            raise refused("a Variable made in a branch or loop is kept outside of it", self.loc)
        if not host.is_traced(x):
            return known(x)
        if (moving := self.inputs.get(x._a)) is not None:  # type: ignore[call-overload]
            self.kept.append(moving)
            return lambda outputs, made: moving.tensor  # the very one
        python = python_kind(x)
        if python is not None:
            return self._output(x, python, exact)
        if id(x) not in self._outputs:
            self._outputs[id(x)] = x, self._output(x, None)
        return self._outputs[id(x)][1]  # one tensor wherever it is put

    def _output(self, x: Operand, python: type | None, exactly: Callable[[Any], Any] = lambda x: x) -> Fill:
        try:
            with tracing(self.trace):
                v = self.trace.value(strong(exactly(x)))  # type: ignore[arg-type]
        except LeakedTensorError:
            raise refused("a tensor of a branch or loop is kept outside of it", self.loc) from None
        self.results.append(v)
        return output(len(self.results) - 1, python)


def check_kept(x: Any, given: Container[int], loc: Location | None) -> None:
    """What is kept as it is, such as a function, holds no tensors of the trace, with which they would end."""
    if rebuilt(x):
        return
    seen, todo = dict[int, Any](), [x]
    while todo and len(seen) < MANY:
        if id(y := todo.pop()) in seen:
            continue
        seen[id(y)] = y
        if (isinstance(y, Operand) and host.is_traced(y)) or (y is not x and id(y) in given):
            text = f"a {type(x).__name__} that holds tensors of the call is kept outside of the function"
            raise refused(text, loc)
        if isinstance(y, _CALLED):
            todo += parts_called(y)
        elif type(y) is tuple or (id(y) not in given and (y is x or age(y)) and not isinstance(y, Operand)):
            todo += [*parts_of(y), *(getattr(y, "__dict__", None) or {}).values()]


def rebuilt(x: Any) -> bool:
    """Whether an object can be made anew from what it holds: a container, or one of a plain class."""
    if isinstance(x, (list, tuple, dict, set, deque)):
        return True
    kind = type(x)
    plain = kind.__dictoffset__ != 0 or any(own_slots(kind))
    return plain and (kind.__flags__ & (1 << 9) != 0 or kind is SimpleNamespace) and not callable(x)
