"""Objects that a traced function returns and that hold traced tensors: made anew for each call, or refused."""

from __future__ import annotations

import copy
import gc
import types
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from tracejit.autograph import places, reads
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.effects import Fill, Path, output
from tracejit.autograph.holders import MANY, held_elsewhere
from tracejit.autograph.hostcalls import Yields
from tracejit.autograph.recipes import Recipes, rebuilt, refused
from tracejit.autograph.recorder import Recorder
from tracejit.autograph.results import Own, Result
from tracejit.autograph.values import Either, Optional
from tracejit.errors import Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ops.host import exact, python_kind
from tracejit.tensor import Operand, convert
from tracejit.tracing import Trace
from tracejit.tree import flatten

_PLAIN = (Operand, Dim, Optional, str, bytes, bool, int, float, complex, type(None), type, types.ModuleType)


class Made:
    """A leaf of a result, of a type, that is made from so many of the outputs."""

    __slots__ = ("fill", "count", "type")

    def __init__(self, fill: Fill, count: int, type: type) -> None:
        self.fill, self.count, self.type = fill, count, type


def any_holds_traced(leaves: Iterable[Any], given: Container[int]) -> bool:
    return any(holds_traced(x, given) for x in leaves)


def holds_traced(x: Any, given: Container[int]) -> bool:
    """Whether a traced tensor can be reached from an object that is none, through what it or a function of it holds; or
    one of the containers that are `given` as arguments, which each call has of its own."""
    if type(x) is Optional:
        return any(type(y) in (Chosen, Own, Result) for y in flatten(x.value)[0])
    if isinstance(x, _PLAIN):
        return False
    if type(x) is Own:
        return True
    if type(x) is Yields:  # what it will yield
        return True
    seen: dict[int, Any] = {id(x): x}
    todo = [x]
    while todo and len(seen) < MANY:
        for y in _parts(todo.pop()):
            if isinstance(y, Operand):
                if type(y._a) is Value:
                    return True
            elif id(y) in given:
                return True
            elif id(y) not in seen:
                seen[id(y)] = y
                todo.append(y)
    return False


def _parts(x: Any) -> Sequence[Any]:
    if isinstance(x, types.FunctionType):
        cells = [c for c in x.__closure__ or () if c is not None]
        return [*cells, *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
    if isinstance(x, types.MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, (type, types.ModuleType, types.CodeType, types.BuiltinFunctionType)):
        return [getattr(x, "__self__", None)] if isinstance(x, types.BuiltinFunctionType) else []
    return gc.get_referents(x)


class Returned:
    """How the objects that hold traced tensors among what a function returns are made."""

    def __init__(self, trace: Trace, leaves: list[Any], recorder: Recorder, loc: Location | None) -> None:
        self.trace, self.loc = trace, loc
        outside = recorder.outside  # that of the effects, which now hold what they make
        if outside is None:
            outside = held_elsewhere([leaves, *places.logs()], reads.settled(), recorder.arguments)
        self.outside = outside
        self.told_apart = recorder.told_apart
        self.given, self.used = recorder.given, set[Path]()  # containers among the arguments, and those that are used

    def _recipes(self) -> Recipes:
        return Recipes(self.trace, self.outside, self.given, self.used, self.told_apart)

    def leaf(self, x: Any) -> tuple[Made, list[Value]]:
        """How the leaf is made, and the values that it takes."""
        if type(x) is Either:
            x.fail()
        if type(x) is Chosen:
            r = self._recipes()
            for v in x.values:
                self._check(v)
            fill = r.of(x)
            return Made(fill, len(r.results), type(x.values[0])), r.results
        if type(x) in (Own, Result):
            r = self._recipes()
            r.loc = self.loc
            fill = r.inside(x.container) if type(x) is Result else r.of(x.container)
            return Made(fill, len(r.results), type(x.container)), r.results
        self._check(x)
        r = self._recipes()
        r.loc = self.loc
        fill = r.of(x)
        return Made(fill, len(r.results), type(x)), r.results

    def _check(self, x: Any) -> None:
        """Raises `ConversionError` for an object that holds traced tensors and cannot be made for each call."""
        if not holds_traced(x, self.given):
            return
        if type(x) is Yields or id(x) in self.outside or not rebuilt(x) or not _copies(x):
            kind = "generator" if type(x) is Yields else type(x).__name__
            error = refused(f"the function returns a {kind} that holds traced tensors", self.loc)
            error.remedy = "return tensors, in lists, dicts, dataclasses or objects of plain classes"
            if isinstance(x, types.CoroutineType | types.GeneratorType | Yields):
                error.remedy = "compile the functions that it calls: what waits or yields is Python's to run"
                if type(x) is not Yields or x.started:
                    x.close()
            raise error


def number(trace: Trace, x: Any) -> tuple[Made, Value] | None:
    """How a number is returned that plain Python has as a number of its own; None for tensors.

    That is so for sizes and for what `float`, `len`, `math.exp`, … have made of a tensor. Numbers that come from
    arguments are tensors, as they are under TensorFlow.
    """
    if isinstance(x, Dim):
        x = convert(x)
        return Made(output(0, int), 1, int), trace.value(x)
    kind = python_kind(x)
    if kind is None or not _converted(trace.value(x), trace.builder.nodes, lambda v: None, set()):
        return None
    return Made(output(0, kind), 1, kind), trace.value(exact(x))


def _converted(v: Value, nodes: Iterable[Node], outer: Callable[[Value], bool | None], seen: set[Value]) -> bool:
    """Whether a Python number comes from a tensor. `outer` says it of the parameters of a region."""
    made = {o: n for n in nodes for o in n.outs}

    def asked(v: Value) -> bool:
        if v in seen or not v.type.weak:
            return False
        seen.add(v)
        n = made.get(v)
        if n is None:
            return bool(outer(v))
        if n.op.name == "dim" or (n.op.name == "cast" and not n.inputs[0].type.weak):
            return True
        k = n.outs.index(v)
        found = [g for _, g in n.attrs if isinstance(g, Graph) and k < len(g.results)]
        for g in found if n.op.family == "control" else ():
            given = dict(zip(g.params, n.inputs[n.op.name == "cond" :], strict=False))
            if _converted(g.results[k], g.nodes, lambda p: p in given and asked(given[p]), seen):  # noqa: B023
                return True
        return not found and any(map(asked, n.inputs))

    return asked(v)


def _copies(x: Any) -> bool:
    try:
        copy.copy(x)
    except Exception:
        return False
    return True
