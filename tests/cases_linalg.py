"""Cases of the operations' table: decompositions and functions of matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.linalg as sl
from op_case import Case

import tracejit as tj

L = tj.linalg
SQUARE = [[(3, 3)], [(1, 1)], [(2, 3, 3)], [(0, 2, 2)], [(2, 2, 4, 4)]]
ANY = [[(3, 2)], [(2, 3)], [(1, 1)], [(2, 3, 3)], [(2, 4, 2)], [(0, 3, 2)]]
SYSTEMS = [[(3, 3), (3, 2)], [(1, 1), (1, 1)], [(2, 3, 3), (3, 2)], [(3, 3), (2, 3, 1)],
           [(2, 1, 3, 3), (4, 3, 2)], [(0, 2, 2), (2, 1)]]  # fmt: skip


def h(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2)) if isinstance(x, np.ndarray) else L.adjoint(x)


def up(x: Any) -> Any:
    """16-bit tensors in float32."""
    return tj.cast(x, tj.float32) if isinstance(x, tj.Tensor) and x.dtype.bits == 16 else x


def eye(x: Any) -> Any:
    n = x.shape[-1]
    return np.eye(n) if isinstance(x, np.ndarray) else tj.eye(n, dtype=x.dtype)


def shifted(x: Any) -> Any:
    """A matrix whose diagonal outweighs the rest of it."""
    x = up(x)
    return x + 8 * eye(x)


def leaning(x: Any) -> Any:
    """A matrix of full rank."""
    x = up(x)
    m, n = x.shape[-2:]
    return x + 4 * (np.eye(m, n) if isinstance(x, np.ndarray) else tj.eye(m, n, dtype=x.dtype))


def definite(x: Any) -> Any:
    x = up(x)
    return x @ h(x) + eye(x)


def hermitian(x: Any) -> Any:
    x = up(x)
    return x + h(x)


def on(f: Callable[..., Any], made: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function of a matrix that is made from the first argument."""
    return lambda x, *more: f(made(x), *[up(m) for m in more])


def both(name: str, f: Any, reference: Any, made: Any, shapes: Any, kinds: str = "fc", **more: Any) -> Case:
    return Case(name, on(f, made), on(reference, made), shapes, kinds, **{"factor": 50, **more})


def column(v: Any) -> Any:
    return v[..., :, None]


