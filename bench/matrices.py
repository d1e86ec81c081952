"""Workloads on matrices: Cholesky factors, triangular and general systems, many small ones and one large one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer

rng = np.random.default_rng(0)


def functions(peer: Any) -> SimpleNamespace | None:
    """The framework's functions of matrices."""
    if peer.name == "jax":
        linalg, lax = peer.jnp.linalg, peer.jax.lax.linalg

        def lower(a: Any, b: Any, adjoint: bool = False) -> Any:
            return lax.triangular_solve(a, b, left_side=True, lower=True, transpose_a=adjoint)

        return SimpleNamespace(
            cholesky=linalg.cholesky, solve=linalg.solve, lower=lower,
            cholesky_solve=lambda c, b: lower(c, lower(c, b), adjoint=True),
        )  # fmt: skip
    if peer.name.startswith("torch"):
        torch = peer.torch
        return SimpleNamespace(
            cholesky=torch.linalg.cholesky, solve=torch.linalg.solve,
            lower=lambda a, b: torch.linalg.solve_triangular(a, b, upper=False),
            cholesky_solve=lambda c, b: torch.cholesky_solve(b, c),
        )  # fmt: skip
    if peer.name == "numpy":
        return SimpleNamespace(cholesky=np.linalg.cholesky, solve=np.linalg.solve)
    linalg = peer.tf.linalg
    return SimpleNamespace(
        cholesky=linalg.cholesky, solve=linalg.solve, lower=linalg.triangular_solve,
        cholesky_solve=linalg.cholesky_solve,
    )  # fmt: skip


def system(dtype: str, *shape: int) -> list[np.ndarray]:
    """Positive definite matrices, and a right side for each."""
    x = rng.standard_normal(shape)
    a = x @ np.swapaxes(x, -1, -2) / shape[-1] + np.eye(shape[-1])
    return [a.astype(dtype), rng.standard_normal((*shape[:-1], 1)).astype(dtype)]


def _factored(m: Any, a: Any, b: Any) -> Any:
    return m.cholesky_solve(m.cholesky(a), b)


def _factor(m: Any, a: Any, b: Any) -> Any:
    return m.cholesky(a)


def _solved(m: Any, a: Any, b: Any) -> Any:
    return m.solve(a, b)


def _lower(m: Any, a: Any, b: Any) -> Any:
    return m.lower(a, b)


def _work(name: str, title: str, f: Any, data: list[np.ndarray], gradient: bool = False) -> Workload:
    def make(peer: Peer) -> Call | None:
        m = functions(peer)
        if m is None or (peer.name == "numpy" and (gradient or f in (_factored, _lower))):
            return None
        arrays = [peer.array(a) for a in data]
        if gradient:
            return peer.gradient(lambda _, *xs: f(m, *xs), [0, 1], None, *arrays)
        return peer.forward(lambda _, *xs: f(m, *xs), *arrays)

    bar = Bar("≤ 1.0x best", 1.0, "best") if "512" in name else Bar("≤ 0.5x best", 0.5, "best")
    return Workload(name, title, bar, make, headline=False)


MANY, ONE = (64, 32, 32), (512, 512)
WORK = {
    "cholesky_many": ("Cholesky factors and solutions, 64 systems of 32, f32", _factored, "float32", MANY),
    "cholesky_512": ("Cholesky factor, 512x512, f32", _factor, "float32", ONE),
    "solve_many": ("solutions of 64 systems of 32, f32", _solved, "float32", MANY),
    "solve_512": ("solution of a system of 512, f64", _solved, "float64", ONE),
    "triangular_64": ("solution of a triangular system of 64, f32", _lower, "float32", (64, 64)),
    "cholesky_many_grad": ("the same as cholesky_many, forward and gradients", _factored, "float32", MANY),
}
MAKERS = {
    name: lambda name=name, title=title, f=f, dtype=dtype, shape=shape: _work(
        name, title, f, system(dtype, *shape), gradient=name.endswith("grad")
    )
    for name, (title, f, dtype, shape) in WORK.items()
}
