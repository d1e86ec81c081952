"""What Python does with lists, for those whose length is known only when the program runs: their items as rows."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from tracejit.autograph import growing, piles, places
from tracejit.autograph.growing import Stacked
from tracejit.autograph.ranges import TensorRange, counted
from tracejit.context import context
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_, int64
from tracejit.ops import array
from tracejit.ops.args import as_axis
from tracejit.ops.found import is_open
from tracejit.tensor import Operand, Tensor, convert

OPEN: Any = object()  # what is given back for what stays Python's own


# --- rows -------------------------------------------------------------------------------------------------------------
def _number(x: Any) -> Tensor:
    return OPS["cast"](convert(x), dtype=int64)  # type: ignore[no-any-return]


def _count(rows: Any) -> Tensor:
    return _number(rows.shape[0])


def _numbers(n: Any) -> Tensor:
    """0, 1, … n - 1, none if `n` is negative."""
    return OPS["count_up"](OPS["maximum"](n, 0), size=fresh())  # type: ignore[no-any-return]


def _taken(rows: Any, at: Any) -> Tensor:
    return OPS["gather"](rows, at, axis=0)  # type: ignore[no-any-return]


def _become(x: list[Any], rows: Any, kind: type | None) -> None:
    x[:] = [Stacked([rows], None, kind)]
    growing.noted(x)


def listed(rows: Any, kind: type | None = None) -> list[Any]:
    """A new list of all rows."""
    new: list[Any] = places.made([Stacked([rows], None, kind)])
    growing.noted(new)
    return new


def index(key: Any, n: Tensor, error: str) -> Tensor:
    """A position counted from the start, which is checked to be one of the list's."""
    i = _number(key)
    i = OPS["where"](OPS["less"](i, 0), OPS["add"](i, n), i)
    ok = OPS["logical_and"](OPS["greater_equal"](i, 0), OPS["less"](i, n))
    OPS["check"](ok, error="OutOfRangeError", message=error)
    return i


def _bound(value: Any, n: Tensor, low: int, high: Any, absent: Any) -> Any:
    """A bound of a slice as Python clips it."""
    if value is None:
        return absent
    v = _number(value)
    v = OPS["where"](OPS["less"](v, 0), OPS["add"](v, n), v)
    return OPS["minimum"](OPS["maximum"](v, low), high)


def sliced(x: list[Any], key: slice) -> list[Any]:
    """`x[a:b:c]`"""
    if growing.is_pile(x):
        return piles.sliced(x[0], key)
    if (known := _known_part(x, key)) is not None:
        return places.made(known)  # type: ignore[no-any-return]
    rows, kind = growing.exact_rows(x), growing.kind_of(x)
    step = 1 if key.step is None else operator.index(key.step)
    if key.start is None and key.stop is None and step in (1, -1):
        return listed(rows if step == 1 else rows[::-1], kind)
    n = _count(rows)
    last = OPS["sub"](n, 1)
    low, high = (0, n) if step > 0 else (-1, last)
    start = _bound(key.start, n, low, high, 0 if step > 0 else last)
    stop = _bound(key.stop, n, low, high, n if step > 0 else -1)
    far = OPS["sub"](stop, start) if step > 0 else OPS["sub"](start, stop)
    count = OPS["floordiv"](OPS["add"](far, abs(step) - 1), abs(step))
    return listed(_taken(rows, OPS["add"](start, OPS["mul"](_numbers(count), step))), kind)


def _known_part(x: list[Any], key: slice) -> list[Any] | None:
    """What a slice gives of items that stand one by one; None if there may be others among them."""
    if not all(type(k) in (int, type(None)) for k in (key.start, key.stop, key.step)):
        return None
    first = x[: growing.leading(x)]
    if (key.start or 0) >= 0 and key.stop is not None and 0 <= key.stop <= len(first) and (key.step or 1) > 0:
        return first[key]
    last = x[len(x) - growing.trailing(x) :]
    if key.start is not None and -len(last) <= key.start < 0 and (key.stop is None or key.stop < 0):
        return last[key] if (key.step or 1) > 0 else None
    return None


def _without(rows: Any, i: Any, n: Tensor) -> Tensor:
    at = _numbers(OPS["sub"](n, 1))
    return _taken(rows, OPS["add"](at, OPS["cast"](OPS["greater_equal"](at, i), dtype=int64)))


def _equal_rows(rows: Any, value: Any) -> Tensor:
    hit = OPS["equal"](rows, value)
    return OPS["reduce_all"](hit, axis=tuple(range(1, len(hit.shape)))) if len(hit.shape) > 1 else hit  # type: ignore[no-any-return]


