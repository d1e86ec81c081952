"""Python's isinstance and issubclass: of numbers that are inputs, and by classes that say what is theirs."""

from __future__ import annotations

import builtins
import types
import typing
from collections.abc import Iterator
from typing import Any

from tracejit.autograph import backcalls, places, reads, specials
from tracejit.autograph.calls import LOOKING, callee, own_method, replace
from tracejit.ir.dim import Dim
from tracejit.ops.host import python_kind
from tracejit.tensor import Operand, Tensor


def python_type(x: Any) -> type | None:
    """The type of the number that a traced value or a size stands for; None for what is no number of Python's."""
    return python_kind(x) if isinstance(x, Operand) else int if type(x) is Dim else None


def _each(kinds: Any) -> Iterator[Any]:
    if isinstance(kinds, tuple | types.UnionType):
        for k in kinds if isinstance(kinds, tuple) else kinds.__args__:
            yield from _each(k)
    else:
        yield kinds


def _is_instance(x: Any, kinds: Any) -> bool:
    """Python's isinstance; numbers that are inputs are of Python's types."""
    if type(x) is Tensor and not isinstance(x, kinds):
        places.assigned(x)  # which may stand for a Variable
    kind = python_type(x)
    if kind is not None:
        return _is_subclass(kind, kinds)
    reads.kind(x)
    every = list(_each(kinds))
    reads.related(type(x), every)
    for k in every:
        for name in _asked_of(k):
            reads.attribute(x, name)
    if any(own_method(k, "__instancecheck__") for k in every):
        return any(_says(k, "__instancecheck__", x, type(x) is k, isinstance) for k in every)
    return isinstance(x, kinds)


def _is_subclass(cls: Any, kinds: Any) -> bool:
    """Python's issubclass."""
    every = list(_each(kinds))
    if isinstance(cls, type):
        reads.related(cls, every)
    if any(own_method(k, "__subclasscheck__") for k in every):
        return any(_says(k, "__subclasscheck__", cls, False, issubclass) for k in every)
    return issubclass(cls, kinds)


def _says(kind: Any, name: str, x: Any, known: bool, plain: Any) -> bool:
    """What the user's class of a class says to it."""
    own = own_method(kind, name)
    return known or bool(plain(x, kind) if own is None else callee(own)(kind, x))


def _asked_of(kind: Any) -> Any:
    """The attributes that a protocol looks for in an object."""
    if not getattr(kind, "_is_runtime_protocol", False):
        return ()
    return getattr(kind, "__protocol_attrs__", None) or typing._get_protocol_attrs(kind)  # type: ignore[attr-defined]


def _type(*args: Any) -> Any:
    """Python's type."""
    kind = python_type(args[0]) if len(args) == 1 else None
    if len(args) == 1:
        reads.kind(args[0])
    elif len(args) == 3 and isinstance(args[1], tuple) and isinstance(args[2], dict):
        return backcalls.calling_back(specials.of_bases(args[1], map(type, args[2].values())), type, *args, ag_but=type)
    return type(*args) if kind is None else kind


for _plain, _own in ((builtins.isinstance, _is_instance), (builtins.type, _type), (builtins.issubclass, _is_subclass)):
    replace(_plain, _own)
    LOOKING.append(_own)
