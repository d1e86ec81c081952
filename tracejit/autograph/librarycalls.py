"""Calls of libraries' code for what they do, not for what they give: done in each run of the program, in its order."""

from __future__ import annotations

import functools
import os
import sys
import types
import warnings
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from tracejit.autograph import failures, hostcalls, mutations, places, reads, watching
from tracejit.autograph.calls import LOOKING, called, callee
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.context import context
from tracejit.errors import ConversionError, locate, user_frame
from tracejit.ops import host
from tracejit.runtime.guards import own_dict
from tracejit.tensor import Operand
from tracejit.tree import flatten, map_structure

# What these do they do to what they are given, or only while the function is traced.
_AT_ONCE = {
    "_bisect", "_collections", "_collections_abc", "_contextvars", "_functools", "_heapq", "_io", "_operator",
    "_pytest", "_weakref", "_weakrefset", "abc", "ast", "bisect", "builtins", "collections", "contextlib",
    "contextvars", "copy", "dataclasses", "dis", "enum", "functools", "gc", "heapq", "inspect", "itertools",
    "linecache", "math", "numpy", "operator", "pdb", "pytest", "queue", "sys", "traceback", "types", "typing",
    "weakref",
}  # fmt: skip
# Those of which what they are given stays as it is, whatever it is.
_LOOKING = {
    "dump", "writerow", "writerows", "writelines", "write", "execute", "executemany", "save", "savez", "savetxt",
    "savez_compressed",
}  # fmt: skip
_PLAIN = (int, float, complex, str, bytes, type(None), Operand, Enum, PurePath, type, types.ModuleType, host.Text)
_CALLED = (types.FunctionType, types.MethodType, functools.partial)


def effect(f: Any) -> Any:
    """What is called in the place of `f` by a statement that is a call."""
    if places.listener() is None or context.trace is None or type(f) is Chosen or not _is_librarys(f):
        return called(f)
    if hostcalls.is_outside(f) or hostcalls.gives_nothing(f):
        return functools.partial(_each_time, f)
    if callee(f) is not f or mutations.changing(f) is not None or any(f is g for g in LOOKING):
        return called(f)
    return functools.partial(_each_time, f)


def _is_librarys(f: Any) -> bool:
    """Whether `f` is a function or method of a library's that may do more than what is seen of its operands."""
    owner = _owner(f)
    name = str(getattr(f, "__name__", ""))
    if isinstance(f, type | functools.partial) or name.startswith("__"):
        return False
    if isinstance(owner, Operand | BaseException | str):
        return False
    if isinstance(owner, type(None)):
        module = str(getattr(f, "__module__", None) or "")
        if module.split(".")[0] == "numpy" and name.startswith("save"):
            return True
        return not _is_at_once(module) and (not isinstance(f, types.FunctionType) or is_library(f))
    if isinstance(f, types.MethodType) and isinstance(f.__func__, types.FunctionType) and not is_library(f.__func__):
        return False
    if places.is_container(owner) or _is_own(owner):
        return False
    return not _is_at_once(type(owner).__module__) or type(owner).__module__ == "_io"


def _owner(f: Any) -> Any:
    """The object that a method, or a call of an object, is of."""
    if isinstance(f, types.FunctionType):
        return None
    owner = getattr(f, "__self__", f)
    return None if isinstance(owner, types.ModuleType | type) else owner


def _is_at_once(module: str) -> bool:
    return module.split(".")[0] in _AT_ONCE or module.split(".")[0] == "tracejit"


def _is_own(x: Any) -> bool:
    """Whether the function has made an object, which no call before it can have known."""
    return not isinstance(x, PurePath) and watching.is_own(x)


def _each_time(f: Any, *args: Any, **kwargs: Any) -> None:
    if f is warnings.warn:
        _warned(*args, **kwargs)
        return
    name = getattr(f, "__name__", None) or type(f).__name__
    owner = _owner(f)
    if is_users(type(owner)) and own_dict(owner) is not None and not _stands_alone(owner, name):
        called(f)(*args, **kwargs)
        return
    looks = name in _LOOKING or _stands_alone(owner, name)
    if looks and name in ("assertIs", "assertIsNot"):  # which ask for the very objects
        f(*args, **kwargs)
        return
    given = flatten([args, kwargs])[0] if looks else [*args, *kwargs.values()]
    others = [x for x in given if not isinstance(x, _PLAIN) and not (type(x) is tuple and _are_plain(x))]
    if looks and any(_is_own(x) and not isinstance(x, np.ndarray) for x in others):
        f(*args, **kwargs)
        return
    if any(isinstance(x, _CALLED) for x in others):
        raise locate(ConversionError(f"{name}() of a library is given a function, which may change something"))
    if failures.may_catch():
        raise locate(ConversionError(f"{name}() of a library is called in a `try` that would catch its errors"))
    if owner is os.environ or (others and not looks):
        raise locate(ConversionError(f"{name}() of a library is called, which may change what it is given"))
    todo: list[Any] = [*args, *kwargs.values()]
    while todo:  # what containers hold is said by the program, how many they hold is not
        x = todo.pop()
        if isinstance(x, (list, tuple, dict)):
            reads.whole(x)
            todo += x.values() if isinstance(x, dict) else x
    if any(is_users(type(x)) and own_dict(x) for x in others):
        raise locate(ConversionError(f"{name}() of a library is given an object that the call may have changed"))
    args, kwargs = map_structure(lambda x: x.copy() if isinstance(x, np.ndarray) else x, (args, kwargs))
    places.listener().said.add(id(owner))
    places.listener().said.update(map(id, others))
    host.say(lambda values: f(*values[0], **values[1]), [list(args), kwargs])


hostcalls.each_time.append(_each_time)


def _are_plain(xs: tuple[Any, ...]) -> bool:
    return all(isinstance(x, _PLAIN) or (type(x) is tuple and _are_plain(x)) for x in xs)


def _stands_alone(owner: Any, name: str) -> bool:
    """Whether a method of a library's class is for its own sake, as those of test cases."""
    cases = getattr(sys.modules.get("unittest"), "TestCase", ())
    return name.startswith(("assert", "fail")) and isinstance(owner, cases)


_registries: dict[str, dict[Any, Any]] = {}  # by files, of what has been warned of there


def _warned(message: Any, category: Any = None, stacklevel: int = 1, *more: Any, **kwargs: Any) -> None:
    """`warnings.warn`, on the line where it stands."""
    loc = user_frame(3)
    kind = type(message) if isinstance(message, Warning) else category or UserWarning
    file, line = (loc.file, loc.line) if loc is not None else ("<unknown>", 1)
    registry: dict[Any, Any] = _registries.setdefault(file, {})

    def write(values: Any) -> None:
        warnings.warn_explicit(values[0], kind, file, line, registry=registry)

    host.say(write, [message])
