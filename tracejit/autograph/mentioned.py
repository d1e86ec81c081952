"""Which attributes the code of a library's classes mentions: the others of an object cannot matter to its methods."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any

from tracejit.identity import IdentityMap
from tracejit.runtime.guards import raw

_MOST = 100  # functions that call one another
# What may read attributes of other names.
_EVERY = {
    "__dict__", "__getattribute__", "__getstate__", "__reduce_ex__", "__slots__", "asdict", "astuple", "attrgetter",
    "copy", "deepcopy", "dir", "dump", "dumps", "eval", "exec", "fields", "getmembers", "locals", "vars",
}  # fmt: skip
_BY_NAME = {"getattr", "hasattr"}
# What Python calls without a name in the code.
_IMPLIED = (
    "__bool__", "__call__", "__contains__", "__enter__", "__eq__", "__float__", "__getattr__", "__getitem__",
    "__hash__", "__index__", "__int__", "__iter__", "__len__", "__lt__", "__next__",
)  # fmt: skip
_known: IdentityMap[dict[str, frozenset[str] | None]] = IdentityMap()


def names_for(cls: type, *methods: Any) -> frozenset[str] | None:
    """The names that methods of a class, and what they call of their class and package, mention; None for all."""
    found = [_names_for(cls, f) for f in methods]
    return None if None in found else frozenset().union(*found)  # type: ignore[arg-type]


def names_within(cls: type, names: frozenset[str] | None) -> frozenset[str] | None:
    """The same for an object of a class, by code that gets at it and mentions these names."""
    if names is None:
        return None
    found = names_for(cls, *[f for n in names for f in _functions(raw(cls, n))])
    return None if found is None else names | found


def _names_for(cls: type, f: Any) -> frozenset[str] | None:
    inner = getattr(f, "__func__", f)
    if type(inner) is not types.FunctionType:
        return None
    known = _known.get(cls)
    if known is None:
        _known.set(cls, known := {})
    key = f"{inner.__module__}.{inner.__qualname__}"
    if key not in known:
        known[key] = _found(cls, inner)
    return known[key]


def _found(cls: type, f: types.FunctionType) -> frozenset[str] | None:
    todo = [f, *[m for n in _IMPLIED for m in _functions(raw(cls, n))]]
    names: set[str] = set()
    seen: dict[types.CodeType, Any] = {}
    while todo:
        g = todo.pop()
        if g.__code__ in seen:
            continue
        seen[g.__code__] = g
        own = names_in(g.__code__)
        asked = _asked_for(g.__code__) if own & _BY_NAME else frozenset()
        if own & _EVERY or asked is None or len(seen) > _MOST:
            return None
        names |= own | asked
        top = str(f.__module__).partition(".")[0]
        for n in own:
            todo += _functions(raw(cls, n))
            x = g.__globals__.get(n)
            if type(x) is types.FunctionType and str(x.__module__).partition(".")[0] == top:
                todo.append(x)
    return frozenset(names)


def names_in(code: types.CodeType) -> frozenset[str]:
    """The names of attributes, among others, that a function's code and what stands in it says."""
    inner = [names_in(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(code.co_names).union(*inner)


def _asked_for(code: types.CodeType) -> frozenset[str] | None:
    """The names that `getattr` and `hasattr` are given; None if some are no constants."""
    found, asking = set[str](), False
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL" and step.argval in _BY_NAME:
            if asking:
                return None
            asking = True
        elif asking and step.opname == "LOAD_CONST":
            if type(step.argval) is not str:
                return None
            found.add(step.argval)
            asking = False
        elif asking and not step.opname.startswith("LOAD_"):
            return None
    inner = [_asked_for(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return None if asking or None in inner else frozenset(found).union(*inner)  # type: ignore[arg-type]


def _functions(x: Any) -> list[types.FunctionType]:
    """The functions behind what a class has."""
    if isinstance(x, property):
        parts: list[Any] = [x.fget]
    elif isinstance(x, functools.cached_property):
        parts = [x.func]
    else:
        parts = [getattr(x, "__func__", x)]
    return [y for y in parts if type(y) is types.FunctionType]
