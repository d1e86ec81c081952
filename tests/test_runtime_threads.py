"""The thread pool: every task runs once, whoever calls, forks, nests or changes the number of threads."""

import ctypes
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import in_threads

from tracejit.errors import ArgumentError
from tracejit.lower import engine
from tracejit.lower.llvm import NULL, Module, Val, const, i64
from tracejit.runtime import pool, threads

KERNEL = [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")]
SIGNATURE = (None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
X86 = threads.target()[1] in ("x86_64", "AMD64")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_threads = pytest.mark.skipif(threads.target()[0] == "none", reason="the pool has no threads here")


def count_kernel(m):
    """frame[0][i] += 1 for each task i; the largest hi - lo goes to frame[1]."""
    f = m.function("count", KERNEL)
    frame, _, lo, hi = f.args
    data, largest = f.load("ptr", frame), f.load("ptr", f.gep(frame, 8))

    def one(i):
        p = f.gep(data, i, "i64")
        f.store(f.add(f.load("i64", p), i64(1)), p)

    f.loop(lo, hi, one)
    f.atomic_rmw("max", largest, f.sub(hi, lo), "monotonic")
    f.ret_()


def span_kernel(m):
    """frame[0] += hi - lo, frame[1] ^= lo and hi, frame[2] += 1: tells that huge ranges are covered once."""
    f = m.function("span", KERNEL)
    frame, _, lo, hi = f.args
    f.atomic_rmw("add", f.load("ptr", frame), f.sub(hi, lo), "monotonic")
    f.atomic_rmw("xor", f.load("ptr", f.gep(frame, 8)), f.xor(lo, hi), "monotonic")
    f.atomic_rmw("add", f.load("ptr", f.gep(frame, 16)), i64(1), "monotonic")
    f.ret_()


def nested_kernel(m):
    """Task i launches `count` over 50 tasks of its own row; frame[2] holds the rows' frames."""
    f = m.function("nested", KERNEL)
    frame, _, lo, hi = f.args
    rows = f.load("ptr", f.gep(frame, 16))

    def one(i):
        row = f.load("ptr", f.gep(rows, i, "i64"))
        f.call("tj_parallel", [Val("@count", "ptr"), row, NULL, i64(50), i64(3)], declare=True)

    f.loop(lo, hi, one)
    f.ret_()


def halve_kernel(m):
    """frame[0][i] = frame[0][i] / 2, in floats."""
    f = m.function("halve", KERNEL)
    data = f.load("ptr", f.args[0])

    def one(i):
        p = f.gep(data, i, "float")
        f.store(f.mul(f.load("float", p), const("float", 0.5)), p)

    f.loop(f.args[2], f.args[3], one)
    f.ret_()
    if X86:
        f = m.function("flushing", [("frame", "ptr"), ("n", "i64")])
        old, new = f.alloca(4, 4), f.alloca(4, 4)
        f.call("llvm.x86.sse.stmxcsr", [old], declare=True)
        f.store(f.or_(f.load("i32", old), const("i32", 0x8040)), new)
        f.call("llvm.x86.sse.ldmxcsr", [new], declare=True)
        f.call("tj_parallel", [Val("@halve", "ptr"), f.args[0], NULL, f.args[1], i64(1)], declare=True)
        f.call("llvm.x86.sse.ldmxcsr", [old], declare=True)
        f.ret_()


@functools.cache
def kernels(parallel=None):
    m = Module()
    for make in (count_kernel, span_kernel, nested_kernel, halve_kernel):
        make(m)
    names = ["count", "span", "nested", "halve", *(["flushing"] if X86 else [])]
    return engine.load(m.text(), names, {"tj_parallel": parallel or threads.address()})


def frame_of(*arrays):
    return (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])


def launch(kernel, frame, n, chunk):
    ctypes.CFUNCTYPE(*SIGNATURE)(threads.address())(kernels()[kernel], frame, None, n, chunk)


def counts(n, chunk, size=None):
    """How often each task ran, and the largest range that a call got."""
    data, largest = np.zeros(size or max(n, 1), np.int64), np.zeros(1, np.int64)
    launch("count", frame_of(data, largest), n, chunk)
    return data, int(largest[0])


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = threads.get_threads()
    yield
    threads.set_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 70])
