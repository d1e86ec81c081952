"""Symbolic sizes as Python's numbers: every use gives what the eager form gives, and few of them trace again."""

import math
from fractions import Fraction

import numpy as np
import pytest

import tracejit as tj
from tracejit.ir.dim import Dim

ONCE_OPEN = {  # these hold for every size: one trace for the first, one with the size left open
    "times float": lambda x: x * (x.shape[0] * 0.5),
    "float times": lambda x: x * (0.5 * x.shape[0]),
    "plus float": lambda x: x * (x.shape[0] + 0.5),
    "float minus": lambda x: x * (0.5 - x.shape[0]),
    "floordiv float": lambda x: x * (x.shape[0] // 2.0),
    "mod float": lambda x: x * (x.shape[0] % 2.5),
    "one over": lambda x: x * (1 / x.shape[0]),
    "halved": lambda x: x * (x.shape[0] / 2),
    "size over rows": lambda x: x * (x.size / x.shape[0]),
    "float32": lambda x: x * (x.shape[0] * np.float32(2)),
    "float64 left": lambda x: x * (np.float64(2) * x.shape[0]),
    "int64 in a shape": lambda x: tj.reshape(x, (x.shape[0] * np.int64(2), -1)),
    "array": lambda x: x * (x.shape[0] * np.ones(4, np.float32)),
    "array left": lambda x: x * (np.ones(4, np.float32) * x.shape[0]),
    "complex": lambda x: tj.cast(x, tj.complex64) * (x.shape[0] * 1j),
    "squared": lambda x: x * x.shape[0] ** 2,
    "root": lambda x: x * x.shape[0] ** 0.5,
    "np.sqrt": lambda x: x / np.sqrt(x.shape[1] * x.shape[0]),
    "np.log": lambda x: x * np.log(x.shape[0]),
    "elements": lambda x: tj.reduce_sum(x) * (1.5 * x.size),
    "abs": lambda x: x * abs(x.shape[0] - 9),
    "divmod": lambda x: divmod(x.shape[0], 2)[0] * x,
    "shifts": lambda x: x[: x.shape[0] >> 1] * (x.shape[0] << 1),
    "invert": lambda x: x * ~x.shape[0],
    "isinstance": lambda x: x * isinstance(x.shape[0], int),
    "isinstance of several": lambda x: x * isinstance(x.shape[0], (str, int)) * (not isinstance(x.shape[0], float)),
    "type": lambda x: x * (type(x.shape[0]) is int),
    "above a float": lambda x: x if x.shape[0] > 2.5 else -x,
    "round, floor": lambda x: x * round(x.shape[0]) * math.floor(x.shape[0]),
    "linspace": lambda x: tj.linspace(0.0, 1.0, x.shape[0]),
    "of tf.size": lambda x: tj.sqrt(tj.size(x)),
    "of tf.shape": lambda x: tj.sqrt(tj.shape(x)),
}
EACH = {  # Python needs the number itself
    "power of two": lambda x: x * 2 ** x.shape[0],
    "bit and": lambda x: x * (x.shape[0] & 1),
    "math.sqrt": lambda x: x * math.sqrt(x.shape[0]),
    "float": lambda x: x * float(x.shape[0]),
    "format": lambda x: x * int(f"{x.shape[0]:03d}"),
    "plain format": lambda x: x * int(f"{x.shape[0]}"),
    "str": lambda x: x * int(str(x.shape[0])),
    "percent": lambda x: x * int("%s" % x.shape[0]),  # noqa: UP031
    "dict": lambda x: x * {5: 1, 3: 2}.get(x.shape[0], 9),
    "set": lambda x: x * (x.shape[0] in {5}),
    "fraction": lambda x: x * float(Fraction(1, x.shape[0])),
    "bit_length": lambda x: x * x.shape[0].bit_length(),
    "array of sizes": lambda x: x[0] * np.array([x.shape[0], 1, 2, 3], np.float32),
    "equal to NumPy's": lambda x: x if x.shape[0] == np.int64(5) else -x,
    "modular power": lambda x: x * pow(x.shape[0], 2, 3),
    "int of a product": lambda x: x[: int(x.shape[0] * 0.5)],
    "divided by": lambda x: x * (17 // x.shape[0]) * (17 % x.shape[0]),
}


def batch(n):
    return tj.constant(np.arange(4 * n, dtype=np.float32).reshape(n, 4))


def like_eager(f, sizes):
    traced = tj.function(f)
    for n in sizes:
        a, b = traced(batch(n)), f(batch(n))
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    return traced.experimental_get_tracing_count()


@pytest.mark.parametrize("f", ONCE_OPEN.values(), ids=list(ONCE_OPEN))
def test_the_open_size_takes_part_in_arithmetic(f):
    assert like_eager(f, (3, 5, 7, 6)) == 2


@pytest.mark.parametrize("f", EACH.values(), ids=list(EACH))
def test_uses_that_need_the_number_trace_again(f):
    assert like_eager(f, (3, 5, 7)) == 3


def test_sizes_print_their_names_outside_of_traces():
    n = Dim.symbol("n", 5)
    assert repr(n * 2) == str(n * 2) == f"{n * 2}" == "2*n"
    assert isinstance(n, Dim) and {n: 1}[n] == 1


def test_printed_graphs_keep_names_of_sizes():
    f = tj.function(lambda x: x * (x.shape[0] * 0.5))
    f(batch(3)), f(batch(5))
    assert "f32[d0,4]" in str(f.concrete_functions[-1].graph)


def test_zero_divisors_are_refused():
    f = tj.function(lambda x: x * (x.shape[0] // 0))
    with pytest.raises(ZeroDivisionError):
        f(batch(3))


# --- tensors of sizes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "f",
    [
        lambda x: tj.reshape(x * 2, tj.shape(x)),
        lambda x: tj.zeros(tj.shape(x)),
        lambda x: tj.fill(tj.shape(x), 2.0),
        lambda x: tj.broadcast_to(1.0, tj.shape(x)),
        lambda x: tj.range(tj.shape(x)[0]),
        lambda x: tj.reshape(x, (tj.shape(x)[0] * 2, -1)),
        lambda x: tj.zeros(tj.shape(x, out_type=tj.int64)),
    ],
)
def test_shape_of_known_and_of_open_sizes_is_known(f):
    traced = tj.function(f)
    for n in (3, 5, 7):
        np.testing.assert_array_equal(traced(batch(n)).numpy(), f(batch(n)).numpy())
    assert traced.experimental_get_tracing_count() == 2


def test_random_tensors_of_a_shape():
    assert tj.function(lambda x: tj.random.normal(tj.shape(x)))(batch(3)).shape == (3, 4)


@pytest.mark.parametrize("out_type", [tj.int32, tj.int64])
@pytest.mark.parametrize("f", [tj.size, tj.shape])
def test_the_dtype_of_sizes_stays(f, out_type):
    traced = tj.function(lambda x: tj.sqrt(f(x, out_type=out_type)))
    assert [traced(batch(n)).dtype for n in (3, 5)] == [tj.float64, tj.float64]
    given = tj.function(lambda x: f(x, out_type=out_type))
    assert [given(batch(n)).dtype for n in (3, 5)] == [out_type, out_type]


@pytest.mark.parametrize("shift", [3, -3, 12, -12, 0])
def test_roll_by_more_than_the_size(shift):
    traced = tj.function(lambda x: tj.roll(x, shift, 0))
    for n in (5, 4, 2, 3, 7, 1):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(traced(tj.constant(x)).numpy(), np.roll(x, shift))


# --- integers of Python's -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("f", "n"),
    [
        (lambda n: n * n, 100000),
        (lambda n: 1 << n, 40),
        (lambda n: 1 << n, 70),
        (lambda n: n + 1, 2**31 - 1),
        (lambda n: n - 1, -(2**31)),
        (lambda n: -n, -(2**31)),
        (lambda n: abs(n), -(2**31)),
        (lambda n: n**3, 2**22),
        (lambda n: tj.cast(n * n * n, tj.float32), 2**30),
        (lambda n: tj.constant([1]) + n * n, 100000),
    ],
)
def test_integers_that_leave_their_type_are_refused(f, n):
    traced = tj.function(f)
    assert traced(2) == f(2)
    with pytest.raises(tj.errors.DTypeError, match=r"exceeds int64|does not fit int32"):
        traced(n)
    assert traced(3) == f(3) and traced.experimental_get_tracing_count() == 1


def test_integers_within_int64_are_exact():
    assert tj.function(lambda n: tj.cast(n * n, tj.int64))(100000) == 10**10
    assert tj.function(lambda n: n * n // n)(100000) == 100000
    assert tj.function(lambda n: (1 << n) % 1000)(40) == (1 << 40) % 1000
    assert tj.function(lambda n, x: x * (n * n))(100000, tj.ones(1)).numpy() == np.float32(1e10)


def test_integers_that_cannot_leave_int32_are_not_checked():
    f = tj.function(lambda n, x: x + n % 7 + (n & 3))
    assert "check" not in str(f.graph(5, tj.constant([1])))


@pytest.mark.parametrize(
    ("f", "n"),
    [
        (lambda n: n.bit_length(), 5),
        (lambda n: n.is_integer(), 2.0),
        (lambda n: n.real, 2.5),
        (lambda n: n.numerator, 7),
        (lambda n: n.as_integer_ratio()[1], 0.25),
    ],
)
def test_attributes_of_numbers(f, n):
    assert tj.function(f)(n) == f(n)


def test_tensors_lack_attributes_of_numbers():
    for name in ("bit_length", "real", "numerator"):
        assert not hasattr(tj.ones(2), name)
        assert not tj.function(lambda x, name=name: hasattr(x, name))(tj.ones(2))
