"""Variables carried through loops: which of their parts are tensors, and what stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph import chosen, growing, piles
from tracejit.autograph.growing import Before, Pile, Stacked
from tracejit.autograph.merging import (
    absent,
    as_one,
    check_none,
    flag_of,
    in_order,
    merge,
    no_value,
    perhaps_none,
    standing_for,
)
from tracejit.autograph.nests import (
    Wholes,
    in_place_of,
    item,
    keys_of,
    like_of,
    shares,
)
from tracejit.autograph.parts import (
    ArrayPart,
    Changes,
    Part,
    PilePart,
    clash,
    fixed_pile,
    grows_perhaps,
    zeros_like,
)
from tracejit.autograph.values import Contents, Optional, Undefined, is_none, no_value_of, set_at
from tracejit.context import context
from tracejit.errors import ConversionError, Location, locate
from tracejit.ir.op import OPS
from tracejit.ops.regions import RETURNED, is_value, same
from tracejit.tensor import Operand, Tensor
from tracejit.tree import Structure, flatten, unflatten


class Template:
    """How the variables of a loop's state are taken apart into tensors, and put together again."""

    def __init__(self, names: Sequence[str], before: Sequence[Any], parts: Sequence[Part]) -> None:
        self.names, self.before, self.parts = names, before, parts
        self.last: Sequence[Any] = before  # what the latest step has left

    def forget(self) -> None:
        """The loop is done: lists that its steps have made, which know of its parts, no longer lead to its values."""
        for p in self.parts:
            p.make = p.take = _done

    def first(self) -> list[Any]:
        return [t for p in self.parts for t in p.first]

    def leaf_names(self) -> list[str]:
        """The variable that each tensor of the state is of."""
        return [n for n, p in zip(self.names, self.parts, strict=True) for _ in p.first]

    def values(self, leaves: Sequence[Any], stacked: Sequence[Tensor] | None = None) -> tuple[Any, ...]:
        """The variables, for the tensors of the state; after the loop, with what its steps have added to lists."""
        out, k = [], 0
        rest = iter(stacked or ())
        for p in self.parts:
            made = p.make(leaves[k : k + len(p.first)])
            k += len(p.first)
            if p.more and stacked is not None:
                made = p.finish(made, Stacked([next(rest) for _ in range(p.more)]))
            out.append(made)
        return tuple(out)

    def grown(self, values: Sequence[Any]) -> list[Any]:
        """What a step has added to lists."""
        return [t for p, x in zip(self.parts, values, strict=True) if p.more for t in p.grown(x)]

    def leaves(self, values: Sequence[Any]) -> list[Any]:
        """The state after a step, which leaves these values."""
        self.last = values
        return [t for p, x in zip(self.parts, values, strict=True) for t in p.take(x)]


def _done(*_: Any) -> Any:
    raise AssertionError("a part of a loop that is done")


def settle(
    names: Sequence[str], before: Sequence[Any], after: Sequence[Any], loc: Location | None,
    carried: set[tuple[str, int]],
) -> Template:  # fmt: skip
    """The template for a loop's variables, from their values before and after a step, and what is known to change."""
    return Template(names, before, [_part(n, x, y, loc, carried) for n, x, y in zip(names, before, after, strict=True)])


def _fixed(name: str, x: Any) -> Part:
    def take(y: Any) -> list[Any]:
        check_none(name, x, y)
        if not (same(x, y) or (absent(x) and no_value_of(name, x, y) is x and absent(y))):
            raise Changes({(name, -1)}, {(name, -1): y})
        return []

    return Part([], lambda leaves: x, take)


