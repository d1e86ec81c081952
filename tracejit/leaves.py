"""What a trace's key says of each leaf of the arguments, and what stands for a leaf in native code and plain Python."""

from __future__ import annotations

import datetime
import enum
import numbers
import sys
import weakref
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit.errors import DTypeError, locate
from tracejit.ir.graph import Value
from tracejit.ir.types import DType, as_dtype
from tracejit.tensor import Tensor, Variable, convert, leaked

_VALUES = (
    str, bytes, bool, int, float, complex, enum.Enum, DType, type(None), range, slice,
    datetime.date, datetime.timedelta,
)  # fmt: skip
_NUMBERS = ("fractions", "decimal")  # modules that are not imported for this, nor is that of paths


def _is_value(x: Any) -> bool:
    """Whether an object that cannot change is all that it equals."""
    if type(x) is frozenset:
        return all(map(_is_value, x))
    if isinstance(x, _VALUES) or isinstance(x, getattr(sys.modules.get("pathlib"), "PurePath", ())):
        return True
    return isinstance(x, numbers.Number) and type(x).__module__ in _NUMBERS


class Static:
    """A Python object as part of a trace's key: by value where that is safe, else by identity, held weakly."""

    __slots__ = ("get", "weak", "_by_value", "_hash", "_type")

    def __init__(self, value: Any) -> None:
        self._by_value, self._type = _is_value(value), type(value).__name__
        self.weak = not self._by_value and type(value).__weakrefoffset__ != 0
        self.get: Callable[[], Any] = weakref.ref(value) if self.weak else lambda: value
        if isinstance(value, slice):
            self._hash = hash((value.start, value.stop, value.step))
        else:
            self._hash = hash(value) if self._by_value else id(value)

    value = property(lambda self: self.get())

    @property
    def gone(self) -> bool:
        return self.weak and self.get() is None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return False
        a, b = self.value, other.value
        if a is b:
            return self.weak == other.weak and not (self.weak and a is None)
        return self._by_value and type(a) is type(b) and a == b and not (a != a)

    def __repr__(self) -> str:
        return f"<{self._type} object that is gone>" if self.gone else repr(self.value)


class StaticArray(Static):
    """An array of what no tensor holds (strings, bytes, times, records), or an element of one, by value: the trace has
    a copy of its own."""

    __slots__ = ("_key",)

    def __init__(self, value: np.ndarray | np.generic) -> None:
        own: Any = np.array(value, order="C", subok=False)
        own.flags.writeable = False
        held = own if isinstance(value, np.ndarray) else own[()]
        self.get, self.weak, self._type = lambda: held, False, type(value).__name__
        self._key = own.dtype, own.shape, own.tobytes()
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticArray) and self._key == other._key


@dataclass(frozen=True)
class Kind:
    """What a trace's key says of an argument leaf."""

    kind: str
    detail: Any

    def __repr__(self) -> str:
        return f"{self.kind} {self.detail}"


class Default:
    """A constant that is not written in a call: a number or tensor that is a default, or the object of a method."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _no_tensor(x: Any) -> bool:
    """Whether it is an array, or an element of one, of another kind than tensors hold; bfloat16 counts as a record."""
    return x.dtype.kind not in "biufc" and (x.dtype.kind != "V" or x.dtype.names is not None or x.dtype.hasobject)


def kinds_of(
    leaves: list, static: Container[int], told: Callable[[int], str]
) -> tuple[tuple[Kind, ...], list[tuple], list[Any]]:
    """The key's part for each leaf, the shapes of the inputs, and the inputs themselves.

    Raises `DTypeError` for arrays of Python objects; `told` says what the leaf with a number is called.
    """
    kinds, shapes, inputs = [], [], []
    for i, x in enumerate(leaves):
        if type(x) is Tensor or isinstance(x, (np.ndarray, np.generic)):
            a = x._a if type(x) is Tensor else np.asarray(x)
            if type(a) is Value:
                raise leaked(a)
            if _no_tensor(a):
                if a.dtype.hasobject:
                    text = f"{told(i)} is an array of Python objects (dtype {a.dtype})"
                    raise locate(DTypeError(text, remedy="pass a list, or an array of numbers or strings"))
                assert isinstance(x, (np.ndarray, np.generic))
                kinds.append(Kind("static", Static(x) if isinstance(x, _VALUES) else StaticArray(x)))
                continue
            try:
                d = as_dtype(a.dtype)
            except DTypeError as e:
                raise locate(DTypeError(f"{told(i)}: {e.message}", remedy=e.remedy)) from None
            kinds.append(Kind("tensor", (d.name, a.ndim)))
            shapes.append(a.shape)
            inputs.append(x)
        elif type(x) is Default:
            kinds.append(Kind("static", Static(x.value)))
        elif isinstance(x, Variable):
            kinds.append(Kind("variable", Static(x)))
        elif type(x) in (int, float) and i not in static and in_range(x):
            kinds.append(Kind("scalar", type(x).__name__))
            shapes.append(())
            inputs.append(x)
        else:
            kinds.append(Kind("static", Static(x)))
    return tuple(kinds), shapes, inputs


def in_range(x: Any) -> bool:
    """Whether a Python number can be an input; integers that do not fit int32 are constants, checked as eagerly."""
    return type(x) is float or -(2**31) <= x < 2**31


def straightened(args: tuple) -> tuple | None:
    """The arguments as native code takes them: NumPy's numbers as arrays, and arrays copied whose elements do not lie
    one after another. None if there are none of these. A function that writes to arrays has no native plan."""
    out = None
    for i, x in enumerate(args):
        if isinstance(x, np.generic):
            plain = np.asarray(x)
        elif type(x) is np.ndarray and not (x.flags.c_contiguous and x.flags.aligned):
            plain = x.copy()
        else:
            continue
        out = out or list(args)
        out[i] = plain
    return None if out is None else tuple(out)


def as_eager(x: Any) -> Any:
    """An argument leaf as plain Python code takes it, where a trace would take a tensor or a number."""
    if type(x) is Default:
        return x.value
    return convert(x) if isinstance(x, (np.ndarray, np.generic)) and not _no_tensor(x) else x
