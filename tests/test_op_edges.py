"""Operations at their edges: gradients beside NaN, complex gradients, weak numbers, containers, scatters."""

import collections

import numpy as np
import pytest
import scipy.special as sp

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError
from tracejit.ops.gauss import normal64, quantile64


def forms(f):
    """The function eagerly, traced, and traced with the tape around it where it returns a scalar to differentiate."""
    return f, tj.function(f)


# --- gradients through `where` ------------------------------------------------------------------------------------
X, Y = [1.0, np.nan, 3.0], [2.0, 5.0, np.nan]


def masked_loss(w, x, y):
    ok = tj.math.is_finite(x) & tj.math.is_finite(y)
    return tj.reduce_sum(tj.where(ok, (y - w * x) ** 2, 0.0))


def test_where_hides_nan_from_gradients_inside_and_around_traces():
    w, x, y = tj.Variable(2.0), tj.constant(X), tj.constant(Y)

    def inside(x, y):
        with tj.GradientTape() as tape:
            loss = masked_loss(w, x, y)
        return tape.gradient(loss, w)

    for f in forms(inside):
        assert f(x, y).numpy() == 0.0
    for f in forms(lambda x, y: masked_loss(w, x, y)):
        with tj.GradientTape() as tape:
            loss = f(x, y)
        assert tape.gradient(loss, w).numpy() == 0.0


@pytest.mark.parametrize("source", ["variable", "constant", "capture", "array"])
def test_where_hides_what_comes_from_outside(source):
    bad = np.array([1.0, np.inf, 2.0], np.float32)
    v = tj.Variable(bad) if source == "variable" else tj.constant(np.tile(bad, 10)) if source == "capture" else bad
    ok = np.isfinite(bad if source != "capture" else np.tile(bad, 10))
    w = tj.Variable(3.0)

    def f():
        with tj.GradientTape() as tape:
            t = tj.constant([1.0, float("inf"), 2.0]) if source == "constant" else v
            loss = tj.reduce_sum(tj.where(ok, tj.tanh(t) * t * w, 0.0))
        return tape.gradient(loss, w)

    eager, traced = (g().numpy() for g in forms(f))
    assert np.isfinite(eager)
    np.testing.assert_allclose(traced, eager, rtol=1e-6)


def test_masked_scores():
    keep = tj.constant([[True, True, False], [True, False, False]])
    s = tj.constant([[1.0, 2.0, 3.0], [-1.0, np.inf, 2.0]])

    def f(s):
        with tj.GradientTape() as tape:
            tape.watch(s)
            p = tj.nn.softmax(tj.where(keep, s * 0.5, float("-inf")))
            loss = tj.reduce_sum(p * p)
        return tape.gradient(loss, s)

    eager, traced = (g(s).numpy() for g in forms(f))
    assert np.isfinite(eager).all()
    np.testing.assert_allclose(traced, eager, rtol=1e-5, atol=1e-7)


def test_no_selection_where_partials_are_finite():
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            loss = tj.reduce_sum(tj.where(x > 0, x * 2.0, 0.0) + tj.nn.relu(x))
        return tape.gradient(loss, x)

    assert "multiply_no_nan" not in str(tj.function(f).graph(tj.ones(3)))


# --- complex gradients --------------------------------------------------------------------------------------------
def complex_gradient(op):
    def f(c):
        with tj.GradientTape() as tape:
            tape.watch(c)
            y = tj.math.real(tj.reduce_sum(op(c)))
        return tape.gradient(y, c)

    return f


C = np.array([[1 + 2j, 0.5j], [1j, 2.0 - 1j]])
M = np.array([[1j, 2.0], [0.5 - 1j, 3j]])


@pytest.mark.parametrize(
    ("op", "same"),
    [
        (lambda c: c @ M, lambda c: tj.reduce_sum(c[:, :, None] * M, 1)),
        (lambda c: M @ c, lambda c: tj.reduce_sum(M[:, :, None] * c, 1)),
        (lambda c: tj.matmul(c, M, transpose_a=True), lambda c: tj.reduce_sum(c[:, :, None] * M[:, None, :], 0)),
        (lambda c: tj.matmul(M, c, transpose_b=True), lambda c: tj.reduce_sum(M[:, None, :] * c, 2)),
        (lambda c: tj.tensordot(c, M, 1), lambda c: tj.reduce_sum(c[:, :, None] * M, 1)),
        (lambda c: tj.einsum("ij,jk->ik", c, M), lambda c: tj.reduce_sum(c[:, :, None] * M, 1)),
        (lambda c: tj.reduce_prod(c, 1), lambda c: c[:, 0] * c[:, 1]),
        (lambda c: tj.math.cumprod(c, 1), lambda c: tj.stack([c[:, 0], c[:, 0] * c[:, 1]], 1)),
    ],
)
def test_complex_gradients_agree_with_elementwise_ones(op, same):
    c = tj.constant(C)
    want = complex_gradient(same)(c).numpy()
    for f in forms(complex_gradient(op)):
        np.testing.assert_allclose(f(c).numpy(), want, rtol=1e-12)


