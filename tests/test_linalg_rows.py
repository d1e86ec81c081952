"""Functions of matrices over many rows, at sizes that are open, on nothing, and under NumPy's names."""

import numpy as np
import pytest
from matrices import definite, gradient, listed, normal, slopes

import tracejit as tj

L = tj.linalg
WAYS = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


# --- many rows, open sizes, generated source --------------------------------------------------------------------------
ROWS = {
    "cholesky": lambda x: L.cholesky(definite(x)),
    "qr": lambda x: L.qr(x)[1],
    "svd": lambda x: L.svdvals(x),
    "eigh": lambda x: L.eigvalsh(x + L.adjoint(x)),
    "eig": lambda x: tj.math.real(tj.reduce_sum(L.eigvals(x) ** 2)),
    "lu": lambda x: L.lu(x)[0],
    "det": L.det,
    "slogdet": lambda x: L.slogdet(x)[1],
    "inv": L.inv,
    "expm": L.expm,
    "sqrtm": lambda x: L.sqrtm(definite(x)),
    "logm": lambda x: L.logm(definite(x)),
    "pinv": L.pinv,
    "solve": lambda x: L.solve(x, x[:, :2]),
    "solve, matrix shared": lambda x: L.solve(M, x[:, :2]),
    "solve, right side shared": lambda x: L.solve(x, M),
    "solve with a batch": lambda x: L.solve(x, B),
    "triangular_solve": lambda x: L.triangular_solve(x, M),
    "tridiagonal_solve": lambda x: L.tridiagonal_solve(x + np.array([[0], [5], [0]]), M),
    "adjugate": lambda x: gradient(L.det, x),
}  # fmt: skip
M, B = normal(3, 3, seed=8) + 4 * np.eye(3), normal(2, 3, 1, seed=9)


@pytest.mark.parametrize("name", ROWS)
def test_many_rows_at_once(name):
    f, x = ROWS[name], normal(5, 3, 3) + 3 * np.eye(3)
    want = np.stack([f(tj.constant(r)).numpy() for r in x])

    def rows(x):
        return tj.vectorized_map(f, x, fallback_to_while_loop=False)

    np.testing.assert_allclose(rows(tj.constant(x)), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tj.function(rows)(tj.constant(x)), want, rtol=1e-9, atol=1e-12)

    def guarded(x):
        return tj.vectorized_map(
            lambda r: tj.cond(tj.math.is_finite(r[0, 0]), lambda: f(r), lambda: 0 * f(tj.constant(M))), x
        )

    x[1], x[3] = 0, np.nan
    x[1, 0, 0] = np.inf  # a row which the branch is not taken for, and which would be refused
    with np.errstate(all="ignore"):
        got = tj.function(guarded)(tj.constant(x)).numpy()
    np.testing.assert_allclose(got[[0, 2, 4]], want[[0, 2, 4]], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got[[1, 3]], 0)


def test_a_branch_that_is_not_taken_refuses_nothing():
    @tj.function
    def f(x):
        if tj.reduce_sum(x) > 0:
            return L.cholesky(x)
        return x

    assert f(-tj.eye(2)).numpy().tolist() == [[-1, 0], [0, -1]]
    assert f(4 * tj.eye(2)).numpy().tolist() == [[2, 0], [0, 2]]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(ROWS)
        - {
            "solve, matrix shared",
            "solve, right side shared",
            "solve with a batch",
            "triangular_solve",
            "tridiagonal_solve",
        }
    ),
)
def test_sizes_that_are_open(name):
    f = tj.function(lambda x: (ROWS[name](x), gradient(lambda x: tj.reduce_sum(ROWS[name](x)), x)),
                    input_signature=[tj.TensorSpec((None, None), tj.float64)])  # fmt: skip
    for n in (3, 2, 5, 1):
        x = tj.constant(normal(n, n) + 3 * np.eye(n))
        for got, want in zip(f(x), f.python_function(x), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def test_generated_source_calls_its_functions_what_no_variable_is_called():
    def f(svd, expm):
        lu = L.lu(svd)[0]
        return L.sqrtm(svd), L.expm(expm), L.svd(svd)[0], L.triangular_solve(svd, expm), lu, L.slogdet(expm)[1]

    x, y = normal(3, 3) + 4 * np.eye(3), normal(3, 3, seed=1)
    place: dict = {}
    exec(tj.function(f).source(tj.constant(x), tj.constant(y)), place)
    for got, want in zip(place["main"](x, y), f(tj.constant(x), tj.constant(y)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_nothing_in_matrices():
    none = tj.zeros((0, 0), tj.float64)
    for f in (
        L.inv,
        L.cholesky,
        L.expm,
        L.sqrtm,
        L.logm,
        L.pinv,
        lambda x: L.solve(x, x),
        lambda x: L.triangular_solve(x, x),
    ):
        assert f(none).shape == (0, 0)
        assert tj.function(f)(none).shape == (0, 0)
    assert float(L.det(none)) == 1.0
    assert [float(x) for x in L.slogdet(none)] == [1.0, 0.0]
    assert L.pinv(tj.zeros((2, 0))).shape == (0, 2)
    assert slopes(L.det, np.zeros((0, 0))).shape == (0, 0)


NUMPY = {
    "cholesky": lambda x: np.linalg.cholesky(x @ np.swapaxes(x, -1, -2) + np.eye(3)),
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "slogdet": np.linalg.slogdet,
    "qr": np.linalg.qr,
    "qr complete": lambda x: np.linalg.qr(x[:, :2], "complete"),
    "svd": np.linalg.svd,
    "svd values": lambda x: np.linalg.svd(x, compute_uv=False),
    "svdvals": np.linalg.svdvals,
    "eigh": np.linalg.eigh,
    "eigvalsh": np.linalg.eigvalsh,
    "eigh upper": lambda x: np.linalg.eigvalsh(x, "U"),
    "solve": lambda x: np.linalg.solve(x, x[:, :2]),
    "solve vector": lambda x: np.linalg.solve(x, x[:, 0]),
    "pinv": np.linalg.pinv,
    "matrix_rank": np.linalg.matrix_rank,
    "matrix_power": lambda x: np.linalg.matrix_power(x, 3),
    "norm": lambda x: np.linalg.norm(x, 2),
    "vector_norm": lambda x: np.linalg.vector_norm(x, axis=0, ord=3),
    "matrix_norm": lambda x: np.linalg.matrix_norm(x, ord="nuc"),
    "kron": lambda x: np.kron(x, x),
    "cross": lambda x: np.cross(x, x[::-1]),
    "vecdot": lambda x: np.vecdot(x, x[0]),
    "diag": lambda x: np.diag(x, 1),
    "diagonal": lambda x: np.diagonal(x, -1),
    "tril": lambda x: np.tril(x, -1),
    "triu": lambda x: np.triu(x),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
def test_functions_of_numpy(name):
    x, f = normal(3, 3) + 3 * np.eye(3), NUMPY[name]
    want = f(x)
    for g in (f, tj.function(f)):
        got = g(tj.constant(x))
        assert isinstance(got, tj.Tensor) or all(isinstance(y, tj.Tensor) for y in got)
        for y, w in zip(listed(got), listed(tuple(want) if isinstance(want, tuple) else want), strict=True):
            np.testing.assert_allclose(y, w, atol=1e-12)
