"""NumPy kernels of decompositions, systems of equations and functions of matrices: LAPACK's through numpy.linalg, ours.

Each is complete in itself, so that generated source can hold its text. Leading axes are batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def explained(kernel: Any, words: str) -> Any:
    """The kernel, whose refusals say which matrix of a batch it was, and what is wrong with it."""

    def run(a: np.ndarray, *more: Any, **attrs: Any) -> Any:
        try:
            return kernel(a, *more, **attrs)
        except np.linalg.LinAlgError as e:
            if a.ndim < 2 or "quare" in str(e):
                raise
            raise np.linalg.LinAlgError(_refusal(kernel, a, more, attrs, words)) from None

    return run


def _refusal(kernel: Any, a: np.ndarray, more: tuple, attrs: dict[str, Any], words: str) -> str:
    for i in np.ndindex(*a.shape[:-2]):
        where = f"matrix {list(i)} of the batch" if i else "the matrix"
        if not np.isfinite(a[i]).all():
            return f"{where} holds NaN or infinity"
        try:
            kernel(a[i], *[np.zeros((a.shape[-1], 1), a.dtype) for _ in more], **attrs)
        except np.linalg.LinAlgError:
            return f"{where} {words}"
    return f"a matrix {words}"


# --- decompositions ---------------------------------------------------------------------------------------------------
def qr(a: np.ndarray, *, full: bool, rank: object) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.linalg.qr(a, "complete" if full else "reduced"))  # type: ignore[return-value]


def svd(a: np.ndarray, *, full: bool, vectors: bool, rank: object) -> object:
    if not vectors:
        return np.linalg.svd(a, compute_uv=False)
    u, s, vh = np.linalg.svd(a, full)
    v = np.swapaxes(vh, -1, -2)
    return s, u, np.conj(v) if a.dtype.kind == "c" else v


def eigh(a: np.ndarray, *, vectors: bool) -> object:
    return tuple(np.linalg.eigh(a)) if vectors else np.linalg.eigvalsh(a)


def eig(a: np.ndarray, *, vectors: bool) -> object:
    d = np.complex64 if a.dtype.itemsize == (8 if a.dtype.kind == "c" else 4) else np.complex128
    if not vectors:
        return np.linalg.eigvals(a).astype(d)
    e, v = np.linalg.eig(a)
    return e.astype(d), v.astype(d)


def lu(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors in one matrix and the rows' order: elimination with partial pivoting, 32 columns at once."""
    n, lead = a.shape[-1], a.shape[:-2]
    f = a.reshape(int(np.prod(lead)), n, n).copy()
    order = np.broadcast_to(np.arange(n, dtype=np.int32), (len(f), n)).copy()
    each = np.arange(len(f))
    for start in range(0, n, 32):
        end = min(start + 32, n)
        for k in range(start, end):
            at = k + np.argmax(np.abs(f[:, k:, k]), -1)
            f[each, k], f[each, at] = f[each, at], f[each, k]
            order[each, k], order[each, at] = order[each, at], order[each, k]
            if (f[:, k, k] == 0).any():
                raise np.linalg.LinAlgError(f"is singular: pivot {k} is 0")
            f[:, k + 1 :, k] /= f[:, k : k + 1, k]
            f[:, k + 1 :, k + 1 : end] -= f[:, k + 1 :, k : k + 1] * f[:, k : k + 1, k + 1 : end]
        for k in range(start + 1, end):
            f[:, k : k + 1, end:] -= f[:, k : k + 1, start:k] @ f[:, start:k, end:]
        f[:, end:, end:] -= f[:, end:, start:end] @ f[:, start:end, end:]
    return f.reshape(a.shape), order.reshape((*lead, n))


