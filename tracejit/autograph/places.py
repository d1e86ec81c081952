"""Places outside a function's variables that converted code writes to: attributes, items, globals, closure cells."""

from __future__ import annotations

import collections
import functools
import itertools
import sys
import threading
import types
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tracejit.autograph import growing, reads
from tracejit.autograph.owners import is_users
from tracejit.autograph.values import Contents, Kept, Undefined, several
from tracejit.context import context
from tracejit.errors import ConversionError, locate

ALL: Any = object()  # in the place of a key: any item of a container may change
_CONTAINERS = (list, dict, set, collections.deque)


def is_container(x: Any, method: str = "") -> bool:
    """Whether `x` is one of Python's containers that can change; its own class has not made the method anew."""
    return isinstance(x, _CONTAINERS) and type(getattr(type(x), method, None)) is not types.FunctionType




def own(x: Any, name: str) -> Any:
    """A method of a container as Python has it: what a class of the user's adds to it is heard by itself."""
    if type(getattr(type(x), name, None)) is not types.FunctionType:
        return getattr(x, name)
    kinds = [c for c in type(x).__mro__ if c.__module__ in ("builtins", "collections") and hasattr(c, name)]
    return functools.partial(getattr(kinds[0], name), x) if kinds else getattr(x, name)


class Place(ABC):
    """Somewhere a value is kept. `owner` is held, so that `key`, which is made from its identity, stays its own."""

    __slots__ = ("key", "name", "owner", "at")
    key: tuple[Any, ...]

    def __init__(self, kind: str, name: str, owner: Any, at: Any) -> None:
        self.key = (kind, id(owner), at)
        self.name, self.owner, self.at = name, owner, at

    @abstractmethod
    def get(self) -> Any:
        """What is kept there; Undefined if nothing is."""

    @abstractmethod
    def put(self, value: Any) -> None:
        """Keep another value there."""

    def lasting(self) -> Place:
        """The place for use after the trace: objects of the user's are not kept alive by it."""
        return self

    def now(self) -> Place | None:
        """The place while its owner is held; None if that has ended."""
        return self


class Attribute(Place):
    """`owner.at`, of the object itself."""

    __slots__ = ()

    def get(self) -> Any:
        own, name = getattr(self.owner, "__dict__", None), self.at
        if name == "__class__":
            return type(self.owner)
        if isinstance(self.owner, type):
            return vars(self.owner).get(name, Undefined(name))
        slot = type(getattr(type(self.owner), name, None)) is types.MemberDescriptorType
        if isinstance(own, dict) and not slot:
            return own.get(name, Undefined(name))
        return getattr(self.owner, name, Undefined(name))

    def put(self, value: Any) -> None:
        # what the user's own `__setattr__` and `__delattr__` do is heard by itself
        cls: Any = type(self.owner)
        kept = [type(getattr(cls, n, None)) is not types.FunctionType for n in ("__setattr__", "__delattr__")]
        plain = type if isinstance(self.owner, type) else object
        if type(value) is Undefined:
            if type(self.get()) is not Undefined:
                (delattr if kept[1] else plain.__delattr__)(self.owner, self.at)
        elif self.get() is not value:
            if self.at == "__class__" and not isinstance(value, type):
                raise locate(ConversionError(f"a tensor decides which class a {cls.__name__} is of"))
            (setattr if kept[0] else plain.__setattr__)(self.owner, self.at, value)

    def lasting(self) -> Place:
        return LastingAttribute(self) if type(self.owner).__weakrefoffset__ else self


class LastingAttribute(Attribute):
    """An attribute of an object that may end."""

    __slots__ = ("_ref",)

    def __init__(self, of: Attribute) -> None:
        self.key, self.name, self.at = of.key, of.name, of.at
        self._ref = weakref.ref(of.owner)

    def now(self) -> Place | None:
        x = self._ref()
        return None if x is None else Attribute("attribute", self.name, x, self.at)

    def get(self) -> Any:
        place = self.now()
        return Undefined(self.at) if place is None else place.get()

    def put(self, value: Any) -> None:
        place = self.now()
        if place is not None:
            place.put(value)

    def lasting(self) -> Place:
        return self


class Entry(Place):
    """A name in a namespace, or the item of a dict."""

    __slots__ = ()

    def get(self) -> Any:
        return self.owner.get(self.at, Undefined(self.name)) if self.at in self.owner else Undefined(self.name)

    def put(self, value: Any) -> None:
        if type(value) is Undefined:
            own(self.owner, "pop")(self.at, None)
        else:
            own(self.owner, "__setitem__")(self.at, value)