def test_every_task_runs_once(count):
    with threads.threads(count):
        for n in (1, 2, 3, 7, 64, 100, 1001, 30000):
            for chunk in (1, 2, 3, 64, 999, 100000):
                data, largest = counts(n, chunk, n + 10)
                assert (data[:n] == 1).all() and not data[n:].any(), (n, chunk)
                assert largest <= chunk or count == 1 or n <= chunk


def test_no_tasks_and_odd_chunks():
    with threads.threads(2):
        for n in (0, -1, -(2**40)):
            assert counts(n, 4, 8)[1] == 0
        for chunk in (0, -5):
            assert (counts(100, chunk)[0] == 1).all()


@pytest.mark.parametrize("chunk", [2**20, 3 * 2**30 + 1, 1])
def test_as_many_tasks_as_2_to_the_40(chunk):
    n = 2**40 - 12345
    total, ends, calls = (np.zeros(1, np.int64) for _ in range(3))
    with threads.threads(3):
        launch("span", frame_of(total, ends, calls), n, chunk)
    assert total[0] == n and ends[0] == n
    assert 1 < calls[0] <= 2**20  # tiny chunks are joined


@needs_threads
def test_more_threads_than_anyone_has():
    with threads.threads(200):
        for _ in range(20):
            assert (counts(5000, 7)[0] == 1).all()
    assert (counts(5000, 7)[0] == 1).all()


def test_nested_launches_run_in_place():
    with threads.threads(3):
        rows = [np.zeros(50, np.int64) for _ in range(40)]
        largest = np.zeros(1, np.int64)
        frames = [frame_of(r, largest) for r in rows]
        addresses = np.array([ctypes.addressof(f) for f in frames])
        launch("nested", frame_of(largest, largest, addresses), 40, 1)
        assert all((r == 1).all() for r in rows)


def test_eight_python_threads_at_once():
    with threads.threads(3):

        def work(k):
            for n in range(1, 300):
                assert (counts(n + k, 5)[0] == 1).all()

        in_threads(8, work)


def test_threads_are_set_and_stopped_while_used():
    def work(k):
        for n in range(1, 200):
            if k == 0:
                threads.set_threads(1 + n % 5)
            elif k == 1 and n % 10 == 0:
                threads.stop_workers()
            assert (counts(n + 50, 3)[0] == 1).all()

    in_threads(4, work)


def workers():
    """The system's ids of this process's threads, but for those that Python has started: some compile meanwhile."""
    listed = set(os.listdir("/proc/self/task"))
    return listed - {str(t.native_id) for t in threading.enumerate()}


@pytest.fixture
def compiled():
    """Threads that compile are done, so that none begins or ends while others are counted."""
    for t in threading.enumerate():
        if t.name.startswith("tracejit"):
            t.join(30)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are listed in /proc only on Linux")
def test_workers_start_lazily_and_stop(compiled):
    threads.stop_workers()
    before = workers()
    threads.set_threads(4)
    assert workers() <= before  # a thread that has compiled something may have ended meanwhile
    before = workers()
    counts(100, 1)
    assert len(workers() - before) == 3
    threads.set_threads(2)
    counts(100, 1)
    assert len(workers() - before) == 1
    threads.stop_workers()
    assert workers() == before
    threads.start_workers()
    assert len(workers() - before) == 1
    assert (counts(100, 1)[0] == 1).all()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are listed in /proc only on Linux")
def test_workers_fall_asleep_and_wake(compiled):
    threads.stop_workers()
    before = workers()
    threads.set_threads(3)
    for _ in range(3):
        assert (counts(1000, 1)[0] == 1).all()
        new = workers() - before
        for _ in range(2000):
            states = [Path(f"/proc/self/task/{t}/stat").read_text().rsplit(")", 1)[1].split()[0] for t in new]
            if states == ["S", "S"]:
                break
            time.sleep(0.005)
        assert states == ["S", "S"]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks here")
