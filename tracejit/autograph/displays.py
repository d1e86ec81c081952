"""What stands in displays, calls and comprehensions of converted code: mappings behind `**`, keys, odd targets."""

from __future__ import annotations

import types
from typing import Any

from tracejit.autograph import calls, places
from tracejit.autograph.calls import called, callee, load, own_method
from tracejit.autograph.owners import is_users
from tracejit.autograph.protocols import goes_own_way, iterated
from tracejit.autograph.reads import whole
from tracejit.autograph.source import is_library
from tracejit.errors import ConversionError, locate


def keyed(x: Any) -> Any:
    """`x`, which stands behind `**`, or of which a dict is made."""
    if isinstance(x, dict) or own_method(x, "__getitem__") is None or own_method(x, "keys") is None:
        return whole(x)
    return {k: calls.keep["item"](x, k) for k in iterated(callee(load(x, "keys"))())}  # type: ignore[call-arg]


calls.keep["keyed"] = keyed


def position(x: Any) -> Any:
    """A position in a sequence, as an object of the user's gives it."""
    f = own_method(x, "__index__") if is_users(type(x)) and not isinstance(x, int) else None
    return x if f is None else callee(f)(x)


def positions(key: Any) -> Any:
    """The same of the parts of a slice."""
    return slice(position(key.start), position(key.stop), position(key.step)) if type(key) is slice else key


def unpacked(x: Any) -> Any:
    """`x`, of which Python takes every item: those of the user's iterators are converted."""
    return iterated(x) if goes_own_way(x) else x


def not_told(x: Any) -> Any:
    """`x`, which a comprehension goes through that assigns to attributes or items."""
    if places.listener() is not None:
        raise locate(ConversionError("a comprehension assigns to attributes or items", remedy="write it as a loop"))
    return x


def decorating(f: Any) -> Any:
    """What is called in the place of a decorator: converted if it is a function of the user's."""
    g = getattr(f, "__func__", f)
    return called(f) if type(g) is types.FunctionType and not is_library(g) else f
