"""Parts of a loop's or branch's state: what is carried of a variable, and lists that grow and shrink among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import chosen, growing, piles
from tracejit.autograph.growing import Pile, Stacked
from tracejit.autograph.values import Optional
from tracejit.errors import ConversionError, TracejitError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.regions import Region, agreed
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import flatten, unflatten

Made = Callable[[Sequence[Tensor]], Any]


def clash(name: str, x: Any, y: Any, where: str) -> ConversionError:
    text = str(name) if name.startswith("the ") else repr(str(name))
    other = "another" if type(x) is type(y) and _shown(x) == _shown(y) else _shown(y)
    remedy = "set the same keys there, and before a loop" if isinstance(x, dict) and isinstance(y, dict) else None
    if isinstance(x, list) and isinstance(y, list):
        remedy = "assign to the items of a tensor that is long enough, and count them, or use a tj.TensorArray"
    error = ConversionError(f"{text} is {_shown(x)} {where} {other}", remedy)
    error.of_lists = type(x) is list or type(y) is list
    return error


def _shown(x: Any) -> str:
    if isinstance(x, Operand):
        return f"a tensor {x.type}"
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} of {len(x)}"
    if isinstance(x, chosen.Chosen):
        return repr(x)
    if isinstance(x, dict):
        return f"a dict with the keys {', '.join(map(repr, x))}" if x else "an empty dict"
    try:
        text = repr(x)
    except TracejitError:  # the user's `__repr__` asks for values of tensors
        return f"an object of {type(x).__name__}"
    return f"an object of {type(x).__name__}" if " object at 0x" in text else f"{type(x).__name__} {text}"


def zeros_like(x: Any) -> Any:
    """A tensor of zeros, or a list of no items, of the same type."""
    if type(x) is Pile:
        return x.of_tensors([zeros_like(t) for t in x.tensors()])
    return chosen.zeros_of(x) if isinstance(x, Operand) else x


def only(name: str, r: Region, x: Any, gone: Region, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """As `merge`, where the other branch ends with an error. Pairs are of this branch and the other."""
    if type(x) is Optional:
        flag, value = only(name, r, x.flag, gone, pairs), only(name, r, x.value, gone, pairs)
        return lambda made: Optional(x.name, flag(made), value(made), x.none, x.loc)
    leaves, s = flatten(x)
    at: dict[int, int] = {}
    several = {i: chosen.carried(t, gone, pairs, True) for i, t in enumerate(leaves) if type(t) is chosen.Chosen}
    for i, t in enumerate(leaves):
        if isinstance(t, Operand) and type(t._a) is Value and t._a.scope == r.trace.builder.scope:
            at[i] = len(pairs)
            kept = t if type(t) is Tensor else r.call(convert, t)  # a Python number is one behind the branch too
            pairs.append((kept, gone.call(zeros_like, t)))
    if not (at or several):
        return lambda made: x  # a container that stays the very one that it is

    def leaf(made: Sequence[Tensor], i: int, t: Any) -> Any:
        return several[i](made) if i in several else made[at[i]] if i in at else t

    return lambda made: unflatten(s, [leaf(made, i, t) for i, t in enumerate(leaves)])


class Part:
    """One variable."""

    def __init__(
        self, first: list[Any], make: Callable[[Sequence[Any]], Any], take: Callable[[Any], list[Any]], more: int = 0
    ) -> None:
        self.first, self.make, self.take, self.more = first, make, take, more

    def grown(self, x: Any) -> Sequence[Any]:
        """What a step has added."""
        return x[len(x) - self.more :]  # type: ignore[no-any-return]

    def finish(self, x: Any, rows: Stacked) -> Any:
        """The variable after the loop, with what all steps have added."""
        return [*x, rows]


class ArrayPart(Part):
    """A TensorArray to which each step adds the same number of elements."""

    def __init__(self, name: str, x: Any, more: int) -> None:
        def take(value: Any) -> list[Any]:
            if not hasattr(type(value), "grown_since") or len(value.added(more)) != more:
                raise locate(ConversionError(f"{name!r} does not get {more} elements in each step of the loop"))
            return [value.size()]

        super().__init__([OPS["cast"](x.size(), dtype=int64)], lambda leaves: x.in_loop(leaves[0]), take, more)

    def grown(self, x: Any) -> Sequence[Any]:
        return x.added(self.more)  # type: ignore[no-any-return]

    def finish(self, x: Any, rows: Stacked) -> Any:
        return x.after_loop(rows.__tensor_rows__())


class Changes(Exception):
    """Variables, each with the number of the leaf, that seemed to stay the same and do not; and what they become."""

    def __init__(self, which: set[tuple[str, int]], found: dict[tuple[str, int], Any] | None = None) -> None:
        self.which, self.found = which, found or {}


class Carried(set[tuple[str, int]]):
    """What is known to change; and of what is one of a few known values, which these are. Of variables that seemed to
    have no value, what a step has set them to."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, int], list[Any]] = {}
        self.set_to: dict[tuple[str, int], Any] = {}

    def learn(self, e: Changes) -> None:
        self.update(e.which)
        for k, x in e.found.items():
            self.set_to[k] = x
            if chosen.can_be(x):
                self.found[k] = chosen.union(self.found.get(k, ()), chosen.candidates(x))


