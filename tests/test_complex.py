"""Functions of complex numbers: values as NumPy has them, derivatives by differences, traced as eagerly."""

import numpy as np
import pytest

import tracejit as tj

FUNCTIONS = {
    "abs": np.abs, "exp": np.exp, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "expm1": np.expm1,
    "exp2": np.exp2, "sqrt": np.sqrt, "rsqrt": lambda z: 1 / np.sqrt(z), "reciprocal": np.reciprocal,
    "square": np.square, "conj": np.conj, "real": np.real, "imag": np.imag, "sign": np.sign,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}  # fmt: skip


def numbers(seed, n=5):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.8, 0.8, n) + 1j * rng.uniform(-0.8, 0.8, n)


def weighted(f, weights):
    """A real number that depends on all results of f."""

    def total(z):
        y = f(z)
        if y.dtype.kind == "c":
            return tj.reduce_sum(tj.math.real(y * tj.constant(np.conj(weights))))
        return tj.reduce_sum(y * tj.constant(weights.real))

    return total


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name):
    f, z, w, t = getattr(tj.math, name), numbers(0), numbers(1), numbers(2)
    for g in (f, tj.function(f)):
        y = g(tj.constant(z))
        np.testing.assert_allclose(y.numpy(), FUNCTIONS[name](z), rtol=1e-12)
        assert y.dtype is tj.as_dtype(FUNCTIONS[name](z).dtype)
        assert g(tj.constant(z.astype(np.complex64))).dtype is (tj.complex64 if y.dtype.kind == "c" else tj.float32)
    total = weighted(f, w)

    def gradient(z):
        with tj.GradientTape() as tape:
            tape.watch(z)
            y = total(z)
        return tape.gradient(y, z)

    want = np.zeros(5, complex)  # d/dx + i d/dy
    for i in range(5):
        for direction in (1, 1j):
            h = np.zeros(5, complex)
            h[i] = 1e-6 * direction
            want[i] += direction * (float(total(tj.constant(z + h))) - float(total(tj.constant(z - h)))) / 2e-6
    for g in (gradient, tj.function(gradient)):
        np.testing.assert_allclose(g(tj.constant(z)).numpy(), want, rtol=1e-6, atol=1e-7)
    x = tj.constant(z)
    with tj.autodiff.ForwardAccumulator(x, tj.constant(t)) as acc:
        y = total(x)
    assert float(acc.jvp(y)) == pytest.approx(np.sum((np.conj(want) * t).real), rel=1e-6)


def test_the_slope_of_the_absolute_value_of_zero_is_zero():
    z = tj.constant([0j, 3 + 4j])
    with tj.GradientTape() as tape:
        tape.watch(z)
        y = tj.abs(z)
    assert y.numpy().tolist() == [0, 5]
    np.testing.assert_allclose(tape.gradient(y, z).numpy(), [0, 0.6 + 0.8j])


def test_functions_of_real_numbers_refuse_complex_ones():
    z = tj.constant([1 + 2j])
    for f in (tj.math.softplus, tj.math.erf, tj.math.erfc, tj.math.erfinv):
        for g in (f, tj.function(f)):
            with pytest.raises(tj.errors.DTypeError, match=r"c128\[1\]\): dtype complex128"):
                g(z)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "bfloat16", "float32", "complex64"])
def test_questions_about_numbers_of_every_kind(dtype):
    values = [0, 1, 2] if dtype in ("bool", "uint8", "int32") else [0, 1, np.nan, np.inf, -np.inf]
    a = np.array(values).astype(tj.as_dtype(dtype).np)
    x = tj.constant(a)
    b = x.numpy().astype(np.float32) if dtype == "bfloat16" else a
    for ours, theirs in [(tj.math.is_nan, np.isnan), (tj.math.is_inf, np.isinf), (tj.math.is_finite, np.isfinite),
                         (tj.logical_not, np.logical_not)]:  # fmt: skip
        for g in (ours, tj.function(ours), theirs):
            np.testing.assert_array_equal(np.asarray(g(x)), theirs(b))
    for ours, theirs in [(tj.logical_and, np.logical_and), (tj.logical_or, np.logical_or),
                         (tj.math.logical_xor, np.logical_xor)]:  # fmt: skip
        for g in (ours, tj.function(ours), theirs):
            np.testing.assert_array_equal(np.asarray(g(x, x[::-1])), theirs(b, b[::-1]))
            np.testing.assert_array_equal(np.asarray(g(x, True)), theirs(b, True))