# --- equations --------------------------------------------------------------------------------------------------------
def triangular_solve(a: np.ndarray, b: np.ndarray, *, lower: bool, adjoint: bool) -> np.ndarray:
    """Blocks of 64 unknowns at once, from the last.

    A block is LAPACK's general system. An upper triangular matrix is its own LU factorization without exchanges, so
    that nothing but the substitution is left; a lower one is upper triangular when it is read backwards.
    """
    n = a.shape[-1]
    k = np.arange(n)
    t = np.where(k[:, None] >= k if lower else k[:, None] <= k, a, a.dtype.type(0))
    if not t.diagonal(0, -2, -1).all():
        raise np.linalg.LinAlgError("the diagonal has a zero")
    if adjoint:
        t = t.swapaxes(-1, -2)
        t = t.conj() if t.dtype.kind == "c" else t
    back = lower != adjoint
    if back:
        t, b = t[..., ::-1, ::-1], b[..., ::-1, :]
    if n <= 64:
        x = np.linalg.solve(t, b)
    else:
        x = np.empty((*np.broadcast_shapes(t.shape[:-2], b.shape[:-2]), n, b.shape[-1]), b.dtype)
        for end in range(n, 0, -64):
            start = max(end - 64, 0)
            rest = b[..., start:end, :] - t[..., start:end, end:] @ x[..., end:, :]
            x[..., start:end, :] = np.linalg.solve(t[..., start:end, start:end], rest)
    return x[..., ::-1, :] if back else x


