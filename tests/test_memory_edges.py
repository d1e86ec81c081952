"""Compiled code reads nothing before or behind the arrays that it is given: they lie next to pages without access."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

import tracejit as tj

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
SIZES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65, 257)
RNG = np.random.default_rng(0)


def f32(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def f64(*shape):
    return RNG.normal(size=shape)


def f16(*shape):
    return RNG.normal(size=shape).astype(np.float16)


PROGRAMS = {
    "elementwise": (lambda x, y: (tj.exp(x) * y, x[::2] + 1, x[::-1], tj.cast(x, tj.float64)),
    lambda n: [f32(n), f32(n)]),
    "reductions": (lambda x: (tj.reduce_sum(x), tj.reduce_sum(x, 0), tj.nn.softmax(x), tj.argmax(x, 1)),
    lambda n: [f32(n, 7)]),
    "columns": (lambda x: (tj.reduce_max(tj.transpose(x), 1), tj.nn.softmax(tj.transpose(x))), lambda n: [f64(n, 5)]),
    "products": (lambda x, w, b: (tj.nn.relu(x @ w + b), x[::-1, ::2] @ w[::2], tj.transpose(x) @ x),
    lambda n: [f32(n, 6), f32(6, n), f32(n)]),
    "batched products": (lambda x, y: (x @ y, tj.matmul(y, x)), lambda n: [f64(3, n, 5), f64(3, 5, n)]),
    "movements": (lambda x: (tj.concat([x, x], 0), tj.pad(x, [[1, 2], [0, 1]]), x[1:, :2] - x[:-1, 1:3]),
    lambda n: [f32(n, 4)]),
    "integers": (lambda i, b: (i * 3, i // 2, tj.where(b, i, 0)),
    lambda n: [RNG.integers(-9, 9, n).astype(np.int8), RNG.random(n) < 0.5]),
    "halves": (lambda h: (h * 2, tj.reduce_sum(h * h), tj.matmul(h[:, None], h[None])), lambda n: [f16(n)]),
}  # fmt: skip


def beside_the_edge(a, front):
    """A copy of the array that begins, or ends, where a page without access ends or begins."""
    c = ctypes.CDLL(None, use_errno=True)
    c.mmap.restype = ctypes.c_void_p
    c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    c.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    room = -(-a.nbytes // PAGE) * PAGE
    base = c.mmap(None, room + 2 * PAGE, 3, 0x22, -1, 0)  # private and anonymous
    for page in (base, base + PAGE + room):
        assert c.mprotect(page, PAGE, 0) == 0
    at = base + PAGE if front else base + PAGE + room - a.nbytes
    out = np.frombuffer((ctypes.c_char * a.nbytes).from_address(at), a.dtype).reshape(a.shape)
    out[...] = a
    return out


def run(name):
    f, arrays = PROGRAMS[name]
    traced = tj.function(f)
    for n in SIZES:
        args = arrays(n)
        want = f(*[tj.constant(a) for a in args])
        for front in (False, True):
            for a, b in zip(want, traced(*[beside_the_edge(a, front) for a in args]), strict=True):
                np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-2, atol=1e-2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses Linux's numbers for mmap")
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_read_outside(name):
    """In a process of its own, which a wrong access would end."""
    code = f"import test_memory_edges as t; t.run({name!r})"
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([here, os.path.dirname(os.path.dirname(tj.__file__))])
    r = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert r.returncode == 0, r.stderr
