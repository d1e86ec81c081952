"""Gathers in native code: for every type, at every size, against NumPy, and what they fuse with."""

import re

import ml_dtypes
import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.program import HostUnit
from tracejit.ops import index as I

RNG = np.random.default_rng(1)
TYPES = [np.bool_, np.int8, np.uint16, np.int32, np.uint64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [((9,), 0, (4,)), ((5, 7), 0, (3, 2)), ((5, 33), 1, (40,)), ((2, 6, 70), 1, (3,)), ((4, 3), 1, (0,)),
          ((0, 3), 1, (2,)), ((3, 1, 2), 1, (5, 1)), ((6, 4), 0, ())]  # fmt: skip


def values(shape, dtype):
    return RNG.integers(0, 2 if np.dtype(dtype).kind == "b" else 100, shape).astype(dtype)


def hosts(f):
    (concrete,) = f.concrete_functions
    return [u for u in concrete.executable.program.units if type(u) is HostUnit]


def kernels(f):
    (concrete,) = f.concrete_functions
    return [u.describe() for u in concrete.executable.program.units]


@pytest.mark.parametrize("index", [np.int32, np.int64, np.uint8], ids=lambda d: d.__name__)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
def test_every_type_and_shape(dtype, index):
    for shape, axis, at in SHAPES:
        x = values(shape, dtype)
        i = RNG.integers(0 if index is np.uint8 else -shape[axis], shape[axis], at).astype(index)
        f = tj.function(lambda x, i, axis=axis: I.gather(x, i, axis=axis))
        np.testing.assert_array_equal(np.asarray(f(x, i)), np.take(x, i, axis), strict=True)
        assert not hosts(f)


@pytest.mark.parametrize(
    "view", [lambda x: tj.transpose(x), lambda x: x[1:, ::2], lambda x: x[::-1], lambda x: x[2] * tj.ones((3, 1))],
    ids=["transpose", "slice", "backwards", "repeated"],
)  # fmt: skip
@pytest.mark.parametrize("axis", [0, 1])
def test_views_are_read_where_they_lie(view, axis):
    x, i = values((20, 20), np.float32), np.array([[0, -1], [2, 1]])

    def f(x, i):
        return tj.gather(view(x), i, axis=axis) + 1

    np.testing.assert_array_equal(tj.function(f)(x, i), f(tj.constant(x), tj.constant(i)))


def test_sizes_may_change():
    f = tj.function(lambda x, i: tj.gather(x, i % x.shape[0]) * 2.0)
    for n in (3, 4, 17, 64, 1):
        x, i = values((n, n + 1), np.float32), RNG.integers(-50, 50, 2 * n)
        np.testing.assert_array_equal(f(x, i), x[i % n] * 2)
    assert f.stats()["traces"] <= 3


@pytest.mark.parametrize("shape", [(1000,), (40, 17)])
def test_positions_outside_never_reach_memory(shape):
    """The kernel alone, without the check in front: what lies outside is brought to an end of the axis."""
    x, n = values(shape, np.float32), shape[0]
    i = np.array([0, n, -n - 1, 2**40, -(2**40), 2**63 - 1, -(2**63), n - 1])
    want = x[np.clip(np.where(i < 0, i + n, i), 0, n - 1)]
    np.testing.assert_array_equal(tj.function(lambda x, i: I.gather(x, i, axis=0))(x, i), want)


def test_an_empty_axis_has_nothing_to_pick():
    f = tj.function(lambda x, i: I.gather(x, i, axis=0) * 2.0)
    with pytest.raises(IndexError):
        f(np.zeros((0, 3), np.float32), np.zeros(2, np.int64))
    assert f(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)).shape == (0, 3)


def embed(table, tokens, bias):
    x = tj.gather(table, tokens) + bias
    x = x - tj.reduce_mean(x, axis=-1, keepdims=True)
    return x * tj.math.rsqrt(tj.reduce_mean(tj.square(x), axis=-1, keepdims=True) + 1e-5)


def test_an_embedding_with_layer_norm_is_one_kernel():
    table, tokens, bias = RNG.normal(size=(50, 37)), RNG.integers(0, 50, (4, 6)), RNG.normal(size=37)
    f = tj.function(embed)
    np.testing.assert_allclose(f(table, tokens, bias), embed(*map(tj.constant, (table, tokens, bias))), rtol=1e-9)
    assert [k for k in kernels(f) if "gather" in k] == [
        "gather+add+reduce_sum+div+sub+square+reduce_sum+div+add+rsqrt+mul"
    ]
    assert "gather+add+reduce_sum" in f.explain(table, tokens, bias)


