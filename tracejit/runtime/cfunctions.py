"""Between native code and the interpreter: addresses of Python's C functions, and native code as Python functions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_FASTCALL, _NAMED = 0x80, 0x2
_kept: list[object] = []


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _GetSetDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("get", ctypes.c_void_p),
        ("set", ctypes.c_void_p),
        ("doc", ctypes.c_char_p),
        ("closure", ctypes.c_void_p),
    ]


def keep(obj: object) -> None:
    """Let an object live as long as the process: native code leads to it up to the very end."""
    _kept.append(obj)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(obj))


def builtin(name: str, address: int, payload: object = None, named: bool = False) -> Callable[..., Any]:
    """The native code `ptr f(payload, args, count)` at an address as a Python function of positional arguments; with
    `named` it gets the tuple of the others' names as well."""
    definition = _MethodDef(name.encode(), address, _FASTCALL | (_NAMED if named else 0), None)
    keep(definition)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    new = make(("PyCFunction_NewEx", ctypes.pythonapi))
    return new(ctypes.addressof(definition), payload, None)  # type: ignore[no-any-return]


_DESCRIPTOR = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)


def method(cls: type, name: str, address: int, flags: int, doc: str) -> Any:
    """The native code at an address as a method of a class, called as `flags` of Python's method definitions say."""
    definition = _MethodDef(name.encode(), address, flags, doc.encode())
    keep(definition)
    return _DESCRIPTOR(("PyDescr_NewMethod", ctypes.pythonapi))(cls, ctypes.addressof(definition))


def getter(cls: type, name: str, address: int, doc: str) -> Any:
    """The native code `ptr f(obj, closure)` at an address as an attribute of a class that can be read only."""
    definition = _GetSetDef(name.encode(), address, None, doc.encode(), None)
    keep(definition)
    return _DESCRIPTOR(("PyDescr_NewGetSet", ctypes.pythonapi))(cls, ctypes.addressof(definition))


def address(function: object) -> int:
    """Where a function of a library that ctypes has loaded is; 0 for none."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def of_python(names: Iterable[str]) -> dict[str, int]:
    """The addresses of the interpreter's own C functions among the names; ours begin with `tj_`."""
    return {n: address(getattr(ctypes.pythonapi, n)) for n in names if not n.startswith("tj_")}


def complete(found: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """The addresses, if there is one for each name. Raises `RuntimeError` naming those that are missing."""
    missing = [n for n in names if not found.get(n)]
    if missing:
        raise RuntimeError(f"not found: {', '.join(missing)}")
    return dict(found)
