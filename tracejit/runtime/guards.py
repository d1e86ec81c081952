"""What a trace has read of Python's globals, cells, attributes and items: whether it is still so, and what changed."""

from __future__ import annotations

import builtins
import collections
import ctypes
import struct
import types
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from typing import Any, Final

import numpy as np

from tracejit.runtime import layout
from tracejit.runtime.held import MISSING, Held, Parts, is_plain, reference, shown
from tracejit.tensor import Tensor

CONTAINERS: Final = frozenset((list, dict, set, collections.OrderedDict, collections.defaultdict, collections.Counter))
KEYS: Final = frozenset((int, bool, str, bytes, type(None)))  # looking these up in a dict runs no code of the user's


# --- native records ---------------------------------------------------------------------------------------------------
class Check(IntEnum):
    """The kinds of native records, of four words each. ENTRY, PRESENT and COUNT look into the dict that stands before
    them.

    NAMESPACE dict; OWNER object, its class: the object's own dict; ENTRY key, value or 0; PRESENT key; COUNT n;
    POINTER address, value; NUMBER address, i64; VERSION address, i32; ITEM list, index, value;
    LIST list, n, at; DICT dict, n, at: values (keys and values) at this distance from the start; BYTES address, n, at.
    """

    NAMESPACE, OWNER, ENTRY, PRESENT, POINTER, NUMBER, VERSION, ITEM, LIST, DICT, BYTES, COUNT = range(12)


RECORD: Final = 4  # words


class Unknown(Exception):
    """Something that native code cannot check."""


