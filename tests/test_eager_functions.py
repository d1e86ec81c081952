"""Public functions answered at once, by NumPy forms and by plans, give what the ordinary path gives, errors too."""

import sys
import threading

import numpy as np
import pytest

import tracejit as tj
from tracejit.context import activity
from tracejit.ir.op import Op
from tracejit.ops import philox, quick
from tracejit.runtime import drawing, eager
from tracejit.tensor import Operand, wrap

FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTS = ["int8", "int32", "int64", "uint8", "uint32", "uint64"]
ALL = ["bool", *INTS, *FLOATS, "complex64"]
SHAPES = [(), (1,), (8,), (3, 3), (2, 3, 4), (0,), (3, 0)]


def numbers(dtype, shape, seed):
    """Numbers of a type, special ones among them."""
    rng = np.random.default_rng(seed)
    d = tj.as_dtype(dtype)
    if d.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if d.kind in "iu":
        return np.asarray(rng.integers(0 if d.kind == "u" else -5, 6, shape), d.np)
    a = np.asarray(rng.normal(size=shape) * 3)
    a[rng.random(shape) < 0.1] = 0.0
    if d.kind == "c":
        return np.asarray(a + 1j * rng.normal(size=shape), d.np)
    for special in (-0.0, np.inf, -np.inf, np.nan):
        a[rng.random(shape) < 0.02] = special
    return np.asarray(a).astype(d.np)


def laid_out(a, layout):
    """The same values in another order of memory."""
    if layout == "turned":
        return np.ascontiguousarray(a.T).T
    if layout == "strided" and a.ndim:
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]
    if layout == "backwards" and a.ndim:
        return np.ascontiguousarray(a[::-1])[::-1]
    return a


def shown(r):
    """A result's bits, dtypes and shapes."""
    if isinstance(r, Operand):
        return type(r).__name__, r.dtype.name, tuple(r.shape), r._a.tobytes()
    return type(r).__name__, [shown(x) for x in r]


def outcome(f, *args):
    try:
        return shown(f(*args))
    except Exception as e:
        return type(e).__name__, getattr(e, "message", str(e))


def ordinary(f, *args):
    """The outcome of the path that is taken while anything listens."""
    activity.enter()
    try:
        return outcome(f, *args)
    finally:
        activity.leave()


