"""The allocator: aligned blocks that do not overlap, reuse within a bound, and NumPy arrays that live in them."""

import ctypes
import functools
import gc
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import in_threads

from tracejit.errors import ArgumentError
from tracejit.lower import engine
from tracejit.lower.llvm import Module, i64
from tracejit.runtime import heap, memory, threads

MIB = 1 << 20


@functools.cache
def allocate():
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(memory.address_alloc())


@functools.cache
def free():
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(memory.address_free())


@functools.cache
def churn():
    """`churn(n, seed)`: n times allocate a block of some size, mark both ends, free the one before; the number of marks
    found damaged."""
    m = Module()
    f = m.function("churn", [("n", "i64"), ("seed", "i64")], "i64")

    def check(block, size, k):
        first = f.cmp("ne", f.load("i64", block), k)
        last = f.cmp("ne", f.load("i64", f.gep(block, f.sub(size, i64(8))), 1), k)
        f.call("tj_free", [block], declare=True)
        return f.add(f.cast("zext", first, "i64"), f.cast("zext", last, "i64"))

    def new(k):
        x = f.mul(f.add(k, f.args[1]), i64(0x5851F42D4C957F2D))
        shift = f.and_(f.op("lshr", x, i64(33)), i64(15))
        size = f.add(f.op("lshr", f.and_(x, i64(0xFFFFF)), shift), i64(16))
        block = f.call("tj_alloc", [size], "ptr", declare=True)
        f.store(k, block)
        f.store(k, f.gep(block, f.sub(size, i64(8))), 1)
        return block, size

    def step(k, bad, block, size):
        another = new(k)
        return [f.add(bad, check(block, size, f.sub(k, i64(1)))), *another]

    bad, block, size = f.loop(1, f.args[0], step, [i64(0), *new(i64(0))])
    f.ret_(f.add(bad, check(block, size, f.sub(f.args[0], i64(1)))))
    imports = {"tj_alloc": memory.address_alloc(), "tj_free": memory.address_free()}
    library = engine.load(m.text(), ["churn"], imports)
    function = library.function("churn", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function.library = library
    return function


@pytest.fixture
def limit():
    before = memory.stats().limit
    yield memory.set_limit
    memory.set_limit(before)


def test_blocks_are_aligned_and_apart():
    sizes = [1, 63, 64, 65, 511, 512, 513, 640, 641, 4096, 16384, 16385, 100000, MIB, 2 * MIB - 1, 2 * MIB, 5 * MIB + 7]
    sizes += [(1 << k) + d for k in range(6, 21) for d in (-1, 0, 1)]
    blocks = []
    for k, size in enumerate(sizes * 2):
        p = allocate()(size)
        assert p % 64 == 0
        ctypes.memset(p, k % 251, size)
        blocks.append((p, size, k % 251))
    order = sorted(blocks)
    assert all(a + n <= b for (a, n, _), (b, _, _) in itertools.pairwise(order))
    for p, size, mark in blocks:
        data = np.frombuffer((ctypes.c_uint8 * size).from_address(p), np.uint8)
        assert (data == mark).all()
        free()(p)


def test_zero_bytes_null_and_too_much():
    p = allocate()(0)
    assert p and p % 64 == 0
    free()(p)
    free()(None)
    before = memory.stats()
    for size in (-1, 2**46 + 1, 2**62):
        assert allocate()(size) is None
    after = memory.stats()
    assert (after.live_bytes, after.live_blocks) == (before.live_bytes, before.live_blocks)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may promise memory that they do not have")
def test_memory_that_the_system_refuses():
    before = memory.stats()
    assert allocate()(2**46) is None
    after = memory.stats()
    assert (after.live_bytes, after.live_blocks) == (before.live_bytes, before.live_blocks)


@pytest.mark.parametrize("size", [1, 64, 1000, 70000, 3 * MIB])
def test_a_freed_block_is_used_again(size):
    p = allocate()(size)
    free()(p)
    before = memory.stats()
    q = allocate()(size)
    after = memory.stats()
    free()(q)
    assert p == q
    assert (after.allocations, after.reused) == (before.allocations + 1, before.reused + 1)


def test_size_classes_waste_at_most_a_quarter():
    for size in [*range(1, 3000, 7), *(int(1.013**k) for k in range(650, 1500))]:
        p = allocate()(size)
        capacity = ctypes.c_int64.from_address(p + heap._CAPACITY).value
        free()(p)
        assert size <= capacity <= max(64 * math.ceil(size / 64), size * 1.25 + 64), size
    memory.trim()


def test_kept_memory_is_bounded_and_given_back(limit):
    memory.trim()
    limit(8 * MIB)
    blocks = [allocate()(MIB) for _ in range(20)]
    for p in blocks:
        free()(p)
        assert memory.stats().cached_bytes <= 8 * MIB
    assert memory.stats().cached_bytes >= 3 * MIB
    big = allocate()(30 * MIB)
    free()(big)
    assert memory.stats().cached_bytes <= 8 * MIB
    limit(MIB)
    assert memory.stats().cached_bytes <= MIB
    limit(0)
    free()(allocate()(100))
    assert memory.stats().cached_blocks == 0


def test_trim():
    blocks = [allocate()(n) for n in (100, 5000, MIB, 4 * MIB)]
    for p in blocks:
        free()(p)
    kept = memory.stats().cached_bytes
    back = memory.trim(6000)
    assert back >= 5 * MIB and memory.stats().cached_bytes == kept - back <= 6000
    memory.trim()
    after = memory.stats()
    assert (after.cached_bytes, after.cached_blocks) == (0, 0)
    with pytest.raises(ArgumentError, match="negative"):
        memory.trim(-1)
    with pytest.raises(ArgumentError, match="negative"):
        memory.set_limit(-1)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads this process's size from /proc")
def test_trim_returns_pages_to_the_system():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    memory.trim()
    p = allocate()(64 * MIB)
    ctypes.memset(p, 1, 64 * MIB)
    free()(p)
    full = resident()
    memory.trim()
    assert full - resident() > 60 * MIB


@pytest.mark.parametrize("size", [32768, 4 * MIB])
def test_large_blocks_begin_at_different_distances_from_a_page(size):
    blocks = [allocate()(size) for _ in range(8)]
    assert len({p % 4096 for p in blocks}) >= 5
    for p in blocks:
        free()(p)


def test_several_threads_at_once():
    before = memory.stats()
    found = []
    running = [threading.Thread(target=lambda k=k: found.append(churn()(30000, k * 77777))) for k in range(4)]
    for t in running:
        t.start()
    for t in running:
        t.join()
    after = memory.stats()
    assert found == [0] * 4
    assert (after.live_bytes, after.live_blocks) == (before.live_bytes, before.live_blocks)
    assert after.allocations == before.allocations + 4 * 30000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_other_threads_allocate():
    stop = threading.Event()

    def busy(k):
        while not stop.is_set():
            assert churn()(2000, k) == 0

    running = [threading.Thread(target=busy, args=(k,)) for k in range(2)]
    for t in running:
        t.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.alarm(30)
                    array = memory.empty((1000,), np.float32)
                    array[:] = 1
                    memory.trim()
                    code = int(churn()(2000, 1) != 0 or array.sum() != 1000)
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            time.sleep(0.001)
    finally:
        stop.set()
        for t in running:
            t.join()


def python(code):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)


