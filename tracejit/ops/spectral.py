"""Fourier and cosine transforms under TensorFlow's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.types import DType, float64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axis, require
from tracejit.ops.creation import counter
from tracejit.ops.fourier import as_complex, as_real, of_real, resized, shifted, to_real, transform
from tracejit.ops.frames import positive
from tracejit.ops.quick import planned
from tracejit.tensor import Operand, Tensor, convert


# --- Fourier transforms -----------------------------------------------------------------------------------------------
def _last(x: Operand, rank: int, what: str) -> tuple[int, ...]:
    if x.ndim < rank:
        axes = "one axis" if rank == 1 else f"{rank} axes"
        raise locate(ShapeError(f"{what} takes a tensor of {axes} or more, not {x.type}"))
    return tuple(range(x.ndim - rank, x.ndim))


def _whole(x: Any, rank: int, inverse: bool, what: str) -> Tensor:
    z = as_complex(x)
    return transform(z, None, _last(z, rank, what), None, inverse)


def fft(input: Any, name: str | None = None) -> Tensor:
    """Σ x_j e^(−2πi jk/n) along the last axis. Real numbers are taken as complex ones.

    Raises `ShapeError` for a 0-d tensor.
    """
    if not activity.busy and (quick := planned(fft, input)) is not None:
        return quick
    return _whole(input, 1, False, "fft")


def ifft(input: Any, name: str | None = None) -> Tensor:
    """The inverse of `fft`: 1/n Σ x_k e^(2πi jk/n) along the last axis."""
    if not activity.busy and (quick := planned(ifft, input)) is not None:
        return quick
    return _whole(input, 1, True, "ifft")


def fft2d(input: Any, name: str | None = None) -> Tensor:
    """The Fourier transform over the last two axes."""
    return _whole(input, 2, False, "fft2d")


def ifft2d(input: Any, name: str | None = None) -> Tensor:
    """The inverse of `fft2d`."""
    return _whole(input, 2, True, "ifft2d")


def fft3d(input: Any, name: str | None = None) -> Tensor:
    """The Fourier transform over the last three axes."""
    return _whole(input, 3, False, "fft3d")


def ifft3d(input: Any, name: str | None = None) -> Tensor:
    """The inverse of `fft3d`."""
    return _whole(input, 3, True, "ifft3d")


def fftnd(input_tensor: Any, fft_length: Any = None, axes: Any = None, norm: Any = None, name: Any = None) -> Tensor:
    """The Fourier transform over `axes` (all by default), of `fft_length` elements along each.

    Longer axes are cut, shorter ones filled up with zeros. `norm` is "backward", "ortho" or "forward", as in NumPy.
    Raises `ArgumentError` for other names and for lengths that do not go with the axes.
    """
    return transform(input_tensor, fft_length, axes, norm)


def ifftnd(input_tensor: Any, fft_length: Any = None, axes: Any = None, norm: Any = None, name: Any = None) -> Tensor:
    """The inverse of `fftnd`."""
    return transform(input_tensor, fft_length, axes, norm, inverse=True)


def rfft(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The Fourier transform of real numbers along the last axis: the first n // 2 + 1 numbers, the others being their
    conjugates.

    `fft_length` holds one length n: longer axes are cut, shorter ones filled up with zeros. Raises `DTypeError` for
    complex numbers.
    """
    if not activity.busy and (quick := planned(rfft, input_tensor, fft_length)) is not None:
        return quick
    x = as_real(input_tensor, "rfft")
    return of_real(x, fft_length, _last(x, 1, "rfft"), what="rfft")


def irfft(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `rfft`: n real numbers from n // 2 + 1 complex ones; n is even unless `fft_length` says it."""
    if not activity.busy and (quick := planned(irfft, input_tensor, fft_length)) is not None:
        return quick
    z = as_complex(input_tensor)
    return to_real(z, fft_length, _last(z, 1, "irfft"), what="irfft")


def rfft2d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The Fourier transform of real numbers over the last two axes, half of it along the last."""
    x = as_real(input_tensor, "rfft2d")
    return of_real(x, fft_length, _last(x, 2, "rfft2d"), what="rfft2d")


def irfft2d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `rfft2d`."""
    z = as_complex(input_tensor)
    return to_real(z, fft_length, _last(z, 2, "irfft2d"), what="irfft2d")


def rfft3d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The Fourier transform of real numbers over the last three axes, half of it along the last."""
    x = as_real(input_tensor, "rfft3d")
    return of_real(x, fft_length, _last(x, 3, "rfft3d"), what="rfft3d")


def irfft3d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `rfft3d`."""
    z = as_complex(input_tensor)
    return to_real(z, fft_length, _last(z, 3, "irfft3d"), what="irfft3d")


def rfftnd(input_tensor: Any, fft_length: Any = None, axes: Any = None, norm: Any = None, name: Any = None) -> Tensor:
    """The Fourier transform of real numbers over `axes`, half of it along the last of them; else as `fftnd`."""
    return of_real(input_tensor, fft_length, axes, norm, "rfftnd")


def irfftnd(input_tensor: Any, fft_length: Any = None, axes: Any = None, norm: Any = None, name: Any = None) -> Tensor:
    """The inverse of `rfftnd`."""
    return to_real(input_tensor, fft_length, axes, norm, "irfftnd")


def fftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """The first element along axes (all by default) moved to the middle."""
    if not activity.busy and (quick := planned(fftshift, x, axes)) is not None:
        return quick
    return shifted(x, axes, back=False)


def ifftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    if not activity.busy and (quick := planned(ifftshift, x, axes)) is not None:
        return quick
    return shifted(x, axes, back=True)


# --- cosine transforms ------------------------------------------------------------------------------------------------
_INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}


