"""Containers that hold containers: which two hold the same ones, and what is made in the place of two."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from tracejit.autograph import chosen, growing, places
from tracejit.context import context
from tracejit.tree import fields_of, made_of, parts_of


def in_place_of(new: Any, x: Any, y: Any) -> Any:
    """Containers that stand for one of two others, each: a change of them could not be made to the right one."""
    if x is not y and (isinstance(new, (list, dict, tuple)) or is_record(new)):
        alike = type(x) is type(y) is type(new)
        if not isinstance(new, tuple) and (alike or isinstance(new, (list, dict))):
            stands_for(new, x, y)
        if alike and len(keys_of(x)) == len(keys_of(y)) == len(keys_of(new)):
            for k in keys_of(new):
                in_place_of(item(new, k), item(x, k), item(y, k))
    return new


def stands_for(new: Any, *others: Any) -> None:
    """A container stands in the place of others; an object does as one that the function has made."""
    if is_record(new):
        places.born(new)
    places.stands_for(new, *others)


def is_record(x: Any) -> bool:
    """Whether an object is one of a dataclass, which holds its parts as attributes."""
    kind = type(x)
    return hasattr(kind, "__dataclass_fields__") and not isinstance(x, (tuple, list, dict)) and fields_of(kind) != ()


def keys_of(x: Any) -> Sequence[Any]:
    if isinstance(x, dict):
        return list(x)
    return range(len(x)) if isinstance(x, (list, tuple)) else parts_of(x)


def item(x: Any, k: Any) -> Any:
    return x[k] if isinstance(x, (list, dict, tuple)) else getattr(x, k)


def shares(x: Any, y: Any) -> bool:
    """Whether two containers hold the same containers, some at least, at the same places."""
    if not _alike(x, y):
        return False
    pairs = [(item(x, k), item(y, k)) for k in keys_of(x)]
    return any((p is q and _has_own(p, list, dict, set, deque)) or shares(p, q) for p, q in pairs)


def _has_own(x: Any, *kinds: type) -> bool:
    """Whether it counts which container this is."""
    return isinstance(x, kinds) or is_record(x)


def _alike(x: Any, y: Any) -> bool:
    if type(x) is not type(y) or not (isinstance(x, tuple) or type(x) in (list, dict) or is_record(x)):
        return False
    return keys_of(x) == keys_of(y)


def holds_lists(x: Any, y: Any) -> bool:
    """Whether two containers hold lists, dicts or records at the same places, which may be the same ones."""
    if not _alike(x, y):
        return False
    pairs = [(item(x, k), item(y, k)) for k in keys_of(x)]
    return any((type(p) is type(q) and is_mutable(p)) or holds_lists(p, q) for p, q in pairs)


def is_mutable(x: Any) -> bool:
    """Whether a value is a container that branches tell from others that are equal."""
    return type(x) in (list, dict) or is_record(x)


def like_of(x: Any, items: list[Any]) -> Any:
    """A container like another one, of other items."""
    if type(x) is dict:
        return dict(zip(x, items, strict=True))
    if is_record(x):
        return made_of(type(x), keys_of(x), items)
    return items if type(x) is list else type(x)(*items) if hasattr(type(x), "_fields") else type(x)(items)


def is_new(x: Any) -> bool:
    """Whether a container was made, also in the place of others, in a branch or loop within the one traced now."""
    return places.age(x) > places.depth()


class Whole:
    """A container that was there before a loop, in the place of what it holds: the very one is meant."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of


class Wholes:
    """The containers in a value that were there before a loop, which stay the objects that they are."""

    def __init__(self, x: Any, inner: bool = False) -> None:
        """`inner`: of those that the value holds, and not the value itself."""
        self._found: dict[int, Whole] = {}
        self._find(x, inner)

    def _find(self, x: Any, inner: bool = False) -> None:
        if type(x) in (list, dict) and not inner and not growing.has_grown(x):
            if not is_new(x) and not chosen.holds_inner(x, context.trace):
                self._found[id(x)] = Whole(x)
                return
        if type(x) in (list, dict, tuple):
            for k in keys_of(x):
                self._find(x[k])

    def __bool__(self) -> bool:
        return bool(self._found)

    def named(self, x: Any) -> Any:
        """The value with them as one leaf each."""
        if id(x) in self._found:
            return self._found[id(x)]
        if not self or type(x) not in (list, dict, tuple) or growing.has_grown(x):
            return x
        return like_of(x, [self.named(x[k]) for k in keys_of(x)])

    def back(self, x: Any) -> Any:
        """The value with them as they are."""
        if type(x) is Whole:
            return x.of
        if not self or type(x) not in (list, dict, tuple) or growing.has_grown(x):
            return x
        return like_of(x, [self.back(x[k]) for k in keys_of(x)])
