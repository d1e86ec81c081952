"""Transforms of overlapping frames, and the mel scale, under TensorFlow's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import as_dtype, float32, float64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, operand, require
from tracejit.ops.creation import counter
from tracejit.ops.fourier import as_complex, as_real, resized
from tracejit.ops.frames import frame, overlap_and_add, positive
from tracejit.ops.reductions import reduce_sum
from tracejit.ops.spectral import dct, irfft, number, rfft
from tracejit.ops.taper import hann_window, vorbis_window
from tracejit.tensor import Operand, Tensor, convert

Window = Callable[..., Any]


# --- short-time transforms --------------------------------------------------------------------------------------------
def _fft_length(fft_length: Any, frame_length: Size) -> Size:
    """The length that is asked for, else the smallest power of two that holds a frame."""
    return 1 << (int(frame_length) - 1).bit_length() if fft_length is None else positive(fft_length, "fft_length")


def _windowed(x: Tensor, window_fn: Window | None, n: Size) -> Tensor:
    return x if window_fn is None else E.mul(x, operand(window_fn(n, dtype=x.dtype), x.dtype))  # type: ignore[no-any-return]


def stft(
    signals: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Window | None = hann_window,
    pad_end: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The Fourier transforms of overlapping frames: (…, samples) → complex (…, frames, fft_length // 2 + 1).

    Parameters
    ----------
    frame_length, frame_step : as `frame` takes them
    fft_length : the smallest power of two that is not below `frame_length` by default
    window_fn : from a length and `dtype=` to the numbers that frames are multiplied by; None for none
    """
    x, n = as_real(signals, "stft"), positive(frame_length, "frame_length")
    frames = _windowed(frame(x, n, frame_step, pad_end), window_fn, n)
    return rfft(frames, [_fft_length(fft_length, n)])


