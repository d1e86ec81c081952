"""Overlapping frames of a signal, and signals from overlapping frames."""

from __future__ import annotations

from typing import Any

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import int64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axis, as_size, operand, require
from tracejit.ops.creation import counter
from tracejit.ops.quick import planned, traced
from tracejit.ops.reductions import reduce_sum
from tracejit.tensor import Operand, Tensor


def positive(x: Any, what: str) -> Size:
    n = as_size(x, what)
    require(n > 0, f"{what} is 1 or more, not {n}")
    return n


def frame(
    signal: Any, frame_length: Any, frame_step: Any, pad_end: bool = False, pad_value: Any = 0, axis: Any = -1,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Frames of `frame_length` elements along an axis, each beginning `frame_step` behind the one before.

    (…, samples, …) → (…, frames, frame_length, …). Only whole frames, 1 + (samples − frame_length) // frame_step of
    them; with `pad_end` a frame for each ⌈samples / frame_step⌉, with `pad_value` behind the end. Raises `ShapeError`
    for a 0-d signal and `ArgumentError` for lengths and steps below 1.
    """
    if not activity.busy:
        if (quick := traced(frame, signal, frame_length, frame_step, pad_end, pad_value, axis)) is not None:
            return quick
    x = operand(signal)
    at = as_axis(axis, x.ndim)
    length, step = positive(frame_length, "frame_length"), positive(frame_step, "frame_step")
    n = x.shape[at]
    count: Size
    if pad_end:
        count = (n + step - 1) // step
        more = length + step * (count - 1) - n
        if more > 0:
            x = A.pad(x, [[0, more if i == at else 0] for i in range(x.ndim)], constant_values=pad_value)
    else:
        count = 1 + (n - length) // step if n >= length else 0
    if length is step or known_equal(length, step):
        whole = A.cut(x, at, 0, count * length)
        return S.reshape(whole, shape=(*x.shape[:at], count, length, *x.shape[at + 1 :]))  # type: ignore[no-any-return]
    first = E.mul(counter(count, 2, 0, int64), step)
    return I.gather(x, E.add(first, counter(length, 2, 1, int64)), axis=at)  # type: ignore[no-any-return]


def overlap_and_add(signal: Any, frame_step: Any, name: str | None = None) -> Tensor:
    """The sum of frames, each `frame_step` behind the one before: (…, frames, length) → (…, samples).

    There are (frames − 1) · frame_step + length samples. Raises `ShapeError` for fewer than two axes.
    """
    if not activity.busy and (quick := planned(overlap_and_add, signal, frame_step)) is not None:
        return quick
    x = operand(signal)
    if x.ndim < 2:
        raise locate(ShapeError(f"overlap_and_add takes (…, frames, length), not {x.type}"))
    step = positive(frame_step, "frame_step")
    frames, length = x.shape[-2:]
    count = (frames - 1) * step + length
    return _added(x, step, frames, length, count if count > 0 else 0)


def _added(x: Operand, step: Size, frames: Size, length: Size, count: Size) -> Tensor:
    """Frames cut into parts of one step. Rows of parts that are longer by one than the sum has parts, taken one behind
    the other and cut anew at its length, are each shifted by one against the row before.
    """
    outer = tuple(x.shape[:-2])
    k = len(outer)
    parts = (length + step - 1) // step
    if known_equal(frames, 0):
        return A.broadcast_to(E.cast(0, dtype=x.dtype), (*outer, count))
    rows = frames + parts
    whole = [[0, 0]] * k + [[0, parts], [0, parts * step - length]]
    y = S.reshape(A.pad(x, whole), shape=(*outer, rows, parts, step))
    y = S.transpose(y, perm=(*range(k), k + 1, k, k + 2))
    y = A.cut(S.reshape(y, shape=(*outer, rows * parts, step)), k, 0, (rows - 1) * parts)
    y = reduce_sum(S.reshape(y, shape=(*outer, parts, rows - 1, step)), k)
    return A.cut(S.reshape(y, shape=(*outer, (rows - 1) * step)), k, 0, count)
