"""Special functions over wide ranges against SciPy, their special values, slopes where a formula needs care, names."""

import math

import numpy as np
import pytest
import scipy.special as sp
from lowerings import Lowered

import tracejit as tj
from tracejit.errors import DTypeError, ShapeError
from tracejit.ops import beta, gamma, incomplete, kernels

M, S = tj.math, tj.math.special
RNG = np.random.default_rng(0)
INF, NAN = np.inf, np.nan


def uniform(low, high, n=400):
    return RNG.uniform(low, high, n)


def powers(low, high, n=400):
    """Numbers of all magnitudes."""
    return 10.0 ** RNG.uniform(low, high, n)


def both(x):
    return np.concatenate([x, -x])


def around(a, width):
    """Numbers within some standard deviations of a."""
    return np.maximum(a * (1 + RNG.uniform(-width, width, a.shape) / np.sqrt(a)), 1e-3 * a)


SMALL, LARGE, SHAPES = powers(-5, 1), powers(1.5, 5), (powers(-2, 2), powers(-2, 2))
BETAS = (powers(1, 4), powers(1, 4))
MEAN = BETAS[0] / (BETAS[0] + BETAS[1])

# name, function, reference, arguments, relative error, absolute error
WIDE = [
    ("lgamma", M.lgamma, sp.gammaln, [powers(-300, 300)], 2e-15, 4e-16),
    ("lgamma, moderate", M.lgamma, sp.gammaln, [uniform(0.0, 30.0)], 2e-15, 2e-15),
    ("lgamma, negative", M.lgamma, sp.gammaln, [uniform(-60.0, 0.0)], 1e-13, 1e-13),
    ("digamma", M.digamma, sp.digamma, [powers(-200, 200)], 2e-15, 0.0),
    ("digamma, moderate", M.digamma, sp.digamma, [uniform(0.0, 20.0)], 2e-15, 1e-15),
    ("digamma, negative", M.digamma, sp.digamma, [uniform(-20.0, 0.0)], 1e-11, 1e-12),
    ("zeta", M.zeta, sp.zeta, [uniform(1.01, 40.0), powers(-3, 3)], 4e-15, 0.0),
    ("polygamma", M.polygamma, sp.polygamma, [RNG.integers(0, 12, 400) * 1.0, powers(-2, 3)], 1e-14, 1e-15),
    ("erfinv", M.erfinv, sp.erfinv, [both(1 - powers(-16, 0))], 2e-15, 0.0),
    ("erfcinv", M.erfcinv, sp.erfcinv, [powers(-320, 0.3)], 2e-15, 1e-15),
    ("ndtri", M.ndtri, sp.ndtri, [powers(-300, 0)], 3e-15, 1e-15),
    ("i0", M.bessel_i0, sp.i0, [both(powers(-5, 2.8))], 4e-15, 0.0),
    ("i1", M.bessel_i1, sp.i1, [both(powers(-5, 2.8))], 6e-15, 0.0),
    ("i0e", M.bessel_i0e, sp.i0e, [both(powers(-5, 300))], 4e-15, 0.0),
    ("i1e", M.bessel_i1e, sp.i1e, [both(powers(-5, 300))], 6e-15, 0.0),
    ("k0", S.bessel_k0, sp.k0, [powers(-300, 2.8)], 6e-15, 0.0),
    ("k1", S.bessel_k1, sp.k1, [powers(-300, 2.8)], 6e-15, 0.0),
    ("k0e", S.bessel_k0e, sp.k0e, [powers(-300, 300)], 6e-15, 0.0),
    ("k1e", S.bessel_k1e, sp.k1e, [powers(-300, 300)], 6e-15, 0.0),
    ("j0", S.bessel_j0, sp.j0, [both(powers(-3, 2.5))], 4e-14, 3e-15),
    ("j1", S.bessel_j1, sp.j1, [both(powers(-3, 2.5))], 4e-14, 3e-15),
    ("y0", S.bessel_y0, sp.y0, [powers(-300, 2.5)], 4e-14, 6e-15),
    ("y1", S.bessel_y1, sp.y1, [powers(-300, 2.5)], 4e-14, 6e-15),
    ("dawsn", S.dawsn, sp.dawsn, [both(powers(-300, 300))], 4e-14, 0.0),
    ("expint", S.expint, sp.expi, [both(powers(-300, 2.8))], 1e-14, 1e-15),
    ("fresnel_sin", S.fresnel_sin, lambda x: sp.fresnel(x)[0], [both(powers(-3, 2))], 3e-15, 1e-13),
    ("fresnel_cos", S.fresnel_cos, lambda x: sp.fresnel(x)[1], [both(powers(-3, 2))], 3e-15, 1e-13),
    ("spence", S.spence, sp.spence, [powers(-300, 300)], 8e-15, 1e-15),
    ("igamma, small", M.igamma, sp.gammainc, [SMALL, powers(-6, 2)], 5e-14, 0.0),
    ("igammac, small", M.igammac, sp.gammaincc, [SMALL, powers(-6, 2)], 1e-13, 0.0),
    ("igamma, large", M.igamma, sp.gammainc, [LARGE, around(LARGE, 5)], 3e-13, 1e-14),
    ("igammac, large", M.igammac, sp.gammaincc, [LARGE, around(LARGE, 5)], 3e-13, 1e-14),
    ("betainc", M.betainc, sp.betainc, [*SHAPES, uniform(0.0, 1.0)], 2e-12, 1e-14),
    ("betainc, large", M.betainc, sp.betainc, [*BETAS, np.clip(around(MEAN, 0.2), 0, 1)], 1e-11, 1e-13),
    ("betaln", S.betaln, sp.betaln, [*SHAPES], 2e-14, 2e-12),
]


