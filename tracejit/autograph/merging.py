"""How two versions of a variable, which two branches leave, become one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from tracejit.autograph import chosen, growing, origins, piles, places
from tracejit.autograph.growing import Pile, Stacked
from tracejit.autograph.nests import (
    holds_lists,
    in_place_of,
    is_mutable,
    is_record,
    item,
    keys_of,
    like_of,
    shares,
    stands_for,
)
from tracejit.autograph.parts import (
    Made,
    clash,
    merged_piles,
    zeros_like,
)
from tracejit.autograph.values import Contents, Kept, Optional, Undefined, is_none, no_value_of, set_at
from tracejit.errors import ConversionError, locate, user_frame
from tracejit.ops.regions import Region, agreed, is_value, same
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import LEAF, flatten, unflatten


def absent(x: Any) -> bool:
    return x is None or type(x) is Undefined


def check_none(name: str, *values: Any) -> None:
    """An attribute is None, or it is not there: what is one or the other here would be either."""
    none = [v is None or (type(v) is Optional and v.none) for v in values]
    if type(name) is Kept and any(none) and any(type(v) is Undefined for v in values):
        raise locate(ConversionError(f"{str(name)!r} is None in one branch or step, and is not there in another"))


def flag_of(flag: bool) -> Tensor:
    return convert(flag)


def perhaps_none(x: Any) -> bool:
    return absent(x) or type(x) is Optional


def merge(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a variable's value after two branches is made from the node's results. Adds to `pairs` what it needs."""
    check_none(name, x, y)
    if same(x, y):
        return lambda made: x
    if absent(x) and absent(y):
        return lambda made: no_value_of(name, x, y)
    for v in (x, y):
        places.merged(v)
    if as_one(name, x, y) and (made := chosen.merged(a, x, b, y, pairs)) is not None:
        return made
    if absent(x) or absent(y) or type(x) is Optional or type(y) is Optional:
        return _perhaps(name, a, x, b, y, pairs)
    if is_mutable(x) and type(x) is type(y) and type(name) is not Contents:
        return _in_place_of_both(name, a, x, b, y, pairs)
    return _merged(name, a, x, b, y, pairs)