def _part(name: str, x: Any, y: Any, loc: Location | None, changing: set[tuple[str, int]]) -> Part:
    check_none(name, x, y)
    if absent(x) and absent(y):
        y = getattr(changing, "set_to", {}).get((name, -1), y)
        if no_value_of(name, x, y) is None:
            x = None
            if absent(y):
                return _fixed(name, None)
    if growing.is_pile(x) and type(y) is list:
        kept = growing.is_pile(y) and x[0] is y[0] and (name, -1) not in changing
        if kept:
            return fixed_pile(name, x)
        part = PilePart(name, x)
        if type(name) is Contents:
            return part
        return Part(part.first, lambda leaves: in_place_of(part.make(leaves), x, y), part.take)
    if (same(x, y) or (absent(x) and absent(y))) and (name, -1) not in changing:
        return _fixed(name, x)
    if as_one(name, x, y) and (pick := _pick((name, -1), x, y, changing)) is not None:
        return Part([pick.first], lambda leaves: pick.make(leaves[0]), lambda v: [pick.take(v)])
    if same(x, y) and not is_value(x):
        raise locate(clash(name, x, y, "before a step of the loop, after it"))
    if absent(x) or type(x) is Optional or type(y) is Optional or absent(y):
        return _optional(name, x, y, set_at(name, loc), changing)
    if hasattr(type(y), "grown_since") and type(x) is type(y) and y.grown_since(x):
        return ArrayPart(name, x, y.grown_since(x))
    if type(x) is dict and type(y) is dict and list(x) != list(y):
        return _Dict(name, x, y, loc, changing)
    if shares(x, y):
        return _Shared(name, x, y, loc, changing)
    fx, sx = flatten(x)
    fy, sy = flatten(y)
    if sx == sy and hasattr(type(x), "__tree_fields__"):  # what has not been written yet is zeros
        fx = [zeros_like(q) if p is None and isinstance(q, Operand) else p for p, q in zip(fx, fy, strict=True)]
    if type(x) is list and type(y) is list and len(y) > len(x) and all(same(p, q) for p, q in zip(x, y)):
        carried = max([-1 - i for n, i in changing if n == name and i < -1], default=0)
        return _List(name, x, y[len(x) :], carried, (name, -1) in changing)
    if sx != sy or (type(x) is list and grows_perhaps(x, fx, fy)):
        raise locate(clash(name, x, y, "before a step of the loop, after it"))
    nest = _nest(name, fx, fy, sx, changing)
    return Part(nest.first, lambda leaves: in_place_of(nest.make(leaves), x, y), nest.take)


def _pick(at: tuple[str, int], x: Any, y: Any, changing: Any) -> chosen.Pick | None:
    """How a leaf is carried that is one of a few values."""
    found = [v for k in (at, (at[0], -1)) for v in getattr(changing, "found", {}).get(k, ())]
    return chosen.picked(x, y, found, lambda v: Changes({at}, {at: v}))


class _List(Part):
    """A list to which each step adds the same number of tensors, or some that it decides on."""

    def __init__(self, name: str, x: list[Any], added: list[Any], carried: int, differs: bool) -> None:
        self.name, self.x, self.kind = name, x, growing.kind_of(added)
        self.ragged = differs or any(type(v) is Stacked for v in added)
        self.carried = min(carried, growing.trailing(x))
        first = x[len(x) - self.carried :]
        more = 2 if self.ragged else len(added)
        super().__init__(first, lambda leaves: piles.listed(Before(self, x, leaves)), self._last, more)

    def _added(self, value: Any) -> list[Any]:
        if type(value) is list and value and type(value[0]) is Before and value[0].of is self:
            rest: list[Any] = value[1:]
            if all(is_value(v) or (type(v) is Stacked and growing.bounded(v)) for v in rest):
                if rest and not self.ragged and any(type(v) is Stacked for v in rest):
                    raise Changes({(self.name, -1)})  # what decides was known in the step that was traced for nothing
                if rest if self.ragged else len(rest) == self.more:
                    return rest
        more = "a known number of tensors" if self.ragged else "a tensor" if self.more == 1 else f"{self.more} tensors"
        text = str(self.name) if self.name.startswith("the ") else repr(str(self.name))
        raise locate(ConversionError(f"not every step of a loop adds {more} to {text}, as the first does"))

    def _last(self, value: Any) -> list[Any]:
        """The items at the end, which the next step may read."""
        added = self._added(value)
        if not self.carried:
            return []
        if growing.trailing(added) < min(len(added), self.carried):
            raise growing.refused("an item that a branch may have added to a list is read in the next step of a loop")
        return [*value[0].last, *added][-self.carried :]

    def grown(self, x: Any) -> Sequence[Any]:
        added = self._added(x)
        self.kind = growing.kind_of(added)
        if self.ragged:
            return growing.packed(added, self.kind)
        dtype = growing.common(added)
        if self.kind or dtype is None:
            return [growing.exactly(v, self.kind) for v in added] if self.kind else added
        return [OPS["cast"](v, dtype=dtype) for v in added]

    def finish(self, x: Any, rows: Stacked) -> Any:
        if not self.ragged:
            return self._standing(piles.listed(*self.x, Stacked(rows.parts, None, self.kind)))
        every, mask = rows.parts
        return self._standing(piles.listed(*self.x, growing.of_steps(every, mask, self.kind)))

    def _standing(self, new: Any) -> Any:
        """After no step at all, it is the list of before."""
        return new if type(self.name) is Contents else standing_for(new, self.x)


