"""What loops leave that may end in steps where a tensor has other shapes, as one tensor whose sizes the program finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph.values import Either
from tracejit.ir.op import OPS
from tracejit.ir.types import int64
from tracejit.ops.array import pad
from tracejit.ops.getitem import getitem
from tracejit.ops.regions import as_test
from tracejit.tensor import Operand, Tensor, convert

MOST = 24  # steps in which a loop may end


def as_one(x: Either) -> Any:
    """One tensor in the place of several, none of which has sizes that only the program knows; or what it is."""
    found = list[tuple[Any, Tensor]]()
    if not _listed(x, [], found) or len(found) > MOST:
        return x
    tensors = [t for _, t in found]
    if len({(t.dtype, t.type.weak, len(t.shape)) for t in tensors}) > 1:
        return x
    if not all(type(n) is int for t in tensors for n in t.shape):
        return x
    most = [max(sizes) for sizes in zip(*[t.shape for t in tensors], strict=True)]
    whole = _chosen([(test, _padded(t, most)) for test, t in found])
    key = []
    for axis, size in enumerate(most):
        differs = any(t.shape[axis] != size for t in tensors)
        ends = [(test, OPS["cast"](t.shape[axis], dtype=int64)) for test, t in found] if differs else []
        key.append(slice(None, _chosen(ends) if differs else None))
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


def _padded(t: Tensor, most: Sequence[int]) -> Tensor:
    """With zeros behind its elements; they are cut off again."""
    return pad(t, [(0, n - size) for n, size in zip(most, t.shape, strict=True)]) if tuple(t.shape) != tuple(most) else t


def _chosen(found: Sequence[tuple[Any, Tensor]]) -> Tensor:
    out = found[-1][1]
    for test, t in reversed(found[:-1]):
        out = OPS["where"](test, t, out)
    return out
