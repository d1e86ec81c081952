"""How fast this machine can stream memory: what a kernel that only moves data could reach at best."""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from collections.abc import Callable

import numpy as np
from arrays import compute
from harness import Bar, Measured, Row
from peers import THREADS, open_peer

N = 10_000_000

# 64-byte streaming stores; d = a*b + c and e = a*b*c on whole vectors, which is what the workload `compute` does
_IR = """
define void @compute(ptr noalias %a, ptr noalias %b, ptr noalias %c, ptr noalias %d, ptr noalias %e, i64 %lo, i64 %hi) {
entry:
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %pa = getelementptr float, ptr %a, i64 %i
  %pb = getelementptr float, ptr %b, i64 %i
  %pc = getelementptr float, ptr %c, i64 %i
  %pd = getelementptr float, ptr %d, i64 %i
  %pe = getelementptr float, ptr %e, i64 %i
  %va = load <16 x float>, ptr %pa, align 64
  %vb = load <16 x float>, ptr %pb, align 64
  %vc = load <16 x float>, ptr %pc, align 64
  %ab = fmul <16 x float> %va, %vb
  %vd = fadd <16 x float> %ab, %vc
  %ve = fmul <16 x float> %ab, %vc
  store <16 x float> %vd, ptr %pd, align 64, !nontemporal !0
  store <16 x float> %ve, ptr %pe, align 64, !nontemporal !0
  %next = add i64 %i, 16
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
define void @copy(ptr noalias %a, ptr noalias %b, ptr noalias %c, ptr noalias %d, ptr noalias %e, i64 %lo, i64 %hi) {
entry:
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %pa = getelementptr float, ptr %a, i64 %i
  %pd = getelementptr float, ptr %d, i64 %i
  %va = load <16 x float>, ptr %pa, align 64
  store <16 x float> %va, ptr %pd, align 64, !nontemporal !0
  %next = add i64 %i, 16
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
!0 = !{i32 1}
"""
# bytes moved per element
_MOVED = {"compute": 20, "copy": 8}


def huge_array(n: int) -> np.ndarray:
    """n float32 in touched memory, in huge pages where the system has them."""
    memory = mmap.mmap(-1, n * 4 + (1 << 21))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    a = np.frombuffer(memory, np.float32)
    a[:] = 1.0
    start = -a.ctypes.data % (1 << 21) // 4
    return a[start : start + n]


def _native(name: str) -> Callable[..., None] | None:
    """A compiled loop, None where the compiler is missing."""
    try:
        from tracejit.lower.engine import load
    except ImportError:
        return None
    library = load(_IR, list(_MOVED), optimize=2)
    f = library.function(name, None, *[ctypes.c_void_p] * 5, ctypes.c_int64, ctypes.c_int64)
    f.library = library  # type: ignore[attr-defined]
    return f


def _in_threads(work: Callable[[int, int], None], n: int) -> float:
    """Seconds from the moment when all threads are ready to the moment when all have done their part."""
    barrier = threading.Barrier(THREADS + 1)
    step = n // THREADS // 16 * 16

    def part(i: int) -> None:
        barrier.wait()
        work(i * step, n if i == THREADS - 1 else (i + 1) * step)
        barrier.wait()

    threads = [threading.Thread(target=part, args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for t in threads:
        t.join()
    return seconds


def streaming(n: int, rounds: int) -> list[Row]:
    """How long the loops take to move what `compute` moves, at the rate that each of them reaches."""
    n -= n % (16 * THREADS)
    arrays = [huge_array(n) for _ in range(5)]
    pointers = [a.ctypes.data for a in arrays]
    loops: dict[str, tuple[Callable[[int, int], None], int]] = {
        "copy by NumPy": (lambda lo, hi: np.copyto(arrays[3][lo:hi], arrays[0][lo:hi]), _MOVED["copy"])
    }
    for name, moved in _MOVED.items():
        if (f := _native(name)) is not None:
            loops[f"{name}, native"] = (lambda lo, hi, f=f: f(*pointers, lo, hi)), moved
    seconds = {name: [_in_threads(loop, n) for _ in range(rounds)] for name, (loop, _) in loops.items()}
    rows = []
    for name, (_, moved) in loops.items():
        rates = [n * moved / s / 1e9 for s in seconds[name]]
        micro = n * _MOVED["compute"] / max(rates) / 1e3
        rows.append(Row("bandwidth", name, micro, rounds=rounds, note=f"{max(rates):.1f} GB/s"))
    return rows


def _measure(names: list[str], quick: bool) -> list[Row]:
    """Tracejit and the loops in turns; the fastest loop is the machine's bandwidth."""
    peer = open_peer("tracejit") if "tracejit" in names else None
    call = compute(N).make(peer) if peer else None
    best: dict[str, Row] = {}
    times = []
    for _ in range(2 if quick else 5):
        for row in streaming(N, 5):
            if row.framework not in best or row.value < best[row.framework].value:
                best[row.framework] = row
        for _ in range(8 if call else 0):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e6)
    rows = list(best.values())
    if times:
        rate = N * _MOVED["compute"] / min(times) / 1e3
        rows.insert(0, Row("bandwidth", "tracejit", min(times), rounds=len(times), note=f"{rate:.1f} GB/s"))
    return rows


def workload() -> Measured:
    bar = Bar("≥ 90 % of the machine's bandwidth", 1 / 0.9, "best")
    return Measured("bandwidth", "a*b + c and a*b*c, 1e7, against streaming loops", bar, _measure)
