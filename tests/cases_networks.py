"""Cases of the operations' table: forms of convolution, pooling and blocks of space, and what else networks need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import convolution_cases as windows
import numpy as np
from op_case import BINARY, UNARY, Case, wide

import tracejit as tj


def _convolutions() -> Iterator[Case]:
    volumes = [[(1, 3, 2, 3, 2), (2, 2, 2, 2, 3)], [(0, 3, 2, 3, 2), (1, 1, 1, 2, 1)]]
    yield Case(
        "nn.conv3d", lambda x, w: tj.nn.conv3d(x, w, (1, 1, 2, 1, 1), "SAME"),
        lambda x, w: windows.convolution(x, w, (1, 2, 1), "SAME", (1, 1, 1)), volumes, factor=50, own_sizes=True,
    )  # fmt: skip
    images = [[(1, 5, 4, 2), (2, 2, 2, 3)], [(2, 6, 5, 4), (3, 2, 2, 4)]]
    yield Case(
        "nn.convolution, dilated and in groups", lambda x, w: tj.nn.convolution(x, w, 1, "VALID", dilations=2),
        lambda x, w: windows.convolution(x, w, (1, 1), "VALID", (2, 2)), images, factor=50, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.atrous_conv2d", lambda x, w: tj.nn.atrous_conv2d(x, w, 2, "SAME"),
        lambda x, w: windows.convolution(x, w, (1, 1), "SAME", (2, 2)), images[:1], factor=50, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.separable_conv2d", lambda x, d, p: tj.nn.separable_conv2d(x, d, p, (1, 1, 1, 1), "SAME"),
        lambda x, d, p: windows.convolution(x, d.reshape(2, 2, 1, 4), (1, 1), "SAME", (1, 1)) @ p[0, 0].astype(float),
        [[(1, 3, 4, 2), (2, 2, 2, 2), (1, 1, 4, 3)]], factor=80, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.conv1d_transpose", lambda y, w: tj.nn.conv1d_transpose(y, w, (1, 5, 2), 2, "SAME"),
        lambda y, w: windows.transposed(y, w, (5,), (2,), "SAME", (1,)), [[(1, 3, 3), (3, 2, 3)]], factor=50,
        own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.conv3d_transpose", lambda y, w: tj.nn.conv3d_transpose(y, w, (1, 2, 3, 3, 1), (1, 1, 2, 1, 1), "SAME"),
        lambda y, w: windows.transposed(y, w, (2, 3, 3), (1, 2, 1), "SAME", (1, 1, 1)),
        [[(1, 2, 2, 3, 2), (2, 2, 1, 1, 2)]], factor=50, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.conv_transpose", lambda y, w: tj.nn.conv_transpose(y, w, (1, 4, 4, 2), 1, "VALID"),
        lambda y, w: windows.transposed(y, w, (4, 4), (1, 1), "VALID", (1, 1)), [[(1, 3, 3, 3), (2, 2, 2, 3)]],
        factor=50, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.atrous_conv2d_transpose", lambda y, w: tj.nn.atrous_conv2d_transpose(y, w, (1, 5, 5, 1), 2, "VALID"),
        lambda y, w: windows.transposed(y, w, (5, 5), (1, 1), "VALID", (2, 2)), [[(1, 3, 3, 2), (2, 2, 1, 2)]],
        factor=50, own_sizes=True,
    )  # fmt: skip


def _pools() -> Iterator[Case]:
    shapes = {1: [[(2, 5, 2)], [(0, 4, 1)]], 2: [[(1, 4, 5, 2)]], 3: [[(1, 3, 2, 4, 1)]]}
    for d, kind in itertools.product((1, 2, 3), ("max", "avg")):
        f = getattr(tj.nn, f"{kind}_pool{d}d")
        yield Case(
            f"nn.{kind}_pool{d}d", lambda x, f=f: f(x, 2, 2, "SAME"),
            lambda x, d=d, kind=kind: windows.pooled(x, (2,) * d, (2,) * d, "SAME", (1,) * d, kind == "avg"),
            shapes[d], factor=5, own_sizes=True,
        )  # fmt: skip
    yield Case(
        "nn.pool", lambda x: tj.nn.pool(x, (2, 2), "MAX", (1, 1), "VALID", dilations=(2, 1)),
        lambda x: windows.pooled(x, (2, 2), (1, 1), "VALID", (2, 1), False), shapes[2], own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.local_response_normalization", lambda x: tj.nn.local_response_normalization(x, 1, 1.0, 0.5, 0.75), _normed,
        [[(1, 2, 2, 4)], [(2, 1, 3, 1)]], factor=10,
    )  # fmt: skip


def _normed(x: np.ndarray) -> np.ndarray:
    squares = np.pad(wide(x) ** 2, [(0, 0)] * 3 + [(1, 1)])
    return wide(x) / (1 + 0.5 * (squares[..., :-2] + squares[..., 1:-1] + squares[..., 2:])) ** 0.75


def _to_depth(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def _from_depth(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)


def _to_batch(x: np.ndarray) -> np.ndarray:
    x = np.pad(x, [(0, 0), (1, 0), (0, 1), (0, 0)])
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 4, 0, 1, 3, 5).reshape(-1, h // 2, w // 2, c)


def _from_batch(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    x = x.reshape(2, 2, n // 4, h, w, c).transpose(2, 3, 0, 4, 1, 5).reshape(n // 4, 2 * h, 2 * w, c)
    return x[:, 1:, :-1]


def _blocks() -> Iterator[Case]:
    kinds, own = "bifc", {"own_sizes": True}
    yield Case("nn.space_to_depth", lambda x: tj.nn.space_to_depth(x, 2), _to_depth, [[(1, 2, 4, 3)]], kinds, **own)
    yield Case("nn.depth_to_space", lambda x: tj.nn.depth_to_space(x, 2), _from_depth, [[(1, 2, 3, 4)]], kinds, **own)
    yield Case(
        "space_to_batch", lambda x: tj.space_to_batch(x, (2, 2), ((1, 0), (0, 1))), _to_batch, [[(1, 3, 3, 2)]], kinds,
        **own,
    )  # fmt: skip
    yield Case(
        "batch_to_space", lambda x: tj.batch_to_space(x, (2, 2), ((1, 0), (0, 1))), _from_batch, [[(4, 2, 2, 2)]],
        kinds, **own,
    )  # fmt: skip


def _clipped(x: np.ndarray, most: float = 1.0) -> np.ndarray:
    w = wide(x)
    n = np.sqrt(np.sum(w * w))
    return w if n <= most else w * (most / n)


def _norms() -> Iterator[Case]:
    yield Case("clip_by_norm", lambda x: tj.clip_by_norm(x, 1.0), _clipped, UNARY[:-1], factor=3)
    yield Case(
        "clip_by_global_norm", lambda x: tj.clip_by_global_norm([x], 1.0)[0][0], _clipped, [[(3,)], [()], [(4, 5)]],
        factor=3,
    )  # fmt: skip
    yield Case(
        "linalg.global_norm", lambda x, y: tj.linalg.global_norm([x, y]),
        lambda x, y: np.sqrt(np.sum(wide(x) ** 2) + np.sum(wide(y) ** 2)), [[(3,), (2, 2)], [(), (1,)]], factor=3,
    )  # fmt: skip
    yield Case("math.angle", tj.math.angle, np.angle, UNARY, "c", factor=2)
    yield Case(
        "math.zero_fraction", tj.math.zero_fraction, lambda x: np.float32(np.mean(x == 0)), UNARY[:2], "biuf",
        differentiable=False,
    )  # fmt: skip
    yield Case(
        "math.in_top_k", lambda p, t: tj.math.in_top_k(t, p, 2), lambda p, t: (p > np.take_along_axis(p, t[:, None], 1))
        .sum(1) < 2, [[(3, 4), (3,)]], domains=((-2.0, 2.0), (0.0, 3.0)), fixed={1: "int32"}, differentiable=False,
    )  # fmt: skip
    yield Case(
        "saturate_cast", lambda x: tj.saturate_cast(x, tj.int8), lambda x: np.clip(x, -128, 127).astype(np.int8), UNARY,
        "iuf", ((-2.0, 2.0),), differentiable=False,
    )  # fmt: skip
    yield Case(
        "sequence_mask", lambda n: tj.sequence_mask(n, 4), lambda n: np.arange(4) < n[..., None],
        [[(3,)], [()], [(2, 0)]], "iu", ((0.0, 5.0),), differentiable=False,
    )  # fmt: skip


def _rest() -> Iterator[Case]:
    mask = np.array([True, False, True])
    yield Case(
        "boolean_mask", lambda x: tj.boolean_mask(x, mask), lambda x: x[mask], [[(3,)], [(3, 2)], [(3, 0)]], "biufc",
        own_sizes=True,
    )  # fmt: skip
    yield Case(
        "nn.normalize_moments", lambda s, q: tj.nn.normalize_moments(4.0, s, q, None)[1],
        lambda s, q: wide(q) / 4 - (wide(s) / 4) ** 2, BINARY[:4], domains=((-2.0, 2.0), (4.0, 8.0)), factor=5,
    )  # fmt: skip


def cases() -> Iterator[Case]:
    yield from _rest()
    yield from _convolutions()
    yield from _pools()
    yield from _blocks()
    yield from _norms()
