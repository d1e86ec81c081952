"""Python numbers as arguments: inputs, unless Python itself needs to know them; and other Python values."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DTypeError

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