def test_launching_leaves_the_callers_signals_alone():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    threads.stop_workers()
    counts(100, 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processor sets here")
def test_launching_leaves_the_callers_processors_alone():
    before = os.sched_getaffinity(0)
    with threads.threads(3):
        for _ in range(5):
            counts(1000, 1)
            time.sleep(0.005)
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not X86, reason="sets the processor's mode with x86 instructions")
def test_workers_compute_in_the_callers_floating_point_mode():
    tiny = np.float32(1e-38)
    with threads.threads(3):
        for _ in range(20):
            data = np.full(300, tiny)
            launch("halve", frame_of(data), 300, 1)
            assert (data == tiny / 2).all() and data[0] > 0
            data[:] = tiny
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(kernels()["flushing"])(frame_of(data), 300)
            assert (data == 0).all()


# --- processes ------------------------------------------------------------------------------------------------
def exit_code_of_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(30)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_work(n=1000):
    return bool((counts(n, 3)[0] == 1).all())


@needs_fork
def test_fork_after_use():
    with threads.threads(3):
        for _ in range(5):
            assert child_work()
            assert exit_code_of_child(child_work) == 0
            assert exit_code_of_child(lambda: child_work() and exit_code_of_child(child_work) == 0) == 0
            assert child_work()


@needs_fork
def test_fork_while_another_thread_is_in_a_launch():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            counts(20000, 100)

    other = threading.Thread(target=busy)
    with threads.threads(3):
        other.start()
        try:
            for _ in range(25):
                assert exit_code_of_child(lambda: all(child_work() for _ in range(5))) == 0
        finally:
            stop.set()
            other.join()
        assert child_work()


@needs_fork
def test_fork_while_another_thread_compiles():
    stop = threading.Event()
    text = threads.module_text(*threads.target())

    def busy():
        while not stop.is_set():
            engine.load(text, pool.EXPORTS)

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(10):
            assert exit_code_of_child(lambda: bool(engine.load(text, pool.EXPORTS)) and child_work()) == 0
            time.sleep(0.005)
    finally:
        stop.set()
        other.join()


def pool_work(n):
    return child_work(n)


@needs_fork
@pytest.mark.parametrize("kind", ["multiprocessing", "executor"])
def test_pools_of_forked_processes(kind):
    context = multiprocessing.get_context("fork")
    assert child_work()
    if kind == "multiprocessing":
        with context.Pool(2) as processes:
            assert all(processes.map(pool_work, range(100, 120)))
    else:
        with ProcessPoolExecutor(2, mp_context=context) as processes:
            assert all(processes.map(pool_work, range(100, 120)))
    assert child_work()


def python(code, **environment):
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")} | environment
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env["PYTHONPATH"] = os.pathsep.join([root, os.path.join(root, "tests"), env.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "ending",
    [
        "",  # workers still spin
        "import time; time.sleep(0.05)",  # workers sleep
        "atexit.register(t.counts, 1000, 1)",  # used after the pool has ended
        "threading.Thread(target=forever, daemon=True).start(); import time; time.sleep(0.05)",
    ],
)
def test_the_interpreter_ends_cleanly(ending):
    code = (
        "import atexit, threading, test_runtime_threads as t\n"
        "def forever():\n    while True: t.counts(3000, 1)\n"
        "def last(): assert (t.counts(100, 1)[0] == 1).all(); print('ran')\n"
        "atexit.register(last)\n"
        "t.threads.set_threads(3); t.counts(1000, 1)\n"
    )
    done = python(code + ending)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


# --- the number of threads ------------------------------------------------------------------------------------
SHOW = "from tracejit.runtime import threads; print(threads.get_threads())"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TRACEJIT_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, "3"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"NUMBA_NUM_THREADS": "4"}, "4"),
        ({"OMP_NUM_THREADS": "5,2", "NUMBA_NUM_THREADS": "4"}, "5"),
        ({"OMP_NUM_THREADS": "many"}, str(threads.available())),
        ({"OMP_NUM_THREADS": "5", "OMP_THREAD_LIMIT": "3"}, "3"),
        ({"OMP_THREAD_LIMIT": "1"}, "1"),
        ({"TRACEJIT_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "1"}, "3"),
        ({}, str(threads.available())),
    ],
)
def test_default_number(environment, expected):
    done = python(SHOW, **environment)
    assert done.stdout.strip() == expected, done.stderr


