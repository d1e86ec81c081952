"""Losses over a sample of the classes, and the samplers that draw it, under TensorFlow's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import float32, float64, int32, int64
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_size, floating, operand, require
from tracejit.ops.array import concat
from tracejit.ops.check import require_range
from tracejit.ops.creation import counter
from tracejit.ops.linalg import matmul
from tracejit.ops.nn import sigmoid_cross_entropy_with_logits, softmax_cross_entropy_with_logits
from tracejit.ops.random import uniform
from tracejit.ops.reductions import cumsum, reduce_any, reduce_sum
from tracejit.ops.results import Sampled
from tracejit.ops.searching import searchsorted
from tracejit.ops.select import gather, top_k, where
from tracejit.tensor import Operand, Tensor, convert

_HIDDEN = float(np.finfo(np.float32).min)  # added to a logit that is not to count


# --- samplers ---------------------------------------------------------------------------------------------------------
def _classes(true_classes: Any, num_true: Any) -> Operand:
    t = operand(true_classes)
    n = as_size(num_true, "num_true")
    if t.dtype.kind not in "iu" or t.ndim != 2 or not known_equal(t.shape[1], n):
        raise locate(ShapeError(f"true_classes {t.type} are integers [batch, num_true = {n}]"))
    return E.cast(t, dtype=int64)  # type: ignore[no-any-return]


def _unit(count: Any, seed: Any) -> Tensor:
    """Uniform in (0, 1)."""
    return E.maximum(uniform([count], dtype=float64, seed=seed), 2.0**-54)  # type: ignore[no-any-return]


def _sample(t: Operand, chances: Tensor, count: Any, unique: bool, seed: Any) -> Sampled:
    """Classes drawn with these chances, and how often those given and those drawn are expected in such a sample.

    Without repetition class c comes at a time −log u / p(c), and the first ones are taken: as if one drew until there
    are enough different ones. A class is among them with probability 1 − (1 − p)ⁿ after n draws, and n is taken to be
    the time of the last one: draws come once in a unit of time.
    """
    require_range(t, chances.shape[0], "true class {} is not one of {high}", negative=False)
    if unique:
        times = E.div(E.neg(E.log(_unit(chances.shape[0], seed))), chances)
        first, drawn = top_k(E.neg(times), count, index_type=int64)
        tries = E.neg(first[-1])
    else:
        total = cumsum(chances)
        drawn = searchsorted(total, E.mul(_unit(count, seed), total[-1]), side="right", out_type=int64)
        drawn = E.minimum(drawn, E.sub(E.cast(convert(chances.shape[0]), dtype=int64), 1))
        tries = None

    def expected(c: Operand) -> Tensor:
        p = gather(chances, c)
        if tries is None:
            return E.cast(E.mul(p, float(count)), dtype=float32)  # type: ignore[no-any-return]
        return E.cast(E.neg(E.expm1(E.mul(E.log1p(E.neg(p)), tries))), dtype=float32)  # type: ignore[no-any-return]

    return Sampled(*[E.stop_gradient(x) for x in (drawn, expected(t), expected(drawn))])


def _sizes(num_sampled: Any, range_max: Any, unique: bool) -> tuple[int, int]:
    count, n = int(as_size(num_sampled, "num_sampled")), int(as_size(range_max, "range_max"))
    require(count > 0 and n > 0, f"num_sampled and range_max are positive, not {count} and {n}")
    require(not unique or count <= n, f"there are no {count} different ones among {n} classes")
    return count, n


def uniform_candidate_sampler(
    true_classes: Any, num_true: Any, num_sampled: Any, unique: bool, range_max: Any, seed: int | None = None,
    name: str | None = None,
) -> Sampled:  # fmt: skip
    """`num_sampled` of the classes 0 … range_max − 1, all equally likely; without repetition if `unique`.

    The results are the classes (int64), and how often those of `true_classes` [batch, num_true] and those drawn are
    expected in such a sample (float32).
    """
    count, n = _sizes(num_sampled, range_max, unique)
    chances = S.broadcast_to(convert(1.0 / n, float64), shape=(n,))
    return _sample(_classes(true_classes, num_true), chances, count, unique, seed)


def log_uniform_candidate_sampler(
    true_classes: Any, num_true: Any, num_sampled: Any, unique: bool, range_max: Any, seed: int | None = None,
    name: str | None = None,
) -> Sampled:  # fmt: skip
    """As `uniform_candidate_sampler`, with chances log((c + 2) / (c + 1)) / log(range_max + 1): for classes that are
    numbered from the most frequent to the rarest as words are.
    """
    count, n = _sizes(num_sampled, range_max, unique)
    c = E.cast(counter(n, dtype=int64), dtype=float64)
    chances = E.mul(E.log1p(E.reciprocal(E.add(c, 1.0))), 1.0 / math.log(n + 1))
    return _sample(_classes(true_classes, num_true), chances, count, unique, seed)


def fixed_unigram_candidate_sampler(
    true_classes: Any, num_true: Any, num_sampled: Any, unique: bool, range_max: Any, vocab_file: str = "",
    distortion: float = 1.0, num_reserved_ids: int = 0, num_shards: int = 1, shard: int = 0,
    unigrams: Sequence[float] = (), seed: int | None = None, name: str | None = None,
) -> Sampled:  # fmt: skip
    """As `uniform_candidate_sampler`, with chances in proportion to `unigrams` to the power of `distortion`.

    The first `num_reserved_ids` classes are never drawn; `unigrams` are those of the classes after them. Instead of
    them `vocab_file` may name a file of lines whose last value, behind a comma, is the number. Of several shards, this
    one draws classes of number `shard` modulo `num_shards` only.
    """
    count, n = _sizes(num_sampled, range_max, unique)
    if vocab_file:
        require(not unigrams, "unigrams are given, or read from vocab_file: not both")
        with open(vocab_file, encoding="utf-8") as lines:
            unigrams = [float(line.rsplit(",", 1)[-1]) for line in lines if line.strip()]
    weights = np.concatenate([np.zeros(num_reserved_ids), np.asarray(unigrams, float) ** distortion])
    require(len(weights) == n, f"{len(weights)} classes, reserved ones included, are not range_max = {n}")
    require(0 <= shard < num_shards, f"shard {shard} is not one of {num_shards}")
    weights[np.arange(n) % num_shards != shard] = 0.0
    require(bool(weights.sum() > 0 and weights.min() >= 0), "unigrams are not negative, and some are positive")
    require(not unique or count <= int(np.count_nonzero(weights)), f"there are no {count} different classes to draw")
    chances = convert(weights / weights.sum(), float64)
    return _sample(_classes(true_classes, num_true), chances, count, unique, seed)


def all_candidate_sampler(
    true_classes: Any, num_true: Any, num_sampled: Any, unique: bool, seed: int | None = None, name: str | None = None
) -> Sampled:
    """All classes 0 … num_sampled − 1, each expected once."""
    count, _ = _sizes(num_sampled, num_sampled, unique)
    t = _classes(true_classes, num_true)
    one = convert(1.0, float32)
    given, drawn = (S.broadcast_to(one, shape=s) for s in (tuple(t.shape), (count,)))
    return Sampled(counter(count, dtype=int64), given, drawn)


def compute_accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: Any, seed: int | None = None, name: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Where classes that were drawn are true ones: numbers of rows (int32) and of samples (int64), and what to add to
    the logits there that they do not count (float32).
    """
    hits = where(_hits(_classes(true_classes, num_true), operand(sampled_candidates)))
    rows, columns = E.cast(hits[:, 0], dtype=int32), E.cast(hits[:, 1], dtype=int64)
    return rows, columns, S.broadcast_to(convert(_HIDDEN, float32), shape=tuple(rows.shape))


