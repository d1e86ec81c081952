"""Every operation: eager results against NumPy and SciPy, types against inference, derivatives against differences."""

import operator
from collections import Counter

import numpy as np
import pytest
from helpers import close, gradients, graph_of, numeric_gradients, numeric_second_order, run_graph, second_order
from op_table import CASES, Case

import tracejit as tj
from tracejit import tracing
from tracejit.context import listen, unlisten
from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, as_dtype

BY_DTYPE = [pytest.param(c, d, id=f"{c.name}-{d.name}") for c in CASES for d in c.dtypes()]
SIZED = [pytest.param(c, id=c.name) for c in CASES if any(d > 1 for s in c.shapes for t in s for d in t)]
FIXED = {  # cases that name a size themselves
    "broadcast_to", "split", "gather, batch_dims", "gather, axis and batch_dims", "scatter_nd", "tensor_scatter_nd_add",
    "tensor_scatter_nd_update", "unsorted_segment_sum", "one_hot", "sparse_softmax_cross_entropy", "repeat, each",
    "conv1d", "conv2d", "conv2d_transpose", "depthwise_conv2d", "signal.ifftnd", "signal.irfftnd",
    "signal.rfft, length", "signal.frame", "signal.frame without overlap",
}  # fmt: skip
DIFFERENTIABLE = [pytest.param(c, id=c.name) for c in CASES if c.differentiable and "f" in c.kinds]


def test_names_are_unique():
    assert [n for n, k in Counter(c.name for c in CASES).items() if k > 1] == []


def layouts(a):
    """The same values contiguous, with the axes stored in reverse order, and with gaps between the elements."""
    yield a
    if a.ndim > 1:
        yield np.array(a.T, order="C").T
    if a.ndim:
        wide = np.zeros((*a.shape[:-1], a.shape[-1] * 2), a.dtype)
        wide[..., ::2] = a
        yield wide[..., ::2]


@pytest.mark.parametrize(("case", "dtype"), BY_DTYPE)
def test_eager_equals_reference_and_types_equal_inference(case: Case, dtype):
    for shapes in case.shapes:
        arrays = case.arrays(dtype, shapes)
        with np.errstate(all="ignore"):
            wide = [a.astype(np.float64) if a.dtype.name == "bfloat16" or a.dtype == np.float16 else a for a in arrays]
            expected = np.asarray(case.reference(*wide))
        for variant in zip(*[[*layouts(a)] * 3 for a in arrays]):
            y = case.f(*[tj.constant(v) if v.flags.c_contiguous else tj.tensor.wrap(v) for v in variant][: len(arrays)])
            assert tuple(y.shape) == expected.shape, f"{case.name} of {shapes}"
            if expected.dtype.kind in "iu" and dtype.kind in "iu":
                expected = expected.astype(y.dtype.np)
            close(y, expected, case.factor, f"{case.name} of {shapes}")
        graph = tracing.trace_graph(case.f, [TensorType(as_dtype(a.dtype), a.shape) for a in arrays])
        assert graph.results[0].dtype is y.dtype
        sizes = tuple(graph.results[0].shape)
        assert tuple(n if symbols_in(d) else d for d, n in zip(sizes, y.shape, strict=True)) == tuple(y.shape)


