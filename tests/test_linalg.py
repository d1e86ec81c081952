"""Matrices: identities of factors, functions, and what cannot be done."""

import numpy as np
import pytest
import scipy.linalg as sl
from matrices import definite, h, normal, slopes, weighed

import tracejit as tj

L = tj.linalg
WAYS = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


# --- identities -------------------------------------------------------------------------------------------------------
SHAPES = [(3, 3), (5, 2), (2, 5), (1, 1), (2, 3, 4, 3), (0, 3, 3), (3, 0), (0, 3), (0, 0), (2, 0, 0)]


@WAYS
@pytest.mark.parametrize("kind", ["f", "c"])
@pytest.mark.parametrize("full", [False, True])
def test_factors_make_the_matrix(wrap, kind, full):
    for shape in SHAPES:
        x = normal(*shape, kind=kind)
        m, n = shape[-2:]
        q, r = [y.numpy() for y in wrap(lambda t: L.qr(t, full))(tj.constant(x))]
        k = m if full else min(m, n)
        assert q.shape == (*shape[:-1], k)
        assert r.shape == (*shape[:-2], k, n)
        np.testing.assert_allclose(q @ r, x, atol=1e-12)
        np.testing.assert_allclose(h(q) @ q, np.broadcast_to(np.eye(k), (*shape[:-2], k, k)), atol=1e-12)
        s, u, v = [y.numpy() for y in wrap(lambda t: L.svd(t, full))(tj.constant(x))]
        k = min(m, n)
        assert s.shape == (*shape[:-2], k)
        assert u.shape == (*shape[:-2], m, m if full else k)
        assert v.shape == (*shape[:-2], n, n if full else k)
        np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ h(v[..., :k]), x, atol=1e-12)


