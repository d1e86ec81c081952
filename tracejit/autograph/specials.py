"""The user's special methods that C code, or a library's, calls by itself: those of which some may change something."""

from __future__ import annotations

import dis
import types
from collections import deque
from collections.abc import Iterable, MappingView
from typing import Any

import numpy as np

from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.identity import IdentityMap
from tracejit.runtime.guards import own_dict, raw
from tracejit.tensor import Operand

MOST = 1 << 12  # objects that are looked at
KEY = frozenset(("__hash__", "__eq__"))
ITEMS = frozenset(("__iter__", "__next__", "__getitem__", "__len__", "__length_hint__", "keys"))
ORDER = KEY | {"__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
LOOKED_FOR = KEY | ITEMS | {"__contains__"}
NAMES = ORDER | ITEMS | {
    "__str__", "__repr__", "__format__", "__bytes__", "__bool__",
    "__int__", "__float__", "__complex__", "__index__", "__round__", "__trunc__", "__floor__", "__ceil__", "__abs__",
    "__neg__", "__pos__", "__invert__", "__contains__", "__reversed__", "__missing__", "__copy__", "__deepcopy__",
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getattr__", "__getattribute__", "__array__",
    "__fspath__", "__divmod__", "__rdivmod__",
    *[f"__{r}{n}__" for r in ("", "r") for n in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift",
    )],
}  # fmt: skip
_ATOMS = frozenset((int, float, bool, str, complex, bytes, type(None), range, slice))
_OPAQUE = (
    type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, Operand, np.ndarray,
    np.generic, np.dtype, np.ufunc,
)  # fmt: skip
_HOLDING = (list, tuple, dict, set, frozenset, deque)
_STORING = {
    "STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "STORE_GLOBAL", "DELETE_GLOBAL",
    "DELETE_DEREF", "IMPORT_NAME",
}  # fmt: skip
# What code may name, and call, that changes nothing.
_HARMLESS = {
    "NotImplemented", "object", "isinstance", "type", "len", "int", "float", "str", "bool", "id", "tuple", "super",
    "getattr", "hasattr", "issubclass", "TypeError", "ValueError", "AttributeError", "KeyError", "IndexError",
    "StopIteration",
}  # fmt: skip
_changing: IdentityMap[bool] = IdentityMap()


def among(given: Iterable[Any], names: frozenset[str] = NAMES, nested: bool = True) -> list[Any]:
    """Those methods of objects, and of the objects that they hold where `nested`; of further objects that have the same
    methods the objects themselves."""
    todo = [x for x in given if type(x) not in _ATOMS]
    found: list[Any] = []
    known: set[types.FunctionType] = set()
    seen: set[int] = set()
    while todo and len(seen) < MOST:
        x = todo.pop()
        if type(x) is np.ndarray and x.dtype == object and x.size < MOST:
            x = x.tolist()
        if id(x) in seen or isinstance(x, _OPAQUE):
            continue
        seen.add(id(x))
        methods = _of_class(type(x), names) if is_users(type(x)) else []
        own = [f for f in methods if not is_library(f) and _may(f, type(x))]
        found += [types.MethodType(f, x) for f in own if f not in known] or ([x] if own else [])
        known.update(own)
        held: list[Any] = []
        if issubclass(type(x), _HOLDING) and (nested or type(x) is tuple):
            held += [*dict.keys(x), *dict.values(x)] if isinstance(x, dict) else list(_kind(x).__iter__(x))
        if nested and methods:  # which may ask what the object holds
            held += (own_dict(x) or {}).values()
        elif isinstance(x, MappingView):
            held += [getattr(x, "_mapping", None)]
        elif nested and isinstance(x, BaseException):
            held += x.args
        todo += [y for y in held if type(y) not in _ATOMS]
    return found


def _kind(x: Any) -> Any:
    """The class of Python's own that a container is of."""
    return next(k for k in _HOLDING if issubclass(type(x), k))


def _of_class(cls: type, names: frozenset[str]) -> list[types.FunctionType]:
    there = {n for k in cls.__mro__ if is_users(k) for n in names & vars(k).keys()}
    found = [raw(cls, n) for n in there]
    return [f for f in found if type(f) is types.FunctionType]


def of_bases(bases: Iterable[Any], values: Iterable[type] = ()) -> list[types.FunctionType]:
    """The methods of the user's that the making of a class calls: of its bases and metaclass, and of what stands in
    its body."""
    methods: list[Any] = []
    for b in bases:
        if isinstance(b, type):
            kinds = {k for k in (type(b), b) if issubclass(k, type)}
            methods += [raw(k, n) for k in kinds for n in ("__prepare__", "__new__", "__init__", "__call__")]
            methods.append(raw(b, "__init_subclass__"))
    methods += [raw(k, "__set_name__") for k in values]
    found = [getattr(m, "__func__", m) for m in methods]
    return [f for f in found if type(f) is types.FunctionType and not is_library(f)]


def _may(f: types.FunctionType, cls: type) -> bool:
    """Whether a method may change something, or asks for what a property gives that may."""
    if may_change(f):
        return True
    found = [raw(cls, n) for n in f.__code__.co_names]
    own = [p.fget for p in found if type(p) is property and type(p.fget) is types.FunctionType]
    return any(map(may_change, own))


def may_change(f: types.FunctionType) -> bool:
    """Whether a function's code may do more than ask for attributes and compute with them."""
    found = _changing.get(f.__code__)
    if found is None:
        found = _may_change(f.__code__)
        _changing.set(f.__code__, found)
    return found


def _may_change(code: types.CodeType) -> bool:
    for i in dis.get_instructions(code):
        name = i.opname
        if name in _STORING or (name == "STORE_DEREF" and i.argval in code.co_freevars):
            return True
        if name in ("LOAD_GLOBAL", "LOAD_NAME") and i.argval not in _HARMLESS:
            return True
        if name == "LOAD_METHOD" or (name == "LOAD_ATTR" and "NULL" in i.argrepr) or name == "LOAD_SUPER_ATTR":
            return True
        if name == "LOAD_DEREF" and i.argval in code.co_freevars and i.argval != "__class__":
            return True
        if name == "BINARY_OP" and i.argrepr.endswith("="):
            return True
    return any(_may_change(c) for c in code.co_consts if isinstance(c, types.CodeType))
