"""Random tensors as functions of a key, the number of the draw and the position of the element.

A draw does not depend on how it is computed: eagerly or traced, fused or not, with any number of threads it is the
same. Element i of a draw takes its bits from Philox under (key, draw number) at counter i. The numbers are not those
that TensorFlow draws for a seed; their distributions are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.ir.sizes import known_equal, product
from tracejit.ir.types import DType, as_dtype, float32, float64, int64, uint64
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, floating, operand, require
from tracejit.ops.creation import counter
from tracejit.ops.extents import extent, whole_extents
from tracejit.ops.gauss import normal64, quantile64
from tracejit.ops.philox import philox32, philox64
from tracejit.ops.quick import NATIVE, exact, planned
from tracejit.ops.reductions import peak
from tracejit.ops.searching import search
from tracejit.tensor import Operand, Tensor, common_dtype, wrap

# A key and the number of the draw, 0-d uint64 tensors; or the state of a generator, which begins with them, and None.
Source = tuple[Any, Any]


def item(state: Tensor, i: int) -> Tensor:
    """An element of a generator's state, 0-d."""
    if not activity.busy:
        return wrap(state._a[i, ...])
    return S.reshape(S.slice_(state, start=(i,), size=(1,), step=(1,)), shape=())  # type: ignore[no-any-return]


def _opened(key: Any, number: Any) -> Source:
    return (key, number) if number is not None else (item(key, 0), item(key, 1))


# --- bits to numbers --------------------------------------------------------------------------------------------------
def positions(shape: tuple[Size, ...]) -> Tensor:
    return counter(product(shape), dtype=uint64)


def unit(source: Source, n: Tensor, d: DType) -> Tensor:
    """Multiples of 2⁻²⁴ (2⁻⁵³ for float64) in [0, 1); every bit of a narrower float's significand is random."""
    if d is float64:
        return E.mul(E.cast(E.shift_right(philox64(n, *source), 11), dtype=d), 2.0**-53)
    digits = {"float32": 24, "float16": 11, "bfloat16": 8}[d.name]
    bits = E.shift_right(philox32(n, *source), 32 - digits)
    return E.cast(E.mul(E.cast(bits, dtype=float32), 2.0**-digits), dtype=d)


def integers(source: Source, n: Tensor, low: Any, high: Any, d: DType) -> Tensor:
    """Integers from low up to but without high. The remainder of 64 bits: no value is favoured by more than
    (high − low) / 2⁶⁴.
    """
    span = E.cast(
        E.sub(operand(high, int64 if d is not uint64 else d), operand(low, int64 if d is not uint64 else d)),
        dtype=uint64,
    )
    r = E.floormod(philox64(n, *source), span)
    return E.cast(E.add(E.cast(r, dtype=d), operand(low, d)), dtype=d)


def normal(source: Source, n: Tensor, d: DType) -> Tensor:
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


def truncated(source: Source, n: Tensor, d: DType) -> Tensor:
    """The standard normal distribution within two standard deviations, by its quantile function."""
    u = E.mul(E.add(E.cast(E.shift_right(philox64(n, *source), 11), dtype=float64), 0.5), 2.0**-52)
    inside = E.mul(E.sub(u, 1.0), math.erf(math.sqrt(2.0)))
    return E.cast(E.mul(quantile64(inside), math.sqrt(2.0)), dtype=d)


def shaped(shape: Any, make: Callable[[Tensor], Tensor]) -> Tensor:
    want = whole_extents(shape)
    y = make(positions(want))
    return y if len(want) == 1 else S.reshape(y, shape=want)