UNARY = {
    "rank": lambda x: tj.rank(x),
    "size of int64": lambda x: tj.size(x, tj.int64),
    "shape": lambda x: tj.shape(x),
    "real": lambda x: tj.math.real(x),
    "imag": lambda x: tj.math.imag(x),
    "conj": lambda x: tj.math.conj(x),
    "angle": lambda x: tj.math.angle(x),
    "bits": lambda x: tj.bitcast(x, tj.int32),
    "bits of eight": lambda x: tj.bitcast(x, "uint8"),
    "matrix_transpose": lambda x: tj.linalg.matrix_transpose(x),
    "adjoint": lambda x: tj.linalg.adjoint(x),
    "block": lambda x: tj.slice(x, (1, 0), (1, -1)),
    "chosen": lambda x: tj.boolean_mask(x, tj.not_equal(x, 0)),
    "chosen all": lambda x: tj.boolean_mask(x, tj.equal(x, x)),
    "chosen none": lambda x: tj.boolean_mask(x, tj.not_equal(x, x)),
    "block of none": lambda x: tj.slice(x, [1], [0]),
    "logical_not": lambda x: tj.logical_not(x),
    "crelu": lambda x: tj.nn.crelu(x),
    "fft": lambda x: tj.signal.fft(x),
    "ifft": lambda x: tj.signal.ifft(x),
    "rfft": lambda x: tj.signal.rfft(x),
    "irfft": lambda x: tj.signal.irfft(x),
    "fftshift": lambda x: tj.signal.fftshift(x),
    "dct": lambda x: tj.signal.dct(x),
    "overlap_and_add": lambda x: tj.signal.overlap_and_add(x, 2),
    "vector_norm": lambda x: tj.linalg.vector_norm(x, 0),
    "count_nonzero axis": lambda x: tj.math.count_nonzero(x, 0, True),
    "nextafter": lambda x: tj.math.nextafter(x, 1.0),
    "argmax": lambda x: tj.argmax(x),
    "argmax last": lambda x: tj.argmax(x, -1, tj.int32),
    "argmin": lambda x: tj.argmin(x, 1),
    "argmin float": lambda x: tj.argmin(x, 0, tj.float32),
    "sort": lambda x: tj.sort(x),
    "sort down": lambda x: tj.sort(x, 0, "DESCENDING"),
    "sort wrong": lambda x: tj.sort(x, 0, "UP"),
    "argsort": lambda x: tj.argsort(x),
    "argsort down": lambda x: tj.argsort(x, 0, "DESCENDING"),
    "top_k": lambda x: tj.math.top_k(x, 2),
    "top_k all": lambda x: tj.math.top_k(x, 3, index_type=tj.int64),
    "top_k none": lambda x: tj.math.top_k(x, 0),
    "cumsum": lambda x: tj.cumsum(x),
    "cumsum reverse": lambda x: tj.cumsum(x, -1, reverse=True),
    "cumprod exclusive": lambda x: tj.math.cumprod(x, exclusive=True),
    "cumprod": lambda x: tj.math.cumprod(x, 1),
    "sum": lambda x: tj.reduce_sum(x),
    "sum axes": lambda x: tj.reduce_sum(x, [0, -1], True),
    "sum twice": lambda x: tj.reduce_sum(x, [0, 0]),
    "sum none": lambda x: tj.reduce_sum(x, []),
    "max": lambda x: tj.reduce_max(x, (0,)),
    "min": lambda x: tj.reduce_min(x, -1, True),
    "prod": lambda x: tj.reduce_prod(x, 1),
    "all": lambda x: tj.reduce_all(x, [0]),
    "mean": lambda x: tj.reduce_mean(x, -1),
    "mean all": lambda x: tj.reduce_mean(x, None, True),
    "logsumexp": lambda x: tj.reduce_logsumexp(x, -1),
    "variance": lambda x: tj.math.reduce_variance(x, 0),
    "std": lambda x: tj.math.reduce_std(x),
    "moments": lambda x: tj.nn.moments(x, [0], keepdims=True),
    "euclidean": lambda x: tj.math.reduce_euclidean_norm(x, 0),
    "euclidean all": lambda x: tj.math.reduce_euclidean_norm(x),
    "norm fro": lambda x: tj.norm(x, "fro"),
    "unique": lambda x: tj.unique(x),
    "unique wide": lambda x: tj.unique(x, tj.int64),
    "unique counted": lambda x: tj.unique_with_counts(x, tj.uint8),
    "unique wrong": lambda x: tj.unique(x, tj.float32),
    "norm": lambda x: tj.norm(x),
    "norm 1": lambda x: tj.norm(x, 1, -1),
    "norm inf": lambda x: tj.norm(x, np.inf, 0, True),
    "norm 3": lambda x: tj.norm(x, 3),
    "l2_normalize": lambda x: tj.nn.l2_normalize(x, -1),
    "count_nonzero": lambda x: tj.math.count_nonzero(x),
    "softmax": lambda x: tj.nn.softmax(x),
    "softmax 0": lambda x: tj.nn.softmax(x, 0),
    "log_softmax": lambda x: tj.nn.log_softmax(x),
    "relu": lambda x: tj.nn.relu(x),
    "relu6": lambda x: tj.nn.relu6(x),
    "leaky_relu": lambda x: tj.nn.leaky_relu(x),
    "elu": lambda x: tj.nn.elu(x),
    "selu": lambda x: tj.nn.selu(x),
    "gelu": lambda x: tj.nn.gelu(x),
    "gelu tanh": lambda x: tj.nn.gelu(x, True),
    "silu": lambda x: tj.nn.silu(x),
    "silu beta": lambda x: tj.nn.silu(x, 1.5),
    "softsign": lambda x: tj.nn.softsign(x),
    "softplus": lambda x: tj.nn.softplus(x),
    "sigmoid": lambda x: tj.sigmoid(x),
    "log_sigmoid": lambda x: tj.math.log_sigmoid(x),
    "l2_loss": lambda x: tj.nn.l2_loss(x),
    "zero_fraction": lambda x: tj.nn.zero_fraction(x),
    "layer_normalization": lambda x: tj.nn.layer_normalization(x),
    "slice": lambda x: tj.slice(x, [0, 1], [2, -1]),
    "slice 1": lambda x: tj.slice(x, (1,), (2,)),
    "slice none": lambda x: tj.slice(x, [1, 1], [0, 0]),
    "slice outside": lambda x: tj.slice(x, [1, 1], [1, 9]),
    "unstack": lambda x: tj.unstack(x),
    "unstack last": lambda x: tj.unstack(x, axis=-1),
    "unstack wrong": lambda x: tj.unstack(x, 2),
    "split": lambda x: tj.split(x, 3),
    "split sizes": lambda x: tj.split(x, [1, 2], -1),
    "split open": lambda x: tj.split(x, [1, -1], 0),
    "tile": lambda x: tj.tile(x, [2, 3]),
    "tile 1": lambda x: tj.tile(x, [1]),
    "tile 0": lambda x: tj.tile(x, (0, 2)),
    "tile negative": lambda x: tj.tile(x, [-1]),
    "repeat": lambda x: tj.repeat(x, 2),
    "repeat each": lambda x: tj.repeat(x, [1, 0, 2], 0),
    "repeat negative": lambda x: tj.repeat(x, -1, 0),
    "roll": lambda x: tj.roll(x, 2, 0),
    "roll back": lambda x: tj.roll(x, -7, -1),
    "roll both": lambda x: tj.roll(x, [1, 2], [0, 1]),
    "reverse": lambda x: tj.reverse(x, [0]),
    "reverse twice": lambda x: tj.reverse(x, [0, -1]),
    "pad": lambda x: tj.pad(x, [[1, 1], [0, 2]]),
    "pad 1": lambda x: tj.pad(x, [[2, 1]], constant_values=3),
    "pad mirror": lambda x: tj.pad(x, [[1, 1], [2, 1]], "REFLECT"),
    "pad negative": lambda x: tj.pad(x, [[-1, 1]]),
    "clip": lambda x: tj.clip_by_value(x, -1.0, 2.0),
    "clip zero": lambda x: tj.clip_by_value(x, 0.0, 2.0),
    "clip minus zero": lambda x: tj.clip_by_value(x, -0.0, 2.0),
    "clip nan": lambda x: tj.clip_by_value(x, float("nan"), 1.0),
    "clip crossed": lambda x: tj.clip_by_value(x, 2.0, -1.0),
    "clip int": lambda x: tj.clip_by_value(x, -1, 2),
    "clip_by_norm": lambda x: tj.clip_by_norm(x, 1.0),
    "where": lambda x: tj.where(x),
    "gather list": lambda x: tj.gather(x, [0, -1]),
    "gather int": lambda x: tj.gather(x, 0, axis=-1),
    "gather outside": lambda x: tj.gather(x, [9]),
    "gather floats": lambda x: tj.gather(x, [0.0]),
    "gather nothing": lambda x: tj.gather(x, []),
    "one_hot": lambda x: tj.one_hot(x, 4),
    "one_hot int": lambda x: tj.one_hot(x, 3, dtype=tj.int64),
    "one_hot first": lambda x: tj.one_hot(x, 3, axis=0),
    "one_hot values": lambda x: tj.one_hot(x, 3, 2.0, -1.0),
    "size": lambda x: tj.size(x),
    "sign": lambda x: tj.sign(x),
    "one_hot negative": lambda x: tj.one_hot(x, -1),
    "sequence_mask": lambda x: tj.sequence_mask(x, 4),
    "einsum T": lambda x: tj.einsum("ij->ji", x),
    "einsum trace": lambda x: tj.einsum("ii->", x),
    "einsum sum": lambda x: tj.einsum("...i->...", x),
    "diag_part": lambda x: tj.linalg.diag_part(x),
    "diag": lambda x: tj.linalg.diag(x),
    "trace": lambda x: tj.linalg.trace(x),
    "band_part": lambda x: tj.linalg.band_part(x, 1, 0),
    "polyval": lambda x: tj.math.polyval([1.0, -2.0, 0.5], x),
    "zeros_like": lambda x: tj.zeros_like(x),
    "ones_like": lambda x: tj.ones_like(x),
    "erf": lambda x: tj.math.erf(x),
}  # fmt: skip

