"""Fourier transforms in native code: every kind, lengths of every radix, lines that lie anywhere, accuracy."""

import cmath

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.fourier import radices, root
from tracejit.lower.fourierunit import FourierUnit
from tracejit.lower.hostunit import HostUnit
from tracejit.ops import fourier as F

RNG = np.random.default_rng(3)
SHAPES = [
    ((40, 256), (1,)), ((33, 30), (1,)), ((5, 7), (1,)), ((64, 64), (0,)), ((35, 45), (0,)), ((3, 32, 20), (1,)),
    ((12, 16, 8), (0, 1, 2)), ((9, 10, 30), (2, 0)), ((4, 2), (1,)), ((7, 1024), (1,)), ((300, 100), (0,)),
    ((50, 21), (1,)), ((20, 3), (1,)), ((4, 5, 1), (1,)),
]  # fmt: skip
VIEWS = {
    "as it is": (lambda x: x, lambda x: x),
    "transposed": (lambda x: np.ascontiguousarray(x.T), tj.transpose),
    "every other": (lambda x: np.repeat(np.repeat(x, 2, 0), 2, -1), lambda x: x[::2, ..., ::2]),
}


def unit(f):
    (concrete,) = f.concrete_functions
    return {type(u) for u in concrete.executable.program.units}


def check(f, x, want, length):
    y = f(tj.constant(x)).numpy()
    assert y.dtype == (want.astype(np.complex64 if want.dtype.kind == "c" else np.float32).dtype
                       if x.dtype in (np.float32, np.complex64) else want.dtype)  # fmt: skip
    eps = np.finfo(x.dtype).eps / 2
    error = np.max(np.abs(y - want)) / np.sqrt(np.mean(np.abs(want) ** 2))
    assert error < 4 * eps * np.log2(2 * length)
    assert FourierUnit in unit(f) and HostUnit not in unit(f)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
@pytest.mark.parametrize(("shape", "axes"), SHAPES, ids=str)
def test_against_numpy(shape, axes, double, view):
    lay, read = VIEWS[view]
    length = int(np.prod([shape[a] for a in axes]))
    z = (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(np.complex128 if double else np.complex64)
    wide = z.astype(np.complex128)
    for inverse, norm in ((False, "backward"), (True, "backward"), (True, "ortho")):
        want = (np.fft.ifftn if inverse else np.fft.fftn)(wide, axes=axes, norm=norm)
        f = tj.function(lambda x, i=inverse, n=norm: F.fft(read(x), axes=axes, inverse=i, norm=n))
        check(f, lay(z), want, length)
    x, last = z.real.copy(), axes[-1]
    half = np.take(z, range(shape[last] // 2 + 1), last)
    f = tj.function(lambda x: F.rfft(read(x), axes=axes, norm="backward"))
    check(f, lay(x), np.fft.rfftn(x.astype(float), axes=axes), length)
    f = tj.function(lambda x: F.irfft(read(x), axes=axes, n=shape[last], norm="backward"))
    want = np.fft.irfftn(half.astype(np.complex128), [shape[a] for a in axes], axes)
    check(f, lay(half), want, length)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_norms(norm):
    x = RNG.normal(size=(6, 12))
    f = tj.function(lambda x: (F.rfft(x, axes=(0, 1), norm=norm)))
    np.testing.assert_allclose(f(x), np.fft.rfftn(x, norm=norm), atol=1e-14)
    g = tj.function(lambda z: (F.irfft(z, axes=(0, 1), n=12, norm=norm)))
    np.testing.assert_allclose(g(np.fft.rfftn(x, norm=norm)), x, atol=1e-14)
    h = tj.function(lambda z: F.fft(z, axes=(1,), inverse=False, norm=norm))
    np.testing.assert_allclose(h(x + 0j), np.fft.fft(x, norm=norm), atol=1e-14)


def test_lines_do_not_touch_each_other():
    """Nor does it matter which lines are side by side, or how many threads there are."""
    x = RNG.normal(size=(37, 60)).astype(np.float32)
    f = tj.function(lambda x: tj.signal.rfft(x))
    alone = f(x).numpy()
    y = x.copy()
    y[3, 5], y[20, 0], y[36] = np.nan, np.inf, 1e30
    got = f(y).numpy()
    rest = [i for i in range(36) if i not in (3, 20)]
    np.testing.assert_array_equal(got[rest], alone[rest])
    assert np.isnan(got[3]).all()


def test_imaginary_parts_of_the_ends_do_not_count():
    z = RNG.normal(size=(8, 7)) + 1j * RNG.normal(size=(8, 7))
    for n in (12, 13):
        f = tj.function(lambda z, n=n: F.irfft(z, axes=(1,), n=n, norm="backward"))
        np.testing.assert_allclose(f(z), np.fft.irfft(z, n), atol=1e-14)
        z[0] = 1j
        np.testing.assert_allclose(f(z), np.fft.irfft(z, n), atol=1e-14)


@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_rows_that_are_not_known(rows):
    f = tj.function(lambda x: tj.signal.fft(x), input_signature=[tj.TensorSpec((None, 12), tj.complex64)])
    x = (RNG.normal(size=(rows, 12)) + 1j).astype(np.complex64)
    np.testing.assert_allclose(f(tj.constant(x)), np.fft.fft(x, axis=1) if rows else x, atol=1e-5)
    assert FourierUnit in unit(f)


@pytest.mark.parametrize(
    ("shape", "native"), [((8, 22), False), ((1, 16384), False), ((1, 64), True), ((8, 1), False), ((8, 6), True)]
)
def test_where_the_host_does_it(shape, native):
    x = (RNG.normal(size=shape) + 1j).astype(np.complex64)
    f = tj.function(tj.signal.fft)
    np.testing.assert_allclose(f(tj.constant(x)), np.fft.fft(x), atol=1e-5)
    assert (FourierUnit in unit(f)) == native


def test_gradients_and_loops():
    x = RNG.normal(size=(8, 10))

    def loss(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(tj.abs(tj.signal.rfft(x)) ** 2 * tj.range(6.0, dtype=tj.float64))
        return tape.gradient(y, x)

    np.testing.assert_allclose(tj.function(loss)(tj.constant(x)), loss(tj.constant(x)), atol=1e-11)

    @tj.function
    def repeated(z):
        for _ in tj.range(4):
            z = tj.signal.fft(z) * 0.1
        return z

    z = x + 0j
    np.testing.assert_allclose(repeated(z), z * 1e-2, atol=1e-14)  # four transforms are n² times the same


def test_roots_and_radices():
    for n in (2, 3, 7, 8, 30, 1000):
        for k in range(n):
            assert abs(complex(*root(k, n)) - cmath.exp(-2j * cmath.pi * k / n)) < 2e-15
    assert (radices(480), radices(8), radices(22), radices(1)) == ([4, 4, 2, 3, 5], [4, 2], None, [])
