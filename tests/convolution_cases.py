"""Convolutions and pooling element by element, in float64: what the operations are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from helpers import TOLERANCE

import tracejit as tj

Pairs = Sequence[tuple[int, int]]


def normal(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def same(actual: Any, expected: Any, factor: float = 20) -> None:
    """That two arrays agree as far as the first one's dtype tells; integers exactly."""
    a = np.asarray(actual)
    tol = TOLERANCE.get(a.dtype.name, 0) * factor
    np.testing.assert_allclose(a.astype(float), expected, rtol=tol, atol=tol)


def places(have: Sequence[int], size: Any, stride: Any, dilation: Any, padding: Any) -> tuple[list[int], list[int]]:
    """How many windows there are along each axis, and how far before the image the first begins."""
    count, before = [], []
    pairs = [(0, 0)] * len(have) if isinstance(padding, str) else padding
    for n, k, s, r, (low, high) in zip(have, size, stride, dilation, pairs, strict=True):
        reach = (k - 1) * r + 1
        if padding == "SAME":
            count.append(-(-n // s))
            before.append(max((count[-1] - 1) * s + reach - n, 0) // 2)
        else:
            count.append((n + low + high - reach) // s + 1)
            before.append(low)
    return count, before


def inside(
    have: Sequence[int], size: Any, stride: Any, dilation: Any, padding: Any
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Each place of the window with each of its positions, and the pixel there, unless it is padding."""
    count, before = places(have, size, stride, dilation, padding)
    for p in itertools.product(*map(range, count)):
        for k in itertools.product(*map(range, size)):
            at = tuple(i * s + j * r - b for i, s, j, r, b in zip(p, stride, k, dilation, before, strict=True))
            if all(0 <= i < n for i, n in zip(at, have, strict=True)):
                yield p, k, at


def convolution(x: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: Any) -> np.ndarray:
    """[batch, spatial…, channels] with [size…, channels of a group, outputs]."""
    size, (per_group, outputs) = w.shape[:-2], w.shape[-2:]
    have, groups = x.shape[1:-1], x.shape[-1] // per_group
    count, _ = places(have, size, stride, dilation, padding)
    y = np.zeros((x.shape[0], *count, outputs))
    share = outputs // groups
    for p, k, at in inside(have, size, stride, dilation, padding):
        for g in range(groups):
            of = slice(g * share, (g + 1) * share)
            seen = x[(slice(None), *at, slice(g * per_group, (g + 1) * per_group))]
            y[(slice(None), *p, of)] += seen.astype(float) @ w[(*k, slice(None), of)].astype(float)
    return y


def transposed(
    y: np.ndarray, w: np.ndarray, have: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> np.ndarray:
    """[batch, count…, outputs] with [size…, channels, outputs] back to an image of that size."""
    x = np.zeros((y.shape[0], *have, w.shape[-2]))
    for p, k, at in inside(have, w.shape[:-2], stride, dilation, padding):
        x[(slice(None), *at)] += y[(slice(None), *p)].astype(float) @ w[k].astype(float).T
    return x


def pooled(x: np.ndarray, size: Any, stride: Any, padding: Any, dilation: Any, mean: bool) -> np.ndarray:
    count, _ = places(x.shape[1:-1], size, stride, dilation, padding)
    shape = (x.shape[0], *count, x.shape[-1])
    total, largest, seen = np.zeros(shape), np.full(shape, -np.inf), np.zeros((*count, 1))
    for p, _, at in inside(x.shape[1:-1], size, stride, dilation, padding):
        here = x[(slice(None), *at)].astype(float)
        total[(slice(None), *p)] += here
        largest[(slice(None), *p)] = np.maximum(largest[(slice(None), *p)], here)
        seen[p] += 1
    return total / seen if mean else largest


def agrees_at_open_sizes(step: Any, sizes: Sequence[tuple[int, int, int]], tol: float) -> None:
    """One trace of a function of images [batch, height, width, 2] for all sizes, and one for all batches."""
    every = tj.function(step, input_signature=[tj.TensorSpec((None, None, None, 2), tj.float64)])
    batches = tj.function(step, input_signature=[tj.TensorSpec((None, 6, 7, 2), tj.float64)])
    for f, shapes in ((every, sizes), (batches, [(n, 6, 7) for n in (4, 0, 1, 9)])):
        for shape in shapes:
            x = tj.constant(normal(*shape, 2))
            for a, b in zip(f(x), step(x), strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=tol, atol=tol)
        assert f.experimental_get_tracing_count() == 1
