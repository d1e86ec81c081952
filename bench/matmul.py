"""GFLOP/s of the generated matrix products beside NumPy and, where installed, jax and torch, timed in turns.

    python bench/matmul.py [--threads 2] [--dtype float32] [--rounds 7] [case ...]

A case is MxNxK, with a leading batch (256x64x64x64) or a suffix of nn, tn, nt (128x10x512tn); without any, a table of
shapes that networks have. The product runs as in a compiled program: natively, on the thread pool, many times in turn.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import re
import sys
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

TABLE = (
    "16x16x16 32x32x32 64x64x64 128x128x128 256x256x256 512x512x512 1024x1024x1024 2048x2048x2048 "
    "128x512x784 32x512x784 1024x512x784 128x10x512 784x512x128tn 512x10x128tn 128x512x10nt 128x784x512nt "
    "32x64x32 32x64x64 32x10x64 64x64x32tn 64x10x32tn 32x64x10nt "
    "1x512x784 2x512x784 4x512x784 8x512x784 1x512x784nt 4x512x784nt 256x64x64x64 1000x1000x10 10x64x100000tn "
    "2x1x2000tn 1000x1000x1000 1000x1x1000 100x100x100"
).split()


def parse(case: str) -> tuple[int, int, int, int, str]:
    found = re.fullmatch(r"((?:\d+x)+\d+)(nn|tn|nt)?", case)
    sizes = [int(s) for s in found[1].split("x")] if found else []
    if len(sizes) not in (3, 4):
        raise SystemExit(f"no case: {case!r}; write MxNxK or BxMxNxK, perhaps with nn, tn or nt behind")
    b, m, n, k = sizes if len(sizes) == 4 else [1, *sizes]
    return b, m, n, k, found[2] or "nn"


class Native:
    """Products of one dtype, called the way a compiled program calls them."""

    def __init__(self, dtype: str) -> None:
        from tracejit.ir.types import as_dtype
        from tracejit.lower import engine, matmul
        from tracejit.lower.llvm import Module, Val
        from tracejit.runtime import threads

        self.dtype = as_dtype(dtype)
        module = Module()
        pool, start = threads.address(), time.perf_counter()
        self.steps = matmul.emit(module, "mm", self.dtype, matmul.StoreEpilogue(self.dtype))
        fn = module.function("run", [("frame", "ptr"), ("idx", "ptr"), ("work", "ptr"), ("calls", "i64")])
        frame, idx, work, calls = fn.args

        def once(_: Val) -> None:
            for i, step in enumerate(self.steps):
                tasks, grain = (fn.load("i64", fn.gep(work, 16 * i + 8 * j)) for j in range(2))
                fn.call("tj_parallel", [Val(f"@{step.name}", "ptr"), frame, idx, tasks, grain], declare=True)

        fn.loop(0, calls, once)
        fn.ret_()
        text = module.text()
        emitted = time.perf_counter()
        symbols = matmul.symbols(self.dtype)
        library = time.perf_counter()
        self.code = engine.load(text, ["run"], {**symbols, "tj_parallel": pool})
        end = time.perf_counter()
        self.compile_ms = ((library - emitted) * 1e3, (emitted - start + end - library) * 1e3)
        self.run = self.code.function("run", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
        self.scratch_bytes = matmul.scratch_bytes

    def bind(self, a, b, c) -> Callable[[int], None]:  # type: ignore[no-untyped-def]
        import numpy as np

        size, (batch, m, k), n = a.itemsize, a.shape, b.shape[2]
        scratch = aligned(np, (self.scratch_bytes(self.dtype, m, n, k, batch),), np.uint8)
        strides = [s // size for x in (a, b) for s in x.strides]
        slots = [a.ctypes.data, b.ctypes.data, m, n, k, batch, *strides, scratch.ctypes.data, 0, 0]
        slots += [c.ctypes.data, c.strides[1] // size, c.strides[0] // size]
        frame, idx = np.array(slots, np.int64), np.arange(len(slots), dtype=np.int32)
        sizes = m, n, k, batch
        work = np.array([f(*sizes) for s in self.steps for f in (s.tasks, s.grain)], np.int64)
        keep = (frame, idx, work, scratch)
        return lambda calls: self.run(*(x.ctypes.data for x in keep[:3]), calls)


def aligned(np, shape, dtype):  # type: ignore[no-untyped-def]
    """An uninitialised array that starts at a multiple of 64 bytes."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(count + 64, np.uint8)
    at = -raw.ctypes.data % 64
    return raw[at : at + count].view(dtype).reshape(shape)


