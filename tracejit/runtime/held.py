"""Values as they were: plain ones are compared by type and value, others by identity, and held weakly if possible."""

from __future__ import annotations

import math
import struct
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

_PLAIN: Final = frozenset((int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented)))


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = _Missing()


def is_plain(x: Any) -> bool:
    if issubclass(cls := type(x), np.generic):  # and no weak proxy is asked, which may stand for nothing
        return not issubclass(cls, np.void)  # which may show an array's memory
    return cls in _PLAIN or (cls is tuple and all(map(is_plain, x)))


def _equal(a: Any, b: Any) -> bool:
    """Whether two plain values can take each other's place."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if type(a) is complex:
        return _equal(a.real, b.real) and _equal(a.imag, b.imag)
    if type(a) is tuple:
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.generic):
        return bool(a.dtype == b.dtype) and a.tobytes() == b.tobytes()
    return bool(a == b)


def shown(x: Any) -> str:
    if x is MISSING or is_plain(x):
        text = repr(x)
        return text if len(text) <= 40 else text[:37] + "..."
    cls = type(x)
    if issubclass(cls, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return str(x.__qualname__)
    if issubclass(cls, types.ModuleType):
        return str(x.__name__)
    kind = type(x).__name__
    numbers = x if issubclass(cls, np.ndarray) else _held_in(x)
    if isinstance(numbers, np.ndarray):
        kind = f"{'array' if numbers is x else kind} {numbers.dtype}{list(numbers.shape)}{_values(numbers)}"
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _held_in(x: Any) -> Any:
    """The array in a tensor."""
    slot = next((k.__dict__["_a"] for k in type(x).__mro__ if "_a" in k.__dict__), None)
    return slot.__get__(x) if isinstance(slot, types.MemberDescriptorType) else None


def _values(x: np.ndarray) -> str:
    """What a small array holds."""
    if x.size > 8 or x.dtype.hasobject:
        return ""
    text = " ".join(np.array2string(x, precision=6, separator=", ").split())
    return f" {text}" if len(text) <= 60 else ""


def reference(x: Any) -> Callable[[], Any]:
    """A function that gives the object, or nothing when it is gone; not held alive where Python can tell its end."""
    if not is_plain(x) and x is not MISSING:
        try:
            return weakref.ref(x)
        except TypeError:
            pass
    return lambda: x


class Held:
    """A value as it was: plain ones are compared by type and value, others are that very object."""

    __slots__ = ("get", "plain", "text")

    def __init__(self, x: Any) -> None:
        self.plain = is_plain(x)
        self.get = reference(x)
        self.text = shown(x)

    def is_still(self, now: Any) -> bool:
        was = self.get()
        if was is now:
            return was is not None or self.plain
        return self.plain and _equal(was, now)


class Parts(Held):
    """A tuple with objects in it, or what a container held: item by item."""

    __slots__ = ("items", "kind")

    def __init__(self, items: Sequence[Any], kind: type, text: str) -> None:
        self.items = [Held(x) for x in items]
        self.kind: Any = kind
        self.text, self.plain = text, False
        self.get = lambda: None

    def is_still(self, now: Any) -> bool:
        if type(now) is not self.kind or len(now) != len(self.items):
            return False
        return all(h.is_still(x) for h, x in zip(self.items, now, strict=True))
