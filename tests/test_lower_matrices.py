"""Systems of equations and factors in native code: backward errors, layouts, batches, threads, what LAPACK decides."""

import numpy as np
import pytest
import scipy.linalg as sl

import tracejit as tj
from tracejit.ir.op import OPS
from tracejit.lower import matrixunits
from tracejit.lower.matrixunits import MATRICES

L = tj.linalg
T = L.matrix_transpose
RNG = np.random.default_rng(11)
SIZES = [1, 2, 3, 8, 9, 16, 17, 31, 33, 65, 130]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
SPREAD = {"float32": 1e4, "float64": 1e12}


@pytest.fixture
def alone(monkeypatch):
    """NumPy's kernels are not called: what is computed is computed natively."""

    def called(*args, **attrs):
        raise AssertionError("the host was asked")

    for name in MATRICES:
        monkeypatch.setattr(OPS[name], "numpy", called)


def normal(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


def spread(n, condition, dtype, lead=()):
    """Matrices whose singular values go from 1 to 1/condition."""
    u, v = (np.linalg.qr(RNG.normal(size=(*lead, n, n)))[0] for _ in range(2))
    s = np.logspace(0, -np.log10(condition), n) if n > 1 else np.ones(1)
    return ((u * s) @ v).astype(dtype)


def definite(n, condition, dtype, lead=()):
    u = np.linalg.qr(RNG.normal(size=(*lead, n, n)))[0]
    s = np.logspace(0, -np.log10(condition), n) if n > 1 else np.ones(1)
    a = (u * s) @ np.swapaxes(u, -1, -2)
    return ((a + np.swapaxes(a, -1, -2)) / 2).astype(dtype)


def size_of(x):
    return np.sqrt(np.sum(np.square(x, dtype=float), (-2, -1)))


def small(residual, dtype, n, *scales):
    """Whether a residual is one of rounding: the backward error of a stable algorithm."""
    bound = np.prod([size_of(s) for s in scales], 0)
    assert (size_of(residual) <= 4 * np.sqrt(n) * np.finfo(dtype).eps * bound).all()


# --- backward errors --------------------------------------------------------------------------------------------------
@DTYPES
@pytest.mark.parametrize("ill", [False, True], ids=["well", "ill"])
def test_systems_have_small_backward_errors(alone, dtype, ill):
    f, g = tj.function(L.solve), tj.function(L.inv)
    for n in SIZES:
        for lead in ((), (3,)):
            a = spread(n, SPREAD[dtype] if ill else 10, dtype, lead)
            wide = a.astype(float)
            for k in (1, 17, 140):
                b = normal(*lead, n, k, dtype=dtype)
                x = f(a, b).numpy()
                assert x.dtype == dtype
                small(wide @ x - b, dtype, n, a, x)
            x = g(a).numpy()
            small(wide @ x - np.eye(n), dtype, n, a, x)


@DTYPES
@pytest.mark.parametrize("ill", [False, True], ids=["well", "ill"])
def test_factors_have_small_backward_errors(alone, dtype, ill):
    f, g = tj.function(L.cholesky), tj.function(L.lu)
    for n in SIZES:
        for lead in ((), (3,)):
            a = definite(n, SPREAD[dtype] if ill else 10, dtype, lead)
            c = f(a).numpy().astype(float)
            small(c @ np.swapaxes(c, -1, -2) - a, dtype, n, a)
            np.testing.assert_array_equal(np.triu(c, 1), 0)
            a = spread(n, SPREAD[dtype] if ill else 10, dtype, lead)
            factors, order = (y.numpy() for y in g(a))
            assert order.dtype == np.int32
            low, high = np.tril(factors.astype(float), -1) + np.eye(n), np.triu(factors.astype(float))
            assert np.max(np.abs(low)) <= 1
            small(low @ high - np.take_along_axis(a.astype(float), order[..., None], -2), dtype, n, low, high)


@DTYPES
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_triangles_have_small_backward_errors_in_each_row(alone, dtype, lower, adjoint):
    f = tj.function(lambda a, b: L.triangular_solve(a, b, lower, adjoint))
    for n in SIZES:
        for lead in ((), (3,)):
            # rows of very different sizes
            a = (normal(*lead, n, n) / np.sqrt(n) + 2 * np.eye(n)) * np.logspace(6, -6, n)[:, None]
            a = a.astype(dtype)
            t = (np.tril if lower else np.triu)(a).astype(float)
            t = np.swapaxes(t, -1, -2) if adjoint else t
            unread = np.where(np.tri(n, dtype=bool) if lower else np.tri(n, dtype=bool).T, a, np.nan)
            for k in (1, 17, 140):
                b = normal(*lead, n, k, dtype=dtype)
                x = f(unread.astype(dtype), b).numpy().astype(float)
                bound = np.abs(t) @ np.abs(x)
                assert (np.abs(t @ x - b) <= 2 * n * np.finfo(dtype).eps * bound).all()


@DTYPES
def test_determinants(alone, dtype):
    f, g = tj.function(L.det), tj.function(L.slogdet)
    tol = 1e-4 if dtype == "float32" else 1e-12
    for n in SIZES[:-2]:
        for lead in ((), (3,), (2, 2)):
            a = normal(*lead, n, n, dtype=dtype)
            a = a / np.asarray(np.abs(sl.det(a.astype(float))) ** (1 / n)).astype(dtype)[..., None, None]
            want, log = np.linalg.slogdet(a.astype(float))
            np.testing.assert_allclose(f(a), np.linalg.det(a.astype(float)), rtol=n * tol)
            sign, size = g(a)
            assert sign.dtype == size.dtype == dtype
            np.testing.assert_array_equal(sign, want)
            np.testing.assert_allclose(size, log, atol=n * tol)


def test_determinants_of_any_size(alone):
    f, g = tj.function(L.det), tj.function(L.slogdet)
    for diagonal, want in (
        ([1e200, 1e200, 1e-300], 1e100), ([1e-200, 1e-200, 1e300], 1e-100), ([1e200, -1e200], -np.inf),
        ([1e-200, -1e-200], -0.0), ([-3.0], -3.0), ([2.0, -3.0, -0.5], 3.0), ([1e-160, 1e-160], 1e-320),
    ):  # fmt: skip
        # of one size within each matrix of the batch, as far as elimination can see
        a = np.diag(diagonal) if np.ptp(np.log10(np.abs(diagonal))) < 10 else None
        if a is not None:
            np.testing.assert_allclose(f(a), want, rtol=1e-10)
            sign, log = g(a)
            assert sign == np.sign(np.prod(np.sign(diagonal)))
            np.testing.assert_allclose(log, np.sum(np.log(np.abs(diagonal))), rtol=1e-13)
    a = normal(40, 40) * 1e30
    np.testing.assert_allclose(g(a)[1], np.linalg.slogdet(a)[1], rtol=1e-14)
    single = tj.function(L.det)
    assert single((10.0 * np.eye(50)).astype(np.float32)) == np.inf


# --- where matrices lie -----------------------------------------------------------------------------------------------
VIEWS = {
    "transposed": (lambda x: np.ascontiguousarray(np.swapaxes(x, -1, -2)), T),
    "every other": (lambda x: np.repeat(np.repeat(x, 2, -1), 3, -2), lambda x: x[..., ::3, ::2]),
    "backwards": (lambda x: np.ascontiguousarray(x[..., ::-1, ::-1]), lambda x: x[..., ::-1, ::-1]),
    "part": (lambda x: np.pad(x, [(1, 0)] * x.ndim), lambda x: x[1:, 1:] if x.ndim == 2 else x[1:, 1:, 1:]),
    "batch last": (lambda x: np.ascontiguousarray(np.moveaxis(x, 0, -1)), lambda x: tj.transpose(x, [2, 0, 1])),
}
FUNCTIONS = {
    "cholesky": L.cholesky, "inv": L.inv, "det": L.det, "slogdet": L.slogdet, "lu": L.lu,
    "solve": lambda a: L.solve(a, a[..., :5] + 1), "triangular": lambda a: L.triangular_solve(a, a[..., :5] + 1),
    "upper": lambda a: L.triangular_solve(a, a, lower=False), "transposed": lambda a: L.solve(a, a, adjoint=True),
}  # fmt: skip


def flat(y):
    return [np.asarray(x) for x in (y if isinstance(y, tuple) else (y,))]


@DTYPES
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_matrices_lie_anywhere(alone, name, view, dtype):
    lay, read = VIEWS[view]
    f, plain = tj.function(lambda x: FUNCTIONS[name](read(x))), tj.function(FUNCTIONS[name])
    for n in (3, 20):
        for lead in ((), (3,)):
            if view == "batch last" and not lead:
                continue
            a = definite(n, 10, dtype, lead)
            for got, want in zip(flat(f(lay(a))), flat(plain(a)), strict=True):
                np.testing.assert_array_equal(got, want)


BATCHES = [((4, 1), (5,)), ((1,), (6,)), ((), (2, 3)), ((2, 3), ()), ((2, 1), (1, 3)), ((2, 3), (3,))]


@pytest.mark.parametrize(("left", "right"), BATCHES, ids=str)
def test_batches_are_broadcast(alone, left, right):
    a, b = definite(9, 10, "float64", left), normal(*right, 9, 2)
    want = np.linalg.solve(a, b)
    np.testing.assert_allclose(tj.function(L.solve)(a, b), want, atol=1e-12)
    t = np.tril(a)
    want = np.linalg.solve(t, b)
    np.testing.assert_allclose(tj.function(L.triangular_solve)(a, b), want, atol=1e-12)


def test_batches_with_gaps(alone):
    a, b = definite(9, 10, "float64", (4, 5)), normal(2, 2, 9, 2)
    picked = tj.function(lambda a, b: (L.solve(a[::2, 1:4:2], b), L.cholesky(a[1:, ::3]), L.det(a[:, :2])))
    x, c, d = picked(a, b)
    np.testing.assert_allclose(x, np.linalg.solve(a[::2, 1:4:2], b), atol=1e-12)
    np.testing.assert_allclose(c, np.linalg.cholesky(a[1:, ::3]), atol=1e-12)
    np.testing.assert_allclose(d, np.linalg.det(a[:, :2]), atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_depend_neither_on_threads_nor_on_neighbours(name):
    had, results = tj.get_threads(), []
    a = definite(40, 10, "float32", (30,))
    try:
        for threads in (1, 2, 3):
            tj.set_threads(threads)
            f = tj.function(FUNCTIONS[name])
            results.append(flat(f(a)))
            results.append([np.stack(x) for x in zip(*[flat(f(m)) for m in a], strict=True)])
    finally:
        tj.set_threads(had)
    for r in results[1:]:
        for x, y in zip(r, results[0], strict=True):
            np.testing.assert_array_equal(x, y)


@DTYPES
def test_threads_share_the_right_sides_of_one_matrix(alone, dtype, monkeypatch):
    monkeypatch.setattr(matrixunits, "LARGE", 50)
    had, results = tj.get_threads(), []
    a, b = spread(70, 10, dtype), normal(70, 300, dtype=dtype)
    try:
        for threads in (1, 2, 3):
            tj.set_threads(threads)
            f = tj.function(lambda a, b: (L.solve(a, b), L.inv(tj.tile(a, [3, 3]) + tj.eye(210, dtype=a.dtype))))
            results.append(flat(f(a, b)))
    finally:
        tj.set_threads(had)
    for r in results[1:]:
        for x, y in zip(r, results[0], strict=True):
            np.testing.assert_array_equal(x, y)
    small(a.astype(float) @ results[0][0] - b, dtype, 70, a, results[0][0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sizes_that_are_not_known(name):
    spec = tj.TensorSpec((None, None, None), tj.float64)
    f = tj.function(FUNCTIONS[name], input_signature=[spec])
    for lead, n in ((2, 3), (0, 3), (1, 1), (5, 33), (2, 5), (3, 0), (0, 0), (1, 100)):
        a = definite(n, 10, "float64", (lead,)) if n and lead else np.zeros((lead, n, n))
        for got, want in zip(flat(f(a)), flat(FUNCTIONS[name](tj.constant(a))), strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


# --- what is left to LAPACK -------------------------------------------------------------------------------------------
NAN, INF = np.nan, np.inf
DOUBTFUL = [
    [[1.0, 1], [3, 3]], [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], [[1e-310, 0], [0, 1e-310]], np.diag([1.0, 1e-20]),
    [[0.0, 1], [1, 0]], [[NAN, 1], [1, 2]], [[INF, 1], [1, 2]], [[1, INF], [0, 1]], [[1, NAN], [0.5, 1]],
    np.zeros((3, 3)), np.ones((5, 5)), [[0.0]], [[-1.0]], [[NAN]], [[INF]], [[5e-324]], [[1.0, 2], [2, 4]],
    [[4.0, 2], [2, 1]], [[4.0, 2], [2, 1.0000000000000002]], np.outer(np.arange(1.0, 7), np.arange(1.0, 7)),
    np.diag([1e200, 1e200, 1e-300]), np.diag([1e-200, 1e-200, 1e300]), [[2.0, 1], [1, -3]],
]  # fmt: skip
WITH_ONES = {
    "solve": lambda a: L.solve(a, tj.ones((a.shape[-1], 1), a.dtype)),
    "solve for infinity": lambda a: L.solve(a, np.inf * tj.ones((a.shape[-1], 1), a.dtype)),
    "lower": lambda a: L.triangular_solve(a, tj.ones((a.shape[-1], 1), a.dtype)),
    "upper": lambda a: L.triangular_solve(a, tj.ones((a.shape[-1], 1), a.dtype), lower=False, adjoint=True),
    "logdet": L.logdet, **{k: FUNCTIONS[k] for k in ("cholesky", "inv", "det", "slogdet", "lu")},
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", WITH_ONES)
def test_what_rounding_decides_is_decided_as_eagerly(name, dtype):
    """The same errors in the same words, and the same NaNs and infinities, alone and among others."""
    f, traced = WITH_ONES[name], tj.function(WITH_ONES[name])
    for given in DOUBTFUL:
        with np.errstate(over="ignore"):
            a = np.array(given).astype(dtype)
        for x in (tj.constant(a), tj.constant(np.stack([np.eye(len(a), dtype=dtype), a]))):
            try:
                want = flat(f(x))
            except tj.errors.ArgumentError as e:
                with pytest.raises(tj.errors.ArgumentError) as caught:
                    traced(x)
                said = str(e).partition(": ")[2].splitlines()[0]
                assert said.rpartition(": ")[2] in str(caught.value)
                continue
            for got, w in zip(flat(traced(x)), want, strict=True):
                np.testing.assert_allclose(got, w, rtol=1e-4 if dtype == "float32" else 1e-12)


def test_variables_keep_their_values_where_it_raises():
    v = tj.Variable(np.eye(3))

    @tj.function
    def f(x):
        v.assign(L.cholesky(x))
        return v + 0

    a = definite(3, 10, "float64")
    c = np.linalg.cholesky(a)
    np.testing.assert_allclose(f(a), c, atol=1e-14)
    with pytest.raises(tj.errors.ArgumentError, match="not positive definite"):
        f(-a)
    np.testing.assert_allclose(v, c, atol=1e-14)


@pytest.mark.parametrize("most", [199, 200])
def test_large_matrices(most, monkeypatch):
    """Of more rows than native code takes, and of as many."""
    monkeypatch.setattr(matrixunits, "MOST", most)
    called = []
    for name in ("solve", "cholesky", "slogdet"):
        k = OPS[name].numpy
        monkeypatch.setattr(OPS[name], "numpy", lambda *xs, k=k, name=name: called.append(name) or k(*xs))
    a, b = definite(200, 10, "float32"), normal(200, 100, dtype="float32")
    wide = a.astype(float)
    x = tj.function(L.solve)(a, b).numpy()
    small(wide @ x - b, "float32", 200, a, x)
    c = tj.function(L.cholesky)(a).numpy().astype(float)
    small(c @ c.T - a, "float32", 200, a)
    np.testing.assert_allclose(tj.function(lambda x: L.slogdet(x)[1])(a), np.linalg.slogdet(wide)[1], rtol=1e-5)
    assert called == (["solve", "cholesky", "slogdet"] if most < 200 else [])


# --- in programs ------------------------------------------------------------------------------------------------------
def test_loops_and_branches(alone):
    a, b = definite(6, 10, "float64"), normal(6, 1)

    @tj.function
    def f(a, b, n):
        for i in tj.range(n):
            if i % 2 == 0:
                b = L.solve(a, b)
            else:
                b = L.triangular_solve(a, b, adjoint=True)
        return b

    want = b
    for i in range(5):
        want = np.linalg.solve(np.tril(a).T if i % 2 else a, want)
    np.testing.assert_allclose(f(a, b, tj.constant(5)), want, rtol=1e-10)


def test_sizes_that_the_program_finds_out(alone):
    a, keep = definite(9, 10, "float64"), np.array([1, 0, 1, 1, 0, 1, 1, 0, 1], bool)

    @tj.function
    def f(a, keep):
        part = tj.boolean_mask(tj.boolean_mask(a, keep), keep, axis=1)
        return L.cholesky(part), L.det(part)

    for k in (keep, ~keep):
        c, d = f(a, k)
        part = a[k][:, k]
        np.testing.assert_allclose(c, np.linalg.cholesky(part), atol=1e-13)
        np.testing.assert_allclose(d, np.linalg.det(part), atol=1e-13)


def test_gradients(alone):
    a, b = definite(12, 10, "float64", (4,)), normal(4, 12, 2)

    @tj.function
    def f(a, b):
        with tj.GradientTape() as tape:
            tape.watch([a, b])
            s = (a + T(a)) / 2
            y = tj.reduce_sum(L.cholesky_solve(L.cholesky(s), b) ** 2) + tj.reduce_sum(L.slogdet(a)[1])
        return tape.gradient(y, [a, b])

    x = np.linalg.solve(a, b)
    back = np.linalg.solve(a, 2 * x)
    ga, gb = f(a, b)
    np.testing.assert_allclose(gb, back, rtol=1e-9, atol=1e-9)
    cross = -back @ np.swapaxes(x, -1, -2)
    want = (cross + np.swapaxes(cross, -1, -2)) / 2 + np.linalg.inv(a)
    np.testing.assert_allclose(ga, want, rtol=1e-9, atol=1e-9)
