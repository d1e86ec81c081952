"""Derivatives of igamma, betainc and zeta along their parameters, to order 4, against values in 60 digits."""

import numpy as np
import pytest
from lowerings import Lowered

import tracejit as tj
from tracejit.ops import beta, gamma, incomplete

M = tj.math
INF, NAN = np.inf, np.nan
# From mpmath: numerical differentiation of its functions in 60 digits (of betainc, of the hypergeometric series).
IGAMMA = [  # a, x and the derivatives along a of orders 2, 3 and 4
    ((0.001, 0.2), [0.20829366071910413, 4.321020828254055, -14.22995152174229]),
    ((0.3, 2.5), [-0.11542274060605662, -0.07911466047015162, 0.12370425917792402]),
    ((0.75, 0.5), [0.33364901323850715, 0.4722995277870479, -1.7513646335429045]),
    ((1.0, 1.25), [-0.06134987609795476, 0.3500335630237176, -0.16186092076422712]),
    ((2.5, 0.125), [0.015011126692127338, -0.04462173672124001, 0.1262622047732971]),
    ((7.0, 9.5), [-0.02791305759630099, 0.0045556884705137074, 0.007558113741480553]),
    ((250.0, 240.0), [0.0008564960333358411, 4.89441669678198e-05, -9.188773212544216e-06]),
    ((4096.0, 4160.0), [-5.846744251822409e-05, 1.4164774122631206e-08, 2.8543980268698787e-08]),
]  # fmt: skip
ORDERS = [(2, 0), (1, 1), (0, 2), (1, 2), (3, 1)]
BETAINC = [  # a, b, x and the derivatives of these orders along a and b
    ((0.0625, 0.125, 0.25), [
        42.545752101239884, 7.64178083464595, -17.685723106224895, 21.62548028045964, 8576.603958259127,
    ]),
    ((0.5, 3.0, 0.75), [
        -0.01927381821876299, 0.022005148673568186, -0.012926450395131198, -0.031190494623012453, -0.008460708845422377,
    ]),
    ((1.0, 1.0, 0.5), [0.24022650695910072, 0.0, -0.24022650695910072, 0.2941428419379786, 0.6383306265120751]),
    ((2.0, 3.5, 0.25), [
        0.14920419617992675, -0.03174157240430538, -0.004141582079780054, 0.024652766036650394, 0.07587082245928563,
    ]),
    ((0.25, 40.0, 0.0078125), [
        0.29943273255766306, 0.011599087276824528, -0.0001019494839143531,
        -0.00021347073126354324, 0.002603225325756499,
    ]),
    ((300.0, 200.0, 0.625), [
        -0.00028626735489188404, 0.00047223408769286293, -0.000776101872445835,
        -8.058325673887208e-06, -1.0339118423692474e-06,
    ]),
    ((1.5, 0.0625, 0.9375), [
        0.04028099663165202, -0.6197646009471829, -3.8292714063245343, 3.5807841881380207, -0.7080307305806101,
    ]),
]  # fmt: skip
ZETA = [  # x, q and the derivatives along x of orders 2, 3 and 4
    ((1.0625, 0.5), [8193.011489242188, -393215.3032182927, 25165824.480038133]),
    ((2.0, 1.0), [1.989280234298901, -6.000145802843045, 24.00148639373646]),
    ((3.5, 20.0), [0.0027425659509505065, -0.009532225108594583, 0.03379306923496323]),
    ((12.0, 0.25), [32242655.97288857, 44697812.157148294, 61964324.94915257]),
]  # fmt: skip


def columns(table):
    return [np.array(v) for v in zip(*[x for x, _ in table], strict=True)]


TABLES = [
    *[(incomplete.igamma_slope, {"order": n}, IGAMMA, n - 2) for n in (2, 3, 4)],
    *[(beta.betainc_slope, {"orders": n}, BETAINC, i) for i, n in enumerate(ORDERS)],
    *[(gamma.zeta_slope, {"order": n}, ZETA, n - 2) for n in (2, 3, 4)],
]


@pytest.mark.parametrize(("row", "attrs", "table", "place"), TABLES)
def test_values(row, attrs, table, place):
    x, want = columns(table), np.array([values[place] for _, values in table])
    y = row(*map(tj.constant, x), **attrs).numpy()
    np.testing.assert_allclose(y, want, rtol=1e-11, atol=1e-15)
    for way, z in Lowered(lambda *v: row(*v, **attrs)).results(*x, source=False):
        np.testing.assert_allclose(z[0], y, rtol=1e-11, atol=1e-15, err_msg=way)