def test_bad_numbers_are_named():
    assert "TRACEJIT_NUM_THREADS is 'lots'" in python(SHOW, TRACEJIT_NUM_THREADS="lots").stderr
    for bad in (0, -1, 1025, 2.0, "2"):
        with pytest.raises(ArgumentError, match="from 1 to 1024"):
            threads.set_threads(bad)


def test_threads_for_a_while():
    threads.set_threads(2)
    with pytest.raises(KeyError), threads.threads(5):
        assert threads.get_threads() == 5
        raise KeyError
    assert threads.get_threads() == 2


def test_compiler_is_loaded_only_when_needed():
    done = python("import sys; " + SHOW + "; threads.set_threads(2); print('llvmlite' in sys.modules)")
    assert done.stdout.split()[-1] == "False", done.stderr


@pytest.mark.parametrize(
    ("line", "files", "quota"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"cpu.max": "max 100000"}, float("inf")),
        (
            "4:cpu,cpuacct:/c",
            {"cpu,cpuacct/c/cpu.cfs_quota_us": "50000", "cpu,cpuacct/c/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("4:cpu:/c", {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"}, float("inf")),
        ("4:memory:/c", {"memory/c/cpu.max": "1 1"}, float("inf")),
        ("0::/a", {"cpu.max": "nonsense"}, float("inf")),
    ],
)
def test_control_groups(tmp_path, line, files, quota):
    own = tmp_path / "own"
    own.write_text(line + "\n")
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    folders = threads.cgroup_folders("cpu", str(tmp_path / "root"), str(own))
    assert min([float("inf"), *map(threads._quota_of, folders)]) == quota


# --- other systems --------------------------------------------------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="uses POSIX threads")
def test_the_pool_without_futex():
    native = engine.load(threads.module_text("posix", threads.target()[1]), pool.EXPORTS)
    native.function("tj_pool_threads", None, ctypes.c_int32, ctypes.c_int32)(3, 100)
    parallel = native.function("tj_parallel", *SIGNATURE)
    code = kernels()["count"]

    def work(k):
        for n in range(1, 200):
            data, largest = np.zeros(n, np.int64), np.zeros(1, np.int64)
            parallel(code, frame_of(data, largest), None, n, 3)
            assert (data == 1).all()
            if n % 50 == 0:
                time.sleep(0.01)  # workers sleep, and are woken

    in_threads(3, work)
    if hasattr(os, "fork"):

        def child():
            native.function("tj_pool_reset", None)()
            work(0)
            return True

        assert exit_code_of_child(child) == 0
    assert native.function("tj_pool_stop", ctypes.c_int32)() == 1
    work(0)
    assert native.function("tj_pool_stop", ctypes.c_int32)() == 1


def test_the_pool_without_threads():
    native = engine.load(threads.module_text("none", threads.target()[1]), pool.EXPORTS)
    for n in (0, 10):
        data, largest = np.zeros(10, np.int64), np.zeros(1, np.int64)
        native.function("tj_parallel", *SIGNATURE)(kernels()["count"], frame_of(data, largest), None, n, 3)
        assert data.tolist() == [int(n > 0)] * 10


TARGETS = [
    ("linux", "aarch64", "aarch64-linux-gnu"),
    ("linux", "riscv64", "riscv64-linux-gnu"),
    ("posix", "arm64", "arm64-apple-darwin"),
    ("posix", "ppc64le", "powerpc64le-linux-gnu"),
    ("none", "AMD64", "x86_64-pc-windows-msvc"),
]


@pytest.mark.parametrize(("system", "machine", "triple"), TARGETS)
def test_the_pool_compiles_for(system, machine, triple):
    import llvmlite.binding as ll

    ll.initialize_all_targets()
    ll.initialize_all_asmprinters()
    try:
        target = ll.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM has no code generator for {triple}")
    module = ll.parse_assembly(threads.module_text(system, machine), ll.create_context())
    assert target.create_target_machine().emit_object(module)