# --- lists that are piles ---------------------------------------------------------------------------------------------
def merged_piles(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a list is made to which branches add, or from which they take, or whose items are tuples of tensors."""
    error = clash(name, x, y, "in one branch, in the other")
    if type(x) is not list or type(y) is not list:
        raise locate(error)
    p, q = a.call(piles.pile_of, x), b.call(piles.pile_of, y)
    like = None if p is None or q is None else piles.common(p, q)
    if like is None or like.structure is None:
        raise locate(error)
    p, q = a.call(piles.agreed, p, like), b.call(piles.agreed, q, like)
    for one, other, given in ((p, q, x), (q, p, y)):
        if other.room is not None and not growing.is_pile(given):
            piles.joins(one, other.room, len(given))
    if p.room is not q.room:
        piles.mixes(p.room, q.room)
    n, m = p.room_for(), q.room_for()
    if n != m:
        if not (isinstance(n, int) and isinstance(m, int)):
            raise locate(clash(name, x, y, "in one branch, in the other"))
        p, q = a.call(piles.longer, p, max(m - n, 0)), b.call(piles.longer, q, max(n - m, 0))
    k = len(pairs)
    both = list(zip(p.tensors(), q.tensors(), strict=True))
    pairs += [agreed(a, v, b, w, name) for v, w in both]

    def make(made: Sequence[Tensor]) -> Any:
        return piles.listed(p.of_tensors(made[k : k + len(both)]))

    return make


def _pile(name: str, x: Any, like: Pile) -> Pile:
    """What a step leaves of a list as a pile of these types."""
    made = piles.pile_of(x, like) if type(x) is list else None
    if made is not None and made.structure is not None and len(made.rows) != len(like.rows):
        made = None
    made = made and (piles.agreed(made, like) if made.first is None else made)
    if made is None:
        raise locate(clash(name, [like], x, "before a step of the loop, after it"))
    if growing.is_pile(x) and made.room is not like.room:
        piles.mixes(like.room)
    elif not growing.is_pile(x) and like.room is not None:
        piles.joins(made, like.room, len(x))
        missing = like.room_for() - made.room_for()
        made = made if isinstance(missing, int) and missing <= 0 else piles.longer(made, missing)
    return made


def grows_perhaps(x: list[Any], fx: list[Any], fy: list[Any]) -> bool:
    """Whether items that are there perhaps have become more."""
    both = [(p, q) for p, q in zip(fx, fy) if isinstance(p, Tensor) and isinstance(q, Tensor)]
    return any(type(v) is Stacked for v in x) and any(tuple(p.shape) != tuple(q.shape) for p, q in both)


def fixed_pile(name: str, x: list[Any]) -> Part:
    def take(y: Any) -> list[Any]:
        if not (growing.is_pile(y) and y[0] is x[0]):
            raise Changes({(name, -1)})
        return []

    return Part([], lambda leaves: x, take)


class PilePart(Part):
    """A list to which steps add and from which they take."""

    def __init__(self, name: str, x: list[Any]) -> None:
        p: Pile = x[0]

        def make(leaves: Sequence[Any]) -> Any:
            return piles.listed(p.of_tensors(leaves))

        def take(y: Any) -> list[Any]:
            made = _pile(name, y, p)
            if (made.kinds, made.structure, made.first is None) != (p.kinds, p.structure, p.first is None):
                raise locate(clash(name, x, y, "before a step of the loop, after it"))
            if any(tuple(r.shape) != tuple(s.shape) for r, s in zip(made.rows, p.rows, strict=True)):
                raise growing.refused("a list that the function has not made grows and shrinks in a loop")
            return made.tensors()

        super().__init__(p.tensors(), make, take)
