"""Python's order of things, all of them or the least and greatest: of tensors it is known when the program runs."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import backcalls, piles, specials
from tracejit.autograph.branches import decided
from tracejit.autograph.calls import callee
from tracejit.autograph.growing import Pile
from tracejit.autograph.owners import is_users
from tracejit.context import context
from tracejit.ir.op import OPS
from tracejit.ops.regions import is_value
from tracejit.tensor import Operand


def in_order(items: Sequence[Any], key: Callable[[Any], Any] | None, reverse: Any) -> list[Any]:
    """What `sorted` gives."""
    keys = list(items) if key is None else [key(x) for x in items]
    found = _rows(items, keys)
    if found is None:
        shown, every = ordered(keys), builtins.range(len(keys))
        held = specials.among(keys, specials.ORDER) if shown is keys else []
        order = backcalls.calling_back(held, builtins.sorted, every, key=shown.__getitem__, reverse=bool(reverse))
        return [items[i] for i in order]
    p, row = found
    at = OPS["argsort"](row, axis=0, descending=bool(reverse))
    p = p.but([OPS["gather"](r, at, axis=0) for r in p.rows], p.count)
    return [piles.row_of(p, i) for i in builtins.range(len(items))]


class _Ordered:
    """An object of the user's, of which C code asks whether it comes before another, as converted code says."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of

    def __lt__(self, other: Any) -> Any:
        return decided(callee(operator.lt)(self.of, other.of))

    def __gt__(self, other: Any) -> Any:
        return decided(callee(operator.gt)(self.of, other.of))


def ordered(keys: Sequence[Any]) -> Sequence[Any]:
    """What to compare in the place of some objects."""
    return [_Ordered(k) for k in keys] if any(is_users(k) for k in set(map(type, keys))) else keys


def at_end(items: Sequence[Any], key: Callable[[Any], Any], pick: Callable[..., Any], default: dict[str, Any]) -> Any:
    """What `min` or `max`, which is `pick`, gives for a key."""
    keys = [key(x) for x in items]
    found = _rows(items, keys)
    if found is None:
        shown, every = ordered(keys), builtins.range(len(keys))
        held = specials.among(keys, specials.ORDER) if shown is keys else []
        i = backcalls.calling_back(held, pick, every, key=shown.__getitem__, **dict.fromkeys(default, -1))
        return items[i] if i >= 0 else default["default"]
    p, row = found
    return piles.row_of(p, OPS[f"arg{pick.__name__}"](row, axis=0))


def _rows(items: Sequence[Any], keys: Sequence[Any]) -> tuple[Pile, Any] | None:
    """The items, and their keys as one tensor, where tensors say in which order they are."""
    if not is_unknown(keys) or not all(is_value(k) and not getattr(k, "shape", ()) for k in keys):
        return None
    of_keys, p = piles.pile_of(keys), piles.pile_of(items)
    if of_keys is None or p is None or of_keys.rows[0].dtype.kind == "c":
        return None
    return p, of_keys.rows[0]


def is_unknown(values: Sequence[Any]) -> bool:
    """Whether there are tensors among some values, which are compared when the program runs."""
    return context.trace is not None and any(isinstance(x, Operand) for x in values)