def dct(
    input: Any, type: int = 2, n: Any = None, axis: Any = -1, norm: str | None = None, name: str | None = None
) -> Tensor:
    """The cosine transform of a type from 1 to 4 along the last axis, scaled as in `scipy.fft.dct`.

    `n` cuts the axis or fills it up with zeros. `norm="ortho"` makes the transform orthonormal; type 1 has none. Raises
    `ArgumentError` for other types, axes and norms, and for type 1 of fewer than two elements.
    """
    if not activity.busy and (quick := planned(dct, input, type, n, axis, norm)) is not None:
        return quick
    require(type in _INVERSE, f"dct has the types 1 to 4, not {type}")
    require(norm in (None, "ortho"), f'norm is None or "ortho", not {norm!r}')
    require(type != 1 or norm is None, "the cosine transform of type 1 is not normalised")
    x = as_real(input, "dct")
    _last(x, 1, "dct")
    require(as_axis(axis, x.ndim) == x.ndim - 1, f"dct goes along the last axis, not along axis {axis}")
    x = x if n is None else resized(x, x.ndim - 1, positive(n, "n"))
    return _DCT[type](x, norm == "ortho")


def idct(
    input: Any, type: int = 2, n: Any = None, axis: Any = -1, norm: str | None = None, name: str | None = None
) -> Tensor:
    """The inverse of `dct` of this type; where `norm` is None times 2n, for type 1 times 2 (n − 1)."""
    if not activity.busy and (quick := planned(idct, input, type, n, axis, norm)) is not None:
        return quick
    require(type in _INVERSE, f"idct has the types 1 to 4, not {type}")
    return dct(input, _INVERSE[type], n, axis, norm)


def number(n: Size, d: DType) -> Any:
    """A size as a number to divide by, 1 in the place of 0."""
    return float(max(n, 1)) if isinstance(n, int) else E.cast(convert(n), dtype=d)


def _turned(n: Size, x: Operand) -> tuple[Tensor, Tensor]:
    """Twice the cosines and sines of the first n quarter turns' parts."""
    angle = E.div(E.mul(counter(n, dtype=float64), math.pi / 2.0), number(n, float64))
    cosine, sine = (E.cast(E.mul(f(angle), 2.0), dtype=x.dtype) for f in (E.cos, E.sin))
    return cosine, sine


def _weights(n: Size, d: DType, first: float, rest: float) -> Tensor:
    return E.cast(E.where(E.equal(counter(n), 0), convert(first, float64), convert(rest, float64)), dtype=d)  # type: ignore[no-any-return]


def _dct1(x: Operand, ortho: bool) -> Tensor:
    n, last = x.shape[-1], x.ndim - 1
    require(n >= 2, f"the cosine transform of type 1 takes two elements or more, not {x.type}")
    inner = A.reverse(A.cut(x, last, 1, n - 2), -1)
    return E.real(of_real(S.concat(x, inner, axis=last), None, (last,)))  # type: ignore[no-any-return]


def _dct2(x: Operand, ortho: bool) -> Tensor:
    n, last = x.shape[-1], x.ndim - 1
    z = A.cut(of_real(x, (2 * n,), (last,)), last, 0, n)
    cosine, sine = _turned(n, x)
    y = E.add(E.mul(E.real(z), cosine), E.mul(E.imag(z), sine))
    if not ortho:
        return y  # type: ignore[no-any-return]
    y = E.mul(y, _weights(n, x.dtype, 0.5, math.sqrt(0.5)))
    return E.div(y, E.sqrt(convert(number(n, x.dtype), x.dtype)))  # type: ignore[no-any-return]


def _dct3(x: Operand, ortho: bool) -> Tensor:
    n, last = x.shape[-1], x.ndim - 1
    size = number(n, x.dtype)
    if ortho:
        x = E.mul(E.mul(x, _weights(n, x.dtype, 1.0, math.sqrt(0.5))), E.sqrt(convert(size, x.dtype)))
    else:
        x = E.mul(x, size)
    cosine, sine = _turned(n, x)
    y = to_real(E.complex_(E.mul(x, cosine), E.mul(x, sine)), (2 * n,), (last,))
    return A.cut(y, last, 0, n)


def _dct4(x: Operand, ortho: bool) -> Tensor:
    n, last = x.shape[-1], x.ndim - 1
    y = A.cut(_dct2(resized(x, last, 2 * n), False), last, 1, n, 2)
    if not ortho:
        return y
    return E.mul(y, E.sqrt(E.div(convert(0.5, x.dtype), number(n, x.dtype))))  # type: ignore[no-any-return]


_DCT: dict[int, Callable[[Operand, bool], Tensor]] = {1: _dct1, 2: _dct2, 3: _dct3, 4: _dct4}
