"""What one trace reads from outside before it writes there: a guard for each place, with what was there."""

from __future__ import annotations

import abc
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autograph import dicts, growing, insides, rare
from tracejit.autograph.owners import global_names, imported_names, is_library_module, is_users
from tracejit.runtime import layout
from tracejit.runtime.classguards import Below, ClassPart
from tracejit.runtime.contents import Asked, Content, Form, Forms, ModuleAttribute, class_items
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
    Whole,
    own_dict,
    raw,
)  # fmt: skip
from tracejit.runtime.held import is_plain, reference

Make = Callable[[tuple[Any, ...], str, Any], Guard]
MOST = 1 << 16  # items of a container that are looked at, and containers in containers
is_own: dict[str, Callable[[Any], bool]] = {}  # "array": whether the trace has made it


class Found:
    """The places that a part of a trace reads, each with what is there then."""

    __slots__ = ("guards", "inputs", "own")

    def __init__(self) -> None:
        self.guards: dict[tuple[Any, ...], Guard] = {}
        self.inputs: dict[tuple[Any, ...], Guard] = {}  # those whose numbers are inputs: others in each call
        self.own = False  # whether the trace has written there

    def change(self) -> str:
        """What is called the first that is not as it was; "" if there is none."""
        return next((g.label for g in self.guards.values() if g.owner() is not None and not g.holds()), "")


