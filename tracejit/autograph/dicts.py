"""Dicts that have some of their keys in some runs only: branches and loops have set them."""

from __future__ import annotations

from typing import Any

from tracejit.autograph import growing
from tracejit.autograph.values import Optional
from tracejit.errors import ConversionError, locate
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_, int64

ABSENT: Any = object()


def refused(what: str) -> ConversionError:
    remedy = "set the same keys in all branches, and before a loop"
    return locate(ConversionError(f"{what}, some keys of which are there in some runs only", remedy))  # type: ignore[return-value]


def _flag(x: dict[Any, Any], key: Any) -> Any:
    """Whether a key is there: True or False, or a tensor."""
    value = x.get(key, ABSENT)
    return value.flag if type(value) is Optional and not value.none else value is not ABSENT


def item(x: dict[Any, Any], key: Any) -> Any:
    """`x[key]`"""
    value = x[key]
    if type(value) is not Optional or value.none:
        return value
    OPS["check"](value.flag, error="KeyError", message=str(key).replace("{", "{{").replace("}", "}}"))
    return value.value


def got(x: dict[Any, Any], key: Any) -> tuple[Any, Any]:
    """Whether a key is there, and what is there if so."""
    flag = _flag(x, key)
    value: Any = x.get(key)
    return flag, value if type(flag) is bool else value.value


def contains(x: dict[Any, Any], key: Any) -> Any:
    flag = _flag(x, key)
    return flag if type(flag) is bool else OPS["cast"](flag, dtype=bool_, weak=True)


def length(x: dict[Any, Any]) -> Any:
    found: Any = 0
    for k in x:
        flag = _flag(x, k)
        found = found + (1 if type(flag) is bool else OPS["cast"](flag, dtype=int64, weak=True))
    return found


def set_item(x: dict[Any, Any], key: Any, value: Any) -> None:
    x[key] = value
    growing.noted(x)


def delete_item(x: dict[Any, Any], key: Any) -> None:
    item(x, key)
    del x[key]
    growing.noted(x)


def can_call(name: str) -> None:
    """Raises `ConversionError` if a method needs to know which keys are there."""
    if name not in ("update", "clear"):
        raise refused(f"{name}() of a dict")