BINARY = {
    "matmul": lambda x, y: tj.matmul(x, y),
    "matmul tb": lambda x, y: tj.matmul(x, y, transpose_b=True),
    "matmul ta": lambda x, y: tj.matmul(x, y, transpose_a=True),
    "matmul adjoint": lambda x, y: tj.matmul(x, y, adjoint_b=True),
    "matvec": lambda x, y: tj.linalg.matvec(x, y),
    "tensordot": lambda x, y: tj.tensordot(x, y, 1),
    "tensordot axes": lambda x, y: tj.tensordot(x, y, [[0], [1]]),
    "tensordot wrong": lambda x, y: tj.tensordot(x, y, 5),
    "cross": lambda x, y: tj.linalg.cross(x, y),
    "outer": lambda x, y: tj.linalg.outer(x, y),
    "einsum mm": lambda x, y: tj.einsum("ij,jk->ik", x, y),
    "einsum list": lambda x, y: tj.einsum("ij,ij->i", [x, y]),
    "einsum dot": lambda x, y: tj.einsum("i,i->", x, y),
    "einsum outer": lambda x, y: tj.einsum("i,j", x, y),
    "einsum batch": lambda x, y: tj.einsum("bij,bkj->bik", x, y),
    "einsum three": lambda x, y: tj.einsum("ij,jk,kl->il", x, y, x),
    "concat": lambda x, y: tj.concat([x, y], 0),
    "concat last": lambda x, y: tj.concat((x, y), -1),
    "stack": lambda x, y: tj.stack([x, y]),
    "stack last": lambda x, y: tj.stack([x, y], -1),
    "add_n": lambda x, y: tj.add_n([x, y, x]),
    "add_n of two": lambda x, y: tj.add_n([x, y]),
    "meshgrid": lambda x, y: tj.meshgrid(x, y),
    "meshgrid ij": lambda x, y: tj.meshgrid(x, y, indexing="ij"),
    "where": lambda x, y: tj.where(tj.equal(x, y), x, y),
    "where float": lambda x, y: tj.where(tj.equal(x, y), x, -0.0),
    "where int": lambda x, y: tj.where(tj.equal(x, y), 1, y),
    "pow": lambda x, y: tj.pow(x, y),
    "logical_and": lambda x, y: tj.logical_and(x, y),
    "logical_or": lambda x, y: tj.logical_or(x, y),
    "divide_no_nan": lambda x, y: tj.math.divide_no_nan(x, y),
    "xdivy": lambda x, y: tj.math.xdivy(x, y),
    "xlogy": lambda x, y: tj.math.xlogy(x, y),
    "xlog1py": lambda x, y: tj.math.xlog1py(x, y),
    "logaddexp": lambda x, y: tj.math.logaddexp(x, y),
    "softmax_ce": lambda x, y: tj.nn.softmax_cross_entropy_with_logits(x, y),
    "sigmoid_ce": lambda x, y: tj.nn.sigmoid_cross_entropy_with_logits(x, y),
    "weighted_ce": lambda x, y: tj.nn.weighted_cross_entropy_with_logits(x, y, 2.0),
    "batch_normalization": lambda x, y: tj.nn.batch_normalization(x, 0.5, y, None, y, 1e-3),
    "vecdot": lambda x, y: tj.linalg.vecdot(x, y),
    "complex": lambda x, y: tj.complex(x, y),
    "global_norm": lambda x, y: tj.linalg.global_norm([x, y]),
}  # fmt: skip

