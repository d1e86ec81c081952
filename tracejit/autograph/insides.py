"""What code that is not converted may read of the objects that it is given: all that they hold."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.autograph import growing, rare
from tracejit.autograph.mentioned import names_within
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
ITEMS = ("__iter__", "__next__", "__getitem__", "__contains__")
ANY = (*ORDER, *KEY, *TEXT, *NUMBER, *ITEMS, "__len__", "__bool__", "__enter__")
MOST = 1 << 16  # objects that are looked at, and items of a container
_ATOMS = frozenset((int, float, bool, str, complex, bytes, type(None)))
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, Operand, np.ufunc)
# Modules with functions that go through whatever objects they are given.
_READERS = {"copy", "dataclasses", "json", "json.encoder", "pickle", "_pickle", "pprint"}
# Modules with classes whose objects stay what they are, or change by themselves.
_APART = {
    "abc", "ast", "asyncio", "builtins", "concurrent", "contextlib", "ctypes", "datetime", "decimal", "enum",
    "fractions", "functools", "inspect", "io", "ipaddress", "logging", "multiprocessing", "numbers", "numpy", "pathlib",
    "queue", "random", "re", "string", "tempfile", "threading", "tracejit", "types", "typing", "unittest", "uuid",
    "weakref",
}  # fmt: skip
KNOWN = {"numpy", "scipy", "pytest", "_pytest", "hypothesis", "tracejit"}  # packages whose functions have no settings
_WITHIN = 50  # objects of libraries' classes within others that are looked at


def reads_objects(f: Any) -> bool:
    """Whether a function of a library's goes through what its arguments hold, and does not only hand them on."""
    return getattr(f, "__module__", None) in _READERS or is_installed(f)


def is_installed(f: Any) -> bool:
    """Whether a function is that of an installed package, written in Python, that is not known to read little."""
    if type(f) is not types.FunctionType or not is_others(f):
        return False
    top = str(f.__module__).partition(".")[0]
    return top not in sys.stdlib_module_names and top not in KNOWN


def _has_slots(cls: type) -> bool:
    """Whether a class that is written in Python keeps attributes in slots."""
    if cls.__module__.partition(".")[0] in _APART:
        return False
    return any(
        type(y) is types.MemberDescriptorType
        for k in cls.__mro__ if "__slots__" in vars(k)
        for y in vars(k).values()
    )  # fmt: skip


def has_slot(cls: type, name: str) -> bool:
    """Whether an attribute of a library's class, which is written in Python, is a slot."""
    return type(raw(cls, name)) is types.MemberDescriptorType and _has_slots(cls)


def is_open(x: Any) -> bool:
    """Whether an object of a library's class, within another object, is looked into."""
    return type(x).__module__.partition(".")[0] not in _APART and holds_state(x)


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
    if isinstance(x, _OPAQUE) or (own_dict(x) is None and not _has_slots(type(x))):
        return False
    module = type(x).__module__
    return is_users(type(x)) or not module.startswith("tracejit.") or module == "tracejit.optimizers.schedules"


def answers(x: Any, names: Iterable[str]) -> bool:
    """Whether the class of an object has one of these special methods, written in Python."""
    cls = type(x)
    if cls in _ATOMS or isinstance(x, Operand | np.ndarray | np.generic) or not (is_users(cls) or holds_state(x)):
        return False
    return any(type(y := raw(cls, name)) is types.FunctionType or y is _of_bags.get(name) for name in names)


_of_bags = dict(vars(types.SimpleNamespace))


def state(reads: Reads, *given: Any, asks: Iterable[str] = (), names: frozenset[str] | None = None) -> None:
    """All attributes and items of objects and containers, and of those within them; of a library's only some.

    `asks` are the special methods that are called, if it is known that nothing else reads the objects; `names` those
    of the attributes that are read of objects of libraries' classes, if these are known.
    """
    seen: dict[int, Any] = {}
    todo, within = [(x, "", names) for x in given], 0
    while todo and len(seen) < MOST:
        x, called, names = todo.pop()
        if asks and not called and not isinstance(x, HOLDING) and not answers(x, asks):
            continue
        if type(x) in _ATOMS or id(x) in seen or isinstance(x, _OPAQUE):
            continue
        if isinstance(x, np.ndarray):
            reads.content(x)
            continue
        seen[id(x)] = x
        if isinstance(x, tuple):
            todo += [(y, called and f"{called}[{i}]", names) for i, y in enumerate(x)]
        elif type(x) in CONTAINERS:
            todo += [(y, called and f"{called}[…]", names) for y in _items(reads, x, called)]
        elif rare.is_container(x):
            reads.found(x, called)
            rare.everything(reads, x)
        if is_users(type(x)):
            rare.kind(reads, x)
            todo += [(y, name, None) for name, y in _attributes(reads, x)]
        elif (not called and holds_state(x)) or (within < _WITHIN and is_open(x)):
            within += bool(called)
            mine = names_within(type(x), names) if called else names
            todo += [(y, name, mine) for name, y in _attributes(reads, x, mine)]


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


def _attributes(reads: Reads, x: Any, names: frozenset[str] | None = None) -> list[tuple[str, Any]]:
    """An object's own attributes, with these names perhaps; they count as read if it is from outside."""
    cls, own = type(x), own_dict(x)
    found = [(name, y) for name, y in (own or {}).items() if isinstance(name, str)]
    for c in cls.__mro__:
        for name, member in list(vars(c).items()):
            written = is_users(c) or "__slots__" in vars(c)
            if type(member) is types.MemberDescriptorType and written and name != "__dict__":
                try:
                    found.append((name, member.__get__(x, cls)))
                except AttributeError:
                    continue
    if names is not None:
        found = [(name, y) for name, y in found if name in names]
    if not reads.is_own(x):
        for name, _ in found:
            reads.loosely(Attribute, ("attribute", id(x), name), f"attribute {cls.__name__}.{name}", x)
        if own is not None:
            reads.loosely(Names, ("names", id(x), ""), f"attributes of {cls.__name__}", x)
    return [(f"{cls.__name__}.{name}", y) for name, y in found]
