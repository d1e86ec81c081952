"""Calls of the user's classes: what makes and fills their objects is converted as other functions are."""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Callable
from typing import Any

from tracejit.autograph import calls, logic, places, reads
from tracejit.autograph.calls import assign, called, callee
from tracejit.autograph.nests import is_record
from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.runtime.guards import raw


def constructor(cls: type) -> Callable[..., Any] | None:
    """What to call in the place of a class of the user's; None for all others."""
    if not is_users(cls):
        return None
    reads.special(cls, "__call__")
    call = raw(type(cls), "__call__")
    if type(call) is types.FunctionType:
        return None if is_library(call) else types.MethodType(callee(call), cls)
    return types.MethodType(_construct, cls) if call is type.__call__ else None


def _construct(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    reads.of_class(cls, "__new__", "__init__")
    new = raw(cls, "__new__")
    new = new.__func__ if isinstance(new, staticmethod) else new
    x = callee(new)(cls, *args, **kwargs) if type(new) is types.FunctionType else new(cls, *args, **kwargs)
    if type(new) is not types.FunctionType or (isinstance(x, tuple) and hasattr(cls, "_fields")):
        places.born(x)  # a named tuple too, whose `__new__` is not converted
    if isinstance(x, cls):
        reads.special(x, "__init__")
        init = raw(type(x), "__init__")
        if type(init) is not types.FunctionType:
            type(x).__init__(x, *args, **kwargs)  # type: ignore[misc]
        elif _is_generated(type(x), init):
            _fill(x, init, args, kwargs)
        else:
            if callee(init)(x, *args, **kwargs) is not None:
                raise TypeError("__init__() should return None")
    return x


_construct.ag_original = _construct  # type: ignore[attr-defined]  # what it calls is converted


def made_by(new: Callable[..., Any]) -> Callable[..., Any]:
    """`object.__new__`, whose results are the function's own."""

    def make(*args: Any, **kwargs: Any) -> Any:
        x = new(*args, **kwargs)
        places.born(x)
        return x

    return make


# --- dataclasses ------------------------------------------------------------------------------------------------------
def _is_generated(cls: type, init: types.FunctionType) -> bool:
    return dataclasses.is_dataclass(cls) and init.__code__.co_filename == "<string>"


class _Fields:
    """Takes the fields of a dataclass from the `__init__` that was generated for it, and gives them to the object."""

    def __init__(self, of: Any) -> None:
        object.__setattr__(self, "ag_of", of)

    def __setattr__(self, name: str, value: Any) -> None:
        x = object.__getattribute__(self, "ag_of")
        own = raw(type(x), "__setattr__")
        if type(own) is types.FunctionType and not is_library(own) and not own.__code__.co_filename == "<string>":
            callee(own)(x, name, value)
        else:
            assign(x, name, value)

    def __getattribute__(self, name: str) -> Any:
        x = object.__getattribute__(self, "ag_of")
        if name == "__post_init__":
            _give(self, x)
        return calls.load(x, name) if name != "__post_init__" else callee(calls.load(x, name))


def _fill(x: Any, init: types.FunctionType, args: tuple, kwargs: dict[str, Any]) -> None:
    stand_in = _Fields(x)
    init(stand_in, *args, **kwargs, **_from_factories(type(x), init, args, kwargs))
    _give(stand_in, x)


def _from_factories(cls: Any, init: types.FunctionType, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the fields get that are not given, where a function of the user's makes it."""
    code, made = init.__code__, {}
    given = {*code.co_varnames[1 : 1 + len(args)], *kwargs}
    for field in dataclasses.fields(cls):
        f = field.default_factory
        if type(f) is types.FunctionType and not is_library(f) and field.name not in given:
            if field.init:
                made[field.name] = callee(f)()
            else:
                reads.function(f)
        elif isinstance(f, types.FunctionType | types.MethodType) and field.name not in given and field.init:
            made[field.name] = called(f)()
    return made


def _give(stand_in: _Fields, x: Any) -> None:
    """Of a frozen class the fields are set by `object.__setattr__`, which leaves them in the object's place."""
    own = object.__getattribute__(stand_in, "__dict__")
    for name in [n for n in own if n != "ag_of"]:
        assign(x, name, own.pop(name))


def _replaced(original: Callable[..., Any]) -> Callable[..., Any]:
    """`dataclasses.replace`, and `copy.replace`, which make an object by calling its class."""

    def replace(x: Any, /, **changes: Any) -> Any:
        cls = type(x)
        if not (is_record(x) and is_users(cls)) or (constructor(cls)) is None:
            return original(x, **changes)
        fields = {f.name: f.init for f in dataclasses.fields(x)}
        init = getattr(raw(cls, "__init__"), "__code__", None)
        taken = () if init is None else init.co_varnames[1 : init.co_argcount + init.co_kwonlyargcount]
        if "__replace__" in vars(cls) or not all(fields.get(k) for k in (*taken, *changes)):
            return original(x, **changes)  # it says what is wrong
        return callee(cls)(**{k: calls.load(x, k) for k, given in fields.items() if given} | changes)

    return replace


for _f in (dataclasses.replace, getattr(copy, "replace", dataclasses.replace)):
    calls.replace(_f, _replaced(_f))
def _equal(f: types.FunctionType, x: Any, y: Any) -> Any:
    """The `__eq__` that was generated for a dataclass, which names the fields that it compares."""
    names = [n for n in f.__code__.co_names if n not in ("__class__", "NotImplemented")]
    if not dataclasses.is_dataclass(type(x)):
        return f(x, y)
    if type(x) is not type(y):
        return NotImplemented
    pairs = [(calls.load(x, n), calls.load(y, n)) for n in names]
    asked = [lambda a=a, b=b: logic.compare(("==",), a, lambda: b) for a, b in pairs if a is not b]
    return logic.not_(logic.not_(logic.and_(*asked))) if asked else True


calls.keep.update(constructor=constructor, construct=_construct, new=made_by, equal=_equal)
