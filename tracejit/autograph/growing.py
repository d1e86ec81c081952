"""Lists to which loops and branches add: what they have added, as tensors of rows, until it is known how much it is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

from tracejit.autograph.values import Optional, forward_operators, uneven
from tracejit.context import context
from tracejit.errors import ConversionError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.ir.types import DType, bool_, float32, float64, int32, int64
from tracejit.ops.found import as_number, hits
from tracejit.ops.host import python_kind
from tracejit.tensor import Operand, common_dtype, convert
from tracejit.tree import LEAF, Structure, unflatten

MOST = 64  # items that are put into a list before they are asked for


class Stacked:
    """The items that a loop or branch has added, one tensor of rows for each time a step did so.

    With a mask there is one tensor, and its rows where the mask is true are the items. `kind` is the type of Python's
    that all items have, which are as precise as Python has them; None for tensors.
    """

    __slots__ = ("parts", "mask", "kind")
    __tree_fields__ = ("parts", "mask", "kind")

    def __init__(self, parts: list[Any], mask: Any = None, kind: type | None = None) -> None:
        self.parts, self.mask, self.kind = parts, mask, kind

    def __tensor_rows__(self) -> Any:
        """All items along a first axis, in order, as operations take them."""
        return of_kind(self.exact_rows(), self.kind)

    def exact_rows(self) -> Any:
        """The same, of Python's numbers in the widest types."""
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
        rows = self.exact_rows()
        if context.trace is not None:
            context.trace.stacked[rows._a] = rows  # type: ignore[attr-defined]
        return [one_of_kind(rows[i], self.kind) for i in range(self.count() or 0)]


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


class Pile:
    """All items of a list to which steps of a loop add and from which they take: the first `count` rows of buffers.

    There is a buffer for each leaf of an item. `kinds` are the types of Python's that their items have, None for
    tensors; `structure` is None as long as no item is known. `room` says what the loop at hand adds. Lists from whose
    front items are taken have a `first`: theirs are the rows from there on, and after the last row those at the start.
    """

    __slots__ = ("rows", "count", "first", "kinds", "structure", "room")

    def __init__(
        self, rows: list[Any], count: Any, kinds: tuple[type | None, ...], structure: Structure | None,
        room: Any = None, first: Any = None,
    ) -> None:  # fmt: skip
        self.rows, self.count, self.first = rows, count, first
        self.kinds, self.structure, self.room = kinds, structure, room

    def but(self, rows: list[Any], count: Any, first: Any = None) -> Pile:
        """Other rows of the same types."""
        return Pile(rows, count, self.kinds, self.structure, self.room, self.first if first is None else first)

    def tensors(self) -> list[Any]:
        return [*self.rows, self.count, *([] if self.first is None else [self.first])]

    def of_tensors(self, values: Sequence[Any]) -> Pile:
        """The same of other tensors."""
        k = len(self.rows)
        return self.but(list(values[:k]), values[k], values[k + 1] if k + 1 < len(values) else None)

    def place(self, i: Any) -> Any:
        """In which row the item stands with this number."""
        if self.first is None:
            return i
        n = OPS["cast"](convert(self.room_for()), dtype=int64)
        at = OPS["add"](self.first, i)
        return OPS["where"](OPS["less"](at, n), at, OPS["sub"](at, n))

    def straight(self) -> Pile:
        """The same with its items in the first rows."""
        if self.first is None:
            return self
        at = self.place(OPS["iota"](shape=(self.room_for(),), axis=0, dtype=int64))
        rows = [OPS["gather"](r, at, axis=0) for r in self.rows]
        return self.but(rows, self.count, OPS["cast"](convert(0), dtype=int64))

    def room_for(self) -> Any:
        """How many items the buffers are long enough for."""
        return self.rows[0].shape[0] if self.rows else 0

    def stacked(self) -> Stacked:
        """The items as those of other lists that grow."""
        if self.structure != LEAF:
            raise refused("all items of a list that grows and shrinks in a loop are read")
        each = OPS["iota"](shape=(self.room_for(),), axis=0, dtype=int64)
        return Stacked(self.straight().rows, OPS["less"](each, self.count), self.kinds[0])


