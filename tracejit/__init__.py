"""A JIT-compiling tracer: eager tensors, gradients, and functions that become fused native code."""

import gc
import importlib
import typing

import tracejit.eagerplans  # makes functions native in programs that call them much
import tracejit.largetransforms  # makes transforms of large arrays native
import tracejit.ops.assign  # gives slices of Variables their methods
import tracejit.ops.fourier  # gives NumPy's Fourier transforms their meaning on tensors
import tracejit.ops.numpy_api  # gives NumPy's functions their meaning on tensors
import tracejit.ops.rows  # gives Variables their scatter methods
import tracejit.publicnames  # names what users call in errors
import tracejit.runtime.drawing  # makes random numbers native in programs that draw many
import tracejit.runtime.eager  # makes operators native in programs that use them much
import tracejit.runtime.formulas  # and functions that NumPy has no ufunc for
from tracejit import autodiff, autograph, bitwise, debugging, dtypes, errors, linalg, math, nn, random
from tracejit.arguments import TensorSpec
from tracejit.autodiff.batching import vectorized_map, vmap
from tracejit.autodiff.functional import hessian, hvp, jacobian, jvp, vjp
from tracejit.autodiff.recompute import recompute_grad
from tracejit.autodiff.tape import GradientTape, UnconnectedGradients
from tracejit.autodiff.transforms import custom_gradient
from tracejit.benchmark import benchmark
from tracejit.config import config, debug
from tracejit.debugging import Assert, assert_equal, assert_greater, assert_less, assert_rank
from tracejit.framework import (
    control_dependencies,
    device,
    executing_eagerly,
    get_static_value,
    grad_pass_through,
    group,
    inside_function,
    is_symbolic_tensor,
    name_scope,
    no_op,
    tuple,
)
from tracejit.function import Function, function
from tracejit.ir.types import (
    DType,
    as_dtype,
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from tracejit.ir.types import bool_ as bool
from tracejit.ir.types import float16 as half
from tracejit.ir.types import float64 as double
from tracejit.module import Module
from tracejit.ops.array import (
    broadcast_static_shape,
    broadcast_to,
    concat,
    expand_dims,
    meshgrid,
    pad,
    rank,
    repeat,
    reshape,
    reverse,
    roll,
    shape,
    size,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unstack,
)
from tracejit.ops.bits import bitcast
from tracejit.ops.creation import (
    cast,
    constant,
    convert_to_tensor,
    eye,
    fill,
    from_dlpack,
    identity,
    linspace,
    one_hot,
    ones,
    ones_like,
    range,
    saturate_cast,
    stop_gradient,
    zeros,
    zeros_like,
)
from tracejit.ops.einsum import einsum
from tracejit.ops.flow import case, cond, foldl, foldr, map_fn, scan, switch_case, while_loop
from tracejit.ops.getitem import slice_ as slice
from tracejit.ops.getitem import strided_slice
from tracejit.ops.host import print
from tracejit.ops.linalg import clip_by_global_norm, clip_by_norm, matmul, norm, tensordot
from tracejit.ops.math import (
    abs,
    acos,
    acosh,
    add,
    add_n,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    clip_by_value,
    complex,
    cos,
    cosh,
    divide,
    equal,
    exp,
    floor,
    floordiv,
    floormod,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    pow,
    realdiv,
    round,
    scalar_mul,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    truediv,
    truncatediv,
    truncatemod,
)
from tracejit.ops.partition import (
    broadcast_dynamic_shape,
    dynamic_partition,
    dynamic_stitch,
    ensure_shape,
    identity_n,
    parallel_stack,
    required_space_to_batch_paddings,
    reverse_sequence,
    shape_n,
)
from tracejit.ops.pool import batch_to_space, space_to_batch
from tracejit.ops.pyfunction import numpy_function, py_function
from tracejit.ops.reductions import (
    argmax,
    argmin,
    cumsum,
    reduce_all,
    reduce_any,
    reduce_logsumexp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from tracejit.ops.searching import searchsorted, unique, unique_with_counts, unravel_index
from tracejit.ops.segments import histogram_fixed_width, histogram_fixed_width_bins
from tracejit.ops.select import (
    argsort,
    boolean_mask,
    gather,
    gather_nd,
    scatter_nd,
    sequence_mask,
    sort,
    tensor_scatter_nd_add,
    tensor_scatter_nd_max,
    tensor_scatter_nd_min,
    tensor_scatter_nd_sub,
    tensor_scatter_nd_update,
    where,
)
from tracejit.ops.tensor_array import TensorArray
from tracejit.runtime.threads import get_threads, set_threads, threads
from tracejit.slices import IndexedSlices
from tracejit.tensor import Tensor, TensorShape, Variable, is_tensor

if typing.TYPE_CHECKING:
    from tracejit import mixed_precision, nest, optimizers, signal, sparse, train
    from tracejit.linalg import eig, eigvals
    from tracejit.linalg import sqrtm as matrix_square_root
    from tracejit.ops.decoding import edit_distance
    from tracejit.ops.evenly import random_index_shuffle
    from tracejit.ops.rarelayers import extract_volume_patches
    from tracejit.ops.sparse import SparseTensor
    from tracejit.signal import fftnd, ifftnd, irfftnd, rfftnd

newaxis = None
space_to_batch_nd = space_to_batch
errors.show_user_frames_only()
tracejit.runtime.eager.imported()

# Loaded when they are first asked for, so that `import tracejit` stays quick
_LATER: typing.Final = ("mixed_precision", "nest", "optimizers", "signal", "sparse", "train")
_ELSEWHERE: typing.Final = {
    "edit_distance": "ops.decoding", "eig": "linalg", "eigvals": "linalg", "extract_volume_patches": "ops.rarelayers",
    "fftnd": "signal", "ifftnd": "signal", "irfftnd": "signal", "matrix_square_root": "linalg",
    "random_index_shuffle": "ops.evenly", "rfftnd": "signal", "SparseTensor": "ops.sparse",
}  # fmt: skip


def __getattr__(name: str) -> typing.Any:
    if name in _LATER:
        return importlib.import_module(f"tracejit.{name}")
    if name in _ELSEWHERE:
        place = importlib.import_module(f"tracejit.{_ELSEWHERE[name]}")
        globals()[name] = getattr(place, "sqrtm" if name == "matrix_square_root" else name)
        return globals()[name]
    raise AttributeError(f"module 'tracejit' has no attribute {name!r}")


__all__ = [
    "abs", "acos", "acosh", "add", "add_n", "argmax", "argmin", "argsort", "as_dtype", "asin", "asinh", "Assert",
    "assert_equal", "assert_greater", "assert_less", "assert_rank", "atan", "atan2", "atanh", "autodiff", "autograph",
    "batch_to_space", "benchmark", "bfloat16", "bitcast", "bitwise", "bool", "boolean_mask",
    "broadcast_dynamic_shape", "broadcast_static_shape", "broadcast_to", "case", "cast", "ceil",
    "clip_by_global_norm", "clip_by_norm", "clip_by_value", "complex", "complex128", "complex64", "concat", "cond",
    "config", "constant", "control_dependencies", "convert_to_tensor", "cos", "cosh", "cumsum", "custom_gradient",
    "debug", "debugging", "device", "divide", "double", "DType", "dtypes", "dynamic_partition", "dynamic_stitch",
    "edit_distance", "eig", "eigvals", "einsum", "ensure_shape", "equal", "errors", "executing_eagerly", "exp",
    "expand_dims", "extract_volume_patches", "eye", "fftnd", "fill", "float16", "float32", "float64", "floor",
    "floordiv", "floormod", "foldl", "foldr", "from_dlpack", "function", "Function", "gather", "gather_nd",
    "get_static_value", "get_threads", "grad_pass_through", "GradientTape", "greater", "greater_equal", "group",
    "half", "hessian", "histogram_fixed_width", "histogram_fixed_width_bins", "hvp", "identity", "identity_n",
    "ifftnd", "IndexedSlices", "inside_function", "int16", "int32", "int64", "int8", "irfftnd", "is_symbolic_tensor",
    "is_tensor", "jacobian", "jvp", "less", "less_equal", "linalg", "linspace", "logical_and", "logical_not",
    "logical_or", "map_fn", "math", "matmul", "matrix_square_root", "maximum", "meshgrid", "minimum",
    "mixed_precision", "Module", "multiply", "name_scope", "negative", "nest", "newaxis", "nn", "no_op", "norm",
    "not_equal", "numpy_function", "one_hot", "ones", "ones_like", "optimizers", "pad", "parallel_stack", "pow",
    "print", "py_function", "random", "random_index_shuffle", "range", "rank", "realdiv", "recompute_grad",
    "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod",
    "reduce_sum", "repeat", "required_space_to_batch_paddings", "reshape", "reverse", "reverse_sequence", "rfftnd",
    "roll", "round", "saturate_cast", "scalar_mul", "scan", "scatter_nd", "searchsorted", "sequence_mask",
    "set_threads", "shape", "shape_n", "sigmoid", "sign", "signal", "sin", "sinh", "size", "slice", "sort",
    "space_to_batch", "space_to_batch_nd", "sparse", "SparseTensor", "split", "sqrt", "square", "squeeze", "stack",
    "stop_gradient", "strided_slice", "subtract", "switch_case", "tan", "tanh", "Tensor", "tensor_scatter_nd_add",
    "tensor_scatter_nd_max", "tensor_scatter_nd_min", "tensor_scatter_nd_sub", "tensor_scatter_nd_update",
    "TensorArray", "tensordot", "TensorShape", "TensorSpec", "threads", "tile", "train", "transpose", "truediv",
    "truncatediv", "truncatemod", "tuple", "uint16", "uint32", "uint64", "uint8", "UnconnectedGradients", "unique",
    "unique_with_counts", "unravel_index", "unstack", "Variable", "vectorized_map", "vjp", "vmap", "where",
    "while_loop", "zeros", "zeros_like",
]  # fmt: skip

if gc.get_freeze_count() < 1000:  # what a user has frozen stays so; Python 3.12 itself freezes some hundred objects
    # What the import has made counts as old: no first call waits until the collector has gone through all of it.
    gc.freeze()
    gc.unfreeze()
