"""Which Variables a function that stays Python may read or assign: those that it finds by the names in its code."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

from tracejit.autograph.owners import is_library_module
from tracejit.runtime.guards import own_dict, raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand, Variable
from tracejit.tracing import streams

MOST = 5000  # objects that are looked at
_ALL = {"getattr", "vars", "__dict__", "attrgetter", "copy", "deepcopy", "dump", "dumps", "save", "map_structure"}
_ASSIGNING = ("assign", "scatter", "batch_scatter", "apply", "minimize", "load", "set", "restore", "copy", "reset")
_DRAWING = ("random", "dropout", "shuffle", "sampler", "noise", "initial")
_HOLDERS = (weakref.ref, contextvars.ContextVar, threading.local)
_OF_PYTHON = ("itertools", "weakref", "functools", "operator")
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...))


class Reached:
    """What functions can get at: `variables`, and whether code of this package is among it."""

    def __init__(self, *roots: Any) -> None:
        self.variables: dict[int, Variable] = {}
        self.ours = self._free = False
        self._names: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._codes: dict[types.CodeType, dict[str, Any]] = {}
        self._objects: list[Any] = []
        self._todo = list(roots)
        while self._todo:
            while self._todo and len(self._seen) < MOST:
                self._visit(self._todo.pop())
            found = [y for x in self._objects for y in self._named(x)]
            found += [g[n] for code, g in self._codes.items() for n in _named_by(code) if n in g]
            self._todo = [y for y in found if id(y) not in self._seen and not isinstance(y, _PLAIN)]
            if len(self._seen) >= MOST:
                break

    def _visit(self, x: Any) -> None:
        if id(x) in self._seen or isinstance(x, _PLAIN):
            return
        self._seen[id(x)] = x
        if isinstance(x, Variable):
            self.variables[id(x)] = x
        elif isinstance(x, types.FunctionType):
            self._function(x)
        elif isinstance(x, types.MethodType | types.BuiltinMethodType):
            self._todo += [x.__self__, getattr(x, "__func__", None)]
        elif isinstance(x, types.GeneratorType):
            if x.gi_frame is not None:
                self._code(x.gi_code, x.gi_frame.f_globals)
                self._todo += x.gi_frame.f_locals.values()
        elif isinstance(x, dict):
            self._todo += [*x.keys(), *x.values()]
        elif isinstance(x, list | tuple | set | frozenset) or type(x).__module__ == "collections":
            self._todo += list(x) if hasattr(type(x), "__iter__") else []
        elif isinstance(x, _HOLDERS) or (type(x).__module__ in _OF_PYTHON and not isinstance(x, type)):
            self._todo += _held(x)
        elif isinstance(x, types.ModuleType):
            self.ours |= _is_ours(x.__name__) and x.__name__ != "tracejit"
            if not is_library_module(x):
                self._objects.append(x)
        elif not isinstance(x, Operand):
            self._object(x)

    def _object(self, x: Any) -> None:
        cls = x if isinstance(x, type) else type(x)
        ours = any(_is_ours(k.__module__) for k in cls.__mro__)
        self.ours |= ours
        if (f := getattr(x, "func", None)) is not None and cls.__module__ == "functools":
            self._todo += [f, *x.args, *x.keywords.values()]
        if isinstance(x, type) and _is_ours(x.__module__):
            return
        self._objects.append(x)
        if ours and (f := getattr(x, "python_function", None)) is not None:
            self._todo.append(f)
        elif ours and _is_ours(cls.__module__):  # an optimizer, a generator: its own code does as it likes
            self._free = True
            self._todo += (own_dict(x) or {}).values()
            slots = [getattr(k, "__slots__", ()) for k in cls.__mro__]
            named = [s for group in slots for s in ((group,) if isinstance(group, str) else group)]
            self._todo += [y for s in named if (y := getattr(x, s, None)) is not None and not s.startswith("__")]

    def _function(self, f: types.FunctionType) -> None:
        self.ours |= _is_ours(f.__module__)
        for name, c in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                self._todo += [c.cell_contents] if name != "ag__" else []  # by which converted code knows ours
            except ValueError:  # nothing is in it yet
                pass
        self._todo += [*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values(), getattr(f, "__wrapped__", None)]
        module = sys.modules.get(str(f.__module__))
        if module is None or not is_library_module(module):
            self._code(f.__code__, f.__globals__)

    def _code(self, code: types.CodeType, names: dict[str, Any]) -> None:
        if code not in self._codes:
            self._codes[code] = names
            self._names.update(_named_by(code))
            for c in code.co_consts:
                if isinstance(c, types.CodeType):
                    self._code(c, names)

    def _named(self, x: Any) -> Iterator[Any]:
        """What an object has under names that the code says."""
        own = x.__dict__ if isinstance(x, types.ModuleType | type) else own_dict(x) or {}
        cls = x if isinstance(x, type) else type(x)
        everything = bool(self._names & _ALL) or (not isinstance(x, type) and self._asks_for_all(cls))
        yield from (y for n, y in list(own.items()) if everything or n in self._names)
        for n in self._names:
            y = MISSING if n in own else raw(cls, n)
            if isinstance(y, types.MemberDescriptorType):
                y = getattr(x, n, None)
            if isinstance(y, property):
                yield y.fget
                yield y.fset
            elif isinstance(y, staticmethod | classmethod):
                yield y.__func__
            elif y is not MISSING:
                yield y
        for k in cls.__mro__ if isinstance(x, type) or not isinstance(x, types.ModuleType) else ():
            for n, y in k.__dict__.items():
                if n.startswith("__") and isinstance(y, types.FunctionType):
                    yield y

    @property
    def draws(self) -> bool:
        """Whether it may draw random numbers of this package's."""
        return self.ours or any(word in n for n in self._names for word in _DRAWING)

    @property
    def assigns(self) -> bool:
        """Whether it may assign them."""
        return self._free or any(n.startswith(_ASSIGNING) for n in self._names)

    def _asks_for_all(self, cls: type) -> bool:
        """Whether the code names what this package's code tells of the whole object, such as all of its Variables."""
        for k in cls.__mro__:
            if _is_ours(k.__module__) and any(n in self._names for n in k.__dict__ if n[0] != "_" and n != "name"):
                return True
        return False


def _held(x: Any) -> list[Any]:
    """What an object of Python's own holds, whatever the code says."""
    if isinstance(x, weakref.ref):
        return [x()]
    if isinstance(x, contextvars.ContextVar):
        try:
            return [x.get()]
        except LookupError:
            return []
    if isinstance(x, threading.local):
        return list(x.__dict__.values())
    return list((own_dict(x) or {}).values()) or [y for y in gc.get_referents(x) if not isinstance(y, type)]


def _named_by(code: types.CodeType) -> list[str]:
    """The names in a function's code, of which converted code has some as strings."""
    return [*code.co_names, *[c for c in code.co_consts if isinstance(c, str)]]


def _is_ours(module: Any) -> bool:
    return isinstance(module, str) and (module == "tracejit" or module.startswith("tracejit."))


def state_of(f: Any) -> list[tuple[Variable, bool]]:
    """The Variables that a call of `f` may read, each with whether it may assign it; the state of the global stream of
    random numbers among them if it may draw from it."""
    reached = Reached(f)
    found = {i: (v, reached.assigns or v in streams) for i, v in reached.variables.items()}
    if reached.draws and (module := sys.modules.get("tracejit.ops.generator")) is not None:
        state = module.get_global_generator().state
        found[id(state)] = (state, True)
    return list(found.values())
