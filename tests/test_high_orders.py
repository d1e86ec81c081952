"""Derivatives to order 4: eagerly, in traces, of traced functions under tapes, and through control flow."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as tj

X = np.array([0.3, 0.7, 1.1])


def looped(x):
    y = x
    for _ in tj.range(3):
        y = y * tj.sin(x) + x
    return y


def until(x):
    y = x
    while tj.reduce_sum(y) < 20.0:
        y = y * y + x
    return y


def branched(x):
    if tj.reduce_sum(x) > 1.0:
        y = tj.exp(x) * x
    else:
        y = x
    return y


FUNCTIONS = {
    "sin": tj.sin,
    "exp": tj.exp,
    "log": tj.math.log,
    "tanh": tj.tanh,
    "sigmoid": tj.sigmoid,
    "softplus": tj.nn.softplus,
    "gelu": tj.nn.gelu,
    "reciprocal": tj.math.reciprocal,
    "power": lambda x: x**5,
    "of two": lambda x: tj.atan2(x, x * x + 1),
    "product": tj.reduce_prod,
    "softmax": tj.nn.softmax,
    "cumulative": lambda x: tj.math.cumprod(x),
    "matrices": lambda x: tj.linalg.matmul(tj.linalg.diag(x), x[:, None] * x) @ tj.exp(x)[:, None],
    "gathered": lambda x: tj.gather(x, [0, 2, 2]) ** 4,
    "where": lambda x: tj.where(x > 0.5, x**4, tj.sin(x)),
    "mapped": lambda x: tj.vectorized_map(lambda r: tj.sin(r) * r**2, x),
    "recomputed": tj.recompute_grad(lambda x: tj.sin(x) * tj.exp(x)),
    "for": looped,
    "while": until,
    "if": branched,
}


def weights(order):
    return np.random.default_rng(order).normal(size=3)


def reverse(f, order, x):
    """The derivative of this order, as one number, by tapes in tapes: each derivative times numbers is added up."""
    if order == 0:
        return tj.reduce_sum(tj.sin(f(x)))
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = reverse(f, order - 1, x)
    return tj.reduce_sum(tape.gradient(y, x) * weights(order))


def forward(f, order, x):
    if order == 0:
        return tj.reduce_sum(tj.sin(f(x)))
    with tj.autodiff.ForwardAccumulator(x, tj.constant(weights(order))) as acc:
        y = forward(f, order - 1, x)
    return acc.jvp(y)


def mixed(f, order, x):
    """Forward over reverse over forward over reverse."""
    if order == 0:
        return tj.reduce_sum(tj.sin(f(x)))
    if order % 2:
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = mixed(f, order - 1, x)
        return tj.reduce_sum(tape.gradient(y, x) * weights(order))
    with tj.autodiff.ForwardAccumulator(x, tj.constant(weights(order))) as acc:
        y = mixed(f, order - 1, x)
    return acc.jvp(y)


def expected(f, order):
    """By central differences of the derivative below, which the orders before have tested."""
    h = 1e-5
    ends = [float(reverse(f, order - 1, tj.constant(X + s * h * weights(order)))) for s in (1, -1)]
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_to_order_four(name):
    f = FUNCTIONS[name]
    traced = tj.function(f)
    for order in range(1, 5):
        want = expected(f, order)
        ways = {
            "eager": lambda: reverse(f, order, tj.constant(X)),
            "forward": lambda: forward(f, order, tj.constant(X)),
            "mixed": lambda: mixed(f, order, tj.constant(X)),
            "in a trace": lambda: tj.function(lambda x: reverse(f, order, x))(X),
            "mixed in a trace": lambda: tj.function(lambda x: mixed(f, order, x))(X),
            "of a traced function": lambda: reverse(traced, order, tj.constant(X)),
        }
        for way, run in ways.items():
            if order % 2 and "trace" in way:  # the even orders contain them
                continue
            assert float(run()) == pytest.approx(want, rel=2e-6, abs=2e-6), f"order {order} {way}"
