"""What converted code reads from outside while it is traced, handed to the trace at hand."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autograph import asitis, insides, libraryreads, rare
from tracejit.autograph.guarding import MOST, Found, Reads, hashable, is_own
from tracejit.autograph.mentioned import names_for
from tracejit.autograph.owners import is_users, loaded_names
from tracejit.autograph.source import is_library
from tracejit.runtime.cachedcalls import Kept
from tracejit.runtime.guards import CONTAINERS, Attribute, Cell, Guard, Item, Names, raw

_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
LARGEST = 1 << 20  # bytes of arrays that are looked after while code runs that is not converted


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


def are_recorded() -> bool:
    return _current.reads is not None


@contextmanager
def listed() -> Iterator[Found]:
    """The places that are read in this block, whatever was read or written before."""
    r, found = _current.reads, Found()
    before = None
    if r is not None:
        before, r.listed = r.listed, found
    try:
        yield found
    finally:
        if r is not None:
            r.listed = before
            if before is not None:
                before.own |= found.own
                before.guards |= found.guards
                before.inputs |= found.inputs


def written(key: tuple[Any, ...], owner: Any) -> None:
    """A place is about to be written to: what is read there later is the trace's own."""
    if _current.reads is not None:
        _current.reads.written.setdefault(key, owner)


def changed(owner: Any, before: Any) -> None:
    """The items of a container are about to change, which were those before the trace."""
    if _current.reads is not None:
        _current.reads.changed.setdefault(id(owner), before)


def is_changed(x: Any) -> bool:
    """Whether the trace has put something into a container that was there before it."""
    r = _current.reads
    return r is not None and (id(x) in r.changed or any(owner is x for owner in r.written.values()))


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


def form(x: Any) -> None:
    """The shape of an array is read, or something else that does not depend on its numbers."""
    if _current.reads is not None:
        _current.reads.form(x)


def array_item(x: Any, key: Any, value: Any) -> Any:
    """`value`, which is `x[key]` of an array of NumPy's."""
    array_read(x)
    if _current.reads is not None and isinstance(value, np.generic) and all(map(_is_index, _indices(key))):
        _current.reads.content(x, key)
    elif _current.reads is not None and x.dtype.hasobject and not isinstance(value, np.ndarray):
        _current.reads.content(x)
        _current.reads.found(value, "an item of an array")
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


def stand_inside(owner: Any, keys: set[Any], before: Any) -> None:
    """The tensors at these indices or keys of a container, which held this before, are inputs of the trace."""
    if _current.reads is not None:
        _current.reads.stand_inside(owner, keys, before)


def stand_at(key: tuple[Any, ...], guard: Guard) -> None:
    """What is at a place, or the tensors in it, are inputs: when it is read the trace is for such ones."""
    if _current.reads is not None:
        _current.reads._formed[key] = guard


def is_read(key: tuple[Any, ...]) -> bool:
    return _current.reads is not None and key in _current.reads.guards


def same_tensors(make: Any, at: tuple[Any, ...], owner: Any) -> None:
    """The trace is for tensors at these places of which the same ones are one."""
    if _current.reads is not None:
        _current.reads.record(make, ("same", id(owner), at), "which tensors in containers are one", owner)


def is_everything_read(x: Any) -> bool:
    """Whether everything in a container is read."""
    return _current.reads is not None and ("items", id(x), ("all",)) in _current.reads.guards


def given(kind: str, owner: Any, at: Any) -> Any:
    """The input that stands for what is at a place; None if there is none, or it has been written to."""
    if _current.reads is None or not _current.reads.inputs:
        return None
    key = (kind, id(owner), at)
    found = None if key in _current.reads.written else _current.reads.inputs.get(key)
    if found is not None and (listed := _current.reads.listed) is not None and key not in listed.inputs:
        of_object = kind == "attribute"
        label = f"attribute {type(owner).__name__}.{at}" if of_object else f"item {at!r}"
        listed.inputs[key] = (Attribute if of_object else Item)(key, label, owner)
    return found


