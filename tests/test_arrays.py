"""Segments, bins, searches and parts whose sizes depend on values: eagerly, compiled, with derivatives, and refused."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tracejit.ir.op import OPS
from tracejit.lower.program import HostUnit

RNG = np.random.default_rng(5)
SEGMENTS = ["sum", "mean", "prod", "max", "min"]


def same(f, *args, traces=3):
    """Compiled as eager, for every list of arguments, in few traces."""
    traced = tj.function(f, strict=True)
    for xs in args:
        xs = [tj.constant(x) for x in xs]
        got, want = traced(*xs), f(*xs)
        for a, b in zip(*[y if isinstance(y, (list, tuple)) else [y] for y in (got, want)], strict=True):
            assert a.dtype is b.dtype
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    assert traced.experimental_get_tracing_count() <= traces


def native(f, *args):
    traced = tj.function(f)
    traced(*args)
    return not any(type(u) is HostUnit for u in traced.concrete_functions[-1].executable.program.units)


# --- sizes that depend on values --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SEGMENTS)
def test_the_last_number_says_how_many_segments_there_are(name):
    f = getattr(tj.math, f"segment_{name}")
    lists = [np.sort(RNG.integers(0, n, 2 * n)) for n in (3, 5, 9, 4)]
    same(f, *[(RNG.normal(size=(len(i), 2)), i) for i in lists])
    assert f(np.ones((3, 2)), [0, 0, 4]).shape == (5, 2)
    assert f(np.ones((0, 2)), np.zeros(0, np.int32)).shape == (0, 2)


@pytest.mark.parametrize("name", [*SEGMENTS, "sqrt_n"])
def test_the_number_of_segments_may_be_a_tensor(name):
    f = getattr(tj.math, f"unsorted_segment_{name}")
    x, i = RNG.normal(size=(6, 3)), RNG.integers(-1, 4, 6)
    same(lambda n: f(x, i, n), *[(np.int32(n),) for n in (4, 7, 5)])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int16])
def test_numbers_of_segments_of_any_integer_type(dtype):
    i = np.array([1, 0, 1], dtype)
    for name in (*SEGMENTS, "sqrt_n"):
        assert getattr(tj.math, f"unsorted_segment_{name}")([1.0, 2.0, 3.0], i, 2).shape == (2,)
    assert tj.math.segment_sum([1.0, 2.0, 3.0], np.sort(i)).numpy().tolist() == [1.0, 5.0]


def test_counts_as_far_as_the_largest_number():
    same(tj.math.bincount, *[(RNG.integers(0, n, 9),) for n in (3, 12, 5, 40)])
    same(lambda x: tj.math.bincount(x, minlength=4, maxlength=6), *[(RNG.integers(0, n, 9),) for n in (3, 12, 5, 40)])
    same(lambda x: tj.math.bincount(x, axis=-1, binary_output=True), *[(RNG.integers(0, n, (2, 9)),) for n in (3, 12)])
    same(tj.math.confusion_matrix, *[(RNG.integers(0, n, 9), RNG.integers(0, n, 9)) for n in (3, 12, 5)])
    assert tj.math.bincount(np.zeros(0, np.int32)).shape == (0,)
    assert tj.math.bincount(np.zeros(0, np.int32), minlength=2).numpy().tolist() == [0, 0]
    assert tj.math.bincount([1, 1, 3], [0.5, 1.0, 2.0]).numpy().tolist() == [0.0, 1.5, 0.0, 2.0]


def test_unique():
    same(tj.unique_with_counts, *[(RNG.integers(0, k, n),) for k, n in ((3, 9), (9, 9), (2, 1), (5, 60))])
    y, idx, count = tj.unique_with_counts([7, 3, 7, 7, 1, 3])
    assert [t.numpy().tolist() for t in (y, idx, count)] == [[7, 3, 1], [0, 1, 0, 0, 2, 1], [3, 2, 1]]
    y, idx = tj.unique([0.0, -0.0, np.nan, np.nan], out_idx=tj.int64)
    assert (y.shape, idx.dtype, idx.numpy().tolist()) == ((3,), tj.int64, [0, 0, 1, 2])
    f = tj.function(lambda x: tj.unique(x)[1])
    assert f(tj.constant([0.0, -0.0, np.nan, np.nan])).numpy().tolist() == [0, 0, 1, 2]


def test_parts_and_their_inverse():
    def there_and_back(x, p):
        parts = tj.dynamic_partition(x, p, 3)
        places = tj.dynamic_partition(tj.range(x.shape[0]), p, 3)
        return [*parts, tj.dynamic_stitch(places, parts)]

    same(there_and_back, *[(RNG.normal(size=(n, 2)), RNG.integers(0, 3, n)) for n in (5, 9, 1, 30)])
    x = tj.constant(RNG.normal(size=(5, 2)))
    np.testing.assert_array_equal(there_and_back(x, [2, 0, 0, 2, 1])[-1], x)


def test_repeats_and_masks_as_tensors_say():
    same(lambda x, n: tj.repeat(x, n, axis=0), *[(RNG.normal(size=(k, 2)), RNG.integers(0, 4, k)) for k in (5, 9, 3)])
    same(lambda x, n: tj.repeat(x, n), *[(np.arange(3.0), np.int32(n)) for n in (2, 5, 1)])
    same(tj.sequence_mask, *[(RNG.integers(0, n, 5),) for n in (3, 9, 4)])
    same(lambda n, m: tj.sequence_mask(n, m), *[(RNG.integers(0, 5, 5), np.int32(m)) for m in (3, 9, 4)])


def gradient(f, x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
        loss = tj.reduce_sum(tj.sin(y) * tj.cast(tj.range(1, tj.size(y) + 1), y.dtype))
    return tape.gradient(loss, x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tj.unique(x)[0] ** 2,
        lambda x: tj.dynamic_partition(x, tj.cast(x > 0.3, tj.int32), 2)[1],
        lambda x: tj.repeat(x, tj.cast(x > 0.3, tj.int32) + 1, axis=0),
        lambda x: tj.math.segment_max(x, tj.cast(tj.sort(x) > 0.3, tj.int32)),
        lambda x: tj.math.segment_prod(x, tj.cast(tj.sort(x) > 0.3, tj.int32)),
        lambda x: tj.dynamic_stitch([tj.argsort(x), [1]], [x, x[:1] * 2.0]),
    ],
)
def test_gradients_where_sizes_depend_on_values(f):
    for x in ([0.5, -0.25, 1.5, 0.75], [0.1, 0.9, -2.0, 0.2]):
        x = tj.constant(x, tj.float64)
        want = gradient(f, x)
        np.testing.assert_allclose(tj.function(lambda x: gradient(f, x))(x), want, rtol=1e-12)
        np.testing.assert_allclose(gradient(tj.function(f), x), want, rtol=1e-12)
        for k in range(4):
            ends = []
            for h in (1e-6, -1e-6):
                y = f(x + h * tj.one_hot(k, 4, dtype=tj.float64))
                ends.append(float(tj.reduce_sum(tj.sin(y) * tj.cast(tj.range(1, tj.size(y) + 1), y.dtype))))
            assert want[k].numpy() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


# --- what is equal, what is missing -----------------------------------------------------------------------------------
def test_equal_extremes_share_the_gradient():
    x = tj.constant([1.0, 1.0, 2.0, 2.0, 2.0])
    ids = [0, 0, 1, 1, 1]
    for f in (lambda x: tj.math.unsorted_segment_max(x, ids, 2), lambda x: tj.math.segment_min(x, ids)):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(f(x))
        np.testing.assert_allclose(tape.gradient(y, x), [0.5, 0.5, 1 / 3, 1 / 3, 1 / 3])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.tensor_scatter_nd_max(x, [[0], [2]], [1.0, 5.0]))
    np.testing.assert_allclose(tape.gradient(y, x), [0.5, 1.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", [tj.float32, tj.float64, tj.float16, tj.bfloat16, tj.int32, tj.uint8])
def test_segments_that_nothing_has(dtype):
    x = tj.constant([2, 3], dtype)
    high = tj.math.unsorted_segment_max(x, [0, 0], 2).numpy()[1]
    low = tj.math.unsorted_segment_min(x, [0, 0], 2).numpy()[1]
    assert (high, low) == (dtype.min, dtype.max)
    for name in ("max", "min", "sum"):
        assert getattr(tj.math, f"segment_{name}")(x, [0, 2]).numpy()[1] == 0
    assert tj.math.segment_prod(x, [0, 2]).numpy()[1] == 1


def test_nan_is_an_extreme():
    x = [1.0, np.nan, 2.0]
    for f in (tj.math.unsorted_segment_max, tj.math.unsorted_segment_min):
        traced = tj.function(lambda x, f=f: f(x, [0, 0, 1], 2))
        for y in (f(x, [0, 0, 1], 2), traced(tj.constant(x))):
            np.testing.assert_array_equal(y, [np.nan, 2.0])


def test_factors_that_are_zero():
    x = tj.constant([0.0, 3.0, 0.0, 0.0, 5.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.math.unsorted_segment_prod(x, [0, 0, 1, 1, 1], 2)
    np.testing.assert_allclose(tape.gradient(y, x), [3.0, 0.0, 0.0, 0.0, 0.0])


def test_logarithms_of_running_sums_of_infinities():
    inf = np.inf
    x = tj.constant([-inf, -inf, 1.0, inf, 2.0])
    for f in (tj.math.cumulative_logsumexp, tj.function(tj.math.cumulative_logsumexp)):
        np.testing.assert_allclose(f(x), [-inf, -inf, 1.0, inf, inf])
        np.testing.assert_allclose(f(tj.constant([-1000.0, 1000.0, 0.0])), [-1000.0, 1000.0, 1000.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.math.cumulative_logsumexp(x)[2]
    np.testing.assert_allclose(tape.gradient(y, x), [0.0, 0.0, 1.0, 0.0, 0.0])


# --- searching --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, np.float32, np.float64, tj.bfloat16.np])
@pytest.mark.parametrize("side", ["left", "right"])
def test_search_is_native_and_puts_nan_last(dtype, side):
    s, v = np.sort(RNG.integers(0, 50, 40).astype(float)), RNG.integers(0, 50, 100).astype(float)
    if np.dtype(dtype).kind not in "iu":
        s[-3:], v[:5] = np.nan, np.nan
    s, v = s.astype(dtype), v.astype(dtype)
    f = tj.function(lambda s, v: tj.searchsorted(s, v, side))
    want = np.searchsorted(s.astype(float), v.astype(float), side)
    np.testing.assert_array_equal(f(s, v), want)
    np.testing.assert_array_equal(tj.searchsorted(s, v, side), want)
    assert native(lambda s, v: tj.searchsorted(s, v, side), s, v)


def test_search_in_rows_that_lie_apart():
    s, v = np.sort(RNG.normal(size=(7, 6)), 0), RNG.normal(size=(5, 6))
    f = tj.function(lambda s, v: tj.searchsorted(tj.transpose(s), tj.transpose(v)))
    want = np.stack([np.searchsorted(a, b) for a, b in zip(s.T, v.T)])
    np.testing.assert_array_equal(f(s, v), want)
    g = tj.function(lambda v: tj.searchsorted(tj.fill((9,), 1.0), v, "right"))
    np.testing.assert_array_equal(g(tj.constant([0.0, 1.0, 2.0])), [0, 9, 9])


def test_combined_and_searched_in_many_rows():
    """`vectorized_map` by rule equals the rows one by one."""
    i = RNG.integers(0, 3, (5, 4))
    x, v = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 4))
    for name in ("mul_at", "max_at", "min_at"):
        op = OPS[name]
        got = tj.vectorized_map(lambda t, op=op: op(t[0], t[1], t[2], axis=0), (x, i, v))
        want = [op(*map(tj.constant, row), axis=0).numpy() for row in zip(x, i, v)]
        np.testing.assert_allclose(got, want)
    s = np.sort(RNG.normal(size=(5, 9)))
    both = tj.vectorized_map(lambda t: tj.searchsorted(t[0], t[1]), (s, v))
    np.testing.assert_array_equal(both, [np.searchsorted(a, b) for a, b in zip(s, v)])
    shared = tj.vectorized_map(lambda row: tj.searchsorted(s[0], row), v)
    np.testing.assert_array_equal(shared, [np.searchsorted(s[0], b) for b in v])
    one = tj.vectorized_map(lambda row: tj.searchsorted(row, v[0]), s)
    np.testing.assert_array_equal(one, [np.searchsorted(a, v[0]) for a in s])


# --- shapes -----------------------------------------------------------------------------------------------------------
def test_shapes_that_are_wanted():
    x = tj.ones((2, 3))
    assert tj.ensure_shape(x, None).shape == tj.ensure_shape(x, [2, None]).shape == (2, 3)
    for shape in ([2], [3, 3], [2, 3, 1]):
        with pytest.raises(ShapeError, match="is wanted"):
            tj.ensure_shape(x, shape)
    f = tj.function(lambda x: tj.ensure_shape(x[x > 0], [2]) + tj.constant([1.0, 2.0]))
    np.testing.assert_array_equal(f(tj.constant([1.0, -1.0, 3.0])), [2.0, 5.0])
    with pytest.raises(ArgumentError, match="axis 0 has 3 elements, not 2"):
        f(tj.constant([1.0, 1.0, 3.0]))


def test_shapes_computed_by_the_program():
    same(tj.broadcast_dynamic_shape, ([1, 3], [4, 2, 1]), ([5, 1], [4, 5, 7]))
    assert tj.broadcast_dynamic_shape([2, 1], [3]).numpy().tolist() == [2, 3]
    with pytest.raises(ShapeError):
        tj.broadcast_dynamic_shape([2], [3])
    with pytest.raises(ArgumentError, match="do not broadcast"):
        tj.function(tj.broadcast_dynamic_shape)(tj.constant([2]), tj.constant([3]))
    paddings, crops = tj.required_space_to_batch_paddings([5, 7], [2, 3], [[1, 0], [2, 1]])
    assert paddings.numpy().tolist() == [[1, 0], [2, 3]]
    assert crops.numpy().tolist() == [[0, 0], [0, 2]]
    assert [s.numpy().tolist() for s in tj.shape_n([tj.ones(2), tj.ones((3, 0))])] == [[2], [3, 0]]


def test_functions_of_numpy():
    x, i = tj.constant([3.0, np.nan, 1.0, 3.0, np.nan]), tj.constant([1, 4, 1])
    for run in (lambda f, *a: f(*a), lambda f, *a: tj.function(lambda *b: f(*b))(*a)):
        np.testing.assert_array_equal(run(np.unique, x), [1.0, 3.0, np.nan])
        np.testing.assert_array_equal(run(np.bincount, i), [0, 2, 0, 0, 1])
        np.testing.assert_array_equal(run(np.searchsorted, tj.constant([1.0, 2.0]), x), [2, 2, 0, 2, 2])
    assert isinstance(np.bincount(i, minlength=7), tj.Tensor)
    assert np.unique(tj.constant([[1, 2], [2, 1]])).numpy().tolist() == [1, 2]


def test_known_positions_on_an_axis_of_open_size():
    at = tj.constant([0, 2])
    f = tj.function(lambda x: tj.gather(x, at), input_signature=[tj.TensorSpec([None], tj.float32)])
    assert f(tj.constant([1.0, 2.0, 3.0])).numpy().tolist() == [1.0, 3.0]
    with pytest.raises(OutOfRangeError):
        f(tj.constant([1.0, 2.0]))


# --- sequences --------------------------------------------------------------------------------------------------------
def test_the_loss_of_sequences_at_its_edges():
    x = tj.constant(RNG.normal(size=(3, 4, 5)), tj.float32)  # times, batch, classes
    labels = [[1, 1], [1, 1], [2, 3], [4, 0]]
    for f in (tj.nn.ctc_loss, tj.function(tj.nn.ctc_loss)):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(tj.constant(labels), x, tj.constant([2, 2, 2, 1]), tj.constant([3, 2, 2, 1]))
        g = tape.gradient(y, x).numpy()
        assert np.isinf(y.numpy()).tolist() == [False, True, False, False]  # "11" needs a blank between
        assert np.isfinite(g).all()
        assert not g[:, 1].any()
        assert not g[2:, 2].any()
        assert not g[1:, 3].any()
        np.testing.assert_allclose(g.sum(-1), 0, atol=1e-6)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(tj.constant(labels), x, tj.constant([2, 1, 0, 0]), tj.constant([0, 0, 0, 1]))
        assert y.numpy()[:3].tolist() == [np.inf, np.inf, 0]  # no times tell no labels
        g = tape.gradient(y, x).numpy()
        assert np.isfinite(g).all()
        assert g[0, 3].any()
        assert not g[:, :3].any()
    assert tj.nn.ctc_loss([[1]], x[:, :1], [1], [3]).shape == (1,)
    with pytest.raises(ShapeError):
        tj.nn.ctc_loss([[1]], x, [1], [3])
    with pytest.raises(DTypeError):
        tj.nn.ctc_loss([1], x[:, :1], [1], [3])


def test_labels_that_repeat():
    same(tj.nn.collapse_repeated, *[(RNG.integers(0, 3, (2, n)), RNG.integers(0, n, 2)) for n in (5, 9, 6)])
    rows, lengths = tj.nn.collapse_repeated([[1, 1, 2, 2, 3], [4, 4, 4, 4, 0]], [3, 5])
    assert (rows.numpy().tolist(), lengths.numpy().tolist()) == ([[1, 2], [4, 0]], [2, 2])


# --- what is refused --------------------------------------------------------------------------------------------------
REFUSED = {
    "numbers that decrease": (lambda i: tj.math.segment_sum([1.0, 2.0, 3.0], i), [0, 2, 1], ArgumentError, "decrease"),
    "negative first numbers": (lambda i: tj.math.segment_sum([1.0, 2.0], i), [-1, 0], ArgumentError, "negative"),
    "segments beyond": (lambda i: tj.math.unsorted_segment_max([1.0, 2.0], i, 2), [0, 2], OutOfRangeError, "segment 2"),
    "negative counts": (lambda i: tj.math.bincount(i), [0, -2], ArgumentError, "negative"),
    "classes beyond": (lambda i: tj.math.confusion_matrix(i, [0, 1], 2), [0, 2], OutOfRangeError, "class 2"),
    "negative classes": (lambda i: tj.math.confusion_matrix(i, [0, 1], 2), [0, -1], OutOfRangeError, "class -1"),
    "partitions beyond": (lambda i: tj.dynamic_partition([1.0, 2.0], i, 2), [0, 2], OutOfRangeError, "partition 2"),
    "negative indices": (lambda i: tj.dynamic_stitch([i], [[1.0, 2.0]]), [0, -1], OutOfRangeError, "negative"),
    "lengths beyond": (lambda i: tj.reverse_sequence(tj.ones((2, 3)), i, 1), [1, 4], OutOfRangeError, "length 4"),
    "no permutation": (lambda i: tj.math.invert_permutation(i), [0, 0], ArgumentError, "once"),
    "coordinates beyond": (lambda i: tj.unravel_index(i, [2, 2]), [0, 4], OutOfRangeError, "outside an array"),
    "updates beyond": (
        lambda i: tj.tensor_scatter_nd_max([1.0, 2.0], i[:, None], [1.0, 2.0]), [0, 2], OutOfRangeError, "index 2",
    ),
    "an empty range": (lambda r: tj.histogram_fixed_width([1.0], r), [2, 2], ArgumentError, "low < high"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_eagerly_and_when_the_program_runs(name):
    f, bad, error, match = REFUSED[name]
    bad = tj.constant(bad)
    for g in (f, tj.function(f)):
        with pytest.raises(error, match=match):
            g(bad)


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda: tj.math.segment_sum([[1.0]], [[0]]), ShapeError),
        (lambda: tj.math.segment_sum([1.0, 2.0], [0]), ShapeError),
        (lambda: tj.math.unsorted_segment_min([1.0, 2.0], [0.0, 1.0], 2), ShapeError),
        (lambda: tj.math.bincount([1.0]), DTypeError),
        (lambda: tj.math.bincount([1], [1.0, 2.0]), ShapeError),
        (lambda: tj.math.bincount([1], [1.0], binary_output=True), ArgumentError),
        (lambda: tj.searchsorted([1.0], [1.0], side="middle"), ArgumentError),
        (lambda: tj.searchsorted(1.0, [1.0]), ShapeError),
        (lambda: tj.searchsorted([[1.0]], [[1.0], [2.0]]), ShapeError),
        (lambda: tj.searchsorted([1.0], [1.0], out_type=tj.float32), DTypeError),
        (lambda: tj.unique([[1]]), ShapeError),
        (lambda: tj.math.invert_permutation([0.0]), DTypeError),
        (lambda: tj.dynamic_partition([1.0], [0], 0), ArgumentError),
        (lambda: tj.dynamic_stitch([[0]], []), ArgumentError),
        (lambda: tj.dynamic_stitch([[0, 1]], [[1.0]]), ShapeError),
        (lambda: tj.reverse_sequence(tj.ones((2, 2)), [1], 1), ShapeError),
        (lambda: tj.reverse_sequence(tj.ones((2, 2)), [1, 1], 0, 0), ArgumentError),
        (lambda: tj.tensor_scatter_nd_min([1.0], [[0]], [[1.0, 2.0]]), ShapeError),
        (lambda: tj.nn.group_normalization(tj.ones((2, 3)), 2), ShapeError),
        (lambda: tj.nn.dilation2d(tj.ones((1, 3, 3, 2)), tj.ones((2, 2, 1)), 1, "SAME", "NHWC", 1), ShapeError),
        (lambda: tj.math.scalar_mul(tj.ones(2), tj.ones(2)), ShapeError),
    ],
)
def test_refused_at_once(f, error):
    with pytest.raises(error):
        f()


# --- windows and channels ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, "VALID"), (2, 1, "SAME"), (1, 2, "SAME")])
def test_dilation_and_erosion_are_dual(stride, dilation, padding):
    x, f = tj.constant(RNG.normal(size=(2, 7, 6, 3))), tj.constant(RNG.normal(size=(3, 2, 3)))
    how = ([1, stride, stride, 1], padding, "NHWC", [1, dilation, dilation, 1])
    np.testing.assert_array_equal(tj.nn.erosion2d(x, f, *how), -tj.nn.dilation2d(-x, tj.reverse(f, [0, 1]), *how))
    flat = tj.zeros((3, 2, 3), tj.float64)
    if dilation == 1:
        np.testing.assert_array_equal(tj.nn.dilation2d(x, flat, *how), tj.nn.max_pool2d(x, [3, 2], stride, padding))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_where_the_largest_of_a_window_stands(padding):
    x = tj.constant(RNG.normal(size=(2, 5, 6, 3)))
    y, at = tj.nn.max_pool_with_argmax(x, 3, 2, padding, include_batch_in_index=True)
    np.testing.assert_array_equal(y, tj.nn.max_pool2d(x, 3, 2, padding))
    np.testing.assert_array_equal(tj.gather(tj.reshape(x, (-1,)), at), y)
    same(lambda x: tj.nn.max_pool_with_argmax(x, 2, 2, padding, output_dtype=tj.int32), (x,))


def test_groups_of_channels():
    x = tj.constant(RNG.normal(size=(2, 4, 5, 6)))
    y = tj.nn.group_normalization(x, 1)
    np.testing.assert_allclose(tj.reduce_mean(y, [1, 2, 3]), [0, 0], atol=1e-12)
    first = tj.nn.group_normalization(tj.transpose(x, [0, 3, 1, 2]), 3, tj.range(6), 0.5, axis=1)
    last = tj.nn.group_normalization(x, 3, tj.range(6), 0.5)
    np.testing.assert_allclose(tj.transpose(first, [0, 2, 3, 1]), last, rtol=1e-12)


# --- many rows --------------------------------------------------------------------------------------------------------
ROWS = np.array([[1.0, -1.0, 2.0, 0.5], [3.0, 4.0, -5.0, 1.0]])


@pytest.mark.parametrize(
    "f",
    [
        lambda r: tj.boolean_mask(r, r > 0),
        lambda r: tj.reduce_sum(tj.boolean_mask(r, r > 0)),
        lambda r: tj.where(r > 0),
        lambda r: tj.unique(tj.sign(r))[0],
        lambda r: tj.dynamic_partition(r, tj.cast(r > 0, tj.int32), 2)[0],
        lambda r: tj.repeat(r, tj.cast(r > 0, tj.int32), axis=0),
        lambda r: tj.math.segment_sum(r, tj.cast(tj.sort(r) > 0, tj.int32)),
        lambda r: tj.math.bincount(tj.cast(tj.sign(r) + 1, tj.int32)),
        lambda r: r * tj.cast(tj.size(tj.range(tj.reduce_sum(tj.cast(r > 0, tj.int32)))), tj.float64),
        lambda r: tj.nn.ctc_loss([[1]], tj.reshape(r, (2, 1, 2)), [1], [2]),
    ],
)
def test_rows_that_have_parts_of_one_size(f):
    want = [f(tj.constant(r)).numpy() for r in ROWS]
    x = tj.constant(ROWS)
    for run in (lambda x: tj.vectorized_map(f, x, False), tj.function(lambda x: tj.vectorized_map(f, x, False))):
        np.testing.assert_allclose(run(x), want, rtol=1e-12)


def test_rows_that_have_parts_of_different_sizes():
    x = tj.constant([[1.0, 2.0], [1.0, -1.0]])
    for run in (tj.vectorized_map, tj.function(tj.vectorized_map)):
        with pytest.raises(tj.errors.ControlFlowError, match="different sizes"):
            run(lambda r: tj.boolean_mask(r, r > 0), x)


def test_a_size_that_all_rows_share():
    n = tj.constant(3)

    @tj.function
    def f(x, n):
        return tj.vectorized_map(lambda r: r * tj.cast(tj.range(n), tj.float64), x)

    x = tj.constant(RNG.normal(size=(4, 1)))
    np.testing.assert_allclose(f(x, n), x.numpy() * np.arange(3.0))


# --- tensors without axes, positions without coordinates --------------------------------------------------------------
@pytest.mark.parametrize("value", [True, False])
def test_positions_of_a_tensor_without_axes(value):
    x = tj.constant(value)
    for f in (tj.where, tj.function(tj.where)):
        assert f(x).shape == (int(value), 0)
        assert f(x).dtype is tj.int64


def test_positions_without_coordinates_are_those_of_the_whole_tensor():
    x, u = tj.constant([1.0, 2.0]), tj.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 1.0]])
    at = np.zeros((3, 0), np.int32)
    same(lambda x: tj.gather_nd(x, at), (x,))
    assert tj.gather_nd(x, at).numpy().tolist() == [[1, 2]] * 3
    assert tj.gather_nd(x, at[0]).numpy().tolist() == [1, 2]
    assert tj.gather_nd(tj.constant([[1.0], [2.0]]), np.zeros((2, 0), np.int32), batch_dims=1).shape == (2, 1)
    results = {"add": [10, 9], "sub": [-8, -5], "update": [5, 1], "max": [5, 4], "min": [1, 1]}
    for name, want in results.items():
        f = getattr(tj, f"tensor_scatter_nd_{name}")
        same(lambda x, u, f=f: f(x, at, u), (x, u))
        assert f(x, at, u).numpy().tolist() == want
        assert f(x, at[0], u[2]).shape == (2,)
    assert tj.scatter_nd(at, u, (2,)).numpy().tolist() == [9, 7]
    assert tj.gather_nd(3.0, at).numpy().tolist() == [3, 3, 3]
    with pytest.raises(ShapeError, match="2 coordinates"):
        tj.gather_nd(x, [[0, 0]])
