"""What is the user's own: classes and modules that are not a library's, and the globals that a function reads."""

from __future__ import annotations

import ast
import dis
import functools
import opcode
import os
import sys
import types
from typing import Any

from tracejit.autograph.source import in_library
from tracejit.identity import IdentityMap

# Python's own classes whose instances hold what users put there
_BAGS = {
    ("types", "SimpleNamespace"), ("argparse", "Namespace"), ("collections", "UserDict"), ("collections", "UserList"),
    ("collections", "ChainMap"), ("weakref", "WeakKeyDictionary"),
}  # fmt: skip
_users: IdentityMap[bool] = IdentityMap()


def is_users(cls: type) -> bool:
    """Whether instances of a class hold what users put there: the class or one above it is a user's own."""
    found = _users.get(cls)
    if found is None:
        found = (cls.__module__, cls.__qualname__) in _BAGS
        found = found or any(not _is_library_name(k.__module__) for k in cls.__mro__)
        _users.set(cls, found)
    return found


def is_library_module(module: types.ModuleType) -> bool:
    return _is_library_name(module.__name__) if sys.modules.get(module.__name__) is module else False


@functools.lru_cache(1024)
def _is_library_name(name: str) -> bool:
    if name in sys.builtin_module_names:
        return True
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and in_library(os.path.realpath(file))


branches: IdentityMap[bool] = IdentityMap()  # code of branches as functions
_names: IdentityMap[tuple[str, ...]] = IdentityMap()


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The names of globals that a function reads, and functions that stand in it, unless these are its branches."""
    found = _names.get(code)
    if found is None:
        names, more = dict[str, None](), 0
        for op, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
            more = more << 8 | low
            if op == _LOAD_GLOBAL:
                names[code.co_names[more >> 1]] = None  # the lowest bit is for calls
            if op != _EXTENDED_ARG:
                more = 0
        for c in code.co_consts:
            if isinstance(c, types.CodeType) and c not in branches:
                names |= dict.fromkeys(global_names(c))
        found = tuple(names)
        _names.set(code, found)
    return found


def imported_names(code: types.CodeType, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    """The modules that a function imports, each with a name that it takes from there, or none."""
    found: list[tuple[str, str]] = []
    if not any(op == _IMPORT_NAME for op in code.co_code[::2]):
        return found
    level = names = None
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD_"):
            level, names = names, step.argval
        elif step.opcode == _IMPORT_NAME:
            module, around = step.argval, str(namespace.get("__package__") or "")
            if type(level) is int and level > 0:
                parts = around.split(".")
                module = ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])
            if module.partition(".")[0] != "tracejit":
                found += [(module, n) for n in names or ("",) if n != "*"]
    return found


def loaded_names(source: Any) -> list[str]:
    """The names that a text, or code, reads where it is executed."""
    if isinstance(source, str):
        try:
            source = ast.parse(source.strip())
        except SyntaxError:
            return []
        return [n.id for n in ast.walk(source) if isinstance(n, ast.Name)]
    if not isinstance(source, types.CodeType):
        return []
    return [*source.co_names, *[n for c in source.co_consts for n in loaded_names(c) if isinstance(c, types.CodeType)]]


_IMPORT_NAME = opcode.opmap["IMPORT_NAME"]
_LOAD_GLOBAL, _EXTENDED_ARG = opcode.opmap["LOAD_GLOBAL"], opcode.opmap["EXTENDED_ARG"]
