"""Sizes that a program finds out: masks, ranges and lists whose length depends on values, in compiled functions."""

import gc

import numpy as np
import pytest
from lowerings import Lowered, compiled

import tracejit as tj
from tracejit.errors import ControlFlowError, ShapeError
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


def in_a_branch(x):
    if tj.reduce_sum(x) > 0.0:
        total = tj.reduce_sum(x[x > 0])
    else:
        total = tj.reduce_max(tj.unique(x)[0])
    return total


def in_a_loop(x):
    total = tj.reduce_sum(x) * 0.0
    while total < 20.0:
        larger = x[x > total]
        total = total + tj.reduce_sum(larger) * 0.25 + 1.0
    return total


@pytest.mark.parametrize("f", [in_a_branch, in_a_loop])
def test_inside_branches_and_loops_alone(f):
    """Where nothing around them has such a size, native code still runs them."""
    traced = compiled(f)
    for x in ([3.0, -1.0, 2.0], [-3.0, -1.0, 2.0], [0.5, 0.5, 8.0]):
        x = tj.constant(x)
        np.testing.assert_allclose(traced(x), f(x), rtol=1e-6)


def branches_of_two_sizes(x):
    y = x
    if tj.reduce_sum(x) > 0.0:
        y = x[x > 0]
    else:
        y = tj.unique(x)[0]
    return y


def state_that_shrinks(x):
    y = x[x > 0]
    while tj.reduce_sum(y) > 3.0:
        y = y[y < tj.reduce_max(y)]
    return y


def rows_of_any_size(x):
    return tj.map_fn(lambda row: row[row > 0], tj.stack([x, x]))


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (branches_of_two_sizes, "'y' .*depends on values which one branch computes"),
        (state_that_shrinks, "'y' .*depends on values which a step of the loop computes"),
        (rows_of_any_size, "a row of what is stacked .*which a step of the loop computes"),
    ],
)
def test_sizes_stay_in_the_region_that_finds_them(f, said):
    x = tj.constant([3.0, 1.0, 2.0])
    f(x)
    with pytest.raises(ShapeError, match=said):
        tj.function(f, strict=True)(x)


def test_sizes_do_not_fit():
    @tj.function
    def f(x, y):
        return x[x > 0] + y

    np.testing.assert_array_equal(f(tj.constant([1.0, 2.0, -3.0]), tj.constant([1.0, 2.0])), [2.0, 4.0])
    np.testing.assert_array_equal(f(tj.constant([1.0, -2.0, -3.0]), tj.constant([1.0, 2.0])), [2.0, 3.0])
    with pytest.raises(ShapeError, match=r"sizes that were found when the function ran differ: 3 .* and 2"):
        f(tj.constant([1.0, 2.0, 3.0]), tj.constant([1.0, 2.0]))

    @tj.function
    def g(x):
        return tj.reduce_max(tj.split(x[x > 0], [2, -1])[1])

    assert float(g(tj.constant([1.0, 2.0, 3.0]))) == 3.0
    with pytest.raises(ControlFlowError, match="was found when the function ran"):
        g(tj.constant([1.0, -2.0, -3.0]))


CUTS = [slice(2, None), slice(None, 3), slice(None, -1), slice(-2, None), slice(1, -1), slice(1, 3), slice(-3, -1)]


@pytest.mark.parametrize("cut", [*CUTS, slice(3, 1), slice(None, None, -1), slice(0, None, 2)])
def test_parts_of_found_sizes(cut):
    """As Python cuts them: what is beyond the end is left out."""
    f = Lowered(lambda x: x[x > 0][cut] * 2.0)
    for values in ([1.0, -2.0, 3.0, 4.0, 5.0], [1.0, -2.0, -3.0], [-1.0, -2.0], [1.0, 2.0]):
        x = tj.constant(values)
        for _, (got,) in f.results(x):
            np.testing.assert_array_equal(got, x.numpy()[x.numpy() > 0][cut] * 2.0)


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


@pytest.mark.parametrize("start", [1, 3, 5])
def test_arrays_of_found_sizes_beside_parts_of_buffers(start):
    """The references that a call holds have words of their own, behind those with which pointers are worked out."""

    def f(x, scale):
        return tj.unique(x)[0], tj.sort(x[start:]), tj.cumsum(x[start + 1 :]) * scale, x[x > 2.0]

    traced = tj.function(f)
    for values in ([3.0, 1.0, 2.0, 3.0, 5.0, 4.0, 1.0], [1.0] * 7, range(7)):
        x = tj.constant(list(values), tj.float64)
        for got, want in zip(traced(x, 2.0), f(x, 2.0), strict=True):
            np.testing.assert_array_equal(got, want)


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


