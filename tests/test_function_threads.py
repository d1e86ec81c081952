"""Traced functions in several threads, after fork, and with every state of the disk cache."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tracejit as tj

ROOT = Path(tj.__file__).parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def together(n, work):
    """Run `work(i)` in n threads that start at the same time."""
    barrier = threading.Barrier(n)

    def one(i):
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


# --- threads ----------------------------------------------------------------------------------------------------------
def test_concurrent_first_calls_trace_once():
    @tj.function
    def f(x):
        return tj.reduce_sum(tj.exp(x) * 3.0, axis=1)

    x = np.random.default_rng(0).normal(size=(20, 30))
    want = (np.exp(x) * 3).sum(1)
    for got in together(8, lambda i: f(x).numpy()):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    assert f.experimental_get_tracing_count() == 1


def test_concurrent_calls_of_different_kinds():
    @tj.function
    def f(x, k):
        h = tj.nn.softmax(x * k)
        return tj.matmul(h, h, transpose_b=True)

    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 33)).astype(d) for n in (3, 4, 70, 200) for d in ("f4", "f8")]

    def work(i):
        out = []
        for k in range(10):
            x = inputs[(i + k) % len(inputs)]
            out.append((x, 0.1 * k, f(x, 0.1 * k).numpy()))
        return out

    for results in together(8, work):
        for x, k, got in results:
            e = np.exp(x * k - (x * k).max(1, keepdims=True))
            h = e / e.sum(1, keepdims=True)
            np.testing.assert_allclose(got, h @ h.T, rtol=1e-4 if x.dtype == np.float32 else 1e-10, atol=1e-6)
    assert f.experimental_get_tracing_count() <= 4


def test_guards_of_traces_that_overlap_keep_apart():
    """Decisions about sizes belong to the trace of the thread that makes them."""
    meet = threading.Barrier(2)

    def make(limit):
        def f(x):
            if not isinstance(x.shape[0], int):
                meet.wait(timeout=30)
            large = x.shape[0] > limit
            if not isinstance(x.shape[0], int):
                meet.wait(timeout=30)
            return x * 2.0 if large else x * 3.0

        return tj.function(f)

    functions = [make(10), make(20)]
    for f in functions:
        f(np.ones(5))
    together(2, lambda i: functions[i](np.ones(15)))
    for f, limit in zip(functions, (10, 20)):
        assert [len(c.guards) for c in f.concrete_functions] == [0, 1]
        assert [int(g.terms[()]) for _, g, _ in f.concrete_functions[1].guards] == [-limit]


def test_a_trace_in_one_thread_does_not_disturb_eager_work_in_others():
    stop = threading.Event()
    wrong = []

    def eager():
        a = tj.constant([1.0, 2.0, 3.0])
        while not stop.is_set():
            with tj.GradientTape() as tape:
                tape.watch(a)
                y = tj.reduce_sum(a * a)
            if tape.gradient(y, a).numpy().tolist() != [2, 4, 6]:
                wrong.append(y)

    def trace(i):
        for k in range(8):
            f = tj.function(lambda x: tj.sin(x) * (i + 0.5) + k)
            x = np.arange(4.0)
            if not np.allclose(f(x), np.sin(x) * (i + 0.5) + k):
                wrong.append((i, k))

    others = [threading.Thread(target=eager) for _ in range(2)]
    for t in others:
        t.start()
    try:
        together(4, trace)
    finally:
        stop.set()
        for t in others:
            t.join()
    assert not wrong


def test_threads_with_variables_of_their_own():
    @tj.function
    def step(v, x):
        v.assign_add(x * 2.0)
        return tj.reduce_sum(v)

    def work(i):
        v = tj.Variable(np.zeros(50))
        for _ in range(20):
            total = step(v, float(i))
        return float(total), v.numpy().sum()

    for i, (total, kept) in enumerate(together(6, work)):
        assert total == kept == 50 * 20 * 2 * i


def test_gradients_in_several_threads():
    w = tj.Variable(np.linspace(0, 1, 12).reshape(3, 4))
    f = tj.function(lambda x: tj.reduce_sum(tj.tanh(x @ w)))

    def work(i):
        x = np.full((2, 3), 0.1 * (i + 1))
        with tj.GradientTape() as tape:
            y = f(x)
        return x, tape.gradient(y, w).numpy()

    for x, g in together(8, work):
        np.testing.assert_allclose(g, x.T @ (1 - np.tanh(x @ w.numpy()) ** 2), rtol=1e-10)


def test_large_calls_from_several_threads_at_once():
    f = tj.function(lambda x: (tj.reduce_sum(tj.exp(-x * x)), tj.sqrt(x) + 1.0))
    x = np.linspace(0, 3, 300_000)
    want = np.exp(-x * x).sum()
    for total, root in together(4, lambda i: [f(x) for _ in range(5)][-1]):
        np.testing.assert_allclose(float(total), want, rtol=1e-10)
        np.testing.assert_allclose(root, np.sqrt(x) + 1, rtol=1e-14)


def test_results_do_not_depend_on_the_number_of_threads():
    w = tj.constant(np.random.default_rng(1).normal(size=(64, 48)).astype(np.float32))

    @tj.function
    def f(x):
        h = tj.tanh(x @ w)
        return h, tj.reduce_sum(h), tj.reduce_mean(h, axis=0), tj.reduce_logsumexp(x, axis=1)

    x = np.random.default_rng(0).normal(size=(1500, 64)).astype(np.float32)
    out = []
    for n in (1, 2, 5):
        with tj.threads(n):
            out.append([t.numpy().tobytes() for t in f(x)])
    assert out[0] == out[1] == out[2]


# --- fork -------------------------------------------------------------------------------------------------------------
@needs_fork
@pytest.mark.parametrize("called_before", [False, True])
def test_traced_functions_after_fork(called_before):
    v = tj.Variable(np.zeros(200_000))

    @tj.function
    def f(x):
        v.assign_add(x)
        return tj.reduce_sum(tj.exp(v) - v)

    x = np.ones(200_000)
    if called_before:
        f(x)
    before = float(v.numpy()[0])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            value = float(f(x))
            g = tj.function(lambda x: tj.cos(x) * 0.123)
            want = 200_000 * (np.exp(before + 1) - before - 1)
            code = 0 if abs(value - want) < 1e-6 * want and abs(float(g(x)[0]) - np.cos(1) * 0.123) < 1e-12 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert float(v.numpy()[0]) == before
    np.testing.assert_allclose(float(f(x)), 200_000 * (np.exp(before + 1) - before - 1))


FORKS_WHILE_TRACING = """
import faulthandler, itertools, os, threading, time
import numpy as np
import tracejit as tj

