"""Items of what converted code assigns to: containers and arrays change, a tensor's name gets a new tensor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autograph import aliases, arrays, places
from tracejit.autograph.backcalls import key as as_key
from tracejit.autograph.calls import load
from tracejit.autograph.choices import each_way, for_each
from tracejit.autograph.chosen import Chosen, refused
from tracejit.autograph.protocols import IN_PLACE, in_place
from tracejit.autograph.ranges import known_number
from tracejit.autograph.values import Optional, Undefined, several
from tracejit.context import context
from tracejit.errors import AliasError, ControlFlowError, UnsupportedError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ops.assign import traced_mask
from tracejit.ops.setitem import single_flag, with_item
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import flatten

Step = tuple[bool, Any]  # an attribute and its name, or an item and its key
_count = threading.local()
asks: dict[str, Callable[..., Any]] = {}  # "item", "set_attribute", "put_item": those of `operators`


class Changed:
    """Elements that only the running program can read, and what they become: those where a traced mask is true, and
    those of arrays from outside."""

    __slots__ = ("of", "op", "value")

    def __init__(self, of: Any, op: str = "", value: Any = None) -> None:
        self.of, self.op, self.value = of, op, value


def item_to_change(x: Any, key: Any) -> Any:
    """`x[key]`, of which `x[key] op= value` follows."""
    masked = type(x) is Tensor and (traced_mask(key) is not None or single_flag(key) is not None)
    if masked or (isinstance(x, np.ndarray) and arrays.from_outside(x)):
        return Changed(x)
    return asks["item"](x, key)


def changed(op: str, x: Any, value: Any) -> Any:
    """What `x op= value` gives the target."""
    return Changed(x.of, op, value) if type(x) is Changed else in_place(op, x, value)


def part_to_change(x: Any, path: Sequence[Step]) -> Any:
    """What is at the end of a path, of which `… op= value` follows."""
    for step in path[:-1]:
        x = _followed(x, step)
    key = path[-1][1]
    return item_to_change(x, key)


def _followed(x: Any, step: Step) -> Any:
    x = x.get() if type(x) is Optional else x
    is_attribute, key = step
    return load(x, key) if is_attribute else asks["item"](x, key)


def store(
    x: Any, path: Sequence[Step], value: Any, name: str, said: str, pending: Sequence[str] = (), outer: bool = False
) -> Any:
    """`x… = value` at the end of a path. Gives what the name of `x` holds then: something else if `x` is a tensor.

    `name` is "" if `x` has none that can be given another value, and `outer` says that it is declared global or
    nonlocal; `said` is what the user calls what is assigned to, `pending` are names of values that are assigned next.
    """
    if type(x) is Undefined:
        raise locate(x.fail())
    if type(x) is Optional:
        x = x.get()
    owners = [x]
    for i, step in enumerate(path[:-1]):
        if type(owners[-1]) is Chosen:
            _store_each(owners[-1], path[i:], value, said, pending)
            return x
        owners.append(_followed(owners[-1], step))
    if type(owners[-1]) is Chosen:
        _store_each(owners[-1], path[-1:], value, said, pending)
        return x
    if several.there and any(type(k) is Chosen for k in _keys(path)):
        return each_way(
            lambda *keys: store(x, _with_keys(path, keys), value, name, said, pending, outer), _keys(path), {}
        )
    owner, key = owners[-1], as_key(path[-1][1])
    if type(value) is Changed and isinstance(value.of, np.ndarray):
        arrays.later(value.of, f"{value.op}=", key, value.value)
        return x
    if name and len(path) == 1 and _becomes_tensor(x, key, value):
        _check_alone(x, None, name, said, pending)
        _check_loops(x, key, said)
        return _with_item(convert(x), key, value)
    first = next((i for i, o in enumerate(owners) if type(o) is Tensor), None)
    if first is None:
        asks["put_item"](owner, key, value)
        return x
    _check_views(path[first:], said)
    if not first and not outer:
        _check_own(x, said)
    _check_alone(owners[first], _place(owners[first - 1], path[first - 1][1]) if first else None, name, said, pending)
    keys = [k for _, k in path[first:]]
    _check_loops(owners[first], keys[0], said)
    if len(keys) > 1 and all(map(_is_place, keys)):  # x[i][j] is x[i, j]
        value = _with_item(owners[first], tuple(keys), value)
    else:
        for o, k in zip(reversed(owners[first:]), reversed(keys), strict=True):
            value = _with_item(o, k, value)
    if first:
        _put(owners[first - 1], path[first - 1], value)
        return x
    if not name:
        raise locate(_nameless(said))
    return value


def _store_each(x: Chosen, path: Sequence[Step], value: Any, said: str, pending: Sequence[str]) -> None:
    """The same for what a tensor chooses: each that it may be."""

    def of_one(v: Any) -> None:
        if isinstance(v, Operand):
            raise refused(x, "has tensors among them, an item of which is assigned")
        store(v, path, value, "", said, pending)

    for_each(x, of_one)


def _keys(path: Sequence[Step]) -> list[Any]:
    """The keys in the brackets of a path, those of tuples one by one."""
    return [k for dot, key in path if not dot for k in (key if type(key) is tuple else (key,))]


def _with_keys(path: Sequence[Step], keys: Sequence[Any]) -> list[Step]:
    """The path with other keys."""
    it = iter(keys)
    return [
        (dot, key if dot else tuple([next(it) for _ in key]) if type(key) is tuple else next(it)) for dot, key in path
    ]


def _is_place(key: Any) -> bool:
    """Whether a key is one integer."""
    if isinstance(key, Operand):
        return not key.ndim and key.dtype.kind in "iu"
    return type(key) is int or isinstance(key, (np.integer, Dim))


def _place(owner: Any, key: Any) -> aliases.Place:
    negative = isinstance(owner, (list, tuple)) and type(key) is int and key < 0
    return id(owner), key + len(owner) if negative else key


def _put(owner: Any, step: Step, value: Tensor) -> None:
    """A tensor has taken the place of another in an object or container."""
    is_attribute, key = step
    if is_attribute:
        asks["set_attribute"](owner, key, value)
    else:
        asks["put_item"](owner, key, value)


def _becomes_tensor(x: Any, key: Any, value: Any) -> bool:
    """Whether an array that the function has made is to hold what only the program knows."""
    if type(x) is not np.ndarray or x.dtype.kind not in "biufc" or places.listener() is None or not arrays.is_own(x):
        return False
    traced = any(isinstance(y, Operand) and type(y._a) is Value for y in flatten([key, value])[0])
    return traced or not places.is_born(arrays.root(x))


def count() -> int:
    """How often items of tensors have been assigned in this thread."""
    return getattr(_count, "now", 0)


def _with_item(x: Any, key: Any, value: Any) -> Tensor:
    _count.now = count() + 1
    if type(value) is Changed:
        return with_item(x, key, value.value, IN_PLACE[value.op])
    return aliases.alone(with_item(x, key, value), value)  # one item may be all of it


def _check_views(path: Sequence[Step], said: str) -> None:
    """Between the brackets there may be only what gives a part of the tensor's own memory in NumPy."""
    for is_attribute, key in path[:-1]:
        parts = key if type(key) is tuple else (key,)
        if is_attribute or any(isinstance(k, (list, np.ndarray)) or (isinstance(k, Operand) and k.ndim) for k in parts):
            raise locate(
                ControlFlowError(
                    f"{said}[…] is assigned, which is a copy of elements, or an attribute of a tensor",
                    remedy="give the elements a name, assign to their items, and assign them where they belong",
                )
            )


