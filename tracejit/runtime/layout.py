"""Where CPython and NumPy keep what native code reads and writes: field offsets, each checked on probe objects."""

from __future__ import annotations

import abc
import ctypes
import functools
import gc
import importlib
import inspect
import sys
import types
from typing import Any, Final

import numpy as np

# PyObject
REFCOUNT: Final = 0
TYPE: Final = 8
SIZE: Final = 16  # of tuples, lists and dicts
# PyTypeObject
TYPE_NUMBERS: Final = 96  # the pointer to its PyNumberMethods
TYPE_SEQUENCE: Final = 104  # and to its PySequenceMethods, the first of which is the length
TYPE_MAPPING: Final = 112  # and to its PyMappingMethods, the second of which takes items
TYPE_FLAGS: Final = 168
CHANGEABLE: Final = 1 << 9  # the flag of classes that are not static ones of C's
HAVE_VECTORCALL: Final = 1 << 11
TYPE_VERSION: Final = 384  # 32 bits; another number, or 0, after the class or one of its bases has changed
# values inside objects
FLOAT_VALUE: Final = 16
CELL_CONTENTS: Final = 16
SLICE_START: Final = 16
SLICE_STOP: Final = 24
SLICE_STEP: Final = 32
TUPLE_ITEMS: Final = tuple.__basicsize__
LIST_ITEMS: Final = 24  # the pointer to them
SCALAR_VALUE: Final = 16  # of NumPy's own numbers
BYTES_DATA: Final = bytes.__basicsize__ - 1  # the base size counts the terminating zero
# PyArrayObject
ARRAY_DATA: Final = 16
ARRAY_NDIM: Final = 24
ARRAY_DIMS: Final = 32
ARRAY_STRIDES: Final = 40
ARRAY_DESCR: Final = 56
ARRAY_FLAGS: Final = 64
ARRAY_HANDLER: Final = 88
C_CONTIGUOUS: Final = 0x1
OWNDATA: Final = 0x4
ALIGNED: Final = 0x100
WRITEABLE: Final = 0x400
# PyArray_Descr
DESCR_NUMBER: Final = 28
# positions in NumPy's table of C functions; part of its stable ABI
API_ARRAY_TYPE: Final = 2
API_NEW_FROM_DESCR: Final = 94
API_SET_HANDLER: Final = 304
API_GET_HANDLER: Final = 305
API: Final = {
    "PyArray_CopyInto": 50, "PyArray_Scalar": 60, "PyArray_FromScalar": 61, "PyArray_ToList": 86,
    "PyArray_NewFromDescr": API_NEW_FROM_DESCR, "PyArray_Transpose": 123, "PyArray_Newshape": 135,
    "PyArray_SetBaseObject": 282,
}  # fmt: skip

# From 3.12 on some objects are immortal, and their reference counts must not be written.
IMMORTAL: Final = sys.version_info >= (3, 12)


def word(address: int) -> int:
    """The eight bytes at an address."""
    return ctypes.c_int64.from_address(address).value


def half(address: int) -> int:
    """The four bytes at an address."""
    return ctypes.c_int32.from_address(address).value


def numpy_api() -> ctypes.Array[ctypes.c_void_p]:
    """NumPy's table of C functions and types."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    return (ctypes.c_void_p * 400).from_address(get(("PyCapsule_GetPointer", ctypes.pythonapi))(_api_capsule(), None))


def _api_capsule() -> object:
    return importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API


def type_flags(cls: type) -> int:
    """The lower half of a class's flags, which is the same on every platform."""
    return int(cls.__flags__) & 0xFFFFFFFF


class _Probe:
    __slots__ = ("a", "b")


class _Base: ...


class _OtherBase: ...