# --- items ------------------------------------------------------------------------------------------------------------
def set_item(x: list[Any], key: Any, value: Any) -> None:
    """`x[key] = value`"""
    if growing.is_pile(x):
        piles.set_item(x, key, value)
        return
    if growing.settled(x) or (type(key) is int and -growing.trailing(x) <= key < growing.leading(x)):
        x[key] = value
        return
    rows = growing.exact_rows([*x, value])
    n = OPS["sub"](_count(rows), 1)
    i = index(key, n, "list assignment index out of range")
    at = _numbers(n)
    _become(x, _taken(rows, OPS["where"](OPS["equal"](at, i), n, at)), growing.kind_of([*x, value]))


def delete_item(x: list[Any], key: Any) -> None:
    """`del x[key]`"""
    if growing.is_pile(x):
        piles.delete_item(x, key)
        return
    if growing.settled(x) or type(key) is slice:
        growing.whole(x)
        del x[key]
    else:
        _pop(x, key, "list assignment index out of range")


# --- methods ----------------------------------------------------------------------------------------------------------
def _pop(x: list[Any], i: Any = None, error: str = "pop index out of range") -> Any:
    if i is None and growing.trailing(x):
        value = x.pop()
        growing.noted(x)
        return value
    rows, kind = growing.exact_rows(x), growing.kind_of(x)
    n = _count(rows)
    at = index(-1 if i is None else i, n, "pop from empty list" if i is None else error)
    value = growing.one_of_kind(_taken(rows, at), kind)
    _become(x, _without(rows, at, n), kind)
    return value


def _reverse(x: list[Any]) -> None:
    _become(x, growing.exact_rows(x)[::-1], growing.kind_of(x))


def _insert(x: list[Any], i: Any, value: Any) -> None:
    rows = growing.exact_rows([*x, value])
    n = OPS["sub"](_count(rows), 1)
    i = _bound(i, n, 0, n, 0)
    at = _numbers(OPS["add"](n, 1))
    later = OPS["sub"](at, OPS["cast"](OPS["greater"](at, i), dtype=int64))
    _become(x, _taken(rows, OPS["where"](OPS["equal"](at, i), n, later)), growing.kind_of([*x, value]))


def _place(x: list[Any], value: Any, error: str) -> tuple[Any, Tensor]:
    """The rows, and the first that equals a value, of which there is to be one."""
    rows = growing.exact_rows(x)
    hit = _equal_rows(rows, value)
    OPS["check"](OPS["reduce_any"](hit, axis=(0,)), error="ArgumentError", message=error)
    at = OPS["where"](hit, OPS["iota"](shape=(rows.shape[0],), axis=0, dtype=int64), _count(rows))
    return rows, OPS["reduce_min"](at, axis=(0,))


def _position(x: list[Any], value: Any) -> Any:
    return OPS["cast"](_place(x, value, "the value is not in the list")[1], dtype=int64, weak=True)


def _remove(x: list[Any], value: Any) -> None:
    rows, i = _place(x, value, "list.remove(x): x not in list")
    _become(x, _without(rows, i, _count(rows)), growing.kind_of(x))


def _times(x: list[Any], value: Any) -> Any:
    hits = OPS["cast"](_equal_rows(growing.exact_rows(x), value), dtype=int64)
    return OPS["cast"](OPS["reduce_sum"](hits, axis=(0,)), dtype=int64, weak=True)


def _sort(x: list[Any], *, reverse: bool = False) -> None:
    _become(x, _in_order(growing.exact_rows(x), reverse), growing.kind_of(x))


_METHODS: dict[str, Callable[..., Any]] = {
    "pop": _pop, "reverse": _reverse, "insert": _insert, "index": _position, "remove": _remove, "count": _times,
    "sort": _sort, "copy": lambda x: added(x, []),
}  # fmt: skip


