"""Derivatives where a function ends, bends or blows up: zeros, ties, infinities and NaN, in both modes."""

import numpy as np
import pytest

import tracejit as tj

INF, NAN = np.inf, np.nan


def derivatives(f, *xs, weights=None):
    """The derivatives of Σ weights · f by the tape and by forward mode. By the tape it is the same when traced."""
    ts = [tj.constant(np.array(x, np.float64)) for x in xs]
    w = None if weights is None else tj.constant(weights)

    def reverse(ts):
        with tj.GradientTape() as tape:
            tape.watch(ts)
            y = f(*ts)
        return tape.gradient(y, ts, output_gradients=w, unconnected_gradients="zero")

    backward = [g.numpy() for g in reverse(ts)]
    for a, b in zip(tj.function(reverse)(ts), backward, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-12)
    forward = [np.zeros(t.shape) for t in ts]
    for t, d in zip(ts, forward, strict=True):
        for i in np.ndindex(*t.shape):
            one = np.zeros(t.shape)
            one[i] = 1
            with tj.autodiff.ForwardAccumulator(t, tj.constant(one)) as acc:
                y = f(*ts)
            d[i] = np.sum(acc.jvp(y, "zero").numpy() * (1 if weights is None else weights))
    return backward, forward


CASES = {
    "sign": (tj.sign, {0.0: 0, 2.0: 0, INF: 0, -INF: 0, NAN: 0}),
    "abs": (tj.abs, {-0.0: 0, 2.0: 1, -INF: -1, NAN: NAN}),
    "sqrt": (tj.sqrt, {0.0: INF, 4.0: 0.25, INF: 0, -1.0: NAN, NAN: NAN}),
    "rsqrt": (tj.math.rsqrt, {0.0: -INF, 4.0: -1 / 16, INF: 0}),
    "reciprocal": (tj.math.reciprocal, {-0.0: -INF, INF: 0, 2.0: -0.25}),
    "log": (tj.math.log, {0.0: INF, INF: 0, NAN: NAN}),
    "log1p": (tj.math.log1p, {-1.0: INF, 0.0: 1, INF: 0}),
    "asin": (tj.asin, {1.0: INF, -1.0: INF, 0.0: 1}),
    "acos": (tj.acos, {1.0: -INF, 0.0: -1}),
    "atan": (tj.atan, {INF: 0, 0.0: 1}),
    "acosh": (tj.acosh, {1.0: INF, INF: 0, -2.0: NAN, 1e200: 1e-200}),
    "atanh": (tj.atanh, {1.0: INF, 0.0: 1}),
    "tanh": (tj.tanh, {INF: 0, -INF: 0, 0.0: 1, NAN: NAN}),
    "sigmoid": (tj.sigmoid, {INF: 0, -INF: 0, 0.0: 0.25, 800.0: 0}),
    "softplus": (tj.math.softplus, {INF: 1, -INF: 0, 0.0: 0.5}),
    "exp": (tj.exp, {INF: INF, -INF: 0}),
    "relu": (tj.nn.relu, {-0.0: 0, INF: 1, -INF: 0}),
    "relu6": (tj.nn.relu6, {0.0: 0, 6.0: 0, 5.0: 1}),
    "erf": (tj.math.erf, {INF: 0, 0.0: 1.1283791670955126}),
    "clip": (lambda x: tj.clip_by_value(x, -1.0, 1.0), {-1.0: 1, 1.0: 1, 1.5: 0, INF: 0, NAN: 1}),
    "x ** 0": (lambda x: x**0, {0.0: 0, 2.0: 0, NAN: 0}),
    "x ** 1": (lambda x: x**1, {0.0: 1, INF: 1}),
    "x ** 3": (lambda x: x**3, {0.0: 0, -2.0: 12, -INF: INF}),
    "x ** -2": (lambda x: x**-2, {0.0: -INF, -2.0: 0.25}),
    "x ** 1.5": (lambda x: x**1.5, {0.0: 0, 4.0: 3, -1.0: NAN}),
    "2 ** x": (lambda x: 2.0**x, {-INF: 0, 0.0: np.log(2)}),
    "0 ** x": (lambda x: 0.0**x, {0.0: 0, 1.0: 0}),
    "(-2) ** x": (lambda x: (-2.0) ** x, {2.0: 0, 3.0: 0}),
}


