"""Calls of code that is not converted: what they change of what was there before is found out, undone and refused."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tracejit.autograph import arrays, places, reads, specials
from tracejit.autograph.belongings import (
    CONTAINERS,
    Attributes,
    Cell,
    Change,
    ClassData,
    Container,
    Globals,
    Numbers,
    Part,
    Slots,
    equal,
    is_private,
    kind_of,
    moves_on,
    of_cs,
    size,
)  # fmt: skip
from tracejit.autograph.insides import is_others
from tracejit.autograph.owners import is_users
from tracejit.autograph.reaching import Named, is_library_code, is_python, named
from tracejit.context import context
from tracejit.errors import ConversionError, is_internal, locate
from tracejit.ops.host import Text
from tracejit.runtime.guards import own_dict, raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand

MOST = 300  # objects that are looked at, the nearest first
LARGEST = 1 << 20  # bytes of arrays within them, and items of containers
# Modules with functions that change nothing of what they are given.
_LOOKING = {
    "builtins", "math", "cmath", "copy", "json", "json.encoder", "dataclasses", "inspect", "typing", "types", "re",
    "operator", "_operator", "itertools", "functools", "_functools", "abc", "_abc", "enum", "_sre", "string",
}  # fmt: skip
_ATOMS = frozenset((int, float, bool, str, complex, bytes, type(None), range, slice, types.ModuleType, type(MISSING)))
_LEAVES = (Operand, Text, np.generic, np.dtype, np.ufunc, type, types.BuiltinFunctionType, weakref.ref)
_NOT_CHANGING = (*CONTAINERS, str, bytes, tuple, frozenset, np.ndarray, np.generic, np.ufunc, types.ModuleType, type)


def watched(f: Any, args: tuple, kwargs: dict[str, Any], told: bool = False) -> Watch | None:
    """What a call of code that is not converted may change; None where there is nothing that it could. `told`: what it
    does to containers and arrays that are its operands is told elsewhere."""
    if places.listener() is None or context.trace is None:
        return None
    while isinstance(f, functools.partial):
        args, kwargs, f = (*f.args, *args), {**f.keywords, **kwargs}, f.func
    name = getattr(f, "__name__", None) or type(f).__name__
    if isinstance(f, types.FunctionType) and is_internal(f.__code__.co_filename):
        return None  # this package's own, which may have a name and module of the user's function that it wraps
    own = _specials(f, (*args, *kwargs.values()))
    if _looks(f):
        args, kwargs = (*_called_back(f, (*args, *kwargs.values())), *own), {}
        f = None
        if not args:
            return None
    args = (*args, *own)
    made = Watch(f, args, kwargs, told, str(name))
    made.strict = bool(own)
    return made if made.parts else None


def _called_back(f: Any, given: tuple) -> tuple:
    """What a function that changes nothing itself calls, of what it is given."""
    module = str(getattr(f, "__module__", None))
    found = [x for x in given if isinstance(x, _FUNCTIONS)] if module in _CALLING else []
    if module == "copy":
        for x in given:
            methods = [raw(type(x), n) for n in _COPYING] if is_users(type(x)) else []
            found += [types.MethodType(m, x) for m in methods if isinstance(m, types.FunctionType)]
    return tuple(found)


def _specials(f: Any, given: tuple) -> list[Any]:
    """The methods of the user's classes that a function may call of what it is given, and of what it is a method of."""
    if any(f is g for g in _ASKING):
        return []
    inner = getattr(f, "__func__", f)
    if isinstance(inner, types.FunctionType) and not is_library_code(inner.__code__):
        return []
    if isinstance(f, type) and issubclass(f, (list, tuple, deque)):
        return specials.among(given, specials.ITEMS, False)
    owner = getattr(f, "__self__", None)
    return specials.among((*given, owner))