forward_operators(Pile, _used)


def is_pile(x: Any) -> bool:
    """Whether a list's items are a pile."""
    return type(x) is list and len(x) == 1 and type(x[0]) is Pile


def one_by_one(x: Sequence[Any]) -> list[Any]:
    return [y.stacked() if type(y) is Pile else y for y in x]


_MARKS = (Stacked, Before, Pile)
_NUMBERS = (bool, int, float, complex)
WIDE: dict[Any, Any] = {int: int64, float: float64, bool: bool_}


class _State(threading.local):
    def __init__(self) -> None:
        self.lists: set[int] = set()  # of lists with marks in them, and of dicts that perhaps have some keys


_state = _State()


def refused(what: str) -> ConversionError:
    error = ConversionError(what, remedy="use a tj.TensorArray, or tj.stack the list after the loop")
    error.of_lists = True
    return locate(error)  # type: ignore[return-value]


def noted(x: Any) -> None:
    """A list or dict has got other contents."""
    if type(x) is list:
        (_state.lists.add if any(isinstance(y, _MARKS) for y in x) else _state.lists.discard)(id(x))
    elif isinstance(x, dict):
        partial = any(type(y) is Optional and not y.none for y in x.values())
        (_state.lists.add if partial else _state.lists.discard)(id(x))
    elif isinstance(x, list) and any(isinstance(y, _MARKS) for y in x):
        raise refused(f"a {type(x).__name__} grows in a loop or branch, and is read afterwards")


def unflattened(s: Structure, leaves: Sequence[Any]) -> Any:
    """A nest in which lists may have grown."""
    made = unflatten(s, leaves)
    if _state.lists:
        _note_all(made)
    return made


def _note_all(x: Any) -> None:
    if isinstance(x, (list, tuple, dict)):
        noted(x)
        for y in x.values() if isinstance(x, dict) else x:
            _note_all(y)


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


def is_partial(x: Any) -> bool:
    """Whether a dict has some of its keys in some runs only."""
    return bool(_state.lists) and isinstance(x, dict) and id(x) in _state.lists


def bounded(x: Stacked) -> bool:
    """Whether it is known how many rows there are at most."""
    return all(isinstance(p.shape[0], int) for p in x.parts)


def forget() -> None:
    _state.lists = set()
    uneven.there = False


def leading(x: Sequence[Any]) -> int:
    return next((i for i, y in enumerate(x) if isinstance(y, _MARKS)), len(x))


def trailing(x: Sequence[Any]) -> int:
    """How many items stand one by one at the end."""
    return leading(list(reversed(x)))


# --- Python's numbers -------------------------------------------------------------------------------------------------
def kind_of(values: Sequence[Any]) -> type | None:
    """The type of Python's that all items have; None if one is a tensor, or if they differ."""
    kinds = {_kind(y) for y in values}
    return kinds.pop() if len(kinds) == 1 else None


def _kind(y: Any) -> type | None:
    if isinstance(y, Pile):
        return y.kinds[0] if y.structure == LEAF else None
    if isinstance(y, _MARKS):
        return y.kind if isinstance(y, Stacked) else kind_of([*y.first, *y.last])  # type: ignore[union-attr]
    if isinstance(y, Operand):
        return python_kind(y)
    return int if type(y) is Dim else type(y) if type(y) in WIDE else None


def common(values: Sequence[Any]) -> DType | None:
    """The dtype of items some of which are tensors, to which Python's numbers give way; None if none is."""
    each = [(y.kind(0) if y.kind else y.parts[0]) if isinstance(y, Stacked) else y for y in one_by_one(values)]
    if not each or not all(isinstance(y, (*_NUMBERS, Operand)) or type(y) is Dim for y in each):
        return None
    dtype, weak = common_dtype([as_number(y) if type(y) is Dim else y for y in each])
    return None if weak else dtype


def _as(rows: Any, dtype: DType | None) -> Any:
    return rows if dtype is None or rows.dtype is dtype else OPS["cast"](rows, dtype=dtype)