PLACED = {
    "gather": lambda x, i: tj.gather(x, i),
    "gather last": lambda x, i: tj.gather(x, i, axis=-1),
    "gather batch": lambda x, i: tj.gather(x, i, batch_dims=1),
    "gather lines": lambda x, i: tj.gather(x, i, axis=1, batch_dims=1),
    "gather_nd": lambda x, i: tj.gather_nd(x, i),
    "scatter_nd": lambda x, i: tj.scatter_nd(i, x, [3, 4]),
    "scatter_nd rows": lambda x, i: tj.scatter_nd(tj.reshape(i, (-1, 1))[:3], x, (3, *x.shape[1:])),
    "scattered": lambda x, i: tj.tensor_scatter_nd_update(x, i, tj.ones(i.shape[:-1], x.dtype)),
    "scattered sum": lambda x, i: tj.tensor_scatter_nd_add(tj.ones((3, 3), x.dtype), i[..., None], x),
    "segment_sum": lambda x, i: tj.math.unsorted_segment_sum(x, i, 3),
    "segment_prod": lambda x, i: tj.math.unsorted_segment_prod(x, i, 4),
    "segment_max": lambda x, i: tj.math.unsorted_segment_max(x, i, 4),
    "segment_min": lambda x, i: tj.math.unsorted_segment_min(x, i, 4),
    "segment_mean": lambda x, i: tj.math.unsorted_segment_mean(x, i, 4),
    "ascending sum": lambda x, i: tj.math.segment_sum(x, tj.sort(i)),
    "ascending prod": lambda x, i: tj.math.segment_prod(x, tj.sort(i)),
    "ascending max": lambda x, i: tj.math.segment_max(x, tj.sort(i)),
    "ascending min": lambda x, i: tj.math.segment_min(x, tj.sort(i)),
    "ascending mean": lambda x, i: tj.math.segment_mean(x, tj.sort(i)),
    "not ascending": lambda x, i: tj.math.segment_sum(x, i),
    "bincount": lambda x, i: tj.math.bincount(i),
    "confusion": lambda x, i: tj.math.confusion_matrix(i, i),
    "confusion of": lambda x, i: tj.math.confusion_matrix(i, tj.maximum(i, 1), 4),
    "partition": lambda x, i: tj.dynamic_partition(x, i, 3),
    "sparse_ce": lambda x, i: tj.nn.sparse_softmax_cross_entropy_with_logits(i, x),
    "boolean_mask": lambda x, i: tj.boolean_mask(x, i),
    "boolean_mask at": lambda x, i: tj.boolean_mask(x, i, 1),
    "boolean_mask of": lambda x, i: tj.boolean_mask(x, tj.greater(i, 0)),
    "embedding": lambda x, i: tj.nn.embedding_lookup(x, i),
}  # fmt: skip

