"""What a variable holds while functions are traced when no single value will do: nothing yet, or perhaps something."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.errors import ControlFlowError, Location, UnsetAttributeError, UnsetError, locate, user_frame
from tracejit.ir.op import OPS
from tracejit.ops.regions import RETURNED


class Name(str):
    """A variable's name, with the line where a branch or loop sets it; 0 if unknown."""

    __slots__ = ("line",)
    line: int

    def at(self, loc: Location | None) -> Location | None:
        """Where it is set, in the file of this location."""
        return Location(loc.file, self.line, loc.function) if loc is not None and self.line else loc


class Contents(str):
    """What a container is called that branches or loops change: their values are what it holds, and not itself."""

    __slots__ = ()


class Kept(str):
    """What an attribute or global is called: that it is None, and that it is not there, are two things."""

    __slots__ = ()


def names(*given: tuple[str, int]) -> tuple[Name, ...]:
    out = []
    for name, line in given:
        out.append(Name(name))
        out[-1].line = line
    return tuple(out)


def set_at(name: str, loc: Location | None) -> Location | None:
    return name.at(loc) if isinstance(name, Name) else loc


def unset_kind(name: str) -> type[ControlFlowError]:
    """The error for a use of what has no value, which is that of plain Python too."""
    return UnsetAttributeError if type(name) is Kept and "." in name else UnsetError


class Undefined:
    """A variable without a value. Any use is an error that names it."""

    __slots__ = ("name", "loc")

    def __init__(self, name: str, loc: Location | None = None) -> None:
        self.name, self.loc = name, loc

    def fail(self) -> ControlFlowError:
        where = f" (set only in a branch or loop at {self.loc})" if self.loc is not None else ""
        return unset_kind(self.name)(f"{self.name!r} is used before it has a value{where}")

    def __repr__(self) -> str:
        return f"<{self.name} without a value>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise locate(self.fail())


def told_where(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Variables after a loop without a step: of those without a value it is known where a step would have set them."""
    at = user_frame()
    unset = [type(x) is Undefined and x.loc is None for x in values]
    return [Undefined(x.name, set_at(n, at)) if u else x for u, x, n in zip(unset, values, names, strict=True)]


class Optional:
    """A variable that has a value on some paths only: `flag`, a 0-d bool, says whether; else it is None or unset."""

    __slots__ = ("name", "flag", "value", "none", "loc")

    def __init__(self, name: str, flag: Any, value: Any, none: bool, loc: Location | None) -> None:
        self.name, self.flag, self.value, self.none, self.loc = name, flag, value, none, loc

    def get(self) -> Any:
        """The value, which is checked to be there when the program runs."""
        absent = "None" if self.none else "without a value"
        where = f"; it is set at {self.loc}" if self.loc is not None else ""
        used = user_frame()
        OPS["check"](
            self.flag, error="ControlFlowError" if self.none else unset_kind(self.name).__name__,
            message=f"{self.name!r} is used at {used} where it is {absent}{where}".replace("{", "{{")
            .replace("}", "}}"),
        )  # fmt: skip
        return self.value

    def __tensor__(self) -> Any:
        return self.get()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.get(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.get()[key]

    def __iter__(self) -> Any:
        return iter(self.get())

    def __repr__(self) -> str:
        return f"<{self.name}, perhaps without a value>"


def is_none(name: str, *values: Any) -> bool:
    """Whether a variable that has no value is None. What is returned is set wherever a function returns."""
    none = [v is None or (type(v) is Optional and v.none) for v in values]
    unset = any(type(v) is Undefined or (type(v) is Optional and not v.none) for v in values)
    return any(none) if name == RETURNED else not unset


def no_value_of(name: str, x: Any, y: Any) -> Any:
    """What stands for two values that are both None or unset."""
    return None if name == RETURNED and is_none(name, x, y) else x


class _Uneven(threading.local):
    there = False  # whether the trace at hand has values of two shapes


uneven = _Uneven()


class _Several(threading.local):
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.there = False  # whether the trace at hand has values of which a tensor chooses one
        self.facts: dict[Any, tuple[Any, frozenset[int]]] = {}  # tests: which index they ask for, and what is true
        self.known: dict[Any, frozenset[int]] = {}  # what indices may be in the branch at hand


several = _Several()


class Either:
    """What a loop leaves that may end in a step where a tensor has another shape: `flag`, a 0-d bool, says which of two
    values it is. Calls, operators and items are those of both, in branches; all else raises `error`.
    """

    __slots__ = ("flag", "first", "second", "error", "when")

    def __init__(self, flag: Any, first: Any, second: Any, error: ControlFlowError, when: dict[str, Any]) -> None:
        self.flag, self.first, self.second, self.error, self.when = flag, first, second, error, when
        uneven.there = True

    def where_none(self, flags: Sequence[str]) -> Any:
        """What is left of it where none of these flags is set; `when` says which are, for both values."""
        for n in flags:
            if n in self.when:
                left = self.second if self.when[n][0] else self.first
                return left.where_none(flags) if type(left) is Either else left
        return self

    def fail(self, *_: Any) -> Any:
        raise self.error

    __tensor__ = __iter__ = __len__ = __bool__ = __float__ = __int__ = __index__ = __format__ = fail
    __copy__ = __deepcopy__ = __reduce_ex__ = fail

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.fail()

    def __getitem__(self, key: Any) -> Any:
        return self.fail()


def forward_operators(cls: type, get: Callable[[Any], Any]) -> None:
    """Give a class that stands for a value the operators of what `get` makes of its objects."""

    def left(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda self, other: f(get(self), other)

    def right(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda self, other: f(other, get(self))

    def alone(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda self: f(get(self))

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
        f, plain = getattr(operator, name), name.rstrip("_")
        setattr(cls, f"__{plain}__", left(f))
        setattr(cls, f"__r{plain}__", right(f))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(cls, f"__{name}__", left(getattr(operator, name)))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(cls, f"__{name}__", alone(getattr(operator, name)))
    cls.__hash__ = object.__hash__  # type: ignore[method-assign, assignment]


forward_operators(Optional, Optional.get)
forward_operators(Either, Either.fail)
