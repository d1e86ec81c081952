"""What loops leave that end in a step where a tensor has another shape: one tensor whose sizes the program finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph.values import Either
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.array import pad
from tracejit.ops.found import is_open
from tracejit.ops.getitem import getitem
from tracejit.ops.regions import as_test
from tracejit.tensor import Operand, Tensor, convert

MOST = 24  # steps in which a loop may end


def as_one(x: Either) -> Any:
    """One tensor in the place of several; what it is if their kinds differ, or sizes that no trace may know."""
    found = list[tuple[Any, Tensor]]()
    if not _listed(x, [], found) or len(found) > MOST:
        return x
    tensors = [t for _, t in found]
    if len({(t.dtype, t.type.weak, len(t.shape)) for t in tensors}) > 1:
        return x
    each = list(zip(*[t.shape for t in tensors], strict=True))
    same = [all(n == sizes[0] for n in sizes) for sizes in each]
    if any(is_open(n) for alike, sizes in zip(same, each, strict=True) if not alike for n in sizes):
        return x
    most = [None if alike else max(map(int, sizes)) for alike, sizes in zip(same, each, strict=True)]
    whole, key = _chosen([(test, _padded(t, most)) for test, t in found]), list[slice]()
    for axis, size in enumerate(most):
        ends = [(test, OPS["cast"](int(t.shape[axis]), dtype=int64)) for test, t in found if size is not None]
        key.append(slice(None, _chosen(ends) if ends else None))
    return getitem(whole, tuple(key))


def _listed(x: Any, tests: list[Any], found: list[tuple[Any, Tensor]]) -> bool:
    """Collect the tensors that it may be, each with the test that says so where none before it has."""
    if type(x) is Either:
        test = as_test(x.flag)
        return _listed(x.first, [*tests, test], found) and _listed(x.second, tests, found)
    if not isinstance(x, Operand):
        return False
    meant = tests[0] if tests else None
    for t in tests[1:]:
        meant = OPS["logical_and"](meant, t)
    found.append((meant, convert(x)))
    return True


def _padded(t: Tensor, most: Sequence[int | None]) -> Tensor:
    """With zeros behind its elements; they are cut off again."""
    behind = [(0, 0 if n is None else n - int(size)) for n, size in zip(most, t.shape, strict=True)]
    return pad(t, behind) if any(n for _, n in behind) else t


def _chosen(found: Sequence[tuple[Any, Tensor]]) -> Tensor:
    out = found[-1][1]
    for test, t in reversed(found[:-1]):
        out = OPS["where"](test, t, out)
    return out