def uniform(source: Source, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Tensor:
    if not activity.busy and (quick := planned(_uniform, *source, shape, minval, maxval, dtype)) is not None:
        return quick
    return _uniform(*source, shape, minval, maxval, dtype)


def _uniform(key: Any, number: Any, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Tensor:
    source = _opened(key, number)
    d = as_dtype(dtype)
    if d.kind == "f":
        low, high = minval or 0 if not isinstance(minval, Operand) else minval, 1 if maxval is None else maxval
        y = shaped(shape, lambda n: unit(source, n, d))
        if is_number(low, 0) and is_number(high, 1):
            return y
        y = E.add(E.mul(y, operand(E.sub(operand(high, d), operand(low, d)), d)), operand(low, d))
        # rounding may reach the open end
        return E.minimum(y, _below(high, d)) if not isinstance(high, Operand) else y
    require(d.kind in "iu", f"uniform has no dtype {d.name}")
    if maxval is None and minval is None:
        return shaped(shape, lambda n: E.cast(philox64(n, *source), dtype=d))
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
    return ranged(source, shape, low, maxval, d)


def ranged(source: Source, shape: Any, low: Any, high: Any, d: DType) -> Tensor:
    want = whole_extents(shape)
    if getattr(low, "ndim", 0) or getattr(high, "ndim", 0):
        n = S.reshape(positions(want), shape=want)
        return integers(source, n, low, high, d)
    return shaped(want, lambda n: integers(source, n, low, high, d))


def is_number(x: Any, value: float) -> bool:
    return not isinstance(x, (Operand, np.ndarray)) and x == value


def _below(x: Any, d: DType) -> Tensor:
    a = np.asarray(x, d.np)
    return wrap(np.nextafter(a, np.asarray(-np.inf, d.np)) if d.name != "bfloat16" else a)


def scaled(y: Tensor, mean: Any, stddev: Any) -> Tensor:
    if not is_number(stddev, 1):
        y = E.mul(y, operand(stddev, y.dtype) if isinstance(stddev, Operand) else stddev)
    return y if is_number(mean, 0) else E.add(y, operand(mean, y.dtype) if isinstance(mean, Operand) else mean)


def check_float(dtype: Any, what: str) -> DType:
    d = as_dtype(dtype)
    if d.kind != "f":
        require(False, f"{what} has no dtype {d.name}", "use a floating type")
    return d


# --- orders and classes -----------------------------------------------------------------------------------------------
def shuffled(source: Source, value: Any) -> Tensor:
    """The slices along the first axis in random order."""
    if not activity.busy and (quick := planned(_shuffled, *source, value)) is not None:
        return quick
    return _shuffled(*source, value)


def _shuffled(key: Any, number: Any, value: Any) -> Tensor:
    source, x = _opened(key, number), operand(value)
    require(x.ndim > 0, "shuffle needs one axis or more")
    order = R.argsort(philox64(positions((x.shape[0],)), *source), axis=0, descending=False)
    return I.gather(x, order, axis=0)  # type: ignore[no-any-return]


def classes(source: Source, logits: Any, num_samples: Any, dtype: Any) -> Tensor:
    """Class numbers by the running sum of the probabilities, which a uniform number falls into.

    They are classes even where logits are infinite or NaN: one for which no uniform number tells is the last.
    """
    if not activity.busy and (quick := planned(_classes, *source, logits, num_samples, dtype)) is not None:
        return quick
    return _classes(*source, logits, num_samples, dtype)


_FEW = 16  # samples or classes up to which every sample is compared with every class


def _classes(key: Any, number: Any, logits: Any, num_samples: Any, dtype: Any) -> Tensor:
    source, x = (key, number), floating(logits)
    require(x.ndim == 2, f"categorical takes (batch, classes), not {x.type}")
    d = as_dtype(dtype)
    require(d.kind in "iu", f"class numbers have an integer dtype, not {d.name}")
    batch, count = x.shape
    require(not known_equal(count, 0), f"categorical needs one class or more, not {x.type}")
    wide = E.cast(x, dtype=float64)
    total = R.cumsum(E.exp(E.sub(wide, peak(wide, 1))), axis=1, exclusive=False, reverse=False)
    n = extent(num_samples, "num_samples")
    u = shaped((batch, n, 1), lambda n: unit(source, n, float64))
    last = S.slice_(total, start=(0, count - 1), size=(batch, 1), step=(1, 1))
    level = E.mul(u, S.reshape(last, shape=(batch, 1, 1)))
    if any(type(size) is int and size < _FEW for size in (n, count)):
        passed = E.less_equal(S.reshape(total, shape=(batch, 1, count)), level)
        before = R.reduce_sum(E.cast(passed, dtype=int64), axis=(2,))
    else:
        before = search(total, S.reshape(level, shape=(batch, n)), right=True)
    return E.cast(E.minimum(before, count - 1), dtype=d)  # type: ignore[no-any-return]


# --- draws from a stream, which moves on once the arguments are known to be right -------------------------------------
def normals(draw: Callable[[Any], Source], seed: Any, shape: Any, mean: Any, stddev: Any, dtype: Any) -> Tensor:
    d = dtype if type(dtype) is DType and dtype.kind == "f" else check_float(dtype, "normal")
    key, number = draw(seed)
    if number is None and (native := NATIVE.get(_normals)) is not None:  # nobody listens
        if (quick := native(key, None, shape, mean, stddev, d)) is not None:
            return quick
    return _normals(key, number, shape, mean, stddev, d)


def _normals(key: Any, number: Any, shape: Any, mean: Any, stddev: Any, d: DType) -> Tensor:
    if not activity.busy and (quick := planned(_normals, key, number, shape, mean, stddev, d)) is not None:
        return quick
    source = _opened(key, number)
    return scaled(shaped(shape, lambda n: normal(source, n, d)), mean, stddev)


def truncated_normals(
    draw: Callable[[Any], Source], seed: Any, shape: Any, mean: Any, stddev: Any, dtype: Any
) -> Tensor:
    d = dtype if type(dtype) is DType and dtype.kind == "f" else check_float(dtype, "truncated_normal")
    key, number = draw(seed)
    if number is None and (native := NATIVE.get(_truncated_normals)) is not None:
        if (quick := native(key, None, shape, mean, stddev, d)) is not None:
            return quick
    return _truncated_normals(key, number, shape, mean, stddev, d)


def _truncated_normals(key: Any, number: Any, shape: Any, mean: Any, stddev: Any, d: DType) -> Tensor:
    if not activity.busy and (quick := planned(_truncated_normals, key, number, shape, mean, stddev, d)) is not None:
        return quick
    source = _opened(key, number)
    return scaled(shaped(shape, lambda n: truncated(source, n, d)), mean, stddev)


for _draw in (_uniform, _normals, _truncated_normals, _shuffled):
    exact(_draw)
