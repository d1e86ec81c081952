"""Containers that are changed by calls that do not look like it: `list.append(x, y)`, `operator.setitem(x, k, y)`, …"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tracejit.autograph import places
from tracejit.autograph.reads import MOST
from tracejit.autograph.recorder import NO_RESULT, TAKING, mutated

_CONTAINERS = (list, dict, set, collections.deque)
_CHANGES = NO_RESULT | TAKING | {"setdefault"}
_ITEM = {"__setitem__": False, "__delitem__": True}


def changing(f: Any) -> Callable[..., Any] | None:
    """What to call in the place of a container's own method that changes it; None for all else."""
    name = getattr(f, "__name__", None)
    if name not in _CHANGES and name not in _ITEM:
        return None
    if isinstance(f, types.MethodDescriptorType | types.WrapperDescriptorType):
        return functools.partial(_unbound, f) if issubclass(f.__objclass__, _CONTAINERS) else None
    if isinstance(f, types.BuiltinFunctionType | types.MethodWrapperType) and isinstance(f.__self__, _CONTAINERS):
        return functools.partial(_change, f.__self__, f)
    return None


def _unbound(f: Any, *args: Any, **kwargs: Any) -> Any:
    if not args or not isinstance(args[0], _CONTAINERS):
        return f(*args, **kwargs)  # which raises what Python does
    return _change(args[0], functools.partial(f, args[0]), *args[1:], ag_name=f.__name__, **kwargs)


def _change(owner: Any, do: Callable[..., Any], *args: Any, ag_name: str = "", **kwargs: Any) -> Any:
    name = ag_name or do.__name__
    if places.listener() is None:
        return do(*args, **kwargs)
    if name in _ITEM:
        if args:
            places.items(owner, args[0], _ITEM[name])
        return do(*args, **kwargs)
    return mutated(places.listener(), owner, name, False, args, kwargs, do)


@contextmanager
def noticed(given: Iterable[Any]) -> Iterator[None]:
    """A call of code that is not converted: containers that it is given may be others after it."""
    before = [(x, _copy(x)) for x in _containers(given)] if places.listener() is not None else []
    yield
    for x, old in before:
        if not _same(x, old):
            new = _copy(x)
            places.refill(x, old)
            places.items(x)  # takes note of what it holds
            places.refill(x, new)


def _containers(given: Iterable[Any]) -> list[Any]:
    """The containers among these, and those that methods among these are of."""
    every = [y for x in given for y in (x.__reduce__()[1] if type(x) in (map, filter) else [x])]
    found = [x.__self__ if isinstance(x, types.BuiltinFunctionType) else x for x in every]
    made = places.listener().made
    return [x for x in found if isinstance(x, _CONTAINERS) and len(x) <= MOST and id(x) not in made]


def _copy(x: Any) -> Any:
    kind: Any = next(k for k in (collections.OrderedDict, *_CONTAINERS) if isinstance(x, k))
    return kind.copy(x)


def _pairs(x: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    return (collections.OrderedDict if isinstance(x, collections.OrderedDict) else dict).items(x)


def _same(x: Any, old: Any) -> bool:
    """Whether a container holds the very objects that it held, in their order."""
    if len(x) != len(old):
        return False
    if isinstance(x, dict):
        return all(a is c and b is d for (a, b), (c, d) in zip(_pairs(x), _pairs(old), strict=True))
    return x == old if isinstance(x, set) else all(a is b for a, b in zip(x, old, strict=True))
