"""Roots of unity and the tables of Fourier transforms: butterflies' sizes, twiddle factors, chirps."""

from __future__ import annotations

import functools
import math

import numpy as np

from tracejit.ir.types import DType

PRIMES = (2, 3, 5, 7, 11, 13)
STAGE = 4  # integers for each stage in a table: the butterfly's size, m, the stride, where its roots begin
_KEPT = 64  # tables that are kept for the next program


def radices(n: int) -> list[int] | None:
    """The sizes of the butterflies, those of 4 first; None if a prime factor is too large."""
    out = []
    for r in (4, *PRIMES):
        while n and n % r == 0:
            out.append(r)
            n //= r
    return out if n == 1 else None


def root(k: int, n: int) -> tuple[float, float]:
    """e^(−2πi·k / n), from an angle within an eighth of a turn."""
    turns = (8 * (k % n) // n + 1) // 2  # quarters
    angle = 2 * math.pi * (4 * (k % n) - turns * n) / (4 * n)
    c, s = math.cos(angle), -math.sin(angle)
    for _ in range(turns):
        c, s = s, -c  # times −i, a quarter of a turn
    return c, s


def roots(k: np.ndarray, n: int) -> np.ndarray:
    """The same for many k at once."""
    k = k % n
    turns = (8 * k // n + 1) // 2
    angle = 2 * math.pi * (4 * k - turns * n) / (4 * n)
    found: np.ndarray = (np.cos(angle) - 1j * np.sin(angle)) * np.array([1, -1j, -1, 1j])[turns % 4]
    return found


def smooth_above(n: int) -> int:
    """The least 2ᵃ, 3·2ᵃ or 5·2ᵃ that is at least n."""
    return min(r << max(0, (-(-n // r) - 1).bit_length()) for r in (1, 3, 5))


def padded(n: int) -> int:
    """The length of the transforms that a line of n elements takes: its own, or that of a convolution with a chirp."""
    return n if n and radices(n) is not None else smooth_above(2 * n - 1)


def _aligned(*parts: np.ndarray) -> np.ndarray:
    """Arrays one behind the other, from the beginning of a cache line on."""
    nbytes = sum(p.nbytes for p in parts)
    memory = np.empty(nbytes + 64, np.uint8)
    first = -memory.ctypes.data % 64
    table = memory[first : first + nbytes]
    at = 0
    for p in parts:
        table[at : at + p.nbytes] = p.reshape(-1).view(np.uint8)
        at += p.nbytes
    return table


def _complex(dtype: DType) -> type:
    return np.complex64 if dtype.bits == 32 else np.complex128


def _halves(n: int, c: type) -> np.ndarray:
    return roots(np.arange(n // 2 + 1), n).astype(c)


@functools.lru_cache(_KEPT)
def stage_table(n: int, dtype: DType) -> np.ndarray:
    """The number of stages; the integers of each; for each stage and p the powers 1, 2, … of its root."""
    numbers = radices(n)
    assert numbers is not None
    c = _complex(dtype)
    head, parts = [len(numbers)], []
    at, left, stride = 8 * (1 + STAGE * len(numbers)), n, 1
    at += -at % 64
    pad = np.zeros((at - 8 * (1 + STAGE * len(numbers))) // 8, np.int64)
    for r in numbers:
        m = left // r
        turns: np.ndarray = roots(np.arange(m)[:, None] * np.arange(1, r), left).astype(c)
        head += [r, m, stride, at]
        parts.append(turns)
        at += turns.nbytes
        left, stride = m, stride * r
    return _aligned(np.array(head, np.int64), pad, *parts)


@functools.lru_cache(_KEPT)
def half_table(n: int, dtype: DType) -> np.ndarray:
    """The roots e^(−2πi·k / n), 2k ≤ n, by which halves of spectra are put together."""
    return _aligned(_halves(n, _complex(dtype)))


@functools.lru_cache(_KEPT)
def chirp_table(n: int, length: int, dtype: DType) -> np.ndarray:
    """e^(−πi·k² / n), k < n; then the transform of the conjugates, around 0 and over `length`, divided by that.

    Bluestein, "A linear filtering approach to the computation of discrete Fourier transform" (1970).
    """
    k = np.arange(n)
    chirp = roots(k * k % (2 * n), 2 * n)
    around = np.zeros(length, np.complex128)
    around[:n] = chirp.conj()
    around[length - n + 1 :] = chirp[:0:-1].conj()
    c = _complex(dtype)
    return _aligned(chirp.astype(c), (np.fft.fft(around) / length).astype(c))


@functools.lru_cache(_KEPT)
def turn_table(first: int, second: int, width: int, dtype: DType) -> np.ndarray:
    """The factors w^(k·i) between the transforms of two lengths, w the root of their product and k < first.

    i is at + lane: for each k the real and the imaginary parts of w^(k·lane); then for each set of lanes, and each k,
    w^(k·at).
    """
    n, k, c = first * second, np.arange(first), _complex(dtype)
    lanes: np.ndarray = roots(k[:, None] * np.arange(width), n).astype(c)
    sets = np.minimum(np.arange(0, second, width), second - width)
    return _aligned(np.stack([lanes.real, lanes.imag], 1), roots(sets[:, None] * k, n).astype(c))


def split(n: int, width: int) -> tuple[int, int] | None:
    """Two factors of n near to each other, both of at least `width`, multiples of that if there are such."""
    found = [d for d in range(width, math.isqrt(n) + 1) if n % d == 0]
    found = [d for d in found if n // d >= width]
    even = [d for d in found if d % width == 0 and n // d % width == 0]
    near = [d for d in even if d * d * 8 >= n] or found
    return (near[-1], n // near[-1]) if near else None
