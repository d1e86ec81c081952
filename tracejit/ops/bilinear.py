"""Convolution, its transpose and its gradient for the filters: forms of one sum, each the derivative of the others.

The sum is Σ image[window at p][k, c] · filters[k, c, o] · outputs[p, o] over all places p of the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import hint, known_equal, shown
from tracejit.ir.types import DType, float32
from tracejit.ops import contract as C
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops import windows as W
from tracejit.ops.args import Size
from tracejit.ops.array import cut
from tracejit.tensor import Operand, Tensor

NARROW = 8  # channels: for fewer, patches lie with the positions of the window first
COPY = 20  # multiply-adds that take as long as writing and reading an element of a patch
LANES = 16  # columns of a product that take as long as one


def groups_of(channels: Size, per_group: Size, outputs: Size) -> int:
    """How many groups of channels there are: each sees its own channels and gives an equal share of the outputs."""
    if known_equal(channels, per_group):
        return 1
    c, p, o = int(channels), int(per_group), int(outputs)
    if not p or c % p:
        found = f"{shown(channels)} channels are no multiple of the {shown(per_group)} that the filters take"
        raise locate(ShapeError(found))
    if o % (c // p):
        raise locate(ShapeError(f"{shown(outputs)} output channels cannot be dealt to {c // p} groups"))
    return c // p


def positions(size: Sequence[int]) -> list[tuple[int, ...]]:
    return list(np.ndindex(*size))


def wide(x: Operand) -> Operand:
    """16-bit floats are summed as float32."""
    return E.cast(x, dtype=float32) if x.dtype.kind == "f" and x.dtype.bits == 16 else x


def narrow(x: Tensor, dtype: DType) -> Tensor:
    return x if x.dtype is dtype else E.cast(x, dtype=dtype)


def _places(batch: Size, w: W.Windows) -> Size:
    total = batch
    for c in w.count:
        total = total * c
    return total


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return S.concat(*parts, axis=axis) if len(parts) > 1 else parts[0]


# --- what windows see, as a matrix ------------------------------------------------------------------------------------
def _patches(x: Operand, w: W.Windows) -> tuple[Tensor, bool]:
    """A matrix with a row for each place of the window and a column for each element; True: it is transposed."""
    rows, depth = _places(x.shape[0], w), math.prod(w.size) * x.shape[-1]
    x = W.padded(x, w)
    if hint(x.shape[-1]) < NARROW and math.prod(w.size) > 1:
        last = x.ndim - 1
        seen = [S.transpose(W.under(x, w, at), perm=(last, *range(last))) for at in positions(w.size)]
        return S.reshape(_joined(seen, 0), shape=(depth, rows)), True
    seen = [W.under(x, w, at) for at in positions(w.size)]
    return S.reshape(_joined(seen, x.ndim - 1), shape=(rows, depth)), False


def _group_patches(x: Operand, w: W.Windows, groups: int) -> Tensor:
    """Such a matrix for each group of channels."""
    rows, share = _places(x.shape[0], w), x.shape[-1] // groups
    x = W.padded(x, w)
    seen = [S.reshape(W.under(x, w, at), shape=(rows, groups, share)) for at in positions(w.size)]
    return S.transpose(_joined(seen, 2), perm=(1, 0, 2))


def _by_group(x: Operand, rows: Size, groups: int) -> Tensor:
    """[rows, groups · share] as [groups, rows, share]."""
    share = x.shape[-1] // groups
    return S.transpose(S.reshape(x, shape=(rows, groups, share)), perm=(1, 0, 2))


# --- the outputs ------------------------------------------------------------------------------------------------------
def convolve(x: Operand, filters: Operand, w: W.Windows) -> Tensor:
    """[batch, spatial…, channels] and [size…, channels of a group, outputs] → [batch, count…, outputs]."""
    return _convolved(_convolve(x, filters, w), x, filters, windows=w.attr())


def _convolve(x: Operand, filters: Operand, w: W.Windows) -> Tensor:
    *_, per_group, outputs = filters.shape
    groups = groups_of(x.shape[-1], per_group, outputs)
    depth = math.prod(w.size) * per_group
    kernels = S.reshape(filters, shape=(depth, outputs))
    if groups > 1:
        y = C.matmul(_group_patches(x, w, groups), _by_group(kernels, depth, groups))
        y = S.transpose(y, perm=(1, 0, 2))
    else:
        patches, turned = _patches(x, w)
        y = C.matmul(patches, kernels, ta=turned)
    return S.reshape(y, shape=(x.shape[0], *w.count, outputs))


# --- the image --------------------------------------------------------------------------------------------------------
def unconvolve(y: Operand, filters: Operand, w: W.Windows, have: tuple[Size, ...], channels: Size) -> Tensor:
    """[batch, count…, outputs] and the same filters → [batch, have…, channels]: overlapping parts are added."""
    if all(s == 1 for s in w.stride):
        image = _by_shifts(y, filters, w, have, channels)
    else:
        image = _by_places(y, filters, w, have, channels)
    return _unconvolved(image, y, filters, windows=w.attr(), have=have, channels=channels)


def _columns(y: Operand, filters: Operand, channels: Size) -> Tensor:
    """What each place of the window adds to the image: [batch, spatial…, positions · channels]."""
    *size, per_group, outputs = filters.shape
    groups = groups_of(channels, per_group, outputs)
    rows: Size = 1
    for d in y.shape[:-1]:
        rows = rows * d
    depth = math.prod(size) * per_group
    kernels = S.reshape(filters, shape=(depth, outputs))
    if groups > 1:
        parts = C.matmul(_by_group(y, rows, groups), _by_group(kernels, depth, groups), tb=True)
        parts = S.reshape(parts, shape=(groups, rows, math.prod(size), per_group))
        parts = S.transpose(parts, perm=(1, 2, 0, 3))
    else:
        parts = C.matmul(S.reshape(y, shape=(rows, outputs)), kernels, tb=True)
    return S.reshape(parts, shape=(*y.shape[:-1], math.prod(size) * channels))


def _by_shifts(y: Operand, filters: Operand, w: W.Windows, have: tuple[Size, ...], channels: Size) -> Tensor:
    """For windows one element apart: zeros around the outputs, so that each element of the image finds its parts."""
    reach = [(k - 1) * r for k, r in zip(w.size, w.dilation, strict=True)]
    low = [r - b if r > b else 0 for r, b in zip(reach, w.before, strict=True)]
    high = [r - a if r > a else 0 for r, a in zip(reach, w.after, strict=True)]
    back = W.Windows(w.size, w.stride, w.dilation, tuple(low), tuple(high), have)
    within = all(map(_within, w.before, reach)) and all(map(_within, w.after, reach))
    if within and _turning_is_cheaper(y, back, filters, channels):
        return _convolve(y, _turned(filters), back)
    y = W.padded(y, back)
    parts = _columns(y, filters, channels)
    total, last = None, y.ndim - 1
    for i, at in enumerate(positions(w.size)):
        start = [a + b - k * r for a, b, k, r in zip(low, w.before, at, w.dilation, strict=True)]
        part = S.slice_(
            parts, start=(0, *start, i * channels), size=(y.shape[0], *have, channels), step=(1,) * (last + 1)
        )
        total = wide(part) if total is None else E.add(total, wide(part))
    return _settled(total, y, have, channels)


def _within(pad: Size, reach: int) -> bool:
    return bool(pad <= reach)


def _turning_is_cheaper(y: Operand, back: W.Windows, filters: Operand, channels: Size) -> bool:
    """Whether patches of the outputs cost less than products for the zeros around them and the sum of the parts."""
    *size, per_group, _ = filters.shape
    if not known_equal(channels, per_group) or not math.prod(size):
        return False
    outputs, image = max(hint(y.shape[-1]), 1), 1.0
    for a, c, b in zip(back.before, y.shape[1:-1], back.after, strict=True):
        image *= hint(a + c + b) / max(hint(c), 1)
    columns = hint(channels) * (COPY + image * outputs)
    if outputs >= NARROW and y.dtype.kind == "f" and y.dtype.bits > 16:  # products make such patches as they need them
        return outputs * LANES * -(-hint(channels) // LANES) < columns
    return outputs * hint(channels) + COPY * (outputs + hint(channels) / 2) < columns


def _turned(filters: Operand) -> Tensor:
    """The filters that take outputs back to channels: reversed in space."""
    shape, n = tuple(filters.shape), filters.ndim - 2
    back = S.slice_(
        filters, start=(*[k - 1 for k in shape[:n]], 0, 0), size=shape, step=(*[-1 for _ in range(n)], 1, 1)
    )
    return S.transpose(back, perm=(*range(n), n + 1, n))


def _by_places(y: Operand, filters: Operand, w: W.Windows, have: tuple[Size, ...], channels: Size) -> Tensor:
    """The parts of each position of the window where it stood, one above the other."""
    parts = wide(_columns(y, filters, channels))
    last = y.ndim - 1
    total: Any = None
    for i, at in enumerate(positions(w.size)):
        part = W.spread(cut(parts, last, i * channels, channels), w, at, have)
        total = part if total is None else E.add(total, part)
    if total is not None:
        total = S.slice_(total, start=(0, *w.before, 0), size=(y.shape[0], *have, channels), step=(1,) * y.ndim)
    return _settled(total, y, have, channels)


def _settled(total: Any, y: Operand, have: tuple[Size, ...], channels: Size) -> Tensor:
    if total is None:  # a window without elements
        return S.broadcast_to(E.cast(0, dtype=y.dtype), shape=(y.shape[0], *have, channels))
    return narrow(total, y.dtype)


# --- the filters ------------------------------------------------------------------------------------------------------
def correlate(x: Operand, y: Operand, w: W.Windows, shape: tuple[Size, ...]) -> Tensor:
    """[batch, spatial…, channels] and [batch, count…, outputs] → filters of that shape."""
    return _correlated(_correlate(x, y, w, shape), x, y, windows=w.attr(), shape=shape)


def _correlate(x: Operand, y: Operand, w: W.Windows, shape: tuple[Size, ...]) -> Tensor:
    *_, per_group, outputs = shape
    groups = groups_of(x.shape[-1], per_group, outputs)
    rows = _places(x.shape[0], w)
    if groups > 1:
        z = C.matmul(_group_patches(x, w, groups), _by_group(y, rows, groups), ta=True)
        z = S.transpose(z, perm=(1, 0, 2))
    else:
        patches, turned = _patches(x, w)
        z = C.matmul(patches, S.reshape(y, shape=(rows, outputs)), ta=not turned)
    return S.reshape(z, shape=shape)


# --- derivatives ------------------------------------------------------------------------------------------------------
def _both(f: Any, t: tuple, a: Operand, b: Operand) -> Tensor:
    """The tangent of a form that is linear in each operand."""
    parts = [f(*p) for p, d in (((t[0], b), t[0]), ((a, t[1]), t[1])) if d is not None]
    return parts[0] if len(parts) == 1 else E.add(*parts)


def _convolved_vjp(g: Tensor, x: Tensor, f: Tensor, *, windows: tuple) -> tuple:
    w = W.Windows(*windows)
    image = unconvolve(g, f, w, tuple(x.shape[1:-1]), x.shape[-1])
    return image, correlate(x, g, w, tuple(f.shape))


def _convolved_jvp(t: tuple, x: Tensor, f: Tensor, *, windows: tuple) -> Tensor:
    return _both(lambda a, b: convolve(a, b, W.Windows(*windows)), t, x, f)


def _unconvolved_vjp(g: Tensor, y: Tensor, f: Tensor, *, windows: tuple, have: tuple, channels: Size) -> tuple:
    w = W.Windows(*windows)
    return convolve(g, f, w), correlate(g, y, w, tuple(f.shape))


def _unconvolved_jvp(t: tuple, y: Tensor, f: Tensor, *, windows: tuple, have: tuple, channels: Size) -> Tensor:
    return _both(lambda a, b: unconvolve(a, b, W.Windows(*windows), have, channels), t, y, f)


def _correlated_vjp(g: Tensor, x: Tensor, y: Tensor, *, windows: tuple, shape: tuple) -> tuple:
    w = W.Windows(*windows)
    return unconvolve(y, g, w, tuple(x.shape[1:-1]), x.shape[-1]), convolve(x, g, w)


def _correlated_jvp(t: tuple, x: Tensor, y: Tensor, *, windows: tuple, shape: tuple) -> Tensor:
    return _both(lambda a, b: correlate(a, b, W.Windows(*windows), shape), t, x, y)


_convolved = W.derived(
    "convolved", 2, _convolved_vjp, _convolved_jvp, "A convolution of an image with filters, composed of products."
)
_unconvolved = W.derived(
    "unconvolved", 2, _unconvolved_vjp, _unconvolved_jvp, "The transpose of a convolution, composed of products."
)
_correlated = W.derived(
    "correlated", 2, _correlated_vjp, _correlated_jvp, "A convolution's gradient for the filters, composed of products."
)
