"""What functions of the user's read that run as they are: where they are called by code that is not converted."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tracejit.autograph import insides, rare
from tracejit.autograph.mentioned import names_in
from tracejit.autograph.owners import global_names, is_library_module, is_users
from tracejit.autograph.source import is_library
from tracejit.runtime.guards import own_dict, raw

if TYPE_CHECKING:
    from tracejit.autograph.guarding import Reads

_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_MOST = 50  # functions that call one another


def functions(reads: Reads, *roots: Any, names: Iterable[str] = ()) -> None:
    """Functions, and what they call by name, are called; of objects among `roots` what has one of these names is."""
    todo = [f for x in roots for f in _called(reads, x, frozenset(names))]
    objects = [x for x in roots if not isinstance(x, _FUNCTIONS)]
    seen: dict[types.CodeType, Any] = {}
    while todo and len(seen) < _MOST:
        f = todo.pop()
        if f.__code__ in seen:
            continue
        seen[f.__code__] = f
        reads.code(f.__code__, f.__globals__)
        reads.cells(f)
        rare.defaults(reads, f)
        around = list(_around(f))
        insides.state(reads, *[x for x in around if reads.reached(x) is not None or is_users(type(x))])
        todo += [g for x in (*around, *objects) for g in _called(reads, x, names_in(f.__code__))]


def _around(f: types.FunctionType) -> Iterator[Any]:
    yield from (c.cell_contents for c in f.__closure__ or () if c != types.CellType())
    yield from (f.__globals__[n] for n in global_names(f.__code__) if n in f.__globals__)


def _called(reads: Reads, x: Any, names: frozenset[str]) -> Iterator[types.FunctionType]:
    """The user's functions that code gets at from an object by these names."""
    if isinstance(x, types.FunctionType):
        if not is_library(x) or insides.is_generated(x):
            yield x
    elif isinstance(x, functools.partial):
        for y in (x.func, *x.args, *x.keywords.values()):
            yield from _called(reads, y, names)
    elif isinstance(x, types.MethodType):
        insides.state(reads, x.__self__)
        yield from _called(reads, x.__func__, names)
    elif isinstance(x, types.ModuleType):
        for n in names & vars(x).keys() if not is_library_module(x) else ():
            reads.attribute(x, n)
            yield from _called(reads, vars(x)[n], frozenset())
    elif is_users(cls := x if isinstance(x, type) else type(x)):
        for n in (*names, "__call__"):
            if (found := raw(cls, n)) is not rare.MISSING:
                reads.of_class(cls, n)
                inner = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
                yield from _called(reads, inner, frozenset()) if isinstance(inner, types.FunctionType) else ()
    elif not isinstance(x, type) and (own := own_dict(x)) is not None:
        for y in [own[n] for n in names & own.keys()]:
            held = [*(y.values() if isinstance(y, dict) else y)] if isinstance(y, dict | list | tuple) else [y]
            for z in held[:_MOST]:
                yield from _called(reads, z, frozenset()) if isinstance(z, _FUNCTIONS) else ()
