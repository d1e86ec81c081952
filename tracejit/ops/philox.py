"""The counter-based generator Philox4x32-10 as two elementwise rows: NumPy's kernel and the scalar form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import DTypeError
from tracejit.ir.op import Op
from tracejit.ir.types import DType, TensorType, broadcast_shapes, uint32, uint64

# J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011)
M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # what the key grows by in each round
ROUNDS = 10
_LOW = 0xFFFFFFFF


def philox(counter: np.ndarray, stream: np.ndarray, key: np.ndarray) -> list[np.ndarray]:
    """Four 32-bit words, as uint64, of the 128-bit counter (low half `counter`, high half `stream`) under a key."""
    low, shift = np.uint64(_LOW), np.uint64(32)
    c0, c1, c2, c3 = counter & low, counter >> shift, stream & low, stream >> shift
    k0, k1 = key & low, key >> shift
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(M0), c2 * np.uint64(M1)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & low, (p0 >> shift) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(W0)) & low, (k1 + np.uint64(W1)) & low
    return [c0, c1, c2, c3]


BLOCK = 8192  # counters at a time: their words stay in the cache


# Native functions that do what `_words` does for contiguous lines of numbers, by `per`; and who loads them after so
# many calls.
Words = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
NATIVE: dict[int, Words] = {}
WHEN_FREQUENT: list[Callable[[], None]] = []
_FREQUENT = 64
_calls = 0


def _count() -> None:
    global _calls
    _calls += 1
    if _calls == _FREQUENT:
        for begin in WHEN_FREQUENT:
            begin()


def _words(i: np.ndarray, key: np.ndarray, stream: np.ndarray, per: int) -> np.ndarray:
    """The words of elements `i`, `per` of them in one counter's 128 bits."""
    flat = i.reshape(-1)
    native = NATIVE.get(per)
    if native is None:
        _count()
    elif flat.dtype is uint64.np and key.dtype is stream.dtype is uint64.np:
        return native(np.ascontiguousarray(flat), key, stream).reshape(i.shape)
    shift = np.uint64(per.bit_length() - 1)
    counters, place = _distinct(flat >> shift)
    out = np.empty((counters.size, per), np.uint64)
    for at in range(0, counters.size, BLOCK):
        out[at : at + BLOCK] = _together(philox(counters[at : at + BLOCK], stream, key), per)
    lane = flat & np.uint64(per - 1)
    return np.take(out, place * per + lane.view(np.int64)).reshape(i.shape)


def _distinct(counters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal counters made one each, and for every element the number of its run."""
    new = np.empty(counters.shape, np.bool_)
    new[:1] = True
    np.not_equal(counters[1:], counters[:-1], out=new[1:])
    return counters[new], np.cumsum(new) - 1


def _together(words: list[np.ndarray], per: int) -> np.ndarray:
    w = np.stack(words, -1)
    return w if per == 4 else w[..., 0::2] | (w[..., 1::2] << np.uint64(32))


def _kernel(per: int, dtype: DType) -> Any:
    def run(i: np.ndarray, key: np.ndarray, stream: np.ndarray) -> np.ndarray:
        native = NATIVE.get(per)
        if native is not None and i.ndim == 1 and i.flags.c_contiguous and i.dtype is uint64.np and not key.ndim:
            if not stream.ndim and key.dtype is stream.dtype is uint64.np:
                return native(i, key, stream).astype(dtype.np, copy=False)
        if not key.ndim and not stream.ndim:
            return _words(i, key, stream, per).astype(dtype.np, copy=False)
        shape = np.broadcast_shapes(i.shape, key.shape, stream.shape)
        if key.size == 1 and stream.size == 1:
            r = _words(i, key.reshape(()), stream.reshape(()), per)
        else:
            i, key, stream = (np.broadcast_to(a, shape) for a in (i, key, stream))
            words = _together(philox(i // np.uint64(per), stream, key), per)
            r = np.take_along_axis(words, (i % np.uint64(per)).astype(np.intp)[..., None], -1)[..., 0]
        return np.broadcast_to(r, shape).astype(dtype.np)

    return run


def _scalar(per: int) -> Any:
    def body(m: Any, i: Any, key: Any, stream: Any) -> Any:
        def c(v: int) -> Any:
            return m.const(v, uint64)

        def halves(x: Any) -> tuple[Any, Any]:
            return m.bit_and(x, c(_LOW)), m.shift_right(x, c(32))

        # 32-bit words in 64-bit lanes: a vector unit multiplies these without moving them about
        (c0, c1), (c2, c3), (k0, k1) = halves(m.shift_right(i, c(per.bit_length() - 1))), halves(stream), halves(key)
        for _ in range(ROUNDS):
            (l0, h0), (l1, h1) = halves(m.mul(c0, c(M0))), halves(m.mul(c2, c(M1)))
            c0, c1 = m.bit_xor(m.bit_xor(h1, c1), k0), l1
            c2, c3 = m.bit_xor(m.bit_xor(h0, c3), k1), l0
            k0, k1 = m.bit_and(m.add(k0, c(W0)), c(_LOW)), m.bit_and(m.add(k1, c(W1)), c(_LOW))
        odd = m.ne(m.bit_and(i, c(1)), c(0))
        if per == 2:
            return m.bit_or(m.select(odd, c2, c0), m.shift_left(m.select(odd, c3, c1), c(32)))
        upper = m.ne(m.bit_and(i, c(2)), c(0))
        return m.cast(m.select(upper, m.select(odd, c3, c2), m.select(odd, c1, c0)), uint32)

    return body


def _row(name: str, per: int, dtype: DType, doc: str) -> Op:
    def infer(i: TensorType, key: TensorType, stream: TensorType) -> TensorType:
        for t in (i, key, stream):
            if t.dtype is not uint64:
                raise DTypeError(f"dtype {t.dtype.name}; it takes uint64")
        return TensorType(dtype, broadcast_shapes(i.shape, key.shape, stream.shape))

    return Op(
        name, "elementwise", infer, _kernel(per, dtype), scalar=_scalar(per), arity=3, dtypes="u", result=dtype.name,
        domain=(0, 100), doc=doc,
    )  # fmt: skip


philox32 = _row("philox32", 4, uint32, "32 random bits: word i of the sequence of a key and a stream, all uint64.")
philox64 = _row("philox64", 2, uint64, "64 random bits: words 2i and 2i + 1 of the sequence of a key and a stream.")
