"""What converted code seldom reads: defaults, the environment, context variables, containers of uncommon kinds."""

from __future__ import annotations

import collections
import contextvars
import ctypes
import gc
import os
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any

from tracejit.autograph import dicts, growing
from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.runtime.contents import PARTS, SNAPSHOTS, Defaults, Kind, Looked, Snapshot, Variable
from tracejit.runtime.guards import CONTAINERS, raw
from tracejit.runtime.held import MISSING, is_plain, shown

if TYPE_CHECKING:
    from tracejit.autograph.guarding import Reads

VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
OWNERS = (contextvars.ContextVar, threading.local, types.FunctionType)


def attribute(reads: Reads, owner: Any, name: str) -> None:
    """An attribute of a function, a thread's object or a context variable."""
    if isinstance(owner, contextvars.ContextVar):
        reads.record(Variable, ("attribute", id(owner), ""), f"context variable {owner.name}", owner)
        reads.found(owner.get(None), owner.name)
        return
    if isinstance(owner, types.FunctionType) and (is_library(owner) or raw(type(owner), name) is not MISSING):
        if name in PARTS and not is_library(owner):
            reads.record(Defaults, ("defaults", id(owner), name), f"{name} of {owner.__qualname__}", owner)
        elif name in ("__dict__", "__annotations__"):
            reads.found(getattr(owner, name), f"{owner.__qualname__}.{name}")
        return
    called = f"{getattr(owner, '__qualname__', type(owner).__name__)}.{name}"
    reads.record(Looked, ("attribute", id(owner), name), f"attribute {called}", owner)
    reads.found(getattr(owner, name, None), called)


def computed(reads: Reads, owner: Any, name: str) -> None:
    """An attribute that a class of C's gives of what is in the object: a field of a structure, a setting."""
    of_class = raw(type(owner), name)
    setter = raw(type(of_class), "__set__")
    if type(setter) is not types.WrapperDescriptorType or type(of_class) in _KNOWN or name.startswith("__"):
        return
    if isinstance(owner, tuple):  # whose fields stay what they are
        return
    if isinstance(owner, ctypes.Structure) and isinstance(getattr(owner, name, None), ctypes.Structure | ctypes.Array):
        label = f"numbers of a {type(owner).__name__}"
        reads.record(Snapshot, ("items", id(owner), ("all",)), label, owner)
    if type(owner).__module__.split(".")[0] not in _UNCHANGING and is_plain(getattr(owner, name, MISSING)):
        reads.record(Looked, ("attribute", id(owner), name), f"attribute {type(owner).__name__}.{name}", owner)


_KNOWN = (property, types.MemberDescriptorType)
_UNCHANGING = {"builtins", "datetime", "numpy", "tracejit"}  # modules with classes whose objects stay what they are


def defaults(reads: Reads, f: types.FunctionType) -> None:
    """A function's code, and the values of its parameters that may be left out."""
    reads.record(Defaults, ("defaults", id(f), "__code__"), f"__code__ of {f.__qualname__}", f)
    for name in ("__defaults__", "__kwdefaults__"):
        if (value := getattr(f, name)) is not None:
            reads.record(Defaults, ("defaults", id(f), name), f"{name} of {f.__qualname__}", f)
            reads.found(value, f"{f.__qualname__}.{name}")
            if type(value) is dict:
                reads.whole(value)


def kind(reads: Reads, x: Any) -> None:
    """The class of an object of the user's, which may be given another."""
    if type(x).__weakrefoffset__ and not isinstance(x, type) and is_users(type(x)) and not reads.is_own(x):
        if ("attribute", id(x), "__class__") in reads.written:
            return
        reads.record(Kind, ("class", id(x), ""), f"class of {shown(x)}", x)


def registry(reads: Reads, f: types.FunctionType) -> None:
    """The functions among which one of `functools.singledispatch` chooses."""
    dispatch: Any = f.dispatch  # type: ignore[attr-defined]
    found = dispatch.__closure__[dispatch.__code__.co_freevars.index("registry")].cell_contents
    reads.found(found, f"functions of {f.__qualname__}")
    reads.whole(found)


PROXIES = (weakref.ProxyType, weakref.CallableProxyType)


def shown_by(proxy: Any) -> Any:
    """The object that a weak proxy stands for."""
    return proxy.__repr__.__self__


def behind(x: Any) -> Any:
    """The dict that a view of one shows; all else as it is."""
    return gc.get_referents(x)[0] if type(x) in VIEWS else x


def is_container(x: Any) -> bool:
    """Whether it holds things as lists and dicts do, and is none of those of which single items are told apart."""
    return x is os.environ or (
        type(x) not in CONTAINERS and issubclass(type(x), (*SNAPSHOTS, collections.ChainMap))
    )


def everything(reads: Reads, x: Any) -> None:
    """All that such a container holds."""
    if x is os.environ:  # where little changes, and seldom
        known = os.environ._data  # type: ignore[attr-defined]
        reads.found(known, "os.environ")
        reads.whole(known)
        return
    called = reads.name(x)
    if growing.is_partial(x):
        raise dicts.refused("everything in a dict is read")
    if called is None:
        return
    if isinstance(x, collections.ChainMap):
        for i, part in enumerate(x.maps):
            reads.found(part, f"{called}.maps[{i}]")
            everything(reads, part) if is_container(part) else reads.whole(part)  # type: ignore[arg-type]
        return
    reads.everything(Snapshot, called, x)
    for i, y in enumerate(Snapshot.items(x)):
        reads.found(y, f"{called}[{i}]")
