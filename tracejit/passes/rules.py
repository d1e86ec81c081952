"""The rewrite rules for arithmetic, comparison and selection, both sides ordinary code, each with its exactness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.ir.graph import Builder, Value
from tracejit.ir.op import Op
from tracejit.ir.types import DType
from tracejit.ops.elementwise import (
    abs_,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    equal,
    erf,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply_no_nan,
    neg,
    not_equal,
    pow_,
    reciprocal,
    relu,
    rsqrt,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
    where,
)
from tracejit.passes.match import (
    EXACT,
    FAST,
    FINITE,
    Pattern,
    Rewrite,
    const_of,
    constants,
    is_finite,
    literal,
    make,
    power_of_two,
    rewrite,
    splat_of,
)

P = Pattern
ANY = "biufc"
POSITIVE = (0.25, 4.0)
ONE, TWO = constants("c"), constants("c", "d")


def _growing(c: Value, d: Value, **rest: Value) -> bool:
    """Powers of two, the first of which loses no bits of a subnormal."""
    return power_of_two(c) and power_of_two(d) and abs(float(splat_of(c))) >= 1


def _scaled(x: Value, c: Value) -> bool:
    return const_of(x) is None and constants("c")(c=c)


def _never_zero(c: Value, **rest: Value) -> bool:
    k = const_of(c)
    return k is not None and bool((k.splat != 0) if k.array is None else (k.array != 0).all())


def _negated(sign: str, f: Callable[..., Any], opposite: Callable[..., Any], kinds: str) -> Pattern:
    """Order has no opposite where there are NaNs, equality has."""
    name = f"!(x {sign} y)"
    return P("logical_not", name, lambda x, y: logical_not(f(x, y)), lambda x, y: opposite(x, y), EXACT, kinds=kinds)


def _minus(x: Value, c: Value) -> bool:
    k = const_of(c)
    return constants("c")(c=c) and k is not None and k.array is None and bool(k.splat < 0)


def _signs(op: Op, odd: bool) -> list[Pattern]:
    """The sign of the argument moves out of an odd function and is lost in an even one, so that f(x) and f(-x) meet."""

    def out(y: Any) -> Any:
        return -y if odd else y

    n = op.name
    domain = (-0.9, 0.9)
    return [
        P(n, f"{n}(-x)", lambda x: op(-x), lambda x: out(op(x)), EXACT, kinds="f", domain=domain),
        P(n, f"{n}(x · -c)", lambda x, c: op(x * c), lambda x, c: out(op(x * -c)), EXACT, _minus, "f", domain),
    ]


# fmt: off
SUMS = [
    P("add", "x + -0", lambda x: x + -0.0, lambda x: x, EXACT),
    P("add", "x + 0", lambda x: x + 0.0, lambda x: x, FINITE),
    P("sub", "x - 0", lambda x: x - 0.0, lambda x: x, EXACT),
    P("sub", "x - -0", lambda x: x - -0.0, lambda x: x, FINITE),
    P("sub", "-0 - x", lambda x: -0.0 - x, lambda x: -x, EXACT),
    P("sub", "0 - x", lambda x: 0.0 - x, lambda x: -x, FINITE),
    P("add", "x + -y", lambda x, y: x + -y, lambda x, y: x - y, EXACT),
    P("sub", "x - -y", lambda x, y: x - -y, lambda x, y: x + y, EXACT),
    P("neg", "--x", lambda x: neg(neg(x)), lambda x: x, EXACT),
    P("neg", "-(x - y)", lambda x, y: -(x - y), lambda x, y: y - x, FINITE),
    P("add", "x + x", lambda x: x + x, lambda x: x * 2.0, EXACT),
    P("sub", "int x - x", lambda x: x - x, lambda x: 0, EXACT, kinds="iu"),
    P("sub", "int x + y - y", lambda x, y: x + y - y, lambda x, y: x, EXACT, kinds="iu"),
    P("sub", "x - x", lambda x: x - x, lambda x: 0.0, FAST),
    P("add", "int x + c + d", lambda x, c, d: x + c + d, lambda x, c, d: x + (c + d), EXACT, TWO, kinds="iu"),
    P("add", "x + c + d", lambda x, c, d: x + c + d, lambda x, c, d: x + (c + d), FAST, TWO),
    P("add", "int x·y + x·z", lambda x, y, z: x * y + x * z, lambda x, y, z: x * (y + z), EXACT, kinds="iu"),
    P("add", "x·y + x·z", lambda x, y, z: x * y + x * z, lambda x, y, z: x * (y + z), FAST),
]
PRODUCTS = [
    P("mul", "x · 1", lambda x: x * 1.0, lambda x: x, EXACT),
    P("mul", "x · -1", lambda x: x * -1.0, lambda x: -x, EXACT, kinds="if"),
    P("floordiv", "int x // 1", lambda x: x // 1.0, lambda x: x, EXACT, kinds="iu"),
    P("mul", "int x · 0", lambda x: x * 0.0, lambda x: 0.0, EXACT, kinds="iu"),
    P("mul", "x · 0", lambda x: x * 0.0, lambda x: 0.0, FAST),
    P("mul", "-x · -y", lambda x, y: -x * -y, lambda x, y: x * y, EXACT),
    P("mul", "-x · c", lambda x, c: -x * c, lambda x, c: x * -c, EXACT, _scaled),
    P("neg", "-(x · c)", lambda x, c: -(x * c), lambda x, c: x * -c, EXACT, _scaled),
    P("mul", "-x · y", lambda x, y: -x * y, lambda x, y: -(x * y), EXACT),
    P("mul", "x · x", lambda x: x * x, lambda x: square(x), EXACT),
    P("mul", "int x · c · d", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), EXACT, TWO, kinds="iu"),
    P("mul", "x · 2ⁿ · 2ᵐ", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), FINITE, _growing, "f"),
    P("mul", "x · c · d", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), FAST, TWO),
    P("mul", "y · 1/x", lambda x, y: reciprocal(x) * y, lambda x, y: y / x, FAST, kinds="f", domain=POSITIVE),
    P("div", "x / 1", lambda x: x / 1.0, lambda x: x, EXACT, kinds="f"),
    P("div", "x / -1", lambda x: x / -1.0, lambda x: -x, EXACT, kinds="f"),
    P("div", "1 / x", lambda x: 1.0 / x, lambda x: reciprocal(x), EXACT, kinds="f"),
    P("div", "x / 2ⁿ", lambda x, c: x / c, lambda x, c: x * (1.0 / c), EXACT, lambda x, c: power_of_two(c), "f"),
    P("div", "x / c", lambda x, c: x / c, lambda x, c: x * (1.0 / c), FAST, ONE, "f", POSITIVE),
    P("div", "-x / y", lambda x, y: -x / y, lambda x, y: -(x / y), EXACT, kinds="f"),
    P("div", "x / -y", lambda x, y: x / -y, lambda x, y: -(x / y), EXACT, kinds="f"),
    P("div", "x / x", lambda x: x / x, lambda x: 1.0, FAST, kinds="f", domain=POSITIVE),
    P("div", "x / √y", lambda x, y: x / sqrt(y), lambda x, y: x * rsqrt(y), FAST, kinds="f", domain=POSITIVE),
    P("reciprocal", "1 / √x", lambda x: reciprocal(sqrt(x)), lambda x: rsqrt(x), FINITE, kinds="f", domain=POSITIVE),
    P("reciprocal", "1 / (1 / x)", lambda x: reciprocal(reciprocal(x)), lambda x: x, FAST, kinds="f", domain=POSITIVE),
    P("multiply_no_nan", "x ·₀ 0", lambda x: multiply_no_nan(x, 0.0), lambda x: 0.0, EXACT, kinds="f"),
    P("multiply_no_nan", "x ·₀ c", lambda x, c: multiply_no_nan(x, c), lambda x, c: x * c, EXACT, _never_zero, "f"),
    P("multiply_no_nan", "x ·₀ x", lambda x: multiply_no_nan(x, x), lambda x: square(x), EXACT, kinds="f"),
    P("multiply_no_nan", "x ·₀ (x · c)", lambda x, c: multiply_no_nan(x, x * c), lambda x, c: x * (x * c), FINITE,
      _never_zero, "f"),
    P("multiply_no_nan", "finite x ·₀ y", lambda x, y: multiply_no_nan(x, y), lambda x, y: x * y, FINITE,
      lambda x, y: is_finite(x), "f"),
]
POWERS = [
    P("square", "(-x)²", lambda x: square(-x), lambda x: square(x), EXACT),
    P("square", "|x|²", lambda x: square(abs_(x)), lambda x: square(x), EXACT),
    P("square", "(√x)²", lambda x: square(sqrt(x)), lambda x: x, FAST, kinds="f", domain=POSITIVE),
    P("sqrt", "√x²", lambda x: sqrt(square(x)), lambda x: abs_(x), FAST, kinds="f"),
    P("abs", "|-x|", lambda x: abs_(-x), lambda x: abs_(x), EXACT, kinds="if"),
    P("abs", "||x||", lambda x: abs_(abs_(x)), lambda x: abs_(x), EXACT),
    P("abs", "|x²|", lambda x: abs_(square(x)), lambda x: square(x), EXACT, kinds="f"),
    P("pow", "x ** 0", lambda x: pow_(x, 0.0), lambda x: 1.0, EXACT),
    P("pow", "x ** 1", lambda x: pow_(x, 1.0), lambda x: x, EXACT),
    P("pow", "x ** 2", lambda x: pow_(x, 2.0), lambda x: square(x), FINITE, ulp=4),
    P("pow", "x ** 3", lambda x: pow_(x, 3.0), lambda x: square(x) * x, FINITE, ulp=4),
    P("pow", "x ** 4", lambda x: pow_(x, 4.0), lambda x: square(square(x)), FINITE, ulp=4),
    P("pow", "x ** -1", lambda x: pow_(x, -1.0), lambda x: reciprocal(x), FINITE, kinds="f", domain=POSITIVE, ulp=4),
    P("pow", "x ** 0.5", lambda x: pow_(x, 0.5), lambda x: sqrt(x), FINITE, kinds="f", domain=POSITIVE, ulp=4),
    P("pow", "x ** -0.5", lambda x: pow_(x, -0.5), lambda x: rsqrt(x), FINITE, kinds="f", domain=POSITIVE, ulp=4),
    P("log", "log exp x", lambda x: log(exp(x)), lambda x: x, FAST, kinds="f"),
    P("exp", "exp log x", lambda x: exp(log(x)), lambda x: x, FAST, kinds="f", domain=POSITIVE),
    P("mul", "exp x · exp y", lambda x, y: exp(x) * exp(y), lambda x, y: exp(x + y), FAST, kinds="f"),
]
CHOICES = [
    P("maximum", "max(x, x)", lambda x: maximum(x, x), lambda x: x, EXACT, kinds="biuf"),
    P("minimum", "min(x, x)", lambda x: minimum(x, x), lambda x: x, EXACT, kinds="biuf"),
    P("maximum", "max(max(x, y), y)", lambda x, y: maximum(maximum(x, y), y), lambda x, y: maximum(x, y), FINITE),
    P("minimum", "min(min(x, y), y)", lambda x, y: minimum(minimum(x, y), y), lambda x, y: minimum(x, y), FINITE),
    P("relu", "relu relu x", lambda x: relu(relu(x)), lambda x: relu(x), EXACT),
    P("where", "where(true, x, y)", lambda x, y: where(True, x, y), lambda x, y: x, EXACT, kinds=ANY),
    P("where", "where(false, x, y)", lambda x, y: where(False, x, y), lambda x, y: y, EXACT, kinds=ANY),
    P("where", "where(p, x, x)", lambda p, x: where(p, x, x), lambda p, x: x, EXACT, kinds=ANY),
    P("where", "where(!p, x, y)", lambda p, x, y: where(logical_not(p), x, y), lambda p, x, y: where(p, y, x),
      EXACT, kinds=ANY),
    P("where", "where(p, where(p, x, y), z)", lambda p, x, y, z: where(p, where(p, x, y), z),
      lambda p, x, y, z: where(p, x, z), EXACT, kinds=ANY),
    P("where", "where(p, x, where(p, y, z))", lambda p, x, y, z: where(p, x, where(p, y, z)),
      lambda p, x, y, z: where(p, x, z), EXACT, kinds=ANY),
    P("logical_not", "!!p", lambda p: logical_not(logical_not(p)), lambda p: p, EXACT),
    P("logical_and", "p & p", lambda p: logical_and(p, p), lambda p: p, EXACT),
    P("logical_and", "p & true", lambda p: logical_and(p, True), lambda p: p, EXACT),
    P("logical_and", "p & false", lambda p: logical_and(p, False), lambda p: False, EXACT),
    P("logical_or", "p | p", lambda p: logical_or(p, p), lambda p: p, EXACT),
    P("logical_or", "p | false", lambda p: logical_or(p, False), lambda p: p, EXACT),
    P("logical_or", "p | true", lambda p: logical_or(p, True), lambda p: True, EXACT),
    P("logical_xor", "p ^ p", lambda p: logical_xor(p, p), lambda p: False, EXACT),
    P("logical_xor", "p ^ false", lambda p: logical_xor(p, False), lambda p: p, EXACT),
    P("logical_xor", "p ^ true", lambda p: logical_xor(p, True), lambda p: logical_not(p), EXACT),
    _negated("=", equal, not_equal, ANY),
    _negated("≠", not_equal, equal, ANY),
    _negated("<", less, greater_equal, "biu"),
    _negated("≤", less_equal, greater, "biu"),
    _negated(">", greater, less_equal, "biu"),
    _negated("≥", greater_equal, less, "biu"),
]
# fmt: on
ODD = (sin, tan, asin, atan, sinh, tanh, asinh, atanh, erf)
SIGNS = [r for op in ODD for r in _signs(op, True)] + [r for op in (cos, cosh) for r in _signs(op, False)]
PATTERNS: list[Pattern | Rewrite] = [*SUMS, *PRODUCTS, *POWERS, *SIGNS, *CHOICES]

# --- what two sides of code cannot say: attributes and the order of operands --------------------------------------
Attributes = dict[str, Any]


@rewrite(PATTERNS, "copy", "identity", EXACT)
def _identity(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    return inputs[0]


@rewrite(PATTERNS, "stop_gradient", "stop_gradient", EXACT, late=True)
def _stop_gradient(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    return inputs[0]


@rewrite(PATTERNS, "assigned", "assigned", EXACT, late=True)
def _assigned(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    return inputs[0]


@rewrite(PATTERNS, "cast to the same dtype", "cast", EXACT)
def _same_cast(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    return inputs[0] if inputs[0].dtype is attrs["dtype"] else None


@rewrite(PATTERNS, "cast of cast", "cast", EXACT, "cast")
def _cast_of_cast(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    (x,) = inputs[0].node.inputs  # type: ignore[union-attr]
    a, via, to = x.dtype, inputs[0].dtype, attrs["dtype"]
    # integers wrap among themselves, but saturate on the way back from a floating type
    saturates = a.kind in "iu" and via.kind in "fc" and to.kind in "iu" and not lossless(a, to)
    return make(b, "cast", x, dtype=to) if lossless(a, via) and not saturates else None


def _as_narrow(b: Builder, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Integers that were widened from one type, and constants that it holds too, in that type."""
    widened = [v.node.inputs[0].dtype for v in inputs if v.node is not None and v.node.op.name == "cast"]
    if not widened or widened[0].kind not in "iu" or inputs[0].dtype.kind not in "iu":
        return None
    d, out = widened[0], []
    for v in inputs:
        c = splat_of(v)
        if c is not None and d.min <= c <= d.max:
            out.append(literal(b, c, d, v.shape))
        elif c is None and v.node is not None and v.node.op.name == "cast" and v.node.inputs[0].dtype is d:
            out.append(v.node.inputs[0])
        else:
            return None
    return tuple(out) if lossless(d, inputs[0].dtype) else None


