"""LLVM through the llvmlite package: its optimizing pipeline, and its linker for objects that ours does not take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import llvmlite.binding as ll

from tracejit import forks
from tracejit.lower import codegen

_lock = forks.rlock()
_names = itertools.count()
_state: dict[str, object] = {}
_machines: dict[int, ll.TargetMachine] = {}


def host() -> tuple[str, str]:
    """The processor's name and its features, as LLVM knows them."""
    return ll.get_host_cpu_name(), ll.get_host_cpu_features().flatten()


def _machine(level: int) -> ll.TargetMachine:
    if level not in _machines:
        ll.initialize_native_target()
        ll.initialize_native_asmprinter()
        cpu, features = host()
        target = _state["target"] = ll.Target.from_default_triple()
        _machines[level] = target.create_target_machine(
            cpu=cpu, features=features, opt=level, reloc="pic", codemodel="default", jit=True
        )
    return _machines[level]


def compile_ir(text: str, optimize: int, level: int) -> bytes:
    with codegen.inside, _lock:
        machine = _machine(level)
        module = ll.parse_assembly(text, ll.create_context())
        if optimize:
            tuning = ll.create_pipeline_tuning_options(speed_level=optimize)
            builder = ll.create_pass_builder(machine, tuning)
            builder.getModulePassManager().run(module, builder)
        code: bytes = machine.emit_object(module)
        return code


class Linked:
    """Object code in memory, put there by LLVM. It stays as long as this object lives."""

    def __init__(self, obj: bytes, exports: Sequence[str], imports: Mapping[str, int]) -> None:
        with codegen.inside, _lock:
            if "linker" not in _state:
                _state["linker"] = ll.create_lljit_compiler(_machine(2))
            b = ll.JITLibraryBuilder().add_object_img(obj)
            for n, a in imports.items():
                b.import_symbol(n, a)
            for n in exports:
                b.export_symbol(n)
            self._tracker = b.add_current_process().link(_state["linker"], f"tj{next(_names)}")
        self.addresses: dict[str, int] = {n: self._tracker[n] for n in exports}


# llvmlite holds a lock of its own during each of its calls, those that free things included.
codegen.inside.locks.append(getattr(ll.ffi.lib, "_lock", None))
