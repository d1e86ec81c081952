"""Products over a batch: epilogues on their tiles, batches of two loops, results where they belong, summed batches."""

import numpy as np
import pytest
from lowerings import Lowered

import tracejit as tj
from tracejit.runtime import threads

RNG = np.random.default_rng(0)


def rand(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def heads(x):
    return tj.transpose(x, (0, 2, 1, 3))


def times(x, y):
    """Matrices of heads that lie side by side in the rows of x and y."""
    return tj.matmul(heads(x), heads(y), transpose_b=True)


def attention_parts(q, k, v, w):
    """Three products side by side in the rows of a matrix, which another product reads."""
    parts = tj.stack([tj.matmul(q, k), tj.matmul(k, v), tj.matmul(q, v) * 2.0])
    s = tj.transpose(parts, (1, 3, 0, 2, 4))
    return tj.reshape(s, (s.shape[0], s.shape[1], -1)) @ w


W, IMAGE = rand(32, 48), rand(4, 20, 3, 16)
SQUARES = [rand(4, 3, 40, 40) for _ in range(3)]
CASES = {
    "one right operand": (1, lambda x, w, b: tj.nn.relu(x @ w + b), rand(3, 20, 32), W, rand(48)),
    "a number for each place": (1, lambda x, w, b: tj.nn.relu(x @ w + b), rand(3, 20, 32), W, rand(20, 48)),
    "a number for each matrix": (1, lambda x, w, b: tj.nn.relu(x @ w + b), rand(3, 20, 32), W, rand(3, 1, 48)),
    "a batch of two axes": (1, lambda x, w, b: x @ w * b, rand(3, 5, 7, 32), W, rand(5, 1, 1)),
    "matrices of their own": (1, lambda x, y: tj.tanh(tj.matmul(x, y)), rand(4, 3, 20, 16), rand(4, 3, 16, 30)),
    "repeated in the batch": (1, lambda x, y, z: x @ y + z, rand(4, 3, 20, 16), rand(3, 16, 30), rand(3, 1, 30)),
    "repeated outside": (1, lambda x, y, z: x @ y + z, rand(4, 3, 20, 16), rand(4, 1, 16, 30), rand(4, 1, 20, 30)),
    "another order of axes": (1, lambda x, y: heads(tj.matmul(x, y) * 0.5) + 0.0, *SQUARES[:2]),
    "rows that become columns": (2, lambda x, y: tj.transpose(x @ y * 0.5, (0, 1, 3, 2)), *SQUARES[:2]),
    "single rows": (2, lambda x, y: x @ y * 0.5, rand(4, 3, 1, 16), rand(4, 3, 16, 300)),
    "small matrices": (2, lambda x, y: x @ y * 0.5, rand(40, 3, 5), rand(40, 5, 4)),
    "short rows that lie apart": (3, lambda x, y: times(x, y) * 0.5, IMAGE, rand(4, 30, 3, 16)),
    "long rows that lie apart": (1, lambda x, y: times(x, y) * 0.5, rand(4, 20, 3, 300), rand(4, 30, 3, 300)),
    "rows without an epilogue": (1, times, rand(2, 20, 3, 300), rand(2, 30, 3, 300)),
    "one long row": (1, times, rand(2, 1, 3, 300), rand(2, 30, 3, 300)),
    "sums in parts": (1, lambda x, y: times(x, y) - 1.0, rand(2, 20, 3, 5000), rand(2, 30, 3, 5000)),
    "a batch of three loops": (3, lambda x, y: tj.transpose(x, (2, 0, 1, 3, 4)) @ y * 0.5, rand(2, 3, 4, 20, 16),
    rand(4, 1, 3, 16, 30)),
    "joined and transposed": (4, attention_parts, *SQUARES, rand(360, 50)),
    "side by side": (2, lambda x, w, v: tj.concat([x @ w, x @ v], 1), rand(50, 32), W, rand(32, 70)),
    "with a border": (2, lambda x, w: tj.pad(x @ w, [[1, 2], [3, 4]]), rand(50, 32), W),
    "columns below each other": (3, lambda x, v: tj.concat([x @ v, x @ v * 2.0], 0), rand(50, 32), rand(32, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_all_ways_agree(name):
    kernels, f, *args = CASES[name]
    want = np.asarray(f(*[tj.constant(a) for a in args]))
    lowered = Lowered(f)
    for way, (got,) in lowered.results(*args, source=want.size < 20_000 and name != "sums in parts"):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=way)
    assert lowered.function.stats()["kernels"] == kernels


@pytest.mark.parametrize("dtype", [tj.float16, tj.bfloat16, tj.float64])
def test_types(dtype):
    """Batches of two loops, packed in another type, and sums that go through memory."""
    x, y = (tj.cast(rand(2, n, 3, 300) / 8, dtype) for n in (20, 30))

    def f(x, y):
        return tj.maximum(times(x, y), 0), times(x, y)

    for got, want in zip(tj.function(f)(x, y), f(x, y)):
        tol = 1e-12 if dtype is tj.float64 else 0.05
        a, b = (np.asarray(tj.cast(v, tj.float64)) for v in (got, want))
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def test_large_matrices_in_two_loops():
    """Both factors are packed before they are multiplied."""
    x, y = rand(2, 1000, 2, 530), rand(2, 600, 2, 530)
    got = tj.function(lambda x, y: times(x, y) + 1.0)(x, y)
    np.testing.assert_allclose(got, np.einsum("bihk,bjhk->bhij", x, y) + 1.0, rtol=1e-3, atol=1e-3)


def test_the_same_bits_for_any_number_of_threads():
    f = tj.function(lambda x, y, z: tj.exp(times(x, y) * 0.1) + z)
    x, y, z = rand(4, 200, 3, 300), rand(4, 100, 3, 300), rand(4, 3, 200, 100)
    with threads.threads(1):
        one = np.asarray(f(x, y, z))
    with threads.threads(2):
        np.testing.assert_array_equal(f(x, y, z), one)


def test_sizes_that_are_open():
    spec = tj.TensorSpec([None, None, 3, 300], tj.float32)
    f = tj.function(lambda x, y: tj.nn.relu(times(x, y) + 1.0), input_signature=[spec, spec])
    for b, n, m in ((2, 20, 30), (1, 5, 1), (3, 1, 4), (2, 0, 7), (0, 3, 3)):
        x, y = rand(b, n, 3, 300), rand(b, m, 3, 300)
        want = np.maximum(np.einsum("bihk,bjhk->bhij", x, y) + 1.0, 0)
        np.testing.assert_allclose(f(x, y), want, rtol=1e-4, atol=1e-4)


def of_weights(x, w):
    with tj.GradientTape() as tape:
        tape.watch(w)
        y = tj.reduce_sum(tj.square(x @ w))
    return tape.gradient(y, w)


def test_the_gradient_of_weights_is_one_product():
    x, w = rand(6, 20, 32), W
    f = tj.function(of_weights)
    np.testing.assert_allclose(f(x, w), of_weights(tj.constant(x), tj.constant(w)), rtol=1e-4, atol=1e-3)
    graph = str(f.graph(x, w, stage="prepared"))
    assert graph.count("matmul(") == 2 and "reduce_sum" not in graph
    exact = tj.function(of_weights, numerics="exact")
    assert "reduce_sum" in str(exact.graph(x, w, stage="prepared"))


@pytest.mark.parametrize("f", [
    lambda x, y: tj.reduce_sum(tj.matmul(x, y, transpose_a=True), 0),
    lambda x, y: tj.reduce_sum(tj.matmul(tj.transpose(x, (0, 2, 1)), y), 0),
    lambda x, y: tj.reduce_sum(tj.matmul(x, tj.transpose(y, (0, 2, 1)), transpose_a=True, transpose_b=True), 0),
    lambda x, y: tj.reduce_sum(tj.matmul(x, y, transpose_a=True), (0, 1)),
    lambda x, y: tj.reduce_sum(tj.matmul(x, y[:1], transpose_a=True), 0),
    lambda x, y: tj.reduce_sum(tj.matmul(x, y, transpose_b=True), 0),
])  # fmt: skip
def test_sums_of_products_over_the_batch(f):
    x, y = rand(5, 12, 20), rand(5, 12, 20)
    for way, (got,) in Lowered(f).results(x, y):
        np.testing.assert_allclose(got, f(tj.constant(x), tj.constant(y)), rtol=1e-4, atol=1e-4, err_msg=way)


def test_integers_are_summed_too():
    x, y = (RNG.integers(-(2**31), 2**31, (5, 12, 20)).astype(np.int32) for _ in range(2))
    got = tj.function(lambda x, y: tj.reduce_sum(tj.matmul(x, y, transpose_a=True), 0))(x, y)
    np.testing.assert_array_equal(got, np.einsum("bki,bkj->ij", x, y))
