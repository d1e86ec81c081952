"""Cases of the operations' table: arrays: segments, searches, parts put together and taken apart."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from op_case import POS, Case

import tracejit as tj
from tracejit.ops import index as I
from tracejit.ops.check import require_index

EVERY, REAL = "biufc", "iuf"
IDS = np.array([2, 0, -1, 2, 0])  # segment 1 and the last one of four are empty
SORTED_IDS = np.array([0, 0, 1, 3, 3])


def cases() -> Iterator[Case]:
    for subject in (_at_positions, _segments, _parts, _running, _normalisations, _windows, _sequences):
        for case in subject():
            yield dataclasses.replace(case, own_sizes=True)
    yield from _counting()
    yield from _searching()
    yield from _statistics()
    yield from _bits()


# --- at positions that are data ---------------------------------------------------------------------------------------
AT = np.array([[0, 2], [1, 0], [0, 2], [1, 1]])


def _combined(ufunc: Any) -> Callable[..., np.ndarray]:
    def f(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        y = x.copy()
        ufunc.at(y, (AT[:, 0], AT[:, 1]), u)
        return y

    return f


def _replaced(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    y = x.copy()
    for (i, j), v in zip(AT, u, strict=True):
        y[i, j] = v
    return y


def _at_positions() -> Iterator[Case]:
    shapes = [[(2, 3), (4,)], [(2, 3, 2), (4, 2)], [(2, 3, 0), (4, 0)]]
    for name, ufunc in {"sub": np.subtract, "max": np.maximum, "min": np.minimum}.items():
        f = getattr(tj, f"tensor_scatter_nd_{name}")
        kinds = "ifc" if name == "sub" else REAL
        yield Case(
            f"tensor_scatter_nd_{name}", lambda x, u, f=f: f(x, AT, u), _combined(ufunc), shapes, kinds, factor=5
        )
    yield Case(
        "tensor_scatter_nd_update, equal positions", lambda x, u: tj.tensor_scatter_nd_update(x, AT, u), _replaced,
        shapes, EVERY,
    )  # fmt: skip
    i = tj.constant([1, 0, 1])
    for name, ufunc in {"mul": np.multiply, "max": np.maximum, "min": np.minimum}.items():
        op = getattr(I, f"{name}_at")

        def reference(x: np.ndarray, v: np.ndarray, ufunc: Any = ufunc) -> np.ndarray:
            y = x.copy()
            ufunc.at(y, (slice(None), i.numpy()), v)
            return y

        def checked(x: tj.Tensor, v: tj.Tensor, op: Any = op) -> tj.Tensor:
            require_index(i, x.shape[1], 1)
            return op(x, i, v, axis=1)

        yield Case(
            f"{name}_at", checked, reference,
            [[(2, 2, 2), (2, 3, 2)], [(2, 2), (2, 3)]], REAL, ((0.5, 3.0),), factor=30,
        )  # fmt: skip


# --- segments ---------------------------------------------------------------------------------------------------------
def _grouped(f: Callable[[np.ndarray], Any], ids: np.ndarray, count: int, empty: Any) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray) -> np.ndarray:
        of_none = empty(x.dtype) if callable(empty) else empty
        rows = [f(x[ids == k]) if (ids == k).any() else np.full(x.shape[1:], of_none, x.dtype) for k in range(count)]
        return np.stack(rows)

    return reference


def _lowest(d: np.dtype) -> Any:
    return np.finfo(d).min if d.kind == "f" else np.iinfo(d).min


def _highest(d: np.dtype) -> Any:
    return np.finfo(d).max if d.kind == "f" else np.iinfo(d).max


def _product(x: np.ndarray) -> Any:
    return np.prod(x, 0, x.dtype)


def _mean(x: np.ndarray) -> Any:
    return x.mean(0)


def _segments() -> Iterator[Case]:
    shapes = [[(5,)], [(5, 2)], [(5, 0)]]
    table: dict[str, tuple[Any, Any, Any, str, dict[str, Any]]] = {
        "sum": (lambda x: x.sum(0, x.dtype), 0, 0, "iufc", {"factor": 5}),
        "mean": (_mean, 0, 0, "f", {"factor": 5}),
        "prod": (_product, 1, 1, REAL, {"factor": 20, "domains": ((0.5, 2.5),)}),
        "max": (lambda x: x.max(0), _lowest, 0, REAL, {}),
        "min": (lambda x: x.min(0), _highest, 0, REAL, {}),
    }
    for name, (f, empty, gap, kinds, more) in table.items():
        own = [k for k in kinds if k != "c"] if name in ("max", "min") else kinds
        unsorted, ordered = getattr(tj.math, f"unsorted_segment_{name}"), getattr(tj.math, f"segment_{name}")
        if name not in ("max", "min"):
            yield Case(
                f"unsorted_segment_{name}, none", lambda x, g=unsorted: g(x, IDS.tolist(), 4),
                _grouped(f, IDS, 4, empty), shapes, kinds, **more,
            )  # fmt: skip
        else:  # whose empty segments hold the limit of the type, of which no sum can be taken
            yield Case(
                f"unsorted_segment_{name}, all", lambda x, g=unsorted: g(x, (SORTED_IDS[::-1] // 2).tolist(), 2),
                _grouped(f, SORTED_IDS[::-1] // 2, 2, empty), shapes, "".join(own),
            )  # fmt: skip
            yield Case(
                f"unsorted_segment_{name}, none", lambda x, g=unsorted: g(x, IDS.tolist(), 4),
                _grouped(f, IDS, 4, empty), shapes, "iu", differentiable=False,
            )  # fmt: skip
        yield Case(
            f"segment_{name}", lambda x, g=ordered: g(x, SORTED_IDS.tolist()), _grouped(f, SORTED_IDS, 4, gap), shapes,
            kinds, **more,
        )  # fmt: skip
    yield Case(
        "unsorted_segment_sqrt_n", lambda x: tj.math.unsorted_segment_sqrt_n(x, IDS, 4),
        _grouped(lambda x: x.sum(0) / np.sqrt(len(x)), IDS, 4, 0), shapes, "f", factor=5,
    )  # fmt: skip
    deep = np.array([[1, 0], [1, 2]])
    yield Case(
        "unsorted_segment_sum, two axes", lambda x: tj.math.unsorted_segment_sum(x, deep, 3),
        lambda x: np.stack([x[0, 1], x[0, 0] + x[1, 0], x[1, 1]]), [[(2, 2)], [(2, 2, 3)]], "if",
    )  # fmt: skip


# --- counting ---------------------------------------------------------------------------------------------------------
def _counting() -> Iterator[Case]:
    small, ints = (0, 6), {0: "int32"}
    yield Case(
        "bincount", lambda i: tj.math.bincount(i), lambda i: np.bincount(i.reshape(-1)), [[(9,)], [(2, 3)], [(0,)]],
        "i", (small,), False,
    )  # fmt: skip
    yield Case(
        "bincount, weights", lambda i, w: tj.math.bincount(i, w, minlength=7, maxlength=7),
        lambda i, w: np.bincount(i, w, 7), [[(9,), (9,)], [(0,), (0,)]], "f", (small, (-2, 2)), factor=5, fixed=ints,
    )  # fmt: skip
    yield Case(
        "bincount, rows", lambda i: tj.math.bincount(i, axis=-1, minlength=4, maxlength=4, dtype="int64"),
        lambda i: np.stack([np.bincount(r[r < 4], minlength=4) for r in i]), [[(3, 5)], [(1, 4)]], "iu", (small,),
        False,
    )  # fmt: skip
    yield Case(
        "bincount, binary", lambda i: tj.math.bincount(i, minlength=8, binary_output=True),
        lambda i: np.minimum(np.bincount(i, minlength=8), 1), [[(9,)], [(0,)]], "u", (small,), False,
    )  # fmt: skip

    def confused(a: np.ndarray, p: np.ndarray) -> np.ndarray:
        y = np.zeros((6, 6), np.int64)
        np.add.at(y, (a, p), 1)
        return y

    yield Case(
        "confusion_matrix", lambda a, p: tj.math.confusion_matrix(a, p, 6), confused, [[(9,), (9,)], [(0,), (0,)]],
        "iu", ((0, 5),), False,
    )  # fmt: skip
    yield Case(
        "confusion_matrix, weights",
        lambda w: tj.math.confusion_matrix([0, 1, 2, 1], [0, 2, 2, 1], 4, weights=w, dtype=w.dtype),
        lambda w: np.diag([w[0], w[3], w[2], 0]) + np.diag([0, w[1], 0], 1), [[(4,)]], "f", own_sizes=True,
    )  # fmt: skip
    yield Case(
        "histogram_fixed_width", lambda x: tj.histogram_fixed_width(x, [-1.0, 1.0], 4),
        lambda x: np.histogram(np.clip(x, -0.999, 0.999), 4, (-1, 1))[0], [[(9,)], [(2, 3)], [(0,)]], "f",
        ((-1.9, 1.9),), False,
    )  # fmt: skip
    yield Case(
        "histogram_fixed_width_bins", lambda x: tj.histogram_fixed_width_bins(x, [0.0, 4.0], 4),
        lambda x: np.clip(np.floor(x), 0, 3), [[(9,)], [(2, 3)], [()]], "f", ((-1.9, 5.9),), False,
    )  # fmt: skip


# --- searching --------------------------------------------------------------------------------------------------------
def _searched(side: str) -> Callable[..., np.ndarray]:
    def f(s: np.ndarray, v: np.ndarray) -> np.ndarray:
        if s.ndim == 1:
            return np.searchsorted(np.sort(s), v, side)
        rows = [np.searchsorted(np.sort(a), b, side) for a, b in zip(s, v, strict=True)]
        return np.array(rows).reshape(v.shape)

    return f


def _searching() -> Iterator[Case]:
    shapes = [
        [(7,), (5,)], [(7,), ()], [(7,), (2, 3)], [(3, 8), (3, 5)], [(0,), (4,)], [(5,), (0,)], [(1,), (3,)],
        [(0, 3), (0, 2)], [(300,), (1000,)],
    ]  # fmt: skip
    for side in ("left", "right"):
        yield Case(
            f"searchsorted, {side}", lambda s, v, side=side: tj.searchsorted(tj.sort(s), v, side), _searched(side),
            shapes, REAL, ((0, 9),), False,
        )  # fmt: skip
    few = ((0, 4),)
    yield Case("unique", lambda x: tj.unique(x)[0], lambda x: _unique(x)[0], [[(9,)], [(1,)], [(0,)]], "iu", few, False)
    yield Case(
        "unique, positions", lambda x: tj.unique(x, tj.int64)[1], lambda x: _unique(x)[1], [[(9,)], [(1,)], [(0,)]],
        "biuf", few, False,
    )  # fmt: skip
    yield Case(
        "unique_with_counts", lambda x: tj.unique_with_counts(x)[2], lambda x: _unique(x)[2], [[(9,)], [(1,)], [(0,)]],
        "iu", few, False,
    )  # fmt: skip
    yield Case(
        "invert_permutation", lambda x: tj.math.invert_permutation(tj.argsort(x)),
        lambda x: np.argsort(np.argsort(x, kind="stable"), kind="stable"), [[(6,)], [(1,)], [(0,)]], REAL,
        differentiable=False,
    )  # fmt: skip
    yield Case(
        "unravel_index", lambda i: tj.unravel_index(i, [3, 4, 2]), lambda i: np.array(np.unravel_index(i, (3, 4, 2))),
        [[(9,)], [()], [(2, 3)], [(0,)]], "i", ((0, 23),), False,
    )  # fmt: skip


def _unique(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order in which they come first."""
    y, first, index, counts = np.unique(x, True, True, True)
    order = np.argsort(first)
    return y[order], np.argsort(order)[index], counts[order]


