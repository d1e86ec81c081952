"""Memory for tensors from Python's side: NumPy arrays in the allocator's blocks, what is in use, and giving it back."""

from __future__ import annotations

import contextvars
import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.errors import ArgumentError
from tracejit.runtime import layout
from tracejit.runtime.cfunctions import address, keep
from tracejit.runtime.heap import AT, EXPORTS, SLOTS, Heap
from tracejit.runtime.modules import Recipe, load
from tracejit.runtime.threads import cgroup_folders, target

if TYPE_CHECKING:
    import numpy.typing as npt

    from tracejit.lower.engine import Library

_ALIGNMENT = 64

_lock = threading.RLock()
_native: Library | None = None
_limit: int | None = None


@dataclass(frozen=True)
class MemoryStats:
    """The allocator's state: what is in use, what is kept for reuse, and how often keeping helped."""

    live_bytes: int
    live_blocks: int
    cached_bytes: int
    cached_blocks: int
    limit: int
    allocations: int
    reused: int


def module_text(system: str, machine: str) -> str:
    """The allocator's LLVM module for "linux", "posix" or "none" on a processor."""
    return Heap(system, machine).text()


def recipe() -> Recipe:
    """The allocator for this machine."""
    return Recipe(module_text, target(), EXPORTS)


def _default_limit() -> int:
    """An eighth of the memory that this process may use, at most 4 GiB."""
    total = 8 << 30
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in cgroup_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                with open(os.path.join(folder, name)) as file:
                    total = min(total, int(file.read()))
            except (OSError, ValueError):
                continue  # no such file, or no limit ("max")
    return min(total // 8, 4 << 30)


def _c_library() -> dict[str, int]:
    """C functions by address where a process does not offer them by name."""
    if sys.platform != "win32":
        return {}
    names = ("malloc", "free", "memcpy", "memset", "abort")
    return {n: ctypes.cast(getattr(ctypes.cdll.msvcrt, n), ctypes.c_void_p).value or 0 for n in names}


def _library() -> Library:
    global _native
    with _lock:
        if _native is None:
            native = load(recipe(), _c_library())
            # Arrays are freed by this code up to the very end of the process: it stays loaded.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
            limit = _default_limit() if _limit is None else _limit
            ctypes.c_int64.from_address(native["tj_heap"] + AT["limit"]).value = limit
            _native = native
        return _native


def address_alloc() -> int:
    """The address of `ptr tj_alloc(i64 bytes)`: a block at a multiple of 64 bytes, or null."""
    return _library()["tj_alloc"]


def address_free() -> int:
    """The address of `void tj_free(ptr block)`; null is allowed."""
    return _library()["tj_free"]


def stats() -> MemoryStats:
    heap = _library()["tj_heap"]
    values = {name: ctypes.c_int64.from_address(heap + at).value for name, at in AT.items() if name != "fresh"}
    return MemoryStats(**values)


def trim(keep: int = 0) -> int:
    """Give memory that is kept for reuse back to the system, all but `keep` bytes; returns how much went back."""
    if keep < 0:
        raise ArgumentError(f"trim: the bytes to keep cannot be negative, got {keep}")
    before = stats().cached_bytes
    _library().function("tj_trim", None, ctypes.c_int64)(keep)
    return max(0, before - stats().cached_bytes)


def set_limit(limit: int) -> None:
    """Keep at most `limit` bytes of freed blocks for reuse."""
    global _limit
    if limit < 0:
        raise ArgumentError(f"the limit cannot be negative, got {limit}")
    with _lock:
        _limit = limit
        heap = _library()["tj_heap"]
        ctypes.c_int64.from_address(heap + AT["limit"]).value = limit
        trim(min(limit, stats().cached_bytes))


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


_CAPSULE_NAME = b"mem_handler"


def _capsule_of(handler: _Handler, *more: object) -> object:
    """A handler as NumPy takes it. Arrays keep a pointer to it: it is never freed, nor what its functions need."""
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = make(("PyCapsule_New", ctypes.pythonapi))(ctypes.addressof(handler), _CAPSULE_NAME, None)
    for kept in (handler, capsule, *more):
        keep(kept)
    return capsule


@functools.cache
def handler_capsule() -> object:
    """The capsule with NumPy's memory handler for arrays in our blocks; it is never freed."""
    native = _library()
    functions = (native[f"tj_handler_{n}"] for n in ("malloc", "calloc", "realloc", "free"))
    return _capsule_of(_Handler(b"tracejit", 1, None, *functions))


_MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


class FirstHandler:
    """A memory handler that needs no native code of ours, for arrays that are made before that is loaded.

    The C library's `memalign(64, size)` is what it calls for memory: a handler's functions get its context first, and
    this one's is 64. What the library gives is NumPy's to free. Raises `OSError` where the C library has no such
    function, or NumPy frees in another way.
    """

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError("known on Linux only")
        c = ctypes.CDLL(None)
        in_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
        current = ctypes.PYFUNCTYPE(ctypes.py_object)(layout.numpy_api()[layout.API_GET_HANDLER] or 0)
        get = in_capsule(("PyCapsule_GetPointer", ctypes.pythonapi))
        default = _Handler.from_address(get(contextvars.Context().run(current), _CAPSULE_NAME))
        if not hasattr(c, "memalign") or (default.name, default.version) != (b"default_allocator", 1):
            raise OSError("no function for aligned memory")
        self._memalign = _MALLOC(("memalign", c))
        self._asked: Callable[[], bool] = lambda: True
        self._functions = _MALLOC(self._malloc), _CALLOC(self._calloc)
        malloc, calloc = address(self._memalign), address(self._functions[1])
        self._handler = _Handler(b"tracejit, at first", 1, _ALIGNMENT, malloc, calloc, default.realloc, default.free)
        self.capsule = _capsule_of(self._handler, self)

    def ask(self, question: Callable[[], bool]) -> None:
        """Call `question` when memory is wanted, until it says True. It is called in the middle of NumPy's work."""
        self._asked = question
        self._handler.malloc = address(self._functions[0])

    def _malloc(self, _: int, size: int) -> int | None:
        if self._asked():
            self._handler.malloc = address(self._memalign)
        block: int | None = self._memalign(_ALIGNMENT, size)
        return block

    def _calloc(self, _: int, count: int, each: int) -> int | None:
        block: int | None = self._memalign(_ALIGNMENT, count * each) if count * each < 1 << 62 else None
        if block:
            ctypes.memset(block, 0, count * each)
        return block


@functools.cache
def address_array() -> int:
    """The address of `ptr tj_array(ptr descr, i32 nd, ptr dims, i64 bytes)`, which makes an ndarray in a block of ours.

    It needs the GIL. 0 where NumPy's arrays are not laid out as expected.
    """
    if layout.unsupported():
        return 0
    native, python, api = _library(), ctypes.pythonapi, layout.numpy_api()
    functions = [ctypes.cast(f, ctypes.c_void_p).value for f in (python.Py_IncRef, python.PyErr_NoMemory)]
    slots = (ctypes.c_void_p * len(SLOTS)).from_address(native["tj_numpy"])
    slots[:] = [api[layout.API_NEW_FROM_DESCR], api[layout.API_ARRAY_TYPE], id(handler_capsule()), *functions]
    return native["tj_array"] if _array_works(native["tj_array"]) else 0


_ARRAY = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)


