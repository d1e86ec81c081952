"""LLVM's code generator through the C functions of llvmlite's library: the package itself takes long to import."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tracejit import forks
from tracejit.runtime.keys import installed_version

# The releases of llvmlite whose functions are as declared below; a test compares them with the package's own.
RELEASES = ("0.45.", "0.46.", "0.47.", "0.48.", "0.49.", "0.50.")
_SIZED = ("0.45.", "0.46.", "0.47.")  # those whose pipelines have a second level, that of the code's size

_P, _S, _I = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_OUT = ctypes.POINTER(_S)
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "LLVMPY_InitializeNativeTarget": (_I, []),
    "LLVMPY_InitializeNativeAsmPrinter": (_I, []),
    "LLVMPY_GetHostCPUName": (_I, [_OUT]),
    "LLVMPY_GetHostCPUFeatures": (_I, [_OUT]),
    "LLVMPY_GetDefaultTargetTriple": (_I, [_OUT]),
    "LLVMPY_GetTargetFromTriple": (_P, [_S, _OUT]),
    "LLVMPY_CreateTargetMachine": (_P, [_P, _S, _S, _S, _I, _S, _S, _I, _I, _S]),
    "LLVMPY_ContextCreate": (_P, []),
    "LLVMPY_ContextDispose": (_I, [_P]),
    "LLVMPY_ParseAssembly": (_P, [_P, _S, _OUT]),
    "LLVMPY_DisposeModule": (_I, [_P]),
    "LLVMPY_TargetMachineEmitToMemory": (_P, [_P, _P, _I, _OUT]),
    "LLVMPY_GetBufferStart": (_P, [_P]),
    "LLVMPY_GetBufferSize": (ctypes.c_size_t, [_P]),
    "LLVMPY_DisposeMemoryBuffer": (_I, [_P]),
    "LLVMPY_DisposeString": (_I, [_S]),
    "LLVMPY_CreatePipelineTuningOptions": (_P, []),
    "LLVMPY_DisposePipelineTuningOptions": (_I, [_P]),
    "LLVMPY_CreatePassBuilder": (_P, [_P, _P]),
    "LLVMPY_DisposePassBuilder": (_I, [_P]),
    "LLVMPY_buildPerModuleDefaultPipeline": (_P, [_P, _I]),
    "LLVMPY_RunNewModulePassManager": (_I, [_P, _P, _P]),
    "LLVMPY_DisposeNewModulePassManger": (_I, [_P]),
}
_PIPELINE = "LLVMPY_buildPerModuleDefaultPipeline"
_SMALL = 1 << 16  # texts up to this size are parsed in about a millisecond


def signatures() -> dict[str, tuple[Any, list[Any]]]:
    """What the functions of the installed release give and take."""
    sized = installed_version("llvmlite").startswith(_SIZED)
    return {**SIGNATURES, _PIPELINE: (_P, [_P, _I, _I])} if sized else SIGNATURES


class _Inside:
    """Counts the threads that are inside LLVM, so that a fork waits until there are none: a child could never finish
    what another thread of its parent began."""

    def __init__(self) -> None:
        self.locks: list[Any] = []  # others that must be free
        self._free = threading.Condition(threading.RLock())
        self._count = 0
        self._own = threading.local()

    def __enter__(self) -> None:
        self._own.depth = getattr(self._own, "depth", 0) + 1
        with self._free:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        with self._free:
            self._count -= 1
            self._free.notify_all()

    def before_fork(self) -> None:
        self._free.acquire()
        while self._count > getattr(self._own, "depth", 0):
            self._free.wait()
        for lock in self.locks:
            lock.__enter__()

    def after_fork(self) -> None:
        for lock in reversed(self.locks):
            lock.__exit__(None, None, None)
        self._free.release()


inside = _Inside()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=inside.before_fork, after_in_parent=inside.after_fork, after_in_child=inside.after_fork
    )


@functools.cache
def find() -> str | None:
    """Where llvmlite's library is, if its functions are known."""
    spec = importlib.util.find_spec("llvmlite")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return None
    path = os.path.join(os.path.dirname(spec.origin), "binding", "libllvmlite.so")
    return path if os.path.exists(path) and installed_version("llvmlite").startswith(RELEASES) else None


