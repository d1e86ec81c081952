"""Random tensors as functions of a key, the number of the draw and the position of the element.

A draw does not depend on how it is computed: eagerly or traced, fused or not, with any number of threads it is the
same. Element i of a draw takes its bits from Philox under (key, draw number) at counter i.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import ArgumentError, DTypeError, locate
from tracejit.ir.sizes import product
from tracejit.ir.types import DType, as_dtype, float32, float64, int64, uint64
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, as_whole_sizes, floating, operand, require, shown_value
from tracejit.ops.creation import counter
from tracejit.ops.gauss import normal64, quantile64
from tracejit.ops.philox import philox32, philox64
from tracejit.tensor import Operand, Tensor, Variable, common_dtype, quietly, wrap
from tracejit.tracing import streams

Source = tuple[Any, Any]  # a key and the number of the draw, 0-d uint64 tensors


# --- bits to numbers --------------------------------------------------------------------------------------------------
def _positions(shape: tuple[Size, ...]) -> Tensor:
    return counter(product(shape), dtype=uint64)


def _unit(source: Source, n: Tensor, d: DType) -> Tensor:
    """Multiples of 2⁻²⁴ (2⁻⁵³ for float64) in [0, 1); every bit of a narrower float's significand is random."""
    if d is float64:
        return E.mul(E.cast(E.shift_right(philox64(n, *source), 11), dtype=d), 2.0**-53)
    digits = {"float32": 24, "float16": 11, "bfloat16": 8}[d.name]
    bits = E.shift_right(philox32(n, *source), 32 - digits)
    return E.cast(E.mul(E.cast(bits, dtype=float32), 2.0**-digits), dtype=d)


def _integers(source: Source, n: Tensor, low: Any, high: Any, d: DType) -> Tensor:
    """Integers from low up to but without high. The remainder of 64 bits: no value is favoured by more than
    (high − low) / 2⁶⁴.
    """
    span = E.cast(
        E.sub(operand(high, int64 if d is not uint64 else d), operand(low, int64 if d is not uint64 else d)),
        dtype=uint64,
    )
    r = E.floormod(philox64(n, *source), span)
    return E.cast(E.add(E.cast(r, dtype=d), operand(low, d)), dtype=d)


def _normal(source: Source, n: Tensor, d: DType) -> Tensor:
    """Box and Muller's pairs: elements 2j and 2j + 1 are the cosine and the sine of one angle with one radius.

    Computed in float64 so that rounding to a narrower type gives one result on every backend.
    """
    pair, odd = E.shift_right(n, 1), E.bit_and(n, 1)
    if d is float64:
        first = philox64(E.shift_left(pair, 1), *source)
        second = philox64(E.add(E.shift_left(pair, 1), 1), *source)
        u1 = E.mul(E.add(E.cast(E.shift_right(first, 11), dtype=d), 0.5), 2.0**-53)
        u2 = E.mul(E.cast(E.shift_right(second, 11), dtype=d), 2.0**-53)
    else:
        bits = philox64(pair, *source)
        u1 = E.mul(E.add(E.cast(E.bit_and(bits, 0xFFFFFFFF), dtype=float64), 0.5), 2.0**-32)
        u2 = E.mul(E.cast(E.shift_right(bits, 32), dtype=float64), 2.0**-32)
    turn = E.sub(u2, E.mul(E.cast(odd, dtype=float64), 0.25))  # cos(x − π/2) is sin x
    if d is float64:
        return normal64(u1, turn)
    return E.cast(E.mul(E.sqrt(E.mul(E.log(u1), -2.0)), E.cos(E.mul(turn, 2.0 * math.pi))), dtype=d)


def _truncated(source: Source, n: Tensor, d: DType) -> Tensor:
    """The standard normal distribution within two standard deviations, by its quantile function."""
    u = E.mul(E.add(E.cast(E.shift_right(philox64(n, *source), 11), dtype=float64), 0.5), 2.0**-52)
    inside = E.mul(E.sub(u, 1.0), math.erf(math.sqrt(2.0)))
    return E.cast(E.mul(quantile64(inside), math.sqrt(2.0)), dtype=d)


def _shaped(shape: Any, make: Callable[[Tensor], Tensor]) -> Tensor:
    want = as_whole_sizes(shape)
    y = make(_positions(want))
    return y if len(want) == 1 else S.reshape(y, shape=want)


