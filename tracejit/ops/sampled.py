"""Gamma, Poisson, binomial and bounded normal random tensors, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import known_equal, product
from tracejit.ir.types import DType, as_dtype, broadcast_shapes, float32, float64, int32, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import sampling
from tracejit.ops import shape as S
from tracejit.ops.args import Size, operand, require
from tracejit.ops.array import stack, unstack
from tracejit.ops.draws import Source, check_float
from tracejit.ops.extents import whole_extents
from tracejit.ops.generator import DRAWN, get_global_generator
from tracejit.ops.stateless import seeded
from tracejit.tensor import Operand, Tensor, common_dtype

Draw = Callable[[], Source]


def _flat(x: Operand, shape: tuple[Size, ...]) -> Tensor:
    """A parameter in float64: 0-d, or one number for each element."""
    wide = E.cast(x, dtype=float64)
    if not x.ndim:
        return wide  # type: ignore[no-any-return]
    return S.reshape(S.broadcast_to(wide, shape=shape), shape=(product(shape),))  # type: ignore[no-any-return]


def _full(shape: Any, *parameters: Operand) -> tuple[Size, ...]:
    """The shape of a result whose leading axes are `shape` and whose last ones are the parameters'."""
    return (*whole_extents(shape), *broadcast_shapes(*[tuple(p.shape) for p in parameters]))


def _fitting(shape: Any, *parameters: Operand) -> tuple[Size, ...]:
    """`shape`, to which the parameters broadcast. Raises `ShapeError` if they do not."""
    want = whole_extents(shape)
    have = broadcast_shapes(*[tuple(p.shape) for p in parameters])
    if len(have) > len(want) or not all(known_equal(a, b) for a, b in zip(broadcast_shapes(have, want), want)):
        raise locate(ShapeError(f"parameters of shape {show_shape(have)} do not broadcast to {show_shape(want)}"))
    return want


def _result(y: Tensor, shape: tuple[Size, ...], d: DType) -> Tensor:
    return S.reshape(E.cast(y, dtype=d), shape=shape)  # type: ignore[no-any-return]


# --- gamma ------------------------------------------------------------------------------------------------------------
def _parameters(alpha: Any, beta: Any, dtype: Any) -> tuple[Operand, Operand]:
    d = check_float(dtype, "gamma")
    return operand(alpha, d), operand(1.0 if beta is None else beta, d)


def _gamma(draw: Draw, shape: tuple[Size, ...], alpha: Operand, beta: Operand, plain: bool) -> Tensor:
    d = alpha.dtype
    count = product(shape)
    a = _flat(alpha, shape)
    y = sampling.gamma(draw(), E.stop_gradient(a), count, d is float64)
    y = _result(sampling.gamma_of(a, E.stop_gradient(y)), shape, d)
    least = float((ml_dtypes.finfo if d.name == "bfloat16" else np.finfo)(d.np).tiny)
    return E.maximum(y if plain else E.div(y, beta), least)  # type: ignore[no-any-return]


def gamma(
    shape: Any, alpha: Any, beta: Any = None, dtype: Any = float32, seed: int | None = None, name: Any = None
) -> Tensor:
    """Gamma numbers of shape `shape` + that of `alpha` and `beta` together: density ∝ x^(alpha − 1) e^(−beta x).

    The result has derivatives along `alpha` (implicit ones, to any order) and `beta` (1 by default). None is smaller
    than the smallest normal number of the dtype, as in TensorFlow; where alpha is negative or NaN they are NaN. Raises
    `ArgumentError` for a dtype that is not floating.
    """
    a, b = _parameters(alpha, beta, dtype)
    full = _full(shape, a, b)
    return _gamma(lambda: get_global_generator()._draw(seed), full, a, b, beta is None)


def stateless_gamma(
    shape: Any, seed: Any, alpha: Any, beta: Any = None, dtype: Any = float32, name: str | None = None
) -> Tensor:
    """Gamma numbers as `gamma` draws them, a function of the seed (two integers) alone. `shape` is that of the result.

    Raises `ShapeError` if `alpha` and `beta` do not broadcast to it.
    """
    a, b = _parameters(alpha, beta, dtype)
    return _gamma(lambda: seeded(seed), _fitting(shape, a, b), a, b, beta is None)


def _beta(draw: Draw, shape: tuple[Size, ...], alpha: Any, beta: Any, d: DType) -> Tensor:
    """x / (x + y) of gamma numbers with these two shapes, drawn together."""
    both = stack([S.broadcast_to(E.cast(p, dtype=float64), shape=shape) for p in (alpha, beta)])
    x, y = unstack(_gamma(draw, (2, *shape), both, both, True))
    return E.cast(E.div(x, E.add(x, y)), dtype=d)  # type: ignore[no-any-return]


