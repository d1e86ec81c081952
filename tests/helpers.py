"""What the tests share: tolerances, random arrays, gradients by central differences, work in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import tracejit as tj
from tracejit import tracing
from tracejit.ir.found import TELLERS, told_by
from tracejit.ir.graph import Graph
from tracejit.ir.types import DType, TensorType

TOLERANCE = {
    "float16": 2e-3,
    "bfloat16": 2e-2,
    "float32": 3e-6,
    "float64": 1e-12,
    "complex64": 3e-6,
    "complex128": 1e-12,
}


def tolerance(dtype: DType, factor: float = 1.0) -> float:
    return TOLERANCE.get(dtype.name, 0.0) * factor


def close(actual: Any, expected: Any, factor: float = 1.0, message: str = "") -> None:
    """Equal up to a few roundings of the actual value's dtype; integers and booleans exactly."""
    a = np.asarray(actual)
    d = tj.as_dtype(a.dtype)
    tol = tolerance(d, factor)
    wide = {"f": np.float64, "c": np.complex128}.get(d.kind)
    if wide is None:
        np.testing.assert_array_equal(a, expected, err_msg=message)
    else:
        e = np.asarray(expected).astype(wide)
        np.testing.assert_allclose(a.astype(wide), e, rtol=tol, atol=tol, err_msg=message)


def sample(rng: np.random.Generator, shape: Sequence[int], dtype: DType, domain: tuple[float, float]) -> np.ndarray:
    """Values in a domain; integers away from what their type cannot hold."""
    low, high = domain
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "u":
        low = max(low, 0)
    if dtype.kind in "iu":
        low, high = int(np.ceil(low)), int(np.floor(max(high, low + 1)))
        return rng.integers(low, high, shape, endpoint=True).astype(dtype.np)
    x = rng.uniform(low, high, shape)
    if dtype.kind == "c":
        return (x + 1j * rng.uniform(low, high, shape)).astype(dtype.np)
    return x.astype(dtype.np)


def gradients(f: Callable[..., Any], xs: Sequence[Any], seed: Any) -> list[np.ndarray]:
    """The gradient of sum(f(*xs) · seed) with respect to each x, by the tape; zeros where nothing leads to it."""
    ts = [tj.constant(x) for x in xs]
    with tj.GradientTape() as tape:
        tape.watch(ts)
        y = f(*ts)
    return [g.numpy() for g in tape.gradient(y, ts, output_gradients=seed, unconnected_gradients="zero")]


def numeric_gradients(
    f: Callable[..., Any], xs: Sequence[np.ndarray], seed: np.ndarray, h: float = 1e-6
) -> list[np.ndarray]:
    """The same by central differences in float64."""

    def value(args: Sequence[np.ndarray]) -> float:
        return float(np.sum(f(*[tj.constant(a) for a in args]).numpy() * seed))

    out = []
    for k, x in enumerate(xs):
        g = np.zeros(x.shape)
        for i in np.ndindex(*x.shape):
            ends = []
            for s in (h, -h):
                moved = x.copy()
                moved[i] += s
                ends.append(value([*xs[:k], moved, *xs[k + 1 :]]))
            g[i] = (ends[0] - ends[1]) / (2 * h)
        out.append(g)
    return out


def second_order(
    f: Callable[..., Any], xs: Sequence[np.ndarray], seed: np.ndarray, weights: Sequence[np.ndarray]
) -> Any:
    """The gradient of Σ weights · gradient, by two tapes."""
    ts = [tj.constant(x) for x in xs]
    with tj.GradientTape() as outer:
        outer.watch(ts)
        with tj.GradientTape() as inner:
            inner.watch(ts)
            y = f(*ts)
        g = inner.gradient(y, ts, output_gradients=seed, unconnected_gradients="zero")
    return [x.numpy() for x in outer.gradient(g, ts, output_gradients=list(weights), unconnected_gradients="zero")]