class _Dict(Part):
    """A dict to which steps add keys, some perhaps."""

    def __init__(
        self, name: str, x: dict[Any, Any], y: dict[Any, Any], loc: Location | None, changing: set[tuple[str, int]]
    ) -> None:  # fmt: skip
        of = {k: f"{name}[{k!r}]" for k in in_order(name, x, y)}
        none = {k: Undefined(n) for k, n in of.items()}
        if any(x.get(k, y.get(k)) is None for k in of):
            raise locate(clash(name, x, y, "before a step of the loop, after it"))
        parts = {k: _part(n, x.get(k, none[k]), y.get(k, none[k]), loc, changing) for k, n in of.items()}

        def make(leaves: Sequence[Any]) -> Any:
            made, i = {}, 0
            for k, p in parts.items():
                made[k] = p.make(leaves[i : i + len(p.first)])
                i += len(p.first)
            growing.noted(made)
            return made if type(name) is Contents else standing_for(made, x, y)

        def take(value: Any) -> list[Any]:
            if type(value) is not dict or set(value) - set(of) or any(p.more for p in parts.values()):
                raise locate(clash(name, x, value, "before a step of the loop, after it"))
            return [t for k, p in parts.items() for t in p.take(value.get(k, none[k]))]

        super().__init__([t for p in parts.values() for t in p.first], make, take)


class _Shared(Part):
    """A container that holds the same containers before and after a step: each has a part of its own."""

    def __init__(self, name: str, x: Any, y: Any, loc: Location | None, changing: set[tuple[str, int]]) -> None:
        parts = [_part(f"{name}[{k!r}]", item(x, k), item(y, k), loc, changing) for k in keys_of(x)]

        def make(leaves: Sequence[Any]) -> Any:
            rest = iter(leaves)
            made = like_of(x, [p.make([next(rest) for _ in p.first]) for p in parts])
            return made if type(name) is Contents else standing_for(made, x, y)

        def take(value: Any) -> list[Any]:
            if type(value) is not type(x) or keys_of(value) != keys_of(x) or any(p.more for p in parts):
                raise locate(clash(name, x, value, "before a step of the loop, after it"))
            return [t for k, p in zip(keys_of(x), parts, strict=True) for t in p.take(item(value, k))]

        super().__init__([t for p in parts for t in p.first], make, take)


def _nest(
    name: str, fx: list[Any], fy: list[Any], s: Structure, changing: set[tuple[str, int]] = frozenset()  # type: ignore[assignment]
) -> Part:
    all_of = len(fx) == 1 and (name, -1) in changing
    carried = [
        i for i, (p, q) in enumerate(zip(fx, fy, strict=True)) if not same(p, q) or (name, i) in changing or all_of
    ]
    parts = {i: _item((name, i), fx[i], fy[i], s, changing) for i in carried}

    def make(leaves: Sequence[Any]) -> Any:
        out, rest = list(fx), iter(leaves)
        for i, p in parts.items():
            out[i] = p.make([next(rest) for _ in p.first])
        return growing.unflattened(s, out)

    def take(value: Any) -> list[Any]:
        found, structure = flatten(value)
        if structure != s or any(type(v) is Pile for v in found):
            raise locate(clash(name, unflatten(s, fx), value, "before a step of the loop, after it"))
        if hasattr(s.kind or object, "__tree_fields__"):
            both = zip(fx, found, strict=True)
            found = [zeros_like(p) if q is None and isinstance(p, Operand) else q for p, q in both]
        pairs = enumerate(zip(fx, found, strict=True))
        wrong = {(name, i): q for i, (p, q) in pairs if i not in carried and not same(p, q)}
        if wrong:
            raise Changes(set(wrong), wrong)
        return [t for i, p in parts.items() for t in p.take(found[i])]

    return Part([t for p in parts.values() for t in p.first], make, take)