class Row(Place):
    """An item of a list."""

    __slots__ = ()

    def get(self) -> Any:
        return self.owner[self.at] if -len(self.owner) <= self.at < len(self.owner) else Undefined(self.name)

    def put(self, value: Any) -> None:
        if type(value) is not Undefined:
            own(self.owner, "__setitem__")(self.at, value)


class Cell(Place):
    """A variable of a function around the one that writes to it."""

    __slots__ = ()

    def get(self) -> Any:
        try:
            return self.owner.cell_contents
        except ValueError:
            return Undefined(self.name)

    def put(self, value: Any) -> None:
        if type(value) is Undefined:
            del self.owner.cell_contents
        else:
            self.owner.cell_contents = value


class Items(Place):
    """All items of a container, as a copy of it."""

    __slots__ = ()

    def __init__(self, owner: Any) -> None:
        super().__init__("items", Contents(f"the {type(owner).__name__} that is changed"), owner, None)
        self.key = ("items", id(owner))

    def get(self) -> Any:
        return snapshot(self.owner)

    def put(self, value: Any) -> None:
        refill(self.owner, value)


def snapshot(x: Any) -> Any:
    """A copy of a container, whatever its own class says of copies."""
    if type(x).__module__ in ("builtins", "collections"):
        return x.copy()
    kind: Any = next(k for k in (collections.OrderedDict, *_CONTAINERS) if isinstance(x, k))
    if kind is collections.deque:
        return collections.deque(collections.deque.__iter__(x), x.maxlen)
    return kind(kind.items(x)) if kind is collections.OrderedDict else kind.copy(x)


def refill(owner: Any, value: Any) -> None:
    """Give a container, which stays the same object, new contents."""
    if isinstance(owner, list):
        list.__setitem__(owner, slice(None), growing.spread(value))
        growing.noted(owner)
        return
    kind: Any = next(k for k in (collections.OrderedDict, dict, set, collections.deque) if isinstance(owner, k))
    kind.clear(owner)
    (collections.deque.extend if kind is collections.deque else kind.update)(owner, value)
    growing.noted(owner)


def item_of(owner: Any, key: Any) -> Place | None:
    """The place of one item, None where there is no telling."""
    if isinstance(owner, dict):
        return Entry("items", repr(key), owner, key)
    return Row("items", f"[{key}]", owner, key) if isinstance(owner, list) and type(key) is int else None


# --- who takes note ---------------------------------------------------------------------------------------------------
Log = dict[tuple, tuple[Place, Any]]


class Listener(Protocol):
    """Hears what the traced function writes, to do it again after each call."""

    made: dict[int, Any]

    def sets(self, place: Place, /) -> None: ...
    def changes(self, owner: Any, key: Any, deleted: bool, summed: bool = False, /) -> None: ...


class _Logs(threading.local):
    def __init__(self) -> None:
        self.stack: list[Log] = []
        self.barriers: list[int] = []  # how many logs there were where parts began that carry no state
        self.listener: Any = None
        self.numbers: list[int] = []  # of the logs
        self.born: dict[int, list[int]] = {}  # objects that the function has made, with the logs of that time
        self.scopes: dict[int, Any] = {}  # iterators that it has made, with the trace of that time


_logs = _Logs()
_count = itertools.count()


@contextmanager
def watched(log: Log | None = None) -> Iterator[Log]:
    """Collects the places written to in this block, each with what it held before."""
    log = {} if log is None else log
    _logs.stack.append(log)
    _logs.numbers.append(next(_count))
    try:
        yield log
    finally:
        _logs.stack.pop()
        _logs.numbers.pop()


@contextmanager
def heard(listener: Listener, log: Log) -> Iterator[None]:
    """Lets a listener hear of all that is written in this block; of logs around it, none does."""
    before = _logs.stack, _logs.numbers, _logs.listener, _logs.born, _logs.scopes
    _logs.stack, _logs.numbers, _logs.listener, _logs.born, _logs.scopes = [log], [next(_count)], listener, {}, {}
    barriers, _logs.barriers = _logs.barriers, []
    growing.forget()
    chosen = dict(several.__dict__)
    several.forget()
    try:
        yield
    finally:
        _logs.stack, _logs.numbers, _logs.listener, _logs.born, _logs.scopes = before
        several.__dict__.update(chosen)
        _logs.barriers = barriers


def listener() -> Any:
    return _logs.listener


def logs() -> list[Log]:
    return list(_logs.stack)


def within_log() -> bool:
    """Whether a branch or loop takes note of what is written, and carries it as its state."""
    return len(_logs.stack) > (_logs.barriers[-1] if _logs.barriers else 1)


@contextmanager
def attempt() -> Iterator[None]:
    """A block that changes nothing if it ends with an error."""
    with watched() as log:
        try:
            yield
        except BaseException:
            restore(log)
            raise