def _in_place_of_both(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a container is made that is one in one branch and another in the other: a single one wherever these stand."""
    if (x_y := (id(x), id(y))) in a.joined:
        return a.joined[x_y][0]  # type: ignore[no-any-return]
    origin, new, box = origins.at_join(a, x, b, y, pairs), _merged(name, a, x, b, y, pairs), list[Any]()

    def make(made: Sequence[Tensor]) -> Any:
        if not box:
            box.append(new(made))
            places.comes_from(box[0], origin(made))
        return box[0]

    a.joined[x_y] = make, x, y
    return make


def _merged(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a value is made from its parts."""
    if type(x) is dict and type(y) is dict and list(x) != list(y):
        return _dicts(name, a, x, b, y, pairs)
    if growing.is_pile(x) or growing.is_pile(y):
        piled = merged_piles(name, a, x, b, y, pairs)
        return lambda made: standing_for(piled(made), x, y)
    if type(x) is list and type(y) is list and (joined := _lists(name, a, x, b, y, pairs)) is not None:
        return lambda made: standing_for(joined(made), x, y)
    if (made := _sharing(name, a, x, b, y, pairs)) is not None:
        sharing = made
        return lambda made: standing_for(sharing(made), x, y)
    fx, sx = flatten(x)
    fy, sy = flatten(y)
    if sx != sy:
        if type(x) is dict and type(y) is dict:
            make = _by_key(name, a, x, b, y, pairs)
            return lambda made: in_place_of(make(made), x, y)
        raise locate(clash(name, x, y, "in one branch, in the other"))
    if hasattr(type(x), "__tree_fields__"):
        fx, fy = (
            [a.call(zeros_like, q) if p is None and isinstance(q, Operand) else p for p, q in zip(fx, fy, strict=True)],
            [b.call(zeros_like, p) if q is None and isinstance(p, Operand) else q for p, q in zip(fx, fy, strict=True)],
        )
    parts = [_leaf(name, a, p, b, q, pairs) for p, q in zip(fx, fy, strict=True)]
    return lambda made: in_place_of(growing.unflattened(sx, [p(made) for p in parts]), x, y)


def as_one(name: str, x: Any, y: Any) -> bool:
    """Whether two values are looked at as a whole, and not part by part."""
    if type(name) is Contents or (any(map(is_record, (x, y))) and any(map(perhaps_none, (x, y)))):
        return False
    s = flatten(x)[1]
    return s == LEAF or s != flatten(y)[1] or places.by_identity()


def standing_for(new: Any, *others: Any) -> Any:
    if is_mutable(new):
        stands_for(new, *others)
    return new


def _sharing(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made | None:
    """How a container is made that holds some of the same containers in both branches: these stay the objects that they
    are, and what the branches have put into them is merged at their own places."""
    return _by_key(name, a, x, b, y, pairs) if shares(x, y) or holds_lists(x, y) else None


def _by_key(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a list, tuple or dict is made whose items are merged one by one."""
    inner = str(name) if type(name) is Contents else name  # of what it holds it counts which containers these are
    parts = [(k, merge(inner, a, item(x, k), b, item(y, k), pairs)) for k in keys_of(x)]

    def make(made: Sequence[Tensor]) -> Any:
        return like_of(x, [p(made) for _, p in parts])

    return make


def _lists(
    name: str, a: Region, x: list[Any], b: Region, y: list[Any], pairs: list[tuple[Tensor, Tensor]]
) -> Made | None:
    """How a list is made to which the branches add, unless both add the same number of items."""
    n = next((i for i, (p, q) in enumerate(zip(x, y)) if not same(p, q)), min(len(x), len(y)))
    rests = x[n:], y[n:]
    if len(x) == len(y) and not any(type(v) is Stacked for rest in rests for v in rest):
        return None
    if not all(is_value(v) or (type(v) is Stacked and growing.bounded(v)) for rest in rests for v in rest):
        return merged_piles(name, a, x, b, y, pairs)
    kind = growing.kind_of([*rests[0], *rests[1]])
    dtype = None if kind else growing.common([*rests[0], *rests[1]])
    given = [r.call(growing.packed, rest, kind, dtype) if rest else None for r, rest in zip((a, b), rests, strict=True)]
    most = max(g[0].shape[0] for g in given if g is not None)
    full: list[Any] = [g and r.call(growing.padded, *g, most) for r, g in zip((a, b), given, strict=True)]
    first, second = full
    rx, mx = first or a.call(growing.nothing, second[0])
    ry, my = second or b.call(growing.nothing, first[0])
    if tuple(rx.shape) != tuple(ry.shape):
        raise locate(clash(name, x, y, "in one branch, in the other"))
    k = len(pairs)
    pairs += [agreed(a, rx, b, ry, name), (mx, my)]
    return lambda made: piles.listed(*x[:n], Stacked([made[k]], made[k + 1], kind))


def in_order(name: str, x: dict[Any, Any], y: dict[Any, Any]) -> dict[Any, None]:
    """The keys of two versions of a dict. Of one that is changed in place they stand as in either."""
    keys = dict.fromkeys([*x, *y])
    if type(name) is not Contents or [k for k in keys if k in y] == list(y):
        return keys
    found, a, b = dict[Any, None](), deque(x), deque(y)
    while a or b:
        if not (a and a[0] in y and a[0] not in found and a[0] != b[0]):
            k = a.popleft() if a else b.popleft()
        elif b[0] not in x or b[0] in found:
            k = b.popleft()
        else:
            raise locate(ConversionError(f"{name} has its keys in another order after a branch or step"))
        found[k] = None
    return found


def _dicts(
    name: str, a: Region, x: dict[Any, Any], b: Region, y: dict[Any, Any], pairs: list[tuple[Tensor, Tensor]]
) -> Made:
    """How a dict is made to which branches add keys: those of one branch are there where it is taken."""
    keys = in_order(name, x, y)
    if any((k not in x or k not in y) and {**y, **x}[k] is None for k in keys):  # not there, and None: both no value
        raise locate(clash(name, x, y, "in one branch, in the other"))
    of = {k: f"{name}[{k!r}]" for k in keys}
    parts = {k: merge(of[k], a, x.get(k, Undefined(of[k])), b, y.get(k, Undefined(of[k])), pairs) for k in keys}

    def make(made: Sequence[Tensor]) -> Any:
        new = {k: p(made) for k, p in parts.items()}
        growing.noted(new)
        return standing_for(new, x, y)

    return make


def _leaf(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    if same(x, y):
        return lambda made: x
    if (made := chosen.merged(a, x, b, y, pairs)) is not None:
        return made
    if any(v is None or type(v) is Optional for v in (x, y)):
        return _perhaps(name, a, x, b, y, pairs)
    if not (is_value(x) and is_value(y)):
        raise locate(clash(name, x, y, "in one branch, in the other"))
    k = len(pairs)
    pairs.append(agreed(a, x, b, y, name))
    return lambda made: made[k]


def _perhaps(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """One branch sets the variable, or both perhaps."""
    fx, fy = _flag(a, x), _flag(b, y)
    none = is_none(name, x, y)
    vx = x.value if type(x) is Optional else x
    vy = y.value if type(y) is Optional else y
    if absent(vx):
        vx = a.call(_zeros, vy, b)
    elif absent(vy):
        vy = b.call(_zeros, vx, a)
    loc = next((v.loc for v in (x, y) if type(v) is Optional), None) or set_at(name, user_frame(3))
    k = len(pairs)
    pairs.append((fx, fy))
    value = merge(name, a, vx, b, vy, pairs)
    return lambda made: Optional(name, made[k], value(made), none, loc)


def _flag(r: Region, x: Any) -> Tensor:
    if type(x) is Optional:
        return x.flag
    return r.call(flag_of, not absent(x))


def _is_of_outside(x: Any, r: Region) -> bool:
    """Whether a list or dict was there before a branch: it is the same one in the other branch."""
    if type(x) not in (list, dict) or places.is_new(x):
        return False
    own = r.trace.builder.scope
    return not any(isinstance(v, Operand) and getattr(v._a, "scope", None) == own for v in flatten(x)[0])


def _zeros(like: Any, of: Region | None = None) -> Any:
    """Zeros where the other branch has tensors; what is no tensor as it is, and containers that have places too."""
    if of is not None and (id(like) in of.changed or _is_of_outside(like, of)):
        return like
    if type(like) is tuple or (of is not None and type(like) in (list, dict) and not growing.has_grown(like)):
        made = like_of(like, [_zeros(like[k], of) for k in keys_of(like)])
        return made if type(made) is tuple else places.filler(made, False)
    leaves, s = flatten(like)
    return places.filler(unflatten(s, [no_value(x) for x in leaves]))


def no_value(x: Any) -> Any:
    """What stands for a leaf where it has no value."""
    if type(x) is Optional:
        return None
    return zeros_like(x) if is_value(x) or type(x) is Pile else chosen.any_of(x)