SOURCES = {
    "zeros": lambda: tj.zeros((3, 2)),
    "zeros list": lambda: tj.zeros([2], "int64"),
    "zeros one": lambda: tj.zeros(4, tj.complex64),
    "zeros nothing": lambda: tj.zeros(()),
    "zeros many": lambda: tj.zeros((200, 300)),
    "zeros none": lambda: tj.zeros((2, 0)),
    "zeros of names": lambda: [tj.zeros((2,), d) for d in ("bool", np.float64, "bfloat16", tj.uint8, complex)],
    "zeros beyond": lambda: tj.zeros((1 << 70,)),
    "zeros truth": lambda: tj.zeros((True,)),
    "zeros negative": lambda: tj.zeros([-1]),
    "zeros float": lambda: tj.zeros([2.0]),
    "ones": lambda: tj.ones((3, 2)),
    "ones bool": lambda: tj.ones([2], tj.bool),
    "ones name": lambda: tj.ones([2], "int16"),
    "ones negative": lambda: tj.ones((2, -2)),
    "ones unknown": lambda: tj.ones((2,), "float19"),
    "fill": lambda: tj.fill((2, 3), 2.5),
    "fill int": lambda: tj.fill([2], 7),
    "fill bool": lambda: tj.fill([2], True),
    "fill negative": lambda: tj.fill([-2], 1.0),
    "fill numbers": lambda: tj.fill(tj.constant([2, 1]), 1.0),
    "eye": lambda: tj.eye(3),
    "eye wide": lambda: tj.eye(2, 5, dtype="int32"),
    "eye tall": lambda: tj.eye(5, 2),
    "eye none": lambda: tj.eye(0),
    "eye batch": lambda: tj.eye(2, batch_shape=[3]),
    "eye negative": lambda: tj.eye(-1),
    "range": lambda: tj.range(5),
    "range none": lambda: tj.range(-3),
    "range large": lambda: tj.range(2**31, 2**31 + 2),
    "range bool": lambda: tj.range(True),
    "range float": lambda: tj.range(2.5),
    "range step": lambda: tj.range(1, 9, 3),
    "linspace": lambda: tj.linspace(0.0, 1.0, 7),
    "linspace down": lambda: tj.linspace(1e30, -1e-30, 11, axis=-1),
    "linspace one": lambda: tj.linspace(0.1, 1.0, 1),
    "linspace two": lambda: tj.linspace(0.1, float("inf"), 2),
    "linspace none": lambda: tj.linspace(0.0, 1.0, 0),
    "linspace ints": lambda: tj.linspace(0, 3, 5),
    "linspace mixed": lambda: tj.linspace(-1, 0.5, 4),
    "range floats": lambda: tj.range(0.0, 5.0, 0.5),
    "range mixed": lambda: tj.range(0, 2.5, 1),
    "range down": lambda: tj.range(1, -2.0, -0.3),
    "range empty": lambda: tj.range(1.0, 0.5),
    "range still": lambda: tj.range(1.0, 2.0, 0.0),
    "range endless": lambda: tj.range(1.0, float("inf")),
    "fill large": lambda: tj.fill([2], 2**40),
    "stateless": lambda: tj.random.stateless_uniform((3,), [5, -7]),
    "stateless large": lambda: tj.random.stateless_normal((3,), (2**62, 2**64)),
    "stateless float": lambda: tj.random.stateless_normal((3,), (0.5, 1)),
    "linspace axis": lambda: tj.linspace(0.0, 1.0, 3, axis=2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def forgotten():
    """No plans from other tests, and none for them."""
    quick._plans.clear()
    quick._counts.clear()


def same_five_times(f, *made):
    """Calls with other values each time: the first are counted, one makes the plan, the last are answered by it."""
    for seed in range(5):
        args = [make(seed) for make in made]
        want = ordinary(f, *args)
        assert outcome(f, *args) == want


def tensors(dtype, shape, layout="plain", more=0):
    return lambda seed: wrap(laid_out(numbers(dtype, shape, 10 * seed + more), layout))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    for dtype in ALL:
        for shape in SHAPES if dtype in ("float32", "int32") else SHAPES[3:4]:
            same_five_times(UNARY[name], tensors(dtype, shape))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("layout", ["turned", "strided", "backwards"])
def test_layouts(name, layout):
    for dtype in ("float32", "bool"):
        for shape in [(8,), (3, 3)]:
            same_five_times(UNARY[name], tensors(dtype, shape, layout))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    several = [((8,), (8,)), ((3, 3), (3, 3)), ((3, 3), (3,)), ((2, 3, 4), (2, 3, 4)), ((), ()), ((0, 3), (3, 0))]
    for dtype in ("float32", "float64", "float16", "int32", "uint8", "bool", "complex64"):
        for shapes in several if dtype == "float32" else several[1:2]:
            same_five_times(BINARY[name], tensors(dtype, shapes[0]), tensors(dtype, shapes[1], more=5))
    same_five_times(BINARY[name], tensors("float32", (3, 3)), tensors("int32", (3, 3)))
    same_five_times(BINARY[name], tensors("float32", (3, 3), "turned"), tensors("float32", (3, 3), "strided"))


@pytest.mark.parametrize("name", PLACED)
def test_positions(name):
    rng = np.random.default_rng(0)
    places = [rng.integers(0, 3, s) for s in [(), (2,), (3,), (3, 2), (2, 2), (0,), (0, 2)]]
    places += [np.array([0, 9]), np.array([-1, 2, 0]), np.array([-7, 0, 0]), np.array([True, False, True])]
    for dtype in ("float32", "bfloat16", "bool"):
        for shape in [(3,), (3, 3), (3, 4, 2), (0, 2), ()] if dtype == "float32" else [(3, 3)]:
            for i in places:
                for kind in ("int64", "uint8", "uint64", "float32", "bool"):
                    if kind == "bool" or i.dtype != np.bool_:
                        x, at = wrap(numbers(dtype, shape, 3)), wrap(i.astype(kind))
                        for _ in range(4 if "ce" in name else 1):
                            assert outcome(PLACED[name], x, at) == ordinary(PLACED[name], x, at)


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name):
    same_five_times(SOURCES[name])


def test_numbers_in_arguments_are_told_apart():
    x = tj.constant([[-1.0, 2.0], [0.0, -0.0]])
    for _ in range(5):
        for f in (
            lambda: tj.pad(x, [[1, 0], [0, 1]], constant_values=0.0),
            lambda: tj.pad(x, [[1, 0], [0, 1]], constant_values=-0.0),
            lambda: tj.pad(x, [[1, 0], [0, 1]], constant_values=1),
            lambda: tj.pad(x, [[1, 0], [0, 1]], constant_values=True),
            lambda: tj.nn.leaky_relu(x, 1.0),
            lambda: tj.nn.leaky_relu(x, 1),
            lambda: tj.nn.leaky_relu(x, True),
            lambda: tj.nn.leaky_relu(x, tj.constant(0.5)),
            lambda: tj.nn.leaky_relu(x, np.float32(0.5)),
            lambda: tj.nn.leaky_relu(x, float("nan")),
        ):
            assert outcome(f) == ordinary(f)


def test_one_tensor_twice_is_not_one_operand():
    x, y = tj.constant(np.eye(3, dtype="f4")), tj.constant(np.arange(9, dtype="f4").reshape(3, 3))
    for _ in range(4):
        tj.einsum("ij,jk->ik", x, x)
    np.testing.assert_array_equal(tj.einsum("ij,jk->ik", x, y), y)


def test_variables_are_operands_and_their_values_are_read_anew():
    v = tj.Variable([[1.0, 2.0], [3.0, 4.0]])
    for k in range(6):
        v.assign(v + float(k))
        for f in (
            lambda: tj.nn.softmax(v),
            lambda: tj.einsum("ij->ji", v),
            lambda: tj.gather(v, [1]),
            lambda: tj.unstack(v),
            lambda: tj.reduce_mean(v, 0),
        ):
            assert outcome(f) == ordinary(f)
    kept = tj.einsum("ij->ji", v)
    before = kept.numpy().copy()
    v.assign(tj.zeros((2, 2)))
    np.testing.assert_array_equal(kept, before)


KEYS = [1, -1, slice(None, None, -1), slice(0, 1), (0, 1), (Ellipsis, 0), (slice(None), 1), [0, 1], ()]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "float16"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_parts_of_variables(key, dtype):
    values = [2.5, 3, 1 << 24, (1 << 24) + 1, 1 << 60, 1e300, True, 1j, [1.0, 2.0], "a", np.float32(0.1)]
    values += [tj.ones((2,), dtype), tj.ones((1, 1), dtype), tj.ones((3,), dtype), tj.ones((), "float64")]
    for value in values:
        v, w = (tj.Variable([[1, 2], [3, 4]], dtype=dtype) for _ in range(2))
        before = v.read_value()
        assert outcome(lambda x=value, v=v: v[key].assign(x)) == ordinary(lambda x=value, w=w: w[key].assign(x))
        assert shown(before) == shown(tj.constant([[1, 2], [3, 4]], dtype))
        assert v._a.tobytes() == w._a.tobytes() and v._a.flags.owndata


QUICK = {
    **{f"of one: {n}": (UNARY[n], (3, 3)) for n in (
        "argmax", "sort", "argsort", "top_k", "cumsum", "mean", "logsumexp", "variance", "std", "moments", "norm",
        "softmax", "log_softmax", "gelu", "silu", "elu", "leaky_relu", "unstack", "tile", "repeat", "roll", "reverse",
        "pad", "where", "trace", "sequence_mask", "slice", "diag_part", "polyval", "count_nonzero",
    )},
    **{n: (BINARY[n], (3, 3), (3, 3)) for n in (
        "matmul tb", "tensordot", "einsum mm", "einsum list", "einsum three", "concat", "stack", "add_n", "softmax_ce",
        "sigmoid_ce", "pow", "where", "where float", "logaddexp", "add_n of two",
    )},
    "random": (lambda: [tj.random.normal((4,)), tj.random.uniform([2, 3], 1.0, 5.0)],),
    "cast": (lambda x: tj.math.reduce_variance(tj.cast(x, tj.int32)), (3, 3)),
    "sources": (lambda: [SOURCES[n]() for n in ("zeros", "ones", "fill", "eye", "range", "linspace")],),
    "gather": (lambda x: tj.gather(x, tj.range(3)), (3, 3)),
    "one_hot": (lambda x: tj.one_hot(tj.range(3), 3), (3, 3)),
    "sparse_ce": (lambda x: tj.nn.sparse_softmax_cross_entropy_with_logits(tj.range(3), x), (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_the_ordinary_path_is_not_taken(name, monkeypatch):
    f, *shapes = QUICK[name]
    args = [tj.constant(np.random.default_rng(k).normal(size=s).astype("f4")) for k, s in enumerate(shapes)]
    for _ in range(4):
        f(*args)

    def fail(op, *rest):
        raise AssertionError(f"{op} goes through the door")

    monkeypatch.setattr(Op, "door", staticmethod(fail))
    f(*args)


class Used(BaseException):
    pass


@pytest.fixture
def watched(monkeypatch):
    def fail(*args):
        raise Used

    monkeypatch.setattr(quick, "run_silently", fail)


def losses(x, w):
    y = tj.nn.softmax(tj.matmul(x, w, transpose_b=True))
    y = tj.einsum("ij,jk->ik", tj.concat([y, y], 0), w) + tj.reduce_mean(tj.gather(w, [0, 1, 2]), 0)
    return tj.reduce_sum(tj.sort(tj.nn.gelu(y)) * tj.reverse(tj.cumsum(y), [0]))


def test_nothing_is_quick_while_anything_listens(watched):
    x, w = (tj.constant(np.random.default_rng(k).normal(size=(3, 3))) for k in range(2))
    with pytest.raises(Used):
        losses(x, w)
    with tj.GradientTape() as tape:
        tape.watch(w)
        y = losses(x, w)
    with tj.GradientTape():
        gradient = tape.gradient(y, w)
    with tj.autodiff.ForwardAccumulator(w, tj.constant(np.ones((3, 3)))) as forward:
        y = losses(x, w)
    np.testing.assert_allclose(forward.jvp(y), np.sum(gradient.numpy()))
    traced = tj.function(losses)
    np.testing.assert_allclose(traced(x, w), y)


def test_a_tape_in_another_thread_is_heard_of(watched):
    inside, done = threading.Event(), threading.Event()

    def listens():
        with tj.GradientTape():
            inside.set()
            done.wait(20)

    thread = threading.Thread(target=listens)
    thread.start()
    assert inside.wait(20)
    try:
        tj.nn.softmax(tj.constant([1.0, 2.0]))
    finally:
        done.set()
        thread.join()


def test_traced_tensors_that_leak_are_refused():
    kept = []

    tj.function(lambda x: kept.append(x + 1.0), autograph=False)(tj.ones((3, 3)))
    for g in (tj.nn.softmax, tj.sort, tj.unstack, lambda t: tj.stack([t, t]), lambda t: tj.stack([t, t], 1), tj.where):
        for _ in range(4):
            with pytest.raises((tj.errors.LeakedTensorError, tj.errors.TracedValueError)):
                g(kept[0])


def test_results_begin_where_memory_of_tensors_begins():
    x = tj.constant(np.random.default_rng(0).normal(size=(3, 5)).astype("f4"))
    for f in [*UNARY.values(), *(lambda t, f=f: f() for f in SOURCES.values())]:
        for _ in range(4):
            try:
                r = f(x)
            except tj.errors.TracejitError:
                break
        else:
            for y in r if isinstance(r, (list, tuple)) else [r]:
                if y._a.flags.owndata and y._a.size:
                    assert y._a.__array_interface__["data"][0] % 64 == 0


def test_a_plan_holds_no_large_constants_and_plans_are_forgotten(monkeypatch):
    monkeypatch.setattr(quick, "_KINDS", 8)
    for n in range(30):
        for _ in range(4):
            tj.nn.softmax(tj.ones((n + 1,)))
            assert len(quick._plans) <= 8 and len(quick._counts) <= 8
    big = tj.ones((1 << 15,))
    for _ in range(4):
        tj.sequence_mask(big, 3)
        tj.nn.sparse_softmax_cross_entropy_with_logits(tj.zeros((1,), tj.int32), big[None])
    for plan, _ in quick._plans.values():
        held = [a for a in plan.__globals__.values() if isinstance(a, np.ndarray)]
        assert sum(a.nbytes for a in held) <= quick._CONSTANTS


@pytest.mark.parametrize("per", [2, 4])
@pytest.mark.skipif(eager.unsupported() is not None or sys.byteorder != "little", reason="NumPy draws here")
def test_random_words_in_native_code(per, monkeypatch):
    monkeypatch.setattr(philox, "NATIVE", {})
    row = {2: philox.philox64, 4: philox.philox32}[per].numpy
    rng = np.random.default_rng(0)
    numbers = [
        np.arange(100), rng.integers(0, 2**64, 300, np.uint64), np.arange(0), np.array(5), np.arange(60)[::-2],
        np.arange(60).reshape(5, 12)[:, ::3], np.arange(2 * philox.BLOCK + 3), np.repeat(np.arange(9), 3),
    ]  # fmt: skip
    cases = [
        (n.astype(np.uint64), np.array(key, np.uint64), np.array(stream, np.uint64))
        for n in numbers
        for key in (0, 0x123456789ABCDEF, 2**64 - 1)
        for stream in (0, 7, 2**63 + 5)
    ]
    want = [row(*case) for case in cases]
    assert drawing.activate()
    assert set(philox.NATIVE) == {2, 4}
    for case, y in zip(cases, want, strict=True):
        z = row(*case)
        assert z.dtype == y.dtype and z.shape == y.shape and z.tobytes() == y.tobytes()


def test_draws_are_the_same_in_native_code(monkeypatch):
    def draws():
        g = tj.random.Generator(3)
        return [shown(g.normal((5, 3))), shown(g.uniform((7,), dtype="float64")), shown(g.uniform([2], 0, 9, "int32"))]

    monkeypatch.setattr(philox, "NATIVE", {})
    before = draws()
    drawing.activate()
    assert all(draws() == before for _ in range(4))
