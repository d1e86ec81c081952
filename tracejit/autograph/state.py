"""Variables carried through branches and loops: which of their parts are tensors, and how two versions become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph.values import Optional, Stacked, Undefined, set_at
from tracejit.context import context
from tracejit.errors import ConversionError, Location, locate, user_frame
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.regions import Region, agreed, is_value, same
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import Structure, flatten, unflatten

Made = Callable[[Sequence[Tensor]], Any]


def _absent(x: Any) -> bool:
    return x is None or type(x) is Undefined


def _clash(name: str, x: Any, y: Any, where: str) -> ConversionError:
    return ConversionError(f"{name!r} is {_shown(x)} {where} {_shown(y)}")


def _shown(x: Any) -> str:
    if isinstance(x, Operand):
        return f"a tensor {x.type}"
    return f"{type(x).__name__} {x!r}" if not isinstance(x, (list, tuple, dict)) else f"a {type(x).__name__}"


def _bool(flag: bool) -> Tensor:
    return convert(flag)


# --- branches ---------------------------------------------------------------------------------------------------------
def merge(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """How a variable's value after two branches is made from the node's results. Adds to `pairs` what it needs."""
    if same(x, y) or (_absent(x) and _absent(y)):
        return lambda made: x
    if _absent(x) or _absent(y) or type(x) is Optional or type(y) is Optional:
        return _perhaps(name, a, x, b, y, pairs)
    fx, sx = flatten(x)
    fy, sy = flatten(y)
    if sx != sy:
        raise locate(_clash(name, x, y, "in one branch, in the other"))
    if hasattr(type(x), "__tree_fields__"):
        fx, fy = (
            [a.call(_zero, q) if p is None and isinstance(q, Operand) else p for p, q in zip(fx, fy, strict=True)],
            [b.call(_zero, p) if q is None and isinstance(p, Operand) else q for p, q in zip(fx, fy, strict=True)],
        )
    parts = [_leaf(name, a, p, b, q, pairs) for p, q in zip(fx, fy, strict=True)]
    return lambda made: unflatten(sx, [p(made) for p in parts])


def only(name: str, r: Region, x: Any, gone: Region, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """As `merge`, where the other branch ends with an error. Pairs are of this branch and the other."""
    if type(x) is Optional:
        flag, value = only(name, r, x.flag, gone, pairs), only(name, r, x.value, gone, pairs)
        return lambda made: Optional(x.name, flag(made), value(made), x.none, x.loc)
    leaves, s = flatten(x)
    at: dict[int, int] = {}
    for i, t in enumerate(leaves):
        if isinstance(t, Operand) and type(t._a) is Value and t._a.scope == r.trace.builder.scope:
            at[i] = len(pairs)
            pairs.append((convert(t), gone.call(_zero, t)))
    return lambda made: unflatten(s, [made[at[i]] if i in at else t for i, t in enumerate(leaves)])


def _leaf(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    if same(x, y):
        return lambda made: x
    if any(v is None or type(v) is Optional for v in (x, y)):
        return _perhaps(name, a, x, b, y, pairs)
    if not (is_value(x) and is_value(y)):
        raise locate(_clash(name, x, y, "in one branch, in the other"))
    k = len(pairs)
    pairs.append(agreed(a, x, b, y))
    return lambda made: made[k]


def _perhaps(name: str, a: Region, x: Any, b: Region, y: Any, pairs: list[tuple[Tensor, Tensor]]) -> Made:
    """One branch sets the variable, or both perhaps."""
    fx, fy = _flag(a, x), _flag(b, y)
    none = not any(type(v) is Undefined or (type(v) is Optional and not v.none) for v in (x, y))
    vx = x.value if type(x) is Optional else x
    vy = y.value if type(y) is Optional else y
    if _absent(vx):
        vx = a.call(_zeros, vy, b)
    elif _absent(vy):
        vy = b.call(_zeros, vx, a)
    loc = next((v.loc for v in (x, y) if type(v) is Optional), None) or set_at(name, user_frame(3))
    k = len(pairs)
    pairs.append((fx, fy))
    value = merge(name, a, vx, b, vy, pairs)
    return lambda made: Optional(name, made[k], value(made), none, loc)


def _flag(r: Region, x: Any) -> Tensor:
    if type(x) is Optional:
        return x.flag
    return r.call(_bool, not _absent(x))


def _zeros(like: Any, of: Region | None = None) -> Any:
    """Zeros where the other branch has tensors; what is no tensor as it is."""
    leaves, s = flatten(like)
    return unflatten(s, [_zero(x) if is_value(x) else x for x in leaves])


def _zero(x: Any) -> Any:
    if not isinstance(x, Operand):
        return x
    zero = OPS["cast"](0, dtype=x.dtype, weak=True) if x.type.weak else OPS["cast"](0, dtype=x.dtype)
    return OPS["broadcast_to"](zero, shape=tuple(x.shape)) if x.shape else zero


# --- loops ------------------------------------------------------------------------------------------------------------
class Template:
    """How the variables of a loop's state are taken apart into tensors, and put together again."""

    def __init__(self, names: Sequence[str], before: Sequence[Any], parts: Sequence[_Part]) -> None:
        self.names, self.before, self.parts = names, before, parts

    def first(self) -> list[Any]:
        return [t for p in self.parts for t in p.first]

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
        return [t for p, x in zip(self.parts, values, strict=True) for t in p.take(x)]


