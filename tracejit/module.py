"""Module: an object whose attributes hold Variables and other Modules, which it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tracejit.autograph import reads
from tracejit.errors import ArgumentError, locate
from tracejit.framework import name_scope
from tracejit.runtime.guards import own_dict
from tracejit.tensor import Variable

F = TypeVar("F", bound=Callable[..., Any])
_CONTAINERS = (list, tuple, dict)
_PLAIN = (str, bytes, int, float, complex, type(None), type)


class Module:
    """The base of layers and models: finds what its attributes hold, in lists, tuples and dicts too.

    Variables come in the order of the attributes' names, those of Modules within after the Module's own. A traced
    function that asks for them is traced anew when an attribute or container that was looked at has changed.
    """

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not name.isidentifier():
            raise locate(ArgumentError(f"the name of a Module is an identifier, not {name!r}"))
        self._name = name or _snake(type(self).__name__)

    @property
    def name(self) -> str:
        """The given name, or the class's in lower case."""
        return self.__dict__.get("_name") or _snake(type(self).__name__)

    @property
    def name_scope(self) -> name_scope:
        """`tj.name_scope` of this name: Variables keep the names that they are given."""
        return name_scope(self.name)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All Variables of this Module and those within."""
        return tuple(x for x in _found(self) if isinstance(x, Variable))

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        """Those that tapes watch."""
        return tuple(v for v in self.variables if v.trainable)

    @property
    def non_trainable_variables(self) -> tuple[Variable, ...]:
        """Those that tapes do not watch unasked."""
        return tuple(v for v in self.variables if not v.trainable)

    @property
    def submodules(self) -> tuple[Module, ...]:
        """All Modules within this one."""
        return tuple(x for x in _found(self) if isinstance(x, Module))

    @classmethod
    def with_name_scope(cls, method: F) -> F:
        """The method itself: what is made in it keeps the name that it is given."""
        return method


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _natural(name: str) -> list[Any]:
    """Numbers in names count as numbers: layer2 comes before layer10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _found(module: Module) -> Iterator[Variable | Module]:
    """Variables and Modules, each once: the Module's own, then those of the Modules within."""
    seen = {id(module)}
    todo = [module]
    while todo:
        within: list[Module] = []
        for x in _own(todo.pop(0), seen):
            yield x
            if isinstance(x, Module):
                within.append(x)
        todo[:0] = within


def _own(module: Module, seen: set[int]) -> Iterator[Variable | Module]:
    attributes = own_dict(module) or {}
    reads.names(module)
    for name in sorted(attributes, key=_natural):
        x = attributes[name]
        if not isinstance(x, _PLAIN):
            reads.attribute(module, name)
            yield from _leaves(x, seen)


def _leaves(x: Any, seen: set[int]) -> Iterator[Variable | Module]:
    if id(x) in seen:
        return
    seen.add(id(x))
    if isinstance(x, (Variable, Module)):
        yield x
    elif isinstance(x, _CONTAINERS):
        keys = _in_order(x) if isinstance(x, dict) else range(len(x))
        held = [k for k in keys if isinstance(x[k], (Variable, Module, *_CONTAINERS))]
        if held or not x:  # where there are only numbers, say losses, the next ones are of no concern
            reads.length(x)
        for k in held:
            reads.item(x, k)
            yield from _leaves(x[k], seen)


def _in_order(x: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(x)
    except TypeError:
        return list(x)


__all__ = ["Module"]
