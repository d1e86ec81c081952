"""The rewrite rules for arithmetic, comparison and selection, both sides ordinary code, each with its exactness."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.graph import Builder, Value
from tracejit.ir.op import OPS
from tracejit.ir.types import DType
from tracejit.ops.elementwise import (
    abs_,
    cast,
    equal,
    exp,
    greater,
    greater_equal,
    identity,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mul,
    multiply_no_nan,
    neg,
    not_equal,
    pow_,
    reciprocal,
    relu,
    rsqrt,
    sqrt,
    square,
    sub,
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
    producer,
    rewrite,
    same_literal,
    splat_of,
)

# --- sums and differences -----------------------------------------------------------------------------------------
SUMS = [
    Pattern("add", "x + -0", lambda x: x + -0.0, lambda x: x, EXACT),
    Pattern("add", "x + 0", lambda x: x + 0.0, lambda x: x, FINITE, kinds="biufc"),
    Pattern("sub", "x - 0", lambda x: x - 0.0, lambda x: x, EXACT),
    Pattern("sub", "x - -0", lambda x: x - -0.0, lambda x: x, FINITE),
    Pattern("sub", "0 - x", lambda x: 0.0 - x, lambda x: -x, FINITE),
    Pattern("sub", "-0 - x", lambda x: -0.0 - x, lambda x: -x, EXACT),
    Pattern("add", "x + -y", lambda x, y: x + -y, lambda x, y: x - y, EXACT),
    Pattern("sub", "x - -y", lambda x, y: x - -y, lambda x, y: x + y, EXACT),
    Pattern("neg", "-(x - y)", lambda x, y: -(x - y), lambda x, y: y - x, FINITE),
    Pattern("neg", "--x", lambda x: -(-x), lambda x: x, EXACT),
    Pattern("add", "x + x", lambda x: x + x, lambda x: x * 2.0, EXACT, kinds="iuf"),
    Pattern("sub", "x - x", lambda x: x - x, lambda x: x * 0.0, FINITE),
    Pattern("add", "x + c + d", lambda x, c, d: x + c + d, lambda x, c, d: x + (c + d), EXACT, constants("c", "d"), "iu"),
    Pattern("add", "x + c + d", lambda x, c, d: x + c + d, lambda x, c, d: x + (c + d), FAST, constants("c", "d")),
    Pattern("add", "x*y + x*z", lambda x, y, z: x * y + x * z, lambda x, y, z: x * (y + z), EXACT, kinds="iu"),
    Pattern("add", "x*y + x*z", lambda x, y, z: x * y + x * z, lambda x, y, z: x * (y + z), FAST),
]


def _grows(c: Value, d: Value, **rest: Value) -> bool:
    """Two powers of two of which the first loses no bits of a subnormal."""
    return power_of_two(c) and power_of_two(d) and abs(float(splat_of(c))) >= 1


# --- products and quotients ---------------------------------------------------------------------------------------
PRODUCTS = [
    Pattern("mul", "x * 1", lambda x: x * 1.0, lambda x: x, EXACT, kinds="biufc"),
    Pattern("mul", "x * -1", lambda x: x * -1.0, lambda x: -x, EXACT, kinds="if"),
    Pattern("mul", "x * 0", lambda x: x * 0.0, lambda x: x - x, EXACT, kinds="iu"),
    Pattern("mul", "x * 0", lambda x: x * 0.0, lambda x: where(False, x, 0.0), FAST),
    Pattern("mul", "-x * -y", lambda x, y: -x * -y, lambda x, y: x * y, EXACT, kinds="iuf"),
    Pattern("mul", "-x * c", lambda x, c: -x * c, lambda x, c: x * -c, EXACT, constants("c"), "if"),
    Pattern("mul", "x * x", lambda x: x * x, lambda x: square(x), EXACT, kinds="iuf"),
    Pattern("mul", "x * c * d", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), EXACT, constants("c", "d"), "iu"),
    Pattern("mul", "x * 2ⁿ * 2ᵐ", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), FINITE, _grows, "f"),
    Pattern("mul", "x * c * d", lambda x, c, d: x * c * d, lambda x, c, d: x * (c * d), FAST, constants("c", "d")),
    Pattern("mul", "x * c * y", lambda x, y, c: x * c * y, lambda x, y, c: x * y * c, FAST, constants("c"), "f"),
    Pattern("mul", "x / y * z", lambda x, y: reciprocal(x) * y, lambda x, y: y / x, FAST, kinds="f", domain=(0.5, 4.0)),
    Pattern("mul", "√x * √x", lambda x: square(sqrt(x)), lambda x: x, FAST, kinds="f", domain=(0.1, 4.0))
    if False
    else Pattern("square", "square √x", lambda x: square(sqrt(x)), lambda x: x, FAST, kinds="f", domain=(0.1, 4.0)),
    Pattern("square", "square -x", lambda x: square(-x), lambda x: square(x), EXACT),
    Pattern("square", "square |x|", lambda x: square(abs_(x)), lambda x: square(x), EXACT),
    Pattern("abs", "|-x|", lambda x: abs_(-x), lambda x: abs_(x), EXACT),
    Pattern("abs", "||x||", lambda x: abs_(abs_(x)), lambda x: abs_(x), EXACT),
    Pattern("abs", "|x²|", lambda x: abs_(square(x)), lambda x: square(x), EXACT, kinds="f"),
    Pattern("div", "x / 1", lambda x: x / 1.0, lambda x: x, EXACT, kinds="fc"),
    Pattern("div", "x / -1", lambda x: x / -1.0, lambda x: -x, EXACT, kinds="f"),
    Pattern("div", "1 / x", lambda x: 1.0 / x, lambda x: reciprocal(x), EXACT, kinds="f"),
    Pattern(
        "div", "x / 2ⁿ", lambda x, c: x / c, lambda x, c: x * (1.0 / c), EXACT, lambda x, c: power_of_two(c), "f"
    ),
    Pattern("div", "x / c", lambda x, c: x / c, lambda x, c: x * (1.0 / c), FAST, constants("c"), "f", (0.5, 4.0)),
    Pattern("div", "x / x", lambda x: x / x, lambda x: where(True, 1.0, x), FAST, kinds="f", domain=(0.5, 4.0)),
    Pattern("div", "x / √y", lambda x, y: x / sqrt(y), lambda x, y: x * rsqrt(y), FAST, kinds="f", domain=(0.5, 4.0)),
    Pattern("reciprocal", "1 / (1 / x)", lambda x: reciprocal(reciprocal(x)), lambda x: x, FAST, kinds="f", domain=(0.5, 4.0)),
    Pattern("reciprocal", "1 / √x", lambda x: reciprocal(sqrt(x)), lambda x: rsqrt(x), FINITE, kinds="f", domain=(0.1, 4.0)),
    Pattern("multiply_no_nan", "x ·₀ 0", lambda x: multiply_no_nan(x, 0.0), lambda x: where(False, x, 0.0), EXACT, kinds="f"),
    Pattern("multiply_no_nan", "1 ·₀ x", lambda x: multiply_no_nan(1.0, x), lambda x: x, FINITE, kinds="f"),
]

# --- powers, exponentials and logarithms --------------------------------------------------------------------------
POWERS = [
    Pattern("pow", "x ** 1", lambda x: x**1.0, lambda x: x, EXACT, kinds="iuf"),
    Pattern("pow", "x ** 0", lambda x: x**0.0, lambda x: where(False, x, 1.0), EXACT, kinds="iuf"),
    Pattern("pow", "x ** 2", lambda x: x**2.0, lambda x: square(x), FINITE, kinds="iuf", ulp=4),
    Pattern("pow", "x ** 3", lambda x: x**3.0, lambda x: square(x) * x, FINITE, kinds="iuf", ulp=4),
    Pattern("pow", "x ** 4", lambda x: x**4.0, lambda x: square(square(x)), FINITE, kinds="iuf", ulp=4),
    Pattern("pow", "x ** -1", lambda x: x**-1.0, lambda x: reciprocal(x), FINITE, kinds="f", ulp=4),
    Pattern("pow", "x ** 0.5", lambda x: x**0.5, lambda x: sqrt(x), FINITE, kinds="f", domain=(0.0, 9.0), ulp=4),
    Pattern("pow", "x ** -0.5", lambda x: x**-0.5, lambda x: rsqrt(x), FINITE, kinds="f", domain=(0.1, 9.0), ulp=4),
    Pattern("log", "log exp x", lambda x: log(exp(x)), lambda x: x, FAST, kinds="f"),
    Pattern("exp", "exp log x", lambda x: exp(log(x)), lambda x: x, FAST, kinds="f", domain=(0.1, 4.0)),
    Pattern("mul", "exp x * exp y", lambda x, y: exp(x) * exp(y), lambda x, y: exp(x + y), FAST, kinds="f"),
    Pattern("sqrt", "√x²", lambda x: sqrt(square(x)), lambda x: abs_(x), FAST, kinds="f"),
]

# --- order and selection ------------------------------------------------------------------------------------------
CHOICES = [
    Pattern("maximum", "max(x, x)", lambda x: maximum(x, x), lambda x: x, EXACT, kinds="biuf"),
    Pattern("minimum", "min(x, x)", lambda x: minimum(x, x), lambda x: x, EXACT, kinds="biuf"),
    Pattern("maximum", "max(max(x, y), y)", lambda x, y: maximum(maximum(x, y), y), lambda x, y: maximum(x, y), EXACT, kinds="iu"),
    Pattern("minimum", "min(min(x, y), y)", lambda x, y: minimum(minimum(x, y), y), lambda x, y: minimum(x, y), EXACT, kinds="iu"),
    Pattern("relu", "relu relu x", lambda x: relu(relu(x)), lambda x: relu(x), EXACT, kinds="iuf"),
    Pattern("where", "where(p, x, x)", lambda p, x: where(p, x, x), lambda p, x: where(True, x, p_free(p, x)), EXACT)
    if False
    else Pattern("where", "where(!p, x, y)", lambda p, x, y: where(logical_not(p), x, y), lambda p, x, y: where(p, y, x), EXACT),
    Pattern(
        "where", "where(p, where(p, x, y), z)", lambda p, x, y, z: where(p, where(p, x, y), z),
        lambda p, x, y, z: where(p, x, z), EXACT,
    ),
    Pattern("logical_not", "!!p", lambda p: logical_not(logical_not(p)), lambda p: p, EXACT),
    Pattern("logical_and", "p & p", lambda p: logical_and(p, p), lambda p: p, EXACT),
    Pattern("logical_or", "p | p", lambda p: logical_or(p, p), lambda p: p, EXACT),
    Pattern("logical_not", "!(x = y)", lambda x, y: logical_not(equal(x, y)), lambda x, y: not_equal(x, y), EXACT),
    Pattern("logical_not", "!(x ≠ y)", lambda x, y: logical_not(not_equal(x, y)), lambda x, y: equal(x, y), EXACT),
    Pattern("logical_not", "!(x < y)", lambda x, y: logical_not(less(x, y)), lambda x, y: greater_equal(x, y), EXACT, kinds="biu"),
    Pattern("logical_not", "!(x ≤ y)", lambda x, y: logical_not(less_equal(x, y)), lambda x, y: greater(x, y), EXACT, kinds="biu"),
    Pattern("logical_not", "!(x > y)", lambda x, y: logical_not(greater(x, y)), lambda x, y: less_equal(x, y), EXACT, kinds="biu"),
    Pattern("logical_not", "!(x ≥ y)", lambda x, y: logical_not(greater_equal(x, y)), lambda x, y: less(x, y), EXACT, kinds="biu"),
]