@WAYS
@pytest.mark.parametrize("kind", ["f", "c"])
def test_square_matrices(wrap, kind):
    for shape in [s for s in SHAPES if s[-1] == s[-2]]:
        x = tj.constant(normal(*shape, kind=kind))
        a = definite(x)
        c = wrap(L.cholesky)(a).numpy()
        np.testing.assert_allclose(c @ h(c), a, atol=1e-11)
        np.testing.assert_array_equal(np.triu(c, 1), 0)
        e, v = [y.numpy() for y in wrap(L.self_adjoint_eig)(a)]
        assert e.dtype == np.float64
        np.testing.assert_allclose(a.numpy() @ v, v * e[..., None, :], atol=1e-10)
        e, v = [y.numpy() for y in wrap(L.eig)(x)]
        assert e.dtype == v.dtype == np.complex128
        np.testing.assert_allclose(x.numpy() @ v, v * e[..., None, :], atol=1e-10)
        f, p = [y.numpy() for y in wrap(L.lu)(x)]
        assert p.dtype == np.int32
        low, high = np.tril(f, -1) + np.eye(shape[-1]), np.triu(f)
        np.testing.assert_allclose(low @ high, np.take_along_axis(x.numpy(), p[..., None].astype(int), -2), atol=1e-12)
        np.testing.assert_allclose(wrap(L.lu_reconstruct)(f, p), x, atol=1e-12)
        sign, size = [y.numpy() for y in wrap(L.slogdet)(x)]
        assert size.dtype == np.float64
        np.testing.assert_allclose(sign * np.exp(size), wrap(L.det)(x), atol=1e-12)
        for n in (-2, 0, 5):
            np.testing.assert_allclose(
                wrap(lambda t, n=n: L.matrix_power(t, n))(x), np.linalg.matrix_power(x.numpy(), n), rtol=1e-8, atol=1e-8
            )


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 65, 200])
def test_large_systems(n):
    a, b = normal(n, n) + 3 * np.sqrt(n) * np.eye(n), normal(2, n, 3, seed=1)
    for lower in (True, False):
        for adjoint in (False, True):
            t = np.tril(a) if lower else np.triu(a)
            x = L.triangular_solve(a, b, lower, adjoint).numpy()
            np.testing.assert_allclose((t.T if adjoint else t) @ x, b, atol=1e-11)
    np.testing.assert_allclose(L.lu_reconstruct(*L.lu(normal(2, n, n))), normal(2, n, n), atol=1e-11)
    f, p = L.lu(a)
    np.testing.assert_allclose(a @ L.lu_solve(f, p, b).numpy(), b, atol=1e-10)
    lines = normal(3, n, seed=2) + np.array([[0.0], [1], [0]])
    full = np.diag(lines[1]) + np.diag(lines[0, :-1], 1) + np.diag(lines[2, 1:], -1)
    x = L.tridiagonal_solve(lines, b[0]).numpy()
    np.testing.assert_allclose(full @ x, b[0], atol=1e-8)
    many = L.tridiagonal_solve(np.broadcast_to(lines, (200, 3, n)), b[:1])
    np.testing.assert_allclose(many, np.broadcast_to(x, (200, n, 3)), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(L.tridiagonal_matmul(lines, b[0]), full @ b[0], atol=1e-12)


def test_graded_triangles_keep_every_digit():
    t = (np.tril(normal(80, 80)) / 40 + np.eye(80)) * np.logspace(12, -12, 80)[:, None]
    b = t @ np.ones((80, 1))
    np.testing.assert_allclose(L.triangular_solve(t, b), sl.solve_triangular(t, b, lower=True), rtol=1e-9)


# --- functions of matrices --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1e-8, 0.1, 1.0, 30.0])
def test_exponentials_of_any_size(size):
    x = size * normal(3, 5, 5) / 5
    for d, tol in ((tj.float64, 1e-11), (tj.float32, 1e-4)):
        y = L.expm(tj.cast(x, d))
        assert y.dtype is d
        want = np.stack([sl.expm(m) for m in x])
        assert np.max(np.abs(y.numpy() - want)) <= tol * np.max(np.abs(want))
    np.testing.assert_allclose(L.expm(np.stack([np.zeros((2, 2)), 50 * np.eye(2)])).numpy()[0], np.eye(2))
    assert np.isnan(L.expm(np.full((2, 2), np.nan)).numpy()).all()


def test_roots_and_logarithms():
    jordan = np.array([[2.0, 1, 0], [0, 2, 1], [0, 0, 2]])
    for x in (
        jordan,
        normal(4, 4, kind="c"),
        np.diag([4.0, 9.0]),
        np.array([[0.0, -1], [1, 0]]),
        np.eye(3),
        np.array([[1e6]]),
    ):
        root, log = L.sqrtm(x).numpy(), L.logm(x).numpy()
        np.testing.assert_allclose(root @ root, x, atol=1e-10)
        np.testing.assert_allclose(log, sl.logm(x), atol=1e-10)
    low_rank = np.array([[1.0, 1], [1, 1]])
    np.testing.assert_allclose(L.sqrtm(low_rank).numpy() @ L.sqrtm(low_rank).numpy(), low_rank, atol=1e-12)
    below = np.array([[-1.0, 1], [0, 4]])
    assert np.isnan(L.sqrtm(below).numpy()).all()
    assert np.isnan(L.logm(below).numpy()).all()
    assert np.isnan(L.sqrtm([[0.0, 1], [0, 0]]).numpy()).all()
    root = L.sqrtm(below.astype(complex)).numpy()
    np.testing.assert_allclose(root @ root, below, atol=1e-12)
    np.testing.assert_allclose(L.logm(below.astype(complex)), sl.logm(below), atol=1e-12)


# --- what is singular, degenerate or not finite -----------------------------------------------------------------------
SINGULAR = {
    "inv": (L.inv, "the matrix is singular"),
    "solve": (lambda x: L.solve(x, x), "the matrix is singular"),
    "triangular_solve": (lambda x: L.triangular_solve(x, x), "diagonal has a zero"),
    "cholesky": (L.cholesky, "the matrix is not positive definite"),
    "lu": (L.lu, "the matrix is singular"),
}  # fmt: skip


@WAYS
@pytest.mark.parametrize("name", SINGULAR)
def test_what_cannot_be_done_says_why_and_changes_nothing(wrap, name):
    f, words = SINGULAR[name]
    v = tj.Variable(1.0)

    @wrap
    def g(x):
        y = f(x)
        v.assign_add(1.0)
        return y

    x = np.eye(2)
    g(tj.constant(x))
    with pytest.raises(tj.errors.ArgumentError, match=words) as e:
        g(tj.constant(0 * x))
    assert "y = f(x)" in str(e.value) or "test_linalg.py" in str(e.value)
    with pytest.raises(tj.errors.ArgumentError, match=r"matrix \[1\] of the batch"):
        f(tj.constant(np.stack([x, 0 * x])))
    assert float(v) == 2.0


@WAYS
def test_matrices_that_hold_nan(wrap):
    x = tj.constant(np.full((2, 2), np.nan))
    for f in (L.svd, L.eig, L.pinv):
        with pytest.raises(tj.errors.ArgumentError, match="NaN or infinity"):
            wrap(f)(x)
    for f in (L.det, L.inv, L.expm, L.sqrtm, L.logm, lambda x: L.triangular_solve(x, x)):
        assert np.isnan(wrap(f)(x).numpy()).all()


def test_shapes_and_dtypes_that_are_refused():
    a = tj.ones((2, 3))
    for f in (
        L.cholesky,
        L.inv,
        L.det,
        L.slogdet,
        L.eigh,
        L.eig,
        L.lu,
        L.expm,
        L.sqrtm,
        L.logm,
        lambda x: L.matrix_power(x, 2),
    ):
        for g in (f, tj.function(f)):
            with pytest.raises(tj.errors.ShapeError, match="square matrix"):
                g(a)
            with pytest.raises(tj.errors.ShapeError, match="two axes"):
                g(tj.ones((3,)))
    for f in (L.qr, L.svd, L.pinv, L.matrix_rank):
        with pytest.raises(tj.errors.ShapeError):
            f(tj.ones((3,)))
    for b in (tj.ones((2,)), tj.ones((3, 1))):
        for f in (L.solve, L.triangular_solve):
            for g in (f, tj.function(f)):
                with pytest.raises(tj.errors.ShapeError):
                    g(tj.eye(2), b)
    with pytest.raises(tj.errors.ArgumentError, match="not both"):
        L.matmul(a, a, transpose_a=True, adjoint_a=True)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        L.nothing_like_it


def test_dtypes_that_are_computed_in_others():
    for name in ("float16", "bfloat16"):
        x = tj.cast([[2.0, 1.0], [1.0, 2.0]], name)
        for f in (L.inv, L.cholesky, L.expm, L.det, L.eigvalsh, L.svdvals, lambda x: L.solve(x, x)):
            y = f(x)
            assert y.dtype.name == name
            np.testing.assert_allclose(y.numpy().astype(float), f(tj.cast(x, tj.float32)), rtol=1e-2)
        assert L.eig(x)[0].dtype == tj.complex64
        g = slopes(L.det, x.numpy())
        assert g.dtype.name == name
    assert L.inv(np.array([[2, 0], [0, 4]])).dtype == tj.float64
    assert L.inv([[2, 0], [0, 4]]).dtype == tj.float32
    assert L.solve(tj.eye(2), np.eye(2)).dtype == tj.float64


def test_ranks_and_pseudo_inverses():
    x = np.stack([np.outer([1.0, 2, 3], [1, 1]), normal(3, 2)])
    assert L.matrix_rank(x).numpy().tolist() == [1, 2]
    assert L.matrix_rank(x).dtype == tj.int32
    assert L.matrix_rank(x, tol=1e9).numpy().tolist() == [0, 0]
    np.testing.assert_allclose(L.pinv(x), np.linalg.pinv(x), atol=1e-12)
    d = np.diag([1.0, 1e-3])
    np.testing.assert_allclose(L.pinv(d, rcond=1e-2), np.diag([1.0, 0]), atol=1e-12)
    np.testing.assert_allclose(L.pinv(np.stack([d, d]), rcond=[1e-2, 1e-4]).numpy()[:, 1, 1], [0, 1e3])
    np.testing.assert_allclose(slopes(weighed(lambda x: L.pinv(x, 1e-2)), np.outer([1.0, 2], [3, 1])).shape, (2, 2))
    np.testing.assert_allclose(
        L.lstsq(x, np.ones((2, 3, 1)), fast=False), np.linalg.pinv(x) @ np.ones((3, 1)), atol=1e-12
    )
    with pytest.raises(tj.errors.ArgumentError, match="positive definite"):
        L.lstsq(np.zeros((3, 2)), np.ones((3, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize(
    ("lead", "n", "k"), [((), 65, 1), ((3,), 200, 2), ((), 70, 0), ((0,), 70, 1), ((2, 30), 66, 1)]
)
def test_long_tridiagonal_systems_with_exchanges(lead, n, k, dtype):
    rng = np.random.default_rng(n)
    d = rng.normal(size=(*lead, 3, n)) + (1j * rng.normal(size=(*lead, 3, n)) if dtype[0] == "c" else 0)
    b = rng.normal(size=(*lead, n, k)).astype(dtype)
    d = d.astype(dtype)
    full, at = np.zeros((*lead, n, n), d.dtype), np.arange(n)
    full[..., at, at] = d[..., 1, :]
    full[..., at[:-1], at[1:]], full[..., at[1:], at[:-1]] = d[..., 0, :-1], d[..., 2, 1:]
    for f in (L.tridiagonal_solve, tj.function(L.tridiagonal_solve)):
        x = f(tj.constant(d), tj.constant(b)).numpy()
        assert x.dtype == b.dtype and x.shape == b.shape
        np.testing.assert_allclose(full @ x, b, atol=1e-2 if dtype == "float32" else 1e-9)
    if k and lead != (0,):
        d[..., 1, :] = d[..., 2, :] = 0
        with pytest.raises(tj.errors.ArgumentError, match="singular"):
            L.tridiagonal_solve(tj.constant(d), tj.constant(b))