@pytest.mark.skipif(os.name != "posix", reason="looks for POSIX's SIGABRT")
def test_freeing_twice_stops_the_process():
    code = (
        "import ctypes; from tracejit.runtime import memory\n"
        "p = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(memory.address_alloc())(100)\n"
        "free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(memory.address_free())\n"
        "free(p); print('once', flush=True); free(p); print('twice', flush=True)"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (-signal.SIGABRT, "once\n")


def test_arrays_outlive_everything_at_exit():
    code = (
        "import atexit, sys, numpy as np; from tracejit.runtime import memory\n"
        "a = memory.empty((1000, 1000), np.float32); sys.kept = memory.empty((5,), np.int8); np.kept = a[3:]\n"
        "class Late:\n    def __del__(self, a=a): a[:] = 1\n"
        "sys.late = Late(); atexit.register(lambda: memory.empty((70,), np.int8)); print(a.shape)"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1000, 1000)\n", "")


# --- NumPy arrays ---------------------------------------------------------------------------------------------
DTYPES = ["f4", "f8", "f2", "i1", "i8", "u2", "?", "c16", ">f4", "V12", np.dtype([("a", "f4"), ("b", "i8")])]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 4), (5, 0, 2), (2, 3, 4, 5), (1000, 1000)], ids=str)
def test_empty_is_an_ordinary_array(shape, dtype):
    a, b = memory.empty(shape, dtype), np.empty(shape, dtype)
    assert type(a) is np.ndarray and a.dtype == b.dtype and a.shape == shape
    assert a.strides == b.strides and a.base is None
    assert all(a.flags[name] == b.flags[name] for name in ("C", "F", "OWNDATA", "WRITEABLE", "ALIGNED"))
    assert a.ctypes.data % 64 == 0 or not a.size
    a[...] = np.zeros((), dtype)
    assert a.tobytes() == np.zeros(shape, dtype).tobytes()


