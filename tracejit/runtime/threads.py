"""How many threads kernels run on: the pool's Python side, its start and end, and what happens in a forked process."""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracejit.errors import ArgumentError, locate
from tracejit.runtime.modules import Recipe, load
from tracejit.runtime.pool import EXPORTS, Pool
from tracejit.runtime.poolwait import FUTEX, MAX_THREADS

if TYPE_CHECKING:
    from tracejit.lower.engine import Library

# Rounds of the loop in which an idle worker waits before it sleeps: 50 to 300 µs, by processor.
_SPINS = 3000

_lock = threading.RLock()
_native: Library | None = None
_threads: int | None = None
_closing = False


def target() -> tuple[str, str]:
    """The kind of operating system ("linux", "posix", or "none" where the pool has no threads) and the processor."""
    machine = platform.machine()
    if os.name != "posix" or sys.maxsize < 1 << 32:
        return "none", machine
    return ("linux" if sys.platform == "linux" and machine in FUTEX else "posix"), machine


def module_text(system: str, machine: str) -> str:
    """The pool's LLVM module for "linux", "posix" or "none" on a processor."""
    return Pool(system, machine).text()


def recipe() -> Recipe:
    """The pool for this machine."""
    return Recipe(module_text, target(), EXPORTS)


def cgroup_folders(controller: str, root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> Iterator[str]:
    """The folders that describe this process's control group and its parents."""
    try:
        with open(own) as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in lines:
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 has a tree for each controller, version 2 one for all.
        folder = os.path.join(root, controllers)
        yield folder
        for part in path.split("/"):
            if part:
                folder = os.path.join(folder, part)
                yield folder


def _quota_of(folder: str) -> float:
    try:
        with open(os.path.join(folder, "cpu.max")) as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open(os.path.join(folder, "cpu.cfs_quota_us")) as file:
                quota = file.read().strip()
            with open(os.path.join(folder, "cpu.cfs_period_us")) as file:
                period = file.read().strip()
        except OSError:
            return float("inf")
    if quota in ("max", "-1") or not period.isdigit() or int(period) == 0:
        return float("inf")
    return int(quota) / int(period)


def available() -> int:
    """The processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    n = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = min([float(n), *map(_quota_of, cgroup_folders("cpu"))])
    return max(1, min(n, MAX_THREADS, int(quota)))


def _default() -> int:
    own = os.environ.get("TRACEJIT_NUM_THREADS", "").strip()
    if own:
        if not own.isdigit() or not 1 <= int(own) <= MAX_THREADS:
            text = f"the environment variable TRACEJIT_NUM_THREADS is {own!r}, and no number from 1 to {MAX_THREADS}"
            raise locate(ArgumentError(text, remedy="set it to a number before Python starts, or leave it out"))
        return int(own)
    most = _number("OMP_THREAD_LIMIT") or MAX_THREADS
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if count := _number(name):
            return min(count, most, MAX_THREADS)
    return min(available(), most)


def _number(name: str) -> int:
    """The number in an environment variable, 0 if there is none; OpenMP's may hold one for each level of nesting."""
    count = os.environ.get(name, "").split(",")[0].strip()
    return int(count) if count.isdigit() else 0


def _configure(native: Library, count: int) -> None:
    # With more threads than processors a waiting thread would keep a working one from running.
    spins = _SPINS if count <= available() else 100
    native.function("tj_pool_threads", None, ctypes.c_int32, ctypes.c_int32)(count, spins)


def _library() -> Library:
    global _native
    with _lock:
        if _native is None:
            native = load(recipe())
            # Workers may still be in this code while the interpreter ends: it stays loaded.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
            _configure(native, 1 if _closing else get_threads())
            _native = native
        return _native


def address() -> int:
    """The address of `void tj_parallel(ptr fn, ptr frame, ptr idx, i64 n, i64 chunk)`."""
    return _library()["tj_parallel"]


def get_threads() -> int:
    """The number of threads that a parallel kernel runs on, the calling one included."""
    global _threads
    if _threads is None:
        _threads = _default()
    return _threads


def set_threads(count: int) -> None:
    """Run parallel kernels on `count` threads from the next launch on, in the whole process."""
    global _threads
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_THREADS:
        raise ArgumentError(f"the number of threads must be an integer from 1 to {MAX_THREADS}, got {count!r}")
    _threads = count
    if _native is not None and not _closing:
        _configure(_native, count)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`with threads(1): ...` — another number of threads for a while. The number belongs to the process."""
    before = get_threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


def _until_done(function: Callable[[], int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not function():  # the pool is in use by another thread
        if time.monotonic() > end:
            return False
        time.sleep(0.0002)
    return True


def start_workers() -> None:
    """Make the worker threads now; else the first parallel kernel makes them."""
    _until_done(_library().function("tj_pool_start", ctypes.c_int32), 10.0)


def stop_workers() -> None:
    """End the worker threads. The next parallel kernel makes new ones."""
    if _native is not None:
        _until_done(_native.function("tj_pool_stop", ctypes.c_int32), 10.0)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # the old one may belong to a thread that exists only in the parent
    if _native is not None:
        _native.function("tj_pool_reset", None)()


def _at_exit() -> None:
    global _closing
    _closing = True
    if _native is not None:
        _configure(_native, 1)
        _until_done(_native.function("tj_pool_stop", ctypes.c_int32), 1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
