"""The Numba source compiled by Numba, in parallel: every row of the table at least once, in one of the dtypes.

All cases in all dtypes, and in all shapes for one dtype, are marked slow; test_differential.py runs the source as
plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import TOLERANCE
from lowerings import Lowered, draws_agree, flat
from op_table import CASES, Case
from test_differential import same

import tracejit as tj
from tracejit.context import listen, unlisten
from tracejit.ir.types import ALL, DType

Variant = tuple[Case, Sequence[tuple[int, ...]]]


class Heard:
    """The rows that eager calls go through."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def record(self, op: Any, keys: tuple, values: tuple, attrs: dict, outs: tuple) -> None:
        self.names.add(op.name)

    def knows(self, x: Any) -> bool:
        return False


def rows(c: Case) -> set[str]:
    heard = Heard()
    listen(heard)
    try:
        c.f(*[tj.constant(x) for x in c.arrays(c.dtypes()[-1], c.small())])
    finally:
        unlisten(heard)
    return heard.names


def covering() -> list[Case]:
    """Cases that go through all rows of the table, those of few rows first: what others are composed of."""
    out, have = [], set()
    for c, mine in sorted(((c, rows(c)) for c in CASES), key=lambda x: len(x[1])):
        if not mine <= have:
            have |= mine
            out.append(c)
    return out


def largest(c: Case) -> Sequence[tuple[int, ...]]:
    return max(c.shapes, key=lambda shapes: sum(int(np.prod(s)) for s in shapes))


def one_dtype_each() -> dict[DType, list[Variant]]:
    """Each row in one of its dtypes, in turns."""
    out: dict[DType, list[Variant]] = {d: [] for d in ALL}
    for c in covering():
        d = min(c.dtypes(), key=lambda d: len(out[d]))
        out[d].append((c, largest(c)))
    return out


def agree(d: DType, variants: Sequence[Variant]) -> None:
    """All of them as one program. Operands of equal shape and domain are the same, so that their loops are one."""
    known: dict[Any, int] = {}
    operands: list[np.ndarray] = []
    at = []
    for c, shapes in variants:
        keys = [(i, s, c.domain(i), c.fixed.get(i)) for i, s in enumerate(shapes)]
        for k, a in zip(keys, c.arrays(d, shapes, seed=len(known))):
            if k not in known:
                known[k] = len(operands)
                operands.append(a)
        at.append([known[k] for k in keys])

    def program(xs):
        return [c.f(*[xs[i] for i in mine]) for (c, _), mine in zip(variants, at)]

    eager = [flat(y) for y in program([tj.constant(a) for a in operands])]
    labels = [v for v, ys in zip(variants, eager) for _ in ys]
    for way, got in Lowered(program, njit=True).results(operands):
        for (c, shapes), a, b in zip(labels, flat(eager), got, strict=True):
            tol = TOLERANCE.get(a.dtype.name, 0.0) * 4 * min(c.factor, 100)
            same(b, a, tol, f"{way}: {c.name} of {d.name}{shapes}")


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_each_operation(dtype):
    agree(dtype, one_dtype_each()[dtype])


def test_random_draws():
    draws_agree(njit=True)


CHUNK = 64


def everything() -> list:
    out = []
    for d in ALL:
        mine = [c for c in CASES if d.kind in c.kinds]
        variants = [(c, s) for c in mine for s in (c.shapes if d is tj.float32 else [largest(c)])]
        chunks = [variants[i : i + CHUNK] for i in range(0, len(variants), CHUNK)]
        out += [pytest.param(d, chunk, id=f"{d.name}-{i}") for i, chunk in enumerate(chunks)]
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "variants"), everything())
def test_everything(dtype, variants):
    agree(dtype, variants)
