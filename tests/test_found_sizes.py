"""Sizes that a program finds out: masks, ranges and lists whose length depends on values, in compiled functions."""

import gc

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError
from tracejit.runtime import memory


def grown(x):
    rows = []
    while tj.reduce_sum(x) > 1.0:
        x = x / 2.0
        rows.append(x)
    return tj.stack(rows) * 2.0


def chained(x):
    y = x[x > 0]
    return y[y < 0.8] + 1.0


def inner(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        loss = tj.reduce_sum(tj.exp(x[x > 0]) ** 2)
    return tape.gradient(loss, x)


def looped(x):
    total = x[0] * 0.0
    for v in x[x > 0]:
        total = total * 0.5 + v
    return total


def standardised(x):
    y = x[x > 0]
    return (y - tj.reduce_mean(y)) * tj.cast(tj.size(y), tj.float64)


FUNCTIONS = {
    "mask": lambda x: x[x > 0],
    "boolean_mask": lambda x: tj.boolean_mask(x, x > 0),
    "where": lambda x: tj.where(x > 0),
    "reduced": lambda x: tj.reduce_sum(x[x > 0] * 2.0),
    "sorted": lambda x: tj.sort(x[x > 0])[::-1],
    "joined": lambda x: tj.concat([x[x > 0], x, x[x <= 0]], 0),
    "with a column": lambda x: x[x > 0][:, None] * x[None, :],
    "product": lambda x: x[x > 0][None, :] @ x[x > 0][:, None],
    "chained": chained, "gradient inside": inner, "loop over it": looped, "standardised": standardised,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_few_traces_serve_all_lengths(name):
    f = FUNCTIONS[name]
    traced = tj.function(f, strict=True)
    rng = np.random.default_rng(0)
    for n in (7, 5, 9, 7, 2, 31):
        x = tj.constant(rng.normal(size=n))
        got, want = traced(x), f(x)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert traced.experimental_get_tracing_count() <= 3


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_all_and_none(value):
    x = tj.fill((6,), tj.constant(value, tj.float64))
    for f in (FUNCTIONS["mask"], FUNCTIONS["where"], FUNCTIONS["reduced"], FUNCTIONS["joined"], chained, inner):
        np.testing.assert_array_equal(tj.function(f)(x), f(x))


def test_masks_of_several_axes():
    x = tj.constant(np.random.default_rng(1).normal(size=(5, 4, 3)))
    for f in (
        lambda x: x[x > 0],
        lambda x: x[tj.reduce_sum(x, axis=2) > 0],
        lambda x: x[:, tj.reduce_sum(x, axis=(0, 2)) > 0],
        lambda x: tj.where(x > 0),
    ):
        np.testing.assert_array_equal(tj.function(f)(x), f(x))


def gradient(f, x, order=1):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x) if order == 1 else gradient(f, x, order - 1)
        y = tj.reduce_sum(tj.sin(y))
    return tape.gradient(y, x)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("f", [FUNCTIONS["mask"], chained, grown, looped, standardised])
def test_gradients(f, order):
    x = tj.constant([0.7, -0.4, 0.9, 0.3, 2.6], tj.float64)
    want = gradient(f, x, order)
    np.testing.assert_allclose(gradient(tj.function(f), x, order), want, rtol=1e-6)
    np.testing.assert_allclose(tj.function(lambda x: gradient(f, x, order))(x), want, rtol=1e-6)


def test_forward_mode():
    x = tj.constant([3.0, 4.0], tj.float64)
    for f in (grown, FUNCTIONS["mask"]):
        want = tj.autodiff.jvp(f, [x], [tj.cos(x)])[1]
        np.testing.assert_allclose(tj.autodiff.jvp(tj.function(f), [x], [tj.cos(x)])[1], want)


def test_an_array_of_a_size_that_is_a_tensor():
    @tj.function
    def f(n, x):
        ta = tj.TensorArray(tj.float64, size=n)
        for i in tj.range(n):
            ta = ta.write(i, x * tj.cast(i, tj.float64))
        return ta.stack(), tj.range(n) * 2

    for n in (4, 2, 9):
        rows, numbers = f(tj.constant(n), tj.constant(0.5, tj.float64))
        np.testing.assert_array_equal(rows, 0.5 * np.arange(n))
        np.testing.assert_array_equal(numbers, 2 * np.arange(n))


def test_sizes_do_not_fit():
    @tj.function
    def f(x):
        return x[x > 0][2:] + 0.0

    np.testing.assert_array_equal(f(tj.constant([1.0, 2.0, 3.0])), [3.0])
    with pytest.raises(ControlFlowError, match="was found when the function ran"):
        f(tj.constant([1.0, -2.0, -3.0]))
    assert f(tj.constant([1.0, 2.0, 3.0, 4.0])).shape == (2,)


def test_the_plan_tells_what_waits():
    f = tj.function(FUNCTIONS["reduced"])
    assert "found in the call" in f.explain(tj.constant([1.0, -2.0, 3.0]))


def test_arrays_are_given_back():
    f = tj.function(grown)
    x = tj.constant([3.0, 4.0])
    f(x)
    gc.collect()
    before = memory.stats().live_bytes
    for _ in range(50):
        f(x)
    gc.collect()
    assert memory.stats().live_bytes <= before + 4096


def test_a_mask_over_the_rows_of_a_while_has_a_gradient():
    """The part that waits for the mask's size needs that of the rows as well, which none of its operands has."""

    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            z, i, rows = x, 0, tj.TensorArray(tj.float32, 0, dynamic_size=True)
            while z < 10.0:
                rows = rows.write(i, z * z)
                i, z = i + 1, z * 2.0
            every = rows.stack()
            y = tj.reduce_sum(tj.boolean_mask(every, every > 2.0))
        return tape.gradient(y, x)

    traced = tj.function(f)
    for x in (1.0, 0.5, 3.0):
        np.testing.assert_allclose(traced(tj.constant(x)), f(tj.constant(x)))
