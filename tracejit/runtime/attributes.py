"""Attributes, methods and protocols of Tensor and Variable that native code takes over from their Python functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracejit.ops.assign import SLICE_METHODS
from tracejit.publicnames import OTHERS
from tracejit.runtime import layout
from tracejit.runtime.cfunctions import getter, method
from tracejit.runtime.reading import GETTERS, METHODS, SLOTS
from tracejit.runtime.variables import PARTS
from tracejit.tensor import Operand, Tensor, Variable

# Python's protocols, each with the number of its slot in the stable ABI, and where a class has it: in which of its
# tables, at which place.
PROTOCOLS: Final = {
    "__bool__": (9, layout.TYPE_NUMBERS, 72),
    "__float__": (11, layout.TYPE_NUMBERS, 144),
    "__index__": (13, layout.TYPE_NUMBERS, 264),
    "__int__": (26, layout.TYPE_NUMBERS, 128),
    "__len__": (45, layout.TYPE_SEQUENCE, 0),
    "__getitem__": (5, layout.TYPE_MAPPING, 8),
}
# How Python calls methods: with nothing, with one argument, with arrays of arguments and of names.
_NO_ARGUMENTS, _ONE_ARGUMENT, _ANY_ARGUMENTS = 4, 8, 0x82
# What there is to take over: classes, names, and the exports that do it.
_TAKEN: Final = (
    *[(Operand, n, f"get_{n}") for n in GETTERS], *[(Operand, n, n) for n in METHODS],
    (Operand, "__getitem__", "getitem"), (Variable, "__getitem__", "part"), (Operand, "__array_ufunc__", "array_ufunc"),
    (Operand, "__array__", "array_method"), *[(Tensor, n, f"get_{n}") for n in PARTS],
)  # fmt: skip
_BEFORE: Final[dict[str, Any]] = {export: vars(cls)[name] for cls, name, export in _TAKEN}
_OWN: Final = {n: vars(Operand)[n] for n in SLOTS}
EXPORTS: Final = (*_BEFORE, *SLOTS)


def python_functions() -> dict[str, Callable[..., Any]]:
    """The Python functions, by the names under which native code calls them where it is not simple."""
    found = {export.removeprefix("get_"): x for export, x in _BEFORE.items()}
    slices = {f"tj_slice_{n}": SLICE_METHODS[n] for n in PARTS}
    return {f"tj_python_{n}": getattr(x, "fget", x) for n, x in found.items()} | slices


def is_own(cls: type, name: str, given: Mapping[tuple[type, str], Any]) -> bool:
    """Whether a protocol's method of a class is the one that native code stands for; `given` are native methods."""
    found = inspect.getattr_static(cls, name, None)
    own = _BEFORE["part"] if name == "__getitem__" and cls is Variable else _OWN[name]
    native = given.get((Variable if own is _BEFORE["part"] else Operand, name))
    return found is own or (native is not None and found is native)


class Attributes:
    """What has been put into the classes in the place of Python's properties and methods."""

    def __init__(self) -> None:
        self.given: dict[tuple[type, str], Any] = {}
        self._told = False

    def install(self, addresses: Mapping[str, int]) -> None:
        """Put native functions where the Python functions are still what they were, or where older ones are."""
        for cls, name, export in _TAKEN:
            before = _BEFORE[export]
            if vars(cls).get(name) is not self.given.get((cls, name), before):
                continue  # somebody gave the class another meanwhile
            made = self._made(cls, name, addresses[export], before)
            self.given[cls, name] = made
            setattr(cls, name, made)
        if not self._told:
            self._told = True
            for cls in (Tensor, Variable):
                OTHERS.extend((f"{cls.__name__}.{n}", _BEFORE[n]) for n in METHODS)

    @staticmethod
    def _made(cls: type, name: str, address: int, before: Any) -> Any:
        doc = inspect.getdoc(before) or ""
        if isinstance(before, property):
            return getter(cls, name, address, doc)
        if name in METHODS:
            return method(cls, name, address, _NO_ARGUMENTS, f"{name}($self, /)\n--\n\n{doc}")
        if name in ("__array_ufunc__", "__array__"):
            return method(cls, name, address, _ANY_ARGUMENTS, doc)
        return method(cls, name, address, _ONE_ARGUMENT, f"{name}($self, key, /)\n--\n\n{doc}")