def test_the_arrays_memory_is_ours_where_expected():
    assert memory.address_array() or memory.layout.unsupported()
    a = memory.empty((3,), np.float32)
    if memory.address_array():
        assert np._core.multiarray.get_handler_name(a) == "tracejit"
    assert np._core.multiarray.get_handler_name(np.empty(3)) == "default_allocator"
    assert np._core.multiarray.get_handler_name(a.copy()) == "default_allocator"
    assert type(memory.handler_capsule()).__name__ == "PyCapsule"
    assert memory.handler_capsule() is memory.handler_capsule()


owned = pytest.mark.skipif(not memory.address_array(), reason="arrays do not live in our blocks here")


def live():
    gc.collect()
    return memory.stats().live_blocks


@owned
def test_arrays_are_freed():
    before, dtype = live(), np.dtype(np.float32)
    capsule, references = memory.handler_capsule(), sys.getrefcount(memory.handler_capsule())
    of_dtype = sys.getrefcount(dtype)
    kept = [memory.empty((10, k), dtype) for k in range(1, 5001)]
    assert live() == before + 5000
    assert sys.getrefcount(capsule) == references + 5000
    del kept
    assert live() == before
    assert sys.getrefcount(capsule) == references
    assert abs(sys.getrefcount(dtype) - of_dtype) <= 1


@owned
def test_views_keep_the_memory():
    before = live()
    a = memory.empty((100, 100), np.float64)
    a[...] = 7
    view = a[3:5].T.reshape(-1)[::2]
    other = memoryview(a)
    del a
    assert live() == before + 1 and (view == 7).all()
    del view
    other.release()
    del other
    assert live() == before


@owned
def test_resize():
    before = live()
    a = memory.empty((10,), np.int64)
    a[:] = range(10)
    for n in (12, 1000, 300000, 500, 10, 0, 10):
        known = a.copy()
        a.resize((n,), refcheck=False)
        m = min(n, len(known))
        assert (a[:m] == known[:m]).all() and not a[m:].any()
        assert a.ctypes.data % 64 == 0
    assert live() == before + 1
    view = a[1:]
    with pytest.raises(ValueError, match="cannot resize"):
        a.resize((20,))
    del view, a
    assert live() == before


@owned
def test_resize_to_more_than_there_is():
    a = memory.empty((10,), np.int8)
    a[:] = range(10)
    with pytest.raises(MemoryError):
        a.resize((2**47,), refcheck=False)
    assert a.tolist() == list(range(10))


@owned
def test_pickle_state_and_data():
    before = live()
    a = memory.empty((20, 30), np.float32)
    a[...] = np.arange(600).reshape(20, 30)
    for protocol in (2, 5):
        assert (pickle.loads(pickle.dumps(a, protocol)) == a).all()
    a.__setstate__(np.ones(3).__reduce__()[2])
    assert a.tolist() == [1, 1, 1]
    assert live() == before
    del a
    assert live() == before


@owned
def test_numpy_allocates_through_the_handler():
    table = memory.layout.numpy_api()
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])
    before = live()
    old = set_handler(memory.handler_capsule())
    try:
        zeros, grown = np.zeros((300, 7)), np.arange(1000)
    finally:
        set_handler(old)
    assert not zeros.any() and zeros.ctypes.data % 64 == 0
    grown.resize(100000, refcheck=False)
    assert (grown[:1000] == np.arange(1000)).all()
    assert live() == before + 2
    del zeros, grown
    assert live() == before


def test_calloc_refuses_products_that_overflow():
    signature = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
    calloc = signature(memory._library()["tj_handler_calloc"])
    for a, b in ((2**32, 2**32), (2**63, 2), (2**62 + 1, 4), (2**60, 16), (3, 2**63), (2**45, 2**45)):
        assert calloc(None, a, b) is None
        assert calloc(None, b, a) is None
    p = calloc(None, 2**10, 2**10)
    assert not any(ctypes.string_at(p, MIB))
    free()(p)
    p = calloc(None, 0, 5)
    assert p is not None
    free()(p)


