"""Python numbers as arguments: inputs, unless Python itself needs to know them; and other Python values."""

import math

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DivisionError, DTypeError

X = np.array([1, 2, 3], np.float32)


def traces(f):
    return f.experimental_get_tracing_count()


# --- Python numbers ---------------------------------------------------------------------------------------------------
def test_numbers_are_inputs():
    f = tj.function(lambda x, k, n: x * k + n)
    for i in range(5):
        assert f(X, i / 2, i).numpy().tolist() == (X * (i / 2) + i).tolist()
    assert traces(f) == 1
    assert f(tj.constant(X), 1, 2.5).dtype == tj.float32
    assert traces(f) == 2


def test_numbers_do_not_decide_the_dtype():
    f = tj.function(lambda x, k: x * k)
    for dtype in (np.float64, np.float32, np.float16, np.int64, np.int32):
        a = np.arange(3).astype(dtype)
        assert f(a, 2).dtype == dtype
        assert f(a, 2).numpy().tolist() == [0, 2, 4]
    assert f(np.arange(3, dtype=np.float16), 0.5).dtype == tj.float16
    assert f(np.arange(3, dtype=np.int32), 0.5).dtype == tj.float64


def test_numbers_among_themselves_are_as_precise_as_pythons():
    f = tj.function(lambda x, n, k: x * ((n * n + n // 3 - n % 7) * (1 - k**n)))
    for n in (3, 40_000, 3_000_000):
        want = (n * n + n // 3 - n % 7) * (1 - 0.9999**n)
        np.testing.assert_allclose(float(f(tj.constant(1.0, tj.float64), n, 0.9999)), want, rtol=1e-14)
        assert f(X, n, 0.9999).dtype == tj.float32
    assert traces(f) == 2


def test_integers_that_do_not_fit_are_refused_as_eagerly():
    f = tj.function(lambda x, n: x * n)
    small, wide = np.arange(3, dtype=np.int8), np.arange(3, dtype=np.int64)
    assert f(small, 3).numpy().tolist() == [0, 3, 6]
    with pytest.raises(DTypeError, match="300 does not fit int8"):
        f(small, 300)
    with pytest.raises(DTypeError, match="does not fit int32"):
        f(np.arange(3, dtype=np.int32), 2**40)
    assert f(wide, 2**40).numpy().tolist() == [0, 2**40, 2**41]
    with pytest.raises(DTypeError):
        f(wide, 2**70)
    assert f(X, 2**70).numpy()[0] == np.float32(2**70)


def test_returned_numbers_are_tensors():
    a, b, c, d = tj.function(lambda n, k: (n, k, n * 2, n / 2))(3, 2.5)
    assert [float(t) for t in (a, b, c, d)] == [3, 2.5, 6, 1.5]
    assert [t.dtype for t in (a, b, c, d)] == [tj.int32, tj.float32, tj.int32, tj.float32]


def test_numbers_that_steer_python_become_constants():
    def repeat(x, n):
        for _ in range(n):
            x = x * 2
        return x

    f = tj.function(repeat)
    for n in (1, 3, 2, 3, 1):
        assert f(X, n).numpy().tolist() == (X * 2**n).tolist()
    assert traces(f) == 3


def test_comparing_and_indexing_with_numbers():
    @tj.function
    def f(x, n, threshold):
        return x[: n + 1] if threshold > 0.5 else x[n]

    assert f(X, 1, 0.75).numpy().tolist() == [1, 2]
    assert f(X, 2, 0.75).numpy().tolist() == [1, 2, 3]
    assert f(X, 2, 0.25).numpy() == 3
    before = traces(f)
    assert f(X, 2, 0.25).numpy() == 3
    assert traces(f) == before


def test_other_numbers_stay_inputs_beside_one_that_steers():
    @tj.function
    def f(x, n, k):
        return tj.zeros((n,)) + x * k

    for k in (0.5, 1.5, 2.5):
        assert f(1.0, 3, k).numpy().tolist() == [k] * 3
    assert traces(f) == 1


def test_powers_of_numbers():
    f = tj.function(lambda x, n, m: (x * n**2, x * n**m, x**n, x * 2.0**m))
    for n, m in ((3, 2), (3, -1), (2, -2)):
        x = X.astype(np.float64)
        for got, want in zip(f(x, n, m), (x * n**2, x * float(n) ** m, x**n, x * 2.0**m)):
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_uses_that_only_numbers_have():
    names = {1: "one", 3: "three"}
    f = tj.function(lambda x, n: ([x] * n, f"{n}", str(n), names[n], x * n))
    for n in (3, 1, 3):
        repeated, text, same, name, product = f(X, n)
        assert (len(repeated), text, same, name) == (n, str(n), str(n), names[n])
        assert product.numpy().tolist() == (X * n).tolist()
    assert traces(f) == 2


def test_an_index_that_is_a_number_is_an_input():
    f = tj.function(lambda x, i: x[i])
    assert [float(f(X, i)) for i in (0, 2, -1, 1)] == [1, 3, 3, 2]
    assert traces(f) == 1
    with pytest.raises(IndexError, match="5"):
        f(X, 5)


@pytest.mark.parametrize(
    "values", [(True, False), ("a", "b"), (None, 1.0), (tj.float32, tj.float64), (slice(0, 1), slice(0, 2))]
)
def test_other_python_values_are_part_of_the_key(values):
    seen = []

    @tj.function
    def f(x, what):
        seen.append(what)
        return x + 1

    for v in (*values, *values, values[0]):
        assert f(X, v).numpy().tolist() == [2, 3, 4]
    assert traces(f) == 2
    assert seen[0] == values[0]


def test_objects_are_compared_by_identity_unless_they_are_equal_by_value():
    class Config:
        k = 2.0

    @tj.function
    def f(x, c):
        return x * c.k

    a, b = Config(), Config()
    b.k = 3.0
    assert f(X, a).numpy().tolist() == [2, 4, 6]
    assert f(X, b).numpy().tolist() == [3, 6, 9]
    assert f(X, a).numpy().tolist() == [2, 4, 6]
    assert traces(f) == 2


def test_equal_keys_of_different_types_keep_apart():
    f = tj.function(lambda x, k: x * 1 if k is True else x * 2)
    assert f(X, True).numpy().tolist() == [1, 2, 3]
    assert f(X, 1).numpy().tolist() == [2, 4, 6]
    assert f(X, 1.0).numpy().tolist() == [2, 4, 6]


# --- the dtypes of what is made from numbers --------------------------------------------------------------------------
FROM_NUMBERS = {
    "operators": lambda h, n: h * (-n + n * 2 - n / 4),
    "powers": lambda h, n: h * (2.0**n + n**2),
    "built-in functions": lambda h, n: h * abs(n) + round(n),
    "math.floor": lambda h, n: h * (math.floor(n) + math.ceil(n) + math.trunc(n)),
    "comparisons": lambda h, n: h * (n > 2),
    "sqrt": lambda h, n: h * tj.sqrt(n),
    "exp and sin": lambda h, n: tj.exp(h) * tj.sin(n),
    "add": lambda h, n: h * tj.add(n, 1),
    "maximum": lambda h, n: h * tj.maximum(n, 2),
    "negative": lambda h, n: h * tj.negative(n),
    "divide": lambda h, n: h * tj.divide(n, 2),
    "pow": lambda h, n: h * tj.pow(n, 2),
    "square": lambda h, n: h * tj.square(n),
    "beside a tensor": lambda h, n: tj.maximum(h, n) + tj.pow(h, n) + tj.where(h > 1, h, n),
    "where": lambda h, n: h * tj.where(True, n, n + 1),
    "constant": lambda h, n: h * tj.constant(n),
    "convert": lambda h, n: h * tj.convert_to_tensor(n, tj.float64),
    "identity": lambda h, n: h * tj.identity(n),
    "cast": lambda h, n: h + tj.cast(n, tj.float64),
    "reshape": lambda h, n: h * tj.reshape(n, (1,)),
    "stack": lambda h, n: h[:2] * tj.stack([n, n]),
    "list": lambda h, n: h[:2] * [n, n],
    "fill": lambda h, n: h * tj.fill((1,), n),
    "ones_like": lambda h, n: h * tj.ones_like(n),
    "expand_dims": lambda h, n: h * tj.expand_dims(n, 0),
    "reduce_sum": lambda h, n: h * tj.reduce_sum(n),
    "add_n": lambda h, n: h * tj.add_n([n, n]),
    "linspace": lambda h, n: h[:2] * tj.linspace(0.0, n, 2),
    "relu": lambda h, n: h * tj.nn.relu(n),
    "gelu": lambda h, n: h * tj.nn.gelu(n),
    "softplus": lambda h, n: h * tj.nn.softplus(n),
    "xlogy": lambda h, n: tj.math.xlogy(n, tj.exp(h)),
    "zeros_like": lambda h, n: tj.zeros_like(n),
    "np.sqrt": lambda h, n: h * np.sqrt(n),
    "np.maximum": lambda h, n: h * np.maximum(n, 2) + np.maximum(h, n),
    "NumPy's scalars": lambda h, n: h * (n * np.float32(2)),
    "an array": lambda h, n: h * (n * np.ones(3, np.float32)),
    "a Variable": lambda h, n: HALF * n + HALF * tj.sqrt(n),
    "alone": lambda h, n: n * 2,
    "a function alone": lambda h, n: tj.sqrt(n),
}
HALF = tj.Variable(np.array([1, 2, 3], np.float16))


@pytest.mark.parametrize("name", FROM_NUMBERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int32", "uint8"])
def test_dtypes_are_those_of_the_eager_form(name, dtype):
    f = FROM_NUMBERS[name]
    h = tj.cast(tj.constant([1, 2, 3]), dtype)
    for n in (3, 2.5):
        want, got = tj.convert_to_tensor(f(h, n)), tj.function(f)(h, n)
        assert got.dtype == want.dtype, n
        tolerance = 2e-2 if min(want.dtype.bits, h.dtype.bits) <= 16 else 1e-6
        np.testing.assert_allclose(tj.cast(got, tj.float64), tj.cast(want, tj.float64), rtol=tolerance)


def test_the_precision_of_what_functions_make_of_numbers():
    assert float(tj.function(lambda n: tj.cast(n, tj.float64))(0.1)) == float(tj.cast(0.1, tj.float64))
    v = tj.Variable(np.zeros(2))
    tj.function(lambda n: v[0].assign(n))(0.1)
    tj.function(lambda n: v[1].assign(n * 2))(0.1)
    assert v.numpy().tolist() == [0.1, 0.2]
    w = tj.Variable(0.0, dtype=tj.float64)
    tj.function(lambda n: w.assign(n))(0.1)
    assert float(w) == 0.1


# --- what Python refuses ----------------------------------------------------------------------------------------------
DIVISIONS = {
    "1 / n": lambda n: 1 / n, "1 // n": lambda n: 1 // n, "1 % n": lambda n: 1 % n, "divmod": lambda n: divmod(7, n)[1],
    "n / 0": lambda n: n / 0, "n ** -1": lambda n: n**-1, "n ** -1.5": lambda n: abs(n) ** -1.5,
    "1 / (2 n)": lambda n: 1 / (n + n), "n ** -n": lambda n: n ** (-n - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("kind", [int, float])
def test_dividing_numbers_by_zero(name, kind):
    f = DIVISIONS[name]
    traced = tj.function(lambda x, n: x * f(n))
    for n in (3, 0, -2, 0, 5):
        if name != "n / 0" and n:
            np.testing.assert_allclose(traced(X, kind(n)), X * f(kind(n)), rtol=1e-6)
        else:
            with pytest.raises(ZeroDivisionError):
                f(kind(n))
            with pytest.raises(ZeroDivisionError):
                traced(X, kind(n))


def test_a_division_by_zero_names_the_line_and_changes_nothing():
    v = tj.Variable(X)

    @tj.function
    def f(x, n):
        v.assign_add(x)
        return x * (1 / n)

    f(X, 2)
    with pytest.raises(DivisionError, match="division by zero") as caught:
        f(X, 0)
    assert "return x * (1 / n)" in str(caught.value)
    assert v.numpy().tolist() == (2 * X).tolist()
    assert traces(f) == 1


def test_tensors_are_divided_by_zero_as_eagerly():
    f = tj.function(lambda x, n: (x / n, x // n, n / x))
    for x in (tj.constant([1.0, -2.0]), tj.constant([1, 2])):
        for got, want in zip(f(x, 0), (x / 0, x // 0, 0 / x)):
            np.testing.assert_array_equal(got, want)


def test_fractional_powers_of_negative_numbers():
    f = tj.function(lambda x, n, k: x * n**k)
    np.testing.assert_allclose(f(X, -2.0, 3.0), X * -8)
    np.testing.assert_allclose(f(X, 4.0, 0.5), X * 2)
    with pytest.raises(ValueError, match="complex"):
        f(X, -4.0, 0.5)
