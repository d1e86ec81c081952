"""How fast a function runs eagerly and traced, and whether both give the same."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.errors import ArgumentError, TracejitError, without_frames
from tracejit.function import Function, function
from tracejit.tensor import Tensor, Variable

# How far eager and traced may differ, by bits of the real part: fusion reorders sums and contracts a*b+c.
_TOLERANCE = {8: (5e-2, 5e-2), 16: (2e-2, 2e-2), 32: (2e-4, 2e-5), 64: (1e-9, 1e-10)}


class ResultsDiffer(TracejitError, AssertionError):
    """Eager and traced execution of one function gave different results: the traced one cannot be trusted."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one value for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.rounds))

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.rounds, (25, 75))
        return float(low), float(high)


@dataclass(frozen=True)
class BenchmarkResult:
    """What `benchmark` measured; print it."""

    name: str
    eager: Timing
    traced: Timing
    difference: float
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        return self.eager.median / self.traced.median

    def __str__(self) -> str:
        lines = [f"{self.name}: eager against traced, {len(self.eager.rounds)} rounds", _HEAD]
        for label, timing in (("eager", self.eager), ("traced", self.traced)):
            low, high = map(show, timing.quartiles)
            lines.append(f"  {label:<8}{show(timing.median):>12}{low:>12} .. {high:<10}{show(timing.best):>12}")
        lines.append(f"  {self.speedup:.2f}x as fast traced; results equal (largest difference {self.difference:.1e})")
        if "trace_ms" in self.stats:
            lines.append("  traced in {trace_ms:.1f} ms, compiled in {compile_ms:.1f} ms".format(**self.stats))
        if "kernels" in self.stats:
            n, unfused = self.stats["kernels"], self.stats["kernels_unfused"]
            lines.append(f"  {n} kernel{'s' * (n != 1)}, {unfused} before fusion")
        return "\n".join(lines)


_HEAD = f"  {'':<8}{'median':>12}{'quartiles':>20}{'best':>18}"


def show(seconds: float) -> str:
    """A duration in the unit that reads best."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.4g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


@without_frames
def benchmark(
    fn: Callable[..., Any], *args: Any, repeat: int = 20, min_time: float = 2e-3, name: str | None = None, **kwargs: Any
) -> BenchmarkResult:
    """Time `fn(*args, **kwargs)` eagerly and traced, in turns, after checking that both give the same.

    `fn` is a Python function or one made by `@function`. In each of `repeat` rounds both are called often enough to
    fill `min_time` seconds. Variables that the function reads or assigns start every round with the values that they
    have now, and have them again afterwards.
    """
    if repeat < 1:
        raise ArgumentError(f"benchmark needs at least one round, got repeat={repeat}")
    traced = fn if isinstance(fn, Function) else function(fn)
    eager = traced.python_function
    label = str(name or getattr(eager, "__name__", repr(eager)))
    variables = _variables(traced, args, kwargs)
    before = [np.array(v.numpy()) for v in variables]

    def restore() -> None:
        for variable, value in zip(variables, before):
            variable.assign(value)

    def once(call: Callable[..., Any]) -> list[np.ndarray]:
        restore()
        out = _arrays(call(*args, **kwargs))
        return out + [np.array(v.numpy()) for v in variables]

    try:
        difference = _compare(label, once(eager), once(traced))
        calls = [_calls(partial(call, *args, **kwargs), min_time, restore) for call in (eager, traced)]
        rounds: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeat):
            for call, n, times in zip((eager, traced), calls, rounds):
                restore()
                times.append(_time(call, args, kwargs, n))
    finally:
        restore()
    return BenchmarkResult(label, Timing(tuple(rounds[0])), Timing(tuple(rounds[1])), difference, traced.stats())


def _variables(traced: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Variable]:
    """Every Variable that the function touches: its captures, and those among its arguments."""
    found = list(traced.get_concrete_function(*args, **kwargs).variables)
    found += [leaf for leaf in tree.flatten((args, kwargs))[0] if isinstance(leaf, Variable)]
    return list({id(v): v for v in found}.values())


def _arrays(result: Any) -> list[np.ndarray]:
    """The numeric leaves of a result, copied: a later call may write into the same buffers."""
    numeric = (Tensor, Variable, np.ndarray, int, float, complex)
    return [np.array(x) for x in tree.flatten(result)[0] if isinstance(x, numeric)]


def _compare(name: str, eager: Iterable[np.ndarray], traced: Iterable[np.ndarray]) -> float:
    """The largest difference, relative to the larger of 1 and the value; raises if it is more than rounding."""
    worst = 0.0
    for i, (a, b) in enumerate(zip(eager, traced, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ResultsDiffer(f"{name}: result {i} is {a.dtype}{a.shape} eagerly but {b.dtype}{b.shape} traced")
        rtol, atol = _tolerance(a.dtype)
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        x, y = a.astype(wide), b.astype(wide)
        if not np.allclose(x, y, rtol=rtol, atol=atol * max(1.0, _largest(x)), equal_nan=True):
            raise ResultsDiffer(
                f"{name}: result {i} ({a.dtype}{a.shape}) differs by up to {_difference(x, y):.3g}",
                remedy="look at fn.explain(...); a function that draws random numbers must set its seed itself",
            )
        worst = max(worst, _difference(x, y))
    return worst


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    return _largest((x - y) / np.maximum(1.0, np.abs(x)))


def _tolerance(dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind in "biu":
        return 0.0, 0.0
    return _TOLERANCE[dtype.itemsize * 8 // (2 if dtype.kind == "c" else 1)]


def _largest(x: np.ndarray) -> float:
    magnitude = np.abs(x[np.isfinite(x)])
    return float(magnitude.max()) if magnitude.size else 0.0


def _calls(call: Callable[[], Any], min_time: float, restore: Callable[[], None]) -> int:
    """How many calls fill `min_time`, found by doubling."""
    n = 1
    while True:
        restore()
        spent = _time(call, (), {}, n) * n
        if spent >= min_time or n >= 1 << 20:
            return max(1, math.ceil(n * min(1.0, min_time / spent)))
        n *= 2


def _time(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], n: int) -> float:
    """Seconds per call over `n` calls, without the garbage collector."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(n):
            call(*args, **kwargs)
        return (time.perf_counter() - start) / n
    finally:
        if collecting:
            gc.enable()
