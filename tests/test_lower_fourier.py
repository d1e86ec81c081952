"""Fourier transforms in native code: every kind, lengths of every radix, lines that lie anywhere, accuracy."""

import cmath

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower.fourierunit import FourierUnit
from tracejit.lower.hostunit import HostUnit
from tracejit.lower.roots import padded, radices, root, roots, smooth_above, split
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


def test_every_length():
    """One trace for all: what the sizes decide is in tables that are made for each."""
    f = tj.function(tj.signal.fft, input_signature=[tj.TensorSpec((None, None), tj.complex128)])
    r = tj.function(lambda x: tj.signal.irfft(tj.signal.rfft(x), [x.shape[-1]]), reduce_retracing=True)
    for n in (*range(1, 40), 97, 211, 1009, 2310, 4099):
        x = RNG.normal(size=(2, n)) + 1j
        np.testing.assert_allclose(f(x), np.fft.fft(x), atol=1e-11)
        np.testing.assert_allclose(r(tj.constant(x.real)), x.real, atol=1e-12)
    assert unit(f) == {FourierUnit}


@pytest.mark.parametrize("signature", ["known", "open"])
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (3, 1), (0, 0)], ids=str)
def test_lines_of_nothing(shape, signature):
    x, axes = np.ones(shape), tuple(range(len(shape)))
    open_ = [tj.TensorSpec((None,) * len(shape), tj.float64)]

    def both(x):
        return F.rfft(x, axes=axes, norm="backward"), tj.signal.fft(tj.cast(x, tj.complex128))

    f = tj.function(both, input_signature=open_ if signature == "open" else None)
    for got, want in zip(f(tj.constant(x)), both(tj.constant(x)), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-15)


def test_lengths_that_the_program_finds_out():
    f = tj.function(lambda x: tj.signal.rfft(tj.boolean_mask(x, x > 0)))
    x = RNG.normal(size=50)
    np.testing.assert_allclose(f(tj.constant(x)), np.fft.rfft(x[x > 0]), atol=1e-13)
    np.testing.assert_array_equal(f(tj.constant(-np.abs(x))), [0])