@pytest.mark.parametrize(("name", "f", "reference", "xs", "rtol", "atol"), WIDE, ids=[w[0] for w in WIDE])
def test_wide_ranges(name, f, reference, xs, rtol, atol):
    want = reference(*xs)
    np.testing.assert_allclose(f(*map(tj.constant, xs)).numpy(), want, rtol=rtol, atol=atol, err_msg="eager")
    for way, got in Lowered(lambda *a: f(*a)).results(*xs, source=False):
        np.testing.assert_allclose(got[0], want, rtol=max(rtol, 2e-14), atol=max(atol, 2e-14), err_msg=way)


@pytest.mark.parametrize(("name", "f", "reference", "xs", "rtol", "atol"), WIDE, ids=[w[0] for w in WIDE])
def test_float32_is_rounded_once(name, f, reference, xs, rtol, atol):
    with np.errstate(all="ignore"):
        xs = [x.astype(np.float32) for x in xs]
    y = f(*map(tj.constant, xs)).numpy()
    assert y.dtype == np.float32
    with np.errstate(all="ignore"):
        want = reference(*[x.astype(np.float64) for x in xs]).astype(np.float32)
    kept = np.abs(want) > 1e-37
    np.testing.assert_allclose(y[kept], want[kept], rtol=1.3e-7, atol=1e-13)


