"""What converted code reads from outside while it is traced: each place, with what was there, becomes a guard."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autograph import dicts, growing, rare
from tracejit.autograph.owners import global_names, is_library_module, is_users
from tracejit.autograph.source import is_library
from tracejit.runtime.contents import Content
from tracejit.runtime.guards import (
    CONTAINERS,
    Attribute,
    Cell,
    ClassAttribute,
    Contained,
    Global,
    Guard,
    Guards,
    Item,
    Length,
    Names,
    Whole,
    own_dict,
    raw,
)  # fmt: skip
from tracejit.runtime.held import reference

Make = Callable[[tuple[Any, ...], str, Any], Guard]
LARGEST = 1 << 20  # bytes of arrays that are looked after while code runs that is not converted
MOST = 1 << 16  # items of a container that are looked at, and containers in containers


class Reads:
    """The places that one trace reads before it writes to them, and those that it writes to.

    Keys are those of `places.Place`, with the key or index after it for single items.
    """

    def __init__(self) -> None:
        self.guards: dict[tuple[Any, ...], Guard] = {}
        self.written: dict[tuple[Any, ...], Any] = {}
        self.deferred: dict[int, Callable[[], None]] = {}  # of containers that the program changes when it runs
        self.changed: dict[int, Any] = {}  # containers that it writes to, as they were before
        self.inputs: dict[tuple[Any, ...], Any] = {}  # what stands for numbers that are inputs
        self._known: dict[int, tuple[Any, str]] = {}  # containers from outside, each with what it is called
        self._whole: set[int] = set()
        self._codes: set[tuple[int, int]] = set()
        self._alive: list[Any] = []  # keys are made of identities

    def record(self, make: Make, key: tuple[Any, ...], label: str, owner: Any) -> None:
        """A place is read; it counts as what it was before the trace."""
        if key in self.written or key in self.guards:
            return
        self._alive.append(owner)
        if id(owner) not in self.changed:
            self.guards[key] = make(key, label, owner)
            return
        self.guards[key] = guard = make(key, label, self.changed[id(owner)])
        guard.owner = reference(owner)

    def found(self, x: Any, name: str) -> None:
        """A value that came from a place: what is in it is from outside too."""
        if type(x) in CONTAINERS or rare.is_container(x):
            self._known.setdefault(id(x), (x, name))
        elif type(x) is tuple:
            for i, y in enumerate(x):
                self.found(y, f"{name}[{i}]")
        elif type(x) is functools.partial:
            self.found((x.keywords, x.args), f"arguments of {name}")

    def name(self, x: Any) -> str | None:
        """What a container from outside is called; None for the trace's own."""
        if id(x) in self.deferred:
            self.deferred[id(x)]()
        return self._known[id(x)][1] if id(x) in self._known else None

    # --- kinds of places ----------------------------------------------------------------------------------------------
    def code(self, code: types.CodeType, namespace: dict[str, Any]) -> None:
        """The globals of a function that is called, or of a branch that is taken."""
        at = id(code), id(namespace)
        if at not in self._codes:
            self._codes.add(at)
            self._alive.append(code)
            for name in global_names(code):
                self.variable(namespace, name)

    def cells(self, f: types.FunctionType) -> None:
        """The closure variables of a function that is called."""
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            if not name.startswith("ag__"):
                self.record(Cell, ("cell", id(cell), name), f"closure variable {name}", cell)
                with _nothing(ValueError):
                    self.found(cell.cell_contents, name)

    def variable(self, namespace: dict[str, Any], name: str) -> None:
        self.record(Global, ("global", id(namespace), name), f"global {name}", namespace)
        self.found(namespace.get(name), name)

    def attribute(self, owner: Any, name: str) -> None:
        cls = type(owner)
        if isinstance(owner, type):
            if is_users(owner):
                self.record(ClassAttribute, ("attribute", id(owner), name), f"attribute {owner.__name__}.{name}", owner)
        elif cls is super:
            self._inherited(owner, name)
            return
        elif isinstance(owner, rare.OWNERS):
            rare.attribute(self, owner, name)
            return
        elif cls is types.ModuleType:
            if owner is sys or not is_library_module(owner):
                self.record(Attribute, ("attribute", id(owner), name), f"attribute {owner.__name__}.{name}", owner)
        elif cls in CONTAINERS:
            self.whole(owner)
            return
        elif is_users(cls):
            self.record(Attribute, ("attribute", id(owner), name), f"attribute {cls.__name__}.{name}", owner)
        else:
            return
        if type(owner) is cls and name == "__dict__":
            self.found(own_dict(owner), f"{cls.__name__}.__dict__")
        d = own_dict(owner) if not isinstance(owner, type) else None
        x = d[name] if d is not None and name in d else raw(owner if isinstance(owner, type) else cls, name)
        if type(x) is types.MemberDescriptorType and not isinstance(owner, type):
            with _nothing(AttributeError):
                x = x.__get__(owner)
        self.found(x, f"{(owner if isinstance(owner, (type, types.ModuleType)) else cls).__name__}.{name}")

    def _inherited(self, owner: Any, name: str) -> None:
        """An attribute of `super()`."""
        mro = owner.__self_class__.__mro__
        for cls in mro[mro.index(owner.__thisclass__) + 1 :]:
            if is_users(cls):
                self.record(ClassAttribute, ("attribute", id(cls), name), f"attribute {cls.__name__}.{name}", cls)
            if name in cls.__dict__:
                return

    def item(self, x: Any, key: Any) -> None:
        called = self.name(x)
        if called is None:
            if type(x) is dict and type(key) is str and "__builtins__" in x:  # what `globals()` gives
                self.variable(x, key)
            return
        if (type(x) is list and type(key) is int) or (isinstance(x, dict) and _hashable(key)):
            if id(x) in self.changed:
                self._item_of_changed(x, key)
                return
            self.record(Item, ("items", id(x), key), f"item {called}[{key!r}]", x)
            with _nothing(LookupError):
                self.found(x[key], f"{called}[{key!r}]")
        else:
            self.whole(x)

    def _item_of_changed(self, x: Any, key: Any) -> None:
        """An item of a container that the trace writes to: one of its own, or one that was there before."""
        if ("items", id(x), key) in self.written:
            return
        try:
            value = x[key]
        except LookupError:
            self.whole(x)
            return
        old = self.changed[id(x)]
        if any(value is y for y in (old.values() if isinstance(old, dict) else old)):
            self.whole(x)
            self.found(value, f"{self.name(x)}[{key!r}]")

    def contains(self, x: Any, key: Any) -> None:
        called = self.name(x)
        if called is None or ("items", id(x), key) in self.written:
            return
        if isinstance(x, (dict, set)) and _hashable(key):
            self.record(Contained, ("items", id(x), ("in", key)), f"{key!r} in {called}", x)
        else:
            self.whole(x)

    def content(self, x: Any, key: Any = None) -> None:
        """Numbers of an array go where they count as Python's: its item, or all of it."""
        if is_own["array"](x):
            return
        what = "numbers" if key is None else f"item {key}"
        is_view = isinstance(x.base, np.ndarray)
        at = (x.__array_interface__["data"][0], x.shape, x.strides, x.dtype.str) if is_view else id(x)
        self.record(Content, ("array", at, key), f"{what} of an array of shape {x.shape}", x)
        if is_view and (guard := self.guards.get(("array", at, key))) is not None:
            guard.owner = lambda: x  # the view may be the trace's own, what it shows is not

    def length(self, x: Any) -> None:
        called = self.name(x)
        if called is not None:
            self.record(Length, ("items", id(x), ("len",)), f"len({called})", x)

    def whole(self, x: Any, seen: set[int] | None = None) -> None:
        """Everything in a container from outside, and in containers within this one."""
        seen = set() if seen is None else seen
        if growing.is_grown(x):
            growing.whole(x)
        elif growing.is_partial(x):
            raise dicts.refused("everything in a dict is read")
        if id(x) in seen or id(x) in self._whole or len(seen) > MOST:
            return
        seen.add(id(x))
        called = self.name(x)
        if called is not None:
            self._whole.add(id(x))
            make: type[Guard] = Whole if len(x) <= MOST else Length
            self.record(make, ("items", id(x), ("all",)), f"items of {type(x).__name__} {called}", x)
        for k, y in x.items() if isinstance(x, dict) else enumerate(x):
            if type(y) in CONTAINERS or type(y) is tuple:
                if called is not None:
                    self.found(y, f"{called}[{k!r}]")
                self.whole(y, seen)

    # --- the end ------------------------------------------------------------------------------------------------------
    def finish(self, ends: Sequence[Callable[[], Any]] = ()) -> Guards | None:
        """The guards of places that the trace reads before it writes to them, and that outlive it; None for none.

        `ends` are weak references to objects with which the trace ends too.
        """
        self._alive.clear()
        self._known.clear()
        self.written.clear()
        self.changed.clear()
        kept = [g for g in self.guards.values() if g.owner() is not None]
        return Guards(kept, ends) if kept or ends else None


