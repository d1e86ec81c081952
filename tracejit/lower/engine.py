"""LLVM IR text → machine code in memory, and object code that can be kept and loaded again."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import llvmlite.binding as ll

_lock = threading.RLock()
_names = itertools.count()
_state: dict[str, object] = {}


def host() -> tuple[str, str]:
    """The processor's name and its features, as LLVM knows them; part of every cache key."""
    if "host" not in _state:
        _state["host"] = (ll.get_host_cpu_name(), ll.get_host_cpu_features().flatten())
    return _state["host"]  # type: ignore[return-value]


def _target() -> tuple[ll.Target, ll.TargetMachine, object]:
    with _lock:
        if "machine" not in _state:
            ll.initialize_native_target()
            ll.initialize_native_asmprinter()
            cpu, features = host()
            target = ll.Target.from_default_triple()
            machine = target.create_target_machine(
                cpu=cpu, features=features, opt=2, reloc="pic", codemodel="default", jit=True
            )
            _state["machine"] = (target, machine, ll.create_lljit_compiler(machine))
        return _state["machine"]  # type: ignore[return-value]


def compile_ir(text: str, optimize: int = 0) -> bytes:
    """Compile one module to object code. `optimize` > 0 runs LLVM's IR pipeline of that level first."""
    _, machine, _ = _target()
    with _lock:
        module = ll.parse_assembly(text, ll.create_context())
        if optimize:
            tuning = ll.create_pipeline_tuning_options(speed_level=optimize)
            builder = ll.create_pass_builder(machine, tuning)
            builder.getModulePassManager().run(module, builder)
        code: bytes = machine.emit_object(module)
        return code


class Library:
    """Loaded object code. The code stays in memory as long as this object lives."""

    def __init__(self, obj: bytes, exports: Iterable[str], imports: Mapping[str, int] | None = None) -> None:
        with _lock:
            jit = _target()[2]
            b = ll.JITLibraryBuilder().add_object_img(obj)
            for n, a in (imports or {}).items():
                b.import_symbol(n, a)
            for n in exports:
                b.export_symbol(n)
            self._tracker = b.add_current_process().link(jit, f"tj{next(_names)}")
        self.addresses: dict[str, int] = {n: self._tracker[n] for n in exports}

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def function(self, name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
        """A ctypes callable of an exported function; the GIL is released while it runs."""
        return ctypes.CFUNCTYPE(restype, *argtypes)(self.addresses[name])


def load(text: str, exports: Iterable[str], imports: Mapping[str, int] | None = None, optimize: int = 0) -> Library:
    """Compile and load in one go, without any cache."""
    return Library(compile_ir(text, optimize), list(exports), imports)


# llvmlite holds a lock of its own during each of its calls, those that free things included.
_llvm_lock = getattr(ll.ffi.lib, "_lock", None) or contextlib.nullcontext()


def _before_fork() -> None:
    """Wait until nobody is inside LLVM: a child could never finish what another thread of its parent began."""
    _lock.acquire()
    _llvm_lock.__enter__()


def _after_fork() -> None:
    _llvm_lock.__exit__(None, None, None)
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
