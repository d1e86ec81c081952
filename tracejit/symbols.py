"""Which sizes a new trace leaves open: those that a signature leaves open, and those that have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tracejit.arguments import TensorSpec
from tracejit.ir.dim import Dim

LIKELY = 24  # what decisions take a symbol for where the call has 0 or 1; many numbers divide it


def _plausible(n: int, was: int = LIKELY) -> int:
    """The size that decisions follow: the one of the call, unless it is 0 or 1, which most decisions treat apart."""
    return n if n > 1 else was if was > 1 else LIKELY


def widened(last: list[tuple], shapes: list[tuple], fixed: set[tuple[int, int]]) -> tuple[list[tuple], str]:
    """Shapes for a new trace beside one for the shapes `last`: where they differ, the size becomes a symbol."""
    names: dict[tuple, Dim] = {}
    out = []
    for i, (old, new) in enumerate(zip(last, shapes, strict=True)):
        dims: list[int | Dim] = []
        for j, (o, n) in enumerate(zip(old, new, strict=True)):
            was = o.hint if isinstance(o, Dim) else o
            if (was != n or isinstance(o, Dim)) and (i, j) not in fixed:
                tag = (str(o) if isinstance(o, Dim) else o, n)
                if tag not in names:
                    names[tag] = Dim.symbol(f"d{len(names)}", _plausible(n, was))
                dims.append(names[tag])
            else:
                dims.append(n)
        out.append(tuple(dims))
    changed = ", ".join(str(p) for p in out if any(isinstance(d, Dim) for d in p))
    return out, f"sizes changed: {changed or 'the function needs them as numbers'}"


def from_specs(shapes: list[tuple], specs: Sequence[TensorSpec | None]) -> list[tuple]:
    """Shapes with symbols where the specs leave the size open."""
    out = []
    for i, shape in enumerate(shapes):
        spec = specs[i] if i < len(specs) else None
        dims: list[int | Dim] = []
        for j, n in enumerate(shape):
            want = n if spec is None else None if spec.shape is None else spec.shape[j]
            if want is None or isinstance(want, str):
                dims.append(Dim.symbol(want or f"d{i}_{j}", _plausible(n)))
            else:
                dims.append(n)
        out.append(tuple(dims))
    return out


def refreshed(patterns: list[tuple], shapes: list[tuple], fixed: set[tuple[int, int]]) -> list[tuple]:
    """The patterns with the sizes of another call as what decisions follow; those at `fixed` places are known."""

    def one(p: int | Dim, n: int, place: tuple[int, int]) -> int | Dim:
        return Dim(p.terms, _plausible(n, p.hint)) if isinstance(p, Dim) and place not in fixed else n

    return [
        tuple([one(p, n, (i, j)) for j, (p, n) in enumerate(zip(ps, ns, strict=True))])
        for i, (ps, ns) in enumerate(zip(patterns, shapes, strict=True))
    ]


def guesses(patterns: list[tuple], shapes: list[tuple]) -> bool:
    """Whether decisions follow sizes that the call does not have."""
    return any(isinstance(p, Dim) and p.hint != n for ps, ns in zip(patterns, shapes) for p, n in zip(ps, ns))


def known_small(patterns: list[tuple], shapes: list[tuple]) -> tuple[list[tuple], str]:
    """The patterns for a call whose sizes 0 and 1 are to be known."""
    out = [tuple([n if n < 2 else p for p, n in zip(ps, ns)]) for ps, ns in zip(patterns, shapes)]
    apart = ", ".join(str(s) for s, old, new in zip(shapes, patterns, out) if any(a is not b for a, b in zip(old, new)))
    return out, f"sizes that the function treats in a way of their own: {apart}"


def axes_of(patterns: list[tuple], symbols: Iterable[str]) -> list[tuple[int, int]]:
    """Where these symbols stand: which shape, and which axis."""
    wanted = set(symbols)
    return [
        (i, j) for i, p in enumerate(patterns) for j, d in enumerate(p) if isinstance(d, Dim) and d.symbols & wanted
    ]


def symbols_of(patterns: list[tuple]) -> frozenset[str]:
    return frozenset(s for p in patterns for d in p if isinstance(d, Dim) for s in d.symbols)


def sizes_of(
    patterns: list[tuple], guards: Iterable[tuple[str, Dim, bool]], shapes: list[tuple]
) -> dict[str, int] | None:
    """The sizes of the symbols for these shapes, None where patterns or guards do not fit them."""
    sizes: dict[str, int] = {}
    for pattern, shape in zip(patterns, shapes, strict=True):
        for p, d in zip(pattern, shape, strict=True):
            if isinstance(p, Dim):
                (name,) = p.symbols
                if sizes.setdefault(name, d) != d:
                    return None
            elif p != d:
                return None
    for relation, dim, answer in guards:
        n = dim.evaluate(sizes)
        holds = {"==": n == 0, "<": n < 0, "<=": n <= 0, ">": n > 0, ">=": n >= 0}[relation]
        if holds != answer:
            return None
    return sizes


def why(earlier: Iterable[tuple], key: tuple[Any, tuple]) -> str:
    """The difference to the closest earlier key."""
    structure, kinds = key
    best, where = None, ""
    for s, k in earlier:
        if s != structure:
            if s.plain == structure.plain:
                where = where or "the keys of a dict stand in another order"
            continue
        diff = [i for i, (a, b) in enumerate(zip(k, kinds, strict=True)) if a != b]
        if best is None or len(diff) < best:
            best = len(diff)
            paths = list(structure.paths("args"))
            where = "; ".join(f"{paths[i]}: {k[i]} -> {kinds[i]}" for i in diff[:3])
    return where or "the structure of the arguments differs"