VALUES = [
    (M.lgamma, [0.0, -0.0, -1.0, -2.0, INF, -INF, 1.0, 2.0, NAN], [INF, INF, INF, INF, INF, INF, 0.0, 0.0, NAN]),
    (M.digamma, [0.0, -0.0, -1.0, INF, -INF, NAN], [-INF, INF, NAN, INF, NAN, NAN]),
    (M.erfcinv, [0.0, 1.0, 2.0, -0.1, 2.1, NAN], [INF, 0.0, -INF, NAN, NAN, NAN]),
    (M.erfinv, [1.0, -1.0, 0.0, 1.1, NAN], [INF, -INF, 0.0, NAN, NAN]),
    (M.ndtri, [0.0, 0.5, 1.0, 2.0], [-INF, 0.0, INF, NAN]),
    (M.bessel_i0, [0.0, INF, -INF, NAN], [1.0, INF, INF, NAN]),
    (M.bessel_i1, [0.0, INF, -INF, NAN], [0.0, INF, -INF, NAN]),
    (M.bessel_i0e, [0.0, INF, -INF], [1.0, 0.0, 0.0]),
    (S.bessel_k0, [0.0, -1.0, INF, NAN], [INF, NAN, 0.0, NAN]),
    (S.bessel_k1e, [0.0, -1.0, INF, NAN], [INF, NAN, 0.0, NAN]),
    (S.bessel_j0, [0.0, INF, -INF, NAN], [1.0, 0.0, 0.0, NAN]),
    (S.bessel_j1, [0.0, INF, NAN], [0.0, 0.0, NAN]),
    (S.bessel_y0, [0.0, -1.0, INF, NAN], [-INF, NAN, 0.0, NAN]),
    (S.bessel_y1, [0.0, -1.0, INF, NAN], [-INF, NAN, 0.0, NAN]),
    (S.dawsn, [0.0, INF, -INF, NAN], [0.0, 0.0, 0.0, NAN]),
    (S.expint, [0.0, INF, -INF, NAN], [-INF, INF, 0.0, NAN]),
    (S.fresnel_sin, [0.0, INF, -INF, NAN], [0.0, 0.5, -0.5, NAN]),
    (S.fresnel_cos, [0.0, INF, -INF, NAN], [0.0, 0.5, -0.5, NAN]),
    (S.spence, [0.0, 1.0, -1.0, INF, NAN], [np.pi**2 / 6, 0.0, NAN, -INF, NAN]),
    (lambda x: M.zeta(x, 2.0), [1.0, 0.5, INF, NAN], [INF, NAN, 0.0, NAN]),
    (lambda q: M.zeta(2.0, q), [0.0, -3.0, INF, NAN], [INF, INF, 0.0, NAN]),
    (lambda q: M.zeta(2.5, q), [-0.5, -2.0], [NAN, INF]),
    (lambda n: M.polygamma(n, 1.0), [0.0, 1.0, -1.0, 1.5, NAN], [-np.euler_gamma, np.pi**2 / 6, NAN, NAN, NAN]),
    (lambda a: M.igamma(a, 1.0), [0.0, INF, -1.0, NAN], [1.0, 0.0, NAN, NAN]),
    (lambda x: M.igamma(2.0, x), [0.0, INF, -1.0, NAN], [0.0, 1.0, NAN, NAN]),
    (lambda x: M.igammac(0.0, x), [0.0, 1.0], [NAN, 0.0]),
    (lambda a: M.igammac(a, INF), [1.0, INF], [0.0, NAN]),
    (lambda a: M.betainc(a, 1.0, 0.5), [0.0, INF, -1.0, NAN], [1.0, 0.0, NAN, NAN]),
    (lambda b: M.betainc(1.0, b, 0.5), [0.0, INF, -1.0, NAN], [0.0, 1.0, NAN, NAN]),
    (lambda x: M.betainc(2.0, 3.0, x), [0.0, 1.0, -0.1, 1.1, NAN], [0.0, 1.0, NAN, NAN, NAN]),
    (lambda a: S.betaln(a, 1.0), [0.0, INF, -1.0, 1.0, NAN], [INF, -INF, NAN, 0.0, NAN]),
    (M.reciprocal_no_nan, [0.0, -0.0, 2.0, INF, NAN], [0.0, 0.0, 0.5, 0.0, NAN]),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_special_values(dtype):
    for f, xs, want in VALUES:
        x = np.array(xs, dtype)
        tol = 1e-6 if dtype is np.float32 else 1e-15
        np.testing.assert_allclose(f(tj.constant(x)).numpy(), want, rtol=tol, atol=tol, err_msg=f"{f} of {xs}")


def test_special_values_in_every_lowering():
    """Those of several operands; `test_differential.py` has the others."""
    table = VALUES[-10:]
    parts = [np.array(xs) for _, xs, _ in table]

    def program(parts):
        return [f(x) for (f, _, _), x in zip(table, parts)]

    for way, got in Lowered(program).results(parts):
        for (f, xs, want), y in zip(table, got, strict=True):
            np.testing.assert_allclose(y, want, rtol=1e-14, atol=1e-14, err_msg=f"{way}: {f} of {xs}")


def test_integers_become_floating():
    assert M.lgamma(5).dtype == tj.float32
    assert M.lgamma(np.arange(1, 5)).dtype == tj.float64
    assert M.igamma(2, 3).numpy() == pytest.approx(sp.gammainc(2, 3))
    assert M.betainc(tj.constant([1, 2]), 2.0, 0.25).shape == (2,)


def test_complex_numbers_are_refused():
    z = tj.constant([1.0 + 1.0j])
    for f in (M.lgamma, S.bessel_j0, S.expint, lambda z: M.igamma(z, z), lambda z: M.betainc(z, z, z)):
        with pytest.raises(DTypeError, match="complex"):
            f(z)


# --- slopes -----------------------------------------------------------------------------------------------------------
def slope(f, x, order=1):
    x = tj.constant(np.asarray(x, np.float64))
    for _ in range(order):
        f = (lambda g: lambda t: _gradient(g, t))(f)
    return f(x).numpy()


def _gradient(f, x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)


def test_slopes_where_the_formula_divides_by_zero():
    np.testing.assert_allclose(slope(M.bessel_i1, [0.0]), [0.5])
    np.testing.assert_allclose(slope(M.bessel_i1e, [0.0]), [0.5])
    np.testing.assert_allclose(slope(S.bessel_j1, [0.0]), [0.5])
    np.testing.assert_allclose(slope(S.spence, [1.0]), [-1.0])
    np.testing.assert_allclose(slope(lambda x: np.hypot(x, x), [0.0]), [0.0])


def test_derivatives_of_lgamma_to_the_fourth():
    x = np.array([0.3, 1.0, 4.5])
    for order in range(1, 5):
        np.testing.assert_allclose(slope(M.lgamma, x, order), sp.polygamma(order - 1, x), rtol=1e-13)


@pytest.mark.parametrize("a", [1e-3, 0.3, 1.0, 7.0, 80.0, 250.0, 3000.0, 1e6])
def test_slope_of_igamma_along_a(a):
    """Against differences of SciPy's function, between both ends of where it changes."""
    x = a + np.array([-2.0, -0.5, 0.0, 0.5, 2.0]) * np.sqrt(a)
    x = x[x > 0]
    h = 1e-3 * min(a, np.sqrt(a))
    at = [sp.gammainc(a + k * h, x) for k in (-2, -1, 1, 2)]
    want = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    got = slope(lambda t: M.igamma(t, x), np.full(x.shape, a))
    np.testing.assert_allclose(got, want, rtol=2e-8)
    np.testing.assert_allclose(slope(lambda t: M.igammac(t, x), np.full(x.shape, a)), -want, rtol=2e-8)
    for way, y in Lowered(incomplete.igamma_grad_a).results(np.full(x.shape, a), x, source=False):
        np.testing.assert_allclose(y[0], got, rtol=1e-11, err_msg=way)


def test_mixed_derivative_of_igamma():
    a, x = tj.constant([0.7, 3.0]), tj.constant([0.4, 5.0])
    with tj.GradientTape() as outer:
        outer.watch(x)
        with tj.GradientTape() as inner:
            inner.watch(a)
            y = M.igamma(a, x)
        along_a = inner.gradient(y, a)
    got = outer.gradient(along_a, x).numpy()
    density = np.exp((a.numpy() - 1) * np.log(x.numpy()) - x.numpy() - sp.gammaln(a.numpy()))
    np.testing.assert_allclose(got, density * (np.log(x.numpy()) - sp.digamma(a.numpy())), rtol=1e-5)


UNKNOWN = [  # a function of a, and the operand that there is no derivative along
    (lambda a: M.polygamma(a, 1.5), "polygamma has no derivative along its order a"),
]


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function])
@pytest.mark.parametrize(("f", "message"), UNKNOWN)
def test_slopes_that_are_not_known_raise_in_both_modes(f, message, wrap):
    f, a = wrap(f), tj.constant(2.0)
    for way in (lambda: slope(f, 2.0), lambda: tj.jvp(f, [a], [tj.constant(1.0)])):
        with pytest.raises(tj.errors.GradientError, match=message):
            way()


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function])
def test_slopes_that_are_not_known_are_not_asked_for(wrap):
    n, x = tj.constant(2.0), tj.constant(1.5)
    f = wrap(M.polygamma)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch((n, x))
        y = f(n, x)
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), sp.polygamma(3, 1.5), rtol=1e-6)
    with pytest.raises(tj.errors.GradientError, match="polygamma has no derivative along its order"):
        tape.gradient(y, n)
    with tj.GradientTape() as tape:
        tape.watch((n, x))
        y = M.polygamma(tj.stop_gradient(n), x)
    assert tape.gradient(y, [n, x])[0] is None