def method(x: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """What a method of the list does; None if Python's own does it."""
    if growing.is_pile(x) and name in piles.METHODS:
        return piles.METHODS[name]
    shrinks = name in ("insert", "pop", "reverse") and growing.is_grown(x) and not growing.settled(x)
    if shrinks and piles.becomes_pile(x):
        return piles.METHODS[name]
    if name in ("append", "extend", "clear") or name not in _METHODS or growing.settled(x):
        return None
    if set(kwargs) - {"reverse"} or (name == "index" and len(args) > 1):
        raise growing.refused(f"{name}() of a list that grows in a loop or branch")
    return _METHODS[name]


def bound(x: list[Any], name: str) -> Callable[..., Any] | None:
    """A method that does not change the list, as it is taken from it."""
    if name not in ("index", "count", "copy") or growing.settled(x):
        return None
    return lambda *args, **kwargs: method(x, name, args, kwargs)(x, *args, **kwargs)  # type: ignore[misc]


# --- functions --------------------------------------------------------------------------------------------------------
def added(x: Any, y: Any) -> Any:
    """`x + y` of lists, of which one at least has grown."""
    if growing.is_pile(x) or growing.is_pile(y):
        return piles.added(x, y)
    new = places.made([*x, *y])
    growing.noted(new)
    return new


def contains(rows: Any, value: Any) -> Any:
    """Whether one of the rows equals the value."""
    return OPS["cast"](OPS["reduce_any"](_equal_rows(rows, value), axis=(0,)), dtype=bool_, weak=True)


def _in_order(rows: Any, reverse: bool) -> Any:
    if len(rows.shape) != 1 or type(reverse) is not bool:
        raise growing.refused("a list of tensors that grows in a loop or branch is sorted")
    return _taken(rows, OPS["argsort"](rows, axis=0, descending=reverse))


def _summed(rows: Any, kind: type | None, start: Any = 0) -> Any:
    return start + growing.one_of_kind(OPS["reduce_sum"](rows, axis=(0,)), int if kind is bool else kind)


_TAKING: dict[Any, Callable[..., Any]] = {
    builtins.list: listed, builtins.reversed: lambda rows, kind: listed(rows[::-1], kind), builtins.sum: _summed,
    builtins.sorted: lambda rows, kind, reverse=False: listed(_in_order(rows, reverse), kind),
}  # fmt: skip


def _joined(rows: Any, axis: Any) -> Any:
    """What `concat` makes of the items."""
    shape = tuple(rows.shape)
    at = as_axis(axis, len(shape) - 1)
    perm = (*range(1, at + 1), 0, *range(at + 1, len(shape)))
    merged = (*shape[1 : at + 1], shape[0] * shape[at + 1], *shape[at + 2 :])
    return OPS["reshape"](OPS["transpose"](rows, perm=perm), shape=merged)


def _added_up(rows: Any, *_: Any) -> Any:
    return OPS["reduce_sum"](rows, axis=(0,))


def _refused(rows: Any, *_: Any, **__: Any) -> Any:
    raise growing.refused("a list of tensors that grows in a loop or branch goes to a function of lists")


# this package's functions to which a list of tensors is something else than the tensor of its rows
OF_LISTS: dict[str, Callable[..., Any]] = {
    "add_n": _added_up, "accumulate_n": _added_up, "concat": lambda rows, axis, *_: _joined(rows, axis),
    "stack": lambda rows, axis=0, *_: array.moveaxis(rows, 0, axis) if axis else rows, "global_norm": _refused,
    "clip_by_global_norm": _refused, "dynamic_stitch": _refused,
}  # fmt: skip
_EAGER = {"accumulate_n": "add_n"}  # what errors call it


def of_list(f: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What such a function makes of a list that has grown, or OPEN."""
    every = (*args, *kwargs.values())
    if getattr(f, "__name__", "") not in OF_LISTS:
        return OPEN
    if not any(growing.is_grown(x) and not growing.settled(x) for x in every):
        return OPEN
    if not args or not growing.is_grown(args[0]) or set(kwargs) - {"axis", "name"}:
        return OPEN if f.__name__ == "stack" else _refused(None)
    more = [kwargs["axis"]] if "axis" in kwargs else []
    rows = growing.rows_of(args[0])
    _check_not_empty(f.__name__, rows)
    return OF_LISTS[f.__name__](rows, *args[1:], *more)


def _check_not_empty(name: str, rows: Any) -> None:
    n = rows.shape[0]
    if isinstance(n, Dim) and n.compare(0, ">") is not True:
        some = OPS["greater"](_count(rows), 0)
        OPS["check"](some, error="ArgumentError", message=f"{_EAGER.get(name, name)} needs one tensor or more")


def consumed(f: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What one of Python's functions makes of a list or tensor of so many rows as only the program knows, or OPEN."""
    if not args or context.trace is None or set(kwargs) - {"reverse", "start"}:
        return OPEN
    if not isinstance(f, Hashable) or f not in _TAKING:
        return OPEN
    x = args[0]
    if growing.is_grown(x) and not growing.settled(x):
        return _TAKING[f](growing.exact_rows(x), growing.kind_of(x), *args[1:], **kwargs)
    if isinstance(x, TensorRange):
        rows = counted(x)
        return _TAKING[f](_number(rows) if x.python else rows, int if x.python else None, *args[1:], **kwargs)
    if isinstance(x, Operand) and x.shape and is_open(x.shape[0]):
        return _TAKING[f](x, None, *args[1:], **kwargs)
    return OPEN
