"""What converted code seldom reads: defaults, the environment, context variables, containers of uncommon kinds."""

from __future__ import annotations

import collections
import contextvars
import os
import threading
import types
from typing import TYPE_CHECKING, Any

from tracejit.autograph.source import is_library
from tracejit.runtime.contents import SNAPSHOTS, Defaults, Looked, Snapshot, Variable
from tracejit.runtime.guards import CONTAINERS, raw
from tracejit.runtime.held import MISSING

if TYPE_CHECKING:
    from tracejit.autograph.reads import Reads

OWNERS = (contextvars.ContextVar, threading.local, types.FunctionType)


def attribute(reads: Reads, owner: Any, name: str) -> None:
    """An attribute of a function, a thread's object or a context variable."""
    if isinstance(owner, contextvars.ContextVar):
        reads.record(Variable, ("attribute", id(owner), ""), f"context variable {owner.name}", owner)
        reads.found(owner.get(None), owner.name)
        return
    if isinstance(owner, types.FunctionType) and (is_library(owner) or raw(type(owner), name) is not MISSING):
        return
    called = f"{getattr(owner, '__qualname__', type(owner).__name__)}.{name}"
    reads.record(Looked, ("attribute", id(owner), name), f"attribute {called}", owner)
    reads.found(getattr(owner, name, None), called)


def defaults(reads: Reads, f: types.FunctionType) -> None:
    """The values of a function's parameters that may be left out."""
    for name in ("__defaults__", "__kwdefaults__"):
        if (value := getattr(f, name)) is not None:
            reads.record(Defaults, ("defaults", id(f), name), f"{name} of {f.__qualname__}", f)
            reads.found(value, f"{f.__qualname__}.{name}")
            if type(value) is dict:
                reads.whole(value)


def is_container(x: Any) -> bool:
    """Whether it holds things as lists and dicts do, and is none of those of which single items are told apart."""
    return x is os.environ or (
        type(x) not in CONTAINERS and isinstance(x, (*SNAPSHOTS, collections.ChainMap))
    )


def everything(reads: Reads, x: Any) -> None:
    """All that such a container holds."""
    if x is os.environ:  # where little changes, and seldom
        known = os.environ._data  # type: ignore[attr-defined]
        reads.found(known, "os.environ")
        reads.whole(known)
        return
    called = reads.name(x)
    if called is None:
        return
    if isinstance(x, collections.ChainMap):
        for i, part in enumerate(x.maps):
            reads.found(part, f"{called}.maps[{i}]")
            everything(reads, part) if is_container(part) else reads.whole(part)  # type: ignore[arg-type]
        return
    reads.record(Snapshot, ("items", id(x), ("all",)), f"items of {type(x).__name__} {called}", x)
    for i, y in enumerate(Snapshot.items(x)):
        reads.found(y, f"{called}[{i}]")
