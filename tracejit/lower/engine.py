"""LLVM IR text → machine code in memory, and object code that can be kept and loaded again."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tracejit.lower import codegen, elf


def host() -> tuple[str, str]:
    """The processor's name and its features, as LLVM knows them."""
    known = codegen.host()
    if known is None:
        from tracejit.lower import llvmpackage

        known = llvmpackage.host()
    return known


inside = codegen.inside  # a fork waits for the threads that are in here


def find_compiler() -> None:
    """Look where LLVM is, so that another thread can load it without looking."""
    codegen.find()


def open_compiler() -> None:
    """Load LLVM; else the first compilation does. Other threads run meanwhile."""
    codegen.host()


def compile_ir(text: str, optimize: int = 0, level: int = 2) -> bytes:
    """Compile one module to object code, generated with so much care as `level` says (0 to 3).

    `optimize` > 0 runs LLVM's IR pipeline of that level first.
    """
    code = codegen.compile_ir(text, level, optimize)
    if code is None:
        from tracejit.lower import llvmpackage

        code = llvmpackage.compile_ir(text, optimize, level)
    return code


def _link(obj: bytes, exports: list[str], imports: Mapping[str, int]) -> Any:
    try:
        return elf.Image(obj, exports, imports)
    except elf.UnsupportedObject:
        from tracejit.lower import llvmpackage

        return llvmpackage.Linked(obj, exports, imports)


class Library:
    """Loaded object code. The code stays in memory as long as this object lives."""

    def __init__(self, obj: bytes, exports: Iterable[str], imports: Mapping[str, int] | None = None) -> None:
        self._image = _link(obj, list(exports), imports or {})
        self.addresses: dict[str, int] = self._image.addresses

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def function(self, name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
        """A ctypes callable of an exported function; the GIL is released while it runs."""
        return ctypes.CFUNCTYPE(restype, *argtypes)(self.addresses[name])


def load(text: str, exports: Iterable[str], imports: Mapping[str, int] | None = None, optimize: int = 0) -> Library:
    """Compile and load in one go, without any cache."""
    return Library(compile_ir(text, optimize), list(exports), imports)