def _uniform(source: Source, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Tensor:
    d = as_dtype(dtype)
    if d.kind == "f":
        low, high = minval or 0 if not isinstance(minval, Operand) else minval, 1 if maxval is None else maxval
        y = _shaped(shape, lambda n: _unit(source, n, d))
        if _is(low, 0) and _is(high, 1):
            return y
        y = E.add(E.mul(y, operand(E.sub(operand(high, d), operand(low, d)), d)), operand(low, d))
        # rounding may reach the open end
        return E.minimum(y, _below(high, d)) if not isinstance(high, Operand) else y
    require(d.kind in "iu", f"uniform has no dtype {d.name}")
    if maxval is None and minval is None:
        return _shaped(shape, lambda n: E.cast(philox64(n, *source), dtype=d))
    require(maxval is not None, "uniform needs maxval for integers")
    if not isinstance(minval, Operand) and not isinstance(maxval, Operand):
        require(
            bool(np.all(np.asarray(minval or 0) < np.asarray(maxval))), f"minval {minval} is not below maxval {maxval}"
        )
    if isinstance(maxval, Operand):
        fits = common_dtype((wrap(np.empty((), d.np)), maxval))[0] is d
        require(fits, f"uniform of {d.name} takes a maxval of {d.name}, not of {maxval.dtype.name}", "tj.cast(maxval)")
    else:
        last = int(np.max(np.asarray(maxval, object), initial=0)) - 1
        require(last <= d.max, f"uniform of {d.name} goes up to {d.max}, not to {last} (maxval {maxval})")
    low = 0 if minval is None else minval
    return _ranged(source, shape, low, maxval, d)


def _ranged(source: Source, shape: Any, low: Any, high: Any, d: DType) -> Tensor:
    want = as_whole_sizes(shape)
    if getattr(low, "ndim", 0) or getattr(high, "ndim", 0):
        n = S.reshape(_positions(want), shape=want)
        return _integers(source, n, low, high, d)
    return _shaped(want, lambda n: _integers(source, n, low, high, d))


def _is(x: Any, value: float) -> bool:
    return not isinstance(x, (Operand, np.ndarray)) and x == value


def _below(x: Any, d: DType) -> Tensor:
    a = np.asarray(x, d.np)
    return wrap(np.nextafter(a, np.asarray(-np.inf, d.np)) if d.name != "bfloat16" else a)


def _scaled(y: Tensor, mean: Any, stddev: Any) -> Tensor:
    if not _is(stddev, 1):
        y = E.mul(y, operand(stddev, y.dtype) if isinstance(stddev, Operand) else stddev)
    return y if _is(mean, 0) else E.add(y, operand(mean, y.dtype) if isinstance(mean, Operand) else mean)


def _check_float(dtype: Any, what: str) -> DType:
    d = as_dtype(dtype)
    require(d.kind == "f", f"{what} has no dtype {d.name}", "use a floating type")
    return d


# --- generators -------------------------------------------------------------------------------------------------------
def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little")


_MIX = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio: seeds that differ a little give keys that differ a lot


class Generator:
    """A stream of draws: a key and the number of the next draw, kept in a Variable.

    Two generators of one seed give the same draws in the same order, eagerly and in traced functions.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self.state = Variable(_state(seed), trainable=False, name="random_state")
        streams.set(self.state, None)

    @classmethod
    def from_seed(cls, seed: int) -> Generator:
        return cls(seed)

    @classmethod
    def from_non_deterministic_state(cls) -> Generator:
        return cls()

    def reset_from_seed(self, seed: int) -> None:
        """Begin the stream of this seed."""
        self.state.assign(_state(seed))

    def split(self, count: int = 1) -> list[Generator]:
        """New generators whose streams differ from each other's and from this one's."""
        keys = self.uniform_full_int((count,), uint64).numpy()
        return [Generator(int(k)) for k in keys]

    def _draw(self, seed: int | None = None) -> Source:
        """The key and the number of this draw; the state moves on."""
        if context.trace is not None:
            state = E.identity(self.state)
            self.state.assign(E.add(state, wrap(np.array([0, 1, 0], np.uint64))))
        else:
            with self._lock:
                state = wrap(self.state._a)
                self.state.assign(wrap(quietly(np.add, state._a, np.array([0, 1, 0], np.uint64))))
        key, draw, base = (S.reshape(S.slice_(state, start=(i,), size=(1,), step=(1,)), shape=()) for i in range(3))
        if seed is None:
            return key, draw
        own = wrap(np.array(((_whole(seed) + 1) * _MIX) % 2**64, np.uint64))
        return E.bit_xor(base, own), draw

    def uniform(
        self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = float32, name: Any = None
    ) -> Tensor:
        """Uniform in [minval, maxval)."""
        return _uniform(self._draw(), shape, minval, maxval, dtype)

    def uniform_full_int(self, shape: Any, dtype: Any = uint64, name: str | None = None) -> Tensor:
        """Integers over the whole range of the dtype."""
        return _uniform(self._draw(), shape, None, None, dtype)

    def normal(self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None) -> Tensor:
        """Normally distributed."""
        return normal(shape, mean, stddev, dtype, generator=self)

    def truncated_normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: str | None = None
    ) -> Tensor:
        """Normally distributed, within two standard deviations of the mean."""
        return truncated_normal(shape, mean, stddev, dtype, generator=self)


def _state(seed: int | None) -> np.ndarray:
    """The key, the number of the next draw, and what seeds given to single draws are combined with."""
    if seed is None:
        return np.array([_entropy(), 0, 0], np.uint64)
    seed = _whole(seed)
    return np.array([seed % 2**64, 0, (seed * _MIX) % 2**64], np.uint64)


def _whole(seed: Any) -> int:
    return int(as_size(seed, "a seed"))


_global = Generator()


def get_global_generator() -> Generator:
    """The generator that draws without one use."""
    return _global


def set_seed(seed: int) -> None:
    """Begin the global stream of this seed: the draws that follow are the same in every run."""
    _global.reset_from_seed(seed)


# --- draws ------------------------------------------------------------------------------------------------------------
def uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [minval, maxval): [0, 1) by default. Integers need maxval."""
    return _uniform((generator or _global)._draw(seed), shape, minval, maxval, dtype)


def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed with this mean and standard deviation."""
    d = _check_float(dtype, "normal")
    source = (generator or _global)._draw(seed)
    return _scaled(_shaped(shape, lambda n: _normal(source, n, d)), mean, stddev)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed within two standard deviations of the mean."""
    d = _check_float(dtype, "truncated_normal")
    source = (generator or _global)._draw(seed)
    return _scaled(_shaped(shape, lambda n: _truncated(source, n, d)), mean, stddev)


def shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The slices along the first axis in random order."""
    x = operand(value)
    require(x.ndim > 0, "shuffle needs one axis or more")
    source = _global._draw(seed)
    order = R.argsort(philox64(_positions((x.shape[0],)), *source), axis=0, descending=False)
    return I.gather(x, order, axis=0)


def categorical(logits: Any, num_samples: Any, dtype: Any = int64, seed: int | None = None, name: Any = None) -> Tensor:
    """Class numbers drawn from unnormalised log-probabilities: (batch, classes) → (batch, num_samples)."""
    x = floating(logits)
    require(x.ndim == 2, f"categorical takes (batch, classes), not {x.type}")
    batch, classes = x.shape
    u = uniform((batch, as_size(num_samples), classes), dtype=float64, seed=seed)
    noise = E.neg(E.log(E.neg(E.log(E.add(u, 2.0**-54)))))
    scores = E.add(S.reshape(E.cast(x, dtype=float64), shape=(batch, 1, classes)), noise)
    return E.cast(R.argmax(scores, axis=2), dtype=as_dtype(dtype))


def _seeded(seed: Any) -> Source:
    s = operand(seed)
    if tuple(s.shape) != (2,) or s.dtype.kind not in "iu":
        raise locate(ArgumentError(f"a stateless draw takes a seed of two integers, not {s.type}"))
    s = E.cast(s, dtype=uint64)
    a, b = (S.reshape(S.slice_(s, start=(i,), size=(1,), step=(1,)), shape=()) for i in range(2))
    return a, b


def stateless_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = float32, name: Any = None, alg: Any = None
) -> Tensor:
    """Uniform in [minval, maxval), a function of the seed (two integers) alone."""
    return _uniform(_seeded(seed), shape, minval, maxval, dtype)


def stateless_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None, alg: Any = None
) -> Tensor:
    """Normally distributed, a function of the seed (two integers) alone."""
    d, source = _check_float(dtype, "normal"), _seeded(seed)
    return _scaled(_shaped(shape, lambda n: _normal(source, n, d)), mean, stddev)


def stateless_truncated_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None, alg: Any = None
) -> Tensor:
    """Normally distributed within two standard deviations, a function of the seed (two integers) alone."""
    d, source = _check_float(dtype, "truncated_normal"), _seeded(seed)
    return _scaled(_shaped(shape, lambda n: _truncated(source, n, d)), mean, stddev)


def dropout(x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None, name: str | None = None) -> Tensor:
    """Elements replaced by 0 with probability `rate`, the others divided by 1 − rate."""
    x = floating(x)
    if not isinstance(rate, Operand):
        if not isinstance(rate, (int, float, np.number, np.ndarray)):
            raise locate(DTypeError(f"rate is a number, not {shown_value(rate)}"))
        require(bool(0 <= rate < 1), f"rate is a probability below 1, not {rate}")
        if rate == 0:
            return E.identity(x)
    shape = tuple(x.shape)
    if noise_shape is not None:
        shape = tuple([d if n is None or n == -1 else n for n, d in zip(noise_shape, shape, strict=True)])
    keep = E.greater_equal(uniform(shape, dtype=float32, seed=seed), rate)
    kept = E.div(x, E.sub(1.0, E.cast(rate, dtype=x.dtype))) if isinstance(rate, Operand) else E.div(x, 1.0 - rate)
    return E.where(keep, kept, 0.0)


__all__ = [
    "Generator", "categorical", "dropout", "get_global_generator", "normal", "set_seed", "shuffle",
    "stateless_normal", "stateless_truncated_normal", "stateless_uniform", "truncated_normal", "uniform",
]  # fmt: skip
