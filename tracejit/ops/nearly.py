"""The k largest or smallest elements along any axis, as functions that may be inexact: here they are exact."""

from __future__ import annotations

from typing import Any

from tracejit.ir.types import int32
from tracejit.ops import args
from tracejit.ops import elementwise as E
from tracejit.ops.args import as_axis, as_size, require
from tracejit.ops.array import cut, moveaxis
from tracejit.ops.results import TopKV2
from tracejit.ops.select import argsort, take_along_axis, top_k


def approx_max_k(
    operand: Any, k: Any, reduction_dimension: Any = -1, recall_target: float = 0.95,
    reduction_input_size_override: int = -1, aggregate_to_topk: bool = True, name: str | None = None,
) -> TopKV2:  # fmt: skip
    """The k largest elements along an axis, the largest first, and their positions (int32): exactly.

    The arguments that say how inexact the result may be are taken and not needed.
    """
    return _most(operand, k, reduction_dimension, True)


def approx_min_k(
    operand: Any, k: Any, reduction_dimension: Any = -1, recall_target: float = 0.95,
    reduction_input_size_override: int = -1, aggregate_to_topk: bool = True, name: str | None = None,
) -> TopKV2:  # fmt: skip
    """The k smallest elements along an axis, the smallest first, and their positions (int32): exactly."""
    return _most(operand, k, reduction_dimension, False)


def _most(x: Any, k: Any, axis: Any, largest: bool) -> TopKV2:
    x = args.operand(x)
    at = as_axis(axis, x.ndim, "reduction_dimension")
    lines = moveaxis(x, at, -1)
    if largest:
        values, places = top_k(lines, k)
    else:
        n = as_size(k, "k")
        require(n <= x.shape[at], f"k = {n} of {x.shape[at]} elements")
        places = cut(argsort(lines, -1), x.ndim - 1, 0, n)
        values = take_along_axis(lines, places, -1)
    return TopKV2(moveaxis(values, -1, at), moveaxis(E.cast(places, dtype=int32), -1, at))