# --- taken apart and put together -------------------------------------------------------------------------------------
def _parts() -> Iterator[Case]:
    p = [0, 1, 0, 2, 1]
    for k in (0, 1, 3):
        yield Case(
            f"dynamic_partition, {k}", lambda x, k=k: tj.dynamic_partition(x, p, 4)[k],
            lambda x, k=k: x[np.equal(p, k)], [[(5,)], [(5, 2)]], "biuf", differentiable=False,
        )  # fmt: skip
    yield Case(
        "dynamic_stitch", lambda a, b: tj.dynamic_stitch([[3, 0], [[1, 3]]], [a, b]),
        lambda a, b: np.stack([a[1], b[0, 0], 0 * a[0], b[0, 1]]) if a.dtype != bool
        else np.stack([a[1], b[0, 0], a[0] & False, b[0, 1]]),
        [[(2,), (1, 2)], [(2, 3), (1, 2, 3)]], EVERY,
    )  # fmt: skip
    yield Case(
        "reverse_sequence", lambda x: tj.reverse_sequence(x, [3, 0], seq_axis=1),
        lambda x: np.stack([np.concatenate([x[0, 2::-1], x[0, 3:]]), x[1]]), [[(2, 4)], [(2, 3, 2)]], EVERY,
    )  # fmt: skip
    yield Case(
        "reverse_sequence, axes", lambda x: tj.reverse_sequence(x, [2, 3, 1], seq_axis=0, batch_axis=2),
        lambda x: np.stack([np.concatenate([x[n - 1 :: -1, :, b], x[n:, :, b]]) for b, n in enumerate((2, 3, 1))], 2),
        [[(4, 2, 3)]], "if",
    )  # fmt: skip
    yield Case("parallel_stack", lambda a, b: tj.parallel_stack([a, b]), lambda a, b: np.stack([a, b]), [[(2,)] * 2])
    yield Case("ensure_shape", lambda x: tj.ensure_shape(x, [None, 3]), lambda x: x, [[(2, 3)], [(0, 3)]], EVERY)
    yield Case("identity_n", lambda x, y: tj.identity_n([x, y])[1], lambda x, y: y, [[(2,), (3,)]], EVERY)
    yield Case(
        "repeat, as often as a tensor says", lambda x, n: tj.repeat(x, n, axis=0), lambda x, n: np.repeat(x, n, 0),
        [[(5,), (5,)], [(5, 2), (5,)], [(0,), (0,)]], "biuf", ((-2, 2), (0, 3)), False,
        fixed={1: "int32"},
    )  # fmt: skip
    yield Case(
        "sequence_mask, as long as needed", lambda n: tj.sequence_mask(n),
        lambda n: np.arange(max([0, *n]))[None] < n[:, None], [[(5,)], [(1,)], [(0,)]], "i", ((0, 6),), False,
    )  # fmt: skip


