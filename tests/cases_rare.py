"""Cases of the operations' table: decoders of sequences, losses over samples of classes, and rarer layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import convolution_cases as windows
import numpy as np
from op_case import UNARY, Case

import tracejit as tj

CLASSES = [[1], [4]]  # true ones of two rows
SAMPLE = (np.array([4, 0, 2]), np.array([[0.5], [0.25]]), np.array([0.25, 0.875, 0.375]))


def cases() -> Iterator[Case]:
    yield from _sequences()
    yield from _losses()
    yield from _layers()


# --- sequences --------------------------------------------------------------------------------------------------------
def log_softmax(x: Any) -> Any:
    x = np.asarray(x, float)
    return x - np.log(np.sum(np.exp(x), -1, keepdims=True))


def every_sequence(logs: Any) -> list[tuple[tuple[int, ...], float]]:
    """The labels that paths through [times, classes] give, the likeliest first, with logarithms of their chances."""
    found: dict[tuple[int, ...], float] = {}
    blank = logs.shape[1] - 1
    for path in itertools.product(range(logs.shape[1]), repeat=logs.shape[0]):
        labels = tuple([c for c, _ in itertools.groupby(path) if c != blank])
        chance = float(sum(logs[t, c] for t, c in enumerate(path)))
        found[labels] = float(np.logaddexp(found.get(labels, -np.inf), chance))
    return sorted(found.items(), key=lambda x: -x[1])


def steps(h: Any, t: Any) -> int:
    """The edit distance of two sequences."""
    d = list(range(len(t) + 1))
    for i, a in enumerate(h, 1):
        d, last = [i], d
        for j, b in enumerate(t, 1):
            d.append(min(d[-1] + 1, last[j] + 1, last[j - 1] + (a != b)))
    return d[-1]


def _distances(h: Any, t: Any) -> Any:
    return np.array([steps(a[a >= 0].tolist(), b[b >= 0].tolist()) for a, b in zip(h, t, strict=True)], float)


def _unique(x: Any) -> Any:
    rows = [list(dict.fromkeys(r)) for r in x.tolist()]
    return np.array([r + [0] * (x.shape[1] - len(r)) for r in rows], np.int64).reshape(x.shape)


def _sequences() -> Iterator[Case]:
    yield Case(
        "nn.ctc_greedy_decoder", lambda x: tj.nn.ctc_greedy_decoder(x, [4, 2])[1],
        lambda x: -np.stack([x[:4, 0].max(-1).sum(keepdims=True), x[:2, 1].max(-1).sum(keepdims=True)]),
        [[(4, 2, 3)]], own_sizes=True, factor=3,
    )  # fmt: skip
    yield Case(
        "nn.ctc_beam_search_decoder", lambda x: tj.nn.ctc_beam_search_decoder(x, [3, 2], 30, 2)[1],
        lambda x: np.array([
            [chance for _, chance in every_sequence(log_softmax(x)[:n, i])[:2]] for i, n in enumerate((3, 2))
        ]),
        [[(3, 2, 3)]], differentiable=False, own_sizes=True, factor=20,
    )  # fmt: skip
    yield Case(
        "nn.ctc_unique_labels", lambda x: tj.nn.ctc_unique_labels(x)[0], _unique, [[(2, 5)], [(0, 3)], [(3, 1)]], "iu",
        ((0, 4),), differentiable=False,
    )  # fmt: skip
    yield Case(
        "edit_distance", lambda h, t: tj.edit_distance(h, t, normalize=False), _distances,
        [[(3, 4), (3, 5)], [(2, 3), (2, 1)]], "iu", ((0, 3),), differentiable=False,
    )  # fmt: skip
    yield Case(
        "sparse.to_dense", lambda x: tj.sparse.to_dense(tj.SparseTensor([[0, 1], [2, 0], [2, 1]], x, [3, 2])),
        lambda x: np.array([[0, x[0]], [0, 0], [x[1], x[2]]], x.dtype), [[(3,)]], "iufb", own_sizes=True,
    )  # fmt: skip
    yield Case(
        "sparse.from_dense", lambda x: tj.sparse.from_dense(x).values, lambda x: x[x != 0],
        [[(2, 3)], [(0, 2)], [(4,)]], "iuf",
    )  # fmt: skip
    for name, order in (("max", -1), ("min", 1)):
        yield Case(
            f"math.approx_{name}_k", lambda x, f=getattr(tj.math, f"approx_{name}_k"): f(x, 2, 0)[0],
            lambda x, order=order: order * np.sort(order * x.astype(float), 0)[:2], [[(5,)], [(4, 3)], [(3, 0)]], "f",
            own_sizes=True,
        )  # fmt: skip


# --- losses -----------------------------------------------------------------------------------------------------------
def _sampled_logits(w: Any, b: Any, x: Any) -> tuple[Any, Any]:
    w, b, x = (np.asarray(v, float) for v in (w, b, x))
    drawn, true_count, drawn_count = SAMPLE
    t = np.array(CLASSES)
    true = np.einsum("bnd,bd->bn", w[t], x) + b[t] - np.log(true_count)
    others = x @ w[drawn].T + b[drawn] - np.log(drawn_count)
    return np.concatenate([true, others], 1), np.array([[1.0, 0, 0, 0]] * 2)


def _nce(w: Any, b: Any, x: Any) -> Any:
    z, y = _sampled_logits(w, b, x)
    return np.sum(np.logaddexp(0, z) - z * y, 1)


def _sampled_softmax(w: Any, b: Any, x: Any) -> Any:
    z, y = _sampled_logits(w, b, x)
    z[1, 1] = -np.inf  # the class 4 was drawn and is a true one of the second row
    return np.log(np.sum(np.exp(z), 1)) - np.sum(np.where(y > 0, z, 0), 1)


def _losses() -> Iterator[Case]:
    shapes = [[(6, 3), (6,), (2, 3)]]
    for name, reference in (("nce_loss", _nce), ("sampled_softmax_loss", _sampled_softmax)):
        yield Case(
            f"nn.{name}",
            lambda w, b, x, f=getattr(tj.nn, name): f(w, b, CLASSES, x, 3, 6, sampled_values=SAMPLE), reference, shapes,
            factor=30, own_sizes=True,
        )  # fmt: skip
    yield Case(
        "nn.compute_accidental_hits",
        lambda c: tj.reduce_sum(tj.nn.compute_accidental_hits([[0, 1], [2, 5]], c, 2)[1]),
        lambda c: sum(j for row in ([0, 1], [2, 5]) for j, x in enumerate(c) if x in row), [[(6,)]], "iu", ((0, 6),),
        differentiable=False, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.compute_average_loss", lambda x, w: tj.nn.compute_average_loss(x, w, 5), lambda x, w: np.sum(x * w) / 5,
        [[(3,), (3,)], [(0,), (0,)]], factor=3,
    )  # fmt: skip
    yield Case("nn.scale_regularization_loss", tj.nn.scale_regularization_loss, np.sum, UNARY[:5], factor=3)


# --- layers -----------------------------------------------------------------------------------------------------------
def _pooled(name: str, x: Any, kind: Any) -> Any:
    f = getattr(tj.nn, name)
    rows, columns = (e.numpy() for e in f(tj.zeros(x.shape), (1.5, 1.3), False, True, seed=4)[1:])
    out = np.zeros((x.shape[0], len(rows) - 1, len(columns) - 1, x.shape[3]))
    for i, j in np.ndindex(out.shape[1:3]):
        out[:, i, j] = kind(x[:, rows[i] : rows[i + 1] + 1, columns[j] : columns[j + 1] + 1].astype(float), (1, 2))
    return out


def _monotone(x: Any, decreasing: bool) -> Any:
    """Pool adjacent violators."""
    if not x.size:
        return x
    out = []
    for row in (-x if decreasing else x).reshape(-1, x.shape[-1]).astype(float):
        blocks: list[list[float]] = []
        for v in row:
            blocks.append([v, 1])
            while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
                total, n = blocks.pop()
                blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + n]
        out.append(np.concatenate([np.full(int(n), s / n) for s, n in blocks]))
    y = np.array(out).reshape(x.shape)
    return -y if decreasing else y


def _volume_patches(x: Any) -> Any:
    """Of 2 · 1 · 2 elements, as far apart as they are large, without padding."""
    n, d, h, w, c = x.shape
    out = np.zeros((n, d // 2, h, w // 2, 4 * c), x.dtype)
    for i, j, k in np.ndindex(out.shape[1:4]):
        out[:, i, j, k] = x[:, 2 * i : 2 * i + 2, j, 2 * k : 2 * k + 2].reshape(n, -1)
    return out


def _to_input(f: Any, g: Any) -> Any:
    out = np.zeros((1, 4, 3, 2))
    for i, j, a, b, c, m in np.ndindex(3, 2, 2, 2, 2, 2):
        out[:, i + a, j + b, c] += g[:, i, j, 2 * c + m].astype(float) * f[a, b, c, m]
    return out


def _to_filter(x: Any, g: Any) -> Any:
    out = np.zeros((2, 2, 2, 2))
    for i, j, a, b, c, m in np.ndindex(3, 2, 2, 2, 2, 2):
        out[a, b, c, m] += np.sum(g[:, i, j, 2 * c + m].astype(float) * x[:, i + a, j + b, c])
    return out


def _layers() -> Iterator[Case]:
    for name, kind in (("fractional_max_pool", np.max), ("fractional_avg_pool", np.mean)):
        yield Case(
            f"nn.{name}", lambda x, f=getattr(tj.nn, name): f(x, (1.5, 1.3), False, True, seed=4)[0],
            lambda x, name=name, kind=kind: _pooled(name, x, kind), [[(1, 4, 5, 2)], [(0, 3, 4, 1)]], own_sizes=True,
            factor=5,
        )  # fmt: skip
    for decreasing in (True, False):
        yield Case(
            f"nn.isotonic_regression, {'decreasing' if decreasing else 'increasing'}",
            lambda x, d=decreasing: tj.nn.isotonic_regression(x, d).output,
            lambda x, d=decreasing: _monotone(x, d), [[(6,)], [(1,)], [(3, 9)], [(0,)], [(0, 2)]], own_sizes=True,
        )  # fmt: skip
    yield Case(
        "nn.with_space_to_batch",
        lambda x, w: tj.nn.with_space_to_batch(
            x, (2, 1), "SAME", lambda y, n, p: tj.nn.convolution(y, w, 1, p), (2, 2)
        ),
        lambda x, w: windows.convolution(x, w, (1, 1), "SAME", (2, 1)), [[(1, 5, 4, 2), (2, 2, 2, 3)]], factor=50,
        own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.depthwise_conv2d_backprop_input",
        lambda f, g: tj.nn.depthwise_conv2d_backprop_input((1, 4, 3, 2), f, g, (1, 1, 1, 1), "VALID"), _to_input,
        [[(2, 2, 2, 2), (1, 3, 2, 4)]], factor=30, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.depthwise_conv2d_backprop_filter",
        lambda x, g: tj.nn.depthwise_conv2d_backprop_filter(x, (2, 2, 2, 2), g, (1, 1, 1, 1), "VALID"), _to_filter,
        [[(1, 4, 3, 2), (1, 3, 2, 4)]], factor=30, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "extract_volume_patches", lambda x: tj.extract_volume_patches(x, (1, 2, 1, 2, 1), (1, 2, 1, 2, 1), "VALID"),
        _volume_patches, [[(1, 2, 2, 4, 2)], [(2, 4, 1, 2, 1)]], "biufc", own_sizes=True,
    )  # fmt: skip
