"""Lists that loops both add to and take from: their items as rows of buffers that are long enough, and a length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import growing, places
from tracejit.autograph.effects import follow
from tracejit.autograph.growing import Pile, exactly, is_pile, one_of_kind, refused
from tracejit.errors import Abandoned, LeakedTensorError
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.types import DType, int8, int64
from tracejit.ops.regions import is_value
from tracejit.tensor import Operand, common_dtype, convert
from tracejit.tree import LEAF, flatten, unflatten


class Retyped(Abandoned):
    """Items of other types are added to a list of this room: its buffers need other dtypes."""

    def __init__(self, room: Room, like: Pile) -> None:
        self.room, self.like = room, like


class Room:
    """What the steps of one loop add to one list: `pushes` is how many items a step adds at most.

    `around` is the room of the same list in the loop around this one. `mixed` says that the list has been given items
    of a list of another room, so that the steps before do not tell how many it has.
    """

    def __init__(self, around: Room | None) -> None:
        self.around = around
        self.pushes: int | Dim = 0
        self.most: int | Dim = 0
        self.mixed = False

    def outermost(self) -> Room:
        return self if self.around is None else self.around.outermost()


# --- making them ------------------------------------------------------------------------------------------------------
def _number(x: Any) -> Any:
    return OPS["cast"](convert(x), dtype=int64)


def _typed(leaf: Any, dtype: DType | None, kind: type | None) -> tuple[DType, type | None]:
    """The dtype, and the type of Python's if all have one, of items of this dtype and kind and of one more."""
    more = growing.kind_of([leaf])
    if dtype is None:
        return exactly(leaf, more).dtype, more
    if more is kind and kind is not None:
        return dtype, kind
    here: Any = OPS["cast"](0, dtype=dtype, weak=True) if kind is not None else OPS["cast"](0, dtype=dtype)
    found, weak = common_dtype([here, leaf])
    kinds: dict[str, type] = {"b": bool, "i": int, "f": float}
    if not weak:
        return found, None
    return growing.WIDE[kinds[found.kind]], kinds[found.kind]


def pile_of(items: Sequence[Any], like: Pile | None = None, more: Any = 0) -> Pile | None:
    """The items with room for `more` of them; None where they are not all tensors or numbers of the same nesting."""
    if len(items) == 1 and type(items[0]) is Pile:
        return items[0]
    if any(type(x) is growing.Stacked for x in items):
        return _compact(items) if like is None or like.structure == LEAF else None
    every = [flatten(x) for x in items]
    structure = like.structure if like is not None else every[0][1] if every else None
    if any(s != structure for _, s in every) or not all(is_value(v) for leaves, _ in every for v in leaves):
        return None
    if structure is None:
        return Pile([], _number(0), (), None, None)
    for x in items:
        _is_copied(x)
    columns = list(zip(*[leaves for leaves, _ in every], strict=True)) or [() for _ in range(structure.leaves)]
    rows, kinds = [], []
    for i, column in enumerate(columns):
        dtype, kind = (like.rows[i].dtype, like.kinds[i]) if like is not None else (None, None)
        for v in column:
            dtype, kind = _typed(v, dtype, kind)
        assert dtype is not None
        ts = [OPS["cast"](exactly(v, kind), dtype=dtype) for v in column]
        if len({tuple(t.shape) for t in ts}) > 1 or (like is not None and ts and not _fits(ts[0], like.rows[i])):
            return None
        shape = tuple(ts[0].shape) if ts else tuple(like.rows[i].shape)[1:]  # type: ignore[union-attr]
        parts = [OPS["reshape"](t, shape=(1, *shape)) for t in ts]
        if more or not parts:
            zero = OPS["cast"](0, dtype=dtype)
            parts.append(OPS["broadcast_to"](zero, shape=(more or 1, *shape)))
        rows.append(OPS["concat"](*parts, axis=0) if len(parts) > 1 else parts[0])
        kinds.append(kind)
    return Pile(rows, _number(len(items)), tuple(kinds), structure, None)


def _fits(t: Any, rows: Any) -> bool:
    return tuple(t.shape) == tuple(rows.shape)[1:]


def _compact(items: Sequence[Any]) -> Pile | None:
    """Items of which some are there perhaps, one after the other."""
    if not all(is_value(x) or type(x) is growing.Stacked for x in items):
        return None
    kind = growing.kind_of(items)
    rows, mask = growing.packed(items, kind)
    first = OPS["argsort"](OPS["cast"](OPS["logical_not"](mask), dtype=int8), axis=0, descending=False)
    count = OPS["reduce_sum"](OPS["cast"](mask, dtype=int64), axis=(0,))
    return Pile([OPS["gather"](rows, first, axis=0)], count, (kind,), LEAF, None)


