"""Eager tensors that own their memory begin at a multiple of 64 bytes: before native code is loaded, and after."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from op_table import CASES

import tracejit as tj
from tracejit import tensor, tree
from tracejit.runtime import eager, memory

STAGES = ("first", "heap", "native")  # memory from the C library; from our allocator; operators are native as well


def off(results, arguments=()):
    """How many tensors begin elsewhere, of those that own their memory; of views, how many of the owners.

    Arrays without elements do not count, nor those that share memory with the arguments.
    """
    count = 0
    for t in tree.flatten(results)[0]:
        a = t._a if isinstance(t, tensor.Operand) else None
        if a is None or not a.size or any(np.may_share_memory(a, b._a) for b in arguments):
            continue
        while isinstance(a.base, np.ndarray):
            a = a.base
        count += a.__array_interface__["data"][0] % 64 != 0
    return count


def enter(stage):
    tensor.WHEN_WARM.clear()
    if stage == "first":
        eager._align_kernels(memory.FirstHandler().capsule)
    elif stage == "heap":
        eager._align_kernels(memory.handler_capsule())
    else:
        assert eager.activate() is not None


def table():
    wrong = []
    for case in CASES:
        for d in case.dtypes():
            for shapes in case.shapes:
                args = [tj.constant(a) for a in case.arrays(d, shapes)]
                variables = [tj.Variable(a) for a in args]
                if off(args) or off(variables):
                    wrong.append(f"{case.name}: arguments, {d.name}, {shapes}")
                if off(case.f(*args), args) or off(case.f(*variables), variables):
                    wrong.append(f"{case.name}, {d.name}, {shapes}")
    return wrong


def in_stage(stage, code):
    """In a process of its own: once native, operators stay so."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([here, os.path.dirname(os.path.dirname(tj.__file__))])
    code = f"import test_alignment as t; t.enter({stage!r}); print(*{code}, sep='\\n', end='')"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_operations(stage):
    assert in_stage(stage, "t.table()") == ""


def sources():
    """Tensors that come from elsewhere than operations, and what kernels do not make, by name."""
    x = tj.constant([[1.0, 2, 3], [4, 5, 6]])
    v = tj.Variable(x)
    strided = np.arange(24.0, dtype=np.float32)[1::2]
    raw = np.zeros(16 * 4 + 64, np.uint8)
    odd = raw[4 - raw.ctypes.data % 4 :][:40].view(np.float32)
    generator = tj.random.Generator(1)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.sqrt(x) @ tj.transpose(x))
    yield "gradient", tape.gradient(y, x)
    for kind in ("float16", "bfloat16", "float32", "float64", "int8", "int64", "bool", "complex128"):
        d = tj.as_dtype(kind)
        yield f"{kind} scalar", tj.constant(1, d)
        yield f"{kind} NumPy scalar", tj.constant(d.np.type(1))
        yield f"{kind} 0-d array", tj.constant(np.zeros((), d.np))
        yield f"{kind} array", tj.constant(np.zeros(5, d.np))
        yield f"{kind} cast", tj.cast(x, d)
        yield f"{kind} zeros", [tj.zeros((), d), tj.zeros(7, d), tj.ones((), d), tj.fill((3,), tj.ones((), d))]
        yield f"{kind} like", [tj.zeros_like(v, d), tj.ones_like(x, d)]
        yield f"{kind} Variable", [tj.Variable(1, dtype=d), tj.Variable(np.zeros(3, d.np))]
    yield "nests", [tj.constant([1, 2.5]), tj.constant([[1], [2]]), tj.constant([x[0], x[1]]), tj.constant([1 << 40])]
    yield "nests of NumPy's", tj.constant([np.float32(1), np.float64(2)])
    yield "text of numbers", [tj.constant([True, False]), tj.constant([1j, 2]), tj.constant(1 << 63, tj.uint64)]
    yield "strided arrays", [tj.constant(strided), tj.Variable(strided), tj.convert_to_tensor(odd), tj.Variable(odd)]
    yield "creation", [tj.range(5), tj.range(0.0, 1, 0.3), tj.linspace(0.0, 1, 5), tj.eye(3), tj.one_hot([1, 2], 3)]
    yield (
        "random",
        [tj.random.normal((3,)), tj.random.uniform(()), tj.random.shuffle(x), tj.random.uniform((4,), 0, 9, tj.int32)],
    )
    yield "generator", [generator.normal((3,)), generator.state]
    yield "global generator", tj.random.get_global_generator().state
    yield "mixed", [x + 1, 1 - x, x * True, x + np.float32(1), np.float32(2) * x, x + strided[:3], x**2, x**0.5]
    yield "shape", [tj.shape(x), tj.size(x), tj.rank(x)]
    yield "index", [x[0, 1] + 0, x[[1, 0]], x[x > 2], x[:, tj.constant([2, 0])], tj.where(x > 2)]
    yield (
        "NumPy's functions",
        [np.sum(x), np.sort(x), np.cumprod(x), np.add.reduce(x), np.hypot(x, x), np.median(x), np.float32(3) + x],
    )
    yield "views", [tj.identity(v), v.read_value(), v + 0]
    v.assign(x[::-1])
    yield "assigned", v
    v.assign(strided[:6].reshape(2, 3))
    yield "assigned an array", v
    v[0].assign(strided[:3])
    v[:, 1].assign([1, 2])
    v.assign_add(x)
    yield "assigned in part", v
    yield "pickled", [pickle.loads(pickle.dumps(x)), pickle.loads(pickle.dumps(v)), pickle.loads(pickle.dumps(x[0, 0]))]
    yield (
        "host",
        [
            tj.py_function(lambda a: a * 2, [x], tj.TensorSpec(x.shape, tj.float32)),
            tj.numpy_function(lambda a: np.array(a * 2), [x], tj.TensorSpec(x.shape, tj.float32)),
        ],
    )