class Reads:
    """The places that one trace reads before it writes to them, and those that it writes to.

    Keys are those of `places.Place`, with the key or index after it for single items.
    """

    def __init__(self) -> None:
        self.guards: dict[tuple[Any, ...], Guard] = {}
        self.written: dict[tuple[Any, ...], Any] = {}
        self.deferred: dict[int, Callable[[], None]] = {}  # of containers that the program changes when it runs
        self.sources: dict[int, list[Any]] = {}  # of containers, from which others they were filled
        self.changed: dict[int, Any] = {}  # containers that it writes to, as they were before
        self.inputs: dict[tuple[Any, ...], Any] = {}  # what stands for numbers that are inputs
        self._formed: dict[tuple[Any, ...], Guard] = {}  # by place, what is told of the tensors there that are inputs
        self._inside: dict[int, tuple[set[Any], Any]] = {}  # of containers, which items are, and what they held before
        self._known: dict[int, tuple[Any, str]] = {}  # containers from outside, each with what it is called
        self._whole: set[int] = set()
        self._loose: set[tuple[Any, ...]] = set()  # what code that is not converted may have read, or changed
        self._codes: set[tuple[int, int]] = set()
        self._behind: dict[tuple[Any, ...], tuple[Guard, dict[Any, None]]] = {}  # what classes have for some objects
        self._alive: list[Any] = []  # keys are made of identities
        self.listed: Found | None = None  # the part at hand, if it is of interest what it reads

    def _list(self, make: Make, key: tuple[Any, ...], label: str, owner: Any) -> None:
        """It is noted that the part at hand reads a place, whatever the trace has read or written before."""
        if self.listed is not None and key not in self.listed.guards:
            self.listed.own |= key in self.written or id(owner) in self.changed
            self.listed.guards[key] = make(key, label, owner)

    def record(self, make: Make, key: tuple[Any, ...], label: str, owner: Any) -> None:
        """A place is read; it counts as what it was before the trace."""
        if self.listed is not None:
            self._list(make, key, label, owner)
        if key in self.written:
            if key in self._formed:
                self.guards["form", *key] = self._formed.pop(key)
            return
        if key in self._loose:
            self._loose.discard(key)
            del self.guards[key]
        if key in self.guards:
            return
        self._alive.append(owner)
        if id(owner) not in self.changed and id(owner) not in self._inside:
            self.guards[key] = make(key, label, owner)
            return
        before = self.changed[id(owner)] if id(owner) in self.changed else self._inside[id(owner)][1]
        self.guards[key] = guard = make(key, label, before)
        guard.owner = reference(owner)

    def loosely(self, make: Make, key: tuple[Any, ...], label: str, owner: Any) -> None:
        """Code that is not converted may read a place. Where it changes it too, of which nothing is told, that is its
        own doing."""
        if key in self._formed:
            self.record(make, key, label, owner)
        elif key not in self.guards and key not in self.written:
            self.record(make, key, label, owner)
            self._loose.add(key)

    def everything(self, make: Any, called: str, x: Any) -> None:
        """All items of a container, of those that are inputs only what the trace depends on."""
        if id(x) in self._inside and make is not Length:
            make = functools.partial(make, inputs=frozenset(self._inside[id(x)][0]))
        self.record(make, ("items", id(x), ("all",)), f"items of {type(x).__name__} {called}", x)

    def stand_inside(self, x: Any, keys: set[Any], before: Any) -> None:
        """The tensors at these indices or keys of a container are inputs."""
        self._inside[id(x)] = keys, before
        self._alive.append(x)

    def end_inside(self) -> None:
        """Of containers that hold inputs, and that were reached, the trace is for tensors of such forms."""
        for i, (keys, _) in self._inside.items():
            if i in self._known and ("items", i, ("all",)) not in self.guards:
                x, called = self._known[i]
                self.record(Forms, ("form", i, tuple(keys)), f"tensors in {type(x).__name__} {called}", x)

    def forget(self, key: tuple[Any, ...]) -> None:
        """What was at a place does not matter."""
        self._loose.discard(key)
        self.guards.pop(key, None)

    @staticmethod
    def is_own(x: Any) -> bool:
        """Whether the trace has made an object."""
        return is_own["object"](x)

    def found(self, x: Any, name: str) -> None:
        """A value that came from a place: what is in it is from outside too."""
        if type(x) in CONTAINERS or rare.is_container(x):
            self._known.setdefault(id(x), (x, name))
        elif issubclass(type(x), tuple):  # a weak proxy may stand for nothing
            for i, y in enumerate(x):
                self.found(y, f"{name}[{i}]")
        elif type(x) in rare.VIEWS:
            self.found(rare.behind(x), name)
        elif type(x) in _BOUND and type(x.__self__) in CONTAINERS:  # a method
            self.found(x.__self__, name)
        elif type(x) is functools.partial:
            self.found((x.keywords, x.args), f"arguments of {name}")

    def reached(self, x: Any) -> tuple[Any, str] | None:
        return self._known.get(id(x))

    def containers(self) -> list[Any]:
        return [x for x, _ in self._known.values() if isinstance(x, (list, dict))]

    def name(self, x: Any) -> str | None:
        """What a container from outside is called; None for the trace's own."""
        if id(x) in self.deferred:
            self.deferred[id(x)]()
        for y in self.sources.pop(id(x), ()):
            self.whole(y) if type(y) in CONTAINERS else rare.everything(self, y)  # type: ignore[func-returns-value]
        return self._known[id(x)][1] if id(x) in self._known else None

    # --- kinds of places ----------------------------------------------------------------------------------------------
    def code(self, code: types.CodeType, namespace: dict[str, Any]) -> None:
        """The globals of a function that is called, or of a branch that is taken."""
        at = id(code), id(namespace)
        if at not in self._codes or self.listed is not None:
            self._codes.add(at)
            self._alive.append(code)
            for name in global_names(code):
                self.variable(namespace, name)
            for module, name in imported_names(code, namespace):
                self._imported(module, name)

    def _imported(self, module: str, name: str) -> None:
        """A module that a function imports, and what it takes from there."""
        self.record(Item, ("items", id(sys.modules), module), f"module {module}", sys.modules)
        if (found := sys.modules.get(module)) is not None and name:
            self.attribute(found, name)

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
            if owner.__flags__ & layout.CHANGEABLE and name == "__dict__":
                self.record(Asked, ("asked", id(owner), class_items), f"attributes of {owner.__name__}", owner)
                self.found(tuple(vars(owner).values()), f"{owner.__name__}.__dict__")
            elif owner.__flags__ & layout.CHANGEABLE:
                self.class_part(owner, name) if name in CLASS_PARTS else self.of_class(owner, name)
            if is_users(cls):
                self.of_class(cls, name)
        elif cls is super:
            self._inherited(owner, name)
            return
        elif isinstance(owner, rare.OWNERS):
            rare.attribute(self, owner, name)
            return
        elif cls is types.CellType:
            self.record(Cell, ("cell", id(owner), name), "contents of a cell", owner)
        elif cls is types.ModuleType:
            if owner.__name__.partition(".")[0] != "tracejit":
                make = ModuleAttribute if owner is not sys and is_library_module(owner) else Attribute
                self.record(make, ("attribute", id(owner), name), f"attribute {owner.__name__}.{name}", owner)
        elif cls in CONTAINERS:
            told = type(raw(cls, name)) is types.FunctionType  # it is converted, and tells what it reads
            if not told and name not in _ADDING:
                self.whole(owner)
            return
        elif own_dict(owner) is not None or is_users(cls):
            of_class = is_users(cls) and name not in (own_dict(owner) or ())
            if not self.is_own(owner):
                rare.computed(self, owner, name)
                self.record(Attribute, ("attribute", id(owner), name), f"attribute {cls.__name__}.{name}", owner)
            elif of_class or is_plain(raw(cls, name)):
                self.of_class(cls, name)
            if of_class:
                self._class_behind(cls, ("attribute", id(owner), name))
        elif insides.has_slot(cls, name):
            if not self.is_own(owner):
                self.record(Attribute, ("attribute", id(owner), name), f"attribute {cls.__name__}.{name}", owner)
        else:
            if not self.is_own(owner):
                rare.computed(self, owner, name)
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
        self._of_classes(mro[mro.index(owner.__thisclass__) + 1 :], name)

    def _of_classes(self, mro: Sequence[type], name: str) -> None:
        """What the first of the classes has that has it."""
        for cls in mro:
            if is_users(cls):
                self.of_class(cls, name)
            if name in cls.__dict__:
                return

    def of_class(self, cls: type, name: str) -> None:
        """What a class, or the first above it that has it, has under a name."""
        if not self.is_own(cls):
            self.record(ClassAttribute, ("attribute", id(cls), name), f"attribute {cls.__name__}.{name}", cls)

    def related(self, cls: type, kinds: Iterable[Any]) -> None:
        """It is asked whether a class is one of these, or below one."""
        kinds = list(kinds)
        if cls in kinds or self.is_own(cls):
            return
        if is_users(cls) and cls.__flags__ & layout.CHANGEABLE:
            self.class_part(cls, "__mro__")
        for kind in kinds:
            if isinstance(kind, abc.ABCMeta) and not self.is_own(kind):
                self.record(Below, Below.key_of(cls, kind), f"whether {cls.__name__} is a {kind.__name__}", kind)

    def class_part(self, cls: type, name: str) -> None:
        if not self.is_own(cls):
            self.record(ClassPart, ("class", id(cls), name), f"{name} of {cls.__name__}", cls)

    def _class_behind(self, cls: type, key: tuple[Any, ...]) -> None:
        """The same, looked for in an object. If the object is gone when the trace ends, as those are that are made for
        it, the class is there still."""
        _, _, name = key
        at = "attribute", id(cls), name
        if key not in self.guards or at in self.written or at in self.guards:
            return
        if at not in self._behind:
            self._alive.append(cls)
            self._behind[at] = ClassAttribute(at, f"attribute {cls.__name__}.{name}", cls), {}
        self._behind[at][1][key] = None

    def item(self, x: Any, key: Any) -> None:
        called = self.name(x)
        if called is None:
            if type(x) is dict and type(key) is str and "__builtins__" in x:  # what `globals()` gives
                self.variable(x, key)
            return
        if (type(x) is list and type(key) is int) or (isinstance(x, dict) and hashable(key)):
            if id(x) in self.changed:
                self._list(Item, ("items", id(x), key), f"item {called}[{key!r}]", x)
                self._item_of_changed(x, key)
                return
            other = ("items", id(x), key - len(x) if key >= 0 else key + len(x)) if type(x) is list else ()
            if other in self.written and ("items", id(x), key) not in self.written:  # counted from the other end
                self.length(x)
                return
            self.record(Item, ("items", id(x), key), f"item {called}[{key!r}]", x)
            with _nothing(LookupError):
                self.found(_item(x, key), f"{called}[{key!r}]")
        else:
            self.whole(x)

    def _item_of_changed(self, x: Any, key: Any) -> None:
        """An item of a container that the trace writes to: one of its own, or one that was there before."""
        if ("items", id(x), key) in self.written:
            return
        try:
            value = _item(x, key)
        except LookupError:
            self.whole(x)
            return
        old = self.changed[id(x)]
        there = {id(y) for y in (old.values() if isinstance(old, dict) else old)}
        if id(value) in there:
            self.whole(x)
            self.found(value, f"{self.name(x)}[{key!r}]")
        elif isinstance(x, list) and not _counted_from_end(x, key, there, bool(old)):
            self.length(x)

    def moved(self, x: Any) -> None:
        """Items of a container are elsewhere now."""
        if id(x) not in self.changed:  # the trace's own
            return
        for known in (self.inputs, self.written if isinstance(x, list) else {}):
            for key in [k for k in known if k[:2] == ("items", id(x)) and len(k) == 3]:
                del known[key]  # type: ignore[attr-defined]

    def contains(self, x: Any, key: Any) -> None:
        called = self.name(x)
        if called is None and type(x) is dict and "__builtins__" in x:
            called = "globals()"
        if called is None or ("items", id(x), key) in self.written:
            return
        if isinstance(x, (dict, set)) and hashable(key):
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

    def form(self, x: Any) -> None:
        """An array whose numbers are an input."""
        if not is_own["array"](x):
            self.record(Form, ("array", id(x), "form"), f"element type and shape of an array of shape {x.shape}", x)

    def length(self, x: Any) -> None:
        called = self.name(x)
        if called is None:
            return
        self.record(Length, ("items", id(x), ("len",)), f"len({called})", x)
        if id(x) in self.changed and isinstance(x, (dict, set)):  # it depends on which of the keys had been there
            keys = {*x, *self.changed[id(x)]}
            if not all(map(hashable, keys)):
                self.whole(x)
                return
            for k in keys:
                self.record(Contained, ("items", id(x), ("in", k)), f"{k!r} in {called}", x)

    def whole(self, x: Any, seen: set[int] | None = None) -> None:
        """Everything in a container from outside, and in containers within this one."""
        seen = set() if seen is None else seen
        if growing.is_grown(x):
            growing.whole(x)
        elif growing.is_partial(x):
            raise dicts.refused("everything in a dict is read")
        if id(x) in seen or len(seen) > MOST:
            return
        called = self.name(x)  # which refuses what only the program knows
        if id(x) in self._whole and self.listed is None:
            return
        seen.add(id(x))
        if called is not None:
            self._whole.add(id(x))
            self.everything(Whole if len(x) <= MOST else Length, called, x)
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
        self.sources.clear()
        kept = [g for k, g in self.guards.items() if g.owner() is not None and (k not in self._loose or g.holds())]
        there = {g.key for g in kept}
        for at, (guard, objects) in self._behind.items():
            if at not in there and guard.owner() is not None and not objects.keys() <= there:
                kept.append(guard)
        return Guards(kept, ends) if kept or ends else None


def _item(x: Any, key: Any) -> Any:
    """`x[key]`, of which a defaultdict keeps nothing."""
    if isinstance(x, dict) and key not in x:
        raise KeyError(key)
    return x[key]


def hashable(key: Any) -> bool:
    return type(key) in _KEYS or (type(key) is tuple and all(map(hashable, key)))


_BOUND = (types.BuiltinMethodType, types.MethodWrapperType)
CLASS_PARTS = frozenset(("__mro__", "__bases__", "__name__", "__qualname__"))
def _counted_from_end(x: list[Any], key: int, there: set[int], filled: bool) -> bool:
    """Whether an item that the trace has put into a list stands at this index however long the list was: between it
    and the end that is counted from stand the trace's own, and items of before on the other side."""
    at = key % len(x)
    near, far = (x[:at], x[at + 1 :]) if key >= 0 else (x[at + 1 :], x[:at])
    return filled and not any(id(y) in there for y in near) and any(id(y) in there for y in far)


_ADDING = {"append", "extend", "appendleft", "extendleft", "add"}
_KEYS = (int, str, bool, float, bytes, type(None), weakref.ref)


@contextmanager
def _nothing(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors:
        pass