def _bits() -> Iterator[Case]:
    shapes = [[(3,)], [(2, 2)], [()], [(0,)]]
    yield Case(
        "bitcast, bytes", lambda x: tj.cast(tj.bitcast(tj.cast(x, tj.int32), tj.uint8), tj.int32),
        lambda x: np.frombuffer(x.astype("<i4").tobytes(), np.uint8).reshape(*x.shape, 4), shapes, "iu", ((0, 99),),
        False,
    )  # fmt: skip
    yield Case(
        "bitcast there and back", lambda x: tj.bitcast(tj.bitcast(x, tj.uint16), x.dtype), lambda x: x, shapes, "f",
        differentiable=False,
    )  # fmt: skip


# --- along an axis ----------------------------------------------------------------------------------------------------
def _log_sums(x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    y = np.flip(x, axis) if reverse else x
    y = np.logaddexp.accumulate(y, axis=axis)
    if exclusive:
        first = np.full_like(np.take(y, [0], axis), -np.inf)
        y = np.concatenate([first, np.delete(y, -1, axis)], axis)
    return np.flip(y, axis) if reverse else y


def _ascends(x: np.ndarray, f: Any) -> Any:
    return np.all(f(x[1:], x[:-1]))


def _running() -> Iterator[Case]:
    for axis, exclusive, reverse in [(0, False, False), (-1, False, True), (1, False, False)]:
        yield Case(
            f"cumulative_logsumexp, axis={axis}, reverse={reverse}",
            lambda x, a=axis, e=exclusive, r=reverse: tj.math.cumulative_logsumexp(x, a, e, r),
            lambda x, a=axis, e=exclusive, r=reverse: _log_sums(x, a, e, r), [[(3, 5)], [(1, 1)], [(2, 33)]], "f",
            factor=10,
        )  # fmt: skip
    yield Case(
        "cumulative_logsumexp, exclusive",
        lambda x: tj.exp(tj.math.cumulative_logsumexp(x, 0, True)), lambda x: np.exp(_log_sums(x, 0, True, False)),
        [[(5,)], [(1, 2)]], "f", factor=20,
    )  # fmt: skip
    for name, f in {"is_non_decreasing": np.greater_equal, "is_strictly_increasing": np.greater}.items():
        for how, g in {"as it is": lambda x: x, "sorted": tj.sort}.items():
            yield Case(
                f"{name}, {how}", lambda x, name=name, g=g: getattr(tj.math, name)(g(x)),
                lambda x, f=f, how=how: _ascends(np.sort(x) if how == "sorted" else x, f), [[(5,)], [(1,)], [(0,)]],
                REAL, ((0, 50),), False,
            )  # fmt: skip
    yield Case("scalar_mul", lambda x: tj.math.scalar_mul(3, x), lambda x: 3 * x, [[(3,)], [()]], "ifc")
    yield Case(
        "accumulate_n", lambda a, b: tj.math.accumulate_n([a, b]), lambda a, b: a + b, [[(3,), (3,)]], "iuf"
    )


# --- means and losses -------------------------------------------------------------------------------------------------
def _statistics() -> Iterator[Case]:
    def weighted(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = (x * w).sum(0) / w.sum(0)
        return mean, ((x - mean) ** 2 * w).sum(0) / w.sum(0)

    for k, what in enumerate(("mean", "variance")):
        yield Case(
            f"weighted_moments, {what}", lambda x, w, k=k: tj.nn.weighted_moments(x, [0], w)[k],
            lambda x, w, k=k: weighted(x, w)[k], [[(4, 3), (4, 3)]], "f", ((-2, 2), POS), factor=30,
        )  # fmt: skip
        yield Case(
            f"sufficient_statistics, {what}",
            lambda x, k=k: tj.nn.normalize_moments(*tj.nn.sufficient_statistics(x, [0], 0.5))[k],
            lambda x, k=k: (x.mean(0), x.var(0))[k], [[(4, 3)]], "f", factor=100,
        )  # fmt: skip

    yield Case(
        "batch_norm_with_global_normalization",
        lambda x, s: tj.nn.batch_norm_with_global_normalization(x, 0.5, s, 0.25, 2.0, 0.01, True),
        lambda x, s: (x - 0.5) / np.sqrt(s + 0.01) * 2 + 0.25, [[(2, 3), (3,)]], "f", ((-2, 2), POS), factor=10,
    )  # fmt: skip
    yield Case(
        "crelu", tj.nn.crelu, lambda x: np.maximum(np.concatenate([x, -x], -1), 0), [[(3,)], [(2, 3)]], "if"
    )
    yield Case(
        "log_poisson_loss", lambda z, c: tj.nn.log_poisson_loss(z, c), lambda z, c: np.exp(c) - c * z,
        [[(3,), (3,)], [(2, 3), (2, 3)]], "f", (POS, (-2, 2)), factor=5,
    )  # fmt: skip
    yield Case(
        "log_poisson_loss, full", lambda z, c: tj.nn.log_poisson_loss(z, c, True),
        lambda z, c: np.exp(c) - c * z + np.where(z > 1, z * np.log(z) - z + 0.5 * np.log(2 * np.pi * z), 0),
        [[(5,), (5,)]], "f", (POS, (-2, 2)), factor=30,
    )  # fmt: skip


def _normalisations() -> Iterator[Case]:
    def grouped(x: np.ndarray) -> np.ndarray:
        y = x.reshape(*x.shape[:-1], 2, -1)
        over = (*range(1, x.ndim - 1), x.ndim)
        y = (y - y.mean(over, keepdims=True)) / np.sqrt(y.var(over, keepdims=True) + 1e-3)
        return y.reshape(x.shape)

    yield Case(
        "group_normalization", lambda x: tj.nn.group_normalization(x, 2), grouped, [[(2, 3, 4)], [(2, 2, 3, 6)]], "f",
        factor=100,
    )  # fmt: skip


# --- windows ----------------------------------------------------------------------------------------------------------
def _dilated(x: np.ndarray, f: np.ndarray) -> np.ndarray:
    """SAME padding, stride 1 and dilation 1."""
    n, (h, w, _) = x.shape[1:3], f.shape
    low = np.finfo(x.dtype).min if x.dtype.kind == "f" else -(2**15)
    wide = x if x.dtype.kind == "f" else x.astype(np.int64)
    p = np.pad(wide, [(0, 0), ((h - 1) // 2, h // 2), ((w - 1) // 2, w // 2), (0, 0)], constant_values=low)
    return np.max([p[:, i : i + n[0], j : j + n[1]] + f[i, j] for i in range(h) for j in range(w)], 0)


def _pooled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, c, 4)
    k = blocks.argmax(-1)
    row, column = np.arange(h // 2)[:, None, None] * 2 + k // 2, np.arange(w // 2)[:, None] * 2 + k % 2
    return blocks.max(-1), (row * w + column) * c + np.arange(c)


def _windows() -> Iterator[Case]:
    ones = [1, 1, 1, 1]
    images = [[(1, 4, 3, 2), (2, 3, 2)], [(2, 3, 5, 1), (1, 2, 1)]]
    yield Case(
        "dilation2d", lambda x, f: tj.nn.dilation2d(x, f, ones, "SAME", "NHWC", ones), _dilated, images, "if",
    )  # fmt: skip
    yield Case(
        "erosion2d", lambda x, f: tj.nn.erosion2d(x, f, ones, "SAME", "NHWC", ones),
        lambda x, f: -_dilated(-x, f[::-1, ::-1]), images, "if",
    )  # fmt: skip
    for k, what in enumerate(("values", "positions")):
        yield Case(
            f"max_pool_with_argmax, {what}", lambda x, k=k: tj.nn.max_pool_with_argmax(x, 2, 2, "VALID")[k],
            lambda x, k=k: _pooled(x)[k], [[(2, 4, 2, 3)]], REAL, differentiable=not k,
        )  # fmt: skip


# --- sequences --------------------------------------------------------------------------------------------------------
def _negative_log_chances(x: np.ndarray, labels: list[list[int]], times: list[int]) -> np.ndarray:
    """By going through all paths: repetitions fall together, then blanks (0) fall away."""
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    out = []
    for b, (wanted, n) in enumerate(zip(labels, times, strict=True)):
        total = 0.0
        for path in itertools.product(range(x.shape[2]), repeat=n):
            if [k for k, _ in itertools.groupby(path) if k] == wanted:
                total += np.prod([p[t, b, k] for t, k in enumerate(path)])
        out.append(-np.log(total))
    return np.array(out)


def _sequences() -> Iterator[Case]:
    labels, times = [[1, 1], [2], []], [4, 3, 2]
    dense = [row + [0] * (2 - len(row)) for row in labels]
    yield Case(
        "ctc_loss", lambda x: tj.nn.ctc_loss(dense, x, [2, 1, 0], times),
        lambda x: _negative_log_chances(x, labels, times), [[(4, 3, 3)]], "f", factor=20,
    )  # fmt: skip
    yield Case(
        "ctc_loss, batch first",
        lambda x: tj.nn.ctc_loss(dense, x, [2, 1, 0], times, logits_time_major=False, blank_index=-3),
        lambda x: _negative_log_chances(np.swapaxes(x, 0, 1), labels, times), [[(3, 4, 3)]], "f", factor=20,
    )  # fmt: skip
    yield Case(
        "collapse_repeated", lambda y: tj.nn.collapse_repeated(y, [5, 3])[0],
        lambda y: _padded([[k for k, _ in itertools.groupby(r[:n])] for r, n in zip(y, (5, 3))]), [[(2, 6)]], "iu",
        ((0, 2),), False,
    )  # fmt: skip


def _padded(rows: list[list[int]]) -> np.ndarray:
    width = max(map(len, rows))
    return np.array([r + [0] * (width - len(r)) for r in rows])