_ASKING = (isinstance, issubclass, id, type, callable, super, object)
_CALLING = {"re", "json", "_operator"}
_COPYING = ("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def _looks(f: Any) -> bool:
    """Whether a function is known to change nothing, but for what is told of it elsewhere."""
    owner = getattr(f, "__self__", None)
    module = f.__module__ if isinstance(f, type) else getattr(f, "__module__", None)
    if isinstance(f, types.BuiltinFunctionType | types.MethodWrapperType) and isinstance(owner, _NOT_CHANGING):
        return isinstance(owner, CONTAINERS) or module in _LOOKING
    if isinstance(f, types.FunctionType):
        return module in _LOOKING or not is_library_code(f.__code__)
    return module in _LOOKING and (isinstance(f, type) or owner is None)


class Watch:
    """What a call may change, as it was before."""

    def __init__(self, f: Any, args: Iterable[Any], kwargs: dict[str, Any], told: bool, name: str) -> None:
        self.parts: list[Part] = []
        self.name = name
        self.strict = False  # whether what is added counts as changed, though the call has failed
        self._listener = places.listener()
        self._seen: set[int] = set()
        self._todo: deque[tuple[Any, bool]] = deque()
        self._bytes = self._items = 0
        self._alive: list[Any] = []
        self._first = self._nodes()
        given = [*args, *kwargs.values()]
        self._limit = MOST + 2 * len(given)
        is_numpys = str(getattr(f, "__module__", None)).partition(".")[0] == "numpy"
        owner = getattr(f, "__self__", None if isinstance(f, types.FunctionType) else f)
        self._told = {id(x): x for x in (owner, *given) if told and isinstance(x, (*CONTAINERS, np.ndarray))}
        self._code(f, owner)
        if isinstance(f, np.ufunc):
            self._todo.extend((y, False) for y in gc.get_referents(f) if isinstance(y, _FUNCTIONS))
        for x in given:
            if not is_numpys or isinstance(x, (tuple, list, types.FunctionType, types.MethodType)):
                self._todo.append((x, False))
        if not isinstance(owner, types.ModuleType | type(None)):
            self._todo.append((owner, False))
        if isinstance(f, type) or is_own(owner):
            held = self._listener.handed
            if not isinstance(f, type):
                self._todo.extend((x, False) for x in list(held.values()))
            held.update((id(x), x) for x in given if type(x) not in _ATOMS and not isinstance(x, _LEAVES))
        self._walk()

    # --- what it may change -------------------------------------------------------------------------------------------
    def _code(self, f: Any, owner: Any) -> None:
        """What the function names, and what it has of its own."""
        if isinstance(f, types.MethodType):
            f = f.__func__
        elif not isinstance(f, types.FunctionType | type) and owner is f:
            f = raw(type(f), "__call__")
        if isinstance(f, type):
            if not is_python(f.__module__):
                for name in ("__new__", "__init__"):
                    method = raw(f, name)
                    self._function(getattr(method, "__func__", method), f, None)
                self._classes(f)
            return
        cls = owner if isinstance(owner, type) else None if owner is None else type(owner)
        self._function(f, cls, owner)
        if cls is not None and isinstance(f, types.FunctionType):
            self._classes(cls)

    def _function(self, f: Any, cls: type | None, owner: Any) -> None:
        if not isinstance(f, types.FunctionType):
            return
        if f.__dict__ and not is_python(f.__module__):
            self.parts.append(Attributes(f, False))
        found = named(f, cls)
        self._check(found, cls, owner)
        for cell in found.cells:
            if id(cell) not in self._seen:
                self._seen.add(id(cell))
                self.parts.append(Cell(cell, True))
                self._todo.append((self.parts[-1].old, True))
        for c in found.classes:
            self._classes(c)
        self._todo.extend((x, True) for x in found.defaults)
        for namespace, names in found.places.values():
            self.parts.append(part := Globals(namespace, iter(names)))
            self._todo.extend((x, True) for x in part.old.values())

    def _classes(self, cls: type) -> None:
        for k in cls.__mro__:
            if id(k) not in self._seen and not is_python(k.__module__):
                self._seen.add(id(k))
                self.parts.append(part := ClassData(k, True))
                self._todo.extend((x, True) for x in part.old.values())

    def _check(self, found: Named, cls: type | None, owner: Any) -> None:
        """Refuse to call what moves an iterator on, which cannot be undone, or acts outside of the process."""
        if found.says:
            raise self._refused(f"calls code that uses {found.says}")
        own = {} if owner is None or is_own(owner) else own_dict(owner) or {}
        of_class = {n: x for n in found.names if cls is not None and (x := raw(cls, n)) is not MISSING}
        around = [n[k] for n, names in found.places.values() for k in names if k in n]
        every = [*[own[n] for n in found.names if n in own], *of_class.values(), *around]
        for c in found.cells:
            every += [c.cell_contents] if c != types.CellType() else []
        if any(moves_on(x) and not is_own(x) for x in every):
            raise self._refused("moves an iterator on")

    def _walk(self) -> None:
        while self._todo and len(self._seen) < self._limit:
            x, private = self._todo.popleft()
            if type(x) in _ATOMS or isinstance(x, _LEAVES) or id(x) in self._seen:
                continue
            self._seen.add(id(x))
            self._alive.append(x)
            self._visit(x, private, is_own(x))

    def _visit(self, x: Any, private: bool, own: bool) -> None:
        if isinstance(x, _FUNCTIONS):
            self._called_back(x)
        elif isinstance(x, tuple):
            self._todo.extend((y, private) for y in x)
        elif isinstance(x, CONTAINERS):
            self._items += size(x)
            if not own and id(x) not in self._told and self._items <= LARGEST:
                self.parts.append(Container(x, private))
            if size(x) < MOST:
                items = dict.values(x) if isinstance(x, dict) else kind_of(x).__iter__(x)
                self._todo.extend((y, private) for y in items)
            self._attributes(x, private, own)
        elif isinstance(x, np.ndarray):
            if id(x) not in self._told and x.flags.writeable and not arrays.is_own(x):
                self._bytes += x.nbytes
                if self._bytes <= LARGEST:
                    self.parts.append(Numbers(x, private))
        elif (kind := of_cs(x)) is not None:
            if not own:
                self.parts.append(kind(x, private))
        elif not str(type(x).__module__).startswith(("tracejit.", "logging")):
            self._attributes(x, private, own)

    def _attributes(self, x: Any, private: bool, own: bool) -> None:
        if own and not is_users(type(x)):
            return  # what a library's object holds that the function has made belongs to it
        for part in self._attributes_of(x, private):
            if not own:
                self.parts.append(part)
            self._todo.extend((y, private or is_private(n)) for n, y in part.old.items())

    @staticmethod
    def _attributes_of(x: Any, private: bool) -> Iterator[Part]:
        if own_dict(x) is not None:
            yield Attributes(x, private)
        if any("__slots__" in vars(k) for k in type(x).__mro__[:-1]) and not isinstance(x, CONTAINERS):
            yield Slots(x, private)

    def _called_back(self, f: Any) -> None:
        """A function that code may call which is not converted."""
        owner = None
        if isinstance(f, functools.partial):
            self._todo.extend((y, False) for y in (f.func, *f.args, *f.keywords.values()))
            return
        if isinstance(f, types.MethodType):
            owner, f = f.__self__, f.__func__
            self._todo.append((owner, False))
        if isinstance(f, types.FunctionType) and not is_python(f.__module__):
            f = getattr(f, "ag_original", f)
            if not is_library_code(f.__code__):
                reads.unconverted(f)
            if own_dict(f) is not None:
                self.parts.append(Attributes(f, False))
            self._function(f, None if owner is None else type(owner), owner)

    # --- what it has changed ------------------------------------------------------------------------------------------
    def _most(self) -> tuple[Change, Part | None]:
        found, of = Change.NOTHING, None
        for p in self.parts:
            if (change := p.change()) > found:
                found, of = change, p
        return found, of

    def end(self, made: Any, again: Callable[[], Any]) -> None:
        """The call has given `made`; `again` makes it once more. What it only adds it keeps so as to be quick the next
        time, if the same call then changes nothing, and gives the same: from then on that is read."""
        change, of = self._most()
        if change is Change.ADDED and (self._nodes() > self._first or self._is_kept(made, again)):
            for place in (q for p in self.parts for q in p.places()):
                reads.became(*place)
            return
        if change is not Change.NOTHING and of is not None:
            self.undo()
            raise self._refused(f"changes {of.said()}")

    @staticmethod
    def _nodes() -> int:
        trace: Any = context.trace  # of whose operations none is to be there twice
        return 0 if trace is None else len(trace.builder.nodes)

    def _is_kept(self, made: Any, again: Callable[[], Any]) -> bool:
        after = [p.anew() for p in self.parts]
        after += [Numbers(x, False) if isinstance(x, np.ndarray) else Container(x, False) for x in self._told.values()]
        try:
            return _alike(made, again()) and not any(p.change() for p in after)
        except Exception:
            return False

    def fail(self, given_up: bool = False) -> None:
        """The call has ended with an error, or is no call that could be made once more; or its trace is given up."""
        change, of = self._most()
        if given_up:
            self.undo()
        elif change >= (Change.ADDED if self.strict else Change.CHANGED) and of is not None:
            self.undo()
            raise self._refused(f"changes {of.said()}")

    def undo(self) -> None:
        for p in self.parts:
            if p.change():
                p.put_back()

    def _refused(self, why: str) -> ConversionError:
        said = f"{self.name}(), which is not converted, {why}"
        return locate(ConversionError(said, remedy="call it where the function is called, and hand over what it gives"))  # type: ignore[return-value]


def step(f: Any, args: tuple, kwargs: dict[str, Any], rows: Any) -> Any:
    """`next(rows)` of the generator that `f` has made."""
    watch = watched(f, args, kwargs)
    if watch is None:
        return next(rows)
    try:
        return next(rows)
    finally:
        watch.fail()


def steps_of(x: Any) -> Any:
    """What to go through in the place of an object from outside whose class a library has written."""
    f = raw(type(x), "__iter__")
    if places.listener() is None or not is_others(f) or is_own(x) or hasattr(type(x), "keys"):
        return x
    rows = asked(f, x)
    if rows is x or not (isinstance(rows, types.GeneratorType) or is_others(raw(type(rows), "__next__"))):
        return x
    return places.made(_steps(types.MethodType(f, x), rows))


def _steps(f: Any, rows: Any) -> Iterator[Any]:
    while True:
        try:
            row = step(f, (), {}, rows)
        except StopIteration:
            return
        yield row


def entered(x: Any, enter: Any, leave: Any) -> list[Watch]:
    """What a context manager of a library's may leave otherwise than it was."""
    if isinstance(x, contextlib._GeneratorContextManager) and hasattr(x, "func"):
        gen: Any = x.gen  # which tells its function itself where converted code has called it
        found = [watched(getattr(gen, "function", x.func), x.args, x.kwds)]
    else:
        found = [watched(types.MethodType(f, x), (), {}) for f in (enter, leave)]
    return [w for w in found if w is not None]


def is_own(x: Any) -> bool:
    """Whether the function that is traced has made an object, or had it made."""
    listener = places.listener()
    if listener is None or id(x) in listener.made or id(x) in listener.built:
        return True
    found = listener.alone.get(id(x))
    return found is not None and (found() is x if isinstance(found, weakref.ref) else found is type(x))


def check_items(x: Any) -> None:
    """Items of something are about to be set that is no container of Python's, and none that the function has made."""
    if isinstance(x, (*CONTAINERS, Operand, np.ndarray)) or is_own(x):
        return
    if of_cs(x) is not None or is_others(raw(type(x), "__setitem__")):
        said = f"items of a {type(x).__name__} from outside are set or deleted"
        raise locate(ConversionError(said, remedy="do it where the function is called"))


def _alike(x: Any, y: Any) -> bool:
    """Whether two results may be those of one call, made twice."""
    if equal(x, y):
        return True
    if type(x) is not type(y) or isinstance(x, (int, float, str, complex, bytes)):
        return False
    if isinstance(x, np.ndarray | np.generic):
        return x.tobytes() == y.tobytes()
    return not isinstance(x, tuple | list) or (len(x) == len(y) and all(map(_alike, x, y)))


def given_alone(f: Any, x: Any) -> None:
    """A call has returned something that only its caller holds, or that a class has made: the function's own."""
    if type(x) in _ATOMS or isinstance(x, (*_LEAVES, np.ndarray)) or (listener := places.listener()) is None:
        return
    alone = sys.getrefcount(x) <= _ALONE
    if isinstance(f, type) and (alone or not _may_give_known(f)):
        listener.built.add(id(x))
    elif alone:
        try:
            listener.alone[id(x)] = weakref.ref(x)
        except TypeError:
            listener.alone[id(x)] = type(x)


def _may_give_known(cls: type) -> bool:
    """Whether a call of a class may give an object that was there before."""
    new = raw(cls, "__new__")
    return isinstance(getattr(new, "__func__", new), types.FunctionType) or type(cls).__call__ is not type.__call__


def _references(x: Any) -> int:
    return sys.getrefcount(x)


def _of_new() -> int:
    made = object()
    return _references(made)


_ALONE = _of_new()  # references that there are to what only the caller of a function holds


def asked(f: Callable[..., Any], *args: Any) -> Any:
    """Calls a function of a library's that Python calls by itself: of a property, or under a special name."""
    watch = watched(types.MethodType(f, args[0]), args[1:], {})
    if watch is None:
        return f(*args)
    try:
        made = f(*args)
    except Exception:
        watch.fail()
        raise
    watch.end(made, lambda: f(*args))
    return made