def _item(at: tuple[str, int], x: Any, y: Any, s: Structure, changing: set[tuple[str, int]]) -> Part:
    """A leaf of a nest that steps change."""
    if (pick := _pick(at, x, y, changing)) is not None:
        return Part([pick.first], lambda leaves: pick.make(leaves[0]), lambda v: [pick.take(v)])
    found = getattr(changing, "set_to", {}).get(at, y)
    if perhaps_none(x) or perhaps_none(found):
        y = found
        if all(is_value(v) or perhaps_none(v) for v in (x, y)) and not (absent(x) and absent(y)):
            return _optional(f"{at[0]}[{at[1]}]", x, y, None, changing)
    if not (is_value(x) and is_value(y)):
        error = clash(at[0], x, y, "before a step of the loop, after it")
        error.of_lists = s.kind is list
        raise locate(error)

    def take(v: Any) -> list[Any]:
        if perhaps_none(v):
            raise Changes({at}, {at: v})
        return [v]

    return Part([x], lambda leaves: leaves[0], take)


def _optional(name: str, x: Any, y: Any, loc: Location | None, changing: set[tuple[str, int]]) -> Part:
    """A variable that gets its value in the loop, or loses it."""
    returns_none = (f"{name} is None", -1)
    none = is_none(name, x, y) or returns_none in changing
    vx = x.value if type(x) is Optional else x
    vy = y.value if type(y) is Optional else y
    like = vy if absent(vx) else vx
    if growing.has_grown(like):
        raise locate(clash(name, x, y, "before a step of the loop, after it"))
    copied = [(f"a copy of {name}", -1), (f"a copy of {name} and what it holds", -1)]
    left = [c for c in copied if c not in changing]
    wholes = Wholes(like if left else None, len(left) == 1)
    named = wholes.named(like)
    start = _like(named) if absent(vx) else named
    leaves, shape = flatten(start)
    if shape != flatten(named)[1]:  # one of several containers is among what it may be
        raise locate(clash(name, x, y, "before a step of the loop, after it"))
    value = _nest(name, leaves, *_unlike(named), changing)
    flag = x.flag if type(x) is Optional else flag_of(not absent(x))

    def make(leaves: Sequence[Any]) -> Any:
        made = in_place_of(wholes.back(value.make(leaves[1:])), wholes.back(start), like)
        return Optional(name, leaves[0], made, none, loc)

    def take(v: Any) -> list[Any]:
        check_none(name, x, y, v)
        if name == RETURNED and not none and is_none(name, v):
            raise Changes({returns_none})
        if absent(v):
            return [flag_of(False), *value.take(start)]
        flag, v = (v.flag, v.value) if type(v) is Optional else (flag_of(True), v)
        try:
            return [flag, *value.take(wholes.named(v))]
        except ConversionError:
            if not wholes:
                raise
            raise Changes({left[0]}) from None  # a container that each step makes

    return Part([flag, *value.first], make, take)


def _unlike(like: Any) -> tuple[list[Any], Structure]:
    """The leaves of a nest, its values as something that equals nothing, and its structure."""
    leaves, s = flatten(like)
    return [_Different() if is_value(v) else v for v in leaves], s


class _Different(float):
    """A number that equals nothing, so that what it stands for is carried."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = float.__hash__


def _like(x: Any) -> Any:
    """Zeros of the types of a nest that another region made."""
    leaves, s = flatten(x)
    return unflatten(s, [no_value(v) for v in leaves])


__all__ = ["Template", "context", "merge", "settle"]