@pytest.mark.parametrize("name", CASES)
def test_functions_of_one_number(name):
    f, slopes = CASES[name]
    for x, slope in slopes.items():
        for got in derivatives(f, x):
            np.testing.assert_allclose(got[0], slope, rtol=1e-12, err_msg=f"{name} at {x}")


OF_TWO = [
    (tj.maximum, 1, 1, 0.5, 0.5), (tj.minimum, INF, INF, 0.5, 0.5), (tj.maximum, 1, 2, 0, 1),
    (tj.pow, 0, 0, 0, 0), (tj.pow, 0, 2, 0, 0), (tj.pow, 0, 1, 1, 0), (tj.pow, -2, 3, 12, 0), (tj.pow, NAN, 0, 0, 0),
    (tj.divide, 1, 0, INF, -INF), (tj.divide, 0, 1, 1, 0), (tj.atan2, 0, 0, 0, 0), (tj.atan2, 0, -1, -1, 0),
    (tj.math.xlogy, 0, 0, -INF, 0), (tj.math.xlogy, 0, 2, np.log(2), 0), (tj.math.xlogy, 2, 0, -INF, INF),
    (tj.math.xlog1py, 0, -1, -INF, 0), (tj.math.xdivy, 0, 0, 0, 0), (tj.math.divide_no_nan, 3, 0, 0, 0),
    (tj.math.multiply_no_nan, INF, 0, 0, INF), (tj.math.logaddexp, -INF, -INF, 0.5, 0.5),
    (tj.math.logaddexp, INF, 0, 1, 0), (tj.math.floormod, 7, 2, 1, -3), (tj.math.truncatemod, -7, 2, 1, 3),
    (lambda a, b: tj.where(a > 0, tj.math.log(a), b), 0, 5, 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("f", "a", "b", "da", "db"), OF_TWO)
def test_functions_of_two_numbers(f, a, b, da, db):
    for got in derivatives(f, a, b):
        np.testing.assert_allclose(got, [da, db], rtol=1e-12)


SCANS = {
    "none": [2.0, 3.0, 4.0, 5.0], "first": [0.0, 3.0, 4.0, 5.0], "one": [2.0, 0.0, 4.0, 5.0],
    "several": [2.0, 0.0, 4.0, 0.0], "last": [2.0, 3.0, 4.0, 0.0], "all": [0.0, 0.0, 0.0, -0.0],
}  # fmt: skip


@pytest.mark.parametrize("zeros", SCANS)
def test_products_with_zeros(zeros):
    x, w = np.array(SCANS[zeros]), np.array([1.0, 2.0, 4.0, 8.0])

    def slopes(members):
        """d/dxⱼ of Σ wᵢ Π of the members of i."""
        return [sum(w[i] * np.prod([x[k] for k in members(i) if k != j]) for i in range(4) if j in members(i))
                for j in range(4)]  # fmt: skip

    for exclusive in (False, True):
        for reverse in (False, True):

            def members(i, exclusive=exclusive, reverse=reverse):
                return [k for k in range(4) if (k > i if reverse else k < i) or (k == i and not exclusive)]

            def f(t, exclusive=exclusive, reverse=reverse):
                return tj.math.cumprod(t, exclusive=exclusive, reverse=reverse)

            for got in derivatives(f, x, weights=w):
                np.testing.assert_allclose(got[0], slopes(members), rtol=1e-12)
    for got in derivatives(tj.reduce_prod, x):
        np.testing.assert_allclose(got[0], [np.prod(np.delete(x, j)) for j in range(4)], rtol=1e-12)


def test_reductions_at_their_edges():
    for f, x, want in [
        (tj.reduce_max, [1, 3, 3], [0, 0.5, 0.5]), (tj.reduce_min, [INF, INF], [0.5, 0.5]),
        (tj.reduce_max, [-INF, -INF, -INF], [1 / 3] * 3),
        (tj.reduce_logsumexp, [-INF, 0, 0], [0, 0.5, 0.5]), (tj.math.reduce_std, [1, 3], [-0.5, 0.5]),
        (tj.math.reduce_variance, [2, 2], [0, 0]), (tj.norm, [3, 4], [0.6, 0.8]),
        (lambda x: tj.norm(x, ord=1), [0, -2], [0, -1]), (lambda x: tj.norm(x, ord=INF), [2, -2], [0.5, -0.5]),
        (lambda x: tj.math.l2_normalize(x)[0], [0, 0], [1e6, 0]),
    ]:  # fmt: skip
        for got in derivatives(f, x):
            np.testing.assert_allclose(got[0], want, rtol=1e-9)
    for f in (tj.norm, tj.math.reduce_std):  # no derivative there; the tangents of the squares are 0, and stay so
        backward, forward = derivatives(f, [0, 0])
        assert np.isnan(backward[0]).all() and not forward[0].any()


def test_what_is_not_a_number_is_not_clipped_away():
    x = tj.constant([NAN, 1.0])
    assert np.isnan(tj.clip_by_norm(x, 1.0).numpy()).all()
    assert tj.clip_by_norm([0.0, 0.0], 1.0).numpy().tolist() == [0.0, 0.0]
    assert np.isnan(tj.clip_by_value(x, 0.0, 0.5).numpy()).tolist() == [True, False]
    assert np.isnan(tj.clip_by_global_norm([x], 1.0)[0][0].numpy()).all()


def second(f, x, forward):
    """Second derivatives of Σ f at x: of the gradient by the tape, or by forward mode along ones."""
    x = tj.constant(np.array(x, np.float64))

    def slope(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(f(x))
        return tape.gradient(y, x, unconnected_gradients="zero")

    if forward:
        with tj.autodiff.ForwardAccumulator(x, tj.ones_like(x)) as acc:
            g = slope(x)
        return acc.jvp(g, "zero").numpy()
    with tj.GradientTape() as tape:
        tape.watch(x)
        g = slope(x)
    return tape.gradient(g, x, unconnected_gradients="zero").numpy()


SECOND = {
    "clip_by_global_norm": (lambda x: tj.clip_by_global_norm([x], 2.0)[0][0], [0.0, 0.0], [0, 0]),
    "clipped and squared": (lambda x: tj.clip_by_global_norm([x], tj.constant(2.0))[0][0] ** 2, [0.0], [2]),
    "clip_by_norm": (lambda x: tj.clip_by_norm(x, 2.0) ** 3, [0.0, 1.0], [0, 6]),
    "atan2": (lambda x: tj.atan2(x, x), [0.0, 1.0], [0, 0]),
    "atan2 of zeros": (lambda x: tj.atan2(x * 0.0, x), [0.0], [0]),
}


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name, forward):
    f, x, want = SECOND[name]
    np.testing.assert_allclose(second(f, x, forward), want, atol=1e-12)
    np.testing.assert_allclose(second(tj.function(f), x, forward), want, atol=1e-12)


def test_clipped_beyond_the_norm():
    x = [3.0, 4.0]
    y, norm = tj.clip_by_global_norm([tj.constant(x, tj.float64), None], 1.0)
    np.testing.assert_allclose(y[0].numpy(), [0.6, 0.8])
    assert norm.numpy() == 5 and y[1] is None
    given = tj.clip_by_global_norm([tj.constant(x, tj.float64)], 1.0, use_norm=tj.constant(10.0, tj.float64))
    np.testing.assert_allclose(given[0][0].numpy(), [0.3, 0.4])
    for got in derivatives(lambda x: tj.clip_by_global_norm([x], 1.0)[0][0], x, weights=np.array([1.0, 0.0])):
        np.testing.assert_allclose(got[0], [0.2 * 0.64, -0.2 * 0.48], rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "slopes"),
    [
        ([INF, 1, 2], [2, INF, INF]), ([INF, -3], [-3, INF]), ([-INF, 2, -1], [-2, INF, -INF]),
        ([0, INF], [INF, 0]), ([0, 0, INF], [NAN, NAN, 0]), ([0, 0, 5], [0, 0, 0]), ([0, 3, 5], [15, 0, 0]),
        ([0, INF, -2], [-INF, 0, NAN]), ([INF, INF], [INF, INF]),
    ],
)  # fmt: skip
def test_products_with_infinities(x, slopes):
    for got in derivatives(tj.reduce_prod, x):
        np.testing.assert_allclose(got[0], slopes, rtol=1e-12)


