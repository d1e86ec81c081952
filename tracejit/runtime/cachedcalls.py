"""Results that `functools.lru_cache` has kept: where they lie, and a guard of one of them."""

from __future__ import annotations

import ctypes
import functools
import gc
from typing import Any, Final

from tracejit.runtime import layout
from tracejit.runtime.guards import KEYS, Check, Guard, Unknown, Words
from tracejit.runtime.held import MISSING

Cached: Final = functools._lru_cache_wrapper


@functools.cache
def _places() -> tuple[int, int, Any] | None:
    """Where a cached function has its dict, and a link in that its result, and what stands before keywords in keys;
    None if that cannot be told."""
    if layout.unsupported():
        return None
    result = object()
    bounded = functools.lru_cache(maxsize=2)(lambda *args, **kwargs: result)
    bounded("a"), bounded("b", c=1)
    dicts = [x for x in gc.get_referents(bounded) if type(x) is dict and "a" in x]
    if len(dicts) != 1:
        return None
    table = dicts[0]
    link = table["a"]
    at = [o for o in range(layout.SIZE, Cached.__basicsize__, 8) if layout.word(id(bounded) + o) == id(table)]
    within = [o for o in range(layout.SIZE, type(link).__basicsize__, 8) if layout.word(id(link) + o) == id(result)]
    keys = [k for k in table if type(k) is tuple and len(k) == 4 and k[0] == "b"]
    return (at[0], within[0], keys[0][1]) if len(at) == len(within) == len(keys) == 1 else None


def known() -> bool:
    """Whether what such a function keeps can be looked at."""
    return _places() is not None


def key_of(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Under which key a cached function keeps the result of a call."""
    places = _places()
    assert places is not None
    key = args
    if kwargs:
        key += (places[2], *[part for pair in kwargs.items() for part in pair])
    if f.cache_parameters()["typed"]:
        key += tuple(map(type, args)) + tuple(map(type, kwargs.values()))
    return key[0] if len(key) == 1 and type(key[0]) in (int, str) else key


def _object(address: int) -> Any:
    return ctypes.cast(address, ctypes.py_object).value


def _table(f: Any) -> dict[Any, Any]:
    places = _places()
    assert places is not None
    return _object(layout.word(id(f) + places[0]))  # type: ignore[no-any-return]


def _is_link(f: Any) -> bool:
    return f.cache_parameters()["maxsize"] is not None


class Kept(Guard):
    """What a cached function has kept under a key, `key[2]`."""

    __slots__ = ()

    def now(self) -> Any:
        f, places = self.owner(), _places()
        found = _table(f).get(self.key[2], MISSING)
        if found is MISSING or places is None or not _is_link(f):
            return found
        return _object(layout.word(id(found) + places[1]))

    def words(self, w: Words) -> None:
        f, key, places = self.owner(), self.key[2], _places()
        table = _table(f)
        if places is None or key not in table or not all(map(_is_simple, key if type(key) is tuple else (key,))):
            raise Unknown
        w.keep.append(table)
        w.entry((Check.NAMESPACE, id(table)), key, table[key])
        if _is_link(f):  # which lives as long as the guard
            w.add(Check.POINTER, id(table[key]) + places[1], w.pointer(self.now()))


def _is_simple(x: Any) -> bool:
    """Whether looking a value up runs no code of the user's."""
    cls: Any = type(x)
    plain = cls.__hash__ is object.__hash__ and cls.__eq__ is object.__eq__
    return cls in KEYS or cls is float or plain or isinstance(x, type)