def _hits(t: Operand, drawn: Operand) -> Tensor:
    """[batch, sampled]: whether each class that was drawn is a true one of the row."""
    same = E.equal(S.reshape(t, shape=(*t.shape, 1)), E.cast(drawn, dtype=int64))
    return reduce_any(same, 1)


# --- losses -----------------------------------------------------------------------------------------------------------
def _logits(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: Any, num_classes: Any, num_true: Any,
    sampled_values: Any, hide: bool, seed: int | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits of the true classes and of those drawn, from which log of how often they are expected is taken, and
    labels of the same shape: each true class counts for an equal share.
    """
    w = concat(list(weights), 0) if isinstance(weights, (list, tuple)) else operand(weights)
    x, b, t = floating(inputs), operand(biases), operand(labels)
    if t.ndim == 1:
        t = S.reshape(t, shape=(t.shape[0], 1))
    n = int(as_size(num_true, "num_true"))
    t = _classes(t, n)
    if sampled_values is None:
        sampled_values = log_uniform_candidate_sampler(t, n, num_sampled, True, num_classes, seed)
    drawn, expected_true, expected_drawn = (E.stop_gradient(operand(v)) for v in sampled_values)
    if w.ndim != 2 or x.ndim != 2 or not known_equal(w.shape[1], x.shape[1]):
        raise locate(ShapeError(f"weights {w.type} are [classes, width], inputs {x.type} [batch, width]"))
    if x.dtype.kind != "f":
        raise locate(DTypeError(f"inputs have dtype {x.dtype.name}; it takes floating types"))
    true = reduce_sum(E.mul(gather(w, t), S.reshape(x, shape=(x.shape[0], 1, x.shape[1]))), 2)
    true = E.add(true, gather(b, t))
    others = E.add(matmul(x, gather(w, drawn), transpose_b=True), gather(b, drawn))
    if hide:
        others = E.where(_hits(t, drawn), -3e4 if others.dtype.name == "float16" else -1e30, others)
    true = E.sub(true, E.log(E.cast(expected_true, dtype=true.dtype)))
    others = E.sub(others, E.log(E.cast(expected_drawn, dtype=others.dtype)))
    share = S.broadcast_to(convert(1.0 / n, true.dtype), shape=tuple(true.shape))
    none = S.broadcast_to(convert(0.0, others.dtype), shape=tuple(others.shape))
    return concat([true, others], 1), concat([share, none], 1)


def nce_loss(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: Any, num_classes: Any, num_true: Any = 1,
    sampled_values: Any = None, remove_accidental_hits: bool = False, name: str = "nce_loss",
) -> Tensor:  # fmt: skip
    """Noise-contrastive estimation (Gutmann and Hyvärinen 2010): is a class a true one, or one that was drawn?

    weights          [classes, width], or a list of parts of it; biases [classes]
    labels           [batch, num_true], integers; inputs [batch, width]
    sampled_values   what a sampler gave; `log_uniform_candidate_sampler` draws `num_sampled` different ones otherwise
    remove_accidental_hits   leave out what was drawn and is a true class
    result           [batch]
    """
    logits, targets = _logits(
        weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
        None,
    )  # fmt: skip
    return reduce_sum(sigmoid_cross_entropy_with_logits(labels=targets, logits=logits), 1)


def sampled_softmax_loss(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: Any, num_classes: Any, num_true: Any = 1,
    sampled_values: Any = None, remove_accidental_hits: bool = True, seed: int | None = None,
    name: str = "sampled_softmax_loss",
) -> Tensor:  # fmt: skip
    """The softmax cross-entropy over the true classes and a sample of the others (Jean et al. 2014).

    The arguments are those of `nce_loss`; `seed` is that of the sampler. The result has the shape [batch].
    """
    logits, targets = _logits(
        weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
        seed,
    )  # fmt: skip
    return softmax_cross_entropy_with_logits(labels=E.stop_gradient(targets), logits=logits)
