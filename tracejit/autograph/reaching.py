"""What functions that are not converted name: globals, variables of functions around them, methods, other functions."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any

from tracejit.autograph.source import in_library
from tracejit.errors import is_internal
from tracejit.identity import IdentityMap
from tracejit.runtime.guards import raw
from tracejit.runtime.held import MISSING

MOST = 100  # functions that are looked at, one from the other
_OUTSIDE = {"print", "input", "open"}  # what code says that does something outside of the process
_ASKING = {"random", "time", "os", "logging", "secrets", "subprocess"}  # and modules that do
_stored: IdentityMap[frozenset[str]] = IdentityMap()


def is_python(module: Any) -> bool:
    """Whether a module is Python's own, NumPy or this package, whose own state is no effect."""
    root = str(module).partition(".")[0]
    return root in sys.stdlib_module_names or root in ("numpy", "tracejit")


class Named:
    """What a function names, and those that it names: `places` are globals that may change, by their namespaces."""

    def __init__(self, f: types.FunctionType, cls: type | None) -> None:
        self.names: set[str] = set()
        self.cells: list[types.CellType] = []
        self.says = ""  # what it does outside of the process
        self.defaults: list[Any] = []  # of parameters, those that may change
        self.classes: list[type] = []
        self.places: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}
        self._seen: set[int] = set()
        todo: list[tuple[Any, type | None]] = [(f, cls)]
        while todo and len(self._seen) < MOST:
            g, of = todo.pop()
            if id(g) not in self._seen:
                self._seen.add(id(g))
                todo += self._function(g, of)

    def _function(self, f: types.FunctionType, cls: type | None) -> Iterator[tuple[Any, type | None]]:
        self.cells += f.__closure__ or ()
        for c in f.__closure__ or ():
            try:
                yield from _function_of(c.cell_contents, None)
            except ValueError:  # nothing is in it yet
                pass
        every = [*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()]
        self.defaults += [x for x in every if type(x) not in _CONSTANT]
        names = dict.fromkeys(n for code in _codes(f.__code__) for n in code.co_names)
        self.names |= names.keys()
        stored = _stores(f.__code__)
        for n in names:
            if n in f.__globals__ or n in stored:
                yield from self._place(f.__globals__, n, names, n in stored)
            elif n in _OUTSIDE and not is_library_code(f.__code__):
                self.says = f"{n}()"
            if cls is not None and (x := raw(cls, n)) is not MISSING:
                yield from _function_of(x, cls)

    def _place(
        self, namespace: dict[str, Any], name: str, names: dict[str, None], stored: bool
    ) -> Iterator[tuple[Any, type | None]]:
        """A global that code names."""
        x = namespace.get(name, MISSING)
        if isinstance(x, types.ModuleType):
            if x.__name__ in _ASKING and not is_library_module(namespace):
                self.says = x.__name__
            for n in names if not is_python(x.__name__) else ():
                if n in vars(x) and not isinstance(vars(x)[n], types.ModuleType):
                    yield from self._place(vars(x), n, names, False)
            return
        if is_python(namespace.get("__name__")):
            return
        if isinstance(x, type):
            yield from self._class(x, names)
            self._note(namespace, name)
            return
        yield from _function_of(x, None)
        if stored or (type(x) not in _CONSTANT and not isinstance(x, _FUNCTIONS)):
            self._note(namespace, name)
            if not is_python(type(x).__module__):
                for n in names:
                    yield from _function_of(raw(type(x), n), type(x))

    def _class(self, cls: type, names: dict[str, None]) -> Iterator[tuple[Any, type | None]]:
        if is_python(cls.__module__) or id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        self.classes.append(cls)
        for n in names:
            x = raw(cls, n)
            if isinstance(x, type):
                yield from self._class(x, names)
            else:
                yield from _function_of(x, cls)

    def _note(self, namespace: dict[str, Any], name: str) -> None:
        self.places.setdefault(id(namespace), (namespace, {}))[1][name] = None


_CONSTANT = (int, float, str, bytes, bool, complex, type(None), frozenset, type(MISSING))
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)


def _function_of(x: Any, cls: type | None) -> Iterator[tuple[Any, type | None]]:
    """The function of something found under a name, with the class of which it is a method."""
    for y in (x.fget, x.fset) if isinstance(x, property) else (getattr(x, "__func__", x),):
        if isinstance(y, types.FunctionType) and not is_python(y.__module__):
            yield y, cls


def is_library_code(code: types.CodeType) -> bool:
    """Whether code is a library's, and not this package's."""
    return _is_of_library(code.co_filename)


def is_library_module(namespace: dict[str, Any]) -> bool:
    return _is_of_library(str(namespace.get("__file__", "")))


@functools.lru_cache(1024)
def _is_of_library(file: str) -> bool:
    return in_library(file) and not is_internal(file)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _codes(c)


def _stores(code: types.CodeType) -> frozenset[str]:
    """The globals that code assigns."""
    found = _stored.get(code)
    if found is None:
        some = [c for c in _codes(code) if not _STORING.isdisjoint(c.co_code[::2])]
        every = (i for c in some for i in dis.get_instructions(c))
        found = frozenset(str(i.argval) for i in every if i.opcode in _STORING)
        _stored.set(code, found)
    return found


_STORING = frozenset((dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]))
_known: IdentityMap[IdentityMap[Named]] = IdentityMap()


def named(f: types.FunctionType, cls: type | None) -> Named:
    """What a function names, as a method of this class if given. Of libraries' functions it is found out once."""
    if f.__closure__ or not is_library_code(f.__code__):
        return Named(f, cls)
    of = _known.get(f)
    if of is None:
        of = IdentityMap()
        _known.set(f, of)
    key: Any = cls if cls is not None else f
    found = of.get(key)
    if found is None:
        found = Named(f, cls)
        of.set(key, found)
    return found