def _check_own(x: Tensor, said: str) -> None:
    if context.trace is not None and type(x._a) is not Value:
        raise locate(
            ControlFlowError(
                f"items of {said!r} are assigned, a tensor from outside the function: tensors do not change",
                remedy=f"make it a tj.Variable, or assign to the items of a copy: tj.identity({said})",
            )
        )


def _check_alone(x: Any, where: aliases.Place | None, name: str, said: str, pending: Sequence[str]) -> None:
    other = aliases.holder(x, where, name, pending)
    if other is not None:
        raise locate(
            AliasError(
                f"items of {said!r} are assigned, and {other}, which is used later, is the same tensor or a view of it:"
                " in Python it would change too",
                remedy=f"let one of them be a copy, where it gets its value: tj.identity({said})",
            )
        )


def _check_loops(x: Any, key: Any, said: str) -> None:
    """A loop has its rows from before it began: of what it goes through only rows that it has had may change."""
    row = key[0] if type(key) is tuple and key else key
    row = known_number(row) if isinstance(row, Operand) and not row.ndim and row.dtype.kind in "iu" else row
    had = isinstance(row, (int, np.integer)) and not isinstance(row, bool) and row == 0  # for it is asked in the first
    if any(not had or y._a is not x._a for y in aliases.gone_through(x)):
        raise locate(
            AliasError(
                f"items of {said!r} are assigned in a loop through its rows: in Python the loop would see that",
                remedy=f"loop over a copy, tj.identity({said}), or over tj.range(len({said}))",
            )
        )


def _nameless(said: str) -> UnsupportedError:
    return UnsupportedError(
        f"items of {said!r} are assigned, a tensor that no variable of this function holds",
        remedy="give it a name in this function, or use tj.tensor_scatter_nd_update or a tj.Variable",
    )