def defer(owner: Any, refuse: Callable[[], None]) -> None:
    """The program changes a container when it runs: from now on `refuse` is called when it is read."""
    if _current.reads is not None:
        _current.reads.deferred[id(owner)] = refuse


def moved(owner: Any) -> None:
    """Items of a container have got other places, or may have been replaced: what was told of single places is over."""
    if _current.reads is not None:
        _current.reads.moved(owner)


def filled_from(owner: Any, other: Any) -> None:
    """What a container holds depends on what another one, or itself, held: that counts as read when it is read."""
    if _current.reads is not None:
        _current.reads.sources.setdefault(id(owner), []).append(other)


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


def from_outside(owner: Any) -> None:
    """A container that the trace did not make, also where it was come by without a name."""
    if _current.reads is not None:
        _current.reads.found(owner, f"a {type(owner).__name__}")


def items_kept(owner: Any, before: Any) -> None:
    """A container that held `before` may keep what it still has of that."""
    r = _current.reads
    if r is not None and type(owner) not in CONTAINERS:
        _others(owner)
        return
    if r is None or r.name(owner) is None:
        return
    r.length(owner)
    left = set(map(id, owner.values() if isinstance(owner, dict) else owner))  # also at other places
    for k, v in before.items() if isinstance(before, dict) else enumerate(before) if type(before) is list else ():
        if hashable(k) and id(v) in left:
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


def special(x: Any, *names: str) -> None:
    """What Python looks for in the class of an object, which may be given another, and not in the object."""
    if _current.reads is not None and is_users(cls := type(x)):
        rare.kind(_current.reads, x)
        of_class(cls, *names)


def of_class(cls: type, *names: str) -> None:
    """What a class has under these names."""
    if _current.reads is not None and is_users(cls):
        for name in names:
            _current.reads.of_class(cls, name)


def kind(x: Any) -> None:
    """It is asked of which class an object is."""
    if _current.reads is not None:
        rare.kind(_current.reads, x)


def related(cls: type, kinds: Iterable[Any]) -> None:
    """It is asked whether a class is one of these, or below one."""
    if _current.reads is not None:
        _current.reads.related(cls, kinds)


def library(f: Any, owner: Any, args: tuple[Any, ...]) -> None:
    """A function of a library's, or a method of `owner`'s, is called as it is."""
    if _current.reads is not None:
        libraryreads.called(_current.reads, f, owner, args)


def members(x: Any) -> None:
    """It is asked which attributes an object has."""
    if _current.reads is not None:
        libraryreads.members(_current.reads, x)


def cached(f: Any, key: Any, made: Any) -> None:
    """A function of `functools.lru_cache` gives what it has kept under a key."""
    if _current.reads is not None:
        _current.reads.record(Kept, ("kept", id(f), key), f"what {f.__qualname__} has kept", f)
        _current.reads.found(made, f"{f.__qualname__}()")


def unconverted(f: types.FunctionType) -> None:
    """A function of the user's is called as it is."""
    if _current.reads is not None:
        asitis.functions(_current.reads, f)


def called_back(given: Iterable[Any]) -> None:
    """Code that is not converted is given these, and calls those that are functions."""
    functions = [x for x in given if isinstance(x, _FUNCTIONS)]
    if functions and _current.reads is not None:
        asitis.functions(_current.reads, *functions)


def registry(f: Any) -> None:
    """A generic function is called."""
    if _current.reads is not None:
        rare.registry(_current.reads, f)


def state(*given: Any, asks: tuple[str, ...] = ()) -> None:
    """Code that is not converted is given these: it may read whatever they hold, those that have such methods."""
    if _current.reads is not None:
        insides.state(_current.reads, *given, asks=asks)


