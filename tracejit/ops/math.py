"""The public functions that work element by element, under TensorFlow's names."""

from __future__ import annotations

import math as _math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.types import float32, float64, show_shape
from tracejit.ops import direct, special
from tracejit.ops import elementwise as E
from tracejit.ops.args import floating, listed, operand, require
from tracejit.ops.check import require_powers
from tracejit.ops.define import install_method, public, same_shape
from tracejit.ops.quick import at_once, exact, planned, traced
from tracejit.pynumbers import arithmetic, integral, is_number
from tracejit.tensor import NUMPY_UFUNCS, Operand, Tensor, common_dtype

_ndarray = np.ndarray

add = public(E.add)
subtract = sub = public(E.sub)
multiply = mul = public(E.mul)
divide = truediv = realdiv = div = public(E.div)
floordiv = public(E.floordiv)
mod = floormod = public(E.floormod)
_truncdiv = public(E.truncdiv)
truncatemod = public(E.truncmod)
_multiply_no_nan = public(E.multiply_no_nan)
maximum, minimum = public(E.maximum), public(E.minimum)
atan2 = public(E.atan2)
negative = neg = public(E.neg)
abs = public(E.abs_)
sign = public(E.sign)
square, reciprocal = public(E.square), public(E.reciprocal)
sqrt, rsqrt = public(E.sqrt), public(E.rsqrt)
exp, exp2, expm1 = public(E.exp), public(E.exp2), public(E.expm1)
log, log2, log10, log1p = public(E.log), public(E.log2), public(E.log10), public(E.log1p)
sin, cos, tan = public(E.sin), public(E.cos), public(E.tan)
asin, acos, atan = public(E.asin), public(E.acos), public(E.atan)
sinh, cosh, tanh = public(E.sinh), public(E.cosh), public(E.tanh)
asinh, acosh, atanh = public(E.asinh), public(E.acosh), public(E.atanh)
sigmoid, softplus = public(E.sigmoid), public(E.softplus)
logaddexp = public(E.logaddexp)
erf, erfc, erfinv = public(E.erf), public(E.erfc), public(special.erfinv)
floor, ceil, trunc = public(E.floor), public(E.ceil), public(E.trunc)
round = rint = public(E.round_)
is_nan, is_inf, is_finite = public(E.isnan), public(E.isinf), public(E.isfinite)
equal, not_equal = public(E.equal), public(E.not_equal)
less, less_equal = public(E.less), public(E.less_equal)
greater, greater_equal = public(E.greater), public(E.greater_equal)
bitwise_and, bitwise_or = public(E.bit_and), public(E.bit_or)
bitwise_xor, invert = public(E.bit_xor), public(E.bit_not)
left_shift, right_shift = public(E.shift_left), public(E.shift_right)


_and, _or, _xor, _not = public(E.logical_and), public(E.logical_or), public(E.logical_xor), public(E.logical_not)


def _truth(x: Any) -> Operand:
    """The operand as booleans: numbers are true if they are not 0."""
    x = operand(x)
    return x if x.dtype.kind == "b" else E.not_equal(x, 0)


def _both_true_or_false(x: Any, y: Any) -> bool:
    return type(x) is Tensor and type(y) is Tensor and x._a.dtype.kind == "b" and y._a.dtype.kind == "b"


