"""What native code reads: the words of a plan's table, and the objects that hold tables."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from tracejit.runtime import layout


class Head(IntEnum):
    """The words at the start of a plan's table."""

    ARGS, ARGS_AT, CAPTURES, CAPTURES_AT, ARENA_BYTES, ARENA_SLOTS, ARENA_AT = range(7)
    OUTPUTS, OUTPUTS_AT, RESULT, ITEMS, ITEMS_AT, FINISH, STEPS, STEPS_AT = range(7, 15)
    FRAME_BYTES, FRAME_AT, REFS, REFS_AT, ARENA_WORD = range(15, 20)
    TENSOR, TENSOR_SLOT, UNSHARE, RELEASE_GIL, PARALLEL = range(20, 25)
    POSITIONAL, KEYWORDS, FORM_AT, LEAVES_AT, GUARDS, WORDS = range(25, 31)


class Array(IntEnum):
    """The words of an array argument (ARG is then its kind) or of a captured variable."""

    ARG, SLOT, DESCR, NDIM, DIMS_AT, REF, WRITTEN, ADDRESS, OWNER, WORDS = range(10)


class Scalar(IntEnum):
    """The words of a Python scalar argument: its value goes to the frame word VALUE, its address to SLOT. One in the
    format WITHIN, which is an int32, lies between LOW and HIGH."""

    ARG, SLOT, FORMAT, VALUE, LOW, HIGH = range(6)


class Out(IntEnum):
    DESCR, NDIM, DIMS_AT, SLOT, BYTES, REF, WRAP, WORDS = range(8)


class Item(IntEnum):
    """A position of the result: the object OBJECT, or if that is 0 the one in the frame's reference REF."""

    OBJECT, REF, WORDS = range(3)


class Step(IntEnum):
    KIND, A, B, C, D, WORDS = range(6)


class Arg(IntEnum):
    ARRAY, FLOAT, INT, BOOL, STATIC = range(5)


class Node(IntEnum):
    """How a form goes on, in prefix order: [LEAF, index], [TUPLE or LIST, n] items…, [DICT, n] n keys, items…

    [NAMED, n] class, items… of a named tuple. [FIELDS, n] class, its version, n names, values… of other objects.
    """

    LEAF, TUPLE, LIST, DICT, NAMED, FIELDS = range(6)


class Static(IntEnum):
    """The words of an argument that is compared with OBJECT; BY_VALUE if an equal one of the same type will do."""

    ARG, BY_VALUE, OBJECT = range(3)


class Format(IntEnum):
    F32, F64, I32, I64, BOOL, WITHIN = range(6)


class Result(IntEnum):
    NONE, SINGLE, TUPLE, LIST, CALL = range(5)


class Op(IntEnum):
    KERNEL, PARALLEL, HOST, JUMP, JUMP_IF_FALSE, COPY, SWAP = range(7)


# --- the objects ------------------------------------------------------------------------------------------------
class Table:
    """Holds a table as `bytes` in `_table`. The table refers to places in itself by their distance from its start."""

    __slots__ = ("_table", "__weakref__")
    _table: bytes


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.c_void_p),
    ]


ENTRY_OFFSET = 16  # of the function pointer in a callable, right after the object's head


def _vectorcall_type() -> type:
    """A type whose instances have room for the address of a vectorcall function, 0 at first.

    An instance is called through that function if it is set and the class has the flag HAVE_VECTORCALL, and else
    through `__call__`. Everything else about instances (collection, attributes) is left to Python's subclasses.
    """
    members, version_tag, base_type = 72, 1 << 18, 1 << 10  # Py_tp_members and type flags, all of the stable ABI
    ssize, readonly = 19, 1
    member = (_Member * 2)(_Member(b"__vectorcalloffset__", ssize, ENTRY_OFFSET, readonly, None))
    slots = (_Slot * 2)(_Slot(members, ctypes.addressof(member)))
    name = b"tracejit.runtime.table.Vectorcall"
    spec = _Spec(name, ENTRY_OFFSET + 8, 0, version_tag | base_type, ctypes.addressof(slots))
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)(("PyType_FromSpec", ctypes.pythonapi))
    made: type = make(ctypes.addressof(spec))
    _kept.append((name, member, slots, spec))
    return made


_kept: list[object] = []  # older Pythons keep pointers into what a type was made from
if TYPE_CHECKING:
    Vectorcall = object
else:
    Vectorcall = object if layout.unsupported() else _vectorcall_type()


class Chain(Vectorcall):
    """Holds the plans that a call tries in turn, as a tuple of Tables in `_native_plans`."""

    __slots__ = ("_native_plans", "__dict__", "__weakref__")
    _native_plans: tuple[Any, ...]