def _array_works(function: int) -> bool:
    """Make one array, and see whether NumPy knows whose memory it is in."""
    dtype = np.dtype(np.float32)
    array = _ARRAY(function)(id(dtype), 2, (ctypes.c_int64 * 2)(3, 5), 60)
    numpy: Any = np  # the stubs do not know this module
    name = getattr(numpy._core.multiarray, "get_handler_name", lambda _: "")(array)
    return bool(name == "tracejit" and array.shape == (3, 5) and array.dtype is dtype and array.flags.owndata)


@functools.cache
def _new_array() -> Any:
    """`tj_array` as a Python callable, or None."""
    function = address_array()
    return _ARRAY(function) if function else None


@functools.lru_cache(1024)
def _dims(shape: tuple[int, ...]) -> tuple[int, Any]:
    if any(n < 0 for n in shape):
        raise ArgumentError(f"a size cannot be negative: {shape}")
    return math.prod(shape), (ctypes.c_int64 * len(shape))(*shape)


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialised C-contiguous array whose data begins at a multiple of 64 bytes, in one of our blocks."""
    dtype = np.dtype(dtype)
    count, dims = _dims(tuple(shape))
    make = _new_array()
    size = count * dtype.itemsize
    if dtype.kind not in "biufcV" or dtype.hasobject or dtype.subdtype or not size:
        return np.empty(tuple(shape), dtype)
    if make is None:
        return _empty_by_numpy(tuple(shape), dtype)
    return make(id(dtype), len(dims), dims, size)  # type: ignore[no-any-return]


def _empty_by_numpy(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The same, with memory of NumPy's that is larger than needed."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # the old one may belong to a thread that exists only in the parent
    if _native is not None:
        _native.function("tj_heap_reset", None)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