def slot_offset(cls: type, name: str) -> int:
    """The byte offset of a `__slots__` member in instances of `cls`.

    Raises `TypeError` when `name` is no slot, or when its place in an instance cannot be told.
    """
    member = inspect.getattr_static(cls, name)
    if not isinstance(member, types.MemberDescriptorType):
        raise TypeError(f"{cls.__name__}.{name} is not a member of __slots__")
    probe: object = object.__new__(cls)
    found = set(range(SIZE, cls.__basicsize__, 8))
    for mark in (object(), object()):
        member.__set__(probe, mark)
        found = {o for o in found if word(id(probe) + o) == id(mark)}
    member.__delete__(probe)
    found = {o for o in found if word(id(probe) + o) == 0}
    if len(found) != 1:
        raise TypeError(f"the slot {cls.__name__}.{name} was not found in memory")
    return found.pop()


def _one() -> None: ...


def _other() -> None: ...


@functools.lru_cache(8)
def function_offset(name: str) -> int:
    """Where a function has its `__code__`, `__defaults__`, … Raises `TypeError` when that cannot be told."""

    def probe() -> None: ...

    found = set(range(SIZE, types.FunctionType.__basicsize__, 8))
    values: dict[str, tuple[Any, Any]] = {
        "__code__": (_one.__code__, _other.__code__), "__defaults__": ((None,), (None, None)),
        "__kwdefaults__": ({"a": 1}, {"a": 2}),
    }  # fmt: skip
    for value in values.get(name, ("one text", "another text")):
        setattr(probe, name, value)
        found = {o for o in found if word(id(probe) + o) == id(getattr(probe, name))}
    if len(found) != 1:
        raise TypeError(f"{name} was not found in memory")
    return found.pop()


def _objects_match() -> bool:
    items = [object(), object()]
    pair, number, text = tuple(items), 1.5, b"12345678"
    table = {"a": 1, "b": 2}
    cell, part = types.CellType(items), slice(items[0], items[1], True)
    before = half(id(items))
    refs = [items] * 5
    counted = half(id(items)) - before == 5 and word(id(items)) >> 32 == 0
    del refs
    return (
        counted
        and word(id(items) + TYPE) == id(list)
        and word(id(pair) + SIZE) == 2
        and [word(id(pair) + TUPLE_ITEMS + 8 * i) for i in (0, 1)] == [id(x) for x in items]
        and [word(word(id(items) + LIST_ITEMS) + 8 * i) for i in (0, 1)] == [id(x) for x in items]
        and word(id(table) + SIZE) == 2
        and word(id(cell) + CELL_CONTENTS) == id(items)
        and all(word(id(part) + at) == id(x) for at, x in zip((SLICE_START, SLICE_STOP, SLICE_STEP), [*items, True]))
        and ctypes.c_double.from_address(id(number) + FLOAT_VALUE).value == number
        and ctypes.string_at(id(text) + BYTES_DATA, 8) == text
        and slot_offset(_Probe, "b") == slot_offset(_Probe, "a") + 8
        and all(half(id(t) + TYPE_FLAGS) & 0xFFFFFFFF == type_flags(t) for t in (_Probe, list, type))
    )


def plain_memory(a: np.ndarray) -> bool:
    """Whether the numbers of an array lie one after the other, in the machine's byte order."""
    return type(a) is np.ndarray and a.flags.c_contiguous and a.dtype.isnative


def _arrays_match() -> bool:
    api = numpy_api()
    if api[API_ARRAY_TYPE] != id(np.ndarray):
        return False
    whole, short = np.int64(-(2**40)), np.int32(-5)
    if word(id(whole) + SCALAR_VALUE) != int(whole) or half(id(short) + SCALAR_VALUE) != int(short):
        return False
    capsule = type(_api_capsule())
    for a in (np.zeros((3, 5), np.float32), np.zeros((7, 2), np.int64)[:, :1], np.zeros(())):
        at = id(a)
        if (
            word(at + ARRAY_DATA) != a.ctypes.data
            or half(at + ARRAY_NDIM) != a.ndim
            or tuple(word(word(at + ARRAY_DIMS) + 8 * i) for i in range(a.ndim)) != a.shape
            or tuple(word(word(at + ARRAY_STRIDES) + 8 * i) for i in range(a.ndim)) != a.strides
            or word(at + ARRAY_DESCR) != id(a.dtype)
            or half(at + ARRAY_FLAGS) != a.flags.num
            or (a.base is None and word(word(at + ARRAY_HANDLER) + TYPE) != id(capsule))
        ):
            return False
    return True


