"""Signals: windows and transforms against SciPy, round trips, NumPy's names, gradients of complex results, errors."""

import numpy as np
import pytest
import scipy.fft as sf
import scipy.signal as ss

import tracejit as tj
from tracejit.backends import numba_source
from tracejit.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(5)
WAYS = pytest.mark.parametrize("way", [lambda f: f, tj.function], ids=["eager", "traced"])
X = RNG.normal(size=(3, 4, 6))
Z = X + 1j * RNG.normal(size=X.shape)


# --- Fourier transforms -----------------------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize("name", ["fft", "ifft", "fft2", "ifft2", "fftn", "ifftn", "irfft", "irfft2", "irfftn", "hfft"])
def test_numpys_functions_of_complex_numbers(name, way):
    f = getattr(np.fft, name)
    y = way(lambda z: f(z))(tj.constant(Z))
    assert isinstance(y, tj.Tensor)
    np.testing.assert_allclose(y, f(Z), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(way(lambda z: f(z, norm="ortho"))(tj.constant(Z)), f(Z, norm="ortho"), atol=1e-12)


@WAYS
@pytest.mark.parametrize("name", ["rfft", "rfft2", "rfftn", "ihfft", "fftshift", "ifftshift", "fft"])
def test_numpys_functions_of_real_numbers(name, way):
    f = getattr(np.fft, name)
    y = way(lambda x: f(x))(tj.constant(X))
    assert isinstance(y, tj.Tensor)
    np.testing.assert_allclose(y, f(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 6, 9])
@pytest.mark.parametrize("axis", [0, -1])
def test_lengths_along_an_axis(n, axis):
    for name, x in (("fft", Z), ("ifft", Z), ("rfft", X), ("irfft", Z)):
        y = getattr(np.fft, name)(tj.constant(x), n, axis)
        np.testing.assert_allclose(y, getattr(np.fft, name)(x, n, axis), atol=1e-12)


@WAYS
def test_dtypes_stay_as_wide_as_they_are(way):
    for given, wide in ((tj.float32, tj.complex64), (tj.float64, tj.complex128), (tj.float16, tj.complex64)):
        x = tj.cast(tj.constant(X), given)
        assert way(tj.signal.rfft)(x).dtype is wide
        assert way(tj.signal.fft)(x).dtype is wide
        assert way(tj.signal.irfft)(way(tj.signal.rfft)(x)).dtype.bits == wide.bits // 2
        assert way(tj.signal.stft)(x, 4, 2).dtype is wide
    assert tj.signal.fft([1.0, 2.0]).dtype is tj.complex64
    assert tj.signal.rfft(tj.constant([1, 2, 3])).dtype is tj.complex128


@WAYS
def test_axes_without_elements(way):
    s = tj.signal
    for shape in ((0,), (2, 0), (0, 3)):
        z = tj.zeros(shape, tj.complex64)
        assert way(s.fft)(z).shape == shape
        assert way(s.ifft)(z).shape == shape
        x = tj.zeros(shape)
        y = way(s.rfft)(x)
        assert y.shape == (*shape[:-1], shape[-1] // 2 + 1)
        assert not y.numpy().any()
        assert way(lambda y, n=shape[-1]: s.irfft(y, [n]))(y).shape == shape
    assert way(s.irfft)(tj.ones((2, 1), tj.complex64)).shape == (2, 0)


@WAYS
def test_gradients_of_complex_results(way):
    w = tj.constant(RNG.normal(size=(3, 4, 6)) + 1j * RNG.normal(size=(3, 4, 6)))
    s = tj.signal
    ways = {
        "fft": lambda z: s.fft(z), "ifft2d": lambda z: s.ifft2d(z), "fft3d": lambda z: s.fft3d(z),
        "irfft": lambda z: s.irfft(z), "irfft2d odd": lambda z: s.irfft2d(z, [4, 7]), "irfft3d": lambda z: s.irfft3d(z),
        "there and back": lambda z: s.ifftnd(s.fftnd(z, norm="ortho") * w, norm="forward"),
    }  # fmt: skip
    for name, f in ways.items():

        def total(z, f=f):
            y = f(z)
            y = tj.math.real(y * tj.math.conj(w)) if y.dtype.is_complex else y[..., :6] * tj.math.real(w)
            return tj.reduce_sum(y)

        def gradient(z, total=total):
            with tj.GradientTape() as tape:
                tape.watch(z)
                y = total(z)
            return tape.gradient(y, z)

        g = way(gradient)(tj.constant(Z)).numpy()
        for at in [(0, 0, 0), (1, 2, 3), (2, 3, 5), (0, 1, 1)]:
            for direction in (1, 1j):
                h = np.zeros_like(Z)
                h[at] = direction * 1e-6
                d = (float(total(tj.constant(Z + h))) - float(total(tj.constant(Z - h)))) / 2e-6
                assert (g[at] * np.conj(direction)).real == pytest.approx(d, abs=1e-7), name


def test_rows_of_a_map():
    for f in (
        tj.signal.fft, tj.signal.ifft2d, tj.signal.irfft, lambda z: tj.signal.fftnd(z, axes=[0]),
        lambda z: tj.signal.rfft2d(tj.math.real(z)), lambda z: tj.signal.stft(tj.math.real(z), 4, 2),
    ):  # fmt: skip
        want = np.stack([f(tj.constant(z)).numpy() for z in Z])
        for g in (lambda z, f=f: tj.vectorized_map(f, z, fallback_to_while_loop=False),):
            np.testing.assert_allclose(g(tj.constant(Z)), want, atol=1e-12)
            np.testing.assert_allclose(tj.function(g)(tj.constant(Z)), want, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (0, 4), (4, 0)])
def test_numba_source(shape):
    def f(x):
        y = tj.signal.rfft2d(x)
        return tj.signal.irfft2d(y * 2.0), tj.math.real(tj.signal.ifft(tj.signal.fft(x))), tj.math.abs(y)

    traced = tj.function(f, input_signature=[tj.TensorSpec((None, None), tj.float64)])
    x = RNG.normal(size=shape)
    concrete = traced.get_concrete_function(x)
    assert "np.fft.rfftn(" in numba_source.source(concrete).text
    found, _ = numba_source.prepare(concrete, compiled=False)([x])
    for a, b in zip(found, f(tj.constant(x)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_one_trace_for_all_sizes():
    f = tj.function(
        lambda x: tj.signal.dct(tj.signal.irfft(tj.signal.rfft(x) * 2.0, [8])),
        input_signature=[tj.TensorSpec((None, 8), tj.float64)],
    )
    for n in (3, 0, 1, 7):
        x = RNG.normal(size=(n, 8))
        np.testing.assert_allclose(f(x), sf.dct(2 * x), atol=1e-12)
    assert f.experimental_get_tracing_count() == 1


# --- windows ----------------------------------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize("n", [2, 4, 16, 100])
def test_windows(n, way):
    s = tj.signal
    pairs = [
        (s.hann_window, ss.windows.hann(n, False)), (s.hamming_window, ss.windows.hamming(n, False)),
        (lambda n, dtype: s.hann_window(n, False, dtype), ss.windows.hann(n)),
        (lambda n, dtype: s.hamming_window(n + 1, False, dtype), ss.windows.hamming(n + 1)),
        (s.kaiser_window, np.kaiser(n, 12.0)),
        (lambda n, dtype: s.kaiser_window(n + 1, 3.0, dtype), np.kaiser(n + 1, 3)),
        (lambda n, dtype: s.kaiser_bessel_derived_window(n, 4.0, dtype), ss.windows.kaiser_bessel_derived(n, beta=4.0)),
        (s.vorbis_window, np.sin(np.pi / 2 * np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2)),
    ]  # fmt: skip
    for f, want in pairs:
        np.testing.assert_allclose(way(f)(n, dtype=tj.float64), want, rtol=1e-12, atol=1e-14)
        for d, tol in ((tj.float32, 1e-6), (tj.float16, 1e-3), (tj.bfloat16, 1e-2)):
            y = way(f)(n, dtype=d)
            assert y.dtype is d
            np.testing.assert_allclose(y.numpy().astype(float), want, rtol=tol, atol=tol)


def test_short_windows_and_windows_of_an_odd_length():
    s = tj.signal
    for f in (s.hann_window, s.hamming_window, s.kaiser_window):
        assert f(1).numpy().tolist() == [1.0]
        assert f(0).shape == (0,)
    assert s.vorbis_window(0).shape == (0,)
    np.testing.assert_allclose(s.hann_window(5, True, tj.float64), ss.windows.hann(5), atol=1e-12)  # as TensorFlow
    with pytest.raises(ArgumentError, match="floating"):
        s.hann_window(4, dtype=tj.int32)
    with pytest.raises(ArgumentError, match="length"):
        s.kaiser_window(-1)


def test_the_length_of_a_window_may_be_a_size_that_is_open():
    s = tj.signal

    def f(x):
        n = x.shape[0]
        return [g(n, dtype=tj.float64) for g in (s.hann_window, s.hamming_window, s.kaiser_window, s.vorbis_window)]

    traced = tj.function(f, input_signature=[tj.TensorSpec((None,))])
    for n in (6, 9, 1, 4):
        for a, b in zip(traced(tj.zeros((n,))), f(tj.zeros((n,))), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-14)


def test_the_derivative_of_a_kaiser_window():
    def f(beta):
        return tj.signal.kaiser_window(9, beta, tj.float64)

    slope = tj.jvp(f, (tj.constant(3.0, tj.float64),), (tj.constant(1.0, tj.float64),))[1]
    np.testing.assert_allclose(slope, (np.kaiser(9, 3 + 1e-6) - np.kaiser(9, 3 - 1e-6)) / 2e-6, atol=1e-8)


# --- frames and short-time transforms ---------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize(("length", "step", "n"), [(16, 4, 100), (12, 5, 97), (400, 160, 2000), (8, 8, 64)])
def test_stft_and_back(length, step, n, way):
    x = RNG.normal(size=(2, n))
    s = tj.signal
    window = lambda n, dtype: s.hamming_window(n, dtype=dtype)  # noqa: E731  it has no zeros at the ends

    def f(x):
        z = s.stft(x, length, step, window_fn=window)
        return z, s.inverse_stft(z, length, step, window_fn=s.inverse_stft_window_fn(step, window))

    z, y = way(f)(tj.constant(x))
    w = s.hamming_window(length, dtype=tj.float64).numpy()
    fft_length = 2 ** int(np.ceil(np.log2(length)))
    for i in range(z.shape[1]):
        np.testing.assert_allclose(
            z[:, i], np.fft.rfft(x[:, i * step : i * step + length] * w, fft_length), rtol=1e-9, atol=1e-9
        )
    inside = slice(length, y.shape[1] - length)
    np.testing.assert_allclose(y[:, inside], x[:, : y.shape[1]][:, inside], atol=1e-9)


@WAYS
@pytest.mark.parametrize("norm", [None, "ortho"])
@pytest.mark.parametrize("window", ["vorbis_window", "kaiser_bessel_derived_window", None])
def test_mdct_and_back(norm, window, way):
    x = RNG.normal(size=(3, 64))
    w = window and getattr(tj.signal, window)

    def f(x):
        return tj.signal.inverse_mdct(tj.signal.mdct(x, 16, w, norm=norm), w, norm=norm)

    np.testing.assert_allclose(way(f)(tj.constant(x))[:, 8:-8], x[:, 8:-8], atol=1e-12)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_inverse_cosine_transforms(kind):
    x = RNG.normal(size=(2, 7))
    y = tj.signal.idct(tj.signal.dct(tj.constant(x), kind), kind)
    np.testing.assert_allclose(y / (2 * 7 if kind > 1 else 2 * 6), x, atol=1e-12)
    if kind > 1:
        y = tj.signal.idct(tj.signal.dct(tj.constant(x), kind, norm="ortho"), kind, norm="ortho")
        np.testing.assert_allclose(y, x, atol=1e-12)
    np.testing.assert_allclose(tj.signal.dct(tj.constant(x), kind, n=5), sf.dct(x, kind, 5), atol=1e-12)
    np.testing.assert_allclose(tj.signal.dct(tj.constant(x), kind, n=9), sf.dct(x, kind, 9), atol=1e-12)


def test_frames_with_a_traced_value_behind_the_end():
    f = tj.function(lambda x, v: tj.signal.frame(x, 3, 2, pad_end=True, pad_value=v))
    np.testing.assert_array_equal(f(tj.range(4.0), tj.constant(9.0)), [[0, 1, 2], [2, 3, 9]])


def test_the_mel_scale():
    m = tj.signal.linear_to_mel_weight_matrix(13, 65, 16000, 20.0, 7000.0, tj.float64).numpy()

    def mel(f):
        return 1127 * np.log1p(f / 700)

    edges = np.linspace(mel(20.0), mel(7000.0), 15)
    at = mel(np.linspace(0, 8000, 65))[:, None]
    rising, falling = (at - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - at) / (edges[2:] - edges[1:-1])
    want = np.maximum(0, np.minimum(rising, falling))
    want[0] = 0
    np.testing.assert_allclose(m, want, atol=1e-12)
    traced = tj.function(lambda rate: tj.signal.linear_to_mel_weight_matrix(13, 65, rate, 20.0, 7000.0, tj.float64))
    np.testing.assert_allclose(traced(tj.constant(16000)), want, atol=1e-12)
    for more in ({"lower_edge_hertz": -1.0}, {"lower_edge_hertz": 5000.0}, {"sample_rate": 7000}, {"num_mel_bins": 0}):
        with pytest.raises(ArgumentError):
            tj.signal.linear_to_mel_weight_matrix(**more)


# --- errors -----------------------------------------------------------------------------------------------------------
def test_errors_name_what_was_found():
    s = tj.signal
    with pytest.raises(ShapeError, match=r"fft2d takes a tensor of 2 axes or more, not c64\[3\]"):
        s.fft2d(tj.zeros((3,), tj.complex64))
    with pytest.raises(ShapeError, match="one axis"):
        s.rfft(1.0)
    with pytest.raises(DTypeError, match=r"rfft takes real numbers, not c64\[3\]"):
        s.rfft(tj.zeros((3,), tj.complex64))
    with pytest.raises(ArgumentError, match="norm is"):
        s.fftnd(tj.zeros((3,)), norm="both")
    with pytest.raises(ArgumentError, match="twice"):
        s.fftnd(tj.zeros((3, 3)), axes=[0, -2])
    with pytest.raises(ArgumentError, match="2 lengths for 1 axes"):
        s.fftnd(tj.zeros((3, 3)), [2, 2], [0])
    with pytest.raises(ArgumentError, match="length"):
        s.rfft(tj.zeros((3,)), [-1])
    for kind, norm, n in ((5, None, None), (1, "ortho", None), (2, "x", None), (2, None, 0)):
        with pytest.raises(ArgumentError):
            s.dct(tj.zeros((3,)), kind, n, norm=norm)
    with pytest.raises(ArgumentError, match="last axis"):
        s.dct(tj.zeros((3, 3)), axis=0)
    with pytest.raises(ArgumentError, match="two elements"):
        s.dct(tj.zeros((1,)), 1)
    with pytest.raises(ArgumentError, match="frame_step is 1 or more, not 0"):
        s.frame(tj.zeros((3,)), 2, 0)
    with pytest.raises(ShapeError):
        s.overlap_and_add(tj.zeros((3,)), 1)
    with pytest.raises(ArgumentError, match="multiple of 4"):
        s.mdct(tj.zeros((30,)), 6)
    with pytest.raises(ArgumentError, match="mel bins"):
        s.mfccs_from_log_mel_spectrograms(tj.zeros((2, 0)))
