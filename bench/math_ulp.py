"""Speed and accuracy of the elementary functions beside NumPy, JAX and PyTorch, on one core.

    python bench/math_ulp.py                       all functions, float32 and float64
    python bench/math_ulp.py exp pow --samples 24  errors on 2**24 arguments
    python bench/math_ulp.py exp --exhaustive      float32: every argument

Speeds are 10**9 elements per second, the best of many runs over an array that stays in the cache; the frameworks take
turns. JAX and PyTorch are measured if they are installed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

for _name in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from tracejit.ir.types import as_dtype  # noqa: E402
from tracejit.lower import engine  # noqa: E402
from tracejit.lower.llvm import Module, Val, i64  # noqa: E402
from tracejit.lower.scalarmath import LLVMScalar  # noqa: E402

NAMES = (
    "exp exp2 expm1 log log2 log10 log1p tanh sigmoid softplus erf erfc sin cos tan asin acos atan atan2 sinh cosh "
    "asinh acosh atanh pow sqrt"
).split()
NUMPY = {"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "pow": np.power,
         "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh}  # fmt: skip
Call = Callable[[], object]


# --- our own functions --------------------------------------------------------------------------------------------
def compiled(name: str, dtype: str, width: int, unroll: int, avx512: bool | None) -> tuple[Callable[..., None], float]:
    """A function of (out, arguments...) and the milliseconds that it took to compile."""
    d = as_dtype(dtype)
    count = 2 if name in ("pow", "atan2") else 1
    start = time.perf_counter()
    module = Module()
    fn = module.function("k", [(f"p{i}", "ptr") for i in range(count + 1)] + [("n", "i64")])
    m = LLVMScalar(fn, width, avx512)

    def body(i: Val) -> None:
        for u in range(unroll):
            at = fn.add(i, i64(u * width))
            args = [m.load(fn.gep(p, at, m.memory(d)), d) for p in fn.args[1:-1]]
            m.store(getattr(m, name)(*args), fn.gep(fn.args[0], at, m.memory(d)))

    fn.loop(0, fn.args[-1], body, step=width * unroll)
    fn.ret_()
    library = engine.load(module.text(), ["k"])
    entry = library.function("k", None, *[ctypes.c_void_p] * (count + 1), ctypes.c_long)
    took = (time.perf_counter() - start) * 1e3

    def run(out: np.ndarray, *args: np.ndarray) -> None:
        assert library and len(out) % (width * unroll) == 0
        entry(out.ctypes.data, *[a.ctypes.data for a in args], len(out))

    return run, took


# --- speed --------------------------------------------------------------------------------------------------------
def arguments(name: str, dtype: str, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    low, high = {
        "asin": (-0.99, 0.99), "acos": (-0.99, 0.99), "atanh": (-0.99, 0.99), "acosh": (1, 10), "log": (0.001, 10),
        "log2": (0.001, 10), "log10": (0.001, 10), "log1p": (-0.9, 10), "pow": (0.001, 10), "sqrt": (0, 10),
    }.get(name, (-10, 10))  # fmt: skip
    args = [rng.uniform(low, high, n)] + ([rng.uniform(-3, 3, n)] if name in ("pow", "atan2") else [])
    return [a.astype(dtype) for a in args]


def peers(name: str, args: list[np.ndarray]) -> dict[str, Call]:
    out = np.empty_like(args[0])
    calls: dict[str, Call] = {}
    ufunc = NUMPY.get(name) or getattr(np, name, None)
    if ufunc is not None:
        calls["numpy"] = lambda: ufunc(*args, out=out)
    if importlib.util.find_spec("jax"):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        special = {"sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "erf": jax.lax.erf, "erfc": jax.lax.erfc}
        f = jax.jit(special.get(name) or getattr(jnp, name))
        xs = [jnp.asarray(a) for a in args]
        calls["jax"] = lambda: f(*xs).block_until_ready()
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        g = torch.nn.functional.softplus if name == "softplus" else getattr(torch, name)
        ts = [torch.from_numpy(a) for a in args]
        place = torch.empty_like(ts[0])
        calls["torch"] = (lambda: g(*ts)) if name == "softplus" else (lambda: g(*ts, out=place))
    return calls


def best(calls: dict[str, Call], n: int, rounds: int) -> dict[str, float]:
    """The least time of each, taken in turns."""
    least = dict.fromkeys(calls, 1e9)
    for call in calls.values():
        call()
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            least[key] = min(least[key], time.perf_counter() - start)
    return {k: n / t / 1e9 for k, t in least.items()}


# --- accuracy -----------------------------------------------------------------------------------------------------
def x87(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The C library's long double function, where NumPy has none."""
    module = Module()
    fn = module.function("k", [("out", "ptr"), ("x", "ptr"), ("n", "i64")])
    module.declare(f"{name}l", "x86_fp80", ["x86_fp80"])

    def body(i: Val) -> None:
        at = fn.mul(i, Val("16", "i64"))
        v = fn.load("x86_fp80", fn.gep(fn.args[1], at), 16)
        fn.store(fn.call(f"{name}l", [v], "x86_fp80"), fn.gep(fn.args[0], at), 16)

    fn.loop(0, fn.args[2], body)
    fn.ret_()
    library = engine.load(module.text(), ["k"])
    entry = library.function("k", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)

    def run(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        entry(out.ctypes.data, x.ctypes.data, x.size)
        assert library
        return out

    return run


def reference(name: str) -> Callable[..., np.ndarray]:
    if name in ("erf", "erfc"):
        return x87(name)
    if name == "sigmoid":
        return lambda x: np.where(x < 0, np.exp(-abs(x)), 1) / (1 + np.exp(-abs(x)))
    if name == "softplus":
        return lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
    return NUMPY.get(name) or getattr(np, name)  # type: ignore[no-any-return]


def batches(name: str, dtype: str, log2n: int, exhaustive: bool) -> Iterator[list[np.ndarray]]:
    dt, step = np.dtype(dtype), 1 << 20
    bits = np.dtype(f"u{dt.itemsize}")
    if exhaustive and dt.itemsize == 4:
        for at in range(0, 1 << 32, step):
            yield [np.arange(at, at + step, dtype=np.uint64).astype(np.uint32).view(dt)]
        return
    for k in range(max(1, (1 << log2n) // step)):
        rng = np.random.default_rng(k)
        n = min(step, 1 << log2n)
        wild = rng.integers(0, np.iinfo(bits).max, n // 2, dtype=bits, endpoint=True).view(dt)
        usual = rng.standard_normal(n // 4) * 10 ** rng.uniform(-3, 3, n // 4)
        near = np.concatenate([rng.uniform(-1.1, 1.1, n // 8), rng.uniform(0.5, 2, n // 8)])
        with np.errstate(all="ignore"):
            x = np.concatenate([wild, usual.astype(dt), near.astype(dt)])
        if name not in ("pow", "atan2"):
            yield [x]
            continue
        y = rng.permutation(x)
        if name == "pow":
            x[-n // 2 :] = np.exp(rng.uniform(-1, 1, n // 2) * rng.choice([0.01, 1, 10, 40], n // 2))
            top = np.log(float(np.finfo(dt).max))
            with np.errstate(all="ignore"):
                y[-n // 2 :] = rng.uniform(-top, top, n // 2) / np.log(x[-n // 2 :].astype(float))
        yield [x, y]


def worst(name: str, dtype: str, run: Callable[..., None], log2n: int, exhaustive: bool) -> tuple[float, str]:
    """The largest error in units of the last place, and where; results of the wrong class count as infinite."""
    fi, ref = np.finfo(dtype), reference(name)
    largest, where = 0.0, ""
    for args in batches(name, dtype, log2n, exhaustive):
        got = np.empty_like(args[0])
        run(got, *args)
        with np.errstate(all="ignore"):
            want = ref(*[a.astype(np.longdouble) for a in args])
            size = np.frexp(np.where(np.isfinite(want), want, 1))[1]
            unit = np.maximum(np.ldexp(np.longdouble(1), size - fi.nmant - 1), np.longdouble(fi.smallest_subnormal))
            error = abs(got.astype(np.longdouble) - want) / unit
            rounded = want.astype(dtype)
            same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
            error = np.where(same & ~np.isfinite(rounded), 0, error)
            near_top = np.isinf(got) != np.isinf(rounded)
            near_top &= (abs(want) < fi.max * np.longdouble(1.000001)) & (abs(want) > fi.max * np.longdouble(0.999999))
            error = np.where(near_top, 1, error)
            error = np.where(
                np.isnan(error) | ((rounded == 0) & (np.signbit(got) != np.signbit(rounded))), np.inf, error
            )
        at = int(np.argmax(error))
        if error[at] > largest:
            largest, where = float(error[at]), ", ".join(repr(a[at].item()) for a in args)
    return largest, where


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"functions (default: {' '.join(NAMES)})")
    p.add_argument("--dtypes", default="float32,float64")
    p.add_argument("--width", type=int, default=16, help="lanes of a vector (default: %(default)s)")
    p.add_argument("--unroll", type=int, default=2, help="vectors per iteration (default: %(default)s)")
    p.add_argument("--portable", action="store_true", help="without AVX-512's special instructions")
    p.add_argument("--size", type=int, default=1 << 16, help="elements per timed call (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=60, help="timed calls (default: %(default)s)")
    p.add_argument("--samples", type=int, default=18, help="log2 of the arguments for errors; 0: no errors")
    p.add_argument("--exhaustive", action="store_true", help="errors on every float32 argument (minutes per function)")
    o = p.parse_args()
    print(f"{'':17} {'Gel/s':>6} {'ulp':>5} {'ms':>4}   others, Gel/s")
    for name in o.names:
        for dtype in o.dtypes.split(","):
            run, took = compiled(name, dtype, o.width, o.unroll, False if o.portable else None)
            args = arguments(name, dtype, o.size)
            out = np.empty_like(args[0])
            calls: dict[str, Call] = {"": lambda run=run, out=out, args=args: run(out, *args)}  # type: ignore[misc]
            speed = best(calls | peers(name, args), o.size, o.rounds)
            error, where = worst(name, dtype, run, o.samples, o.exhaustive) if o.samples else (0.0, "")
            others = "  ".join(f"{k} {v:.2f}" for k, v in speed.items() if k)
            print(f"{name:9}{dtype:8} {speed['']:6.2f} {error:5.2f} {took:4.0f}   {others:36} {where}", flush=True)


if __name__ == "__main__":
    main()
