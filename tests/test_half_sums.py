"""16-bit floats are accumulated in float32 and rounded once, eagerly and in compiled code."""

import numpy as np
import pytest

import tracejit as tj

N = 5000
EXACT = {"float16": 5000.0, "bfloat16": 4992.0}  # with steps of 4 and 32 between the numbers there


def weight_gradient(x):
    w = tj.ones((1,), x.dtype)
    with tj.GradientTape() as tape:
        tape.watch(w)
        y = w * x
    return tape.gradient(y, w)


SUMS = {
    "sum": tj.reduce_sum,
    "sum over the first axis": lambda x: tj.reduce_sum(tj.stack([x, x], 1), 0),
    "running sum": lambda x: tj.cumsum(x)[-1],
    "running sum from the end": lambda x: tj.cumsum(tj.concat([x, x[:1]], 0), exclusive=True, reverse=True)[0],
    "einsum": lambda x: tj.einsum("i,i->", x, x),
    "matrix product": lambda x: tj.reshape(x, (1, -1)) @ tj.reshape(x, (-1, 1)),
    "gradient of a broadcast weight": weight_gradient,
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("dtype", EXACT)
def test_sums(name, dtype):
    x = tj.ones((N,), dtype)
    for f in (SUMS[name], tj.function(SUMS[name])):
        y = f(x)
        assert y.dtype.name == dtype
        np.testing.assert_array_equal(np.asarray(y, np.float32), EXACT[dtype])


@pytest.mark.parametrize("dtype", EXACT)
def test_logsumexp(dtype):
    x = tj.ones((N,), dtype)
    want = np.asarray(np.float32(1 + np.log(EXACT[dtype]))).astype(x.dtype.np)
    for f in (tj.reduce_logsumexp, tj.function(tj.reduce_logsumexp)):
        np.testing.assert_allclose(np.float32(f(x).numpy()), np.float32(want), rtol=2.0**-7)


@pytest.mark.parametrize("f", [lambda x: tj.reduce_prod(x, 0), lambda x: tj.math.cumprod(x, 0)[-1]])
@pytest.mark.parametrize("dtype", EXACT)
def test_products(f, dtype):
    x = tj.constant(np.full((500, 2), 1 + 2.0**-7), dtype)
    want = np.float32(1 + 2.0**-7) ** 500
    for g in (f, tj.function(f)):
        np.testing.assert_allclose(np.asarray(g(x), np.float32), want, rtol=2.0**-7)
