"""Workloads on arrays: calls of small functions, elementwise chains, rows, sums, with and without gradients."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer

rng = np.random.default_rng(0)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float64).astype(dtype)


# --- calls ----------------------------------------------------------------------------------------------------------
def dispatch(count: int, limit: float) -> Workload:
    """The call itself: so little work that only the way in and out counts."""
    data = [normal(8) for _ in range(count)]

    def total(m: Any, *xs: Any) -> Any:
        y = xs[0]
        for x in xs[1:]:
            y = y + x
        return y

    def make(peer: Peer) -> Call:
        arrays = [peer.array(a) for a in data]
        # partial instead of a lambda: its own cost is the least
        if peer.name == "numpy" and count == 2:
            return partial(np.add, *arrays)
        if peer.name == "jax":
            # without waiting for the result, which would be a second call
            return partial(peer.jax.jit(lambda *xs: total(None, *xs)), *arrays)  # type: ignore[attr-defined]
        if peer.name in ("tf", "tracejit"):
            return partial(peer.function(lambda *xs: total(None, *xs)), *arrays)  # type: ignore[attr-defined]
        return peer.forward(total, *arrays)

    title = f"call of a compiled function, {count} small arrays"
    return Workload(f"dispatch_{count}", title, Bar(f"≤ {limit} µs", limit), make)


def eager_add() -> Workload:
    """One operation outside any compiled function."""
    data = [normal(8) for _ in range(2)]

    def make(peer: Peer) -> Call | None:
        return None if peer.name == "torch.compile" else partial(operator.add, *map(peer.array, data))

    return Workload("eager_add", "a + b eagerly, 8 elements", Bar("≤ 2x numpy", 2.0, "numpy"), make)


# --- elementwise ----------------------------------------------------------------------------------------------------
def compute(n: int) -> Workload:
    """Two results with a common product."""
    data = [normal(n) for _ in range(3)]

    def f(m: Any, a: Any, b: Any, c: Any) -> Any:
        d = a * b + c
        e = a * b * c
        return d, e

    def make(peer: Peer) -> Call:
        return peer.forward(f, *map(peer.array, data))

    size = f"{n:.0e}".replace("e+0", "e")
    return Workload(f"compute_{size}", f"a*b + c and a*b*c, {size}, f32", Bar("< best", 1.0, "best"), make)


def black_scholes(dtype: str) -> Workload:
    n = 1_000_000
    data = [rng.uniform(lo, hi, n).astype(dtype) for lo, hi in ((50, 150), (50, 150), (0.1, 2.0))]
    rate, volatility = 0.02, 0.3

    def f(m: Any, spot: Any, strike: Any, years: Any) -> Any:
        deviation = volatility * m.sqrt(years)
        d1 = (m.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / deviation
        d2 = d1 - deviation
        discounted = strike * m.exp(-rate * years)
        below1, below2 = (0.5 + 0.5 * m.erf(d * 0.7071067811865476) for d in (d1, d2))
        call = spot * below1 - discounted * below2
        return call, call - spot + discounted

    def make(peer: Peer) -> Call | None:
        return peer.forward(f, *map(peer.array, data)) if hasattr(peer.m, "erf") else None

    short = dtype.replace("float", "f")
    return Workload(f"black_scholes_{short}", f"Black-Scholes, 1e6, {short}", Bar("≤ 0.7x best", 0.7, "best"), make)


def gelu() -> Workload:
    data = normal(4_000_000)

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return None
        return peer.gradient(lambda m, x: m.gelu(x), [0], None, peer.array(data))

    return Workload("gelu_grad", "GELU forward and gradient, 4e6, f32", Bar("≤ 0.7x best", 0.7, "best"), make)


def mathematics(function: str, dtype: str) -> Workload:
    """One function over a million numbers, most of them where it is neither flat nor extreme."""
    data = rng.uniform(0.01, 20, 1_000_000) if function == "log" else rng.uniform(-6, 6, 1_000_000)
    data = data.astype(dtype)

    def make(peer: Peer) -> Call | None:
        if not hasattr(peer.m, function):
            return None
        return peer.forward(lambda m, x: getattr(m, function)(x), peer.array(data))

    short = dtype.replace("float", "f")
    bar = Bar("≤ 1.0x best", 1.0, "best")
    return Workload(f"{function}_{short}", f"{function}, 1e6, {short}", bar, make, headline=False)


# --- rows -----------------------------------------------------------------------------------------------------------
def cross_entropy() -> Workload:
    logits, labels = normal(1024, 1000), rng.integers(0, 1000, 1024).astype(np.int32)

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return None
        arrays = peer.array(logits), peer.array(labels)
        return peer.gradient(lambda m, x, y: m.cross_entropy(x, y), [0], None, *arrays)

    title = "softmax + cross-entropy forward and gradient, (1024, 1000)"
    return Workload("cross_entropy_grad", title, Bar("≤ 0.6x best", 0.6, "best"), make)


def layer_norm() -> Workload:
    x, gamma, beta, cotangent = normal(2048, 768), normal(768), normal(768), normal(2048, 768)

    def make(peer: Peer) -> Call | None:
        if peer.name == "numpy":
            return None
        arrays = [peer.array(a) for a in (x, gamma, beta)]
        return peer.gradient(lambda m, *xs: m.layer_norm(*xs), [0, 1, 2], peer.array(cotangent), *arrays)

    title = "layer norm forward and gradients, (2048, 768)"
    return Workload("layer_norm_grad", title, Bar("≤ 0.6x best", 0.6, "best"), make)


def sums(axis: int | None) -> Workload:
    data = normal(4096, 4096)

    def make(peer: Peer) -> Call:
        return peer.forward(lambda m, x: m.sum(x, axis), peer.array(data))

    label = "all" if axis is None else f"axis {axis}"
    name = f"sum_{label.replace(' ', '')}"
    return Workload(name, f"sum over {label}, 4096x4096, f32", Bar("≤ 1.0x best", 1.0, "best"), make)


MAKERS = {
    "dispatch_2": lambda: dispatch(2, 0.5),
    "dispatch_20": lambda: dispatch(20, 1.0),
    "eager_add": eager_add,
    "compute_1e3": lambda: compute(1_000),
    "compute_1e5": lambda: compute(100_000),
    "compute_1e7": lambda: compute(10_000_000),
    "black_scholes_f32": lambda: black_scholes("float32"),
    "black_scholes_f64": lambda: black_scholes("float64"),
    "gelu_grad": gelu,
    "cross_entropy_grad": cross_entropy,
    "layer_norm_grad": layer_norm,
    "sum_axis0": lambda: sums(0),
    "sum_axis1": lambda: sums(1),
    "sum_all": lambda: sums(None),
    **{
        f"{f}_{d.replace('float', 'f')}": lambda f=f, d=d: mathematics(f, d)
        for d in ("float32", "float64")
        for f in ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos")
    },
}