def become_piles(lists: Sequence[list[Any]], examples: dict[int, list[Any]]) -> bool:
    """Turn the items of lists into piles; whether that could be done for one at least that was none before."""
    done = False
    for x in lists:
        if is_pile(x) or any(type(y) is growing.Before for y in x):
            continue
        example = examples.get(id(x))
        try:
            made = pile_of(growing.spread(x), _like(example) if example and not x else None)
        except LeakedTensorError:  # it was made in the step that was traced for nothing
            made = None
        if made is not None:
            places.remember(places.Items(x))
            change(x, made)
            done = True
    return done


def becomes_pile(x: list[Any]) -> bool:
    """Turn a list that a branch or step takes from into a pile, so that what is left has a known size at most."""
    listener = places.listener()
    bounded = all(growing.bounded(y) for y in x if type(y) is growing.Stacked)
    return listener is not None and listener.elsewhere and bounded and become_piles([x], {})


def _like(example: list[Any]) -> Pile | None:
    """A pile of no items that has the types of some."""
    first = example[0]
    if type(first) is growing.Stacked:
        (part, *_), kinds, structure = first.parts, (first.kind,), LEAF
        return Pile([_none_of(tuple(part.shape)[1:], part.dtype)], _number(0), kinds, structure, None)
    if not all(map(is_value, flatten(first)[0])):
        return None
    leaves, structure = flatten(first)
    typed = [_typed(v, None, None) for v in leaves]
    rows = [_none_of(_shape(v), d) for v, (d, _) in zip(leaves, typed, strict=True)]
    return Pile(rows, _number(0), tuple([k for _, k in typed]), structure, None)


def _shape(x: Any) -> tuple[Any, ...]:
    return tuple(x.shape) if isinstance(x, Operand) else tuple(convert(x).shape)


def _none_of(shape: tuple[Any, ...], dtype: DType, n: Any = 1) -> Any:
    return OPS["broadcast_to"](OPS["cast"](0, dtype=dtype), shape=(n, *shape))


def change(x: list[Any], pile: Pile) -> None:
    """Let a list hold these items."""
    list.__setitem__(x, slice(None), [pile])
    growing.noted(x)


def listed(*items: Any) -> list[Any]:
    """A new list of these items."""
    new: list[Any] = places.made([*items])
    growing.noted(new)
    return new


def longer(p: Pile, more: Any) -> Pile:
    """The same with room for more items."""
    p = p.straight()
    return p.but([OPS["concat"](r, _none_of(tuple(r.shape)[1:], r.dtype, more), axis=0) for r in p.rows], p.count)


def joins(p: Pile, room: Room, n: int) -> None:
    """A new pile of n items takes the place of another in a step of a loop."""
    p.room, room.pushes = room, room.pushes + n


def mixes(*rooms: Room | None) -> None:
    """Lists of these rooms are given items of each other, or of other piles."""
    for r in rooms:
        while r is not None:
            r.mixed, r = True, r.around


def common(p: Pile, q: Pile) -> Pile | None:
    """A pile with the types that hold the items of both; None if there are none."""
    if p.structure is None or q.structure is None:
        return q if p.structure is None else p
    if p.structure != q.structure or any(_shape(r)[1:] != _shape(s)[1:] for r, s in zip(p.rows, q.rows, strict=True)):
        return None
    each = zip(p.rows, p.kinds, q.rows, q.kinds, strict=True)
    typed = [_typed(one_of_kind(OPS["cast"](0, dtype=s.dtype), j), r.dtype, k) for r, k, s, j in each]
    rows = [_none_of(_shape(r)[1:], d) for r, (d, _) in zip(p.rows, typed, strict=True)]
    return Pile(rows, p.count, tuple([k for _, k in typed]), p.structure, None, q.first if p.first is None else p.first)


def agreed(p: Pile, like: Pile) -> Pile:
    """A pile with the types of another one."""
    first = p.first if p.first is not None or like.first is None else _number(0)
    if p.structure is None:
        rows = [_none_of(_shape(r)[1:], r.dtype) for r in like.rows]
        return Pile(rows, p.count, like.kinds, like.structure, p.room, first)
    rows = [OPS["cast"](r, dtype=s.dtype) for r, s in zip(p.rows, like.rows, strict=True)]
    return Pile(rows, p.count, like.kinds, p.structure, p.room, first)