def test_derivatives_that_are_not_wanted_are_not_computed(monkeypatch):
    a, x = tj.constant(2.0), tj.constant(1.5)
    kernel, calls = incomplete.igamma_grad_a.numpy, []

    def count(*arrays):
        calls.append(arrays)
        return kernel(*arrays)

    monkeypatch.setattr(incomplete.igamma_grad_a, "numpy", count)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch((a, x))
        y = M.igamma(a, x)
    assert tape.gradient(y, x).numpy() > 0
    assert not calls
    assert tape.gradient(y, a).numpy() < 0
    assert len(calls) == 1


@pytest.mark.parametrize("scale", [0.02, 0.5, 3.0, 40.0, 900.0])
def test_slopes_of_betainc_along_the_shapes(scale):
    rng = np.random.default_rng(5)
    a, b = scale * 10 ** rng.uniform(-0.5, 0.5, (2, 60))
    mean = a / (a + b)
    x = np.clip(mean + 2 * rng.normal(size=60) * np.sqrt(mean * (1 - mean) / (a + b + 1)), 1e-3, 1 - 1e-3)
    for i, row in enumerate((beta.betainc_grad_a, beta.betainc_grad_b)):
        h = 1e-3 * np.minimum((a, b)[i], np.sqrt((a, b)[i]))
        at = [sp.betainc(a + k * h * (i == 0), b + k * h * (i == 1), x) for k in (-2, -1, 1, 2)]
        want = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
        got = row(tj.constant(a), tj.constant(b), tj.constant(x)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-13 / h.min())
        for way, y in Lowered(row).results(a, b, x, source=False):
            np.testing.assert_allclose(y[0], got, rtol=1e-10, atol=1e-14 / scale, err_msg=way)


