"""Mixed precision: policies, Variables read in 16 bits, scaled losses, and sums of 16-bit numbers kept in float32."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning

MP = tj.mixed_precision


@pytest.fixture(autouse=True)
def usual_policy():
    yield
    MP.set_global_policy(None)


# --- policies ---------------------------------------------------------------------------------------------------------
def test_policies():
    p = MP.Policy("mixed_float16")
    assert (p.name, p.compute_dtype, p.variable_dtype) == ("mixed_float16", "float16", "float32")
    assert MP.Policy("mixed_bfloat16").compute_dtype == "bfloat16"
    assert (MP.Policy("float64").compute_dtype, MP.Policy("float64").variable_dtype) == ("float64", "float64")
    assert p == MP.Policy("mixed_float16") != MP.Policy("float32")
    assert len({p, MP.Policy("mixed_float16")}) == 1
    for wrong in ("mixed_float8", "int32", None):
        with pytest.raises(ArgumentError, match="policy"):
            MP.Policy(wrong)


def test_a_policy_by_a_dtype_and_the_line_of_a_wrong_one():
    assert MP.Policy(tj.bfloat16) == MP.Policy("bfloat16")
    v = tj.Variable([1.0])
    with MP.autocast(tj.float16) as p:
        assert (p.name, (v + 1).dtype) == ("float16", tj.float16)
    with pytest.raises(ArgumentError, match=r"autocast\(policy='no'\)") as e:
        MP.autocast("no")
    assert "contextlib" not in str(e.value)
    with pytest.raises(ArgumentError, match="policy"):
        MP.Policy(tj.int32)


def test_casts_of_nests():
    p = MP.Policy("mixed_bfloat16")
    given = {"x": tj.ones((2,)), "n": tj.ones((2,), tj.int32), "a": np.ones(3), "v": tj.Variable(1.0), "k": 3, "f": 0.5}
    for f in (p.cast_to_compute, tj.function(p.cast_to_compute)):
        found = f(given)
        assert {k: found[k].dtype.name for k in "xnav"} == {
            "x": "bfloat16", "n": "int32", "a": "bfloat16", "v": "bfloat16"
        }  # fmt: skip
    assert p.cast_to_compute(0.5) == 0.5


def test_a_trace_that_asks_for_the_global_policy():
    f = tj.function(lambda x: MP.global_policy().cast_to_compute(x))
    x = tj.ones((2,))
    assert f(x).dtype is tj.float32
    MP.set_global_policy("mixed_float16")
    assert f(x).dtype is tj.float16
    MP.set_global_policy(MP.Policy("mixed_bfloat16"))
    assert f(x).dtype is tj.bfloat16
    assert MP.global_policy().name == "mixed_bfloat16"


# --- autocast ---------------------------------------------------------------------------------------------------------
READS = {
    "product": lambda x, w: x @ w,
    "function": lambda x, w: tj.matmul(w, x, transpose_a=True, transpose_b=True),
    "operator": lambda x, w: w * 2.0,
    "slice": lambda x, w: w[0],
    "reduction": lambda x, w: tj.reduce_sum(w, 0),
    "value": lambda x, w: tj.identity(w),
    "einsum": lambda x, w: tj.einsum("ij,jk->ik", x, w),
    "concat": lambda x, w: tj.concat([w, w], 0),
    "rows": lambda x, w: tj.gather(w, [0, 1]),
    "NumPy": lambda x, w: np.tanh(w),
}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", READS)
def test_variables_are_read_in_the_compute_type(name, policy):
    d = MP.Policy(policy).compute_dtype
    w, x = tj.Variable(np.full((3, 2), 1.001, np.float32)), tj.ones((4, 3), d)

    def inside(x):
        with MP.autocast(policy):
            return READS[name](x, w)

    read = READS[name](x, tj.cast(w, d))
    for f in (inside, tj.function(inside)):
        y = f(x)
        assert y.dtype.name == d
        np.testing.assert_array_equal(np.asarray(y, np.float32), np.asarray(read, np.float32))
    assert READS[name](x, w).dtype is tj.float32  # no longer


IMAGE, KERNEL = (2, 6, 6, 3), (3, 3, 3, 4)
PRODUCTS = {  # shapes of the operands
    "operator": (lambda x, y: x @ y, (5, 40), (40, 3)),
    "matmul": (lambda x, y: tj.matmul(x, y, transpose_b=True), (5, 40), (3, 40)),
    "vector": (lambda x, y: tj.linalg.matvec(x, y), (5, 40), (40,)),
    "tensordot": (lambda x, y: tj.tensordot(x, y, 1), (5, 40), (40, 3)),
    "einsum": (lambda x, y: tj.einsum("ij,kj->ik", x, y), (5, 40), (3, 40)),
    "conv1d": (lambda x, y: tj.nn.conv1d(x, y, 1, "SAME"), (2, 9, 3), (3, 3, 4)),
    "conv2d": (lambda x, y: tj.nn.conv2d(x, y, 1, "SAME"), IMAGE, KERNEL),
    "convolution": (lambda x, y: tj.nn.convolution(x, y), IMAGE, KERNEL),
    "depthwise": (lambda x, y: tj.nn.depthwise_conv2d(x, y, [1, 1, 1, 1], "SAME"), IMAGE, (3, 3, 3, 1)),
    "transpose": (lambda x, y: tj.nn.conv2d_transpose(x, y, (2, 6, 6, 4), 1), IMAGE, (3, 3, 4, 3)),
    "attention": (lambda x, y: tj.nn.scaled_dot_product_attention(x, tj.stop_gradient(y), y), (5, 8), (7, 8)),
}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_tensors_are_in_the_compute_type(name, policy):
    d = MP.Policy(policy).compute_dtype
    product, *shapes = PRODUCTS[name]
    rng = np.random.default_rng(1)
    x, y = (tj.constant(rng.normal(size=s).astype(np.float32)) for s in shapes)

    def inside(x, y):
        with MP.autocast(policy), tj.GradientTape() as tape:
            tape.watch((x, y))
            z = product(x, y)
        return z, *tape.gradient(z, (x, y))

    def by_hand(x, y):
        with tj.GradientTape() as tape:
            tape.watch((x, y))
            z = product(tj.cast(x, d), tj.cast(y, d))
        return z, *tape.gradient(z, (x, y))

    for wrap in (lambda f: f, tj.function):
        found, want = wrap(inside)(x, y), wrap(by_hand)(x, y)
        assert [t.dtype.name for t in found] == [d, "float32", "float32"]
        for a, b in zip(found, want, strict=True):
            np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
    assert product(x, y).dtype is tj.float32


def test_what_autocast_leaves_as_it_is():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(4, 4)).astype(np.float32)
    x, spd, wide = tj.constant(a), tj.constant(a @ a.T + 4 * np.eye(4, dtype=np.float32)), tj.constant(a, tj.float64)

    def slope():
        with tj.GradientTape() as tape:
            tape.watch(spd)
            y = tj.linalg.inv(spd) + tj.linalg.cholesky(spd)
        return tape.gradient(y, spd)

    want = slope()
    with MP.autocast("mixed_bfloat16"):
        assert ((wide @ wide).dtype, (x @ wide).dtype) == (tj.float64, tj.float64)
        assert ((x + x).dtype, tj.nn.softmax(x).dtype, (x @ tj.cast(x, "bfloat16")).dtype.name) == (
            tj.float32, tj.float32, "bfloat16"
        )  # fmt: skip
        assert tj.matmul(x, x, output_type=tj.float32).dtype is tj.float32
        assert (tj.cast(x, "int32") @ tj.cast(x, "int32")).dtype is tj.int32
        np.testing.assert_array_equal(slope().numpy(), want.numpy())
        with MP.autocast("float32"):
            assert (x @ x).dtype is tj.float32
    long = tj.ones((1, 4096)) * 1.001
    with MP.autocast("mixed_float16"):  # 16-bit sums would stop growing at 2048
        assert float((long @ tj.transpose(long))[0, 0]) == pytest.approx(4096, rel=5e-3)


def test_other_variables_and_scopes():
    n, h, w = tj.Variable(1), tj.Variable(1.0, dtype=tj.float16), tj.Variable(1.0)
    with MP.autocast("mixed_float16"):
        assert [(v * 1).dtype.name for v in (n, h, w)] == ["int32", "float16", "float16"]
        assert w.dtype is tj.float32
        with MP.autocast("float32"):
            assert (w * 1.0).dtype is tj.float32
        assert (w * 1.0).dtype is tj.float16
    MP.set_global_policy("mixed_bfloat16")
    with MP.autocast() as policy:
        assert (w * 1.0).dtype.name == policy.compute_dtype == "bfloat16"
    assert (w * 1.0).dtype is tj.float32


@pytest.mark.parametrize("traced", [False, True])
def test_gradients_and_assignments_are_in_the_variables_own_type(traced):
    fine = np.float32(1.0001)  # no number of 16 bits
    w, other = (tj.Variable(np.full((3, 2), fine)) for _ in range(2))
    optimizer, ema = tj.optimizers.SGD(1e-4), tj.train.ExponentialMovingAverage(0.5)

    def step(x):
        with MP.autocast("mixed_float16"):
            with tj.GradientTape() as tape:
                loss = tj.reduce_sum(x @ w)
            g = tape.gradient(loss, w)
            w.assign_add(tj.ones((3, 2)) * 1e-4)
            w[1].assign_add(tj.ones((2,)) * 1e-4)
            w.assign_sub(tj.ones((3, 2)) * 1e-4)
            other.assign(w)
            other.scatter_add(tj.IndexedSlices(tj.ones((1, 2)) * 1e-4, [0]))
            optimizer.apply_gradients([(g, w)])
            ema.apply([w])
        return g

    g = (tj.function(step) if traced else step)(tj.ones((4, 3), tj.float16))
    assert g.dtype is tj.float32
    want = np.full((3, 2), fine) + np.array([[0.0], [1e-4], [0.0]], np.float32)
    np.testing.assert_allclose(other.numpy(), want + np.array([[1e-4], [0.0], [0.0]], np.float32), rtol=2e-7)
    np.testing.assert_allclose(w.numpy(), want - 4e-4, rtol=2e-7)
    np.testing.assert_array_equal(ema.average(w).numpy(), w.numpy())


def test_functions_called_in_a_scope_are_traced_for_it():
    w, x = tj.Variable(tj.ones((3, 2))), tj.ones((1, 3), tj.float16)

    class Layer:
        @tj.function
        def call(self, x):
            return x @ w

    f, layer = tj.function(lambda x: x @ w), Layer()
    for _ in range(3):
        assert (f(x).dtype.name, layer.call(x).dtype.name) == ("float32", "float32")
        with MP.autocast("mixed_float16"):
            assert (f(x).dtype.name, layer.call(x).dtype.name) == ("float16", "float16")
            with tj.GradientTape() as tape:
                y = tj.reduce_sum(f(x))
        assert tape.gradient(y, w).dtype is tj.float32
    assert f.experimental_get_tracing_count() == 1


# --- scaled losses ----------------------------------------------------------------------------------------------------
def scaler(**options):
    return MP.LossScaleOptimizer(tj.optimizers.SGD(1.0, momentum=0.5), **options)


@pytest.mark.parametrize("traced", [False, True])
def test_training_in_float16_with_an_overflow(traced):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((32, 8)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    weights = [tj.Variable(rng.standard_normal(s).astype(np.float32) * 0.3) for s in ((8, 16), (16,), (16, 2), (2,))]
    policy = MP.Policy("mixed_float16")
    optimizer = MP.LossScaleOptimizer(tj.optimizers.Adam(0.05), initial_scale=2.0**10, dynamic_growth_steps=4)

    def step(x, y):
        with tj.GradientTape() as tape:
            with policy_scope():
                w1, b1, w2, b2 = weights
                logits = tj.nn.relu(policy.cast_to_compute(x) @ w1 + b1) @ w2 + b2
            assert logits.dtype is tj.float16
            loss = tj.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tj.cast(logits, tj.float32))
            loss = tj.reduce_mean(loss)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights))
        return loss

    def policy_scope():
        return MP.autocast(policy)

    f = tj.function(step) if traced else step
    losses, scales = [], []
    for k in range(20):
        before = [v.numpy() for v in [*weights, *optimizer.inner_optimizer.variables]]
        losses.append(float(f(x * (np.float32(1e6) if k == 2 else 1), y)))
        scales.append(float(optimizer.loss_scale))
        same = [np.array_equal(v.numpy(), b) for v, b in zip([*weights, *optimizer.inner_optimizer.variables], before)]
        assert all(same) if k == 2 else not any(same[:4])
    assert scales == [2.0**10] * 2 + [2.0**9] * 4 + [2.0**10] * 4 + [2.0**11] * 4 + [2.0**12] * 4 + [2.0**13] * 2
    assert not np.isfinite(losses[2])
    assert losses[-1] < 0.3 < losses[0]
    assert int(optimizer.iterations) == 19
    assert not traced or f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_one_gradient_that_is_not_finite(bad, traced):
    a, b, optimizer = tj.Variable([1.0, 2.0]), tj.Variable(3.0), scaler(initial_scale=8.0)

    def step(g):
        optimizer.apply([g, tj.constant(8.0)], [a, b])

    f = tj.function(step) if traced else step
    f(tj.constant([bad, 1.0]))
    assert (a.numpy().tolist(), float(b), int(optimizer.iterations)) == ([1.0, 2.0], 3.0, 0)
    assert float(optimizer.dynamic_scale) == 4.0
    f(tj.constant([4.0, 4.0]))
    assert (a.numpy().tolist(), float(b), int(optimizer.iterations)) == ([0.0, 1.0], 1.0, 1)


@pytest.mark.parametrize("traced", [False, True])
def test_gradients_without_the_scale(traced):
    v, optimizer = tj.Variable([0.0, 0.0]), scaler(initial_scale=16.0)

    def step():
        with tj.GradientTape() as tape:
            scaled = optimizer.get_scaled_loss(tj.reduce_sum(v * [3.0, 4.0]))
        grads = optimizer.get_unscaled_gradients(tape.gradient(scaled, [v]))
        clipped, norm = tj.clip_by_global_norm(grads, 1.0)
        optimizer.apply_gradients(zip(clipped, [v]))
        return norm

    assert float((tj.function(step) if traced else step)()) == 5.0
    np.testing.assert_allclose(v.numpy(), [-0.6, -0.8], rtol=1e-6)


def test_the_scale_is_no_number_of_16_bits():
    optimizer = scaler(initial_scale=2.0**20)
    with MP.autocast("mixed_float16"):
        for loss in (tj.constant(1.0, tj.float16), tj.constant(1.0)):
            scaled = optimizer.scale_loss(loss)
            assert (float(scaled), scaled.dtype) == (2.0**20, tj.float32)


def test_rows_and_missing_gradients():
    table, other, optimizer = tj.Variable(tj.zeros((4, 2))), tj.Variable(1.0), scaler(initial_scale=2.0)

    @tj.function
    def step(rows):
        optimizer.apply([tj.IndexedSlices(rows, tj.constant([1, 1]), (4, 2)), None], [table, other])

    with pytest.warns(RuntimeWarning, match="no gradients"):
        step(tj.ones((2, 2)))
    step(tj.constant([[np.inf, 0.0], [0.0, 0.0]]))
    assert table.numpy()[:, 0].tolist() == [0.0, -1.0, 0.0, 0.0]
    assert float(optimizer.loss_scale) == 1.0


def test_state_of_both():
    v, optimizer = tj.Variable(1.0), scaler(initial_scale=4.0)
    optimizer.apply([tj.constant(1.0)], [v])
    optimizer.learning_rate = 0.5
    state = optimizer.get_state()
    assert set(state) == {"step_counter", "dynamic_scale", "iterations", "learning_rate", "0/momentum"}
    other, w = scaler(), tj.Variable(1.0)
    other.build([w])
    other.set_state(state)
    assert (float(other.learning_rate), float(other.loss_scale), int(other.iterations)) == (0.5, 4.0, 1)


def test_an_update_of_ones_own_is_skipped_too():
    outside = tj.Variable(0.0)

    class Own(tj.optimizers.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            outside.assign_add(1.0)
            variable.assign_sub(gradient)

    v, optimizer = tj.Variable(0.0), MP.LossScaleOptimizer(Own(0.1), initial_scale=1.0)
    step = tj.function(lambda g: optimizer.apply([g], [v]))
    for g in (1.0, np.inf, 1.0):
        step(tj.constant(g))
    assert (float(v), float(outside)) == (-3.0, 2.0)  # the third gradient is divided by ½


def test_wrong_scalers():
    for make in (lambda: scaler(dynamic=False), lambda: scaler(initial_scale=0.0), lambda: MP.LossScaleOptimizer(3),
                 lambda: MP.LossScaleOptimizer(scaler()), lambda: scaler(dynamic_growth_steps=0)):  # fmt: skip
        with pytest.raises(ArgumentError):
            make()


# --- sums of 16-bit numbers -------------------------------------------------------------------------------------------
N = 4096
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def numbers(*shape):
    return lambda rng, d: tj.constant(rng.uniform(0.5, 1.0, shape) / 64, d)


def spread(*shape):
    return lambda rng, d: tj.constant(rng.standard_normal(shape) * 2 + 3, d)


# function, operands, how far off in units of the last place of 16 bits
ACCUMULATED = {
    "product": (lambda a, b: a @ b, [numbers(8, N), numbers(N, 8)], 1),
    "transposed product": (lambda a, b: tj.matmul(a, b, transpose_b=True), [numbers(8, N), numbers(8, N)], 1),
    "batch of products": (lambda a, b: a @ b, [numbers(3, 8, N), numbers(3, N, 8)], 1),
    "matrix and vector": (tj.linalg.matvec, [numbers(8, N), numbers(N)], 1),
    "tensordot": (lambda a, b: tj.tensordot(a, b, 1), [numbers(8, N), numbers(N, 8)], 1),
    "einsum": (lambda a, b: tj.einsum("ij,kj->ik", a, b), [numbers(8, N), numbers(8, N)], 1),
    "convolution": (lambda a, b: tj.nn.conv2d(a, b, 1, "VALID"), [numbers(2, 9, 9, 64), numbers(5, 5, 64, 8)], 1),
    "1-d convolution": (lambda a, b: tj.nn.conv1d(a, b, 1, "SAME"), [numbers(2, 50, 64), numbers(5, 64, 8)], 1),
    "depthwise convolution": (
        lambda a, b: tj.nn.depthwise_conv2d(a, b, [1] * 4, "VALID"), [numbers(2, 35, 35, 3), numbers(31, 31, 3, 1)], 1
    ),
    "pooling": (lambda a: tj.nn.avg_pool2d(a, 16, 16, "VALID"), [numbers(2, 32, 32, 4)], 1),
    "mean": (lambda a: tj.reduce_mean(a, 1), [numbers(4, N)], 1),
    "mean over rows": (lambda a: tj.reduce_mean(a, 0), [numbers(N, 4)], 1),
    "variance": (lambda a: tj.math.reduce_variance(a, 1), [spread(4, N)], 2),
    "moments": (lambda a: tj.stack(tj.nn.moments(a, [1])), [spread(4, N)], 2),
    "norm": (lambda a: tj.norm(a, axis=1), [numbers(4, N)], 2),
    "softmax": (lambda a: tj.nn.softmax(a), [spread(4, N)], 8),
    "log softmax": (lambda a: tj.nn.log_softmax(a), [spread(4, N)], 3),
    "layer normalisation": (lambda a: tj.nn.layer_normalization(a), [spread(4, N)], 8),
}  # fmt: skip


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", ACCUMULATED)
def test_sums_are_kept_in_float32(name, dtype):
    f, makers, places = ACCUMULATED[name]
    rng = np.random.default_rng(0)
    args = [make(rng, dtype) for make in makers]
    want = np.asarray(f(*[tj.cast(a, tj.float64) for a in args]))
    size = np.maximum(np.abs(want), 1.0) if name == "layer normalisation" else np.maximum(np.abs(want), 2.0**-14)
    for g in (f, tj.function(f)):
        y = g(*args)
        assert y.dtype.name == dtype
        assert np.max(np.abs(np.asarray(y).astype(np.float64) - want) / size) <= places * EPS[dtype]


# --- scopes and control flow ----------------------------------------------------------------------------------------
def test_variables_that_branches_and_loops_read():
    x, w = tj.ones([4, 8]), tj.Variable(tj.ones([8, 3]))

    def branch():
        if tj.reduce_sum(x) > 0:
            y = x @ w
        else:
            y = -(x @ w)
        return y

    ways = {
        "cond": lambda: tj.cond(tj.reduce_sum(x) > 0, lambda: x @ w, lambda: x @ w),
        "if": branch,
        "map": lambda: tj.map_fn(lambda t: tj.linalg.matvec(w, t, transpose_a=True), x, fn_output_signature=tj.float16),
        "while": lambda: tj.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y + x @ w), (0, x @ w))[1],
    }
    with MP.autocast("float16"):
        for name, f in ways.items():
            for g in (f, tj.function(f)):
                y = g()
                assert y.dtype == tj.float16 and y.shape == (4, 3), name
                np.testing.assert_array_equal(y.numpy(), np.full((4, 3), 24.0 if name == "while" else 8.0))


def test_scopes_hold_where_a_function_runs_as_plain_python():
    x, w = tj.ones([4, 8]), tj.Variable(tj.ones([8, 3]))

    def f():
        w.numpy().sum()
        return x @ w

    with MP.autocast("float16"), pytest.warns(ConversionWarning):
        assert f().dtype == tj.function(f)().dtype == tj.float16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_attention_has_wide_scores_and_sums(dtype):
    q = tj.cast(tj.fill([1, 1, 4, 64], 60.0), dtype)
    v = tj.cast(tj.fill([1, 1, 3000, 8], 60.0), dtype)
    k = tj.cast(tj.fill([1, 1, 3000, 64], 60.0), dtype)
    for f in (tj.nn.scaled_dot_product_attention, tj.function(tj.nn.scaled_dot_product_attention)):
        y = f(q, k, v)
        assert y.dtype.name == dtype
        np.testing.assert_allclose(tj.cast(y, tj.float32).numpy(), 60.0)
