"""Windows that slide over the spatial axes of images: their arguments in TensorFlow's forms, sizes and paddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import Op
from tracejit.ir.sizes import at_least
from tracejit.ir.types import TensorType, show_shape
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_sizes, operand, require
from tracejit.ops.check import require_room
from tracejit.ops.extents import is_late
from tracejit.ops.found import refuse_found
from tracejit.tensor import Operand, Tensor

LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


@dataclass(frozen=True)
class Windows:
    """Where windows stand along each spatial axis: what is added around the image, and how many of them fit."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[Size, ...]
    after: tuple[Size, ...]
    count: tuple[Size, ...]

    @property
    def padded(self) -> bool:
        return any(type(p) is not int or p != 0 for p in (*self.before, *self.after))

    def attr(self) -> tuple[tuple[Size, ...], ...]:
        return astuple(self)


# --- arguments --------------------------------------------------------------------------------------------------------
def channels_first(data_format: Any, n: int) -> bool:
    """Whether the channels come before the spatial axes; None means that they come last."""
    if data_format is None or data_format == LAST[n]:
        return False
    require(data_format == FIRST[n], f"data_format is {LAST[n]!r} or {FIRST[n]!r}, not {data_format!r}")
    return True


def image(x: Any, n: int, what: str = "input") -> Operand:
    """A tensor with a batch, n spatial axes and channels. Batches may have several axes, or be counted as one."""
    t = operand(x)
    if t.ndim < n + 2:
        wanted = f"a batch, {n} spatial {'axes' if n > 1 else 'axis'} and channels are {n + 2}"
        raise locate(ShapeError(f"{what} {show_shape(t.shape)} has {t.ndim} axes; {wanted}"))
    return numeric(t, what)


def numeric(t: Operand, what: str) -> Operand:
    if t.dtype.kind not in "iuf":
        raise locate(DTypeError(f"{what} holds real numbers, not {t.dtype.name}"))
    return t


def per_axis(value: Any, n: int, first: bool, what: str) -> tuple[int, ...]:
    """One positive integer for each spatial axis, from one number, from n, or from n + 2 with those of all axes."""
    given = (1,) if value is None else as_sizes(value, what)
    if len(given) == 1:
        given *= n
    elif len(given) == n + 2:
        channel = 1 if first else n + 1
        require(given[0] == 1 and given[channel] == 1, f"{what} over batch and channels must be 1, not {given}")
        given = given[2:] if first else given[1:-1]
    require(len(given) == n, f"{what} needs 1, {n} or {n + 2} numbers, not {len(given)}")
    sizes = tuple([int(g) for g in given])
    require(all(s > 0 for s in sizes), f"{what} must be positive, not {sizes}")
    return sizes


def _explicit(padding: Any, n: int, first: bool) -> list[tuple[int, int]]:
    """Pairs for the spatial axes from pairs for them or for all axes."""
    pairs = [as_sizes(p, "padding") for p in padding]
    require(all(len(p) == 2 for p in pairs), f"padding is a list of pairs (before, after), not {padding!r}")
    if len(pairs) == n + 2:
        others = (0, 1) if first else (0, n + 1)
        require(all(pairs[i] == (0, 0) for i in others), f"padding of batch and channels must be 0: {padding!r}")
        pairs = pairs[2:] if first else pairs[1:-1]
    require(len(pairs) == n, f"padding needs a pair for each of {n} or {n + 2} axes, not {len(pairs)}")
    require(all(p >= 0 for pair in pairs for p in pair), f"padding must not be negative: {padding!r}")
    return [(int(a), int(b)) for a, b in pairs]


def place_windows(
    have: Sequence[Size], size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], padding: Any,
    first: bool,
) -> Windows:  # fmt: skip
    """Windows over an image whose spatial sizes are `have`: padding is SAME, VALID or pairs of numbers."""
    n = len(size)
    before: list[Size] = []
    after: list[Size] = []
    count: list[Size] = []
    kind = padding.upper() if isinstance(padding, str) else ""
    pairs_given = isinstance(padding, (list, tuple, np.ndarray, Operand))
    if not pairs_given and kind not in ("SAME", "VALID"):
        raise locate(ArgumentError(f"padding is 'SAME', 'VALID' or a list of pairs, not {padding!r}"))
    pairs = _explicit(padding, n, first) if not kind else [(0, 0)] * n
    for d, k, s, r, (a, b) in zip(have, size, stride, dilation, pairs, strict=True):
        reach = (k - 1) * r + 1
        if kind == "SAME":
            c = (d + s - 1) // s
            total = (c - 1) * s + reach - d
            if isinstance(total, Dim) and is_late(total) and reach < s:
                refuse_found(total)
            total = total if is_late(total) or total > 0 else 0  # windows that reach over steps leave nothing out
            low: Size = total // 2
            high: Size = total - low
        else:
            room = d + a + b - reach
            said = f"a window that reaches over {reach} elements does not fit into {{}}"
            require_room(room + s, "ShapeError", said, d + a + b)
            if not at_least(room + (s if is_late(room) else 2 * s - 1), 0):
                raise locate(ShapeError(f"a window that reaches over {reach} elements does not fit into {d + a + b}"))
            c, low, high = (room + s) // s if is_late(room) or room + s > 0 else 0, a, b
        before.append(low)
        after.append(high)
        count.append(c)
    return Windows(size, stride, dilation, tuple(before), tuple(after), tuple(count))