def peers(a, b, c, wanted: list[str], threads: int) -> dict[str, Callable[[], object]]:  # type: ignore[no-untyped-def]
    """What the other libraries call for the same product."""
    import numpy as np

    calls: dict[str, Callable[[], object]] = {"numpy": lambda: np.matmul(a, b, out=c)}
    if "jax" in wanted:
        import jax

        jax.config.update("jax_enable_x64", c.dtype == np.float64)
        swap = [x.strides[1] < x.strides[2] for x in (a, b)]
        ja, jb = (jax.numpy.asarray(x.swapaxes(1, 2) if s else x) for x, s in zip((a, b), swap))
        one = jax.jit(lambda x, y: jax.numpy.matmul(*(v.swapaxes(1, 2) if s else v for v, s in zip((x, y), swap))))
        calls["jax"] = lambda: one(ja, jb).block_until_ready()
    if "torch" in wanted:
        import torch

        torch.set_num_threads(threads)
        ta, tb, tc = (torch.from_numpy(x) for x in (a, b, c))
        if len(a) == 1:
            ta, tb, tc = ta[0], tb[0], tc[0]
        calls["torch"] = lambda: torch.matmul(ta, tb, out=tc)
    return calls


def seconds(call: Callable[[int], object], calls: int) -> float:
    start = time.perf_counter()
    call(calls)
    return (time.perf_counter() - start) / calls


def repeat(call: Callable[[], object]) -> Callable[[int], None]:
    def many(calls: int) -> None:
        for _ in range(calls):
            call()

    return many


def measure(native: Native, case: str, wanted: list[str], threads: int, rounds: int) -> dict[str, float]:
    """Least seconds per call by library."""
    import numpy as np

    batch, m, n, k, form = parse(case)
    rng = np.random.default_rng(0)

    def operand(rows: int, cols: int, transposed: bool):  # type: ignore[no-untyped-def]
        x = aligned(np, (batch, cols, rows) if transposed else (batch, rows, cols), native.dtype.np)
        x[...] = rng.standard_normal(x.shape)
        return x.swapaxes(1, 2) if transposed else x

    a, b = operand(m, k, form == "tn"), operand(k, n, form == "nt")
    c = aligned(np, (batch, m, n), native.dtype.np)
    calls = {"tracejit": native.bind(a, b, c)}
    calls["tracejit"](1)
    wide = [x.astype(np.float64) for x in (a, b, c)]
    tolerance = 64 * 2.0 ** -{"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}[native.dtype.name]
    if not np.allclose(wide[2], wide[0] @ wide[1], rtol=tolerance, atol=tolerance * math.sqrt(k)):
        raise SystemExit(f"{case}: wrong result")
    calls |= {name: repeat(f) for name, f in peers(a, b, c, wanted, threads).items()}
    best = dict.fromkeys(calls, math.inf)
    for name, call in calls.items():
        call(2)
        best[name] = seconds(call, 1)
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], seconds(call, max(1, min(2000, int(2e-3 / best[name])))))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=TABLE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", default="numpy,jax,torch")
    args = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(args.threads)
    os.environ["TRACEJIT_NUM_THREADS"] = str(args.threads)
    import importlib.util

    wanted = [p for p in args.peers.split(",") if importlib.util.find_spec(p)]
    native = Native(args.dtype)
    library, kernel = native.compile_ms
    print(f"{args.dtype}, {args.threads} threads; compiled: library {library:.0f} ms, kernel {kernel:.1f} ms")
    print(f"{'GFLOP/s':<20}" + "".join(f"{n:>10}" for n in ("tracejit", *wanted)) + f"{'µs':>12}")
    for case in args.cases:
        best = measure(native, case, wanted, args.threads, args.rounds)
        batch, m, n, k, _ = parse(case)
        flops = 2e-9 * batch * m * n * k
        figures = "".join(f"{flops / best[n]:>10.1f}" for n in ("tracejit", *wanted) if n in best)
        print(f"{case:<20}{figures}{best['tracejit'] * 1e6:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
