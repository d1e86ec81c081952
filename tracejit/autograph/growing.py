"""Lists to which loops and branches add: what they have added, as tensors of rows, until it is known how much it is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

from tracejit.autograph.values import forward_operators
from tracejit.context import context
from tracejit.errors import ConversionError, locate
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.ir.types import int64
from tracejit.ops.found import hits
from tracejit.tensor import convert

MOST = 64  # items that are put into a list before they are asked for


class Stacked:
    """The items that a loop or branch has added, one tensor of rows for each time a step did so.

    With a mask there is one tensor, and its rows where the mask is true are the items.
    """

    __slots__ = ("parts", "mask")
    __tree_fields__ = ("parts", "mask")

    def __init__(self, parts: list[Any], mask: Any = None) -> None:
        self.parts, self.mask = parts, mask

    def __tensor_rows__(self) -> Any:
        """All items along a first axis, in order."""
        first = self.parts[0]
        if self.mask is not None:
            return OPS["gather"](first, hits(self.mask), axis=0)
        if len(self.parts) == 1:
            return first
        rest = tuple(first.shape[1:])
        each = [OPS["reshape"](p, shape=(first.shape[0], 1, *rest)) for p in self.parts]
        return OPS["reshape"](OPS["concat"](*each, axis=1), shape=(first.shape[0] * len(each), *rest))

    def count(self) -> int | None:
        """How many items there are, if that is known."""
        n = self.parts[0].shape[0]
        return n * len(self.parts) if self.mask is None and isinstance(n, int) else None

    def items(self) -> list[Any]:
        rows = self.__tensor_rows__()
        if context.trace is not None:
            context.trace.stacked[rows._a] = rows  # type: ignore[attr-defined]
        return [rows[i] for i in range(self.count() or 0)]


def _used(x: Stacked) -> Any:
    raise refused("items of a list that grows in a loop or branch are used by code that is not converted")


forward_operators(Stacked, _used)


class Wanted(BaseException):
    """A step of a loop reads this many items from the end of a list to which steps add."""

    def __init__(self, before: Before, count: int) -> None:
        self.before, self.count = before, count


class Before:
    """What a list holds when a step of a loop begins: what it held before the loop, and what earlier steps have added.

    `last` are items from its end, which the loop carries.
    """

    __slots__ = ("of", "first", "last")

    def __init__(self, of: Any, first: Sequence[Any], last: Sequence[Any]) -> None:
        self.of, self.first, self.last = of, list(first), list(last)

    def from_end(self, k: int) -> Any:
        if k <= len(self.last):
            return self.last[-k]
        if k > trailing(self.first):
            raise refused("an item of a list to which the steps of a loop add is read in the loop")
        raise Wanted(self, k)


_MARKS = (Stacked, Before)


class _State(threading.local):
    def __init__(self) -> None:
        self.lists: set[int] = set()  # of lists with marks in them


_state = _State()


def refused(what: str) -> ConversionError:
    remedy = "use a tj.TensorArray, or tj.stack the list after the loop"
    return locate(ConversionError(what, remedy=remedy))  # type: ignore[return-value]


def noted(x: Any) -> None:
    """A list has got other contents."""
    if type(x) is list:
        (_state.lists.add if any(isinstance(y, _MARKS) for y in x) else _state.lists.discard)(id(x))


def spread(values: Sequence[Any], most: int = MOST) -> list[Any]:
    """The items one by one, where it is known how many they are."""
    counts = [y.count() for y in values if isinstance(y, Stacked)]
    if None in counts or sum(counts) > most:  # type: ignore[arg-type]
        return list(values)
    return [z for y in values for z in (y.items() if isinstance(y, Stacked) else [y])]


def settled(x: list[Any]) -> bool:
    """Whether all items of a list stand one by one now."""
    x[:] = spread(x, sys.maxsize)
    noted(x)
    return id(x) not in _state.lists


def is_grown(x: Any) -> bool:
    return bool(_state.lists) and type(x) is list and id(x) in _state.lists


def forget() -> None:
    _state.lists = set()


def _leading(x: Sequence[Any]) -> int:
    return next((i for i, y in enumerate(x) if isinstance(y, _MARKS)), len(x))


def trailing(x: Sequence[Any]) -> int:
    """How many items stand one by one at the end."""
    return _leading(list(reversed(x)))


def packed(values: Sequence[Any]) -> tuple[Any, Any]:
    """Items as a tensor of rows, and a mask that says which of them are there."""
    rows, masks = [], []
    for y in values:
        if isinstance(y, Stacked):
            rows.append(y.parts[0] if y.mask is not None else y.__tensor_rows__())
            masks.append(y.mask if y.mask is not None else _filled(True, rows[-1].shape[0]))
        else:
            t = convert(y)
            rows.append(OPS["reshape"](t, shape=(1, *t.shape)))
            masks.append(_filled(True, 1))
    if len(rows) == 1:
        return rows[0], masks[0]
    return OPS["concat"](*rows, axis=0), OPS["concat"](*masks, axis=0)


def padded(rows: Any, mask: Any, n: int) -> tuple[Any, Any]:
    """The same with `n` rows."""
    more = n - rows.shape[0]
    if not more:
        return rows, mask
    zeros = OPS["broadcast_to"](OPS["cast"](0, dtype=rows.dtype), shape=(more, *rows.shape[1:]))
    return OPS["concat"](rows, zeros, axis=0), OPS["concat"](mask, _filled(False, more), axis=0)


def nothing(like: Any) -> tuple[Any, Any]:
    """As many rows as these, none of which is there."""
    zeros = OPS["broadcast_to"](OPS["cast"](0, dtype=like.dtype), shape=tuple(like.shape))
    return zeros, _filled(False, like.shape[0])


def _filled(value: bool, n: Any) -> Any:
    return OPS["broadcast_to"](convert(value), shape=(n,))


def of_steps(rows: Any, mask: Any) -> Stacked:
    """What all steps of a loop have added, from the rows and masks of each."""
    n = product(tuple(rows.shape[:2]))
    return Stacked([OPS["reshape"](rows, shape=(n, *rows.shape[2:]))], OPS["reshape"](mask, shape=(n,)))


# --- what converted code does with such lists -------------------------------------------------------------------------
def _check(x: list[Any]) -> None:
    if any(isinstance(y, Before) for y in x):
        raise refused("a list to which the steps of a loop add is read in the loop")


def rows_of(x: list[Any]) -> Any:
    """All items as one tensor."""
    _check(x)
    every = [y.__tensor_rows__() if isinstance(y, Stacked) else packed([y])[0] for y in x]
    try:
        return OPS["concat"](*every, axis=0) if len(every) > 1 else every[0]
    except Exception:
        raise refused("a list that holds tensors of several kinds grows in a loop or branch") from None


def length(x: list[Any]) -> Any:
    _check(x)
    found: Any = sum(1 for y in x if not isinstance(y, Stacked))
    for y in x:
        if isinstance(y, Stacked) and y.mask is not None:
            n = OPS["reduce_sum"](OPS["cast"](y.mask, dtype=int64), axis=(0,))
            found = found + OPS["cast"](n, dtype=int64, weak=True)
        elif isinstance(y, Stacked):
            found = found + y.parts[0].shape[0] * len(y.parts)
    return found


def item(x: list[Any], key: Any) -> Any:
    """`x[key]`"""
    if type(key) is not int and settled(x):
        return x[key]
    if type(key) is int:
        first, last = _leading(x), trailing(x)
        if -last <= key < first:
            return x[key]
        mark = x[first]
        if isinstance(mark, Before) and key < 0:
            return mark.from_end(-key - last)
        if isinstance(mark, Before) and key < _leading(mark.first):
            return mark.first[key]
    return rows_of(x)[key]


def can_set(x: list[Any], key: Any) -> None:
    """Raises `ConversionError` if an item that does not stand by itself is set."""
    if settled(x):
        return
    if type(key) is not int or not -trailing(x) <= key < _leading(x):
        raise refused("an item of a list that grows in a loop or branch is set")


def can_call(x: list[Any], name: str, args: Sequence[Any]) -> None:
    """Raises `ConversionError` if a method needs all items."""
    if name in ("append", "extend", "clear") or (name == "pop" and not args and trailing(x)):
        return
    if not settled(x):
        raise refused(f"{name}() of a list that grows in a loop or branch")


def whole(x: Any) -> None:
    """All items are read by what takes Python's lists only."""
    if not settled(x):
        _check(x)
        raise refused("a list whose length is known only when the function runs is read as a whole")


class Result:
    """A list that a function returns, and whose length each call finds out."""

    __slots__ = ("list",)

    def __init__(self, x: list[Any]) -> None:
        self.list = x


def results(x: Any) -> Any:
    """What a function returns, with such lists as leaves."""
    if is_grown(x) and not settled(x):
        return Result(list(x))
    if type(x) in (list, tuple) and any(type(y) in (list, tuple, dict) for y in x):
        return type(x)([results(y) for y in x])
    if type(x) is dict and any(type(y) in (list, tuple, dict) for y in x.values()):
        return {k: results(y) for k, y in x.items()}
    return x
