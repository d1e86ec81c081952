"""Derivatives of products some of whose factors are 0, of any order that is given."""

import itertools

import numpy as np
import pytest

import tracejit as tj

FACTORS = [[2, 3, 4, 5], [2, 0, 3, 4], [0, 0, 3, 5], [0, 2, 0, 3], [2, 0, 0, 0], [0, 0, 0, 0]]
ALL = [0, 1, 2, 3]
SEGMENTS = np.zeros(4, np.int32)
PRODUCTS = {  # a function, the factors that it multiplies, the highest order of its derivatives
    "reduce_prod": (tj.reduce_prod, ALL, 4),
    "segment_prod": (lambda v: tj.math.segment_prod(v, SEGMENTS)[0], ALL, 4),
    "unsorted_segment_prod": (lambda v: tj.math.unsorted_segment_prod(v, SEGMENTS, 1)[0], ALL, 4),
    "cumprod": (lambda v: tj.math.cumprod(v)[2], [0, 1, 2], 2),
    "cumprod, exclusive": (lambda v: tj.math.cumprod(v, exclusive=True)[3], [0, 1, 2], 2),
    "cumprod, reverse": (lambda v: tj.math.cumprod(v, reverse=True)[1], [1, 2, 3], 2),
}


def wanted(factors, places, order):
    """All partial derivatives of an order of the product of the factors in some places."""
    out = np.zeros((4,) * order)
    for along in itertools.product(range(4), repeat=order):
        if len({*along}) == order and {*along} <= {*places}:
            out[along] = np.prod([factors[k] for k in places if k not in along])
    return out


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_reverse_mode(name, wrap):
    f, places, orders = PRODUCTS[name]
    for order in range(1, (orders if wrap is not tj.function else 2) + 1):
        f = tj.jacobian(f)
        run = wrap(f)
        for factors in FACTORS:
            got = run(tj.constant(factors, tj.float64))
            np.testing.assert_allclose(got, wanted(factors, places, order), atol=1e-12, err_msg=str(factors))


@pytest.mark.parametrize("name", PRODUCTS)
def test_forward_over_forward_mode(name):
    f, places, _ = PRODUCTS[name]
    for factors in FACTORS:
        v = tj.constant(factors, tj.float64)
        got = tj.jacobian(tj.jacobian(f, mode="forward"), mode="forward")(v)
        np.testing.assert_allclose(got, wanted(factors, places, 2), atol=1e-12, err_msg=str(factors))


def test_complex_products():
    v = tj.constant([1 + 2j, 0, 3 - 1j], tj.complex128)
    for f in (tj.reduce_prod, lambda v: tj.math.cumprod(v)[2]):
        with tj.GradientTape() as tape:
            tape.watch(v)
            y = tj.math.real(f(v))
        np.testing.assert_allclose(tape.gradient(y, v), [0, np.conj((1 + 2j) * (3 - 1j)), 0])
