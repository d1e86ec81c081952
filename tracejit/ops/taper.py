"""Windows that frames of a signal are multiplied by, under TensorFlow's names."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.sizes import known_equal
from tracejit.ir.types import DType, as_dtype, float32, float64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops.args import Size, as_size, require
from tracejit.ops.bessel import i0e
from tracejit.ops.creation import counter, ones
from tracejit.ops.reductions import cumsum
from tracejit.tensor import Tensor, convert


def _given(window_length: Any, dtype: Any, what: str) -> tuple[Size, DType]:
    n, d = as_size(window_length, "window_length"), as_dtype(dtype)
    require(n >= 0, f"{what} has no length {n}")
    require(d.kind == "f", f"{what} has a floating dtype, not {d.name}")
    return n, d


def _number(n: Size) -> Any:
    """A size as a number to divide by."""
    return float(max(n, 1)) if type(n) is int else E.cast(convert(n), dtype=float64)


def _positions(n: Size) -> Tensor:
    return counter(n, dtype=float64)


def _raised_cosine(window_length: Any, periodic: Any, dtype: Any, a: float, what: str) -> Tensor:
    """a − (1 − a) cos(2πk / m): of m = n samples if periodic, of n − 1 if symmetric and, as in TensorFlow, if n is
    odd.
    """
    n, d = _given(window_length, dtype, what)
    if known_equal(n, 1):
        return ones((1,), d)
    m = n if periodic and known_equal(n % 2, 0) else n - 1
    angle = E.mul(_positions(n), E.div(convert(2.0 * math.pi, float64), _number(m)))
    return E.cast(E.sub(a, E.mul(E.cos(angle), 1.0 - a)), dtype=d)  # type: ignore[no-any-return]


def hann_window(window_length: Any, periodic: Any = True, dtype: Any = float32, name: str | None = None) -> Tensor:
    """½ − ½ cos(2πk / n): a Hann window of n samples. Symmetric ones, and as in TensorFlow those of an odd number of
    samples, have n − 1 in the place of n.

    Raises `ArgumentError` unless the dtype is floating.
    """
    return _raised_cosine(window_length, periodic, dtype, 0.5, "hann_window")


def hamming_window(window_length: Any, periodic: Any = True, dtype: Any = float32, name: str | None = None) -> Tensor:
    """0.54 − 0.46 cos(2πk / n): a Hamming window of n samples; n − 1 as `hann_window` has it."""
    return _raised_cosine(window_length, periodic, dtype, 0.54, "hamming_window")


def kaiser_window(window_length: Any, beta: Any = 12.0, dtype: Any = float32, name: str | None = None) -> Tensor:
    """I₀(β √(1 − r²)) / I₀(β) for r from −1 to 1: a Kaiser window. `beta` is a number or a 0-d tensor.

    Raises `ArgumentError` unless the dtype is floating.
    """
    n, d = _given(window_length, dtype, "kaiser_window")
    if known_equal(n, 1):
        return ones((1,), d)
    half = E.mul(convert(_number(n - 1), float64), 0.5)
    r = E.div(E.sub(_positions(n), half), half)
    b = convert(beta, float64)
    x = E.mul(b, E.sqrt(E.maximum(E.sub(1.0, E.square(r)), 0.0)))
    y = E.mul(E.exp(E.sub(x, b)), E.div(i0e(x), i0e(b)))
    return E.cast(y, dtype=d)  # type: ignore[no-any-return]


def kaiser_bessel_derived_window(
    window_length: Any, beta: Any = 12.0, dtype: Any = float32, name: str | None = None
) -> Tensor:
    """The root of the running sum of a Kaiser window of n / 2 + 1 samples, and its mirror image."""
    n, d = _given(window_length, dtype, "kaiser_bessel_derived_window")
    half = n // 2
    total = cumsum(kaiser_window(half + 1, beta, float64))
    rising = E.sqrt(E.div(A.cut(total, 0, 0, half), A.cut(total, 0, half, 1)))
    return E.cast(A.concat([rising, A.reverse(rising, 0)], 0), dtype=d)  # type: ignore[no-any-return]


def vorbis_window(window_length: Any, dtype: Any = float32, name: str | None = None) -> Tensor:
    """sin(½π sin²(π (k + ½) / n)): the Vorbis power-complementary window of n samples."""
    n, d = _given(window_length, dtype, "vorbis_window")
    inner = E.sin(E.div(E.mul(E.add(_positions(n), 0.5), math.pi), _number(n)))
    return E.cast(E.sin(E.mul(E.square(inner), math.pi / 2.0)), dtype=d)  # type: ignore[no-any-return]
