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
@pytest.mark.parametrize("dtype", [tj.float32, tj.float64], ids=str)
def test_gelu_and_its_slope_below_0(dtype, wrap):
    given = X.astype(dtype.np)
    x = tj.constant(given)

    def all_three(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.nn.gelu(x)
        return y, tape.gradient(y, x), tj.jvp(tj.nn.gelu, (x,), (tj.ones_like(x),))[1]

    y, slope, forward = wrap(all_three)(x)
    w, info = given.astype(np.float64), np.finfo(dtype.np)
    counts = info.eps * (4 + w * w)  # the exponent's own rounding counts as often as it is large

    def check(got, *terms):
        excess = np.abs(got.numpy() - sum(terms)) / (counts * sum(map(np.abs, terms)) + info.tiny * 32)
        assert excess.max() < 1, w[excess.argmax()]

    check(y, w * sp.ndtr(w))
    density = np.exp(-0.5 * w**2) / np.sqrt(2 * np.pi)
    check(slope, sp.ndtr(w), w * density)
    check(forward, sp.ndtr(w), w * density)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("name", ["softplus", "log_sigmoid"])
def test_slopes_of_soft_steps_keep_their_digits(name, wrap):
    f, sign = {"softplus": (tj.nn.softplus, 1), "log_sigmoid": (tj.math.log_sigmoid, -1)}[name]
    x = tj.constant(X.astype(np.float32))

    def slopes(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x), tj.jvp(f, (x,), (tj.ones_like(x),))[1]

    for got in wrap(slopes)(x):
        want = sp.expit(sign * X.astype(np.float32).astype(np.float64))
        np.testing.assert_allclose(got, want, rtol=5e-7)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("dtype", [tj.float16, tj.bfloat16], ids=str)
def test_16_bits_are_rounded_once(dtype, wrap):
    x = tj.constant(np.linspace(-8, 8, 2001), dtype)
    w = x.numpy().astype(np.float64)
    for f, want in ((tj.sigmoid, sp.expit(w)), (tj.nn.softplus, np.logaddexp(0, w)), (tj.tanh, np.tanh(w))):
        wrong = wrap(f)(x).numpy() != want.astype(dtype.np)
        assert wrong.mean() < 0.001  # halves between two neighbours
