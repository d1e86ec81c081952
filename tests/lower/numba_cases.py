"""Functions that together need every form that kernels have, with arguments to call them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import tracejit as tj
from tracejit.ops import elementwise as E

rng = np.random.default_rng(7)
CASES: dict[str, Case] = {}


class Case(NamedTuple):
    f: Callable[..., Any]
    args: tuple
    tolerance: float | None  # None: as for the dtype of each result
    native: bool  # whether the native code is expected to give the same


def case(*args: Any, tolerance: float | None = None, native: bool = True) -> Callable[..., Any]:
    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        CASES[f.__name__] = Case(f, args, tolerance, native)
        return f

    return register


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def whole(low: int, high: int, shape: Any, dtype: Any) -> np.ndarray:
    return rng.integers(low, high, shape).astype(dtype)


# --- elementwise ------------------------------------------------------------------------------------------------------
@case(normal(300), normal(300))
def flat(x, y):
    return tj.tanh(x) * y + 0.5


@case(normal(7, 5), normal(5), normal(7, 1))
def broadcast(x, b, c):
    return x * b + c


@case(normal(1, 5), normal(3, 1))
def outer(x, y):
    return x * y, tj.reduce_sum(y, 1, keepdims=True)


@case(normal(4, 5, 6), normal(6, 4))
def transposed(x, y):
    return tj.transpose(x, [2, 0, 1]) + y[:, :, None]


@case(normal(9, 12))
def strided(x):
    return x[::2, 1:10:3] * 2.0, tj.reverse(x, [1]) + x, x[3, 1:] * 2.0


@case(normal(8, 4))
def reshaped(x):
    return tj.reshape(x, (4, 8)) * 2.0, tj.reshape(x, (2, 4, 4))[:, :, ::-1] + 1.0, tj.reshape(tj.transpose(x), (32,))


@case(normal(2, 3, 4, 5), normal(5), normal(3, 1, 1))
def four_axes(x, y, z):
    return x * y + z, tj.nn.softmax(x * z), tj.reduce_sum(x, (0, 2)), tj.reduce_sum(x * z, (1, 2, 3))


@case(np.float32(3.0), normal(4))
def zero_dimensional(s, x):
    t = s * 3.0
    return x * t, t


@case(2.5, normal(4), 3)
def python_numbers(a, x, k):
    return x * a + k


@case(normal(0, 5))
def empty(x):
    return x * 2.0, tj.reduce_sum(x, 0), tj.reduce_sum(x)


@case(normal(5, 6))
def positions(x):
    rows, columns = tj.range(5)[:, None], tj.range(6)
    return x * tj.cast(columns, tj.float32) + tj.cast(rows, tj.float32), tj.eye(6) * x[0]


@case(normal(6, 9))
def random_numbers(x):
    return tj.random.stateless_uniform((6, 9), seed=[1, 2]) * x, tj.random.stateless_normal((6, 9), seed=[1, 2])


# --- rows and reductions ----------------------------------------------------------------------------------------------
@case(normal(6, 9))
def softmax(x):
    return tj.nn.softmax(x)


@case(normal(6, 9), normal(9), normal(9))
def layernorm(x, g, b):
    d = x - tj.reduce_mean(x, -1, keepdims=True)
    v = tj.reduce_mean(d * d, -1, keepdims=True)
    return d * tj.math.rsqrt(v + 1e-5) * g + b


@case(normal(5, 8), normal(5, 8))
def row_sum_of_another(x, z):
    return tj.exp(x) * tj.reduce_sum(z, -1, keepdims=True)


@case(normal(5000))
def full_sum(x):
    return tj.reduce_sum(x * x)


@case(normal(40, 50))
def column_sums(x):
    return tj.reduce_sum(tj.exp(x), 0)


@case(normal(40, 50), normal(40, 50))
def sums_of_all_kinds(x, y):
    z = x * y
    return tj.reduce_sum(z, 0), tj.reduce_sum(z, 1), tj.reduce_sum(z)


@case(normal(4, 5, 6))
def middle_axes(x):
    return tj.reduce_sum(x, 1), tj.reduce_max(x, (0, 2)), tj.reduce_min(x * 2.0, (0, 1))


@case(whole(-5, 5, (20, 7), np.int32))
def integer_reductions(a):
    return tj.reduce_sum(a, 1), tj.reduce_max(a, 0), tj.reduce_prod(a + 10), tj.reduce_min(a), tj.argmax(a, 1)


@case(whole(0, 2, (20, 7), bool))
def boolean_reductions(a):
    return tj.reduce_all(a, 1), tj.reduce_any(a, 0), tj.reduce_all(a)


@case(normal(8, 4, 6), normal(6))
def layernorm_gradient(x, g):
    with tj.GradientTape() as tape:
        tape.watch([x, g])
        d = x - tj.reduce_mean(x, -1, keepdims=True)
        v = tj.reduce_mean(d * d, -1, keepdims=True)
        loss = tj.reduce_sum((d * tj.math.rsqrt(v + 1e-5) * g) ** 2)
    return tape.gradient(loss, [x, g])


# --- matrix products --------------------------------------------------------------------------------------------------
@case(normal(8, 16), normal(16, 12), normal(12))
def dense(x, w, b):
    return tj.nn.relu(x @ w + b)


@case(normal(8, 16), normal(12, 16), normal(8, 12))
def transposed_product(x, w, y):
    return tj.matmul(x, w, transpose_b=True), tj.matmul(x, y, transpose_a=True) * 2.0


@case(normal(3, 8, 16), normal(3, 16, 12), normal(16, 12), normal(8, 16))
def batches(x, w, shared, y):
    return tj.matmul(x, w), tj.matmul(x, shared) * 2.0, tj.matmul(y, w)


@case(normal(4, 3), normal(3, 2))
def tiny_product(x, w):
    return x @ w


@case(whole(0, 6, (4, 5), np.int32), whole(0, 6, (5, 3), np.int32))
def integer_product(x, y):
    return x @ y


# --- element types ----------------------------------------------------------------------------------------------------
@case(whole(-50, 50, 40, np.int32), whole(-3, 4, 40, np.int32))
def integers(x, y):
    return x // y, x % y, x * y, x << 3, x >> 1, x**2, tj.abs(x), -x, x ^ y, x & y, x | y, ~x, tj.sign(x)


def _all_bits(x: Any, y: Any) -> tuple:
    return (
        x // y, x % y, x * y, x + y, x - y, tj.maximum(x, y), tj.minimum(x, y), tj.bitwise.left_shift(x, y),
        tj.bitwise.right_shift(x, y), E.truncdiv(x, y), E.truncmod(x, y), tj.sign(x), ~x, E.pow_(x, y), -x,
    )  # fmt: skip


@case(whole(-128, 128, 60, np.int8), whole(-128, 128, 60, np.int8))
def int8(x, y):
    return _all_bits(x, y)


@case(whole(0, 256, 60, np.uint8), whole(0, 256, 60, np.uint8))
def uint8(x, y):
    return _all_bits(x, y)


@case(rng.integers(0, 2**64, 40, np.uint64), whole(0, 70, 40, np.uint64))
def uint64(x, y):
    return *_all_bits(x, y), tj.cast(x, tj.float32), tj.cast(x, tj.int32)


@case(whole(0, 2, 20, bool), whole(0, 2, 20, bool), normal(20))
def booleans(a, b, x):
    return (
        tj.logical_and(a, b), tj.logical_or(a, b), tj.logical_not(a), a ^ b, tj.where(a, x, -x), tj.equal(a, b),
        tj.cast(a, tj.float32), tj.cast(a, tj.int32), tj.cast(x, tj.bool),
    )  # fmt: skip


SPECIAL = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, 2.5, -2.5, 3e9, -3e9, 1e30], np.float32)


@case(SPECIAL, SPECIAL[::-1].copy())
def special_values(x, y):
    return (
        tj.maximum(x, y), tj.minimum(x, y), tj.cast(x, tj.int32), tj.cast(x, tj.int64), tj.round(x), tj.floor(x),
        tj.sign(x), x // y, x % y, E.truncmod(x, y), tj.math.is_nan(x), tj.math.is_inf(x), tj.math.is_finite(x),
        tj.sigmoid(x), tj.nn.softplus(x), tj.math.erf(x), tj.nn.relu(x), tj.abs(x), x < y, tj.not_equal(x, y),
    )  # fmt: skip


@case(SPECIAL)
def narrow_integers(x):
    return tuple([tj.cast(x, d) for d in (tj.int8, tj.uint8, tj.int16, tj.uint16, tj.uint32)])


NAMES = """sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh
atanh sigmoid softplus erf erfc relu ceil trunc floor""".split()


def _functions(x: Any) -> tuple:
    return *[getattr(E, n)(x) for n in NAMES], E.acosh(x + 1.0), E.atan2(x, x * x), E.pow_(x, x + 1.0), x**3.0


@case(rng.uniform(0.1, 0.9, 20).astype(np.float32))
def functions32(x):
    return _functions(x)


@case(rng.uniform(0.1, 0.9, 20))
def functions64(x):
    return _functions(x)


def _half(x: Any, y: Any, w: Any) -> tuple:
    sums = tj.reduce_sum(x, 1), tj.reduce_sum(x, 0)
    return x * y + tj.exp(x), *sums, tj.matmul(x, w), tj.nn.softmax(x), tj.cast(x, tj.float32)


@case(*[normal(*s, dtype=np.float16) for s in ((6, 9), (6, 9), (9, 5))], tolerance=1e-2)
def half(x, y, w):
    return _half(x, y, w)


@case(*[normal(*s, dtype=ml_dtypes.bfloat16) for s in ((6, 9), (6, 9), (9, 5))], tolerance=8e-2)
def bfloat(x, y, w):
    return _half(x, y, w)


NEAR_TIES = [0, 1, -2, 65504, 65519, 65520, 1e9, 6e-8, 2.9e-8, 1e-9, 6.1e-5, np.inf, -np.inf, np.nan, 1.0005, 1.0015]


@case(np.array(NEAR_TIES, np.float32))
def to_16_bits(x):
    y, z = tj.cast(x, tj.float16), tj.cast(x, tj.bfloat16)
    return tj.cast(y, tj.float32), tj.cast(z, tj.float32), z


# --- ops without a loop form, constants, captured arrays --------------------------------------------------------------
@case(normal(6, 9), whole(0, 6, (4,), np.int32))
def host_ops(x, i):
    return (
        tj.gather(x, i) * 2.0, tj.argmax(x, 1), tj.concat([x, x * 2.0], 0), tj.cumsum(x, 1), tj.sort(x[1:, ::2], 1),
        tj.pad(x, [[1, 1], [0, 2]]), tj.cumsum(tj.transpose(x), 1), tj.gather(tj.ones((3, 1)) * x[0], i % 3),
    )  # fmt: skip


TABLE = normal(40, 40)


@case(normal(40))
def captured(x):
    line, numbers = tj.constant(np.arange(40.0, dtype=np.float32)), tj.constant(np.arange(9) * 7)
    return x * TABLE, x * line, tj.gather(numbers, [3, 1])
