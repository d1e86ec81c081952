"""What follows a convolution is done on the product's tiles, and slopes before pooling meet the pooled gradient."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.units import ProductUnit


def random(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def products(f, *args):
    f(*args)
    return [u for u in f.get_concrete_function(*args).executable.program.units if isinstance(u, ProductUnit)]


FOLLOWING = {
    "bias": (lambda y, b, r: tj.nn.relu(y + b), "matmul+add+relu"),
    "bias of an image": (lambda y, b, r: tj.nn.relu(y + tj.reshape(b, (1, 1, 1, -1))), "matmul+add+relu"),
    "number": (lambda y, b, r: tj.maximum(y * 0.5, 0.1), "matmul+mul+maximum"),
    "array": (lambda y, b, r: tj.nn.relu(y + b + r), "matmul+add+add+relu"),
    "both": (lambda y, b, r: tj.nn.relu(y + b) - y, "matmul+add+relu+sub"),
    "another order": (lambda y, b, r: tj.exp(tj.transpose(y, (0, 3, 1, 2))), "matmul"),
    "rows": (lambda y, b, r: tj.exp(y + r[:, :, :, :1]), "matmul"),
}


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_elementwise_operations_are_epilogues(name, dtype):
    after, described = FOLLOWING[name]

    def f(x, w, b, r):
        return after(tj.nn.conv2d(x, w, 1, "SAME"), b, r)

    shapes = (3, 7, 6, 9), (3, 3, 9, 20), (20,), (3, 7, 6, 20)
    args = [tj.constant(random(*s, dtype=dtype) * dtype(0.3)) for s in shapes]
    traced = tj.function(f)
    (product,) = products(traced, *args)
    assert product.describe() == described
    tol = {np.float32: 1e-5, np.float64: 1e-13, np.float16: 5e-3}[dtype]
    np.testing.assert_allclose(traced(*args), f(*args), rtol=tol, atol=tol)


def test_cheap_operations_that_only_loops_read_stay_with_these():
    def f(x, w):
        y = tj.nn.conv2d(x, w, 1, "SAME")
        return y, tj.reduce_sum(tj.cast(y > 0, tj.float32) * x, (0, 1))

    args = tj.constant(random(2, 7, 6, 9)), tj.constant(random(3, 3, 9, 9))
    traced = tj.function(f)
    (product,) = products(traced, *args)
    assert "greater" not in product.describe()
    for a, e in zip(traced(*args), f(*args)):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def test_the_slope_of_relu_is_that_of_its_result():
    x = tj.constant([-1.0, 0.0, -0.0, 2.0, np.nan, np.inf, -np.inf])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.nn.relu(x)
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 0, 0, 1, 0, 1, 0])


def pooled(pool, size):
    def step(x, g):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = pool(tj.nn.relu(x), size, size, "VALID")
        d = tape.gradient(y, x, output_gradients=g)
        return y, d, tj.reduce_sum(d, (0, 1, 2))

    return step


def special(*shape):
    """Ties, zeros of both signs, infinities and NaN."""
    return np.random.default_rng(3).choice(np.float32([-2, -1, -0.0, 0, 0, 1, 1, 2, np.inf, -np.inf, np.nan]), shape)


@pytest.mark.parametrize("size", [2, 3, (1, 2), (3, 1)])
@pytest.mark.parametrize("values", [random, special])
@pytest.mark.parametrize("image", [(4, 12, 18, 32), (3, 13, 19, 33), (1, 3, 3, 2)])
def test_slopes_before_pooling_change_no_number(image, values, size):
    step, x = pooled(tj.nn.max_pool2d, size), tj.constant(values(*image))
    g = tj.constant(random(*step(x, 1.0)[0].shape))
    for a, e in zip(tj.function(step)(x, g)[:2], step(x, g)[:2]):
        np.testing.assert_array_equal(a, e)


def shapes_of(f, name, *args):
    graph = f.graph(*args, stage="interleaved")
    return [n.out.shape for n in graph.nodes if n.op.name == name]


def test_slopes_meet_the_pooled_gradient():
    x = tj.constant(random(4, 12, 18, 32))
    f = tj.function(pooled(tj.nn.max_pool2d, 2))
    g = tj.constant(random(4, 6, 9, 32))
    assert shapes_of(f, "mul", x, g) == [(4, 6, 9, 32)]
    mean = tj.function(pooled(tj.nn.avg_pool2d, 2))  # whose gradient is no choice among positions
    assert (4, 12, 18, 32) in shapes_of(mean, "mul", x, g)


def test_slopes_of_something_else_are_left_alone():
    def step(x, z, g):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.nn.max_pool2d(x, 2, 2, "VALID")
        return tape.gradient(y, x, output_gradients=g) * tj.cast(z > 0, tj.float32)

    x, z, g = (tj.constant(random(*s)) for s in ((4, 12, 18, 32), (5, 12, 18, 32), (4, 6, 9, 32)))
    z = z[1:]
    np.testing.assert_array_equal(tj.function(step)(x, z, g), step(x, z, g))