def version(cls: type) -> int:
    """The number that stands for a class as it is now; 0 if there is none."""
    getattr(cls, "__doc__", None)  # a class gets one when it is asked for something
    return half(id(cls) + TYPE_VERSION) & 0xFFFFFFFF if _versions_match() else 0


@functools.cache
def order_offset() -> int:
    """Where a class has its `__mro__`; 0 if that cannot be told."""
    at = [o for o in range(SIZE, object.__sizeof__(_Probe), 8) if word(id(_Probe) + o) == id(_Probe.__mro__)]
    return 0 if unsupported() or len(at) != 1 else at[0]


@functools.cache
def class_offset(name: str) -> int:
    """Where a class has its `__mro__`, `__bases__`, `__name__` or `__qualname__`; 0 if that cannot be told."""
    if name == "__mro__":
        return order_offset()
    probe = type("_Probe", (_Base,), {})
    found = set(range(SIZE, object.__sizeof__(probe), 8))
    for value in ((_OtherBase,), (_Base, _OtherBase)) if name == "__bases__" else ("one name", "another name"):
        setattr(probe, name, value)
        found = {o for o in found if word(id(probe) + o) == id(getattr(probe, name))}
    return 0 if unsupported() or len(found) != 1 else found.pop()


@functools.cache
def dict_version() -> int:
    """Where a dict has a number that is another after each change; 0 if that cannot be told. None has from 3.14 on."""
    probe, seen = {"a": 1}, list[int]()
    if unsupported() or sys.version_info >= (3, 14):
        return 0
    for key, value in (("a", 2), ("b", 3), ("a", 4)):
        probe[key] = value
        seen.append(word(id(probe) + SIZE + 8))
        if probe[key] != value or word(id(probe) + SIZE + 8) != seen[-1]:
            return 0
    return SIZE + 8 if len(set(seen)) == len(seen) else 0


@functools.cache
def abc_token() -> int:
    """The address of what `abc.get_cache_token` gives; 0 if that cannot be told."""
    if unsupported():
        return 0
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyModule_GetState", ctypes.pythonapi))
    at = (get(sys.modules["_abc"]) or 0) + 8
    for _ in range(2):
        if at == 8 or word(at) != abc.get_cache_token():
            return 0
        abc.ABCMeta("_Probe", (), {}).register(type("_Probe", (), {}))
    return at


def class_dict(cls: type) -> int:
    """The address of the dict that a class keeps its attributes in, as long as it lives."""
    (found,) = gc.get_referents(cls.__dict__)
    return id(found)


@functools.cache
def _versions_match() -> bool:
    """Whether classes have versions where they are expected, which change with the classes."""
    if unsupported():
        return False
    base = type("Base", (), {"x": 1})
    derived = type("Derived", (base,), {})
    seen: list[int] = []
    for cls, name in ((derived, "x"), (derived, "y"), (base, "x")):
        setattr(cls, name, len(seen))
        stale = half(id(derived) + TYPE_VERSION)
        getattr(derived, name)
        now = half(id(derived) + TYPE_VERSION)
        if now == 0 or now in seen or stale in seen:
            return False
        seen.append(now)
    return True


@functools.cache
def unsupported() -> str | None:
    """Why native code cannot read this interpreter's objects, or None when it can."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 11):
        return f"the interpreter is {sys.implementation.name} {sys.version.split()[0]}"
    if ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
        return "the machine is not a 64-bit little-endian one"
    if "free-threading" in sys.version:
        return "the interpreter is built without the GIL"
    try:
        known = _objects_match() and _arrays_match()
    except (ImportError, AttributeError, TypeError) as e:
        return f"the objects' layout could not be checked: {e}"
    return None if known else "the objects' layout is not the known one"