UNSAFE = {  # what is not selected, and where
    "x log x": (lambda x: tj.where(x > 0, x * tj.math.log(x), 0.0), 0.0),
    "sqrt at 0": (lambda x: tj.where(x > 0, tj.sqrt(x), 0.0), 0.0),
    "sqrt below 0": (lambda x: tj.where(x > 0, tj.sqrt(x), 0.0), -1.0),
    "quotient": (lambda x: tj.where(x > 0, tj.sin(x) / x, 0.0), 0.0),
    "power": (lambda x: tj.where(x > 0, x**0.5, 0.0), 0.0),
    "chain": (lambda x: tj.where(x > 0, tj.math.log(tj.sqrt(x) * x), 0.0), 0.0),
}


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("name", UNSAFE)
def test_what_is_not_selected_has_no_derivative_of_any_order(name, wrap):
    f, at = UNSAFE[name]
    x = tj.constant([at, 0.7], tj.float64)
    want, slope = [], f
    for _ in range(3):
        slope = derivative(slope)
        want.append(float(slope(x)[1]))
    slope = f
    for order in range(3):
        slope = derivative(slope)
        np.testing.assert_allclose(wrap(slope)(x), [0.0, want[order]], rtol=1e-12)
    second = wrap(lambda x: tj.hvp(lambda x: tj.reduce_sum(f(x)), (x,), (tj.ones_like(x),))[0])(x)
    np.testing.assert_allclose(second, [0.0, want[1]], rtol=1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_a_tangent_of_0_stays_0_beside_an_infinite_slope(wrap):
    x, t = tj.constant([0.0, 1.0], tj.float64), tj.constant([0.0, 1.0], tj.float64)
    assert wrap(lambda x, t: tj.jvp(tj.sqrt, (x,), (t,))[1])(x, t).numpy().tolist() == [0, 0.5]
    for mode in ("forward", "reverse"):
        assert wrap(tj.jacobian(tj.sqrt, mode=mode))(x).numpy().tolist() == [[np.inf, 0], [0, 0.5]]
    y = tj.constant([0.5, 2.0], tj.float64)
    got = wrap(tj.jacobian(lambda x: x**y, mode="forward"))(x)
    np.testing.assert_allclose(got, [[np.inf, 0], [0, 2]])


REMOVABLE = {  # a function, a point, its derivatives there and at a neighbour
    "spence": (tj.math.special.spence, 1.0, [-1, 1 / 2, -2 / 3]),
    "bessel_i1": (tj.math.bessel_i1, 0.0, [1 / 2, 0, 3 / 8]),
    "bessel_j1": (tj.math.special.bessel_j1, 0.0, [1 / 2, 0, -3 / 8]),
    "igamma of 2": (lambda x: tj.math.igamma(tj.constant(2.0, tj.float64), x), 0.0, [0, 1, -2]),
    "igammac of 3": (lambda x: tj.math.igammac(tj.constant(3.0, tj.float64), x), 0.0, [0, 0, -1]),
}


@pytest.mark.parametrize("name", REMOVABLE)
def test_derivatives_at_and_beside_removable_points(name):
    f, at, want = REMOVABLE[name]
    x = tj.constant([at, at + 1e-9], tj.float64)
    for expected in want:
        forward = tj.jvp(f, (x,), (tj.ones_like(x),))[1]
        f = derivative(f)
        for got in f(x), tj.function(f)(x), forward:
            np.testing.assert_allclose(got, [expected] * 2, rtol=1e-7, atol=1e-8)


def derivative(f):
    def slope(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return slope