def test_producers_of_positions_fuse():
    f = tj.function(lambda x, i: I.gather(x, (i * 3 + 1) % 10, axis=0) + 1.0)
    x, i = values(10, np.float32), np.arange(100)
    np.testing.assert_array_equal(f(x, i), x[(i * 3 + 1) % 10] + 1)
    assert kernels(f) == ["mul+add+floormod+gather+add"]


def test_what_is_picked_from_is_not_fused():
    f = tj.function(lambda x, i: tj.exp(x) + tj.gather(tj.exp(x), i))
    x, i = RNG.normal(size=20), RNG.permutation(20)
    np.testing.assert_allclose(f(x, i), np.exp(x) + np.exp(x)[i])


def test_a_product_takes_what_was_picked_and_gives_what_is_picked_from():
    f = tj.function(lambda x, w, i: (tj.gather(x, i) @ w + tj.gather(w, i % 4)[0], tj.gather(x @ w, i)))
    x, w, i = RNG.normal(size=(30, 20)), RNG.normal(size=(20, 40)), RNG.integers(0, 30, 25)
    a, b = f(x, w, i)
    np.testing.assert_allclose(a, x[i] @ w + w[i % 4][0])
    np.testing.assert_allclose(b, (x @ w)[i])


def test_the_epilogue_of_a_product_picks_by_row_and_by_column():
    def f(x, w, scale, i, bias, j):
        return tj.nn.relu((x @ w) * tj.reshape(I.gather(scale, i, axis=0), (-1, 1)) + I.gather(bias, j, axis=0))

    x, w, scale, bias = (RNG.normal(size=s).astype(np.float32) for s in ((50, 30), (30, 45), (7,), (9,)))
    i, j = RNG.integers(-7, 7, 50), RNG.integers(0, 9, 45).astype(np.int32)
    g = tj.function(f)
    want = np.maximum((x @ w) * scale[i][:, None] + bias[j], 0)
    np.testing.assert_allclose(g(x, w, scale, i, bias, j), want, rtol=1e-4, atol=1e-5)
    assert kernels(g) == ["matmul+gather+mul+gather+add+relu"]


def test_a_variable_is_not_overwritten_while_it_is_picked_from():
    v = tj.Variable(np.arange(50.0))
    f = tj.function(lambda i: v.assign(tj.gather(v, i) * 2.0))
    i = RNG.permutation(50)
    f(i)
    np.testing.assert_array_equal(v.numpy(), np.arange(50.0)[i] * 2)


def test_sums_over_what_was_picked():
    f = tj.function(lambda x, i: (tj.reduce_sum(tj.gather(x, i), 1), tj.reduce_sum(tj.gather(x, i)),
                                  tj.reduce_max(tj.gather(x, i), -1)))  # fmt: skip
    x, i = RNG.normal(size=(30, 19)), RNG.integers(-30, 30, (11, 5))
    a, b, c = f(x, i)
    np.testing.assert_allclose(a, x[i].sum(1))
    np.testing.assert_allclose(b, x[i].sum())
    np.testing.assert_array_equal(c, x[i].max(-1))


def test_the_loop_as_text():
    f = tj.function(lambda x, i: I.gather(x, i, axis=0) + 1.0)
    f(values((9, 40), np.float32), np.array([1, 2], np.int32))
    (concrete,) = f.concrete_functions
    (unit,) = concrete.executable.program.units
    assert unit.instance.kernel.text().splitlines() == [
        "kernel axes [0, 1] outer 1 chunk -2",
        "  %0:i32 = load $2[1,0]  @row0",
        "  %1:f32 = gather $3[0,1] at %0 * $1 below $4  @full0",
        "  %2:f32 = 1.0  @scalar0",
        "  %3:f32 = add(%1, %2)  @full0",
        "  store %3 -> $5[$1,1]",
    ]


def test_numba_source_says_it_plainly():
    f = tj.function(lambda x, i: I.gather(x, i, axis=0) + 1.0)
    x, i = values((9, 40), np.float32), np.array([1, -2], np.int32)
    f(x, i)
    assert re.search(r" = x\[position\(\w+, 9\), \w\] \+ np\.float32\(1\.0\)", f.source(x, i))
