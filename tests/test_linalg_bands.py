"""Bands of matrices, systems with few diagonals, products of vectors, and norms."""

import numpy as np
import pytest
import scipy.linalg as sl
from matrices import differences, h, normal, slopes, weighed

import tracejit as tj

L = tj.linalg
WAYS = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


def test_forms_of_three_diagonals():
    m, b = normal(2, 5, 5) + 4 * np.eye(5), normal(2, 5, 3, seed=1)
    band = np.triu(np.tril(m, 1), -1)
    i = np.arange(4)
    above, main, below = m[:, i, i + 1], np.diagonal(m, 0, -2, -1), m[:, i + 1, i]
    lines = np.stack([np.pad(above, [(0, 0), (0, 1)]), main, np.pad(below, [(0, 0), (1, 0)])], -2)
    want = np.linalg.solve(band, b)
    for form, d in (
        ("matrix", m),
        ("compact", lines),
        ("sequence", (above, main, below)),
        ("sequence", [*lines.swapaxes(0, 1)]),
    ):
        np.testing.assert_allclose(L.tridiagonal_solve(d, b, form), want, rtol=1e-9)
        np.testing.assert_allclose(L.tridiagonal_matmul(d, b, form), band @ b, rtol=1e-9)
    np.testing.assert_allclose(L.tridiagonal_solve(lines, b[..., 0]), want[..., 0], rtol=1e-9)
    np.testing.assert_allclose(L.tridiagonal_solve(lines, h(b), transpose_rhs=True), want, rtol=1e-9)
    np.testing.assert_allclose(L.tridiagonal_solve([[0.0], [2.0], [0.0]], [[4.0]]), [[2.0]])
    with pytest.raises(tj.errors.ArgumentError, match="diagonals_format"):
        L.tridiagonal_solve(lines, b, "dense")
    with pytest.raises(tj.errors.ShapeError):
        L.tridiagonal_solve(lines[:, :2], b)


def test_elimination_exchanges_rows():
    lines = np.array([[1.0, 1, 0], [0, 0, 1], [0, 1, 1]])
    full = np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 1]])
    np.testing.assert_allclose(L.tridiagonal_solve(lines, np.eye(3)), np.linalg.inv(full), atol=1e-14)
    f, p = L.lu([[0.0, 1.0], [2.0, 3.0]])
    assert p.numpy().tolist() == [1, 0]
    assert f.numpy().tolist() == [[2, 3], [0, 1]]
    assert L.lu([[1.0]], tj.int64)[1].dtype == tj.int64


def test_eigenvalues_of_three_diagonals():
    a, b = normal(5), normal(4, seed=1)
    e, v = sl.eigh_tridiagonal(a, b)
    np.testing.assert_allclose(L.eigh_tridiagonal(a, b), e)
    np.testing.assert_allclose(L.eigh_tridiagonal(a, b, select="i", select_range=(1, 3)), e[1:4])
    _, v2 = L.eigh_tridiagonal(a, b, eigvals_only=False)
    np.testing.assert_allclose(np.abs(v2), np.abs(v), atol=1e-12)
    with pytest.raises(tj.errors.ArgumentError, match="select"):
        L.eigh_tridiagonal(a, b, select="v")


# --- bands ------------------------------------------------------------------------------------------------------------
def band(m, low, high, align, padding=0):
    """The diagonals as TensorFlow documents them."""
    rows, columns = m.shape
    longest = min(rows + min(high, 0), columns - max(low, 0))
    out = np.full((high - low + 1, longest), padding, m.dtype)
    above, below = align.split("_")
    for i, d in enumerate(range(high, low - 1, -1)):
        x = np.diagonal(m, d)
        left = (d >= 0 and above == "LEFT") or (d <= 0 and below == "LEFT")
        out[i, slice(0, len(x)) if left else slice(longest - len(x), None)] = x
    return out


