"""Results of several tensors that can be asked for by name, as TensorFlow calls them."""

from __future__ import annotations

from typing import NamedTuple

from tracejit.tensor import Tensor


class TopKV2(NamedTuple):
    values: Tensor
    indices: Tensor


class Unique(NamedTuple):
    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment]  # which hides the method of tuples, as in TensorFlow


class Qr(NamedTuple):
    q: Tensor
    r: Tensor


class Lu(NamedTuple):
    lu: Tensor
    p: Tensor


class LogMatrixDeterminant(NamedTuple):
    sign: Tensor
    log_abs_determinant: Tensor


class MaxPoolWithArgmax(NamedTuple):
    output: Tensor
    argmax: Tensor


class FractionalPool(NamedTuple):
    output: Tensor
    row_pooling_sequence: Tensor
    col_pooling_sequence: Tensor


class Sampled(NamedTuple):
    sampled_candidates: Tensor
    true_expected_count: Tensor
    sampled_expected_count: Tensor
