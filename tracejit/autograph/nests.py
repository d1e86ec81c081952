"""Containers that hold containers: which two hold the same ones, and what is made in the place of two."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any

from tracejit.autograph import chosen, growing, places
from tracejit.context import context


def in_place_of(new: Any, x: Any, y: Any) -> Any:
    """Containers that stand for one of two others, each: a change of them could not be made to the right one."""
    if dataclasses.is_dataclass(new) and x is not y and type(x) is type(y) is type(new):
        places.stands_for(new, x, y)
        for k, v in getattr(new, "__dict__", {}).items():
            in_place_of(v, getattr(x, k, v), getattr(y, k, v))
    elif isinstance(new, (list, dict, tuple)) and x is not y:
        if not isinstance(new, tuple):
            places.stands_for(new, x, y)
        if type(x) is type(y) is type(new) and len(x) == len(y) == len(new):
            for k in new if isinstance(new, dict) else range(len(new)):
                in_place_of(new[k], x[k], y[k])
    return new


def keys_of(x: Any) -> Sequence[Any]:
    return list(x) if type(x) is dict else range(len(x))


def shares(x: Any, y: Any) -> bool:
    """Whether two containers hold the same containers, some at least, at the same places."""
    if not _alike(x, y):
        return False
    pairs = [(x[k], y[k]) for k in keys_of(x)]
    return any((p is q and isinstance(p, (list, dict, set, deque))) or shares(p, q) for p, q in pairs)


def _alike(x: Any, y: Any) -> bool:
    if type(x) is not type(y) or not (isinstance(x, tuple) or type(x) in (list, dict)):
        return False
    return keys_of(x) == keys_of(y)


def holds_lists(x: Any, y: Any) -> bool:
    """Whether two containers hold lists or dicts at the same places, which may be the same ones."""
    if not _alike(x, y):
        return False
    pairs = [(x[k], y[k]) for k in keys_of(x)]
    return any((type(p) is type(q) and type(p) in (list, dict)) or holds_lists(p, q) for p, q in pairs)


def like_of(x: Any, items: list[Any]) -> Any:
    """A container like another one, of other items."""
    if type(x) is dict:
        return dict(zip(x, items, strict=True))
    return items if type(x) is list else type(x)(*items) if hasattr(type(x), "_fields") else type(x)(items)


def is_new(x: Any) -> bool:
    """Whether a container was made, also in the place of others, in a branch or loop within the one traced now."""
    return places.is_new(x) or getattr(places.listener(), "depths", {}).get(id(x), 0) > places.depth()


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