def numeric_second_order(
    f: Callable[..., Any], xs: Sequence[np.ndarray], seed: np.ndarray, weights: Sequence[np.ndarray], h: float = 1e-6
) -> list[np.ndarray]:
    """The same by central differences of the tape's gradient."""

    def value(args: Sequence[np.ndarray]) -> float:
        return float(sum(np.sum(g * w) for g, w in zip(gradients(f, args, seed), weights)))

    out = []
    for k, x in enumerate(xs):
        d = np.zeros(x.shape)
        for i in np.ndindex(*x.shape):
            ends = []
            for s in (h, -h):
                moved = x.copy()
                moved[i] += s
                ends.append(value([*xs[:k], moved, *xs[k + 1 :]]))
            d[i] = (ends[0] - ends[1]) / (2 * h)
        out.append(d)
    return out


def graph_of(f: Callable[..., Any], *types: TensorType) -> tuple[Graph, list[Any]]:
    """The graph of a function of tensors, and what it captured: the arguments that its last parameters take."""
    trace = tracing.Trace()
    y = tracing.run(trace, f, [trace.param(t) for t in types])
    graph = trace.builder.finish("graph", [t._a for t in (y if isinstance(y, (tuple, list)) else [y])])
    captured = [o if isinstance(o, tj.Tensor) else tj.tensor.wrap(o) for o, _ in trace.captures.values()]
    return graph, captured


def run_graph(graph: Graph, args: Sequence[Any], sizes: dict[str, int] | None = None) -> list[np.ndarray]:
    """The results of a graph with its symbolic sizes replaced, op by op; those that it finds out are learnt."""
    sizes = dict(sizes or {})
    env = dict(zip(graph.params, [tj.constant(a) for a in args], strict=True))
    for n in graph.nodes:
        if n.op.name == "constant":
            env[n.out] = tj.tensor.wrap(n.attr("value").numpy(sizes))
            continue
        finds = told_by(n)
        attrs = tuple([(k, v) for k, v in n.attrs if not finds or k != TELLERS[n.op.name]])
        y = n.op(*[env[v] for v in n.inputs], **tracing.at_sizes(attrs, sizes))
        env.update(zip(n.outs, y if type(y) is tuple else (y,), strict=True))
        sizes |= {str(d): k for o in n.outs for d, k in zip(o.shape, env[o].shape) if finds and str(d) in finds}
    return [env[r].numpy() for r in graph.results]


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """`work(0)`, `work(1)` … at once, each in a thread of its own. Fails if one raises or does not end."""
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            work(k)
        except BaseException as e:
            errors.append(e)

    running = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for t in running:
        t.start()
    for t in running:
        t.join(60)
        assert not t.is_alive()
    assert not errors


def central_differences(f: Callable[..., Any], xs: Sequence[np.ndarray], h: float = 1e-6) -> list[np.ndarray]:
    """Gradients of a scalar function of arrays by central differences."""
    out = []
    for k, x in enumerate(xs):
        g = np.zeros_like(x)
        for i in np.ndindex(*x.shape):
            ends = []
            for s in (h, -h):
                moved = x.copy()
                moved[i] += s
                ends.append(float(f(*[tj.constant(moved if j == k else y) for j, y in enumerate(xs)])))
            g[i] = (ends[0] - ends[1]) / (2 * h)
        out.append(g)
    return out


# --- traced functions beside the plain ones ---------------------------------------------------------------------------
def plain(x: Any) -> Any:
    """Tensors and nests of them as Python numbers and lists."""
    if isinstance(x, (list, tuple)):
        return [plain(y) for y in x]
    return np.asarray(x).tolist()


def outcome(f: Callable[..., Any], *args: Any) -> Any:
    """What a call gives, or the class of Python's own that its error is of."""
    try:
        return plain(f(*args))
    except Exception as e:
        return next(c for c in type(e).__mro__ if c.__module__ == "builtins")


def same(f: Callable[..., Any], *values: Any, strict: bool = True) -> None:
    """Whether the traced function does what the plain one does."""
    traced = tj.function(f, strict=strict)
    for v in values:
        assert outcome(traced, tj.constant(v)) == outcome(f, tj.constant(v)), v


def eager_and_traced() -> Iterator[bool]:
    """True while decorated functions run as plain Python, then False while they are traced."""
    for eager in (True, False):
        tj.config.run_functions_eagerly(eager)
        try:
            yield eager
        finally:
            tj.config.run_functions_eagerly(False)
