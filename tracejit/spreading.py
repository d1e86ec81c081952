"""Broadcasting of sizes that only the running program knows: an axis of which it finds one element is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.context import context
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.sizes import is_unit, now_unit
from tracejit.ir.types import int32

Size = int | Dim


def together(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands that are broadcast, each stretched along the axes where the program may find that it has one element."""
    shapes = [k.shape for k in keys]
    if all(s == shapes[0] for s in shapes) or not any(isinstance(d, Dim) and d.is_found for s in shapes for d in s):
        return keys
    rank = max(map(len, shapes))
    own = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    whole = [_joined([s[axis] for s in own]) for axis in range(rank)]
    return tuple([_stretched(k, whole[rank - len(s) :]) for k, s in zip(keys, shapes, strict=True)])


def spread_to(x: Any, shape: Sequence[Size]) -> Any:
    """x stretched to a shape, but for further axes in front, where only the program knows whether it has to be."""
    mine = tuple(x.shape)
    if len(mine) > len(shape) or not any(isinstance(d, Dim) and d.is_found for d in (*mine, *shape)):
        return x
    want = tuple(shape)[len(shape) - len(mine) :]
    for d, e in zip(mine, want, strict=True):
        if _may_stretch(d, e):
            _check(d, e, False)
    return _stretched(x, want)


def _stretched(x: Any, shape: Sequence[Size | None]) -> Any:
    mine = tuple(x.shape)
    want = tuple([d if e is None or not _may_stretch(d, e) else e for d, e in zip(mine, shape, strict=True)])
    return x if all(d is e for d, e in zip(mine, want, strict=True)) else OPS["stretch"](x, shape=want)


def _may_stretch(d: Size, e: Size) -> bool:
    if not isinstance(d, Dim) or is_unit(e) or d.same(e):
        return False
    late = d.is_found or (isinstance(e, Dim) and e.is_found)
    return late and d.compare(e, "==") is not True and d.compare(1, "==") is None


def _joined(sizes: Sequence[Size]) -> Size | None:
    """The size of an axis after broadcasting; None where the operations themselves say how it fits."""
    out: Size | None = None
    for e in sizes:
        if is_unit(e) or e is out:
            continue
        out = e if out is None else _of_two(out, e)
        if out is None:
            return None
    return out


def _of_two(d: Size, e: Size) -> Size | None:
    found = [isinstance(x, Dim) and x.is_found for x in (d, e)]
    if not any(found) or (isinstance(d, Dim) and d.same(e)):
        return d if any(found) else None
    if not all(found):
        late, known = (d, e) if found[0] else (e, d)
        out = late if isinstance(known, Dim) and now_unit(known) else known
    else:
        assert isinstance(d, Dim) and isinstance(e, Dim)
        if d.compare(e, "==") is True:
            return d
        one = [x.compare(1, "==") is None for x in (d, e)]
        out = d.beside(e) if all(one) else e if one[0] else d
    if not any(_may_stretch(x, out) for x in (d, e)):
        return None
    _check(d, e, True)
    return out


def _check(d: Size, e: Size, both: bool) -> None:
    """Whether two sizes are equal, or the first, or one of both, is 1, is asked when the program runs."""
    trace: Any = context.trace
    if ("beside", d, e) in trace.checked:
        return
    trace.checked.add(("beside", d, e))
    a, b = [OPS["dim"](size=x) if isinstance(x, Dim) else OPS["cast"](x, dtype=int32) for x in (d, e)]
    ok = OPS["logical_or"](OPS["equal"](a, b), OPS["equal"](a, 1))
    if both and isinstance(e, Dim):
        ok = OPS["logical_or"](ok, OPS["equal"](b, 1))
    names = " and ".join(["{}" + f" ({x})" * isinstance(x, Dim) for x in (d, e)])
    message = f"sizes that were found when the function ran differ: {names}"
    OPS["check"](ok, a, b, error="ShapeError", message=message)