@pytest.mark.parametrize("case", SIZED)
def test_symbolic_sizes(case: Case):
    dtype = case.dtypes()[-1]
    for shapes in case.shapes:
        sizes = {d for s in shapes for d in s if d > 1}
        symbols = {d: Dim.symbol(f"d{d}", d) for d in sizes}
        arrays = case.arrays(dtype, shapes)
        types = [TensorType(as_dtype(a.dtype), [symbols.get(d, d) for d in a.shape]) for a in arrays]
        graph, captured = graph_of(case.f, *types)
        for more in (0,) if case.own_sizes or case.name in FIXED else (0, 3):
            arrays = case.arrays(dtype, [tuple(d + more if d in sizes else d for d in s) for s in shapes])
            y = run_graph(graph, [*arrays, *captured], {f"d{d}": d + more for d in sizes})[0]
            expected = case.f(*[tj.constant(a) for a in arrays])
            assert y.shape == expected.shape
            close(y, expected.numpy(), case.factor)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_gradient_equals_central_differences(case: Case):
    xs = case.arrays(tj.float64, case.small())
    floats = [i for i in range(len(xs)) if i not in case.fixed]

    def f(*moving):
        args = list(xs)
        for i, x in zip(floats, moving):
            args[i] = x
        return case.f(*args)

    moving = [xs[i] for i in floats]
    y = f(*[tj.constant(x) for x in moving])
    seed = np.random.default_rng(1).normal(size=y.shape)
    for g, e in zip(gradients(f, moving, seed), numeric_gradients(f, moving, seed)):
        np.testing.assert_allclose(g, e, rtol=1e-6, atol=1e-7)
    if case.second:
        weights = [np.random.default_rng(2).normal(size=x.shape) for x in moving]
        for h, e in zip(second_order(f, moving, seed, weights), numeric_second_order(f, moving, seed, weights)):
            np.testing.assert_allclose(h, e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_jvp_is_the_transpose_of_vjp(case: Case):
    rng = np.random.default_rng(3)
    xs = [tj.constant(x) for x in case.arrays(tj.float64, case.small())]
    floats = [x for i, x in enumerate(xs) if i not in case.fixed]
    tangents = [tj.constant(rng.normal(size=x.shape)) for x in floats]
    with tj.autodiff.ForwardAccumulator(floats, tangents) as acc, tj.GradientTape() as tape:
        tape.watch(floats)
        y = case.f(*xs)
    seed = tj.constant(rng.normal(size=y.shape))
    grads = tape.gradient(y, floats, output_gradients=seed, unconnected_gradients="zero")
    forward = float(np.sum(acc.jvp(y, "zero").numpy() * seed.numpy()))
    backward = sum(float(np.sum(g.numpy() * t.numpy())) for g, t in zip(grads, tangents))
    assert forward == pytest.approx(backward, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("case", [c for c in DIFFERENTIABLE if len(c.values[0].small()) > 1])
def test_tangents_along_one_operand_have_the_shape_of_the_result(case: Case):
    rng = np.random.default_rng(3)
    for shapes in case.shapes:
        xs = [tj.constant(x) for x in case.arrays(tj.float64, shapes)]
        for x in [x for i, x in enumerate(xs) if i not in case.fixed]:
            t = tj.constant(rng.normal(size=x.shape))
            with tj.autodiff.ForwardAccumulator(x, t) as acc, tj.GradientTape() as tape:
                tape.watch(x)
                y = case.f(*xs)
            tangent, seed = acc.jvp(y, "zero"), tj.constant(rng.normal(size=y.shape))
            assert tangent.shape == y.shape and tangent.dtype is y.dtype
            back = tape.gradient(y, x, output_gradients=seed, unconnected_gradients="zero")
            forward = float(np.sum(tangent.numpy() * seed.numpy()))
            assert forward == pytest.approx(float(np.sum(back.numpy() * t.numpy())), rel=1e-8, abs=1e-10)


class Heard:
    def __init__(self):
        self.names = set()

    def record(self, op, keys, values, attrs, outs):
        self.names.add(op.name)


def test_every_row_is_in_the_table():
    heard = Heard()
    listen(heard)
    try:
        for case in CASES:
            case.f(*[tj.constant(x) for x in case.arrays(case.dtypes()[-1], case.small())])
    finally:
        unlisten(heard)
    elsewhere = {
        "dim",  # symbolic sizes only
        "custom_vjp",  # test_tape.py
        "recompute", "barrier",  # test_recompute.py
        "correlated",  # test_conv.py
        "assigned",  # test_variables_traced.py
        "update", "scatter_sum", "add_at", "put",  # slices of Variables, gradients of gather
        "check",  # test_checks.py
        "tell",  # test_traced_sizes.py
        "gamma_of",  # test_random_samplers.py
        "philox32", "philox64", "random_normal64", "random_quantile64",  # test_random.py, test_op_edges.py
        "place", "iota", "constant", "copy",
        "cond", "while", "while_saving", "scan", "host_call",  # test_control_forms.py
        "count_up", "positions", "sized",  # test_found_sizes.py
        "stretch", "shrink",  # test_found_broadcast.py
    }  # fmt: skip
    assert sorted(set(OPS) - heard.names - elsewhere) == []


@pytest.mark.parametrize("name", sorted(OPS))
def test_rows_are_complete(name):
    op = OPS[name]
    assert op.doc.endswith(".")
    assert callable(op.infer)
    assert callable(op.numpy)
    if op.family == "elementwise":
        assert callable(op.scalar)
    if op.vjp is not None and op.name != "custom_vjp":
        assert op.jvp is not None


# --- what differs from NumPy, or is a matter of definition ------------------------------------------------------------
def test_mean_of_integers_is_floating():
    assert tj.reduce_mean([1, 2]).dtype == tj.float64
    assert float(tj.reduce_mean([1, 2])) == 1.5
    assert tj.reduce_mean(tj.constant([1, 2], tj.int8)).dtype == tj.float32
    assert tj.reduce_mean(tj.constant([True, False])).numpy() == 0.5


def test_sum_keeps_the_dtype():
    assert tj.reduce_sum(tj.constant([200, 100], tj.uint8)).numpy() == 300 % 256
    assert tj.reduce_sum(tj.constant([True, True])).dtype == tj.int32


def test_mean_of_float16_does_not_overflow():
    assert tj.reduce_mean(tj.fill([1000], tj.constant(1000.0, tj.float16))).numpy() == 1000.0


def test_integer_division_by_zero_gives_zero():
    assert tj.floordiv(tj.constant([7, -7]), tj.constant([0, 0])).numpy().tolist() == [0, 0]


def test_casts_saturate():
    assert tj.cast([1e10, -1e10, np.nan], tj.int32).numpy().tolist() == [2**31 - 1, -(2**31), 0]
    assert tj.cast([300.7, -1.5], tj.uint8).numpy().tolist() == [255, 0]
    assert tj.saturate_cast(tj.constant([300, -5]), tj.uint8).numpy().tolist() == [255, 0]


def test_no_warnings_for_what_is_not_finite():
    x = tj.constant([0.0, -1.0, 1e30])
    for f in (lambda: 1 / x, lambda: tj.math.log(x), lambda: x * 1e30, lambda: tj.exp(x), lambda: x / 0.0):
        f()  # warnings are errors in the tests


def test_logsumexp_of_infinities():
    inf = np.inf
    assert tj.reduce_logsumexp([-inf, -inf]).numpy() == -inf
    assert tj.reduce_logsumexp([inf, 0.0]).numpy() == inf
    assert tj.reduce_logsumexp([1000.0, 1000.0]).numpy() == pytest.approx(1000 + np.log(2))


EMPTY = {
    "reduce_sum": 0.0, "reduce_prod": 1.0, "reduce_logsumexp": -np.inf, "reduce_mean": np.nan,
    "math.reduce_variance": np.nan, "math.reduce_std": np.nan, "math.reduce_euclidean_norm": 0.0,
    "math.count_nonzero": 0, "reduce_all": True, "reduce_any": False, "reduce_max": None, "reduce_min": None,
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_reductions_of_no_elements(name, wrap):
    f = tj.math if name.startswith("math.") else tj
    f = getattr(f, name.removeprefix("math."))
    x = tj.zeros((3, 0), tj.bool) if name in ("reduce_all", "reduce_any") else tj.zeros((3, 0))
    whole = ((), (1, 1))
    for axis, shapes in [(None, whole), (1, ((3,), (3, 1))), (-1, ((3,), (3, 1))), ((0, -1), whole), ((-1, 0), whole)]:
        for keep in (False, True):
            g = wrap(lambda x, axis=axis, keep=keep: f(x, axis=axis, keepdims=keep))
            if EMPTY[name] is None:
                with pytest.raises(tj.errors.ShapeError, match="no elements"):
                    g(x)
                continue
            y = g(x).numpy()
            assert y.shape == shapes[keep]
            np.testing.assert_array_equal(y, np.full(y.shape, EMPTY[name], y.dtype))
    assert wrap(lambda x: f(x, axis=0))(x).shape == (0,)
    with pytest.raises(tj.errors.ShapeError, match="twice"):
        wrap(lambda x: f(x, axis=(1, -1)))(x)


def test_gradients_of_no_elements():
    x = np.zeros((3, 0))
    for f in (tj.reduce_logsumexp, tj.reduce_sum, tj.reduce_prod, tj.nn.softmax, tj.nn.log_softmax):
        for g in (f, tj.function(f)):
            y = g(tj.constant(x))
            assert gradients(g, [x], np.zeros(y.shape))[0].shape == (3, 0)
    assert tj.nn.softmax(tj.constant(x)).shape == (3, 0)


COMPARISONS = {"lt": tj.less, "le": tj.less_equal, "gt": tj.greater, "ge": tj.greater_equal, "eq": tj.equal,
               "ne": tj.not_equal}  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_comparisons_with_integers_of_any_size(dtype):
    info = np.iinfo(dtype)
    values = [int(info.min), 0, 1, int(info.max)]
    x = tj.constant(np.array(values, dtype))
    for n in (5, -1, 300, -300, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, -(2**70), 10**400):

        def all_of_them(x, n):
            return [f(x, n) for f in COMPARISONS.values()] + [n > x, x == n]

        want = [[getattr(operator, k)(v, n) for v in values] for k in (*COMPARISONS, "lt", "eq")]
        for f in (all_of_them, tj.function(all_of_them), tj.function(lambda x, n=n: all_of_them(x, n))):
            got = f(x) if f.__name__ == "<lambda>" else f(x, n)
            assert [y.numpy().tolist() for y in got] == want, f"{dtype} and {n}"
    assert bool(tj.less(2**70, 2**71)) and not bool(tj.less(2**71, 2**70)) and bool(tj.equal(2**70, 2**70))
    with pytest.raises(tj.errors.DTypeError, match="does not fit"):
        x + 2**70


def test_clip_by_limits_outside_the_type():
    x = tj.constant([-128, 0, 127], tj.int8)
    assert tj.clip_by_value(x, -300, 50).numpy().tolist() == [-128, 0, 50]
    assert tj.clip_by_value(x, -5, 300).numpy().tolist() == [-5, 0, 127]


def test_division_towards_zero_and_its_rest():
    a, b = np.array([7, -7, 7, -7, 6, 0.5, 1e30]), np.array([2, 2, -2, -2, 3, 0.25, 3])
    for d in (tj.float64, tj.float32, tj.int32):
        x, y = a[: 5 if d is tj.int32 else 7].astype(d.np), b[: 5 if d is tj.int32 else 7].astype(d.np)
        for g in (lambda f: f, tj.function):
            q = g(tj.math.truncatediv)(tj.constant(x), tj.constant(y))
            r = g(tj.math.truncatemod)(tj.constant(x), tj.constant(y))
            assert q.dtype is r.dtype is d
            np.testing.assert_array_equal(q.numpy(), np.trunc(x / y).astype(d.np))
            np.testing.assert_array_equal(r.numpy(), np.fmod(x, y))
            np.testing.assert_array_equal(g(tj.math.floormod)(tj.constant(x), tj.constant(y)).numpy(), np.mod(x, y))
    for g in (lambda f: f, tj.function):  # the quotient, 130.67, would be 131 in bfloat16
        q = g(tj.math.truncatediv)(tj.constant([392.0], tj.bfloat16), tj.constant([3.0], tj.bfloat16))
        assert q.numpy().tolist() == [130.0]


def test_argmax_of_none_is_axis_0():
    assert tj.argmax([[1, 5], [3, 2]]).numpy().tolist() == [1, 0]
    assert tj.argmax([1, 5], output_type=tj.int32).dtype == tj.int32


def test_divide_no_nan():
    assert tj.math.divide_no_nan([1.0, 0.0], [0.0, 0.0]).numpy().tolist() == [0.0, 0.0]
    assert tj.math.xlogy([0.0, 2.0], [0.0, 1.0]).numpy().tolist() == [0.0, 0.0]


def test_powers_by_numbers_are_exact():
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    t = tj.constant(x)
    for p in (1, 2, 0.5, -1, 3, 2.0):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal((t**p).numpy(), x**p)
    assert (tj.constant([2, 3]) ** 2).numpy().tolist() == [4, 9]
    assert (2 ** tj.constant([2, 3])).numpy().tolist() == [4, 8]
    assert OPS["pow"](tj.constant([2, -1]), tj.constant([-1, -3])).numpy().tolist() == [0, -1]


def test_cumprod_gradient_with_zeros():
    for x in ([0.0, 2.0, 3.0], [2.0, 0.0, 3.0, 4.0], [0.0, 2.0, 0.0, 1.0]):
        x = np.array(x)
        for kw in ({}, {"exclusive": True}, {"reverse": True}):
            seed = np.arange(1.0, len(x) + 1)

            def f(t, kw=kw):
                return tj.math.cumprod(t, **kw)

            np.testing.assert_allclose(gradients(f, [x], seed)[0], numeric_gradients(f, [x], seed)[0], atol=1e-6)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_product_gradient_with_zeros(zeros):
    x = np.array([2.0, 3.0, 4.0])
    x[:zeros] = 0
    np.testing.assert_allclose(
        gradients(tj.reduce_prod, [x], np.array(1.0))[0],
        numeric_gradients(tj.reduce_prod, [x], np.array(1.0))[0],
        atol=1e-6,
    )


def test_equal_extremes_share_the_gradient():
    assert gradients(tj.reduce_max, [np.array([1.0, 3.0, 3.0])], np.array(1.0))[0].tolist() == [0, 0.5, 0.5]
    assert gradients(tj.maximum, [np.array(1.0), np.array(1.0)], np.array(1.0)) == [0.5, 0.5]


def test_clip_gradient_at_the_bounds():
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    g = gradients(lambda t: tj.clip_by_value(t, 0.0, 1.0), [x], np.ones(5))[0]
    assert g.tolist() == [0, 1, 1, 1, 0]


# --- creation ---------------------------------------------------------------------------------------------------------
def test_range():
    assert tj.range(5).numpy().tolist() == [0, 1, 2, 3, 4]
    assert tj.range(5).dtype == tj.int32
    assert tj.range(3, 18, 3).numpy().tolist() == [3, 6, 9, 12, 15]
    assert tj.range(3, 1, -0.5).numpy().tolist() == [3.0, 2.5, 2.0, 1.5]
    assert tj.range(3, 1).shape == (0,)
    assert tj.range(tj.constant(4, tj.int64)).dtype == tj.int64
    assert tj.range(0, 2**40, 2**38).numpy().tolist() == [0, 2**38, 2**39, 3 * 2**38]
    assert tj.range(3, dtype=tj.float64).dtype == tj.float64
    with pytest.raises(tj.errors.ArgumentError):
        tj.range(0, 3, 0)


def test_linspace_ends_exactly():
    x = tj.linspace(0.1, 0.7, 7).numpy()
    assert x[0] == np.float32(0.1)
    assert x[-1] == np.float32(0.7)
    assert tj.linspace(0, 1, 1).numpy().tolist() == [0.0]
    assert tj.linspace([0.0, 1.0], [1.0, 3.0], 3, axis=-1).numpy().tolist() == [[0, 0.5, 1], [1, 2, 3]]


def test_eye_fill_one_hot():
    assert tj.eye(2, 3).numpy().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert tj.eye(2, batch_shape=[3]).shape == (3, 2, 2)
    assert tj.fill([2], 7).numpy().tolist() == [7, 7]
    assert tj.one_hot([1, 5], 3).numpy().tolist() == [[0, 1, 0], [0, 0, 0]]
    assert tj.one_hot([1], 3, axis=0).shape == (3, 1)
    assert tj.one_hot(1, 3, 5, -1).numpy().tolist() == [-1, 5, -1]
    assert tj.one_hot([200], 300).numpy().argmax() == 200
    assert tj.one_hot(tj.constant([200], tj.uint8), 300).numpy().argmax() == 200
    assert tj.zeros((2,), tj.bool).numpy().tolist() == [False, False]
    assert tj.ones(3).shape == (3,)
    assert tj.zeros([]).shape == ()
    with pytest.raises(tj.errors.ShapeError):
        tj.zeros((-1,))


def test_shapes_as_tensors():
    x = tj.zeros((2, 3))
    assert tj.shape(x).numpy().tolist() == [2, 3]
    assert tj.shape(x).dtype == tj.int32
    assert int(tj.size(x)) == 6
    assert int(tj.rank(x)) == 2
    assert tj.reshape(x, tj.shape(tj.zeros((3, 2)))).shape == (3, 2)
    assert tj.reshape(x, [tj.constant(6)]).shape == (6,)
    assert tj.zeros(tj.shape(x)).shape == (2, 3)


def test_one_argument_where_and_masks():
    assert tj.where([True, False, True]).numpy().tolist() == [[0], [2]]
    x = tj.constant([[1.0, 2.0], [3.0, 4.0]])
    assert tj.boolean_mask(x, [True, False]).numpy().tolist() == [[1, 2]]
    assert tj.boolean_mask(x, x > 1).numpy().tolist() == [2, 3, 4]
    assert tj.sequence_mask([1, 3], 4).numpy().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]


def test_clip_by_norms():
    x = tj.constant([3.0, 4.0])
    np.testing.assert_allclose(tj.clip_by_norm(x, 1.0).numpy(), [0.6, 0.8], rtol=1e-6)
    clipped, norm = tj.clip_by_global_norm([x, None, x], 5.0)
    assert norm.numpy() == pytest.approx(np.sqrt(50))
    assert clipped[1] is None
    np.testing.assert_allclose(clipped[0].numpy(), x.numpy() / np.sqrt(2), rtol=1e-6)


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda: tj.ones((2, 3)) @ tj.ones((4, 5)), ["matmul", "(2, 3)", "(4, 5)"]),
        (lambda: tj.ones((2, 3)) + tj.ones((4,)), ["add", "[2,3]", "[4]"]),
        (lambda: tj.reshape(tj.ones((2, 3)), (4, 2)), ["(2, 3)", "(4, 2)"]),
        (lambda: tj.concat([tj.ones((2, 3)), tj.ones((3, 2))], 0), ["concat", "(2, 3)", "(3, 2)"]),
        (lambda: tj.reduce_sum(tj.ones((2, 3)), axis=5), ["axis 5"]),
        (lambda: tj.einsum("ij,jk->ik", tj.ones((2, 3)), tj.ones((2, 3))), ["'j'", "3", "2"]),
        (lambda: tj.einsum("ij->ijk", tj.ones((2, 3))), ["ijk"]),
        (lambda: tj.squeeze(tj.ones((2, 3)), 0), ["axis 0"]),
        (lambda: tj.split(tj.ones((5,)), 2), ["2 equal pieces"]),
        (lambda: tj.stack([tj.ones((2,)), tj.ones((3,))]), ["(2,)", "(3,)"]),
        (lambda: tj.reduce_max(tj.ones((0,))), ["no elements"]),
        (lambda: tj.tile(tj.ones((2, 3)), [-1, 2]), ["multiples", "-1"]),
        (lambda: tj.repeat(tj.ones((2, 3)), -1, 0), ["repeats", "-1"]),
        (lambda: tj.roll(tj.ones((2, 3)), [1, 2], [0]), ["2 for 1"]),
        (lambda: tj.matmul(tj.ones(()), tj.ones((2, 2))), ["0-d"]),
        (lambda: tj.gather(tj.ones((3,)), [5]), ["gather"]),
        (lambda: tj.gather_nd(tj.ones((3,)), [[5]]), ["axis 0"]),
        (lambda: tj.nn.sparse_softmax_cross_entropy_with_logits([1, 2], tj.ones((3, 4))), ["(2,)", "(3, 4)"]),
    ],
)  # fmt: skip
def test_errors_name_the_fault(f, words):
    with pytest.raises((tj.errors.ShapeError, tj.errors.ArgumentError, tj.errors.OutOfRangeError)) as e:
        f()
    for w in words:
        assert w in str(e.value)
    assert "test_ops.py" in str(e.value)
