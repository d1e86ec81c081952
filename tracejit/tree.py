"""Nested tuples, lists, dicts, named tuples and dataclasses as flat leaves and a hashable structure, and back."""

from __future__ import annotations

import dataclasses
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

ITSELF: Any = object()  # in the place of a factory: the dict's attributes are its items


class Again:
    """In the place of a container: the one that was the n-th to be complete, which stands here as well."""


class Circular(ValueError):
    """A container holds itself."""


class Structure:
    """The shape of a nest without its leaves: hashable, comparable, printable."""

    __slots__ = ("kind", "keys", "children", "like", "_key", "_hash", "leaves", "plain", "_sorted", "shared")

    def __init__(self, kind: Any, keys: tuple, children: tuple[Structure, ...], like: Any = None) -> None:
        self.kind, self.keys, self.children = kind, keys, children
        self.like = like  # of a dict: its keys in order, which say nothing of equality, and what makes missing values
        self.leaves: int = 1 if kind is None else sum(c.leaves for c in children)
        self._key: tuple = (kind, keys, children, id(like[1]) if like else None)
        self._hash = hash(self._key)
        self.plain = self  # the structure in which the order of keys does not count
        self.shared: bool = kind is Again or any(c.shared for c in children)  # whether a container stands in two places
        self._sorted: bool = (not like or like[0] == keys) and all(c._sorted for c in children)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Structure)
            and self._key == other._key
        )

    def ordered(self) -> Structure:
        """This structure where dicts with their keys in another order are another structure."""
        if self._sorted:
            return self
        other = Structure(self.kind, self.keys, tuple([c.ordered() for c in self.children]), self.like)
        other._key = (*other._key, self.like and self.like[0])
        other._hash, other.plain = hash(other._key), self
        return other

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        if self.kind is Again:
            return f"again({self.keys[0]})"
        parts = [f"{k}={c}" if isinstance(k, str) else str(c) for k, c in zip(self.keys, self.children, strict=True)]
        return f"{self.kind.__name__}({', '.join(parts)})"

    def paths(self, prefix: str = "") -> Iterator[str]:
        """The name of each leaf, such as `batch["x"]` or `params[0].w`."""
        if self.kind is None:
            yield prefix
            return
        if self.kind is Again:
            return
        for k, c in zip(self.keys, self.children, strict=True):
            if issubclass(self.kind, (tuple, list)) and isinstance(k, int):
                yield from c.paths(f"{prefix}[{k}]")
            elif issubclass(self.kind, Mapping):
                yield from c.paths(f"{prefix}[{k!r}]")
            else:
                yield from c.paths(f"{prefix}.{k}")


LEAF = Structure(None, (), ())


def _fields(x: Any) -> tuple[tuple, Iterable[Any]] | None:
    """Keys and values of a container, None for a leaf."""
    t = type(x)
    if t is tuple or t is list or isinstance(x, list):
        return tuple(range(len(x))), x
    if isinstance(x, tuple):
        return (x._fields if hasattr(x, "_fields") else tuple(range(len(x)))), x
    if isinstance(x, dict):
        own = getattr(x, "__dict__", None) if t is not dict else None
        if own and own is not x:  # an object that has attributes beside its items
            return None
        try:
            keys = tuple(sorted(x))
        except TypeError:
            keys = tuple(x)
        return keys, [x[k] for k in keys]
    own = fields_of(t)
    if own is None:
        return None
    own = own + others(x, own)
    return own, [getattr(x, k) for k in own]


def parts_of(x: Any) -> tuple[str, ...]:
    """The names under which an object has its parts."""
    own = fields_of(type(x)) or ()
    return own + others(x, own)


def others(x: Any, own: tuple[str, ...]) -> tuple[str, ...]:
    """The attributes of a dataclass's object that are none of its fields, such as `__post_init__` makes."""
    if not dataclasses.is_dataclass(x):
        return ()
    return tuple([k for k in getattr(x, "__dict__", ()) if k not in own])


def fields_of(t: type) -> tuple[str, ...] | None:
    """The names under which all objects of a class have their parts, if they are containers of this kind."""
    own: tuple[str, ...] | None = getattr(t, "__tree_fields__", None)
    if own is None and dataclasses.is_dataclass(t):
        return tuple([f.name for f in dataclasses.fields(t)])
    return own


