"""Python numbers made of traced tensors: float, int, bool, functions of `math`, items of lists; and falling back."""

import math
import warnings

import numpy as np
import pytest
from helpers import outcome, plain, same

import tracejit as tj
from tracejit.errors import ConversionWarning, TracedValueError


def test_conversions():
    def arithmetic(x):
        n = int(x)
        return x * float(x), n // 2, n / 4, -n % 3, n**2, n << 2, x * n, round(float(x), 1) * x, max(n, 3), abs(-n)

    def looped(x):
        for i in range(int(x)):
            x = x + i
        return x

    def decided(x):
        return x if bool(x > 0) else -x

    def literals(x):
        return float("2.5") * x + int("7") + int(3.7) + float()  # noqa: UP018

    same(arithmetic, 2.5, -7.75, 0.0, 3.0)
    same(looped, 2.5, -1.0, 5.0)
    same(decided, 2.5, -1.0)
    same(literals, 2.5)


def test_numbers_that_python_lacks_are_errors():
    f = tj.function(lambda x: x * int(x), strict=True)
    with pytest.raises(ValueError, match="NaN"):
        f(tj.constant(np.nan))
    with pytest.raises(OverflowError):
        f(tj.constant(np.inf))
    assert plain(f(tj.constant(-2.5))) == 5.0


def test_numbers_that_are_returned_are_pythons():
    def f(x):
        n, y = int(x), 0.0
        for r in tj.stack([x, x * 2, x * 3]):
            y += float(r) / 3
        while n > 3:
            n -= 3
        return math.exp(x) - 1, float(x), n, y, bool(x > 0), {"half": len(tj.boolean_mask([x], [x > 0])) / 2}, x * 2

    for v in (tj.constant(20.1), tj.constant(20.1, tj.float64), tj.constant(-3.7)):
        got, want = tj.function(f, strict=True)(v), f(v)
        assert [type(a) for a in got] == [type(a) for a in want]
        assert got[0] == pytest.approx(want[0], rel=1e-15) and got[1:6] == want[1:6]


def test_numbers_of_arguments_are_returned_as_tensors():
    a, b = tj.function(lambda n, y: (n * 2, y + n))(3, 2.5)
    assert (a.dtype, b.dtype, int(a), float(b)) == (tj.int32, tj.float32, 6, 5.5)


def test_a_size_is_returned_as_an_int():
    f = tj.function(lambda x: (x.shape[0], len(x), x))
    for n in (3, 4, 5):
        assert f(np.zeros(n))[:2] == (n, n) and type(f(np.zeros(n))[0]) is int


def test_numbers_of_a_function_within_a_function():
    inner = tj.function(lambda x: float(x) * 2)
    assert tj.function(lambda x: inner(x) + 1)(tj.constant(1.5)) == 4.0
    assert tj.function(lambda x: inner(x) * x)(tj.constant(1.5)).dtype == tj.float32


def test_numbers_are_of_pythons_types():
    def f(x):
        n, y, b = int(x), float(x), bool(x)
        assert isinstance(n, int) and isinstance(y, float) and isinstance(b, (bool, str))
        assert type(n) is int and type(y) is float and not isinstance(n, tj.Tensor)
        assert isinstance(x, tj.Tensor) and type(x) is tj.Tensor
        return x

    tj.function(f, strict=True)(tj.constant(2.5))

    def g(x, n):
        return x * isinstance(n, int) + type(n)(3.7)

    assert plain(tj.function(g)(tj.constant(2.0), 5)) == plain(g(tj.constant(2.0), 5))


def test_numbers_outside_the_function_are_pythons(capsys):
    kept = []

    def f(x):
        kept.extend([float(x), int(x), bool(x)])
        print(float(x), int(x), f"{int(x)} {float(x):.2f}", str(int(x)))
        return x

    f(tj.constant(2.1))
    plainly, said = list(kept), capsys.readouterr().out
    kept.clear()
    tj.function(f, strict=True)(tj.constant(2.1))
    assert kept == plainly
    assert [type(x) for x in kept] == [float, int, bool]
    assert capsys.readouterr().out == said


def test_no_gradient_goes_through_a_number():
    def f(x):
        return x * float(x) + math.exp(x)

    for g in (f, tj.function(f, strict=True)):
        x = tj.constant(2.0)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = g(x)
        assert float(tape.gradient(y, x)) == 2.0