def misplaced():
    """Several times: memory that begins there may do so by chance."""
    wrong = set()
    for _ in range(8):
        keep = [np.empty(n, np.uint8) for n in (1, 24, 40)]
        wrong.update(name for name, made in sources() if off(made))
        del keep
    return sorted(wrong)


@pytest.mark.parametrize("stage", STAGES)
def test_everything_else(stage):
    assert in_stage(stage, "t.misplaced()") == ""


def run_alone(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


BEGINNING = """
import threading, time
import numpy as np
import tracejit as tj
from numpy._core.multiarray import get_handler_name as whose

def wait():
    while any(t.name == "tracejit memory" for t in threading.enumerate()):
        time.sleep(0.001)

"""


def test_the_allocator_is_loaded_with_the_first_tensor():
    code = """
print(threading.active_count())
x = tj.constant([1.0, 2.0, 3.0])
first = whose(x._a)
wait()
x + x  # at the latest this brings in the other handler
print(first == "tracejit, at first", whose((x + x)._a) == "tracejit", whose(np.zeros(3)) == "default_allocator")
y, x = x * 2, None  # memory of the one handler is freed while the other is in use
print(y.numpy().sum())
"""
    assert run_alone(BEGINNING + code) == ["1", "True", "True", "True", "12.0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_memory_in_forked_processes():
    code = """
import importlib
import os
x = tj.constant([1.0, 2.0, 3.0])
child = os.fork()
for _ in range(1000):
    x = x + 1
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(x.numpy()[0])
else:
    wait()
    x = None
    os._exit(tj.zeros(5)._a.__array_interface__["data"][0] % 64)
"""
    assert run_alone(BEGINNING + code) == ["1001.0"]


def test_memory_is_freed_up_to_the_end_of_the_process():
    code = """
import atexit
kept = [tj.constant([1.0])]
atexit.register(lambda: kept.append(kept[0] + 1))
wait()
kept.append(kept[0] * 2)
class Late:
    def __del__(self):
        kept.append(kept[-1] + 1)
        print(kept[-1].numpy()[0])
late = Late()
"""
    assert run_alone(BEGINNING + code) == ["3.0"]