def test_the_convention_is_tensorflows():
    f = complex_gradient(lambda c: c @ np.diag([1j, 1j]))
    np.testing.assert_array_equal(f(tj.constant(C)).numpy(), np.full((2, 2), -1j))


@pytest.mark.parametrize("f", [tj.floor, tj.math.erf])
def test_functions_of_reals_refuse_complex_numbers(f):
    for g in forms(f):
        with pytest.raises(tj.errors.DTypeError):
            g(tj.constant(C))


# --- weak numbers -------------------------------------------------------------------------------------------------
WEAK = [
    lambda x: tj.math.divide_no_nan(x, 2),
    lambda x: tj.math.xdivy(x, 2),
    lambda x: tj.math.xlogy(2, x),
    lambda x: tj.math.xlog1py(2.0, x),
    lambda x: tj.stack([x[0], 0]),
    lambda x: tj.stack([1.5, x[0]]),
    lambda x: tj.concat([x, [0]], 0),
    lambda x: tj.constant([x[0], 0]),
    lambda x: tj.constant([[x[0], 0], [1, 2.5]]),
    lambda x: x * [1, 2],
    lambda x: [1.5, 2] + x,
    lambda x: tj.where(x > 0, [1, 2], x),
]


@pytest.mark.parametrize("dtype", [tj.float16, tj.bfloat16, tj.float32, tj.float64])
@pytest.mark.parametrize("f", WEAK)
def test_python_numbers_give_way(f, dtype):
    x = tj.constant([2.0, 3.0], dtype)
    for g in forms(f):
        assert g(x).dtype is dtype


def test_lists_of_large_integers_keep_int64():
    assert tj.add([2**40], [1]).dtype is tj.int64
    assert tj.add([1, 2], [0.5, 1]).dtype is tj.float32


def test_an_input_number_in_a_list_gives_way():
    f = tj.function(lambda x, n: tj.stack([x[0], n]))
    assert f(tj.ones(1, tj.float16), 2.0).dtype is tj.float16


# --- scatters -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_scatter_nd_refuses_updates_of_another_shape(shape):
    for f in forms(lambda u: tj.scatter_nd([[0], [1]], u, [3])):
        with pytest.raises(tj.errors.ShapeError):
            f(tj.ones(shape))


@pytest.mark.parametrize("ids", [[0, 1, -1], [-1, -2, -3], [1, 1, 0]])
def test_segments_with_negative_numbers_are_left_out(ids):
    x = np.array([[1.0, 2.0], [3.0, 4.0], [np.inf, np.nan]], np.float32)
    x = x if -1 == ids[-1] or ids[0] < 0 else np.nan_to_num(x, posinf=1.0)
    want = np.zeros((2, 2), np.float32)
    for i, row in zip(ids, x):
        if i >= 0:
            want[i] += row

    def f(x, ids):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.math.unsorted_segment_sum(x, ids, 2)
            loss = tj.reduce_sum(y)
        return y, tape.gradient(loss, x)

    for g in forms(f):
        y, grad = g(tj.constant(x), tj.constant(ids))
        np.testing.assert_array_equal(y.numpy(), want)
        np.testing.assert_array_equal(grad.numpy(), np.repeat([[float(i >= 0)] for i in ids], 2, 1))


def test_segment_numbers_beyond_the_last_are_refused():
    for f in forms(lambda i: tj.math.unsorted_segment_sum(tj.ones(3), i, 2)):
        with pytest.raises(tj.errors.OutOfRangeError):
            f(tj.constant([0, 1, 2]))


# --- containers ---------------------------------------------------------------------------------------------------
def test_containers_come_back_as_they_were():
    x = tj.ones(2)
    same = tj.function(lambda d: d)
    d = same(collections.defaultdict(list, b=x, a=x))
    assert d.default_factory is list and list(d) == ["b", "a"]
    assert same(collections.defaultdict(int, b=x, a=x)).default_factory is int
    assert same(collections.Counter("aab")) == collections.Counter(a=2, b=1)
    assert list(same(collections.OrderedDict(b=x, a=x))) == ["b", "a"]
    made = tj.function(lambda x: {"z": x, "a": x + 1, "m": {"q": x, "b": x}})
    for _ in range(3):
        r = made(x)
        assert list(r) == ["z", "a", "m"] and list(r["m"]) == ["q", "b"]
        np.testing.assert_array_equal(r["a"].numpy(), [2, 2])


