"""Guards of what arrays and uncommon containers hold, of defaults, and of attributes of functions and threads."""

from __future__ import annotations

import array
import collections
import ctypes
import struct
import types
from collections.abc import Collection
from typing import Any, Final

import numpy as np

from tracejit.runtime import layout
from tracejit.runtime.guards import Check, Guard, Unknown, Words, form_of, formed
from tracejit.runtime.held import MISSING, Parts

LARGE: Final = 1 << 20  # bytes from which on numbers are not kept a second time for native code


class Content(Guard):
    """The numbers in an array of NumPy's: of the item at an index, `key[2]`, or all of them if that is None."""

    __slots__ = ()

    def now(self) -> Any:
        x, k = self.owner(), self.key[2]
        return (x.dtype.str, x.shape, x.tobytes() if k is None else x[k].tobytes())

    def change(self) -> str:
        return f"{self.label} changed"

    def words(self, w: Words) -> None:
        x, k = self.owner(), self.key[2]
        if not layout.plain_memory(x) or x.dtype.hasobject or (k is None and x.nbytes > LARGE):
            raise Unknown
        start = layout.word(id(x) + layout.ARRAY_DATA)
        w.add(Check.NUMBER, id(x) + layout.ARRAY_DATA, start)
        if k is None:
            w.memory(start, x.tobytes())
        else:
            index = [i % n for i, n in zip(k if type(k) is tuple else (k,), x.shape, strict=True)]
            w.memory(start + sum(i * s for i, s in zip(index, x.strides, strict=True)), x[k].tobytes())


class Looked(Guard):
    """An attribute that Python is asked for, `key[2]`: one that the user has given a function, or a thread's."""

    __slots__ = ()

    def now(self) -> Any:
        return getattr(self.owner(), self.key[2], MISSING)


class Variable(Guard):
    """A context variable."""

    __slots__ = ()

    def now(self) -> Any:
        return self.owner().get(MISSING)


PARTS: Final = ("__module__", "__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__doc__")


class ModuleAttribute(Guard):
    """What a library's module has under a name, `key[2]`."""

    __slots__ = ()

    def now(self) -> Any:
        return vars(self.owner()).get(self.key[2], MISSING)

    def words(self, w: Words) -> None:
        d, name = vars(self.owner()), self.key[2]
        if self.owner().__name__.partition(".")[0] in _STEADY:
            w.steady(d, name, self.now())
        else:
            w.entry((Check.NAMESPACE, id(d)), name, self.now())


_STEADY: Final = {"numpy", "scipy", "math", "cmath", "operator", "itertools", "functools", "_operator"}


class Asked(Guard):
    """What a function, `key[2]`, gives of an object or of the process: it is asked in each call."""

    __slots__ = ()

    def now(self) -> Any:
        made = self.key[2](self.owner())
        if isinstance(made, dict):
            made = [part for pair in made.items() for part in pair]
        return tuple(made) if isinstance(made, list) else made


def class_items(cls: type) -> list[Any]:
    """All that a class has itself: names and values in turn."""
    return [part for pair in vars(cls).items() for part in pair]


class Defaults(Guard):
    """A function's code, its default arguments or what it is called: `key[2]` is one of `PARTS`."""

    __slots__ = ()

    def now(self) -> Any:
        return getattr(self.owner(), self.key[2])

    def words(self, w: Words) -> None:
        w.add(Check.POINTER, id(self.owner()) + layout.function_offset(self.key[2]), w.pointer(self.now()))


class Kind(Guard):
    """The class of an object."""

    __slots__ = ()

    def now(self) -> Any:
        return type(self.owner())

    def words(self, w: Words) -> None:
        w.add(Check.POINTER, id(self.owner()) + layout.TYPE, w.pointer(self.now()))


class Form(Guard):
    """The element type and shape of an array."""

    __slots__ = ()

    def now(self) -> Any:
        x = self.owner()
        return (x.dtype.str, x.shape)

    def words(self, w: Words) -> None:
        x = self.owner()
        if type(x) is not np.ndarray:
            raise Unknown
        w.add(Check.VERSION, id(x) + layout.ARRAY_NDIM, x.ndim)
        w.add(Check.POINTER, id(x) + layout.ARRAY_DESCR, id(x.dtype))
        w.keep.append(x.dtype)
        if x.ndim:
            start = layout.word(id(x) + layout.ARRAY_DIMS)
            w.add(Check.NUMBER, id(x) + layout.ARRAY_DIMS, start)
            w.memory(start, struct.pack(f"<{x.ndim}q", *x.shape))


SNAPSHOTS: Final = (
    list, dict, set, collections.deque, bytearray, array.array, types.MappingProxyType, memoryview, ctypes.Array,
    np.void,
)  # fmt: skip


class Forms(Guard):
    """The dtypes and shapes of the tensors in a container at some indices or keys, `key[2]`."""

    __slots__ = ()

    def now(self) -> Any:
        x, there = self.owner(), (lambda k: k in x) if isinstance(self.owner(), dict) else (lambda k: k < len(x))
        return tuple([form_of(x[k]) if there(k) else MISSING for k in self.key[2]])


class Snapshot(Guard):
    """All that a container holds which is none of `CONTAINERS`: of a class made from them, or of another kind. Of
    tensors that are `inputs`, at these indices, only the form."""

    __slots__ = ("inputs",)

    def __init__(self, key: tuple[Any, ...], label: str, owner: Any, inputs: Collection[Any] = ()) -> None:
        self.inputs = inputs
        super().__init__(key, label, owner, Parts(formed(owner, self.items(owner), inputs), list, "its items"))

    @staticmethod
    def items(x: Any) -> list[Any]:
        """What it holds, whatever its class says of that; keys and values in turn."""
        if isinstance(x, bytearray | array.array | memoryview | ctypes.Array | ctypes.Structure):
            return [bytes(x)]
        if isinstance(x, np.void):
            return [x.tobytes()]
        if isinstance(x, dict):
            return [part for pair in dict.items(x) for part in pair]
        if isinstance(x, types.MappingProxyType):
            return [part for pair in x.items() for part in pair]
        kind: Any = next(k for k in SNAPSHOTS if isinstance(x, k))
        return list(kind.__iter__(x))

    def now(self) -> Any:
        x = self.owner()
        return formed(x, self.items(x), self.inputs)

    def change(self) -> str:
        return f"{self.label} changed"