# --- layouts ----------------------------------------------------------------------------------------------------------
def channels_last(x: Operand, n: int, first: bool) -> tuple[Operand, tuple[Size, ...]]:
    """The image as [batch, spatial…, channels], and the axes that its batch had."""
    lead = tuple(x.shape[: x.ndim - n - 1])
    if len(lead) > 1:
        batch: Size = 1
        for d in lead:
            batch = batch * d
        x = S.reshape(x, shape=(batch, *x.shape[len(lead) :]))
    return (S.transpose(x, perm=(0, *range(2, n + 2), 1)) if first else x), lead


def given_layout(y: Tensor, n: int, first: bool, lead: tuple[Size, ...]) -> Tensor:
    """The way back: channels where they were, the batch's axes as they were."""
    if first:
        y = S.transpose(y, perm=(0, n + 1, *range(1, n + 1)))
    return S.reshape(y, shape=(*lead, *y.shape[1:])) if len(lead) > 1 else y


def padded(x: Operand, w: Windows, fill: Any = 0) -> Operand:
    """[batch, spatial…, channels] with the windows' padding around it."""
    if not w.padded:
        return x
    sizes = [a + d + b for a, d, b in zip(w.before, x.shape[1:-1], w.after, strict=True)]
    return S.place(
        x, shape=(x.shape[0], *sizes, x.shape[-1]), start=(0, *w.before, 0), step=(1,) * x.ndim, fill=fill
    )


def under(x: Operand, w: Windows, at: Sequence[int]) -> Tensor:
    """What one position of the window sees of a padded image in all places: [batch, count…, channels]."""
    return S.slice_(
        x,
        start=(0, *[i * r for i, r in zip(at, w.dilation, strict=True)], 0),
        size=(x.shape[0], *w.count, x.shape[-1]),
        step=(1, *w.stride, 1),
    )


def spread(y: Operand, w: Windows, at: Sequence[int], have: Sequence[Size]) -> Tensor:
    """The transpose of `under`: each element where that position of the window stood, zeros elsewhere."""
    sizes = [a + d + b for a, d, b in zip(w.before, have, w.after, strict=True)]
    return S.place(
        y,
        shape=(y.shape[0], *sizes, y.shape[-1]),
        start=(0, *[i * r for i, r in zip(at, w.dilation, strict=True)], 0),
        step=(1, *w.stride, 1),
        fill=0,
    )


# --- derivatives by rule ----------------------------------------------------------------------------------------------
def _first_type(y: TensorType, *xs: TensorType, **attrs: Any) -> TensorType:
    return y.strong()


def _first(y: np.ndarray, *xs: np.ndarray, **attrs: Any) -> np.ndarray:
    return y


def derived(name: str, arity: int, vjp: Callable[..., Any], jvp: Callable[..., Any], doc: str) -> Callable[..., Tensor]:
    """A row that is its first operand, a value composed of the others; its derivatives by these are told by rule.

    Rows over many images at once need no rule: the value's own derivatives hold as well, and only cost more.
    """

    def back(g: Tensor, y: Tensor, *xs: Tensor, **attrs: Any) -> tuple:
        return (None, *vjp(g, *xs[1:], **attrs))

    def ahead(t: tuple, y: Tensor, *xs: Tensor, **attrs: Any) -> Any:
        return None if all(d is None for d in t[1:]) else jvp(t[1:], *xs[1:], **attrs)

    row = Op(
        name, "opaque", _first_type, _first, vjp=back, jvp=ahead, arity=arity + 1, dtypes="f", special="first", doc=doc
    )

    def call(y: Tensor, *xs: Operand, **attrs: Any) -> Tensor:
        return row(y, *xs, **attrs) if activity.busy and y.dtype.kind == "f" else y

    return call