def own_slots(cls: type) -> list[str]:
    """The attributes that a class keeps in slots."""
    every = ((k, m) for c in cls.__mro__ for k, m in vars(c).items())
    return [k for k, m in every if type(m) is types.MemberDescriptorType and k != "__dict__"]


def attributes_of(x: Any) -> dict[str, Any]:
    """What an object of a plain class holds, by name."""
    slots = {k: getattr(x, k) for k in own_slots(type(x)) if hasattr(x, k)}
    return slots | (getattr(x, "__dict__", None) or {})


def flatten(x: Any, leaves: list | None = None) -> tuple[list, Structure]:
    """The leaves from left to right (dicts by sorted key) and the structure. Anything unknown is a leaf."""
    out: list = [] if leaves is None else leaves
    parts = _fields(x)
    if parts is None:
        out.append(x)
        return out, LEAF
    keys, values = parts
    children = tuple(flatten(v, out)[1] for v in values)
    return out, Structure(type(x), keys, children, _like(x))


def _like(x: Any) -> tuple[tuple, Any] | None:
    if type(x) is dict or not isinstance(x, dict):
        return (tuple(x), None) if type(x) is dict else None
    itself = getattr(x, "__dict__", None) is x
    return (tuple(x), x.default_factory if isinstance(x, defaultdict) else ITSELF if itself else None)


def flatten_shared(x: Any) -> tuple[list, Structure]:
    """The same where a list, dict or object that stands in several places is one. Raises `Circular`."""
    out: list = []
    return out, _shared(x, out, [], {})


def _shared(x: Any, out: list, complete: list, known: dict[int, int | None]) -> Structure:
    parts = _fields(x)
    if parts is None:
        out.append(x)
        return LEAF
    can_change = not isinstance(x, tuple)
    if can_change:
        if id(x) in known:
            n = known[id(x)]
            if n is None:
                raise Circular(f"a {type(x).__name__} that holds itself")
            return Structure(Again, (n,), ())
        known[id(x)] = None
    keys, values = parts
    children = tuple([_shared(v, out, complete, known) for v in values])
    if can_change:
        known[id(x)] = len(complete)
        complete.append(x)
    return Structure(type(x), keys, children, _like(x))


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The nest with these leaves."""
    return _build(structure, iter(leaves), [])


def _build(s: Structure, it: Iterator[Any], complete: list) -> Any:
    if s.kind is None:
        return next(it)
    if s.kind is Again:
        return complete[s.keys[0]]
    values = [_build(c, it, complete) for c in s.children]
    if issubclass(s.kind, tuple):
        return s.kind(*values) if hasattr(s.kind, "_fields") else s.kind(values)
    made = _made(s, values)
    complete.append(made)
    return made


def _made(s: Structure, values: list) -> Any:
    """A container that can change, with these parts."""
    if issubclass(s.kind, dict):
        made: Any = s.kind.__new__(s.kind)
        by_key = dict(zip(s.keys, values, strict=True))
        order, factory = s.like or (s.keys, None)
        made.update({k: by_key[k] for k in order})  # a Counter would count pairs
        if factory is ITSELF:
            made.__dict__ = made
        elif factory is not None:
            made.default_factory = factory
        return made
    if issubclass(s.kind, list):
        return s.kind(values)
    return made_of(s.kind, s.keys, values)


def made_of(kind: type, names: Iterable[str], values: Iterable[Any]) -> Any:
    """An object with these parts."""
    made: Any = object.__new__(kind)
    for k, v in zip(names, values, strict=True):
        object.__setattr__(made, k, v)
    return made


def map_structure(f: Callable[..., Any], *trees: Any) -> Any:
    """Apply `f` to corresponding leaves of nests of one structure. Raises ValueError if the structures differ."""
    flat: Sequence[list] = []
    structure = None
    for t in trees:
        leaves, s = flatten(t)
        if structure is not None and s != structure:
            raise ValueError(f"the structures differ: {structure} and {s}")
        structure = s
        flat = [*flat, leaves]
    assert structure is not None
    return unflatten(structure, [f(*x) for x in zip(*flat, strict=True)])