def inverse_stft(
    stfts: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Window | None = hann_window,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """A signal from its short-time transforms; with `inverse_stft_window_fn(frame_step)` it is what `stft` was given.

    Complex (…, frames, fft_length // 2 + 1) → (…, (frames − 1) · frame_step + frame_length).
    """
    z, n = as_complex(stfts), positive(frame_length, "frame_length")
    if z.ndim < 2:
        raise locate(ShapeError(f"inverse_stft takes (…, frames, bins), not {z.type}"))
    frames = resized(irfft(z, [_fft_length(fft_length, n)]), z.ndim - 1, n)
    return overlap_and_add(_windowed(frames, window_fn, n), frame_step)  # type: ignore[arg-type]


def inverse_stft_window_fn(
    frame_step: Any, forward_window_fn: Window = hann_window, name: str | None = None
) -> Window:
    """The `window_fn` for `inverse_stft` that undoes `stft` with `forward_window_fn`.

    It is the forward window divided by the sum of the squares of all that overlap at a sample: equation 7 of D. Griffin
    and J. Lim, "Signal estimation from modified short-time Fourier transform" (1984).
    """
    step = positive(frame_step, "frame_step")

    def inverse_window(frame_length: Any, dtype: Any) -> Tensor:
        n = as_size(frame_length, "frame_length")
        window = operand(forward_window_fn(n, dtype=dtype))
        parts = (n + step - 1) // step
        power = S.reshape(resized(E.square(window), 0, parts * step), shape=(parts, step))
        total = S.broadcast_to(reduce_sum(power, 0, True), shape=(parts, step))
        total = A.cut(S.reshape(total, shape=(parts * step,)), 0, 0, n)
        return E.where(E.equal(total, 0.0), 0.0, E.div(window, total))  # type: ignore[no-any-return]

    return inverse_window


# --- modified cosine transforms ---------------------------------------------------------------------------------------
def _tapered(x: Tensor, window_fn: Window | None, n: Size) -> Tensor:
    return E.mul(x, math.sqrt(0.5)) if window_fn is None else _windowed(x, window_fn, n)  # type: ignore[no-any-return]


def mdct(
    signals: Any, frame_length: Any, window_fn: Window | None = vorbis_window, pad_end: bool = False,
    norm: str | None = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Modified cosine transforms of frames that overlap by half: (…, samples) → (…, frames, frame_length // 2).

    `window_fn` as `stft` takes it; None divides by √2. `norm` as `dct` takes it. Raises `ArgumentError` for a frame
    length that is no multiple of 4.
    """
    x, n = as_real(signals, "mdct"), positive(frame_length, "frame_length")
    require(n % 4 == 0, f"frame_length is a multiple of 4, not {n}")
    a, b, c, d = A.split(_tapered(frame(x, n, n // 2, pad_end), window_fn, n), 4, axis=-1)
    folded = A.concat([E.sub(E.neg(A.reverse(c, -1)), d), E.sub(a, A.reverse(b, -1))], -1)
    return dct(folded, 4, norm=norm)


def inverse_mdct(
    mdcts: Any, window_fn: Window | None = vorbis_window, norm: str | None = None, name: str | None = None
) -> Tensor:
    """A signal from its modified cosine transforms: (…, frames, bins) → (…, (frames + 1) · bins).

    With the window and `norm` of `mdct` it gives back all but the first and the last half frame.
    """
    x = as_real(mdcts, "inverse_mdct")
    if x.ndim < 2:
        raise locate(ShapeError(f"inverse_mdct takes (…, frames, bins), not {x.type}"))
    half = x.shape[-1]
    y = dct(x, 4, norm=norm)
    if norm is None:
        y = E.mul(y, E.div(0.5, number(half, x.dtype)) if not isinstance(half, int) else 0.5 / number(half, x.dtype))
    a, b = A.split(y, 2, axis=-1)
    frames = A.concat([b, E.neg(A.reverse(b, -1)), E.neg(A.reverse(a, -1)), E.neg(a)], -1)
    return overlap_and_add(_tapered(frames, window_fn, 2 * half), half)


# --- the mel scale ----------------------------------------------------------------------------------------------------
def _mel(hertz: Any) -> Tensor:
    """Hertz as mel, in the scale of the Hidden Markov Model Toolkit."""
    return E.mul(E.log(E.add(E.div(hertz, 700.0), 1.0)), 1127.0)  # type: ignore[no-any-return]


def linear_to_mel_weight_matrix(
    num_mel_bins: Any = 20, num_spectrogram_bins: Any = 129, sample_rate: Any = 8000, lower_edge_hertz: float = 125.0,
    upper_edge_hertz: float = 3800.0, dtype: Any = float32, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Triangles over a spectrum, evenly spaced on the mel scale: (num_spectrogram_bins, num_mel_bins).

    The spectrum goes in even steps from 0 to half of `sample_rate`, a number or a 0-d tensor; a product with the matrix
    brings it to the mel scale. Raises `ArgumentError` for edges that are not 0 ≤ lower < upper ≤ sample_rate / 2.
    """
    d, bins, bands = as_dtype(dtype), as_size(num_spectrogram_bins), positive(num_mel_bins, "num_mel_bins")
    if d.kind != "f":
        raise locate(DTypeError(f"dtype {d.name} is not floating"))
    low, high = float(lower_edge_hertz), float(upper_edge_hertz)
    require(bins >= 1, f"num_spectrogram_bins is 1 or more, not {bins}")
    require(0.0 <= low < high, f"the edges are 0 ≤ lower < upper, not {low} and {high}")
    if not isinstance(sample_rate, Operand):
        require(sample_rate > 0, f"sample_rate is positive, not {sample_rate}")
        require(high <= sample_rate / 2, f"upper_edge_hertz is at most sample_rate / 2, not {high} of {sample_rate}")
    step = E.div(E.mul(convert(sample_rate, float64), 0.5), number(bins - 1, float64))
    k = counter(bins, 2, 0)
    mel = _mel(E.mul(E.cast(k, dtype=float64), step))
    first, last = _mel(convert(low, float64)), _mel(convert(high, float64))
    width = E.div(E.sub(last, first), number(bands + 1, float64))
    begin = E.add(first, E.mul(E.cast(counter(bands, 2, 1), dtype=float64), width))
    at = E.div(E.sub(mel, begin), width)  # 0 at the lower edge of a triangle, 1 at its peak, 2 at the upper edge
    y = E.maximum(E.minimum(at, E.sub(2.0, at)), 0.0)
    return E.cast(E.where(E.equal(k, 0), 0.0, y), dtype=d)  # type: ignore[no-any-return]


def mfccs_from_log_mel_spectrograms(log_mel_spectrograms: Any, name: str | None = None) -> Tensor:
    """Mel-frequency cepstral coefficients: the cosine transform of type 2 along the last axis, times √(1 / 2n).

    The scale is that of the Hidden Markov Model Toolkit. Raises `ArgumentError` for an empty last axis.
    """
    x = as_real(log_mel_spectrograms, "mfccs_from_log_mel_spectrograms")
    y = dct(x)
    n = x.shape[-1]
    require(not known_equal(n, 0), f"there are no mel bins in {x.type}")
    return E.mul(y, E.rsqrt(E.mul(convert(number(n, x.dtype), x.dtype), 2.0)))  # type: ignore[no-any-return]