def exactly(y: Any, kind: type | None) -> Any:
    """An item as a tensor, which holds one of Python's numbers as precisely as Python does."""
    return convert(y) if kind is None else OPS["cast"](y, dtype=WIDE[kind])


def of_kind(rows: Any, kind: type | None) -> Any:
    """Python's numbers in the dtype that they have among tensors."""
    return rows if kind in (None, bool) else OPS["cast"](rows, dtype=int32 if kind is int else float32)


def one_of_kind(x: Any, kind: type | None) -> Any:
    return x if kind is None else OPS["cast"](x, dtype=WIDE[kind], weak=True)


def packed(values: Sequence[Any], kind: type | None = None, dtype: DType | None = None) -> tuple[Any, Any]:
    """Items as a tensor of rows, and a mask that says which of them are there. `kind` is that of all of them, `dtype`
    that of tensors among others."""
    rows, masks = [], []
    dtype = common(values) if kind is None and dtype is None else dtype
    for y in one_by_one(values):
        if isinstance(y, Stacked):
            whole = y.exact_rows() if kind else y.__tensor_rows__()
            whole = whole if y.mask is None else y.parts[0] if kind else of_kind(y.parts[0], y.kind)
            rows.append(_as(whole, dtype))
            masks.append(y.mask if y.mask is not None else _filled(True, rows[-1].shape[0]))
        else:
            t = exactly(y, kind) if dtype is None else OPS["cast"](y, dtype=dtype)
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


def of_steps(rows: Any, mask: Any, kind: type | None) -> Stacked:
    """What all steps of a loop have added, from the rows and masks of each."""
    n = product(tuple(rows.shape[:2]))
    return Stacked([OPS["reshape"](rows, shape=(n, *rows.shape[2:]))], OPS["reshape"](mask, shape=(n,)), kind)


# --- what converted code does with such lists -------------------------------------------------------------------------
def _check(x: list[Any]) -> None:
    if any(isinstance(y, Before) for y in x):
        raise refused("a list to which the steps of a loop add is read in the loop")


def rows_of(x: list[Any]) -> Any:
    """All items as one tensor."""
    return of_kind(exact_rows(x), kind_of(x))


def exact_rows(x: list[Any]) -> Any:
    """The same, of Python's numbers in the widest types if all are of one type."""
    _check(x)
    kind = kind_of(x)
    x = one_by_one(x)
    dtype = None if kind else common(x)
    every = [
        packed([y], kind, dtype)[0] if not isinstance(y, Stacked)
        else y.exact_rows() if kind else _as(y.__tensor_rows__(), dtype)
        for y in x
    ]  # fmt: skip
    try:
        return OPS["concat"](*every, axis=0) if len(every) > 1 else every[0]
    except Exception:
        raise refused("a list that holds tensors of several kinds grows in a loop or branch") from None


def length(x: list[Any]) -> Any:
    _check(x)
    if is_pile(x):
        return OPS["cast"](x[0].count, dtype=int64, weak=True)
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
        first, last = leading(x), trailing(x)
        if -last <= key < first:
            return x[key]
        mark = x[first]
        if isinstance(mark, Before) and key < 0:
            return mark.from_end(-key - last)
        if isinstance(mark, Before) and key < leading(mark.first):
            return mark.first[key]
    return one_of_kind(exact_rows(x)[key], kind_of(x))


def can_call(x: list[Any], name: str) -> None:
    """Raises `ConversionError` if a method needs all items."""
    if name not in ("append", "extend", "clear") and not settled(x):
        raise refused(f"{name}() of a list that grows in a loop or branch")


def whole(x: Any) -> None:
    """All items are read by what takes Python's lists only."""
    if not settled(x):
        _check(x)
        raise refused("a list whose length is known only when the function runs is read as a whole")


def has_grown(x: Any) -> bool:
    """Whether there is such a list among nested lists, tuples and dicts."""
    if not _state.lists:
        return False
    every = x if isinstance(x, (list, tuple)) else x.values() if isinstance(x, dict) else ()
    return is_grown(x) or is_partial(x) or any(map(has_grown, every))
