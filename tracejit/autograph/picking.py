"""Items of lists and tuples at positions that only the running program knows, which are of several types perhaps."""

from __future__ import annotations

from typing import Any

from tracejit.autograph import chosen, listops, reads
from tracejit.autograph.branches import if_exp, traced
from tracejit.autograph.failures import may_be_known
from tracejit.ir.op import OPS
from tracejit.ir.types import float64, int64
from tracejit.ops.array import stack
from tracejit.tensor import Operand, common_dtype

_EXACT = 1 << 53  # integers up to which a float64 holds


def is_position(x: Any, key: Any) -> bool:
    """Whether a key is a traced position in a sequence, and stays one."""
    of_sequence = type(x) in (list, tuple, str) and len(x) > 0 and isinstance(key, Operand) and traced(key)
    return of_sequence and not key.shape and key.dtype.kind in "iu" and not may_be_known()


def joined(x: Any, key: Any) -> Any:
    """The item of numbers, or of tensors of one shape, that have several types: in the one that holds them all, as
    branches would have it. Else `...`."""
    if not all(type(y) in (int, float) or (isinstance(y, Operand) and y.dtype.kind in "iuf") for y in x):
        return ...
    if len({tuple(y.shape) if isinstance(y, Operand) else () for y in x}) > 1:
        return ...
    if any(type(y) is int and abs(y) > _EXACT for y in x):
        return ...
    dtype, weak = common_dtype(list(x))
    if weak:
        dtype = float64 if dtype.kind == "f" else int64
    item = stack([OPS["cast"](y, dtype=dtype) for y in reads.whole(x)])[key]
    return OPS["cast"](item, dtype=dtype, weak=True) if weak else item


def set_at(x: list[Any], key: Any, value: Any) -> None:
    """`x[key] = value`, where each item may be the one."""
    n = OPS["cast"](len(x), dtype=int64)
    at = listops.index(key, n, "list assignment index out of range")
    for k, old in enumerate(reads.whole(x)):
        x[k] = if_exp(OPS["equal"](at, k), lambda: value, lambda old=old: old)  # type: ignore[misc]


def can_be_set(x: Any, key: Any) -> bool:
    return type(x) is list and len(x) <= chosen.MOST and is_position(x, key)