class _Compiler:
    """The library, and machines for generating code that nobody uses at the moment, by level."""

    def __init__(self, path: str) -> None:
        with contextlib.suppress(AttributeError):
            # as ctypes does it, but other threads run meanwhile
            ctypes.CDLL(None).dlopen(os.fsencode(path), os.RTLD_NOW)
        self.library = ctypes.CDLL(path)
        # what takes no time keeps the GIL: to give it away is to wait for it
        self.held = ctypes.PyDLL(path)
        known = signatures()
        self._size_level = [0] * (len(known[_PIPELINE][1]) - len(SIGNATURES[_PIPELINE][1]))
        for name, (result, arguments) in known.items():
            for lib in (self.library, self.held):
                function = getattr(lib, name)
                function.restype, function.argtypes = result, arguments
        self.held.LLVMPY_InitializeNativeTarget()
        self.held.LLVMPY_InitializeNativeAsmPrinter()
        features = [f for f in self.text("LLVMPY_GetHostCPUFeatures").split(",") if f]
        self.host = self.text("LLVMPY_GetHostCPUName"), ",".join(sorted(features, key=lambda f: f[1:]))
        self._machines: dict[int, list[int]] = {}

    def text(self, name: str) -> str:
        with self.message() as out:
            getattr(self.held, name)(ctypes.byref(out))
            return (out.value or b"").decode()

    @contextlib.contextmanager
    def message(self) -> Iterator[ctypes.c_char_p]:
        """Room for a string of LLVM's."""
        out = ctypes.c_char_p()
        try:
            yield out
        finally:
            self.held.LLVMPY_DisposeString(out)

    def _new_machine(self, level: int) -> int:
        triple = self.text("LLVMPY_GetDefaultTargetTriple").encode()
        cpu, features = (s.encode() for s in self.host)
        with self.message() as out:
            target = self.held.LLVMPY_GetTargetFromTriple(triple, ctypes.byref(out))
            if not target:
                raise RuntimeError(f"LLVM has no target {triple.decode()}: {(out.value or b'').decode()}")
        machine = self.held.LLVMPY_CreateTargetMachine(
            target, triple, cpu, features, level, b"pic", b"default", 0, 1, b""
        )
        if not machine:
            raise RuntimeError("LLVM cannot generate code for this machine")
        return int(machine)

    def compile(self, text: str, level: int, optimize: int) -> bytes:
        free = self._machines.setdefault(level, [])
        try:
            machine = free.pop()
        except IndexError:
            machine = self._new_machine(level)
        context = self.held.LLVMPY_ContextCreate()
        try:
            return self._compile_in(context, machine, text.encode(), optimize)
        finally:
            self.held.LLVMPY_ContextDispose(context)
            free.append(machine)

    def _compile_in(self, context: int, machine: int, text: bytes, optimize: int) -> bytes:
        held = self.held
        with self.message() as out:
            lib = held if len(text) <= _SMALL else self.library
            module = lib.LLVMPY_ParseAssembly(context, text, ctypes.byref(out))
            if out.value or not module:
                raise RuntimeError(f"LLVM cannot read the text\n{(out.value or b'').decode('utf-8', 'replace')}")
        try:
            if optimize:
                self._optimize(machine, module, optimize)
            with self.message() as out:
                buffer = self.library.LLVMPY_TargetMachineEmitToMemory(machine, module, 1, ctypes.byref(out))
                if not buffer:
                    raise RuntimeError((out.value or b"").decode("utf-8", "replace"))
            try:
                return ctypes.string_at(held.LLVMPY_GetBufferStart(buffer), held.LLVMPY_GetBufferSize(buffer))
            finally:
                held.LLVMPY_DisposeMemoryBuffer(buffer)
        finally:
            held.LLVMPY_DisposeModule(module)

    def _optimize(self, machine: int, module: int, level: int) -> None:
        """Run LLVM's IR pipeline of this level."""
        run = self.library  # other threads go on meanwhile: a pipeline takes milliseconds to build
        tuning = run.LLVMPY_CreatePipelineTuningOptions()
        builder = run.LLVMPY_CreatePassBuilder(machine, tuning)
        passes = run.LLVMPY_buildPerModuleDefaultPipeline(builder, level, *self._size_level)
        run.LLVMPY_RunNewModulePassManager(passes, module, builder)
        run.LLVMPY_DisposeNewModulePassManger(passes)
        run.LLVMPY_DisposePassBuilder(builder)
        run.LLVMPY_DisposePipelineTuningOptions(tuning)


_lock = forks.lock()


@functools.cache
def _open() -> _Compiler | None:
    path = find()
    try:
        return _Compiler(path) if path else None
    except (OSError, AttributeError):
        return None  # the package may know how to find it, or say what is wrong


def _compiler() -> _Compiler | None:
    with inside, _lock:
        return _open()


def host() -> tuple[str, str] | None:
    """The processor's name and its features, as LLVM knows them; None where the library's functions are not known."""
    compiler = _compiler()
    return compiler.host if compiler else None


def compile_ir(text: str, level: int, optimize: int = 0) -> bytes | None:
    """Object code, generated with so much care (0 to 3); None where the library's functions are not known.

    `optimize` > 0 runs LLVM's IR pipeline of that level first.
    """
    with inside:
        compiler = _compiler()
        return compiler.compile(text, level, optimize) if compiler else None