def one_tridiagonal(d: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One system in Python's numbers, which for single elements are many times as fast as arrays."""
    above, main, below = d.tolist()
    columns = b.T.tolist()
    n = len(main)
    second = [0.0] * n
    for i in range(n - 1):
        j, low = i + 1, below[i + 1]
        if abs(low) > abs(main[i]):
            r, after = main[i] / low, above[j] if j + 1 < n else 0.0
            main[i], main[j], above[i], above[j], second[i] = low, above[i] - r * main[j], main[j], -r * after, after
            for c in columns:
                c[i], c[j] = c[j], c[i] - r * c[j]
            continue
        if main[i] == 0:
            raise np.linalg.LinAlgError(f"is singular: pivot {i} is 0")
        r = low / main[i]
        main[j] -= r * above[i]
        for c in columns:
            c[j] -= r * c[i]
    if main[-1] == 0:
        raise np.linalg.LinAlgError(f"is singular: pivot {n - 1} is 0")
    for c in columns:
        c[-1] /= main[-1]
        if n > 1:
            c[-2] = (c[-2] - above[-2] * c[-1]) / main[-2]
        for i in range(n - 3, -1, -1):
            c[i] = (c[i] - above[i] * c[i + 1] - second[i] * c[i + 2]) / main[i]
    return np.array(columns, b.dtype).reshape(len(columns), n).T


def tridiagonal_solve(d: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Elimination with partial pivoting: d holds the diagonals above, on and below the main one, as TensorFlow does.

    Few small systems are solved as full ones and few large ones number by number, which takes less time than steps of
    arrays in Python.
    """
    n = d.shape[-1]
    lead = np.broadcast_shapes(d.shape[:-2], b.shape[:-2])
    if n > 64 and np.prod(lead) * (2 + b.shape[-1]) <= 100:
        count = int(np.prod(lead))
        systems = np.broadcast_to(d, (*lead, 3, n)).reshape(count, 3, n)
        sides = np.broadcast_to(b, (*lead, n, b.shape[-1])).reshape(count, n, b.shape[-1])
        solved = [one_tridiagonal(s, x) for s, x in zip(systems, sides, strict=True)]
        return np.array(solved, b.dtype).reshape(*lead, n, b.shape[-1])
    if np.prod(lead) * n * n <= 200_000:
        full, at = np.zeros((*d.shape[:-2], n, n), d.dtype), np.arange(n)
        full[..., at, at] = d[..., 1, :]
        full[..., at[:-1], at[1:]], full[..., at[1:], at[:-1]] = d[..., 0, :-1], d[..., 2, 1:]
        return np.linalg.solve(full, b)
    # the unknowns in front: row by row, over all systems and right sides at once
    above, main, below = (np.moveaxis(np.broadcast_to(d, (*lead, 3, n)), (-2, -1), (0, 1))[i].copy() for i in range(3))
    x = np.moveaxis(np.broadcast_to(b, (*lead, n, b.shape[-1])), (-2, -1), (0, -1)).copy()
    second = np.zeros_like(above)
    for i in range(n - 1):
        exchange = np.abs(below[i + 1]) > np.abs(main[i])
        u0, u1, low = main[i], above[i], below[i + 1]
        l1, l2 = main[i + 1], above[i + 1] if i + 2 < n else np.zeros_like(low)
        p0, p1, p2 = np.where(exchange, low, u0), np.where(exchange, l1, u1), np.where(exchange, l2, 0)
        q0, q1, q2 = np.where(exchange, u0, low), np.where(exchange, u1, l1), np.where(exchange, 0, l2)
        if (p0 == 0).any():
            raise np.linalg.LinAlgError(f"is singular: pivot {i} is 0")
        r = q0 / p0
        main[i], above[i], second[i] = p0, p1, p2
        main[i + 1] = q1 - r * p1
        if i + 2 < n:
            above[i + 1] = q2 - r * p2
        top = np.where(exchange[..., None], x[i + 1], x[i])
        x[i + 1] = np.where(exchange[..., None], x[i], x[i + 1]) - r[..., None] * top
        x[i] = top
    if n and (main[n - 1] == 0).any():
        raise np.linalg.LinAlgError(f"is singular: pivot {n - 1} is 0")
    for i in range(n - 1, -1, -1):
        if i + 1 < n:
            x[i] -= above[i][..., None] * x[i + 1]
        if i + 2 < n:
            x[i] -= second[i][..., None] * x[i + 2]
        x[i] /= main[i][..., None]
    return np.ascontiguousarray(np.moveaxis(x, 0, -2))


def adjugate(a: np.ndarray) -> np.ndarray:
    """det(a) · a⁻¹, which singular matrices have too: from the singular values, products that leave one out."""
    try:
        inverse = np.linalg.inv(a)
        size = np.max(np.sum(np.abs(a), -2), -1, initial=0) * np.max(np.sum(np.abs(inverse), -2), -1, initial=0)
        if (size < 1e4).all():
            return np.linalg.det(a)[..., None, None] * inverse
    except np.linalg.LinAlgError:
        pass
    u, s, vh = np.linalg.svd(a)
    others = np.prod(np.where(np.eye(s.shape[-1], dtype=bool), s.dtype.type(1), s[..., None, :]), -1)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    y = np.conj(np.swapaxes(vh, -1, -2)) @ (others[..., :, None] * np.conj(np.swapaxes(u, -1, -2)))
    return (sign[..., None, None] * y).astype(a.dtype)


def pinv(a: np.ndarray, rcond: np.ndarray) -> np.ndarray:
    if not a.size:
        return np.empty((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    large = s > np.asarray(rcond)[..., None] * np.max(s, -1, keepdims=True)
    r = np.where(large, 1 / np.where(large, s, 1), 0).astype(s.dtype)
    return np.conj(np.swapaxes(vh, -1, -2)) @ (r[..., :, None] * np.conj(np.swapaxes(u, -1, -2)))


# --- functions of matrices --------------------------------------------------------------------------------------------
def expm(a: np.ndarray) -> np.ndarray:
    """Scaling and squaring around a Padé approximant (N. J. Higham, SIAM J. Matrix Anal. Appl. 26, 2005)."""
    if not a.size:
        return a.copy()
    norm = np.max(np.sum(np.abs(a), -2), -1)
    single = norm.dtype == np.float32
    wide = np.where(np.isfinite(norm), norm / (3.925724783138660 if single else 5.371920351148152), 1)
    s = np.clip(np.ceil(np.log2(np.maximum(wide, 1))), 0, 1000).astype(np.int64)
    x = a * np.ldexp(norm.dtype.type(1), -s)[..., None, None].astype(norm.dtype)
    one, x2 = np.eye(a.shape[-1], dtype=a.dtype), x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    if single:
        u = x @ (x6 + 1512.0 * x4 + 277200.0 * x2 + 8648640.0 * one)
        v = 56.0 * x6 + 25200.0 * x4 + 1995840.0 * x2 + 17297280.0 * one
    else:
        u = x6 @ (x6 + 16380.0 * x4 + 40840800.0 * x2)
        u = x @ (u + 33522128640.0 * x6 + 10559470521600.0 * x4 + 1187353796428800.0 * x2 + 32382376266240000.0 * one)
        v = x6 @ (182.0 * x6 + 960960.0 * x4 + 1323241920.0 * x2)
        v = v + 670442572800.0 * x6 + 129060195264000.0 * x4 + 7771770303897600.0 * x2 + 64764752532480000.0 * one
    y = np.linalg.solve(v - u, v + u)
    for k in range(int(s.max())):
        y = np.where((s > k)[..., None, None], y @ y, y)
    return y.astype(a.dtype)


def principal_root(x: np.ndarray) -> np.ndarray | None:
    """The square root with eigenvalues in the right half-plane, None where there is none: the product form of the
    Denman–Beavers iteration, scaled (N. J. Higham, Functions of Matrices, 2008, section 6.3).
    """
    n, y, m, one = len(x), x, x, np.eye(len(x))
    for _ in range(60):
        sign, log = np.linalg.slogdet(m)
        away, scale = np.max(np.abs(m - one)), np.exp(-log / (2 * n))
        if sign == 0 or not 0 < scale < np.inf:
            return None
        scale = 1.0 if away < 0.01 else scale
        inverse = np.linalg.inv(m) / scale**2
        y = 0.5 * scale * (y @ (one + inverse))
        m = 0.5 * (one + 0.5 * (scale**2 * m + inverse))
        if away < 1e-7:
            return y
    return None


def by_eigenvalues(f: np.ufunc, x: np.ndarray) -> np.ndarray:
    """A function of a matrix from that of its eigenvalues; NaN where a real one would not be real."""
    if np.array_equal(x, np.conj(x.T)):
        e, v = np.linalg.eigh(x)
        e[np.abs(e) <= len(e) * 1e-16 * np.max(np.abs(e))] = 0
        w = np.conj(v.T)
    else:
        e, v = np.linalg.eig(x)
        w = np.linalg.pinv(v)
    below = ((np.imag(e) == 0) & (np.real(e) < 0)).any() and x.dtype.kind != "c"
    far = np.max(np.abs((v * e) @ w - x)) > 1e-6 * np.max(np.abs(x))  # there are not enough eigenvectors
    if below or far:
        return np.full_like(x, np.nan)
    y = (v * f(e.astype(complex))) @ w
    return y if x.dtype.kind == "c" else np.real(y)


def sqrtm(a: np.ndarray) -> np.ndarray:
    """Each by itself: Hermitian ones by their eigenvalues, and those for which the iteration ends nowhere."""
    wide = a.astype(complex if a.dtype.kind == "c" else float)
    out = np.empty_like(a)
    for i in np.ndindex(*a.shape[:-2] if a.size else (0,)):
        x = wide[i]
        y = None
        if not np.isfinite(x).all():
            out[i] = np.nan
            continue
        if not np.array_equal(x, np.conj(x.T)):
            y = principal_root(x)
        out[i] = by_eigenvalues(np.sqrt, x) if y is None else y
    return out


def logm(a: np.ndarray) -> np.ndarray:
    """Each by itself: Hermitian ones by their eigenvalues; of others square roots are taken until they are near one,
    whose logarithm is a sum of fractions (N. J. Higham, Functions of Matrices, 2008, sections 11.4 and 11.5).
    """
    wide = a.astype(complex if a.dtype.kind == "c" else float)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    out = np.empty_like(a)
    for i in np.ndindex(*a.shape[:-2] if a.size else (0,)):
        x, one, k = wide[i], np.eye(a.shape[-1]), 0
        if not np.isfinite(x).all():
            out[i] = np.nan
            continue
        root = None if np.array_equal(x, np.conj(x.T)) else x
        while root is not None and np.linalg.norm(root - one, 1) > 0.25:
            root, k = principal_root(root), k + 1
        if root is None:
            out[i] = by_eigenvalues(np.log, x)
            continue
        e = root - one
        terms = [0.5 * w * np.linalg.solve(one + 0.5 * (1 + t) * e, e) for t, w in zip(nodes, weights, strict=True)]
        out[i] = 2.0**k * np.sum(terms, 0)
    return out