def _hashable(key: Any) -> bool:
    return type(key) in (int, str, bool, float, bytes, type(None)) or (type(key) is tuple and all(map(_hashable, key)))


@contextmanager
def _nothing(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors:
        pass


# --- the trace at hand ------------------------------------------------------------------------------------------------
class _Current(threading.local):
    reads: Reads | None = None


_current = _Current()


@contextmanager
def recorded() -> Iterator[Reads]:
    """Records what converted code reads in this block. A trace within a trace is for its own."""
    before, _current.reads = _current.reads, Reads()
    try:
        yield _current.reads
    finally:
        _current.reads = before


def written(key: tuple[Any, ...], owner: Any) -> None:
    """A place is about to be written to: what is read there later is the trace's own."""
    if _current.reads is not None:
        _current.reads.written.setdefault(key, owner)


def changed(owner: Any, before: Any) -> None:
    """The items of a container are about to change, which were those before the trace."""
    if _current.reads is not None:
        _current.reads.changed.setdefault(id(owner), before)


is_own: dict[str, Callable[[Any], bool]] = {}  # "array": whether the trace has made it


def array_read(x: Any) -> None:
    """An array is read: refused where the program writes to its memory when it runs."""
    if _current.reads is not None and _current.reads.deferred:
        while isinstance(x.base, np.ndarray):
            x = x.base
        _current.reads.deferred.get(id(x), lambda: None)()


def arrays_read() -> list[Any]:
    """The arrays whose numbers are part of the trace."""
    r = _current.reads
    return [g.owner() for k, g in r.guards.items() if k[0] == "array"] if r is not None else []


def content(x: Any) -> Any:
    """`x`; if it is an array of NumPy's, its numbers become part of the trace."""
    if _current.reads is not None and isinstance(x, np.ndarray):
        array_read(x)
        _current.reads.content(x)
    return x


def array_item(x: Any, key: Any, value: Any) -> Any:
    """`value`, which is `x[key]` of an array of NumPy's."""
    array_read(x)
    if _current.reads is not None and isinstance(value, np.generic) and all(map(_is_index, _indices(key))):
        _current.reads.content(x, key)
    elif not (isinstance(value, np.ndarray) and np.may_share_memory(value, x)):
        content(x)
    return value


def _indices(key: Any) -> tuple[Any, ...]:
    return key if type(key) is tuple else (key,)


def _is_index(k: Any) -> bool:
    return type(k) is int


def stand_in(key: tuple[Any, ...], x: Any) -> None:
    """What is at a place is an input of the trace."""
    if _current.reads is not None:
        _current.reads.inputs[key] = x


def given(kind: str, owner: Any, at: Any) -> Any:
    """The input that stands for what is at a place; None if there is none, or it has been written to."""
    if _current.reads is None or not _current.reads.inputs:
        return None
    key = (kind, id(owner), at)
    return None if key in _current.reads.written else _current.reads.inputs.get(key)


def defer(owner: Any, refuse: Callable[[], None]) -> None:
    """The program changes a container when it runs: from now on `refuse` is called when it is read."""
    if _current.reads is not None:
        _current.reads.deferred[id(owner)] = refuse


def kept(key: tuple[Any, ...], owner: Any) -> None:
    """A place that holds what it held before the trace may go on to: that counts as read, though it is written to."""
    r = _current.reads
    if r is None:
        return
    was = r.written.pop(key, None)
    kind, _, name = key
    if kind == "attribute":
        r.attribute(owner, name)
    elif kind == "global":
        r.variable(owner, name)
    elif kind == "cell":
        r.record(Cell, key, f"closure variable {name}", owner)
    if was is not None:
        r.written[key] = was


def items_kept(owner: Any, before: Any) -> None:
    """A container that held `before` may keep what it still has of that."""
    r = _current.reads
    if r is None or type(owner) not in CONTAINERS or r.name(owner) is None:
        return
    r.length(owner)
    now = dict(enumerate(owner)) if type(owner) is list else owner
    for k, v in before.items() if isinstance(before, dict) else enumerate(before) if type(before) is list else ():
        if _hashable(k) and k in now and now[k] is v:
            key = ("items", id(owner), k)
            was = r.written.pop(key, None)
            r.record(Item, key, f"item {r.name(owner)}[{k!r}]", owner)
            if was is not None:
                r.written[key] = was


def function(f: Any, code: types.CodeType | None = None) -> None:
    """A function is called, converted to `code` if given."""
    if _current.reads is not None and type(f) is types.FunctionType and not is_library(f):
        _current.reads.code(code or f.__code__, f.__globals__)
        _current.reads.cells(f)
        rare.defaults(_current.reads, f)


def entered(part: Any) -> Any:
    """A branch that is taken."""
    if _current.reads is not None and type(part) is types.FunctionType:
        _current.reads.code(part.__code__, part.__globals__)
    return part


def attribute(owner: Any, name: str) -> None:
    _others(owner)
    if _current.reads is not None:
        _current.reads.attribute(owner.__func__ if type(owner) is types.MethodType else owner, name)


def names(owner: Any) -> None:
    """All attributes of an object's own are gone through, by those that are read it is told which ones there are."""
    if _current.reads is not None:
        key, label = ("names", id(owner), ""), f"attributes of {type(owner).__name__}"
        _current.reads.record(Names, key, label, owner)


def setting(owner: Any, name: str) -> None:
    """An attribute of one of this package's own objects, which users may set, is read."""
    if _current.reads is not None:
        key, label = ("attribute", id(owner), name), f"attribute {type(owner).__name__}.{name}"
        _current.reads.record(Attribute, key, label, owner)


def item(x: Any, key: Any) -> None:
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.item(x, key)
    else:
        _others(x)


def contains(x: Any, key: Any) -> None:
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.contains(x, key)
    else:
        _others(x)


def length(x: Any) -> None:
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.length(x)
    else:
        _others(x)


def whole(x: Any) -> Any:
    """`x`, of which everything is read."""
    if _current.reads is not None and (type(x) in CONTAINERS or type(x) is tuple):
        _current.reads.whole(x)
    else:
        _others(x)
    return x


def _others(x: Any) -> None:
    """Something is read of a container that is none of those of which single items are told apart."""
    if _current.reads is not None and rare.is_container(x):
        rare.everything(_current.reads, x)


def active() -> bool:
    return _current.reads is not None


def is_whole(place: Any) -> bool:
    """Whether all is read of the container, or of the object, that a place is in."""
    r = _current.reads
    if r is None or place is None:
        return False
    owner = place.owner if type(place.owner) in CONTAINERS else getattr(place.owner, "__dict__", None)
    return ("items", id(owner), ("all",)) in r.guards


def settled() -> list[Any]:
    """Nothing more is read. What still refers to what was read, as a list of containers."""
    r = _current.reads
    if r is None:
        return []
    for x in (r.written, r.changed, r._known, r._alive):
        x.clear()  # type: ignore[attr-defined]
    return list(r.guards.values())
