"""A corpus of functions with control flow, each written once for NumPy and tensors: how cases are declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], np.ndarray]


# --- inputs -----------------------------------------------------------------------------------------------------------
def real(low: float, high: float, *shape: int) -> Draw:
    return lambda rng: np.asarray(rng.uniform(low, high, shape))


def whole(low: int, high: int, *shape: int) -> Draw:
    """Integers, the upper end included."""
    return lambda rng: np.asarray(rng.integers(low, high, shape, endpoint=True), np.int32)


def vector(low: float, high: float, shortest: int, longest: int) -> Draw:
    """As many real numbers as the draw says: each call has a size of its own."""
    return lambda rng: rng.uniform(low, high, int(rng.integers(shortest, longest, endpoint=True)))


def truth() -> Draw:
    return lambda rng: np.asarray(rng.random() < 0.5)


# --- cases ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A function `f(m, *inputs)`, where `m` is tracejit or `Plain`.

    `smooth`: its gradients agree with central differences. `promotes`: its results' dtypes depend on the path when it
    runs as Python, and are their promotion when it is traced. `single`: it runs with float32 throughout. `python`: it
    cannot be converted, and runs as Python with a warning.
    """

    name: str
    f: Callable[..., Any]
    inputs: tuple[Draw, ...]
    draws: int
    smooth: bool
    single: bool
    promotes: bool
    python: bool

    def draw(self, k: int) -> list[np.ndarray]:
        rng = np.random.default_rng([k, len(self.name)])
        return [make(rng) for make in self.inputs]


CASES: dict[str, Case] = {}


def case(
    *inputs: Draw, draws: int = 6, smooth: bool = False, single: bool = True, promotes: bool = False,
    python: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def declare(f: Callable[..., Any]) -> Callable[..., Any]:
        name = f.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, f, inputs, draws, smooth, single, promotes, python)
        return f

    return declare


# --- tracejit's names for NumPy ---------------------------------------------------------------------------------------
class PlainArray:
    """What `TensorArray` means for arrays."""

    def __init__(self, dtype: Any, size: int = 0, dynamic_size: bool = False, clear_after_read: bool = True) -> None:
        self.dtype, self.items = np.dtype(dtype), [None] * int(size)

    def write(self, i: int, x: Any) -> PlainArray:
        while len(self.items) <= i:
            self.items.append(None)
        self.items[int(i)] = x
        return self

    def read(self, i: int) -> Any:
        return self.items[int(i)]

    def size(self) -> np.int32:
        return np.int32(len(self.items))

    def stack(self) -> np.ndarray:
        return np.stack(self.items) if self.items else np.zeros((0,), self.dtype)


def _reduction(f: Callable[..., Any]) -> Any:
    def reduce(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        a = np.asarray(x)
        dtype = {} if a.dtype.kind == "b" or f in (np.max, np.min) else {"dtype": a.dtype}
        return f(a, axis=axis, keepdims=keepdims, **dtype)[()]

    return staticmethod(reduce)


class Plain:
    """The functions of tracejit that the corpus uses, done by NumPy."""

    float32, float64, int32, int64, bool = np.float32, np.float64, np.int32, np.int64, np.bool_
    TensorArray = PlainArray
    reduce_sum, reduce_mean, reduce_prod = _reduction(np.sum), _reduction(np.mean), _reduction(np.prod)
    reduce_max, reduce_min = _reduction(np.max), _reduction(np.min)
    reduce_any, reduce_all = _reduction(np.any), _reduction(np.all)
    transpose, reshape, eye = staticmethod(np.transpose), staticmethod(np.reshape), staticmethod(np.eye)
    logical_and, logical_or, logical_not = map(staticmethod, (np.logical_and, np.logical_or, np.logical_not))
    equal, not_equal = staticmethod(np.equal), staticmethod(np.not_equal)

    exp, sin, cos, sqrt, abs, tanh = map(staticmethod, (np.exp, np.sin, np.cos, np.sqrt, np.abs, np.tanh))
    square, floor, maximum, minimum = map(staticmethod, (np.square, np.floor, np.maximum, np.minimum))
    where, zeros_like, ones_like = map(staticmethod, (np.where, np.zeros_like, np.ones_like))
    concat, roll = staticmethod(np.concatenate), staticmethod(np.roll)

    @staticmethod
    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    @staticmethod
    def stack(xs: Sequence[Any], axis: int = 0) -> np.ndarray:
        return np.stack(list(xs), axis)

    @staticmethod
    def zeros(shape: Any, dtype: Any = np.float32) -> np.ndarray:
        return np.zeros(shape, dtype)

    @staticmethod
    def ones(shape: Any, dtype: Any = np.float32) -> np.ndarray:
        return np.ones(shape, dtype)

    @staticmethod
    def constant(x: Any, dtype: Any = None) -> Any:
        return np.asarray(x, dtype)[()]

    @staticmethod
    def range(*bounds: Any) -> np.ndarray:
        return np.arange(*bounds, dtype=np.int32)

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        return np.asarray(x).astype(dtype)[()]

    @staticmethod
    def argmax(x: Any, axis: int = 0) -> Any:
        return np.argmax(x, axis)
