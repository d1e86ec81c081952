"""Random tensors that are functions of a seed alone, and seeds made from seeds, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ArgumentError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import DType, float32, int64, uint64
from tracejit.ops import draws as D
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_size, operand, require
from tracejit.ops.draws import Source
from tracejit.ops.generator import check_algorithm
from tracejit.ops.philox import philox64
from tracejit.ops.quick import traced
from tracejit.tensor import Operand, Tensor, wrap

# Added to keys so that the bits of seeds that are made are none that are drawn
_SPLIT, _FOLD = 0x53504C4954, 0x464F4C44


def seeded(seed: Any, alg: Any = None) -> Source:
    """A seed of two integers as a source of bits. Raises `ArgumentError` for another shape or dtype."""
    check_algorithm(alg)
    if not activity.busy and (type(seed) is list or type(seed) is tuple) and len(seed) == 2:
        if all(type(s) is int and -(2**63) <= s < 2**63 for s in seed):
            return wrap(np.array(seed[0] % 2**64, np.uint64)), wrap(np.array(seed[1] % 2**64, np.uint64))
    s = _seed(seed)
    a, b = (S.reshape(S.slice_(E.cast(s, dtype=uint64), start=(i,), size=(1,), step=(1,)), shape=()) for i in range(2))
    return a, b


def _seed(seed: Any) -> Operand:
    s = operand(seed)
    if s.ndim != 1 or s.dtype.kind not in "iu" or not known_equal(s.shape[0], 2):
        raise locate(ArgumentError(f"a stateless draw takes a seed of two integers, not {s.type}"))
    return s


# --- seeds ------------------------------------------------------------------------------------------------------------
def split(seed: Any, num: Any = 2, alg: Any = "auto_select") -> Tensor:
    """`num` new seeds from one, the rows of a tensor of shape (num, 2) and the seed's dtype."""
    n = as_size(num, "num")
    require(n >= 0, f"num is 0 or more, not {n}")
    return _made(seed, alg, _SPLIT, D.positions((2 * n,)), (n, 2))


def fold_in(seed: Any, data: Any, alg: Any = "auto_select") -> Tensor:
    """A new seed from a seed and an integer, such as the number of a step; of the seed's dtype."""
    t = operand(data)
    if t.ndim or t.dtype.kind not in "iu":
        raise locate(ArgumentError(f"data is one integer, not {t.type}"))
    return _made(seed, alg, _FOLD, E.add(E.mul(E.cast(t, dtype=uint64), 2), D.positions((2,))), (2,))


def _made(seed: Any, alg: Any, apart: int, at: Tensor, shape: Any) -> Tensor:
    d: DType = _seed(seed).dtype
    key, draw = seeded(seed, alg)
    return S.reshape(E.cast(philox64(at, E.add(key, apart), draw), dtype=d), shape=shape)  # type: ignore[no-any-return]


stateless_split, stateless_fold_in = split, fold_in


# --- draws ------------------------------------------------------------------------------------------------------------
def stateless_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = float32, name: Any = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """Uniform in [minval, maxval), a function of the seed (two integers) alone.

    Integers need maxval; with None for both bounds they are from the whole range of the dtype.
    """
    if not activity.busy:
        if (quick := traced(stateless_uniform, shape, seed, minval, maxval, dtype, None, alg)) is not None:
            return quick
    return D.uniform(seeded(seed, alg), shape, minval, maxval, dtype)


def stateless_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """Normally distributed, a function of the seed (two integers) alone."""
    if not activity.busy:
        if (quick := traced(stateless_normal, shape, seed, mean, stddev, dtype, None, alg)) is not None:
            return quick
    return D.normals(lambda seed: seeded(seed, alg), seed, shape, mean, stddev, dtype)


def stateless_truncated_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """Normally distributed within two standard deviations, a function of the seed (two integers) alone."""
    if not activity.busy:
        if (quick := traced(stateless_truncated_normal, shape, seed, mean, stddev, dtype, None, alg)) is not None:
            return quick
    return D.truncated_normals(lambda seed: seeded(seed, alg), seed, shape, mean, stddev, dtype)


def stateless_categorical(logits: Any, num_samples: Any, seed: Any, dtype: Any = int64, name: Any = None) -> Tensor:
    """Class numbers as `categorical` draws them, a function of the seed (two integers) alone."""
    return D.classes(seeded(seed), logits, num_samples, dtype)


def stateless_shuffle(value: Any, seed: Any, alg: Any = "auto_select", name: str | None = None) -> Tensor:
    """The slices along the first axis in an order that is a function of the seed (two integers) alone."""
    return D.shuffled(seeded(seed, alg), value)