class uncarried:
    """A part of the trace that carries nothing as its state: raises what `refuse` makes if something from around it is
    another in the end. If it ends with an error, it changes nothing."""

    __slots__ = ("_refuse", "_watched", "_log")

    def __init__(self, refuse: Callable[[str], Exception]) -> None:
        self._refuse, self._watched = refuse, watched()

    def __enter__(self) -> None:
        self._log = self._watched.__enter__()
        _logs.barriers.append(len(_logs.stack))

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        _logs.barriers.pop()
        self._watched.__exit__(None, None, None)
        other = [p for p, old in self._log.values() if not _is_same(p.get(), old)]
        if other:
            restore(self._log)
            if kind is None:
                raise self._refuse(other[0].name)


def _is_same(x: Any, y: Any) -> bool:
    if not isinstance(x, _CONTAINERS) or type(x) is not type(y):
        return x is y or (type(x) is Undefined and type(y) is Undefined)
    parts = [[*z.items()] if isinstance(z, dict) else [(0, i) for i in z] for z in (x, y)]
    return len(x) == len(y) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(*parts, strict=True))


def note(place: Place, summed: bool = False) -> None:
    """A place is about to be written to; `summed`: with what a branch or loop has done, of which was told then."""
    remember(place)
    if type(place) is not Items:
        reads.written(place.key, place.owner)
    if _logs.listener is not None:
        if type(place) is Items:
            _logs.listener.changes(place.owner, ALL, False, summed)
        else:
            _logs.listener.sets(place)


def remember(place: Place) -> None:
    """Let the logs know what the place holds. Those of before its owner was made need not."""
    known = _logs.born.get(id(place.owner), ())
    for number, log in zip(_logs.numbers, _logs.stack):
        if place.key not in log and number not in known:
            log[place.key] = (place, place.get())


def kept(place: Place) -> None:
    """A branch or loop may leave the place as it is: what it held before the trace counts as read."""
    before = _logs.stack[0].get(place.key) if _logs.stack else None
    if before is None:
        return
    if type(place) is Items:
        reads.items_kept(place.owner, before[1])
        return
    now = place.get()
    if now is before[1] or (type(now) is Undefined and type(before[1]) is Undefined):
        reads.kept(place.key, place.owner)


def restore(log: Log) -> None:
    for place, old in reversed(list(log.values())):
        place.put(old)


# --- what converted code calls before it writes -----------------------------------------------------------------------
def attribute(owner: Any, name: str) -> None:
    """`owner.name = …` follows."""
    if owner is sys and name in ("stdout", "stderr") and _logs.stack:
        raise locate(ConversionError("what it prints is sent elsewhere"))
    if _logs.stack:
        note(Attribute("attribute", Kept(f"{type(owner).__name__}.{name}"), owner, name))


def entry(namespace: dict[str, Any], name: str) -> None:
    """A global is about to be assigned."""
    if _logs.stack:
        note(Entry("global", Kept(name), namespace, name))


def cell(name: str, get: Callable[[], Any]) -> None:
    """A variable of a function around this one is about to be assigned."""
    if _logs.stack:
        closure = get.__closure__ or ()  # type: ignore[attr-defined]
        (at,) = closure
        note(Cell("cell", name, at, name))


def failed(owner: Any) -> None:
    """What was about to change a container has raised an error: it did nothing, and depends on what is there."""
    if _logs.listener is not None:
        _logs.listener.retract(owner)
        reads.whole(owner)


def items(owner: Any, key: Any = ALL, deleted: bool = False) -> None:
    """Items of a container are about to change: that of one key, or any."""
    if _logs.stack and is_container(owner):
        remember_items(owner, key)
        if deleted or key is ALL:
            reads.moved(owner)
        if _logs.listener is not None:
            _logs.listener.changes(owner, key, deleted)


def remember_items(owner: Any, key: Any = ALL) -> None:
    """Let the logs know what a container holds."""
    place = Items(owner)
    remember(place)
    if place.key in _logs.stack[0]:  # not if the function has made it
        reads.changed(owner, _logs.stack[0][place.key][1])
    if key is not ALL and _hashable(key):
        reads.written((*place.key, key), owner)


def before(owner: Any) -> Any:
    """What a container held before the trace, if the branch or loop that is traced has changed it; else None."""
    place = Items(owner)
    changed = any(place.key in log for log in _logs.stack[1:])
    return _logs.stack[0][place.key][1] if changed and place.key in _logs.stack[0] else None


def _hashable(key: Any) -> bool:
    return type(key) in (int, str, bool, float, bytes, tuple, type(None), weakref.ref)


def born(x: Any) -> None:
    """An object was made by the function at hand."""
    if _logs.listener is not None:
        _logs.listener.made[id(x)] = x
        _logs.born[id(x)] = list(_logs.numbers)