def slope(f, i):
    """The derivative along the i-th operand."""

    def g(*x):
        with tj.GradientTape() as tape:
            tape.watch(x[i])
            y = f(*x)
        return tape.gradient(y, x[i])

    return g


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_orders_up_to_the_fourth(wrap):
    f = M.igamma
    for order in range(4):
        f = slope(f, 0)
        if order:
            y = wrap(f)(*map(tj.constant, columns(IGAMMA)))
            np.testing.assert_allclose(y.numpy(), [values[order - 1] for _, values in IGAMMA], rtol=1e-11, atol=1e-15)
    for (n, k), want in zip(ORDERS, zip(*[values for _, values in BETAINC], strict=True), strict=True):
        f = M.betainc
        for i in (1,) * k + (0,) * n:
            f = slope(f, i)
        y = wrap(f)(*map(tj.constant, columns(BETAINC)))
        np.testing.assert_allclose(y.numpy(), want, rtol=1e-11, atol=1e-15)


def test_mixed_with_x():
    """Whichever is first: along x there is a formula, along the parameters quadrature."""
    a, b, x = map(tj.constant, ([0.5, 2.5], [1.5, 0.75], [0.25, 0.625]))
    for f, at in ((M.igamma, (a, x)), (M.igammac, (a, x)), (M.betainc, (a, b, x)), (M.zeta, (a + 1.5, x))):
        last = len(at) - 1
        first = slope(slope(slope(f, last), 0), 0)(*at).numpy()
        np.testing.assert_allclose(slope(slope(slope(f, 0), 0), last)(*at).numpy(), first, rtol=2e-5)
        np.testing.assert_allclose(slope(slope(slope(f, 0), last), 0)(*at).numpy(), first, rtol=2e-5)


def test_hessians_and_forward_mode():
    at = tj.constant([1.5, 2.5], tj.float64)
    h = tj.hessian(lambda v: M.betainc(v[0], v[1], 0.375))(at).numpy()
    assert h[0, 1] == pytest.approx(h[1, 0], rel=1e-12)
    one = tj.constant(1.0, tj.float64)
    twice = tj.jvp(lambda a: tj.jvp(lambda t: M.betainc(t, at[1], 0.375), [a], [one])[1], [at[0]], [one])[1]
    assert float(twice) == pytest.approx(h[0, 0], rel=1e-12)


ENDS = [
    (incomplete.igamma_slope, {"order": 2}, [(-1.0, 1.0), (2.0, 0.0), (2.0, INF), (INF, 2.0), (NAN, 1.0), (0.0, 0.0)],
     [NAN, 0.0, 0.0, 0.0, NAN, NAN]),
    (beta.betainc_slope, {"orders": (1, 1)}, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0), (INF, 3.0, 0.5), (2.0, 3.0, 1.5)],
     [0.0, 0.0, 0.0, NAN]),
    (gamma.zeta_slope, {"order": 2}, [(1.0, 2.0), (0.5, 1.0), (2.0, INF), (2.0, 0.0), (2.0, -0.5)],
     [INF, NAN, 0.0, INF, NAN]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "attrs", "operands", "want"), ENDS)
def test_ends(row, attrs, operands, want):
    x = [np.array(v) for v in zip(*operands, strict=True)]
    np.testing.assert_array_equal(row(*map(tj.constant, x), **attrs).numpy(), want)
    for way, y in Lowered(lambda *v: row(*v, **attrs)).results(*x, source=False):
        np.testing.assert_array_equal(y[0], want, err_msg=way)


X_ENDS = [
    (M.igamma, [(-1.0, 1.0), (1.0, INF), (INF, 1.0), (1.0, -1.0), (NAN, 1.0), (1.0, 0.0), (2.0, INF)],
     [NAN, 0.0, 0.0, NAN, NAN, 1.0, 0.0]),
    (M.igammac, [(-1.0, 1.0), (1.0, INF), (INF, 1.0), (1.0, 0.0)], [NAN, 0.0, 0.0, -1.0]),
    (M.betainc, [(INF, 1.0, 0.5), (1.0, INF, 0.5), (-1.0, 1.0, 0.5), (1.0, 1.0, 1.5)], [0.0, 0.0, NAN, NAN]),
    (M.zeta, [(0.5, 1.0), (2.5, -0.5), (2.0, NAN)], [NAN, NAN, NAN]),
]  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize(("f", "operands", "want"), X_ENDS)
def test_slopes_along_x_at_the_ends(f, operands, want, wrap):
    x = [tj.constant(np.array(v)) for v in zip(*operands, strict=True)]
    np.testing.assert_array_equal(slope(wrap(f), len(x) - 1)(*x).numpy(), want)
