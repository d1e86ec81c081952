"""Random tensors from a generator's stream, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import DTypeError, locate
from tracejit.ir.types import float32, int64
from tracejit.ops import draws as D
from tracejit.ops import elementwise as E
from tracejit.ops.args import floating, require
from tracejit.ops.generator import Generator, get_global_generator
from tracejit.ops.quick import exact, planned
from tracejit.publicnames import shown_value
from tracejit.tensor import Operand, Tensor


def uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [minval, maxval): [0, 1) by default. Integers need maxval."""
    return D.uniform((generator or get_global_generator()).source(seed), shape, minval, maxval, dtype)


def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed with this mean and standard deviation."""
    return D.normals((generator or get_global_generator()).source, seed, shape, mean, stddev, dtype)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normally distributed within two standard deviations of the mean."""
    return D.truncated_normals((generator or get_global_generator()).source, seed, shape, mean, stddev, dtype)


def shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The slices along the first axis in random order."""
    return D.shuffled(get_global_generator().source(seed), value)


def categorical(logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None, name: Any = None) -> Tensor:
    """Class numbers drawn from unnormalised log-probabilities: (batch, classes) → (batch, num_samples), int64 by
    default. Raises `ArgumentError` for other shapes, and if there are no classes.
    """
    return D.classes(get_global_generator()._draw(seed), logits, num_samples, int64 if dtype is None else dtype)


def _dropped(key: Any, number: Any, x: Any, rate: float) -> Tensor:
    keep = E.greater_equal(D.uniform((key, number), tuple(x.shape), 0, None, float32), rate)
    return E.where(keep, E.div(x, 1.0 - rate), 0.0)


exact(_dropped)


def dropout(x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None, name: str | None = None) -> Tensor:
    """Elements replaced by 0 with probability `rate`, the others divided by 1 − rate."""
    if type(x) is Tensor and type(rate) is float and 0 < rate < 1 and noise_shape is None and not activity.busy:
        if x._a.dtype.char in "fd":
            source = get_global_generator().source(seed)
            if (quick := planned(_dropped, *source, x, rate)) is not None:
                return quick
            return _dropped(*source, x, rate)
    x = floating(x)
    if not isinstance(rate, Operand):
        if not isinstance(rate, (int, float, np.number, np.ndarray)):
            raise locate(DTypeError(f"rate is a number, not {shown_value(rate)}"))
        require(bool(0 <= rate < 1), f"rate is a probability below 1, not {rate}")
        if rate == 0:
            return E.identity(x)
    shape = tuple(x.shape)
    if noise_shape is not None:
        shape = tuple([d if n is None or n == -1 else n for n, d in zip(noise_shape, shape, strict=True)])
    keep = E.greater_equal(uniform(shape, dtype=float32, seed=seed), rate)
    kept = E.div(x, E.sub(1.0, E.cast(rate, dtype=x.dtype))) if isinstance(rate, Operand) else E.div(x, 1.0 - rate)
    return E.where(keep, kept, 0.0)
