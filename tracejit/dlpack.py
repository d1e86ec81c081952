"""DLPack: the memory of tensors for other libraries, which must not write to it, and bfloat16, which NumPy lacks."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np

_UNSIGNED, _BFLOAT = 1, 4  # kinds of numbers in DLDataType
# Where DLTensor has its DLDataType (kind, bits and lanes in four bytes), and where the two structures have a DLTensor
_TYPE: Final = 20
_TENSOR: Final = {b"dltensor": 0, b"dltensor_versioned": 32}
# Libraries that ask for a version that can say "read-only", and let their users write all the same.
_HEEDLESS: Final = frozenset(("torch",))


def exported(a: np.ndarray, sealed: Callable[[], np.ndarray], kwargs: dict[str, Any]) -> Any:
    """A capsule for `__dlpack__(**kwargs)` of an array, of which `sealed` gives a view that is read-only for good.

    Who can be told that memory is read-only gets the memory itself, others a copy. Raises `BufferError` where these
    refuse a copy (`copy=False`).
    """
    told = (kwargs.get("max_version") or (0, 0)) >= (1, 0)
    if kwargs.get("copy") is None and not (told and not _from_heedless()):
        source, kwargs = a.copy(), {k: v for k, v in kwargs.items() if k != "copy"}
    else:
        source = sealed()
    if a.dtype.kind != "V":
        return source.__dlpack__(**kwargs)
    capsule = source.view(np.uint16).__dlpack__(**kwargs)
    _rename(capsule, _UNSIGNED, _BFLOAT)
    return capsule


def _from_heedless() -> bool:
    """Whether `__dlpack__` was called by a library that does not heed the flag."""
    caller: Any = sys._getframe(3)  # of `__dlpack__`, which calls `exported`
    return str(caller.f_globals.get("__name__")).partition(".")[0] in _HEEDLESS


def imported(x: Any) -> np.ndarray:
    """What an object with `__dlpack__` holds, as an array that shares its memory where NumPy knows the type.

    Raises `BufferError` or `RuntimeError` for what cannot be read.
    """
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError):
        try:
            capsule = x.__dlpack__(max_version=(1, 0))
        except TypeError:
            capsule = x.__dlpack__()
        if not _rename(capsule, _BFLOAT, _UNSIGNED):
            raise
    bits = np.from_dlpack(_Handed(capsule, x.__dlpack_device__()))
    return bits.view(np.dtype("bfloat16"))


class _Handed:
    """A capsule that NumPy may have."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self._capsule, self._device = capsule, device

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def _rename(capsule: Any, kind: int, new: int) -> bool:
    """Let 16-bit elements of one kind be called another; whether it has such."""
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))(capsule)
    if name not in _TENSOR:
        return False
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    at = pointer(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, name) + _TENSOR[name] + _TYPE
    if ctypes.string_at(at, 4) != bytes((kind, 16, 1, 0)):
        return False
    ctypes.c_uint8.from_address(at).value = new
    return True