class Words:
    """Collects native records, those of one dict side by side."""

    def __init__(self) -> None:
        self.groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self.single: dict[tuple[int, ...], None] = {}
        self.arrays: list[tuple[Check, int, int, list[int]]] = []
        self.keep: list[Any] = []

    def pointer(self, x: Any) -> int:
        """The address of a value that stands for it as long as the guards are in force."""
        if x is MISSING:
            return 0
        try:
            weakref.ref(x)
        except TypeError:
            self.keep.append(x)
        return id(x)

    def entry(self, where: Sequence[int], key: Any, value: Any) -> None:
        self.keep.append(key)
        self.groups.setdefault(tuple(where), []).append((Check.ENTRY, id(key), self.pointer(value), 0))

    def present(self, where: Sequence[int], key: Any) -> None:
        self.keep.append(key)
        self.groups.setdefault(tuple(where), []).append((Check.PRESENT, id(key), 0, 0))

    def count(self, where: Sequence[int], n: int) -> None:
        found = self.groups.setdefault(tuple(where), [])
        if (Check.COUNT, n, 0, 0) not in found:
            found.append((Check.COUNT, n, 0, 0))

    def add(self, kind: Check, a: int, b: int = 0, c: int = 0) -> None:
        self.single[kind, a, b, c] = None

    def steady(self, d: dict[str, Any], name: str, value: Any) -> None:
        """The same of a dict that hardly ever changes: one record for all that is in it."""
        if at := layout.dict_version():
            self.add(Check.NUMBER, id(d) + at, layout.word(id(d) + at))
        else:
            self.entry((Check.NAMESPACE, id(d)), name, value)

    def array(self, kind: Check, container: Any, values: Iterable[Any]) -> None:
        found = [self.pointer(x) for x in values]
        self.arrays.append((kind, id(container), len(found) // 2 if kind is Check.DICT else len(found), found))

    def memory(self, address: int, content: bytes) -> None:
        padded = content + bytes(-len(content) % 8)
        self.arrays.append((Check.BYTES, address, len(content), list(struct.unpack(f"<{len(padded) // 8}q", padded))))

    def of_class(self, cls: type, name: str) -> None:
        """What a class has under a name, itself or from those above it, is what it was."""
        if number := layout.version(cls):
            self.add(Check.VERSION, id(cls) + layout.TYPE_VERSION, number)
            return
        # from Python 3.13 on a class that has changed a thousand times has no versions any more
        at = layout.order_offset()
        if not at:
            raise Unknown
        self.add(Check.POINTER, id(cls) + at, id(cls.__mro__))
        self.keep.append(cls.__mro__)
        for k in cls.__mro__:
            if k.__flags__ & layout.CHANGEABLE:
                self.entry((Check.NAMESPACE, layout.class_dict(k)), name, k.__dict__.get(name, MISSING))
            if name in k.__dict__:
                break

    def table(self) -> bytes:
        """The number of records, the records, the arrays."""
        rows: list[tuple[int, ...]] = []
        for where, entries in self.groups.items():
            rows += [(*where, *[0] * (RECORD - len(where))), *entries]
        known = {where[1:] for where in self.groups if where[0] == Check.OWNER}  # objects of which the class is asked
        rows += [r for r in self.single if r[0] != Check.POINTER or (r[1] - layout.TYPE, r[2]) not in known]
        at = 8 * (1 + RECORD * (len(rows) + len(self.arrays)))
        tail: list[int] = []
        for kind, container, n, values in self.arrays:
            rows.append((kind, container, n, at + 8 * len(tail)))
            tail += values
        flat = [len(rows), *[w for r in rows for w in r], *tail]
        return struct.pack(f"<{len(flat)}q", *flat)


# --- guards -----------------------------------------------------------------------------------------------------------
def raw(cls: type, name: str) -> Any:
    """What a class has under a name, without asking descriptors."""
    for k in cls.__mro__:
        if name in k.__dict__:
            return k.__dict__[name]
    return MISSING


def own_dict(x: Any) -> dict[str, Any] | None:
    """The dict of an object's own attributes."""
    try:
        d = object.__getattribute__(x, "__dict__") if type(x).__dictoffset__ else None
    except AttributeError:
        return None
    return d if type(d) is dict else None


def _is_data(descriptor: Any) -> bool:
    cls = type(descriptor)
    return descriptor is not MISSING and (hasattr(cls, "__set__") or hasattr(cls, "__delete__"))


class Guard(ABC):
    """A place that a trace has read, and what was there. `label` names it: "global G", "attribute Model.training"."""

    __slots__ = ("key", "label", "owner", "held")

    def __init__(self, key: tuple[Any, ...], label: str, owner: Any, was: Held | None = None) -> None:
        self.key, self.label, self.owner = key, label, reference(owner)
        if was is None:
            x = self.now()
            was = Parts(x, tuple, "a tuple") if type(x) is tuple and not is_plain(x) else Held(x)
        self.held = was

    @abstractmethod
    def now(self) -> Any:
        """What is there now."""

    def holds(self) -> bool:
        return self.owner() is not None and self.held.is_still(self.now())

    def change(self) -> str:
        """The difference between then and now."""
        now = shown(self.now()) if self.owner() is not None else "nothing"
        return f"{self.label}: {self.held.text} -> {now if now != self.held.text else 'another'}"

    def words(self, w: Words) -> None:
        """Add native records that say what `holds` says. Raises `Unknown` where there are none."""
        raise Unknown

    def objects(self) -> list[Any]:
        """The objects whose end is the end of the guard."""
        parts = self.held.items if isinstance(self.held, Parts) else [self.held]
        return [self.owner, *[h.get for h in parts]]


class Global(Guard):
    """A name in a module's namespace, `key[2]`; builtins stand behind it."""

    __slots__ = ()

    def now(self) -> Any:
        d, name = self.owner(), self.key[2]
        return d[name] if name in d else getattr(builtins, name, MISSING)

    def words(self, w: Words) -> None:
        d, name = self.owner(), self.key[2]
        if name in d or not hasattr(builtins, name):
            w.entry((Check.NAMESPACE, id(d)), name, d.get(name, MISSING))
        else:  # a name that comes to hide one of Python's is one more
            w.count((Check.NAMESPACE, id(d)), len(d))
        if name not in d:
            w.steady(vars(builtins), name, getattr(builtins, name, MISSING))


class Cell(Guard):
    """A variable of a function around the one that was traced."""

    __slots__ = ()

    def now(self) -> Any:
        try:
            return self.owner().cell_contents
        except ValueError:
            return MISSING

    def words(self, w: Words) -> None:
        w.add(Check.POINTER, id(self.owner()) + layout.CELL_CONTENTS, w.pointer(self.now()))


class Attribute(Guard):
    """An attribute of an object, `key[2]`: the class's data descriptor, or its own value, or what its class has."""

    __slots__ = ()

    def _find(self) -> tuple[Any, Any]:
        """What the class has, and what the object has."""
        x, name = self.owner(), self.key[2]
        of_class = raw(type(x), name)
        if type(of_class) is types.MemberDescriptorType:
            try:
                return of_class, of_class.__get__(x)
            except AttributeError:
                return of_class, MISSING
        d = own_dict(x)
        return of_class, MISSING if d is None or _is_data(of_class) else d.get(name, MISSING)

    def now(self) -> Any:
        of_class, own = self._find()
        return own if own is not MISSING or type(of_class) is types.MemberDescriptorType else of_class

    def words(self, w: Words) -> None:
        x, name = self.owner(), self.key[2]
        of_class, own = self._find()
        if type(of_class) is types.MemberDescriptorType:
            try:
                w.add(Check.POINTER, id(x) + layout.slot_offset(type(x), name), w.pointer(own))
            except TypeError:
                raise Unknown from None
        if own is MISSING or _is_data(of_class):
            w.of_class(type(x), name)
        if not _is_data(of_class) and type(x).__dictoffset__:
            if own_dict(x) is None:
                raise Unknown
            w.entry((Check.OWNER, id(x), id(type(x))), name, own)


class Names(Guard):
    """How many attributes of its own an object has: which of them it has is told by guards of these."""

    __slots__ = ()

    def now(self) -> Any:
        return len(own_dict(self.owner()) or ())

    def words(self, w: Words) -> None:
        x = self.owner()
        if own_dict(x) is None:
            raise Unknown
        w.count((Check.OWNER, id(x), id(type(x))), self.now())


class ClassAttribute(Guard):
    """An attribute of a class, `key[2]`."""

    __slots__ = ()

    def now(self) -> Any:
        return raw(self.owner(), self.key[2])

    def words(self, w: Words) -> None:
        w.of_class(self.owner(), self.key[2])


class Item(Guard):
    """An item of a list or dict under an index or key, `key[2]`."""

    __slots__ = ()

    def now(self) -> Any:
        x, k = self.owner(), self.key[2]
        if isinstance(x, dict):
            return x.get(k, MISSING)
        return x[k] if -len(x) <= k < len(x) else MISSING

    def words(self, w: Words) -> None:
        x, k = self.owner(), self.key[2]
        if isinstance(x, dict):
            if type(k) not in KEYS:
                raise Unknown
            w.entry((Check.NAMESPACE, id(x)), k, self.now())
            return
        if k < 0 or k >= len(x):
            w.add(Check.NUMBER, id(x) + layout.SIZE, len(x))
        if -len(x) <= k < len(x):
            w.add(Check.ITEM, id(x), k % len(x), w.pointer(x[k]))


class Contained(Guard):
    """Whether a dict or set has a key, `key[2][1]`."""

    __slots__ = ()

    def now(self) -> Any:
        return self.key[2][1] in self.owner()

    def words(self, w: Words) -> None:
        x, k = self.owner(), self.key[2][1]
        if not isinstance(x, dict) or type(k) not in KEYS:
            raise Unknown
        if k in x:
            w.present((Check.NAMESPACE, id(x)), k)
        else:
            w.entry((Check.NAMESPACE, id(x)), k, MISSING)


class Length(Guard):
    """How many items a container has."""

    __slots__ = ()

    def now(self) -> Any:
        return len(self.owner())

    def words(self, w: Words) -> None:
        if isinstance(self.owner(), set):
            raise Unknown
        w.add(Check.NUMBER, id(self.owner()) + layout.SIZE, len(self.owner()))


class Whole(Guard):
    """All items of a container, in order; of tensors that are `inputs`, at these indices or keys, only the form."""

    __slots__ = ("inputs",)

    def __init__(self, key: tuple[Any, ...], label: str, owner: Any, inputs: Collection[Any] = ()) -> None:
        self.inputs = inputs
        super().__init__(key, label, owner, Parts(formed(owner, _items(owner), inputs), list, "its items"))

    def now(self) -> Any:
        x = self.owner()
        return formed(x, _items(x), self.inputs)

    def change(self) -> str:
        return f"{self.label} changed"

    def words(self, w: Words) -> None:
        x = self.owner()
        if self.inputs:
            raise Unknown
        if type(x) is list:
            w.array(Check.LIST, x, x)
        elif type(x) is dict or type(x) is collections.defaultdict:
            w.array(Check.DICT, x, _items(x))
            w.keep += x
        else:
            raise Unknown


def _items(x: Any) -> list[Any]:
    """What a container holds; keys and values in turn."""
    if isinstance(x, dict):
        return [part for pair in x.items() for part in pair]
    return list(x)


def formed(x: Any, items: list[Any], inputs: Collection[Any]) -> list[Any]:
    """What a container holds, with the dtypes and shapes of the tensors at these indices or keys in their place."""
    if isinstance(x, dict):
        return [form_of(y) if i % 2 and items[i - 1] in inputs else y for i, y in enumerate(items)] if inputs else items
    return [form_of(y) if i in inputs else y for i, y in enumerate(items)] if inputs else items


def form_of(x: Any) -> Any:
    """The dtype and shape of a tensor, also of those in tuples; all else as it is."""
    if isinstance(x, tuple):
        return (f"{type(x).__module__}.{type(x).__qualname__}", *map(form_of, x))
    return ("tensor", x._a.dtype.str, x._a.shape) if type(x) is Tensor and type(x._a) is np.ndarray else x


# --- all guards of a trace --------------------------------------------------------------------------------------------
class Guards:
    """All that a trace has read, which native code checks by a table of its own.

    `address` is a word that holds the table's address, 0 while native code cannot tell: then Python does. The table is
    made anew when equal values have taken the place of others, and taken away when one of its objects ends.
    """

    __slots__ = ("guards", "_word", "_table", "_keep", "_ends")

    def __init__(self, guards: Iterable[Guard], ends: Iterable[Callable[[], Any]] = ()) -> None:
        self.guards = tuple(guards)
        self._word = ctypes.c_uint64(0)
        self._table = b""
        self._keep: list[Any] = []
        word = self._word
        refs: list[Callable[[], Any]] = [*ends]
        refs += [r for g in self.guards for r in g.objects() if isinstance(r, weakref.ref)]
        found = {id(x): x for x in [r() for r in refs] if x is not None}
        self._ends = [weakref.ref(x, lambda _: setattr(word, "value", 0)) for x in found.values()]

    @property
    def address(self) -> int:
        return ctypes.addressof(self._word)

    def hold(self) -> bool:
        return all(g.holds() for g in self.guards)

    def changes(self) -> list[str]:
        """What is no longer as it was."""
        return [g.change() for g in self.guards if not g.holds()]

    def arm(self) -> None:
        """Let native code check that things stay as they are now; they hold now."""
        w = Words()
        try:
            for g in self.guards:
                g.words(w)
        except (Unknown, AttributeError, TypeError):
            self._word.value = 0
            return
        table = w.table()
        if table != self._table or not self._word.value:
            self._word.value, self._table, self._keep = 0, table, w.keep
            self._word.value = id(table) + layout.BYTES_DATA
            if self.ended:
                self._word.value = 0

    @property
    def ended(self) -> bool:
        """Whether one of the objects is gone: the guards never hold again."""
        return any(r() is None for r in self._ends)

    @property
    def native(self) -> bool:
        """Whether native code checks the guards."""
        return bool(self._word.value)
