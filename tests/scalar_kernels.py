"""What the tests of the scalar protocol share: a loop around one operation, compiled, and arguments to try it on."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

from tracejit.ir.types import as_dtype
from tracejit.lower import engine
from tracejit.lower.llvm import Module, Val
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarmath import LLVMScalar

VARIANTS = [(16, {}), (16, {"avx512": False}), (8, {}), (64, {}), (1, {})]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def module(f: Callable[..., S], kinds: list[str], out: str, width: int = 16, **options: bool) -> str:
    """IR of k(out, in..., n): out[i] = f(m, in[i]...)."""
    mod = Module()
    fn = mod.function("k", [(f"p{i}", "ptr") for i in range(len(kinds) + 1)] + [("n", "i64")])
    m = LLVMScalar(fn, width, **options)
    types, to = [as_dtype(k) for k in kinds], as_dtype(out)

    def body(i: Val) -> None:
        args = [m.load(fn.gep(p, i, m.memory(t)), t) for p, t in zip(fn.args[1:-1], types, strict=True)]
        m.store(f(m, *args), fn.gep(fn.args[0], i, m.memory(to)))

    fn.loop(0, fn.args[-1], body, step=width)
    fn.ret_()
    return mod.text()


def compiled(
    f: Callable[..., S], kinds: list[str], out: str, width: int = 16, **options: bool
) -> Callable[..., np.ndarray]:
    lib = engine.load(module(f, kinds, out, width, **options), ["k"])
    entry = lib.function("k", None, *[ctypes.c_void_p] * (len(kinds) + 1), ctypes.c_long)

    def run(*arrays: np.ndarray) -> np.ndarray:
        n = len(arrays[0])
        padded = [np.resize(np.ascontiguousarray(a), -(-n // 64) * 64) for a in arrays]
        r = np.empty(len(padded[0]), as_dtype(out).np)
        entry(r.ctypes.data, *[a.ctypes.data for a in padded], len(r))
        assert lib
        return r[:n]

    return run


def special(dt: np.dtype) -> np.ndarray:
    i = ml_dtypes.finfo(dt)
    near = [np.nextafter(np.float64(c), d) for c in (1.0, 0.75, 1.5) for d in (0.0, 2.0)]
    v = [0.0, math.inf, math.nan, 1, 0.5, 2, 3, float(i.tiny), float(i.smallest_subnormal), float(i.max), 1e-30, 0.75]
    v += [1.5, 10, 88.7, 100, 103.9, 700, 709.78, 745, 1e5, 131073, 1e10, 4.5, 7, *near]
    with np.errstate(over="ignore"):
        return np.array([*v, *[-x for x in v]]).astype(dt)


def sample(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    """Special values, random bits, and numbers of ordinary size."""
    dt, rng = as_dtype(dtype).np, np.random.default_rng(seed)
    bits = rng.integers(0, 256, n // 2 * dt.itemsize, dtype=np.uint8).view(dt)
    usual = rng.standard_normal(n // 4) * 10 ** rng.uniform(-3, 3, n // 4)
    near = np.concatenate([rng.uniform(-1.1, 1.1, n // 8), rng.uniform(0.5, 2, n // 8)])
    with np.errstate(all="ignore"):
        return np.concatenate([special(dt), bits, usual.astype(dt), near.astype(dt)])


def integers(dtype: str, n: int = 4000, seed: int = 0) -> np.ndarray:
    dt = as_dtype(dtype).np
    i = np.iinfo(dt)
    rng = np.random.default_rng(seed)
    edge = np.array([i.min, i.max, i.max - 1, 0, 1, 2, 3, 7, 10], dt)
    if i.min:
        edge = np.concatenate([edge, np.array([-1, -2, -3, -7, i.min + 1], dt)])
    small = rng.integers(-9 if i.min else 0, 10, n).astype(dt)
    return np.concatenate([edge, small, rng.integers(i.min, i.max, n, dtype=dt, endpoint=True)])
