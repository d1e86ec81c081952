"""Which public function a call of this package is, and with what: the head of an error's message."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from tracejit.errors import TracejitError, describe_call
from tracejit.ir.dim import Dim
from tracejit.ir.op import Op
from tracejit.ir.sizes import shown
from tracejit.ir.types import DType, TensorType, as_dtype, show_shape
from tracejit.operand import Tensor
from tracejit.variable import Variable

_MODULES = (
    "", "math", "math.special", "nn", "linalg", "random", "bitwise", "debugging", "nest", "optimizers", "signal",
    "sparse", "train", "mixed_precision",
)  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, slice)
_LONGEST = 40  # characters of one argument
_NUMBERS = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}

_known: dict[CodeType, list[tuple[str, FunctionType]]] = {}
_seen: dict[str, int] = {}  # how many names of each module are in `_known`
# Methods that are installed, and functions that stand in the place of public ones, by the names that users write
OTHERS: list[tuple[str, Any]] = []


def _functions() -> Iterator[tuple[str, Any]]:
    """What is public and loaded, by the names that users write, of modules where something was loaded since."""
    for module in _MODULES:
        file = module.removeprefix("math.")  # `math.special` is the module `special`
        place = sys.modules.get(f"tracejit.{file}" if file else "tracejit")
        loaded = vars(place) if place is not None else {}
        if _seen.get(module, 0) == len(loaded):
            continue
        _seen[module] = len(loaded)
        head = f"tj.{module}." if module else "tj."
        for name in loaded.get("__all__") or list(loaded):
            x = loaded.get(name)  # what is not there yet has not been called
            if isinstance(x, FunctionType) and not name.startswith("_"):
                yield head + name, x
            elif isinstance(x, type) and x.__module__.startswith("tracejit.") and not issubclass(x, BaseException):
                for method, f in [(m, f) for c in x.__mro__ for m, f in vars(c).items()]:
                    f = f.__func__ if isinstance(f, (staticmethod, classmethod)) else f
                    if isinstance(f, FunctionType) and (method == "__init__" or not method.startswith("_")):
                        yield name if method == "__init__" else f"{x.__name__}.{method}", f


def _found(code: CodeType, values: dict[str, Any]) -> list[tuple[str, FunctionType]]:
    """The public functions that run this code, with their names. Those made by one function differ in their cells."""
    new = [*_functions(), *OTHERS[_seen.get("others", 0) :]]
    _seen["others"] = len(OTHERS)
    for name, f in new:
        f = getattr(f, "__wrapped__", f)
        if isinstance(f, FunctionType) and (name, f) not in _known.setdefault(f.__code__, []):
            _known[f.__code__].append((name, f))
    return [(n, f) for n, f in _known.get(code, ()) if all(values.get(v) is x for v, x in _cells(f))]


def _cells(f: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # empty
            pass


def call_of(frame: FrameType, line: str) -> str:
    """The public function whose frame it is, with its arguments; "" for any other."""
    code, values = frame.f_code, frame.f_locals
    if code.co_name == "__array_function__" and "func" in values:
        given = [*map(shown_value, values["args"]), *(f"{k}={shown_value(x)}" for k, x in values["kwargs"].items())]
        return f"np.{values['func'].__name__}({', '.join(given)})"
    found = _found(code, values)
    if not found:
        return _operator(code, values)
    written = set(re.findall(r"\w+", line))
    owners = [c.__name__ for c in type(values.get("self")).__mro__]  # a method of many classes is its object's

    def fits(x: tuple[str, FunctionType]) -> tuple[int, int]:
        owner = x[0].partition(".")[0]
        return len(written.intersection(re.findall(r"\w+", x[0]))), -owners.index(owner) if owner in owners else -99

    name, f = max(found, key=fits)
    return f"{name}({', '.join(_arguments(f, code, values))})"


def _operator(code: CodeType, values: dict[str, Any]) -> str:
    """An operator of Python's, with its operands as they were given; "" for anything else."""
    op = values.get("op")
    if not isinstance(op, Op) or code.co_name != "f":
        return ""
    names = ("x", "y") if "x" in values else ("other", "self")
    return f"{op.name}({', '.join([shown_value(values[n]) for n in names if n in values])})"


def _arguments(f: FunctionType, code: CodeType, values: dict[str, Any]) -> Iterator[str]:
    """The arguments that are not the defaults, by name, with the types of tensors."""
    count = code.co_argcount + code.co_kwonlyargcount
    defaults = inspect.signature(f).parameters
    for name in code.co_varnames[:count]:
        x = values.get(name)
        default = defaults[name].default if name in defaults else None
        if name not in ("self", "cls", "name") and not (x is default or (type(x) in _PLAIN and x == default)):
            yield f"{name}={shown_value(x)}"
    if code.co_flags & inspect.CO_VARARGS:
        yield from map(shown_value, values.get(code.co_varnames[count], ()))


def shown_value(x: Any) -> str:
    """An argument in a few characters: of a tensor its dtype and shape, of a number its value."""
    text = _shown(x)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _shown(x: Any) -> str:
    if type(x) is Tensor or isinstance(x, Variable):
        t = x.type
        return f"a Python {_NUMBERS[t.dtype.kind]}" if t.weak and not t.shape else str(t.strong())
    if isinstance(x, (np.ndarray, np.generic)):
        try:
            return str(TensorType(as_dtype(x.dtype), x.shape))
        except TracejitError:
            return f"{x.dtype}{show_shape(x.shape)}"
    if type(x) in _PLAIN or x is None or x is Ellipsis:
        return repr(x)
    if isinstance(x, DType):
        return repr(x)
    if type(x) is Dim:
        return shown(x)
    if type(x) in (list, tuple):
        inside = ", ".join(map(_shown, x[:6])) + (", …" if len(x) > 6 else "")
        return f"[{inside}]" if type(x) is list else f"({inside}{',' if len(x) == 1 else ''})"
    return x.__name__ if isinstance(x, (FunctionType, type)) else f"a {type(x).__name__}"


describe_call[:] = [call_of]