def logical_and(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x and y; numbers are true if they are not 0."""
    if _both_true_or_false(x, y):
        return _and(x, y)
    return _and(_truth(x), _truth(y))


def logical_or(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x or y; numbers are true if they are not 0."""
    if _both_true_or_false(x, y):
        return _or(x, y)
    return _or(_truth(x), _truth(y))


def logical_xor(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x or y but not both; numbers are true if they are not 0."""
    if not activity.busy and (quick := traced(logical_xor, x, y)) is not None:
        return quick
    return _xor(_truth(x), _truth(y))


def logical_not(x: Any, name: str | None = None) -> Tensor:
    """not x; numbers are true if they are not 0."""
    if (native := E.logical_not.native) is not None and (r := native(x)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    return _not(_truth(x))


def real(input: Any, name: str | None = None) -> Tensor:
    """The real part; a real tensor itself."""
    if (native := fast.real) is not None and (r := native(input)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    x = operand(input)
    return E.real(x) if x.dtype.kind == "c" else E.identity(x)


def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part; zeros for a real tensor."""
    if (native := fast.imag) is not None and (r := native(input)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    x = operand(input)
    return E.imag(x) if x.dtype.kind == "c" else _nought(x)


def _nought(x: Operand) -> Tensor:
    """Zeros of the shape of x even where that is not finite; its gradient is 0."""
    return E.multiply_no_nan(x, 0)


_conj = public(E.conj)


def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    x = operand(x)
    if x.dtype.kind == "c":
        return _conj(x)  # type: ignore[no-any-return]
    if (native := fast.identity) is not None and (r := native(x)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    return E.identity(x)


_raised = public(E.pow_)
_POWERS: dict[float, Callable[[Any], Tensor]] = {1: E.identity, 2: square, 0.5: sqrt, -1: reciprocal, -0.5: rsqrt}


def pow(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x to the power y, with broadcasting. Raises `ArgumentError` for a negative power of integers."""
    if (type(y) is int or type(y) is float) and y in _POWERS and isinstance(x, Operand):
        if x.dtype.kind == "f" or (y in (1, 2) and type(y) is int and x.dtype.kind in "iuc"):
            return _POWERS[y](x)
    if type(x) is Tensor and type(y) is Tensor and x._a.dtype.kind == "f":
        return _raised(x, y)
    if _is_whole(x) and _is_whole(y):
        require_powers(y)
    return E.pow_(x, y)


def _is_whole(x: Any) -> bool:
    """Whether x is one integer, or elements that are integers."""
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    return type(x) is int if kind is None else kind in "iu"


def _pow(self: Operand, other: Any, modulus: Any = None) -> Any:
    return _power(self, other) if modulus is None else NotImplemented


def _rpow(self: Operand, other: Any, modulus: Any = None) -> Any:
    return _power(other, self) if modulus is None else NotImplemented


def _power(x: Any, y: Any) -> Any:
    return arithmetic(E.pow_, (x, y), {}) if is_number(x) and is_number(y) else pow(x, y)


install_method("__pow__", _pow)
install_method("__rpow__", _rpow)
NUMPY_UFUNCS["power"] = NUMPY_UFUNCS["float_power"] = pow


def divide_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where y is 0."""
    if not activity.busy and (quick := planned(divide_no_nan, x, y)) is not None:
        return quick
    x, y = _floats(x, y)
    zero = E.equal(y, 0)
    return E.where(zero, 0, E.div(x, E.where(zero, 1, y)))


def _floats(x: Any, y: Any) -> tuple[Operand, Operand]:
    """Two operands in the floating type that they have in common, to which Python numbers give way."""
    d, weak = common_dtype((x, y))
    if d.kind not in "fc":
        d = float32 if weak or d.bits <= 16 else float64
    return operand(x, d), operand(y, d)


def truncatediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    if not activity.busy and (quick := traced(truncatediv, x, y)) is not None:
        return quick
    return _truncdiv(x, y)  # type: ignore[no-any-return]


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    if not activity.busy and (quick := traced(multiply_no_nan, x, y)) is not None:
        return quick
    return _multiply_no_nan(x, y)  # type: ignore[no-any-return]


truncatediv.__doc__, multiply_no_nan.__doc__ = E.truncdiv.doc, E.multiply_no_nan.doc


def _are_floats(x: Any, y: Any) -> bool:
    """Whether these are eager tensors of one floating type that NumPy has loops for, and nobody listens."""
    if type(x) is not Tensor or type(y) is not Tensor or activity.busy:
        return False
    d = x._a.dtype
    return d is y._a.dtype and d.char in "fd"


def xdivy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where x is 0 even if y is 0."""
    if not activity.busy and (quick := planned(xdivy, x, y)) is not None:
        return quick
    x, y = _floats(x, y)
    zero = E.equal(x, 0)
    return E.where(zero, 0.0, E.div(x, E.where(zero, 1, y)))


def xlogy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x · log y, and 0 where x is 0, whatever y is. The slope along x is log y there as well (TensorFlow's is 0)."""
    if _are_floats(x, y):
        return multiply_no_nan(log(y), x)
    if not activity.busy and (quick := planned(xlogy, x, y)) is not None:
        return quick
    x, y = _floats(x, y)
    return E.multiply_no_nan(E.log(y), x)


def xlog1py(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x · log(1 + y), and 0 where x is 0. The slope along x is log(1 + y) there as well (TensorFlow's is 0)."""
    if _are_floats(x, y):
        return multiply_no_nan(log1p(y), x)
    if not activity.busy and (quick := planned(xlog1py, x, y)) is not None:
        return quick
    x, y = _floats(x, y)
    return E.multiply_no_nan(E.log1p(y), x)


def squared_difference(x: Any, y: Any, name: str | None = None) -> Tensor:
    """(x − y)²; |x − y|², with an imaginary part of 0, for complex numbers."""
    d = subtract(x, y)
    return E.mul(E.conj(d), d) if d.dtype.kind == "c" else square(d)  # type: ignore[no-any-return]


def _is_limit(x: float) -> bool:
    """Whether it is a number, and not 0 even in float32: there are two zeros to choose from."""
    return x > 1e-37 or x < -1e-37


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor:
    """t where it is between the two values, else the nearer of them; NaN stays. The gradient passes where
    min ≤ t ≤ max, and where t is NaN.
    """
    if type(clip_value_min) is type(clip_value_max) is float and type(t) is Tensor and not activity.busy:
        if t._a.dtype.char in "fd" and _is_limit(clip_value_min) and _is_limit(clip_value_max):
            return minimum(maximum(t, clip_value_min), clip_value_max)
    if not activity.busy and (quick := planned(clip_by_value, t, clip_value_min, clip_value_max)) is not None:
        return quick
    t = operand(t)
    if t.dtype.kind in "iu":  # every integer is beyond a limit that its type cannot hold
        clip_value_min = None if type(clip_value_min) is int and clip_value_min < t.dtype.min else clip_value_min
        clip_value_max = None if type(clip_value_max) is int and clip_value_max > t.dtype.max else clip_value_max
    if clip_value_min is not None:
        t = E.where(E.less(t, clip_value_min), clip_value_min, t)
    if clip_value_max is not None:
        t = E.where(E.greater(t, clip_value_max), clip_value_max, t)
    return t if type(t) is Tensor else E.identity(t)


def _of_one_shape(tensors: list[Any]) -> Tensor | None:
    """The sum of eager tensors, None of anything else."""
    total, shape = tensors[0], None
    for x in tensors:
        if type(x) is not Tensor or type(a := x._a) is not _ndarray or (shape is not None and a.shape != shape):
            return None
        shape = shape or a.shape
    for x in tensors[1:]:
        total = add(total, x)
    return total  # type: ignore[no-any-return]


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of a list of tensors of one shape."""
    if type(inputs) is list and len(inputs) == 2:
        x, y = inputs
        if type(x) is Tensor and type(y) is Tensor and type(a := x._a) is _ndarray and type(b := y._a) is _ndarray:
            if a.shape == b.shape:
                return add(x, y)  # type: ignore[no-any-return]
    if not activity.busy and (quick := traced(add_n, inputs)) is not None:
        return quick
    if type(inputs) is list and inputs and (quick := _of_one_shape(inputs)) is not None:
        return quick
    parts = [operand(x) for x in ([inputs] if isinstance(inputs, Operand) else listed(inputs, "inputs"))]
    require(bool(parts), "add_n needs one tensor or more")
    if not all(same_shape(tuple(p.shape), tuple(parts[0].shape)) for p in parts):
        shapes = ", ".join(show_shape(p.shape) for p in parts)
        raise locate(ShapeError(f"add_n adds tensors of one shape, not of {shapes}"))
    total: Any = parts[0]
    for p in parts[1:]:
        total = E.add(total, p)
    return total if type(total) is Tensor else E.identity(total)


def accumulate_n(inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None) -> Tensor:
    """The sum of a list of tensors of one shape."""
    return add_n(inputs)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Tensor:
    """A number, or a 0-d tensor, times a tensor. Raises `ShapeError` if the first has axes."""
    if isinstance(scalar, Operand) and scalar.ndim:
        raise locate(ShapeError(f"scalar_mul multiplies by a 0-d tensor, not by {scalar.type}"))
    return E.mul(scalar, operand(x))


def lerp(start: Any, stop: Any, weight: Any) -> Tensor:
    """start + weight · (stop − start)."""
    return E.add(start, E.mul(weight, E.sub(stop, start)))


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """The polynomial with these coefficients, the highest power first, by Horner's scheme; 0 if there are none."""
    if not activity.busy and (quick := planned(polyval, coeffs, x)) is not None:
        return quick
    coeffs = listed(coeffs, "coeffs")
    x = operand(x)
    p = _nought(x)
    if not coeffs:
        return p
    p = E.add(p, coeffs[0])
    for c in coeffs[1:]:
        p = E.add(E.mul(p, x), c)
    return p


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(1 / (1 + e⁻ˣ)) without underflow."""
    if not activity.busy and (quick := planned(log_sigmoid, x)) is not None:
        return quick
    return E.neg(E.softplus(E.neg(floating(x))))


def ndtri(p: Any, name: str | None = None) -> Tensor:
    """The quantile function of the standard normal distribution."""
    if not activity.busy and (quick := planned(ndtri, p)) is not None:
        return quick
    return E.mul(special.erfcinv(E.mul(floating(p), 2.0)), -_math.sqrt(2.0))


def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument of a complex number in radians; 0 or π for a real one."""
    if not activity.busy:
        if type(input) is Tensor and input._a.dtype.kind == "c":
            quick = at_once(direct.angle, input)
        else:
            quick = planned(angle, input)
        if quick is not None:
            return quick
    x = operand(input)
    if x.dtype.kind == "c":
        return E.atan2(E.imag(x), E.real(x))
    x = floating(x)
    return E.where(E.less(x, 0), _math.pi, _nought(x))


def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """real + i·imag."""
    if not activity.busy and (quick := planned(complex, real, imag)) is not None:
        return quick
    re, im = floating(real), floating(imag)
    d = float32 if re.dtype.bits <= 32 and im.dtype.bits <= 32 else float64
    return E.complex_(E.cast(re, dtype=d), E.cast(im, dtype=d))


# --- operators --------------------------------------------------------------------------------------------------------
def _divmod(self: Operand, other: Any) -> tuple[Tensor, Tensor]:
    return self // other, self % other


def _rdivmod(self: Operand, other: Any) -> tuple[Tensor, Tensor]:
    return other // self, other % self


def _round(self: Operand, ndigits: int | None = None) -> Tensor:
    if ndigits is None or (ndigits == 0 and not is_number(self)):
        return integral(E.round_, self)
    scale = 10.0**ndigits
    return arithmetic(E.round_, (self * scale,), {}) / scale


def _pos(self: Operand) -> Tensor:
    return self if type(self) is Tensor else E.identity(self)  # a Variable's value now, not the Variable


Operand.__divmod__ = _divmod  # type: ignore[method-assign]
Operand.__rdivmod__ = _rdivmod  # type: ignore[method-assign]
Operand.__round__ = _round  # type: ignore[method-assign]
Operand.__pos__ = _pos  # type: ignore[method-assign, assignment]
Operand.__floor__ = lambda self: integral(E.floor, self)  # type: ignore[method-assign]
Operand.__ceil__ = lambda self: integral(E.ceil, self)  # type: ignore[method-assign]
Operand.__trunc__ = lambda self: integral(E.trunc, self)  # type: ignore[method-assign]
NUMPY_UFUNCS |= {"divmod": _divmod, "positive": _pos}
NUMPY_UFUNCS |= {f.__name__: f for f in (logical_and, logical_or, logical_xor, logical_not)}


for _f in (divide_no_nan, xdivy, clip_by_value, complex):
    exact(_f)
