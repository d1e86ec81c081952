"""`tracejit.math`: functions of numbers, under TensorFlow's names."""

import importlib
import typing

from tracejit.ops.linalg import l2_normalize
from tracejit.ops.math import (
    abs,
    accumulate_n,
    acos,
    acosh,
    add,
    add_n,
    angle,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    conj,
    cos,
    cosh,
    divide,
    divide_no_nan,
    equal,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    floor,
    floordiv,
    floormod,
    greater,
    greater_equal,
    imag,
    is_finite,
    is_inf,
    is_nan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    log_sigmoid,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    multiply_no_nan,
    ndtri,
    negative,
    not_equal,
    polyval,
    pow,
    real,
    reciprocal,
    rint,
    round,
    rsqrt,
    scalar_mul,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    squared_difference,
    subtract,
    tan,
    tanh,
    truediv,
    trunc,
    truncatediv,
    truncatemod,
    xdivy,
    xlog1py,
    xlogy,
)
from tracejit.ops.nn import in_top_k, log_softmax, softmax, softsign, zero_fraction
from tracejit.ops.reductions import (
    argmax,
    argmin,
    count_nonzero,
    cumprod,
    cumsum,
    cumulative_logsumexp,
    is_non_decreasing,
    is_strictly_increasing,
    reduce_all,
    reduce_any,
    reduce_euclidean_norm,
    reduce_logsumexp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_std,
    reduce_sum,
    reduce_variance,
)
from tracejit.ops.searching import invert_permutation
from tracejit.ops.segments import (
    bincount,
    confusion_matrix,
    segment_max,
    segment_mean,
    segment_min,
    segment_prod,
    segment_sum,
    unsorted_segment_max,
    unsorted_segment_mean,
    unsorted_segment_min,
    unsorted_segment_prod,
    unsorted_segment_sqrt_n,
    unsorted_segment_sum,
)
from tracejit.ops.select import top_k

if typing.TYPE_CHECKING:
    from tracejit import special
    from tracejit.ops.evenly import (
        sobol_sample,
    )
    from tracejit.ops.nearly import (
        approx_max_k,
        approx_min_k,
    )
    from tracejit.ops.specialmath import (
        bessel_i0,
        bessel_i0e,
        bessel_i1,
        bessel_i1e,
        betainc,
        digamma,
        erfcinv,
        igamma,
        igammac,
        lbeta,
        lgamma,
        nextafter,
        polygamma,
        reciprocal_no_nan,
        zeta,
    )

# Loaded when they are first asked for, so that `import tracejit` stays quick
_LATER: typing.Final = {
    "evenly": ("sobol_sample",),
    "nearly": ("approx_max_k", "approx_min_k"),
    "specialmath": (
        "bessel_i0", "bessel_i0e", "bessel_i1", "bessel_i1e", "betainc", "digamma", "erfcinv", "igamma", "igammac",
        "lbeta", "lgamma", "nextafter", "polygamma", "reciprocal_no_nan", "zeta",
    ),
}  # fmt: skip


def __getattr__(name: str) -> typing.Any:
    if name == "special":
        globals()[name] = importlib.import_module("tracejit.special")
        return globals()[name]
    for file, names in _LATER.items():
        if name in names:
            globals()[name] = getattr(importlib.import_module(f"tracejit.ops.{file}"), name)
            return globals()[name]
    raise AttributeError(f"module 'tracejit.math' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "abs", "accumulate_n", "acos", "acosh", "add", "add_n", "angle", "approx_max_k", "approx_min_k", "argmax", "argmin",
    "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0", "bessel_i0e", "bessel_i1", "bessel_i1e", "betainc",
    "bincount", "ceil", "confusion_matrix", "conj", "cos", "cosh", "count_nonzero", "cumprod", "cumsum",
    "cumulative_logsumexp", "digamma", "divide", "divide_no_nan", "equal", "erf", "erfc", "erfcinv", "erfinv", "exp",
    "exp2", "expm1", "floor", "floordiv", "floormod", "greater", "greater_equal", "igamma", "igammac", "imag",
    "in_top_k", "invert_permutation", "is_finite", "is_inf", "is_nan", "is_non_decreasing", "is_strictly_increasing",
    "l2_normalize", "lbeta", "less", "less_equal", "lgamma", "log", "log10", "log1p", "log2", "log_sigmoid",
    "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "mod",
    "multiply", "multiply_no_nan", "ndtri", "negative", "nextafter", "not_equal", "polygamma", "polyval", "pow", "real",
    "reciprocal", "reciprocal_no_nan", "reduce_all", "reduce_any", "reduce_euclidean_norm", "reduce_logsumexp",
    "reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_std", "reduce_sum", "reduce_variance", "rint",
    "round", "rsqrt", "scalar_mul", "segment_max", "segment_mean", "segment_min", "segment_prod", "segment_sum",
    "sigmoid", "sign", "sin", "sinh", "sobol_sample", "softmax", "softplus", "softsign", "special", "sqrt", "square",
    "squared_difference", "subtract", "tan", "tanh", "top_k", "truediv", "trunc", "truncatediv", "truncatemod",
    "unsorted_segment_max", "unsorted_segment_mean", "unsorted_segment_min", "unsorted_segment_prod",
    "unsorted_segment_sqrt_n", "unsorted_segment_sum", "xdivy", "xlog1py", "xlogy", "zero_fraction", "zeta",
]  # fmt: skip
