"""Tensors as sizes, bounds, counts and shifts in compiled functions: eager, native, interpreted, as Numba source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered, compiled, flat

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning, ShapeError

LINE = np.arange(7.0) * 0.5 - 1.0
TABLE = np.arange(12.0).reshape(4, 3) * 0.25 - 1.0
CUBE = np.arange(24.0).reshape(2, 3, 4) * 0.125
SMALL = (2, 0, 1)
ANY = (3, 0, -2, 7, 20, -20)

SLICES = {
    "x[:n]": (lambda x, n: x[:n], LINE, ANY),
    "x[n:]": (lambda x, n: x[n:], LINE, ANY),
    "x[-n:]": (lambda x, n: x[-n:], LINE, ANY),
    "x[:-n]": (lambda x, n: x[:-n], LINE, ANY),
    "x[n:n + 2]": (lambda x, n: x[n : n + 2], LINE, ANY),
    "x[1:n]": (lambda x, n: x[1:n], LINE, ANY),
    "x[n:-1]": (lambda x, n: x[n:-1], LINE, ANY),
    "x[n::2]": (lambda x, n: x[n::2], LINE, ANY),
    "x[:n:3]": (lambda x, n: x[:n:3], LINE, ANY),
    "x[n::-1]": (lambda x, n: x[n::-1], LINE, ANY),
    "x[:n:-2]": (lambda x, n: x[:n:-2], LINE, ANY),
    "x[n:, :n]": (lambda x, n: x[n:, :n], TABLE, ANY),
    "x[..., n:n + 1, None]": (lambda x, n: x[..., n : n + 1, None], CUBE, ANY),
    "x[n, :n]": (lambda x, n: x[n, :n], TABLE, (2, 0, -1)),
    "x[:n, [1, 0]]": (lambda x, n: x[:n, [1, 0]], TABLE, ANY),
    "x[:n][n - 1]": (lambda x, n: x[:n][n - 1], LINE, (2, 1, 7)),
    "x[:n] + x[:n]": (lambda x, n: x[:n] * x[::-1][:n], LINE, ANY),
    "turned by slices": (lambda x, n: tj.concat([x[n:], x[:n]], 0) * x, LINE, ANY),
    "a slice of a mask": (lambda x, n: x[x > 0.25][:n], LINE, ANY),
    "slice from": (lambda x, n: tj.slice(x, [n, 0], [2, -1]), TABLE, SMALL),
    "slice to": (lambda x, n: tj.slice(x, [0, 1], [n, 2]), TABLE, SMALL),
    "slice to the end": (lambda x, n: tj.slice(x, [n, 0], [-1, n]), TABLE, SMALL),
    "slice by tensors": (lambda x, n: tj.slice(x, [n, 0], tj.stack([n + 1, 2])), TABLE, (1, 0)),
    "strided_slice": (lambda x, n: tj.strided_slice(x, [0, n], tj.stack([n, 3]), [1, 2]), TABLE, ANY),
    "x[::n]": (lambda x, n: x[::n], LINE, (2, 1, -1, -3, 20)),
    "x[5:1:n]": (lambda x, n: x[5:1:n], LINE, (-2, 1, -1, -3, 20)),
    "x[n::n]": (lambda x, n: x[n::n], TABLE, (2, 1, -1, -3, 20)),
    "take one": (lambda x, n: tj.reduce_sum(x[:n], 0), TABLE, ANY),
}  # fmt: skip
MADE = {
    "zeros": (lambda x, n: tj.zeros([n, 2]), LINE, SMALL),
    "zeros(n)": (lambda x, n: tj.zeros(n, tj.int32), LINE, SMALL),
    "ones": (lambda x, n: tj.ones(tj.stack([2, n])) * x[0], LINE, SMALL),
    "ones of a tensor": (lambda x, n: tj.ones(tj.concat([tj.shape(x)[:-1], [n]], 0)), TABLE, SMALL),
    "fill": (lambda x, n: tj.fill([n, n + 1], x[1]), LINE, SMALL),
    "constant": (lambda x, n: tj.constant(2.5, shape=[n]), LINE, SMALL),
    "eye": (lambda x, n: tj.eye(n, n + 1, batch_shape=[2]), LINE, SMALL),
    "one_hot": (lambda x, n: tj.one_hot([0, 2, 1], n, axis=0, on_value=x[3], off_value=0.0), LINE, SMALL),
    "linspace": (lambda x, n: tj.linspace(x[0], x[3], n), LINE, (1, 2, 5)),
    "range": (lambda x, n: tj.range(n, 3 * n, 2) * 2, LINE, SMALL),
    "with the same size": (lambda x, n: tj.ones([n], x.dtype) + tj.cast(tj.range(n), x.dtype), LINE, SMALL),
    "random": (lambda x, n: tj.random.stateless_uniform([n, 3], [1, 2], dtype=tj.float64), LINE, SMALL),
    "random integers": (lambda x, n: tj.random.stateless_uniform([n], [1, 2], 0, 9, tj.int32), LINE, SMALL),
    "random bits": (lambda x, n: tj.random.stateless_normal(tj.stack([2, n]), [1, n]), LINE, SMALL),
    "sequence_mask": (lambda x, n: tj.sequence_mask([1, 3, 0], n), LINE, SMALL),
    "bincount": (lambda x, n: tj.math.bincount([0, 2, 2], minlength=n), LINE, (2, 5)),
    "bincount up to": (lambda x, n: tj.math.bincount([0, 2, 2], maxlength=n), LINE, (2, 5)),
    "histogram": (lambda x, n: tj.histogram_fixed_width(x, [-1.0, 2.0], n), LINE, (3, 1)),
}  # fmt: skip
SHAPED = {
    "broadcast_to": (lambda x, n: tj.broadcast_to(x, [n, 4, 3]), TABLE, SMALL),
    "broadcast_to a tensor": (lambda x, n: tj.broadcast_to(x, tj.concat([[n], tj.shape(x)], 0)), TABLE, SMALL),
    "reshape": (lambda x, n: tj.reshape(x, [n, 4]), TABLE, (3,)),
    "reshape with -1": (lambda x, n: tj.reshape(x, [n, -1]), TABLE, (3, 2)),
    "reshape, n = -1": (lambda x, n: tj.reshape(x, tj.stack([2, n])), TABLE, (6, -1)),
    "reshape to two": (lambda x, n: tj.reshape(x, [n, 12 // n]), TABLE, (3, 2)),
    "reshape of a slice": (lambda x, n: tj.reshape(x[:n], [-1, 1]), TABLE, SMALL),
    "tile": (lambda x, n: tj.tile(x, [n, 2]), TABLE, SMALL),
    "repeat": (lambda x, n: tj.repeat(x, n, axis=1), TABLE, SMALL),
    "pad": (lambda x, n: tj.pad(x, [[n, 1], [0, n]], constant_values=1.5), TABLE, SMALL),
    "pad, reflected": (lambda x, n: tj.pad(x, [[n, 1], [0, n]], "REFLECT"), TABLE, SMALL),
    "pad, mirrored": (lambda x, n: tj.pad(x, [[n, 1], [0, n]], "SYMMETRIC"), TABLE, SMALL),
    "roll": (lambda x, n: tj.roll(x, n, 0), TABLE, ANY),
    "roll two axes": (lambda x, n: tj.roll(x, [n, 1 - n], [0, 1]), TABLE, ANY),
    "split": (lambda x, n: tj.concat(tj.split(x, [n, 2, -1])[::-1], 0), LINE, SMALL),
    "split, all given": (lambda x, n: tj.split(x, [n, 7 - n])[1], LINE, SMALL),
    "band_part": (lambda x, n: tj.linalg.band_part(x, n, 1), TABLE, (1, 0, -1)),
    "top_k": (lambda x, n: tj.math.top_k(x, n)[0], TABLE, (1, 3, 0)),
    "scatter_nd": (lambda x, n: tj.scatter_nd([[0], [2]], x[:2], [n, 3]), TABLE, (3, 5)),
    "segments": (lambda x, n: tj.math.unsorted_segment_sum(x, [0, 2, 2, 0], n), TABLE, (3, 5)),
}  # fmt: skip
EVERY = SLICES | MADE | SHAPED


def number(n):
    return tj.constant(n, tj.int32)


def agree(got, want):
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6 if got.dtype == np.float32 else 1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_in_every_way(name):
    f, x, numbers = EVERY[name]
    lowered = Lowered(f, strict=True)
    for n in numbers:
        args = tj.constant(x), number(n)
        for _, got in lowered.results(*args):
            for a, b in zip(got, flat(f(*args)), strict=True):
                agree(a, b)
    assert lowered.function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", EVERY)
def test_among_open_sizes(name):
    f, x, numbers = EVERY[name]
    every = compiled(f, input_signature=[tj.TensorSpec([None] * x.ndim, tj.float64), tj.TensorSpec([], tj.int32)])
    for n in numbers:
        args = tj.constant(x), number(n)
        agree(every(*args).numpy(), f(*args).numpy())


def weighed(y):
    weights = tj.reshape(tj.cast(tj.range(tj.size(y)) + 1, y.dtype), tj.shape(y))
    return tj.reduce_sum(tj.sin(y) * weights)


def slope(f, x, n):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = weighed(f(x, n))
    return tape.gradient(y, x)


def differences(f, x, n):
    """The gradient by central differences."""
    h, out = 1e-6, np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        out[i] = float(weighed(f(tj.constant(up), n)) - weighed(f(tj.constant(down), n))) / (2.0 * h)
    return out


@pytest.mark.parametrize("name", {**SLICES, **SHAPED})
def test_gradients(name):
    f, x, numbers = EVERY[name]
    traced, inside = compiled(f), compiled(lambda x, n: slope(f, x, n))
    for n in numbers[:3]:
        args = tj.constant(x), number(n)
        want = slope(f, *args)
        np.testing.assert_allclose(want, differences(f, x, number(n)), atol=1e-6)
        agree(inside(*args).numpy(), want.numpy())
        agree(slope(traced, *args).numpy(), want.numpy())


@pytest.mark.parametrize("name", ["x[:n]", "x[n:n + 2]", "x[n::-1]", "roll", "pad", "reshape with -1", "top_k"])
def test_forward_mode(name):
    f, x, numbers = EVERY[name]
    for n in numbers[:2]:
        x = tj.constant(x)
        want = tj.autodiff.jvp(lambda x, n=n: f(x, number(n)), [x], [tj.cos(x)])[1]
        traced = compiled(f)
        got = tj.autodiff.jvp(lambda x, n=n, traced=traced: traced(x, number(n)), [x], [tj.cos(x)])[1]
        agree(got.numpy(), want.numpy())


def in_a_loop(x, n):
    total = tj.reduce_sum(x) * 0.0
    for i in tj.range(n):
        total = total * 0.5 + weighed(x[i : i + 2]) + tj.reduce_sum(tj.ones([i, 2], x.dtype) * x[0])
    return total


def in_a_branch(x, n):
    if n > 2:
        y = weighed(x[:n])
    else:
        y = weighed(tj.roll(x, n, 0)) + tj.reduce_sum(tj.pad(x, [[0, 2 - n]]))
    return y


@pytest.mark.parametrize("f", [in_a_loop, in_a_branch])
def test_in_regions(f):
    lowered, inside = Lowered(f, strict=True), compiled(lambda x, n: slope(f, x, n))
    for n in (3, 1, 5):
        args = tj.constant(LINE), number(n)
        for _, (got,) in lowered.results(*args):
            agree(got, f(*args).numpy())
        agree(inside(*args).numpy(), slope(f, *args).numpy())
        agree(slope(lowered.function, *args).numpy(), slope(f, *args).numpy())


def test_batches_by_number():
    """What training does: the slices of a data set, one after the other, the last of which is shorter."""

    @tj.function(strict=True)
    def step(i):
        batch = data[i * 8 : (i + 1) * 8]
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean((batch @ w) ** 2)
        w.assign_sub(0.1 * tape.gradient(loss, w))
        return loss

    data = tj.constant(np.random.default_rng(0).normal(size=(20, 3)))
    w = tj.Variable(np.ones((3, 1)))
    losses = [float(step(number(i))) for i in (0, 1, 2)]
    got = w.numpy()
    w.assign(np.ones((3, 1)))
    assert losses == pytest.approx([float(step.python_function(number(i))) for i in (0, 1, 2)])
    np.testing.assert_allclose(got, w)
    assert step.experimental_get_tracing_count() == 1


def test_variables_assigned_in_part():
    def f(v, n):
        v[:n].assign(tj.cast(tj.range(n), v.dtype))
        v[n:].assign_add(1.0)
        v[n : n + 2].assign(v[n : n + 2] * 3.0)
        v[n - 1 :: -2].assign(-1.0)
        return v[n:]

    for n in (3, 1, 5):
        a, b = tj.Variable(LINE), tj.Variable(LINE)
        agree(tj.function(f, strict=True)(a, number(n)).numpy(), f(b, number(n)).numpy())
        np.testing.assert_array_equal(a, b)


def test_sums_of_found_sizes_become_known_ones():
    f = Lowered(lambda x: tj.reshape(tj.concat([x[x > 0.0], x[x <= 0.0]], 0), x.shape), strict=True)
    for _, (got,) in f.results(tj.constant(TABLE)):
        agree(got, f.function.python_function(tj.constant(TABLE)).numpy())
    f = compiled(lambda x, y: x[x > 0.0] * y)
    agree(f(tj.constant(LINE), tj.constant(LINE[:4])).numpy(), LINE[3:] * LINE[:4])


@pytest.mark.parametrize(
    ("f", "n", "said"),
    [
        (lambda x, n: tj.zeros([n, 2]), -1, "tj.zeros: shape is negative: -1"),
        (lambda x, n: tj.ones(tj.stack([2, n])), -3, "negative: -3"),
        (lambda x, n: tj.reshape(x, [n, 2]), 3, "7 elements|12 elements|cannot reshape|do not fit"),
        (lambda x, n: tj.reshape(x, [n, -1]), 5, "cannot work out the -1 in a shape: 12 elements for others of 5"),
        (lambda x, n: tj.tile(x, [n, 1]), -1, "multiples is negative"),
        (lambda x, n: tj.pad(x, [[n, 0], [0, 0]]), -1, "padding is negative"),
        (lambda x, n: tj.pad(x, [[n, 0], [0, 0]], "REFLECT"), 4, "padding is above 3: 4"),
        (lambda x, n: tj.slice(x, [n, 0], [2, 3]), 3, "leaves axis 0 of size 4"),
        (lambda x, n: tj.slice(x, [0, 0], [n, 3]), 5, "above 4: 5"),
        (lambda x, n: tj.split(x, [n, 1, -1]), 4, "was found|above"),
        (lambda x, n: tj.math.top_k(x, n)[0], 4, "k is above 3: 4"),
        (lambda x, n: tj.linspace(0.0, 1.0, n), 0, "num is below 1: 0"),
        (lambda x, n: tj.repeat(x, n, axis=0), -1, "repeats is negative"),
    ],
)  # fmt: skip
def test_sizes_that_are_refused(f, n, said):
    traced = tj.function(f, strict=True)
    with pytest.raises((ShapeError, ArgumentError), match=said):
        traced(tj.constant(TABLE), number(n))


def test_sizes_that_no_memory_has():
    with pytest.raises((MemoryError, ShapeError)):
        tj.function(lambda n: tj.zeros([n]))(tj.constant(2**50))


def test_what_stays_python():
    """An axis has to be known; so has the length of a window."""
    for f in (lambda x, n: tj.reduce_sum(x, axis=n), lambda x, n: tj.signal.hann_window(n)):
        with pytest.warns(ConversionWarning, match="runs as plain Python"):
            tj.function(f)(tj.constant(TABLE), number(1))


bounds = st.one_of(st.none(), st.integers(-9, 9))


@settings(max_examples=60, deadline=None)
@given(bounds, bounds, st.sampled_from([None, 1, 2, 3, -1, -2]), st.tuples(st.booleans(), st.booleans()))
def test_any_bounds(start, stop, step, late):
    traced = _sliced((start is not None and late[0]), (stop is not None and late[1]), start, stop, step)
    x = tj.constant(LINE)
    agree(traced(x, number(start or 0), number(stop or 0)).numpy(), LINE[start:stop:step])


_made = {}


def _sliced(first, last, start, stop, step):
    key = first, last, None if first else start, None if last else stop, step, start is None, stop is None
    if key not in _made:
        _made[key] = compiled(lambda x, a, b: x[(a if first else start) : (b if last else stop) : step] * 1.0)
    return _made[key]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=2), st.integers(-9, 9))
def test_any_shapes(shape, shift):
    got = _shaped(tj.constant(shape, tj.int32), number(shift))
    x = np.arange(float(np.prod(shape))).reshape(shape)
    agree(got[0].numpy(), np.roll(x, shift, 0))
    agree(got[1].numpy(), x[:shift].sum(0))


@tj.function
def _shaped(shape, shift):
    x = tj.reshape(tj.cast(tj.range(tj.reduce_prod(shape)), tj.float64), shape)
    return tj.roll(x, shift, 0), tj.reduce_sum(x[:shift], 0)


def test_powers_by_number():
    x = tj.constant([[0.5, 0.1], [0.2, 0.3]], tj.float64)
    f = tj.linalg.matrix_power
    lowered, inside = Lowered(f, strict=True), compiled(lambda x, n: slope(f, x, n))
    for n in (3, -2, 1, 6, 0):
        for _, (got,) in lowered.results(x, number(n)):
            np.testing.assert_allclose(got, np.linalg.matrix_power(x.numpy(), n), rtol=1e-12)
        if n:
            np.testing.assert_allclose(inside(x, number(n)), slope(f, x, number(n)), rtol=1e-12)


def test_scans_over_slices():
    f = Lowered(lambda x, n: tj.scan(lambda a, b: a * 0.5 + b, x[:n]), strict=True)
    for n in (3, 1):
        for _, (got,) in f.results(tj.constant(TABLE), number(n)):
            agree(got, f.function.python_function(tj.constant(TABLE), number(n)).numpy())


def test_rows_of_one_size_at_once():
    """All rows of a batch may have a slice of the same size, each from another place; other sizes are refused."""
    f = tj.function(lambda x, n: tj.vectorized_map(lambda a: tj.reduce_sum(tj.slice(a[0], [a[1]], [2])), (x, n)))
    np.testing.assert_allclose(f(tj.constant(TABLE), tj.constant([0, 1, 1, 0])), [-1.75, 0.25, 1.75, 2.75])
    g = tj.function(lambda x, n: tj.vectorized_map(lambda a: tj.reduce_sum(a[0][: a[1]]), (x, n)))
    np.testing.assert_allclose(g(tj.constant(TABLE), tj.constant([2] * 4)), TABLE[:, :2].sum(1))
    with pytest.raises(tj.errors.ControlFlowError, match="parts of different sizes"):
        g(tj.constant(TABLE), tj.constant([0, 1, 1, 0]))


@pytest.mark.parametrize("reduce", [tj.reduce_max, tj.reduce_min, tj.argmax, tj.argmin], ids=lambda f: f.__name__)
def test_extremes_of_no_elements(reduce):
    """They are errors as eagerly, also where only the program finds out that there are none."""
    f = tj.function(lambda x, n: reduce(x[:n], 0))
    for n in (2, 1, 7):
        np.testing.assert_array_equal(f(TABLE, tj.constant(n)), reduce(TABLE[:n], 0))
    with pytest.raises(ShapeError, match="no elements along axis 0"):
        f(TABLE, tj.constant(0))
    assert f(TABLE, tj.constant(3)).shape == (3,)