def _order_of_widened(op: Op) -> None:
    @rewrite(PATTERNS, f"{op.name} of widened integers", op.name, EXACT)
    def order(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
        narrow = _as_narrow(b, inputs)
        return None if narrow is None else b.emit(op, narrow)[0]


for _op in (equal, not_equal, less, less_equal, greater, greater_equal):
    _order_of_widened(_op)


@rewrite(PATTERNS, "sum of widened integers narrowed", "cast", EXACT, "add")
@rewrite(PATTERNS, "difference of widened integers narrowed", "cast", EXACT, "sub")
@rewrite(PATTERNS, "product of widened integers narrowed", "cast", EXACT, "mul")
def _narrowed(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attributes) -> Value | None:
    """Both wrap around alike."""
    wide, made = inputs[0].dtype, inputs[0].node
    narrow = _as_narrow(b, made.inputs) if made is not None and wide.kind in "iu" else None
    if made is None or narrow is None or narrow[0].dtype is not attrs["dtype"]:
        return None
    return b.emit(made.op, narrow)[0]


_DIGITS = {"bfloat16": (8, 128), "float16": (11, 16), "float32": (24, 128), "float64": (53, 1024)}
_PART = {"complex64": "float32", "complex128": "float64"}


def lossless(a: DType, b: DType) -> bool:
    """Whether every value of dtype a is one of dtype b."""
    if a is b or a.kind == "b":
        return True
    if b.kind == "b" or (a.kind == "c" and b.kind != "c"):
        return False
    if b.kind in "iu":
        return a.kind in "iu" and b.min <= a.min and a.max <= b.max
    digits, exponent = _DIGITS[_PART.get(b.name, b.name)]
    if a.kind in "iu":
        return a.bits - (a.kind == "i") <= digits
    have, reach = _DIGITS[_PART.get(a.name, a.name)]
    return have <= digits and reach <= exponent
