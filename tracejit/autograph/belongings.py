"""What stood somewhere before code ran that is not converted: compared with what stands there now, and put back."""

from __future__ import annotations

import array
import collections
import contextvars
import functools
import io
import itertools
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from tracejit.autograph import places
from tracejit.runtime.contents import Snapshot
from tracejit.runtime.guards import CONTAINERS as GUARDED
from tracejit.runtime.guards import Attribute, ClassAttribute, Global, Item, Whole, own_dict
from tracejit.runtime.held import MISSING

CONTAINERS = (list, dict, set, collections.deque)
STREAMS = (io.StringIO, io.BytesIO)
LARGEST = 1 << 14  # items of a container of which more than their number is told
_PLAIN = (int, float, str, complex, bytes, bool)


class Change(IntEnum):
    """How much is different: nothing; something is there under a private name that was not; anything else."""

    NOTHING, ADDED, CHANGED = range(3)


class Part(ABC):
    """A place, or several, with what was there. `private`: found under a name with a leading underscore."""

    __slots__ = ("of", "private", "old")

    def __init__(self, of: Any, private: bool) -> None:
        self.of, self.private = of, private
        self.old = self.now()

    @abstractmethod
    def now(self) -> Any:
        """What is there now, in a form that stays as it is."""

    @abstractmethod
    def put_back(self) -> None:
        """Let what was there be there again."""

    def change(self) -> Change:
        new = self.now()
        return Change.NOTHING if new == self.old else Change.CHANGED

    def said(self) -> str:
        """What it is called."""
        return f"items of {a(type(self.of).__name__)}"

    def anew(self) -> Part:
        """The same, as it is now."""
        return type(self)(self.of, self.private)

    def places(self) -> Iterator[tuple[Any, tuple[Any, ...], str, Any]]:
        """What guards are made of for what is there now and was not: the kind of guard, its key, label and owner."""
        return iter(())

    def _new_names(self) -> Iterator[Any]:
        new = self.now()
        return (k for k, x in new.items() if x is not self.old.get(k, MISSING) and x is not MISSING)


def a(name: str) -> str:
    return f"an {name}" if name[:1] in "aeiouAEIOU" else f"a {name}"


