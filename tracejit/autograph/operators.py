"""What converted code calls, in one place for it; and the parts that are neither branches nor loops nor calls."""

from __future__ import annotations

import builtins
import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.autograph import hostcalls, places, reads
from tracejit.autograph.branches import Part, and_, compare, if_, if_exp, none_of, not_, or_, traced
from tracejit.autograph.calls import assign, called, callee, converted, load
from tracejit.autograph.failures import catching, raised
from tracejit.autograph.loops import for_, while_
from tracejit.autograph.places import attribute as writes_attribute
from tracejit.autograph.places import cell as writes_cell
from tracejit.autograph.places import entry as writes_global
from tracejit.autograph.places import items as writes_items
from tracejit.autograph.places import made
from tracejit.autograph.ranges import length_of
from tracejit.autograph.reads import whole
from tracejit.autograph.recorder import mutated
from tracejit.autograph.values import Optional, Undefined, names
from tracejit.errors import ConversionError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ops import host
from tracejit.ops.regions import as_test
from tracejit.runtime.guards import raw
from tracejit.tensor import Operand, convert


# --- values -----------------------------------------------------------------------------------------------------------
def undefined(name: str) -> Undefined:
    return Undefined(name)


def value_of(x: Any, name: str) -> Any:
    """The value of a variable that may have none."""
    if type(x) is Undefined:
        raise locate(x.fail())
    if type(x) is Optional and not x.none:
        return x.get()
    return x


def returned(x: Any) -> Any:
    """What a function returns. That it is perhaps None is for its caller to ask."""
    if type(x) is Undefined:
        return None
    return x.get() if type(x) is Optional and not x.none else x


def ended(x: Any) -> Any:
    """What a function returns whose end is reached, where an exit may have come first."""
    if type(x) is Undefined:
        return None
    return Optional(x.name, x.flag, x.value, True, x.loc) if type(x) is Optional else x


def item(x: Any, key: Any) -> Any:
    """`x[key]`; the user's own `__getitem__` is converted too."""
    if type(key) in (int, str) and (number := reads.given("items", x, key)) is not None:
        return number
    reads.item(x, whole(key))
    if type(x) is np.ndarray:
        return reads.array_item(x, key, x[key])
    get = raw(type(x), "__getitem__") if not isinstance(x, Operand) else None
    return callee(get)(x, key) if type(get) is types.FunctionType else x[key]


def _got(x: dict[Any, Any], key: Any, *default: Any) -> Any:
    reads.item(x, key)
    return x.get(key, *default)


def set_attribute(x: Any, name: str, value: Any) -> None:
    """`x.name = value`; the setters of properties and the user's own `__setattr__` are converted too."""
    setter = raw(type(x), "__setattr__")
    if type(setter) is types.FunctionType:
        callee(setter)(x, name, value)
    elif setter is object.__setattr__ or isinstance(x, type):
        assign(x, name, value)
    else:
        places.attribute(x, name)
        setattr(x, name, value)


def method(x: Any, name: str, unused: bool = False) -> Any:
    """`x.name`, which is about to be called: of a container it may change what that holds."""
    if name == "get" and isinstance(x, dict):
        return functools.partial(_got, x)
    if places.is_container(x, name):
        if places.listener() is not None:
            return lambda *args, **kwargs: mutated(places.listener(), x, name, unused, args, kwargs)
        places.items(x)
        return getattr(x, name)
    return called(load(x, name))


# --- statements with effects ------------------------------------------------------------------------------------------
def assert_(test: Part, message: Part | None, text: str) -> None:
    """`assert`: `text` is what is said of a condition that is a tensor, where there is no message to be made."""

    def fail() -> None:
        raise raised(AssertionError(*([message()] if message is not None else [])))

    ok = test()
    if not traced(ok):
        if not ok:
            fail()
    elif text:
        OPS["check"](as_test(ok), error="AssertionError", message=text.replace("{", "{{").replace("}", "}}"))
    else:
        if_(ok, lambda: None, fail, tuple, lambda new: None, (), ())


def rows(x: Any) -> Any:
    """What a comprehension goes through."""
    hostcalls.check_iterator(x)
    if isinstance(x, Operand) and traced(x):
        n = length_of(x)
        if isinstance(n, Dim):
            n = int(n)
        return [x[i] for i in builtins.range(n)]
    return whole(reads.content(x))


def filtered(x: Any) -> Any:
    if traced(x):
        raise locate(
            ConversionError("the condition of a comprehension depends on a tensor", remedy="use tj.boolean_mask")
        )
    return x


def formatted(x: Any, conversion: int, spec: str) -> Any:
    """A replacement field of an f-string: a string, or a tensor that will be one when the program runs."""
    changes: dict[int, Callable[[Any], Any]] = {114: repr, 115: str, 97: ascii}
    change = changes.get(conversion, lambda y: y)
    if isinstance(x, Optional):
        x = x.get()
    if isinstance(x, Operand) and traced(x):
        return convert(x), lambda value: format(change(value), spec)
    if isinstance(x, Dim):
        x = int(x)  # the text of a size is its number
    return format(change(whole(x)), spec)


def joined(*parts: Any) -> Any:
    if all(isinstance(p, str) for p in parts):
        return "".join(parts)
    return host.Text(parts)


__all__ = [
    "and_", "called", "callee", "catching", "compare", "converted", "for_", "if_", "if_exp", "load", "made", "names",
    "none_of", "not_", "or_", "raised", "while_", "whole", "writes_attribute", "writes_cell", "writes_global",
    "writes_items",
]  # fmt: skip