class _Part:
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


class _Array(_Part):
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
    """Variables, each with the number of the leaf, that seemed to stay the same and do not."""

    def __init__(self, which: set[tuple[str, int]]) -> None:
        self.which = which


def settle(
    names: Sequence[str], before: Sequence[Any], after: Sequence[Any], loc: Location | None,
    carried: set[tuple[str, int]],
) -> Template:  # fmt: skip
    """The template for a loop's variables, from their values before and after a step, and what is known to change."""
    return Template(
        names, before, [_part(n, x, y, loc, carried) for n, x, y in zip(names, before, after, strict=True)]
    )


def _fixed(name: str, x: Any) -> _Part:
    def take(y: Any) -> list[Any]:
        if not (same(x, y) or (_absent(x) and _absent(y))):
            raise Changes({(name, -1)})
        return []

    return _Part([], lambda leaves: x, take)


def _part(name: str, x: Any, y: Any, loc: Location | None, changing: set[tuple[str, int]]) -> _Part:
    if (same(x, y) or (_absent(x) and _absent(y))) and (name, -1) not in changing:
        return _fixed(name, x)
    if same(x, y) and not is_value(x):
        raise locate(_clash(name, x, y, "before a step of the loop, after it"))
    if _absent(x) or type(x) is Optional or type(y) is Optional or _absent(y):
        return _optional(name, x, y, set_at(name, loc))
    if hasattr(type(y), "grown_since") and type(x) is type(y) and y.grown_since(x):
        return _Array(name, x, y.grown_since(x))
    fx, sx = flatten(x)
    fy, sy = flatten(y)
    if sx == sy and hasattr(type(x), "__tree_fields__"):  # what has not been written yet is zeros
        fx = [_zero(q) if p is None and isinstance(q, Operand) else p for p, q in zip(fx, fy, strict=True)]
    if type(x) is list and type(y) is list and len(y) > len(x) and all(same(p, q) for p, q in zip(x, y)):
        return _list(name, x, len(y) - len(x))
    if sx != sy:
        raise locate(_clash(name, x, y, "before a step of the loop, after it"))
    return _nest(name, fx, fy, sx, changing)


def _list(name: str, x: list[Any], more: int) -> _Part:
    """A list to which each step adds the same number of tensors."""

    def take(value: Any) -> list[Any]:
        if type(value) is not list or len(value) != len(x) + more or not all(is_value(v) for v in value[len(x) :]):
            raise locate(ConversionError(f"{name!r} does not get {more} tensors in each step of the loop"))
        return []

    return _Part([], lambda leaves: list(x), take, more)


def _nest(
    name: str, fx: list[Any], fy: list[Any], s: Structure, changing: set[tuple[str, int]] = frozenset()  # type: ignore[assignment]
) -> _Part:
    all_of = len(fx) == 1 and (name, -1) in changing
    carried = [
        i for i, (p, q) in enumerate(zip(fx, fy, strict=True)) if not same(p, q) or (name, i) in changing or all_of
    ]
    for i in carried:
        if not (is_value(fx[i]) and is_value(fy[i])):
            raise locate(_clash(name, fx[i], fy[i], "before a step of the loop, after it"))

    def make(leaves: Sequence[Any]) -> Any:
        out = list(fx)
        for i, t in zip(carried, leaves, strict=True):
            out[i] = t
        return unflatten(s, out)

    def take(value: Any) -> list[Any]:
        found, structure = flatten(value)
        if structure != s:
            raise locate(_clash(name, unflatten(s, fx), value, "before a step of the loop, after it"))
        if hasattr(s.kind or object, "__tree_fields__"):
            found = [_zero(p) if q is None and isinstance(p, Operand) else q for p, q in zip(fx, found, strict=True)]
        pairs = enumerate(zip(fx, found, strict=True))
        wrong = {(name, i) for i, (p, q) in pairs if i not in carried and not same(p, q)}
        if wrong:
            raise Changes(wrong)
        return [found[i] for i in carried]

    return _Part([fx[i] for i in carried], make, take)


def _optional(name: str, x: Any, y: Any, loc: Location | None) -> _Part:
    """A variable that gets its value in the loop, or loses it."""
    none = not any(type(v) is Undefined or (type(v) is Optional and not v.none) for v in (x, y))
    vx = x.value if type(x) is Optional else x
    vy = y.value if type(y) is Optional else y
    like = vy if _absent(vx) else vx
    start = _like(like) if _absent(vx) else vx
    value = _nest(name, flatten(start)[0], *_unlike(like))
    flag = x.flag if type(x) is Optional else _bool(not _absent(x))

    def make(leaves: Sequence[Any]) -> Any:
        return Optional(name, leaves[0], value.make(leaves[1:]), none, loc)

    def take(v: Any) -> list[Any]:
        if type(v) is Optional:
            return [v.flag, *value.take(v.value)]
        if _absent(v):
            return [_bool(False), *value.take(start)]
        return [_bool(True), *value.take(v)]

    return _Part([flag, *value.first], make, take)


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
    return unflatten(s, [_zero(v) if is_value(v) else v for v in leaves])


__all__ = ["Template", "context", "merge", "settle"]