def is_private(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("_")


def equal(x: Any, y: Any) -> bool:
    """Whether two values count as one: the same object, or equal numbers or texts."""
    return x is y or (type(x) is type(y) and isinstance(x, _PLAIN) and (x == y or (x != x and y != y)))


def _compared(old: Mapping[Any, Any], new: Mapping[Any, Any], private: bool, known: frozenset[str]) -> Change:
    found = Change.NOTHING
    for k, x in old.items():
        y = new.get(k, MISSING)
        if y is x or equal(x, y) or k in known:
            continue
        if x is not None and not ((x is MISSING or (x is False and y is True)) and (private or is_private(k))):
            return Change.CHANGED
        found = Change.ADDED
    for k in new:
        if k not in old and k not in known:
            if not (private or is_private(k)):
                return Change.CHANGED
            found = Change.ADDED
    return found


# --- containers -------------------------------------------------------------------------------------------------------
def kind_of(x: Any) -> Any:
    """The class of Python's own that a container is of."""
    return next(k for k in (collections.OrderedDict, *CONTAINERS) if isinstance(x, k))


def size(x: Any) -> int:
    n: int = kind_of(x).__len__(x)
    return n


class Container(Part):
    """A list, dict, set or deque; of a large one it is only told how large it is."""

    __slots__ = ()

    def now(self) -> Any:
        kind, n = kind_of(self.of), size(self.of)
        return kind.copy(self.of) if n <= LARGEST else n

    def change(self) -> Change:
        old, new = self.old, self.now()
        if type(old) is int or type(new) is int:
            return Change.NOTHING if old == new else Change.CHANGED
        kind = kind_of(new)
        if isinstance(new, dict):
            found = _compared(old, new, self.private, frozenset())
            in_order = all(a is b or equal(a, b) for a, b in zip(kind.keys(old), kind.keys(new)))
            return self._added if found is Change.NOTHING and not in_order else found
        if isinstance(new, set):
            return Change.NOTHING if old == new else self._added if old <= new else Change.CHANGED
        if len(old) == len(new) and all(a is b or equal(a, b) for a, b in zip(old, new)):
            return Change.NOTHING
        there = set(map(id, new))
        return self._added if all(id(x) in there for x in old) else Change.CHANGED

    @property
    def _added(self) -> Change:
        return Change.ADDED if self.private else Change.CHANGED

    def put_back(self) -> None:
        if type(self.old) is not int:
            places.refill(self.of, self.old)

    def places(self) -> Iterator[tuple[Any, tuple[Any, ...], str, Any]]:
        if type(self.old) is int or not self.change():
            return
        called = a(type(self.of).__name__)
        if not isinstance(self.of, dict):
            make: Any = Whole if type(self.of) in GUARDED else Snapshot
            yield make, ("items", id(self.of), ("all",)), f"items of {called}", self.of
        elif type(self.of) in GUARDED:
            for k in self._new_names():
                if isinstance(k, _PLAIN):
                    yield Item, ("items", id(self.of), k), f"item [{k!r}] of {called}", self.of


# --- attributes -------------------------------------------------------------------------------------------------------
class Attributes(Part):
    """An object's own attributes."""

    __slots__ = ()

    def now(self) -> Any:
        return dict(own_dict(self.of) or {})

    def change(self) -> Change:
        members = ((n, m) for k in type(self.of).__mro__ for n, m in vars(k).items())
        new = self.now()
        if all(new.get(k, MISSING) is x for k, x in self.old.items()) and len(new) == len(self.old):
            return Change.NOTHING
        cached = frozenset(n for n, m in members if type(m) is functools.cached_property)
        return _compared(self.old, new, self.private, cached)

    def put_back(self) -> None:
        own = own_dict(self.of)
        if own is not None:
            own.clear()
            own.update(self.old)

    def said(self) -> str:
        return f"attributes of {a(type(self.of).__name__)}"

    def places(self) -> Iterator[tuple[Any, tuple[Any, ...], str, Any]]:
        for k in self._new_names():
            yield Attribute, ("attribute", id(self.of), k), f"attribute {type(self.of).__name__}.{k}", self.of


class Slots(Part):
    """What an object keeps in slots."""

    __slots__ = ()

    def now(self) -> Any:
        return dict(self.values(self.of))

    @staticmethod
    def values(x: Any) -> Iterator[tuple[str, Any]]:
        for k in type(x).__mro__:
            for name, m in vars(k).items():
                if type(m) is types.MemberDescriptorType and "__slots__" in vars(k):
                    try:
                        yield name, m.__get__(x, type(x))
                    except AttributeError:
                        yield name, MISSING

    def change(self) -> Change:
        return _compared(self.old, self.now(), self.private, frozenset())

    def put_back(self) -> None:
        for k, x in self.old.items():
            if x is not MISSING:
                object.__setattr__(self.of, k, x)
            elif hasattr(self.of, k):
                object.__delattr__(self.of, k)

    def said(self) -> str:
        return f"attributes of {a(type(self.of).__name__)}"

    places = Attributes.places


class ClassData(Part):
    """What a class has that is no function."""

    __slots__ = ()

    def now(self) -> Any:
        return {k: x for k, x in vars(self.of).items() if is_data(x) and not k.startswith("__")}

    def change(self) -> Change:
        return _compared(self.old, self.now(), True, frozenset())

    def put_back(self) -> None:
        for k in self.now().keys() - self.old.keys():
            type.__delattr__(self.of, k)
        for k, x in self.old.items():
            if vars(self.of).get(k) is not x:
                type.__setattr__(self.of, k, x)

    def said(self) -> str:
        return f"attributes of the class {self.of.__name__}"

    def places(self) -> Iterator[tuple[Any, tuple[Any, ...], str, Any]]:
        for k in self._new_names():
            yield ClassAttribute, ("attribute", id(self.of), k), f"attribute {self.of.__name__}.{k}", self.of


def is_data(x: Any) -> bool:
    """Whether a class or module has something for what it holds, not for what it does."""
    return not callable(x) and not hasattr(type(x), "__get__") and not isinstance(x, types.ModuleType)


class Globals(Part):
    """A namespace; of it these names."""

    __slots__ = ("names",)

    def __init__(self, of: dict[str, Any], names: Iterator[str]) -> None:
        self.names = tuple(names)
        super().__init__(of, True)

    def now(self) -> Any:
        return {n: self.of.get(n, MISSING) for n in self.names}

    def change(self) -> Change:
        return _compared(self.old, self.now(), True, frozenset())

    def put_back(self) -> None:
        for n, x in self.old.items():
            if x is MISSING:
                self.of.pop(n, None)
            else:
                self.of[n] = x

    def said(self) -> str:
        return f"globals of {self.of.get('__name__', 'a module')}"

    def anew(self) -> Part:
        return Globals(self.of, iter(self.names))

    def places(self) -> Iterator[tuple[Any, tuple[Any, ...], str, Any]]:
        for k in self._new_names():
            yield Global, ("global", id(self.of), k), f"global {k}", self.of


class Cell(Part):
    """A variable of a function around another."""

    __slots__ = ()

    def now(self) -> Any:
        try:
            return self.of.cell_contents
        except ValueError:
            return MISSING

    def change(self) -> Change:
        return _compared({"": self.old}, {"": self.now()}, True, frozenset())

    def put_back(self) -> None:
        if self.old is MISSING:
            del self.of.cell_contents
        else:
            self.of.cell_contents = self.old

    def said(self) -> str:
        return "a variable of a function around it"


# --- memory -----------------------------------------------------------------------------------------------------------
class Bytes(Part):
    """An `array.array` or a `bytearray`."""

    __slots__ = ()

    def now(self) -> Any:
        return self.of[:]

    def put_back(self) -> None:
        self.of[:] = self.old


class Numbers(Part):
    """An array of NumPy's."""

    __slots__ = ()

    def now(self) -> Any:
        return self.of.copy()

    def change(self) -> Change:
        same = self.of.shape == self.old.shape and self.of.tobytes() == self.old.tobytes()
        return Change.NOTHING if same else Change.CHANGED

    def put_back(self) -> None:
        if self.of.shape == self.old.shape:
            self.of[...] = self.old

    def said(self) -> str:
        return "a NumPy array"


class Buffer(Part):
    """Other memory: a view, a number of C's."""

    __slots__ = ()

    def now(self) -> Any:
        try:
            return bytes(np.frombuffer(self.of, np.uint8))
        except (ValueError, BufferError):  # that has been given back, or is not in one piece
            return b""

    def put_back(self) -> None:
        np.frombuffer(self.of, np.uint8)[:] = np.frombuffer(self.old, np.uint8)


class Stream(Part):
    """A file in memory."""

    __slots__ = ()

    def now(self) -> Any:
        return None if self.of.closed else (self.of.getvalue(), self.of.tell())

    def put_back(self) -> None:
        if self.old is not None and not self.of.closed:
            self.of.seek(0)
            self.of.truncate()
            self.of.write(self.old[0])
            self.of.seek(self.old[1])


def of_cs(x: Any) -> type[Part] | None:
    """How something of C's is looked after that may change; None for all else."""
    if isinstance(x, bytearray | array.array):
        return Bytes
    if isinstance(x, STREAMS):
        return Stream
    if type(x) is memoryview or type(type(x)).__module__ == "_ctypes":
        return Buffer
    if isinstance(x, contextvars.ContextVar):
        return ContextVariable
    return None


class ContextVariable(Part):
    """What a context variable is; of one that has not been set it cannot be undone that it is."""

    __slots__ = ()

    def now(self) -> Any:
        return self.of.get(MISSING)

    def change(self) -> Change:
        return Change.NOTHING if equal(self.now(), self.old) else Change.CHANGED

    def put_back(self) -> None:
        if self.old is not MISSING:
            self.of.set(self.old)

    def said(self) -> str:
        return "a context variable"


COUNTING = (itertools.count, itertools.cycle, types.GeneratorType)


def moves_on(x: Any) -> bool:
    """Whether something stands for an iterator that goes on from call to call: itself, or its `__next__`."""
    if isinstance(x, types.MethodWrapperType) and x.__name__ == "__next__":
        x = x.__self__
    return isinstance(x, COUNTING)
