"""A JIT-compiling tracer: eager tensors, gradients, and functions that become fused native code."""

import importlib
import typing

import tracejit.ops.assign  # gives slices of Variables their methods
import tracejit.ops.numpy_api  # gives NumPy's functions their meaning on tensors
import tracejit.ops.rows  # gives Variables their scatter methods
import tracejit.publicnames  # names what users call in errors
import tracejit.runtime.eager  # makes operators native in programs that use them much
from tracejit import autodiff, autograph, bitwise, debugging, dtypes, errors, linalg, math, nn, random
from tracejit.autodiff.batching import vectorized_map, vmap
from tracejit.autodiff.functional import hessian, hvp, jacobian, jvp, vjp
from tracejit.autodiff.recompute import recompute_grad
from tracejit.autodiff.tape import GradientTape, UnconnectedGradients
from tracejit.autodiff.transforms import custom_gradient
from tracejit.benchmark import benchmark
from tracejit.config import config, debug
from tracejit.function import Function, TensorSpec, function
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
from tracejit.ops.creation import (
    cast,
    constant,
    convert_to_tensor,
    eye,
    fill,
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
from tracejit.ops.host import numpy_function, print, py_function
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
    round,
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
)
from tracejit.ops.pool import batch_to_space, space_to_batch
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
from tracejit.ops.select import (
    argsort,
    boolean_mask,
    gather,
    gather_nd,
    scatter_nd,
    sequence_mask,
    sort,
    tensor_scatter_nd_add,
    tensor_scatter_nd_update,
    where,
)
from tracejit.ops.tensor_array import TensorArray
from tracejit.runtime.threads import get_threads, set_threads, threads
from tracejit.slices import IndexedSlices
from tracejit.tensor import Tensor, TensorShape, Variable, is_tensor

newaxis = None
space_to_batch_nd = space_to_batch
errors.show_user_frames_only()
tracejit.runtime.eager.imported()

# Loaded when they are first asked for, so that `import tracejit` stays quick
_LATER: tuple[str, ...] = ()


def __getattr__(name: str) -> typing.Any:
    if name in _LATER:
        return importlib.import_module(f"tracejit.{name}")
    raise AttributeError(f"module 'tracejit' has no attribute {name!r}")


__all__ = [
    "abs", "acos", "acosh", "add", "add_n", "argmax", "argmin", "argsort", "as_dtype", "asin", "asinh", "atan", "atan2",
    "atanh", "autodiff", "autograph", "batch_to_space", "benchmark", "bfloat16", "bitwise", "bool", "boolean_mask",
    "broadcast_static_shape", "broadcast_to", "case", "cast", "ceil", "clip_by_global_norm", "clip_by_norm",
    "clip_by_value", "complex", "complex128", "complex64", "concat", "cond", "config", "constant", "convert_to_tensor",
    "cos", "cosh", "cumsum", "custom_gradient", "debug", "debugging", "divide", "DType", "dtypes", "einsum", "equal",
    "errors", "exp", "expand_dims", "eye", "fill", "float16", "float32", "float64", "floor", "floordiv", "floormod",
    "foldl", "foldr", "Function", "function", "gather", "gather_nd", "get_threads", "GradientTape", "greater",
    "greater_equal", "hessian", "hvp", "identity", "IndexedSlices", "int16", "int32", "int64", "int8",
    "is_tensor", "jacobian", "jvp", "less", "less_equal", "linalg",
    "linspace", "logical_and", "logical_not", "logical_or", "map_fn", "math", "matmul", "maximum", "meshgrid",
    "minimum", "multiply", "negative", "newaxis", "nn", "norm", "not_equal", "numpy_function", "one_hot", "ones",
    "ones_like", "pad", "pow", "print", "py_function", "random", "range", "rank", "recompute_grad", "reduce_all",
    "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "repeat",
    "reshape",
    "reverse", "roll", "round", "saturate_cast", "scan", "scatter_nd", "sequence_mask", "set_threads", "shape",
    "sigmoid", "sign", "sin", "sinh", "size", "slice", "sort", "space_to_batch",
    "space_to_batch_nd", "split", "sqrt", "square", "squeeze", "stack",
    "stop_gradient", "strided_slice", "subtract", "switch_case", "tan", "tanh", "Tensor", "tensor_scatter_nd_add",
    "tensor_scatter_nd_update", "TensorArray", "tensordot", "TensorShape", "TensorSpec", "threads", "tile", "transpose",
    "truediv", "uint16", "uint32", "uint64", "uint8", "UnconnectedGradients", "unstack", "Variable", "vectorized_map",
    "vjp", "vmap", "where", "while_loop", "zeros", "zeros_like",
]  # fmt: skip
