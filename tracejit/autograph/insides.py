"""What code that is not converted may read of the objects that it is given: all that they hold."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.autograph import growing, rare
from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.errors import is_internal
from tracejit.runtime.guards import CONTAINERS, Attribute, Length, Names, Whole, own_dict, raw
from tracejit.tensor import Operand

if TYPE_CHECKING:
    from tracejit.autograph.guarding import Reads

HOLDING = (list, tuple, dict, set, frozenset)
ORDER = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
KEY = ("__hash__", "__eq__")
TEXT = ("__repr__", "__str__", "__format__")
NUMBER = ("__float__", "__int__", "__index__", "__array__", "__tensor__", "__complex__")
ANY = (*ORDER, *KEY, *TEXT, *NUMBER, "__len__", "__iter__", "__next__", "__getitem__", "__contains__", "__bool__")
MOST = 1 << 16  # objects that are looked at, and items of a container
_ATOMS = frozenset((int, float, bool, str, complex, bytes, type(None)))
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, Operand, np.ufunc)
# Modules with functions that go through whatever objects they are given.
_READERS = {"copy", "dataclasses", "json", "json.encoder", "pickle", "_pickle", "pprint"}


def reads_objects(f: Any) -> bool:
    """Whether a function of a library's goes through what its arguments hold, and does not only hand them on."""
    return getattr(f, "__module__", None) in _READERS


def is_generated(f: Any) -> bool:
    """Whether a function has been made from a text that is kept nowhere, as those of dataclasses are."""
    return type(f) is types.FunctionType and f.__code__.co_filename.startswith("<")


def is_others(f: Any) -> bool:
    """Whether a function runs as it is: a library's, but not this package's, or one without a text."""
    if type(f) is not types.FunctionType:
        return False
    return is_generated(f) or (is_library(f) and not is_internal(f.__code__.co_filename))


def holds_state(x: Any) -> bool:
    """Whether an object of a library's has attributes of its own."""
    if isinstance(x, _OPAQUE) or own_dict(x) is None:
        return False
    return is_users(type(x)) or not type(x).__module__.startswith("tracejit.")


def answers(x: Any, names: Iterable[str]) -> bool:
    """Whether the class of an object of the user's has one of these special methods, written in Python."""
    return is_users(type(x)) and any(type(raw(type(x), name)) is types.FunctionType for name in names)


def state(reads: Reads, *given: Any, asks: Iterable[str] = ()) -> None:
    """All attributes and items of objects and containers, and of those within them; of a library's only its own.

    `asks` are the special methods that are called, if it is known that nothing else reads the objects.
    """
    seen: dict[int, Any] = {}
    todo = [(x, "", False) for x in given]
    while todo and len(seen) < MOST:
        x, called, within_library = todo.pop()
        if asks and not called and not isinstance(x, HOLDING) and not answers(x, asks):
            continue
        if type(x) in _ATOMS or id(x) in seen or isinstance(x, _OPAQUE):
            continue
        if isinstance(x, np.ndarray):
            reads.content(x)
            continue
        seen[id(x)] = x
        if isinstance(x, tuple):
            todo += [(y, called and f"{called}[{i}]", within_library) for i, y in enumerate(x)]
        elif type(x) in CONTAINERS:
            todo += [(y, called and f"{called}[…]", within_library) for y in _items(reads, x, called)]
        elif rare.is_container(x):
            reads.found(x, called)
            rare.everything(reads, x)
        if not within_library and (is_users(type(x)) or (not called and holds_state(x))):
            library = not is_users(type(x))
            todo += [(y, name, library) for name, y in _attributes(reads, x)]


def _items(reads: Reads, x: Any, called: str) -> list[Any]:
    """What a container holds; all of that counts as read if it is from outside."""
    if growing.is_grown(x) or growing.is_partial(x):
        return []
    held = [y for pair in x.items() for y in pair] if isinstance(x, dict) else list(x)
    if reads.reached(x) is None and (not called or reads.is_own(x) or any(isinstance(y, Operand) for y in held)):
        return held
    reads.found(x, called)
    make: Any = Whole if len(x) <= MOST else Length
    label = f"items of {type(x).__name__} {reads.name(x)}"
    reads.loosely(make, ("items", id(x), ("all",)), label, x)
    return held


def _attributes(reads: Reads, x: Any) -> list[tuple[str, Any]]:
    """An object's own attributes; they count as read if it is from outside."""
    cls, own = type(x), own_dict(x)
    found = [(name, y) for name, y in (own or {}).items() if isinstance(name, str)]
    for c in cls.__mro__:
        for name, member in list(vars(c).items()):
            if type(member) is types.MemberDescriptorType and is_users(c):
                try:
                    found.append((name, member.__get__(x, cls)))
                except AttributeError:
                    continue
    if not reads.is_own(x):
        for name, _ in found:
            reads.loosely(Attribute, ("attribute", id(x), name), f"attribute {cls.__name__}.{name}", x)
        if own is not None:
            reads.loosely(Names, ("names", id(x), ""), f"attributes of {cls.__name__}", x)
    return [(f"{cls.__name__}.{name}", y) for name, y in found]