def beta(
    shape: Any, alpha: Any, beta: Any, dtype: Any = float32, seed: int | None = None, name: str | None = None
) -> Tensor:
    """Beta numbers of shape `shape` + that of the parameters together: density ∝ x^(alpha − 1) (1 − x)^(beta − 1).

    The result has derivatives along both parameters, as gamma numbers have; where one is negative or NaN it is NaN.
    Parameters below 0.01 are drawn less exactly, for gamma numbers so small that float64 has none like them. Raises
    `ArgumentError` for a dtype that is not floating. TensorFlow has no such function; NumPy's has these parameters.
    """
    d = check_float(dtype, "beta")
    a, b = operand(alpha, d), operand(beta, d)
    return _beta(lambda: get_global_generator()._draw(seed), _full(shape, a, b), a, b, d)


def stateless_beta(
    shape: Any, seed: Any, alpha: Any, beta: Any, dtype: Any = float32, name: str | None = None
) -> Tensor:
    """Beta numbers as `beta` draws them, a function of the seed (two integers) alone. `shape` is that of the result.

    Raises `ShapeError` if the parameters do not broadcast to it.
    """
    d = check_float(dtype, "beta")
    a, b = operand(alpha, d), operand(beta, d)
    return _beta(lambda: seeded(seed), _fitting(shape, a, b), a, b, d)


# --- numbers of events ------------------------------------------------------------------------------------------------
def _numbers(dtype: Any, what: str) -> DType:
    d = as_dtype(dtype)
    require(d.kind in "iuf", f"{what} has no dtype {d.name}")
    return d


def _poisson(draw: Draw, shape: tuple[Size, ...], lam: Operand, d: DType) -> Tensor:
    rate = E.stop_gradient(_flat(lam, shape))
    return _result(sampling.poisson(draw(), rate, product(shape)), shape, d)


def poisson(shape: Any, lam: Any, dtype: Any = float32, seed: int | None = None, name: str | None = None) -> Tensor:
    """Poisson numbers of mean `lam`, of shape `shape` + that of `lam`. Where lam is negative or NaN they are NaN, 0 in
    integer dtypes.
    """
    d, rate = _numbers(dtype, "poisson"), operand(lam)
    return _poisson(lambda: get_global_generator()._draw(seed), _full(shape, rate), rate, d)


def stateless_poisson(shape: Any, seed: Any, lam: Any, dtype: Any = int32, name: str | None = None) -> Tensor:
    """Poisson numbers as `poisson` draws them, a function of the seed (two integers) alone. `shape` is that of the
    result, to which `lam` broadcasts.
    """
    d, rate = _numbers(dtype, "poisson"), operand(lam)
    return _poisson(lambda: seeded(seed), _fitting(shape, rate), rate, d)


def _binomial(draw: Draw, shape: Any, counts: Any, probs: Any, dtype: Any) -> Tensor:
    d, n, p = _numbers(dtype, "binomial"), operand(counts), operand(probs)
    want = _fitting(shape, n, p)
    trials, chance = (E.stop_gradient(_flat(x, want)) for x in (n, p))
    return _result(sampling.binomial(draw(), trials, chance, product(want)), want, d)


DRAWN["binomial"] = _binomial


def stateless_binomial(
    shape: Any, seed: Any, counts: Any, probs: Any, output_dtype: Any = int32, name: str | None = None
) -> Tensor:
    """How many of `counts` trials succeed, each with probability `probs`: a function of the seed (two integers) alone.

    `counts` and `probs` broadcast to `shape`. Where counts < 0 or probs is outside 0 … 1 or either is NaN the numbers
    are NaN, 0 in integer dtypes.
    """
    return _binomial(lambda: seeded(seed), shape, counts, probs, output_dtype)


# --- bounded normal numbers -------------------------------------------------------------------------------------------
def stateless_parameterized_truncated_normal(
    shape: Any, seed: Any, means: Any = 0.0, stddevs: Any = 1.0, minvals: Any = -2.0, maxvals: Any = 2.0,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Normal numbers with these means and deviations from between bounds, all of which broadcast to `shape`; a function
    of the seed (two integers) alone. They are NaN where minvals < maxvals or stddevs > 0 does not hold.
    """
    given = [operand(x) for x in (means, stddevs, minvals, maxvals)]
    d = common_dtype(tuple(given))[0]
    d = d if d.kind == "f" else float32
    want = _fitting(shape, *given)
    mean, deviation, low, high = (E.stop_gradient(_flat(x, want)) for x in given)
    scale = E.where(E.greater(deviation, 0.0), deviation, float("nan"))
    first, last = (E.div(E.sub(x, mean), scale) for x in (low, high))
    x = sampling.truncated(seeded(seed), first, last, product(want))
    y = E.add(E.mul(x, scale), mean)
    return _result(E.minimum(E.maximum(y, low), high), want, d)
