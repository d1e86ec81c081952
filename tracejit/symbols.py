"""Which sizes a new trace leaves open: those that a signature leaves open, and those that have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tracejit.arguments import TensorSpec
from tracejit.ir.dim import Dim
from tracejit.ir.types import show_shape


def widened(last: list[tuple], shapes: list[tuple], fixed: set[tuple[int, int]]) -> tuple[list[tuple], str]:
    """Shapes for a new trace beside one for the shapes `last`: where they differ, the size becomes a symbol."""
    names: dict[tuple, Dim] = {}
    out = []
    for i, (old, new) in enumerate(zip(last, shapes, strict=True)):
        dims: list[int | Dim] = []
        for j, (o, n) in enumerate(zip(old, new, strict=True)):
            was = o.hint if isinstance(o, Dim) else o
            if (was != n or isinstance(o, Dim)) and n > 1 and was > 1 and (i, j) not in fixed:
                tag = (str(o) if isinstance(o, Dim) else o, n)
                if tag not in names:
                    names[tag] = Dim.symbol(f"d{len(names)}", n)
                dims.append(names[tag])
            else:
                dims.append(n)
        out.append(tuple(dims))
    changed = ", ".join(show_shape(p) for p in out if any(isinstance(d, Dim) for d in p))
    return out, f"sizes changed: {changed or 'one became 0 or 1'}"


def from_specs(shapes: list[tuple], specs: Sequence[TensorSpec | None]) -> list[tuple]:
    """Shapes with symbols where the specs leave the size open."""
    out = []
    for i, shape in enumerate(shapes):
        spec = specs[i] if i < len(specs) else None
        dims: list[int | Dim] = []
        for j, n in enumerate(shape):
            want = spec.shape[j] if spec is not None else n
            if want is None or isinstance(want, str):
                dims.append(Dim.symbol(want or f"d{i}_{j}", n) if n > 1 else n)
            else:
                dims.append(n)
        out.append(tuple(dims))
    return out


def why(earlier: Iterable[tuple], key: tuple[Any, tuple]) -> str:
    """The difference to the closest earlier key."""
    structure, kinds = key
    best, where = None, ""
    for s, k in earlier:
        if s != structure:
            continue
        diff = [i for i, (a, b) in enumerate(zip(k, kinds, strict=True)) if a != b]
        if best is None or len(diff) < best:
            best = len(diff)
            paths = list(structure.paths("args"))
            where = "; ".join(f"{paths[i]}: {k[i]} -> {kinds[i]}" for i in diff[:3])
    return where or "the structure of the arguments differs"
