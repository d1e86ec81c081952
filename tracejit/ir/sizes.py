"""Sizes that are numbers or symbols: whether they are equal or 1, how many elements they make, what they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tracejit.errors import ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.hooks import hooks


def shown(d: object) -> str:
    """A size as errors show it: a symbol with what it is in this call."""
    if not isinstance(d, Dim):
        return str(d)
    sizes = hooks.sizes or {}
    return f"{d!r}={d.evaluate(sizes)}" if d.symbols <= sizes.keys() else repr(d)


def known_equal(a: int | Dim, b: int | Dim) -> bool:
    """Whether two sizes are equal; an undecidable question follows the hint and becomes a guard."""
    if isinstance(a, Dim):
        return a.same(b) or a.equals(b)
    if isinstance(b, Dim):
        return b.equals(a)
    return a == b


def fit(a: int | Dim, b: int | Dim) -> bool:
    """Whether two sizes that have to be equal are: those that the program finds out are checked when it does."""
    if isinstance(a, Dim):
        return a.same(b) or a.fits(b)
    if isinstance(b, Dim):
        return b.fits(a)
    return a == b


def at_least(a: int | Dim, b: int | Dim) -> bool:
    """Whether a size that must not be below another is not: those that the program finds out are checked then."""
    d = a - b
    return d.has_to(">=") if isinstance(d, Dim) else d >= 0


def surer(a: int | Dim, b: int | Dim) -> int | Dim:
    """Of two sizes that are equal the one that is known earlier."""
    return b if isinstance(a, Dim) and a.is_found and not (isinstance(b, Dim) and b.is_found) else a


def product(dims: tuple[int | Dim, ...]) -> int | Dim:
    """The number of elements of a shape."""
    out: int | Dim = 1
    for d in dims:
        out = out * d
    return out


def is_unit(d: int | Dim) -> bool:
    """Whether a dimension is the literal 1. A symbol is none: what holds for all its sizes has to be right for 1."""
    return type(d) is int and d == 1


def now_unit(d: int | Dim) -> bool:
    """Whether a size is 1; of a symbol it follows the hint and becomes a guard."""
    return known_equal(d, 1)


def know_units(dims: Iterable[int | Dim]) -> None:
    """Before sizes are refused that would fit if they were 1: that they are not becomes a guard."""
    for d in dims:
        if isinstance(d, Dim) and now_unit(d):
            int(d)


def size_at(d: int | Dim, values: Mapping[str, int]) -> int:
    """The size of a dimension for given sizes of the symbols."""
    return d.evaluate(values) if isinstance(d, Dim) else int(d)


def hint(d: int | Dim) -> int:
    """A plausible size: the one seen when the trace was made."""
    return d.hint if isinstance(d, Dim) else int(d)


def divide(a: int | Dim, b: int | Dim) -> int | Dim:
    """Exact division of element counts, for reshape. Raises `ShapeError` if it leaves a rest."""
    if isinstance(a, int) and isinstance(b, int):
        if b == 0 or a % b:
            raise ShapeError(f"{a} elements cannot be divided into groups of {b}")
        return a // b
    if isinstance(a, Dim) and isinstance(b, Dim):
        q = a._quotient(b)
        if q is not None:
            return q
    elif isinstance(a, Dim) and isinstance(b, int) and b > 0:
        return a // b  # type: ignore[no-any-return]
    return int(a) // int(b)