def test_thousands_of_arrays_from_several_threads():
    before = live()

    def work(k):
        r = np.random.default_rng(k)
        kept = []
        for n in r.integers(1, 5000, 2000):
            a = memory.empty((n,), np.int64)
            a[0] = a[-1] = n
            kept.append(a)
            if len(kept) > 50:
                gone = kept.pop(int(r.integers(50)))
                assert gone[0] == gone[-1] == len(gone)

    in_threads(4, work)
    assert live() == before


@owned
def test_no_memory_is_an_error():
    for shape in ((2**47,), (2**44,)):
        with pytest.raises(MemoryError):
            memory.empty(shape, np.float64)


def test_bad_shapes():
    with pytest.raises(ArgumentError, match="cannot be negative"):
        memory.empty((3, -1), np.float32)
    with pytest.raises((TypeError, ArgumentError)):
        memory.empty((3, "x"), np.float32)
    with pytest.raises((ValueError, ArgumentError)):
        memory.empty((1,) * 65, np.float32)


@pytest.mark.parametrize("dtype", ["O", "U5", "M8[s]", np.dtype((np.float32, (3,)))], ids=str)
def test_other_types_are_numpys_own(dtype):
    a = memory.empty((3,), dtype)
    assert a.shape == np.empty((3,), dtype).shape and a.dtype == np.empty((3,), dtype).dtype


@pytest.mark.parametrize("shape", [(), (0,), (3, 4)], ids=str)
def test_without_knowledge_of_numpys_layout(monkeypatch, shape):
    monkeypatch.setattr(memory, "_new_array", lambda: None)
    a = memory.empty(shape, np.float32)
    assert a.shape == shape and a.dtype == np.float32 and a.flags.c_contiguous
    assert a.ctypes.data % 64 == 0 or not a.size
    a[...] = 1
    assert a.sum() == math.prod(shape)


def test_an_unknown_layout_is_noticed(monkeypatch):
    monkeypatch.setattr(memory.layout, "unsupported", lambda: "changed")
    memory.address_array.cache_clear()
    try:
        assert memory.address_array() == 0
    finally:
        memory.address_array.cache_clear()


# --- other systems --------------------------------------------------------------------------------------------
TARGETS = [
    ("linux", "aarch64", "aarch64-linux-gnu"),
    ("posix", "arm64", "arm64-apple-darwin"),
    ("none", "AMD64", "x86_64-pc-windows-msvc"),
]


@pytest.mark.parametrize(("system", "machine", "triple"), TARGETS)
def test_the_allocator_compiles_for(system, machine, triple):
    import llvmlite.binding as ll

    ll.initialize_all_targets()
    ll.initialize_all_asmprinters()
    try:
        target = ll.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM has no code generator for {triple}")
    module = ll.parse_assembly(memory.module_text(system, machine), ll.create_context())
    assert target.create_target_machine().emit_object(module)


@pytest.mark.parametrize("system", ["posix", "none"])
def test_the_allocator_without_mmap(system):
    native = engine.load(memory.module_text(system, threads.target()[1]), heap.EXPORTS, memory._c_library())
    ctypes.c_int64.from_address(native["tj_heap"] + heap.AT["limit"]).value = 100 * MIB
    alloc = native.function("tj_alloc", ctypes.c_void_p, ctypes.c_int64)
    for size in (1, 1000, 20000, 5 * MIB):
        p = alloc(size)
        assert p % 64 == 0
        ctypes.memset(p, 7, size)
        native.function("tj_free", None, ctypes.c_void_p)(p)
        assert alloc(size) == p
        native.function("tj_free", None, ctypes.c_void_p)(p)
    native.function("tj_trim", None, ctypes.c_int64)(0)
    assert ctypes.c_int64.from_address(native["tj_heap"] + heap.AT["cached_bytes"]).value == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="control groups are Linux's")
def test_the_limit_follows_the_control_group(monkeypatch, tmp_path):
    usual = memory._default_limit()
    (tmp_path / "memory.max").write_text("268435456\n")
    monkeypatch.setattr(memory, "cgroup_folders", lambda controller: [str(tmp_path)])
    assert memory._default_limit() == 268435456 // 8 <= usual
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._default_limit() >= usual