KINDS = {
    "whole": (lambda z: z, np.fft.fft, lambda x, n: tj.signal.fft(x)),
    "inverse": (lambda z: z, np.fft.ifft, lambda x, n: tj.signal.ifft(x)),
    "of real": (lambda z: z.real.copy(), np.fft.rfft, lambda x, n: tj.signal.rfft(x)),
    "to real": (lambda z: z[..., : z.shape[-1] // 2 + 1].copy(), None, lambda x, n: tj.signal.irfft(x, [n])),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128], ids=["single", "double"])
@pytest.mark.parametrize("n", [22, 97, 2018, 4096, 4099, 9000, 20011], ids=str)
def test_as_exact_as_numpy(n, dtype, kind):
    """Beside extended precision; NumPy computes single precision forward in double."""
    make, theirs, ours = KINDS[kind]
    z = (RNG.normal(size=(3, n)) + 1j * RNG.normal(size=(3, n))).astype(dtype)
    x = make(z)
    theirs = theirs or (lambda x: np.fft.irfft(x, n))
    exact = theirs(x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble))
    f = tj.function(lambda x: ours(x, n))

    def error(y):
        return float(np.sqrt(np.mean(np.abs(y - exact) ** 2) / np.mean(np.abs(exact) ** 2)))

    bound = 3 * error(theirs(x)) if dtype == np.complex128 else np.finfo(dtype).eps * (0.8 + 0.12 * np.log2(n))
    assert error(f(tj.constant(x)).numpy()) < bound


@pytest.mark.parametrize("n", [12288, 9002, 9001, 12007], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_long_lines_that_lie_anywhere(n, axis):
    shape = (n, 3) if axis == 0 else (3, n)
    z = RNG.normal(size=shape) + 1j * RNG.normal(size=shape)
    length = [n]

    def both(z):
        half = F.rfft(tj.math.real(z), axes=(axis,), norm="backward")
        return F.fft(tj.reverse(z, [1]), axes=(axis,), inverse=True, norm="ortho"), half

    whole, half = tj.function(both)(tj.constant(z))
    np.testing.assert_allclose(whole, np.fft.ifft(z[:, ::-1], axis=axis, norm="ortho"), atol=1e-11)
    want = np.fft.rfft(z.real, axis=axis)
    np.testing.assert_allclose(half, want, atol=1e-9)
    back = tj.function(lambda h: F.irfft(h, axes=(axis,), n=length[0], norm="backward"))
    np.testing.assert_allclose(back(half), z.real, atol=1e-12)


@pytest.mark.parametrize("n", [1 << 22, (1 << 20) + 7])
def test_very_long_lines(n):
    x = RNG.normal(size=n).astype(np.float32)
    got = tj.function(tj.signal.rfft)(tj.constant(x)).numpy()
    want = np.fft.rfft(x)
    assert np.max(np.abs(got - want)) < 2e-6 * np.sqrt(n)


def test_threads():
    f = tj.function(lambda x: (tj.signal.fft(x), tj.signal.rfft(tj.math.real(x))))
    had = tj.get_threads()
    for n in (60, 1009, 4096, 20011, 1 << 17):
        x = tj.constant(RNG.normal(size=(3, n)) + 1j)
        try:
            found = []
            for threads in (1, 2, 3):
                tj.set_threads(threads)
                found.append([y.numpy() for y in f(x)])
        finally:
            tj.set_threads(had)
        for other in found[1:]:
            for y, z in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(y, z)


def test_a_line_does_not_touch_the_next_long_ones():
    x = RNG.normal(size=(4, 9001)).astype(np.float32)
    f = tj.function(tj.signal.rfft)
    alone = f(x).numpy()
    x[1, 7], x[2, 0] = np.nan, np.inf
    np.testing.assert_array_equal(f(x).numpy()[[0, 3]], alone[[0, 3]])


class TestEager:
    """Large arrays take compiled programs from the first call on."""

    @pytest.mark.parametrize("n", [F.LARGE, 9001])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_large(self, n, dtype):
        x = RNG.normal(size=n).astype(dtype)
        close = {"rtol": 0, "atol": 1e-3 if dtype == np.float32 else 1e-10}
        half = tj.signal.rfft(x)
        np.testing.assert_allclose(half, np.fft.rfft(x), **close)
        np.testing.assert_allclose(tj.signal.fft(x), np.fft.fft(x), **close)
        np.testing.assert_allclose(tj.signal.irfft(half, [n]), x, **close)
        assert half.dtype == (tj.complex64 if dtype == np.float32 else tj.complex128)

    def test_programs_are_asked(self, monkeypatch):
        asked = []
        monkeypatch.setattr(F, "NATIVE", [lambda op, x, attrs: asked.append((op.name, x.shape, attrs))])
        x = np.ones((2, F.LARGE), np.complex64)
        tj.signal.fft2d(x)
        tj.signal.fft(x[:, :8])
        assert asked == [("fft", x.shape, {"axes": (0, 1), "inverse": False, "norm": "backward"})]

    def test_the_same_bits_with_and_without_tapes_and_traces(self):
        x = tj.constant(RNG.normal(size=(3, 4000)))
        alone = tj.signal.rfft(x).numpy().copy()
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.signal.rfft(x)
            total = tj.reduce_sum(tj.abs(y) ** 2)
        np.testing.assert_array_equal(y, alone)
        alone[:, [0, -1]] *= 2  # the others count for their images too
        np.testing.assert_allclose(tape.gradient(total, x), 4000 * np.fft.irfft(alone), atol=1e-8)
        f = tj.function(lambda: tj.signal.rfft(np.asarray(x)))
        np.testing.assert_allclose(f(), y, atol=1e-11)

    def test_views_and_axes(self):
        x = RNG.normal(size=(5, 40, 60))
        np.testing.assert_allclose(tj.rfftnd(x, axes=[0, 2]), np.fft.rfftn(x, axes=[0, 2]), atol=1e-10)
        t = tj.transpose(tj.constant(x))
        np.testing.assert_allclose(tj.signal.rfft2d(t), np.fft.rfft2(x.T), atol=1e-10)
        np.testing.assert_allclose(tj.fftnd(t[::2], norm="ortho"), np.fft.fftn(x.T[::2], norm="ortho"), atol=1e-10)


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
        k = np.arange(n)
        assert np.max(np.abs(roots(k, n) - np.exp(-2j * np.pi * k / n))) < 2e-15
    assert (radices(480), radices(8), radices(22), radices(1)) == ([4, 4, 2, 3, 5], [4, 2], [2, 11], [])
    assert (radices(34), radices(0), padded(22), padded(17), padded(1009)) == (None, None, 22, 40, 2048)
    assert [smooth_above(n) for n in (1, 4, 5, 6, 7, 9, 33)] == [1, 4, 5, 6, 8, 10, 40]
    assert (split(1 << 16, 16), split(1000, 16), split(97 * 97, 16), split(200, 16)) == (
        (256, 256), (25, 40), (97, 97), None,
    )  # fmt: skip