SLOPES_AT_THE_ENDS = [
    (beta.betainc_grad_a, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0), (INF, 2.0, 0.3), (-1.0, 2.0, 0.3)], [0, 0, 0, NAN]),
    (beta.betainc_grad_a, [(0.0, 2.0, 0.3)], [np.log(0.3) + 1.0 - 0.3]),
    (beta.betainc_grad_b, [(2.0, 0.0, 0.3)], [-np.log(0.7) - 0.3]),
    (incomplete.igamma_grad_a, [(0.0, 0.3), (0.0, 2.0), (0.0, 0.0), (2.0, 0.0)], [*-sp.exp1([0.3, 2.0]), NAN, 0.0]),
    (gamma.zeta_grad_x, [(1.0, 2.0), (2.0, INF), (2.0, 0.0), (2.0, -0.5), (INF, 2.0)], [-INF, 0.0, INF, NAN, 0.0]),
]


@pytest.mark.parametrize(("row", "operands", "want"), SLOPES_AT_THE_ENDS)
def test_slopes_at_the_ends(row, operands, want):
    x = [np.array(v) for v in zip(*operands, strict=True)]
    np.testing.assert_allclose(row(*map(tj.constant, x)).numpy(), want, rtol=1e-12)
    for way, y in Lowered(row).results(*x, source=False):
        np.testing.assert_allclose(y[0], want, rtol=1e-12, err_msg=way)


def test_slopes_of_nextafter():
    a, b = tj.constant([1.0, 2.0]), tj.constant([2.0, 1.0])
    with tj.GradientTape() as tape:
        tape.watch((a, b))
        y = M.nextafter(a, b)
    along = tape.gradient(y, (a, b))
    assert [g.numpy().tolist() for g in along] == [[1.0, 1.0], [0.0, 0.0]]


