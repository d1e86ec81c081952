"""What stands in displays, calls and comprehensions of converted code: mappings behind `**`, keys, odd targets."""

from __future__ import annotations

from typing import Any

from tracejit.autograph import backcalls, calls, places, specials
from tracejit.autograph.calls import callee, load, own_method
from tracejit.autograph.owners import is_users
from tracejit.autograph.protocols import iterated
from tracejit.autograph.reads import whole
from tracejit.errors import ConversionError, locate


def keyed(x: Any) -> Any:
    """`x`, which stands behind `**`."""
    if isinstance(x, dict) or own_method(x, "__getitem__") is None or own_method(x, "keys") is None:
        return whole(x)
    return {k: calls.keep["item"](x, k) for k in iterated(callee(load(x, "keys"))())}  # type: ignore[call-arg]


calls.keep["keyed"] = keyed


def key(x: Any) -> Any:
    """`x`, about to be a key: whether Python finds it changes something is tried before."""
    found = specials.among([x], specials.KEY) if is_users(type(x)) or type(x) is tuple else []
    if found:
        backcalls.calling_back(found, lambda: [m(*[m.__self__] * (m.__name__ == "__eq__")) for m in found])
    return x


def not_told(x: Any) -> Any:
    """`x`, which a comprehension goes through that assigns to attributes or items."""
    if places.listener() is not None:
        raise locate(ConversionError("a comprehension assigns to attributes or items", remedy="write it as a loop"))
    return x