def test_dicts_in_any_order():
    """What goes through a dict sees the order, so each order is a kind of argument of its own."""
    f = tj.function(lambda d: d["b"] - d["a"])
    x = tj.ones(2)
    for d in ({"b": x, "a": x * 3}, {"a": x * 3, "b": x}):
        np.testing.assert_array_equal(f(d).numpy(), [-2, -2])
    assert f.experimental_get_tracing_count() == 2


# --- what simplification removes ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "f",
    [lambda v: v**0, lambda v: tj.math.multiply_no_nan(v, 0.0), lambda v: v * 0.0, lambda v: (v**0) * v**0],
)
def test_gradients_of_removed_paths_are_zero(f):
    v = tj.Variable([3.0, 4.0])
    for g in forms(lambda: f(v)):
        with tj.GradientTape() as tape:
            y = g()
        np.testing.assert_array_equal(tape.gradient(y, v).numpy(), [0.0, 0.0])


def test_gradients_that_were_never_there_stay_absent():
    v, w = tj.Variable(3.0), tj.Variable(2.0)
    for g in forms(lambda: (tj.stop_gradient(v) + v**0 * 0.0 * w) * w):
        with tj.GradientTape() as tape:
            y = g()
        assert tape.gradient(y, v) is not None
    for g in forms(lambda: tj.stop_gradient(v) * w**0):
        with tj.GradientTape(persistent=True) as tape:
            y = g()
        assert tape.gradient(y, v) is None and tape.gradient(y, w).numpy() == 0.0


# --- assigned slices ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", [slice(0, 2), slice(None), 1])
def test_assigned_slices_broadcast_in_the_interpreter(key, monkeypatch):
    monkeypatch.setattr(tj.config, "check", True)
    v, w = tj.Variable([1.0, 2.0, 3.0]), tj.Variable(2.0)

    def f():
        v[key].assign(w * 2.0)
        return tj.reduce_sum(v * v)

    grads = []
    for g in forms(f):
        v.assign([1.0, 2.0, 3.0])
        with tj.GradientTape() as tape:
            y = g()
        grads.append(np.asarray(tape.gradient(y, v)))
    np.testing.assert_array_equal(*grads)


# --- random numbers in float64 ------------------------------------------------------------------------------------
@pytest.mark.parametrize("draw", [tj.random.normal, tj.random.truncated_normal])
def test_float64_draws_have_the_same_bits_everywhere(draw):
    def drawn(f):
        tj.random.set_seed(7)
        return f().numpy()

    eager, traced = (drawn(g) for g in forms(lambda: draw((20001,), dtype=tj.float64)))
    np.testing.assert_array_equal(eager, traced)
    assert np.isfinite(eager).all() and abs(eager.mean()) < 0.03


def test_formulas_of_random_numbers():
    rng = np.random.default_rng(0)
    u = np.maximum(rng.random(20000) ** 8, 2.0**-54)
    u[:3] = 1.0, 2.0**-54, 0.5
    t = rng.uniform(-0.25, 1, u.size)
    t[:5] = -0.25, 0.0, 0.25, 0.5, 0.75
    want = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * t)
    for g in forms(normal64):
        np.testing.assert_allclose(g(tj.constant(u), tj.constant(t)).numpy(), want, rtol=0, atol=2e-14)
    x = np.append(rng.uniform(-0.9545, 0.9545, 20000), [0.0, 1e-300, -1e-10])
    for g in forms(quantile64):
        np.testing.assert_allclose(g(tj.constant(x)).numpy(), sp.erfinv(x), rtol=2e-15)


@pytest.mark.parametrize("scatter", [tj.tensor_scatter_nd_update, tj.tensor_scatter_nd_add])
def test_scattered_tensors_keep_their_precision(scatter):
    x = tj.zeros((3,))
    for run in (lambda f: f, tj.function):
        with pytest.raises(DTypeError, match="lose precision"):
            run(lambda u: scatter(x, [[0]], u))(tj.constant([1e300], tj.float64))
        assert run(lambda u: scatter(x, [[0]], u))(tj.constant([3], tj.int8)).numpy().tolist() == [3, 0, 0]


def test_strings_and_steps_of_zero_are_refused_by_our_errors():
    with pytest.raises(DTypeError, match="an array of <U1"):
        tj.Variable(tj.ones(3)).assign(np.array(["a"] * 3))
    with pytest.raises(ArgumentError, match="step"):
        tj.ones((2, 3))[:, ::0]