def asked(*given: Any, asks: Iterable[str]) -> None:
    """Special methods of objects of libraries' classes are called, which may read what these hold."""
    if _current.reads is not None:
        for x in given:
            if not is_users(cls := type(x)) and insides.answers(x, asks):
                methods = {n: f for n in asks if type(f := raw(cls, n)) is types.FunctionType}
                for n in methods:
                    _current.reads.of_class(cls, n)
                insides.state(_current.reads, x, names=names_for(cls, *methods.values()))


def by_method(x: Any, f: Any) -> None:
    """A method of an object, or what stands behind one of its attributes, is called as it is."""
    if _current.reads is not None:
        insides.state(_current.reads, x, names=names_for(type(x), f))


def names(owner: Any) -> None:
    """All attributes of an object's own are gone through, by those that are read it is told which ones there are."""
    if _current.reads is not None:
        key, label = ("names", id(owner), ""), f"attributes of {type(owner).__name__}"
        _current.reads.record(Names, key, label, owner)


def became(make: Any, key: tuple[Any, ...], label: str, owner: Any) -> None:
    """Code that is not converted has put something at a place, and would find it there the next time."""
    r = _current.reads
    if r is not None and key not in r.written and id(owner) not in r.changed:
        r.forget(key)
        r.record(make, key, label, owner)


def setting(owner: Any, name: str) -> None:
    """An attribute of one of this package's own objects, which users may set, is read."""
    if _current.reads is not None:
        key, label = ("attribute", id(owner), name), f"attribute {type(owner).__name__}.{name}"
        _current.reads.record(Attribute, key, label, owner)


def hashed(key: Any) -> None:
    """Python looks a key up: by its hash, and whether it is equal to another."""
    if _current.reads is not None and (is_users(type(key)) or type(key) is tuple):
        special(key, *insides.KEY)
        state(key, asks=insides.KEY)
    else:
        asked(key, asks=insides.KEY)


def evaluated(source: Any, namespace: dict[str, Any]) -> None:
    """`eval` or `exec` runs the code of `source` in a namespace."""
    for name in loaded_names(source) if _current.reads is not None else ():
        if "__builtins__" in namespace:
            _current.reads.variable(namespace, name)  # type: ignore[union-attr]
        else:
            item(namespace, name)


def item(x: Any, key: Any) -> None:
    hashed(key)
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.item(x, key)
    else:
        _others(x)


def contains(x: Any, key: Any) -> None:
    hashed(key)
    x = rare.behind(x)
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.contains(x, key)
    else:
        _others(x)


def length(x: Any) -> None:
    x = rare.behind(x)
    if _current.reads is not None and type(x) in CONTAINERS:
        _current.reads.length(x)
    else:
        _others(x)


def whole(x: Any) -> Any:
    """`x`, of which everything is read."""
    held = rare.behind(x)
    if _current.reads is not None and (type(held) in CONTAINERS or type(held) is tuple):
        _current.reads.whole(held)
    else:
        _others(held)
        asked(held, asks=("__iter__", "__getitem__"))
    return x


def _others(x: Any) -> None:
    """Something is read of a container that is none of those of which single items are told apart."""
    if _current.reads is not None and rare.is_container(x):
        rare.everything(_current.reads, x)


def active() -> bool:
    return _current.reads is not None


def label(x: Any) -> str | None:
    """What a container is called that was reached from outside; None if it was not."""
    found = None if _current.reads is None else _current.reads.reached(x)
    return None if found is None else found[1]


def containers() -> list[Any]:
    """The lists and dicts that were reached from outside."""
    return [] if _current.reads is None else _current.reads.containers()


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
    r.end_inside()
    for x in (r.written, r.changed, r.sources, r._known, r._alive, r._inside, r._formed):
        x.clear()  # type: ignore[attr-defined]
    return list(r.guards.values())


__all__ = ["LARGEST", "MOST", "Reads", "is_own", "recorded"]
