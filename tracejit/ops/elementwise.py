"""Elementwise ops, one row each: NumPy's kernel, the scalar form, the partial derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import DTypeError
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import DType, TensorType, broadcast_shapes
from tracejit.ops import kernels as K
from tracejit.ops.define import elementwise, sum_to
from tracejit.ops.frequent import count
from tracejit.tensor import Tensor

POS = (0.1, 4.0)
UNIT = (-0.9, 0.9)
F: dict[str, Any] = {"promote": "float", "dtypes": "f"}
FC: dict[str, Any] = {"promote": "float", "dtypes": "fc"}

# --- copies -------------------------------------------------------------------------------------------------------
identity: Op = elementwise(
    "identity", lambda x: x, lambda m, x: x, lambda y, x: (1.0,), promote="none", dtypes="biufc", doc="x itself."
)
stop_gradient: Op = elementwise(
    "stop_gradient", lambda x: x, lambda m, x: x, promote="none", dtypes="biufc", doc="x, taken as a constant by gradients."
)

assigned = elementwise(
    "assigned", lambda x, v: np.broadcast_to(x, np.broadcast_shapes(x.shape, v.shape)), lambda m, x, v: x, lambda y, x, v: (None, 1.0), arity=2, promote="none", dtypes="fc",
    doc="x, read from a Variable that it was assigned to and that had the value v before: gradients go to v, not to x.",
)  # fmt: skip


def _cast_infer(x: TensorType, *, dtype: DType, weak: bool = False) -> TensorType:
    return TensorType(dtype, x.shape, weak)


def _cast_vjp(g: Tensor, y: Tensor, x: Tensor, *, dtype: DType, weak: bool = False) -> tuple:
    if x.dtype.kind not in "fc" or dtype.kind not in "fc":
        return (None,)
    if dtype.kind == "c" and x.dtype.kind == "f":
        g = real(g)
    return (cast(g, dtype=x.dtype),)


def _cast_jvp(t: tuple, y: Tensor, x: Tensor, *, dtype: DType, weak: bool = False) -> Any:
    return cast(t[0], dtype=dtype) if dtype.kind in "fc" and t[0] is not None else None


cast: Op = Op(
    "cast", "elementwise", _cast_infer, K.cast, vjp=_cast_vjp, jvp=_cast_jvp, dtypes="biufc", result="cast",
    scalar=lambda m, x, *, dtype, weak=False: m.cast(x, dtype), doc="x with another element type.", linear=True,
)  # fmt: skip

# --- arithmetic ---------------------------------------------------------------------------------------------------
add: Op = elementwise(
    "add", np.add, "add", lambda y, a, b: (1.0, 1.0), arity=2, dtypes="biufc", operator="__add__ __radd__",
    np_names="add", special="commutative associative", doc="a + b.",
)  # fmt: skip
sub: Op = elementwise(
    "sub", np.subtract, "sub", lambda y, a, b: (1.0, -1.0), arity=2, dtypes="iufc", operator="__sub__ __rsub__",
    np_names="subtract", doc="a − b.",
)  # fmt: skip
mul: Op = elementwise(
    "mul", np.multiply, "mul", lambda y, a, b: (b, a), arity=2, dtypes="biufc", operator="__mul__ __rmul__",
    np_names="multiply", special="commutative associative", doc="a · b.",
)  # fmt: skip
multiply_no_nan: Op = elementwise(
    "multiply_no_nan", K.multiply_no_nan, lambda m, x, y: m.select(m.eq(y, m.const(0, y.dtype)), m.const(0, y.dtype), m.mul(x, y)),
    lambda y, a, b: (b, a), arity=2, dtypes="iufc", doc="a · b, and 0 where b is 0 even if a is not finite.",
)  # fmt: skip


def _multiply_no_nan_jvp(t: tuple, y: Tensor, a: Tensor, b: Tensor) -> Any:
    first = None if t[0] is None else multiply_no_nan(t[0], b)
    if t[1] is None:
        return first
    second = multiply_no_nan(a, t[1])
    return second if first is None else first + second


multiply_no_nan.jvp = _multiply_no_nan_jvp
div: Op = elementwise(
    "div", np.true_divide, "div", lambda y, a, b: (1.0 / b, -y / b), arity=2, domain=POS, singular=True,
    operator="__truediv__ __rtruediv__", np_names="true_divide divide", doc="a / b; integers give floating quotients.", **FC,
)  # fmt: skip
floordiv: Op = elementwise(
    "floordiv", np.floor_divide, "floordiv", arity=2, dtypes="iuf", domain=(1.0, 9.0),
    operator="__floordiv__ __rfloordiv__", np_names="floor_divide", doc="⌊a / b⌋; an integer divided by 0 gives 0.",
)  # fmt: skip
floormod: Op = elementwise(
    "floormod", np.mod, "floormod", lambda y, a, b: (1.0, -cast(a // b, dtype=b.dtype)), arity=2, dtypes="iuf",
    domain=(1.0, 9.0), operator="__mod__ __rmod__", np_names="remainder mod", doc="a − b⌊a / b⌋, with the sign of b.",
)  # fmt: skip
truncdiv: Op = elementwise(
    "truncdiv", lambda a, b: K.truncdiv(a, b) if a.dtype.kind in "iu" else _trunc_quotient(a, b), "truncdiv", arity=2, dtypes="iuf", domain=(1, 9),
    doc="a / b towards zero; an integer divided by 0 gives 0.",
)  # fmt: skip
truncmod: Op = elementwise(
    "truncmod", np.fmod, "fmod", lambda y, a, b: (1.0, -trunc(a / b)), arity=2, dtypes="iuf", domain=(1.0, 9.0),
    np_names="fmod", doc="The rest of a / b with the sign of a.",
)  # fmt: skip
neg: Op = elementwise(
    "neg", np.negative, "neg", lambda y, x: (-1.0,), dtypes="iufc", operator="__neg__", np_names="negative", doc="−x."
)
abs_: Op = elementwise(
    "abs", np.abs, "abs", lambda y, x: (sign(x),), dtypes="biufc", operator="__abs__", np_names="absolute fabs",
    doc="|x|; of complex numbers it is real.",
)  # fmt: skip


def _abs_infer(x: TensorType, *, of_reals: Any = abs_.infer) -> TensorType:
    return TensorType(K.real_dtype(x.dtype), x.shape) if x.dtype.kind == "c" else of_reals(x)


def _abs_vjp(g: Tensor, y: Tensor, x: Tensor, *, of_reals: Any = abs_.vjp) -> tuple:
    if x.dtype.kind != "c":
        return of_reals(g, y, x)
    return (cast(g / where(equal(y, 0), 1.0, y), dtype=x.dtype) * x,)


def _abs_jvp(t: tuple, y: Tensor, x: Tensor, *, of_reals: Any = abs_.jvp) -> Any:
    if x.dtype.kind != "c":
        return of_reals(t, y, x)
    return real(conj(x) * t[0]) / where(equal(y, 0), 1.0, y)


abs_.infer, abs_.vjp, abs_.jvp = _abs_infer, _abs_vjp, _abs_jvp
sign: Op = elementwise(
    "sign", np.sign, "sign", lambda y, x: (0.0,), dtypes="iufc", np_names="sign",
    doc="−1, 0 or 1; NaN stays; its slope is 0. Of complex numbers x / |x|, and 0 of 0.",
)  # fmt: skip


def _sign_vjp(g: Tensor, y: Tensor, x: Tensor, *, of_reals: Any = sign.vjp) -> tuple:
    return (_sign_jvp((g,), y, x),) if x.dtype.kind == "c" else of_reals(g, y, x)


def _sign_jvp(t: tuple, y: Tensor, x: Tensor, *, of_reals: Any = sign.jvp) -> Any:
    if x.dtype.kind != "c":
        return of_reals(t, y, x)
    size = abs_(x)  # what is left of the direction across x
    across = t[0] - y * cast(real(conj(y) * t[0]), dtype=x.dtype)
    return multiply_no_nan(1.0 / cast(where(equal(size, 0), 1.0, size), dtype=x.dtype), across)


sign.vjp, sign.jvp = _sign_vjp, _sign_jvp
copysign: Op = elementwise(
    "copysign", np.copysign, "copysign", lambda y, a, b: (sign(a) * copysign(1.0, b), None), arity=2, np_names="copysign",
    doc="|a| with the sign of b.", **F,
)  # fmt: skip
square: Op = elementwise("square", np.square, "square", lambda y, x: (x + x,), dtypes="iufc", np_names="square", doc="x².")
reciprocal: Op = elementwise(
    "reciprocal", np.reciprocal, "reciprocal", lambda y, x: (-(y * y),), domain=POS, singular=True,
    np_names="reciprocal", doc="1 / x.", **FC,
)  # fmt: skip
sqrt: Op = elementwise(
    "sqrt", np.sqrt, "sqrt", lambda y, x: (0.5 / y,), domain=POS, singular=True, np_names="sqrt", doc="√x.", **FC
)
rsqrt: Op = elementwise(
    "rsqrt", K.rsqrt, "rsqrt", lambda y, x: (-0.5 * (y / x),), domain=POS, singular=True, doc="1 / √x.", **FC
)
maximum: Op = elementwise(
    "maximum", np.maximum, "maximum", lambda y, a, b: _ties(a >= b, a == b, y), arity=2, np_names="maximum",
    special="commutative associative idempotent", doc="The larger; NaN if either is. At a tie each gets half the gradient.",
)  # fmt: skip
minimum: Op = elementwise(
    "minimum", np.minimum, "minimum", lambda y, a, b: _ties(a <= b, a == b, y), arity=2, np_names="minimum",
    special="commutative associative idempotent", doc="The smaller; NaN if either is. At a tie each gets half the gradient.",
)  # fmt: skip
pow_: Op = elementwise(
    "pow", K.power, "pow", lambda y, a, b: _pow_partials(y, a, b), arity=2, dtypes="iufc", domain=((0.2, 3.0), (-2.0, 2.0)),
    singular=True, operator="__pow__ __rpow__", np_names="power float_power",
    doc="a to the power b. Where a ≤ 0, the slope along b counts as 0; that along a is 0 for b = 0.",
)  # fmt: skip
atan2: Op = elementwise(
    "atan2", np.arctan2, "atan2", lambda y, a, b: _angle_partials(a, b), arity=2, domain=POS, singular=True,
    np_names="arctan2", doc="The angle of the point (b, a), in radians. Its slopes at the origin count as 0.", **F,
)  # fmt: skip


def _trunc_quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.itemsize > 2:
        return np.trunc(np.true_divide(a, b))
    q = np.trunc(np.true_divide(a.astype(np.float32), b.astype(np.float32)))  # rounding must not come before trunc
    return q.astype(a.dtype)


def _ties(first: Tensor, tie: Tensor, y: Tensor) -> tuple:
    one = cast(first, dtype=y.dtype)
    half = cast(tie, dtype=y.dtype) * 0.5
    return (one - half, 1.0 - one + half)


def _angle_partials(a: Tensor, b: Tensor) -> tuple:
    size = where(logical_and(equal(a, 0), equal(b, 0)), 1.0, a * a + b * b)
    return (b / size, -a / size)


def _pow_partials(y: Tensor, a: Tensor, b: Tensor) -> tuple:
    safe = where(a > 0, a, 1.0) if a.dtype.kind == "f" else where(not_equal(a, 0), a, 1.0)
    return (multiply_no_nan(pow_(a, b - 1), b), y * log(safe))


# --- exponentials and logarithms ------------------------------------------------------------------------------------
exp: Op = elementwise("exp", np.exp, "exp", lambda y, x: (y,), singular=True, np_names="exp", doc="eˣ.", **FC)
exp2: Op = elementwise(
    "exp2", np.exp2, "exp2", lambda y, x: (y * 0.6931471805599453,), singular=True, np_names="exp2", doc="2ˣ.", **FC
)
expm1: Op = elementwise("expm1", np.expm1, "expm1", lambda y, x: (y + 1.0,), singular=True, np_names="expm1", doc="eˣ − 1.", **FC)
log: Op = elementwise(
    "log", np.log, "log", lambda y, x: (1.0 / x,), domain=POS, singular=True, np_names="log", doc="The natural logarithm.", **FC
)
log2: Op = elementwise(
    "log2", np.log2, "log2", lambda y, x: (1.4426950408889634 / x,), domain=POS, singular=True, np_names="log2",
    doc="The logarithm to base 2.", **FC,
)  # fmt: skip
log10: Op = elementwise(
    "log10", np.log10, "log10", lambda y, x: (0.4342944819032518 / x,), domain=POS, singular=True, np_names="log10",
    doc="The logarithm to base 10.", **FC,
)  # fmt: skip
log1p: Op = elementwise(
    "log1p", np.log1p, "log1p", lambda y, x: (1.0 / (x + 1.0),), domain=UNIT, singular=True, np_names="log1p",
    doc="log(1 + x), accurate near 0.", **FC,
)  # fmt: skip

# --- trigonometry and hyperbolas ------------------------------------------------------------------------------------
sin: Op = elementwise("sin", np.sin, "sin", lambda y, x: (cos(x),), np_names="sin", doc="sin x, x in radians.", **FC)
cos: Op = elementwise("cos", np.cos, "cos", lambda y, x: (-sin(x),), np_names="cos", doc="cos x, x in radians.", **FC)
tan: Op = elementwise("tan", np.tan, "tan", lambda y, x: (y * y + 1.0,), domain=(-1.2, 1.2), np_names="tan", doc="tan x.", **FC)
asin: Op = elementwise(
    "asin", np.arcsin, "asin", lambda y, x: (rsqrt(1.0 - x * x),), domain=UNIT, singular=True, np_names="arcsin",
    doc="The angle whose sine is x.", **FC,
)  # fmt: skip
acos: Op = elementwise(
    "acos", np.arccos, "acos", lambda y, x: (-rsqrt(1.0 - x * x),), domain=UNIT, singular=True, np_names="arccos",
    doc="The angle whose cosine is x.", **FC,
)  # fmt: skip
atan: Op = elementwise(
    "atan", np.arctan, "atan", lambda y, x: (1.0 / (x * x + 1.0),), np_names="arctan", doc="The angle whose tangent is x.", **FC
)
sinh: Op = elementwise("sinh", np.sinh, "sinh", lambda y, x: (cosh(x),), singular=True, np_names="sinh", doc="sinh x.", **FC)
cosh: Op = elementwise("cosh", np.cosh, "cosh", lambda y, x: (sinh(x),), singular=True, np_names="cosh", doc="cosh x.", **FC)
tanh: Op = elementwise("tanh", np.tanh, "tanh", lambda y, x: (1.0 - y * y,), np_names="tanh", doc="tanh x.", **FC)
asinh: Op = elementwise(
    "asinh", np.arcsinh, "asinh", lambda y, x: (rsqrt(x * x + 1.0),), np_names="arcsinh", doc="The inverse of sinh.", **FC
)
acosh: Op = elementwise(
    "acosh", np.arccosh, "acosh", lambda y, x: (rsqrt(x - 1.0) * rsqrt(x + 1.0),), domain=(1.2, 4.0), singular=True,
    np_names="arccosh", doc="The inverse of cosh.", **FC,
)  # fmt: skip
atanh: Op = elementwise(
    "atanh", np.arctanh, "atanh", lambda y, x: (1.0 / (1.0 - x * x),), domain=UNIT, singular=True, np_names="arctanh",
    doc="The inverse of tanh.", **FC,
)  # fmt: skip

# --- functions of neural networks -----------------------------------------------------------------------------------
def of_reals(kernel: Any) -> Any:
    """A kernel that would give complex numbers a result, and a wrong one."""

    def run(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "c":
            raise TypeError("complex operand")  # the row's types explain it
        return kernel(x)

    return run


sigmoid: Op = elementwise("sigmoid", K.sigmoid, "sigmoid", lambda y, x: (y * (1.0 - y),), doc="1 / (1 + e⁻ˣ).", **FC)
softplus: Op = elementwise("softplus", of_reals(K.softplus), "softplus", lambda y, x: (sigmoid(x),), doc="log(1 + eˣ).", **F)
relu: Op = elementwise(
    "relu", K.relu, lambda m, x: m.maximum(x, m.const(0, x.dtype)),
    lambda y, x: (cast(y > 0, dtype=x.dtype),), dtypes="iuf", doc="max(x, 0); its slope at 0 is 0.",
)  # fmt: skip
erf: Op = elementwise(
    "erf", of_reals(K.erf), "erf", lambda y, x: (1.1283791670955126 * exp(-(x * x)),), doc="The error function.", **F
)
erfc: Op = elementwise(
    "erfc", of_reals(K.erfc), "erfc", lambda y, x: (-1.1283791670955126 * exp(-(x * x)),), doc="1 − erf x, accurate for large x.", **F
)
logaddexp: Op = elementwise(
    "logaddexp", np.logaddexp, lambda m, x, y: _log_of_sum(m, x, y), lambda y, a, b: _shares_of_sum(a, b), arity=2,
    np_names="logaddexp", special="commutative", doc="log(eˣ + eʸ) without overflow.", **F,
)  # fmt: skip

for _op in (sigmoid, softplus, erf, erfc):
    count(_op)


def _log_of_sum(m: Any, x: Any, y: Any) -> Any:
    high, low = m.maximum(x, y), m.minimum(x, y)
    gap = m.select(m.eq(high, low), m.const(0.0, x.dtype), m.sub(low, high))  # of infinities it would be NaN
    return m.add(high, m.softplus(gap))


def _shares_of_sum(a: Tensor, b: Tensor) -> tuple:
    """Equal infinities share alike."""
    gap = where(logical_and(isinf(a), equal(a, b)), 0.0, a - b)
    return (lambda: sigmoid(gap), lambda: sigmoid(-gap))


# --- rounding -------------------------------------------------------------------------------------------------------
floor: Op = elementwise("floor", np.floor, "floor", None, np_names="floor", dtypes="biuf", doc="The largest integer ≤ x.")
ceil: Op = elementwise("ceil", np.ceil, "ceil", None, np_names="ceil", dtypes="biuf", doc="The smallest integer ≥ x.")
round_: Op = elementwise("round", np.rint, "round", None, np_names="rint", dtypes="biuf", doc="The nearest integer, ties to even.")
trunc: Op = elementwise("trunc", np.trunc, "trunc", None, np_names="trunc", dtypes="biuf", doc="x without its fraction.")
for _op in (floor, ceil, round_, trunc):
    _op.numpy = K.on_integers_identity(_op.numpy)
    assert _op.scalar is not None
    _op.scalar = K.scalar_on_integers_identity(_op.scalar)

# --- comparisons and logic ------------------------------------------------------------------------------------------
B: dict[str, Any] = {"arity": 2, "result": "bool"}
less: Op = elementwise("less", np.less, "lt", operator="__lt__", np_names="less", doc="a < b.", **B)
less_equal: Op = elementwise("less_equal", np.less_equal, "le", operator="__le__", np_names="less_equal", doc="a ≤ b.", **B)
greater: Op = elementwise("greater", np.greater, "gt", operator="__gt__", np_names="greater", doc="a > b.", **B)
greater_equal: Op = elementwise("greater_equal", np.greater_equal, "ge", operator="__ge__", np_names="greater_equal", doc="a ≥ b.", **B)
equal: Op = elementwise(
    "equal", np.equal, "eq", operator="__eq__", np_names="equal", dtypes="biufc", special="commutative", doc="a = b.", **B
)
not_equal: Op = elementwise(
    "not_equal", np.not_equal, "ne", operator="__ne__", np_names="not_equal", dtypes="biufc", special="commutative",
    doc="a ≠ b.", **B,
)  # fmt: skip
L: dict[str, Any] = {"dtypes": "b", "promote": "none"}
logical_and: Op = elementwise("logical_and", np.logical_and, "logical_and", np_names="logical_and", doc="a and b.", **L, **B)
logical_or: Op = elementwise("logical_or", np.logical_or, "logical_or", np_names="logical_or", doc="a or b.", **L, **B)
logical_xor: Op = elementwise("logical_xor", np.logical_xor, "logical_xor", np_names="logical_xor", doc="a or b but not both.", **L, **B)
logical_not: Op = elementwise("logical_not", np.logical_not, "logical_not", np_names="logical_not", result="bool", doc="not a.", **L)
isnan: Op = elementwise("isnan", np.isnan, "isnan", result="bool", dtypes="biufc", np_names="isnan", doc="Whether x is NaN.")
isinf: Op = elementwise("isinf", np.isinf, "isinf", result="bool", dtypes="biufc", np_names="isinf", doc="Whether x is ±∞.")
isfinite: Op = elementwise(
    "isfinite", np.isfinite, "isfinite", result="bool", dtypes="biufc", np_names="isfinite", doc="Whether x is neither NaN nor ±∞."
)

# --- bits -------------------------------------------------------------------------------------------------------------
I: dict[str, Any] = {"dtypes": "biu", "arity": 2}  # noqa: E741
bit_and: Op = elementwise(
    "bit_and", np.bitwise_and, "bit_and", operator="__and__ __rand__", np_names="bitwise_and", doc="Bitwise and.", **I
)
bit_or: Op = elementwise("bit_or", np.bitwise_or, "bit_or", operator="__or__ __ror__", np_names="bitwise_or", doc="Bitwise or.", **I)
bit_xor: Op = elementwise(
    "bit_xor", np.bitwise_xor, "bit_xor", operator="__xor__ __rxor__", np_names="bitwise_xor", doc="Bitwise exclusive or.", **I
)
bit_not: Op = elementwise(
    "bit_not", np.invert, "bit_not", dtypes="biu", operator="__invert__", np_names="invert", doc="Bitwise not."
)
shift_left: Op = elementwise(
    "shift_left", np.left_shift, "shift_left", dtypes="iu", arity=2, operator="__lshift__ __rlshift__",
    np_names="left_shift", domain=(0, 5), doc="a · 2ᵇ, bits that leave are lost.",
)  # fmt: skip
shift_right: Op = elementwise(
    "shift_right", np.right_shift, "shift_right", dtypes="iu", arity=2, operator="__rshift__ __rrshift__",
    np_names="right_shift", domain=(0, 5), doc="⌊a / 2ᵇ⌋.",
)  # fmt: skip

# --- selection --------------------------------------------------------------------------------------------------------
where: Op = elementwise(
    "where", np.where, "select", arity=3,
    promote="select", dtypes="biufc", doc="a where c is true, b elsewhere. The side not taken gets a gradient of zero.",
)  # fmt: skip


def _where_vjp(g: Tensor, y: Tensor, c: Tensor, a: Tensor, b: Tensor) -> tuple:
    zero = cast(0.0, dtype=g.dtype)
    return (None, sum_to(where(c, g, zero), a), sum_to(where(c, zero, g), b))


def _where_jvp(t: tuple, y: Tensor, c: Tensor, a: Tensor, b: Tensor) -> Any:
    ta, tb = t[1], t[2]
    if ta is None and tb is None:
        return None
    zero = cast(0.0, dtype=y.dtype)
    return where(c, zero if ta is None else ta, zero if tb is None else tb)


where.vjp, where.jvp = _where_vjp, _where_jvp

# --- complex ----------------------------------------------------------------------------------------------------------


def _complex_part(name: str, f: Any, back: Any, doc: str) -> Op:
    op: Op

    def infer(x: TensorType) -> TensorType:
        if x.dtype.kind != "c":
            raise DTypeError(f"dtype {x.dtype.name} is not complex")
        return TensorType(K.real_dtype(x.dtype), x.shape)

    op = Op(name, "opaque", infer, f, vjp=back, jvp=lambda t, y, x: op(t[0]), dtypes="c", linear=True, doc=doc)
    return op


real: Op = _complex_part("real", np.real, lambda g, y, x: (cast(g, dtype=x.dtype),), "The real part.")
imag: Op = _complex_part("imag", np.imag, lambda g, y, x: (complex_(cast(0.0, dtype=g.dtype), g),), "The imaginary part.")
conj: Op = Op(
    "conj", "opaque", lambda x: x, np.conj, vjp=lambda g, y, x: (conj(g),), jvp=lambda t, y, x: conj(t[0]), dtypes="fc",
    doc="The complex conjugate.",
)  # fmt: skip


def _complex_infer(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype is not b.dtype or a.dtype.name not in ("float32", "float64"):
        raise DTypeError(f"the parts have dtypes {a.dtype.name}, {b.dtype.name}; they must be two of float32 or float64")
    return TensorType(K.complex_dtype(a.dtype), broadcast_shapes(a.shape, b.shape))


def _complex_jvp(t: tuple, y: Tensor, a: Tensor, b: Tensor) -> Any:
    if t[0] is None and t[1] is None:
        return None
    parts = [
        OPS["broadcast_to"](cast(0.0, dtype=x.dtype), shape=tuple(x.shape)) if d is None else d
        for d, x in zip(t, (a, b), strict=True)
    ]
    return complex_(*parts)


complex_: Op = Op(
    "complex", "opaque", _complex_infer, K.join, vjp=lambda g, y, a, b: (sum_to(real(g), a), sum_to(imag(g), b)),
    jvp=_complex_jvp, dtypes="f", arity=2, linear=True, doc="a + i·b, each part as it is.",
)  # fmt: skip


def conjugate(x: Tensor) -> Tensor:
    """What gradients multiply by: the complex conjugate, and real numbers themselves."""
    return conj(x) if x.dtype.kind == "c" else x


# --- copies that must happen --------------------------------------------------------------------------------------------
copy: Op = elementwise(
    "copy", lambda x: x.copy(), lambda m, x: x, lambda y, x: (1.0,), promote="none", dtypes="biufc",
    doc="x in a buffer of its own; put in where a value must lie in memory of its own.",
)  # fmt: skip