def batched(f: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one matrix for each of a batch."""

    def run(x: np.ndarray) -> np.ndarray:
        out = [f(m) for m in x.reshape(-1, *x.shape[-2:])]
        return np.reshape(out, (*x.shape[:-2], *np.shape(out)[1:])) if out else np.zeros(x.shape)

    return run


def triangle(x: np.ndarray, lower: bool, adjoint: bool) -> np.ndarray:
    t = np.tril(x) if lower else np.triu(x)
    return h(t) if adjoint else t


def cases() -> Iterator[Case]:
    yield from _equations()
    yield from _determinants()
    yield from _decompositions()
    yield from _spectra()
    yield from _functions()
    yield from _diagonals()
    yield from _products()
    yield from _norms()


def _equations() -> Iterator[Case]:
    yield both("linalg.solve", L.solve, np.linalg.solve, shifted, SYSTEMS)
    yield both(
        "linalg.solve, adjoint", lambda a, b: L.solve(a, b, adjoint=True), lambda a, b: np.linalg.solve(h(a), b),
        shifted, SYSTEMS,
    )  # fmt: skip
    for lower in (True, False):
        for adjoint in (False, True):
            yield both(
                f"linalg.triangular_solve, {lower}, {adjoint}",
                lambda a, b, lo=lower, ad=adjoint: L.triangular_solve(a, b, lo, ad),
                lambda a, b, lo=lower, ad=adjoint: np.linalg.solve(triangle(a, lo, ad), b), shifted, SYSTEMS,
            )  # fmt: skip
    yield both("linalg.inv", L.inv, np.linalg.inv, shifted, SQUARE)
    yield Case(
        "linalg.inv in 16 bits", lambda x: L.inv(x / 4 + tj.eye(x.shape[-1], dtype=x.dtype) * 2),
        lambda x: np.linalg.inv(x / 4 + 2 * np.eye(x.shape[-1])), SQUARE[:2], "f", factor=10,
    )  # fmt: skip
    yield both("linalg.inv, adjoint", lambda a: L.inv(a, adjoint=True), lambda a: h(np.linalg.inv(a)), shifted, SQUARE)
    yield both(
        "linalg.cholesky_solve",
        lambda a, b: L.cholesky_solve(L.cholesky(a), b),
        np.linalg.solve,
        definite,
        SYSTEMS[:3],
        factor=2000,
    )
    lines = [[(3, 4), (4, 2)], [(3, 1), (1, 1)], [(2, 3, 4), (1, 4, 1)], [(3, 3), (2, 3, 2)]]
    yield Case(
        "linalg.tridiagonal_solve", lambda d, b: L.tridiagonal_solve(up(d) + _heavy(d), up(b)),
        lambda d, b: np.linalg.solve(_tridiagonal(d + _heavy(d)), b), lines, "fc", factor=50, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "linalg.tridiagonal_matmul", lambda d, b: L.tridiagonal_matmul(up(d), up(b)),
        lambda d, b: _tridiagonal(d) @ b, lines, "fc", factor=50, own_sizes=True,
    )  # fmt: skip
    tall = [[(4, 2), (4, 1)], [(2, 4, 2), (4, 3)]]
    yield both("linalg.lstsq", L.lstsq, _least_squares, leaning, tall)
    yield both("linalg.lstsq, wide", L.lstsq, _least_squares, leaning, [[(2, 4), (2, 1)], [(3, 2, 4), (3, 2, 2)]])
    yield both("linalg.lstsq, slow", lambda a, b: L.lstsq(a, b, fast=False), _least_squares, leaning, tall)
    yield Case(
        "linalg.lstsq, regularized", on(lambda a, b: L.lstsq(a, b, 0.5), up),
        lambda a, b: np.linalg.solve(h(a) @ a + 0.5 * np.eye(a.shape[-1]), h(a) @ b), tall, "fc", factor=500,
    )  # fmt: skip
    yield Case("linalg.pinv", on(L.pinv, up), np.linalg.pinv, ANY[:5], "fc", factor=500)
    yield Case(
        "linalg.banded_triangular_solve",
        lambda d, b: L.banded_triangular_solve(up(d) + _heavy(d, 0), up(b)),
        lambda d, b: np.linalg.solve(_banded(d + _heavy(d, 0)), b), [[(2, 4), (4, 2)], [(3, 2, 4), (4, 1)]], "f",
        factor=50, own_sizes=True,
    )  # fmt: skip


def _heavy(d: Any, row: int = 1) -> Any:
    """What makes the main diagonal outweigh the others."""
    n = d.shape[-2]
    if isinstance(d, np.ndarray):
        return 8.0 * (np.arange(n) == row)[:, None]
    return tj.cast(tj.range(n) == row, up(d).dtype)[:, None] * 8.0


def _tridiagonal(d: np.ndarray) -> np.ndarray:
    n = d.shape[-1]
    i = np.arange(n)
    t = np.zeros((*d.shape[:-2], n, n), d.dtype)
    t[..., i, i] = d[..., 1, :]
    t[..., i[:-1], i[1:]] = d[..., 0, :-1]
    t[..., i[1:], i[:-1]] = d[..., 2, 1:]
    return t


def _banded(d: np.ndarray) -> np.ndarray:
    n = d.shape[-1]
    i = np.arange(n)
    t = np.zeros((*d.shape[:-2], n, n), d.dtype)
    t[..., i, i] = d[..., 0, :]
    t[..., i[1:], i[:-1]] = d[..., 1, 1:]
    return t


def _least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.pinv(a) @ b


def _determinants() -> Iterator[Case]:
    yield both("linalg.det", L.det, np.linalg.det, lambda x: up(x) / 4, SQUARE, factor=500)
    yield both("linalg.slogdet", lambda a: L.slogdet(a)[1], lambda a: np.linalg.slogdet(a)[1], shifted, SQUARE)
    yield both("sign of linalg.slogdet", lambda a: L.slogdet(a)[0], lambda a: np.linalg.slogdet(a)[0], shifted, SQUARE)
    yield both("linalg.logdet", L.logdet, lambda a: np.linalg.slogdet(a)[1], definite, SQUARE, factor=500)
    yield Case(
        "slopes of linalg.det", on(lambda a: _slopes(L.det, a), shifted),
        on(lambda a: np.linalg.det(a)[..., None, None] * np.swapaxes(np.linalg.inv(a), -1, -2), shifted),
        SQUARE[:4], "f", factor=500,
    )  # fmt: skip


def _slopes(f: Any, x: Any) -> Any:
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(f(x))
    return tape.gradient(y, x)


def _decompositions() -> Iterator[Case]:
    yield both("linalg.cholesky", L.cholesky, np.linalg.cholesky, definite, SQUARE, factor=500)
    for i, letter in enumerate("qr"):
        yield Case(
            f"{letter} of linalg.qr", on(lambda a, i=i: L.qr(a)[i], up), lambda a, i=i: np.linalg.qr(a)[i], ANY, "fc",
            factor=200,
        )  # fmt: skip
    yield Case(
        "linalg.qr, wide", on(lambda a: tj.concat(L.qr(a), -1), up), lambda a: np.concatenate(np.linalg.qr(a), -1),
        [[(2, 3)], [(2, 2, 4)]], "fc", factor=200,
    )  # fmt: skip
    yield Case(
        "linalg.qr, full", on(lambda a: tj.matmul(*L.qr(a, True)), up), lambda a: a, ANY, "fc", factor=200,
    )  # fmt: skip
    yield both("linalg.lu", lambda a: L.lu(a)[0], batched(lambda a: sl.lu_factor(a)[0]), shifted, SQUARE, "f")
    yield both("linalg.lu_reconstruct", lambda a: L.lu_reconstruct(*L.lu(a)), lambda a: a, shifted, SQUARE)
    yield both("linalg.lu_solve", lambda a, b: L.lu_solve(*L.lu(a), b), np.linalg.solve, shifted, SYSTEMS[:3])
    yield both("linalg.lu_matrix_inverse", lambda a: L.lu_matrix_inverse(*L.lu(a)), np.linalg.inv, shifted, SQUARE)


def _spectra() -> Iterator[Case]:
    yield Case(
        "linalg.svd", on(_by_svd, up), lambda a: _by_svd(a, np), ANY, "fc", factor=500,
    )  # fmt: skip
    yield Case(
        "linalg.svd, full", on(lambda a: _by_svd(a, full=True), up), lambda a: _by_svd(a, np), ANY, "fc", factor=500,
    )  # fmt: skip
    yield Case("linalg.svdvals", on(L.svdvals, up), lambda a: np.linalg.svd(a, compute_uv=False), ANY, "fc", factor=50)
    yield Case(
        "linalg.matrix_rank", on(L.matrix_rank, up), np.linalg.matrix_rank, [[(3, 2)], [(2, 3, 3)]], "fc",
        differentiable=False,
    )  # fmt: skip
    yield both("linalg.eigh", _by_eigh, lambda a: _by_eigh(a, np), hermitian, SQUARE, factor=500)
    yield both("linalg.eigvalsh", L.eigvalsh, np.linalg.eigvalsh, hermitian, SQUARE)
    yield both("linalg.eig", _by_eig, lambda a: a @ a @ a, up, SQUARE, "f", factor=2000)
    yield both(
        "linalg.eigvals", lambda a: tj.math.real(tj.reduce_sum(L.eigvals(a) ** 3, -1)),
        lambda a: np.trace(a @ a @ a, axis1=-2, axis2=-1), up, SQUARE, "f", factor=2000,
    )  # fmt: skip
    yield Case(
        "linalg.eigh_tridiagonal", lambda a, b: L.eigh_tridiagonal(up(a), up(b)),
        lambda a, b: np.linalg.eigvalsh(_tridiagonal(np.stack([np.append(b, 0), a, np.append(0, b)]))),
        [[(4,), (3,)]], "f", factor=50,
    )  # fmt: skip


def _by_svd(a: Any, m: Any = L, full: bool = False) -> Any:
    if m is np:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return (u * s[..., None, :] ** 2) @ vh
    s, u, v = L.svd(a, full)
    k = s.shape[-1]
    return tj.matmul(u[..., :k] * tj.cast(s[..., None, :] ** 2, u.dtype), v[..., :k], adjoint_b=True)


def _by_eigh(a: Any, m: Any = L) -> Any:
    e, v = m.linalg.eigh(a) if m is np else L.eigh(a)
    if m is np:
        return (v * np.sin(e)[..., None, :]) @ h(v)
    return tj.matmul(v * tj.cast(tj.sin(e)[..., None, :], v.dtype), v, adjoint_b=True)


def _by_eig(a: Any) -> Any:
    e, v = L.eig(a)
    return tj.math.real(tj.matmul(v * e[..., None, :] ** 3, L.inv(v)))


def _functions() -> Iterator[Case]:
    yield Case("linalg.expm", on(L.expm, up), batched(sl.expm), SQUARE, "fc", factor=500)
    yield both("linalg.sqrtm", L.sqrtm, batched(sl.sqrtm), shifted, SQUARE)
    yield both("linalg.sqrtm of symmetric matrices", L.sqrtm, batched(sl.sqrtm), definite, SQUARE, factor=500)
    yield both("linalg.logm", L.logm, batched(sl.logm), shifted, SQUARE)
    for n in (0, 1, 3, -2):
        yield both(
            f"linalg.matrix_power, {n}", lambda a, n=n: L.matrix_power(a, n),
            lambda a, n=n: np.linalg.matrix_power(a, n), shifted, SQUARE, factor=200,
        )  # fmt: skip


def _diagonals() -> Iterator[Case]:
    every = "biufc"
    yield Case("linalg.diag", L.diag, batched_diag, [[(3,)], [(2, 3)], [(0,)], [(1,)]], every)
    yield Case(
        "linalg.diag, above",
        lambda x: L.diag(x, k=1),
        lambda x: np.stack([np.diag(r, 1) for r in x]),
        [[(2, 3)]],
        every,
    )
    yield Case(
        "linalg.diag, three", lambda x: L.diag(x, k=(-1, 1)),
        lambda x: np.diag(x[0, 1:], 1) + np.diag(x[1]) + np.diag(x[2, :-1], -1), [[(3, 4)]], "iufc",
        own_sizes=True,
    )  # fmt: skip
    yield Case("linalg.diag_part", L.diag_part, _main, [[(3, 3)], [(2, 3, 4)], [(4, 2)], [(0, 3)]], every)
    yield Case(
        "linalg.diag_part, below", lambda x: L.diag_part(x, k=-1), lambda x: np.diagonal(x, -1, -2, -1),
        [[(3, 3)], [(2, 4, 3)]], every,
    )  # fmt: skip
    yield Case(
        "linalg.diag_part, three", lambda x: L.diag_part(x, k=(-1, 1)),
        lambda x: np.stack([np.append(0, np.diagonal(x, 1)), np.diagonal(x), np.append(np.diagonal(x, -1), 0)]),
        [[(4, 4)]], "iufc",
    )  # fmt: skip
    yield Case("linalg.set_diag", L.set_diag, _set, [[(3, 3), (3,)], [(2, 3, 4), (2, 3)], [(4, 2), (2,)]], every)
    yield Case(
        "linalg.tensor_diag",
        L.tensor_diag,
        lambda x: np.diag(x.reshape(-1)).reshape(x.shape * 2),
        [[(3,)], [(2, 3)]],
        every,
    )
    yield Case(
        "linalg.tensor_diag_part", L.tensor_diag_part, lambda x: np.einsum("ijij->ij", x), [[(2, 3, 2, 3)]], "iufc"
    )


def batched_diag(x: np.ndarray) -> np.ndarray:
    return (
        x[..., None] * np.eye(x.shape[-1], dtype=bool)
        if x.dtype != bool
        else x[..., None] & np.eye(x.shape[-1], dtype=bool)
    )


def _main(x: np.ndarray) -> np.ndarray:
    return np.diagonal(x, 0, -2, -1)


def _set(x: np.ndarray, d: np.ndarray) -> np.ndarray:
    y = x.copy()
    i = np.arange(d.shape[-1])
    y[..., i, i] = d
    return y


def _products() -> Iterator[Case]:
    threes = [[(3,), (3,)], [(2, 3), (2, 3)], [(4, 1, 3), (2, 3)], [(0, 3), (3,)]]
    yield Case("linalg.cross", L.cross, lambda a, b: np.cross(a, b), threes, "ifc", factor=10, own_sizes=True)
    yield Case(
        "linalg.kron",
        L.kron,
        np.kron,
        [[(2, 3), (3, 2)], [(2,), (3,)], [(2,), (2, 3)], [(1, 0), (2, 2)]],
        "iufc",
        factor=5,
    )
    yield Case(
        "linalg.vecdot",
        L.vecdot,
        lambda a, b: np.sum(np.conj(a) * b, -1),
        [[(3,), (3,)], [(2, 3), (4, 1, 3)]],
        "ifc",
        factor=10,
    )
    yield Case("linalg.outer", L.outer, np.outer, [[(3,), (2,)], [(0,), (2,)]], "iufc", factor=5)
    yield Case("linalg.adjoint", L.adjoint, h, [[(2, 3)], [(2, 3, 4)]], "iufc")
    yield Case(
        "linalg.normalize", lambda x: L.normalize(x, axis=-1)[0],
        lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
        [[(2, 3)], [(4,)]], "fc", factor=10,
    )  # fmt: skip


def _norms() -> Iterator[Case]:
    for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        yield Case(
            f"linalg.norm of matrices, {ord}", lambda x, o=ord: L.norm(up(x), o, axis=(-2, -1)),
            lambda x, o=ord: np.linalg.norm(x, o, axis=(-2, -1)), [[(3, 2)], [(2, 2, 3)]], "fc", factor=50,
        )  # fmt: skip
    for ord in (0, 0.5, 3, -1, -np.inf):
        yield Case(
            f"linalg.norm of vectors, {ord}", lambda x, o=ord: L.norm(x, o, axis=-1),
            lambda x, o=ord: np.linalg.norm(x, o, axis=-1), [[(3,)], [(2, 3)]], "f", ((0.5, 2.0),), ord != 0, factor=50,
        )  # fmt: skip
    yield Case(
        "linalg.matrix_norm", lambda x: L.matrix_norm(up(x), keepdims=True, ord=2),
        lambda x: np.linalg.norm(x, 2, (-2, -1), True), [[(3, 2)], [(2, 2, 3)]], "fc", factor=50,
    )  # fmt: skip
    yield Case(
        "linalg.vector_norm", L.vector_norm, lambda x: np.linalg.norm(x.reshape(-1)), [[(3, 2)]], "fc", factor=10
    )
