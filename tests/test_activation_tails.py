"""Activations far from 0: small results keep their digits, eagerly and traced."""

import numpy as np
import pytest
import scipy.special as sp

import tracejit as tj

SIZES = 10.0 ** np.linspace(-30, np.log10(30), 200)
X = np.concatenate([np.linspace(-30, 12, 500), SIZES, -SIZES])
ROOT = np.sqrt(8 / np.pi)
FUNCTIONS = {
    "silu": (tj.nn.silu, lambda x: x * sp.expit(x)),
    "gelu, approximate": (
        lambda x: tj.nn.gelu(x, approximate=True), lambda x: x * sp.expit(ROOT * (x + 0.044715 * x**3)),
    ),
    "softplus": (tj.nn.softplus, lambda x: np.logaddexp(0, x)),
    "log_sigmoid": (tj.math.log_sigmoid, lambda x: -np.logaddexp(0, -x)),
    "softsign": (tj.nn.softsign, lambda x: x / (1 + np.abs(x))),
    "elu": (tj.nn.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "selu": (
        tj.nn.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("dtype", [tj.float32, tj.float64], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_relative_errors(name, dtype, wrap):
    f, reference = FUNCTIONS[name]
    x = X.astype(dtype.np)
    if name == "gelu, approximate":
        x = x[x > (-8 if dtype is tj.float32 else -18)]  # the exponent's own rounding counts as often as it is large
    want = reference(x.astype(np.float64))
    got = wrap(f)(tj.constant(x)).numpy()
    step = np.finfo(dtype.np).eps * (600 if name == "gelu, approximate" else 3)
    np.testing.assert_allclose(got, want, rtol=step, atol=np.finfo(dtype.np).tiny)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_gelu_and_its_slope_below_0(wrap):
    x = tj.constant(X, tj.float64)

    def both(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.nn.gelu(x)
        return y, tape.gradient(y, x)

    y, slope = wrap(both)(x)
    np.testing.assert_allclose(y, X * sp.ndtr(X), rtol=1e-13, atol=1e-300)
    density = np.exp(-0.5 * X**2) / np.sqrt(2 * np.pi)
    keep = np.abs(X + 0.75179) > 0.01  # it passes through 0 there
    np.testing.assert_allclose(slope.numpy()[keep], (sp.ndtr(X) + X * density)[keep], rtol=3e-11, atol=1e-300)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_gelu_of_float32_has_a_small_absolute_error(wrap):
    x = X.astype(np.float32)
    got = wrap(tj.nn.gelu)(tj.constant(x)).numpy()
    np.testing.assert_allclose(got, x * sp.ndtr(x.astype(np.float64)), rtol=3e-7, atol=5e-7)
