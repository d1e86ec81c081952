"""The native forms of public functions and methods, each None until native code is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Fast:
    """Functions of positional operands that return NotImplemented where it is not simple."""

    __slots__ = (
        "cast", "convert", "identity", "reshape", "transpose", "reverse_axes", "squeeze", "expand_dims", "assign",
        "assign_add", "assign_sub", "sealed", "masked", "swap_last", "block", "rank", "size", "shape",
        "bits", "real", "imag", "zeros", "count", "strided", "put", "moved", "elements",
        "segment_sum", "segment_prod", "segment_max", "segment_min", "steps",
    )  # fmt: skip
    cast: Callable[[Any, Any], Any] | None
    convert: Callable[[Any, Any], Any] | None
    identity: Callable[[Any], Any] | None
    reshape: Callable[[Any, Any], Any] | None
    transpose: Callable[[Any, Any], Any] | None
    reverse_axes: Callable[[Any], Any] | None
    squeeze: Callable[[Any, Any], Any] | None
    expand_dims: Callable[[Any, Any], Any] | None
    assign: Callable[[Any, Any], Any] | None
    assign_add: Callable[[Any, Any], Any] | None
    assign_sub: Callable[[Any, Any], Any] | None
    sealed: Callable[[Any], Any] | None
    masked: Callable[[Any, Any], Any] | None
    swap_last: Callable[[Any], Any] | None
    block: Callable[[Any, Any, Any], Any] | None
    rank: Callable[[Any], Any] | None
    size: Callable[[Any], Any] | None
    shape: Callable[[Any], Any] | None
    bits: Callable[[Any, Any], Any] | None
    real: Callable[[Any], Any] | None
    imag: Callable[[Any], Any] | None
    zeros: Callable[[Any, Any], Any] | None
    count: Callable[[Any], Any] | None
    strided: Callable[[Any, Any, Any, Any], Any] | None
    put: Callable[[Any, Any, Any], Any] | None
    moved: Callable[[Any, Any], Any] | None
    elements: Callable[[Any], Any] | None
    segment_sum: Callable[[Any, Any, Any], Any] | None
    segment_prod: Callable[[Any, Any, Any], Any] | None
    segment_max: Callable[[Any, Any, Any, Any], Any] | None
    segment_min: Callable[[Any, Any, Any, Any], Any] | None
    steps: Callable[[Any, Any, Any], Any] | None

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, None)


fast = Fast()