# --- zeta below 0, sums of functions, steps ---------------------------------------------------------------------------
def test_zeta_of_whole_orders_below_zero():
    q = RNG.uniform(-30, 0, 200)
    for s in (2.0, 4.0):
        np.testing.assert_allclose(M.zeta(s, tj.constant(q)).numpy(), sp.zeta(s, q), rtol=1e-14)
    assert np.isnan(M.zeta(2.0, tj.constant(-2e6 - 0.5)).numpy())


def test_both_incomplete_gammas_add_up_to_one():
    a, x = tj.constant(powers(-3, 4)), tj.constant(powers(-3, 4))
    np.testing.assert_allclose((M.igamma(a, x) + M.igammac(a, x)).numpy(), 1.0, rtol=1e-14)


def test_arrays_of_many_blocks_with_broadcasting():
    """What is computed a block at a time equals what is computed at once."""
    a, x = uniform(0.2, 300.0, 90)[:, None], uniform(0.1, 300.0, 110)
    y = M.igamma(tj.constant(a), tj.constant(x)).numpy()
    assert y.shape == (90, 110)
    np.testing.assert_array_equal(y[17], M.igamma(tj.constant(a[17]), tj.constant(x)).numpy())
    np.testing.assert_allclose(y, sp.gammainc(a, x), rtol=1e-11, atol=1e-14)


def test_lbeta():
    x = RNG.uniform(0.5, 4.0, (5, 3))
    want = sp.gammaln(x).sum(-1) - sp.gammaln(x.sum(-1))
    np.testing.assert_allclose(M.lbeta(tj.constant(x)).numpy(), want, rtol=1e-12)
    assert M.lbeta([1.0, 2.0, 3.0]).numpy() == pytest.approx(np.log(1 / 60))
    np.testing.assert_array_equal(M.lbeta(tj.zeros([2, 0])).numpy(), [-INF, -INF])
    with pytest.raises(ShapeError, match="axis"):
        M.lbeta(1.0)


@pytest.mark.parametrize("dtype", [tj.float16, tj.bfloat16, tj.float32, tj.float64])
def test_nextafter_in_every_binade(dtype):
    """From the smallest number to the largest, up and down, eagerly and traced."""
    info = tj.ir.types.limits(dtype)
    n = 2 * int(-np.log2(float(info.smallest_subnormal)))
    with np.errstate(all="ignore"):
        x = np.ldexp(float(info.smallest_subnormal), np.arange(n)).astype(dtype.np)
    x = x[np.isfinite(x.astype(np.float64))]
    x = np.concatenate([x, (x.astype(np.float64) * 1.5).astype(dtype.np), np.array([0, info.max, np.inf], dtype.np)])
    x = np.concatenate([x, -x])

    def steps(x):
        return M.nextafter(x, INF), M.nextafter(x, -INF), M.nextafter(x, 0.0), M.nextafter(x, x), M.nextafter(x, NAN)

    with np.errstate(all="ignore"):
        up, down = (np.nextafter(x, np.array(v, dtype.np)) for v in (INF, -INF))
    for way, got in Lowered(steps, numerics="exact").results(x):
        for y, want in zip(got, (up, down, np.nextafter(x, np.zeros((), dtype.np)), x), strict=False):
            np.testing.assert_array_equal(y.astype(np.float64), want.astype(np.float64), err_msg=way)
        assert np.isnan(got[4].astype(np.float64)).all()


# --- names of NumPy's protocol ----------------------------------------------------------------------------------------
def test_numpy_functions_of_tensors():
    x = np.array([-2.5, -1.0, -0.0, 0.0, 0.3, 1.0, INF, NAN])
    y = np.array([1.0, NAN, -0.0, 2.0, -0.3, 1.0, 0.5, 3.0])
    s, t = tj.constant(x), tj.constant(y)
    for f in (np.signbit, np.cbrt):
        np.testing.assert_allclose(f(s).numpy(), f(x), rtol=1e-15, err_msg=f.__name__)
    for f in (np.heaviside, np.logaddexp2, np.fmax, np.fmin, np.hypot, np.nextafter, np.copysign):
        with np.errstate(all="ignore"):
            want = f(x, y)
        np.testing.assert_allclose(f(s, t).numpy(), want, rtol=1e-15, atol=1e-15, err_msg=f.__name__)
    np.testing.assert_allclose(np.sinc(s[:6]).numpy(), np.sinc(x[:6]), rtol=1e-15, atol=1e-16)
    np.testing.assert_allclose(np.i0(s[:6]).numpy(), np.i0(x[:6]), rtol=1e-14)
    assert np.signbit(tj.constant([-1, 0, 2])).numpy().tolist() == [True, False, False]
    assert np.fmax(tj.constant([-1, 5]), 2).numpy().tolist() == [2, 5]


