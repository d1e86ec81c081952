"""Derivatives of functions of matrices: complex ones, second ones, and those of factors that are not unique."""

import numpy as np
import pytest
from matrices import definite, differences, first, gradient, normal, scaled, slopes, weighed

import tracejit as tj

L = tj.linalg
WAYS = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


# functions that do not depend on the choice of signs, phases and bases
INVARIANT = {
    "cholesky": lambda x: L.cholesky(definite(x)),
    "inv": L.inv,
    "det": L.det,
    "slogdet": lambda x: L.slogdet(x),
    "solve": lambda x: L.solve(x, x[..., :1] * x[..., :1] + 1.0),
    "solve, adjoint": lambda x: L.solve(x, x[..., :2], adjoint=True),
    "triangular_solve": lambda x: L.triangular_solve(x, x[..., :2]),
    "triangular_solve, upper": lambda x: L.triangular_solve(x, x[..., :2], lower=False),
    "triangular_solve, adjoint": lambda x: L.triangular_solve(x, x[..., :2], adjoint=True),
    "triangular_solve, upper, adjoint": lambda x: L.triangular_solve(x, x[..., :2], lower=False, adjoint=True),
    "qr": L.qr,
    "qr, full": lambda x: L.qr(x, full_matrices=True),
    "svd, values": L.svdvals,
    "svd, vectors": lambda x: _by_svd(x, False),
    "svd, full": lambda x: _by_svd(x, True),
    "eigh": lambda x: _by_eigh(x + L.adjoint(x)),
    "eigvalsh": lambda x: L.eigvalsh(x + L.adjoint(x)),
    "eig": lambda x: _by_eig(x),
    "lu": lambda x: L.lu(x)[0],
    "pinv": L.pinv,
    "expm": L.expm,
    "sqrtm": lambda x: L.sqrtm(definite(x) + 0.1 * x),
    "logm": lambda x: L.logm(definite(x) + 0.1 * x),
    "norm, nuc": lambda x: L.norm(x, "nuc", axis=(-2, -1)),
    "norm, 2": lambda x: L.norm(x, 2, axis=(-2, -1)),
    "matrix_power": lambda x: L.matrix_power(x, -3),
    "tridiagonal_solve": lambda x: L.tridiagonal_solve(x, x[..., :1], diagonals_format="matrix"),
}  # fmt: skip


def _by_svd(x, full):
    s, u, v = L.svd(x, full)
    k = s.shape[-1]
    return tj.matmul(scaled(first(u, k), tj.sin(s)), first(v, k), adjoint_b=True), s


def _by_eigh(x):
    e, v = L.eigh(x)
    return tj.matmul(scaled(v, tj.sin(e)), v, adjoint_b=True), e


def _by_eig(x):
    e, v = L.eig(x)
    size = tj.math.real(v) ** 2 + tj.math.imag(v) ** 2
    return v @ (tj.exp(e)[..., :, None] * L.inv(v)), e, scaled(tj.cast(size, v.dtype), e)


@pytest.mark.parametrize("kind", ["f", "c"])
@pytest.mark.parametrize("name", INVARIANT)
def test_gradients(name, kind):
    f = weighed(INVARIANT[name])
    shapes = [(3, 3), (4, 2), (2, 4)] if name in ("svd, values", "svd, vectors", "svd, full", "pinv") else [(3, 3)]
    shapes = [(3, 3), (2, 3), (3, 2)][: 2 if "full" in name else 3] if name.startswith("qr") else shapes
    for shape in shapes:
        x = normal(*shape, kind=kind, seed=3)
        np.testing.assert_allclose(slopes(f, x), differences(f, x), rtol=2e-5, atol=2e-6)
    traced = tj.function(lambda x: gradient(f, x))(x)
    np.testing.assert_allclose(traced, slopes(f, x), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["f", "c"])
@pytest.mark.parametrize("name", INVARIANT)
def test_second_derivatives_and_forward_mode(name, kind):
    f = weighed(INVARIANT[name])
    x, d = normal(3, 3, kind=kind, seed=3), normal(3, 3, kind=kind, seed=4)

    def along(x):
        with tj.autodiff.ForwardAccumulator(x, tj.constant(d)) as acc:
            y = f(x)
        return acc.jvp(y)

    g = slopes(f, x)
    np.testing.assert_allclose(float(along(tj.constant(x))), np.sum(np.real(np.conj(g) * d)), rtol=1e-8)

    def of_slopes(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        g = tape.gradient(y, x)
        p = g * tj.constant(np.conj(d))
        return tj.reduce_sum(tj.math.real(p) if p.dtype.kind == "c" else p)

    np.testing.assert_allclose(slopes(of_slopes, x), differences(of_slopes, x), rtol=2e-4, atol=2e-4)


# --- where factors are not unique -------------------------------------------------------------------------------------
@WAYS
def test_the_determinant_of_singular_matrices_has_slopes(wrap):
    for x in (np.zeros((2, 2)), np.array([[1.0, 2], [2, 4]]), np.outer([1.0, 2, 3], [1, 0, 2]), np.diag([0.0, 2, 3])):
        np.testing.assert_allclose(slopes(wrap(L.det), x), differences(L.det, x), atol=1e-8)


@WAYS
def test_equal_eigenvalues_and_singular_values(wrap):
    """Results that do not depend on the choice among vectors have slopes."""
    x = np.diag([2.0, 2.0, 5.0])

    def cube(x):
        e, v = L.eigh(x)
        return tj.reduce_sum(tj.matmul(v * e[..., None, :] ** 3, v, transpose_b=True) * normal(3, 3))

    def total(x):
        s, u, v = L.svd(x)
        return tj.reduce_sum(s) + tj.reduce_sum(u * u) + tj.reduce_sum(v * v)

    g = slopes(wrap(lambda x: tj.reduce_sum(L.eigvalsh(x) ** 2)), x)
    np.testing.assert_allclose(g, 2 * x, atol=1e-12)
    assert np.isfinite(slopes(wrap(cube), x)).all()
    np.testing.assert_allclose(slopes(wrap(total), x), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(slopes(wrap(lambda x: L.norm(x, "nuc", axis=(0, 1))), x), np.eye(3), atol=1e-12)


def test_only_one_triangle_is_read():
    x = normal(3, 3) + 5 * np.eye(3)
    for f in (L.cholesky, L.eigvalsh, lambda x: L.eigh(x)[0]):
        low = np.tril(x) + np.tril(x, -1).T
        np.testing.assert_allclose(f(x), f(low))
    g = slopes(lambda x: tj.reduce_sum(L.eigvalsh(x)[..., 0]), x)
    np.testing.assert_array_equal(np.triu(g, 1), 0)
    np.testing.assert_allclose(g, differences(lambda x: tj.reduce_sum(L.eigvalsh(x)[..., 0]), x), atol=1e-8)
    g = slopes(lambda x: tj.reduce_sum(L.cholesky(x)), x)
    np.testing.assert_allclose(g, g.T)