# --- items ------------------------------------------------------------------------------------------------------------
def _at(p: Pile, key: Any, error: str) -> Any:
    """A position counted from the start, which is checked to be one of the list's."""
    _typed_at_all(p)
    i = _number(key)
    i = OPS["where"](OPS["less"](i, 0), OPS["add"](i, p.count), i)
    ok = OPS["logical_and"](OPS["greater_equal"](i, 0), OPS["less"](i, p.count))
    OPS["check"](ok, error="OutOfRangeError", message=error)
    return i


def _last(p: Pile, error: str) -> Any:
    _typed_at_all(p)
    OPS["check"](OPS["greater"](p.count, 0), error="OutOfRangeError", message=error)
    return OPS["sub"](p.count, 1)


def _typed_at_all(p: Pile) -> None:
    if p.structure is None:
        raise refused("an item of a list is read before one is added")


def row_of(p: Pile, at: Any) -> Any:
    """The item in a row."""
    assert p.structure is not None
    at = p.place(at)
    leaves = [one_of_kind(OPS["gather"](r, at, axis=0), k) for r, k in zip(p.rows, p.kinds, strict=True)]
    value = unflatten(p.structure, leaves)
    _is_copied(value, True)
    return value


def _is_copied(x: Any, new: bool = False) -> None:
    """Let it be known that containers in an item and in the pile are no longer one."""
    _, structure = flatten(x)
    if structure.kind is None:
        return
    if structure.kind is not tuple:
        places.is_copied(places.made(x) if new else x)
    for k in structure.keys:
        _is_copied(follow(x, (k,)), new)


def _leaves(p: Pile, value: Any) -> list[Any]:
    """The parts of an item in the types of the pile."""
    leaves, structure = flatten(value)
    if structure != p.structure or not all(map(is_value, leaves)):
        raise refused("a list that grows and shrinks in a loop holds items of several kinds")
    _is_copied(value)
    out, wanted = [], []
    for v, r, k in zip(leaves, p.rows, p.kinds, strict=True):
        dtype, kind = _typed(v, r.dtype, k)
        wanted.append((dtype, kind))
        if dtype is r.dtype and kind is k:
            t = OPS["cast"](exactly(v, k), dtype=dtype)
            if not _fits(t, r):
                raise refused("a list that grows and shrinks in a loop holds tensors of several shapes")
            out.append(t)
    if len(out) < len(leaves):
        if p.room is None:
            raise refused("a list that grows and shrinks in a loop holds items of several kinds")
        rows = [_none_of(_shape(v), d) for v, (d, _) in zip(leaves, wanted, strict=True)]
        like = Pile(rows, None, tuple([k for _, k in wanted]), structure, None, p.first)
        raise Retyped(p.room.outermost(), like)
    return out


def _put(p: Pile, at: Any, leaves: Sequence[Any]) -> list[Any]:
    at = p.place(at)
    return [OPS["put"](r, at, t, axis=0) for r, t in zip(p.rows, leaves, strict=True)]


def item(x: list[Any], key: Any) -> Any:
    """`x[key]`"""
    (p,) = x
    if type(key) is slice:
        return sliced(p, key)
    error = "list index out of range"
    return row_of(p, _last(p, error) if type(key) is int and key == -1 else _at(p, key, error))


def set_item(x: list[Any], key: Any, value: Any) -> None:
    """`x[key] = value`"""
    (p,) = x
    error = "list assignment index out of range"
    at = _last(p, error) if type(key) is int and key == -1 else _at(p, key, error)
    change(x, p.but(_put(p, at, _leaves(p, value)), p.count))


def delete_item(x: list[Any], key: Any) -> None:
    """`del x[key]`"""
    if type(key) is slice:
        (p,) = x
        if (key.stop, key.step) != (None, None) or key.start is None:
            raise refused("a slice of a list that grows and shrinks in a loop is deleted")
        change(x, _kept(p, slice(None, key.start)))
    else:
        _pop(x, key, "list assignment index out of range")


def _moved(p: Pile, at: Any) -> list[Any]:
    return [OPS["gather"](r, at, axis=0) for r in p.rows]


def _numbers(p: Pile) -> Any:
    return OPS["iota"](shape=(p.room_for(),), axis=0, dtype=int64)


def sliced(p: Pile, key: slice) -> list[Any]:
    return listed(_kept(p, key))