def test_hypot_neither_overflows_nor_vanishes():
    x = np.array([1e300, 1e-300, INF, 0.0])
    y = np.array([1e300, -1e-300, NAN, 0.0])
    for way, got in Lowered(np.hypot).results(x, y):
        np.testing.assert_allclose(got[0], np.hypot(x, y), rtol=1e-15, err_msg=way)


# --- where a formula has no value but its limit -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("a", "b", "x", "slope"),
    [(1, 0.1, 0, 0.1), (1, 2, 0, 2), (1, 1, 0, 1), (1, 1, 1, 1), (2, 1, 1, 2), (0.5, 1, 1, 0.5), (2, 0.5, 0, 0)],
)
def test_the_slope_of_betainc_at_the_ends(a, b, x, slope):
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = M.betainc(float(a), float(b), x)
        return tape.gradient(y, x)

    x = tj.constant(float(x), tj.float64)
    np.testing.assert_allclose([f(x).numpy(), tj.function(f)(x).numpy()], slope, rtol=1e-12)


def test_the_slopes_of_the_density_of_betainc_and_igamma_for_an_exponent_of_0():
    p, q = (tj.constant(v, tj.float64) for v in (1.0, 0.5))
    with tj.GradientTape(persistent=True) as outer:
        outer.watch([p, q])
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(q)
            y, z = M.betainc(p, 3.0, q), M.igamma(p, q)
        dy, dz = tape.gradient(y, q), tape.gradient(z, q)
    np.testing.assert_allclose(outer.gradient(dy, p).numpy(), 0.75 * (np.log(0.5) + sp.digamma(4) - sp.digamma(1)))
    np.testing.assert_allclose(outer.gradient(dz, p).numpy(), np.exp(-0.5) * (np.log(0.5) - sp.digamma(1)))


def test_the_slope_of_igamma_at_0():
    x = tj.constant(0.0, tj.float64)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = M.igamma(1.0, x)
    assert tape.gradient(y, x).numpy() == 1


# --- operands that are not finite -------------------------------------------------------------------------------------
@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_parts_of_real_numbers_that_are_not_finite(wrap):
    x = tj.constant([INF, -INF, NAN, -0.0, -2.0])
    assert wrap(M.imag)(x).numpy().tolist() == [0.0] * 5
    np.testing.assert_allclose(wrap(M.angle)(x).numpy(), [0, np.pi, 0, 0, np.pi], rtol=1e-6)
    assert wrap(lambda x: M.polyval([], x))(x).numpy().tolist() == [0.0] * 5
    assert wrap(lambda x: M.polyval([3.0], x))(x).numpy().tolist() == [3.0] * 5
    assert wrap(lambda x: M.polyval([1.0, 3.0], x))(tj.constant([INF])).numpy().tolist() == [INF]


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_squared_difference_of_complex_numbers_is_that_of_their_distance(wrap):
    y = wrap(M.squared_difference)(tj.constant([1 + 2j, 0]), tj.constant([3 - 1j, 2]))
    assert y.numpy().tolist() == [13, 4]


def test_eager_erf_is_within_two_ulp():
    """C's erf is right within 1 ulp; the kernel that stands in before a compiled one is there is within 1.4."""
    r = np.random.default_rng(5)
    x = np.concatenate([r.uniform(-6, 6, 2000), r.uniform(-1, 1, 4000), [0.0, -0.0, np.inf, -np.inf, 5e-324]])
    want = np.array([math.erf(v) for v in x])
    got = kernels.erf(x)
    assert (np.abs(got - want) <= 2 * np.spacing(np.abs(want))).all() and np.signbit(got[-4])
    assert np.isnan(kernels.erf(np.array([np.nan]))).all()