LINE = np.array([0.5, -1.0, 0.5, 2.0, -1.0, 1.5])
TABLE = np.array([[0.5, -1.0, 2.0], [1.0, 0.5, -1.5], [-0.5, 1.5, 2.5], [0.0, 3.0, 1.0]])
CUBE = np.stack([TABLE, TABLE[::-1] * 0.75], 2)
SIX = np.array([0, 0, 2, 2, 2, 3], np.int32)
FOUR = np.array([0, 0, 1, 3], np.int32)
EACH = np.array([[1, 0, 1], [0, 0, 2], [2, 1, 1], [0, 2, 2]], np.int32)
WITHIN = {
    "unique": (lambda x: tj.unique(x)[0], LINE),
    "unique of a table": (lambda x: tj.unique(tj.reshape(x, [-1]))[0], TABLE),
    "unique_with_counts": (lambda x: tj.unique_with_counts(x)[0] * 2.0, LINE),
    "where": (lambda x: tj.gather_nd(x, tj.where(x > 0)), TABLE),
    "boolean_mask": (lambda x: tj.boolean_mask(x, x > 0), LINE),
    "boolean_mask of a table": (lambda x: tj.boolean_mask(x, x > 0), TABLE),
    "boolean_mask of rows": (lambda x: tj.boolean_mask(x, tj.reduce_sum(x, 2) > 0), CUBE),
    "boolean_mask, axis=1": (lambda x: tj.boolean_mask(x, tj.reduce_sum(x, (0, 2)) > 4, axis=1), CUBE),
    "bincount": (lambda x: tj.math.bincount(tj.cast(x * 2.0 + 3.0, tj.int32), weights=x), TABLE),
    "segment_sum": (tj.math.segment_sum, LINE, SIX),
    "segment_mean of rows": (tj.math.segment_mean, TABLE, FOUR),
    "unsorted_segment_sum": (tj.math.unsorted_segment_sum, LINE, SIX, np.int32(5)),
    "unsorted_segment_mean of rows": (tj.math.unsorted_segment_mean, TABLE, FOUR, np.int32(5)),
    "unsorted_segment_sum by a table": (tj.math.unsorted_segment_sum, CUBE, EACH, np.int32(4)),
    "repeat": (tj.repeat, LINE, SIX),
    "repeat of rows": (lambda x, n: tj.repeat(x, n, axis=0), TABLE, FOUR),
    "repeat as often each": (tj.repeat, TABLE, np.int32(3)),
    "dynamic_partition": (lambda x, i: tj.dynamic_partition(x, i, 4)[2], LINE, SIX),
    "dynamic_partition by a table": (lambda x, i: tj.concat(tj.dynamic_partition(x, i, 3)[::-1], 0), CUBE, EACH),
    "dynamic_stitch": (lambda x, i: tj.dynamic_stitch([i, i + 1], [x, x * 2.0]), LINE, SIX),
    "dynamic_stitch by a table": (lambda x, i: tj.dynamic_stitch([i], [x]), CUBE, EACH),
    "one after another": (lambda x: tj.unique(tj.boolean_mask(x, x > -1.0))[0], TABLE),
}  # fmt: skip


def weighed(y):
    """A loss that asks for the size and the shape of what it is of."""
    weights = tj.reshape(tj.cast(tj.range(tj.size(y)) + 1, y.dtype), tj.shape(y))
    return tj.reduce_sum(tj.sin(y) * weights)


def slope_of(f):
    def slope(x, *rest):
        with tj.GradientTape() as tape:
            tape.watch(x)
            loss = weighed(f(x, *rest))
        return tape.gradient(loss, x)

    return slope


@pytest.mark.parametrize("name", WITHIN)
def test_sizes_found_among_open_ones(name):
    """Eager, traced for the sizes given, and traced once for all sizes: values, gradients inside and outside."""
    f, *arrays = WITHIN[name]
    args = [tj.constant(a) for a in arrays]
    again = [tj.constant(a[1:]) if a.ndim else tj.constant(a) for a in arrays]
    signature = [tj.TensorSpec([None] * a.ndim, a.dtype.name) for a in arrays]
    for g in (f, slope_of(f)):
        every = compiled(g, input_signature=signature)
        for xs in (args, again):
            want = g(*xs)
            for traced in (compiled(g), every):
                got = traced(*xs)
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
        assert every.experimental_get_tracing_count() == 1
    outside = slope_of(compiled(f, input_signature=signature))
    np.testing.assert_allclose(outside(*args), slope_of(f)(*args), rtol=1e-10, atol=1e-12)


