"""Eager and traced operations take the same element types, and name tensors that outlive their trace."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DTypeError, LeakedTensorError
from tracejit.ir.op import OPS
from tracejit.ir.types import ALL
from tracejit.runtime import eager

INTERNAL = {"assigned", "philox32", "philox64", "random_normal64", "random_quantile64"}
INTERNAL |= {"igamma_slope", "betainc_slope", "zeta_slope"}  # which take an order
ROWS = [op for op in OPS.values() if op.family == "elementwise" and op.name not in INTERNAL]
REDUCTIONS = [
    tj.reduce_sum, tj.reduce_max, tj.reduce_min, tj.reduce_prod, tj.reduce_any, tj.reduce_all, tj.argmax, tj.argmin,
    tj.sort, tj.argsort, tj.cumsum, tj.reduce_logsumexp, tj.nn.softmax, tj.math.top_k,
]  # fmt: skip


def takes(f):
    try:
        return f() is not None
    except (DTypeError, TypeError):
        return False


@pytest.mark.parametrize("op", ROWS, ids=str)
def test_rows_take_the_same_dtypes_eagerly_and_traced(op):
    for d in ALL:
        xs = [tj.ones((3,), d)] * op.arity
        assert takes(lambda: op(*xs)) == takes(lambda: tj.function(lambda *xs: op(*xs)).graph(*xs)), d


@pytest.mark.parametrize("f", REDUCTIONS, ids=lambda f: f.__name__)
def test_reductions_take_the_same_dtypes_eagerly_and_traced(f):
    for d in ALL:
        x = tj.ones((3,), d)
        assert takes(lambda: f(x)) == takes(lambda: tj.function(lambda x: f(x)).graph(x)), d


def test_public_functions_and_operators_refuse_what_traces_refuse():
    eager.activate()
    z, b = tj.ones((3,), "complex64"), tj.ones((3,), "bool")
    for f in (
        lambda: tj.less(z, z), lambda: z < z, lambda: tj.maximum(z, z), lambda: b // b, lambda: b % b, lambda: b << b,
        lambda: tj.square(b), lambda: tj.nn.relu(z), lambda: tj.round(z), lambda: tj.matmul(b, b), lambda: z < 1.0,
    ):  # fmt: skip
        with pytest.raises(DTypeError):
            f()


# --- tensors that outlive their trace -------------------------------------------------------------------------------
def leak():
    kept = []
    tj.function(lambda x: kept.append(x + 1.0) or x, autograph=False)(tj.ones(3))
    return kept[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda z, x: tj.function(lambda x: x)(z),
        lambda z, x: tj.function(lambda *, x: x)(x=z),
        lambda z, x: tj.function(lambda xs: xs[0])([z]),
        lambda z, x: tj.function(lambda x: x, input_signature=[tj.TensorSpec((3,))])(z),
        lambda z, x: tj.function(lambda x: x + z)(x),
        lambda z, x: tj.where(x > 0, z, x),
        lambda z, x: tj.argmax(z),
        lambda z, x: tj.sort(z),
        lambda z, x: z + x,
        lambda z, x: np.sum(z),
        lambda z, x: tj.Variable(z),
    ],
)
def test_tensors_that_outlive_their_trace_are_named(use):
    with pytest.raises(LeakedTensorError, match="made at test_dtype_edges"):
        use(leak(), tj.ones(3))


# --- what already is a tensor is no more narrowed than an array is ----------------------------------------------------
@pytest.mark.parametrize(
    "value, dtype", [(2**40, "int32"), (1.5, "int32"), (300, "int8"), (1 + 2j, "float32"), (-1, "uint8")]
)
@pytest.mark.parametrize("make", [tj.convert_to_tensor, tj.constant, tj.Variable])
def test_a_tensor_is_not_narrowed_silently(make, value, dtype):
    t = tj.constant([value])
    with pytest.raises(tj.errors.DTypeError):
        make(t, dtype=dtype)
    if make is not tj.Variable:
        with pytest.raises(tj.errors.DTypeError):
            tj.function(lambda t: make(t, dtype=dtype))(t)


def test_large_unsigned_integers_beside_small_ones():
    assert tj.constant([2**63, 7], dtype=tj.uint64).numpy().tolist() == [2**63, 7]
    assert tj.Variable(tj.zeros((2,), tj.uint64)).assign([2**64 - 1, 0]).numpy().tolist() == [2**64 - 1, 0]
    with pytest.raises(tj.errors.DTypeError):
        tj.constant([2**64, 7], dtype=tj.uint64)