@pytest.mark.parametrize("align", ["RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 5), (1, 4)])
def test_bands(align, shape):
    m = 1 + np.arange(np.prod(shape)).reshape(shape)
    rows, columns = shape
    for low in range(1 - rows, columns):
        for high in range(low, columns):
            want = band(m, low, high, align, -7)
            want = want[0] if low == high else want
            got = L.diag_part(np.stack([m, -m]), k=(low, high), padding_value=-7, align=align).numpy()
            np.testing.assert_array_equal(got[0], want)
            away = np.arange(columns) - np.arange(rows)[:, None]
            inside = (away >= low) & (away <= high)
            np.testing.assert_array_equal(L.set_diag(-m, want, k=(low, high), align=align), np.where(inside, m, -m))
            back = L.diag(want, k=(low, high), num_rows=rows, num_cols=columns, padding_value=9, align=align)
            np.testing.assert_array_equal(back, np.where(inside, m, 9))


def test_sizes_of_matrices_made_of_bands():
    assert L.diag([1, 2], k=1).shape == (3, 3)
    assert L.diag([1, 2], k=-2).shape == (4, 4)
    assert L.diag([1, 2], k=0, num_rows=3).shape == (3, 2)
    assert L.diag([1, 2], k=1, num_cols=3).shape == (2, 3)
    assert L.diag([[1, 2, 3], [4, 5, 6]], k=(-1, 0)).numpy().tolist() == [[1, 0, 0], [4, 2, 0], [0, 5, 3]]
    assert L.diag([[5]], padding_value=1).numpy().tolist() == [[[5]]]
    assert tj.function(lambda x: L.diag(x, k=1))(tj.ones((0,))).shape == (1, 1)
    for call in (
        lambda: L.diag_part(tj.eye(3), k=3), lambda: L.set_diag(tj.eye(3), [1.0, 2]),
        lambda: L.diag([1, 2], num_rows=1), lambda: L.tensor_diag_part(tj.ones((2, 3))),
        lambda: L.cross([1.0, 2], [1.0, 2]),
    ):  # fmt: skip
        with pytest.raises(tj.errors.ShapeError):
            call()
    for call in (lambda: L.diag_part(tj.eye(3), k=(1, 0)), lambda: L.diag_part(tj.eye(3), k=(0, 1), align="UP")):
        with pytest.raises(tj.errors.ArgumentError):
            call()


def test_bands_have_gradients():
    x, d = normal(3, 4), normal(2, 3, seed=1)
    f = weighed(lambda x: (L.diag_part(x, k=(-1, 1)), L.set_diag(x, d, k=(0, 1)), L.diag(x[0], k=2)))
    for g in (f, tj.function(f)):
        np.testing.assert_allclose(slopes(g, x), differences(f, x), atol=1e-8)


@pytest.mark.parametrize("adjoint", [False, True])
def test_banded_triangles(adjoint):
    lines, b = normal(3, 5) + 4 * np.array([[1.0], [0], [0]]), normal(5, 2, seed=1)
    full = L.set_diag(np.zeros((5, 5)), lines, k=(-2, 0), align="LEFT_RIGHT").numpy()
    want = np.linalg.solve(full.T if adjoint else full, b)
    np.testing.assert_allclose(L.banded_triangular_solve(lines, b, adjoint=adjoint), want, rtol=1e-9)
    lines = lines[::-1].copy()
    full = L.set_diag(np.zeros((5, 5)), lines, k=(0, 2), align="LEFT_RIGHT").numpy()
    want = np.linalg.solve(full.T if adjoint else full, b)
    np.testing.assert_allclose(L.banded_triangular_solve(lines, b, lower=False, adjoint=adjoint), want, rtol=1e-9)
    np.testing.assert_allclose(L.banded_triangular_solve([[2.0, 4]], [[2.0], [2]]), [[1.0], [0.5]])


# --- products and norms -----------------------------------------------------------------------------------------------
def test_norms_of_matrices_and_vectors():
    x = normal(2, 3, 4)
    for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        for axis in ((-2, -1), (0, 2), (2, 0)):
            for keep in (False, True):
                np.testing.assert_allclose(L.norm(x, ord, axis, keep), np.linalg.norm(x, ord, axis, keep), rtol=1e-12)
    for ord in (0, 1, 2, 3, 0.5, -1, np.inf, -np.inf):
        np.testing.assert_allclose(L.norm(x, ord, 1), np.linalg.norm(x, ord, 1), rtol=1e-12)
        np.testing.assert_allclose(L.vector_norm(x, ord=ord), np.linalg.vector_norm(x, ord=ord), rtol=1e-12)
        np.testing.assert_allclose(
            L.vector_norm(x, (0, 1), True, ord), np.linalg.vector_norm(x, axis=(0, 1), keepdims=True, ord=ord)
        )
    z = normal(3, 4, kind="c")
    for ord in ("fro", "nuc", 1, 2):
        np.testing.assert_allclose(L.matrix_norm(z, ord), np.linalg.norm(z, ord), rtol=1e-12)
    assert L.norm(z).dtype == tj.float64
    for call in (
        lambda: L.norm(x, "nuc"),
        lambda: L.norm(x, "all"),
        lambda: L.norm(x, 3, (0, 1)),
        lambda: L.norm(x, 1, (1, 1)),
    ):
        with pytest.raises(tj.errors.ArgumentError):
            call()
    y, n = L.normalize(x, axis=1)
    np.testing.assert_allclose(y * n, x)


def test_products_of_vectors():
    a, b = normal(2, 3, 4, kind="c"), normal(3, 4, seed=1)
    np.testing.assert_allclose(L.vecdot(a, b), np.vecdot(a, b))
    np.testing.assert_allclose(L.vecdot(a, b, axis=-2), np.vecdot(a, b, axis=-2))
    np.testing.assert_allclose(L.cross(a[:, :, 0], b[:, 0]), np.cross(a[:, :, 0], b[:, 0]))
    np.testing.assert_allclose(L.cross(a, b, axis=-2), np.cross(a, b, axis=-2))
    np.testing.assert_allclose(L.kron(a[0], b[:1]), np.kron(a[0], b[:1]))