def _kept(p: Pile, key: slice) -> Pile:
    """What a slice in steps of 1 or -1 leaves."""
    _typed_at_all(p)
    p = p if key.step is None and key.start is None else p.straight()
    step = 1 if key.step is None else key.step
    if type(step) is not int or step not in (1, -1) or (step == -1 and (key.start, key.stop) != (None, None)):
        raise refused("a slice of a list that grows and shrinks in a loop is taken in steps")
    if step == -1:
        return p.but(_moved(p, OPS["maximum"](OPS["sub"](OPS["sub"](p.count, 1), _numbers(p)), 0)), p.count)
    start, stop = (_bound(v, p.count, absent) for v, absent in ((key.start, 0), (key.stop, p.count)))
    count = OPS["maximum"](OPS["sub"](stop, start), 0)
    if key.start is None or (type(key.start) is int and key.start == 0):
        return p.but(p.rows, count)
    last = OPS["sub"](_number(p.room_for()), 1)
    return p.but(_moved(p, OPS["minimum"](OPS["add"](_numbers(p), start), last)), count)


def _bound(value: Any, n: Any, absent: Any) -> Any:
    if value is None:
        return _number(absent)
    v = _number(value)
    v = OPS["where"](OPS["less"](v, 0), OPS["add"](v, n), v)
    return OPS["minimum"](OPS["maximum"](v, 0), n)


# --- methods ----------------------------------------------------------------------------------------------------------
def _append(x: list[Any], value: Any) -> None:
    (p,) = x
    if p.structure is None:
        made = pile_of([value])
        if made is None:
            raise refused("a list that grows and shrinks in a loop holds what is no tensor")
        made.room = p.room
        if p.room is None:
            change(x, made)
            return
        raise Retyped(p.room.outermost(), made)
    leaves = _leaves(p, value)
    if p.room is None:
        p = longer(p, 1)
    else:
        p.room.pushes = p.room.pushes + 1
    change(x, p.but(_put(p, p.count, leaves), OPS["add"](p.count, 1)))


def extend(x: list[Any], values: Any) -> None:
    """`x.extend(values)`"""
    if not isinstance(values, (list, tuple)) or growing.is_grown(values):
        raise refused("what is added to a list that grows and shrinks in a loop is of no known length")
    for v in list(values):
        _append(x, v)


def _pop(x: list[Any], key: Any = -1, error: str = "pop index out of range") -> Any:
    (p,) = x
    if type(key) is int and key == -1:
        at = _last(p, "pop from empty list")
        change(x, p.but(p.rows, at))
        return row_of(p, at)
    if type(key) is int and key == 0:
        return _pop_first(x, p)
    p = p.straight()
    at = _at(p, key, error)
    value, each = row_of(p, at), _numbers(p)
    later = OPS["add"](each, OPS["cast"](OPS["greater_equal"](each, at), dtype=int64))
    last = OPS["sub"](_number(p.room_for()), 1)
    change(x, p.but(_moved(p, OPS["minimum"](later, last)), OPS["sub"](p.count, 1)))
    return value


def _pop_first(x: list[Any], p: Pile) -> Any:
    if p.first is None:
        p = _ring(x, p)
    _last(p, "pop from empty list")
    value = row_of(p, _number(0))
    change(x, p.but(p.rows, OPS["sub"](p.count, 1), p.place(_number(1))))
    return value


def _ring(x: list[Any], p: Pile) -> Pile:
    """A pile from whose front items are taken."""
    made = p.but(p.rows, p.count, _number(0))
    if p.room is not None:
        raise Retyped(p.room.outermost(), Pile(made.rows, None, made.kinds, made.structure, None, made.first))
    return made


def _insert(x: list[Any], key: Any, value: Any) -> None:
    _append(x, value)
    p = x[0].straight()
    n = OPS["sub"](p.count, 1)
    at, each = _bound(key, n, 0), _numbers(p)
    earlier = OPS["sub"](each, OPS["cast"](OPS["greater"](each, at), dtype=int64))
    change(x, p.but(_moved(p, OPS["where"](OPS["equal"](each, at), n, earlier)), p.count))


def _clear(x: list[Any]) -> None:
    (p,) = x
    change(x, p.but(p.rows, _number(0)))


def _reverse(x: list[Any]) -> None:
    change(x, _kept(x[0], slice(None, None, -1)))


def copied(x: list[Any]) -> list[Any]:
    """A new list of the same items."""
    return listed(x[0])


def added(x: list[Any], y: list[Any]) -> list[Any]:
    """`x + y`"""
    if not is_pile(x):
        raise refused("items are put in front of a list that grows and shrinks in a loop")
    new = copied(x)
    extend(new, y)
    return new


METHODS: dict[str, Callable[..., Any]] = {
    "append": _append, "extend": extend, "pop": _pop, "insert": _insert, "clear": _clear, "reverse": _reverse,
    "copy": copied,
}  # fmt: skip
