"""Objects that a traced function returns and that hold traced tensors: made anew for each call, or refused."""

from __future__ import annotations

import copy
import gc
import types
from collections.abc import Iterable, Sequence
from typing import Any

from tracejit.autograph import places, reads
from tracejit.autograph.effects import Fill
from tracejit.autograph.growing import Result
from tracejit.autograph.holders import MANY, held_elsewhere
from tracejit.autograph.recipes import Recipes, rebuilt, refused
from tracejit.autograph.values import Optional
from tracejit.errors import Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.tensor import Operand
from tracejit.tracing import Trace

_PLAIN = (Operand, Dim, Optional, str, bytes, bool, int, float, complex, type(None), type, types.ModuleType)


class Made:
    """A leaf of a result that is made from so many of the outputs."""

    __slots__ = ("fill", "count")

    def __init__(self, fill: Fill, count: int) -> None:
        self.fill, self.count = fill, count


def any_holds_traced(leaves: Iterable[Any]) -> bool:
    return any(map(holds_traced, leaves))


def holds_traced(x: Any) -> bool:
    """Whether a traced tensor can be reached from an object that is none, through what it or a function of it holds."""
    if isinstance(x, _PLAIN):
        return False
    seen: dict[int, Any] = {id(x): x}
    todo = [x]
    while todo and len(seen) < MANY:
        for y in _parts(todo.pop()):
            if isinstance(y, Operand):
                if type(y._a) is Value:
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

    def __init__(self, trace: Trace, leaves: list[Any], known: set[int], loc: Location | None) -> None:
        self.trace, self.loc = trace, loc
        self.outside = held_elsewhere([leaves, *places.logs()], reads.settled(), known)

    def leaf(self, x: Any) -> tuple[Made, list[Value]]:
        """How the leaf is made, and the values that it takes."""
        if type(x) is Result:
            r = Recipes(self.trace, self.outside)
            fill = r.inside(x.list)
            return Made(fill, len(r.results)), r.results
        if id(x) in self.outside or not rebuilt(x) or not _copies(x):
            error = refused(f"the function returns a {type(x).__name__} that holds traced tensors", self.loc)
            error.remedy = "return tensors, in lists, dicts, dataclasses or objects of plain classes"
            if isinstance(x, types.CoroutineType | types.GeneratorType):
                x.close()
            raise error
        r = Recipes(self.trace, self.outside)
        r.loc = self.loc
        fill = r.of(x)
        return Made(fill, len(r.results)), r.results


def _copies(x: Any) -> bool:
    try:
        copy.copy(x)
    except Exception:
        return False
    return True
