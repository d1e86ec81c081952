"""Programs that run on threads with small stacks, and the memory that products take instead of the stack."""

import ctypes
import subprocess
import sys
import threading

import pytest

from tracejit.lower import engine
from tracejit.lower.llvm import Module, i64
from tracejit.lower.room import Room

PRODUCTS = """
import threading
import numpy as np
import tracejit as tj

rng = np.random.default_rng(0)
def array(*shape):
    return tj.constant(rng.standard_normal(shape).astype("float32"))

def product(x, y):
    return x @ y
def transposed(x, y):
    return tj.matmul(x, y, transpose_a=True, transpose_b=True)
def convolved(x, y):
    return tj.nn.conv2d(x, y, 1, "SAME")
def attended(x, y):
    return tj.nn.softmax(x @ tj.transpose(x)) @ y

works = [
    (product, array(4, 4), array(4, 4)), (product, array(300, 300), array(300, 300)),
    (product, array(5, 9000), array(9000, 3)), (transposed, array(90, 70), array(80, 90)),
    (convolved, array(2, 16, 16, 3), array(3, 3, 3, 8)), (attended, array(100, 100), array(100, 7)),
]
want = [f(x, y).numpy() for f, x, y in works]
traced = [tj.function(f) for f, _, _ in works]
for f, (_, x, y) in zip(traced, works):
    f(x, y)
right = []
def run():
    for f, (_, x, y), w in zip(traced, works, want):
        right.append(np.allclose(f(x, y).numpy(), w, rtol=1e-3, atol=1e-3))
threading.stack_size(256 * 1024)
threads = [threading.Thread(target=run) for _ in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert len(right) == 18 and all(right), right
print("done")
"""


def test_threads_with_small_stacks():
    """A thread of 256 KiB runs products of every kind: what they pack lies elsewhere."""
    done = subprocess.run([sys.executable, "-c", PRODUCTS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_room(there):
    """Each thread has its own room; where there is no memory, they use the reserve one after another."""
    module = Module()
    fn = module.function("k", [("n", "i64"), ("out", "ptr")])
    room = Room(fn, ["reserve", "reserve_taken"], [100, 4096])

    def count(i):
        fn.store(fn.add(fn.load("i64", room.taken(1), 8), i64(1)), room.part(1), 8)

    room.take()
    fn.store(i64(0), room.part(1), 8)
    fn.loop(i64(0), fn.args[0], count)
    fn.store(fn.load("i64", room.part(1), 8), fn.args[1], 8)
    room.leave()
    fn.ret_()
    blocks, freed = [], []

    def allocate(size):
        if not there:
            return 0
        blocks.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(blocks[-1])

    own = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(allocate)
    free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(freed.append)
    imports = {n: ctypes.cast(f, ctypes.c_void_p).value for n, f in (("tj_alloc", own), ("tj_free", free))}
    library = engine.Library(engine.compile_ir(module.text()), ["k"], imports)
    k = library.function("k", None, ctypes.c_int64, ctypes.c_void_p)
    found = []

    def run(n):
        out = ctypes.c_int64()
        for _ in range(20):
            k(n, ctypes.addressof(out))
            found.append(out.value == n)

    threads = [threading.Thread(target=run, args=(n,)) for n in (1000, 2000, 3000)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 60 and all(found)
    assert len(blocks) == len(freed) == (60 if there else 0)
