"""Functions of arrays whose sizes vary: each call gives, or refuses, what the same call does eagerly."""

import numpy as np
import pytest

import tracejit as tj

EVEN = (4, 6, 8, 10, 2, 12, 1, 0)
SOME = (4, 6, 7, 8, 9, 3, 5, 2, 1)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def below(n, count):
    return np.random.default_rng(n).integers(0, n, count)


def gradient_of_gather(x, i):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.gather(x, i) ** 2)
    return tape.gradient(y, x)


# name: function, sizes, arrays for a size, traces at most
ROWS = lambda n: [normal(n, 3)]  # noqa: E731
LINE = lambda n: [normal(n)]  # noqa: E731
CASES = {
    "halves": (lambda x: (x[: x.shape[0] // 2], x[x.shape[0] // 2 :], x[::2], x[1::2]), EVEN, ROWS, 3),
    "backwards and ends": (lambda x: (x[::-1], x[-2:], x[:-3], x[-1:1:-2]), EVEN, ROWS, 5),
    "one row": (lambda x: (x[-1], x[0], x[x.shape[0] // 2]), EVEN[:-1], ROWS, 2),
    "a row that may not be there": (lambda x: x[5], (6, 7, 8, 3, 9), LINE, 2),
    "a slice that may be short": (lambda x: x[2:6] * tj.ones(4, tj.float64), (6, 7, 8, 3, 9, 5), LINE, 3),
    "pairs": (lambda x: tj.reshape(x, (-1, 2)), SOME, LINE, 2),
    "pairs of rows": (lambda x: tj.reshape(x, (x.shape[0] // 2, 2, 3)), SOME, ROWS, 2),
    "fours": (lambda x: tj.reshape(x, (-1, 4)), (4, 8, 6, 12, 3, 16, 5), lambda n: [normal(n, 2)], 2),
    "a known shape": (lambda x: tj.reshape(x, (2, 6)), (12, 6, 4, 3, 2, 1), lambda n: [normal(n, 12 // n)], 2),
    "transposed pairs": (lambda x: tj.reshape(tj.transpose(x)[::-1], (-1, 2)) * 2, (4, 6, 8, 3, 5),
    lambda n: [normal(n, 4)], 2),
    "pooling": (lambda x: tj.reduce_max(tj.reshape(x, (x.shape[0] // 2, 2, x.shape[1] // 2, 2)), axis=(1, 3)),
    (4, 6, 8, 12), lambda n: [normal(n, n + 2)], 2),
    "flat": (lambda x: tj.reshape(x, (-1,)) + 1.0, EVEN, lambda n: [normal(n, n + 1)], 2),
    "split": (lambda x: tj.split(x, 2), SOME, ROWS, 2),
    "unstack": (lambda x: tj.unstack(x, axis=1), EVEN, ROWS, 2),
    "tile": (lambda x: tj.tile(x, [2, x.shape[0]]), EVEN, ROWS, 2),
    "repeat": (lambda x: tj.repeat(x, 3, axis=0), EVEN, ROWS, 2),
    "roll": (lambda x: tj.roll(x, 1, 0), EVEN, ROWS, 4),
    "pad": (lambda x: (tj.pad(x, [[1, x.shape[0]], [0, 0]]), tj.pad(x[:2], [[1, 1], [0, 0]])), EVEN, ROWS, 4),
    "reflect": (lambda x: tj.pad(x, [[1, 1], [0, 0]], "REFLECT"), EVEN[:6], ROWS, 2),
    "concat": (lambda x, y: tj.concat([x, y, x], 0), EVEN, lambda n: [normal(n, 3), normal(n + 1, 3)], 2),
    "running": (lambda x: tj.concat([tj.zeros((1, 3), tj.float64), tj.cumsum(x, 0)[:-1]], 0), EVEN, ROWS, 3),
    "no columns": (lambda x: (x[1:, 1:1] - x[1:, 1:1], tj.reduce_sum(x[:-1, :0] * 0.0, 0)), EVEN, ROWS, 3),
    "stencil": (lambda x: x[2:] + x[1:-1] * 2 + x[:-2], EVEN, lambda n: [normal(n + 2, 3)], 2),
    "sums of sizes": (lambda x, y: x + y, (2, 3, 4, 5, 6, 1), lambda n: [normal(n), normal(n if n != 5 else 7)], 2),
    "larger of two": (lambda x, y: x if x.shape[0] > y.shape[0] else y, (2, 3, 4, 5, 6, 7),
    lambda n: [normal(n), normal(9 - n)], 3),
    "outer": (lambda x: x[:, None] * x[None, :], EVEN, LINE, 2),
    "outer, flat": (lambda x: tj.reshape(x[:, None] * x[None, :], (-1,)), EVEN, LINE, 2),
    "distances": (lambda x: tj.reduce_sum(tj.square(x[:, None] - x[None, :]), axis=(0, 1)), EVEN, ROWS, 2),
    "Gram matrices": (lambda x: (x @ tj.transpose(x), tj.transpose(x) @ x, x[::-1] @ tj.transpose(x)[::-1]), EVEN,
    ROWS, 2),
    "batched products": (lambda x, w: x @ w, EVEN, lambda n: [normal(n, 4, 3), normal(3, 5)], 2),
    "einsum": (lambda x, y: (tj.einsum("bi,bj->bij", x, x), tj.einsum("bi,ci->bc", x, y)), EVEN,
    lambda n: [normal(n, 3), normal(n + 2, 3)], 2),
    "diagonals": (lambda x: tj.linalg.diag_part(x @ tj.transpose(x)), EVEN, ROWS, 2),
    "identity": (lambda x: x + tj.eye(x.shape[0], dtype=tj.float64), EVEN, lambda n: [normal(n, n)], 2),
    "counting": (lambda x: (x * tj.cast(tj.range(x.shape[0]), tj.float64), tj.range(0, x.shape[0], 2)), EVEN, LINE, 2),
    "filled": (lambda x: (tj.zeros_like(x), tj.ones((x.shape[0], 2)), tj.fill((2, x.shape[0]), 7)), EVEN, ROWS, 2),
    "shapes as values": (lambda x: (tj.size(x), tj.shape(x), tj.rank(x), x / tj.cast(tj.size(x), tj.float64)), EVEN,
    ROWS, 2),
    "arithmetic": (lambda x: x.shape[0] % 3 * x + (x.shape[0] * 2 - 1), EVEN, LINE, 2),
    "repeated": (lambda x: tj.broadcast_to(x, (x.shape[0], x.shape[0])), EVEN, LINE, 2),
    "moments": (lambda x: (tj.math.reduce_variance(x, 0), x - tj.reduce_mean(x)), EVEN[:-1], ROWS, 2),
    "sorted": (lambda x: (tj.sort(x, axis=0), tj.argsort(x, axis=0)), EVEN, ROWS, 2),
    "one-hot": (lambda x: (tj.one_hot(tj.argmax(x, 1), 3), tj.one_hot([0, 1, 1], x.shape[0])), EVEN[:-1], ROWS, 2),
    "gather": (lambda x, i: tj.gather(x, i), EVEN[:-1], lambda n: [normal(n, 3), below(n, 5)], 2),
    "gather, a list": (lambda x: tj.gather(x, [0, x.shape[0] - 1, 3]), (4, 5, 6, 3, 7), LINE, 2),
    "gather, gradient": (gradient_of_gather, EVEN[:-1], lambda n: [normal(n, 3), below(n, n)], 2),
    "rows by numbers": (lambda x: x[tj.range(x.shape[0] // 2)], EVEN, ROWS, 2),
    "an assigned row": (lambda x: tj.tensor_scatter_nd_update(x, [[0]], [[1.0, 2.0, 3.0]]), EVEN[:-1], ROWS, 2),
}  # fmt: skip


def flat(x):
    return [a for y in x for a in flat(y)] if isinstance(x, (tuple, list)) else [np.asarray(x)]


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    f, sizes, arrays, most = CASES[name]
    traced = tj.function(f)
    fits = 0
    for n in sizes:
        args = arrays(n)
        try:
            want = flat(f(*[tj.constant(a) for a in args]))
        except tj.errors.TracejitError as e:
            with pytest.raises(type(e)):
                traced(*args)
            continue
        fits += 1
        for a, b in zip(want, flat(traced(*args)), strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape, f"{n}: {b.shape}, not {a.shape}"
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
    assert fits > 1
    assert traced.experimental_get_tracing_count() <= most


def test_sizes_within_vectors_and_across_threads():
    """One trace serves lengths around the width of vectors and lengths that several threads share."""
    f = tj.function(lambda x: (tj.exp(-x * x), tj.reduce_sum(x * x), tj.cumsum(x)[-1], x[1:] - x[:-1]))
    for n in (5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 2047, 2048, 2049, 100_000):
        x = normal(n)
        a, b, c, d = f(x)
        np.testing.assert_allclose(a, np.exp(-x * x), rtol=1e-14)
        np.testing.assert_allclose(b, (x * x).sum(), rtol=1e-12)
        np.testing.assert_allclose(c, x.sum(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(d, np.diff(x), atol=1e-15)
    assert f.experimental_get_tracing_count() == 2