def test_a_region_with_a_found_size_that_sees_no_axis_of_an_open_one():
    def f(x):
        flat = tj.reshape(x, [-1])
        total = tj.reduce_sum(x) * 0.0
        for i in tj.range(3):
            larger = tj.boolean_mask(flat, flat > tj.cast(i, tj.float64))
            total = total * 0.5 + weighed(larger)
        return total

    every = compiled(f, input_signature=[tj.TensorSpec([None, None], tj.float64)])
    for x in (TABLE, TABLE[1:], TABLE[:, :2]):
        np.testing.assert_allclose(every(tj.constant(x)), f(tj.constant(x)), rtol=1e-12)


def test_a_table_of_open_sizes_in_columns():
    every = compiled(tj.math.bincount, input_signature=[tj.TensorSpec([None, None], tj.int32)])
    for a in ([[1, 2, 3], [0, 1, 1]], [[7]], np.zeros((0, 4)), [[0, 0], [2, 2], [5, 1]]):
        a = np.asarray(a, np.int32)
        np.testing.assert_array_equal(every(tj.constant(a)), np.bincount(a.reshape(-1)))


def counted(x):
    values, _, counts = tj.unique_with_counts(x)
    total = tj.reduce_sum(x)
    if total > 0.0:
        total = tj.reduce_sum(tj.unique(x)[0] * tj.cast(tj.unique_with_counts(x)[2], tj.float64))
    return total + tj.reduce_sum(values * tj.cast(counts, tj.float64))


def put_together(x):
    """Sizes found in several places that are equal, and a gradient that needs those of the parts."""
    i = tj.cast(x > 0.6, tj.int32)
    parts = tj.dynamic_partition(tj.range(tj.size(x)), i, 2), tj.dynamic_partition(x, i, 2)
    return tj.dynamic_stitch(*parts)


@pytest.mark.parametrize("f", [counted, put_together])
def test_sizes_that_are_equal_wherever_they_are_found(f):
    x = tj.constant(LINE)
    for options in ({}, {"input_signature": [tj.TensorSpec([None], tj.float64)]}):
        traced = compiled(f, **options)
        np.testing.assert_allclose(traced(x), f(x), rtol=1e-12)
        np.testing.assert_allclose(slope_of(traced)(x), slope_of(f)(x), rtol=1e-12)
        np.testing.assert_allclose(compiled(slope_of(f), **options)(x), slope_of(f)(x), rtol=1e-12)


@pytest.mark.parametrize("limit", [0.5, 2.5, 9.0])
@pytest.mark.parametrize("name", ["reduce_logsumexp", "softmax", "log_softmax"])
def test_exponentials_of_as_many_elements_as_there_are(name, limit):
    f = {"reduce_logsumexp": tj.math.reduce_logsumexp, "softmax": tj.nn.softmax, "log_softmax": tj.nn.log_softmax}[name]

    def run(x, limit):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(tj.boolean_mask(x, x > limit))
        return y, tape.gradient(y, x)

    x = tj.constant([3.0, 1.0, 2.0, 4.0], tj.float64)
    for got, want in zip(tj.function(run)(x, tj.constant(limit, tj.float64)), run(x, limit), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


PRODUCTS = {
    "matmul": lambda x, y: x @ y,
    "matmul of pairs": lambda x, y: tj.expand_dims(x, 0) @ tj.expand_dims(y, 1),
    "matmul with one": lambda x, y: x @ tj.ones((4, 2), tj.float64),
    "einsum": lambda x, y: tj.einsum("bij,bjk->bik", x, y),
    "einsum that sums": lambda x, y: tj.einsum("bij,bjk->ik", x, y),
    "einsum of pairs": lambda x, y: tj.einsum("bij,cjk->bcik", x, y),
    "einsum of three": lambda x, y: tj.einsum("bij,bjk,b->ik", x, y, x[:, 0, 0]),
    "tensordot": lambda x, y: tj.tensordot(x, y, [[0, 2], [0, 1]]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_over_as_many_matrices_as_there_are(name):
    rng = np.random.default_rng(0)
    x, y = tj.constant(rng.normal(size=(5, 3, 4))), tj.constant(rng.normal(size=(5, 4, 2)))

    def run(keep):
        with tj.GradientTape() as tape:
            tape.watch([x, y])
            z = PRODUCTS[name](tj.boolean_mask(x, keep), tj.boolean_mask(y, keep))
        return z, *tape.gradient(z, [x, y], unconnected_gradients="zero")

    traced = tj.function(run, strict=True)
    for count in (3, 0, 1, 5):
        keep = tj.constant([i < count for i in range(5)])
        for got, want in zip(traced(keep), run(keep), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
