"""Cases of the operations' table: Fourier transforms and windows of signals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft as sf
from op_case import Case

import tracejit as tj

LINES = [[(6,)], [(5,)], [(1,)], [(2, 3, 4)], [(0, 4)]]


def apart(z: Any) -> Any:
    """A complex tensor as a real one."""
    return tj.stack([tj.math.real(z), tj.math.imag(z)])


def parts(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag])


def framed(x: np.ndarray, length: int, step: int) -> np.ndarray:
    count = max(0, 1 + (x.shape[-1] - length) // step)
    rows = [x[..., i * step : i * step + length] for i in range(count)]
    return np.stack(rows, -2) if rows else np.zeros((*x.shape[:-1], 0, length))


def added(x: np.ndarray, step: int) -> np.ndarray:
    frames, length = x.shape[-2:]
    y = np.zeros((*x.shape[:-2], max(0, (frames - 1) * step + length)), x.dtype)
    for i in range(frames):
        y[..., i * step : i * step + length] += x[..., i, :]
    return y


def mixed(x: Any, m: Any) -> Any:
    """Complex numbers that depend on real ones in both parts."""
    if m is np:
        return x + 1j * x * x
    x = tj.cast(x, tj.float32) if x.dtype.bits == 16 else x
    return tj.complex(x, x * x)


def _of_several_axes() -> Iterator[Case]:
    s, volumes = tj.signal, [[(2, 3, 2)], [(2, 1, 3, 4)]]
    last = [-3, -2, -1]
    yield Case("signal.ifft2d", s.ifft2d, np.fft.ifft2, [[(3, 4)], [(2, 3, 1)]], "c", factor=20)
    yield Case("signal.fft3d", s.fft3d, lambda x: np.fft.fftn(x, axes=last), volumes, "c", factor=30)
    yield Case("signal.ifft3d", s.ifft3d, lambda x: np.fft.ifftn(x, axes=last), volumes, "c", factor=30)
    yield Case("signal.fftnd", s.fftnd, np.fft.fftn, volumes, "c", factor=30)
    yield Case(
        "signal.rfft3d", lambda x: apart(s.rfft3d(x)), lambda x: parts(np.fft.rfftn(x, axes=last)), volumes, factor=30
    )
    yield Case(
        "signal.irfft2d", lambda x: s.irfft2d(mixed(x, tj)), lambda x: np.fft.irfft2(mixed(x, np)),
        [[(3, 4)], [(2, 3)]], factor=40,
    )  # fmt: skip
    yield Case(
        "signal.irfft3d", lambda x: s.irfft3d(mixed(x, tj)), lambda x: np.fft.irfftn(mixed(x, np), axes=last), volumes,
        factor=40,
    )  # fmt: skip


def cosines(bins: int) -> np.ndarray:
    """cos(π / N (n + ½ + N / 2) (k + ½)): (2N, N)."""
    return np.cos(np.pi / bins * (np.arange(2 * bins)[:, None] + 0.5 + bins / 2) * (np.arange(bins) + 0.5))


def _of_frames() -> Iterator[Case]:
    s = tj.signal
    yield Case(
        "signal.mdct", lambda x: s.mdct(x, 8, None), lambda x: np.sqrt(2) * framed(x, 8, 4) @ cosines(4),
        [[(16,)], [(2, 12)]], factor=100, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "signal.inverse_mdct", lambda x: s.inverse_mdct(x, None),
        lambda x: added(x @ cosines(4).T * np.sqrt(2) / 8, 4), [[(3, 4)], [(2, 1, 4)]], factor=100, own_sizes=True,
    )  # fmt: skip
    yield Case(
        "signal.inverse_stft", lambda x: s.inverse_stft(mixed(x, tj), 4, 2, window_fn=None),
        lambda x: added(np.fft.irfft(mixed(x, np), 4), 2), [[(3, 3)], [(2, 1, 3)]], factor=40, own_sizes=True,
    )  # fmt: skip


def cases() -> Iterator[Case]:
    s = tj.signal
    yield Case("signal.fft", s.fft, np.fft.fft, LINES, "c", factor=20)
    yield Case("signal.ifft", s.ifft, np.fft.ifft, LINES, "c", factor=20)
    yield Case("signal.fft2d", s.fft2d, np.fft.fft2, [[(3, 4)], [(2, 3, 1)], [(0, 2, 3)]], "c", factor=20)
    yield Case(
        "signal.ifftnd", lambda x: s.ifftnd(x, [4, 3], [0, 1], "ortho"),
        lambda x: np.fft.ifftn(x, [4, 3], [0, 1], "ortho"), [[(3, 4)], [(2, 3, 1)], [(4, 2, 3)]], "c", factor=20,
    )  # fmt: skip
    yield Case(
        "signal.fft of both parts", lambda x: apart(s.fft(mixed(x, tj))), lambda x: parts(np.fft.fft(mixed(x, np))),
        LINES, factor=40,
    )  # fmt: skip
    yield Case("signal.rfft", lambda x: apart(s.rfft(x)), lambda x: parts(np.fft.rfft(x)), LINES, factor=20)
    yield Case(
        "signal.rfft, length", lambda x: apart(s.rfft(x, [5])), lambda x: parts(np.fft.rfft(x, 5)), LINES[:4],
        factor=20,
    )  # fmt: skip
    yield Case(
        "signal.rfft2d", lambda x: apart(s.rfft2d(x)), lambda x: parts(np.fft.rfft2(x)), [[(3, 4)], [(2, 4, 3)]],
        factor=20,
    )  # fmt: skip
    yield Case(
        "signal.rfftnd", lambda x: apart(s.rfftnd(x, axes=[-1, 0], norm="forward")),
        lambda x: parts(np.fft.rfftn(x, axes=[-1, 0], norm="forward")), [[(3, 4)], [(4, 2, 3)]], factor=20,
    )  # fmt: skip
    for n in (None, 5):
        yield Case(
            f"signal.irfft, length {n}", lambda x, n=n: s.irfft(mixed(x, tj), n and [n]),
            lambda x, n=n: np.fft.irfft(mixed(x, np), n) if x.shape[-1] > 1 or n else np.zeros((*x.shape[:-1], 0)),
            LINES, factor=40,
        )  # fmt: skip
    yield Case(
        "signal.irfftnd", lambda x: s.irfftnd(mixed(x, tj), [3, 4], [0, -1], "ortho"),
        lambda x: np.fft.irfftn(mixed(x, np), [3, 4], [0, -1], "ortho"), [[(3, 3)], [(4, 2, 3)]], factor=40,
    )  # fmt: skip
    yield from _of_several_axes()
    yield from _of_frames()
    yield Case("signal.fftshift", s.fftshift, np.fft.fftshift, [[(5,)], [(2, 3)], [(0, 4)]], "biufc")
    yield Case(
        "signal.ifftshift", lambda x: s.ifftshift(x, -1), lambda x: np.fft.ifftshift(x, -1), [[(5,)], [(2, 4)]],
        "biufc",
    )  # fmt: skip
    for kind in (1, 2, 3, 4):
        for norm in (None, "ortho")[: 1 if kind == 1 else 2]:
            yield Case(
                f"signal.dct, type {kind}, {norm}", lambda x, k=kind, o=norm: s.dct(x, k, norm=o),
                lambda x, k=kind, o=norm: sf.dct(x, k, norm=o), [[(5,)], [(2, 6)], [(0, 3)]][: 3 if kind > 1 else 2],
                factor=100,
            )  # fmt: skip
    yield Case("signal.idct", s.idct, lambda x: sf.dct(x, 3), [[(5,)], [(2, 6)]], factor=100)
    yield Case(
        "signal.frame", lambda x: s.frame(x, 4, 2), lambda x: framed(x, 4, 2), [[(9,)], [(2, 8)], [(3,)], [(2, 4)]],
        "biufc",
    )  # fmt: skip
    yield Case(
        "signal.frame without overlap", lambda x: s.frame(x, 3, 3), lambda x: framed(x, 3, 3), [[(8,)], [(2, 2)]]
    )
    yield Case(
        "signal.frame, padded", lambda x: s.frame(x, 3, 2, True, 1.5, 0),
        lambda x: np.stack([np.append(x, [1.5] * 4)[i : i + 3] for i in range(0, len(x), 2)]), [[(7,)], [(8,)], [(1,)]],
    )  # fmt: skip
    yield Case(
        "signal.overlap_and_add", lambda x: s.overlap_and_add(x, 2), lambda x: added(x, 2),
        [[(3, 5)], [(2, 1, 4)], [(4, 2)], [(0, 3)], [(2, 0, 5)]], "iufc", factor=5,
    )  # fmt: skip
    yield Case(
        "signal.stft", lambda x: apart(s.stft(x, 4, 2)),
        lambda x: parts(np.fft.rfft(framed(x, 4, 2) * (0.5 - 0.5 * np.cos(np.pi * np.arange(4) / 2)))),
        [[(9,)], [(2, 16)]], factor=40,
    )  # fmt: skip
    yield Case(
        "signal.mfccs_from_log_mel_spectrograms", s.mfccs_from_log_mel_spectrograms,
        lambda x: sf.dct(x, 2) / np.sqrt(2 * x.shape[-1]), [[(2, 5)]], factor=100,
    )  # fmt: skip