NAMES = [
    "exp", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "fabs", "erf", "erfc", "isnan", "isinf", "isfinite",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_math(name):
    f = getattr(math, name)
    traced = tj.function(lambda x: x + f(x), strict=True)
    for v in (0.5, -0.5, 1.0, -1.0, 0.0, 2.5, -2.5, 800.0, -800.0, np.inf, -np.inf, np.nan):
        x = tj.constant(v)
        want, got = outcome(lambda y: y + f(y), x), outcome(traced, x)
        if isinstance(want, type):
            assert got is want, v
        else:
            np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=str(v))


def test_items_at_traced_positions():
    def f(x):
        n = int(x)
        return [x, x * 2, x * 3][n], (1.0, 2.5, 3.0)[n] * x, [1, 2, 3][-n], [x, x * 2, x * 3][tj.cast(x, tj.int32)]

    same(f, 1.0, 2.5, 0.0)
    same(f, 5.0, -5.0)

    def g(x, i):
        return [tj.sin(x), x * x, x][i] * x

    found = []
    for h in (g, tj.function(g, strict=True)):
        x = tj.constant(2.0)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = h(x, tj.constant(1))
        found.append((float(y), float(tape.gradient(y, x))))
    assert found[0] == found[1] == (8.0, 12.0)


# --- what needs the numbers themselves --------------------------------------------------------------------------------
def in_a_dict(x):
    return {1: x, 2: x * 2}[int(x)]


def in_a_set(x):
    return x * (int(x) in {1: "a", 2: "b"})


def repeated(x):
    return [x] * int(x), "ab" * int(x)


def letters(x):
    return b"abc"[int(x)]


def mixed(x):
    return [x, 1.0, "a"][int(x) - 2]


def in_numpy(x):
    return x.numpy() * 2


def two_arguments(x):
    return math.atan2(x, x)


def in_a_library(x):
    return np.median(x)


def as_shape(x):
    return tj.zeros((int(x),)) + x


def counted(x):
    n = 0
    while x < 10:
        x, n = x + 1, n + 1
    return "a" * n


def by_a_count(x):
    n = 0
    while x < 10:
        x, n = x + 1, n + 1
    return {8: x, 7: -x}[n]


@pytest.mark.parametrize("x", [2.0, 0.5, 3.9])
def test_a_number_of_a_tensor_as_a_size(x):
    got = tj.function(as_shape, strict=True)(tj.constant(x))
    np.testing.assert_array_equal(got.numpy(), as_shape(tj.constant(x)).numpy())


FALLING_BACK = [
    in_a_dict, in_a_set, repeated, letters, mixed, in_numpy, two_arguments, in_a_library, counted,
    by_a_count,
]  # fmt: skip


@pytest.mark.parametrize("f", FALLING_BACK, ids=lambda f: f.__name__)
def test_falling_back_with_one_warning(f):
    traced = tj.function(f)
    with pytest.warns(ConversionWarning, match=f"{f.__name__} runs as plain Python") as told:
        for v in (2.0, 2.5):
            assert plain(traced(tj.constant(v))) == plain(f(tj.constant(v)))
    assert len(told) == 1
    assert any(line.startswith("  test_python_numbers.py") for line in str(told[0].message).splitlines())
    with pytest.raises(TracedValueError, match="test_python_numbers"):
        tj.function(f, strict=True)(tj.constant(2.0))


def test_code_that_is_not_converted_does_not_fall_back():
    @tj.autograph.do_not_convert
    def inner(x):
        return float(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TracedValueError):
            tj.function(lambda x: inner(x) * 2)(tj.constant(1.0))
        with pytest.raises(TracedValueError):
            tj.function(lambda x: x.numpy(), autograph=False)(tj.constant(1.0))


@pytest.mark.parametrize("whole", [int, round, math.floor, math.ceil, math.trunc])
@pytest.mark.parametrize("strict", [True, False])
def test_whole_parts_of_numbers_that_have_none_are_pythons_errors(whole, strict):
    f = tj.function(lambda x, p: x + whole(p), strict=strict)
    x = tj.ones(2)
    for _ in range(2):
        assert f(x, 2.5).numpy().tolist() == [1.0 + whole(2.5)] * 2
        assert f(x, -7.5).numpy().tolist() == [1.0 + whole(-7.5)] * 2
        with pytest.raises(OverflowError, match="cannot convert float infinity to integer"):
            f(x, math.inf)
        with pytest.raises(ValueError, match="cannot convert float NaN to integer"):
            f(x, math.nan)