@tj.function
def shared(x):
    return tj.reduce_sum(tj.sin(x) * x) + tj.reduce_mean(x @ tj.transpose(x))

over = threading.Event()
def trace_all_the_time():
    for k in itertools.count():
        if over.is_set():
            return
        tj.function(lambda x, k=k: x * 2 + 1 + np.float32(k))(np.ones((3, 4)))
        shared(np.ones((3 + k % 50, 4 + k % 7), ("f4", "f8")[k % 2]))
        with tj.GradientTape():
            tj.exp(np.ones(3))

shared(np.ones((3, 4)))
thread = threading.Thread(target=trace_all_the_time)
thread.start()
failed = 0
for k in range(12):
    time.sleep(0.003 * k)
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(60, exit=True)
        a = float(shared(np.ones((40, 30))))
        b = float(tj.function(lambda x: x * 2 + k)(np.ones(100))[0])
        from tracejit.context import activity
        os._exit(0 if abs(a - 1200 * np.sin(1) - 30) < 1e-6 and b == 2 + k and not activity.busy else 2)
    failed += os.waitpid(pid, 0)[1] != 0
over.set()
thread.join()
print("failed", failed)
"""


@needs_fork
def test_fork_while_another_thread_traces():
    """Whatever lock the other thread holds at that moment, the child can trace, compile and run."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS_WHILE_TRACING], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.stdout.strip() == "failed 0", done.stderr[-2000:]


# --- the disk cache ---------------------------------------------------------------------------------------------------
SCRIPT = """
import sys, warnings
import numpy as np
import tracejit as tj
from tracejit.lower import engine
from tracejit.runtime import keys, modules
modules._DELAY = 1000.0  # better code would count too
keys.own_version = lambda: "the same in every process, whoever saves a file meanwhile"
compiled = []
real = engine.compile_ir
engine.compile_ir = lambda text, *a, **k: compiled.append(text) or real(text, *a, **k)
x, w = np.ones((3, 40), np.float32) / 40, np.eye(40, dtype=np.float32)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    f = tj.function(lambda x, w: tj.reduce_sum(tj.tanh(x @ w) * 0.5, axis=1))
    got = f(x, w).numpy()
assert np.allclose(got, 20 * np.tanh(1 / 40), rtol=1e-5), got
print(len(compiled), [w.category.__name__ for w in caught])
"""


def run(folder, **more):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": str(folder), **more}
    r = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env)
    assert r.returncode == 0, r.stderr
    count, _, rest = r.stdout.partition(" ")
    return int(count), rest.strip()


def test_the_second_process_compiles_nothing(tmp_path):
    count, caught = run(tmp_path)
    assert count > 0
    assert caught == "[]"
    assert run(tmp_path) == (0, "[]")
    assert run(tmp_path, TRACEJIT_CACHE="0")[0] == count


def test_damaged_entries_are_compiled_again_with_one_warning(tmp_path):
    count, _ = run(tmp_path)
    entries = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size > 200]
    assert entries
    for p in entries:
        data = bytearray(p.read_bytes())
        data[len(data) // 2] ^= 0xFF
        p.write_bytes(bytes(data[:-7]))
    assert run(tmp_path) == (count, "['CacheWarning']")
    assert run(tmp_path) == (0, "[]")


def test_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    count, caught = run(blocked / "cache")
    assert count > 0
    assert caught == "['CacheWarning']"
