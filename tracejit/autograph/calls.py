"""What a call in converted code calls: the user's functions converted, some of Python's own for tensors too."""

from __future__ import annotations

import builtins
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.autograph import hostcalls, places, reads
from tracejit.autograph.branches import traced
from tracejit.autograph.ranges import enumerate_, range_, tensor_range, zip_
from tracejit.autograph.values import Optional
from tracejit.ir.op import OPS
from tracejit.operand import _no_value
from tracejit.ops import creation, host
from tracejit.ops.regions import as_test
from tracejit.runtime.guards import own_dict, raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand


def _best(pick: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def best(*args: Any, **kwargs: Any) -> Any:
        """Python's min or max, of tensors too."""
        if kwargs or not args:
            return plain(*args, **kwargs)
        if len(args) == 1:
            if isinstance(args[0], Operand):
                return OPS[f"reduce_{plain.__name__}"](args[0], axis=(0,))
            args = tuple(args[0])
        if any(isinstance(a, (Operand, Optional)) and traced(a) for a in args):
            return functools.reduce(lambda a, b: OPS[pick](a, b), args)
        return plain(*args) if len(args) > 1 else args[0]

    return best


def _every(join: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    def every(x: Any) -> Any:
        """Python's any or all, of tensors too."""
        found = list(x if not isinstance(x, Operand) else [x[i] for i in builtins.range(len(x))])
        if any(isinstance(y, Operand) and traced(y) for y in found):
            return functools.reduce(lambda a, b: OPS[join](as_test(a), as_test(b)), found)
        return plain(found)

    return every


def _truth(x: Any = False) -> Any:
    """Python's bool. Of a tensor it asks for the value, as float and int do; it decides nothing that is converted."""
    if isinstance(x, Optional):
        x = x.get()
    if isinstance(x, Operand) and traced(x):
        raise _no_value(x, "bool()")
    return bool(x)


def _length(x: Any) -> Any:
    """Python's len; of a tensor it may be a symbol."""
    reads.length(x)
    return x.shape[0] if isinstance(x, Operand) and x.shape else len(x)


# attributes of arrays that do not depend on their numbers
_OF_TYPE = frozenset(dir(np.ndarray)) & {
    "shape", "ndim", "dtype", "size", "T", "mT", "strides", "nbytes", "itemsize", "flags", "base", "real", "imag",
    "view", "reshape", "ravel", "transpose", "swapaxes", "squeeze", "diagonal",
}  # fmt: skip


def load(x: Any, name: str, *default: Any) -> Any:
    """`x.name`; the functions of properties and `__getattr__` are converted too."""
    if isinstance(x, Operand):
        return getattr(x, name, *default)
    if (number := reads.given("attribute", x, name)) is not None:
        return number
    if type(x) is np.ndarray and name not in _OF_TYPE:
        reads.content(x)
    reads.attribute(x, name)
    of_class = raw(type(x), name)
    if type(of_class) is property and of_class.fget is not None:
        return callee(of_class.fget)(x)
    fallback = raw(type(x), "__getattr__") if of_class is MISSING else None
    if type(fallback) is types.FunctionType and name not in (own_dict(x) or ()):
        try:
            return callee(fallback)(x, name)
        except AttributeError:
            if not default:
                raise
    return getattr(x, name, *default)


def _has(x: Any, name: str) -> bool:
    reads.attribute(x, name)
    return hasattr(x, name)


def assign(x: Any, name: str, value: Any) -> None:
    """What `object.__setattr__` does; setters of the user's are converted."""
    of_class = raw(type(x), name)
    setter = raw(type(of_class), "__set__") if of_class is not MISSING else MISSING
    if type(of_class) is property and of_class.fset is not None:
        callee(of_class.fset)(x, value)
    elif type(setter) is types.FunctionType:
        callee(setter)(of_class, x, value)
    elif isinstance(x, type):
        places.attribute(x, name)
        setattr(x, name, value)
    else:
        places.attribute(x, name)
        object.__setattr__(x, name, value)


_replaced: dict[Any, Callable[..., Any]] = {
    builtins.range: range_, builtins.zip: zip_, builtins.enumerate: enumerate_, creation.range: tensor_range,
    builtins.min: _best("minimum", builtins.min), builtins.max: _best("maximum", builtins.max),
    builtins.print: host.print_python, builtins.any: _every("logical_or", builtins.any),
    builtins.all: _every("logical_and", builtins.all), builtins.bool: _truth,
    builtins.len: _length, builtins.getattr: load, builtins.hasattr: _has,
    builtins.next: hostcalls.following,
}  # fmt: skip
keep: dict[str, Callable[[Any], Any]] = {}


def callee(f: Any) -> Any:
    """The function to call in the place of `f`: converted if it is the user's."""
    if (other := hostcalls.replacement(f)) is not None:
        if type(f) is types.FunctionType and "convert" in keep:
            keep["convert"](f)  # which takes note of why a generator is not converted
        return other
    if type(f) is types.FunctionType:
        if f in _replaced:
            return _replaced[f]
        return keep["convert"](f) if "convert" in keep else f
    if type(f) is types.MethodType and type(f.__func__) is types.FunctionType:
        g = callee(f.__func__)
        return f if g is f.__func__ else types.MethodType(g, f.__self__)
    if isinstance(f, functools.partial):
        g = callee(f.func)
        return f if g is f.func else functools.partial(g, *f.args, **f.keywords)
    if isinstance(f, types.BuiltinFunctionType | type):
        return _replaced.get(f, f)
    if f is object.__setattr__:
        return assign
    if type(f) is types.MethodWrapperType and f.__name__ == "__setattr__" and f.__objclass__ is object:
        return functools.partial(assign, f.__self__)
    call = inspect.getattr_static(type(f), "__call__", None)
    if type(call) is types.FunctionType and "keep" not in type(f).__dict__:
        g = callee(call)
        return f if g is call else types.MethodType(g, f)
    return f


_LOOKING = (_length, load, _has, breakpoint)
_CONSUMERS = {list, tuple, set, frozenset, dict, sum, sorted, zip_, enumerate_, map, filter}
_BY_FRAME = {"inspect", "logging", "pdb", "sys", "traceback", "warnings"}  # what they do depends on who calls


def called(f: Any) -> Any:
    """`callee`, for a call: containers that go to code that is not converted count as read, with all that they hold."""
    g = callee(f)
    h = g.func if isinstance(g, functools.partial) else g
    h = h.__func__ if type(h) is types.MethodType else h
    if not reads.active() or hasattr(h, "ag_original") or hasattr(h, "python_function"):
        return g
    if any(h is x for x in _LOOKING) or getattr(h, "__module__", None) in _BY_FRAME:
        return g

    ours = str(getattr(h, "__module__", None)).startswith("tracejit.")

    def call(*args: Any, **kwargs: Any) -> Any:
        for x in (*args, *kwargs.values()):
            reads.whole(x if ours else reads.content(x))
        if any(g is c for c in _CONSUMERS):
            for x in args:
                hostcalls.check_iterator(x)
        return hostcalls.result(g(*args, **kwargs), args)

    return call


def converted(f: Any) -> Any:
    """Marks a function that stands in converted code."""
    f.ag_original = f
    return f