def is_made(x: Any) -> bool:
    """Whether an object was made by the function at hand, or is one of a library's that a class has made for it."""
    listener = _logs.listener
    return listener is not None and (id(x) in listener.made or (id(x) in listener.built and not is_users(type(x))))


reads.is_own["object"] = is_made


def is_born(x: Any) -> bool:
    """Whether an object was made within the branch or loop that is traced, or in the function where there is none."""
    return bool(_logs.stack) and _logs.numbers[-1] in _logs.born.get(id(x), ())


def scopes() -> frozenset[int]:
    """The branches and loops that are traced now."""
    return frozenset(_logs.numbers)


def was_there(x: Any, around: frozenset[int], perhaps: bool) -> bool:
    """Whether an object was made within no other branches and loops than these; `perhaps` where that is not known."""
    made_in = _logs.born.get(id(x))
    return perhaps if made_in is None else around.issuperset(made_in)


def is_new(x: Any) -> bool:
    """Whether an object was made in a branch or loop within the one that is traced now."""
    return len(_logs.born.get(id(x), ())) > len(_logs.stack)


def age(x: Any) -> int:
    """How many branches and loops within one another an object was made in, the function itself being one; also one
    that is made in the place of others."""
    own = len(_logs.born.get(id(x), ()))
    return own or getattr(_logs.listener, "depths", {}).get(id(x), 0)


def depth() -> int:
    """In how many we are."""
    return len(_logs.stack)


def by_identity() -> bool:
    """Whether containers that branches choose stay the very objects that they are, since one of them is changed."""
    return getattr(_logs.listener, "by_identity", False)


def made(x: Any) -> Any:
    """A container or iterator that was made while the function is traced."""
    if _logs.listener is not None:
        _logs.listener.made[id(x)] = x
        _logs.born[id(x)] = list(_logs.numbers)
        if not isinstance(x, _CONTAINERS):
            _logs.scopes[id(x)] = context.trace
    return x


def merged(x: Any) -> None:
    """What a container holds in a branch becomes part of another one."""
    if _logs.listener is not None and isinstance(x, (tuple, *_CONTAINERS)):
        if not isinstance(x, tuple):
            _logs.listener.merged(x)
        for y in x.values() if isinstance(x, dict) else x:
            merged(y)


class Recalled(list[Place]):
    """The places to which a branch has written when it was traced the last time."""


def recalled(part: Any) -> Sequence[Place]:
    code = getattr(part, "__code__", None)
    return () if _logs.listener is None or code is None else _logs.listener.found_in.setdefault(code, Recalled())


def mixed(variables: Sequence[Any]) -> None:
    """Several Variables become one tensor, which is that of one of them."""
    if _logs.listener is not None:
        _logs.listener.mixed(variables)


def assigned(x: Any) -> None:
    """A tensor is to be assigned as Variables are."""
    if _logs.listener is not None:
        _logs.listener.assigned(x)


def looked_at(f: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """A function of this package's own is called, for which it may count which Variables it is given."""
    if _logs.listener is not None and _logs.listener.variables:
        _logs.listener.looked_at(f, args, kwargs)


def stands_for(new: Any, *others: Any) -> None:
    """A container holds what one of others holds, and it is known only when the program runs which it is."""
    if _logs.listener is not None:
        _logs.listener.stands_for(new, others)


def is_one_of_several(x: Any) -> bool:
    """Whether a container stands in the place of others."""
    return _logs.listener is not None and _logs.listener.is_one_of_several(x)


def filler(x: Any, inner: bool = True) -> Any:
    """Something that stands where a branch has no value; and what it holds, if that is made for it too."""
    if _logs.listener is not None:
        _logs.listener.fillers[id(x)] = x
        for y in x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ():
            if inner and isinstance(y, (list, dict, tuple)):
                filler(y)
    return x


def is_filler(x: Any) -> bool:
    return _logs.listener is not None and id(x) in _logs.listener.fillers


def comes_from(x: Any, origin: Any) -> None:
    """What tells which container is meant by one that stands in the place of others."""
    if _logs.listener is not None and origin is not None:
        _logs.listener.origins[id(x)] = origin


def is_copied(x: Any) -> None:
    """What a container holds is kept elsewhere too, where changes of the container will not be seen."""
    if _logs.listener is not None:
        _logs.listener.is_copied(x)


def is_of_steps_around(x: Any) -> bool:
    """Whether an iterator was made outside the branch or step of a loop that is traced now."""
    return _logs.scopes.get(id(x), context.trace) is not context.trace


def values(places: Sequence[Place]) -> tuple[Any, ...]:
    return tuple([p.get() for p in places])


def set_values(places: Sequence[Place], new: Sequence[Any]) -> None:
    for p, v in zip(places, new, strict=True):
        p.put(v)
