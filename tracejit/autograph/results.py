"""What a traced function returns: lists of unknown lengths, and containers that are its caller's, as leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.autograph import growing
from tracejit.autograph.lasts import as_one
from tracejit.autograph.nests import is_record
from tracejit.autograph.values import Either, Optional
from tracejit.errors import ConversionError, Location, locate
from tracejit.ops import host
from tracejit.tree import fields_of, others


class Own:
    """A container that a function returns and that others hold too, its caller perhaps."""

    __slots__ = ("container",)

    def __init__(self, x: Any) -> None:
        self.container = x


class Result:
    """A list or dict that a function returns, and of which each call finds out how long it is."""

    __slots__ = ("container",)

    def __init__(self, x: Any) -> None:
        self.container = x


def kept_key(k: Any, loc: Location | None = None) -> Any:
    """The key of a dict that outlives the trace. Raises `ConversionError` for a tensor of the trace."""
    if host.is_traced(k) or (type(k) is tuple and any(map(host.is_traced, k))):
        error = ConversionError("a tensor is the key of a dict that is kept", remedy="use a number or a string as key")
        error.where = [] if loc is None else [loc]
        raise error if error.where else locate(error)
    return k


def as_leaves(
    x: Any, held: Callable[[Any], bool] = lambda x: False, known: dict[int, tuple[Any, Any]] | None = None
) -> Any:
    """What a function returns, with such lists as leaves, and with containers that others hold."""
    known = {} if known is None else known  # what stands in several places is one
    if id(x) not in known:
        known[id(x)] = x, _result(x, held, known)
    return known[id(x)][1]


def _result(x: Any, held: Callable[[Any], bool], known: dict[int, tuple[Any, Any]]) -> Any:
    if (isinstance(x, (list, dict)) or is_record(x)) and held(x):
        return Own(x)
    if type(x) is Either:
        return as_one(x)
    if growing.is_grown(x) and not growing.settled(x):
        return Result(growing.one_by_one(x))
    if growing.is_partial(x):
        return Result({k: as_leaves(y) for k, y in x.items()})
    if type(x) is Optional:
        return Optional(x.name, x.flag, as_leaves(x.value, held, known), x.none, x.loc)
    if type(x) is dict:
        made = {kept_key(k): as_leaves(y, held, known) for k, y in x.items()}
        return made if any(y is not x[k] for k, y in made.items()) else x
    if type(x) is list or isinstance(x, tuple):
        items = [as_leaves(y, held, known) for y in x]
        if all(y is z for y, z in zip(x, items, strict=True)):
            return x
        return type(x)(*items) if hasattr(type(x), "_fields") else type(x)(items)
    if (fields := fields_of(type(x))) is not None:
        parts = {k: as_leaves(getattr(x, k), held, known) for k in (*fields, *others(x, fields))}
        if any(y is not getattr(x, k) for k, y in parts.items()):
            x = object.__new__(type(x))
            for k, y in parts.items():
                object.__setattr__(x, k, y)
    return x
