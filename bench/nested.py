"""Loops within loops over the elements of arrays, as textbooks write them; Numba is the second yardstick."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, pick

# TensorFlow and PyTorch are left out: TensorFlow has no assignment to elements of tensors, and PyTorch keeps such
# loops in Python, microseconds a step.
LETTERS, GRID, SWEEPS = 800, 200, 20


# --- edit distance ----------------------------------------------------------------------------------------------------
def edit_loops(span: Any) -> Any:
    """Python as tracejit and Numba compile it, with their `range`."""

    def f(a: Any, b: Any, d: Any) -> Any:
        n, m = a.shape[0], b.shape[0]
        for i in span(n + 1):
            d[i, 0] = i
        for j in span(m + 1):
            d[0, j] = j
        for i in span(1, n + 1):
            for j in span(1, m + 1):
                c = 0 if a[i - 1] == b[j - 1] else 1
                d[i, j] = min(min(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + c)
        return d[n, m]

    return f


def edit_jax(jax: Any) -> Any:
    np_ = jax.numpy

    def f(a: Any, b: Any, d: Any) -> Any:
        n, m = a.shape[0], b.shape[0]
        d = d.at[:, 0].set(np_.arange(n + 1, dtype=np_.int32)).at[0, :].set(np_.arange(m + 1, dtype=np_.int32))

        def cell(i: Any, j: Any, d: Any) -> Any:
            c = np_.where(a[i - 1] == b[j - 1], 0, 1)
            best = np_.minimum(np_.minimum(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + c)
            return d.at[i, j].set(best)

        def row(i: Any, d: Any) -> Any:
            return jax.lax.fori_loop(1, m + 1, lambda j, d: cell(i, j, d), d)

        return jax.lax.fori_loop(1, n + 1, row, d)[n, m]

    return f


# --- Gauss-Seidel -----------------------------------------------------------------------------------------------------
def sweeps(span: Any) -> Any:
    def f(u: Any, g: Any) -> Any:
        n, m = u.shape
        for _ in span(SWEEPS):
            for i in span(1, n - 1):
                for j in span(1, m - 1):
                    u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - g[i, j])
        return u

    return f


def sweeps_jax(jax: Any) -> Any:
    def f(u: Any, g: Any) -> Any:
        n, m = u.shape

        def cell(i: Any, j: Any, u: Any) -> Any:
            return u.at[i, j].set(0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - g[i, j]))

        def row(i: Any, u: Any) -> Any:
            return jax.lax.fori_loop(1, m - 1, lambda j, u: cell(i, j, u), u)

        return jax.lax.fori_loop(0, SWEEPS, lambda _, u: jax.lax.fori_loop(1, n - 1, row, u), u)

    return f


# --- in common --------------------------------------------------------------------------------------------------------
def _workload(name: str, title: str, loops: Any, by_jax: Any, *given: np.ndarray) -> Workload:
    """Loops over the elements of arrays. Numba changes those that it is given, so it gets copies."""

    def of_tracejit(peer: Any, *given: np.ndarray) -> Call:
        f, arrays = peer.function(loops(peer.tf.range)), [peer.array(a) for a in given]
        return lambda: f(*arrays)

    def of_jax(peer: Any, *given: np.ndarray) -> Call:
        f, arrays = peer.jax.jit(by_jax(peer.jax)), [peer.array(a) for a in given]
        return lambda: peer.jax.block_until_ready(f(*arrays))

    def of_numba() -> Call:
        import numba

        f = numba.njit(loops(range))
        return lambda: f(*[a.copy() for a in given])

    makers = {"tracejit": of_tracejit, "jax": of_jax}
    bar = Bar("≤ 1.0x best", 1.0, "best")
    headline = name == "edit_distance"
    return Workload(name, title, bar, pick(makers, *given), yardsticks={"numba": of_numba}, headline=headline)


def edit() -> Workload:
    rng = np.random.default_rng(11)
    words = [rng.integers(0, 4, LETTERS).astype(np.int32) for _ in range(2)]
    table = np.zeros((LETTERS + 1, LETTERS + 1), np.int32)
    title = f"edit distance of words of {LETTERS} letters, by elements"
    return _workload("edit_distance", title, edit_loops, edit_jax, *words, table)


def seidel() -> Workload:
    rng = np.random.default_rng(13)
    u, g = rng.standard_normal((GRID, GRID)), rng.standard_normal((GRID, GRID))
    return _workload("gauss_seidel", f"Gauss-Seidel {GRID}x{GRID}, {SWEEPS} sweeps, f64", sweeps, sweeps_jax, u, g)


MAKERS = {"edit_distance": edit, "gauss_seidel": seidel}
